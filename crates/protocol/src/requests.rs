//! The table of requests: from a row come the struct, how it is read from and written to a header, and its
//! code. Field names are those on the wire; a row that Java's class inherits from `RpcRequestHeader` may also
//! carry `ns`, `nsd`, `bname`, `oway` and `lo`, which are passed over.

use std::fmt::Display;

use crate::header::{Fields, Typed};

/// A row that a request's code belongs to.
pub trait Request<'h>: Typed<'h> {
    const CODE: i32;
    const NAME: &'static str;
    type Reply<'r>: Typed<'r>;
}

/// Why a request's fields can't be read; the text is the answer's remark.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    /// Java's own words.
    #[error("the custom field <{0}> is null")]
    Missing(&'static str),
    #[error("the custom field <{name}> is not {expected}: {value:?}")]
    Malformed { name: &'static str, expected: &'static str, value: String },
}

/// A type that a field can have.
pub trait Field<'h>: Sized {
    const EXPECTED: &'static str;
    fn parse(text: &'h str) -> Option<Self>;
    /// What a field that is not there means: an error, unless the field is optional.
    fn absent() -> Option<Self> {
        None
    }
    fn value(&self) -> Option<&dyn Display>;
}

impl<'h> Field<'h> for &'h str {
    const EXPECTED: &'static str = "a string";
    fn parse(text: &'h str) -> Option<Self> {
        Some(text)
    }
    fn value(&self) -> Option<&dyn Display> {
        Some(self)
    }
}

macro_rules! parsed_field {
    ($type:ty, $expected:literal) => {
        impl<'h> Field<'h> for $type {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &'h str) -> Option<Self> {
                text.parse().ok()
            }
            fn value(&self) -> Option<&dyn Display> {
                Some(self)
            }
        }
    };
}
parsed_field!(i32, "a 32-bit integer");
parsed_field!(i64, "a 64-bit integer");

/// As in Java, only `true` (in any case) is true, and nothing is malformed.
impl<'h> Field<'h> for bool {
    const EXPECTED: &'static str = "a boolean";
    fn parse(text: &'h str) -> Option<Self> {
        Some(text.eq_ignore_ascii_case("true"))
    }
    fn value(&self) -> Option<&dyn Display> {
        Some(self)
    }
}

impl<'h, T: Field<'h>> Field<'h> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn parse(text: &'h str) -> Option<Self> {
        T::parse(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn value(&self) -> Option<&dyn Display> {
        self.as_ref().and_then(T::value)
    }
}

/// Rows of names and their fields; several names may have the same.
macro_rules! headers {
    ($( $($(#[$doc:meta])* $name:ident $(<$lt:lifetime>)?),+ { $($fields:tt)* } )*) => {
        $( headers!(@each [$([$(#[$doc])* $name $(<$lt>)?])+] { $($fields)* }); )*
    };
    (@each [$([$($name:tt)+])+] $fields:tt) => { $( headers!(@one $($name)+ $fields); )+ };
    (@one $(#[$doc:meta])* $name:ident $(<$lt:lifetime>)? { $($field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name $(<$lt>)? { $(pub $field: $type,)* }

        impl<'h> Typed<'h> for headers!(@named 'h $name $(<$lt>)?) {
            #[allow(unused_variables, unused_mut)]
            fn read(fields: &'h Fields<'_>) -> Result<Self, FieldError> {
                $(let mut $field: Option<&'h str> = None;)*
                for (name, value) in fields {
                    match &**name {
                        $($wire => $field = Some(value),)*
                        _ => {}
                    }
                }
                Ok(Self { $($field: one_field($wire, $field)?,)* })
            }

            #[allow(unused_variables)]
            fn write(&self, put: &mut dyn FnMut(&str, &dyn Display)) {
                $(if let Some(value) = self.$field.value() { put($wire, value); })*
            }
        }
    };
    (@named $h:lifetime $name:ident <$lt:lifetime>) => { $name<$h> };
    (@named $h:lifetime $name:ident) => { $name };
}

fn one_field<'h, T: Field<'h>>(name: &'static str, value: Option<&'h str>) -> Result<T, FieldError> {
    match value {
        None => T::absent().ok_or(FieldError::Missing(name)),
        Some(text) => T::parse(text).ok_or_else(|| FieldError::Malformed {
            name,
            expected: T::EXPECTED,
            value: text.chars().take(40).collect(),
        }),
    }
}

/// `code name -> reply`, for structs that the `headers!` table defines.
macro_rules! requests {
    ($($code:literal $name:ident $(<$lt:lifetime>)? -> $reply:ty;)*) => {$(
        impl<'h> Request<'h> for headers!(@named 'h $name $(<$lt>)?) {
            const CODE: i32 = $code;
            const NAME: &'static str = stringify!($name);
            type Reply<'r> = $reply;
        }
    )*

        /// A request code's name in this table, for logs.
        pub fn name(code: i32) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

requests! {
    10 SendMessage<'a> -> SendMessageReply<'r>;
    11 PullMessage<'a> -> PullMessageReply;
    12 QueryMessage<'a> -> QueryMessageReply;
    14 QueryConsumerOffset<'a> -> OffsetReply;
    15 UpdateConsumerOffset<'a> -> ();
    17 CreateTopic<'a> -> ();
    18 CreateTopicList -> ();
    21 GetAllTopicConfig -> ();
    25 UpdateBrokerConfig -> ();
    26 GetBrokerConfig -> GetBrokerConfigReply<'r>;
    28 GetBrokerRuntimeInfo -> ();
    29 SearchOffset<'a> -> OffsetReply;
    30 GetMaxOffset<'a> -> OffsetReply;
    31 GetMinOffset<'a> -> OffsetReply;
    32 GetEarliestStoreTime<'a> -> TimestampReply;
    33 ViewMessage<'a> -> ();
    34 Heartbeat -> ();
    35 UnregisterClient<'a> -> ();
    36 ConsumerSendMsgBack<'a> -> ();
    37 EndTransaction<'a> -> ();
    38 GetConsumerListByGroup<'a> -> ();
    39 CheckTransactionState<'a> -> ();
    40 NotifyConsumerIdsChanged<'a> -> ();
    41 LockBatchMq -> ();
    42 UnlockBatchMq -> ();
    43 GetAllConsumerOffset -> ();
    45 GetAllDelayOffset -> ();
    46 CheckClientConfig -> ();
    60 GetTimerCheckPoint -> ();
    61 GetTimerMetrics -> ();
    100 PutKvConfig<'a> -> ();
    101 GetKvConfig<'a> -> GetKvConfigReply<'r>;
    102 DeleteKvConfig<'a> -> ();
    103 RegisterBroker<'a> -> RegisterBrokerReply<'r>;
    104 UnregisterBroker<'a> -> ();
    105 GetRouteInfo<'a> -> ();
    106 GetBrokerClusterInfo -> ();
    200 UpdateSubscriptionGroup -> ();
    201 GetAllSubscriptionGroup -> ();
    202 GetTopicStats<'a> -> ();
    203 GetConsumerConnectionList<'a> -> ();
    204 GetProducerConnectionList<'a> -> ();
    205 WipeWritePerm<'a> -> WipeWritePermReply;
    206 GetAllTopicList -> ();
    207 DeleteSubscriptionGroup<'a> -> ();
    208 GetConsumeStats<'a> -> ();
    215 DeleteTopicInBroker<'a> -> ();
    216 DeleteTopicInNamesrv<'a> -> ();
    217 RegisterTopic<'a> -> ();
    219 GetKvListByNamespace<'a> -> ();
    220 ResetConsumerClientOffset<'a> -> ();
    221 GetConsumerStatusFromClient<'a> -> ();
    222 ResetOffset<'a> -> ();
    223 GetConsumerStatus<'a> -> ();
    224 GetTopicsByCluster<'a> -> ();
    225 UpdateSubscriptionGroupList -> ();
    300 QueryTopicConsumeByWho<'a> -> ();
    303 QueryConsumeTimeSpan<'a> -> ();
    304 GetSystemTopicListFromNamesrv -> ();
    305 GetSystemTopicListFromBroker -> ();
    306 CleanExpiredConsumeQueue -> ();
    307 GetConsumerRunningInfo<'a> -> ();
    308 QueryCorrectionOffset<'a> -> ();
    309 ConsumeMessageDirectly<'a> -> ();
    310 SendMessageV2<'a> -> SendMessageReply<'r>;
    311 GetUnitTopicList -> ();
    312 GetHasUnitSubTopicList -> ();
    313 GetHasUnitSubUnunitTopicList -> ();
    314 CloneGroupOffset<'a> -> ();
    315 ViewBrokerStatsData<'a> -> ();
    316 CleanUnusedTopic -> ();
    317 GetBrokerConsumeStats -> ();
    318 UpdateNamesrvConfig -> ();
    319 GetNamesrvConfig -> ();
    320 SendBatchMessage<'a> -> SendMessageReply<'r>;
    321 QueryConsumeQueue<'a> -> ();
    322 QueryDataVersion<'a> -> QueryDataVersionReply;
    324 SendReplyMessage<'a> -> SendMessageReply<'r>;
    325 SendReplyMessageV2<'a> -> SendMessageReply<'r>;
    326 PushReplyMessage<'a> -> ();
    323 ResumeCheckHalfMessage<'a> -> ();
    327 AddWritePerm<'a> -> AddWritePermReply;
    328 GetAllProducerInfo -> ();
    329 DeleteExpiredCommitLog -> ();
    343 QueryTopicsByConsumer<'a> -> ();
    345 QuerySubscriptionByConsumer<'a> -> ();
    351 GetTopicConfig<'a> -> ();
    352 GetSubscriptionGroupConfig<'a> -> ();
    353 UpdateAndGetGroupForbidden<'a> -> ();
    361 LitePullMessage<'a> -> PullMessageReply;
    370 RecallMessage<'a> -> RecallMessageReply<'r>;
    400 QueryAssignment -> ();
    401 SetMessageRequestMode -> ();
    402 GetAllMessageRequestMode -> ();
    901 GetBrokerMemberGroup<'a> -> ();
    904 BrokerHeartbeat<'a> -> ();
    906 ExchangeBrokerHaInfo<'a> -> ExchangeBrokerHaInfo<'r>;
    907 GetBrokerHaStatus -> ();
    1007 GetBrokerEpochCache -> ();
    30901 PromoteSlave<'a> -> PromoteSlaveReply;
    200050 PopMessage<'a> -> PopMessageReply<'r>;
    200051 AckMessage<'a> -> ();
    200052 PeekMessage<'a> -> PopMessageReply<'r>;
    200053 ChangeInvisibleTime<'a> -> ChangeInvisibleTimeReply;
    200054 Notification<'a> -> NotificationReply;
    200055 PollingInfo<'a> -> PollingInfoReply;
    200151 BatchAckMessage -> ();
}

headers! {
    SendMessage<'a>,
    /// A consumer's answer to a request message.
    SendReplyMessage<'a> {
        producer_group: &'a str = "producerGroup", topic: &'a str = "topic", default_topic: &'a str = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums", queue_id: i32 = "queueId", sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp", flag: i32 = "flag", properties: Option<&'a str> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes", unit_mode: Option<bool> = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes", batch: Option<bool> = "batch",
    }
    /// The fields of [`SendMessage`] under one-letter names: what clients send unless told otherwise.
    SendMessageV2<'a>,
    /// The body holds several messages (see [`crate::batch`]).
    SendBatchMessage<'a>,
    /// [`SendReplyMessage`] under one-letter names.
    SendReplyMessageV2<'a> {
        producer_group: &'a str = "a", topic: &'a str = "b", default_topic: &'a str = "c",
        default_topic_queue_nums: i32 = "d", queue_id: i32 = "e", sys_flag: i32 = "f", born_timestamp: i64 = "g",
        flag: i32 = "h", properties: Option<&'a str> = "i", reconsume_times: Option<i32> = "j",
        unit_mode: Option<bool> = "k", max_reconsume_times: Option<i32> = "l", batch: Option<bool> = "m",
    }
    /// A reply on its way to the producer that asked for it.
    PushReplyMessage<'a> {
        producer_group: &'a str = "producerGroup", topic: &'a str = "topic", default_topic: &'a str = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums", queue_id: i32 = "queueId", sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp", flag: i32 = "flag", properties: Option<&'a str> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes", unit_mode: bool = "unitMode", born_host: &'a str = "bornHost",
        store_host: &'a str = "storeHost", store_timestamp: i64 = "storeTimestamp",
    }
    SendMessageReply<'a> {
        msg_id: &'a str = "msgId", queue_id: i32 = "queueId", queue_offset: i64 = "queueOffset",
        transaction_id: Option<&'a str> = "transactionId", batch_uniq_id: Option<&'a str> = "batchUniqId",
        recall_handle: Option<&'a str> = "recallHandle",
    }
    PullMessage<'a>,
    /// Sent by lite pull consumers.
    LitePullMessage<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset", max_msg_nums: i32 = "maxMsgNums", sys_flag: i32 = "sysFlag",
        commit_offset: i64 = "commitOffset", suspend_timeout_millis: i64 = "suspendTimeoutMillis",
        subscription: Option<&'a str> = "subscription", sub_version: i64 = "subVersion",
        expression_type: Option<&'a str> = "expressionType", max_msg_bytes: Option<i32> = "maxMsgBytes",
    }
    PullMessageReply {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId", next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset", max_offset: i64 = "maxOffset",
        topic_sys_flag: Option<i32> = "topicSysFlag", group_sys_flag: Option<i32> = "groupSysFlag",
    }
    QueryConsumerOffset<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
    OffsetReply { offset: i64 = "offset" }
    TimestampReply { timestamp: i64 = "timestamp" }
    QueryMessageReply {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }
    UpdateConsumerOffset<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        commit_offset: i64 = "commitOffset",
    }
    CreateTopic<'a> {
        topic: &'a str = "topic", default_topic: &'a str = "defaultTopic", read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums", perm: i32 = "perm", topic_filter_type: &'a str = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag", order: bool = "order", attributes: Option<&'a str> = "attributes",
    }
    GetAllTopicConfig {}
    /// The body is a [`crate::bodies::TopicConfigList`].
    CreateTopicList {}
    GetAllConsumerOffset {}
    GetAllDelayOffset {}
    GetAllSubscriptionGroup {}
    UpdateBrokerConfig {}
    GetBrokerConfig {}
    GetBrokerConfigReply<'a> { version: &'a str = "version" }
    GetBrokerRuntimeInfo {}
    SearchOffset<'a> {
        topic: &'a str = "topic", queue_id: i32 = "queueId", timestamp: i64 = "timestamp",
        boundary_type: Option<&'a str> = "boundaryType",
    }
    GetMaxOffset<'a>, GetMinOffset<'a>, GetEarliestStoreTime<'a> { topic: &'a str = "topic", queue_id: i32 = "queueId" }
    QueryMessage<'a> {
        topic: &'a str = "topic", key: &'a str = "key", max_num: i32 = "maxNum", begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp", unique_key: Option<&'a str> = "_UNIQUE_KEY_QUERY",
    }
    ViewMessage<'a> { topic: Option<&'a str> = "topic", offset: i64 = "offset" }
    Heartbeat {}
    /// The body is a `CheckClientRequestBody`.
    CheckClientConfig {}
    UnregisterClient<'a> {
        client_id: &'a str = "clientID", producer_group: Option<&'a str> = "producerGroup",
        consumer_group: Option<&'a str> = "consumerGroup",
    }
    ConsumerSendMsgBack<'a> {
        offset: i64 = "offset", group: &'a str = "group", delay_level: i32 = "delayLevel",
        origin_msg_id: Option<&'a str> = "originMsgId", origin_topic: Option<&'a str> = "originTopic",
        unit_mode: Option<bool> = "unitMode", max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
    EndTransaction<'a> {
        topic: Option<&'a str> = "topic", producer_group: Option<&'a str> = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset", commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback", from_transaction_check: Option<bool> = "fromTransactionCheck",
        msg_id: &'a str = "msgId", transaction_id: Option<&'a str> = "transactionId",
    }
    CheckTransactionState<'a> {
        topic: Option<&'a str> = "topic", tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset", msg_id: Option<&'a str> = "msgId",
        transaction_id: Option<&'a str> = "transactionId", offset_msg_id: Option<&'a str> = "offsetMsgId",
        broker_name: Option<&'a str> = "bname",
    }
    /// The body of its answer is Java's `TimerCheckpoint`.
    GetTimerCheckPoint {}
    GetTimerMetrics {}
    RecallMessage<'a> {
        producer_group: Option<&'a str> = "producerGroup", topic: &'a str = "topic",
        recall_handle: &'a str = "recallHandle",
    }
    RecallMessageReply<'a> { msg_id: &'a str = "msgId" }
    GetConsumerListByGroup<'a> { consumer_group: &'a str = "consumerGroup" }
    NotifyConsumerIdsChanged<'a> { consumer_group: &'a str = "consumerGroup" }
    LockBatchMq {}
    UnlockBatchMq {}
    PutKvConfig<'a> { namespace: &'a str = "namespace", key: &'a str = "key", value: &'a str = "value" }
    GetKvConfig<'a>, DeleteKvConfig<'a> { namespace: &'a str = "namespace", key: &'a str = "key" }
    GetKvConfigReply<'a> { value: Option<&'a str> = "value" }
    RegisterBroker<'a> {
        broker_name: &'a str = "brokerName", broker_addr: &'a str = "brokerAddr", cluster_name: &'a str = "clusterName",
        ha_server_addr: &'a str = "haServerAddr", broker_id: i64 = "brokerId",
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster", compressed: Option<bool> = "compressed",
        body_crc32: Option<i32> = "bodyCrc32",
        // Of Ferrocket alone; Java's name servers pass it over.
        advertised_addresses: Option<&'a str> = "advertisedAddresses",
    }
    RegisterBrokerReply<'a> { ha_server_addr: Option<&'a str> = "haServerAddr", master_addr: Option<&'a str> = "masterAddr" }
    UnregisterBroker<'a>, QueryDataVersion<'a> {
        broker_name: &'a str = "brokerName", broker_addr: &'a str = "brokerAddr", cluster_name: &'a str = "clusterName",
        broker_id: i64 = "brokerId",
    }
    GetRouteInfo<'a> { topic: &'a str = "topic", accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly" }
    GetBrokerClusterInfo {}
    UpdateSubscriptionGroup {}
    /// The body is a [`crate::bodies::GroupConfigList`].
    UpdateSubscriptionGroupList {}
    GetTopicStats<'a> { topic: &'a str = "topic" }
    GetConsumerConnectionList<'a> { consumer_group: &'a str = "consumerGroup" }
    GetProducerConnectionList<'a> { producer_group: &'a str = "producerGroup" }
    WipeWritePerm<'a> { broker_name: &'a str = "brokerName" }
    WipeWritePermReply { wipe_topic_count: i32 = "wipeTopicCount" }
    AddWritePerm<'a> { broker_name: &'a str = "brokerName" }
    AddWritePermReply { add_topic_count: i32 = "addTopicCount" }
    GetAllTopicList {}
    DeleteSubscriptionGroup<'a> { group_name: &'a str = "groupName", clean_offset: Option<bool> = "cleanOffset" }
    GetConsumeStats<'a> {
        consumer_group: &'a str = "consumerGroup", topic: Option<&'a str> = "topic", topic_list: Option<&'a str> = "topicList",
    }
    DeleteTopicInBroker<'a> { topic: &'a str = "topic" }
    DeleteTopicInNamesrv<'a> { topic: &'a str = "topic", cluster_name: Option<&'a str> = "clusterName" }
    GetKvListByNamespace<'a> { namespace: &'a str = "namespace" }
    RegisterTopic<'a> { topic: &'a str = "topic" }
    GetTopicsByCluster<'a> { cluster: &'a str = "cluster" }
    /// What the broker tells a client to do: move to the offsets in the body.
    ResetConsumerClientOffset<'a> {
        topic: &'a str = "topic", group: &'a str = "group", timestamp: i64 = "timestamp", is_force: bool = "isForce",
    }
    GetConsumerStatusFromClient<'a> { topic: &'a str = "topic", group: &'a str = "group" }
    /// Without `queueId` (or with one below 0), all queues; `offset` counts only with a queue.
    ResetOffset<'a> {
        topic: &'a str = "topic", group: &'a str = "group", queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset", timestamp: i64 = "timestamp", is_force: bool = "isForce",
    }
    /// `clientAddr` is a client's id; without it, all clients are asked.
    GetConsumerStatus<'a> {
        topic: &'a str = "topic", group: &'a str = "group", client_addr: Option<&'a str> = "clientAddr",
    }
    QueryConsumeTimeSpan<'a> { topic: &'a str = "topic", group: &'a str = "group" }
    /// `filterGroups` are joined by commas.
    QueryCorrectionOffset<'a> {
        topic: &'a str = "topic", filter_groups: Option<&'a str> = "filterGroups", compare_group: &'a str = "compareGroup",
    }
    /// The client's answer comes back; see [`crate::bodies::ConsumeResult`].
    ConsumeMessageDirectly<'a> {
        consumer_group: &'a str = "consumerGroup", client_id: Option<&'a str> = "clientId",
        msg_id: Option<&'a str> = "msgId", topic: Option<&'a str> = "topic",
    }
    CloneGroupOffset<'a> {
        src_group: &'a str = "srcGroup", dest_group: &'a str = "destGroup", topic: Option<&'a str> = "topic",
        offline: Option<bool> = "offline",
    }
    ViewBrokerStatsData<'a> { stats_name: &'a str = "statsName", stats_key: &'a str = "statsKey" }
    CleanExpiredConsumeQueue {}
    CleanUnusedTopic {}
    DeleteExpiredCommitLog {}
    GetBrokerConsumeStats { is_order: bool = "isOrder" }
    QueryConsumeQueue<'a> {
        topic: &'a str = "topic", queue_id: i32 = "queueId", index: i64 = "index", count: i32 = "count",
        consumer_group: Option<&'a str> = "consumerGroup",
    }
    ResumeCheckHalfMessage<'a> { topic: Option<&'a str> = "topic", msg_id: Option<&'a str> = "msgId" }
    QuerySubscriptionByConsumer<'a> { group: &'a str = "group", topic: Option<&'a str> = "topic" }
    /// Without `readable`, nothing is changed.
    UpdateAndGetGroupForbidden<'a> {
        group: &'a str = "group", topic: &'a str = "topic", readable: Option<bool> = "readable",
    }
    QueryTopicConsumeByWho<'a> { topic: &'a str = "topic" }
    QueryTopicsByConsumer<'a> { group: &'a str = "group" }
    GetSystemTopicListFromNamesrv {}
    GetSystemTopicListFromBroker {}
    GetConsumerRunningInfo<'a> {
        consumer_group: &'a str = "consumerGroup", client_id: &'a str = "clientId", jstack_enable: Option<bool> = "jstackEnable",
    }
    GetUnitTopicList {}
    GetHasUnitSubTopicList {}
    GetHasUnitSubUnunitTopicList {}
    UpdateNamesrvConfig {}
    GetNamesrvConfig {}
    GetAllProducerInfo {}
    QueryDataVersionReply { changed: bool = "changed" }
    GetTopicConfig<'a> { topic: &'a str = "topic" }
    GetSubscriptionGroupConfig<'a> { group: &'a str = "group" }
    GetBrokerMemberGroup<'a> { cluster_name: &'a str = "clusterName", broker_name: &'a str = "brokerName" }
    /// Asks a master where its log is, or tells a slave where its master's is.
    ExchangeBrokerHaInfo<'a> {
        master_ha_address: Option<&'a str> = "masterHaAddress", master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<&'a str> = "masterAddress",
    }
    GetBrokerHaStatus {}
    /// The epochs of a broker's log; the answer's body is a `bodies::EpochCache`.
    GetBrokerEpochCache {}
    /// Ferrocket's own: makes a slave the master of its group.
    PromoteSlave<'a> { broker_role: Option<&'a str> = "brokerRole", force: Option<bool> = "force" }
    PromoteSlaveReply { epoch: i64 = "epoch", start_offset: i64 = "startOffset" }
    BrokerHeartbeat<'a> {
        cluster_name: &'a str = "clusterName", broker_addr: &'a str = "brokerAddr", broker_name: &'a str = "brokerName",
        broker_id: Option<i64> = "brokerId",
    }
    /// The body is an `AssignmentQuery`.
    QueryAssignment {}
    /// The body is a `GroupMode`.
    SetMessageRequestMode {}
    GetAllMessageRequestMode {}
    PopMessage<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums", invisible_time: i64 = "invisibleTime", poll_time: i64 = "pollTime",
        born_time: Option<i64> = "bornTime", init_mode: i32 = "initMode", exp_type: Option<&'a str> = "expType",
        exp: Option<&'a str> = "exp", order: Option<bool> = "order", attempt_id: Option<&'a str> = "attemptId",
    }
    PopMessageReply<'a> {
        pop_time: i64 = "popTime", invisible_time: i64 = "invisibleTime", revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum", start_offset_info: Option<&'a str> = "startOffsetInfo",
        msg_offset_info: Option<&'a str> = "msgOffsetInfo", order_count_info: Option<&'a str> = "orderCountInfo",
    }
    PeekMessage<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
    }
    AckMessage<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        extra_info: &'a str = "extraInfo", offset: i64 = "offset",
    }
    /// The body is a `BatchAckBody`.
    BatchAckMessage {}
    ChangeInvisibleTime<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        extra_info: &'a str = "extraInfo", offset: i64 = "offset", invisible_time: i64 = "invisibleTime",
    }
    ChangeInvisibleTimeReply {
        pop_time: i64 = "popTime", invisible_time: i64 = "invisibleTime", revive_qid: i32 = "reviveQid",
    }
    Notification<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
        poll_time: i64 = "pollTime", born_time: Option<i64> = "bornTime", order: Option<bool> = "order",
        attempt_id: Option<&'a str> = "attemptId",
    }
    NotificationReply { has_msg: bool = "hasMsg", polling_full: bool = "pollingFull" }
    PollingInfo<'a> {
        consumer_group: &'a str = "consumerGroup", topic: &'a str = "topic", queue_id: i32 = "queueId",
    }
    PollingInfoReply { polling_num: i32 = "pollingNum" }
}

/// Rows with the same fields under other wire names or codes turn into the one that is worked with.
macro_rules! same_fields {
    ($($from:ident),+ => $to:ident $fields:tt) => { $(same_fields!(@one $from $to $fields);)+ };
    (@one $from:ident $to:ident { $($field:ident),* $(,)? }) => {
        impl<'a> From<$from<'a>> for $to<'a> {
            fn from(from: $from<'a>) -> Self {
                let $from { $($field),* } = from;
                $to { $($field),* }
            }
        }
    };
}

same_fields!(SendMessageV2, SendBatchMessage, SendReplyMessage, SendReplyMessageV2 => SendMessage {
    producer_group, topic, default_topic, default_topic_queue_nums, queue_id, sys_flag, born_timestamp, flag, properties,
    reconsume_times, unit_mode, max_reconsume_times, batch,
});

same_fields!(LitePullMessage => PullMessage {
    consumer_group, topic, queue_id, queue_offset, max_msg_nums, sys_flag, commit_offset, suspend_timeout_millis, subscription,
    sub_version, expression_type, max_msg_bytes,
});
