//! `cargo run --release -p sim -- store --seeds 25000`: campaigns of the simulator.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

/// Runs the simulator. A seed that fails is printed with the line that runs it again.
#[derive(Parser)]
#[command(name = "sim", after_help = "Examples:\n  sim store --seeds 25000\n  sim broker --seed 42 --seeds 1")]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The store over a disk that loses and tears what was not synced; four crashes a seed.
    Store(Campaign),
    /// A broker with producers and consumers of several kinds over such a disk; three crashes a seed.
    Broker(Campaign),
    /// A master with slaves, name servers and clients over a network that is cut and broken; promotions and crashes.
    Group(Campaign),
}

#[derive(Args)]
struct Campaign {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print what is logged and what the workload does: for one seed.
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let (name, run, campaign): (_, fn(u64) -> anyhow::Result<sim::Life>, _) = match Options::parse().what {
        What::Store(campaign) => ("store", sim::run_store, campaign),
        What::Broker(campaign) => ("broker", sim::run_broker, campaign),
        What::Group(campaign) => ("group", sim::run_group, campaign),
    };
    let Campaign { seed, seeds, jobs, log } = campaign;
    if log {
        tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_max_level(tracing::Level::TRACE).init();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    let bar = ProgressBar::new(seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, crashes, messages) = (AtomicU64::new(seed), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let one = next.fetch_add(1, Ordering::Relaxed);
                    if one >= seed + seeds {
                        return;
                    }
                    match run(one) {
                        Ok(life) => {
                            crashes.fetch_add(life.crashes, Ordering::Relaxed);
                            messages.fetch_add(life.messages, Ordering::Relaxed);
                        }
                        Err(error) => {
                            bar.suspend(|| {
                                eprintln!("seed {one}: {error:#}\n  again: cargo run --release -p sim -- {name} --seed {one} --seeds 1 --log");
                            });
                            failed.lock().push(one);
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let failed = failed.into_inner();
    println!("{} crashes, {} messages, {} of {seeds} seeds failed", crashes.into_inner(), messages.into_inner(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
