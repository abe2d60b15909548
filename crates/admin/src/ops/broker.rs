//! A broker's state and configuration.

use std::collections::BTreeMap;

use protocol::bodies::KvTable;
use protocol::requests::{GetBrokerConfig, GetBrokerRuntimeInfo, UpdateBrokerConfig};

use super::namesrv::{config_line, config_lines};
use super::{Access, Error, TIMEOUT};

/// A broker's counters and positions under Java's keys, all as text.
pub async fn runtime_info(access: &Access, broker: &str) -> Result<BTreeMap<String, String>, Error> {
    let answer = access.pool.call(broker, &GetBrokerRuntimeInfo {}, &[], TIMEOUT).await?;
    Ok(answer.json::<KvTable>()?.table)
}

/// A broker's configuration, sorted by key.
pub async fn config(access: &Access, broker: &str) -> Result<Vec<(String, String)>, Error> {
    let answer = access.pool.call(broker, &GetBrokerConfig {}, &[], TIMEOUT).await?;
    Ok(config_lines(answer.body()))
}

/// Changes one key of a broker's configuration, in force and in its file.
pub async fn update_config(access: &Access, broker: &str, key: &str, value: &str) -> Result<(), Error> {
    access.pool.call(broker, &UpdateBrokerConfig {}, config_line(key, value).as_bytes(), TIMEOUT).await?;
    Ok(())
}
