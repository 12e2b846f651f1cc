//! Rows read or written of late: a path that is heard, wanted, installed and inspected is asked for
//! many times.
//!
//! May import `engine` and `model`. Deliberately not here: the database.

use crate::engine::api::index::Row;
use crate::model::{DeviceId, Entry, Kind, SyncPath};
use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

/// Of each of the two halves (bytes): some 5,000 rows.
const HALF_BYTES: usize = 4 << 20;

/// A row is large: what is moved when a table grows is not.
type CachedRow = Option<Arc<Row>>;

/// Two halves: when the newer one is full, it becomes the older one, and what was in that and not
/// asked for since is forgotten.
#[derive(Default)]
pub(super) struct Recent {
    newer: HashMap<SyncPath, CachedRow>,
    older: HashMap<SyncPath, CachedRow>,
    /// Of the newer half (bytes).
    weight: usize,
}

impl Recent {
    /// The row, from here or by `read`; that there is none is remembered as well.
    pub fn get(&mut self, path: &SyncPath, read: impl FnOnce() -> Option<Row>) -> CachedRow {
        if let Some(row) = self.newer.get(path) {
            return row.clone();
        }
        let row = self.older.remove(path).unwrap_or_else(|| read().map(Arc::new));
        self.insert(path.clone(), row.clone());
        row
    }

    pub fn note(&mut self, path: &SyncPath, row: Option<Row>) {
        self.older.remove(path);
        self.insert(path.clone(), row.map(Arc::new));
    }

    fn insert(&mut self, path: SyncPath, row: CachedRow) {
        if self.weight >= HALF_BYTES {
            self.older = std::mem::take(&mut self.newer);
            self.weight = 0;
        }
        let path_bytes = path.as_bytes().len();
        self.weight += weight(path_bytes, row.as_deref());
        if let Some(old) = self.newer.insert(path, row) {
            self.weight -= weight(path_bytes, old.as_deref());
        }
    }
}

/// What a row takes in memory (bytes), roughly.
fn weight(path_bytes: usize, row: Option<&Row>) -> usize {
    let of_entry = |entry: &Entry| {
        let target = if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
        target + entry.version.seen.devices().count() * size_of::<(DeviceId, u64)>()
    };
    let of_row = |row: &Row| {
        let entries = [Some(&row.head), row.disk.as_ref().map(|disk| &disk.entry), row.installing.as_ref()];
        size_of::<Row>() + entries.into_iter().flatten().map(of_entry).sum::<usize>()
    };
    // A table that has just grown is half empty.
    2 * size_of::<(SyncPath, CachedRow)>() + path_bytes + row.map_or(0, of_row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FileTime, Mode, Version, VersionVector};

    fn path(n: usize) -> SyncPath {
        SyncPath::new(n.to_string()).unwrap()
    }

    fn row() -> Row {
        let version = Version { stamp: 1, author: DeviceId([0; 32]), seen: VersionVector::default() };
        let winner = Entry { kind: Kind::Directory, mode: Mode(0o700), mtime: FileTime::default(), version };
        Row { head: winner, disk: None, installing: None, since: 0 }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten_in_time() {
        let mut recent = Recent::default();
        let fits = HALF_BYTES / weight(1, None) + 1;
        for n in 0..3 * fits {
            recent.note(&path(n), None);
            assert_eq!(recent.get(&path(0), || unreachable!("after {n}")), None);
        }
        assert_eq!(recent.get(&path(1), || Some(row())).as_deref(), Some(&row()), "it is read anew");
        assert!(recent.newer.len() + recent.older.len() <= 2 * fits + 2);
    }

    #[test]
    fn what_was_noted_last_is_what_is_known() {
        let mut recent = Recent::default();
        recent.note(&path(0), None);
        for n in 1..HALF_BYTES / weight(1, None) + 2 {
            recent.note(&path(n), None);
        }
        assert!(recent.older.contains_key(&path(0)));
        recent.note(&path(0), Some(row()));
        assert_eq!(recent.get(&path(0), || unreachable!("it is known")).as_deref(), Some(&row()));
    }
}
