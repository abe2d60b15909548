//! A bounded number of lives of the store, other ones for each commit; a campaign is `cargo run --release -p sim`.

use std::process::Command;

const SEEDS: u64 = 300;

/// A number that changes with the commit, and is the same for everybody who tests that commit.
fn first_seed() -> u64 {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let hash = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    hash.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(1)
}

#[test]
fn what_was_acknowledged_outlives_crashes() {
    let first = first_seed();
    let mut crashes = 0;
    for seed in first..first + SEEDS {
        match sim::run_store(seed) {
            Ok(life) => crashes += life.crashes,
            Err(error) => {
                panic!("seed {seed}: {error:#}\n  again: cargo run --release -p sim -- store --seed {seed} --seeds 1 --log")
            }
        }
    }
    println!("{crashes} crashes from seed {first}");
    assert!(crashes >= SEEDS, "the simulated machine did not crash");
}
