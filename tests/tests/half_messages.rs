//! Half messages against Java's broker 5.4.0: answers, records and questions are compared, and each takes over what the
//! other left open.

use std::collections::BTreeMap;

use protocol::bodies::{HeartbeatData, ProducerData};
use protocol::{Header, fastjson, message_id, properties, record};
use tests::{Answer, Exchange, Fields, JAVA, Link, Server, Setup, Whose, now, try_admin, wait_for};

const END_TRANSACTION: i32 = 37;
const CHECK_TRANSACTION_STATE: i32 = 39;
const COMMIT: &str = "8";
const ROLLBACK: &str = "12";
const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Questions come soon; not before Java has written its op messages, without which it asks about what is resolved.
const SOON: &str =
    "transactionTimeOut=3000\ntransactionCheckInterval=300\ntransactionCheckMax=1000\ntransactionOpBatchInterval=50\n";
/// Nobody is asked within a test.
const NEVER: &str = "transactionTimeOut=600000\ntransactionOpBatchInterval=50\n";

/// What Java adds to every message that it stores, or changes in a question, and nobody needs.
const OTHER_PROPERTIES: [&str; 3] = ["MSG_REGION", "TRACE_ON", "WAIT"];

/// A connection that writes requests as Java's clients do.
struct Peer {
    link: Link,
}

impl Peer {
    fn new(port: u16) -> Self {
        Self { link: Link::connect(port) }
    }

    /// Sends a half message; gives the answer, and where the message is.
    fn prepare(&mut self, now: i64, extra: &str, body: &str) -> (Answer, Half) {
        let text = format!(
            "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payers\u{2}TAGS\u{1}a\u{2}UNIQ_KEY\u{1}KEY-{body}\u{2}WAIT\u{1}true\u{2}{extra}"
        );
        let fields = format!("a=payers;b=Paid;c=TBW102;d=4;e=1;f=4;g={now};h=3;j=0;k=false;i={text}");
        let (mut answer, _) = self.link.call(310, &fields, body.as_bytes());
        assert_eq!(answer.code, 0, "{}", answer.remark);
        let id = answer.fields.remove("msgId").unwrap();
        let (_, log) = message_id::parse_offset_id(&id).unwrap();
        let queue = answer.fields["queueOffset"].parse().unwrap();
        (answer, Half { queue, log })
    }

    fn end(&mut self, half: Half, outcome: &str) -> Answer {
        self.link.call(END_TRANSACTION, &half.outcome(outcome), &[]).0
    }

    fn pull(&mut self, topic: &str, queue: i32) -> Vec<Stored> {
        let fields = format!(
            "consumerGroup=g;topic={topic};queueId={queue};queueOffset=0;maxMsgNums=32;sysFlag=4;commitOffset=0;\
             suspendTimeoutMillis=0;subscription=*;subVersion=0"
        );
        let (answer, frame) = self.link.call(11, &fields, &[]);
        if answer.code != 0 {
            return Vec::new();
        }
        record::decode_all(&frame.body).map(|r| Stored::from(&r.unwrap())).collect()
    }

    fn register(&mut self) {
        let producers = vec![ProducerData { group_name: "payers".into() }];
        let data = HeartbeatData { client_id: "c".into(), producer_data_set: producers, ..HeartbeatData::default() };
        assert_eq!(self.link.call(34, "", &fastjson::to_vec(&data)).0.code, 0);
    }

    /// The next question, with the half message that it is about.
    fn question(&mut self) -> (Fields, Stored, Half) {
        loop {
            let frame = self.link.frame();
            let header = Header::decode(&frame).unwrap();
            if header.code != CHECK_TRANSACTION_STATE {
                continue;
            }
            let fields: Fields = header.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let half =
                Half { queue: fields["tranStateTableOffset"].parse().unwrap(), log: fields["commitLogOffset"].parse().unwrap() };
            return (fields, Stored::from(&record::decode(&frame.body).unwrap()), half);
        }
    }
}

/// Where a half message is.
#[derive(Clone, Copy, Debug)]
struct Half {
    queue: i64,
    log: i64,
}

impl Half {
    fn outcome(self, outcome: &str) -> String {
        let Half { queue, log } = self;
        format!(
            "topic=Paid;producerGroup=payers;tranStateTableOffset={queue};commitLogOffset={log};commitOrRollback={outcome};\
             fromTransactionCheck=false;msgId=KEY"
        )
    }
}

/// What is compared of a record.
#[derive(Debug, PartialEq)]
struct Stored {
    topic: String,
    queue_id: i32,
    flag: i32,
    sys_flag: i32,
    born_timestamp: i64,
    reconsume_times: i32,
    /// Whether it names the half message that it comes from.
    prepared: bool,
    body: String,
    properties: Fields,
}

impl From<&record::Record<'_>> for Stored {
    fn from(record: &record::Record<'_>) -> Self {
        Stored {
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp,
            reconsume_times: record.reconsume_times,
            prepared: record.prepared_transaction_offset > 0,
            body: String::from_utf8_lossy(record.body).into_owned(),
            properties: properties::pairs(record.properties)
                .filter(|(name, _)| !OTHER_PROPERTIES.contains(name))
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }
}

/// Outcomes that do not fit: what they are called, what is changed, and whether the remark is Java's.
const BAD: [(&str, &str, &str, bool); 6] = [
    ("another group", "producerGroup=payers", "producerGroup=others", true),
    ("no group", "producerGroup=payers;", "", true),
    ("another queue offset", "tranStateTableOffset=", "tranStateTableOffset=7", true),
    ("a place without a message", "commitLogOffset=", "commitLogOffset=9", true),
    // Java's remarks are its exceptions.
    ("no queue offset", "tranStateTableOffset=", "nothing=", false),
    ("an outcome that is no number", "commitOrRollback=", "commitOrRollback=x", false),
];

fn answers(port: u16, born: i64) -> (Vec<(String, Answer)>, Vec<Vec<Stored>>) {
    let mut peer = Peer::new(port);
    let mut all = Vec::new();
    // Something before it, so that no offset in the log is 0.
    peer.link.call(310, "a=p;b=Plain;c=TBW102;d=4;e=0;f=0;g=1;h=0", b"first");
    let mut note = |name: &str, answer: Answer| all.push((name.to_owned(), answer));
    let (answer, half) = peer.prepare(born, "", "committed");
    note("half message", answer);
    for (name, from, to, same_remark) in BAD {
        for outcome in [COMMIT, ROLLBACK] {
            let (mut answer, _) = peer.link.call(END_TRANSACTION, &half.outcome(outcome).replace(from, to), &[]);
            if !same_remark {
                answer.remark.clear();
            }
            note(name, answer);
        }
    }
    note("commit", peer.end(half, COMMIT));
    let (answer, half) = peer.prepare(born, "", "rolled-back");
    note("another half message", answer);
    let mut rolled_back = peer.end(half, ROLLBACK);
    // Java says that it forgot to set a code.
    rolled_back.remark.clear();
    note("rollback", rolled_back);
    let (_, half) = peer.prepare(born - 60_000_000, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}1\u{2}", "late");
    let mut late = peer.end(half, COMMIT);
    // Java says nothing.
    late.remark.clear();
    note("an outcome behind its time", late);
    let ops = wait_for("op messages", || Some(peer.pull(OP_TOPIC, 0)).filter(|ops| !ops.is_empty()));
    assert!(ops.iter().all(|op| op.properties["TAGS"] == "d"), "{ops:?}");
    let records = vec![peer.pull("Paid", 1), peer.pull(HALF_TOPIC, 0)];
    (all, records)
}

#[test]
fn answers_and_records_are_javas() {
    let Some(java) = Exchange::java(Whose::Ferrocket, NEVER) else { return };
    let ours = Server::start(Setup { broker: NEVER.into() });
    let born = now();
    let (mut theirs, mut own) = (answers(java.port(), born), answers(ours.broker_port, born));
    for (_, answer) in theirs.0.iter_mut().chain(&mut own.0) {
        answer.fields.remove("transactionId");
    }
    for (java, ours) in theirs.0.iter().zip(&own.0) {
        assert_eq!(ours, java);
    }
    assert_eq!(own.1, theirs.1);
    assert_eq!(own.1[0].iter().map(|r| (r.body.as_str(), r.prepared)).collect::<Vec<_>>(), [("committed", true)]);
}

#[test]
fn questions_are_javas() {
    let Some(java) = Exchange::java(Whose::Ferrocket, SOON) else { return };
    let ours = Server::start(Setup { broker: format!("brokerName=broker-a\n{SOON}") });
    let born = now();
    let ask = |port: u16| {
        let mut peer = Peer::new(port);
        let (_, first) = peer.prepare(born, "", "asked");
        peer.register();
        let (mut fields, mut message, half) = peer.question();
        assert!(half.queue > first.queue && half.log > first.log);
        for name in ["commitLogOffset", "offsetMsgId", "tranStateTableOffset"] {
            assert!(fields.insert(name.into(), String::new()).is_some(), "{name}");
        }
        message.properties.remove("TRAN_FIRST_QUEUE_OFFSET");
        // The first rounds may have come before the producer.
        assert!(message.properties.remove("TRANSACTION_CHECK_TIMES").is_some());
        assert_eq!(peer.end(half, COMMIT).code, 0);
        let committed = wait_for("the message", || peer.pull("Paid", 1).pop());
        assert_eq!(committed.body, "asked");
        (fields, message)
    };
    let (theirs, own) = (ask(java.port()), ask(ours.broker_port));
    assert_eq!(own.0, theirs.0);
    assert_eq!(own.1, theirs.1);
}

fn admin(server: &str, words: &[&str]) -> Result<String, String> {
    try_admin(&[words, &["-n", server]].concat())
}

/// Two open transactions, one of which is committed and one rolled back in place of the producer.
fn ended_by_hand(port: u16, server: &str) {
    let mut peer = Peer::new(port);
    let (_, committed) = peer.prepare(now(), "", "by-producer");
    peer.end(committed, COMMIT);
    peer.prepare(now() - 20_000, "", "one");
    peer.prepare(now(), "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}700\u{2}", "two");
    wait_for("the broker's route", || admin(server, &["clusterList"]).ok().filter(|list| list.contains(&port.to_string())));
    let listed = || {
        let list = admin(server, &["transactions", "-g", "payers", "-t", "Paid"]).unwrap();
        list.lines().skip(1).map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let open = wait_for("two open transactions", || Some(listed()).filter(|open| open.len() == 2));
    assert!(open[0].starts_with("KEY-one Paid payers 2") && open[0].ends_with(" 0"), "{open:?}");
    assert!(open[1].starts_with("KEY-two Paid payers "), "{open:?}");
    assert_eq!(admin(server, &["transactions", "-g", "others"]).unwrap().lines().count(), 1);
    let end = |id: &str, action: &str| admin(server, &["endTransaction", "-i", id, "-a", action]);
    assert_eq!(end("KEY-one", "commit").unwrap(), "committed: KEY-one for topic Paid of group payers\n");
    assert_eq!(end("KEY-two", "rollback").unwrap(), "rolled back: KEY-two for topic Paid of group payers\n");
    assert!(end("KEY-two", "forget").unwrap_err().contains("is not `commit` or `rollback`"));
    wait_for("no open transaction", || listed().is_empty().then_some(()));
    assert!(end("KEY-one", "commit").unwrap_err().contains("no open transaction has the id KEY-one"));
    let bodies: Vec<_> = peer.pull("Paid", 1).into_iter().map(|record| record.body).collect();
    assert_eq!(bodies, ["by-producer", "one"]);
}

#[test]
fn transactions_are_listed_and_ended_by_hand() {
    let ours = Server::start(Setup { broker: NEVER.into() });
    ended_by_hand(ours.broker_port, &ours.name_server());
    let Some(java) = Exchange::java(Whose::Ferrocket, NEVER) else { return };
    ended_by_hand(java.port(), &java.name_server());
}

/// Leaves a committed, a rolled back and two open half messages; one of them was asked about.
fn leave_open(port: u16) {
    let mut peer = Peer::new(port);
    peer.link.call(310, "a=p;b=Plain;c=TBW102;d=4;e=0;f=0;g=1;h=0", b"first");
    let (_, committed) = peer.prepare(now(), "", "committed");
    let (_, rolled_back) = peer.prepare(now(), "", "rolled-back");
    peer.prepare(now(), "", "open");
    assert_eq!(peer.end(committed, COMMIT).code, 0);
    assert_eq!(peer.end(rolled_back, ROLLBACK).code, 0);
    peer.register();
    assert_eq!(peer.question().1.body, "open");
    peer.prepare(now() + 400, "", "open-too");
    wait_for("op messages", || {
        let ops = peer.pull(OP_TOPIC, 0);
        let resolved: String = ops.iter().map(|op| format!("{},", op.body)).collect();
        ["0", "1"].iter().all(|offset| resolved.split(',').any(|o| o == *offset)).then_some(())
    });
}

/// Only what is open is asked about, and is committed then.
fn resolve(port: u16) {
    let mut peer = Peer::new(port);
    peer.register();
    let mut asked = BTreeMap::new();
    while asked.len() < 2 {
        let (_, message, half) = peer.question();
        assert!(message.body.starts_with("open"), "{message:?}");
        if asked.insert(message.body, half.queue).is_none() {
            assert_eq!(peer.end(half, COMMIT).code, 0);
        }
    }
    let bodies = wait_for("the messages", || Some(peer.pull("Paid", 1)).filter(|all| all.len() >= 3));
    let mut bodies: Vec<_> = bodies.into_iter().map(|record| record.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["committed", "open", "open-too"]);
}

#[test]
fn what_java_left_open_is_resolved() {
    let Some(mut store) = Exchange::java(Whose::Ferrocket, SOON) else { return };
    leave_open(store.port());
    store.stop();
    store.open(Whose::Ferrocket, "");
    resolve(store.port());
}

#[test]
fn java_resolves_what_was_left_open() {
    let mut store = Exchange::start(Whose::Ferrocket, SOON);
    store.open(Whose::Ferrocket, "");
    leave_open(store.port());
    store.stop();
    if store.open(JAVA, "") {
        resolve(store.port());
    }
}
