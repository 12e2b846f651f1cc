//! Problems of paths: named once, and solved when they are gone.
//!
//! Deliberately not here: how people see them (`io/journal`).

use crate::engine::Unseen;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::SECOND;
use crate::engine::merge::ObservationSource;
use crate::engine::observe::Observe;
use crate::model::SyncPath;

impl Observe {
    /// Paths that need attention, and why.
    pub(in crate::engine) fn problems<I: Index>(&self, core: &Core<I>) -> impl Iterator<Item = (SyncPath, Problem)> {
        let of_paths = self.problems.of_paths.iter().map(|(path, problem)| (path.clone(), problem.clone()));
        let kept =
            self.problems.kept_folders.iter().filter_map(|(path, problem)| Some((path.clone(), problem.clone()?)));
        self.long_names(core).map(|(path, problem)| (path.clone(), problem.clone())).chain(of_paths).chain(kept)
    }

    /// Folders that stay are left alone, and count as no problem.
    pub(in crate::engine) fn problem_count<I: Index>(&self, core: &Core<I>) -> usize {
        self.long_names(core).count() + self.problems.of_paths.len()
    }

    /// Of folders that are there still: one that is gone took its names along.
    fn long_names<I: Index>(&self, core: &Core<I>) -> impl Iterator<Item = (&SyncPath, &Problem)> {
        let is_there = |dir: &SyncPath| core.index.get(dir).is_some_and(|row| row.live_on_disk().is_some());
        self.problems.too_long.iter().filter(move |(dir, _)| is_there(dir)).map(|(dir, (_, problem))| (dir, problem))
    }

    pub(in crate::engine) fn problem<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath, problem: Problem) {
        if self.problems.of_paths.get(path) != Some(&problem) {
            self.problems.of_paths.insert(path.clone(), problem.clone());
            core.out.push(Action::Report(Report::Problem { path: Some(path.clone()), problem }));
        }
    }

    /// It could not be inspected, or looked into: a problem, and tried again, waiting longer each
    /// time, up to a minute.
    pub(super) fn not_seen<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        path: &SyncPath,
        found: ObservationSource,
        problem: Problem,
    ) {
        let unseen = self.inspecting.unseen.entry(path.clone()).or_insert(Unseen { found, tries: 0 });
        unseen.tries += 1;
        let after = (SECOND << unseen.tries.min(6)).min(60 * SECOND);
        self.racy.add(now.mono + after, path, false);
        self.problem(core, path, problem);
    }

    pub(in crate::engine) fn solve<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        if self.problems.of_paths.remove(path).is_some() {
            core.out.push(Action::Report(Report::Solved { path: Some(path.clone()) }));
        }
    }

    /// Patterns cover it: that it could not be inspected is nobody's problem any more.
    pub(super) fn no_concern<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        self.inspecting.unseen.remove(path);
        self.solve(core, path);
    }
}
