use protocol::pop::{Ack, BatchAck, BatchAckBody, CheckPoint};
use protocol::record::Record;

use super::*;

/// POP's codes fit a JSON header alone.
fn json_frame<'h, R: Request<'h>>(request: &R, body: &[u8]) -> Frame {
    let mut bytes = BytesMut::new();
    let head = Outgoing { serialization: Serialization::Json, code: R::CODE, opaque: 7, flag: 0, remark: None, extra: &[] };
    head.write(request, body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    protocol::frame::take(&mut bytes, usize::MAX).unwrap().unwrap()
}

fn pop(now: i64) -> PopMessage<'static> {
    PopMessage {
        consumer_group: "g",
        topic: "T",
        queue_id: -1,
        max_msg_nums: 32,
        invisible_time: 1000,
        born_time: Some(now),
        ..PopMessage::default()
    }
}

/// A message as a consumer knows it, with its handle made as Java's client makes it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    topic: String,
    text: String,
    handle: String,
    queue_id: i32,
    offset: i64,
    times: i32,
}

fn got(answer: &Answer) -> Vec<Got> {
    let info = |name: &str, key: &str| {
        let text = answer.field(name);
        let found = text.split(';').find_map(|one| one.rsplit_once(' ').filter(|(k, _)| *k == key));
        found.unwrap_or_else(|| panic!("{name} {text:?} has no {key}")).1.to_owned()
    };
    let read = |record: Record<'_>| {
        let flag = if record.topic.starts_with("%RETRY%") { 1 } else { 0 };
        let own = properties::get(record.properties, properties::POP_CK).map(str::to_owned);
        let handle = own.unwrap_or_else(|| {
            let key = format!("{flag} {}", record.queue_id);
            assert!(info("msgOffsetInfo", &key).split(',').any(|o| o == record.queue_offset.to_string()));
            let (pop_time, invisible) = (answer.field("popTime"), answer.field("invisibleTime"));
            let start = info("startOffsetInfo", &key);
            let revive = answer.field("reviveQid");
            format!("{start} {pop_time} {invisible} {revive} {flag} broker-a {} {}", record.queue_id, record.queue_offset)
        });
        let topic = if handle.split(' ').nth(4) == Some("1") { "%RETRY%g_T".to_owned() } else { record.topic.to_owned() };
        Got {
            topic,
            text: String::from_utf8(record.body.to_vec()).unwrap(),
            handle,
            queue_id: record.queue_id,
            offset: record.queue_offset,
            times: record.reconsume_times,
        }
    };
    record::decode_all(&answer.body).map(|record| read(record.unwrap())).collect()
}

pub(super) fn texts(got: &[Got]) -> Vec<&str> {
    got.iter().map(|g| g.text.as_str()).collect()
}

impl Got {
    fn ack(&self) -> AckMessage<'_> {
        AckMessage {
            consumer_group: "g",
            topic: &self.topic,
            queue_id: self.queue_id,
            extra_info: &self.handle,
            offset: self.offset,
        }
    }

    fn change(&self, invisible_time: i64) -> ChangeInvisibleTime<'_> {
        let AckMessage { consumer_group, topic, queue_id, extra_info, offset } = self.ack();
        ChangeInvisibleTime { consumer_group, topic, queue_id, extra_info, offset, invisible_time }
    }
}

impl World {
    fn json<'h, R: Request<'h>>(&self, now: i64, request: &R, body: &[u8]) -> Answer {
        let mut answers = self.read(now, &peer(2), vec![json_frame(request, body)]);
        assert_eq!(answers.len(), 1, "{}", R::NAME);
        answers.remove(0)
    }

    fn popped(&self, now: i64, request: &PopMessage<'_>) -> Vec<Got> {
        let answer = self.json(now, request, &[]);
        match answer.code {
            codes::SUCCESS => assert_eq!(answer.remark, "FOUND"),
            code => assert_eq!((code, answer.remark.as_str()), (codes::POLLING_TIMEOUT, "NO_MESSAGE_IN_QUEUE")),
        }
        got(&answer)
    }

    /// The answer to a request that is given once disk and slaves have what it wrote, and not before.
    pub(super) fn when_stored<'h, R: Request<'h>>(&self, now: i64, request: &R, body: &[u8]) -> Answer {
        let peer = peer(4);
        let answers = self.read(now, &peer, vec![json_frame(request, body)]);
        assert!(answers.is_empty() && peer.pushed.take().is_empty(), "{} is answered at once: {answers:?}", R::NAME);
        self.broker.sync(now).unwrap();
        if self.broker.config().demand().is_some() {
            assert!(peer.pushed.take().is_empty(), "{} is answered without the slave", R::NAME);
            self.broker.slave_acked(1, self.broker.store.visible(), now);
        }
        let pushed = peer.pushed.take();
        assert_eq!(pushed.len(), 1, "{}", R::NAME);
        Answer::of(&pushed[0])
    }

    pub(super) fn pop(&self, now: i64) -> Vec<Got> {
        self.popped(now, &pop(now))
    }

    fn ack(&self, now: i64, got: &Got) {
        let answer = self.json(now, &got.ack(), &[]);
        assert_eq!(answer.code, codes::SUCCESS, "{}", answer.remark);
    }

    fn park(&self, now: i64, request: &PopMessage<'_>, id: u64) -> Peer {
        let peer = peer(id);
        assert!(self.read(now, &peer, vec![json_frame(request, &[])]).is_empty());
        peer
    }

    /// The records of the revive topic: queue, tag and body.
    fn revive_log(&self) -> Vec<(i32, String, String)> {
        let store = &self.broker.store;
        let queues = store.queues().into_iter().filter(|queue| queue.topic == REVIVE);
        let mut records = Vec::new();
        for queue in queues {
            for offset in 0..queue.max_offset() {
                let mut entry = [store::queue::Entry::default()];
                assert_eq!(queue.read(offset, &mut entry).unwrap(), 1);
                let slice = store.record(entry[0].offset as u64).unwrap();
                let record = record::decode(slice.bytes()).unwrap();
                let tag = properties::get(record.properties, properties::TAGS).unwrap().to_owned();
                records.push((queue.id, tag, String::from_utf8(record.body.to_vec()).unwrap()));
            }
        }
        records
    }

    /// Puts a record into the revive topic as Java's timer does when it is due.
    fn deliver_from_timer(&self, now: i64, tag: &str, body: &[u8]) {
        let host = self.broker.store_host();
        let text = format!("TAGS\u{1}{tag}\u{2}TIMER_DELIVER_MS\u{1}{now}\u{2}TIMER_OUT_MS\u{1}{now}\u{2}");
        let record = Record {
            queue_id: 0,
            flag: 0,
            queue_offset: 0,
            physical_offset: 0,
            sys_flag: 0,
            born_timestamp: now,
            born_host: host,
            store_timestamp: 0,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic: REVIVE,
            properties: &text,
        };
        let mut batch = Batch::default();
        batch.push(self.broker.store.queue(REVIVE, 0).unwrap(), &record, 0, 1);
        self.broker.append(&mut batch, now).unwrap();
    }
}

const REVIVE: &str = "rmq_sys_REVIVE_LOG_DefaultCluster";

#[test]
fn what_is_not_acknowledged_comes_back_counted_until_it_is() {
    let world = world("");
    ["a", "b", "c"].iter().for_each(|text| drop(world.send(1, "T", "TAGS\u{1}x\u{2}", text)));
    let answer = world.json(10, &pop(10), &[]);
    assert_eq!(["popTime", "invisibleTime", "restNum"].map(|f| answer.field(f)), ["10", "1000", "0"]);
    assert_eq!((answer.field("startOffsetInfo"), answer.field("msgOffsetInfo")), ("0 0 0", "0 0 0,1,2"));
    let first = got(&answer);
    assert_eq!(texts(&first), ["a", "b", "c"]);
    assert!(world.pop(11).is_empty());
    world.ack(20, &first[1]);
    world.broker.tick(1009);
    assert!(world.pop(1009).is_empty());
    world.broker.tick(1010);
    let again = world.pop(1011);
    assert_eq!(again.iter().map(|g| (g.text.as_str(), g.times)).collect::<Vec<_>>(), [("a", 1), ("c", 1)]);
    assert_eq!(again[0].handle, format!("0 1011 1000 {} 1 broker-a 0 0", again[0].handle.split(' ').nth(3).unwrap()));
    world.ack(1020, &again[0]);
    world.broker.tick(2011);
    let third = world.pop(2012);
    assert_eq!((texts(&third), third[0].times), (vec!["c"], 2));
    world.ack(2013, &third[0]);
    world.broker.tick(9000);
    assert!(world.pop(9000).is_empty());
    let retry = world.pull(9001, &peer(3), "%RETRY%g_T", 0, 0).unwrap();
    let records: Vec<_> = record::decode_all(&retry.body).map(|r| r.unwrap()).collect();
    let property = |nth: usize, name| properties::get(records[nth].properties, name);
    assert_eq!(
        (property(0, "1ST_POP_TIME"), property(2, "1ST_POP_TIME"), property(0, "TAGS")),
        (Some("10"), Some("10"), Some("x"))
    );
}

#[test]
fn a_kill_loses_neither_what_was_popped_nor_what_was_acknowledged() {
    let mut world = world("");
    (0..40).for_each(|n| drop(world.send(1, "T", "", &format!("m{n}"))));
    let first = world.pop(10);
    assert_eq!(first.len(), 32);
    first[..31].iter().for_each(|got| world.ack(11, got));
    let second = world.pop(12);
    second.iter().for_each(|got| world.ack(13, got));
    world = world.kill_and_open();
    assert!(world.pop(14).is_empty(), "the group's offset is read from the check points");
    world.broker.tick(1010);
    let back = world.pop(1010);
    assert_eq!((texts(&back), back[0].times), (vec!["m31"], 1));
    world = world.kill_and_open();
    assert!(world.pop(1011).is_empty());
    world.ack(1012, &back[0]);
    world = world.kill_and_open();
    world.broker.tick(9000);
    assert!(world.pop(9000).is_empty());
    let done = world.broker.offsets.all().offset_table;
    let read: i64 = done["rmq_sys_REVIVE_LOG_DefaultCluster@CID_RMQ_SYS_REVIVE_GROUP"].values().map(|offset| offset + 1).sum();
    assert_eq!(read, world.revive_log().len() as i64, "no record is needed any more");
}

#[test]
fn acknowledgements_of_one_read_share_a_record() {
    let world = world("");
    (0..5).for_each(|n| drop(world.send(1, "T", "", &format!("m{n}"))));
    let first = world.pop(10);
    let mut frames: Vec<_> = first[..3].iter().map(|got| json_frame(&got.ack(), &[])).collect();
    frames.push(json_frame(&first[0].ack(), &[]));
    assert!(world.read(11, &peer(2), frames).iter().all(|answer| answer.code == codes::SUCCESS));
    world.ack(12, &first[0]);
    let log = world.revive_log();
    assert_eq!(log.iter().map(|(_, tag, _)| tag.as_str()).collect::<Vec<_>>(), ["ck", "bAck"]);
    assert_eq!(log[1].2, r#"{"ao":-1,"aol":[0,1,2],"bn":"broker-a","c":"g","pt":10,"q":0,"so":0,"t":"T"}"#);
    assert!(log[0].2.contains(r#""d":[0,1,2,3,4],"it":1000,"n":5,"pt":10"#), "{}", log[0].2);

    let revive_queue = first[0].handle.split(' ').nth(3).unwrap().parse().unwrap();
    let ack = BatchAck {
        bits: vec![0b11111],
        group: "g".into(),
        invisible_time: 1000,
        pop_time: 10,
        retry: "0".into(),
        revive_queue,
        topic: "T".into(),
        ..BatchAck::default()
    };
    let body = |acks| fastjson::to_vec(&BatchAckBody { acks, broker_name: "broker-a".into() });
    let answer = world.json(13, &BatchAckMessage {}, &body(vec![ack, BatchAck { topic: "none".into(), ..BatchAck::default() }]));
    assert_eq!(answer.code, codes::SUCCESS);
    world.broker.tick(5000);
    assert!(world.pop(5000).is_empty());
    assert_eq!(world.json(13, &BatchAckMessage {}, &body(vec![])).code, codes::NO_MESSAGE);
    assert_eq!(world.json(13, &BatchAckMessage {}, b"junk").code, codes::SYSTEM_ERROR);
}

#[test]
fn a_message_can_be_invisible_for_longer() {
    let mut world = world("");
    ["a", "b"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let first = world.pop(10);
    let answer = world.json(500, &first[0].change(5000), &[]);
    assert_eq!((answer.code, answer.field("popTime"), answer.field("invisibleTime")), (0, "500", "5000"));
    let handle = format!("0 500 5000 {} 0 broker-a 0 0", answer.field("reviveQid"));
    world = world.kill_and_open();
    world.broker.tick(1010);
    let again = world.pop(1010);
    assert_eq!(texts(&again), ["b"]);
    world.ack(1010, &again[0]);
    let late = world.json(1011, &first[1].change(5000), &[]);
    assert_eq!(late.code, codes::NO_MESSAGE);
    let longer = Got { handle, ..first[0].clone() };
    assert_eq!(world.json(5000, &longer.change(1), &[]).code, codes::SUCCESS);
    world.broker.tick(5001);
    let back = world.pop(5001);
    assert_eq!((texts(&back), back[0].times), (vec!["a"], 1));
}

#[test]
fn a_pop_waits_for_messages_and_each_goes_to_one() {
    let world = world("popPollingSize=1\n");
    world.send(1, "T", "", "old");
    world.ack(2, &world.pop(2)[0]);
    let request = PopMessage { poll_time: 10_000, ..pop(100) };
    let (one, two) = (world.park(100, &request, 5), world.park(100, &request, 6));
    let full = world.json(100, &request, &[]);
    assert_eq!((full.code, full.field("restNum")), (codes::POLLING_FULL, "0"));
    let count = PollingInfo { consumer_group: "g", topic: "T", queue_id: -1 };
    assert_eq!(world.json(100, &count, &[]).field("pollingNum"), "2");
    world.send(200, "T", "", "x");
    let answers = one.pushed.take();
    assert_eq!(got(&Answer::of(&answers[0])).iter().map(|g| g.text.as_str()).collect::<Vec<_>>(), ["x"]);
    assert!(two.pushed.take().is_empty());
    world.send(201, "T", "", "y");
    assert_eq!(texts(&got(&Answer::of(&two.pushed.take()[0]))), ["y"]);

    // What comes back wakes, too; and whoever waits long enough is told so.
    let three = world.park(1000, &PopMessage { born_time: Some(1000), ..request.clone() }, 7);
    world.broker.tick(1200);
    let back = got(&Answer::of(&three.pushed.take()[0]));
    assert_eq!((texts(&back), back[0].times), (vec!["x"], 1));
    world.broker.tick(1201);
    assert_eq!(texts(&world.popped(1300, &PopMessage { queue_id: 0, max_msg_nums: 1, ..pop(1300) })), ["y"]);
}

#[test]
fn who_is_gone_gets_nothing() {
    let world = world("");
    world.send(1, "T", "", "old");
    world.ack(2, &world.pop(2)[0]);
    let gone = world.park(100, &PopMessage { poll_time: 10_000, ..pop(100) }, 5);
    world.broker.closed(200, &gone.connection);
    world.send(300, "T", "", "new");
    assert_eq!(texts(&world.pop(301)), ["new"]);
    assert!(gone.pushed.take().is_empty());
}

#[test]
fn a_message_can_be_looked_at_without_being_taken() {
    let world = world("");
    ["a", "b", "c"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let peek = PeekMessage { consumer_group: "g", topic: "T", queue_id: -1, max_msg_nums: 2 };
    let answer = world.json(2, &peek, &[]);
    assert_eq!((answer.bodies(), answer.field("restNum")), (vec!["a".to_owned(), "b".to_owned()], "3"));
    assert_eq!(world.pop(3).len(), 3);
    assert_eq!(world.json(4, &peek, &[]).code, codes::PULL_NOT_FOUND);
}

#[test]
fn the_broker_gives_members_their_queues_and_says_whether_they_pop() {
    let mut world = world("");
    world.send(1, "T", "", "a");
    let mode = br#"{"consumerGroup":"g","mode":"POP","popShareQueueNum":0,"topic":"T"}"#;
    assert_eq!(world.json(2, &SetMessageRequestMode {}, mode).code, codes::SUCCESS);
    world = world.kill_and_open();
    let answer = world.json(3, &GetAllMessageRequestMode {}, &[]);
    let all = format!(r#"{{"messageRequestModeMap":{{"T":{{"g":{}}}}}}}"#, String::from_utf8_lossy(mode));
    assert_eq!(answer.body, all.as_bytes());
    for id in [1, 2] {
        let consumer = ConsumerData { group_name: "g".into(), ..ConsumerData::default() };
        let data = HeartbeatData { client_id: format!("c{id}"), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
        assert_eq!(world.ask(4, &peer(id), &Heartbeat {}, &fastjson::to_vec(&data)).code, codes::SUCCESS);
    }
    let query = |topic: &str| {
        let query = format!(
            r#"{{"clientId":"c2","consumerGroup":"g","messageModel":"CLUSTERING","strategyName":"AVG","topic":"{topic}"}}"#
        );
        let answer = world.json(5, &QueryAssignment {}, query.as_bytes());
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    let queue =
        |id, mode| format!(r#"{{"messageQueue":{{"brokerName":"broker-a","queueId":{id},"topic":"T"}},"mode":"{mode}"}}"#);
    assert_eq!(query("T"), format!(r#"{{"messageQueueAssignments":[{}]}}"#, queue(-1, "POP")));
    assert_eq!(query("none"), "{}");
    let pull = String::from_utf8_lossy(mode).replace("POP", "PULL");
    assert_eq!(world.json(6, &SetMessageRequestMode {}, pull.as_bytes()).code, codes::SUCCESS);
    assert_eq!(query("T"), format!(r#"{{"messageQueueAssignments":[{},{}]}}"#, queue(2, "PULL"), queue(3, "PULL")));
}

#[test]
fn who_waits_in_vain_is_answered_in_time() {
    let world = world("");
    world.send(1, "T", "", "old");
    world.ack(2, &world.pop(2)[0]);
    let request = PopMessage { poll_time: 10_000, ..pop(100) };
    let one = world.park(100, &request, 5);
    world.broker.tick(10_049);
    assert!(one.pushed.take().is_empty());
    world.broker.tick(10_050);
    let answer = Answer::of(&one.pushed.take()[0]);
    assert_eq!((answer.code, answer.remark.as_str()), (codes::POLLING_TIMEOUT, "NO_MESSAGE_IN_QUEUE"));
    assert_eq!((answer.field("popTime"), answer.field("invisibleTime")), ("10050", "1000"));
    let late = world.json(10_700, &request, &[]);
    assert_eq!(
        (late.code, late.remark.as_str()),
        (codes::POLLING_TIMEOUT, "the broker[127.0.0.1] pop message is timeout too much")
    );

    let ask = |now, poll_time| Notification {
        consumer_group: "g",
        topic: "T",
        queue_id: -1,
        poll_time,
        born_time: Some(now),
        ..Notification::default()
    };
    assert_eq!(world.json(11_000, &ask(11_000, 0), &[]).field("hasMsg"), "false");
    let told = peer(6);
    assert!(world.read(11_000, &told, vec![json_frame(&ask(11_000, 5000), &[])]).is_empty());
    world.send(11_001, "T", "", "new");
    assert_eq!(Answer::of(&told.pushed.take()[0]).field("hasMsg"), "true");
    assert_eq!(world.json(11_002, &ask(11_002, 0), &[]).field("hasMsg"), "true");
    assert_eq!(texts(&world.pop(11_003)), ["new"]);
}

#[test]
fn filters_are_for_a_groups_own_messages_and_for_those_that_come_back() {
    let world = world("");
    let tag = |tag: &str| format!("TAGS\u{1}{tag}\u{2}colour\u{1}{tag}\u{2}");
    (0..6).for_each(|n| drop(world.send(1, "T", &tag(if n % 2 == 0 { "even" } else { "odd" }), &format!("m{n}"))));
    let odd = |now| PopMessage { exp: Some("odd"), exp_type: Some("TAG"), ..pop(now) };
    let answer = world.json(10, &odd(10), &[]);
    assert_eq!(answer.field("msgOffsetInfo"), "0 0 1,3,5");
    let first = got(&answer);
    world.ack(11, &first[1]);
    world.broker.tick(1010);
    assert_eq!(texts(&world.popped(1010, &odd(1010))), ["m1", "m5"]);
    let sql = |exp| PopMessage { consumer_group: "h", exp: Some(exp), exp_type: Some("SQL92"), ..pop(10) };
    assert_eq!(texts(&world.popped(10, &sql("colour = 'even'"))), ["m0", "m2", "m4"]);
    assert_eq!(world.json(10, &sql("colour ="), &[]).code, codes::SUBSCRIPTION_PARSE_FAILED);
    let waiting = world.park(20, &PopMessage { poll_time: 1000, born_time: Some(20), ..odd(20) }, 9);
    world.send(21, "T", &tag("even"), "m6");
    assert!(waiting.pushed.take().is_empty());
    world.send(22, "T", &tag("odd"), "m7");
    assert_eq!(texts(&got(&Answer::of(&waiting.pushed.take()[0]))), ["m7"]);
}

#[test]
fn a_new_group_begins_where_it_asks_and_a_pop_may_name_a_queue() {
    let world = world("initPopOffsetByCheckMsgInMem=false\n");
    for queue in 0..4 {
        for n in 0..2 {
            let request = SendMessageV2 { queue_id: queue, ..send("T", "") };
            world.ask(1, &peer(1), &request, format!("q{queue}m{n}").as_bytes());
        }
    }
    assert_eq!(texts(&world.popped(10, &PopMessage { queue_id: 2, ..pop(10) })), ["q2m0", "q2m1"]);
    let mut rest = world.pop(11);
    rest.sort_by(|a, b| a.text.cmp(&b.text));
    assert_eq!(texts(&rest), ["q0m0", "q0m1", "q1m0", "q1m1", "q3m0", "q3m1"]);
    let newest = PopMessage { consumer_group: "h", init_mode: 1, max_msg_nums: 3, ..pop(12) };
    let answer = world.json(12, &newest, &[]);
    assert_eq!((got(&answer).len(), answer.field("restNum")), (3, "1"));
    assert!(got(&answer).iter().all(|g| g.text.ends_with("m1")));
}

#[test]
fn the_second_kind_of_retry_topic_is_used_where_it_is_switched_on() {
    let world = world("enableRetryTopicV2=true\n");
    world.send(1, "T", "", "a");
    world.pop(10);
    world.broker.tick(1010);
    let answer = world.json(1010, &pop(1010), &[]);
    assert_eq!((answer.field("startOffsetInfo"), answer.bodies()), ("2 0 0", vec!["a".to_owned()]));
    assert!(world.broker.topics.get("%RETRY%g+T").is_some());
    let text = record::decode(&answer.body).unwrap().properties.to_owned();
    let handle = properties::get(&text, properties::POP_CK).unwrap();
    assert!(handle.ends_with(" 2 broker-a 0 0"), "{handle}");
    let ack = AckMessage { consumer_group: "g", topic: "%RETRY%g+T", queue_id: 0, extra_info: handle, offset: 0 };
    assert_eq!(world.json(1011, &ack, &[]).code, codes::SUCCESS);
    world.broker.tick(9000);
    assert!(world.pop(9000).is_empty());
}

fn ordered(now: i64) -> PopMessage<'static> {
    PopMessage { order: Some(true), max_msg_nums: 2, ..pop(now) }
}

#[test]
fn in_order_nothing_overtakes_what_is_under_way() {
    let mut world = world("");
    (0..4).for_each(|n| drop(world.send(1, "T", "", &format!("m{n}"))));
    let answer = world.json(10, &ordered(10), &[]);
    assert_eq!((answer.field("reviveQid"), answer.field("orderCountInfo")), ("999", "0 0 0"));
    let first = got(&answer);
    assert_eq!(texts(&first), ["m0", "m1"]);
    assert!(world.popped(11, &ordered(11)).is_empty());
    world.ack(12, &first[0]);
    assert!(world.popped(13, &ordered(13)).is_empty());
    world = world.kill_and_open();
    assert!(world.popped(14, &ordered(14)).is_empty(), "what is under way survives a kill");
    let waiting = world.park(900, &PopMessage { poll_time: 5000, born_time: Some(900), ..ordered(900) }, 5);
    world.broker.tick(1009);
    assert!(waiting.pushed.take().is_empty());
    world.broker.tick(1010);
    let answer = Answer::of(&waiting.pushed.take()[0]);
    assert_eq!(answer.field("orderCountInfo"), "0 qo0%1 1;0 0 0");
    let second = got(&answer);
    assert_eq!(texts(&second), ["m1", "m2"]);
    let waiting = world.park(1020, &PopMessage { poll_time: 5000, born_time: Some(1020), ..ordered(1020) }, 6);
    second.iter().for_each(|got| world.ack(1030, got));
    assert_eq!(texts(&got(&Answer::of(&waiting.pushed.take()[0]))), ["m3"]);
    world = world.kill_and_open();
    world.broker.tick(2030);
    let last = world.popped(2030, &ordered(2030));
    assert_eq!(texts(&last), ["m3"], "what was acknowledged does not come again");
    let illegal = world.json(2031, &AckMessage { offset: 4, ..last[0].ack() }, &[]);
    assert_eq!(illegal.code, codes::MESSAGE_ILLEGAL);
    let changed = world.json(2040, &last[0].change(3000), &[]);
    assert_eq!((changed.field("popTime"), changed.field("invisibleTime"), changed.field("reviveQid")), ("2030", "3010", "999"));
    world = world.kill_and_open();
    assert!(world.popped(5039, &ordered(5039)).is_empty());
    assert_eq!(texts(&world.popped(5040, &ordered(5040))), ["m3"]);
}

#[test]
fn an_attempt_that_comes_again_gets_the_same() {
    let world = world("");
    ["a", "b", "c"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let attempt = |now, id| PopMessage { attempt_id: Some(id), ..ordered(now) };
    assert_eq!(texts(&world.popped(10, &attempt(10, "one"))), ["a", "b"]);
    let again = world.popped(20, &attempt(20, "one"));
    assert_eq!(texts(&again), ["a", "b"]);
    assert!(world.popped(30, &attempt(30, "two")).is_empty());
    let body = BatchAckBody {
        acks: vec![BatchAck {
            bits: vec![3],
            group: "g".into(),
            pop_time: 20,
            revive_queue: 999,
            topic: "T".into(),
            ..BatchAck::default()
        }],
        broker_name: "broker-a".into(),
    };
    assert_eq!(world.json(40, &BatchAckMessage {}, &fastjson::to_vec(&body)).code, codes::SUCCESS);
    assert_eq!(texts(&world.popped(50, &attempt(50, "two"))), ["c"]);
}

#[test]
fn what_a_java_broker_left_open_is_taken_over() {
    let mut world = world("");
    ["a", "b", "c", "d"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let text = r#"{"bm":0,"bn":"broker-a","c":"g","d":[0,1,2],"it":60000,"n":3,"pt":10,"q":0,"ro":0,"so":0,"t":"T"}"#;
    let handle = "0 10 60000 0 0 broker-a 0";
    world.broker.groups.put([("g".to_owned(), Default::default())], 1).unwrap();
    world.broker.offsets.commit("T", "g", 0, 3);
    world.broker.offsets.save(1, || Ok(())).unwrap();
    // Acknowledged before its check point leaves the timer, and remembered over a kill.
    let ack = |offset| AckMessage { consumer_group: "g", topic: "T", queue_id: 0, extra_info: handle, offset };
    assert_eq!(world.json(100, &ack(0), &[]).code, codes::SUCCESS);
    assert!(world.revive_log()[0].2.contains(r#""it":60000"#));
    world = world.kill_and_open();
    world.deliver_from_timer(59_010, "ck", text.as_bytes());
    world.broker.tick(59_011);
    let java = r#"{"ao":2,"bn":"broker-a","c":"g","pt":10,"q":0,"so":0,"t":"T"}"#;
    world.broker.tick(60_010);
    world.deliver_from_timer(60_010, "ack", java.as_bytes());
    world.broker.tick(60_011);
    let own = world.pop(60_020);
    assert_eq!(texts(&own), ["d"]);
    world.ack(60_021, &own[0]);
    world.broker.tick(63_010);
    let back = world.pop(63_010);
    assert_eq!((texts(&back), back[0].times), (vec!["b"], 1));
    let too_late = world.json(70_000, &ack(1), &[]);
    assert_eq!(too_late.code, codes::SUCCESS);
    world.deliver_from_timer(70_000, "ck", b"junk");
    world.deliver_from_timer(70_000, "ack", b"{}");
    world.broker.tick(70_001);
    assert!(texts(&world.pop(70_001)).contains(&"b"));
}

#[test]
fn offsets_that_were_set_back_stay_so_over_a_restart() {
    let mut world = world("");
    ["a", "b"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    assert_eq!(world.pop(10).len(), 2);
    world.broker.tick(20);
    world.broker.offsets.commit("T", "g", 0, 0);
    let World { broker, directory, settings } = world;
    broker.close(30).unwrap();
    drop(broker);
    world = World { broker: open(directory.path(), &settings), directory, settings };
    assert_eq!(texts(&world.pop(40)), ["a", "b"]);
}

#[test]
fn with_sync_flush_an_acknowledgement_waits_for_the_disk() {
    let world = world("flushDiskType=SYNC_FLUSH\n");
    world.read(1, &peer(1), vec![frame(&send("T", ""), b"a")]);
    world.broker.sync(2).unwrap();
    let first = got(&world.when_stored(10, &pop(10), &[]));
    assert_eq!(world.when_stored(11, &first[0].ack(), &[]).code, codes::SUCCESS);
    world.broker.tick(5000);
    world.broker.sync(5001).unwrap();
    assert!(world.pop(5001).is_empty());
}

/// Else a power cut leaves the offset and takes the check point, and nobody ever gets what was popped.
#[test]
fn offsets_of_pops_are_saved_when_the_disk_has_the_check_points() {
    let world = world("");
    world.send(1, "T", "", "a");
    world.pop(10);
    let marks = || world.broker.store.written_and_persisted();
    assert_ne!(marks().0, marks().1);
    world.broker.save_tables(20).unwrap();
    assert_eq!(marks().0, marks().1);
    assert!(std::fs::read_to_string(world.directory.path().join("store/config/consumerOffset.json")).unwrap().contains("T@g"));
}

#[test]
fn pops_and_what_is_done_with_them_wait_for_disk_and_slave() {
    for settings in
        ["flushDiskType=SYNC_FLUSH\n", "brokerRole=SYNC_MASTER\n", "flushDiskType=SYNC_FLUSH\nbrokerRole=SYNC_MASTER\n"]
    {
        let world = world(settings);
        world.broker.slave_joined(1, "10.0.0.2:3".into());
        world.broker.slave_acked(1, 0, 0);
        ["a", "b"].iter().for_each(|text| assert_eq!(world.when_stored(1, &send("T", ""), text.as_bytes()).code, 0));
        let popped = got(&world.when_stored(10, &PopMessage { max_msg_nums: 1, ..pop(10) }, &[]));
        assert_eq!(texts(&popped), ["a"]);
        let changed = world.when_stored(20, &popped[0].change(5000), &[]);
        assert_eq!((changed.code, changed.field("popTime"), changed.field("invisibleTime")), (0, "20", "5000"));
        // In order, each of them, too; and what nobody wrote for is answered at once.
        let ordered = PopMessage { consumer_group: "o", max_msg_nums: 1, order: Some(true), ..pop(30) };
        let first = got(&world.when_stored(30, &ordered, &[]));
        assert_eq!(texts(&first), ["a"]);
        let change = ChangeInvisibleTime { consumer_group: "o", ..first[0].change(700) };
        assert_eq!(world.when_stored(40, &change, &[]).field("invisibleTime"), "710");
        let ack = AckMessage { consumer_group: "o", ..first[0].ack() };
        assert_eq!(world.when_stored(50, &ack, &[]).code, 0);
        assert_eq!(world.json(60, &ack, &[]).code, 0);
        // A pop that waits hears of a message when that is stored, and gets it when its check point is.
        got(&world.when_stored(70, &pop(70), &[]));
        let waiting = world.park(80, &PopMessage { poll_time: 5000, ..pop(80) }, 8);
        assert_eq!(world.when_stored(81, &send("T", ""), b"c").code, 0);
        let early = waiting.pushed.take();
        assert!(early.is_empty() || !settings.contains("SYNC_FLUSH"));
        world.broker.sync(82).unwrap();
        world.broker.slave_acked(1, world.broker.store.visible(), 82);
        let pushed = [early, waiting.pushed.take()].concat();
        assert_eq!(texts(&got(&Answer::of(&pushed[0]))), ["c"]);
        // One that disk and slave do not confirm in time is stored all the same.
        let late = world.park(90, &PopMessage { consumer_group: "h", ..pop(90) }, 9);
        world.broker.tick(10_000);
        assert_eq!(texts(&got(&Answer::of(&late.pushed.take()[0]))), ["a", "b", "c"]);
    }
}

#[test]
fn a_change_in_the_millisecond_of_its_pop_keeps_the_other_messages() {
    let mut world = world("");
    ["a", "b"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let first = world.pop(10);
    let changed = world.json(10, &first[0].change(5000), &[]);
    assert_eq!((changed.code, changed.field("popTime")), (codes::SUCCESS, "11"));
    world = world.kill_and_open();
    world.broker.tick(1010);
    assert_eq!(texts(&world.pop(1010)), ["b"]);
    world.broker.tick(5011);
    assert!(texts(&world.pop(5011)).contains(&"a"));
}

#[test]
fn a_deleted_topic_takes_its_retry_topics_with_it() {
    let world = world("");
    ["T", "T2"].iter().for_each(|topic| drop(world.send(1, topic, "", "a")));
    for request in [pop(10), PopMessage { consumer_group: "h", ..pop(10) }, PopMessage { topic: "T2", ..pop(10) }] {
        assert_eq!(world.popped(10, &request).len(), 1);
    }
    world.broker.tick(1010);
    let retries = || world.broker.topics.names().into_iter().filter(|name| name.starts_with("%RETRY%")).collect::<Vec<_>>();
    assert_eq!(retries(), ["%RETRY%g_T", "%RETRY%g_T2", "%RETRY%h_T"]);
    assert_eq!(world.ask(1020, &peer(1), &DeleteTopicInBroker { topic: "T" }, &[]).code, codes::SUCCESS);
    assert_eq!(retries(), ["%RETRY%g_T2"]);
    assert!(world.broker.store.find_queue("%RETRY%g_T", 0).is_none());
}

#[test]
fn open_pops_are_bounded() {
    let world = world("");
    (0..103).for_each(|n| drop(world.send(1, "T", "", &format!("m{n}"))));
    let one = |now| PopMessage { max_msg_nums: 1, ..pop(now) };
    let first = world.popped(10, &one(10));
    (1..100).for_each(|_| assert_eq!(world.popped(10, &one(10)).len(), 1));
    let refused = world.json(10, &one(10), &[]);
    assert_eq!((refused.code, refused.remark.starts_with("[POP]100 pops")), (codes::SYSTEM_BUSY, true));
    world.ack(11, &first[0]);
    assert_eq!(texts(&world.popped(12, &one(12))), ["m100"]);
}

#[test]
fn bad_requests_have_clear_answers() {
    let world = world("");
    world.send(1, "T", "", "a");
    let code = |request: PopMessage<'_>| world.json(10, &request, &[]).code;
    assert_eq!(code(PopMessage { topic: "none", ..pop(10) }), codes::TOPIC_NOT_EXIST);
    assert_eq!(code(PopMessage { queue_id: 99, ..pop(10) }), codes::INVALID_PARAMETER);
    assert_eq!(code(PopMessage { max_msg_nums: 33, ..pop(10) }), codes::INVALID_PARAMETER);
    assert_eq!(code(PopMessage { consumer_group: "a b", ..pop(10) }), codes::SUBSCRIPTION_GROUP_NOT_EXIST);
    assert_eq!(code(PopMessage { invisible_time: i64::MAX, born_time: Some(i64::MIN), ..pop(10) }), codes::POLLING_TIMEOUT);
    assert_eq!(code(PopMessage { invisible_time: i64::MAX, poll_time: i64::MAX, ..pop(10) }), codes::SUCCESS);
    let ack = |extra_info| AckMessage { consumer_group: "g", topic: "T", queue_id: 0, extra_info, offset: 0 };
    let code = |request: AckMessage<'_>| world.json(10, &request, &[]).code;
    assert_eq!(code(AckMessage { topic: "none", ..ack("0 10 9 0 0 b") }), codes::TOPIC_NOT_EXIST);
    assert_eq!(code(AckMessage { queue_id: -1, ..ack("0 10 9 0 0 b") }), codes::MESSAGE_ILLEGAL);
    assert_eq!(code(AckMessage { offset: 9, ..ack("0 10 9 0 0 b") }), codes::NO_MESSAGE);
    assert_eq!(code(ack("what is this")), codes::SYSTEM_ERROR);
    assert_eq!(code(ack("7 10 9 77 0 b")), codes::MESSAGE_ILLEGAL);
    let change = ChangeInvisibleTime {
        consumer_group: "g",
        topic: "T",
        queue_id: 0,
        extra_info: "0 1 1 0 0 b",
        offset: 1,
        invisible_time: -5,
    };
    assert_eq!(world.json(10, &change, &[]).code, codes::NO_MESSAGE);
    world.broker.tick(20);
}

#[test]
fn records_written_here_are_javas() {
    let world = world("");
    world.send(1, "T", "", "a");
    world.ack(11, &world.pop(10)[0]);
    let log = world.revive_log();
    let point: CheckPoint<'_> = fastjson::from_slice(log[0].2.as_bytes()).unwrap();
    assert_eq!((point.count, point.invisible_time, point.topic.as_ref()), (1, 1000, "T"));
    let ack: Ack<'_> = fastjson::from_slice(log[1].2.as_bytes()).unwrap();
    assert_eq!((log[1].1.as_str(), ack.offset, ack.pop_time, ack.invisible_time), ("ack", 0, 10, None));
}

#[test]
fn a_group_that_was_moved_pops_from_there() {
    let world = world("");
    ["a", "b", "c"].iter().for_each(|text| drop(world.send(1, "T", "", text)));
    let reset = |now, offset| {
        let request =
            ResetOffset { topic: "T", group: "g", queue_id: Some(0), offset: Some(offset), timestamp: 0, is_force: true };
        assert_eq!(world.ask(now, &peer(8), &request, &[]).code, codes::SUCCESS);
    };
    assert_eq!(texts(&world.pop(10)), ["a", "b", "c"]);
    assert_eq!(texts(&world.pop(11)), Vec::<&str>::new());
    reset(12, 1);
    assert_eq!(texts(&world.pop(13)), ["b", "c"]);
    assert!(!world.broker.offsets.is_reset("T", "g", 0), "it has heard of it");
    let in_order = |now| PopMessage { order: Some(true), ..pop(now) };
    reset(14, 0);
    assert_eq!(texts(&world.popped(15, &in_order(15))), ["a", "b", "c"]);
    assert_eq!(texts(&world.popped(16, &in_order(16))), Vec::<&str>::new(), "they are under way");
    reset(17, 2);
    assert_eq!(texts(&world.popped(18, &in_order(18))), ["c"]);
    let waiting = world.park(19, &PopMessage { poll_time: 10_000, ..in_order(19) }, 7);
    reset(20, 1);
    assert_eq!(texts(&got(&Answer::of(&waiting.pushed.take()[0]))), ["b", "c"], "at once");
}
