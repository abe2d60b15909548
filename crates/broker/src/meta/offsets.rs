//! How far each consumer group has come in each queue: `config/consumerOffset.json`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use protocol::bodies::{ConsumerOffsets, DataVersion};

use crate::meta::table;

/// Between topic and group in the file's keys.
const SEPARATOR: char = '@';

#[derive(Default)]
struct State {
    committed: HashMap<String, BTreeMap<i32, i64>>,
    /// How far the members have read; only in memory.
    pulled: HashMap<String, BTreeMap<i32, i64>>,
    version: DataVersion,
    changed: bool,
}

/// Committed offsets by `topic@group` and queue.
pub struct Offsets {
    path: PathBuf,
    state: Mutex<State>,
}

fn key(topic: &str, group: &str) -> String {
    format!("{topic}{SEPARATOR}{group}")
}

impl Offsets {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file: ConsumerOffsets = table::load(&path)?;
        let committed = file.offset_table.into_iter().collect();
        Ok(Self { path, state: Mutex::new(State { committed, version: file.data_version, ..State::default() }) })
    }

    /// Commits an offset; a smaller one than before is accepted, as consumers may go back.
    pub fn commit(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        let mut state = self.state.lock();
        let old = state.committed.entry(key(topic, group)).or_default().insert(queue, offset);
        state.changed |= old != Some(offset);
    }

    pub fn committed(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.state.lock().committed.get(&key(topic, group))?.get(&queue).copied()
    }

    /// Notes how far a member has read.
    pub fn pulled(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        self.state.lock().pulled.entry(key(topic, group)).or_default().insert(queue, offset);
    }

    pub fn last_pulled(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.state.lock().pulled.get(&key(topic, group))?.get(&queue).copied()
    }

    /// Topics in which a group has committed offsets.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        self.keys(|_, g| g == group).into_iter().map(|(topic, _)| topic).collect()
    }

    /// Groups that have committed offsets in a topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        self.keys(|t, _| t == topic).into_iter().map(|(_, group)| group).collect()
    }

    fn keys(&self, keep: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
        let state = self.state.lock();
        let pairs = state.committed.keys().filter_map(|key| key.split_once(SEPARATOR));
        let mut kept: Vec<_> = pairs.filter(|(t, g)| keep(t, g)).map(|(t, g)| (t.to_owned(), g.to_owned())).collect();
        kept.sort();
        kept
    }

    /// Forgets the offsets whose topic and group `gone` names.
    pub fn remove(&self, gone: impl Fn(&str, &str) -> bool) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let stays = |key: &String| key.split_once(SEPARATOR).is_none_or(|(topic, group)| !gone(topic, group));
        let before = state.committed.len();
        state.committed.retain(|key, _| stays(key));
        state.pulled.retain(|key, _| stays(key));
        state.changed |= state.committed.len() != before;
    }

    pub fn all(&self) -> ConsumerOffsets {
        let state = self.state.lock();
        let offset_table = state.committed.iter().map(|(key, queues)| (key.clone(), queues.clone())).collect();
        ConsumerOffsets { data_version: state.version.clone(), offset_table }
    }

    /// Writes the file where something changed since the last time.
    pub fn save(&self, now: i64) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.version.advance(now);
        }
        table::save(&self.path, &self.all()).inspect_err(|_| self.state.lock().changed = true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_in_javas_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consumerOffset.json");
        std::fs::write(&path, "{\n\t\"offsetTable\":{\"T@g\":{0:12,3:4}}}").unwrap();
        let offsets = Offsets::open(path.clone()).unwrap();
        assert_eq!(offsets.committed("T", "g", 3), Some(4));
        offsets.commit("T", "g", 0, 13);
        offsets.commit("%RETRY%g", "g", 0, 1);
        offsets.save(7).unwrap();
        let again = Offsets::open(path).unwrap();
        assert_eq!(again.all(), offsets.all());
        assert_eq!(again.topics_of("g"), ["%RETRY%g", "T"]);
        assert_eq!(again.groups_of("T"), ["g"]);
        again.remove(|topic, _| topic == "T");
        assert_eq!(again.committed("T", "g", 0), None);
    }
}
