//! Ordered consumption while consumers join, leave and are killed: no message before the one before it was consumed, and
//! no queue without an owner for longer than a dead client's lock lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tests::{Client, Server, Setup, admin, go_client, java_client, wait_for};

const QUEUES: usize = 6;
/// ms that the lock of a client that was killed keeps its queues from others.
const LOCK_MS: i64 = 3000;
/// How often Go's clients balance; those that need more than one round for each step join together, and leave together.
const GO_BALANCE_MS: i64 = 20_000;
/// Messages of a queue that wait while consumers change.
const PHASE: usize = 30;

/// What a consumer noted.
#[derive(Debug)]
struct Event {
    what: String,
    instance: String,
    /// Topic and queue.
    queue: String,
    number: usize,
    at: i64,
}

fn events(file: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // Of a line that is being written there may be a part.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    whole
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let (queue, number) = words[2].rsplit_once('/').unwrap();
            Event {
                what: words[0].into(),
                instance: words[1].into(),
                queue: queue.into(),
                number: number.parse().unwrap(),
                at: words[3].parse().unwrap(),
            }
        })
        .collect()
}

/// Where a message was begun, the one before it had been ended before.
fn check_order(events: &[Event]) {
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let next = next.entry(&event.queue).or_default();
        match event.what.as_str() {
            "begin" => assert!(event.number <= *next, "{event:?} came before message {next} of its queue was consumed"),
            _ => *next = (*next).max(event.number + 1),
        }
    }
}

/// The longest time between two events of a queue in which messages were waiting, from a moment on.
fn longest_gap(events: &[Event], from: i64) -> i64 {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut longest = 0;
    for event in events.iter().filter(|event| event.at >= from) {
        let before = last.insert(&event.queue, event.at).unwrap_or(from);
        longest = longest.max(event.at - before);
    }
    longest
}

fn create_topic(server: &str, topic: &str, queues: usize) {
    let queues = queues.to_string();
    let arguments = ["updateTopic", "-n", server, "-c", "DefaultCluster", "-t", topic, "-r", &queues, "-w", &queues];
    admin(&arguments);
}

/// Three consumers, two of them in one process; the third is killed.
struct Stage {
    address: String,
    file: PathBuf,
    first: Client,
    second: Option<Client>,
    /// Messages sent to each queue so far.
    sent: usize,
}

impl Stage {
    fn start(&mut self, instance: &str) {
        let client = if instance == "three" { self.second.as_mut().unwrap() } else { &mut self.first };
        let file = self.file.display().to_string();
        client.call(&["Orderly", "start", &self.address, "ordering", instance, "Ordered,Global", &file, "5", "100", "3"]);
    }

    fn send(&mut self, count: usize) {
        let (from, to) = (self.sent.to_string(), (self.sent + count).to_string());
        for topic in ["Ordered", "Global"] {
            let queues = if topic == "Global" { "1".to_owned() } else { QUEUES.to_string() };
            self.first.call(&["Orderly", "send", &self.address, topic, &from, &to, &queues]);
        }
        self.sent += count;
    }

    /// Sends until an instance, which has joined, consumes some of it.
    fn send_until_shared(&mut self, instance: &str) {
        let from = self.sent;
        wait_for(&format!("{instance} to get a queue"), || {
            self.send(1);
            events(&self.file).iter().any(|e| e.instance == instance && e.number >= from).then_some(())
        });
    }

    /// Waits until every message that was sent is consumed.
    fn wait_for_all(&self) {
        wait_for("all messages to be consumed", || {
            let mut done: BTreeMap<String, usize> = BTreeMap::new();
            for event in events(&self.file).into_iter().filter(|event| event.what == "end") {
                let next = done.entry(event.queue).or_default();
                *next = (*next).max(event.number + 1);
            }
            (done.len() == QUEUES + 1 && done.values().all(|next| *next == self.sent)).then_some(())
        });
    }
}

/// `patience` ms after the end of a dead client's lock at the latest, another client has its queue: clients ask for it
/// when they balance, every 500 ms in Java here, every 20 s in Go.
fn ordered_consumers_come_and_go(first: Client, second: Client, patience: i64) {
    let server = Server::start(Setup { broker: format!("rocketmq.broker.rebalance.lockMaxLiveTime={LOCK_MS}\n") });
    let address = server.name_server();
    create_topic(&address, "Ordered", QUEUES);
    create_topic(&address, "Global", 1);
    let file = server.directory.path().join("events");
    let mut stage = Stage { address: address.clone(), file: file.clone(), first, second: Some(second), sent: 0 };
    stage.first.call(&["producer", &address, "producers"]);
    for instance in ["one", "two", "three"] {
        stage.start(instance);
        if patience < GO_BALANCE_MS {
            stage.send_until_shared(instance);
        }
    }
    stage.send(PHASE);
    stage.send_until_shared("three");
    stage.second.take().unwrap().kill();
    let killed = events(&file).iter().filter(|e| e.instance == "three").map(|e| e.at).max().unwrap();
    stage.send(PHASE);
    stage.wait_for_all();
    let gap = longest_gap(&events(&file), killed);
    assert!(gap <= LOCK_MS + patience, "a queue had no owner for {gap} ms");
    if patience < GO_BALANCE_MS {
        stage.first.call(&["Orderly", "stop", "one"]);
        stage.send(PHASE);
        stage.wait_for_all();
    }
    stage.first.call(&["Orderly", "stop", "two"]);
    check_order(&events(&file));
}

macro_rules! versions {
    ($($name:ident: $client:ident($version:literal), $patience:literal;)*) => {$(
        #[test]
        fn $name() {
            if let (Some(first), Some(second)) = ($client($version), $client($version)) {
                ordered_consumers_come_and_go(first, second, $patience);
            }
        }
    )*};
}

versions! {
    java_4_9_4: java_client("4.9.4"), 10_000;
    java_5_4_0: java_client("5.4.0"), 10_000;
    go_2_1_2: go_client("v2.1.2"), 30_000;
}
