//! What clients of a group do: producers send messages of every kind, consumers pull, pop and acknowledge.

use anyhow::{Context, Result, bail, ensure};
use protocol::requests::*;
use protocol::sys_flag::message::TRANSACTION_COMMIT;
use protocol::{Header, codes, message_id, record};

use super::*;
use crate::broker::popped::{GROUP as POPPERS, handle};
use crate::broker::{GROUP, PRODUCERS, QUEUES, TOPIC, end_request, heartbeat_body, pull_request, send_request};

/// Rounds in which all that was promised has to come, and ms between two.
const ROUNDS: usize = 400;
const ROUND_MS: i64 = 6000;

/// The message that a record is.
fn id_of(record: &record::Record<'_>) -> Result<u64> {
    Ok(std::str::from_utf8(record.body)?.trim().parse()?)
}

impl World {
    pub(super) fn client(&mut self) -> Result<()> {
        let node = self.rng.usize(0..BROKERS);
        match self.rng.u8(..) {
            0..50 => self.pull(node),
            50..80 => self.pop(node),
            80..90 if !self.halves.is_empty() => {
                let (at, half) = self.halves.swap_remove(self.rng.usize(0..self.halves.len()));
                self.commit(at, half, false)
            }
            _ => self.send(node),
        }
    }

    fn pull(&mut self, node: usize) -> Result<()> {
        let queue_id = self.rng.i32(0..QUEUES);
        let committed = QueryConsumerOffset { consumer_group: GROUP, topic: TOPIC, queue_id, set_zero_if_not_found: Some(true) };
        let offset = self.call(CLIENT, node, &committed, &[])?.and_then(|answer| answer.number("offset").ok()).unwrap_or(0);
        let Some(answer) = self.call(CLIENT, node, &pull_request(TOPIC, queue_id, offset), &[])? else { return Ok(()) };
        let commit_offset = offset + record::decode_all(&answer.body).count() as i64;
        let commit = UpdateConsumerOffset { consumer_group: GROUP, topic: TOPIC, queue_id, commit_offset };
        self.call(CLIENT, node, &commit, &[]).map(drop)
    }

    fn pop(&mut self, node: usize) -> Result<()> {
        let invisible_time = self.rng.i64(1000..20_000);
        let all = PopMessage { queue_id: -1, max_msg_nums: 32, ..PopMessage::default() };
        let request = PopMessage { consumer_group: POPPERS, topic: TOPIC, invisible_time, ..all };
        let asked = self.ask(CLIENT, node, &request, &[])?;
        self.take(node, About::Pop, asked)
    }

    fn send(&mut self, node: usize) -> Result<()> {
        self.next += 1;
        let id = self.next;
        let half = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{PRODUCERS}\u{2}");
        let (about, properties) = match self.rng.u8(..) {
            0..30 => (About::Send(id), "DELAY\u{1}1\u{2}".to_owned()),
            30..50 => (About::Send(id), format!("TIMER_DELAY_MS\u{1}{}\u{2}", self.rng.i64(1..5000))),
            50..70 => (About::Half(id), half),
            70..90 => (About::Temporary, String::new()),
            _ => (About::Send(id), String::new()),
        };
        let topic = if matches!(about, About::Temporary) { TEMPORARY } else { TOPIC };
        let request = send_request(topic, self.rng.i32(0..QUEUES), &properties, self.now);
        let body = format!("{id:width$}", width = self.rng.usize(8..600));
        let asked = self.ask(CLIENT, node, &request, body.as_bytes())?;
        self.life.messages += u64::from(asked.is_some());
        self.take(node, about, asked)
    }

    /// An operator deletes the topic of which nothing is promised, where this broker is the master.
    pub(super) fn delete_temporary(&mut self, node: usize) -> Result<()> {
        if self.nodes[node].broker.as_ref().is_some_and(|broker| !broker.is_slave()) {
            self.call(CLIENT, node, &DeleteTopicInBroker { topic: TEMPORARY }, &[])?;
        }
        Ok(())
    }

    /// A producer says that a transaction is to be committed; where nobody hears it, it is asked about.
    fn commit(&mut self, node: usize, half: Half, from_check: bool) -> Result<()> {
        self.call(CLIENT, node, &end_request(half, TRANSACTION_COMMIT, from_check), &[]).map(drop)
    }

    /// Takes an answer, or waits for it.
    fn take(&mut self, node: usize, about: About, asked: Option<(Option<Answer>, Arc<CollectingOutbox>)>) -> Result<()> {
        let Some((answer, outbox)) = asked else { return Ok(()) };
        let pending = Pending { node: (node, self.nodes[node].life), about, outbox };
        match answer {
            Some(answer) => {
                self.scan(node)?;
                self.answered(&pending, &answer)
            }
            None => {
                self.pending.push(pending);
                Ok(())
            }
        }
    }

    pub(super) fn answers(&mut self) -> Result<()> {
        for sent in std::mem::take(&mut self.pending) {
            match sent.outbox.take().first() {
                Some(frame) => self.answered(&sent, &read(frame)?.1)?,
                None => self.pending.push(sent),
            }
        }
        Ok(())
    }

    /// A send is promised; what was popped is acknowledged, some of it later, some never.
    fn answered(&mut self, sent: &Pending, answer: &Answer) -> Result<()> {
        let node = sent.node.0;
        if answer.code != codes::SUCCESS {
            return Ok(());
        }
        let id = match sent.about {
            About::Send(id) => id,
            About::Half(id) => {
                let (_, commit_log_offset) = message_id::parse_offset_id(answer.field("msgId")?).context("a message id")?;
                self.halves.push((node, Half { queue_offset: answer.number("queueOffset")?, commit_log_offset }));
                id
            }
            About::Pop => return self.acknowledge(node, answer),
            About::Temporary => return Ok(()),
        };
        let copies = self.copies.get(&id).copied().unwrap_or(0);
        ensure!(!self.sync_master || copies.count_ones() >= 2, "ALONE: message {id} is acknowledged with copies {copies:b}");
        ensure!(copies & 1 << node != 0, "UNSEEN: message {id} is acknowledged and not to be seen");
        if node == self.holder {
            self.must.insert(id);
        }
        Ok(())
    }

    fn acknowledge(&mut self, node: usize, answer: &Answer) -> Result<()> {
        for message in record::decode_all(&answer.body) {
            let message = message?;
            let (id, handle) = (id_of(&message)?, handle(answer, &message)?);
            tracing::debug!("{} broker {node} gives {id} to {POPPERS}: {handle}", self.now);
            // What comes back keeps its topic; the handle says where it is.
            let topic = if handle.split(' ').nth(4) == Some("1") { "%RETRY%pg_T" } else { TOPIC };
            let (queue_id, offset) = (message.queue_id, message.queue_offset);
            let ack = move |world: &mut World| {
                world.done.insert(id);
                let request = AckMessage { consumer_group: POPPERS, topic, queue_id, extra_info: &handle, offset };
                world.call(CLIENT, node, &request, &[]).map(drop)
            };
            match self.rng.u8(..) {
                _ if self.quiet => ack(self)?,
                0..40 => {}
                40..90 => self.later(30_000, ack),
                _ => ack(self)?,
            }
        }
        Ok(())
    }

    /// Every message that was promised is delivered to those that pull and to those that pop; also what was delayed, what was
    /// popped and forgotten, and half messages, which are asked about.
    pub(super) fn consume_all(&mut self) -> Result<()> {
        let master = |node: &Node| node.broker.clone().filter(|broker| !broker.is_slave());
        let (node, broker) =
            (0..BROKERS).find_map(|node| master(&self.nodes[node]).map(|broker| (node, broker))).context("a master")?;
        let outbox = Arc::new(CollectingOutbox::default());
        let producer = self.connection(CLIENT, node, outbox.clone());
        self.now += 10_000;
        for _ in 0..ROUNDS {
            let now = self.now + self.nodes[node].skew;
            let mut frames = vec![frame(&Heartbeat {}, &heartbeat_body(), 1)?];
            broker.frames(now, &producer, &mut frames, &mut BytesMut::new())?;
            for later in [0, 1] {
                broker.tick(now + later);
                broker.sync(now + later)?;
            }
            for question in outbox.take() {
                let header = Header::decode(&question)?;
                let asked: CheckTransactionState<'_> = header.read()?;
                let (queue_offset, commit_log_offset) = (asked.tran_state_table_offset, asked.commit_log_offset);
                self.commit(node, Half { queue_offset, commit_log_offset }, true)?;
            }
            self.answers()?;
            self.pop(node)?;
            if self.must.is_subset(&self.done) && self.must.is_subset(&self.pulled(node)?) {
                return Ok(());
            }
            self.now += ROUND_MS;
        }
        let unseen: Vec<_> = self.must.difference(&self.pulled(node)?).copied().collect();
        ensure!(unseen.is_empty(), "UNSEEN: messages {unseen:?} are in the log and in no queue");
        bail!("UNPOPPED: messages {:?} never come", self.must.difference(&self.done).collect::<Vec<_>>())
    }

    /// All that is in the topic's queues.
    fn pulled(&self, node: usize) -> Result<BTreeSet<u64>> {
        let mut seen = BTreeSet::new();
        for queue in 0..QUEUES {
            let mut offset = 0;
            while let Some(answer) =
                self.call(CLIENT, node, &pull_request(TOPIC, queue, offset), &[])?.filter(|a| a.code == codes::SUCCESS)
            {
                for message in record::decode_all(&answer.body) {
                    let message = message?;
                    ensure!(message.queue_offset == offset, "GAP: {offset} of queue {queue} is {}", message.queue_offset);
                    seen.insert(id_of(&message)?);
                    offset += 1;
                }
            }
        }
        Ok(seen)
    }
}
