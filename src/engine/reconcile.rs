//! Which version of a path wins, what follows from a winner, and what becomes of the loser.
//!
//! Deliberately not here: how a content comes (`transfer`), and who is told (`peers`).

pub(super) mod conflict;
pub(super) mod derive;
pub(super) mod local;
pub(super) mod mint;
pub(super) mod moved;
pub(super) mod not_installed;

use crate::engine::META_COUNTER;
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::Index;
use crate::engine::core::number;
use crate::model::{ContentId, SyncPath};
use conflict::Losers;
use conflict::known::KnownConflicts;
use derive::Orphans;
use local::Locals;
use moved::MovedContents;

/// What versions are made of here, and what follows from those that win.
pub(super) struct Reconcile {
    counter: Counter,
    orphans: Orphans,
    /// A folder that the last check found in order, so that its next child need not ask again.
    living_parent: Option<SyncPath>,
    losers: Losers,
    known_conflicts: KnownConflicts,
    moved: MovedContents,
    locals: Locals,
}

/// This machine's counter of versions.
pub(super) struct Counter {
    /// The last one used in a version of our own.
    last: u64,
    /// The highest that the index says may be in use, now...
    reserved: u64,
    /// ... and at the start.
    at_start: u64,
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
            locals: Locals::default(),
        }
    }
}

/// What other rooms ask of this one, and tell it.
impl Reconcile {
    /// The counter of this machine's last version.
    pub(super) fn last_counter(&self) -> u64 {
        self.counter.last
    }

    pub(super) fn counter_at_start(&self) -> u64 {
        self.counter.at_start
    }

    /// The bases of merges are not known yet.
    pub(super) fn lacks_bases(&self) -> bool {
        !self.losers.has_bases
    }

    /// The copy of a loser could not be made. Whether that is news.
    pub(super) fn copy_failed(&mut self, path: &SyncPath) -> bool {
        self.losers.uncopied.insert(path.clone())
    }

    pub(super) fn has_conflict_news(&self) -> bool {
        self.known_conflicts.has_news()
    }

    /// Where history has a content that went a moment ago.
    pub(super) fn kept_copy(&self, now: Now, content: &ContentId) -> Option<(&str, Stat)> {
        self.moved.kept(now, content)
    }

    /// When something here is due, by `Now::mono`.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.moved.next()
    }
}
