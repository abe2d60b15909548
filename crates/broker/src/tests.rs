use std::net::SocketAddr;

use protocol::bodies::{CheckClient, ConsumeType, ConsumerData, HeartbeatData, ProducerData, SubscriptionData};
use protocol::exchange::CollectingOutbox;
use protocol::header::Outgoing;
use protocol::sys_flag::pull as pull_flags;
use protocol::{Serialization, batch, codes, message_id, properties, record};
use stdx::properties as files;

use super::*;
use crate::handlers::pull::parse_tags;

mod admin;
mod admission;
mod ha;
mod pop;
mod reply;
mod retry;
mod timer;
mod transaction;

/// A broker on a directory of its own.
struct World {
    broker: Broker,
    directory: tempfile::TempDir,
    settings: String,
}

fn open(directory: &Path, settings: &str) -> Broker {
    open_on(store::disk::Disk::default(), directory, settings)
}

fn open_on(disk: store::disk::Disk, directory: &Path, settings: &str) -> Broker {
    let mut config = BrokerConfig::default();
    let text = format!("mappedFileSizeCommitLog=65536\nbrokerName=broker-a\nmessageDelayLevel=1s 5s 10s 30s\n{settings}");
    let report = config.apply(Path::new("test"), &files::parse(text.as_bytes()).unwrap());
    assert_eq!(report.errors, Vec::<String>::new());
    config.resolve(directory, "host", "127.0.0.1").unwrap();
    Broker::open_on(disk, config, "127.0.0.1:10911".parse().unwrap(), Arc::new(NoShell::default()), 0).unwrap()
}

fn world_on(disk: store::disk::Disk, settings: &str) -> World {
    let directory = tempfile::tempdir().unwrap();
    World { broker: open_on(disk, directory.path(), settings), directory, settings: settings.to_owned() }
}

fn world(settings: &str) -> World {
    let directory = tempfile::tempdir().unwrap();
    World { broker: open(directory.path(), settings), directory, settings: settings.to_owned() }
}

impl World {
    /// Flips one bit of a text in the first file of the commit log, as a bad disk would.
    fn flip_a_bit_of(&self, text: &str) {
        let path = Path::new(&self.broker.config().store_path_commit_log).join("00000000000000000000");
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at] ^ 1], at as u64).unwrap();
    }

    /// Drops the broker without closing it, as a kill does, and opens it again.
    fn kill_and_open(self) -> Self {
        let World { broker, directory, settings } = self;
        drop(broker);
        World { broker: open(directory.path(), &settings), directory, settings }
    }
}

/// A client's connection, with what the broker pushed to it.
struct Peer {
    connection: Arc<Connection>,
    pushed: Arc<CollectingOutbox>,
}

fn peer(id: u64) -> Peer {
    let address: SocketAddr = "127.0.0.1:2000".parse().unwrap();
    let pushed = Arc::new(CollectingOutbox::default());
    Peer { connection: Arc::new(Connection::new(id, address, address, pushed.clone())), pushed }
}

fn frame<'h, R: Request<'h>>(request: &R, body: &[u8]) -> Frame {
    let mut bytes = BytesMut::new();
    let head = Outgoing { serialization: Serialization::RocketMq, code: R::CODE, opaque: 7, flag: 0, remark: None, extra: &[] };
    head.write(request, body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    protocol::frame::take(&mut bytes, usize::MAX).unwrap().unwrap()
}

/// An answer: its code, its remark, its fields by name, its body.
#[derive(Debug)]
struct Answer {
    code: i32,
    remark: String,
    fields: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn of(frame: &Frame) -> Self {
        let header = Header::decode(frame).unwrap();
        let fields = header.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Answer {
            code: header.code,
            remark: header.remark.clone().unwrap_or_default().into_owned(),
            fields,
            body: frame.body.clone(),
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    fn bodies(&self) -> Vec<String> {
        record::decode_all(&self.body).map(|r| String::from_utf8(r.unwrap().body.to_vec()).unwrap()).collect()
    }
}

impl World {
    /// The answers to frames that arrived in one read.
    fn read(&self, now: i64, peer: &Peer, mut frames: Vec<Frame>) -> Vec<Answer> {
        let mut out = BytesMut::new();
        self.broker.frames(now, &peer.connection, &mut frames, &mut out).unwrap();
        std::iter::from_fn(|| protocol::frame::take(&mut out, usize::MAX).unwrap()).map(|f| Answer::of(&f)).collect()
    }

    fn ask<'h, R: Request<'h>>(&self, now: i64, peer: &Peer, request: &R, body: &[u8]) -> Answer {
        let mut answers = self.read(now, peer, vec![frame(request, body)]);
        assert_eq!(answers.len(), 1, "{}", R::NAME);
        answers.remove(0)
    }

    fn send(&self, now: i64, topic: &str, properties: &str, body: &str) -> Answer {
        self.ask(now, &peer(1), &send(topic, properties), body.as_bytes())
    }

    fn pull(&self, now: i64, peer: &Peer, topic: &str, offset: i64, suspend_ms: i64) -> Option<Answer> {
        self.read(now, peer, vec![frame(&pull_request(topic, offset, suspend_ms, "*"), &[])]).pop()
    }
}

fn send<'a>(topic: &'a str, properties: &'a str) -> SendMessageV2<'a> {
    SendMessageV2 {
        producer_group: "p",
        topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        born_timestamp: 1,
        properties: Some(properties),
        ..SendMessageV2::default()
    }
}

fn pull_request<'a>(topic: &'a str, offset: i64, suspend_ms: i64, expression: &'a str) -> PullMessage<'a> {
    let suspend = if suspend_ms > 0 { pull_flags::SUSPEND } else { 0 };
    PullMessage {
        consumer_group: "g",
        topic,
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: suspend | pull_flags::SUBSCRIPTION,
        suspend_timeout_millis: suspend_ms,
        subscription: Some(expression),
        ..PullMessage::default()
    }
}

fn tagged(tag: &str) -> String {
    format!("TAGS\u{1}{tag}\u{2}")
}

#[test]
fn the_sends_of_one_read_are_answered_in_order_and_read_back() {
    let world = world("");
    let frames = (0..3).map(|n| frame(&send("T", ""), format!("m{n}").as_bytes())).collect();
    let answers = world.read(1, &peer(1), frames);
    let offsets: Vec<_> = answers.iter().map(|a| (a.code, a.field("queueOffset").to_owned())).collect();
    assert_eq!(offsets, [(0, "0".to_owned()), (0, "1".to_owned()), (0, "2".to_owned())]);
    assert_eq!(answers[0].field("MSG_REGION"), "DefaultRegion");
    assert_eq!(answers[0].field("transactionId").len(), 32);
    let (host, offset) = message_id::parse_offset_id(answers[1].field("msgId")).unwrap();
    assert_eq!(host, world.broker.store_host());
    let viewed = world.ask(1, &peer(2), &ViewMessage { topic: None, offset }, &[]);
    assert_eq!(viewed.bodies(), ["m1"]);
    let pulled = world.pull(1, &peer(2), "T", 1, 0).unwrap();
    assert_eq!((pulled.code, pulled.remark.as_str(), pulled.bodies()), (0, "FOUND", vec!["m1".to_owned(), "m2".to_owned()]));
    assert_eq!(["nextBeginOffset", "minOffset", "maxOffset"].map(|f| pulled.field(f)), ["3", "0", "3"]);
}

#[test]
fn bad_sends_are_refused_alone_with_javas_codes() {
    let world = world("maxMessageSize=10\n");
    world.send(1, "T", "", "fine");
    let code = |request: SendMessageV2<'_>, body: &str| world.ask(1, &peer(1), &request, body.as_bytes()).code;
    assert_eq!(code(send("T", ""), "longer than ten"), codes::MESSAGE_ILLEGAL);
    assert_eq!(code(send(&"t".repeat(300), ""), "x"), codes::INVALID_PARAMETER);
    assert_eq!(code(send("a b", ""), "x"), codes::INVALID_PARAMETER);
    assert_eq!(code(SendMessageV2 { queue_id: 99, ..send("T", "") }, "x"), codes::INVALID_PARAMETER);
    assert_eq!(code(send(protocol::names::SCHEDULE_TOPIC, ""), "x"), codes::NO_PERMISSION);
    assert_eq!(code(send("T", &format!("k\u{1}{}", "v".repeat(40_000))), "x"), codes::MESSAGE_ILLEGAL);
    assert_eq!(code(send("T", "no separator at all"), "x"), codes::SUCCESS);
    assert_eq!(world.ask(1, &peer(1), &SendBatchMessage { ..batch_request("T") }, b"junk").code, codes::MESSAGE_ILLEGAL);
    assert_eq!(world.pull(1, &peer(1), "T", 0, 0).unwrap().bodies(), ["fine", "x"]);
}

fn batch_request(topic: &str) -> SendBatchMessage<'_> {
    SendBatchMessage {
        producer_group: "p",
        topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        born_timestamp: 1,
        batch: Some(true),
        ..SendBatchMessage::default()
    }
}

#[test]
fn a_batch_is_several_messages_with_one_answer() {
    let world = world("");
    let mut body = Vec::new();
    for text in ["a", "b", "c"] {
        batch::encode(&batch::BatchMessage { flag: 0, body: text.as_bytes(), properties: &tagged("t") }, &mut body);
    }
    let answer = world.ask(1, &peer(1), &batch_request("T"), &body);
    assert_eq!((answer.code, answer.field("msgId").split(',').count(), answer.field("queueOffset")), (0, 3, "0"));
    assert_eq!(world.pull(1, &peer(1), "T", 0, 0).unwrap().bodies(), ["a", "b", "c"]);
}

#[test]
fn topics_are_made_only_where_that_is_allowed() {
    let world = world("autoCreateTopicEnable=false\n");
    let refused = world.send(1, "T", "", "x");
    assert_eq!((refused.code, refused.remark.as_str()), (codes::TOPIC_NOT_EXIST, "topic[T] not exist, apply first please!"));
}

#[test]
fn a_pull_waits_for_a_message_that_matches() {
    let world = world("");
    world.send(1, "T", &tagged("other"), "old");
    let waiting = peer(5);
    let parked = world.read(10, &waiting, vec![frame(&pull_request("T", 1, 15_000, "wanted"), &[])]);
    assert!(parked.is_empty());
    world.send(20, "T", &tagged("other"), "no");
    assert!(waiting.pushed.take().is_empty());
    world.send(30, "T", &tagged("wanted"), "yes");
    let answers = waiting.pushed.take();
    assert_eq!(answers.len(), 1);
    let answer = Answer::of(&answers[0]);
    assert_eq!((answer.code, answer.bodies(), answer.field("nextBeginOffset")), (0, vec!["yes".to_owned()], "3"));
    world.send(40, "T", &tagged("wanted"), "more");
    assert!(waiting.pushed.take().is_empty());
}

/// Tags are compared by hash code as in Java: the consumer sorts out what is of another tag.
#[test]
fn tags_with_the_same_hash_code_are_not_told_apart() {
    let world = world("");
    for tag in ["Aa", "BB", "CC"] {
        world.send(1, "T", &tagged(tag), tag);
    }
    let request = frame(&pull_request("T", 0, 0, "Aa"), &[]);
    assert_eq!(world.read(2, &peer(1), vec![request]).remove(0).bodies(), ["Aa", "BB"]);
}

/// Topics that senders and consumers in unit mode make say so.
#[test]
fn unit_mode_is_kept_in_the_topics_that_it_makes() {
    let world = world("");
    let flag = |topic: &str| world.broker.topics.get(topic).unwrap().topic_sys_flag;
    world.send(1, "plain", "", "x");
    world.ask(1, &peer(1), &SendMessageV2 { unit_mode: Some(true), ..send("unit", "") }, b"x");
    world.ask(1, &peer(1), &SendMessageV2 { unit_mode: Some(true), ..send("%RETRY%sent", "") }, b"x");
    let consumer = ConsumerData { group_name: "beat".into(), unit_mode: true, ..ConsumerData::default() };
    let data = HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
    world.ask(1, &peer(1), &Heartbeat {}, &fastjson::to_vec(&data));
    let back = ConsumerSendMsgBack { group: "back", unit_mode: Some(true), ..ConsumerSendMsgBack::default() };
    assert_eq!(world.ask(1, &peer(1), &back, &[]).code, codes::SUCCESS);
    let topics = ["plain", "unit", "%RETRY%sent", "%RETRY%beat", "%RETRY%back"];
    assert_eq!(topics.map(flag), [0, 1, 2, 2, 2]);
}

#[test]
fn an_sql_filter_gives_what_matches_and_wakes_a_pull_only_for_it() {
    let world = world("enablePropertyFilter=true");
    let colour = |colour: &str| format!("colour\u{1}{colour}\u{2}");
    world.send(1, "T", &colour("red"), "no");
    world.send(2, "T", &colour("blue"), "yes");
    let sql = |offset, suspend_ms, expression| PullMessage {
        expression_type: Some("SQL92"),
        ..pull_request("T", offset, suspend_ms, expression)
    };
    let answer = world.ask(3, &peer(1), &sql(0, 0, "colour = 'blue'"), &[]);
    assert_eq!((answer.code, answer.bodies(), answer.field("nextBeginOffset")), (0, vec!["yes".to_owned()], "2"));
    let none = world.ask(3, &peer(1), &sql(0, 0, "colour = 'green'"), &[]);
    assert_eq!((none.code, none.field("nextBeginOffset")), (codes::PULL_RETRY_IMMEDIATELY, "2"));
    let bad = world.ask(3, &peer(1), &sql(0, 0, "colour ="), &[]);
    assert_eq!(bad.code, codes::SUBSCRIPTION_PARSE_FAILED);
    assert!(bad.remark.contains("position 8"), "{}", bad.remark);

    let waiting = peer(5);
    assert!(world.read(10, &waiting, vec![frame(&sql(2, 15_000, "colour = 'blue'"), &[])]).is_empty());
    world.send(20, "T", &colour("red"), "no");
    assert!(waiting.pushed.take().is_empty());
    world.send(30, "T", &colour("blue"), "again");
    let answer = Answer::of(&waiting.pushed.take()[0]);
    assert_eq!((answer.code, answer.bodies(), answer.field("nextBeginOffset")), (0, vec!["again".to_owned()], "4"));
}

#[test]
fn an_sql_subscription_is_taken_from_the_heartbeat_and_checked_beforehand() {
    let subscription = |expression: &str| SubscriptionData {
        topic: "T".into(),
        sub_string: expression.into(),
        sub_version: 1,
        expression_type: "SQL92".into(),
        ..SubscriptionData::default()
    };
    let check = |expression| {
        fastjson::to_vec(&CheckClient { subscription_data: Some(subscription(expression)), ..CheckClient::default() })
    };
    let beat = |group: &str, expression| {
        let subscription_data_set = vec![subscription(expression)];
        let consumer = ConsumerData { group_name: group.into(), subscription_data_set, ..ConsumerData::default() };
        let data = HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
        fastjson::to_vec(&data)
    };
    let pull = |group| PullMessage {
        consumer_group: group,
        sys_flag: 0,
        sub_version: 1,
        subscription: None,
        ..pull_request("T", 0, 0, "")
    };
    let off = world("");
    let refused = off.ask(1, &peer(1), &CheckClientConfig {}, &check("a > 1"));
    assert_eq!(
        (refused.code, refused.remark.as_str()),
        (codes::SYSTEM_ERROR, "The broker does not support consumer to filter message by SQL92")
    );

    let world = world("enablePropertyFilter=true");
    assert_eq!(world.ask(1, &peer(1), &CheckClientConfig {}, &check("a > 1")).code, codes::SUCCESS);
    let bad = world.ask(1, &peer(1), &CheckClientConfig {}, &check("a >"));
    assert_eq!(bad.code, codes::SUBSCRIPTION_PARSE_FAILED);
    assert!(bad.remark.contains("position 3"), "{}", bad.remark);
    world.send(1, "T", "a\u{1}1\u{2}", "one");
    world.send(1, "T", "a\u{1}2\u{2}", "two");
    world.ask(2, &peer(1), &Heartbeat {}, &beat("g", "a > 1"));
    world.ask(2, &peer(2), &Heartbeat {}, &beat("h", "a >"));
    assert_eq!(world.ask(3, &peer(1), &pull("g"), &[]).bodies(), ["two"]);
    assert_eq!(world.ask(3, &peer(2), &pull("h"), &[]).code, codes::FILTER_DATA_NOT_EXIST);
}

#[test]
fn a_pull_that_waits_in_vain_is_answered_at_its_deadline() {
    let world = world("");
    world.send(1, "T", "", "x");
    let waiting = peer(5);
    assert!(world.pull(10, &waiting, "T", 1, 5000).is_none());
    world.broker.tick(5009);
    assert!(waiting.pushed.take().is_empty());
    world.broker.tick(5010);
    let answer = Answer::of(&waiting.pushed.take()[0]);
    assert_eq!(
        (answer.code, answer.remark.as_str(), answer.field("nextBeginOffset")),
        (codes::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE", "1")
    );
}

#[test]
fn pulls_outside_a_queue_are_led_back() {
    let world = world("");
    world.send(1, "T", "", "x");
    let moved = world.pull(1, &peer(1), "T", 9, 0).unwrap();
    assert_eq!(
        (moved.code, moved.remark.as_str(), moved.field("nextBeginOffset")),
        (codes::PULL_OFFSET_MOVED, "OFFSET_OVERFLOW_BADLY", "1")
    );
    let unknown = world.pull(1, &peer(1), "nothing", 0, 0).unwrap();
    assert_eq!(unknown.code, codes::TOPIC_NOT_EXIST);
    let sql = PullMessage { expression_type: Some("SQL92"), ..pull_request("T", 0, 0, "a > 1") };
    assert_eq!(world.ask(1, &peer(1), &sql, &[]).code, codes::SYSTEM_ERROR);
}

#[test]
fn with_sync_flush_a_send_is_answered_when_the_disk_has_it() {
    let world = world("flushDiskType=SYNC_FLUSH\nsyncFlushTimeout=1000\n");
    let producer = peer(3);
    assert!(world.read(1, &producer, vec![frame(&send("T", ""), b"x")]).is_empty());
    assert!(world.pull(1, &peer(4), "T", 0, 0).unwrap().bodies().is_empty());
    world.broker.sync(2).unwrap();
    assert_eq!(Answer::of(&producer.pushed.take()[0]).code, codes::SUCCESS);
    assert_eq!(world.pull(3, &peer(4), "T", 0, 0).unwrap().bodies(), ["x"]);
    world.read(10, &producer, vec![frame(&send("T", ""), b"late")]);
    world.broker.tick(1010);
    let late = Answer::of(&producer.pushed.take()[0]);
    assert_eq!((late.code, late.field("queueOffset")), (codes::FLUSH_DISK_TIMEOUT, "1"));
}

#[test]
fn delayed_messages_come_when_they_are_due_and_survive_a_kill() {
    let world = world("");
    let answer = world.send(1000, "T", "DELAY\u{1}2\u{2}", "later");
    assert_eq!(answer.code, codes::SUCCESS);
    world.broker.tick(5999);
    assert!(world.pull(5999, &peer(1), "T", 0, 0).unwrap().bodies().is_empty());
    let world = world.kill_and_open();
    world.broker.tick(6000);
    let pulled = world.pull(6000, &peer(1), "T", 0, 0).unwrap();
    assert_eq!(pulled.bodies(), ["later"]);
    let delivered = record::decode(&pulled.body).unwrap();
    assert_eq!((delivered.topic, properties::get(delivered.properties, properties::DELAY)), ("T", None));
    world.broker.tick(7000);
    assert_eq!(world.pull(7000, &peer(1), "T", 0, 0).unwrap().bodies(), ["later"]);
}

#[test]
fn what_a_delay_level_delivers_in_one_go_is_bounded_in_bytes() {
    let world = world("");
    let body = "x".repeat(40_000);
    (0..40).for_each(|_| drop(world.send(1000, "T", "DELAY\u{1}1\u{2}", &body)));
    let mut batch = Batch::default();
    let next = world.broker.schedule.due(&world.broker.store, 1, 2000, &mut batch).unwrap();
    assert_eq!((next, batch.len()), (Some(27), 27), "{} bytes", batch.bytes());
    world.broker.tick(2000);
    assert_eq!(world.broker.store.find_queue("T", 0).unwrap().max_offset(), 40);
}

/// Else a power cut takes what was delivered away and leaves the note, and it is never delivered again.
#[test]
fn how_far_a_delay_level_is_delivered_is_noted_when_the_disk_has_it() {
    let world = world("");
    world.send(1000, "T", "DELAY\u{1}1\u{2}", "later");
    world.broker.sync(1000).unwrap();
    let noted = || std::fs::read_to_string(world.directory.path().join("store/config/delayOffset.json")).unwrap_or_default();
    world.broker.tick(20_000);
    world.broker.save_tables(40_000).unwrap();
    assert_eq!(world.pull(40_000, &peer(1), "T", 0, 0).unwrap().bodies(), ["later"]);
    assert_eq!(noted(), "");
    world.broker.sync(40_000).unwrap();
    world.broker.save_tables(60_000).unwrap();
    assert!(noted().contains("1:1"), "{}", noted());
}

#[test]
fn a_delayed_message_that_was_damaged_while_it_waited_never_comes() {
    let world = world("");
    for body in ["spoilt", "whole"] {
        world.send(1000, "T", "DELAY\u{1}2\u{2}", body);
    }
    world.flip_a_bit_of("spoilt");
    world.broker.tick(6000);
    assert_eq!(world.pull(6000, &peer(1), "T", 0, 0).unwrap().bodies(), ["whole"]);
}

#[test]
fn failed_messages_come_again_and_end_as_dead_letters() {
    let world = world("");
    world.send(0, "T", &tagged("a"), "bad");
    let back = |offset: i64, now: i64| {
        let request = ConsumerSendMsgBack {
            offset,
            group: "g",
            origin_topic: Some("T"),
            max_reconsume_times: Some(1),
            ..ConsumerSendMsgBack::default()
        };
        assert_eq!(world.ask(now, &peer(1), &request, &[]).code, codes::SUCCESS);
    };
    back(0, 1000);
    world.broker.tick(11_000);
    let again = world.pull(11_000, &peer(1), "%RETRY%g", 0, 0).unwrap();
    let record = record::decode(&again.body).unwrap();
    assert_eq!((record.reconsume_times, properties::get(record.properties, properties::RETRY_TOPIC)), (1, Some("T")));
    assert_eq!(properties::get(record.properties, properties::ORIGIN_MESSAGE_ID).map(str::len), Some(32));
    back(record.physical_offset, 12_000);
    assert_eq!(world.pull(12_000, &peer(1), "%DLQ%g", 0, 0).unwrap().bodies(), ["bad"]);
}

#[test]
fn members_of_a_group_are_told_of_each_other_and_a_closed_connection_leaves() {
    let world = world("");
    let heartbeat = |id: &str| {
        let subscription = parse_tags("T", "a || b", 1);
        let consumer = ConsumerData {
            group_name: "g".into(),
            subscription_data_set: vec![subscription],
            message_model: protocol::bodies::MessageModel::Clustering,
            ..ConsumerData::default()
        };
        let data = HeartbeatData {
            client_id: id.into(),
            consumer_data_set: vec![consumer],
            producer_data_set: vec![ProducerData { group_name: "p".into() }],
            ..HeartbeatData::default()
        };
        fastjson::to_vec(&data)
    };
    let (first, second) = (peer(1), peer(2));
    assert_eq!(world.ask(1, &first, &Heartbeat {}, &heartbeat("c1")).code, codes::SUCCESS);
    assert!(world.broker.topics.get("%RETRY%g").is_some());
    first.pushed.take();
    world.ask(2, &second, &Heartbeat {}, &heartbeat("c2"));
    assert_eq!(first.pushed.take().len(), 1);
    assert_eq!(world.broker.clients.consumer_ids("g"), ["c1", "c2"]);
    second.pushed.take();
    world.broker.closed(3, &first.connection);
    assert_eq!((second.pushed.take().len(), world.broker.clients.consumer_ids("g")), (1, vec!["c2".to_owned()]));
    world.broker.tick(130_000);
    assert!(world.broker.clients.consumer_ids("g").is_empty());
    assert_eq!(world.ask(4, &second, &Heartbeat {}, b"{").code, codes::SYSTEM_ERROR);
}

/// With rejectPullConsumerEnable only members of push consumers' groups pull, and RocketMQ's own tools.
#[test]
fn pull_consumers_can_be_rejected() {
    let world = world("");
    world.send(1, "T", "", "x");
    let beat = |id: u64, group: &str, consume_type| {
        let consumer = ConsumerData { group_name: group.into(), consume_type, ..ConsumerData::default() };
        let data = HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
        assert_eq!(world.ask(1, &peer(id), &Heartbeat {}, &fastjson::to_vec(&data)).code, codes::SUCCESS);
    };
    let pull = |id: u64, group| {
        let answer = world.ask(2, &peer(id), &PullMessage { consumer_group: group, ..pull_request("T", 0, 0, "*") }, &[]);
        (answer.code, answer.remark)
    };
    beat(1, "before", ConsumeType::Actively);
    beat(2, "push", ConsumeType::Passively);
    assert_eq!(pull(3, "nobody").0, codes::SUCCESS);
    let set = world.ask(1, &peer(1), &UpdateBrokerConfig {}, b"rejectPullConsumerEnable=true");
    assert_eq!(set.code, codes::SUCCESS);
    beat(4, "after", ConsumeType::Actively);
    assert_eq!(world.broker.clients.consumer_ids("after"), Vec::<String>::new());
    let remark = "the consumer's group info not exist, or the pull consumer is rejected by server.";
    let rejected = (codes::SUBSCRIPTION_NOT_EXIST, remark.to_owned());
    let pulls = [pull(4, "after"), pull(3, "nobody"), pull(3, "before")];
    assert_eq!(pulls, [(); 3].map(|()| rejected.clone()));
    let pulls = [pull(1, "before"), pull(3, "push"), pull(3, "TOOLS_CONSUMER"), pull(3, "CID_RMQ_SYS_x")];
    assert_eq!(pulls.map(|(code, _)| code), [codes::SUCCESS; 4]);
}

#[test]
fn offsets_are_kept_and_new_groups_begin_where_java_has_them_begin() {
    let world = world("");
    world.send(1, "T", "", "x");
    let query = QueryConsumerOffset { consumer_group: "g", topic: "T", queue_id: 0, set_zero_if_not_found: None };
    assert_eq!(world.ask(1, &peer(1), &query, &[]).field("offset"), "0");
    let strict = QueryConsumerOffset { set_zero_if_not_found: Some(false), ..query.clone() };
    assert_eq!(world.ask(1, &peer(1), &strict, &[]).code, codes::QUERY_NOT_FOUND);
    let update = UpdateConsumerOffset { consumer_group: "g", topic: "T", queue_id: 0, commit_offset: 1 };
    assert_eq!(world.ask(1, &peer(1), &update, &[]).code, codes::SUCCESS);
    world.broker.tend_store(6000);
    let world = world.kill_and_open();
    assert_eq!(world.ask(1, &peer(1), &strict, &[]).field("offset"), "1");
    let unknown = UpdateConsumerOffset { topic: "nothing", ..update };
    assert_eq!(world.ask(1, &peer(1), &unknown, &[]).code, codes::TOPIC_NOT_EXIST);
}

/// A power cut takes messages that the disk did not have, and not the offsets of those who had consumed them.
#[test]
fn offsets_of_messages_that_a_crash_took_are_brought_back() {
    let world = world("");
    world.send(1, "T", "", "x");
    for (topic, queue_id) in [("T", 0), ("T", 1)] {
        let update = UpdateConsumerOffset { consumer_group: "g", topic, queue_id, commit_offset: 7 };
        assert_eq!(world.ask(1, &peer(1), &update, &[]).code, codes::SUCCESS);
    }
    world.broker.tend_store(6000);
    let world = world.kill_and_open();
    assert_eq!([0, 1].map(|queue| world.broker.offsets.committed("T", "g", queue)), [Some(1), Some(0)]);
    world.broker.close(7000).unwrap();
    let update = UpdateConsumerOffset { consumer_group: "g", topic: "T", queue_id: 0, commit_offset: 7 };
    let World { broker, directory, settings } = world;
    drop(broker);
    // After a clean stop every offset is what its group wanted.
    let world = World { broker: open(directory.path(), &settings), directory, settings };
    assert_eq!(world.ask(8000, &peer(1), &update, &[]).code, codes::SUCCESS);
    world.broker.close(9000).unwrap();
    let World { broker, directory, settings } = world;
    drop(broker);
    assert_eq!(open(directory.path(), &settings).offsets.committed("T", "g", 0), Some(7));
}

#[test]
fn deleted_topics_are_gone_and_begin_anew() {
    let world = world("");
    world.send(1, "T", "", "old");
    assert_eq!(world.ask(1, &peer(1), &DeleteTopicInBroker { topic: "T" }, &[]).code, codes::SUCCESS);
    assert_eq!(world.pull(1, &peer(1), "T", 0, 0).unwrap().code, codes::TOPIC_NOT_EXIST);
    assert_eq!(world.send(2, "T", "", "new").field("queueOffset"), "0");
    let world = world.kill_and_open();
    assert_eq!(world.pull(3, &peer(1), "T", 0, 0).unwrap().bodies(), ["new"]);
    assert_eq!(world.ask(1, &peer(1), &DeleteTopicInBroker { topic: "TBW102" }, &[]).code, codes::INVALID_PARAMETER);
}

#[test]
fn what_nobody_handles_is_said_in_javas_words() {
    let world = world("");
    let answer = world.ask(1, &peer(1), &PutKvConfig { namespace: "a", key: "b", value: "c" }, &[]);
    assert_eq!((answer.code, answer.remark.as_str()), (codes::REQUEST_CODE_NOT_SUPPORTED, " request type 100 not supported"));
    let missing = frame(&GetKvConfig { namespace: "x", key: "y" }, &[]);
    assert_eq!(world.read(1, &peer(1), vec![missing])[0].code, codes::REQUEST_CODE_NOT_SUPPORTED);
}

#[test]
fn settings_change_while_it_runs_all_or_none() {
    let world = world("");
    let update = |text: &str| world.ask(1, &peer(1), &UpdateBrokerConfig {}, text.as_bytes()).code;
    assert_eq!(update("maxMessageSize=100\nlistenPort=abc"), codes::SYSTEM_ERROR);
    assert_eq!(world.broker.config().max_message_size, 4 * 1024 * 1024);
    assert_eq!(update("maxMessageSize=100"), codes::SUCCESS);
    assert_eq!(world.broker.config().max_message_size, 100);
    assert_eq!(update("rocketmqHome=/x"), codes::NO_PERMISSION);
    let info = world.ask(1, &peer(1), &GetBrokerRuntimeInfo {}, &[]);
    let table: protocol::bodies::KvTable = fastjson::from_slice(&info.body).unwrap();
    assert_eq!(table.table["brokerVersionDesc"], "V5_4_0");
}
