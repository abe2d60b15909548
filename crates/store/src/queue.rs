//! A consume queue: for each message of one queue of a topic, where its record is, as 20-byte entries
//! `offset:8 size:4 tagsCode:8` in files of `mappedFileSizeConsumeQueue` bytes.
//!
//! Entries are derived from the log, so a crash that takes the newest ones costs nothing: they are derived
//! again. The newest are kept in memory and written in batches.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};
use crate::queue_ext::QueueExt;
use crate::segment::file_name;

/// Bytes of an entry on disk.
pub const ENTRY_LENGTH: u64 = 20;

/// Entries that are kept in memory before they are written together; with ten thousand queues this is 30 MB.
const WRITE_BATCH: usize = 128;

/// Queue files that are kept open; those of further queues are opened for each use.
const MAX_OPEN_FILES: usize = 512;

/// Entries that are read from a file in one go.
pub const READ_BATCH: usize = 128;

/// The size of the entries that stand before a queue's first message when the file begins earlier.
const PRE_BLANK_SIZE: i32 = i32::MAX;

/// Where one message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    pub size: i32,
    pub tags_code: i64,
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_LENGTH as usize]) -> Self {
        let mut offset = [0; 8];
        let mut size = [0; 4];
        let mut tags_code = [0; 8];
        offset.copy_from_slice(&bytes[..8]);
        size.copy_from_slice(&bytes[8..12]);
        tags_code.copy_from_slice(&bytes[12..]);
        Self { offset: i64::from_be_bytes(offset), size: i32::from_be_bytes(size), tags_code: i64::from_be_bytes(tags_code) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.tags_code.to_be_bytes());
    }

    /// An entry that stands for a message; zeros and the entries before the first message do not.
    fn is_message(&self) -> bool {
        self.offset >= 0 && self.size > 0 && self.size != PRE_BLANK_SIZE
    }
}

/// One queue of a topic.
#[derive(Debug)]
pub struct Queue {
    pub topic: String,
    pub id: i32,
    disk: Disk,
    directory: PathBuf,
    file_length: u64,
    /// Where Java left the tags codes, with `enableConsumeQueueExt`.
    ext: Option<QueueExt>,
    /// The offset that the next message gets; moves when a message is appended, before it is visible.
    /// Only the holder of the log's tail changes it.
    next: AtomicI64,
    watched: AtomicBool,
    deleted: AtomicBool,
    state: Mutex<State>,
}

/// A file that is kept open between uses, and counted.
#[derive(Debug)]
struct KeptOpen(DiskFile);

/// Queue files that are open, of all queues.
static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);

impl KeptOpen {
    fn new(file: DiskFile) -> Self {
        OPEN_FILES.fetch_add(1, Ordering::Relaxed);
        Self(file)
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// Closes what was kept open, where too many are.
    fn bound_open_files(&mut self) {
        if OPEN_FILES.load(Ordering::Relaxed) > MAX_OPEN_FILES {
            (self.open, self.read) = (None, None);
        }
    }
}

#[derive(Debug)]
struct State {
    /// The first offset whose message the log still has.
    min: i64,
    /// Entries below this are in the files.
    written: i64,
    /// Visible entries from `written` on.
    tail: Vec<Entry>,
    /// Bases of the files in entries, oldest first.
    files: Vec<i64>,
    /// The file that is written to, between two checkpoints: an idle queue holds none open.
    open: Option<(i64, KeptOpen)>,
    /// The older file that was read last, until the next checkpoint.
    read: Option<(i64, KeptOpen)>,
    /// Bases of files with writes that no sync has followed.
    dirty: Vec<i64>,
    /// There are files whose names no sync has followed.
    new_names: bool,
}

impl Queue {
    /// Opens a queue's directory, which need not be there, and finds its end.
    ///
    /// A file that is not `file_length` long is left from a crash between making it and giving it its length, and
    /// removed.
    pub fn open(disk: Disk, directory: PathBuf, topic: String, id: i32, file_length: u64) -> io::Result<Self> {
        let per_file = (file_length / ENTRY_LENGTH) as i64;
        let mut files = Vec::new();
        match fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    let Some(bytes) = entry.file_name().to_str().and_then(|n| n.parse::<u64>().ok()) else { continue };
                    if entry.metadata()?.len() == file_length {
                        files.push((bytes / ENTRY_LENGTH) as i64);
                    } else {
                        tracing::warn!("{} is not {file_length} bytes long: removed", entry.path().display());
                        disk.remove(&entry.path())?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files.sort_unstable();
        // Behind a file that is missing, nothing can be trusted.
        let whole = files.windows(2).position(|pair| pair[0] + per_file != pair[1]).map_or(files.len(), |gap| gap + 1);
        for lost in files.drain(whole..) {
            let path = directory.join(file_name(lost as u64 * ENTRY_LENGTH));
            tracing::warn!("{} lies behind a file that is missing: removed", path.display());
            disk.remove(&path)?;
        }
        let state = State {
            min: files.first().copied().unwrap_or(0),
            written: 0,
            tail: Vec::new(),
            files,
            open: None,
            read: None,
            dirty: Vec::new(),
            new_names: false,
        };
        let ext = QueueExt::open(&directory)?;
        let queue = Self {
            topic,
            id,
            disk,
            directory,
            file_length,
            ext,
            next: AtomicI64::new(0),
            watched: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            state: Mutex::new(state),
        };
        {
            let mut state = queue.state.lock();
            if let Some(&last) = state.files.last() {
                let end = queue.first_empty(&mut state, last, per_file)?;
                state.written = end;
                state.min = queue.first_message(&mut state, end)?;
                queue.next.store(end, Ordering::Relaxed);
                state.read = None;
            }
        }
        Ok(queue)
    }

    fn per_file(&self) -> i64 {
        (self.file_length / ENTRY_LENGTH) as i64
    }

    /// The offset behind the last entry of the file at `base`: entries follow each other without a hole, and what
    /// comes behind them is zeros.
    fn first_empty(&self, state: &mut State, base: i64, per_file: i64) -> io::Result<i64> {
        self.search(state, base..base + per_file, Self::read_entry, |entry| entry.size > 0)
    }

    fn first_message(&self, state: &mut State, end: i64) -> io::Result<i64> {
        let first = state.files.first().copied().unwrap_or(0);
        self.search(state, first..end, Self::read_entry, |entry| entry.size == PRE_BLANK_SIZE)
    }

    /// The first offset of a range whose entry is not `before`, where all that are come first.
    fn search(
        &self,
        state: &mut State,
        range: Range<i64>,
        read: impl Fn(&Self, &mut State, i64) -> io::Result<Entry>,
        before: impl Fn(&Entry) -> bool,
    ) -> io::Result<i64> {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&read(self, state, middle)?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The offset that the next message appended will get.
    pub fn next_offset(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Sets the next message's offset; for the holder of the log's tail.
    pub(crate) fn set_next_offset(&self, offset: i64) {
        self.next.store(offset, Ordering::Release);
    }

    /// The offset behind the last visible message.
    pub fn max_offset(&self) -> i64 {
        let state = self.state.lock();
        state.written + state.tail.len() as i64
    }

    /// The offset of the first message that the log still has.
    pub fn min_offset(&self) -> i64 {
        self.state.lock().min
    }

    /// The log offset of the last message whose entry is on disk.
    pub(crate) fn last_offset(&self) -> Option<i64> {
        let mut state = self.state.lock();
        let last = state.written - 1;
        let entry = if last >= state.min { self.read_entry(&mut state, last).ok()? } else { return None };
        entry.is_message().then_some(entry.offset)
    }

    /// Takes and gives no more entries: the topic is deleted. For the holder of the log's tail, as
    /// [`Queue::is_deleted`].
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        (state.files, state.tail, state.dirty, state.open, state.read) = Default::default();
        (state.min, state.written, state.new_names) = (0, 0, false);
        self.next.store(0, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Asks that the next visible message of this queue be told of (see [`crate::Woken`]).
    pub fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// Adds the visible entry of the message at `offset`. Gives whether someone watches, and by how much the queue's end
    /// has moved.
    ///
    /// An entry that is there already is left (the log is read again after a crash); one that leaves a hole starts
    /// the queue anew at its offset, since what came before is no longer in the log.
    ///
    /// A file that can't be written is reported and tried again with the next entries: until then they are served
    /// from memory, and the log has them.
    pub(crate) fn push(&self, offset: i64, entry: Entry) -> (bool, u64) {
        let mut state = self.state.lock();
        let max = state.written + state.tail.len() as i64;
        if offset < max {
            return (false, 0);
        }
        let mut written = Ok(());
        if offset > max {
            written = self.start_at(&mut state, offset);
        }
        state.tail.push(entry);
        if state.tail.len().is_multiple_of(WRITE_BATCH) {
            written = self.write_tail(&mut state);
        }
        drop(state);
        if let Err(error) = written {
            tracing::error!("consume queue {} of topic {} can't be written: {error}", self.id, self.topic);
        }
        let watched = self.watched.load(Ordering::SeqCst) && self.watched.swap(false, Ordering::SeqCst);
        (watched, (offset + 1 - max) as u64)
    }

    /// Forgets the entries from `offset` on: the queue was deleted and made anew where the log comes from. Gives how many
    /// they were.
    pub(crate) fn rewind(&self, offset: i64) -> io::Result<u64> {
        let mut state = self.state.lock();
        let max = state.written + state.tail.len() as i64;
        if offset < max {
            self.write_tail(&mut state)?;
            self.cut(&mut state, offset)?;
            self.next.store(offset, Ordering::Release);
        }
        Ok((max - offset).max(0) as u64)
    }

    /// Adds the entry of a message that is read from the log again. Where another message has its offset, the queue was
    /// deleted and made anew in between, and goes on from here.
    pub(crate) fn follow(&self, offset: i64, entry: Entry) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            let max = state.written + state.tail.len() as i64;
            if offset < max {
                let looked_at = offset.max(state.min);
                let known = self.read_entry(&mut state, looked_at)?;
                if known.offset >= entry.offset {
                    return Ok(());
                }
                self.write_tail(&mut state)?;
                self.cut(&mut state, offset)?;
            }
        }
        self.push(offset, entry);
        Ok(())
    }

    /// Begins the queue at `offset`, with entries that stand for nothing before it.
    fn start_at(&self, state: &mut State, offset: i64) -> io::Result<()> {
        if state.written + state.tail.len() as i64 > 0 {
            tracing::warn!(
                "queue {} of topic {}: messages {} to {} are missing in the log",
                self.id,
                self.topic,
                state.written + state.tail.len() as i64,
                offset - 1
            );
            self.write_tail(state)?;
        }
        let base = offset - offset % self.per_file();
        let blank = Entry { offset: 0, size: PRE_BLANK_SIZE, tags_code: 0 };
        let from = state.written.max(base);
        state.written = from;
        state.tail = vec![blank; (offset - from) as usize];
        self.write_tail(state)?;
        state.min = offset;
        Ok(())
    }

    /// Writes what is only in memory to the files.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.read = None;
        self.write_tail(&mut state)
    }

    fn write_tail(&self, state: &mut State) -> io::Result<()> {
        let tail = std::mem::take(&mut state.tail);
        let mut rest = tail.as_slice();
        while !rest.is_empty() {
            let base = state.written - state.written % self.per_file();
            let room = (base + self.per_file() - state.written) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            let mut bytes = Vec::with_capacity(now.len() * ENTRY_LENGTH as usize);
            now.iter().for_each(|entry| entry.encode(&mut bytes));
            let position = (state.written - base) as u64 * ENTRY_LENGTH;
            let written = self.file(state, base, true).and_then(|file| file.write(position, &bytes));
            if let Err(error) = written {
                state.tail = rest.to_vec();
                return Err(error);
            }
            if !state.dirty.contains(&base) {
                state.dirty.push(base);
            }
            state.written += now.len() as i64;
            rest = later;
        }
        state.bound_open_files();
        // The buffer's room is kept where the queue is busy.
        if state.tail.capacity() == 0 && tail.capacity() <= WRITE_BATCH * 2 {
            state.tail = tail;
            state.tail.clear();
        }
        Ok(())
    }

    /// Whether there is something that [`Queue::sync`] would have to wait for.
    pub(crate) fn dirty(&self) -> bool {
        let state = self.state.lock();
        !state.dirty.is_empty() || state.new_names
    }

    /// The disk has everything that was flushed.
    pub(crate) fn synced(&self) {
        let mut state = self.state.lock();
        state.dirty.clear();
        (state.new_names, state.open) = (false, None);
    }

    /// Has the disk confirm what was written, and the names of new files and directories.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let (dirty, new_names) = {
            let mut state = self.state.lock();
            state.open = None;
            (std::mem::take(&mut state.dirty), std::mem::take(&mut state.new_names))
        };
        for base in dirty {
            self.disk.open(&self.path(base))?.sync()?;
        }
        if new_names {
            // The queue's own directory, the topic's, the one of all topics, and the one that holds that.
            for directory in self.directory.ancestors().take(4) {
                self.disk.sync_directory(directory)?;
            }
        }
        Ok(())
    }

    fn path(&self, base: i64) -> PathBuf {
        self.directory.join(file_name(base as u64 * ENTRY_LENGTH))
    }

    fn file<'a>(&self, state: &'a mut State, base: i64, create: bool) -> io::Result<&'a DiskFile> {
        if state.open.as_ref().is_none_or(|(open, _)| *open != base) {
            let file = if create && !state.files.contains(&base) {
                self.disk.make_directories_unsynced(&self.directory)?;
                let file = self.disk.create(&self.path(base), self.file_length)?;
                state.files.push(base);
                state.files.sort_unstable();
                state.new_names = true;
                file
            } else {
                self.disk.open(&self.path(base))?
            };
            state.open = Some((base, KeptOpen::new(file)));
        }
        state.open.as_ref().map(|(_, file)| &file.0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_entry(&self, state: &mut State, offset: i64) -> io::Result<Entry> {
        let mut entries = [Entry::default()];
        let count = self.read_from(state, offset, &mut entries)?;
        Ok(if count == 1 { entries[0] } else { Entry::default() })
    }

    /// Fills `entries` from `offset` on, as far as one file or the memory goes; returns how many.
    fn read_from(&self, state: &mut State, offset: i64, entries: &mut [Entry]) -> io::Result<usize> {
        if offset >= state.written && !state.tail.is_empty() {
            let from = state.tail.get((offset - state.written) as usize..).unwrap_or_default();
            let count = from.len().min(entries.len());
            entries[..count].copy_from_slice(&from[..count]);
            return Ok(count);
        }
        let per_file = self.per_file();
        let base = offset - offset % per_file;
        let count = entries.len().min((base + per_file - offset) as usize);
        let mut bytes = [0; READ_BATCH * ENTRY_LENGTH as usize];
        let count = count.min(READ_BATCH);
        let part = &mut bytes[..count * ENTRY_LENGTH as usize];
        let position = (offset - base) as u64 * ENTRY_LENGTH;
        match &state.open {
            Some((open, file)) if *open == base => file.0.read(position, part)?,
            _ => {
                if state.read.as_ref().is_none_or(|(read, _)| *read != base) {
                    state.read = Some((base, KeptOpen::new(self.disk.open(&self.path(base))?)));
                }
                if let Some((_, file)) = &state.read {
                    file.0.read(position, part)?;
                }
                state.bound_open_files();
            }
        }
        for (entry, bytes) in entries.iter_mut().zip(part.as_chunks().0) {
            *entry = Entry::decode(bytes);
        }
        Ok(count)
    }

    /// Visible entries from `offset` on into `entries`; returns how many there were, at most [`READ_BATCH`].
    pub fn read(&self, offset: i64, entries: &mut [Entry]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let max = state.written + state.tail.len() as i64;
        if offset < state.min || offset >= max {
            return Ok(0);
        }
        let limit = if offset < state.written { state.written - offset } else { max - offset };
        let count = entries.len().min(limit as usize);
        let count = self.read_from(&mut state, offset, &mut entries[..count])?;
        drop(state);
        if let Some(ext) = &self.ext {
            ext.resolve(&mut entries[..count])?;
        }
        Ok(count)
    }

    /// The visible entry at `offset`; `None` where there is none.
    pub fn entry(&self, offset: i64) -> io::Result<Option<Entry>> {
        let mut entry = [Entry::default()];
        Ok((self.read(offset, &mut entry)? == 1).then_some(entry[0]))
    }

    /// Keeps the entries of records before `end`, which are known to be on disk, and drops everything behind them:
    /// after a power cut that may be anything. `is_message` tells whether the record at an offset is the message of
    /// this queue with a queue offset.
    pub(crate) fn truncate(&self, end: u64, is_message: impl Fn(i64, i64) -> bool) -> io::Result<()> {
        let mut state = self.state.lock();
        state.tail.clear();
        state.open = None;
        let Some((&first, &last)) = state.files.first().zip(state.files.last()) else { return Ok(()) };
        let low = self.search(&mut state, first..last + self.per_file(), Self::read_or_nothing, |entry| {
            entry.size == PRE_BLANK_SIZE || entry.is_message() && (entry.offset as u64) < end
        })?;
        // Half an entry from beyond the end may look like one before it, and mislead the search.
        let newest = if low > first { self.read_or_nothing(&mut state, low - 1)? } else { Entry::default() };
        let keep = match newest.is_message() {
            true if is_message(newest.offset, low - 1) => low,
            true => self.count_kept(&mut state, first, end)?,
            false => first,
        };
        self.cut(&mut state, keep)?;
        state.read = None;
        self.next.store(state.written, Ordering::Release);
        Ok(())
    }

    /// An entry of a file that may be missing.
    fn read_or_nothing(&self, state: &mut State, offset: i64) -> io::Result<Entry> {
        let base = offset - offset % self.per_file();
        if state.files.contains(&base) { self.read_entry(state, offset) } else { Ok(Entry::default()) }
    }

    /// The offset behind the last entry of an unbroken row of messages before `end`, one by one.
    fn count_kept(&self, state: &mut State, first: i64, end: u64) -> io::Result<i64> {
        let (mut offset, mut before) = (first, -1);
        loop {
            let entry = self.read_or_nothing(state, offset)?;
            let follows = entry.is_message() && entry.offset > before && (entry.offset as u64) < end;
            if !follows && entry.size != PRE_BLANK_SIZE {
                return Ok(offset);
            }
            if follows {
                before = entry.offset;
            }
            offset += 1;
        }
    }

    fn cut(&self, state: &mut State, keep: i64) -> io::Result<()> {
        let base = keep - keep % self.per_file();
        state.read = None;
        for file in state.files.iter().filter(|file| **file > base) {
            self.disk.remove(&self.path(*file))?;
        }
        state.files.retain(|file| *file <= base);
        state.dirty.retain(|file| *file <= base);
        if state.files.contains(&base) {
            let file = self.disk.open(&self.path(base))?;
            let mut position = (keep - base) as u64 * ENTRY_LENGTH;
            while position < self.file_length
                && let Some(part) = file.next_written(position)?
            {
                let end = part.end.min(self.file_length);
                file.zero(part.start..end)?;
                position = part.end;
                // Synced with the next checkpoint: until then, a start cuts back to the last one in any case.
                if !state.dirty.contains(&base) {
                    state.dirty.push(base);
                }
            }
        }
        state.written = keep;
        state.min = self.first_message(state, keep)?;
        Ok(())
    }

    /// Moves the first offset up to the first message at or beyond the log's first byte, and removes the files
    /// that hold none.
    pub(crate) fn correct_min(&self, log_min: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_tail(&mut state)?;
        let range = state.min..state.written;
        let low =
            self.search(&mut state, range, Self::read_entry, |entry| !entry.is_message() || (entry.offset as u64) < log_min)?;
        state.min = low;
        let keep = low - low % self.per_file();
        let last = state.files.last().copied();
        let (gone, kept): (Vec<_>, Vec<_>) = state.files.iter().partition(|file| **file < keep && Some(**file) != last);
        state.files = kept;
        state.dirty.retain(|file| !gone.contains(file));
        if state.open.as_ref().is_some_and(|(open, _)| gone.contains(open)) {
            state.open = None;
        }
        state.read = None;
        for file in gone {
            self.disk.remove(&self.path(file))?;
            self.disk.sync_directory(&self.directory)?;
        }
        Ok(())
    }
}

/// The directory of a queue below the store's `consumequeue`.
pub fn directory(root: &Path, topic: &str, id: i32) -> PathBuf {
    root.join(topic).join(id.to_string())
}
