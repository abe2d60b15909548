//! Reading messages of a queue: by offset, by time.

use std::io;
use std::sync::Arc;

use protocol::record;

use crate::Store;
use crate::log::Slice;
use crate::queue::{Entry, Queue, READ_BATCH};
use crate::queue_ext;

/// How many records ahead of the one that is looked at are fetched.
const AHEAD: usize = 32;
/// Where most records have what a look at their properties needs: so many bytes at their start and at their end.
const HEAD: usize = 88;
const TAIL: usize = 256;
/// What a record has beside topic and properties behind its body, and by how much the next one may be longer.
const SLACK: usize = 16;

/// Has [`Store::get`] give messages whatever their properties are.
pub const ANY: Option<fn(&str) -> bool> = None;

/// The answer to a pull as the store sees it (Java: `GetMessageStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetStatus {
    Found,
    NoMatchedMessage,
    MessageWasRemoving,
    OffsetFoundNull,
    OffsetOverflowBadly,
    OffsetOverflowOne,
    OffsetTooSmall,
    NoMatchedLogicQueue,
    NoMessageInQueue,
}

impl GetStatus {
    /// Java's name, which is the remark of an answer.
    pub fn name(self) -> &'static str {
        match self {
            GetStatus::Found => "FOUND",
            GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
            GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
            GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
            GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        }
    }
}

/// What was read.
#[derive(Debug)]
pub struct GetResult {
    pub status: GetStatus,
    pub next: i64,
    pub min: i64,
    pub max: i64,
    pub messages: Vec<Slice>,
    /// The distance in bytes between the log's end and the last message looked at.
    pub behind: u64,
}

/// How much one read may give.
#[derive(Clone, Copy, Debug)]
pub struct GetLimits {
    pub messages: usize,
    pub bytes: usize,
    /// Limits for messages that are `cold_distance` bytes and more behind the log's end.
    pub cold_messages: usize,
    pub cold_bytes: usize,
    pub cold_distance: u64,
    /// How many entries may be passed over because they do not match (`maxFilterMessageSize`, in entries).
    pub scanned: usize,
}

impl GetLimits {
    /// How many messages and bytes may be given where the next message is so many bytes behind the log's end.
    fn at(&self, behind: u64) -> (usize, usize) {
        match behind > self.cold_distance {
            true => (self.cold_messages.min(self.messages), self.cold_bytes.min(self.bytes)),
            false => (self.messages, self.bytes),
        }
    }
}

/// Which message a search by time gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The first that was stored at the time or later.
    Lower,
    /// The last that was stored at the time or earlier.
    Upper,
}

fn damaged(queue: &Queue, entry: &Entry, offset: i64) {
    tracing::error!(
        "the record at {} of the commit log is damaged (queue {} of topic {}, offset {offset}): it is passed over; storeCheck lists \
         all damage",
        entry.offset,
        queue.id,
        queue.topic
    );
}

impl Store {
    /// Messages of a queue from `offset` on whose entry's tags code matches and whose properties are wanted ([`ANY`]: all). At least one
    /// message is given where one matches, whatever the limits.
    pub fn get(
        &self,
        queue: Option<&Arc<Queue>>,
        offset: i64,
        limits: &GetLimits,
        matches: impl Fn(i64) -> bool,
        wanted: Option<impl Fn(&str) -> bool>,
    ) -> io::Result<GetResult> {
        let answer = |status, next, min, max| GetResult { status, next, min, max, messages: Vec::new(), behind: 0 };
        let Some(queue) = queue else {
            return Ok(answer(GetStatus::NoMatchedLogicQueue, 0, 0, 0));
        };
        let (min, max) = (queue.min_offset(), queue.max_offset());
        Ok(match offset {
            _ if max == 0 => answer(GetStatus::NoMessageInQueue, 0, min, max),
            _ if offset < min => answer(GetStatus::OffsetTooSmall, min, min, max),
            _ if offset == max => answer(GetStatus::OffsetOverflowOne, offset, min, max),
            _ if offset > max => answer(GetStatus::OffsetOverflowBadly, max, min, max),
            _ => {
                let mut result = answer(GetStatus::NoMatchedMessage, offset, min, max);
                self.collect(queue, offset, limits, (matches, wanted), &mut result)?;
                result
            }
        })
    }

    fn collect(
        &self,
        queue: &Queue,
        offset: i64,
        limits: &GetLimits,
        (matches, wanted): (impl Fn(i64) -> bool, Option<impl Fn(&str) -> bool>),
        result: &mut GetResult,
    ) -> io::Result<()> {
        let visible = self.visible();
        let mut segment = None;
        let mut bytes = 0;
        let mut entries = [Entry::default(); READ_BATCH];
        let mut ends = if wanted.is_some() { (HEAD, TAIL) } else { (usize::MAX, 0) };
        'reads: while result.next < result.max && result.messages.len() < limits.messages.max(1) {
            // More than may be given only where some did not match.
            let want = if result.next > offset { READ_BATCH } else { READ_BATCH.min(limits.messages.max(1)) };
            let count = queue.read(result.next, &mut entries[..want])?;
            if count == 0 {
                if result.messages.is_empty() {
                    result.status = GetStatus::OffsetFoundNull;
                }
                break;
            }
            let mut ahead = entries[..count].iter();
            for (nth, entry) in entries[..count].iter().enumerate() {
                if (result.next - offset) as usize >= limits.scanned.max(limits.messages) {
                    break 'reads;
                }
                let behind = visible.saturating_sub(entry.offset as u64);
                let (max_messages, max_bytes) = limits.at(behind);
                let found = result.messages.len();
                if found > 0 && (found >= max_messages || bytes + entry.size as usize > max_bytes) {
                    break 'reads;
                }
                // An entry that does not match is not worth a fetch.
                let more = ahead.by_ref().take(if nth == 0 { AHEAD } else { 1 });
                for entry in more.filter(|entry| matches(entry.tags_code)) {
                    self.log.fetch(&mut segment, entry.offset as u64, entry.size as usize, ends);
                }
                result.next += 1;
                result.behind = behind;
                // Where the tags are not known the client looks at them, as it does anyway.
                if !queue_ext::is_address(entry.tags_code) && !matches(entry.tags_code) {
                    continue;
                }
                let record = self.log.near(&mut segment, entry.offset as u64, entry.size as usize);
                let properties = if wanted.is_some() { record.and_then(record::properties) } else { None };
                if let Some(properties) = properties {
                    // Messages of one queue resemble each other, and each line that is not fetched counts.
                    ends.1 = TAIL.min(properties.len() + queue.topic.len() + SLACK);
                }
                let unwanted = wanted.as_ref().is_some_and(|wanted| !properties.is_some_and(wanted));
                match record {
                    // Its body is not worth a look.
                    Some(_) if unwanted && properties.is_some() => {}
                    // Never given to anybody; the consumer goes on behind it.
                    Some(record) if !record::is_intact(record, entry.offset) => damaged(queue, entry, result.next - 1),
                    Some(_) if unwanted => {}
                    Some(_) => {
                        bytes += entry.size as usize;
                        result.messages.extend(self.log.read_near(&mut segment, entry.offset as u64, entry.size as usize));
                        result.status = GetStatus::Found;
                    }
                    None if found == 0 => result.status = GetStatus::MessageWasRemoving,
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// The record of the message at `offset` of a queue, whatever it holds; `None` where the log has it no longer.
    pub fn message(&self, queue: &Queue, offset: i64) -> io::Result<Option<Slice>> {
        Ok(queue.entry(offset)?.and_then(|entry| self.record(entry.offset as u64)))
    }

    /// The store time of the message at `offset` of a queue.
    pub fn store_timestamp(&self, queue: &Queue, offset: i64) -> Option<i64> {
        let record = self.message(queue, offset).ok()??;
        record::decode(record.bytes()).ok().map(|r| r.store_timestamp)
    }

    /// The store time of the first record that is kept.
    pub fn earliest_timestamp(&self) -> Option<i64> {
        let record = self.record(self.min_offset())?;
        record::decode(record.bytes()).ok().map(|r| r.store_timestamp)
    }

    /// The offset of a queue that belongs to a store time. Without a message so late (or so early) it is the end
    /// (or the start).
    pub fn offset_by_time(&self, queue: &Queue, timestamp: i64, boundary: Boundary) -> i64 {
        let (min, max) = (queue.min_offset(), queue.max_offset());
        let before = |offset| {
            let stored = self.store_timestamp(queue, offset).unwrap_or(i64::MIN);
            match boundary {
                Boundary::Lower => stored < timestamp,
                Boundary::Upper => stored <= timestamp,
            }
        };
        let (mut low, mut high) = (min, max);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        match boundary {
            Boundary::Lower => low,
            Boundary::Upper => (low - 1).max(min),
        }
    }
}
