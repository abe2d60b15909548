//! mqadmin's commands for groups, their offsets and consumers: Java's tool and this project's, against both servers.

use std::process::Command;

use tempfile::TempDir;
use tests::{Client, Exchange, JAVA, Link, Server, Setup, binary, java_client, java_mqadmin, wait_for};

const TRACED: &str = "traceTopicEnable=true\n";

/// Both tools, and the server that they are asked about.
struct Both<'a> {
    java: &'a mut Client,
    name_server: String,
    broker: String,
    /// Where files are left.
    directory: TempDir,
}

impl Both<'_> {
    fn run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(binary());
        command.arg("admin").arg(words[0]).args(["-n", &self.name_server]).args(&words[1..]).current_dir(&self.directory);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn ours(&self, words: &[&str]) -> String {
        self.run(words).unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
    }

    fn javas(&mut self, words: &[&str]) -> String {
        let name_server = self.name_server.clone();
        let words = [&[words[0], "-n", &name_server][..], &words[1..]].concat();
        self.java.call(&words)[0].replace("\\n", "\n")
    }

    /// Runs a command with both tools: what `normal` leaves of their outputs is the same. Gives our output.
    fn same(&mut self, words: &[&str], normal: impl Fn(&str) -> Vec<String>) -> String {
        let (ours, javas) = (self.ours(words), self.javas(words));
        assert_eq!(normal(&ours), normal(&javas), "{} at {}", words.join(" "), self.name_server);
        ours
    }
}

/// Lines without blanks at their ends; without empty ones, and what Java's logging library says of itself.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    lines.filter(|line| !line.is_empty() && !line.contains(" |-")).collect()
}

/// Java's hash maps have no order.
fn sorted(text: &str) -> Vec<String> {
    tests::sorted(lines(text))
}

/// Lines with `#` for each number and one blank for several: what does not change with time.
fn shape(text: &str) -> Vec<String> {
    tests::sorted(lines(text).iter().map(|line| without_numbers(line)).collect())
}

fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let hex = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        // An id may begin with a letter.
        let number = match word {
            16.. if rest[..word].chars().all(hex) => word,
            _ => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
        };
        let taken = if number > 0 { number } else { c.len_utf8() };
        match c {
            _ if number > 0 && out.ends_with("#.") => drop(out.pop()),
            _ if number > 0 => out.push('#'),
            ' ' if out.ends_with(' ') => {}
            _ => out.push(c),
        }
        rest = &rest[taken..];
    }
    out.replace("-#", "#").trim_end().to_owned()
}

#[test]
fn both_tools_show_and_move_groups_of_both_servers() {
    let Some(mut client) = java_client("5.4.0") else { return };
    let Some(java) = Exchange::java(JAVA, TRACED) else { return };
    let server = Server::start(Setup { broker: TRACED.into() });
    let brokers =
        [(server.name_server(), format!("127.0.0.1:{}", server.broker_port)), (java.name_server(), java.broker("127.0.0.1"))];
    let own = brokers[0].0.clone();
    let mut begun = Vec::new();
    for (name_server, broker) in brokers {
        let is_own = name_server == own;
        // Some of its commands work once in a virtual machine.
        let mut mqadmin = java_mqadmin().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut both = Both { java: &mut mqadmin, name_server, broker, directory };
        wait_for("the broker to be known", || both.ours(&["clusterList"]).contains("broker-a").then_some(()));
        both.ours(&["updateTopic", "-c", "DefaultCluster", "-t", "Moved", "-r", "1", "-w", "1"]);
        wait_for("the topic's route", || both.ours(&["topicList"]).contains("Moved").then_some(()));
        both.ours(&["sendMessage", "-t", "Moved", "-p", "first", "-k", "k", "-c", "tag"]);
        (1..6).for_each(|nth| drop(both.ours(&["sendMessage", "-t", "Moved", "-p", &format!("m{nth}")])));
        begun.push(new_groups_begin(&mut client, &both));
        let group = format!("movers-{}", u8::from(is_own));
        running_consumers(&mut both, &mut client, &group);
        offline_groups(&mut both, &group);
        queues_and_figures(&mut both, &group);
        topics_and_timing(&mut both);
        dead_letters(&mut both, &group);
        traces(&mut both);
        if !is_own {
            both.same(&["setConsumeMode", "-c", "DefaultCluster", "-t", "Moved", "-g", &group, "-m", "POP", "-q", "2"], lines);
        }
    }
    assert_eq!(begun[0], begun[1], "where new groups begin in an old topic");
}

/// Where groups begin that are new to a topic with messages.
fn new_groups_begin(client: &mut Client, both: &Both<'_>) -> Vec<Vec<String>> {
    let starts = ["CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_LAST_OFFSET", "CONSUME_FROM_TIMESTAMP"];
    let groups: Vec<String> =
        starts.iter().map(|start| format!("{start}-{}", both.name_server.replace([':', '.'], "_"))).collect();
    for (group, start) in groups.iter().zip(starts) {
        client.call(&["push", &both.name_server, group, "Moved", "*", "0", start]);
    }
    wait_for("the new groups to have queues", || {
        let holds =
            |group: &String| both.run(&["consumerProgress", "-g", group, "-s", "true"]).is_ok_and(|p| p.contains("Moved"));
        groups.iter().all(holds).then_some(())
    });
    both.ours(&["sendMessage", "-t", "Moved", "-p", "marker"]);
    let bodies = |group: &String| {
        wait_for("the marker", || {
            // Several threads consume: the order is not that of the queue.
            let mut got = client.bodies(&["poll", group, "0"]);
            got.sort();
            got.contains(&"marker".to_owned()).then_some(got)
        })
    };
    let begun: Vec<Vec<String>> = groups.iter().map(bodies).collect();
    groups.iter().for_each(|group| drop(client.call(&["stopPush", group])));
    begun
}

fn running_consumers(both: &mut Both<'_>, client: &mut Client, group: &str) {
    client.call(&["push", &both.name_server, group, "Moved", "*", "0"]);
    assert_eq!(client.bodies(&["poll", group, "7"]).len(), 7);
    let done = format!("UndoneMsgs [consumerGroup={group}, topic=Moved, undoneMsgsTotal=0");
    wait_for("the commit", || {
        client.call(&["commit", group]);
        both.ours(&["startMonitoring", "--rounds", "1"]).contains(&done).then_some(())
    });
    let connection = both.same(&["consumerConnection", "-g", group], sorted);
    let id = connection.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap().to_owned();
    let status = both.same(&["consumerStatus", "-g", group, "-i", &id], shape);
    for part in ["PROP_CONSUME_TYPE", "Topic: Moved", "ProcessQueueInfo [commitOffset=", "#Consumer RT&TPS#"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let stacks = both.ours(&["consumerStatus", "-g", group, "-i", &id, "-s"]);
    assert!(stacks.contains("#Consumer jstack#") && stacks.contains("RebalanceService"), "{stacks}");
    let all = both.same(&["consumerStatus", "-g", group], shape);
    assert!(all.contains("Rebalance OK"), "{all}");
    let file = all.lines().nth(1).and_then(|line| line.split_whitespace().last()).unwrap();
    let left = std::fs::read_to_string(both.directory.path().join(file)).unwrap();
    assert!(left.contains("#Consumer Offset#"), "{left}");
    both.same(&["consumerProgress", "-g", group, "-s", "true"], shape);

    let sent = both.ours(&["sendMessage", "-t", "Moved", "-p", "pushed"]);
    let message = sent.split_whitespace().last().unwrap().to_owned();
    assert_eq!(client.bodies(&["poll", group, "8"]).len(), 8);
    let push = ["queryMsgByUniqueKey", "-t", "Moved", "-i", &message, "-g", group, "-d", &id];
    let pushed = wait_for("the key index", || both.run(&push).ok());
    assert!(pushed.contains("consumeResult=CR_SUCCESS"), "{pushed}");
    // Java's command by unique key works once in a virtual machine.
    let by_id = both.same(&["queryMsgById", "-t", "Moved", "-i", &message, "-g", group, "-d", &id], shape);
    assert!(by_id.contains("consumeResult=CR_SUCCESS"), "{by_id}");
    let got = client.bodies(&["poll", group, "11"]);
    assert_eq!(got.iter().filter(|body| *body == "pushed").count(), 4);

    client.call(&["commit", group]);
    let reset = both.same(&["resetOffsetByTime", "-g", group, "-t", "Moved", "-s", "0"], sorted);
    assert!(reset.contains("force[true], timestamp(string)[0], timestamp(long)[0]"), "{reset}");
    wait_for("the first message a second time", || {
        let got = client.bodies(&["poll", group, "0"]);
        (got.iter().filter(|body| *body == "first").count() == 2).then_some(())
    });
    both.same(&["skipAccumulatedMessage", "-g", group, "-t", "Moved"], sorted);
    client.call(&["stopPush", group]);
    wait_for("the consumer to be gone", || both.run(&["consumerConnection", "-g", group]).is_err().then_some(()));
}

fn offline_groups(both: &mut Both<'_>, group: &str) {
    both.same(&["resetOffsetByTime", "-g", group, "-t", "Moved", "-s", "2026-01-01#00:00:00:000"], sorted);
    let progress = both.ours(&["consumerProgress", "-g", group, "-t", "Moved"]);
    assert!(progress.contains("Diff Total: 8"), "{progress}");
    let broker = both.broker.clone();
    let one = ["resetOffsetByTime", "-g", group, "-t", "Moved", "-s", "0", "-b", &broker, "-q", "0", "-o", "3"];
    let moved = both.same(&one, sorted);
    assert!(moved.contains("reset consumer offset to 3"), "{moved}");
    let progress = both.ours(&["consumerProgress", "-g", group, "-t", "Moved"]);
    assert!(progress.contains("Diff Total: 5"), "{progress}");
    // Java's broker takes offsets of groups alone that it knows.
    both.ours(&["updateSubGroup", "-c", "DefaultCluster", "-g", "clone"]);
    both.same(&["cloneGroupOffset", "-s", group, "-d", "clone", "-t", "Moved"], lines);
    let stats = both.ours(&["brokerConsumeStats", "-b", &broker]);
    let line = stats.lines().find(|line| line.starts_with("Moved ") && line.contains(" clone ")).unwrap();
    assert_eq!(line.split_whitespace().skip(3).take(4).collect::<Vec<_>>(), ["0", "8", "3", "5"], "{line}");
    both.same(&["brokerConsumeStats", "-b", &broker], sorted);
    assert!(!both.ours(&["brokerConsumeStats", "-b", &broker, "-l", "6"]).contains(" clone "));
}

fn queues_and_figures(both: &mut Both<'_>, group: &str) {
    let entries = both.same(&["queryCq", "-t", "Moved", "-q", "0", "-i", "0", "-c", "2"], lines);
    assert!(entries.contains("max: 8, min: 0") && entries.contains("idx: 1"), "{entries}");
    both.same(&["queryCq", "-t", "Moved", "-q", "0", "-i", "7", "-g", group], lines);
    // Java's broker counts from its first sample on, which it takes every ten seconds.
    let names = |text: &str| -> Vec<String> {
        let two = |line: &String| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>().join(" ");
        let mut all: Vec<String> = lines(text).iter().map(two).collect();
        all.sort();
        all
    };
    let stats = both.same(&["statsAll", "-t", "Moved"], names);
    assert!(stats.lines().any(|line| line.starts_with("Moved ") && line.contains(&format!(" {group} "))), "{stats}");
    assert_eq!(names(&both.ours(&["statsAll", "-t", "Nothing"])).len(), 1);
}

fn topics_and_timing(both: &mut Both<'_>) {
    let shared = |text: &str| -> Vec<String> {
        let clients = ["10.0.0.1", "10.0.0.2"];
        clients.iter().map(|client| text.contains(&format!("\"{client}\":[{{\"brokerName\":\"broker-a\"")).to_string()).collect()
    };
    both.ours(&["updateTopic", "-c", "DefaultCluster", "-t", "Shared", "-r", "4", "-w", "4"]);
    wait_for("the topic's route", || both.ours(&["topicList"]).contains("Shared").then_some(()));
    let allocated = both.same(&["allocateMQ", "-t", "Shared", "-i", "10.0.0.1,10.0.0.2"], shared);
    assert_eq!(allocated.matches("queueId").count(), 4);
    both.same(&["updateOrderConf", "-t", "Shared", "-m", "put", "-v", "broker-a:4"], lines);
    let got = both.same(&["updateOrderConf", "-t", "Shared", "-m", "get"], lines);
    assert!(got.contains("orderConf=[broker-a:4]"), "{got}");
    both.same(&["updateOrderConf", "-t", "Shared", "-m", "delete"], lines);
    assert!(both.run(&["updateOrderConf", "-t", "Shared", "-m", "get"]).unwrap_err().contains("has no order settings"));
    let timed = both.same(&["checkMsgSendRT", "-t", "Shared", "-a", "3", "-s", "10"], shape);
    assert_eq!(timed.matches("true").count(), 3, "{timed}");
    let timed = both.same(&["sendMsgStatus", "-b", "broker-a", "-c", "2"], shape);
    assert_eq!(timed.matches("sendStatus=SEND_OK").count(), 2, "{timed}");
    let broker = both.broker.clone();
    let made = both.ours(&["updateTopicPerm", "-b", &broker, "-t", "Shared", "-p", "4"]);
    assert!(made.contains("update topic perm from 6 to 4"), "{made}");
    assert!(both.ours(&["getTopicConfig", "-b", &broker, "-t", "Shared"]).contains("perm=R--"));
    wait_for("the route to say so", || both.ours(&["topicRoute", "-t", "Shared"]).contains("\"perm\":4").then_some(()));
    both.same(&["updateTopicPerm", "-b", &broker, "-t", "Shared", "-p", "4"], lines);
    for command in ["cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"] {
        both.same(&[command, "-b", &broker], lines);
    }
}

/// A message that a group gave up can be read again: by offset, by id, by another group.
fn dead_letters(both: &mut Both<'_>, group: &str) {
    let first = both.ours(&["queryCq", "-t", "Moved", "-q", "0", "-i", "0", "-c", "1"]);
    let (_, rest) = first.split_once("physicOffset=").unwrap();
    let (offset, _) = rest.split_once(',').unwrap();
    let dead = format!("%DLQ%{group}");
    let fields = format!("offset={offset};group={group};delayLevel=-1;originTopic=Moved;unitMode=false");
    assert_eq!(Link::to(&both.broker).call(36, &fields, &[]).0.code, 0);
    wait_for("the topic's route", || both.ours(&["topicList"]).contains(&dead).then_some(()));
    both.ours(&["updateTopicPerm", "-c", "DefaultCluster", "-t", &dead, "-p", "2"]);
    wait_for("the route to say so", || both.ours(&["topicRoute", "-t", &dead]).contains("\"perm\":2").then_some(()));
    assert!(both.run(&["consumeMessage", "-t", &dead]).is_err());
    both.ours(&["updateTopicPerm", "-c", "DefaultCluster", "-t", &dead, "-p", "6"]);
    wait_for("the route to say so", || both.ours(&["topicRoute", "-t", &dead]).contains("\"perm\":6").then_some(()));
    let read = both.ours(&["consumeMessage", "-t", &dead]);
    assert!(read.contains("BODY: first"), "{read}");
    let entries = both.same(&["queryCq", "-t", &dead, "-q", "0", "-i", "0", "-c", "1"], lines);
    let (_, rest) = entries.split_once("physicOffset=").unwrap();
    let offset: i64 = rest.split_once(',').unwrap().0.parse().unwrap();
    let id = protocol::message_id::offset_id(both.broker.parse().unwrap(), offset);
    let by_id = both.ours(&["queryMsgById", "-t", &dead, "-i", &id, "-f", "UTF-8"]);
    assert!(by_id.contains("[first]") || by_id.contains("first"), "{by_id}");
    assert!(by_id.contains("ORIGIN_MESSAGE_ID") && by_id.contains(&dead), "{by_id}");
}

fn traces(both: &mut Both<'_>) {
    let sent = both.javas(&["sendMessage", "-t", "Moved", "-p", "traced", "-m", "true"]);
    let id = sent.split_whitespace().last().unwrap().to_owned();
    let by_id = ["queryMsgTraceById", "-i", &id];
    let traced = wait_for("the trace", || both.run(&by_id).ok());
    assert!(traced.contains("#ProducerGroup") && traced.contains("success"), "{traced}");
    assert_eq!(lines(&traced), lines(&both.javas(&by_id)));
    let none = both.run(&["queryMsgTraceById", "-i", "nothing"]).unwrap_err();
    assert!(none.contains("no client has written down"), "{none}");
}
