//! Several name servers, each alone sufficient; names of hosts that change; addresses that lead elsewhere.

use std::net::TcpListener;
use std::time::Instant;

use tests::{Group, NameServer, PATIENCE, Whose, free_port, java_client, wait_for};

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Changes a setting of a broker that runs.
fn set(group: &Group, broker: usize, key: &str, value: &str) {
    let said = group.admin(&["updateBrokerConfig", "-b", &group.broker(broker), "-k", key, "-v", value]);
    assert!(said.contains("success"), "{said}");
}

#[test]
fn one_name_server_of_several_is_enough() {
    let Some(mut client) = java_client("4.9.4") else { return };
    let mut group = Group::start();
    let good = group.name_server();
    let mut second =
        NameServer::start(Whose::Ferrocket, format!("127.0.0.1:{}", free_port()), group.directory.path().join("second"));
    // The system takes connections for who listens, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (slow, dead) = (listener.local_addr().unwrap().to_string(), "127.0.0.1:1".to_owned());
    // What waits for the slow one, or for a period, is late.
    let settings = format!(
        "brokerName=a\nregisterBrokerTimeoutMills=600000\nregisterNameServerPeriod=60000\n\
         namesrvAddr={slow};{dead};{good};{}\n",
        second.address
    );
    let broker = group.add(Whose::Ferrocket, &settings).unwrap();
    let mut sent = Vec::new();
    for other in [&dead, &slow] {
        for list in [format!("{other};{good}"), format!("{good};{other}")] {
            client.call(&["producer", &list, "producers"]);
            wait_for("a send", || client.try_call(&["send", &list, "Orders", "A", &sent.len().to_string()]).ok());
            sent.push(sent.len().to_string());
            client.call(&["stop", &list]);
        }
        // A consumer that asks the slow one first does not start, and its group is taken then.
        let mut tries = 0;
        let readers = wait_for("a consumer", || {
            tries += 1;
            let readers = format!("readers-{}-{tries}", sent.len());
            let push = ["push", &format!("{other};{good}"), &readers, "Orders", "*", "0"];
            client.try_call(&push).is_ok().then_some(readers)
        });
        let mut got = client.bodies(&["poll", &readers, &sent.len().to_string()]);
        got.sort();
        assert_eq!(got, sent);
        client.call(&["stopPush", &readers]);
    }
    let end = Instant::now() + PATIENCE;
    for _ in 0..3 {
        second.start_again();
        wait_for("the broker at the name server that began anew", || {
            group.admin(&["topicList", "-n", &second.address]).lines().any(|line| line == "Orders").then_some(())
        });
    }
    assert!(Instant::now() < end, "it is told at once, not after a period");
    let wrong = group.status(broker);
    assert!(wrong["wrong_nameServer_127.0.0.1_1"].contains("Connection refused"), "{wrong:?}");
    let said = group.log(broker).matches(&format!("not registered with name server {dead}")).count();
    assert!(said <= 2, "said once, to the log and to the terminal");
}

#[test]
fn hosts_have_names_whose_addresses_change() {
    let mut group = Group::start();
    let port = port(&group.name_server());
    let hosts = group.directory.path().join("hosts");
    let name = |address: &str| std::fs::write(&hosts, format!("{address} ns.test\n127.0.0.1 broker.test\n")).unwrap();
    name("127.0.0.1");
    group.hosts = Some(hosts.clone());
    let settings = format!("brokerName=a\nbrokerIP1=broker.test\nnamesrvAddr=ns.test:{port}\n");
    let master = group.add(Whose::Ferrocket, &settings).unwrap();
    let master_port = self::port(&group.broker(master));
    let listed = group.admin(&["clusterList", "-n", &group.name_server()]);
    assert!(listed.contains(&format!("broker.test:{master_port}")), "{listed}");
    let slave = format!("{settings}brokerId=1\nbrokerRole=SLAVE\nhaMasterAddress=broker.test:{}\n", master_port + 1);
    let slave = group.add(Whose::Ferrocket, &slave).unwrap();
    wait_for("the slave to follow", || (group.status(slave).get("follows")? == "true").then_some(()));
    assert_eq!(group.status(slave)["masterAddress"], format!("broker.test:{master_port}"));
    // The name server moves.
    group.namesrv.kill();
    let moved = NameServer::start(Whose::Ferrocket, format!("127.0.0.2:{port}"), group.directory.path().join("moved"));
    name("127.0.0.2");
    wait_for("both brokers at the other address", || {
        let listed = group.admin(&["clusterList", "-n", &moved.address]);
        (listed.matches("broker.test:").count() == 2).then_some(())
    });
}

#[test]
fn addresses_that_lead_elsewhere_are_told() {
    let mut group = Group::start();
    let server = group.name_server();
    let master = "brokerName=a\nbindAddress=127.0.0.1\nbrokerIP2=127.0.0.9\n";
    let master = group.add(Whose::Ferrocket, master).unwrap();
    let port = port(&group.broker(master));
    let slave = group.add(Whose::Ferrocket, "brokerName=a\nbrokerId=1\nbrokerRole=SLAVE\n").unwrap();
    let log = |group: &Group, broker, part: &str| wait_for(part, || group.log(broker).contains(part).then_some(()));
    log(&group, master, "does not reach itself at 127.0.0.9");
    log(&group, slave, &format!("the master at 127.0.0.1:{port}, its brokerIP2 and haListenPort. Set brokerIP2 there"));
    // A container whose port is another one outside, where a master has the port that it gives.
    let container = format!(
        "brokerName=b\nbrokerId=1\nbrokerRole=SLAVE\nbindAddress=127.0.0.2\nlistenPort={port}\nhaListenPort={}\n",
        port + 1
    );
    let container = group.add(Whose::Ferrocket, &container).unwrap();
    log(&group, container, "leads to another process, broker a 0 of DefaultCluster");
    set(&group, slave, "haMasterAddress", &format!("127.0.0.2:{}", port + 1));
    log(&group, slave, "it is the HA port of broker b 1, not of a");
    set(&group, slave, "haMasterAddress", &format!("127.0.0.1:{}", self::port(&group.broker(slave)) + 1));
    log(&group, slave, "it is the HA port of this slave itself");
    wait_for("the container to leave", || {
        let listed = group.admin(&["clusterList", "-n", &server]);
        (!listed.lines().any(|line| line.contains(" b "))).then_some(())
    });
    let listed = group.admin(&["clusterList", "-n", &server]);
    assert!(listed.contains(&group.broker(master)) && listed.contains(&group.broker(slave)), "{listed}");
    set(&group, slave, "haMasterAddress", &format!("127.0.0.1:{}", port + 1));
    wait_for("the slave to follow", || (group.status(slave).get("follows")? == "true").then_some(()));
    group.kill(master);
    log(&group, slave, "nobody takes over by itself");
    let alone = group.admin(&["clusterList", "-n", &server]);
    assert!(alone.contains("broker a has no master, and nobody takes over by itself"), "{alone}");
    assert!(group.namesrv.log().contains("broker a has no master any more"));
}

#[test]
fn a_network_has_an_address_of_its_own() {
    let mut group = Group::start();
    let broker = group.add(Whose::Ferrocket, "brokerName=a\n").unwrap();
    let inside = group.broker(broker).replace("127.0.0.1", "127.0.0.2");
    set(&group, broker, "advertisedAddresses", &format!("127.0.0.0/8={inside}"));
    wait_for("the address", || group.admin(&["clusterList", "-n", &group.name_server()]).contains(&inside).then_some(()));
}
