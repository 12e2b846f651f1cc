//! What is found absent, and becomes a deletion once it is believed.
//!
//! Deliberately not here: what is believed (`safety`).

use crate::engine::Engine;
use crate::engine::api::event::{Hint, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::limits::PAGE;
use crate::engine::merge::{self, ObservationSource};
use crate::model::SyncPath;
use std::collections::BTreeSet;

impl<I: Index> Core<I> {
    pub(in crate::engine) fn on_disk_below(&self, dir: &SyncPath) -> Vec<SyncPath> {
        let mut paths = Vec::new();
        let mut after = None;
        loop {
            let page = self.index.below(Some(dir), after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            paths.extend(page.into_iter().filter(|(_, row)| row.live_on_disk().is_some()).map(|(path, _)| path));
        }
        paths
    }
}

impl<I: Index> Engine<I> {
    /// A path that is known to be on disk is not: a deletion, once the root is known to be in
    /// order.
    pub(super) fn absent(&mut self, now: Now, path: &SyncPath, found: ObservationSource) {
        self.safety.patterns_are_gone(&mut self.core, path);
        if self.core.is_begun_copy(path) && !self.transfer.is_busy(path) {
            return self.core.forget_copy(path);
        }
        if found == ObservationSource::Restored {
            // The folder came back from a backup: what it lacks is fetched, not deleted (P8).
            return self.forget(now, path);
        }
        self.adopt_deletions(now, path);
        let on_disk = self.core.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
        if on_disk && !self.safety.is_held_missing(path) {
            self.safety.note_missing(now, path.clone());
        }
    }

    pub(super) fn adopt_deletions(&mut self, now: Now, path: &SyncPath) {
        for below in self.core.on_disk_below(path).into_iter().rev() {
            self.was_deleted_anyway(now, &below);
        }
        if !self.core.index.any_on_disk_below(path) {
            self.was_deleted_anyway(now, path);
        }
    }

    /// What is gone and was to be deleted anyway needs no deletion of our own: maybe it was, before
    /// a crash (P5).
    pub(in crate::engine) fn was_deleted_anyway(&mut self, now: Now, path: &SyncPath) -> bool {
        let Some(row) =
            self.core.index.get(path).filter(|row| row.live_on_disk().is_some() && !self.transfer.is_busy(path))
        else {
            return false;
        };
        let deletion = [Some(&row.head), row.installing.as_ref()].into_iter().flatten().find(|entry| !entry.is_live());
        let Some(deletion) = deletion.cloned() else { return false };
        self.store(now, path, &Row { disk: Some(merge::on_disk(deletion, None)), installing: None, ..row });
        true
    }

    /// It is not on disk, and nobody deleted it.
    pub(in crate::engine) fn forget(&mut self, now: Now, path: &SyncPath) {
        if let Some(row) = self.core.index.get(path).filter(|row| row.live_on_disk().is_some()) {
            self.store(now, path, &Row { disk: None, ..row });
        }
    }

    pub(super) fn forget_below(&mut self, now: Now, dir: &SyncPath) {
        for path in self.core.on_disk_below(dir) {
            self.forget(now, &path);
        }
    }

    /// What waited to know whether it is gone is inspected once more, for what was seen of it, and
    /// what was not, may have come in another order than it was; the same for an inspection under
    /// way.
    pub(in crate::engine) fn seen_here(&mut self, now: Now, path: &SyncPath) {
        for back in self.safety.seen_again(path) {
            self.observe.settle.hint(now.mono, back.clone(), Hint::Gone);
            self.transfer.retry_now(&back);
        }
        let mut next = (!self.observe.inspecting.open.is_empty()).then(|| path.clone());
        while let Some(path) = next {
            if let Some(inspection) = self.observe.inspecting.open.get_mut(&path) {
                inspection.seen_since = true;
            }
            next = path.parent();
        }
        self.not_missing(path);
    }

    /// The root was found fine after these were found missing.
    pub(in crate::engine) fn conclude_missing(&mut self, now: Now) {
        let paths = self.safety.take_missing();
        if paths.is_empty() {
            return;
        }
        let (judged, meant) = self.believe_missing(now, paths);
        self.conclude_deleted(now, judged);
        if !meant.is_empty() {
            self.safety.writes_as(Believed::Confirmed);
            self.conclude_deleted(now, meant);
            self.safety.writes_as(Believed::Judged);
        }
    }

    fn conclude_deleted(&mut self, now: Now, paths: BTreeSet<SyncPath>) {
        for path in paths {
            if self.observe.settle.is_noisy(&path) || self.ignores(&path, false) {
                // It may be back: the inspection that comes knows; or patterns came meanwhile.
                continue;
            }
            let directory =
                self.core.index.get(&path).and_then(|row| row.live_on_disk().map(|(e, _)| e.is_directory()));
            match directory {
                Some(true) => {
                    self.delete_below(now, &path);
                    self.delete(now, &path);
                }
                Some(false) => self.delete(now, &path),
                None => {}
            }
            self.transfer.retry_now(&path);
        }
    }

    /// Deletes what the index has on disk strictly below `dir`, the deepest first, so that a peer
    /// that hears it in order never sees a folder go before what is in it.
    pub(super) fn delete_below(&mut self, now: Now, dir: &SyncPath) {
        for path in self.core.on_disk_below(dir).into_iter().rev() {
            self.delete(now, &path);
        }
    }
}
