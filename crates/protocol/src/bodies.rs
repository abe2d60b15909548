//! JSON bodies of requests and answers. Fields stand in fastjson's order (sorted by name), so that what is
//! written equals what Java writes; unknown fields are passed over.

mod admin;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use admin::*;

/// Reads `null` as the default, since fastjson writes either nothing or null for what is not set.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// A table of bodies. A field that is missing has the default behind `=`, or else its type's own, as one that is null has:
/// fastjson writes either nothing or null for what is not set.
macro_rules! bodies {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident { $($(#[$attribute:meta])* pub $field:ident: $type:ty $(= $default:expr)?,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$attribute])* #[serde(deserialize_with = "crate::bodies::or_default")] pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: bodies!(@default $($default)?),)* }
            }
        }
    )*};
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

pub(crate) use bodies;

/// Reads a set of numbers, which the Go client writes as strings.
fn numbers<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<i32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Bare(i32),
        Text(String),
    }
    let set = Option::<Vec<Number>>::deserialize(d)?.unwrap_or_default();
    let number = |number| match number {
        Number::Bare(n) => Ok(n),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    };
    set.into_iter().map(number).collect()
}

bodies! {
    /// How old a table is; two tables are the same only if all three agree.
    pub struct DataVersion {
        pub counter: i64,
        pub state_version: i64,
        pub timestamp: i64,
    }
}

impl DataVersion {
    /// The version after a change at `now` (ms).
    pub fn advance(&mut self, now: i64) {
        self.counter += 1;
        self.timestamp = now;
    }
}

bodies! {
    /// How many timer messages of each topic wait (`config/timermetrics`).
    pub struct TimerMetrics {
        pub data_version: DataVersion,
        pub timing_count: BTreeMap<String, TimerMetric>,
    }

    /// How many there are, and when that changed, in ms since 1970.
    pub struct TimerMetric {
        pub count: i64,
        pub time_stamp: i64,
    }

    pub struct TopicConfig {
        pub attributes: BTreeMap<String, String>,
        pub order: bool,
        pub perm: i32 = 6,
        pub read_queue_nums: i32 = 16,
        pub topic_filter_type: TopicFilterType,
        pub topic_name: String,
        pub topic_sys_flag: i32,
        pub write_queue_nums: i32 = 16,
    }
}

impl TopicConfig {
    /// A topic with as many queues to read as to write.
    pub fn new(name: &str, queues: i32, perm: i32) -> Self {
        Self { topic_name: name.to_owned(), read_queue_nums: queues, write_queue_nums: queues, perm, ..Self::default() }
    }
}

bodies! {
    /// `config/topics.json`, the answer to `GetAllTopicConfig`, and part of a registration.
    pub struct TopicTable {
        pub data_version: DataVersion,
        pub topic_config_table: BTreeMap<String, TopicConfig>,
    }

    pub struct RegisterBrokerBody {
        pub filter_server_list: Vec<String>,
        pub topic_config_serialize_wrapper: TopicTable,
    }

    pub struct SubscriptionGroupConfig {
        pub attributes: BTreeMap<String, String>,
        pub broker_id: i64,
        pub consume_broadcast_enable: bool = true,
        pub consume_enable: bool = true,
        pub consume_from_min_enable: bool = true,
        pub consume_message_orderly: bool,
        pub consume_timeout_minute: i32 = 15,
        pub group_name: String,
        pub group_retry_policy: GroupRetryPolicy,
        pub group_sys_flag: i32,
        pub notify_consumer_ids_changed_enable: bool = true,
        pub retry_max_times: i32 = 16,
        pub retry_queue_nums: i32 = 1,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub subscription_data_set: Option<serde_json::Value>,
        pub which_broker_when_consume_slowly: i64 = 1,
    }

    /// A group's retry policy; its parts are kept as they came, as only 5.x clients read them.
    pub struct GroupRetryPolicy {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub customized_retry_policy: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exponential_retry_policy: Option<serde_json::Value>,
        #[serde(rename = "type")]
        pub kind: String = "CUSTOMIZED".into(),
    }

    /// `config/subscriptionGroup.json` and the answer to `GetAllSubscriptionGroup`.
    pub struct SubscriptionGroupTable {
        pub data_version: DataVersion,
        pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    }

    /// `config/consumerOffset.json` and the answer to `GetAllConsumerOffset`: `topic@group` to queue to offset.
    pub struct ConsumerOffsets {
        pub data_version: DataVersion,
        pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    }

    pub struct HeartbeatData {
        #[serde(rename = "clientID")]
        pub client_id: String,
        pub consumer_data_set: Vec<ConsumerData>,
        pub heartbeat_fingerprint: i32,
        pub producer_data_set: Vec<ProducerData>,
        pub without_sub: bool,
    }

    pub struct ProducerData {
        pub group_name: String,
    }

    pub struct ConsumerData {
        pub consume_from_where: ConsumeFromWhere,
        pub consume_type: ConsumeType,
        pub group_name: String,
        pub message_model: MessageModel,
        pub subscription_data_set: Vec<SubscriptionData>,
        pub unit_mode: bool,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    pub class_filter_mode: bool,
    #[serde(deserialize_with = "numbers")]
    pub code_set: BTreeSet<i32>,
    #[serde(deserialize_with = "or_default")]
    pub expression_type: String,
    #[serde(deserialize_with = "or_default")]
    pub sub_string: String,
    pub sub_version: i64,
    #[serde(deserialize_with = "or_default")]
    pub tags_set: BTreeSet<String>,
    pub topic: String,
}

/// An enum that travels under Java's names. Some clients write the ordinal.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident: $($variant:ident = $text:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { #[default] $($variant),+ }

        impl $name {
            const ALL: &'static [($name, &'static str)] = &[$(($name::$variant, $text)),+];
            pub fn name(self) -> &'static str {
                Self::ALL[self as usize].1
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let value = <serde_json::Value as serde::Deserialize>::deserialize(d)?;
                let found = match &value {
                    serde_json::Value::Number(n) => n.as_u64().and_then(|i| Self::ALL.get(i as usize)),
                    serde_json::Value::String(text) => Self::ALL.iter().find(|(_, name)| name == text),
                    _ => None,
                };
                found.map(|(variant, _)| *variant)
                    .ok_or_else(|| serde::de::Error::custom(format_args!("{value} is no {}", stringify!($name))))
            }
        }
    };
}

pub(crate) use wire_enum;

wire_enum!(
    TopicFilterType: SingleTag = "SINGLE_TAG", MultiTag = "MULTI_TAG",
);
wire_enum!(
    /// How a group consumes.
    ConsumeType: Actively = "CONSUME_ACTIVELY", Passively = "CONSUME_PASSIVELY", Pop = "CONSUME_POP",
);
wire_enum!(
    /// Whether members share a topic's messages or each get all.
    MessageModel: Broadcasting = "BROADCASTING", Clustering = "CLUSTERING",
);
wire_enum!(
    /// Where a group without a committed offset begins; decided by the client.
    ConsumeFromWhere:
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET", MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET", Timestamp = "CONSUME_FROM_TIMESTAMP",
);

bodies! {
    pub struct TopicRouteData {
        pub broker_datas: Vec<BrokerData>,
        pub filter_server_table: BTreeMap<String, Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub order_topic_conf: Option<String>,
        pub queue_datas: Vec<QueueData>,
    }

    pub struct QueueData {
        pub broker_name: String,
        pub perm: i32,
        pub read_queue_nums: i32,
        /// Up to 3.x the field was misspelt `topicSynFlag`.
        #[serde(alias = "topicSynFlag")]
        pub topic_sys_flag: i32,
        pub write_queue_nums: i32,
    }

    pub struct BrokerData {
        pub broker_addrs: BTreeMap<i64, String>,
        pub broker_name: String,
        pub cluster: String,
        pub enable_acting_master: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub zone_name: Option<String>,
    }

    pub struct ClusterInfo {
        pub broker_addr_table: BTreeMap<String, BrokerData>,
        pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
    }

    pub struct BrokerMemberGroup {
        pub broker_addrs: BTreeMap<i64, String>,
        pub broker_name: String,
        pub cluster: String,
    }

    pub struct BrokerMemberGroupReply {
        pub broker_member_group: Option<BrokerMemberGroup>,
    }

    pub struct TopicList {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub broker_addr: Option<String>,
        pub topic_list: BTreeSet<String>,
    }

    pub struct GroupList {
        pub group_list: BTreeSet<String>,
    }

    pub struct KvTable {
        pub table: BTreeMap<String, String>,
    }
}

/// A queue as clients name it; also a key of maps, where fastjson writes the whole object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageQueue {
    pub topic: String,
    pub broker_name: String,
    pub queue_id: i32,
}

/// The queue as an object, for places where it is a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueValue {
    pub broker_name: String,
    pub queue_id: i32,
    pub topic: String,
}

impl From<MessageQueue> for QueueValue {
    fn from(q: MessageQueue) -> Self {
        Self { broker_name: q.broker_name, queue_id: q.queue_id, topic: q.topic }
    }
}

impl Serialize for MessageQueue {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_string(&QueueValue::from(self.clone())).map_err(serde::ser::Error::custom)?;
        s.serialize_str(&json)
    }
}

impl<'de> Deserialize<'de> for MessageQueue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let queue: QueueValue = serde_json::from_str(&text).map_err(serde::de::Error::custom)?;
        Ok(Self { topic: queue.topic, broker_name: queue.broker_name, queue_id: queue.queue_id })
    }
}

bodies! {
    pub struct TopicStats {
        pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
        pub topic_put_tps: f64,
    }

    pub struct TopicOffset {
        pub last_update_timestamp: i64,
        pub max_offset: i64,
        pub min_offset: i64,
    }

    pub struct ConsumeStats {
        pub consume_tps: f64,
        pub offset_table: BTreeMap<MessageQueue, OffsetWrapper>,
    }

    pub struct OffsetWrapper {
        pub broker_offset: i64,
        pub consumer_offset: i64,
        pub last_timestamp: i64,
        pub pull_offset: i64,
    }

    pub struct Connection {
        pub client_addr: String,
        pub client_id: String,
        pub language: String,
        pub version: i32,
    }

    pub struct ProducerConnection {
        pub connection_set: Vec<Connection>,
    }

    pub struct ConsumerConnection {
        pub connection_set: Vec<Connection>,
        pub consume_from_where: ConsumeFromWhere,
        pub consume_type: ConsumeType,
        pub message_model: MessageModel,
        pub subscription_table: BTreeMap<String, SubscriptionData>,
    }

    /// One producer as `GetAllProducerInfo` shows it.
    pub struct ProducerInfo {
        #[serde(rename = "clientId")]
        pub client_id: String,
        pub language: String,
        #[serde(rename = "lastUpdateTimestamp")]
        pub last_update_timestamp: i64,
        #[serde(rename = "remoteIP")]
        pub remote_ip: String,
        pub version: i32,
    }

    /// The answer to `GetAllProducerInfo`: group to producers.
    pub struct ProducerTable {
        pub data: BTreeMap<String, Vec<ProducerInfo>>,
    }

    /// What a consumer asks before it starts: can this subscription be served? (Java: `CheckClientRequestBody`)
    pub struct CheckClient {
        pub client_id: String,
        pub group: String,
        pub subscription_data: Option<SubscriptionData>,
    }

    pub struct ConsumerIdList {
        pub consumer_id_list: Vec<String>,
    }

    pub struct LockBatch {
        pub client_id: String,
        pub consumer_group: String,
        pub mq_set: Vec<QueueValue>,
        pub only_this_broker: bool,
    }

    pub struct LockBatchReply {
        #[serde(rename = "lockOKMQSet")]
        pub lock_ok_mq_set: Vec<QueueValue>,
    }

    /// The answer to `GetBrokerHaStatus` (Java: `HARuntimeInfo`).
    pub struct HaStatus {
        pub ha_client_runtime_info: HaMaster,
        pub ha_connection_info: Vec<HaSlave>,
        pub in_sync_slave_nums: i32,
        pub master: bool,
        pub master_commit_log_max_offset: i64,
    }

    /// A slave's connection with its master.
    pub struct HaMaster {
        pub activated: bool,
        pub last_read_timestamp: i64,
        pub last_write_timestamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub master_addr: Option<String>,
        pub master_flush_offset: i64,
        pub max_offset: i64,
        pub transferred_byte_in_second: i64,
    }

    /// A master's connection with a slave.
    pub struct HaSlave {
        pub addr: String,
        pub diff: i64,
        pub in_sync: bool,
        pub slave_ack_offset: i64,
        pub transfer_from_where: i64,
        pub transferred_byte_in_second: i64,
    }

    /// The answer to `GetBrokerEpochCache` (Java: `EpochEntryCache`).
    pub struct EpochCache {
        pub broker_id: i64,
        pub broker_name: String,
        pub cluster_name: String,
        pub epoch_list: Vec<EpochEntry>,
        pub max_offset: i64,
    }

    /// From `start_offset` on the log is of an epoch. Java knows `epoch` and `startOffset` alone.
    pub struct EpochEntry {
        pub epoch: i64,
        pub master: String,
        pub restart: i64,
        pub start_offset: i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastjson;

    #[test]
    fn heartbeats_of_java_and_go_are_read() {
        let java = br#"{"clientID":"10.0.0.1@7","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1,"tagsSet":["TagA"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}],"withoutSub":false}"#;
        let heartbeat: HeartbeatData = fastjson::from_slice(java).unwrap();
        assert_eq!(heartbeat.client_id, "10.0.0.1@7");
        assert_eq!(heartbeat.consumer_data_set[0].message_model, MessageModel::Clustering);
        assert_eq!(fastjson::to_vec(&heartbeat), java);
        let other = br#"{"clientID":"c","producerDataSet":null,"consumerDataSet":[{"groupName":"g","consumeType":"CONSUME_ACTIVELY","messageModel":1,"subscriptionDataSet":[{"topic":"T","subString":"*","tagsSet":null,"codeSet":["-17","5"]}]}]}"#;
        let heartbeat: HeartbeatData = fastjson::from_slice(other).unwrap();
        assert_eq!(heartbeat.consumer_data_set[0].subscription_data_set[0].code_set, BTreeSet::from([-17, 5]));
        assert_eq!(heartbeat.consumer_data_set[0].consume_type, ConsumeType::Actively);
        assert_eq!(heartbeat.consumer_data_set[0].message_model, MessageModel::Clustering);
    }

    #[test]
    fn a_topic_file_of_4_x_is_read() {
        let text = br#"{"dataVersion":{"counter":2,"timestatmp":5,"timestamp":7},"topicConfigTable":{"T":{"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4}}}"#;
        let table: TopicTable = fastjson::from_slice(text).unwrap();
        assert_eq!(table.data_version, DataVersion { counter: 2, state_version: 0, timestamp: 7 });
        assert_eq!(table.topic_config_table["T"], TopicConfig::new("T", 4, 6));
    }
}
