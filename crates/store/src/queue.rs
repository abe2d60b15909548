//! A consume queue: for each message of one queue of a topic, where its record is, as 20-byte entries
//! `offset:8 size:4 tagsCode:8` in files of `mappedFileSizeConsumeQueue` bytes.
//!
//! Entries are derived from the log, so a crash that takes the newest ones costs nothing: they are derived
//! again. The newest are kept in memory and written in batches.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::segment::file_name;

/// Bytes of an entry on disk.
pub const ENTRY_LENGTH: u64 = 20;

/// Entries that are kept in memory before they are written together.
const WRITE_BATCH: usize = 512;

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
    directory: PathBuf,
    file_length: u64,
    /// The offset that the next message gets; moves when a message is appended, before it is visible.
    /// Only the holder of the log's tail changes it.
    next: AtomicI64,
    watched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The first offset whose message the log still has.
    min: i64,
    /// Entries below this are in the files.
    written: i64,
    /// Visible entries from `written` on.
    tail: Vec<Entry>,
    /// Bases of the files in entries, oldest first; the newest is kept open.
    files: Vec<i64>,
    open: Option<(i64, File)>,
    /// Bases of files with writes that no sync has followed.
    dirty: Vec<i64>,
}

impl Queue {
    /// Opens a queue's directory, which need not be there, and finds its end.
    pub fn open(directory: PathBuf, topic: String, id: i32, file_length: u64) -> io::Result<Self> {
        let per_file = (file_length / ENTRY_LENGTH) as i64;
        let mut files = Vec::new();
        match fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if let Some(bytes) = entry.file_name().to_str().and_then(|n| n.parse::<u64>().ok())
                        && entry.metadata()?.len() == file_length
                    {
                        files.push((bytes / ENTRY_LENGTH) as i64);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files.sort_unstable();
        let state = State {
            min: files.first().copied().unwrap_or(0),
            written: 0,
            tail: Vec::new(),
            files,
            open: None,
            dirty: Vec::new(),
        };
        let queue = Self {
            topic,
            id,
            directory,
            file_length,
            next: AtomicI64::new(0),
            watched: AtomicBool::new(false),
            state: Mutex::new(state),
        };
        {
            let mut state = queue.state.lock();
            if let Some(&last) = state.files.last() {
                let end = queue.first_empty(&mut state, last, per_file)?;
                state.written = end;
                state.min = queue.first_message(&mut state, end)?;
                queue.next.store(end, Ordering::Relaxed);
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
        let (mut low, mut high) = (base, base + per_file);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.read_entry(state, middle)?.size > 0 { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn first_message(&self, state: &mut State, end: i64) -> io::Result<i64> {
        let (mut low, mut high) = (state.files.first().copied().unwrap_or(0), end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.read_entry(state, middle)?.size == PRE_BLANK_SIZE { low = middle + 1 } else { high = middle }
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

    /// Asks that the next visible message of this queue be told of (see [`crate::Woken`]).
    pub fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// Adds the visible entry of the message at `offset`. `true` where someone watches.
    ///
    /// An entry that is there already is left (the log is read again after a crash); one that leaves a hole starts
    /// the queue anew at its offset, since what came before is no longer in the log.
    ///
    /// A file that can't be written is reported and tried again with the next entries: until then they are served
    /// from memory, and the log has them.
    pub(crate) fn push(&self, offset: i64, entry: Entry) -> bool {
        let mut state = self.state.lock();
        let max = state.written + state.tail.len() as i64;
        if offset < max {
            return false;
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
        self.watched.load(Ordering::SeqCst) && self.watched.swap(false, Ordering::SeqCst)
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
        self.write_tail(&mut self.state.lock())
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
            let written = self.file(state, base, true).and_then(|file| file.write_all_at(&bytes, position));
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
        // The buffer's room is kept where the queue is busy.
        if state.tail.capacity() == 0 && tail.capacity() <= WRITE_BATCH * 2 {
            state.tail = tail;
            state.tail.clear();
        }
        Ok(())
    }

    /// Has the disk confirm what was written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let (dirty, directory) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.dirty), &self.directory)
        };
        for base in dirty {
            File::open(directory.join(file_name(base as u64 * ENTRY_LENGTH)))?.sync_data()?;
        }
        Ok(())
    }

    fn file<'a>(&self, state: &'a mut State, base: i64, create: bool) -> io::Result<&'a File> {
        if state.open.as_ref().is_none_or(|(open, _)| *open != base) {
            let path = self.directory.join(file_name(base as u64 * ENTRY_LENGTH));
            let file = if create && !state.files.contains(&base) {
                fs::create_dir_all(&self.directory)?;
                let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
                file.set_len(self.file_length)?;
                state.files.push(base);
                state.files.sort_unstable();
                file
            } else {
                File::options().read(true).write(true).open(&path)?
            };
            state.open = Some((base, file));
        }
        state.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
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
        let mut bytes = vec![0; count * ENTRY_LENGTH as usize];
        // An old file is opened for this read alone: the one that is written to stays open.
        let old;
        let file = if state.files.last() == Some(&base) {
            self.file(state, base, false)?
        } else {
            old = File::open(self.directory.join(file_name(base as u64 * ENTRY_LENGTH)))?;
            &old
        };
        file.read_exact_at(&mut bytes, (offset - base) as u64 * ENTRY_LENGTH)?;
        for (entry, bytes) in entries.iter_mut().zip(bytes.as_chunks().0) {
            *entry = Entry::decode(bytes);
        }
        Ok(count)
    }

    /// Visible entries from `offset` on into `entries`; returns how many there were, at most what one file holds.
    pub fn read(&self, offset: i64, entries: &mut [Entry]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let max = state.written + state.tail.len() as i64;
        if offset < state.min || offset >= max {
            return Ok(0);
        }
        let limit = if offset < state.written { state.written - offset } else { max - offset };
        let count = entries.len().min(limit as usize);
        self.read_from(&mut state, offset, &mut entries[..count])
    }

    /// Drops the entries of records at `end` and beyond: the log does not have them.
    pub(crate) fn truncate(&self, end: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_tail(&mut state)?;
        let first = state.files.first().copied().unwrap_or(0);
        let (mut low, mut high) = (first, state.written);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.read_entry(&mut state, middle)?;
            if entry.is_message() && entry.offset as u64 >= end { high = middle } else { low = middle + 1 }
        }
        if low < state.written {
            self.cut(&mut state, low)?;
        }
        self.next.store(state.written, Ordering::Release);
        Ok(())
    }

    fn cut(&self, state: &mut State, keep: i64) -> io::Result<()> {
        let base = keep - keep % self.per_file();
        state.open = None;
        for file in state.files.iter().filter(|file| **file > base) {
            fs::remove_file(self.directory.join(file_name(*file as u64 * ENTRY_LENGTH)))?;
        }
        state.files.retain(|file| *file <= base);
        state.dirty.retain(|file| *file <= base);
        if state.files.contains(&base) {
            let length = self.file_length;
            let file = self.file(state, base, false)?;
            file.set_len((keep - base) as u64 * ENTRY_LENGTH)?;
            file.set_len(length)?;
            file.sync_all()?;
        }
        state.written = keep;
        state.min = state.min.min(keep);
        Ok(())
    }

    /// Moves the first offset up to the first message at or beyond the log's first byte, and removes the files
    /// that hold none.
    pub(crate) fn correct_min(&self, log_min: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_tail(&mut state)?;
        let (mut low, mut high) = (state.min, state.written);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.read_entry(&mut state, middle)?;
            if !entry.is_message() || (entry.offset as u64) < log_min { low = middle + 1 } else { high = middle }
        }
        state.min = low;
        let keep = low - low % self.per_file();
        let last = state.files.last().copied();
        let (gone, kept): (Vec<_>, Vec<_>) = state.files.iter().partition(|file| **file < keep && Some(**file) != last);
        state.files = kept;
        state.dirty.retain(|file| !gone.contains(file));
        if state.open.as_ref().is_some_and(|(open, _)| gone.contains(open)) {
            state.open = None;
        }
        for file in gone {
            fs::remove_file(self.directory.join(file_name(file as u64 * ENTRY_LENGTH)))?;
        }
        Ok(())
    }

    /// Removes the queue's files. Its offsets begin at 0 again.
    pub(crate) fn destroy(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.open = None;
        (state.files, state.dirty, state.tail) = Default::default();
        (state.min, state.written) = (0, 0);
        self.next.store(0, Ordering::Release);
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The directory of a queue below the store's `consumequeue`.
pub fn directory(root: &Path, topic: &str, id: i32) -> PathBuf {
    root.join(topic).join(id.to_string())
}
