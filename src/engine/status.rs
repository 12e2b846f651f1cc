//! What the engine says of itself when asked.

use super::index::Counts;
use crate::model::{DeviceId, SyncPath};

/// What `dirsync status` shows of one peer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerStatus {
    pub device: DeviceId,
    pub name: String,
    /// Whether it holds the same tree, nothing pending on either side.
    pub in_sync: bool,
    /// Paths still to be installed there, as it said last.
    pub pending: u64,
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
    /// Deletions that wait for `dirsync confirm`.
    pub held_deletions: u64,
    /// Paths that need attention, and why (at most 1,000).
    pub problems: Vec<(SyncPath, String)>,
    /// Paths being fetched or installed, and how far each is (at most 100).
    pub under_way: Vec<(SyncPath, String)>,
}
