//! A data directory that Java's broker 5.4.0 has written (`tests/golden/data/`): this project's broker, started on a copy,
//! answers what Java's broker answered before it stopped.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use protocol::bodies::{ConsumerOffsets, SubscriptionGroupConfig, TopicConfig};
use protocol::header::Typed;
use protocol::requests::*;
use protocol::{Header, codes, fastjson, record};
use tests::{Exchange, JAVA, Link, Server, Setup, java_client, java_mqadmin, pull_request};

/// Small files, so that a few messages fill several of each kind, which are kept for ten years.
const SETTINGS: &str = "mappedFileSizeCommitLog=16384\nmappedFileSizeConsumeQueue=100\nmaxHashSlotNum=50\nmaxIndexNum=60\n\
                        messageDelayLevel=1s 1s 1s 1s\ntimerWheelEnable=false\nfileReservedTime=87600\n";
const TOPICS: [&str; 4] = ["Orders", "Made", "%RETRY%group-a", "SCHEDULE_TOPIC_XXXX"];
const GROUPS: [&str; 2] = ["group-a", "made-group"];
/// More than the queues of every topic.
const QUEUES: i32 = 8;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/data")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The body of an answer, where the broker has one.
fn body_of<'h, R: Request<'h>>(broker: &mut Link, request: &R) -> Option<Bytes> {
    let frame = broker.request(request, &[]);
    (Header::decode(&frame).unwrap().code == codes::SUCCESS).then_some(frame.body)
}

fn offset_of<'h, R: Request<'h>>(broker: &mut Link, request: &R) -> i64 {
    let frame = broker.request(request, &[]);
    let header = Header::decode(&frame).unwrap();
    OffsetReply::read(&header.fields).unwrap_or_else(|_| panic!("{:?}", header.remark)).offset
}

/// Everything that can be asked about the data.
fn listing(port: u16) -> String {
    let mut broker = Link::connect(port);
    let mut text = String::new();
    for topic in TOPICS {
        let body = body_of(&mut broker, &GetTopicConfig { topic }).unwrap();
        let _ = writeln!(text, "{:?}", fastjson::from_slice::<TopicConfig>(&body).unwrap());
        for queue_id in 0..QUEUES {
            list_queue(&mut broker, topic, queue_id, &mut text);
        }
    }
    for group in GROUPS {
        let body = body_of(&mut broker, &GetSubscriptionGroupConfig { group }).unwrap();
        let _ = writeln!(text, "{:?}", fastjson::from_slice::<SubscriptionGroupConfig>(&body).unwrap());
    }
    let body = body_of(&mut broker, &GetAllConsumerOffset {}).unwrap();
    for (key, offsets) in fastjson::from_slice::<ConsumerOffsets>(&body).unwrap().offset_table {
        if GROUPS.iter().any(|group| key.ends_with(&format!("@{group}"))) {
            let _ = writeln!(text, "{key}: {offsets:?}");
        }
    }
    for key in ["key-order 3", "key-batch-1", "key-large", "no such key"] {
        let request =
            QueryMessage { topic: "Orders", key, max_num: 32, begin_timestamp: 0, end_timestamp: i64::MAX, unique_key: None };
        let found = body_of(&mut broker, &request).unwrap_or_default();
        let _ = writeln!(text, "by key {key}:");
        record::decode_all(&found).for_each(|record| write_record(&record.unwrap(), &mut text));
    }
    text
}

fn list_queue(broker: &mut Link, topic: &str, queue_id: i32, text: &mut String) {
    let (min, max) = (offset_of(broker, &GetMinOffset { topic, queue_id }), offset_of(broker, &GetMaxOffset { topic, queue_id }));
    if max == 0 {
        return;
    }
    let _ = writeln!(text, "{topic} {queue_id}: {min} to {max}");
    let mut next = min;
    while next < max {
        let pull = PullMessage { consumer_group: "group-a", ..pull_request(topic, queue_id, next) };
        let frame = broker.request(&pull, &[]);
        let header = Header::decode(&frame).unwrap();
        assert_eq!(header.code, codes::SUCCESS, "{topic} {queue_id} {next}: {:?}", header.remark);
        for record in record::decode_all(&frame.body) {
            let record = record.unwrap();
            write_record(&record, text);
            let timestamp = record.store_timestamp;
            let found = offset_of(broker, &SearchOffset { topic, queue_id, timestamp, boundary_type: None });
            let _ = writeln!(text, "  by time {found}");
        }
        next = header.read::<PullMessageReply>().unwrap().next_begin_offset;
    }
}

fn write_record(record: &record::Record<'_>, text: &mut String) {
    let body = String::from_utf8_lossy(record.body);
    let body = if body.len() > 40 { format!("{} bytes, CRC {:08x}", body.len(), record::crc(record.body)) } else { body.into() };
    let short = record::Record { body: b"", ..record.clone() };
    let _ = writeln!(text, "  {body:?} {short:?}");
}

#[test]
fn data_of_javas_broker_is_read_as_java_reads_it() {
    let setup = Setup { broker: SETTINGS.into() };
    let server = Server::start_on(setup, |data| copy(&golden().join("store"), &data.join("store")));
    let expected = fs::read_to_string(golden().join("listing.txt")).unwrap();
    let listing = listing(server.broker_port);
    for (line, (is, should)) in listing.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "line {} of the listing", line + 1);
    }
    assert_eq!(listing.lines().count(), expected.lines().count());
}

#[test]
#[ignore = "records tests/golden/data again"]
fn data_of_javas_broker() {
    let Some(mut java) = Exchange::java(JAVA, SETTINGS) else { return };
    let (server, broker) = (java.name_server(), java.broker("127.0.0.1"));
    let (mut client, mut mqadmin) = (java_client("5.4.0").unwrap(), java_mqadmin().unwrap());
    for command in [
        &["updateTopic", "-t", "Made", "-r", "3", "-w", "2", "-p", "4", "-o", "true"][..],
        &["updateSubGroup", "-g", "made-group", "-r", "7", "-d", "false"],
        &["updateSubGroup", "-g", "group-a"],
    ] {
        mqadmin.call(&[command, &["-b", &broker, "-n", &server]].concat());
    }
    client.call(&["producer", &server, "producers"]);
    for n in 0..40 {
        client.call(&["send", &server, "Orders", "TagA", &format!("order {n}")]);
    }
    client.call(&["SendBatch", &server, "Orders", "TagB", "batch-", "3"]);
    // The client compresses what is over 4 KiB.
    let large = "large".repeat(1500);
    client.call(&["send", &server, "Orders", "", &large]);
    client.call(&["push", &server, "group-a", "Other", "*", "0"]);
    client.call(&["stopPush", "group-a"]);
    client.call(&["push", &server, "group-a", "Orders", "*", "1"]);
    let bodies = client.bodies(&["poll", "group-a", "44"]);
    assert!(bodies.len() == 44 && bodies.iter().any(|body| body.ends_with("@1")), "{bodies:?}");
    client.call(&["commit", "group-a"]);
    client.call(&["stopPush", "group-a"]);
    let listing = listing(java.port());
    java.stop();
    let target = golden();
    let _ = fs::remove_dir_all(&target);
    copy(&java.store(), &target.join("store"));
    // Java's other kind of queue, which it makes and leaves empty, and what only a running broker needs.
    fs::remove_dir_all(target.join("store/rocksdbstore")).unwrap();
    fs::remove_file(target.join("store/lock")).unwrap();
    fs::write(target.join("listing.txt"), listing).unwrap();
}
