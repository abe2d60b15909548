use std::collections::BTreeMap;

use protocol::bodies::{
    ConsumeStatsList, ConsumeTimeSpans, ConsumerStatus, CorrectionOffsets, GroupConfigList, GroupForbidden, MessageQueue,
    QueueEntries, ResetOffsets, ResetOffsetsForCpp, StatsData, SubscriptionGroupConfig, TopicConfig, TopicConfigList,
};
use protocol::header::{FLAG_RESPONSE, Language};

use super::*;

/// A member of group `g` that subscribes to `T`.
fn beat(id: &str, fingerprint: i32, topics: &[&str]) -> Vec<u8> {
    let subscription = |topic: &&str| SubscriptionData { sub_string: "*".into(), ..parse_tags(topic, "*", 1) };
    let consumer = ConsumerData {
        group_name: "g".into(),
        message_model: protocol::bodies::MessageModel::Clustering,
        subscription_data_set: topics.iter().map(subscription).collect(),
        ..ConsumerData::default()
    };
    fastjson::to_vec(&HeartbeatData {
        client_id: id.into(),
        consumer_data_set: vec![consumer],
        heartbeat_fingerprint: fingerprint,
        without_sub: topics.is_empty(),
        ..HeartbeatData::default()
    })
}

/// A request to a client: its code, number, fields and body.
type Asked = (i32, i32, Vec<(String, String)>, Bytes);

impl World {
    /// Has a consumer join group `g`.
    fn join(&self, now: i64, peer: &Peer, id: &str) {
        assert_eq!(self.ask(now, peer, &Heartbeat {}, &beat(id, 0, &["T"])).code, 0);
        peer.pushed.take();
    }

    /// What the broker asked a client.
    fn asked(peer: &Peer) -> Vec<Asked> {
        let one = |frame: &Frame| {
            let header = Header::decode(frame).unwrap();
            let fields = header.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            (header.code, header.opaque, fields, frame.body.clone())
        };
        peer.pushed.take().iter().map(one).collect()
    }

    /// A client answers what the broker asked it.
    fn answer(&self, now: i64, peer: &Peer, opaque: i32, code: i32, remark: Option<&str>, body: &[u8]) {
        let mut bytes = BytesMut::new();
        let head =
            Outgoing { serialization: Serialization::Json, code, opaque, flag: FLAG_RESPONSE, remark, extra: &[("f", "v")] };
        head.write(&(), body.len(), &mut bytes);
        bytes.extend_from_slice(body);
        let frame = protocol::frame::take(&mut bytes, usize::MAX).unwrap().unwrap();
        assert!(self.read(now, peer, vec![frame]).is_empty());
    }

    fn send_to(&self, now: i64, queue_id: i32, body: &str) {
        let request = SendMessageV2 { queue_id, ..send("T", "") };
        assert_eq!(self.ask(now, &peer(1), &request, body.as_bytes()).code, 0);
    }

    fn commit(&self, group: &str, queue_id: i32, offset: i64) -> Answer {
        let request = UpdateConsumerOffset { consumer_group: group, topic: "T", queue_id, commit_offset: offset };
        self.ask(1, &peer(1), &request, &[])
    }

    fn committed(&self, group: &str) -> Vec<i64> {
        self.broker.offsets.of("T", group).into_values().collect()
    }
}

fn running_info(id: &str) -> GetConsumerRunningInfo<'_> {
    GetConsumerRunningInfo { consumer_group: "g", client_id: id, jstack_enable: Some(true) }
}

#[test]
fn a_clients_answer_goes_to_whoever_asked() {
    let world = world("");
    let (client, tool) = (peer(5), peer(6));
    world.join(1, &client, "c");
    assert!(world.read(2, &tool, vec![frame(&running_info("c"), &[])]).is_empty());
    let asked = World::asked(&client);
    let [(307, opaque, fields, _)] = &asked[..] else { panic!("{asked:?}") };
    assert!(fields.contains(&("jstackEnable".into(), "true".into())), "{fields:?}");
    world.answer(3, &peer(7), *opaque, 0, None, b"of a stranger");
    assert!(tool.pushed.take().is_empty());
    world.answer(3, &client, *opaque, 9, Some("so it is"), b"info");
    let answers = tool.pushed.take();
    let header = Header::decode(&answers[0]).unwrap();
    assert_eq!((header.code, header.opaque, header.remark.as_deref(), header.field("f")), (9, 7, Some("so it is"), Some("v")));
    assert_eq!(&answers[0].body[..], b"info");
    world.answer(4, &client, *opaque, 0, None, b"again");
    assert!(tool.pushed.take().is_empty());
}

#[test]
fn a_client_that_does_not_answer_is_answered_for() {
    let world = world("");
    let (client, tool) = (peer(5), peer(6));
    let unknown = world.ask(1, &tool, &running_info("c"), &[]);
    assert_eq!((unknown.code, unknown.remark.as_str()), (codes::SYSTEM_ERROR, "The Consumer <g> <c> not online"));
    world.join(1, &client, "c");
    assert!(world.read(1000, &tool, vec![frame(&running_info("c"), &[])]).is_empty());
    world.broker.tick(10_999);
    assert!(tool.pushed.take().is_empty());
    world.broker.tick(11_000);
    let late = Answer::of(&tool.pushed.take()[0]);
    assert_eq!(late.code, codes::CONSUME_MSG_TIMEOUT);
    assert!(late.remark.starts_with("consumer <g> <c> Timeout"), "{}", late.remark);
    assert!(world.read(11_000, &tool, vec![frame(&running_info("c"), &[])]).is_empty());
    world.broker.closed(11_001, &client.connection);
    assert_eq!(Answer::of(&tool.pushed.take()[0]).code, codes::SYSTEM_ERROR);
}

#[test]
fn a_message_is_consumed_by_the_client_that_is_named() {
    let world = world("");
    let (client, tool) = (peer(5), peer(6));
    world.join(1, &client, "c");
    let sent = world.send(2, "T", "", "hello");
    let id = sent.field("msgId");
    let directly = |msg_id| ConsumeMessageDirectly { consumer_group: "g", client_id: Some("c"), msg_id, topic: Some("T") };
    assert!(world.read(3, &tool, vec![frame(&directly(Some(id)), &[])]).is_empty());
    let asked = World::asked(&client);
    let (code, _, fields, body) = &asked[0];
    assert_eq!((*code, record::decode(body).unwrap().body), (309, &b"hello"[..]));
    for field in [("brokerName", "broker-a"), ("topicSysFlag", "0"), ("groupSysFlag", "0"), ("msgId", id)] {
        assert!(fields.contains(&(field.0.into(), field.1.into())), "{field:?} {fields:?}");
    }
    for wrong in [None, Some("x"), Some("7F00000100002A9F00000000000F0000")] {
        assert_eq!(world.ask(3, &tool, &directly(wrong), &[]).code, codes::SYSTEM_ERROR);
    }
}

#[test]
fn clients_say_together_how_far_they_are() {
    let world = world("");
    let (one, two, tool) = (peer(5), peer(6), peer(7));
    let status = |client_addr| GetConsumerStatus { topic: "T", group: "g", client_addr };
    assert_eq!(world.ask(1, &tool, &status(None), &[]).code, codes::SYSTEM_ERROR);
    world.join(1, &one, "one");
    world.join(1, &two, "two");
    one.pushed.take();
    let queue = |queue_id| MessageQueue { topic: "T".into(), broker_name: "broker-a".into(), queue_id };
    let table = |queue_id, offset| BTreeMap::from([(queue(queue_id), offset)]);
    let own = |queue_id, offset| {
        fastjson::to_vec(&ConsumerStatus { message_queue_table: table(queue_id, offset), ..ConsumerStatus::default() })
    };
    assert!(world.read(2, &tool, vec![frame(&status(None), &[])]).is_empty());
    let (asked_one, asked_two) = (World::asked(&one), World::asked(&two));
    assert_eq!((asked_one[0].0, asked_two[0].0), (221, 221));
    world.answer(3, &two, asked_two[0].1, 0, None, &own(1, 7));
    assert!(tool.pushed.take().is_empty());
    world.answer(3, &one, asked_one[0].1, 0, None, &own(0, 5));
    let all: ConsumerStatus = fastjson::from_slice(&Answer::of(&tool.pushed.take()[0]).body).unwrap();
    let expected = BTreeMap::from([("one".to_owned(), table(0, 5)), ("two".to_owned(), table(1, 7))]);
    assert_eq!(all.consumer_table, Some(expected));
    assert!(world.read(10, &tool, vec![frame(&status(Some("two")), &[])]).is_empty());
    assert!(World::asked(&one).is_empty() && World::asked(&two).len() == 1);
    world.broker.tick(5010);
    let none: ConsumerStatus = fastjson::from_slice(&Answer::of(&tool.pushed.take()[0]).body).unwrap();
    assert_eq!(none.consumer_table, Some(BTreeMap::new()));
}

fn reset(timestamp: i64, queue: Option<(i32, i64)>) -> ResetOffset<'static> {
    let (queue_id, offset) = (queue.map(|q| q.0), queue.map(|q| q.1));
    ResetOffset { topic: "T", group: "g", queue_id, offset, timestamp, is_force: true }
}

fn table(body: &[u8]) -> Vec<(i32, i64)> {
    let moved: ResetOffsets = fastjson::from_slice(body).unwrap();
    moved.offset_table.into_iter().map(|(queue, offset)| (queue.queue_id, offset)).collect()
}

#[test]
fn the_broker_moves_a_group_and_its_next_pull_hears_of_it() {
    let world = world("");
    (1..=5).for_each(|n| world.send_to(n * 100, 0, "x"));
    world.commit("g", 0, 5);
    let waiting = peer(5);
    assert!(world.pull(600, &waiting, "T", 5, 15_000).is_none());
    let moved = world.ask(700, &peer(6), &reset(250, None), &[]);
    assert_eq!((moved.code, table(&moved.body)), (0, vec![(0, 2), (1, 0), (2, 0), (3, 0)]));
    let told = Answer::of(&waiting.pushed.take()[0]);
    assert_eq!((told.code, told.remark.as_str(), told.field("nextBeginOffset")), (codes::PULL_OFFSET_MOVED, "OFFSET_RESET", "2"));
    assert_eq!(world.pull(701, &waiting, "T", 2, 0).unwrap().bodies().len(), 3);
    assert!(!world.broker.offsets.is_reset("T", "g", 0), "it is there");
    let to_the_end = world.ask(800, &peer(6), &reset(-1, None), &[]);
    assert_eq!(table(&to_the_end.body)[0], (0, 5));
    let (forgotten, live) = (peer(7), peer(8));
    assert!(world.pull(790, &forgotten, "T", 5, 15_000).is_none() && world.pull(790, &live, "T", 5, 15_000).is_none());
    world.ask(795, &peer(6), &reset(-1, Some((0, 4))), &[]);
    assert_eq!([&forgotten, &live].map(|peer| peer.pushed.take().len()), [1, 1], "who waits twice hears of it twice");
    world.ask(800, &peer(6), &reset(-1, None), &[]);
    let early = world.commit("g", 0, 3);
    assert_eq!((early.code, early.remark.as_str()), (0, "Offset has been previously reset"));
    assert_eq!(world.committed("g")[0], 5);
    assert_eq!(world.pull(801, &waiting, "T", 3, 0).unwrap().field("nextBeginOffset"), "5");
    world.commit("g", 0, 4);
    assert_eq!(world.committed("g")[0], 4);
    let one = world.ask(900, &peer(6), &reset(0, Some((0, 1))), &[]);
    assert_eq!(table(&one.body), [(0, 1)]);
    for (wrong, code) in [
        (reset(0, Some((0, 7))), codes::SYSTEM_ERROR),
        (reset(0, Some((9, 0))), codes::SYSTEM_ERROR),
        (ResetOffset { topic: "none", ..reset(0, None) }, codes::TOPIC_NOT_EXIST),
        (ResetOffset { group: "none", ..reset(0, None) }, codes::SUBSCRIPTION_GROUP_NOT_EXIST),
    ] {
        assert_eq!(world.ask(900, &peer(6), &wrong, &[]).code, code, "{wrong:?}");
    }
}

#[test]
fn consumers_are_told_to_move_where_the_broker_does_not() {
    let world = world("useServerSideResetOffset=false\n");
    (1..=5).for_each(|n| world.send_to(n * 100, 0, "x"));
    let never = world.ask(600, &peer(6), &reset(250, None), &[]);
    assert_eq!((never.code, never.remark.as_str()), (codes::SYSTEM_ERROR, "THe consumer group <g> not exist"));
    (0..4).for_each(|queue| drop(world.commit("g", queue, 1)));
    assert_eq!(world.ask(600, &peer(6), &reset(250, None), &[]).code, codes::CONSUMER_NOT_ONLINE);
    let client = peer(5);
    world.join(600, &client, "c");
    let moved = world.ask(700, &peer(6), &reset(250, None), &[]);
    assert_eq!(table(&moved.body)[0], (0, 2));
    let asked = World::asked(&client);
    assert_eq!((asked[0].0, table(&asked[0].3)), (220, table(&moved.body)));
    assert_eq!(world.committed("g")[0], 1, "the consumer commits");
    let back_only = world.ask(700, &peer(6), &ResetOffset { is_force: false, ..reset(250, None) }, &[]);
    assert_eq!(table(&back_only.body)[0], (0, 1));
    client.pushed.take();
    let mut from_cpp = frame(&reset(250, None), &[]);
    let mut header = from_cpp.header.to_vec();
    header[2] = 1;
    from_cpp.header = header.into();
    assert_eq!(Header::decode(&from_cpp).unwrap().language, Language::CPP);
    world.read(700, &peer(6), vec![from_cpp]);
    let list: ResetOffsetsForCpp = fastjson::from_slice(&World::asked(&client)[0].3).unwrap();
    assert_eq!((list.offset_table[0].queue_id, list.offset_table[0].offset, list.offset_table.len()), (0, 2, 4));
}

#[test]
fn a_group_gets_the_offsets_of_another() {
    let world = world("");
    world.send_to(1, 0, "x");
    world.send_to(1, 1, "x");
    world.commit("from", 0, 1);
    world.commit("from", 1, 1);
    let clone = |topic, offline| CloneGroupOffset { src_group: "from", dest_group: "to", topic, offline: Some(offline) };
    assert_eq!(world.ask(2, &peer(1), &clone(None, true), &[]).code, 0);
    assert_eq!(world.committed("to"), [1, 1]);
    world.commit("h", 0, 0);
    let query = QueryCorrectionOffset { topic: "T", filter_groups: None, compare_group: "h" };
    let smallest = |query: &QueryCorrectionOffset<'_>| -> BTreeMap<i32, i64> {
        fastjson::from_slice::<CorrectionOffsets>(&world.ask(2, &peer(1), query, &[]).body).unwrap().correction_offsets
    };
    assert_eq!(smallest(&query), BTreeMap::from([(0, 0), (1, 1)]));
    let without = QueryCorrectionOffset { filter_groups: Some("h"), ..query };
    assert_eq!(smallest(&without), BTreeMap::from([(0, i64::MAX), (1, 1)]));
    assert_eq!(world.committed("h"), [0], "asking changes nothing");
}

#[test]
fn queues_and_figures_can_be_looked_into() {
    let world = world("");
    world.broker.tick(1000);
    world.send(1000, "T", &tagged("red"), "one");
    world.send(3000, "T", &tagged("red"), "two");
    world.commit("g", 0, 1);
    let entries = |index, consumer_group| {
        let request = QueryConsumeQueue { topic: "T", queue_id: 0, index, count: 10, consumer_group };
        world.ask(4000, &peer(1), &request, &[])
    };
    let body: QueueEntries = fastjson::from_slice(&entries(1, Some("h")).body).unwrap();
    assert_eq!((body.min_queue_index, body.max_queue_index, body.filter_data.as_deref()), (0, 2, Some("h@T is not online!")));
    let all = body.queue_data.unwrap();
    assert_eq!((all.len(), all[0].tags_code), (1, i64::from(stdx::java::hash_code("red"))));
    let beyond = entries(2, None);
    assert_eq!((beyond.code, beyond.remark.as_str(), beyond.body.len()), (0, "Index 2 of 0@T is not exist!", 0));
    let spans = world.ask(4000, &peer(1), &QueryConsumeTimeSpan { topic: "T", group: "g" }, &[]);
    let spans: ConsumeTimeSpans = fastjson::from_slice(&spans.body).unwrap();
    let first = &spans.consume_time_span_set[0];
    let times = [first.min_time_stamp, first.max_time_stamp, first.consume_time_stamp, first.delay_time];
    assert_eq!((times, spans.consume_time_span_set.len()), ([1000, 3000, 1000, 1000], 4));
    let stats = world.ask(5000, &peer(1), &ViewBrokerStatsData { stats_name: "TOPIC_PUT_NUMS", stats_key: "T" }, &[]);
    let stats: StatsData = fastjson::from_slice(&stats.body).unwrap();
    assert_eq!((stats.stats_minute.sum, stats.stats_day.sum, stats.stats_minute.tps), (2, 2, 0.5));
    let list = world.ask(5000, &peer(1), &GetBrokerConsumeStats { is_order: false }, &[]);
    let list: ConsumeStatsList = fastjson::from_slice(&list.body).unwrap();
    assert_eq!((list.total_diff, list.consume_stats_list.iter().filter(|groups| groups.contains_key("g")).count()), (1, 1));
    assert_eq!(world.ask(5000, &peer(1), &GetBrokerConsumeStats { is_order: true }, &[]).code, 0);
}

#[test]
fn a_group_may_be_forbidden_to_read_a_topic_and_stays_so() {
    let world = world("");
    world.send(1, "T", "", "x");
    let member = peer(5);
    world.join(1, &member, "c");
    let forbidden = |world: &World, readable| -> bool {
        let request = UpdateAndGetGroupForbidden { group: "g", topic: "T", readable };
        let answer = world.ask(1, &peer(1), &request, &[]);
        !fastjson::from_slice::<GroupForbidden>(&answer.body).unwrap().readable
    };
    assert!(!forbidden(&world, None) && forbidden(&world, Some(false)));
    let pull = || PullMessage { sys_flag: 0, subscription: None, ..pull_request("T", 0, 0, "") };
    assert_eq!(world.ask(2, &member, &pull(), &[]).code, codes::NO_PERMISSION);
    let world = world.kill_and_open();
    assert!(forbidden(&world, None));
    world.join(1, &member, "c");
    assert!(!forbidden(&world, Some(true)));
    assert_eq!(world.ask(2, &member, &pull(), &[]).code, 0);
}

#[test]
fn lists_of_topics_and_groups_are_made_whole_or_not_at_all() {
    let world = world("");
    let topics = |names: &[&str]| {
        let topic_config_list = names.iter().map(|name| TopicConfig::new(name, 2, 6)).collect();
        fastjson::to_vec(&TopicConfigList { topic_config_list })
    };
    assert_eq!(world.ask(1, &peer(1), &CreateTopicList {}, &topics(&["A", "no good"])).code, codes::INVALID_PARAMETER);
    assert!(world.broker.topics.get("A").is_none());
    assert_eq!(world.ask(1, &peer(1), &CreateTopicList {}, &topics(&["A", "B"])).code, 0);
    assert_eq!(world.broker.topics.get("B").map(|topic| topic.read_queue_nums), Some(2));
    let group = |name: &str| SubscriptionGroupConfig { group_name: name.into(), ..SubscriptionGroupConfig::default() };
    let body = fastjson::to_vec(&GroupConfigList { group_config_list: vec![group("one"), group("two")] });
    assert_eq!(world.ask(1, &peer(1), &UpdateSubscriptionGroupList {}, &body).code, 0);
    assert!(world.broker.groups.get("one").is_some() && world.broker.groups.get("two").is_some());
}

#[test]
fn queues_of_topics_that_are_gone_are_cleaned() {
    let world = world("");
    world.send(1, "T", "", "x");
    world.send(1, "Kept", "", "x");
    world.broker.topics.remove("T", 1).unwrap();
    assert_eq!(world.ask(2, &peer(1), &CleanUnusedTopic {}, &[]).code, 0);
    assert!(world.broker.store.find_queue("T", 0).is_none() && world.broker.store.find_queue("Kept", 0).is_some());
    assert_eq!(world.ask(2, &peer(1), &CleanExpiredConsumeQueue {}, &[]).code, 0);
}

#[test]
fn heartbeats_with_a_fingerprint_may_leave_subscriptions_out() {
    let world = world("");
    let (one, two) = (peer(5), peer(6));
    let beat_of = |peer: &Peer, id: &str, fingerprint, topics: &[&str]| {
        let answer = world.ask(1, peer, &Heartbeat {}, &beat(id, fingerprint, topics));
        (answer.field("IS_SUPPORT_HEART_BEAT_V2").to_owned(), answer.field("IS_SUB_CHANGE").to_owned())
    };
    let said = |changed: &str| ("true".to_owned(), changed.to_owned());
    assert_eq!(beat_of(&one, "one", 0, &["T"]), said("true"));
    assert_eq!(beat_of(&one, "one", 7, &["T"]), said("true"));
    assert_eq!(beat_of(&one, "one", 7, &["T"]), said("false"));
    assert_eq!(beat_of(&one, "one", 7, &[]), said("false"));
    assert_eq!(world.broker.clients.topics_of("g"), ["T"]);
    one.pushed.take();
    assert_eq!(beat_of(&two, "two", 8, &["T", "U"]), said("true"));
    assert_eq!(World::asked(&one).len(), 1, "the group has another member");
    assert_eq!(beat_of(&one, "one", 7, &[]), said("true"));
    assert_eq!(world.broker.clients.topics_of("g"), ["T", "U"]);
    assert_eq!(beat_of(&two, "two", 9, &["T"]), said("true"));
    assert_eq!(world.broker.clients.topics_of("g"), ["T"], "it has unsubscribed");
    assert_eq!(World::asked(&one).len(), 1, "and the others hear of it");
    for peer in [&one, &two] {
        world.broker.closed(2, &peer.connection);
    }
    assert_eq!(beat_of(&peer(7), "one", 7, &[]), said("true"), "nothing is known of its subscriptions");
}

#[test]
fn two_live_processes_with_one_client_id_are_noticed() {
    let world = world("");
    let (first, second) = (peer(5), peer(6));
    world.join(1000, &first, "same");
    world.join(2000, &second, "same");
    assert_eq!(world.broker.clients.twins(), [], "the first may have dialled anew");
    world.join(31_000, &first, "same");
    let twins = world.broker.clients.twins();
    assert_eq!((twins.len(), twins[0].client_id.as_str(), twins[0].remotes.len()), (1, "same", 2));
    let info = world.ask(31_000, &peer(7), &GetBrokerRuntimeInfo {}, &[]);
    let table = fastjson::from_slice::<protocol::bodies::KvTable>(&info.body).unwrap().table;
    assert_eq!(table["duplicateClientIds"], "same (127.0.0.1:2000, 127.0.0.1:2000)");
    world.broker.closed(32_000, &first.connection);
    assert_eq!(world.broker.clients.twins(), []);
}
