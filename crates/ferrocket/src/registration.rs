//! Registering a broker with its name servers: at the start, when topics change, and again and again.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Master};
use bytes::Bytes;
use net::client::{Answer, Pool};
use net::now_ms;
use protocol::bodies::TopicRouteData;
use protocol::requests::{GetRouteInfo, RegisterBroker, RegisterBrokerReply, UnregisterBroker};
use protocol::{codes, record};
use tokio::sync::{Notify, mpsc};

use crate::rejoin;

/// The period is kept within these, whatever is configured.
const MIN_PERIOD: Duration = Duration::from_secs(10);
const MAX_PERIOD: Duration = Duration::from_secs(60);
/// How soon a name server that failed, or knows no master of this slave, is tried again at the most.
const RETRY: Duration = Duration::from_secs(3);
/// How long a name server may take to say a topic's route.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long leaving may take, a name server.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps a broker registered with all its name servers.
#[derive(Clone)]
pub struct Registrar {
    broker: Arc<Broker>,
    /// Another broker is the master now.
    reopen: Arc<Notify>,
    pool: Pool,
}

impl Registrar {
    pub fn new(broker: Arc<Broker>, reopen: Arc<Notify>) -> Self {
        Self { broker, reopen, pool: Pool::default() }
    }

    /// Registers with all name servers, and gives the answers that waited for it. `true` where all of them took it.
    pub async fn register_now(&self) -> bool {
        let ticket = self.broker.registration_begins();
        let all = self.register().await;
        self.look_for_newer_master().await;
        self.broker.registration_ended(ticket);
        all
    }

    /// A master of a group that finds another one in a newer epoch takes no messages any more, and follows it.
    async fn look_for_newer_master(&self) {
        let Some(own) = self.broker.epochs().filter(|_| !self.broker.is_slave()) else { return };
        match rejoin::other_master(&self.broker.config(), &self.broker.address(), &self.pool).await {
            Ok(Some(other)) if other.epochs.current() > own.current() => {
                self.broker.step_down(&other.address);
                self.reopen.notify_one();
            }
            Ok(_) => self.broker.store.hold(None),
            Err(error) => tracing::warn!("whether another broker has become the master is not known: {error:#}"),
        }
    }

    async fn register(&self) -> bool {
        let body = self.broker.registration();
        let tasks: Vec<_> = self
            .broker
            .config()
            .name_servers()
            .into_iter()
            .map(|address| {
                let (registrar, body) = (self.clone(), body.clone());
                tokio::spawn(async move { registrar.register_with(&address, body).await })
            })
            .collect();
        let mut all = true;
        for task in tasks {
            all &= task.await.unwrap_or(false);
        }
        all
    }

    async fn register_with(&self, name_server: &str, body: Bytes) -> bool {
        let config = self.broker.config();
        let address = self.broker.address();
        let request = RegisterBroker {
            broker_name: &config.broker_name,
            broker_addr: &address,
            cluster_name: &config.broker_cluster_name,
            ha_server_addr: &self.broker.ha_address(),
            broker_id: config.broker_id,
            heartbeat_timeout_millis: None,
            enable_acting_master: None,
            compressed: Some(false),
            body_crc32: Some(record::crc(&body) as i32),
        };
        let timeout = Duration::from_millis(config.register_broker_timeout_mills as u64);
        match self.pool.call(name_server, &request, &body, timeout).await {
            Ok(answer) => {
                if self.broker.is_slave() {
                    self.note_master(name_server, &answer);
                }
                true
            }
            Err(error) => {
                tracing::warn!("not registered with name server {name_server}: {error}");
                false
            }
        }
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

    /// Registers whenever it is `wanted`, and once a period.
    pub async fn run(self, wanted: Arc<Notify>) {
        loop {
            let registered = self.register_now().await;
            let period = Duration::from_millis(self.broker.config().register_name_server_period as u64);
            let lost = self.broker.is_slave() && self.broker.master().address.is_none();
            let wait = if registered && !lost { period.clamp(MIN_PERIOD, MAX_PERIOD) } else { RETRY };
            tokio::select! {
                _ = wanted.notified() => {}
                _ = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Asks the name servers for routes that the broker wants, and gives it what the first one says that answers.
    pub async fn ask_routes(self, mut wanted: mpsc::Receiver<String>) {
        while let Some(topic) = wanted.recv().await {
            let request = GetRouteInfo { topic: &topic, accept_standard_json_only: None };
            for name_server in self.broker.config().name_servers() {
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
        for name_server in config.name_servers() {
            if let Err(error) = self.pool.call(&name_server, &request, &[], UNREGISTER_TIMEOUT).await {
                tracing::warn!("name server {name_server} was not told that this broker leaves: {error}");
            }
        }
    }
}
