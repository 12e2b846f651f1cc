//! The watcher: one non-recursive inotify watch a folder, by `notify`.
//!
//! Its events are hints: names that may deserve a look, which goes through descriptors (P7). Paths are watched below
//! `/proc/self/fd/N` of the root, so that renaming the folder itself confuses nothing. A folder that is removed or renamed
//! loses the watches at and below it, since a watch follows the inode and would go on to speak of the old path.
//! May import `engine`'s values. Deliberately not here: settling, and what to look at.

use super::Events;
use super::beneath;
use super::root::Root;
use crate::engine::{Event, Hint, StatKind};
use crate::model::SyncPath;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, INotifyWatcher, RecursiveMode, Watcher as _};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub struct Watcher {
    base: PathBuf,
    /// `None`: the kernel gave no inotify instance.
    inotify: Option<Mutex<INotifyWatcher>>,
    is_limit_named: AtomicBool,
    /// Some folder is without a watch.
    is_partial: AtomicBool,
}

impl Watcher {
    pub fn new(root: Arc<Root>, events: Events) -> Self {
        let base = PathBuf::from(beneath::by_descriptor(root.dir()));
        let translator = Translator { base: base.clone(), root, events };
        let handler = move |event| translator.handle(event);
        let config = Config::default().with_follow_symlinks(false);
        let inotify = match INotifyWatcher::new(handler, config) {
            Ok(inotify) => Some(Mutex::new(inotify)),
            Err(e) => {
                tracing::warn!(
                    "cannot watch for changes ({e}); raise fs.inotify.max_user_instances with sysctl and restart; \
                     until then the whole folder is walked every 60 s"
                );
                None
            }
        };
        let is_partial = AtomicBool::new(inotify.is_none());
        Self { base, inotify, is_limit_named: AtomicBool::new(false), is_partial }
    }

    /// Watches one folder (`None`: the root), also one that is watched already.
    pub fn watch(&self, folder: Option<&SyncPath>) {
        let Some(inotify) = &self.inotify else { return };
        let path = folder.map_or_else(|| self.base.clone(), |f| self.base.join(OsStr::from_bytes(f.as_bytes())));
        let watched = inotify.lock().unwrap_or_else(PoisonError::into_inner).watch(&path, RecursiveMode::NonRecursive);
        // One that is gone already is heard of through its parent.
        if let Err(e) = watched
            && !is_gone(&e)
        {
            self.go_without(folder, &e);
        }
    }

    fn go_without(&self, folder: Option<&SyncPath>, e: &notify::Error) {
        self.is_partial.store(true, Ordering::Relaxed);
        if self.is_limit_named.swap(true, Ordering::Relaxed) {
            return;
        }
        let folder = folder.map_or_else(|| "the folder".to_owned(), |f| format!("'{f}'"));
        if matches!(e.kind, ErrorKind::MaxFilesWatch) {
            tracing::warn!(
                "no inotify watches are left for {folder} and maybe others: raise fs.inotify.max_user_watches \
                 (sysctl fs.inotify.max_user_watches=1048576); until then they are walked every 60 s"
            );
        } else {
            tracing::warn!("cannot watch {folder} ({}); it is walked every 60 s", describe(e));
        }
    }

    /// Whether some folder has to be walked instead.
    pub fn is_partial(&self) -> bool {
        self.is_partial.load(Ordering::Relaxed)
    }

    /// A walk of everything begins: it will find out anew what can be watched.
    pub fn begin_anew(&self) {
        self.is_partial.store(self.inotify.is_none(), Ordering::Relaxed);
    }
}

fn is_gone(e: &notify::Error) -> bool {
    match &e.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(e) => matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory),
        _ => false,
    }
}

/// Without the paths that `notify` would add unescaped.
fn describe(e: &notify::Error) -> String {
    match &e.kind {
        ErrorKind::Io(e) => e.to_string(),
        kind => crate::model::text::escape(format!("{kind:?}").as_bytes()),
    }
}

/// Makes the engine's events of `notify`'s.
struct Translator {
    base: PathBuf,
    root: Arc<Root>,
    events: Events,
}

impl Translator {
    fn handle(&self, event: notify::Result<notify::Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.events.send(Event::Overflow),
            Ok(event) => self.translate(&event),
            Err(e) => {
                tracing::warn!("the watcher failed ({}); everything is walked again", describe(&e));
                self.events.send(Event::Overflow);
            }
        }
    }

    fn translate(&self, event: &notify::Event) {
        let hint = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            | EventKind::Create(CreateKind::Folder) => Some(Hint::Closed),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => Some(Hint::Gone),
            // `From` and `To` have said it.
            EventKind::Modify(ModifyKind::Name(_)) => return,
            EventKind::Create(_) => None,
            EventKind::Modify(_) => Some(Hint::Changed),
            _ => return,
        };
        for path in &event.paths {
            self.send(path, hint);
        }
    }

    /// `None`: created, and whether it will be written and closed is to be seen.
    fn send(&self, path: &Path, hint: Option<Hint>) {
        let Ok(below) = path.strip_prefix(&self.base) else { return };
        if below.as_os_str().is_empty() {
            // The root itself was moved, removed, or got other permissions.
            return self.events.send(Event::Root(self.root.check()));
        }
        // Refuses `.dirsync`, and what cannot be synced.
        let Ok(path) = SyncPath::new(below.as_os_str().as_bytes()) else { return };
        let hint = hint.unwrap_or_else(|| self.judge_created(&path));
        self.events.send(Event::Hint { path, hint });
    }

    /// A new file is closed sooner or later; a link, a second name of a file, or a fifo is complete at once.
    fn judge_created(&self, path: &SyncPath) -> Hint {
        match self.root.facts(path) {
            Ok(Some(facts)) if facts.stat.kind == StatKind::File && facts.links == 1 => Hint::Changed,
            _ => Hint::Closed,
        }
    }
}
