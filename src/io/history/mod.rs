//! What remote changes replaced or deleted: `.dirsync/history` (P2).
//!
//! One flat folder; each name says when, why and which path (`name.rs`). May import `engine`'s values and `model`. Deliberately not
//! here: putting things in (`apply::place`) and back (`apply::restore`), and what is to go (`engine::retention`).

mod late;
mod name;
#[cfg(test)]
mod tests;

use super::beneath;
use super::fail::{self, Point};
use super::root::Root;
use super::stage::Stage;
use crate::engine::retention::{self, Held, Retention};
use crate::engine::{Cause, Keep, StatKind, Trouble};
use crate::io::clock::wall_ns;
use crate::model::{ContentId, FileTime, Mode, SyncPath};
use late::Late;
use name::{NAME_BYTES, SIDECAR, UniqueName, parse, sidecar, unescape};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(in crate::io) use name::unique_name;

/// All of history together: this share of the file system.
const QUOTA_PERCENT: u64 = 10;
/// While history is full, it is judged anew at most this often.
const JUDGE_EVERY: Duration = Duration::from_secs(20);

/// Something kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Its name in history, which `restore` takes.
    pub name: String,
    /// Where it was.
    pub path: SyncPath,
    /// When it was put here, nanoseconds since 1970.
    pub time_ns: u64,
    pub reason: Keep,
    /// Bytes.
    pub size: u64,
    pub kind: StatKind,
    pub mode: Mode,
    pub mtime: FileTime,
}

/// The history of one folder.
#[derive(Debug)]
pub struct History {
    pub(super) root: Arc<Root>,
    pub(super) stage: Arc<Stage>,
    fill: Mutex<Fill>,
    late: Mutex<Late>,
    arrived: Condvar,
}

/// How full it is, as far as is known without listing it.
#[derive(Debug, Default)]
struct Fill {
    left_bytes: u64,
    guarded_bytes: u64,
    judged: Option<Instant>,
}

impl History {
    /// Nothing may be installing yet.
    pub fn open(root: Arc<Root>, stage: Arc<Stage>) -> Arc<Self> {
        let history = Self { root, stage, fill: Mutex::default(), late: Mutex::default(), arrived: Condvar::new() };
        if let Err(why) = history.tidy() {
            tracing::warn!("history cannot be tidied: {why}");
        }
        Arc::new(history)
    }

    /// A path's text whose item a crash kept from coming, or took first, speaks of nothing.
    fn tidy(&self) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(self.root.history())? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| name.len() > NAME_BYTES + SIDECAR.len())
            else {
                continue;
            };
            if let Some(item) = name.strip_suffix(SIDECAR)
                && beneath::stat_at(self.root.history(), item.as_bytes())?.is_none()
            {
                self.release(item);
            }
        }
        Ok(())
    }

    /// What is kept, newest first; of one path and what is below it, or of all.
    pub fn list(&self, path: Option<&SyncPath>) -> io::Result<Vec<Kept>> {
        let mut all = self.items()?.into_iter().filter_map(Item::into_kept).collect::<Vec<_>>();
        all.retain(|kept| path.is_none_or(|path| kept.path == *path || kept.path.is_below(path)));
        all.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(all)
    }

    /// One thing by its name, open for reading; `None` if there is no such file.
    pub fn open_kept(&self, name: &str) -> io::Result<Option<File>> {
        if parse(name).is_none() {
            return Ok(None);
        }
        let opened = beneath::regular(self.root.history(), name.as_bytes()).map_err(beneath::std_error)?;
        Ok(opened.map(|(file, _)| file))
    }

    /// What one thing holds; `None` if there is no such file.
    pub fn content(&self, name: &str) -> io::Result<Option<ContentId>> {
        self.open_kept(name)?.map(|file| Ok(beneath::content_of(&file)?.0)).transpose()
    }

    /// Where copies are made on their way in.
    pub(super) fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// Whether this is the name of something kept.
    pub(super) fn is_kept(&self, name: &str) -> io::Result<bool> {
        Ok(parse(name).is_some() && beneath::stat_at(self.root.history(), name.as_bytes())?.is_some())
    }

    /// A name for something about to be kept. A long path is written beside it; `true`: that was so.
    pub(super) fn reserve(&self, reason: Keep, path: &SyncPath) -> rustix::io::Result<(String, bool)> {
        let UniqueName { name, is_cut } = unique_name(reason, path.as_bytes());
        if is_cut {
            let created =
                fail::at(Point::HistoryPath).and_then(|()| beneath::create(self.root.history(), &sidecar(&name)));
            let written = created.and_then(|mut file| {
                file.write_all(path.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| super::trouble::errno(&e))
            });
            if let Err(e) = written {
                self.release(&name);
                return Err(e);
            }
        }
        Ok((name, is_cut))
    }

    /// The reserved name was not used.
    pub(super) fn release(&self, name: &str) {
        if name.len() > NAME_BYTES {
            let _ = rustix::fs::unlinkat(self.root.history(), sidecar(name), AtFlags::empty());
        }
    }

    /// Whether something may be replaced or deleted now: not while history is full of what stood a day ago.
    pub(super) fn admit(&self, path: &SyncPath) -> Result<(), Trouble> {
        let quota_bytes = self.quota().unwrap_or(u64::MAX);
        let mut fill = self.lock_fill();
        if fill.left_bytes > quota_bytes && fill.judged.is_none_or(|at| at.elapsed() >= JUDGE_EVERY) {
            drop(fill);
            if let Err(why) = self.prune(wall_ns()) {
                tracing::warn!("history cannot be pruned: {why}");
            }
            fill = self.lock_fill();
        }
        if !retention::is_full(fill.guarded_bytes, quota_bytes) {
            return Ok(());
        }
        let (held, quota) = (super::words::bytes(fill.guarded_bytes), super::words::bytes(quota_bytes));
        let text = format!(
            "'{path}' is not replaced or deleted for now: history is full ({held} of {quota}) of what stood a day ago and \
             was replaced since, which is kept for a day; if you do not need it, delete it from .dirsync/history"
        );
        Err(Trouble { cause: Cause::Other, text })
    }

    /// Something of this size came in.
    pub(super) fn came_in(&self, size_bytes: u64) {
        let mut fill = self.lock_fill();
        fill.left_bytes = fill.left_bytes.saturating_add(size_bytes);
    }

    /// Removes what is to go. Returns how many went. `now`: nanoseconds since 1970.
    pub fn prune(&self, now: u64) -> io::Result<usize> {
        self.prune_to(now, self.quota()?)
    }

    fn quota(&self) -> io::Result<u64> {
        let disk = rustix::fs::fstatvfs(self.root.history())?;
        Ok(quota_of(disk.f_blocks, disk.f_frsize))
    }

    /// Removes what is to go under this quota, and notes how full it is then.
    fn prune_to(&self, now: u64, quota_bytes: u64) -> io::Result<usize> {
        let mut items = self.items()?;
        // Folders are here only after a crash; nothing is removed recursively.
        items.retain(|item| item.facts.stat.kind != StatKind::Directory);
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let held: Vec<_> = items.iter().map(Item::held).collect();
        let Retention { goes, left_bytes, guarded_bytes } = retention::judge(&held, now, quota_bytes);
        let mut gone = 0;
        for &n in &goes {
            // What someone wrote since is no old version: it becomes the loser of a conflict instead (P2).
            if !self.look_again_if_written(&items[n]) {
                gone += usize::from(self.remove(&items[n].name)?);
            }
        }
        *self.lock_fill() = Fill { left_bytes, guarded_bytes, judged: Some(Instant::now()) };
        Ok(gone)
    }

    /// `false`: it has another name by now, as the loser of a conflict, and goes another time.
    fn remove(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(self.root.history(), name, AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            removed => removed?,
        }
        fail::after(Point::PruneRemoved);
        self.release(name);
        Ok(true)
    }

    fn lock_fill(&self) -> MutexGuard<'_, Fill> {
        self.fill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn items(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.root.history())? {
            let entry = entry?;
            let Some((name, parsed)) = entry.file_name().to_str().ok().and_then(|n| Some((n, parse(n)?))) else {
                continue;
            };
            let Some(facts) = beneath::facts_at(self.root.history(), name.as_bytes())? else { continue };
            let path = if name.len() > NAME_BYTES { self.read_sidecar(name) } else { unescape(parsed.path) };
            let path = path.and_then(|bytes| SyncPath::new(bytes).ok());
            items.push(Item { name: name.to_owned(), time_ns: parsed.time_ns, reason: parsed.reason, path, facts });
        }
        Ok(items)
    }

    fn read_sidecar(&self, name: &str) -> Option<Vec<u8>> {
        let (file, _) = beneath::regular(self.root.history(), sidecar(name).as_bytes()).ok()??;
        let mut path = Vec::new();
        file.take(8192).read_to_end(&mut path).ok()?;
        Some(path)
    }
}

struct Item {
    name: String,
    time_ns: u64,
    reason: Keep,
    /// `None` when its text is malformed or its sidecar is gone.
    path: Option<SyncPath>,
    facts: beneath::Facts,
}

impl Item {
    fn held(&self) -> Held<'_> {
        let (path, stat) = (self.path.as_ref().map_or(self.name.as_bytes(), SyncPath::as_bytes), &self.facts.stat);
        let (size_bytes, mtime_ns) = (stat.size, stat.mtime.as_stamp());
        Held { path, time_ns: self.time_ns, reason: self.reason, size_bytes, mtime_ns }
    }

    fn into_kept(self) -> Option<Kept> {
        let stat = self.facts.stat;
        let (name, path, time_ns, reason) = (self.name, self.path?, self.time_ns, self.reason);
        Some(Kept { name, path, time_ns, reason, size: stat.size, kind: stat.kind, mode: stat.mode, mtime: stat.mtime })
    }
}

/// Bytes. Some file systems (ramfs, a tmpfs without a size) say that they have no blocks at all: they have no end.
fn quota_of(blocks: u64, block_bytes: u64) -> u64 {
    if blocks == 0 { u64::MAX } else { blocks.saturating_mul(block_bytes) / 100 * QUOTA_PERCENT }
}
