//! Whether this broker is where it says that it is: it dials the addresses that clients and slaves are given, and looks who
//! answers. What is wrong with them costs others errors that name this broker nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::Broker;
use net::client::{self, Client, ClientError};
use protocol::bodies::KvTable;
use protocol::requests::{GetBrokerConfig, GetBrokerRuntimeInfo};
use stdx::properties;
use tokio::time::{Instant, sleep};

use crate::registration::Registrar;

/// How often the addresses are dialled.
const PERIOD: Duration = Duration::from_secs(60);
/// How often while one of them is not right.
const SOON: Duration = Duration::from_secs(5);
/// How long whoever answers at an address may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a connection that was made may take to arrive at this process.
const ARRIVAL: Duration = Duration::from_secs(5);

/// A broker, as it says itself.
pub struct Identity {
    pub cluster: String,
    pub name: String,
    pub id: String,
    pub ha_port: String,
    /// When its process began, in ms since 1970.
    pub started: String,
}

/// Who answers as a broker at an address.
pub async fn who(address: &str) -> Result<Identity, ClientError> {
    let client = Client::connect(address).await?;
    let answer = client.call(&GetBrokerConfig {}, &[], ANSWER).await?.success()?;
    let entries = properties::parse(answer.body()).unwrap_or_default();
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone()).unwrap_or_default();
    let figures = client.call(&GetBrokerRuntimeInfo {}, &[], ANSWER).await?;
    // Java 5.x has no figures for a store without messages.
    let mut figures: KvTable = figures.json().unwrap_or_default();
    let started = figures.table.remove("bootTimestamp").unwrap_or_default();
    Ok(Identity {
        cluster: of("brokerClusterName"),
        name: of("brokerName"),
        id: of("brokerId"),
        ha_port: of("haListenPort"),
        started,
    })
}

/// Looks again and again. `arrived` counts the connections at the HA port. A broker whose clients would reach another one is
/// registered nowhere.
pub async fn watch(broker: Arc<Broker>, registrar: Registrar, arrived: Arc<AtomicU64>) {
    loop {
        let (clients, misleading) = clients_reach(&broker).await;
        let slaves = if broker.is_slave() { None } else { slaves_reach(&broker, &arrived).await };
        let wait = if clients.is_none() && slaves.is_none() { PERIOD } else { SOON };
        broker.note_wrong("address", clients);
        broker.note_wrong("haAddress", slaves);
        registrar.mislead(misleading).await;
        sleep(wait).await;
    }
}

/// What is wrong with the address of clients, and whether it is another broker's.
async fn clients_reach(broker: &Broker) -> (Option<String>, bool) {
    let (address, config) = (broker.address(), broker.config());
    let set = "Set brokerIP1 to an address of this broker that clients reach, and listenPort to the port there (where a \
               container's port is mapped, the outer and the inner one have to be the same)";
    match who(&address).await {
        Ok(found) if found.started == broker.started.to_string() && found.name == config.broker_name => (None, false),
        Ok(Identity { cluster, name, id, .. }) => {
            let other = name != config.broker_name || id != config.broker_id.to_string() || cluster != config.broker_cluster_name;
            let left_out = if other { ", so that this one is not registered" } else { "" };
            let why = format!(
                "{address}, which clients of this broker are given (brokerIP1, listenPort), leads to another process, broker {name} \
                 {id} of {cluster}{left_out}. {set}"
            );
            (Some(why), other)
        }
        Err(error) => {
            let why = format!(
                "this broker does not reach itself at {address}, which clients are given (brokerIP1, listenPort): {error}. Clients \
                 that do not either can't send or read here. {set}"
            );
            (Some(why), false)
        }
    }
}

/// What is wrong with the address of slaves.
async fn slaves_reach(broker: &Broker, arrived: &AtomicU64) -> Option<String> {
    let address = broker.ha_address();
    let set = "Set brokerIP2 to an address of this broker that slaves reach, and haListenPort to the port there";
    let before = arrived.load(Ordering::Relaxed);
    if let Err(error) = client::dial(&address).await {
        return Some(format!(
            "this broker does not reach itself at {address}, which slaves are given (brokerIP2, haListenPort): {error}. Slaves that \
             do not either copy nothing. {set}"
        ));
    }
    let end = Instant::now() + ARRIVAL;
    while arrived.load(Ordering::Relaxed) == before {
        if Instant::now() > end {
            return Some(format!("{address}, which slaves are given (brokerIP2, haListenPort), leads to another process. {set}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}
