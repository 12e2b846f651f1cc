//! Large files that change a little: little travels, whoever changes them, and whatever becomes of
//! signatures and of the file meanwhile.

use crate::common::disk::{path_text, run};
use crate::common::machine::wait_linked;
use crate::common::volume::Volume;
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, exchange, is_root, noise, pace, read, setting, wait_equal, write,
};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

const MIB: usize = 1 << 20;
/// What else goes over a link while a test waits: pings, states, the entry itself.
const TALK: u64 = 24 * 1024;

/// The machines' large file (MiB).
fn size() -> usize {
    setting("DIRSYNC_DELTA_MIB", 16) as usize * MIB
}

fn wire(machine: &Machine) -> u64 {
    let (sent, received) = machine.wire_bytes();
    sent + received
}

/// What `change` costs on the wire until both hold the same (bytes).
fn cost(machines: [&Machine; 2], change: impl FnOnce()) -> u64 {
    let before = wire(machines[0]);
    change();
    wait_equal(&machines, PATIENCE);
    wire(machines[0]) - before
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).expect("the file is there");
    file.seek(SeekFrom::Start(at as u64)).expect("it has that place");
    file.write_all(bytes).expect("it can be written");
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(bytes)).expect("it can be written");
}

/// As an editor saves: a new file, renamed over the old one.
fn save(path: &Path, bytes: &[u8]) {
    let beside = path.ancestors().nth(2).expect("a folder in the machine's own").join("saved");
    write(&beside, bytes);
    fs::rename(beside, path).expect("it can be renamed");
}

fn both_with(bytes: &[u8]) -> (Machine, Machine) {
    let (a, b) = Group::new().pair();
    write(a.at("big"), bytes);
    converge(&[&a, &b]);
    (a, b)
}

#[test]
fn an_edit_of_a_large_file_travels_as_what_it_changed() {
    let (a, b) = both_with(&noise(1, size()));
    let rows: [(&str, &dyn Fn(), u64); 4] = [
        ("overwritten", &|| overwrite(&a.at("big"), size() / 2, b"\0changed\0"), 32 << 10),
        ("inserted at the front", &|| save(&a.at("big"), &[b"+", &read(a.at("big"))[..]].concat()), 4 << 10),
        ("1 MiB appended", &|| append(&a.at("big"), &noise(2, MIB)), (1 << 20) + (32 << 10)),
        ("cut", &|| File::options().write(true).open(a.at("big")).unwrap().set_len(5_000_000).unwrap(), 32 << 10),
    ];
    for (what, change, at_most) in rows {
        let bytes = cost([&a, &b], change);
        assert!(bytes <= at_most + TALK, "{what}: {bytes} bytes on the wire");
    }
    a.wait_log(&["uploaded 'big' to b", "as a delta"]);
}

#[test]
fn whoever_received_a_file_may_edit_it_and_little_travels_back() {
    let (a, b) = both_with(&noise(3, size()));
    // What arrived was signed on its way: no signature travels, nor is the old version read for
    // one.
    let first = cost([&a, &b], || overwrite(&b.at("big"), 1000, b"by b"));
    assert!(first <= (32 << 10) + TALK, "{first} bytes on the wire");
    let then = cost([&a, &b], || overwrite(&a.at("big"), 2000, b"by a"));
    assert!(then <= (32 << 10) + TALK, "{then} bytes on the wire");
    let again = cost([&a, &b], || overwrite(&b.at("big"), 3000, b"by b again"));
    assert!(again <= (32 << 10) + TALK, "{again} bytes on the wire");
}

/// A base whose last block is not whole cannot be shared into the midst of a longer file, but all
/// before it can.
#[test]
fn where_the_disk_shares_extents_a_longer_version_takes_little_more_room() {
    let name = "where_the_disk_shares_extents_a_longer_version_takes_little_more_room";
    if !is_root(name) {
        return;
    }
    let (volume, group) = (Volume::new("xfs", 512), Group::new());
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    b.dir = volume.folder("data");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    write(a.at("big"), noise(9, 48 * MIB + 1));
    converge(&[&a, &b]);
    let used = || {
        run("sync", &["-f", path_text(volume.path())]);
        let disk = rustix::fs::statvfs(volume.path()).expect("it is mounted");
        (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    };
    // What was changed a moment ago is copied: a later change might not show in its times.
    pace(3_500);
    let before = used();
    append(&a.at("big"), &noise(10, MIB));
    wait_equal(&[&a, &b], PATIENCE);
    let more = used().saturating_sub(before) / MIB as u64;
    assert!(more <= 8, "the new version and the old one in history take {more} MiB more");
    b.wait_log(&["received 'big'"]);
}

/// `DIRSYNC_DELTA_MIB=256 cargo test --release --test real other_bytes -- --nocapture` for the
/// figures.
#[test]
fn a_file_rewritten_with_other_bytes_arrives_whole() {
    let (a, b) = Group::new().pair();
    let arrives = |bytes: &[u8]| {
        let began = Instant::now();
        save(&a.at("big"), bytes);
        let is_there = || fs::metadata(b.at("big")).ok()?.modified().ok();
        let new = fs::metadata(a.at("big")).and_then(|meta| meta.modified()).ok();
        eventually("it is there", PATIENCE, || (is_there() == new).then_some(()).ok_or("not yet".to_owned()));
        began.elapsed()
    };
    let (first, second) = (noise(4, size()), noise(5, size()));
    let (first, second) = (arrives(&first), arrives(&second));
    println!("{} MiB: the first transfer {first:.2?}, other bytes {second:.2?}", size() / MIB);
    wait_equal(&[&a, &b], PATIENCE);
    // And the one after that is a delta again.
    let bytes = cost([&a, &b], || overwrite(&a.at("big"), 7, b"+"));
    assert!(bytes <= (32 << 10) + TALK, "{bytes} bytes on the wire");
}

#[test]
fn signatures_may_be_deleted_at_any_time() {
    let (a, b) = both_with(&noise(6, size()));
    for machine in [&a, &b] {
        let _ = fs::remove_dir_all(machine.state.join("signatures"));
    }
    overwrite(&a.at("big"), MIB, b"after the first deletion");
    wait_equal(&[&a, &b], PATIENCE);
    let bytes = cost([&a, &b], || overwrite(&a.at("big"), 2 * MIB, b"they are back"));
    assert!(bytes <= (32 << 10) + TALK, "{bytes} bytes on the wire");
    for round in 0..20_u8 {
        let _ = fs::remove_dir_all(a.state.join("signatures"));
        overwrite(&a.at("big"), usize::from(round) * 1000, &[round; 10]);
        let _ = fs::remove_dir_all(b.state.join("signatures"));
        pace(20);
    }
    wait_equal(&[&a, &b], PATIENCE);
}

#[test]
fn two_daemons_may_share_one_folder_of_signatures_and_nothing_in_it_is_wiped() {
    let group = Group::new();
    let (mut a, mut b) = (group.machine("a"), group.machine("b"));
    let shared = group.path().join("shared-signatures");
    for machine in [&mut a, &mut b] {
        machine.options = vec!["-s".to_owned(), shared.to_str().expect("a plain name").to_owned()];
        machine.start();
    }
    wait_linked(&[&a, &b]);
    write(a.at("big"), noise(7, size()));
    converge(&[&a, &b]);
    write(shared.join("somebody-else-s"), "stays");
    for round in 0..3_u8 {
        let (from, at) = if round % 2 == 0 { (&a, 100) } else { (&b, size() / 2) };
        let bytes = cost([&a, &b], || overwrite(&from.at("big"), at, &[round; 100]));
        assert!(bytes <= (32 << 10) + TALK, "{bytes} bytes on the wire");
        a.restart();
        wait_linked(&[&a, &b]);
    }
    assert_eq!(read(shared.join("somebody-else-s")), b"stays");
    let kept = fs::read_dir(&shared).expect("it is there").count();
    assert!(kept >= 4, "{kept} are kept");
}

/// What a user wrote is in the tree or in the history of one of the two.
fn is_kept(machines: [&Machine; 2], bytes: &[u8]) -> bool {
    machines.iter().any(|m| read(m.at("big")) == bytes || m.history().iter().any(|kept| kept == bytes))
}

#[test]
fn a_file_that_is_edited_while_a_delta_is_applied_to_it_keeps_both_edits() {
    let (a, b) = both_with(&noise(8, size()));
    for round in 0..setting("DIRSYNC_DELTA_ROUNDS", 6) {
        let mut theirs = read(a.at("big"));
        theirs.insert(0, round as u8);
        save(&a.at("big"), &theirs);
        // At another moment of the transfer each time.
        pace(15 * round);
        let mut ours = noise(100 + round, MIB);
        ours.extend_from_slice(&read(b.at("big"))[MIB..]);
        write(b.home.join("edited"), &ours);
        exchange(b.home.join("edited"), b.at("big")).expect("both are there");
        converge(&[&a, &b]);
        assert!(is_kept([&a, &b], &ours), "round {round}: what was written at b is nowhere");
        assert!(is_kept([&a, &b], &theirs), "round {round}: what was written at a is nowhere");
    }
}

#[test]
fn a_file_that_is_truncated_while_a_delta_is_applied_to_it_harms_nobody() {
    let (a, b) = both_with(&noise(9, size()));
    for round in 0..setting("DIRSYNC_DELTA_ROUNDS", 6) {
        save(&a.at("big"), &[&[round as u8], &noise(9 + round, size())[..]].concat());
        converge(&[&a, &b]);
        save(&a.at("big"), &[b"+", &read(a.at("big"))[..]].concat());
        pace(10 * round);
        OpenOptions::new().write(true).open(b.at("big")).and_then(|file| file.set_len(100_000)).expect("it can be cut");
        converge(&[&a, &b]);
        assert_eq!(read(a.at("big")), read(b.at("big")));
    }
    assert!(!a.log().contains("panicked") && !b.log().contains("panicked"));
}
