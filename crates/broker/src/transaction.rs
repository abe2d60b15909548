//! Transactions. A half message waits in RMQ_SYS_TRANS_HALF_TOPIC until its producer says how its local transaction
//! ended, or is asked. What became of a half message is said by an op message in RMQ_SYS_TRANS_OP_HALF_TOPIC, whose
//! body is the half message's queue offset (Java 5.x: several, each followed by a comma; one alone is read by 4.x, too).
//! An outcome and its op message are appended together, so the two topics say all, and a restart reads them again from
//! the offsets of group CID_RMQ_SYS_TRANS on.
//!
//! In rounds, `transactionCheckInterval` apart, every half message that is old enough is put at the queue's end,
//! counted once more, and its producer group is asked. So the queue's start always moves on, and one half message never
//! keeps others waiting.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;

use parking_lot::Mutex;
use protocol::bodies::TopicConfig;
use protocol::exchange::{Call, Refusal};
use protocol::record::{self, Record};
use protocol::requests::{CheckTransactionState, EndTransaction, ResumeCheckHalfMessage};
use protocol::sys_flag::{message, perm};
use protocol::{codes, message_id, names, properties};
use store::log::Slice;
use store::queue::{Entry, Queue};
use store::{Batch, Store, Woken};

use crate::answers::Reply;
use crate::handlers::{Handled, io_refusal};
use crate::meta::offsets::Offsets;
use crate::{Broker, BrokerConfig, timer};

/// Java keeps all half messages in one queue.
pub const QUEUE: i32 = 0;
/// The tag of an op message: its half messages are done with.
const RESOLVED_TAG: &str = "d";
/// What a half message may grow by when it is put back: its properties, and the discard topic's longer name.
pub const RESERVE: usize = 128;
/// Half messages looked at in one go of a round, put back in one go, and the bytes of those.
const LOOKED_AT: i64 = 4096;
const PUT_BACK: usize = 256;
const PUT_BACK_BYTES: usize = 1024 * 1024;
/// A half message that may not be asked about yet is put back when it lies this far behind the queue's end.
const MAX_SPAN: i64 = if cfg!(test) { 10 } else { 1_000_000 };
/// Half messages that were put back and are remembered by their first offset.
const MAX_MOVED: usize = 500_000;
/// Queue entries read in one go.
const ENTRIES: usize = 64;
/// Stands for the offset of a half message that was put into the discard topic.
const DISCARDED: i64 = -1;
/// The same for one that came before the last start, and whose outcome is written down since.
const ENDED: i64 = -2;

/// Notes a half message's own topic and queue in its properties.
pub fn prepare(topic: &str, queue_id: i32, text: &mut String) {
    let unique_key = properties::get(text, properties::UNIQUE_KEY).map(str::to_owned);
    if let Some(key) = unique_key {
        properties::push(text, properties::TRANSACTION_ID, &key);
    }
    properties::push(text, properties::REAL_TOPIC, topic);
    properties::push(text, properties::REAL_QUEUE_ID, &queue_id.to_string());
}

/// What is known of the half messages.
pub struct Transactions {
    state: Mutex<State>,
}

struct State {
    /// Every half message below it is resolved or was put back.
    start: i64,
    /// The same for single ones from `start` on.
    resolved: VecDeque<bool>,
    /// `start` when it was last committed.
    committed: i64,
    /// A `start` that is committed once the disk has the log up to the offset behind it: what was resolved before it must
    /// not be open again after a crash.
    committing: Option<(i64, u64)>,
    /// Half messages whose outcome is on its way to the log.
    claimed: HashSet<i64>,
    /// Where half messages are that were put back, by the offset that their producer was given.
    moved: BTreeMap<i64, i64>,
    /// Of half messages that came before this offset, `moved` may lack some.
    moved_from: i64,
    /// Once `start` has reached the first offset, no op message below the second is needed any more.
    op_marks: VecDeque<(i64, i64)>,
    /// Commit log offsets of half messages whose producers are to be asked once readers may see them.
    unasked: Vec<u64>,
    asked_end: u64,
    round: Option<Round>,
    next_round: i64,
}

/// One pass over the half messages that were there when it began.
struct Round {
    next: i64,
    end: i64,
}

/// How an outcome is to be written down.
enum Claim {
    /// The half message is at this queue offset.
    Open(i64),
    /// It was discarded, or nothing is known of it.
    Gone,
    /// Its outcome is decided.
    Resolved,
}

/// An outcome that was added to a batch of sends.
pub struct Ended {
    /// The half message that is resolved with it.
    queue_offset: Option<i64>,
    first_offset: i64,
    /// The topic in which consumers see it, and the number of that message in the batch.
    pub committed: Option<(String, usize)>,
    /// They see it later: it is a timer message.
    pub timed: bool,
}

/// A half message and what its properties say.
struct Half<'a> {
    record: Record<'a>,
    topic: &'a str,
    queue_id: i32,
    group: &'a str,
    /// The queue offset that the producer was given.
    first_offset: i64,
    times_checked: i32,
    /// It was put back, and never asked about since.
    postponed: bool,
    /// `CHECK_IMMUNITY_TIME_IN_SECONDS`, in ms; below 0 where it is no number.
    immunity: Option<i64>,
}

impl<'a> Half<'a> {
    fn read(slice: &'a Slice) -> Option<Self> {
        Self::of(record::decode_checked(slice.bytes()).ok().filter(|r| r.topic == names::TRANS_HALF_TOPIC)?)
    }

    fn of(record: Record<'a>) -> Option<Self> {
        let text = record.properties;
        let number = |name| properties::get(text, name).and_then(|n| n.parse::<i64>().ok());
        let postponed = number(properties::PREPARED_QUEUE_OFFSET);
        let immunity = properties::get(text, properties::CHECK_IMMUNITY);
        Some(Half {
            topic: properties::get(text, properties::REAL_TOPIC)?,
            queue_id: properties::get(text, properties::REAL_QUEUE_ID)?.parse().ok()?,
            group: properties::get(text, properties::PRODUCER_GROUP).unwrap_or_default(),
            first_offset: postponed.or_else(|| number(properties::FIRST_QUEUE_OFFSET)).unwrap_or(record.queue_offset),
            postponed: postponed.is_some(),
            times_checked: number(properties::CHECK_TIMES).map_or(0, |n| n.clamp(0, i64::from(i32::MAX)) as i32),
            immunity: immunity.map(|seconds| seconds.parse::<i64>().map_or(-1, |s| s.saturating_mul(1000))),
            record,
        })
    }

    /// The age from which on the producer is asked, in ms.
    fn asked_from(&self, config: &BrokerConfig) -> i64 {
        self.immunity.filter(|ms| *ms >= 0).unwrap_or(config.transaction_time_out)
    }
}

/// What a round does with a half message.
enum Step {
    Leave,
    Ask,
    /// Puts it back unasked and uncounted.
    Postpone,
    Discard(&'static str),
}

impl Transactions {
    /// Reads the topics from where they were last resolved.
    pub fn open(store: &Store, offsets: &Offsets, now: i64, interval: i64) -> io::Result<Self> {
        let bounds = |topic| {
            let queue = store.find_queue(topic, QUEUE);
            let (min, max) = queue.as_ref().map_or((0, 0), |q| (q.min_offset(), q.max_offset()));
            let start = offsets.committed(topic, names::TRANSACTION_GROUP, QUEUE).unwrap_or(min).clamp(min, max);
            (queue, start, max)
        };
        let (halves, start, max) = bounds(names::TRANS_HALF_TOPIC);
        let mut state = State {
            start,
            committed: 0,
            committing: None,
            resolved: VecDeque::new(),
            claimed: HashSet::new(),
            moved: BTreeMap::new(),
            moved_from: max,
            op_marks: VecDeque::new(),
            unasked: Vec::new(),
            asked_end: 0,
            round: None,
            next_round: now + interval,
        };
        let (ops, op_start, op_max) = bounds(names::TRANS_OP_HALF_TOPIC);
        for_each(store, ops.as_deref(), op_start, op_max, |_, slice| state.read_op(slice, max))?;
        for_each(store, halves.as_deref(), start, max, |offset, slice| state.read_half(offset, slice))?;
        state.op_marks.push_back((max, op_max));
        state.advance();
        Ok(Self { state: Mutex::new(state) })
    }

    /// Reads the topics again: they have grown from elsewhere.
    pub fn open_again(&self, store: &Store, offsets: &Offsets, now: i64, interval: i64) -> io::Result<()> {
        let Self { state } = Self::open(store, offsets, now, interval)?;
        *self.state.lock() = state.into_inner();
        Ok(())
    }

    /// What became of the batch that held an outcome: with it, the half message is resolved, or open again.
    pub fn ended(&self, ended: &Ended, appended: bool) {
        let Some(offset) = ended.queue_offset else { return };
        let mut state = self.state.lock();
        state.claimed.remove(&offset);
        if appended {
            state.resolve(offset);
            state.forget(ended.first_offset);
        }
    }
}

/// Calls `each` with the records of a queue's messages; those that the log has no longer are passed over.
fn for_each(store: &Store, queue: Option<&Queue>, mut from: i64, end: i64, mut each: impl FnMut(i64, &Slice)) -> io::Result<()> {
    let Some(queue) = queue else { return Ok(()) };
    let mut entries = [Entry::default(); ENTRIES];
    while from < end {
        let count = queue.read(from, &mut entries)?;
        if count == 0 {
            return Ok(());
        }
        for (entry, offset) in entries[..count].iter().zip(from..) {
            if let Some(slice) = store.record(entry.offset as u64) {
                each(offset, &slice);
            }
        }
        from += count as i64;
    }
    Ok(())
}

impl State {
    fn is_open(&self, offset: i64) -> bool {
        let index = offset - self.start;
        index >= 0 && !self.resolved.get(index as usize).is_some_and(|resolved| *resolved)
    }

    fn resolve(&mut self, offset: i64) {
        let Ok(index) = usize::try_from(offset - self.start) else { return };
        if index >= self.resolved.len() {
            self.resolved.resize(index + 1, false);
        }
        self.resolved[index] = true;
    }

    fn advance(&mut self) {
        while self.resolved.front() == Some(&true) {
            self.resolved.pop_front();
            self.start += 1;
        }
    }

    fn read_op(&mut self, slice: &Slice, max: i64) {
        let Ok(op) = record::decode_checked(slice.bytes()) else { return };
        if properties::get(op.properties, properties::TAGS) != Some(RESOLVED_TAG) {
            return;
        }
        let body = String::from_utf8_lossy(op.body);
        body.split(',').filter_map(|offset| offset.trim().parse().ok()).filter(|o| *o < max).for_each(|o| self.resolve(o));
    }

    /// A kill may leave a half message twice that was being postponed; the later one counts.
    fn read_half(&mut self, offset: i64, slice: &Slice) {
        if !self.is_open(offset) {
            return;
        }
        match Half::read(slice) {
            None => {
                tracing::error!("the half message {offset} can't be read and is passed over");
                self.resolve(offset);
            }
            Some(half) if half.first_offset == offset => {}
            Some(half) => {
                let first = half.first_offset;
                if half.postponed && first >= self.start && !self.is_open(first) && !self.moved.contains_key(&first) {
                    return self.resolve(offset);
                }
                self.resolve(first);
                if let Some(earlier) = self.remember(first, offset) {
                    self.resolve(earlier);
                }
            }
        }
    }

    /// Notes where a half message is. Returns where it was before, had it been moved already.
    fn remember(&mut self, first_offset: i64, offset: i64) -> Option<i64> {
        if self.moved.len() >= MAX_MOVED && !self.moved.contains_key(&first_offset) {
            self.moved_from = self.moved_from.max(first_offset + 1);
            return None;
        }
        self.moved.insert(first_offset, offset)
    }

    /// A half message has its outcome. Of one that came before the last start this is noted: without a note it may have
    /// been discarded.
    fn forget(&mut self, first_offset: i64) {
        if first_offset < self.moved_from && self.moved.len() < MAX_MOVED {
            self.moved.insert(first_offset, ENDED);
        } else {
            self.moved.remove(&first_offset);
        }
    }

    /// Reserves a half message for its outcome.
    fn claim(&mut self, half: &Half<'_>) -> Claim {
        let first = half.first_offset;
        let offset = if self.is_open(half.record.queue_offset) {
            half.record.queue_offset
        } else {
            match self.moved.get(&first) {
                Some(&DISCARDED) => {
                    self.moved.remove(&first);
                    return Claim::Gone;
                }
                Some(&current) if self.is_open(current) => current,
                // What came before the last start may have been discarded: rather twice than not at all.
                None if first < self.moved_from => return Claim::Gone,
                _ => return Claim::Resolved,
            }
        };
        if self.claimed.insert(offset) { Claim::Open(offset) } else { Claim::Resolved }
    }
}

/// END_TRANSACTION: a producer says how the local transaction of a half message ended. The outcome is added to the
/// batch of this read, with which it is answered; where there is none to add, it is answered here.
pub fn end_transaction(
    broker: &Broker,
    call: &mut Call<'_>,
    batch: &mut Batch,
    request: EndTransaction<'_>,
) -> Result<Option<Ended>, Refusal> {
    if broker.is_slave() {
        return Err(Refusal::new(codes::SLAVE_NOT_AVAILABLE, broker.slave_remark()));
    }
    let commit = match request.commit_or_rollback {
        message::TRANSACTION_COMMIT => true,
        message::TRANSACTION_ROLLBACK => false,
        // The producer does not know yet: it is asked again.
        0 => {
            call.reply(&());
            return Ok(None);
        }
        other => {
            let remark = format!("commitOrRollback is {other}: 8 commits, 12 rolls back, 0 leaves open");
            return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
        }
    };
    let wrong = |remark: &str| Refusal::new(codes::SYSTEM_ERROR, remark);
    let slice = u64::try_from(request.commit_log_offset).ok().and_then(|offset| broker.store.record(offset));
    let half = slice.as_ref().and_then(Half::read).ok_or_else(|| wrong("Find prepared transaction message failed"))?;
    if half.immunity.is_some() && request.from_transaction_check != Some(true) {
        let config = broker.config();
        let (age, limit) = (call.now - half.record.born_timestamp, half.asked_from(&config).max(config.transaction_time_out));
        if age > limit {
            let remark =
                format!("the half message is {age} ms old, over its CHECK_IMMUNITY_TIME of {limit} ms: wait to be asked");
            return Err(Refusal::new(codes::ILLEGAL_OPERATION, remark));
        }
    }
    if half.group.is_empty() || half.group != request.producer_group.unwrap_or_default() {
        return Err(wrong("The producer group wrong"));
    }
    if half.record.queue_offset != request.tran_state_table_offset {
        return Err(wrong("The transaction state table offset wrong"));
    }
    let mut state = broker.transactions.state.lock();
    let claim = state.claim(&half);
    drop(state);
    let queue_offset = match claim {
        Claim::Open(offset) => Some(offset),
        Claim::Gone => None,
        Claim::Resolved => return Err(wrong("the transaction is committed or rolled back already")),
    };
    if queue_offset.is_none() && !commit {
        call.reply(&());
        return Ok(None);
    }
    let committed = commit.then(|| (half.topic.to_owned(), batch.len()));
    let mut ended = Ended { queue_offset, first_offset: half.first_offset, committed, timed: false };
    match add_outcome(broker, batch, &half, commit, queue_offset, call.now) {
        Ok(timed) => {
            ended.timed = timed;
            Ok(Some(ended))
        }
        Err(refusal) => {
            broker.transactions.ended(&ended, false);
            Err(refusal)
        }
    }
}

/// RESUME_CHECK_HALF_MESSAGE: a half message that was given up is put back, and its producers are asked again.
pub fn resume_check(broker: &Broker, call: &mut Call<'_>, request: ResumeCheckHalfMessage<'_>) -> Handled {
    let id = request.msg_id.unwrap_or_default();
    let missing = || {
        let topic = names::TRANS_CHECK_MAX_TIME_TOPIC;
        Refusal::new(codes::SYSTEM_ERROR, format!("no half message is in {topic} under the offset message id {id:?}"))
    };
    let (_, offset) = message_id::parse_offset_id(id).ok_or_else(missing)?;
    let slice = u64::try_from(offset).ok().and_then(|offset| broker.store.record(offset)).ok_or_else(missing)?;
    let record = record::decode_checked(slice.bytes()).ok().filter(|r| r.topic == names::TRANS_CHECK_MAX_TIME_TOPIC);
    let half = record.and_then(Half::of).ok_or_else(missing)?;
    // One that nobody was asked about has no first offset: it begins anew where it is put.
    let first_offset =
        properties::get(half.record.properties, properties::FIRST_QUEUE_OFFSET).and_then(|first| first.parse::<i64>().ok());
    let mut text = properties::without(half.record.properties, &[properties::CHECK_TIMES, properties::PREPARED_QUEUE_OFFSET]);
    properties::push(&mut text, properties::CHECK_TIMES, "0");
    let record =
        Record { topic: names::TRANS_HALF_TOPIC, properties: &text, store_host: broker.store_host(), ..half.record.clone() };
    let queue = broker.store.queue(names::TRANS_HALF_TOPIC, QUEUE).map_err(|e| io_refusal("opening a consume queue", &e))?;
    let mut batch = Batch::default();
    batch.push(queue, &record, store::tags_code(&text), 1);
    let mut state = broker.transactions.state.lock();
    let current = first_offset.and_then(|first| state.moved.get(&first).copied());
    if current.is_some_and(|current| current != DISCARDED && state.is_open(current)) {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("the half message {id} was put back already")));
    }
    let appended = broker.store.append(&mut batch, call.now);
    let (end, woken) = appended.map_err(|e| Refusal::new(codes::SERVICE_NOT_AVAILABLE, e.to_string()))?;
    if let Some(first) = first_offset {
        state.remember(first, batch.place(0).queue_offset);
    }
    drop(state);
    broker.appended(end, &woken, call.now);
    broker.answer_when_stored(call, end, Reply::Done);
    Ok(())
}

/// Adds the message that consumers see, where it is committed, and the op message behind it. Gives whether they see it
/// later.
fn add_outcome(
    broker: &Broker,
    batch: &mut Batch,
    half: &Half<'_>,
    commit: bool,
    queue_offset: Option<i64>,
    now: i64,
) -> Result<bool, Refusal> {
    let open = |topic, id| broker.store.queue(topic, id).map_err(|e| io_refusal("opening a consume queue", &e));
    let ops = open(names::TRANS_OP_HALF_TOPIC, QUEUE)?;
    let mut timed = false;
    if commit {
        let own = [properties::REAL_TOPIC, properties::REAL_QUEUE_ID, properties::FIRST_QUEUE_OFFSET];
        let mut text = properties::without(half.record.properties, &own);
        let due = timer::place(broker, &broker.config(), now, half.topic, half.queue_id, &mut text)?;
        timed = due.is_some();
        let (topic, queue_id, tags_code) = match due {
            Some(_) => (names::WHEEL_TIMER_TOPIC, timer::QUEUE, protocol::timer::code(&text)),
            None => (half.topic, half.queue_id, store::tags_code(&text)),
        };
        let record = Record {
            topic,
            queue_id,
            sys_flag: half.record.sys_flag & !message::TRANSACTION_MASK | message::TRANSACTION_COMMIT,
            prepared_transaction_offset: half.record.physical_offset,
            properties: &text,
            ..half.record.clone()
        };
        batch.push(open(topic, queue_id)?, &record, tags_code, 1);
    }
    if let Some(offset) = queue_offset {
        push_op(broker, batch, ops.clone(), offset, now);
        // One that was put back has left its first place without an op message, if nobody was asked about it.
        if offset != half.first_offset {
            push_op(broker, batch, ops, half.first_offset, now);
        }
    }
    Ok(timed)
}

fn push_op(broker: &Broker, batch: &mut Batch, ops: std::sync::Arc<Queue>, queue_offset: i64, now: i64) {
    let mut text = String::new();
    properties::push(&mut text, properties::TAGS, RESOLVED_TAG);
    let body = queue_offset.to_string();
    let record = broker.own_record(names::TRANS_OP_HALF_TOPIC, QUEUE, body.as_bytes(), &text, now);
    batch.push(ops, &record, store::tags_code(&text), 1);
}

impl Broker {
    /// Asks producers, and begins and goes on with rounds. Cheap where nothing is due.
    pub(crate) fn check_transactions(&self, now: i64) {
        if self.is_slave() {
            return;
        }
        let config = self.config();
        let mut state = self.transactions.state.lock();
        let unasked = if self.store.visible() >= state.asked_end { std::mem::take(&mut state.unasked) } else { Vec::new() };
        let waiting = !state.unasked.is_empty();
        state.advance();
        self.commit_transaction_offsets(&mut state);
        // The interval may have become shorter, and the clock may have gone back.
        let due = state.next_round <= now || state.next_round > now + config.transaction_check_interval;
        if state.round.is_none() && due {
            state.next_round = now + config.transaction_check_interval;
            self.begin_round(&mut state);
        }
        let mut woken = Woken::new();
        if state.round.is_some() && !waiting {
            woken = self.go_on(&mut state, &config, now).unwrap_or_else(|error| {
                tracing::error!("half messages can't be checked and are tried again in the next round: {error}");
                state.round = None;
                Woken::new()
            });
        }
        drop(state);
        woken.iter().for_each(|queue| self.wake(queue, now));
        unasked.into_iter().for_each(|offset| self.ask_producer(offset));
    }

    fn commit_transaction_offsets(&self, state: &mut State) {
        let commit = |topic, offset| self.offsets.commit(topic, names::TRANSACTION_GROUP, QUEUE, offset);
        if state.committed == state.start && state.committing.is_none() {
            return;
        }
        let (written, persisted) = self.store.written_and_persisted();
        let (start, end) = *state.committing.get_or_insert((state.start, written));
        if persisted < end {
            return;
        }
        state.committing = None;
        state.committed = start;
        commit(names::TRANS_HALF_TOPIC, start);
        while let Some((_, op_offset)) = state.op_marks.pop_front_if(|(half_offset, _)| *half_offset <= start) {
            if op_offset > 0 {
                commit(names::TRANS_OP_HALF_TOPIC, op_offset);
            }
        }
    }

    /// An op message is about a half message that came before it: so the op queue's end is read first.
    fn begin_round(&self, state: &mut State) {
        let end = |topic| self.store.find_queue(topic, QUEUE).map_or(0, |queue| queue.max_offset());
        let op_end = end(names::TRANS_OP_HALF_TOPIC);
        let half_end = end(names::TRANS_HALF_TOPIC);
        if state.op_marks.back().is_none_or(|mark| *mark != (half_end, op_end)) {
            state.op_marks.push_back((half_end, op_end));
        }
        if let Some(queue) = self.store.find_queue(names::TRANS_HALF_TOPIC, QUEUE) {
            // What the log has no longer can't be resolved.
            (state.start..queue.min_offset()).for_each(|offset| state.resolve(offset));
            state.advance();
        }
        state.round = (state.start < half_end).then_some(Round { next: state.start, end: half_end });
    }

    /// Goes on with a round, as far as one go may. Outcomes wait for it meanwhile, as half messages move.
    fn go_on(&self, state: &mut State, config: &BrokerConfig, now: i64) -> io::Result<Woken> {
        let (Some(round), Some(queue)) = (&state.round, self.store.find_queue(names::TRANS_HALF_TOPIC, QUEUE)) else {
            return Ok(Woken::new());
        };
        let (from, end) = (round.next.max(state.start), round.end);
        let ops = self.store.queue(names::TRANS_OP_HALF_TOPIC, QUEUE)?;
        let mut batch = Batch::default();
        let mut moves = Vec::new();
        let mut next = from;
        while next < end.min(from + LOOKED_AT) && moves.len() < PUT_BACK && batch.bytes() < PUT_BACK_BYTES {
            let offset = next;
            next += 1;
            if !state.is_open(offset) || state.claimed.contains(&offset) {
                continue;
            }
            let slice = self.store.message(&queue, offset)?;
            let Some(half) = slice.as_ref().and_then(Half::read) else {
                tracing::error!("the half message {offset} can't be read and is passed over");
                state.resolve(offset);
                continue;
            };
            let step = decide(&half, config, end - offset, now);
            if let Step::Leave = step {
                continue;
            }
            let at = batch.len();
            self.put_back(&mut batch, &half, &step)?;
            // Java's broker takes an op message for a postponed half message's outcome.
            if !matches!(step, Step::Postpone) {
                push_op(self, &mut batch, ops.clone(), offset, now);
                if half.postponed {
                    push_op(self, &mut batch, ops.clone(), half.first_offset, now);
                }
            }
            moves.push((offset, half.first_offset, at, step));
        }
        let woken = self.append_moves(state, &mut batch, moves, now)?;
        state.round = (next < end).then_some(Round { next, end });
        Ok(woken)
    }

    fn append_moves(
        &self,
        state: &mut State,
        batch: &mut Batch,
        moves: Vec<(i64, i64, usize, Step)>,
        now: i64,
    ) -> io::Result<Woken> {
        if moves.is_empty() {
            return Ok(Woken::new());
        }
        let (end, woken) = self.store.append(batch, now).map_err(io::Error::other)?;
        for (offset, first_offset, at, step) in moves {
            let place = batch.place(at);
            state.resolve(offset);
            let discarded = matches!(step, Step::Discard(_));
            state.remember(first_offset, if discarded { DISCARDED } else { place.queue_offset });
            if let Step::Ask = step {
                state.unasked.push(place.physical_offset);
            }
        }
        state.asked_end = end;
        self.log_written(end);
        Ok(woken)
    }

    fn put_back(&self, batch: &mut Batch, half: &Half<'_>, step: &Step) -> io::Result<()> {
        if let Step::Discard(reason) = step {
            let id = message_id::offset_id(half.record.store_host, half.record.physical_offset);
            tracing::error!(
                "the half message {id} of group {} for topic {} is moved to {}: {reason}",
                half.group,
                half.topic,
                names::TRANS_CHECK_MAX_TIME_TOPIC
            );
            self.create_discard_topic(half.record.store_timestamp)?;
            let record = Record { topic: names::TRANS_CHECK_MAX_TIME_TOPIC, queue_id: QUEUE, ..half.record.clone() };
            let queue = self.store.queue(record.topic, QUEUE)?;
            batch.push(queue, &record, store::tags_code(record.properties), 1);
            return Ok(());
        }
        let times = half.times_checked + i32::from(matches!(step, Step::Ask));
        const { assert!(RESERVE > 2 * 20 + properties::CHECK_TIMES.len() + properties::PREPARED_QUEUE_OFFSET.len() + 4) };
        let (postponed, asked) = (properties::PREPARED_QUEUE_OFFSET, properties::FIRST_QUEUE_OFFSET);
        let mut text = properties::without(half.record.properties, &[properties::CHECK_TIMES, postponed, asked]);
        let name = if let Step::Ask = step { asked } else { postponed };
        properties::push(&mut text, name, &half.first_offset.to_string());
        if times > 0 {
            properties::push(&mut text, properties::CHECK_TIMES, &times.to_string());
        }
        let record = Record { properties: &text, store_host: self.store_host(), ..half.record.clone() };
        let queue = self.store.queue(names::TRANS_HALF_TOPIC, QUEUE)?;
        batch.push(queue, &record, store::tags_code(&text), 1);
        Ok(())
    }

    fn create_discard_topic(&self, now: i64) -> io::Result<()> {
        let name = names::TRANS_CHECK_MAX_TIME_TOPIC;
        if self.topics.get(name).is_none() {
            self.topics.put([(name.to_owned(), TopicConfig::new(name, 1, perm::READ | perm::WRITE))], now)?;
            self.shell.register_wanted();
        }
        Ok(())
    }

    /// CHECK_TRANSACTION_STATE to one of the group's producers, which answers with END_TRANSACTION.
    fn ask_producer(&self, offset: u64) {
        let Some(slice) = self.store.record(offset) else { return };
        let Some(half) = Half::read(&slice) else { return };
        if !self.transactions.state.lock().is_open(half.record.queue_offset) {
            return;
        }
        let Some(producer) = self.clients.producer(half.group, |count| self.next_of(count as i32) as usize) else {
            tracing::warn!(
                "producer group {} has nobody to ask about the half message {} for topic {}, which waits for the next round",
                half.group,
                half.record.queue_offset,
                half.topic
            );
            return;
        };
        let unique_key = properties::get(half.record.properties, properties::UNIQUE_KEY);
        let offset_msg_id = message_id::offset_id(half.record.store_host, half.record.physical_offset);
        let request = CheckTransactionState {
            topic: Some(names::TRANS_HALF_TOPIC),
            tran_state_table_offset: half.record.queue_offset,
            commit_log_offset: half.record.physical_offset,
            msg_id: unique_key,
            transaction_id: unique_key,
            offset_msg_id: Some(&offset_msg_id),
            broker_name: Some(&self.config().broker_name),
        };
        let mut body = Vec::new();
        Record { topic: half.topic, queue_id: half.queue_id, ..half.record.clone() }.encode(&mut body);
        producer.send_oneway(&request, &body);
    }
}

/// What to do with a half message that lies `behind` the queue's end by so many.
fn decide(half: &Half<'_>, config: &BrokerConfig, behind: i64, now: i64) -> Step {
    let age = now - half.record.born_timestamp;
    // What is older may be deleted with its file at any time (Java: the same).
    if age > i64::from(config.file_reserved_time) * 3_600_000 {
        return Step::Discard("it is older than fileReservedTime");
    }
    if half.record.properties.len() + RESERVE > properties::MAX_LENGTH {
        return Step::Discard("its properties are too long to count its checks in them");
    }
    // A producer whose clock is ahead is asked at once, unless the message says how long to wait.
    if age < half.asked_from(config) && (age >= 0 || half.immunity.is_some()) {
        return if behind > MAX_SPAN { Step::Postpone } else { Step::Leave };
    }
    if half.times_checked >= config.transaction_check_max {
        return Step::Discard("its producers were asked transactionCheckMax times");
    }
    Step::Ask
}
