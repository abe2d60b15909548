//! Answers to requests that write: each waits until disk and slaves have what it is about (decision 0017).

use bytes::BytesMut;
use protocol::exchange::{Call, Responder};
use protocol::requests::{ChangeInvisibleTimeReply, RecallMessageReply, SendMessageReply};
use protocol::{codes, properties};
use replication::replicas::{Demand, Standing};
use store::GetStatus;

use crate::announce::Ticket;
use crate::popped::Popped;
use crate::{Broker, BrokerConfig};

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
    pub fn answer(self, extra: &[(&str, &str)], out: &mut BytesMut) {
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
pub fn extra_fields(config: &BrokerConfig) -> [(&str, &str); 2] {
    [(properties::MESSAGE_REGION, &config.region_id), (properties::TRACE_ON, if config.trace_on { "true" } else { "false" })]
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

    /// Of whoever asked not to wait, who is not told either who has it.
    pub fn by_nobody(self) -> Self {
        Self { demand: None, code: codes::SUCCESS, ..self }
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

impl Broker {
    /// Answers a request when disk and slaves have what it wrote, up to `end` of the log: at once where they have it.
    pub(crate) fn answer_when_stored(&self, call: &mut Call<'_>, end: u64, reply: Reply) {
        self.answer_or_park(call.park(), end, reply, call.now, call.out);
    }

    /// [`Broker::answer_when_stored`], pushed to the connection of a request that waited.
    pub(crate) fn push_when_stored(&self, responder: Responder, end: u64, reply: Reply, now: i64) {
        let (connection, mut out) = (responder.connection().clone(), BytesMut::new());
        self.answer_or_park(responder, end, reply, now, &mut out);
        if !out.is_empty() {
            connection.push(out.freeze());
        }
    }

    fn answer_or_park(&self, responder: Responder, end: u64, reply: Reply, now: i64, out: &mut BytesMut) {
        let config = self.config();
        let owed = Owed::of(self, &config, end, now);
        let waiting = Waiting { owed, responder, reply, announce: None };
        if owed.is_met(self) {
            return waiting.answer(&extra_fields(&config), out);
        }
        self.park_answer(waiting);
        // Disk and slaves may have confirmed it between the look at them and the parking.
        self.answer_waiting(now);
    }

    /// Keeps an answer until disk and slaves have what it is about. Whoever parks one calls
    /// [`Broker::answer_waiting`] then: they may have got it meanwhile.
    pub(crate) fn park_answer(&self, waiting: Waiting) {
        self.admission.enter(1);
        self.waiting.lock()[usize::from(waiting.owed.waits_for_slaves())].push_back(waiting);
    }

    /// How many sends are under way, and for how long the first has waited for disk or slaves, in ms.
    pub(crate) fn waiting_sends(&self, now: i64) -> (usize, i64) {
        let waiting = self.waiting.lock();
        let longest = waiting.iter().filter_map(|line| line.front()).map(|send| now - send.owed.since).max();
        (self.admission.sends(), longest.unwrap_or(0))
    }

    /// Answers those whose records are where they were to be.
    pub(crate) fn answer_waiting(&self, now: i64) {
        let done = self.take_waiting(|send| send.owed.is_met(self));
        self.answer_stored(done, now);
    }

    /// Takes the answers at the fronts of the lines.
    fn take_waiting(&self, done: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let done: Vec<Waiting> = {
            let mut waiting = self.waiting.lock();
            let fronts = waiting.iter_mut().flat_map(|line| {
                let count = line.iter().take_while(|send| done(send)).count();
                line.drain(..count)
            });
            fronts.collect()
        };
        self.admission.leave(done.len());
        done
    }

    /// A send that disk or slaves did not confirm in time is stored all the same: its answer says both.
    pub(crate) fn expire_waiting(&self, now: i64) {
        let config = self.config();
        let mut late = self.take_waiting(|send| send.owed.deadline(&config) <= now);
        late.iter_mut().for_each(|send| send.owed.give_up(self));
        self.answer_stored(late, now);
    }

    /// Answers sends with codes that mean "stored": SUCCESS, or who did not confirm it. Those of one connection that follow
    /// each other go out together.
    pub(crate) fn answer_stored(&self, sends: impl IntoIterator<Item = Waiting>, now: i64) {
        let config = self.config();
        let extra = extra_fields(&config);
        let mut out = BytesMut::new();
        let mut sends = sends.into_iter().peekable();
        while let Some(mut send) = sends.next() {
            let connection = send.responder.connection().clone();
            let announce = send.announce.take();
            send.answer(&extra, &mut out);
            if let Some(ticket) = announce {
                self.answer_when_registered(ticket, &connection, out.split().freeze(), now);
            } else if sends.peek().is_none_or(|next| next.announce.is_some() || next.responder.connection().id != connection.id) {
                connection.push(out.split().freeze());
            }
        }
    }
}
