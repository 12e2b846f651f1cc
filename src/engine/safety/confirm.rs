//! What was confirmed, change by change: kept, told, and held against what peers do (P8).
//!
//! A confirmation names each change by the hash of its path and entry. It lets go what it names, be
//! it here or still to come, and nothing else. It is kept for a month, so that it reaches machines
//! that were away. Whoever brought it pays with its share of the room; a confirmation that named
//! something here stays before one that did not (P9). Deliberately not here: what is held
//! (`hold.rs`), and signatures (`io/net/seal.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::digest::entry_hash;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::core::on_disk;
use crate::engine::limits::{
    CONFIRM_GATHER_NS, CONFIRM_REMIND_NS, CONFIRMATION_BYTES, CONFIRMATION_NS, CONFIRMATION_OWN_SLOTS,
    CONFIRMATION_SLOTS, CONFIRMATIONS_OF_ALL, CONFIRMATIONS_OF_ONE, HOUR_NS,
};
use crate::engine::safety::Safety;
use crate::engine::safety::ledger::Fate;
use crate::model::{DeviceId, Entry, Kind, SyncPath};
use crate::wire::condition::Condition;
use crate::wire::confirmation::{CONFIRMED_AT_ONCE, Confirmation, Seal};
use crate::wire::features::CONFIRM;
use crate::wire::message::{Digest, Message};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const META_SLOTS: &str = "confirmations";

fn meta_of(slot: u16) -> String {
    format!("{META_SLOTS}.{slot}")
}

/// A confirmation, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownConfirmation {
    seal: Seal,
    digests: Vec<Digest>,
    /// When it came, by the steady clock.
    at: u64,
    /// Who brought it; `None`: this machine's user gave it, and it is signed when it is sent.
    from: Option<DeviceId>,
    /// It named a loss here.
    is_of_use: bool,
}

impl KnownConfirmation {
    fn names(&self, digest: &Digest) -> bool {
        self.digests.binary_search(digest).is_ok()
    }

    fn bytes(&self) -> usize {
        CONFIRMATION_BYTES + self.digests.as_flattened().len()
    }

    fn rank(&self) -> (bool, u64) {
        (self.is_of_use, self.at)
    }
}

#[derive(Default)]
pub(in crate::engine) struct Confirmations {
    kept: BTreeMap<u16, KnownConfirmation>,
    /// What this machine's user meant and is still to be told.
    gathered: BTreeSet<Digest>,
    /// When that is, by `Now::mono`.
    due: Option<u64>,
}

impl Confirmations {
    pub fn load(index: &impl Index) -> Self {
        let slots = index.meta(META_SLOTS).and_then(|stored| postcard::from_bytes::<Vec<u16>>(&stored).ok());
        let read = |slot| Some((slot, postcard::from_bytes::<KnownConfirmation>(&index.meta(&meta_of(slot))?).ok()?));
        let kept = slots.unwrap_or_default().into_iter().filter_map(read).collect();
        Self { kept, ..Self::default() }
    }

    /// When gathered changes are to be told.
    pub fn next(&self) -> Option<u64> {
        self.due
    }

    fn names(&self, digest: &Digest) -> bool {
        self.gathered.contains(digest) || self.kept.values().any(|kept| kept.names(digest))
    }

    fn gather(&mut self, digest: Digest, due: u64) {
        if !self.names(&digest) {
            self.gathered.insert(digest);
        }
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// Notes that a loss here was named. Whether it was, and whether that is the first of its list.
    fn uses(&mut self, index: &mut impl Index, digest: &Digest) -> (bool, bool) {
        let Some((slot, kept)) = self.kept.iter_mut().find(|(_, kept)| kept.names(digest)) else {
            return (self.gathered.contains(digest), false);
        };
        let is_first = !std::mem::replace(&mut kept.is_of_use, true);
        if is_first {
            store(index, *slot, Some(kept));
        }
        (true, is_first)
    }

    /// Of this machine's user; lists are filled up one by one.
    fn add_own(&mut self, index: &mut impl Index, at: u64, mut digests: Vec<Digest>) {
        while !digests.is_empty() {
            let own = |kept: &KnownConfirmation| kept.from.is_none() && kept.digests.len() < CONFIRMED_AT_ONCE;
            let open = self.kept.iter().find(|(_, kept)| own(kept)).map(|(slot, _)| *slot);
            let free = || (0..CONFIRMATION_OWN_SLOTS).find(|slot| !self.kept.contains_key(slot));
            let oldest =
                || self.kept.range(..CONFIRMATION_OWN_SLOTS).min_by_key(|(_, kept)| kept.at).map(|(slot, _)| *slot);
            let is_new = open.is_none();
            let slot = open.or_else(free).or_else(oldest).unwrap_or(0);
            if is_new {
                let made =
                    KnownConfirmation { seal: Seal::default(), digests: Vec::new(), at, from: None, is_of_use: true };
                self.kept.insert(slot, made);
                self.store_slots(index);
            }
            let Some(kept) = self.kept.get_mut(&slot) else { return };
            let rest = digests.split_off(digests.len().min(CONFIRMED_AT_ONCE - kept.digests.len()));
            kept.digests.append(&mut digests);
            kept.digests.sort_unstable();
            kept.at = at;
            store(index, slot, Some(kept));
            digests = rest;
        }
    }

    /// Of a peer; `false`: there is no room for it.
    fn add(&mut self, index: &mut impl Index, kept: KnownConfirmation) -> bool {
        let others = CONFIRMATION_OWN_SLOTS..CONFIRMATION_SLOTS;
        loop {
            let mut by_peer: BTreeMap<Option<DeviceId>, usize> = BTreeMap::new();
            for kept in self.kept.range(others.clone()).map(|(_, kept)| kept) {
                *by_peer.entry(kept.from).or_default() += kept.bytes();
            }
            let free = others.clone().find(|slot| !self.kept.contains_key(slot));
            let of_one = by_peer.get(&kept.from).copied().unwrap_or(0) + kept.bytes();
            let of_all = by_peer.values().sum::<usize>() + kept.bytes();
            let payer = match free {
                _ if of_one > CONFIRMATIONS_OF_ONE => kept.from,
                Some(slot) if of_all <= CONFIRMATIONS_OF_ALL => {
                    store(index, slot, Some(&kept));
                    self.kept.insert(slot, kept);
                    self.store_slots(index);
                    return true;
                }
                _ => by_peer.iter().max_by_key(|(_, bytes)| **bytes).and_then(|(from, _)| *from),
            };
            let of_payer = self.kept.range(others.clone()).filter(|(_, kept)| kept.from == payer);
            let Some((slot, least)) = of_payer.min_by_key(|(_, kept)| kept.rank()) else { return false };
            if least.is_of_use && !kept.is_of_use {
                return false;
            }
            let slot = *slot;
            self.remove(index, slot);
        }
    }

    fn remove(&mut self, index: &mut impl Index, slot: u16) {
        if self.kept.remove(&slot).is_some() {
            store(index, slot, None);
            self.store_slots(index);
        }
    }

    fn store_slots(&self, index: &mut impl Index) {
        let slots: Vec<u16> = self.kept.keys().copied().collect();
        index.set_meta(META_SLOTS, &postcard::to_stdvec(&slots).expect("writing to memory does not fail"));
    }

    fn forget_old(&mut self, index: &mut impl Index, now: u64) {
        let is_old = |kept: &KnownConfirmation| kept.at.saturating_add(CONFIRMATION_NS) < now;
        let old: Vec<u16> = self.kept.iter().filter(|(_, kept)| is_old(kept)).map(|(slot, _)| *slot).collect();
        for slot in old {
            self.remove(index, slot);
        }
    }
}

fn store(index: &mut impl Index, slot: u16, kept: Option<&KnownConfirmation>) {
    let bytes = kept.map(|kept| postcard::to_stdvec(kept).expect("writing to memory does not fail"));
    index.set_meta(&meta_of(slot), &bytes.unwrap_or_default());
}

/// Whether a file is on disk no more as it was.
fn takes_away(old: Option<&Row>, row: &Row) -> bool {
    let file = on_disk(old).filter(|kind| matches!(kind, Kind::File { .. }));
    file.is_some() && file != on_disk(Some(row))
}

impl Safety {
    /// Whether a person said that this very change was meant, here or elsewhere.
    fn is_named(&self, path: &SyncPath, entry: &Entry) -> bool {
        let is_empty = self.confirmations.kept.is_empty() && self.confirmations.gathered.is_empty();
        !is_empty && self.confirmations.names(&entry_hash(path, entry))
    }

    /// Whether a row that is being written takes away what a person wants to go. What this
    /// machine's user meant is named to the others.
    pub(in crate::engine) fn is_meant<I: Index>(
        &mut self,
        core: &Core<I>,
        now: Now,
        path: &SyncPath,
        old: Option<&Row>,
        row: &Row,
    ) -> bool {
        let is_said = self.guard.writes == Believed::Confirmed;
        let is_own = row.head.version.author == core.config.device;
        if is_said && is_own && takes_away(old, row) {
            self.name_own(now, path, &row.head, !row.head.is_live());
        }
        is_said || self.guard.allow || self.is_named(path, &row.head)
    }

    /// The same of a loss that was just heard of. With the first one that a confirmation names, a
    /// person has decided: what is live now is what later losses are measured against.
    pub(super) fn is_named_loss<I: Index>(&mut self, core: &mut Core<I>, now: Now, digest: &Digest) -> bool {
        let (is_named, is_first) = self.confirmations.uses(&mut core.index, digest);
        if is_first {
            self.renew_total(core, now);
        }
        is_named
    }

    /// The user of this machine meant this change. Peers hear of it at once, or with others that
    /// are just being found.
    pub(super) fn name_own(&mut self, now: Now, path: &SyncPath, entry: &Entry, is_last: bool) {
        let due = if is_last { now.mono } else { now.mono + CONFIRM_GATHER_NS };
        self.confirmations.gather(entry_hash(path, entry), due);
    }

    /// So was what the same count had let through: other machines may hold it.
    pub(super) fn name_late<I: Index>(&mut self, core: &Core<I>, now: Now, deletions: bool, reverts: bool) {
        let is_counted = |fate| match fate {
            Fate::Lost | Fate::Beside => deletions,
            Fate::Reverted => reverts,
            Fate::Rewritten => false,
        };
        let late = self.ledger.spans().filter(|(_, span, fate)| span.content.is_some() && is_counted(*fate));
        let late: Vec<_> = late.map(|(path, ..)| path.clone()).collect();
        for path in late {
            if let Some(row) = core.index.get(&path) {
                self.name_own(now, &path, &row.head, true);
            }
        }
    }

    /// Since when what a change takes away counts as having been here, for history: what a
    /// confirmation lets go, always, so that it is guarded for a day. What came less than an hour
    /// ago is no loss, and no flood of it can fill history so.
    pub(in crate::engine) fn stood_since<I: Index>(
        &self,
        core: &Core<I>,
        path: &SyncPath,
        entry: &Entry,
        row: &Row,
    ) -> u64 {
        let hour_ago = core.steady(core.last_event).saturating_sub(HOUR_NS);
        if row.since <= hour_ago && self.is_named(path, entry) { 0 } else { row.since }
    }
}

impl<I: Index> Engine<I> {
    /// What was gathered is kept, and told.
    pub(super) fn announce_confirmed(&mut self, now: Now) {
        let gathered: Vec<Digest> = std::mem::take(&mut self.safety.confirmations.gathered).into_iter().collect();
        self.safety.confirmations.due = None;
        if gathered.is_empty() {
            return;
        }
        let steady = self.steady(now);
        self.safety.confirmations.forget_old(&mut self.core.index, steady);
        let to = self.apply_confirmations(None);
        for list in gathered.chunks(CONFIRMED_AT_ONCE).filter(|_| !to.is_empty()) {
            self.peers.send(&mut self.core, to.clone(), Message::Confirm(Confirmation::unsigned(list.to_vec())));
        }
        self.safety.confirmations.add_own(&mut self.core.index, steady, gathered);
    }

    pub(in crate::engine) fn announce_confirmed_due(&mut self, now: Now) {
        let is_full = self.safety.confirmations.gathered.len() >= CONFIRMED_AT_ONCE;
        if is_full || self.safety.confirmations.due.is_some_and(|due| due <= now.mono) {
            self.announce_confirmed(now);
        }
    }

    fn apply_confirmations(&self, but: Option<LinkId>) -> Vec<LinkId> {
        let mut to = self.peers.links_where(|session| session.is_acquainted() && session.features.has(CONFIRM));
        to.retain(|link| Some(*link) != but);
        to
    }

    /// All that are kept, to a peer that may lack some.
    pub(in crate::engine) fn announce_confirmations_to(&mut self, now: Now, link: LinkId) {
        if !self.peers.begin_confirmations(now, link) {
            return;
        }
        let steady = self.steady(now);
        self.safety.confirmations.forget_old(&mut self.core.index, steady);
        let signed = |kept: &KnownConfirmation| Confirmation { seal: kept.seal.clone(), digests: kept.digests.clone() };
        let all: Vec<_> = self.safety.confirmations.kept.values().map(signed).collect();
        for confirmation in all {
            self.peers.send(&mut self.core, vec![link], Message::Confirm(confirmation));
        }
    }

    /// A peer says that it holds something: it may have had no room for what lets that go.
    pub(in crate::engine) fn remind_of_confirmations(&mut self, now: Now, link: LinkId, condition: &Condition) {
        let holds = condition.held_deletions > 0 || condition.held_reverts > 0;
        let announced = self.peers.confirmations_announced(link);
        if holds && announced.is_some_and(|announced| announced + CONFIRM_REMIND_NS <= now.mono) {
            self.announce_confirmations_to(now, link);
        }
    }

    /// A person confirmed at another machine. The signature was found right before it came here.
    pub(in crate::engine) fn confirmation_came(&mut self, now: Now, link: LinkId, confirmation: Confirmation) {
        let Some(from) = self.peers.device_of(link) else { return };
        let by = confirmation.seal.device();
        if self.peers.group().removal(&by).is_some() {
            // A machine that does not know of the removal yet may bring it: a person is asked.
            return;
        }
        let is_news = confirmation.digests.iter().any(|digest| !self.safety.confirmations.names(digest));
        let (released, held) = self.release_named(&confirmation.digests);
        if released > 0 {
            self.safety.renew_total(&self.core, now);
        }
        if held > 0 {
            let by = self.peers.name_of(&self.core, &by);
            self.core.out.push(Action::Report(Report::ConfirmedBy { by, paths: held }));
        }
        // Whatever it names was known: it has been here before, or says nothing more.
        if !is_news {
            return;
        }
        let steady = self.steady(now);
        self.safety.confirmations.forget_old(&mut self.core.index, steady);
        let Confirmation { seal, digests } = confirmation;
        let kept = KnownConfirmation { seal, digests, at: steady, from: Some(from), is_of_use: released > 0 };
        let passed_on = Confirmation { seal: kept.seal.clone(), digests: kept.digests.clone() };
        if self.safety.confirmations.add(&mut self.core.index, kept) {
            let to = self.apply_confirmations(Some(link));
            if !to.is_empty() {
                self.peers.send(&mut self.core, to, Message::Confirm(passed_on));
            }
        }
    }
}

#[cfg(test)]
mod tests;
