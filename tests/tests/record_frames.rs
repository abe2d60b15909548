//! Records what Java's servers 5.4.0 and clients say to each other: `tests/golden/frames/`, which the protocol's tests read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use protocol::{Header, frame};
use tests::{Client, Exchange, JAVA, free_port, go_client, java_client, java_mqadmin, wait_for};

/// The first of each kind of frame, in the order in which they passed.
#[derive(Default)]
struct Tape {
    bytes: Vec<u8>,
    /// Serialisation, request code, and the answer's code where it is one.
    kinds: BTreeSet<(u8, i32, Option<i32>)>,
    /// Requests without their answers yet, by connection and opaque; their bytes where they are not on the tape.
    asked: BTreeMap<(usize, i32), (i32, BytesMut)>,
}

impl Tape {
    fn record(&mut self, connection: usize, bytes: &BytesMut) {
        let frame = frame::take(&mut bytes.clone(), frame::MAX_FRAME_LENGTH).unwrap().unwrap();
        let header = Header::decode(&frame).unwrap();
        let serialization = frame.serialization as u8;
        if header.is_response() {
            let Some((code, request)) = self.asked.remove(&(connection, header.opaque)) else { return };
            if self.kinds.insert((serialization, code, Some(header.code))) {
                self.bytes.extend_from_slice(&request);
                self.bytes.extend_from_slice(bytes);
            }
        } else if self.kinds.insert((serialization, header.code, None)) {
            self.bytes.extend_from_slice(bytes);
            self.asked.insert((connection, header.opaque), (header.code, BytesMut::new()));
        } else {
            self.asked.insert((connection, header.opaque), (header.code, bytes.clone()));
        }
    }
}

/// Who records, and the broker's port and the one that clients are sent to instead.
#[derive(Clone)]
struct Recorder {
    tape: Arc<Mutex<Tape>>,
    broker: (u16, u16),
}

impl Recorder {
    fn new(broker: (u16, u16)) -> Self {
        Self { tape: Arc::default(), broker }
    }

    /// Passes on and records what comes to `port`.
    fn listen(&self, port: u16, target: u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let recorder = self.clone();
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                let connection = usize::from(port) << 32 | number;
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, recorder) = (from.try_clone().unwrap(), to.try_clone().unwrap(), recorder.clone());
                    std::thread::spawn(move || recorder.pass(connection, from, to));
                }
            }
        });
    }

    fn pass(&self, connection: usize, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = BytesMut::new();
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            buffer.extend_from_slice(&chunk[..count]);
            while let Some(length) = frame::expected_length(&buffer).filter(|length| *length <= buffer.len()) {
                let frame = buffer.split_to(length);
                self.tape.lock().unwrap().record(connection, &frame);
                if to.write_all(&self.redirect(&frame)).is_err() {
                    return;
                }
            }
        }
        // The other side may have gone first.
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Routes lead to the recorder. Both ports have as many digits, so lengths stay as they are.
    fn redirect(&self, frame: &[u8]) -> Vec<u8> {
        let mut bytes = frame.to_vec();
        let [real, recorded] = [self.broker.0, self.broker.1].map(|port| format!("127.0.0.1:{port}").into_bytes());
        assert_eq!(real.len(), recorded.len());
        for at in 0..bytes.len().saturating_sub(real.len()) {
            if bytes[at..].starts_with(&real) {
                bytes[at..at + real.len()].copy_from_slice(&recorded);
            }
        }
        bytes
    }

    fn save(&self, name: &str) {
        let tape = std::mem::take(&mut *self.tape.lock().unwrap());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/frames").join(format!("{name}.frames"));
        std::fs::write(path, tape.bytes).unwrap();
    }
}

/// A little of everything that a client does.
fn drive(client: &mut Client, server: &str, topic: &str) {
    client.call(&["producer", server, "producers"]);
    for n in 0..4 {
        client.call(&["send", server, topic, "TagA", &format!("hello {n}")]);
    }
    client.call(&["sendOneway", server, topic, "oneway-", "1"]);
    // Some versions have no batches.
    let _ = client.try_call(&["SendBatch", server, topic, "TagB", "batch-", "3"]);
    let group = format!("group-{topic}");
    client.call(&["push", server, &group, topic, "*", "1"]);
    let bodies = client.bodies(&["poll", &group, "4"]);
    assert!(bodies.len() >= 4, "{bodies:?}");
    client.call(&["commit", &group]);
    client.call(&["stopPush", &group]);
    client.call(&["pullAll", server, &group, topic]);
    let _ = client.try_call(&["LitePull", server, &group, topic, "1"]);
    client.call(&["stop", server]);
}

#[test]
#[ignore = "records tests/golden/frames again"]
fn frames_of_java_and_of_its_clients() {
    let registering = Recorder::new((1, 1));
    let to_namesrv = free_port();
    let mut java = Exchange::start(JAVA, &format!("namesrvAddr=127.0.0.1:{to_namesrv}\n"));
    let namesrv_port = java.name_server().rsplit(':').next().unwrap().parse().unwrap();
    registering.listen(to_namesrv, namesrv_port);
    assert!(java.open(JAVA, ""));
    let (broker_port, to_namesrv, to_broker) = (java.port(), free_port(), free_port());
    let recorder = Recorder::new((broker_port, to_broker));
    recorder.listen(to_namesrv, namesrv_port);
    recorder.listen(to_broker, broker_port);
    recorder.listen(to_broker - 2, broker_port - 2);
    let server = format!("127.0.0.1:{to_namesrv}");
    for (version, serialization) in
        [("3.2.6", "JSON"), ("4.2.0", "JSON"), ("4.7.1", "JSON"), ("4.9.4", "ROCKETMQ"), ("5.4.0", "JSON"), ("5.4.0", "ROCKETMQ")]
    {
        let mut client = java_client(version).expect("Java");
        client.call(&["property", "rocketmq.serialize.type", serialization]);
        let name = format!("java-{version}-{}", serialization.to_lowercase());
        drive(&mut client, &server, &name.replace('.', "_"));
        recorder.save(&name);
    }
    for version in ["v2.0.0", "v2.1.2"] {
        let mut client = go_client(version).expect("Go");
        drive(&mut client, &server, &format!("go-{version}").replace('.', "_"));
        recorder.save(&format!("go-{version}"));
    }
    let mut mqadmin = java_mqadmin().expect("Java");
    let broker = format!("127.0.0.1:{to_broker}");
    for command in [
        &["clusterList"][..],
        &["topicList"],
        &["updateTopic", "-b", &broker, "-t", "Made", "-r", "4", "-w", "4"],
        &["updateSubGroup", "-b", &broker, "-g", "made-group"],
        &["topicStatus", "-t", "java-5_4_0-json"],
        &["consumerProgress", "-g", "group-java-5_4_0-json"],
        &["brokerStatus", "-b", &broker],
        &["updateKvConfig", "-s", "space", "-k", "key", "-v", "value"],
    ] {
        mqadmin.call(&[command, &["-n", &server]].concat());
    }
    recorder.save("mqadmin-5.4.0");
    wait_for("a registration", || {
        let tape = registering.tape.lock().unwrap();
        tape.kinds.iter().any(|kind| kind.1 == 103 && kind.2 == Some(0)).then_some(())
    });
    registering.save("broker-5.4.0");
}
