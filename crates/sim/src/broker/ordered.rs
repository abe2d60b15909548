//! Ordered consumers: each asks for queue locks, consumes under them, commits, leaves or dies.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use broker::Broker;
use protocol::bodies::{LockBatch, LockBatchReply, QueueValue};
use protocol::record;
use protocol::requests::{LockBatchMq, QueryConsumerOffset, UnlockBatchMq, UpdateConsumerOffset};
use protocol::{codes, fastjson};

use super::{QUEUES, World, send_request};

pub const TOPIC: &str = "O";
const GROUP: &str = "ordering";
const CLIENTS: usize = 3;
/// How long the broker keeps a lock that is not renewed, and how long clients trust theirs, in ms.
const LOCK_MS: i64 = 60_000;
const TRUST_MS: i64 = 30_000;

/// A queue as one client has it.
#[derive(Clone, Copy, Debug)]
struct Owned {
    locked: i64,
    next: i64,
}

#[derive(Debug, Default)]
pub struct Ordered {
    /// Who holds which queue at the broker, and since when it was last renewed.
    held: BTreeMap<i32, (usize, i64)>,
    owned: BTreeMap<(usize, i32), Owned>,
    /// Up to where each queue was consumed by whomever.
    consumed: BTreeMap<i32, i64>,
}

impl Ordered {
    /// The broker has started: what it has lost of a queue will come again with other messages.
    pub fn start(&mut self, broker: &Broker) -> Result<()> {
        for (queue_id, consumed) in &mut self.consumed {
            let max = broker.store.find_queue(TOPIC, *queue_id).map_or(0, |queue| queue.max_offset());
            *consumed = (*consumed).min(max);
        }
        Ok(())
    }

    /// Locks do not outlive the broker; its clients begin anew.
    pub fn forget_locks(&mut self) {
        self.held.clear();
        self.owned.clear();
    }

    /// The queues that a client is to get of those that it asks for.
    fn lock(&mut self, client: usize, queues: &[i32], now: i64) -> Vec<i32> {
        let free = |held: &BTreeMap<i32, (usize, i64)>, queue: i32| {
            held.get(&queue).is_none_or(|(holder, since)| *holder == client || now - since > LOCK_MS)
        };
        let got: Vec<i32> = queues.iter().copied().filter(|queue| free(&self.held, *queue)).collect();
        self.held.extend(got.iter().map(|queue| (*queue, (client, now))));
        got
    }
}

fn request(client: usize, queues: &[i32]) -> Vec<u8> {
    let mq_set = queues.iter().map(|id| QueueValue { broker_name: "b".into(), queue_id: *id, topic: TOPIC.into() }).collect();
    let batch = LockBatch { client_id: format!("c{client}"), consumer_group: GROUP.into(), mq_set, only_this_broker: false };
    fastjson::to_vec(&batch)
}

impl World {
    pub(super) fn ordered_step(&mut self, broker: &Broker) -> Result<()> {
        let client = self.rng.usize(0..CLIENTS);
        match self.rng.u8(0..100) {
            0..30 => self.send_ordered(broker),
            30..50 => self.lock_queues(broker, client),
            50..90 => self.consume_ordered(broker, client),
            90..96 => self.leave(broker, client),
            _ => {
                // It dies: the broker keeps its locks.
                self.ordered.owned.retain(|(owner, _), _| *owner != client);
                Ok(())
            }
        }
    }

    fn send_ordered(&mut self, broker: &Broker) -> Result<()> {
        let queue_id = self.rng.i32(0..QUEUES);
        let id = self.rng.u64(..);
        // Nobody waits for the answer: what counts is what is in the queue.
        self.exchange(broker, &send_request(TOPIC, queue_id, "", self.now), id.to_string().as_bytes())?;
        Ok(())
    }

    fn lock_queues(&mut self, broker: &Broker, client: usize) -> Result<()> {
        let queues: Vec<i32> = (0..QUEUES).filter(|_| self.rng.bool()).collect();
        let answer = self.call(broker, &LockBatchMq {}, &request(client, &queues))?;
        let reply: LockBatchReply = fastjson::from_slice(&answer.body)?;
        let mut got: Vec<i32> = reply.lock_ok_mq_set.iter().map(|queue| queue.queue_id).collect();
        got.sort_unstable();
        let expected = self.ordered.lock(client, &queues, self.now);
        ensure!(got == expected, "LOCKS: client {client} asked for {queues:?} and got {got:?} instead of {expected:?}");
        for queue_id in got {
            let trusted = self.ordered.owned.get(&(client, queue_id)).filter(|owned| self.now - owned.locked <= TRUST_MS);
            let next = match trusted {
                Some(owned) => owned.next,
                None => self.committed(broker, queue_id)?,
            };
            self.ordered.owned.insert((client, queue_id), Owned { locked: self.now, next });
        }
        Ok(())
    }

    fn committed(&mut self, broker: &Broker, queue_id: i32) -> Result<i64> {
        let query = QueryConsumerOffset { consumer_group: GROUP, topic: TOPIC, queue_id, set_zero_if_not_found: Some(false) };
        let answer = self.call(broker, &query, &[])?;
        if answer.code == codes::SUCCESS { answer.number("offset") } else { Ok(0) }
    }

    fn consume_ordered(&mut self, broker: &Broker, client: usize) -> Result<()> {
        for queue_id in 0..QUEUES {
            let Some(owned) = self.ordered.owned.get(&(client, queue_id)).copied() else { continue };
            if self.now - owned.locked > TRUST_MS {
                self.ordered.owned.remove(&(client, queue_id));
                continue;
            }
            let answer = self.pull(broker, TOPIC, queue_id, owned.next)?;
            let mut next = owned.next;
            for message in record::decode_all(&answer.body) {
                let message = message?;
                let consumed = self.ordered.consumed.entry(queue_id).or_default();
                ensure!(
                    message.queue_offset <= *consumed,
                    "ORDER: client {client} gets {} of queue {queue_id}, where {consumed} is next",
                    message.queue_offset
                );
                *consumed = (*consumed).max(message.queue_offset + 1);
                next = message.queue_offset + 1;
            }
            self.ordered.owned.insert((client, queue_id), Owned { next, ..owned });
            // The offset is stored before anybody else may have the queue.
            self.commit(broker, queue_id, next)?;
        }
        Ok(())
    }

    fn commit(&mut self, broker: &Broker, queue_id: i32, offset: i64) -> Result<()> {
        let commit = UpdateConsumerOffset { consumer_group: GROUP, topic: TOPIC, queue_id, commit_offset: offset };
        let answer = self.call(broker, &commit, &[])?;
        ensure!(answer.code == codes::SUCCESS, "an offset is not committed: {}", answer.remark);
        Ok(())
    }

    fn leave(&mut self, broker: &Broker, client: usize) -> Result<()> {
        let queues: Vec<i32> = (0..QUEUES).collect();
        self.call(broker, &UnlockBatchMq {}, &request(client, &queues))?;
        self.ordered.held.retain(|_, (holder, _)| *holder != client);
        self.ordered.owned.retain(|(owner, _), _| *owner != client);
        Ok(())
    }

    /// One client consumes the rest: nothing was passed over.
    pub(super) fn finish_ordered(&mut self, broker: &Broker) -> Result<()> {
        self.now += LOCK_MS + 1;
        let queues: Vec<i32> = (0..QUEUES).collect();
        let expected = self.ordered.lock(0, &queues, self.now);
        ensure!(expected == queues, "LOCKS: queues are held by {:?} for too long", self.ordered.held);
        self.call(broker, &LockBatchMq {}, &request(0, &queues))?;
        for queue_id in queues {
            let next = self.committed(broker, queue_id)?;
            self.ordered.owned.insert((0, queue_id), Owned { locked: self.now, next });
        }
        let end = |queue_id: i32| broker.store.find_queue(TOPIC, queue_id).map_or(0, |queue| queue.max_offset());
        for _ in 0..10_000 {
            self.consume_ordered(broker, 0)?;
            let left = (0..QUEUES).find(|id| self.ordered.consumed.get(id).copied().unwrap_or(0) < end(*id));
            if left.is_none() {
                return Ok(());
            }
        }
        anyhow::bail!("ORDER: consumed up to {:?}, not to the end", self.ordered.consumed)
    }
}
