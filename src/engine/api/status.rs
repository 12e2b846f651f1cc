//! What the engine says of itself when asked.

use crate::engine::Engine;
use crate::engine::api::index::{Counts, Index};
use crate::engine::observe::walk::Walk;
use crate::engine::transfer::wants::{Step, Want};
use crate::model::{DeviceId, SyncPath};
use crate::wire::condition::Condition;

/// Problems and paths under way that a status names, at most.
const STATUS_PROBLEMS: usize = 1000;
const STATUS_UNDER_WAY: usize = 100;

/// What `dirsync status` shows of one peer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerStatus {
    pub device: DeviceId,
    pub name: String,
    /// Whether it holds the same tree, and neither it nor this machine has anything left to do.
    pub in_sync: bool,
    /// Whether it holds the same tree, as it said last.
    pub equal: bool,
    /// How it stands, as it said last; an older version does not say.
    pub condition: Option<Condition>,
    /// Paths still to be installed there, as it said last.
    pub pending: u64,
    /// How far its clock is ahead of ours (ns; negative: behind), if that is too much.
    pub clock_ahead_ns: Option<i64>,
    /// It announces entries that are not taken in: the first, and why.
    pub invalid: Option<String>,
}

/// A device that was linked once, and was not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStatus {
    pub device: DeviceId,
    pub name: String,
    pub linked: bool,
    /// When it was linked last (ns since 1970).
    pub seen_ns: Option<u64>,
    /// When it held the same tree last, to the day (ns since 1970).
    pub equal_ns: Option<u64>,
}

/// A content that comes in chunks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TransferStatus {
    pub path: SyncPath,
    /// The names of those that bring it.
    pub from: Vec<String>,
    /// Here, of `size`.
    pub bytes: u64,
    pub size: u64,
    /// Over the last seconds.
    pub bytes_a_second: u64,
}

/// What `dirsync status` shows; `dirsync wait` waits until `idle` and every peer is `in_sync`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    pub device: DeviceId,
    pub name: String,
    pub counts: Counts,
    pub peers: Vec<PeerStatus>,
    /// Nothing to look at, fetch, install or tell.
    pub idle: bool,
    pub scanning: bool,
    pub paused: bool,
    /// Why syncing is stopped, and what to do.
    pub halted: Option<String>,
    /// What keeps this machine from being done.
    pub condition: Condition,
    /// Deletions that wait for `dirsync confirm`.
    pub held_deletions: u64,
    /// Files that went back to older contents, here or by peers, and wait for the same.
    pub held_reverts: u64,
    /// Paths that a peer's change of the ignore file uncovered here, and that wait for the same.
    pub held_unignored: u64,
    /// Folders that were deleted elsewhere and stay for what patterns cover in them; each is a
    /// problem that keeps nobody from being in sync.
    pub kept_folders: u64,
    /// What is left alone, as nobody syncs it: sockets, fifos and devices, and what patterns cover.
    pub left_alone: u64,
    pub ignored: u64,
    /// Conflicts that nobody has decided; the shell counts them.
    pub open_conflicts: u64,
    /// Every device that is known.
    pub devices: Vec<DeviceStatus>,
    /// What the folder's file system does not keep.
    pub lacks: Vec<String>,
    /// Paths that need attention, and why (at most 1,000).
    pub problems: Vec<(SyncPath, String)>,
    pub transfers: Vec<TransferStatus>,
    /// Files that wait for their turn to be fetched, and their bytes.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Paths being fetched or installed, and how far each is (at most 100).
    pub under_way: Vec<(SyncPath, String)>,
}

impl<I: Index> Engine<I> {
    /// `&mut`: digests are made when asked for.
    pub fn status(&mut self) -> Status {
        let peers = self.peer_statuses();
        let quiet = self.observe.settle.is_empty()
            && self.observe.inspecting.open.is_empty()
            && self.observe.arrivals.is_empty()
            && self.safety.missing.is_empty()
            && self.safety.guard.is_quiet();
        let condition = self.condition();
        let (queued_files, queued_bytes) = self.queued();
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
            idle: quiet && self.has_scanned_all() && self.active_wants() == 0 && self.peers.news.outgoing.is_empty(),
            scanning: self.observe.walking.walks.values().any(Walk::is_whole)
                || !(self.observe.scan.is_walked() || self.core.paused || self.core.halted.is_some()),
            paused: self.core.paused,
            halted: self.core.halted.as_ref().map(|halt| halt.text.clone()),
            condition,
            held_deletions: condition.held_deletions,
            held_reverts: condition.held_reverts,
            held_unignored: condition.held_unignored,
            kept_folders: self.observe.problems.kept_folders.values().flatten().count() as u64,
            left_alone: self.observe.problems.left_alone.len() as u64,
            ignored: self.observe.walking.ignored,
            open_conflicts: 0,
            devices: self.device_statuses(),
            lacks: self.observe.file_system.keeps.lacks(),
            problems: self.all_problems().take(STATUS_PROBLEMS).collect(),
            transfers: self.transfers(),
            queued_files,
            queued_bytes,
            under_way: self.transfer.wants.iter().take(STATUS_UNDER_WAY).map(under_way).collect(),
        }
    }
}
