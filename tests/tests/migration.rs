//! A running Java broker is replaced while clients send and consume, and masters die while they do.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::requests::{GetMaxOffset, OffsetReply};
use protocol::{Header, record};
use tests::{Client, Group, Link, Popper, Whose, binary, java_client, now, pull_request, send_request, wait_for};

const SLAVE: &str = "brokerId=1\nbrokerRole=SLAVE\n";

/// Of a steady producer: how many messages were taken, how many of these with SEND_OK, and the longest time in ms between two.
fn count(client: &mut Client, producer: &str) -> [u64; 3] {
    let answer = client.call(&["Steady", "count", producer]);
    [0, 1, 2].map(|at| answer[at].parse().unwrap())
}

/// Waits until a steady producer has sent some more.
fn wait_for_sends(client: &mut Client, producer: &str) {
    let [_, before, _] = count(client, producer);
    wait_for("more messages to be acknowledged", || (count(client, producer)[1] > before + 20).then_some(()));
}

/// Waits until a consumer has got all that was acknowledged.
fn wait_for_all(client: &mut Client, consumer: &str, sent: &BTreeSet<String>) {
    wait_for("all that was acknowledged to be consumed", || {
        let got: BTreeSet<String> = client.bodies(&["poll", consumer, "0"]).into_iter().collect();
        sent.is_subset(&got).then_some(())
    });
}

/// `ferrocket migrate`, which goes on to forward connections until it is killed.
struct Migration(Child);

impl Drop for Migration {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn migrate(slave: &str, stop: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(["migrate", "-b", slave, "--forward", "600", "--stop", stop]);
    command
}

/// What a migration says that is expected to fail.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Java's broker works on whatever fails: the command that stops it, and the slave that is to be promoted.
fn migrations_fail(client: &mut Client, group: &mut Group, java: usize, slave: usize) {
    let address = group.broker(slave);
    let said = failure(&mut migrate(&address, "false"));
    assert!(said.contains("takes messages again") && said.contains("`false` failed"), "{said}");
    wait_for_sends(client, "default");
    let config = group.store(slave).parent().unwrap().join("broker.conf");
    let (away, started) = (config.with_extension("away"), config.with_extension("started"));
    std::fs::rename(&config, &away).unwrap();
    let mut failing = migrate(&address, &format!("kill {}", group.pid(java).as_raw_nonzero()));
    failing.args(["--start", &format!("touch {}", started.display())]);
    std::thread::scope(|scope| {
        let said = scope.spawn(move || failure(&mut failing));
        wait_for("the command that starts Java's broker again", || started.exists().then_some(()));
        group.kill(java);
        group.launch(java);
        let said = said.join().unwrap();
        assert!(said.contains("was started again and takes messages") && said.contains("the broker stays a slave"), "{said}");
    });
    std::fs::rename(&away, &config).unwrap();
    wait_for_sends(client, "default");
}

/// Waits until a slave follows and has what its master has.
fn wait_for_slave(group: &Group, master: usize, slave: usize) {
    let end = group.end(master);
    wait_for("the slave to follow", || {
        let status = group.status(slave);
        (status["follows"] == "true" && status["commitLogMaxOffset"].parse::<u64>().unwrap() >= end).then_some(())
    });
}

/// How long what is under way waits, in ms: longer than a busy machine takes to replace a broker. It is that of delay level 3.
const WAIT_MS: i64 = 20_000;
const WAITS: &str = "brokerName=broker-a\nmessageDelayLevel=1s 5s 20s\n";

/// Leaves half messages, a delayed message and, with 5.x, a timer and messages that were popped. Gives when they are due.
fn leave_under_way(client: &mut Client, server: &str, broker: &str, version: &str) -> i64 {
    client.call(&["Transaction", "start", server, "payers"]);
    assert_eq!(client.call(&["Transaction", "send", server, "Open", "unknown-commit"])[0], "SEND_OK");
    client.call(&["Transaction", "begin", server, "Open", "hold-commit"]);
    let (due, mut link) = (now() + WAIT_MS, Link::to(broker));
    let mut send = |properties: &str, body: &str| {
        let answer = link.request(&send_request("Open", 1, 0, properties), body.as_bytes());
        assert_eq!(Header::decode(&answer).unwrap().code, 0, "{body}");
    };
    send("DELAY\u{1}3\u{2}", "delayed");
    if version == "5.4.0" {
        send(&format!("TIMER_DELIVER_MS\u{1}{due}\u{2}"), "timer");
        let mut popper = Popper::new(broker);
        ["acknowledged", "popped"].iter().for_each(|body| popper.send(body));
        let popped = popper.pop_all(2, WAIT_MS);
        popper.ack(&popped[0]);
    }
    due
}

/// What was under way comes to its end at another broker.
fn what_was_under_way_arrives(client: &mut Client, server: &str, broker: &str, version: &str, due: i64) {
    client.call(&["Transaction", "release", server, "hold-commit"]);
    let expected = if version == "5.4.0" {
        &["delayed", "hold-commit", "timer", "unknown-commit"][..]
    } else {
        &["delayed", "hold-commit", "unknown-commit"]
    };
    let mut link = Link::to(broker);
    let came = wait_for("what was under way", || {
        let frame = link.request(&pull_request("Open", 0, 0), &[]);
        let body = |record: &record::Record<'_>| String::from_utf8_lossy(record.body).into_owned();
        let mut came: Vec<_> =
            record::decode_all(&frame.body).map(|r| r.map(|r| (body(&r), r.store_timestamp)).unwrap()).collect();
        came.sort();
        (came.len() >= expected.len()).then_some(came)
    });
    assert_eq!(came.iter().map(|(body, _)| body).collect::<Vec<_>>(), expected);
    for (body, at) in came {
        assert!(body.ends_with("commit") || at >= due, "{body} came {} ms early", due - at);
    }
    assert!(client.bodies(&["Transaction", "questions", server]).contains(&"unknown-commit".into()));
    if version == "5.4.0" {
        let popped = Popper::new(broker).pop_all(1, WAIT_MS);
        let came = now();
        assert_eq!(popped.iter().map(|popped| popped.text.as_str()).collect::<Vec<_>>(), ["popped@1"]);
        assert!(came >= due, "what was popped came {} ms early", due - came);
    }
}

fn a_java_broker_is_replaced(version: &'static str, namesrv: Whose) {
    let Some(mut client) = java_client(version) else { return };
    let mut group = Group::start_of(namesrv);
    let settings = format!("{WAITS}brokerRole=ASYNC_MASTER\ntransactionCheckInterval=600000\n");
    let Some(java) = group.add(Whose::Java(version), &settings) else { return };
    let server = group.name_server();
    for (topic, queues) in [("Orders", "4"), ("Open", "1"), ("Deleted", "1")] {
        group.admin(&["updateTopic", "-b", &group.broker(java), "-n", &server, "-t", topic, "-r", queues, "-w", queues]);
    }
    let answer = Link::to(&group.broker(java)).request(&send_request("Deleted", 0, 0, ""), b"x");
    assert_eq!(Header::decode(&answer).unwrap().code, 0);
    let deleted = group.admin(&["deleteTopic", "-n", &server, "-c", "DefaultCluster", "-t", "Deleted"]);
    assert!(deleted.contains("success"), "{deleted}");
    client.call(&["push", &server, "readers", "Orders", "*", "0"]);
    client.call(&["Steady", "start", "default", &server, "Orders", "0"]);
    wait_for_sends(&mut client, "default");
    let asks = "transactionCheckInterval=500\ntransactionTimeOut=1000\n";
    let slave = group.add(Whose::Ferrocket, &format!("{WAITS}{SLAVE}{asks}")).unwrap();
    wait_for_slave(&group, java, slave);
    wait_for("the slave to remove the deleted topic's queues", || {
        let frame = Link::to(&group.broker(slave)).request(&GetMaxOffset { topic: "Deleted", queue_id: 0 }, &[]);
        let reply: OffsetReply = Header::decode(&frame).unwrap().read().unwrap();
        (reply.offset == 0).then_some(())
    });
    migrations_fail(&mut client, &mut group, java, slave);
    for (producer, poll) in [("undisturbed", "0"), ("quick", "1000")] {
        client.call(&["Steady", "start", producer, &server, "Orders", poll]);
        wait_for_sends(&mut client, producer);
    }
    let due = leave_under_way(&mut client, &server, &group.broker(java), version);
    let stop = format!("kill {}", group.pid(java).as_raw_nonzero());
    let mut migration = Migration(migrate(&group.broker(slave), &stop).stdout(Stdio::piped()).spawn().unwrap());
    let told = BufReader::new(migration.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let held = told.take_while(|line| !line.starts_with("done")).find(|line| line.contains("leads to"));
    let held = held.expect("migrate says that it forwards");
    group.kill(java);
    wait_for_sends(&mut client, "undisturbed");
    let [_, _, gap] = count(&mut client, "undisturbed");
    println!("Java {version} to Ferrocket: {held}");
    let mut sent: BTreeSet<String> = client.bodies(&["Steady", "stop", "default"]).into_iter().collect();
    sent.extend(client.bodies(&["Steady", "stop", "undisturbed"]));
    wait_for_all(&mut client, "readers", &sent);
    what_was_under_way_arrives(&mut client, &server, &group.broker(slave), version, due);
    let topics = group.admin(&["topicList", "-n", &server]);
    assert!(topics.contains("Orders") && !topics.contains("Deleted"), "{topics}");
    // Who has looked for the new address needs the old one no more.
    wait_for_sends(&mut client, "quick");
    drop(migration);
    wait_for_sends(&mut client, "quick");
    println!("{} messages acknowledged, all consumed; the longest time without one was {gap} ms", sent.len());
    assert!(gap < 30_000);
}

#[test]
fn a_java_broker_4_9_4_is_replaced() {
    a_java_broker_is_replaced("4.9.4", Whose::Ferrocket);
}

#[test]
fn a_java_broker_5_4_0_is_replaced() {
    a_java_broker_is_replaced("5.4.0", Whose::Java("5.4.0"));
}

/// A setting of a longer run.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Kills a master and promotes its slave. Gives the ms from the command until a message was taken.
fn take_over(client: &mut Client, group: &mut Group, master: usize, slave: usize) -> u128 {
    wait_for_slave(group, master, slave);
    group.kill(master);
    std::thread::sleep(Duration::from_secs(variable("PROMOTE_WAIT_S", 0)));
    let address = group.broker(slave);
    let commanded = wait_for("the promotion", || {
        let at = Instant::now();
        let said = group.admin(&["promoteSlave", "-b", &address, "-r", "SYNC_MASTER"]);
        said.contains("is the master of its group").then_some(at)
    });
    let [before, _, _] = count(client, "steady");
    wait_for("a message to be taken", || (count(client, "steady")[0] > before).then_some(()));
    commanded.elapsed().as_millis()
}

/// More than the short form: PROMOTE_ROUNDS, PROMOTE_GROUPS (pairs of brokers), PROMOTE_POLL_MS (the producer's
/// pollNameServerInterval; 0 for its default of 30 s), PROMOTE_WAIT_S (between a death and the command).
#[test]
fn slaves_take_over_from_masters_that_die() {
    let Some(mut client) = java_client("4.9.4") else { return };
    let (rounds, pairs) = (variable("PROMOTE_ROUNDS", 2), variable("PROMOTE_GROUPS", 1));
    let mut group = Group::start();
    let brokers: Vec<[usize; 2]> = (0..pairs)
        .map(|number| {
            let settings = [format!("brokerName=b{number}\nbrokerRole=SYNC_MASTER\n"), format!("brokerName=b{number}\n{SLAVE}")];
            settings.map(|settings| group.add(Whose::Ferrocket, &settings).unwrap())
        })
        .collect();
    let (server, [mut master, mut slave]) = (group.name_server(), brokers[0]);
    group.admin(&["updateTopic", "-c", "DefaultCluster", "-n", &server, "-t", "Orders", "-r", "4", "-w", "4"]);
    let poll = variable("PROMOTE_POLL_MS", 1000).to_string();
    client.call(&["Steady", "start", "steady", &server, "Orders", &poll]);
    let mut times = Vec::new();
    for _ in 0..rounds {
        wait_for_sends(&mut client, "steady");
        times.push(take_over(&mut client, &mut group, master, slave));
        group.launch(master);
        (master, slave) = (slave, master);
    }
    wait_for_sends(&mut client, "steady");
    let sent: BTreeSet<String> = client.bodies(&["Steady", "stop", "steady"]).into_iter().collect();
    assert!(!sent.is_empty());
    client.call(&["push", &server, "readers", "Orders", "*", "0"]);
    wait_for_all(&mut client, "readers", &sent);
    println!(
        "{pairs} pairs, pollNameServerInterval {poll}: {} acknowledged, none lost; ms until a message was taken: {times:?}",
        sent.len()
    );
}
