//! What this machine and each linked one are at with each other, for who follows along: comparing,
//! transferring, applying, done.
//!
//! It is looked at twice a second at most, so that what lasts less is no news, and costs little
//! where much is wanted. Nothing wakes for it: it is seen with what happens next, which the check
//! of the root is at the latest. Deliberately not here: whether the two are in sync (`state.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report, SyncPhase};
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::limits::PHASE_EVERY_NS;

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn report_phases_due(&mut self, now: Now) {
        if now.mono < self.peers.news.phases_due || self.peers.sessions.is_empty() {
            return;
        }
        self.peers.news.phases_due = now.mono + PHASE_EVERY_NS;
        let coming = self.transfer.coming();
        let is_compared = now.mono < self.peers.news.compared_until;
        for (link, session) in &mut self.peers.sessions {
            let phase = if session.is_comparing() || (is_compared && !session.dialler) {
                SyncPhase::Comparing
            } else if session.pending() > 0 || coming.get(link) == Some(&true) {
                SyncPhase::Transferring
            } else if coming.contains_key(link) {
                SyncPhase::Applying
            } else {
                SyncPhase::Done
            };
            if std::mem::replace(&mut session.standing.phase, phase) != phase {
                let peer = session.name.clone();
                self.core.out.push(Action::Report(Report::Syncing { peer, phase }));
            }
        }
    }
}
