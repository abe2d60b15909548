//! Masters and slaves without a network.

use std::collections::BTreeSet;

use protocol::names::{TRANS_HALF_TOPIC, TRANSACTION_GROUP};
use protocol::requests::{
    DeleteTopicInBroker, GetBrokerEpochCache, GetBrokerHaStatus, PromoteSlave, PromoteSlaveReply, UpdateConsumerOffset,
};
use protocol::sys_flag::message::TRANSACTION_COMMIT;
use replication::epoch::EpochHistory;
use replication::ha::{LinkError, SlaveLink};
use store::CopyError;

use super::pop::texts;
use super::*;
use crate::epochs::{self, NoCopy, Other};
use crate::{Committed, Delivered, Listed};

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
    broker.slave_left(1, "test", 0);
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
    while let Some(slice) = master.broker.store.log_bytes(offset, 2000) {
        offset = slave.broker.copy(offset, slice.bytes(), now).unwrap();
    }
    let table = |(data_version, topic_config_table)| protocol::bodies::TopicTable { data_version, topic_config_table };
    slave.broker.take_topics(table(master.broker.topics.all())).unwrap();
    take_delivered(slave, delivered(master, offset));
}

/// What a slave is told of what its master has delivered.
fn delivered(master: &World, end: u64) -> Delivered {
    let offsets = fastjson::to_vec(&master.broker.offsets.all()).into();
    let listed = Listed { below: end, topics: master.broker.topics.names().into_iter().collect() };
    let delay_offsets = master.broker.schedule.file().into();
    Delivered { epochs: master.broker.epochs(), listed, end, offsets, delay_offsets, timers: None }
}

fn take_delivered(slave: &World, delivered: Delivered) -> Vec<Committed> {
    slave.broker.sync(2).unwrap();
    slave.broker.take_delivered(&mut Some(delivered)).unwrap()
}

#[test]
fn a_topic_that_was_deleted_at_the_master_is_gone_at_its_slave() {
    let (master, slave) = (world(""), world(SLAVE));
    let delete = || assert_eq!(master.ask(3, &peer(1), &DeleteTopicInBroker { topic: "T" }, &[]).code, codes::SUCCESS);
    let bodies = || slave.pull(5, &peer(1), "T", 0, 0).map(|pulled| pulled.bodies());
    master.send(1, "T", "", "a");
    copy(&master, &slave, 2);
    delete();
    let told = delivered(&master, slave.broker.store.visible());
    master.send(4, "T", "", "made anew");
    copy(&master, &slave, 5);
    take_delivered(&slave, told);
    assert_eq!(bodies().unwrap(), ["made anew"], "whose answer came late");
    delete();
    copy(&master, &slave, 6);
    assert!(slave.broker.store.find_queue("T", 0).is_none());
    let slave = slave.kill_and_open();
    promote(&slave, false).unwrap();
    assert!(slave.broker.topics.get("T").is_none(), "promoted, it would have it again");
    assert_eq!(slave.send(7, "T", "", "c").field("queueOffset"), "0");
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
    let back = take_delivered(&slave, delivered(&master, 0));
    assert_eq!(back.iter().map(|c| (c.topic.as_str(), c.group.as_str(), c.offset)).collect::<Vec<_>>(), [("T", "g", 1)]);
    assert_eq!(master.ask(4, &peer(1), &commit, &[]).code, codes::SUCCESS);
    assert_eq!(take_delivered(&slave, delivered(&master, 0)), []);
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
    let (topics, delays) = (late(master.broker.topics.all()), delivered(&master, 0));
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
    assert_eq!(take_delivered(&slave, delays), []);
    assert!(broker.follow(EpochHistory::default()).is_err());
    assert!(tables() == before);
    assert_eq!(broker.epochs().unwrap().current(), 1);
}

/// The epochs that a broker names when it is asked.
fn epochs_of(world: &World) -> EpochHistory {
    let answer = world.ask(1, &peer(1), &GetBrokerEpochCache {}, &[]);
    epochs::history(&fastjson::from_slice::<protocol::bodies::EpochCache>(&answer.body).unwrap().epoch_list).unwrap()
}

/// Has a broker that was closed follow another one, as its process does when it is opened again.
fn reopen_to_follow(world: World, address: &str, master: &World) -> World {
    let World { broker, directory, settings } = world;
    let mut config = BrokerConfig::clone(&broker.config());
    broker.close(9).unwrap();
    drop(broker);
    let other = Other { address: address.into(), epochs: epochs_of(master) };
    let mut kept = String::new();
    let keep = |lines: &[Entry]| {
        kept.extend(lines.iter().map(|line| format!("{}={}\n", line.key, line.value)));
        Ok(())
    };
    epochs::rejoin(store::disk::Disk::default(), &mut config, &other, keep).unwrap();
    let settings = settings + &kept;
    World { broker: open(directory.path(), &settings), directory, settings }
}

/// Kills a broker, and takes its log from an offset on away, as a power cut does.
fn lose(world: World, from: u64) -> World {
    let World { broker, directory, settings } = world;
    let path = Path::new(&broker.config().store_path_commit_log).join("00000000000000000000");
    drop(broker);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4096], from).unwrap();
    World { broker: open(directory.path(), &settings), directory, settings }
}

fn log_of(world: &World) -> Vec<u8> {
    world.broker.store.log_bytes(0, usize::MAX).unwrap().bytes().to_vec()
}

#[test]
fn a_master_that_lost_what_its_slave_has_goes_on_in_an_epoch_of_its_own() {
    let (master, slave) = (world(""), world(SLAVE));
    master.send(1, "T", "", "kept");
    let end = master.broker.store.visible();
    slave.broker.follow(epochs_of(&master)).unwrap();
    master.send(1, "T", "", "lost");
    copy(&master, &slave, 2);
    let master = lose(master, end);
    assert_eq!(master.broker.store.visible(), end);
    for body in ["other", "more"] {
        master.send(3, "T", "", body);
    }
    assert!(log_of(&master).len() > log_of(&slave).len(), "nothing shows by the lengths");
    let Err(NoCopy::Beyond { at }) = slave.broker.follow(epochs_of(&master)) else { panic!("followed") };
    assert_eq!(at, end);
    let slave = reopen_to_follow(slave, "10.0.0.1:10911", &master);
    slave.broker.follow(epochs_of(&master)).unwrap();
    copy(&master, &slave, 4);
    assert!(log_of(&slave) == log_of(&master));
    let aside = std::fs::read_dir(slave.directory.path().join("store/cut")).unwrap().map(|file| file.unwrap().path());
    assert!(aside.map(|path| std::fs::read(path).unwrap()).any(|bytes| bytes.windows(4).any(|part| part == b"lost")));
    let master = master.kill_and_open();
    assert_eq!(slave.pull(5, &peer(1), "T", 0, 0).unwrap().bodies(), ["kept", "other", "more"]);
    assert!(slave.broker.follow(epochs_of(&master)).is_ok(), "nothing was lost: nothing is cut");
}

#[test]
fn without_epochs_a_log_that_differs_is_noticed_at_either_end() {
    let (master, slave) = (world(""), world(SLAVE));
    for body in ["kept", "lost"] {
        master.send(1, "T", "", body);
    }
    let mut new = master.broker.serve(9, "10.0.0.3:7".into(), 2).unwrap();
    assert!(master.broker.reported(&mut new, &1u64.to_be_bytes(), 2).unwrap(), "a slave without a log may say 1");
    copy(&master, &slave, 2);
    let (end, from) = (slave.broker.store.visible(), slave.broker.store.copied_from());
    let same = master.broker.store.log_bytes(from, usize::MAX).unwrap();
    slave.broker.copy(from, same.bytes(), 2).unwrap();
    let master = lose(master, from);
    assert!(epochs_of(&master).epochs().len() == 1, "nobody who knows epochs has ever asked");
    for body in ["other", "more"] {
        master.send(3, "T", "", body);
    }
    let log = master.broker.store.log_bytes(from, usize::MAX).unwrap();
    let mut link = SlaveLink::new(from, 4);
    let frame = [&from.to_be_bytes()[..], &(log.bytes().len() as u32).to_be_bytes(), log.bytes()].concat();
    assert_eq!(slave.broker.log_report(&mut link, 4), Some(from.to_be_bytes()), "it asks for its last message once more");
    let Err(FollowError::Copy(CopyError::Differs { position })) = slave.broker.take_log(&mut link, &frame, 4) else {
        panic!("taken")
    };
    assert!((from..end).contains(&position));
    // A slave of Java asks for what is behind its end.
    let mut serving = master.broker.serve(1, "10.0.0.2:7".into(), 5).unwrap();
    let ahead = LinkError::SlaveAhead { slave: end, master: from };
    assert_eq!(master.broker.reported(&mut serving, &end.to_be_bytes(), 5), Err(ahead));
    assert!(slave.broker.serve(1, "10.0.0.2:7".into(), 5).is_err(), "a slave has no slaves");
}

#[test]
fn a_slave_that_is_refused_again_and_again_is_told_of_once_a_minute() {
    let broker = &world("").broker;
    let ahead = |slave| LinkError::SlaveAhead { slave, master: 10 }.to_string();
    let news = |whom: &str, slave, now| broker.is_news(whom, &ahead(slave), now);
    assert!(news("10.0.0.2", 100, 0));
    assert!((1..60).all(|second| !news("10.0.0.2", 100 + second as u64, second * 1000)), "its log goes on");
    assert!(news("10.0.0.3", 100, 1000), "another slave");
    assert!(broker.is_news("10.0.0.2", "another reason", 59_999));
    assert!(news("10.0.0.2", 200, 60_000));
    assert!(!news("10.0.0.2", 200, 119_999));
    let strangers = (0..2000).filter(|number| broker.is_news(&format!("host-{number}"), "none", 120_000)).count();
    assert!((990..=1000).contains(&strangers), "{strangers} strangers are kept in mind");
}

#[test]
fn of_two_that_are_promoted_at_once_one_follows_the_other() {
    let (master, one, other) = (world(""), world(SLAVE), world("brokerRole=SLAVE\nbrokerId=2\nlistenPort=10921\n"));
    master.send(1, "T", "", "a");
    for slave in [&one, &other] {
        slave.broker.follow(epochs_of(&master)).unwrap();
        copy(&master, slave, 2);
    }
    master.send(1, "T", "", "b");
    copy(&master, &one, 2);
    for (slave, body) in [(&one, "x"), (&other, "y")] {
        promote(slave, false).unwrap();
        slave.send(6, "T", "", body);
    }
    let known = |world: &World| Other { address: "x".into(), epochs: epochs_of(world) };
    assert!(!one.broker.meet(Some(&known(&other))), "it has more of the old master's log");
    assert_eq!(one.send(6, "T", "", "z").code, codes::SUCCESS);
    assert!(other.broker.meet(Some(&known(&one))));
    assert_ne!(other.send(6, "T", "", "z").code, codes::SUCCESS);
    let other = reopen_to_follow(other, "127.0.0.1:10911", &one);
    other.broker.follow(epochs_of(&one)).unwrap();
    copy(&one, &other, 7);
    assert!(log_of(&one) == log_of(&other));
    assert_eq!(other.pull(8, &peer(1), "T", 0, 0).unwrap().bodies(), ["a", "b", "x", "z"]);
}

#[test]
fn a_slave_whose_file_says_that_it_is_the_master_begins_an_epoch() {
    let (master, slave) = (world(""), world(SLAVE));
    slave.broker.follow(epochs_of(&master)).unwrap();
    master.send(1, "T", "", "a");
    copy(&master, &slave, 2);
    let World { broker, directory, .. } = slave;
    broker.close(3).unwrap();
    drop(broker);
    let slave = World { broker: open(directory.path(), ""), directory, settings: String::new() };
    assert_eq!(epochs_of(&slave).reign(), (1, master.broker.store.visible(), "127.0.0.1:10911"));
    assert_eq!(slave.kill_and_open().broker.epochs().unwrap().current(), 1, "once");
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
    let told = |page| Some(Delivered { timers: Some(page), ..delivered(&master, 0) });
    assert!(slave.broker.take_delivered(&mut told(point.slice(1..))).is_err());
    slave.broker.take_delivered(&mut told(point)).unwrap();
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
    let mut early = Some(delivered(&master, master.broker.store.visible()));
    assert_eq!(slave.broker.take_delivered(&mut early).unwrap(), []);
    assert_eq!(slave.broker.offsets.committed("T", "g", 0), None, "its disk does not have what was consumed");
    // A master of Java may have committed more between its answers.
    take_delivered(&slave, delivered(&master, 0));
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

#[test]
fn a_send_that_waits_for_the_disk_alone_stands_behind_none_that_waits_for_a_slave() {
    let world = world("brokerRole=SYNC_MASTER\nflushDiskType=SYNC_FLUSH\nslaveTimeout=60000\nsyncFlushTimeout=5000\n");
    let (broker, producer) = (&world.broker, peer(3));
    broker.slave_joined(1, "10.0.0.2:3".into());
    broker.slave_acked(1, 0, 0);
    assert_eq!(try_send(&world, 0, &producer, ""), None);
    broker.slave_left(1, "test", 0);
    assert_eq!(try_send(&world, 1, &producer, ""), None);
    broker.sync(2).unwrap();
    assert_eq!(pushed(&producer), [codes::SLAVE_NOT_AVAILABLE]);
    assert_eq!(try_send(&world, 10, &producer, ""), None);
    broker.tick(5009);
    assert!(pushed(&producer).is_empty());
    broker.tick(5010);
    assert_eq!(pushed(&producer), [codes::SLAVE_NOT_AVAILABLE], "Java says this rather than that the disk is late");
    assert_eq!(broker.waiting_sends(5010), (1, 5010));
}

/// Else a slave that is promoted asks nobody about a half message whose outcome it does not have.
#[test]
fn what_is_resolved_counts_at_a_slave_that_has_the_outcomes() {
    let (master, slave) = (world(""), world(SLAVE));
    let half = master.prepare(1000, "", "paid");
    copy(&master, &slave, 1000);
    master.end(2000, half, TRANSACTION_COMMIT);
    for now in [2010, 2020, 2030] {
        master.broker.tick(now);
        master.broker.sync(now).unwrap();
    }
    let resolved = |world: &World| world.broker.offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0);
    let mut late = Some(delivered(&master, master.broker.store.visible()));
    slave.broker.take_delivered(&mut late).unwrap();
    assert_eq!((resolved(&master), resolved(&slave), late.is_some()), (Some(1), None, true));
    copy(&master, &slave, 3000);
    assert_eq!(resolved(&slave), Some(1));
}

/// The outcome, and that one was popped, are in what is cut; and that group is known to the old master alone.
#[test]
fn what_was_popped_and_resolved_beyond_a_cut_is_open_again() {
    let (old, slave) = (world(""), world(SLAVE));
    slave.broker.follow(epochs_of(&old)).unwrap();
    old.send(1, "T", "", "a");
    assert_eq!(texts(&old.pop(10)), ["a"]);
    old.send(11, "T", "", "b");
    let half = old.prepare(12, "", "paid");
    copy(&old, &slave, 13);
    assert_eq!(texts(&old.pop(20)), ["b"]);
    assert_eq!(old.end(21, half, TRANSACTION_COMMIT).0, codes::SUCCESS);
    for now in [2010, 2020, 2030] {
        old.broker.tick(now);
        old.broker.sync(now).unwrap();
        old.broker.save_tables(now).unwrap();
    }
    let offsets = &old.broker.offsets;
    assert_eq!((offsets.committed("T", "g", 0), offsets.committed(TRANS_HALF_TOPIC, TRANSACTION_GROUP, 0)), (Some(2), Some(1)));
    promote(&slave, false).unwrap();
    let old = reopen_to_follow(old, "127.0.0.1:10911", &slave);
    promote(&old, true).unwrap();
    for world in [slave, old] {
        world.broker.tick(5000);
        let popped = world.pop(5001);
        assert_eq!(BTreeSet::from_iter(texts(&popped)), BTreeSet::from(["a", "b"]));
        assert_eq!(world.end(6000, half, TRANSACTION_COMMIT), (codes::SUCCESS, String::new()));
    }
}

#[test]
fn what_was_delivered_beyond_a_cut_is_delivered_again() {
    let (old, slave, third) = (world(""), world(SLAVE), world("brokerRole=SLAVE\nbrokerId=2\nlistenPort=10921\n"));
    for slave in [&slave, &third] {
        slave.broker.follow(epochs_of(&old)).unwrap();
    }
    let timer = format!("TIMER_DELIVER_MS\u{1}{}\u{2}", HALF_PAST + 2000);
    for (text, body) in [("DELAY\u{1}1\u{2}", "delayed"), (&timer, "timer")] {
        assert_eq!(old.send(HALF_PAST, "T", text, body).code, codes::SUCCESS);
    }
    for now in [HALF_PAST, HALF_PAST + 100] {
        old.broker.tick(now);
        old.broker.tend_store(HALF_PAST + 6000);
        copy(&old, &slave, now);
    }
    let end = slave.broker.store.visible();
    old.broker.tick(HALF_PAST + 9000);
    assert_eq!(old.all_bodies(HALF_PAST + 9000, "T"), ["delayed", "timer"]);
    old.broker.tend_store(HALF_PAST + 20_000);
    let told = delivered(&old, old.broker.store.visible());
    copy(&old, &third, HALF_PAST + 20_000);
    assert_eq!(promote(&slave, false), Ok((1, end as i64)));
    // Its log is as long as the old master's, and no copy of it.
    slave.send(HALF_PAST, "U", "", &"x".repeat(2000));
    assert!(third.broker.copies(told.epochs.as_ref()) && !slave.broker.copies(told.epochs.as_ref()));
    for behind in [old, third] {
        let behind = reopen_to_follow(behind, "127.0.0.1:10911", &slave);
        assert_eq!(behind.broker.store.visible(), end);
        let mut late = Some(Delivered { epochs: Some(EpochHistory::default()), ..delivered(&slave, 0) });
        behind.broker.take_delivered(&mut late).unwrap();
        assert!(late.is_none(), "what another log's master says is dropped");
        promote(&behind, true).unwrap();
        behind.broker.tick(HALF_PAST + 30_000);
        assert_eq!(behind.all_bodies(HALF_PAST + 30_000, "T"), ["delayed", "timer"]);
    }
}

#[test]
fn a_slave_that_has_less_than_its_masters_epochs_is_not_promoted_by_mistake() {
    let (master, slave) = (world(""), world(SLAVE));
    slave.broker.follow(epochs_of(&master)).unwrap();
    master.send(1, "T", "", "a");
    let master = master.kill_and_open();
    slave.broker.follow(epochs_of(&master)).unwrap();
    assert!(promote(&slave, false).unwrap_err().contains("another slave may have what is between; -f promotes"));
    copy(&master, &slave, 2);
    assert!(promote(&slave, false).is_ok());
}

#[test]
fn of_two_slaves_with_one_number_the_one_that_finds_the_other_takes_a_free_one() {
    let (master, slave) = (world(""), world(SLAVE));
    let taken = BTreeSet::from([0, 1, 2]);
    let number = |world: &World, taken| {
        world.broker.take_free_number(&taken).unwrap();
        world.broker.config().broker_id
    };
    assert_eq!(number(&slave, BTreeSet::from([0, 2])), 1);
    assert_eq!((number(&slave, taken.clone()), slave.broker.is_slave()), (3, true));
    assert_eq!(number(&master, taken), 0, "masters are told apart by their epochs");
}
