//! Masters and slaves without a network.

use protocol::requests::{GetBrokerEpochCache, GetBrokerHaStatus, PromoteSlave, PromoteSlaveReply, UpdateConsumerOffset};

use super::*;

/// What a send is answered at once, if it is.
fn try_send(world: &World, now: i64, producer: &Peer, properties: &str) -> Option<i32> {
    world.read(now, producer, vec![frame(&send("T", properties), b"x")]).first().map(|answer| answer.code)
}

fn pushed(peer: &Peer) -> Vec<i32> {
    peer.pushed.take().iter().map(|frame| Answer::of(frame).code).collect()
}

#[test]
fn a_sync_master_waits_for_one_slave_that_is_near() {
    let world = world("brokerRole=SYNC_MASTER\nslaveTimeout=1000\nhaMaxGapNotInSync=1000\n");
    let (broker, producer) = (&world.broker, peer(3));
    assert_eq!(try_send(&world, 0, &producer, ""), Some(codes::SLAVE_NOT_AVAILABLE));
    broker.slave_joined(1, "10.0.0.2:3".into());
    assert_eq!(try_send(&world, 0, &producer, ""), Some(codes::SLAVE_NOT_AVAILABLE), "it has not said what it has");
    broker.slave_acked(1, broker.store.visible(), 0);
    assert_eq!(try_send(&world, 0, &producer, ""), None);
    broker.slave_acked(1, broker.store.visible() - 1, 10);
    assert!(pushed(&producer).is_empty(), "a byte is missing");
    broker.slave_acked(1, broker.store.visible(), 10);
    assert_eq!(pushed(&producer), [codes::SUCCESS]);
    assert_eq!(try_send(&world, 20, &producer, "WAIT\u{1}false\u{2}"), Some(codes::SUCCESS));
    assert_eq!(try_send(&world, 20, &producer, ""), None);
    broker.tick(1019);
    assert!(pushed(&producer).is_empty());
    broker.tick(1020);
    assert_eq!(pushed(&producer), [codes::FLUSH_SLAVE_TIMEOUT]);
    while try_send(&world, 1100, &producer, "") != Some(codes::SLAVE_NOT_AVAILABLE) {
        assert!(broker.store.visible() < 3000, "a slave that is far behind is waited for");
    }
    broker.slave_left(1, "test");
    assert_eq!(try_send(&world, 1200, &producer, ""), Some(codes::SLAVE_NOT_AVAILABLE));
}

#[test]
fn in_sync_replicas_counts_copies_where_it_is_set() {
    let world = world("brokerRole=SYNC_MASTER\ninSyncReplicas=3\nflushDiskType=SYNC_FLUSH\n");
    let (broker, producer) = (&world.broker, peer(3));
    assert_eq!(try_send(&world, 0, &producer, ""), None);
    let (end, _) = broker.store.written_and_persisted();
    for id in 1..=2 {
        assert!(pushed(&producer).is_empty());
        broker.slave_joined(id, format!("10.0.0.{id}:3"));
        broker.slave_acked(id, end, 0);
    }
    assert!(pushed(&producer).is_empty(), "the disk has to have it, too");
    broker.sync(1).unwrap();
    assert_eq!(pushed(&producer), [codes::SUCCESS]);
    let alone = super::world("brokerRole=SYNC_MASTER\ninSyncReplicas=1\n");
    assert_eq!(try_send(&alone, 0, &producer, ""), Some(codes::SUCCESS), "as 5.x does");
}

const SLAVE: &str = "brokerRole=SLAVE\nbrokerId=1\n";

/// Brings a slave what its master has.
fn copy(master: &World, slave: &World, now: i64) {
    let (mut offset, _) = slave.broker.store.written_and_persisted();
    while let Some(slice) = master.broker.store.log_bytes(offset, 100) {
        slave.broker.copy(offset, slice.bytes(), now).unwrap();
        offset += slice.bytes().len() as u64;
    }
    let table = |(data_version, topic_config_table)| protocol::bodies::TopicTable { data_version, topic_config_table };
    slave.broker.take_topics(table(master.broker.topics.all())).unwrap();
    slave.broker.take_delay_offsets(&master.broker.schedule.file()).unwrap();
}

#[test]
fn a_slave_gives_messages_and_takes_none() {
    let (master, slave) = (world(""), world(SLAVE));
    let waiting = peer(4);
    for body in ["a", "b"] {
        master.send(1, "T", "", body);
    }
    copy(&master, &slave, 2);
    assert_eq!(slave.pull(2, &peer(1), "T", 0, 0).unwrap().bodies(), ["a", "b"]);
    let held = pull_request("T", 7, 1000, "*");
    assert!(slave.read(3, &waiting, vec![frame(&held, &[])]).is_empty(), "its master has the offset");
    slave.broker.tick(2000);
    let answer = Answer::of(&waiting.pushed.take()[0]);
    assert_eq!((answer.code, answer.field("nextBeginOffset")), (codes::PULL_NOT_FOUND, "7"));
    let refused = slave.send(3, "T", "", "c");
    assert_eq!(refused.code, codes::SERVICE_NOT_AVAILABLE);
    assert!(refused.remark.contains("nobody takes over") && refused.remark.contains("promoteSlave -b 127.0.0.1:10911"));
    slave.broker.master_found(Master { address: Some("10.0.0.1:10911".into()), ha_address: None });
    let remark = slave.send(3, "T", "", "c").remark;
    assert!(
        remark.contains("its master is 10.0.0.1:10911, which does not send") && remark.contains("nobody takes over"),
        "{remark}"
    );
    slave.broker.master_heard(1, 4);
    assert!(slave.send(4, "T", "", "c").remark.ends_with("its master is 10.0.0.1:10911"));
    assert_eq!(slave.broker.store.visible(), master.broker.store.visible());
}

#[test]
fn offsets_committed_at_a_slave_are_for_its_master() {
    let (master, slave) = (world(""), world(SLAVE));
    master.send(1, "T", "", "a");
    copy(&master, &slave, 2);
    let commit = UpdateConsumerOffset { consumer_group: "g", topic: "T", queue_id: 0, commit_offset: 1 };
    assert_eq!(slave.ask(3, &peer(1), &commit, &[]).code, codes::SUCCESS);
    let back = slave.broker.take_offsets(master.broker.offsets.all());
    assert_eq!(back.iter().map(|c| (c.topic.as_str(), c.group.as_str(), c.offset)).collect::<Vec<_>>(), [("T", "g", 1)]);
    assert_eq!(master.ask(4, &peer(1), &commit, &[]).code, codes::SUCCESS);
    assert_eq!(slave.broker.take_offsets(master.broker.offsets.all()), []);
}

fn promote(world: &World, force: bool) -> Result<(i64, i64), String> {
    let mut frames = vec![frame(&PromoteSlave { broker_role: None, force: Some(force) }, &[])];
    let mut out = BytesMut::new();
    world.broker.frames(5, &peer(1).connection, &mut frames, &mut out).unwrap();
    let answer = protocol::frame::take(&mut out, usize::MAX).unwrap().unwrap();
    let header = Header::decode(&answer).unwrap();
    if header.code != codes::SUCCESS {
        return Err(header.remark.unwrap_or_default().into_owned());
    }
    let reply: PromoteSlaveReply = header.read().unwrap();
    Ok((reply.epoch, reply.start_offset))
}

#[test]
fn a_promoted_slave_goes_on_where_its_master_ended() {
    let (master, slave) = (world(""), world(SLAVE));
    master.send(1, "T", "", "a");
    master.send(1, "T", "DELAY\u{1}1\u{2}", "delayed");
    copy(&master, &slave, 2);
    let half: Vec<u8> = {
        let end = master.broker.store.visible();
        master.send(2, "T", "", "half");
        master.broker.store.log_bytes(end, 30).unwrap().bytes().to_vec()
    };
    let end = slave.broker.store.visible();
    slave.broker.copy(end, &half, 3).unwrap();
    slave.broker.tick(100_000);
    assert_eq!(slave.broker.store.visible(), end, "a slave delivers nothing");
    slave.broker.master_heard(1, 4);
    assert!(promote(&slave, false).unwrap_err().contains("still sends its log"));
    slave.broker.master_lost();
    assert_eq!(promote(&slave, false), Ok((1, end as i64)));
    assert!(promote(&slave, true).unwrap_err().contains("is no slave"));
    assert!(slave.broker.copy(end, b"x", 5).is_err(), "what the old master sends now is not taken");
    assert_eq!(slave.send(6, "T", "", "b").field("queueOffset"), "1");
    slave.broker.tick(200_000);
    assert_eq!(slave.pull(200_000, &peer(1), "T", 0, 0).unwrap().bodies(), ["a", "b", "delayed"]);
    let cache: protocol::bodies::EpochCache =
        fastjson::from_slice(&slave.ask(7, &peer(1), &GetBrokerEpochCache {}, &[]).body).unwrap();
    assert_eq!((cache.broker_id, cache.epoch_list.len(), cache.epoch_list[1].epoch), (0, 2, 1));
    let registration: protocol::bodies::RegisterBrokerBody = fastjson::from_slice(&slave.broker.registration()).unwrap();
    assert_eq!(registration.topic_config_serialize_wrapper.data_version.state_version, 1);
    assert_eq!(crate::epochs::read(slave.broker.store.root()).unwrap().unwrap().current(), 1);
}

#[test]
fn what_an_old_master_answers_late_changes_nothing_in_a_new_one() {
    let (master, slave) = (world(""), world(SLAVE));
    master.send(1, "T", "", "a");
    let late = |(data_version, topic_config_table)| protocol::bodies::TopicTable { data_version, topic_config_table };
    let (topics, offsets, delays) =
        (late(master.broker.topics.all()), master.broker.offsets.all(), master.broker.schedule.file());
    let groups = master.broker.groups.file();
    copy(&master, &slave, 2);
    promote(&slave, false).unwrap();
    slave.send(3, "New", "", "b");
    slave.send(3, "New", "DELAY\u{1}1\u{2}", "delayed");
    slave.broker.offsets.commit("New", "g", 0, 1);
    slave.broker.find_group("g", 3);
    slave.broker.tick(100_000);
    let broker = &slave.broker;
    broker.sync(100_000).unwrap();
    let tables = || {
        let tables = [fastjson::to_vec(&broker.topics.file()), fastjson::to_vec(&broker.groups.file())];
        (tables, broker.offsets.all(), broker.schedule.file())
    };
    let before = tables();
    broker.take_topics(topics).unwrap();
    broker.take_groups(groups).unwrap();
    assert_eq!(broker.take_offsets(offsets), []);
    broker.take_delay_offsets(&delays).unwrap();
    broker.take_epochs(replication::epoch::EpochHistory::default()).unwrap();
    assert!(tables() == before);
    assert_eq!(broker.epochs().unwrap().current(), 1);
}

#[test]
fn a_broker_says_how_far_its_slaves_are() {
    let world = world("");
    world.send(1, "T", "", "a");
    let end = world.broker.store.visible() as i64;
    for (id, acked) in [(1, Some(10)), (2, None)] {
        world.broker.slave_joined(id, format!("10.0.0.{id}:3"));
        if let Some(acked) = acked {
            world.broker.slave_acked(id, acked, 1);
        }
    }
    world.broker.slave_sent(1, 20, 300);
    let status: protocol::bodies::HaStatus =
        fastjson::from_slice(&world.ask(2, &peer(1), &GetBrokerHaStatus {}, &[]).body).unwrap();
    assert_eq!((status.master, status.master_commit_log_max_offset, status.in_sync_slave_nums), (true, end, 1));
    let first = &status.ha_connection_info[0];
    assert_eq!((first.slave_ack_offset, first.diff, first.transfer_from_where), (10, end - 10, 20));
    assert!(!status.ha_connection_info[1].in_sync);
}

/// A moment in 2023 that is no whole second.
const HALF_PAST: i64 = 1_700_000_000_500;

#[test]
fn a_slave_that_becomes_the_master_delivers_the_timers_that_the_master_had_not() {
    let (master, slave) = (world(""), world("brokerRole=SLAVE\nbrokerId=1\n"));
    let end = |world: &World| world.broker.store.visible();
    let later = |ms: i64, body: &str| {
        let text = format!("TIMER_DELIVER_MS\u{1}{ms}\u{2}");
        assert_eq!(master.send(HALF_PAST, "T", &text, body).code, codes::SUCCESS);
    };
    later(HALF_PAST + 1000, "first");
    later(HALF_PAST + 6000, "second");
    master.broker.tick(HALF_PAST + 3000);
    assert_eq!(master.all_bodies(HALF_PAST + 3000, "T"), ["first"]);
    let point = master.ask(HALF_PAST + 3000, &peer(1), &GetTimerCheckPoint {}, &[]).body;
    later(HALF_PAST + 5000, "third");
    copy(&master, &slave, HALF_PAST + 3000);
    assert!(slave.broker.take_timer_check_point(&point[1..]).is_err());
    slave.broker.take_timer_check_point(&point).unwrap();
    slave.broker.tick(HALF_PAST + 9000);
    assert_eq!(end(&slave), end(&master), "a slave delivers nothing");
    let slave = slave.kill_and_open();
    assert_eq!(promote(&slave, false), Ok((1, end(&master) as i64)));
    slave.broker.tick(HALF_PAST + 9000);
    assert_eq!(slave.all_bodies(HALF_PAST + 9000, "T"), ["first", "third", "second"]);
}

#[test]
fn offsets_beyond_what_was_copied_are_brought_back() {
    let (master, slave) = (world(""), world(SLAVE));
    master.send(1, "T", "", "copied");
    copy(&master, &slave, 2);
    master.send(2, "T", "", "lost");
    master.broker.offsets.commit("T", "g", 0, 2);
    slave.broker.take_offsets(master.broker.offsets.all());
    assert_eq!(slave.broker.offsets.committed("T", "g", 0), Some(2));
    promote(&slave, false).unwrap();
    assert_eq!(slave.broker.offsets.committed("T", "g", 0), Some(1), "the next message is a new one");
}

#[test]
fn sends_that_waited_for_a_slave_are_answered_together() {
    let world = world("brokerRole=SYNC_MASTER\n");
    let (broker, producer) = (&world.broker, peer(3));
    broker.slave_joined(1, "10.0.0.2:3".into());
    broker.slave_acked(1, 0, 0);
    for now in 0..2 {
        assert_eq!(try_send(&world, now, &producer, ""), None);
    }
    broker.slave_acked(1, broker.store.visible(), 2);
    assert_eq!(pushed(&producer), [codes::SUCCESS; 2]);
    assert_eq!(broker.waiting_sends(2).0, 0, "nobody is under way any more");
}
