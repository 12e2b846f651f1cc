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

use crate::engine::api::index::Index;
use crate::model::{Entry, SyncPath};
use confirm::Confirmations;
use guard::Missing;
use hold::Guard;
use ledger::Ledger;
use redate::Redating;
use scrub::Scrub;
use std::collections::{BTreeMap, BTreeSet};
use suspect::Suspects;
use undo::Undoing;
use unignored::NewlyUnignored;

/// What is not believed at once, and what is checked again.
pub(in crate::engine) struct Safety {
    pub(in crate::engine) missing: Missing,
    /// Missing here, and held until a person answers.
    pub(in crate::engine) held: BTreeSet<SyncPath>,
    pub(in crate::engine) guard: Guard,
    pub(in crate::engine) confirmations: Confirmations,
    pub(in crate::engine) ledger: Ledger,
    pub(in crate::engine) unignored: NewlyUnignored,
    /// Changes dated too far ahead: held until a person confirms these very ones.
    pub(in crate::engine) future: BTreeMap<SyncPath, Entry>,
    pub(in crate::engine) redating: Option<Redating>,
    pub(in crate::engine) undoing: Undoing,
    pub(in crate::engine) scrub: Scrub,
    pub(in crate::engine) suspects: Suspects,
}

impl Safety {
    pub(in crate::engine) fn load(index: &impl Index) -> Self {
        Self {
            missing: Missing::default(),
            held: BTreeSet::new(),
            guard: Guard::default(),
            confirmations: Confirmations::load(index),
            ledger: Ledger::default(),
            unignored: NewlyUnignored::default(),
            future: BTreeMap::new(),
            redating: None,
            undoing: Undoing::default(),
            scrub: Scrub::load(index),
            suspects: Suspects::load(index),
        }
    }
}
