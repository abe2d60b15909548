//! Where groups begin, who of them gets what, and what becomes of messages that they can't handle; and programs of the days
//! of client 3.2.6.

use tests::{Client, Server, Setup, admin, java_client, wait_for, wait_for_route};

const OLD: usize = 5;

fn send(client: &mut Client, server: &str, topic: &str, body: &str) -> Vec<String> {
    client.call(&["send", server, topic, "TagA", body])
}

/// What an instance has seen, once it is `count` messages.
fn seen(client: &mut Client, instance: &str, count: usize) -> Vec<String> {
    wait_for(&format!("{instance} to see {count} messages"), || {
        let mut bodies = client.bodies(&["Groups", "seen", instance]);
        bodies.sort();
        (bodies.len() >= count).then_some(bodies)
    })
}

/// A group without offsets begins with the first message of a topic whose start is still in memory, wherever it asks to
/// begin: Java's broker answers 0. Broadcasting consumers ask nobody.
fn groups_begin_where_java_has_them_begin(client: &mut Client, server: &str) {
    for n in 0..OLD {
        send(client, server, "Old", &format!("old-{n}"));
    }
    wait_for_route(server, "Old");
    let all: Vec<String> = (0..OLD).map(|n| format!("old-{n}@0@Old")).collect();
    for from in ["LAST_OFFSET", "FIRST_OFFSET", "TIMESTAMP"] {
        client.call(&["Groups", "start", server, &format!("clustering-{from}"), from, "Old", from, "CLUSTERING"]);
        assert_eq!(seen(client, from, OLD), all, "{from}");
        client.call(&["Groups", "stop", from]);
    }
    for (instance, from) in [("one", "FIRST_OFFSET"), ("two", "FIRST_OFFSET"), ("late", "LAST_OFFSET")] {
        client.call(&["Groups", "start", server, "broadcasting", instance, "Old", from, "BROADCASTING"]);
    }
    // All of the messages for each of them; the one that begins with the last gets what comes when it has begun.
    assert_eq!((seen(client, "one", OLD), seen(client, "two", OLD)), (all.clone(), all.clone()));
    let mut fresh = 0;
    wait_for("the last consumer to have begun", || {
        send(client, server, "Old", &format!("fresh-{fresh}"));
        fresh += 1;
        let late = client.bodies(&["Groups", "seen", "late"]);
        (!late.is_empty()).then_some(())
    });
    let late = seen(client, "late", 1);
    assert!(late.iter().all(|body| body.starts_with("fresh-")), "{late:?}");
    for instance in ["one", "two"] {
        assert_eq!(seen(client, instance, OLD + fresh).len(), OLD + fresh);
        client.call(&["Groups", "stop", instance]);
    }
    client.call(&["Groups", "stop", "late"]);
}

/// What `ferrocket admin` prints of the first message of a topic's first queue.
fn first_message(server: &str, topic: &str) -> String {
    let arguments = ["queryMsgByOffset", "-n", server, "-t", topic, "-b", "broker-a", "-i", "0", "-o", "0"];
    admin(&arguments)
}

fn messages_that_always_fail_become_dead_letters(client: &mut Client, server: &str) {
    let sent = send(client, server, "Bad", "bad");
    wait_for_route(server, "Bad");
    // A client learns of its group's retry topic when it starts or half a minute later; the first start makes it.
    client.call(&["Groups", "start", server, "dead", "first", "Old", "LAST_OFFSET", "CLUSTERING"]);
    client.call(&["Groups", "stop", "first"]);
    wait_for_route(server, "%RETRY%dead");
    client.call(&["Groups", "start", server, "dead", "failing", "Bad", "FIRST_OFFSET", "CLUSTERING", "2"]);
    // The client shows a message that comes again under its own topic.
    assert_eq!(seen(client, "failing", 3), ["bad@0@Bad", "bad@1@Bad", "bad@2@Bad"]);
    wait_for_route(server, "%DLQ%dead");
    wait_for("the dead letter", || (client.bodies(&["pullAll", server, "undertaker", "%DLQ%dead"]) == ["bad"]).then_some(()));
    client.call(&["Groups", "stop", "failing"]);
    let dead = first_message(server, "%DLQ%dead");
    for part in [&sent[1], "RETRY_TOPIC=Bad"] {
        assert!(dead.contains(part), "no {part:?} in:\n{dead}");
    }
    let times = dead.lines().find_map(|line| line.strip_prefix("Reconsume Times:")).map(str::trim);
    assert_eq!(times, Some("3"), "{dead}");
}

/// An ordered consumer keeps its queue waiting for a message that fails, and gives it up to the dead letters.
fn ordered_messages_that_always_fail_become_dead_letters(client: &mut Client, server: &Server) {
    let address = server.name_server();
    let arguments = ["updateTopic", "-n", &address, "-c", "DefaultCluster", "-t", "bad", "-r", "1", "-w", "1"];
    admin(&arguments);
    let file = server.directory.path().join("events");
    let path = file.display().to_string();
    client.call(&["Orderly", "start", &address, "strict", "strict", "bad", &path, "0", "300", "2"]);
    client.call(&["Orderly", "send", &address, "bad", "0", "2", "1"]);
    wait_for("both messages to be given up", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (text.matches("fail strict bad/0/1").count() == 3).then_some(())
    });
    wait_for_route(&address, "%DLQ%strict");
    wait_for("the dead letters", || {
        (client.bodies(&["pullAll", &address, "undertaker", "%DLQ%strict"]) == ["bad/0/0", "bad/0/1"]).then_some(())
    });
    client.call(&["Orderly", "stop", "strict"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let failed: Vec<(&str, i64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("fail strict ")?.split_once(' '))
        .map(|(body, at)| (body, at.parse().unwrap()))
        .collect();
    let expected = [["bad/0/0"; 3], ["bad/0/1"; 3]].concat();
    assert_eq!(failed.iter().map(|(body, _)| *body).collect::<Vec<_>>(), expected);
    for pair in failed.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[1].1 - pair[0].1 >= 300, "the queue was not suspended: {failed:?}");
    }
}

fn all_groups(mut client: Client) {
    let settings = "brokerName=broker-a\nmessageDelayLevel=1s 1s 1s 1s 1s 1s\n";
    let server = Server::start(Setup { broker: settings.into() });
    let address = server.name_server();
    let offsets = server.directory.path().join("offsets").display().to_string();
    client.call(&["property", "rocketmq.client.localOffsetStoreDir", &offsets]);
    client.call(&["producer", &address, "producers"]);
    groups_begin_where_java_has_them_begin(&mut client, &address);
    messages_that_always_fail_become_dead_letters(&mut client, &address);
    ordered_messages_that_always_fail_become_dead_letters(&mut client, &server);
    client.call(&["stop", &address]);
}

#[test]
fn java_4_9_4() {
    java_client("4.9.4").into_iter().for_each(all_groups);
}

#[test]
fn java_5_4_0() {
    java_client("5.4.0").into_iter().for_each(all_groups);
}

/// A producer whose transactions commit, one of them only when its listener is asked, and a loop over every queue that meets
/// all four statuses of a pull.
#[test]
fn programs_of_java_3_2_6() {
    let Some(mut client) = java_client("3.2.6") else { return };
    let settings = "transactionTimeOut=2000\ntransactionCheckInterval=500\n";
    let server = Server::start(Setup { broker: settings.into() });
    let address = server.name_server();
    client.call(&["OldTransaction", "start", &address, "payers"]);
    let mut sent = Vec::new();
    for round in 0..3 {
        for topic in ["TopicOne", "TopicTwo", "TopicThree"] {
            let local = if round == 1 { "unknown" } else { "commit" };
            let body = format!("{local}-commit-{round}");
            assert_eq!(client.call(&["OldTransaction", "send", &address, topic, &body])[0], "SEND_OK");
            if topic == "TopicOne" {
                sent.push(body);
            }
        }
    }
    sent.sort();
    for topic in ["TopicOne", "TopicTwo", "TopicThree"] {
        wait_for_route(&address, topic);
        wait_for(&format!("the transactions of {topic}"), || {
            let answer = client.call(&["PullStatuses", &address, "readers", topic, "*", "0"]);
            let mut bodies: Vec<_> = answer[0].split(',').filter(|b| !b.is_empty()).map(str::to_owned).collect();
            bodies.sort();
            (bodies == sent).then_some(())
        });
    }
    let questions = client.bodies(&["OldTransaction", "questions", &address]);
    assert!(questions.iter().all(|body| body == "unknown-commit-1") && questions.len() >= 3, "{questions:?}");

    // By queue: what it was told, and where it ended.
    let mut paths = |expression: &str, from: &str| {
        let answer = client.call(&["PullStatuses", &address, "readers", "TopicOne", expression, from]);
        let mut paths: Vec<_> = answer[1].split(',').map(|path| path.rsplit_once(' ').unwrap().0.to_owned()).collect();
        paths.sort();
        paths.dedup();
        paths
    };
    let found = paths("*", "0");
    assert!(found.contains(&"FOUND NO_NEW_MSG".to_owned()), "{found:?}");
    let unmatched = paths("TagB", "0");
    assert!(unmatched.contains(&"NO_MATCHED_MSG NO_NEW_MSG".to_owned()), "{unmatched:?}");
    let beyond = paths("*", "1000");
    assert!(beyond.contains(&"OFFSET_ILLEGAL NO_NEW_MSG".to_owned()), "{beyond:?}");
    client.call(&["OldTransaction", "stop", &address]);
}
