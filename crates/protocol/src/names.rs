//! Reserved names and the rules for names of topics and groups (Java: `MixAll`, `TopicValidator`).

use std::net::Ipv6Addr;

/// The topic whose settings automatically created topics inherit.
pub const DEFAULT_TOPIC: &str = "TBW102";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Timer messages wait in queue 0 of it.
pub const WHEEL_TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
pub const REPLY_TOPIC_SUFFIX: &str = "REPLY_TOPIC";
pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";
/// What begins the names of light queues, which have no route of their own.
pub const LMQ_PREFIX: &str = "%LMQ%";
/// The group whose offsets say how far half and op messages are done with.
pub const TRANSACTION_GROUP: &str = "CID_RMQ_SYS_TRANS";
/// The topic of POP's check points and acknowledgements is this and the cluster's name.
pub const REVIVE_TOPIC_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
/// The group whose offsets say how far the revive topic is done with: the last record that nobody needs any more.
pub const REVIVE_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// The group whose offsets say up to where the revive topic's records have moved consumer offsets; Java has none such.
pub const REVIVE_APPLIED_GROUP: &str = "CID_RMQ_SYS_REVIVE_APPLIED";
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
/// The group that Java's pull tools and mqadmin use without registering it.
pub const TOOLS_CONSUMER_GROUP: &str = "TOOLS_CONSUMER";
/// Name server key-values: the namespace that holds ordered topics' queues.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";
pub const MASTER_ID: i64 = 0;

/// What a name server's address without a port means.
pub const NAMESRV_PORT: u16 = 9876;

pub const TOPIC_MAX_LENGTH: usize = 127;
pub const RETRY_TOPIC_MAX_LENGTH: usize = 255;
pub const GROUP_MAX_LENGTH: usize = 120;

const SYSTEM_TOPICS: [&str; 10] = [
    DEFAULT_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    TRANS_HALF_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    TRACE_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    CHECKPOINT_TOPIC,
];

const NOT_SENDABLE: [&str; 6] =
    [SCHEDULE_TOPIC, TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC, TRANS_CHECK_MAX_TIME_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_EVENT];

/// Whether the topic belongs to RocketMQ itself (names of clusters and brokers aside).
pub fn is_system_topic(topic: &str) -> bool {
    SYSTEM_TOPICS.contains(&topic) || topic.starts_with(SYSTEM_TOPIC_PREFIX)
}

/// Whether clients are refused to send to this topic.
pub fn is_not_sendable(topic: &str) -> bool {
    NOT_SENDABLE.contains(&topic)
}

pub fn is_retry_or_dlq(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX)
}

/// The topic through which a group's failed messages come back.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// Groups that exist on every broker without being created.
pub fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX)
}

/// Groups of RocketMQ's own parts and tools, which pull without being registered (Java: `isSysConsumerGroupPullMessage`).
const UNREGISTERED_GROUPS: [&str; 10] = [
    TOOLS_CONSUMER_GROUP,
    "DEFAULT_CONSUMER",
    "SCHEDULE_CONSUMER",
    "FILTERSRV_CONSUMER",
    "__MONITOR_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_ONSAPI_PULL",
];

/// Whether the group may pull where pull consumers are rejected.
pub fn may_pull_unregistered(group: &str) -> bool {
    is_system_group(group) || UNREGISTERED_GROUPS.contains(&group)
}

/// The address as it stands, or with `port` where it has none. IPv6 addresses may stand in brackets or not.
pub fn with_port(address: &str, port: u16) -> String {
    if address.parse::<Ipv6Addr>().is_ok() {
        return format!("[{address}]:{port}");
    }
    let after_bracket = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    if after_bracket.contains(':') { address.to_owned() } else { format!("{address}:{port}") }
}

/// Why a name is refused. The texts are Java's, which tools show as they are.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("The specified {0} is blank.")]
    Blank(&'static str),
    #[error("The specified {kind}: {name}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    Illegal { kind: &'static str, name: String },
    #[error("The specified {kind}: {name}, is longer than {kind} max length: {max}")]
    TooLong { kind: &'static str, name: String, max: usize },
}

/// Checks a topic's name; retry and dead letter topics may be longer.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    check("topic", topic, if is_retry_or_dlq(topic) { RETRY_TOPIC_MAX_LENGTH } else { TOPIC_MAX_LENGTH })
}

/// Checks a consumer or producer group's name.
pub fn check_group(group: &str) -> Result<(), NameError> {
    check("group", group, GROUP_MAX_LENGTH)
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank(kind));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'%' | b'|' | b'_' | b'-')) {
        return Err(NameError::Illegal { kind, name: name.to_owned() });
    }
    if name.len() > max {
        return Err(NameError::TooLong { kind, name: name.to_owned(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_a_port() {
        assert_eq!(with_port("10.0.0.1", 10911), "10.0.0.1:10911");
        assert_eq!(with_port("mq:1", 9876), "mq:1");
        assert_eq!((with_port("::1", 9876), with_port("[::1]", 9876)), ("[::1]:9876".into(), "[::1]:9876".into()));
    }

    #[test]
    fn names_follow_the_rules() {
        assert_eq!(check_topic("orders-2024_x|%"), Ok(()));
        assert_eq!(check_topic(" "), Err(NameError::Blank("topic")));
        assert_eq!(check_topic("a b"), Err(NameError::Illegal { kind: "topic", name: "a b".into() }));
        assert_eq!(check_topic(&"t".repeat(127)), Ok(()));
        assert_eq!(check_topic(&"t".repeat(128)), Err(NameError::TooLong { kind: "topic", name: "t".repeat(128), max: 127 }));
        assert_eq!(check_topic(&format!("%RETRY%{}", "g".repeat(248))), Ok(()));
        assert_eq!(check_group(&"g".repeat(121)), Err(NameError::TooLong { kind: "group", name: "g".repeat(121), max: 120 }));
    }
}
