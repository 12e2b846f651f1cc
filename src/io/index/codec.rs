//! Rows as bytes: postcard, the disk's entry not repeated where it is the winner. Specified in `docs/index-format.md`.
//!
//! May import `engine` and `model`. Not here: SQL.

use super::IndexError;
use crate::engine::Stat;
use crate::engine::digest::encoded;
use crate::engine::index::{Counts, OnDisk, Row};
use crate::model::Entry;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
struct StoredRow<'a> {
    winner: Cow<'a, Entry>,
    disk: StoredDisk<'a>,
    installing: Option<Cow<'a, Entry>>,
}

/// Most rows are settled: then the entry is stored once.
#[derive(Serialize, Deserialize)]
enum StoredDisk<'a> {
    Never,
    Winner(Option<Stat>),
    Other(Cow<'a, Entry>, Option<Stat>),
}

pub(super) fn encode_row(row: &Row) -> Vec<u8> {
    let disk = match &row.disk {
        None => StoredDisk::Never,
        Some(disk) if disk.entry == row.winner => StoredDisk::Winner(disk.stat),
        Some(disk) => StoredDisk::Other(Cow::Borrowed(&disk.entry), disk.stat),
    };
    let installing = row.installing.as_ref().map(Cow::Borrowed);
    let stored = StoredRow { winner: Cow::Borrowed(&row.winner), disk, installing };
    encoded(&stored, <[u8]>::to_vec)
}

pub(super) fn decode_row(bytes: &[u8]) -> Result<Row, IndexError> {
    let stored: StoredRow = postcard::from_bytes(bytes).map_err(|_| IndexError::Damaged("a path's row"))?;
    let winner = stored.winner.into_owned();
    let disk = match stored.disk {
        StoredDisk::Never => None,
        StoredDisk::Winner(stat) => Some(OnDisk { entry: winner.clone(), stat }),
        StoredDisk::Other(entry, stat) => Some(OnDisk { entry: entry.into_owned(), stat }),
    };
    Ok(Row { winner, disk, installing: stored.installing.map(Cow::into_owned) })
}

/// The winner alone; it comes first, so the rest need not be read.
pub(super) fn decode_winner(bytes: &[u8]) -> Result<Entry, IndexError> {
    postcard::take_from_bytes(bytes).map(|(winner, _)| winner).map_err(|_| IndexError::Damaged("a path's winner"))
}

pub(super) fn encode_counts(counts: &Counts) -> Vec<u8> {
    let Counts { files, directories, symlinks, deleted, bytes, pending } = *counts;
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
    })
}
