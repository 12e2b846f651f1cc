//! The watcher against a real folder, without the rest of the disk side.

use super::events::KINDS;
use super::*;
use crate::io::Inbox;
use notify::event::{AccessKind, AccessMode, DataChange, EventKind, Flag, ModifyKind, RemoveKind};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);
/// Folders that tests make to know when everything before them was heard.
const MARK: &str = "mark";

struct WatchedFolder {
    temp: tempfile::TempDir,
    watcher: Arc<Watcher>,
    received: Inbox,
    marks: std::cell::Cell<u32>,
}

impl WatchedFolder {
    fn new() -> Self {
        Self::with(FULL)
    }

    fn with(full: usize) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        let (events, received) = Events::channel();
        let watcher = Arc::new(Watcher::with(root, events, full));
        let thread = Arc::clone(&watcher);
        std::thread::spawn(move || thread.run());
        let folder = Self { temp, watcher, received, marks: std::cell::Cell::new(0) };
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

    fn hearer(&self) -> Hearer {
        Hearer::new(Arc::clone(&self.watcher.shared), self.watcher.instances()[0].id)
    }

    /// All hints that one instance has to give by now, in order.
    fn hints(&self) -> Vec<(String, Hint)> {
        self.marks.set(self.marks.get() + 1);
        let mark = format!("{MARK}{}", self.marks.get());
        std::fs::create_dir(self.at(&mark)).unwrap();
        let mut hints = Vec::new();
        loop {
            match self.received.recv_timeout(PATIENCE).unwrap() {
                Event::Hint { path, hint: Hint::Closed } if path.to_text() == mark => return hints,
                Event::Hint { path, hint } if !path.to_text().starts_with(MARK) => hints.push((path.to_text(), hint)),
                Event::Hint { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn heard(&self) -> BTreeSet<String> {
        self.hints().into_iter().map(|(name, _)| name).collect()
    }

    fn count(&self) -> usize {
        self.watcher.count()
    }

    /// What other instances do takes them a moment.
    fn wait_count(&self, wanted: usize) {
        let began = Instant::now();
        while self.count() != wanted {
            assert!(began.elapsed() < PATIENCE, "{} watches, not {wanted}", self.count());
            std::thread::yield_now();
        }
    }
}

impl Drop for WatchedFolder {
    fn drop(&mut self) {
        self.watcher.stop();
    }
}

fn owned(hints: &[(&str, Hint)]) -> Vec<(String, Hint)> {
    hints.iter().map(|(name, hint)| ((*name).to_owned(), *hint)).collect()
}

fn place(folder: &OwnedFd) -> InodeKey {
    beneath::facts(folder).unwrap().place()
}

#[test]
fn reading_is_no_event_and_what_a_file_becomes_is_one_hint_each() {
    let folder = WatchedFolder::new();
    std::fs::write(folder.at("f"), "x").unwrap();
    folder.hints();
    std::fs::read(folder.at("f")).unwrap();
    std::fs::read_dir(folder.at("")).unwrap().count();
    assert_eq!(folder.hints(), []);
    for _ in 0..100 {
        std::fs::write(folder.at("f"), "a").unwrap();
        std::fs::write(folder.at("g"), "b").unwrap();
    }
    let hints = folder.hints();
    let count = |name: &str, hint| hints.iter().filter(|(n, h)| n == name && *h == hint).count();
    assert_eq!(count("f", Hint::Closed), 100, "{hints:?}");
    let mut open = std::fs::File::create(folder.at("f")).unwrap();
    std::io::Write::write_all(&mut open, b"a").unwrap();
    let hints: BTreeSet<_> = folder.hints().into_iter().map(|(name, hint)| (name, hint == Hint::Changed)).collect();
    assert_eq!(hints, BTreeSet::from([("f".to_owned(), true)]));
    drop(open);
    std::fs::rename(folder.at("f"), folder.at("h")).unwrap();
    std::fs::hard_link(folder.at("h"), folder.at("i")).unwrap();
    std::os::unix::fs::symlink("h", folder.at("j")).unwrap();
    let closed = |name| (name, Hint::Closed);
    let hints = folder.hints();
    assert_eq!(hints, owned(&[closed("f"), ("f", Hint::Gone), closed("h"), closed("i"), closed("j")]));
}

/// Events that waited for the thread, a microsecond apart.
#[test]
fn many_writes_are_one_change_and_one_end() {
    let folder = WatchedFolder::new();
    let changed = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let hints = |kinds: &[EventKind], times: usize| {
        let (mut hearer, start, nth) = (folder.hearer(), Instant::now(), std::cell::Cell::new(0));
        let clock = || {
            nth.set(nth.get() + 1);
            start + Duration::from_nanos(500 * nth.get())
        };
        let names = [folder.watcher.shared.key(b"").join("f"), folder.watcher.shared.key(b"").join("g")];
        for path in (0..times).flat_map(|_| &names) {
            for kind in kinds {
                hearer.handle(Ok(notify::Event::new(*kind).add_path(path.clone())), clock);
            }
        }
        let hint = |event| match event {
            Event::Hint { path, hint } => (path.to_text(), hint),
            other => panic!("{other:?}"),
        };
        folder.received.try_iter().map(hint).collect::<Vec<_>>()
    };
    // Each is truncated, written and closed a hundred times.
    let all = hints(&[changed, changed, closed], 100);
    let count = |name: &str, hint| all.iter().filter(|(n, h)| n == name && *h == hint).count();
    for name in ["f", "g"] {
        assert_eq!((count(name, Hint::Closed), count(name, Hint::Changed)), (100, 100), "{all:?}");
    }
    assert_eq!(hints(&[changed], 100), owned(&[("f", Hint::Changed), ("g", Hint::Changed)]));
}

#[test]
fn a_renamed_folder_and_what_is_in_it_are_not_heard_of_by_the_old_name() {
    let folder = WatchedFolder::new();
    std::fs::create_dir_all(folder.at("a/in")).unwrap();
    std::fs::create_dir(folder.at("a.b")).unwrap();
    for name in ["a", "a/in", "a.b"] {
        folder.watch(name);
    }
    folder.hints();
    std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
    assert_eq!(folder.hints(), owned(&[("a", Hint::Gone), ("b", Hint::Closed)]));
    for name in ["b/in/f", "b/f", "a.b/f"] {
        std::fs::write(folder.at(name), "x").unwrap();
    }
    assert_eq!(folder.heard(), BTreeSet::from(["a.b/f".to_owned()]));
    folder.watch("b/in");
    std::fs::remove_file(folder.at("b/in/f")).unwrap();
    assert_eq!(folder.hints(), owned(&[("b/in/f", Hint::Gone)]));
}

#[test]
fn a_folder_takes_the_name_of_a_renamed_one_and_both_are_heard_of() {
    let folder = WatchedFolder::new();
    std::fs::create_dir(folder.at("a")).unwrap();
    folder.watch("a");
    for round in 0..20 {
        std::fs::rename(folder.at("a"), folder.at(&format!("b{round}"))).unwrap();
        std::fs::create_dir(folder.at("a")).unwrap();
        // As long as the events wait, the old one is taken for watched; they are read later.
        folder.watch("a");
        folder.hints();
        folder.watch("a");
        folder.watch(&format!("b{round}"));
        let inner = [format!("a/{round}"), format!("b{round}/in")];
        for name in &inner {
            std::fs::create_dir(folder.at(name)).unwrap();
        }
        assert_eq!(folder.heard(), BTreeSet::from(inner));
    }
}

#[test]
fn a_folder_that_was_renamed_while_it_was_being_opened_keeps_its_new_name() {
    let folder = WatchedFolder::new();
    std::fs::create_dir(folder.at("a")).unwrap();
    let opened = folder.open("a");
    std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
    let a = SyncPath::new("a").unwrap();
    folder.watcher.watch(Some(&a), &opened);
    assert_eq!(folder.count(), 1, "the root alone");
    std::fs::create_dir(folder.at("a")).unwrap();
    folder.watcher.watch(Some(&a), &opened);
    assert_eq!(folder.count(), 1, "that is another one");
    folder.watch("b");
    folder.watcher.watch(Some(&a), &opened);
    folder.hints();
    std::fs::create_dir(folder.at("b/in")).unwrap();
    assert_eq!(folder.hints(), owned(&[("b/in", Hint::Closed)]));
}

/// The path is followed by the kernel: only afterwards it is seen where it led.
#[test]
fn a_link_that_takes_a_folder_s_place_leads_no_watch_out_of_the_root() {
    let (folder, outside) = (WatchedFolder::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(folder.at("a/in")).unwrap();
    std::fs::create_dir(outside.path().join("in")).unwrap();
    let (opened, inner) = (folder.open("a"), folder.open("a/in"));
    std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.at("a")).unwrap();
    folder.hints();
    for (name, dir) in [("a", &opened), ("a/in", &inner)] {
        folder.watcher.watch(Some(&SyncPath::new(name).unwrap()), dir);
    }
    assert_eq!(folder.count(), 1);
    for name in ["f", "in/f"] {
        std::fs::write(outside.path().join(name), "x").unwrap();
    }
    assert_eq!(folder.hints(), []);
    // Watched ahead it gives hints, until it is opened to be listed.
    let ahead = SyncPath::new("a/in").unwrap();
    folder.watcher.watch_ahead(&[(ahead.clone(), place(&inner))]);
    assert_eq!(folder.count(), 2);
    let other = folder.open("b");
    folder.watcher.watch(Some(&ahead), &other);
    assert_eq!(folder.count(), 1);
    std::fs::write(outside.path().join("in/g"), "x").unwrap();
    assert_eq!(folder.hints(), []);
}

/// The root's descriptor is a link in `/proc`: watched itself it would say nothing.
#[test]
fn the_root_is_watched_through_its_descriptor_however_links_are_treated() {
    let folder = WatchedFolder::new();
    let link = beneath::by_descriptor(folder.watcher.shared.root.dir());
    let through = folder.watcher.shared.key(b"");
    for (path, dereference, expected) in [
        (Path::new(&link), true, true),
        (Path::new(&link), false, false),
        (&through, true, true),
        (&through, false, true),
    ] {
        let (sender, heard) = mpsc::channel();
        let config = Config::default().with_event_kinds(KINDS);
        let mut notify = INotifyWatcher::new(sender, config).unwrap();
        let how = WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(dereference);
        notify.watch_with(path, how).unwrap();
        std::fs::create_dir(folder.at("d")).unwrap();
        std::fs::remove_dir(folder.at("d")).unwrap();
        // It reads all that waits before it answers.
        notify.update_paths(vec![PathOp::watch_non_recursive(folder.at(""))]).unwrap();
        drop(notify);
        assert_eq!(heard.iter().next().is_some(), expected, "{} {dereference}", path.display());
    }
}

#[test]
fn folders_that_are_listed_are_watched_together_and_only_once() {
    let folder = WatchedFolder::new();
    for name in ["a", "b", "gone"] {
        std::fs::create_dir(folder.at(name)).unwrap();
    }
    let listed: Vec<_> =
        ["a", "gone", "b"].map(|name| (SyncPath::new(name).unwrap(), place(&folder.open(name)))).into();
    std::fs::remove_dir(folder.at("gone")).unwrap();
    folder.hints();
    folder.watcher.watch_ahead(&listed);
    assert_eq!(folder.count(), 3);
    let attempts = folder.watcher.shared.watched().clone_attempts();
    folder.watcher.watch_ahead(&listed[..1]);
    folder.watch("a");
    assert_eq!(folder.watcher.shared.watched().clone_attempts(), attempts);
    std::fs::create_dir(folder.at("a/in")).unwrap();
    std::fs::create_dir(folder.at("b/in")).unwrap();
    assert_eq!(folder.hints(), owned(&[("a/in", Hint::Closed), ("b/in", Hint::Closed)]));
}

#[test]
fn a_thousand_removed_folders_leave_no_watch() {
    let folder = WatchedFolder::with(200);
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.watch("d");
    for n in 0..1000 {
        let name = format!("d/{}/{n}", n % 30);
        std::fs::create_dir_all(folder.at(&name)).unwrap();
        folder.watch(&format!("d/{}", n % 30));
        folder.watch(&name);
    }
    assert_eq!(folder.watcher.instances().len(), MAX_INSTANCES);
    std::fs::remove_dir_all(folder.at("d")).unwrap();
    folder.wait_count(1);
    assert!(folder.hints().contains(&("d".to_owned(), Hint::Gone)));
}

#[test]
fn a_renamed_tree_in_several_instances_is_watched_by_its_new_name_alone() {
    let folder = WatchedFolder::with(10);
    std::fs::create_dir(folder.at("a")).unwrap();
    folder.watch("a");
    for n in 0..100 {
        std::fs::create_dir(folder.at(&format!("a/{n}"))).unwrap();
        folder.watch(&format!("a/{n}"));
    }
    assert_eq!(folder.watcher.instances().len(), MAX_INSTANCES);
    std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
    folder.wait_count(1);
    folder.watch("b");
    folder.hints();
    for n in 0..100 {
        folder.watch(&format!("b/{n}"));
        std::fs::create_dir(folder.at(&format!("b/{n}/in"))).unwrap();
    }
    let mut missing: BTreeSet<_> = (0..100).map(|n| format!("b/{n}/in")).collect();
    while !missing.is_empty() {
        let Event::Hint { path, .. } = folder.received.recv_timeout(PATIENCE).unwrap() else { panic!() };
        missing.remove(&path.to_text());
        assert!(!path.is_below(&SyncPath::new("a").unwrap()), "{path}");
    }
}

#[test]
fn another_instance_is_made_only_when_all_have_enough_to_do() {
    let folder = WatchedFolder::with(3);
    let instances = |count: usize| {
        (0..count).for_each(|n| std::fs::create_dir_all(folder.at(&n.to_string())).unwrap());
        (0..count).for_each(|n| folder.watch(&n.to_string()));
        folder.watcher.instances().len()
    };
    assert_eq!([2, 3, 5, 6, 20].map(instances), [1, 2, 2, 3, MAX_INSTANCES]);
    let watched = folder.watcher.shared.watched();
    let counts: Vec<_> = folder.watcher.instances().iter().map(|one| watched.count(one.id)).collect();
    assert_eq!(counts.iter().sum::<usize>(), 21);
    assert!(counts.iter().all(|&count| count >= 5), "{counts:?}");
}

/// The old one's end is reported by another instance than the new one's beginning, maybe later.
#[test]
fn a_watch_that_ends_while_its_folder_is_there_is_a_hint_that_the_folder_is_new() {
    let folder = WatchedFolder::new();
    std::fs::create_dir(folder.at("a")).unwrap();
    folder.watch("a");
    folder.hints();
    let ended = |name: &str| {
        let event = notify::Event::new(EventKind::Remove(RemoveKind::Folder));
        notify::EventHandler::handle_event(
            &mut folder.hearer(),
            Ok(event.add_path(folder.watcher.shared.key(name.as_bytes()))),
        );
    };
    ended("b");
    ended("a");
    assert_eq!((folder.count(), folder.hints()), (1, owned(&[("a", Hint::Closed)])));
    ended("a");
    assert_eq!(folder.hints(), []);
}

#[test]
fn lost_events_are_an_overflow_after_which_all_watches_are_new() {
    let folder = WatchedFolder::new();
    std::fs::create_dir(folder.at("a")).unwrap();
    folder.watch("a");
    folder.hints();
    let event = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
    notify::EventHandler::handle_event(&mut folder.hearer(), Ok(event));
    assert!(matches!(folder.received.try_recv(), Ok(Event::Overflow)));
    let before = folder.watcher.instances()[0].id;
    folder.watcher.begin_anew();
    assert_ne!(folder.watcher.instances()[0].id, before);
    assert_eq!((folder.count(), folder.watcher.is_partial()), (0, false));
    folder.watch("");
    folder.watch("a");
    std::fs::create_dir(folder.at("a/in")).unwrap();
    assert_eq!(folder.hints(), owned(&[("a/in", Hint::Closed)]));
    let before = folder.watcher.instances()[0].id;
    folder.watcher.begin_anew();
    assert_eq!(folder.watcher.instances()[0].id, before, "nothing was lost");
}

#[test]
fn a_folder_without_a_watch_is_walked_and_the_limit_is_named() {
    let folder = WatchedFolder::new();
    assert!(!folder.watcher.is_partial());
    let d = SyncPath::new("d\n").unwrap();
    folder.watcher.failed(Some(&d), &notify::Error::path_not_found());
    assert!(!folder.watcher.is_partial(), "it is gone");
    folder.watcher.failed(Some(&d), &notify::Error::new(ErrorKind::MaxFilesWatch));
    assert!(folder.watcher.is_partial());
    folder.watcher.begin_anew();
    assert!(!folder.watcher.is_partial());
    let line = why_not_watched(Some(&d), Errno::NOSPC);
    assert!(line.contains("fs.inotify.max_user_watches") && line.contains(r"'d\x0a'"), "{line}");
}

#[test]
fn what_an_event_is_about_is_read_off_its_path() {
    let folder = WatchedFolder::new();
    let shared = &folder.watcher.shared;
    for path in ["", "a", "a/b", ".../ ", "a\n/\u{fffd}"] {
        let key = shared.key(path.as_bytes());
        assert_eq!(shared.split(key.as_os_str().as_bytes()), Some((path.as_bytes(), None)));
        for name in ["f", "...", ".x", "a."] {
            let of_name = key.join(name);
            let expected = Some((path.as_bytes(), Some(name.as_bytes())));
            assert_eq!(shared.split(of_name.as_os_str().as_bytes()), expected);
        }
    }
    assert_eq!(shared.split(b"/elsewhere/a/."), None);
    // All lead to the root, and most machines have all.
    assert!(shared.spellings.len() > 3, "{}", shared.spellings.len());
    let used: BTreeSet<_> = (0..100).map(|n| shared.key(format!("d{n}").as_bytes())).collect();
    let roots: BTreeSet<_> = used.iter().filter_map(|key| key.parent()).collect();
    assert_eq!(roots.len(), shared.spellings.len());
}
