//! Messages that are to be delivered later, and how late they come.

use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use protocol::requests::PullMessageReply;
use protocol::{Frame, Header, codes, frame, properties, record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Options;
use crate::load::{Answers, Connection, PATIENCE, connect, make_topic, write_pull, write_send};

/// ms that a pull waits at the broker.
const SUSPEND_MS: i64 = 5000;
/// A body begins with when its message is due and its number, each in so many digits.
const DIGITS: usize = 13;

/// How messages ask for their delay.
#[derive(clap::Args, Clone)]
pub struct Delay {
    /// ms that each message waits.
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    delay: i64,
    /// Use this delay level, which must be `--delay` long at the broker, in place of a timer.
    #[arg(long)]
    level: Option<u32>,
}

/// The senders' and the readers' sides, one reader a queue.
struct Timers<'a> {
    options: &'a Options,
    delay: &'a Delay,
    sender: Connection,
    readers: Vec<Connection>,
    /// Which messages have come.
    seen: Vec<bool>,
    /// The first that counts.
    first: u64,
    answers: Answers,
    sent: u64,
    early: u64,
    twice: u64,
}

fn now_us() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as i64)
}

/// Sends for the time of warming up and measuring, and reads until all has come. What is counted is each message of the
/// measured time; its latency is how late it came.
pub fn run(options: &Options, delay: &Delay) -> Result<Answers> {
    let rate = options.rate.max(1);
    let total = rate * (options.warmup + options.duration);
    let mut sender = connect(options, 0)?;
    make_topic(options, &mut sender)?;
    sender.stream.set_nonblocking(true)?;
    let mut readers = Vec::new();
    for queue in 0..options.queues {
        let reader = connect(options, queue)?;
        reader.stream.set_nonblocking(true)?;
        readers.push(reader);
    }
    let mut timers = Timers {
        options,
        delay,
        sender,
        readers,
        seen: vec![false; total as usize],
        first: rate * options.warmup,
        answers: Answers::new()?,
        sent: 0,
        early: 0,
        twice: 0,
    };
    let start = Instant::now();
    let mut heard = start;
    while timers.seen.contains(&false) {
        let before = timers.answers.messages;
        timers.send(start, rate, total)?;
        timers.receive()?;
        if timers.answers.messages > before {
            heard = Instant::now();
        }
        let missing = timers.seen.iter().filter(|seen| !**seen).count();
        let patience = PATIENCE + Duration::from_millis(delay.delay.max(0) as u64 + 1000 * options.warmup);
        anyhow::ensure!(heard.elapsed() < patience, "{missing} messages have not come: {:?} by code", timers.answers.errors);
        timers.wait()?;
    }
    anyhow::ensure!(timers.early == 0, "{} messages came before their time", timers.early);
    anyhow::ensure!(timers.twice == 0, "{} messages came twice", timers.twice);
    let mut answers = timers.answers;
    answers.seconds = start.elapsed().as_secs_f64();
    Ok(answers)
}

impl Timers<'_> {
    fn send(&mut self, start: Instant, rate: u64, total: u64) -> Result<()> {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        while self.sent < due.min(total) && self.sender.under_way.len() < self.options.in_flight {
            let deliver_at = now_us() / 1000 + self.delay.delay;
            let mut body = format!("{deliver_at:0DIGITS$}{:0DIGITS$}", self.sent).into_bytes();
            body.resize(self.options.size.max(2 * DIGITS), b'x');
            let mut text = String::new();
            properties::push(&mut text, properties::UNIQUE_KEY, &format!("{:032X}", self.sent));
            match self.delay.level {
                Some(level) => properties::push(&mut text, properties::DELAY, &level.to_string()),
                None => properties::push(&mut text, properties::TIMER_DELIVER_MS, &deliver_at.to_string()),
            }
            let queue = (self.sent % self.options.queues as u64) as i32;
            write_send(self.options, &mut self.sender, self.sent as i32, queue, &body, &text);
            self.sender.under_way.push_back(Instant::now());
            self.sent += 1;
        }
        self.sender.transfer()?;
        while let Some(frame) = frame::take(&mut self.sender.input, frame::MAX_FRAME_LENGTH)? {
            self.sender.under_way.pop_front().context("an answer that nobody asked for")?;
            let header = Header::decode(&frame)?;
            if header.code != codes::SUCCESS {
                bail!("a send was refused: {} {}", codes::name(header.code), header.remark.unwrap_or_default());
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        for index in 0..self.readers.len() {
            let reader = &mut self.readers[index];
            if reader.under_way.is_empty() {
                write_pull(self.options, reader, index as i32, SUSPEND_MS);
                reader.under_way.push_back(Instant::now());
            }
            reader.transfer()?;
            while let Some(frame) = frame::take(&mut self.readers[index].input, frame::MAX_FRAME_LENGTH)? {
                self.readers[index].under_way.clear();
                let header = Header::decode(&frame)?;
                let found = header.code == codes::SUCCESS;
                // A queue that nothing has been delivered to yet says so.
                if let Ok(reply) = header.read::<PullMessageReply>() {
                    self.readers[index].offset = reply.next_begin_offset;
                }
                if found {
                    self.take(&frame)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame) -> Result<()> {
        let now = now_us();
        for record in record::decode_all(&frame.body) {
            let record = record?;
            let number = |part: Option<&[u8]>| part.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i64>().ok());
            let (due, nth) = (number(record.body.get(..DIGITS)), number(record.body.get(DIGITS..2 * DIGITS)));
            let (due, nth) = due.zip(nth).context("a message of somebody else: use a topic of its own")?;
            let seen = self.seen.get_mut(nth as usize).context("a message of an earlier run: use a topic of its own")?;
            self.twice += u64::from(std::mem::replace(seen, true));
            let late = now - due * 1000;
            self.early += u64::from(late < 0 || record.store_timestamp < due);
            if nth as u64 >= self.first {
                self.answers.messages += 1;
                self.answers.latency.saturating_record(late.max(1) as u64);
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let all = self.readers.iter().chain([&self.sender]);
        let mut fds: Vec<_> = all.map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 500_000 }))?;
        Ok(())
    }
}
