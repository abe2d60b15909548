//! Who is let in. A handler never waits, so there are three lines only: sends that wait for their turn at the commit log,
//! sends that wait for the disk, and pulls that wait for messages. Whoever would stand in one for longer, or make it
//! longer, than the settings allow is refused with SYSTEM_BUSY, in Java's words with the figures behind them, and counted
//! by reason. How fast consumers are never matters to a send.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use protocol::codes;
use protocol::exchange::Refusal;

use crate::{Broker, BrokerConfig, stats};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many sends are under way as `sendThreadPoolQueueCapacity` allows.
    SendOverload,
    /// A send waited for its turn at the log as long as `waitTimeMillsInSendQueue` allows.
    SendTimeout,
    /// A write to the log takes longer than `osPageCacheBusyTimeOutMills`.
    PageCacheBusy,
    /// As many pulls wait for messages as `pullThreadPoolQueueCapacity` allows.
    PullOverload,
}

/// Every reason, under its name in `brokerStatus`.
pub const REASONS: [(Reason, &str); 4] = [
    (Reason::SendOverload, "systemBusySendOverload"),
    (Reason::SendTimeout, "systemBusySendTimeout"),
    (Reason::PageCacheBusy, "systemBusyPageCacheBusy"),
    (Reason::PullOverload, "systemBusyPullOverload"),
];

/// How long the lines are, and who was refused.
#[derive(Default)]
pub struct Admission {
    /// Sends that wait for their turn or for the disk.
    sends: AtomicUsize,
    refused: [AtomicU64; REASONS.len()],
}

impl Admission {
    /// So many more sends are under way.
    pub fn enter(&self, sends: usize) {
        self.sends.fetch_add(sends, Ordering::Relaxed);
    }

    /// So many sends are answered.
    pub fn leave(&self, sends: usize) {
        self.sends.fetch_sub(sends, Ordering::Relaxed);
    }

    pub fn sends(&self) -> usize {
        self.sends.load(Ordering::Relaxed)
    }

    /// How often a request was refused for a reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        stats::value(&self.refused[reason as usize])
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: Reason, remark: String) -> Refusal {
        stats::add(&self.refused[reason as usize], 1);
        Refusal::new(codes::SYSTEM_BUSY, remark)
    }
}

impl Broker {
    /// Whether one more send may come behind `before` others of its read.
    pub(crate) fn admit_send(&self, config: &BrokerConfig, now: i64, before: usize) -> Result<(), Refusal> {
        let (sends, capacity) = (self.admission.sends() + before, config.send_thread_pool_queue_capacity);
        if sends >= capacity as usize {
            let remark = format!(
                "[OVERLOAD]system busy, start flow control for a while: {sends} sends are under way, \
                 sendThreadPoolQueueCapacity is {capacity}"
            );
            return Err(self.admission.refuse(Reason::SendOverload, remark));
        }
        let (taken, limit) = (self.append_time(now), config.os_page_cache_busy_time_out_mills);
        if taken > limit {
            let remark = format!(
                "[REJECTREQUEST]system busy, start flow control for a while: a write to the commit log takes {taken} ms, \
                 osPageCacheBusyTimeOutMills is {limit}"
            );
            return Err(self.admission.refuse(Reason::PageCacheBusy, remark));
        }
        Ok(())
    }

    /// How long the append under way has taken, in ms; 0 where there is none.
    pub(crate) fn append_time(&self, now: i64) -> i64 {
        self.store.appending_since().map_or(0, |since| (now - since).max(0))
    }

    /// How long sends wait for their turn at the log.
    pub(crate) fn send_patience(&self, config: &BrokerConfig, now: i64) -> Patience {
        if !config.broker_fast_failure_enable {
            return Patience { reason: Reason::SendTimeout, ms: u64::MAX };
        }
        let queue = config.wait_time_mills_in_send_queue;
        let busy = (config.os_page_cache_busy_time_out_mills - self.append_time(now)).max(0);
        let (reason, ms) = if busy < queue { (Reason::PageCacheBusy, busy) } else { (Reason::SendTimeout, queue) };
        Patience { reason, ms: ms as u64 }
    }

    /// The refusal of a send whose patience ended.
    pub(crate) fn refuse_late_send(&self, patience: &Patience) -> Refusal {
        let word = if patience.reason == Reason::PageCacheBusy { "PCBUSY" } else { "TIMEOUT" };
        let remark = format!(
            "[{word}_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {}ms, size of queue: {}",
            patience.ms,
            self.admission.sends()
        );
        self.admission.refuse(patience.reason, remark)
    }
}

/// How long a send waits for its turn, and why no longer.
pub struct Patience {
    reason: Reason,
    ms: u64,
}

impl Patience {
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}
