//! A live child needs its directory.
//!
//! Where the winner at a path is a deletion, a file or a link while something below it is live,
//! every machine derives the same directory from that winner, and for a file or link the same
//! conflict copy beside it. It is done once the news has rested and no comparison is under way: the
//! child's own deletion may only not have been heard yet. All folders above a path are derived in
//! one step, and the peer that delivered the path pays for the new ones (P9).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::limits::{DERIVE_QUIET_NS, DERIVE_UNPAID_NS, DERIVED_WEIGHT};
use crate::engine::merge;
use crate::engine::merge::corrects;
use crate::engine::row_cost::row_bytes;
use crate::model::{DeviceId, Entry, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

/// Paths that may lack a directory, when that was heard last (ns), and of whom: `None` is this
/// machine itself.
#[derive(Default)]
pub(in crate::engine) struct Orphans {
    since: BTreeMap<SyncPath, (u64, Option<DeviceId>)>,
    order: BTreeSet<(u64, SyncPath)>,
}

impl Orphans {
    fn insert(&mut self, path: SyncPath, now: u64, payer: Option<DeviceId>) {
        if let Some((old, _)) = self.since.insert(path.clone(), (now, payer)) {
            self.order.remove(&(old, path.clone()));
        }
        self.order.insert((now, path));
    }

    fn earliest(&self) -> Option<u64> {
        self.order.first().map(|(since, _)| *since)
    }

    /// Those of which nothing was heard for long enough, in the order of their paths.
    fn take_quiesced(&mut self, now: u64) -> BTreeMap<SyncPath, Option<DeviceId>> {
        let mut taken = BTreeMap::new();
        while self.earliest().is_some_and(|since| since + DERIVE_QUIET_NS <= now)
            && let Some((_, path)) = self.order.pop_first()
        {
            let payer = self.since.remove(&path).and_then(|(_, payer)| payer);
            taken.insert(path, payer);
        }
        taken
    }
}

impl<I: Index> Engine<I> {
    /// A live path asks for its folder.
    pub(in crate::engine) fn check_parent(&mut self, now: Now, path: &SyncPath, winner: &Entry) {
        let Some(parent) = path.parent().filter(|_| winner.is_live()) else { return };
        if self.reconcile.living_parent.as_ref() == Some(&parent) {
            return;
        }
        if self.core.index.get(&parent).is_some_and(|row| row.head.is_directory()) {
            self.reconcile.living_parent = Some(parent);
        } else {
            self.reconcile.orphans.insert(parent, now.mono, self.peers.payer());
        }
    }

    /// What was a folder, and is none any more, asks for what is in it.
    pub(in crate::engine) fn check_children(&mut self, now: Now, path: &SyncPath, winner: &Entry) {
        if winner.is_directory() {
            return;
        }
        if self.reconcile.living_parent.as_ref() == Some(path) {
            self.reconcile.living_parent = None;
        }
        if self.core.index.any_live_below(path) {
            self.reconcile.orphans.insert(path.clone(), now.mono, self.peers.payer());
        }
    }

    /// When the next derivation may be due.
    pub(in crate::engine) fn next_derivation(&self) -> Option<u64> {
        self.reconcile.orphans.earliest().map(|since| (since + DERIVE_QUIET_NS).max(self.peers.compared_until()))
    }

    pub(in crate::engine) fn derive_due(&mut self, now: Now) {
        if self.next_derivation().is_none_or(|due| due > now.mono) || self.peers.are_comparing() {
            return;
        }
        for (path, payer) in self.reconcile.orphans.take_quiesced(now.mono) {
            if self.peers.announces_nothing() {
                // Writers derive it, and tell this machine.
                continue;
            }
            self.derive(now, path, payer);
        }
    }

    /// The folder at `path`, and all above it that are none.
    fn derive(&mut self, now: Now, path: SyncPath, payer: Option<DeviceId>) {
        let mut lacking = Vec::new();
        for folder in std::iter::successors(Some(path.clone()), SyncPath::parent) {
            // What is local says nothing of what the group has.
            let winner = self.core.index.get(&folder).filter(|row| !row.is_unheard()).map(|row| row.head);
            if winner.as_ref().is_some_and(Entry::is_directory) {
                break;
            }
            if self.observe.is_inspecting(&folder) {
                // Perhaps it is here, and about to be told.
                return self.reconcile.orphans.insert(path, now.mono, payer);
            }
            lacking.push((merge::derived_directory(winner.as_ref()), winner.is_none(), folder));
        }
        if lacking.is_empty() || !self.core.index.any_live_below(&path) {
            return;
        }
        let is_new = lacking.iter().filter(|(_, is_new, _)| *is_new);
        let cost = is_new.map(|(derived, _, folder)| DERIVED_WEIGHT * row_bytes(folder, derived)).sum();
        if let Some(payer) = payer
            && !self.peers.charge(&self.core, now, payer, cost)
        {
            if let Some(link) = self.peers.link_of(&payer) {
                self.peers.refuse_entry(
                    &mut self.core,
                    now,
                    link,
                    &path,
                    "more folders to be derived than one peer may have made",
                );
            }
            return self.reconcile.orphans.insert(path, now.mono + DERIVE_UNPAID_NS, Some(payer));
        }
        for (derived, _, folder) in lacking.into_iter().rev() {
            self.take_in(now, &folder, derived);
        }
    }

    /// Before a derived directory displaces a file or link, that is copied beside it: by those who
    /// have it, and told once it is there, so that nobody waits for what no one has. Whether the
    /// directory must wait for that.
    pub(in crate::engine) fn displaces(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        let Some((displaced, stat)) = row.live_on_disk() else { return false };
        let is_derived = row.head == merge::derived_directory(Some(displaced));
        if displaced.is_directory() || !is_derived || self.is_untrusted(path) {
            return false;
        }
        let (displaced, stat, beside) = (displaced.clone(), *stat, merge::displaced_path(path, displaced));
        let is_begun = self.transfer.is_busy(&beside);
        let is_under_way = self.copy_beside(now, path, &beside, &displaced, stat);
        if is_under_way && !is_begun {
            self.report_conflict(path, &row.head, displaced, None, Some(beside));
        }
        is_under_way
    }

    /// A winner that was heard or derived: the disk follows.
    pub(in crate::engine) fn take_in(&mut self, now: Now, path: &SyncPath, entry: Entry) -> merge::RemoteEffect {
        let row = self.core.index.get(path);
        let is_correction = corrects(now, row.as_ref(), &entry);
        let effect = if is_correction { merge::RemoteEffect::Wins } else { merge::apply_remote(row.as_ref(), &entry) };
        if effect != merge::RemoteEffect::Wins {
            return effect;
        }
        let mut row = row.unwrap_or_else(|| Row { head: entry.clone(), disk: None, installing: None, since: 0 });
        let under_way = self.transfer.entry_under_way(path);
        let is_copy = row.head == merge::nothing();
        if let Some(entry) = &under_way {
            row.installing = Some(entry.clone());
        } else if self.transfer.was_interrupted(path) && !is_copy {
            // The first that may have been cut off: nothing was installed since.
            if !row.is_settled() {
                row.installing.get_or_insert_with(|| row.head.clone());
            }
        } else if !is_copy {
            row.installing = None;
        }
        // What says nothing new of the path leaves what was changed here as it is.
        let stays_local = row.is_local() && entry.same_on_disk(&row.head);
        match (&mut row.disk, &under_way) {
            (_, Some(_)) => {}
            // What is here already is that version now, whoever made it first.
            (Some(disk), None) if disk.entry.same_on_disk(&entry) => {
                (disk.entry, disk.local) = (entry.clone(), false);
            }
            // A deletion of what was never here, or is gone: what is made here next is made on top
            // of it.
            (disk, None) if !entry.is_live() && disk.as_ref().is_none_or(|disk| !disk.entry.is_live()) => {
                *disk = Some(merge::on_disk(entry.clone(), None));
            }
            (Some(disk), None) if stays_local => disk.entry.version = entry.version.clone(),
            _ => {}
        }
        let deleter = &row.head;
        let is_edit = entry.is_live() && !entry.is_directory();
        if !deleter.is_live() && is_edit && !is_copy && !entry.version.supersedes(&deleter.version) {
            let (deleter, editor) = (
                self.peers.name_of(&self.core, &deleter.version.author),
                self.peers.name_of(&self.core, &entry.version.author),
            );
            self.core.out.push(Action::Report(Report::DeletionLost { path: path.clone(), deleter, editor }));
        }
        row.head = entry;
        self.store(now, path, &row);
        effect
    }
}
