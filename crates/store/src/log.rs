//! The commit log: segments one behind the other, written at the end, read anywhere below the visible mark.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use protocol::record::{self, BLANK_LENGTH, MAGIC_BLANK, MAGIC_V1, MAGIC_V2};

use crate::disk::Disk;
use crate::segment::{self, Segment};

/// The segments of a commit log, by base offset.
#[derive(Debug)]
pub struct Log {
    disk: Disk,
    directory: PathBuf,
    segment_length: u64,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
}

/// Bytes of the log that a reader holds; they stay readable after the segment was deleted.
#[derive(Clone, Debug)]
pub struct Slice {
    segment: Arc<Segment>,
    start: usize,
    length: usize,
}

impl Slice {
    pub fn bytes(&self) -> &[u8] {
        // The segment was mapped when the slice was made, which is why this can't fail.
        self.segment.bytes().map_or(&[], |all| &all[self.start..self.start + self.length])
    }
}

impl Log {
    /// Opens the files of a directory. All must have the configured length; a newer one is shorter where a crash came
    /// between making it and giving it its length.
    pub fn open(disk: Disk, directory: &Path, segment_length: u64) -> io::Result<Self> {
        disk.make_directories(directory)?;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(base) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) {
                found.insert(base, (entry.path(), entry.metadata()?.len()));
            }
        }
        let (first, count) = (found.keys().next().copied(), found.len());
        let mut segments = BTreeMap::new();
        for (base, (path, length)) in found {
            if length > segment_length || length < segment_length && Some(base) == first && count > 1 {
                let reason = format!("{} has {length} bytes, mappedFileSizeCommitLog says {segment_length}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            segments.insert(base, Arc::new(Segment::open(&disk, &path, base, segment_length)?));
        }
        Ok(Self { disk, directory: directory.to_owned(), segment_length, segments: RwLock::new(segments) })
    }

    pub fn segment_length(&self) -> u64 {
        self.segment_length
    }

    /// The offset of the first byte that is kept.
    pub fn min_offset(&self) -> u64 {
        self.segments.read().keys().next().copied().unwrap_or(0)
    }

    /// All segments, oldest first.
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }

    /// The segment that holds `offset`.
    pub fn segment(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let (base, segment) = segments.range(..=offset).next_back()?;
        (offset < base + segment.length).then(|| segment.clone())
    }

    /// The segment that begins at `base`, made where it is missing.
    pub fn segment_at(&self, base: u64) -> io::Result<Arc<Segment>> {
        if let Some(segment) = self.segments.read().get(&base) {
            return Ok(segment.clone());
        }
        let segment = Arc::new(Segment::create(&self.disk, &self.directory, base, self.segment_length)?);
        self.segments.write().insert(base, segment.clone());
        Ok(segment)
    }

    /// Takes a segment out of the log; its file is moved into the directory `aside`.
    pub fn put_aside(&self, base: u64, aside: &Path) -> io::Result<()> {
        if let Some(segment) = self.segments.write().remove(&base) {
            self.disk.rename(segment.path(), &aside.join(segment::file_name(base)))?;
            self.disk.sync_directory(&self.directory)?;
        }
        Ok(())
    }

    /// Removes a segment that holds nothing.
    pub fn remove_empty(&self, base: u64) -> io::Result<()> {
        if let Some(segment) = self.segments.write().remove(&base) {
            self.disk.remove(segment.path())?;
            self.disk.sync_directory(&self.directory)?;
        }
        Ok(())
    }

    /// Removes the oldest segment, unless it is the only one. Who reads it still can.
    pub fn remove_oldest(&self) -> io::Result<Option<Arc<Segment>>> {
        let oldest = {
            let mut segments = self.segments.write();
            if segments.len() < 2 { None } else { segments.pop_first().map(|(_, segment)| segment) }
        };
        if let Some(segment) = &oldest {
            self.disk.remove(segment.path())?;
            // One at a time: a crash must not bring an older one back without those between.
            self.disk.sync_directory(&self.directory)?;
        }
        Ok(oldest)
    }

    /// `length` bytes at `offset`, which must be within one segment. The caller looks only below the visible mark.
    pub fn read(&self, offset: u64, length: usize) -> Option<Slice> {
        self.read_near(&mut None, offset, length)
    }

    /// [`Log::read`] for many reads that are near each other: the segment of the last one is looked at first.
    pub fn read_near(&self, last: &mut Option<Arc<Segment>>, offset: u64, length: usize) -> Option<Slice> {
        self.near(last, offset, length)?;
        let segment = last.clone()?;
        Some(Slice { start: (offset - segment.base) as usize, segment, length })
    }

    /// [`Log::read_near`], without keeping the segment beyond the next read.
    pub fn near<'a>(&self, last: &'a mut Option<Arc<Segment>>, offset: u64, length: usize) -> Option<&'a [u8]> {
        let here = |segment: &Arc<Segment>| offset >= segment.base && offset < segment.base + segment.length;
        if !last.as_ref().is_some_and(here) {
            *last = self.segment(offset);
        }
        let segment = last.as_ref()?;
        let start = (offset - segment.base) as usize;
        segment.bytes().ok()?.get(start..start.checked_add(length)?)
    }

    /// Has the processor fetch so many bytes of a record's start and of its end. Records of one queue lie apart: where
    /// none is asked for ahead, each is waited for.
    pub fn fetch(&self, last: &mut Option<Arc<Segment>>, offset: u64, length: usize, (head, tail): (usize, usize)) {
        if let Some(record) = self.near(last, offset, length) {
            segment::prefetch(&record[..head.min(length)]);
            segment::prefetch(&record[length.saturating_sub(tail)..]);
        }
    }

    /// Gives the whole records from `position` to `stop` with their offsets. Returns where it stopped: behind the last, or
    /// where no whole record is, with the reason.
    pub fn each_record(
        &self,
        mut position: u64,
        stop: u64,
        mut each: impl FnMut(&record::Record<'_>, u64),
    ) -> io::Result<(u64, Option<String>)> {
        while position < stop
            && let Some(segment) = self.segment(position)
        {
            match look(segment.bytes()?, segment.base, position - segment.base) {
                Found::Record { record, length } => {
                    each(&record, position);
                    position += length;
                }
                Found::Blank => position = segment.base + segment.length,
                Found::End(why) => return Ok((position, Some(why))),
            }
        }
        Ok((position, None))
    }

    /// The whole record at `offset`, below `visible`.
    pub fn record(&self, offset: u64, visible: u64) -> Option<Slice> {
        let head = self.read(offset, BLANK_LENGTH)?;
        let (total, magic) = record::peek(head.bytes())?;
        if magic == MAGIC_BLANK || offset.checked_add(u64::from(total))? > visible {
            return None;
        }
        self.read(offset, total as usize)
    }
}

/// The blank that ends a segment with `left` bytes to go.
pub fn blank(left: u64) -> [u8; BLANK_LENGTH] {
    let mut bytes = [0; BLANK_LENGTH];
    bytes[..4].copy_from_slice(&(left as u32).to_be_bytes());
    bytes[4..].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
    bytes
}

/// What stands at a place of the log.
pub enum Found<'a> {
    Record {
        record: record::Record<'a>,
        length: u64,
    },
    /// The segment ends here; the log goes on in the next.
    Blank,
    /// No whole, undamaged record: where the log ends, unless something was lost.
    End(String),
}

/// Looks at the record at `position` of a segment that begins at `base`.
pub fn look(segment: &[u8], base: u64, position: u64) -> Found<'_> {
    let bytes = &segment[position as usize..];
    let Some((total, magic)) = record::peek(bytes) else {
        return Found::End("the segment ends".into());
    };
    if magic == MAGIC_BLANK {
        return Found::Blank;
    }
    if total == 0 && magic == 0 {
        return Found::End("nothing is written here".into());
    }
    match record::decode_checked(bytes) {
        Ok(record) if torn(&bytes[..total as usize], position as usize, &record) => {
            Found::End("a part of the record is not written".into())
        }
        Ok(record) if record.physical_offset == (base + position) as i64 => Found::Record { record, length: u64::from(total) },
        Ok(record) => Found::End(format!("the record says that its offset is {}", record.physical_offset)),
        Err(error) => Found::End(error.to_string()),
    }
}

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Whether a sector of the record, or its end, was never written. The checksum covers the body alone; topic and properties
/// hold text. A kill in the middle of a write leaves its beginning, and a power cut may leave the beginning of what came into
/// a sector: then what of it lies last reads as 0.
fn torn(bytes: &[u8], position: usize, record: &record::Record<'_>) -> bool {
    let properties = bytes.len() - record.properties.len();
    let topic = properties - 2 - record.topic.len();
    let (mut start, end) = (0, bytes.len());
    while start < end {
        let next = ((position + start) / SECTOR * SECTOR + SECTOR - position).min(end);
        let length_of_properties = properties - 2..properties;
        let last = if length_of_properties.contains(&(next - 1)) { properties - 3 } else { next - 1 };
        if last >= start.max(topic) && bytes[last] == 0 {
            return true;
        }
        start = next;
    }
    false
}

/// Where the records of a segment go on behind damage at `position`: at the next whole record that names its own
/// offset, or at the blank that ends the segment.
pub fn next_record(segment: &[u8], base: u64, position: u64) -> Option<u64> {
    let magics = [MAGIC_V1, MAGIC_V2, MAGIC_BLANK].map(u32::to_be_bytes);
    let from = (position - base) as usize + 1;
    // The magic is the second number of a record.
    let candidates = segment.get(from + 4..)?.windows(4).enumerate().filter(|(_, bytes)| magics.iter().any(|m| m == bytes));
    let found = candidates.map(|(at, _)| (from + at) as u64).find(|at| match look(segment, base, *at) {
        Found::Record { .. } => true,
        Found::Blank => {
            record::peek(&segment[*at as usize..]).is_some_and(|(left, _)| at + u64::from(left) == segment.len() as u64)
        }
        Found::End(_) => false,
    });
    found.map(|at| base + at)
}
