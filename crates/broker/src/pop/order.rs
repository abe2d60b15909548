//! Pops in order: while messages of a queue are under way and unacknowledged, nobody gets more of it. What is under way is
//! in `config/consumerOrderInfo.json`, in Java's form, and since the file was written in queue 999 of the revive topic.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use protocol::pop::{OrderInfo, OrderInfos};

use crate::meta::table;

/// What is not popped for so long is forgotten (Java: the same).
const FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;

/// A queue that a group pops in order.
#[derive(Clone, Copy, Debug)]
pub struct Ordered<'a> {
    pub topic: &'a str,
    pub group: &'a str,
    pub queue_id: i32,
}

impl Ordered<'_> {
    fn key(&self) -> String {
        format!("{}@{}", self.topic, self.group)
    }
}

/// What an acknowledgement in order comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The group's offset moves there.
    Commit(i64),
    /// It is for an earlier pop.
    Stale,
    /// No message that is under way.
    Illegal,
}

#[derive(Debug)]
pub struct Orders {
    path: PathBuf,
    infos: OrderInfos,
    /// When queues are free again: `time, topic@group, queue`.
    free: BTreeSet<(i64, String, i32)>,
    changed: bool,
}

fn offset_of(info: &OrderInfo, nth: usize) -> i64 {
    if nth == 0 { info.offsets[0] } else { info.offsets[0] + info.offsets[nth] }
}

fn open(info: &OrderInfo) -> impl Iterator<Item = i64> + '_ {
    (0..info.offsets.len().min(64)).filter(|nth| info.acked >> nth & 1 == 0).map(|nth| offset_of(info, nth))
}

/// When the last message that is under way is visible again.
fn blocked_until(info: &OrderInfo) -> Option<i64> {
    let end = info.pop_time.saturating_add(info.invisible_time);
    open(info).map(|offset| info.visible_at.get(&offset).copied().unwrap_or(end)).max()
}

impl Orders {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let infos: OrderInfos = table::load(&path)?;
        let mut orders = Self { path, infos, free: BTreeSet::new(), changed: false };
        for (key, queues) in &orders.infos.table {
            let times = queues.iter().filter_map(|(id, info)| Some((blocked_until(info)?, key.clone(), *id)));
            orders.free.extend(times);
        }
        Ok(orders)
    }

    fn get(&self, queue: Ordered<'_>) -> Option<&OrderInfo> {
        self.infos.table.get(&queue.key())?.get(&queue.queue_id).filter(|info| !info.offsets.is_empty())
    }

    /// Whether a pop gets nothing of a queue at `now`. The same attempt may come again.
    pub fn is_blocked(&self, queue: Ordered<'_>, attempt_id: Option<&str>, now: i64) -> bool {
        let Some(info) = self.get(queue) else { return false };
        if info.attempt_id.is_some() && info.attempt_id.as_deref() == attempt_id {
            return false;
        }
        blocked_until(info).is_some_and(|until| now < until)
    }

    /// Whether a pop that began at an offset is known already, or is older than what is.
    pub fn knows(&self, queue: Ordered<'_>, pop_time: i64, first: i64) -> bool {
        self.get(queue).is_some_and(|info| (info.pop_time, info.offsets[0]) >= (pop_time, first))
    }

    /// Notes what a pop took.
    pub fn popped(&mut self, queue: Ordered<'_>, attempt_id: Option<&str>, pop_time: i64, invisible_time: i64, offsets: &[i64]) {
        let Some(first) = offsets.first() else { return };
        let old = self.infos.table.entry(queue.key()).or_default().remove(&queue.queue_id).unwrap_or_default();
        let same_attempt = old.attempt_id.is_some() && old.attempt_id.as_deref() == attempt_id;
        let times_given = if same_attempt {
            old.times_given.clone()
        } else {
            let before: BTreeSet<i64> = (0..old.offsets.len()).map(|nth| offset_of(&old, nth)).collect();
            let again = offsets.iter().filter(|offset| before.contains(offset));
            again.map(|offset| (*offset, old.times_given.get(offset).copied().unwrap_or(0) + 1)).collect()
        };
        let diffs = offsets[1..].iter().map(|offset| offset - first);
        let info = OrderInfo {
            attempt_id: attempt_id.map(str::to_owned),
            pop_time,
            invisible_time,
            last_consumed: pop_time,
            offsets: std::iter::once(*first).chain(diffs).collect(),
            times_given,
            ..OrderInfo::default()
        };
        self.put(queue, info);
    }

    /// How often each message that is under way was given before: pairs of offset and count, and the least of all counts.
    pub fn times_given(&self, queue: Ordered<'_>) -> (Vec<(i64, i32)>, i32) {
        let Some(info) = self.get(queue) else { return (Vec::new(), 0) };
        let counts: Vec<_> = info.times_given.iter().map(|(offset, count)| (*offset, *count)).collect();
        let least = if counts.len() == info.offsets.len() { counts.iter().map(|(_, count)| *count).min() } else { None };
        (counts, least.unwrap_or(0))
    }

    /// Notes that a message is acknowledged.
    pub fn acked(&mut self, queue: Ordered<'_>, offset: i64, pop_time: i64) -> Next {
        let Some(mut info) = self.get(queue).cloned() else { return Next::Commit(offset + 1) };
        if info.pop_time != pop_time {
            return Next::Stale;
        }
        let Some(nth) = (0..info.offsets.len().min(64)).find(|nth| offset_of(&info, *nth) == offset) else {
            return Next::Illegal;
        };
        info.acked |= 1 << nth;
        let next = open(&info).next().unwrap_or_else(|| offset_of(&info, info.offsets.len() - 1) + 1);
        self.put(queue, info);
        Next::Commit(next)
    }

    /// Changes when a message that is under way is visible again.
    pub fn change(&mut self, queue: Ordered<'_>, offset: i64, pop_time: i64, visible_at: i64) {
        if let Some(mut info) = self.get(queue).filter(|info| info.pop_time == pop_time).cloned() {
            info.visible_at.insert(offset, visible_at);
            self.put(queue, info);
        }
    }

    fn put(&mut self, queue: Ordered<'_>, info: OrderInfo) {
        let key = queue.key();
        if let Some(until) = blocked_until(&info) {
            self.free.insert((until, key.clone(), queue.queue_id));
        }
        self.infos.table.entry(key).or_default().insert(queue.queue_id, info);
        self.changed = true;
    }

    /// The topics and groups of queues that may be free by `now`.
    pub fn freed(&mut self, now: i64) -> Vec<(String, String)> {
        let mut freed = Vec::new();
        while self.free.first().is_some_and(|(time, ..)| *time <= now) {
            let key = self.free.pop_first().map(|(_, key, _)| key).unwrap_or_default();
            freed.extend(key.split_once('@').map(|(topic, group)| (topic.to_owned(), group.to_owned())));
        }
        freed.dedup();
        freed
    }

    /// Forgets what is under way of a queue: its group was moved.
    pub fn forget(&mut self, queue: Ordered<'_>) {
        if let Some(queues) = self.infos.table.get_mut(&queue.key()) {
            self.changed |= queues.remove(&queue.queue_id).is_some();
        }
    }

    /// Forgets what `gone` names, and what was not popped for long.
    pub fn clean(&mut self, now: i64, gone: impl Fn(&str, &str) -> bool) {
        self.infos.table.retain(|key, queues| {
            queues.retain(|_, info| now - info.last_consumed <= FORGOTTEN_AFTER_MS);
            !queues.is_empty() && !key.split_once('@').is_some_and(|(topic, group)| gone(topic, group))
        });
    }

    /// Writes the file where something changed since the last time.
    pub fn save(&mut self) -> io::Result<()> {
        if self.changed {
            table::save(&self.path, &self.infos)?;
            self.changed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Ordered<'static> = Ordered { topic: "T", group: "g", queue_id: 1 };

    #[test]
    fn a_queue_is_blocked_until_all_is_acknowledged_or_visible_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consumerOrderInfo.json");
        let mut orders = Orders::open(path.clone()).unwrap();
        orders.popped(QUEUE, Some("a1"), 1000, 500, &[5, 6, 9]);
        assert!(orders.is_blocked(QUEUE, None, 1499) && !orders.is_blocked(QUEUE, None, 1500));
        assert!(!orders.is_blocked(QUEUE, Some("a1"), 1000), "the same attempt may come again");
        assert_eq!(orders.acked(QUEUE, 6, 1000), Next::Commit(5));
        assert_eq!(orders.acked(QUEUE, 5, 1000), Next::Commit(9));
        assert_eq!((orders.acked(QUEUE, 7, 1000), orders.acked(QUEUE, 9, 999)), (Next::Illegal, Next::Stale));
        orders.change(QUEUE, 9, 1000, 3000);
        assert!(orders.is_blocked(QUEUE, None, 2999));
        assert_eq!(orders.freed(2999), [("T".to_owned(), "g".to_owned())]);
        orders.save().unwrap();
        let mut orders = Orders::open(path).unwrap();
        assert_eq!(orders.freed(3000), [("T".to_owned(), "g".to_owned())]);
        orders.popped(QUEUE, Some("a2"), 3000, 500, &[9, 10]);
        assert_eq!(orders.times_given(QUEUE), (vec![(9, 1)], 0));
        orders.popped(QUEUE, Some("a3"), 4000, 500, &[9, 10]);
        assert_eq!(orders.times_given(QUEUE), (vec![(9, 2), (10, 1)], 1));
        assert_eq!(orders.acked(QUEUE, 9, 4000), Next::Commit(10));
        assert_eq!(orders.acked(QUEUE, 10, 4000), Next::Commit(11));
        assert!(!orders.is_blocked(QUEUE, None, 4001));
        orders.clean(4000 + FORGOTTEN_AFTER_MS + 1, |_, _| false);
        assert_eq!(orders.acked(QUEUE, 20, 1), Next::Commit(21));
    }

    #[test]
    fn what_java_wrote_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consumerOrderInfo.json");
        let java = r#"{"table":{"T@g":{1:{"popTime":1000,"i":500,"o":[5,1],"ot":{},"oc":{5:2},"l":1000,"cm":1,"a":"x"}}}}"#;
        std::fs::write(&path, java).unwrap();
        let orders = Orders::open(path).unwrap();
        assert!(orders.is_blocked(QUEUE, None, 1499));
        assert_eq!(orders.times_given(QUEUE), (vec![(5, 2)], 0));
    }
}
