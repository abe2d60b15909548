//! A group that pops, from a topic with plain and timer messages: some it acknowledges, some it hides for another time, some
//! it forgets. Producers recall some of their timers.

use anyhow::{Context, Result, ensure};
use broker::Broker;
use protocol::requests::{AckMessage, ChangeInvisibleTime, PopMessage, RecallMessage};
use protocol::{codes, message_id, properties, record};

use super::{Answer, Asked, QUEUES, World, Written, send_request};
use crate::disk::Crash;

pub const TOPIC: &str = "P";
pub(crate) const GROUP: &str = "pg";
const RETRY: &str = "%RETRY%pg_P";

/// What a request was about.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Send(usize),
    Recall(usize, Written),
    /// Messages that are invisible for so many ms.
    Pop(i64, Written),
    Ack(Held, Written),
    /// The message is to be invisible until then, whose time was noted as over at the second one.
    Hide(Held, i64, i64, Written),
}

#[derive(Debug, Default)]
struct Message {
    /// When it may be seen at the earliest, in ms.
    due: i64,
    timed: bool,
    /// Where it was written, once that was acknowledged and as long as no crash may have taken it away.
    physical: Option<u64>,
    recall_handle: Option<String>,
    /// How often it may be there: a crash while it was delivered or brought back may leave it once more.
    copies: usize,
    /// Until when each copy that was popped is nobody else's, and the end of the record that says so.
    hidden: Vec<(i64, u64)>,
    /// The end of each acknowledgement that was answered.
    acked: Vec<u64>,
    /// The end of its recall, once that was answered.
    recalled: Option<u64>,
    /// It was acknowledged or recalled, perhaps without effect.
    may_be_done: bool,
}

/// A message that the group has in its hands.
#[derive(Clone, Debug)]
pub struct Held {
    id: usize,
    topic: &'static str,
    queue_id: i32,
    offset: i64,
    handle: String,
    until: i64,
}

#[derive(Debug, Default)]
pub struct Popping {
    messages: Vec<Message>,
    held: Vec<Held>,
    /// The last tick that no crash cut short: it delivered and brought back all that was due.
    pub(super) ticked: i64,
}

impl Message {
    /// The machine went down; `persisted` is the end of what is on disk.
    fn crash(&mut self, crash: Crash, persisted: u64, ticked: i64, now: i64) {
        let lost = |end: u64| crash == Crash::PowerCut && end > persisted;
        // A kill may repeat what one tick did, a power cut whatever the disk did not have.
        let since = if crash == Crash::Kill { ticked } else { i64::MIN };
        let torn = |at: i64| at > since && at <= now;
        self.copies += usize::from(self.timed && torn(self.due));
        let repeats =
            self.hidden.iter().any(|(until, end)| torn(*until) || lost(*end)) || self.acked.iter().any(|end| lost(*end));
        self.copies += usize::from(repeats);
        self.physical.take_if(|at| lost(*at + 1));
        self.hidden.retain(|(_, end)| !lost(*end));
        self.acked.retain(|end| !lost(*end));
        self.recalled.take_if(|end| lost(*end));
    }

    /// It was popped at `now` and is hidden until then, as a record says that ends at `end`.
    fn given(&mut self, now: i64, until: i64, end: u64) -> Result<()> {
        ensure!(self.due <= now, "EARLY: it is popped {} ms before it is due", self.due - now);
        ensure!(self.recalled.is_none(), "RECALLED: it is popped");
        if let Some(over) = self.hidden.iter().position(|(until, _)| *until <= now) {
            self.hidden.swap_remove(over);
        }
        ensure!(self.acked.len() < self.copies, "ACKED: it is popped again");
        ensure!(self.acked.len() + self.hidden.len() < self.copies, "INVISIBLE: it is popped again before its time");
        self.hidden.push((until, end));
        Ok(())
    }

    /// The time of a copy that is hidden until then.
    fn hidden_until(&mut self, until: i64) -> Option<&mut (i64, u64)> {
        self.hidden.iter_mut().find(|hidden| hidden.0 == until)
    }
}

impl Popping {
    /// The machine went down, and the group with it.
    pub fn crash(&mut self, crash: Crash, persisted: u64, now: i64) {
        self.held.clear();
        self.messages.iter_mut().for_each(|message| message.crash(crash, persisted, self.ticked, now));
    }

    /// Everything that was promised was popped and acknowledged.
    pub fn verify(&self) -> Result<()> {
        for (id, message) in self.messages.iter().enumerate() {
            let done = message.physical.is_none() || !message.acked.is_empty() || message.may_be_done;
            ensure!(done, "LOST: message {id} of {TOPIC} was never acknowledged: {message:?}");
        }
        Ok(())
    }
}

/// The handle of a popped message: what came back brings its own, of others it is made as Java's client makes it.
pub(crate) fn handle(answer: &Answer, message: &record::Record<'_>) -> Result<String> {
    if let Some(handle) = properties::get(message.properties, properties::POP_CK) {
        return Ok(handle.to_owned());
    }
    let place = format!("0 {} ", message.queue_id);
    let start = answer.field("startOffsetInfo")?.split(';').find_map(|one| one.strip_prefix(&place)).context("no start")?;
    let [pop_time, invisible, revive] = ["popTime", "invisibleTime", "reviveQid"].map(|name| answer.field(name));
    Ok(format!("{start} {} {} {} 0 b {} {}", pop_time?, invisible?, revive?, message.queue_id, message.queue_offset))
}

impl World {
    pub(super) fn pop_step(&mut self, broker: &Broker) -> Result<()> {
        match self.rng.u8(0..20) {
            0..8 => self.send_popped(broker),
            8 => self.recall(broker),
            9..14 => {
                let invisible = self.rng.i64(1000..60_000);
                self.pop(broker, invisible)
            }
            _ if self.popping.held.is_empty() => Ok(()),
            _ => {
                let at = self.rng.usize(0..self.popping.held.len());
                let held = self.popping.held.swap_remove(at);
                match self.rng.u8(0..10) {
                    0 => Ok(()),
                    1 => self.hide(broker, held),
                    _ => self.ack(broker, held),
                }
            }
        }
    }

    fn send_popped(&mut self, broker: &Broker) -> Result<()> {
        let (id, delay) = (self.popping.messages.len(), if self.rng.bool() { self.rng.i64(1..120_000) } else { 0 });
        let timer = if delay > 0 { format!("TIMER_DELAY_MS\u{1}{delay}\u{2}UNIQ_KEY\u{1}k{id}\u{2}") } else { String::new() };
        let message = Message { due: self.now + delay, timed: delay > 0, copies: 1, ..Message::default() };
        self.popping.messages.push(message);
        let (queue_id, body) = (self.rng.i32(0..QUEUES), self.body(id as u64));
        self.life.messages += 1;
        self.ask(broker, &send_request(TOPIC, queue_id, &timer, self.now), body.as_bytes(), |_| Request::Send(id))
    }

    fn ask<'h, R: protocol::requests::Request<'h>>(
        &mut self,
        broker: &Broker,
        request: &R,
        body: &[u8],
        about: impl FnOnce(Written) -> Request,
    ) -> Result<()> {
        let (opaque, answer) = self.exchange(broker, request, body)?;
        self.asked.insert(opaque, Asked::Popped(about(self.written(broker))));
        answer.map_or(Ok(()), |answer| self.answered(opaque, &answer))
    }

    /// A producer recalls one of the last timers, which may be too late.
    fn recall(&mut self, broker: &Broker) -> Result<()> {
        let last = self.popping.messages.len();
        let id = self.rng.usize(last.saturating_sub(20)..last.max(1));
        let Some(handle) = self.popping.messages.get_mut(id).and_then(|message| message.recall_handle.take()) else {
            return Ok(());
        };
        self.popping.messages[id].may_be_done = true;
        let request = RecallMessage { producer_group: None, topic: TOPIC, recall_handle: &handle };
        self.ask(broker, &request, &[], |written| Request::Recall(id, written))
    }

    fn pop(&mut self, broker: &Broker, invisible_time: i64) -> Result<()> {
        let (consumer_group, max_msg_nums) = (GROUP, 8);
        let from_all = PopMessage { queue_id: -1, ..PopMessage::default() };
        let request = PopMessage { consumer_group, topic: TOPIC, max_msg_nums, invisible_time, ..from_all };
        self.ask(broker, &request, &[], |written| Request::Pop(invisible_time, written))
    }

    fn ack(&mut self, broker: &Broker, held: Held) -> Result<()> {
        // Later it may be anybody's.
        if self.now >= held.until {
            return Ok(());
        }
        self.popping.messages[held.id].may_be_done = true;
        let Held { topic, queue_id, offset, ref handle, .. } = held;
        let request = AckMessage { consumer_group: GROUP, topic, queue_id, extra_info: handle, offset };
        self.ask(broker, &request, &[], |written| Request::Ack(held.clone(), written))
    }

    fn hide(&mut self, broker: &Broker, held: Held) -> Result<()> {
        if self.now >= held.until {
            return Ok(());
        }
        let invisible_time = self.rng.i64(1000..60_000);
        let until = self.now + invisible_time;
        // Without an answer it is not known which time counts.
        let earliest = until.min(held.until);
        self.popping.messages[held.id].hidden_until(held.until).context("it is not hidden")?.0 = earliest;
        let Held { topic, queue_id, offset, ref handle, .. } = held;
        let request = ChangeInvisibleTime { consumer_group: GROUP, topic, queue_id, extra_info: handle, offset, invisible_time };
        self.ask(broker, &request, &[], |written| Request::Hide(held.clone(), until, earliest, written))
    }

    pub(super) fn popped(&mut self, request: Request, answer: &Answer) -> Result<()> {
        tracing::debug!("{request:?}: {} {}", answer.code, answer.remark);
        let late = matches!(request, Request::Recall(..)) && answer.code == codes::ILLEGAL_OPERATION;
        let done = [codes::SUCCESS, codes::FLUSH_DISK_TIMEOUT].contains(&answer.code);
        ensure!(
            done || late || answer.code == codes::POLLING_TIMEOUT || self.disk.crashed(),
            "{request:?} is refused: {} {}",
            answer.code,
            answer.remark
        );
        if !done {
            return Ok(());
        }
        match request {
            Request::Send(id) => {
                let (_, physical) = message_id::parse_offset_id(answer.field("msgId")?).context("a message id")?;
                self.popping.messages[id].physical = Some(physical as u64);
                self.popping.messages[id].recall_handle = answer.field("recallHandle").ok().map(str::to_owned);
            }
            Request::Recall(id, written) => {
                self.promised(written);
                self.popping.messages[id].recalled = Some(written.end);
            }
            Request::Pop(invisible, written) => {
                self.promised(written);
                self.got(answer, written, written.at + invisible)?;
            }
            Request::Ack(held, written) => {
                self.promised(written);
                let message = &mut self.popping.messages[held.id];
                if let Some(nth) = message.hidden.iter().position(|(until, _)| *until == held.until) {
                    message.hidden.swap_remove(nth);
                }
                message.acked.push(written.end);
            }
            Request::Hide(held, until, earliest, written) => {
                self.promised(written);
                // It may have come back meanwhile.
                if let Some(hidden) = self.popping.messages[held.id].hidden_until(earliest) {
                    *hidden = (until, written.end);
                    let flag = u8::from(held.topic == RETRY);
                    let [pop_time, invisible, revive] = ["popTime", "invisibleTime", "reviveQid"].map(|name| answer.field(name));
                    let (offset, queue_id) = (held.offset, held.queue_id);
                    let handle = format!("{offset} {} {} {} {flag} b {queue_id} {offset}", pop_time?, invisible?, revive?);
                    self.popping.held.push(Held { handle, until, ..held });
                }
            }
        }
        Ok(())
    }

    /// The group got messages that are nobody else's until then.
    fn got(&mut self, answer: &Answer, written: Written, until: i64) -> Result<()> {
        for message in record::decode_all(&answer.body) {
            let message = message?;
            let id: usize = std::str::from_utf8(message.body)?.parse()?;
            let handle = handle(answer, &message)?;
            let topic = if handle.split(' ').nth(4) == Some("1") { RETRY } else { TOPIC };
            tracing::debug!("popped {id} until {until}: {handle}");
            let popped = self.popping.messages.get_mut(id).context("UNKNOWN: a popped message was never sent")?;
            popped.given(written.at, until, written.end).with_context(|| format!("message {id}, {popped:?}"))?;
            let counted = (message.reconsume_times > 0) == (topic == RETRY);
            ensure!(counted, "COUNT: message {id} comes from {topic} after {} times", message.reconsume_times);
            let (queue_id, offset) = (message.queue_id, message.queue_offset);
            self.popping.held.push(Held { id, topic, queue_id, offset, handle, until });
        }
        Ok(())
    }

    /// Pops what there is and acknowledges all of it.
    pub(super) fn pop_all(&mut self, broker: &Broker) -> Result<()> {
        loop {
            let held = self.popping.held.len();
            self.pop(broker, 60_000)?;
            broker.sync(self.now)?;
            self.collect(broker)?;
            if self.popping.held.len() == held {
                break;
            }
        }
        for held in std::mem::take(&mut self.popping.held) {
            self.ack(broker, held)?;
        }
        broker.sync(self.now)?;
        self.collect(broker)
    }
}
