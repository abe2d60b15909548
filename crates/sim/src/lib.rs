//! The deterministic simulator: parts of the system over a simulated world. One seed gives the workload, the faults and
//! the crashes; an oracle says what has to hold. A seed that fails fails again.

pub mod broker;
pub mod disk;
pub mod group;
pub mod store;

use std::path::PathBuf;

use anyhow::Result;

/// What one life came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    pub crashes: u64,
    pub messages: u64,
}

/// Where simulated disks are: in memory, where that is to be had.
pub fn scratch() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Runs the broker's life of one seed in a directory of its own.
pub fn run_broker(seed: u64) -> Result<Life> {
    let directory = tempfile::tempdir_in(scratch())?;
    crate::broker::run(seed, directory.path())
}

/// Runs a group's history of one seed in a directory of its own.
pub fn run_group(seed: u64) -> Result<Life> {
    let directory = tempfile::tempdir_in(scratch())?;
    group::run(seed, directory.path())
}

/// Runs the store's life of one seed in a directory of its own.
pub fn run_store(seed: u64) -> Result<Life> {
    let directory = tempfile::tempdir_in(scratch())?;
    store::run(seed, directory.path())
}
