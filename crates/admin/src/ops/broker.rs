//! A broker's state and configuration.

use std::collections::BTreeMap;

use protocol::bodies::{EpochCache, HaStatus, KvTable};
use protocol::requests::{
    CleanExpiredConsumeQueue, CleanUnusedTopic, DeleteExpiredCommitLog, GetBrokerConfig, GetBrokerEpochCache, GetBrokerHaStatus,
    GetBrokerRuntimeInfo, PromoteSlave, PromoteSlaveReply, UpdateBrokerConfig,
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

/// A broker's configuration.
pub async fn config(access: &Access, broker: &str) -> Result<BTreeMap<String, String>, Error> {
    let answer = access.pool.call(broker, &GetBrokerConfig {}, &[], TIMEOUT).await?;
    Ok(config_lines(answer.body()))
}

/// Changes one key of a broker's configuration, in force and in its file.
pub async fn update_config(access: &Access, broker: &str, key: &str, value: &str) -> Result<(), Error> {
    access.pool.call(broker, &UpdateBrokerConfig {}, config_line(key, value).as_bytes(), TIMEOUT).await?;
    Ok(())
}

/// A broker's connections with its slaves, or with its master.
pub async fn ha_status(access: &Access, broker: &str) -> Result<HaStatus, Error> {
    Ok(access.pool.call(broker, &GetBrokerHaStatus {}, &[], TIMEOUT).await?.json()?)
}

/// The epoch that a broker's log is in; 0 where it has none, or is of Java.
pub async fn epoch(access: &Access, broker: &str) -> i64 {
    let answer = access.pool.call(broker, &GetBrokerEpochCache {}, &[], TIMEOUT).await;
    let cache = answer.ok().and_then(|answer| answer.json::<EpochCache>().ok()).unwrap_or_default();
    cache.epoch_list.last().map_or(0, |entry| entry.epoch)
}

/// Makes a slave the master of its group. Gives the new epoch, and from where on in the commit log it is.
pub async fn promote(access: &Access, slave: &str, role: Option<&str>, force: bool) -> Result<(i64, i64), Error> {
    let request = PromoteSlave { broker_role: role, force: Some(force) };
    let answer = access.pool.call(slave, &request, &[], TIMEOUT).await?;
    Ok(answer.fields(|header| header.read::<PromoteSlaveReply>().map(|reply| (reply.epoch, reply.start_offset)))?)
}
