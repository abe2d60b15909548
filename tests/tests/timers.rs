//! Timer messages: with Java's client 5.4.0, against Java's broker 5.4.0, over directories that each leaves to the other,
//! and many of them over a kill.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::BytesMut;
use protocol::{Header, codes, message_id, properties, record};
use tests::{
    Answer, Exchange, Fields, JAVA, Link, PATIENCE, Server, Setup, Whose, java_client, memory, now, pull_request, wait_for,
    write_request,
};

const SEND: i32 = 310;
const RECALL: i32 = 370;
const SETTINGS: &str = "recallMessageEnable=true\n";

/// A connection that writes requests as Java's clients do.
struct Peer {
    link: Link,
}

/// A message as a consumer gets it.
#[derive(Debug)]
struct Stored {
    body: String,
    store_timestamp: i64,
    properties: Fields,
}

impl Peer {
    fn new(port: u16) -> Self {
        Self { link: Link::connect(port) }
    }

    /// Sends a message with a key and more properties, such as `NAME=value`.
    fn send(&mut self, key: &str, extra: &[(&str, &str)], body: &str) -> Answer {
        let text = text(key, extra);
        self.link.call(SEND, &send_fields(&text), body.as_bytes()).0
    }

    fn recall(&mut self, topic: &str, handle: &str) -> Answer {
        self.link.call(RECALL, &format!("producerGroup=p;topic={topic};recallHandle={handle}"), &[]).0
    }

    /// The messages of queue 0 of a topic from an offset on.
    fn pull(&mut self, topic: &str, offset: usize) -> Vec<Stored> {
        let frame = self.link.request(&pull_request(topic, 0, offset as i64), &[]);
        if Header::decode(&frame).unwrap().code != codes::SUCCESS {
            return Vec::new();
        }
        let stored = |record: record::Record<'_>| Stored {
            body: String::from_utf8_lossy(record.body).into_owned(),
            store_timestamp: record.store_timestamp,
            properties: properties::pairs(record.properties).map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        };
        record::decode_all(&frame.body).map(|record| stored(record.unwrap())).collect()
    }

    /// All messages of `Later`, once there are `count`.
    fn all(&mut self, count: usize) -> Vec<Stored> {
        let mut all = Vec::new();
        wait_for("the messages", || {
            let more = self.pull("Later", all.len());
            let went_on = !more.is_empty();
            all.extend(more);
            (all.len() >= count && !went_on).then_some(())
        });
        all
    }
}

fn text(key: &str, extra: &[(&str, &str)]) -> String {
    let mut text = String::new();
    properties::push(&mut text, properties::UNIQUE_KEY, key);
    extra.iter().for_each(|(name, value)| properties::push(&mut text, name, value));
    text
}

fn send_fields(text: &str) -> String {
    format!("a=p;b=Later;c=TBW102;d=1;e=0;f=0;g=1;h=0;i={text}")
}

fn bodies(stored: &[Stored]) -> Vec<&str> {
    stored.iter().map(|stored| stored.body.as_str()).collect()
}

#[test]
fn java_5_4_0_sends_later_and_recalls() {
    let Some(mut client) = java_client("5.4.0") else { return };
    let mut server = Server::start(Setup { broker: SETTINGS.into() });
    let address = server.name_server();
    client.call(&["producer", &address, "producers"]);
    let mut send = |how: &str, time: i64, body: &str| {
        let answer = client.call(&["Timer", how, &address, "Later", &time.to_string(), body]);
        assert_eq!(answer[0], "SEND_OK", "{body}");
        answer[1].clone()
    };
    let begun = now();
    send("afterMs", 3456, "after-3456-ms");
    send("afterSec", 5, "after-5-s");
    send("at", begun + 4321, "at-4321");
    let recalled = send("at", begun + 4000, "recalled");
    assert_eq!(send("at", begun - 1, "at-once"), "null");
    let far = send("afterSec", 250_000, "far");
    let too_far = client.try_call(&["Timer", "afterSec", &address, "Later", "259201", "too-far"]).unwrap_err();
    assert!(too_far.contains("the delay time should not be bigger than the max delay 259200000ms"), "{too_far}");
    let key = client.call(&["Timer", "recall", &address, "Later", &recalled]);
    assert!(!key[0].is_empty());
    server.kill();
    server.start_again();
    wait_for("a send to succeed", || client.try_call(&["send", &address, "Later", "TagA", "plain"]).ok());
    let again = client.try_call(&["Timer", "recall", &address, "Later", &recalled]).unwrap_err();
    assert!(again.contains("does not wait") || again.contains("timestamp invalid"), "{again}");
    client.call(&["Timer", "recall", &address, "Later", &far]);
    client.call(&["push", &address, "reading", "Later", "*", "0"]);
    let mut bodies = client.bodies(&["poll", "reading", "5"]);
    bodies.sort();
    assert_eq!(bodies, ["after-3456-ms", "after-5-s", "at-4321", "at-once", "plain"]);
    assert!(now() >= begun + 5000);
    client.call(&["stopPush", "reading"]);
    client.call(&["stop", &address]);
}

/// What a broker with timers says to times and recalls.
fn answers_with_wheel(port: u16) -> Vec<(String, Answer)> {
    let mut peer = Peer::new(port);
    let mut answers = Vec::new();
    let soon = (now() + 50_000).to_string();
    let far = (now() + 200_000).to_string();
    for (name, value) in [
        ("TIMER_DELAY_SEC", "50"),
        ("TIMER_DELAY_MS", "50000"),
        ("TIMER_DELIVER_MS", soon.as_str()),
        ("TIMER_DELAY_SEC", "101"),
        ("TIMER_DELAY_MS", "100001"),
        ("TIMER_DELIVER_MS", &far),
        ("TIMER_DELAY_SEC", "ten"),
        ("TIMER_DELAY_MS", "1.5"),
        ("TIMER_DELIVER_MS", "99999999999999999999"),
        ("TIMER_DELAY_SEC", "-1"),
        ("TIMER_DELAY_MS", "-5"),
        ("TIMER_DELIVER_MS", "-5"),
        ("TIMER_DELAY_SEC", "0"),
    ] {
        let mut answer = peer.send("KEY", &[(name, value)], "x");
        answer.fields.remove("msgId");
        if let Some(handle) = answer.fields.get_mut("recallHandle") {
            // Java's says the slot, this project's the millisecond.
            handle.truncate(16);
        }
        answers.push((format!("{name}={value}"), answer));
    }
    let both = peer.send("KEY", &[("DELAY", "1"), ("TIMER_DELAY_SEC", "ten")], "x").code;
    answers.push(("a level, too".into(), Answer { code: both, remark: String::new(), fields: Fields::new() }));
    let over = (now() - 10).to_string();
    answers
        .push(("cancel in the past".into(), peer.send("KEY", &[("TIMER_DELIVER_MS", &over), ("TIMER_DEL_UNIQKEY", "K")], "x")));
    let handle = |text: &str| URL_SAFE.encode(text);
    for (what, topic, handle) in [
        ("no topic", "Nothing", handle("v1 Nothing broker-a 1 K")),
        ("no handle", "Later", "%%%".into()),
        ("too short", "Later", handle("v1 Later broker-a 1")),
        ("another version", "Later", handle("v2 Later broker-a 1 K")),
        ("another topic", "Later", handle(&format!("v1 Other broker-a {soon} K"))),
        ("another broker", "Later", handle(&format!("v1 Later broker-b {soon} K"))),
        ("over", "Later", handle(&format!("v1 Later broker-a {over} K"))),
        ("too far", "Later", handle(&format!("v1 Later broker-a {far} K"))),
        ("no time", "Later", handle("v1 Later broker-a soon K")),
        ("good", "Later", handle(&format!("v1 Later broker-a {soon} KEY"))),
    ] {
        let mut answer = peer.recall(topic, &handle);
        // Java says that it forgot to set a code.
        if answer.code == codes::SUCCESS {
            answer.remark.clear();
        }
        answers.push((format!("recall: {what}"), answer));
    }
    answers
}

fn answers_without_wheel(port: u16) -> [Answer; 4] {
    let mut peer = Peer::new(port);
    let soon = now() + 50_000;
    peer.send("KEY", &[], "plain");
    let timer = peer.send("KEY", &[("TIMER_DELAY_SEC", "50")], "x");
    let recalled = peer.recall("Later", &URL_SAFE.encode(format!("v1 Later broker-a {soon} K")));
    [timer, recalled, peer.link.call(60, "", &[]).0, peer.link.call(61, "", &[]).0]
}

/// Times that are no good, or over, and what is compared of the answers: Java's words.
#[test]
fn answers_are_javas() {
    let settings = "recallMessageEnable=true\ntimerMaxDelaySec=100\n";
    let off = "recallMessageEnable=true\ntimerWheelEnable=false\n";
    let Some(java) = Exchange::java(Whose::Ferrocket, settings) else { return };
    let theirs = answers_with_wheel(java.port());
    drop(java);
    let ours = Server::start(Setup { broker: format!("brokerName=broker-a\n{settings}") });
    for ((_, theirs), (name, ours)) in theirs.into_iter().zip(answers_with_wheel(ours.broker_port)) {
        assert_eq!(ours, theirs, "{name}");
    }
    let Some(java) = Exchange::java(Whose::Ferrocket, off) else { return };
    let ours = Server::start(Setup { broker: format!("brokerName=broker-a\n{off}") });
    assert_eq!(answers_without_wheel(ours.broker_port), answers_without_wheel(java.port()));
}

/// Leaves one message that was delivered, some that wait, and one that was recalled. Gives when the last is due.
fn leave_waiting(port: u16) -> i64 {
    let mut peer = Peer::new(port);
    let begun = now();
    let mut send = |key: &str, after: i64| {
        let answer = peer.send(key, &[("TIMER_DELIVER_MS", &(begun + after).to_string())], key);
        assert_eq!(answer.code, codes::SUCCESS, "{}", answer.remark);
        // What is due already, on a busy machine, has none.
        answer.fields.get("recallHandle").cloned().unwrap_or_default()
    };
    for (key, after) in [("w1", 12_000), ("delivered", 2500), ("w2", 11_500), ("w3", 12_000)] {
        send(key, after);
    }
    let recalled = send("recalled", 12_000);
    // The one that was sent last is delivered before the others.
    send("soon", 3000);
    assert_eq!(peer.recall("Later", &recalled).code, codes::SUCCESS);
    assert_eq!(bodies(&peer.all(2)).len(), 2);
    // Java notes each second how far it is.
    let until = now() + 2500;
    wait_for("the checkpoint", || (now() > until).then_some(()));
    begun + 12_000
}

/// Each comes once, and not before its time.
fn what_waited_comes(port: u16, last: i64) {
    let mut peer = Peer::new(port);
    peer.all(5);
    wait_for("a second after the last", || (now() > last + 2000).then_some(()));
    let all = peer.all(5);
    let mut found = bodies(&all);
    found.sort_unstable();
    assert_eq!(found, ["delivered", "soon", "w1", "w2", "w3"]);
    for stored in all {
        let due: i64 = stored.properties["TIMER_DELIVER_MS"].parse().unwrap();
        assert!(stored.store_timestamp >= due, "{stored:?} is early");
    }
}

#[test]
fn what_waits_in_javas_directory_is_delivered_once() {
    let Some(mut exchange) = Exchange::java(Whose::Ferrocket, SETTINGS) else { return };
    let last = leave_waiting(exchange.port());
    exchange.stop();
    exchange.open(Whose::Ferrocket, "");
    // A kill and a start later all is as it was.
    exchange.kill();
    exchange.open(Whose::Ferrocket, "");
    what_waited_comes(exchange.port(), last);
}

#[test]
fn java_delivers_once_what_waited_here() {
    let mut exchange = Exchange::start(Whose::Ferrocket, SETTINGS);
    exchange.open(Whose::Ferrocket, "");
    let last = leave_waiting(exchange.port());
    exchange.stop();
    if exchange.open(JAVA, "") {
        what_waited_comes(exchange.port(), last);
    }
}

/// Sends `count` messages that are due at a time or within a second of it; up to 200 are under way.
fn send_many(port: u16, count: usize, due: i64) {
    let mut peer = Peer::new(port);
    let mut answered = 0;
    for first in (0..count).step_by(100) {
        let mut out = BytesMut::new();
        for number in first..count.min(first + 100) {
            // Different times, in no order.
            let at = (due + number as i64 * 7919 % 1000).to_string();
            let text = text(&format!("{number:032X}"), &[("TIMER_DELIVER_MS", &at)]);
            write_request(&mut out, SEND, &send_fields(&text), format!("{number:0128}").as_bytes());
        }
        peer.link.write(&out);
        let wanted = if first + 100 < count { first } else { count };
        while answered < wanted {
            let frame = peer.link.frame();
            let header = Header::decode(&frame).unwrap();
            assert_eq!(header.code, codes::SUCCESS, "{:?}", header.remark);
            answered += 1;
        }
    }
}

/// `TIMERS=1000000 cargo test --release -p tests --test timers many -- --nocapture` shows what a million costs.
#[test]
fn many_timers_survive_a_kill() {
    let count: usize = std::env::var("TIMERS").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let mut server = Server::start(Setup { broker: SETTINGS.into() });
    let before = memory(server.pid(), "VmRSS:");
    let begun = now();
    let due = begun + 10_000 + count as i64 / 20;
    send_many(server.broker_port, count, due);
    let sent = now() - begun;
    assert!(now() < due, "sending took {sent} ms: there is nothing to measure");
    let resident = memory(server.pid(), "VmRSS:");
    server.kill();
    let killed = now();
    server.start_again();
    let started = now() - killed;
    let mut peer = Peer::new(server.broker_port);
    // What it has to know is read by now: it tells how many wait.
    let waiting = wait_for("the timers", || {
        let (_, frame) = peer.link.call(28, "", &[]);
        let figures = String::from_utf8_lossy(&frame.body).into_owned();
        figures.contains(&format!("\"timerCongestNum\":\"{count}\"")).then(|| memory(server.pid(), "VmRSS:"))
    });
    println!(
        "{count} timers sent in {sent} ms: {} MiB resident ({} before); after a kill and a start of {started} ms {} MiB, {} of it \
         anonymous",
        resident >> 20,
        before >> 20,
        waiting >> 20,
        memory(server.pid(), "RssAnon:") >> 20
    );
    assert!(waiting.max(resident) < 200 << 20, "{resident} and {waiting} bytes");
    let mut seen = vec![false; count];
    let (mut offset, mut worst) = (0, 0);
    while offset < count {
        for stored in peer.pull("Later", offset) {
            let due: i64 = stored.properties["TIMER_DELIVER_MS"].parse().unwrap();
            assert!(stored.store_timestamp >= due, "{stored:?} is early");
            worst = worst.max(stored.store_timestamp - due);
            let number: usize = stored.body.parse().unwrap();
            assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
            offset += 1;
        }
        assert!(now() < due + 1000 + PATIENCE.as_millis() as i64, "{} are missing", count - offset);
    }
    println!("all were delivered, the last {worst} ms after its time");
}

#[test]
fn an_id_of_a_waiting_message_finds_it() {
    let server = Server::start(Setup { broker: SETTINGS.into() });
    let mut peer = Peer::new(server.broker_port);
    let sent = peer.send("KEY", &[("TIMER_DELAY_SEC", "100")], "waits");
    let (_, offset) = message_id::parse_offset_id(&sent.fields["msgId"]).unwrap();
    let (_, frame) = peer.link.call(33, &format!("offset={offset}"), &[]);
    let found = record::decode(&frame.body).unwrap();
    assert_eq!((found.topic, found.body), ("rmq_sys_wheel_timer", &b"waits"[..]));
}
