//! `mqshutdown`: stops processes of this program, found by their command lines as Java's script finds its own.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Which processes are to stop.
#[derive(clap::Args)]
pub struct Options {
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Broker,
    Namesrv,
}

impl What {
    /// The subcommand of the process, and the script's name in messages.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            What::Broker => ("broker", "mqbroker"),
            What::Namesrv => ("namesrv", "mqnamesrv"),
        }
    }
}

/// Sends SIGTERM to what runs; 255 where nothing does, as Java's script exits.
pub fn run(options: &Options) -> i32 {
    let (subcommand, script) = options.what.names();
    let found = processes(subcommand);
    if found.is_empty() {
        say!("No {script} running.");
        return 255;
    }
    let mut code = 0;
    for pid in found {
        say!("The {script}({}) is running...", pid.as_raw_nonzero());
        match kill_process(pid, Signal::TERM) {
            Ok(()) => say!("Send shutdown request to {script}({}) OK", pid.as_raw_nonzero()),
            Err(error) => {
                complain!("can't stop {}: {error}", pid.as_raw_nonzero());
                code = 1;
            }
        }
    }
    code
}

/// Processes whose command line is `…/ferrocket <subcommand> …`.
fn processes(subcommand: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = numbers
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|b| *b == 0);
            let program = words.next().unwrap_or_default();
            program.rsplit(|b| *b == b'/').next() == Some(b"ferrocket") && words.next() == Some(subcommand.as_bytes())
        })
        .collect();
    found.sort_unstable();
    found.into_iter().filter_map(Pid::from_raw).collect()
}
