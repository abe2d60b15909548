//! consumerStatus, setConsumeMode, startMonitoring.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use protocol::bodies::MessageQueue;
use protocol::pop::{GroupMode, RequestMode};
use protocol::{names, version};

use super::columns::time_digits;
use super::message::queue_text;
use super::table::{Call, each, settle};
use crate::ops::consumer::{self, ProcessQueue, RunningInfo, Status, subscribe_the_same};
use crate::ops::{Error, group, message, namesrv};

/// How often groups are looked at unless told otherwise.
const ROUND: Duration = Duration::from_secs(60);

pub async fn consumer_status(call: Call) -> Result<(), Error> {
    let (name, jstack) = (call.required("consumerGroup")?, call.flag("jstack"));
    let connection = group::consumer_connection(&call.access, name, call.broker().as_deref()).await?;
    if let Some(client_id) = call.value("clientId") {
        let info = consumer::running_info(&call.access, name, client_id, jstack).await?;
        return call.show(&info, || info_text(&info, &call.zone));
    }
    let now = net::now_ms();
    let (mut infos, mut failures) = (BTreeMap::new(), Vec::new());
    let row = |cells: [&str; 4]| format!("{:<10} {:<40} {:<20} {}\n", cells[0], cells[1], cells[2], cells[3]);
    let mut out = row(["#Index", "#ClientId", "#Version", "#ConsumerRunningInfoFile"]);
    for client in &connection.connection_set {
        match consumer::running_info(&call.access, name, &client.client_id, jstack).await {
            Ok(info) => {
                let path = format!("{now}/{}", client.client_id);
                if !call.json() {
                    leave_info(&path, &info_text(&info, &call.zone))?;
                }
                let index = (infos.len() + 1).to_string();
                out += &row([&index, &client.client_id, &version::name(client.version), &path]);
                infos.insert(client.client_id.clone(), info);
            }
            Err(error) => failures.push(error),
        }
    }
    call.show(&infos, || out + &verdict(&infos, net::now_ms()))?;
    settle(failures)
}

/// Whether the consumers fit together, and what is wrong with their queues.
fn verdict(infos: &BTreeMap<String, RunningInfo>, now: i64) -> String {
    if infos.is_empty() {
        return String::new();
    }
    if !subscribe_the_same(infos, now) {
        return "\n\nWARN: Different subscription in the same group of consumer!!!\n".to_owned();
    }
    let troubles = infos.iter().flat_map(|(client_id, info)| info.troubles(client_id, now, queue_text));
    let troubles: String = troubles.map(|line| line + "\n").collect();
    format!("\n\nSame subscription in the same group of consumer\n\nRebalance OK\n{troubles}")
}

/// Writes what a consumer says of itself to a file. Its name came over the network: it may not lead elsewhere.
fn leave_info(path: &str, text: &str) -> Result<(), Error> {
    let failed = |reason| Error::Write { what: format!("what the consumer says to {path} (--json needs no file)"), reason };
    let plain = path.split('/').count() == 2 && !path.contains("..");
    if !plain {
        return Err(failed(std::io::Error::other("the client's id is no file name")));
    }
    let path = Path::new(path);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, text)).map_err(failed)
}

fn info_text(info: &RunningInfo, zone: &TimeZone) -> String {
    let mut out = "#Consumer Properties#\n".to_owned();
    info.properties.iter().for_each(|(name, value)| out += &format!("{name:<40}: {value}\n"));
    out += "\n\n#Consumer Subscription#\n";
    let mut subscriptions: Vec<_> = info.subscription_set.iter().collect();
    subscriptions.sort_by_key(|s| format!("{}@{}", s.topic, s.sub_string));
    for (nth, one) in subscriptions.into_iter().enumerate() {
        let (nth, topic, filter, expression) = (nth + 1, &one.topic, one.class_filter_mode, &one.sub_string);
        out += &format!("{nth:03} Topic: {topic:<40} ClassFilter: {filter:<8} SubExpression: {expression}\n");
    }
    out += "\n\n#Consumer Offset#\n";
    // Java's rows are narrower than their titles.
    let row = |wide: usize, queue: [&str; 3], last: &str| {
        format!("{:<wide$}  {:<32}  {:<4}  {last:<20}\n", queue[0], queue[1], queue[2])
    };
    let titles = ["#Topic", "#Broker Name", "#QID"];
    let of = |wide: usize, queue: &MessageQueue, last: &str| {
        row(wide, [&queue.topic, &queue.broker_name, &queue.queue_id.to_string()], last)
    };
    out += &row(64, titles, "#Consumer Offset");
    info.mq_table.iter().for_each(|(queue, held)| out += &of(32, queue, &held.commit_offset.to_string()));
    out += "\n\n#Consumer MQ Detail#\n";
    out += &row(64, titles, "#ProcessQueueInfo");
    info.mq_table.iter().for_each(|(queue, held)| out += &of(64, queue, &held_text(held, zone)));
    out += "\n\n#Consumer Pop Detail#\n";
    out += &row(32, titles, "#ProcessQueueInfo");
    for (queue, popped) in &info.mq_pop_table {
        let (count, droped, last) = (popped.wait_ack_count, popped.droped, popped.last_pop_timestamp);
        let text = format!("PopProcessQueueInfo [waitAckCount:{count}, droped:{droped}, lastPopTimestamp:{last}]");
        out += &of(32, queue, &text);
    }
    out += &speed_text(&info.status_table);
    out += "\n\n#User Consume Info#\n";
    info.user_consumer_info.iter().for_each(|(name, value)| out += &format!("{name:<40}: {value}\n"));
    if let Some(jstack) = &info.jstack {
        out += &format!("\n\n#Consumer jstack#\n{jstack}");
    }
    out
}

fn held_text(held: &ProcessQueue, zone: &TimeZone) -> String {
    let time = |ms| time_digits(ms, zone);
    format!(
        "ProcessQueueInfo [commitOffset={}, cachedMsgMinOffset={}, cachedMsgMaxOffset={}, cachedMsgCount={}, \
         cachedMsgSizeInMiB={}, transactionMsgMinOffset={}, transactionMsgMaxOffset={}, transactionMsgCount={}, locked={}, \
         tryUnlockTimes={}, lastLockTimestamp={}, droped={}, lastPullTimestamp={}, lastConsumeTimestamp={}]",
        held.commit_offset,
        held.cached_msg_min_offset,
        held.cached_msg_max_offset,
        held.cached_msg_count,
        held.cached_msg_size_in_mi_b,
        held.transaction_msg_min_offset,
        held.transaction_msg_max_offset,
        held.transaction_msg_count,
        held.locked,
        held.try_unlock_times,
        time(held.last_lock_timestamp),
        held.droped,
        time(held.last_pull_timestamp),
        time(held.last_consume_timestamp)
    )
}

fn speed_text(table: &BTreeMap<String, Status>) -> String {
    let mut out = format!(
        "\n\n#Consumer RT&TPS#\n{:<64}  {:>14} {:>14} {:>14} {:>14} {:>18} {:>25}\n",
        "#Topic", "#Pull RT", "#Pull TPS", "#Consume RT", "#ConsumeOK TPS", "#ConsumeFailed TPS", "#ConsumeFailedMsgsInHour"
    );
    for (topic, s) in table {
        out += &format!(
            "{topic:<32}  {:>14.2} {:>14.2} {:>14.2} {:>14.2} {:>18.2} {:>25}\n",
            s.pull_rt, s.pull_tps, s.consume_rt, s.consume_ok_tps, s.consume_failed_tps, s.consume_failed_msgs
        );
    }
    out
}

pub async fn set_consume_mode(call: Call) -> Result<(), Error> {
    let mode = GroupMode {
        topic: call.required("topicName")?.to_owned(),
        consumer_group: call.required("groupName")?.to_owned(),
        mode: match call.required("mode")? {
            "PULL" => RequestMode::Pull,
            "POP" => RequestMode::Pop,
            other => {
                let expected = "`PULL` or `POP`".to_owned();
                return Err(Error::Value { option: "mode", value: other.to_owned(), expected });
            }
        },
        pop_share_queue_num: call.number("popShareQueueNum")?.unwrap_or(0),
    };
    let set = async |address: String| {
        consumer::set_mode(&call.access, &address, &mode).await?;
        call.print(&format!("set consume mode to {address} success.\n"))
    };
    each(call.masters().await?, set).await?;
    let GroupMode { topic, consumer_group, mode, pop_share_queue_num } = mode;
    let mode = mode.name();
    call.print(&format!("topic[{topic}] group[{consumer_group}] consume mode[{mode}] popShareQueueNum[{pop_share_queue_num}]\n"))
}

pub async fn start_monitoring(call: Call) -> Result<(), Error> {
    let interval = call.number("interval")?.map_or(ROUND, Duration::from_secs);
    let rounds: Option<u64> = call.number("rounds")?;
    let mut done = 0;
    loop {
        call.print("[MONITOR] =========================================beginRound\n")?;
        for topic in namesrv::topic_list(&call.access).await?.topic_list {
            if let Some(name) = topic.strip_prefix(names::RETRY_PREFIX)
                && let Err(error) = monitor(&call, name).await
            {
                eprintln!("[MONITOR] group {name}: {error}");
            }
        }
        call.print("[MONITOR] =========================================endRound\n")?;
        done += 1;
        if rounds.is_some_and(|rounds| done >= rounds) {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

/// Says what there is to say of one group; nothing of one that is not online.
async fn monitor(call: &Call, name: &str) -> Result<(), Error> {
    let connection = match group::consumer_connection(&call.access, name, None).await {
        Err(Error::NotOnline { .. } | Error::NoGroup { .. }) => return Ok(()),
        answered => answered?,
    };
    for (topic, undone) in undone(call, name).await? {
        call.print(&format!(
            "[MONITOR] reportUndoneMsgs: UndoneMsgs [consumerGroup={name}, topic={topic}, undoneMsgsTotal={}, \
             undoneMsgsSingleMQ={}, undoneMsgsDelayTimeMills={}]\n",
            undone.total, undone.single, undone.delay
        ))?;
    }
    let mut infos = BTreeMap::new();
    for client in connection.connection_set.iter().filter(|client| client.version >= version::V3_1_8_SNAPSHOT) {
        let info = consumer::running_info(&call.access, name, &client.client_id, false).await?;
        infos.insert(client.client_id.clone(), info);
    }
    let now = net::now_ms();
    let notify =
        |text: &str| call.print(&format!("[MONITOR]  [NOTIFY] reportConsumerRunningInfo: ConsumerGroup: {name}, {text}\n"));
    if !subscribe_the_same(&infos, now) {
        notify("Subscription different")?;
    }
    for (client_id, info) in &infos {
        for trouble in info.troubles(client_id, now, queue_text) {
            notify(&format!("ClientId: {client_id}, {trouble}"))?;
        }
    }
    Ok(())
}

/// Messages of a topic that a group has not consumed: in all, in its fullest queue, and how far it is behind in ms.
#[derive(Default)]
struct Undone {
    total: i64,
    single: i64,
    delay: i64,
}

async fn undone(call: &Call, name: &str) -> Result<BTreeMap<String, Undone>, Error> {
    let stats = match group::consume_stats(&call.access, name, None, None).await {
        Err(Error::NoProgress { .. }) => return Ok(BTreeMap::new()),
        answered => answered?,
    };
    let mut topics: BTreeMap<String, Undone> = BTreeMap::new();
    for (queue, offset) in &stats.offset_table {
        let undone = topics.entry(queue.topic.clone()).or_default();
        let behind = offset.broker_offset - offset.consumer_offset;
        undone.total += behind.max(0);
        undone.single = undone.single.max(behind);
        if offset.last_timestamp > 0 && offset.broker_offset > 0 {
            let newest = newest_timestamp(call, queue, offset.broker_offset - 1).await?;
            undone.delay = undone.delay.max(newest - offset.last_timestamp);
        }
    }
    Ok(topics)
}

/// When the message at an offset was stored; 0 where there is none any more.
async fn newest_timestamp(call: &Call, queue: &MessageQueue, offset: i64) -> Result<i64, Error> {
    let route = namesrv::route(&call.access, &queue.topic).await?;
    let at = message::queue_at(&route, &queue.topic, &queue.broker_name, queue.queue_id)?;
    let pulled = message::pull(&call.access, &at, message::Pull { offset, count: 1, ..message::Pull::default() }).await?;
    Ok(pulled.messages.first().map_or(0, |message| message.store_timestamp))
}
