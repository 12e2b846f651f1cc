//! Changes made apart: the same winner everywhere (P3), causality before clocks (P4), and the loser
//! kept (P2).
//!
//! What a person can have done about the loser is in `deciding.rs`.

use crate::common::disk::now_secs;
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::{Group, Machine, converge, noise, pace, read, set_mtime, skipped, write};
use std::path::Path;

const DAY: i64 = 86_400;
/// The kernel stamps files by its tick (4 ms, 10 on some): of edits within one, none is the later.
const TICKS_MS: u64 = 20;

/// Runs `edits` while both daemons are off, then lets them meet.
fn apart(a: &Machine, b: &Machine, edits: impl FnOnce()) {
    a.stop();
    b.stop();
    edits();
    a.start();
    b.start();
    wait_linked(&[a, b]);
}

/// Whether `dirsync log` of one of them names the conflict at `path`.
fn log_names_conflict(machines: &[&Machine], path: &str) -> bool {
    machines.iter().any(|m| find_line(&text_of(&m.cli(&["log", "-n", "10000"])), &["conflict", path]).is_some())
}

#[test]
fn of_two_edits_made_apart_the_later_wins_on_both_and_the_other_is_in_history_and_in_the_log() {
    let (a, b) = Group::new().pair();
    write(a.at("early-a"), "base");
    write(a.at("early-b"), "base");
    converge(&[&a, &b]);
    apart(&a, &b, || {
        write(a.at("early-a"), "first, by a");
        write(b.at("early-b"), "first, by b");
        pace(TICKS_MS);
        write(b.at("early-a"), "second, by b");
        write(a.at("early-b"), "second, by a");
    });
    converge(&[&a, &b]);
    assert_eq!(read(a.at("early-a")), b"second, by b");
    assert_eq!(read(a.at("early-b")), b"second, by a");
    assert!(a.history().contains(&b"first, by a".to_vec()), "a's loser is in a's history");
    assert!(b.history().contains(&b"first, by b".to_vec()), "b's loser is in b's history");
    assert!(log_names_conflict(&[&a], "early-a"), "dirsync log at a: {}", text_of(&a.cli(&["log"])));
    assert!(log_names_conflict(&[&b], "early-b"), "dirsync log at b: {}", text_of(&b.cli(&["log"])));
}

#[test]
fn two_folders_that_both_hold_files_become_their_union_without_sending_equal_files() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    for n in 0..20 {
        write(a.at(&format!("both/{n}")), noise(n, 500_000));
        write(b.at(&format!("both/{n}")), noise(n, 500_000));
    }
    write(a.at("of-a/x"), "a");
    write(b.at("of-b/y"), "b");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 22);
    let (sent, received) = a.wire_bytes();
    assert!(sent + received < 500_000, "{sent} bytes sent and {received} received for 10 MB of equal files");
    assert!(!log_names_conflict(&[&a, &b], "both/"), "equal files are no conflict");
}

#[test]
fn when_two_folders_first_meet_the_later_file_wins_and_the_other_is_kept() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    write(a.at("f"), "older");
    write(b.at("f"), "newer");
    set_mtime(a.at("f"), now_secs() - 10 * DAY, 0);
    set_mtime(b.at("f"), now_secs() - DAY, 0);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"newer");
    assert!(a.history().contains(&b"older".to_vec()), "the older one is in a's history");
}

#[test]
fn an_older_file_copied_over_a_newer_one_with_its_old_mtime_wins() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "newer");
    converge(&[&a, &b]);
    let outside = b.home.join("older");
    write(&outside, "older");
    set_mtime(&outside, now_secs() - 400 * DAY, 123_456_789);
    let (from, to) = (outside.clone(), b.at("f"));
    crate::common::disk::run("cp", &["-p", from.to_str().expect("text"), to.to_str().expect("text")]);
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"older");
    // And once more by a rename, which leaves even the inode's times alone.
    write(&outside, "oldest");
    set_mtime(&outside, now_secs() - 800 * DAY, 0);
    crate::common::rename(&outside, b.at("f"));
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"oldest");
}

#[test]
fn an_edit_on_top_of_one_from_the_future_beats_it() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "from tomorrow");
    set_mtime(a.at("f"), now_secs() + DAY, 0);
    converge(&[&a, &b]);
    write(b.at("f"), "today, on top of it");
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"today, on top of it");
    write(a.at("f"), "from yesterday, on top of that");
    set_mtime(a.at("f"), now_secs() - DAY, 0);
    converge(&[&a, &b]);
    assert_eq!(read(b.at("f")), b"from yesterday, on top of that");
}

#[test]
fn a_far_future_mtime_found_at_the_first_meeting_does_not_win_for_ever() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    write(a.at("f"), "mtime of 2100");
    set_mtime(a.at("f"), 4_102_444_800, 0);
    write(b.at("f"), "yesterday's");
    set_mtime(b.at("f"), now_secs() - DAY, 0);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"yesterday's");
    write(b.at("f"), "a later edit");
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"a later edit");
}

#[test]
fn the_same_content_made_on_both_is_no_conflict() {
    let (a, b) = Group::new().pair();
    apart(&a, &b, || {
        write(a.at("f"), "the same");
        write(b.at("f"), "the same");
        set_mtime(b.at("f"), now_secs() - 5 * DAY, 0);
    });
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"the same");
    assert!(!log_names_conflict(&[&a, &b], "f"), "{}", text_of(&a.cli(&["log"])));
}

#[test]
fn three_edits_made_apart_have_one_winner_and_two_kept_losers() {
    let group = Group::new();
    let machines = ["a", "b", "c"].map(|name| group.machine(name));
    let all: Vec<&Machine> = machines.iter().collect();
    machines.iter().for_each(Machine::start);
    write(machines[0].at("f"), "base");
    converge(&all);
    machines.iter().for_each(Machine::stop);
    for machine in &machines {
        write(machine.at("f"), format!("by {}", machine.name));
        pace(TICKS_MS);
    }
    machines.iter().for_each(Machine::start);
    wait_linked(&all);
    converge(&all);
    assert_eq!(read(machines[0].at("f")), b"by c");
    for loser in &machines[..2] {
        let value = format!("by {}", loser.name).into_bytes();
        assert!(machines.iter().any(|m| m.history().contains(&value)), "{}'s edit is in no history", loser.name);
    }
}

#[test]
fn machines_whose_clocks_are_a_day_apart_agree_on_every_winner() {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
        .map(|dir| format!("{dir}/faketime/libfaketime.so.1"))
        .into_iter()
        .find(|file| Path::new(file).exists());
    let Some(library) = library else {
        skipped("libfaketime", "machines_whose_clocks_are_a_day_apart_agree_on_every_winner");
        return;
    };
    let group = Group::new();
    let (mut a, mut b) = (group.machine("ahead"), group.machine("behind"));
    for (machine, offset) in [(&mut a, "+1d"), (&mut b, "-1d")] {
        machine.environment = vec![
            ("LD_PRELOAD".to_owned(), library.clone()),
            ("FAKETIME".to_owned(), offset.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
            // Files keep their real times; the daemon's own clock alone is wrong.
            ("NO_FAKE_STAT".to_owned(), "1".to_owned()),
        ];
    }
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    // Made on top of each other, in turns: the last one stays, whoever's clock says what (P4).
    for round in 0..6 {
        let (writer, text) = if round % 2 == 0 { (&a, "ahead") } else { (&b, "behind") };
        write(writer.at("f"), format!("{round} by {text}"));
        converge(&[&a, &b]);
    }
    assert_eq!(read(a.at("f")), b"5 by behind");
    // Made apart: either may win, but the same one on both, and the other is kept (P3, P2).
    apart(&a, &b, || {
        write(a.at("f"), "apart, ahead");
        write(b.at("f"), "apart, behind");
    });
    converge(&[&a, &b]);
    let (winner, loser) = match read(a.at("f")).as_slice() {
        b"apart, ahead" => ("apart, ahead", "apart, behind"),
        _ => ("apart, behind", "apart, ahead"),
    };
    assert_eq!(read(b.at("f")), winner.as_bytes());
    let kept = [a.history(), b.history()].concat();
    assert!(kept.contains(&loser.as_bytes().to_vec()), "the loser is in no history");
}
