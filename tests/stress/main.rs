//! More events than a watcher can take, and programs that make thousands of changes at once:
//! nothing is missed, memory stays bounded.
//!
//! One test at a time: each wants the machine for itself.

#[path = "../common/mod.rs"]
mod common;

use common::disk::rename;
use common::disk::{copy_tree, path_text, run};
use common::machine::wait_linked;
use common::tree::wait_equal;
use common::{Group, Machine, converge, is_root, noise, read, start_all, write};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const QUEUED_EVENTS: &str = "/proc/sys/fs/inotify/max_queued_events";
/// A daemon of a debug build at the height of its work (bytes resident).
const PEAK_BYTES: u64 = 256 << 20;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, new watchers have room for so few events.
struct ShortQueues(String);

impl ShortQueues {
    fn of(events: u32) -> Self {
        let before = fs::read_to_string(QUEUED_EVENTS).expect("a kernel with inotify");
        fs::write(QUEUED_EVENTS, events.to_string()).expect("root may");
        Self(before)
    }
}

impl Drop for ShortQueues {
    fn drop(&mut self) {
        let _ = fs::write(QUEUED_EVENTS, &self.0);
    }
}

#[test]
fn watchers_with_a_queue_of_64_events_miss_nothing() {
    if !is_root("watchers_with_a_queue_of_64_events_miss_nothing") {
        return;
    }
    let _alone = alone();
    let queues = ShortQueues::of(64);
    let (a, b) = Group::new().pair();
    drop(queues);
    for round in 0..4 {
        // Half of the time the watcher cannot even try to keep up.
        if round % 2 == 1 {
            a.freeze();
        }
        for n in 0..2000 {
            write(a.at(&format!("d{}/e{}/f{n}", n % 40, n % 7)), noise(round * 10_000 + n, 300));
        }
        if round % 2 == 1 {
            a.thaw();
        }
        for n in 0..100 {
            write(b.at(&format!("own{}/f{n}", n % 40)), noise(round * 10_000 + 5000 + n, 300));
        }
        // Some of it goes again, some moves.
        fs::remove_dir_all(a.at(&format!("d{round}"))).expect("a folder of ours");
        rename(a.at(&format!("d{}", 10 + round)), a.at(&format!("moved{round}")));
    }
    let tree = converge(&[&a, &b]);
    assert!(tree.files() > 1900, "{}", tree.files());
    a.wait_log(&["watcher", "overflow"]);
    assert_eq!(read(b.at("d39/e4/f1999")), noise(30_000 + 1999, 300));
}

#[test]
fn a_hundred_thousand_files_made_and_removed_within_seconds_leave_nothing_and_cost_no_memory() {
    let _alone = alone();
    let group = Group::new();
    let (mut a, mut b) = (group.machine("a"), group.machine("b"));
    for machine in [&mut a, &mut b] {
        machine.options = vec!["--allow-mass-delete".to_owned()];
    }
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    write(a.at("stays"), "stays");
    for n in 0..100_000 {
        let path = a.at(&format!("d{}/f{n}", n / 500));
        if n % 500 == 0 {
            fs::create_dir(path.parent().expect("it has one")).expect("mkdir");
        }
        fs::write(path, "gone soon").expect("a file of ours");
        // A folder is gone before the next one is full.
        if n % 500 == 499 {
            fs::remove_dir_all(a.at(&format!("d{}", n / 500))).expect("a folder of ours");
        }
    }
    // b made what it heard of, and unmade it: so much work takes its time.
    wait_equal(&[&a, &b], Duration::from_mins(5));
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["stays"]);
    for machine in [&a, &b] {
        let peak = machine.peak_bytes();
        assert!(peak < PEAK_BYTES, "{} took {} MiB", machine.name, peak >> 20);
    }
}

#[test]
fn a_large_tree_moved_in_from_outside_arrives_whole() {
    let _alone = alone();
    let (a, b) = Group::new().pair();
    let outside = a.home.join("outside");
    for n in 0..6000 {
        write(outside.join(format!("p{}/q{}/f{n}", n % 20, n % 11)), noise(n, 700));
    }
    rename(&outside, a.at("inside"));
    // And out again, and in under another name, while it is inspected.
    rename(a.at("inside"), &outside);
    rename(&outside, a.at("again"));
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 6000);
    assert!(!tree.has("inside"));
    assert_eq!(read(b.at("again/p7/q10/f2947")), noise(2947, 700));
}

#[test]
fn git_checkouts_between_two_branches_of_a_large_tree_are_followed() {
    let _alone = alone();
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    start_all(&[&a, &b, &c]);
    wait_linked(&[&a, &b, &c]);
    let work = a.at("work");
    fs::create_dir(&work).expect("mkdir");
    git(&work, &["init", "-q", "-b", "one"]);
    let commit = |number: u64| {
        for n in 0..3000 {
            let folder = if n % 3 == number % 3 { "moved" } else { "stays" };
            write(work.join(format!("{folder}{}/f{n}", n % 50)), noise(n * (1 + n % 2 * number), 400));
        }
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "all"]);
    };
    commit(1);
    git(&work, &["checkout", "-q", "-b", "two"]);
    git(&work, &["rm", "-r", "-q", "."]);
    commit(2);
    for branch in ["one", "two", "one", "two", "one"] {
        git(&work, &["checkout", "-q", branch]);
    }
    converge(&[&a, &b, &c]);
    for machine in [&a, &b, &c] {
        let there = machine.at("work");
        git(&there, &["fsck", "--strict"]);
        assert_eq!(git(&there, &["status", "--porcelain"]), "", "at {}", machine.name);
        assert_eq!(git(&there, &["rev-parse", "HEAD"]), git(&work, &["rev-parse", "one"]));
    }
}

#[test]
fn a_build_inside_the_folder_arrives_whole_and_runs_on_the_other_machine() {
    let _alone = alone();
    let (a, b) = Group::new().pair();
    let program = "fn main() { println!(\"built\"); }\n";
    write(a.at("crate/src/main.rs"), program);
    write(
        a.at("crate/Cargo.toml"),
        "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    build(&a);
    // Incremental: caches are renamed and removed while they are inspected.
    write(a.at("crate/src/main.rs"), program.replace("built", "built again"));
    build(&a);
    converge(&[&a, &b]);
    let there = b.home.join("copy");
    copy_tree(&b.at("crate/target/debug/tiny"), &there);
    assert_eq!(run(path_text(&there), &[]), "built again\n");
}

fn build(machine: &Machine) {
    let (manifest, target) = (machine.at("crate/Cargo.toml"), machine.at("crate/target"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(
        &cargo,
        &["build", "-q", "--offline", "--manifest-path", path_text(&manifest), "--target-dir", path_text(&target)],
    );
}

fn git(folder: &Path, args: &[&str]) -> String {
    let fixed = ["-c", "user.name=u", "-c", "user.email=u@h", "-c", "gc.auto=0", "-c", "safe.directory=*"];
    run("git", &[&["-C", path_text(folder)], &fixed[..], args].concat())
}
