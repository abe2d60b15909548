//! How far a log has come, and who may rely on how much of it. A position is an offset in the commit log;
//! every mode of flushing and copying is a policy over the same marks.

pub mod epoch;
pub mod ha;
pub mod replicas;

/// Which mark consumers may see and producers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// ASYNC_FLUSH: what is written is visible and acknowledged.
    Written,
    /// SYNC_FLUSH: what the disk has confirmed is visible and acknowledged.
    Persisted,
}

/// The marks of one log. `persisted <= written` and `whole <= written` always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    policy: Policy,
    written: u64,
    persisted: u64,
}

impl Watermarks {
    /// A log whose first `end` bytes are on disk.
    pub fn new(policy: Policy, end: u64) -> Self {
        Self::recovered(policy, end, end)
    }

    /// A log of `written` bytes, of which only the first `persisted` are known to be on disk; records end at both.
    pub fn recovered(policy: Policy, written: u64, persisted: u64) -> Self {
        Self { policy, written, persisted: persisted.min(written) }
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn persisted(&self) -> u64 {
        self.persisted
    }

    /// Below this, consumers and everything derived from the log may see it; producers have been or may be told that their
    /// messages are kept, and a slave tells its master so.
    pub fn visible(&self) -> u64 {
        match self.policy {
            Policy::Written => self.written,
            Policy::Persisted => self.persisted,
        }
    }

    /// The log has been written up to `end`, where a record ends.
    pub fn advance_written(&mut self, end: u64) {
        assert!(end >= self.written, "the log shrank from {} to {end}", self.written);
        self.written = end;
    }

    /// The disk has confirmed everything below `end`.
    pub fn advance_persisted(&mut self, end: u64) {
        self.persisted = self.persisted.max(end.min(self.written));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_says_what_is_visible() {
        for (policy, before_sync) in [(Policy::Written, 30), (Policy::Persisted, 10)] {
            let mut marks = Watermarks::new(policy, 10);
            marks.advance_written(30);
            assert_eq!(marks.visible(), before_sync);
            marks.advance_persisted(20);
            marks.advance_persisted(15);
            assert_eq!(marks.persisted(), 20);
            marks.advance_persisted(30);
            assert_eq!(marks.visible(), 30);
        }
    }
}
