//! When the engine is to be told that time has passed.
//!
//! Deliberately not here: what is done then (`mod.rs`).

use crate::engine::Engine;
use crate::engine::api::index::Index;

impl<I: Index> Engine<I> {
    /// When `Event::Tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        if self.peers.is_ending() {
            return None;
        }
        // In the same commit as what it speaks of.
        let has_news =
            self.safety.has_ledger_news() || self.reconcile.has_conflict_news() || self.peers.costs_are_due();
        if self.peers.has_outgoing() || has_news || (self.transfer.has_ready() && !self.is_stopped()) {
            return Some(0);
        }
        let local = [
            self.observe.next_due(self.arrivals_are_due()),
            self.safety.next_local(self.observe.is_walking_all()),
            self.transfer.next_fetch(&self.core),
        ];
        let local = local.into_iter().filter(|_| !self.is_stopped());
        local
            .chain([
                Some(self.core.next_root_check),
                self.safety.next_due(),
                self.reconcile.next_due(),
                self.peers.next_due(),
                self.next_undo(),
                self.next_derivation(),
            ])
            .flatten()
            .min()
    }
}
