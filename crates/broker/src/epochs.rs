//! A group's masters one after the other: the epochs of the log, and a slave that becomes the master.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use protocol::bodies::{EpochCache, EpochEntry, TopicConfig};
use protocol::exchange::{Call, Refusal};
use protocol::requests::{PromoteSlave, PromoteSlaveReply};
use protocol::sys_flag::perm;
use protocol::{codes, fastjson, names};
use replication::epoch::{Epoch, EpochHistory};
use serde::{Deserialize, Serialize};
use stdx::config::Value;
use stdx::properties::Entry;

use crate::config::BrokerRole;
use crate::handlers::Handled;
use crate::meta::table;
use crate::{Broker, Master};

/// The history below `config/`.
const FILE: &str = "config/epochs.json";

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    epoch_list: Vec<EpochEntry>,
}

/// The epochs of the log, in `config/epochs.json`.
pub struct Epochs {
    path: PathBuf,
    /// `None` before anybody asked: a broker that was never in a group has no file.
    history: Mutex<Option<EpochHistory>>,
}

/// The epochs of the log of a broker that is not open; `None` where it was never in a group.
pub fn read(root: &Path) -> io::Result<Option<EpochHistory>> {
    let content: Content = table::load(&root.join(FILE))?;
    if content.epoch_list.is_empty() {
        return Ok(None);
    }
    let reason = || io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} below {}: no epochs in order", root.display()));
    history(&content.epoch_list).map(Some).ok_or_else(reason)
}

/// The epochs that a broker names; `None` where they are in no order.
pub fn history(entries: &[EpochEntry]) -> Option<EpochHistory> {
    let epoch =
        |entry: &EpochEntry| Some(Epoch { number: entry.epoch.try_into().ok()?, start: entry.start_offset.try_into().ok()? });
    EpochHistory::new(entries.iter().map(epoch).collect::<Option<_>>()?)
}

fn entries(history: &EpochHistory) -> Vec<EpochEntry> {
    let entry = |epoch: &Epoch| EpochEntry { epoch: epoch.number as i64, start_offset: epoch.start as i64 };
    history.epochs().iter().map(entry).collect()
}

impl Epochs {
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { path: root.join(FILE), history: Mutex::new(read(root)?) })
    }

    /// The epochs, or those of a broker that was never in a group.
    pub fn get(&self) -> EpochHistory {
        self.history.lock().clone().unwrap_or_default()
    }

    fn put(&self, history: EpochHistory) -> io::Result<()> {
        let mut kept = self.history.lock();
        if kept.as_ref() != Some(&history) {
            table::save(&self.path, &Content { epoch_list: entries(&history) })?;
            *kept = Some(history);
        }
        Ok(())
    }
}

impl Broker {
    /// The epochs of the log, where this broker has been in a group.
    pub fn epochs(&self) -> Option<EpochHistory> {
        self.epochs.history.lock().clone()
    }

    /// The log is a copy of one with these epochs.
    pub fn take_epochs(&self, history: EpochHistory) -> io::Result<()> {
        self.while_slave(|| self.epochs.put(history)).unwrap_or(Ok(()))
    }

    /// Another broker is the master, in a newer epoch: from here on no message is taken.
    pub fn step_down(&self, master: &str) {
        self.store.begin_copy();
        tracing::error!(
            "{master} has become the master of broker {} in a newer epoch: this broker takes no messages any more and follows it",
            self.config().broker_name
        );
    }

    /// Becomes the master under a new epoch; gives that.
    fn promote(&self, role: BrokerRole, force: bool, now: i64) -> Result<Epoch, Refusal> {
        let refuse = |remark: String| Err(Refusal::new(codes::SYSTEM_ERROR, remark));
        let _one_at_a_time = self.ha.promoting.lock();
        if !self.is_slave() {
            return refuse(format!("{} is no slave: it takes messages", self.address()));
        }
        if let Some(progress) = self.store.rebuilding() {
            return refuse(progress.to_string());
        }
        if self.follows() && !force {
            return refuse(format!(
                "the master {} still sends its log to {}: stop it first (mqshutdown broker), so that nothing is sent to both; \
                 -f promotes nevertheless",
                self.master().address.unwrap_or_default(),
                self.address()
            ));
        }
        let failed = |what: &str, error: io::Error| {
            self.store.begin_copy();
            Refusal::new(codes::SYSTEM_ERROR, format!("{what}: {error}; the broker stays a slave"))
        };
        let start = self.store.end_copy().map_err(|e| failed("cutting off a half record", e))?;
        self.sync(now).map_err(|e| failed("flushing the log", io::Error::other(e)))?;
        let mut history = self.epochs.get();
        history.begin(start);
        let epoch = Epoch { number: history.current(), start };
        let before = self.config();
        self.take_role(role, names::MASTER_ID).map_err(|e| failed("changing the configuration file", e))?;
        if let Err(error) = self.epochs.put(history) {
            let back = self.take_role(BrokerRole::Slave, before.broker_id);
            back.unwrap_or_else(|error| tracing::error!("the configuration file says that this broker is the master: {error}"));
            return Err(failed("writing config/epochs.json", error));
        }
        self.take_over(epoch, now);
        Ok(epoch)
    }

    /// What a new master does beside taking messages.
    fn take_over(&self, epoch: Epoch, now: i64) {
        self.master_lost();
        self.master_found(Master::default());
        self.limit_offsets();
        let topics = self.topics.put(self.unknown_topics(), now).and_then(|()| self.topics.set_epoch(epoch.number as i64, now));
        let interval = self.config().transaction_check_interval;
        let halves = topics.and_then(|()| self.transactions.open_again(&self.store, &self.offsets, now, interval));
        if let Err(error) = halves {
            tracing::error!("after the promotion, topics or half messages are not as they were on the master: {error}");
        }
        tracing::warn!("this broker is the master from offset {} on, in epoch {}", epoch.start, epoch.number);
        self.shell.log_grew();
        self.shell.register_wanted();
    }

    /// Topics that the log has messages of, and that the master was not asked about in time.
    fn unknown_topics(&self) -> BTreeMap<String, TopicConfig> {
        let mut unknown = BTreeMap::new();
        for queue in self.store.queues().iter().filter(|queue| self.topics.get(&queue.topic).is_none()) {
            let topic = TopicConfig::new(&queue.topic, queue.id + 1, perm::READ | perm::WRITE);
            unknown.insert(queue.topic.clone(), topic);
        }
        unknown
    }

    /// Changes what this broker is, in its configuration file, too.
    fn take_role(&self, role: BrokerRole, id: i64) -> io::Result<()> {
        self.shell.keep_settings(&role_settings(role, id))?;
        let mut config = self.config.write();
        let mut changed = crate::BrokerConfig::clone(&config);
        (changed.broker_role, changed.broker_id) = (role, id);
        *config = changed.into();
        Ok(())
    }
}

/// The lines of a configuration file that say what a broker is.
pub fn role_settings(role: BrokerRole, id: i64) -> [Entry; 2] {
    let entry = |key: &str, value: String| Entry { key: key.into(), value, line: 0 };
    [entry("brokerRole", role.text()), entry("brokerId", id.to_string())]
}

pub fn promote_slave(broker: &Broker, call: &mut Call<'_>, request: PromoteSlave<'_>) -> Handled {
    let role = match request.broker_role {
        None => BrokerRole::AsyncMaster,
        Some(text) => BrokerRole::parse(text)
            .filter(|role| *role != BrokerRole::Slave)
            .ok_or_else(|| Refusal::new(codes::INVALID_PARAMETER, format!("{text:?} is neither ASYNC_MASTER nor SYNC_MASTER")))?,
    };
    let epoch = broker.promote(role, request.force == Some(true), call.now)?;
    call.reply(&PromoteSlaveReply { epoch: epoch.number as i64, start_offset: epoch.start as i64 });
    Ok(())
}

/// Who asks is a broker of the group: from here on it has epochs.
pub fn get_broker_epoch_cache(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let history = broker.epochs.get();
    broker.epochs.put(history.clone()).map_err(|e| crate::handlers::io_refusal("writing config/epochs.json", &e))?;
    let config = broker.config();
    let cache = EpochCache {
        broker_id: config.broker_id,
        broker_name: config.broker_name.clone(),
        cluster_name: config.broker_cluster_name.clone(),
        epoch_list: entries(&history),
        max_offset: broker.store.written_and_persisted().0 as i64,
    };
    call.reply_body(&fastjson::to_vec(&cache));
    Ok(())
}
