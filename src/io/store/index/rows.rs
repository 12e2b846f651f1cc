//! `Index` over the table `paths`: reads, writes that touch only what changed, digests.
//!
//! May import `engine` and `model`. Not here: opening, transactions.

use super::{IndexError, META_HORIZON, SqliteIndex, codec};
use crate::engine::api::digest::{bucket_of, counts, deleted_at, entry_hash};
use crate::engine::api::index::{Conflict, ConflictFilter, Counts, Index, Row};
use crate::engine::limits::HOLDERS_SEEN;
use crate::engine::merge::nothing;
use crate::model::{ContentId, Entry, Kind, SyncPath};
use crate::wire::conflict::ConflictKey;
use crate::wire::message::{Bucket, Digest, Group};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Params, Statement, ToSql, params};
use std::fmt::Write;
use std::sync::Arc;

/// The columns of a row that are indexed, derived from it.
#[derive(PartialEq, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column")]
struct IndexColumns {
    /// Set only where it may have changed.
    hash: Option<Digest>,
    content: Option<i64>,
    live: bool,
    on_disk: bool,
    unsettled: bool,
    deleted_at: Option<u64>,
    local: bool,
}

impl IndexColumns {
    fn of(row: &Row) -> Self {
        let Row { head: winner, disk, .. } = row;
        Self {
            hash: None,
            content: disk.as_ref().and_then(|disk| disk.entry.file()).map(|(content, _)| content.key()),
            live: winner.is_live(),
            on_disk: row.live_on_disk().is_some(),
            unsettled: !row.is_settled(),
            deleted_at: deleted_at(winner).filter(|_| !row.is_unheard()),
            local: row.is_local(),
        }
    }

    /// In the order of [`COLUMNS`]. Flags are 1 or NULL, so that their partial indexes hold only
    /// what is set.
    fn values(&self) -> [Value; COLUMNS.len()] {
        let blob = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| Value::Blob(bytes.to_vec()));
        let flag = |set: bool| if set { Value::Integer(1) } else { Value::Null };
        [
            blob(self.hash.as_ref().map(<[u8; 16]>::as_slice)),
            self.content.map_or(Value::Null, Value::Integer),
            flag(self.live),
            flag(self.on_disk),
            flag(self.unsettled),
            blob(self.deleted_at.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            flag(self.local),
        ]
    }
}

const COLUMNS: [&str; 7] = ["hash", "content", "live", "on_disk", "unsettled", "deleted_at", "local"];

impl SqliteIndex {
    fn known(&self, path: &SyncPath) -> Option<Arc<Row>> {
        let read = || {
            // Most of what a first scan or a first peer tells of is new.
            let is_new = self.filling[usize::from(bucket_of(path))] == 0;
            if is_new { None } else { self.read(|index| index.row_at(path)) }
        };
        self.recent.borrow_mut().get(path, read)
    }

    fn row_at(&self, path: &SyncPath) -> Result<Option<Row>, IndexError> {
        let mut select = self.statement("SELECT row FROM paths WHERE path = ?1")?;
        let found =
            select.query_row([path.as_bytes()], |row| Ok(codec::decode_row(row.get_ref(0)?.as_blob()?))).optional()?;
        found.transpose()
    }

    fn put_row(&mut self, path: &SyncPath, old: Option<&Row>, row: &Row) -> Result<(), IndexError> {
        let mut keys = IndexColumns::of(row);
        let mut old_keys = old.map(IndexColumns::of);
        let bucket = bucket_of(path);
        // Most writes leave the winner alone, and with it what peers compare.
        if old.is_none_or(|old| old.head != row.head || old.is_unheard() != row.is_unheard()) {
            let is_counted = |row: &Row| counts(&row.head, self.horizon) && !row.is_unheard();
            let hash = |row: &Row| is_counted(row).then(|| entry_hash(path, &row.head));
            keys.hash = hash(row);
            if let (Some(keys), Some(old)) = (&mut old_keys, old) {
                keys.hash = hash(old);
            }
            self.digests.touch(bucket);
        }
        count(&mut self.counts, old, Some(row));
        self.note_deletion(path, old, row)?;
        let bytes = codec::encode_row(row);
        match old_keys {
            None => {
                self.filling[usize::from(bucket)] += 1;
                self.insert(path, bucket, &keys, &bytes)
            }
            Some(old_keys) => self.update(path, &old_keys, &keys, &bytes),
        }
    }

    /// A deletion that became the winner was learned today.
    fn note_deletion(&self, path: &SyncPath, old: Option<&Row>, row: &Row) -> Result<(), IndexError> {
        let was_deletion = old.is_some_and(|old| !old.head.is_live());
        if row.head.is_live() {
            return if was_deletion { self.forget_learned(path) } else { Ok(()) };
        }
        if old.is_none_or(|old| old.head != row.head) {
            let mut insert = self.statement("INSERT OR REPLACE INTO deletions (path, learned) VALUES (?1, ?2)")?;
            insert.execute(params![path.as_bytes(), self.today.cast_signed()])?;
        }
        Ok(())
    }

    fn forget_learned(&self, path: &SyncPath) -> Result<(), IndexError> {
        self.statement("DELETE FROM deletions WHERE path = ?1")?.execute([path.as_bytes()])?;
        Ok(())
    }

    /// Some deletions that were learned and made before these.
    fn old_deletions(&self, learned: u64, deleted_at: u64, limit: usize) -> Result<Vec<SyncPath>, IndexError> {
        let sql = "SELECT path FROM paths JOIN deletions USING (path) \
                   WHERE deleted_at < ?1 AND unsettled IS NULL AND learned < ?2 LIMIT ?3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut select = self.statement(sql)?;
        let mut rows = select.query(params![deleted_at.to_be_bytes(), learned.cast_signed(), limit])?;
        let mut paths = Vec::new();
        while let Some(row) = rows.next()? {
            paths.push(stored_path(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
        }
        Ok(paths)
    }

    fn insert(&self, path: &SyncPath, bucket: Bucket, keys: &IndexColumns, bytes: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT INTO paths (path, bucket, row, hash, content, live, on_disk, unsettled, deleted_at, local) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let path = path.as_bytes();
        let keys = keys.values();
        let mut values: Vec<&dyn ToSql> = vec![&path, &bucket, &bytes];
        values.extend(keys.iter().map(|key| key as &dyn ToSql));
        self.statement(sql)?.execute(values.as_slice())?;
        Ok(())
    }

    /// Sets only the columns that changed: SQLite rewrites every index whose column is named,
    /// changed or not.
    fn update(&self, path: &SyncPath, old: &IndexColumns, new: &IndexColumns, bytes: &[u8]) -> Result<(), IndexError> {
        let path = path.as_bytes();
        let mut sql = String::from("UPDATE paths SET row = ?2");
        let (old, new) = (old.values(), new.values());
        let mut values: Vec<&dyn ToSql> = vec![&path, &bytes];
        for ((column, old), new) in COLUMNS.iter().zip(&old).zip(&new) {
            if old != new {
                values.push(new);
                let _ = write!(sql, ", {column} = ?{}", values.len());
            }
        }
        sql.push_str(" WHERE path = ?1");
        self.statement(&sql)?.execute(values.as_slice())?;
        Ok(())
    }

    fn remove_row(&mut self, path: &SyncPath, old: &Row) -> Result<(), IndexError> {
        let bucket = bucket_of(path);
        self.digests.touch(bucket);
        self.filling[usize::from(bucket)] -= 1;
        count(&mut self.counts, Some(old), None);
        if !old.head.is_live() {
            self.forget_learned(path)?;
        }
        self.statement("DELETE FROM paths WHERE path = ?1")?.execute([path.as_bytes()])?;
        Ok(())
    }

    /// Deletions between the two horizons begin to count or stop.
    fn move_horizon(&mut self, to: u64) -> Result<(), IndexError> {
        let (low, high) = (self.horizon.min(to).to_be_bytes(), self.horizon.max(to).to_be_bytes());
        let sql = "SELECT path, row FROM paths WHERE deleted_at >= ?1 AND deleted_at < ?2";
        let crossed = winners(&mut *self.statement(sql)?, params![low, high])?;
        let mut update = self.statement("UPDATE paths SET hash = ?2 WHERE path = ?1")?;
        for (path, winner) in &crossed {
            update.execute(params![path.as_bytes(), counts(winner, to).then(|| entry_hash(path, winner))])?;
        }
        drop(update);
        for (path, _) in &crossed {
            self.digests.touch(bucket_of(path));
        }
        self.horizon = to;
        self.write_meta(META_HORIZON, &to.to_be_bytes())
    }

    fn paths_after(&self, sql: &str, after: Option<&SyncPath>, limit: usize) -> Result<Vec<SyncPath>, IndexError> {
        let after = after.map_or(&b""[..], SyncPath::as_bytes);
        let mut select = self.statement(sql)?;
        let mut rows = select.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut paths = Vec::new();
        while let Some(row) = rows.next()? {
            paths.push(stored_path(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
        }
        Ok(paths)
    }

    /// Whether a path strictly below `dir` has the flag of this name.
    fn any_below(&self, dir: &SyncPath, sql: &str) -> bool {
        let (from, to) = dir.range_below();
        self.read(|index| Ok(index.statement(sql)?.exists(params![from, to])?))
    }

    fn refresh_digests(&mut self) {
        let mut digests = std::mem::take(&mut self.digests);
        digests.refresh(|bucket| {
            self.read(|index| {
                let mut select = index.statement("SELECT hash FROM paths WHERE bucket = ?1 AND hash IS NOT NULL")?;
                let hashes = select.query_map([bucket], |row| row.get(0))?;
                Ok(hashes.collect::<Result<Vec<Digest>, _>>()?)
            })
        });
        self.digests = digests;
    }
}

impl Index for SqliteIndex {
    fn get(&self, path: &SyncPath) -> Option<Row> {
        self.known(path).map(Arc::unwrap_or_clone)
    }

    fn put(&mut self, path: &SyncPath, row: &Row) {
        // What changes nothing opens no transaction.
        let old = self.known(path);
        if old.as_deref() != Some(row) {
            self.write(|index| index.put_row(path, old.as_deref(), row));
            if let Some(changes) = &mut self.changes {
                changes.note(path, old.as_deref(), Some(row));
            }
            self.recent.borrow_mut().note(path, Some(row.clone()));
        }
    }

    fn remove(&mut self, path: &SyncPath) {
        if let Some(old) = self.get(path) {
            self.write(|index| index.remove_row(path, &old));
            if let Some(changes) = &mut self.changes {
                changes.note(path, Some(&old), None);
            }
            self.recent.borrow_mut().note(path, None);
        }
    }

    fn below(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Row)> {
        let after = after.map_or(&b""[..], SyncPath::as_bytes);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|index| {
            let read = |row: &rusqlite::Row| Ok((row.get(0)?, codec::decode_row(row.get_ref(1)?.as_blob()?)));
            let listed: Result<Vec<(Vec<u8>, _)>, _> = match dir.map(SyncPath::range_below) {
                None => {
                    let mut select =
                        index.statement("SELECT path, row FROM paths WHERE path > ?1 ORDER BY path LIMIT ?2")?;
                    select.query_map(params![after, limit], read)?.collect()
                }
                Some((from, to)) => {
                    let sql = "SELECT path, row FROM paths WHERE path > ?1 AND path < ?2 ORDER BY path LIMIT ?3";
                    select_all(&mut *index.statement(sql)?, params![after.max(&from), to, limit], read)
                }
            };
            listed?.into_iter().map(|(path, row)| Ok((stored_path(&path)?, row?))).collect()
        })
    }

    fn any_live_below(&self, dir: &SyncPath) -> bool {
        self.any_below(dir, "SELECT 1 FROM paths WHERE live = 1 AND path > ?1 AND path < ?2")
    }

    fn any_on_disk_below(&self, dir: &SyncPath) -> bool {
        self.any_below(dir, "SELECT 1 FROM paths WHERE on_disk = 1 AND path > ?1 AND path < ?2")
    }

    fn unsettled(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        let sql = "SELECT path FROM paths WHERE unsettled = 1 AND path > ?1 ORDER BY path LIMIT ?2";
        self.read(|index| index.paths_after(sql, after, limit))
    }

    fn local(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        let sql = "SELECT path FROM paths WHERE local = 1 AND path > ?1 ORDER BY path LIMIT ?2";
        self.read(|index| index.paths_after(sql, after, limit))
    }

    fn find_holder(&self, content: &ContentId, accepts: &mut dyn FnMut(&SyncPath, &Row) -> bool) -> Option<SyncPath> {
        self.read(|index| {
            let mut select = index.statement("SELECT path, row FROM paths WHERE content = ?1 ORDER BY path")?;
            let mut rows = select.query([content.key()])?;
            let mut seen = 0;
            // The key is short, so the whole content is compared as well.
            while let Some(row) = rows.next()?.filter(|_| seen < HOLDERS_SEEN) {
                let decoded = codec::decode_row(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
                let held = decoded.disk.as_ref().and_then(|disk| disk.entry.file());
                if held.is_none_or(|(held, _)| held != *content) {
                    continue;
                }
                seen += 1;
                let path = stored_path(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
                if accepts(&path, &decoded) {
                    return Ok(Some(path));
                }
            }
            Ok(None)
        })
    }

    fn bucket(&self, bucket: Bucket) -> Vec<(SyncPath, Entry)> {
        let sql = "SELECT path, row FROM paths WHERE bucket = ?1 ORDER BY path";
        let mut found = self.read(|index| winners(&mut *index.statement(sql)?, [bucket]));
        let is_unheard = |path: &SyncPath| self.known(path).is_some_and(|row| row.is_unheard());
        found.retain(|(path, winner)| *winner != nothing() || !is_unheard(path));
        found
    }

    fn root_digest(&mut self) -> Digest {
        self.refresh_digests();
        self.digests.root()
    }

    fn group_digests(&mut self) -> Vec<Digest> {
        self.refresh_digests();
        self.digests.groups()
    }

    fn bucket_digests(&mut self, group: Group) -> Vec<Digest> {
        self.refresh_digests();
        self.digests.group(group)
    }

    fn set_horizon(&mut self, deleted_before: u64) {
        if deleted_before != self.horizon {
            self.write(|index| index.move_horizon(deleted_before));
        }
    }

    fn set_today(&mut self, day: u64) {
        self.today = day;
    }

    fn forget_deletions(&mut self, learned_before: u64, deleted_before: u64, limit: usize) -> u64 {
        let old = self.read(|index| index.old_deletions(learned_before, deleted_before, limit));
        let may_go = |path: &&SyncPath| self.get(path).is_some_and(|row| row.installing.is_none());
        let gone: Vec<_> = old.iter().filter(may_go).collect();
        for path in &gone {
            self.remove(path);
        }
        gone.len() as u64
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn conflict(&self, key: &ConflictKey) -> Option<Conflict> {
        self.conflict_of(key)
    }

    fn put_conflict(&mut self, conflict: &Conflict) {
        self.store_conflict(conflict);
    }

    fn conflicts(&self, wanted: &ConflictFilter) -> Vec<Conflict> {
        self.list_conflicts(wanted)
    }

    fn conflict_marks(&self) -> Vec<(ConflictKey, bool)> {
        self.list_conflict_marks()
    }

    fn forget_conflicts(&mut self, settled_before: u64, most_own: usize) {
        self.drop_conflicts(settled_before, most_own);
    }

    fn meta(&self, key: &str) -> Option<Vec<u8>> {
        self.read(|index| index.read_meta(key))
    }

    fn set_meta(&mut self, key: &str, value: &[u8]) {
        if self.meta(key).as_deref() != Some(value) {
            self.write(|index| index.write_meta(key, value));
        }
    }
}

/// Takes the old row out of the totals and adds the new one.
fn count(counts: &mut Counts, old: Option<&Row>, new: Option<&Row>) {
    for (row, add) in [(old, false), (new, true)] {
        let Some(row) = row else { continue };
        let change = |number: &mut u64, by: u64| {
            *number = if add { number.wrapping_add(by) } else { number.wrapping_sub(by) };
        };
        match &row.head.kind {
            Kind::File { size, .. } => {
                change(&mut counts.files, 1);
                change(&mut counts.bytes, *size);
            }
            Kind::Directory => change(&mut counts.directories, 1),
            Kind::Symlink { .. } => change(&mut counts.symlinks, 1),
            Kind::Deleted { .. } => change(&mut counts.deleted, 1),
        }
        change(&mut counts.pending, u64::from(!row.is_settled() && !row.is_local()));
        change(&mut counts.local, u64::from(row.is_local()));
    }
}

fn winners(select: &mut Statement, params: impl Params) -> Result<Vec<(SyncPath, Entry)>, IndexError> {
    let read = |row: &rusqlite::Row| Ok((row.get(0)?, codec::decode_head(row.get_ref(1)?.as_blob()?)));
    let listed: Vec<(Vec<u8>, _)> = select_all(select, params, read)?;
    listed.into_iter().map(|(path, winner)| Ok((stored_path(&path)?, winner?))).collect()
}

fn select_all<T>(
    select: &mut Statement,
    params: impl Params,
    read: impl FnMut(&rusqlite::Row) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    select.query_map(params, read)?.collect()
}

/// A path that was valid when it was stored; a damaged file may hold anything.
fn stored_path(bytes: &[u8]) -> Result<SyncPath, IndexError> {
    SyncPath::new(bytes).map_err(|_| IndexError::Damaged("a path"))
}
