//! RocketMQ's remoting protocol: bytes to types and back, without a socket, a clock or a thread.
//!
//! - [`frame`]: cutting a stream of bytes into frames;
//! - [`header`]: a frame's header in both serialisations (JSON and ROCKETMQ), borrowed from the frame;
//! - [`exchange`]: what a server core and the shell around it say to each other;
//! - [`requests`]: the table of requests: code, name, fields, answer;
//! - [`codes`]: response codes;
//! - [`bodies`]: JSON bodies; [`fastjson`]: what Java's JSON library writes that is no JSON;
//! - [`record`]: the commit log's record, which also travels in answers to pulls;
//! - [`batch`]: several messages in one send; [`properties`]: a message's properties;
//! - [`networks`]: addresses of a broker for clients of several networks;
//! - [`names`]: names that are reserved, and the rules for topic and group names.
//!
//! Everything that is read here comes from a stranger: a decoder returns an error, it never panics,
//! and it allocates no more than what the frame that it was given holds.

pub mod batch;
pub mod bodies;
pub mod codes;
pub mod exchange;
pub mod fastjson;
pub mod frame;
pub mod header;
pub mod message_id;
pub mod names;
pub mod networks;
pub mod pop;
pub mod properties;
pub mod record;
pub mod register;
pub mod requests;
pub mod sys_flag;
pub mod timer;
pub mod version;

pub use frame::Frame;
pub use header::{Header, Serialization};
