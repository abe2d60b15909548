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
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};
use protocol::{record::Record, sys_flag::message};
use replication::Watermarks;
use stdx::java;

use crate::checkpoint::{self, Loaded};
use crate::log::{Found, Log, look};
use crate::queue::{Entry, Queue};
use crate::{OpenError, Options, Store, Tail};

/// Exists while a broker runs: found at a start, it tells that the last one did not stop in good order.
pub const ABORT_FILE: &str = "abort";
const LOCK_FILE: &str = "lock";
/// Java distrusts the last seconds before the checkpoint's time.
const CHECKPOINT_DOUBT_MS: i64 = 3000;

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

pub(crate) fn open(options: Options) -> Result<Store, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |reason| OpenError::Io { path: path.clone(), reason }
    };
    let root = options.root.clone();
    fs::create_dir_all(&root).map_err(at(&root))?;
    let lock = lock(&root)?;
    let abort = root.join(ABORT_FILE);
    let unclean = abort.exists();
    let log = Log::open(&options.commit_log, options.segment_length).map_err(at(&options.commit_log))?;
    let queue_root = root.join("consumequeue");
    let queues = open_queues(&queue_root, options.queue_file_length).map_err(at(&queue_root))?;
    let loaded = checkpoint::read(&root).map_err(at(&root.join("checkpoint")))?;
    let mut store = Store {
        visible: AtomicU64::new(0),
        tail: Mutex::new(Tail {
            marks: Watermarks::new(options.policy, 0),
            pending: VecDeque::new(),
            segment: None,
            timestamp: 0,
        }),
        options,
        log,
        queues: RwLock::new(queues),
        syncing: Mutex::new(()),
        fenced: AtomicBool::new(false),
        fence_reason: Mutex::default(),
        recovered: Recovered { unclean, ..Recovered::default() },
        _lock: lock,
    };
    store.recover(loaded).map_err(at(&root))?;
    let mut file = File::create(&abort).map_err(at(&abort))?;
    write!(file, "{}", std::process::id()).map_err(at(&abort))?;
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

fn open_queues(root: &Path, file_length: u64) -> io::Result<HashMap<String, BTreeMap<i32, Arc<Queue>>>> {
    let mut queues: HashMap<String, BTreeMap<i32, Arc<Queue>>> = HashMap::new();
    for (topic, directory) in directories(root)? {
        for (id, directory) in directories(&directory)? {
            if let Ok(id) = id.parse::<i32>() {
                let queue = Queue::open(directory, topic.clone(), id, file_length)?;
                queues.entry(topic.clone()).or_default().insert(id, Arc::new(queue));
            }
        }
    }
    Ok(queues)
}

fn directories(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
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
    fn recover(&mut self, loaded: Loaded) -> io::Result<()> {
        let (start, trusted) = self.start_of_scan(loaded);
        // What a clean stop left is whole. Otherwise queues may have holes behind the last common point.
        if self.recovered.unclean || !trusted {
            for queue in self.queues() {
                queue.truncate(start)?;
            }
        }
        let end = self.scan(start)?;
        self.cut_log(end)?;
        let log_min = self.log.min_offset();
        for queue in self.queues() {
            if log_min > 0 {
                queue.correct_min(log_min)?;
            }
            queue.set_next_offset(queue.max_offset());
        }
        // The pages that a killed broker wrote may still be on their way to the disk.
        for segment in self.log.all().iter().filter(|s| s.base + s.length > start) {
            segment.sync()?;
        }
        self.recovered.scanned_from = start;
        self.recovered.end = end;
        *self.visible.get_mut() = end;
        self.tail.get_mut().marks = Watermarks::new(self.options.policy, end);
        Ok(())
    }

    /// From where the log has to be read, and whether everything before it is known to be derived and on disk.
    fn start_of_scan(&self, loaded: Loaded) -> (u64, bool) {
        let min = self.log.min_offset();
        match loaded {
            Loaded::Own(checkpoint) if checkpoint.derived >= min && self.within(checkpoint.derived) => (checkpoint.derived, true),
            Loaded::Own(checkpoint) => {
                (self.segment_before(|r| r.store_timestamp <= checkpoint.timestamp - CHECKPOINT_DOUBT_MS), false)
            }
            Loaded::Java { timestamp } if self.recovered.unclean => {
                (self.segment_before(|r| r.store_timestamp <= timestamp - CHECKPOINT_DOUBT_MS), false)
            }
            Loaded::Java { .. } => {
                let derived = self.queues().iter().filter_map(|q| q.last_offset()).max();
                (derived.map_or(min, |offset| self.segment_before(|r| r.physical_offset <= offset)), false)
            }
            Loaded::Missing => (min, false),
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

    /// Reads the log from `start` to where it ends; the queues follow.
    fn scan(&mut self, start: u64) -> io::Result<u64> {
        let mut position = start;
        let (mut messages, mut timestamp) = (0, 0);
        let end = loop {
            let Some(segment) = self.log.segment(position) else {
                break None;
            };
            let bytes = segment.bytes()?;
            match look(bytes, segment.base, position - segment.base) {
                Found::Record { record, length } => {
                    self.follow(&record, position, length)?;
                    messages += 1;
                    timestamp = record.store_timestamp;
                    position += length;
                }
                Found::Blank => position = segment.base + segment.length,
                Found::End(why) => break Some((why, bytes[(position - segment.base) as usize..].iter().any(|b| *b != 0))),
            }
        };
        self.recovered.messages = messages;
        self.tail.get_mut().timestamp = timestamp;
        if let Some((why, true)) = end {
            self.recovered.cut = Some(format!("the commit log ends at {position}: {why}"));
        }
        Ok(position)
    }

    fn follow(&self, record: &Record<'_>, position: u64, length: u64) -> io::Result<()> {
        let transaction = record.sys_flag & message::TRANSACTION_MASK;
        if transaction == message::TRANSACTION_PREPARED || transaction == message::TRANSACTION_ROLLBACK {
            return Ok(());
        }
        let queue = self.queue(record.topic, record.queue_id)?;
        let entry = Entry { offset: position as i64, size: length as i32, tags_code: tags_code(record.properties) };
        queue.push(record.queue_offset, entry);
        Ok(())
    }

    /// Makes everything behind the log's end read as zeros, so that no old bytes come back to life behind new
    /// ones. Whole segments behind it are put aside, not removed: they hold messages, after a hole.
    fn cut_log(&self, end: u64) -> io::Result<()> {
        for segment in self.log.all() {
            if segment.base >= end && segment.base > 0 && self.recovered.cut.is_some() {
                let aside = self.options.root.join("cut");
                fs::create_dir_all(&aside)?;
                let name = segment.path().file_name().unwrap_or_default();
                fs::rename(segment.path(), aside.join(name))?;
                self.log.forget(segment.base);
                tracing::error!(
                    "{} lies behind the end of the commit log at {end}: moved to {}",
                    segment.path().display(),
                    aside.display()
                );
            } else if end < segment.base + segment.length && self.recovered.cut.is_some() {
                segment.zero_from(end.saturating_sub(segment.base))?;
            }
        }
        Ok(())
    }
}

/// What a consume queue entry holds of a message's tags: Java's hash of them, 0 without.
pub fn tags_code(properties: &str) -> i64 {
    let tags = protocol::properties::get(properties, protocol::properties::TAGS);
    tags.map_or(0, |tags| i64::from(java::hash_code(tags)))
}
