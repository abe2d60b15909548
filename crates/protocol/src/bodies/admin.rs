//! Bodies of requests that tools make.

use std::collections::BTreeMap;

use super::{ConsumeStats, MessageQueue, QueueValue, SubscriptionData, SubscriptionGroupConfig, TopicConfig, bodies};

bodies! {
    /// Offsets by queue: what a group was moved to.
    pub struct ResetOffsets {
        pub offset_table: BTreeMap<MessageQueue, i64>,
    }

    /// [`ResetOffsets`] for clients in C++, which read no object as a key.
    pub struct ResetOffsetsForCpp {
        pub offset_table: Vec<QueueOffset>,
    }

    pub struct QueueOffset {
        pub broker_name: String,
        pub offset: i64,
        pub queue_id: i32,
        pub topic: String,
    }

    /// How far clients are in their queues: one client's own answer, or those of all by client id.
    pub struct ConsumerStatus {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub consumer_table: Option<BTreeMap<String, BTreeMap<MessageQueue, i64>>>,
        pub message_queue_table: BTreeMap<MessageQueue, i64>,
    }

    /// What a client did with a message that it was told to consume.
    pub struct ConsumeResult {
        pub auto_commit: bool,
        /// `CR_SUCCESS`, `CR_LATER`, `CR_ROLLBACK`, `CR_COMMIT`, `CR_THROW_EXCEPTION` or `CR_RETURN_NULL`.
        pub consume_result: Option<String>,
        pub order: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub remark: Option<String>,
        pub spent_time_mills: i64,
    }

    /// The progress of all groups of a broker: each group with its topics.
    pub struct ConsumeStatsList {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub broker_addr: Option<String>,
        pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
        pub total_diff: i64,
        pub total_inflight_diff: i64,
    }

    /// A figure over the last minute, hour and day.
    pub struct StatsData {
        pub stats_day: StatsItem,
        pub stats_hour: StatsItem,
        pub stats_minute: StatsItem,
    }

    /// The sum of what was counted, how much that is a second, and how much each time that something was.
    pub struct StatsItem {
        pub avgpt: f64,
        pub sum: i64,
        pub tps: f64,
    }

    pub struct ConsumeTimeSpans {
        pub consume_time_span_set: Vec<QueueTimeSpan>,
    }

    /// Store times of a queue's first and last message and of the last that a group has consumed, and how long the next
    /// one waits for it; all in ms.
    pub struct QueueTimeSpan {
        pub consume_time_stamp: i64,
        pub delay_time: i64,
        pub max_time_stamp: i64,
        pub message_queue: QueueValue,
        pub min_time_stamp: i64,
    }

    /// Queue to offset.
    pub struct CorrectionOffsets {
        pub correction_offsets: BTreeMap<i32, i64>,
    }

    /// A piece of a consume queue.
    pub struct QueueEntries {
        /// What the broker has to say about the group's filter.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub filter_data: Option<String>,
        pub max_queue_index: i64,
        pub min_queue_index: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub queue_data: Option<Vec<QueueEntry>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub subscription_data: Option<SubscriptionData>,
    }

    /// An entry of a consume queue; the texts are of Java's extended queue.
    pub struct QueueEntry {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bit_map: Option<String>,
        pub eval: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub extend_data_json: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub msg: Option<String>,
        pub physic_offset: i64,
        pub physic_size: i32,
        pub tags_code: i64,
    }

    pub struct GroupSubscription {
        pub group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub subscription_data: Option<SubscriptionData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub topic: Option<String>,
    }

    /// Whether a group may read a topic.
    pub struct GroupForbidden {
        pub group: String,
        pub readable: bool,
        pub topic: String,
    }

    pub struct TopicConfigList {
        pub topic_config_list: Vec<TopicConfig>,
    }

    pub struct GroupConfigList {
        pub group_config_list: Vec<SubscriptionGroupConfig>,
    }
}
