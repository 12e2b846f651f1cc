//! Changes as they happen: those that come from peers, and those that are announced to them.
//!
//! Deliberately not here: comparing whole trees (`compare.rs`).

use crate::engine::Engine;
use crate::engine::api::digest::deleted_at;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{CHANGES_A_MESSAGE, CHANGES_A_TICK, TOMBSTONE_NS};
use crate::engine::merge::RemoteEffect;
use crate::engine::merge::is_far_ahead;
use crate::engine::peers::Peers;
use crate::engine::peers::identity::Renewal;
use crate::engine::peers::session::Met;
use crate::model::{DeviceId, Entry, Kind, SyncPath};
use crate::wire::message::{Change, Message};
use bytes::Bytes;
use std::collections::VecDeque;

/// A change that is to be told.
pub(in crate::engine) struct OutgoingChange {
    change: Change,
    /// What was live there before, if it was made here.
    was: Option<Kind>,
    /// Devices that know of it.
    relayed_to: Vec<DeviceId>,
}

impl Peers {
    /// Whether whatever is found here is news to every linked peer.
    pub(in crate::engine) fn is_news_to_all(&self) -> bool {
        self.sessions.values().all(|session| session.standing.is_empty_handed)
    }

    /// Sends what is queued, in order, many changes to a message. What is left of a long queue is
    /// due at once: its messages and reports would take more memory together than it does.
    pub(in crate::engine) fn send_changes<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        if self.announces_nothing() {
            self.news.outgoing.clear();
        }
        let mut sent = 0;
        while sent < CHANGES_A_TICK
            && let Some(OutgoingChange { change, was, relayed_to }) = self.news.outgoing.pop_front()
        {
            let mut changes = vec![(change, was)];
            while changes.len() < CHANGES_A_MESSAGE
                && let Some(next) = self.news.outgoing.pop_front_if(|next| next.relayed_to == relayed_to)
            {
                changes.push((next.change, next.was));
            }
            sent += changes.len();
            self.send_group(core, now, changes, relayed_to);
        }
        if self.news.outgoing.is_empty() {
            self.news.outgoing = VecDeque::new();
        }
    }

    fn send_group<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        changes: Vec<(Change, Option<Kind>)>,
        mut relayed_to: Vec<DeviceId>,
    ) {
        let to: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.met == Met::Acquainted && !relayed_to.contains(&s.device))
            .map(|(link, s)| (*link, s.device))
            .collect();
        if to.is_empty() {
            return;
        }
        relayed_to.push(core.config.device);
        relayed_to.extend(to.iter().map(|(_, device)| *device));
        let links: Vec<_> = to.into_iter().map(|(link, _)| link).collect();
        for (change, was) in &changes {
            if change.entry.version.author == core.config.device {
                self.follow(core, now, &change.path, &change.entry, was.clone(), &links);
            }
        }
        let changes = changes.into_iter().map(|(change, _)| change).collect();
        self.send(core, links, Message::Changes { changes, relayed_to });
    }
}

impl<I: Index> Core<I> {
    /// A deletion that no digest counts any more, of a path that is not known here: there is
    /// nothing that it could guard.
    fn is_long_gone(&self, path: &SyncPath, entry: &Entry) -> bool {
        let horizon = self.latest_day.saturating_sub(TOMBSTONE_NS);
        deleted_at(entry).is_some_and(|at| at < horizon) && self.index.get(path).is_none()
    }
}

impl<I: Index> Engine<I> {
    pub(super) fn changes_came(
        &mut self,
        now: Now,
        link: LinkId,
        changes: Vec<Change>,
        relayed_to: &[DeviceId],
        wire_bytes: u64,
    ) {
        let Some(session) = self.peers.sessions.get_mut(&link) else { return };
        session.standing.announced_since += changes.len();
        let sender = session.device;
        let mut relayed_to = relayed_to.to_vec();
        relayed_to.push(sender);
        relayed_to.truncate(crate::model::version::SEEN_LIMIT);
        let total: u64 = changes.iter().filter_map(|c| c.body.as_ref()).map(|body| body.len() as u64).sum();
        for Change { path, entry, body } in changes {
            let share = match &body {
                Some(body) => (u128::from(wire_bytes) * body.len() as u128 / u128::from(total.max(1))) as u64,
                None => 0,
            };
            self.apply_live(now, link, path, entry, body, share, &relayed_to);
        }
    }

    #[expect(clippy::too_many_arguments)]
    fn apply_live(
        &mut self,
        now: Now,
        link: LinkId,
        path: SyncPath,
        entry: Entry,
        body: Option<Bytes>,
        wire_bytes: u64,
        relayed_to: &[DeviceId],
    ) {
        let effect = self.apply_remote(now, link, &path, entry.clone());
        match effect {
            None | Some(RemoteEffect::Older) => {}
            Some(RemoteEffect::Same) => {
                self.offer_source(&path, link, body, wire_bytes);
                self.owes_ack(link, &path, &entry);
            }
            Some(RemoteEffect::Wins) => {
                self.offer_source(&path, link, body, wire_bytes);
                self.owes_ack(link, &path, &entry);
                if self.transfer.is_wanted(&path) {
                    self.transfer.pass_on(&path, relayed_to.to_vec());
                } else {
                    self.announce(now, Change { path, entry, body: None }, relayed_to.to_vec());
                }
            }
        }
    }

    /// Takes in what a peer says of a path; `None` when it is held back.
    pub(in crate::engine) fn apply_remote(
        &mut self,
        now: Now,
        link: LinkId,
        path: &SyncPath,
        entry: Entry,
    ) -> Option<RemoteEffect> {
        if is_far_ahead(now, &entry) {
            self.hold_dated_ahead(path, entry);
            return None;
        }
        if self.peers.renewal == Renewal::Ending || self.core.is_long_gone(path, &entry) {
            return None;
        }
        if !self.peers.pays(&mut self.core, now, link, path, &entry) {
            return None;
        }
        self.is_corrected(path, &entry);
        let effect = self.take_in(now, path, entry);
        if effect == RemoteEffect::Wins {
            self.offer_source(path, link, None, 0);
        }
        Some(effect)
    }

    /// Queues a change for all linked peers but those told already.
    pub(in crate::engine) fn announce(&mut self, now: Now, change: Change, relayed_to: Vec<DeviceId>) {
        self.announce_over(now, change, None, relayed_to);
    }

    /// The same, with what was live there before, for the log.
    pub(in crate::engine) fn announce_over(
        &mut self,
        now: Now,
        change: Change,
        was: Option<Kind>,
        relayed_to: Vec<DeviceId>,
    ) {
        self.state_changed(now);
        if !self.peers.sessions.is_empty() {
            self.peers.news.outgoing.push_back(OutgoingChange { change, was, relayed_to });
        }
    }
}
