//! A broker's state and configuration.

use std::collections::BTreeMap;

use protocol::bodies::KvTable;
use protocol::requests::{
    CleanExpiredConsumeQueue, CleanUnusedTopic, DeleteExpiredCommitLog, GetBrokerConfig, GetBrokerRuntimeInfo, UpdateBrokerConfig,
};

use super::namesrv::{config_line, config_lines};
use super::{Access, Error, STATS_TIMEOUT, TIMEOUT};

/// A broker's counters and positions under Java's keys, all as text.
pub async fn runtime_info(access: &Access, broker: &str) -> Result<BTreeMap<String, String>, Error> {
    let answer = access.pool.call(broker, &GetBrokerRuntimeInfo {}, &[], TIMEOUT).await?;
    Ok(answer.json::<KvTable>()?.table)
}

/// What a broker is to clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaning {
    Queues,
    Log,
    Topics,
}

/// Has a broker clean up now.
pub async fn clean(access: &Access, broker: &str, what: Cleaning) -> Result<(), Error> {
    let pool = &access.pool;
    let answer = match what {
        Cleaning::Queues => pool.call(broker, &CleanExpiredConsumeQueue {}, &[], STATS_TIMEOUT).await,
        Cleaning::Log => pool.call(broker, &DeleteExpiredCommitLog {}, &[], STATS_TIMEOUT).await,
        Cleaning::Topics => pool.call(broker, &CleanUnusedTopic {}, &[], STATS_TIMEOUT).await,
    };
    answer?;
    Ok(())
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
