//! Files that are saved: whole (P1), soon, and however the editor does it.

use crate::common::disk::{copy_tree, peek};
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, noise, pace, read, remove, rename, setting, swap_in, wait_equal,
    write,
};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Polls `path` while `work` runs: it is always there, and always one byte value throughout.
/// Returns the values seen.
fn watched_by_a_reader(path: &Path, size: usize, work: impl FnOnce()) -> BTreeSet<u8> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let bytes = fs::read(path).unwrap_or_else(|e| panic!("the reader finds it missing: {e}"));
                assert_eq!(bytes.len(), size, "the reader finds it short or long");
                assert!(bytes.iter().all(|&b| b == bytes[0]), "the reader finds two versions mixed");
                seen.insert(bytes[0]);
            }
            seen
        });
        let guard = SetOnDrop(&done);
        work();
        drop(guard);
        reader.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// Ends the reader also when the work panics, or the scope would wait for it for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reader_never_sees_a_path_missing_or_mixed_during_1000_replacements() {
    let (a, b) = Group::new().pair();
    let size = 20_000;
    swap_in(a.at("f"), vec![0; size]);
    converge(&[&a, &b]);
    let seen = watched_by_a_reader(&b.at("f"), size, || {
        for round in 1..=1000_u32 {
            swap_in(a.at("f"), vec![(round % 256) as u8; size]);
            // Every tenth is awaited, so that many replacements are really installed at the
            // reader's side.
            if round % 10 == 0 {
                wait_equal(&[&a, &b], PATIENCE);
            }
        }
    });
    assert!(seen.len() > 50, "the reader saw only {} versions", seen.len());
    converge(&[&a, &b]);
}

#[test]
fn a_file_saved_by_truncate_and_write_arrives_whole_and_never_empty() {
    let (a, b) = Group::new().pair();
    let size = 40_000;
    write(a.at("f"), vec![0; size]);
    converge(&[&a, &b]);
    watched_by_a_reader(&b.at("f"), size, || {
        for round in 1..=40 {
            let mut file = File::create(a.at("f")).expect("truncates");
            // What a slow program does between its open and its first write.
            pace(30);
            file.write_all(&vec![round; size]).expect("writes");
            drop(file);
            wait_equal(&[&a, &b], PATIENCE);
        }
    });
}

#[test]
fn of_2000_files_rewritten_at_once_all_are_right_everywhere() {
    let (a, b) = Group::new().pair();
    for round in 0..2_u64 {
        for n in 0..2000_u64 {
            write(a.at(&format!("d{}/f{n}", n % 20)), noise(round * 10_000 + n, 1000 + n as usize % 3000));
        }
        let tree = converge(&[&a, &b]);
        assert_eq!(tree.files(), 2000);
    }
    assert_eq!(read(b.at("d7/f1987")), noise(11_987, 1000 + 1987));
}

#[test]
fn an_edit_arrives_within_a_second() {
    let (a, b) = Group::new().pair();
    let mut taken = Vec::new();
    for round in 0..20 {
        let bytes = format!("edit {round}");
        write(a.at("f"), &bytes);
        let start = Instant::now();
        eventually("the edit is there", PATIENCE, || {
            (peek(b.at("f")).as_deref() == Some(bytes.as_bytes())).then_some(()).ok_or("not yet".to_owned())
        });
        taken.push(start.elapsed());
    }
    taken.sort();
    assert!(taken[10] < Duration::from_secs(1), "half of the edits took over {:?}", taken[10]);
}

#[test]
fn what_editors_and_tools_do_to_save_a_file_arrives() {
    let (a, b) = Group::new().pair();
    write(a.at("text"), "first");
    converge(&[&a, &b]);

    // vim: the old one becomes a backup, a new one is written, the backup goes.
    rename(a.at("text"), a.at("text~"));
    write(a.at("text"), "by vim");
    remove(a.at("text~"));
    converge(&[&a, &b]);
    assert_eq!(read(b.at("text")), b"by vim");

    // emacs: a lock that is a dangling link, a hard-linked backup, a write in place.
    std::os::unix::fs::symlink("user@host.123", a.at(".#text")).expect("a link");
    fs::hard_link(a.at("text"), a.at("text.bak")).expect("a second name");
    remove(a.at("text"));
    write(a.at("text"), "by emacs");
    remove(a.at(".#text"));
    converge(&[&a, &b]);
    assert_eq!(read(b.at("text")), b"by emacs");
    assert_eq!(read(b.at("text.bak")), b"by vim");

    // rsync and git: a temporary name, then a rename over it.
    write(a.at(".text.Xa1b2"), "by rsync");
    rename(a.at(".text.Xa1b2"), a.at("text"));
    converge(&[&a, &b]);
    assert_eq!(read(b.at("text")), b"by rsync");

    // cp -a of a whole tree into the folder.
    let outside = a.home.join("outside");
    for n in 0..50 {
        write(outside.join(format!("x{n}/y/z")), format!("{n}"));
    }
    copy_tree(&outside, &a.at("tree"));
    let tree = converge(&[&a, &b]);
    assert!(tree.has("tree/x49/y/z"));
}

#[test]
fn a_file_written_through_one_of_two_hard_links_is_not_written_through_at_the_peer() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "old");
    converge(&[&a, &b]);
    let other_name = b.home.join("a hard link outside");
    fs::hard_link(b.at("f"), &other_name).expect("a second name");
    write(a.at("f"), "new");
    converge(&[&a, &b]);
    assert_eq!(read(other_name), b"old");
}

#[test]
fn a_file_that_grows_all_the_time_is_never_more_than_3_seconds_behind() {
    let (a, b) = Group::new().pair();
    let seconds = setting("DIRSYNC_APPEND_SECONDS", 20);
    let behind = Duration::from_secs(3);
    let mut grown: Vec<(Instant, u64)> = Vec::new();
    let mut expected = Vec::new();
    let start = Instant::now();
    let mut line = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        line += 1;
        let text = format!("line {line} of a log\n");
        let mut log = OpenOptions::new().append(true).create(true).open(a.at("log")).expect("opens");
        log.write_all(text.as_bytes()).expect("appends");
        drop(log);
        expected.extend_from_slice(text.as_bytes());
        grown.push((Instant::now(), expected.len() as u64));
        pace(100);
        let there = peek(b.at("log")).unwrap_or_default();
        assert!(expected.starts_with(&there), "the peer holds something that never was");
        let due = grown.iter().rev().find(|(at, _)| at.elapsed() > behind).map_or(0, |&(_, len)| len);
        assert!(there.len() as u64 >= due, "the peer has {} bytes; 3 s ago there were {due}", there.len());
    }
    converge(&[&a, &b]);
    assert_eq!(read(b.at("log")), expected);
}

#[test]
fn a_file_that_is_open_for_writing_all_the_time_arrives_without_being_closed() {
    let (a, b) = Group::new().pair();
    arrives_without_being_closed(&a, &b);
}

/// Under load an `fsync` takes longer than such a file rests.
#[test]
fn a_slow_disk_does_not_keep_a_file_back_that_is_written_all_the_time() {
    let group = Group::new();
    let mut a = group.machine("a");
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "look.fsync=300ms".to_owned())];
    a.start();
    let b = group.machine("b");
    b.start();
    converge(&[&a, &b]);
    arrives_without_being_closed(&a, &b);
}

fn arrives_without_being_closed(a: &Machine, b: &Machine) {
    let mut file = File::create(a.at("open")).expect("creates");
    let mut expected = Vec::new();
    let mut seen_at_peer = BTreeSet::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        let text = format!("record {}\n", expected.len());
        file.write_all(text.as_bytes()).expect("writes");
        expected.extend_from_slice(text.as_bytes());
        pace(40);
        seen_at_peer.extend(peek(b.at("open")).map(|bytes| bytes.len()));
    }
    assert!(seen_at_peer.len() >= 2, "it never rested for 7 s and was sent {} times", seen_at_peer.len());
    wait_equal(&[a, b], PATIENCE);
    assert_eq!(read(b.at("open")), expected);
    drop(file);
    converge(&[a, b]);
}

#[test]
fn a_small_edit_overtakes_a_large_file() {
    let (a, b) = Group::new().pair();
    let large = noise(1, 128 << 20);
    write(a.at("large"), &large);
    eventually("the large file is on its way", PATIENCE, || {
        let staged = fs::read_dir(b.at(".dirsync/staging")).map_err(|e| e.to_string())?;
        if staged.count() > 0 || b.at("large").exists() { Ok(()) } else { Err("nothing is staged".to_owned()) }
    });
    for n in 0..10 {
        let start = Instant::now();
        write(a.at(&format!("small{n}")), "small");
        eventually("the small file is there", PATIENCE, || {
            b.at(&format!("small{n}")).exists().then_some(()).ok_or("not yet".to_owned())
        });
        assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    }
    converge(&[&a, &b]);
    assert_eq!(blake3::hash(&read(b.at("large"))), blake3::hash(&large));
}

#[test]
fn a_large_file_costs_neither_end_memory_that_grows_with_it() {
    let (a, b) = Group::new().pair();
    write(a.at("warm"), noise(1, 1 << 20));
    converge(&[&a, &b]);
    write(a.at("large"), noise(2, 256 << 20));
    converge(&[&a, &b]);
    for machine in [&a, &b] {
        let peak = machine.peak_bytes() >> 20;
        assert!(peak < 120, "{} needed {peak} MiB for a file of 256", machine.name);
    }
}

#[test]
fn files_of_every_size_around_the_limits_of_the_protocol_arrive() {
    let (a, b) = Group::new().pair();
    let limits = [0, 1, 4096, 64 << 10, 128 << 10, 1 << 20, 2 << 20, 5 << 20];
    for (n, limit) in limits.into_iter().enumerate() {
        for size in [limit - 1, limit, limit + 1] {
            if size >= 0 {
                write(a.at(&format!("{size}")), noise(n as u64, size as usize));
                write(b.at(&format!("zeros{size}")), vec![0; size as usize]);
            }
        }
    }
    let tree = converge(&[&a, &b]);
    assert!(tree.files() >= 40);
}
