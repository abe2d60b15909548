//! Real processes and real clients: what the tests in `tests/` are written with.

mod clients;
mod exchange;
mod group;
mod hosts;
mod link;
mod pop;
mod server;

pub use clients::{Client, go_client, java_client, java_exchange_client, java_filter, java_mqadmin};
pub use exchange::{Exchange, JAVA};
pub use group::{Group, NameServer, Whose, status, wait_for_copy};
pub use hosts::Hosts;
pub use link::{Answer, Fields, Link, framed, pull_request, send_request, write_request};
pub use pop::{Popped, Popper};
pub use server::{Server, Setup, binary, free_port};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long anything may take before a test gives up; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The workspace's `target`, for what is downloaded or built once.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Waits until `ready` gives a value.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the name server knows a topic that a send has made: a Go consumer that starts before that gives up.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn wait_for_route(server: &str, topic: &str) {
    wait_for("the topic's route", || {
        try_admin(&["topicList", "-n", server]).is_ok_and(|list| list.lines().any(|line| line == topic)).then_some(())
    });
}

/// What a command of `ferrocket admin` prints that must go well.
///
/// # Panics
/// When it fails.
pub fn admin(words: &[&str]) -> String {
    try_admin(words).unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
}

/// What `ferrocket admin` prints.
///
/// # Errors
/// What it says on stderr where it fails.
pub fn try_admin(words: &[&str]) -> Result<String, String> {
    let output = Command::new(binary()).arg("admin").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The time in ms since 1970.
pub fn now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// The bytes of memory that a process really has: all (`VmRSS:`), or without what it maps of files (`RssAnon:`).
pub fn memory(pid: u32, which: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The same in order.
pub fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

/// The same without their order.
pub fn set(all: &[String]) -> BTreeSet<&str> {
    all.iter().map(String::as_str).collect()
}

/// Says that a test can't run here; where everything has to run, that is a failure.
///
/// # Panics
/// With `CI=true`.
pub fn skip(why: &str) {
    println!("SKIPPED {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped: {why}");
}

/// Whether a program can be run.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}
