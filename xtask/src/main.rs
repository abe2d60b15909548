//! The project's own commands: `cargo xtask ci | test | build | tidy`.

mod tidy;

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask build  make the release binary, which needs no library of the machine
cargo xtask test   run all tests and print one count
cargo xtask tidy   check the rules that no compiler checks
cargo xtask ci     formatting, lints, tidy, build and tests: what CI runs
";

/// Tests that run at the same time at the least: most of their time they wait for clients, which do things every few seconds.
const LEAST_THREADS: usize = 3;

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "build" => build(),
        "test" => test(),
        "tidy" => tidy::run(),
        "ci" => ci(),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<()> {
    run(&["fmt", "--all", "--check"])?;
    run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    tidy::run()?;
    test()
}

fn run(arguments: &[&str]) -> Result<()> {
    println!("+ cargo {}", arguments.join(" "));
    let status = cargo(arguments).status().context("cargo can't be started")?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// What the test runs of all crates add up to.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Makes `target/release/ferrocket` as it is released: with all that it needs, so that it runs in an image without files.
fn build() -> Result<()> {
    run(&["rustc", "--release", "--package", "ferrocket", "--", "-C", "target-feature=+crt-static"])
}

/// Runs every test against the release binary, since the tests start it many times.
fn test() -> Result<()> {
    build()?;
    let cores = std::thread::available_parallelism()?.get();
    let threads = format!("--test-threads={}", cores.max(LEAST_THREADS));
    let arguments = ["test", "--workspace", "--no-fail-fast", "--", "--show-output", &threads];
    println!("+ cargo {}", arguments.join(" "));
    let mut child = cargo(&arguments).stdout(Stdio::piped()).spawn().context("cargo can't be started")?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            count.add(&line);
            println!("{line}");
        }
    }
    let status = child.wait()?;
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if !status.success() {
        bail!("tests failed");
    }
    if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
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
