//! statsAll, brokerConsumeStats, queryCq.

use std::time::Duration;

use jiff::tz::TimeZone;
use protocol::bodies::{ConsumeStatsList, QueueEntries, QueueEntry};
use protocol::requests::QueryConsumeQueue;
use protocol::{fastjson, names};
use serde::Serialize;

use super::columns::{cut, or_null, time_s};
use super::table::Call;
use crate::ops::{BROKER_PORT, Error, any_address, group, namesrv, stats, topic, with_port};

/// ms that a broker may take to walk through all its groups, unless told otherwise.
const TIMEOUT_MS: u64 = 50_000;

/// A line of `statsAll`; without a group where nobody consumes the topic.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traffic {
    topic: String,
    consumer_group: Option<String>,
    accumulation: i64,
    #[serde(rename = "inTPS")]
    in_tps: f64,
    #[serde(rename = "outTPS")]
    out_tps: f64,
    in_24_hours: i64,
    out_24_hours: i64,
}

pub async fn stats_all(call: Call) -> Result<(), Error> {
    let (active, wanted) = (call.flag("activeTopic"), call.value("topic").filter(|topic| !topic.is_empty()));
    let mut all = Vec::new();
    for name in namesrv::topic_list(&call.access).await?.topic_list {
        if names::is_retry_or_dlq(&name) || wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        // A topic that has gone since, or whose brokers are down, has no line: as in Java.
        if let Ok(traffic) = traffic(&call, &name).await {
            all.extend(traffic.into_iter().filter(|t| !active || t.in_24_hours > 0 || t.out_24_hours > 0));
        }
    }
    call.show(&all, || traffic_text(&all))
}

async fn traffic(call: &Call, name: &str) -> Result<Vec<Traffic>, Error> {
    let route = namesrv::route(&call.access, name).await?;
    let groups = topic::consumer_groups(&call.access, &route, name).await?;
    let (in_tps, in_24_hours) = stats::figure(&call.access, &route, "TOPIC_PUT_NUMS", name).await;
    let none = Traffic {
        topic: name.to_owned(),
        consumer_group: None,
        accumulation: 0,
        in_tps,
        out_tps: 0.0,
        in_24_hours,
        out_24_hours: 0,
    };
    if groups.is_empty() {
        return Ok(vec![none]);
    }
    let mut all = Vec::new();
    for group_name in groups {
        let key = format!("{name}@{group_name}");
        let (out_tps, out_24_hours) = stats::figure(&call.access, &route, "GROUP_GET_NUMS", &key).await;
        let progress = group::consume_stats(&call.access, &group_name, Some(name), None).await;
        let behind = progress.map_or(0, |p| p.offset_table.values().map(|o| o.broker_offset - o.consumer_offset).sum());
        all.push(Traffic {
            topic: name.to_owned(),
            consumer_group: Some(group_name),
            accumulation: i64::max(behind, 0),
            in_tps,
            out_tps,
            in_24_hours,
            out_24_hours,
        });
    }
    Ok(all)
}

fn traffic_text(all: &[Traffic]) -> String {
    let row = |cells: [&str; 7]| {
        let [topic, group, waiting, in_tps, out_tps, in_day, out_day] = cells;
        format!("{topic:<64}  {group:<64} {waiting:>12} {in_tps:>11} {out_tps:>11} {in_day:>14} {out_day:>14}\n")
    };
    let mut out = row(["#Topic", "#Consumer Group", "#Accumulation", "#InTPS", "#OutTPS", "#InMsg24Hour", "#OutMsg24Hour"]);
    for one in all {
        let (waiting, in_tps, in_day) = (one.accumulation.to_string(), format!("{:.2}", one.in_tps), one.in_24_hours.to_string());
        out += &match &one.consumer_group {
            Some(group) => {
                let (out_tps, out_day) = (format!("{:.2}", one.out_tps), one.out_24_hours.to_string());
                row([cut(&one.topic, 64), cut(group, 64), &waiting, &in_tps, &out_tps, &in_day, &out_day])
            }
            None => row([cut(&one.topic, 64), "", &waiting, &in_tps, "", &in_day, "NO_CONSUMER"]),
        };
    }
    out
}

pub async fn broker_consume_stats(call: Call) -> Result<(), Error> {
    let address = with_port(call.required("brokerAddr")?, BROKER_PORT);
    let timeout = Duration::from_millis(call.number("timeoutMillis")?.unwrap_or(TIMEOUT_MS));
    let ordered = call.truth("order")?.unwrap_or_default();
    let list = stats::broker_consume_stats(&call.access, &address, ordered, timeout).await?;
    let level = call.number("level")?.unwrap_or(0);
    call.show(&list, || progress_text(&list, level, &call.zone))
}

fn progress_text(list: &ConsumeStatsList, level: i64, zone: &TimeZone) -> String {
    let row = |cells: [&str; 8]| {
        let [topic, group, broker, id, end, consumed, diff, last] = cells;
        format!("{topic:<64}  {group:<64}  {broker:<32}  {id:<4}  {end:<20}  {consumed:<20}  {diff:<20}  {last}\n")
    };
    let mut out = row(["#Topic", "#Group", "#Broker Name", "#QID", "#Broker Offset", "#Consumer Offset", "#Diff", "#LastTime"]);
    let groups = list.consume_stats_list.iter().flatten();
    for (group, stats) in groups.flat_map(|(group, topics)| topics.iter().map(move |stats| (group, stats))) {
        for (queue, offset) in &stats.offset_table {
            let diff = offset.broker_offset - offset.consumer_offset;
            if diff < level || offset.last_timestamp <= 0 {
                continue;
            }
            out += &row([
                cut(&queue.topic, 64),
                group,
                cut(&queue.broker_name, 32),
                &queue.queue_id.to_string(),
                &offset.broker_offset.to_string(),
                &offset.consumer_offset.to_string(),
                &diff.to_string(),
                &time_s(offset.last_timestamp, zone),
            ]);
        }
    }
    out + &format!("\nDiff Total: {}\n", list.total_diff)
}

pub async fn query_cq(call: Call) -> Result<(), Error> {
    let topic = call.required("topic")?;
    let request = QueryConsumeQueue {
        topic,
        queue_id: call.number("queue")?.unwrap_or_default(),
        index: call.number("index")?.unwrap_or_default(),
        count: call.number("count")?.unwrap_or(10),
        consumer_group: call.value("consumer"),
    };
    let broker = match call.value("broker").filter(|text| !text.is_empty()) {
        Some(address) => with_port(address, BROKER_PORT),
        None => {
            let route = namesrv::route(&call.access, topic).await?;
            let first = route.broker_datas.first().and_then(any_address);
            first.ok_or_else(|| Error::NoRoute { topic: topic.to_owned() })?.to_owned()
        }
    };
    let entries = stats::queue_entries(&call.access, &broker, &request).await?;
    call.show(&entries, || entries_text(&entries, request.index))
}

fn entries_text(entries: &QueueEntries, index: i64) -> String {
    const LINE: &str = "======================================\n";
    let mut out = String::new();
    if let Some(subscription) = &entries.subscription_data {
        out += &format!("Subscription data: \n{}\n{LINE}", String::from_utf8_lossy(&fastjson::to_vec_pretty(subscription)));
    }
    if let Some(filter) = &entries.filter_data {
        out += &format!("Filter data: \n{filter}\n{LINE}");
    }
    out += &format!("Queue data: \nmax: {}, min: {}\n{LINE}", entries.max_queue_index, entries.min_queue_index);
    for (nth, entry) in entries.queue_data.iter().flatten().enumerate() {
        let QueueEntry { bit_map, eval, extend_data_json, msg, physic_offset, physic_size, tags_code } = entry;
        let [extended, bits, msg] = [extend_data_json, bit_map, msg].map(|text| or_null(text.as_deref()));
        out += &format!(
            "idx: {}\nConsumeQueueData{{physicOffset={physic_offset}, physicSize={physic_size}, tagsCode={tags_code}, \
             extendDataJson='{extended}', bitMap='{bits}', eval={eval}, msg='{msg}'}}\n{LINE}",
            index + nth as i64
        );
    }
    out
}
