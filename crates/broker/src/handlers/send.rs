//! SEND: validate, rewrite, encode into the batch of this read; answer when the batch is appended.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use protocol::bodies::{TopicConfig, TopicFilterType};
use protocol::exchange::{Call, Refusal, Responder};
use protocol::record::{BLANK_LENGTH, Record};
use protocol::requests::SendMessage;
use protocol::sys_flag::message;
use protocol::{batch, codes, message_id, names, properties, version};
use store::{AppendError, Batch};

use crate::announce::Ticket;
use crate::answers::{Owed, Reply, Sent, Waiting, extra_fields};
use crate::config::BrokerRole;
use crate::handlers::{Handled, can_write, io_refusal};
use crate::pop::{Acks, not_appended};
use crate::transaction::{self, Ended};
use crate::{Broker, BrokerConfig, stats, timer};

/// Queues of a group's dead letter topic.
const DLQ_QUEUES: i32 = 1;

/// The sends of one read on their way to the log.
#[derive(Default)]
pub struct Sends {
    batch: Batch,
    answers: Vec<Answer>,
    /// The outcomes of transactions in the batch.
    ended: Vec<(Responder, Ended)>,
    /// Popped messages that are acknowledged.
    pub(crate) acks: Acks,
    /// The properties of the message at hand.
    properties: String,
}

/// What is needed to answer one send.
struct Answer {
    responder: Responder,
    first: usize,
    count: usize,
    queue_id: i32,
    unique_key: Option<String>,
    topic: Arc<TopicConfig>,
    /// When a timer message is due.
    due: Option<i64>,
    /// The client asked not to wait for the disk (`WAIT=false`).
    wait: bool,
    /// The topic was made by this send, and is to be known to the name servers before its sender hears of it.
    announce: Option<Ticket>,
}

enum NotAppended {
    /// The log had no turn for it in time.
    Late,
    Refused(Refusal),
}

/// Answers a send that was refused; it names the region as every answer to a send does.
pub fn refuse(broker: &Broker, call: &mut Call<'_>, refusal: &Refusal) {
    let config = broker.config();
    call.answer_with(refusal.code, Some(&refusal.remark), &(), &extra_fields(&config), &[]);
}

/// What the properties of a message say that decides its way.
#[derive(Default)]
struct Known {
    unique_key: Option<String>,
    tags_code: i64,
    delay_level: i32,
    wait: bool,
    /// It is a half message.
    prepared: bool,
    /// It asks for a time of delivery.
    timed: bool,
}

impl Sends {
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.acks.is_empty()
    }

    pub(crate) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Has the outcome of a transaction answered when the batch is appended, to which it was added.
    pub(crate) fn end(&mut self, responder: Responder, ended: Ended) {
        self.ended.push((responder, ended));
    }

    /// Checks a send and adds its message to the batch.
    pub fn accept(&mut self, broker: &Broker, call: &Call<'_>, request: &SendMessage<'_>) -> Handled {
        let config = broker.config();
        let (topic, queue_id, announce) = Self::check(broker, &config, call, request, self.answers.len())?;
        if call.body.len() > config.max_message_size as usize {
            return Err(illegal(&config));
        }
        let known = self.rewrite_properties(broker, &config, request.properties.unwrap_or_default())?;
        let known = check_half(&config, request, known)?;
        let (topic, queue_id, known) = retry_or_dead_letter(broker, call, request, topic, queue_id, known)?;
        let message = Outgoing { flag: request.flag, body: call.body, reconsume_times: request.reconsume_times.unwrap_or(0) };
        let first = self.batch.len();
        let unique_key = known.unique_key.clone();
        let wait = known.wait;
        let due = self.push(broker, &config, call, request, &topic, queue_id, &message, &known, 1)?;
        // It counts for its own topic when it is committed.
        let half_topic = if known.prepared { broker.topics.get(names::TRANS_HALF_TOPIC) } else { None };
        let topic = half_topic.unwrap_or(topic);
        self.answers.push(Answer { responder: call.park(), first, count: 1, queue_id, unique_key, topic, due, wait, announce });
        Ok(())
    }

    /// Checks a send of several messages and adds them all to the batch.
    pub fn accept_batch(&mut self, broker: &Broker, call: &Call<'_>, request: &SendMessage<'_>) -> Handled {
        let config = broker.config();
        let (topic, queue_id, announce) = Self::check(broker, &config, call, request, self.answers.len())?;
        if names::is_retry_or_dlq(request.topic) {
            return Err(Refusal::new(
                codes::MESSAGE_ILLEGAL,
                format!("batch request does not support retry group {}", request.topic),
            ));
        }
        if call.body.len() > config.max_message_size as usize {
            return Err(illegal(&config));
        }
        let messages = batch::decode(call.body).map_err(|e| Refusal::new(codes::MESSAGE_ILLEGAL, e.to_string()))?;
        let first = self.batch.len();
        let mut wait = true;
        let mut pieces = Vec::with_capacity(messages.len());
        for message in &messages {
            let known = self.rewrite_properties(broker, &config, message.properties)?;
            if known.delay_level > 0 || known.timed {
                return Err(Refusal::new(codes::MESSAGE_ILLEGAL, "a batch can't hold delayed messages"));
            }
            if known.prepared {
                return Err(Refusal::new(codes::MESSAGE_ILLEGAL, "a batch can't hold transactional messages"));
            }
            wait &= known.wait;
            pieces.push((known, self.properties.clone()));
        }
        let total: usize =
            pieces.iter().zip(&messages).map(|((_, p), m)| m.body.len() + p.len() + topic.topic_name.len() + FIXED).sum();
        fits(&config, total)?;
        for (nth, (message, (known, text))) in messages.iter().zip(pieces).enumerate() {
            self.properties = text;
            let outgoing = Outgoing { flag: message.flag, body: message.body, reconsume_times: 0 };
            let unit = if nth == 0 { messages.len() } else { 0 };
            self.push(broker, &config, call, request, &topic, queue_id, &outgoing, &known, unit)
                .inspect_err(|_| self.batch.truncate(first))?;
        }
        let unique_key = request.properties.and_then(|p| properties::get(p, properties::UNIQUE_KEY)).map(str::to_owned);
        self.answers.push(Answer {
            responder: call.park(),
            first,
            count: messages.len(),
            queue_id,
            unique_key,
            topic,
            due: None,
            wait,
            announce,
        });
        Ok(())
    }

    /// The topic, made where it may be, the queue, and the registration that a new topic waits for. `before` sends of the
    /// same read are on their way.
    pub(super) fn check(
        broker: &Broker,
        config: &BrokerConfig,
        call: &Call<'_>,
        request: &SendMessage<'_>,
        before: usize,
    ) -> Result<(Arc<TopicConfig>, i32, Option<Ticket>), Refusal> {
        if config.broker_role == BrokerRole::Slave {
            return Err(Refusal::new(codes::SERVICE_NOT_AVAILABLE, broker.slave_remark()));
        }
        broker.admit_send(config, call.now, before)?;
        let name = request.topic;
        let (topic, announce) = match broker.topics.get(name) {
            Some(topic) => (topic, None),
            None => {
                names::check_topic(name).map_err(|e| Refusal::new(codes::INVALID_PARAMETER, e.to_string()))?;
                (broker.create_topic_for_send(request, call)?, broker.next_registration())
            }
        };
        if names::is_not_sendable(name) {
            return Err(Refusal::new(codes::NO_PERMISSION, format!("Sending message to topic[{name}] is forbidden.")));
        }
        if !can_write(config.broker_permission) && topic.order {
            return Err(Refusal::new(
                codes::NO_PERMISSION,
                format!("the broker[{}] sending message is forbidden", config.broker_ip1),
            ));
        }
        if request.queue_id >= topic.write_queue_nums.max(topic.read_queue_nums) {
            let remark = format!(
                "request queueId[{}] is illegal, topic {name} has {} queues to write and {} to read. Producer: {}",
                request.queue_id, topic.write_queue_nums, topic.read_queue_nums, call.connection.remote
            );
            return Err(Refusal::new(codes::INVALID_PARAMETER, remark));
        }
        let queue_id = if request.queue_id < 0 { broker.next_of(topic.write_queue_nums) } else { request.queue_id };
        Ok((topic, queue_id, announce))
    }

    /// Brings a message's properties into `self.properties`, as they are stored: without malformed pieces, with the
    /// cluster's name, a unique key, and what consumers need to write message traces.
    fn rewrite_properties(&mut self, broker: &Broker, config: &BrokerConfig, text: &str) -> Result<Known, Refusal> {
        let out = &mut self.properties;
        out.clear();
        let mut known = Known { wait: true, ..Known::default() };
        for (name, value) in properties::pairs(text) {
            match name {
                properties::UNIQUE_KEY => known.unique_key = Some(value.to_owned()),
                properties::TAGS => known.tags_code = i64::from(stdx::java::hash_code(value)),
                properties::DELAY => known.delay_level = value.parse().unwrap_or(0),
                properties::WAIT => known.wait = value != "false",
                properties::CLUSTER | properties::MESSAGE_REGION | properties::TRACE_ON | properties::POP_CK => continue,
                properties::TRANSACTION_PREPARED if value.eq_ignore_ascii_case("true") => {
                    known.prepared = true;
                }
                properties::TIMER_DELIVER_MS | properties::TIMER_DELAY_MS | properties::TIMER_DELAY_SEC => known.timed = true,
                _ => {}
            }
            properties::push(out, name, value);
        }
        if known.unique_key.is_none() {
            let key = broker.make_unique_key();
            properties::push(out, properties::UNIQUE_KEY, &key);
            known.unique_key = Some(key);
        }
        properties::push(out, properties::CLUSTER, &config.broker_cluster_name);
        for (name, value) in extra_fields(config) {
            properties::push(out, name, value);
        }
        if out.len() > properties::MAX_LENGTH {
            return Err(illegal(config));
        }
        Ok(known)
    }

    #[allow(clippy::too_many_arguments, reason = "a message's parts come from the request, the batch and the properties")]
    fn push(
        &mut self,
        broker: &Broker,
        config: &BrokerConfig,
        call: &Call<'_>,
        request: &SendMessage<'_>,
        topic: &TopicConfig,
        queue_id: i32,
        message: &Outgoing<'_>,
        known: &Known,
        unit: usize,
    ) -> Result<Option<i64>, Refusal> {
        let multi_tags = if topic.topic_filter_type == TopicFilterType::MultiTag { message::MULTI_TAGS } else { 0 };
        if known.prepared {
            transaction::prepare(&topic.topic_name, queue_id, &mut self.properties);
        }
        if known.timed && known.delay_level > 0 {
            self.properties = properties::without(&self.properties, &properties::TIMES);
        }
        let delay = broker.schedule.place(known.delay_level, call.now, &topic.topic_name, queue_id, &mut self.properties);
        let due = match known.timed && !known.prepared && delay.is_none() {
            true => timer::place(broker, config, call.now, &topic.topic_name, queue_id, &mut self.properties)?,
            false => None,
        };
        let (name, queue_id, tags_code) = match delay {
            Some(delay) => (names::SCHEDULE_TOPIC, delay.queue_id, delay.deliver_at),
            None if known.prepared => (names::TRANS_HALF_TOPIC, transaction::QUEUE, known.tags_code),
            None if due.is_some() => (names::WHEEL_TIMER_TOPIC, timer::QUEUE, protocol::timer::code(&self.properties)),
            None => (topic.topic_name.as_str(), queue_id, known.tags_code),
        };
        let reserve = match (known.prepared, due) {
            (true, _) => transaction::RESERVE,
            (false, Some(_)) => timer::RESERVE,
            (false, None) => 0,
        };
        if self.properties.len() + reserve > properties::MAX_LENGTH {
            return Err(illegal(config));
        }
        let record = Record {
            queue_id,
            flag: message.flag,
            queue_offset: 0,
            physical_offset: 0,
            sys_flag: request.sys_flag & !message::TRANSACTION_MASK | multi_tags,
            born_timestamp: request.born_timestamp,
            born_host: call.connection.remote,
            store_timestamp: 0,
            store_host: broker.store_host(),
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: 0,
            body: message.body,
            topic: name,
            properties: &self.properties,
        };
        fits(config, record.encoded_length() + reserve)?;
        let queue = broker.store.queue(name, queue_id).map_err(|e| io_refusal("opening a consume queue", &e))?;
        self.batch.push(queue, &record, tags_code, unit);
        Ok(due)
    }

    /// Appends the batch and answers, or parks the answers until the disk has it.
    pub fn complete(&mut self, broker: &Broker, now: i64, out: &mut BytesMut) {
        if self.is_empty() {
            return;
        }
        let config = broker.config();
        let patience = broker.send_patience(&config, now);
        let (messages, bytes, sends) = (self.batch.len(), self.batch.bytes(), self.answers.len());
        broker.admission.enter(sends);
        let points = self.acks.write(broker, &mut self.batch, now).map_err(|e| io_refusal("opening the revive topic", &e));
        let appended = points.map_err(NotAppended::Refused).and_then(|mut points| {
            let appended =
                broker.store.append_within(&mut self.batch, now, patience.duration()).map_err(|error| match error {
                    AppendError::Busy => NotAppended::Late,
                    error => NotAppended::Refused(not_appended(&error)),
                })?;
            if let Some(points) = &mut points {
                self.acks.apply(points, &self.batch);
            }
            Ok(appended)
        });
        broker.admission.leave(sends);
        match appended {
            Ok((end, woken)) => {
                self.count(broker, messages, bytes, now);
                self.answer(broker, &config, end, now, out);
                broker.appended(end, &woken, now);
            }
            Err(NotAppended::Late) => self.refuse_all(broker, out, || broker.refuse_late_send(&patience)),
            Err(NotAppended::Refused(refusal)) => {
                stats::add(&broker.stats.counters.put_failed, messages as u64);
                self.refuse_all(broker, out, || Refusal::new(refusal.code, refusal.remark.clone()));
            }
        }
        self.batch.clear();
    }

    fn answer(&mut self, broker: &Broker, config: &BrokerConfig, end: u64, now: i64, out: &mut BytesMut) {
        let owed = Owed::of(broker, config, end, now);
        let met = owed.is_met(broker);
        let extra = extra_fields(config);
        for answer in self.answers.drain(..) {
            let reply = Reply::Sent(answer.sent(&self.batch, broker, config));
            let owed = if answer.wait { owed } else { owed.by_nobody() };
            let waiting = Waiting { owed, responder: answer.responder, reply, announce: answer.announce };
            match met || !answer.wait {
                false => broker.park_answer(waiting),
                true if waiting.announce.is_some() => broker.answer_stored([waiting], now),
                true => waiting.answer(&extra, out),
            }
        }
        for (responder, ended) in self.ended.drain(..) {
            broker.transactions.ended(&ended, true);
            self.acks.wait(responder);
        }
        for responder in self.acks.responders() {
            match met {
                true => responder.answer_into(codes::SUCCESS, None, &(), &[], &[], out),
                false => broker.park_answer(Waiting { owed, responder, reply: Reply::Done, announce: None }),
            }
        }
        if !met {
            // Disk and slaves may have confirmed it between the look at them and the parking.
            broker.answer_waiting(now);
        }
    }

    fn count(&self, broker: &Broker, messages: usize, bytes: usize, now: i64) {
        let counters = &broker.stats.counters;
        stats::add(&counters.messages_put, messages as u64);
        stats::add(&counters.bytes_put, bytes as u64);
        // The sends of one read mostly go to one topic, which is then looked up once.
        for sends in self.answers.chunk_by(|one, next| Arc::ptr_eq(&one.topic, &next.topic)) {
            let bytes = sends.iter().map(|send| self.batch.bytes_of(send.first..send.first + send.count)).sum();
            let messages: usize = sends.iter().map(|send| send.count).sum();
            broker.stats.put(&sends[0].topic.topic_name, sends.len() as u64, messages as u64, bytes);
        }
        for timed in self.answers.iter().filter(|answer| answer.due.is_some()) {
            broker.wheel.count(&timed.topic.topic_name, 1, now);
        }
        for ((topic, at), timed) in self.ended.iter().filter_map(|(_, ended)| Some((ended.committed.as_ref()?, ended.timed))) {
            broker.stats.put(topic, 1, 1, self.batch.bytes_of(*at..*at + 1));
            if timed {
                broker.wheel.count(topic, 1, now);
            }
        }
    }

    /// Nothing of the batch was stored.
    fn refuse_all(&mut self, broker: &Broker, out: &mut BytesMut, refusal: impl Fn() -> Refusal) {
        let answers = self.answers.drain(..).map(|answer| answer.responder);
        let ended = self.ended.drain(..).map(|(responder, ended)| {
            broker.transactions.ended(&ended, false);
            responder
        });
        for responder in answers.chain(ended).chain(self.acks.responders()) {
            let refusal = refusal();
            responder.answer_into(refusal.code, Some(&refusal.remark), &(), &[], &[], out);
        }
    }
}

/// Bytes of a record beside its variable parts, generously.
const FIXED: usize = 128;

/// Refuses what can't be stored in one file of the commit log.
pub(super) fn fits(config: &BrokerConfig, length: usize) -> Handled {
    if length + BLANK_LENGTH > config.mapped_file_size_commit_log as usize {
        return Err(illegal(config));
    }
    Ok(())
}

/// One message of a send.
struct Outgoing<'a> {
    flag: i32,
    body: &'a [u8],
    reconsume_times: i32,
}

impl Answer {
    fn sent(&self, batch: &Batch, broker: &Broker, config: &BrokerConfig) -> Sent {
        let host = broker.store_host();
        let first = batch.place(self.first);
        let mut msg_id = message_id::offset_id(host, first.physical_offset as i64);
        for nth in 1..self.count {
            let place = batch.place(self.first + nth);
            let _ = write!(msg_id, ",{}", message_id::offset_id(host, place.physical_offset as i64));
        }
        let topic = &self.topic.topic_name;
        let recallable = self.due.filter(|_| !topic.starts_with(names::RETRY_PREFIX)).zip(self.unique_key.as_deref());
        Sent {
            msg_id,
            queue_id: self.queue_id,
            queue_offset: first.queue_offset,
            transaction_id: self.unique_key.clone(),
            recall_handle: recallable.map(|(due, key)| protocol::timer::handle(topic, &config.broker_name, due, key)),
        }
    }
}

/// Java's answer to a message that is too long in any part.
pub(super) fn illegal(config: &BrokerConfig) -> Refusal {
    Refusal::new(
        codes::MESSAGE_ILLEGAL,
        format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg properties length limit 32KB.",
            config.max_message_size
        ),
    )
}

/// Whether a message that says so is a half message: consumers of old clients send failed messages back as they got
/// them, with the mark of the half message that they once were.
fn check_half(config: &BrokerConfig, request: &SendMessage<'_>, mut known: Known) -> Result<Known, Refusal> {
    if !known.prepared {
        return Ok(known);
    }
    if request.reconsume_times.unwrap_or(0) > 0 && known.delay_level > 0 {
        known.prepared = false;
        return Ok(known);
    }
    if config.reject_transaction_message {
        let remark = format!("the broker[{}] sending transaction message is forbidden", config.broker_ip1);
        return Err(Refusal::new(codes::NO_PERMISSION, remark));
    }
    if known.delay_level > 0 {
        return Err(Refusal::new(codes::MESSAGE_ILLEGAL, "a transactional message can't be delayed"));
    }
    Ok(known)
}

/// A message that a consumer sends to its own retry topic goes to the dead letter queue when it has failed too
/// often, or where the group consumes in order.
fn retry_or_dead_letter(
    broker: &Broker,
    call: &Call<'_>,
    request: &SendMessage<'_>,
    topic: Arc<TopicConfig>,
    queue_id: i32,
    mut known: Known,
) -> Result<(Arc<TopicConfig>, i32, Known), Refusal> {
    let Some(group_name) = request.topic.strip_prefix(names::RETRY_PREFIX) else {
        return Ok((topic, queue_id, known));
    };
    let Some(group) = broker.find_group(group_name, call.now) else {
        return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, format!("subscription group not exist, {group_name}")));
    };
    let from_request = request.max_reconsume_times.filter(|_| call.header.version >= version::V3_4_9);
    let most = from_request.unwrap_or(group.retry_max_times);
    let ordered = broker.locks.any_held(group_name, call.now, broker.config().rebalance_lock_max_live_time);
    if request.reconsume_times.unwrap_or(0) <= most && !ordered {
        return Ok((topic, queue_id, known));
    }
    known.delay_level = 0;
    let dead_letters = broker.create_retry_topic(&format!("{}{group_name}", names::DLQ_PREFIX), DLQ_QUEUES, call.now)?;
    Ok((dead_letters, 0, known))
}
