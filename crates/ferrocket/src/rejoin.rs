//! A broker that comes back to its group asks who is the master now: an old master becomes a slave of a newer one, and
//! what its log has beyond the place where that one took over is put aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::config::BrokerRole;
use broker::epochs::{self, Other};
use broker::{BrokerConfig, OpenError};
use net::client::{Client, Pool};
use protocol::bodies::{ClusterInfo, EpochCache};
use protocol::codes;
use protocol::names::MASTER_ID;
use protocol::requests::{GetBrokerClusterInfo, GetBrokerEpochCache};
use replication::epoch::EpochHistory;
use stdx::properties;
use store::disk::Disk;
use tokio::task::JoinSet;

/// How long a name server or a master may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The epochs of the broker at `address`; `None` where it has none, as Java's.
pub async fn epochs_of(address: &str) -> Result<Option<EpochHistory>> {
    let client = Client::connect(address).await?;
    match client.call(&GetBrokerEpochCache {}, &[], TIMEOUT).await?.success() {
        Ok(answer) => Ok(epochs::history(&answer.json::<EpochCache>()?.epoch_list)),
        Err(error) if error.code().is_some_and(|code| code != codes::SERVICE_NOT_AVAILABLE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who has which number in this broker's group, but for this one at `own`: of each of these name servers that answers. They
/// are asked side by side. An error where none answers.
pub async fn others(
    config: &BrokerConfig,
    own: &str,
    pool: &Pool,
    name_servers: Vec<String>,
) -> Result<Vec<BTreeMap<i64, String>>> {
    let (mut asked, mut groups, mut asking) = (name_servers.is_empty(), Vec::new(), JoinSet::new());
    for name_server in name_servers {
        let pool = pool.clone();
        asking.spawn(async move {
            let answer = pool.call(&name_server, &GetBrokerClusterInfo {}, &[], TIMEOUT).await;
            (answer.and_then(|answer| answer.json::<ClusterInfo>()), name_server)
        });
    }
    for (answer, name_server) in asking.join_all().await {
        let mut info = match answer {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!("name server {name_server} does not say who is in the group: {error}");
                continue;
            }
        };
        asked = true;
        let Some(mut group) = info.broker_addr_table.remove(&config.broker_name) else { continue };
        group.broker_addrs.retain(|_, address| *address != own && !config.advertised_addresses.names(address));
        groups.push(group.broker_addrs);
    }
    if asked { Ok(groups) } else { bail!("no name server says who is in the group") }
}

/// The newest master of this broker's group, where one of these name servers knows another one than `own`. An error where
/// nobody can say.
pub async fn other_master(config: &BrokerConfig, own: &str, pool: &Pool, name_servers: Vec<String>) -> Result<Option<Other>> {
    let groups = others(config, own, pool, name_servers).await?;
    let masters: BTreeSet<_> = groups.into_iter().filter_map(|mut numbers| numbers.remove(&MASTER_ID)).collect();
    let mut newest: Option<Other> = None;
    for address in masters {
        let epochs = epochs_of(&address).await;
        let epochs =
            epochs.with_context(|| format!("{address} is registered as the master, and can't be asked for its epochs"))?;
        if let Some(epochs) = epochs
            && newest.as_ref().is_none_or(|known| known.epochs.reign() < epochs.reign())
        {
            newest = Some(Other { address, epochs });
        }
    }
    Ok(newest)
}

/// Has the settings and the log of a broker that is not open follow the master that its group has now. Gives the reason
/// where nobody can say who that is: until then the broker is to take no messages.
pub async fn rejoin(config: &mut BrokerConfig, own: &str, config_file: Option<&PathBuf>) -> Result<Option<String>> {
    let root = Path::new(&config.store_path_root_dir);
    if epochs::read(root).context("the epochs can't be read")?.is_none() {
        return Ok(None);
    }
    let other = match other_master(config, own, &Pool::default(), config.name_servers()).await {
        Ok(Some(other)) => other,
        Ok(None) => return Ok(None),
        // A slave takes none anyway, and asks again before it copies.
        Err(_) if config.broker_role == BrokerRole::Slave => return Ok(None),
        Err(error) => {
            return Ok(Some(format!("another broker may have become the master of {}: {error:#}", config.broker_name)));
        }
    };
    epochs::rejoin(Disk::default(), config, &other, |changed| {
        let Some(path) = config_file else { return Ok(()) };
        stdx::atomic_file::write(path, &properties::change(&std::fs::read(path)?, changed))
    })
    .map_err(|error: OpenError| anyhow::Error::from(error).context("following another master"))?;
    Ok(None)
}
