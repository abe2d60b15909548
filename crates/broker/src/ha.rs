//! Master and slave groups: the slaves that this broker sends its log to, and the master that it copies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::bodies::{HaMaster, HaSlave, HaStatus};
use protocol::exchange::Call;
use protocol::fastjson;
use protocol::requests::ExchangeBrokerHaInfo;
use replication::ha::{Extent, HEADER_LENGTH, LinkError, MasterLink, REPORT_LENGTH, SlaveLink, Turn};
use replication::replicas::{Demand, Peer, Replicas, Standing};
use store::CopyError;
use store::log::Slice;

use crate::Broker;
use crate::handlers::Handled;

/// Where a slave finds its master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Master {
    /// For requests; `None` while no name server knows it.
    pub address: Option<String>,
    /// For the log.
    pub ha_address: Option<String>,
}

/// A broker's part in its group.
#[derive(Default)]
pub struct Ha {
    replicas: Mutex<Replicas>,
    /// How many slaves are connected.
    slaves: AtomicUsize,
    master: Mutex<Master>,
    /// The master's log comes in.
    follows: AtomicBool,
    link: Mutex<Link>,
    /// Held while this slave becomes the master.
    pub promoting: Mutex<()>,
    /// Where the log ended when the broker was opened.
    first_end: u64,
    /// Slaves have no more than this of the log: where it ended when this broker became the master, and what was sent since.
    pub known: AtomicU64,
}

/// A master's connection with a slave.
pub struct Serving {
    id: u64,
    link: MasterLink,
}

/// What a master does next on a connection.
pub enum Step {
    /// Send these bytes, and the log's behind them.
    Send([u8; HEADER_LENGTH], Option<Slice>),
    /// Wait until there is more log or a report, but not beyond this time.
    Wait { until: i64 },
}

/// Why a slave is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    NotNow(String),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the commit log does not have {0} any more: the slave is too far behind, and has to begin anew")]
    Gone(u64),
}

/// Why a slave's connection with its master is given up.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// A slave's connection with its master.
#[derive(Default)]
struct Link {
    heard: i64,
    wrote: i64,
    /// Since when bytes are counted, and how many they are; and those of the second before.
    second: (i64, u64),
    last_second: u64,
}

impl Ha {
    pub fn new(first_end: u64) -> Self {
        Self { first_end, ..Self::default() }
    }

    pub fn standing(&self, end: u64, demand: Demand) -> Standing {
        self.replicas.lock().standing(end, demand)
    }
}

impl Broker {
    /// A slave has connected; `id` is the connection's, never used twice. What a slave is sent is the log of one master:
    /// one that is a slave itself, or does not yet know where its own log goes on, sends none.
    pub fn serve(&self, id: u64, address: String, now: i64) -> Result<Serving, ServeError> {
        self.epochs_settled().map_err(|refusal| ServeError::NotNow(refusal.remark))?;
        if self.is_slave() {
            return Err(ServeError::NotNow(format!("{} is a slave itself and has no slaves", self.address())));
        }
        self.tell_of_slave(&address, "has connected", now);
        self.slave_joined(id, address);
        Ok(Serving { id, link: MasterLink::new(now) })
    }

    pub(crate) fn slave_joined(&self, id: u64, address: String) {
        self.ha.slaves.fetch_add(1, Ordering::Relaxed);
        self.ha.replicas.lock().joined(id, address);
    }

    /// Takes what came from a slave. `true` where it says how far it is.
    pub fn reported(&self, serving: &mut Serving, bytes: &[u8], now: i64) -> Result<bool, LinkError> {
        let newest = serving.link.read(bytes, now, &self.ha_extent())?;
        if let Some(end) = newest {
            self.slave_acked(serving.id, end, now);
        }
        Ok(newest.is_some())
    }

    /// What is to be done on a connection at `now`.
    pub fn next_step(&self, serving: &mut Serving, now: i64) -> Result<Step, ServeError> {
        let config = self.config();
        Ok(match serving.link.turn(now, &self.ha_extent(), &config.ha_timing(), &config.ha_pace())? {
            Turn::Send { offset, most } => {
                let slice = self.store.log_bytes(offset, most).ok_or(ServeError::Gone(offset))?;
                let header = serving.link.frame(slice.bytes().len(), now);
                let next = serving.link.next().unwrap_or_default();
                // A part of what is sent may arrive, whatever becomes of the connection.
                self.ha.known.fetch_max(next, Ordering::Relaxed);
                self.slave_sent(serving.id, next, serving.link.bytes_a_second());
                Step::Send(header, Some(slice))
            }
            Turn::Heartbeat(header) => Step::Send(header, None),
            Turn::Wait { until } => Step::Wait { until },
        })
    }

    /// Tells what has become of a slave, once a minute: one that is refused tries again every second, from another port.
    pub fn tell_of_slave(&self, address: &str, what: &str, now: i64) {
        if self.is_news(address.rsplit_once(':').map_or(address, |(host, _)| host), what, now) {
            tracing::warn!("slave {address} {what}");
        }
    }

    /// A slave's connection has ended.
    pub fn slave_left(&self, id: u64, why: &str, now: i64) {
        let Some(Peer { address, acked, .. }) = self.ha.replicas.lock().left(id) else { return };
        self.ha.slaves.fetch_sub(1, Ordering::Relaxed);
        let had = acked.map_or("nothing that it told of".into(), |end| format!("the log up to {end}"));
        self.tell_of_slave(&address, &format!("is gone with {had}: {why}"), now);
    }

    /// A slave has the log up to `end`.
    pub(crate) fn slave_acked(&self, id: u64, end: u64, now: i64) {
        self.ha.replicas.lock().acked(id, end);
        self.answer_waiting(now);
    }

    /// A slave was sent the log up to `next`.
    pub(crate) fn slave_sent(&self, id: u64, next: u64, bytes_a_second: u64) {
        self.ha.replicas.lock().sent(id, next, bytes_a_second);
    }

    /// The log, as connections with slaves need to know it.
    fn ha_extent(&self) -> Extent {
        let (written, _) = self.store.written_and_persisted();
        let min = self.store.min_offset();
        let first = if self.config().sync_from_last_file { self.store.last_file().max(min) } else { min };
        // A slave without a log may ask for the second byte: the first one is 0 in every log.
        let known = self.ha.known.load(Ordering::Relaxed).max(self.store.recovered().end).max(1);
        Extent { min, visible: self.store.visible(), written, first, known }
    }

    /// Tells those who send the log to slaves, or tell a master of it, that there is more.
    pub(crate) fn log_grew(&self) {
        if self.ha.slaves.load(Ordering::Relaxed) > 0 || self.follows() {
            self.shell.log_grew();
        }
    }

    /// What a name server says of this slave's master.
    pub fn master_found(&self, found: Master) {
        let mut master = self.ha.master.lock();
        if *master != found {
            let name = |address: &Option<String>| address.clone().unwrap_or_else(|| "unknown".into());
            tracing::info!("the master is {}, its log at {}", name(&found.address), name(&found.ha_address));
            *master = found;
        }
    }

    /// Where this slave's master is. The log's address in `haMasterAddress` counts more than a name server's.
    pub fn master(&self) -> Master {
        let mut master = self.ha.master.lock().clone();
        let fixed = self.config().ha_master_address.clone();
        if !fixed.is_empty() {
            master.ha_address = Some(fixed);
        }
        master
    }

    /// So many bytes came from the master.
    pub(crate) fn master_heard(&self, bytes: usize, now: i64) {
        self.ha.follows.store(true, Ordering::Relaxed);
        let mut link = self.ha.link.lock();
        link.heard = now;
        if now - link.second.0 >= 1000 {
            link.last_second = link.second.1;
            link.second = (now, 0);
        }
        link.second.1 += bytes as u64;
    }

    /// The master's log does not come in any more.
    pub fn master_lost(&self) {
        if self.ha.follows.swap(false, Ordering::Relaxed) && self.is_slave() {
            tracing::warn!("the master is lost: {}", self.slave_remark());
        }
    }

    /// Whether this is a slave that is connected with its master.
    pub(crate) fn follows(&self) -> bool {
        self.ha.follows.load(Ordering::Relaxed)
    }

    /// Takes what came from the master.
    pub fn take_log(&self, link: &mut SlaveLink, mut bytes: &[u8], now: i64) -> Result<(), FollowError> {
        let (count, mut log, mut from) = (bytes.len(), std::mem::take(&mut link.begun), None);
        let begun = log.len() as u64;
        log.reserve(count);
        // Frames are small: to write those of one read together costs the kernel a fraction.
        let ended = loop {
            match link.read(&mut bytes, now) {
                Ok(Some((offset, piece))) => {
                    from.get_or_insert(offset - begun);
                    log.extend_from_slice(piece);
                }
                ended => break ended,
            }
        };
        if let Some(from) = from {
            let end = self.copy(from, &log, now)?;
            log.drain(..(end - from) as usize);
        }
        link.begun = log;
        ended?;
        self.master_heard(count, now);
        Ok(())
    }

    /// What the master is to be told at `now`, where something is.
    pub fn log_report(&self, link: &mut SlaveLink, now: i64) -> Option<[u8; REPORT_LENGTH]> {
        let report = link.report(self.store.copied(), now, &self.config().ha_timing())?;
        self.ha.link.lock().wrote = now;
        Some(report)
    }

    /// Appends the whole records of what the master has at `offset` of its log, and gives where they end.
    pub fn copy(&self, offset: u64, bytes: &[u8], now: i64) -> Result<u64, CopyError> {
        let (end, woken) = self.store.append_copied(offset, bytes)?;
        self.appended(end, &woken, now);
        Ok(end)
    }

    /// Why a slave refuses what only a master does.
    pub(crate) fn slave_remark(&self) -> String {
        let config = self.config();
        let (address, name) = (self.address(), &config.broker_name);
        let master = self.master().address.map_or_else(
            || "its master is not there".into(),
            |master| format!("its master is {master}{}", if self.follows() { "" } else { ", which does not send its log" }),
        );
        let gone = format!(
            ". Where it is gone nobody takes over by itself: start it again, or make this slave the master with ferrocket admin \
             promoteSlave -b {address}"
        );
        let todo = if self.follows() { "" } else { &gone };
        format!("{address} is a slave of broker {name} and takes no messages; {master}{todo}")
    }

    /// The address at which slaves get the log.
    pub fn ha_address(&self) -> String {
        self.config().ha_address()
    }

    fn ha_status(&self) -> HaStatus {
        let (written, _) = self.store.written_and_persisted();
        if self.is_slave() {
            let link = self.ha.link.lock();
            let master = HaMaster {
                activated: self.follows(),
                last_read_timestamp: link.heard,
                last_write_timestamp: link.wrote,
                master_addr: self.master().ha_address,
                master_flush_offset: 0,
                max_offset: written as i64,
                transferred_byte_in_second: link.last_second as i64,
            };
            return HaStatus { ha_client_runtime_info: master, ..HaStatus::default() };
        }
        let gap = i64::from(self.config().ha_max_gap_not_in_sync);
        let slave = |peer: &Peer| {
            let acked = peer.acked.unwrap_or(0) as i64;
            let diff = written as i64 - acked;
            HaSlave {
                addr: peer.address.clone(),
                diff,
                in_sync: peer.acked.is_some() && diff < gap,
                slave_ack_offset: acked,
                transfer_from_where: peer.next as i64,
                transferred_byte_in_second: peer.bytes_a_second as i64,
            }
        };
        let slaves: Vec<_> = self.ha.replicas.lock().peers().map(slave).collect();
        HaStatus {
            in_sync_slave_nums: slaves.iter().filter(|slave| slave.in_sync).count() as i32,
            ha_connection_info: slaves,
            master: true,
            master_commit_log_max_offset: written as i64,
            ..HaStatus::default()
        }
    }

    /// Figures of `brokerStatus` on master and slave groups.
    pub(crate) fn ha_figures(&self) -> BTreeMap<String, String> {
        let (written, _) = self.store.written_and_persisted();
        let (messages, newest) = self.store.messages_and_newest();
        let mut figures = BTreeMap::from([
            ("messagesInQueues".to_owned(), messages.to_string()),
            ("newestMessageTimeStamp".to_owned(), newest.to_string()),
        ]);
        for peer in self.ha.replicas.lock().peers() {
            let behind = written - peer.acked.unwrap_or(0).min(written);
            figures.insert(format!("slave_{}", peer.address), format!("{behind} B behind, {} B/s", peer.bytes_a_second));
        }
        if self.is_slave() {
            let master = self.master();
            figures.insert("masterAddress".into(), master.address.unwrap_or_default());
            figures.insert("haMasterAddress".into(), master.ha_address.unwrap_or_default());
            figures.insert("follows".into(), self.follows().to_string());
        }
        figures
    }
}

pub fn get_broker_ha_status(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&broker.ha_status()));
    Ok(())
}

/// EXCHANGE_BROKER_HA_INFO: a slave is told where its master is, or a master says where it is.
pub fn exchange_ha_info(broker: &Broker, call: &mut Call<'_>, request: ExchangeBrokerHaInfo<'_>) -> Handled {
    let nothing = ExchangeBrokerHaInfo { master_ha_address: None, master_flush_offset: None, master_address: None };
    match request.master_ha_address {
        Some(ha_address) if broker.is_slave() => {
            let address = request.master_address.map_or_else(|| broker.master().address, |address| Some(address.to_owned()));
            broker.master_found(Master { address, ha_address: Some(ha_address.to_owned()) });
            call.reply(&nothing);
        }
        None if !broker.is_slave() => call.reply(&ExchangeBrokerHaInfo {
            master_ha_address: Some(&broker.ha_address()),
            master_flush_offset: Some(broker.ha.first_end as i64),
            master_address: Some(&broker.address()),
        }),
        _ => call.reply(&nothing),
    }
    Ok(())
}
