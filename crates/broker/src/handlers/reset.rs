//! Moving consumer groups: to a time, to an offset, to where another group is.

use std::collections::BTreeMap;

use protocol::bodies::{CorrectionOffsets, MessageQueue, QueueOffset, ResetOffsets, ResetOffsetsForCpp, TopicConfig};
use protocol::exchange::{Call, Refusal};
use protocol::header::Language;
use protocol::requests::{CloneGroupOffset, QueryCorrectionOffset, ResetConsumerClientOffset, ResetOffset};
use protocol::{codes, fastjson};
use store::Boundary;

use crate::Broker;
use crate::asked::require_version;
use crate::handlers::Handled;
use crate::handlers::topics::message_queue;

/// Stands for "no offset" and for "the newest message", as a time.
const NONE: i64 = -1;

/// INVOKE_BROKER_TO_RESET_OFFSET. The broker moves the group itself, and its consumers learn of it by their next pulls; or,
/// with `useServerSideResetOffset=false` as brokers up to 5.0 do, each consumer is told to move and commits later.
pub fn reset_offset(broker: &Broker, call: &mut Call<'_>, request: ResetOffset<'_>) -> Handled {
    if broker.is_slave() {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "Can not reset offset in slave broker"));
    }
    tracing::info!(
        "{} resets group {} in topic {} to time {} or offset {:?} of queue {:?}",
        call.connection.remote,
        request.group,
        request.topic,
        request.timestamp,
        request.offset,
        request.queue_id
    );
    let offset_table = match broker.config().use_server_side_reset_offset {
        true => move_group(broker, call.now, &request)?,
        false => tell_consumers(broker, call.header.language, &request)?,
    };
    call.reply_body(&fastjson::to_vec(&ResetOffsets { offset_table }));
    Ok(())
}

/// The offset that belongs to a time; below 0, the queue's end.
fn offset_at(broker: &Broker, topic: &str, queue_id: i32, timestamp: i64) -> i64 {
    let Some(queue) = broker.store.find_queue(topic, queue_id) else { return 0 };
    if timestamp < 0 { queue.max_offset() } else { broker.store.offset_by_time(&queue, timestamp, Boundary::Lower) }
}

fn move_group(broker: &Broker, now: i64, request: &ResetOffset<'_>) -> Result<BTreeMap<MessageQueue, i64>, Refusal> {
    let ResetOffset { topic, group, .. } = *request;
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("Topic {topic} does not exist")));
    };
    if broker.groups.get(group).is_none() {
        return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} does not exist")));
    }
    let moved: Vec<(i32, i64)> = match request.queue_id.filter(|id| *id >= 0) {
        None => (0..config.read_queue_nums).map(|id| (id, offset_at(broker, topic, id, request.timestamp))).collect(),
        Some(id) => vec![(id, one_offset(broker, &config, id, request)?)],
    };
    for (queue_id, offset) in &moved {
        broker.offsets.reset(topic, group, *queue_id, *offset);
        // Consumers that wait for messages are told at once.
        if let Some(queue) = broker.store.find_queue(topic, *queue_id) {
            broker.wake(&queue, now);
        }
    }
    Ok(moved.into_iter().map(|(id, offset)| (message_queue(broker, topic, id), offset)).collect())
}

/// The offset that one queue is to go to: the one that is asked for, if the queue has it, or that of a time.
fn one_offset(broker: &Broker, topic: &TopicConfig, id: i32, request: &ResetOffset<'_>) -> Result<i64, Refusal> {
    let name = &topic.topic_name;
    if id >= topic.read_queue_nums {
        let remark = format!("topic {name} has no queue {id}: its {} queues count from 0", topic.read_queue_nums);
        return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
    }
    let Some(offset) = request.offset.filter(|offset| *offset != NONE) else {
        return Ok(offset_at(broker, name, id, request.timestamp));
    };
    let (min, max) = broker.store.find_queue(name, id).map_or((0, 0), |queue| (queue.min_offset(), queue.max_offset()));
    if offset < min || offset > max + 1 {
        let remark = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
        return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
    }
    Ok(offset)
}

fn tell_consumers(broker: &Broker, asks: Language, request: &ResetOffset<'_>) -> Result<BTreeMap<MessageQueue, i64>, Refusal> {
    let ResetOffset { topic, group, timestamp, is_force, .. } = *request;
    let Some(config) = broker.topics.get(topic) else {
        let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, remark));
    };
    let mut offset_table = BTreeMap::new();
    for id in 0..config.write_queue_nums {
        let Some(committed) = broker.offsets.committed(topic, group, id) else {
            return Err(Refusal::new(codes::SYSTEM_ERROR, format!("THe consumer group <{group}> not exist")));
        };
        let at = offset_at(broker, topic, id, timestamp);
        offset_table.insert(message_queue(broker, topic, id), if is_force { at } else { at.min(committed) });
    }
    let consumers = broker.clients.consumers(group);
    if consumers.is_empty() {
        let remark =
            format!("Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {timestamp}");
        return Err(Refusal::new(codes::CONSUMER_NOT_ONLINE, remark));
    }
    require_version(&consumers)?;
    // Whoever asks in C++ has consumers in C++.
    let body = if asks == Language::CPP {
        let offset = |(queue, offset): (&MessageQueue, &i64)| QueueOffset {
            broker_name: queue.broker_name.clone(),
            offset: *offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        };
        fastjson::to_vec(&ResetOffsetsForCpp { offset_table: offset_table.iter().map(offset).collect() })
    } else {
        fastjson::to_vec(&ResetOffsets { offset_table: offset_table.clone() })
    };
    for client in consumers {
        client.connection.send_oneway(&ResetConsumerClientOffset { topic, group, timestamp, is_force }, &body);
    }
    Ok(offset_table)
}

/// CLONE_GROUP_OFFSET: gives a group the offsets of another, in one topic or in all of that group's.
pub fn clone_group_offset(broker: &Broker, call: &mut Call<'_>, request: CloneGroupOffset<'_>) -> Handled {
    let (from, to) = (request.src_group, request.dest_group);
    let topics = match request.topic.filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => vec![topic.to_owned()],
        None => broker.offsets.topics_of(from),
    };
    let subscribed = broker.clients.topics_of(from);
    for topic in topics {
        let consumed = request.offline == Some(true) || subscribed.is_empty() || subscribed.contains(&topic);
        if broker.topics.get(&topic).is_none() || !consumed {
            tracing::warn!("the offsets of group {from} in topic {topic} are not given to {to}: it does not consume it here");
        } else if !broker.offsets.copy(&topic, from, to) {
            tracing::warn!("group {from} has no offsets in topic {topic} to give to {to}");
        }
    }
    call.reply(&());
    Ok(())
}

/// QUERY_CORRECTION_OFFSET: for each queue the smallest offset of all groups but some; the largest number stands where the
/// compared group is behind it.
pub fn query_correction_offset(broker: &Broker, call: &mut Call<'_>, request: QueryCorrectionOffset<'_>) -> Handled {
    let topic = request.topic;
    let left_out: Vec<&str> = request.filter_groups.unwrap_or_default().split(',').map(str::trim).collect();
    let mut correction_offsets: BTreeMap<i32, i64> = BTreeMap::new();
    for group in broker.offsets.groups_of(topic).into_iter().filter(|group| !left_out.contains(&group.as_str())) {
        for (id, offset) in broker.offsets.of(topic, &group) {
            let min = broker.store.find_queue(topic, id).map_or(0, |queue| queue.min_offset());
            if offset >= min {
                let smallest = correction_offsets.entry(id).or_insert(offset);
                *smallest = offset.min(*smallest);
            }
        }
    }
    for (id, compared) in broker.offsets.of(topic, request.compare_group) {
        if let Some(smallest) = correction_offsets.get_mut(&id).filter(|smallest| **smallest > compared) {
            *smallest = i64::MAX;
        }
    }
    call.reply_body(&fastjson::to_vec(&CorrectionOffsets { correction_offsets }));
    Ok(())
}
