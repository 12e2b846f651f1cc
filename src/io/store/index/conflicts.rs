//! The table of conflicts: what lost, to what, and where it is, until someone decides.
//!
//! Written in the transaction of the install that made the conflict, so none is forgotten by a
//! crash. May import `engine`, `wire` and `model`. Deliberately not here: which are taken in
//! (`engine/conflict/known.rs`), and what a person is shown (`control`).

use super::{IndexError, SqliteIndex};
use crate::engine::api::index::{Conflict, ConflictFilter, ConflictSource, Settled};
use crate::model::{DeviceId, SyncPath};
use crate::wire::conflict::{ConflictKey, Sides};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// As the first versions that kept conflicts made it; `complete` adds the rest.
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

const COLUMNS: [(&str, &str); 3] = [("key", "BLOB"), ("source", "BLOB"), ("settled_at", "INTEGER")];
/// When an older version's decision was made: it stays.
const NOT_KNOWN: i64 = i64::MAX;
const SELECT: &str = "SELECT id, at, path, kept, settled, row, source, settled_at FROM conflicts";

/// Adds the columns that older versions do not know, and the keys of the rows that they wrote. Of
/// two rows with one key the second goes: they speak of the same loser.
pub(super) fn complete(db: &Connection) -> Result<(), IndexError> {
    for (column, kind) in COLUMNS {
        let is_there = db.prepare("SELECT 1 FROM pragma_table_info('conflicts') WHERE name = ?1")?.exists([column])?;
        if !is_there {
            db.execute_batch(&format!("ALTER TABLE conflicts ADD COLUMN {column} {kind}"))?;
        }
    }
    db.execute_batch("CREATE UNIQUE INDEX IF NOT EXISTS conflicts_by_key ON conflicts (key)")?;
    let mut select = db.prepare(&format!("{SELECT} WHERE key IS NULL ORDER BY id"))?;
    let mut rows = select.query([])?;
    let mut keyless = Vec::new();
    while let Some(row) = rows.next()? {
        let conflict = read(row)?;
        keyless.push((conflict.id, conflict.key()));
    }
    for (id, key) in keyless {
        db.execute("UPDATE OR IGNORE conflicts SET key = ?2 WHERE id = ?1", params![id, key.0])?;
    }
    db.execute("DELETE FROM conflicts WHERE key IS NULL", [])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Conflict, IndexError> {
    let (path, sides): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(5)?);
    let at = row.get::<_, i64>(1)?.cast_unsigned();
    let settled_at = row.get::<_, Option<i64>>(7)?.unwrap_or(NOT_KNOWN).cast_unsigned();
    let source: Option<Vec<u8>> = row.get(6)?;
    let sides: Sides = postcard::from_bytes(&sides).map_err(|_| IndexError::Damaged("a conflict"))?;
    Ok(Conflict {
        id: row.get(0)?,
        at,
        path: SyncPath::new(path).map_err(|_| IndexError::Damaged("the path of a conflict"))?,
        kept: row.get(3)?,
        settled: row.get::<_, Option<String>>(4)?.map(|how| Settled { how, at: settled_at }),
        sides,
        source: source.map(|bytes| decode_source(&bytes)).transpose()?,
    })
}

/// The device, and whether it was told itself.
fn encode_source(source: ConflictSource) -> [u8; 33] {
    let mut bytes = [u8::from(source.relayed); 33];
    bytes[..32].copy_from_slice(&source.device.0);
    bytes
}

fn decode_source(bytes: &[u8]) -> Result<ConflictSource, IndexError> {
    let damaged = IndexError::Damaged("the source of a conflict");
    let Some((device, [relayed])) = bytes.split_first_chunk::<32>() else { return Err(damaged) };
    Ok(ConflictSource { device: DeviceId(*device), relayed: *relayed != 0 })
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

    pub(super) fn conflict_of(&self, key: &ConflictKey) -> Option<Conflict> {
        self.read(|index| {
            let mut select = index.statement(&format!("{SELECT} WHERE key = ?1"))?;
            select.query_row([key.0], |row| Ok(read(row))).optional()?.transpose()
        })
    }

    pub(super) fn store_conflict(&mut self, conflict: &Conflict) {
        self.write(|index| {
            let Conflict { at, path, kept, settled, sides, source, .. } = conflict;
            let (how, settled_at) = settled.as_ref().map(|s| (&s.how, s.at.cast_signed())).unzip();
            let row = postcard::to_stdvec(sides).map_err(|_| IndexError::Damaged("a conflict"))?;
            let source = source.map(encode_source);
            let sql = "INSERT INTO conflicts (at, path, kept, settled, row, key, source, settled_at) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (key) DO UPDATE SET at = excluded.at, \
                       kept = excluded.kept, settled = excluded.settled, row = excluded.row, \
                       source = excluded.source, settled_at = excluded.settled_at";
            let key = conflict.key().0;
            let values = params![at.cast_signed(), path.as_bytes(), kept, how, row, key, source, settled_at];
            index.statement(sql)?.execute(values)?;
            Ok(())
        });
    }

    pub(super) fn drop_conflicts(&mut self, settled_before: u64, most_own: usize) {
        self.drop_where("settled IS NOT NULL AND settled_at < ?1", i64::try_from(settled_before).unwrap_or(i64::MAX));
        self.drop_where(
            "source IS NULL AND id <= \
             (SELECT id FROM conflicts WHERE source IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            i64::try_from(most_own).unwrap_or(i64::MAX),
        );
    }

    /// Where there is none, nothing is written.
    fn drop_where(&mut self, condition: &str, bound: i64) {
        let any = self.read(|index| {
            let mut select = index.statement(&format!("SELECT 1 FROM conflicts WHERE {condition} LIMIT 1"))?;
            Ok(select.exists([bound])?)
        });
        if any {
            self.write(|index| {
                index.statement(&format!("DELETE FROM conflicts WHERE {condition}"))?.execute([bound])?;
                Ok(())
            });
        }
    }

    pub(super) fn list_conflicts(&self, wanted: &ConflictFilter) -> Vec<Conflict> {
        self.read(|index| {
            let sql = format!(
                "{SELECT} WHERE id > ?1 AND (?2 IS NULL OR path = ?2 OR (path > ?5 AND path < ?6)) \
                 AND (?3 OR settled IS NULL) ORDER BY id LIMIT ?4"
            );
            let mut select = index.statement(&sql)?;
            let path = wanted.path.as_ref().map(SyncPath::as_bytes);
            let (from, to) = wanted.path.as_ref().filter(|_| wanted.below).map(SyncPath::range_below).unzip();
            let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
            let mut rows = select.query(params![wanted.after, path, wanted.settled, limit, from, to])?;
            let mut conflicts = Vec::new();
            while let Some(row) = rows.next()? {
                conflicts.push(read(row)?);
            }
            Ok(conflicts)
        })
    }

    pub(super) fn list_conflict_marks(&self) -> Vec<(ConflictKey, bool)> {
        self.read(|index| {
            let mut select = index.statement("SELECT key, settled IS NOT NULL FROM conflicts ORDER BY key")?;
            let marks = select.query_map([], |row| Ok((ConflictKey(row.get(0)?), row.get(1)?)))?;
            Ok(marks.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::index::Index;
    use crate::engine::merge::nothing;
    use crate::model::Entry;
    use tempfile::TempDir;

    fn conflict(path: &str, at: u64) -> Conflict {
        let mut loser: Entry = nothing();
        loser.version.stamp = at;
        let (winner_name, loser_name) = ("b".to_owned(), "a".to_owned());
        let sides = Sides { winner: nothing(), winner_name, loser, loser_name, beside: None };
        let path = SyncPath::new(path).unwrap();
        Conflict { id: 0, at, kept: Some(format!("{at}.{path}")), path, settled: None, sides, source: None }
    }

    fn ats(index: &SqliteIndex, wanted: &ConflictFilter) -> Vec<u64> {
        index.conflicts(wanted).iter().map(|conflict| conflict.at).collect()
    }

    #[test]
    fn those_of_a_folder_are_those_below_it() {
        let home = TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let paths = ["d", "d/f", "d/deeper/f", "d-2", "d-2/f", "e"];
        paths.iter().zip(1..).for_each(|(path, at)| index.put_conflict(&conflict(path, at)));
        let of_d = ConflictFilter { path: Some(SyncPath::new("d").unwrap()), limit: 10, ..ConflictFilter::default() };
        assert_eq!(ats(&index, &of_d), [1]);
        assert_eq!(ats(&index, &ConflictFilter { below: true, ..of_d.clone() }), [1, 2, 3]);
        assert_eq!(ats(&index, &ConflictFilter { below: true, after: 2, ..of_d }), [3], "also page by page");
    }

    #[test]
    fn conflicts_outlive_a_restart_until_they_are_decided_and_decisions_are_forgotten_in_time() {
        let home = TempDir::new().unwrap();
        let open = || SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let mut index = open();
        let source = Some(ConflictSource { device: DeviceId([7; 32]), relayed: true });
        let from_peer = Conflict { source, kept: None, ..conflict("g", 8) };
        for conflict in [conflict("f", 6), conflict("f", 7), from_peer.clone()] {
            index.put_conflict(&conflict);
        }
        index.commit().unwrap();
        drop(index);
        let mut index = open();
        let all = ConflictFilter { limit: 10, ..ConflictFilter::default() };
        let of_f = ConflictFilter { path: Some(SyncPath::new("f").unwrap()), ..all.clone() };
        assert_eq!((ats(&index, &all), ats(&index, &of_f)), (vec![6, 7, 8], vec![6, 7]));
        assert_eq!(ats(&index, &ConflictFilter { after: 2, ..all.clone() }), [8]);
        assert_eq!(index.conflicts(&all)[2], Conflict { id: 3, ..from_peer.clone() });
        let settled = Some(Settled { how: "merged".into(), at: 500 });
        index.put_conflict(&Conflict { settled, ..from_peer.clone() });
        assert_eq!(ats(&index, &all), [6, 7]);
        let with_settled = ConflictFilter { settled: true, ..all.clone() };
        assert_eq!(index.conflicts(&with_settled)[2].settled.as_ref().map(|s| s.at), Some(500));
        let marks = index.conflict_marks();
        assert_eq!(marks.iter().filter(|(_, is_settled)| *is_settled).collect::<Vec<_>>(), [&(from_peer.key(), true)]);
        index.commit().unwrap();
        index.forget_conflicts(500, 2);
        assert!(!index.is_dirty(), "nothing is old enough");
        index.forget_conflicts(501, 2);
        assert_eq!(ats(&index, &with_settled), [6, 7]);
        index.forget_conflicts(0, 1);
        assert_eq!(ats(&index, &with_settled), [7], "of too many the oldest goes");
    }

    #[test]
    fn what_an_older_version_wrote_gets_its_key_when_it_is_opened() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("index");
        SqliteIndex::open(&path).unwrap().index.close().unwrap();
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("DROP TABLE conflicts; {SCHEMA}")).unwrap();
        for (n, settled) in [(1, None), (2, Some("kept x")), (2, None)] {
            let known = conflict("f", n);
            let row = postcard::to_stdvec(&known.sides).unwrap();
            let sql = "INSERT INTO conflicts (at, path, kept, settled, row) VALUES (?1, ?2, ?3, ?4, ?5)";
            db.execute(sql, params![n.cast_signed(), b"f", known.kept, settled, row]).unwrap();
        }
        drop(db);
        let index = SqliteIndex::open(&path).unwrap().index;
        let all = index.conflicts(&ConflictFilter { settled: true, limit: 10, ..ConflictFilter::default() });
        let decided: Vec<_> = all.iter().map(|known| known.settled.clone().map(|settled| settled.at)).collect();
        assert_eq!(decided, [None, Some(NOT_KNOWN.cast_unsigned())]);
        assert!(all.iter().all(|known| index.conflict(&known.key()).as_ref() == Some(known)));
    }
}
