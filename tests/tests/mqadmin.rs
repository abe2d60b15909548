//! mqadmin, Java's and this project's, against both servers: what they print is the same.

use tests::{Client, Exchange, JAVA, Server, Setup, admin, java_mqadmin, try_admin, wait_for};

fn javas(mqadmin: &mut Client, words: &[&str]) -> String {
    let printed = mqadmin.call(words)[0].replace("\\n", "\n");
    // Its logging library prints its own configuration first.
    printed.lines().filter(|line| !line.contains(" |-")).map(|line| format!("{line}\n")).collect()
}

/// Lines without blanks at their ends, without those that are empty, and without the rate of sends, which Java shows
/// as 0.0 unless it is given a cluster.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with("Topic Put TPS")).collect()
}

fn sorted(text: &str) -> Vec<String> {
    tests::sorted(lines(text))
}

/// What may differ from one moment to the next: rates, ages, disk.
fn without_figures(text: &str) -> Vec<String> {
    let rows = lines(text).into_iter();
    rows.map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn both_tools_show_the_same_of_both_servers() {
    let Some(mut mqadmin) = java_mqadmin() else { return };
    let Some(java) = Exchange::java(JAVA, "") else { return };
    let server = Server::start(Setup::default());
    for name_server in [server.name_server(), java.name_server()] {
        let n = name_server.as_str();
        // Java's broker announces itself a moment after it says that it is up.
        wait_for("the broker to be known", || admin(&["clusterList", "-n", n]).contains("broker-a").then_some(()));
        let made = javas(&mut mqadmin, &["updateTopic", "-n", n, "-c", "DefaultCluster", "-t", "Shown", "-r", "4", "-w", "4"]);
        assert!(made.contains("create topic to 127.0.0.1:"), "{made}");
        let again = admin(&["updateTopic", "-n", n, "-c", "DefaultCluster", "-t", "Shown", "-r", "4", "-w", "4"]);
        assert_eq!(lines(&again), lines(&made));
        wait_for("the topic's route", || admin(&["topicList", "-n", n]).contains("Shown").then_some(()));
        // Java's command keeps its producer, which it can start only once in a virtual machine.
        if name_server == server.name_server() {
            let sent = javas(&mut mqadmin, &["sendMessage", "-n", n, "-t", "Shown", "-p", "hello", "-k", "k", "-c", "tag"]);
            assert!(sent.contains("SEND_OK"), "{sent}");
        }
        assert!(admin(&["sendMessage", "-n", n, "-t", "Shown", "-p", "hello"]).contains("SEND_OK"));
        for words in [
            &["topicStatus", "-n", n, "-t", "Shown"][..],
            &["topicRoute", "-n", n, "-t", "Shown", "-l"],
            &["topicClusterList", "-n", n, "-t", "Shown"],
        ] {
            assert_eq!(lines(&admin(words)), lines(&javas(&mut mqadmin, words)), "{}", words.join(" "));
        }
        let topics = ["topicList", "-n", n];
        assert_eq!(sorted(&admin(&topics)), sorted(&javas(&mut mqadmin, &topics)));
        let clusters = ["clusterList", "-n", n];
        assert_eq!(without_figures(&admin(&clusters)), without_figures(&javas(&mut mqadmin, &clusters)));
        messages_are_found_by_key(&mut mqadmin, n);
        let group = ["updateSubGroup", "-n", n, "-c", "DefaultCluster", "-g", "shown-group"];
        assert!(javas(&mut mqadmin, &group).contains("success"));
        assert!(admin(&["consumeMessage", "-n", n, "-t", "Shown"]).contains("BODY: hello"));
        assert!(javas(&mut mqadmin, &["deleteTopic", "-n", n, "-c", "DefaultCluster", "-t", "Shown"]).contains("success"));
        assert!(!admin(&topics).contains("Shown"));
    }
}

/// The pairs of the line `Properties:` stand in the order of a hash map in Java.
fn with_sorted_properties(text: &str) -> Vec<String> {
    let sort = |line: String| match line.strip_prefix("Properties:").map(|rest| rest.trim().trim_matches(['{', '}'])) {
        Some(pairs) => {
            let mut pairs: Vec<&str> = pairs.split(", ").collect();
            pairs.sort_unstable();
            format!("Properties: {}", pairs.join(", "))
        }
        None => line,
    };
    lines(text).into_iter().map(sort).collect()
}

fn messages_are_found_by_key(mqadmin: &mut Client, n: &str) {
    let send = |key: &str| {
        let sent = admin(&["sendMessage", "-n", n, "-t", "Shown", "-p", "found", "-k", key, "-c", "tag"]);
        sent.split_whitespace().last().unwrap().to_owned()
    };
    let ids = ["order-17 first", "order-17 second", "order-1"].map(send);
    let by_key = ["queryMsgByKey", "-n", n, "-t", "Shown", "-k", "order-17"];
    // The index follows the log a moment behind.
    let found = wait_for("the key index", || try_admin(&by_key).ok().filter(|found| lines(found).len() == 3));
    assert_eq!(lines(&found), lines(&javas(mqadmin, &by_key)));
    assert!(ids[..2].iter().all(|id| found.contains(id.as_str())) && !found.contains(&ids[2]), "{found}");
    let newest = [&by_key[..], &["-m", "1"]].concat();
    assert_eq!(lines(&admin(&newest)), lines(&javas(mqadmin, &newest)));
    assert!(admin(&newest).contains(&ids[1]));
    for none in [
        &["-k", "first", "-e", "1000"][..],
        &["-k", "order"],
        &["-k", &ids[0]],
        &["-k", "first", "-c", "DefaultCluster", "-e", "1"],
    ] {
        let words = [&["queryMsgByKey", "-n", n, "-t", "Shown"][..], none].concat();
        let refused = try_admin(&words).unwrap_err();
        assert!(refused.contains("no message of topic Shown has the key"), "{refused}");
        assert!(!javas(mqadmin, &words).contains("#Message ID"));
    }
    let by_unique_key = ["queryMsgByUniqueKey", "-n", n, "-t", "Shown", "-i", &ids[1], "-a", "-c", "DefaultCluster"];
    let by_id = ["queryMsgById", "-n", n, "-t", "Shown", "-i", &ids[1], "-f", "UTF-8"];
    // Java's command by unique key works once in a virtual machine.
    let mut another = java_mqadmin().unwrap();
    for words in [&by_unique_key[..], &by_id] {
        let shown = admin(words);
        assert!(shown.contains("[order-17 second]"), "{shown}");
        assert_eq!(with_sorted_properties(&shown), with_sorted_properties(&javas(&mut another, words)), "{}", words.join(" "));
    }
    let unknown = try_admin(&["queryMsgById", "-n", n, "-t", "Shown", "-i", "xyz"]).unwrap_err();
    assert!(unknown.contains("no message has the id xyz") && unknown.contains("as a unique key"), "{unknown}");
}
