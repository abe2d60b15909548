//! Connections with requests under way.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::header::Outgoing;
use protocol::requests::{CreateTopic, EndTransaction, PullMessage, PullMessageReply, Request, SendMessageReply, SendMessageV2};
use protocol::sys_flag::message::TRANSACTION_COMMIT;
use protocol::sys_flag::pull as pull_flags;
use protocol::{Header, codes, frame, message_id, record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Options, pop};

/// What one read takes at the most.
const READ_BYTES: usize = 256 * 1024;
/// Latencies over this are shown as this, in µs.
const MAX_LATENCY_US: u64 = 60_000_000;
/// A server that says nothing for so long is given up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the load is made of.
#[derive(Clone, Copy, PartialEq)]
pub enum Work {
    Produce,
    Consume,
    Transaction,
    Pop,
}

/// What a span of the load gave.
pub struct Answers {
    pub messages: u64,
    pub seconds: f64,
    pub latency: Histogram<u64>,
    /// Answers that were no success, by code.
    pub errors: BTreeMap<i32, u64>,
}

impl Answers {
    pub fn new() -> Result<Self> {
        Ok(Self { messages: 0, seconds: 0.0, latency: Histogram::new_with_max(MAX_LATENCY_US, 3)?, errors: BTreeMap::new() })
    }
}

/// One connection to the broker.
pub struct Connection {
    pub stream: TcpStream,
    pub input: BytesMut,
    pub output: BytesMut,
    /// When the requests under way were, or should have been, sent; answers come in any order, so the oldest counts.
    pub under_way: VecDeque<Instant>,
    /// For a consumer: its queue and where it reads.
    pub queue: i32,
    pub offset: i64,
    /// For one that pops: the acknowledgements that are not answered, and its group.
    pub unanswered: usize,
    pub group: u32,
}

/// Connects to the broker, for reading a queue.
pub fn connect(options: &Options, queue: i32) -> Result<Connection> {
    let stream = TcpStream::connect(&options.broker).with_context(|| format!("can't connect to {}", options.broker))?;
    stream.set_nodelay(true)?;
    let (input, output, under_way) = (BytesMut::new(), BytesMut::new(), VecDeque::new());
    Ok(Connection { stream, input, output, under_way, queue, offset: 0, unanswered: 0, group: 0 })
}

impl Connection {
    /// Writes what is to be written and reads what is there, without waiting.
    pub fn transfer(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => self.output.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.input.reserve(READ_BYTES);
        let length = self.input.len();
        self.input.resize(length + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[length..]);
        self.input.truncate(length + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => bail!("the broker closed the connection"),
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Makes the topic of the load, over a connection that still blocks.
pub fn make_topic(options: &Options, connection: &mut Connection) -> Result<()> {
    let request = CreateTopic {
        topic: &options.topic,
        default_topic: "TBW102",
        read_queue_nums: options.queues,
        write_queue_nums: options.queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG",
        ..CreateTopic::default()
    };
    let mut out = BytesMut::new();
    head(options, CreateTopic::CODE, 0).write(&request, 0, &mut out);
    let stream = &mut connection.stream;
    stream.write_all(&out)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut input = BytesMut::new();
    loop {
        if let Some(frame) = frame::take(&mut input, frame::MAX_FRAME_LENGTH)? {
            let header = Header::decode(&frame)?;
            if header.code != codes::SUCCESS {
                bail!("the topic can't be made: {} {}", codes::name(header.code), header.remark.unwrap_or_default());
            }
            return Ok(());
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).context("the broker does not answer")?;
        input.extend_from_slice(&chunk[..count]);
    }
}

/// All connections.
pub struct Load {
    options: Options,
    work: Work,
    connections: Vec<Connection>,
    body: Vec<u8>,
    sent: u64,
    opaque: i32,
}

impl Load {
    /// Connects and makes the topic.
    pub fn open(options: &Options, work: Work) -> Result<Self> {
        let mut connections = Vec::new();
        for nth in 0..options.connections.max(1) {
            connections.push(connect(options, nth as i32 % options.queues)?);
        }
        make_topic(options, &mut connections[0])?;
        let load = Self { options: options.clone(), work, connections, body: vec![b'x'; options.size], sent: 0, opaque: 0 };
        for connection in &load.connections {
            connection.stream.set_nonblocking(true)?;
        }
        Ok(load)
    }

    /// Keeps requests under way for a time.
    pub fn run(&mut self, time: Duration) -> Result<Answers> {
        let mut answers = Answers::new()?;
        let (start, first) = (Instant::now(), self.sent);
        let progress = progress(time);
        let mut heard = start;
        while start.elapsed() < time {
            let now = Instant::now();
            self.fill(start, first, now);
            let before = answers.messages;
            for index in 0..self.connections.len() {
                self.exchange(index, &mut answers)?;
            }
            if answers.messages > before {
                heard = now;
                progress.set_position(start.elapsed().as_millis() as u64);
                progress.set_message(format!("{:.0}/s", answers.messages as f64 / start.elapsed().as_secs_f64()));
            } else {
                anyhow::ensure!(heard.elapsed() < PATIENCE, "the broker has said nothing for {PATIENCE:?}");
                // What answers have led to is to be written first.
                if self.connections.iter().all(|connection| connection.output.is_empty()) {
                    self.wait()?;
                }
            }
        }
        progress.finish_and_clear();
        answers.seconds = start.elapsed().as_secs_f64();
        Ok(answers)
    }

    /// Writes requests as far as connections and the rate allow.
    fn fill(&mut self, start: Instant, first: u64, now: Instant) {
        let due = |n: u64| start + Duration::from_nanos((n - first) * 1_000_000_000 / self.options.rate.max(1));
        for index in 0..self.connections.len() {
            while self.connections[index].under_way.len() < self.options.in_flight {
                let intended = if self.options.rate > 0 { due(self.sent) } else { now };
                if intended > now {
                    return;
                }
                self.opaque = self.opaque.wrapping_add(1);
                let connection = &mut self.connections[index];
                let queue = (self.sent % self.options.queues as u64) as i32;
                let properties: Cow<'_, str> = match self.work {
                    Work::Transaction => HALF.into(),
                    _ if self.options.numbered => format!("n\u{1}{}\u{2}region\u{1}eu\u{2}{PLAIN}", self.sent % 100).into(),
                    _ => PLAIN.into(),
                };
                match self.work {
                    Work::Pop => pop::write_pop(&self.options, connection, self.opaque),
                    Work::Consume => write_pull(&self.options, connection, self.opaque, 0),
                    _ => write_send(&self.options, connection, self.opaque, queue, &self.body, &properties),
                }
                connection.under_way.push_back(intended);
                self.sent += 1;
            }
        }
    }

    /// Writes what is to be written and takes the answers that are there.
    fn exchange(&mut self, index: usize, answers: &mut Answers) -> Result<()> {
        let connection = &mut self.connections[index];
        connection.transfer()?;
        let now = Instant::now();
        while let Some(frame) = frame::take(&mut connection.input, frame::MAX_FRAME_LENGTH)? {
            let header = Header::decode(&frame)?;
            let intended = connection.under_way.pop_front().context("an answer that nobody asked for")?;
            if self.work == Work::Transaction && commit(&self.options, connection, &header)? {
                connection.under_way.push_back(intended);
                continue;
            }
            if self.work == Work::Pop && connection.unanswered == 0 {
                pop::write_acks(&self.options, connection, &header, intended)?;
                continue;
            }
            let waited = now.duration_since(intended).as_micros() as u64;
            answers.latency.saturating_record(waited.max(1));
            connection.unanswered = connection.unanswered.saturating_sub(1);
            if self.work == Work::Consume && PULLED.contains(&header.code) {
                answers.messages += take_pull(&self.options, connection, &header, &frame)?;
            } else if header.code == codes::SUCCESS {
                answers.messages += 1;
            } else {
                *answers.errors.entry(header.code).or_default() += 1;
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let mut fds: Vec<_> = self.connections.iter().map(|c| PollFd::new(&c.stream, PollFlags::IN)).collect();
        // With a rate the next message may be due before an answer comes.
        let nanoseconds = if self.options.rate > 0 { 20_000 } else { 100_000_000 };
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: nanoseconds }))?;
        Ok(())
    }
}

fn progress(time: Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(time.as_millis() as u64);
    let style = ProgressStyle::with_template("{wide_bar} {msg} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}

pub fn head(options: &Options, code: i32, opaque: i32) -> Outgoing<'static> {
    Outgoing { serialization: options.serialization.serialization(), code, opaque, flag: 0, remark: None, extra: &[] }
}

/// The codes of a pull's answers that are no refusal.
const PULLED: [i32; 4] = [codes::SUCCESS, codes::PULL_RETRY_IMMEDIATELY, codes::PULL_NOT_FOUND, codes::PULL_OFFSET_MOVED];
/// The producer group of the load.
const GROUP: &str = "bench";
const PLAIN: &str = "UNIQ_KEY\u{1}7F0000010001000000000000000000000\u{2}WAIT\u{1}true\u{2}";
const HALF: &str =
    "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}bench\u{2}UNIQ_KEY\u{1}7F0000010001000000000000000000000\u{2}WAIT\u{1}true\u{2}";

/// Commits the half message that an answer is to; `false` where it is the answer to that, or a refusal.
fn commit(options: &Options, connection: &mut Connection, header: &Header<'_>) -> Result<bool> {
    let Ok(sent) = header.read::<SendMessageReply>() else { return Ok(false) };
    if header.code != codes::SUCCESS {
        return Ok(false);
    }
    let (_, commit_log_offset) = message_id::parse_offset_id(sent.msg_id).context("a message id that can't be read")?;
    let request = EndTransaction {
        topic: Some(&options.topic),
        producer_group: Some(GROUP),
        tran_state_table_offset: sent.queue_offset,
        commit_log_offset,
        commit_or_rollback: TRANSACTION_COMMIT,
        from_transaction_check: Some(false),
        msg_id: sent.msg_id,
        transaction_id: sent.transaction_id,
    };
    head(options, EndTransaction::CODE, header.opaque).write(&request, 0, &mut connection.output);
    Ok(true)
}

/// Writes a SEND.
pub fn write_send(options: &Options, connection: &mut Connection, opaque: i32, queue: i32, body: &[u8], properties: &str) {
    let born = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let request = SendMessageV2 {
        producer_group: GROUP,
        topic: &options.topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: queue,
        born_timestamp: born,
        properties: Some(properties),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        batch: Some(false),
        ..SendMessageV2::default()
    };
    head(options, SendMessageV2::CODE, opaque).write(&request, body.len(), &mut connection.output);
    connection.output.extend_from_slice(body);
}

/// Writes a PULL, which waits for messages where `suspend_ms` is not 0.
pub fn write_pull(options: &Options, connection: &mut Connection, opaque: i32, suspend_ms: i64) {
    let suspend = if suspend_ms > 0 { pull_flags::SUSPEND } else { 0 };
    let request = PullMessage {
        consumer_group: "bench",
        topic: &options.topic,
        queue_id: connection.queue,
        queue_offset: connection.offset,
        max_msg_nums: options.batch,
        sys_flag: pull_flags::SUBSCRIPTION | suspend,
        suspend_timeout_millis: suspend_ms,
        subscription: Some(options.sql.as_deref().unwrap_or("*")),
        expression_type: Some(if options.sql.is_some() { "SQL92" } else { "TAG" }),
        ..PullMessage::default()
    };
    head(options, PullMessage::CODE, opaque).write(&request, 0, &mut connection.output);
}

/// Counts the messages that the broker looked at for a pull and moves on; at a queue's end the next queue is read from its
/// start.
fn take_pull(options: &Options, connection: &mut Connection, header: &Header<'_>, frame: &protocol::Frame) -> Result<u64> {
    if !matches!(header.code, codes::SUCCESS | codes::PULL_RETRY_IMMEDIATELY) {
        connection.queue = (connection.queue + 1) % options.queues;
        connection.offset = 0;
        return Ok(0);
    }
    let reply: PullMessageReply = header.read()?;
    if header.code == codes::SUCCESS {
        // One message of each answer is looked at as a whole; all of them would measure this tool.
        let first = record::decode_checked(&frame.body)?.queue_offset;
        let wanted = if options.sql.is_some() { first >= connection.offset } else { first == connection.offset };
        anyhow::ensure!(wanted, "offset {first} where {} was asked for", connection.offset);
    }
    let count = reply.next_begin_offset - connection.offset;
    connection.offset = reply.next_begin_offset;
    Ok(count as u64)
}
