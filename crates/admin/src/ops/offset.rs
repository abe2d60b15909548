//! Where consumer groups are in their queues, and moving them.

use std::collections::BTreeMap;

use protocol::bodies::{ConsumeStats, MessageQueue, OffsetWrapper, ResetOffsets, TopicRouteData, TopicStats};
use protocol::requests::{GetConsumeStats, GetTopicStats, ResetOffset, UpdateConsumerOffset};
use protocol::{codes, names};
use serde::Serialize;

use super::message::{self, QueueAt};
use super::{Access, Error, STATS_TIMEOUT, TIMEOUT, any_address, group, namesrv};

/// Stands for the newest message, as a time.
pub const NEWEST: i64 = -1;

/// Which group is to go where: to the first message of a topic that was stored at `timestamp` (ms) or later.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub timestamp: i64,
    /// Also forward; else only back.
    pub force: bool,
    /// For a light queue, the topic above it.
    pub cluster: Option<&'a str>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The brokers did it, or told the consumers.
    ByBroker(BTreeMap<MessageQueue, i64>),
    /// An older broker does it for groups alone that are online: the offsets were committed in the group's name.
    Committed(Vec<Rollback>),
}

/// One queue whose offset was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    pub broker_name: String,
    pub queue_id: i32,
    pub broker_offset: i64,
    pub consumer_offset: i64,
    pub timestamp_offset: i64,
    pub rollback_offset: i64,
}

/// Moves a group on all brokers of the topic.
pub async fn reset(access: &Access, to: &Move<'_>) -> Result<Moved, Error> {
    let light = to.topic.starts_with(names::LMQ_PREFIX);
    let route = namesrv::route(access, to.cluster.filter(|_| light).unwrap_or(to.topic)).await?;
    let mut all = BTreeMap::new();
    for address in route.broker_datas.iter().filter_map(any_address) {
        let request = ResetOffset {
            topic: to.topic,
            group: to.group,
            timestamp: to.timestamp,
            is_force: to.force,
            ..ResetOffset::default()
        };
        match access.pool.call(address, &request, &[], TIMEOUT).await {
            Ok(answer) => all.extend(answer.json::<ResetOffsets>()?.offset_table),
            Err(error) if error.code() == Some(codes::CONSUMER_NOT_ONLINE) => {
                return commit_all(access, &route, to).await.map(Moved::Committed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Moved::ByBroker(all))
}

async fn commit_all(access: &Access, route: &TopicRouteData, to: &Move<'_>) -> Result<Vec<Rollback>, Error> {
    let mut done = Vec::new();
    for broker in &route.broker_datas {
        let Some(address) = any_address(broker) else { continue };
        let request = GetConsumeStats { consumer_group: to.group, topic: None, topic_list: None };
        let stats: ConsumeStats = access.pool.call(address, &request, &[], STATS_TIMEOUT).await?.json()?;
        let mut queues: BTreeMap<MessageQueue, OffsetWrapper> =
            stats.offset_table.into_iter().filter(|(queue, _)| queue.topic == to.topic).collect();
        if queues.is_empty() {
            let stats: TopicStats = access.pool.call(address, &GetTopicStats { topic: to.topic }, &[], TIMEOUT).await?.json()?;
            let never = |offset: protocol::bodies::TopicOffset| OffsetWrapper {
                broker_offset: offset.max_offset,
                consumer_offset: offset.min_offset,
                ..OffsetWrapper::default()
            };
            queues = stats.offset_table.into_iter().map(|(queue, offset)| (queue, never(offset))).collect();
        }
        for (queue, offsets) in queues {
            done.push(commit_one(access, to, QueueAt { queue, address: address.to_owned() }, &offsets).await?);
        }
    }
    Ok(done)
}

async fn commit_one(access: &Access, to: &Move<'_>, at: QueueAt, offsets: &OffsetWrapper) -> Result<Rollback, Error> {
    let timestamp_offset = match to.timestamp {
        NEWEST => message::max_offset(access, &at).await?,
        time => message::search_offset(access, &at, time).await?,
    };
    let moves = to.force || timestamp_offset <= offsets.consumer_offset;
    if moves {
        commit(access, &at.address, to.group, &at.queue, timestamp_offset).await?;
    }
    Ok(Rollback {
        broker_name: at.queue.broker_name,
        queue_id: at.queue.queue_id,
        broker_offset: offsets.broker_offset,
        consumer_offset: offsets.consumer_offset,
        timestamp_offset,
        rollback_offset: if moves { timestamp_offset } else { offsets.consumer_offset },
    })
}

async fn commit(access: &Access, address: &str, group: &str, queue: &MessageQueue, offset: i64) -> Result<(), Error> {
    let request =
        UpdateConsumerOffset { consumer_group: group, topic: &queue.topic, queue_id: queue.queue_id, commit_offset: offset };
    access.pool.call(address, &request, &[], TIMEOUT).await?;
    Ok(())
}

/// Moves a group in one queue of a broker.
pub async fn reset_queue(access: &Access, group: &str, at: &QueueAt, offset: i64) -> Result<(), Error> {
    commit(access, &at.address, group, &at.queue, offset).await?;
    // Brokers that know no queue in this request take it for all queues: to them it says to stay where they are.
    let request = ResetOffset {
        topic: &at.queue.topic,
        group,
        queue_id: Some(at.queue.queue_id),
        offset: Some(offset),
        timestamp: NEWEST,
        is_force: false,
    };
    match access.pool.call(&at.address, &request, &[], TIMEOUT).await {
        Err(error) if error.code() == Some(codes::CONSUMER_NOT_ONLINE) => Ok(()),
        answered => {
            answered?;
            Ok(())
        }
    }
}

/// Commits in a group's name the offsets that another group has in a topic.
pub async fn clone_group(access: &Access, from: &str, to: &str, topic: &str) -> Result<(), Error> {
    let stats = group::consume_stats(access, from, None, None).await?;
    let route = namesrv::route(access, topic).await?;
    for (queue, offsets) in stats.offset_table {
        let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queue.broker_name);
        if let Some(address) = broker.and_then(any_address).filter(|_| queue.topic == topic) {
            commit(access, address, to, &queue, offsets.consumer_offset).await?;
        }
    }
    Ok(())
}
