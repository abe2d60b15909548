//! POP with the unchanged Java client 5.4.0, which has the broker give it queues: acknowledged once and for all, back
//! after a failure, back after a kill of the broker and of the time at which it is visible again.

use protocol::{properties, record};
use tests::{Answer, Exchange, Link, Server, Setup, Whose, java_client, wait_for};

fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort();
    bodies
}

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

/// A connection that writes requests as Java's client does.
struct Peer(Link);

/// A popped message: body and how often it came before, queue, offset, handle.
#[derive(Debug)]
struct Popped {
    text: String,
    queue_id: i32,
    offset: i64,
    handle: String,
}

impl Peer {
    fn new(address: &str) -> Self {
        Self(Link::to(address))
    }

    fn send(&mut self, body: &str) {
        let (answer, _) = self.0.call(310, "a=p;b=Popped;c=TBW102;d=4;e=0;f=0;g=1;h=0", body.as_bytes());
        assert_eq!(answer.code, 0);
    }

    /// Pops what there is, without waiting.
    fn pop(&mut self, invisible_ms: i64) -> Vec<Popped> {
        let fields = format!(
            "consumerGroup=g;topic=Popped;queueId=-1;maxMsgNums=32;invisibleTime={invisible_ms};pollTime=0;bornTime=0;initMode=0"
        );
        let (Answer { fields, .. }, frame) = self.0.call(200050, &fields, &[]);
        let popped = |message: record::Record<'_>| {
            let start = fields["startOffsetInfo"].rsplit(' ').next().unwrap();
            let own = || format!("{start} {} {invisible_ms} {} 0 broker-a", fields["popTime"], fields["reviveQid"]);
            let handle = properties::get(message.properties, "POP_CK").map_or_else(own, str::to_owned);
            let text = format!("{}@{}", String::from_utf8_lossy(message.body), message.reconsume_times);
            Popped { text, queue_id: message.queue_id, offset: message.queue_offset, handle }
        };
        record::decode_all(&frame.body).map(|message| popped(message.unwrap())).collect()
    }

    fn ack(&mut self, message: &Popped) {
        let topic = if message.handle.split(' ').nth(4) == Some("1") { "%RETRY%g_Popped" } else { "Popped" };
        let Popped { queue_id, offset, handle, .. } = message;
        let fields = format!("consumerGroup=g;topic={topic};queueId={queue_id};extraInfo={handle};offset={offset}");
        assert_eq!(self.0.call(200051, &fields, &[]).0.code, 0);
    }

    /// Pops until so many have come; they are in the order of their texts.
    fn pop_all(&mut self, count: usize, invisible_ms: i64) -> Vec<Popped> {
        let mut all = Vec::new();
        wait_for("messages to come back", || {
            all.extend(self.pop(invisible_ms));
            (all.len() >= count).then_some(())
        });
        all.sort_by(|a, b| a.text.cmp(&b.text));
        all
    }
}

fn texts(messages: &[Popped]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// Java brings back what is visible again a few seconds later; what is invisible for a millisecond does not go through
/// its timer.
#[test]
fn open_pops_are_taken_over_from_java_and_by_java() {
    let mut store = Exchange::start("mappedFileSizeCommitLog=67108864\nbrokerIP1=127.0.0.1\n");
    if !store.open(Whose::Java("5.4.0"), "") {
        return;
    }
    let mut peer = Peer::new(&store.broker("127.0.0.1"));
    ["m0", "m1", "m2"].iter().for_each(|body| peer.send(body));
    let popped = peer.pop_all(3, 1);
    assert_eq!(texts(&popped), ["m0@0", "m1@0", "m2@0"]);
    peer.ack(&popped[0]);
    store.kill();

    store.open(Whose::Ferrocket, "");
    let mut peer = Peer::new(&store.broker("127.0.0.1"));
    let popped = peer.pop_all(2, 2000);
    assert_eq!(texts(&popped), ["m1@1", "m2@1"]);
    peer.ack(&popped[0]);
    peer.send("m3");
    let own = peer.pop_all(1, 60_000);
    assert_eq!(texts(&own), ["m3@0"]);
    peer.ack(&own[0]);
    // Java's broker does not read groups' offsets from check points.
    store.stop();

    store.open(Whose::Java("5.4.0"), "");
    let mut peer = Peer::new(&store.broker("127.0.0.1"));
    peer.send("m4");
    let popped = peer.pop_all(2, 60_000);
    assert_eq!(texts(&popped), ["m2@2", "m4@0"]);
}
