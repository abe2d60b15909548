//! A group's masters one after the other: the epochs of the log, and a slave that becomes the master.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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
use store::disk::Disk;

use crate::config::BrokerRole;
use crate::handlers::Handled;
use crate::meta::table;
use crate::{Broker, BrokerConfig, Master, OpenError, places};

/// The history below `config/`.
const FILE: &str = "config/epochs.json";

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    epoch_list: Vec<EpochEntry>,
    copy: bool,
}

/// What the file holds.
#[derive(Clone, PartialEq)]
struct Kept {
    history: EpochHistory,
    /// The log is a copy: its newest epoch is another broker's.
    copy: bool,
}

/// The epochs of the log, in `config/epochs.json`.
pub struct Epochs {
    path: PathBuf,
    /// `None` before anybody asked: a broker that was never in a group has no file.
    kept: Mutex<Option<Kept>>,
    /// The log goes on in the newest epoch.
    settled: AtomicBool,
}

fn read_file(path: &Path) -> io::Result<Option<Kept>> {
    let content: Content = table::load(path)?;
    if content.epoch_list.is_empty() {
        return Ok(None);
    }
    let reason = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: no epochs in order", path.display()));
    let history = history(&content.epoch_list).ok_or_else(reason)?;
    Ok(Some(Kept { history, copy: content.copy }))
}

/// The epochs of the log of a broker that is not open; `None` where it was never in a group.
pub fn read(root: &Path) -> io::Result<Option<EpochHistory>> {
    Ok(read_file(&root.join(FILE))?.map(|kept| kept.history))
}

/// The epochs that a broker names; `None` where they are in no order.
pub fn history(entries: &[EpochEntry]) -> Option<EpochHistory> {
    let epoch = |entry: &EpochEntry| {
        let (number, restart) = (entry.epoch.try_into().ok()?, entry.restart.try_into().ok()?);
        Some(Epoch { number, restart, start: entry.start_offset.try_into().ok()?, master: entry.master.clone() })
    };
    EpochHistory::new(entries.iter().map(epoch).collect::<Option<_>>()?)
}

fn entries(history: &EpochHistory) -> Vec<EpochEntry> {
    let entry = |epoch: &Epoch| EpochEntry {
        epoch: epoch.number as i64,
        master: epoch.master.clone(),
        restart: epoch.restart as i64,
        start_offset: epoch.start as i64,
    };
    history.epochs().iter().map(entry).collect()
}

impl Epochs {
    pub fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FILE);
        Ok(Self { kept: Mutex::new(read_file(&path)?), path, settled: AtomicBool::new(false) })
    }

    fn put(&self, history: EpochHistory, copy: bool) -> io::Result<()> {
        self.change(&mut self.kept.lock(), Kept { history, copy })
    }

    fn change(&self, kept: &mut Option<Kept>, new: Kept) -> io::Result<()> {
        if kept.as_ref() != Some(&new) {
            table::save(&self.path, &Content { epoch_list: entries(&new.history), copy: new.copy })?;
            *kept = Some(new);
        }
        Ok(())
    }

    /// The epochs; from here on there are some.
    fn get(&self, copy: bool) -> io::Result<EpochHistory> {
        let mut kept = self.kept.lock();
        let known = kept.clone().unwrap_or(Kept { history: EpochHistory::default(), copy });
        self.change(&mut kept, known.clone())?;
        Ok(known.history)
    }
}

/// Another broker that is registered as the master of this one's group.
pub struct Other {
    pub address: String,
    pub epochs: EpochHistory,
}

/// Has the settings and the log of a broker that is not open follow another master, where that is newer than what this
/// one was; `keep` writes lines to the configuration file.
pub fn rejoin(
    disk: Disk,
    config: &mut BrokerConfig,
    other: &Other,
    keep: impl FnOnce(&[Entry]) -> io::Result<()>,
) -> Result<(), OpenError> {
    let path = Path::new(&config.store_path_root_dir).join(FILE);
    let Some(Kept { history, .. }) = read_file(&path)? else { return Ok(()) };
    if other.epochs.reign() < history.reign() {
        tracing::warn!("{} is registered as the master in an older epoch than this broker's", other.address);
        return Ok(());
    }
    if config.broker_role != BrokerRole::Slave {
        if other.epochs.reign() == history.reign() {
            tracing::error!("{} is registered as the master of {} as well, in the same epoch", other.address, config.broker_name);
            return Ok(());
        }
        // Any but the master's; where another slave has it, this one takes another before it registers.
        let id = names::MASTER_ID + 1;
        tracing::warn!(
            "{} has become the master of {} in epoch {}: this broker, its master in epoch {}, follows as slave {id}",
            other.address,
            config.broker_name,
            other.epochs.current(),
            history.current()
        );
        keep(&role_settings(BrokerRole::Slave, id))?;
        (config.broker_role, config.broker_id) = (BrokerRole::Slave, id);
    }
    if let Some(at) = history.parts_from(&other.epochs) {
        let options = store::Options { disk, ..config.store_options(Vec::new()) };
        let cut = store::cut(&options, at, |log| places::go_back(&options.root, at, log))?;
        tracing::warn!("{cut} bytes of the commit log beyond {at}, where {} took over, were put aside", other.address);
    }
    table::save(&path, &Content { epoch_list: entries(&other.epochs), copy: true })?;
    Ok(())
}

/// Why a slave does not copy a master's log.
#[derive(Debug, thiserror::Error)]
pub enum NoCopy {
    #[error("it is the master of epoch {master}, and this broker's log is of epoch {own}")]
    Older { master: u64, own: u64 },
    #[error("this broker's log goes on beyond {at}, where that one took over: it is opened again, and cut there")]
    Beyond { at: u64 },
    #[error("config/epochs.json can't be written: {0}")]
    NotNoted(#[from] io::Error),
}

impl Broker {
    /// The epochs of the log, where this broker has been in a group.
    pub fn epochs(&self) -> Option<EpochHistory> {
        self.epochs.kept.lock().as_ref().map(|kept| kept.history.clone())
    }

    /// Whether this slave's log may go on as a copy of one with these epochs: it is of them from here on. They have to be
    /// asked for behind the connection on which that log comes, whose end is also that of its master's epoch.
    pub fn follow(&self, master: EpochHistory) -> Result<(), NoCopy> {
        let own = self.epochs().unwrap_or_default();
        if master.reign() < own.reign() {
            return Err(NoCopy::Older { master: master.current(), own: own.current() });
        }
        let (end, _) = self.store.written_and_persisted();
        if let Some(at) = own.parts_from(&master).filter(|at| *at < end) {
            return Err(NoCopy::Beyond { at });
        }
        Ok(self.while_slave(|| self.epochs.put(master, true)).unwrap_or(Ok(()))?)
    }

    /// The log's end is known: a master that may have lost some of it, which slaves may have, goes on in an epoch of its
    /// own; so does a slave whose file says that it is the master.
    pub(crate) fn settle_epochs(&self, now: i64) -> io::Result<()> {
        if self.is_slave() || self.epochs.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let recovered = self.store.recovered();
        let kept = self.epochs.kept.lock().clone();
        if let Some(Kept { mut history, copy }) = kept.filter(|kept| kept.copy || recovered.unclean) {
            // Where the epoch begins, the log must not end earlier after the next crash.
            self.sync(now).map_err(io::Error::other)?;
            match copy {
                true => history.begin(recovered.end, &self.address()),
                false => history.restart(recovered.end, &self.address()),
            }
            let number = history.current();
            tracing::info!("the commit log goes on at {} in epoch {number}", recovered.end);
            self.epochs.put(history, false)?;
            if copy {
                self.topics.set_epoch(number as i64, now)?;
            }
        }
        self.epochs.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// An error while the log of a master has no epoch to go on in: nobody may copy it.
    pub(crate) fn epochs_settled(&self) -> Result<(), Refusal> {
        if self.is_slave() || self.epochs.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Refusal::new(codes::SERVICE_NOT_AVAILABLE, format!("{} reads its commit log, and has no slaves yet", self.address())))
    }

    /// What name servers know of another master of the group, if anything. From here on no message is taken where that one
    /// is newer: then this broker has to be opened again, to follow it.
    pub fn meet(&self, other: Option<&Other>) -> bool {
        let own = self.epochs().unwrap_or_default();
        let Some(newer) = other.filter(|other| other.epochs.reign() > own.reign() && !self.is_slave()) else {
            self.store.hold(None);
            return false;
        };
        self.store.begin_copy();
        // A slave that never reached this one may have been promoted: from here on this broker has epochs.
        if let Err(error) = self.epochs.get(false) {
            tracing::error!("config/epochs.json can't be written: {error}");
        }
        tracing::error!(
            "{} has become the master of broker {} in epoch {}: this broker takes no messages any more and follows it",
            newer.address,
            self.config().broker_name,
            newer.epochs.current()
        );
        true
    }

    /// Takes another number where name servers know this slave's as another broker's, too: of two with the same they keep
    /// one, and only that one hears of its master. `taken` are the numbers that others have.
    pub fn take_free_number(&self, taken: &BTreeSet<i64>) -> io::Result<()> {
        let (old, id) = (self.config().broker_id, (1..).find(|id| !taken.contains(id)).unwrap_or(i64::MAX));
        if !taken.contains(&old) {
            return Ok(());
        }
        tracing::warn!("another broker of the group has brokerId {old}, too: this slave's is {id} from here on");
        self.while_slave(|| self.take_role(BrokerRole::Slave, id)).unwrap_or(Ok(()))
    }

    /// Becomes the master under a new epoch; gives its number and start.
    fn promote(&self, role: BrokerRole, force: bool, now: i64) -> Result<(u64, u64), Refusal> {
        let refuse = |remark: String| Err(Refusal::new(codes::SYSTEM_ERROR, remark));
        let _one_at_a_time = self.ha.promoting.lock();
        if !self.is_slave() {
            return refuse(format!("{} is no slave: it takes messages", self.address()));
        }
        if let Some(progress) = self.store.rebuilding() {
            return refuse(progress.to_string());
        }
        let begun = self.epochs().and_then(|history| history.epochs().last().map(|newest| newest.start)).unwrap_or(0);
        let (end, _) = self.store.written_and_persisted();
        if end < begun && !force {
            return refuse(format!(
                "the log of {} ends at {end}, and its master's newest epoch begins at {begun}: another slave may have what is \
                 between; -f promotes nevertheless, and what others have more is cut",
                self.address()
            ));
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
        let start = self.store.end_copy();
        self.sync(now).map_err(|e| failed("flushing the log", io::Error::other(e)))?;
        let mut history = self.epochs().unwrap_or_default();
        history.begin(start, &self.address());
        let epoch = (history.current(), start);
        let before = self.config();
        self.take_role(role, names::MASTER_ID).map_err(|e| failed("changing the configuration file", e))?;
        if let Err(error) = self.epochs.put(history, false) {
            let back = self.take_role(BrokerRole::Slave, before.broker_id);
            back.unwrap_or_else(|error| tracing::error!("the configuration file says that this broker is the master: {error}"));
            return Err(failed("writing config/epochs.json", error));
        }
        self.epochs.settled.store(true, Ordering::Release);
        self.ha.known.store(start, Ordering::Relaxed);
        self.take_over(epoch, now);
        Ok(epoch)
    }

    /// What a new master does beside taking messages.
    fn take_over(&self, (number, start): (u64, u64), now: i64) {
        self.master_lost();
        self.master_found(Master::default());
        self.limit_offsets();
        let topics = self.topics.put(self.unknown_topics(), now).and_then(|()| self.topics.set_epoch(number as i64, now));
        self.know_who_popped(now);
        let interval = self.config().transaction_check_interval;
        let halves = topics.and_then(|()| self.transactions.open_again(&self.store, &self.offsets, now, interval));
        if let Err(error) = halves {
            tracing::error!("after the promotion, topics or half messages are not as they were on the master: {error}");
        }
        tracing::warn!("this broker is the master from offset {start} on, in epoch {number}");
        self.shell.log_grew();
        self.shell.register_wanted();
    }

    /// Topics that the log has messages of, and that the master was not asked about in time. Delayed messages may be for
    /// queues that have none yet.
    fn unknown_topics(&self) -> BTreeMap<String, TopicConfig> {
        let (mut unknown, default) = (BTreeMap::new(), self.config().default_topic_queue_nums);
        for queue in self.store.queues().iter().filter(|queue| self.topics.get(&queue.topic).is_none()) {
            let name = queue.topic.as_str();
            let least = if names::is_system_topic(name) || names::is_retry_or_dlq(name) { 1 } else { default };
            let made = || TopicConfig::new(name, least, perm::READ | perm::WRITE);
            let topic: &mut TopicConfig = unknown.entry(name.to_owned()).or_insert_with(made);
            topic.read_queue_nums = topic.read_queue_nums.max(queue.id + 1);
            topic.write_queue_nums = topic.read_queue_nums;
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
fn role_settings(role: BrokerRole, id: i64) -> [Entry; 2] {
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
    let (epoch, start) = broker.promote(role, request.force == Some(true), call.now)?;
    call.reply(&PromoteSlaveReply { epoch: epoch as i64, start_offset: start as i64 });
    Ok(())
}

/// Who asks is a broker of the group: from here on it has epochs.
pub fn get_broker_epoch_cache(broker: &Broker, call: &mut Call<'_>) -> Handled {
    broker.epochs_settled()?;
    let history = broker.epochs.get(broker.is_slave());
    let history = history.map_err(|e| crate::handlers::io_refusal("writing config/epochs.json", &e))?;
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
