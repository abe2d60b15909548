use protocol::header::FLAG_RESPONSE;

use super::*;

const REPLIES: &str = "DefaultCluster_REPLY_TOPIC";

fn reply(properties: &str) -> SendReplyMessageV2<'_> {
    let SendMessageV2 {
        producer_group,
        default_topic,
        default_topic_queue_nums,
        queue_id,
        sys_flag,
        born_timestamp,
        flag,
        reconsume_times,
        unit_mode,
        max_reconsume_times,
        batch,
        ..
    } = send("", "");
    SendReplyMessageV2 {
        producer_group,
        topic: REPLIES,
        default_topic,
        default_topic_queue_nums,
        queue_id,
        sys_flag,
        born_timestamp,
        flag,
        properties: Some(properties),
        reconsume_times,
        unit_mode,
        max_reconsume_times,
        batch,
    }
}

fn reply_to(client: &str) -> String {
    format!("REPLY_TO_CLIENT\u{1}{client}\u{2}CORRELATION_ID\u{1}x\u{2}")
}

impl World {
    /// Gives a reply to the broker, which has no answer yet.
    fn reply(&self, now: i64, consumer: &Peer, client: &str) {
        let answers = self.read(now, consumer, vec![frame(&reply(&reply_to(client)), b"pong")]);
        assert!(answers.is_empty(), "{answers:?}");
    }

    /// A producer's answer to the request that was pushed to it.
    fn confirm(&self, now: i64, producer: &Peer, pushed: &Frame, code: i32) {
        let opaque = Header::decode(pushed).unwrap().opaque;
        let mut bytes = BytesMut::new();
        let flag = FLAG_RESPONSE;
        let head = Outgoing { serialization: Serialization::Json, code, opaque, flag, remark: None, extra: &[] };
        head.write(&(), 0, &mut bytes);
        let answer = protocol::frame::take(&mut bytes, usize::MAX).unwrap().unwrap();
        assert!(self.read(now, producer, vec![answer]).is_empty());
    }
}

/// The one answer that a consumer was given.
fn answered(consumer: &Peer) -> Answer {
    let answers = consumer.pushed.take();
    assert_eq!(answers.len(), 1);
    Answer::of(&answers[0])
}

#[test]
fn a_reply_goes_to_the_producer_that_asked_and_is_answered_when_it_has_it() {
    let world = world("");
    let (producer, consumer) = (world.producer(1, 3), peer(4));
    world.reply(5, &consumer, "c3");
    let pushed = producer.pushed.take();
    let header = Header::decode(&pushed[0]).unwrap();
    assert_eq!((header.code, header.is_oneway(), &pushed[0].body[..]), (326, false, &b"pong"[..]));
    let fields: PushReplyMessage<'_> = header.read().unwrap();
    let text = fields.properties.unwrap();
    assert_eq!((fields.topic, properties::get(text, "CORRELATION_ID")), (REPLIES, Some("x")));
    assert_eq!(properties::get(text, properties::PUSH_REPLY_TIME), Some("5"));
    assert_eq!((fields.born_host, fields.store_host), ("127.0.0.1:2000", "127.0.0.1:10911"));
    assert!(consumer.pushed.take().is_empty());

    world.confirm(6, &producer, &pushed[0], codes::SUCCESS);
    let answer = answered(&consumer);
    assert_eq!((answer.code, answer.field("queueOffset"), answer.field("msgId").len()), (codes::SUCCESS, "0", 32));
    assert_eq!(answer.field("MSG_REGION"), "DefaultRegion");
    assert_eq!(world.pull(7, &peer(5), REPLIES, 0, 0).unwrap().bodies(), ["pong"]);
    // A second confirmation is nobody's.
    world.confirm(8, &producer, &pushed[0], codes::SUCCESS);
    assert!(consumer.pushed.take().is_empty());
}

#[test]
fn with_sync_flush_a_reply_is_answered_when_the_producer_and_the_disk_have_it() {
    let world = world("flushDiskType=SYNC_FLUSH\n");
    let (producer, consumer) = (world.producer(1, 3), peer(4));
    for disk_first in [false, true] {
        world.reply(5, &consumer, "c3");
        let pushed = producer.pushed.take();
        let steps: [&dyn Fn(); 2] =
            [&|| world.confirm(6, &producer, &pushed[0], codes::SUCCESS), &|| world.broker.sync(7).unwrap()];
        steps[usize::from(disk_first)]();
        assert!(consumer.pushed.take().is_empty());
        steps[usize::from(!disk_first)]();
        assert_eq!(answered(&consumer).code, codes::SUCCESS);
    }
}

#[test]
fn a_reply_that_no_producer_takes_is_refused_in_javas_words() {
    let world = world("storeReplyMessageEnable=false\n");
    let (producer, consumer) = (world.producer(1, 3), peer(4));
    world.reply(5, &consumer, "c9");
    let answer = answered(&consumer);
    assert_eq!((answer.code, answer.field("msgId")), (codes::SYSTEM_ERROR, "0"));
    assert_eq!(answer.remark, "push reply message fail, channel of <c9> not found.");
    assert!(world.read(5, &consumer, vec![frame(&reply(""), b"pong")]).is_empty());
    assert_eq!(answered(&consumer).remark, "reply message properties[REPLY_TO_CLIENT] is null");

    let failed = |consumer: &Peer| {
        let answer = answered(consumer);
        assert_eq!((answer.code, answer.remark.as_str()), (codes::SYSTEM_ERROR, "push reply message to c3fail."));
    };
    world.reply(10, &consumer, "c3");
    world.confirm(11, &producer, &producer.pushed.take()[0], codes::SYSTEM_ERROR);
    failed(&consumer);
    world.reply(20, &consumer, "c3");
    world.broker.tick(10_019);
    assert!(consumer.pushed.take().is_empty());
    world.broker.tick(10_020);
    failed(&consumer);
    world.reply(10_030, &consumer, "c3");
    world.broker.closed(10_031, &producer.connection);
    failed(&consumer);
    world.reply(10_040, &consumer, "c3");
    assert_eq!(answered(&consumer).remark, "push reply message fail, channel of <c3> not found.");
    assert!(world.pull(10_050, &peer(5), REPLIES, 0, 0).unwrap().bodies().is_empty());
    let elsewhere = SendReplyMessageV2 { topic: "a b", ..reply("") };
    assert_eq!(world.ask(10_060, &consumer, &elsewhere, b"x").code, codes::INVALID_PARAMETER);
}

#[test]
fn a_client_is_found_by_its_newest_connection_until_its_last_producer_leaves() {
    let world = world("");
    let old = world.producer(1, 3);
    let new = peer(8);
    let producers = ["p", "q"].map(|group| ProducerData { group_name: group.into() }).to_vec();
    let data = HeartbeatData { client_id: "c3".into(), producer_data_set: producers, ..HeartbeatData::default() };
    world.ask(2, &new, &Heartbeat {}, &fastjson::to_vec(&data));
    let connection = || world.broker.clients.producer_with_id("c3").map(|connection| connection.id);
    assert_eq!(connection(), Some(8));
    world.broker.closed(3, &old.connection);
    let leave = |group| UnregisterClient { client_id: "c3", producer_group: Some(group), consumer_group: None };
    world.ask(4, &new, &leave("p"), &[]);
    assert_eq!(connection(), Some(8));
    world.ask(5, &new, &leave("q"), &[]);
    assert_eq!(connection(), None);
}
