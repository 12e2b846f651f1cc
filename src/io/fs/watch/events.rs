//! What `notify` says, made into hints. Runs on the thread of its instance, which serves `notify`'s
//! requests as well: so nothing here asks `notify` for anything.
//!
//! A watched path ends in `/.`, which tells what a watch says of its own folder (`a/.`) from what
//! it says of a name in it (`a/./name`): `notify` reports paths as it was given them.
//! Deliberately not here: adding and removing watches.

use super::WatchShared;
use super::batch::EventBatch;
use super::watched::InstanceId;
use crate::engine::{Event, Hint, StatKind};
use crate::io::fs::indispensable::Indispensable;
use crate::model::SyncPath;
use crate::model::path::BadPath;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{ErrorKind, EventHandler, EventKind, EventKindMask};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked of the kernel for each folder. Not of opening and reading, which would be most of
/// what it said. `MODIFY_NAME` lets renames through, which the kernel is asked of in any case.
pub const KINDS: EventKindMask = EventKindMask::CREATE
    .union(EventKindMask::REMOVE)
    .union(EventKindMask::MODIFY_DATA)
    .union(EventKindMask::MODIFY_META)
    .union(EventKindMask::MODIFY_NAME)
    .union(EventKindMask::ACCESS_CLOSE);
/// `notify` reads again at once after an error.
const AFTER_ERROR: Duration = Duration::from_secs(1);

pub struct Hearer {
    shared: Arc<WatchShared>,
    instance: InstanceId,
    batch: EventBatch,
    has_failed: bool,
    _alive: Indispensable,
}

/// What became of a folder or of a name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderEvent {
    Created { is_folder: bool },
    MovedTo,
    Closed,
    Changed,
    Attributes,
    MovedFrom,
    Removed { is_folder: bool },
}

impl FolderEvent {
    fn of(kind: EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::Create(kind) => Self::Created { is_folder: kind == CreateKind::Folder },
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Self::Closed,
            EventKind::Modify(ModifyKind::Data(_)) => Self::Changed,
            EventKind::Modify(ModifyKind::Metadata(_)) => Self::Attributes,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Self::MovedFrom,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Self::MovedTo,
            EventKind::Remove(kind) => Self::Removed { is_folder: kind != RemoveKind::File },
            // `RenameMode::Both` repeats what `From` and `To` said.
            _ => return None,
        })
    }

    fn is_gone(self) -> bool {
        matches!(self, Self::MovedFrom | Self::Removed { .. })
    }
}

impl EventHandler for Hearer {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        self.handle(event, Instant::now);
    }
}

impl Hearer {
    pub fn new(shared: Arc<WatchShared>, instance: InstanceId) -> Self {
        Self { shared, instance, batch: EventBatch::default(), has_failed: false, _alive: Indispensable }
    }

    pub fn handle(&mut self, event: notify::Result<notify::Event>, clock: impl Fn() -> Instant) {
        let now = clock();
        let count = self.batch.begins(now);
        if let Some(pause) = count.and_then(|count| self.shared.flood().pause(now, count)) {
            std::thread::sleep(pause);
        }
        match event {
            Ok(event) => self.heard(&event),
            Err(e) => self.failed(&e),
        }
        self.batch.ended(clock());
    }

    fn failed(&mut self, e: &notify::Error) {
        if matches!(&e.kind, ErrorKind::Io(e) if e.kind() == io::ErrorKind::Interrupted) {
            return;
        }
        if !self.has_failed {
            tracing::warn!("the watcher has failed ({e}); the whole folder is walked");
            self.has_failed = true;
            self.shared.missed();
        }
        std::thread::sleep(AFTER_ERROR);
    }

    fn heard(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.shared.name_overflow();
            return self.shared.missed();
        }
        let (Some(what), Some(path)) = (FolderEvent::of(event.kind), event.paths.first()) else { return };
        let Some((folder, name)) = self.shared.split(path.as_os_str().as_bytes()) else { return };
        match name {
            Some(name) => self.heard_of_name(folder, name, what),
            None => self.heard_of_folder(folder, what),
        }
    }

    fn heard_of_name(&mut self, folder: &[u8], name: &[u8], what: FolderEvent) {
        let mut watched = self.shared.watched();
        if !watched.is_live(folder, self.instance) {
            return;
        }
        let folder = SyncPath::new(folder).ok();
        // Refuses `.dirsync`, and what cannot be synced.
        let path = match SyncPath::join(folder.as_ref(), name) {
            Ok(path) => path,
            Err(BadPath::TooLong) => {
                let (name, is_gone) = (name.to_vec(), what.is_gone());
                let reported = |folder| self.shared.events.send(Event::TooLong { folder, name, is_gone });
                return folder.map_or((), reported);
            }
            Err(_) => return,
        };
        // Whether what was moved is a folder, `notify` does not say.
        if matches!(what, FolderEvent::MovedFrom | FolderEvent::Removed { is_folder: true }) {
            watched.name_gone(&path, self.instance, what == FolderEvent::MovedFrom);
            self.shared.wake_for_stale(&watched);
        }
        drop(watched);
        let hint = self.hint(what, &path);
        if hint != Hint::Changed {
            self.batch.forget_change(&path);
        } else if !self.batch.is_first_change(&path) {
            return;
        }
        self.shared.events.send(Event::Hint { path, hint });
    }

    /// A watch speaks of its own folder. Its parent's watch says the same of it, but for the root.
    fn heard_of_folder(&self, folder: &[u8], what: FolderEvent) {
        let is_over = matches!(what, FolderEvent::Removed { .. });
        let was_live = is_over && self.shared.watched().ended(folder, self.instance);
        let Ok(path) = SyncPath::new(folder) else {
            // The root was moved, removed, unmounted, or got other permissions.
            if is_over || matches!(what, FolderEvent::MovedFrom | FolderEvent::Attributes) {
                self.shared.events.send(Event::Root(self.shared.root.check()));
            }
            return;
        };
        // Another instance may have told of a new folder of that name before this one told of the
        // old one's end, and the new one was taken for the old one then.
        let is_there = || self.shared.root.facts(&path).is_ok_and(|facts| facts.is_some());
        if was_live && is_there() {
            self.shared.events.send(Event::Hint { path, hint: Hint::Closed });
        }
    }

    fn hint(&self, what: FolderEvent, path: &SyncPath) -> Hint {
        match what {
            FolderEvent::MovedFrom | FolderEvent::Removed { .. } => Hint::Gone,
            FolderEvent::Closed | FolderEvent::MovedTo | FolderEvent::Created { is_folder: true } => Hint::Closed,
            FolderEvent::Created { is_folder: false } => self.judge_created(path),
            FolderEvent::Changed | FolderEvent::Attributes => Hint::Changed,
        }
    }

    /// A new file is closed sooner or later; a link, a second name of a file, or a fifo is complete
    /// at once.
    fn judge_created(&self, path: &SyncPath) -> Hint {
        match self.shared.root.facts(path) {
            Ok(Some(facts)) if facts.stat.kind == StatKind::File && facts.links == 1 => Hint::Changed,
            _ => Hint::Closed,
        }
    }
}
