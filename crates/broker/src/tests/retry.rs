//! Messages that consumers fail to handle, as scripts: each line is a time, what is done, and what has to be seen.

use std::collections::BTreeMap;

use protocol::bodies::SubscriptionGroupConfig;
use protocol::names;
use protocol::sys_flag::perm;

use super::*;

const LEVELS: &str = "messageDelayLevel=1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h\n";

/// What a consumer knows of the message that it got last with some body.
#[derive(Clone)]
struct Known {
    physical: i64,
    origin: String,
    times: i32,
}

struct Script {
    world: World,
    /// How far each topic was read, by topic and queue.
    read: BTreeMap<(String, i32), i64>,
    known: BTreeMap<String, Known>,
}

/// `90s` or `1h30m5s200ms`, in ms.
fn time(text: &str) -> i64 {
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("time {text}"));
        let number: i64 = rest[..digits].parse().unwrap();
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        sum += number
            * match &rest[digits..unit] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                other => panic!("unit {other}"),
            };
        rest = &rest[unit..];
    }
    sum
}

impl Script {
    fn new(settings: &str) -> Self {
        Self { world: world(&format!("{LEVELS}{settings}")), read: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// Runs lines of a time and a step:
    /// `send TOPIC BODY`; `back GROUP BODY LEVEL MAX`, where the message that was seen last goes back; `resend GROUP BODY
    /// TIMES MAX`, which is what clients do when that fails; `see TOPIC BODY@TIMES...`, all that is new there.
    fn run(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<_> = line.split_whitespace().collect();
            let now = 1_000_000 + time(words[0]);
            self.world.broker.tick(now);
            match words[1] {
                "send" => drop(self.world.send(now, words[2], &tagged("a"), words[3])),
                "back" => self.back(now, &words[2..], line),
                "resend" => self.resend(now, &words[2..], line),
                "see" => {
                    let (mut seen, mut expected) = (self.see(now, words[2]), words[3..].to_vec());
                    seen.sort();
                    expected.sort_unstable();
                    assert_eq!(seen, expected, "{line}");
                }
                other => panic!("step {other}"),
            }
        }
    }

    fn see(&mut self, now: i64, topic: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let queues = self.world.broker.topics.get(topic).map_or(0, |topic| topic.read_queue_nums);
        for queue_id in 0..queues {
            let next = self.read.entry((topic.to_owned(), queue_id)).or_default();
            let request = PullMessage { queue_id, ..pull_request(topic, *next, 0, "*") };
            let answer = self.world.ask(now, &peer(9), &request, &[]);
            for record in record::decode_all(&answer.body) {
                let record = record.unwrap();
                *next += 1;
                let body = String::from_utf8(record.body.to_vec()).unwrap();
                let own = message_id::offset_id(record.store_host, record.physical_offset);
                let origin = properties::get(record.properties, properties::ORIGIN_MESSAGE_ID).map_or(own, str::to_owned);
                seen.push(format!("{body}@{}", record.reconsume_times));
                let known = Known { physical: record.physical_offset, origin, times: record.reconsume_times };
                self.known.insert(body, known);
            }
        }
        seen
    }

    fn back(&mut self, now: i64, words: &[&str], line: &str) {
        let [group, body, level, max] = words else { panic!("{line}") };
        let request = ConsumerSendMsgBack {
            offset: self.known[*body].physical,
            group,
            delay_level: level.parse().unwrap(),
            origin_topic: Some("T"),
            max_reconsume_times: max.parse().ok(),
            ..ConsumerSendMsgBack::default()
        };
        assert_eq!(self.world.ask(now, &peer(9), &request, &[]).code, codes::SUCCESS, "{line}");
    }

    fn resend(&mut self, now: i64, words: &[&str], line: &str) {
        let [group, body, times, max] = words else { panic!("{line}") };
        let times: i32 = times.parse().unwrap();
        let topic = names::retry_topic(group);
        let mut text = format!("DELAY\u{1}{}\u{2}", 3 + times - 1);
        properties::push(&mut text, properties::RETRY_TOPIC, "T");
        properties::push(&mut text, properties::ORIGIN_MESSAGE_ID, &self.known[*body].origin);
        let request =
            SendMessageV2 { reconsume_times: Some(times), max_reconsume_times: max.parse().ok(), ..send(&topic, &text) };
        assert_eq!(self.world.ask(now, &peer(9), &request, body.as_bytes()).code, codes::SUCCESS, "{line}");
    }
}

#[test]
fn a_message_that_always_fails_comes_again_for_five_hours_and_is_a_dead_letter_then() {
    let mut script = Script::new("");
    script.run("0s send T bad\n0s see T bad@0\n0s back g bad 0 -");
    let times = [
        "10s", "40s", "1m40s", "3m40s", "6m40s", "10m40s", "15m40s", "21m40s", "28m40s", "36m40s", "45m40s", "55m40s",
        "1h15m40s", "1h45m40s", "2h45m40s", "4h45m40s",
    ];
    for (nth, at) in (1..).zip(times) {
        let before = time(at) - 1;
        script.run(&format!("{before}ms see %RETRY%g\n{at} see %RETRY%g bad@{nth}\n{at} see %DLQ%g\n{at} back g bad 0 -"));
    }
    script.run("4h45m40s see %DLQ%g bad@17\n24h see %RETRY%g\n24h see %DLQ%g");
    let first = script.world.pull(0, &peer(9), "T", 0, 0).unwrap();
    let first = record::decode_checked(&first.body).unwrap();
    let dead = script.world.pull(0, &peer(9), "%DLQ%g", 0, 0).unwrap();
    let dead = record::decode_checked(&dead.body).unwrap();
    let property = |name| properties::get(dead.properties, name);
    assert_eq!(
        (property(properties::RETRY_TOPIC), property(properties::TAGS), property(properties::DELAY)),
        (Some("T"), Some("a"), None)
    );
    let id = message_id::offset_id(first.store_host, first.physical_offset);
    assert_eq!((property(properties::ORIGIN_MESSAGE_ID), dead.born_timestamp), (Some(id.as_str()), first.born_timestamp));
    assert_eq!(property(properties::UNIQUE_KEY), properties::get(first.properties, properties::UNIQUE_KEY));
}

#[test]
fn consumers_choose_how_late_and_how_often_a_message_comes_again() {
    let mut script = Script::new("");
    script.run(
        "
        0s     send T slow
        0s     send T never
        0s     send T twice
        0s     see T slow@0 never@0 twice@0
        0s     back g slow 18 -
        0s     back g never -1 -
        0s     back g twice 1 2
        0s     see %DLQ%g never@1
        1s     see %RETRY%g twice@1
        1s     back g twice 1 2
        2s     see %RETRY%g twice@2
        2s     back g twice 1 2
        2s     see %DLQ%g twice@3
        2h     see %RETRY%g slow@1
        ",
    );
}

/// The limit is one retry later than for a message that is sent back, as in Java.
#[test]
fn what_a_client_sends_again_itself_takes_the_same_way() {
    let mut script = Script::new("");
    script.run(
        "
        0s     send T m
        0s     see T m@0
        0s     resend g m 1 2
        10s    see %RETRY%g m@1
        10s    resend g m 2 2
        40s    see %RETRY%g m@2
        40s    resend g m 3 2
        40s    see %DLQ%g m@3
        24h    see %RETRY%g
        ",
    );
    let dead = script.known["m"].clone();
    let first = script.world.pull(0, &peer(9), "T", 0, 0).unwrap();
    let first = record::decode_checked(&first.body).unwrap();
    assert_eq!((dead.origin, dead.times), (message_id::offset_id(first.store_host, first.physical_offset), 3));
}

/// Ordered consumers keep a message that fails, and send it away only when they give it up.
#[test]
fn what_an_ordered_consumer_gives_up_is_a_dead_letter_at_once() {
    let mut script = Script::new("");
    let lock = protocol::bodies::LockBatch {
        consumer_group: "g".into(),
        client_id: "c".into(),
        mq_set: vec![protocol::bodies::QueueValue { broker_name: "broker-a".into(), queue_id: 0, topic: "T".into() }],
        ..Default::default()
    };
    script.world.ask(1_000_000, &peer(9), &LockBatchMq {}, &fastjson::to_vec(&lock));
    script.run(
        "
        0s     send T m
        0s     see T m@0
        1s     resend g m 1 16
        1s     see %DLQ%g m@1
        61s    resend g m 1 16
        61s    see %DLQ%g
        71s    see %RETRY%g m@1
        ",
    );
}

#[test]
fn topics_for_retries_have_the_groups_queues_and_may_be_read() {
    let mut script = Script::new("");
    let group = SubscriptionGroupConfig { retry_queue_nums: 3, retry_max_times: 1, group_name: "g".into(), ..Default::default() };
    script.world.ask(1, &peer(9), &UpdateSubscriptionGroup {}, &fastjson::to_vec(&group));
    script.run(
        "
        0s     send T a
        0s     send T b
        0s     send T c
        0s     see T a@0 b@0 c@0
        0s     back g a 0 -
        0s     back g b 0 -
        0s     back g c 0 -
        10s    see %RETRY%g a@1 b@1 c@1
        10s    back g a 0 -
        10s    see %DLQ%g a@2
        ",
    );
    let shape = |topic: &str| {
        let topic = script.world.broker.topics.get(topic).unwrap();
        (topic.read_queue_nums, topic.write_queue_nums, topic.perm)
    };
    assert_eq!(shape("%RETRY%g"), (3, 3, perm::READ | perm::WRITE));
    assert_eq!(shape("%DLQ%g"), (1, 1, perm::READ | perm::WRITE));

    // A group without queues for retries gives its messages up.
    let group = SubscriptionGroupConfig { retry_queue_nums: 0, group_name: "none".into(), ..Default::default() };
    script.world.ask(1, &peer(9), &UpdateSubscriptionGroup {}, &fastjson::to_vec(&group));
    script.run("20s back none b 0 -");
    assert!(script.world.broker.topics.get("%RETRY%none").is_none());
}
