//! Reading a whole commit log to see whether every record is as it was written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use protocol::record;

use crate::log::{Found, look, next_record};
use crate::segment::{Segment, file_name};

/// A part of the log that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Where in the log it begins, and where whole records go on.
    pub offset: u64,
    pub end: u64,
    /// The topic, queue and queue offset that the damaged record names, where they can still be read.
    pub message: Option<(String, i32, i64)>,
    pub reason: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub begin: u64,
    /// Where the log ends: behind its last whole record.
    pub end: u64,
    pub messages: u64,
    pub damages: Vec<Damage>,
}

/// Reads all records of the log in `directory`, and checks their checksums, lengths and offsets. Changes nothing, so
/// that a broker may run on the log meanwhile. What the checksum does not cover (topic, properties) shows only where it
/// can't be read. `progress` is told the bytes read and the bytes in all.
///
/// # Errors
/// Where the directory holds no log, or a file can't be read.
pub fn check(directory: &Path, mut progress: impl FnMut(u64, u64)) -> io::Result<CheckReport> {
    let segments = open_segments(directory)?;
    let total = segments.iter().map(|segment| segment.length).sum();
    let begin = segments.first().map_or(0, |segment| segment.base);
    let mut report = CheckReport { begin, end: begin, ..CheckReport::default() };
    let mut read = 0;
    for (nth, segment) in segments.iter().enumerate() {
        segment.read_through().map_err(|reason| named(segment.path(), &reason))?;
        let later = &segments[nth + 1..];
        if !check_segment(segment, later, &mut report, |in_segment| progress(read + in_segment, total))? {
            break;
        }
        read += segment.length;
        let end = segment.base + segment.length;
        if let Some(next) = later.first().filter(|next| next.base > end) {
            let file = directory.join(file_name(end));
            let reason = "the file is missing".to_owned();
            report.damages.push(Damage { file, offset: end, end: next.base, message: None, reason });
        }
    }
    Ok(report)
}

/// Adds one file to the report. `false` where the log ends in it.
fn check_segment(
    segment: &Segment,
    later: &[Segment],
    report: &mut CheckReport,
    mut progress: impl FnMut(u64),
) -> io::Result<bool> {
    let bytes = segment.bytes()?;
    let end = segment.base + segment.length;
    let mut position = segment.base;
    while position < end {
        match look(bytes, segment.base, position - segment.base) {
            Found::Record { length, .. } => {
                report.messages += 1;
                position += length;
                report.end = position;
            }
            Found::Blank => {
                position = end;
                report.end = position;
            }
            Found::End(_) => {
                // Where nothing but zeros follow, there is no need to look for records among them.
                let written = segment.last_written(position - segment.base)?;
                let behind = written.and_then(|_| next_record(bytes, segment.base, position));
                let goes_on = behind.is_some() || later.iter().any(starts);
                // A broker that runs may have written here since, and what stands behind it after that.
                let Found::End(reason) = look(bytes, segment.base, position - segment.base) else { continue };
                let message = record::decode(&bytes[(position - segment.base) as usize..]).ok();
                if !goes_on && message.is_none() {
                    // What is left of the last write before a crash is no damage; recovery cuts it off.
                    return Ok(false);
                }
                report.damages.push(Damage {
                    file: segment.path().to_owned(),
                    offset: position,
                    end: behind.unwrap_or(end),
                    message: message.map(|m| (m.topic.to_owned(), m.queue_id, m.queue_offset)),
                    reason,
                });
                position = behind.unwrap_or(end);
            }
        }
        progress(position - segment.base);
    }
    Ok(true)
}

fn starts(segment: &Segment) -> bool {
    segment.bytes().is_ok_and(|bytes| matches!(look(bytes, segment.base, 0), Found::Record { .. }))
}

/// The log's files, oldest first. All have one length, which is that of the first; the newest is shorter where a crash
/// came between making it and giving it its length, and holds nothing then.
fn open_segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(base) = entry.file_name().to_str().filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok()) {
            found.insert(base, (entry.path(), entry.metadata()?.len()));
        }
    }
    let Some((_, (_, length))) = found.first_key_value() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it holds no commit log files"));
    };
    let (length, newest) = (*length, found.last_key_value().map(|(base, _)| *base));
    let mut segments = Vec::new();
    for (base, (path, own_length)) in found {
        if Some(base) == newest && own_length < length {
            continue;
        }
        if own_length != length {
            let reason = format!("{} has {own_length} bytes, the log's first file has {length}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        segments.push(Segment::open_to_read(&path, base, length).map_err(|reason| named(&path, &reason))?);
    }
    Ok(segments)
}

fn named(path: &Path, reason: &io::Error) -> io::Error {
    io::Error::new(reason.kind(), format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::tests::{open, send};
    use crate::{Place, Policy};

    /// A store of three files with messages of 1000 bytes, and where they are.
    fn filled(root: &TempDir) -> Vec<Place> {
        let store = open(root, Policy::Persisted);
        let places = (0..9).map(|n| send(&store, "T", n % 2, &[b'x'; 1000], 1).0).collect();
        store.close().unwrap();
        places
    }

    fn flip(root: &TempDir, offset: u64) -> PathBuf {
        let base = offset - offset % crate::tests::SEGMENT;
        let path = root.path().join("commitlog").join(file_name(base));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(offset - base) as usize] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn report(root: &TempDir) -> CheckReport {
        let mut last = (0, 0);
        let report = check(&root.path().join("commitlog"), |read, total| last = (read, total)).unwrap();
        assert!(last.0 <= last.1 && last.1 > 0, "{last:?}");
        report
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_the_message_stands() {
        let root = tempfile::tempdir().unwrap();
        let places = filled(&root);
        let clean = report(&root);
        assert_eq!((clean.begin, clean.messages, clean.damages.len()), (0, 9, 0));
        for (nth, place) in places.iter().enumerate() {
            let file = flip(&root, place.physical_offset + 500);
            let found = report(&root);
            assert_eq!((found.messages, found.damages.len()), (8, 1), "{nth}: {:?}", found.damages);
            let damage = &found.damages[0];
            assert_eq!((&damage.file, damage.offset), (&file, place.physical_offset));
            assert_eq!(damage.message, Some(("T".to_owned(), nth as i32 % 2, place.queue_offset)));
            assert!(damage.end > damage.offset, "{damage:?}");
            flip(&root, place.physical_offset + 500);
        }
        assert_eq!(report(&root), clean);
    }

    #[test]
    fn a_missing_file_is_damage_and_a_short_newest_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        filled(&root);
        let directory = root.path().join("commitlog");
        let newest = directory.join(file_name(3 * crate::tests::SEGMENT));
        std::fs::write(&newest, b"").unwrap();
        assert_eq!(report(&root).messages, 9);
        assert_eq!(std::fs::metadata(&newest).unwrap().len(), 0, "nothing is changed");
        let middle = directory.join(file_name(crate::tests::SEGMENT));
        std::fs::remove_file(&middle).unwrap();
        let found = report(&root);
        assert_eq!(found.damages.len(), 1);
        assert_eq!((&found.damages[0].file, found.damages[0].end), (&middle, 2 * crate::tests::SEGMENT));
        assert!(check(&root.path().join("consumequeue"), |_, _| ()).unwrap_err().to_string().contains("no commit log files"));
    }
}
