//! What is not believed at once, and what is kept: guards against mass deletion, history's
//! retention, the scrub, suspects, undo.
//!
//! Deliberately not here: how a person is asked (`io/control`).

pub(in crate::engine) mod confirm;
pub mod guard;
#[cfg(test)]
pub(in crate::engine) mod guard_tests;
pub(in crate::engine) mod hold;
pub(in crate::engine) mod ledger;
pub(in crate::engine) mod peer_losses;
pub(in crate::engine) mod redate;
pub(in crate::engine) mod release;
pub mod retention;
pub(in crate::engine) mod reverts;
pub(in crate::engine) mod scrub;
pub(in crate::engine) mod suspect;
pub(in crate::engine) mod undo;
pub(in crate::engine) mod unignored;
pub(in crate::engine) mod verify;
