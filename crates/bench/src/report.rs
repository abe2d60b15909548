//! What a run found, for people and for scripts.

use std::fmt;

use serde::Serialize;

use crate::load::Answers;
use crate::process::Usage;

/// Figures of one run; times in microseconds.
#[derive(Serialize)]
pub struct Report {
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
    server_cpu_us_per_message: f64,
    server_messages_per_cpu_second: f64,
    server_resident_mib: f64,
    server_anonymous_mib: f64,
    /// Answers that were no success, by code.
    refused: std::collections::BTreeMap<i32, u64>,
    /// What the times are of.
    latency: &'static str,
}

impl Report {
    pub fn of(answers: &Answers, before: &Usage, after: &Usage, latency: &'static str) -> Self {
        let cpu = after.cpu_seconds - before.cpu_seconds;
        let messages = answers.messages as f64;
        let at = |quantile| answers.latency.value_at_quantile(quantile);
        Self {
            messages: answers.messages,
            seconds: answers.seconds,
            messages_per_second: messages / answers.seconds,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: answers.latency.max(),
            server_cpu_us_per_message: if messages > 0.0 { cpu * 1e6 / messages } else { 0.0 },
            server_messages_per_cpu_second: if cpu > 0.0 { messages / cpu } else { 0.0 },
            server_resident_mib: after.resident_kib as f64 / 1024.0,
            server_anonymous_mib: after.anonymous_kib as f64 / 1024.0,
            refused: answers.errors.clone(),
            latency,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "messages          {} in {:.1} s: {:.0} a second", self.messages, self.seconds, self.messages_per_second)?;
        writeln!(
            f,
            "{:<17} p50 {} µs, p90 {}, p99 {}, p99.9 {}, max {}",
            self.latency, self.p50, self.p90, self.p99, self.p999, self.max
        )?;
        for (code, count) in &self.refused {
            writeln!(f, "refused           {count} requests with {code} {}", protocol::codes::name(*code))?;
        }
        if self.server_resident_mib > 0.0 {
            let (cpu, rate) = (self.server_cpu_us_per_message, self.server_messages_per_cpu_second);
            writeln!(f, "server            {cpu:.2} µs of CPU a message, {rate:.0} messages a CPU second")?;
            writeln!(
                f,
                "server's memory   {:.1} MiB, {:.1} MiB of it anonymous",
                self.server_resident_mib, self.server_anonymous_mib
            )?;
        }
        Ok(())
    }
}
