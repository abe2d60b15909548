//! What was promised, and what was seen of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::disk::Crash;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Seen,
    RolledBack,
    /// Its transaction never ends.
    Never,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub outcome: Outcome,
    /// How often consumers send it back.
    pub fails: i32,
}

/// A message in one topic, as often sent back as its number says.
type Key = (String, u64, i32);

#[derive(Clone, Debug)]
struct Expected {
    /// When it may be seen at the earliest, in ms.
    due: i64,
    /// Where it was written first, once that was acknowledged and as long as no crash may have taken it away.
    physical: Option<u64>,
    /// How often it was sent: consumers send it back again after a crash that may have taken it.
    sent: u64,
    /// Crashes since then: each may bring it once more.
    crashes: u64,
    seen: u64,
}

/// Every message of a life.
#[derive(Debug, Default)]
pub struct Oracle {
    plans: Vec<Plan>,
    expected: BTreeMap<Key, Expected>,
    /// How far each queue was read.
    read: BTreeMap<(String, i32), i64>,
    /// Transactions whose outcome was taken, and where the log ended then.
    ended: BTreeMap<u64, u64>,
    /// What lies below is on disk.
    pub persisted: u64,
}

impl Oracle {
    /// The number of a message that is about to be sent.
    pub fn new_message(&mut self, plan: Plan) -> u64 {
        self.plans.push(plan);
        self.plans.len() as u64 - 1
    }

    pub fn plan(&self, id: u64) -> Result<Plan> {
        self.plans.get(id as usize).copied().with_context(|| format!("message {id} was never sent"))
    }

    /// A message may be seen in a topic from now on, but not before it is due.
    pub fn expect(&mut self, topic: &str, id: u64, times: i32, due: i64) {
        let expected = Expected { due, physical: None, sent: 0, crashes: 0, seen: 0 };
        let known = self.expected.entry((topic.to_owned(), id, times)).or_insert(expected);
        known.due = known.due.min(due);
        known.sent += 1;
    }

    /// It has to be seen, unless a crash takes what was not synced.
    pub fn acknowledged(&mut self, topic: &str, id: u64, times: i32, physical: u64) {
        if let Some(expected) = self.expected.get_mut(&(topic.to_owned(), id, times)) {
            expected.physical = Some(physical);
        }
    }

    /// Whether a message that was sent is still there, whatever happened; also one that is not to be seen.
    pub fn is_certain(&self, id: u64) -> bool {
        self.expected.get(&("T".to_owned(), id, 0)).is_some_and(|expected| expected.physical.is_some())
    }

    /// The outcome of a transaction was taken.
    pub fn ended(&mut self, id: u64, end: u64) {
        self.ended.entry(id).or_insert(end);
    }

    /// A producer is asked how a transaction ended.
    pub fn asked_about(&self, id: u64) -> Result<()> {
        ensure!(!self.ended.contains_key(&id), "ASKED: the outcome of {id} was taken, and is asked about again");
        Ok(())
    }

    pub fn was_sent_back(&self, id: u64, times: i32) -> bool {
        let sent = |topic: &str| self.expected.get(&(topic.to_owned(), id, times)).is_some_and(|e| e.physical.is_some());
        sent("%RETRY%g") || sent("%DLQ%g")
    }

    /// The offset from which a queue is to be read on.
    pub fn next(&self, topic: &str, queue_id: i32) -> i64 {
        self.read.get(&(topic.to_owned(), queue_id)).copied().unwrap_or(0)
    }

    /// A consumer got a message.
    pub fn seen(&mut self, topic: &str, queue_id: i32, id: u64, times: i32, now: i64) -> Result<()> {
        *self.read.entry((topic.to_owned(), queue_id)).or_default() += 1;
        let plan = self.plan(id)?;
        ensure!(plan.outcome == Outcome::Seen, "UNCOMMITTED: message {id} is seen in {topic}: {plan:?}");
        let expected = self
            .expected
            .get_mut(&(topic.to_owned(), id, times))
            .with_context(|| format!("UNKNOWN: message {id} is seen in {topic} after {times} retries: {plan:?}"))?;
        ensure!(expected.due <= now, "EARLY: message {id} is seen in {topic} {} ms before it is due", expected.due - now);
        expected.seen += 1;
        ensure!(
            expected.seen <= expected.sent * (1 + expected.crashes),
            "TWICE: message {id} is seen {} times in {topic}, sent {} times, with {} crashes since then",
            expected.seen,
            expected.sent,
            expected.crashes
        );
        Ok(())
    }

    /// The machine went down. Everything is read again from its start.
    pub fn crash(&mut self, crash: Crash) {
        self.read.clear();
        self.ended.retain(|_, end| crash == Crash::Kill || *end <= self.persisted);
        for expected in self.expected.values_mut() {
            expected.seen = 0;
            expected.crashes += 1;
            if crash == Crash::PowerCut && expected.physical.is_some_and(|physical| physical >= self.persisted) {
                expected.physical = None;
            }
        }
    }

    /// Everything that was promised was seen.
    pub fn verify(&self) -> Result<()> {
        for ((topic, id, times), expected) in &self.expected {
            ensure!(
                expected.physical.is_none() || expected.seen > 0,
                "LOST: message {id} was never seen in {topic} after {times} retries, written at {:?}: {:?}",
                expected.physical,
                self.plan(*id)?
            );
        }
        Ok(())
    }
}
