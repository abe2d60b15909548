//! A group of three brokers, two name servers, a producer, consumers that pull and pop, and an operator over a simulated
//! network.
//!
//! One seed is one history: brokers are killed, lose power and start again, the network is cut one way or both, delays what
//! it carries and breaks connections, clocks differ, slaves are promoted, in sync or not, one or two at once. Requests go on
//! connections of their own, and so overtake each other; what comes on an HA connection comes in order or not at all. After
//! each step logs of shared epochs are the same, no epoch has two writers, and what was promised is where it was promised.

mod clients;
mod run;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use broker::epochs::{self, Other};
use broker::{Broker, BrokerConfig, Committed, Delivered, Listed, NoShell, Serving, Shell};
use bytes::BytesMut;
use fastrand::Rng;
use namesrv::{Namesrv, NamesrvConfig};
use parking_lot::Mutex;
use protocol::bodies::{ClusterInfo, EpochCache};
use protocol::exchange::{CollectingOutbox, Connection, Service};
use protocol::requests::{GetBrokerClusterInfo, GetBrokerEpochCache, Request};
use protocol::{codes, fastjson, names, record};
use replication::epoch::{Epoch, EpochHistory};
use replication::ha::SlaveLink;
use stdx::config::Table;

use crate::Life;
use crate::broker::{Answer, Half, frame, read};
use crate::disk::{Crash, SimDisk};

const BROKERS: usize = 3;
/// Name servers come behind the brokers, and then the clients.
const NAMESRVS: std::ops::Range<usize> = BROKERS..BROKERS + 2;
const CLIENT: usize = NAMESRVS.end;
const PLACES: usize = CLIENT + 1;
/// A topic that is deleted now and then.
const TEMPORARY: &str = "Temporary";

/// A machine with a broker on it.
struct Node {
    directory: PathBuf,
    disk: Arc<SimDisk>,
    shell: Arc<NoShell>,
    broker: Option<Arc<Broker>>,
    /// Counts its starts.
    life: u64,
    skew: i64,
    opens_at: i64,
    registers_at: i64,
    connects_at: i64,
    asks_at: i64,
    /// Whom it asked for tables last, and with which epochs; and what it was told has been delivered.
    asked: Option<(usize, Option<EpochHistory>)>,
    delivered: Option<Delivered>,
    /// The messages of its log that may be seen, with the end of each, and how far that was read.
    has: BTreeMap<u64, u64>,
    scanned: u64,
    /// Messages that were cut from its log, where it followed another master, and that it has not got since.
    cut: BTreeSet<u64>,
    /// Where its log ended when it was looked at last.
    written: u64,
}

/// An HA connection: what is under way either way, with the time at which it comes.
struct Stream {
    id: u64,
    master: (usize, u64),
    slave: (usize, u64),
    serving: Serving,
    link: Option<SlaveLink>,
    down: VecDeque<(i64, Vec<u8>)>,
    up: VecDeque<(i64, Vec<u8>)>,
}

/// A request of a client that is not answered.
struct Pending {
    node: (usize, u64),
    about: About,
    outbox: Arc<CollectingOutbox>,
}

#[derive(Clone, Copy, Debug)]
enum About {
    Send(u64),
    Half(u64),
    Pop,
    /// A message of [`TEMPORARY`].
    Temporary,
}

type Event = Box<dyn FnOnce(&mut World) -> Result<()>>;

struct World {
    rng: Rng,
    base: PathBuf,
    now: i64,
    sync_flush: bool,
    sync_master: bool,
    nodes: Vec<Node>,
    namesrvs: Vec<Namesrv>,
    /// Nothing comes from the first to the second.
    blocked: [[bool; PLACES]; PLACES],
    events: BTreeMap<(i64, u64), Event>,
    streams: Vec<Stream>,
    pending: Vec<Pending>,
    /// Who wrote in an epoch.
    writers: Vec<(Epoch, usize)>,
    /// What pairs of brokers, each in one of its lives, were compared below.
    compared: BTreeMap<[(usize, u64); 2], u64>,
    /// Who ever had a message, as bits.
    copies: BTreeMap<u64, u8>,
    /// The master of the newest epoch, with that, and the messages that it has promised to keep.
    newest: (u64, u64, String),
    holder: usize,
    must: BTreeSet<u64>,
    /// Half messages that were acknowledged, and by whom.
    halves: Vec<(usize, Half)>,
    /// Messages that were popped and acknowledged, perhaps without effect.
    done: BTreeSet<u64>,
    next: u64,
    connections: Cell<u64>,
    /// Nobody sends or reads any more.
    quiet: bool,
    life: Life,
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 10911))
}

fn node_at(address: &str) -> Option<usize> {
    (0..BROKERS).find(|node| address.starts_with(&format!("10.0.0.{}:", node + 1)))
}

/// Runs one history. An error says what was violated; the same seed gives the same history.
pub fn run(seed: u64, base: &Path) -> Result<Life> {
    let mut rng = Rng::with_seed(seed);
    let (sync_flush, sync_master) = (rng.bool(), rng.bool());
    let mut nodes = Vec::new();
    for node in 0..BROKERS {
        let directory = base.join(format!("{node}-0"));
        std::fs::create_dir_all(&directory)?;
        let role = if node > 0 { "SLAVE" } else { master_role(sync_master) };
        let settings = BTreeMap::from([("brokerRole".into(), role.into()), ("brokerId".into(), node.to_string())]);
        nodes.push(Node {
            disk: SimDisk::load(&directory, rng.u64(..))?,
            directory,
            shell: Arc::new(NoShell { kept: Mutex::new(settings) }),
            broker: None,
            life: 0,
            skew: rng.i64(-30_000..30_000),
            opens_at: 0,
            registers_at: 0,
            connects_at: 0,
            asks_at: 0,
            asked: None,
            delivered: None,
            has: BTreeMap::new(),
            scanned: 0,
            cut: BTreeSet::new(),
            written: 0,
        });
    }
    let namesrv = |nth| open_namesrv(base, nth);
    let mut world = World {
        rng,
        base: base.to_owned(),
        now: 1_700_000_000_000,
        sync_flush,
        sync_master,
        nodes,
        namesrvs: vec![namesrv(0)?, namesrv(1)?],
        blocked: [[false; PLACES]; PLACES],
        events: BTreeMap::new(),
        streams: Vec::new(),
        pending: Vec::new(),
        writers: Vec::new(),
        compared: BTreeMap::new(),
        copies: BTreeMap::new(),
        newest: (0, 0, String::new()),
        holder: 0,
        must: BTreeSet::new(),
        halves: Vec::new(),
        done: BTreeSet::new(),
        next: 1,
        connections: Cell::new(0),
        quiet: false,
        life: Life::default(),
    };
    let kind = format!("{}, SYNC_FLUSH {sync_flush}", master_role(sync_master));
    world.whole_history().context(kind)?;
    Ok(world.life)
}

fn master_role(sync: bool) -> &'static str {
    if sync { "SYNC_MASTER" } else { "ASYNC_MASTER" }
}

fn open_namesrv(base: &Path, nth: usize) -> Result<Namesrv> {
    let kv_config_path = base.join(format!("kv{nth}.json")).display().to_string();
    Ok(Namesrv::open(NamesrvConfig { kv_config_path, ..NamesrvConfig::default() }, 0)?)
}

impl World {
    fn open_life(&self, (node, life): (usize, u64)) -> Option<Arc<Broker>> {
        self.nodes[node].broker.clone().filter(|_| self.nodes[node].life == life)
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        !self.blocked[from][to] && !self.blocked[to][from]
    }

    /// What happens later, in an order of its own; before that the machine may be another one.
    fn later(&mut self, most: i64, event: impl FnOnce(&mut World) -> Result<()> + 'static) {
        let at = (self.now + self.rng.i64(1..=most), self.rng.u64(..));
        self.events.insert(at, Box::new(event));
    }

    fn connection(&self, from: usize, to: usize, outbox: Arc<CollectingOutbox>) -> Arc<Connection> {
        self.connections.set(self.connections.get() + 1);
        // Name servers know a broker's registrations by its connection.
        let id = if from < BROKERS { self.nodes[from].life * 8 + from as u64 } else { self.connections.get() << 32 };
        Arc::new(Connection::new(id, address(from), address(to), outbox))
    }

    /// Has a server handle a request on a connection of its own; `None` where it is not reached.
    fn ask<'h, R: Request<'h>>(
        &self,
        from: usize,
        to: usize,
        request: &R,
        body: &[u8],
    ) -> Result<Option<(Option<Answer>, Arc<CollectingOutbox>)>> {
        let outbox = Arc::new(CollectingOutbox::default());
        let connection = self.connection(from, to, outbox.clone());
        let (mut frames, mut out) = (vec![frame(request, body, 1)?], BytesMut::new());
        if !self.reaches(from, to) {
            return Ok(None);
        }
        if NAMESRVS.contains(&to) {
            self.namesrvs[to - NAMESRVS.start].frames(self.now, &connection, &mut frames, &mut out)?;
        } else if let Some(broker) = &self.nodes[to].broker {
            broker.frames(self.now + self.nodes[to].skew, &connection, &mut frames, &mut out)?;
        } else {
            return Ok(None);
        }
        let answer = protocol::frame::take(&mut out, usize::MAX)?;
        Ok(Some((answer.map(|frame| read(&frame)).transpose()?.map(|(_, answer)| answer), outbox)))
    }

    /// [`World::ask`] for what is answered at once.
    fn call<'h, R: Request<'h>>(&self, from: usize, to: usize, request: &R, body: &[u8]) -> Result<Option<Answer>> {
        Ok(self.ask(from, to, request, body)?.and_then(|(answer, _)| answer))
    }

    fn epochs_of(&self, from: usize, to: usize) -> Result<Option<EpochHistory>> {
        let Some(answer) = self.call(from, to, &GetBrokerEpochCache {}, &[])? else { return Ok(None) };
        if answer.code != codes::SUCCESS {
            return Ok(None);
        }
        Ok(epochs::history(&fastjson::from_slice::<EpochCache>(&answer.body)?.epoch_list))
    }

    /// Who has which number but for this one, as name servers know it that answer.
    fn others(&self, node: usize) -> Result<Vec<BTreeMap<i64, String>>> {
        let mut groups = Vec::new();
        for namesrv in NAMESRVS {
            let Some(answer) = self.call(node, namesrv, &GetBrokerClusterInfo {}, &[])? else { continue };
            let mut info: ClusterInfo = fastjson::from_slice(&answer.body)?;
            let mut numbers = info.broker_addr_table.remove("b").map(|group| group.broker_addrs).unwrap_or_default();
            numbers.retain(|_, at| node_at(at) != Some(node));
            groups.push(numbers);
        }
        Ok(groups)
    }

    /// The newest other master that name servers know; `None` where nobody can say.
    fn other_master(&self, node: usize) -> Result<Option<Option<Other>>> {
        let (groups, mut newest) = (self.others(node)?, None::<Other>);
        let asked = !groups.is_empty();
        for numbers in groups {
            let Some(master) = numbers.get(&0).and_then(|at| node_at(at)) else { continue };
            let Some(epochs) = self.epochs_of(node, master)? else { return Ok(None) };
            if newest.as_ref().is_none_or(|known| known.epochs.reign() < epochs.reign()) {
                newest = Some(Other { address: address(master).to_string(), epochs });
            }
        }
        Ok(asked.then_some(newest))
    }

    fn config(&self, node: usize) -> Result<BrokerConfig> {
        let flush = if self.sync_flush { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
        let own = self.nodes[node].shell.kept.lock().iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>();
        let text = format!(
            "mappedFileSizeCommitLog=65536\nbrokerName=b\nmessageDelayLevel=1s 5s\nflushDiskType={flush}\nslaveTimeout=1000\n\
             storePathRootDir={}\nfileReservedTime=100000\nmappedFileSizeConsumeQueue=2000\nmaxHashSlotNum=100\nmaxIndexNum=400\n\
             brokerIP1=10.0.0.{}\nnamesrvAddr=n:1\nhaTransferBatchSize=4096\ntransactionCheckMax=1000000\n{own}",
            self.nodes[node].directory.display(),
            node + 1
        );
        let mut config = BrokerConfig::default();
        let entries = stdx::properties::parse(text.as_bytes()).map_err(|e| anyhow::anyhow!("{e}"))?;
        let report = config.apply(Path::new("sim"), &entries);
        ensure!(report.errors.is_empty(), "{:?}", report.errors);
        config.resolve(&self.nodes[node].directory, "host", "10.0.0.9")?;
        Ok(config)
    }

    /// Starts a broker as its process does: it follows a newer master, and takes no messages before it could ask.
    fn open(&mut self, node: usize) -> Result<()> {
        let own = address(node);
        let disk = store::disk::Disk::watched(self.nodes[node].disk.clone());
        let mut config = self.config(node)?;
        let other = self.other_master(node)?;
        if let Some((other, own)) = other.iter().flatten().next().zip(epochs::read(&self.nodes[node].directory)?)
            && other.epochs.reign() >= own.reign()
            && let Some(at) = own.parts_from(&other.epochs)
        {
            let Node { has, cut, .. } = &mut self.nodes[node];
            cut.extend(has.iter().filter(|(_, end)| **end > at).map(|(id, _)| id));
        }
        let shell = self.nodes[node].shell.clone();
        let followed = match &other {
            Some(Some(other)) => epochs::rejoin(disk.clone(), &mut config, other, |changed| shell.keep_settings(changed)),
            _ => Ok(()),
        };
        let in_group = epochs::read(&self.nodes[node].directory)?;
        let opened = followed.and_then(|()| Broker::open_on(disk, config, own, shell, self.now + self.nodes[node].skew));
        let at = &mut self.nodes[node];
        let broker = match opened {
            Ok(broker) => broker,
            Err(_) if at.disk.crashed() => return Ok(()),
            Err(error) => anyhow::bail!("broker {node} does not open: {error}"),
        };
        if other.is_none() && in_group.is_some() && !broker.is_slave() {
            broker.store.hold(Some("nobody can say who the master is".into()));
        }
        tracing::debug!(
            "{} broker {node} opens at {}, slave {}, {:?}",
            self.now,
            broker.store.visible(),
            broker.is_slave(),
            broker.epochs()
        );
        at.life += 1;
        (at.has, at.scanned, at.written) = (BTreeMap::new(), 0, broker.store.written_and_persisted().0);
        (at.registers_at, at.connects_at, at.asks_at) = (self.now, self.now, self.now);
        (at.asked, at.delivered) = (None, None);
        at.broker = Some(Arc::new(broker));
        Ok(())
    }

    /// A broker is gone, and name servers see its connections break.
    fn close(&mut self, node: usize) {
        let connection = self.connection(node, NAMESRVS.start, Arc::default());
        self.namesrvs.iter().for_each(|namesrv| namesrv.closed(self.now, &connection));
        self.nodes[node].broker = None;
        self.nodes[node].opens_at = self.now + self.rng.i64(500..15_000);
        self.pending.retain(|pending| pending.node.0 != node);
    }

    /// The machine or the process goes down; what that takes of a log of the newest master was not promised for good.
    fn crash(&mut self, node: usize) -> Result<()> {
        let crash = if self.rng.bool() { Crash::Kill } else { Crash::PowerCut };
        if let Some(broker) = self.nodes[node].broker.clone() {
            let (_, persisted) = broker.store.written_and_persisted();
            if node == self.holder && crash == Crash::PowerCut {
                let has = &self.nodes[node].has;
                self.must.retain(|id| has.get(id).is_some_and(|end| *end <= persisted));
            }
        }
        tracing::debug!("{} broker {node}: {crash:?}", self.now);
        self.close(node);
        self.life.crashes += 1;
        let at = &mut self.nodes[node];
        let to = self.base.join(format!("{node}-{}", self.life.crashes));
        std::fs::create_dir_all(&to)?;
        at.disk.image(crash, &to)?;
        crate::broker::copy_tables(&at.directory, &to)?;
        std::fs::remove_dir_all(&at.directory)?;
        at.disk = SimDisk::load(&to, self.rng.u64(..))?;
        at.directory = to;
        Ok(())
    }

    /// Notes what may be seen of a log since it was looked at last.
    fn scan(&mut self, node: usize) -> Result<()> {
        let Some(broker) = self.nodes[node].broker.clone() else { return Ok(()) };
        loop {
            let from = self.nodes[node].scanned;
            let Some(slice) = broker.store.log_bytes(from, usize::MAX) else { return Ok(()) };
            let mut at = 0;
            while let Some(bytes) = slice.bytes().get(at..)
                && let Some((length, magic)) = record::peek(bytes).filter(|(length, _)| *length as usize <= bytes.len())
            {
                at += length as usize;
                if magic == record::MAGIC_BLANK {
                    continue;
                }
                let record = record::decode(bytes)?;
                // The outcome of a transaction is a number, too.
                let of_client = record.topic != names::TRANS_OP_HALF_TOPIC;
                let id = std::str::from_utf8(record.body).ok().and_then(|text| text.trim().parse::<u64>().ok());
                if let Some(id) = id.filter(|_| of_client) {
                    self.nodes[node].has.entry(id).or_insert(from + at as u64);
                    self.nodes[node].cut.remove(&id);
                    *self.copies.entry(id).or_default() |= 1 << node;
                }
            }
            let end = from + at as u64;
            ensure!(at == slice.bytes().len(), "HALF: the log of {node} is to be seen beyond {end}, where no record begins");
            self.nodes[node].scanned = end;
        }
    }
}
