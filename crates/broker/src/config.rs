//! The broker's configuration: one flat table for what Java spreads over BrokerConfig, MessageStoreConfig,
//! NettyServerConfig and NettyClientConfig.

mod inert;

use std::path::{Path, PathBuf};

use stdx::config::{Source, Table, Value};
use store::{Options, Policy};

/// Whether and how a broker copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum BrokerRole {
    AsyncMaster,
    SyncMaster,
    Slave,
}

impl Value for BrokerRole {
    const EXPECTED: &'static str = "ASYNC_MASTER, SYNC_MASTER or SLAVE";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ASYNC_MASTER" => Some(Self::AsyncMaster),
            "SYNC_MASTER" => Some(Self::SyncMaster),
            "SLAVE" => Some(Self::Slave),
            _ => None,
        }
    }
    fn text(&self) -> String {
        match self {
            Self::AsyncMaster => "ASYNC_MASTER",
            Self::SyncMaster => "SYNC_MASTER",
            Self::Slave => "SLAVE",
        }
        .to_owned()
    }
}

/// When a send is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum FlushDiskType {
    AsyncFlush,
    SyncFlush,
}

impl Value for FlushDiskType {
    const EXPECTED: &'static str = "ASYNC_FLUSH or SYNC_FLUSH";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ASYNC_FLUSH" => Some(Self::AsyncFlush),
            "SYNC_FLUSH" => Some(Self::SyncFlush),
            _ => None,
        }
    }
    fn text(&self) -> String {
        match self {
            Self::AsyncFlush => "ASYNC_FLUSH",
            Self::SyncFlush => "SYNC_FLUSH",
        }
        .to_owned()
    }
}

/// Spellings of 3.x and 4.x.
const ALIASES: &[(&str, &str)] = &[
    ("mapedFileSizeCommitLog", "mappedFileSizeCommitLog"),
    ("mapedFileSizeConsumeQueue", "mappedFileSizeConsumeQueue"),
    ("haSlaveFallbehindMax", "haMaxGapNotInSync"),
];

const PORTS: std::ops::RangeInclusive<i32> = 1..=65535;

stdx::config! {
    /// A broker's settings.
    pub struct BrokerConfig;
    inert inert::INERT;
    aliases ALIASES;

    /// Cluster that this broker belongs to.
    Restart broker_cluster_name: String = "brokerClusterName", "DefaultCluster".into();
    /// Name that a master and its slaves share; the host's name where it is not set.
    Restart broker_name: String = "brokerName", String::new();
    /// 0 is the master, slaves are above.
    Restart broker_id: i64 = "brokerId", 0, in -1..;
    /// Address that clients are given.
    Restart broker_ip1: String = "brokerIP1", String::new();
    /// Address that slaves are given.
    Restart broker_ip2: String = "brokerIP2", String::new();
    /// Name servers, separated by `;`.
    Live namesrv_addr: String = "namesrvAddr", String::new();
    /// Port for clients; two below it is the VIP port.
    Restart listen_port: i32 = "listenPort", 10911, in PORTS;
    /// Port for slaves; 0 is the port above `listenPort`.
    Restart ha_listen_port: i32 = "haListenPort", 0, in 0..=65535;
    /// Address to listen on.
    Restart bind_address: String = "bindAddress", "0.0.0.0".into();
    /// Directory of the installation.
    Restart rocketmq_home: String = "rocketmqHome", String::new();
    /// ASYNC_MASTER, SYNC_MASTER or SLAVE.
    Restart broker_role: BrokerRole = "brokerRole", BrokerRole::AsyncMaster;
    /// 6: clients may read and write; 4: only read; 2: only write.
    Live broker_permission: i32 = "brokerPermission", 6, in 0..=7;
    /// Region that answers to sends name, for message traces.
    Live region_id: String = "regionId", "DefaultRegion".into();
    /// Whether clients write message traces.
    Live trace_on: bool = "traceOn", true;

    /// Directory of all data.
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
    /// Queues of the topic that POP will use.
    Restart revive_queue_num: i32 = "reviveQueueNum", 8, in 1..=65535;
    /// The delays of levels 1, 2, ... in s, m, h or d.
    Restart message_delay_level: String = "messageDelayLevel", "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into();

    /// Whether a pull that finds nothing waits for a message as long as its client asks.
    Live long_polling_enable: bool = "longPollingEnable", true;
    /// ms that such a pull waits otherwise.
    Live short_polling_time_mills: i64 = "shortPollingTimeMills", 1000, in 0..=60_000;
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

    /// Shown by `brokerStatus`; Ferrocket has no such queue.
    Live send_thread_pool_queue_capacity: i32 = "sendThreadPoolQueueCapacity", 10_000;
    /// Shown by `brokerStatus`; Ferrocket has no such queue.
    Live pull_thread_pool_queue_capacity: i32 = "pullThreadPoolQueueCapacity", 100_000;
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

/// Why settings do not fit together, with Java's exit code where it has one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Misfit {
    pub exit_code: i32,
    pub message: String,
}

impl BrokerConfig {
    /// Fills in what follows from other settings, and refuses what does not fit together. Returns notes for the user.
    pub fn resolve(&mut self, user_home: &Path, host_name: &str, address: &str) -> Result<Vec<String>, Misfit> {
        let mut notes = Vec::new();
        self.check_modes()?;
        if self.broker_role == BrokerRole::Slave && self.broker_id <= 0 {
            return Err(Misfit { exit_code: -3, message: "Slave's brokerId must be > 0".into() });
        }
        if self.broker_role != BrokerRole::Slave && self.broker_id != 0 {
            notes.push(format!(
                "brokerId={} is ignored: a broker with brokerRole={} has brokerId 0",
                self.broker_id,
                self.broker_role.text()
            ));
            self.broker_id = 0;
        }
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
        if self.ha_listen_port == 0 {
            self.ha_listen_port = self.listen_port + 1;
        }
        if self.store_path_commit_log.contains(',') {
            return Err(Misfit {
                exit_code: -1,
                message: "storePathCommitLog: several directories are not supported yet".into(),
            });
        }
        let entry = store::queue::ENTRY_LENGTH as i64;
        self.mapped_file_size_consume_queue = (self.mapped_file_size_consume_queue + entry - 1) / entry * entry;
        let (addresses, said) = name_servers(&self.namesrv_addr)?;
        self.namesrv_addr = addresses.join(";");
        notes.extend(said);
        Ok(notes)
    }

    fn check_modes(&self) -> Result<(), Misfit> {
        let message = match (self.enable_dleger_commit_log, self.enable_controller_mode) {
            (true, true) => "enableDLegerCommitLog and enableControllerMode exclude each other: set one of them to false",
            (true, false) => {
                "enableDLegerCommitLog=true: DLedger (Raft) groups are not supported yet; without it this broker would run alone and keep one copy of each message"
            }
            (false, true) => {
                "enableControllerMode=true: the controller is not supported yet; set it to false and brokerRole to what this broker is"
            }
            (false, false) => return Ok(()),
        };
        Err(Misfit { exit_code: -4, message: message.into() })
    }

    /// How the store is opened.
    pub fn store_options(&self) -> Options {
        Options {
            root: PathBuf::from(&self.store_path_root_dir),
            commit_log: PathBuf::from(&self.store_path_commit_log),
            segment_length: self.mapped_file_size_commit_log as u64,
            queue_file_length: self.mapped_file_size_consume_queue as u64,
            policy: match self.flush_disk_type {
                FlushDiskType::SyncFlush => Policy::Persisted,
                FlushDiskType::AsyncFlush => Policy::Written,
            },
        }
    }

    /// The name servers' addresses.
    pub fn name_servers(&self) -> Vec<String> {
        self.namesrv_addr.split(';').filter(|a| !a.is_empty()).map(str::to_owned).collect()
    }

    /// All settings as text, for tools.
    pub fn text(&self) -> String {
        self.pairs().into_iter().map(|(key, value, _)| format!("{key}={value}\n")).collect()
    }
}

/// Reads a list of name servers; one without a port has 9876, which is said.
pub fn name_servers(list: &str) -> Result<(Vec<String>, Vec<String>), Misfit> {
    let (mut addresses, mut notes) = (Vec::new(), Vec::new());
    for address in list.split(';').map(str::trim).filter(|a| !a.is_empty()) {
        let address = match address.rsplit_once(':') {
            None => {
                notes.push(format!("name server {address} has no port: 9876 is taken"));
                format!("{address}:9876")
            }
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => address.to_owned(),
            Some(_) => {
                let message = format!(
                    "namesrvAddr: {address:?} is no address; expected host:port, several separated by ;, as in 10.0.0.1:9876;10.0.0.2:9876"
                );
                return Err(Misfit { exit_code: -3, message });
            }
        };
        addresses.push(address);
    }
    Ok((addresses, notes))
}

#[cfg(test)]
mod tests {
    use stdx::properties;

    use super::*;

    fn load(text: &str) -> (BrokerConfig, stdx::config::Report) {
        let mut config = BrokerConfig::default();
        let report = config.apply(Path::new("broker.conf"), &properties::parse(text.as_bytes()).unwrap());
        (config, report)
    }

    fn resolve(config: &mut BrokerConfig) -> Result<Vec<String>, Misfit> {
        config.resolve(Path::new("/opt"), "host", "127.0.0.1")
    }

    /// The files of the deployments that people run, in short.
    const FILES: [&str; 4] = [
        "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=1\ndeleteWhen=04\nfileReservedTime=48\nbrokerRole=SLAVE\nflushDiskType=ASYNC_FLUSH\n",
        "namesrvAddr=192.168.0.15:9876;192.168.0.10:9876\n# 多网卡时指定\nbrokerIP1=192.168.0.15\nbrokerClusterName = rootopCluster\nbrokerId = 0\n\
         storePathRootDir = /home/software/rocketmq/store\nstorePathCommitLog = /home/software/rocketmq/store/commitlog\ndiskMaxUsedSpaceRatio = 90\n\
         sendMessageThreadPoolNums: 200\nuseReentrantLockWhenPutMessage: true\n",
        "brokerClusterName = RaftCluster\nbrokerName=RaftNode00\nbrokerIP1=192.168.1.4\nlistenPort=10911\nnamesrvAddr=nameserver-01:9876;nameserver-02:9876\nautoCreateTopicEnable=false\n\
         enableDLegerCommitLog=true\ndLegerGroup=RaftNode00\ndLegerPeers=n0-broker-01:40911;n1-broker-02:40911\ndLegerSelfId=n0\nsendMessageThreadPoolNums=4\n",
        "brokerName=broker-a\nbrokerId=0\ndefaultTopicQueueNums=4\nautoCreateSubscriptionGroup=true\nfileReservedTime=120\nmapedFileSizeCommitLog=1073741824\nmapedFileSizeConsumeQueue=50000010\n\
         destroyMapedFileIntervalForcibly=120000\nredeleteHangedFileInterval=120000\ndiskMaxUsedSpaceRatio=88\nmaxMessageSize=65536\nflushCommitLogLeastPages=4\nflushConsumeQueueLeastPages=2\n\
         flushCommitLogThoroughInterval=10000\nflushConsumeQueueThoroughInterval=60000\ncheckTransactionMessageEnable=false\npullMessageThreadPoolNums=128\nbrokerRole=SYNC_MASTER\nflushDiskType=ASYNC_FLUSH\n",
    ];

    #[test]
    fn the_files_of_running_deployments_are_taken_without_a_word_against_them() {
        for text in FILES {
            let (_, report) = load(text);
            assert_eq!((report.errors, report.warnings), (vec![], vec![]), "{text}");
        }
        let (mut old, _) = load(FILES[3]);
        resolve(&mut old).unwrap();
        assert_eq!(old.mapped_file_size_consume_queue, 50_000_020);
        assert_eq!((old.max_message_size, old.broker_role), (65536, BrokerRole::SyncMaster));
        let (mut raft, _) = load(FILES[2]);
        assert!(resolve(&mut raft).unwrap_err().message.contains("not supported yet"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (mut slave, _) = load("brokerRole=SLAVE");
        assert_eq!(resolve(&mut slave), Err(Misfit { exit_code: -3, message: "Slave's brokerId must be > 0".into() }));
        let (mut master, _) = load("brokerId=3");
        assert!(resolve(&mut master).unwrap()[0].contains("brokerId=3 is ignored"));
        let (mut bad, _) = load("namesrvAddr=a:9876;b:x");
        assert_eq!(resolve(&mut bad).unwrap_err().exit_code, -3);
        let (_, report) = load("listenPort=abc\nflushDiskType=SYNC");
        assert_eq!(
            report.errors,
            [
                "broker.conf:1: listenPort=abc: expected an integer in 1..=65535".replace(" in 1..=65535", ""),
                "broker.conf:2: flushDiskType=SYNC: expected ASYNC_FLUSH or SYNC_FLUSH".into(),
            ]
        );
    }

    #[test]
    fn what_is_not_set_follows_from_the_rest() {
        let (mut config, _) = load("namesrvAddr=a;b:1\nlistenPort=20911");
        let notes = resolve(&mut config).unwrap();
        assert_eq!(notes, ["name server a has no port: 9876 is taken"]);
        assert_eq!(config.name_servers(), ["a:9876", "b:1"]);
        assert_eq!((config.ha_listen_port, config.store_path_commit_log.as_str()), (20912, "/opt/store/commitlog"));
        assert_eq!((config.broker_name.as_str(), config.broker_ip2.as_str()), ("host", "127.0.0.1"));
    }
}
