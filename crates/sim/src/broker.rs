//! A broker under a workload and crashes, with an oracle that knows what has to be delivered, when at the earliest, how
//! often and in what order.
//!
//! One seed is one broker's life on the simulated disk: producers send plain, delayed and half messages, and end or forget
//! their transactions; consumers read, send back what fails, and consume in order under queue locks; the clock moves in
//! steps, and the machine goes down at some change of the disk. The tables of `config/` are replaced in one synced step
//! (`stdx::atomic_file`), so that they are as the broker left them.

mod oracle;
mod ordered;
pub(crate) mod popped;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, BrokerConfig, NoShell};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use protocol::bodies::{HeartbeatData, ProducerData};
use protocol::exchange::{CollectingOutbox, Connection, Service};
use protocol::header::Outgoing;
use protocol::record;
use protocol::requests::*;
use protocol::sys_flag::message::{TRANSACTION_COMMIT, TRANSACTION_ROLLBACK};
use protocol::sys_flag::pull;
use protocol::{Frame, Header, Serialization, codes, fastjson, message_id, names, properties};

use self::oracle::{Oracle, Outcome, Plan};
use self::ordered::Ordered;
use self::popped::Popping;
use crate::Life;
use crate::disk::{Crash, SimDisk};

pub(crate) const TOPIC: &str = "T";
pub(crate) const GROUP: &str = "g";
pub(crate) const PRODUCERS: &str = "p";
pub(crate) const QUEUES: i32 = 2;
/// The delays of `LEVELS`, in ms.
const DELAYS: [i64; 6] = [1000, 5000, 10_000, 30_000, 60_000, 120_000];
const LEVELS: &str = "1s 5s 10s 30s 1m 2m";
/// How often a message that fails comes again at the most.
const MOST_RETRIES: i32 = 3;
/// Crashes in one life, and changes of the disk between two of them at the most.
const CRASHES: usize = 3;
const MOST_CHANGES: u64 = 1500;
/// `syncFlushTimeout`: what is no send is answered alike when it is over.
const SYNC_TIMEOUT_MS: i64 = 5000;
/// Rounds after the last crash in which everything that is due has to come, and ms between two.
const LAST_ROUNDS: usize = 40;
const ROUND_MS: i64 = 31_000;

/// What a request was about whose answer comes later.
#[derive(Clone, Debug)]
enum Asked {
    Send(u64),
    Half(u64),
    /// The outcome of a transaction, whether it said one, and what the request wrote at the most.
    End(u64, bool, Written),
    /// A message that was sent back so often.
    Back(u64, i32, Written),
    Popped(popped::Request),
}

/// Up to where the log was written when a request had been handled, and when.
#[derive(Clone, Copy, Debug)]
struct Written {
    end: u64,
    at: i64,
}

/// An answer: its code, its remark, its fields by name, its body.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) remark: String,
    fields: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Result<&str> {
        self.fields.get(name).map(String::as_str).with_context(|| format!("no {name} in an answer {}", self.code))
    }

    pub(crate) fn number(&self, name: &str) -> Result<i64> {
        Ok(self.field(name)?.parse()?)
    }
}

/// Where a half message is, as its producer knows it.
#[derive(Clone, Copy)]
pub(crate) struct Half {
    pub(crate) queue_offset: i64,
    pub(crate) commit_log_offset: i64,
}

struct World {
    rng: Rng,
    disk: Arc<SimDisk>,
    directory: PathBuf,
    sync_flush: bool,
    now: i64,
    oracle: Oracle,
    ordered: Ordered,
    popping: Popping,
    /// Half messages whose producers have not said how they end.
    open: BTreeMap<u64, Half>,
    /// Requests without an answer, by opaque.
    asked: BTreeMap<i32, Asked>,
    next_opaque: i32,
    client: Arc<Connection>,
    pushed: Arc<CollectingOutbox>,
    life: Life,
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10911))
}

fn connect(id: u64) -> (Arc<Connection>, Arc<CollectingOutbox>) {
    let pushed = Arc::new(CollectingOutbox::default());
    (Arc::new(Connection::new(id, address(), address(), pushed.clone())), pushed)
}

/// Runs one life. An error says what was violated; the same seed gives the same life.
pub fn run(seed: u64, base: &Path) -> Result<Life> {
    let mut rng = Rng::with_seed(seed);
    let directory = base.join("0");
    std::fs::create_dir_all(&directory)?;
    let (client, pushed) = connect(1);
    let mut world = World {
        disk: SimDisk::load(&directory, rng.u64(..))?,
        sync_flush: rng.bool(),
        rng,
        directory,
        now: 1_700_000_000_000,
        oracle: Oracle::default(),
        ordered: Ordered::default(),
        popping: Popping::default(),
        open: BTreeMap::new(),
        asked: BTreeMap::new(),
        next_opaque: 1,
        client,
        pushed,
        life: Life::default(),
    };
    let kind = if world.sync_flush { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
    for crash in 1..=CRASHES {
        world.live().with_context(|| format!("before crash {crash} ({kind})"))?;
        world.crash(&base.join(crash.to_string()))?;
    }
    world.last_days().with_context(|| format!("after the last crash ({kind})"))?;
    Ok(world.life)
}

impl World {
    fn config(&self) -> Result<BrokerConfig> {
        let flush = if self.sync_flush { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
        let text = format!(
            "mappedFileSizeCommitLog=65536\nbrokerName=b\nmessageDelayLevel={LEVELS}\nflushDiskType={flush}\n\
             storePathRootDir={}\ntransactionCheckMax=1000000\nfileReservedTime=100000\nmappedFileSizeConsumeQueue=2000\n\
             maxHashSlotNum=100\nmaxIndexNum=400\nrecallMessageEnable=true\n",
            self.directory.display()
        );
        let mut config = BrokerConfig::default();
        let entries = stdx::properties::parse(text.as_bytes()).map_err(|e| anyhow::anyhow!("{e}"))?;
        let report = stdx::config::Table::apply(&mut config, Path::new("sim"), &entries);
        ensure!(report.errors.is_empty(), "{:?}", report.errors);
        config.resolve(&self.directory, "host", "127.0.0.1")?;
        Ok(config)
    }

    /// Opens the broker; `None` where the machine went down meanwhile.
    fn open(&mut self) -> Result<Option<Broker>> {
        let disk = store::disk::Disk::watched(self.disk.clone());
        let broker = match Broker::open_on(disk, self.config()?, address(), Arc::new(NoShell::default()), self.now) {
            Ok(broker) => broker,
            Err(_) if self.disk.crashed() => return Ok(None),
            Err(error) => bail!("the broker does not open: {error}"),
        };
        for topic in [TOPIC, ordered::TOPIC, popped::TOPIC] {
            self.call(&broker, &create_request(topic), &[])?;
        }
        Ok(Some(broker))
    }

    /// One run of the broker, from its start to a crash.
    fn live(&mut self) -> Result<()> {
        self.disk.crash_after(self.rng.u64(1..=MOST_CHANGES));
        let Some(mut broker) = self.open()? else { return Ok(()) };
        self.ordered.start(&broker)?;
        while !self.disk.crashed() {
            self.step(&broker)?;
            self.collect(&broker)?;
            if self.rng.u16(..) < 150 {
                // What is not answered by now never is.
                if broker.close(self.now).is_err() {
                    continue;
                }
                drop(broker);
                self.asked.clear();
                self.ordered.forget_locks();
                let Some(again) = self.open()? else { return Ok(()) };
                self.ordered.start(&again)?;
                broker = again;
            }
        }
        self.oracle.persisted = self.oracle.persisted.max(broker.store.written_and_persisted().1);
        Ok(())
    }

    fn crash(&mut self, to: &Path) -> Result<()> {
        let crash = if self.rng.u8(..) < 90 { Crash::Kill } else { Crash::PowerCut };
        tracing::debug!("{crash:?}, {} persisted", self.oracle.persisted);
        std::fs::create_dir_all(to)?;
        self.disk.image(crash, to)?;
        copy_tables(&self.directory, to)?;
        std::fs::remove_dir_all(&self.directory)?;
        self.directory = to.to_owned();
        self.disk = SimDisk::load(to, self.rng.u64(..))?;
        self.oracle.crash(crash);
        self.popping.crash(crash, self.oracle.persisted, self.now);
        self.asked.clear();
        self.pushed.take();
        // The place of a half message that is gone may be another's.
        self.open.retain(|id, _| self.oracle.is_certain(*id));
        self.ordered.forget_locks();
        self.life.crashes += 1;
        Ok(())
    }

    fn step(&mut self, broker: &Broker) -> Result<()> {
        let dice = self.rng.u8(0..100);
        tracing::debug!("{} step {dice}", self.now);
        match dice {
            0..18 => self.send(broker)?,
            18..28 => self.send_half(broker)?,
            28..36 => self.end_one(broker)?,
            36..46 => self.look(broker)?,
            46..60 => self.pop_step(broker)?,
            60..72 => self.ordered_step(broker)?,
            72..82 => drop(broker.sync(self.now)),
            82..86 => drop(broker.tend_store(self.now)),
            _ => {
                self.now += if self.rng.u8(..) < 40 { self.rng.i64(0..60_000) } else { self.rng.i64(0..2000) };
                self.heartbeat(broker)?;
                broker.tick(self.now);
                if !self.disk.crashed() {
                    self.popping.ticked = self.now;
                }
            }
        }
        Ok(())
    }

    /// Everything that is due comes, and nothing else.
    fn last_days(&mut self) -> Result<()> {
        let broker = self.open()?.context("the last start failed")?;
        self.ordered.start(&broker)?;
        for _ in 0..LAST_ROUNDS {
            self.now += ROUND_MS;
            self.heartbeat(&broker)?;
            broker.tick(self.now);
            // Questions go out when the disk has what they are about.
            broker.sync(self.now)?;
            broker.tick(self.now);
            self.collect(&broker)?;
            broker.sync(self.now)?;
            self.look(&broker)?;
            broker.sync(self.now)?;
            self.pop_all(&broker)?;
        }
        self.oracle.verify()?;
        self.popping.verify()?;
        self.finish_ordered(&broker)
    }

    fn exchange<'h, R: Request<'h>>(&mut self, broker: &Broker, request: &R, body: &[u8]) -> Result<(i32, Option<Answer>)> {
        let opaque = self.next_opaque;
        self.next_opaque += 1;
        let frame = frame(request, body, opaque)?;
        let mut out = BytesMut::new();
        broker.frames(self.now, &self.client, &mut vec![frame], &mut out)?;
        let answer = protocol::frame::take(&mut out, usize::MAX)?;
        Ok((opaque, answer.map(|frame| read(&frame)).transpose()?.map(|(_, answer)| answer)))
    }

    /// The answer to a request that is answered at once.
    fn call<'h, R: Request<'h>>(&mut self, broker: &Broker, request: &R, body: &[u8]) -> Result<Answer> {
        self.exchange(broker, request, body)?.1.with_context(|| format!("{} is not answered", R::NAME))
    }

    /// Sends a plain or a delayed message, which may be one that fails.
    fn send(&mut self, broker: &Broker) -> Result<()> {
        let fails = if self.rng.u8(..) < 60 { self.rng.i32(1..=MOST_RETRIES + 1) } else { 0 };
        let level = if self.rng.u8(..) < 100 { self.rng.usize(1..=DELAYS.len()) } else { 0 };
        let due = self.now + level.checked_sub(1).map_or(0, |nth| DELAYS[nth]);
        let id = self.oracle.new_message(Plan { outcome: Outcome::Seen, fails });
        self.oracle.expect(TOPIC, id, 0, due);
        let properties = if level > 0 { format!("DELAY\u{1}{level}\u{2}") } else { String::new() };
        let queue_id = self.rng.i32(0..QUEUES);
        let body = self.body(id);
        let (opaque, answer) = self.exchange(broker, &send_request(TOPIC, queue_id, &properties, self.now), body.as_bytes())?;
        self.asked.insert(opaque, Asked::Send(id));
        self.life.messages += 1;
        answer.map_or(Ok(()), |answer| self.answered(opaque, &answer))
    }

    /// The id, in some length.
    fn body(&mut self, id: u64) -> String {
        format!("{id:0width$}", width = self.rng.usize(8..400))
    }

    fn send_half(&mut self, broker: &Broker) -> Result<()> {
        let outcome =
            *self.rng.choice(&[Outcome::Seen, Outcome::Seen, Outcome::RolledBack, Outcome::Never]).unwrap_or(&Outcome::Seen);
        let id = self.oracle.new_message(Plan { outcome, fails: 0 });
        if outcome == Outcome::Seen {
            self.oracle.expect(TOPIC, id, 0, self.now);
        }
        let properties = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{PRODUCERS}\u{2}");
        let queue_id = self.rng.i32(0..QUEUES);
        let body = self.body(id);
        let (opaque, answer) = self.exchange(broker, &send_request(TOPIC, queue_id, &properties, self.now), body.as_bytes())?;
        self.asked.insert(opaque, Asked::Half(id));
        self.life.messages += 1;
        answer.map_or(Ok(()), |answer| self.answered(opaque, &answer))
    }

    /// The answer to a send: from here on the message has to be delivered.
    fn answered(&mut self, opaque: i32, answer: &Answer) -> Result<()> {
        let Some(asked) = self.asked.remove(&opaque) else { return Ok(()) };
        let id = match asked {
            Asked::Popped(request) => return self.popped(request, answer),
            Asked::End(id, decided, written) => return self.ended(id, decided, written, answer),
            Asked::Send(id) | Asked::Half(id) | Asked::Back(id, ..) => id,
        };
        if !matches!(answer.code, codes::SUCCESS | codes::FLUSH_DISK_TIMEOUT) {
            ensure!(self.disk.crashed(), "{asked:?} is refused: {} {}", answer.code, answer.remark);
            return Ok(());
        }
        if let Asked::Back(_, times, written) = asked {
            self.promised(written);
            self.oracle.acknowledged(back_to(times), id, times, written.end - 1);
            return Ok(());
        }
        let (_, physical) = message_id::parse_offset_id(answer.field("msgId")?).context("a message id")?;
        self.oracle.acknowledged(TOPIC, id, 0, physical as u64);
        if self.sync_flush && answer.code == codes::SUCCESS {
            // Whatever the broker thinks of its disk, this was promised to be on it.
            self.oracle.persisted = self.oracle.persisted.max(physical as u64 + 1);
        }
        if let Asked::Half(_) = asked {
            self.open.insert(id, Half { queue_offset: answer.number("queueOffset")?, commit_log_offset: physical });
        }
        Ok(())
    }

    /// A producer says how one of its transactions ended, as it was to.
    fn end_one(&mut self, broker: &Broker) -> Result<()> {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        let Some(id) = self.rng.choice(&ids).copied() else { return Ok(()) };
        let Some(half) = self.open.remove(&id) else { return Ok(()) };
        // Some producers forget, and are asked.
        if self.rng.u8(..) < 160 { self.end(broker, id, half, false) } else { Ok(()) }
    }

    fn end(&mut self, broker: &Broker, id: u64, half: Half, from_check: bool) -> Result<()> {
        let outcome = match self.oracle.plan(id)?.outcome {
            Outcome::Seen => TRANSACTION_COMMIT,
            Outcome::RolledBack => TRANSACTION_ROLLBACK,
            Outcome::Never => 0,
        };
        let (opaque, answer) = self.exchange(broker, &end_request(half, outcome, from_check), &[])?;
        self.asked.insert(opaque, Asked::End(id, outcome != 0, self.written(broker)));
        answer.map_or(Ok(()), |answer| self.answered(opaque, &answer))
    }

    fn written(&self, broker: &Broker) -> Written {
        Written { end: broker.store.written_and_persisted().0, at: self.now }
    }

    /// What an answer said is done has to outlast a crash, where the broker waits for its disk and had the time to.
    fn promised(&mut self, written: Written) {
        if self.sync_flush && self.now < written.at + SYNC_TIMEOUT_MS {
            self.oracle.persisted = self.oracle.persisted.max(written.end);
        }
    }

    fn ended(&mut self, id: u64, decided: bool, written: Written, answer: &Answer) -> Result<()> {
        tracing::debug!("ended {id}: {} {}", answer.code, answer.remark);
        // It may have been asked about meanwhile; and what the disk has not confirmed can't be read yet.
        let benign = ["the transaction is committed or rolled back already", "Find prepared transaction message failed"];
        ensure!(
            answer.code == codes::SUCCESS || benign.contains(&answer.remark.as_str()) || self.disk.crashed(),
            "the outcome of {id} is refused: {} {}",
            answer.code,
            answer.remark
        );
        if answer.code == codes::SUCCESS && decided {
            self.promised(written);
            self.oracle.ended(id, written.end);
        }
        Ok(())
    }

    /// Takes what the broker pushed: late answers, and questions about half messages.
    fn collect(&mut self, broker: &Broker) -> Result<()> {
        let frames = self.pushed.take();
        for frame in &frames {
            if Header::decode(frame)?.code == CheckTransactionState::CODE {
                self.oracle.asked_about(id_of(&frame.body)?)?;
            }
        }
        for frame in frames {
            let header = Header::decode(&frame)?;
            if header.is_response() {
                let (opaque, answer) = read(&frame)?;
                self.answered(opaque, &answer)?;
            } else if header.code == CheckTransactionState::CODE {
                let question: CheckTransactionState<'_> = header.read()?;
                let id = id_of(&frame.body)?;
                let half = Half { queue_offset: question.tran_state_table_offset, commit_log_offset: question.commit_log_offset };
                self.open.remove(&id);
                if self.rng.u8(..) < 230 {
                    self.end(broker, id, half, true)?;
                }
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, broker: &Broker) -> Result<()> {
        let answer = self.call(broker, &Heartbeat {}, &heartbeat_body())?;
        ensure!(answer.code == codes::SUCCESS, "a heartbeat is refused: {}", answer.remark);
        Ok(())
    }

    /// The messages of a queue from an offset on.
    fn pull(&mut self, broker: &Broker, topic: &str, queue_id: i32, offset: i64) -> Result<Answer> {
        self.call(broker, &pull_request(topic, queue_id, offset), &[])
    }

    /// A consumer reads on in all topics; what fails it sends back.
    fn look(&mut self, broker: &Broker) -> Result<()> {
        for topic in [TOPIC.to_owned(), format!("%RETRY%{GROUP}"), format!("%DLQ%{GROUP}")] {
            let queues = broker.topics.get(&topic).map_or(0, |topic| topic.read_queue_nums);
            for queue_id in 0..queues {
                loop {
                    let offset = self.oracle.next(&topic, queue_id);
                    let answer = self.pull(broker, &topic, queue_id, offset)?;
                    if answer.code != codes::SUCCESS {
                        break;
                    }
                    for (nth, message) in record::decode_all(&answer.body).enumerate() {
                        let message = message?;
                        ensure!(
                            message.queue_offset == offset + nth as i64,
                            "GAP: {topic}/{queue_id} has {} after {offset} and {nth} more",
                            message.queue_offset
                        );
                        let id = std::str::from_utf8(message.body)?.parse()?;
                        self.oracle.seen(&topic, queue_id, id, message.reconsume_times, self.now)?;
                        self.consume(broker, &topic, id, &message)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn consume(&mut self, broker: &Broker, topic: &str, id: u64, message: &record::Record<'_>) -> Result<()> {
        let times = message.reconsume_times;
        let done = topic.starts_with("%DLQ%") || self.oracle.plan(id)?.fails <= times || self.oracle.was_sent_back(id, times + 1);
        if done {
            return Ok(());
        }
        if times > 0 {
            let origin = properties::get(message.properties, properties::RETRY_TOPIC);
            ensure!(origin == Some(TOPIC), "message {id} comes again from {origin:?}");
        }
        let level = (3 + times as usize).min(DELAYS.len());
        let due = if times >= MOST_RETRIES { self.now } else { self.now + DELAYS[level - 1] };
        self.oracle.expect(back_to(times + 1), id, times + 1, due);
        let request = ConsumerSendMsgBack {
            offset: message.physical_offset,
            group: GROUP,
            delay_level: 0,
            origin_msg_id: None,
            origin_topic: Some(TOPIC),
            unit_mode: None,
            max_reconsume_times: Some(MOST_RETRIES),
        };
        let (opaque, answer) = self.exchange(broker, &request, &[])?;
        self.asked.insert(opaque, Asked::Back(id, times + 1, self.written(broker)));
        answer.map_or(Ok(()), |answer| self.answered(opaque, &answer))
    }
}

/// Where a message goes that was sent back so often.
fn back_to(times: i32) -> &'static str {
    if times > MOST_RETRIES { "%DLQ%g" } else { "%RETRY%g" }
}

/// A topic with [`QUEUES`] queues.
pub(crate) fn create_request(topic: &str) -> CreateTopic<'_> {
    CreateTopic {
        topic,
        default_topic: names::DEFAULT_TOPIC,
        read_queue_nums: QUEUES,
        write_queue_nums: QUEUES,
        perm: 6,
        topic_filter_type: "SINGLE_TAG",
        ..CreateTopic::default()
    }
}

pub(crate) fn send_request<'a>(topic: &'a str, queue_id: i32, properties: &'a str, now: i64) -> SendMessageV2<'a> {
    SendMessageV2 {
        producer_group: PRODUCERS,
        topic,
        default_topic: names::DEFAULT_TOPIC,
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: now,
        properties: Some(properties),
        ..SendMessageV2::default()
    }
}

/// How the transaction of a half message ended.
pub(crate) fn end_request(half: Half, outcome: i32, from_check: bool) -> EndTransaction<'static> {
    EndTransaction {
        topic: Some(TOPIC),
        producer_group: Some(PRODUCERS),
        tran_state_table_offset: half.queue_offset,
        commit_log_offset: half.commit_log_offset,
        commit_or_rollback: outcome,
        from_transaction_check: Some(from_check),
        msg_id: "of the producer",
        transaction_id: None,
    }
}

/// What the producers' heartbeat says.
pub(crate) fn heartbeat_body() -> Vec<u8> {
    let producer_data_set = vec![ProducerData { group_name: PRODUCERS.into() }];
    fastjson::to_vec(&HeartbeatData { client_id: "c".into(), producer_data_set, ..HeartbeatData::default() })
}

/// The messages of a queue from an offset on; it does not wait.
pub(crate) fn pull_request(topic: &str, queue_id: i32, queue_offset: i64) -> PullMessage<'_> {
    PullMessage {
        consumer_group: GROUP,
        topic,
        queue_id,
        queue_offset,
        max_msg_nums: 32,
        sys_flag: pull::SUBSCRIPTION,
        subscription: Some("*"),
        ..PullMessage::default()
    }
}

pub(crate) fn frame<'h, R: Request<'h>>(request: &R, body: &[u8], opaque: i32) -> Result<Frame> {
    let mut bytes = BytesMut::new();
    // POP's codes fit a JSON header alone.
    let serialization = if i16::try_from(R::CODE).is_ok() { Serialization::RocketMq } else { Serialization::Json };
    let head = Outgoing { serialization, code: R::CODE, opaque, flag: 0, remark: None, extra: &[] };
    head.write(request, body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    protocol::frame::take(&mut bytes, usize::MAX)?.context("a whole frame")
}

/// The tables of `config/`, as a broker left them, on the disk that a crash leaves.
pub(crate) fn copy_tables(from: &Path, to: &Path) -> Result<()> {
    let (from, config) = (from.join("config"), to.join("config"));
    if config.exists() {
        std::fs::remove_dir_all(&config)?;
    }
    std::fs::create_dir_all(&config)?;
    for entry in std::fs::read_dir(&from).into_iter().flatten() {
        let entry = entry?;
        std::fs::copy(entry.path(), config.join(entry.file_name()))?;
    }
    Ok(())
}

pub(crate) fn read(frame: &Frame) -> Result<(i32, Answer)> {
    let header = Header::decode(frame)?;
    let fields = header.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let remark = header.remark.clone().unwrap_or_default().into_owned();
    Ok((header.opaque, Answer { code: header.code, remark, fields, body: frame.body.clone() }))
}

/// The message that a record is.
fn id_of(record: &[u8]) -> Result<u64> {
    Ok(std::str::from_utf8(record::decode_checked(record)?.body)?.parse()?)
}
