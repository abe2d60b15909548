//! The file `checkpoint`: one page. Its first 40 bytes are Java's (times up to which log, queues and index are on
//! disk); from byte 64 on, which Java neither reads nor writes, stands how far the queues follow the log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use protocol::record::crc;

/// The file's length.
const LENGTH: u64 = 4096;
const OWN_AT: usize = 64;
const OWN_MAGIC: &[u8; 8] = b"ferrckpt";
/// Magic, derived offset, a copy of the time, CRC.
const OWN_LENGTH: usize = 8 + 8 + 8 + 4;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The store time of the newest message that is on disk, in ms.
    pub timestamp: i64,
    /// The queues on disk hold every message below this offset of the log.
    pub derived: u64,
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

pub fn write(root: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut bytes = [0; OWN_AT + OWN_LENGTH];
    for at in [0, 8, 16] {
        bytes[at..at + 8].copy_from_slice(&checkpoint.timestamp.to_be_bytes());
    }
    let own = &mut bytes[OWN_AT..];
    own[..8].copy_from_slice(OWN_MAGIC);
    own[8..16].copy_from_slice(&checkpoint.derived.to_be_bytes());
    own[16..24].copy_from_slice(&checkpoint.timestamp.to_be_bytes());
    let sum = crc(&own[..24]);
    own[24..28].copy_from_slice(&sum.to_be_bytes());
    let file = File::options().write(true).create(true).truncate(false).open(root.join("checkpoint"))?;
    file.set_len(LENGTH)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_all()
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
    if let (Some(own), Some(derived), Some(timestamp)) =
        (bytes.get(OWN_AT..OWN_AT + OWN_LENGTH), number(OWN_AT + 8), number(OWN_AT + 16))
        && own.starts_with(OWN_MAGIC)
        && own[24..28] == crc(&own[..24]).to_be_bytes()
        && (physic, logics) == (timestamp, timestamp)
    {
        return Ok(Loaded::Own(Checkpoint { timestamp, derived: derived as u64 }));
    }
    Ok(Loaded::Java { timestamp: physic.min(logics) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_ours_until_java_writes_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Missing);
        let checkpoint = Checkpoint { timestamp: 1_700_000_000_000, derived: 12345 };
        write(root.path(), &checkpoint).unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Own(checkpoint));
        let path = root.path().join("checkpoint");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&1_800_000_000_000i64.to_be_bytes(), 0).unwrap();
        assert_eq!(read(root.path()).unwrap(), Loaded::Java { timestamp: 1_700_000_000_000 });
    }
}
