//! What a row of the index costs on the disk and in memory, about.
//!
//! Deliberately not here: who pays for it (`peers/costs.rs`).

use crate::model::{Entry, Kind, SyncPath};

/// What a row costs the index beside its paths, link target and version vector (bytes).
pub(super) const ROW_BYTES: u64 = 200;

/// A row's path stands in the table and in about this many indexes.
pub(super) const PATH_COPIES: u64 = 5;

/// A winner and what is on disk each name the devices that they have seen.
pub(super) const SEEN_BYTES: u64 = 2 * 42;

/// A folder that nobody announced counts for so many times its cost: peers announce the folders of
/// what they have, so few are derived, and a path of 4 KiB would have hundreds made.
pub(super) const DERIVED_WEIGHT: u64 = 16;

/// What a row of this path takes in the index, about.
pub(super) fn row_bytes(path: &SyncPath, entry: &Entry) -> u64 {
    let target = if let Kind::Symlink { target } = &entry.kind { 2 * target.len() as u64 } else { 0 };
    let seen = SEEN_BYTES * entry.version.seen.devices().count() as u64;
    ROW_BYTES + PATH_COPIES * path.as_bytes().len() as u64 + target + seen
}
