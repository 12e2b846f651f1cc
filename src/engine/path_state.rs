//! The state of one path, for `dirsync why`: synced, pending, ignored, and what it waits for.
//!
//! It reads every room and changes none. Deliberately not here: the shape of the answers
//! (`api/why.rs`).

use crate::engine::Engine;
use crate::engine::api::event::LinkId;
use crate::engine::api::index::{Index, Row};
use crate::engine::api::problem::Problem;
use crate::engine::api::why::{Holders, WaitsFor, Why};
use crate::engine::reconcile::local::local_kind;
use crate::engine::transfer::wants::{Step, Want};
use crate::model::SyncPath;

impl<I: Index> Engine<I> {
    /// `is_dir`: the disk has a folder there.
    pub fn why(&mut self, path: &SyncPath, is_dir: bool) -> Why {
        let row = self.core.index.get(path);
        let is_dir = is_dir || row.as_ref().is_some_and(|row| row.head.is_directory());
        if let Some(covering) = self.observe.patterns().covering(path, is_dir) {
            return Why::Ignored(covering);
        }
        let before = self.safety.patterns_before();
        if let Some(covering) = before.and_then(|before| before.covering(path, is_dir)) {
            return Why::NewlyUnignored(covering);
        }
        if let Some(problem) = self.problem_at(path) {
            return Why::Problem { row, problem };
        }
        let author =
            row.as_ref().map(|row| self.peers.name_of(&self.core, &row.head.version.author)).unwrap_or_default();
        let is_inspected = self.observe.is_unsettled(path) || self.safety.seems_missing(path);
        if is_inspected {
            return Why::Pending { row, author, waits_for: WaitsFor::Inspection };
        }
        let Some(row) = row else { return Why::Unknown };
        if let Some(kind) = local_kind(&row) {
            return Why::Local { row, author, kind };
        }
        if let Some(kind) = self.core.not_installed(&row) {
            return Why::NotInstalled { row, author, kind };
        }
        if self.safety.awaits_person(path) {
            return Why::Pending { row: Some(row), author, waits_for: WaitsFor::Person };
        }
        if let Some(want) = self.transfer.want(path) {
            let waits_for = self.waits_for(path, &row, want);
            return Why::Pending { row: Some(row), author, waits_for };
        }
        if !row.head.is_live() {
            return Why::Deleted { row, author };
        }
        Why::Synced { row, author, holders: self.holders() }
    }

    fn problem_at(&self, path: &SyncPath) -> Option<Problem> {
        let known = self.suspected().chain(self.torn()).chain(self.safety.unread_patterns());
        let special = { known }.find(|(other, _)| other == path).map(|(_, problem)| problem);
        special.or_else(|| self.observe.problem_of(path))
    }

    /// A peer's tree is known as a whole only.
    pub(super) fn holders(&mut self) -> Holders {
        let mut holders = Holders::default();
        for peer in self.peer_statuses() {
            if peer.in_sync { &mut holders.whole } else { &mut holders.unknown }.push(peer.name);
        }
        holders
    }

    fn waits_for(&self, path: &SyncPath, row: &Row, want: &Want) -> WaitsFor {
        if let Step::Installing(_) = want.step {
            return WaitsFor::Install;
        }
        // What is on its way then comes to its end, and is not installed.
        if let Some(why) = &self.core.halted {
            return WaitsFor::Halted(why.text.clone());
        }
        if self.core.paused {
            return WaitsFor::Paused;
        }
        match want.step {
            Step::Asked(link, _) => return self.transfer(path, Some(link)),
            Step::Fetching(fetch) => return self.transfer(path, self.transfer.fetched_from(fetch)),
            _ => {}
        }
        if want.step == Step::Queued {
            return WaitsFor::Turn(self.transfer.place_in_queue(path).unwrap_or(0) as u64);
        }
        let on_disk = |path: &SyncPath| self.core.index.get(path).and_then(|row| Some(row.live_on_disk()?.0.clone()));
        let missing = path.ancestors().filter(|dir| on_disk(dir).is_none_or(|entry| !entry.is_directory())).last();
        if let (Some(dir), true) = (missing, row.head.is_live()) {
            return WaitsFor::Folder(dir);
        }
        let is_directory = row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory());
        if is_directory && !row.head.is_directory() && self.core.index.any_on_disk_below(path) {
            return WaitsFor::Emptying;
        }
        if self.transfer.awaits_space(self.core.last_event) {
            return WaitsFor::Room;
        }
        if self.peers.is_alone() && row.head.file().is_some() {
            return WaitsFor::Machine;
        }
        WaitsFor::NextTry(want.tries())
    }

    pub(super) fn transfer(&self, path: &SyncPath, from: Option<LinkId>) -> WaitsFor {
        let chunks = self.transfers().into_iter().find(|transfer| transfer.path == *path);
        if let Some(transfer) = chunks {
            return WaitsFor::Transfer { from: transfer.from, came: Some((transfer.bytes, transfer.size)) };
        }
        let name = from.and_then(|link| self.peers.name_of_link(link));
        WaitsFor::Transfer { from: name.into_iter().collect(), came: None }
    }
}
