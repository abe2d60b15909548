//! The targets' bodies are those of the bounded run in `crates/protocol/tests/mutations.rs`.

#[path = "../../crates/protocol/tests/decoders/mod.rs"]
pub mod decoders;
