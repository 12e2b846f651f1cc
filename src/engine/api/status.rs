//! What the engine says of itself when asked.

use crate::engine::api::index::{Counts, Row};
use crate::engine::api::local::DifferingPaths;
use crate::engine::api::problem::Problem;
use crate::model::{DeviceId, SyncPath};
use crate::wire::condition::Condition;
use crate::wire::members::{ListedMember, Removal};
use std::collections::BTreeMap;

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

/// A device that was linked once and was not forgotten, or is on the list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStatus {
    pub device: DeviceId,
    pub name: String,
    pub linked: bool,
    /// When it was linked last (ns since 1970).
    pub seen_ns: Option<u64>,
    /// When it held the same tree last, to the day (ns since 1970).
    pub equal_ns: Option<u64>,
    /// Its row of the list of machines.
    pub member: Option<ListedMember>,
    /// It can take another secret of the group, as far as is known.
    pub follows_rotations: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Some of what differs here from the group by this machine's role.
    pub differing: DifferingPaths,
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
    /// Every device that is known or listed, but this one.
    pub devices: Vec<DeviceStatus>,
    /// This machine's row of the list.
    pub own: Option<ListedMember>,
    pub removals: Vec<Removal>,
    /// What the folder's file system does not keep.
    pub lacks: Vec<String>,
    /// Paths that need attention, and why (at most 1,000).
    pub problems: Vec<(SyncPath, Problem)>,
    pub transfers: Vec<TransferStatus>,
    /// Files that wait for their turn to be fetched, and their bytes.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Paths being fetched or installed, and how far each is (at most 100).
    pub under_way: Vec<(SyncPath, String)>,
}

/// What waits for a person at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPath {
    pub path: SyncPath,
    pub why: HeldWhy,
    /// Who made the change: a machine's name.
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldWhy {
    Deleted,
    /// It went back to older contents.
    Reverted,
    /// The change is dated more than five years ahead.
    DatedAhead,
    /// Nothing waits for a person: it is still to come.
    Pending,
}

/// All that waits for a person here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPaths {
    /// In the order of paths, at most so many as were asked for.
    pub paths: Vec<HeldPath>,
    pub deletions: u64,
    pub reverts: u64,
    pub dated_ahead: u64,
    /// What another machine's ignore file uncovered here is only counted.
    pub unignored: u64,
    /// What is still to come, where that was asked for.
    pub pending: u64,
}

/// Some of what is to come to this disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeededPage {
    pub rows: Vec<(SyncPath, Row)>,
    /// How much is to come in all.
    pub paths: u64,
    /// Where to go on.
    pub next: Option<SyncPath>,
}

impl HeldPaths {
    pub fn is_empty(&self) -> bool {
        self.deletions + self.reverts + self.dated_ahead + self.unignored == 0
    }
}

/// What a survey found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    pub machines: Vec<MachineTally>,
    /// How many files are whole on so many machines, this one among them.
    pub holders: BTreeMap<u64, u64>,
    /// At most 1,000.
    pub files: Vec<FileHeld>,
}

/// One linked machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineTally {
    pub device: DeviceId,
    pub name: String,
    /// It did not answer everything: its link ended, or it was silent.
    pub is_gone: bool,
    /// Files that it holds as they should be.
    pub verified: u64,
    /// Of those, the longest ago that one was hashed there, to the day (since 1970); 0: not since
    /// it was found.
    pub oldest_day: u32,
    /// Files with other contents.
    pub mismatched: u64,
    pub missing: u64,
}

/// A file that is not as it should be on some machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeld {
    pub path: SyncPath,
    /// This machine holds it as it should be.
    pub here: bool,
    /// Names of machines.
    pub verified: Vec<String>,
    pub mismatched: Vec<String>,
    pub missing: Vec<String>,
}
