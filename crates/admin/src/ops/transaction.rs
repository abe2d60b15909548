//! Half messages that nobody has resolved yet. What is known of them is in two topics and the offsets of their group,
//! so this works with every broker.

use std::collections::{BTreeMap, HashSet};

use protocol::bodies::MessageQueue;
use protocol::header::Typed;
use protocol::requests::{EndTransaction, OffsetReply, QueryConsumerOffset};
use protocol::{codes, names, properties, sys_flag};
use serde::Serialize;

use super::message::{Message, Pull, PullStatus, QueueAt, min_offset, pull};
use super::{Access, Error, TIMEOUT, broker};

/// A half message whose producer has not said how its transaction ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    pub broker_addr: String,
    /// The unique key, which stays the same when the half message is put back.
    pub msg_id: String,
    pub offset_msg_id: String,
    pub topic: String,
    pub producer_group: String,
    pub queue_offset: i64,
    pub commit_log_offset: i64,
    pub born_timestamp: i64,
    /// In ms.
    pub age: i64,
    pub times_checked: i32,
    /// The earliest time at which its producers are asked: it happens in the first round after it.
    pub next_check: i64,
}

/// A broker's settings for questions, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    time_out: i64,
    interval: i64,
}

impl Pending {
    fn new(half: &Message, address: &str, settings: Settings, now: i64) -> Self {
        let number = |name| half.property(name).and_then(|text| text.parse::<i64>().ok());
        let text = |name| half.property(name).unwrap_or_default().to_owned();
        let times_checked = number(properties::CHECK_TIMES).unwrap_or(0);
        let immunity = number(properties::CHECK_IMMUNITY).filter(|seconds| *seconds >= 0);
        let first_check = half.born_timestamp + immunity.map_or(settings.time_out, |seconds| seconds.saturating_mul(1000));
        let next_check = if times_checked > 0 { half.store_timestamp + settings.interval } else { 0 };
        Self {
            broker_addr: address.to_owned(),
            msg_id: half.msg_id.clone(),
            offset_msg_id: half.offset_msg_id.clone(),
            topic: text(properties::REAL_TOPIC),
            producer_group: text(properties::PRODUCER_GROUP),
            queue_offset: half.queue_offset,
            commit_log_offset: half.commit_log_offset,
            born_timestamp: half.born_timestamp,
            age: now - half.born_timestamp,
            times_checked: times_checked as i32,
            next_check: next_check.max(first_check),
        }
    }
}

/// The half messages that are open on a broker, oldest question first, at most `limit` of those that `wanted` names.
/// An outcome of the last seconds may still be missing from the op topic of a Java broker, which writes it in batches.
pub async fn pending(
    access: &Access,
    address: &str,
    now: i64,
    limit: usize,
    wanted: impl Fn(&Pending) -> bool,
) -> Result<Vec<Pending>, Error> {
    let settings = settings(&broker::config(access, address).await?);
    let mut resolved = HashSet::new();
    let mut open = Vec::new();
    // Half messages first: an outcome that comes meanwhile is seen then.
    let halves = collect(access, address, names::TRANS_HALF_TOPIC, |half| open.push(Pending::new(&half, address, settings, now)));
    halves.await?;
    let ops = collect(access, address, names::TRANS_OP_HALF_TOPIC, |op| {
        let body = String::from_utf8_lossy(&op.body);
        resolved.extend(body.split(',').filter_map(|offset| offset.trim().parse::<i64>().ok()));
    });
    ops.await?;
    open.retain(|half| !resolved.contains(&half.queue_offset) && wanted(half));
    open.truncate(limit);
    Ok(open)
}

/// Commits a half message, or rolls it back, as its producer would when asked.
pub async fn end(access: &Access, half: &Pending, commit: bool) -> Result<(), Error> {
    use sys_flag::message::{TRANSACTION_COMMIT, TRANSACTION_ROLLBACK};
    let request = EndTransaction {
        topic: Some(&half.topic),
        producer_group: Some(&half.producer_group),
        tran_state_table_offset: half.queue_offset,
        commit_log_offset: half.commit_log_offset,
        commit_or_rollback: if commit { TRANSACTION_COMMIT } else { TRANSACTION_ROLLBACK },
        from_transaction_check: Some(true),
        msg_id: &half.msg_id,
        transaction_id: Some(&half.msg_id),
    };
    access.pool.call(&half.broker_addr, &request, &[], TIMEOUT).await?;
    Ok(())
}

/// Reads a topic from where its transactions are resolved to its end.
async fn collect(access: &Access, address: &str, topic: &str, mut each: impl FnMut(Message)) -> Result<(), Error> {
    let queue = MessageQueue { topic: topic.to_owned(), broker_name: String::new(), queue_id: 0 };
    let at = QueueAt { queue, address: address.to_owned() };
    let mut offset = start(access, &at).await?;
    loop {
        let pulled = pull(access, &at, Pull { offset, ..Pull::default() }).await?;
        pulled.messages.into_iter().for_each(&mut each);
        if pulled.next_offset <= offset || pulled.status == PullStatus::NoNewMessage {
            return Ok(());
        }
        offset = pulled.next_offset;
    }
}

async fn start(access: &Access, at: &QueueAt) -> Result<i64, Error> {
    let request = QueryConsumerOffset {
        consumer_group: names::TRANSACTION_GROUP,
        topic: &at.queue.topic,
        queue_id: at.queue.queue_id,
        set_zero_if_not_found: None,
    };
    match access.pool.call(&at.address, &request, &[], TIMEOUT).await {
        Ok(answer) => Ok(answer.fields(|header| Ok(OffsetReply::read(&header.fields)?.offset))?),
        Err(error) if error.code() == Some(codes::QUERY_NOT_FOUND) => min_offset(access, at).await,
        Err(error) => Err(error.into()),
    }
}

fn settings(config: &BTreeMap<String, String>) -> Settings {
    let ms = |key, default| config.get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
    Settings { time_out: ms("transactionTimeOut", 6000), interval: ms("transactionCheckInterval", 30_000) }
}

#[cfg(test)]
mod tests {
    use protocol::record::Record;

    use super::*;

    fn half(properties: &str) -> Pending {
        let record = Record {
            queue_offset: 7,
            born_timestamp: 1000,
            store_timestamp: 50_000,
            topic: names::TRANS_HALF_TOPIC,
            ..super::super::message::record(b"", properties)
        };
        let settings = settings(&[("transactionTimeOut".into(), "4000".into())].into());
        Pending::new(&Message::from(&record), "10.0.0.2:10911", settings, 61_000)
    }

    #[test]
    fn the_next_check_follows_from_the_settings_and_the_message() {
        let fresh = half("REAL_TOPIC\u{1}T\u{2}PGROUP\u{1}p\u{2}UNIQ_KEY\u{1}K\u{2}");
        assert_eq!((fresh.age, fresh.times_checked, fresh.next_check), (60_000, 0, 5000));
        assert_eq!((fresh.topic.as_str(), fresh.producer_group.as_str(), fresh.msg_id.as_str()), ("T", "p", "K"));
        let immune = half("CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}300\u{2}");
        assert_eq!(immune.next_check, 301_000);
        let asked = half("TRANSACTION_CHECK_TIMES\u{1}2\u{2}");
        assert_eq!((asked.times_checked, asked.next_check), (2, 80_000));
    }
}
