//! The state of the whole engine, for people: counts, problems, peers, what is under way.
//!
//! It reads every room and changes none. Deliberately not here: the shape of the answers
//! (`api/status.rs`).

use crate::engine::Engine;
use crate::engine::api::index::Index;
use crate::engine::api::local::DifferingPaths;
use crate::engine::api::problem::Problem;
use crate::engine::api::status::Status;
use crate::engine::limits::{STATUS_DIFFERING, STATUS_PROBLEMS, STATUS_UNDER_WAY};
use crate::engine::transfer::wants::{Step, Want};
use crate::model::SyncPath;

impl<I: Index> Engine<I> {
    /// What needs attention at paths after this one, in their order.
    pub fn problems(&self, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Problem)> {
        let is_after = |(path, _): &(SyncPath, Problem)| after.is_none_or(|after| path > after);
        let mut problems: Vec<_> = self.all_problems().filter(is_after).collect();
        problems.sort_by(|(one, _), (other, _)| one.cmp(other));
        problems.truncate(limit);
        problems
    }

    /// `&mut`: digests are made when asked for.
    pub fn status(&mut self) -> Status {
        let peers = self.peer_statuses();
        let quiet = self.observe.is_idle()
            && !self.observe.awaits_arrivals()
            && !self.safety.has_missing()
            && self.safety.guard_is_quiet();
        let condition = self.condition();
        let (queued_files, queued_bytes) = self.transfer.queued();
        let under_way = |(path, want): (&SyncPath, &Want)| {
            let step = match want.step {
                Step::Waiting | Step::Ready => "waiting",
                Step::Queued => "queued",
                Step::Asked(..) | Step::Fetching(_) => "fetching",
                Step::Installing(_) => "installing",
            };
            (path.clone(), step.to_owned())
        };
        Status {
            device: self.core.config.device,
            name: self.core.config.name.clone(),
            counts: self.core.index.counts(),
            peers,
            idle: quiet && self.has_scanned_all() && self.active_wants() == 0 && !self.peers.has_outgoing(),
            scanning: self.observe.is_walking_all()
                || !(self.observe.has_walked() || self.core.paused || self.core.halted.is_some()),
            paused: self.core.paused,
            halted: self.core.halted.as_ref().map(|halt| halt.text.clone()),
            condition,
            differing: DifferingPaths {
                local: self.local_changes(None, STATUS_DIFFERING),
                not_installed: self.not_installed(None, STATUS_DIFFERING),
            },
            held_deletions: condition.held_deletions,
            held_reverts: condition.held_reverts,
            held_unignored: condition.held_unignored,
            kept_folders: self.observe.kept_folder_count(),
            left_alone: self.observe.left_alone_count(),
            ignored: self.observe.ignored_count(),
            open_conflicts: 0,
            devices: self.peers.device_statuses(self.core.config.device),
            own: self.peers.group().member(&self.core.config.device).cloned(),
            removals: self.peers.group().roster().removals,
            lacks: self.observe.lacks(),
            problems: self.all_problems().take(STATUS_PROBLEMS).collect(),
            transfers: self.transfers(),
            queued_files,
            queued_bytes,
            under_way: self.transfer.wants().take(STATUS_UNDER_WAY).map(under_way).collect(),
        }
    }
}
