//! Frames that Java's servers and clients have sent (`tests/golden/frames/`): each is read as the listing beside it says,
//! and what is written again reads the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::{BufMut, BytesMut};
use protocol::bodies::*;
use protocol::header::Outgoing;
use protocol::requests::*;
use protocol::{Frame, Header, batch, codes, fastjson, frame, record, register, requests, version};

/// The rows of the frames that are there: what a request's or an answer's fields are read as.
macro_rules! rows {
    ($($name:ident)*) => {
        fn typed(code: i32, header: &Header<'_>) -> Option<String> {
            Some(match code {
                $($name::CODE if header.is_response() && header.code == codes::SUCCESS =>
                    format!("{:?}", header.read::<<$name as Request>::Reply<'_>>()),
                $name::CODE if !header.is_response() => format!("{:?}", header.read::<$name>()),)*
                _ => return None,
            })
        }
    };
}

rows! {
    SendMessage SendMessageV2 SendBatchMessage PullMessage LitePullMessage QueryConsumerOffset UpdateConsumerOffset CreateTopic
    GetBrokerConfig GetBrokerRuntimeInfo SearchOffset GetMaxOffset GetMinOffset Heartbeat UnregisterClient ConsumerSendMsgBack
    GetConsumerListByGroup NotifyConsumerIdsChanged LockBatchMq UnlockBatchMq PutKvConfig GetKvConfig RegisterBroker
    GetRouteInfo GetBrokerClusterInfo UpdateSubscriptionGroup GetTopicStats GetAllTopicList GetConsumeStats
    QueryDataVersion GetTopicConfig GetSubscriptionGroupConfig
}

/// What a JSON body is read as. What is written again reads the same.
macro_rules! json {
    ($type:ty, $body:expr) => {{
        let value: $type = fastjson::from_slice($body).unwrap();
        let again: $type = fastjson::from_slice(&fastjson::to_vec(&value)).unwrap();
        assert_eq!(format!("{value:?}"), format!("{again:?}"));
        format!("{value:?}")
    }};
}

fn body(code: i32, header: &Header<'_>, body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    match (code, header.is_response()) {
        (SendMessageV2::CODE | SendMessage::CODE, false) => match batched(header) {
            true => format!("{:?}", batch::decode(body).unwrap()),
            false => String::from_utf8_lossy(body).into_owned(),
        },
        (SendBatchMessage::CODE, false) => format!("{:?}", batch::decode(body).unwrap()),
        (PullMessage::CODE | LitePullMessage::CODE, true) => records(body),
        (Heartbeat::CODE, false) => json!(HeartbeatData, body),
        (RegisterBroker::CODE, false) => {
            let row: RegisterBroker<'_> = header.read().unwrap();
            let compressed = row.compressed.unwrap_or(false);
            format!("{:?}", register::decode(body, compressed, row.body_crc32.unwrap_or(0), header.version).unwrap())
        }
        (RegisterBroker::CODE, true) => json!(KvTable, body),
        (GetRouteInfo::CODE, true) => json!(TopicRouteData, body),
        (GetBrokerClusterInfo::CODE, true) => json!(ClusterInfo, body),
        (GetConsumerListByGroup::CODE, true) => json!(ConsumerIdList, body),
        (GetBrokerRuntimeInfo::CODE, true) => json!(KvTable, body),
        (GetAllTopicList::CODE, true) => json!(TopicList, body),
        (GetTopicStats::CODE, true) => json!(TopicStats, body),
        (GetConsumeStats::CODE, true) => json!(ConsumeStats, body),
        (UpdateSubscriptionGroup::CODE, false) => json!(SubscriptionGroupConfig, body),
        _ => format!("{} bytes", body.len()),
    }
}

fn batched(header: &Header<'_>) -> bool {
    header.field("m").or(header.field("batch")) == Some("true")
}

/// Records, and that each is written again byte for byte.
fn records(body: &[u8]) -> String {
    let mut again = Vec::new();
    let mut text = Vec::new();
    for record in record::decode_all(body) {
        let record = record.unwrap();
        record.encode(&mut again);
        text.push(format!("{record:?}"));
    }
    assert_eq!(again, body, "records are written as Java writes them");
    text.join(" ")
}

/// The frame as this project writes a header with its code, flags, remark and fields.
fn written(frame: &Frame, header: &Header<'_>) -> BytesMut {
    let extra: Vec<(&str, &str)> = header.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let head = Outgoing {
        serialization: frame.serialization,
        code: header.code,
        opaque: header.opaque,
        flag: header.flag,
        remark: header.remark.as_deref(),
        extra: &extra,
    };
    let mut out = BytesMut::new();
    head.write(&(), frame.body.len(), &mut out);
    out.put_slice(&frame.body);
    out
}

/// Whether the header is written again byte for byte; where it is not, it still reads the same.
fn written_alike(raw: &[u8], frame: &Frame, header: &Header<'_>) -> bool {
    let again = written(frame, header);
    let read = frame::take(&mut again.clone(), frame::MAX_FRAME_LENGTH).unwrap().unwrap();
    let read_header = Header::decode(&read).unwrap();
    let view = |h: &Header<'_>| format!("{} {} {} {:?} {:?}", h.code, h.opaque, h.flag, h.remark, h.fields);
    assert_eq!(view(&read_header), view(header));
    assert_eq!(read.body, frame.body);
    // The writer announces itself as Java's current version, so only that version's frames can be the same.
    again == raw
}

fn listing(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut buffer = BytesMut::from(bytes);
    let mut asked = BTreeMap::new();
    while let Some(length) = frame::expected_length(&buffer) {
        let raw = buffer[..length].to_vec();
        let frame = frame::take(&mut buffer, frame::MAX_FRAME_LENGTH).unwrap().expect("whole frames only");
        let header = Header::decode(&frame).unwrap();
        let code = if header.is_response() {
            asked[&header.opaque]
        } else {
            asked.insert(header.opaque, header.code);
            header.code
        };
        let name = requests::name(code).map_or_else(|| code.to_string(), |name| format!("{name} ({code})"));
        let what = if header.is_response() { format!("{} answers {name}", codes::name(header.code)) } else { name };
        let alike = if written_alike(&raw, &frame, &header) { ", written alike" } else { "" };
        let (kind, from) = (frame.serialization.name(), version::name(header.version));
        let _ = writeln!(text, "{what}: {kind}, {} {from}, flag {}{alike}", header.language.name(), header.flag);
        if let Some(remark) = &header.remark {
            let _ = writeln!(text, "  remark {remark:?}");
        }
        let mut fields = header.fields.clone();
        fields.sort();
        for (name, value) in fields {
            let _ = writeln!(text, "  {name} = {value:?}");
        }
        if let Some(typed) = typed(code, &header) {
            let _ = writeln!(text, "  read: {typed}");
        }
        if !frame.body.is_empty() {
            let _ = writeln!(text, "  body {}", body(code, &header, &frame.body));
        }
    }
    assert!(buffer.is_empty(), "half a frame at the end");
    text
}

fn recordings() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/frames");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "frames"));
    paths.sort();
    paths
}

#[test]
fn recorded_frames_read_as_listed() {
    let paths = recordings();
    assert!(paths.len() >= 10, "{paths:?}");
    for path in paths {
        let listing = listing(&std::fs::read(&path).unwrap());
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&beside, &listing).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap();
        for (line, (is, should)) in listing.lines().zip(expected.lines()).enumerate() {
            assert_eq!(is, should, "line {} of {}", line + 1, beside.display());
        }
        assert_eq!(listing.lines().count(), expected.lines().count(), "{}", beside.display());
    }
}

/// Cut anywhere, a recorded stream gives whole frames and then waits for more.
#[test]
fn recorded_frames_can_arrive_in_pieces() {
    for path in recordings() {
        let bytes = std::fs::read(&path).unwrap();
        let whole = count(&mut BytesMut::from(&bytes[..]));
        for piece in [1, 3, 7, 64, 1500] {
            let mut buffer = BytesMut::new();
            let mut found = 0;
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                found += count(&mut buffer);
            }
            assert_eq!((found, buffer.len()), (whole, 0), "{} in pieces of {piece}", path.display());
        }
    }
}

fn count(buffer: &mut BytesMut) -> usize {
    std::iter::from_fn(|| frame::take(buffer, frame::MAX_FRAME_LENGTH).unwrap()).count()
}
