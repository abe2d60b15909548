//! Consumer groups as an operator sees and moves them. Clients that are moved wait for ten seconds and more: all tests of
//! this binary wait at the same time.

mod begin;
mod mqadmin;
mod resets;
