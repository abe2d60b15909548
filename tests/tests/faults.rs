//! Faults between a master and its slave while producers send and consumers read, of Java and of Go: paused,
//! parted one way and both ways, on a slow line, with a full disk, away for so long that the master's files are gone, with
//! a tail of its own. Whatever was acknowledged is there, and both logs have the same bytes.
//!
//! The kernels of the machines where this runs have no netem: the slow line is a token bucket, which delays and drops.

use std::fs::{self, File};
use std::io::Write;

use tests::{Client, Hosts, go_client, java_client, set, status, try_admin, wait_for, wait_for_route};

const JAVA: &str = "4.9.4";
const GO: &str = "v2.1.2";
const NAMES: &str = "10.0.0.1:9876";
const STORE: &str = "/home/rocketmq/store";
const MASTER: [&str; 3] = ["master", "10.0.0.2:10911", STORE];
const SLAVE: [&str; 3] = ["slave", "10.0.0.3:10911", STORE];
/// Nobody has this hardware address: what is sent there is lost without a word.
const NOBODY: &str = "02:00:00:00:00:fe";

/// Machines, clients that are started, and all that they have sent.
struct Faults {
    hosts: Hosts,
    client: Client,
    go: Client,
    sent: Vec<String>,
}

impl Faults {
    fn enter(test: &str) -> Option<Self> {
        let hosts = Hosts::enter("tests/hosts/run", test, || java_client(JAVA).is_some() && go_client(GO).is_some())?;
        let (mut client, mut go) = (java_client(JAVA)?, go_client(GO)?);
        client.call(&["producer", NAMES, "producers"]);
        wait_for("a send that is taken", || client.try_call(&["send", NAMES, "Orders", "A", "first"]).ok());
        client.call(&["push", NAMES, "readers", "Orders", "*", "0"]);
        wait_for_route(NAMES, "Orders");
        go.call(&["producer", NAMES, "go-producers"]);
        go.call(&["push", NAMES, "go-readers", "Orders", "*", "0"]);
        Some(Self { hosts, client, go, sent: vec!["first".into()] })
    }

    /// Sends messages of some three KiB, and some short ones of Go, which are all acknowledged.
    fn send(&mut self, count: usize) {
        let prefix = format!("go-{}-", self.sent.len());
        // Go's asynchronous sends are not tried again by themselves.
        wait_for("sends of Go", || self.go.try_call(&["sendAsync", NAMES, "Orders", &prefix, "10"]).ok());
        self.sent.extend((0..10).map(|number| format!("{prefix}{number}")));
        let prefix = format!("{}-{}-", "x".repeat(3000), self.sent.len());
        self.client.call(&["sendAsync", NAMES, "Orders", &prefix, &count.to_string()]);
        self.sent.extend((0..count).map(|number| format!("{prefix}{number}")));
    }

    /// Everything was read that was acknowledged, and is in the slave's log as in the master's.
    fn nothing_is_lost(&mut self, after: &str) {
        self.hosts.wait_for_copy(MASTER, SLAVE);
        self.all_is_read(after);
    }

    fn all_is_read(&mut self, after: &str) {
        for (client, group) in [(&mut self.client, "readers"), (&mut self.go, "go-readers")] {
            reads_all(client, group, &self.sent, after);
        }
    }

    /// Packets of a machine to an address are lost, or arrive again.
    fn lose(&self, from: &str, to: &str, lose: bool) {
        let what: &[&str] = if lose { &["replace", to, "lladdr", NOBODY, "nud", "permanent"] } else { &["del", to] };
        self.hosts.net(from, &[&["ip", "neigh"], what, &["dev", "eth0"]].concat());
    }

    /// Waits until the master's answers say that the slave has what is sent, or that it has not.
    fn wait_for_slave(&mut self, has: bool) {
        wait_for(if has { "the slave to have what is sent" } else { "the slave to be missed" }, || {
            let body = format!("probe-{}", self.sent.len());
            let answer = self.client.try_call(&["send", NAMES, "Orders", "A", &body]).ok()?;
            self.sent.push(body);
            ((answer[0] == "SEND_OK") == has).then_some(())
        });
    }
}

/// Waits until a group has read all that was sent. A send that was tried again may have arrived twice.
fn reads_all(client: &mut Client, group: &str, sent: &[String], after: &str) {
    wait_for(&format!("all messages at {group} after {after}"), || {
        let read = client.bodies(&["poll", group, &sent.len().to_string()]);
        (set(&read) == set(sent)).then_some(())
    });
}

#[test]
fn pauses_partitions_and_a_slow_line_lose_nothing() {
    let Some(mut faults) = Faults::enter("pauses_partitions_and_a_slow_line_lose_nothing") else { return };
    faults.wait_for_slave(true);

    faults.hosts.signal("slave", "broker", "STOP");
    faults.wait_for_slave(false);
    faults.send(100);
    faults.hosts.signal("slave", "broker", "CONT");
    faults.nothing_is_lost("a pause of the slave");

    faults.hosts.signal("master", "broker", "STOP");
    faults.hosts.signal("slave", "broker", "STOP");
    faults.hosts.signal("master", "broker", "CONT");
    faults.send(100);
    faults.hosts.signal("slave", "broker", "CONT");
    faults.nothing_is_lost("a pause of both");

    for (from, to) in [("slave", "10.0.0.2"), ("master", "10.0.0.3")] {
        faults.lose(from, to, true);
        faults.wait_for_slave(false);
        faults.send(100);
        faults.lose(from, to, false);
        faults.nothing_is_lost(&format!("a partition of {from}'s way"));
        faults.wait_for_slave(true);
    }

    // The slave's cable is pulled, as seen from the switch.
    let cable = |state: &str| {
        assert!(std::process::Command::new("ip").args(["link", "set", "dev", "slave", state]).status().unwrap().success())
    };
    cable("down");
    faults.wait_for_slave(false);
    faults.send(100);
    cable("up");
    faults.nothing_is_lost("a partition both ways");
    faults.wait_for_slave(true);

    let line = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8mbit", "burst", "8kb", "latency", "300ms"];
    faults.hosts.net("slave", &line);
    faults.hosts.net("master", &line);
    faults.send(200);
    faults.nothing_is_lost("a slow line");
}

#[test]
fn a_full_disk_of_the_slave_costs_the_master_nothing() {
    let Some(mut faults) = Faults::enter("a_full_disk_of_the_slave_costs_the_master_nothing") else { return };
    faults.wait_for_slave(true);
    faults.send(100);
    faults.nothing_is_lost("the start");
    let path = faults.hosts.file("slave", &format!("{STORE}/ballast"));
    let mut ballast = File::create(&path).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
    // More than the part of its newest file that the slave may have reserved.
    faults.send(800);
    wait_for("the slave to say so", || {
        let log = faults.hosts.log("slave", "broker");
        (log.contains("No space left") || log.contains("disk")).then_some(())
    });
    faults.send(20);
    assert_ne!(status(MASTER[1])["commitLogMaxOffset"], status(SLAVE[1])["commitLogMaxOffset"], "the slave's disk was not full");
    drop(ballast);
    fs::remove_file(path).unwrap();
    faults.nothing_is_lost("a full disk");
    faults.wait_for_slave(true);
}

#[test]
fn a_slave_that_was_away_for_long_catches_up_or_says_why_not() {
    let Some(mut faults) = Faults::enter("a_slave_that_was_away_for_long_catches_up_or_says_why_not") else { return };
    faults.wait_for_slave(true);
    faults.send(500);
    faults.nothing_is_lost("the start");
    faults.hosts.end("slave", "broker", "TERM");
    faults.send(1500);
    faults.hosts.start("slave", "broker");
    faults.nothing_is_lost("four files that the slave missed");

    // Away until the master has cleaned the files that it would need.
    faults.hosts.end("slave", "broker", "KILL");
    faults.send(1500);
    faults.all_is_read("sending without a slave");
    faults.hosts.end("master", "broker", "TERM");
    let log = faults.hosts.file("master", &format!("{STORE}/commitlog"));
    let mut files: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let gone = files.len() - 2;
    files[..gone].iter().for_each(|file| fs::remove_file(file).unwrap());
    faults.hosts.start("master", "broker");
    faults.hosts.start("slave", "broker");
    let why = "Move the slave's store away and start it again";
    wait_for("the master to say so", || faults.hosts.log("master", "broker").contains(why).then_some(()));
    faults.hosts.end("slave", "broker", "TERM");
    for entry in fs::read_dir(faults.hosts.file("slave", STORE)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    faults.hosts.start("slave", "broker");
    let (begin, _) = faults.hosts.wait_for_copy(MASTER, SLAVE);
    assert_eq!(begin, gone as u64 * 1024 * 1024, "an empty slave copies all that its master has");
    faults.wait_for_slave(true);
    faults.send(100);
    faults.nothing_is_lost("a new beginning");
}

/// A master without its slave and name server goes on for clients that still reach it. Its slave is promoted meanwhile.
#[test]
fn the_tail_of_a_master_that_was_parted_is_put_aside() {
    let Some(mut faults) = Faults::enter("the_tail_of_a_master_that_was_parted_is_put_aside") else { return };
    faults.wait_for_slave(true);
    faults.send(100);
    faults.nothing_is_lost("the start");
    for to in ["10.0.0.1", "10.0.0.3"] {
        faults.lose("master", to, true);
    }
    faults.client.call(&["send", NAMES, "Orders", "A", "only the parted master has this"]);
    wait_for("the slave to be promoted", || {
        try_admin(&["promoteSlave", "-b", SLAVE[1]]).is_ok_and(|said| said.contains("is the master of its group")).then_some(())
    });
    for to in ["10.0.0.1", "10.0.0.3"] {
        faults.lose("master", to, false);
    }
    wait_for("the old master to follow", || faults.hosts.log("master", "broker").contains("were put aside").then_some(()));
    for (client, group) in [(&mut faults.client, "producers"), (&mut faults.go, "go-producers")] {
        client.call(&["stop", NAMES]);
        client.call(&["producer", NAMES, group]);
    }
    wait_for("a send that is taken", || faults.client.try_call(&["send", NAMES, "Orders", "A", "after"]).ok());
    faults.sent.push("after".into());
    faults.send(50);
    faults.hosts.wait_for_copy(SLAVE, MASTER);
    let aside = fs::read_dir(faults.hosts.file("master", &format!("{STORE}/cut"))).unwrap();
    let aside: Vec<u8> = aside.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let lost = b"only the parted master has this";
    assert!(aside.windows(lost.len()).any(|part| part == lost));
    faults.client.call(&["push", NAMES, "auditors", "Orders", "*", "0"]);
    reads_all(&mut faults.client, "auditors", &faults.sent, "taking over");
}
