//! The store: one commit log, one set of watermarks, one place that derives.
//!
//! Messages of all topics are appended to the commit log in Java's record format. When the visible mark moves
//! ([`replication::Watermarks`]), the consume queues follow in the same pass, and who watches a queue is told.
//! A handler appends a [`Batch`] with one lock and one write for all the messages of a read.
//!
//! It reads no clock and starts no thread: the shell calls [`Store::sync`], [`Store::prepare`], [`Store::index`] and
//! [`Store::checkpoint`], and gives the time. An I/O error on the log fences it: nothing is acknowledged any more, and a
//! failed fsync is never retried.

mod check;
mod checkpoint;
mod clean;
mod copy;
mod deletion;
pub mod disk;
pub mod index;
pub mod log;
pub mod queue;
pub mod queue_ext;
mod read;
mod recovery;
mod segment;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use protocol::record::{self, BLANK_LENGTH, Record};
pub use replication::Policy;
use replication::Watermarks;

pub use crate::check::{CheckReport, Damage, check};
use crate::checkpoint::Checkpoint;
pub use crate::clean::Retention;
pub use crate::copy::CopyError;
use crate::disk::Disk;
use crate::index::{Index, Key};
use crate::log::{Log, Slice, blank};
use crate::queue::{Entry, Queue};
pub use crate::read::{ANY, Boundary, GetLimits, GetResult, GetStatus};
pub use crate::recovery::{Progress, Recovered, cut, tags_code};
use crate::segment::Segment;

/// How far ahead of its end the log's blocks are reserved by [`Store::prepare`]; a quarter of a segment where that is
/// less.
const PREPARE_AHEAD: u64 = 32 * 1024 * 1024;

/// Bytes of log that a query may have the key index read, where that has not caught up.
const CATCH_UP: u64 = 16 * 1024 * 1024;

/// What the log says of an error at making its next file.
const MAKING_A_FILE: &str = "making a commit log file";

/// Queue files with unconfirmed writes up to which each is confirmed by itself at a checkpoint; where there are more,
/// the whole file system is, in one call.
const SYNC_EACH: usize = 64;

/// Where a store is and how its files are cut.
#[derive(Clone, Debug)]
pub struct Options {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// `storePathCommitLog`.
    pub commit_log: PathBuf,
    /// `mappedFileSizeCommitLog`, in bytes.
    pub segment_length: u64,
    /// `mappedFileSizeConsumeQueue`, in bytes: a multiple of 20.
    pub queue_file_length: u64,
    /// `maxHashSlotNum` and `maxIndexNum`; `None` where `messageIndexEnable` is false.
    pub index: Option<index::Shape>,
    pub policy: Policy,
    /// The delays of the levels of `messageDelayLevel`, in ms: queue entries of delayed messages hold when they are due.
    pub delays: Vec<i64>,
    /// How many bytes of log may be read before the store is open. Where there are more to read, it opens at once
    /// and takes no messages until [`Store::rebuild`] is done.
    pub scan_at_open: u64,
    pub disk: Disk,
}

/// Why messages were not appended. Nothing of the batch was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the disk is full: {0}")]
    DiskFull(io::Error),
    /// The log takes no more messages until the broker is restarted.
    #[error("{0}")]
    Fenced(String),
    /// The disk is fuller than `diskSpaceWarningLevelRatio`, or another broker may be the master.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Rebuilding(Progress),
    /// Another append takes long: the log was not free in time.
    #[error("another write to the commit log takes long")]
    Busy,
    /// The log is a copy of a master's, and grows by what that one sends alone.
    #[error("this broker is a slave: its commit log takes what its master sends alone")]
    Copy,
    #[error("a message of {length} bytes does not fit a commit log file of {segment}")]
    TooLarge { length: u64, segment: u64 },
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {reason}")]
    Io { path: PathBuf, reason: io::Error },
    #[error("{0} is in use by another broker")]
    Locked(PathBuf),
}

/// Queues whose watcher is to be told of a visible message.
pub type Woken = Vec<Arc<Queue>>;

/// Encoded messages on their way to the log.
#[derive(Default)]
pub struct Batch {
    data: Vec<u8>,
    messages: Vec<Message>,
    /// The hashes of the messages' keys, with the message's number.
    keys: Vec<(usize, i32)>,
}

/// One message of a batch.
struct Message {
    queue: Arc<Queue>,
    at: usize,
    length: u64,
    tags_code: i64,
    /// How many messages from here on are kept together in one segment: those of one send.
    unit: usize,
    place: Place,
}

/// Where a message was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub physical_offset: u64,
    pub queue_offset: i64,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Adds a message for a queue; its offsets and store time are filled in when the batch is appended.
    /// The next `unit - 1` messages belong to the same send.
    pub fn push(&mut self, queue: Arc<Queue>, record: &Record<'_>, tags_code: i64, unit: usize) {
        let at = self.data.len();
        record.encode(&mut self.data);
        let length = (self.data.len() - at) as u64;
        let nth = self.messages.len();
        index::hashes(record, |hash| self.keys.push((nth, hash)));
        self.messages.push(Message { queue, at, length, tags_code, unit, place: Place::default() });
    }

    /// Where the `index`th message is, once the batch was appended.
    pub fn place(&self, index: usize) -> Place {
        self.messages[index].place
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the records of some messages.
    pub fn bytes_of(&self, messages: std::ops::Range<usize>) -> u64 {
        self.messages[messages].iter().map(|message| message.length).sum()
    }

    /// Takes back the messages behind the first `count`.
    pub fn truncate(&mut self, count: usize) {
        if let Some(first) = self.messages.get(count) {
            self.data.truncate(first.at);
            self.messages.truncate(count);
            self.keys.truncate(self.keys.partition_point(|(nth, _)| *nth < count));
        }
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.messages.clear();
        self.keys.clear();
    }
}

/// A message that is written and not yet visible.
struct Pending {
    end: u64,
    queue: Arc<Queue>,
    offset: i64,
    entry: Entry,
}

struct Tail {
    marks: Watermarks,
    pending: VecDeque<Pending>,
    /// Keys of messages that are not yet visible.
    keys: VecDeque<Key>,
    segment: Option<Arc<Segment>>,
    /// The sum of the queues' visible ends.
    entries: u64,
    /// Store timestamps never go back, since queues are searched by them.
    timestamp: i64,
    /// Where the last message began that was copied or found at the start.
    last: Option<u64>,
}

/// The store of one broker.
pub struct Store {
    options: Options,
    log: Log,
    queues: RwLock<HashMap<String, BTreeMap<i32, Arc<Queue>>>>,
    index: Option<Index>,
    tail: Mutex<Tail>,
    visible: AtomicU64,
    /// When the append under way began, in ms; 0 where there is none.
    appending: AtomicI64,
    /// One sync at a time; the marks move in its order.
    syncing: Mutex<()>,
    /// One checkpoint at a time. `false` after an error: what the disk has of the queues is not known any more, and
    /// the next start derives them again from the last checkpoint.
    checkpoints: Mutex<bool>,
    /// The queues on disk hold every message below this offset.
    derived_on_disk: AtomicU64,
    /// Something keeps messages out: a fence, a disk that is too full, a rebuild.
    closed: AtomicBool,
    closed_for: Mutex<ClosedFor>,
    /// The log is a copy: [`Store::append`] is refused, and [`Store::append_copied`] is not.
    copies: AtomicBool,
    scan: Mutex<Option<recovery::Scan>>,
    recovered: Mutex<Recovered>,
    _lock: fs::File,
}

/// Why no messages are taken.
#[derive(Debug, Default)]
struct ClosedFor {
    fence: Option<String>,
    full_disk: Option<String>,
    /// It is not known who is to take messages.
    held: Option<String>,
    rebuild: Option<Progress>,
}

impl Store {
    /// Opens or makes the store below `options.root`, and brings it to the state of the last acknowledged message.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        recovery::open(options)
    }

    /// What was found when the store was opened.
    pub fn recovered(&self) -> Recovered {
        self.recovered.lock().clone()
    }

    pub fn root(&self) -> &Path {
        &self.options.root
    }

    /// The directory of the commit log.
    pub fn commit_log(&self) -> &Path {
        &self.options.commit_log
    }

    /// The offset behind the last byte that readers may see.
    pub fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// The offset of the first byte that is kept.
    pub fn min_offset(&self) -> u64 {
        self.log.min_offset()
    }

    /// The offset behind the last byte that was written, and that the disk has confirmed.
    pub fn written_and_persisted(&self) -> (u64, u64) {
        let tail = self.tail.lock();
        (tail.marks.written(), tail.marks.persisted())
    }

    /// How many messages the queues had in all, and when the newest was stored, in ms; 0 without one.
    pub fn messages_and_newest(&self) -> (u64, i64) {
        let tail = self.tail.lock();
        (tail.entries, tail.timestamp)
    }

    /// Why nothing can be appended until the broker is restarted, where that is so.
    pub fn fence(&self) -> Option<String> {
        self.closed_for.lock().fence.clone()
    }

    /// How far the queues have been made again from the log, while they are.
    pub fn rebuilding(&self) -> Option<Progress> {
        self.closed_for.lock().rebuild
    }

    /// Refuses messages with a reason until it is taken back with `None`: the disk is too full.
    pub fn refuse(&self, reason: Option<String>) {
        self.close_for(|closed| closed.full_disk = reason);
    }

    /// Refuses messages with a reason until it is taken back with `None`: another broker may be the master.
    pub fn hold(&self, reason: Option<String>) {
        self.close_for(|closed| closed.held = reason);
    }

    fn close_for(&self, change: impl FnOnce(&mut ClosedFor)) {
        let mut closed = self.closed_for.lock();
        change(&mut closed);
        let any = closed.fence.is_some() || closed.full_disk.is_some() || closed.held.is_some() || closed.rebuild.is_some();
        self.closed.store(any, Ordering::Release);
    }

    fn check_open(&self) -> Result<(), AppendError> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let closed = self.closed_for.lock();
        match (&closed.fence, closed.rebuild, closed.full_disk.as_ref().or(closed.held.as_ref())) {
            (Some(reason), ..) => Err(AppendError::Fenced(reason.clone())),
            (None, Some(progress), _) => Err(AppendError::Rebuilding(progress)),
            (None, None, Some(reason)) => Err(AppendError::Refused(reason.clone())),
            (None, None, None) => Ok(()),
        }
    }

    fn set_fence(&self, what: &str, error: &io::Error) -> AppendError {
        let reason = format!(
            "the commit log is fenced: {what}: {error}. Nothing is acknowledged until the disk is mended and the broker restarted"
        );
        tracing::error!("{reason}");
        self.close_for(|closed| closed.fence = Some(reason.clone()));
        AppendError::Fenced(reason)
    }

    /// The queue `id` of `topic`, made where it is missing (on disk only when it gets a message).
    pub fn queue(&self, topic: &str, id: i32) -> io::Result<Arc<Queue>> {
        if let Some(queue) = self.find_queue(topic, id) {
            return Ok(queue);
        }
        let mut queues = self.queues.write();
        if let Some(queue) = queues.get(topic).and_then(|ids| ids.get(&id)) {
            return Ok(queue.clone());
        }
        let directory = queue::directory(&self.options.root.join("consumequeue"), topic, id);
        let queue =
            Arc::new(Queue::open(self.options.disk.clone(), directory, topic.to_owned(), id, self.options.queue_file_length)?);
        queues.entry(topic.to_owned()).or_default().insert(id, queue.clone());
        Ok(queue)
    }

    /// The queue, where a message was ever appended to it or somebody asked for it.
    pub fn find_queue(&self, topic: &str, id: i32) -> Option<Arc<Queue>> {
        self.queues.read().get(topic)?.get(&id).cloned()
    }

    /// All queues, by topic and id.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<_> = self.queues.read().values().flat_map(|ids| ids.values().cloned()).collect();
        all.sort_by(|a, b| (&a.topic, a.id).cmp(&(&b.topic, b.id)));
        all
    }

    /// Appends all messages of the batch, or none. Returns the end of the last record, which is acknowledged once
    /// [`Store::visible`] has reached it, and the queues whose watchers are to be told.
    pub fn append(&self, batch: &mut Batch, now: i64) -> Result<(u64, Woken), AppendError> {
        self.append_in_turn(&mut self.tail.lock(), batch, now)
    }

    /// [`Store::append`], unless other appends take longer than `patience`: then it is [`AppendError::Busy`].
    pub fn append_within(&self, batch: &mut Batch, now: i64, patience: Duration) -> Result<(u64, Woken), AppendError> {
        let mut tail = self.tail.try_lock_for(patience).ok_or(AppendError::Busy)?;
        self.append_in_turn(&mut tail, batch, now)
    }

    /// The `now` of the append under way, where there is one.
    pub fn appending_since(&self) -> Option<i64> {
        Some(self.appending.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    fn append_in_turn(&self, tail: &mut Tail, batch: &mut Batch, now: i64) -> Result<(u64, Woken), AppendError> {
        self.appending.store(now, Ordering::Relaxed);
        let appended = self.append_locked(tail, batch, now);
        self.appending.store(0, Ordering::Relaxed);
        appended
    }

    fn append_locked(&self, tail: &mut Tail, batch: &mut Batch, now: i64) -> Result<(u64, Woken), AppendError> {
        if self.copies.load(Ordering::Relaxed) {
            return Err(AppendError::Copy);
        }
        self.check_open()?;
        tail.timestamp = tail.timestamp.max(now);
        let timestamp = tail.timestamp;
        let start = tail.marks.written();
        let end = self.place(batch, start, timestamp)?;
        if let Err(error) = self.write(tail, batch, start) {
            for message in batch.messages.iter().rev() {
                message.queue.set_next_offset(message.place.queue_offset);
            }
            return Err(error);
        }
        tail.marks.advance_written(end);
        for message in &batch.messages {
            let Place { physical_offset, queue_offset } = message.place;
            tail.pending.push_back(Pending {
                end: physical_offset + message.length,
                queue: message.queue.clone(),
                offset: queue_offset,
                entry: Entry { offset: physical_offset as i64, size: message.length as i32, tags_code: message.tags_code },
            });
        }
        if self.index.is_some() {
            let key = |(nth, hash): &(usize, i32)| Key::new(*hash, batch.messages[*nth].place.physical_offset, timestamp);
            tail.keys.extend(batch.keys.iter().map(key));
        }
        Ok((end, self.derive(tail)))
    }

    /// Gives every message its offsets. Returns the end of the last.
    fn place(&self, batch: &mut Batch, start: u64, timestamp: i64) -> Result<u64, AppendError> {
        let segment_length = self.log.segment_length();
        let units = batch.messages.iter().enumerate().filter(|(_, m)| m.unit > 0);
        for (first, message) in units {
            let length: u64 = batch.messages[first..first + message.unit].iter().map(|m| m.length).sum();
            if length + BLANK_LENGTH as u64 > segment_length {
                return Err(AppendError::TooLarge { length, segment: segment_length });
            }
        }
        let mut position = start;
        for index in 0..batch.messages.len() {
            let unit = batch.messages[index].unit;
            let unit_length: u64 = batch.messages[index..index + unit].iter().map(|m| m.length).sum();
            let left = segment_length - position % segment_length;
            if unit > 0 && unit_length + BLANK_LENGTH as u64 > left {
                position += left;
            }
            let message = &mut batch.messages[index];
            let queue_offset = message.queue.next_offset();
            message.queue.set_next_offset(queue_offset + 1);
            message.place = Place { physical_offset: position, queue_offset };
            record::place(&mut batch.data[message.at..], queue_offset, position as i64, timestamp);
            position += message.length;
        }
        Ok(position)
    }

    /// Writes the batch in runs that lie in one segment each, with a blank where a segment ends. All room is reserved
    /// first: of a batch that is refused, nothing may be in the log, where recovery would find it.
    fn write(&self, tail: &mut Tail, batch: &Batch, start: u64) -> Result<(), AppendError> {
        let length = self.log.segment_length();
        let mut runs = Vec::new();
        let mut first = 0;
        while first < batch.messages.len() {
            let at = batch.messages[first].place.physical_offset;
            let base = at - at % length;
            let count = batch.messages[first..].iter().take_while(|m| m.place.physical_offset < base + length).count();
            let last = &batch.messages[first + count - 1];
            let bytes = &batch.data[batch.messages[first].at..last.at + last.length as usize];
            let segment = self.segment_for(tail, base)?;
            self.reserve(&segment, at - base + bytes.len() as u64 + BLANK_LENGTH as u64)?;
            runs.push((segment, at, bytes));
            first += count;
        }
        let mut position = start;
        for (segment, at, bytes) in runs {
            if at != position {
                self.finish_segment(position)?;
            }
            segment
                .write(at - segment.base, bytes)
                .map_err(|e| self.set_fence(&format!("writing {}", segment.path().display()), &e))?;
            position = at + bytes.len() as u64;
        }
        Ok(())
    }

    fn segment_for(&self, tail: &mut Tail, base: u64) -> Result<Arc<Segment>, AppendError> {
        if let Some(segment) = tail.segment.as_ref().filter(|s| s.base == base) {
            return Ok(segment.clone());
        }
        let segment = self.log.segment_at(base).map_err(|error| self.no_room(MAKING_A_FILE, error))?;
        tail.segment = Some(segment.clone());
        Ok(segment)
    }

    fn finish_segment(&self, position: u64) -> Result<(), AppendError> {
        let length = self.log.segment_length();
        let left = length - position % length;
        let segment = self.log.segment_at(position - position % length).map_err(|error| self.no_room(MAKING_A_FILE, error))?;
        segment
            .write(position % length, &blank(left))
            .map_err(|e| self.set_fence(&format!("writing {}", segment.path().display()), &e))
    }

    /// A full disk shows when a file is made or blocks are reserved, before anything is written: it passes when space is
    /// freed.
    fn no_room(&self, what: &str, error: io::Error) -> AppendError {
        if disk::is_full(&error) { AppendError::DiskFull(error) } else { self.set_fence(what, &error) }
    }

    /// Brings everything that is derived from the log up to the visible mark.
    fn derive(&self, tail: &mut Tail) -> Woken {
        let visible = tail.marks.visible();
        self.visible.store(visible, Ordering::Release);
        let mut woken = Woken::new();
        while tail.pending.front().is_some_and(|p| p.end <= visible) {
            let Some(Pending { queue, offset, entry, .. }) = tail.pending.pop_front() else { break };
            // A message that was sent while its topic was deleted is in the log alone.
            if queue.is_deleted() {
                continue;
            }
            let (watched, grown) = queue.push(offset, entry);
            tail.entries += grown;
            if watched {
                woken.push(queue);
            }
        }
        if let Some(index) = self.index.as_ref().filter(|_| !tail.keys.is_empty()) {
            let count = tail.keys.partition_point(|key| key.offset() < visible);
            index.push(tail.keys.drain(..count));
        }
        woken
    }

    /// Has the disk confirm what is written. With [`Policy::Persisted`] this is what makes messages visible.
    /// An error fences the log, as what the disk has is not known any more.
    pub fn sync(&self) -> Result<Woken, AppendError> {
        let _one = self.syncing.lock();
        let to = self.persist_log()?;
        let mut tail = self.tail.lock();
        tail.marks.advance_persisted(to);
        Ok(self.derive(&mut tail))
    }

    /// Has the disk confirm what is written; the marks stay, as nobody is there to wake who waits for them.
    fn persist(&self) -> io::Result<()> {
        let _one = self.syncing.lock();
        self.persist_log().map(|_| ()).map_err(io::Error::other)
    }

    fn persist_log(&self) -> Result<u64, AppendError> {
        let (to, from) = self.written_and_persisted();
        if from == to {
            return Ok(to);
        }
        if let Some(reason) = self.fence() {
            return Err(AppendError::Fenced(reason));
        }
        let mut base = from - from % self.log.segment_length();
        while base < to {
            if let Some(segment) = self.log.segment(base) {
                segment.sync().map_err(|e| self.set_fence(&format!("fsync of {}", segment.path().display()), &e))?;
            }
            base += self.log.segment_length();
        }
        Ok(to)
    }

    /// Reserves the log's next blocks and makes its next file ahead of the sends that will need them.
    pub fn prepare(&self) -> Result<(), AppendError> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let (written, _) = self.written_and_persisted();
        let length = self.log.segment_length();
        let base = written - written % length;
        // The first file is made by the first send: a broker without messages has none.
        let Some(segment) = self.log.segment(written) else { return Ok(()) };
        let ahead = written - base + PREPARE_AHEAD.min(length / 4);
        let reserved = self.reserve(&segment, ahead.min(length)).and_then(|()| match ahead.checked_sub(length) {
            Some(rest) if rest > 0 => {
                let next = self.log.segment_at(base + length).map_err(|error| self.no_room(MAKING_A_FILE, error))?;
                self.reserve(&next, rest)
            }
            _ => Ok(()),
        });
        match reserved {
            // Sends will be told of it; this was only for their convenience.
            Err(AppendError::DiskFull(_)) => Ok(()),
            other => other,
        }
    }

    fn reserve(&self, segment: &Segment, end: u64) -> Result<(), AppendError> {
        segment.reserve(end).map_err(|error| self.no_room(&format!("reserving space in {}", segment.path().display()), error))
    }

    /// Has the key index follow the log, reading at most `budget` bytes of it. `true` where it has caught up.
    pub fn index(&self, budget: u64) -> io::Result<bool> {
        let Some(index) = &self.index else { return Ok(true) };
        index.drain()?;
        let Some(mut position) = index.reads_log_from() else { return Ok(true) };
        position = position.max(self.log.min_offset());
        let stop = self.visible().min(position + budget);
        let mut keys = Vec::new();
        let position = self.each_record(position, stop, |record, offset| {
            index::hashes(record, |hash| keys.push(Key::new(hash, offset, record.store_timestamp)));
        })?;
        index.add(&keys)?;
        Ok(index.has_read_log(position, || self.visible()))
    }

    /// [`Log::each_record`] that goes on behind damage. Returns where it stopped.
    fn each_record(&self, mut position: u64, stop: u64, mut each: impl FnMut(&Record<'_>, u64)) -> io::Result<u64> {
        loop {
            let (end, damage) = self.log.each_record(position, stop, &mut each)?;
            let Some((why, segment)) = damage.zip(self.log.segment(end)) else { return Ok(end) };
            tracing::error!("{} is damaged at {end}: {why}", segment.path().display());
            position = log::next_record(segment.bytes()?, segment.base, end).unwrap_or(segment.base + segment.length);
        }
    }

    /// Messages of a topic with a key, stored from `begin` to `end`: the newest `most`, oldest first. A key that only
    /// has the same hash is not given, and neither is a damaged message.
    pub fn query(&self, topic: &str, key: &str, most: usize, begin: i64, end: i64) -> io::Result<Vec<Slice>> {
        let mut found: Vec<Slice> = Vec::new();
        let Some(index) = &self.index else { return Ok(found) };
        // An index that is still catching up has what a short reading of the log can give it.
        self.index(CATCH_UP)?;
        index.query(topic, key, begin, end, |offset| {
            if let Some(slice) = self.record(offset)
                && record::decode_checked(slice.bytes())
                    .is_ok_and(|r| r.topic == topic && index::keys(r.properties).any(|own| own == key))
            {
                found.push(slice);
            }
            found.len() < most
        })?;
        found.reverse();
        Ok(found)
    }

    /// The newest message that the key index knows.
    pub fn last_indexed(&self) -> index::Last {
        self.index.as_ref().map_or_else(index::Last::default, Index::last)
    }

    /// Writes what queues hold in memory, has the disk confirm it, and notes how far that goes, so that the next
    /// start reads the log from there.
    pub fn checkpoint(&self) -> io::Result<()> {
        let mut possible = self.checkpoints.lock();
        if !*possible || self.rebuilding().is_some() {
            return Ok(());
        }
        let result = self.write_checkpoint();
        *possible = result.is_ok();
        result
    }

    fn write_checkpoint(&self) -> io::Result<()> {
        let (derived, timestamp, entries) = {
            let tail = self.tail.lock();
            (tail.marks.visible(), tail.timestamp, tail.entries)
        };
        self.persist_queues()?;
        let (indexed, index_from) = match &self.index {
            // The index on disk must not know more than the log on disk.
            Some(index) => index
                .flush(|| self.persist())
                .map(|(last, from)| (last.offset, from.map_or(derived, |from| from.min(derived))))?,
            None => self.persist().map(|()| (0, 0))?,
        };
        let checkpoint = Checkpoint { timestamp, derived, entries, indexed, index_from };
        checkpoint::write(&self.options.disk, &self.options.root, &checkpoint)?;
        self.derived_on_disk.store(derived, Ordering::Release);
        Ok(())
    }

    fn persist_queues(&self) -> io::Result<()> {
        let queues = self.queues();
        for queue in &queues {
            queue.flush()?;
        }
        let dirty: Vec<_> = queues.into_iter().filter(|queue| queue.dirty()).collect();
        if dirty.len() <= SYNC_EACH {
            return dirty.iter().try_for_each(|queue| queue.sync());
        }
        dirty.iter().for_each(|queue| queue.synced());
        self.options.disk.sync_all(&self.options.root)
    }

    /// Stops in good order: everything is on disk and the next start has nothing to mend.
    pub fn close(&self) -> io::Result<()> {
        if self.rebuilding().is_some() {
            return Ok(());
        }
        self.sync().map_err(io::Error::other)?;
        self.checkpoint()?;
        if !*self.checkpoints.lock() {
            return Err(io::Error::other("consume queues could not be written, and are derived again by the next start"));
        }
        self.options.disk.remove(&self.options.root.join(recovery::ABORT_FILE))
    }

    /// The record at a commit log offset, where one begins there that readers may see.
    pub fn record(&self, offset: u64) -> Option<Slice> {
        self.log.record(offset, self.visible())
    }
}

#[cfg(test)]
mod tests;
