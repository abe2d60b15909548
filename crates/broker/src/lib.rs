//! The broker's core: synchronous, without clock, socket or thread.
//!
//! A SEND on its way, step by step: `net` reads and cuts frames → [`Broker::frames`] decodes headers and
//! dispatches → [`handlers::send::Sends::accept`] validates, rewrites and encodes → [`Sends::complete`] has
//! [`store::Store::append`] write the batch and derive → answers go out with one write. A message that waits for the
//! disk is answered by [`Broker::sync`], a pull that waits by [`Broker::wake`] or [`Broker::tick`].

mod admission;
mod announce;
mod answers;
mod asked;
pub mod clients;
pub mod config;
pub mod epochs;
pub mod filter;
mod ha;
pub mod handlers;
mod hold;
mod locks;
pub mod meta;
mod places;
mod pop;
mod popped;
mod schedule;
mod slave;
mod stats;
mod storage;
mod timer;
mod transaction;
mod wrong;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use protocol::exchange::{Call, Connection, ENOUGH_BYTES, Refusal, Service};
use protocol::header::HeaderError;
use protocol::record::Record;
use protocol::requests::*;
use protocol::{Frame, Header, codes, fastjson};
use stdx::config::Table;
use stdx::properties::Entry;
use store::queue::Queue;
use store::{AppendError, Batch, GetLimits, Store};

use crate::admission::Admission;
use crate::answers::Waiting;
use crate::asked::Unanswered;
use crate::clients::Clients;
pub use crate::config::BrokerConfig;
use crate::filter::Expressions;
pub use crate::ha::{FollowError, Master, ServeError, Serving, Step};
use crate::handlers::send::Sends;
use crate::handlers::{
    Handled, admin, clients as client_handlers, consume, inspect, pull, recall, reply, reset, send, send_back, topics,
};
use crate::hold::Holds;
use crate::locks::QueueLocks;
pub use crate::meta::offsets::Committed;
use crate::meta::offsets::Offsets;
use crate::meta::{Groups, Topics};
use crate::pop::Pops;
use crate::schedule::Schedule;
pub use crate::slave::{Delivered, Listed};
use crate::stats::Stats;
use crate::transaction::Transactions;

/// How often expired clients and locks are looked for, in ms.
const HOUSEKEEPING_MS: i64 = 10_000;
/// How often the figures are sampled, in ms.
const SAMPLE_MS: i64 = 1000;

/// How full a disk is, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub used: u64,
    pub total: u64,
}

/// What the core asks of the process around it. None of it waits.
pub trait Shell: Send + Sync {
    /// Messages wait for the disk: call [`Broker::sync`] soon, from another thread.
    fn sync_wanted(&self);
    /// There is more log that slaves may be sent, or that a slave can tell its master that it has.
    fn log_grew(&self);
    /// The topics changed: register with the name servers soon.
    fn register_wanted(&self);
    /// Ask the name servers for a topic's route soon, and give what they say to [`Broker::route_arrived`].
    fn route_wanted(&self, topic: &str);
    /// The disk that holds a path; `None` where it is not known.
    fn disk(&self, path: &Path) -> Option<Disk>;
    /// The machine's memory in bytes; 0 where it is not known.
    fn memory(&self) -> u64;
    /// The hour of the day where the broker is, 0 to 23.
    fn hour(&self, now: i64) -> u8;
    /// Writes changed settings to the broker's configuration file, where it has one.
    fn keep_settings(&self, changed: &[Entry]) -> io::Result<()>;
}

/// A shell without a process around it, for tests and simulations: what it is asked for is called by hand.
#[derive(Default)]
pub struct NoShell {
    /// The settings that a configuration file would have.
    pub kept: Mutex<BTreeMap<String, String>>,
}

impl Shell for NoShell {
    fn sync_wanted(&self) {}
    fn log_grew(&self) {}
    fn register_wanted(&self) {}
    fn route_wanted(&self, _: &str) {}
    fn disk(&self, _: &Path) -> Option<Disk> {
        None
    }
    fn memory(&self) -> u64 {
        0
    }
    fn hour(&self, _: i64) -> u8 {
        0
    }
    fn keep_settings(&self, changed: &[Entry]) -> io::Result<()> {
        self.kept.lock().extend(changed.iter().map(|entry| (entry.key.clone(), entry.value.clone())));
        Ok(())
    }
}

/// When what has to be done next.
struct Timers {
    sample: AtomicI64,
    housekeeping: AtomicI64,
}

/// Whether a timer is due; its next time is then `period` ms from `now`.
fn due(timer: &AtomicI64, now: i64, period: i64) -> bool {
    let due = timer.load(Ordering::Relaxed) <= now;
    if due {
        timer.store(now + period, Ordering::Relaxed);
    }
    due
}

/// One broker. Network workers share it; every part has its own lock.
pub struct Broker {
    config: RwLock<Arc<BrokerConfig>>,
    pub store: Store,
    pub topics: Topics,
    pub groups: Groups,
    pub offsets: Offsets,
    pub clients: Clients,
    expressions: Expressions,
    schedule: Schedule,
    places: places::Places,
    wheel: timer::Timers,
    transactions: Transactions,
    pops: Pops,
    holds: Holds,
    replies: Unanswered<reply::Waiting>,
    asked: Unanswered<asked::Waiting>,
    locks: QueueLocks,
    stats: Stats,
    admission: Admission,
    /// Sends that wait for the disk alone, and for slaves, too: in each line the first is the first to be done or late.
    waiting: Mutex<[VecDeque<Waiting>; 2]>,
    ha: ha::Ha,
    epochs: epochs::Epochs,
    /// Buffers of reads that are done, for the next.
    spare_sends: Mutex<Vec<Sends>>,
    shell: Arc<dyn Shell>,
    store_host: SocketAddr,
    pub started: i64,
    rotation: AtomicU32,
    timers: Timers,
    storage: storage::Timers,
    announcing: announce::Announcing,
    wrong: wrong::Wrong,
}

/// Why a broker can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("the broker's tables can't be read: {0}")]
    Tables(#[from] io::Error),
    #[error("messageDelayLevel: {0}")]
    DelayLevels(String),
}

impl Broker {
    /// Opens the broker's data and makes its system topics. `store_host` is the address that clients are given
    /// (`brokerIP1:listenPort`), which is part of message ids.
    pub fn open(config: BrokerConfig, store_host: SocketAddr, shell: Arc<dyn Shell>, now: i64) -> Result<Self, OpenError> {
        Self::open_on(store::disk::Disk::default(), config, store_host, shell, now)
    }

    /// [`Broker::open`], on a disk that somebody watches.
    pub fn open_on(
        disk: store::disk::Disk,
        config: BrokerConfig,
        store_host: SocketAddr,
        shell: Arc<dyn Shell>,
        now: i64,
    ) -> Result<Self, OpenError> {
        let levels = schedule::parse_levels(&config.message_delay_level).map_err(OpenError::DelayLevels)?;
        let store = Store::open(store::Options { disk, ..config.store_options(levels.clone()) })?;
        let directory = store.root().join("config");
        let (topics, groups) = meta::open(&directory)?;
        let offsets = Offsets::open(store.root().join(meta::offsets::FILE))?;
        let schedule = Schedule::open(store.root(), levels)?;
        let places = places::Places::open(store.root())?;
        let wheel = timer::Timers::open(&store)?;
        let interval = config.transaction_check_interval;
        let transactions = Transactions::open(&store, &offsets, now, interval)?;
        let timer = |after: i64| AtomicI64::new(now + after);
        let epochs = epochs::Epochs::open(store.root())?;
        let ha = ha::Ha::new(store.written_and_persisted().0);
        let broker = Self {
            timers: Timers { sample: timer(0), housekeeping: timer(HOUSEKEEPING_MS) },
            storage: storage::Timers::new(now, i64::from(config.flush_consumer_offset_interval)),
            announcing: announce::Announcing::default(),
            wrong: wrong::Wrong::default(),
            config: RwLock::new(Arc::new(config)),
            store,
            topics,
            groups,
            offsets,
            clients: Clients::default(),
            expressions: Expressions::default(),
            schedule,
            places,
            wheel,
            transactions,
            pops: Pops::open(&directory)?,
            holds: Holds::default(),
            replies: Unanswered::default(),
            asked: Unanswered::default(),
            locks: QueueLocks::default(),
            stats: Stats::default(),
            admission: Admission::default(),
            waiting: Mutex::default(),
            ha,
            epochs,
            spare_sends: Mutex::default(),
            shell,
            store_host,
            started: now,
            rotation: AtomicU32::new(0),
        };
        broker.create_system_topics(now)?;
        if broker.is_slave() {
            broker.store.begin_copy();
            // Of a part that was cut off nobody has consumed what comes in its place; the master says how far groups are.
            if broker.store.rebuilding().is_none() {
                broker.limit_offsets();
            }
        } else if broker.store.rebuilding().is_none() {
            if broker.store.recovered().unclean {
                broker.limit_offsets();
            }
            broker.read_pops(now);
            broker.settle_epochs(now)?;
        }
        Ok(broker)
    }

    /// What a crash took of a queue, or a slave had not copied when it became the master, comes again as other messages, which groups that had consumed the old ones must not pass
    /// over.
    pub(crate) fn limit_offsets(&self) {
        self.offsets.limit(|topic, queue| self.queue_end(topic, queue));
    }

    fn queue_end(&self, topic: &str, queue: i32) -> i64 {
        self.store.find_queue(topic, queue).map_or(0, |queue| queue.max_offset())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.read().clone()
    }

    /// Changes settings, all or none: of the running broker, and in its file.
    pub fn update_config(&self, entries: &[Entry]) -> Result<(), String> {
        let mut current = self.config.write();
        let mut changed = BrokerConfig::clone(&current);
        for entry in entries {
            changed.set(&entry.key, &entry.value).map_err(|e| e.to_string())?;
        }
        self.shell.keep_settings(entries).map_err(|e| format!("nothing was changed, as the configuration file can't be: {e}"))?;
        *current = Arc::new(changed);
        drop(current);
        self.shell.register_wanted();
        Ok(())
    }

    pub(crate) fn store_host(&self) -> SocketAddr {
        self.store_host
    }

    /// The address that clients dial: a host's name stays one.
    pub fn address(&self) -> String {
        let config = self.config.read();
        if config.broker_ip1.is_empty() { self.store_host.to_string() } else { config.address() }
    }

    /// Whether this broker only copies another one.
    pub fn is_slave(&self) -> bool {
        self.config.read().broker_role == config::BrokerRole::Slave
    }

    /// Takes turns among `count`.
    pub(crate) fn next_of(&self, count: i32) -> i32 {
        let turn = self.rotation.fetch_add(1, Ordering::Relaxed);
        if count > 0 { (turn % count as u32) as i32 } else { 0 }
    }

    /// A unique key for a message whose client gave it none: the store host, the start and a count, in hex, as
    /// long as Java's.
    pub(crate) fn make_unique_key(&self) -> String {
        let count = self.rotation.fetch_add(1, Ordering::Relaxed);
        let mut key = protocol::message_id::offset_id(self.store_host, self.started);
        let tail = key.len() - 8;
        key.replace_range(tail.., &format!("{count:08X}"));
        key
    }

    /// How far behind the log's end a message counts as out of memory, in bytes.
    pub(crate) fn memory_distance(&self) -> u64 {
        match self.shell.memory() {
            0 => u64::MAX,
            bytes => bytes / 100 * self.config.read().access_message_in_memory_max_ratio as u64,
        }
    }

    /// What one pull may get.
    pub(crate) fn limits(&self, messages: i32, bytes: Option<usize>) -> GetLimits {
        let config = self.config.read();
        let hot = config.max_transfer_count_on_message_in_memory.max(1) as usize;
        GetLimits {
            messages: (messages.max(1) as usize).min(hot),
            bytes: bytes.unwrap_or(usize::MAX).min(config.max_transfer_bytes_on_message_in_memory as usize),
            cold_messages: config.max_transfer_count_on_message_in_disk.max(1) as usize,
            cold_bytes: config.max_transfer_bytes_on_message_in_disk as usize,
            cold_distance: match self.shell.memory() {
                0 => u64::MAX,
                memory => memory / 100 * config.access_message_in_memory_max_ratio as u64,
            },
            scanned: config.max_filter_message_size as usize / store::queue::ENTRY_LENGTH as usize,
        }
    }

    /// A record that this broker writes for itself.
    pub(crate) fn own_record<'a>(
        &self,
        topic: &'a str,
        queue_id: i32,
        body: &'a [u8],
        properties: &'a str,
        now: i64,
    ) -> Record<'a> {
        Record {
            queue_id,
            flag: 0,
            queue_offset: 0,
            physical_offset: 0,
            sys_flag: 0,
            born_timestamp: now,
            born_host: self.store_host,
            store_timestamp: 0,
            store_host: self.store_host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic,
            properties,
        }
    }

    /// Appends messages that no client waits for, and wakes who waits for them.
    /// Returns the end of the last record.
    pub(crate) fn append(&self, batch: &mut Batch, now: i64) -> Result<u64, AppendError> {
        let (end, woken) = self.store.append(batch, now)?;
        self.appended(end, &woken, now);
        Ok(end)
    }

    /// The log has messages up to `end`: has the disk and the slaves follow, and wakes who waits for them.
    pub(crate) fn appended(&self, end: u64, woken: &[Arc<Queue>], now: i64) {
        self.log_written(end);
        woken.iter().for_each(|queue| self.wake(queue, now));
    }

    /// The log is written up to `end`: has the disk and the slaves follow.
    pub(crate) fn log_written(&self, end: u64) {
        if self.store.visible() < end {
            self.shell.sync_wanted();
        } else {
            self.log_grew();
        }
    }

    /// [`Broker::append`] for a request, which waits for its turn no longer than a send.
    pub(crate) fn append_for_request(&self, batch: &mut Batch, now: i64) -> Result<u64, Refusal> {
        let config = self.config();
        self.admit_send(&config, now, 0)?;
        let patience = self.send_patience(&config, now);
        match self.store.append_within(batch, now, patience.duration()) {
            Ok((end, woken)) => {
                self.appended(end, &woken, now);
                Ok(end)
            }
            Err(AppendError::Busy) => Err(self.refuse_late_send(&patience)),
            Err(error) => Err(Refusal::new(codes::SYSTEM_ERROR, error.to_string())),
        }
    }

    /// Has the disk confirm what is written, and answers who waited for it. Blocks; call it from a thread of its own.
    pub fn sync(&self, now: i64) -> Result<(), AppendError> {
        let woken = self.store.sync()?;
        self.log_grew();
        self.answer_waiting(now);
        woken.iter().for_each(|queue| self.wake(queue, now));
        Ok(())
    }

    /// Tries the pulls and pops again that wait for messages of a queue.
    pub fn wake(&self, queue: &Queue, now: i64) {
        for held in self.holds.take(queue) {
            pull::retry(self, held, now);
        }
        pop::wake(self, &queue.topic, queue.id, now);
    }

    /// Does what is due at `now`: waiting pulls and sends whose time is over, delayed and timer messages, silent clients.
    /// Call it every 100 ms or sooner; it waits for no disk. `true` where delayed or timer messages were delivered, as then
    /// the next ones are due soon.
    pub fn tick(&self, now: i64) -> bool {
        for held in self.holds.take_expired(now) {
            pull::retry(self, held, now);
        }
        self.expire_waiting(now);
        self.expire_announcements(now);
        reply::expire(self, now);
        self.expire_asked(now);
        let delivered = self.deliver_delayed(now) | self.deliver_timers(now);
        self.check_transactions(now);
        self.tend_pops(now);
        if due(&self.timers.sample, now, SAMPLE_MS) {
            self.sample(now);
        }
        if due(&self.timers.housekeeping, now, HOUSEKEEPING_MS) {
            client_handlers::expire(self, now);
            self.locks.expire(now, self.config().rebalance_lock_max_live_time);
            self.look_for_old_timers(now);
        }
        delivered
    }

    fn deliver_delayed(&self, now: i64) -> bool {
        if self.store.rebuilding().is_some() || self.is_slave() {
            return false;
        }
        let mut any = false;
        for level in 1..=self.schedule.levels() {
            loop {
                let mut batch = Batch::default();
                let delivered = match self.schedule.due(&self.store, level, now, &mut batch) {
                    Ok(Some(delivered)) => delivered,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!("delay level {level} can't be read and is tried again: {error}");
                        break;
                    }
                };
                match self.append(&mut batch, now) {
                    Ok(end) => {
                        self.schedule.delivered(level, delivered, end);
                        any = true;
                    }
                    Err(error) => {
                        tracing::error!("messages of delay level {level} can't be delivered and are tried again: {error}");
                        break;
                    }
                }
            }
        }
        any
    }

    /// Stops in good order; nothing may be handled after it.
    pub fn close(&self, now: i64) -> io::Result<()> {
        if self.store.rebuilding().is_none() {
            self.store.sync().map_err(io::Error::other)?;
        }
        self.commit_revive_offsets();
        self.save_tables(now)?;
        self.wheel.close(&self.store, &self.config(), now)?;
        self.store.close()
    }

    /// The topics as name servers are told of them, cut to what the broker's permission allows.
    pub fn registration(&self) -> Bytes {
        let (data_version, mut topic_config_table) = self.topics.all();
        let allowed = self.config().broker_permission;
        for topic in topic_config_table.values_mut() {
            topic.perm &= allowed | protocol::sys_flag::perm::INHERIT;
        }
        let body = protocol::bodies::RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: protocol::bodies::TopicTable { data_version, topic_config_table },
        };
        fastjson::to_vec(&body).into()
    }
}

impl Service for Broker {
    fn frames(
        &self,
        now: i64,
        connection: &Arc<Connection>,
        frames: &mut Vec<Frame>,
        out: &mut BytesMut,
    ) -> Result<(), HeaderError> {
        let mut sends = self.spare_sends.lock().pop().unwrap_or_default();
        let mut result = Ok(());
        let mut handled = 0;
        while let Some(frame) = frames.get(handled).filter(|_| out.len() < ENOUGH_BYTES) {
            handled += 1;
            let header = match Header::decode(frame) {
                Ok(header) => header,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            if header.is_response() {
                self.answered(connection, &header, &frame.body);
                reply::taken(self, now, connection, &header);
                continue;
            }
            let mut call = Call { now, connection, header: &header, body: &frame.body, serialization: frame.serialization, out };
            self.dispatch(&mut call, &mut sends);
        }
        sends.complete(self, now, out);
        self.spare_sends.lock().push(sends);
        frames.drain(..handled);
        result
    }

    fn closed(&self, _now: i64, connection: &Connection) {
        client_handlers::connection_closed(self, connection);
        reply::connection_closed(self, connection);
        self.forget_asked(connection.id);
        pop::forget(self, connection.id);
    }
}

impl Broker {
    fn dispatch(&self, call: &mut Call<'_>, sends: &mut Sends) {
        let header = call.header;
        let sent = match header.code {
            SendMessageV2::CODE => {
                header.read::<SendMessageV2>().map_err(Refusal::from).and_then(|r| sends.accept(self, call, &r.into()))
            }
            SendMessage::CODE => header.read::<SendMessage>().map_err(Refusal::from).and_then(|r| sends.accept(self, call, &r)),
            SendBatchMessage::CODE => {
                header.read::<SendBatchMessage>().map_err(Refusal::from).and_then(|r| sends.accept_batch(self, call, &r.into()))
            }
            EndTransaction::CODE | AckMessage::CODE | BatchAckMessage::CODE => {
                if let Err(refusal) = self.add_to(sends, call) {
                    call.refuse(&refusal);
                }
                return;
            }
            _ => {
                // Whoever asks sees what was sent before on the same connection.
                sends.complete(self, call.now, call.out);
                if let Err(refusal) = self.dispatch_other(call) {
                    call.refuse(&refusal);
                }
                return;
            }
        };
        if let Err(refusal) = sent {
            send::refuse(self, call, &refusal);
        }
    }

    /// Requests whose records are appended, and which are answered, with the sends of the same read.
    fn add_to(&self, sends: &mut Sends, call: &mut Call<'_>) -> Handled {
        match call.header.code {
            EndTransaction::CODE => {
                if let Some(ended) = transaction::end_transaction(self, call, sends.batch(), call.header.read()?)? {
                    sends.end(call.park(), ended);
                }
                Ok(())
            }
            BatchAckMessage::CODE => pop::accept_batch(self, call, &mut sends.acks),
            _ => pop::accept(self, call, &mut sends.acks, &call.header.read()?),
        }
    }

    /// Requests whose answers have fields even where they are refused.
    fn dispatch_pop(&self, call: &mut Call<'_>) -> Handled {
        let header = call.header;
        let read = |e: FieldError| Refusal::from(e);
        match header.code {
            ChangeInvisibleTime::CODE => {
                let done = header.read().map_err(read).and_then(|r| pop::change_invisible_time(self, call, r));
                pop::refuse(call, done, &ChangeInvisibleTimeReply { pop_time: 0, invisible_time: 0, revive_qid: 0 })
            }
            Notification::CODE => {
                let done = header.read().map_err(read).and_then(|r| pop::notification(self, call, r));
                pop::refuse(call, done, &NotificationReply { has_msg: false, polling_full: false })
            }
            PollingInfo::CODE => {
                let done = header.read().map_err(read).and_then(|r| pop::polling_info(self, call, r));
                pop::refuse(call, done, &PollingInfoReply { polling_num: 0 })
            }
            PeekMessage::CODE => {
                let done = header.read().map_err(read).and_then(|r| pop::peek_message(self, call, r));
                pop::refuse(call, done, &pop::NO_MESSAGES)
            }
            _ => {
                let done = header.read().map_err(read).and_then(|r| pop::pop_message(self, call, r));
                pop::refuse(call, done, &pop::NO_MESSAGES)
            }
        }
    }

    fn dispatch_other(&self, call: &mut Call<'_>) -> Handled {
        match call.header.code {
            PullMessage::CODE => pull::pull_message(self, call, call.header.read()?),
            PopMessage::CODE | PeekMessage::CODE | ChangeInvisibleTime::CODE | Notification::CODE | PollingInfo::CODE => {
                self.dispatch_pop(call)
            }
            QueryAssignment::CODE => pop::query_assignment(self, call),
            SetMessageRequestMode::CODE => pop::set_mode(self, call),
            GetAllMessageRequestMode::CODE => pop::get_all_modes(self, call),
            LitePullMessage::CODE => pull::lite_pull_message(self, call, call.header.read()?),
            SendReplyMessageV2::CODE => {
                reply::send_reply_message(self, call, &call.header.read::<SendReplyMessageV2>()?.into());
                Ok(())
            }
            SendReplyMessage::CODE => {
                reply::send_reply_message(self, call, &call.header.read::<SendReplyMessage>()?.into());
                Ok(())
            }
            ConsumerSendMsgBack::CODE => send_back::consumer_send_msg_back(self, call, call.header.read()?),
            QueryConsumerOffset::CODE => consume::query_consumer_offset(self, call, call.header.read()?),
            UpdateConsumerOffset::CODE => consume::update_consumer_offset(self, call, call.header.read()?),
            GetMaxOffset::CODE => consume::get_max_offset(self, call, call.header.read()?),
            GetMinOffset::CODE => consume::get_min_offset(self, call, call.header.read()?),
            SearchOffset::CODE => consume::search_offset(self, call, call.header.read()?),
            GetEarliestStoreTime::CODE => consume::get_earliest_store_time(self, call, call.header.read()?),
            QueryMessage::CODE => consume::query_message(self, call, call.header.read()?),
            ViewMessage::CODE => consume::view_message(self, call, call.header.read()?),
            GetAllConsumerOffset::CODE => consume::get_all_consumer_offset(self, call),
            GetAllDelayOffset::CODE => consume::get_all_delay_offset(self, call),
            Heartbeat::CODE => client_handlers::heartbeat(self, call),
            CheckClientConfig::CODE => client_handlers::check_client_config(self, call),
            UnregisterClient::CODE => client_handlers::unregister_client(self, call, call.header.read()?),
            RecallMessage::CODE => recall::recall_message(self, call, call.header.read()?),
            GetTimerCheckPoint::CODE => admin::get_timer_check_point(self, call),
            GetTimerMetrics::CODE => admin::get_timer_metrics(self, call),
            GetConsumerListByGroup::CODE => client_handlers::get_consumer_list_by_group(self, call, call.header.read()?),
            GetConsumerConnectionList::CODE => client_handlers::get_consumer_connection_list(self, call, call.header.read()?),
            GetProducerConnectionList::CODE => client_handlers::get_producer_connection_list(self, call, call.header.read()?),
            GetAllProducerInfo::CODE => client_handlers::get_all_producer_info(self, call),
            LockBatchMq::CODE => client_handlers::lock_batch(self, call),
            UnlockBatchMq::CODE => client_handlers::unlock_batch(self, call),
            CreateTopic::CODE => topics::create_topic(self, call, call.header.read()?),
            DeleteTopicInBroker::CODE => topics::delete_topic(self, call, call.header.read()?),
            GetAllTopicConfig::CODE => topics::get_all_topic_config(self, call),
            GetTopicConfig::CODE => topics::get_topic_config(self, call, call.header.read()?),
            GetTopicStats::CODE => topics::get_topic_stats(self, call, call.header.read()?),
            GetSystemTopicListFromBroker::CODE => topics::get_system_topics(self, call),
            UpdateSubscriptionGroup::CODE => topics::update_subscription_group(self, call),
            DeleteSubscriptionGroup::CODE => topics::delete_subscription_group(self, call, call.header.read()?),
            GetAllSubscriptionGroup::CODE => topics::get_all_subscription_group(self, call),
            GetSubscriptionGroupConfig::CODE => topics::get_subscription_group_config(self, call, call.header.read()?),
            GetConsumeStats::CODE => topics::get_consume_stats(self, call, call.header.read()?),
            QueryTopicConsumeByWho::CODE => topics::query_topic_consume_by_who(self, call, call.header.read()?),
            QueryTopicsByConsumer::CODE => topics::query_topics_by_consumer(self, call, call.header.read()?),
            GetBrokerRuntimeInfo::CODE => admin::get_broker_runtime_info(self, call),
            GetBrokerHaStatus::CODE => ha::get_broker_ha_status(self, call),
            GetBrokerEpochCache::CODE => epochs::get_broker_epoch_cache(self, call),
            PromoteSlave::CODE => epochs::promote_slave(self, call, call.header.read()?),
            ExchangeBrokerHaInfo::CODE => ha::exchange_ha_info(self, call, call.header.read()?),
            GetBrokerConfig::CODE => admin::get_broker_config(self, call),
            UpdateBrokerConfig::CODE => admin::update_broker_config(self, call),
            _ => self.dispatch_tool(call),
        }
    }

    /// What tools ask.
    fn dispatch_tool(&self, call: &mut Call<'_>) -> Handled {
        match call.header.code {
            CreateTopicList::CODE => topics::create_topics(self, call),
            UpdateSubscriptionGroupList::CODE => topics::update_subscription_groups(self, call),
            UpdateAndGetGroupForbidden::CODE => topics::group_forbidden(self, call, call.header.read()?),
            GetBrokerConsumeStats::CODE => topics::get_broker_consume_stats(self, call, call.header.read()?),
            GetAllDelayOffset::CODE => consume::get_all_delay_offset(self, call),
            ResetOffset::CODE => reset::reset_offset(self, call, call.header.read()?),
            CloneGroupOffset::CODE => reset::clone_group_offset(self, call, call.header.read()?),
            QueryCorrectionOffset::CODE => reset::query_correction_offset(self, call, call.header.read()?),
            GetConsumerStatus::CODE => asked::get_consumer_status(self, call, call.header.read()?),
            GetConsumerRunningInfo::CODE => asked::get_consumer_running_info(self, call, call.header.read()?),
            ConsumeMessageDirectly::CODE => asked::consume_message_directly(self, call, call.header.read()?),
            QueryConsumeTimeSpan::CODE => inspect::query_consume_time_span(self, call, call.header.read()?),
            QuerySubscriptionByConsumer::CODE => inspect::query_subscription_by_consumer(self, call, call.header.read()?),
            QueryConsumeQueue::CODE => inspect::query_consume_queue(self, call, call.header.read()?),
            ViewBrokerStatsData::CODE => inspect::view_broker_stats_data(self, call, call.header.read()?),
            CleanExpiredConsumeQueue::CODE => inspect::clean_expired_consume_queue(self, call),
            DeleteExpiredCommitLog::CODE => inspect::delete_expired_commit_log(self, call),
            CleanUnusedTopic::CODE => inspect::clean_unused_topic(self, call),
            ResumeCheckHalfMessage::CODE => transaction::resume_check(self, call, call.header.read()?),
            _ => {
                admin::unsupported(self, call);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
