//! Remoting over tokio: a server that feeds a core ([`protocol::exchange::Service`]) with the frames of its
//! connections, and a client.

pub mod client;
pub mod server;

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock in ms since 1970, as it stands in headers and records.
pub fn now_ms() -> i64 {
    // A clock before 1970 is a machine without a clock; its messages still need some order.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
