//! Folders that were deleted elsewhere and stay here for what is in them.
//!
//! Deliberately not here: special files that keep one (`special.rs`), and how people see it
//! (`io/journal`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::observe::Observe;
use crate::model::SyncPath;

impl Observe {
    pub(in crate::engine) fn is_kept_folder(&self, dir: &SyncPath) -> bool {
        self.problems.kept_folders.contains_key(dir)
    }

    /// With those above them, which stay for them.
    pub(in crate::engine) fn kept_folders_in_all(&self) -> usize {
        self.problems.kept_folders.len()
    }

    /// It is gone, or is to stay.
    pub(in crate::engine) fn keeps_no_more<I: Index>(&mut self, core: &mut Core<I>, dir: &SyncPath) {
        if let Some(Some(_)) = self.problems.kept_folders.remove(dir) {
            core.act(Action::Report(Report::Solved { path: Some(dir.clone()) }));
        }
    }
}

impl<I: Index> Engine<I> {
    /// A walk came by something that patterns cover: a folder that was deleted elsewhere stays for
    /// it.
    pub(super) fn keeps_folder(&mut self, ignored_path: &SyncPath) {
        if !self.transfer.has_wants() {
            return;
        }
        let to_go = self.folders_to_go(ignored_path);
        let Some(dir) = to_go.first().filter(|dir| !self.observe.is_kept_folder(dir)).cloned() else {
            return;
        };
        let ignore = &self.observe.ignore;
        let by = ignore.covering(ignored_path, false).or_else(|| ignore.covering(ignored_path, true));
        self.stays(&dir, Problem::KeptForIgnored { ignored: ignored_path.clone(), by });
    }

    /// The folders above a path that are still here and were deleted elsewhere.
    fn folders_to_go(&self, path: &SyncPath) -> Vec<SyncPath> {
        let is_to_go = |dir: &SyncPath| {
            let row = self.transfer.want(dir).and_then(|_| self.core.index.get(dir));
            row.is_some_and(|row| !row.head.is_live() && row.live_on_disk().is_some())
        };
        path.ancestors().filter(is_to_go).collect()
    }

    /// A folder that was deleted elsewhere stays for what is in it.
    pub(super) fn stays(&mut self, dir: &SyncPath, problem: Problem) {
        // The folders above stay for it: one line is enough.
        for above in self.folders_to_go(dir) {
            self.observe.problems.kept_folders.entry(above).or_default();
        }
        if self.observe.problems.kept_folders.insert(dir.clone(), Some(problem.clone())) != Some(Some(problem.clone()))
        {
            self.core.out.push(Action::Report(Report::Problem { path: Some(dir.clone()), problem }));
        }
    }
}
