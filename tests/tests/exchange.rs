//! A store directory goes from Java's broker to this project's and back, and everything in it is found again.
//!
//! A Java client reads all that can be known of every message before and after a change of brokers: body, properties,
//! ids, hosts, times, offsets. What it reads must be the same, whoever serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use protocol::record::{MAGIC_V2, peek};
use tests::{Client, Exchange, Link, Whose, java_exchange_client, wait_for};

/// Small files, so that there are several of each. Those of queues are large enough for the first to outlive the oldest
/// segments: Java looks for a queue's first message there alone, until it cleans a minute after its start.
const SETTINGS: &str = "mappedFileSizeCommitLog=131072
mappedFileSizeConsumeQueue=6000
maxHashSlotNum=1000
maxIndexNum=4000
messageDelayLevel=1s 12s 1s 1s 1h
transactionCheckInterval=500
transactionTimeOut=3600000
osPageCacheBusyTimeOutMills=20000
waitTimeMillsInSendQueue=20000
";
const V4: &str = "brokerIP1=127.0.0.1\n";
const V6: &str = "brokerIP1=::1\nbindAddress=::\n";
const SEGMENT: u64 = 131_072;
/// Bytes of bodies that the client compresses.
const LARGE: usize = 40_000;
/// How many messages of the topic `Plain` are sent in each run of a broker.
const PLAIN: usize = 300;
const SEND_MESSAGE_V2: i32 = 310;
const PLAIN_QUEUES: &str = "2";

/// Topics and their numbers of queues.
const TOPICS: [&str; 9] = [
    "Plain:2",
    "Batched:1",
    "Large:1",
    "Later:1",
    "Paid:1",
    "Retried:1",
    "%RETRY%retriers:1",
    "SCHEDULE_TOPIC_XXXX:5",
    "RMQ_SYS_TRANS_HALF_TOPIC:1",
];

type Queue = (String, String);

/// All that a client can learn of a store.
#[derive(Default)]
struct Dump {
    /// First and next offset of each queue.
    bounds: BTreeMap<Queue, (i64, i64)>,
    messages: BTreeMap<(Queue, i64), Message>,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    physical_offset: u64,
    stored: i64,
    body: String,
    /// All of it.
    line: String,
}

impl Dump {
    fn of(words: &[String]) -> Self {
        let mut dump = Self::default();
        for line in words.iter().filter(|line| !line.is_empty()) {
            let parts: Vec<_> = line.split(' ').collect();
            let queue = (parts[1].to_owned(), parts[2].to_owned());
            let number = |nth: usize| parts[nth].parse::<i64>().unwrap();
            if parts[0] == "queue" {
                dump.bounds.insert(queue, (number(3), number(4)));
            } else {
                let message =
                    Message { physical_offset: number(4) as u64, stored: number(5), body: parts[6].into(), line: line.clone() };
                dump.messages.insert((queue, number(3)), message);
            }
        }
        for (queue, (min, max)) in &dump.bounds {
            let offsets = dump.messages.keys().filter(|(q, _)| q == queue).map(|(_, offset)| *offset);
            assert!(offsets.eq(*min..*max), "{queue:?} has holes between {min} and {max}");
        }
        dump
    }

    /// Messages of a topic, in the order of their offsets.
    fn topic(&self, topic: &str) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |(((t, _), _), _)| t == topic).map(|(_, message)| message)
    }

    fn bodies(&self, topic: &str) -> BTreeSet<&str> {
        self.topic(topic).map(|message| message.body.as_str()).collect()
    }
}

/// Everything that `before` holds from `log_min` on is in `after`, unchanged, and queues begin with it.
fn assert_kept(what: &str, before: &Dump, after: &Dump, log_min: u64) {
    let mut lost = Vec::new();
    for (place, message) in before.messages.iter().filter(|(_, m)| m.physical_offset >= log_min) {
        match after.messages.get(place) {
            Some(found) if found == message => {}
            Some(found) => lost.push(format!("{}\n  is {}", message.line, found.line)),
            None => lost.push(format!("{} is gone", message.line)),
        }
    }
    assert!(
        lost.is_empty(),
        "{what}: {} of {} differ:\n{}",
        lost.len(),
        before.messages.len(),
        lost[..lost.len().min(5)].join("\n")
    );
    for (queue, (min, max)) in &before.bounds {
        let kept = before.messages.iter().find(|((q, _), m)| q == queue && m.physical_offset >= log_min);
        let expected = if log_min == 0 { *min } else { kept.map_or(*max, |((_, offset), _)| *offset) };
        // Java leaves a queue's old bound where the log has none of its messages any more.
        if kept.is_some() || log_min == 0 {
            assert_eq!(after.bounds[queue].0, expected, "{what}: the first offset of {queue:?}");
        }
        assert!(after.bounds[queue].1 >= *max, "{what}: {queue:?} ends at {:?} instead of {max}", after.bounds[queue]);
    }
}

/// One store on its way between brokers.
struct Journey {
    store: Exchange,
    client: Client,
    /// Of more than 127 characters, where this version of Java has records for it.
    long_topic: Option<String>,
    /// Topics that this version has beside [`TOPICS`].
    more: Vec<String>,
    ip: &'static str,
    dump: Dump,
    settings: Vec<String>,
    run: usize,
    /// How the last broker stopped.
    clean: bool,
}

impl Journey {
    fn open(&mut self, whose: Whose, settings: &str) {
        self.run += 1;
        self.ip = if settings.starts_with(V6) { "::1" } else { "127.0.0.1" };
        assert!(self.store.open(whose, settings), "Java was here a moment ago");
        let server = self.store.name_server();
        if self.run > 1 {
            self.client.call(&["stop", &server]);
        }
        let address = self.store.broker(self.ip);
        self.say(&["begin", &server, &address]);
        self.client.call(&["producer", &server, &format!("producers-{}", self.run)]);
    }

    fn stop(&mut self) {
        self.store.stop();
        self.clean = true;
    }

    fn kill(&mut self) {
        self.store.kill();
        self.clean = false;
    }

    fn say(&mut self, words: &[&str]) -> Vec<String> {
        self.client.call(&[&["Exchange"], words].concat())
    }

    fn read(&mut self) -> Dump {
        let more = self.more.clone();
        let words: Vec<_> = ["dump"].into_iter().chain(TOPICS).chain(more.iter().map(String::as_str)).collect();
        Dump::of(&self.say(&words))
    }

    /// What was there before is there; queues begin where the log does.
    fn check(&mut self, what: &str) {
        let log_min = self.oldest_segments(1)[0];
        let dump = self.read();
        assert_kept(what, &self.dump, &dump, log_min);
        self.tags_are_found(&dump);
        self.messages_are_found_by_id(&dump);
        assert_eq!(self.how_it_is_set(), self.settings, "{what}");
        self.dump = dump;
    }

    fn tags_are_found(&mut self, dump: &Dump) {
        let tagged = |m: &Message| m.line.contains(" tags=a ") || m.line.contains(" tags=c ");
        let expected: Vec<_> = dump
            .messages
            .iter()
            .filter(|(((topic, _), _), message)| topic == "Plain" && tagged(message))
            .map(|(((_, id), offset), _)| format!("{id} {offset}"))
            .collect();
        let found = self.say(&["tagged", "Plain", PLAIN_QUEUES, "a || c"]);
        let missing: Vec<_> = expected.iter().filter(|place| !found.contains(place)).collect();
        assert!(missing.is_empty(), "of {} messages with tags a and c are missing: {missing:?}", expected.len());
        assert_eq!(found.len(), expected.len(), "messages with tags a and c");
    }

    /// The newest and the oldest, where their ids name the address that this broker has.
    fn messages_are_found_by_id(&mut self, dump: &Dump) {
        let lines: Vec<_> = dump.topic("Large").map(|m| m.line.as_str()).collect();
        let host_digits = if self.ip == "::1" { 56 } else { 32 };
        let ids = lines.iter().filter_map(|line| line.split(" offsetId=").nth(1)?.split(' ').next());
        let ids: Vec<_> = ids.filter(|id| id.len() == host_digits).collect();
        for id in ids.first().into_iter().chain(ids.last()) {
            let body = self.client.call(&["view", &self.store.name_server(), "Large", id]);
            assert!(body[0].starts_with("large-"), "{body:?}");
        }
    }

    /// The newest of each run so far, but for those before `first_run`.
    fn messages_are_found_by_key(&mut self, first_run: usize) {
        for run in first_run..self.run {
            let key = format!("plain-{run}-{}", PLAIN - 1);
            let found = self.dump.messages.iter().find(|(_, message)| message.line.contains(&format!(" keys={key} ")));
            let (((_, id), offset), _) = found.unwrap_or_else(|| panic!("{key} is gone"));
            assert_eq!(self.client.call(&["Exchange", "keyed", "Plain", &key]), [format!("{id} {offset}")], "{key}");
        }
    }

    fn how_it_is_set(&mut self) -> Vec<String> {
        let address = self.store.broker(self.ip);
        self.say(&["settings", &address, "Plain,ReadOnly,%RETRY%retriers", "readers,retriers"])
    }

    /// Sends messages of all kinds, and reads the plain ones with a group.
    fn write(&mut self, whose: Whose) {
        let (server, run) = (self.store.name_server(), self.run);
        let count = PLAIN.to_string();
        self.say(&["send", &server, "Plain", PLAIN_QUEUES, &count, &format!("plain-{run}-"), "1000"]);
        self.say(&["send", &server, "Large", "1", "4", &format!("large-{run}-"), &LARGE.to_string()]);
        self.client.call(&["SendBatch", &server, "Batched", "TagB", &format!("batch-{run}-"), "7"]);
        for (level, kind) in [("1", "soon"), ("2", "later"), ("5", "never")] {
            self.say(&["delayed", &server, "Later", level, &format!("{kind}-{run}")]);
        }
        if whose != Whose::Ferrocket {
            self.say(&["transactions", &server, "Paid", &format!("paid-{run}-")]);
        }
        if let Some(topic) = &self.long_topic {
            send_raw(&self.store.broker(self.ip), topic, &format!("long-{run}"));
        }
        self.client.call(&["push", &server, "readers", "Plain", "*", "0"]);
        let own = format!("plain-{run}-");
        let (mut got, mut wanted) = (Vec::new(), PLAIN);
        // After a kill a group may get some messages again.
        while got.iter().filter(|body: &&String| body.starts_with(&own)).collect::<BTreeSet<_>>().len() < PLAIN {
            got = self.client.bodies(&["poll", "readers", &wanted.to_string()]);
            assert!(got.len() >= wanted, "run {run}: {} messages, {wanted} wanted", got.len());
            wanted += 1;
        }
        assert!(!self.clean || got.len() == PLAIN, "run {run}: {} messages, {PLAIN} were sent", got.len());
        self.client.call(&["stopPush", "readers"]);
    }

    /// A message that a consumer fails, which comes again.
    fn retry(&mut self) {
        let server = self.store.name_server();
        // A client learns of its group's retry topic when it starts; the first start makes it.
        self.client.call(&["push", &server, "retriers", "Retried", "*", "0"]);
        self.client.call(&["stopPush", "retriers"]);
        self.client.call(&["push", &server, "retriers", "Retried", "*", "1"]);
        self.client.call(&["send", &server, "Retried", "TagA", "again"]);
        assert_eq!(self.client.bodies(&["poll", "retriers", "1"]), ["again@1"]);
        self.client.call(&["stopPush", "retriers"]);
    }

    fn committed(&mut self) -> Vec<i64> {
        self.say(&["committed", "Plain", PLAIN_QUEUES, "readers"]).iter().map(|n| n.parse().unwrap()).collect()
    }

    /// The offsets of the oldest segments.
    fn oldest_segments(&self, count: usize) -> Vec<u64> {
        let names = fs::read_dir(self.store.store().join("commitlog")).unwrap().map(|e| e.unwrap().file_name());
        let all: BTreeSet<u64> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        all.into_iter().take(count).collect()
    }

    /// The magic of the record at an offset of the log.
    fn magic_at(&self, offset: u64) -> u32 {
        let base = offset - offset % SEGMENT;
        let segment = fs::read(self.store.store().join(format!("commitlog/{base:020}"))).unwrap();
        peek(&segment[(offset - base) as usize..]).unwrap().1
    }

    /// Removes segments as somebody would who needs the room.
    fn remove_oldest_segments(&self, count: usize) {
        for base in self.oldest_segments(count) {
            fs::remove_file(self.store.store().join(format!("commitlog/{base:020}"))).unwrap();
        }
    }

    /// Delayed messages of the runs before arrive, and, where their times are known, none too early.
    fn delayed_messages_arrive(&mut self, times_are_known: bool) {
        let soon = (1..=self.run).map(|run| format!("soon-{run}"));
        let expected: BTreeSet<_> = soon.chain((1..self.run).map(|run| format!("later-{run}"))).collect();
        let dump = wait_for("delayed messages", || {
            let dump = self.read();
            expected.iter().all(|body| dump.bodies("Later").contains(body.as_str())).then_some(dump)
        });
        for delivered in dump.topic("Later").filter(|_| times_are_known) {
            assert!(!delivered.body.starts_with("never"), "{}", delivered.line);
            if delivered.body.starts_with("later")
                && let Some(waiting) = dump.topic("SCHEDULE_TOPIC_XXXX").find(|m| m.body == delivered.body)
            {
                // The time of a level counts from the arrival of a message, which is a little before it is stored.
                let waited = delivered.stored - waiting.stored;
                assert!(waited > 11_000, "{} waited {waited} ms", delivered.line);
            }
        }
        self.dump = dump;
    }
}

/// Sends to a topic that Java's client takes for too long: only brokers send to such topics.
fn send_raw(broker: &str, topic: &str, body: &str) {
    let address = broker.replace("::1:", "[::1]:");
    let fields = format!("a=p;b={topic};c=TBW102;d=1;e=0;f=0;g=1;h=0");
    let (answer, _) = Link::to(&address).call(SEND_MESSAGE_V2, &fields, body.as_bytes());
    assert_eq!((answer.code, answer.remark.as_str()), (0, ""));
}

fn start(version: &'static str, long_group: Option<String>) -> Option<Journey> {
    let client = java_exchange_client(version)?;
    let store = Exchange::start(Whose::Ferrocket, SETTINGS);
    let (mut long_topic, mut more) = (None, Vec::new());
    if let Some(group) = long_group {
        // Brokers make no groups with such names any more, but go on with those that they have.
        let config = store.store().join("config");
        fs::create_dir_all(&config).unwrap();
        let groups = format!("{{\"subscriptionGroupTable\":{{\"{group}\":{{\"groupName\":\"{group}\"}}}}}}");
        fs::write(config.join("subscriptionGroup.json"), groups).unwrap();
        let topic = format!("%RETRY%{group}");
        // 4.9 does not tell clients of the topic of a transaction's ends.
        more = vec![format!("{topic}:1"), "RMQ_SYS_TRANS_OP_HALF_TOPIC:1".into()];
        long_topic = Some(topic);
    }
    let ip = "127.0.0.1";
    let mut journey =
        Journey { store, client, long_topic, more, ip, dump: Dump::default(), settings: Vec::new(), run: 0, clean: true };
    journey.open(Whose::Java(version), V4);
    let address = journey.store.broker(ip);
    for (topic, queues, permissions) in [
        ("Plain", "2", "6"),
        ("Large", "1", "6"),
        ("Batched", "1", "6"),
        ("Later", "1", "6"),
        ("Paid", "1", "6"),
        ("Retried", "1", "6"),
        ("ReadOnly", "5", "4"),
    ] {
        journey.say(&["topic", &address, topic, queues, permissions]);
    }
    Some(journey)
}

/// What the first broker, Java's, has written is as it was asked for: what all that follows is compared with.
fn check_what_java_wrote(journey: &mut Journey) {
    let dump = journey.read();
    let paid: Vec<_> = dump.topic("Paid").map(|m| m.body.as_str()).collect();
    assert_eq!(paid, ["paid-1-COMMIT_MESSAGE"]);
    assert_eq!(dump.topic("RMQ_SYS_TRANS_HALF_TOPIC").count(), 3, "committed, rolled back and unknown");
    assert_eq!((dump.topic("Plain").count(), dump.topic("Batched").count(), dump.topic("Large").count()), (PLAIN, 7, 4));
    for large in dump.topic("Large") {
        let size = large.line.split(" size=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(size.parse::<usize>().unwrap() < LARGE / 2, "compressed: {}", large.line);
    }
    assert!(dump.topic("%RETRY%retriers").any(|m| m.body == "again"));
    let longest = dump.messages.values().map(|m| m.physical_offset).max().unwrap();
    assert!(longest > 2 * SEGMENT, "several segments");
    if let Some(topic) = &journey.long_topic {
        let long = dump.topic(topic).next().expect("a message of the long topic");
        assert_eq!(journey.magic_at(long.physical_offset), MAGIC_V2);
    }
    journey.dump = dump;
    journey.settings = journey.how_it_is_set();
}

fn there_and_back(version: &'static str, long_group: Option<String>) {
    let java = Whose::Java(version);
    let Some(mut journey) = start(version, long_group) else { return };
    journey.write(java);
    journey.retry();
    let address = journey.store.broker("127.0.0.1");
    journey.say(&["group", &address, "readers", "7", "readers"]);
    check_what_java_wrote(&mut journey);
    let committed = journey.committed();
    assert_eq!(committed.iter().sum::<i64>(), PLAIN as i64);
    journey.stop();

    journey.open(Whose::Ferrocket, V4);
    journey.check("Java stopped, Ferrocket reads");
    journey.messages_are_found_by_key(1);
    assert_eq!(journey.committed(), committed);
    journey.write(Whose::Ferrocket);
    journey.delayed_messages_arrive(true);
    let committed = journey.committed();
    journey.kill();

    // With addresses of the sixth version, and queues whose tags stand in a file of their own.
    journey.open(java, &format!("{V6}enableConsumeQueueExt=true\n"));
    journey.check("Ferrocket was killed, Java reads");
    journey.write(java);
    journey.check("Java has gone on");
    assert!(journey.dump.topic("Plain").any(|m| m.line.contains("storeHost=/[0:0:0:0:0:0:0:1]")), "IPv6");
    assert!(journey.committed() >= committed);
    journey.kill();

    journey.open(Whose::Ferrocket, V4);
    journey.check("Java was killed, Ferrocket reads");
    // After a kill Java drops the newest file of its key index, and reads only the end of the log for it again.
    journey.messages_are_found_by_key(3);
    journey.write(Whose::Ferrocket);
    // After a kill 4.9 makes queues again before it knows how long its delay levels are, and delivers at once.
    journey.delayed_messages_arrive(version != "4.9.4");
    let committed = journey.committed();
    journey.stop();
    journey.remove_oldest_segments(2);

    journey.open(java, &format!("{V4}enableConsumeQueueExt=true\n"));
    journey.check("Ferrocket stopped and the oldest segments are gone, Java reads");
    journey.messages_are_found_by_key(3);
    assert_eq!(journey.committed(), committed);
    journey.write(java);
    journey.check("Java has gone on without the oldest segments");
    journey.stop();
    journey.remove_oldest_segments(2);

    journey.open(Whose::Ferrocket, V4);
    journey.check("Java stopped and the oldest segments are gone, Ferrocket reads");
    journey.messages_are_found_by_key(3);
    journey.write(Whose::Ferrocket);
    journey.check("Ferrocket has gone on without the oldest segments");
    journey.messages_are_found_by_key(3);
    journey.stop();
}

#[test]
fn java_4_9_4() {
    there_and_back("4.9.4", None);
}

/// 5.x stores retry topics of more than 127 characters in records of version 2.
#[test]
fn java_5_4_0() {
    there_and_back("5.4.0", Some("long-".repeat(30)));
}
