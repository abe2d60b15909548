//! SEND: validate, rewrite, encode into the batch of this read; answer when the batch is appended.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use protocol::bodies::{TopicConfig, TopicFilterType};
use protocol::exchange::{Call, Refusal, Responder};
use protocol::record::{BLANK_LENGTH, Record};
use protocol::requests::{ChangeInvisibleTimeReply, RecallMessageReply, SendMessage, SendMessageReply};
use protocol::sys_flag::message;
use protocol::{batch, codes, message_id, names, properties, version};
use replication::replicas::{Demand, Standing};
use store::{AppendError, Batch, GetStatus};

use crate::announce::Ticket;
use crate::config::BrokerRole;
use crate::handlers::{Handled, can_write, io_refusal, recall};
use crate::pop::{Acks, Popped, not_appended};
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

/// What the answer to a write waits for.
#[derive(Clone, Copy)]
pub struct Owed {
    /// Where its last record ends.
    end: u64,
    /// When it came, in ms.
    pub since: i64,
    /// The slaves that are to have it, beside the disk.
    demand: Option<Demand>,
    /// What it is answered when the waiting is over: SUCCESS, or that no slave was near enough to be waited for.
    code: i32,
}

/// What wrote to the log and waits until the log's marks have passed it.
pub struct Waiting {
    pub owed: Owed,
    pub responder: Responder,
    pub reply: Reply,
    pub announce: Option<Ticket>,
}

/// What is answered when the disk has it.
pub enum Reply {
    Sent(Sent),
    /// A stored reply that its producer has.
    Replied(Sent),
    Recalled {
        msg_id: String,
    },
    Popped(Popped),
    Changed(ChangeInvisibleTimeReply),
    /// Outcomes of transactions, acknowledgements, messages sent back.
    Done,
}

enum NotAppended {
    /// The log had no turn for it in time.
    Late,
    Refused(Refusal),
}

/// Where a message is.
#[derive(Default)]
pub struct Sent {
    pub msg_id: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub transaction_id: Option<String>,
    pub recall_handle: Option<String>,
}

impl Waiting {
    /// Answers with a code that means "stored". What is no send is answered alike whether disk and slaves confirmed it in
    /// time or not.
    fn answer(self, extra: &[(&str, &str)], out: &mut BytesMut) {
        let Self { owed, responder, reply, .. } = self;
        let done = codes::SUCCESS;
        match reply {
            Reply::Sent(sent) => responder.answer_into(owed.code, None, &sent.typed(), extra, &[], out),
            Reply::Replied(sent) => responder.answer_into(done, None, &sent.typed(), extra, &[], out),
            // Java says no more than that it is done.
            Reply::Recalled { msg_id } => {
                responder.answer_into(done, None, &RecallMessageReply { msg_id: &msg_id }, &extra[..1], &[], out);
            }
            Reply::Popped(popped) => {
                responder.answer_into(done, Some(GetStatus::Found.name()), &popped.reply(), &[], &popped.body(), out);
            }
            Reply::Changed(changed) => responder.answer_into(done, None, &changed, &[], &[], out),
            Reply::Done => responder.answer_into(done, None, &(), &[], &[], out),
        }
    }
}

/// Answers a request that wrote the log up to `end`: into `out` where disk and slaves have it, else when they do.
pub fn answer_when_stored(broker: &Broker, responder: Responder, end: u64, reply: Reply, now: i64, out: &mut BytesMut) {
    let config = broker.config();
    let owed = Owed::of(broker, &config, end, now);
    let waiting = Waiting { owed, responder, reply, announce: None };
    if owed.is_met(broker) {
        return waiting.answer(&extra_fields(&config), out);
    }
    broker.park_send(waiting);
    // Disk and slaves may have confirmed it between the look at them and the parking.
    broker.answer_waiting(now);
}

impl Owed {
    /// What is owed to whoever wrote the log up to `end`.
    pub fn of(broker: &Broker, config: &BrokerConfig, end: u64, now: i64) -> Self {
        let standing = |demand: &Demand| broker.ha.standing(end, *demand);
        let demand = config.demand().map(|demand| (demand, standing(&demand)));
        let (demand, code) = match demand {
            Some((demand, Standing::Awaited)) => (Some(demand), codes::SUCCESS),
            Some((_, Standing::NotAvailable)) => (None, codes::SLAVE_NOT_AVAILABLE),
            Some((_, Standing::Copied)) | None => (None, codes::SUCCESS),
        };
        Self { end, since: now, demand, code }
    }

    /// Whether disk and slaves have it.
    pub fn is_met(&self, broker: &Broker) -> bool {
        self.end <= broker.store.visible() && self.is_copied(broker)
    }

    fn is_copied(&self, broker: &Broker) -> bool {
        self.demand.is_none_or(|demand| broker.ha.standing(self.end, demand) == Standing::Copied)
    }

    pub fn waits_for_slaves(&self) -> bool {
        self.demand.is_some()
    }

    /// Until when it may wait, in ms.
    pub fn deadline(&self, config: &BrokerConfig) -> i64 {
        self.since + i64::from(if self.demand.is_some() { config.slave_timeout } else { config.sync_flush_timeout })
    }

    /// The time is over: the answer names who did not confirm it, slaves before the disk (as Java).
    pub fn give_up(&mut self, broker: &Broker) {
        if !self.is_copied(broker) {
            self.code = codes::FLUSH_SLAVE_TIMEOUT;
        } else if self.end > broker.store.visible() && self.code == codes::SUCCESS {
            self.code = codes::FLUSH_DISK_TIMEOUT;
        }
    }
}

/// [`answer_when_stored`], pushed to the connection in any case.
pub fn push_when_stored(broker: &Broker, responder: Responder, end: u64, reply: Reply, now: i64) {
    let (connection, mut out) = (responder.connection().clone(), BytesMut::new());
    answer_when_stored(broker, responder, end, reply, now, &mut out);
    if !out.is_empty() {
        connection.push(out.freeze());
    }
}

/// Answers sends with codes that mean "stored": SUCCESS, or who did not confirm it. Those of one connection that follow
/// each other go out together.
pub fn answer_stored(broker: &Broker, sends: impl IntoIterator<Item = Waiting>, now: i64) {
    let config = broker.config();
    let extra = extra_fields(&config);
    let mut out = BytesMut::new();
    let mut sends = sends.into_iter().peekable();
    while let Some(mut send) = sends.next() {
        let connection = send.responder.connection().clone();
        let announce = send.announce.take();
        send.answer(&extra, &mut out);
        if let Some(ticket) = announce {
            broker.answer_when_registered(ticket, &connection, out.split().freeze(), now);
        } else if sends.peek().is_none_or(|next| next.announce.is_some() || next.responder.connection().id != connection.id) {
            connection.push(out.split().freeze());
        }
    }
}

impl Sent {
    pub fn typed(&self) -> SendMessageReply<'_> {
        SendMessageReply {
            msg_id: &self.msg_id,
            queue_id: self.queue_id,
            queue_offset: self.queue_offset,
            transaction_id: self.transaction_id.as_deref(),
            batch_uniq_id: None,
            recall_handle: self.recall_handle.as_deref(),
        }
    }
}

/// What every answer to a send tells of the broker.
pub(super) fn extra_fields(config: &BrokerConfig) -> [(&str, &str); 2] {
    [(properties::MESSAGE_REGION, &config.region_id), (properties::TRACE_ON, if config.trace_on { "true" } else { "false" })]
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
        for answer in self.answers.drain(..) {
            let sent = answer.sent(&self.batch, broker, config);
            let done = met || !answer.wait;
            // Who does not wait is not told who has it.
            let owed = if answer.wait { owed } else { Owed { demand: None, code: codes::SUCCESS, ..owed } };
            if done && answer.announce.is_none() {
                answer.responder.answer_into(owed.code, None, &sent.typed(), &extra_fields(config), &[], out);
                continue;
            }
            let waiting = Waiting { owed, responder: answer.responder, reply: Reply::Sent(sent), announce: answer.announce };
            match done {
                true => answer_stored(broker, [waiting], now),
                false => broker.park_send(waiting),
            }
        }
        for (responder, ended) in self.ended.drain(..) {
            broker.transactions.ended(&ended, true);
            self.acks.wait(responder);
        }
        for responder in self.acks.responders() {
            match met {
                true => responder.answer_into(codes::SUCCESS, None, &(), &[], &[], out),
                false => broker.park_send(Waiting { owed, responder, reply: Reply::Done, announce: None }),
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
            recall_handle: recallable.map(|(due, key)| recall::handle(topic, &config.broker_name, due, key)),
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
