//! Which broker has which topics, and which brokers live. A registration belongs to the connection that it came
//! on: when that one closes the broker is gone at once, but never because of a connection that came before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use protocol::bodies::{
    BrokerData, BrokerMemberGroup, ClusterInfo, DataVersion, QueueData, TopicConfig, TopicRouteData, TopicTable,
};
use protocol::names::MASTER_ID;
use protocol::networks::Networks;
use protocol::sys_flag::perm;

/// A broker without a sign of life for so long is gone, unless it asked for another time.
pub const BROKER_EXPIRY_MS: i64 = 120_000;

/// A broker that was not heard of for so long gives its address to another one: brokers register every 60 seconds at the
/// least, and may be late.
const GIVES_WAY_MS: i64 = 90_000;

/// Brokers of which it is known that their refusal was logged.
const MAX_REFUSED: usize = 1000;

/// Who a broker is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub cluster: String,
    pub name: String,
    pub id: i64,
    pub address: String,
}

/// A broker that lives.
#[derive(Debug)]
struct Live {
    identity: Identity,
    ha_address: String,
    advertised: Networks,
    connection: u64,
    heard: i64,
    expiry_ms: i64,
    version: DataVersion,
}

/// What registers itself.
pub struct Registration {
    pub identity: Identity,
    pub ha_address: String,
    pub connection: u64,
    pub expiry_ms: i64,
    pub acting_master: bool,
    pub advertised: Networks,
    /// Where it comes from.
    pub client: IpAddr,
    pub topics: TopicTable,
    pub drop_missing: bool,
}

/// What a broker that registered is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub master_address: Option<String>,
    pub ha_address: Option<String>,
}

/// All routes.
#[derive(Debug, Default)]
pub struct Routes {
    /// Topic to broker name to its queues.
    topics: BTreeMap<String, BTreeMap<String, QueueData>>,
    brokers: BTreeMap<String, BrokerData>,
    /// By cluster and address, as in Java.
    live: BTreeMap<(String, String), Live>,
    /// Who was refused its address, so that this is logged once.
    refused: BTreeSet<Identity>,
}

impl Routes {
    /// Takes a broker's registration. An error is why it is refused: another broker that lives has its address, or it is
    /// not known and registers one topic alone.
    pub fn register(&mut self, registration: Registration, now: i64) -> Result<Registered, String> {
        let Registration { identity, ha_address, connection, expiry_ms, acting_master, advertised, client, topics, drop_missing } =
            registration;
        let key = (identity.cluster.clone(), identity.address.clone());
        self.check_address(&identity, connection, now)?;
        let known = self.brokers.get(&identity.name);
        if let Some(other) = known.and_then(|b| b.broker_addrs.get(&identity.id)).filter(|a| **a != identity.address) {
            let newer = self.live.get(&(identity.cluster.clone(), other.clone())).map(|l| l.version.state_version);
            if newer.is_some_and(|v| v > topics.data_version.state_version) {
                tracing::error!(
                    "{} {} at {other} has a newer state than {}: its registration is ignored",
                    identity.name,
                    identity.id,
                    identity.address
                );
                return Ok(Registered::default());
            }
            self.live.remove(&(identity.cluster.clone(), other.clone()));
        }
        let listed = known.is_some_and(|b| b.broker_addrs.contains_key(&identity.id));
        if !listed && topics.topic_config_table.len() == 1 {
            tracing::warn!("{} {} registers a single topic and is not known: refused", identity.name, identity.id);
            return Err("register broker failed".into());
        }
        let broker = self.brokers.entry(identity.name.clone()).or_default();
        broker.cluster.clone_from(&identity.cluster);
        broker.broker_name.clone_from(&identity.name);
        broker.enable_acting_master = acting_master;
        // The same address under another id: a slave that became master, or the reverse.
        broker.broker_addrs.retain(|id, address| *id == identity.id || *address != identity.address);
        let first = broker.broker_addrs.insert(identity.id, identity.address.clone()).is_none();
        let smallest = broker.broker_addrs.keys().next().copied();
        let changed = self.live.get(&key).is_none_or(|live| live.version != topics.data_version);
        let speaks_for_name = identity.id == MASTER_ID || (acting_master && smallest == Some(identity.id));
        if speaks_for_name && (first || changed) {
            let writable = identity.id == MASTER_ID;
            self.take_topics(&identity.name, &topics, drop_missing, writable);
        }
        if first {
            tracing::info!("registered broker {} {} at {} in {}", identity.name, identity.id, identity.address, identity.cluster);
        }
        let (name, id, cluster) = (identity.name.clone(), identity.id, identity.cluster.clone());
        let live = Live { identity, ha_address, advertised, connection, heard: now, expiry_ms, version: topics.data_version };
        self.live.insert(key, live);
        Ok(self.master_for(&cluster, &name, id, client))
    }

    /// Refuses an address that another broker has: clients of one would reach the other. One that changes its number, as a
    /// slave that is promoted, does so on its connection; one whose connection is closed has no address any more.
    fn check_address(&mut self, identity: &Identity, connection: u64, now: i64) -> Result<(), String> {
        let Identity { cluster, name, id, address } = identity;
        let other =
            |live: &Live| live.identity.address == *address && live.identity != *identity && live.connection != connection;
        let lives = self.live.values().find(|live| other(live) && now - live.heard < GIVES_WAY_MS);
        let Some(Live { identity: owner, .. }) = lives else {
            self.refused.remove(identity);
            self.remove_where(other, "it is silent, and another broker has its address");
            return Ok(());
        };
        let reason = format!(
            "{address} is registered by broker {} {} of {}, which is alive: broker {name} {id} of {cluster} is not registered at the \
             same address, as clients of one would reach the other. Set brokerIP1 and listenPort of the one that is not there to \
             what it is reached at (where a container's port is mapped, the outer and the inner one have to be the same)",
            owner.name, owner.id, owner.cluster
        );
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        if self.refused.insert(identity.clone()) {
            tracing::error!("{reason}");
        }
        Err(reason)
    }

    fn take_topics(&mut self, broker: &str, table: &TopicTable, drop_missing: bool, writable: bool) {
        for (name, topic) in &table.topic_config_table {
            let queue =
                QueueData { perm: if writable { topic.perm } else { topic.perm & !perm::WRITE }, ..queue_data(broker, topic) };
            self.topics.entry(name.clone()).or_default().insert(broker.to_owned(), queue);
        }
        if drop_missing {
            for (_, brokers) in self.topics.iter_mut().filter(|(name, _)| !table.topic_config_table.contains_key(*name)) {
                brokers.remove(broker);
            }
            self.topics.retain(|_, brokers| !brokers.is_empty());
        }
    }

    fn master_for(&self, cluster: &str, name: &str, id: i64, client: IpAddr) -> Registered {
        if id == MASTER_ID {
            return Registered::default();
        }
        let Some(master) = self.brokers.get(name).and_then(|b| b.broker_addrs.get(&MASTER_ID)) else {
            return Registered::default();
        };
        let Some(live) = self.live.get(&(cluster.to_owned(), master.clone())) else { return Registered::default() };
        let address = live.advertised.address_for(client).unwrap_or(master);
        Registered { master_address: Some(address.to_owned()), ha_address: Some(live.ha_address.clone()) }
    }

    /// Puts queues of one topic in, for brokers that are known.
    pub fn register_topic(&mut self, topic: &str, queues: Vec<QueueData>) {
        for queue in queues {
            if self.brokers.contains_key(&queue.broker_name) {
                self.topics.entry(topic.to_owned()).or_default().insert(queue.broker_name.clone(), queue);
            }
        }
    }

    /// A sign of life of a broker on a connection. Returns its topics' version where it is known.
    pub fn heard(&mut self, cluster: &str, address: &str, connection: u64, now: i64) -> Option<DataVersion> {
        let live = self.live.get_mut(&(cluster.to_owned(), address.to_owned()))?;
        live.heard = now;
        live.connection = connection;
        Some(live.version.clone())
    }

    /// Takes a broker out that says that it leaves, on the connection that it says it on. A word that comes late,
    /// on a connection before the one of the newest registration, is passed over.
    pub fn unregister(&mut self, identity: &Identity, connection: u64) -> bool {
        let key = (identity.cluster.clone(), identity.address.clone());
        match self.live.get(&key) {
            Some(live) if live.identity != *identity || live.connection > connection => return false,
            Some(_) => drop(self.live.remove(&key)),
            None => {}
        }
        self.remove(identity);
        true
    }

    /// Takes out the brokers whose newest registration came on a connection that closed.
    pub fn closed(&mut self, connection: u64) {
        self.remove_where(|live| live.connection == connection, "its connection closed");
    }

    /// Takes out the brokers that are silent.
    pub fn expire(&mut self, now: i64) {
        self.remove_where(|live| now - live.heard > live.expiry_ms, "it is silent");
    }

    fn remove_where(&mut self, gone: impl Fn(&Live) -> bool, why: &str) {
        let keys: Vec<_> = self.live.iter().filter(|(_, live)| gone(live)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(live) = self.live.remove(&key) {
                tracing::warn!("broker {} {} at {} is gone: {why}", live.identity.name, live.identity.id, live.identity.address);
                self.remove(&live.identity);
            }
        }
    }

    fn remove(&mut self, identity: &Identity) {
        let Some(broker) = self.brokers.get_mut(&identity.name) else { return };
        if broker.broker_addrs.get(&identity.id) == Some(&identity.address) {
            broker.broker_addrs.remove(&identity.id);
        }
        let acting = broker.enable_acting_master && !broker.broker_addrs.contains_key(&MASTER_ID);
        if broker.broker_addrs.is_empty() {
            self.brokers.remove(&identity.name);
            self.topics.values_mut().for_each(|brokers| drop(brokers.remove(&identity.name)));
            self.topics.retain(|_, brokers| !brokers.is_empty());
            return;
        }
        if identity.id == MASTER_ID {
            tracing::warn!(
                "broker {} has no master any more, and nobody takes over by itself: start it again, or make a slave the master \
                 with ferrocket admin promoteSlave",
                identity.name
            );
        }
        if acting {
            let queues = self.topics.values_mut().filter_map(|brokers| brokers.get_mut(&identity.name));
            queues.for_each(|queue| queue.perm &= !perm::WRITE);
        }
    }

    /// Puts the addresses in place at which a client reaches a broker.
    fn address_for(&self, client: IpAddr, broker: &mut BrokerData) {
        for address in broker.broker_addrs.values_mut() {
            let live = self.live.get(&(broker.cluster.clone(), address.clone()));
            if let Some(advertised) = live.and_then(|live| live.advertised.address_for(client)) {
                *address = advertised.to_owned();
            }
        }
    }

    /// The route of a topic for a client; `None` where no broker has it.
    pub fn route(&self, topic: &str, support_acting_master: bool, client: IpAddr) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let mut broker_datas: Vec<BrokerData> = queues.keys().filter_map(|name| self.brokers.get(name)).cloned().collect();
        if broker_datas.is_empty() {
            return None;
        }
        if support_acting_master {
            for broker in &mut broker_datas {
                let writable = queues.get(&broker.broker_name).is_some_and(|q| q.perm & perm::WRITE != 0);
                if broker.enable_acting_master
                    && !writable
                    && !broker.broker_addrs.contains_key(&MASTER_ID)
                    && let Some((_, address)) = broker.broker_addrs.pop_first()
                {
                    broker.broker_addrs.insert(MASTER_ID, address);
                }
            }
        }
        broker_datas.iter_mut().for_each(|broker| self.address_for(client, broker));
        Some(TopicRouteData { broker_datas, queue_datas: queues.values().cloned().collect(), ..TopicRouteData::default() })
    }

    /// All brokers, as a client reaches them.
    pub fn cluster_info(&self, client: IpAddr) -> ClusterInfo {
        let mut info = ClusterInfo { broker_addr_table: self.brokers.clone(), ..ClusterInfo::default() };
        info.broker_addr_table.values_mut().for_each(|broker| self.address_for(client, broker));
        for (name, broker) in &self.brokers {
            info.cluster_addr_table.entry(broker.cluster.clone()).or_default().insert(name.clone());
        }
        info
    }

    pub fn member_group(&self, cluster: &str, name: &str) -> BrokerMemberGroup {
        let broker_addrs = self.brokers.get(name).map(|b| b.broker_addrs.clone()).unwrap_or_default();
        BrokerMemberGroup { broker_addrs, broker_name: name.to_owned(), cluster: cluster.to_owned() }
    }

    pub fn topics(&self) -> BTreeSet<String> {
        self.topics.keys().cloned().collect()
    }

    pub fn topics_of_cluster(&self, cluster: &str) -> BTreeSet<String> {
        let of_cluster = |name: &String| self.brokers.get(name).is_some_and(|b| b.cluster == cluster);
        self.topics.iter().filter(|(_, brokers)| brokers.keys().any(of_cluster)).map(|(topic, _)| topic.clone()).collect()
    }

    /// Names of clusters and brokers, which are topics of the system, and one broker's address.
    pub fn system_topics(&self) -> (BTreeSet<String>, Option<String>) {
        let clusters = self.brokers.values().map(|b| b.cluster.clone());
        let address = self.brokers.values().find_map(|b| b.broker_addrs.values().next().cloned());
        (clusters.chain(self.brokers.keys().cloned()).collect(), address)
    }

    /// Topics whose queues all or any have system flags that `matches`.
    pub fn topics_by_flag(&self, matches: impl Fn(i32) -> bool) -> BTreeSet<String> {
        let first = |brokers: &BTreeMap<String, QueueData>| brokers.values().next().map_or(0, |q| q.topic_sys_flag);
        self.topics.iter().filter(|(_, brokers)| matches(first(brokers))).map(|(topic, _)| topic.clone()).collect()
    }

    /// Forgets a topic, in all clusters or in one.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(queues) = self.topics.get_mut(topic) else { return };
        queues.retain(|name, _| cluster.is_some_and(|cluster| self.brokers.get(name).is_none_or(|b| b.cluster != cluster)));
        if queues.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Changes the permission of all queues of a broker; returns of how many topics.
    pub fn change_permission(&mut self, broker: &str, change: impl Fn(i32) -> i32) -> i32 {
        let queues = self.topics.values_mut().filter_map(|brokers| brokers.get_mut(broker));
        queues.map(|queue| queue.perm = change(queue.perm)).count() as i32
    }
}

fn queue_data(broker: &str, topic: &TopicConfig) -> QueueData {
    QueueData {
        broker_name: broker.to_owned(),
        perm: topic.perm,
        read_queue_nums: topic.read_queue_nums,
        topic_sys_flag: topic.topic_sys_flag,
        write_queue_nums: topic.write_queue_nums,
    }
}
