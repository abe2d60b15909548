//! What a slave copies from its master beside the log: topics, consumer groups, and offsets of both consumers and delay
//! levels. The process around this core asks the master, and gives the answers.

use std::io;

use protocol::bodies::{ConsumerOffsets, SubscriptionGroupTable, TopicTable};

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

    /// The master's `delayOffset.json`.
    pub fn take_delay_offsets(&self, text: &[u8]) -> Result<(), String> {
        self.schedule.replace(text).map_err(|error| error.to_string())
    }
}
