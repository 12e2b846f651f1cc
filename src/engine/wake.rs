//! When the engine is to be told that time has passed.
//!
//! Deliberately not here: what is done then (`mod.rs`).

use crate::engine::api::index::Index;
use crate::engine::observe::walk::Walk;
use crate::engine::{Engine, Renewal};

impl<I: Index> Engine<I> {
    /// When `Event::Tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        if self.renewal == Renewal::Ending {
            return None;
        }
        // In the same commit as what it speaks of.
        let has_news = self.ledger.is_dirty() || self.known_conflicts.has_news() || self.costs.is_due();
        if !self.outgoing.is_empty() || has_news || (self.wants.has_ready() && !self.is_stopped()) {
            return Some(0);
        }
        let local = [
            self.settle.next(),
            self.arrivals.next(self.arrivals_are_due()),
            self.racy.next(),
            self.missing.due(),
            self.guards.next_verdict().filter(|_| !self.walks.values().any(Walk::is_whole)),
            self.guards.next_review(),
            Some(self.next_walk),
            self.next_fetch(),
            self.scrub.next(),
        ];
        let local = local.into_iter().filter(|_| !self.is_stopped());
        local
            .chain([
                Some(self.next_root_check),
                self.unignored.next_reading(),
                Some(self.devices.next_purge()),
                self.survey.due(),
                self.moved.next(),
                self.past.next(),
                self.next_undo(),
                self.next_state(),
                self.next_naming(),
                self.next_derivation(),
                self.deliveries.next(),
                self.confirmations.next(),
            ])
            .flatten()
            .min()
    }
}
