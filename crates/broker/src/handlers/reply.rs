//! SEND_REPLY_MESSAGE: a consumer's answer to a request message goes straight to the producer that asked. The consumer is
//! answered when the producer has said that it has it; a copy is stored, for people to look at.

use protocol::exchange::{Call, Connection, Refusal, Responder};
use protocol::record::Record;
use protocol::requests::{PushReplyMessage, SendMessage};
use protocol::sys_flag::message;
use protocol::{Header, codes, message_id, properties};
use store::Batch;

use crate::answers::{Reply, Sent, extra_fields};
use crate::handlers::send::{self, Sends};
use crate::handlers::{Handled, io_refusal};
use crate::{Broker, stats};

/// How long a producer may take to say that it has a reply, in ms (Java: the same).
const PUSH_MS: i64 = 10_000;
/// Replies that producers may have to confirm at the same time; more are refused.
const MAX_PUSHED: usize = 10_000;

/// A reply that its producer has not confirmed.
pub struct Waiting {
    responder: Responder,
    client_id: String,
    stored: Stored,
}

/// Where a reply's copy is, and where that ends in the log. Java's answer to one that is not stored names the message 0.
struct Stored {
    sent: Sent,
    end: u64,
}

pub fn send_reply_message(broker: &Broker, call: &mut Call<'_>, request: &SendMessage<'_>) {
    if let Err(refusal) = pass_on(broker, call, request) {
        send::refuse(broker, call, &refusal);
    }
}

fn pass_on(broker: &Broker, call: &mut Call<'_>, request: &SendMessage<'_>) -> Handled {
    let config = broker.config();
    let (_, queue_id, _) = Sends::check(broker, &config, call, request, 0)?;
    if call.body.len() > config.max_message_size as usize {
        return Err(send::illegal(&config));
    }
    let text = request.properties.unwrap_or_default();
    let client_id = properties::get(text, properties::REPLY_TO_CLIENT);
    let producer = client_id.and_then(|id| broker.clients.producer_with_id(id));
    if producer.is_some() && broker.replies.len() >= MAX_PUSHED {
        let remark = format!("{MAX_PUSHED} replies wait for their producers to take them: try again in a moment");
        return Err(Refusal::new(codes::SYSTEM_BUSY, remark));
    }
    let mut stored = Stored { sent: Sent { msg_id: "0".into(), queue_id, ..Sent::default() }, end: 0 };
    if config.store_reply_message_enable
        && let Err(refusal) = store(broker, call, request, &mut stored)
    {
        tracing::warn!("a reply in topic {} is not stored: {}", request.topic, refusal.remark);
    }
    let (Some(client_id), Some(producer)) = (client_id, producer) else {
        let remark = match client_id {
            Some(id) => format!("push reply message fail, channel of <{id}> not found."),
            None => format!("reply message properties[{}] is null", properties::REPLY_TO_CLIENT),
        };
        refuse(broker, call.park(), &stored, &remark);
        return Ok(());
    };
    let waiting = Waiting { responder: call.park(), client_id: client_id.to_owned(), stored };
    let opaque = broker.replies.begin(&producer, call.now + PUSH_MS, waiting);
    push(broker, call, request, &producer, opaque);
    Ok(())
}

fn push(broker: &Broker, call: &Call<'_>, request: &SendMessage<'_>, producer: &Connection, opaque: i32) {
    let mut text = request.properties.unwrap_or_default().to_owned();
    properties::push(&mut text, properties::PUSH_REPLY_TIME, &call.now.to_string());
    let reply = PushReplyMessage {
        producer_group: request.producer_group,
        topic: request.topic,
        default_topic: request.default_topic,
        default_topic_queue_nums: request.default_topic_queue_nums,
        queue_id: request.queue_id,
        sys_flag: request.sys_flag,
        born_timestamp: request.born_timestamp,
        flag: request.flag,
        properties: Some(&text),
        reconsume_times: request.reconsume_times,
        unit_mode: request.unit_mode.unwrap_or(false),
        born_host: &call.connection.remote.to_string(),
        store_host: &broker.address(),
        store_timestamp: call.now,
    };
    producer.ask(opaque, &reply, call.body);
}

fn store(broker: &Broker, call: &Call<'_>, request: &SendMessage<'_>, stored: &mut Stored) -> Handled {
    let text = request.properties.unwrap_or_default();
    if text.len() > properties::MAX_LENGTH {
        return Err(Refusal::new(codes::MESSAGE_ILLEGAL, "its properties are longer than 32 KB"));
    }
    let record = Record {
        queue_id: stored.sent.queue_id,
        flag: request.flag,
        queue_offset: 0,
        physical_offset: 0,
        sys_flag: request.sys_flag & !message::TRANSACTION_MASK,
        born_timestamp: request.born_timestamp,
        born_host: call.connection.remote,
        store_timestamp: 0,
        store_host: broker.store_host(),
        reconsume_times: request.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body: call.body,
        topic: request.topic,
        properties: text,
    };
    send::fits(&broker.config(), record.encoded_length())?;
    let queue = broker.store.queue(request.topic, stored.sent.queue_id).map_err(|e| io_refusal("opening a consume queue", &e))?;
    let mut batch = Batch::default();
    batch.push(queue, &record, store::tags_code(text), 1);
    stored.end = broker.append(&mut batch, call.now).map_err(|e| Refusal::new(codes::SYSTEM_ERROR, e.to_string()))?;
    stats::add(&broker.stats.counters.messages_put, 1);
    stats::add(&broker.stats.counters.bytes_put, batch.bytes() as u64);
    broker.stats.put(request.topic, 1, 1, batch.bytes() as u64);
    let place = batch.place(0);
    stored.sent.msg_id = message_id::offset_id(broker.store_host(), place.physical_offset as i64);
    stored.sent.queue_offset = place.queue_offset;
    Ok(())
}

/// Tells the consumer why its reply was not taken.
fn refuse(broker: &Broker, responder: Responder, stored: &Stored, why: &str) {
    responder.answer(codes::SYSTEM_ERROR, Some(why), &stored.sent.typed(), &extra_fields(&broker.config()), &[]);
}

/// A client answers what the broker asked it. The consumer hears that its reply was taken when its copy is stored, too.
pub fn taken(broker: &Broker, now: i64, connection: &Connection, header: &Header<'_>) {
    let Some(waiting) = broker.replies.take(connection, header.opaque) else { return };
    if header.code != codes::SUCCESS {
        return fail(broker, waiting);
    }
    let Waiting { responder, stored: Stored { sent, end }, .. } = waiting;
    broker.push_when_stored(responder, end, Reply::Replied(sent), now);
}

/// Gives up the replies whose producers have not confirmed them in time.
pub fn expire(broker: &Broker, now: i64) {
    broker.replies.take_late(now).into_iter().for_each(|waiting| fail(broker, waiting));
}

/// Gives up the replies to a producer that has gone.
pub fn connection_closed(broker: &Broker, connection: &Connection) {
    broker.replies.take_gone(connection.id).into_iter().for_each(|waiting| fail(broker, waiting));
}

fn fail(broker: &Broker, waiting: Waiting) {
    let remark = format!("push reply message to {}fail.", waiting.client_id);
    refuse(broker, waiting.responder, &waiting.stored, &remark);
}
