//! queryMsgByKey, queryMsgByUniqueKey.

use std::path::Path;

use jiff::tz::TimeZone;

use super::message::{BODIES, Tracked, details, leave_body, push_to_client};
use super::table::{Call, settle};
use crate::ops::Error;
use crate::ops::message::{self, Message, Track};
use crate::ops::query::{self, Answers, KeyKind, Query};

/// Messages that queryMsgByKey asks each broker for unless told otherwise.
const MOST: i32 = 64;

const HOUR_MS: i64 = 60 * 60 * 1000;

pub async fn query_by_key(call: Call) -> Result<(), Error> {
    match call.value("keyType") {
        None | Some("K") => {}
        Some("T") => {
            return Err(Error::Usage("tags are not in the key index: find them with printMsg -s <tag>".to_owned()));
        }
        Some(_) => return Err(Error::Usage("index type error, just support K for keys or T for tags".to_owned())),
    }
    if call.value("lastKey").is_some_and(|key| !key.is_empty()) {
        return Err(Error::Usage("the key index can't go on behind a key: leave -l out, and narrow with -b and -e".to_owned()));
    }
    let asked = Query {
        topic: call.required("topic")?,
        key: call.required("msgKey")?,
        kind: KeyKind::Key { most: call.number("maxNum")?.unwrap_or(MOST) },
        cluster: call.value("cluster").filter(|name| !name.is_empty()),
        begin: call.number("beginTimestamp")?.unwrap_or(0),
        end: call.number("endTimestamp")?.unwrap_or(i64::MAX),
    };
    let Answers { messages, mut failures } = query::query(&call.access, &asked).await?;
    if call.json() {
        call.print_json(&messages)?;
    } else if !messages.is_empty() {
        call.print(&table(&messages, asked.key))?;
    }
    if messages.is_empty() && failures.is_empty() {
        failures.push(no_message(&asked));
    }
    settle(failures)
}

fn no_message(asked: &Query<'_>) -> Error {
    let Query { topic, key, .. } = asked;
    let hint = match asked.kind {
        KeyKind::Key { .. } => {
            "in that time. A message's unique key is found by queryMsgByUniqueKey; brokers with messageIndexEnable=false find none"
        }
        KeyKind::Unique => "as its unique key. Brokers with messageIndexEnable=false find none",
    };
    Error::Usage(format!("no message of topic {topic} has the key {key} {hint}"))
}

fn table(messages: &[Message], key: &str) -> String {
    let row = |id: &str, queue: &str, offset: &str, index: &str| format!("{id:<50} {queue:>4} {offset:>40} {index:<200}\n");
    let rows = messages.iter().map(|m| {
        let hour = m.store_timestamp - m.store_timestamp.rem_euclid(HOUR_MS);
        // How Java's other index, in RocksDB, names the entry.
        let index = format!("{hour}@{}@K@{key}@{}@{}", m.topic, m.msg_id, m.commit_log_offset);
        row(&m.msg_id, &m.queue_id.to_string(), &m.queue_offset.to_string(), &index)
    });
    row("#Message ID", "#QID", "#Offset", "#IndexKey") + &rows.collect::<String>()
}

pub async fn query_by_unique_key(call: Call) -> Result<(), Error> {
    let asked = Query {
        topic: call.required("topic")?,
        key: call.required("msgId")?,
        kind: KeyKind::Unique,
        cluster: call.value("cluster").filter(|name| !name.is_empty()),
        begin: call.number("startTime")?.unwrap_or(0),
        end: call.number("endTime")?.unwrap_or(i64::MAX),
    };
    let Answers { mut messages, mut failures } = query::query(&call.access, &asked).await?;
    if messages.is_empty() && failures.is_empty() {
        failures.push(no_message(&asked));
    }
    messages.sort_by_key(|message| message.store_timestamp);
    if let Some((group, client_id)) = call.value("consumerGroup").zip(call.value("clientId"))
        && let Some(first) = messages.first()
    {
        return push_to_client(&call, group, client_id, first).await;
    }
    messages.truncate(if call.flag("showAll") { query::MAX_UNIQUE as usize } else { 1 });
    let mut tracked = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let tracks = message::tracks(&call.access, message).await?;
        if !call.json() {
            let path = leave_body(Path::new(BODIES), message, index)?;
            call.print(&unique_details(message, &path.to_string_lossy(), &tracks, &call.zone))?;
        }
        tracked.push(Tracked { message, tracks });
    }
    if call.json() {
        call.print_json(&tracked)?;
    }
    settle(failures)
}

/// What queryMsgById shows, but the id.
fn unique_details(message: &Message, path: &str, tracks: &[Track], zone: &TimeZone) -> String {
    let text = details(message, path, None, tracks, zone);
    text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::record::Record;

    use super::*;
    use crate::commands::columns::golden;

    /// A message that Java's broker found when the files in `tests/golden/mqadmin` were recorded.
    fn recorded(queue_id: i32, physical_offset: i64, keys: &str, unique_key: &str) -> Message {
        let pairs = [("KEYS", keys), ("TRACE_ON", "true"), ("UNIQ_KEY", unique_key), ("WAIT", "true"), ("TAGS", "tag")];
        let tail = [("MSG_REGION", "DefaultRegion"), ("CLUSTER", "DefaultCluster")];
        let mut text = String::new();
        pairs.into_iter().chain(tail).for_each(|(name, value)| protocol::properties::push(&mut text, name, value));
        Message::from(&Record {
            queue_id,
            queue_offset: 0,
            physical_offset,
            born_timestamp: 1_795_262_384_437,
            born_host: "127.0.0.1:59700".parse().unwrap(),
            store_timestamp: 1_795_262_384_442,
            store_host: "127.0.0.1:37259".parse().unwrap(),
            topic: "Shown",
            ..message::record(b"found", &text)
        })
    }

    const SECOND: &str = "7F0000015FF545E48446699221350000";

    #[test]
    fn messages_with_a_key_look_as_in_java() {
        let first = recorded(2, 215, "order-17 first", "7F0000015FF147C95171699221160000");
        let printed = table(&[first, recorded(1, 459, "order-17 second", SECOND)], "order-17");
        assert_eq!(printed, golden::stdout("queryMsgByKey"));
    }

    #[test]
    fn a_message_with_a_unique_key_looks_as_in_java() {
        let path = format!("{BODIES}/{SECOND}");
        let printed = unique_details(&recorded(1, 459, "order-17 second", SECOND), &path, &[], &TimeZone::UTC);
        let normal = golden::with_sorted_properties;
        assert_eq!(normal(printed.trim_end()), normal(&golden::stdout("queryMsgByUniqueKey")));
    }
}
