//! haStatus and getSyncStateSet, and promoteSlave, which Java has not.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::bodies::{BrokerData, HaStatus};
use protocol::names;
use serde::Serialize;

use super::columns::time_ms;
use super::table::{Call, settle};
use crate::ops::{self, Error, broker, namesrv};

/// A slave that lacks no less than this is not in sync, where its master does not say otherwise (Java's default of
/// `haMaxGapNotInSync`).
const MAX_GAP: i64 = 256 * 1024 * 1024;

/// What is shown of a group.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    broker_name: String,
    /// The master's.
    addr: String,
    master_epoch: i64,
    #[serde(flatten)]
    status: HaStatus,
    slaves: Vec<Slave>,
}

/// A slave that the name servers know, as it says itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slave {
    broker_id: i64,
    addr: String,
    /// It copies the log and is near enough to be waited for.
    in_sync: bool,
    /// What it lacks of the commit log; `None` where it does not answer.
    bytes: Option<i64>,
    /// What it lacks of the queues, and the seconds between the newest messages; `None` where master or slave is Java's.
    messages: Option<i64>,
    seconds: Option<f64>,
}

pub async fn ha_status(call: Call) -> Result<(), Error> {
    let text = |shown: &Shown| columns(shown, &call) + &lags(&shown.slaves);
    show(&call, call.broker(), text).await
}

pub async fn get_sync_state_set(call: Call) -> Result<(), Error> {
    show(&call, call.value("brokerName").map(str::to_owned), sync_state_set).await
}

async fn show(call: &Call, broker: Option<String>, text: impl Fn(&Shown) -> String) -> Result<(), Error> {
    let interval = call.number("interval")?.map(Duration::from_secs);
    loop {
        let (mut all, mut failures) = (BTreeMap::new(), Vec::new());
        for group in groups(call, broker.as_deref()).await? {
            match show_group(call, group).await {
                Ok(shown) if call.json() => drop(all.insert(shown.addr.clone(), shown)),
                Ok(shown) => call.print(&text(&shown))?,
                Err(error) => failures.push(error),
            }
        }
        if call.json() {
            call.print_json(&all)?;
        }
        let Some(interval) = interval else { return settle(failures) };
        failures.iter().for_each(|failure| eprintln!("{failure}"));
        tokio::time::sleep(interval).await;
    }
}

/// The groups of a cluster, or one by its master's address or name. An address that no name server knows as a master's is
/// taken for one without slaves.
async fn groups(call: &Call, broker: Option<&str>) -> Result<Vec<BrokerData>, Error> {
    let info = namesrv::cluster_info(&call.access).await;
    let Some(broker) = broker else {
        return Ok(ops::brokers_of(&info?, call.required("clusterName")?)?.into_iter().cloned().collect());
    };
    let is_it = |group: &BrokerData| {
        group.broker_name == broker || group.broker_addrs.get(&names::MASTER_ID).is_some_and(|addr| addr == broker)
    };
    match info.map(|info| info.broker_addr_table.into_values().find(is_it)) {
        Ok(Some(group)) => Ok(vec![group]),
        _ if broker.contains(':') => {
            Ok(vec![BrokerData { broker_addrs: [(names::MASTER_ID, broker.to_owned())].into(), ..BrokerData::default() }])
        }
        Ok(None) => Err(Error::Usage(format!("no broker of the name {broker} is registered"))),
        Err(error) => Err(error),
    }
}

async fn show_group(call: &Call, group: BrokerData) -> Result<Shown, Error> {
    let Some(addr) = group.broker_addrs.get(&names::MASTER_ID).cloned() else { return Err(Error::NoMaster(group)) };
    let status = broker::ha_status(&call.access, &addr).await?;
    let slaves = slaves(call, &group, &addr, &status).await;
    Ok(Shown { broker_name: group.broker_name, master_epoch: broker::epoch(&call.access, &addr).await, addr, status, slaves })
}

/// Java's lines, but that of the set's epoch, which controllers count.
fn sync_state_set(shown: &Shown) -> String {
    let Shown { broker_name: name, addr, master_epoch, slaves, .. } = shown;
    let in_sync = 1 + slaves.iter().filter(|slave| slave.in_sync).count();
    let replica = |what: &str, id: i64, addr: &str, alive: bool| {
        format!("\n{what}:\tReplicaIdentity{{brokerName='{name}', brokerId={id}, brokerAddress='{addr}', alive={alive}}}\n")
    };
    let mut out = format!(
        "\n#brokerName\t{name}\n#MasterBrokerId\t{}\n#MasterAddr\t{addr}\n#MasterEpoch\t{master_epoch}\n#SyncStateSetNums\t{in_sync}\n{}",
        names::MASTER_ID,
        replica("InSyncReplica", names::MASTER_ID, addr, true)
    );
    for (what, in_sync) in [("InSyncReplica", true), ("NotInSyncReplica", false)] {
        let those = slaves.iter().filter(|slave| slave.in_sync == in_sync);
        out.extend(those.map(|slave| replica(what, slave.broker_id, &slave.addr, slave.bytes.is_some())));
    }
    out
}

/// Java's lines and columns.
fn columns(shown: &Shown, call: &Call) -> String {
    let Shown { addr, status, .. } = shown;
    let speed = |bytes: i64| bytes as f64 / 1024.0;
    if !status.master {
        let master = &status.ha_client_runtime_info;
        return format!(
            "\n#MasterAddr\t{}\n#CommitLogMaxOffset\t{}\n#TransferSpeed(KB/s)\t{:.2}\n#LastReadTime\t{}\n#LastWriteTime\t{}\n\
             #MasterFlushOffset\t{}\n",
            master.master_addr.as_deref().unwrap_or("null"),
            master.max_offset,
            speed(master.transferred_byte_in_second),
            time_ms(master.last_read_timestamp, &call.zone),
            time_ms(master.last_write_timestamp, &call.zone),
            master.master_flush_offset
        );
    }
    let mut out = format!(
        "\n#MasterAddr\t{addr}\n#MasterCommitLogMaxOffset\t{}\n#SlaveNum\t{}\n#InSyncSlaveNum\t{}\n{:<32}  {:<16} {:>16} {:>16} \
         {:>16} {:>16}\n",
        status.master_commit_log_max_offset,
        status.ha_connection_info.len(),
        status.in_sync_slave_nums,
        "#SlaveAddr",
        "#SlaveAckOffset",
        "#Diff",
        "#TransferSpeed(KB/s)",
        "#Status",
        "#TransferFromWhere"
    );
    for slave in &status.ha_connection_info {
        out += &format!(
            "{:<32}  {:<16} {:>16} {:>16.2} {:>16} {:>16}\n",
            slave.addr,
            slave.slave_ack_offset,
            slave.diff,
            speed(slave.transferred_byte_in_second),
            if slave.in_sync { "OK" } else { "Fall Behind" },
            slave.transfer_from_where
        );
    }
    out
}

/// A group's slaves, and how far they are behind their master.
async fn slaves(call: &Call, group: &BrokerData, master: &str, status: &HaStatus) -> Vec<Slave> {
    let of_master = figures(call, master).await;
    let config = broker::config(&call.access, master).await.unwrap_or_default();
    let gap = config.get("haMaxGapNotInSync").and_then(|gap| gap.parse().ok()).unwrap_or(MAX_GAP);
    let mut slaves = Vec::new();
    for (&broker_id, addr) in group.broker_addrs.iter().filter(|(id, _)| **id != names::MASTER_ID) {
        let figures = figures(call, addr).await;
        let behind = |nth: usize| Some((of_master[nth]? - figures[nth]?).max(0));
        let bytes = behind(0);
        // Java's slaves do not say whether they copy.
        let follows = figures[3].map_or(!status.ha_connection_info.is_empty(), |follows| follows == 1);
        slaves.push(Slave {
            broker_id,
            addr: addr.clone(),
            in_sync: follows && bytes.is_some_and(|bytes| bytes < gap),
            bytes,
            messages: behind(1),
            seconds: behind(2).map(|ms| ms as f64 / 1000.0),
        });
    }
    slaves
}

fn lags(slaves: &[Slave]) -> String {
    if slaves.is_empty() {
        return String::new();
    }
    let mut out = format!("{:<32}  {:>16} {:>16} {:>16} {:>16}\n", "#SlaveBehind", "#Bytes", "#Messages", "#Seconds", "#InSync");
    for slave in slaves {
        let number = |number: Option<i64>| number.map_or("-".into(), |number| number.to_string());
        let seconds = slave.seconds.map_or("-".into(), |seconds| format!("{seconds:.3}"));
        let (addr, in_sync) = (&slave.addr, slave.in_sync);
        out += &format!("{addr:<32}  {:>16} {:>16} {seconds:>16} {in_sync:>16}\n", number(slave.bytes), number(slave.messages));
    }
    out
}

/// The end of a broker's commit log, its messages, the time of the newest, and whether it follows a master; of those that
/// it says.
async fn figures(call: &Call, address: &str) -> [Option<i64>; 4] {
    let runtime = broker::runtime_info(&call.access, address).await.unwrap_or_default();
    let number = |key: &str| runtime.get(key)?.parse().ok();
    let follows = runtime.get("follows").map(|follows| i64::from(follows == "true"));
    [number("commitLogMaxOffset"), number("messagesInQueues"), number("newestMessageTimeStamp"), follows]
}

pub async fn promote_slave(call: Call) -> Result<(), Error> {
    let address = call.broker().ok_or_else(|| Error::Usage("--brokerAddr needs a value".into()))?;
    let (epoch, start) = broker::promote(&call.access, &address, call.value("brokerRole"), call.flag("force")).await?;
    call.print(&format!("{address} is the master of its group from offset {start} of the commit log on, in epoch {epoch}\n"))
}
