//! The watcher: one inotify watch a folder, not recursive.
//!
//! Its events are hints: names that may deserve a look, which goes through descriptors (P7). A folder is watched by the
//! descriptor that it was opened by, so that no link that is swapped in leads a watch out of the folder. A watch follows
//! the inode and would go on to speak of an old path, so a folder that is renamed loses the watches at and below it; the
//! walk of the new name sets them anew. Reading files causes no events: they are not asked for.
//! May import `engine`'s values. Deliberately not here: settling, and what to look at.

mod watched;

use super::Events;
use super::beneath;
use super::root::Root;
use crate::engine::{Event, Hint, StatKind};
use crate::model::SyncPath;
use crate::model::path::BadPath;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use watched::Watched;

/// What is asked of the kernel for each folder. Not of opening and reading, which would be most of what it said; nor of
/// what happens to a file through a descriptor once its name is gone.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);
/// So many reads of a few events, each this soon after the one before, are a flood. More are gathered then before each read: to be woken for
/// each event costs whoever makes it more than the event.
const FLOOD_READS: u32 = 16;
const FLOOD_FEW: u32 = 128;
const FLOOD_GAP: Duration = Duration::from_millis(2);
const FLOOD_PAUSE: Duration = Duration::from_millis(1);
/// Of the root, which has no watched parent to tell.
const ROOT_EVENTS: WatchFlags = EVENTS.union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);
const BUFFER_BYTES: usize = 64 * 1024;
const OVERFLOW_NAMED: Duration = Duration::from_mins(1);

pub struct Watcher {
    root: Arc<Root>,
    events: Events,
    /// `None`: the kernel gave no inotify instance.
    inotify: Option<Inotify>,
    watched: Mutex<Watched>,
    is_limit_named: AtomicBool,
    /// Some folder is without a watch.
    is_partial: AtomicBool,
    overflow_named: Mutex<Option<Instant>>,
}

struct Inotify {
    queue: OwnedFd,
    /// Written to end the thread.
    stop: OwnedFd,
}

impl Watcher {
    pub fn new(root: Arc<Root>, events: Events) -> Self {
        let inotify = match Inotify::open() {
            Ok(inotify) => Some(inotify),
            Err(e) => {
                tracing::warn!(
                    "cannot watch for changes ({e}); raise fs.inotify.max_user_instances with sysctl and restart; \
                     until then the whole folder is walked every 60 s"
                );
                None
            }
        };
        let is_partial = AtomicBool::new(inotify.is_none());
        let (watched, is_limit_named) = (Mutex::default(), AtomicBool::new(false));
        Self { root, events, inotify, watched, is_limit_named, is_partial, overflow_named: Mutex::default() }
    }

    /// Watches one folder (`None`: the root), also one that is watched already. `dir` is how it was opened by that name.
    pub fn watch(&self, folder: Option<&SyncPath>, dir: &OwnedFd) {
        let Some(inotify) = &self.inotify else { return };
        let events = if folder.is_none() { ROOT_EVENTS } else { EVENTS };
        let mut watched = self.watched();
        let watch = match inotify::add_watch(&inotify.queue, beneath::by_descriptor(dir), events) {
            Ok(watch) => watch,
            Err(e) => return self.go_without(folder, e),
        };
        let is_named = self.is_named(folder, dir);
        if is_named == Ok(true) {
            return watched.insert(watch, folder.cloned());
        }
        // Renamed since it was opened, and perhaps watched by its new name already.
        if !watched.contains(watch) {
            inotify.remove(watch);
        }
        if let Err(e) = is_named {
            self.go_without(folder, e);
        }
    }

    /// Whether `dir` still is what its name leads to. If it is renamed after this, the event of that is yet to be read,
    /// for reading waits for `watched`.
    fn is_named(&self, folder: Option<&SyncPath>, dir: &OwnedFd) -> rustix::io::Result<bool> {
        match beneath::folder(self.root.dir(), folder).and_then(beneath::facts) {
            Ok(there) => Ok(there.place() == beneath::facts(dir)?.place()),
            Err(e) if beneath::is_no_parent(e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn go_without(&self, folder: Option<&SyncPath>, e: Errno) {
        self.is_partial.store(true, Ordering::Relaxed);
        if !self.is_limit_named.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}", why_not_watched(folder, e));
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

    pub fn stop(&self) {
        if let Some(inotify) = &self.inotify {
            let _ = rustix::io::write(&inotify.stop, &1_u64.to_ne_bytes());
        }
    }

    /// The thread: makes hints of what the kernel says, until it is stopped.
    pub fn run(&self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut flood = Flood::default();
        while inotify.wait() {
            if flood.is_up(Instant::now()) {
                std::thread::sleep(FLOOD_PAUSE);
            }
            match self.read(inotify.queue.as_fd(), &mut buffer) {
                Ok(count) => flood.was_read(count),
                Err(e) => {
                    tracing::warn!("the watcher has failed ({e}); the whole folder is walked every 60 s");
                    self.is_partial.store(true, Ordering::Relaxed);
                    return self.events.send(Event::Overflow);
                }
            }
        }
    }

    /// One buffer full of events, and how many they were.
    fn read(&self, queue: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> rustix::io::Result<u32> {
        let mut reader = inotify::Reader::new(queue, buffer);
        let mut changed = HashSet::new();
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(event) => {
                    count += 1;
                    let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
                    self.heard(event.wd(), event.events(), name, &mut changed);
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(count),
                Err(e) => return Err(e),
            }
            if reader.is_buffer_empty() {
                return Ok(count);
            }
        }
    }

    /// One line a minute, however often it happens.
    fn name_overflow(&self) {
        let mut named = self.overflow_named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.is_none_or(|at| at.elapsed() >= OVERFLOW_NAMED) {
            *named = Some(Instant::now());
            tracing::info!(
                "more changed at once than the watcher's queue holds: it overflowed and the whole folder is walked, so that nothing is missed \
                 (fs.inotify.max_queued_events is its length)"
            );
        }
    }

    /// `changed`: what this buffer has called so already.
    fn heard(&self, watch: i32, what: ReadFlags, name: &[u8], changed: &mut HashSet<SyncPath>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.name_overflow();
            return self.events.send(Event::Overflow);
        }
        let mut watched = self.watched();
        let Some(folder) = watched.folder(watch).cloned() else { return };
        if what.contains(ReadFlags::IGNORED) {
            watched.remove(watch);
        }
        if name.is_empty() {
            drop(watched);
            if folder.is_none() {
                self.root_changed(what);
            }
            return;
        }
        // Refuses `.dirsync`, and what cannot be synced.
        let is_gone = what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
        let path = match SyncPath::join(folder.as_ref(), name) {
            Ok(path) => path,
            Err(BadPath::TooLong) => {
                let told = |folder| self.events.send(Event::TooLong { folder, name: name.to_vec(), is_gone });
                return folder.into_iter().for_each(told);
            }
            Err(_) => return,
        };
        if is_gone && what.contains(ReadFlags::ISDIR) {
            self.forget(&mut watched, &path);
        }
        drop(watched);
        let Some(hint) = self.hint(what, &path) else { return };
        if hint != Hint::Changed {
            // A change after this is news again.
            changed.remove(&path);
        } else if !changed.insert(path.clone()) {
            return;
        }
        self.events.send(Event::Hint { path, hint });
    }

    /// The root itself was moved, removed, unmounted, or got other permissions.
    fn root_changed(&self, what: ReadFlags) {
        let own = ReadFlags::ATTRIB | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if what.intersects(own) {
            self.events.send(Event::Root(self.root.check()));
        }
    }

    fn hint(&self, what: ReadFlags, path: &SyncPath) -> Option<Hint> {
        let is_folder = what.contains(ReadFlags::ISDIR);
        if what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
            Some(Hint::Gone)
        } else if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            Some(Hint::Closed)
        } else if what.contains(ReadFlags::CREATE) {
            Some(if is_folder { Hint::Closed } else { self.judge_created(path) })
        } else {
            what.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB).then_some(Hint::Changed)
        }
    }

    /// A new file is closed sooner or later; a link, a second name of a file, or a fifo is complete at once.
    fn judge_created(&self, path: &SyncPath) -> Hint {
        match self.root.facts(path) {
            Ok(Some(facts)) if facts.stat.kind == StatKind::File && facts.links == 1 => Hint::Changed,
            _ => Hint::Closed,
        }
    }

    /// A removed folder's watch goes with its inode; a renamed one's would speak of the old name.
    fn forget(&self, watched: &mut Watched, folder: &SyncPath) {
        for watch in watched.remove_tree(folder) {
            if let Some(inotify) = &self.inotify {
                inotify.remove(watch);
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads that follow each other.
#[derive(Default)]
struct Flood {
    last: Option<Instant>,
    reads: u32,
}

impl Flood {
    /// There is something to read again.
    fn is_up(&mut self, now: Instant) -> bool {
        let is_soon = self.last.replace(now).is_some_and(|last| now.duration_since(last) < FLOOD_GAP);
        self.reads = if is_soon { self.reads.saturating_add(1) } else { 0 };
        self.reads >= FLOOD_READS
    }

    /// Where many wait already, there is no time to lose: the kernel's queue has an end.
    fn was_read(&mut self, count: u32) {
        if count > FLOOD_FEW {
            self.reads = 0;
        }
    }
}

impl Inotify {
    fn open() -> rustix::io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue, stop })
    }

    /// Until there is something to read; `false`: it is over.
    fn wait(&self) -> bool {
        let mut both = [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut both, None) {
                Err(Errno::INTR) => {}
                other => return other.is_ok() && both[1].revents().is_empty(),
            }
        }
    }

    /// One that the kernel has removed already is no error.
    fn remove(&self, watch: i32) {
        let _ = inotify::remove_watch(&self.queue, watch);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Inbox;
    use std::path::PathBuf;

    struct Folder {
        temp: tempfile::TempDir,
        watcher: Arc<Watcher>,
        received: Inbox,
    }

    #[test]
    fn one_edit_is_heard_at_once_and_a_flood_is_gathered() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let at = |us| start + Duration::from_micros(us);
        assert!((0..8).all(|n| !flood.is_up(at(n * 50))), "what one edit says");
        assert_eq!((8..40).filter(|n| flood.is_up(at(n * 50))).count(), 24);
        assert!((0..8).all(|n| !flood.is_up(at(10_000 + n * 50))), "the next one");
        assert!((8..20).any(|n| flood.is_up(at(10_000 + n * 50))));
        flood.was_read(FLOOD_FEW + 1);
        assert!(!flood.is_up(at(11_050)), "the queue fills up");
    }

    impl Folder {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let root = Arc::new(Root::open(temp.path()).unwrap());
            let (events, received) = Events::channel();
            let watcher = Arc::new(Watcher::new(root, events));
            let folder = Self { temp, watcher, received };
            folder.watch("");
            folder
        }

        fn at(&self, name: &str) -> PathBuf {
            self.temp.path().join(name)
        }

        fn open(&self, name: &str) -> OwnedFd {
            std::fs::File::open(self.at(name)).unwrap().into()
        }

        fn watch(&self, name: &str) {
            self.watcher.watch(SyncPath::new(name).ok().as_ref(), &self.open(name));
        }

        /// All that the kernel has to say by now, in order.
        fn hints(&self) -> Vec<(String, Hint)> {
            let queue = self.watcher.inotify.as_ref().unwrap().queue.as_fd();
            let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
            while rustix::io::ioctl_fionread(queue).unwrap() > 0 {
                self.watcher.read(queue, &mut buffer).unwrap();
            }
            let hint = |event| match event {
                Event::Hint { path, hint } => (path.to_text(), hint),
                other => panic!("{other:?}"),
            };
            self.received.try_iter().map(hint).collect()
        }
    }

    #[test]
    fn reading_is_no_event_and_many_writes_are_one_change_and_one_end() {
        let folder = Folder::new();
        std::fs::write(folder.at("f"), "x").unwrap();
        folder.hints();
        std::fs::read(folder.at("f")).unwrap();
        assert_eq!(folder.hints(), []);
        for _ in 0..100 {
            std::fs::write(folder.at("f"), "a").unwrap();
            std::fs::write(folder.at("g"), "b").unwrap();
        }
        let hints = folder.hints();
        let count = |name: &str, hint| hints.iter().filter(|(n, h)| n == name && *h == hint).count();
        assert!(count("f", Hint::Closed) == 100 && count("f", Hint::Changed) <= 100, "{hints:?}");
        let mut open = std::fs::File::create(folder.at("f")).unwrap();
        let mut other = std::fs::File::create(folder.at("g")).unwrap();
        for _ in 0..100 {
            std::io::Write::write_all(&mut open, b"a").unwrap();
            std::io::Write::write_all(&mut other, b"b").unwrap();
        }
        assert_eq!(folder.hints(), [("f".to_owned(), Hint::Changed), ("g".to_owned(), Hint::Changed)]);
    }

    #[test]
    fn a_renamed_folder_and_what_is_in_it_are_not_heard_of_by_the_old_name() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.at("a/in")).unwrap();
        std::fs::create_dir(folder.at("a.b")).unwrap();
        for name in ["a", "a/in", "a.b"] {
            folder.watch(name);
        }
        folder.hints();
        std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
        let moved = [("a".to_owned(), Hint::Gone), ("b".to_owned(), Hint::Closed)];
        assert_eq!(folder.hints(), moved);
        for name in ["b/in/f", "b/f", "a.b/f"] {
            std::fs::write(folder.at(name), "x").unwrap();
        }
        let heard: HashSet<_> = folder.hints().into_iter().map(|(name, _)| name).collect();
        assert_eq!(heard, HashSet::from(["a.b/f".to_owned()]));
        folder.watch("b/in");
        std::fs::remove_file(folder.at("b/in/f")).unwrap();
        assert_eq!(folder.hints(), [("b/in/f".to_owned(), Hint::Gone)]);
    }

    #[test]
    fn a_folder_that_was_renamed_while_it_was_being_opened_keeps_its_new_name() {
        let folder = Folder::new();
        std::fs::create_dir(folder.at("a")).unwrap();
        let opened = folder.open("a");
        std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
        folder.watcher.watch(Some(&SyncPath::new("a").unwrap()), &opened);
        assert_eq!(folder.watcher.watched().len(), 1, "the root alone");
        folder.watch("b");
        folder.watcher.watch(Some(&SyncPath::new("a").unwrap()), &opened);
        folder.hints();
        std::fs::create_dir(folder.at("b/in")).unwrap();
        assert_eq!(folder.hints(), [("b/in".to_owned(), Hint::Closed)]);
    }

    #[test]
    fn a_thousand_removed_folders_leave_no_watch() {
        let folder = Folder::new();
        for n in 0..1000 {
            let name = format!("d/{}/{n}", n % 30);
            std::fs::create_dir_all(folder.at(&name)).unwrap();
            folder.watch(&name);
        }
        folder.watch("d");
        folder.hints();
        std::fs::remove_dir_all(folder.at("d")).unwrap();
        assert_eq!(folder.hints().last(), Some(&("d".to_owned(), Hint::Gone)));
        assert_eq!(folder.watcher.watched().len(), 1, "the root alone");
    }

    #[test]
    fn lost_events_are_an_overflow() {
        let folder = Folder::new();
        folder.watcher.heard(-1, ReadFlags::QUEUE_OVERFLOW, b"", &mut HashSet::new());
        assert!(matches!(folder.received.try_recv(), Ok(Event::Overflow)));
    }

    #[test]
    fn a_folder_without_a_watch_is_walked_and_the_limit_is_named() {
        let folder = Folder::new();
        assert!(!folder.watcher.is_partial());
        let d = SyncPath::new("d\n").unwrap();
        folder.watcher.go_without(Some(&d), Errno::NOSPC);
        assert!(folder.watcher.is_partial());
        folder.watcher.begin_anew();
        assert!(!folder.watcher.is_partial());
        let line = why_not_watched(Some(&d), Errno::NOSPC);
        assert!(line.contains("fs.inotify.max_user_watches") && line.contains(r"'d\x0a'"), "{line}");
    }
}
