//! Masters and slaves: logs are the same bytes, whoever's they are, and a consumer reads on from the slave.

use protocol::Header;
use rustix::process::Signal;
use tests::{Client, Group, Link, Whose, java_client, now, send_request, sorted, wait_for, wait_for_route};

const CLIENT: &str = "4.9.4";

/// Sends `count` messages of a few KiB, so that the log has several files.
fn send(client: &mut Client, group: &Group, topic: &str, count: usize) -> Vec<String> {
    let prefix = format!("{}-", "x".repeat(3000));
    client.call(&["sendAsync", &group.name_server(), topic, &prefix, &count.to_string()]);
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// A master that waits for its slave longer than a busy machine holds one up, and not as long as clients wait for it.
fn master(role: &str) -> String {
    format!("brokerName=a\nbrokerRole={role}\nslaveTimeout=5000\nflushConsumerOffsetInterval=500\n")
}

const SLAVE: &str = "brokerName=a\nbrokerId=1\nbrokerRole=SLAVE\nflushConsumerOffsetInterval=500\n";

/// The sum of the offsets that a group has committed for Orders at a broker, as its file has them.
fn committed(group: &Group, broker: usize, consumers: &str) -> Option<i64> {
    let text = std::fs::read_to_string(group.store(broker).join("config/consumerOffset.json")).ok()?;
    let queues = &text[text.find(&format!("\"Orders@{consumers}\""))?..];
    let queues = &queues[queues.find('{')? + 1..queues.find('}')?];
    queues.split(',').map(|pair| pair.rsplit(':').next()?.trim().parse::<i64>().ok()).sum()
}

#[test]
fn a_consumer_reads_on_from_the_slave_and_the_master_gets_its_offsets_back() {
    let Some(mut client) = java_client(CLIENT) else { return };
    let mut group = Group::start();
    let master = group.add(Whose::Ferrocket, &master("ASYNC_MASTER")).unwrap();
    client.call(&["producer", &group.name_server(), "producers"]);
    let mut sent = send(&mut client, &group, "Orders", 600);
    let slave = group.add(Whose::Ferrocket, SLAVE).unwrap();
    let (begin, end) = group.wait_for_copy(master, slave);
    assert!(begin == 0 && end > 1024 * 1024, "a slave that is new copies all: {begin} to {end}");
    client.call(&["push", &group.name_server(), "readers", "Orders", "*", "0"]);
    assert_eq!(sorted(client.bodies(&["poll", "readers", "600"])), sorted(sent.clone()));
    wait_for("the offsets at the master", || {
        client.call(&["commit", "readers"]);
        (committed(&group, master, "readers") == Some(600)).then_some(())
    });
    client.call(&["stopPush", "readers"]);
    sent = send(&mut client, &group, "Orders", 50);
    let has = |group: &Group, broker, sum| (committed(group, broker, "readers") == Some(sum)).then_some(());
    wait_for("the offsets at the slave", || has(&group, slave, 600));
    group.wait_for_copy(master, slave);
    group.kill(master);
    client.call(&["push", &group.name_server(), "readers", "Orders", "*", "0"]);
    assert_eq!(sorted(client.bodies(&["poll", "readers", "50"])), sorted(sent));
    wait_for("new offsets at the slave", || {
        client.call(&["commit", "readers"]);
        has(&group, slave, 650)
    });
    client.call(&["stopPush", "readers"]);
    group.launch(master);
    wait_for("the offsets back at the master", || has(&group, master, 650));
    send(&mut client, &group, "Orders", 10);
    group.wait_for_copy(master, slave);
    group.stop(slave);
    send(&mut client, &group, "Orders", 400);
    group.launch(slave);
    group.wait_for_copy(master, slave);
}

#[test]
fn a_sync_master_says_what_the_slave_has() {
    let Some(mut client) = java_client(CLIENT) else { return };
    let mut group = Group::start();
    let master = group.add(Whose::Ferrocket, &master("SYNC_MASTER")).unwrap();
    let server = group.name_server();
    client.call(&["producer", &server, "producers"]);
    let mut status = |body: &str| client.call(&["send", &server, "Orders", "A", body])[0].clone();
    assert_eq!(status("alone"), "SLAVE_NOT_AVAILABLE");
    let slave = group.add(Whose::Ferrocket, &format!("{SLAVE}flushDiskType=SYNC_FLUSH\n")).unwrap();
    group.wait_for_copy(master, slave);
    wait_for("an answer of the slave", || (status("together") == "SEND_OK").then_some(()));
    for number in 0..20 {
        assert_eq!(status(&format!("together-{number}")), "SEND_OK");
    }
    group.signal(slave, Signal::STOP);
    assert_eq!(status("the slave sleeps"), "FLUSH_SLAVE_TIMEOUT");
    group.signal(slave, Signal::CONT);
    wait_for("the slave to wake", || (status("awake") == "SEND_OK").then_some(()));
    group.kill(slave);
    wait_for("the slave to be missed", || (status("gone") == "SLAVE_NOT_AVAILABLE").then_some(()));
    group.launch(slave);
    group.wait_for_copy(master, slave);
}

/// The bytes of the files below a broker's `cut/`.
fn put_aside(group: &Group, broker: usize) -> Vec<u8> {
    let Ok(files) = std::fs::read_dir(group.store(broker).join("cut")) else { return Vec::new() };
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_slave_is_promoted_and_the_old_master_follows_it() {
    let Some(mut client) = java_client(CLIENT) else { return };
    let mut group = Group::start();
    let old = group.add(Whose::Ferrocket, &master("ASYNC_MASTER")).unwrap();
    let new = group.add(Whose::Ferrocket, SLAVE).unwrap();
    let (server, address) = (group.name_server(), group.broker(new));
    client.call(&["producer", &server, "producers"]);
    let sent = send(&mut client, &group, "Orders", 200);
    group.wait_for_copy(old, new);
    let refused = group.admin(&["promoteSlave", "-b", &address]);
    assert!(refused.contains("still sends its log"), "{refused}");
    group.kill(new);
    client.call(&["send", &server, "Orders", "A", "only the old master has this"]);
    group.kill(old);
    group.launch(new);
    let alone = group.admin(&["haStatus", "-n", &server, "-c", "DefaultCluster"]);
    assert!(alone.contains("nobody takes over by itself") && alone.contains(&address), "{alone}");
    let promoted = group.admin(&["promoteSlave", "-b", &address]);
    assert!(promoted.contains("is the master of its group") && promoted.contains("epoch 1"), "{promoted}");
    // A client looks for a new master every 30 seconds, and at its start.
    client.call(&["stop", &server]);
    client.call(&["producer", &server, "producers"]);
    wait_for("a send that is taken", || client.try_call(&["send", &server, "Orders", "A", "after"]).ok());
    let at_new = group.status(new);
    group.launch(old);
    let log = group.log(old);
    assert!(log.contains("follows as slave 1") && log.contains("were put aside"), "{log}");
    group.wait_for_copy(new, old);
    let aside = put_aside(&group, old);
    let lost = b"only the old master has this";
    assert!(aside.windows(lost.len()).any(|part| part == lost));
    client.call(&["push", &server, "readers", "Orders", "*", "0"]);
    let got = client.bodies(&["poll", "readers", "201"]);
    assert_eq!(sorted(got), sorted([sent, vec!["after".into()]].concat()));
    client.call(&["stopPush", "readers"]);
    let refused = group.admin(&["promoteSlave", "-b", &address]);
    assert!(refused.contains("is no slave"), "{refused}");
    group.stop(new);
    group.launch(new);
    assert_eq!(group.status(new)["commitLogMaxOffset"], at_new["commitLogMaxOffset"], "it stays the master after a restart");
    client.call(&["send", &server, "Orders", "A", "again"]);
    group.wait_for_copy(new, old);
    let status = group.admin(&["haStatus", "-n", &server, "-c", "DefaultCluster"]);
    assert!(status.contains("#InSyncSlaveNum\t1") && status.contains("#SlaveBehind"), "{status}");
    let slave = group.broker(old);
    let replica = |is: &str, id: u8, addr: &str, alive: bool| {
        format!("\n{is}Replica:\tReplicaIdentity{{brokerName='a', brokerId={id}, brokerAddress='{addr}', alive={alive}}}\n")
    };
    let set = || group.admin(&["getSyncStateSet", "-n", &server, "-b", "a"]);
    let both = format!("#SyncStateSetNums\t2\n{}{}", replica("InSync", 0, &address, true), replica("InSync", 1, &slave, true));
    assert_eq!(set(), format!("\n#brokerName\ta\n#MasterBrokerId\t0\n#MasterAddr\t{address}\n#MasterEpoch\t1\n{both}"));
    let json = group.admin(&["haStatus", "-n", &server, "-b", &address, "--json"]).replace([' ', '\n'], "");
    let nothing = format!("\"addr\":\"{slave}\",\"inSync\":true,\"bytes\":0,\"messages\":0,\"seconds\":0.0}}");
    assert!(json.contains(&nothing), "{json}");
    group.signal(old, Signal::STOP);
    let one = format!("#SyncStateSetNums\t1\n{}{}", replica("InSync", 0, &address, true), replica("NotInSync", 1, &slave, false));
    let said = set();
    assert!(said.ends_with(&one), "{said}");
}

/// What a slave of 5.x copies beside what one of 4.x does.
fn timers_wait_and_a_group_pops(group: &Group, broker: &str, topic: &str) {
    let mut link = Link::to(broker);
    let in_an_hour = format!("WAIT\u{1}false\u{2}TIMER_DELIVER_MS\u{1}{}\u{2}", now() + 3_600_000);
    for _ in 0..3 {
        let answer = link.request(&send_request(topic, 4, 0, &in_an_hour), b"later");
        assert_eq!(Header::decode(&answer).unwrap().code, 0);
    }
    let said = group.admin(&["setConsumeMode", "-b", broker, "-t", topic, "-g", "poppers", "-m", "POP", "-q", "2"]);
    assert!(said.contains("success"), "{said}");
}

/// Pairs with Java's broker, either being the master.
fn mixed_pairs(version: &'static str) {
    let Some(mut client) = java_client(CLIENT) else { return };
    let mut group = Group::start();
    let pairs = [(Whose::Ferrocket, Whose::Java(version)), (Whose::Java(version), Whose::Ferrocket)];
    for (name, (whose_master, whose_slave)) in ["a", "b"].into_iter().zip(pairs) {
        let named = |settings: &str| settings.replace("brokerName=a", &format!("brokerName={name}"));
        let Some(master) = group.add(whose_master, &named(&master("SYNC_MASTER"))) else { return };
        let topic = format!("Topic-{name}");
        let address = group.broker(master);
        group.admin(&["updateTopic", "-b", &address, "-n", &group.name_server(), "-t", &topic, "-r", "4", "-w", "4"]);
        // Java's broker tells of the topic late where it was made before the broker itself was registered.
        wait_for_route(&group.name_server(), &topic);
        if name == "a" {
            client.call(&["producer", &group.name_server(), "producers"]);
        }
        send(&mut client, &group, &topic, 300);
        if version == "5.4.0" {
            timers_wait_and_a_group_pops(&group, &address, &topic);
        }
        let slave = group.add(whose_slave, &named(&format!("{SLAVE}slaveReadEnable=true\n"))).unwrap();
        let (begin, _) = group.wait_for_copy(master, slave);
        assert_eq!(begin, 0, "a slave that is new copies all");
        send(&mut client, &group, &topic, 100);
        group.wait_for_copy(master, slave);
        let answer = client.call(&["send", &group.name_server(), &topic, "A", "last"]);
        assert_eq!(answer[0], "SEND_OK", "{whose_master:?} with {whose_slave:?}");
        wait_for("the topic at the slave", || {
            let topics = std::fs::read_to_string(group.store(slave).join("config/topics.json")).unwrap_or_default();
            topics.contains(&topic).then_some(())
        });
        if version == "5.4.0" {
            for (file, holds) in
                [("timermetrics", format!("\"{topic}\":{{\"count\":3,")), ("messageRequestMode.json", "poppers".into())]
            {
                wait_for(&format!("{file} of the master at the slave"), || {
                    let path = group.store(slave).join("config").join(file);
                    let text = std::fs::read_to_string(path).unwrap_or_default();
                    text.replace(char::is_whitespace, "").contains(&holds).then_some(())
                });
            }
        }
        // 5.x's default of inSyncReplicas acknowledges without the slave.
        if whose_master == Whose::Java("5.4.0") {
            group.wait_for_copy(master, slave);
        }
        group.kill(master);
        let readers = format!("readers-{name}");
        client.call(&["push", &group.name_server(), &readers, &topic, "*", "0"]);
        assert_eq!(client.bodies(&["poll", &readers, "401"]).len(), 401, "{whose_slave:?} gives all");
        client.call(&["stopPush", &readers]);
        if whose_master == Whose::Ferrocket {
            group.launch(master);
            group.wait_for_copy(master, slave);
        }
        group.stop(slave);
        group.stop(master);
    }
}

#[test]
fn pairs_with_java_4_9_4() {
    mixed_pairs("4.9.4");
}

#[test]
fn pairs_with_java_5_4_0() {
    mixed_pairs("5.4.0");
}
