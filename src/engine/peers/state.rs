//! What machines tell each other of their trees: equal or not, and what is still to come.
//!
//! Deliberately not here: what a condition is (`condition.rs`), and the comparing (`compare.rs`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::digest::Digests;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::limits::{STATE_EVERY_NS, STATE_QUIET_NS};
use crate::engine::merge::ObservationSource;
use crate::engine::peers::Peers;
use crate::engine::peers::session::Equality;
use crate::engine::peers::session::PeerState;
use crate::engine::peers::session::Session;
use crate::engine::{Engine, api::status::PeerStatus};
use crate::wire::condition::Condition;
use crate::wire::message::{Digest, Message};

impl Peers {
    pub(super) fn next_state(&self) -> Option<u64> {
        let rest = self.news.state_changed_at.map(|since| since + STATE_QUIET_NS);
        let periodic = self.sessions.values().map(|session| session.announced.at + STATE_EVERY_NS).min();
        rest.into_iter().chain(periodic).min().filter(|_| !self.sessions.is_empty())
    }
}

impl<I: Index> Engine<I> {
    /// A scan that knows nothing yet counts as something to come.
    pub(super) fn state(&mut self) -> PeerState {
        let is_scanning = self.observe.finds() != ObservationSource::Walked;
        (self.core.index.root_digest(), self.active_wants() + u64::from(is_scanning), self.condition())
    }

    pub(super) fn announce_state(&mut self, now: Now, link: LinkId) {
        let state = self.state();
        if let Some(session) = self.peers.sessions.get_mut(&link) {
            session.announced.state = Some(state);
            session.announced.at = now.mono;
            let (root, pending, condition) = state;
            self.peers.send(&mut self.core, vec![link], Message::State { root, pending, condition: Some(condition) });
        }
    }

    /// Tells peers how this machine stands, when that has changed and rested, or after a while.
    pub(in crate::engine) fn announce_states_due(&mut self, now: Now) {
        self.peers.name_conditions_due(&mut self.core, now);
        let Some(due) = self.peers.next_state() else { return };
        // A state is announced after the changes that made it.
        if due > now.mono || self.peers.has_outgoing() {
            return;
        }
        let has_quiesced = self.peers.news.state_changed_at.is_some_and(|since| since + STATE_QUIET_NS <= now.mono);
        if has_quiesced {
            self.peers.news.state_changed_at = None;
        }
        let state = self.state();
        let links: Vec<_> = self
            .peers
            .sessions
            .iter()
            .filter(|(_, s)| {
                (has_quiesced && s.announced.state != Some(state)) || s.announced.at + STATE_EVERY_NS <= now.mono
            })
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            self.announce_state(now, link);
        }
        if has_quiesced {
            self.judge_states(now);
        }
    }

    /// What a peer said earlier may be true of us only now.
    fn judge_states(&mut self, now: Now) {
        for link in self.peers.sessions.keys().copied().collect::<Vec<_>>() {
            self.judge_state(now, link);
        }
    }

    pub(in crate::engine) fn announce_state_to_all(&mut self, now: Now) {
        for link in self.peers.sessions.keys().copied().collect::<Vec<_>>() {
            self.recompare(now, link);
        }
    }

    pub(super) fn state_came(
        &mut self,
        now: Now,
        link: LinkId,
        root: Digest,
        pending: u64,
        condition: Option<Condition>,
    ) {
        if let Some(session) = self.peers.sessions.get_mut(&link) {
            session.standing.theirs = Some((root, pending));
            session.standing.condition = condition;
            session.standing.announced_since = 0;
            session.refusals.ends();
            session.standing.is_empty_handed |= (root, pending) == (Digests::empty_root(), 0);
        }
        if let Some(condition) = &condition {
            self.remind_of_confirmations(now, link, condition);
        }
        self.judge_state(now, link);
    }

    /// Compares the roots; the dialler begins to compare when they differ, unless changes are still
    /// under way here.
    pub(super) fn judge_state(&mut self, now: Now, link: LinkId) {
        self.peers.name_condition(&mut self.core, now, link);
        let (root, active, ours) = self.state();
        let (paths, today) = (self.core.index.counts(), self.core.today(now));
        let Some(session) = self.peers.sessions.get_mut(&link) else { return };
        let Some((theirs, pending)) = session.standing.theirs else { return };
        let trouble = |condition: &Condition| !condition.trouble().is_clear();
        if trouble(&ours) || session.standing.condition.as_ref().is_some_and(trouble) {
            session.standing.equality = session.standing.equality.unsaid();
        }
        if theirs == root {
            session.refusals.forget();
            if pending == 0 {
                self.peers.devices.compared_equal(now, today, &session.device);
            }
            if pending == 0 && active == 0 && session.standing.equality == Equality::Unknown {
                session.standing.equality = Equality::WereEqual;
            }
            if Peers::is_in_sync(session, root, &ours) && session.standing.equality != Equality::Said {
                session.standing.equality = Equality::Said;
                let paths = paths.files + paths.directories + paths.symlinks;
                let peer = session.name.clone();
                self.core.out.push(Action::Report(Report::InSync { peer, paths }));
            }
            return;
        }
        let just_announced =
            self.peers.news.state_changed_at.is_some() && session.standing.equality != Equality::Unknown;
        if session.dialler
            && !session.is_comparing()
            && !just_announced
            && session.standing.announced_since == 0
            && session.refusals.may_compare(now.mono)
        {
            self.peers.compare(&mut self.core, link);
        }
    }

    pub(in crate::engine) fn peer_statuses(&mut self) -> Vec<PeerStatus> {
        let (root, ours) = (self.core.index.root_digest(), self.condition());
        let status = |session: &Session| PeerStatus {
            device: session.device,
            name: session.name.clone(),
            in_sync: Peers::is_in_sync(session, root, &ours),
            equal: session.is_equal_to(root),
            condition: session.standing.condition,
            pending: session.pending(),
            clock_ahead_ns: session.clock.ahead_ns(),
            invalid: session.refusals.first().cloned(),
        };
        self.peers.sessions.values().map(status).collect()
    }
}
