//! queryMsgById, queryMsgByOffset, printMsg, sendMessage, consumeMessage.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use protocol::bodies::{ConsumeResult, MessageQueue};
use protocol::{names, properties};
use serde::Serialize;

use super::columns::{map, or_null, parse_time, time_ms};
use super::table::{Call, each, settle};
use crate::ops::message::{Draft, MAX_PULL, Message, Pull, PullStatus, QueueAt, Sent, Track};
use crate::ops::{Error, consumer, message, namesrv, query};

/// Where Java's mqadmin leaves the bodies of messages that are looked at.
pub(super) const BODIES: &str = "/tmp/rocketmq/msgbodys";

/// Messages that consumeMessage shows unless told otherwise.
const CONSUMED: i64 = 128;

const TIME: &str = "[currentTimeMillis|yyyy-MM-dd#HH:mm:ss:SSS]";

pub async fn query_by_id(call: Call) -> Result<(), Error> {
    let (topic, resend) = (call.required("topic")?, call.truth("sendMessage")?);
    let charset = Charset::of(&call, "bodyFormat")?;
    let cluster = call.value("cluster").filter(|name| !name.is_empty());
    let client = call.value("consumerGroup").zip(call.value("clientId"));
    let mut failures = Vec::new();
    for id in call.required("msgId")?.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        match (query::by_id(&call.access, topic, id, cluster).await, resend) {
            (Ok(found), _) if client.is_some() => {
                let (group, client_id) = client.unwrap_or_default();
                failures.extend(push_to_client(&call, group, client_id, &found).await.err());
            }
            (Ok(found), None) => show(&call, &found, charset).await?,
            (Ok(found), Some(true)) => send_again(&call, id, &found).await?,
            // As in Java: told not to send again, nothing is done.
            (Ok(_), Some(false)) => {}
            (Err(error), _) => failures.push(error),
        }
    }
    settle(failures)
}

async fn send_again(call: &Call, id: &str, found: &Message) -> Result<(), Error> {
    let draft =
        Draft { topic: &found.topic, body: &found.body, properties: found.properties.clone(), broker_name: None, queue_id: None };
    if let Some(compression) = found.body_compression {
        return Err(Error::Usage(format!(
            "message {id} can't be sent again: its {compression} compression can't be undone here"
        )));
    }
    let sent = message::send(&call.access, &draft).await?;
    call.show(&sent, || resent(id, &sent))
}

fn resent(id: &str, sent: &Sent) -> String {
    format!("prepare resend msg. originalMsgId={id}{}\n", sent_text(sent))
}

/// What was sent in Java's form.
pub(super) fn sent_text(sent: &Sent) -> String {
    let queue = MessageQueue { topic: sent.topic.clone(), broker_name: sent.broker_name.clone(), queue_id: sent.queue_id };
    format!(
        "SendResult [sendStatus={}, msgId={}, offsetMsgId={}, messageQueue={}, queueOffset={}, recallHandle=null]",
        sent.send_status,
        sent.msg_id,
        sent.offset_msg_id,
        queue_text(&queue),
        sent.queue_offset
    )
}

/// Has one consumer consume a message, and shows what it did.
pub(super) async fn push_to_client(call: &Call, group: &str, client_id: &str, found: &Message) -> Result<(), Error> {
    let info = consumer::running_info(&call.access, group, client_id, false).await?;
    if !info.is_push() {
        return Err(Error::Usage(format!("{client_id} is no push consumer of group {group}: no message can be pushed to it")));
    }
    let (address, id) = (found.store_host.to_string(), &found.offset_msg_id);
    let result = consumer::consume_directly(&call.access, &address, group, client_id, &found.topic, id).await?;
    let ConsumeResult { auto_commit, consume_result, order, remark, spent_time_mills } = &result;
    let (outcome, remark) = (or_null(consume_result.as_deref()), or_null(remark.as_deref()));
    let text = format!(
        "ConsumeMessageDirectlyResult [order={order}, autoCommit={auto_commit}, consumeResult={outcome}, remark={remark}, \
         spentTimeMills={spent_time_mills}]\n"
    );
    call.show(&result, || text)
}

pub async fn query_by_offset(call: Call) -> Result<(), Error> {
    let (topic, broker) = (call.required("topic")?, call.required("brokerName")?);
    let charset = Charset::of(&call, "bodyFormat")?;
    let (queue_id, offset) = (call.number("queueId")?.unwrap_or_default(), call.number("offset")?.unwrap_or_default());
    let at = message::queue_at(&namesrv::route(&call.access, topic).await?, topic, broker, queue_id)?;
    let pulled = message::pull(&call.access, &at, Pull { offset, count: 1, ..Pull::default() }).await?;
    match pulled.messages.first() {
        Some(found) => show(&call, found, charset).await,
        None => Err(Error::Usage(format!(
            "{} has no message at offset {offset}: {}, next offset {}",
            queue_text(&at.queue),
            pulled.status.name(),
            pulled.next_offset
        ))),
    }
}

/// A message with what its groups did with it.
#[derive(Serialize)]
pub(super) struct Tracked<'a> {
    #[serde(flatten)]
    pub message: &'a Message,
    pub tracks: Vec<Track>,
}

/// Shows one message with the tracks of its groups, and leaves its body in a file.
async fn show(call: &Call, message: &Message, charset: Option<Charset>) -> Result<(), Error> {
    let tracks = message::tracks(&call.access, message).await?;
    if call.json() {
        return call.print_json(&Tracked { message, tracks });
    }
    let path = leave_body(Path::new(BODIES), message, 0)?;
    call.print(&details(message, &path.to_string_lossy(), charset, &tracks, &call.zone))
}

/// Writes the body to a file named like the message, the `index`th of that name. The name came over the network, so it
/// is no path.
pub(super) fn leave_body(directory: &Path, message: &Message, index: usize) -> Result<PathBuf, Error> {
    let plain = message.msg_id.bytes().all(|b| b.is_ascii_alphanumeric()) && message.msg_id.len() <= 128;
    let name = if plain { &message.msg_id } else { &message.offset_msg_id };
    let path = directory.join(if index == 0 { name.clone() } else { format!("{name}_{index}") });
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, &message.body));
    let failed = |reason| Error::Write { what: format!("the body to {} (--json needs no file)", path.display()), reason };
    written.map_err(failed)?;
    Ok(path)
}

pub(super) fn details(message: &Message, path: &str, charset: Option<Charset>, tracks: &[Track], zone: &TimeZone) -> String {
    let property = |name: &str| format!("[{}]", or_null(message.property(name)));
    let mut rows = vec![
        ("OffsetID:", message.offset_msg_id.clone()),
        ("Topic:", message.topic.clone()),
        ("Tags:", property(properties::TAGS)),
        ("Keys:", property(properties::KEYS)),
        ("Queue ID:", message.queue_id.to_string()),
        ("Queue Offset:", message.queue_offset.to_string()),
        ("CommitLog Offset:", message.commit_log_offset.to_string()),
        ("Reconsume Times:", message.reconsume_times.to_string()),
        ("Born Timestamp:", time_ms(message.born_timestamp, zone)),
        ("Store Timestamp:", time_ms(message.store_timestamp, zone)),
        ("Born Host:", message.born_host.to_string()),
        ("Store Host:", message.store_host.to_string()),
        ("System Flag:", message.sys_flag.to_string()),
        ("Properties:", properties_text(message)),
        ("Message Body Path:", path.to_owned()),
    ];
    if let Some(charset) = charset {
        rows.push(("Message Body:", body_text(message, charset)));
    }
    let mut out: String = rows.into_iter().map(|(name, value)| format!("{name:<20} {value}\n")).collect();
    out += "\n\n";
    if tracks.is_empty() {
        return out + "WARN: No Consumer\n";
    }
    for Track { consumer_group, track_type, exception_desc } in tracks {
        let (kind, why) = (track_type.name(), or_null(exception_desc.as_deref()));
        out += &format!("MessageTrack [consumerGroup={consumer_group}, trackType={kind}, exceptionDesc={why}]\n");
    }
    out
}

pub async fn print_msg(call: Call) -> Result<(), Error> {
    let topic = call.required("topic")?;
    let charset = Charset::of(&call, "charsetName")?.unwrap_or(Charset::Utf8);
    let body = call.truth("printBody")?.unwrap_or(true).then_some(charset);
    let (begin, end) = (time(&call, "beginTimestamp")?, time(&call, "endTimestamp")?);
    let route = namesrv::route(&call.access, call.value("lmqParentTopic").unwrap_or(topic)).await?;
    let expression = call.value("subExpression").unwrap_or("*");
    let print = async |at: QueueAt| print_queue(&call, &at, expression, (begin, end), body).await;
    each(message::readable_queues(&route, topic)?, print).await
}

async fn print_queue(
    call: &Call,
    at: &QueueAt,
    expression: &str,
    times: (Option<i64>, Option<i64>),
    body: Option<Charset>,
) -> Result<(), Error> {
    let (min, max) = bounds(call, at, times).await?;
    let queue = queue_text(&at.queue);
    say(call, &format!("minOffset={min}, maxOffset={max}, {queue}\n"))?;
    let mut offset = min;
    while offset < max {
        let pulled = message::pull(&call.access, at, Pull { offset, expression, ..Pull::default() }).await?;
        let stuck = pulled.next_offset <= offset;
        offset = pulled.next_offset;
        print_messages(call, &pulled.messages, body)?;
        let status = pulled.status.name();
        match pulled.status {
            PullStatus::Found if !stuck => {}
            PullStatus::NoMatchedMessage if !stuck => {
                say(call, &format!("{queue} no matched msg. status={status}, offset={offset}\n"))?;
            }
            _ => {
                say(call, &format!("{queue} print msg finished. status={status}, offset={offset}\n"))?;
                break;
            }
        }
    }
    say(call, "--------------------------------------------------------\n")
}

/// Prints what surrounds the messages; JSON has no place for it.
fn say(call: &Call, text: &str) -> Result<(), Error> {
    if call.json() { Ok(()) } else { call.print(text) }
}

/// The offsets between which a queue is read: all that it has, or what was stored between two times.
async fn bounds(call: &Call, at: &QueueAt, (begin, end): (Option<i64>, Option<i64>)) -> Result<(i64, i64), Error> {
    let min = match begin {
        Some(time) => message::search_offset(&call.access, at, time).await?,
        None => message::min_offset(&call.access, at).await?,
    };
    let max = match end {
        Some(time) => message::search_offset(&call.access, at, time).await?,
        None => message::max_offset(&call.access, at).await?,
    };
    Ok((min, max))
}

fn time(call: &Call, option: &'static str) -> Result<Option<i64>, Error> {
    let Some(text) = call.value(option) else { return Ok(None) };
    let wrong = || Error::Value { option, value: text.to_owned(), expected: format!("a time {TIME}") };
    parse_time(text, &call.zone).map(Some).ok_or_else(wrong)
}

/// Prints messages as lines, or as lines of JSON. `body` is the charset to print bodies in, if at all.
fn print_messages(call: &Call, messages: &[Message], body: Option<Charset>) -> Result<(), Error> {
    let mut out = String::new();
    for message in messages {
        if call.json() {
            let json = serde_json::to_string(message);
            out += &json.map_err(|e| Error::Write { what: "the output as JSON".to_owned(), reason: e.into() })?;
            out.push('\n');
        } else {
            out += &message_line(message, body);
        }
    }
    call.print(&out)
}

pub async fn send_message(call: Call) -> Result<(), Error> {
    let topic = call.required("topic")?;
    names::check_topic(topic).map_err(|e| Error::Usage(e.to_string()))?;
    if call.value("qid").is_some() && call.value("broker").is_none() {
        return Err(Error::Usage("Broker name must be set if the queue is chosen!".to_owned()));
    }
    if call.truth("msgTraceEnable")? == Some(true) {
        return Err(Error::Usage("a trace of the message can't be sent: leave -m out, or send with a client".to_owned()));
    }
    let mut properties = Vec::new();
    for (name, value) in [(properties::TAGS, call.value("tags")), (properties::KEYS, call.value("key"))] {
        properties.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    let draft = Draft {
        topic,
        body: call.required("body")?.as_bytes(),
        properties,
        broker_name: call.value("broker"),
        queue_id: call.number("qid")?,
    };
    let sent = message::send(&call.access, &draft).await?;
    call.show(&sent, || sent_table(&sent))
}

fn sent_table(sent: &Sent) -> String {
    let row = |cells: [&str; 4]| format!("{:<32}  {:<4}  {:<20}    {}\n", cells[0], cells[1], cells[2], cells[3]);
    row(["#Broker Name", "#QID", "#Send Result", "#MsgId"])
        + &row([&sent.broker_name, &sent.queue_id.to_string(), sent.send_status, &sent.msg_id])
}

pub async fn consume_message(call: Call) -> Result<(), Error> {
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    let topic = call.required("topic")?;
    let count = call.number("MessageNumber")?.unwrap_or(CONSUMED);
    let (begin, end) = (time(&call, "beginTimestamp")?, time(&call, "endTimestamp")?);
    if count <= 0 {
        return usage("Please input a positive messageNumber!");
    }
    if call.value("queueId").is_some() && call.value("brokerName").is_none() {
        return usage("Please set the brokerName before queueId!");
    }
    if call.value("offset").is_some() && call.value("queueId").is_none() {
        return usage("Please set queueId before offset!");
    }
    if begin.zip(end).is_some_and(|(begin, end)| begin > end) {
        return usage("Please make sure that the beginTimestamp is less than or equal to the endTimestamp");
    }
    let route = namesrv::route(&call.access, topic).await?;
    let Some(queue_id) = call.number("queueId")? else {
        return consume_all(&call, message::readable_queues(&route, topic)?, (begin, end), count).await;
    };
    let at = message::queue_at(&route, topic, call.required("brokerName")?, queue_id)?;
    let (min, max) = bounds(&call, &at, (begin, end)).await?;
    let offset = call.number("offset")?.unwrap_or(min);
    if offset > max {
        return say(&call, &format!("{} no matched msg, offset={offset}\n", queue_text(&at.queue)));
    }
    let from = min.max(offset);
    if max - from > count {
        // The word is Java's.
        say(&call, &format!("The oldler {count} message will be provided\n"))?;
    }
    consume_queue(&call, &at, from, max, count).await?;
    Ok(())
}

/// Shows up to `count` messages of all queues, or of those of the broker that the call names.
async fn consume_all(call: &Call, queues: Vec<QueueAt>, times: (Option<i64>, Option<i64>), mut count: i64) -> Result<(), Error> {
    let wanted = |at: &QueueAt| call.value("brokerName").is_none_or(|name| name == at.queue.broker_name);
    let consume = async |at: QueueAt| {
        if count == 0 {
            return Ok(());
        }
        let (min, max) = bounds(call, &at, times).await?;
        if max - min > count {
            let id = at.queue.queue_id;
            say(call, &format!("The older {count} message of the {id} queue will be provided\n"))?;
        }
        count -= consume_queue(call, &at, min, max, count).await?;
        Ok(())
    };
    each(queues.into_iter().filter(wanted), consume).await
}

/// Shows up to `count` messages between two offsets, and says where the queue ended if it did. Gives how many.
async fn consume_queue(call: &Call, at: &QueueAt, min: i64, max: i64, count: i64) -> Result<i64, Error> {
    let queue = queue_text(&at.queue);
    let (mut offset, mut shown) = (min, 0);
    // One pull past the newest message tells that there is none.
    while offset <= max && shown < count {
        let wanted = (count - shown).min((max - offset).max(1)).min(i64::from(MAX_PULL));
        let group = call.value("consumerGroup").unwrap_or(names::TOOLS_CONSUMER_GROUP);
        let pull = Pull { group, offset, count: wanted as i32, ..Pull::default() };
        let pulled = message::pull(&call.access, at, pull).await?;
        let stuck = pulled.next_offset <= offset;
        offset = pulled.next_offset;
        let status = pulled.status.name();
        match pulled.status {
            PullStatus::Found if !stuck => {
                say(call, "Consume ok\n")?;
                print_messages(call, &pulled.messages, Some(Charset::Utf8))?;
                shown += pulled.messages.len() as i64;
            }
            PullStatus::NoMatchedMessage if !stuck => {
                say(call, &format!("{queue} no matched msg. status={status}, offset={offset}\n"))?;
            }
            _ => {
                say(call, &format!("{queue} print msg finished. status={status}, offset={offset}\n"))?;
                break;
            }
        }
    }
    Ok(shown)
}

/// A charset that bodies can be printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// Also for US-ASCII, which is a part of it.
    Utf8,
    Latin1,
}

impl Charset {
    /// The charset that an option names.
    fn of(call: &Call, option: &'static str) -> Result<Option<Self>, Error> {
        let Some(name) = call.value(option) else { return Ok(None) };
        let expected = "UTF-8, US-ASCII or ISO-8859-1".to_owned();
        Charset::named(name).map(Some).ok_or_else(|| Error::Value { option, value: name.to_owned(), expected })
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" | "US-ASCII" | "ASCII" => Some(Charset::Utf8),
            "ISO-8859-1" | "LATIN1" => Some(Charset::Latin1),
            _ => None,
        }
    }
}

fn body_text(message: &Message, charset: Charset) -> String {
    match (message.body_compression, charset) {
        (Some(compression), _) => format!("({} bytes, compressed by {compression})", message.body.len()),
        (None, Charset::Utf8) => String::from_utf8_lossy(&message.body).into_owned(),
        (None, Charset::Latin1) => message.body.iter().copied().map(char::from).collect(),
    }
}

pub(super) fn queue_text(queue: &MessageQueue) -> String {
    let MessageQueue { topic, broker_name, queue_id } = queue;
    format!("MessageQueue [topic={topic}, brokerName={broker_name}, queueId={queue_id}]")
}

fn properties_text(message: &Message) -> String {
    map(message.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// A message on one line, as Java shows its `MessageExt`.
fn message_line(message: &Message, body: Option<Charset>) -> String {
    let bytes: Vec<String> = message.body.iter().map(|byte| (*byte as i8).to_string()).collect();
    format!(
        "MSGID: {} MessageExt [brokerName={}, queueId={}, storeSize={}, queueOffset={}, sysFlag={}, bornTimestamp={}, \
         bornHost=/{}, storeTimestamp={}, storeHost=/{}, msgId={}, commitLogOffset={}, bodyCRC={}, reconsumeTimes={}, \
         preparedTransactionOffset={}, toString()=Message{{topic='{}', flag={}, properties={}, body=[{}], \
         transactionId='null'}}] BODY: {}\n",
        message.msg_id,
        or_null(message.broker_name.as_deref()),
        message.queue_id,
        message.store_size,
        message.queue_offset,
        message.sys_flag,
        message.born_timestamp,
        message.born_host,
        message.store_timestamp,
        message.store_host,
        message.offset_msg_id,
        message.commit_log_offset,
        message.body_crc,
        message.reconsume_times,
        message.prepared_transaction_offset,
        message.topic,
        message.flag,
        properties_text(message),
        bytes.join(", "),
        body.map_or("NOT PRINT BODY".to_owned(), |charset| body_text(message, charset)),
    )
}

#[cfg(test)]
mod tests {
    use protocol::record::Record;

    use super::*;
    use crate::commands::columns::golden;
    use crate::ops::message::TrackType;

    const KEY: &str = "FD00000000000000000000000000000228254E0E2F2A68CC93A20002";

    /// The message that `queryMsgByOffset -o 1` found in the Java broker.
    fn world() -> Message {
        let pairs = [("KEYS", "k2"), ("TRACE_ON", "true"), ("UNIQ_KEY", KEY), ("WAIT", "true"), ("TAGS", "TagB")];
        let tail = [("MSG_REGION", "DefaultRegion"), ("CLUSTER", "DefaultCluster")];
        let mut text = String::new();
        pairs.into_iter().chain(tail).for_each(|(name, value)| properties::push(&mut text, name, value));
        let record = Record {
            queue_id: 2,
            queue_offset: 1,
            physical_offset: 504,
            born_timestamp: 1_795_249_437_602,
            born_host: "127.0.0.1:36980".parse().unwrap(),
            store_timestamp: 1_795_249_437_611,
            store_host: "127.0.0.1:20911".parse().unwrap(),
            topic: "Orders",
            ..message::record(b"world", &text)
        };
        let mut message = Message::from(&record);
        message.broker_name = Some("broker-a".into());
        for (name, value) in [("MIN_OFFSET", "0"), ("MAX_OFFSET", "2")] {
            message.properties.push((name.into(), value.into()));
        }
        message
    }

    #[test]
    fn a_message_looks_as_in_java() {
        let path = format!("{BODIES}/{KEY}");
        let printed = details(&world(), &path, Some(Charset::Utf8), &[], &TimeZone::UTC);
        let (printed, recorded) = (printed.trim_end(), golden::stdout("queryMsgByOffset"));
        let normal = golden::with_sorted_properties;
        assert_eq!(normal(printed), normal(recorded.trim_end()));
        let tracks = [("group-a", TrackType::Consumed)].map(|(group, track_type)| Track {
            consumer_group: group.into(),
            track_type,
            exception_desc: None,
        });
        let printed = details(&world(), &path, None, &tracks, &TimeZone::UTC);
        let track = golden::stdout("queryMsgById-consumed").lines().last().map(str::to_owned);
        assert!(track.is_some() && printed.lines().last().map(str::to_owned) == track);
    }

    #[test]
    fn lines_of_messages_look_as_in_java() {
        let normal = golden::with_sorted_properties;
        let recorded = golden::stdout("consumeMessage-offset");
        let line = recorded.lines().nth(1).unwrap();
        let message = world();
        assert_eq!(normal(message_line(&message, Some(Charset::Utf8)).trim_end()), normal(line));
        let hidden = message_line(&message, None);
        assert!(hidden.trim_end().ends_with("BODY: NOT PRINT BODY"), "{hidden}");
        let end = recorded.lines().nth(2).unwrap();
        let queue = MessageQueue { topic: "Orders".into(), broker_name: "broker-a".into(), queue_id: 2 };
        assert!(end.starts_with(&queue_text(&queue)), "{end}");
    }

    #[test]
    fn a_sent_message_looks_as_in_java() {
        let key = "FD00000000000000000000000000000228254E0E2F2A68CC87450000";
        let mut sent = Sent {
            topic: "Orders".into(),
            broker_name: "broker-a".into(),
            queue_id: 0,
            queue_offset: 2,
            send_status: "SEND_OK",
            msg_id: key.into(),
            offset_msg_id: "7F000001000051AF000000000000279D".into(),
        };
        assert_eq!(sent_table(&sent), golden::stdout("sendMessage"));
        let recorded = golden::stdout("queryMsgById-resend");
        let field = |name: &str| {
            let rest = recorded.split(name).nth(1).unwrap();
            rest.split([',', ']']).next().unwrap().to_owned()
        };
        sent.offset_msg_id = field("offsetMsgId=");
        sent.queue_id = field("queueId=").parse().unwrap();
        sent.queue_offset = field("queueOffset=").parse().unwrap();
        assert_eq!(resent("7F000001000051AF0000000000000000", &sent).trim_end(), recorded.trim_end());
    }

    #[test]
    fn a_body_is_left_under_a_plain_name() {
        let message = Message { msg_id: "../../../tmp/escaped".into(), ..world() };
        let directory = tempfile::tempdir().unwrap();
        let path = leave_body(&directory.path().join("bodies"), &message, 0).unwrap();
        assert_eq!(path, directory.path().join("bodies/7F000001000051AF00000000000001F8"));
        assert_eq!(std::fs::read(&path).unwrap(), b"world");
        let second = leave_body(directory.path(), &world(), 1).unwrap();
        assert_eq!(second, directory.path().join(format!("{KEY}_1")));
    }

    #[test]
    fn charsets_are_few() {
        assert_eq!(Charset::named("utf-8"), Some(Charset::Utf8));
        let message = Message { body: vec![0xE4], ..world() };
        assert_eq!(body_text(&message, Charset::Latin1), "ä");
        assert_eq!(Charset::named("GBK"), None);
        assert!(body_text(&Message { body_compression: Some("ZSTD"), ..world() }, Charset::Utf8).contains("ZSTD"));
    }
}
