//! The watcher: `notify`, one watch a folder, not recursive.
//!
//! Its events are hints: names that may deserve an inspection, which goes through descriptors (P7).
//! A folder is watched by its path below the root's descriptor. A link that is swapped in may lead
//! that path out of the folder, so the path is opened by `openat2` afterwards and must lead to the
//! folder that was opened before: a lost race gives hints, never reads. A watch follows the inode
//! and would go on to speak of an old path, so a folder that is renamed loses the watches at and
//! below it; the walk of the new name sets them anew. Reading files causes no events: they are not
//! asked for.
//!
//! Locks: one instance, then the list of them, then `watched`. Nobody holds one of the last two and
//! asks `notify` for something, for its thread takes `watched` for each event (`hear`).
//! May import `engine`'s values. Deliberately not here: settling, and what to look at.

mod batch;
mod events;
#[cfg(test)]
mod tests;
mod watched;

use crate::engine::{Event, Hint};
use crate::io::Events;
use crate::io::fs::beneath;
use crate::io::fs::root::Root;
use crate::model::SyncPath;
use batch::Flood;
use events::Hearer;
use notify::{Config, ErrorKind, INotifyWatcher, PathOp, RecursiveMode, WatchPathConfig, Watcher as _};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
pub use watched::InodeKey;
use watched::{Attempt, InstanceId, Need, Watched, bytes};

/// Instances of `notify`, each with a thread: it goes through all watches of an instance when a
/// folder goes. The kernel gives a user 128, so another one is made only when all have `FULL`
/// watches.
const MAX_INSTANCES: usize = 4;
const FULL: usize = 1000;
/// To unwatch one folder, `notify` compares it with each watch of its instance. Where that would
/// take longer (about 0.2 s), watches of renamed folders are left alone, and what they say is
/// ignored.
const MAX_COMPARISONS: usize = 1_000_000;
/// So many of these, and as many as others: all watches are made anew, which takes a walk.
const MANY_STALE: usize = 10_000;
/// An instance that was dropped is closed by its thread.
const INSTANCE_TRIES: u32 = 20;
const INSTANCE_PAUSE: Duration = Duration::from_millis(5);
/// Folders in `/proc`.
const DETOURS: [&str; 7] = ["sys", "fs", "bus", "tty", "irq", "driver", "self"];
const OVERFLOW_NAMED: Duration = Duration::from_mins(1);

pub struct Watcher {
    shared: Arc<WatchShared>,
    /// None: the kernel gave none.
    instances: Mutex<Vec<Arc<Instance>>>,
    next_instance: AtomicU32,
    /// So many watches are enough for an instance while there may be another one.
    full: usize,
    is_limit_named: AtomicBool,
}

/// What the threads of `notify` share with the others.
struct WatchShared {
    root: Arc<Root>,
    /// Paths of the root's descriptor.
    spellings: Vec<Vec<u8>>,
    events: Events,
    watched: Mutex<Watched>,
    flood: Mutex<Flood>,
    /// There are folders to unwatch, or it is over.
    wanted: Condvar,
    is_stopping: AtomicBool,
    /// Some folder is without a watch.
    is_partial: AtomicBool,
    /// Events were lost, so what is thought to be watched may not be.
    has_missed: AtomicBool,
    overflow_named: Mutex<Option<Instant>>,
}

struct Instance {
    id: InstanceId,
    notify: Mutex<INotifyWatcher>,
}

impl Watcher {
    pub fn new(root: Arc<Root>, events: Events) -> Self {
        Self::with(root, events, FULL)
    }

    fn with(root: Arc<Root>, events: Events, full: usize) -> Self {
        let spellings = spellings(&root);
        let shared = Arc::new(WatchShared {
            root,
            events,
            watched: Mutex::new(Watched::new(spellings.len())),
            spellings,
            flood: Mutex::new(Flood::new(Instant::now())),
            wanted: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            is_partial: AtomicBool::new(false),
            has_missed: AtomicBool::new(false),
            overflow_named: Mutex::default(),
        });
        let (instances, next_instance) = (Mutex::default(), AtomicU32::new(0));
        let watcher = Self { shared, instances, next_instance, full, is_limit_named: AtomicBool::new(false) };
        match watcher.open() {
            Ok(first) => watcher.instances().push(first),
            Err(e) => {
                watcher.shared.is_partial.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "cannot watch for changes ({e}); raise fs.inotify.max_user_instances with sysctl and restart; \
                     until then the whole folder is walked every 60 s"
                );
            }
        }
        watcher
    }

    fn open(&self) -> notify::Result<Arc<Instance>> {
        let id = InstanceId(self.next_instance.fetch_add(1, Ordering::Relaxed));
        let config = Config::default().with_event_kinds(events::KINDS);
        let notify = INotifyWatcher::new(Hearer::new(Arc::clone(&self.shared), id), config)?;
        Ok(Arc::new(Instance { id, notify: Mutex::new(notify) }))
    }

    /// Watches one folder (`None`: the root), also one that is watched already. `dir` is how it was
    /// opened by that name.
    pub fn watch(&self, folder: Option<&SyncPath>, dir: &OwnedFd) {
        let place = match beneath::facts(dir) {
            Ok(facts) => facts.place(),
            Err(e) => return self.go_without(folder, e),
        };
        let path = bytes(folder);
        loop {
            let need = self.shared.watched().need(path, place);
            let instance = match need {
                Need::Nothing => return,
                Need::Add => self.least_used(),
                Need::Replace(id) => self.instance(id).or_else(|| self.least_used()),
            };
            let Some(instance) = instance else { return };
            let mut notify = instance.lock();
            if self.shared.watched().need(path, place) != need {
                // Another thread was faster.
                continue;
            }
            if let Need::Replace(_) = need {
                // After this, nothing more comes of the watch that had the path.
                let _ = notify.unwatch(&self.shared.key(path));
            }
            let attempt = self.shared.watched().insert(path, place, instance.id);
            return match notify.watch(&self.shared.key(path), RecursiveMode::NonRecursive) {
                Ok(()) => self.check(folder, place, attempt, &instance, &mut notify),
                Err(e) => {
                    self.shared.watched().remove_attempt(path, attempt);
                    self.failed(folder, &e);
                }
            };
        }
    }

    /// The folder has a watch now, by its path. If it is renamed after this, the event of that is
    /// yet to come.
    fn check(
        &self,
        folder: Option<&SyncPath>,
        place: InodeKey,
        attempt: Attempt,
        instance: &Arc<Instance>,
        notify: &mut INotifyWatcher,
    ) {
        let path = bytes(folder);
        let is_named = self.is_named(folder, place);
        if is_named != Ok(true) {
            self.shared.watched().remove_attempt(path, attempt);
        }
        if let Err(e) = is_named {
            self.go_without(folder, e);
        }
        if !self.is_kept(path, attempt, instance.id) {
            // Of another folder, or an event of the one before it has ended this one.
            self.shared.watched().remove_attempt(path, attempt);
            let _ = notify.unwatch(&self.shared.key(path));
            if let (Ok(true), Some(folder)) = (is_named, folder) {
                self.shared.events.send(Event::Hint { path: folder.clone(), hint: Hint::Closed });
            }
        }
    }

    /// Whether the folder's name leads to that inode, by no link.
    fn is_named(&self, folder: Option<&SyncPath>, place: InodeKey) -> rustix::io::Result<bool> {
        match beneath::folder(self.shared.root.dir(), folder).and_then(beneath::facts) {
            Ok(there) => Ok(there.place() == place),
            Err(e) if beneath::is_no_parent(e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn is_kept(&self, path: &[u8], attempt: Attempt, instance: InstanceId) -> bool {
        // Until all are made anew. In this order: see the locks.
        self.instance(instance).is_some() && self.shared.watched().is_kept(path, attempt)
    }

    /// Watches folders that are about to be opened, by one request; `watch` checks each of them.
    /// What fails is left to it.
    pub fn watch_ahead(&self, folders: &[(SyncPath, InodeKey)]) {
        let is_new = |(path, _): &&(SyncPath, InodeKey)| !self.shared.watched().contains(path.as_bytes());
        if !folders.iter().any(|folder| is_new(&folder)) {
            return;
        }
        let Some(instance) = self.least_used() else { return };
        let mut notify = instance.lock();
        let mut attempts = Vec::new();
        for (path, place) in folders.iter().filter(is_new) {
            let attempt = self.shared.watched().insert(path.as_bytes(), *place, instance.id);
            attempts.push((path.as_bytes(), attempt));
        }
        let watch = |path| PathOp::Watch(path, WatchPathConfig::new(RecursiveMode::NonRecursive));
        let mut ops: Vec<_> = attempts.iter().map(|(path, _)| watch(self.shared.key(path))).collect();
        while let Err(e) = notify.update_paths(std::mem::take(&mut ops)) {
            // One that cannot be watched leaves it at that; a limit concerns all that follow.
            let Some(failed) = e.origin else { break };
            let is_full = matches!(e.source.kind, ErrorKind::MaxFilesWatch);
            for op in std::iter::once(&failed).chain(e.remaining.iter().filter(|_| is_full)) {
                if let Some((path, None)) = self.shared.split(op.as_path().as_os_str().as_bytes()) {
                    self.shared.watched().remove(path);
                }
            }
            if is_full {
                break;
            }
            ops = e.remaining;
        }
        for (path, attempt) in attempts {
            if !self.is_kept(path, attempt, instance.id) {
                self.shared.watched().remove_attempt(path, attempt);
                let _ = notify.unwatch(&self.shared.key(path));
            }
        }
    }

    fn failed(&self, folder: Option<&SyncPath>, e: &notify::Error) {
        match &e.kind {
            // Gone, or replaced.
            ErrorKind::PathNotFound => {}
            ErrorKind::MaxFilesWatch => self.go_without(folder, Errno::NOSPC),
            ErrorKind::Io(e) => match Errno::from_io_error(e) {
                Some(e) if beneath::is_no_parent(e) => {}
                e => self.go_without(folder, e.unwrap_or(Errno::IO)),
            },
            _ => self.go_without(folder, Errno::IO),
        }
    }

    fn go_without(&self, folder: Option<&SyncPath>, e: Errno) {
        self.shared.is_partial.store(true, Ordering::Relaxed);
        if !self.is_limit_named.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}", why_not_watched(folder, e));
        }
    }

    /// Whether some folder has to be walked instead.
    pub fn is_partial(&self) -> bool {
        self.shared.is_partial.load(Ordering::Relaxed)
    }

    /// How many folders are watched.
    pub fn count(&self) -> usize {
        self.shared.watched().shares().1
    }

    /// A walk of everything begins: it will find out anew what can be watched, and after events
    /// were lost it makes all watches anew.
    pub fn begin_anew(&self) {
        let mut instances = self.instances();
        if self.shared.has_missed.swap(false, Ordering::Relaxed) || instances.is_empty() {
            self.renew(&mut instances);
        }
        self.shared.is_partial.store(instances.is_empty(), Ordering::Relaxed);
    }

    fn renew(&self, instances: &mut Vec<Arc<Instance>>) {
        let mut fresh = self.open();
        instances.clear();
        for _ in 0..INSTANCE_TRIES {
            if fresh.is_ok() {
                break;
            }
            std::thread::sleep(INSTANCE_PAUSE);
            fresh = self.open();
        }
        self.shared.watched().clear();
        instances.extend(fresh);
    }

    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        drop(self.shared.watched());
        self.shared.wanted.notify_all();
        self.instances().clear();
    }

    /// A thread: unwatches renamed folders, until it is stopped.
    pub fn run(&self) {
        loop {
            let is_idle = |watched: &mut Watched| !watched.has_to_unwatch() && !self.is_stopping();
            let watched = self.shared.wanted.wait_while(self.shared.watched(), is_idle);
            let by_instance = watched.unwrap_or_else(PoisonError::into_inner).take_to_unwatch();
            if self.is_stopping() {
                return;
            }
            for (id, paths) in by_instance {
                if let Some(instance) = self.instance(id) {
                    self.unwatch(&instance, paths);
                }
            }
            let (stale, all) = self.shared.watched().shares();
            if stale >= MANY_STALE && stale >= all - stale {
                self.shared.missed();
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Relaxed)
    }

    fn unwatch(&self, instance: &Instance, mut paths: Vec<Vec<u8>>) {
        let mut notify = instance.lock();
        let watched = self.shared.watched();
        paths.truncate(MAX_COMPARISONS / watched.count(instance.id).max(1));
        paths.retain(|path| watched.is_stale(path, instance.id));
        drop(watched);
        let mut ops: Vec<_> = paths.iter().map(|path| PathOp::Unwatch(self.shared.key(path))).collect();
        // One that is gone already is no error.
        while let Err(e) = notify.update_paths(std::mem::take(&mut ops)) {
            if e.origin.is_none() {
                return;
            }
            ops = e.remaining;
        }
        let mut watched = self.shared.watched();
        for path in paths {
            if watched.is_stale(&path, instance.id) {
                watched.remove(&path);
            }
        }
    }

    /// The one for the next watch.
    fn least_used(&self) -> Option<Arc<Instance>> {
        let mut instances = self.instances();
        let count = |instance: &Instance| self.shared.watched().count(instance.id);
        let least = instances.iter().min_by_key(|instance| count(instance)).cloned()?;
        let is_full = count(&least) >= self.full && instances.len() < MAX_INSTANCES;
        match is_full.then(|| self.open()) {
            Some(Ok(another)) => {
                instances.push(Arc::clone(&another));
                Some(another)
            }
            // The user has no more instances: these have to do.
            Some(Err(_)) | None => Some(least),
        }
    }

    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.instances().iter().find(|instance| instance.id == id).cloned()
    }

    fn instances(&self) -> MutexGuard<'_, Vec<Arc<Instance>>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    fn lock(&self) -> MutexGuard<'_, INotifyWatcher> {
        self.notify.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchShared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flood(&self) -> MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that `notify` knows a folder by. The last component keeps a link from being watched
    /// itself, so the root's descriptor is followed whatever `with_dereference_symlinks` says.
    fn key(&self, folder: &[u8]) -> PathBuf {
        let root = &self.spellings[watched::spelling(folder, self.spellings.len())][..];
        let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        PathBuf::from(OsString::from_vec([root, separator, folder, b"/."].concat()))
    }

    /// A path of an event: the watched folder, and a name in it if it is not about the folder
    /// itself.
    fn split<'a>(&self, path: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let below = self.spellings.iter().find_map(|root| path.strip_prefix(&root[..]))?;
        let (folder, name) = if let Some(folder) = below.strip_suffix(b"/.") {
            (folder, None)
        } else {
            let slash = below.iter().rposition(|&b| b == b'/')?;
            (below[..slash].strip_suffix(b"/.")?, Some(&below[slash + 1..]))
        };
        let folder = if folder.is_empty() { folder } else { folder.strip_prefix(b"/")? };
        Some((folder, name))
    }

    /// Events were lost: everything is walked, and watched anew.
    fn missed(&self) {
        self.has_missed.store(true, Ordering::Relaxed);
        self.events.send(Event::Overflow);
    }

    /// One line a minute, however often it happens.
    fn name_overflow(&self) {
        let mut named = self.overflow_named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.is_none_or(|at| at.elapsed() >= OVERFLOW_NAMED) {
            *named = Some(Instant::now());
            tracing::info!(
                "more changed at once than the watcher's queue holds: it overflowed and the whole folder is walked, \
                 so that nothing is missed (fs.inotify.max_queued_events is its length)"
            );
        }
    }

    fn wake_for_stale(&self, watched: &Watched) {
        if watched.has_to_unwatch() {
            self.wanted.notify_one();
        }
    }
}

/// Ways to write the path of the root's descriptor: `notify` compares paths from the front, and
/// those that differ early are compared three times as fast.
fn spellings(root: &Root) -> Vec<Vec<u8>> {
    let path = beneath::by_descriptor(root.dir());
    let place = |path: &str| std::fs::metadata(path).map(|is| (is.dev(), is.ino())).ok();
    let own = place(&path);
    let others = DETOURS.map(|folder| path.replacen("/proc", &format!("/proc/{folder}/.."), 1));
    let others = others.into_iter().filter(|other| place(other) == own);
    std::iter::once(path.clone()).chain(others).map(String::into_bytes).collect()
}

fn why_not_watched(folder: Option<&SyncPath>, e: Errno) -> String {
    let folder = folder.map_or_else(|| "the folder".to_owned(), |f| format!("'{f}'"));
    if e == Errno::NOSPC {
        format!(
            "no inotify watches are left for {folder} and maybe others: raise fs.inotify.max_user_watches \
             (sysctl fs.inotify.max_user_watches=1048576); until then they are walked every 60 s"
        )
    } else {
        format!("cannot watch {folder} ({e}); it is walked every 60 s")
    }
}
