//! The table of conflicts: what lost here, to what, and where it is, until someone decides.
//!
//! Written in the transaction of the install that made the conflict, so none is forgotten by a crash. May import `engine` and
//! `model`. Deliberately not here: what a person is shown of it (`control`).

use super::{IndexError, SqliteIndex};
use crate::model::{Entry, SyncPath};
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// Beyond so many, the oldest go (P9).
const ROWS: i64 = 100_000;
/// What was decided is remembered for this long (30 days, ns).
const SETTLED_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS conflicts (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    path BLOB NOT NULL,
    kept TEXT,
    settled TEXT,
    row BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS conflicts_by_path ON conflicts (path);
CREATE INDEX IF NOT EXISTS conflicts_by_kept ON conflicts (kept) WHERE kept IS NOT NULL;
";

/// Two versions that were made apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Grows; 0 before it is stored.
    pub id: i64,
    /// When it was found, nanoseconds since 1970.
    pub at: u64,
    pub path: SyncPath,
    /// The loser's name in history.
    pub kept: Option<String>,
    /// How it was decided, if it was.
    pub settled: Option<String>,
    pub sides: Sides,
}

/// Who won, and who lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    pub winner: Entry,
    pub winner_name: String,
    pub loser: Entry,
    pub loser_name: String,
    /// The loser's copy.
    pub beside: Option<SyncPath>,
}

/// Which conflicts are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this path alone, or of all.
    pub path: Option<SyncPath>,
    /// Of what is below `path`, too.
    pub below: bool,
    /// Also those that were decided.
    pub settled: bool,
    /// Those that came after this one.
    pub after: i64,
    pub limit: usize,
}

impl SqliteIndex {
    /// How many nobody has decided.
    pub fn open_conflicts(&self) -> u64 {
        self.read(|index| {
            let count = index
                .statement("SELECT count(*) FROM conflicts WHERE settled IS NULL")?
                .query_row([], |row| row.get::<_, i64>(0))?;
            Ok(count.cast_unsigned())
        })
    }

    pub fn append_conflicts(&mut self, conflicts: &[Conflict]) {
        let Some(now) = conflicts.iter().map(|conflict| conflict.at).max() else { return };
        self.write(|index| {
            let sql = "INSERT INTO conflicts (at, path, kept, settled, row) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = index.statement(sql)?;
            for Conflict { at, path, kept, settled, sides, .. } in conflicts {
                let row = postcard::to_stdvec(sides).map_err(|_| IndexError::Damaged("a conflict"))?;
                insert.execute(params![at.cast_signed(), path.as_bytes(), kept, settled, row])?;
            }
            let newest = index.db.last_insert_rowid();
            let forgotten = now.saturating_sub(SETTLED_NS).cast_signed();
            let sql = "DELETE FROM conflicts WHERE id <= ?1 OR (settled IS NOT NULL AND at < ?2)";
            index.statement(sql)?.execute([newest - ROWS, forgotten])?;
            Ok(())
        });
    }

    /// Oldest first.
    pub fn conflicts(&self, wanted: &Wanted) -> Vec<Conflict> {
        self.read(|index| {
            let sql = "SELECT id, at, path, kept, settled, row FROM conflicts \
                       WHERE id > ?1 AND (?2 IS NULL OR path = ?2 OR (path > ?5 AND path < ?6)) \
                       AND (?3 OR settled IS NULL) ORDER BY id LIMIT ?4";
            let mut select = index.statement(sql)?;
            let path = wanted.path.as_ref().map(SyncPath::as_bytes);
            let (from, to) = wanted.path.as_ref().filter(|_| wanted.below).map(SyncPath::range_below).unzip();
            let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
            let mut rows = select.query(params![wanted.after, path, wanted.settled, limit, from, to])?;
            let mut conflicts = Vec::new();
            while let Some(row) = rows.next()? {
                let (path, sides): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(5)?);
                conflicts.push(Conflict {
                    id: row.get(0)?,
                    at: row.get::<_, i64>(1)?.cast_unsigned(),
                    path: SyncPath::new(path).map_err(|_| IndexError::Damaged("the path of a conflict"))?,
                    kept: row.get(3)?,
                    settled: row.get(4)?,
                    sides: postcard::from_bytes(&sides).map_err(|_| IndexError::Damaged("a conflict"))?,
                });
            }
            Ok(conflicts)
        })
    }

    /// Those of `path` up to the one called `last` are decided.
    pub fn settle_conflicts(&mut self, path: &SyncPath, last: i64, how: &str) {
        self.write(|index| {
            let sql = "UPDATE conflicts SET settled = ?3 WHERE path = ?1 AND id <= ?2 AND settled IS NULL";
            index.statement(sql)?.execute(params![path.as_bytes(), last, how])?;
            Ok(())
        });
    }

    /// The one whose loser history keeps as `kept` is decided.
    pub fn settle_conflict_of(&mut self, kept: &str, how: &str) {
        self.write(|index| {
            let sql = "UPDATE conflicts SET settled = ?2 WHERE kept = ?1 AND settled IS NULL";
            index.statement(sql)?.execute(params![kept, how])?;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::merge::nothing;
    use tempfile::TempDir;

    fn conflict(path: &str, at: u64) -> Conflict {
        let names = ("b".to_owned(), "a".to_owned());
        let sides =
            Sides { winner: nothing(), winner_name: names.0, loser: nothing(), loser_name: names.1, beside: None };
        let path = SyncPath::new(path).unwrap();
        Conflict { id: 0, at, kept: Some(format!("{at}.{path}")), path, settled: None, sides }
    }

    fn ats(index: &SqliteIndex, wanted: &Wanted) -> Vec<u64> {
        index.conflicts(wanted).iter().map(|conflict| conflict.at).collect()
    }

    #[test]
    fn those_of_a_folder_are_those_below_it() {
        let home = TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let paths = ["d", "d/f", "d/deeper/f", "d-2", "d-2/f", "e"];
        let conflicts: Vec<_> = paths.iter().zip(1..).map(|(path, at)| conflict(path, at)).collect();
        index.append_conflicts(&conflicts);
        let of_d = Wanted { path: Some(SyncPath::new("d").unwrap()), limit: 10, ..Wanted::default() };
        assert_eq!(ats(&index, &of_d), [1]);
        assert_eq!(ats(&index, &Wanted { below: true, ..of_d.clone() }), [1, 2, 3]);
        assert_eq!(ats(&index, &Wanted { below: true, after: 2, ..of_d }), [3], "also page by page");
    }

    #[test]
    fn conflicts_outlive_a_restart_until_they_are_decided() {
        let home = TempDir::new().unwrap();
        let open = || SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let mut index = open();
        // Many in one instant, on one path.
        index.append_conflicts(&[conflict("f", 7), conflict("f", 7), conflict("g", 8)]);
        index.commit().unwrap();
        drop(index);
        let mut index = open();
        let all = Wanted { limit: 10, ..Wanted::default() };
        let of_f = Wanted { path: Some(SyncPath::new("f").unwrap()), ..all.clone() };
        assert_eq!((ats(&index, &all), ats(&index, &of_f)), (vec![7, 7, 8], vec![7, 7]));
        assert_eq!(ats(&index, &Wanted { after: 2, ..all.clone() }), [8]);
        assert_eq!(index.conflicts(&all)[2].sides, conflict("g", 8).sides);
        index.settle_conflicts(&SyncPath::new("f").unwrap(), 1, "kept ours");
        index.settle_conflict_of("8.g", "merged");
        assert_eq!(ats(&index, &all), [7]);
        let with_settled = index.conflicts(&Wanted { settled: true, ..all.clone() });
        assert_eq!(with_settled[2].settled.as_deref(), Some("merged"));
        index.append_conflicts(&[conflict("h", SETTLED_NS + 9)]);
        assert_eq!(
            ats(&index, &Wanted { settled: true, ..all }),
            [7, SETTLED_NS + 9],
            "what was decided long ago goes"
        );
    }
}
