//! Folders that their owner may not write (0555, as in Go's module cache): opened for the moment of
//! some installs, and closed again.
//!
//! A record in `.dirsync/opened` is durable before the folder is opened: after a crash the next
//! start closes it, before anything looks. Looks and walks see the mode that it is to have all the
//! time (`Root::facts_in`). Only an owner who is not root needs this. Deliberately not here: which
//! installs need it.

use crate::io::fs::beneath;
use crate::io::fs::root::Root;
use crate::model::SyncPath;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Below `.dirsync/`.
const RECORDS: &str = "opened";
/// A path is no longer than `PATH_MAX`.
const RECORD_BYTES: u64 = 8192;
pub(super) const OWNER_WRITE: u16 = 0o200;

/// A folder that is open, or whose record is still there.
#[derive(Debug)]
pub(super) struct OpenedFolder {
    pub path: SyncPath,
    folder: OwnedFd,
    closed: u16,
    record: String,
}

/// Opens a folder that is ours, and that we may not write. `None`: it is none of these.
pub(super) fn open(root: &Root, path: &SyncPath) -> io::Result<Option<OpenedFolder>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = beneath::folder(root.dir(), Some(path))?;
    let facts = beneath::facts(&folder)?;
    if facts.uid != rustix::process::geteuid().as_raw() || facts.raw_mode & OWNER_WRITE != 0 {
        return Ok(None);
    }
    let closed = facts.raw_mode & 0o7777;
    let record = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let records = root.own_folder(RECORDS)?;
    let _ = rustix::fs::unlinkat(&records, record.as_str(), AtFlags::empty());
    let mut file = beneath::create(&records, &record)?;
    write!(file, "{closed:o} {} ", facts.stat.ino)?;
    file.write_all(path.as_bytes())?;
    file.sync_all()?;
    rustix::fs::fsync(&records)?;
    let opened = OpenedFolder { path: path.clone(), folder, closed, record };
    root.while_opened(|all| {
        all.insert(facts.place(), closed);
        let is_open = set_mode(&opened.folder, closed | OWNER_WRITE);
        if is_open.is_err() {
            all.remove(&facts.place());
        }
        Ok(is_open?)
    })?;
    Ok(Some(opened))
}

impl OpenedFolder {
    /// Gives the folder its mode back, unless someone gave it another one meanwhile.
    pub fn close(&self, root: &Root) -> io::Result<()> {
        root.while_opened(|all| {
            let facts = beneath::facts(&self.folder)?;
            let closed = close_one(&self.folder, &facts, self.closed);
            all.remove(&facts.place());
            Ok(closed?)
        })
    }

    /// Its mode is durable: the record has done its duty.
    pub fn forget(&self, root: &Root) -> io::Result<()> {
        // A folder that is gone needs none.
        if let Ok(folder) = beneath::readable_folder(root.dir(), Some(&self.path)) {
            rustix::fs::fsync(&folder)?;
        }
        let records = root.own_folder(RECORDS)?;
        Ok(rustix::fs::unlinkat(&records, self.record.as_str(), AtFlags::empty())?)
    }
}

/// At the start: what a crash left open is closed.
pub(super) fn close_left(root: &Root) -> io::Result<()> {
    let records = root.own_folder(RECORDS)?;
    for item in rustix::fs::Dir::read_from(&records)? {
        let item = item?;
        let name = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if let Some((closed, ino, path)) = read_record(&records, name.to_bytes())
            && let Ok(folder) = beneath::readable_folder(root.dir(), Some(&path))
        {
            let facts = beneath::facts(&folder)?;
            if facts.stat.ino == ino {
                close_one(&folder, &facts, closed)?;
                rustix::fs::fsync(&folder)?;
            }
        }
        rustix::fs::unlinkat(&records, name, AtFlags::empty())?;
    }
    Ok(())
}

fn close_one(folder: &OwnedFd, facts: &beneath::Facts, closed: u16) -> rustix::io::Result<()> {
    if facts.raw_mode & 0o7777 == closed | OWNER_WRITE { set_mode(folder, closed) } else { Ok(()) }
}

fn set_mode(folder: &OwnedFd, mode: u16) -> rustix::io::Result<()> {
    rustix::fs::chmod(beneath::by_descriptor(folder.as_fd()), Mode::from_raw_mode(u32::from(mode)))
}

fn read_record(records: &OwnedFd, name: &[u8]) -> Option<(u16, u64, SyncPath)> {
    let file = File::from(beneath::open(records, name, OFlags::RDONLY | OFlags::NOFOLLOW).ok()?);
    let mut text = Vec::new();
    file.take(RECORD_BYTES).read_to_end(&mut text).ok()?;
    let mut words = text.splitn(3, |&byte| byte == b' ');
    let closed = u16::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok()?;
    let ino = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    Some((closed, ino, SyncPath::new(words.next()?).ok()?))
}
