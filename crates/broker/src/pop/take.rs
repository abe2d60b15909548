//! POP: checks, which queues a pop takes messages from, and its answer.

use std::sync::Arc;

use protocol::bodies::{SubscriptionData, SubscriptionGroupConfig, TopicConfig};
use protocol::exchange::{Call, Refusal};
use protocol::pop::{self, CheckPoint, Handle, ORDER_QUEUE, Source};
use protocol::record::{self, Record};
use protocol::requests::{PeekMessage, PopMessage, PopMessageReply};
use protocol::{codes, properties};
use store::log::Slice;
use store::queue::Queue;
use store::{Batch, GetResult, GetStatus};

use super::order::Ordered;
use super::points::{Key, Lane, MAX_OPEN, Offsets, Place};
use super::{ack, not_appended, revive, wait};
use crate::answers::Reply;
use crate::clients::Subscription;
use crate::handlers::consume::starts_in_memory;
use crate::handlers::pull::{Filter, parse_tags};
use crate::handlers::{Handled, can_read, io_refusal};
use crate::popped::{Message, Popped};
use crate::{Broker, BrokerConfig, stats};

/// A pop that arrives so much later than it was ready to wait is answered at once, in ms (Java: the same).
const TOO_LATE_MS: i64 = 500;
/// A pop that waits is answered so much before its client gives up, in ms (Java: the same).
const BEFORE_DEADLINE_MS: i64 = 50;
/// The longest time that a pop waits, whatever the client asks for.
const MAX_POLL_MS: i64 = 60_000;
/// `initMode`: a group without an offset begins with the newest message.
const FROM_NEWEST: i32 = 1;

/// Whose messages are wanted.
#[derive(Debug)]
pub struct Want {
    pub group: String,
    pub topic: Arc<TopicConfig>,
    /// Below 0: all queues.
    pub queue_id: i32,
    /// The topics through which the group's messages come back.
    pub retry_topics: Vec<String>,
    pub order: bool,
    pub attempt_id: Option<String>,
}

/// A pop that has been checked.
#[derive(Debug)]
pub struct Pop {
    pub want: Arc<Want>,
    most: usize,
    pub invisible_time: i64,
    from_newest: bool,
    filter: Filter,
}

/// What is asked of every request that reads for a group: the topic and the group, which exist and may be read.
pub fn check(
    broker: &Broker,
    call: &Call<'_>,
    (topic, queue_id): (&str, i32),
    group: &str,
    doing: &str,
) -> Result<(Arc<TopicConfig>, Arc<SubscriptionGroupConfig>), Refusal> {
    let config = broker.config();
    if !can_read(config.broker_permission) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("the broker[{}] {doing} is forbidden", config.broker_ip1)));
    }
    check_topic(broker, call, topic, queue_id).and_then(|topic| {
        let Some(found) = broker.find_group(group, call.now) else {
            let remark = format!("subscription group [{group}] does not exist");
            return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        if !found.consume_enable {
            return Err(Refusal::new(codes::NO_PERMISSION, format!("subscription group no permission, {group}")));
        }
        Ok((topic, found))
    })
}

fn check_topic(broker: &Broker, call: &Call<'_>, name: &str, queue_id: i32) -> Result<Arc<TopicConfig>, Refusal> {
    let Some(topic) = broker.topics.get(name) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{name}] not exist, apply first please!")));
    };
    if !can_read(topic.perm) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("the topic[{name}] peeking message is forbidden")));
    }
    if queue_id >= topic.read_queue_nums {
        let remark = format!(
            "queueId[{queue_id}] is illegal, topic:[{name}] topicConfig.readQueueNums:[{}] consumer:[{}]",
            topic.read_queue_nums, call.connection.remote
        );
        return Err(Refusal::new(codes::INVALID_PARAMETER, remark));
    }
    Ok(topic)
}

/// When a request that waits is answered; `now` and before: it does not wait.
pub fn deadline(now: i64, born_time: Option<i64>, poll_time: i64) -> i64 {
    let poll_time = poll_time.clamp(0, MAX_POLL_MS);
    let born_time = born_time.filter(|time| *time != 0).unwrap_or(now).min(now);
    if poll_time == 0 { now } else { born_time.saturating_add(poll_time) - BEFORE_DEADLINE_MS }
}

/// The retry topics of a group for a topic, in the order in which a pop looks at them.
pub fn retry_topics(config: &BrokerConfig, topic: &str, group: &str) -> Vec<String> {
    let name = |source: Source| source.topic(topic, group).into_owned();
    match (config.enable_retry_topic_v2, config.retrieve_message_from_pop_retry_topic_v1) {
        (true, true) => vec![name(Source::RetryV2), name(Source::RetryV1)],
        (true, false) => vec![name(Source::RetryV2)],
        (false, _) => vec![name(Source::RetryV1)],
    }
}

/// POP_MESSAGE: answered at once where there are messages, else parked until there are.
pub fn pop_message(broker: &Broker, call: &mut Call<'_>, request: PopMessage<'_>) -> Handled {
    broker.require_pops()?;
    let config = broker.config();
    let late = call.now.saturating_sub(request.born_time.filter(|time| *time != 0).unwrap_or(call.now));
    if late.saturating_sub(request.poll_time) > TOO_LATE_MS {
        let remark = format!("the broker[{}] pop message is timeout too much", config.broker_ip1);
        return Err(Refusal::new(codes::POLLING_TIMEOUT, remark));
    }
    if request.max_msg_nums > pop::MAX_MESSAGES {
        let remark = format!("the broker[{}] pop message's num is greater than {}", config.broker_ip1, pop::MAX_MESSAGES);
        return Err(Refusal::new(codes::INVALID_PARAMETER, remark));
    }
    let (topic, _) = check(broker, call, (request.topic, request.queue_id), request.consumer_group, "pop message")?;
    let want = Want {
        group: request.consumer_group.to_owned(),
        topic,
        queue_id: request.queue_id,
        retry_topics: retry_topics(&config, request.topic, request.consumer_group),
        order: request.order == Some(true),
        attempt_id: request.attempt_id.map(str::to_owned),
    };
    let pop = Pop {
        want: Arc::new(want),
        most: request.max_msg_nums.max(1) as usize,
        invisible_time: request.invisible_time,
        from_newest: request.init_mode == FROM_NEWEST,
        filter: filter(broker, &request)?,
    };
    let popped = pop.take(broker, call.now)?;
    if popped.messages.is_empty() {
        let deadline = deadline(call.now, request.born_time, request.poll_time);
        return wait::pop(broker, call, pop, popped, deadline);
    }
    broker.answer_when_stored(call, popped.end, Reply::Popped(popped));
    Ok(())
}

/// PEEK_MESSAGE: what a pop would get, left where it is.
pub fn peek_message(broker: &Broker, call: &mut Call<'_>, request: PeekMessage<'_>) -> Handled {
    let (name, group) = (request.topic, request.consumer_group);
    let (topic, _) = check(broker, call, (name, request.queue_id), group, "peeking message")?;
    let retry = retry_topics(&broker.config(), name, group).into_iter().filter_map(|name| broker.topics.get(&name));
    let all = |topic: &TopicConfig| (0..topic.read_queue_nums).map(|id| (topic.topic_name.clone(), id)).collect::<Vec<_>>();
    let own = if request.queue_id < 0 { all(&topic) } else { vec![(name.to_owned(), request.queue_id)] };
    let most = request.max_msg_nums.clamp(1, pop::MAX_MESSAGES) as usize;
    let mut popped = Popped::nothing(0, 0, 0, None);
    for (topic, id) in own.into_iter().chain(retry.flat_map(|topic| all(&topic))) {
        let Some(queue) = broker.store.find_queue(&topic, id) else { continue };
        let committed = broker.offsets.committed(&topic, group, id).unwrap_or(0);
        let offset = committed.clamp(queue.min_offset(), queue.max_offset());
        popped.rest += queue.max_offset() - offset;
        if let Some(left) = most.checked_sub(popped.messages.len()).filter(|left| *left > 0) {
            let found = broker.store.get(Some(&queue), offset, &broker.limits(left as i32, None), |_| true, store::ANY);
            let found = found.map_err(|e| io_refusal("reading a consume queue", &e))?;
            popped.messages.extend(found.messages.into_iter().map(Message::Stored));
        }
    }
    let (code, status) = match popped.is_empty() {
        true => (codes::PULL_NOT_FOUND, GetStatus::NoMessageInQueue),
        false => (codes::SUCCESS, GetStatus::Found),
    };
    let reply = PopMessageReply { start_offset_info: None, msg_offset_info: None, ..popped.reply() };
    call.answer_with(code, Some(status.name()), &reply, &[], &popped.body());
    Ok(())
}

/// What the request wants of the topic; without an expression, all.
fn filter(broker: &Broker, request: &PopMessage<'_>) -> Result<Filter, Refusal> {
    let (text, kind) = match request.exp {
        None | Some("") => ("*", "TAG"),
        Some(text) => (text, request.exp_type.unwrap_or("TAG")),
    };
    let data = match kind {
        "" | "TAG" => parse_tags(request.topic, text, 0),
        _ => SubscriptionData {
            topic: request.topic.to_owned(),
            sub_string: text.to_owned(),
            expression_type: kind.to_owned(),
            ..SubscriptionData::default()
        },
    };
    let subscription = Subscription::new(data, &broker.expressions);
    if let Some(Err(error)) = &subscription.expression {
        let remark = format!("parse the consumer's subscription failed: {error}");
        return Err(Refusal::new(codes::SUBSCRIPTION_PARSE_FAILED, remark));
    }
    Ok(Filter::of(Arc::new(subscription)))
}

impl Pop {
    /// Takes messages of the topic's queues and of the retry topics, as many as there are and are wanted.
    pub fn take(&self, broker: &Broker, now: i64) -> Result<Popped, Refusal> {
        let turn = broker.next_of(i32::MAX);
        let revive_queue = if self.want.order { ORDER_QUEUE } else { turn % broker.config().revive_queue_num };
        let mut popped = Popped::nothing(now, self.invisible_time, revive_queue, self.want.order.then(String::new));
        let taken = self.take_all(broker, turn, &mut popped);
        let counters = &broker.stats.counters;
        if popped.is_empty() {
            stats::add(&counters.gets_missed, 1);
            return taken.map(|()| popped);
        }
        // Messages that have their check point are given, whatever came of the next queue.
        stats::add(&counters.gets_found, 1);
        stats::add(&counters.messages_got, popped.messages.len() as u64);
        Ok(popped)
    }

    fn take_all(&self, broker: &Broker, turn: i32, popped: &mut Popped) -> Handled {
        let Want { topic, queue_id, order, .. } = &*self.want;
        // 37 and 100 have no common divisor: each number below 100 comes once in 100 turns, well mixed.
        let retry_first = !order && turn % 100 * 37 % 100 < broker.config().pop_from_retry_probability;
        if retry_first {
            self.take_retries(broker, turn, popped)?;
        }
        let queues = topic.read_queue_nums;
        match queue_id {
            ..0 => (0..queues)
                .map(|nth| (turn % queues + nth) % queues)
                .try_for_each(|id| self.take_queue(broker, &topic.topic_name, id, popped))?,
            id => self.take_queue(broker, &topic.topic_name, *id, popped)?,
        }
        if !retry_first && !order && popped.messages.len() < self.most {
            self.take_retries(broker, turn, popped)?;
        }
        Ok(())
    }

    /// An answer can name queues of one retry topic alone: the second one is looked at where the first has nothing.
    fn take_retries(&self, broker: &Broker, turn: i32, popped: &mut Popped) -> Handled {
        let before = popped.messages.len();
        let topics = self.want.retry_topics.len();
        for nth in 0..topics {
            let name = &self.want.retry_topics[(turn as usize + nth) % topics];
            let Some(topic) = broker.topics.get(name) else { continue };
            (0..topic.read_queue_nums).try_for_each(|id| self.take_queue(broker, name, id, popped))?;
            if popped.messages.len() > before {
                break;
            }
        }
        Ok(())
    }

    /// Takes messages of one queue, of which nobody else of the group takes any meanwhile.
    fn take_queue(&self, broker: &Broker, topic: &str, queue_id: i32, popped: &mut Popped) -> Handled {
        let queue = broker.store.queue(topic, queue_id).map_err(|e| io_refusal("opening a consume queue", &e))?;
        let lane = Lane::new(topic, &self.want.group, queue_id);
        let _turn = broker.pops.turn(&lane);
        let ordered = Ordered { topic, group: &self.want.group, queue_id };
        if let Some(reset) = broker.offsets.take_reset(topic, &self.want.group, queue_id) {
            broker.pops.orders.lock().forget(ordered);
            broker.offsets.commit(topic, &self.want.group, queue_id, reset);
        }
        let mut offset = self.offset(broker, &queue);
        if self.want.order && broker.pops.orders.lock().is_blocked(ordered, self.want.attempt_id.as_deref(), popped.pop_time) {
            return Ok(());
        }
        if popped.messages.len() >= self.most {
            popped.rest += queue.max_offset() - offset;
            return Ok(());
        }
        let commit = |offset| broker.offsets.commit(topic, &self.want.group, queue_id, offset);
        let mut result = self.read(broker, &queue, offset, popped)?;
        if matches!(result.status, GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly | GetStatus::OffsetFoundNull) {
            tracing::warn!(
                "group {} pops queue {queue_id} of {topic} from {} on, as there is nothing at {offset}",
                self.want.group,
                result.next
            );
            commit(result.next);
            offset = result.next;
            result = self.read(broker, &queue, offset, popped)?;
        }
        if result.messages.is_empty() {
            if result.next > offset {
                commit(result.next);
            }
        } else {
            let offsets: Vec<i64> = result.messages.iter().map(|slice| record::queue_offset(slice.bytes())).collect();
            if self.want.order {
                self.note_in_order(broker, ordered, &offsets, popped)?;
                commit(offset);
            } else {
                self.note(broker, lane, offset, &offsets, result.next, popped)?;
            }
            let bytes: usize = result.messages.iter().map(|slice| slice.bytes().len()).sum();
            broker.stats.got(topic, &self.want.group, offsets.len() as u64, bytes as u64);
            popped.add_offsets(topic, queue_id, offset, &offsets);
            self.add_messages(broker, topic, offset, result.messages, popped);
        }
        popped.rest += result.max - result.next;
        Ok(())
    }

    fn read(&self, broker: &Broker, queue: &Arc<Queue>, offset: i64, popped: &Popped) -> Result<GetResult, Refusal> {
        let limits = broker.limits((self.most - popped.messages.len()) as i32, None);
        let matches = |code| self.filter.matches(code);
        broker
            .store
            .get(Some(queue), offset, &limits, matches, self.filter.wanted())
            .map_err(|e| io_refusal("reading a consume queue", &e))
    }

    /// Where the group is in a queue. A group that was never there begins where the request says.
    fn offset(&self, broker: &Broker, queue: &Queue) -> i64 {
        if let Some(offset) = broker.offsets.committed(&queue.topic, &self.want.group, queue.id) {
            return offset;
        }
        let from_newest = self.from_newest && Source::of(&queue.topic) == Source::Normal;
        let in_memory = broker.config().init_pop_offset_by_check_msg_in_mem;
        let offset = match queue.min_offset() {
            min if !from_newest => min,
            min if in_memory && min <= 0 && starts_in_memory(broker, queue) => 0,
            _ => (queue.max_offset() - 1).max(0),
        };
        broker.offsets.commit(&queue.topic, &self.want.group, queue.id, offset);
        offset
    }

    /// Writes the check point of what was taken of a queue, and has the group go on behind it.
    fn note(&self, broker: &Broker, lane: Lane, start: i64, offsets: &[i64], next: i64, popped: &mut Popped) -> Handled {
        let config = broker.config();
        let (topic, group, queue_id) = lane.parts();
        let point = CheckPoint {
            broker: Some(config.broker_name.as_str().into()),
            group: group.into(),
            diffs: offsets.iter().map(|offset| (offset - start) as i32).collect(),
            invisible_time: self.invisible_time,
            count: offsets.len() as i32,
            pop_time: popped.pop_time,
            queue_id,
            start,
            topic: topic.into(),
            ..CheckPoint::default()
        };
        let mut batch = Batch::default();
        revive::push_check_point(broker, &mut batch, popped.revive_queue, &point, popped.pop_time)
            .map_err(|e| io_refusal("opening the revive topic", &e))?;
        let mut points = broker.pops.points.lock();
        let Some(offsets) = Offsets::new(start, offsets.iter().copied()).filter(|_| points.open() < MAX_OPEN) else {
            let remark = format!("[POP]{MAX_OPEN} pops are neither acknowledged nor over; acknowledge some first");
            return Err(Refusal::new(codes::SYSTEM_BUSY, remark));
        };
        let (end, _) = broker.store.append(&mut batch, popped.pop_time).map_err(|e| not_appended(&e))?;
        let place = Place { queue_id: popped.revive_queue, offset: batch.place(0).queue_offset };
        points.passed(place);
        broker.offsets.commit(topic, group, queue_id, next);
        let due = popped.pop_time.saturating_add(self.invisible_time);
        points.add(Key { lane, start, pop_time: popped.pop_time }, due, offsets, place);
        drop(points);
        broker.log_written(end);
        popped.end = end;
        Ok(())
    }

    /// Notes what was taken in order, in memory and in the log.
    fn note_in_order(&self, broker: &Broker, queue: Ordered<'_>, offsets: &[i64], popped: &mut Popped) -> Handled {
        let start = offsets.first().copied().unwrap_or(0);
        let attempt_id = self.want.attempt_id.as_deref();
        let point = CheckPoint {
            attempt_id: attempt_id.map(Into::into),
            group: queue.group.into(),
            diffs: offsets.iter().map(|offset| (offset - start) as i32).collect(),
            invisible_time: self.invisible_time,
            count: offsets.len() as i32,
            pop_time: popped.pop_time,
            queue_id: queue.queue_id,
            start,
            topic: queue.topic.into(),
            ..CheckPoint::default()
        };
        let mut orders = broker.pops.orders.lock();
        let mut batch = Batch::default();
        revive::push_check_point(broker, &mut batch, ORDER_QUEUE, &point, popped.pop_time)
            .map_err(|e| io_refusal("opening the revive topic", &e))?;
        popped.end = ack::append_in_order(broker, &mut batch, popped.pop_time)?;
        orders.popped(queue, attempt_id, popped.pop_time, self.invisible_time, offsets);
        let (counts, least) = orders.times_given(queue);
        drop(orders);
        popped.add_order_counts(queue.topic, queue.queue_id, &counts, least);
        Ok(())
    }

    /// Adds messages to the answer. Those of a retry topic name the topic that they came from, and bring their handle.
    fn add_messages(&self, broker: &Broker, topic: &str, start: i64, messages: Vec<Slice>, popped: &mut Popped) {
        let config = broker.config();
        let source = Source::of(topic);
        if source == Source::Normal || config.pop_response_return_actual_retry_topic {
            return popped.messages.extend(messages.into_iter().map(Message::Stored));
        }
        let handle = Handle {
            start,
            pop_time: popped.pop_time,
            invisible_time: self.invisible_time,
            revive_queue: popped.revive_queue,
            source,
            broker: &config.broker_name,
        };
        let rewritten = messages.into_iter().map(|slice| match rewrite(&slice, &self.want.topic.topic_name, &handle) {
            Some(bytes) => Message::Rewritten(bytes),
            None => Message::Stored(slice),
        });
        popped.messages.extend(rewritten);
    }
}

/// A message with another topic and its handle; `None` where there is no room for that in its properties.
fn rewrite(slice: &Slice, topic: &str, handle: &Handle<'_>) -> Option<Vec<u8>> {
    let message = record::decode(slice.bytes()).ok()?;
    let mut text = message.properties.to_owned();
    if properties::get(&text, properties::POP_CK).is_none() {
        let handle = format!("{handle} {} {}", message.queue_id, message.queue_offset);
        properties::push(&mut text, properties::POP_CK, &handle);
    }
    if text.len() > properties::MAX_LENGTH {
        return None;
    }
    let mut bytes = Vec::new();
    Record { topic, properties: &text, ..message }.encode(&mut bytes);
    Some(bytes)
}
