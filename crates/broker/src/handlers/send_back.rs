//! CONSUMER_SEND_MSG_BACK: a message that a consumer could not handle comes again later through its group's retry
//! topic, or goes to the dead letter queue.

use protocol::exchange::{Call, Refusal};
use protocol::record::{self, Record};
use protocol::requests::ConsumerSendMsgBack;
use protocol::{codes, message_id, names, properties, version};
use store::Batch;

use crate::Broker;
use crate::answers::Reply;
use crate::handlers::{Handled, can_write, io_refusal};

/// The delay level of a first retry: 10 s with the default levels.
const FIRST_RETRY_LEVEL: i32 = 3;

pub fn consumer_send_msg_back(broker: &Broker, call: &mut Call<'_>, request: ConsumerSendMsgBack<'_>) -> Handled {
    if broker.is_slave() {
        return Err(Refusal::new(codes::SLAVE_NOT_AVAILABLE, broker.slave_remark()));
    }
    let Some(group) = broker.find_group(request.group, call.now) else {
        return Err(Refusal::new(
            codes::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {}", request.group),
        ));
    };
    if !can_write(broker.config().broker_permission) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("the broker[{}] sending message is forbidden", broker.label())));
    }
    if group.retry_queue_nums <= 0 {
        call.reply(&());
        return Ok(());
    }
    let unit = request.unit_mode == Some(true);
    let retry_topic = broker.create_group_topic(&names::retry_topic(request.group), group.retry_queue_nums, unit, call.now)?;
    if !can_write(retry_topic.perm) {
        return Err(Refusal::new(
            codes::NO_PERMISSION,
            format!("the topic[{}] sending message is forbidden", retry_topic.topic_name),
        ));
    }
    let missing = || Refusal::new(codes::SYSTEM_ERROR, format!("look message by offset failed, {}", request.offset));
    let slice = u64::try_from(request.offset).ok().and_then(|offset| broker.store.record(offset)).ok_or_else(missing)?;
    let failed = record::decode_checked(slice.bytes()).map_err(|_| missing())?;
    let most = request.max_reconsume_times.filter(|_| call.header.version >= version::V3_4_9).unwrap_or(group.retry_max_times);
    let dead = failed.reconsume_times >= most || request.delay_level < 0;
    let (topic, queue_id, level) = if dead {
        let topic = broker.create_retry_topic(&format!("{}{}", names::DLQ_PREFIX, request.group), 1, call.now)?;
        (topic, 0, 0)
    } else {
        let level = if request.delay_level == 0 { FIRST_RETRY_LEVEL + failed.reconsume_times } else { request.delay_level };
        (retry_topic, broker.next_of(group.retry_queue_nums), level)
    };
    let end = append(broker, call.now, &failed, &topic.topic_name, queue_id, level)?;
    broker.stats.sent_back(failed.topic, request.group);
    broker.answer_when_stored(call, end, Reply::Done);
    Ok(())
}

/// Appends a copy of the message that failed, counted once more. Returns its end.
fn append(broker: &Broker, now: i64, failed: &Record<'_>, topic: &str, queue_id: i32, level: i32) -> Result<u64, Refusal> {
    let mut text = properties::without(failed.properties, &[properties::DELAY, properties::WAIT]);
    if properties::get(&text, properties::RETRY_TOPIC).is_none() {
        properties::push(&mut text, properties::RETRY_TOPIC, failed.topic);
    }
    if properties::get(&text, properties::ORIGIN_MESSAGE_ID).is_none() {
        let id = message_id::offset_id(failed.store_host, failed.physical_offset);
        properties::push(&mut text, properties::ORIGIN_MESSAGE_ID, &id);
    }
    properties::push(&mut text, properties::WAIT, "false");
    if level > 0 {
        text = properties::without(&text, &properties::TIMES);
        properties::push(&mut text, properties::DELAY, &level.to_string());
    }
    let tags_code = store::tags_code(&text);
    let (topic, queue_id, tags_code) = match broker.schedule.place(level, now, topic, queue_id, &mut text) {
        Some(delay) => (names::SCHEDULE_TOPIC, delay.queue_id, delay.deliver_at),
        None => (topic, queue_id, tags_code),
    };
    if text.len() > properties::MAX_LENGTH {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "PROPERTIES_SIZE_EXCEEDED"));
    }
    let record = Record {
        topic,
        queue_id,
        properties: &text,
        store_host: broker.store_host(),
        reconsume_times: failed.reconsume_times + 1,
        prepared_transaction_offset: 0,
        ..failed.clone()
    };
    let queue = broker.store.queue(topic, queue_id).map_err(|e| io_refusal("opening a consume queue", &e))?;
    let mut batch = Batch::default();
    batch.push(queue, &record, tags_code, 1);
    broker.append_for_request(&mut batch, now)
}
