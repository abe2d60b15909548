//! Master and slave groups: the slaves that this broker sends its log to, and the master that it copies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use replication::ha::Extent;
use replication::replicas::{Demand, Peer, Replicas, Standing};
use store::CopyError;

use crate::Broker;

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
}

impl Ha {
    pub fn standing(&self, end: u64, demand: Demand) -> Standing {
        self.replicas.lock().standing(end, demand)
    }
}

impl Broker {
    /// A slave has connected; `id` is the connection's, never used twice.
    pub fn slave_joined(&self, id: u64, address: String) {
        tracing::info!("slave {address} has connected");
        self.ha.slaves.fetch_add(1, Ordering::Relaxed);
        self.ha.replicas.lock().joined(id, address);
    }

    pub fn slave_left(&self, id: u64, why: &str) {
        if let Some(Peer { address, acked, .. }) = self.ha.replicas.lock().left(id) {
            self.ha.slaves.fetch_sub(1, Ordering::Relaxed);
            let had = acked.map_or("nothing that it told of".into(), |end| format!("the log up to {end}"));
            tracing::info!("slave {address} is gone with {had}: {why}");
        }
    }

    /// A slave has the log up to `end`.
    pub fn slave_acked(&self, id: u64, end: u64, now: i64) {
        self.ha.replicas.lock().acked(id, end);
        self.answer_waiting(now);
    }

    /// A slave was sent the log up to `next`.
    pub fn slave_sent(&self, id: u64, next: u64, bytes_a_second: u64) {
        self.ha.replicas.lock().sent(id, next, bytes_a_second);
    }

    /// The log, as connections with slaves need to know it.
    pub fn ha_extent(&self) -> Extent {
        let (written, _) = self.store.written_and_persisted();
        let min = self.store.min_offset();
        let first = if self.config().sync_from_last_file { self.store.last_file().max(min) } else { min };
        Extent { min, visible: self.store.visible(), written, first }
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

    /// The master's log comes in, or does not any more.
    pub fn set_follows(&self, follows: bool) {
        self.ha.follows.store(follows, Ordering::Relaxed);
    }

    /// Whether this is a slave that is connected with its master.
    pub(crate) fn follows(&self) -> bool {
        self.ha.follows.load(Ordering::Relaxed)
    }

    /// Appends what the master has at `offset` of its log.
    pub fn copy(&self, offset: u64, bytes: &[u8], now: i64) -> Result<(), CopyError> {
        let woken = self.store.append_copied(offset, bytes)?;
        self.appended(offset + bytes.len() as u64, &woken, now);
        Ok(())
    }

    /// Why a slave refuses what only a master does.
    pub(crate) fn slave_remark(&self) -> String {
        let config = self.config();
        let (address, name) = (self.address(), &config.broker_name);
        match self.master().address {
            Some(master) => format!("{address} is a slave of broker {name} and takes no messages; its master is {master}"),
            None => format!(
                "{address} is a slave of broker {name} and takes no messages; its master is not there, and nobody takes over \
                 by itself. Start the master again, or make this slave the master: promoteSlave -b {address}"
            ),
        }
    }

    /// Figures of `brokerStatus` on master and slave groups.
    pub(crate) fn ha_figures(&self) -> BTreeMap<String, String> {
        let (written, _) = self.store.written_and_persisted();
        let mut figures = BTreeMap::new();
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
