//! Opening the index: a new one, one of this version, one that is too new, one that is broken.
//!
//! A broken index costs a first scan, never a file (P8), so it is set aside and made anew; a newer
//! one is somebody's, so it is refused untouched. May import `engine` and `model`. Not here: what a
//! lost index means.

use super::{IndexError, META_CLEAN, META_COMMITTED, META_COUNTS, META_HORIZON, SqliteIndex, codec, conflicts};
use crate::engine::api::digest::Digests;
use crate::engine::api::index::Counts;
use crate::io::clock::wall_ns;
use crate::model::text;
use crate::wire::message::{Bucket, Digest};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the layout: `PRAGMA user_version`.
const VERSION: u32 = 1;
/// `PRAGMA application_id`: "dirs".
const APPLICATION: u32 = 0x6469_7273;
/// Pages kept in memory (KiB). The kernel keeps the rest.
const CACHE_KIB: i64 = 8192;
/// The write-ahead log is folded into the file after this many pages of 4 KiB: a few batches, not
/// each one.
const CHECKPOINT_PAGES: i64 = 4096;
/// Of SQLite's statement cache: one for each statement of ours, so that none is prepared twice.
const STATEMENTS: usize = 96;

const SCHEMA: &str = "
CREATE TABLE paths (
    path BLOB PRIMARY KEY NOT NULL,
    bucket INTEGER NOT NULL,
    hash BLOB,
    content INTEGER,
    live INTEGER,
    on_disk INTEGER,
    unsettled INTEGER,
    deleted_at BLOB,
    row BLOB NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX by_bucket ON paths (bucket, hash);
CREATE INDEX by_content ON paths (content) WHERE content IS NOT NULL;
CREATE INDEX by_unsettled ON paths (unsettled) WHERE unsettled IS NOT NULL;
CREATE INDEX by_deleted_at ON paths (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    path BLOB,
    peer TEXT,
    text TEXT NOT NULL
) STRICT;
";

/// On which day each deletion was learned.
const DELETIONS: &str = "
CREATE TABLE IF NOT EXISTS deletions (path BLOB PRIMARY KEY NOT NULL, learned INTEGER NOT NULL) WITHOUT ROWID, STRICT;
";

/// What journals of earlier days lack.
const JOURNAL_COLUMNS: [&str; 2] = ["size", "paths"];

/// What a preview asks of an index.
pub struct IndexGlance {
    /// The value of the asked key.
    pub meta: Option<Vec<u8>>,
    pub holds_paths: bool,
}

impl SqliteIndex {
    /// Of an index that no daemon has open: it is read and left as it is, also a damaged one.
    pub fn glance(path: &Path, key: &str) -> rusqlite::Result<IndexGlance> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let log = path.with_file_name(log_name(path));
        let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        // Without a log, SQLite must make none to read by; with one, it is read as well.
        let database = if has_log {
            Connection::open_with_flags(path, flags)?
        } else {
            Connection::open_with_flags(unchanging(path), flags | OpenFlags::SQLITE_OPEN_URI)?
        };
        let meta = database.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0));
        let meta = meta.map(Some).or_else(|why| match why {
            rusqlite::Error::QueryReturnedNoRows => Ok(None),
            why => Err(why),
        })?;
        let holds_paths = database.query_row("SELECT EXISTS (SELECT 1 FROM paths)", [], |row| row.get(0))?;
        Ok(IndexGlance { meta, holds_paths })
    }
}

/// The write-ahead log beside an index.
fn log_name(path: &Path) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-wal");
    name
}

/// The URI by which SQLite takes a file for one that nobody changes.
fn unchanging(path: &Path) -> String {
    format!("file:{}?immutable=1", text::percent(path.as_os_str().as_bytes()))
}

/// Where the index that was opened came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexOrigin {
    New,
    Existing,
    /// What was there is broken and was moved to `aside`.
    Rebuilt {
        aside: PathBuf,
        why: String,
    },
}

pub struct OpenedIndex {
    pub index: SqliteIndex,
    pub origin: IndexOrigin,
    /// The last run ended as asked.
    pub was_clean: bool,
}

impl SqliteIndex {
    /// Opens the index at `path`, or makes one. The folder that holds it must be ours alone.
    pub fn open(path: &Path) -> Result<OpenedIndex, IndexError> {
        match identify(path)? {
            FileThere::Nothing => Ok(OpenedIndex { index: create(path)?, origin: IndexOrigin::New, was_clean: true }),
            FileThere::Index => match existing(path) {
                Ok((index, was_clean)) => Ok(OpenedIndex { index, origin: IndexOrigin::Existing, was_clean }),
                Err(Broken::Refuse(why)) => Err(why),
                Err(Broken::SetAside(why)) => rebuilt(path, why),
            },
            FileThere::Garbage(why) => rebuilt(path, why.into()),
        }
    }
}

/// What stands at the index's path, by the first 100 bytes: nothing is written, no log is replayed.
enum FileThere {
    Nothing,
    Index,
    Garbage(&'static str),
}

fn identify(path: &Path) -> Result<FileThere, IndexError> {
    let mut header = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(100).read_to_end(&mut header)) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(FileThere::Nothing),
        Err(why) => return Err(cannot_open(path, &why)),
        Ok(_) => {}
    }
    if header.is_empty() {
        // Its making was cut off before the first commit.
        return Ok(FileThere::Nothing);
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Ok(FileThere::Garbage("it is no SQLite database"));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    check_version(path, number(60), number(68))?;
    Ok(FileThere::Index)
}

/// Zeros are a file whose making was cut off between its first page and its first commit.
fn check_version(path: &Path, version: u32, application: u32) -> Result<(), IndexError> {
    if (version, application) != (0, 0) && application != APPLICATION {
        return Err(IndexError::Foreign { path: path.to_owned() });
    }
    if version > VERSION {
        return Err(IndexError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    Ok(())
}

enum Broken {
    Refuse(IndexError),
    SetAside(String),
}

impl From<rusqlite::Error> for Broken {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            // A full or failing disk says nothing about the index's health.
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory,
            ) => Self::Refuse(IndexError::Storage(why)),
            _ => Self::SetAside(why.to_string()),
        }
    }
}

impl From<IndexError> for Broken {
    fn from(why: IndexError) -> Self {
        match why {
            IndexError::Storage(why) => why.into(),
            IndexError::Damaged(_) => Self::SetAside(why.to_string()),
            other => Self::Refuse(other),
        }
    }
}

fn existing(path: &Path) -> Result<(SqliteIndex, bool), Broken> {
    let db = connect(path)?;
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: u32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    check_version(path, version, application)?;
    if version == 0 {
        make_schema(&db)?;
    }
    let mut index = load(db)?;
    let was_clean = index.read_meta(META_CLEAN)?.is_some();
    if !was_clean {
        quick_check(&index.db)?;
    }
    // Indexes of earlier days have no such table.
    index.db.execute_batch(conflicts::SCHEMA)?;
    conflicts::complete(&index.db)?;
    add_columns(&index.db)?;
    mark_in_use(&mut index)?;
    Ok((index, was_clean))
}

fn create(path: &Path) -> Result<SqliteIndex, IndexError> {
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map_err(|why| cannot_open(path, &why))?;
    let db = connect(path)?;
    make_schema(&db)?;
    let mut index = load(db)?;
    mark_in_use(&mut index)?;
    Ok(index)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else a statement is planned anew whenever the bounds of its range change.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.busy_timeout(Duration::from_secs(1))?;
    // Exclusive: nobody else has business here, and no read takes a lock. Before the first read, so
    // no -shm file is made.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", CHECKPOINT_PAGES * 4096)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

fn make_schema(db: &Connection) -> Result<(), IndexError> {
    let pragmas = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    db.execute_batch(&format!("BEGIN EXCLUSIVE; {SCHEMA} {} {pragmas} COMMIT;", conflicts::SCHEMA))?;
    conflicts::complete(db)?;
    Ok(add_columns(db)?)
}

/// Older versions name the columns that they know, so they can go on with it.
fn add_columns(db: &Connection) -> Result<(), rusqlite::Error> {
    for column in JOURNAL_COLUMNS {
        add_column(db, "journal", column)?;
    }
    Ok(())
}

fn add_column(db: &Connection, table: &str, column: &str) -> Result<(), rusqlite::Error> {
    let is_there = db.prepare("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2")?.exists([table, column])?;
    if !is_there {
        db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} INTEGER"))?;
    }
    Ok(())
}

/// What tables of paths of earlier days lack. An older version that wrote a row since left the
/// column as it was: the row itself says whether it holds.
fn complete_local(index: &mut SqliteIndex) -> Result<(), IndexError> {
    add_column(&index.db, "paths", "local")?;
    index.db.execute_batch("CREATE INDEX IF NOT EXISTS by_local ON paths (local) WHERE local IS NOT NULL")?;
    let is_local = |row: &rusqlite::Row| Ok((row.get(0)?, codec::decode_row(row.get_ref(1)?.as_blob()?)));
    let mut select = index.db.prepare("SELECT path, row FROM paths WHERE local = 1")?;
    let listed: Vec<(Vec<u8>, _)> = select.query_map([], is_local)?.collect::<Result<_, _>>()?;
    drop(select);
    for (path, row) in listed {
        if row?.is_local() {
            index.counts.local += 1;
        } else {
            index.db.execute("UPDATE paths SET local = NULL WHERE path = ?1", params![path])?;
        }
    }
    Ok(())
}

/// One ordered scan of (bucket, hash) makes the digests.
fn load(db: Connection) -> Result<SqliteIndex, IndexError> {
    db.execute_batch(DELETIONS)?;
    let mut index = SqliteIndex {
        db,
        writing: false,
        digests: Digests::default(),
        filling: vec![0; 1 << Bucket::BITS],
        counts: Counts::default(),
        horizon: 0,
        last_commit: 0,
        today: 0,
        recent: RefCell::default(),
        changes: None,
        failed: RefCell::new(None),
        broken: Cell::new(false),
    };
    if let Some(counts) = index.read_meta(META_COUNTS)? {
        index.counts = codec::decode_counts(&counts)?;
    }
    if let Some(horizon) = index.read_meta(META_HORIZON)? {
        let horizon = horizon.try_into().map_err(|_| IndexError::Damaged("the horizon"))?;
        index.horizon = u64::from_be_bytes(horizon);
    }
    if let Some(at) = index.read_meta(META_COMMITTED)? {
        let at = at.try_into().map_err(|_| IndexError::Damaged("the time of the last commit"))?;
        index.last_commit = u64::from_be_bytes(at);
    }
    complete_local(&mut index)?;
    load_buckets(&index.db, &mut index.digests, &mut index.filling)?;
    // What a bucket does not count would be taken for new.
    let Counts { files, directories, symlinks, deleted, .. } = index.counts;
    let rows: u64 = index.filling.iter().map(|count| u64::from(*count)).sum();
    if rows != files + directories + symlinks + deleted {
        return Err(IndexError::Damaged("the number of rows"));
    }
    Ok(index)
}

fn load_buckets(db: &Connection, digests: &mut Digests, filling: &mut [u32]) -> Result<(), IndexError> {
    let mut select = db.prepare("SELECT bucket, hash FROM paths INDEXED BY by_bucket ORDER BY bucket")?;
    let mut rows = select.query([])?;
    let mut under_way: Option<(Bucket, Vec<Digest>)> = None;
    while let Some(row) = rows.next()? {
        let (bucket, hash): (Bucket, Option<Digest>) = (row.get(0)?, row.get(1)?);
        filling[usize::from(bucket)] += 1;
        match &mut under_way {
            Some((same, hashes)) if *same == bucket => hashes.extend(hash),
            _ => {
                if let Some((done, hashes)) = under_way.replace((bucket, hash.into_iter().collect())) {
                    digests.set(done, hashes);
                }
            }
        }
    }
    if let Some((done, hashes)) = under_way {
        digests.set(done, hashes);
    }
    Ok(())
}

fn quick_check(db: &Connection) -> Result<(), Broken> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Broken::SetAside(verdict)) }
}

fn mark_in_use(index: &mut SqliteIndex) -> Result<(), IndexError> {
    index.db.execute("DELETE FROM meta WHERE key = ?1", params![META_CLEAN])?;
    Ok(())
}

fn rebuilt(path: &Path, why: String) -> Result<OpenedIndex, IndexError> {
    let aside = set_aside(path)?;
    // What it knew is lost, so there is nothing that a cut could have torn.
    Ok(OpenedIndex { index: create(path)?, origin: IndexOrigin::Rebuilt { aside, why }, was_clean: true })
}

/// Moves the file and its log away under a name that is free.
fn set_aside(path: &Path) -> Result<PathBuf, IndexError> {
    let seconds = wall_ns() / 1_000_000_000;
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (0..).map(|n| if n == 0 { format!(".corrupt-{seconds}") } else { format!(".corrupt-{seconds}.{n}") });
    let suffix = free.into_iter().find(|suffix| !named(suffix).exists()).unwrap_or_default();
    fs::rename(path, named(&suffix)).map_err(|why| cannot_open(path, &why))?;
    for log in ["-wal", "-shm"] {
        match fs::rename(named(log), named(&format!("{suffix}{log}"))) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(cannot_open(path, &why)),
            _ => {}
        }
    }
    Ok(named(&suffix))
}

fn cannot_open(path: &Path, why: &dyn Display) -> IndexError {
    IndexError::Open { path: path.to_owned(), why: why.to_string() }
}
