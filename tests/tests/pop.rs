//! POP with the unchanged Java client 5.4.0, which has the broker give it queues: acknowledged once and for all, back
//! after a failure, back after a kill of the broker and of the time at which it is visible again.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use protocol::bodies::ConsumerOffsets;
use protocol::header::Outgoing;
use protocol::requests::{GetAllConsumerOffset, Request};
use protocol::{Serialization, fastjson, frame};
use tests::{Server, Setup, java_client, wait_for};

fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort();
    bodies
}

/// Waits until all that was popped is acknowledged: the revive topic is done with as far as it is read.
fn wait_for_acknowledgements(server: &Server) {
    wait_for("the acknowledgements", || {
        let mut stream = TcpStream::connect(("127.0.0.1", server.broker_port)).unwrap();
        let mut out = BytesMut::new();
        let code = GetAllConsumerOffset::CODE;
        let head = Outgoing { serialization: Serialization::Json, code, opaque: 1, flag: 0, remark: None, extra: &[] };
        head.write(&GetAllConsumerOffset {}, 0, &mut out);
        stream.write_all(&out).unwrap();
        let mut input = BytesMut::new();
        let answer = loop {
            if let Some(frame) = frame::take(&mut input, frame::MAX_FRAME_LENGTH).unwrap() {
                break frame;
            }
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the broker closed the connection");
            input.extend_from_slice(&chunk[..count]);
        };
        let offsets: ConsumerOffsets = fastjson::from_slice(&answer.body).unwrap();
        let of = |group: &str| offsets.offset_table.get(&format!("rmq_sys_REVIVE_LOG_DefaultCluster@CID_RMQ_SYS_{group}"));
        (of("REVIVE_GROUP").is_some() && of("REVIVE_GROUP") == of("REVIVE_APPLIED")).then_some(())
    });
}

/// What nobody acknowledges comes back after five seconds, the least that the client asks for.
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
    // A message that is handed back comes as soon as the client has said, with its own topic, counted.
    let first = sorted(client.bodies(&["Pop", "poll", "poppers", "4"]));
    assert_eq!(first, ["later-2@1", "m0", "m1", "m5"]);
    assert_eq!(sorted(client.bodies(&["Pop", "held", "poppers", "2"])), ["hold-3", "hold-4"]);

    // The offsets' file was not written: all that the broker knows is in its log.
    server.kill();
    server.start_again();
    send(&mut client, "m6");
    let all = sorted(client.bodies(&["Pop", "poll", "poppers", "7"]));
    assert_eq!(all, ["hold-3@1", "hold-4@1", "later-2@1", "m0", "m1", "m5", "m6"]);
    wait_for_acknowledgements(&server);
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
