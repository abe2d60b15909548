//! Reading a whole commit log to see whether every record is as it was written.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::log::{Found, Log, look, next_record};
use protocol::record;

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

/// Reads all records of the log in `directory`, and checks their checksums, lengths and offsets. Changes nothing.
/// `progress` is told the bytes read and the bytes in all.
pub fn check(directory: &Path, mut progress: impl FnMut(u64, u64)) -> io::Result<CheckReport> {
    let length = segment_length(directory)?;
    let log = Log::open(Disk::default(), directory, length)?;
    let segments = log.all();
    let begin = log.min_offset();
    let total = segments.len() as u64 * length;
    let mut report = CheckReport { begin, end: begin, ..CheckReport::default() };
    for (nth, segment) in segments.iter().enumerate() {
        let bytes = segment.bytes()?;
        let mut position = segment.base;
        let end = segment.base + segment.length;
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
                Found::End(reason) => {
                    let behind = next_record(bytes, segment.base, position);
                    let message = record::decode(&bytes[(position - segment.base) as usize..]).ok();
                    let goes_on = behind.is_some() || segments[nth + 1..].iter().any(|segment| starts(segment));
                    if !goes_on && message.is_none() {
                        // What is left of the last write before a crash is no damage; recovery cuts it off.
                        return Ok(report);
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
            progress(position - begin, total);
        }
    }
    Ok(report)
}

fn starts(segment: &crate::segment::Segment) -> bool {
    segment.bytes().is_ok_and(|bytes| matches!(look(bytes, segment.base, 0), Found::Record { .. }))
}

/// All files of a log have one length, which is that of the first.
fn segment_length(directory: &Path) -> io::Result<u64> {
    let mut lengths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.len() == 20 && name.parse::<u64>().is_ok()) {
            lengths.push((entry.file_name(), entry.metadata()?.len()));
        }
    }
    lengths.sort();
    let first = lengths
        .first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} holds no commit log files", directory.display())))?;
    Ok(first.1)
}
