//! Walking the tree with two threads: watch, list, descend.
//!
//! A folder is watched before it is listed, so that what comes between is heard of (P3). May import
//! `engine`'s values. Deliberately not here: what is ignored (asked of a function), and what a
//! missing name means.

use crate::engine::{Event, Names, Stat, StatKind, Trouble, WalkId};
use crate::io::Events;
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, Facts};
use crate::io::fs::inspect::InspectQueue;
use crate::io::fs::root::Root;
use crate::io::fs::trouble::trouble;
use crate::io::fs::watch::{InodeKey, Watcher};
use crate::model::SyncPath;
use crate::model::path::{BadPath, PRIVATE_DIR};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub const THREADS: usize = 2;
/// Entries in one `Listed`.
const CHUNK: usize = 1024;
/// The walk waits while so many inspections do.
const MAX_QUEUED_INSPECTIONS: usize = 4096;
/// And while the engine has so many listed paths still to take (P9).
const MAX_LISTED: usize = 16 * CHUNK;
const LIST_BYTES: usize = 64 * 1024;

/// Says whether a path (and all below it) is not synced; `true` for a folder.
pub type Ignored = Arc<dyn Fn(&SyncPath, bool) -> bool + Send + Sync>;

/// Folders still to be listed, and the threads' work.
pub struct Walker {
    root: Arc<Root>,
    watcher: Arc<Watcher>,
    inspections: Arc<InspectQueue>,
    events: Events,
    ignored: Mutex<Ignored>,
    state: Mutex<ScanState>,
    changed: Condvar,
}

#[derive(Default)]
struct ScanState {
    /// Depth first, so that few folders wait at any moment.
    folders: VecDeque<(Arc<DiskWalk>, Option<SyncPath>)>,
    is_stopping: bool,
}

/// One walk: how many of its folders are unfinished, and which could not be read.
struct DiskWalk {
    id: WalkId,
    below: Option<SyncPath>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    unfinished: usize,
    unread: Vec<UnreadFolder>,
}

/// What was listed of a folder, and the folders among it.
#[derive(Default)]
struct Listing {
    paths: Vec<(SyncPath, Stat)>,
    folders: Vec<(SyncPath, InodeKey)>,
}

impl Listing {
    fn push(&mut self, path: SyncPath, facts: &Facts) {
        if facts.stat.kind == StatKind::Directory {
            self.folders.push((path.clone(), facts.place()));
        }
        self.paths.push((path, facts.stat));
    }
}

type UnreadFolder = (Option<SyncPath>, Trouble);

impl DiskWalk {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Walker {
    pub fn new(root: Arc<Root>, watcher: Arc<Watcher>, inspections: Arc<InspectQueue>, events: Events) -> Self {
        let ignored: Ignored = Arc::new(|_, _| false);
        let (ignored, state) = (Mutex::new(ignored), Mutex::default());
        Self { root, watcher, inspections, events, ignored, state, changed: Condvar::new() }
    }

    /// From the next folder on, those that `ignored` covers are not entered.
    pub fn set_ignored(&self, ignored: Ignored) {
        *self.ignored.lock().unwrap_or_else(PoisonError::into_inner) = ignored;
    }

    /// Begins a walk. Later walks are done after earlier ones' folders are listed, or beside them.
    pub fn begin(&self, id: WalkId, below: Option<SyncPath>) {
        if below.is_none() {
            self.watcher.begin_anew();
        }
        let progress = Mutex::new(Progress { unfinished: 1, unread: Vec::new() });
        let walk = Arc::new(DiskWalk { id, below: below.clone(), progress });
        self.lock().folders.push_front((walk, below));
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
        self.events.stop_waiting();
    }

    fn lock(&self) -> MutexGuard<'_, ScanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread: lists folders until it is stopped.
    pub fn run(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BYTES];
        while let Some((walk, folder)) = self.next_folder() {
            self.inspections.wait_below(MAX_QUEUED_INSPECTIONS);
            let unread = self.visit(&walk, folder.as_ref(), &mut buffer).err();
            self.finish(&walk, unread.map(|e| (folder.clone(), trouble("list", folder.as_ref(), e))));
        }
    }

    fn next_folder(&self) -> Option<(Arc<DiskWalk>, Option<SyncPath>)> {
        let mut state = self.lock();
        loop {
            if state.is_stopping {
                return None;
            }
            if let Some(next) = state.folders.pop_back() {
                return Some(next);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One folder of the walk is done; the last one ends it.
    fn finish(&self, walk: &DiskWalk, unread: Option<UnreadFolder>) {
        let mut progress = walk.lock();
        progress.unfinished -= 1;
        progress.unread.extend(unread);
        if progress.unfinished == 0 {
            let unread = std::mem::take(&mut progress.unread);
            self.events.send(Event::Walked { walk: walk.id, unread });
        }
    }

    fn visit(
        &self,
        walk: &Arc<DiskWalk>,
        folder: Option<&SyncPath>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> rustix::io::Result<()> {
        // The names below it come from lists.
        let is_begin = folder == walk.below.as_ref() && self.root.keeps().names == Names::Folded;
        let is_spelled = || beneath::is_spelled_all(self.root.dir().as_fd(), folder, &mut BTreeSet::new());
        let dir = match beneath::readable_folder(self.root.dir(), folder) {
            Ok(_) if is_begin && !is_spelled()? => return Ok(()),
            Ok(dir) => dir,
            // Gone, or replaced: its silence says so.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(e),
        };
        fail::at(Point::ScanWatch)?;
        self.watcher.watch(folder, &dir);
        // Btrfs lists what was there when the folder was opened, or sought to its begin: without
        // this, what came between the two and the watch would be neither listed nor watched.
        rustix::fs::seek(&dir, SeekFrom::Start(0))?;
        self.list(walk, folder, &dir, buffer)
    }

    fn list(
        &self,
        walk: &Arc<DiskWalk>,
        folder: Option<&SyncPath>,
        dir: &OwnedFd,
        buffer: &mut [MaybeUninit<u8>],
    ) -> rustix::io::Result<()> {
        let ignored = Arc::clone(&self.ignored.lock().unwrap_or_else(PoisonError::into_inner));
        let mut found = Listing::default();
        let mut entries = RawDir::new(dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let Some(path) = name_below(folder, entry.file_name().to_bytes(), &self.events) else { continue };
            let facts = fail::at(Point::ScanStat).and_then(|()| self.root.facts_in(dir, path.name()));
            match facts {
                // By whatever name.
                Ok(Some(facts)) if folder.is_none() && self.root.is_private(&facts) => {}
                Ok(Some(facts)) => found.push(path, &facts),
                Ok(None) => continue,
                // A dead mount, or a damaged inode: the others are walked on.
                Err(e) => {
                    let trouble = trouble("look at", Some(&path), e);
                    walk.lock().unread.push((Some(path), trouble));
                }
            }
            if found.paths.len() >= CHUNK {
                self.hand_over(walk, std::mem::take(&mut found), &ignored);
            }
        }
        self.hand_over(walk, found, &ignored);
        Ok(())
    }

    /// Names what was found, and only then queues its folders.
    fn hand_over(&self, walk: &Arc<DiskWalk>, found: Listing, ignored: &Ignored) {
        let Listing { paths, mut folders } = found;
        if paths.is_empty() {
            return;
        }
        folders.retain(|(path, _)| !ignored(path, true));
        self.events.wait_listed_below(MAX_LISTED);
        self.events.send(Event::Listed { walk: walk.id, found: paths });
        if folders.is_empty() {
            return;
        }
        self.watcher.watch_ahead(&folders);
        walk.lock().unfinished += folders.len();
        self.lock().folders.extend(folders.into_iter().map(|(path, _)| (Arc::clone(walk), Some(path))));
        self.changed.notify_all();
    }
}

/// The path of a listed name; `None` for what is not synced, which is named unless it is our own
/// folder.
fn name_below(folder: Option<&SyncPath>, name: &[u8], events: &Events) -> Option<SyncPath> {
    if matches!(name, b"." | b"..") {
        return None;
    }
    match SyncPath::join(folder, name) {
        Ok(path) => Some(path),
        Err(BadPath::Private) if folder.is_none() && name == PRIVATE_DIR.as_bytes() => None,
        Err(BadPath::TooLong) if folder.is_some() => {
            let reported = |folder| events.send(Event::TooLong { folder, name: name.to_vec(), is_gone: false });
            folder.cloned().into_iter().for_each(reported);
            None
        }
        Err(why) => {
            let name = crate::model::text::escape(name);
            let folder = folder.map_or_else(String::new, |folder| format!(" in '{folder}'"));
            tracing::warn!("'{name}'{folder} is not synced: {why}");
            None
        }
    }
}
