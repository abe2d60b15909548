//! A store under a workload, crashes and faults, with an oracle that knows what was acknowledged.
//!
//! One seed is one store's life: it is opened, worked with, crashed at some change of the disk (also while it
//! recovers), and opened again from what the crash left. After each start everything that was acknowledged has to be
//! there, no queue may have a gap, and every offset has to hold the message that was given it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use protocol::record::{self, Record};
use store::disk::Disk;
use store::index::Shape;
use store::{AppendError, Batch, GetLimits, GetStatus, OpenError, Options, Policy, Retention, Store};

use crate::Life;
use crate::disk::{Crash, Fault, SimDisk};

const SEGMENT: u64 = 8192;
const TOPICS: [&str; 3] = ["orders", "payments", "a-topic-with-a-longer-name"];
const QUEUES: i32 = 3;
const KEYS: u64 = 7;
/// Crashes in one life.
const CRASHES: usize = 4;
/// Changes of the disk between two crashes, at the most.
const MOST_CHANGES: u64 = 400;
const ALL: GetLimits = GetLimits {
    messages: 64,
    bytes: usize::MAX,
    cold_messages: 64,
    cold_bytes: usize::MAX,
    cold_distance: u64::MAX,
    scanned: 64,
};

/// A message as the oracle knows it.
#[derive(Clone, Debug)]
struct Message {
    id: u64,
    physical: u64,
    end: u64,
    key: u64,
}

/// Stands at an offset whose message is not in the log any more.
const GONE: Message = Message { id: 0, physical: 0, end: u64::MAX, key: 0 };

type QueueName = (&'static str, i32);

/// What was appended, by queue; the place in the list is the queue offset.
#[derive(Debug, Default)]
struct Oracle {
    queues: BTreeMap<QueueName, Vec<Message>>,
    /// Messages whose append did not come back, by queue and offset: they may be there.
    unknown: BTreeMap<(QueueName, i64), Vec<u64>>,
    /// Messages of deleted topics, by queue and offset.
    deleted: BTreeMap<(QueueName, i64), Vec<u64>>,
    /// A topic whose deletion did not come back.
    half_deleted: Option<&'static str>,
    next: u64,
    now: i64,
}

struct World {
    rng: Rng,
    disk: Arc<SimDisk>,
    directory: PathBuf,
    policy: Policy,
    oracle: Oracle,
    /// Records below this have to be there after the next start.
    required: u64,
    /// Records before this were removed by cleaning, for all that is known.
    cleaned: u64,
    /// The oracle has seen what the last crash left.
    verified: bool,
    life: Life,
}

fn host() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10911))
}

/// Runs one life. An error says what was violated; the same seed gives the same life.
pub fn run(seed: u64, base: &Path) -> Result<Life> {
    let mut rng = Rng::with_seed(seed);
    let policy = if rng.bool() { Policy::Persisted } else { Policy::Written };
    let directory = base.join("0");
    std::fs::create_dir_all(&directory)?;
    let disk = SimDisk::load(&directory, rng.u64(..))?;
    let oracle = Oracle { now: 1_700_000_000_000, next: 1, ..Oracle::default() };
    let mut world =
        World { rng, disk, directory, policy, oracle, required: 0, cleaned: 0, verified: true, life: Life::default() };
    for crash in 1..=CRASHES {
        world.live().with_context(|| format!("before crash {crash} ({:?})", world.policy))?;
        let next = base.join(crash.to_string());
        world.crash(&next)?;
    }
    // The last start finds a healthy disk, and everything can be looked at.
    let store = world.open()?.context("the last start failed")?;
    world.verify(&store).context("after the last crash")?;
    store.close().context("closing")?;
    Ok(world.life)
}

impl World {
    fn options(&self) -> Options {
        Options {
            root: self.directory.clone(),
            commit_log: self.directory.join("commitlog"),
            segment_length: SEGMENT,
            queue_file_length: 20 * 40,
            index: Some(Shape { slots: 150, entries: 120 }),
            policy: self.policy,
            delays: Vec::new(),
            scan_at_open: 4096,
            disk: Disk::watched(self.disk.clone()),
        }
    }

    /// Opens the store; `None` where the machine went down meanwhile.
    fn open(&mut self) -> Result<Option<Store>> {
        let opened = Store::open(self.options()).and_then(|store| {
            let at = |reason| OpenError::Io { path: PathBuf::new(), reason };
            while !store.rebuild(4096).map_err(at)? {}
            Ok(store)
        });
        tracing::debug!("opened: {:?}", opened.as_ref().map(Store::recovered).map_err(ToString::to_string));
        match opened {
            Ok(store) => Ok(Some(store)),
            Err(_) if self.disk.crashed() => Ok(None),
            Err(error) => bail!("the store does not open: {error}"),
        }
    }

    /// One run of the broker, from its start to a crash.
    fn live(&mut self) -> Result<()> {
        self.disk.crash_after(self.rng.u64(1..=MOST_CHANGES));
        let Some(store) = self.open()? else { return Ok(()) };
        self.verify(&store).context("after the start")?;
        while !self.disk.crashed() && store.fence().is_none() {
            self.step(&store)?;
            self.required = self.required.max(match self.policy {
                // The process may be killed, or the machine: what is certain differs.
                Policy::Persisted => store.visible(),
                Policy::Written => store.written_and_persisted().1,
            });
            if self.rng.u8(..) < 3 {
                return self.stop(store);
            }
        }
        if let Some(fence) = store.fence().filter(|_| !self.disk.crashed()) {
            // Whatever comes, a fenced log says no.
            let before = store.visible();
            ensure!(self.append(&store)?.is_none(), "a message was taken by a log that is fenced: {fence}");
            ensure!(store.sync().is_err() || store.visible() == before, "a fenced log moved on: {fence}");
        }
        Ok(())
    }

    fn stop(&mut self, store: Store) -> Result<()> {
        if store.close().is_ok() {
            self.required = store.visible();
            drop(store);
            let Some(store) = self.open()? else { return Ok(()) };
            if store.recovered().unclean {
                bail!("a clean stop was taken for a crash");
            }
            self.verify(&store).context("after a clean stop")?;
        }
        Ok(())
    }

    fn crash(&mut self, to: &Path) -> Result<()> {
        let crash = if self.rng.u8(..) < 90 { Crash::Kill } else { Crash::PowerCut };
        let lost = self.disk.lost();
        tracing::debug!("{crash:?}, {} required", self.required);
        std::fs::create_dir_all(to)?;
        self.disk.image(crash, to)?;
        std::fs::remove_dir_all(&self.directory)?;
        self.directory = to.to_owned();
        self.disk = SimDisk::load(to, self.rng.u64(..))?;
        if crash == Crash::Kill && self.verified && !lost {
            // Everything that was written outlives the process.
            self.required = self.required.max(self.written());
        }
        self.verified = false;
        self.life.crashes += 1;
        Ok(())
    }

    /// The end of the last message whose append came back.
    fn written(&self) -> u64 {
        let ends = self.oracle.queues.values().flatten().filter(|message| message.id > 0).map(|message| message.end);
        ends.max().unwrap_or(0)
    }

    fn step(&mut self, store: &Store) -> Result<()> {
        let dice = self.rng.u8(0..100);
        tracing::debug!("step {dice}: {} to {} visible", store.min_offset(), store.visible());
        match dice {
            0..55 => drop(self.append(store)?),
            55..70 => drop(store.sync()),
            70..76 => drop(store.checkpoint()),
            76..80 => drop(store.prepare()),
            80..86 => drop(store.index(self.rng.u64(1..20_000))),
            86..90 => self.clean(store),
            90..93 => self.look_up(store)?,
            93..94 => self.delete_topic(store),
            94..95 => self.faults(store)?,
            _ => self.look(store)?,
        }
        Ok(())
    }

    /// A disk that is full for a while, or fails once.
    fn faults(&mut self, store: &Store) -> Result<()> {
        if self.rng.bool() {
            self.disk.set_fault(Some(Fault::Io));
            return Ok(());
        }
        self.disk.set_fault(Some(Fault::Full));
        for _ in 0..self.rng.u8(1..20) {
            self.append(store)?;
        }
        self.disk.set_fault(None);
        ensure!(
            self.append(store)?.is_some() || self.disk.crashed() || store.fence().is_some(),
            "no message is taken after space was freed"
        );
        Ok(())
    }

    /// Appends a few messages. Returns how many, or nothing where the store refused them.
    fn append(&mut self, store: &Store) -> Result<Option<usize>> {
        let mut batch = Batch::default();
        let mut appended = Vec::new();
        let count = self.rng.usize(1..6);
        let unit = if self.rng.u8(..) < 40 { count } else { 1 };
        for nth in 0..count {
            let topic = TOPICS[self.rng.usize(..TOPICS.len())];
            let queue_id = self.rng.i32(0..QUEUES);
            let (id, key) = (self.oracle.next, self.rng.u64(0..KEYS));
            self.oracle.next += 1;
            let body = format!("{id:0width$}", width = self.rng.usize(8..600));
            let properties = format!("UNIQ_KEY\u{1}U{id}\u{2}KEYS\u{1}k{key} other{id}\u{2}");
            let record = Record {
                queue_id,
                flag: 0,
                queue_offset: 0,
                physical_offset: 0,
                sys_flag: 0,
                born_timestamp: 1,
                born_host: host(),
                store_timestamp: 0,
                store_host: host(),
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: body.as_bytes(),
                topic,
                properties: &properties,
            };
            let unit = if unit == 1 {
                1
            } else if nth == 0 {
                count
            } else {
                0
            };
            let before = batch.bytes();
            batch.push(store.queue(topic, queue_id)?, &record, 0, unit);
            appended.push(((topic, queue_id), Message { id, physical: 0, end: (batch.bytes() - before) as u64, key }));
        }
        self.oracle.now += self.rng.i64(0..2000);
        match store.append(&mut batch, self.oracle.now) {
            Ok(_) => {}
            Err(AppendError::DiskFull(_) | AppendError::Fenced(_)) => {
                self.may_be_there(appended);
                return Ok(None);
            }
            Err(error) => bail!("refused: {error}"),
        }
        for (nth, (queue, mut message)) in appended.into_iter().enumerate() {
            let place = batch.place(nth);
            let messages = self.oracle.queues.entry(queue).or_default();
            ensure!(
                place.queue_offset == messages.len() as i64,
                "message {} got offset {} of {queue:?}, the next is {}",
                message.id,
                place.queue_offset,
                messages.len()
            );
            message.physical = place.physical_offset;
            message.end += place.physical_offset;
            messages.push(message);
            self.life.messages += 1;
        }
        Ok(Some(count))
    }

    /// The write of these messages may have reached the disk before the machine went down.
    fn may_be_there(&mut self, appended: Vec<(QueueName, Message)>) {
        for (queue, message) in appended {
            let known = self.oracle.queues.get(&queue).map_or(0, Vec::len) as i64;
            for offset in known..known + 6 {
                self.oracle.unknown.entry((queue, offset)).or_default().push(message.id);
            }
        }
    }

    fn clean(&mut self, store: &Store) {
        if store.visible() < store.min_offset() + 4 * SEGMENT {
            return;
        }
        // What the disk shows of it after a crash is open until the directory was synced.
        let oldest = store.min_offset();
        if !matches!(store.clean(Retention::Oldest), Ok(false)) {
            self.cleaned = self.cleaned.max(oldest + SEGMENT);
        }
        let _ = store.clean_derived();
    }

    fn delete_topic(&mut self, store: &Store) {
        let topic = TOPICS[self.rng.usize(..TOPICS.len())];
        match store.delete_topic(topic) {
            Ok(_) => self.forget(topic),
            Err(error) => {
                tracing::debug!("{topic} is not deleted: {error}");
                if self.disk.crashed() {
                    self.oracle.half_deleted = Some(topic);
                    return;
                }
                if (0..QUEUES).any(|id| store.find_queue(topic, id).is_some_and(|queue| queue.max_offset() > 0)) {
                    return;
                }
                // It is gone for now; the next start may find it in the log.
                for (queue, messages) in self.oracle.queues.iter().filter(|((name, _), _)| *name == topic) {
                    for (offset, message) in messages.iter().enumerate() {
                        self.oracle.unknown.entry((*queue, offset as i64)).or_default().push(message.id);
                    }
                }
                let unknown = std::mem::take(&mut self.oracle.unknown);
                self.forget(topic);
                self.oracle.unknown = unknown;
            }
        }
    }

    /// The topic is deleted. Where queues are made again from the whole log, its messages come back with them.
    fn forget(&mut self, topic: &str) {
        let deleted = &mut self.oracle.deleted;
        for ((name, id), messages) in self.oracle.queues.extract_if(.., |(name, _), _| *name == topic) {
            for (offset, message) in messages.into_iter().enumerate() {
                deleted.entry(((name, id), offset as i64)).or_default().push(message.id);
            }
        }
        self.oracle.unknown.retain(|((name, _), _), _| *name != topic);
    }

    /// Reads a queue while the store is at work: what is visible is what was appended.
    fn look(&mut self, store: &Store) -> Result<()> {
        let queue = (TOPICS[self.rng.usize(..TOPICS.len())], self.rng.i32(0..QUEUES));
        let found = self.read(store, queue)?;
        let known = self.oracle.queues.get(&queue).map_or(&[][..], Vec::as_slice);
        for (offset, id) in found {
            let expected =
                known.get(offset as usize).with_context(|| format!("{queue:?} has an offset {offset} that nobody was given"))?;
            ensure!(expected.id == id, "{queue:?} at {offset} holds message {id} instead of {}", expected.id);
        }
        Ok(())
    }

    fn look_up(&mut self, store: &Store) -> Result<()> {
        let (topic, key) = (TOPICS[self.rng.usize(..TOPICS.len())], self.rng.u64(0..KEYS));
        if store.fence().is_some() {
            return Ok(());
        }
        loop {
            match store.index(1 << 20) {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => return Ok(()),
            }
        }
        let Ok(slices) = store.query(topic, &format!("k{key}"), 10_000, 0, i64::MAX) else { return Ok(()) };
        if self.disk.crashed() {
            return Ok(());
        }
        let mut found = Vec::new();
        for slice in &slices {
            let record = record::decode_checked(slice.bytes())?;
            found.push(std::str::from_utf8(record.body)?.parse::<u64>()?);
        }
        for ((name, id), messages) in &self.oracle.queues {
            for message in messages.iter().filter(|m| *name == topic && m.key == key) {
                let there = message.physical >= store.min_offset() && message.end <= store.visible();
                ensure!(
                    !there || found.contains(&message.id),
                    "message {} of {name}/{id} at {} is not found by its key k{key}",
                    message.id,
                    message.physical
                );
            }
        }
        Ok(())
    }

    /// Offsets and ids of a queue, from its first to its last message, without a gap.
    fn read(&self, store: &Store, (topic, id): QueueName) -> Result<Vec<(i64, u64)>> {
        let Some(queue) = store.find_queue(topic, id) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut offset = queue.min_offset();
        while offset < queue.max_offset() {
            let result = store.get(Some(&queue), offset, &ALL, |_| true, store::ANY)?;
            ensure!(
                result.status == GetStatus::Found,
                "{topic}/{id} from {} to {}: {:?} at {offset}",
                queue.min_offset(),
                queue.max_offset(),
                result.status
            );
            for slice in &result.messages {
                let record = record::decode_checked(slice.bytes()).with_context(|| format!("{topic}/{id} at {offset}"))?;
                // What was cleaned away may still have entries.
                if found.is_empty() && store.min_offset() > 0 {
                    offset = offset.max(record.queue_offset);
                }
                ensure!(
                    (record.topic, record.queue_id, record.queue_offset) == (topic, id, offset),
                    "{topic}/{id} at {offset} holds a record of {}/{} at {}",
                    record.topic,
                    record.queue_id,
                    record.queue_offset
                );
                found.push((offset, std::str::from_utf8(record.body)?.parse()?));
                offset += 1;
            }
        }
        Ok(found)
    }

    /// Everything that has to be there is; nothing else is where it should not be. The oracle goes on from there.
    fn verify(&mut self, store: &Store) -> Result<()> {
        if let Some(topic) = self.oracle.half_deleted.take() {
            self.verify_half_deleted(store, topic)?;
        }
        let kept_from = store.min_offset().max(self.cleaned);
        ensure!(
            store.min_offset() <= self.cleaned,
            "the log begins at {}, only {} were cleaned",
            store.min_offset(),
            self.cleaned
        );
        for topic in TOPICS {
            for id in 0..QUEUES {
                self.verify_queue(store, (topic, id), kept_from)?;
            }
        }
        self.oracle.unknown.clear();
        self.verified = true;
        Ok(())
    }

    fn verify_queue(&mut self, store: &Store, queue: QueueName, kept_from: u64) -> Result<()> {
        let found = self.read(store, queue)?;
        let known = self.oracle.queues.remove(&queue).unwrap_or_default();
        let max = store.find_queue(queue.0, queue.1).map_or(0, |queue| queue.max_offset());
        for (offset, message) in known.iter().enumerate() {
            let required = message.physical >= kept_from && message.end <= self.required;
            let there = found.iter().any(|(at, id)| *at == offset as i64 && *id == message.id);
            ensure!(
                !required || there,
                "LOST: message {} of {queue:?} at {offset} ({}..{}, acknowledged to {}); the queue has {:?}..{max}",
                message.id,
                message.physical,
                message.end,
                self.required,
                found.first().map(|(offset, _)| offset)
            );
            ensure!(
                message.end > self.required || (offset as i64) < max,
                "REUSED: offset {offset} of {queue:?} was acknowledged, and the queue ends at {max}"
            );
        }
        let mut now = known;
        let first = found.first().map_or(max, |(offset, _)| *offset) as usize;
        // What is not there and need not be is of another past.
        for message in now.iter_mut().take(first).filter(|message| message.end > self.required) {
            *message = GONE;
        }
        for (offset, id) in found {
            match now.get(offset as usize) {
                Some(message) if message.id == id => {}
                Some(message) if message.end <= self.required => {
                    bail!("REUSED: {queue:?} at {offset} holds message {id} instead of {}", message.id)
                }
                _ => {
                    let is_in = |ids: &BTreeMap<_, Vec<u64>>| ids.get(&(queue, offset)).is_some_and(|ids| ids.contains(&id));
                    let rebuilt = store.recovered().scanned_from == store.min_offset();
                    let possible = is_in(&self.oracle.unknown) || rebuilt && is_in(&self.oracle.deleted);
                    ensure!(possible, "{queue:?} at {offset} holds message {id}, which was never given that offset");
                    let record = self.record_of(store, queue, offset)?;
                    // What came before is not in the log any more.
                    now.resize(offset as usize, GONE);
                    now.push(Message { id, ..record });
                }
            }
        }
        now.truncate(max as usize);
        if !now.is_empty() {
            self.oracle.queues.insert(queue, now);
        }
        Ok(())
    }

    fn record_of(&self, store: &Store, (topic, id): QueueName, offset: i64) -> Result<Message> {
        let queue = store.find_queue(topic, id).context("no such queue")?;
        let one = GetLimits { messages: 1, ..ALL };
        let result = store.get(Some(&queue), offset, &one, |_| true, store::ANY)?;
        let slice = result.messages.first().context("no such message")?;
        let record = record::decode(slice.bytes())?;
        let physical = record.physical_offset as u64;
        let key = protocol::properties::get(record.properties, "KEYS").and_then(|keys| keys.split(' ').next());
        let key = key.and_then(|key| key.strip_prefix('k')).with_context(|| format!("no key in {record:?}"))?.parse()?;
        Ok(Message { id: 0, physical, end: physical + slice.bytes().len() as u64, key })
    }

    /// A topic whose deletion was broken off is there as it was, or is not.
    fn verify_half_deleted(&mut self, store: &Store, topic: &'static str) -> Result<()> {
        for id in 0..QUEUES {
            let found = self.read(store, (topic, id))?;
            if found.is_empty() && store.find_queue(topic, id).is_none_or(|queue| queue.max_offset() == 0) {
                for (offset, message) in self.oracle.queues.remove(&(topic, id)).into_iter().flatten().enumerate() {
                    self.oracle.deleted.entry(((topic, id), offset as i64)).or_default().push(message.id);
                }
            }
        }
        Ok(())
    }
}
