//! Groups are moved while their consumers run, and go on where another group is.

use tests::{Client, Server, Setup, admin, go_client, java_client, try_admin, wait_for, wait_for_route};

fn times(bodies: &[String], body: &str) -> usize {
    bodies.iter().filter(|one| *one == body).count()
}

/// Consumers go back to the start and to the end, and a clone of the group goes on where the group is.
fn groups_move(mut client: Client) {
    let server = Server::start(Setup::default());
    let address = server.name_server();
    let n = address.as_str();
    client.call(&["producer", n, "producers"]);
    let bodies: Vec<String> = (0..8).map(|nth| format!("m{nth}")).collect();
    for body in &bodies {
        client.call(&["send", n, "Moved", "tag", body]);
    }
    wait_for_route(n, "Moved");
    client.call(&["push", n, "movers", "Moved", "*", "0"]);
    assert_eq!(client.bodies(&["poll", "movers", "8"]).len(), 8);
    let status = admin(&["consumerStatus", "-n", n, "-g", "movers", "--json"]);
    assert!(status.contains("PROP_CONSUME_TYPE") && status.contains("\"topic\": \"Moved\""), "{status}");
    let moved = admin(&["resetOffsetByTime", "-n", n, "-g", "movers", "-t", "Moved", "-s", "0"]);
    assert_eq!(moved.lines().filter(|line| line.starts_with("broker-a") && line.trim_end().ends_with('0')).count(), 4, "{moved}");
    // The client waits ten seconds before it takes its queues up again.
    wait_for("every message a second time", || {
        let got = client.bodies(&["poll", "movers", "0"]);
        bodies.iter().all(|body| times(&got, body) >= 2).then_some(())
    });
    wait_for("the group to be at the end again", || {
        client.call(&["commit", "movers"]);
        let progress = admin(&["consumerProgress", "-n", n, "-g", "movers", "-t", "Moved"]);
        progress.contains("Diff Total: 0\n").then_some(())
    });
    client.call(&["send", n, "Moved", "tag", "after the reset"]);
    let got = client.bodies(&["poll", "movers", "17"]);
    assert_eq!(times(&got, "after the reset"), 1, "{got:?}");
    wait_for("the commit", || {
        client.call(&["commit", "movers"]);
        admin(&["consumerProgress", "-n", n, "-g", "movers", "-t", "Moved"]).contains("Diff Total: 0\n").then_some(())
    });
    client.call(&["stopPush", "movers"]);
    admin(&["cloneGroupOffset", "-n", n, "-s", "movers", "-d", "clones", "-t", "Moved"]);
    client.call(&["send", n, "Moved", "tag", "for the clones"]);
    client.call(&["push", n, "clones", "Moved", "*", "0"]);
    assert_eq!(client.bodies(&["poll", "clones", "1"]), ["for the clones"]);
    client.call(&["stopPush", "clones"]);
    client.call(&["send", n, "Moved", "tag", "skipped"]);
    let skipped = admin(&["skipAccumulatedMessage", "-n", n, "-g", "clones", "-t", "Moved"]);
    assert!(skipped.contains("#offset"), "{skipped}");
    let progress = admin(&["consumerProgress", "-n", n, "-g", "clones", "-t", "Moved"]);
    assert!(progress.contains("Diff Total: 0\n"), "{progress}");
}

#[test]
fn java_4_9_4_is_moved_by_the_broker() {
    java_client("4.9.4").into_iter().for_each(groups_move);
}

#[test]
fn java_5_4_0_is_moved_by_the_broker() {
    let Some(mut client) = java_client("5.4.0") else { return };
    // Its heartbeats leave out what the broker knows.
    client.call(&["property", "com.rocketmq.heartbeat.v2", "true"]);
    groups_move(client);
}

#[test]
fn java_4_9_4_is_told_to_move() {
    java_client("4.9.4").into_iter().for_each(is_told);
}

#[test]
fn go_2_1_2_is_moved_by_the_broker() {
    go_client("v2.1.2").into_iter().for_each(groups_move);
}

/// Two processes under one client id take each other's queues, so that nobody consumes some: people are told.
#[test]
fn two_live_processes_with_one_client_id_are_shown() {
    let (Some(mut old), Some(mut new)) = (java_client("4.9.4"), java_client("5.4.0")) else { return };
    let server = Server::start(Setup::default());
    let address = server.name_server();
    let n = address.as_str();
    old.call(&["producer", n, "producers"]);
    old.call(&["send", n, "Shared", "tag", "m"]);
    wait_for_route(n, "Shared");
    let connections = || admin(&["consumerConnection", "-n", n, "-g", "twins"]);
    old.call(&["push", n, "twins", "Shared", "*", "0"]);
    assert!(!connections().contains("WARN"));
    new.call(&["push", n, "twins", "Shared", "*", "0"]);
    wait_for("the warning", || connections().contains("WARN: 2 connections call themselves").then_some(()));
    // The first may have dialled anew, until it is heard of again.
    let status = || admin(&["brokerStatus", "-n", n, "-c", "DefaultCluster"]);
    wait_for("the broker to say so", || {
        status().lines().any(|line| line.contains("duplicateClientIds") && line.contains("@twins")).then_some(())
    });
    old.call(&["stopPush", "twins"]);
    assert!(!connections().contains("WARN"));
}

/// As brokers before 5.0 do it: the consumer moves, and commits.
fn is_told(mut client: Client) {
    let server = Server::start(Setup { broker: "useServerSideResetOffset=false\n".into() });
    let address = server.name_server();
    let n = address.as_str();
    client.call(&["producer", n, "producers"]);
    client.call(&["send", n, "Moved", "tag", "again"]);
    wait_for_route(n, "Moved");
    client.call(&["push", n, "movers", "Moved", "*", "0"]);
    assert_eq!(client.bodies(&["poll", "movers", "1"]), ["again"]);
    let reset = ["resetOffsetByTime", "-n", n, "-g", "movers", "-t", "Moved", "-s", "0"];
    // Queues without a message have no offset before the consumer commits them.
    wait_for("the reset", || {
        client.call(&["commit", "movers"]);
        try_admin(&reset).ok()
    });
    assert_eq!(client.bodies(&["poll", "movers", "2"]), ["again", "again"]);
    client.call(&["stopPush", "movers"]);
    let committed = admin(&reset);
    assert!(committed.contains("#resetOffset"), "nobody is online any more: {committed}");
}

/// The pull consumer of old has four answers; that its group was moved it hears as an offset that is none.
#[test]
fn java_3_2_6_pulls_and_is_moved() {
    let Some(mut client) = java_client("3.2.6") else { return };
    let server = Server::start(Setup::default());
    let address = server.name_server();
    let n = address.as_str();
    wait_for("the broker to be known", || admin(&["clusterList", "-n", n]).contains("broker-a").then_some(()));
    admin(&["updateTopic", "-n", n, "-c", "DefaultCluster", "-t", "Pulled", "-r", "1", "-w", "1"]);
    wait_for_route(n, "Pulled");
    client.call(&["producer", n, "producers"]);
    (0..3).for_each(|nth| drop(client.call(&["send", n, "Pulled", "tag", &format!("m{nth}")])));
    let mut pull = |expression: &str, offset: &str| client.call(&["pullAt", n, "pullers", "Pulled", expression, offset]);
    assert_eq!(pull("*", "0"), ["FOUND", "3"]);
    assert_eq!(pull("other", "0"), ["NO_MATCHED_MSG", "3"]);
    assert_eq!(pull("*", "3"), ["NO_NEW_MSG", "3"]);
    assert_eq!(pull("*", "40"), ["OFFSET_ILLEGAL", "3"]);
    admin(&["resetOffsetByTime", "-n", n, "-g", "pullers", "-t", "Pulled", "-s", "0"]);
    assert_eq!(pull("*", "3"), ["OFFSET_ILLEGAL", "0"]);
    assert_eq!(pull("*", "0"), ["FOUND", "3"]);
}
