//! How far each consumer group has come in each queue: `config/consumerOffset.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use protocol::bodies::{ConsumerOffsets, DataVersion};
use protocol::names;

use crate::meta::table;

/// Java's file below the store's root.
pub const FILE: &str = "config/consumerOffset.json";
/// Between topic and group in the file's keys.
const SEPARATOR: char = '@';
/// Offsets by `topic@group` and queue.
pub type OffsetTable = BTreeMap<String, BTreeMap<i32, i64>>;

#[derive(Default)]
struct State {
    committed: HashMap<String, BTreeMap<i32, i64>>,
    /// How far the members have read; only in memory.
    pulled: HashMap<String, BTreeMap<i32, i64>>,
    /// Where groups were moved to and have not pulled since; only in memory.
    reset: HashMap<String, BTreeMap<i32, i64>>,
    version: DataVersion,
    changed: bool,
    /// On a slave: what was committed here, and not to the master, which is to get it back.
    own: BTreeSet<(String, i32)>,
}

/// An offset that a consumer committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub topic: String,
    pub group: String,
    pub queue: i32,
    pub offset: i64,
}

/// Committed offsets by `topic@group` and queue.
pub struct Offsets {
    path: PathBuf,
    state: Mutex<State>,
    /// Whether there is any reset: every pull asks.
    resets: AtomicBool,
}

pub fn key(topic: &str, group: &str) -> String {
    format!("{topic}{SEPARATOR}{group}")
}

/// Whether a key is of a group of the broker's own: how far it has resolved half messages and pops.
fn is_of_broker(key: &str) -> bool {
    key.split_once(SEPARATOR).is_some_and(|(_, group)| names::is_system_group(group))
}

/// The offsets of the broker's own groups.
pub fn of_broker<'a>(offsets: impl IntoIterator<Item = (&'a String, &'a BTreeMap<i32, i64>)>) -> OffsetTable {
    let own = offsets.into_iter().filter(|(key, _)| is_of_broker(key));
    own.map(|(key, queues)| (key.clone(), queues.clone())).collect()
}

/// Has a broker that is not open go on with `own` of its own groups, and with others no further than `most`.
pub fn go_back(root: &Path, own: OffsetTable, most: &OffsetTable) -> io::Result<()> {
    let path = root.join(FILE);
    let mut file: ConsumerOffsets = table::load(&path)?;
    file.offset_table.retain(|key, _| !is_of_broker(key));
    file.offset_table.extend(own);
    for (key, queues) in most {
        let Some(known) = file.offset_table.get_mut(key) else { continue };
        for (queue, offset) in known {
            *offset = queues.get(queue).map_or(*offset, |most| (*most).min(*offset));
        }
    }
    table::save(&path, &file)
}

impl Offsets {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file: ConsumerOffsets = table::load(&path)?;
        let committed = file.offset_table.into_iter().collect();
        let state = Mutex::new(State { committed, version: file.data_version, ..State::default() });
        Ok(Self { path, state, resets: AtomicBool::new(false) })
    }

    /// Commits an offset; a smaller one than before is accepted, as consumers may go back.
    pub fn commit(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        let mut state = self.state.lock();
        let old = state.committed.entry(key(topic, group)).or_default().insert(queue, offset);
        state.changed |= old != Some(offset);
    }

    /// [`Offsets::commit`] at a slave: the master gets it back when it is there again.
    pub fn commit_here(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        self.commit(topic, group, queue, offset);
        self.state.lock().own.insert((key(topic, group), queue));
    }

    /// Becomes what the master has, but for what consumers committed here and the master is behind; gives that, up to
    /// where queues end here.
    pub fn replace(&self, master: ConsumerOffsets, end: impl Fn(&str, i32) -> i64) -> Vec<Committed> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let known = |(key, queue): &(String, i32)| master.offset_table.get(key).and_then(|queues| queues.get(queue)).copied();
        let committed = &state.committed;
        let here = |(key, queue): &(String, i32)| committed.get(key).and_then(|queues| queues.get(queue)).copied();
        state.own.retain(|at| here(at) > known(at));
        let ahead = state.own.iter().filter_map(|at| {
            let (topic, group) = at.0.split_once(SEPARATOR)?;
            let offset = here(at)?.min(end(topic, at.1));
            let ahead = Committed { topic: topic.to_owned(), group: group.to_owned(), queue: at.1, offset };
            (Some(offset) > known(at)).then_some(ahead)
        });
        let ahead: Vec<_> = ahead.collect();
        for (key, queues) in &master.offset_table {
            let own = state.committed.entry(key.clone()).or_default();
            for (queue, offset) in queues.iter().filter(|(queue, _)| !state.own.contains(&(key.clone(), **queue))) {
                state.changed |= own.insert(*queue, *offset) != Some(*offset);
            }
        }
        ahead
    }

    pub fn committed(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.state.lock().committed.get(&key(topic, group))?.get(&queue).copied()
    }

    /// Brings offsets back that lie behind the end of their queue.
    pub fn limit(&self, end: impl Fn(&str, i32) -> i64) {
        let mut state = self.state.lock();
        let State { committed, changed, .. } = &mut *state;
        for (key, queues) in committed.iter_mut() {
            let Some((topic, group)) = key.split_once(SEPARATOR) else { continue };
            for (queue, offset) in queues.iter_mut() {
                let end = end(topic, *queue);
                if *offset > end {
                    tracing::warn!(
                        "group {group} had consumed {topic}/{queue} up to {offset}; the queue ends at {end}, where it goes on"
                    );
                    *offset = end;
                    *changed = true;
                }
            }
        }
    }

    /// Notes how far a member has read.
    pub fn pulled(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        self.state.lock().pulled.entry(key(topic, group)).or_default().insert(queue, offset);
    }

    pub fn last_pulled(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.state.lock().pulled.get(&key(topic, group))?.get(&queue).copied()
    }

    /// Moves a group: its next pull of the queue is told to go to `offset`, and until then it can't commit another.
    pub fn reset(&self, topic: &str, group: &str, queue: i32, offset: i64) {
        let mut state = self.state.lock();
        let key = key(topic, group);
        state.reset.entry(key.clone()).or_default().insert(queue, offset);
        state.pulled.entry(key.clone()).or_default().insert(queue, offset);
        let old = state.committed.entry(key).or_default().insert(queue, offset);
        state.changed |= old != Some(offset);
        self.resets.store(true, Ordering::Release);
    }

    /// Where a group was moved to and has not pulled from since.
    pub fn reset_of(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        if !self.resets.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().reset.get(&key(topic, group))?.get(&queue).copied()
    }

    pub fn is_reset(&self, topic: &str, group: &str, queue: i32) -> bool {
        self.reset_of(topic, group, queue).is_some()
    }

    /// Where a group was moved to since its last pull; told once.
    pub fn take_reset(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        if !self.resets.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        let key = key(topic, group);
        let queues = state.reset.get_mut(&key)?;
        let offset = queues.remove(&queue);
        if queues.is_empty() {
            state.reset.remove(&key);
            self.resets.store(!state.reset.is_empty(), Ordering::Release);
        }
        offset
    }

    /// Gives a group the offsets that another has in a topic, in place of its own. `false` where that has none.
    pub fn copy(&self, topic: &str, from: &str, to: &str) -> bool {
        let mut state = self.state.lock();
        let Some(offsets) = state.committed.get(&key(topic, from)).cloned() else { return false };
        state.committed.insert(key(topic, to), offsets);
        state.changed = true;
        true
    }

    /// A group's offsets in a topic, by queue.
    pub fn of(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        self.state.lock().committed.get(&key(topic, group)).cloned().unwrap_or_default()
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
        state.reset.retain(|key, _| stays(key));
        self.resets.store(!state.reset.is_empty(), Ordering::Release);
        state.changed |= state.committed.len() != before;
    }

    /// Those of the broker's own groups.
    pub fn of_broker(&self) -> OffsetTable {
        of_broker(&self.state.lock().committed)
    }

    pub fn all(&self) -> ConsumerOffsets {
        let state = self.state.lock();
        let offset_table = state.committed.iter().map(|(key, queues)| (key.clone(), queues.clone())).collect();
        ConsumerOffsets { data_version: state.version.clone(), offset_table }
    }

    /// Writes the file where something changed since the last time, after `persist`: what the log says of these offsets
    /// has to be on disk before them.
    pub fn save(&self, now: i64, persist: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.version.advance(now);
        }
        let all = self.all();
        persist().and_then(|()| table::save(&self.path, &all)).inspect_err(|_| self.state.lock().changed = true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_told_once_and_holds_commits_off_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(directory.path().join("consumerOffset.json")).unwrap();
        assert_eq!(offsets.take_reset("T", "g", 0), None);
        offsets.reset("T", "g", 0, 5);
        offsets.reset("T", "g", 1, 6);
        assert!(offsets.is_reset("T", "g", 0) && !offsets.is_reset("T", "h", 0));
        assert_eq!((offsets.committed("T", "g", 0), offsets.last_pulled("T", "g", 0)), (Some(5), Some(5)));
        assert_eq!([offsets.take_reset("T", "g", 0), offsets.take_reset("T", "g", 0)], [Some(5), None]);
        assert!(offsets.is_reset("T", "g", 1));
        offsets.remove(|_, group| group == "g");
        assert!(!offsets.is_reset("T", "g", 1));
        offsets.commit("T", "from", 2, 9);
        offsets.commit("T", "to", 0, 1);
        assert!(offsets.copy("T", "from", "to") && !offsets.copy("U", "from", "to"));
        assert_eq!(offsets.of("T", "to"), BTreeMap::from([(2, 9)]));
    }

    #[test]
    fn offsets_survive_in_javas_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consumerOffset.json");
        std::fs::write(&path, "{\n\t\"offsetTable\":{\"T@g\":{0:12,3:4}}}").unwrap();
        let offsets = Offsets::open(path.clone()).unwrap();
        assert_eq!(offsets.committed("T", "g", 3), Some(4));
        offsets.commit("T", "g", 0, 13);
        offsets.commit("%RETRY%g", "g", 0, 1);
        offsets.save(7, || Ok(())).unwrap();
        let again = Offsets::open(path).unwrap();
        assert_eq!(again.all(), offsets.all());
        assert_eq!(again.topics_of("g"), ["%RETRY%g", "T"]);
        assert_eq!(again.groups_of("T"), ["g"]);
        again.remove(|topic, _| topic == "T");
        assert_eq!(again.committed("T", "g", 0), None);
    }

    #[test]
    fn what_was_committed_at_a_slave_is_given_back_until_the_master_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let slave = Offsets::open(directory.path().join("consumerOffset.json")).unwrap();
        let master = |a: i64, b: i64| ConsumerOffsets {
            offset_table: [("T@g".to_owned(), BTreeMap::from([(0, a), (1, b)]))].into(),
            ..ConsumerOffsets::default()
        };
        let replace = |offsets, end: i64| slave.replace(offsets, |_, _| end);
        assert_eq!(replace(master(5, 5), 9), []);
        slave.commit_here("T", "g", 0, 9);
        slave.commit_here("T", "g", 1, 3);
        let ahead = vec![Committed { topic: "T".into(), group: "g".into(), queue: 0, offset: 9 }];
        assert_eq!(replace(master(6, 6), 6), [], "messages that are in no queue here the master may not have, either");
        assert_eq!(replace(master(6, 6), 9), ahead);
        assert_eq!((slave.committed("T", "g", 0), slave.committed("T", "g", 1)), (Some(9), Some(6)));
        assert_eq!(replace(master(9, 6), 9), []);
        assert_eq!(replace(master(2, 6), 9), [], "a reset on the master is no step back of the slave's");
        assert_eq!(slave.committed("T", "g", 0), Some(2));
    }
}
