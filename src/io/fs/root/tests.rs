//! The root on a real folder: what is refused, what is ours alone, and what stops the daemon.

use super::lock::{LOCK_PATIENCE, lock_soon};
use super::*;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

#[test]
fn a_folder_that_cannot_be_synced_is_refused_with_the_way_out() {
    let temp = tempfile::tempdir().unwrap();
    let missing = Root::open(&temp.path().join("no")).unwrap_err();
    assert!(matches!(&missing, RootError::Missing(_)) && missing.to_string().contains("mkdir -p"));
    std::fs::write(temp.path().join("file"), "x").unwrap();
    assert!(matches!(Root::open(&temp.path().join("file")).unwrap_err(), RootError::NotDirectory(_)));
}

#[test]
fn a_private_folder_that_is_a_link_or_a_file_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), temp.path().join(PRIVATE_DIR)).unwrap();
    assert!(matches!(Root::open(temp.path()).unwrap_err(), RootError::Private { .. }));
    std::fs::remove_file(temp.path().join(PRIVATE_DIR)).unwrap();
    std::fs::write(temp.path().join(PRIVATE_DIR), "").unwrap();
    assert!(matches!(Root::open(temp.path()).unwrap_err(), RootError::Private { .. }));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing was written through the link");
}

#[test]
fn the_private_folder_is_made_ours_alone() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::DirBuilder::new().mode(0o777).create(temp.path().join(PRIVATE_DIR)).unwrap();
    let _root = Root::open(temp.path()).unwrap();
    for name in ["", "staging", "history"] {
        let mode = std::fs::metadata(temp.path().join(PRIVATE_DIR).join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{name}");
    }
}

#[test]
fn the_private_folder_is_hidden_from_git_once() {
    let temp = tempfile::tempdir().unwrap();
    let patterns = temp.path().join(PRIVATE_DIR).join(".gitignore");
    drop(Root::open(temp.path()).unwrap());
    assert_eq!(std::fs::read(&patterns).unwrap(), b"*\n");
    std::fs::write(&patterns, "# mine\n").unwrap();
    drop(Root::open(temp.path()).unwrap());
    assert_eq!(std::fs::read(&patterns).unwrap(), b"# mine\n");
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let temp = tempfile::tempdir().unwrap();
    let first = Root::open(temp.path()).unwrap();
    let second = Root::open(temp.path()).unwrap_err();
    assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
    drop(first);
    Root::open(temp.path()).unwrap();
}

#[test]
fn the_root_is_fine_until_it_is_moved_replaced_or_loses_its_marker() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    std::fs::create_dir(&dir).unwrap();
    let root = Root::open(&dir).unwrap();
    assert_eq!(root.marker(), None);
    let nonce = root.renew_marker().unwrap();
    assert_eq!(root.marker(), Some(nonce.clone()));
    assert_ne!(root.renew_marker().unwrap(), nonce);
    assert_eq!(root.check(), RootState::Fine);

    let marker = dir.join(".dirsync/marker");
    std::fs::write(&marker, "0".repeat(32)).unwrap();
    assert!(matches!(root.check(), RootState::Wrong(why) if why.text.contains("another marker")));
    std::fs::remove_file(&marker).unwrap();
    assert!(matches!(root.check(), RootState::Wrong(why) if why.text.contains("lost its marker")));
    root.renew_marker().unwrap();
    std::fs::rename(&dir, temp.path().join("moved")).unwrap();
    assert!(matches!(root.check(), RootState::Wrong(why) if why.text.contains("is gone")));
    std::fs::create_dir(&dir).unwrap();
    assert!(matches!(root.check(), RootState::Wrong(why) if why.text.contains("another folder")));
}

/// A renamed one stands for one that a file system finds by another spelling of its name.
#[test]
fn our_own_folder_is_known_by_its_inode_where_names_are_not_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let root = Root::open(temp.path()).unwrap();
    std::fs::rename(temp.path().join(PRIVATE_DIR), temp.path().join("other")).unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    root.learn(|keeps| keeps.names = Names::Folded);
    for (name, is_ours) in [("other", true), ("other/marker", true), ("d", false), ("d/other", false), ("no", false)] {
        assert_eq!(root.is_ours(&path(name)), Ok(is_ours), "{name}");
    }
}

#[test]
fn a_private_folder_that_someone_moves_stops_the_daemon_and_is_never_synced() {
    let temp = tempfile::tempdir().unwrap();
    let root = Root::open(temp.path()).unwrap();
    root.renew_marker().unwrap();
    let (own, moved) = (temp.path().join(PRIVATE_DIR), temp.path().join("moved"));
    std::fs::rename(&own, &moved).unwrap();
    let is_stopped = || matches!(root.check(), RootState::Wrong(why) if why.text.contains("another '.dirsync'"));
    assert!(is_stopped());
    assert_eq!(root.stat(&path("moved")).unwrap().unwrap().kind, StatKind::Other);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("marker"), root.marker().unwrap()).unwrap();
    assert!(is_stopped(), "though it has the right marker");
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&moved, &own).unwrap();
    assert_eq!(root.check(), RootState::Fine);
}

#[test]
fn a_fifo_as_lock_holds_up_no_start() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::DirBuilder::new().mode(0o700).create(temp.path().join(PRIVATE_DIR)).unwrap();
    let private = File::open(temp.path().join(PRIVATE_DIR)).unwrap();
    rustix::fs::mknodat(&private, "lock", rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _root = Root::open(temp.path()).unwrap();
    assert!(std::fs::symlink_metadata(temp.path().join(".dirsync/lock")).unwrap().is_file());
}

#[test]
fn a_call_that_only_the_file_system_lacks_is_not_laid_to_the_kernel() {
    let why = failed("/mnt", "make the folder 'staging'", Errno::NOSYS).to_string();
    assert!(why.contains("its file system cannot make the folder 'staging'") && why.contains("ext4"), "{why}");
}

#[test]
fn nothing_is_reached_through_a_symbolic_link() {
    let temp = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let root = Root::open(temp.path()).unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    std::fs::write(temp.path().join("d/secret"), "mine").unwrap();
    let stat = root.stat(&path("d/secret")).unwrap().unwrap();
    let served =
        ServedFile { path: path("d/secret"), stat, content: crate::model::ContentId::of(b"mine"), size: 4, kept: None };
    assert!(root.open_served(&mut LastFolder::default(), &served).is_ok());

    std::fs::rename(temp.path().join("d"), temp.path().join("e")).unwrap();
    symlink(outside.path(), temp.path().join("d")).unwrap();
    assert_eq!(root.stat(&path("d/secret")).unwrap(), None);
    assert!(root.open_served(&mut LastFolder::default(), &served).is_err());
    symlink(outside.path().join("secret"), temp.path().join("link")).unwrap();
    assert_eq!(root.stat(&path("link")).unwrap().unwrap().kind, StatKind::Symlink);
}

#[test]
fn a_client_that_looks_at_the_lock_keeps_no_daemon_from_starting_and_another_daemon_does() {
    let temp = tempfile::tempdir().unwrap();
    let name = temp.path().join("lock");
    std::fs::write(&name, "12").unwrap();
    let client = File::open(&name).unwrap();
    rustix::fs::flock(&client, rustix::fs::FlockOperation::LockShared).unwrap();
    let inspections = std::thread::spawn(move || {
        std::thread::sleep(LOCK_PATIENCE / 10);
        drop(client);
    });
    let daemon = File::open(&name).unwrap();
    lock_soon(&daemon).expect("the client has looked");
    inspections.join().unwrap();
    assert_eq!(lock_soon(&File::open(&name).unwrap()), Err(Errno::WOULDBLOCK));
}
