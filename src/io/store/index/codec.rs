//! Rows as bytes: postcard, the disk's entry not repeated where it is the winner. Specified in
//! `docs/index-format.md`.
//!
//! May import `engine` and `model`. Not here: SQL.

use super::IndexError;
use crate::engine::Stat;
use crate::engine::api::digest::encoded;
use crate::engine::api::index::{Counts, OnDisk, Row};
use crate::model::Entry;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
struct StoredRow<'a> {
    winner: Cow<'a, Entry>,
    disk: StoredDisk<'a>,
    installing: Option<Cow<'a, Entry>>,
}

/// What follows the stored row. Rows of earlier days end before it, and earlier versions pass it
/// by.
#[derive(Serialize, Deserialize, Default)]
struct Addition {
    since: u64,
}

/// And after that, only where it is so.
#[derive(Serialize, Deserialize, Default)]
struct LocalAddition {
    local: bool,
}

/// Most rows are settled: then the entry is stored once.
#[derive(Serialize, Deserialize)]
enum StoredDisk<'a> {
    Never,
    Head(Option<Stat>),
    Other(Cow<'a, Entry>, Option<Stat>),
}

pub(super) fn encode_row(row: &Row) -> Vec<u8> {
    let disk = match &row.disk {
        None => StoredDisk::Never,
        Some(disk) if disk.entry == row.head => StoredDisk::Head(disk.stat),
        Some(disk) => StoredDisk::Other(Cow::Borrowed(&disk.entry), disk.stat),
    };
    let installing = row.installing.as_ref().map(Cow::Borrowed);
    let stored = StoredRow { winner: Cow::Borrowed(&row.head), disk, installing };
    match row.since {
        since if row.disk.as_ref().is_some_and(|disk| disk.local) => {
            encoded(&(stored, Addition { since }, LocalAddition { local: true }), <[u8]>::to_vec)
        }
        0 => encoded(&stored, <[u8]>::to_vec),
        since => encoded(&(stored, Addition { since }), <[u8]>::to_vec),
    }
}

pub(super) fn decode_row(bytes: &[u8]) -> Result<Row, IndexError> {
    let damaged = |_| IndexError::Damaged("a path's row");
    let (stored, rest): (StoredRow, _) = postcard::take_from_bytes(bytes).map_err(damaged)?;
    let (Addition { since }, rest) =
        if rest.is_empty() { Default::default() } else { postcard::take_from_bytes(rest).map_err(damaged)? };
    let LocalAddition { local } =
        if rest.is_empty() { LocalAddition::default() } else { postcard::from_bytes(rest).map_err(damaged)? };
    let winner = stored.winner.into_owned();
    let disk = match stored.disk {
        StoredDisk::Never => None,
        StoredDisk::Head(stat) => Some(OnDisk { entry: winner.clone(), stat, local }),
        StoredDisk::Other(entry, stat) => Some(OnDisk { entry: entry.into_owned(), stat, local }),
    };
    Ok(Row { head: winner, disk, installing: stored.installing.map(Cow::into_owned), since })
}

/// The winner alone; it comes first, so the rest need not be read.
pub(super) fn decode_head(bytes: &[u8]) -> Result<Entry, IndexError> {
    postcard::take_from_bytes(bytes).map(|(winner, _)| winner).map_err(|_| IndexError::Damaged("a path's winner"))
}

pub(super) fn encode_counts(counts: &Counts) -> Vec<u8> {
    // The table says how many are local.
    let Counts { files, directories, symlinks, deleted, bytes, pending, local: _ } = *counts;
    [files, directories, symlinks, deleted, bytes, pending].into_iter().flat_map(u64::to_be_bytes).collect()
}

pub(super) fn decode_counts(bytes: &[u8]) -> Result<Counts, IndexError> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let (&[files, directories, symlinks, deleted, bytes, pending], []) = (numbers, rest) else {
        return Err(IndexError::Damaged("the counts"));
    };
    let number = u64::from_be_bytes;
    Ok(Counts {
        files: number(files),
        directories: number(directories),
        symlinks: number(symlinks),
        deleted: number(deleted),
        bytes: number(bytes),
        pending: number(pending),
        local: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, FileTime, Kind, Mode, Version, VersionVector};

    #[test]
    fn a_row_of_an_earlier_version_ends_before_its_since_and_is_of_long_ago() {
        let version = Version { stamp: 7, author: DeviceId([1; 32]), seen: VersionVector::default() };
        let winner = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
        let row = Row { head: winner.clone(), disk: None, installing: None, since: 1 << 60 };
        let bytes = encode_row(&row);
        assert_eq!(decode_row(&bytes).unwrap(), row);
        let earlier = postcard::to_stdvec(&(&winner, 0_u8, None::<Entry>)).unwrap();
        assert!(bytes.starts_with(&earlier));
        assert_eq!(decode_row(&earlier).unwrap(), Row { since: 0, ..row });
        assert!(decode_row(&bytes[..bytes.len() - 1]).is_err(), "a row that was cut is damaged");
    }

    #[test]
    fn a_local_change_says_so_after_all_that_earlier_versions_read() {
        let version = Version { stamp: 7, author: DeviceId([1; 32]), seen: VersionVector::default() };
        let winner = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
        let gone = Entry { kind: Kind::Deleted { at: 5 }, ..winner.clone() };
        for since in [0, 1 << 60] {
            let disk = Some(OnDisk { entry: gone.clone(), stat: None, local: true });
            let row = Row { head: winner.clone(), disk, installing: None, since };
            let bytes = encode_row(&row);
            assert_eq!(decode_row(&bytes).unwrap(), row);
            let (_, rest): (StoredRow, _) = postcard::take_from_bytes(&bytes).unwrap();
            assert_eq!(postcard::from_bytes::<Addition>(rest).unwrap().since, since, "of an earlier version");
        }
    }
}
