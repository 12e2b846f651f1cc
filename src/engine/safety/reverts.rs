//! Files that went back to older contents here: how many at once is believed to be meant.
//!
//! Deliberately not here: deletions (`hold.rs`), and what peers say (`peer_losses.rs`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Now, Observed};
use crate::engine::api::index::Index;
use crate::engine::core::Believed;
use crate::engine::limits::DISASTER_FILES;
use crate::engine::merge::ObservationSource;
use crate::engine::safety::guard::{self, LossVerdict};
use crate::engine::safety::ledger::Fate;
use crate::engine::{Engine, Inspection};
use crate::model::{Entry, Kind, SyncPath};
use std::collections::BTreeSet;

impl<I: Index> Engine<I> {
    /// A file that went back to older contents waits until it is known how many do. Nothing of that
    /// in a folder of few files.
    pub(in crate::engine) fn awaits_verdict(
        &mut self,
        now: Now,
        path: &SyncPath,
        observed: &Observed,
        found: ObservationSource,
    ) -> bool {
        let Observed::File { stat, content, .. } = observed else { return false };
        let kind = Kind::File { size: stat.size, content: *content };
        let row = self.core.index.get(path);
        let is_revert = matches!(found, ObservationSource::Walked | ObservationSource::Live)
            && row.as_ref().is_some_and(|row| {
                let expected = [Some(&row.head), row.installing.as_ref()].into_iter().flatten();
                let is_older = |(entry, known): (&Entry, &crate::engine::Stat)| {
                    entry.file().is_some() && entry.kind != kind && stat.mtime < known.mtime
                };
                row.live_on_disk().is_some_and(is_older) && !expected.into_iter().any(|entry| entry.kind == kind)
            });
        // What came less than an hour ago does not count.
        let then = self.safety.ledger.then(self.steady(now));
        let is_revert =
            is_revert && (self.safety.ledger.get(path).is_some() || row.is_some_and(|row| row.since <= then));
        // What is announced to nobody needs no verdict.
        let is_revert = is_revert && self.core.role.announces();
        let held = self.safety.guard.reverts.contains(path);
        let believed = self.safety.guard.believed.remove(path);
        if is_revert && believed == Some(Believed::Refused) {
            self.seen_here(now, path);
            self.safety.undoing.refused.remove(path);
            self.refuse_revert(now, path, kind, stat);
            self.transfer.retry_now(path);
            return true;
        }
        if !is_revert || believed.is_some() {
            self.safety.guard.writes = believed.filter(|_| is_revert).unwrap_or_default();
            self.safety.guard.reverts.remove(path);
            return false;
        }
        if self.safety.ledger.total().files < DISASTER_FILES && !self.safety.undoing.refused.contains(path) {
            return false;
        }
        if !held {
            self.safety.guard.reverting.add(now.mono, path.clone());
        }
        self.seen_here(now, path);
        true
    }

    pub(in crate::engine) fn judge_reverts(&mut self, now: Now) {
        // A walk still comes by more of them.
        let is_due = self.safety.guard.reverting.due().is_some_and(|due| due <= now.mono);
        if !is_due || self.observe.is_walking_all() {
            return;
        }
        self.safety.guard.reverting.check_begins();
        let paths = self.safety.guard.reverting.take();
        let (refused, paths): (BTreeSet<_>, BTreeSet<_>) =
            paths.into_iter().partition(|path| self.safety.undoing.refused.contains(path));
        self.safety.guard.reverts.extend(refused);
        if paths.is_empty() {
            return;
        }
        let going: BTreeSet<_> = paths.union(&self.safety.guard.reverts).cloned().collect();
        let lost = self.losses(now, &going, &going).and(self.safety.ledger.sum(Fate::Reverted));
        let of = self.safety.ledger.total();
        let verdict = guard::judge_losses(lost, of);
        if verdict == LossVerdict::Hold && !self.safety.guard.allow {
            let reverts = self.losses(now, &paths, &going).files;
            self.core.out.push(Action::Report(Report::HeldReverts { reverts, of: of.files, by_peers: false }));
            self.safety.guard.reverts.extend(paths);
            return;
        }
        let believed = if verdict == LossVerdict::Hold { Believed::Confirmed } else { Believed::Judged };
        if believed == Believed::Confirmed {
            self.safety.name_late(&self.core, now, false, true);
        }
        for path in paths {
            self.inspect_believing(&path, believed);
        }
    }

    pub(super) fn inspect_believing(&mut self, path: &SyncPath, believed: Believed) {
        let known = self.core.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        self.safety.guard.believed.insert(path.clone(), believed);
        self.inspect(path, known, Inspection::of(self.observe.live()));
    }
}
