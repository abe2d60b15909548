//! The key index: which messages of a topic have a key. Java's `IndexFile`, byte for byte: a header of 40 bytes,
//! hash slots of 4 bytes that hold the number of their newest entry, and entries
//! `hash:4 offset:8 seconds:4 previous:4`, counted from 1.
//!
//! The index is derived from the log and follows it in batches, off the way of a send: [`Index::push`] takes notes,
//! [`Index::drain`] enters them. Slots and newest entries are kept in memory and written at a checkpoint: entries
//! first, then slots and header, so that after a crash the slots can be made again from the entries that the header
//! counts. Where the notes are too many, or files are missing, the index reads the log itself until it has caught up.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::properties;
use protocol::record::Record;
use protocol::sys_flag::message;
use stdx::java;

use crate::disk::{Disk, DiskFile, is_full};

const HEADER_LENGTH: u64 = 40;
const SLOT_LENGTH: u64 = 4;
const ENTRY_LENGTH: u64 = 20;
/// The slots' part of the file is written in pages of this size.
const PAGE: u64 = 4096;
/// Bytes of entries that are kept in memory before they are written.
const WRITE_BATCH: usize = 64 * 1024;
/// Keys that may wait to be entered. Beyond this the index reads them from the log.
const MAX_PENDING: usize = 256 * 1024;

/// A key of a message on its way to the index.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    hash: i32,
    offset: u64,
    timestamp: i64,
}

/// A message's keys: its unique key, then each word of `KEYS`.
pub fn keys(properties: &str) -> impl Iterator<Item = &str> {
    let (mut unique, mut words) = (None, "");
    for (name, value) in properties::pairs(properties) {
        match name {
            properties::UNIQUE_KEY => unique = Some(value),
            properties::KEYS => words = value,
            _ => {}
        }
    }
    unique.into_iter().chain(words.split(' ').filter(|word| !word.is_empty()))
}

/// The hashes of a record's keys. A rolled back transaction is not found by any.
pub fn hashes(record: &Record<'_>, mut each: impl FnMut(i32)) {
    if record.sys_flag & message::TRANSACTION_MASK != message::TRANSACTION_ROLLBACK {
        let prefix = java::hash_on(java::hash_code(record.topic), "#");
        keys(record.properties).for_each(|key| each(positive(java::hash_on(prefix, key))));
    }
}

/// Java's absolute value, and 0 for the one number that has none.
fn positive(hash: i32) -> i32 {
    hash.checked_abs().unwrap_or(0)
}

impl Key {
    pub fn new(hash: i32, offset: u64, timestamp: i64) -> Self {
        Self { hash, offset, timestamp }
    }

    /// The offset of the message's record.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// The first 40 bytes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    begin_timestamp: i64,
    end_timestamp: i64,
    begin_offset: i64,
    end_offset: i64,
    used_slots: i32,
    /// The number that the next entry gets; the first is 1.
    next: i32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_LENGTH as usize]) -> Self {
        let mut rest = bytes.as_slice();
        let mut long = || {
            let (first, after) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
            rest = after;
            i64::from_be_bytes(*first)
        };
        let (begin_timestamp, end_timestamp, begin_offset, end_offset) = (long(), long(), long(), long());
        let counts = long();
        Self {
            begin_timestamp,
            end_timestamp,
            begin_offset,
            end_offset,
            used_slots: (counts >> 32) as i32,
            next: (counts as i32).max(1),
        }
    }

    fn encode(&self) -> [u8; HEADER_LENGTH as usize] {
        let mut bytes = [0; HEADER_LENGTH as usize];
        let longs = [self.begin_timestamp, self.end_timestamp, self.begin_offset, self.end_offset];
        for (at, long) in longs.iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&long.to_be_bytes());
        }
        bytes[32..36].copy_from_slice(&self.used_slots.to_be_bytes());
        bytes[36..].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }

    fn holds(&self, begin: i64, end: i64) -> bool {
        self.next > 1 && begin <= self.end_timestamp && end >= self.begin_timestamp
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: i32,
    offset: i64,
    seconds: i32,
    previous: i32,
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_LENGTH as usize]) -> Self {
        let int = |at: usize| bytes[at..].first_chunk().map_or(0, |b| i32::from_be_bytes(*b));
        let long = |at: usize| bytes[at..].first_chunk().map_or(0, |b| i64::from_be_bytes(*b));
        Self { hash: int(0), offset: long(4), seconds: int(12), previous: int(16) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.seconds.to_be_bytes());
        out.extend_from_slice(&self.previous.to_be_bytes());
    }
}

/// How the files are cut: `maxHashSlotNum` and `maxIndexNum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub slots: u32,
    pub entries: u32,
}

impl Shape {
    fn file_length(&self) -> u64 {
        self.entry_at(0) + u64::from(self.entries) * ENTRY_LENGTH
    }

    fn entry_at(&self, number: i32) -> u64 {
        HEADER_LENGTH + u64::from(self.slots) * SLOT_LENGTH + number as u64 * ENTRY_LENGTH
    }

    fn slot_of(&self, hash: i32) -> usize {
        (hash as u32 % self.slots) as usize
    }
}

#[derive(Debug)]
struct File {
    name: u64,
    file: DiskFile,
    shape: Shape,
    header: Header,
    /// Entries from `written` on, encoded.
    tail: Vec<u8>,
    written: i32,
    /// The slots, while the file is written to, and the pages of them that the disk does not have.
    slots: Vec<i32>,
    dirty: Vec<bool>,
    /// The slots on disk may be those of another moment than the header.
    doubtful: bool,
}

impl File {
    fn open(file: DiskFile, name: u64, shape: Shape, doubtful: bool) -> io::Result<Self> {
        let mut bytes = [0; HEADER_LENGTH as usize];
        file.read(0, &mut bytes)?;
        let header = Header::decode(&bytes);
        if header.next as u32 > shape.entries {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("its header counts {} entries", header.next)));
        }
        Ok(Self {
            name,
            file,
            shape,
            header,
            tail: Vec::new(),
            written: header.next,
            slots: Vec::new(),
            dirty: Vec::new(),
            doubtful,
        })
    }

    fn full(&self) -> bool {
        self.header.next as u32 >= self.shape.entries
    }

    /// Has the slots in memory.
    fn load_slots(&mut self) -> io::Result<()> {
        if !self.slots.is_empty() {
            return Ok(());
        }
        let count = self.shape.slots as usize;
        let pages = (HEADER_LENGTH + count as u64 * SLOT_LENGTH).div_ceil(PAGE) as usize;
        if self.header.next == 1 {
            (self.slots, self.dirty) = (vec![0; count], vec![self.doubtful; pages]);
            return Ok(());
        }
        let mut slots = vec![0; count];
        let mut used = 0;
        if self.doubtful {
            // An entry's slot is known by its hash, so the slots are what the entries say.
            self.each_entry(|number, entry| {
                let slot = &mut slots[self.shape.slot_of(entry.hash)];
                used += i32::from(*slot == 0);
                *slot = number;
            })?;
            self.header.used_slots = used;
        } else {
            let mut bytes = vec![0; count * SLOT_LENGTH as usize];
            self.file.read(HEADER_LENGTH, &mut bytes)?;
            for (slot, bytes) in slots.iter_mut().zip(bytes.as_chunks().0) {
                *slot = i32::from_be_bytes(*bytes);
            }
        }
        self.dirty = vec![self.doubtful; pages];
        self.slots = slots;
        self.doubtful = false;
        Ok(())
    }

    fn each_entry(&self, mut each: impl FnMut(i32, Entry)) -> io::Result<()> {
        let mut bytes = vec![0; WRITE_BATCH / ENTRY_LENGTH as usize * ENTRY_LENGTH as usize];
        let mut number = 1;
        while number < self.written {
            let count = ((self.written - number) as usize).min(bytes.len() / ENTRY_LENGTH as usize);
            let part = &mut bytes[..count * ENTRY_LENGTH as usize];
            self.file.read(self.shape.entry_at(number), part)?;
            for entry in part.as_chunks().0 {
                each(number, Entry::decode(entry));
                number += 1;
            }
        }
        Ok(())
    }

    fn entry(&self, number: i32) -> io::Result<Entry> {
        let mut bytes = [0; ENTRY_LENGTH as usize];
        if number >= self.written {
            let at = (number - self.written) as usize * ENTRY_LENGTH as usize;
            bytes.copy_from_slice(&self.tail[at..at + ENTRY_LENGTH as usize]);
        } else {
            self.file.read(self.shape.entry_at(number), &mut bytes)?;
        }
        Ok(Entry::decode(&bytes))
    }

    fn slot(&self, hash: i32) -> io::Result<i32> {
        let slot = self.shape.slot_of(hash);
        if let Some(newest) = self.slots.get(slot) {
            return Ok(*newest);
        }
        let mut bytes = [0; SLOT_LENGTH as usize];
        self.file.read(HEADER_LENGTH + slot as u64 * SLOT_LENGTH, &mut bytes)?;
        Ok(i32::from_be_bytes(bytes))
    }

    fn put(&mut self, key: Key) -> io::Result<()> {
        self.load_slots()?;
        let slot = self.shape.slot_of(key.hash);
        let number = self.header.next;
        let previous = Some(self.slots[slot]).filter(|newest| (1..number).contains(newest)).unwrap_or(0);
        // The file's first entry counts from the end of the file before.
        let seconds = match self.header.begin_timestamp {
            ..=0 => 0,
            begin => ((key.timestamp - begin) / 1000).clamp(0, i64::from(i32::MAX)) as i32,
        };
        Entry { hash: key.hash, offset: key.offset as i64, seconds, previous }.encode(&mut self.tail);
        self.slots[slot] = number;
        self.dirty[((HEADER_LENGTH + slot as u64 * SLOT_LENGTH) / PAGE) as usize] = true;
        let header = &mut self.header;
        if number == 1 {
            (header.begin_offset, header.begin_timestamp) = (key.offset as i64, key.timestamp);
        }
        header.used_slots += i32::from(previous == 0);
        header.next += 1;
        (header.end_offset, header.end_timestamp) = (key.offset as i64, key.timestamp);
        if self.tail.len() >= WRITE_BATCH { self.write_entries() } else { Ok(()) }
    }

    fn write_entries(&mut self) -> io::Result<()> {
        let start = self.shape.entry_at(self.written);
        self.file.reserve(start..start + self.tail.len() as u64)?;
        self.file.write(start, &self.tail)?;
        self.tail.clear();
        self.written = self.header.next;
        Ok(())
    }

    /// Has everything on disk. The header counts only entries that the disk has.
    fn flush(&mut self) -> io::Result<()> {
        if !self.dirty.contains(&true) {
            return Ok(());
        }
        self.write_entries()?;
        self.file.sync()?;
        self.write_slots()?;
        self.file.write(0, &self.header.encode())?;
        self.file.sync()?;
        self.dirty.fill(false);
        Ok(())
    }

    fn write_slots(&self) -> io::Result<()> {
        let end = HEADER_LENGTH + self.slots.len() as u64 * SLOT_LENGTH;
        let mut page = 0;
        let mut bytes = Vec::new();
        while let Some(first) = (page..self.dirty.len()).find(|page| self.dirty[*page]) {
            page = (first..self.dirty.len()).find(|page| !self.dirty[*page]).unwrap_or(self.dirty.len());
            let (from, to) = ((first as u64 * PAGE).max(HEADER_LENGTH), (page as u64 * PAGE).min(end));
            let slots = ((from - HEADER_LENGTH) / SLOT_LENGTH) as usize..((to - HEADER_LENGTH) / SLOT_LENGTH) as usize;
            bytes.clear();
            self.slots[slots].iter().for_each(|slot| bytes.extend_from_slice(&slot.to_be_bytes()));
            self.file.write(from, &bytes)?;
        }
        Ok(())
    }

    /// Gives the offsets of entries with a hash, newest first, until `each` has enough.
    fn select(&self, hash: i32, begin: i64, end: i64, each: &mut impl FnMut(u64) -> bool) -> io::Result<bool> {
        let mut number = self.slot(hash)?;
        while (1..self.header.next).contains(&number) {
            let entry = self.entry(number)?;
            let time = self.header.begin_timestamp + i64::from(entry.seconds) * 1000;
            if entry.hash == hash && (begin..=end).contains(&time) && !each(entry.offset as u64) {
                return Ok(false);
            }
            // A chain only goes back; anything else is damage, and would not end.
            if time < begin || entry.previous >= number {
                break;
            }
            number = entry.previous;
        }
        Ok(true)
    }
}

/// Where keys come from.
#[derive(Debug)]
struct Source {
    pending: Vec<Key>,
    /// Keys of records at this offset and beyond are read from the log; `None` while they are pushed.
    from_log: Option<u64>,
}

/// The key index of a store.
#[derive(Debug)]
pub struct Index {
    disk: Disk,
    directory: PathBuf,
    shape: Shape,
    files: Mutex<VecDeque<File>>,
    source: Mutex<Source>,
    /// The disk did not confirm a write: what it has of the newest file is not known, and nothing more is counted.
    failed: AtomicBool,
}

/// Up to where the index goes: the newest key's record and its store time; zeros without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    pub offset: u64,
    pub timestamp: i64,
}

impl Index {
    /// Opens the files. `doubtful` says that they were not closed in good order. What is damaged is removed, and made
    /// again from the log; that is said.
    pub fn open(disk: Disk, directory: PathBuf, shape: Shape, doubtful: bool) -> io::Result<Self> {
        let mut names: Vec<u64> = Vec::new();
        match std::fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries {
                    names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        names.sort_unstable();
        let mut files = VecDeque::new();
        for name in names {
            let path = directory.join(name.to_string());
            let opened = disk.open(&path).and_then(|file| {
                if file.file().metadata()?.len() != shape.file_length() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("it has not the {} bytes that maxHashSlotNum and maxIndexNum make", shape.file_length()),
                    ));
                }
                File::open(file, name, shape, doubtful)
            });
            match opened {
                Ok(file) => files.push_back(file),
                // Those behind it go as well: the index has to follow the log without a hole.
                Err(error) => {
                    tracing::warn!("index file {} and newer ones are made again from the log: {error}", path.display());
                    remove_from(&disk, &directory, name)?;
                    break;
                }
            }
        }
        let source = Mutex::new(Source { pending: Vec::new(), from_log: None });
        Ok(Self { disk, directory, shape, files: Mutex::new(files), source, failed: AtomicBool::new(false) })
    }

    /// The newest key.
    pub fn last(&self) -> Last {
        newest(&self.files.lock()).unwrap_or_default()
    }

    /// The log ends at `end`: files that know of more are removed, and what they held is read from the log again.
    pub fn forget_from(&self, end: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        let beyond = |file: &File| file.header.next > 1 && file.header.end_offset as u64 >= end;
        let Some(keep) = files.iter().position(beyond) else { return Ok(()) };
        for file in files.drain(keep..).rev() {
            tracing::warn!("index file {} is made again: it knows of more than the log", file.file.path().display());
            self.disk.remove(file.file.path())?;
        }
        drop(files);
        self.disk.sync_directory(&self.directory)?;
        self.read_log_from(self.last().offset);
        Ok(())
    }

    /// Has the keys of records from `offset` on read from the log.
    pub fn read_log_from(&self, offset: u64) {
        let mut source = self.source.lock();
        source.from_log = Some(source.from_log.map_or(offset, |from| from.min(offset)));
    }

    /// From where on keys have to be read from the log, if they have.
    pub fn reads_log_from(&self) -> Option<u64> {
        self.source.lock().from_log
    }

    /// The log was read up to `to`; where that is its visible end, keys are pushed again.
    pub fn has_read_log(&self, to: u64, visible: impl Fn() -> u64) -> bool {
        let mut source = self.source.lock();
        // Under the lock: a push of what became visible meanwhile waits for it.
        source.from_log = (to < visible()).then_some(to);
        source.from_log.is_none()
    }

    /// Takes note of the keys of messages that became visible, in the order of the log.
    pub fn push(&self, keys: impl Iterator<Item = Key>) {
        let mut source = self.source.lock();
        if source.from_log.is_some() {
            return;
        }
        for key in keys {
            if source.pending.len() >= MAX_PENDING {
                source.from_log = Some(key.offset);
                return;
            }
            source.pending.push(key);
        }
    }

    /// Enters the keys that were pushed.
    pub fn drain(&self) -> io::Result<()> {
        self.drain_into(&mut self.files.lock())
    }

    fn drain_into(&self, files: &mut VecDeque<File>) -> io::Result<()> {
        let keys = std::mem::take(&mut self.source.lock().pending);
        let result = self.enter(files, &keys);
        if result.is_err()
            && let Some(first) = keys.first()
        {
            // They are in the log, as are those that were pushed since.
            self.source.lock().pending.clear();
            self.read_log_from(first.offset);
        }
        let mut source = self.source.lock();
        if source.pending.is_empty() && keys.capacity() <= MAX_PENDING {
            source.pending = keys;
            source.pending.clear();
        }
        result
    }

    /// Enters keys; those that the index knows already are passed over.
    pub fn add(&self, keys: &[Key]) -> io::Result<()> {
        self.enter(&mut self.files.lock(), keys)
    }

    fn enter(&self, files: &mut VecDeque<File>, keys: &[Key]) -> io::Result<()> {
        let newest = newest(files).map(|last| last.offset);
        let mut newest_keys = match (newest, keys.first()) {
            (Some(newest), Some(first)) if first.offset <= newest => keys_of_newest(files, newest)?,
            _ => 0,
        };
        for key in keys {
            if newest.is_some_and(|newest| key.offset < newest) {
                continue;
            }
            // An error may have come between two keys of a message.
            if newest == Some(key.offset) && newest_keys > 0 {
                newest_keys -= 1;
                continue;
            }
            if files.back().is_none_or(File::full) {
                self.begin_file(files, key.timestamp)?;
            }
            if let Some(file) = files.back_mut() {
                file.put(*key)?;
            }
        }
        Ok(())
    }

    fn begin_file(&self, files: &mut VecDeque<File>, timestamp: i64) -> io::Result<()> {
        let mut header = Header { next: 1, ..Header::default() };
        let mut name = name_of(timestamp);
        if let Some(full) = files.back_mut() {
            self.flush_file(full)?;
            (full.slots, full.dirty) = Default::default();
            let end = full.header;
            header = Header {
                begin_timestamp: end.end_timestamp,
                end_timestamp: end.end_timestamp,
                begin_offset: end.end_offset,
                end_offset: end.end_offset,
                ..header
            };
            // Files are in the order of their names, also where Java named them by its local time.
            name = name.max(full.name + 1);
        }
        self.disk.make_directories(&self.directory)?;
        let file = self.disk.create(&self.directory.join(name.to_string()), self.shape.file_length())?;
        file.write(0, &header.encode())?;
        file.sync()?;
        self.disk.sync_directory(&self.directory)?;
        files.push_back(File::open(file, name, self.shape, false)?);
        Ok(())
    }

    /// Has the keys of everything visible on disk, once `before` has seen to it that the log is. Returns the newest
    /// key, and from where on keys have still to be read from the log, if they have.
    pub fn flush(&self, before: impl FnOnce() -> io::Result<()>) -> io::Result<(Last, Option<u64>)> {
        let mut files = self.files.lock();
        self.drain_into(&mut files)?;
        before()?;
        files.back_mut().map_or(Ok(()), |file| self.flush_file(file))?;
        drop(files);
        Ok((self.last(), self.reads_log_from()))
    }

    /// A failed sync is never tried again: the system may count the pages as written.
    fn flush_file(&self, file: &mut File) -> io::Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("the key index could not be written before; it is mended by the next start"));
        }
        file.flush().inspect_err(|error| {
            // A full disk passes.
            self.failed.store(!is_full(error), Ordering::Relaxed);
        })
    }

    /// Looks a key up among messages stored from `begin` to `end`: `each` gets the offsets of records that may have
    /// it, newest first, until it has enough.
    pub fn query(&self, topic: &str, key: &str, begin: i64, end: i64, mut each: impl FnMut(u64) -> bool) -> io::Result<()> {
        self.drain()?;
        let hash = positive(java::hash_on(java::hash_on(java::hash_code(topic), "#"), key));
        for file in self.files.lock().iter_mut().rev() {
            if file.doubtful {
                file.load_slots()?;
            }
            if file.header.holds(begin, end) && !file.select(hash, begin, end, &mut each)? || file.header.begin_timestamp < begin
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes files that know only of records before `log_min`; never the newest.
    pub fn clean(&self, log_min: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        while files.len() > 1 && files.front().is_some_and(|file| (file.header.end_offset as u64) < log_min) {
            if let Some(file) = files.pop_front() {
                self.disk.remove(file.file.path())?;
            }
        }
        Ok(())
    }
}

/// Removes all files of an index.
pub fn remove_files(disk: &Disk, directory: &Path) -> io::Result<()> {
    if directory.is_dir() { remove_from(disk, directory, 0) } else { Ok(()) }
}

fn remove_from(disk: &Disk, directory: &Path, first: u64) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()).is_some_and(|name| name >= first) {
            disk.remove(&entry.path())?;
        }
    }
    disk.sync_directory(directory)
}

/// The newest key of all files; `None` without any.
fn newest(files: &VecDeque<File>) -> Option<Last> {
    let file = files.iter().rev().find(|file| file.header.next > 1)?;
    Some(Last { offset: file.header.end_offset as u64, timestamp: file.header.end_timestamp })
}

/// How many keys of the newest message have been entered.
fn keys_of_newest(files: &VecDeque<File>, offset: u64) -> io::Result<usize> {
    let mut count = 0;
    for file in files.iter().rev() {
        for number in (1..file.header.next).rev() {
            if file.entry(number)?.offset as u64 != offset {
                return Ok(count);
            }
            count += 1;
        }
    }
    Ok(count)
}

/// Java's name of a file: the time in UTC as one number, `yyyyMMddHHmmssSSS`.
fn name_of(timestamp: i64) -> u64 {
    let time = Timestamp::from_millisecond(timestamp).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let date = (time.year().max(0) as u64 * 100 + time.month() as u64) * 100 + time.day() as u64;
    let clock = (time.hour() as u64 * 100 + time.minute() as u64) * 100 + time.second() as u64;
    (date * 1_000_000 + clock) * 1000 + time.millisecond() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::record;

    const SHAPE: Shape = Shape { slots: 7, entries: 20 };

    fn open(directory: &std::path::Path, doubtful: bool) -> Index {
        Index::open(Disk::default(), directory.to_owned(), SHAPE, doubtful).unwrap()
    }

    fn keys(n: u64) -> Key {
        let mut hash = 0;
        hashes(&record("T", 0, b"", &format!("KEYS\u{1}k{}\u{2}", n % 5)), |h| hash = h);
        Key::new(hash, n * 100, 1_700_000_000_000 + n as i64 * 1000)
    }

    fn find(index: &Index, key: &str) -> Vec<u64> {
        let mut found = Vec::new();
        index
            .query("T", key, 0, i64::MAX, |offset| {
                found.push(offset);
                true
            })
            .unwrap();
        found
    }

    #[test]
    fn keys_are_found_newest_first_over_files_and_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path(), false);
        index.push((1..50).map(keys));
        let expected: Vec<u64> = (1..50).rev().filter(|n| n % 5 == 3).map(|n| n * 100).collect();
        assert_eq!(find(&index, "k3"), expected);
        index.flush(|| Ok(())).unwrap();
        for doubtful in [false, true] {
            let again = open(directory.path(), doubtful);
            assert_eq!(find(&again, "k3"), expected, "doubtful: {doubtful}");
            assert_eq!(again.last().offset, 4900);
        }
        // The log is read again after a crash: what is known is not entered twice.
        let again = open(directory.path(), true);
        again.push((40..52).map(keys));
        assert_eq!(find(&again, "k1"), [5100, 4600, 4100, 3600, 3100, 2600, 2100, 1600, 1100, 600, 100]);
        again.clean(2000).unwrap();
        assert_eq!(find(&again, "k1"), [5100, 4600, 4100, 3600, 3100, 2600, 2100]);
    }

    #[test]
    fn slots_of_another_moment_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path(), false);
        index.push((1..10).map(keys));
        index.drain().unwrap();
        index.flush(|| Ok(())).unwrap();
        // Slots that were written before a crash, and not the header that counts their entries.
        let path = index.files.lock().back().unwrap().file.path().to_owned();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0, 0, 0, 15, 0, 0, 0, 16], 40).unwrap();
        assert_eq!(find(&open(directory.path(), true), "k2"), [700, 200]);
    }

    #[test]
    fn a_time_range_and_a_limit_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path(), false);
        index.push((1..50).map(keys));
        let mut found = Vec::new();
        let at = |n: i64| 1_700_000_000_000 + n * 1000;
        index
            .query("T", "k0", at(10), at(30), |offset| {
                found.push(offset);
                found.len() < 3
            })
            .unwrap();
        assert_eq!(found, [3000, 2500, 2000]);
    }

    #[test]
    fn a_damaged_file_is_removed_with_those_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path(), false);
        index.push((1..60).map(keys));
        index.drain().unwrap();
        index.flush(|| Ok(())).unwrap();
        let second = index.files.lock()[1].file.path().to_owned();
        std::fs::File::options().write(true).open(&second).unwrap().set_len(10).unwrap();
        let again = open(directory.path(), false);
        assert_eq!(again.last().offset, 1900);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_flood_of_keys_is_left_to_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let index =
            Index::open(Disk::default(), directory.path().to_owned(), Shape { slots: 1000, entries: 1_000_000 }, false).unwrap();
        index.push((1..=MAX_PENDING as u64 + 10).map(keys));
        assert_eq!(index.reads_log_from(), Some((MAX_PENDING as u64 + 1) * 100));
        index.drain().unwrap();
        assert_eq!(index.last().offset, MAX_PENDING as u64 * 100);
        assert!(!index.has_read_log(10, || 20));
        assert!(index.has_read_log(20, || 20));
    }
}
