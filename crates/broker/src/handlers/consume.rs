//! Offsets of consumer groups and of queues, and reading a message by where it is.

use std::sync::Arc;

use protocol::exchange::{Call, Refusal};
use protocol::requests::{
    GetEarliestStoreTime, GetMaxOffset, GetMinOffset, OffsetReply, QueryConsumerOffset, QueryMessage, QueryMessageReply,
    SearchOffset, TimestampReply, UpdateConsumerOffset, ViewMessage,
};
use protocol::{codes, fastjson, record};
use store::Boundary;
use store::queue::{Entry, Queue};

use crate::Broker;
use crate::handlers::{Handled, io_refusal};

pub fn query_consumer_offset(broker: &Broker, call: &mut Call<'_>, request: QueryConsumerOffset<'_>) -> Handled {
    if let Some(offset) = broker.offsets.committed(request.topic, request.consumer_group, request.queue_id) {
        call.reply(&OffsetReply { offset });
        return Ok(());
    }
    if request.set_zero_if_not_found == Some(false) {
        return Err(Refusal::new(codes::QUERY_NOT_FOUND, "Not found, do not set to zero, maybe this group boot first"));
    }
    // A group that is new to a small queue begins with its first message; on one whose start has left memory the
    // client decides where to begin.
    let queue = broker.store.find_queue(request.topic, request.queue_id);
    let from_start = match &queue {
        Some(queue) => queue.min_offset() <= 0 && starts_in_memory(broker, queue),
        None => false,
    };
    if !from_start {
        return Err(Refusal::new(codes::QUERY_NOT_FOUND, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"));
    }
    call.reply(&OffsetReply { offset: 0 });
    Ok(())
}

/// Whether a queue's first message counts as in memory: not further behind than the share of it that Java assumes.
pub(crate) fn starts_in_memory(broker: &Broker, queue: &Queue) -> bool {
    let is_near = |first: Entry| broker.store.visible().saturating_sub(first.offset as u64) <= broker.memory_distance();
    queue.entry(0).is_ok_and(|first| first.is_some_and(is_near))
}

pub fn update_consumer_offset(broker: &Broker, call: &mut Call<'_>, request: UpdateConsumerOffset<'_>) -> Handled {
    if broker.find_group(request.consumer_group, call.now).is_none() {
        return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {} not exist!", request.consumer_group)));
    }
    if broker.topics.get(request.topic).is_none() {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("Topic {} not exist!", request.topic)));
    }
    // A consumer that does not know yet that its group was moved would undo it.
    let config = broker.config();
    if config.use_server_side_reset_offset && broker.offsets.is_reset(request.topic, request.consumer_group, request.queue_id) {
        call.answer(codes::SUCCESS, Some("Offset has been previously reset"), &(), &[]);
        return Ok(());
    }
    if broker.is_slave() {
        broker.offsets.commit_here(request.topic, request.consumer_group, request.queue_id, request.commit_offset);
    } else {
        broker.offsets.commit(request.topic, request.consumer_group, request.queue_id, request.commit_offset);
    }
    call.reply(&());
    Ok(())
}

fn queue(broker: &Broker, topic: &str, id: i32) -> Option<Arc<Queue>> {
    broker.store.find_queue(topic, id)
}

pub fn get_max_offset(broker: &Broker, call: &mut Call<'_>, request: GetMaxOffset<'_>) -> Handled {
    let offset = queue(broker, request.topic, request.queue_id).map_or(0, |q| q.max_offset());
    call.reply(&OffsetReply { offset });
    Ok(())
}

pub fn get_min_offset(broker: &Broker, call: &mut Call<'_>, request: GetMinOffset<'_>) -> Handled {
    let offset = queue(broker, request.topic, request.queue_id).map_or(0, |q| q.min_offset());
    call.reply(&OffsetReply { offset });
    Ok(())
}

pub fn search_offset(broker: &Broker, call: &mut Call<'_>, request: SearchOffset<'_>) -> Handled {
    let boundary = match request.boundary_type {
        Some(text) if text.eq_ignore_ascii_case("upper") => Boundary::Upper,
        _ => Boundary::Lower,
    };
    let offset = queue(broker, request.topic, request.queue_id)
        .map_or(0, |q| broker.store.offset_by_time(&q, request.timestamp, boundary));
    call.reply(&OffsetReply { offset });
    Ok(())
}

pub fn get_earliest_store_time(broker: &Broker, call: &mut Call<'_>, request: GetEarliestStoreTime<'_>) -> Handled {
    let timestamp = queue(broker, request.topic, request.queue_id)
        .and_then(|q| broker.store.store_timestamp(&q, q.min_offset()))
        .unwrap_or(-1);
    call.reply(&TimestampReply { timestamp });
    Ok(())
}

/// Answers with the whole record at a commit log offset, if one begins there.
/// Messages with a key, found through the key index.
pub fn query_message(broker: &Broker, call: &mut Call<'_>, request: QueryMessage<'_>) -> Handled {
    let config = broker.config();
    let asked = if request.unique_key == Some("true") { config.default_query_max_num } else { request.max_num };
    let most = asked.clamp(0, config.max_msgs_num_batch) as usize;
    let found = broker.store.query(request.topic, request.key, most, request.begin_timestamp, request.end_timestamp);
    let slices = found.map_err(|e| io_refusal("reading the key index", &e))?;
    if slices.is_empty() {
        return Err(Refusal::new(codes::QUERY_NOT_FOUND, "can not find message, maybe time range not correct"));
    }
    let last = broker.store.last_indexed();
    let reply =
        QueryMessageReply { index_last_update_timestamp: last.timestamp, index_last_update_phyoffset: last.offset as i64 };
    let body: Vec<&[u8]> = slices.iter().map(|slice| slice.bytes()).collect();
    call.answer_with(codes::SUCCESS, None, &reply, &[], &body);
    Ok(())
}

pub fn view_message(broker: &Broker, call: &mut Call<'_>, request: ViewMessage<'_>) -> Handled {
    let slice = u64::try_from(request.offset).ok().and_then(|offset| broker.store.record(offset));
    let slice = slice.filter(|s| record::decode_checked(s.bytes()).is_ok_and(|r| r.physical_offset == request.offset));
    let Some(slice) = slice else {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("can not find message by the offset, {}", request.offset)));
    };
    call.reply_body(slice.bytes());
    Ok(())
}

/// GET_ALL_DELAY_OFFSET: how far each delay level is delivered, for a slave.
pub fn get_all_delay_offset(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&broker.schedule.file());
    Ok(())
}

pub fn get_all_consumer_offset(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&broker.offsets.all()));
    Ok(())
}
