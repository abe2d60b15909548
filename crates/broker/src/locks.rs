//! Queue locks of ordered consumers: a queue belongs to one client of a group for a while, unless the lock is renewed.
//! The lifetime is `rocketmq.broker.rebalance.lockMaxLiveTime`, which is a system property of Java's broker, in ms.

use std::collections::HashMap;

use parking_lot::Mutex;
use protocol::bodies::QueueValue;

struct Lock {
    client: String,
    renewed: i64,
}

impl Lock {
    fn lives(&self, now: i64, lifetime: i64) -> bool {
        now - self.renewed <= lifetime
    }
}

/// Locks by consumer group and queue.
#[derive(Default)]
pub struct QueueLocks {
    groups: Mutex<HashMap<String, HashMap<QueueValue, Lock>>>,
}

impl QueueLocks {
    /// Takes or renews locks for a client; returns the queues that it holds.
    pub fn lock(&self, group: &str, client: &str, queues: Vec<QueueValue>, now: i64, lifetime: i64) -> Vec<QueueValue> {
        let mut groups = self.groups.lock();
        let locks = groups.entry(group.to_owned()).or_default();
        queues
            .into_iter()
            .filter(|queue| match locks.get_mut(queue) {
                Some(lock) if lock.client != client && lock.lives(now, lifetime) => false,
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
    pub fn any_held(&self, group: &str, now: i64, lifetime: i64) -> bool {
        self.groups.lock().get(group).is_some_and(|locks| locks.values().any(|lock| lock.lives(now, lifetime)))
    }

    /// Forgets expired locks.
    pub fn expire(&self, now: i64, lifetime: i64) {
        let mut groups = self.groups.lock();
        groups.values_mut().for_each(|locks| locks.retain(|_, lock| lock.lives(now, lifetime)));
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
        let lock = |group, client, queues, now| locks.lock(group, client, queues, now, 1000);
        assert_eq!(lock("g", "a", vec![queue(0), queue(1)], 0), [queue(0), queue(1)]);
        assert_eq!(lock("g", "b", vec![queue(0), queue(2)], 1), [queue(2)]);
        assert_eq!(lock("h", "b", vec![queue(0)], 1), [queue(0)]);
        locks.unlock("g", "b", &[queue(1)]);
        assert_eq!(lock("g", "b", vec![queue(1)], 2), []);
        locks.unlock("g", "a", &[queue(1)]);
        assert_eq!(lock("g", "b", vec![queue(1)], 3), [queue(1)]);
        // The last moment of a lock, a renewal, and the first moment without one.
        assert_eq!(lock("g", "b", vec![queue(0)], 1000), []);
        assert_eq!(lock("g", "a", vec![queue(0)], 1000), [queue(0)]);
        assert_eq!(lock("g", "b", vec![queue(0)], 2000), []);
        assert_eq!(lock("g", "b", vec![queue(0)], 2001), [queue(0)]);
        assert!(locks.any_held("h", 1001, 1000) && !locks.any_held("h", 1002, 1000));
        locks.expire(3001, 1000);
        assert!(locks.any_held("g", 3001, 1000));
        locks.expire(3002, 1000);
        assert!(!locks.any_held("g", 3001, 1000));
    }
}
