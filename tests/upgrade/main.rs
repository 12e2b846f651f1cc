//! The last version that knows no feature of protocol 1, beside this one and before it.
//!
//! Its commit is in `protocol-1`. Its programs are built from the repository's own history, once,
//! into `target/upgrade/`.

#[path = "../common/mod.rs"]
mod common;

use common::disk::{copy_tree, peek};
use common::machine::{text_of, wait_linked};
use common::{Group, Machine, converge, eventually, noise, read, remove, rename, write};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const COMMIT: &str = include_str!("protocol-1");

/// The folder with both programs of that commit.
fn old_programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let ours = Path::new(env!("CARGO_BIN_EXE_dirsyncd")).parent().expect("the profile's folder");
        let home = ours.parent().expect("the target folder").join("upgrade");
        fs::create_dir_all(&home).expect("a folder below the target folder");
        // Another test run may be building them: the name comes last, so what has it is whole.
        let lock = File::create(home.join("lock")).expect("a file to lock");
        lock.lock().expect("the lock");
        let programs = home.join(COMMIT.trim());
        if !programs.exists() {
            build(&home, ours, &programs);
        }
        programs
    })
}

fn build(home: &Path, ours: &Path, programs: &Path) {
    let (source, archive, built) = (home.join("source"), home.join("source.tar"), home.join("build"));
    for left in [&source, &built] {
        let _ = fs::remove_dir_all(left);
    }
    fs::create_dir_all(&source).expect("an empty folder");
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "archive", "--output"]).arg(&archive).arg(COMMIT.trim());
    assert!(
        git.status().is_ok_and(|ended| ended.success()),
        "git finds no commit {}, which tests/upgrade/protocol-1 names, in the history of this folder: \
         clone the repository with its history, or run 'git fetch --unshallow'",
        COMMIT.trim()
    );
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source));
    lend_libraries(ours, &built.join("debug"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--bins", "--target-dir"]).arg(&built);
    // Nothing here waits for its code to be fast, but for its compiler.
    cargo.args(["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"]);
    run(cargo.current_dir(&source).env_remove("RUSTFLAGS"));
    let unnamed = home.join("unnamed");
    let _ = fs::remove_dir_all(&unnamed);
    fs::create_dir(&unnamed).expect("an empty folder");
    for name in ["dirsyncd", "dirsync"] {
        fs::rename(built.join("debug").join(name), unnamed.join(name)).expect("the program that was built");
    }
    fs::rename(unnamed, programs).expect("the programs get their name");
    for left in [&source, &built] {
        let _ = fs::remove_dir_all(left);
    }
    let _ = fs::remove_file(archive);
}

/// Most libraries of that commit are those of this one, and compiled already: cargo takes what
/// fits. A compiler's output is never written to again, so links do; cargo's own notes are copied.
fn lend_libraries(ours: &Path, theirs: &Path) {
    fs::create_dir_all(theirs.join("deps")).expect("a folder");
    for notes in [".fingerprint", "build"] {
        copy_tree(&ours.join(notes), &theirs.join(notes));
    }
    for file in fs::read_dir(ours.join("deps")).expect("the libraries of this build") {
        let file = file.expect("a name").path();
        let is_library = file.extension().is_some_and(|kind| ["rlib", "rmeta", "so", "d"].iter().any(|k| kind == *k));
        if is_library {
            let name = file.file_name().expect("a file of that folder");
            fs::hard_link(&file, theirs.join("deps").join(name)).expect("a link within the target folder");
        }
    }
}

fn run(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).status().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(ended.success(), "{command:?} ended with {ended}");
}

fn old_machine(group: &Group, name: &str) -> Machine {
    let mut machine = group.machine(name);
    runs(&mut machine, old_programs());
    machine
}

fn runs(machine: &mut Machine, programs: &Path) {
    (machine.binary, machine.client) = (programs.join("dirsyncd"), programs.join("dirsync"));
}

fn new_programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dirsyncd")).parent().expect("the profile's folder")
}

fn device(machine: &Machine) -> String {
    let status = machine.json(&["status"]).expect("a status");
    status["device"].as_str().expect("a device").to_owned()
}

/// Work of all kinds on one machine, in a folder of its own.
fn works(machine: &Machine, folder: &str) {
    let at = |name: &str| machine.at(&format!("{folder}/{name}"));
    for n in 0..20 {
        write(at(&format!("small/{n}")), noise(n, 3000));
    }
    write(at("large"), noise(77, 3 << 20));
    write(at("to-be-moved/inside"), "moved");
    write(at("to-be-deleted"), "deleted");
    symlink("small/1", at("link")).expect("a link");
}

/// What follows on that, once it is everywhere.
fn works_on(machine: &Machine, folder: &str) {
    let at = |name: &str| machine.at(&format!("{folder}/{name}"));
    let mut large = noise(77, 3 << 20);
    large[1 << 20..][..1000].fill(7);
    write(at("large"), large);
    write(at("small/3"), "edited");
    rename(at("to-be-moved"), at("moved"));
    remove(at("to-be-deleted"));
}

#[test]
fn a_machine_of_protocol_1_and_one_of_this_version_keep_one_folder() {
    let group = Group::new();
    let (old, new) = (old_machine(&group, "old"), group.machine("new"));
    old.start();
    new.start();
    wait_linked(&[&old, &new]);
    works(&old, "of-old");
    works(&new, "of-new");
    converge(&[&old, &new]);
    // Each goes on with what the other began, too.
    works_on(&old, "of-new");
    works_on(&new, "of-old");
    let tree = converge(&[&old, &new]);
    for folder in ["of-old", "of-new"] {
        for name in ["link", "moved/inside", "large"] {
            assert!(tree.has(format!("{folder}/{name}")), "{folder}/{name}");
        }
        for name in ["to-be-deleted", "to-be-moved", "to-be-moved/inside"] {
            assert!(!tree.has(format!("{folder}/{name}")), "{folder}/{name}");
        }
        assert_eq!(read(new.at(&format!("{folder}/small/3"))), b"edited");
    }
    // What happened while the other was off.
    old.stop();
    write(new.at("while-off"), "new");
    remove(new.at("of-old/small/1"));
    old.start();
    let tree = converge(&[&old, &new]);
    assert!(tree.has("while-off") && !tree.has("of-old/small/1"));
}

#[test]
fn dirsync_of_this_version_asks_a_daemon_of_protocol_1_that_was_not_restarted_yet() {
    let group = Group::new();
    let mut old = old_machine(&group, "old");
    old.start();
    write(old.at("file"), "seen");
    old.wait_idle();
    old.client = new_programs().join("dirsync");
    old.wait_idle();
    for asked in [&["status"][..], &["peers"], &["ls"], &["log"], &["history"], &["conflicts"], &["verify", "--status"]]
    {
        let answer = old.cli(asked);
        assert!(answer.status.success(), "dirsync {asked:?}: {}", text_of(&answer));
    }
    assert_eq!(old.json(&["ls"]).expect("a list")["entries"][0]["path"], "file");
}

#[test]
fn a_machine_that_is_upgraded_in_place_stays_the_same_device_and_loses_nothing() {
    let group = Group::new();
    let (mut upgraded, other) = (old_machine(&group, "upgraded"), old_machine(&group, "other"));
    upgraded.start();
    other.start();
    wait_linked(&[&upgraded, &other]);
    works(&upgraded, "work");
    converge(&[&upgraded, &other]);
    let device_before = device(&upgraded);
    upgraded.stop();
    write(upgraded.at("made-while-off"), "kept");
    remove(upgraded.at("work/to-be-deleted"));
    write(other.at("work/small/2"), "edited by the other");
    runs(&mut upgraded, new_programs());
    upgraded.start();
    assert_eq!(device(&upgraded), device_before);
    wait_linked(&[&upgraded, &other]);
    let tree = converge(&[&upgraded, &other]);
    assert!(tree.has("made-while-off") && tree.has("work/large") && !tree.has("work/to-be-deleted"));
    assert_eq!(read(upgraded.at("work/small/2")), b"edited by the other");
    assert_eq!(upgraded.json(&["held"]).expect("an answer")["deletions"], 0, "no deletion was made up");
}

#[test]
fn a_machine_that_goes_back_to_the_old_version_stays_the_same_device_and_loses_nothing() {
    let group = Group::new();
    let (mut back, other) = (group.machine("back"), group.machine("other"));
    back.start();
    other.start();
    wait_linked(&[&back, &other]);
    works(&back, "work");
    converge(&[&back, &other]);
    let device_before = device(&back);
    back.stop();
    write(other.at("work/small/2"), "edited by the other");
    remove(other.at("work/to-be-deleted"));
    runs(&mut back, old_programs());
    back.start();
    assert_eq!(device(&back), device_before);
    wait_linked(&[&back, &other]);
    let tree = converge(&[&back, &other]);
    assert!(tree.has("work/large") && tree.has("work/link") && !tree.has("work/to-be-deleted"));
    assert_eq!(read(back.at("work/small/2")), b"edited by the other");
}

#[test]
fn a_reader_hears_of_an_old_writer_s_changes_from_a_new_one_and_neither_takes_its_own() {
    let group = Group::new();
    let (old, new, mut reader) = (old_machine(&group, "old"), group.machine("new"), group.machine("reader"));
    old.start();
    new.start();
    wait_linked(&[&old, &new]);
    let invited = new.json(&["invite", "--read-only"]).expect("an invitation");
    reader.names_secret = false;
    reader.options = vec!["--join".to_owned(), invited["code"].as_str().expect("a code").to_owned()];
    reader.start();
    wait_linked(&[&new, &reader]);
    write(old.at("of-the-old"), "old");
    write(reader.at("of-the-reader"), "local");
    eventually("the reader has what the old one wrote", common::PATIENCE, || {
        peek(reader.at("of-the-old")).filter(|bytes| bytes == b"old").map(|_| ()).ok_or("no".to_owned())
    });
    eventually("the reader has seen its own file", common::PATIENCE, || {
        let local = reader.json(&["status"])?["condition"]["local"].clone();
        (local == 1).then_some(()).ok_or(local.to_string())
    });
    assert_eq!(reader.linked_peers().expect("an answer"), ["new"], "an old version cannot know a reader");
    write(new.at("after-it"), "new");
    converge(&[&old, &new]);
    for machine in [&old, &new] {
        assert!(!machine.at("of-the-reader").exists(), "{} took a reader's file", machine.name);
    }
}
