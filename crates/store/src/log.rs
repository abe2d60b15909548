//! The commit log: segments one behind the other, written at the end, read anywhere below the visible mark.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use protocol::record::{self, BLANK_LENGTH, MAGIC_BLANK};

use crate::segment::Segment;

/// The segments of a commit log, by base offset.
#[derive(Debug)]
pub struct Log {
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
    /// Opens the files of a directory; all must have the configured length, but for an empty last one, which a
    /// crash between creating and sizing leaves behind.
    pub fn open(directory: &Path, segment_length: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            let Some(base) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            let length = entry.metadata()?.len();
            if length == 0 {
                fs::remove_file(&path)?;
                continue;
            }
            if length != segment_length {
                let reason = format!("{} has {length} bytes, mappedFileSizeCommitLog says {segment_length}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            segments.insert(base, Arc::new(Segment::open(&path, base, length)?));
        }
        Ok(Self { directory: directory.to_owned(), segment_length, segments: RwLock::new(segments) })
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
        let segment = Arc::new(Segment::create(&self.directory, base, self.segment_length)?);
        self.segments.write().insert(base, segment.clone());
        Ok(segment)
    }

    /// Takes a segment out whose file is no longer the log's.
    pub fn forget(&self, base: u64) {
        self.segments.write().remove(&base);
    }

    /// `length` bytes at `offset`, which must be within one segment. The caller looks only below the visible mark.
    pub fn read(&self, offset: u64, length: usize) -> Option<Slice> {
        let segment = self.segment(offset)?;
        let start = (offset - segment.base) as usize;
        let end = start.checked_add(length)?;
        (end <= segment.bytes().ok()?.len()).then_some(Slice { segment, start, length })
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
        Ok(record) if record.physical_offset == (base + position) as i64 => Found::Record { record, length: u64::from(total) },
        Ok(record) => Found::End(format!("the record says that its offset is {}", record.physical_offset)),
        Err(error) => Found::End(error.to_string()),
    }
}
