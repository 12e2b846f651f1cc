//! Which version of a path wins, what follows from a winner, and what becomes of the loser.
//!
//! Deliberately not here: how a content comes (`transfer`), and who is told (`peers`).

pub(in crate::engine) mod conflict;
pub(in crate::engine) mod derive;
pub mod merge;
pub(in crate::engine) mod mint;
pub(in crate::engine) mod moved;
