//! The requests' handlers: plain functions that never wait.

pub mod admin;
pub mod clients;
pub mod consume;
pub mod inspect;
pub mod pull;
pub mod recall;
pub mod reply;
pub mod reset;
pub mod send;
pub mod send_back;
pub mod topics;

use protocol::exchange::Refusal;
use protocol::sys_flag::perm;

use crate::Broker;

/// What a handler's outcome is: done (answered or parked), or refused.
pub type Handled = Result<(), Refusal>;

pub(crate) fn can_read(bits: i32) -> bool {
    bits & perm::READ != 0
}

pub(crate) fn can_write(bits: i32) -> bool {
    bits & perm::WRITE != 0
}

/// A file of the broker that can't be written is the broker's error, not the caller's.
pub(crate) fn io_refusal(what: &str, error: &std::io::Error) -> Refusal {
    tracing::error!("{what}: {error}");
    Refusal::new(protocol::codes::SYSTEM_ERROR, format!("{what}: {error}"))
}

impl Broker {
    /// The broker's name in messages about it.
    pub(crate) fn label(&self) -> String {
        self.config().broker_ip1.clone()
    }
}
