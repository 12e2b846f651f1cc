//! What remote changes replaced or deleted: `.dirsync/history` (P2).
//!
//! One flat folder; each name says when, why and which path (`name.rs`). May import `engine`'s
//! values and `model`. Deliberately not here: putting things in (`apply::place`) and back
//! (`apply::restore`), and what is to go (`engine::retention`).

mod late;
mod past;
mod seek;
#[cfg(test)]
mod tests;

use crate::engine::safety::retention::{self, Load, Quota, Retained, Retention};
use crate::engine::{Cause, RetainReason, ServedFile, StatKind, Trouble};
use crate::humanize;
use crate::io::clock::wall_ns;
use crate::io::fail::{self, Point};
use crate::io::fs::beneath;
use crate::io::fs::history_name::{NAME_BYTES, SIDECAR, Stood, UniqueName, parse, sidecar, unescape, unique_name};
use crate::io::fs::root::Root;
use crate::io::fs::stage::Stage;
use crate::model::{ContentId, FileTime, Mode, SyncPath};
use late::Late;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All of history together: this share of the file system's blocks, and of its inodes.
const QUOTA_PERCENT: u64 = 10;
/// While history is full, it is judged anew at most this often.
const JUDGE_EVERY: Duration = Duration::from_secs(20);

/// Something kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeptVersion {
    /// Its name in history, which `restore` takes.
    pub name: String,
    /// Where it was.
    pub path: SyncPath,
    /// When it was put here, nanoseconds since 1970.
    pub time_ns: u64,
    pub reason: RetainReason,
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
    asked: past::HistoryQuestions,
    /// What the steady clock was, and when.
    clock: Mutex<Option<(Instant, u64)>>,
}

/// How full it is, as far as is known without listing it.
#[derive(Debug, Default)]
struct Fill {
    left: Load,
    guarded: Load,
    judged: Option<Instant>,
}

impl History {
    /// Nothing may be installing yet.
    pub fn open(root: Arc<Root>, stage: Arc<Stage>) -> Arc<Self> {
        let history = Self {
            root,
            stage,
            fill: Mutex::default(),
            late: Mutex::default(),
            arrived: Condvar::new(),
            asked: past::HistoryQuestions::default(),
            clock: Mutex::default(),
        };
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
    pub fn list(&self, path: Option<&SyncPath>) -> io::Result<Vec<KeptVersion>> {
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

    /// One thing for a peer, if it is what it was when it was told.
    pub fn open_served(&self, name: &str, reported: &ServedFile) -> io::Result<File> {
        let opened = self.open_kept(name)?;
        let is_as_served = |file: &File| beneath::facts(file).is_ok_and(|facts| facts.stat == reported.stat);
        opened.filter(is_as_served).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("'{}' in history has changed", reported.path))
        })
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

    /// A name for something about to be kept. A long path is written beside it; `true`: that was
    /// so. `since_ns`: since when its content has been here, by the steady clock.
    pub(super) fn reserve(
        &self,
        reason: RetainReason,
        path: &SyncPath,
        since_ns: Option<u64>,
    ) -> rustix::io::Result<(String, bool)> {
        let stood = self.steady_ns().zip(since_ns).map(|(at_ns, since_ns)| Stood { at_ns, since_ns });
        let UniqueName { name, is_cut } = unique_name(reason, path.as_bytes(), stood);
        if is_cut {
            let created =
                fail::at(Point::HistoryPath).and_then(|()| beneath::create(self.root.history(), &sidecar(&name)));
            let written = created.and_then(|mut file| {
                file.write_all(path.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(|e| crate::io::fs::trouble::errno(&e))
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

    /// Whether something may be replaced or deleted now: not while history is full of what stood a
    /// day ago.
    pub(super) fn admit(&self, path: &SyncPath) -> Result<(), Trouble> {
        let quota = self.quota().unwrap_or(Quota { bytes: u64::MAX, inodes: u64::MAX });
        let mut fill = self.lock_fill();
        if fill.left.exceeds(quota) && fill.judged.is_none_or(|at| at.elapsed() >= JUDGE_EVERY) {
            drop(fill);
            if let Err(why) = self.prune(wall_ns()) {
                tracing::warn!("history cannot be pruned: {why}");
            }
            fill = self.lock_fill();
        }
        if !retention::is_full(fill.guarded, quota) {
            return Ok(());
        }
        let (held, quota) = if fill.guarded.bytes >= quota.bytes {
            (humanize::bytes(fill.guarded.bytes), humanize::bytes(quota.bytes))
        } else {
            (humanize::counted(fill.guarded.inodes, "inode", "inodes"), humanize::count(quota.inodes))
        };
        let text = format!(
            "'{path}' is not replaced or deleted for now: history is full ({held} of {quota}) of what stood a day ago and \
             was replaced since, or was let go by a confirmation, which is kept for a day; if you do not need it, delete it from .dirsync/history"
        );
        Err(Trouble { cause: Cause::HistoryFull, text })
    }

    /// Something came in under this name, which takes this much (bytes).
    pub(super) fn came_in(&self, name: &str, used_bytes: u64) {
        let mut fill = self.lock_fill();
        fill.left.bytes = fill.left.bytes.saturating_add(used_bytes);
        fill.left.inodes = fill.left.inodes.saturating_add(inodes_of(name));
    }

    /// It went again.
    fn went(&self, name: &str, used_bytes: u64) {
        let mut fill = self.lock_fill();
        fill.left.bytes = fill.left.bytes.saturating_sub(used_bytes);
        fill.left.inodes = fill.left.inodes.saturating_sub(inodes_of(name));
    }

    /// What the engine's steady clock is now (ns). To be told at the start, and now and then.
    pub fn set_clock(&self, steady_ns: u64) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), steady_ns));
    }

    /// `None`: it was not told yet.
    fn steady_ns(&self) -> Option<u64> {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.map(|(reported, steady_ns)| steady_ns.saturating_add(reported.elapsed().as_nanos() as u64))
    }

    /// How much it takes now, and how much it may take.
    pub fn fill(&self) -> (Load, Option<Quota>) {
        (self.lock_fill().left, self.quota().ok())
    }

    /// Removes what is to go. Returns how many went. `now`: nanoseconds since 1970.
    pub fn prune(&self, now: u64) -> io::Result<usize> {
        self.prune_to(now, self.quota()?)
    }

    fn quota(&self) -> io::Result<Quota> {
        let disk = rustix::fs::fstatvfs(self.root.history())?;
        Ok(Quota { bytes: quota_of(disk.f_blocks, disk.f_frsize), inodes: quota_of(disk.f_files, 1) })
    }

    /// Removes what is to go under this quota, and notes how full it is then.
    fn prune_to(&self, now: u64, quota: Quota) -> io::Result<usize> {
        let mut items = self.items()?;
        // Folders are here only after a crash; nothing is removed recursively.
        items.retain(|item| item.facts.stat.kind != StatKind::Directory);
        let steady_ns = self.steady_ns().unwrap_or(now);
        items.sort_by_cached_key(|item| (item.stood(now, steady_ns).at_ns, item.name.clone()));
        let held: Vec<_> = items.iter().map(|item| item.held(now, steady_ns)).collect();
        let Retention { goes, left, guarded } = retention::judge(&held, steady_ns, quota);
        let mut gone = 0;
        for &n in &goes {
            // What someone wrote since is no old version: it becomes the loser of a conflict
            // instead (P2).
            if !self.inspect_if_written(&items[n]) {
                gone += usize::from(self.remove(&items[n].name)?);
            }
        }
        *self.lock_fill() = Fill { left, guarded, judged: Some(Instant::now()) };
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
            items.push(Item {
                name: name.to_owned(),
                time_ns: parsed.time_ns,
                reason: parsed.reason,
                stood: parsed.stood,
                path,
                facts,
            });
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
    reason: RetainReason,
    stood: Option<Stood>,
    /// `None` when its text is malformed or its sidecar is gone.
    path: Option<SyncPath>,
    facts: beneath::Facts,
}

impl Item {
    fn held(&self, now: u64, steady_ns: u64) -> Retained<'_> {
        let path = self.path.as_ref().map_or(self.name.as_bytes(), SyncPath::as_bytes);
        let Stood { at_ns, since_ns } = self.stood(now, steady_ns);
        let (used_bytes, inodes) = (self.facts.used_bytes, inodes_of(&self.name));
        Retained { path, at_ns, reason: self.reason, used_bytes, inodes, since_ns }
    }

    /// By the steady clock. Of what has it not in its name, by the wall clock and the mtime:
    /// earlier versions kept it, or a user's restore did.
    fn stood(&self, now: u64, steady_ns: u64) -> Stood {
        self.stood.unwrap_or_else(|| {
            let at_ns = steady_ns.saturating_sub(now.saturating_sub(self.time_ns));
            // An mtime after the replacing says nothing about how long it stood.
            let stood_ns = self.time_ns.checked_sub(self.facts.stat.mtime.as_stamp());
            Stood { at_ns, since_ns: stood_ns.map_or(0, |stood_ns| at_ns.saturating_sub(stood_ns)) }
        })
    }

    fn into_kept(self) -> Option<KeptVersion> {
        let stat = self.facts.stat;
        let (name, path, time_ns, reason) = (self.name, self.path?, self.time_ns, self.reason);
        Some(KeptVersion {
            name,
            path,
            time_ns,
            reason,
            size: stat.size,
            kind: stat.kind,
            mode: stat.mode,
            mtime: stat.mtime,
        })
    }
}

/// The item itself, and its path where that is beside it.
fn inodes_of(name: &str) -> u64 {
    if name.len() > NAME_BYTES { 2 } else { 1 }
}

/// Some file systems (ramfs, a tmpfs without a size) say that they have no blocks at all, and some
/// (Btrfs) that they have no inodes: they have no end.
fn quota_of(units: u64, unit_bytes: u64) -> u64 {
    if units == 0 { u64::MAX } else { units.saturating_mul(unit_bytes) / 100 * QUOTA_PERCENT }
}
