//! The deployments of `deploy/`, with the configuration files that their users wrote and clients of their days: every machine
//! is a network namespace with its own address and files.

use tests::{Client, Hosts, java_client, wait_for};

/// A machine, the address of its broker, and the broker's store.
type Broker = [&'static str; 3];

/// Sends messages and waits for their acknowledgements; gives their bodies.
fn send(client: &mut Client, servers: &str, prefix: &str, count: usize) -> Vec<String> {
    client.call(&["sendAsync", servers, "Orders", prefix, &count.to_string()]);
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// What a group that is new reads of all that there is.
fn read(client: &mut Client, servers: &str, group: &str, count: usize) -> Vec<String> {
    client.call(&["push", servers, group, "Orders", "*", "0"]);
    let mut bodies = client.bodies(&["poll", group, &count.to_string()]);
    client.call(&["stopPush", group]);
    bodies.sort();
    bodies
}

/// Sends; kills the master, reads everything from the slave; starts the master again, sends and reads more.
fn master_dies_and_comes_back(hosts: &Hosts, client: &mut Client, servers: &str, master: Broker, slave: Broker) {
    client.call(&["producer", servers, "producers"]);
    wait_for("a send that is taken", || client.try_call(&["send", servers, "Orders", "A", "first"]).ok());
    let mut sent = send(client, servers, "before-", 200);
    sent.push("first".into());
    sent.sort();
    hosts.wait_for_copy(master, slave);
    // A slave asks for topics every ten seconds.
    wait_for("the topic at the slave", || {
        let topics = std::fs::read_to_string(hosts.file(slave[0], &format!("{}/config/topics.json", slave[2]))).ok()?;
        topics.contains("\"Orders\"").then_some(())
    });
    hosts.end(master[0], "broker", "KILL");
    assert_eq!(read(client, servers, "from-the-slave", sent.len()), sent);
    hosts.start(master[0], "broker");
    wait_for("a send that is taken", || client.try_call(&["send", servers, "Orders", "A", "second"]).ok());
    sent.push("second".into());
    sent.extend(send(client, servers, "after-", 50));
    sent.sort();
    assert_eq!(read(client, servers, "from-the-master", sent.len()), sent);
    hosts.wait_for_copy(master, slave);
}

#[test]
fn two_machines_of_seed_001() {
    const VERSION: &str = "4.7.1";
    let prepare = || java_client(VERSION).is_some();
    let Some(hosts) = Hosts::enter("deploy/001-two-machines/run", "two_machines_of_seed_001", prepare) else { return };
    let home = "/home/software/rocketmq";
    for (file, edited) in [
        ("conf/logback_broker.xml", "/home/software/rocketmq/logs"),
        ("conf/logback_tools.xml", "/home/software/rocketmq/logs"),
        ("conf/logback_namesrv.xml", "/home/software/rocketmq/logs"),
        ("bin/runserver.sh", "-Xms2g -Xmx2g -Xmn1g"),
        ("bin/runbroker.sh", "-Xms2g -Xmx2g -Xmn1g"),
    ] {
        let text = std::fs::read_to_string(hosts.file("node2", &format!("{home}/{file}"))).unwrap();
        assert!(text.contains(edited), "{file}: {text}");
    }
    let servers = "192.168.0.15:9876;192.168.0.10:9876";
    let master = ["node2", "192.168.0.15:10911", "/home/software/rocketmq/store"];
    let slave = ["node3", "192.168.0.10:10911", "/home/rocketmq/store"];
    let mut client = java_client(VERSION).unwrap();
    master_dies_and_comes_back(&hosts, &mut client, servers, master, slave);
    for what in ["namesrv", "broker"] {
        let (stopped, said) = hosts.run("node2", &["sh", &format!("{home}/bin/mqshutdown"), what]);
        assert!(stopped && said.contains(&format!("Send shutdown request to mq{what}(")), "{said}");
    }
    // The other machine's name server and broker go on.
    let sent = read(&mut client, "192.168.0.10:9876", "from-the-other-machine", 252);
    assert_eq!(sent.len(), 252);
}

#[test]
fn two_machines_of_seed_004() {
    const VERSION: &str = "3.2.6";
    let prepare = || java_client(VERSION).is_some();
    let Some(hosts) = Hosts::enter("deploy/004-two-machines-sync/run", "two_machines_of_seed_004", prepare) else { return };
    let home = "/home/rocket/alibaba-rocketmq";
    let logback = std::fs::read_to_string(hosts.file("machine54", &format!("{home}/conf/logback_broker.xml"))).unwrap();
    assert!(logback.contains("${user.home}/alibaba-rocketmq/logs"), "{logback}");
    let servers = "192.168.36.189:9876;192.168.36.54:9876";
    let master = ["machine54", "192.168.36.54:10911", "/home/rocket/alibaba-rocketmq/data/store"];
    let slave = ["machine189", "192.168.36.189:10911", "/home/rocket/alibaba-rocketmq/data/store"];
    let mut client = java_client(VERSION).unwrap();
    master_dies_and_comes_back(&hosts, &mut client, servers, master, slave);
    wait_for("the slave to have what is sent", || {
        let status = client.try_call(&["send", servers, "Payments", "A", "both have this"]).ok()?;
        (status[0] == "SEND_OK").then_some(())
    });
}
