//! Errors of the disk: full, failing, forbidden, read-only, out of descriptors. The daemon says
//! what and where and what to do, keeps serving, and goes on by itself when the cause is gone.

use std::path::Path;
use std::time::Duration;

use crate::common::disk::{give_to, path_text, run};
use crate::common::machine::{find_line, wait_linked};
use crate::common::volume::{Small, Volume};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, pace, read, remove, write};
use crate::work::{change, check, prepare};

/// Points where a system call can fail, and that the usual work passes.
const FAILING: [&str; 20] = [
    "stage.create",
    "stage.write",
    "stage.dress",
    "stage.fsync",
    "stage.syncfs",
    "fetch.create",
    "fetch.write",
    "history.path",
    "install.move",
    "install.exchange",
    "install.add",
    "install.folder-remove",
    "install.delete",
    "install.mode",
    "install.fsync",
    "install.syncfs",
    "look.folder-fsync",
    "look.syncfs",
    "look.read",
    "scan.stat",
];
/// Those of them that take space.
const QUOTA: [&str; 6] = ["stage.create", "stage.write", "stage.fsync", "fetch.write", "install.move", "install.add"];
/// So many daemons at once: they mostly wait for their next try.
const AT_ONCE: usize = 10;

/// The first two passages of a point fail with this error.
fn fail_and_recover(point: &str, error: &str, said: &str) {
    let (mut a, b) = Group::new().pair();
    (0..2).for_each(|round| prepare(&b, round));
    converge(&[&a, &b]);
    a.stop();
    let rule = format!("{point}:1-2={error}");
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), rule.clone())];
    a.start();
    let pid = a.pid();
    wait_linked(&[&a, &b]);
    let has_said = || find_line(&a.log(), &["cannot", said]).is_some();
    let expected = change(&a, &b, 0);
    converge(&[&a, &b]);
    check(&a, &b, 0, &rule, &expected);
    if !has_said() {
        // It came in small batches, each made durable by itself: now all at once.
        a.freeze();
        let expected = change(&a, &b, 1);
        a.thaw();
        converge(&[&a, &b]);
        check(&a, &b, 1, &rule, &expected);
    }
    assert!(a.exit_status().is_none() && a.pid() == pid, "a ended because of {rule}");
    assert!(has_said(), "the log does not say that {rule}");
    await_no_problems(&a, SECOND_TRY);
}

/// What could not be inspected is a problem until it is tried again: 2 s later, then 4 s, then
/// after longer. A point fails twice at the most.
const SECOND_TRY: Duration = Duration::from_secs(15);

fn await_no_problems(machine: &Machine, within: Duration) {
    eventually("no problem is left", within, || {
        let problems = &machine.json(&["status"]).expect("it answers")["problems"];
        if *problems == serde_json::json!([]) { Ok(()) } else { Err(problems.to_string()) }
    });
}

fn fail_everywhere(points: &[&'static str], error: &'static str, said: &'static str) {
    for points in points.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for point in points {
                scope.spawn(move || fail_and_recover(point, error, said));
            }
        });
    }
}

/// As a mount of a dead FUSE server is, or a damaged inode.
#[test]
fn what_cannot_be_looked_at_hides_nothing_else_in_its_folder() {
    let (mut a, b) = Group::new().pair();
    a.stop();
    write(a.at("d/f"), "found");
    for n in 0..5 {
        write(a.at(&format!("d/e{n}/f")), "found");
    }
    // Of the first two names that come by, and of those alone, nothing is known at first.
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "scan.stat:2-3=EIO".to_owned())];
    a.start();
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 6);
    await_no_problems(&a, SECOND_TRY);
    // What came by then is watched.
    for n in 0..5 {
        write(a.at(&format!("d/e{n}/late")), "watched");
    }
    assert_eq!(converge(&[&a, &b]).files(), 11);
}

#[test]
fn after_an_io_error_at_any_step_everything_arrives_and_nothing_counts_as_durable_too_early() {
    fail_everywhere(&FAILING, "EIO", "Input/output error");
}

#[test]
fn after_a_full_disk_at_any_step_everything_arrives() {
    fail_everywhere(&FAILING, "ENOSPC", "No space left");
}

#[test]
fn after_a_spent_quota_at_any_step_that_takes_space_everything_arrives() {
    fail_everywhere(&QUOTA, "EDQUOT", "quota");
}

#[test]
fn a_file_that_could_not_be_made_durable_is_not_told_until_it_is_written_again() {
    let (mut a, b) = Group::new().pair();
    a.stop();
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "look.fsync:1=EIO".to_owned())];
    a.start();
    wait_linked(&[&a, &b]);
    write(a.at("f"), "its pages are lost");
    a.wait_log(&["cannot make durable", "'f'", "save the file again"]);
    // The kernel calls it clean now: what must not be believed would be told at the next
    // inspection, seconds later.
    pace(5000);
    assert!(!b.at("f").exists(), "it was told though it is not durable");
    write(a.at("f"), "saved again");
    converge(&[&a, &b]);
    assert_eq!(read(b.at("f")), b"saved again");
}

#[test]
fn a_full_disk_stops_fetching_and_nothing_else_until_there_is_room() {
    if !is_root("a_full_disk_stops_fetching_and_nothing_else_until_there_is_room") {
        return;
    }
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let disk = Small::new(&a.dir, 12 << 10);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    write(b.at("first"), noise(1, 100_000));
    converge(&[&a, &b]);
    for n in 0..20 {
        write(b.at(&format!("large-{n}")), noise(10 + n, 1 << 20));
    }
    a.wait_log(&["space"]);
    // What is here is still served, and its own user's changes travel.
    remove(a.at("first"));
    eventually("the deletion is at b", PATIENCE, || (!b.at("first").exists()).then_some(()).ok_or("not yet".into()));
    disk.resize(64 << 10);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 20);
}

/// It would come anew, and fill the disk anew, for ever.
#[test]
fn a_file_that_is_too_large_for_the_disk_comes_once_and_keeps_nothing_else_away() {
    if !is_root("a_file_that_is_too_large_for_the_disk_comes_once_and_keeps_nothing_else_away") {
        return;
    }
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let disk = Small::new(&a.dir, 32 << 10);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    write(b.at("large"), noise(1, 64 << 20));
    a.wait_log(&["space"]);
    write(b.at("medium"), noise(2, 16 << 20));
    write(b.at("small"), "small");
    eventually("the others are here", Duration::from_secs(90), || {
        (a.at("medium").exists() && a.at("small").exists()).then_some(()).ok_or("not yet".into())
    });
    a.wait_log(&["'large'", "has no room for 64.0 MiB"]);
    // As much of it as the disk holds came once, beside what was on its way (32 MiB at the most),
    // and all of the others.
    let received = a.wire_bytes().1 >> 20;
    assert!(received < 32 + 32 + 16 + 4, "{received} MiB came");
    // Longer than it waits between two tries: that nothing comes has no event.
    pace(40_000);
    let later = a.wire_bytes().1 >> 20;
    assert!(later <= received + 1, "{} MiB more came", later - received);
    disk.resize(256 << 10);
    eventually("the large one is here", Duration::from_secs(90), || {
        a.at("large").exists().then_some(()).ok_or("not yet".into())
    });
    converge(&[&a, &b]);
}

#[test]
fn a_content_that_cannot_be_put_in_its_place_comes_once() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "install.add:1-5=EACCES".to_owned())];
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    write(b.at("large"), noise(1, 24 << 20));
    a.wait_log(&["'large'", "cannot create"]);
    eventually("it is in its place", Duration::from_secs(90), || {
        a.at("large").exists().then_some(()).ok_or("not yet".into())
    });
    converge(&[&a, &b]);
    let received = a.wire_bytes().1 >> 20;
    assert!((24..28).contains(&received), "{received} MiB came");
}

/// Of btrfs: quotas of the others need what few kernels have.
#[test]
fn a_spent_quota_stops_fetching_and_nothing_else_until_it_is_raised() {
    if !is_root("a_spent_quota_stops_fetching_and_nothing_else_until_it_is_raised") {
        return;
    }
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    let volume = Volume::new("btrfs", 400);
    let data = volume.path().join("data");
    let limit = |bytes: &str| run("btrfs", &["qgroup", "limit", bytes, path_text(&data)]);
    run("btrfs", &["quota", "enable", path_text(volume.path())]);
    run("btrfs", &["subvolume", "create", path_text(&data)]);
    limit("12M");
    a.dir.clone_from(&data);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    write(b.at("first"), noise(1, 100_000));
    write(a.at("mine"), noise(2, 100_000));
    converge(&[&a, &b]);
    for n in 0..20 {
        write(b.at(&format!("large-{n}")), noise(10 + n, 1 << 20));
    }
    a.wait_log(&["cannot", "quota exceeded", "raise the quota"]);
    // What its own user does still travels. Not a rename: btrfs refused one (EDQUOT) where the
    // quota was spent to the last page.
    remove(a.at("mine"));
    eventually("the deletion is at b", PATIENCE, || (!b.at("mine").exists()).then_some(()).ok_or("not yet".into()));
    limit("200M");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 21);
    await_no_problems(&a, PATIENCE);
    a.stop();
}

#[test]
fn a_disk_that_does_not_answer_is_named_until_it_does() {
    let (mut a, b) = Group::new().pair();
    a.stop();
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "install.fsync:1=42000ms".to_owned())];
    a.start();
    wait_linked(&[&a, &b]);
    write(b.at("f"), "bytes");
    let has_said = |words: &[&str]| find_line(&a.log(), words).map(drop).ok_or("not yet".to_owned());
    eventually("it is said", PATIENCE, || has_said(&["the disk", "durable 3", "has not answered"]));
    let status = a.json(&["status"]).expect("it answers");
    assert!(status["disk_stalled_s"].as_u64().is_some_and(|seconds| seconds >= 30), "{status}");
    eventually("it is over", PATIENCE, || has_said(&["the disk", "has answered, after more than"]));
    converge(&[&a, &b]);
    let status = a.json(&["status"]).expect("it answers");
    assert!(status["disk_stalled_s"].is_null(), "{status}");
}

#[test]
fn a_full_disk_of_the_index_stops_syncing_until_there_is_room() {
    if !is_root("a_full_disk_of_the_index_stops_syncing_until_there_is_room") {
        return;
    }
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let disk = Small::new(&a.state, 2 << 10);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    for n in 0..6000 {
        write(b.at(&format!("d{}/{}-{n}", n % 40, "a-name-of-some-length-".repeat(5))), format!("{n}"));
    }
    a.wait_log(&["the index could not be written", "full"]);
    let pid = a.pid();
    disk.resize(64 << 10);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 6000);
    assert!(a.exit_status().is_none() && a.pid() == pid, "it must go on by itself");
}

#[test]
fn a_disk_that_is_remounted_read_only_is_named_and_served_until_it_is_writable_again() {
    if !is_root("a_disk_that_is_remounted_read_only_is_named_and_served_until_it_is_writable_again") {
        return;
    }
    let volume = Volume::new("ext4", 64);
    let group = Group::new();
    let (mut a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    a.dir = volume.folder("data");
    a.start();
    b.start();
    write(a.at("f"), "before");
    write(a.at("other"), noise(3, 400_000));
    converge(&[&a, &b]);
    volume.set("ro");
    write(b.at("f"), "edited at b");
    a.wait_log(&["'f'", "Read-only", "read-write"]);
    b.stop();
    // Whoever joins gets from a what it has.
    c.start();
    wait_linked(&[&a, &c]);
    eventually("c got it from a", PATIENCE, || c.at("other").exists().then_some(()).ok_or("not yet".into()));
    volume.set("rw");
    b.start();
    converge(&[&a, &b, &c]);
    assert_eq!(read(a.at("f")), b"edited at b");
}

#[test]
fn without_descriptors_it_says_so_and_goes_on_when_it_has_some() {
    let (a, b) = (Group::new()).pair();
    let mut written = 0;
    eventually("a says that it has no descriptors", PATIENCE, || {
        forbid_more_descriptors(&a);
        write(b.at(&format!("d{written}/f")), noise(written, 3000));
        write(a.at(&format!("own{written}/f")), noise(1000 + written, 3000));
        written += 1;
        find_line(&a.log(), &["open files"]).ok_or_else(|| format!("not a word after {written} files"))
    });
    run("prlimit", &["--pid", &a.pid().to_string(), "--nofile=4096:4096"]);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files() as u64, 2 * written);
}

/// A new descriptor is the lowest free number: with that for its limit, the daemon gets none before
/// it closes one.
fn forbid_more_descriptors(machine: &Machine) {
    let pid = machine.pid();
    let is_free = |fd: &u32| !Path::new(&format!("/proc/{pid}/fd/{fd}")).is_symlink();
    let limit = (0..4096).find(is_free).expect("some number is free");
    run("prlimit", &["--pid", &pid.to_string(), &format!("--nofile={limit}:4096")]);
}

#[test]
fn a_folder_that_may_not_be_written_is_named_and_filled_when_it_may() {
    if !is_root("a_folder_that_may_not_be_written_is_named_and_filled_when_it_may") {
        return;
    }
    let group = Group::new();
    let (a, b) = (unprivileged(&group, "a"), group.machine("b"));
    a.start();
    b.start();
    write(b.at("d/f"), "before");
    converge(&[&a, &b]);
    // Root's, all at once: its user cannot put anything into it any more.
    give_to(&a.at("d"), 0, 0);
    write(b.at("d/new"), "new");
    a.wait_log(&["'d/new'", "Permission denied", "give the daemon's user access"]);
    give_to(&a.at("d"), 65534, 65534);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 2);
}

/// A machine whose daemon is nobody's.
fn unprivileged(group: &Group, name: &str) -> Machine {
    let mut machine = group.machine(name);
    // The build folder need not be open to others.
    let binary = machine.home.join("dirsyncd");
    run("cp", &[path_text(&machine.binary), path_text(&binary)]);
    machine.binary = binary;
    machine.through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
    give_to(&machine.home, 65534, 65534);
    machine
}
