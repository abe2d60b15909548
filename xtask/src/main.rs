//! The project's own commands: `cargo xtask ci | test | build | tidy`.

mod jobs;
mod tidy;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use jobs::Job;

const HELP: &str = "\
cargo xtask build  make the release binary, which needs no library of the machine
cargo xtask test   run all tests and print one count
cargo xtask tidy   check the rules that no compiler checks
cargo xtask ci     formatting, lints, tidy, build and tests: what CI runs
";

/// What is released: with all that it needs, so that it runs in an image without files.
const BINARY: [&str; 5] = ["--package", "ferrocket", "--", "-C", "target-feature=+crt-static"];

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "build" => build(),
        "test" => jobs::run(Vec::new()),
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
    tidy::run()?;
    let clippy = cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    jobs::run(vec![Job::computing("clippy", &clippy)])
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

/// Makes `target/release/ferrocket` as it is released.
fn build() -> Result<()> {
    run(&[&["rustc", "--release"][..], &BINARY].concat())
}
