//! A broken machine hurts only itself (P8): a root that is gone, emptied, covered, restored or
//! without its marker stops this machine, says so, and takes nothing from the others.

use crate::common::disk::{copy_tree, path_text, run};
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, is_root, noise, pace, read, remove, rename, write,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const FILES: u64 = 150;

/// Two machines that hold the same files.
fn with_files() -> (Machine, Machine) {
    let (a, b) = Group::new().pair();
    for n in 0..FILES {
        write(a.at(&format!("d{}/f{n}", n % 5)), noise(n, 500));
    }
    converge(&[&a, &b]);
    (a, b)
}

/// The peer still works, takes no harm, and has every file.
fn peer_is_unharmed(b: &Machine) {
    write(b.at("by-b"), "b goes on");
    b.wait_own_idle();
    // That nothing comes cannot be awaited: this is long enough for what should not come.
    pace(1500);
    let tree = b.tree().expect("a folder");
    let there = (0..FILES).filter(|n| tree.has(format!("d{}/f{n}", n % 5))).count() as u64;
    assert_eq!(there, FILES, "the peer lost files");
}

#[test]
fn a_root_that_is_renamed_away_stops_this_machine_alone_until_it_is_back() {
    let (a, b) = with_files();
    let away = a.home.join("away");
    rename(&a.dir, &away);
    a.wait_log(&["stopped", path_text(&a.dir)]);
    peer_is_unharmed(&b);
    rename(&away, &a.dir);
    converge(&[&a, &b]);
    write(a.at("again"), "in step");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files() as u64, FILES + 2);
}

#[test]
fn a_root_that_is_replaced_by_an_empty_folder_while_running_deletes_nothing() {
    let (a, b) = with_files();
    let away = a.home.join("away");
    rename(&a.dir, &away);
    fs::create_dir(&a.dir).expect("mkdir");
    // The control socket moved away with the folder: the log alone speaks.
    a.wait_log(&["stopped", path_text(&a.dir)]);
    peer_is_unharmed(&b);
    assert_eq!(fs::read_dir(&a.dir).expect("a folder").count(), 0, "something was put into the wrong folder");
}

#[test]
fn a_root_that_was_emptied_while_off_deletes_nothing() {
    let (a, b) = with_files();
    a.stop();
    remove(&a.dir);
    fs::create_dir(&a.dir).expect("mkdir");
    a.spawn();
    a.wait_log(&["marker"]);
    peer_is_unharmed(&b);
}

#[test]
fn a_folder_whose_files_all_vanished_while_off_deletes_nothing_elsewhere_until_someone_confirms() {
    let (a, b) = with_files();
    a.stop();
    for n in 0..5 {
        remove(a.at(&format!("d{n}")));
    }
    a.start();
    eventually("a holds the deletions back", PATIENCE, || {
        let status = a.json(&["status"])?;
        let held = status["held_deletions"].as_u64().is_some_and(|held| held >= FILES);
        held.then_some(()).ok_or(status.to_string())
    });
    a.wait_log(&["dirsync confirm"]);
    peer_is_unharmed(&b);
    assert!(a.cli(&["confirm"]).status.success());
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["by-b"]);
}

#[test]
fn a_folder_that_is_removed_with_all_that_is_in_it_while_running_deletes_nothing_elsewhere() {
    let (a, b) = with_files();
    run("rm", &["-rf", path_text(&a.dir)]);
    // The control socket is gone with the folder: the log alone speaks.
    a.wait_log(&["stopped", path_text(&a.dir)]);
    peer_is_unharmed(&b);
}

#[test]
fn a_folder_without_its_marker_deletes_nothing_and_says_so() {
    let (a, b) = with_files();
    a.stop();
    remove(a.at(".dirsync/marker"));
    remove(a.at("d0"));
    write(a.at("d1/f1"), "an old state, copied over it just now");
    write(a.at("of-another-folder"), "none of the group's");
    a.spawn();
    a.wait_log(&["marker"]);
    let before = read(b.at("d1/f1"));
    peer_is_unharmed(&b);
    assert_eq!(read(b.at("d1/f1")), before, "what is in a folder without its marker was told");
    assert!(!b.at("of-another-folder").exists());
    // A marker that the index never accepted makes it no better.
    write(a.at(".dirsync/marker"), "00112233445566778899aabbccddeeff");
    peer_is_unharmed(&b);
    assert!(!b.at("of-another-folder").exists());
}

/// A file system mounted over a folder; unmounted when dropped.
struct Covered(PathBuf);

impl Covered {
    fn new(dir: PathBuf) -> Self {
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "none", path_text(&dir)]);
        Self(dir)
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn another_file_system_mounted_over_the_root_stops_this_machine_alone() {
    if !is_root("another_file_system_mounted_over_the_root_stops_this_machine_alone") {
        return;
    }
    let (a, b) = with_files();
    let covered = Covered::new(a.dir.clone());
    // Something must bring the daemon to look: a change from the peer.
    write(b.at("d0/f0"), "edited at b");
    a.wait_log(&["stopped", path_text(&a.dir)]);
    peer_is_unharmed(&b);
    assert!(!a.at("by-b").exists(), "something was written to the other file system");
    drop(covered);
    converge(&[&a, &b]);
    assert_eq!(read(a.at("d0/f0")), b"edited at b");
}

#[test]
fn a_root_whose_file_system_is_not_mounted_at_the_start_deletes_nothing() {
    if !is_root("a_root_whose_file_system_is_not_mounted_at_the_start_deletes_nothing") {
        return;
    }
    let (a, b) = with_files();
    a.stop();
    let covered = Covered::new(a.dir.clone());
    a.spawn();
    a.wait_log(&["marker"]);
    peer_is_unharmed(&b);
    a.kill();
    drop(covered);
    a.start();
    converge(&[&a, &b]);
}

#[test]
fn a_mount_inside_the_folder_is_left_alone() {
    if !is_root("a_mount_inside_the_folder_is_left_alone") {
        return;
    }
    let (a, b) = with_files();
    write(a.at("mnt/covered"), "below the mount");
    converge(&[&a, &b]);
    let covered = Covered::new(a.at("mnt"));
    write(a.at("mnt/inside"), "on another file system");
    write(a.at("beside"), "on ours");
    eventually("the file beside it is at b", PATIENCE, || {
        b.at("beside").exists().then_some(()).ok_or("not yet".to_owned())
    });
    a.restart();
    wait_linked(&[&a, &b]);
    a.wait_own_idle();
    assert!(b.at("mnt/covered").exists() && !b.at("mnt/inside").exists());
    let status = text_of(&a.cli(&["status"]));
    assert!(find_line(&status, &["mnt", "mounted"]).is_some(), "{status}");
    drop(covered);
    a.restart();
    converge(&[&a, &b]);
    assert_eq!(a.json(&["status"]).expect("status")["problems"], serde_json::json!([]));
}

#[test]
fn a_folder_restored_from_an_old_backup_rolls_nobody_back() {
    let (a, b) = with_files();
    write(a.at("f"), "last month's");
    converge(&[&a, &b]);
    a.stop();
    let backup = a.home.join("backup");
    copy_tree(&a.dir, &backup);
    // Two more starts: their markers are what the index knows.
    for round in 0..3 {
        a.start();
        wait_linked(&[&a, &b]);
        write(a.at("f"), format!("edit {round}"));
        write(a.at(&format!("made-since-{round}")), "new");
        converge(&[&a, &b]);
        a.stop();
    }
    remove(&a.dir);
    rename(&backup, &a.dir);
    a.start();
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"edit 2");
    assert!(tree.has("made-since-0") && tree.has("made-since-2"), "what was made since the backup is gone");
}

#[test]
fn a_lost_index_deletes_nothing_and_fetches_nothing_again() {
    let (a, b) = Group::new().pair();
    for n in 0..20 {
        write(a.at(&format!("f{n}")), noise(n, 400_000));
    }
    let before = converge(&[&a, &b]);
    a.stop();
    remove(&a.state);
    fs::create_dir(&a.state).expect("mkdir");
    crate::common::disk::chmod(&a.state, 0o700);
    write(b.at("f3"), "edited meanwhile");
    a.start();
    wait_linked(&[&a, &b]);
    let after = converge(&[&a, &b]);
    assert_eq!(after.files(), before.files());
    assert_eq!(read(a.at("f3")), b"edited meanwhile");
    let (sent, received) = a.wire_bytes();
    assert!(sent + received < 1_000_000, "{sent} + {received} bytes for 8 MB that both held");
}
