//! The deterministic simulator: parts of the system over a simulated world. One seed gives the workload, the faults and
//! the crashes; an oracle says what has to hold. A seed that fails fails again.

pub mod disk;
pub mod store;

use std::path::PathBuf;

use anyhow::Result;

/// Where simulated disks are: in memory, where that is to be had.
pub fn scratch() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Runs the store's life of one seed in a directory of its own.
pub fn run_store(seed: u64) -> Result<store::Life> {
    let directory = tempfile::tempdir_in(scratch())?;
    store::run(seed, directory.path())
}
