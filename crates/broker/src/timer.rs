//! Timer messages: each is delivered at a time of its own. They wait in queue 0 of rmq_sys_wheel_timer, as in Java. What
//! is pending follows from the entries of that queue, which say when their messages are due ([`protocol::timer`]), and
//! from `config/timercheck` ([`checkpoint`]); in memory are the due time and the queue offset of each, in their order.

mod checkpoint;
mod java;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::bodies::{TimerMetric, TimerMetrics};
use protocol::exchange::Refusal;
use protocol::record::{self, Record};
use protocol::timer::{self, SLOT_MS, Timer};
use protocol::{codes, fastjson, names, properties};
use store::log::Slice;
use store::queue::{Entry, Queue, READ_BATCH};
use store::{Batch, Store};

use crate::meta::table;
use crate::timer::checkpoint::{Checkpoint, Found, Mark, Page};
use crate::{Broker, BrokerConfig, stats};

/// Below the store's root.
const FILE: &str = "config/timercheck";
/// Java keeps all timers in one queue.
pub const QUEUE: i32 = 0;
/// What a timer's properties may grow by until it is delivered.
pub const RESERVE: usize = 128;
/// Timers that may be pending; each takes about 45 bytes of memory.
const MAX_PENDING: usize = 10_000_000;
/// Messages delivered or rolled in one go, the bytes of those, and how often in one tick.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
const BATCHES: usize = 16;
/// Entries of the queue whose pending ones are counted together.
const BLOCK: i64 = if cfg!(test) { 16 } else { 65_536 };
/// What could not be delivered is tried again after so many ms.
const RETRY_MS: i64 = 1000;
/// Timers are rolled after this share of the time that their files are kept, and not before so many ms.
const ROLL_AFTER: (i64, i64) = (2, 3);
const MIN_ROLL_MS: i64 = 600_000;

/// The timers of a broker.
pub struct Timers {
    state: Mutex<State>,
    /// How many are pending, for senders.
    pending: AtomicUsize,
    file: Checkpoint,
    /// The file was written, and the disk has not confirmed it.
    unsynced: AtomicBool,
    metrics_path: PathBuf,
    /// How many are pending of each topic, and whether that is to be saved.
    metrics: Mutex<(TimerMetrics, bool)>,
}

struct State {
    /// What the queue is read by, once it can be.
    unread: Option<Found>,
    /// The pending ones by due time and queue offset, with a part of the hash of their unique keys.
    pending: BTreeMap<(i64, i64), u32>,
    /// How many of each block of the queue are pending.
    blocks: BTreeMap<i64, usize>,
    /// The queue offset up to which messages were taken in.
    next: i64,
    /// The latest time that was a delivered message's.
    delivered_to: i64,
    /// From where on the messages of the oldest block are being put at the queue's end, where they were stored before a
    /// time.
    rolling: Option<(i64, i64)>,
    retry_at: i64,
    /// Something changed since the file was written.
    changed: bool,
    page: Page,
    /// A mark that becomes the safe one when the disk has the log up to an offset.
    candidate: Option<(Mark, u64)>,
}

/// What a timer is named by when it is recalled.
pub struct Recalled<'a> {
    pub topic: &'a str,
    pub unique_key: &'a str,
    pub deliver_at: i64,
    pub producer_group: &'a str,
    pub born_host: std::net::SocketAddr,
}

/// Turns a message that asks for a time of delivery into one that waits for it. Gives that time; `None` where it is
/// delivered at once.
pub fn place(
    broker: &Broker,
    config: &BrokerConfig,
    now: i64,
    topic: &str,
    queue_id: i32,
    text: &mut String,
) -> Result<Option<i64>, Refusal> {
    // The value that counts, by its rank among the ways to ask.
    let mut asked: Option<(usize, &str)> = None;
    let mut cancels = false;
    for (name, value) in properties::pairs(text) {
        match name {
            properties::TIMER_OUT_MS => return Ok(None),
            properties::TIMER_DEL_UNIQKEY => cancels = true,
            _ => {
                let rank = properties::TIMES.iter().position(|time| *time == name);
                if let Some(rank) = rank.filter(|rank| asked.is_none_or(|(other, _)| *rank <= other)) {
                    asked = Some((rank, value));
                }
            }
        }
    }
    let Some((rank, value)) = asked.filter(|_| topic != names::WHEEL_TIMER_TOPIC) else { return Ok(None) };
    if !config.timer_wheel_enable {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "accurate timer message is not enabled, timerWheelEnable is false"));
    }
    let longest = i64::from(config.timer_max_delay_sec) * 1000;
    let illegal = || {
        let remark = format!(
            "timer message illegal, the delay time should not be bigger than the max delay {longest}ms; or if set del msg, the delay time should be bigger than the current time"
        );
        Refusal::new(codes::MESSAGE_ILLEGAL, remark)
    };
    let value: i64 = value.parse().map_err(|_| illegal())?;
    let deliver_at = match properties::TIMES[rank] {
        properties::TIMER_DELAY_SEC => now.saturating_add(value.saturating_mul(1000)),
        properties::TIMER_DELAY_MS => now.saturating_add(value),
        _ => value,
    };
    if deliver_at <= now {
        return if cancels { Err(illegal()) } else { Ok(None) };
    }
    if deliver_at - now > longest {
        return Err(illegal());
    }
    if broker.wheel.pending.load(Ordering::Relaxed) >= MAX_PENDING {
        let remark = format!("timer message is under flow control: {MAX_PENDING} messages wait for their time already");
        return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
    }
    let (out, due) = timer::out(deliver_at, properties::TIMES[rank] == properties::TIMER_DELIVER_MS);
    properties::push(text, properties::TIMER_OUT_MS, &out.to_string());
    properties::push(text, properties::REAL_TOPIC, topic);
    properties::push(text, properties::REAL_QUEUE_ID, &queue_id.to_string());
    Ok(Some(due))
}

/// Whether a `TIMER_DEL_UNIQKEY` means the message of a record.
fn is_meant(key: &str, record: &Record<'_>) -> bool {
    let property = |name| properties::get(record.properties, name);
    let (Some(unique_key), Some(topic)) = (property(properties::UNIQUE_KEY), property(properties::REAL_TOPIC)) else {
        return false;
    };
    key == unique_key || key.strip_suffix(unique_key).and_then(|rest| rest.strip_suffix('+')) == Some(topic)
}

/// Reads a record of the timer's queue. What can't be read is said, since it is lost.
fn decode(slice: Option<&Slice>, offset: i64) -> Option<Record<'_>> {
    let Some(slice) = slice else {
        tracing::error!("the timer message {offset} is lost: its commit log file was deleted before it was due");
        return None;
    };
    let decoded = record::decode_checked(slice.bytes());
    decoded.inspect_err(|error| tracing::error!("the timer message {offset} is damaged and is passed over: {error}")).ok()
}

impl State {
    fn insert(&mut self, due: i64, offset: i64, hash: u32) {
        if self.pending.insert((due, offset), hash).is_none() {
            *self.blocks.entry(offset / BLOCK).or_default() += 1;
        }
    }

    fn remove(&mut self, key: (i64, i64)) {
        let block = key.1 / BLOCK;
        if self.pending.remove(&key).is_some()
            && let Some(count) = self.blocks.get_mut(&block)
        {
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    fn first_due(&self) -> i64 {
        self.pending.first_key_value().map_or(i64::MAX, |((due, _), _)| *due)
    }

    /// What holds now: what is due later than its time, or is the first that is pending, was not delivered. No such time
    /// parts the two where a message was taken in after one that is due later had been delivered: until it is delivered
    /// too, what held before holds.
    fn mark(&self, now: i64) -> Mark {
        let first = self.first_due();
        if first <= self.delivered_to {
            return self.page.newest.0;
        }
        let start = self.blocks.first_key_value().map_or(self.next, |(block, _)| block * BLOCK);
        let time = now.max(self.page.newest.0.time).min(first - 1);
        Mark { time, next: self.next, start }
    }

    /// Pending ones of the slot of `out` whose unique key may be the one that is meant.
    fn candidates(&self, out: i64, key: &str) -> Vec<(i64, i64)> {
        let slot = out.div_euclid(SLOT_MS) * SLOT_MS;
        let hashes = [timer::hash(key), timer::hash(key.split_once('+').map_or(key, |(_, key)| key))];
        let range = self.pending.range((slot + 1, i64::MIN)..=(slot + SLOT_MS, i64::MAX));
        range.filter(|(_, hash)| hashes.contains(hash)).map(|(key, _)| *key).collect()
    }

    /// The pending message that a `TIMER_DEL_UNIQKEY` with a time means.
    fn find(&self, store: &Store, queue: &Queue, out: i64, key: &str) -> io::Result<Option<(i64, i64)>> {
        for candidate in self.candidates(out, key) {
            let slice = store.message(queue, candidate.1)?;
            if slice.is_some_and(|slice| record::decode_checked(slice.bytes()).is_ok_and(|record| is_meant(key, &record))) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Takes a message of the queue in, where it is `wanted`.
    fn enter(
        &mut self,
        store: &Store,
        queue: &Queue,
        offset: i64,
        entry: &Entry,
        wanted: impl Fn(&Timer) -> bool,
    ) -> io::Result<()> {
        let known = Timer::from_code(entry.tags_code);
        if let Some(timer) = known.filter(|timer| !timer.cancels && !timer.rolled) {
            if wanted(&timer) {
                self.insert(timer.due, offset, timer.hash);
            }
            return Ok(());
        }
        let slice = store.record(entry.offset as u64);
        let Some(record) = decode(slice.as_ref(), offset) else { return Ok(()) };
        let Some(timer) = Timer::read(record.properties) else {
            tracing::error!("the timer message {offset} has no TIMER_OUT_MS and is passed over");
            return Ok(());
        };
        if !wanted(&timer) {
            return Ok(());
        }
        let property = |name| properties::get(record.properties, name);
        let gone = match (property(properties::TIMER_ROLLED_FROM).and_then(|n| n.parse().ok()), timer.rolled, timer.cancels) {
            (Some(older), ..) => Some((timer.due, older)),
            // Java does not say which one it was.
            (None, true, _) => self.find(store, queue, timer.out, property(properties::UNIQUE_KEY).unwrap_or_default())?,
            (None, false, true) => {
                self.find(store, queue, timer.out, property(properties::TIMER_DEL_UNIQKEY).unwrap_or_default())?
            }
            (None, false, false) => None,
        };
        if let Some(gone) = gone {
            self.remove(gone);
        }
        if !timer.cancels {
            self.insert(timer.due, offset, timer.hash);
        }
        Ok(())
    }

    /// Reads what a start has to know of the queue. Gives the time up to which all is delivered.
    fn read(&mut self, store: &Store, found: Found) -> io::Result<i64> {
        let Some(queue) = store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE) else { return Ok(0) };
        let (min, max) = (queue.min_offset(), queue.max_offset());
        type Wanted = Box<dyn Fn(&Timer) -> bool>;
        let (time, from, end, wanted): (i64, i64, i64, Wanted) = match found {
            Found::Own { newest, needs, safe } => {
                let mark = if needs <= store.visible() { newest } else { safe };
                (mark.time, mark.start, mark.next, Box::new(move |timer| timer.due > mark.time))
            }
            Found::Java { read_time, next } => (read_time, min, next, Box::new(move |timer| timer.out >= read_time)),
        };
        let end = end.clamp(min, max);
        let mut entries = [Entry::default(); READ_BATCH];
        let mut offset = from.max(min);
        while offset < end {
            let want = entries.len().min((end - offset) as usize);
            let count = queue.read(offset, &mut entries[..want])?;
            if count == 0 {
                break;
            }
            for (entry, offset) in entries[..count].iter().zip(offset..) {
                self.enter(store, &queue, offset, entry, &wanted)?;
            }
            offset += count as i64;
        }
        self.next = end;
        Ok(time)
    }

    /// Takes in what was sent since the last time. Gives how many.
    fn take_in(&mut self, store: &Store) -> io::Result<u64> {
        let Some(queue) = store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE) else { return Ok(0) };
        if self.next > queue.max_offset() {
            tracing::warn!("topic {} was deleted: its {} timer messages are forgotten", queue.topic, self.pending.len());
            (self.pending, self.blocks, self.next) = Default::default();
        }
        let mut entries = [Entry::default(); READ_BATCH];
        self.next = self.next.max(queue.min_offset());
        let first = self.next;
        loop {
            let count = queue.read(self.next, &mut entries)?;
            for (entry, offset) in entries[..count].iter().zip(self.next..) {
                self.enter(store, &queue, offset, entry, |_| true)?;
            }
            self.next += count as i64;
            self.changed |= count > 0;
            if count == 0 {
                return Ok((self.next - first) as u64);
            }
        }
    }
}

/// Has a broker that is not open deliver timers again, from a slot on those before `next` of the queue, and all behind.
pub fn go_back(root: &Path, (read_time, next): (i64, i64)) -> io::Result<()> {
    let (file, _, version) = Checkpoint::open(&root.join(FILE))?;
    file.write_copied(&checkpoint::java_part(read_time, next, &version))?;
    file.sync()
}

impl Timers {
    /// Opens the files below the store's `config`. The queue is read by the first tick that finds the store whole.
    pub fn open(store: &Store) -> io::Result<Self> {
        let directory = store.root().join("config");
        let (file, found, version) = Checkpoint::open(&store.root().join(FILE))?;
        // Decided before messages come: they may make the log as long as the newest mark needs it, without what it needs.
        let found = match found {
            Found::Own { needs, safe, .. } if store.rebuilding().is_none() && needs > store.visible() => {
                Found::Own { newest: safe, needs: 0, safe }
            }
            found => found,
        };
        let metrics_path = directory.join("timermetrics");
        let metrics = table::load(&metrics_path)?;
        let state = State {
            unread: Some(found),
            pending: BTreeMap::new(),
            blocks: BTreeMap::new(),
            next: 0,
            delivered_to: i64::MIN,
            rolling: None,
            retry_at: 0,
            changed: false,
            page: Page { version, ..Page::default() },
            candidate: None,
        };
        let (state, metrics) = (Mutex::new(state), Mutex::new((metrics, false)));
        Ok(Self { state, pending: AtomicUsize::new(0), file, unsynced: AtomicBool::new(false), metrics_path, metrics })
    }

    /// Counts pending messages of a topic up or down.
    pub fn count(&self, topic: &str, by: i64, now: i64) {
        let mut metrics = self.metrics.lock();
        let metric = metrics.0.timing_count.entry(topic.to_owned()).or_default();
        *metric = TimerMetric { count: (metric.count + by).max(0), time_stamp: now };
        if metric.count == 0 {
            metrics.0.timing_count.remove(topic);
        }
        metrics.0.data_version.advance(now);
        metrics.1 = true;
    }

    /// How many are pending of each topic, as Java's JSON.
    pub fn metrics(&self) -> Vec<u8> {
        fastjson::to_vec(&self.metrics.lock().0)
    }

    /// Takes how many are pending at a slave's master, which counts them as they come and go.
    pub fn copy_metrics(&self, copied: TimerMetrics) {
        let mut metrics = self.metrics.lock();
        if metrics.0.data_version != copied.data_version {
            *metrics = (copied, true);
        }
    }

    /// What Java's slaves are told: up to when timers were delivered, and how far the queue was read.
    pub fn checkpoint(&self, now: i64) -> [u8; checkpoint::JAVA_LENGTH] {
        let state = self.state.lock();
        let mark = state.mark(now);
        checkpoint::java_part(checkpoint::read_time(mark.time), mark.next, &state.page.version)
    }

    /// How far timers are delivered, as far as the disk has that: the slot that is next, and how far the queue was read;
    /// `None` before that is known.
    pub fn confirmed(&self) -> Option<(i64, i64)> {
        let state = self.state.lock();
        let safe = state.page.safe;
        state.unread.is_none().then_some((checkpoint::read_time(safe.time), safe.next))
    }

    /// Takes what a slave's master says of its timers, whose log this one has so far: the slave goes on from there when it
    /// becomes the master. Gives the slot that is next, and how far the queue was read.
    pub fn copy_checkpoint(&self, page: &[u8]) -> io::Result<(i64, i64)> {
        let page = page.try_into().map_err(|_| {
            let reason = format!("the master's timer check point has {} bytes, not {}", page.len(), checkpoint::JAVA_LENGTH);
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let (read_time, next, version) = checkpoint::read_java_part(page);
        let mut state = self.state.lock();
        self.file.write_copied(page)?;
        self.unsynced.store(true, Ordering::Relaxed);
        (state.unread, state.page.version) = (Some(Found::Java { read_time, next }), version);
        Ok((read_time, next))
    }

    /// For `brokerStatus`: by how many ms delivery is behind, how many messages are not taken in, how many are pending.
    pub fn progress(&self, store: &Store, now: i64) -> (i64, i64, usize) {
        let state = self.state.lock();
        let max = store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE).map_or(0, |queue| queue.max_offset());
        (now - state.mark(now).time, max - state.next, state.pending.len())
    }

    /// Has the disk confirm the files. Blocks: not for the thread that delivers.
    pub fn save(&self) -> io::Result<()> {
        if self.unsynced.swap(false, Ordering::Relaxed) {
            self.file.sync().inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))?;
        }
        let metrics = {
            let mut metrics = self.metrics.lock();
            if !std::mem::take(&mut metrics.1) {
                return Ok(());
            }
            metrics.0.clone()
        };
        table::save(&self.metrics_path, &metrics).inspect_err(|_| self.metrics.lock().1 = true)
    }

    /// Takes in what was sent since the last time, at first what a start has to know. Gives how many.
    fn take_in(&self, state: &mut State, store: &Store, now: i64) -> io::Result<u64> {
        if let Some(found) = state.unread {
            let time = state.read(store, found)?;
            (state.page.newest.0.time, state.delivered_to) = (time, time);
            let mark = state.mark(time);
            (state.page.newest, state.page.safe) = ((mark, 0), mark);
            state.unread = None;
            // From here on only the queue is true: Java would begin at the first pending message.
            state.changed = true;
            self.write(state, store, now)?;
            self.file.sync()?;
            java::remove(store.root())?;
        }
        state.take_in(store)
    }

    fn write(&self, state: &mut State, store: &Store, now: i64) -> io::Result<()> {
        let changed = std::mem::take(&mut state.changed);
        if !changed && state.candidate.is_none() {
            return Ok(());
        }
        let (written, persisted) = store.written_and_persisted();
        let confirmed = state.candidate.take_if(|(_, end)| *end <= persisted);
        if let Some((mark, _)) = confirmed {
            state.page.safe = mark;
            state.candidate = Some(state.page.newest).filter(|(newest, _)| *newest != mark);
        }
        if changed {
            state.page.newest = (state.mark(now), written);
            state.candidate.get_or_insert(state.page.newest);
        } else if confirmed.is_none() {
            return Ok(());
        }
        state.page.java = (state.page.safe.time, state.page.safe.start);
        state.page.version.advance(now);
        self.unsynced.store(true, Ordering::Relaxed);
        self.file.write(&state.page).inspect_err(|_| state.changed = true)
    }

    /// Notes the state at the end, when the log is on disk as a whole, also for Java.
    pub fn close(&self, store: &Store, config: &BrokerConfig, now: i64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.unread.is_none() {
            let mark = state.mark(now);
            let time = mark.time.min(state.first_due() - 1);
            let for_java = state.write_for_java(store, config, time, now);
            if let Err(error) = &for_java {
                tracing::error!(
                    "timerwheel and timerlog can't be written: Java's broker would deliver some messages twice: {error}"
                );
            }
            state.page.java = (time, if for_java.is_ok() { state.next } else { mark.start });
            (state.page.newest, state.page.safe, state.candidate) = ((mark, 0), mark, None);
            state.page.version.advance(now);
            self.file.write(&state.page)?;
            self.unsynced.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.save()
    }
}

impl State {
    /// Leaves the pending messages where Java's broker looks for them.
    fn write_for_java(&self, store: &Store, config: &BrokerConfig, time: i64, now: i64) -> io::Result<()> {
        let Some(queue) = store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE).filter(|_| !self.pending.is_empty()) else {
            return Ok(());
        };
        let length = config.mapped_file_size_timer_log as u64;
        let mut writer = java::Writer::create(store.root(), length, i64::from(config.timer_roll_window_slot), now)?;
        let mut by_offset: Vec<_> = self.pending.keys().map(|(due, offset)| (*offset, *due)).collect();
        by_offset.sort_unstable();
        for (offset, due) in by_offset {
            let Some(Entry { offset, size, .. }) = queue.entry(offset)? else { continue };
            let slice = store.record(offset as u64);
            let record = slice.as_ref().and_then(|slice| record::decode_checked(slice.bytes()).ok());
            let topic = record.and_then(|record| properties::get(record.properties, properties::REAL_TOPIC));
            let topic_hash = topic.map_or(0, stdx::java::hash_code);
            writer.push(&java::Waiting { out: due - 1, offset, size, topic_hash })?;
        }
        match queue.entry(self.next - 1)? {
            Some(Entry { offset, size, .. }) => {
                writer.finish(&java::Waiting { out: 0, offset, size, topic_hash: 0 }, checkpoint::read_time(time))
            }
            None => Err(io::Error::other("the last message of the queue is not there")),
        }
    }
}

impl Broker {
    /// Delivers timer messages that are due, and takes in new ones. `false` where none was due.
    pub(crate) fn deliver_timers(&self, now: i64) -> bool {
        let config = self.config();
        if !config.timer_wheel_enable || self.is_slave() || self.store.rebuilding().is_some() {
            return false;
        }
        let mut state = self.wheel.state.lock();
        if state.retry_at > now && state.retry_at <= now + RETRY_MS {
            return false;
        }
        let delivered = self.tick_timers(&mut state, &config, now).unwrap_or_else(|error| {
            tracing::error!("timer messages can't be delivered, which is tried again in {RETRY_MS} ms: {error}");
            state.retry_at = now + RETRY_MS;
            false
        });
        self.wheel.pending.store(state.pending.len(), Ordering::Relaxed);
        delivered
    }

    fn tick_timers(&self, state: &mut State, config: &BrokerConfig, now: i64) -> io::Result<bool> {
        let mut delivered = false;
        if !config.timer_stop_enqueue {
            stats::add(&self.stats.counters.timers_in, self.wheel.take_in(state, &self.store, now)?);
        }
        if let Some(queue) = self.store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE) {
            for _ in 0..BATCHES {
                if config.timer_stop_dequeue || !self.deliver_batch(state, &queue, now)? {
                    break;
                }
                delivered = true;
            }
            self.roll(state, &queue, now)?;
        }
        self.wheel.write(state, &self.store, now)?;
        Ok(delivered)
    }

    /// Delivers some messages that are due. `false` where there are none.
    fn deliver_batch(&self, state: &mut State, queue: &Queue, now: i64) -> io::Result<bool> {
        let due: Vec<_> = state.pending.range(..=(now, i64::MAX)).map(|(key, _)| *key).take(BATCH).collect();
        let mut batch = Batch::default();
        let mut topics = BTreeMap::new();
        let mut done = 0;
        for (_, offset) in &due {
            let slice = self.store.message(queue, *offset)?;
            if let Some(record) = decode(slice.as_ref(), *offset) {
                push_due(&self.store, &record, &mut batch, &mut topics, now)?;
            }
            done += 1;
            if batch.bytes() >= BATCH_BYTES {
                break;
            }
        }
        if !batch.is_empty() {
            self.append(&mut batch, now).map_err(io::Error::other)?;
        }
        for (due, offset) in &due[..done] {
            state.remove((*due, *offset));
            state.delivered_to = state.delivered_to.max(*due);
        }
        topics.iter().for_each(|(topic, count)| self.wheel.count(topic, -count, now));
        stats::add(&self.stats.counters.timers_out, batch.len() as u64);
        state.changed |= done > 0;
        Ok(done > 0)
    }

    /// Looks whether the oldest pending messages are so old that their file may be deleted soon.
    pub(crate) fn look_for_old_timers(&self, now: i64) {
        let config = self.config();
        let mut state = self.wheel.state.lock();
        let Some(queue) = self.store.find_queue(names::WHEEL_TIMER_TOPIC, QUEUE) else { return };
        let Some((block, _)) = state.blocks.first_key_value() else { return };
        let first = (block * BLOCK).max(queue.min_offset());
        let kept = i64::from(config.file_reserved_time) * 3_600_000 / ROLL_AFTER.1 * ROLL_AFTER.0;
        let window = kept.min(i64::from(config.timer_roll_window_slot) * SLOT_MS).max(MIN_ROLL_MS);
        let old = self.store.store_timestamp(&queue, first).is_some_and(|stored| stored < now - window);
        if old && state.rolling.is_none() {
            state.rolling = Some((first, now - window));
        }
    }

    /// Puts pending messages of an old block at the queue's end, as far as one go may.
    fn roll(&self, state: &mut State, queue: &Queue, now: i64) -> io::Result<()> {
        let Some((from, before)) = state.rolling else { return Ok(()) };
        let end = (from / BLOCK + 1) * BLOCK;
        let mut batch = Batch::default();
        let mut rolled = Vec::new();
        let mut next = from.max(queue.min_offset());
        while next < end.min(from + BATCH as i64) && batch.bytes() < BATCH_BYTES {
            if let Some(slice) = self.store.message(queue, next)?
                && let Ok(record) = record::decode_checked(slice.bytes())
                && let Some(timer) = Timer::read(record.properties)
                && state.pending.contains_key(&(timer.due, next))
                && record.store_timestamp < before
                && push_rolled(&self.store, &record, next, &mut batch)?
            {
                rolled.push((timer.due, next));
            }
            next += 1;
        }
        if !batch.is_empty() {
            self.append(&mut batch, now).map_err(io::Error::other)?;
        }
        rolled.into_iter().for_each(|key| state.remove(key));
        state.changed = true;
        state.rolling = (next < end).then_some((next, before));
        Ok(())
    }

    /// Cancels a pending timer message. Gives the end of the log that must be on disk for it to last.
    pub(crate) fn recall(&self, config: &BrokerConfig, recalled: &Recalled<'_>, now: i64) -> Result<u64, Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!("a timer message of topic {} can't be recalled: {error}", recalled.topic);
            Refusal::new(codes::SYSTEM_ERROR, format!("recall failed, execute error: {error}"))
        };
        if let Some(progress) = self.store.rebuilding() {
            return Err(failed(&progress));
        }
        let mut state = self.wheel.state.lock();
        self.wheel.take_in(&mut state, &self.store, now).map_err(|e| failed(&e))?;
        let queue = self.store.queue(names::WHEEL_TIMER_TOPIC, QUEUE).map_err(|e| failed(&e))?;
        let key = format!("{}+{}", recalled.topic, recalled.unique_key);
        let out = recalled.deliver_at - 1;
        let Some(found) = state.find(&self.store, &queue, out, &key).map_err(|e| failed(&e))? else {
            let remark = format!(
                "recall failed, message {} of topic {} does not wait: it was delivered or recalled already",
                recalled.unique_key, recalled.topic
            );
            return Err(Refusal::new(codes::ILLEGAL_OPERATION, remark));
        };
        let mut batch = Batch::default();
        let key = if config.append_topic_for_timer_delete_key { &key } else { recalled.unique_key };
        self.push_cancel(&mut batch, queue, recalled, key, now);
        let end = self.append(&mut batch, now).map_err(|e| failed(&e))?;
        state.remove(found);
        state.changed = true;
        drop(state);
        self.wheel.count(recalled.topic, -1, now);
        Ok(end)
    }

    fn push_cancel(&self, batch: &mut Batch, queue: std::sync::Arc<Queue>, recalled: &Recalled<'_>, key: &str, now: i64) {
        let mut text = String::new();
        let (out, deliver_at, now_text) = (recalled.deliver_at - 1, recalled.deliver_at.to_string(), now.to_string());
        for (name, value) in [
            (properties::TAGS, "_RECALL_TAG_"),
            (properties::TIMER_DEL_UNIQKEY, key),
            (properties::UNIQUE_KEY, recalled.unique_key),
            (properties::TIMER_DELIVER_MS, &deliver_at),
            ("BORN_TIMESTAMP", &now_text),
            (properties::PRODUCER_GROUP, recalled.producer_group),
            (properties::TIMER_OUT_MS, &out.to_string()),
            (properties::REAL_TOPIC, recalled.topic),
            (properties::REAL_QUEUE_ID, "0"),
        ] {
            properties::push(&mut text, name, value);
        }
        let own = self.own_record(names::WHEEL_TIMER_TOPIC, QUEUE, b"0", &text, now);
        let record = Record { born_host: recalled.born_host, ..own };
        batch.push(queue, &record, timer::code(&text), 1);
    }
}

/// Puts a message that waited on its own topic, and counts it there.
fn push_due(
    store: &Store,
    waiting: &Record<'_>,
    batch: &mut Batch,
    topics: &mut BTreeMap<String, i64>,
    now: i64,
) -> io::Result<()> {
    let (mut topic, mut queue_id) = (None, None);
    let mut text = String::with_capacity(waiting.properties.len() + RESERVE);
    for (name, value) in properties::pairs(waiting.properties) {
        match name {
            properties::REAL_TOPIC => topic = Some(value),
            properties::REAL_QUEUE_ID => queue_id = value.parse().ok(),
            properties::TIMER_ENQUEUE_MS | properties::TIMER_DEQUEUE_MS | properties::TIMER_ROLLED_FROM => {}
            _ => properties::push(&mut text, name, value),
        }
    }
    let Some((topic, queue_id)) = topic.zip(queue_id) else {
        tracing::error!("the timer message {} names no topic and is passed over", waiting.queue_offset);
        return Ok(());
    };
    if text.len() + RESERVE <= properties::MAX_LENGTH {
        properties::push(&mut text, properties::TIMER_ENQUEUE_MS, &waiting.store_timestamp.to_string());
        properties::push(&mut text, properties::TIMER_DEQUEUE_MS, &now.to_string());
    }
    let record = Record { topic, queue_id, properties: &text, ..waiting.clone() };
    batch.push(store.queue(topic, queue_id)?, &record, store::tags_code(&text), 1);
    match topics.get_mut(topic) {
        Some(count) => *count += 1,
        None => drop(topics.insert(topic.to_owned(), 1)),
    }
    Ok(())
}

/// Puts a waiting message at the end of the timer's queue; `false` where it can't be.
fn push_rolled(store: &Store, waiting: &Record<'_>, offset: i64, batch: &mut Batch) -> io::Result<bool> {
    let times = properties::get(waiting.properties, properties::TIMER_ROLL_TIMES).and_then(|n| n.parse::<i32>().ok());
    let mut text = properties::without(waiting.properties, &[properties::TIMER_ROLL_TIMES, properties::TIMER_ROLLED_FROM]);
    properties::push(&mut text, properties::TIMER_ROLLED_FROM, &offset.to_string());
    properties::push(&mut text, properties::TIMER_ROLL_TIMES, &(times.unwrap_or(0).saturating_add(1)).to_string());
    if text.len() > properties::MAX_LENGTH {
        tracing::error!("the properties of timer message {offset} are too long to write it anew: it may be lost with its file");
        return Ok(false);
    }
    let record = Record { properties: &text, ..waiting.clone() };
    batch.push(store.queue(names::WHEEL_TIMER_TOPIC, QUEUE)?, &record, timer::code(&text), 1);
    Ok(true)
}
