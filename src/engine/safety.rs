//! What is not believed at once, and what is kept: guards against mass deletion, history's
//! retention, the scrub, suspects, undo.
//!
//! Deliberately not here: how a person is asked (`io/control`).

pub(super) mod confirm;
pub mod guard;
#[cfg(test)]
pub(super) mod guard_tests;
pub(super) mod hold;
pub(super) mod ledger;
pub(super) mod peer_losses;
pub(super) mod redate;
pub(super) mod release;
pub mod retention;
pub(super) mod reverts;
pub(super) mod scrub;
pub(super) mod suspect;
pub(super) mod undo;
pub(super) mod unignored;
pub(super) mod verify;

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
pub(super) struct Safety {
    pub(super) missing: Missing,
    /// Missing here, and held until a person answers.
    pub(super) held: BTreeSet<SyncPath>,
    pub(super) guard: Guard,
    pub(super) confirmations: Confirmations,
    pub(super) ledger: Ledger,
    pub(super) unignored: NewlyUnignored,
    /// Changes dated too far ahead: held until a person confirms these very ones.
    pub(super) future: BTreeMap<SyncPath, Entry>,
    pub(super) redating: Option<Redating>,
    pub(super) undoing: Undoing,
    pub(super) scrub: Scrub,
    pub(super) suspects: Suspects,
}

impl Safety {
    pub(super) fn load(index: &impl Index) -> Self {
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
