//! A running Java broker is replaced while clients send and consume, and masters die while they do.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::{Client, Group, Whose, binary, java_client, wait_for};

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

fn a_java_broker_is_replaced(version: &'static str) {
    let Some(mut client) = java_client(version) else { return };
    let mut group = Group::start();
    let Some(java) = group.add(Whose::Java(version), "brokerName=a\nbrokerRole=ASYNC_MASTER\n") else { return };
    let server = group.name_server();
    group.admin(&["updateTopic", "-b", &group.broker(java), "-n", &server, "-t", "Orders", "-r", "4", "-w", "4"]);
    client.call(&["push", &server, "readers", "Orders", "*", "0"]);
    client.call(&["Steady", "start", "default", &server, "Orders", "0"]);
    wait_for_sends(&mut client, "default");
    let slave = group.add(Whose::Ferrocket, &format!("brokerName=a\n{SLAVE}")).unwrap();
    migrations_fail(&mut client, &mut group, java, slave);
    for (producer, poll) in [("undisturbed", "0"), ("quick", "1000")] {
        client.call(&["Steady", "start", producer, &server, "Orders", poll]);
        wait_for_sends(&mut client, producer);
    }
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
    // Who has looked for the new address needs the old one no more.
    wait_for_sends(&mut client, "quick");
    drop(migration);
    wait_for_sends(&mut client, "quick");
    println!("{} messages acknowledged, all consumed; the longest time without one was {gap} ms", sent.len());
    assert!(gap < 30_000);
}

#[test]
fn a_java_broker_4_9_4_is_replaced() {
    a_java_broker_is_replaced("4.9.4");
}

#[test]
fn a_java_broker_5_4_0_is_replaced() {
    a_java_broker_is_replaced("5.4.0");
}

/// A setting of a longer run.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Kills a master and promotes its slave. Gives the ms from the command until a message was taken.
fn take_over(client: &mut Client, group: &mut Group, master: usize, slave: usize) -> u128 {
    let end = group.end(master);
    wait_for("the slave to follow", || {
        let status = group.status(slave);
        (status["follows"] == "true" && status["commitLogMaxOffset"].parse::<u64>().unwrap() >= end).then_some(())
    });
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
