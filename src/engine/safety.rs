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

use crate::engine::api::event::{LocatedKept, Now};
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::Index;
use crate::engine::core::Believed;
use crate::model::{ContentId, Entry, Kind, SyncPath};
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
    missing: Missing,
    /// Missing here, and held until a person answers.
    held: BTreeSet<SyncPath>,
    guard: Guard,
    confirmations: Confirmations,
    ledger: Ledger,
    unignored: NewlyUnignored,
    /// Changes dated too far ahead: held until a person confirms these very ones.
    future: BTreeMap<SyncPath, Entry>,
    redating: Option<Redating>,
    undoing: Undoing,
    scrub: Scrub,
    suspects: Suspects,
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

#[cfg(test)]
impl Safety {
    pub(super) fn held_mut(&mut self) -> &mut BTreeSet<SyncPath> {
        &mut self.held
    }
}

/// What other rooms ask of this one, and tell it.
impl Safety {
    /// Nothing is held for being too much; what would be counts as confirmed.
    pub(super) fn allow_mass_delete(&mut self) {
        self.guard.allow = true;
    }

    /// Missing here, and held until a person answers.
    pub(super) fn is_held_missing(&self, path: &SyncPath) -> bool {
        self.held.contains(path)
    }

    /// Its loss waits for a person's answer.
    pub(super) fn awaits_person(&self, path: &SyncPath) -> bool {
        self.held.contains(path) || self.guard.awaits(path)
    }

    /// It is as the group has it: no loss of it is judged.
    pub(super) fn note_settled(&mut self, path: &SyncPath) {
        self.guard.settled(path);
    }

    /// How losses that are written from now on are believed.
    pub(super) fn writes_as(&mut self, believed: Believed) {
        self.guard.writes = believed;
    }

    /// How many paths are held: missing here, for what peers did, and newly unignored.
    pub(super) fn held_lengths(&self) -> [usize; 3] {
        [self.held.len(), self.guard.held(), self.unignored.paths as usize]
    }

    /// Deletions, reverts, and newly unignored paths that wait for a person.
    pub(super) fn held_counts(&self) -> (u64, u64, u64) {
        let (by_peers, reverts) = self.guard.counts();
        (self.held.len() as u64 + by_peers, reverts, self.unignored.paths)
    }

    /// No loss waits to be judged.
    pub(super) fn guard_is_quiet(&self) -> bool {
        self.guard.is_quiet()
    }

    /// Since when a content was held here that is gone (steady time, ns).
    pub(super) fn since_of(&self, content: ContentId) -> Option<u64> {
        self.ledger.since_of(content)
    }

    /// This very content was at the path within the last hour.
    pub(super) fn was_lately(&self, path: &SyncPath, kind: &Kind) -> bool {
        self.ledger.get(path).is_some_and(|(span, _)| span.last.kind == *kind)
    }

    pub(super) fn has_ledger_news(&self) -> bool {
        self.ledger.is_dirty()
    }

    /// It was found missing. Whether it was deleted is judged once the root is known to be in
    /// order.
    pub(super) fn note_missing(&mut self, now: Now, path: SyncPath) {
        self.missing.add(now.mono, path);
    }

    /// It was found missing, and nothing was concluded yet.
    pub(super) fn seems_missing(&self, path: &SyncPath) -> bool {
        self.missing.contains(path)
    }

    pub(super) fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    pub(super) fn forget_missing(&mut self) {
        self.missing.forget();
    }

    pub(super) fn take_missing(&mut self) -> BTreeSet<SyncPath> {
        self.missing.take()
    }

    /// Something was seen at a path: what of it and above it counts as missing no more.
    pub(super) fn seen_again(&mut self, path: &SyncPath) -> Vec<SyncPath> {
        self.missing.seen(path)
    }

    /// The folder is in use.
    pub(super) fn note_life(&mut self) {
        self.missing.lives();
    }

    /// Whether the root is to be checked now for what is missing; that check has begun then.
    pub(super) fn begin_missing_check(&mut self, now: Now) -> bool {
        let is_due = self.missing.due().is_some_and(|due| due <= now.mono);
        if is_due {
            self.missing.check_begins();
        }
        is_due
    }

    /// The day on which its content was last found right (days since 1970; 0: never).
    pub(super) fn verified_on(&self, path: &SyncPath) -> u32 {
        self.scrub.day(path)
    }

    pub(super) fn is_suspected(&self, path: &SyncPath) -> bool {
        self.suspects.contains(path)
    }

    /// Where history here has a content that an undo promised to others.
    pub(super) fn promised(&self, path: &SyncPath, content: ContentId) -> Option<&LocatedKept> {
        self.undoing.locating.promised(path, content)
    }

    /// Something is at the path: nobody needs to bring it back.
    pub(super) fn note_back(&mut self, path: &SyncPath) {
        self.undoing.refused.remove(path);
    }

    /// Until patterns are known, nothing is synced.
    pub(super) fn awaits_patterns(&self) -> bool {
        self.unignored.awaits_patterns()
    }

    pub(super) fn note_patterns_read(&mut self) {
        self.unignored.is_reading = false;
    }

    /// The patterns that covered more, while what a peer took from them is held.
    pub(super) fn patterns_before(&self) -> Option<&Ignore> {
        self.unignored.before.as_ref()
    }

    /// When something here is due that needs a root in order, by `Now::mono`. No loss is judged in
    /// the middle of a whole walk.
    pub(super) fn next_local(&self, is_walking_all: bool) -> Option<u64> {
        let verdict = self.guard.next_verdict().filter(|_| !is_walking_all);
        let due = [self.missing.due(), verdict, self.guard.next_review(), self.scrub.next()];
        due.into_iter().flatten().min()
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        [self.unignored.next_reading(), self.confirmations.next()].into_iter().flatten().min()
    }
}
