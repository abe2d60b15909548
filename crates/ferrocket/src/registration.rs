//! Registering a broker with its name servers: at the start, when topics change, and again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use broker::{Broker, BrokerConfig, Master};
use bytes::Bytes;
use net::client::{Answer, Client, ClientError, Pool};
use net::now_ms;
use parking_lot::Mutex;
use protocol::bodies::TopicRouteData;
use protocol::requests::{GetRouteInfo, RegisterBroker, RegisterBrokerReply, UnregisterBroker};
use protocol::{codes, record};
use stdx::config::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::rejoin;

/// The period is kept within these, whatever is configured.
const MIN_PERIOD: Duration = Duration::from_secs(10);
const MAX_PERIOD: Duration = Duration::from_secs(60);
/// How soon a name server that failed, or that closed the connection, is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How soon all are, where none knows a master of this slave.
const LOOK_FOR_MASTER: Duration = Duration::from_secs(3);
/// How long a round of registrations waits for name servers.
const ROUND_PATIENCE: Duration = Duration::from_secs(3);
/// How long a name server may take to say a topic's route.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long leaving may take, a name server.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// A name server, and the connection that this broker's registration belongs to.
#[derive(Default)]
struct NameServer {
    connection: Option<Client>,
    registering: Option<AbortHandle>,
    /// The newest round that it has what it was for; the first one is 1.
    round: u64,
    failed: bool,
}

impl NameServer {
    fn is_asked(&self) -> bool {
        self.registering.as_ref().is_some_and(|registering| !registering.is_finished())
    }

    /// Whether it has what `round` was for, as long as it does not begin anew.
    fn has(&self, round: u64) -> bool {
        self.round == round && self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
    }
}

/// Keeps a broker registered with all its name servers.
#[derive(Clone)]
pub struct Registrar {
    broker: Arc<Broker>,
    /// Another broker is the master now.
    reopen: Arc<Notify>,
    pool: Pool,
    name_servers: Arc<Mutex<HashMap<String, NameServer>>>,
    /// The newest round.
    round: Arc<AtomicU64>,
    /// The address of this broker leads to another one: nobody is told of it.
    misleading: Arc<AtomicBool>,
}

impl Registrar {
    pub fn new(broker: Arc<Broker>, reopen: Arc<Notify>) -> Self {
        let (name_servers, round, misleading) = Default::default();
        Self { broker, reopen, pool: Pool::default(), name_servers, round, misleading }
    }

    /// Registers with all name servers, and gives the answers that waited for it.
    pub async fn register_now(&self) {
        let ticket = self.broker.registration_begins();
        // Who looks behind its own registration sees itself alone.
        self.look_at_group().await;
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        let all = async {
            for registering in self.register(round) {
                // It says itself what goes wrong.
                let _ = registering.await;
            }
        };
        // Who is late holds up nobody else.
        let _ = tokio::time::timeout(ROUND_PATIENCE, all).await;
        self.broker.registration_ended(ticket);
    }

    /// Where clients would reach another broker, name servers are to forget this one until they do not any more.
    pub async fn mislead(&self, misleading: bool) {
        if self.misleading.swap(misleading, Ordering::Relaxed) != misleading {
            self.unregister().await;
        }
    }

    /// A master of a group that finds another one in a newer epoch takes no messages any more, and follows it; a slave that
    /// finds another broker under its number takes another one.
    async fn look_at_group(&self) {
        let config = self.broker.config();
        // One that failed the last time would hold up this round; without any other it is the one to ask.
        let mut name_servers = config.name_servers();
        let failed = |name: &String| self.name_servers.lock().get(name).is_some_and(|known| known.failed);
        if !name_servers.iter().all(failed) {
            name_servers.retain(|name| !failed(name));
        }
        if self.broker.is_slave() {
            if let Err(error) = self.look_for_number(&config, name_servers).await {
                tracing::warn!("whether another broker has this slave's brokerId, too, is not known: {error:#}");
            }
            return;
        }
        match rejoin::other_master(&config, &self.broker.address(), &self.pool, name_servers).await {
            Ok(other) if self.broker.meet(other.as_ref()) => self.reopen.notify_one(),
            Ok(_) => {}
            Err(error) => tracing::warn!("whether another broker has become the master is not known: {error:#}"),
        }
    }

    async fn look_for_number(&self, config: &BrokerConfig, name_servers: Vec<String>) -> Result<()> {
        let groups = rejoin::others(config, &self.broker.address(), &self.pool, name_servers).await?;
        let taken: BTreeMap<i64, String> = groups.into_iter().flatten().collect();
        // Where nobody is there it was this slave itself, before its address changed; groups of Java's brokers stay as they are.
        let in_group = |theirs: Option<_>| theirs.is_some() || self.broker.epochs().is_some();
        if let Some(address) = taken.get(&config.broker_id)
            && rejoin::epochs_of(address).await.is_ok_and(in_group)
        {
            self.broker.take_free_number(&taken.into_keys().collect())?;
        }
        Ok(())
    }

    /// Registers with the name servers that do not have what a round is for, those aside with which a registration is under
    /// way. Gives the registrations with those that did not fail the last time.
    fn register(&self, round: u64) -> Vec<JoinHandle<()>> {
        let listed = self.broker.config().name_servers();
        let mut name_servers = self.name_servers.lock();
        name_servers.retain(|name, _| listed.contains(name));
        let due = |name: &String| {
            let known = name_servers.entry(name.clone()).or_default();
            !known.is_asked() && !known.has(round)
        };
        let due: Vec<_> = listed.into_iter().filter(due).collect();
        if due.is_empty() || self.misleading.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let body = self.broker.registration();
        let mut trusted = Vec::new();
        for (name, known) in name_servers.iter_mut().filter(|(name, _)| due.contains(name)) {
            let registering = tokio::spawn(self.clone().register_with(name.clone(), body.clone(), round));
            known.registering = Some(registering.abort_handle());
            if !known.failed {
                trusted.push(registering);
            }
        }
        trusted
    }

    async fn register_with(self, name: String, body: Bytes, round: u64) {
        let (connection, answer) = self.tell(&name, &body).await;
        let wrong = answer.as_ref().err().map(|error| format!("not registered with name server {name}: {error}"));
        if let Some(known) = self.name_servers.lock().get_mut(&name) {
            (known.connection, known.failed) = (connection, wrong.is_some());
            known.round = if wrong.is_none() { round } else { 0 };
        }
        self.broker.note_wrong(&format!("nameServer_{}", name.replace(':', "_")), wrong);
        if let Ok(answer) = answer
            && self.broker.is_slave()
        {
            self.note_master(&name, &answer);
        }
    }

    /// Registers with one name server. Gives the connection, too, where it may be used again: a name server that does not
    /// answer may be gone without a word, or its name have another address.
    async fn tell(&self, name: &str, body: &Bytes) -> (Option<Client>, Result<Answer, ClientError>) {
        let open = self.name_servers.lock().get(name).and_then(|known| known.connection.clone());
        let connection = match open.filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => match Client::connect(name).await {
                Ok(connection) => connection,
                Err(error) => return (None, Err(error)),
            },
        };
        let config = self.broker.config();
        let advertised = config.advertised_addresses.text();
        let request = RegisterBroker {
            broker_name: &config.broker_name,
            broker_addr: &self.broker.address(),
            cluster_name: &config.broker_cluster_name,
            ha_server_addr: &config.ha_address(),
            broker_id: config.broker_id,
            heartbeat_timeout_millis: None,
            enable_acting_master: None,
            compressed: Some(false),
            body_crc32: Some(record::crc(body) as i32),
            advertised_addresses: Some(advertised.as_str()).filter(|list| !list.is_empty()),
        };
        let timeout = Duration::from_millis(config.register_broker_timeout_mills as u64);
        let answer = connection.call(&request, body, timeout).await.and_then(Answer::success);
        let answered = !matches!(answer, Err(ClientError::Timeout { .. }));
        (answered.then_some(connection), answer)
    }

    /// Takes note of the master that a name server knows, where it knows one.
    fn note_master(&self, name_server: &str, answer: &Answer) {
        let found = answer.fields(|header| {
            let reply: RegisterBrokerReply<'_> = header.read()?;
            Ok(Master { address: reply.master_addr.map(str::to_owned), ha_address: reply.ha_server_addr.map(str::to_owned) })
        });
        match found {
            Ok(master) if master.address.as_deref().is_some_and(|address| !address.is_empty()) => {
                self.broker.master_found(master)
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("name server {name_server} does not say who the master is: {error}"),
        }
    }

    /// Registers whenever it is `wanted`, and once a period; with name servers that failed or begin anew much sooner.
    pub async fn run(self, wanted: Arc<Notify>) {
        loop {
            let period = Duration::from_millis(self.broker.config().register_name_server_period as u64);
            let orphan = self.broker.is_slave() && self.broker.master().address.is_none();
            let next = Instant::now() + if orphan { LOOK_FOR_MASTER } else { period.clamp(MIN_PERIOD, MAX_PERIOD) };
            loop {
                tokio::select! {
                    () = wanted.notified() => break,
                    () = tokio::time::sleep_until(next) => break,
                    () = tokio::time::sleep(RETRY) => drop(self.register(self.round.load(Ordering::Relaxed))),
                }
            }
            self.register_now().await;
        }
    }

    /// Asks the name servers for routes that the broker wants, and gives it what the first one says that answers.
    pub async fn ask_routes(self, mut wanted: mpsc::Receiver<String>) {
        while let Some(topic) = wanted.recv().await {
            let request = GetRouteInfo { topic: &topic, accept_standard_json_only: None };
            let mut all = self.broker.config().name_servers();
            all.sort_by_key(|name| self.name_servers.lock().get(name).is_some_and(|known| known.failed));
            for name_server in all {
                let answer = self.pool.call(&name_server, &request, &[], ROUTE_TIMEOUT).await;
                match answer.and_then(|answer| answer.json::<TopicRouteData>()) {
                    Ok(route) => self.broker.route_arrived(&topic, Some(&route), now_ms()),
                    Err(error) if error.code() == Some(codes::TOPIC_NOT_EXIST) => {
                        self.broker.route_arrived(&topic, None, now_ms())
                    }
                    Err(error) => {
                        tracing::warn!("name server {name_server} did not say where topic {topic} is: {error}");
                        continue;
                    }
                }
                break;
            }
        }
    }

    /// Leaves all name servers.
    pub async fn unregister(&self) {
        let config = self.broker.config();
        let address = self.broker.address();
        let request = UnregisterBroker {
            broker_name: &config.broker_name,
            broker_addr: &address,
            cluster_name: &config.broker_cluster_name,
            broker_id: config.broker_id,
        };
        let all = std::mem::take(&mut *self.name_servers.lock());
        for (name, known) in all {
            known.registering.iter().for_each(AbortHandle::abort);
            let Some(connection) = known.connection else { continue };
            if let Err(error) = connection.call(&request, &[], UNREGISTER_TIMEOUT).await {
                tracing::warn!("name server {name} was not told that this broker leaves: {error}");
            }
        }
    }
}
