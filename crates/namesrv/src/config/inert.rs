//! Keys that a name server accepts and that change nothing here: thread pools, and what is not served yet (the
//! controller among them).

use stdx::config::Inert;
use stdx::config::Kind::{Bool, Integer, Text};

const fn row(key: &'static str, kind: stdx::config::Kind) -> Inert {
    Inert { key, kind }
}

/// Sorted by key.
#[rustfmt::skip]
pub const INERT: &[Inert] = &[
    row("channelNotActiveInterval", Integer), row("clientAsyncSemaphoreValue", Integer),
    row("clientCallbackExecutorThreads", Integer), row("clientChannelMaxIdleTimeSeconds", Integer),
    row("clientCloseSocketIfTimeout", Bool), row("clientOnewaySemaphoreValue", Integer),
    row("clientPooledByteBufAllocatorEnable", Bool), row("clientRequestThreadPoolNums", Integer),
    row("clientRequestThreadPoolQueueCapacity", Integer), row("clientSocketRcvBufSize", Integer),
    row("clientSocketSndBufSize", Integer), row("clientWorkerThreads", Integer), row("clusterTest", Bool),
    row("configBlackList", Text), row("connectTimeoutMillis", Integer), row("controllerDLegerGroup", Text),
    row("controllerDLegerPeers", Text), row("controllerDLegerSelfId", Text),
    row("controllerRequestThreadPoolQueueCapacity", Integer), row("controllerStorePath", Text),
    row("controllerThreadPoolNums", Integer), row("controllerType", Text), row("defaultThreadPoolNums", Integer),
    row("defaultThreadPoolQueueCapacity", Integer), row("disableCallbackExecutor", Bool),
    row("disableNettyWorkerGroup", Bool), row("electMasterMaxRetryCount", Integer), row("enableControllerInNamesrv", Bool),
    row("enableElectUncleanMaster", Bool), row("enableReconnectForGoAway", Bool), row("enableShutdownGracefully", Bool),
    row("isProcessReadEvent", Bool), row("isScanAvailableNameSrv", Bool), row("jRaftControllerRPCAddr", Text),
    row("jRaftElectionTimeoutMs", Integer), row("jRaftGroupId", Text), row("jRaftInitConf", Text),
    row("jRaftScanWaitTimeoutMs", Integer), row("jRaftServerId", Text), row("jRaftSnapshotIntervalSecs", Integer),
    row("mappedFileSize", Integer), row("maxReconnectIntervalTimeSeconds", Integer),
    row("metricGrpcExporterIntervalInMills", Integer), row("metricGrpcExporterTimeOutInMills", Integer),
    row("metricLoggingExporterIntervalInMills", Integer), row("metricsExporterType", Text),
    row("metricsGrpcExporterHeader", Text), row("metricsGrpcExporterTarget", Text), row("metricsInDelta", Bool),
    row("metricsLabel", Text), row("metricsPromExporterHost", Text), row("metricsPromExporterPort", Integer),
    row("notifyBrokerRoleChanged", Bool), row("notifyMinBrokerIdChanged", Bool), row("productEnvName", Text),
    row("scanInactiveMasterInterval", Integer), row("serverAsyncSemaphoreValue", Integer),
    row("serverCallbackExecutorThreads", Integer), row("serverNettyWorkerGroupEnable", Bool),
    row("serverOnewaySemaphoreValue", Integer), row("serverPooledByteBufAllocatorEnable", Bool),
    row("serverSelectorThreads", Integer), row("serverWorkerThreads", Integer), row("shutdownWaitTimeSeconds", Integer),
    row("socksProxyConfig", Text), row("unRegisterBrokerQueueCapacity", Integer), row("useEpollNativeSelector", Bool),
    row("useTLS", Bool), row("writeBufferHighWaterMark", Integer), row("writeBufferLowWaterMark", Integer),
];
