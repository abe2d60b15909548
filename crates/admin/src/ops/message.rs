//! Messages: reading them from queues or by id, sending one, and who has consumed one.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use jiff::Zoned;
use protocol::bodies::{ConsumeStats, ConsumeType, MessageModel, MessageQueue, TopicRouteData};
use protocol::header::Typed;
use protocol::record::{self, Record};
use protocol::requests::{
    GetMaxOffset, GetMinOffset, OffsetReply, PullMessage, PullMessageReply, SearchOffset, SendMessageReply, SendMessageV2,
    ViewMessage,
};
use protocol::{codes, message_id, names, properties, sys_flag};
use serde::{Serialize, Serializer};

use super::{Access, Error, TIMEOUT, any_address, group, namesrv, topic};

/// What a compressed body may grow to.
pub const MAX_BODY: u64 = 128 * 1024 * 1024;

/// The producer group that a send is done under.
pub const PRODUCER_GROUP: &str = "mqadmin";

/// The most messages that one pull asks for; brokers give no more than 32 by default.
pub const MAX_PULL: i32 = 32;

/// Queues that a topic gets when a send creates it.
const DEFAULT_QUEUES: i32 = 4;

/// How long a broker may hold a pull; unused, as these pulls never wait.
const SUSPEND_MS: i64 = 20_000;

/// A stored message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Not known where a message was read by its id.
    pub broker_name: Option<String>,
    pub topic: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub commit_log_offset: i64,
    /// Bytes of the whole record.
    pub store_size: usize,
    /// The unique key that the client made, or else the offset message id.
    pub msg_id: String,
    pub offset_msg_id: String,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
    pub flag: i32,
    pub sys_flag: i32,
    #[serde(rename = "bodyCRC")]
    pub body_crc: u32,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    /// In the record's order.
    #[serde(serialize_with = "as_map")]
    pub properties: Vec<(String, String)>,
    /// As text in JSON where it is UTF-8, else as numbers.
    #[serde(serialize_with = "as_text")]
    pub body: Vec<u8>,
    /// The compression that `body` still has because it can't be undone here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_compression: Option<&'static str>,
}

fn as_map<S: Serializer>(pairs: &[(String, String)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn as_text<S: Serializer>(body: &[u8], s: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(body) {
        Ok(text) => s.serialize_str(text),
        Err(_) => s.collect_seq(body),
    }
}

impl Message {
    /// A property's value; of duplicates the last.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn set_property(&mut self, name: &str, value: String) {
        self.properties.retain(|(n, _)| n != name);
        self.properties.push((name.to_owned(), value));
    }
}

impl From<&Record<'_>> for Message {
    fn from(record: &Record<'_>) -> Self {
        let offset_msg_id = message_id::offset_id(record.store_host, record.physical_offset);
        let unique_key = properties::get(record.properties, properties::UNIQUE_KEY);
        let (body, body_compression) = plain_body(record);
        Self {
            broker_name: None,
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            queue_offset: record.queue_offset,
            commit_log_offset: record.physical_offset,
            store_size: record.encoded_length(),
            msg_id: unique_key.unwrap_or(&offset_msg_id).to_owned(),
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_timestamp: record.store_timestamp,
            store_host: record.store_host,
            flag: record.flag,
            sys_flag: record.sys_flag,
            body_crc: record::crc(record.body),
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            properties: properties::pairs(record.properties).map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            body,
            body_compression,
            offset_msg_id,
        }
    }
}

/// The body as it was sent; where it can't be had, the stored one with the name of its compression.
fn plain_body(record: &Record<'_>) -> (Vec<u8>, Option<&'static str>) {
    use sys_flag::message::{COMPRESSED, COMPRESSION_LZ4, COMPRESSION_MASK, COMPRESSION_ZSTD};
    if record.sys_flag & COMPRESSED == 0 {
        return (record.body.to_vec(), None);
    }
    match record.sys_flag & COMPRESSION_MASK {
        COMPRESSION_LZ4 => (record.body.to_vec(), Some("LZ4")),
        COMPRESSION_ZSTD => (record.body.to_vec(), Some("ZSTD")),
        _ => {
            let mut plain = Vec::new();
            let read = flate2::read::ZlibDecoder::new(record.body).take(MAX_BODY + 1).read_to_end(&mut plain);
            if read.is_ok() && plain.len() as u64 <= MAX_BODY { (plain, None) } else { (record.body.to_vec(), Some("ZLIB")) }
        }
    }
}

/// A queue and the broker's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueAt {
    pub queue: MessageQueue,
    pub address: String,
}

/// The queues of a topic from which can be read, by broker and number.
pub fn readable_queues(route: &TopicRouteData, topic: &str) -> Result<Vec<QueueAt>, Error> {
    queues(route, topic, sys_flag::perm::READ, "read")
}

/// The queues of a topic that take messages, by broker and number.
pub fn writable_queues(route: &TopicRouteData, topic: &str) -> Result<Vec<QueueAt>, Error> {
    queues(route, topic, sys_flag::perm::WRITE, "written to")
}

fn queues(route: &TopicRouteData, topic: &str, perm: i32, wanted: &'static str) -> Result<Vec<QueueAt>, Error> {
    let mut found = Vec::new();
    for data in route.queue_datas.iter().filter(|q| q.perm & perm != 0) {
        let Some(broker) = route.broker_datas.iter().find(|b| b.broker_name == data.broker_name) else { continue };
        let writes = perm == sys_flag::perm::WRITE;
        let address = if writes { broker.broker_addrs.get(&names::MASTER_ID).map(String::as_str) } else { any_address(broker) };
        let Some(address) = address else { continue };
        for queue_id in 0..if writes { data.write_queue_nums } else { data.read_queue_nums } {
            let queue = MessageQueue { topic: topic.to_owned(), broker_name: data.broker_name.clone(), queue_id };
            found.push(QueueAt { queue, address: address.to_owned() });
        }
    }
    if found.is_empty() {
        let brokers = route.broker_datas.iter().map(|b| b.broker_name.clone()).collect();
        return Err(Error::NoQueue { topic: topic.to_owned(), wanted, brokers });
    }
    found.sort();
    Ok(found)
}

/// A queue of a topic by the names that a user gives. Whether the queue exists is for the broker to say.
pub fn queue_at(route: &TopicRouteData, topic: &str, broker_name: &str, queue_id: i32) -> Result<QueueAt, Error> {
    let broker = route.broker_datas.iter().find(|b| b.broker_name == broker_name);
    let Some(address) = broker.and_then(any_address) else {
        return Err(no_broker(route, topic, broker_name));
    };
    let queue = MessageQueue { topic: topic.to_owned(), broker_name: broker_name.to_owned(), queue_id };
    Ok(QueueAt { queue, address: address.to_owned() })
}

fn no_broker(route: &TopicRouteData, topic: &str, broker: &str) -> Error {
    let known = route.broker_datas.iter().map(|b| b.broker_name.clone()).collect();
    Error::NoBroker { topic: topic.to_owned(), broker: broker.to_owned(), known }
}

/// The offset of the oldest message that the queue still has.
pub async fn min_offset(access: &Access, at: &QueueAt) -> Result<i64, Error> {
    let request = GetMinOffset { topic: &at.queue.topic, queue_id: at.queue.queue_id };
    let answer = access.pool.call(&at.address, &request, &[], TIMEOUT).await?;
    Ok(answer.fields(|header| Ok(OffsetReply::read(&header.fields)?.offset))?)
}

/// The offset that the next message will get.
pub async fn max_offset(access: &Access, at: &QueueAt) -> Result<i64, Error> {
    let request = GetMaxOffset { topic: &at.queue.topic, queue_id: at.queue.queue_id };
    let answer = access.pool.call(&at.address, &request, &[], TIMEOUT).await?;
    Ok(answer.fields(|header| Ok(OffsetReply::read(&header.fields)?.offset))?)
}

/// The offset of the first message that was stored at `timestamp` (ms) or later.
pub async fn search_offset(access: &Access, at: &QueueAt, timestamp: i64) -> Result<i64, Error> {
    let request = SearchOffset { topic: &at.queue.topic, queue_id: at.queue.queue_id, timestamp, boundary_type: None };
    let answer = access.pool.call(&at.address, &request, &[], TIMEOUT).await?;
    Ok(answer.fields(|header| Ok(OffsetReply::read(&header.fields)?.offset))?)
}

/// What became of a pull, under Java's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStatus {
    Found,
    NoNewMessage,
    NoMatchedMessage,
    OffsetIllegal,
}

impl PullStatus {
    pub fn name(self) -> &'static str {
        match self {
            PullStatus::Found => "FOUND",
            PullStatus::NoNewMessage => "NO_NEW_MSG",
            PullStatus::NoMatchedMessage => "NO_MATCHED_MSG",
            PullStatus::OffsetIllegal => "OFFSET_ILLEGAL",
        }
    }
}

/// An answer to a pull.
#[derive(Debug)]
pub struct Pulled {
    pub status: PullStatus,
    pub next_offset: i64,
    pub messages: Vec<Message>,
}

/// What to pull: for which group, which tags (`*` or tags joined by `||`), from where on, how many at most.
#[derive(Clone, Copy, Debug)]
pub struct Pull<'a> {
    pub group: &'a str,
    pub expression: &'a str,
    pub offset: i64,
    pub count: i32,
}

impl Default for Pull<'_> {
    fn default() -> Self {
        Self { group: names::TOOLS_CONSUMER_GROUP, expression: "*", offset: 0, count: MAX_PULL }
    }
}

/// Pulls messages of one queue; never waits for new ones and moves no offset.
pub async fn pull(access: &Access, at: &QueueAt, pull: Pull<'_>) -> Result<Pulled, Error> {
    let request = PullMessage {
        consumer_group: pull.group,
        topic: &at.queue.topic,
        queue_id: at.queue.queue_id,
        queue_offset: pull.offset,
        max_msg_nums: pull.count.clamp(1, MAX_PULL),
        sys_flag: sys_flag::pull::SUBSCRIPTION,
        suspend_timeout_millis: SUSPEND_MS,
        subscription: Some(pull.expression),
        expression_type: Some("TAG"),
        ..PullMessage::default()
    };
    let answer = access.pool.get(&at.address).await?.call(&request, &[], TIMEOUT).await?;
    let status = match answer.code {
        codes::SUCCESS => PullStatus::Found,
        codes::PULL_NOT_FOUND => PullStatus::NoNewMessage,
        codes::PULL_RETRY_IMMEDIATELY => PullStatus::NoMatchedMessage,
        codes::PULL_OFFSET_MOVED => PullStatus::OffsetIllegal,
        _ => return Err(answer.success().expect_err("the code is not SUCCESS").into()),
    };
    let reply = answer.fields(|header| PullMessageReply::read(&header.fields))?;
    let mut messages = Vec::new();
    if status == PullStatus::Found {
        for decoded in record::decode_all(answer.body()) {
            let record = decoded.map_err(|reason| Error::Record { address: at.address.clone(), reason })?;
            let mut message = Message::from(&record);
            message.broker_name = Some(at.queue.broker_name.clone());
            message.set_property("MIN_OFFSET", reply.min_offset.to_string());
            message.set_property("MAX_OFFSET", reply.max_offset.to_string());
            if has_tag(pull.expression, message.property(properties::TAGS)) {
                messages.push(message);
            }
        }
    }
    Ok(Pulled { status, next_offset: reply.next_begin_offset, messages })
}

/// Brokers filter by the tag's hash alone, so the client compares the tags.
fn has_tag(expression: &str, tag: Option<&str>) -> bool {
    expression.trim() == "*" || expression.trim().is_empty() || expression.split("||").any(|one| Some(one.trim()) == tag)
}

/// Reads a message by its offset message id, from the broker that the id names.
pub async fn view(access: &Access, topic: &str, id: &str) -> Result<Message, Error> {
    let Some((host, offset)) = message_id::parse_offset_id(id) else {
        return Err(Error::Usage("it is not such an id, which has 32 or 56 hex digits".to_owned()));
    };
    let address = host.to_string();
    let request = ViewMessage { topic: Some(topic), offset };
    let answer = access.pool.call(&address, &request, &[], TIMEOUT).await?;
    let record = record::decode(answer.body()).map_err(|reason| Error::Record { address, reason })?;
    Ok(Message::from(&record))
}

/// A message to send, and where to.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    pub topic: &'a str,
    pub body: &'a [u8],
    /// A unique key and `WAIT` are added where they are missing.
    pub properties: Vec<(String, String)>,
    pub broker_name: Option<&'a str>,
    pub queue_id: Option<i32>,
}

/// A message that was stored. Any status but `SEND_OK` says which promise of durability was not kept in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    pub topic: String,
    pub broker_name: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub send_status: &'static str,
    pub msg_id: String,
    pub offset_msg_id: String,
}

/// Sends a message to the queue that the draft names, or else to any. A topic that no name server knows is
/// created by the broker where it may ([`names::DEFAULT_TOPIC`]).
pub async fn send(access: &Access, draft: &Draft<'_>) -> Result<Sent, Error> {
    let route = match namesrv::route(access, draft.topic).await {
        Err(unknown @ Error::NoRoute { .. }) => default_route(access, unknown).await?,
        answered => answered?,
    };
    let mut queues = writable_queues(&route, draft.topic)?;
    if let Some(name) = draft.broker_name {
        queues.retain(|at| at.queue.broker_name == name);
        if queues.is_empty() {
            return Err(no_broker(&route, draft.topic, name));
        }
    }
    let count = queues.len();
    if let Some(id) = draft.queue_id {
        queues.retain(|at| at.queue.queue_id == id);
    }
    let now = net::now_ms();
    let Some(at) = queues.get(now.unsigned_abs() as usize % queues.len().max(1)) else {
        let expected = format!("a queue of topic {}, whose {count} queues there count from 0", draft.topic);
        return Err(Error::Value { option: "qid", value: draft.queue_id.unwrap_or_default().to_string(), expected });
    };
    send_to(access, draft, at, now).await
}

/// The route of the topic that brokers offer where they create topics by themselves, with few queues.
async fn default_route(access: &Access, unknown: Error) -> Result<TopicRouteData, Error> {
    let mut route = match namesrv::route(access, names::DEFAULT_TOPIC).await {
        Err(Error::NoRoute { .. }) => return Err(unknown),
        answered => answered?,
    };
    for data in &mut route.queue_datas {
        data.write_queue_nums = data.write_queue_nums.min(DEFAULT_QUEUES);
    }
    Ok(route)
}

/// Sends a message to a queue at `now` (ms).
pub async fn send_to(access: &Access, draft: &Draft<'_>, at: &QueueAt, now: i64) -> Result<Sent, Error> {
    let mut text = String::new();
    for (name, value) in &draft.properties {
        properties::push(&mut text, name, value);
    }
    let msg_id = match properties::get(&text, properties::UNIQUE_KEY) {
        Some(key) => key.to_owned(),
        None => {
            let key = unique_key(local_ip(&at.address), std::process::id(), &Zoned::now());
            properties::push(&mut text, properties::UNIQUE_KEY, &key);
            key
        }
    };
    if properties::get(&text, properties::WAIT).is_none() {
        properties::push(&mut text, properties::WAIT, "true");
    }
    let request = SendMessageV2 {
        producer_group: PRODUCER_GROUP,
        topic: draft.topic,
        default_topic: names::DEFAULT_TOPIC,
        default_topic_queue_nums: DEFAULT_QUEUES,
        queue_id: at.queue.queue_id,
        born_timestamp: now,
        properties: Some(&text),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        batch: Some(false),
        ..SendMessageV2::default()
    };
    let answer = access.pool.get(&at.address).await?.call(&request, draft.body, TIMEOUT).await?;
    let send_status = match answer.code {
        codes::SUCCESS => "SEND_OK",
        codes::FLUSH_DISK_TIMEOUT => "FLUSH_DISK_TIMEOUT",
        codes::SLAVE_NOT_AVAILABLE => "SLAVE_NOT_AVAILABLE",
        codes::FLUSH_SLAVE_TIMEOUT => "FLUSH_SLAVE_TIMEOUT",
        _ => return Err(answer.success().expect_err("the code is not SUCCESS").into()),
    };
    let (queue_id, queue_offset, offset_msg_id) = answer.fields(|header| {
        let reply = SendMessageReply::read(&header.fields)?;
        Ok((reply.queue_id, reply.queue_offset, reply.msg_id.to_owned()))
    })?;
    let (topic, broker_name) = (draft.topic.to_owned(), at.queue.broker_name.clone());
    Ok(Sent { topic, broker_name, queue_id, queue_offset, send_status, msg_id, offset_msg_id })
}

/// The address under which this machine reaches `peer`. Nothing is sent.
fn local_ip(peer: &str) -> Ipv4Addr {
    let local = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect(peer)?;
        socket.local_addr()
    });
    match local.map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// A message's unique key (Java: `MessageClientIDSetter`): address, process, a number of its own, the ms since the
/// local month began (readers tell the day from it), a counter; 32 hex digits.
fn unique_key(ip: Ipv4Addr, process: u32, now: &Zoned) -> String {
    let month = now.first_of_month().and_then(|day| day.start_of_day()).map_or(0, |day| day.timestamp().as_millisecond());
    let since = now.timestamp().as_millisecond().wrapping_sub(month) as u32;
    let own = now.timestamp().subsec_nanosecond() as u32 ^ process.rotate_left(16);
    format!("{:08X}{:04X}{own:08X}{since:08X}0000", u32::from(ip), process as u16)
}

/// What is known of a group and a message, under Java's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrackType {
    Consumed,
    ConsumedButFiltered,
    /// The group pulls: what it did with the message is its own affair.
    Pull,
    NotConsumeYet,
    NotOnline,
    ConsumeBroadcasting,
    Unknown,
}

impl TrackType {
    pub fn name(self) -> &'static str {
        match self {
            TrackType::Consumed => "CONSUMED",
            TrackType::ConsumedButFiltered => "CONSUMED_BUT_FILTERED",
            TrackType::Pull => "PULL",
            TrackType::NotConsumeYet => "NOT_CONSUME_YET",
            TrackType::NotOnline => "NOT_ONLINE",
            TrackType::ConsumeBroadcasting => "CONSUME_BROADCASTING",
            TrackType::Unknown => "UNKNOWN",
        }
    }
}

/// One group's track of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    pub consumer_group: String,
    pub track_type: TrackType,
    /// Why no more is known.
    pub exception_desc: Option<String>,
}

/// What each group that consumes the message's topic did with it.
pub async fn tracks(access: &Access, message: &Message) -> Result<Vec<Track>, Error> {
    let route = namesrv::route(access, &message.topic).await?;
    let mut tracks = Vec::new();
    for consumer_group in topic::consumer_groups(access, &route, &message.topic).await? {
        let (track_type, exception_desc) = match track(access, &route, message, &consumer_group).await {
            Ok(track_type) => (track_type, None),
            Err(Error::NotOnline { .. }) => {
                // A broker's own words.
                let said = format!("CODE:{} DESC:the consumer group[{consumer_group}] not online", codes::CONSUMER_NOT_ONLINE);
                (TrackType::NotOnline, Some(said))
            }
            Err(error) => (TrackType::Unknown, Some(error.remark())),
        };
        tracks.push(Track { consumer_group, track_type, exception_desc });
    }
    Ok(tracks)
}

async fn track(access: &Access, route: &TopicRouteData, message: &Message, group: &str) -> Result<TrackType, Error> {
    let connection = group::consumer_connection(access, group, None).await?;
    match connection.consume_type {
        ConsumeType::Actively => return Ok(TrackType::Pull),
        ConsumeType::Pop => return Ok(TrackType::Unknown),
        ConsumeType::Passively => {}
    }
    if connection.message_model == MessageModel::Broadcasting {
        return Ok(TrackType::ConsumeBroadcasting);
    }
    if !consumed(&group::consume_stats(access, group, None, None).await?, route, message) {
        return Ok(TrackType::NotConsumeYet);
    }
    let subscription = connection.subscription_table.values().find(|s| s.topic == message.topic);
    let filtered = subscription.is_some_and(|s| {
        let tag = message.property(properties::TAGS).unwrap_or_default();
        !s.tags_set.is_empty() && !s.tags_set.contains("*") && !s.tags_set.contains(tag)
    });
    Ok(if filtered { TrackType::ConsumedButFiltered } else { TrackType::Consumed })
}

/// Whether the group's offset is past the message, on the broker that stored it.
fn consumed(stats: &ConsumeStats, route: &TopicRouteData, message: &Message) -> bool {
    let host = message.store_host.to_string();
    stats.offset_table.iter().any(|(queue, offset)| {
        let stored_there = || {
            let broker = route.broker_datas.iter().find(|b| b.broker_name == queue.broker_name);
            broker.is_some_and(|b| b.broker_addrs.values().any(|address| *address == host))
        };
        queue.topic == message.topic
            && queue.queue_id == message.queue_id
            && offset.consumer_offset > message.queue_offset
            && stored_there()
    })
}

/// A record of a message of topic `T`.
#[cfg(test)]
pub fn record<'a>(body: &'a [u8], properties: &'a str) -> Record<'a> {
    Record {
        queue_id: 1,
        flag: 0,
        queue_offset: 4,
        physical_offset: 258,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "10.0.0.9:5".parse().unwrap(),
        store_timestamp: 2,
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic: "T",
        properties,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use protocol::bodies::{BrokerData, OffsetWrapper, QueueData};

    use super::*;

    fn route(perm: i32) -> TopicRouteData {
        let broker = |name: &str, id: i64| BrokerData {
            broker_name: name.into(),
            broker_addrs: [(id, format!("10.0.0.1:{}", 10911 + id))].into(),
            ..Default::default()
        };
        let queues = |name: &str| QueueData {
            broker_name: name.into(),
            perm,
            read_queue_nums: 2,
            write_queue_nums: 1,
            ..Default::default()
        };
        TopicRouteData {
            broker_datas: vec![broker("b", 0), broker("a", 1)],
            queue_datas: vec![queues("b"), queues("a")],
            ..Default::default()
        }
    }

    #[test]
    fn queues_follow_permission_and_role() {
        let names = |queues: Vec<QueueAt>| -> Vec<String> {
            queues.iter().map(|at| format!("{}{}", at.queue.broker_name, at.queue.queue_id)).collect()
        };
        assert_eq!(names(readable_queues(&route(6), "T").unwrap()), ["a0", "a1", "b0", "b1"]);
        // Only masters are written to.
        assert_eq!(names(queues(&route(6), "T", sys_flag::perm::WRITE, "written to").unwrap()), ["b0"]);
        let refused = queues(&route(4), "T", sys_flag::perm::WRITE, "written to").unwrap_err();
        assert!(refused.to_string().contains("T can't be written to"), "{refused}");
    }

    #[test]
    fn a_message_shows_the_body_that_was_sent() {
        let plain = Message::from(&record(b"hello", "UNIQ_KEY\u{1}K\u{2}TAGS\u{1}a\u{2}TAGS\u{1}b"));
        assert_eq!((plain.msg_id.as_str(), plain.property("TAGS")), ("K", Some("b")));
        assert_eq!(plain.offset_msg_id, "0A00000100002A9F0000000000000102");
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"hello").unwrap();
        let compressed = encoder.finish().unwrap();
        let mut stored = record(&compressed, "");
        stored.sys_flag = sys_flag::message::COMPRESSED;
        let message = Message::from(&stored);
        assert_eq!((message.body.as_slice(), message.body_compression), (&b"hello"[..], None));
        stored.sys_flag |= sys_flag::message::COMPRESSION_ZSTD;
        assert_eq!(Message::from(&stored).body_compression, Some("ZSTD"));
        let json = serde_json::to_value(&plain).unwrap();
        assert_eq!((&json["body"], &json["properties"]["TAGS"]), (&"hello".into(), &"b".into()));
    }

    #[test]
    fn tags_are_compared_by_the_client() {
        assert!(has_tag("*", None) && has_tag("a || b", Some("b")));
        assert!(!has_tag("a || b", Some("c")) && !has_tag("a", None));
    }

    #[test]
    fn a_unique_key_tells_when_it_was_made() {
        let now: Zoned = "2026-11-21T08:21:16.548[UTC]".parse().unwrap();
        let key = unique_key(Ipv4Addr::new(10, 0, 0, 1), 0x1_2345, &now);
        assert_eq!((key.len(), &key[..12]), (32, "0A0000012345"));
        let since = i64::from_str_radix(&key[20..28], 16).unwrap();
        let month: Zoned = "2026-11-01T00:00:00[UTC]".parse().unwrap();
        assert_eq!(since, now.timestamp().as_millisecond() - month.timestamp().as_millisecond());
    }

    #[test]
    fn consumed_means_past_the_message_on_its_own_broker() {
        let message = Message::from(&record(b"", ""));
        let stats = |broker: &str, consumer_offset: i64| {
            let queue = MessageQueue { topic: "T".into(), broker_name: broker.into(), queue_id: 1 };
            let offset = OffsetWrapper { consumer_offset, ..Default::default() };
            ConsumeStats { offset_table: [(queue, offset)].into(), ..Default::default() }
        };
        assert!(consumed(&stats("b", 5), &route(6), &message));
        assert!(!consumed(&stats("b", 4), &route(6), &message));
        assert!(!consumed(&stats("a", 5), &route(6), &message));
    }
}
