//! Keys of RocketMQ 4.1 to 5.4 that a name server accepts and that change nothing here, each group for its reason.

use stdx::config::{InertGroup, flag, int, text};

/// Names and defaults are those of Java's configuration classes at 5.4.0, or at the last version that had the key.
#[rustfmt::skip]
pub const INERT: &[InertGroup] = &[
    InertGroup {
        why: "Ferrocket has no thread pools and no queues in front of them",
        keys: &[
            int("clientCallbackExecutorThreads", ""), int("clientRequestThreadPoolNums", "8"),
            int("clientRequestThreadPoolQueueCapacity", "50000"), int("clientWorkerThreads", "4"),
            int("controllerRequestThreadPoolQueueCapacity", "50000"), int("controllerThreadPoolNums", "16"),
            int("defaultThreadPoolNums", "16"), int("defaultThreadPoolQueueCapacity", "10000"),
            int("serverCallbackExecutorThreads", "0"), int("serverSelectorThreads", "3"), int("serverWorkerThreads", "8"),
            int("unRegisterBrokerQueueCapacity", "3000"),
        ],
    },
    InertGroup {
        why: "the network is not Netty's",
        keys: &[
            int("channelNotActiveInterval", "60000"), int("clientAsyncSemaphoreValue", "65535"),
            int("clientChannelMaxIdleTimeSeconds", "120"), flag("clientCloseSocketIfTimeout", "true"),
            int("clientOnewaySemaphoreValue", "65535"), flag("clientPooledByteBufAllocatorEnable", "false"),
            int("clientSocketRcvBufSize", "0"), int("clientSocketSndBufSize", "0"), int("connectTimeoutMillis", "3000"),
            flag("disableCallbackExecutor", "false"), flag("disableNettyWorkerGroup", "false"),
            flag("enableReconnectForGoAway", "true"), flag("enableShutdownGracefully", "false"),
            flag("enableTransparentRetry", "true"), flag("isScanAvailableNameSrv", "true"),
            int("maxReconnectIntervalTimeSeconds", "60"), flag("scanAvailableNameSrv", "true"),
            int("serverAsyncSemaphoreValue", "64"), flag("serverNettyWorkerGroupEnable", "true"),
            int("serverOnewaySemaphoreValue", "256"), flag("serverPooledByteBufAllocatorEnable", "true"),
            int("shutdownWaitTimeSeconds", "30"), text("socksProxyConfig", "{}"), flag("useEpollNativeSelector", "false"),
            int("writeBufferHighWaterMark", "0"), int("writeBufferLowWaterMark", "0"),
        ],
    },
    InertGroup {
        why: "connections are not encrypted yet",
        keys: &[
            flag("useTLS", "false"),
        ],
    },
    InertGroup {
        why: "the controller is not supported yet",
        keys: &[
            text("controllerDLegerGroup", ""), text("controllerDLegerPeers", ""), text("controllerDLegerSelfId", ""),
            text("controllerStorePath", ""), text("controllerType", "DLedger"), int("electMasterMaxRetryCount", "3"),
            flag("enableControllerInNamesrv", "false"), flag("enableElectUncleanMaster", "false"),
            flag("isProcessReadEvent", "false"),
            text("jRaftControllerRPCAddr", "localhost:9770,localhost:9771,localhost:9772"),
            int("jRaftElectionTimeoutMs", "1000"), text("jRaftGroupId", "jRaft-Controller"),
            text("jRaftInitConf", "localhost:9880,localhost:9881,localhost:9882"), int("jRaftScanWaitTimeoutMs", "1000"),
            text("jRaftServerId", "localhost:9880"), int("jRaftSnapshotIntervalSecs", "3600"),
            int("mappedFileSize", "1073741824"), flag("notifyBrokerRoleChanged", "true"), flag("processReadEvent", "false"),
            int("scanInactiveMasterInterval", "5000"),
        ],
    },
    InertGroup {
        why: "metrics are not exported yet",
        keys: &[
            int("metricGrpcExporterIntervalInMills", "60000"), int("metricGrpcExporterTimeOutInMills", "3000"),
            int("metricLoggingExporterIntervalInMills", "10000"), text("metricsExporterType", "DISABLE"),
            text("metricsGrpcExporterHeader", ""), text("metricsGrpcExporterTarget", ""), flag("metricsInDelta", "false"),
            text("metricsLabel", ""), text("metricsPromExporterHost", ""), int("metricsPromExporterPort", "5557"),
        ],
    },
    InertGroup {
        why: "the keys that can't be changed while running are fixed",
        keys: &[
            text("configBlackList", "configBlackList;configStorePath;kvConfigPath"),
        ],
    },
    InertGroup {
        why: "this can't be changed in Ferrocket",
        keys: &[
            flag("clusterTest", "false"), flag("notifyMinBrokerIdChanged", "false"), text("productEnvName", "center"),
        ],
    },
];
