//! Large contents between real daemons: what travels, from whom, how often; resumed, sparse,
//! limited, and edited on the way.

use crate::common::lan::Lan;
use crate::common::machine::wait_linked;
use crate::common::volume::Small;
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, is_root, noise, read, set_mtime, setting, start_all, write,
};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Sends at most so many MiB a second.
fn limited(group: &Group, name: &str, mib: u64) -> Machine {
    let mut machine = group.machine(name);
    machine.options = vec!["--limit".to_owned(), format!("{mib}M")];
    machine
}

/// Waits until `bytes` of a file are at a machine, and says how many are.
fn under_way(machine: &Machine, path: &str, bytes: u64) -> u64 {
    eventually(&format!("{bytes} bytes of {path} are at {}", machine.name), PATIENCE, || {
        let status = machine.json(&["status"])?;
        let transfers = status["transfers"].as_array().ok_or("no transfers")?;
        let here = transfers.iter().find(|transfer| transfer["path"] == path).and_then(|it| it["bytes"].as_u64());
        here.filter(|here| *here >= bytes).ok_or(format!("{transfers:?}"))
    })
}

fn received(machine: &Machine) -> u64 {
    machine.wire_bytes().1
}

/// What came before is not sent again, but for two chunks at most, and what frames and greetings
/// take.
fn assert_resumed(after: &Machine, size: u64, before: u64) {
    let (came, left) = (received(after), size - before);
    assert!(came <= left + 3 * MIB, "{came} bytes came again of {left} that were missing");
}

#[test]
fn of_five_machines_the_first_sends_a_large_file_at_most_twice() {
    let group = Group::new();
    let machines: Vec<Machine> = ["a", "b", "c", "d", "e"].iter().map(|name| limited(&group, name, 16)).collect();
    let all: Vec<&Machine> = machines.iter().collect();
    start_all(&all);
    wait_linked(&all);
    let size = 32 * MIB;
    write(all[0].at("large"), noise(1, size as usize));
    converge(&all);
    let sent: Vec<u64> = all.iter().map(|machine| machine.wire_bytes().0 / MIB).collect();
    println!("MiB sent by each: {sent:?}");
    assert!(sent[0] <= 2 * size / MIB, "the first sent {sent:?} MiB of {} ", size / MIB);
    assert!(sent[1..].iter().all(|sent| *sent > 0), "not all took part: {sent:?}");
}

#[test]
fn after_a_kill_of_the_receiver_what_it_had_is_not_sent_again() {
    let group = Group::new();
    let (a, b) = (limited(&group, "a", 24), group.machine("b"));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let size = 64 * MIB;
    write(a.at("large"), noise(2, size as usize));
    let before = under_way(&b, "large", 32 * MIB);
    b.kill();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_resumed(&b, size, before);
}

#[test]
fn after_a_kill_of_the_sender_what_the_receiver_had_is_not_sent_again() {
    let group = Group::new();
    let (a, b) = (limited(&group, "a", 24), group.machine("b"));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let size = 64 * MIB;
    write(a.at("large"), noise(3, size as usize));
    let before = under_way(&b, "large", 32 * MIB);
    a.kill();
    a.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_resumed(&b, size, before);
}

#[test]
fn after_a_cut_cable_what_the_receiver_had_is_not_sent_again() {
    if !is_root("after_a_cut_cable_what_the_receiver_had_is_not_sent_again") {
        return;
    }
    let (lan, group) = (Lan::new(2), Group::new());
    let (mut a, b) = (lan.machine(&group, "a", 1), lan.machine(&group, "b", 2));
    a.options = vec!["--limit".to_owned(), "24M".to_owned()];
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let size = 64 * MIB;
    write(a.at("large"), noise(4, size as usize));
    under_way(&b, "large", 16 * MIB);
    lan.cut(2);
    eventually("b notices", PATIENCE, || b.linked_peers()?.is_empty().then_some(()).ok_or("still linked".to_owned()));
    // What is in its log when the cable is in again was fetched before.
    let staged = eventually("its log", PATIENCE, || {
        let names = std::fs::read_dir(b.at(".dirsync/staging")).map_err(|e| e.to_string())?;
        let logs = names.flatten().find(|item| item.file_name().to_string_lossy().ends_with(".log"));
        logs.and_then(|log| log.metadata().ok()).map(|log| log.len()).ok_or("none".to_owned())
    });
    let before = staged / 44 * MIB;
    lan.mend(2);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_resumed(&b, size, before);
}

#[test]
fn a_file_that_is_edited_while_it_is_sent_arrives_as_it_is_in_the_end() {
    let group = Group::new();
    let (a, b) = (limited(&group, "a", 32), group.machine("b"));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    write(a.at("large"), noise(5, 32 << 20));
    for round in 0..4 {
        under_way(&b, "large", 4 * MIB);
        let file = File::options().write(true).open(a.at("large")).expect("it is there");
        // Where it was not sent yet, and where it was.
        file.write_all_at(&noise(round, 9000), 30 << 20).expect("writes");
        file.write_all_at(&noise(round, 9), 1 << 20).expect("writes");
    }
    converge(&[&a, &b]);
    assert!(read(a.at("large")) == read(b.at("large")));
    let staged = std::fs::read_dir(b.at(".dirsync/staging")).expect("it is there").count();
    assert_eq!(staged, 0, "what was staged of older contents is left behind");
}

#[test]
fn what_comes_beside_a_large_file_that_gets_another_time_waits_for_none_of_its_bytes() {
    let group = Group::new();
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    // As long as a disk takes to read many GiB.
    b.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "install.proven=10000ms".to_owned())];
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let file = File::create(a.at("large")).expect("creates");
    file.write_all_at(b"not only zeros", 5).expect("writes");
    file.set_len(80 * MIB).expect("grows");
    drop(file);
    converge(&[&a, &b]);
    let mtime = |machine: &Machine| std::fs::metadata(machine.at("large")).expect("it is there").mtime();
    set_mtime(a.at("large"), 1_700_000_000, 0);
    eventually("b is to set its time", PATIENCE, || {
        let status = b.json(&["status"])?;
        (status["pending"] == 1).then_some(()).ok_or(status.to_string())
    });
    for n in 0..20 {
        write(a.at(&format!("small{n}")), noise(n, 1000));
        let there = b.at(&format!("small{n}"));
        eventually("a small file comes", PATIENCE, || there.exists().then_some(()).ok_or("not yet".to_owned()));
    }
    assert_ne!(mtime(&b), 1_700_000_000, "they waited for the large one");
    converge(&[&a, &b]);
    assert_eq!(mtime(&b), 1_700_000_000);
    assert!(b.wire_bytes().1 < MIB, "its bytes came again");
}

#[test]
fn a_file_of_zeros_costs_neither_wire_nor_disk() {
    let (a, b) = Group::new().pair();
    let size = setting("DIRSYNC_SPARSE_MIB", 1024) * MIB;
    let file = File::create(a.at(".sparse.tmp")).expect("creates");
    file.set_len(size).expect("a hole");
    file.write_all_at(b"in the midst of nothing", size / 2).expect("writes");
    drop(file);
    std::fs::rename(a.at(".sparse.tmp"), a.at("sparse")).expect("renames");
    converge(&[&a, &b]);
    let meta = std::fs::metadata(b.at("sparse")).expect("it came");
    assert_eq!(meta.len(), size);
    assert!(meta.blocks() * 512 < 4 * MIB, "{} bytes on disk", meta.blocks() * 512);
    assert!(a.wire_bytes().0 < 2 * MIB, "{} bytes sent", a.wire_bytes().0);
    let mut there = vec![0; 23];
    File::open(b.at("sparse")).and_then(|file| file.read_exact_at(&mut there, size / 2)).expect("reads");
    assert_eq!(there, b"in the midst of nothing");
}

#[test]
fn a_limit_holds_for_contents_and_small_edits_overtake_them() {
    let group = Group::new();
    let (a, b) = (limited(&group, "a", 8), group.machine("b"));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let start = Instant::now();
    write(a.at("large"), noise(6, 24 << 20));
    under_way(&b, "large", 2 * MIB);
    for n in 0..5 {
        let began = Instant::now();
        write(a.at(&format!("small{n}")), "small");
        eventually("the small file is there", PATIENCE, || {
            b.at(&format!("small{n}")).exists().then_some(()).ok_or("not yet".to_owned())
        });
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    }
    converge(&[&a, &b]);
    let (took, sent) = (start.elapsed(), a.wire_bytes().0);
    let rate = sent as f64 / took.as_secs_f64() / MIB as f64;
    assert!(rate <= 8.6, "{rate} MiB a second");
}

/// In memory, so that it is the daemons that are timed: on one disk for both ends an edit's `fsync`
/// waits for what is written there of the large file. `DIRSYNC_BESIDE_MIB=4096 cargo test --release
/// --test real beside_a_large -- --nocapture` is for the figures, on the disk.
#[test]
fn small_edits_beside_a_large_transfer_arrive_long_before_it_ends() {
    if !is_root("small_edits_beside_a_large_transfer_arrive_long_before_it_ends") {
        return;
    }
    let (size, is_timed) = (setting("DIRSYNC_BESIDE_MIB", 256), std::env::var_os("DIRSYNC_BESIDE_MIB").is_none());
    let group = Group::new();
    let _memory = is_timed.then(|| Small::new(group.path(), 1 << 20));
    let (a, b) = group.pair();
    for n in 0..size / 64 {
        // Not in memory at once, and no chunk like another.
        let file = File::options().create(true).append(true).open(a.home.join("large")).expect("our own folder");
        file.write_all_at(&noise(n, 64 << 20), n * 64 * MIB).expect("room");
    }
    let start = Instant::now();
    std::fs::rename(a.home.join("large"), a.at("large")).expect("one file system");
    let mut times = Vec::new();
    while !b.at("large").exists() {
        let (name, bytes) = (format!("small{}", times.len() % 10), noise(times.len() as u64, 2000));
        let began = Instant::now();
        write(a.at(&name), &bytes);
        eventually("the small file is there", PATIENCE, || {
            std::fs::read(b.at(&name)).is_ok_and(|there| there == bytes).then_some(()).ok_or("not yet".to_owned())
        });
        times.push(began.elapsed());
    }
    let took = start.elapsed();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("{size} MiB took {took:.2?}; {} edits beside it: p50 {:.1?}, p99 {:.1?}", times.len(), at(50), at(99));
    assert!(!is_timed || at(50) < took / 8, "half of the edits took {:?} beside a transfer of {took:?}", at(50));
    converge(&[&a, &b]);
}

#[test]
fn a_long_transfer_is_shown_and_its_start_and_end_are_in_the_log() {
    let group = Group::new();
    let (a, b) = (limited(&group, "a", 4), group.machine("b"));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    write(a.at("large"), noise(7, 28 << 20));
    under_way(&b, "large", 8 * MIB);
    let status = b.json(&["status"]).expect("it answers");
    let transfer = &status["transfers"][0];
    assert_eq!((&transfer["size"], &transfer["from"][0]), (&(28 * MIB).into(), &"a".into()), "{transfer}");
    let rate = transfer["bytes_a_second"].as_u64().expect("a rate") / MIB;
    assert!((1..=6).contains(&rate), "{transfer}");
    assert!(transfer["seconds_left"].as_u64().is_some_and(|left| left < 60), "{transfer}");
    let text = String::from_utf8(b.cli(&["status"]).stdout).expect("UTF-8");
    assert!(text.contains("fetching   large") && text.contains("left  from a"), "{text}");
    b.wait_log(&["fetching 'large' from a", "so far"]);
    converge(&[&a, &b]);
    b.wait_log(&["received 'large'"]);
    a.wait_log(&["uploaded 'large' to b"]);
}
