//! Administration of a RocketMQ system, Java's or Ferrocket's.
//!
//! - [`ops`]: one function an operation, typed data out, nothing printed;
//! - [`commands`]: mqadmin's commands as one table, with Java's options and Java's columns.
//!
//! ```text
//! ferrocket admin topicList -n 127.0.0.1:9876
//! ```

pub mod commands;
pub mod ops;

pub use commands::{command, run};
