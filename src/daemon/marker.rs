//! Whether the folder is the one that the index speaks of (P8): its marker's nonce against the last
//! two that the index accepted.
//!
//! A new nonce is accepted durably before it is written, so that a crash in between leaves one that
//! is known. Deliberately not here: what follows from a changed marker (the engine's guard), and a
//! marker lost while running (`Root::check`).

use crate::engine::Trust;
use crate::engine::api::index::{Counts, Index};
use crate::io::fs::root::Root;
use crate::io::store::index::{IndexError, SqliteIndex};
use std::io;

const META_MARKERS: &str = "daemon.markers";
/// Hexadecimal digits of a nonce.
const NONCE_DIGITS: usize = 32;

/// What the marker says at the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MarkerVerdict {
    Trusted(Trust),
    /// The index knows files, and the folder carries no marker: perhaps its disk is not mounted.
    Missing,
}

pub(super) fn judge(root: &Root, index: &SqliteIndex) -> MarkerVerdict {
    verdict(root.marker().as_deref(), &accepted(index), index.counts() == Counts::default())
}

fn verdict(marker: Option<&str>, accepted: &[String], index_is_empty: bool) -> MarkerVerdict {
    match marker {
        // Nothing is known that could be deleted or rolled back.
        _ if index_is_empty => MarkerVerdict::Trusted(Trust::Known),
        None => MarkerVerdict::Missing,
        Some(marker) if accepted.iter().any(|nonce| nonce == marker) => MarkerVerdict::Trusted(Trust::Known),
        Some(_) => MarkerVerdict::Trusted(Trust::Restored),
    }
}

/// Why a marker was not renewed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MarkerError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the marker in .dirsync cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Accepts a new nonce beside the one that is there, then writes it.
pub(super) fn renew(root: &Root, index: &mut SqliteIndex) -> Result<(), MarkerError> {
    let nonce = Root::new_nonce()?;
    let now = root.marker().unwrap_or_default();
    index.set_meta(META_MARKERS, format!("{nonce}{now}").as_bytes());
    index.commit()?;
    Ok(root.write_marker(&nonce)?)
}

/// Of a folder that lacks its marker, nothing but the one that the index accepted last makes the
/// right one.
pub(super) fn expect_last(root: &Root, index: &SqliteIndex) {
    root.expect_marker(accepted(index).first().cloned().unwrap_or_default());
}

pub(super) fn accepted(index: &SqliteIndex) -> Vec<String> {
    let stored = index.meta(META_MARKERS).unwrap_or_default();
    stored.chunks_exact(NONCE_DIGITS).map(|nonce| String::from_utf8_lossy(nonce).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use tempfile::TempDir;

    #[test]
    fn a_folder_is_believed_by_its_marker() {
        let accepted = ["new".to_owned(), "old".to_owned()];
        let table = [
            ("first start", None, true, MarkerVerdict::Trusted(Trust::Known)),
            ("the index was lost", Some("old"), true, MarkerVerdict::Trusted(Trust::Known)),
            ("as it was left", Some("new"), false, MarkerVerdict::Trusted(Trust::Known)),
            ("a crash before it was written", Some("old"), false, MarkerVerdict::Trusted(Trust::Known)),
            ("a backup was restored", Some("older"), false, MarkerVerdict::Trusted(Trust::Restored)),
            ("not mounted, or emptied", None, false, MarkerVerdict::Missing),
        ];
        for (case, marker, index_is_empty, expected) in table {
            assert_eq!(verdict(marker, &accepted, index_is_empty), expected, "{case}");
        }
    }

    #[test]
    fn the_last_two_nonces_are_known_after_a_renewal() {
        let home = TempDir::new().unwrap();
        let (folder, path) = (home.path().join("data"), home.path().join("index"));
        fs::create_dir(&folder).unwrap();
        let root = Root::open(Path::new(&folder)).unwrap();
        let mut index = SqliteIndex::open(&path).unwrap().index;
        assert_eq!(accepted(&index), [""; 0]);
        let mut written = Vec::new();
        for _ in 0..3 {
            renew(&root, &mut index).unwrap();
            written.insert(0, root.marker().unwrap());
        }
        assert_eq!(accepted(&index), written[..2]);
    }
}
