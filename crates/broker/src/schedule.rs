//! Delayed messages by level: each level is a queue of SCHEDULE_TOPIC_XXXX whose entries hold the time at which
//! the message is due; since a level's delay is constant, they are due in their order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use protocol::bodies::DataVersion;
use protocol::record::{self, Record};
use protocol::{fastjson, names, properties};
use serde::{Deserialize, Serialize};
use store::queue::Entry;
use store::{Batch, Store, queue_ext};

use crate::meta::table;

/// Java's file below the store's root.
const FILE: &str = "config/delayOffset.json";
/// Messages delivered from one level in one go, and the bytes from which on no further one is added.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// `config/delayOffset.json`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    data_version: DataVersion,
    offset_table: BTreeMap<i32, i64>,
}

/// The delay levels and how far each has been delivered.
pub struct Schedule {
    path: PathBuf,
    /// Delays in ms; level 1 is the first.
    levels: Vec<i64>,
    state: Mutex<State>,
}

struct State {
    /// Up to where each level is delivered.
    delivered: BTreeMap<i32, i64>,
    /// The same, as far as the disk has what was delivered: what a crash takes away is to be delivered again.
    file: File,
    /// What is not in `file` yet: the log's end behind what was delivered, the level, and up to where.
    unconfirmed: VecDeque<(u64, i32, i64)>,
}

/// Where a delayed message waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Delay {
    pub queue_id: i32,
    pub deliver_at: i64,
}

/// Reads `messageDelayLevel`: delays such as `1s 5m 2h 1d`, separated by blanks.
pub fn parse_levels(text: &str) -> Result<Vec<i64>, String> {
    text.split_whitespace()
        .map(|word| {
            let (digits, unit) = word.split_at(word.len() - word.chars().next_back().map_or(0, char::len_utf8));
            let unit = match unit {
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(format!("{word:?} does not end in s, m, h or d")),
            };
            let count: i64 = digits.parse().map_err(|_| format!("{word:?} does not begin with a number"))?;
            count.checked_mul(unit).ok_or_else(|| format!("{word:?} is too long"))
        })
        .collect()
}

impl Schedule {
    pub fn open(root: &Path, levels: Vec<i64>) -> io::Result<Self> {
        let path = root.join(FILE);
        let file: File = table::load(&path)?;
        let delivered = file.offset_table.clone();
        Ok(Self { path, levels, state: Mutex::new(State { delivered, file, unconfirmed: VecDeque::new() }) })
    }

    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Where a message of a delay level waits, with its own topic and queue noted in its properties. `None` where the
    /// level asks for no delay; a level over the highest is the highest.
    pub fn place(&self, level: i32, now: i64, topic: &str, queue_id: i32, text: &mut String) -> Option<Delay> {
        if level <= 0 || self.levels.is_empty() {
            return None;
        }
        let level = (level as usize).min(self.levels.len());
        properties::push(text, properties::REAL_TOPIC, topic);
        properties::push(text, properties::REAL_QUEUE_ID, &queue_id.to_string());
        Some(Delay { queue_id: level as i32 - 1, deliver_at: now + self.levels[level - 1] })
    }

    /// `delayOffset.json` as it would be written now.
    pub fn file(&self) -> Vec<u8> {
        fastjson::to_vec(&self.state.lock().file)
    }

    /// How far each level is delivered, as far as the disk has that or the master said so.
    pub fn confirmed(&self) -> BTreeMap<i32, i64> {
        self.state.lock().file.offset_table.clone()
    }

    /// How many messages wait in a level, and up to which offset it has been delivered.
    pub fn progress(&self, store: &Store, level: usize) -> (i64, i64) {
        let delivered = self.delivered_to(level);
        let max = store.find_queue(names::SCHEDULE_TOPIC, level as i32 - 1).map_or(0, |q| q.max_offset());
        (delivered, max)
    }

    fn delivered_to(&self, level: usize) -> i64 {
        self.state.lock().delivered.get(&(level as i32)).copied().unwrap_or(0)
    }

    /// Fills a batch with what is due in a level. Returns the offset up to which the level is delivered once the
    /// batch is appended, or `None` where nothing is due.
    pub fn due(&self, store: &Store, level: usize, now: i64, batch: &mut Batch) -> io::Result<Option<i64>> {
        let Some(queue) = store.find_queue(names::SCHEDULE_TOPIC, level as i32 - 1) else { return Ok(None) };
        let from = self.delivered_to(level).max(queue.min_offset());
        let mut entries = [Entry::default(); BATCH];
        let count = queue.read(from, &mut entries)?;
        let delay = self.levels[level - 1];
        // Where Java's extended queue has lost the time, the level counts from when the message was stored.
        let time = |(nth, entry): (usize, &Entry)| match queue_ext::is_address(entry.tags_code) {
            true => store.store_timestamp(&queue, from + nth as i64).map_or(0, |stored| stored + delay),
            false => entry.tags_code,
        };
        // A clock that went back must not keep messages longer than their level says.
        let is_due = |time: &i64| *time <= now || *time > now + delay;
        let due = entries[..count].iter().enumerate().map(time).take_while(is_due).count();
        let mut taken = 0;
        for entry in &entries[..due] {
            if batch.bytes() >= BATCH_BYTES {
                break;
            }
            taken += 1;
            let Some(slice) = store.record(entry.offset as u64) else { continue };
            match record::decode_checked(slice.bytes()) {
                Ok(record) => deliver(store, &record, batch)?,
                Err(error) => tracing::error!("a delayed message at {} can't be read and is passed over: {error}", entry.offset),
            }
        }
        Ok((taken > 0).then_some(from + taken))
    }

    /// Notes that a level was delivered up to `offset`, with records that end at `end` of the log.
    pub fn delivered(&self, level: usize, offset: i64, end: u64) {
        let mut state = self.state.lock();
        state.delivered.insert(level as i32, offset);
        state.unconfirmed.push_back((end, level as i32, offset));
    }

    /// Becomes what the master has, and gives that.
    pub fn replace(&self, text: &[u8]) -> Result<BTreeMap<i32, i64>, serde_json::Error> {
        let file: File = fastjson::from_slice(text)?;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let changed = file.offset_table.iter().filter(|(level, offset)| state.delivered.get(level) != Some(offset));
        // The disk need confirm nothing: the master has delivered them.
        state.unconfirmed.extend(changed.map(|(level, offset)| (0, *level, *offset)));
        state.delivered = file.offset_table;
        Ok(state.delivered.clone())
    }

    /// Writes the file where something changed since the last time and the disk has the log up to `persisted`.
    pub fn save(&self, now: i64, persisted: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let confirmed = state.unconfirmed.iter().take_while(|(end, ..)| *end <= persisted).count();
        if confirmed == 0 {
            return Ok(());
        }
        let mut file = state.file.clone();
        file.offset_table.extend(state.unconfirmed.iter().take(confirmed).map(|(_, level, offset)| (*level, *offset)));
        file.data_version.advance(now);
        table::save(&self.path, &file)?;
        state.unconfirmed.drain(..confirmed);
        state.file = file;
        Ok(())
    }
}

/// Has a broker that is not open deliver its levels from these offsets on.
pub fn go_back(root: &Path, offset_table: BTreeMap<i32, i64>) -> io::Result<()> {
    let path = root.join(FILE);
    let file: File = table::load(&path)?;
    table::save(&path, &File { offset_table, ..file })
}

/// Puts a message that waited back on its own topic.
fn deliver(store: &Store, waiting: &Record<'_>, batch: &mut Batch) -> io::Result<()> {
    let (Some(topic), Some(queue_id)) = (
        properties::get(waiting.properties, properties::REAL_TOPIC),
        properties::get(waiting.properties, properties::REAL_QUEUE_ID).and_then(|id| id.parse().ok()),
    ) else {
        tracing::error!("a delayed message at {} names no topic and is passed over", waiting.physical_offset);
        return Ok(());
    };
    let text = properties::without(waiting.properties, &[properties::DELAY, properties::REAL_TOPIC, properties::REAL_QUEUE_ID]);
    let record = Record { topic, queue_id, properties: &text, ..waiting.clone() };
    batch.push(store.queue(topic, queue_id)?, &record, store::tags_code(&text), 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_with_their_units() {
        assert_eq!(parse_levels("1s 5m 2h 1d").unwrap(), [1000, 300_000, 7_200_000, 86_400_000]);
        assert!(parse_levels("1s x5").unwrap_err().contains("x5"));
        assert!(parse_levels("ms").is_err());
    }
}
