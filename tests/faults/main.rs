//! What a disk can do: lose its power, fill up, fail, turn read-only; and a daemon killed at every
//! step. Nothing is lost.
//!
//! Each module is a kind of fault. `docs/reliability.md` keeps the figures of longer runs.
//! Deliberately not here: faults of the network and of the clock (`tests/real`), and knowledge of
//! the crate's inside but for the names of its fail points.

#[path = "../common/mod.rs"]
mod common;

mod chronicle;
mod cuts;
mod errors;
mod kills;
mod work;
