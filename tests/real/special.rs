//! What is left alone where it stands: special files in the way, special bits, access lists,
//! folders that may not be written.

use crate::common::disk::{chmod, copy_program, give_to, path_text, run};
use crate::common::machine::{start_all, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, pace, read, remove, write};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

fn mode(machine: &Machine, name: &str) -> u32 {
    fs::symlink_metadata(machine.at(name)).map_or(0, |facts| facts.permissions().mode() & 0o7777)
}

fn wait_mode(machine: &Machine, name: &str, due: u32) {
    eventually(&format!("'{name}' at {} has mode {due:o}", machine.name), PATIENCE, || {
        let now = mode(machine, name);
        (now == due).then_some(()).ok_or(format!("{now:o}"))
    });
}

fn problems(machine: &Machine) -> String {
    machine.json(&["status"]).expect("it answers")["problems"].to_string()
}

#[test]
fn what_a_special_file_keeps_away_is_named_costs_nothing_and_comes_when_that_is_gone() {
    let (a, b) = Group::new().pair();
    write(a.at("beside"), "1");
    converge(&[&a, &b]);
    run("mkfifo", &[path_text(&b.at("file"))]);
    let _socket = UnixListener::bind(b.at("folder")).expect("binds");
    b.wait_log(&["left alone", "folder"]);
    b.wait_log(&["left alone", "'file'"]);
    write(a.at("file"), "text");
    write(a.at("folder/in/it"), "text");
    eventually("both are named", PATIENCE, || {
        let found = problems(&b);
        let is_named =
            |path: &str, what: &str| found.contains(&format!("\"path\":\"{path}\",\"text\":\"it is a {what} here"));
        (is_named("file", "fifo") && is_named("folder", "socket")).then_some(()).ok_or(found)
    });
    // Nothing else is held up, and nothing is tried again and again.
    b.wait_log(&["received", "'beside'"]);
    let (wire, lines) = (b.wire_bytes(), b.log().lines().count());
    pace(3000);
    let sent = b.wire_bytes().0 - wire.0;
    assert!(sent < 2000 && b.log().lines().count() == lines, "{sent} bytes were sent: {}", b.log());
    write(a.at("beside"), "2");
    write(a.at("new"), "new");
    let arrives = |name: &str, text: &str| {
        eventually(&format!("'{name}' arrives"), PATIENCE, || {
            let now = fs::read_to_string(b.at(name)).unwrap_or_default();
            (now == text).then_some(()).ok_or(now)
        });
    };
    arrives("beside", "2");
    arrives("new", "new");
    assert!(fs::symlink_metadata(b.at("file")).is_ok_and(|facts| !facts.is_file()));
    remove(b.at("file"));
    remove(b.at("folder"));
    converge(&[&a, &b]);
    assert_eq!(read(b.at("folder/in/it")), b"text");
    assert_eq!(problems(&b), "[]");
}

#[test]
fn a_file_that_is_immutable_is_named_once_and_fine_again_when_it_is_replaced() {
    if !is_root("a_file_that_is_immutable_is_named_once_and_fine_again_when_it_is_replaced") {
        return;
    }
    let (a, b) = Group::new().pair();
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    run("chattr", &["+i", path_text(&b.at("f"))]);
    write(a.at("f"), "2");
    b.wait_log(&["'f'", "needs attention"]);
    pace(6000);
    run("chattr", &["-i", path_text(&b.at("f"))]);
    let log = b.log();
    converge(&[&a, &b]);
    let count =
        |log: &str, words: &str| log.lines().filter(|line| line.contains("'f'") && line.contains(words)).count();
    assert_eq!((count(&log, "needs attention"), count(&log, "is fine again")), (1, 0), "{log}");
    assert_eq!(count(&b.log(), "is fine again"), 1, "{}", b.log());
}

#[test]
fn special_bits_of_folders_outlive_a_chmod_elsewhere() {
    let (a, b) = Group::new().pair();
    fs::create_dir(a.at("team")).expect("mkdir");
    fs::create_dir(a.at("drop")).expect("mkdir");
    converge(&[&a, &b]);
    chmod(b.at("team"), 0o2775);
    chmod(b.at("drop"), 0o1777);
    wait_mode(&a, "team", 0o775);
    wait_mode(&a, "drop", 0o777);
    chmod(a.at("team"), 0o750);
    chmod(a.at("drop"), 0o755);
    wait_mode(&b, "team", 0o2750);
    wait_mode(&b, "drop", 0o1755);
    // A folder in it takes the bit, as from any mkdir.
    write(a.at("team/p/q/f"), "f");
    converge(&[&a, &b]);
    assert_eq!([mode(&b, "team/p") & 0o7000, mode(&b, "team/p/q") & 0o7000], [0o2000; 2]);
    assert_eq!(mode(&a, "team/p") & 0o7000, 0);
}

/// Go's module cache: folders and files that nobody may write.
#[test]
fn what_is_in_folders_that_may_not_be_written_comes_changes_and_goes_without_root() {
    let test = "what_is_in_folders_that_may_not_be_written_comes_changes_and_goes_without_root";
    if !is_root(test) {
        return;
    }
    let group = Group::new();
    let (a, b) = (group.machine("a"), unprivileged(&group, test));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    for n in 0..20 {
        write(a.at(&format!("mod/x@v1/in/{n}")), n.to_string());
    }
    write(a.at("mod/x@v1/f"), "1");
    let close = |close: bool| {
        for name in ["mod/x@v1/in", "mod/x@v1", "mod"] {
            chmod(a.at(name), if close { 0o555 } else { 0o755 });
        }
    };
    close(true);
    converge(&[&a, &b]);
    // By root, who may write all the same.
    write(a.at("mod/x@v1/f"), "2");
    write(a.at("mod/x@v1/in/new"), "new");
    remove(a.at("mod/x@v1/in/3"));
    write(a.at("mod/x@v2/f"), "1");
    chmod(a.at("mod/x@v2"), 0o555);
    converge(&[&a, &b]);
    assert_eq!([mode(&b, "mod"), mode(&b, "mod/x@v1"), mode(&b, "mod/x@v1/in"), mode(&b, "mod/x@v2")], [0o555; 4]);
    assert_eq!(problems(&b), "[]");
    // A folder gives way to a file, and the whole tree goes.
    remove(a.at("mod/x@v2"));
    write(a.at("mod/x@v2"), "a file");
    converge(&[&a, &b]);
    close(false);
    remove(a.at("mod"));
    assert_eq!(converge(&[&a, &b]).paths(), Vec::<String>::new());
    assert_eq!(fs::read_dir(b.at(".dirsync/opened")).expect("a folder").count(), 0);
}

/// `b`, as a user who is not root.
fn unprivileged(group: &Group, test: &str) -> Machine {
    let mut machine = group.machine("b");
    if is_root(test) {
        let copy = machine.home.join("dirsyncd");
        copy_program(&machine.binary, &copy);
        chmod(&copy, 0o755);
        machine.binary = copy;
        machine.through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
        give_to(&machine.home, 65_534, 65_534);
    }
    machine
}

#[test]
fn the_private_folder_is_no_part_of_a_git_work_tree() {
    let (a, b) = Group::new().pair();
    let git = |words: &[&str]| run("git", &[&["-C", path_text(&a.dir)], words].concat());
    git(&["init", "-q"]);
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    write(b.at("f"), "2");
    converge(&[&a, &b]);
    assert!(!a.history().is_empty());
    git(&["add", "-A"]);
    assert_eq!(git(&["ls-files"]).trim(), "f");
    git(&["clean", "-fdq"]);
    assert!(!a.history().is_empty());
}
