//! What a slave copies from its master beside the log: topics, consumer groups, their modes, how far consumers are, how
//! far delayed and timer messages are delivered, and how many timers wait. The process around this core asks the master, and
//! gives the answers.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use protocol::bodies::{ConsumerOffsets, SubscriptionGroupTable, TimerMetrics, TopicTable};
use protocol::pop::GroupModes;
use protocol::{fastjson, names};
use replication::epoch::EpochHistory;

use crate::Broker;
use crate::meta::offsets::{self, Committed};
use crate::places::Place;

/// How far a master's consumers are, and what it has delivered of delayed and timer messages. What that follows from is in its
/// log below `end`: a slave that took it before its disk has as much would not deliver those messages, and not have them
/// either, when it becomes the master; nor would it bring back what was popped, or ask about half messages.
pub struct Delivered {
    /// The epochs of that log; `None` where the master has none, as Java's.
    pub epochs: Option<EpochHistory>,
    pub listed: Listed,
    pub end: u64,
    /// Its consumer offsets. Those of its own groups are what is resolved of half messages and of pops.
    pub offsets: Bytes,
    pub delay_offsets: Bytes,
    pub timers: Option<Bytes>,
}

/// A master's topics, asked for when the slave's log ended at `below`: others that have messages there were deleted.
pub struct Listed {
    pub(crate) below: u64,
    pub(crate) topics: BTreeSet<String>,
}

impl Listed {
    pub fn new(below: u64, table: &TopicTable) -> Self {
        Self { below, topics: table.topic_config_table.keys().cloned().collect() }
    }
}

impl Broker {
    /// Takes how far the master's consumers are and what it has delivered, where the disk has as much of the same log; of
    /// another log it means nothing. Gives the offsets that consumers committed here while the master was not there, of what
    /// its log has for sure: a master that this slave has copied has the messages before them, too.
    pub fn take_delivered(&self, delivered: &mut Option<Delivered>) -> Result<Vec<Committed>, String> {
        let take = || {
            delivered.take_if(|delivered| !self.copies(delivered.epochs.as_ref()));
            let (_, persisted) = self.store.written_and_persisted();
            let Some(taken) = delivered.take_if(|d| d.end <= persisted) else { return Ok(Vec::new()) };
            let Delivered { listed, end, offsets, delay_offsets, timers, .. } = taken;
            self.forget_topics(&listed).map_err(|error| format!("removing deleted topics' consume queues: {error}"))?;
            let offsets: ConsumerOffsets = fastjson::from_slice(&offsets).map_err(|error| error.to_string())?;
            let own = offsets::of_broker(&offsets.offset_table);
            let ahead = self.offsets.replace(offsets, |topic, queue| self.queue_end(topic, queue));
            let delay_offsets = self.schedule.replace(&delay_offsets).map_err(|error| error.to_string())?;
            let timers = timers.map(|page| self.wheel.copy_checkpoint(&page)).transpose();
            let timers = timers.map_err(|error| format!("writing config/timercheck: {error}"))?;
            let noted = self.places.note(Place { end, delay_offsets, timers, offsets: own });
            noted.map_err(|error| format!("writing config/delivered.json: {error}"))?;
            Ok(ahead)
        };
        self.while_slave(take).unwrap_or(Ok(Vec::new()))
    }

    /// Removes the queues of topics that the master has deleted: this slave, promoted, would have them again, and would go on
    /// in their queues where they are made anew.
    fn forget_topics(&self, listed: &Listed) -> io::Result<()> {
        if self.store.rebuilding().is_some() {
            return Ok(());
        }
        for topic in self.unlisted_topics(|topic| listed.topics.contains(topic)) {
            if self.store.delete_topic_below(&topic, listed.below)? {
                tracing::info!("topic {topic} was deleted at the master: its queues are removed here, too");
            }
        }
        Ok(())
    }

    /// Topics that have queues here and are none of those that are listed, nor the broker's own.
    pub(crate) fn unlisted_topics(&self, listed: impl Fn(&str) -> bool) -> Vec<String> {
        let mut topics: Vec<_> = self.store.queues().iter().map(|queue| queue.topic.clone()).collect();
        topics.dedup();
        topics.retain(|topic| !listed(topic) && !names::is_system_topic(topic) && !topic.starts_with(names::LMQ_PREFIX));
        topics
    }

    /// Whether this slave's log is a copy of one with these epochs, and of no other.
    pub fn copies(&self, master: Option<&EpochHistory>) -> bool {
        master.is_none_or(|master| self.epochs().as_ref() == Some(master))
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

    /// How many timers wait at the master.
    pub fn take_timer_metrics(&self, metrics: TimerMetrics) {
        self.while_slave(|| self.wheel.copy_metrics(metrics));
    }

    /// How the master's groups get their messages.
    pub fn take_request_modes(&self, modes: GroupModes) -> io::Result<()> {
        self.while_slave(|| self.pops.copy_modes(modes)).unwrap_or(Ok(()))
    }
}
