//! What each decoder promises of any bytes: the bounded run in `mutations.rs` and the targets in `fuzz/` hold the same.
//!
//! No input panics, and what was read is written again and reads the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use protocol::header::Outgoing;
use protocol::record::Record;
use protocol::requests::{PullMessage, SendMessageV2};
use protocol::{Frame, Header, Serialization, batch, bodies, fastjson, frame, message_id, properties, record, register, version};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The limit of a frame here: small, so that inputs reach it.
const FRAME_LIMIT: usize = 4096;

/// A stream of frames, and the headers in them.
pub fn frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut taken = 0;
    while let Ok(Some(frame)) = frame::take(&mut buffer, FRAME_LIMIT) {
        taken += 8 + frame.header.len() + frame.body.len();
        one_header(&frame);
    }
    assert_eq!(taken + buffer.len(), bytes.len(), "every byte is in a frame or waits for more");
}

/// The header of a frame; the first byte chooses the serialisation.
pub fn header(bytes: &[u8]) {
    let Some((kind, header)) = bytes.split_first() else { return };
    let serialization = if kind % 2 == 0 { Serialization::Json } else { Serialization::RocketMq };
    one_header(&Frame { serialization, header: Bytes::copy_from_slice(header), body: Bytes::new() });
}

fn one_header(frame: &Frame) {
    let Ok(header) = Header::decode(frame) else { return };
    let _ = header.read::<SendMessageV2<'_>>();
    let _ = header.read::<PullMessage<'_>>();
    // Only names of this project are ever written, and they need no escape.
    if !header.fields.iter().all(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return;
    }
    let extra: Vec<(&str, &str)> = header.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let Header { code, opaque, flag, .. } = header;
    let remark = header.remark.as_deref();
    let mut again = BytesMut::new();
    Outgoing { serialization: frame.serialization, code, opaque, flag, remark, extra: &extra }.write(&(), 0, &mut again);
    let again = frame::take(&mut again, frame::MAX_FRAME_LENGTH).unwrap().unwrap();
    let again = Header::decode(&again).unwrap();
    assert_eq!((again.code, again.opaque, again.flag, &again.fields), (code, opaque, flag, &header.fields));
    assert_eq!(again.remark, header.remark);
}

/// Records of the commit log, one behind the other.
pub fn records(bytes: &[u8]) {
    let _ = record::decode_checked(bytes);
    let mut count = 0;
    for record in record::decode_all(bytes) {
        count += 1;
        let Ok(record) = record else { break };
        // What no client may send is read all the same, and never written.
        if record.properties.len() <= properties::MAX_LENGTH && record.topic.len() <= i16::MAX as usize {
            one_record(&record);
        }
    }
    assert!(count <= bytes.len() / 80 + 1);
}

fn one_record(record: &Record<'_>) {
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(again.len(), record.encoded_length());
    assert_eq!(format!("{:?}", record::decode_checked(&again).unwrap()), format!("{record:?}"));
}

/// The body of a send of several messages.
pub fn batch(bytes: &[u8]) {
    let Ok(messages) = batch::decode(bytes) else { return };
    assert!(messages.len() <= batch::MAX_MESSAGES);
    let mut again = Vec::new();
    messages.iter().for_each(|message| batch::encode(message, &mut again));
    assert_eq!(batch::decode(&again).unwrap(), messages);
}

/// A message's properties.
pub fn message_properties(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let kept = properties::without(text, &["KEYS"]);
    assert_eq!(properties::get(&kept, "KEYS"), None);
    assert_eq!(properties::get(&kept, "TAGS"), properties::get(text, "TAGS"));
}

/// An offset message id.
pub fn offset_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((host, offset)) = message_id::parse_offset_id(text) {
        assert!(text.eq_ignore_ascii_case(&message_id::offset_id(host, offset)), "{text}");
    }
}

/// JSON bodies in fastjson's dialect.
pub fn json_bodies(bytes: &[u8]) {
    json::<bodies::HeartbeatData>(bytes);
    json::<bodies::TopicStats>(bytes);
    json::<bodies::ConsumeStats>(bytes);
    json::<bodies::ConsumerOffsets>(bytes);
    json::<bodies::TopicRouteData>(bytes);
    json::<bodies::ClusterInfo>(bytes);
    json::<bodies::SubscriptionGroupTable>(bytes);
    json::<bodies::LockBatch>(bytes);
}

fn json<T: DeserializeOwned + Serialize + Debug>(bytes: &[u8]) {
    let Ok(value) = fastjson::from_slice::<T>(bytes) else { return };
    let written = fastjson::to_vec(&value);
    let again: T = fastjson::from_slice(&written).unwrap_or_else(|error| panic!("{error} in {}", written.escape_ascii()));
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}

/// The body of a broker's registration, plain, compressed, and as old brokers send it.
pub fn registration(bytes: &[u8]) {
    let _ = register::decode(bytes, true, 0, version::CURRENT);
    let _ = register::decode(bytes, false, 0, version::V3_0_11 - 1);
    if let Ok(body) = register::decode(bytes, false, 0, version::CURRENT) {
        let again = register::decode(&fastjson::to_vec(&body), false, 0, version::CURRENT).unwrap();
        assert_eq!(format!("{again:?}"), format!("{body:?}"));
    }
}

/// A configuration file.
pub fn properties_file(bytes: &[u8]) {
    let Ok(entries) = stdx::properties::parse(bytes) else { return };
    for entry in entries {
        let (_, unknown) = stdx::properties::expand(&entry.value, |name| (name == "user.home").then(|| "/".to_owned()));
        assert!(!unknown.iter().any(|name| name == "user.home"));
    }
}
