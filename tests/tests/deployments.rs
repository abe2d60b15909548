//! The deployments of `deploy/`, with the configuration files that their users wrote and clients of their days: every machine
//! is a network namespace with its own address and files.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::{Client, Hosts, binary, has, java_client, root, skip, wait_for};

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

/// Sends; kills the first master, reads everything from its slave and the other masters; starts it again, sends and reads more.
/// All groups are given, a master and a slave each.
fn master_dies_and_comes_back(hosts: &Hosts, client: &mut Client, servers: &str, groups: &[(Broker, Broker)]) {
    client.call(&["producer", servers, "producers"]);
    wait_for("a send that is taken", || client.try_call(&["send", servers, "Orders", "A", "first"]).ok());
    let mut sent = send(client, servers, "before-", 200);
    sent.push("first".into());
    sent.sort();
    for (master, slave) in groups {
        hosts.wait_for_copy(*master, *slave);
        // A slave asks for topics every ten seconds.
        wait_for("the topic at the slave", || {
            let topics = std::fs::read_to_string(hosts.file(slave[0], &format!("{}/config/topics.json", slave[2]))).ok()?;
            topics.contains("\"Orders\"").then_some(())
        });
    }
    let dying = groups[0].0[0];
    hosts.end(dying, "broker", "KILL");
    assert_eq!(read(client, servers, "from-the-slave", sent.len()), sent);
    hosts.start(dying, "broker");
    wait_for("a send that is taken", || client.try_call(&["send", servers, "Orders", "A", "second"]).ok());
    sent.push("second".into());
    sent.extend(send(client, servers, "after-", 50));
    sent.sort();
    assert_eq!(read(client, servers, "from-the-master", sent.len()), sent);
    for (master, slave) in groups {
        hosts.wait_for_copy(*master, *slave);
    }
}

/// The machines of a deployment, and a client of its days.
fn enter(script: &str, test: &str, version: &str) -> Option<(Hosts, Client)> {
    let hosts = Hosts::enter(script, test, || java_client(version).is_some())?;
    Some((hosts, java_client(version)?))
}

#[test]
fn two_machines_of_seed_001() {
    let Some((hosts, mut client)) = enter("deploy/001-two-machines/run", "two_machines_of_seed_001", "4.7.1") else { return };
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
    master_dies_and_comes_back(&hosts, &mut client, servers, &[(master, slave)]);
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
    let Some((hosts, mut client)) = enter("deploy/004-two-machines-sync/run", "two_machines_of_seed_004", "3.2.6") else {
        return;
    };
    let home = "/home/rocket/alibaba-rocketmq";
    let logback = std::fs::read_to_string(hosts.file("machine54", &format!("{home}/conf/logback_broker.xml"))).unwrap();
    assert!(logback.contains("${user.home}/alibaba-rocketmq/logs"), "{logback}");
    let servers = "192.168.36.189:9876;192.168.36.54:9876";
    let master = ["machine54", "192.168.36.54:10911", "/home/rocket/alibaba-rocketmq/data/store"];
    let slave = ["machine189", "192.168.36.189:10911", "/home/rocket/alibaba-rocketmq/data/store"];
    master_dies_and_comes_back(&hosts, &mut client, servers, &[(master, slave)]);
    wait_for("the slave to have what is sent", || {
        let status = client.try_call(&["send", servers, "Payments", "A", "both have this"]).ok()?;
        (status[0] == "SEND_OK").then_some(())
    });
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| if entry.file_type().unwrap().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

/// Answers every question for an IPv4 address with this one, as a name server of the DNS, for as long as the test runs.
fn answer_dns(listen: &str, address: [u8; 4]) {
    let socket = UdpSocket::bind(listen).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let name = question[12..length].iter().position(|byte| *byte == 0).unwrap();
            let end = 12 + name + 5;
            let is_a = question[12 + name + 1..][..2] == [0, 1];
            // An answer without errors to one question, with one record or none.
            let mut answer = [&question[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], &question[12..end]].concat();
            if is_a {
                // The question's name, type A, class IN, not to be kept, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
}

#[test]
fn containers_of_seed_000() {
    let Some((hosts, mut client)) = enter("deploy/000-one-pair-compose/run", "containers_of_seed_000", "4.2.0") else { return };
    let image = size(Path::new(&std::env::var("IMAGE").unwrap()));
    assert!(image < 30 * 1024 * 1024, "the image has {image} bytes");
    let bin = "cd /home/rocketmq/rocketmq-4.9.4/bin";
    let (_, who) = hosts.run("broker-a-s", &["sh", "-c", "id; grep CapEff /proc/self/status"]);
    assert!(who.contains("uid=3000(rocketmq)") && who.contains("CapEff:\t0000000000000000"), "{who}");
    let heap =
        format!("{bin} && JAVA_OPT_EXT='-server -Xms128m -Xmn128m' sh mqbroker -m -c ../conf/2m-2s-async/broker-a.properties");
    let (_, said) = hosts.run("broker-a-s", &["sh", "-c", &heap]);
    assert!(said.contains("-server -Xms128m -Xmn128m have no meaning here") && said.contains("brokerName=broker-a"), "{said}");
    // The static binary finds names in /etc/hosts and in the DNS.
    answer_dns("172.18.0.10:53", [172, 18, 0, 2]);
    std::fs::write(hosts.file("broker-a-s", "/etc/resolv.conf"), "nameserver 172.18.0.10\n").unwrap();
    for server in ["namesrv:9876", "names.example:9876"] {
        let (_, list) = hosts.run("broker-a-s", &["sh", "-c", &format!("{bin} && sh mqadmin clusterList -n {server}")]);
        assert!(list.contains("172.18.0.3:10911"), "{list}");
    }

    let servers = "namesrv:9876";
    let master = ["broker-a-m", "172.18.0.3:10911", "/opt/store"];
    let slave = ["broker-a-s", "172.18.0.4:10911", "/opt/store"];
    master_dies_and_comes_back(&hosts, &mut client, servers, &[(master, slave)]);
    // What the seed's author saw: nobody takes over, and a send says that there is no route.
    hosts.end("broker-a-m", "broker", "TERM");
    client.call(&["stop", servers]);
    client.call(&["producer", servers, "producers"]);
    let refused = client.try_call(&["send", servers, "Orders", "A", "lost"]).unwrap_err();
    assert!(refused.contains("No route info of this topic"), "{refused}");
}

const NODES: &str = "192.168.1.161:9876;192.168.1.162:9876";

#[test]
fn containers_of_two_hosts_of_seed_003() {
    let (script, test) = ("deploy/003-two-hosts-docker/run", "containers_of_two_hosts_of_seed_003");
    let Some((hosts, mut client)) = enter(script, test, "4.9.4") else { return };
    client.call(&["producer", NODES, "producers"]);
    wait_for("a send that is taken", || client.try_call(&["send", NODES, "Orders", "A", "first"]).ok());
    let mut sent = send(&mut client, NODES, "both-masters-", 200);
    sent.push("first".into());
    sent.sort();
    assert_eq!(read(&mut client, NODES, "readers", 201), sent);
    // Each slave is told whose address it has, and what to set.
    for (slave, taken, by) in
        [("broker-a-s", "192.168.1.162:10911", "broker-b 0"), ("broker-b-s", "192.168.1.161:10911", "broker-a 0")]
    {
        wait_for("the slave to be told", || {
            let log = hosts.log(slave, "broker");
            let mut lines = log.lines();
            lines.find(|l| [taken, by, "brokerIP1", "listenPort"].iter().all(|part| l.contains(part))).map(str::to_owned)
        });
    }
}

#[test]
fn containers_of_two_hosts_of_seed_003_mended() {
    let (script, test) = ("deploy/003-two-hosts-docker/run-mended", "containers_of_two_hosts_of_seed_003_mended");
    let Some((hosts, mut client)) = enter(script, test, "4.9.4") else { return };
    let store = "/home/rocketmq/store";
    let a = (["broker-a", "192.168.1.161:10911", store], ["broker-a-s", "192.168.1.162:10623", store]);
    let b = (["broker-b", "192.168.1.162:10911", store], ["broker-b-s", "192.168.1.161:10623", store]);
    master_dies_and_comes_back(&hosts, &mut client, NODES, &[a, b]);
}

/// As the Dockerfile does it, where no binary is there yet; a stand-in for cargo says what it does, as the real one.
#[test]
fn the_image_builds_its_binary() {
    if !has("busybox") {
        return skip("no busybox here");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["deploy", "bin", "conf", "LICENSE", "README.md", "CHANGELOG.md", "Cargo.toml"] {
        let copied = Command::new("cp").arg("-R").arg(root().join(name)).arg(path(name)).status().unwrap();
        assert!(copied.success(), "{name}");
    }
    let built =
        format!("mkdir -p target/release && cp {} target/release/ferrocket", std::fs::canonicalize(binary()).unwrap().display());
    std::fs::write(path("cargo"), format!("#!/bin/sh\necho + cargo rustc\n{built}\n")).unwrap();
    std::fs::set_permissions(path("cargo"), PermissionsExt::from_mode(0o755)).unwrap();
    let programs = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut image = Command::new(path("deploy/image"));
    image.arg(path("image")).env("PATH", programs).env_remove("FERROCKET_BIN").env_remove("VERSION");
    let output = image.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let broker = path("image/home/rocketmq/rocketmq-4.9.4/bin");
    assert!(broker.join("mqbroker").exists() && broker.join("ferrocket").exists());
}
