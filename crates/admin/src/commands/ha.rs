//! haStatus, and promoteSlave, which Java has not.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::bodies::{BrokerData, HaStatus};
use protocol::names;

use super::columns::time_ms;
use super::table::{Call, settle};
use crate::ops::{self, Error, broker, namesrv};

pub async fn ha_status(call: Call) -> Result<(), Error> {
    let interval = call.number("interval")?.map(Duration::from_secs);
    loop {
        let failures = show_all(&call).await?;
        let Some(interval) = interval else { return settle(failures) };
        failures.iter().for_each(|failure| eprintln!("{failure}"));
        tokio::time::sleep(interval).await;
    }
}

async fn show_all(call: &Call) -> Result<Vec<Error>, Error> {
    let info = if call.broker().is_some() { None } else { Some(namesrv::cluster_info(&call.access).await?) };
    let groups: Vec<BrokerData> = match (call.broker(), &info) {
        (None, Some(info)) => ops::brokers_of(info, call.required("clusterName")?)?.into_iter().cloned().collect(),
        (address, _) => vec![BrokerData {
            broker_addrs: address.map(|address| (names::MASTER_ID, address)).into_iter().collect(),
            ..BrokerData::default()
        }],
    };
    let (mut all, mut failures) = (BTreeMap::new(), Vec::new());
    for group in groups {
        let Some(master) = group.broker_addrs.get(&names::MASTER_ID) else {
            failures.push(Error::NoMaster(group));
            continue;
        };
        match broker::ha_status(&call.access, master).await {
            Ok(status) if call.json() => drop(all.insert(master.clone(), status)),
            Ok(status) => call.print(&(columns(master, &status, call) + &lags(call, &group, master).await))?,
            Err(error) => failures.push(error),
        }
    }
    if call.json() {
        call.print_json(&all)?;
    }
    Ok(failures)
}

/// Java's lines and columns.
fn columns(address: &str, status: &HaStatus, call: &Call) -> String {
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
        "\n#MasterAddr\t{address}\n#MasterCommitLogMaxOffset\t{}\n#SlaveNum\t{}\n#InSyncSlaveNum\t{}\n{:<32}  {:<16} {:>16} {:>16} \
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

/// How far a group's slaves are behind their master, of those that say so.
async fn lags(call: &Call, group: &BrokerData, master: &str) -> String {
    let mut out = String::new();
    let Some(master) = figures(call, master).await else { return out };
    for (_, address) in group.broker_addrs.iter().filter(|(id, _)| **id != names::MASTER_ID) {
        if let Some(slave) = figures(call, address).await {
            let [bytes, messages, ms] = [0, 1, 2].map(|nth| (master[nth] - slave[nth]).max(0));
            let seconds = ms as f64 / 1000.0;
            out += &format!("{address:<32}  {bytes:>16} {messages:>16} {seconds:>16.3}\n");
        }
    }
    if out.is_empty() {
        return out;
    }
    format!("{:<32}  {:>16} {:>16} {:>16}\n{out}", "#SlaveBehind", "#Bytes", "#Messages", "#Seconds")
}

/// The end of a broker's commit log, its messages, and the time of the newest.
async fn figures(call: &Call, address: &str) -> Option<[i64; 3]> {
    let runtime = broker::runtime_info(&call.access, address).await.ok()?;
    let number = |key: &str| runtime.get(key)?.parse().ok();
    Some([number("commitLogMaxOffset")?, number("messagesInQueues")?, number("newestMessageTimeStamp")?])
}

pub async fn promote_slave(call: Call) -> Result<(), Error> {
    let address = call.broker().ok_or_else(|| Error::Usage("--brokerAddr needs a value".into()))?;
    let (epoch, start) = broker::promote(&call.access, &address, call.value("brokerRole"), call.flag("force")).await?;
    call.print(&format!("{address} is the master of its group from offset {start} of the commit log on, in epoch {epoch}\n"))
}
