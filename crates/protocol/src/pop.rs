//! POP's forms: the handle by which a consumer names a message that it popped, what an answer says of where its
//! messages are, the records of the revive log, and the bodies of POP's requests (Java: `ExtraInfoUtil`,
//! `PopCheckPoint`, `AckMsg`, `BatchAckMsg`, `BatchAckMessageRequestBody`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bodies::{MessageModel, QueueValue, bodies, or_default, wire_enum};
use crate::names::RETRY_PREFIX;

/// The queue of the revive topic that handles of messages popped in order name.
pub const ORDER_QUEUE: i32 = 999;
/// The most messages that one pop gets: the bits of a check point are 32.
pub const MAX_MESSAGES: i32 = 32;
/// The tags of the revive log's records: a check point, an acknowledgement, several acknowledgements.
pub const CHECK_POINT_TAG: &str = "ck";
pub const ACK_TAG: &str = "ack";
pub const BATCH_ACK_TAG: &str = "bAck";

/// Which kind of topic a popped message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Normal = 0,
    /// `%RETRY%group_topic`
    RetryV1 = 1,
    /// `%RETRY%group+topic`
    RetryV2 = 2,
}

impl Source {
    pub fn of(topic: &str) -> Self {
        match topic.starts_with(RETRY_PREFIX) {
            true if topic.contains('+') => Source::RetryV2,
            true => Source::RetryV1,
            false => Source::Normal,
        }
    }

    /// The topic that messages of this kind are in.
    pub fn topic<'a>(self, topic: &'a str, group: &str) -> Cow<'a, str> {
        match self {
            Source::Normal => Cow::Borrowed(topic),
            Source::RetryV1 => Cow::Owned(format!("{RETRY_PREFIX}{group}_{topic}")),
            Source::RetryV2 => Cow::Owned(format!("{RETRY_PREFIX}{group}+{topic}")),
        }
    }

    /// The kind that a batch acknowledgement names; one that is not known is taken as Java takes it, for the topic itself.
    pub fn parse(text: &str) -> Self {
        match text {
            "1" => Source::RetryV1,
            "2" => Source::RetryV2,
            _ => Source::Normal,
        }
    }
}

/// The topic that a retry topic of POP brings back messages of.
pub fn origin<'a>(topic: &'a str, group: &str) -> &'a str {
    let name = topic.strip_prefix(RETRY_PREFIX).and_then(|rest| rest.strip_prefix(group));
    name.and_then(|rest| rest.strip_prefix(['_', '+'])).unwrap_or(topic)
}

/// What a consumer gives back to acknowledge a message (property `POP_CK`, header field `extraInfo`): words between
/// blanks, behind which stand the message's queue and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle<'a> {
    /// The queue offset from which on was popped.
    pub start: i64,
    pub pop_time: i64,
    /// How long the message is invisible, in ms.
    pub invisible_time: i64,
    pub revive_queue: i32,
    pub source: Source,
    pub broker: &'a str,
}

/// Why a text is no handle.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "extraInfo {0:?} is no handle of a popped message: expected ckOffset popTime invisibleTime reviveQid retryFlag brokerName"
)]
pub struct HandleError(String);

impl<'a> Handle<'a> {
    pub fn parse(text: &'a str) -> Result<Self, HandleError> {
        Self::read(text).ok_or_else(|| HandleError(text.chars().take(200).collect()))
    }

    fn read(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            start: words.next()?.parse().ok()?,
            pop_time: words.next()?.parse().ok()?,
            invisible_time: words.next()?.parse().ok()?,
            revive_queue: words.next()?.parse().ok()?,
            source: Source::parse(words.next()?),
            broker: words.next()?,
        })
    }
}

impl fmt::Display for Handle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, pop_time, invisible_time, revive_queue, source, broker } = self;
        write!(f, "{start} {pop_time} {invisible_time} {revive_queue} {} {broker}", *source as u8)
    }
}

/// A check point: what one pop took from one queue. Names and order are fastjson's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckPoint<'a> {
    /// Of a pop in order: the client's attempt. Java has no such field.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<Cow<'a, str>>,
    #[serde(rename = "bm")]
    pub bit_map: i32,
    #[serde(rename = "bn", skip_serializing_if = "Option::is_none")]
    pub broker: Option<Cow<'a, str>>,
    #[serde(rename = "c", deserialize_with = "or_default")]
    pub group: Cow<'a, str>,
    /// The messages' offsets, counted from `start`; without it they lie one behind the other.
    #[serde(rename = "d", deserialize_with = "or_default")]
    pub diffs: Vec<i32>,
    #[serde(rename = "it")]
    pub invisible_time: i64,
    #[serde(rename = "n")]
    pub count: i32,
    #[serde(rename = "pt")]
    pub pop_time: i64,
    #[serde(rename = "q")]
    pub queue_id: i32,
    #[serde(rename = "ro")]
    pub revive_offset: i64,
    #[serde(rename = "so")]
    pub start: i64,
    #[serde(rename = "t", deserialize_with = "or_default")]
    pub topic: Cow<'a, str>,
}

/// Acknowledgements of one check point's messages: of one in `offset`, of several in `offsets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ack<'a> {
    #[serde(rename = "ao", alias = "ackOffset")]
    pub offset: i64,
    #[serde(rename = "aol", alias = "ackOffsetList", skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub offsets: Vec<i64>,
    #[serde(rename = "bn", alias = "brokerName", skip_serializing_if = "Option::is_none")]
    pub broker: Option<Cow<'a, str>>,
    #[serde(rename = "c", alias = "consumerGroup", deserialize_with = "or_default")]
    pub group: Cow<'a, str>,
    /// Of an acknowledgement that came before its check point: how long that is invisible. Java has no such field.
    #[serde(rename = "it", skip_serializing_if = "Option::is_none")]
    pub invisible_time: Option<i64>,
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    #[serde(rename = "so", alias = "startOffset")]
    pub start: i64,
    #[serde(rename = "t", alias = "topic", deserialize_with = "or_default")]
    pub topic: Cow<'a, str>,
}

bodies! {
    /// The body of BATCH_ACK_MESSAGE.
    pub struct BatchAckBody {
        pub acks: Vec<BatchAck>,
        pub broker_name: String,
    }
}

/// What is acknowledged of one pop: bit `n` is the message at `start + n`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchAck {
    #[serde(rename = "b", alias = "bitSet", deserialize_with = "bytes", serialize_with = "write_bytes")]
    pub bits: Vec<u8>,
    #[serde(rename = "c", alias = "consumerGroup", deserialize_with = "or_default")]
    pub group: String,
    #[serde(rename = "it", alias = "invisibleTime")]
    pub invisible_time: i64,
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    #[serde(rename = "r", alias = "retry", deserialize_with = "or_default")]
    pub retry: String,
    #[serde(rename = "rq", alias = "reviveQueueId")]
    pub revive_queue: i32,
    #[serde(rename = "so", alias = "startOffset")]
    pub start: i64,
    #[serde(rename = "t", alias = "topic", deserialize_with = "or_default")]
    pub topic: String,
}

impl BatchAck {
    /// The bits that are set, in their order.
    pub fn set(&self) -> impl Iterator<Item = i64> {
        let bits = self.bits.iter().enumerate().flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> bit & 1)));
        bits.filter(|(_, set)| *set == 1).map(|(nth, _)| nth as i64)
    }
}

/// fastjson writes bytes in base64, other libraries as a list of numbers.
fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bytes {
        Text(String),
        Numbers(Vec<i16>),
    }
    match Option::<Bytes>::deserialize(d)? {
        None => Ok(Vec::new()),
        Some(Bytes::Text(text)) => BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom),
        Some(Bytes::Numbers(numbers)) => {
            let byte = |n: i16| if (-128..256).contains(&n) { Ok(n as u8) } else { Err(n) };
            let bytes: Result<_, _> = numbers.into_iter().map(byte).collect();
            bytes.map_err(|n| serde::de::Error::custom(format_args!("{n} is no byte of a bit set")))
        }
    }
}

fn write_bytes<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&BASE64_STANDARD.encode(bytes))
}

wire_enum!(
    #[derive(PartialOrd)]
    /// How the members of a group get a topic's messages.
    RequestMode: Pull = "PULL", Pop = "POP",
);

bodies! {
    /// How one group gets one topic's messages: the body of SET_MESSAGE_REQUEST_MODE.
    pub struct GroupMode {
        pub consumer_group: String,
        pub mode: RequestMode,
        /// How many members beside its own one may pop a queue; 0 and less: all.
        pub pop_share_queue_num: i32,
        pub topic: String,
    }

    /// `config/messageRequestMode.json` and the answer to GET_ALL_MESSAGE_REQUEST_MODE: by topic and group.
    pub struct GroupModes {
        pub message_request_mode_map: BTreeMap<String, BTreeMap<String, GroupMode>>,
    }

    /// The body of QUERY_ASSIGNMENT.
    pub struct AssignmentQuery {
        pub client_id: String,
        pub consumer_group: String,
        pub message_model: MessageModel,
        pub strategy_name: String,
        pub topic: String,
    }

    /// The answer: what the client is to read. Without a list the client keeps what it has.
    pub struct Assignments {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub message_queue_assignments: Option<Vec<Assignment>>,
    }

    pub struct Assignment {
        pub message_queue: QueueValue,
        pub mode: RequestMode,
    }
}

/// What is under way of one queue that a group pops in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderInfo {
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// Bit `n`: the `n`th message is acknowledged.
    #[serde(rename = "cm")]
    pub acked: i64,
    #[serde(rename = "i", deserialize_with = "or_default")]
    pub invisible_time: i64,
    #[serde(rename = "l")]
    pub last_consumed: i64,
    /// The first message's queue offset; the others are counted from it.
    #[serde(rename = "o", deserialize_with = "or_default")]
    pub offsets: Vec<i64>,
    /// How often a message was given before, by queue offset.
    #[serde(rename = "oc", deserialize_with = "or_default")]
    pub times_given: BTreeMap<i64, i32>,
    /// When a message is visible again, by queue offset, where that was changed.
    #[serde(rename = "ot", deserialize_with = "or_default")]
    pub visible_at: BTreeMap<i64, i64>,
    #[serde(rename = "popTime")]
    pub pop_time: i64,
}

/// `config/consumerOrderInfo.json`: by `topic@group` and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderInfos {
    #[serde(deserialize_with = "or_default")]
    pub table: BTreeMap<String, BTreeMap<i32, OrderInfo>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastjson;

    #[test]
    fn handles_are_written_and_read_as_java_does() {
        let handle = Handle {
            start: 5,
            pop_time: 1700000000000,
            invisible_time: 60000,
            revive_queue: 3,
            source: Source::of("%RETRY%g_T"),
            broker: "broker-a",
        };
        assert_eq!(handle.to_string(), "5 1700000000000 60000 3 1 broker-a");
        assert_eq!(Handle::parse("5 1700000000000 60000 3 1 broker-a 2 7"), Ok(handle));
        for bad in ["", "5", "a 1 2 3 0 b", "5 1 2 3 0", "5 1 2 99999999999 0 b 1 1"] {
            assert!(Handle::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_topics_name_group_and_topic() {
        for (source, name) in [(Source::RetryV1, "%RETRY%g_T_x"), (Source::RetryV2, "%RETRY%g+T_x"), (Source::Normal, "T_x")] {
            assert_eq!(source.topic("T_x", "g"), name);
            assert_eq!((Source::of(name), origin(name, "g")), (source, "T_x"));
        }
    }

    #[test]
    fn records_of_java_are_read_and_written_alike() {
        let java = r#"{"bm":0,"bn":"broker-a","c":"g","d":[0,1,3],"it":60000,"n":3,"pt":17,"q":2,"ro":0,"so":5,"t":"T"}"#;
        let point: CheckPoint<'_> = fastjson::from_slice(java.as_bytes()).unwrap();
        assert_eq!((point.diffs.as_slice(), point.group.as_ref()), ([0, 1, 3].as_slice(), "g"));
        assert_eq!(fastjson::to_vec(&point), java.as_bytes());
        for java in [
            r#"{"ao":6,"bn":"broker-a","c":"g","pt":17,"q":2,"so":5,"t":"T"}"#,
            r#"{"ao":-1,"aol":[5,6],"bn":"broker-a","c":"g","pt":17,"q":2,"so":5,"t":"T"}"#,
        ] {
            assert_eq!(fastjson::to_vec(&fastjson::from_slice::<Ack<'_>>(java.as_bytes()).unwrap()), java.as_bytes());
        }
    }

    #[test]
    fn bit_sets_are_read_in_both_forms() {
        let text = r#"{"acks":[{"b":"BQE=","c":"g","it":1,"pt":2,"q":0,"r":"0","rq":1,"so":3,"t":"T"}],"brokerName":"b"}"#;
        let body: BatchAckBody = fastjson::from_slice(text.as_bytes()).unwrap();
        assert_eq!(body.acks[0].set().collect::<Vec<_>>(), [0, 2, 8]);
        assert_eq!(fastjson::to_vec(&body), text.as_bytes());
        let numbers: BatchAck = fastjson::from_slice(br#"{"bitSet":[-128,1],"consumerGroup":"g"}"#).unwrap();
        assert_eq!((numbers.set().collect::<Vec<_>>(), numbers.group.as_str()), (vec![7, 8], "g"));
        assert!(fastjson::from_slice::<BatchAck>(br#"{"b":[256]}"#).is_err());
        assert!(fastjson::from_slice::<BatchAck>(br#"{"b":"?"}"#).is_err());
    }
}
