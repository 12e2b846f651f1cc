//! What a row of the index costs on the disk and in memory, about.
//!
//! Deliberately not here: who pays for it (`peers/costs.rs`).

use crate::engine::limits::{PATH_COPIES, ROW_BYTES, ROW_SEEN_BYTES};
use crate::model::{Entry, Kind, SyncPath};

/// What a row of this path takes in the index, about.
pub fn row_bytes(path: &SyncPath, entry: &Entry) -> u64 {
    let target = if let Kind::Symlink { target } = &entry.kind { 2 * target.len() as u64 } else { 0 };
    let seen = ROW_SEEN_BYTES * entry.version.seen.devices().count() as u64;
    ROW_BYTES + PATH_COPIES * path.as_bytes().len() as u64 + target + seen
}
