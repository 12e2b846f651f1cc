//! When the engine is to be told that time has passed.
//!
//! Deliberately not here: what is done then (`mod.rs`).

use crate::engine::api::index::Index;
use crate::engine::{Engine, Renewal};

impl<I: Index> Engine<I> {
    /// When `Event::Tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        if self.peers.renewal == Renewal::Ending {
            return None;
        }
        // In the same commit as what it speaks of.
        let has_news =
            self.safety.ledger.is_dirty() || self.reconcile.known_conflicts.has_news() || self.peers.costs.is_due();
        if !self.peers.news.outgoing.is_empty() || has_news || (self.transfer.wants.has_ready() && !self.is_stopped()) {
            return Some(0);
        }
        let local = [
            self.observe.settle.next(),
            self.observe.arrivals.next(self.arrivals_are_due()),
            self.observe.racy.next(),
            self.safety.missing.due(),
            self.safety.guard.next_verdict().filter(|_| !self.observe.is_walking_all()),
            self.safety.guard.next_review(),
            Some(self.observe.walking.next),
            self.transfer.next_fetch(&self.core),
            self.safety.scrub.next(),
        ];
        let local = local.into_iter().filter(|_| !self.is_stopped());
        local
            .chain([
                Some(self.core.next_root_check),
                self.safety.unignored.next_reading(),
                Some(self.peers.devices.next_purge()),
                self.peers.queries.survey.due(),
                self.reconcile.moved.next(),
                self.peers.queries.past.next(),
                self.next_undo(),
                self.peers.next_state(),
                self.peers.next_naming(),
                self.next_derivation(),
                self.peers.deliveries.next(),
                self.safety.confirmations.next(),
            ])
            .flatten()
            .min()
    }
}
