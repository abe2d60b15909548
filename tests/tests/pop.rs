//! POP with the unchanged Java client 5.4.0, which has the broker give it queues: acknowledged once and for all, back
//! after a failure, back after a kill of the broker and of the time at which it is visible again.

use tests::{Exchange, JAVA, Popped, Popper, Server, Setup, Whose, java_client, sorted, wait_for};

/// What nobody acknowledges comes back after five seconds, the least that the client asks for; what is handed back after
/// ten, the client's first delay. Both come under their own topic, counted.
#[test]
fn java_5_4_0_pops() {
    let Some(mut client) = java_client("5.4.0") else { return };
    let mut server = Server::start(Setup { broker: "flushConsumerOffsetInterval=60000\n".into() });
    let (address, broker) = (server.name_server(), format!("127.0.0.1:{}", server.broker_port));
    client.call(&["producer", &address, "producers"]);
    let send = |client: &mut tests::Client, body: &str| {
        wait_for("a send to succeed", || client.try_call(&["send", &address, "Popped", "TagA", body]).ok());
    };
    send(&mut client, "m0");
    tests::wait_for_route(&address, "Popped");
    client.call(&["Pop", "start", "poppers", &address, "Popped", &broker, "*"]);
    assert_eq!(client.bodies(&["Pop", "poll", "poppers", "1"]), ["m0"]);
    for body in ["m1", "later-2", "hold-3", "hold-4", "m5"] {
        send(&mut client, body);
    }
    let own = wait_for("what is not handed back", || {
        let bodies: Vec<_> = client.bodies(&["Pop", "poll", "poppers", "3"]);
        let own: Vec<_> = bodies.into_iter().filter(|body| body.starts_with('m')).collect();
        (own.len() == 3).then_some(own)
    });
    assert_eq!(sorted(own), ["m0", "m1", "m5"]);
    assert_eq!(sorted(client.bodies(&["Pop", "held", "poppers", "2"])), ["hold-3", "hold-4"]);
    // What the broker has said that it took is not given again.
    client.call(&["Pop", "acked", "poppers", "3"]);

    // The offsets' file was not written: all that the broker knows is in its log.
    server.kill();
    server.start_again();
    send(&mut client, "m6");
    let all = sorted(client.bodies(&["Pop", "poll", "poppers", "7"]));
    assert_eq!(all, ["hold-3@1", "hold-4@1", "later-2@1", "m0", "m1", "m5", "m6"]);
    assert_eq!(client.call(&["Pop", "acked", "poppers", "7"]), ["7"]);
    // Another kill, and a new member: nothing is left, and only what is sent now comes.
    client.call(&["Pop", "stop", "poppers"]);
    server.kill();
    server.start_again();
    client.call(&["Pop", "start", "poppers", &address, "Popped", &broker, "*"]);
    send(&mut client, "m7");
    assert_eq!(client.bodies(&["Pop", "poll", "poppers", "1"]), ["m7"]);
    client.call(&["Pop", "stop", "poppers"]);
    client.call(&["stop", &address]);
}

fn texts(messages: &[Popped]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// Java brings back what is visible again a few seconds later; what is invisible for a millisecond does not go through
/// its timer.
#[test]
fn open_pops_are_taken_over_from_java_and_by_java() {
    let Some(mut store) = Exchange::java(Whose::Ferrocket, "") else { return };
    let mut peer = Popper::new(&store.broker("127.0.0.1"));
    ["m0", "m1", "m2"].iter().for_each(|body| peer.send(body));
    let popped = peer.pop_all(3, 1);
    assert_eq!(texts(&popped), ["m0@0", "m1@0", "m2@0"]);
    peer.ack(&popped[0]);
    store.kill();

    store.open(Whose::Ferrocket, "");
    let mut peer = Popper::new(&store.broker("127.0.0.1"));
    let popped = peer.pop_all(2, 2000);
    assert_eq!(texts(&popped), ["m1@1", "m2@1"]);
    peer.ack(&popped[0]);
    peer.send("m3");
    let own = peer.pop_all(1, 60_000);
    assert_eq!(texts(&own), ["m3@0"]);
    peer.ack(&own[0]);
    // Java's broker does not read groups' offsets from check points.
    store.stop();

    store.open(JAVA, "");
    let mut peer = Popper::new(&store.broker("127.0.0.1"));
    peer.send("m4");
    let popped = peer.pop_all(2, 60_000);
    assert_eq!(texts(&popped), ["m2@2", "m4@0"]);
}
