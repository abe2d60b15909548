//! Acknowledging popped messages, and changing how long they are invisible.

use std::io;

use parking_lot::MutexGuard;
use protocol::exchange::{Call, Refusal, Responder};
use protocol::pop::{BatchAckBody, CheckPoint, Handle, ORDER_QUEUE};
use protocol::requests::{AckMessage, ChangeInvisibleTime, ChangeInvisibleTimeReply};
use protocol::{codes, fastjson};
use store::Batch;

use super::order::{Next, Ordered};
use super::points::{Key, Known, Lane, MAX_EARLY, Offsets, Place, Points};
use super::{not_appended, revive, wait};
use crate::Broker;
use crate::answers::Reply;
use crate::handlers::{Handled, io_refusal};

/// Acknowledgements of one read on their way to the log, with the sends of that read.
#[derive(Default)]
pub struct Acks {
    acked: Vec<Acked>,
    responders: Vec<Responder>,
    records: Vec<Written>,
}

struct Acked {
    key: Key,
    offset: i64,
    revive_queue: i32,
    /// Of a message whose check point is not there yet: how long it is invisible.
    early: Option<i64>,
}

/// One record for all messages of a check point that one read acknowledges.
struct Written {
    at: usize,
    key: Key,
    offsets: Vec<i64>,
    revive_queue: i32,
    early: Option<i64>,
}

impl Acks {
    pub fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.responders.is_empty()
    }

    /// Adds the acknowledgements' records to a batch, and keeps others from what they change until it is appended.
    pub fn write<'a>(&mut self, broker: &'a Broker, batch: &mut Batch, now: i64) -> io::Result<Option<MutexGuard<'a, Points>>> {
        if self.acked.is_empty() {
            return Ok(None);
        }
        self.acked.sort_by(|a, b| (&a.key, a.offset).cmp(&(&b.key, b.offset)));
        self.acked.dedup_by(|a, b| a.key == b.key && a.offset == b.offset);
        for Acked { key, offset, revive_queue, early } in self.acked.drain(..) {
            match self.records.last_mut().filter(|last| last.key == key) {
                Some(last) => last.offsets.push(offset),
                None => self.records.push(Written { at: 0, key, offsets: vec![offset], revive_queue, early }),
            }
        }
        for record in &mut self.records {
            record.at = batch.len();
            revive::push_acks(broker, batch, record.revive_queue, &record.key, &record.offsets, record.early, now)?;
        }
        Ok(Some(broker.pops.points.lock()))
    }

    /// Takes what was appended as acknowledged.
    pub fn apply(&mut self, points: &mut Points, batch: &Batch) {
        for Written { at, key, offsets, revive_queue, early } in self.records.drain(..) {
            let place = Place { queue_id: revive_queue, offset: batch.place(at).queue_offset };
            points.passed(place);
            match early {
                Some(invisible_time) => {
                    points.keep_early(&key, &offsets, revive::early_until(key.pop_time, invisible_time), place);
                }
                None => offsets.iter().for_each(|offset| points.ack(&key, *offset)),
            }
        }
    }

    /// Has one more request answered with the acknowledgements.
    pub fn wait(&mut self, responder: Responder) {
        self.responders.push(responder);
    }

    /// Those who wait for an answer.
    pub fn responders(&mut self) -> std::vec::Drain<'_, Responder> {
        self.acked.clear();
        self.records.clear();
        self.responders.drain(..)
    }
}

/// What a request says of the messages of one check point.
struct Named<'a> {
    topic: &'a str,
    group: &'a str,
    queue_id: i32,
    start: i64,
    pop_time: i64,
    invisible_time: i64,
    revive_queue: i32,
}

impl<'a> Named<'a> {
    /// What the handle of a message (`extraInfo`) says.
    fn of(topic: &'a str, group: &'a str, queue_id: i32, extra_info: &str) -> Result<Self, Refusal> {
        let Handle { start, pop_time, invisible_time, revive_queue, .. } = parse(extra_info)?;
        Ok(Self { topic, group, queue_id, start, pop_time, invisible_time, revive_queue })
    }

    fn key(&self) -> Key {
        Key { lane: Lane::new(self.topic, self.group, self.queue_id), start: self.start, pop_time: self.pop_time }
    }

    fn ordered(&self) -> Ordered<'_> {
        Ordered { topic: self.topic, group: self.group, queue_id: self.queue_id }
    }

    /// Whether a check point that is not known may still come out of Java's timer.
    fn may_come(&self, now: i64) -> bool {
        now <= self.pop_time.saturating_add(self.invisible_time)
    }
}

/// ACK_MESSAGE. It is answered with the other requests of this read, once the log has it.
pub fn accept(broker: &Broker, call: &mut Call<'_>, acks: &mut Acks, request: &AckMessage<'_>) -> Handled {
    broker.require_pops()?;
    let (min, max) = check_queue(broker, call, request.topic, request.queue_id)?;
    if request.offset < min || request.offset > max {
        let remark = format!(
            "offset is illegal, key:{}@{}, commit:{}, store:{min}~{max}",
            request.topic, request.queue_id, request.offset
        );
        return Err(Refusal::new(codes::NO_MESSAGE, remark));
    }
    let named = Named::of(request.topic, request.consumer_group, request.queue_id, request.extra_info)?;
    if named.revive_queue == ORDER_QUEUE {
        let end = ack_in_order(broker, call, &named, &[request.offset])?;
        return answer_in_order(broker, call, end);
    }
    add(broker, acks, &named, &[request.offset], call.now)?;
    acks.responders.push(call.park());
    Ok(())
}

/// BATCH_ACK_MESSAGE: messages of several check points.
pub fn accept_batch(broker: &Broker, call: &mut Call<'_>, acks: &mut Acks) -> Handled {
    broker.require_pops()?;
    let body: Option<BatchAckBody> = if call.body.is_empty() { None } else { Some(fastjson::from_slice(call.body)?) };
    let Some(body) = body.filter(|body| !body.acks.is_empty()) else {
        return Err(Refusal::new(codes::NO_MESSAGE, "the body names no acknowledgements"));
    };
    let mut end = None;
    for ack in &body.acks {
        let topic = protocol::pop::Source::parse(&ack.retry).topic(&ack.topic, &ack.group);
        // As in Java, what is no message of a queue is passed over.
        let Some(queue) = broker.store.find_queue(&topic, ack.queue_id) else { continue };
        let (min, max) = (queue.min_offset(), queue.max_offset());
        let offsets = ack.set().map(|bit| ack.start.saturating_add(bit));
        let offsets: Vec<i64> = offsets.filter(|offset| (min..max).contains(offset)).collect();
        let named = Named {
            topic: &topic,
            group: &ack.group,
            queue_id: ack.queue_id,
            start: ack.start,
            pop_time: ack.pop_time,
            invisible_time: ack.invisible_time,
            revive_queue: ack.revive_queue,
        };
        if named.revive_queue == ORDER_QUEUE {
            end = ack_in_order(broker, call, &named, &offsets)?.or(end);
        } else {
            add(broker, acks, &named, &offsets, call.now)?;
        }
    }
    match end {
        Some(_) => answer_in_order(broker, call, end),
        None => {
            acks.responders.push(call.park());
            Ok(())
        }
    }
}

/// Whether the topic has the queue; its first offset and its end.
fn check_queue(broker: &Broker, call: &Call<'_>, topic: &str, queue_id: i32) -> Result<(i64, i64), Refusal> {
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist, apply first please!")));
    };
    if queue_id < 0 || queue_id >= config.read_queue_nums {
        let remark = format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}] consumer:[{}]",
            config.read_queue_nums, call.connection.remote
        );
        return Err(Refusal::new(codes::MESSAGE_ILLEGAL, remark));
    }
    let queue = broker.store.find_queue(topic, queue_id);
    Ok(queue.map_or((0, 0), |queue| (queue.min_offset(), queue.max_offset())))
}

fn parse(text: &str) -> Result<Handle<'_>, Refusal> {
    Handle::parse(text).map_err(|error| Refusal::new(codes::SYSTEM_ERROR, error.to_string()))
}

/// Takes up what is not acknowledged yet. An acknowledgement that comes too late is no mistake of its sender's.
fn add(broker: &Broker, acks: &mut Acks, named: &Named<'_>, offsets: &[i64], now: i64) -> Handled {
    let key = named.key();
    let points = broker.pops.points.lock();
    for offset in offsets {
        let (revive_queue, early) = match points.look(&key, *offset) {
            Known::Open(revive_queue) => (revive_queue, None),
            Known::Done => continue,
            Known::Unknown if !named.may_come(now) => continue,
            Known::Unknown => (named.revive_queue, Some(named.invisible_time)),
        };
        if early.is_some() {
            check_early(broker, &points, revive_queue)?;
        }
        acks.acked.push(Acked { key: key.clone(), offset: *offset, revive_queue, early });
    }
    Ok(())
}

fn check_early(broker: &Broker, points: &Points, revive_queue: i32) -> Handled {
    let queues = broker.config().revive_queue_num;
    if !(0..queues).contains(&revive_queue) {
        let remark = format!("the handle names queue {revive_queue} of the revive topic, which has {queues}");
        return Err(Refusal::new(codes::MESSAGE_ILLEGAL, remark));
    }
    if points.early() >= MAX_EARLY {
        let remark = format!("{MAX_EARLY} acknowledgements wait already for pops that this broker does not know yet");
        return Err(Refusal::new(codes::SYSTEM_BUSY, remark));
    }
    Ok(())
}

/// Acknowledges messages that were popped in order. Returns the end of the log's record of it, where one was needed.
fn ack_in_order(broker: &Broker, call: &Call<'_>, named: &Named<'_>, offsets: &[i64]) -> Result<Option<u64>, Refusal> {
    let committed = || broker.offsets.committed(named.topic, named.group, named.queue_id).unwrap_or(0);
    let mut end = None;
    for offset in offsets.iter().filter(|offset| **offset >= committed()) {
        let mut orders = broker.pops.orders.lock();
        match orders.acked(named.ordered(), *offset, named.pop_time) {
            Next::Stale => continue,
            Next::Illegal => {
                let remark = format!(
                    "offset is illegal, key:{}@{}@{}, old:{}, commit:{offset}, next:-1, {}",
                    named.topic,
                    named.group,
                    named.queue_id,
                    committed(),
                    call.connection.remote
                );
                return Err(Refusal::new(codes::MESSAGE_ILLEGAL, remark));
            }
            Next::Commit(next) => {
                let mut batch = Batch::default();
                revive::push_acks(broker, &mut batch, ORDER_QUEUE, &named.key(), &[*offset], None, call.now)
                    .map_err(|e| io_refusal("opening the revive topic", &e))?;
                end = Some(append_in_order(broker, &mut batch, call.now)?);
                broker.offsets.commit(named.topic, named.group, named.queue_id, next);
            }
        }
        let blocked = orders.is_blocked(named.ordered(), None, call.now);
        drop(orders);
        if !blocked {
            wait::wake_group(broker, named.topic, named.group, Some(named.queue_id), call.now);
        }
    }
    Ok(end)
}

/// Appends a record of what is under way in order; the lock of that must be held.
pub(super) fn append_in_order(broker: &Broker, batch: &mut Batch, now: i64) -> Result<u64, Refusal> {
    let (end, _) = broker.store.append(batch, now).map_err(|e| not_appended(&e))?;
    broker.pops.points.lock().passed(Place { queue_id: ORDER_QUEUE, offset: batch.place(0).queue_offset });
    broker.log_written(end);
    Ok(end)
}

fn answer_in_order(broker: &Broker, call: &mut Call<'_>, end: Option<u64>) -> Handled {
    match end {
        Some(end) => broker.answer_when_stored(call, end, Reply::Done),
        None => call.reply(&()),
    }
    Ok(())
}

/// CHANGE_MESSAGE_INVISIBLETIME: a new check point for the message, and the old one needs it no longer.
pub fn change_invisible_time(broker: &Broker, call: &mut Call<'_>, request: ChangeInvisibleTime<'_>) -> Handled {
    broker.require_pops()?;
    let (min, max) = check_queue(broker, call, request.topic, request.queue_id)?;
    if request.offset < min || request.offset >= max {
        let remark =
            format!("queue {} of {} has messages {min} to {max}, not {}", request.queue_id, request.topic, request.offset);
        return Err(Refusal::new(codes::NO_MESSAGE, remark));
    }
    let named = Named::of(request.topic, request.consumer_group, request.queue_id, request.extra_info)?;
    if named.revive_queue == ORDER_QUEUE {
        return change_in_order(broker, call, &named, &request);
    }
    let (reply, end) = replace(broker, &named, &request, call.now)?;
    broker.answer_when_stored(call, end, Reply::Changed(reply));
    Ok(())
}

/// Appends a check point of the message alone, and the acknowledgement to the one that it was in. Returns the answer, and
/// their end in the log.
fn replace(
    broker: &Broker,
    named: &Named<'_>,
    request: &ChangeInvisibleTime<'_>,
    now: i64,
) -> Result<(ChangeInvisibleTimeReply, u64), Refusal> {
    let refused = |e: io::Error| io_refusal("opening the revive topic", &e);
    let old = named.key();
    let mut points = broker.pops.points.lock();
    let (queue, early) = match points.look(&old, request.offset) {
        Known::Open(queue) => (queue, None),
        Known::Unknown if named.may_come(now) => {
            check_early(broker, &points, named.revive_queue)?;
            (named.revive_queue, Some(named.invisible_time))
        }
        _ => {
            let remark = format!(
                "the message {} of queue {} of {} is acknowledged already, or its invisible time is over",
                request.offset, request.queue_id, request.topic
            );
            return Err(Refusal::new(codes::NO_MESSAGE, remark));
        }
    };
    let config = broker.config();
    // In the millisecond of its pop, the first message's would take the place of that one's check point, and nobody would
    // bring back the others.
    let pop_time = now.max(named.pop_time.saturating_add(1));
    let point = CheckPoint {
        broker: Some(config.broker_name.as_str().into()),
        group: named.group.into(),
        diffs: vec![0],
        invisible_time: request.invisible_time,
        count: 1,
        pop_time,
        queue_id: named.queue_id,
        start: request.offset,
        topic: named.topic.into(),
        ..CheckPoint::default()
    };
    let mut batch = Batch::default();
    revive::push_check_point(broker, &mut batch, queue, &point, now).map_err(refused)?;
    revive::push_acks(broker, &mut batch, queue, &old, &[request.offset], early, now).map_err(refused)?;
    let (end, _) = broker.store.append(&mut batch, now).map_err(|e| not_appended(&e))?;
    let place = |nth: usize| Place { queue_id: queue, offset: batch.place(nth).queue_offset };
    let key = Key { lane: old.lane.clone(), start: request.offset, pop_time };
    points.passed(place(0));
    points.passed(place(1));
    let due = pop_time.saturating_add(request.invisible_time);
    match early {
        Some(time) => points.keep_early(&old, &[request.offset], revive::early_until(old.pop_time, time), place(1)),
        None => points.ack(&old, request.offset),
    }
    points.add(key, due, Offsets::Run(1), place(0));
    broker.log_written(end);
    Ok((ChangeInvisibleTimeReply { pop_time, invisible_time: request.invisible_time, revive_qid: queue }, end))
}

fn change_in_order(broker: &Broker, call: &mut Call<'_>, named: &Named<'_>, request: &ChangeInvisibleTime<'_>) -> Handled {
    let committed = broker.offsets.committed(named.topic, named.group, named.queue_id).unwrap_or(0);
    if request.offset < committed {
        call.reply(&ChangeInvisibleTimeReply { pop_time: 0, invisible_time: 0, revive_qid: 0 });
    } else {
        let visible_at = call.now.saturating_add(request.invisible_time);
        let invisible_time = visible_at.saturating_sub(named.pop_time);
        let point = CheckPoint {
            group: named.group.into(),
            invisible_time,
            pop_time: named.pop_time,
            queue_id: named.queue_id,
            start: request.offset,
            topic: named.topic.into(),
            ..CheckPoint::default()
        };
        let mut orders = broker.pops.orders.lock();
        let mut batch = Batch::default();
        revive::push_check_point(broker, &mut batch, ORDER_QUEUE, &point, call.now)
            .map_err(|e| io_refusal("opening the revive topic", &e))?;
        let end = append_in_order(broker, &mut batch, call.now)?;
        orders.change(named.ordered(), request.offset, named.pop_time, visible_at);
        drop(orders);
        let reply = ChangeInvisibleTimeReply { pop_time: named.pop_time, invisible_time, revive_qid: ORDER_QUEUE };
        broker.answer_when_stored(call, end, Reply::Changed(reply));
    }
    Ok(())
}
