//! What a slave copies from its master beside the log: topics, consumer groups, their modes, how far consumers are, and how
//! far delayed and timer messages are delivered. The process around this core asks the master, and gives the answers.

use std::io;

use protocol::bodies::{ConsumerOffsets, SubscriptionGroupTable, TopicTable};
use protocol::pop::GroupModes;

use crate::Broker;
use crate::meta::offsets::Committed;

impl Broker {
    /// The master's topics.
    pub fn take_topics(&self, table: TopicTable) -> io::Result<()> {
        self.topics.replace(table).map(drop)
    }

    /// The master's consumer groups.
    pub fn take_groups(&self, table: SubscriptionGroupTable) -> io::Result<()> {
        self.groups.replace(table).map(drop)
    }

    /// The master's consumer offsets. Gives those that consumers committed here while it was not there.
    pub fn take_offsets(&self, offsets: ConsumerOffsets) -> Vec<Committed> {
        self.offsets.replace(offsets)
    }

    /// The check point of the master's timers. Nothing where this broker is no slave any more.
    pub fn take_timer_check_point(&self, page: &[u8]) -> io::Result<()> {
        if self.is_slave() { self.wheel.copy_checkpoint(page) } else { Ok(()) }
    }

    /// How the master's groups get their messages.
    pub fn take_request_modes(&self, modes: GroupModes) -> io::Result<()> {
        self.pops.copy_modes(modes)
    }

    /// The master's `delayOffset.json`.
    pub fn take_delay_offsets(&self, text: &[u8]) -> Result<(), String> {
        self.schedule.replace(text).map_err(|error| error.to_string())
    }
}
