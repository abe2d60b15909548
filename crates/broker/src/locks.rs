//! Queue locks of ordered consumers: a queue belongs to one client of a group for a minute, unless it is renewed.

use std::collections::HashMap;

use parking_lot::Mutex;
use protocol::bodies::QueueValue;

/// How long a lock lives without being renewed (`rocketmq.broker.rebalance.lockMaxLiveTime`).
const LIFETIME_MS: i64 = 60_000;

struct Lock {
    client: String,
    renewed: i64,
}

/// Locks by consumer group and queue.
#[derive(Default)]
pub struct QueueLocks {
    groups: Mutex<HashMap<String, HashMap<QueueValue, Lock>>>,
}

impl QueueLocks {
    /// Takes or renews locks for a client; returns the queues that it holds.
    pub fn lock(&self, group: &str, client: &str, queues: Vec<QueueValue>, now: i64) -> Vec<QueueValue> {
        let mut groups = self.groups.lock();
        let locks = groups.entry(group.to_owned()).or_default();
        queues
            .into_iter()
            .filter(|queue| match locks.get_mut(queue) {
                Some(lock) if lock.client != client && now - lock.renewed <= LIFETIME_MS => false,
                Some(lock) => {
                    *lock = Lock { client: client.to_owned(), renewed: now };
                    true
                }
                None => {
                    locks.insert(queue.clone(), Lock { client: client.to_owned(), renewed: now });
                    true
                }
            })
            .collect()
    }

    /// Gives back those of the queues that the client holds.
    pub fn unlock(&self, group: &str, client: &str, queues: &[QueueValue]) {
        if let Some(locks) = self.groups.lock().get_mut(group) {
            for queue in queues {
                if locks.get(queue).is_some_and(|lock| lock.client == client) {
                    locks.remove(queue);
                }
            }
        }
    }

    /// Whether a group holds any lock, which only ordered consumers do.
    pub fn any_held(&self, group: &str, now: i64) -> bool {
        self.groups.lock().get(group).is_some_and(|locks| locks.values().any(|lock| now - lock.renewed <= LIFETIME_MS))
    }

    /// Forgets expired locks.
    pub fn expire(&self, now: i64) {
        let mut groups = self.groups.lock();
        groups.values_mut().for_each(|locks| locks.retain(|_, lock| now - lock.renewed <= LIFETIME_MS));
        groups.retain(|_, locks| !locks.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_it_expires() {
        let locks = QueueLocks::default();
        let queue = |id| QueueValue { broker_name: "b".into(), queue_id: id, topic: "T".into() };
        assert_eq!(locks.lock("g", "a", vec![queue(0), queue(1)], 0), [queue(0), queue(1)]);
        assert_eq!(locks.lock("g", "b", vec![queue(0), queue(2)], 1), [queue(2)]);
        assert_eq!(locks.lock("h", "b", vec![queue(0)], 1), [queue(0)]);
        locks.unlock("g", "b", &[queue(1)]);
        assert_eq!(locks.lock("g", "b", vec![queue(1)], 2), []);
        locks.unlock("g", "a", &[queue(1)]);
        assert_eq!(locks.lock("g", "b", vec![queue(1)], 3), [queue(1)]);
        assert_eq!(locks.lock("g", "b", vec![queue(0)], LIFETIME_MS + 1), [queue(0)]);
        assert!(locks.any_held("h", LIFETIME_MS));
        locks.expire(LIFETIME_MS * 3);
        assert!(!locks.any_held("g", LIFETIME_MS * 3));
    }
}
