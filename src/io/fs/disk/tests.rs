//! The whole disk side on real folders: looks, walks, the watcher.

use super::*;
use crate::engine::{Cause, Hint, Observed, RootState, StatKind, WalkId};
use crate::io::Inbox;
use crate::model::{ContentId, SyncPath};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

struct DiskFixture {
    temp: tempfile::TempDir,
    disk: Disk,
    received: Inbox,
}

impl DiskFixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        root.renew_marker().unwrap();
        let (events, received) = Events::channel();
        let disk = Disk::start(root, events, &DiskOptions::default()).unwrap();
        Self { temp, disk, received }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn next(&self) -> Event {
        self.received.recv_timeout(Duration::from_secs(10)).expect("an event within 10 s")
    }

    fn inspect(&self, name: &str, known: Option<crate::engine::Stat>, rehash: bool) -> Observed {
        assert_eq!(self.disk.run([Action::Inspect { path: path(name), known, was: None, rehash, body: true }]), []);
        loop {
            if let Event::Inspected { path: inspected, observed } = self.next() {
                assert_eq!(inspected, path(name));
                return observed;
            }
        }
    }

    /// Walks everything; the names in the order in which they came.
    fn walk(&self) -> Vec<(String, StatKind)> {
        self.disk.run([Action::Walk { walk: WalkId(7), below: None }]);
        let mut names = Vec::new();
        loop {
            match self.next() {
                Event::Listed { found, .. } => names.extend(found.into_iter().map(|(p, s)| (p.to_text(), s.kind))),
                Event::Walked { walk, unread } => {
                    assert_eq!((walk, unread), (WalkId(7), vec![]));
                    return names;
                }
                _ => {}
            }
        }
    }

    /// Waits for this hint.
    fn hint(&self, name: &str, wanted: Hint) {
        loop {
            if let Event::Hint { path: of, hint } = self.next()
                && of == path(name)
                && hint == wanted
            {
                return;
            }
        }
    }
}

fn path(name: &str) -> SyncPath {
    SyncPath::new(name).unwrap()
}

#[test]
fn a_look_says_what_is_there() {
    let folder = DiskFixture::new();
    std::fs::write(folder.at("f"), "content").unwrap();
    std::fs::create_dir(folder.at("d")).unwrap();
    symlink("nowhere", folder.at("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.at("p"), rustix::fs::Mode::RUSR).unwrap();
    let Observed::File { stat, content, body } = folder.inspect("f", None, false) else { panic!("it is a file") };
    assert_eq!((content, body.as_deref()), (ContentId::of(b"content"), Some(&b"content"[..])));
    assert_eq!(folder.inspect("f", Some(stat), false), Observed::Unchanged);
    assert!(matches!(folder.inspect("f", Some(stat), true), Observed::File { .. }));
    assert!(matches!(folder.inspect("d", None, false), Observed::Directory { .. }));
    assert!(matches!(folder.inspect("l", None, false), Observed::Symlink { target, .. } if target == b"nowhere"));
    assert_eq!(folder.inspect("p", None, false), Observed::Special { what: "fifo" });
    std::fs::remove_file(folder.at("f")).unwrap();
    for name in ["f", "f/below", "no/where", "l/below"] {
        assert_eq!(folder.inspect(name, Some(stat), false), Observed::Absent, "{name}");
    }
}

#[test]
fn many_looks_are_each_answered_once_and_bodies_have_a_budget() {
    let folder = DiskFixture::new();
    let content = vec![b'x'; 100 * 1024];
    for i in 0..300 {
        std::fs::write(folder.at(&i.to_string()), &content).unwrap();
    }
    for i in 0..300 {
        folder.disk.run([Action::Inspect {
            path: path(&i.to_string()),
            known: None,
            was: None,
            rehash: false,
            body: true,
        }]);
    }
    let mut inspected = BTreeMap::new();
    while inspected.len() < 300 {
        if let Event::Inspected { path, observed: Observed::File { content: id, body, .. } } = folder.next() {
            assert_eq!(id, ContentId::of(&content));
            assert!(inspected.insert(path, body).is_none());
        }
    }
    let held: usize = inspected.values().flatten().map(bytes::Bytes::len).sum();
    assert!(held <= 16 << 20 && held > 15 << 20, "{held}");
    drop(inspected);
    assert!(matches!(folder.inspect("0", None, false), Observed::File { body: Some(_), .. }));
}

#[test]
fn a_file_larger_than_the_buffer_is_hashed_whole() {
    let folder = DiskFixture::new();
    let content: Vec<u8> = (0..3_000_001_u32).map(|i| (i / 7) as u8).collect();
    std::fs::write(folder.at("f"), &content).unwrap();
    let Observed::File { content: id, body, .. } = folder.inspect("f", None, false) else { panic!("it is a file") };
    assert_eq!((id, body), (ContentId::of(&content), None));
}

#[test]
fn an_unreadable_file_is_a_trouble_and_names_the_way_out() {
    let folder = DiskFixture::new();
    std::fs::write(folder.at("f"), "secret").unwrap();
    std::fs::set_permissions(folder.at("f"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(folder.at("f")).is_ok() {
        eprintln!("skipped: needs an unprivileged user: an_unreadable_file_is_a_trouble_and_names_the_way_out");
        return;
    }
    let Observed::Failed(trouble) = folder.inspect("f", None, false) else { panic!("it cannot be read") };
    assert_eq!(trouble.cause, Cause::Denied);
    assert!(trouble.text.contains("'f'") && trouble.text.contains("access"), "{}", trouble.text);
}

#[test]
fn a_walk_names_everything_once_and_folders_before_what_is_in_them() {
    let folder = DiskFixture::new();
    for d in 0..30 {
        std::fs::create_dir_all(folder.at(&format!("a{d}/b/c"))).unwrap();
        for f in 0..50 {
            std::fs::write(folder.at(&format!("a{d}/b/c/{f}")), "").unwrap();
        }
    }
    for f in 0..2500 {
        std::fs::write(folder.at(&f.to_string()), "").unwrap();
    }
    symlink("/etc", folder.at("link")).unwrap();
    let names = folder.walk();
    assert_eq!(names.len(), 30 * 3 + 30 * 50 + 2500 + 1);
    let mut seen = BTreeSet::new();
    for (name, _) in &names {
        assert!(name.rsplit_once('/').is_none_or(|(parent, _)| seen.contains(parent)), "{name}");
        assert!(seen.insert(name.as_str()), "{name} twice");
    }
    assert!(names.contains(&("link".to_owned(), StatKind::Symlink)));
    folder.disk.set_ignore(Arc::new(|path, is_folder| is_folder && path.name() == b"b"));
    let names = folder.walk();
    assert_eq!(names.iter().filter(|(name, _)| name.contains("/b/")).count(), 0);
    assert!(names.iter().any(|(name, _)| name == "a0/b"), "it is named, not entered");
}

#[test]
fn the_watcher_hints_at_each_kind_of_change() {
    let folder = DiskFixture::new();
    std::fs::write(folder.at("f"), "1").unwrap();
    folder.walk();
    std::fs::write(folder.at("f"), "2").unwrap();
    folder.hint("f", Hint::Closed);
    std::fs::set_permissions(folder.at("f"), std::fs::Permissions::from_mode(0o600)).unwrap();
    folder.hint("f", Hint::Changed);
    std::fs::rename(folder.at("f"), folder.at("g")).unwrap();
    folder.hint("f", Hint::Gone);
    folder.hint("g", Hint::Closed);
    std::fs::hard_link(folder.at("g"), folder.at("h")).unwrap();
    folder.hint("h", Hint::Closed);
    symlink("g", folder.at("l")).unwrap();
    folder.hint("l", Hint::Closed);
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.hint("d", Hint::Closed);
    std::fs::remove_file(folder.at("g")).unwrap();
    folder.hint("g", Hint::Gone);
    assert!(folder.received.try_iter().all(|event| !matches!(event, Event::Overflow)));
}

/// As the engine does: a new folder is walked, and what is in it is either listed or hinted at.
#[test]
fn files_made_at_once_in_new_folders_are_all_found() {
    let folder = DiskFixture::new();
    folder.walk();
    for round in 0..20 {
        let deep = format!("r{round}/b/c");
        std::fs::create_dir_all(folder.at(&deep)).unwrap();
        let wanted: BTreeSet<_> = (0..10).map(|i| format!("{deep}/{i}")).collect();
        for name in &wanted {
            std::fs::write(folder.at(name), "x").unwrap();
        }
        let mut found = BTreeSet::new();
        while !wanted.is_subset(&found) {
            match folder.next() {
                Event::Hint { path, hint } => {
                    if hint == Hint::Closed && folder.at(&path.to_text()).is_dir() {
                        folder.disk.run([Action::Walk { walk: WalkId(1), below: Some(path.clone()) }]);
                    }
                    found.insert(path.to_text());
                }
                Event::Listed { found: listed, .. } => found.extend(listed.into_iter().map(|(p, _)| p.to_text())),
                _ => {}
            }
        }
    }
}

#[test]
fn a_renamed_folder_is_watched_under_its_new_name_only() {
    let folder = DiskFixture::new();
    std::fs::create_dir_all(folder.at("a/in")).unwrap();
    folder.walk();
    std::fs::rename(folder.at("a"), folder.at("b")).unwrap();
    folder.hint("b", Hint::Closed);
    folder.walk();
    std::fs::write(folder.at("b/in/f"), "x").unwrap();
    loop {
        if let Event::Hint { path: of, hint } = folder.next() {
            assert!(!of.is_below(&path("a")), "{of}");
            if of == path("b/in/f") && hint == Hint::Closed {
                return;
            }
        }
    }
}

#[test]
fn the_root_is_checked_and_the_ignore_file_read_on_request() {
    let folder = DiskFixture::new();
    folder.disk.run([Action::CheckRoot]);
    assert!(matches!(folder.next(), Event::Root(RootState::Fine)));
    folder.disk.run([Action::ReadIgnore]);
    assert!(matches!(folder.next(), Event::IgnoreRead(None)));
    std::fs::write(folder.at(".dirsyncignore"), "*.o\n").unwrap();
    folder.disk.run([Action::ReadIgnore]);
    assert!(matches!(folder.next(), Event::IgnoreRead(Some(text)) if text == b"*.o\n"));
    let unread = |why: &str| {
        folder.disk.run([Action::ReadIgnore]);
        let event = folder.next();
        assert!(matches!(&event, Event::IgnoreUnread(text) if text.contains(why)), "{event:?}");
    };
    std::fs::write(folder.at(".dirsyncignore"), vec![b'#'; (1 << 20) + 1]).unwrap();
    unread("larger than 1 MiB");
    std::fs::rename(folder.at(".dirsyncignore"), folder.at("rules")).unwrap();
    symlink("rules", folder.at(".dirsyncignore")).unwrap();
    unread("no regular file");
    assert!(!folder.disk.run([Action::CancelFetch { fetch: FetchId(1) }]).is_empty());
}

#[test]
fn stopping_ends_every_thread() {
    let folder = DiskFixture::new();
    let DiskFixture { disk, received, temp } = folder;
    disk.shutdown();
    drop(disk);
    assert!(received.iter().all(|event| !matches!(event, Event::Overflow)), "the watcher has let go of its end too");
    drop(temp);
}

#[test]
fn a_thread_that_panics_takes_the_daemon_along() {
    const DIES: &str = "DIRSYNC_TEST_DIES";
    if std::env::var_os(DIES).is_some() {
        let (alive, ended) = mpsc::channel();
        spawn("doomed", alive, || panic!("as it was told")).unwrap();
        ended.recv_timeout(Duration::from_secs(20)).unwrap_err();
        return;
    }
    let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
    let itself =
        itself.args(["--exact", "io::fs::disk::tests::a_thread_that_panics_takes_the_daemon_along"]).env(DIES, "1");
    let status = itself.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status}");
}
