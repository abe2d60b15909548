//! A load generator for any RocketMQ broker, so that two of them can be measured with the same tool.
//!
//! One thread drives all connections with `poll`: many requests a write, many answers a read. What it costs the server
//! is read from `/proc`.

mod floor;
mod load;
mod pop;
mod process;
mod report;
mod timer;

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::Serialization;

use crate::load::{Answers, Load, Work};
use crate::process::Usage;
use crate::report::Report;

/// What `ferrocket bench` takes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send messages as fast as the broker answers, or at a rate.
    #[command(after_help = "Examples:
  ferrocket bench produce --broker 127.0.0.1:10911 --server-pid $(pgrep -x ferrocket)
  ferrocket bench produce --broker 127.0.0.1:10911 --rate 20000 --duration 30 --json")]
    Produce(Options),
    /// Pull a topic's messages from the first on, again and again.
    #[command(after_help = "Examples:
  ferrocket bench consume --broker 127.0.0.1:10911 --server-pid $(pgrep -x ferrocket)
  ferrocket bench produce --topic Filtered --size 1024 --numbered --duration 5
  ferrocket bench consume --topic Filtered --sql \"n < 10 AND region IN ('eu', 'us')\"")]
    Consume(Options),
    /// Send with one request in flight.
    Latency(Options),
    /// Send half messages and commit each when it is answered; what is counted, and how long it took, is both.
    #[command(after_help = "Example:
  ferrocket bench transaction --broker 127.0.0.1:10911 --server-pid $(pgrep -x ferrocket)")]
    Transaction(Options),
    /// Send messages that are to be delivered later, at a rate, and measure how late they come. Fails where one comes
    /// early, twice or never.
    #[command(after_help = "Examples, on a topic of its own:
  ferrocket bench timer --broker 127.0.0.1:10911 --topic Timers --rate 10000
  ferrocket bench timer --broker 127.0.0.1:10911 --topic Levels --rate 10000 --delay 5000 --level 2")]
    Timer {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        delay: timer::Delay,
    },
    /// Be the server that a broker can't be faster than: it reads, appends to a file, and answers. Measure it with
    /// `produce` and `latency` and `--serialization rocketmq`.
    Floor(floor::Server),
    /// Append to a file and sync it, one after the other: what SYNC_FLUSH can't be faster than.
    Disk(floor::Disk),
    /// Pop a topic's messages from the first on and acknowledge each by itself, again and again with another group.
    #[command(after_help = "Example:
  ferrocket bench pop --broker 127.0.0.1:10911 --connections 16 --server-pid $(pgrep -x ferrocket)")]
    Pop(Options),
}

#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// The broker's address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10911")]
    pub broker: String,
    /// The topic, made where it is missing.
    #[arg(long, default_value = "BenchmarkTopic")]
    pub topic: String,
    /// Queues of the topic.
    #[arg(long, default_value_t = 8)]
    pub queues: i32,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests under way on each connection.
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Bytes of a message's body.
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// Give each message the properties n, which is 0 to 99 in turn, and region=eu, for filters.
    #[arg(long)]
    pub numbered: bool,
    /// Pull only what this SQL92 expression matches; what the broker looks at is counted. The broker needs
    /// enablePropertyFilter.
    #[arg(long, value_name = "EXPRESSION")]
    pub sql: Option<String>,
    /// Messages that a pull or pop asks for.
    #[arg(long, default_value_t = 32)]
    pub batch: i32,
    /// Messages a second; 0 is as fast as it goes. Latencies then count from when a message should have been sent.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10)]
    pub duration: u64,
    /// Seconds before that are not measured.
    #[arg(long, default_value_t = 2)]
    pub warmup: u64,
    /// Headers: json is what Java clients send.
    #[arg(long, value_enum, default_value = "json")]
    pub serialization: Headers,
    /// Run on this core alone.
    #[arg(long, value_name = "CORE")]
    pub pin: Option<usize>,
    /// The server's process, or several, for their CPU time and memory.
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Headers {
    Json,
    Rocketmq,
}

impl Headers {
    fn serialization(self) -> Serialization {
        match self {
            Headers::Json => Serialization::Json,
            Headers::Rocketmq => Serialization::RocketMq,
        }
    }
}

/// Runs a benchmark and prints what it found.
pub fn run(args: &Args) -> Result<()> {
    let (options, work) = match &args.command {
        Command::Produce(options) => (options.clone(), Work::Produce),
        Command::Consume(options) => (Options { in_flight: 1, ..options.clone() }, Work::Consume),
        Command::Latency(options) => (Options { in_flight: 1, connections: 1, ..options.clone() }, Work::Produce),
        Command::Transaction(options) => (options.clone(), Work::Transaction),
        Command::Timer { options, delay } => {
            pin(options)?;
            let before = Usage::of(&options.server_pid)?;
            let answers = timer::run(options, delay)?;
            return print(options, &answers, &before, "lateness");
        }
        Command::Floor(options) => return floor::serve(options),
        Command::Disk(options) => return floor::measure_disk(options),
        // Its codes do not fit the other headers.
        Command::Pop(options) => (Options { in_flight: 1, serialization: Headers::Json, ..options.clone() }, Work::Pop),
    };
    pin(&options)?;
    let mut load = Load::open(&options, work)?;
    load.run(Duration::from_secs(options.warmup))?;
    let before = Usage::of(&options.server_pid)?;
    let answers: Answers = load.run(Duration::from_secs(options.duration))?;
    print(&options, &answers, &before, "request latency")
}

fn pin(options: &Options) -> Result<()> {
    let Some(core) = options.pin else { return Ok(()) };
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).with_context(|| format!("can't run on core {core}"))
}

fn print(options: &Options, answers: &Answers, before: &Usage, latency: &'static str) -> Result<()> {
    let report = Report::of(answers, before, &Usage::of(&options.server_pid)?, latency);
    if options.json {
        println!("{}", serde_json::to_string(&report)?)
    } else {
        print!("{report}")
    }
    anyhow::ensure!(answers.messages > 0, "the broker took no request: {:?} by code", answers.errors);
    Ok(())
}
