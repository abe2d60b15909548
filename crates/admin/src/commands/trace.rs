//! queryMsgTraceById.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use protocol::names;

use super::columns::{or_null, time_s};
use super::table::Call;
use crate::ops::Error;
use crate::ops::trace::{self, Trace};

/// Messages of the trace topic that are looked at, unless told otherwise.
const MOST: i32 = 64;

pub async fn query_msg_trace_by_id(call: Call) -> Result<(), Error> {
    let (id, topic) = (call.required("msgId")?, call.value("traceTopic").unwrap_or(names::TRACE_TOPIC));
    let (begin, end) = (call.number("beginTimestamp")?.unwrap_or(0), call.number("endTimestamp")?.unwrap_or(i64::MAX));
    let most = call.number("maxNum")?.unwrap_or(MOST);
    let traces = trace::trace(&call.access, topic, id, most, begin, end).await?;
    if call.json() {
        return call.print_json(&traces);
    }
    if traces.is_empty() {
        return Err(Error::Usage(format!(
            "no client has written down in {topic} what became of message {id}: clients do so a few seconds later, where \
             message trace is switched on"
        )));
    }
    call.print(&trace_text(&traces, &call.zone))
}

/// Sends first, each below a title; then for each group who consumed.
fn trace_text(traces: &[Trace], zone: &TimeZone) -> String {
    let row = |cells: [&str; 6]| {
        let [kind, group, host, time, cost, status] = cells;
        format!("{kind:<10} {group:<20} {host:<20} {time:<20} {cost:<10} {status:<10}\n")
    };
    let line = |kind, one: &Trace| {
        let (time, cost) = (time_s(one.timestamp, zone), format!("{}ms", one.cost));
        let status = if one.success { "success" } else { "failed" };
        row([kind, or_null(one.group.as_deref()), &one.client_host, &time, &cost, status])
    };
    let mut out = String::new();
    let mut consumers: BTreeMap<Option<&str>, Vec<&Trace>> = BTreeMap::new();
    for one in traces {
        if one.is_send {
            out += &row(["#Type", "#ProducerGroup", "#ClientHost", "#SendTime", "#CostTimes", "#Status"]);
            out += &(line("Pub", one) + "\n");
        } else {
            consumers.entry(one.group.as_deref()).or_default().push(one);
        }
    }
    for group in consumers.values() {
        out += &row(["#Type", "#ConsumerGroup", "#ClientHost", "#ConsumerTime", "#CostTimes", "#Status"]);
        group.iter().for_each(|one| out += &line("Sub", one));
        out.push('\n');
    }
    out
}
