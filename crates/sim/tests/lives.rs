//! A bounded number of simulated lives, other ones for each commit; a campaign is `cargo run --release -p sim`.

use std::process::Command;

use sim::Life;

/// A number that changes with the commit, and is the same for everybody who tests that commit.
fn first_seed() -> u64 {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let hash = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    hash.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(1)
}

fn live(name: &str, seeds: u64, run: fn(u64) -> anyhow::Result<Life>) {
    let first = first_seed();
    let mut crashes = 0;
    for seed in first..first + seeds {
        match run(seed) {
            Ok(life) => crashes += life.crashes,
            Err(error) => {
                panic!("seed {seed}: {error:#}\n  again: cargo run --release -p sim -- {name} --seed {seed} --seeds 1 --log")
            }
        }
    }
    println!("{crashes} crashes from seed {first}");
    assert!(crashes >= seeds, "the simulated machine did not crash");
}

#[test]
fn what_was_acknowledged_outlives_crashes() {
    live("store", 300, sim::run_store);
}

#[test]
fn what_was_promised_is_delivered_in_time_in_order_and_as_often_as_it_may_be() {
    live("broker", 15, sim::run_broker);
}

#[test]
fn a_group_keeps_what_it_promised_whoever_is_promoted() {
    live("group", 30, sim::run_group);
}
