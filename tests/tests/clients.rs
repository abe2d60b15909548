//! Clients that applications use today, unchanged from their registries, against a server of this project.
//!
//! Scenarios are written once; each client version runs all of them in one process.

use std::collections::BTreeSet;

use tests::{Client, Server, Setup, go_client, java_client, set, try_admin, wait_for_route};

/// What a client library can do beyond the least.
#[derive(Clone, Copy)]
struct Abilities {
    batch: bool,
    /// The states of its answers that a pull consumer sees when it reads queues to their end.
    pull: Option<&'static str>,
    view: bool,
    lite_pull: bool,
}

const JAVA_3: Abilities = Abilities { batch: false, pull: Some("FOUND,NO_NEW_MSG"), view: true, lite_pull: false };
const JAVA_4_2: Abilities = Abilities { batch: true, ..JAVA_3 };
const JAVA_4_7: Abilities = Abilities { lite_pull: true, ..JAVA_4_2 };
/// 2.0.0 writes no number of queues into the header of a batch, which Java's broker refuses as well.
const GO_2_0: Abilities = Abilities { batch: false, pull: Some("FOUND"), view: false, lite_pull: false };
const GO_2_1: Abilities = Abilities { batch: true, ..GO_2_0 };

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

fn all_scenarios(mut client: Client, can: Abilities) {
    let mut server = Server::start(Setup { broker: "messageDelayLevel=1s 1s 1s 1s\nflushConsumerOffsetInterval=1000\n".into() });
    let address = server.name_server();
    client.call(&["producer", &address, "producers"]);
    sends_arrive_in_order(&mut client, &address, can);
    tags_are_filtered(&mut client, &address);
    failed_messages_come_again(&mut client, &address);
    committed_offsets_survive_restarts(&mut client, &mut server);
    nothing_is_lost_by_restarts(&mut client, &mut server);
    client.call(&["stop", &address]);
}

/// Every way to send; what a consumer gets is exactly that, and within a queue in the order of its offsets.
fn sends_arrive_in_order(client: &mut Client, server: &str, can: Abilities) {
    let mut expected = Vec::new();
    for body in numbered("sync-", 10) {
        let answer = client.call(&["send", server, "Orders", "TagA", &body]);
        assert_eq!(answer[0], "SEND_OK");
        assert_eq!(answer[1].len(), 32, "an offset message id");
        expected.push(body);
    }
    client.call(&["sendAsync", server, "Orders", "async-", "20"]);
    client.call(&["sendOneway", server, "Orders", "oneway-", "5"]);
    expected.extend(numbered("async-", 20));
    expected.extend(numbered("oneway-", 5));
    if can.batch {
        assert_eq!(client.call(&["SendBatch", server, "Orders", "TagB", "batch-", "7"]), ["SEND_OK", "7"]);
        expected.extend(numbered("batch-", 7));
    }
    wait_for_route(server, "Orders");
    client.call(&["push", server, "group-all", "Orders", "*", "0"]);
    let got = client.bodies(&["poll", "group-all", &expected.len().to_string()]);
    assert_eq!((got.len(), set(&got)), (expected.len(), set(&expected)));
    client.call(&["stopPush", "group-all"]);
    if can.view {
        let sent = client.call(&["send", server, "Orders", "TagA", "viewed"]);
        assert_eq!(client.call(&["view", server, "Orders", &sent[1]]), ["viewed"]);
        expected.push("viewed".into());
    }
    if let Some(states) = can.pull {
        let answer = client.call(&["pullAll", server, "group-pull", "Orders"]);
        let pulled: Vec<String> = answer[0].split(',').map(str::to_owned).collect();
        assert_eq!((pulled.len(), set(&pulled)), (expected.len(), set(&expected)));
        assert_eq!(answer[1], states);
    }
    if can.lite_pull {
        let got = client.bodies(&["LitePull", server, "group-lite", "Orders", &expected.len().to_string()]);
        assert_eq!(set(&got), set(&expected));
    }
}

fn tags_are_filtered(client: &mut Client, server: &str) {
    for n in 0..12 {
        client.call(&["send", server, "Tagged", ["red", "green", "blue"][n % 3], &format!("{n}")]);
    }
    wait_for_route(server, "Tagged");
    client.call(&["push", server, "group-tags", "Tagged", "red || blue", "0"]);
    let got = client.bodies(&["poll", "group-tags", "8"]);
    assert_eq!(set(&got), BTreeSet::from(["0", "2", "3", "5", "6", "8", "9", "11"]));
    assert_eq!(got.len(), 8);
    client.call(&["stopPush", "group-tags"]);
}

fn failed_messages_come_again(client: &mut Client, server: &str) {
    for topic in ["Retried", "Other"] {
        client.call(&["send", server, topic, "TagA", "again"]);
        wait_for_route(server, topic);
    }
    // A client learns of its group's retry topic when it starts or half a minute later; the first start makes it.
    client.call(&["push", server, "group-retry", "Other", "*", "0"]);
    client.call(&["stopPush", "group-retry"]);
    wait_for_route(server, "%RETRY%group-retry");
    client.call(&["push", server, "group-retry", "Retried", "*", "2"]);
    assert_eq!(client.bodies(&["poll", "group-retry", "1"]), ["again@2"]);
    client.call(&["stopPush", "group-retry"]);
}

/// A group goes on where it was: after a clean stop exactly there, after a kill where it was when the broker last wrote
/// the offsets to disk.
fn committed_offsets_survive_restarts(client: &mut Client, server: &mut Server) {
    consume_fresh(client, server, "first", &[]);
    server.stop();
    server.start_again();
    consume_fresh(client, server, "second", &[]);
    tests::wait_for("the offsets to be on disk", || (saved_offsets(server) == 20).then_some(()));
    let third = consume_fresh(client, server, "third", &[]);
    server.kill();
    server.start_again();
    consume_fresh(client, server, "fourth", &third);
}

/// Sends ten messages, and consumes and commits them: all of them come, and of the earlier ones at most `again`.
fn consume_fresh(client: &mut Client, server: &Server, round: &str, again: &[String]) -> Vec<String> {
    let address = server.name_server();
    let fresh = numbered(round, 10);
    for body in &fresh {
        // The client may need a moment to find the broker again after a restart.
        tests::wait_for("a send to succeed", || client.try_call(&["send", &address, "Progress", "TagA", body]).ok());
    }
    wait_for_route(&address, "Progress");
    client.call(&["push", &address, "group-progress", "Progress", "*", "0"]);
    tests::wait_for("the messages of this round", || {
        let got = client.bodies(&["poll", "group-progress", "0"]);
        fresh.iter().all(|body| got.contains(body)).then_some(())
    });
    tests::wait_for("the commit", || {
        client.call(&["commit", "group-progress"]);
        let text = try_admin(&["consumerProgress", "-n", &address, "-g", "group-progress"]).unwrap_or_default();
        (text.contains("\nProgress ") && text.contains("Diff Total: 0\n")).then_some(())
    });
    let got = client.bodies(&["stopPush", "group-progress"]);
    let old: Vec<_> = got.iter().filter(|body| !fresh.contains(body) && !again.contains(body)).collect();
    assert!(old.is_empty(), "consumed and committed before, and here again in round {round}: {old:?}");
    fresh
}

/// The sum of the offsets of `group-progress` in the file that the broker writes from time to time.
fn saved_offsets(server: &Server) -> u64 {
    let text = std::fs::read_to_string(server.data().join("store/config/consumerOffset.json")).unwrap_or_default();
    let Some((_, rest)) = text.split_once("\"Progress@group-progress\":{") else { return 0 };
    let (queues, _) = rest.split_once('}').unwrap();
    queues.split(',').map(|queue| queue.rsplit(':').next().unwrap().trim().parse::<u64>().unwrap()).sum()
}

/// A clean stop and a kill: what was acknowledged is there, and a group goes on where it was.
fn nothing_is_lost_by_restarts(client: &mut Client, server: &mut Server) {
    let address = server.name_server();
    let mut sent = Vec::new();
    for (round, killed) in [(0, false), (1, true), (2, true)] {
        let fresh = numbered(&format!("round-{round}-"), 10);
        for body in &fresh {
            // The client may need a moment to find the broker again after a restart.
            tests::wait_for("a send to succeed", || client.try_call(&["send", &address, "Kept", "TagA", body]).ok());
        }
        sent.extend(fresh.clone());
        wait_for_route(&address, "Kept");
        let group = format!("group-kept-{round}");
        client.call(&["push", &address, &group, "Kept", "*", "0"]);
        let got = client.bodies(&["poll", &group, &sent.len().to_string()]);
        let missing: Vec<_> = sent.iter().filter(|body| !got.contains(body)).collect();
        assert!(missing.is_empty(), "lost in round {round}: {missing:?}");
        client.call(&["stopPush", &group]);
        if killed {
            server.kill()
        } else {
            server.stop()
        }
        server.start_again();
    }
}

macro_rules! versions {
    ($($name:ident: $client:ident($version:literal), $abilities:expr;)*) => {$(
        #[test]
        fn $name() {
            $client($version).into_iter().for_each(|client| all_scenarios(client, $abilities));
        }
    )*};
}

versions! {
    java_3_2_6: java_client("3.2.6"), JAVA_3;
    java_4_2_0: java_client("4.2.0"), JAVA_4_2;
    java_4_7_1: java_client("4.7.1"), JAVA_4_7;
    java_4_9_4: java_client("4.9.4"), JAVA_4_7;
    java_5_4_0: java_client("5.4.0"), JAVA_4_7;
    go_2_0_0: go_client("v2.0.0"), GO_2_0;
    go_2_1_2: go_client("v2.1.2"), GO_2_1;
}
