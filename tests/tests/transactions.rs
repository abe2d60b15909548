//! Transactions of unchanged clients: committed, rolled back, left open and asked about, and with a broker that is
//! killed between a half message and its outcome.

use tests::{Client, Server, Setup, go_client, java_client, sorted, try_admin, wait_for};

/// Questions come four seconds after a half message, which leaves a client on a busy machine the time to end it first,
/// and every half second.
const SETTINGS: &str = "transactionTimeOut=4000\ntransactionCheckInterval=500\ntransactionCheckMax=3\n";

/// `driver` is the part of the client's driver that knows its way to set a listener.
fn transactions(mut client: Client, driver: &str) {
    let mut server = Server::start(Setup { broker: SETTINGS.into() });
    let address = server.name_server();
    client.call(&[driver, "start", &address, "payers"]);
    client.call(&["producer", &address, "producers"]);
    let send = |client: &mut Client, body: &str| {
        let answer = client.call(&[driver, "send", &address, "Payments", body]);
        assert_eq!(answer[0], "SEND_OK", "{body}");
    };
    send(&mut client, "commit-rollback-1");
    tests::wait_for_route(&address, "Payments");
    // Go's client first tells the broker of its group a second after its start.
    wait_for("the producer group", || {
        let connections = ["producerConnection", "-n", &address, "-g", "payers", "-t", "Payments"];
        try_admin(&connections).ok()
    });
    client.call(&["push", &address, "booking", "Payments", "*", "0"]);
    assert_eq!(client.bodies(&["poll", "booking", "1"]), ["commit-rollback-1"]);
    for body in ["rollback-commit-2", "unknown-commit-3", "unknown-rollback-4", "unknown-unknown-5", "commit-rollback-6"] {
        send(&mut client, body);
    }
    let expected = ["commit-rollback-1", "commit-rollback-6", "unknown-commit-3"];
    assert_eq!(sorted(client.bodies(&["poll", "booking", "3"])), expected);
    // Three questions that get no answer, then the half message is discarded.
    let questions = wait_for("three questions", || {
        let asked = client.bodies(&[driver, "questions", &address]);
        (asked.iter().filter(|body| *body == "unknown-unknown-5").count() == 3).then_some(asked)
    });
    let asked = |body: &str| questions.iter().filter(|q| *q == body).count();
    assert_eq!(["unknown-commit-3", "unknown-rollback-4"].map(asked), [1, 1]);
    assert_eq!(["commit-rollback-1", "rollback-commit-2", "commit-rollback-6"].map(asked), [0, 0, 0]);
    tests::wait_for_route(&address, "TRANS_CHECK_MAX_TIME_TOPIC");

    client.call(&[driver, "begin", &address, "Payments", "hold-commit-7"]);
    server.kill();
    server.start_again();
    client.call(&[driver, "release", &address, "hold-commit-7"]);
    wait_for("a send to succeed", || client.try_call(&["send", &address, "Payments", "TagA", "plain-8"]).ok());
    let expected = ["commit-rollback-1", "commit-rollback-6", "hold-commit-7", "plain-8", "unknown-commit-3"];
    assert_eq!(sorted(client.bodies(&["poll", "booking", "5"])), expected);
    // Whoever reads the topic from its start finds each once: nothing was committed twice.
    client.call(&["push", &address, "auditing", "Payments", "*", "0"]);
    assert_eq!(sorted(client.bodies(&["poll", "auditing", "5"])), expected);
    for part in [&[driver, "stop", &address][..], &["stop", &address], &["stopPush", "booking"], &["stopPush", "auditing"]] {
        client.call(part);
    }
}

macro_rules! versions {
    ($($name:ident: $client:ident($version:literal), $driver:literal;)*) => {$(
        #[test]
        fn $name() {
            $client($version).into_iter().for_each(|client| transactions(client, $driver));
        }
    )*};
}

versions! {
    java_3_2_6: java_client("3.2.6"), "OldTransaction";
    java_4_2_0: java_client("4.2.0"), "OldTransaction";
    java_4_9_4: java_client("4.9.4"), "Transaction";
    java_5_4_0: java_client("5.4.0"), "Transaction";
    go_2_1_2: go_client("v2.1.2"), "Transaction";
}
