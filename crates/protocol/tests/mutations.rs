//! Every decoder against damaged input: whatever a stranger sends, the outcome is a value or an error.
//!
//! The damage comes from fixed seeds, so a failure is the same in every run.

mod decoders;

use bytes::BytesMut;
use protocol::header::Outgoing;
use protocol::record::Record;
use protocol::requests::SendMessageV2;
use protocol::{Serialization, batch, frame};

/// Damaged inputs made from each sample.
const ROUNDS: u64 = 20_000;

/// A small generator of numbers (xorshift); tests need no better one.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Flips, sets, cuts, doubles or drops some bytes.
fn damage(sample: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x7f, 0x80, b'{', b'"'][numbers.below(6)],
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            _ => drop(bytes.drain(at..(at + numbers.below(9)).min(bytes.len()))),
        }
    }
    bytes
}

fn with_damage(sample: &[u8], decode: impl Fn(&[u8])) {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    decode(sample);
    for _ in 0..ROUNDS {
        decode(&damage(sample, &mut numbers));
    }
}

fn send(serialization: Serialization) -> BytesMut {
    let request = SendMessageV2 {
        producer_group: "group",
        topic: "Topic",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: 1,
        born_timestamp: 1_700_000_000_000,
        properties: Some("TAGS\u{1}a\u{2}KEYS\u{1}k\u{2}"),
        ..SendMessageV2::default()
    };
    let mut out = BytesMut::new();
    Outgoing { serialization, code: 310, opaque: 5, flag: 0, remark: Some("remark"), extra: &[] }.write(&request, 5, &mut out);
    out.extend_from_slice(b"hello");
    out
}

#[test]
fn frames_and_headers_in_both_serialisations() {
    for (kind, serialization) in [Serialization::Json, Serialization::RocketMq].into_iter().enumerate() {
        let sample = send(serialization);
        with_damage(&sample, decoders::frames);
        let whole = frame::take(&mut sample.clone(), 4096).unwrap().unwrap();
        with_damage(&[&[kind as u8], &whole.header[..]].concat(), decoders::header);
    }
}

#[test]
fn records_batches_and_properties() {
    let host = "127.0.0.1:10911".parse().unwrap();
    let record = Record {
        queue_id: 1,
        flag: 0,
        queue_offset: 2,
        physical_offset: 3,
        sys_flag: 0,
        born_timestamp: 4,
        born_host: host,
        store_timestamp: 5,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"hello",
        topic: "Topic",
        properties: "TAGS\u{1}a\u{2}",
    };
    let mut sample = Vec::new();
    record.encode(&mut sample);
    record.encode(&mut sample);
    with_damage(&sample, decoders::records);
    let mut sample = Vec::new();
    batch::encode(&batch::BatchMessage { flag: 1, body: b"one", properties: "TAGS\u{1}a\u{2}" }, &mut sample);
    batch::encode(&batch::BatchMessage { flag: 2, body: b"two", properties: "" }, &mut sample);
    with_damage(&sample, decoders::batch);
    with_damage(b"TAGS\x01a\x02KEYS\x01k1 k2\x02", decoders::message_properties);
    with_damage(b"7F00000100002A9F0000000000000131", decoders::offset_id);
}

#[test]
fn json_bodies_and_registrations() {
    let heartbeat = br#"{"clientID":"c@1","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"T","codeSet":["1",2]}]}],"x":{0:{1:"a"}}}"#;
    with_damage(heartbeat, decoders::json_bodies);
    with_damage(
        br#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:{"maxOffset":1}},"topicPutTps":0.5}"#,
        decoders::json_bodies,
    );
    with_damage(br#"{"offsetTable":{"T@g":{0:1,1:20}}}"#, decoders::json_bodies);
    with_damage(
        br#"{"brokerDatas":[{"brokerAddrs":{0:"h:1"},"brokerName":"b"}],"queueDatas":[{"perm":6}]}"#,
        decoders::json_bodies,
    );
    with_damage(
        br#"{"topicConfigSerializeWrapper":{"dataVersion":{"counter":1},"topicConfigTable":{"T":{"topicName":"T","perm":6}}}}"#,
        decoders::registration,
    );
}

#[test]
fn properties_files() {
    let sample =
        b"# a comment\r\nlistenPort = 10911\r\nbrokerName: b\\u0061\nstorePathRootDir=${user.home}/st\\\n  ore\n!x\nempty\n";
    with_damage(sample, decoders::properties_file);
}
