//! Bit rot on real disks: a byte of the image below a mounted file system changes, and nothing says
//! so.

use crate::common::clock::{library, set, unhinge};
use crate::common::disk::run;
use crate::common::machine::{text_of, wait_linked};
use crate::common::volume::{Small, Volume};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, read, remove, write};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const PHOTO: &str = "d/photo";

/// Everything that the index keeps of a file's stat.
fn stat(path: &Path) -> (u64, (i64, i64), (i64, i64), u64, u32) {
    let stat = fs::metadata(path).expect("it is there");
    (stat.size(), (stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()), stat.ino(), stat.mode())
}

/// Machine a has its folder on a disk of its own, b elsewhere; both hold the photo. The photo, and
/// what it rots into.
struct Bench {
    volume: Volume,
    a: Machine,
    b: Machine,
    good: Vec<u8>,
    rotten: Vec<u8>,
}

impl Bench {
    fn new(kind: &str) -> Self {
        let (volume, group) = (Volume::new(kind, 512), Group::new());
        let (mut a, b) = (group.machine("a"), group.machine("b"));
        a.dir = volume.folder("data");
        let good = noise(7, 300_000);
        let mut rotten = good.clone();
        rotten[200_000] ^= 4;
        write(a.at(PHOTO), &good);
        write(a.at("d/other"), "other");
        a.start();
        b.start();
        wait_linked(&[&a, &b]);
        converge(&[&a, &b]);
        Self { volume, a, b, good, rotten }
    }

    /// One bit of the photo changes at a, on the disk alone.
    fn rot(&self) {
        let before = stat(&self.a.at(PHOTO));
        self.volume.rot(&self.good[199_980..200_020], &self.rotten[199_980..200_020]);
        assert_eq!(stat(&self.a.at(PHOTO)), before);
    }
}

/// `dirsync verify ... --json`, until no file was passed over for being too young; whether it ended
/// well, and what it said.
fn verify(machine: &Machine, more: &[&str]) -> (bool, Value) {
    eventually("every file is old enough to be judged", PATIENCE, || {
        let out = machine.cli(&[&["verify", "--json"], more].concat());
        let said: Value = serde_json::from_slice(&out.stdout).map_err(|e| format!("{e}: {}", text_of(&out)))?;
        (said["run"]["passed_over"] == 0).then_some((out.status.success(), said)).ok_or(text_of(&out))
    })
}

fn suspects(said: &Value) -> Vec<String> {
    let list = said["suspects"].as_array().expect("a list");
    list.iter().map(|suspect| suspect["path"].as_str().expect("a path").to_owned()).collect()
}

fn is_found_and_healed(kind: &str) {
    let bench = Bench::new(kind);
    let Bench { a, b, good, rotten, .. } = &bench;
    assert!(verify(a, &[]).0, "nothing has rotted yet");
    bench.rot();
    let (is_well, said) = verify(a, &[]);
    assert!(!is_well);
    assert_eq!((suspects(&said), &said["run"]["found"]), (vec![PHOTO.to_owned()], &Value::from(1)));
    assert_eq!(read(a.at(PHOTO)), *rotten, "it stays until someone decides");
    a.wait_log(&[PHOTO, "does not hold what it did", "--heal"]);
    eventually("the rotten bytes are in history", PATIENCE, || {
        a.history().contains(rotten).then_some(()).ok_or("they are not".to_owned())
    });
    let status = text_of(&a.cli(&["status"]));
    assert!(status.contains(PHOTO) && status.contains("suspect"), "{status}");

    // Nothing of it spreads: not by a restart, not by a touch, not by comparing.
    a.restart();
    run("touch", &["-d", "2021-01-01", a.at(PHOTO).to_str().expect("text")]);
    write(a.at("after"), "after");
    wait_linked(&[a, b]);
    eventually("what came after is at b", PATIENCE, || {
        crate::common::disk::peek(b.at("after")).map(drop).ok_or("it is not".to_owned())
    });
    a.wait_own_idle();
    // What one holds is not what the other holds: nobody says so.
    let wait = b.cli(&["wait", "--timeout", "1"]);
    assert!(!wait.status.success() && text_of(&wait).contains("a (1 file has a problem)"), "{}", text_of(&wait));
    assert_eq!(read(b.at(PHOTO)), *good);
    assert!(!verify(a, &["d"]).0, "it is still suspect");

    let healed = a.cli(&["verify", "--heal", a.at(PHOTO).to_str().expect("text")]);
    assert!(healed.status.success(), "{}", text_of(&healed));
    eventually("it is healed", PATIENCE, || (read(a.at(PHOTO)) == *good).then_some(()).ok_or("it is not".to_owned()));
    a.wait_log(&[PHOTO, "holds again what it should"]);
    assert!(a.history().contains(rotten));
    let refused = text_of(&a.cli(&["restore", PHOTO]));
    assert!(refused.contains("suspect") && read(a.at(PHOTO)) == *good, "{refused}");
    assert!(verify(a, &[]).0);
    converge(&[a, b]);
}

#[test]
fn what_rots_on_ext4_is_found_spread_to_nobody_and_healed_when_someone_says_so() {
    if is_root("what_rots_on_ext4_is_found_spread_to_nobody_and_healed_when_someone_says_so") {
        is_found_and_healed("ext4");
    }
}

#[test]
fn what_rots_on_xfs_is_found_spread_to_nobody_and_healed_when_someone_says_so() {
    if is_root("what_rots_on_xfs_is_found_spread_to_nobody_and_healed_when_someone_says_so") {
        is_found_and_healed("xfs");
    }
}

#[test]
fn what_rotted_since_it_was_hashed_in_this_boot_and_was_not_written_in_it_heals_by_itself() {
    if !is_root("what_rotted_since_it_was_hashed_in_this_boot_and_was_not_written_in_it_heals_by_itself") {
        return;
    }
    let bench = Bench::new("ext4");
    let Bench { volume, a, b, good, rotten } = &bench;
    a.stop();
    volume.age(&["data/d/photo", "data/d/other"]);
    a.start();
    wait_linked(&[a, b]);
    converge(&[a, b]);
    assert!(verify(a, &[]).0, "it was right in this boot");
    bench.rot();
    let _ = verify(a, &[]);
    a.wait_log(&[PHOTO, "it rotted", "fetched again"]);
    eventually("it is healed", PATIENCE, || (read(a.at(PHOTO)) == *good).then_some(()).ok_or("it is not".to_owned()));
    assert!(a.history().contains(rotten), "what was found is kept");
    assert!(verify(a, &[]).0);
    assert_eq!(read(b.at(PHOTO)), *good);
}

#[test]
fn a_store_through_a_mapping_that_leaves_the_stat_alone_is_kept_as_an_edit_when_someone_says_so() {
    if !is_root("a_store_through_a_mapping_that_leaves_the_stat_alone_is_kept_as_an_edit_when_someone_says_so") {
        return;
    }
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let _tmpfs = Small::new(&a.dir, 65_536);
    let mut table = vec![b'.'; 100_000];
    write(a.at("table"), &table);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert!(verify(&a, &[]).0);
    let file = a.at("table");
    let mut program = Mapping::open(&file, table.len());
    // Its first store shows, and those after it no longer: nothing writes a page of tmpfs back, so
    // none asks again.
    program.store(b'?', 40);
    table[40] = b'?';
    eventually("the first store is at b", PATIENCE, || {
        // No watcher sees a store; whoever closes the file has it inspected.
        drop(fs::OpenOptions::new().append(true).open(&file).map_err(|e| e.to_string())?);
        (read(b.at("table")) == table).then_some(()).ok_or("it is not".to_owned())
    });
    assert!(verify(&a, &[]).0);
    let before = stat(&file);
    program.store(b'!', 50);
    let mut edited = table.clone();
    edited[50] = b'!';
    eventually("it is stored", PATIENCE, || (read(&file) == edited).then_some(()).ok_or("it is not".to_owned()));
    assert_eq!(stat(&file), before);
    assert_eq!(suspects(&verify(&a, &[]).1), ["table"]);
    assert_eq!(read(b.at("table")), table, "nobody knows yet that it was meant");
    assert!(a.cli(&["verify", "--keep", file.to_str().expect("text")]).status.success());
    eventually("the edit is at b", PATIENCE, || {
        (read(b.at("table")) == edited).then_some(()).ok_or("it is not".to_owned())
    });
    assert!(b.history().contains(&table));
    converge(&[&a, &b]);
    assert!(verify(&a, &[]).0);
}

/// A program that has a file mapped.
struct Mapping(Child);

impl Mapping {
    fn open(file: &Path, bytes: usize) -> Self {
        let mut xfs_io = Command::new("xfs_io");
        let child = xfs_io.arg(file).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("xfs_io is there");
        let mut program = Self(child);
        program.say(&format!("mmap -rw 0 {bytes}"));
        program
    }

    fn store(&mut self, byte: u8, at: usize) {
        self.say(&format!("mwrite -S {byte:#x} {at} 1"));
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().expect("it is piped"), "{line}").expect("it listens");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn in_the_course_of_a_month_everything_is_hashed_again_without_being_asked() {
    let name = "in_the_course_of_a_month_everything_is_hashed_again_without_being_asked";
    let Some(library) = library(name).filter(|_| is_root(name)) else { return };
    let mut bench = Bench::new("ext4");
    let a = &mut bench.a;
    a.stop();
    unhinge(a, &library);
    a.start();
    set(a, "+31d");
    bench.a.restart();
    bench.a.wait_log(&["verified 2 files", "all is as it should be"]);
    bench.rot();
    set(&bench.a, "+62d");
    bench.a.restart();
    bench.a.wait_log(&[PHOTO, "does not hold what it did"]);
    assert_eq!(read(bench.b.at(PHOTO)), bench.good);
}

/// At 64 KiB a second the file alone takes over four minutes.
#[test]
fn a_slow_verification_goes_on_at_the_rate_of_the_next_one_that_asks() {
    let a = Group::new().machine("a");
    write(a.at("large"), noise(1, 16 * 1024 * 1024));
    a.start();
    a.wait_own_idle();
    verify(&a, &[]);
    let mut slow = Command::new(env!("CARGO_BIN_EXE_dirsync"));
    slow.arg("-C").arg(&a.dir).args(["verify", "--rate", "64K"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut slow = slow.spawn().expect("dirsync can be started");
    eventually("it has begun", PATIENCE, || {
        let status = a.json(&["verify", "--status"])?;
        if status["run"]["over"] == false { Ok(()) } else { Err(status.to_string()) }
    });
    let asked = Instant::now();
    let out = a.cli(&["verify", "--json"]);
    assert!(out.status.success(), "{}", text_of(&out));
    assert!(asked.elapsed() < PATIENCE, "it went on at the old rate: {:?}", asked.elapsed());
    assert!(slow.wait().expect("a child").success(), "the slow one ends with it");
}

#[test]
fn a_verification_that_a_kill_interrupts_goes_on_where_it_was() {
    let group = Group::new();
    let a = group.machine("a");
    for n in 0..300 {
        write(a.at(&format!("f{n:03}")), format!("file {n}"));
    }
    a.start();
    a.wait_own_idle();
    verify(&a, &[]);
    let mut slow = Command::new(env!("CARGO_BIN_EXE_dirsync"));
    slow.arg("-C").arg(&a.dir).args(["verify", "--rate", "200K"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut slow = slow.spawn().expect("dirsync can be started");
    let progress = || {
        let status = a.json(&["verify", "--status"])?;
        let run = status["run"].clone();
        run["files"].as_u64().map(|files| (files, run)).ok_or(format!("no run in {status}"))
    };
    let (_, before) = eventually("a part is read", PATIENCE, || {
        progress().and_then(|(files, run)| {
            let is_part = run["over"] == false && files >= 250;
            is_part.then_some((files, run)).ok_or(format!("{files} files"))
        })
    });
    a.kill();
    let _ = slow.kill();
    let _ = slow.wait();
    a.start();
    let (files, now) = progress().expect("it goes on");
    assert!(files >= 64, "it began anew: {now}");
    assert_eq!(now["began_ns"], before["began_ns"]);
    let (files, _) = eventually("it ends", PATIENCE, || {
        progress().and_then(|(files, run)| (run["over"] == true).then_some((files, run)).ok_or(format!("{files}")))
    });
    assert_eq!(files, 300);
}

#[test]
fn peers_say_what_they_hold() {
    if !is_root("peers_say_what_they_hold") {
        return;
    }
    let bench = Bench::new("ext4");
    let Bench { a, b, .. } = &bench;
    let c = b.group.machine("c");
    c.start();
    wait_linked(&[a, b, &c]);
    converge(&[a, b, &c]);
    bench.rot();
    assert!(!verify(a, &[]).0);
    assert!(c.cli(&["pause"]).status.success());
    write(b.at("new"), "new");
    converge_but_paused(a);
    let (is_well, said) = verify(b, &["--peers"]);
    assert!(!is_well, "a holds something else: {said}");
    let peers = &said["run"]["peers"];
    let of = |name: &str| {
        let machines = peers["machines"].as_array().expect("a list");
        let machine = machines.iter().find(|machine| machine["name"] == name).expect("it was asked");
        ["verified", "mismatched", "missing"].map(|field| machine[field].as_u64().expect("a number"))
    };
    assert_eq!((of("a"), of("c")), ([2, 1, 0], [2, 0, 1]), "{said}");
    let holders: Vec<_> = peers["holders"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|h| (h["machines"].as_u64(), h["files"].as_u64()))
        .collect();
    assert_eq!(holders, [(Some(2), Some(2)), (Some(3), Some(1))], "{said}");
    let table = text_of(&b.cli(&["verify", "--peers", b.at(PHOTO).to_str().expect("text")]));
    assert!(table.contains("d/photo  mismatched at a"), "{table}");
    remove(b.at("new"));
}

/// The new file is at a; c is paused.
fn converge_but_paused(a: &Machine) {
    eventually("the new file is at a", PATIENCE, || {
        crate::common::disk::peek(a.at("new")).map(drop).ok_or("it is not".to_owned())
    });
}
