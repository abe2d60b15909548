//! What clients of today can do beyond sending and consuming: SQL92 filters, request and reply, compression, message
//! traces, namespaces, unit mode. Each client version runs all of it in one process.

use std::collections::BTreeSet;

use tests::{Client, Server, Setup, admin, go_client, java_client, set, try_admin, wait_for, wait_for_route};

const SETTINGS: &str = "enablePropertyFilter=true\ntraceTopicEnable=true\nmessageDelayLevel=1s 1s 1s 1s\n";
const TRACES: &str = "RMQ_SYS_TRACE_TOPIC";

/// What a group has consumed when it has stopped, once that is so much.
fn consumed(client: &mut Client, group: &str, count: usize) -> Vec<String> {
    client.call(&["poll", group, &count.to_string()]);
    client.bodies(&["stopPush", group])
}

fn properties_are_filtered(client: &mut Client, server: &str) {
    for n in 0..12 {
        let properties = format!("colour={},size={n}", ["red", "green", "blue"][n % 3]);
        client.call(&["Features", "sendWith", server, "Shapes", &properties, &format!("shape-{n}")]);
    }
    wait_for_route(server, "Shapes");
    let expression = "colour = 'red' AND size BETWEEN 3 AND 7 OR colour STARTSWITH 'bl' AND NOT (size < 8)";
    client.call(&["Features", "push", server, "group-sql", "Shapes", expression, "0", "sql"]);
    let got = client.bodies(&["poll", "group-sql", "4"]);
    assert_eq!(set(&got), BTreeSet::from(["shape-3", "shape-6", "shape-8", "shape-11"]));
    // Pulls wait by now; only what matches is to end their waiting.
    for (properties, body) in
        [("colour=red,size=many", "no number"), ("colour=red,size=2", "too small"), ("colour=blue,size=9", "late")]
    {
        client.call(&["Features", "sendWith", server, "Shapes", properties, body]);
    }
    let got = consumed(client, "group-sql", 5);
    assert_eq!((got.len(), got[4].as_str()), (5, "late"), "{got:?}");
}

/// Java's consumers ask before they start; Go's do not, and get nothing.
fn bad_expressions_are_refused(client: &mut Client, server: &str) {
    let asks = client.name.starts_with("java");
    let started = client.try_call(&["Features", "push", server, "group-bad", "Shapes", "colour = = 'red'", "0", "sql"]);
    match started {
        Ok(_) => assert!(!asks, "a bad expression was taken"),
        Err(error) => assert!(asks && error.contains("CODE: 23") && error.contains("at position 9"), "{error}"),
    }
    client.call(&["Features", "push", server, "group-good", "Shapes", "size >= 0", "0", "sql"]);
    assert_eq!(consumed(client, "group-good", 14).len(), 14);
    if !asks {
        assert_eq!(client.bodies(&["stopPush", "group-bad"]), Vec::<String>::new());
    }
}

/// "Aa" and "BB" have the same hash code, by which brokers compare tags: the consumer sorts out what it did not ask for.
fn colliding_tags_are_sorted_out(client: &mut Client, server: &str) {
    for n in 0..4 {
        client.call(&["send", server, "Collisions", "BB", &format!("BB-{n}")]);
        client.call(&["send", server, "Collisions", "Aa", &format!("Aa-{n}")]);
    }
    wait_for_route(server, "Collisions");
    client.call(&["push", server, "group-collisions", "Collisions", "Aa", "0"]);
    let got = consumed(client, "group-collisions", 4);
    assert_eq!((got.len(), set(&got)), (4, BTreeSet::from(["Aa-0", "Aa-1", "Aa-2", "Aa-3"])));
}

/// Requests are answered; copies of the replies are stored.
fn requests_are_answered(client: &mut Client, server: &str) {
    client.call(&["send", server, "Questions", "TagA", "this makes the topic"]);
    wait_for_route(server, "Questions");
    client.call(&["Features", "producer", server, "answering", "answerers", "-"]);
    client.call(&["Features", "replier", server, "group-replier", "Questions", "answering"]);
    // A producer whose first message is a request tells the broker of itself before; others may do so half a minute later.
    client.call(&["Features", "producer", server, "asking", "askers", "-"]);
    // 4.9.4's request that waits gives its own message back.
    let request = if client.name == "java-4.9.4" { "requestAsync" } else { "request" };
    // Requests that are sent before the consumer has its queues are nobody's.
    wait_for("the first reply", || client.try_call(&["Features", request, "asking", "Questions", "are you there"]).ok());
    for n in 0..5 {
        let question = format!("question {n}");
        assert_eq!(client.call(&["Features", request, "asking", "Questions", &question]), [format!("reply to {question}")]);
    }
    client.call(&["push", server, "group-copies", "DefaultCluster_REPLY_TOPIC", "*", "0"]);
    wait_for("copies of the replies", || {
        let copies = client.bodies(&["poll", "group-copies", "0"]);
        (0..5).all(|n| copies.contains(&format!("reply to question {n}"))).then_some(())
    });
    client.call(&["stopPush", "group-copies"]);
    client.call(&["stop", "answering"]);
    client.call(&["stop", "asking"]);
}

/// Compressed messages of all kinds and batches in one topic come out as they went in.
fn compressed_messages_and_batches_mix(client: &mut Client, server: &str) {
    let mut sent: Vec<String> = Vec::new();
    let long = |name: &str| format!("{name}-{}", "x".repeat(5000));
    if client.name.starts_with("java") {
        for (kind, flags) in [("ZLIB", 0x300), ("LZ4", 0x100), ("ZSTD", 0x200)] {
            client.call(&["property", "rocketmq.message.compressType", kind]);
            client.call(&["Features", "producer", server, kind, kind, "-"]);
            let answer = client.call(&["Features", "sysFlag", kind, "Compressed", &long(kind)]);
            // Newer clients take the bit 1, for "compressed", away when they decompress.
            assert_eq!((answer[0].parse::<i32>().unwrap() & !1, answer[1].as_str()), (flags, "true"), "{kind}");
            client.call(&["SendBatch", kind, "Compressed", "TagB", &format!("{kind}-batch-"), "3"]);
            client.call(&["stop", kind]);
            sent.push(long(kind));
            sent.extend((0..3).map(|n| format!("{kind}-batch-{n}")));
        }
    } else {
        client.call(&["send", server, "Compressed", "TagA", &long("go")]);
        client.call(&["SendBatch", server, "Compressed", "TagB", "go-batch-", "3"]);
        sent.push(long("go"));
        sent.extend((0..3).map(|n| format!("go-batch-{n}")));
    }
    wait_for_route(server, "Compressed");
    client.call(&["push", server, "group-compressed", "Compressed", "*", "0"]);
    let got = consumed(client, "group-compressed", sent.len());
    assert_eq!((got.len(), set(&got)), (sent.len(), set(&sent)));
}

/// Producer and consumer write what they did into the trace topic.
fn traces_arrive(client: &mut Client, server: &str) {
    client.call(&["Features", "producer", server, "traced", "traced-producers", "trace"]);
    for n in 0..3 {
        client.call(&["send", "traced", "Traced", "TagA", &format!("traced-{n}")]);
    }
    wait_for_route(server, "Traced");
    client.call(&["Features", "push", server, "group-traced", "Traced", "*", "0", "trace"]);
    client.call(&["poll", "group-traced", "3"]);
    client.call(&["push", server, "group-trace-reader", TRACES, "*", "0"]);
    let kinds = ["Pub", "SubBefore", "SubAfter"];
    wait_for("the traces", || {
        let bodies = client.call(&["poll", "group-trace-reader", "1"]).remove(0);
        let records: Vec<Vec<&str>> = bodies.split(['\u{2}', ',']).map(|record| record.split('\u{1}').collect()).collect();
        // A send says its topic and success, consuming says the group.
        let about = |record: &Vec<&str>| match record[0] {
            "Pub" => record[4] == "Traced" && record.contains(&"true"),
            _ => record.contains(&"group-traced"),
        };
        let count = |kind: &str| records.iter().filter(|r| r[0] == kind && about(r)).count();
        kinds.iter().all(|kind| count(kind) == 3).then_some(())
    });
    client.call(&["stopPush", "group-trace-reader"]);
    client.call(&["stopPush", "group-traced"]);
    client.call(&["stop", "traced"]);
}

/// Topics and groups of a namespace are others than those without, down to the retry topic.
fn namespaces_are_apart(client: &mut Client, server: &str) {
    client.call(&["Features", "producer", server, "spaced", "spaced-producers", "namespace=ns"]);
    client.call(&["send", server, "Spaced", "TagA", "outside"]);
    for topic in ["Spaced", "First"] {
        client.call(&["send", "spaced", topic, "TagA", "inside"]);
        wait_for_route(server, &format!("ns%{topic}"));
    }
    // A client learns of its group's retry topic when it starts; the first start makes it.
    client.call(&["Features", "push", server, "group-spaced", "First", "*", "0", "namespace=ns"]);
    consumed(client, "group-spaced", 1);
    wait_for_route(server, "%RETRY%ns%group-spaced");
    client.call(&["Features", "push", server, "group-spaced", "Spaced", "*", "1", "namespace=ns"]);
    assert_eq!(consumed(client, "group-spaced", 1), ["inside@1"]);
    client.call(&["stop", "spaced"]);
    if client.name == "java-5.4.0" {
        client.call(&["Features", "producer", server, "spaced-2", "spaced-producers", "namespaceV2=ns2"]);
        client.call(&["send", "spaced-2", "SpacedV2", "TagA", "inside"]);
        wait_for_route(server, "SpacedV2");
        client.call(&["Features", "push", server, "group-spaced-2", "SpacedV2", "*", "0", "namespaceV2=ns2"]);
        assert_eq!(consumed(client, "group-spaced-2", 1), ["inside"]);
        client.call(&["stop", "spaced-2"]);
    }
}

/// Name servers list the topics that producers and consumers in unit mode have made.
fn unit_mode_is_listed(client: &mut Client, server: &str) {
    client.call(&["Features", "producer", server, "unit", "unit-producers", "unit"]);
    client.call(&["send", "unit", "Units", "TagA", "x"]);
    wait_for_route(server, "Units");
    client.call(&["Features", "push", server, "group-unit", "Units", "*", "0", "unit"]);
    wait_for_route(server, "%RETRY%group-unit");
    consumed(client, "group-unit", 1);
    assert_eq!(client.call(&["Features", "unitTopics", "unit"]), ["Units", "%RETRY%group-unit", "%RETRY%group-unit"]);
    client.call(&["stop", "unit"]);
}

fn failed_messages_become_dead_letters(client: &mut Client, server: &str) {
    client.call(&["send", server, "Bad", "TagA", "bad"]);
    wait_for_route(server, "Bad");
    // As above, the first start makes the retry topic.
    client.call(&["Features", "push", server, "group-dead", "Spaced", "*", "0", "-"]);
    client.call(&["stopPush", "group-dead"]);
    wait_for_route(server, "%RETRY%group-dead");
    client.call(&["Features", "push", server, "group-dead", "Bad", "*", "100", "max=2"]);
    let offset = ["queryMsgByOffset", "-n", server, "-t", "%DLQ%group-dead", "-b", "broker-a", "-i", "0", "-o", "0"];
    let dead = wait_for("the dead letter", || try_admin(&offset).ok().filter(|text| text.contains("Reconsume Times:")));
    let times = dead.lines().find_map(|line| line.strip_prefix("Reconsume Times:")).map(str::trim);
    assert_eq!((times, dead.contains("RETRY_TOPIC=Bad")), (Some("3"), true), "{dead}");
    assert_eq!(client.bodies(&["stopPush", "group-dead"]), Vec::<String>::new());
}

fn all_features(mut client: Client) {
    let server = Server::start(Setup { broker: SETTINGS.into() });
    let address = server.name_server();
    assert!(admin(&["topicList", "-n", &address]).contains(TRACES), "traceTopicEnable makes the topic at the start");
    client.call(&["producer", &address, "producers"]);
    properties_are_filtered(&mut client, &address);
    bad_expressions_are_refused(&mut client, &address);
    colliding_tags_are_sorted_out(&mut client, &address);
    requests_are_answered(&mut client, &address);
    compressed_messages_and_batches_mix(&mut client, &address);
    traces_arrive(&mut client, &address);
    namespaces_are_apart(&mut client, &address);
    // Go's client has no unit mode; dead letters of Java's are in tests/groups/begin.rs.
    match client.name.starts_with("java") {
        true => unit_mode_is_listed(&mut client, &address),
        false => failed_messages_become_dead_letters(&mut client, &address),
    }
    client.call(&["stop", &address]);
}

#[test]
fn java_4_9_4() {
    java_client("4.9.4").into_iter().for_each(all_features);
}

#[test]
fn java_5_4_0() {
    java_client("5.4.0").into_iter().for_each(all_features);
}

#[test]
fn go_2_1_2() {
    go_client("v2.1.2").into_iter().for_each(all_features);
}
