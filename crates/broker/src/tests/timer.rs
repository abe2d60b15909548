use protocol::bodies::TimerMetrics;
use protocol::names::WHEEL_TIMER_TOPIC;
use protocol::properties::{TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS};
use protocol::sys_flag::message::TRANSACTION_COMMIT;
use protocol::timer::handle;

use super::*;

/// A moment in 2023 that is no multiple of anything.
const NOW: i64 = 1_700_000_000_123;
const HOUR: i64 = 3_600_000;
const RECALL: &str = "recallMessageEnable=true\n";

fn text(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    pairs.iter().for_each(|(name, value)| properties::push(&mut text, name, value));
    text
}

fn at(ms: i64) -> String {
    text(&[(TIMER_DELIVER_MS, &ms.to_string())])
}

fn keyed(ms: i64, key: &str) -> String {
    at(ms) + &text(&[(properties::UNIQUE_KEY, key)])
}

impl World {
    fn later(&self, now: i64, ms: i64, body: &str) -> Answer {
        let answer = self.send(now, "T", &keyed(ms, &format!("KEY-{body}")), body);
        assert_eq!(answer.code, codes::SUCCESS, "{}", answer.remark);
        answer
    }

    /// What consumers of `T` see after a tick.
    fn seen(&self, now: i64) -> Vec<String> {
        self.broker.tick(now);
        if self.broker.topics.get("T").is_none() { Vec::new() } else { self.all_bodies(now, "T") }
    }

    fn recall(&self, now: i64, handle: &str) -> (i32, String) {
        let request = RecallMessage { producer_group: Some("p"), topic: "T", recall_handle: handle };
        let answer = self.ask(now, &peer(1), &request, &[]);
        assert_eq!(answer.field("MSG_REGION"), "DefaultRegion");
        (answer.code, if answer.code == codes::SUCCESS { answer.field("msgId").to_owned() } else { answer.remark })
    }

    fn properties_of(&self, now: i64, topic: &str, offset: i64) -> String {
        let pulled = self.pull(now, &peer(9), topic, offset, 0).unwrap();
        record::decode(&pulled.body).unwrap().properties.to_owned()
    }

    fn waiting(&self) -> i64 {
        let metrics: TimerMetrics = fastjson::from_slice(&self.ask(NOW, &peer(1), &GetTimerMetrics {}, &[]).body).unwrap();
        metrics.timing_count.get("T").map_or(0, |metric| metric.count)
    }
}

#[test]
fn a_timer_comes_at_its_millisecond_and_not_before() {
    let world = world("");
    let answer = world.later(NOW, NOW + 1877, "whole-second");
    assert_eq!((answer.field("queueId"), answer.field("queueOffset")), ("0", "0"));
    world.later(NOW, NOW + 1234, "any");
    world.send(NOW, "T", &text(&[(TIMER_DELAY_SEC, "3"), (TIMER_DELAY_MS, "1"), (TIMER_DELIVER_MS, "1")]), "seconds");
    world.send(NOW, "T", &text(&[(TIMER_DELAY_MS, "5"), (TIMER_DELIVER_MS, "1")]), "ms");
    // Where the time could be one that Java has rounded, it is a millisecond later.
    world.send(NOW, "T", &text(&[(TIMER_DELAY_MS, "78")]), "put-off");
    assert_eq!(world.waiting(), 5);
    let mut expected: Vec<&str> = Vec::new();
    for (after, body) in [(5, "ms"), (79, "put-off"), (1234, "any"), (1877, "whole-second"), (3000, "seconds")] {
        assert_eq!(world.seen(NOW + after - 1), expected, "{body}");
        expected.push(body);
        assert_eq!(world.seen(NOW + after), expected, "{body}");
    }
    assert_eq!(world.waiting(), 0);
    let text = world.properties_of(NOW, "T", 3);
    let property = |name| properties::get(&text, name);
    assert_eq!(property(TIMER_DELIVER_MS), Some("1700000002000"));
    assert_eq!(property("TIMER_OUT_MS"), Some("1700000001999"));
    assert_eq!(property("TIMER_ENQUEUE_MS"), Some(NOW.to_string()).as_deref());
    assert_eq!(property("TIMER_DEQUEUE_MS"), Some("1700000002000"));
    assert_eq!([property("REAL_TOPIC"), property("REAL_QID")], [None, None]);
}

#[test]
fn a_delay_level_wins_over_timers_and_takes_them_away() {
    let world = world("");
    let both = at(NOW + 60_000) + &text(&[(TIMER_DELAY_SEC, "junk"), (properties::DELAY, "1")]);
    assert_eq!(world.send(NOW, "T", &both, "level").code, codes::SUCCESS);
    assert_eq!(world.seen(NOW + 1000), ["level"]);
    assert_eq!(properties::get(&world.properties_of(NOW, "T", 0), TIMER_DELIVER_MS), None);
}

#[test]
fn bad_times_are_refused_in_javas_words() {
    let world = world("timerMaxDelaySec=10\n");
    world.send(NOW, "T", "", "made");
    let illegal = "timer message illegal, the delay time should not be bigger than the max delay 10000ms; or if set del msg, \
                   the delay time should be bigger than the current time";
    let too_far = (NOW + 10_001).to_string();
    for (name, value) in [
        (TIMER_DELIVER_MS, "soon"),
        (TIMER_DELIVER_MS, "99999999999999999999"),
        (TIMER_DELIVER_MS, too_far.as_str()),
        (TIMER_DELAY_SEC, "1.5"),
        (TIMER_DELAY_SEC, "11"),
        (TIMER_DELAY_SEC, "9223372036854775807"),
        (TIMER_DELAY_MS, "10001"),
        (TIMER_DELAY_MS, "0x1"),
    ] {
        let answer = world.send(NOW, "T", &text(&[(name, value)]), "bad");
        assert_eq!((answer.code, answer.remark.as_str()), (codes::MESSAGE_ILLEGAL, illegal), "{name}={value}");
    }
    let cancels_late = at(NOW) + &text(&[("TIMER_DEL_UNIQKEY", "K")]);
    assert_eq!(world.send(NOW, "T", &cancels_late, "late").code, codes::MESSAGE_ILLEGAL);
    // What is over, or negative, is an ordinary message.
    for (name, value) in [(TIMER_DELIVER_MS, "-5"), (TIMER_DELAY_SEC, "-1"), (TIMER_DELAY_MS, "0")] {
        assert_eq!(world.send(NOW, "T", &text(&[(name, value)]), "over").field("recallHandle"), "", "{name}={value}");
    }
    world.send(NOW, "T", &(at(NOW + 5) + &text(&[("TIMER_OUT_MS", "7")])), "delivered before");
    assert_eq!(world.all_bodies(NOW, "T"), ["made", "over", "over", "over", "delivered before"]);
    let mut body = Vec::new();
    batch::encode(&batch::BatchMessage { flag: 0, body: b"x", properties: &at(NOW + 5) }, &mut body);
    assert_eq!(world.ask(NOW, &peer(1), &batch_request("T"), &body).code, codes::MESSAGE_ILLEGAL);
}

#[test]
fn without_the_wheel_timers_are_refused() {
    let world = world("timerWheelEnable=false\nrecallMessageEnable=true\n");
    world.send(NOW, "T", "", "plain");
    let answer = world.send(NOW, "T", &at(NOW + 5), "timer");
    let remark = "accurate timer message is not enabled, timerWheelEnable is false";
    assert_eq!((answer.code, answer.remark.as_str()), (codes::SYSTEM_ERROR, remark));
    assert!(world.broker.topics.get(WHEEL_TIMER_TOPIC).is_none());
    let checkpoint = world.ask(NOW, &peer(1), &GetTimerCheckPoint {}, &[]);
    assert_eq!((checkpoint.code, checkpoint.remark.as_str()), (codes::SYSTEM_ERROR, "The checkpoint is null"));
    let metrics = world.ask(NOW, &peer(1), &GetTimerMetrics {}, &[]);
    assert_eq!((metrics.code, metrics.remark.as_str()), (codes::SYSTEM_ERROR, "The timer message store is null"));
    let recalled = world.recall(NOW, &handle("T", "broker-a", NOW + 5, "K"));
    assert_eq!(recalled, (codes::SYSTEM_ERROR, "recall failed, execute error".into()));
}

#[test]
fn a_recalled_message_never_comes_also_after_a_kill() {
    let world = world(RECALL);
    let mut handles = Vec::new();
    for body in ["a", "b", "c"] {
        handles.push(world.later(NOW, NOW + 5000, body).field("recallHandle").to_owned());
    }
    assert_eq!(handles[1], handle("T", "broker-a", NOW + 5000, "KEY-b"));
    assert_eq!(world.recall(NOW + 1, &handles[1]), (codes::SUCCESS, "KEY-b".into()));
    let gone = "recall failed, message KEY-b of topic T does not wait: it was delivered or recalled already";
    assert_eq!(world.recall(NOW + 1, &handles[1]), (codes::ILLEGAL_OPERATION, gone.into()));
    assert_eq!(world.waiting(), 2);
    let world = world.kill_and_open();
    assert_eq!(world.recall(NOW + 2, &handles[1]).0, codes::ILLEGAL_OPERATION);
    assert_eq!(world.seen(NOW + 5000), ["a", "c"]);
    assert_eq!(world.recall(NOW + 5000, &handles[0]).1, "recall failed, timestamp invalid");
    // The same with a message of the client's own, as older proxies send it.
    world.later(NOW + 6000, NOW + 9000, "d");
    let cancel = keyed(NOW + 9000, "OTHER") + &text(&[("TIMER_DEL_UNIQKEY", "T+KEY-d")]);
    world.send(NOW + 6000, "T", &cancel, "cancels d");
    assert_eq!(world.seen(NOW + 9000), ["a", "c"]);
    assert_eq!(world.kill_and_open().seen(NOW + 99_000), ["a", "c"]);
}

#[test]
fn recalls_that_do_not_fit_are_refused_in_javas_words() {
    let forbidden = world("");
    let good = handle("T", "broker-a", NOW + 5000, "K");
    assert_eq!(forbidden.recall(NOW, &good), (codes::NO_PERMISSION, "recall failed, operation is forbidden".into()));
    let world = world(RECALL);
    assert_eq!(world.recall(NOW, &good), (codes::TOPIC_NOT_EXIST, "recall failed, the topic[T] not exist".into()));
    world.send(NOW, "T", "", "made");
    for (handle, remark) in [
        ("djEg".to_owned(), "recall handle is invalid"),
        (handle("U", "broker-a", NOW + 5000, "K"), "recall failed, topic not match"),
        (handle("T", "broker-b", NOW + 5000, "K"), "recall failed, broker service not available"),
        (handle("T", "broker-a", NOW, "K"), "recall failed, timestamp invalid"),
        (handle("T", "broker-a", NOW + 72 * HOUR + 1, "K"), "recall failed, timestamp invalid"),
    ] {
        assert_eq!(world.recall(NOW, &handle), (codes::ILLEGAL_OPERATION, remark.into()));
    }
}

#[test]
fn a_recall_waits_for_the_disk_where_sends_do() {
    let world = world("recallMessageEnable=true\nflushDiskType=SYNC_FLUSH\n");
    let peer = peer(1);
    let request = frame(&send("T", &keyed(NOW + 5000, "K")), b"x");
    assert!(world.read(NOW, &peer, vec![request]).is_empty());
    world.broker.sync(NOW).unwrap();
    let sent = Answer::of(&peer.pushed.take()[0]);
    let request = RecallMessage { producer_group: None, topic: "T", recall_handle: sent.field("recallHandle") };
    assert!(world.read(NOW, &peer, vec![frame(&request, &[])]).is_empty());
    world.broker.sync(NOW).unwrap();
    let recalled = Answer::of(&peer.pushed.take()[0]);
    assert_eq!((recalled.code, recalled.field("msgId")), (codes::SUCCESS, "K"));
}

#[test]
fn timers_survive_a_kill_and_what_was_delivered_does_not_come_again() {
    let mut world = world("");
    let sent: Vec<_> = (0..100).map(|n| (NOW + 1000 + n * 37 % 100 * 10, format!("m{n}"))).collect();
    for (ms, body) in &sent {
        world.later(NOW, *ms, body);
    }
    let mut expected: Vec<_> = sent.clone();
    expected.sort();
    let mut done = 0;
    for step in 0..20 {
        let now = NOW + 900 + step * 70;
        world = world.kill_and_open();
        done = expected.iter().filter(|(ms, _)| *ms <= now).count();
        let bodies: Vec<_> = expected[..done].iter().map(|(_, body)| body.clone()).collect();
        assert_eq!(world.seen(now), bodies, "step {step}");
    }
    assert_eq!(done, 100);
    assert_eq!(world.kill_and_open().seen(NOW + HOUR).len(), 100);
}

#[test]
fn what_is_seen_after_a_later_one_was_delivered_makes_none_come_twice() {
    let world = world("recallMessageEnable=true\nflushDiskType=SYNC_FLUSH\n");
    let later = |ms, body| {
        assert!(world.read(NOW, &peer(1), vec![frame(&send("T", &keyed(NOW + ms, body)), b"x")]).is_empty());
    };
    later(1000, "first");
    world.broker.sync(NOW).unwrap();
    // It may be seen when the disk has it, and was due by then.
    later(500, "late");
    world.broker.tick(NOW + 2000);
    world.broker.sync(NOW + 2000).unwrap();
    assert_eq!(world.all_bodies(NOW + 2000, "T").len(), 1);
    assert_eq!(world.recall(NOW + 2000, &handle("T", "broker-a", NOW + HOUR, "none")).0, codes::ILLEGAL_OPERATION);
    world.broker.close(NOW + 2000).unwrap();
    let world = world.kill_and_open();
    world.broker.tick(NOW + 3000);
    world.broker.sync(NOW + 3000).unwrap();
    assert_eq!(world.all_bodies(NOW + 3000, "T").len(), 2);
}

#[test]
fn a_start_an_hour_late_delivers_what_became_due_in_the_order_of_time() {
    let world = world("");
    let order = [7, 3, 9, 1, 3, 8];
    for (nth, minute) in order.iter().enumerate() {
        world.later(NOW, NOW + minute * 60_000, &format!("{minute}-{nth}"));
    }
    world.later(NOW, NOW + 3 * HOUR, "later");
    world.broker.tick(NOW);
    let world = world.kill_and_open();
    assert_eq!(world.seen(NOW + HOUR), ["1-3", "3-1", "3-4", "7-0", "8-5", "9-2"]);
}

#[test]
fn queues_that_are_made_again_hold_what_they_held() {
    let world = world("");
    world.later(NOW, NOW + 5000, "first");
    world.later(NOW, NOW + 1000, "second");
    assert_eq!(world.seen(NOW + 1000), ["second"]);
    let code = |world: &World| {
        let mut entries = [store::queue::Entry::default(); 2];
        world.broker.store.find_queue(WHEEL_TIMER_TOPIC, 0).unwrap().read(0, &mut entries).unwrap();
        entries.map(|entry| entry.tags_code)
    };
    let codes = code(&world);
    assert!(codes.iter().all(|code| *code > i64::from(i32::MAX)));
    world.broker.checkpoint();
    std::fs::remove_dir_all(world.broker.store.root().join("consumequeue")).unwrap();
    let world = world.kill_and_open();
    assert_eq!(code(&world), codes);
    assert_eq!(world.seen(NOW + 5000), ["second", "first"]);
}

#[test]
fn what_java_left_pending_is_delivered_and_nothing_else() {
    let world = world("");
    // As Java writes it: rounded down to seconds, with the hash of the tag in the queue.
    for (deliver, out, body) in [
        (NOW + 400, 1_700_000_000_000i64, "java-delivered"),
        (NOW + 5400, 1_700_000_005_000, "pending"),
        (NOW + 400, 1_700_000_000_000, "not-read-by-java"),
    ] {
        let waiting = [
            (TIMER_DELIVER_MS, deliver.to_string()),
            ("TIMER_OUT_MS", out.to_string()),
            ("REAL_TOPIC", "T".into()),
            ("REAL_QID", "0".into()),
        ];
        let waiting: Vec<_> = waiting.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(world.send(NOW, WHEEL_TIMER_TOPIC, &text(&waiting), body).code, codes::SUCCESS);
    }
    world.send(NOW, "T", "", "made");
    let path = world.broker.store.root().join("config/timercheck");
    let World { broker, directory, settings } = world;
    drop(broker);
    let mut page = vec![0; 4096];
    page[..8].copy_from_slice(&1_700_000_002_000i64.to_be_bytes());
    page[16..24].copy_from_slice(&2i64.to_be_bytes());
    std::fs::write(&path, page).unwrap();
    let world = World { broker: open(directory.path(), &settings), directory, settings };
    assert_eq!(world.seen(NOW + 3000), ["made", "not-read-by-java"]);
    assert_eq!(world.seen(NOW + 5399), ["made", "not-read-by-java"]);
    assert_eq!(world.seen(NOW + 5400), ["made", "not-read-by-java", "pending"]);
    assert_eq!(world.kill_and_open().seen(NOW + HOUR), ["made", "not-read-by-java", "pending"]);
}

#[test]
fn old_timers_are_written_anew_before_their_file_goes() {
    let mut world = world("fileReservedTime=1\n");
    for n in 0..40 {
        // The same key and time: nothing but their places tells them apart.
        world.send(NOW, "T", &keyed(NOW + 2 * HOUR, "KEY"), &format!("m{n}"));
    }
    world.later(NOW, NOW + 60_000, "soon");
    assert_eq!(world.seen(NOW + 60_000), ["soon"]);
    let queue_end = |world: &World| world.broker.store.find_queue(WHEEL_TIMER_TOPIC, 0).unwrap().max_offset();
    let mut now = NOW + 39 * 60_000;
    world.broker.tick(now);
    assert_eq!(queue_end(&world), 41);
    for kill in [true, false, true, false] {
        now += 60_000;
        // One tick sees that a block is old, the next one writes it anew.
        world.broker.tick(now);
        world.broker.tick(now + 10);
        if kill {
            world = world.kill_and_open();
        }
    }
    world.broker.tick(now + 20);
    assert_eq!(queue_end(&world), 81);
    let mark = world.ask(now, &peer(1), &GetTimerCheckPoint {}, &[]).body;
    assert_eq!(mark.len(), 56);
    assert_eq!(mark[16..24], 81i64.to_be_bytes());
    let text = world.properties_of(now, WHEEL_TIMER_TOPIC, 80);
    assert_eq!(properties::get(&text, "TIMER_ROLL_TIMES"), Some("1"));
    let world = world.kill_and_open();
    let mut seen = world.seen(NOW + 2 * HOUR);
    seen.sort();
    let mut expected: Vec<_> = (0..40).map(|n| format!("m{n}")).chain(["soon".into()]).collect();
    expected.sort();
    assert_eq!(seen, expected);
    let text = world.properties_of(now, "T", 1);
    assert_eq!(properties::get(&text, "TIMER_ROLLED_FROM"), None);
}

#[test]
fn a_committed_half_message_may_ask_for_a_time() {
    let world = world("");
    let half = world.prepare(NOW, &at(NOW + 5000), "later");
    assert_eq!(world.seen(NOW + 1), [""; 0]);
    assert_eq!(world.end(NOW + 10, half, TRANSACTION_COMMIT).0, codes::SUCCESS);
    assert_eq!(world.waiting(), 1);
    assert_eq!(world.seen(NOW + 4999), [""; 0]);
    assert_eq!(world.seen(NOW + 5000), ["later"]);
    let pulled = world.pull(NOW, &peer(9), "T", 0, 0).unwrap();
    assert_eq!(record::decode(&pulled.body).unwrap().sys_flag & TRANSACTION_COMMIT, TRANSACTION_COMMIT);
}

#[test]
fn timers_can_be_held_back_and_go_on() {
    let world = world("");
    world.later(NOW, NOW + 10, "held");
    let set = |key: &str, value: &str| {
        let entries = files::parse(format!("{key}={value}\n").as_bytes()).unwrap();
        world.broker.update_config(&entries).unwrap();
    };
    set("timerStopDequeue", "true");
    assert_eq!(world.seen(NOW + 10), [""; 0]);
    let info = world.ask(NOW + 3010, &peer(1), &GetBrokerRuntimeInfo {}, &[]);
    let info = String::from_utf8(info.body.to_vec()).unwrap();
    for figure in ["\"timerCongestNum\":\"1\"", "\"timerReadBehind\":\"3\"", "\"timerOffsetBehind\":\"0\""] {
        assert!(info.contains(figure), "{figure}: {info}");
    }
    set("timerStopDequeue", "false");
    set("timerStopEnqueue", "true");
    world.later(NOW + 20, NOW + 30, "left");
    assert_eq!(world.seen(NOW + 40), ["held"]);
    set("timerStopEnqueue", "false");
    assert_eq!(world.seen(NOW + 50), ["held", "left"]);
}

#[test]
fn a_clean_stop_says_all_to_java_and_to_the_next_start() {
    let world = world("");
    world.later(NOW, NOW + 5000, "pending");
    world.later(NOW, NOW + 10, "delivered");
    assert_eq!(world.seen(NOW + 100), ["delivered"]);
    world.broker.tend_store(NOW + 100);
    world.broker.close(NOW + 200).unwrap();
    let page = std::fs::read(world.broker.store.root().join("config/timercheck")).unwrap();
    let number = |at: usize| i64::from_be_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!(number(0), 1_700_000_000_000);
    let world = world.kill_and_open();
    assert_eq!(world.waiting(), 1);
    assert_eq!(world.seen(NOW + 5000), ["delivered", "pending"]);
}
