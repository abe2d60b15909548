//! The file `checkpoint`: one page. Its first 40 bytes are Java's (times up to which log, queues and index are on
//! disk); from byte 64 on, which Java neither reads nor writes, stands how far the queues follow the log.

use std::io;
use std::path::Path;

use protocol::record::crc;

use crate::disk::Disk;

/// The file's length.
const LENGTH: u64 = 4096;
const OWN_AT: usize = 64;
const OWN_MAGIC: &[u8; 8] = b"ferrckp2";
/// Magic, derived offset, a copy of the time, entries of all queues, newest indexed, indexed up to, CRC. Both parts lie in the first 512
/// bytes, which a disk writes as a whole.
const OWN_LENGTH: usize = 8 + 8 + 8 + 8 + 8 + 8 + 4;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The store time of the newest message that is on disk, in ms.
    pub timestamp: i64,
    /// The queues on disk hold every message below this offset of the log.
    pub derived: u64,
    /// The sum of the queues' next offsets, by which a queue is missed whose files are gone.
    pub entries: u64,
    /// The offset of the newest message that the key index on disk knows; 0 without one.
    pub indexed: u64,
    /// The key index on disk knows every message below this offset of the log.
    pub index_from: u64,
}

/// A checkpoint as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Written by this program, and by nobody since.
    Own(Checkpoint),
    /// Written by Java: the store time up to which log and queues are on disk.
    Java {
        timestamp: i64,
    },
    Missing,
}

pub fn write(disk: &Disk, root: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut bytes = [0; OWN_AT + OWN_LENGTH];
    for at in [0, 8, 16] {
        bytes[at..at + 8].copy_from_slice(&checkpoint.timestamp.to_be_bytes());
    }
    let own = &mut bytes[OWN_AT..];
    own[..8].copy_from_slice(OWN_MAGIC);
    own[8..16].copy_from_slice(&checkpoint.derived.to_be_bytes());
    own[16..24].copy_from_slice(&checkpoint.timestamp.to_be_bytes());
    own[24..32].copy_from_slice(&checkpoint.entries.to_be_bytes());
    own[32..40].copy_from_slice(&checkpoint.indexed.to_be_bytes());
    own[40..48].copy_from_slice(&checkpoint.index_from.to_be_bytes());
    let sum = crc(&own[..48]);
    own[48..52].copy_from_slice(&sum.to_be_bytes());
    let path = root.join("checkpoint");
    let missing = !path.exists();
    let file = disk.create(&path, LENGTH)?;
    file.write(0, &bytes)?;
    file.sync()?;
    if missing { disk.sync_directory(root) } else { Ok(()) }
}

pub fn read(root: &Path) -> io::Result<Loaded> {
    let bytes = match std::fs::read(root.join("checkpoint")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
        Err(error) => return Err(error),
    };
    let number = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| i64::from_be_bytes(*b));
    let (Some(physic), Some(logics)) = (number(0), number(8)) else {
        return Ok(Loaded::Missing);
    };
    let Some(own) = bytes.get(OWN_AT..OWN_AT + OWN_LENGTH).filter(|own| own.starts_with(OWN_MAGIC)) else {
        // A page of zeros is one that was made and not written before a crash.
        let timestamp = physic.min(logics);
        return Ok(if timestamp == 0 { Loaded::Missing } else { Loaded::Java { timestamp } });
    };
    if own[48..52] != crc(&own[..48]).to_be_bytes() {
        return Ok(Loaded::Missing);
    }
    let own = |at: usize| number(OWN_AT + at).unwrap_or_default();
    let (derived, timestamp, entries, indexed, index_from) =
        (own(8) as u64, own(16), own(24) as u64, own(32) as u64, own(40) as u64);
    // Java leaves the own part and changes its times.
    if (physic, logics) != (timestamp, timestamp) {
        return Ok(Loaded::Java { timestamp: physic.min(logics) });
    }
    Ok(Loaded::Own(Checkpoint { timestamp, derived, entries, indexed, index_from }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_checkpoint_is_ours_until_java_writes_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Missing);
        let checkpoint = Checkpoint { timestamp: 1_700_000_000_000, derived: 12345, entries: 7, indexed: 99, index_from: 100 };
        write(&Disk::default(), root.path(), &checkpoint).unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Own(checkpoint));
        let path = root.path().join("checkpoint");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..75], &[1], &whole[76..]].concat()).unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Missing, "damaged");
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&1_800_000_000_000i64.to_be_bytes(), 0).unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Java { timestamp: 1_700_000_000_000 });
    }
}
