//! Opening a store: finding where its log ends, and having the queues follow it exactly.
//!
//! The log is read from the last point at which queues and log were known to be on disk together: the own mark
//! in the checkpoint, or Java's rules where Java wrote the directory. Everything that queues hold of records
//! beyond that point is derived anew, since after a power cut it may have holes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use protocol::{record::Record, sys_flag::message};
use replication::Watermarks;
use stdx::java;

use crate::checkpoint::{self, Checkpoint, Loaded};
use crate::disk::Disk;
use crate::index::{self, Index, Key};
use crate::log::{Found, Log, look};
use crate::queue::{Entry, Queue};
use crate::segment::Segment;
use crate::{OpenError, Options, Policy, Store, Tail};

/// Exists while a broker runs: found at a start, it tells that the last one did not stop in good order.
pub const ABORT_FILE: &str = "abort";
const LOCK_FILE: &str = "lock";
/// Java distrusts the last seconds before the checkpoint's time.
const CHECKPOINT_DOUBT_MS: i64 = 3000;
/// Keys that are gathered before they are given to the index while the log is read.
const KEYS_AT_ONCE: usize = 16 * 1024;

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last broker was killed, or the machine was.
    pub unclean: bool,
    /// From where the log was read, and where it ends.
    pub scanned_from: u64,
    pub end: u64,
    /// Messages read in between.
    pub messages: u64,
    /// Why the log ends where it ends, unless nothing is written there.
    pub cut: Option<String>,
}

/// How far a store has come that is made again from its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = self.done * 100 / self.total.max(1);
        write!(f, "the consume queues are made again from the commit log: {percent} % of {} MiB", self.total >> 20)
    }
}

/// A reading of the log that the queues follow.
#[derive(Debug)]
pub(crate) struct Scan {
    start: u64,
    position: u64,
    messages: u64,
    timestamp: i64,
    /// Where the last message begins that was read.
    last: Option<u64>,
}

pub(crate) fn open(options: Options) -> Result<Store, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |reason| OpenError::Io { path: path.clone(), reason }
    };
    let root = options.root.clone();
    let disk = options.disk.clone();
    disk.make_directories(&root).map_err(at(&root))?;
    let lock = lock(&root)?;
    let abort = root.join(ABORT_FILE);
    let unclean = abort.exists();
    let log = Log::open(disk.clone(), &options.commit_log, options.segment_length).map_err(at(&options.commit_log))?;
    let queue_root = root.join("consumequeue");
    let queues = open_queues(&disk, &queue_root, options.queue_file_length).map_err(at(&queue_root))?;
    let loaded = checkpoint::read(&root).map_err(at(&root.join("checkpoint")))?;
    let mut store = Store {
        visible: AtomicU64::new(0),
        appending: AtomicI64::new(0),
        tail: Mutex::new(Tail {
            marks: Watermarks::new(options.policy, 0),
            pending: VecDeque::new(),
            keys: VecDeque::new(),
            segment: None,
            entries: 0,
            timestamp: 0,
            last: None,
        }),
        options,
        log,
        index: None,
        queues: RwLock::new(queues),
        syncing: Mutex::new(()),
        checkpoints: Mutex::new(true),
        derived_on_disk: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        closed_for: Mutex::default(),
        copies: AtomicBool::new(false),
        scan: Mutex::new(None),
        recovered: Mutex::new(Recovered { unclean, ..Recovered::default() }),
        _lock: lock,
    };
    // From here on the directory is that of a broker that runs: what is mended now may be half done at a crash.
    let made = disk.create(&abort, 0).and_then(|file| {
        file.write(0, std::process::id().to_string().as_bytes())?;
        file.sync()?;
        disk.sync_directory(&root)
    });
    made.map_err(at(&abort))?;
    store.begin_recovery(loaded, unclean).map_err(at(&root))?;
    store.rebuild(store.options.scan_at_open).map_err(at(&root))?;
    Ok(store)
}

/// Java's lock: a POSIX lock on the file `lock`, so that either program keeps the other out.
fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join(LOCK_FILE);
    let open = || -> io::Result<File> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(b"lock")?;
        Ok(file)
    };
    open().map_err(|reason| match reason.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied => OpenError::Locked(root.to_owned()),
        _ => OpenError::Io { path: path.clone(), reason },
    })
}

fn open_queues(disk: &Disk, root: &Path, file_length: u64) -> io::Result<HashMap<String, BTreeMap<i32, Arc<Queue>>>> {
    let mut queues: HashMap<String, BTreeMap<i32, Arc<Queue>>> = HashMap::new();
    for (topic, directory) in directories(root)? {
        for (id, directory) in directories(&directory)? {
            if let Ok(id) = id.parse::<i32>() {
                let queue = Queue::open(disk.clone(), directory, topic.clone(), id, file_length)?;
                queues.entry(topic.clone()).or_default().insert(id, Arc::new(queue));
            }
        }
    }
    Ok(queues)
}

pub(crate) fn directories(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

impl Store {
    /// Finds from where the log has to be read, and cuts what is derived from it back to there.
    fn begin_recovery(&mut self, loaded: Loaded, unclean: bool) -> io::Result<()> {
        let mut start = self.start_of_scan(loaded);
        let own = match loaded {
            Loaded::Own(checkpoint) if start == Some(checkpoint.derived) => Some(checkpoint),
            _ => None,
        };
        if let Some(from) = start.filter(|_| unclean || own.is_none()) {
            self.truncate_queues(from)?;
        }
        if let Some(checkpoint) = own {
            let mut entries = self.count_entries();
            if entries != checkpoint.entries && self.restore_deleted()? {
                let root = self.options.root.join("consumequeue");
                *self.queues.get_mut() = open_queues(&self.options.disk, &root, self.options.queue_file_length)?;
                self.truncate_queues(checkpoint.derived)?;
                entries = self.count_entries();
            }
            if entries != checkpoint.entries {
                tracing::warn!(
                    "consume queues are missing or damaged ({entries} entries instead of {}): they are made again from the commit log",
                    checkpoint.entries
                );
                start = None;
            }
        }
        let start = match start {
            Some(start) => start,
            None => {
                // Should this be broken off, the next start must not take what is there for whole.
                self.options.disk.remove(&self.options.root.join("checkpoint"))?;
                self.options.disk.sync_directory(&self.options.root)?;
                self.truncate_queues(self.log.min_offset())?;
                self.log.min_offset()
            }
        };
        self.derived_on_disk.store(own.map_or(0, |checkpoint| checkpoint.derived.min(start)), Ordering::Release);
        self.remove_deleted()?;
        self.open_index(own, unclean, start)?;
        // Store times never go back, also where nothing is read again.
        let timestamp = match loaded {
            Loaded::Own(Checkpoint { timestamp, .. }) | Loaded::Java { timestamp } => timestamp,
            Loaded::Missing => 0,
        };
        *self.scan.lock() = Some(Scan { start, position: start, messages: 0, timestamp, last: None });
        Ok(())
    }

    fn count_entries(&self) -> u64 {
        self.queues().iter().map(|queue| queue.max_offset() as u64).sum()
    }

    fn truncate_queues(&self, end: u64) -> io::Result<()> {
        let log_min = self.log.min_offset();
        for queue in self.queues() {
            queue.truncate(end, |offset, queue_offset| {
                (offset as u64) < log_min || self.is_message(&queue, offset as u64, queue_offset)
            })?;
        }
        Ok(())
    }

    fn is_message(&self, queue: &Queue, offset: u64, queue_offset: i64) -> bool {
        self.log.segment(offset).is_some_and(|segment| {
            segment.bytes().is_ok_and(|bytes| match look(bytes, segment.base, offset - segment.base) {
                Found::Record { record, .. } => {
                    (record.topic, record.queue_id, record.queue_offset) == (queue.topic.as_str(), queue.id, queue_offset)
                }
                Found::Blank | Found::End(_) => false,
            })
        })
    }

    fn open_index(&mut self, own: Option<Checkpoint>, unclean: bool, start: u64) -> io::Result<()> {
        let Some(shape) = self.options.index else { return Ok(()) };
        let directory = self.options.root.join("index");
        if own.is_none() {
            // Java's may have holes: after a kill it drops the newest files, and derives only the log's end again.
            index::remove_files(&self.options.disk, &directory)?;
        }
        let index = Index::open(self.options.disk.clone(), directory, shape, unclean)?;
        let last = index.last().offset;
        match own.filter(|checkpoint| last >= checkpoint.indexed) {
            Some(checkpoint) if checkpoint.index_from >= start => {}
            Some(checkpoint) => index.read_log_from(checkpoint.index_from),
            None => index.read_log_from(last),
        }
        self.index = Some(index);
        Ok(())
    }

    /// Goes on reading the log, at most `budget` bytes. `true` where the store has all of it, and takes messages.
    pub fn rebuild(&self, budget: u64) -> io::Result<bool> {
        let mut reading = self.scan.lock();
        let Some(scan) = reading.as_mut() else { return Ok(true) };
        let stop = scan.position.saturating_add(budget);
        let Some(end) = self.scan(scan, stop)? else {
            let total = self.log.all().last().map_or(0, |segment| segment.base + segment.length) - scan.start;
            let progress = Progress { done: scan.position - scan.start, total };
            tracing::info!("{progress}");
            self.visible.store(scan.position, Ordering::Release);
            self.close_for(|closed| closed.rebuild = Some(progress));
            return Ok(false);
        };
        self.finish_recovery(scan, end)?;
        *reading = None;
        self.close_for(|closed| closed.rebuild = None);
        Ok(true)
    }

    fn finish_recovery(&self, scan: &Scan, (end, cut): (u64, Option<String>)) -> io::Result<()> {
        cut_log(&self.options.disk, &self.options.root, &self.log, end, "are no whole records in order")?;
        if let Some(index) = &self.index {
            index.forget_from(end)?;
        }
        let log_min = self.log.min_offset();
        let mut entries = 0;
        for queue in self.queues() {
            if log_min > 0 {
                queue.correct_min(log_min)?;
            }
            entries += queue.max_offset() as u64;
            queue.set_next_offset(queue.max_offset());
        }
        // The pages that a killed broker wrote may still be on their way to the disk. With ASYNC_FLUSH nobody waits for
        // them: the next flush takes them along.
        let mut persisted = scan.start;
        if self.options.policy == Policy::Persisted {
            for segment in self.log.all().iter().filter(|s| s.base + s.length > scan.start) {
                segment.sync()?;
            }
            persisted = end;
        }
        let mut recovered = self.recovered.lock();
        (recovered.scanned_from, recovered.end, recovered.messages) = (scan.start, end, scan.messages);
        recovered.cut = cut.map(|why| format!("the commit log ends at {end}: {why}"));
        self.visible.store(end, Ordering::Release);
        let mut tail = self.tail.lock();
        tail.marks = Watermarks::recovered(self.options.policy, end, persisted);
        tail.entries = entries;
        tail.timestamp = scan.timestamp;
        let of_queues = || self.queues().iter().filter_map(|queue| queue.last_offset()).max().map(|offset| offset as u64);
        tail.last = scan.last.or_else(of_queues).filter(|last| (log_min..end).contains(last));
        Ok(())
    }

    /// From where the log has to be read; `None` where nothing is known of what was derived.
    fn start_of_scan(&self, loaded: Loaded) -> Option<u64> {
        let unclean = self.recovered.lock().unclean;
        match loaded {
            Loaded::Own(checkpoint) if checkpoint.derived >= self.log.min_offset() && self.within(checkpoint.derived) => {
                Some(checkpoint.derived)
            }
            Loaded::Own(_) | Loaded::Missing => None,
            Loaded::Java { timestamp } if unclean => {
                Some(self.segment_before(|r| r.store_timestamp <= timestamp - CHECKPOINT_DOUBT_MS))
            }
            Loaded::Java { .. } => {
                let derived = self.queues().iter().filter_map(|q| q.last_offset()).max()?;
                Some(self.segment_before(|r| r.physical_offset <= derived))
            }
        }
    }

    /// The offset lies in a segment or right behind the last one.
    fn within(&self, offset: u64) -> bool {
        let behind = self.log.all().last().map_or(0, |s| s.base + s.length);
        offset == behind || self.log.segment(offset).is_some()
    }

    /// The base of the last segment whose first record is `early` enough; the first segment where none is.
    fn segment_before(&self, early: impl Fn(&Record<'_>) -> bool) -> u64 {
        let segments = self.log.all();
        let found = segments.iter().rev().find(|segment| {
            segment
                .bytes()
                .is_ok_and(|bytes| matches!(look(bytes, segment.base, 0), Found::Record { record, .. } if early(&record)))
        });
        found.map_or(self.log.min_offset(), |segment| segment.base)
    }

    /// Reads the log up to `stop`; the queues follow, and the key index where it is up to date so far. Gives the end
    /// of the log where it came to it, with the reason unless nothing is written there.
    #[allow(clippy::type_complexity, reason = "an end and why it is there")]
    fn scan(&self, scan: &mut Scan, stop: u64) -> io::Result<Option<(u64, Option<String>)>> {
        let mut keys = Vec::new();
        let end = loop {
            let Some(segment) = self.log.segment(scan.position) else {
                break Some((scan.position, None));
            };
            if scan.position >= stop {
                break None;
            }
            let at = scan.position - segment.base;
            match look(segment.bytes()?, segment.base, at) {
                Found::Record { record, length } => {
                    self.follow(&record, scan.position, length, &mut keys)?;
                    scan.messages += 1;
                    scan.last = Some(scan.position);
                    scan.timestamp = scan.timestamp.max(record.store_timestamp);
                    scan.position += length;
                }
                Found::Blank => scan.position = segment.base + segment.length,
                Found::End(why) => break Some((scan.position, segment.last_written(at)?.map(|_| why))),
            }
            if keys.len() >= KEYS_AT_ONCE {
                self.push_keys(&mut keys)?;
            }
        };
        self.push_keys(&mut keys)?;
        Ok(end)
    }

    fn push_keys(&self, keys: &mut Vec<Key>) -> io::Result<()> {
        if let Some(index) = &self.index {
            index.push(keys.drain(..));
            index.drain()?;
        }
        keys.clear();
        Ok(())
    }

    fn follow(&self, record: &Record<'_>, position: u64, length: u64, keys: &mut Vec<Key>) -> io::Result<()> {
        index::hashes(record, |hash| keys.push(Key::new(hash, position, record.store_timestamp)));
        match self.entry(record, position, length)? {
            Some((queue, entry)) => queue.follow(record.queue_offset, entry),
            None => Ok(()),
        }
    }

    /// The queue in which a record's message stands, and its entry there; `None` where it is in the log alone.
    pub(crate) fn entry(&self, record: &Record<'_>, position: u64, length: u64) -> io::Result<Option<(Arc<Queue>, Entry)>> {
        let transaction = record.sys_flag & message::TRANSACTION_MASK;
        if transaction == message::TRANSACTION_PREPARED || transaction == message::TRANSACTION_ROLLBACK {
            return Ok(None);
        }
        let queue = self.queue(record.topic, record.queue_id)?;
        Ok(Some((queue, Entry { offset: position as i64, size: length as i32, tags_code: self.tags_code(record) })))
    }

    /// What a consume queue entry holds of a message: Java's hash of its tags, 0 without; for a delayed message, when
    /// it is due, and for a timer [`protocol::timer::code`].
    fn tags_code(&self, record: &Record<'_>) -> i64 {
        let property = |name| protocol::properties::get(record.properties, name);
        if record.topic == protocol::names::SCHEDULE_TOPIC
            && let Some(level) = property(protocol::properties::DELAY).and_then(|level| level.parse::<usize>().ok())
            && let Some(delay) = self.options.delays.get(level.clamp(1, self.options.delays.len().max(1)) - 1)
        {
            return record.store_timestamp + delay;
        }
        if record.topic == protocol::names::WHEEL_TIMER_TOPIC {
            return protocol::timer::code(record.properties);
        }
        tags_code(record.properties)
    }
}

/// Makes everything behind the log's end read as zeros, so that no old bytes come back to life behind new ones. What is
/// cut off is put aside, not removed: it may hold messages. Returns how many bytes that were, of all files.
fn cut_log(disk: &Disk, root: &Path, log: &Log, end: u64, why: &str) -> io::Result<u64> {
    let aside = root.join("cut");
    let mut cut = 0;
    // The last first: whatever breaks this off, there is no hole between two files.
    for segment in log.all().into_iter().rev().filter(|segment| segment.base + segment.length > end) {
        let from = end.saturating_sub(segment.base);
        let Some(last) = segment.last_written(from)? else {
            // A file that was made ahead.
            if segment.base > end {
                log.remove_empty(segment.base)?;
            }
            continue;
        };
        disk.make_directories(&aside)?;
        if segment.base >= end && segment.base > 0 {
            log.put_aside(segment.base, &aside)?;
        } else {
            let copy = disk.create(&aside.join(format!("{:020}-{end}", segment.base)), last - from)?;
            copy.write(0, &segment.bytes()?[from as usize..last as usize])?;
            copy.sync()?;
            segment.zero(from, last)?;
        }
        disk.sync_directory(&aside)?;
        tracing::error!("{} bytes of the commit log from {end} on {why}: put aside in {}", last - from, aside.display());
        cut += last - from;
    }
    Ok(cut)
}

/// Cuts the log of a store that is not open at `at`, where a record ends: what follows is another log's. The next opening
/// derives everything from what is left; what does not follow from the log is to be changed by `before`, which is called with
/// the log where there is something to cut. Returns how many bytes were put aside in `cut/`.
pub fn cut(options: &Options, at: u64, before: impl FnOnce(&Log) -> io::Result<()>) -> Result<u64, OpenError> {
    let failed = |reason| OpenError::Io { path: options.commit_log.clone(), reason };
    let (disk, root) = (&options.disk, &options.root);
    disk.make_directories(root).map_err(failed)?;
    let _lock = lock(root)?;
    let log = Log::open(disk.clone(), &options.commit_log, options.segment_length).map_err(failed)?;
    let beyond = |segment: &Arc<Segment>| segment.base + segment.length > at;
    let written = |segment: &Arc<Segment>| segment.last_written(at.saturating_sub(segment.base)).map(|last| last.is_some());
    let mut any = false;
    for segment in log.all().iter().filter(|segment| beyond(segment)) {
        any |= written(segment).map_err(failed)?;
    }
    if !any {
        return Ok(0);
    }
    before(&log).map_err(failed)?;
    // What was derived from the cut part must not be taken for whole, also where this is broken off.
    let removed = disk.remove(&root.join("checkpoint")).and_then(|()| disk.sync_directory(root));
    removed.and_then(|()| cut_log(disk, root, &log, at, "are not the new master's")).map_err(failed)
}

/// What a consume queue entry holds of a message's tags: Java's hash of them, 0 without.
pub fn tags_code(properties: &str) -> i64 {
    let tags = protocol::properties::get(properties, protocol::properties::TAGS);
    tags.map_or(0, |tags| i64::from(java::hash_code(tags)))
}
