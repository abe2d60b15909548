//! What std lacks and RocketMQ's users rely on: Java's properties files and string hash, tables of configuration
//! keys, files that are replaced in one step.

pub mod atomic_file;
pub mod config;
pub mod java;
pub mod properties;
