//! The log as a slave has it: whole records of what the master sends are written as they are. What is derived from them is
//! derived in the same place as on the master.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::record::{self, BLANK_LENGTH, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, Record};

use crate::index::{self, Key};
use crate::log::Slice;
use crate::{AppendError, Pending, Store, Tail, Watermarks, Woken};

/// A record or a blank that is longer is none: so much of one is kept in memory at the most until the rest comes.
const MAX_LENGTH: u32 = 256 << 20;

/// Why bytes of a master were not taken.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("this broker is no slave any more")]
    NoCopy,
    #[error("reading what was copied: {0}")]
    Io(#[from] io::Error),
    #[error("the master sends its log from {offset} on, and this one ends at {end}")]
    Apart { offset: u64, end: u64 },
    #[error(
        "the master's log is another one than this slave's at {position}, and may be since long before: the master has lost \
         what it had sent, or is not the one whose log this is. Move this slave's store away and start it again to copy the \
         master's"
    )]
    Differs { position: u64 },
    #[error(
        "the master's commit log files are not as long as this slave's, {segment} bytes: a file of the master's ends at or \
         across {position}. Set mappedFileSizeCommitLog to what the master has"
    )]
    OtherFileSize { position: u64, segment: u64 },
    #[error(
        "what the master sends at {position} is no record ({reason}): the two logs are not copies of each other below it, or \
         the master's is damaged there (storeCheck on it tells)"
    )]
    NoRecord { position: u64, reason: String },
}

impl Store {
    /// Makes the log a copy: it takes no messages any more, but what a master sends.
    pub fn begin_copy(&self) {
        // An append that has begun is in the log before this returns.
        let _tail = self.tail.lock();
        self.copies.store(true, Ordering::Relaxed);
    }

    /// Makes a copy a log that takes messages. Returns where it ends.
    pub fn end_copy(&self) -> u64 {
        let tail = self.tail.lock();
        self.copies.store(false, Ordering::Relaxed);
        tail.marks.written()
    }

    /// Bytes of the log from `offset` on that slaves may be sent: at most `most`, of one file. `None` where there are none.
    pub fn log_bytes(&self, offset: u64, most: usize) -> Option<Slice> {
        let segment = self.log.segment(offset)?;
        let end = self.visible().min(segment.base + segment.length);
        let length = usize::try_from(end.checked_sub(offset)?).ok()?.min(most);
        self.log.read(offset, length).filter(|slice| !slice.bytes().is_empty())
    }

    /// The offset of the file in which the log ends.
    pub fn last_file(&self) -> u64 {
        let visible = self.visible();
        visible - visible % self.log.segment_length()
    }

    /// The offset below which a slave has what it tells its master: what the disk has confirmed with
    /// [`crate::Policy::Persisted`], what was written without.
    pub fn copied(&self) -> u64 {
        self.tail.lock().marks.visible()
    }

    /// From where a copy asks for more of the log: it is sent its last message once more, and sees whether the master has
    /// the same there. Java's masters take 0 for a slave without a log.
    pub fn copied_from(&self) -> u64 {
        let tail = self.tail.lock();
        let end = tail.marks.written();
        tail.last.map_or(end, |last| last.max(1)).min(end)
    }

    /// Appends the whole records of what a master has at `offset` of its log, where this one ends; a log without any file
    /// begins at `offset`. What it has already must be the same. Returns the offset up to which that is taken, and the queues
    /// whose watchers are to be told.
    pub fn append_copied(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(u64, Woken), CopyError> {
        let mut tail = self.tail.lock();
        if !self.copies.load(Ordering::Relaxed) {
            return Err(CopyError::NoCopy);
        }
        self.check_open()?;
        let end = tail.marks.written();
        while offset < end && !bytes.is_empty() {
            let segment = self.log.segment(offset).ok_or(CopyError::Apart { offset, end })?;
            let length = (end.min(segment.base + segment.length) - offset).min(bytes.len() as u64) as usize;
            let (again, rest) = bytes.split_at(length);
            let own = &segment.bytes()?[(offset - segment.base) as usize..][..length];
            if let Some(at) = (0..length).find(|at| own[*at] != again[*at]) {
                return Err(CopyError::Differs { position: offset + at as u64 });
            }
            (offset, bytes) = (offset + length as u64, rest);
        }
        if bytes.is_empty() {
            return Ok((offset, Woken::new()));
        }
        if offset != end {
            let empty = end == 0 && self.log.all().is_empty();
            if !empty || !offset.is_multiple_of(self.log.segment_length()) {
                return Err(CopyError::Apart { offset, end });
            }
            tail.marks = Watermarks::new(self.options.policy, offset);
        }
        let (length, follows) = self.whole_records(offset, bytes);
        self.write_copied(&mut tail, offset, &bytes[..length])?;
        let mut whole = offset;
        let read = self.read_copied(&mut tail, &mut whole, &bytes[..length]);
        tail.marks.advance_written(whole);
        let woken = self.derive(&mut tail);
        read.and(follows).map(|()| (whole, woken))
    }

    /// How many bytes of what a master has at `offset` are whole records, and whether a record may follow.
    fn whole_records(&self, offset: u64, bytes: &[u8]) -> (usize, Result<(), CopyError>) {
        let segment = self.log.segment_length();
        let mut whole = 0;
        loop {
            let (position, rest) = (offset + whole as u64, &bytes[whole..]);
            let file_end = (position / segment + 1) * segment;
            let known = rest.len().min((file_end - position) as usize);
            let other_file_size = Err(CopyError::OtherFileSize { position, segment });
            if known < BLANK_LENGTH {
                return (whole, if known < rest.len() || position + known as u64 == file_end { other_file_size } else { Ok(()) });
            }
            let Some((total, magic)) = record::peek(rest) else { return (whole, Ok(())) };
            let possible = (BLANK_LENGTH as u32..=MAX_LENGTH).contains(&total);
            if !possible || !matches!(magic, MAGIC_V1 | MAGIC_V2 | MAGIC_BLANK) {
                let reason = format!("length {total}, magic {magic:#010x}");
                return (whole, Err(CopyError::NoRecord { position, reason }));
            }
            let next = position + u64::from(total);
            if next > file_end || magic == MAGIC_BLANK && next != file_end {
                return (whole, other_file_size);
            }
            if total as usize > rest.len() {
                return (whole, Ok(()));
            }
            whole += total as usize;
        }
    }

    fn write_copied(&self, tail: &mut Tail, offset: u64, mut bytes: &[u8]) -> Result<(), AppendError> {
        let length = self.log.segment_length();
        let mut position = offset;
        while !bytes.is_empty() {
            let at = position % length;
            let (now, later) = bytes.split_at((length - at).min(bytes.len() as u64) as usize);
            let segment = self.segment_for(tail, position - at)?;
            self.reserve(&segment, at + now.len() as u64)?;
            segment.write(at, now).map_err(|e| self.set_fence(&format!("writing {}", segment.path().display()), &e))?;
            position += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Has records that were written at `whole` wait to be visible, and moves it behind each.
    fn read_copied(&self, tail: &mut Tail, whole: &mut u64, mut records: &[u8]) -> Result<(), CopyError> {
        while let Some((total, magic)) = record::peek(records) {
            let (now, later) = records.split_at(total as usize);
            let position = *whole;
            if magic != MAGIC_BLANK {
                let no_record = |reason: String| CopyError::NoRecord { position, reason };
                let record = record::decode(now).map_err(|error| no_record(error.to_string()))?;
                if record.physical_offset != position as i64 {
                    return Err(no_record(format!("it says that its offset is {}", record.physical_offset)));
                }
                self.take_copied(tail, &record, position, u64::from(total))?;
                tail.last = Some(position);
            }
            (*whole, records) = (position + u64::from(total), later);
        }
        Ok(())
    }

    fn take_copied(&self, tail: &mut Tail, record: &Record<'_>, position: u64, length: u64) -> io::Result<()> {
        if let Some((queue, entry)) = self.entry(record, position, length)? {
            let offset = record.queue_offset;
            if offset < queue.next_offset() {
                // What waits to be visible in it was deleted on the master, too.
                tail.pending.retain(|pending| !Arc::ptr_eq(&pending.queue, &queue));
                tail.entries -= queue.rewind(offset)?;
            }
            queue.set_next_offset(offset + 1);
            tail.pending.push_back(Pending { end: position + length, queue, offset, entry });
        }
        if self.index.is_some() {
            index::hashes(record, |hash| tail.keys.push_back(Key::new(hash, position, record.store_timestamp)));
        }
        tail.timestamp = tail.timestamp.max(record.store_timestamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::tests::{SEGMENT, open, send};
    use crate::{Batch, GetLimits, GetStatus, Policy};

    fn roots() -> (TempDir, TempDir) {
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    fn fill(master: &Store, topic: &str, numbers: std::ops::Range<i32>) {
        for number in numbers {
            let body = vec![b'a' + (number % 26) as u8; 10 + number as usize * 37 % 300];
            send(master, topic, number % 3, &body, i64::from(number));
        }
    }

    /// Copies what the slave lacks, in pieces of `cut` bytes.
    fn copy(master: &Store, slave: &Store, cut: usize) -> Result<(), CopyError> {
        slave.begin_copy();
        let (mut offset, mut begun) = (slave.written_and_persisted().0.max(master.min_offset()), Vec::new());
        while let Some(slice) = master.log_bytes(offset + begun.len() as u64, cut) {
            begun.extend_from_slice(slice.bytes());
            let (end, _) = slave.append_copied(offset, &begun)?;
            begun.drain(..(end - offset) as usize);
            offset = end;
        }
        Ok(())
    }

    fn same(master: &Store, slave: &Store) {
        assert_eq!(slave.visible(), master.visible());
        let files = |store: &Store| {
            let kept = store
                .log
                .all()
                .into_iter()
                .filter(|segment| segment.base >= slave.min_offset() && segment.base < store.visible());
            kept.map(|segment| (segment.base, segment.bytes().unwrap().to_vec())).collect::<Vec<_>>()
        };
        assert!(files(master) == files(slave), "the logs differ");
        for queue in master.queues() {
            let other = slave.find_queue(&queue.topic, queue.id).unwrap();
            assert_eq!((other.max_offset(), other.next_offset()), (queue.max_offset(), queue.next_offset()));
            let limits = GetLimits {
                messages: 1000,
                bytes: usize::MAX,
                cold_messages: 1000,
                cold_bytes: usize::MAX,
                cold_distance: u64::MAX,
                scanned: 1000,
            };
            let read = |store: &Store, queue| {
                let from = other.min_offset();
                store.get(Some(queue), from, &limits, |_| true, crate::ANY).map(|r| (r.status, r.messages.len())).unwrap()
            };
            assert_eq!(read(slave, &other), read(master, &queue));
            assert_eq!(read(slave, &other).0, GetStatus::Found);
        }
    }

    #[test]
    fn a_copy_is_the_same_bytes_and_has_the_same_queues_however_it_is_cut() {
        for policy in [Policy::Written, Policy::Persisted] {
            for cut in [1, 7, 100, 4095, 100_000] {
                let (here, there) = roots();
                let (master, slave) = (open(&here, Policy::Written), open(&there, policy));
                fill(&master, "T", 0..60);
                copy(&master, &slave, cut).unwrap();
                let kept = if policy == Policy::Written { slave.written_and_persisted().0 } else { 0 };
                assert_eq!((slave.copied(), slave.visible()), (kept, kept));
                slave.sync().unwrap();
                same(&master, &slave);
                assert_eq!(slave.query("T", "k", 9, 0, i64::MAX).unwrap().len(), 0);
                slave.checkpoint().unwrap();
                fill(&master, "U", 60..90);
                copy(&master, &slave, cut).unwrap();
                drop(slave);
                let slave = open(&there, policy);
                same(&master, &slave);
                assert_eq!(slave.recovered().cut, None);
            }
        }
    }

    #[test]
    fn a_copy_takes_no_messages_of_its_own_until_it_is_none() {
        let (here, there) = roots();
        let (master, slave) = (open(&here, Policy::Written), open(&there, Policy::Written));
        fill(&master, "T", 0..9);
        copy(&master, &slave, 50).unwrap();
        assert!(matches!(slave.append(&mut Batch::default(), 1), Err(AppendError::Copy)));
        let end = slave.visible();
        fill(&master, "T", 9..10);
        assert_eq!(slave.append_copied(end, master.log_bytes(end, 60).unwrap().bytes()).unwrap().0, end);
        let next = slave.log.read(end, 60).unwrap();
        assert!(next.bytes().iter().all(|byte| *byte == 0), "half a record is not written");
        assert_eq!((slave.end_copy(), slave.written_and_persisted().0), (end, end));
        assert!(matches!(slave.append_copied(end, b"x"), Err(CopyError::NoCopy)));
        let (place, _) = send(&slave, "T", 0, b"mine", 100);
        assert_eq!((place.physical_offset, place.queue_offset), (end, 3));
    }

    #[test]
    fn what_a_new_master_does_not_have_is_put_aside() {
        let (here, there) = roots();
        let (old, new) = (open(&here, Policy::Written), open(&there, Policy::Written));
        fill(&old, "T", 0..30);
        copy(&old, &new, 1000).unwrap();
        let parting = new.end_copy();
        fill(&old, "T", 30..60);
        fill(&new, "T", 60..70);
        old.close().unwrap();
        let (end, options) = (old.visible(), old.options.clone());
        drop(old);
        assert!(crate::cut(&options, parting, |_| Ok(())).unwrap() > 0);
        let again = crate::cut(&options, parting, |_| panic!("nothing is to be changed"));
        assert_eq!(again.unwrap(), 0, "once is enough");
        let old = open(&here, Policy::Written);
        assert_eq!(old.visible(), parting);
        let mut aside: Vec<_> = std::fs::read_dir(here.path().join("cut")).unwrap().map(|e| e.unwrap().path()).collect();
        aside.sort();
        let bytes: u64 = aside.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
        assert!(aside.len() > 1 && bytes >= end - parting, "{aside:?}");
        copy(&new, &old, 1000).unwrap();
        same(&new, &old);
    }

    #[test]
    fn a_record_of_which_a_stop_took_the_rest_is_copied_again() {
        let (here, there) = roots();
        let master = open(&here, Policy::Written);
        fill(&master, "T", 0..5);
        let all = master.log_bytes(0, usize::MAX).unwrap();
        for missing in [20, 3, 1] {
            let half = all.bytes().len() - missing;
            let slave = open(&there, Policy::Written);
            slave.begin_copy();
            let from = slave.visible();
            slave.append_copied(from, &all.bytes()[from as usize..half]).unwrap();
            assert!(slave.visible() < half as u64);
        }
        let slave = open(&there, Policy::Written);
        assert!(slave.visible() < all.bytes().len() as u64, "the last byte is missing");
        copy(&master, &slave, 64).unwrap();
        same(&master, &slave);
    }

    #[test]
    fn an_empty_copy_can_begin_at_a_later_file() {
        let (here, there) = roots();
        let (master, slave) = (open(&here, Policy::Written), open(&there, Policy::Written));
        fill(&master, "T", 0..60);
        let from = master.last_file();
        assert!(from >= SEGMENT);
        slave.begin_copy();
        assert!(matches!(slave.append_copied(from + 1, b"x"), Err(CopyError::Apart { .. })));
        slave.append_copied(from, master.log_bytes(from, usize::MAX).unwrap().bytes()).unwrap();
        assert_eq!((slave.min_offset(), slave.visible()), (from, master.visible()));
        let (mine, theirs) = (slave.find_queue("T", 0).unwrap(), master.find_queue("T", 0).unwrap());
        assert_eq!(mine.max_offset(), theirs.max_offset());
        assert!(mine.min_offset() > 0);
        slave.close().unwrap();
        drop(slave);
        let slave = open(&there, Policy::Written);
        assert_eq!((slave.recovered().messages, slave.find_queue("T", 0).unwrap().min_offset()), (0, mine.min_offset()));
    }

    #[test]
    fn a_topic_that_was_made_anew_on_the_master_begins_anew_here() {
        let (here, there) = roots();
        let (master, slave) = (open(&here, Policy::Written), open(&there, Policy::Persisted));
        fill(&master, "T", 0..30);
        copy(&master, &slave, 1000).unwrap();
        slave.sync().unwrap();
        fill(&master, "T", 30..40);
        copy(&master, &slave, 1000).unwrap();
        master.delete_topic("T").unwrap();
        fill(&master, "T", 40..46);
        copy(&master, &slave, 1000).unwrap();
        slave.sync().unwrap();
        same(&master, &slave);
        slave.close().unwrap();
        drop(slave);
        let slave = open(&there, Policy::Persisted);
        assert_eq!(slave.recovered().messages, 0, "the checkpoint counts the queues' entries right");
    }

    #[test]
    fn what_is_no_copy_is_refused_and_dropped() {
        let (here, there) = roots();
        let (master, slave) = (open(&here, Policy::Written), open(&there, Policy::Written));
        fill(&master, "T", 0..5);
        copy(&master, &slave, 1000).unwrap();
        let end = slave.visible();
        assert!(matches!(slave.append_copied(end + 1, b"x"), Err(CopyError::Apart { .. })));
        let Err(CopyError::NoRecord { position, .. }) = slave.append_copied(end, &[7; 100]) else { panic!("taken") };
        assert_eq!((position, slave.written_and_persisted().0), (end, end));
        let first = master.log_bytes(0, 400).unwrap();
        assert!(matches!(slave.append_copied(end, first.bytes()), Err(CopyError::NoRecord { .. })), "of another place");
        let blank = crate::log::blank(50);
        assert!(matches!(slave.append_copied(end, &blank), Err(CopyError::OtherFileSize { .. })));
        fill(&master, "T", 5..50);
        copy(&master, &slave, 1000).unwrap();
        same(&master, &slave);
    }
}
