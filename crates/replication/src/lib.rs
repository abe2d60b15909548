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
    /// The end of the last whole record: what a master sends is cut anywhere.
    whole: u64,
    persisted: u64,
    /// The end of the last whole record that is known to be on disk: a disk may be asked in the middle of one.
    kept: u64,
}

impl Watermarks {
    /// A log whose first `end` bytes are on disk.
    pub fn new(policy: Policy, end: u64) -> Self {
        Self { policy, written: end, whole: end, persisted: end, kept: end }
    }

    /// A log of `written` bytes, of which only the first `persisted` are known to be on disk; records end at both.
    pub fn recovered(policy: Policy, written: u64, persisted: u64) -> Self {
        let persisted = persisted.min(written);
        Self { policy, written, whole: written, persisted, kept: persisted }
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn persisted(&self) -> u64 {
        self.persisted
    }

    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Below this, consumers and everything derived from the log may see it.
    pub fn visible(&self) -> u64 {
        match self.policy {
            Policy::Written => self.whole,
            Policy::Persisted => self.kept,
        }
    }

    /// Below this, producers have been or may be told that their messages are kept, and a slave tells its master so.
    pub fn acked(&self) -> u64 {
        match self.policy {
            Policy::Written => self.written,
            Policy::Persisted => self.persisted,
        }
    }

    /// The log has been written up to `end`, where a record ends.
    pub fn advance_written(&mut self, end: u64) {
        self.advance_copied(end, end);
    }

    /// The log has been copied up to `end`, and its last whole record ends at `whole`.
    pub fn advance_copied(&mut self, end: u64, whole: u64) {
        assert!(end >= self.written, "the log shrank from {} to {end}", self.written);
        assert!(whole >= self.whole && whole <= end, "records end at {whole}, before {} or behind {end}", self.whole);
        (self.written, self.whole) = (end, whole);
    }

    /// What was copied behind the last whole record is dropped: it is none, and never was visible.
    pub fn drop_unwhole(&mut self) {
        self.written = self.whole;
        self.persisted = self.persisted.min(self.whole);
    }

    /// The disk has confirmed everything below `end`, with whole records up to `whole`.
    pub fn advance_persisted(&mut self, end: u64, whole: u64) {
        // What was dropped while the disk was waited for does not count.
        self.persisted = self.persisted.max(end.min(self.written));
        self.kept = self.kept.max(whole);
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
            assert_eq!((marks.visible(), marks.acked()), (before_sync, before_sync));
            marks.advance_persisted(20, 20);
            marks.advance_persisted(15, 15);
            assert_eq!(marks.persisted(), 20);
            marks.advance_persisted(30, 30);
            assert_eq!(marks.visible(), 30);
        }
    }

    #[test]
    fn only_whole_records_are_visible() {
        let mut marks = Watermarks::new(Policy::Written, 10);
        marks.advance_copied(35, 30);
        assert_eq!((marks.visible(), marks.acked()), (30, 35));
        marks.drop_unwhole();
        assert_eq!((marks.written(), marks.visible(), marks.acked()), (30, 30, 30));
        let mut marks = Watermarks::new(Policy::Persisted, 10);
        marks.advance_copied(35, 30);
        marks.advance_persisted(35, 30);
        marks.advance_copied(50, 40);
        assert_eq!((marks.visible(), marks.acked()), (30, 35), "at 35 no record ends");
    }
}
