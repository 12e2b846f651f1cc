//! Which version of a path wins, what follows from a winner, and what becomes of the loser.
//!
//! Deliberately not here: how a content comes (`transfer`), and who is told (`peers`).

pub(super) mod conflict;
pub(super) mod derive;
pub(super) mod mint;
pub(super) mod moved;

use crate::engine::META_COUNTER;
use crate::engine::api::index::Index;
use crate::engine::core::number;
use crate::model::SyncPath;
use conflict::Losers;
use conflict::known::KnownConflicts;
use derive::Orphans;
use moved::MovedContents;

/// What versions are made of here, and what follows from those that win.
pub(super) struct Reconcile {
    pub(super) counter: Counter,
    pub(super) orphans: Orphans,
    /// A folder that the last check found in order, so that its next child need not ask again.
    pub(super) living_parent: Option<SyncPath>,
    pub(super) losers: Losers,
    pub(super) known_conflicts: KnownConflicts,
    pub(super) moved: MovedContents,
}

/// This machine's counter of versions.
pub(super) struct Counter {
    /// The last one used in a version of our own.
    pub(super) last: u64,
    /// The highest that the index says may be in use, now...
    pub(super) reserved: u64,
    /// ... and at the start.
    pub(super) at_start: u64,
}

impl Reconcile {
    pub(super) fn load(index: &impl Index) -> Self {
        let last = number(index, META_COUNTER);
        Self {
            counter: Counter { last, reserved: last, at_start: last },
            orphans: Orphans::default(),
            living_parent: None,
            losers: Losers::default(),
            known_conflicts: KnownConflicts::default(),
            moved: MovedContents::default(),
        }
    }
}
