//! What is popped and not yet acknowledged: the check points of the revive log that are still needed, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Check points that may be open at the same time; a pop beyond them is refused.
pub const MAX_OPEN: usize = if cfg!(test) { 100 } else { 500_000 };
/// Acknowledgements that may wait for their check point to come out of the timer of an earlier Java broker.
pub const MAX_EARLY: usize = 100_000;

/// A queue from which a group pops: `topic@group@queue`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(Arc<str>);

impl Lane {
    pub fn new(topic: &str, group: &str, queue_id: i32) -> Self {
        Self(format!("{topic}@{group}@{queue_id}").into())
    }

    pub fn parts(&self) -> (&str, &str, i32) {
        let (names, queue_id) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let (topic, group) = names.split_once('@').unwrap_or((names, ""));
        (topic, group, queue_id.parse().unwrap_or(0))
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// What one pop took from one queue is known by the queue, where it began, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub lane: Lane,
    pub start: i64,
    pub pop_time: i64,
}

/// Where a record stands in the revive topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub queue_id: i32,
    pub offset: i64,
}

/// The messages of a check point: one behind the other, or each by its distance from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    Run(u8),
    Diffs(Box<[i32]>),
}

impl Offsets {
    /// `None` where there are more than the 32 that a check point's bits can say.
    pub fn new(start: i64, offsets: impl IntoIterator<Item = i64>) -> Option<Self> {
        let diffs: Box<[i32]> = offsets.into_iter().map(|offset| (offset - start) as i32).collect();
        let is_run = diffs.iter().enumerate().all(|(nth, diff)| nth as i32 == *diff);
        match diffs.len() {
            0..=32 if is_run => Some(Offsets::Run(diffs.len() as u8)),
            0..=32 => Some(Offsets::Diffs(diffs)),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Offsets::Run(count) => usize::from(*count),
            Offsets::Diffs(diffs) => diffs.len(),
        }
    }

    fn nth(&self, nth: usize) -> i64 {
        match self {
            Offsets::Run(_) => nth as i64,
            Offsets::Diffs(diffs) => i64::from(diffs[nth]),
        }
    }

    fn bit(&self, diff: i64) -> Option<u32> {
        let nth = match self {
            Offsets::Run(count) => usize::try_from(diff).ok().filter(|nth| *nth < usize::from(*count)),
            Offsets::Diffs(diffs) => diffs.iter().position(|own| i64::from(*own) == diff),
        };
        nth.map(|nth| 1 << nth)
    }
}

#[derive(Debug)]
struct Point {
    due: i64,
    offsets: Offsets,
    acked: u32,
    place: Place,
}

impl Point {
    fn all(&self) -> u32 {
        u32::MAX.checked_shr(32 - self.offsets.len() as u32).unwrap_or(0)
    }
}

/// Acknowledgements whose check point is not there yet.
#[derive(Debug)]
struct Early {
    offsets: Vec<i64>,
    until: i64,
    places: Vec<Place>,
}

/// How far one queue of the revive topic is read, and which of its records are needed.
#[derive(Debug, Default)]
struct Log {
    next: i64,
    /// Own records behind `next`, which are not read again.
    own: BTreeSet<i64>,
    needed: BTreeSet<i64>,
}

/// What is known of a message that a consumer acknowledges.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It is open; its check point is in this queue of the revive topic.
    Open(i32),
    /// It is acknowledged, or no message of its check point.
    Done,
    /// Its check point is done with, or not there yet.
    Unknown,
}

/// What came due: the messages of a check point that nobody acknowledged.
pub struct Due {
    pub key: Key,
    pub place: Place,
    pub offsets: Vec<i64>,
}

#[derive(Debug, Default)]
pub struct Points {
    open: HashMap<Key, Point>,
    due: BTreeSet<(i64, Key)>,
    early: BTreeMap<Key, Early>,
    logs: BTreeMap<i32, Log>,
}

impl Points {
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Who has popped what is open.
    pub fn groups(&self) -> BTreeSet<String> {
        self.open.keys().map(|key| key.lane.parts().1.to_owned()).collect()
    }

    /// How many are open of messages of one queue.
    pub fn early(&self) -> usize {
        self.early.len()
    }

    /// Notes a check point that is in the log. One with the same key is replaced.
    pub fn add(&mut self, key: Key, due: i64, offsets: Offsets, place: Place) {
        self.remove(&key);
        let early = self.early.remove(&key);
        self.log(place.queue_id).needed.insert(place.offset);
        self.due.insert((due, key.clone()));
        self.open.insert(key.clone(), Point { due, offsets, acked: 0, place });
        if let Some(early) = early {
            self.forget(&early.places);
            early.offsets.into_iter().for_each(|offset| self.ack(&key, offset));
        }
    }

    pub fn look(&self, key: &Key, offset: i64) -> Known {
        let Some(point) = self.open.get(key) else { return Known::Unknown };
        match point.offsets.bit(offset - key.start) {
            Some(bit) if point.acked & bit == 0 => Known::Open(point.place.queue_id),
            _ => Known::Done,
        }
    }

    /// Notes that a message is acknowledged. With the last one its check point is done with.
    pub fn ack(&mut self, key: &Key, offset: i64) {
        let Some(point) = self.open.get_mut(key) else { return };
        point.acked |= point.offsets.bit(offset - key.start).unwrap_or(0);
        if point.acked == point.all() {
            self.remove(key);
        }
    }

    /// Keeps acknowledgements until their check point comes, or until `until`.
    pub fn keep_early(&mut self, key: &Key, offsets: &[i64], until: i64, place: Place) {
        let early = self.early.entry(key.clone()).or_insert(Early { offsets: Vec::new(), until, places: Vec::new() });
        early.offsets.extend_from_slice(offsets);
        early.places.push(place);
        self.log(place.queue_id).needed.insert(place.offset);
    }

    /// Forgets acknowledgements for whose check points nobody waits any more.
    pub fn expire_early(&mut self, now: i64) {
        let gone: Vec<_> = self.early.iter().filter(|(_, early)| early.until < now).map(|(key, _)| key.clone()).collect();
        for early in gone.iter().filter_map(|key| self.early.remove(key)).collect::<Vec<_>>() {
            self.forget(&early.places);
        }
    }

    /// Check points whose time has come, the first of them first.
    pub fn due(&self, now: i64, most: usize) -> Vec<Due> {
        let due = self.due.iter().take_while(|(due, _)| *due <= now).take(most);
        let unacked = |(_, key): &(i64, Key)| {
            let point = self.open.get(key)?;
            let left = (0..point.offsets.len()).filter(|nth| point.acked >> nth & 1 == 0);
            let offsets = left.map(|nth| key.start + point.offsets.nth(nth)).collect();
            Some(Due { key: key.clone(), place: point.place, offsets })
        };
        due.filter_map(unacked).collect()
    }

    /// Has a check point wait for longer.
    pub fn postpone(&mut self, key: &Key, due: i64) {
        if let Some(point) = self.open.get_mut(key) {
            self.due.remove(&(point.due, key.clone()));
            point.due = due;
            self.due.insert((due, key.clone()));
        }
    }

    /// Is done with a check point, whatever was acknowledged of it.
    pub fn remove(&mut self, key: &Key) {
        if let Some(point) = self.open.remove(key) {
            self.due.remove(&(point.due, key.clone()));
            self.forget(&[point.place]);
        }
    }

    fn forget(&mut self, places: &[Place]) {
        for place in places {
            self.log(place.queue_id).needed.remove(&place.offset);
        }
    }

    fn log(&mut self, queue_id: i32) -> &mut Log {
        self.logs.entry(queue_id).or_default()
    }

    /// Begins to read a queue of the revive topic at `next`.
    pub fn read_from(&mut self, queue_id: i32, next: i64) {
        self.log(queue_id).next = next;
    }

    /// The next record of a queue of the revive topic that is to be read.
    pub fn next(&mut self, queue_id: i32) -> i64 {
        let log = self.log(queue_id);
        while log.own.remove(&log.next) {
            log.next += 1;
        }
        log.next
    }

    /// Notes that a record was read, or written by this broker.
    pub fn passed(&mut self, place: Place) {
        let log = self.log(place.queue_id);
        if place.offset == log.next {
            log.next += 1;
        } else if place.offset > log.next {
            log.own.insert(place.offset);
        }
    }

    /// For each queue of the revive topic: the last record that nobody needs any more, and the last that was read.
    pub fn progress(&mut self) -> Vec<(i32, i64, i64)> {
        let ids: Vec<_> = self.logs.keys().copied().collect();
        let progress = |id: i32| {
            let next = self.next(id);
            let first = self.log(id).needed.first().copied().unwrap_or(next);
            (id, first.min(next) - 1, next - 1)
        };
        ids.into_iter().map(progress).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start: i64) -> Key {
        Key { lane: Lane::new("T", "g", 2), start, pop_time: 9 }
    }

    fn place(offset: i64) -> Place {
        Place { queue_id: 1, offset }
    }

    fn add(points: &mut Points, start: i64, due: i64, offsets: &[i64], at: i64) {
        points.passed(place(at));
        points.add(key(start), due, Offsets::new(start, offsets.iter().copied()).unwrap(), place(at));
    }

    fn due(points: &Points, now: i64) -> Vec<(i64, Vec<i64>)> {
        points.due(now, 9).into_iter().map(|d| (d.key.start, d.offsets)).collect()
    }

    #[test]
    fn what_nobody_acknowledges_comes_due() {
        let mut points = Points::default();
        add(&mut points, 10, 100, &[10, 12, 13], 0);
        add(&mut points, 14, 50, &[14, 15], 1);
        assert_eq!(points.look(&key(10), 12), Known::Open(1));
        points.ack(&key(10), 12);
        assert_eq!((points.look(&key(10), 12), points.look(&key(10), 11)), (Known::Done, Known::Done));
        assert_eq!(due(&points, 49), []);
        assert_eq!(due(&points, 100), [(14, vec![14, 15]), (10, vec![10, 13])]);
        points.postpone(&key(14), 200);
        assert_eq!(due(&points, 100), [(10, vec![10, 13])]);
        assert_eq!(points.progress(), [(1, -1, 1)]);
        points.ack(&key(10), 10);
        points.ack(&key(10), 13);
        assert_eq!((points.look(&key(10), 10), points.progress()), (Known::Unknown, vec![(1, 0, 1)]));
        points.remove(&key(14));
        assert_eq!((points.open(), points.progress()), (0, vec![(1, 1, 1)]));
    }

    #[test]
    fn acknowledgements_wait_for_their_check_point() {
        let mut points = Points::default();
        points.passed(place(0));
        points.keep_early(&key(10), &[10], 70, place(0));
        assert_eq!(points.progress(), [(1, -1, 0)]);
        add(&mut points, 10, 50, &[10, 11], 1);
        assert_eq!((due(&points, 50), points.progress()), (vec![(10, vec![11])], vec![(1, 0, 1)]));
        points.passed(place(2));
        points.keep_early(&key(20), &[20], 70, place(2));
        points.expire_early(71);
        points.remove(&key(10));
        assert_eq!((points.early(), points.progress()), (0, vec![(1, 2, 2)]));
    }

    #[test]
    fn records_that_others_put_between_own_ones_are_read() {
        let mut points = Points::default();
        points.passed(place(0));
        points.passed(place(2));
        assert_eq!(points.next(1), 1);
        points.passed(place(1));
        assert_eq!(points.next(1), 3);
    }

    #[test]
    fn a_full_check_point_has_32_bits() {
        let mut points = Points::default();
        add(&mut points, 0, 1, &(0..32).collect::<Vec<_>>(), 0);
        (0..31).for_each(|offset| points.ack(&key(0), offset));
        assert_eq!(due(&points, 1), [(0, vec![31])]);
        points.ack(&key(0), 31);
        assert_eq!(points.open(), 0);
        assert_eq!(Offsets::new(0, 0..33), None);
    }
}
