//! Sockets, fifos and devices: left alone, and named where they keep something that is wanted from
//! its place.
//!
//! What waits for one is tried again when an inspection or a walk finds that it is gone.
//! Deliberately not here: what their appearance says of the file that was there before
//! (`inspect.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::observe::Observe;
use crate::model::SyncPath;

impl Observe {
    /// Something at a path is none of the kinds that are synced.
    pub(in crate::engine) fn special_seen<I: Index>(
        &mut self,
        core: &mut Core<I>,
        path: &SyncPath,
        what: &'static str,
    ) {
        if self.problems.left_alone.insert(path.clone(), what).is_none() {
            core.out.push(Action::Report(Report::LeftAlone { path: path.clone(), what }));
        }
    }
}

impl<I: Index> Engine<I> {
    /// Something else is there, or nothing: what waited for that goes on.
    pub(super) fn special_gone(&mut self, path: &SyncPath) {
        if self.observe.problems.left_alone.remove(path).is_some() {
            self.transfer.retry_now(path);
            path.ancestors().for_each(|dir| self.transfer.retry_now(&dir));
        }
    }

    /// A walk came by everything below `dir` (`None`: the whole folder) but these.
    pub(super) fn specials_walked(&mut self, dir: Option<&SyncPath>, was_seen: impl Fn(&SyncPath) -> bool) {
        let is_walked = |path: &&SyncPath| dir.is_none_or(|dir| path.is_below(dir)) && !was_seen(path);
        for path in self.observe.problems.left_alone.keys().filter(is_walked).cloned().collect::<Vec<_>>() {
            self.special_gone(&path);
        }
    }

    /// Whether a folder that is to go, or to make room, waits until the special files in it are
    /// gone.
    pub(in crate::engine) fn keeps_special(&mut self, dir: &SyncPath, is_deleted: bool) -> bool {
        let from = self.observe.problems.left_alone.range(dir.clone()..);
        let mut inside = from.take_while(|(path, _)| path.as_bytes().starts_with(dir.as_bytes()));
        let Some((path, what)) = inside.find(|(path, _)| path.is_below(dir)) else { return false };
        if is_deleted {
            let problem = Problem::KeptForSpecial { special: path.clone(), what };
            // It may have been to make room before. That is no problem any more, and this keeps
            // nobody from being done.
            if !self.observe.inspecting.unseen.contains_key(dir) {
                self.observe.problems.of_paths.remove(dir);
            }
            self.stays(dir, problem);
        } else {
            let problem = Problem::SpecialBelow { special: path.clone(), what };
            self.observe.problem(&mut self.core, dir, problem);
        }
        self.transfer.hold_want(dir);
        self.transfer.note_failed(dir);
        true
    }

    /// Whether something that is wanted waits until a special file in its place, or in that of a
    /// folder of it, is gone. It asks for nothing meanwhile.
    pub(in crate::engine) fn awaits_special(&mut self, path: &SyncPath) -> bool {
        if self.observe.problems.left_alone.is_empty() {
            return false;
        }
        if let Some(what) = self.observe.problems.left_alone.get(path) {
            let problem = Problem::SpecialThere { what };
            self.observe.problem(&mut self.core, path, problem);
        } else if !path.ancestors().any(|dir| self.observe.problems.left_alone.contains_key(&dir)) {
            return false;
        }
        self.transfer.hold_want(path);
        self.transfer.note_failed(path);
        true
    }
}
