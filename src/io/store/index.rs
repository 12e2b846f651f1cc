//! The index in SQLite: one connection, one transaction a batch of events, durable at
//! [`SqliteIndex::commit`] (P5).
//!
//! Storage errors are remembered: after the first one reads answer nothing, writes do nothing, and
//! the next commit fails with it, so that the daemon stops before an action runs that rests on a
//! lost write. The layout of the file, byte by byte and with its reasons, is
//! `docs/index-format.md`. May import `engine` and `model`. Deliberately not here: any decision
//! about what the rows mean.

mod changes;
mod codec;
mod conflicts;
mod open;
mod recent;
mod rows;

use crate::engine::api::digest::Digests;
use crate::engine::api::index::Counts;
use crate::io::clock::wall_ns;
use crate::io::fail::{self, Point};
use crate::model::SyncPath;
use recent::Recent;
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, params};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;

pub use changes::{SEEN_CHANGES, SeenChange, SeenChangeKind, SeenChanges};
pub use open::{IndexOrigin, OpenedIndex};

/// `dirsync log` looks back over this many lines.
pub const JOURNAL_LINES: i64 = 10_000;

/// Names in `meta` that are this file's; the engine's own never begin with `index.`.
const META_COUNTS: &str = "index.counts";
const META_HORIZON: &str = "index.horizon";
const META_CLEAN: &str = "index.clean";
const META_COMMITTED: &str = "index.committed";

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "the index {path} is of version {found}, newer than this dirsyncd understands ({known}); it was left alone: start the \
         newer dirsyncd, or give this one another --state-dir"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path} is an SQLite database but no index of dirsyncd; it was left alone: move it away, or give another --state-dir"
    )]
    Foreign { path: PathBuf },
    #[error("cannot open the index {path}: {why}")]
    Open { path: PathBuf, why: String },
    #[error("the index could not be written: {0}; is the disk that holds the state directory full or failing?")]
    Storage(#[from] rusqlite::Error),
    #[error("the index holds a damaged row ({0}); the next start checks the index and makes it anew if need be")]
    Damaged(&'static str),
}

impl IndexError {
    /// Whether it says something of the disk alone, and nothing of the index.
    pub fn is_the_disks(&self) -> bool {
        let Self::Storage(why) = self else { return false };
        matches!(
            why.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen)
        )
    }
}

/// One line of the journal, for `dirsync log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalLine {
    /// Grows from line to line; 0 before it is stored.
    pub seq: u64,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// What happened, in one word: see `io/journal.rs`.
    pub kind: String,
    /// The path it speaks of, as bytes.
    pub path: Option<Vec<u8>>,
    pub peer: Option<String>,
    /// Of the file, or of all that the line speaks of (bytes).
    pub size: Option<u64>,
    /// How many paths the line speaks of, below `path`, if it is more than that path alone.
    pub paths: Option<u64>,
    /// The sentence that went to the log, escaped.
    pub text: String,
}

/// Which lines of the journal are wanted.
#[derive(Debug, Clone, Default)]
pub struct WantedLines {
    /// The last so many.
    pub limit: usize,
    /// Of this path, of what is below it, and those that sum up a folder which it is in.
    pub path: Option<SyncPath>,
    /// No older than this (ns since 1970).
    pub since: u64,
    /// Only later ones than this.
    pub after: u64,
}

impl WantedLines {
    pub fn last(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn speaks_of_it(&self, line: &JournalLine) -> bool {
        let Some(wanted) = &self.path else { return true };
        let Some(path) = &line.path else { return false };
        let is_at_or_below = |path: &[u8], dir: &[u8]| {
            path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let sums_it_up = line.paths.is_some() && is_at_or_below(wanted.as_bytes(), path);
        is_at_or_below(path, wanted.as_bytes()) || sums_it_up
    }
}

/// The index: see the top of this file.
pub struct SqliteIndex {
    db: Connection,
    /// A transaction is open: something was written since the last commit.
    writing: bool,
    digests: Digests,
    /// How many rows each bucket has, whether they count or not.
    filling: Vec<u32>,
    counts: Counts,
    horizon: u64,
    /// Of the last run (ns since 1970); 0: there was none.
    last_commit: u64,
    today: u64,
    recent: RefCell<Recent>,
    /// What became of paths since they were taken last; nothing before they were taken once.
    changes: Option<SeenChanges>,
    failed: RefCell<Option<IndexError>>,
    /// Stays set once something failed, also after the error was handed over.
    broken: Cell<bool>,
}

impl SqliteIndex {
    /// Whether something was written since the last commit.
    pub fn is_dirty(&self) -> bool {
        self.writing || self.broken.get()
    }

    /// Makes everything written since the last commit durable. Nothing written: nothing done.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if self.writing {
            let counts = self.counts;
            self.attempt(|index| index.write_meta(META_COUNTS, &codec::encode_counts(&counts)));
            self.attempt(|index| index.write_meta(META_COMMITTED, &wall_ns().to_be_bytes()));
            fail::after(Point::IndexCommit);
            self.attempt(|index| Ok(index.statement("COMMIT")?.execute([]).map(drop)?));
            fail::after(Point::IndexCommitted);
            self.writing = false;
        }
        match self.failed.take() {
            Some(why) => Err(why),
            None if self.broken.get() => Err(IndexError::Damaged("an earlier error was not heeded")),
            None => Ok(()),
        }
    }

    /// What became of paths since the last call. From the first call on it is noted, so
    /// whoever calls once has to go on.
    pub fn take_changes(&mut self) -> SeenChanges {
        std::mem::take(self.changes.get_or_insert_default())
    }

    /// When the last run committed last: it was alive then (ns since 1970).
    pub fn last_commit(&self) -> u64 {
        self.last_commit
    }

    /// The last commit, and the mark of a clean stop, which spares the next start a check of the
    /// whole file.
    pub fn close(mut self) -> Result<(), IndexError> {
        self.write(|index| index.write_meta(META_CLEAN, b"1"));
        self.commit()?;
        self.db.close().map_err(|(_, why)| IndexError::Storage(why))
    }

    /// Adds lines to the journal, in the transaction of the changes that they speak of; the oldest
    /// beyond 10,000 go.
    pub fn append_journal(&mut self, lines: &[JournalLine]) {
        if lines.is_empty() {
            return;
        }
        self.write(|index| {
            let mut insert = index.statement(
                "INSERT INTO journal (at, kind, path, peer, text, size, paths) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for line in lines {
                let number = |number: Option<u64>| number.map(u64::cast_signed);
                let (size, paths) = (number(line.size), number(line.paths));
                insert.execute(params![
                    line.at.cast_signed(),
                    line.kind,
                    line.path,
                    line.peer,
                    line.text,
                    size,
                    paths
                ])?;
            }
            let newest = index.db.last_insert_rowid();
            index.statement("DELETE FROM journal WHERE seq <= ?1")?.execute([newest - JOURNAL_LINES])?;
            Ok(())
        });
    }

    /// Lines of the journal, oldest first.
    pub fn journal(&self, wanted: &WantedLines) -> Vec<JournalLine> {
        let mut lines: Vec<JournalLine> = self.read(|index| {
            let mut select = index.statement(
                "SELECT seq, at, kind, path, peer, text, size, paths FROM journal WHERE seq > ?1 ORDER BY seq DESC",
            )?;
            let number = |number: Option<i64>| number.map(i64::cast_unsigned);
            let lines = select.query_map([wanted.after.min(i64::MAX as u64).cast_signed()], |row| {
                Ok(JournalLine {
                    seq: row.get::<_, i64>(0)?.cast_unsigned(),
                    at: row.get::<_, i64>(1)?.cast_unsigned(),
                    kind: row.get(2)?,
                    path: row.get(3)?,
                    peer: row.get(4)?,
                    text: row.get(5)?,
                    size: number(row.get(6)?),
                    paths: number(row.get(7)?),
                })
            })?;
            let is_wanted = |line: &JournalLine| line.at >= wanted.since && wanted.speaks_of_it(line);
            let is_one = |line: &Result<JournalLine, rusqlite::Error>| line.as_ref().is_ok_and(is_wanted);
            Ok(lines.filter(|line| line.is_err() || is_one(line)).take(wanted.limit).collect::<Result<_, _>>()?)
        });
        lines.reverse();
        lines
    }

    /// Runs a write in the transaction, which is opened at the first one.
    fn write(&mut self, change: impl FnOnce(&mut Self) -> Result<(), IndexError>) {
        if !self.writing {
            self.attempt(|index| Ok(index.statement("BEGIN IMMEDIATE")?.execute([]).map(drop)?));
            self.writing = !self.broken.get();
        }
        self.attempt(change);
    }

    fn attempt(&mut self, change: impl FnOnce(&mut Self) -> Result<(), IndexError>) {
        if self.broken.get() {
            return;
        }
        if let Err(why) = change(self) {
            self.fail(why);
        }
    }

    /// Runs a read; nothing after an error.
    fn read<T: Default>(&self, query: impl FnOnce(&Self) -> Result<T, IndexError>) -> T {
        if self.broken.get() {
            return T::default();
        }
        query(self).unwrap_or_else(|why| {
            self.fail(why);
            T::default()
        })
    }

    fn fail(&self, why: IndexError) {
        self.broken.set(true);
        self.failed.borrow_mut().get_or_insert(why);
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, rusqlite::Error> {
        self.db.prepare_cached(sql)
    }

    fn read_meta(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.statement("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?)
    }

    fn write_meta(&self, key: &str, value: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.statement(sql)?.execute(params![key, value])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
