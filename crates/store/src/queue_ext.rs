//! Java's extended consume queue (`enableConsumeQueueExt`): with it, an entry of a consume queue holds in place of the
//! tags code the address of a unit in a file beside the queue,
//! `size:2 tagsCode:8 storeTime:8 bitMapSize:2 bitMap`, in `consumequeue_ext/<topic>/<queue>/%020d`. Only Java writes
//! such files; here they are read, as a directory that Java wrote may have them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::queue::Entry;
use crate::segment::file_name;

/// Addresses are below every tags code, which is a number of 32 bits or a time.
const LAST_ADDRESS: i64 = i32::MIN as i64 - 1;
/// What a unit holds at least: sizes, tags code, time.
const UNIT_LENGTH: usize = 20;

/// Whether an entry's tags code stands elsewhere: in place of it there is the address of its unit.
pub fn is_address(tags_code: i64) -> bool {
    tags_code <= LAST_ADDRESS
}

/// The extension of one consume queue.
#[derive(Debug)]
pub struct QueueExt {
    directory: PathBuf,
    /// Lengths of its files, by the offset of their first byte.
    files: BTreeMap<u64, u64>,
}

impl QueueExt {
    /// The extension that belongs to `consumequeue/<topic>/<queue>`; `None` where there is none.
    pub fn open(queue: &Path) -> io::Result<Option<Self>> {
        let mut parts = queue.iter().rev();
        let (Some(id), Some(topic), Some(root)) = (parts.next(), parts.next(), queue.ancestors().nth(3)) else {
            return Ok(None);
        };
        let directory = root.join("consumequeue_ext").join(topic).join(id);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            if let Some(base) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                files.insert(base, entry.metadata()?.len());
            }
        }
        Ok(Some(Self { directory, files }))
    }

    /// Puts the tags codes into entries that hold addresses. An address without a unit stays (see [`is_address`]): a
    /// crash of Java's broker takes the newest units, and nobody but the record knows the tags then.
    pub fn resolve(&self, entries: &mut [Entry]) -> io::Result<()> {
        let mut open: Option<(u64, File)> = None;
        for entry in entries.iter_mut().filter(|entry| is_address(entry.tags_code)) {
            let offset = entry.tags_code.wrapping_sub(i64::MIN) as u64;
            let Some((&base, &length)) = self.files.range(..=offset).next_back() else { continue };
            if offset - base + UNIT_LENGTH as u64 > length {
                continue;
            }
            if open.as_ref().is_none_or(|(opened, _)| *opened != base) {
                open = Some((base, File::open(self.directory.join(file_name(base)))?));
            }
            let Some((_, file)) = &open else { continue };
            let mut unit = [0; UNIT_LENGTH];
            file.read_exact_at(&mut unit, offset - base)?;
            let size = i16::from_be_bytes([unit[0], unit[1]]);
            if size >= UNIT_LENGTH as i16
                && let Some(code) = unit[2..].first_chunk()
            {
                entry.tags_code = i64::from_be_bytes(*code);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tags_code: i64) -> Entry {
        Entry { offset: 1, size: 100, tags_code }
    }

    fn unit(tags_code: i64, bit_map: &[u8]) -> Vec<u8> {
        let mut bytes = (UNIT_LENGTH as i16 + bit_map.len() as i16).to_be_bytes().to_vec();
        bytes.extend(tags_code.to_be_bytes());
        bytes.extend(1_700_000_000_000_i64.to_be_bytes());
        bytes.extend((bit_map.len() as i16).to_be_bytes());
        bytes.extend(bit_map);
        bytes
    }

    #[test]
    fn addresses_give_way_to_the_tags_codes_of_their_units() {
        let root = tempfile::tempdir().unwrap();
        let queue = root.path().join("consumequeue/T/3");
        assert!(QueueExt::open(&queue).unwrap().is_none());
        let directory = root.path().join("consumequeue_ext/T/3");
        fs::create_dir_all(&directory).unwrap();
        let mut first = [unit(7, &[1; 8]), unit(-5, &[])].concat();
        first.resize(100, 0);
        let mut second = unit(1_700_000_000_123, &[]);
        second.resize(100, 0);
        fs::write(directory.join(file_name(0)), first).unwrap();
        fs::write(directory.join(file_name(100)), second).unwrap();
        let ext = QueueExt::open(&queue).unwrap().unwrap();
        let at = |offset: i64| entry(i64::MIN + offset);
        // The third unit is empty, the fourth is cut off, and the fifth lies behind all files.
        let mut entries = [entry(97), at(0), at(28), at(100), entry(i64::from(i32::MIN)), at(48), at(90), at(300)];
        ext.resolve(&mut entries).unwrap();
        let codes: Vec<_> = entries.iter().map(|entry| entry.tags_code).collect();
        let min = i64::from(i32::MIN);
        assert_eq!(codes, [97, 7, -5, 1_700_000_000_123, min, i64::MIN + 48, i64::MIN + 90, i64::MIN + 300]);
        assert!(codes[5..].iter().all(|code| is_address(*code)) && !codes[..5].iter().any(|code| is_address(*code)));
    }
}
