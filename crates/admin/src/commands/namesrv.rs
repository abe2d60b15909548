//! updateKvConfig, deleteKvConfig, wipeWritePerm, addWritePerm, getNamesrvConfig, updateNamesrvConfig.

use std::collections::BTreeMap;

use super::table::{Call, each};
use crate::ops::{Error, namesrv};

pub async fn update_kv_config(call: Call) -> Result<(), Error> {
    let (namespace, key) = (call.required("namespace")?, call.required("key")?);
    namesrv::put_kv(&call.access, namespace, key, call.required("value")?).await?;
    call.print("create or update kv config to namespace success.\n")
}

pub async fn delete_kv_config(call: Call) -> Result<(), Error> {
    namesrv::delete_kv(&call.access, call.required("namespace")?, call.required("key")?).await?;
    call.print("delete kv config from namespace success.\n")
}

#[derive(Clone, Copy)]
pub enum Change {
    Wipe,
    Add,
}

pub async fn change_write_perm(call: Call, change: Change) -> Result<(), Error> {
    let broker = call.required("brokerName")?;
    let on_one = async |server: &String| {
        let changed = match change {
            Change::Wipe => namesrv::wipe_write_perm(&call.access, server, broker).await,
            Change::Add => namesrv::add_write_perm(&call.access, server, broker).await,
        };
        let outcome = changed.as_ref().map_or("Failed".to_owned(), |topics| format!("OK, {topics}"));
        call.print(&perm_changed(change, broker, server, &outcome))?;
        changed.map(drop)
    };
    each(&call.access.namesrvs, on_one).await
}

fn perm_changed(change: Change, broker: &str, server: &str, outcome: &str) -> String {
    let verb = match change {
        Change::Wipe => "wipe",
        Change::Add => "add",
    };
    format!("{verb} write perm of broker[{broker}] in name server[{server}] {outcome}\n")
}

pub async fn get_namesrv_config(call: Call) -> Result<(), Error> {
    let ask = async |server: &str| namesrv::config(&call.access, server).await;
    let text = |server: &str, config: &_| format!("============{server}============\n{}", config_rows(config));
    call.show_each(call.access.namesrvs.clone(), ask, text).await
}

/// A line a key, as for name servers so for brokers.
pub fn config_rows(config: &BTreeMap<String, String>) -> String {
    config.iter().map(|(key, value)| format!("{key:<50}=  {value}\n")).collect()
}

pub async fn update_namesrv_config(call: Call) -> Result<(), Error> {
    let (key, value) = (call.required("key")?, call.required("value")?);
    for server in &call.access.namesrvs {
        namesrv::update_config(&call.access, server, key, value).await?;
    }
    let servers = if call.has_namesrv() { format!("[{}]", call.access.namesrvs.join(", ")) } else { String::new() };
    call.print(&config_updated(&servers, key, value))
}

fn config_updated(servers: &str, key: &str, value: &str) -> String {
    format!("update name server config success!{servers}\n{key} : {value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::columns::golden;

    #[test]
    fn configurations_look_as_in_java_but_sorted() {
        let recorded = golden::stdout("getNamesrvConfig");
        let pair = |line: &str| line.split_once("=  ").map(|(key, value)| (key.trim_end().to_owned(), value.to_owned()));
        let config: BTreeMap<String, String> = recorded.lines().filter_map(pair).collect();
        assert_eq!(config.len(), 40);
        let printed = format!("============127.0.0.1:19876============\n{}", config_rows(&config));
        assert_eq!(golden::sorted(&printed), golden::sorted(&recorded));
    }

    #[test]
    fn changes_are_told_as_in_java() {
        let server = "127.0.0.1:19876";
        assert_eq!(perm_changed(Change::Wipe, "broker-a", server, "OK, 20"), golden::stdout("wipeWritePerm"));
        assert_eq!(perm_changed(Change::Add, "broker-a", server, "OK, 20"), golden::stdout("addWritePerm"));
        let updated = config_updated("[127.0.0.1:19876]", "orderMessageEnable", "true");
        assert_eq!(updated, golden::stdout("updateNamesrvConfig"));
    }
}
