//! Counters, and the rates that `brokerStatus` and `clusterList` show; what `statsAll` shows of topics and groups.

mod series;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::bodies::StatsData;

use crate::stats::series::{Figure, MINUTE, Series};

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
}

/// Counts a number up; readers need no order between counters.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What was put into a topic, and what its groups did with it.
#[derive(Default)]
struct Topic {
    put: Option<Series>,
    groups: HashMap<String, Group>,
}

#[derive(Default)]
struct Group {
    got: Option<Series>,
    sent_back: Option<Series>,
}

/// Figures that tools ask for by name (Java: `BrokerStatsManager`).
#[derive(Default)]
struct Named {
    topics: HashMap<String, Topic>,
    all_put: Option<Series>,
    all_got: Option<Series>,
    /// When the last sample was taken.
    sampled: i64,
}

impl Named {
    fn all(&mut self) -> impl Iterator<Item = &mut Series> {
        self.topics
            .values_mut()
            .flat_map(|topic| {
                let groups = topic.groups.values_mut().flat_map(|group| group.got.iter_mut().chain(&mut group.sent_back));
                topic.put.iter_mut().chain(groups)
            })
            .chain(&mut self.all_put)
            .chain(&mut self.all_got)
    }
}

fn count(series: &mut Option<Series>, since: i64, times: u64, messages: u64, bytes: u64) {
    series.get_or_insert_with(|| Series::since(since)).add(times, messages, bytes);
}

/// The entry of a name, which is copied only where it is new.
fn entry<'a, T: Default>(map: &'a mut HashMap<String, T>, name: &str) -> &'a mut T {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), T::default());
    }
    map.get_mut(name).unwrap_or_else(|| unreachable!("it was put in"))
}

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
    named: Mutex<Named>,
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
        let day = now.div_euclid(DAY_MS);
        if day != history.day {
            history.yesterday = history.today;
            history.today = (sample.put, sample.got);
            history.day = day;
        }
        drop(history);
        let mut named = self.named.lock();
        named.sampled = now;
        named.all().for_each(|series| series.sample(now));
    }

    /// Messages were put into a topic, by so many requests.
    pub fn put(&self, topic: &str, requests: u64, messages: u64, bytes: u64) {
        let mut named = self.named.lock();
        let since = named.sampled;
        count(&mut entry(&mut named.topics, topic).put, since, requests, messages, bytes);
        count(&mut named.all_put, since, requests, messages, bytes);
    }

    /// A group got messages.
    pub fn got(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        let mut named = self.named.lock();
        let since = named.sampled;
        count(&mut entry(&mut entry(&mut named.topics, topic).groups, group).got, since, 1, messages, bytes);
        count(&mut named.all_got, since, 1, messages, bytes);
    }

    /// A group sent a message back.
    pub fn sent_back(&self, topic: &str, group: &str) {
        let mut named = self.named.lock();
        let since = named.sampled;
        count(&mut entry(&mut entry(&mut named.topics, topic).groups, group).sent_back, since, 1, 1, 0);
    }

    /// Forgets the figures of a topic.
    pub fn forget_topic(&self, topic: &str) {
        self.named.lock().topics.remove(topic);
    }

    /// A figure under Java's name and key: a topic, `topic@group`, or anything for those of the whole broker. `None` where
    /// nothing was counted, or Ferrocket does not count that.
    pub fn data(&self, name: &str, key: &str, now: i64) -> Option<StatsData> {
        let named = self.named.lock();
        let topic = named.topics.get(key);
        let group = || key.rsplit_once('@').and_then(|(topic, group)| named.topics.get(topic)?.groups.get(group));
        let (series, figure) = match name {
            "TOPIC_PUT_NUMS" => (topic?.put.as_ref()?, Figure::Messages),
            "TOPIC_PUT_SIZE" => (topic?.put.as_ref()?, Figure::Bytes),
            "GROUP_GET_NUMS" => (group()?.got.as_ref()?, Figure::Messages),
            "GROUP_GET_SIZE" => (group()?.got.as_ref()?, Figure::Bytes),
            "SNDBCK_PUT_NUMS" => (group()?.sent_back.as_ref()?, Figure::Messages),
            "BROKER_PUT_NUMS" => (named.all_put.as_ref()?, Figure::Messages),
            "BROKER_GET_NUMS" => (named.all_got.as_ref()?, Figure::Messages),
            _ => return None,
        };
        let [stats_minute, stats_hour, stats_day] = std::array::from_fn(|window| series.over(window, figure, now));
        Some(StatsData { stats_day, stats_hour, stats_minute })
    }

    /// Messages put into a topic a second, over the last minute.
    pub fn topic_put_tps(&self, topic: &str, now: i64) -> f64 {
        let named = self.named.lock();
        tps(named.topics.get(topic).and_then(|topic| topic.put.as_ref()), now)
    }

    /// Messages of a topic that a consumer group got a second, over the last minute.
    pub fn group_get_tps(&self, topic: &str, group: &str, now: i64) -> f64 {
        let named = self.named.lock();
        tps(named.topics.get(topic).and_then(|topic| topic.groups.get(group)?.got.as_ref()), now)
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

fn tps(series: Option<&Series>, now: i64) -> f64 {
    series.map_or(0.0, |series| series.over(MINUTE, Figure::Messages, now).tps)
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
            stats.put("T", 1, 5, 500);
        }
        let [ten, sixty, all] = stats.rates(Rate::Put);
        assert_eq!(ten, 100.0);
        assert_eq!(sixty, (50.0 * 10.0 + 10.0 * 100.0) / 60.0);
        assert_eq!(all, (90.0 * 10.0 + 10.0 * 100.0) / 100.0);
        assert_eq!(stats.topic_put_tps("T", 101_000), 5.0);
        assert_eq!(stats.topic_put_tps("other", 101_000), 0.0);
    }

    #[test]
    fn figures_have_javas_names() {
        let stats = Stats::default();
        stats.sample(1000);
        stats.put("T", 1, 3, 300);
        stats.put("T", 1, 1, 60);
        stats.got("T", "g", 2, 200);
        stats.sent_back("T", "g");
        let sums = |name, key| stats.data(name, key, 5000).map(|d| (d.stats_minute.sum, d.stats_day.avgpt, d.stats_hour.tps));
        assert_eq!(sums("TOPIC_PUT_NUMS", "T"), Some((4, 2.0, 1.0)));
        assert_eq!(sums("TOPIC_PUT_SIZE", "T"), Some((360, 180.0, 90.0)));
        assert_eq!(sums("GROUP_GET_NUMS", "T@g"), Some((2, 2.0, 0.5)));
        assert_eq!(sums("SNDBCK_PUT_NUMS", "T@g"), Some((1, 1.0, 0.25)));
        assert_eq!(sums("BROKER_PUT_NUMS", "DefaultCluster"), Some((4, 2.0, 1.0)));
        assert_eq!([sums("TOPIC_PUT_NUMS", "U"), sums("GROUP_GET_NUMS", "T@h"), sums("OTHER", "T")], [None, None, None]);
        stats.forget_topic("T");
        assert_eq!(sums("TOPIC_PUT_NUMS", "T"), None);
    }
}
