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

/// How old a table is; two tables are the same only if all three agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    pub counter: i64,
    pub state_version: i64,
    pub timestamp: i64,
}

impl DataVersion {
    /// The version after a change at `now` (ms).
    pub fn advance(&mut self, now: i64) {
        self.counter += 1;
        self.timestamp = now;
    }
}

/// How many timer messages of each topic wait (`config/timermetrics`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerMetrics {
    pub data_version: DataVersion,
    #[serde(deserialize_with = "or_default")]
    pub timing_count: BTreeMap<String, TimerMetric>,
}

/// How many there are, and when that changed, in ms since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerMetric {
    pub count: i64,
    pub time_stamp: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    #[serde(deserialize_with = "or_default")]
    pub attributes: BTreeMap<String, String>,
    pub order: bool,
    pub perm: i32,
    pub read_queue_nums: i32,
    #[serde(deserialize_with = "or_default")]
    pub topic_filter_type: TopicFilterType,
    pub topic_name: String,
    pub topic_sys_flag: i32,
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: 6,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

impl TopicConfig {
    /// A topic with as many queues to read as to write.
    pub fn new(name: &str, queues: i32, perm: i32) -> Self {
        Self { topic_name: name.to_owned(), read_queue_nums: queues, write_queue_nums: queues, perm, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicFilterType {
    #[default]
    #[serde(rename = "SINGLE_TAG")]
    SingleTag,
    #[serde(rename = "MULTI_TAG")]
    MultiTag,
}

impl TopicFilterType {
    pub fn name(self) -> &'static str {
        match self {
            TopicFilterType::SingleTag => "SINGLE_TAG",
            TopicFilterType::MultiTag => "MULTI_TAG",
        }
    }
}

/// `config/topics.json`, the answer to `GetAllTopicConfig`, and part of a registration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicTable {
    #[serde(deserialize_with = "or_default")]
    pub data_version: DataVersion,
    #[serde(deserialize_with = "or_default")]
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    #[serde(deserialize_with = "or_default")]
    pub filter_server_list: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub topic_config_serialize_wrapper: TopicTable,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupConfig {
    #[serde(deserialize_with = "or_default")]
    pub attributes: BTreeMap<String, String>,
    pub broker_id: i64,
    pub consume_broadcast_enable: bool,
    pub consume_enable: bool,
    pub consume_from_min_enable: bool,
    pub consume_message_orderly: bool,
    pub consume_timeout_minute: i32,
    pub group_name: String,
    #[serde(deserialize_with = "or_default")]
    pub group_retry_policy: GroupRetryPolicy,
    pub group_sys_flag: i32,
    pub notify_consumer_ids_changed_enable: bool,
    pub retry_max_times: i32,
    pub retry_queue_nums: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<serde_json::Value>,
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// A group's retry policy; its parts are kept as they came, as only 5.x clients read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<serde_json::Value>,
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for GroupRetryPolicy {
    fn default() -> Self {
        Self { customized_retry_policy: None, exponential_retry_policy: None, kind: "CUSTOMIZED".into() }
    }
}

/// `config/subscriptionGroup.json` and the answer to `GetAllSubscriptionGroup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupTable {
    #[serde(deserialize_with = "or_default")]
    pub data_version: DataVersion,
    #[serde(deserialize_with = "or_default")]
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    #[serde(deserialize_with = "or_default")]
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

/// `config/consumerOffset.json` and the answer to `GetAllConsumerOffset`: `topic@group` to queue to offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsets {
    #[serde(deserialize_with = "or_default")]
    pub data_version: DataVersion,
    #[serde(deserialize_with = "or_default")]
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    #[serde(rename = "clientID")]
    pub client_id: String,
    #[serde(deserialize_with = "or_default")]
    pub consumer_data_set: Vec<ConsumerData>,
    pub heartbeat_fingerprint: i32,
    #[serde(deserialize_with = "or_default")]
    pub producer_data_set: Vec<ProducerData>,
    pub without_sub: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    pub group_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    #[serde(deserialize_with = "or_default")]
    pub consume_from_where: ConsumeFromWhere,
    #[serde(deserialize_with = "or_default")]
    pub consume_type: ConsumeType,
    pub group_name: String,
    #[serde(deserialize_with = "or_default")]
    pub message_model: MessageModel,
    #[serde(deserialize_with = "or_default")]
    pub subscription_data_set: Vec<SubscriptionData>,
    pub unit_mode: bool,
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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    #[serde(deserialize_with = "or_default")]
    pub broker_datas: Vec<BrokerData>,
    #[serde(deserialize_with = "or_default")]
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub queue_datas: Vec<QueueData>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    pub broker_name: String,
    pub perm: i32,
    pub read_queue_nums: i32,
    /// Up to 3.x the field was misspelt `topicSynFlag`.
    #[serde(alias = "topicSynFlag")]
    pub topic_sys_flag: i32,
    pub write_queue_nums: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    #[serde(deserialize_with = "or_default")]
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
    pub enable_acting_master: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    #[serde(deserialize_with = "or_default")]
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    #[serde(deserialize_with = "or_default")]
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroup {
    #[serde(deserialize_with = "or_default")]
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroupReply {
    #[serde(deserialize_with = "or_default")]
    pub broker_member_group: Option<BrokerMemberGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub topic_list: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    #[serde(deserialize_with = "or_default")]
    pub group_list: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KvTable {
    #[serde(deserialize_with = "or_default")]
    pub table: BTreeMap<String, String>,
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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStats {
    #[serde(deserialize_with = "or_default")]
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    pub topic_put_tps: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    pub last_update_timestamp: i64,
    pub max_offset: i64,
    pub min_offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    pub consume_tps: f64,
    #[serde(deserialize_with = "or_default")]
    pub offset_table: BTreeMap<MessageQueue, OffsetWrapper>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetWrapper {
    pub broker_offset: i64,
    pub consumer_offset: i64,
    pub last_timestamp: i64,
    pub pull_offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    pub client_addr: String,
    pub client_id: String,
    pub language: String,
    pub version: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    #[serde(deserialize_with = "or_default")]
    pub connection_set: Vec<Connection>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    #[serde(deserialize_with = "or_default")]
    pub connection_set: Vec<Connection>,
    #[serde(deserialize_with = "or_default")]
    pub consume_from_where: ConsumeFromWhere,
    #[serde(deserialize_with = "or_default")]
    pub consume_type: ConsumeType,
    #[serde(deserialize_with = "or_default")]
    pub message_model: MessageModel,
    #[serde(deserialize_with = "or_default")]
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// One producer as `GetAllProducerInfo` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerTable {
    #[serde(deserialize_with = "or_default")]
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// What a consumer asks before it starts: can this subscription be served? (Java: `CheckClientRequestBody`)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClient {
    #[serde(deserialize_with = "or_default")]
    pub client_id: String,
    #[serde(deserialize_with = "or_default")]
    pub group: String,
    pub subscription_data: Option<SubscriptionData>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerIdList {
    #[serde(deserialize_with = "or_default")]
    pub consumer_id_list: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatch {
    pub client_id: String,
    pub consumer_group: String,
    #[serde(deserialize_with = "or_default")]
    pub mq_set: Vec<QueueValue>,
    pub only_this_broker: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockBatchReply {
    #[serde(rename = "lockOKMQSet", deserialize_with = "or_default")]
    pub lock_ok_mq_set: Vec<QueueValue>,
}

/// The answer to `GetBrokerHaStatus` (Java: `HARuntimeInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaStatus {
    #[serde(deserialize_with = "or_default")]
    pub ha_client_runtime_info: HaMaster,
    #[serde(deserialize_with = "or_default")]
    pub ha_connection_info: Vec<HaSlave>,
    pub in_sync_slave_nums: i32,
    pub master: bool,
    pub master_commit_log_max_offset: i64,
}

/// A slave's connection with its master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaSlave {
    pub addr: String,
    pub diff: i64,
    pub in_sync: bool,
    pub slave_ack_offset: i64,
    pub transfer_from_where: i64,
    pub transferred_byte_in_second: i64,
}

/// The answer to `GetBrokerEpochCache` (Java: `EpochEntryCache`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochCache {
    pub broker_id: i64,
    pub broker_name: String,
    pub cluster_name: String,
    #[serde(deserialize_with = "or_default")]
    pub epoch_list: Vec<EpochEntry>,
    pub max_offset: i64,
}

/// From `start_offset` on the log is of an epoch. Java knows `epoch` and `startOffset` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochEntry {
    pub epoch: i64,
    pub master: String,
    pub restart: i64,
    pub start_offset: i64,
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
