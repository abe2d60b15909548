//! Response codes (Java: `ResponseCode`, `RemotingSysResponseCode`).

macro_rules! response_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        $($(#[$doc])* pub const $name: i32 = $code;)*

        /// The code's name in RocketMQ's words, or `UNKNOWN`.
        pub fn name(code: i32) -> &'static str {
            match code {
                $($code => stringify!($name),)*
                _ => "UNKNOWN",
            }
        }
    };
}

response_codes! {
    SUCCESS = 0,
    SYSTEM_ERROR = 1,
    /// The server sheds load; clients may try another broker.
    SYSTEM_BUSY = 2,
    REQUEST_CODE_NOT_SUPPORTED = 3,
    TRANSACTION_FAILED = 4,
    /// Stored, but the disk did not confirm in time.
    FLUSH_DISK_TIMEOUT = 10,
    /// Stored, but no slave was near enough to copy it.
    SLAVE_NOT_AVAILABLE = 11,
    /// Stored, but no slave confirmed in time.
    FLUSH_SLAVE_TIMEOUT = 12,
    MESSAGE_ILLEGAL = 13,
    /// The store takes no writes (shutting down, fenced, disk full).
    SERVICE_NOT_AVAILABLE = 14,
    VERSION_NOT_SUPPORTED = 15,
    NO_PERMISSION = 16,
    TOPIC_NOT_EXIST = 17,
    TOPIC_EXIST_ALREADY = 18,
    PULL_NOT_FOUND = 19,
    PULL_RETRY_IMMEDIATELY = 20,
    PULL_OFFSET_MOVED = 21,
    QUERY_NOT_FOUND = 22,
    SUBSCRIPTION_PARSE_FAILED = 23,
    SUBSCRIPTION_NOT_EXIST = 24,
    SUBSCRIPTION_NOT_LATEST = 25,
    SUBSCRIPTION_GROUP_NOT_EXIST = 26,
    /// The group's filter expression could not be read when the heartbeat brought it.
    FILTER_DATA_NOT_EXIST = 27,
    INVALID_PARAMETER = 29,
    CONSUMER_NOT_ONLINE = 206,
    CONSUME_MSG_TIMEOUT = 207,
    /// An acknowledgement names a message that the queue does not have.
    NO_MESSAGE = 208,
    /// Too many pops of the group wait already.
    POLLING_FULL = 209,
    POLLING_TIMEOUT = 210,
    ILLEGAL_OPERATION = 604,
}
