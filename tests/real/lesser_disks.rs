//! One machine's folder lies on a file system that keeps less than Linux's own do: the others lose
//! nothing by that.

use crate::common::disk::{path_text, run};
use crate::common::machine::wait_linked;
use crate::common::volume::{Lesser, Volume};
use crate::common::{Group, Machine, PATIENCE, eventually, is_root, pace, rename, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// Machine b's folder is on the disk.
fn pair(disk: &Lesser) -> (Machine, Machine) {
    let group = Group::new();
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    b.dir = disk.folder("data");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    (a, b)
}

/// Trees differ in modes: contents are compared.
fn wait_read(machine: &Machine, name: &str, content: &str) {
    eventually(&format!("'{name}' of {} is {content:?}", machine.name), PATIENCE, || {
        let is = fs::read_to_string(machine.at(name)).map_err(|e| e.to_string())?;
        (is == content).then_some(()).ok_or(is)
    });
}

fn wait_gone(machine: &Machine, name: &str) {
    eventually(&format!("'{name}' is gone at {}", machine.name), PATIENCE, || {
        let is_there = fs::symlink_metadata(machine.at(name)).is_ok();
        if is_there { Err("it is there".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn an_edit_or_a_rename_on_a_disk_without_permissions_opens_nothing_elsewhere() {
    let name = "an_edit_or_a_rename_on_a_disk_without_permissions_opens_nothing_elsewhere";
    if !is_root(name) {
        return;
    }
    let disk = Lesser::ntfs();
    let (a, b) = pair(&disk);
    for (path, bits) in [("key", 0o600), ("d", 0o700), ("d/key", 0o600), ("script", 0o755)] {
        if path == "d" {
            fs::create_dir(a.at(path)).expect("a new folder");
        } else {
            write(a.at(path), "1\n");
        }
        set_mode(&a.at(path), bits);
    }
    for path in ["key", "d/key", "script"] {
        wait_read(&b, path, "1\n");
    }
    b.wait_log(&["no permission bits"]);
    a.wait_idle();
    for path in ["key", "d/key", "script"] {
        write(b.at(path), "22\n");
        wait_read(&a, path, "22\n");
    }
    rename(b.at("d"), b.at("e"));
    wait_read(&a, "e/key", "22\n");
    // What nobody chose permissions for is no more open than its folder, and not executable.
    write(b.at("e/new"), "3\n");
    write(b.at("new"), "4\n");
    wait_read(&a, "e/new", "3\n");
    wait_read(&a, "new", "4\n");
    wait_gone(&a, "d");
    a.wait_idle();
    let modes = [("key", 0o600), ("e", 0o700), ("e/key", 0o600), ("script", 0o755), ("e/new", 0o600), ("new", 0o644)];
    for (path, bits) in modes {
        assert_eq!(mode(&a.at(path)), bits, "{path} at a");
    }
    // A change of permissions alone reaches the disk that keeps none, and does not come back.
    set_mode(&a.at("key"), 0o640);
    a.wait_idle();
    b.restart();
    wait_linked(&[&a, &b]);
    a.wait_idle();
    assert_eq!(mode(&a.at("key")), 0o640);
    let status = b.json(&["status"]).expect("it runs");
    assert!(status["lacks"].to_string().contains("no permission bits"), "{status}");
}

#[test]
fn a_folder_on_exfat_works_and_its_daemon_is_found() {
    let name = "a_folder_on_exfat_works_and_its_daemon_is_found";
    if !is_root(name) {
        return;
    }
    let disk = Lesser::exfat();
    let (a, b) = pair(&disk);
    b.wait_log(&["the control socket is in the state directory"]);
    write(a.at("d/f"), "1\n");
    wait_read(&b, "d/f", "1\n");
    write(a.at("d/f"), "22\n");
    wait_read(&b, "d/f", "22\n");
    write(b.at("d/f"), "333\n");
    write(b.at("mine"), "4\n");
    wait_read(&a, "d/f", "333\n");
    wait_read(&a, "mine", "4\n");
    // What was replaced is in history (P2).
    assert!(b.history().iter().any(|kept| kept == b"1\n"), "the first version is in the history of b");
    // No links there: a problem of that machine alone.
    symlink("d/f", a.at("link")).expect("a new link");
    eventually("the link is a problem at b", PATIENCE, || {
        let status = b.json(&["status"])?;
        let problems = status["problems"].to_string();
        problems.contains("keeps none").then_some(()).ok_or(problems)
    });
    fs::remove_file(a.at("d/f")).expect("it is there");
    wait_gone(&b, "d/f");
    b.restart();
    pace(1000);
    assert!(fs::symlink_metadata(a.at("link")).is_ok(), "what cannot be there was not deleted elsewhere");
}

#[test]
fn of_two_names_that_a_disk_takes_for_one_the_first_is_there_and_neither_is_lost_elsewhere() {
    let name = "of_two_names_that_a_disk_takes_for_one_the_first_is_there_and_neither_is_lost_elsewhere";
    if !is_root(name) {
        return;
    }
    let disk = Lesser::exfat();
    let (a, b) = pair(&disk);
    write(a.at("README"), "upper\n");
    write(a.at("Src/one"), "1\n");
    wait_read(&b, "README", "upper\n");
    wait_read(&b, "Src/one", "1\n");
    write(a.at("Readme"), "lower\n");
    write(a.at("src/two"), "2\n");
    eventually("the second names are problems at b", PATIENCE, || {
        let problems = b.json(&["status"])?["problems"].to_string();
        (problems.contains("Readme") && problems.contains("src")).then_some(()).ok_or(problems)
    });
    // An edit there is one of the name that is there, whatever its user calls it.
    write(b.at("readme"), "upper\nedit\n");
    wait_read(&a, "README", "upper\nedit\n");
    b.restart();
    wait_linked(&[&a, &b]);
    let held = [("README", "upper\nedit\n"), ("Readme", "lower\n"), ("Src/one", "1\n"), ("src/two", "2\n")];
    for (path, content) in held {
        assert_eq!(fs::read_to_string(a.at(path)).unwrap_or_default(), content, "{path} at a");
    }
    fs::remove_file(a.at("README")).expect("it is there");
    wait_read(&b, "Readme", "lower\n");
    assert!(names(&b).contains(&"Readme".to_owned()), "{:?}", names(&b));
    assert!(a.at("Readme").exists());
}

#[test]
fn a_rename_that_only_changes_case_is_one_in_both_directions() {
    let name = "a_rename_that_only_changes_case_is_one_in_both_directions";
    if !is_root(name) {
        return;
    }
    let disk = Lesser::exfat();
    let (a, b) = pair(&disk);
    write(a.at("plain"), "1\n");
    write(a.at("Folder/inside"), "2\n");
    wait_read(&b, "plain", "1\n");
    wait_read(&b, "Folder/inside", "2\n");
    rename(a.at("plain"), a.at("Plain"));
    rename(a.at("Folder"), a.at("folder"));
    wait_names(&b, &["Plain", "folder"]);
    assert_eq!(fs::read_to_string(b.at("folder/inside")).expect("it came along"), "2\n");
    rename(b.at("Plain"), b.at("PLAIN"));
    wait_names(&a, &["PLAIN", "folder"]);
    assert_eq!(fs::read_to_string(a.at("PLAIN")).expect("it is there"), "1\n");
    wait_names(&b, &["PLAIN", "folder"]);
}

/// The folders are made at the same time: neither machine has heard of the other's.
#[test]
fn two_folders_that_a_disk_takes_for_one_are_not_mixed_when_both_are_new() {
    if !is_root("two_folders_that_a_disk_takes_for_one_are_not_mixed_when_both_are_new") {
        return;
    }
    let disk = Lesser::exfat();
    let (a, b) = pair(&disk);
    b.freeze();
    for n in 0..20 {
        write(a.at(&format!("Src/of-a-{n}")), "a\n");
    }
    pace(500);
    write(b.at("src/of-b"), "b\n");
    b.thaw();
    wait_read(&a, "src/of-b", "b\n");
    eventually("the other folder is a problem at b", PATIENCE, || {
        let problems = b.json(&["status"])?["problems"].to_string();
        problems.contains("Src").then_some(()).ok_or(problems)
    });
    let listed = |at: std::path::PathBuf| fs::read_dir(at).expect("it is there").count();
    assert_eq!((listed(a.at("src")), listed(a.at("Src")), listed(b.at("src"))), (1, 20, 1));
}

/// What its folder lists, but for our own.
fn names(machine: &Machine) -> Vec<String> {
    let listed = fs::read_dir(&machine.dir).expect("its folder").filter_map(Result::ok);
    let mut names: Vec<_> = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != ".dirsync");
    names.sort();
    names
}

fn wait_names(machine: &Machine, expected: &[&str]) {
    eventually(&format!("{} lists {expected:?}", machine.name), PATIENCE, || {
        let names = names(machine);
        (names == expected).then_some(()).ok_or(format!("{names:?}"))
    });
}

/// Btrfs lists the names that a folder had when it was opened: one that came after that, and before
/// the watch, must be listed all the same.
#[test]
fn what_comes_to_a_btrfs_folder_between_its_opening_and_its_watch_is_found() {
    if !is_root("what_comes_to_a_btrfs_folder_between_its_opening_and_its_watch_is_found") {
        return;
    }
    let disk = Volume::new("btrfs", 256);
    let group = Group::new();
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    b.dir = disk.folder("data");
    b.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "scan.watch=1000ms".to_owned())];
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    b.wait_log(&["scanned"]);
    fs::create_dir(b.at("new")).expect("a new folder");
    // The inspection that opens it as well is over when it is announced.
    eventually("the folder arrives", PATIENCE, || a.at("new").is_dir().then_some(()).ok_or_else(String::new));
    let new = b.at("new");
    eventually("b's walker opens it", PATIENCE, || {
        let open = fs::read_dir(format!("/proc/{}/fd", b.pid())).map_err(|e| e.to_string())?;
        let mut open = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        open.any(|path| path == new).then_some(()).ok_or_else(String::new)
    });
    write(b.at("new/f"), "in it");
    wait_read(&a, "new/f", "in it");
}

#[test]
fn a_btrfs_subvolume_in_the_folder_is_called_that_and_is_left_alone() {
    if !is_root("a_btrfs_subvolume_in_the_folder_is_called_that_and_is_left_alone") {
        return;
    }
    let disk = Volume::new("btrfs", 256);
    let group = Group::new();
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    b.dir = disk.folder("data");
    run("btrfs", &["-q", "subvolume", "create", path_text(&b.at("before"))]);
    write(b.at("before/f"), "in it");
    write(b.at("g"), "beside it");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    wait_read(&a, "g", "beside it");
    b.wait_log(&["'before' needs attention", "is a Btrfs subvolume", "move what is in it into a plain folder"]);
    // One that comes while the daemon runs.
    run("btrfs", &["-q", "subvolume", "create", path_text(&b.at("meanwhile"))]);
    write(b.at("meanwhile/f"), "in it");
    b.wait_log(&["'meanwhile' needs attention", "is a Btrfs subvolume"]);
    let problems = b.json(&["status"]).expect("it answers")["problems"].to_string();
    assert!(problems.contains("before") && problems.contains("meanwhile"), "{problems}");
    write(b.at("last"), "after them");
    wait_read(&a, "last", "after them");
    assert!(!a.at("before").exists() && !a.at("meanwhile").exists(), "a subvolume was synced as a folder");
    // The way out that it names.
    fs::create_dir(b.at("plain")).expect("a new folder");
    run("mv", &[path_text(&b.at("meanwhile/f")), path_text(&b.at("plain/f"))]);
    wait_read(&a, "plain/f", "in it");
    run("btrfs", &["-q", "subvolume", "delete", path_text(&b.at("meanwhile"))]);
    eventually("the problem is over", PATIENCE, || {
        let problems = b.json(&["status"])?["problems"].to_string();
        if problems.contains("meanwhile") { Err(problems) } else { Ok(()) }
    });
    assert_eq!(fs::read_to_string(b.at("before/f")).expect("it is untouched"), "in it");
}
