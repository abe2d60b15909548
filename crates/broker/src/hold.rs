//! Pulls that found nothing and wait for a message: long polling.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::exchange::Responder;
use store::queue::Queue;

use crate::handlers::pull::Pull;

/// A pull that waits.
pub struct Held {
    pub pull: Pull,
    pub responder: Responder,
    /// When it is answered even without a message, in ms.
    pub deadline: i64,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<(String, i32), Vec<Held>>,
    count: usize,
}

/// All pulls that wait, by queue.
#[derive(Default)]
pub struct Holds {
    state: Mutex<State>,
}

impl Holds {
    /// Pulls that wait.
    pub fn count(&self) -> usize {
        self.state.lock().count
    }

    /// Keeps a pull until a message arrives in its queue or its deadline passes. Gives it back where `capacity` wait.
    pub fn park(&self, queue: &Arc<Queue>, held: Held, capacity: i32) -> Result<(), Box<Held>> {
        let mut state = self.state.lock();
        if state.count >= capacity as usize {
            return Err(Box::new(held));
        }
        state.count += 1;
        state.queues.entry((queue.topic.clone(), queue.id)).or_default().push(held);
        // From here on every message that becomes visible in the queue is told of.
        queue.watch();
        Ok(())
    }

    /// Takes out the pulls that wait for a queue.
    pub fn take(&self, queue: &Queue) -> Vec<Held> {
        let mut state = self.state.lock();
        let held = state.queues.remove(&(queue.topic.clone(), queue.id)).unwrap_or_default();
        state.count -= held.len();
        held
    }

    /// Takes out the pulls whose deadline has passed.
    pub fn take_expired(&self, now: i64) -> Vec<Held> {
        let mut state = self.state.lock();
        let mut expired = Vec::new();
        state.queues.retain(|_, held| {
            let mut waiting = Vec::with_capacity(held.len());
            for one in held.drain(..) {
                if one.deadline <= now { expired.push(one) } else { waiting.push(one) }
            }
            *held = waiting;
            !held.is_empty()
        });
        state.count -= expired.len();
        expired
    }
}
