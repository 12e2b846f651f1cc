//! Which version of a path wins, what follows from a winner, and what becomes of the loser.
//!
//! Deliberately not here: how a content comes (`transfer`), and who is told (`peers`).

pub(in crate::engine) mod conflict;
pub(in crate::engine) mod derive;
pub(in crate::engine) mod mint;
pub(in crate::engine) mod moved;

use crate::engine::META_COUNTER;
use crate::engine::api::index::Index;
use crate::engine::core::number;
use crate::model::SyncPath;
use conflict::Losers;
use conflict::known::KnownConflicts;
use derive::Orphans;
use moved::MovedContents;

/// What versions are made of here, and what follows from those that win.
pub(in crate::engine) struct Reconcile {
    pub(in crate::engine) counter: Counter,
    pub(in crate::engine) orphans: Orphans,
    /// A folder that the last check found in order, so that its next child need not ask again.
    pub(in crate::engine) living_parent: Option<SyncPath>,
    pub(in crate::engine) losers: Losers,
    pub(in crate::engine) known_conflicts: KnownConflicts,
    pub(in crate::engine) moved: MovedContents,
}

/// This machine's counter of versions.
pub(in crate::engine) struct Counter {
    /// The last one used in a version of our own.
    pub(in crate::engine) last: u64,
    /// The highest that the index says may be in use, now...
    pub(in crate::engine) reserved: u64,
    /// ... and at the start.
    pub(in crate::engine) at_start: u64,
}

impl Reconcile {
    pub(in crate::engine) fn load(index: &impl Index) -> Self {
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
