//! What processes have used, from `/proc`.

use anyhow::{Context, Result};

/// CPU time since its start, and memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_kib: u64,
    pub anonymous_kib: u64,
}

impl Usage {
    /// What processes have used together; zeros where none is named.
    pub fn of(pids: &[u32]) -> Result<Self> {
        let all = pids.iter().map(|pid| Self::of_one(*pid)).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().fold(Self::default(), |sum, one| Self {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            resident_kib: sum.resident_kib + one.resident_kib,
            anonymous_kib: sum.anonymous_kib + one.anonymous_kib,
        }))
    }

    fn of_one(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
        // The name may hold blanks; the numbers begin behind its bracket.
        let numbers: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| numbers.get(index).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (ticks(11) + ticks(12)) as f64 / per_second,
            resident_kib: kib("VmRSS:"),
            anonymous_kib: kib("RssAnon:"),
        })
    }
}
