//! A broker that comes back to its group asks who is the master now: an old master becomes a slave of a newer one, and
//! what its log has beyond the place where that one took over is put aside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::config::BrokerRole;
use broker::{BrokerConfig, epochs};
use net::client::{Client, Pool};
use protocol::bodies::{BrokerData, ClusterInfo, EpochCache};
use protocol::names::MASTER_ID;
use protocol::requests::{GetBrokerClusterInfo, GetBrokerEpochCache};
use replication::epoch::EpochHistory;
use stdx::properties;

/// How long a name server or a master may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Another broker that is registered as the master of this one's group.
pub struct Other {
    pub address: String,
    pub epochs: EpochHistory,
    /// The group as a name server knows it.
    group: BrokerData,
}

/// The epochs of the broker at `address`; `None` where it has none, as Java's.
pub async fn epochs_of(address: &str) -> Result<Option<EpochHistory>> {
    let client = Client::connect(address).await?;
    match client.call(&GetBrokerEpochCache {}, &[], TIMEOUT).await?.success() {
        Ok(answer) => Ok(epochs::history(&answer.json::<EpochCache>()?.epoch_list)),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The master of this broker's group, where name servers know another one than `own`. An error where nobody can say.
pub async fn other_master(config: &BrokerConfig, own: &str, pool: &Pool) -> Result<Option<Other>> {
    let mut asked = config.name_servers().is_empty();
    for name_server in config.name_servers() {
        let answer = pool.call(&name_server, &GetBrokerClusterInfo {}, &[], TIMEOUT).await;
        let mut info: ClusterInfo = match answer.and_then(|answer| answer.json()) {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!("name server {name_server} does not say who is in the group: {error}");
                continue;
            }
        };
        asked = true;
        let Some(group) = info.broker_addr_table.remove(&config.broker_name) else { continue };
        let other = |address: &&String| *address != own && !config.advertised_addresses.names(address);
        let Some(address) = group.broker_addrs.get(&MASTER_ID).filter(other).cloned() else { continue };
        let epochs = epochs_of(&address).await;
        let epochs =
            epochs.with_context(|| format!("{address} is registered as the master, and can't be asked for its epochs"))?;
        if let Some(epochs) = epochs {
            return Ok(Some(Other { address, epochs, group }));
        }
    }
    if asked { Ok(None) } else { bail!("no name server says who the master is") }
}

/// Has the settings and the log of a broker that is not open follow the master that its group has now. Gives the reason
/// where nobody can say who that is: until then the broker is to take no messages.
pub async fn rejoin(config: &mut BrokerConfig, own: &str, config_file: Option<&PathBuf>) -> Result<Option<String>> {
    let root = Path::new(&config.store_path_root_dir);
    let Some(history) = epochs::read(root).context("the epochs can't be read")? else { return Ok(None) };
    let other = match other_master(config, own, &Pool::default()).await {
        Ok(Some(other)) => other,
        Ok(None) => return Ok(None),
        // A slave takes none anyway, and asks again before it copies.
        Err(_) if config.broker_role == BrokerRole::Slave => return Ok(None),
        Err(error) => {
            return Ok(Some(format!("another broker may have become the master of {}: {error:#}", config.broker_name)));
        }
    };
    if other.epochs.current() < history.current() {
        tracing::warn!("{} is registered as the master in an older epoch than this broker's", other.address);
        return Ok(None);
    }
    if config.broker_role != BrokerRole::Slave {
        if other.epochs.current() == history.current() {
            tracing::error!("{} is registered as the master of {} as well, in the same epoch", other.address, config.broker_name);
            return Ok(None);
        }
        // The new master left its number to others.
        let taken = |id: &i64| other.group.broker_addrs.get(id).is_some_and(|address| address != own);
        let id = (1..).find(|id| !taken(id)).unwrap_or(1);
        tracing::warn!(
            "{} has become the master of {} in epoch {}: this broker, its master in epoch {}, follows as slave {id}",
            other.address,
            config.broker_name,
            other.epochs.current(),
            history.current()
        );
        if let Some(path) = config_file {
            let text = std::fs::read(path).with_context(|| path.display().to_string())?;
            let changed = properties::change(&text, &epochs::role_settings(BrokerRole::Slave, id));
            stdx::atomic_file::write(path, &changed).with_context(|| path.display().to_string())?;
        }
        (config.broker_role, config.broker_id) = (BrokerRole::Slave, id);
    }
    if let Some(at) = history.parts_from(&other.epochs) {
        let cut = store::cut(&config.store_options(Vec::new()), at)?;
        tracing::warn!("{cut} bytes of the commit log beyond {at}, where {} took over, were put aside", other.address);
    }
    Ok(None)
}
