//! What Java's broker goes by instead of the queue: `timerwheel` and `timerlog`. A clean stop writes them, so that Java can
//! take the directory over and delivers what is pending once; they are removed as soon as they are not true any more.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use protocol::record::MAGIC_BLANK;
use protocol::timer::SLOT_MS;

/// Slots of Java's wheel, which goes round in 14 days, of 32 bytes: `time:8 first:8 last:8 count:4 magic:4`.
const SLOTS: i64 = 7 * 86_400 * 2;
const SLOT_LENGTH: u64 = 32;
/// Slots ahead in which a timer may lie; later ones are looked at again then.
const MAX_AHEAD: i64 = SLOTS / 2 - 60;
/// An entry of the timer log: `size:4 previous:8 magic:4 written:8 delay:4 offset:8 size:4 topicHash:4 zeros:8`.
const UNIT: usize = 52;
/// A file of the timer log ends with `left:4 zeros:8 magic:4`.
const BLANK: usize = 16;
const DEFAULT: i32 = 1;
const ROLL: i32 = 2;

/// One message for the wheel.
pub struct Waiting {
    /// Its `TIMER_OUT_MS`.
    pub out: i64,
    pub offset: i64,
    pub size: i32,
    pub topic_hash: i32,
}

/// Writes both, message by message in the order of their queue.
pub struct Writer {
    wheel: File,
    log: PathBuf,
    file: Option<BufWriter<File>>,
    file_length: u64,
    position: u64,
    /// The slot of the moment, and how far ahead timers may be put.
    now: i64,
    window: i64,
}

/// Removes what Java or a clean stop has left.
pub fn remove(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Some("timerlog") => fs::remove_dir_all(entry.path())?,
            // Java may have snapshots of the wheel beside it, with a number behind the name.
            Some(name) if name.starts_with("timerwheel") => fs::remove_file(entry.path())?,
            _ => {}
        }
    }
    Ok(())
}

impl Writer {
    /// Begins both below the store's root. `file_length` is `mappedFileSizeTimerLog`, `window` is `timerRollWindowSlot`.
    pub fn create(root: &Path, file_length: u64, window: i64, now: i64) -> io::Result<Self> {
        remove(root)?;
        let log = root.join("timerlog");
        fs::create_dir_all(&log)?;
        let wheel = File::options().read(true).write(true).create_new(true).open(root.join("timerwheel"))?;
        wheel.set_len(SLOTS as u64 * SLOT_LENGTH)?;
        let window = if (2..=MAX_AHEAD).contains(&window) { window } else { MAX_AHEAD };
        Ok(Self { wheel, log, file: None, file_length, position: 0, now: now / SLOT_MS, window })
    }

    pub fn push(&mut self, waiting: &Waiting) -> io::Result<()> {
        let (slot, magic) = match waiting.out / SLOT_MS {
            slot if slot - self.now >= self.window => (self.now + self.window, DEFAULT | ROLL),
            slot => (slot, DEFAULT),
        };
        let at = (slot % SLOTS) as u64 * SLOT_LENGTH;
        let mut bytes = [0; SLOT_LENGTH as usize];
        self.wheel.read_exact_at(&mut bytes, at)?;
        let number = |nth: usize| bytes.as_chunks().0.get(nth).map_or(0, |part| i64::from_be_bytes(*part));
        let (first, last, count) = match number(0) {
            time if time == slot => (Some(number(1)), number(2), (number(3) >> 32) as i32),
            _ => (None, -1, 0),
        };
        let position = self.append(waiting, slot, magic, last)?;
        bytes[..8].copy_from_slice(&slot.to_be_bytes());
        bytes[8..16].copy_from_slice(&first.unwrap_or(position).to_be_bytes());
        bytes[16..24].copy_from_slice(&position.to_be_bytes());
        bytes[24..28].copy_from_slice(&(count + 1).to_be_bytes());
        self.wheel.write_all_at(&bytes, at)
    }

    /// Notes the message that was read last, which is how Java finds where to read on. Its slot is over.
    pub fn finish(&mut self, last: &Waiting, read_time: i64) -> io::Result<()> {
        self.append(last, read_time / SLOT_MS - 1, DEFAULT, -1)?;
        if let Some(file) = self.file.take() {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        self.wheel.sync_all()?;
        File::open(&self.log)?.sync_all()
    }

    fn append(&mut self, waiting: &Waiting, slot: i64, magic: i32, previous: i64) -> io::Result<i64> {
        let left = self.file_length - self.position % self.file_length;
        if left < (UNIT + BLANK) as u64 {
            let blank = [&(left as i32).to_be_bytes()[..], &[0; 8], &MAGIC_BLANK.to_be_bytes()].concat();
            if let Some(mut file) = self.file.take() {
                file.write_all(&blank)?;
                file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            }
            self.position += left;
        }
        if self.file.is_none() {
            let file = File::create_new(self.log.join(format!("{:020}", self.position)))?;
            file.set_len(self.file_length)?;
            self.file = Some(BufWriter::new(file));
        }
        let position = self.position as i64;
        let written = self.now * SLOT_MS;
        let mut unit = Vec::with_capacity(UNIT);
        unit.extend((UNIT as i32).to_be_bytes());
        unit.extend(previous.to_be_bytes());
        unit.extend(magic.to_be_bytes());
        unit.extend(written.to_be_bytes());
        unit.extend(((slot * SLOT_MS - written) as i32).to_be_bytes());
        unit.extend(waiting.offset.to_be_bytes());
        unit.extend(waiting.size.to_be_bytes());
        unit.extend(waiting.topic_hash.to_be_bytes());
        unit.extend([0; 8]);
        if let Some(file) = &mut self.file {
            file.write_all(&unit)?;
        }
        self.position += UNIT as u64;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize) -> i64 {
        i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The messages of a slot as Java reads them: from its last entry back to the first.
    fn chain(root: &Path, slot: i64, file_length: u64) -> Vec<(i64, i32)> {
        let wheel = fs::read(root.join("timerwheel")).unwrap();
        assert_eq!(wheel.len() as i64, SLOTS * 32);
        let at = (slot % SLOTS * 32) as usize;
        if number(&wheel, at) != slot {
            return Vec::new();
        }
        let (first, mut position) = (number(&wheel, at + 8), number(&wheel, at + 16));
        let count = number(&wheel, at + 24) >> 32;
        let mut found = Vec::new();
        while position >= 0 {
            let base = position as u64 / file_length * file_length;
            let file = fs::read(root.join("timerlog").join(format!("{base:020}"))).unwrap();
            assert_eq!(file.len() as u64, file_length);
            let unit = &file[(position as u64 - base) as usize..];
            let magic = (number(unit, 8) & 0xFFFF_FFFF) as i32;
            let due = number(unit, 16) + i64::from(i32::from_be_bytes(unit[24..28].try_into().unwrap()));
            assert_eq!((i32::from_be_bytes(unit[..4].try_into().unwrap()), due), (52, slot * 1000));
            found.push((number(unit, 28), magic));
            let previous = number(unit, 4);
            assert!(previous >= 0 || position == first);
            position = previous;
        }
        assert_eq!(found.len() as i64, count);
        found
    }

    #[test]
    fn java_finds_each_message_in_its_slot() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("timerwheel.77"), "a snapshot").unwrap();
        let now = 1_700_000_000_123;
        let mut writer = Writer::create(root.path(), 300, 1000, now).unwrap();
        // Five entries fit a file of 300 bytes.
        for nth in 0..12 {
            let out = now + nth % 3 * 1000;
            writer.push(&Waiting { out, offset: nth, size: 100, topic_hash: 7 }).unwrap();
        }
        writer.push(&Waiting { out: now + 2_000_000, offset: 99, size: 100, topic_hash: 7 }).unwrap();
        writer.finish(&Waiting { out: 0, offset: 50, size: 100, topic_hash: 0 }, now).unwrap();
        let slot = now / 1000;
        let chain = |slot| chain(root.path(), slot, 300);
        assert_eq!(chain(slot), [(9, 1), (6, 1), (3, 1), (0, 1)]);
        assert_eq!(chain(slot + 2), [(11, 1), (8, 1), (5, 1), (2, 1)]);
        assert_eq!(chain(slot + 1000), [(99, 3)]);
        assert_eq!(chain(slot + 2000), []);
        assert_eq!(fs::read_dir(root.path().join("timerlog")).unwrap().count(), 3);
        assert!(!root.path().join("timerwheel.77").exists());
        let full = fs::read(root.path().join("timerlog").join(format!("{:020}", 0))).unwrap();
        assert_eq!(full[260..276], [&40i32.to_be_bytes()[..], &[0; 8], &0xCBD4_3194u32.to_be_bytes()].concat());
        remove(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
