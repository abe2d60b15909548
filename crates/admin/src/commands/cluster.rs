//! clusterList.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::bodies::ClusterInfo;
use protocol::names::MASTER_ID;
use serde::Serialize;

use super::table::{Call, settle};
use crate::ops::{self, Error, broker, namesrv};

/// A broker and what it says of itself; no runtime where it could not be asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    cluster_name: String,
    broker_name: String,
    broker_id: i64,
    address: String,
    #[serde(flatten)]
    state: State,
    #[serde(flatten)]
    totals: Totals,
    runtime: Option<BTreeMap<String, String>>,
}

/// What the columns of `clusterList` show.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    in_tps: f64,
    out_tps: f64,
    /// Hours that the oldest message goes back.
    hour: Option<f64>,
    /// Used share of the commit log's disk.
    space: Option<f64>,
    active: bool,
}

/// Messages of `clusterList -m`.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    in_total_yest: i64,
    out_total_yest: i64,
    in_total_today: i64,
    out_total_today: i64,
}

pub async fn cluster_list(call: Call) -> Result<(), Error> {
    let interval = call.number("interval")?.map(Duration::from_secs);
    loop {
        let info = namesrv::cluster_info(&call.access).await?;
        let (members, failures) = members(&call, &info).await?;
        call.show(&members, || if call.flag("moreStats") { more_stats(&members) } else { base_info(&members) })?;
        let Some(interval) = interval else { return settle(failures) };
        failures.iter().for_each(|failure| eprintln!("{failure}"));
        tokio::time::sleep(interval).await;
    }
}

async fn members(call: &Call, info: &ClusterInfo) -> Result<(Vec<Member>, Vec<Error>), Error> {
    let clusters: Vec<&str> = match call.value("clusterName") {
        Some(one) => vec![one],
        None => info.cluster_addr_table.keys().map(String::as_str).collect(),
    };
    let (mut members, mut failures) = (Vec::new(), Vec::new());
    for cluster in clusters {
        for data in ops::brokers_of(info, cluster)? {
            if !data.broker_addrs.contains_key(&MASTER_ID) {
                eprintln!("note: {}", Error::NoMaster(data.clone()));
            }
            for (id, address) in &data.broker_addrs {
                let runtime = broker::runtime_info(&call.access, address).await.map_err(|error| failures.push(error)).ok();
                members.push(member(cluster, &data.broker_name, *id, address, runtime, net::now_ms()));
            }
        }
    }
    Ok((members, failures))
}

fn member(cluster: &str, broker: &str, id: i64, address: &str, runtime: Option<BTreeMap<String, String>>, now: i64) -> Member {
    let state = runtime.as_ref().map(|r| state(r, now)).unwrap_or_default();
    let totals = runtime.as_ref().map(totals).unwrap_or_default();
    let (cluster_name, broker_name, address) = (cluster.to_owned(), broker.to_owned(), address.to_owned());
    Member { cluster_name, broker_name, broker_id: id, address, state, totals, runtime }
}

fn state(runtime: &BTreeMap<String, String>, now: i64) -> State {
    let first = |key: &str| runtime.get(key).and_then(|text| text.split(' ').next()?.parse().ok());
    let hour = runtime.get("earliestMessageTimeStamp").and_then(|text| text.parse().ok()).map(|oldest: i64| {
        // 0 and -1 say that the store is empty.
        if oldest <= 0 { 0.0 } else { now.saturating_sub(oldest).max(0) as f64 / 3_600_000.0 }
    });
    State {
        in_tps: first("putTps").unwrap_or_default(),
        out_tps: first("getTransferredTps").unwrap_or_default(),
        hour,
        space: first("commitLogDiskRatio").filter(|ratio| *ratio >= 0.0),
        active: runtime.get("brokerActive").is_some_and(|text| text.eq_ignore_ascii_case("true")),
    }
}

fn totals(runtime: &BTreeMap<String, String>) -> Totals {
    let total = |key: &str| runtime.get(key).and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    Totals {
        in_total_yest: total("msgPutTotalTodayMorning") - total("msgPutTotalYesterdayMorning"),
        out_total_yest: total("msgGetTotalTodayMorning") - total("msgGetTotalYesterdayMorning"),
        in_total_today: total("msgPutTotalTodayNow") - total("msgPutTotalTodayMorning"),
        out_total_today: total("msgGetTotalTodayNow") - total("msgGetTotalTodayMorning"),
    }
}

fn base_info(members: &[Member]) -> String {
    let mut out = format!(
        "{:<22}  {:<22}  {:<4}  {:<22} {:<16}  {:>16}  {:>30}  {:<22}  {:<11}  {:<12}  {:<8}  {:<10}\n",
        "#Cluster Name",
        "#Broker Name",
        "#BID",
        "#Addr",
        "#Version",
        "#InTPS(LOAD)",
        "#OutTPS(LOAD)",
        "#Timer(Progress)",
        "#PCWait(ms)",
        "#Hour",
        "#SPACE",
        "#ACTIVATED"
    );
    for one in members {
        let text = |key: &str| one.runtime.as_ref().and_then(|r| r.get(key)).map_or("", String::as_str);
        // Brokers before 5.0 have no queue of acknowledgements.
        let ack = |key: &str| one.runtime.as_ref().map_or("", |r| r.get(key).map_or("N", String::as_str));
        let load = |name: &str| {
            format!(
                "{},{}ms",
                text(&format!("{name}ThreadPoolQueueSize")),
                text(&format!("{name}ThreadPoolQueueHeadWaitTimeMills"))
            )
        };
        let acks = format!("{},{}ms", ack("ackThreadPoolQueueSize"), ack("ackThreadPoolQueueHeadWaitTimeMills"));
        let (cluster, broker, id, address) = (&one.cluster_name, &one.broker_name, one.broker_id, &one.address);
        out += &format!(
            "{cluster:<22}  {broker:<22}  {id:<4}  {address:<22} {:<16}  {:>16}  {:>30}  {:<22}  {:>11}  {:<12}  {:<8}  {:>10}\n",
            text("brokerVersionDesc"),
            format!("{:9.2}({})", one.state.in_tps, load("send")),
            format!("{:9.2}({}|{acks})", one.state.out_tps, load("pull")),
            timer(one.runtime.as_ref()),
            text("pageCacheLockTimeMills"),
            one.state.hour.map_or("-".to_owned(), |hour| format!("{hour:.2}")),
            one.state.space.map_or("-".to_owned(), |space| format!("{space:.4}")),
            one.state.active,
        );
    }
    out
}

/// How far the timer is behind in reading and delivering (ms), messages of a congested slot (in ten thousands), its rates.
fn timer(runtime: Option<&BTreeMap<String, String>>) -> String {
    let number = |key: &str| runtime.and_then(|r| r.get(key)).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    format!(
        "{:.0}-{:.0}({:.1}w, {:.1}, {:.1})",
        number("timerReadBehind"),
        number("timerOffsetBehind"),
        number("timerCongestNum") / 10_000.0,
        number("timerEnqueueTps"),
        number("timerDequeueTps")
    )
}

fn more_stats(members: &[Member]) -> String {
    let mut out = format!(
        "{:<16}  {:<32} {:>14} {:>14} {:>14} {:>14}\n",
        "#Cluster Name", "#Broker Name", "#InTotalYest", "#OutTotalYest", "#InTotalToday", "#OutTotalToday"
    );
    for Member { cluster_name, broker_name, totals, .. } in members {
        let Totals { in_total_yest, out_total_yest, in_total_today, out_total_today } = totals;
        out += &format!(
            "{cluster_name:<16}  {broker_name:<32} {in_total_yest:>14} {out_total_yest:>14} {in_total_today:>14} \
             {out_total_today:>14}\n"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::columns::golden;

    const NOW: i64 = 1_795_249_434_466;

    /// The runtime information that the Java broker gave, as its own mqadmin printed it.
    fn runtime() -> BTreeMap<String, String> {
        let recorded = golden::stdout("brokerStatus");
        let pair = |line: &str| line.split_once(": ").map(|(key, value)| (key.trim_end().to_owned(), value.to_owned()));
        recorded.lines().filter_map(pair).collect()
    }

    fn broker_a(runtime: Option<BTreeMap<String, String>>, now: i64) -> Vec<Member> {
        vec![member("DefaultCluster", "broker-a", 0, "127.0.0.1:20911", runtime, now)]
    }

    #[test]
    fn clusters_look_as_in_java() {
        let seven_hundredths = 7 * 36_000;
        let printed = base_info(&broker_a(Some(runtime()), NOW + seven_hundredths));
        assert_eq!(printed, golden::stdout("clusterList"));
        assert_eq!(more_stats(&broker_a(Some(runtime()), NOW)), golden::stdout("clusterList-more"));
    }

    #[test]
    fn an_empty_store_goes_back_no_hours() {
        let mut runtime = runtime();
        runtime.insert("earliestMessageTimeStamp".into(), "0".into());
        let java = golden::stdout("clusterList-empty-store");
        assert!(java.contains("  498680.35     "), "hours since 1970");
        let expected = java.replace("498680.35", "0.00     ");
        let printed = base_info(&broker_a(Some(runtime.clone()), NOW));
        assert_eq!(printed, expected);
        runtime.insert("earliestMessageTimeStamp".into(), "-1".into());
        assert_eq!(state(&runtime, NOW).hour, Some(0.0));
    }

    #[test]
    fn a_dead_broker_has_no_numbers() {
        let printed = base_info(&broker_a(None, NOW));
        let row = printed.lines().nth(1).unwrap();
        assert!(row.ends_with("  -             -              false"), "{row:?}");
        assert_eq!(broker_a(None, NOW)[0].state, State::default());
    }
}
