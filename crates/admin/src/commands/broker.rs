//! brokerStatus, getBrokerConfig, updateBrokerConfig.

use std::collections::BTreeMap;

use protocol::names;

use super::namesrv::config_rows;
use super::table::{Call, each};
use crate::ops::{self, Error, broker, namesrv};

pub async fn broker_status(call: Call) -> Result<(), Error> {
    let one = call.broker();
    let brokers = match &one {
        Some(address) => vec![address.clone()],
        None => ops::members(&namesrv::cluster_info(&call.access).await?, call.required("clusterName")?)?,
    };
    let ask = async |address: &str| broker::runtime_info(&call.access, address).await;
    call.show_each(brokers, ask, |address, runtime| status_rows(runtime, one.is_none().then_some(address))).await
}

/// A line a key; of several brokers with the address before it.
fn status_rows(runtime: &BTreeMap<String, String>, address: Option<&str>) -> String {
    let row = |(key, value): (&String, &String)| match address {
        Some(address) => format!("{address:<24} {key:<32}: {value}\n"),
        None => format!("{key:<32}: {value}\n"),
    };
    runtime.iter().map(row).collect()
}

pub async fn get_broker_config(call: Call) -> Result<(), Error> {
    let mut all = BTreeMap::new();
    let asking = each(config_targets(&call).await?, async |(address, title)| {
        let Some(address) = address else { return call.print(&title) };
        let config = broker::config(&call.access, &address).await?;
        if !call.json() {
            call.print(&format!("{title}{}\n", config_rows(&config)))?;
        }
        all.insert(address, config);
        Ok(())
    });
    let asked = asking.await;
    if call.json() {
        call.print_json(&all)?;
    }
    asked
}

/// The brokers to ask, with Java's titles; a group without a master has a title alone.
async fn config_targets(call: &Call) -> Result<Vec<(Option<String>, String)>, Error> {
    if let Some(address) = call.broker() {
        let title = format!("============{address}============\n");
        return Ok(vec![(Some(address), title)]);
    }
    let info = namesrv::cluster_info(&call.access).await?;
    let mut targets = Vec::new();
    for data in ops::brokers_of(&info, call.required("clusterName")?)? {
        let master = data.broker_addrs.get(&names::MASTER_ID);
        let name = master.map_or("NO_MASTER", String::as_str);
        if master.is_some() || !call.json() {
            targets.push((master.cloned(), format!("============Master: {name}============\n")));
        }
        for (_, slave) in data.broker_addrs.iter().filter(|(id, _)| **id != names::MASTER_ID) {
            targets.push((Some(slave.clone()), format!("============My Master: {name}=====Slave: {slave}============\n")));
        }
    }
    Ok(targets)
}

pub async fn update_broker_config(call: Call) -> Result<(), Error> {
    let (key, value) = (call.required("key")?, call.value("value").unwrap_or_default());
    let brokers = match call.broker() {
        Some(address) => vec![address],
        None => {
            let (info, cluster) = (namesrv::cluster_info(&call.access).await?, call.required("clusterName")?);
            // Java looks whether the option is there, not what it says.
            if call.value("updateAllBroker").is_some() { ops::members(&info, cluster)? } else { ops::masters(&info, cluster)? }
        }
    };
    let change = async |address: String| {
        broker::update_config(&call.access, &address, key, value).await?;
        call.print(&format!("update broker config success, {address}\n"))
    };
    each(brokers, change).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::columns::golden;

    #[test]
    fn a_brokers_status_looks_as_in_java() {
        let recorded = golden::stdout("brokerStatus");
        let pair = |line: &str| line.split_once(": ").map(|(key, value)| (key.trim_end().to_owned(), value.to_owned()));
        // Java's keys may hold a path, but none holds `: `.
        let runtime: BTreeMap<String, String> = recorded.lines().filter_map(pair).collect();
        assert_eq!(status_rows(&runtime, None), recorded);
        assert_eq!(status_rows(&runtime, Some("127.0.0.1:20911")), golden::stdout("brokerStatus-cluster"));
    }

    #[test]
    fn a_brokers_configuration_looks_as_in_java_but_sorted() {
        let recorded = golden::stdout("getBrokerConfig");
        let pair = |line: &str| line.split_once("=  ").map(|(key, value)| (key.trim_end().to_owned(), value.to_owned()));
        let config: BTreeMap<String, String> = recorded.lines().filter_map(pair).collect();
        assert!(config.len() > 300);
        let printed = format!("============127.0.0.1:20911============\n{}\n", config_rows(&config));
        assert_eq!(golden::sorted(&printed), golden::sorted(&recorded));
    }
}
