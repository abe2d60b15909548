//! What consumers say of themselves, and what they can be told.

use std::collections::{BTreeMap, BTreeSet};

use protocol::bodies::{ConsumeResult, MessageQueue, SubscriptionData};
use protocol::fastjson;
use protocol::pop::GroupMode;
use protocol::requests::{ConsumeMessageDirectly, GetConsumerRunningInfo, SetMessageRequestMode};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Access, Error, TIMEOUT, group};

/// A consumer's answer about itself (Java: `ConsumerRunningInfo`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunningInfo {
    #[serde(deserialize_with = "texts")]
    pub properties: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub subscription_set: Vec<SubscriptionData>,
    #[serde(deserialize_with = "or_default")]
    pub mq_table: BTreeMap<MessageQueue, ProcessQueue>,
    #[serde(deserialize_with = "or_default")]
    pub mq_pop_table: BTreeMap<MessageQueue, PopProcessQueue>,
    #[serde(deserialize_with = "or_default")]
    pub status_table: BTreeMap<String, Status>,
    #[serde(deserialize_with = "or_default")]
    pub user_consumer_info: BTreeMap<String, String>,
    /// The stacks of its threads, where they were asked for.
    pub jstack: Option<String>,
}

/// A queue that a consumer holds; times in ms.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessQueue {
    pub commit_offset: i64,
    pub cached_msg_min_offset: i64,
    pub cached_msg_max_offset: i64,
    pub cached_msg_count: i64,
    pub cached_msg_size_in_mi_b: i64,
    pub transaction_msg_min_offset: i64,
    pub transaction_msg_max_offset: i64,
    pub transaction_msg_count: i64,
    pub locked: bool,
    pub try_unlock_times: i64,
    pub last_lock_timestamp: i64,
    pub droped: bool,
    pub last_pull_timestamp: i64,
    pub last_consume_timestamp: i64,
}

/// A queue from which a consumer pops.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PopProcessQueue {
    pub wait_ack_count: i64,
    pub droped: bool,
    pub last_pop_timestamp: i64,
}

/// How fast a consumer is with a topic.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    #[serde(rename = "pullRT")]
    pub pull_rt: f64,
    #[serde(rename = "pullTPS")]
    pub pull_tps: f64,
    #[serde(rename = "consumeRT")]
    pub consume_rt: f64,
    #[serde(rename = "consumeOKTPS")]
    pub consume_ok_tps: f64,
    #[serde(rename = "consumeFailedTPS")]
    pub consume_failed_tps: f64,
    #[serde(rename = "consumeFailedMsgs")]
    pub consume_failed_msgs: i64,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Properties as text: some clients write numbers and booleans bare.
fn texts<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = Option::<BTreeMap<String, serde_json::Value>>::deserialize(d)?.unwrap_or_default();
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(values.into_iter().map(|(name, value)| (name, text(value))).collect())
}

impl RunningInfo {
    /// Whether it is a push consumer; `None` where it does not say.
    pub fn is_push(&self) -> bool {
        self.properties.get("PROP_CONSUME_TYPE").is_some_and(|kind| kind == "CONSUME_PASSIVELY")
    }

    fn is_orderly(&self) -> bool {
        self.properties.get("PROP_CONSUMEORDERLY").is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    fn started(&self) -> i64 {
        self.properties.get("PROP_CONSUMER_START_TIMESTAMP").and_then(|ms| ms.parse().ok()).unwrap_or(0)
    }

    fn subscriptions(&self) -> BTreeSet<(&str, &str)> {
        self.subscription_set.iter().map(|s| (s.topic.as_str(), s.sub_string.as_str())).collect()
    }

    /// What is wrong with its queues, a line each: locks that it can't get or give back, messages that wait for a minute.
    pub fn troubles(&self, client_id: &str, now: i64, show: impl Fn(&MessageQueue) -> String) -> Vec<String> {
        const STUCK_MS: i64 = 60_000;
        let trouble = |(queue, held): (&MessageQueue, &ProcessQueue)| {
            let queue = show(queue);
            let idle = now - held.last_consume_timestamp;
            if self.is_orderly() && !held.locked {
                Some(format!("{client_id} {queue} can't lock for a while, {}ms", now - held.last_lock_timestamp))
            } else if self.is_orderly() && held.droped && held.try_unlock_times > 0 {
                Some(format!("{client_id} {queue} unlock {} times, still failed", held.try_unlock_times))
            } else if !self.is_orderly() && idle > STUCK_MS && held.cached_msg_count > 0 {
                Some(format!("{client_id} {queue} can't consume for a while, maybe blocked, {idle}ms"))
            } else {
                None
            }
        };
        if self.is_push() { self.mq_table.iter().filter_map(trouble).collect() } else { Vec::new() }
    }
}

/// Whether push consumers of one group subscribe to the same. Those that have just started may differ for two minutes.
pub fn subscribe_the_same(infos: &BTreeMap<String, RunningInfo>, now: i64) -> bool {
    const SETTLING_MS: i64 = 120_000;
    let Some(first) = infos.values().next() else { return true };
    let settled = first.is_push() && now - first.started() > SETTLING_MS;
    !settled || infos.values().all(|info| info.subscriptions() == first.subscriptions())
}

/// Asks a consumer about itself, through the first of the group's brokers that it answers.
pub async fn running_info(access: &Access, group: &str, client_id: &str, jstack: bool) -> Result<RunningInfo, Error> {
    let request = GetConsumerRunningInfo { consumer_group: group, client_id, jstack_enable: Some(jstack) };
    let mut refused = Error::NotOnline { kind: "consumer", group: group.to_owned() };
    for broker in group::brokers(access, group).await? {
        match access.pool.call(&broker, &request, &[], super::STATS_TIMEOUT).await {
            Ok(answer) => return Ok(answer.json()?),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// Has one consumer consume a message, which the broker at `address` has stored.
pub async fn consume_directly(
    access: &Access,
    address: &str,
    group: &str,
    client_id: &str,
    topic: &str,
    offset_msg_id: &str,
) -> Result<ConsumeResult, Error> {
    let request = ConsumeMessageDirectly {
        consumer_group: group,
        client_id: Some(client_id),
        msg_id: Some(offset_msg_id),
        topic: Some(topic),
    };
    Ok(access.pool.call(address, &request, &[], super::STATS_TIMEOUT).await?.json()?)
}

/// Says on a broker how a group gets a topic's messages.
pub async fn set_mode(access: &Access, broker: &str, mode: &GroupMode) -> Result<(), Error> {
    access.pool.call(broker, &SetMessageRequestMode {}, &fastjson::to_vec(mode), TIMEOUT).await?;
    Ok(())
}
