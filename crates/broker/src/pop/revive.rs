//! The revive topic: check points and acknowledgements are written to it and read from it, and what nobody acknowledged
//! in time goes from here to its retry topic.
//!
//! Java's broker sends both kinds of record through its timer, so that they reach the topic when the messages are
//! visible again. This one writes them at once, and says so in `TIMER_DELIVER_MS`, by which Java's tells how late it is.
//! A record that came through the timer has `TIMER_OUT_MS`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::pop::{self, Ack, CheckPoint, ORDER_QUEUE, Source};
use protocol::record::{self, BLANK_LENGTH, Record};
use protocol::{fastjson, names, properties};
use store::Batch;
use store::log::Log;
use store::queue::{Entry, Queue};

use super::order::{Next, Ordered};
use super::points::{Due, Key, Known, Lane, Offsets, Place, Points};
use super::{revive_topic, wait};
use crate::Broker;
use crate::meta::offsets::{self, OffsetTable};

/// Acknowledgements come out of Java's timer a second after their check point; so long they are waited for.
const TIMER_GRACE_MS: i64 = 3000;
/// How long an early acknowledgement is kept beyond the time at which its check point leaves the timer.
const EARLY_GRACE_MS: i64 = 60_000;
/// Check points brought back in one go, and the bytes from which on no further one is added.
const BROUGHT_BACK: usize = 64;
const BROUGHT_BACK_BYTES: usize = 1024 * 1024;
/// When what could not be brought back is tried again, in ms.
const RETRY_MS: i64 = 1000;
/// Queue entries read in one go.
const ENTRIES: usize = 64;

/// Adds a record for the revive topic to a batch.
fn push(broker: &Broker, batch: &mut Batch, queue: Arc<Queue>, tag: &str, body: &[u8], now: i64) {
    let mut text = String::with_capacity(64);
    properties::push(&mut text, properties::TAGS, tag);
    properties::push(&mut text, properties::TIMER_DELIVER_MS, &now.to_string());
    let topic = queue.topic.clone();
    let record = broker.own_record(&topic, queue.id, body, &text, now);
    batch.push(queue, &record, i64::from(stdx::java::hash_code(tag)), 1);
}

pub fn push_check_point(broker: &Broker, batch: &mut Batch, queue: i32, point: &CheckPoint<'_>, now: i64) -> io::Result<()> {
    let queue = broker.store.queue(&revive_topic(broker), queue)?;
    push(broker, batch, queue, pop::CHECK_POINT_TAG, &fastjson::to_vec(point), now);
    Ok(())
}

/// Adds one record for all `offsets` of a check point that are acknowledged.
pub fn push_acks(
    broker: &Broker,
    batch: &mut Batch,
    queue: i32,
    key: &Key,
    offsets: &[i64],
    early: Option<i64>,
    now: i64,
) -> io::Result<()> {
    let queue = broker.store.queue(&revive_topic(broker), queue)?;
    let config = broker.config();
    let (topic, group, queue_id) = key.lane.parts();
    let mut ack = Ack {
        broker: Some(config.broker_name.as_str().into()),
        group: group.into(),
        invisible_time: early,
        pop_time: key.pop_time,
        queue_id,
        start: key.start,
        topic: topic.into(),
        ..Ack::default()
    };
    let tag = match offsets {
        [offset] => {
            ack.offset = *offset;
            pop::ACK_TAG
        }
        several => {
            ack.offset = -1;
            ack.offsets = several.to_vec();
            pop::BATCH_ACK_TAG
        }
    };
    push(broker, batch, queue, tag, &fastjson::to_vec(&ack), now);
    Ok(())
}

/// Where the first pops of each queue began whose check points are in a log from `at` on.
pub fn popped_beyond(log: &Log, at: u64) -> io::Result<OffsetTable> {
    let mut first = OffsetTable::new();
    log.each_record(at, u64::MAX, |record, _| {
        let tag = properties::get(record.properties, properties::TAGS);
        if !record.topic.starts_with(names::REVIVE_TOPIC_PREFIX) || tag != Some(pop::CHECK_POINT_TAG) {
            return;
        }
        // A pop in order moves no offset, its acknowledgements do.
        if let Some(point) = fastjson::from_slice::<CheckPoint<'_>>(record.body).ok().filter(|_| record.queue_id != ORDER_QUEUE) {
            let queues = first.entry(offsets::key(&point.topic, &point.group)).or_default();
            let start = queues.entry(point.queue_id).or_insert(point.start);
            *start = point.start.min(*start);
        }
    })?;
    Ok(first)
}

/// Until when an early acknowledgement is kept.
pub fn early_until(pop_time: i64, invisible_time: i64) -> i64 {
    pop_time.saturating_add(invisible_time).saturating_add(EARLY_GRACE_MS)
}

impl Broker {
    /// Reads what the revive topic has beyond what was read of it or written by this broker: everything that is needed
    /// at the start, what Java's timer still brings later.
    pub(crate) fn read_pops(&self, now: i64) {
        let starting = !self.pops.ready.load(Ordering::Acquire);
        let topic = revive_topic(self);
        let queues = if starting { self.store.queues() } else { self.revive_queues(&topic) };
        let mut points = self.pops.points.lock();
        for queue in queues.iter().filter(|queue| queue.topic == topic) {
            let applied = if starting { self.begin_at(&mut points, queue) } else { i64::MAX };
            if let Err(error) = self.read_revive_queue(&mut points, queue, applied, now) {
                tracing::error!("queue {} of {topic} can't be read, which is tried again: {error}", queue.id);
                return;
            }
        }
        drop(points);
        self.pops.ready.store(true, Ordering::Release);
    }

    fn revive_queues(&self, topic: &str) -> Vec<Arc<Queue>> {
        (0..self.config().revive_queue_num).filter_map(|id| self.store.find_queue(topic, id)).collect()
    }

    /// Sets where a queue of the revive topic is read from. Returns up to where it has moved the groups' offsets.
    fn begin_at(&self, points: &mut Points, queue: &Queue) -> i64 {
        let committed = |group| self.offsets.committed(&queue.topic, group, queue.id);
        let (done, applied) = (committed(names::REVIVE_GROUP), committed(names::REVIVE_APPLIED_GROUP));
        // Java's broker saves the groups' offsets, and knows no others.
        let applied = applied.unwrap_or(if done.is_some() { i64::MAX } else { -1 });
        let done = if queue.id == ORDER_QUEUE { applied } else { done.unwrap_or(-1) };
        points.read_from(queue.id, done.saturating_add(1).max(queue.min_offset()).min(queue.max_offset()));
        applied
    }

    fn read_revive_queue(&self, points: &mut Points, queue: &Queue, applied: i64, now: i64) -> io::Result<()> {
        let mut entries = [Entry::default(); ENTRIES];
        loop {
            let next = points.next(queue.id);
            if next >= queue.max_offset() {
                return Ok(());
            }
            let count = queue.read(next, &mut entries)?;
            if count == 0 {
                return Ok(());
            }
            for (entry, offset) in entries[..count].iter().zip(next..) {
                if points.next(queue.id) != offset {
                    break;
                }
                let place = Place { queue_id: queue.id, offset };
                let slice = self.store.record(entry.offset as u64);
                match slice.as_ref().map(|slice| record::decode_checked(slice.bytes())) {
                    Some(Ok(record)) => self.read_revive_record(points, &record, place, applied, now),
                    Some(Err(error)) => {
                        tracing::error!("record {offset} of queue {} of {} is damaged: {error}", queue.id, queue.topic)
                    }
                    None => {}
                }
                points.passed(place);
            }
        }
    }

    fn read_revive_record(&self, points: &mut Points, record: &Record<'_>, place: Place, applied: i64, now: i64) {
        let tag = properties::get(record.properties, properties::TAGS).unwrap_or_default();
        let read = match tag {
            pop::CHECK_POINT_TAG => fastjson::from_slice(record.body).map(|point: CheckPoint<'_>| match place.queue_id {
                ORDER_QUEUE => self.read_order(&point),
                _ => self.read_check_point(points, &point, record, place, applied, now),
            }),
            pop::ACK_TAG | pop::BATCH_ACK_TAG => fastjson::from_slice(record.body).map(|ack: Ack<'_>| match place.queue_id {
                ORDER_QUEUE => self.read_order_ack(&ack),
                _ => read_ack(points, &ack, place),
            }),
            _ => return,
        };
        if let Err(error) = read {
            tracing::error!("record {} of queue {} of {} is passed over: {error}", place.offset, place.queue_id, record.topic);
        }
    }

    fn read_check_point(
        &self,
        points: &mut Points,
        point: &CheckPoint<'_>,
        record: &Record<'_>,
        place: Place,
        applied: i64,
        now: i64,
    ) {
        let through_timer = properties::get(record.properties, properties::TIMER_OUT_MS).is_some();
        let start = point.start;
        let offsets: Vec<i64> = match point.diffs.as_slice() {
            [] => (start..start.saturating_add(i64::from(point.count.clamp(0, pop::MAX_MESSAGES)))).collect(),
            diffs => diffs.iter().map(|diff| start.saturating_add(i64::from(*diff))).collect(),
        };
        let (Some(last), Some(offsets)) = (offsets.iter().max().copied(), Offsets::new(start, offsets)) else { return };
        if !through_timer && place.offset > applied {
            self.move_offset(&point.topic, &point.group, point.queue_id, last + 1);
        }
        let end = point.pop_time.saturating_add(point.invisible_time);
        let due = if through_timer { end.max(now).saturating_add(TIMER_GRACE_MS) } else { end };
        let key = Key { lane: Lane::new(&point.topic, &point.group, point.queue_id), start, pop_time: point.pop_time };
        points.add(key, due, offsets, place);
    }

    /// A kill takes the newest offsets of groups; they do not go back for it.
    fn move_offset(&self, topic: &str, group: &str, queue_id: i32, offset: i64) {
        if self.offsets.committed(topic, group, queue_id).is_none_or(|committed| committed < offset) {
            self.offsets.commit(topic, group, queue_id, offset);
        }
    }

    fn read_order(&self, point: &CheckPoint<'_>) {
        let queue = Ordered { topic: &point.topic, group: &point.group, queue_id: point.queue_id };
        let mut orders = self.pops.orders.lock();
        if point.count == 0 {
            let visible_at = point.pop_time.saturating_add(point.invisible_time);
            return orders.change(queue, point.start, point.pop_time, visible_at);
        }
        let offsets: Vec<i64> = point.diffs.iter().map(|diff| point.start + i64::from(*diff)).collect();
        if !offsets.first().is_some_and(|first| orders.knows(queue, point.pop_time, *first)) {
            orders.popped(queue, point.attempt_id.as_deref(), point.pop_time, point.invisible_time, &offsets);
        }
    }

    fn read_order_ack(&self, ack: &Ack<'_>) {
        let queue = Ordered { topic: &ack.topic, group: &ack.group, queue_id: ack.queue_id };
        if let Next::Commit(offset) = self.pops.orders.lock().acked(queue, ack.offset, ack.pop_time) {
            self.move_offset(&ack.topic, &ack.group, ack.queue_id, offset);
        }
    }

    /// Brings back what nobody acknowledged in time.
    pub(crate) fn bring_back(&self, now: i64) {
        loop {
            let mut points = self.pops.points.lock();
            points.expire_early(now);
            let due = points.due(now, BROUGHT_BACK);
            if due.is_empty() {
                return;
            }
            let mut batch = Batch::default();
            let (mut topics, mut added) = (BTreeSet::new(), Vec::new());
            for point in &due {
                if batch.bytes() > BROUGHT_BACK_BYTES {
                    break;
                }
                match self.add_due(&mut batch, point, &mut topics, now) {
                    Ok(()) => added.push((point, batch.len() - 1)),
                    Err(error) => {
                        tracing::error!(
                            "messages of {} can't be brought back and are tried again: {error}",
                            point.key.lane.text()
                        );
                        points.postpone(&point.key, now + RETRY_MS);
                    }
                }
            }
            let woken = match self.store.append(&mut batch, now) {
                Ok((end, woken)) => {
                    self.log_written(end);
                    woken
                }
                Err(error) => {
                    tracing::error!("popped messages can't be brought back and are tried again: {error}");
                    return due.iter().for_each(|point| points.postpone(&point.key, now + RETRY_MS));
                }
            };
            for (point, at) in added {
                points.passed(Place { queue_id: point.place.queue_id, offset: batch.place(at).queue_offset });
                points.remove(&point.key);
            }
            drop(points);
            woken.iter().for_each(|queue| self.wake(queue, now));
            topics.iter().for_each(|topic| wait::wake(self, topic, 0, now));
        }
    }

    /// Adds the messages, and the acknowledgement that their check point needs them no longer.
    fn add_due(&self, batch: &mut Batch, due: &Due, topics: &mut BTreeSet<String>, now: i64) -> io::Result<()> {
        let before = batch.len();
        self.add_retries(batch, due, topics, now)
            .and_then(|()| push_acks(self, batch, due.place.queue_id, &due.key, &due.offsets, None, now))
            .inspect_err(|_| batch.truncate(before))
    }

    /// Adds what is left of a check point's messages to a batch, for their retry topic.
    fn add_retries(&self, batch: &mut Batch, due: &Due, topics: &mut BTreeSet<String>, now: i64) -> io::Result<()> {
        let (topic, group, queue_id) = due.key.lane.parts();
        if self.topics.get(pop::origin(topic, group)).is_none() || self.groups.get(group).is_none() {
            return Ok(());
        }
        let Some(queue) = self.store.find_queue(topic, queue_id) else { return Ok(()) };
        let retry = match Source::of(topic) {
            Source::Normal if self.config().enable_retry_topic_v2 => Source::RetryV2.topic(topic, group),
            Source::Normal => Source::RetryV1.topic(topic, group),
            _ => topic.into(),
        };
        self.create_retry_topic(&retry, 1, now).map_err(|refusal| io::Error::other(refusal.remark))?;
        if self.offsets.committed(&retry, group, 0).is_none() {
            self.offsets.commit(&retry, group, 0, 0);
        }
        for offset in &due.offsets {
            let slice = self.store.message(&queue, *offset)?;
            match slice.as_ref().map(|slice| record::decode_checked(slice.bytes())) {
                Some(Ok(message)) => self.add_retry(batch, &message, &retry, due.key.pop_time)?,
                Some(Err(error)) => tracing::error!("the message {offset} of {} can't be read: {error}", due.key.lane.text()),
                None => tracing::warn!("the message {offset} of {} is deleted and does not come back", due.key.lane.text()),
            }
        }
        topics.insert(retry.into_owned());
        Ok(())
    }

    fn add_retry(&self, batch: &mut Batch, message: &Record<'_>, topic: &str, pop_time: i64) -> io::Result<()> {
        let mut text = message.properties.to_owned();
        if message.reconsume_times == 0 || properties::get(&text, properties::FIRST_POP_TIME).is_none() {
            let mut grown = properties::without(&text, &[properties::FIRST_POP_TIME]);
            properties::push(&mut grown, properties::FIRST_POP_TIME, &pop_time.to_string());
            text = if grown.len() <= properties::MAX_LENGTH { grown } else { text };
        }
        let record = Record {
            topic,
            queue_id: 0,
            properties: &text,
            born_host: self.store_host(),
            store_host: self.store_host(),
            reconsume_times: message.reconsume_times + 1,
            prepared_transaction_offset: 0,
            ..message.clone()
        };
        if record.encoded_length() + BLANK_LENGTH > self.config().mapped_file_size_commit_log as usize {
            tracing::error!(
                "the message at {} does not fit a commit log file with its retry topic's name",
                message.physical_offset
            );
            return Ok(());
        }
        batch.push(self.store.queue(topic, 0)?, &record, store::tags_code(&text), 1);
        Ok(())
    }

    /// Notes how far the revive topic is done with.
    pub(crate) fn commit_revive_offsets(&self) {
        let topic = revive_topic(self);
        let progress = self.pops.points.lock().progress();
        for (queue_id, done, applied) in progress.into_iter().filter(|(queue_id, ..)| *queue_id != ORDER_QUEUE) {
            let groups = [(names::REVIVE_GROUP, done), (names::REVIVE_APPLIED_GROUP, applied)];
            for (group, offset) in groups.into_iter().filter(|(_, offset)| *offset >= 0) {
                self.offsets.commit(&topic, group, queue_id, offset);
            }
        }
    }
}

fn read_ack(points: &mut Points, ack: &Ack<'_>, place: Place) {
    let key = Key { lane: Lane::new(&ack.topic, &ack.group, ack.queue_id), start: ack.start, pop_time: ack.pop_time };
    let offsets = if ack.offsets.is_empty() { std::slice::from_ref(&ack.offset) } else { &ack.offsets };
    for offset in offsets {
        match (points.look(&key, *offset), ack.invisible_time) {
            (Known::Unknown, Some(invisible_time)) => {
                points.keep_early(&key, &[*offset], early_until(ack.pop_time, invisible_time), place);
            }
            _ => points.ack(&key, *offset),
        }
    }
}
