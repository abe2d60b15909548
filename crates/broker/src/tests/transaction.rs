use protocol::names::{TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC, TRANSACTION_GROUP};
use protocol::sys_flag::message::{TRANSACTION_COMMIT, TRANSACTION_ROLLBACK};

use super::*;

const PREPARED: &str = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}p\u{2}TAGS\u{1}a\u{2}UNIQ_KEY\u{1}KEY\u{2}";
const UNKNOWN: i32 = 0;

/// Where a half message is, as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Half {
    queue_offset: i64,
    commit_log_offset: i64,
}

impl Half {
    fn end(self, outcome: i32, from_check: bool) -> EndTransaction<'static> {
        EndTransaction {
            topic: Some("T"),
            producer_group: Some("p"),
            tran_state_table_offset: self.queue_offset,
            commit_log_offset: self.commit_log_offset,
            commit_or_rollback: outcome,
            from_transaction_check: Some(from_check),
            msg_id: "KEY",
            transaction_id: None,
        }
    }
}

impl World {
    pub(super) fn prepare(&self, now: i64, extra: &str, body: &str) -> Half {
        let properties = format!("{PREPARED}{extra}");
        let request = SendMessageV2 { born_timestamp: now, flag: 9, ..send("T", &properties) };
        let answer = self.ask(now, &peer(1), &request, body.as_bytes());
        assert_eq!((answer.code, answer.field("queueId"), answer.field("transactionId")), (0, "0", "KEY"), "{}", answer.remark);
        let (_, commit_log_offset) = message_id::parse_offset_id(answer.field("msgId")).unwrap();
        Half { queue_offset: answer.field("queueOffset").parse().unwrap(), commit_log_offset }
    }

    pub(super) fn end(&self, now: i64, half: Half, outcome: i32) -> (i32, String) {
        let answer = self.ask(now, &peer(1), &half.end(outcome, false), &[]);
        (answer.code, answer.remark)
    }

    fn bodies(&self, now: i64, topic: &str) -> Vec<String> {
        self.pull(now, &peer(9), topic, 0, 0).unwrap().bodies()
    }

    pub(super) fn all_bodies(&self, now: i64, topic: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let got = self.pull(now, &peer(9), topic, seen.len() as i64, 0).unwrap().bodies();
            if got.is_empty() {
                return seen;
            }
            seen.extend(got);
        }
    }

    pub(super) fn producer(&self, now: i64, id: u64) -> Peer {
        let peer = peer(id);
        let producers = vec![ProducerData { group_name: "p".into() }];
        let data = HeartbeatData { client_id: format!("c{id}"), producer_data_set: producers, ..HeartbeatData::default() };
        assert_eq!(self.ask(now, &peer, &Heartbeat {}, &fastjson::to_vec(&data)).code, codes::SUCCESS);
        peer
    }

    /// Runs the round that is due, has its questions sent, and commits how far it came.
    fn round(&self, now: i64) {
        self.broker.tick(now);
        for _ in 0..2 {
            self.broker.tick(now);
            self.broker.sync(now).unwrap();
        }
        self.broker.tick(now);
    }
}

/// The questions that a producer was asked: where the half message is, and its body.
fn questions(producer: &Peer) -> Vec<(Half, String)> {
    let asked = producer.pushed.take();
    asked
        .iter()
        .map(|frame| {
            let header = Header::decode(frame).unwrap();
            assert_eq!(header.code, CheckTransactionState::CODE);
            let request: CheckTransactionState<'_> = header.read().unwrap();
            let message = record::decode_checked(&frame.body).unwrap();
            assert_eq!((message.topic, message.queue_id, message.flag), ("T", 0, 9));
            assert_eq!((request.msg_id, request.transaction_id), (Some("KEY"), Some("KEY")));
            assert_eq!((request.topic, request.broker_name), (Some(TRANS_HALF_TOPIC), Some("broker-a")));
            assert_eq!(
                (message.queue_offset, message.physical_offset),
                (request.tran_state_table_offset, request.commit_log_offset)
            );
            let half = Half { queue_offset: request.tran_state_table_offset, commit_log_offset: request.commit_log_offset };
            (half, String::from_utf8(message.body.to_vec()).unwrap())
        })
        .collect()
}

#[test]
fn a_half_message_that_was_damaged_is_not_committed() {
    let world = world("");
    let half = world.prepare(1000, "", "spoilt");
    world.flip_a_bit_of("spoilt");
    let (code, remark) = world.end(2000, half, TRANSACTION_COMMIT);
    assert_eq!((code, remark.as_str()), (codes::SYSTEM_ERROR, "Find prepared transaction message failed"));
    assert!(world.bodies(2000, "T").is_empty());
}

#[test]
fn a_half_message_is_seen_when_it_is_committed() {
    let world = world("");
    let half = world.prepare(1000, "", "paid");
    assert!(world.bodies(1000, "T").is_empty());
    assert_eq!(world.end(2000, half, TRANSACTION_COMMIT), (0, String::new()));
    let pulled = world.pull(2000, &peer(9), "T", 0, 0).unwrap();
    let message = record::decode_checked(&pulled.body).unwrap();
    assert_eq!((message.body, message.flag, message.born_timestamp, message.store_timestamp), (&b"paid"[..], 9, 1000, 2000));
    assert_eq!((message.sys_flag, message.prepared_transaction_offset), (TRANSACTION_COMMIT, half.commit_log_offset));
    assert_eq!(
        ["TAGS", "UNIQ_KEY", "__transactionId__"].map(|n| properties::get(message.properties, n)),
        [Some("a"), Some("KEY"), Some("KEY")]
    );
    let op = world.pull(2000, &peer(9), TRANS_OP_HALF_TOPIC, 0, 0).unwrap();
    let op = record::decode_checked(&op.body).unwrap();
    assert_eq!((op.body, properties::get(op.properties, "TAGS")), (&b"0"[..], Some("d")));
}

#[test]
fn a_half_message_that_is_rolled_back_is_never_seen_nor_asked_about() {
    let world = world("");
    let producer = world.producer(1000, 5);
    let half = world.prepare(1000, "", "paid");
    assert_eq!(world.end(2000, half, TRANSACTION_ROLLBACK).0, codes::SUCCESS);
    world.round(60_000);
    assert!(questions(&producer).is_empty());
    assert!(world.bodies(60_000, "T").is_empty());
    assert_eq!(world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0), Some(1));
}

#[test]
fn outcomes_that_do_not_fit_their_half_message_are_refused() {
    let world = world("");
    let half = world.prepare(1000, "", "paid");
    let plain = world.send(1000, "T", "", "plain");
    let (_, plain) = message_id::parse_offset_id(plain.field("msgId")).unwrap();
    let refused = |request: EndTransaction<'_>| {
        let answer = world.ask(2000, &peer(1), &request, &[]);
        (answer.code, answer.remark)
    };
    let commit = half.end(TRANSACTION_COMMIT, false);
    let missing = (codes::SYSTEM_ERROR, "Find prepared transaction message failed".to_owned());
    assert_eq!(refused(EndTransaction { commit_log_offset: 7, ..commit.clone() }), missing);
    assert_eq!(refused(EndTransaction { commit_log_offset: -1, ..commit.clone() }), missing);
    assert_eq!(refused(EndTransaction { commit_log_offset: plain, ..commit.clone() }), missing);
    assert_eq!(refused(EndTransaction { producer_group: Some("q"), ..commit.clone() }).1, "The producer group wrong");
    assert_eq!(refused(EndTransaction { producer_group: None, ..commit.clone() }).1, "The producer group wrong");
    let state = "The transaction state table offset wrong";
    assert_eq!(refused(EndTransaction { tran_state_table_offset: 1, ..commit.clone() }).1, state);
    assert_eq!(refused(half.end(5, false)).0, codes::SYSTEM_ERROR);
    assert_eq!(refused(half.end(UNKNOWN, false)).0, codes::SUCCESS);
    assert_eq!(world.bodies(2000, "T"), ["plain"]);
    assert_eq!(refused(commit.clone()).0, codes::SUCCESS);
    assert_eq!(refused(commit).1, "the transaction is committed or rolled back already");
    assert_eq!(world.bodies(2000, "T"), ["plain", "paid"]);
}

#[test]
fn half_messages_that_can_not_be_are_refused() {
    let world = world("");
    let refused = |properties: &str| world.send(1, "T", properties, "x");
    assert_eq!(refused(&format!("{PREPARED}DELAY\u{1}1\u{2}")).code, codes::MESSAGE_ILLEGAL);
    let mut body = Vec::new();
    batch::encode(&batch::BatchMessage { flag: 0, body: b"x", properties: PREPARED }, &mut body);
    assert_eq!(world.ask(1, &peer(1), &batch_request("T"), &body).code, codes::MESSAGE_ILLEGAL);
    world.broker.update_config(&files::parse(b"rejectTransactionMessage=true").unwrap()).unwrap();
    let answer = refused(PREPARED);
    let remark = "the broker[127.0.0.1] sending transaction message is forbidden";
    assert_eq!((answer.code, answer.remark.as_str()), (codes::NO_PERMISSION, remark));
    let again = SendMessageV2 { reconsume_times: Some(1), ..send("T", "TRAN_MSG\u{1}true\u{2}DELAY\u{1}1\u{2}") };
    assert_eq!(world.ask(1, &peer(1), &again, b"again").code, codes::SUCCESS);
    world.broker.tick(1001);
    assert_eq!(world.bodies(1001, "T"), ["again"]);
}

#[test]
fn the_producer_is_asked_about_what_it_left_open() {
    let world = world("");
    let producer = world.producer(1000, 5);
    let half = world.prepare(1000, "", "paid");
    world.end(1100, half, UNKNOWN);
    world.round(6000);
    assert!(questions(&producer).is_empty());
    world.round(30_000);
    let (moved, body) = questions(&producer).pop().unwrap();
    assert_eq!((moved.queue_offset, body.as_str()), (1, "paid"));
    world.round(59_999);
    assert!(questions(&producer).is_empty());
    world.round(60_000);
    let (moved, _) = questions(&producer).pop().unwrap();
    assert_eq!(world.ask(60_001, &producer, &moved.end(TRANSACTION_COMMIT, true), &[]).code, codes::SUCCESS);
    world.round(90_000);
    assert!(questions(&producer).is_empty());
    let pulled = world.pull(90_000, &peer(9), "T", 0, 0).unwrap();
    let message = record::decode(&pulled.body).unwrap();
    assert_eq!((message.body, properties::get(message.properties, properties::CHECK_TIMES)), (&b"paid"[..], Some("2")));
}

#[test]
fn an_outcome_that_comes_late_resolves_the_half_message_wherever_it_is() {
    let world = world("");
    let producer = world.producer(1000, 5);
    let half = world.prepare(1000, "", "slow");
    world.round(30_000);
    let (first, _) = questions(&producer).pop().unwrap();
    world.round(60_000);
    let (second, _) = questions(&producer).pop().unwrap();
    assert_eq!(world.end(60_001, half, TRANSACTION_COMMIT).0, codes::SUCCESS);
    for answer in [first, second, half] {
        assert_eq!(world.end(60_002, answer, TRANSACTION_COMMIT).1, "the transaction is committed or rolled back already");
    }
    world.round(90_000);
    assert!(questions(&producer).is_empty());
    assert_eq!(world.bodies(90_000, "T"), ["slow"]);
}

#[test]
fn whichever_producer_of_the_group_is_there_is_asked() {
    let world = world("");
    world.prepare(1000, "", "paid");
    world.round(30_000);
    let (first, second) = (world.producer(40_000, 5), world.producer(40_000, 6));
    for now in [60_000, 90_000] {
        world.round(now);
    }
    assert_eq!((questions(&first).len(), questions(&second).len()), (1, 1));
    world.broker.closed(91_000, &second.connection);
    world.round(120_000);
    assert_eq!(questions(&first).len(), 1);
}

#[test]
fn a_half_message_that_nobody_resolves_is_discarded_and_can_still_be_committed() {
    let world = world("transactionCheckMax=2\n");
    let producer = world.producer(1000, 5);
    let half = world.prepare(1000, "", "lost");
    for now in [30_000, 60_000, 90_000, 120_000] {
        world.round(now);
    }
    assert_eq!(questions(&producer).len(), 2);
    let discarded = world.pull(120_000, &peer(9), TRANS_CHECK_MAX_TIME_TOPIC, 0, 0).unwrap();
    assert_eq!(discarded.bodies(), ["lost"]);
    let message = record::decode(&discarded.body).unwrap();
    assert_eq!(["REAL_TOPIC", "TRANSACTION_CHECK_TIMES"].map(|n| properties::get(message.properties, n)), [Some("T"), Some("2")]);
    assert_eq!(world.end(130_000, half, TRANSACTION_COMMIT).0, codes::SUCCESS);
    assert_eq!(world.bodies(130_000, "T"), ["lost"]);
}

#[test]
fn a_discarded_half_message_can_be_rolled_back_for_what_it_is_worth() {
    let world = world("transactionCheckMax=0\n");
    let half = world.prepare(1000, "", "lost");
    world.round(30_000);
    assert_eq!(world.bodies(30_000, TRANS_CHECK_MAX_TIME_TOPIC), ["lost"]);
    assert_eq!(world.end(31_000, half, TRANSACTION_ROLLBACK).0, codes::SUCCESS);
    assert_eq!(world.end(31_000, half, TRANSACTION_COMMIT).1, "the transaction is committed or rolled back already");
}

#[test]
fn a_shorter_interval_counts_at_once() {
    let world = world("");
    let producer = world.producer(1000, 5);
    world.prepare(1000, "", "asked");
    world.broker.update_config(&files::parse(b"transactionCheckInterval=500").unwrap()).unwrap();
    world.round(7500);
    assert_eq!(questions(&producer).len(), 1);
}

/// A thousand transactions whose producers answer at once, late, twice, when asked, or never, with a broker that is
/// killed now and then: what was committed is there once, and nothing else.
#[test]
fn whatever_happens_a_transaction_ends_once_and_as_its_producer_said() {
    let settings = "transactionTimeOut=1000\ntransactionCheckInterval=2000\ntransactionCheckMax=1000\n";
    let mut world = world(settings);
    let mut random = 12_345u64;
    let mut roll = move |sides: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % sides
    };
    let outcome = |body: &str| if body.starts_with("yes") { TRANSACTION_COMMIT } else { TRANSACTION_ROLLBACK };
    let mut late: Vec<(Half, String)> = Vec::new();
    let mut expected = Vec::new();
    let mut producer = world.producer(0, 5);
    let mut now = 0;
    for n in 0..1000 {
        now += 10;
        let body = format!("{}-{n}", ["yes", "no"][roll(2) as usize]);
        let half = world.prepare(now, "", &body);
        match roll(4) {
            0 => assert_eq!(world.end(now, half, outcome(&body)).0, codes::SUCCESS),
            1 => assert_eq!(world.end(now, half, UNKNOWN).0, codes::SUCCESS),
            _ => late.push((half, body.clone())),
        }
        if body.starts_with("yes") {
            expected.push(body);
        }
        if roll(3) == 0 && !late.is_empty() {
            let (half, body) = late.swap_remove(roll(late.len() as u64) as usize);
            // It may have been asked about and answered before.
            world.end(now, half, outcome(&body));
        }
        world.round(now);
        for (half, body) in questions(&producer) {
            match roll(3) {
                0 => late.push((half, body)),
                1 => {}
                _ => drop(world.ask(now, &producer, &half.end(outcome(&body), true), &[])),
            }
        }
        if roll(100) == 0 {
            // What was on its way to the broker is lost with it.
            late.clear();
            world = world.kill_and_open();
            producer = world.producer(now, 5);
        }
    }
    for _ in 0..5 {
        now += 2000;
        world.round(now);
        world.round(now + 10);
        for (half, body) in questions(&producer) {
            assert_eq!(world.ask(now, &producer, &half.end(outcome(&body), true), &[]).code, codes::SUCCESS);
        }
    }
    world.round(now + 20);
    let halves = world.broker.store.find_queue(TRANS_HALF_TOPIC, 0).unwrap();
    assert_eq!(world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0), Some(halves.max_offset()));
    now += 2000;
    world.round(now);
    let ops = world.broker.store.find_queue(TRANS_OP_HALF_TOPIC, 0).unwrap();
    assert_eq!(world.broker.offsets.committed(TRANS_OP_HALF_TOPIC, TRANSACTION_GROUP, 0), Some(ops.max_offset()));
    let mut seen = world.all_bodies(now, "T");
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn an_open_half_message_keeps_no_other_waiting() {
    let world = world("");
    let producer = world.producer(1000, 5);
    world.prepare(1000, "", "stuck");
    for n in 0..100 {
        let half = world.prepare(2000 + n, "", "fine");
        world.end(2000 + n, half, TRANSACTION_COMMIT);
    }
    world.round(30_000);
    assert_eq!(questions(&producer).len(), 1);
    world.broker.tick(30_010);
    assert_eq!(world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0), Some(101));
    world.prepare(31_000, "", "next");
    world.round(60_000);
    let asked: Vec<_> = questions(&producer).into_iter().map(|(_, body)| body).collect();
    assert_eq!(asked, ["next", "stuck"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn immunity_puts_the_first_question_off_and_ends_the_right_to_answer_unasked() {
    let world = world("transactionTimeOut=1000\n");
    let producer = world.producer(1000, 5);
    let half = world.prepare(1000, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}45\u{2}", "immune");
    world.round(30_000);
    assert!(questions(&producer).is_empty());
    assert_eq!(world.end(46_001, half, TRANSACTION_COMMIT).0, codes::ILLEGAL_OPERATION);
    world.round(60_000);
    let (moved, _) = questions(&producer).pop().unwrap();
    assert_eq!(world.ask(60_001, &producer, &moved.end(TRANSACTION_COMMIT, true), &[]).code, codes::SUCCESS);
    assert_eq!(world.bodies(60_001, "T"), ["immune"]);
}

#[test]
fn a_half_message_that_is_immune_for_long_is_put_back_uncounted_and_keeps_its_producers_offset() {
    let mut world = world("transactionCheckMax=1\n");
    let half = world.prepare(1000, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}600\u{2}", "immune");
    for round in 1..5 {
        for _ in 0..12 {
            let other = world.prepare(round * 30_000, "", "other");
            world.end(round * 30_000, other, TRANSACTION_ROLLBACK);
        }
        world.round(round * 30_000);
        assert!(world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0).unwrap() >= round * 12);
        world = world.kill_and_open();
    }
    assert_eq!(world.end(150_000, half, TRANSACTION_COMMIT).0, codes::SUCCESS);
    assert_eq!(world.bodies(150_000, "T"), ["immune"]);
    let producer = world.producer(700_000, 5);
    world.round(700_000);
    assert!(questions(&producer).is_empty());
    assert!(world.broker.topics.get(TRANS_CHECK_MAX_TIME_TOPIC).is_none());
}

#[test]
fn what_was_put_back_is_resolved_for_good_even_if_no_offset_was_saved() {
    for asked in [false, true] {
        let world = world("flushConsumerOffsetInterval=1000000000\n");
        let half = world.prepare(1000, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}40\u{2}", "immune");
        for n in 0..12 {
            let other = world.prepare(1000 + n, "", "other");
            world.end(1000 + n, other, TRANSACTION_ROLLBACK);
        }
        world.round(30_000);
        let producer = world.producer(31_000, 5);
        let answer = if asked {
            world.round(60_000);
            let (moved, _) = questions(&producer).pop().unwrap();
            world.ask(60_000, &producer, &moved.end(TRANSACTION_COMMIT, true), &[])
        } else {
            world.ask(32_000, &producer, &half.end(TRANSACTION_COMMIT, false), &[])
        };
        assert_eq!(answer.code, codes::SUCCESS);
        let world = world.kill_and_open();
        assert_eq!(world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0), None);
        let producer = world.producer(90_000, 5);
        world.round(90_000);
        assert!(questions(&producer).is_empty());
        assert_eq!(world.bodies(90_000, "T"), ["immune"]);
    }
}

#[test]
fn a_kill_at_any_point_keeps_each_half_message_in_its_state() {
    let world = world("");
    let done = world.prepare(1000, "", "done");
    let open = world.prepare(1000, "", "open");
    let back = world.prepare(1000, "", "back");
    world.end(1001, done, TRANSACTION_COMMIT);
    world.end(1001, back, TRANSACTION_ROLLBACK);
    world.round(30_000);
    let world = world.kill_and_open();
    let producer = world.producer(31_000, 5);
    world.round(31_000);
    let asked = questions(&producer);
    assert_eq!(asked.iter().map(|(half, body)| (half.queue_offset, body.as_str())).collect::<Vec<_>>(), [(4, "open")]);
    let world = world.kill_and_open();
    assert_eq!(world.end(70_000, open, TRANSACTION_COMMIT).0, codes::SUCCESS);
    let world = world.kill_and_open();
    let producer = world.producer(71_000, 5);
    world.round(71_000);
    assert!(questions(&producer).is_empty());
    assert_eq!(world.bodies(71_000, "T"), ["done", "open"]);
}

/// Of a half message that came before the start it is not known whether it was discarded, unless it ends after it.
#[test]
fn a_half_message_that_outlived_a_restart_is_not_committed_twice() {
    let world = world("");
    let half = world.prepare(1000, "", "paid");
    let world = world.kill_and_open();
    let producer = world.producer(2000, 5);
    world.round(30_000);
    let asked = questions(&producer);
    assert_eq!(asked.len(), 1);
    let answer = world.ask(30_010, &producer, &asked[0].0.end(TRANSACTION_COMMIT, true), &[]);
    assert_eq!(answer.code, codes::SUCCESS);
    let late = (codes::SYSTEM_ERROR, "the transaction is committed or rolled back already".to_owned());
    assert_eq!(world.end(30_020, half, TRANSACTION_COMMIT), late);
    assert_eq!(world.end(30_030, asked[0].0, TRANSACTION_COMMIT), late);
    assert_eq!(world.bodies(30_040, "T"), ["paid"]);
}

/// Else a power cut takes the outcome away and leaves the note, and nobody is asked again.
#[test]
fn how_far_half_messages_are_resolved_is_noted_when_the_disk_has_their_outcomes() {
    let world = world("");
    let half = world.prepare(1000, "", "paid");
    world.broker.sync(1000).unwrap();
    world.end(2000, half, TRANSACTION_COMMIT);
    let noted = || world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0);
    world.broker.tick(2010);
    world.broker.tick(2020);
    assert_eq!(noted(), None);
    world.broker.sync(2030).unwrap();
    world.broker.tick(2040);
    assert_eq!(noted(), Some(1));
}

#[test]
fn with_sync_flush_producers_are_asked_when_the_disk_has_the_half_message() {
    let world = world("flushDiskType=SYNC_FLUSH\n");
    let producer = world.producer(1000, 5);
    let properties = PREPARED.to_owned();
    let request = SendMessageV2 { born_timestamp: 1000, flag: 9, ..send("T", &properties) };
    assert!(world.read(1000, &peer(1), vec![frame(&request, b"x")]).is_empty());
    world.broker.sync(1000).unwrap();
    world.broker.tick(30_000);
    world.broker.tick(30_000);
    assert!(questions(&producer).is_empty());
    world.broker.sync(30_001).unwrap();
    world.broker.tick(30_010);
    assert_eq!(questions(&producer).len(), 1);
}

#[test]
fn with_sync_flush_outcomes_and_what_is_sent_back_are_answered_when_the_disk_has_them() {
    let world = world("flushDiskType=SYNC_FLUSH\n");
    for (outcome, seen) in [(TRANSACTION_COMMIT, 1), (TRANSACTION_ROLLBACK, 0)] {
        let answer = world.when_stored(1000, &send("T", PREPARED), b"x");
        let (_, commit_log_offset) = message_id::parse_offset_id(answer.field("msgId")).unwrap();
        let half = Half { queue_offset: answer.field("queueOffset").parse().unwrap(), commit_log_offset };
        let before = world.bodies(1000, "T").len();
        let ended = world.when_stored(1001, &half.end(outcome, false), &[]);
        assert_eq!((ended.code, world.bodies(1001, "T").len() - before), (codes::SUCCESS, seen), "{}", ended.remark);
        assert_eq!(world.end(1002, half, outcome).0, codes::SYSTEM_ERROR, "its outcome is decided");
    }
    let pulled = world.pull(2000, &peer(9), "T", 0, 0).unwrap();
    let back = ConsumerSendMsgBack {
        offset: record::decode(&pulled.body).unwrap().physical_offset,
        group: "g",
        delay_level: 1,
        origin_msg_id: None,
        origin_topic: Some("T"),
        unit_mode: None,
        max_reconsume_times: None,
    };
    assert_eq!(world.when_stored(2000, &back, &[]).code, codes::SUCCESS);
}

#[test]
fn a_half_message_that_was_given_up_can_be_asked_about_again() {
    let world = world("transactionCheckMax=1\ntransactionTimeOut=0\ntransactionCheckInterval=1000\n");
    let producer = world.producer(1, 5);
    let first = world.prepare(1, "", "stuck");
    world.round(1000);
    assert_eq!(questions(&producer).len(), 1);
    world.round(2000);
    let discarded = world.pull(2000, &peer(9), TRANS_CHECK_MAX_TIME_TOPIC, 0, 0).unwrap();
    let offset = record::decode_checked(&discarded.body).unwrap().physical_offset;
    world.round(3000);
    assert_eq!(questions(&producer), []);
    let id = message_id::offset_id(world.broker.store_host(), offset);
    let resume = |msg_id| world.ask(3500, &peer(6), &ResumeCheckHalfMessage { topic: None, msg_id: Some(msg_id) }, &[]);
    let half_id = message_id::offset_id(world.broker.store_host(), first.commit_log_offset);
    assert_eq!([resume("x").code, resume(&half_id).code], [codes::SYSTEM_ERROR; 2]);
    assert_eq!(resume(&id).code, 0);
    assert!(resume(&id).remark.ends_with("was put back already"));
    world.round(4000);
    let asked = questions(&producer);
    assert_eq!((asked.len(), asked[0].1.as_str()), (1, "stuck"));
    assert_eq!(world.end(4001, asked[0].0, TRANSACTION_COMMIT), (0, String::new()));
    assert_eq!(world.bodies(4001, "T"), ["stuck"]);
    assert_eq!(world.end(4002, first, TRANSACTION_COMMIT).0, codes::SYSTEM_ERROR, "once is enough");
    world.round(5000);
    assert_eq!(questions(&producer), []);
}
