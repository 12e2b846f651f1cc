//! What a person's confirmation lets go.
//!
//! Deliberately not here: confirmations of other machines (`confirm.rs`), and the answer "no"
//! (`undo.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::digest::entry_hash;
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::safety::Safety;
use crate::engine::safety::guard::{self, LossVerdict};
use crate::engine::safety::ledger::Fate;
use crate::wire::message::Digest;

impl Safety {
    /// A person decided, here or at a peer: what is live now is what later losses are measured
    /// against.
    pub(super) fn renew_total<I: Index>(&mut self, core: &Core<I>, now: Now) {
        self.ledger.renew(core.steady.at(now));
        self.guard.cleared = 0;
        self.guard.reported = None;
    }

    /// Once a group of events: what was counted is stored with it.
    pub(in crate::engine) fn store_held<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let lost = self.ledger.sum(Fate::Lost);
        if guard::judge_losses(lost, self.ledger.total()) == LossVerdict::Believe
            && self.guard.by_peers.losing.is_empty()
        {
            self.guard.reported = None;
        }
        self.store_ledger(core, now);
    }
}

impl<I: Index> Engine<I> {
    /// A person says that whatever waits is meant.
    pub(in crate::engine) fn confirm(&mut self, now: Now) {
        self.release_held(now);
        self.confirm_patterns(now);
        self.mint_dated_ahead(now);
        // So that it is durable with the answer.
        self.announce_confirmed(now);
        self.walk_all(now);
        for link in self.peers.links().collect::<Vec<_>>() {
            self.recompare(now, link);
        }
    }

    /// A person says that all of it is meant. What is missing here is named when it is made a
    /// deletion.
    fn release_held(&mut self, now: Now) {
        let (by_peers, reverted_by_peers) = self.safety.guard.counts();
        let own_reverts = !self.safety.guard.reverts.is_empty();
        let (deletions, reverts) = (by_peers > 0 || !self.safety.held.is_empty(), reverted_by_peers > 0);
        self.safety.name_late(&self.core, now, deletions, reverts || own_reverts);
        self.safety.renew_total(&self.core, now);
        self.safety.forget_refused(&mut self.core);
        if self.safety.holds_anything() {
            self.core.out.push(Action::Report(Report::Confirmed));
        }
        self.safety.guard.released.extend(std::mem::take(&mut self.safety.held));
        for path in std::mem::take(&mut self.safety.guard.reverts) {
            self.inspect_believing(&path, Believed::Confirmed);
        }
        let mut digests = Vec::new();
        for path in self.safety.guard.by_peers.from_peers.clone() {
            if let Some(row) = self.core.index.get(&path) {
                self.safety.name_own(now, &path, &row.head, true);
                digests.push(entry_hash(&path, &row.head));
            }
        }
        self.release_named(&digests);
    }

    /// What is named so goes ahead: how many losses that were counted, and how many of them were
    /// held.
    pub(super) fn release_named(&mut self, digests: &[Digest]) -> (u64, u64) {
        let (mut released, mut held) = (0, 0);
        for digest in digests {
            let Some(path) = self.safety.guard.by_peers.losing_by_digest.get(digest).cloned() else { continue };
            released += 1;
            held += u64::from(self.safety.guard.by_peers.from_peers.contains(&path));
            self.safety.guard.settled(&path);
            self.transfer.retry_now(&path);
        }
        if released > 0 {
            // Their folders may have waited for them.
            self.transfer.retry_all();
        }
        (released, held)
    }
}
