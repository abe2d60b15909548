//! How far the slaves of a master have come, and whether a send may count on them.

use std::collections::BTreeMap;

/// How many slaves a SYNC_MASTER's send waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// As in 4.x: one slave, which must not be more than so many bytes behind to begin with.
    OneWithin(u64),
    /// As in 5.x (`inSyncReplicas`): so many copies in all, the master's own counted.
    Copies(usize),
}

/// Where a send stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Copied,
    /// Slaves are on their way to it.
    Awaited,
    /// No slave is near enough to be waited for.
    NotAvailable,
}

/// A slave that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its end of the connection.
    pub address: String,
    /// It has everything below; `None` before it said so.
    pub acked: Option<u64>,
    /// What it is sent next.
    pub next: u64,
    /// Bytes that it was sent in the last whole second.
    pub bytes_a_second: u64,
}

/// The slaves of a master, by connection.
#[derive(Debug, Default)]
pub struct Replicas {
    peers: BTreeMap<u64, Peer>,
    /// The most that any slave ever had.
    newest: u64,
}

impl Replicas {
    pub fn joined(&mut self, id: u64, address: String) {
        self.peers.insert(id, Peer { address, acked: None, next: 0, bytes_a_second: 0 });
    }

    pub fn left(&mut self, id: u64) -> Option<Peer> {
        self.peers.remove(&id)
    }

    /// A slave has everything below `end`.
    pub fn acked(&mut self, id: u64, end: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.acked = Some(end);
            self.newest = self.newest.max(end);
        }
    }

    /// A slave was sent everything below `next`.
    pub fn sent(&mut self, id: u64, next: u64, bytes_a_second: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            (peer.next, peer.bytes_a_second) = (next, bytes_a_second);
        }
    }

    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Where a send stands whose messages end at `end`.
    pub fn standing(&self, end: u64, demand: Demand) -> Standing {
        let acked = || self.peers.values().filter_map(|peer| peer.acked);
        let copied = match demand {
            Demand::OneWithin(_) => self.newest >= end,
            Demand::Copies(count) => 1 + acked().filter(|acked| *acked >= end).count() >= count,
        };
        match demand {
            _ if copied => Standing::Copied,
            Demand::OneWithin(gap) if acked().all(|acked| end - acked >= gap) => Standing::NotAvailable,
            _ => Standing::Awaited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slave_that_is_near_is_waited_for() {
        let (mut replicas, demand) = (Replicas::default(), Demand::OneWithin(100));
        assert_eq!(replicas.standing(50, demand), Standing::NotAvailable);
        replicas.joined(1, "a".into());
        assert_eq!(replicas.standing(50, demand), Standing::NotAvailable, "it has said nothing yet");
        replicas.acked(1, 0);
        assert_eq!(replicas.standing(99, demand), Standing::Awaited);
        assert_eq!(replicas.standing(100, demand), Standing::NotAvailable);
        replicas.acked(1, 99);
        assert_eq!(replicas.standing(99, demand), Standing::Copied);
        replicas.left(1);
        assert_eq!(replicas.standing(99, demand), Standing::Copied, "what it has it keeps");
        assert_eq!(replicas.standing(100, demand), Standing::NotAvailable);
    }

    #[test]
    fn copies_are_counted_with_the_masters_own() {
        let mut replicas = Replicas::default();
        assert_eq!(replicas.standing(9, Demand::Copies(1)), Standing::Copied);
        assert_eq!(replicas.standing(9, Demand::Copies(2)), Standing::Awaited);
        for id in 1..=2 {
            replicas.joined(id, id.to_string());
            assert_eq!(replicas.standing(9, Demand::Copies(3)), Standing::Awaited);
            replicas.acked(id, 9);
        }
        assert_eq!(replicas.standing(9, Demand::Copies(3)), Standing::Copied);
    }
}
