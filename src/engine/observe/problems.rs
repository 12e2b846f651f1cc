//! Problems of paths: named once, and solved when they are gone.
//!
//! Deliberately not here: how people see them (`io/journal`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::limits::SECOND;
use crate::engine::merge::ObservationSource;
use crate::engine::{Engine, Unseen};
use crate::model::SyncPath;

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn problem(&mut self, path: &SyncPath, text: String) {
        if self.observe.problems.of_paths.get(path) != Some(&text) {
            self.observe.problems.of_paths.insert(path.clone(), text.clone());
            self.core.out.push(Action::Report(Report::Problem { path: Some(path.clone()), text }));
        }
    }

    /// It could not be looked at or into: a problem, and tried again, waiting longer each time, up
    /// to a minute.
    pub(in crate::engine) fn not_seen(&mut self, now: Now, path: &SyncPath, found: ObservationSource, text: String) {
        let unseen = self.observe.inspecting.unseen.entry(path.clone()).or_insert(Unseen { found, tries: 0 });
        unseen.tries += 1;
        let after = (SECOND << unseen.tries.min(6)).min(60 * SECOND);
        self.observe.racy.add(now.mono + after, path, false);
        self.problem(path, text);
    }

    pub(in crate::engine) fn solve(&mut self, path: &SyncPath) {
        if self.observe.problems.of_paths.remove(path).is_some() {
            self.core.out.push(Action::Report(Report::Solved { path: Some(path.clone()) }));
        }
    }

    /// Patterns cover it: that it could not be looked at is nobody's problem any more.
    pub(in crate::engine) fn no_concern(&mut self, path: &SyncPath) {
        self.observe.inspecting.unseen.remove(path);
        self.solve(path);
    }
}
