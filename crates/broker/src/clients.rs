//! Producers and consumers that are connected. A connection that closes takes its clients with it at once, as
//! clients of some languages never unregister.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::bodies::{
    self, ConsumeFromWhere, ConsumeType, ConsumerConnection, ConsumerData, MessageModel, ProducerInfo, SubscriptionData,
};
use protocol::exchange::Connection;
use protocol::header::Language;

use crate::filter::{Expressions, Parsed, SyntaxError};

/// A client is forgotten when it has sent no heartbeat for so long.
const EXPIRY_MS: i64 = 120_000;
/// How often two processes with one client id are logged, in ms.
const TWINS_LOGGED_MS: i64 = 60_000;

/// One client in one group.
#[derive(Clone, Debug)]
pub struct Client {
    pub connection: Arc<Connection>,
    pub id: String,
    pub language: Language,
    pub version: i32,
    pub heard: i64,
}

impl Client {
    fn describe(&self) -> bodies::Connection {
        bodies::Connection {
            client_id: self.id.clone(),
            client_addr: self.connection.remote.to_string(),
            language: self.language.name().to_owned(),
            version: self.version,
        }
    }
}

/// The members of a consumer group and what they agreed on.
#[derive(Debug)]
struct ConsumerGroup {
    consume_type: ConsumeType,
    message_model: MessageModel,
    consume_from_where: ConsumeFromWhere,
    subscriptions: BTreeMap<String, Arc<Subscription>>,
    /// What the last heartbeat said that its client's groups and subscriptions hash to; 0 where it did not say.
    fingerprint: Option<i32>,
    members: BTreeMap<u64, Client>,
}

/// What a heartbeat says beside its groups. Clients that know it to be unchanged leave out their subscriptions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    pub fingerprint: i32,
    pub without_subscriptions: bool,
}

/// What a heartbeat changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The group's members or subscriptions.
    pub group: bool,
    /// What the group's last heartbeat hashed to, or it is not known what it was: the client is to say all again.
    pub fingerprint: bool,
}

/// A connection on which a client sends heartbeats.
#[derive(Debug)]
struct Live {
    client_id: String,
    remote: SocketAddr,
    since: i64,
    heard: i64,
    /// The groups that it is or was in.
    groups: BTreeSet<String>,
}

/// Live connections of different processes that call themselves the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twins {
    pub client_id: String,
    pub remotes: Vec<SocketAddr>,
    pub groups: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    producers: BTreeMap<String, BTreeMap<u64, Client>>,
    /// The newest connection of each producer's client id.
    producer_ids: HashMap<String, Arc<Connection>>,
    consumers: BTreeMap<String, ConsumerGroup>,
    connections: HashMap<u64, Live>,
    /// The connections of each client id.
    ids: BTreeMap<String, BTreeSet<u64>>,
    /// When a client id of several processes was logged.
    logged: HashMap<String, i64>,
}

/// Every client that is connected to this broker.
#[derive(Default)]
pub struct Clients {
    state: Mutex<State>,
}

/// What a group wants of a topic, its expression read once.
#[derive(Debug)]
pub struct Subscription {
    pub data: SubscriptionData,
    /// `None` where the client filters by tags.
    pub expression: Option<Parsed>,
}

impl Subscription {
    pub fn new(data: SubscriptionData, expressions: &Expressions) -> Self {
        let expression = match data.expression_type.as_str() {
            "" | "TAG" => None,
            "SQL92" => Some(expressions.parse(&data.sub_string)),
            _ => Some(Err(SyntaxError { position: 0, what: "filters are of type TAG or SQL92, not of this one" })),
        };
        Self { data, expression }
    }
}

/// What a pull needs to know of its group.
pub enum Subscribed {
    NoGroup,
    NoTopic { model: MessageModel },
    Topic { model: MessageModel, subscription: Arc<Subscription> },
}

impl Clients {
    pub fn register_producer(&self, group: &str, client: Client) {
        let mut state = self.state.lock();
        state.hear(&client, group);
        state.producer_ids.insert(client.id.clone(), client.connection.clone());
        state.producers.entry(group.to_owned()).or_default().insert(client.connection.id, client);
    }

    /// Takes a member's word for its group.
    pub fn register_consumer(&self, data: &ConsumerData, client: Client, beat: Beat, expressions: &Expressions) -> Changed {
        let read = |data: &SubscriptionData| Arc::new(Subscription::new(data.clone(), expressions));
        let subscriptions = data.subscription_data_set.iter().map(read).collect();
        let mut state = self.state.lock();
        state.hear(&client, &data.group_name);
        let group = state.consumers.entry(data.group_name.clone()).or_insert_with(|| ConsumerGroup {
            consume_type: data.consume_type,
            message_model: data.message_model,
            consume_from_where: data.consume_from_where,
            subscriptions: BTreeMap::new(),
            fingerprint: None,
            members: BTreeMap::new(),
        });
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        let joined = group.members.insert(client.connection.id, client).is_none();
        let before = group.fingerprint.replace(beat.fingerprint);
        let same = match before {
            Some(before) => before == beat.fingerprint,
            None => !beat.without_subscriptions,
        };
        let subscribed = !beat.without_subscriptions && group.subscribe(subscriptions);
        Changed { group: subscribed | joined, fingerprint: !same }
    }

    /// Takes a client out of a producer group, a consumer group, or both. `true` where a consumer left.
    pub fn unregister(&self, connection: u64, producer: Option<&str>, consumer: Option<&str>) -> bool {
        let mut state = self.state.lock();
        if let Some(group) = producer {
            state.leave_producers(group, connection);
        }
        consumer.is_some_and(|group| state.leave_consumers(group, connection))
    }

    /// Takes a closed connection out of all groups; returns the consumer groups that it left.
    pub fn closed(&self, connection: u64) -> Vec<String> {
        let mut state = self.state.lock();
        let Some(live) = state.connections.remove(&connection) else { return Vec::new() };
        state.forget(&live.client_id, connection);
        live.groups
            .into_iter()
            .filter(|group| {
                state.leave_producers(group, connection);
                state.leave_consumers(group, connection)
            })
            .collect()
    }

    /// Forgets who has been silent for too long; returns the consumer groups that lost a member.
    pub fn expire(&self, now: i64) -> Vec<String> {
        let silent: BTreeSet<u64> = {
            let state = self.state.lock();
            let members = state.producers.values().chain(state.consumers.values().map(|g| &g.members));
            members.flat_map(|m| m.values()).filter(|c| now - c.heard > EXPIRY_MS).map(|c| c.connection.id).collect()
        };
        silent.into_iter().flat_map(|connection| self.closed(connection)).collect()
    }

    /// The client ids under which more than one process is alive.
    pub fn twins(&self) -> Vec<Twins> {
        let state = self.state.lock();
        let several = state.ids.iter().filter(|(_, connections)| connections.len() > 1);
        several.filter_map(|(id, _)| state.twins(id)).collect()
    }

    /// The connection of one of a producer group's members: the one that `choose` gives of so many.
    pub fn producer(&self, group: &str, choose: impl Fn(usize) -> usize) -> Option<Arc<Connection>> {
        let state = self.state.lock();
        let members = state.producers.get(group)?;
        members.values().nth(choose(members.len())).map(|client| client.connection.clone())
    }

    /// The connection of the producer with a client id, whatever its groups are.
    pub fn producer_with_id(&self, id: &str) -> Option<Arc<Connection>> {
        self.state.lock().producer_ids.get(id).cloned()
    }

    /// The connections of a consumer group's members.
    pub fn members(&self, group: &str) -> Vec<Arc<Connection>> {
        self.consumers(group).into_iter().map(|client| client.connection).collect()
    }

    /// A consumer group's members.
    pub fn consumers(&self, group: &str) -> Vec<Client> {
        let state = self.state.lock();
        state.consumers.get(group).map_or_else(Vec::new, |g| g.members.values().cloned().collect())
    }

    /// A consumer group's member; of several with the same id the one that was heard last.
    pub fn consumer(&self, group: &str, id: &str) -> Option<Client> {
        let members = self.consumers(group).into_iter().filter(|client| client.id == id);
        members.max_by_key(|client| client.heard)
    }

    /// The client ids of a consumer group's members.
    pub fn consumer_ids(&self, group: &str) -> Vec<String> {
        let state = self.state.lock();
        state.consumers.get(group).map_or_else(Vec::new, |g| g.members.values().map(|c| c.id.clone()).collect())
    }

    pub fn message_model(&self, group: &str) -> Option<MessageModel> {
        self.state.lock().consumers.get(group).map(|g| g.message_model)
    }

    pub fn subscription(&self, group: &str, topic: &str) -> Subscribed {
        let state = self.state.lock();
        let Some(group) = state.consumers.get(group) else { return Subscribed::NoGroup };
        let model = group.message_model;
        match group.subscriptions.get(topic) {
            Some(subscription) => Subscribed::Topic { model, subscription: subscription.clone() },
            None => Subscribed::NoTopic { model },
        }
    }

    /// Whether the group is known by heartbeats, and a connection that pulls for it, where it is one of pull consumers.
    pub fn knows_puller(&self, group: &str, connection: u64) -> bool {
        let known = |g: &ConsumerGroup| g.consume_type != ConsumeType::Actively || g.members.contains_key(&connection);
        self.state.lock().consumers.get(group).is_some_and(known)
    }

    /// The consumer groups with live members that subscribe to a topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let state = self.state.lock();
        let groups = state.consumers.iter().filter(|(_, g)| !g.members.is_empty() && g.subscriptions.contains_key(topic));
        groups.map(|(name, _)| name.clone()).collect()
    }

    /// The topics that a group subscribes to.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        self.state.lock().consumers.get(group).map_or_else(Vec::new, |g| g.subscriptions.keys().cloned().collect())
    }

    pub fn consumer_connection(&self, group: &str) -> Option<ConsumerConnection> {
        let state = self.state.lock();
        let group = state.consumers.get(group).filter(|g| !g.members.is_empty())?;
        Some(ConsumerConnection {
            connection_set: group.members.values().map(Client::describe).collect(),
            consume_from_where: group.consume_from_where,
            consume_type: group.consume_type,
            message_model: group.message_model,
            subscription_table: group.subscriptions.iter().map(|(topic, s)| (topic.clone(), s.data.clone())).collect(),
        })
    }

    pub fn producer_connections(&self, group: &str) -> Option<Vec<bodies::Connection>> {
        let state = self.state.lock();
        state.producers.get(group).map(|members| members.values().map(Client::describe).collect())
    }

    pub fn producers(&self) -> BTreeMap<String, Vec<ProducerInfo>> {
        let info = |client: &Client| ProducerInfo {
            client_id: client.id.clone(),
            language: client.language.name().to_owned(),
            last_update_timestamp: client.heard,
            remote_ip: client.connection.remote.to_string(),
            version: client.version,
        };
        let state = self.state.lock();
        state.producers.iter().map(|(group, members)| (group.clone(), members.values().map(info).collect())).collect()
    }
}

/// What is wrong, for the log.
impl std::fmt::Display for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let remotes: Vec<String> = self.remotes.iter().map(SocketAddr::to_string).collect();
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        write!(
            f,
            "{} processes ({}) all call themselves {} in group {}: each queue goes to all of them or to none; give them \
             different instance names",
            self.remotes.len(),
            remotes.join(", "),
            self.client_id,
            groups.join(", ")
        )
    }
}

impl ConsumerGroup {
    fn subscribe(&mut self, subscriptions: Vec<Arc<Subscription>>) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| subscriptions.iter().any(|s| s.data.topic == *topic));
        let mut changed = self.subscriptions.len() != before;
        for subscription in subscriptions {
            let old = self.subscriptions.get(&subscription.data.topic);
            changed |= old.is_none();
            if old.is_none_or(|old| subscription.data.sub_version > old.data.sub_version) {
                self.subscriptions.insert(subscription.data.topic.clone(), subscription);
            }
        }
        changed
    }
}

impl State {
    /// Notes a heartbeat, and says where another process calls itself the same.
    fn hear(&mut self, client: &Client, group: &str) {
        let connection = client.connection.id;
        let live = self.connections.entry(connection).or_insert_with(|| Live {
            client_id: client.id.clone(),
            remote: client.connection.remote,
            since: client.heard,
            heard: client.heard,
            groups: BTreeSet::new(),
        });
        live.heard = client.heard;
        if !live.groups.contains(group) {
            live.groups.insert(group.to_owned());
        }
        if live.client_id != client.id {
            let old = std::mem::replace(&mut live.client_id, client.id.clone());
            self.forget(&old, connection);
        }
        let connections = match self.ids.get_mut(&client.id) {
            Some(connections) => connections,
            None => self.ids.entry(client.id.clone()).or_default(),
        };
        connections.insert(connection);
        if connections.len() > 1
            && let Some(twins) = self.twins(&client.id)
            && self.logged.get(&client.id).is_none_or(|logged| client.heard - logged >= TWINS_LOGGED_MS)
        {
            self.logged.insert(client.id.clone(), client.heard);
            tracing::warn!("{twins}");
        }
    }

    fn forget(&mut self, id: &str, connection: u64) {
        if let Some(connections) = self.ids.get_mut(id) {
            connections.remove(&connection);
            if connections.is_empty() {
                self.ids.remove(id);
                self.logged.remove(id);
            }
        }
    }

    /// The processes that share a client id. A client that dialled anew sends nothing on its old connection any more, so
    /// two are alive where the one that was there first was heard since the other came.
    fn twins(&self, id: &str) -> Option<Twins> {
        let mut all: Vec<&Live> = self.ids.get(id)?.iter().filter_map(|connection| self.connections.get(connection)).collect();
        all.sort_by_key(|live| live.since);
        let newest = all.last()?.since;
        let alive: Vec<&Live> = all.into_iter().filter(|live| live.heard > newest || live.since == newest).collect();
        (alive.len() > 1).then(|| Twins {
            client_id: id.to_owned(),
            remotes: alive.iter().map(|live| live.remote).collect(),
            groups: alive.iter().flat_map(|live| live.groups.iter().cloned()).collect(),
        })
    }

    fn leave_producers(&mut self, group: &str, connection: u64) {
        let Some(members) = self.producers.get_mut(group) else { return };
        let Some(left) = members.remove(&connection) else { return };
        if members.is_empty() {
            self.producers.remove(group);
        }
        let gone = self.producers.values().all(|members| !members.contains_key(&connection));
        if gone && self.producer_ids.get(&left.id).is_some_and(|newest| newest.id == connection) {
            self.producer_ids.remove(&left.id);
        }
    }

    fn leave_consumers(&mut self, group: &str, connection: u64) -> bool {
        let Some(members) = self.consumers.get_mut(group).map(|g| &mut g.members) else { return false };
        let left = members.remove(&connection).is_some();
        if members.is_empty() {
            self.consumers.remove(group);
        }
        left
    }
}
