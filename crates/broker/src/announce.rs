//! Answers that wait until the name servers were told of a topic: whoever is told that a topic was made may ask for
//! its route at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::exchange::Connection;

use crate::Broker;

/// How long an answer waits at the most, in ms: a name server that is down must not hold up senders.
const MAX_WAIT_MS: i64 = 1000;
/// Answers that may wait at the same time; beyond this they go out at once.
const MAX_WAITING: usize = 10_000;

/// The number of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

struct Waiting {
    ticket: Ticket,
    deadline: i64,
    connection: Arc<Connection>,
    answer: Bytes,
}

#[derive(Default)]
struct State {
    begun: u64,
    done: u64,
    waiting: VecDeque<Waiting>,
}

/// Registrations, and the answers that wait for them.
#[derive(Default)]
pub struct Announcing {
    state: Mutex<State>,
}

impl Broker {
    /// The registration that will know of what was changed until now; `None` without name servers.
    pub(crate) fn next_registration(&self) -> Option<Ticket> {
        let alone = self.config().name_servers().is_empty();
        (!alone).then(|| Ticket(self.announcing.state.lock().begun + 1))
    }

    /// Gives an answer when a registration is done.
    pub(crate) fn answer_when_registered(&self, ticket: Ticket, connection: &Arc<Connection>, answer: Bytes, now: i64) {
        let mut state = self.announcing.state.lock();
        if state.done >= ticket.0 || state.waiting.len() >= MAX_WAITING {
            drop(state);
            return connection.push(answer);
        }
        let deadline = now + MAX_WAIT_MS;
        state.waiting.push_back(Waiting { ticket, deadline, connection: connection.clone(), answer });
    }

    /// A registration begins: call this before [`Broker::registration`].
    pub fn registration_begins(&self) -> Ticket {
        let mut state = self.announcing.state.lock();
        state.begun += 1;
        Ticket(state.begun)
    }

    /// A registration has ended, with all name servers or as well as could be.
    pub fn registration_ended(&self, ticket: Ticket) {
        self.announcing.state.lock().done = ticket.0;
        self.release_answers(|waiting| waiting.ticket <= ticket);
    }

    pub(crate) fn expire_announcements(&self, now: i64) {
        self.release_answers(|waiting| waiting.deadline <= now);
    }

    fn release_answers(&self, due: impl Fn(&Waiting) -> bool) {
        loop {
            let next = self.announcing.state.lock().waiting.pop_front_if(|waiting| due(waiting));
            match next {
                Some(waiting) => waiting.connection.push(waiting.answer),
                None => return,
            }
        }
    }
}
