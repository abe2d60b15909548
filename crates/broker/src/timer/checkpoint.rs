//! `config/timercheck`: up to when timers were delivered, and how far their queue was read. The first 56 bytes of its one
//! page are Java's; from byte 64 on, which Java neither reads nor writes, stands what a start here goes by.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use protocol::bodies::DataVersion;
use protocol::record::crc;
use protocol::timer::SLOT_MS;

const LENGTH: u64 = 4096;
/// What Java writes, and sends as the answer to GET_TIMER_CHECK_POINT.
pub const JAVA_LENGTH: usize = 56;
const OWN_AT: usize = 64;
const OWN_MAGIC: &[u8; 8] = b"ferrtim1";
const SUM_AT: usize = OWN_AT + 8 + 4 * 8 + 3 * 8;
/// All of it lies in the first 512 bytes, which a disk writes as a whole.
const WRITTEN: usize = SUM_AT + 4;

/// Of the messages before `next`, those due up to `time` are delivered or cancelled, and the others are pending, as are all
/// from `next` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// In ms since 1970.
    pub time: i64,
    /// An offset of the timer's queue.
    pub next: i64,
    /// No message before it is pending.
    pub start: i64,
}

/// What a start goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Two marks: the first holds where the log goes on to `needs`, the second in any case.
    Own { newest: Mark, needs: u64, safe: Mark },
    /// Java wrote the page last: slots of its wheel before `read_time` are delivered, the queue is read up to `next`.
    Java { read_time: i64, next: i64 },
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The newest mark, and the end of the log that its deliveries need.
    pub newest: (Mark, u64),
    /// A mark whose deliveries are known to be on disk.
    pub safe: Mark,
    /// For Java's broker: up to when all is delivered, and where it is to begin reading the queue.
    pub java: (i64, i64),
    pub version: DataVersion,
}

/// The slot of Java's wheel that is to be read next, where everything due up to `time` is delivered.
pub fn read_time(time: i64) -> i64 {
    time / SLOT_MS * SLOT_MS
}

/// The part of the page that Java knows.
pub fn java_part(read_time: i64, next: i64, version: &DataVersion) -> [u8; JAVA_LENGTH] {
    let numbers = [read_time, 0, next, next, version.state_version, version.timestamp, version.counter];
    let mut bytes = [0; JAVA_LENGTH];
    for (part, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *part = number.to_be_bytes();
    }
    bytes
}

/// The open file.
pub struct Checkpoint {
    file: File,
}

impl Checkpoint {
    /// Opens the file or makes it. Gives what a start goes by, and the version that Java counts.
    pub fn open(path: &Path) -> io::Result<(Self, Found, DataVersion)> {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(about)?;
        if file.metadata().map_err(about)?.len() < LENGTH {
            file.set_len(LENGTH).map_err(about)?;
        }
        let mut bytes = [0; WRITTEN];
        file.read_exact_at(&mut bytes, 0).map_err(about)?;
        let number = |nth: usize| bytes.as_chunks().0.get(nth).map_or(0, |part| i64::from_be_bytes(*part));
        let version = DataVersion { state_version: number(4), timestamp: number(5), counter: number(6) };
        let own = bytes[OWN_AT..].starts_with(OWN_MAGIC) && bytes[SUM_AT..] == crc(&bytes[..SUM_AT]).to_be_bytes();
        if !own {
            return Ok((Self { file }, Found::Java { read_time: number(0), next: number(2) }, version));
        }
        let mark = |first: usize| Mark { time: number(first), next: number(first + 1), start: number(first + 2) };
        Ok((Self { file }, Found::Own { newest: mark(9), needs: number(12) as u64, safe: mark(13) }, version))
    }

    /// Writes the page, without waiting for the disk.
    pub fn write(&self, page: &Page) -> io::Result<()> {
        let mut bytes = [0; WRITTEN];
        bytes[..JAVA_LENGTH].copy_from_slice(&java_part(read_time(page.java.0), page.java.1, &page.version));
        let ((newest, needs), safe) = (page.newest, page.safe);
        let numbers = [newest.time, newest.next, newest.start, needs as i64, safe.time, safe.next, safe.start];
        bytes[OWN_AT..OWN_AT + 8].copy_from_slice(OWN_MAGIC);
        for (part, number) in bytes[OWN_AT + 8..].as_chunks_mut().0.iter_mut().zip(numbers) {
            *part = number.to_be_bytes();
        }
        let sum = crc(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_be_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Writes what a master says, as Java does it: from then on a start goes by this alone.
    pub fn write_copied(&self, page: &[u8; JAVA_LENGTH]) -> io::Result<()> {
        self.file.write_all_at(page, 0)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What the part of the page says that Java knows: the slot that is next, and how far the queue was read.
pub fn read_java_part(page: &[u8; JAVA_LENGTH]) -> (i64, i64, DataVersion) {
    let number = |nth: usize| page.as_chunks().0.get(nth).map_or(0, |part| i64::from_be_bytes(*part));
    let version = DataVersion { state_version: number(4), timestamp: number(5), counter: number(6) };
    (number(0), number(2), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_ours_until_java_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("timercheck");
        let open = || Checkpoint::open(&path).unwrap();
        let (file, found, _) = open();
        assert_eq!(found, Found::Java { read_time: 0, next: 0 });
        let version = DataVersion { state_version: 1, timestamp: 2, counter: 3 };
        let newest = Mark { time: 12_345, next: 9, start: 4 };
        let safe = Mark { time: 11_999, next: 8, start: 3 };
        file.write(&Page { newest: (newest, 1000), safe, java: (11_999, 3), version: version.clone() }).unwrap();
        let (_, found, read) = open();
        assert_eq!((found, read), (Found::Own { newest, needs: 1000, safe }, version));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH);
        file.file.write_all_at(&5i64.to_be_bytes(), 16).unwrap();
        assert_eq!(open().1, Found::Java { read_time: 11_000, next: 5 });
    }
}
