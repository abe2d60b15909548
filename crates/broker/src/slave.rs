//! What a slave copies from its master beside the log: topics, consumer groups, their modes, how far consumers are, how
//! far delayed and timer messages are delivered, and how many timers wait. The process around this core asks the master, and gives the answers.

use std::io;

use bytes::Bytes;
use protocol::bodies::{ConsumerOffsets, SubscriptionGroupTable, TimerMetrics, TopicTable};
use protocol::pop::GroupModes;

use crate::Broker;
use crate::meta::offsets::Committed;

/// What a master has delivered of delayed and timer messages. Those are in its log below `end`: a slave that took it before
/// its disk has as much would not deliver them, and not have them either, when it becomes the master.
pub struct Delivered {
    pub end: u64,
    pub delay_offsets: Bytes,
    pub timers: Option<Bytes>,
}

impl Broker {
    /// Takes how far the master has delivered, where the disk has as much.
    pub fn take_delivered(&self, delivered: &mut Option<Delivered>) -> Result<(), String> {
        let (_, persisted) = self.store.written_and_persisted();
        let Some(delivered) = delivered.take_if(|delivered| delivered.end <= persisted) else { return Ok(()) };
        self.take_delay_offsets(&delivered.delay_offsets)?;
        let timers = delivered.timers.map_or(Ok(()), |page| self.take_timer_check_point(&page));
        timers.map_err(|error| format!("writing config/timercheck: {error}"))
    }

    /// Does what only a slave does, and not while it becomes the master; `None` where it is one: what the old master
    /// answered late counts for nothing then.
    pub(crate) fn while_slave<T>(&self, take: impl FnOnce() -> T) -> Option<T> {
        let _not_now = self.ha.promoting.lock();
        self.is_slave().then(take)
    }

    /// The master's topics.
    pub fn take_topics(&self, table: TopicTable) -> io::Result<()> {
        self.while_slave(|| self.topics.replace(table).map(drop)).unwrap_or(Ok(()))
    }

    /// The master's consumer groups.
    pub fn take_groups(&self, table: SubscriptionGroupTable) -> io::Result<()> {
        self.while_slave(|| self.groups.replace(table).map(drop)).unwrap_or(Ok(()))
    }

    /// The master's consumer offsets. Gives those that consumers committed here while it was not there.
    pub fn take_offsets(&self, offsets: ConsumerOffsets) -> Vec<Committed> {
        self.while_slave(|| self.offsets.replace(offsets)).unwrap_or_default()
    }

    /// The check point of the master's timers.
    pub(crate) fn take_timer_check_point(&self, page: &[u8]) -> io::Result<()> {
        self.while_slave(|| self.wheel.copy_checkpoint(page)).unwrap_or(Ok(()))
    }

    /// How many timers wait at the master.
    pub fn take_timer_metrics(&self, metrics: TimerMetrics) {
        self.while_slave(|| self.wheel.copy_metrics(metrics));
    }

    /// How the master's groups get their messages.
    pub fn take_request_modes(&self, modes: GroupModes) -> io::Result<()> {
        self.while_slave(|| self.pops.copy_modes(modes)).unwrap_or(Ok(()))
    }

    /// The master's `delayOffset.json`.
    pub(crate) fn take_delay_offsets(&self, text: &[u8]) -> Result<(), String> {
        self.while_slave(|| self.schedule.replace(text).map_err(|error| error.to_string())).unwrap_or(Ok(()))
    }
}
