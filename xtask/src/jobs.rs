//! Runs the tests of all crates, several at a time, and prints one count.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{BINARY, cargo};

/// So many tests more than there are cores run at a time: most of their time they wait for clients, which do things every few
/// seconds.
const WAITING: usize = 3;
/// Tests that run at a time at the most: some start five virtual machines, which take some 200 MB each.
const MOST: usize = 8;

/// The tests with real processes that take longest: they begin first, so that none of them runs alone in the end.
const LONGEST: [&str; 10] = [
    "exchange java_5_4_0",
    "groups mqadmin::both_tools_show_and_move_groups_of_both_servers",
    "replication pairs_with_java_5_4_0",
    "migration a_java_broker_5_4_0_is_replaced",
    "exchange java_4_9_4",
    "mqadmin both_tools_show_the_same_of_both_servers",
    "migration a_java_broker_4_9_4_is_replaced",
    "half_messages what_java_left_open_is_resolved",
    "timers answers_are_javas",
    "name_servers one_name_server_of_several_is_enough",
];

/// Something that runs beside others, and what it is called.
pub struct Job {
    name: String,
    command: Command,
}

/// What all jobs add up to.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// The whole output of those that failed.
    failures: String,
}

impl Job {
    /// What only computes: it gets what the tests leave of the processors.
    pub fn computing(name: &str, of: &Command) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(of.get_program()).args(of.get_args());
        command.current_dir(of.get_current_dir().unwrap_or(Path::new(".")));
        Self { name: name.to_owned(), command }
    }

    fn run(mut self, count: &Mutex<Count>) {
        let start = Instant::now();
        let output = self.command.stdin(Stdio::null()).output();
        let (passed, text) = match output {
            Ok(output) => (
                output.status.success(),
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat(),
            ),
            Err(error) => (false, format!("{:?} can't be started: {error}\n", self.command.get_program())),
        };
        let mut count = count.lock().unwrap();
        let said = format!("\n{}: {:.1} s\n{text}", self.name, start.elapsed().as_secs_f32());
        print!("{said}");
        let failed = count.failed;
        text.lines().for_each(|line| count.add(line));
        if !passed {
            count.failed = count.failed.max(failed + 1);
            count.failures.push_str(&said);
        }
    }
}

/// Runs every test of the workspace and every computing job; fails where one of them does.
///
/// # Panics
/// When a thread of this process has panicked.
pub fn run(mut computing: Vec<Job>) -> Result<()> {
    let (waiting, binaries) = jobs()?;
    computing.extend(binaries);
    computing.push(Job::computing("documentation", &cargo(&["test", "--workspace", "--doc"])));
    let (count, waiting) = (Mutex::default(), Mutex::new(waiting));
    let next = || waiting.lock().unwrap().pop_front();
    let threads = MOST.min(std::thread::available_parallelism()?.get() + WAITING);
    std::thread::scope(|scope| {
        scope.spawn(|| computing.into_iter().for_each(|job| job.run(&count)));
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = next() {
                    job.run(&count)
                }
            });
        }
    });
    let Count { passed, failed, skipped, failures } = count.into_inner().unwrap();
    if failed > 0 {
        println!("\nWhat failed:\n{failures}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 || passed == 0 {
        bail!("tests failed, or there are none");
    }
    Ok(())
}

/// What cargo has built.
struct Executable {
    name: String,
    /// Of its package.
    directory: PathBuf,
    path: PathBuf,
}

/// Builds something; fails with what cargo says of it.
fn built(arguments: &[&str]) -> Result<Vec<Executable>> {
    println!("+ cargo {}", arguments.join(" "));
    let words = [&arguments[..1], &["--message-format=json-render-diagnostics"], &arguments[1..]].concat();
    let output = cargo(&words).output().context("cargo can't be started")?;
    if !output.status.success() {
        bail!("cargo {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    let mut executables = Vec::new();
    for message in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>() {
        let message = message.context("a message of cargo")?;
        let text = |field: &serde_json::Value| field.as_str().map(str::to_owned);
        let Some(path) = text(&message["executable"]) else { continue };
        let manifest = text(&message["manifest_path"]).context("cargo names no manifest")?;
        let directory = Path::new(&manifest).parent().context("a manifest's directory")?.to_owned();
        executables.push(Executable {
            name: text(&message["target"]["name"]).context("cargo names no target")?,
            directory,
            path: path.into(),
        });
    }
    Ok(executables)
}

/// Tests with real processes, one a job and the longest first; and the other crates' binaries, which only compute.
fn jobs() -> Result<(VecDeque<Job>, Vec<Job>)> {
    let (server, tests) = std::thread::scope(|scope| {
        let server = scope.spawn(|| built(&[&["rustc", "--profile", "ci"][..], &BINARY].concat()));
        let tests = built(&["test", "--workspace", "--no-run"]);
        (server.join().expect("a thread"), tests)
    });
    let server = server?.pop().context("cargo names no binary")?.path;
    let (mut waiting, mut computing) = (Vec::new(), Vec::new());
    for Executable { name, directory, path } in tests? {
        let command = || {
            let mut command = Command::new(&path);
            command.current_dir(&directory).env("FERROCKET_BIN", &server);
            command
        };
        // Beside tests cargo builds the programs of crates that have some.
        if path.parent().is_none_or(|parent| !parent.ends_with("deps")) {
            continue;
        }
        if !directory.ends_with("tests") {
            computing.push(Job::computing(&name, command().arg("--show-output")));
            continue;
        }
        let list = command().args(["--list", "--format", "terse"]).output()?;
        if !list.status.success() {
            bail!("{name} does not list its tests");
        }
        for test in String::from_utf8_lossy(&list.stdout).lines().filter_map(|line| line.strip_suffix(": test")) {
            let mut command = command();
            command.args([test, "--exact", "--show-output"]);
            waiting.push(Job { name: format!("{name} {test}"), command });
        }
    }
    if let Some(gone) = LONGEST.iter().find(|name| !waiting.iter().any(|job| job.name == **name)) {
        bail!("there is no test {gone:?} that LONGEST could mean");
    }
    waiting.sort_by_key(|job| LONGEST.iter().position(|name| *name == job.name).unwrap_or(LONGEST.len()));
    Ok((waiting.into(), computing))
}

impl Count {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` and the tests' own `SKIPPED why`.
    fn add(&mut self, line: &str) {
        if line.starts_with("SKIPPED ") {
            self.skipped += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}
