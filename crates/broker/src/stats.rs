//! Counters, and the rates that `brokerStatus` and `clusterList` show.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Rates are shown over these spans, in seconds.
const SPANS: [i64; 3] = [10, 60, 600];
const DAY_MS: i64 = 24 * 3600 * 1000;

/// What is counted, over the broker's life.
#[derive(Default)]
pub struct Counters {
    pub messages_put: AtomicU64,
    pub bytes_put: AtomicU64,
    pub put_failed: AtomicU64,
    pub gets_found: AtomicU64,
    pub gets_missed: AtomicU64,
    pub messages_got: AtomicU64,
    /// Timer messages taken in, and delivered.
    pub timers_in: AtomicU64,
    pub timers_out: AtomicU64,
    /// Requests that nothing handles, by code; each is logged once.
    pub unsupported: Mutex<HashMap<i32, u64>>,
    /// Messages put by topic and got by group, for their rates.
    topics: Mutex<HashMap<String, u64>>,
    groups: Mutex<HashMap<String, u64>>,
}

/// Counts a number up; readers need no order between counters.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub fn add_topic(&self, topic: &str, messages: u64) {
        add_named(&mut self.topics.lock(), topic, messages);
    }

    pub fn add_group(&self, group: &str, messages: u64) {
        add_named(&mut self.groups.lock(), group, messages);
    }
}

fn add_named(counts: &mut HashMap<String, u64>, name: &str, n: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += n,
        None => drop(counts.insert(name.to_owned(), n)),
    }
}

/// Counts by name, taken at a time.
type Counts = VecDeque<(i64, HashMap<String, u64>)>;

#[derive(Clone, Copy, Default)]
struct Sample {
    at: i64,
    put: u64,
    found: u64,
    missed: u64,
    got: u64,
    timers_in: u64,
    timers_out: u64,
}

/// Which counter a rate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Put,
    GetFound,
    GetMissed,
    GetTotal,
    Transferred,
    TimerIn,
    TimerOut,
}

/// One sample a second for as long as the longest span.
#[derive(Default)]
struct History {
    samples: VecDeque<Sample>,
    topics: Counts,
    groups: Counts,
    /// Totals at the last two midnights (UTC): put, got.
    yesterday: (u64, u64),
    today: (u64, u64),
    day: i64,
}

/// The broker's figures.
#[derive(Default)]
pub struct Stats {
    pub counters: Counters,
    history: Mutex<History>,
}

impl Stats {
    /// Takes a sample; called about once a second.
    pub fn sample(&self, now: i64) {
        let c = &self.counters;
        let sample = Sample {
            at: now,
            put: value(&c.messages_put),
            found: value(&c.gets_found),
            missed: value(&c.gets_missed),
            got: value(&c.messages_got),
            timers_in: value(&c.timers_in),
            timers_out: value(&c.timers_out),
        };
        let mut history = self.history.lock();
        history.samples.push_back(sample);
        if history.samples.len() as i64 > SPANS[2] + 1 {
            history.samples.pop_front();
        }
        keep(&mut history.topics, now, c.topics.lock().clone());
        keep(&mut history.groups, now, c.groups.lock().clone());
        let day = now.div_euclid(DAY_MS);
        if day != history.day {
            history.yesterday = history.today;
            history.today = (sample.put, sample.got);
            history.day = day;
        }
    }

    /// Messages put into a topic a second, over the shortest span.
    pub fn topic_put_tps(&self, topic: &str) -> f64 {
        named_rate(&self.history.lock().topics, topic)
    }

    /// Messages that a consumer group got a second, over the shortest span.
    pub fn group_get_tps(&self, group: &str) -> f64 {
        named_rate(&self.history.lock().groups, group)
    }

    /// Rates over 10, 60 and 600 seconds, or over what there is.
    pub fn rates(&self, rate: Rate) -> [f64; 3] {
        let history = self.history.lock();
        let Some(last) = history.samples.back() else { return [0.0; 3] };
        let count = |s: &Sample| match rate {
            Rate::Put => s.put,
            Rate::GetFound => s.found,
            Rate::GetMissed => s.missed,
            Rate::GetTotal => s.found + s.missed,
            Rate::Transferred => s.got,
            Rate::TimerIn => s.timers_in,
            Rate::TimerOut => s.timers_out,
        };
        SPANS.map(|span| {
            let first = history.samples.iter().find(|s| s.at >= last.at - span * 1000).unwrap_or(last);
            per_second(count(last) - count(first), last.at - first.at)
        })
    }

    /// Messages put and got up to yesterday's midnight, today's midnight, and this moment.
    pub fn days(&self) -> [(u64, u64); 3] {
        let history = self.history.lock();
        [history.yesterday, history.today, (value(&self.counters.messages_put), value(&self.counters.messages_got))]
    }
}

fn keep(counts: &mut Counts, now: i64, sample: HashMap<String, u64>) {
    counts.push_back((now, sample));
    if counts.len() as i64 > SPANS[0] + 1 {
        counts.pop_front();
    }
}

fn named_rate(counts: &Counts, name: &str) -> f64 {
    let (Some((from, old)), Some((to, new))) = (counts.front(), counts.back()) else { return 0.0 };
    let count = |counts: &HashMap<String, u64>| counts.get(name).copied().unwrap_or(0);
    per_second(count(new) - count(old), to - from)
}

fn per_second(count: u64, ms: i64) -> f64 {
    if ms > 0 { count as f64 * 1000.0 / ms as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_their_spans() {
        let stats = Stats::default();
        for second in 0..=100 {
            stats.sample(second * 1000);
            add(&stats.counters.messages_put, if second < 90 { 10 } else { 100 });
            stats.counters.add_topic("T", 5);
        }
        let [ten, sixty, all] = stats.rates(Rate::Put);
        assert_eq!(ten, 100.0);
        assert_eq!(sixty, (50.0 * 10.0 + 10.0 * 100.0) / 60.0);
        assert_eq!(all, (90.0 * 10.0 + 10.0 * 100.0) / 100.0);
        assert_eq!(stats.topic_put_tps("T"), 5.0);
        assert_eq!(stats.topic_put_tps("other"), 0.0);
    }
}
