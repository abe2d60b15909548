//! The broker's configuration: one flat table for what Java spreads over BrokerConfig, MessageStoreConfig,
//! NettyServerConfig and NettyClientConfig.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use protocol::names::{NAMESRV_PORT, with_port};
use protocol::networks::Networks;
use protocol::pop::RequestMode;
use replication::ha::{Pace, Timing};
use replication::replicas::Demand;
use stdx::config::{Source, Table, Value};
use store::index::Shape;
use store::{Options, Policy};

/// Defines a setting whose values are words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $expected:literal, $($variant:ident = $word:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
        pub enum $name {
            $($variant,)*
        }

        impl Value for $name {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> {
                [$(($word, Self::$variant)),*].into_iter().find(|(word, _)| *word == text).map(|(_, value)| value)
            }
            fn text(&self) -> String {
                match self { $(Self::$variant => $word,)* }.to_owned()
            }
        }
    };
}

words! {
    /// Whether and how a broker copies.
    BrokerRole: "ASYNC_MASTER, SYNC_MASTER or SLAVE",
    AsyncMaster = "ASYNC_MASTER",
    SyncMaster = "SYNC_MASTER",
    Slave = "SLAVE",
}

words! {
    /// When a send is answered.
    FlushDiskType: "ASYNC_FLUSH or SYNC_FLUSH",
    AsyncFlush = "ASYNC_FLUSH",
    SyncFlush = "SYNC_FLUSH",
}

/// How a group gets its messages, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct GroupsGetBy(pub RequestMode);

impl Value for GroupsGetBy {
    const EXPECTED: &'static str = "PULL or POP";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "PULL" => Some(Self(RequestMode::Pull)),
            "POP" => Some(Self(RequestMode::Pop)),
            _ => None,
        }
    }
    fn text(&self) -> String {
        self.0.name().to_owned()
    }
}

/// Spellings of 3.x and 4.x.
const ALIASES: &[(&str, &str)] = &[
    ("mapedFileSizeCommitLog", "mappedFileSizeCommitLog"),
    ("mapedFileSizeConsumeQueue", "mappedFileSizeConsumeQueue"),
    ("haSlaveFallbehindMax", "haMaxGapNotInSync"),
];

/// Bytes of log that may be read before a broker is open: a second or two.
const SCAN_AT_OPEN: u64 = 2 << 30;

const PORTS: std::ops::RangeInclusive<i32> = 1..=65535;
/// The VIP port is this far below `listenPort`.
const VIP_PORT_BELOW: i32 = 2;

stdx::config! {
    /// A broker's settings.
    pub struct BrokerConfig;
    inert [include_str!("config/inert.txt"), stdx::config::SHARED_INERT];
    aliases ALIASES;

    /// Cluster that this broker belongs to.
    Restart broker_cluster_name: String = "brokerClusterName", "DefaultCluster".into();
    /// Name that a master and its slaves share; the host's name where it is not set.
    Restart broker_name: String = "brokerName", String::new();
    /// 0 is the master, slaves are above.
    Restart broker_id: i64 = "brokerId", 0, in -1..;
    /// Address that clients are given; this machine's where it is not set.
    Restart broker_ip1: String = "brokerIP1", String::new();
    /// Addresses for clients of certain networks, as `10.0.0.0/8=10.0.0.5:10911;192.168.0.0/16=192.168.1.5:10623`: the first
    /// network that a client is in counts, and clients of none get `brokerIP1`. Java's name servers give all `brokerIP1`.
    Live advertised_addresses: Networks = "advertisedAddresses", Networks::default();
    /// Address that slaves are given; `brokerIP1` where it is not set.
    Restart broker_ip2: String = "brokerIP2", String::new();
    /// Name servers as `host:port`, separated by `;`; `-n` counts more, `NAMESRV_ADDR` less.
    Live namesrv_addr: String = "namesrvAddr", String::new();
    /// Port for clients; two below it is the VIP port.
    Restart listen_port: i32 = "listenPort", 10911, in PORTS;
    /// Port for slaves; 0 is the port above `listenPort`.
    Restart ha_listen_port: i32 = "haListenPort", 0, in 0..=65535;
    /// Address to listen on.
    Restart bind_address: String = "bindAddress", "0.0.0.0".into();
    /// Directory of the installation.
    Restart rocketmq_home: String = "rocketmqHome", String::new();
    /// Whether this broker is copied, waits for its copies, or is one.
    Restart broker_role: BrokerRole = "brokerRole", BrokerRole::AsyncMaster;
    /// Address of the master's HA port as `host:port`; the name servers' word where it is not set.
    Live ha_master_address: String = "haMasterAddress", String::new();
    /// ms after which an end of an HA connection that has nothing to send sends a sign of life.
    Live ha_send_heartbeat_interval: i32 = "haSendHeartbeatInterval", 5000, in 1..;
    /// ms after which a silent HA connection is closed.
    Live ha_housekeeping_interval: i32 = "haHousekeepingInterval", 20_000, in 1..;
    /// Bytes of commit log that a slave is sent in one frame; Java's slaves take up to 4194292.
    Live ha_transfer_batch_size: i32 = "haTransferBatchSize", 32 * 1024, in 1..=4_194_292;
    /// Whether slaves are sent no more than `maxHaTransferByteInSecond`.
    Live ha_flow_control_enable: bool = "haFlowControlEnable", false;
    /// Bytes that each slave is sent in a second with `haFlowControlEnable`.
    Live max_ha_transfer_byte_in_second: i64 = "maxHaTransferByteInSecond", 100 * 1024 * 1024, in 1..;
    /// Bytes that a slave may be behind for a SYNC_MASTER to wait for it; else sends are answered SLAVE_NOT_AVAILABLE.
    Live ha_max_gap_not_in_sync: i32 = "haMaxGapNotInSync", 256 * 1024 * 1024, in 1..;
    /// ms that a send waits for a slave with SYNC_MASTER before it is answered FLUSH_SLAVE_TIMEOUT.
    Live slave_timeout: i32 = "slaveTimeout", 3000, in 1..;
    /// Copies that a send waits for with SYNC_MASTER, the master's own counted; one slave's where it is not set, as in 4.x.
    Restart in_sync_replicas: i32 = "inSyncReplicas", 1, in 1..=16;
    /// Whether a slave without a commit log copies the master's newest file alone, and not all that the master has.
    Live sync_from_last_file: bool = "syncFromLastFile", false;
    /// Whether a slave tells consumers of offsets that it does not have; else they wait until it has them.
    Live offset_check_in_slave: bool = "offsetCheckInSlave", false;
    /// 6: clients may read and write; 4: only read; 2: only write.
    Live broker_permission: i32 = "brokerPermission", 6, in 0..=7;
    /// Region that answers to sends name, for message traces.
    Live region_id: String = "regionId", "DefaultRegion".into();
    /// Whether clients write message traces.
    Live trace_on: bool = "traceOn", true;

    /// Directory of all data; `store` in the user's home where it is not set.
    Restart store_path_root_dir: String = "storePathRootDir", String::new();
    /// Directory of the commit log; `commitlog` below the data's where it is not set.
    Restart store_path_commit_log: String = "storePathCommitLog", String::new();
    /// Bytes of a commit log file.
    Restart mapped_file_size_commit_log: i64 = "mappedFileSizeCommitLog", 1024 * 1024 * 1024, in 4096..=i64::from(i32::MAX);
    /// Bytes of a consume queue file; rounded up to whole entries of 20 bytes.
    Restart mapped_file_size_consume_queue: i64 = "mappedFileSizeConsumeQueue", 6_000_000, in 20..=i64::from(i32::MAX);
    /// SYNC_FLUSH answers a send when the disk has it, ASYNC_FLUSH when it is written.
    Restart flush_disk_type: FlushDiskType = "flushDiskType", FlushDiskType::AsyncFlush;
    /// ms between two flushes of the commit log with ASYNC_FLUSH.
    Live flush_interval_commit_log: i32 = "flushIntervalCommitLog", 500, in 1..;
    /// ms that a send waits for the disk with SYNC_FLUSH before it is answered FLUSH_DISK_TIMEOUT.
    Live sync_flush_timeout: i32 = "syncFlushTimeout", 5000, in 1..;
    /// ms between two writes of consumer offsets.
    Live flush_consumer_offset_interval: i32 = "flushConsumerOffsetInterval", 5000, in 1..;
    /// Bytes of a message's body at the most.
    Live max_message_size: i32 = "maxMessageSize", 4 * 1024 * 1024, in 1..;
    /// Bytes that one pull gets at the most of recent messages.
    Live max_transfer_bytes_on_message_in_memory: i32 = "maxTransferBytesOnMessageInMemory", 256 * 1024, in 1..;
    /// Recent messages that one pull gets at the most.
    Live max_transfer_count_on_message_in_memory: i32 = "maxTransferCountOnMessageInMemory", 32, in 1..;
    /// Bytes that one pull gets at the most of old messages.
    Live max_transfer_bytes_on_message_in_disk: i32 = "maxTransferBytesOnMessageInDisk", 64 * 1024, in 1..;
    /// Old messages that one pull gets at the most.
    Live max_transfer_count_on_message_in_disk: i32 = "maxTransferCountOnMessageInDisk", 8, in 1..;
    /// Percent of the machine's memory by which a message may be behind the newest and count as recent.
    Live access_message_in_memory_max_ratio: i32 = "accessMessageInMemoryMaxRatio", 40, in 1..=100;
    /// Bytes of queue entries that one pull may pass over because their tags do not match.
    Live max_filter_message_size: i32 = "maxFilterMessageSize", 16000, in 20..;

    /// Hours of the day at which old files are deleted, as `04` or `04;16`.
    Live delete_when: String = "deleteWhen", "04".into();
    /// Hours that messages are kept before their file may be deleted.
    Live file_reserved_time: i32 = "fileReservedTime", 72, in 0..;
    /// Percent of the disk in use from which old files are deleted at any hour; taken as 10 to 95.
    Live disk_max_used_space_ratio: i32 = "diskMaxUsedSpaceRatio", 75, in 0..=100;
    /// Percent of the disk in use from which files are deleted whatever their age; taken as 30 to 85.
    Live disk_space_clean_forcibly_ratio: i32 = "diskSpaceCleanForciblyRatio", 85, in 0..=100;
    /// Percent of the disk in use from which messages are refused; taken as 35 to 90.
    Live disk_space_warning_level_ratio: i32 = "diskSpaceWarningLevelRatio", 90, in 0..=100;
    /// Whether files may be deleted before their time when the disk is too full.
    Live clean_file_forcibly_enable: bool = "cleanFileForciblyEnable", true;
    /// ms between two looks for files to delete.
    Live clean_resource_interval: i32 = "cleanResourceInterval", 10_000, in 1..;
    /// ms between the deletions of two commit log files.
    Live delete_commit_log_files_interval: i32 = "deleteCommitLogFilesInterval", 100, in 0..;
    /// Whether messages can be found by key.
    Restart message_index_enable: bool = "messageIndexEnable", true;
    /// Hash slots of a key index file.
    Restart max_hash_slot_num: i32 = "maxHashSlotNum", 5_000_000, in 1..=500_000_000;
    /// Keys in an index file.
    Restart max_index_num: i32 = "maxIndexNum", 20_000_000, in 2..=100_000_000;
    /// Messages that a query by key gives at the most.
    Live max_msgs_num_batch: i32 = "maxMsgsNumBatch", 64, in 1..;
    /// Messages that a query by unique key looks at.
    Live default_query_max_num: i32 = "defaultQueryMaxNum", 32, in 1..;

    /// Whether a send to an unknown topic makes it.
    Live auto_create_topic_enable: bool = "autoCreateTopicEnable", true;
    /// Whether a consumer group exists as soon as it is used.
    Live auto_create_subscription_group: bool = "autoCreateSubscriptionGroup", true;
    /// Queues of a topic that a send makes; clients ask for 4 at the most.
    Restart default_topic_queue_nums: i32 = "defaultTopicQueueNums", 8, in 1..=65535;
    /// Whether the topic named like the cluster can be used.
    Restart cluster_topic_enable: bool = "clusterTopicEnable", true;
    /// Whether the topic named like the broker can be used.
    Restart broker_topic_enable: bool = "brokerTopicEnable", true;
    /// Whether the topic for message traces is made here.
    Restart trace_topic_enable: bool = "traceTopicEnable", false;
    /// Name of the topic for message traces.
    Restart msg_trace_topic_name: String = "msgTraceTopicName", "RMQ_SYS_TRACE_TOPIC".into();
    /// Whether the names of system topics are refused when a topic is changed.
    Live validate_system_topic_when_update_topic: bool = "validateSystemTopicWhenUpdateTopic", true;
    /// Queues of the topic that holds what is popped and not acknowledged.
    Restart revive_queue_num: i32 = "reviveQueueNum", 8, in 1..=65535;
    /// The delays of levels 1, 2, ... in s, m, h or d.
    Restart message_delay_level: String = "messageDelayLevel", "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into();

    /// Whether timer messages are taken and delivered.
    Restart timer_wheel_enable: bool = "timerWheelEnable", true;
    /// Seconds that a timer message may ask to wait at the most.
    Live timer_max_delay_sec: i32 = "timerMaxDelaySec", 259_200, in 0..;
    /// Seconds after which a waiting timer message is written anew, so that its file can be deleted; two thirds of
    /// `fileReservedTime` where that is less.
    Live timer_roll_window_slot: i32 = "timerRollWindowSlot", 172_800, in 2..;
    /// Bytes of a file of the timer log that a clean stop leaves for Java's broker.
    Restart mapped_file_size_timer_log: i32 = "mappedFileSizeTimerLog", 100 * 1024 * 1024, in 4096..;
    /// ms between two confirmations by the disk of how far timer messages are delivered.
    Live timer_flush_interval_ms: i32 = "timerFlushIntervalMs", 1000, in 1..;
    /// Whether new timer messages are left where they are.
    Live timer_stop_enqueue: bool = "timerStopEnqueue", false;
    /// Whether timer messages that are due are held back.
    Live timer_stop_dequeue: bool = "timerStopDequeue", false;
    /// Whether a waiting timer message can be recalled.
    Live recall_message_enable: bool = "recallMessageEnable", false;
    /// Whether that is so where `brokerPermission` lets nobody write.
    Live allow_recall_when_broker_not_writeable: bool = "allowRecallWhenBrokerNotWriteable", true;
    /// Whether messages that cancel others name their topic before the key, as Java before 5.4 needs it.
    Live append_topic_for_timer_delete_key: bool = "appendTopicForTimerDeleteKey", false;

    /// ms after which the producers of a half message are asked about it.
    Live transaction_time_out: i64 = "transactionTimeOut", 6000, in 0..;
    /// Times that the producers of a half message are asked before it goes to TRANS_CHECK_MAX_TIME_TOPIC.
    Live transaction_check_max: i32 = "transactionCheckMax", 15, in 0..;
    /// ms between two rounds in which producers are asked about half messages.
    Live transaction_check_interval: i64 = "transactionCheckInterval", 30_000, in 1..;
    /// Whether half messages are refused.
    Live reject_transaction_message: bool = "rejectTransactionMessage", false;

    /// Whether replies to request messages are also stored, in the topic named `<cluster>_REPLY_TOPIC`.
    Live store_reply_message_enable: bool = "storeReplyMessageEnable", true;
    /// Whether a group whose members let the broker give them queues pulls or pops, where nobody has set it.
    Live default_message_request_mode: GroupsGetBy = "defaultMessageRequestMode", GroupsGetBy(RequestMode::Pull);
    /// How many members beside its own one may pop a queue, where nobody has set it; 0 and less: all.
    Live default_pop_share_queue_num: i32 = "defaultPopShareQueueNum", -1;
    /// Whether members that ask the broker for queues get a share of them, not all.
    Live server_load_balancer_enable: bool = "serverLoadBalancerEnable", true;
    /// Whether a topic's messages that were popped and not acknowledged come back through `%RETRY%group+topic`, not
    /// `%RETRY%group_topic`.
    Live enable_retry_topic_v2: bool = "enableRetryTopicV2", false;
    /// With `enableRetryTopicV2`: whether messages come from the other retry topic, too.
    Live retrieve_message_from_pop_retry_topic_v1: bool = "retrieveMessageFromPopRetryTopicV1", true;
    /// Of 100 pops so many look first for messages that come back; the others do where they have room for more.
    Live pop_from_retry_probability: i32 = "popFromRetryProbability", 20, in 0..=100;
    /// Whether a message that comes back names its retry topic to the consumer.
    Live pop_response_return_actual_retry_topic: bool = "popResponseReturnActualRetryTopic", false;
    /// Whether a group that is new and wants the newest messages gets all of a small queue.
    Live init_pop_offset_by_check_msg_in_mem: bool = "initPopOffsetByCheckMsgInMem", true;
    /// Pops of a group that may wait for one queue of a topic, or for all of them.
    Live pop_polling_size: i32 = "popPollingSize", 1024, in 0..;
    /// Pops that may wait in all.
    Live max_pop_polling_size: i64 = "maxPopPollingSize", 100_000, in 0..=1_000_000;

    /// Whether consumers may filter by properties with SQL92 expressions.
    Live enable_property_filter: bool = "enablePropertyFilter", false;
    /// Whether a pull that finds nothing waits for a message as long as its client asks.
    Live long_polling_enable: bool = "longPollingEnable", true;
    /// ms that a pull which finds nothing waits without `longPollingEnable`.
    Live short_polling_time_mills: i64 = "shortPollingTimeMills", 1000, in 0..=60_000;
    /// Whether pull consumers are no members of their groups, and who pulls without being one is refused.
    Live reject_pull_consumer_enable: bool = "rejectPullConsumerEnable", false;
    /// ms that an ordered consumer keeps a queue's lock without renewing it.
    Live rebalance_lock_max_live_time: i64 = "rocketmq.broker.rebalance.lockMaxLiveTime", 60_000, in 1..;
    /// Whether the broker itself moves the offsets of a group that is reset; else its consumers are told to.
    Live use_server_side_reset_offset: bool = "useServerSideResetOffset", true;
    /// Whether members of a group are told at once when one joins or leaves.
    Live notify_consumer_ids_changed_enable: bool = "notifyConsumerIdsChangedEnable", true;
    /// Whether consumers are told to read from a slave.
    Live slave_read_enable: bool = "slaveReadEnable", false;
    /// ms between two registrations with the name servers; between 10 and 60 seconds.
    Live register_name_server_period: i32 = "registerNameServerPeriod", 30_000, in 1..;
    /// ms that a registration may take.
    Live register_broker_timeout_mills: i32 = "registerBrokerTimeoutMills", 24_000, in 1..;
    /// Seconds after which a silent connection is closed.
    Restart server_channel_max_idle_time_seconds: i32 = "serverChannelMaxIdleTimeSeconds", 120, in 1..;
    /// Connections that may wait to be accepted.
    Restart server_socket_backlog: i32 = "serverSocketBacklog", 1024, in 1..=65535;
    /// Bytes of a socket's send buffer; 0 leaves it to the system.
    Restart server_socket_snd_buf_size: i32 = "serverSocketSndBufSize", 0, in 0..;
    /// Bytes of a socket's receive buffer; 0 leaves it to the system.
    Restart server_socket_rcv_buf_size: i32 = "serverSocketRcvBufSize", 0, in 0..;

    /// Sends that may wait for their turn at the log or for the disk; more are refused with SYSTEM_BUSY.
    Live send_thread_pool_queue_capacity: i32 = "sendThreadPoolQueueCapacity", 10_000, in 1..;
    /// Pulls that may wait for messages; more are refused with SYSTEM_BUSY.
    Live pull_thread_pool_queue_capacity: i32 = "pullThreadPoolQueueCapacity", 100_000, in 1..;
    /// ms that a send waits for its turn at the log before it is refused with SYSTEM_BUSY.
    Live wait_time_mills_in_send_queue: i64 = "waitTimeMillsInSendQueue", 200, in 0..;
    /// ms that a write to the log may take before sends are refused with SYSTEM_BUSY until it is done.
    Live os_page_cache_busy_time_out_mills: i64 = "osPageCacheBusyTimeOutMills", 1000, in 0..;
    /// Whether sends are refused that wait too long for their turn at the log.
    Live broker_fast_failure_enable: bool = "brokerFastFailureEnable", true;
    /// Shown by `brokerStatus`; Ferrocket has no such queue.
    Live query_thread_pool_queue_capacity: i32 = "queryThreadPoolQueueCapacity", 20_000;
    /// Shown by `brokerStatus`; Ferrocket has no such pool.
    Live transient_store_pool_size: i32 = "transientStorePoolSize", 5;
    /// Shown by `brokerStatus`.
    Live start_accept_send_request_time_stamp: i64 = "startAcceptSendRequestTimeStamp", 0;

    /// Asks for a DLedger (Raft) group, which is not served yet: the broker refuses to start.
    Restart enable_dleger_commit_log: bool = "enableDLegerCommitLog", false;
    /// Asks for a controller, which is not served yet: the broker refuses to start.
    Restart enable_controller_mode: bool = "enableControllerMode", false;
}

/// Why settings do not fit together, with the code that Java's broker exits with: -3 for brokerId and namesrvAddr, -4
/// for modes, -1 for what it finds when it starts to listen.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Misfit {
    pub exit_code: i32,
    pub message: String,
}

impl BrokerConfig {
    /// Fills in what follows from other settings, and refuses what does not fit together. Returns notes for the user.
    pub fn resolve(&mut self, user_home: &Path, host_name: &str, address: &str) -> Result<Vec<String>, Misfit> {
        self.check_modes()?;
        let mut notes = self.unprotected();
        notes.extend(self.few_peers());
        notes.extend(self.settle_broker_id()?);
        let mut derive = |field: &mut String, key: &'static str, value: String| {
            if field.is_empty() {
                *field = value;
                self.extra.sources.insert(key, Source::Derived);
            }
        };
        derive(&mut self.broker_name, "brokerName", host_name.to_owned());
        derive(&mut self.broker_ip1, "brokerIP1", address.to_owned());
        derive(&mut self.broker_ip2, "brokerIP2", self.broker_ip1.clone());
        derive(&mut self.store_path_root_dir, "storePathRootDir", user_home.join("store").display().to_string());
        let commit_log = Path::new(&self.store_path_root_dir).join("commitlog").display().to_string();
        derive(&mut self.store_path_commit_log, "storePathCommitLog", commit_log);
        if self.store_path_commit_log.contains(',') {
            let message = "storePathCommitLog: several directories are not supported yet; name one";
            return Err(Misfit { exit_code: -1, message: message.into() });
        }
        self.settle_ports()?;
        notes.extend(self.settle_queue_file_size());
        let (addresses, said) = name_servers(&self.namesrv_addr)?;
        self.namesrv_addr = addresses.join(";");
        notes.extend(said);
        Ok(notes)
    }

    fn settle_broker_id(&mut self) -> Result<Option<String>, Misfit> {
        if self.broker_role == BrokerRole::Slave {
            let message = "Slave's brokerId must be > 0".into();
            return if self.broker_id > 0 { Ok(None) } else { Err(Misfit { exit_code: -3, message }) };
        }
        if self.broker_id == 0 {
            return Ok(None);
        }
        let (id, role) = (self.broker_id, self.broker_role.text());
        self.broker_id = 0;
        self.extra.sources.insert("brokerId", Source::Derived);
        Ok(Some(format!("brokerId={id} is ignored: a broker with brokerRole={role} has brokerId 0")))
    }

    fn settle_ports(&mut self) -> Result<(), Misfit> {
        if self.ha_listen_port == 0 {
            self.ha_listen_port = self.listen_port + 1;
            self.extra.sources.insert("haListenPort", Source::Derived);
        }
        let vip = self.listen_port - VIP_PORT_BELOW;
        for (port, what) in [(vip, "the VIP port, two below it,"), (self.ha_listen_port, "haListenPort, one above it,")] {
            if !PORTS.contains(&port) {
                let message = format!("listenPort={}: {what} would be {port}; choose one between 3 and 65534", self.listen_port);
                return Err(Misfit { exit_code: -1, message });
            }
        }
        Ok(())
    }

    /// Queue files hold whole entries.
    fn settle_queue_file_size(&mut self) -> Option<String> {
        let (size, entry) = (self.mapped_file_size_consume_queue, store::queue::ENTRY_LENGTH as i64);
        self.mapped_file_size_consume_queue = (size + entry - 1) / entry * entry;
        let rounded = self.mapped_file_size_consume_queue;
        (rounded != size)
            .then(|| format!("mappedFileSizeConsumeQueue={size} is rounded up to {rounded}, whole entries of {entry} bytes"))
    }

    /// Settings that ask for protection which is not there: whoever made them has to know.
    fn unprotected(&self) -> Vec<String> {
        let wanted = |key: &str| self.extra.inert.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        ["aclEnable", "authenticationEnabled", "authorizationEnabled"]
            .into_iter()
            .filter(|key| wanted(key))
            .map(|key| format!("{key}=true: access control is not supported yet: whoever reaches this broker may do all"))
            .collect()
    }

    /// What is wrong with a DLedger group that can't lose a member.
    fn few_peers(&self) -> Option<String> {
        let peers = self.extra.inert.get("dLegerPeers").map(|peers| listed(peers).count())?;
        (peers < 3).then(|| {
            format!("dLegerPeers names {peers}, and a group of less than 3 peers stops when one of them does: name a third peer")
        })
    }

    fn check_modes(&self) -> Result<(), Misfit> {
        let message = match (self.enable_dleger_commit_log, self.enable_controller_mode) {
            (true, true) => "enableDLegerCommitLog and enableControllerMode exclude each other: set one of them to false",
            (true, false) => {
                "enableDLegerCommitLog=true: DLedger (Raft) groups are not supported yet; without it this broker would run \
                 alone and keep one copy of each message"
            }
            (false, true) => {
                "enableControllerMode=true: the controller is not supported yet; set it to false and brokerRole to what \
                 this broker is"
            }
            (false, false) => return Ok(()),
        };
        let few = self.few_peers().map(|few| format!(". {few}")).unwrap_or_default();
        Err(Misfit { exit_code: -4, message: format!("{message}{few}") })
    }

    /// How the store is opened.
    pub fn store_options(&self, delays: Vec<i64>) -> Options {
        Options {
            root: PathBuf::from(&self.store_path_root_dir),
            commit_log: PathBuf::from(&self.store_path_commit_log),
            segment_length: self.mapped_file_size_commit_log as u64,
            queue_file_length: self.mapped_file_size_consume_queue as u64,
            index: self
                .message_index_enable
                .then_some(Shape { slots: self.max_hash_slot_num as u32, entries: self.max_index_num as u32 }),
            delays,
            scan_at_open: SCAN_AT_OPEN,
            disk: store::disk::Disk::default(),
            policy: match self.flush_disk_type {
                FlushDiskType::SyncFlush => Policy::Persisted,
                FlushDiskType::AsyncFlush => Policy::Written,
            },
        }
    }

    /// How many slaves a send waits for; `None` where for none.
    pub fn demand(&self) -> Option<Demand> {
        match self.extra.sources.contains_key("inSyncReplicas") {
            _ if self.broker_role != BrokerRole::SyncMaster => None,
            true => Some(Demand::Copies(self.in_sync_replicas as usize)),
            false => Some(Demand::OneWithin(self.ha_max_gap_not_in_sync as u64)),
        }
    }

    /// When the ends of an HA connection are to be heard of.
    pub fn ha_timing(&self) -> Timing {
        Timing { heartbeat: i64::from(self.ha_send_heartbeat_interval), expiry: i64::from(self.ha_housekeeping_interval) }
    }

    /// How much slaves are sent at a time.
    pub fn ha_pace(&self) -> Pace {
        let limit = self.ha_flow_control_enable.then_some(self.max_ha_transfer_byte_in_second as u64);
        Pace { frame: self.ha_transfer_batch_size as usize, bytes_a_second: limit }
    }

    /// The address that clients are given.
    pub fn address(&self) -> String {
        with_port(&self.broker_ip1, self.listen_port as u16)
    }

    /// The address that slaves are given.
    pub fn ha_address(&self) -> String {
        with_port(&self.broker_ip2, self.ha_listen_port as u16)
    }

    /// The name servers' addresses.
    pub fn name_servers(&self) -> Vec<String> {
        listed(&self.namesrv_addr).map(|address| with_port(address, NAMESRV_PORT)).collect()
    }

    /// All settings as text, for tools.
    pub fn text(&self) -> String {
        self.pairs().into_iter().map(|(key, value, _)| format!("{key}={value}\n")).collect()
    }
}

fn listed(addresses: &str) -> impl Iterator<Item = &str> {
    addresses.split(';').map(str::trim).filter(|address| !address.is_empty())
}

/// Reads a list of name servers; one without a port has 9876, which is said.
pub fn name_servers(list: &str) -> Result<(Vec<String>, Vec<String>), Misfit> {
    let (mut addresses, mut notes) = (Vec::new(), Vec::new());
    for address in listed(list) {
        let whole = with_port(address, NAMESRV_PORT);
        let parts = whole.rsplit_once(':');
        if !parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)) {
            let message = format!(
                "namesrvAddr: {address:?} is no address; expected host:port, several separated by ;, as in \
                 10.0.0.1:9876;10.0.0.2:9876"
            );
            return Err(Misfit { exit_code: -3, message });
        }
        if whole != address {
            notes.push(format!("name server {address} has no port: {NAMESRV_PORT} is taken"));
        }
        addresses.push(whole);
    }
    Ok((addresses, notes))
}
