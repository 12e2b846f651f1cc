//! Clocks that are wrong, jump, or stand in files: the same winner everywhere (P3, P4), and a line
//! that names the machine.

use crate::common::clock::{library, set, unhinge};
use crate::common::disk::set_mtime;
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::{Group, PATIENCE, converge, eventually, read, remove, start_all, write};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn peers_a_year_ahead_and_behind_are_named_and_agree_on_every_winner() {
    let Some(library) = library("peers_a_year_ahead_and_behind_are_named_and_agree_on_every_winner") else { return };
    let group = Group::new();
    let [right, mut ahead, mut behind] = ["right", "ahead", "behind"].map(|name| group.machine(name));
    for (machine, offset) in [(&mut ahead, "+365d"), (&mut behind, "-365d")] {
        unhinge(machine, &library);
        set(machine, offset);
    }
    let all = [&right, &ahead, &behind];
    start_all(&all);
    wait_linked(&all);
    right.wait_log(&["clock of ahead", "days ahead"]);
    right.wait_log(&["clock of behind", "days behind"]);
    ahead.wait_log(&["clock of right", "days behind"]);
    let status = text_of(&right.cli(&["status"]));
    assert!(find_line(&status, &["problems", "clock of ahead"]).is_some(), "{status}");
    for (round, writer) in all.iter().cycle().take(6).enumerate() {
        write(writer.at("f"), format!("{round} by {}", writer.name));
        converge(&all);
    }
    assert_eq!(read(right.at("f")), b"5 by behind");
    for machine in all {
        machine.stop();
        write(machine.at("f"), format!("apart, by {}", machine.name));
    }
    start_all(&all);
    wait_linked(&all);
    converge(&all);
    remove(behind.at("f"));
    assert!(!converge(&all).has("f"), "a deletion by a clock that is behind is one too");
    set(&ahead, "+0");
    right.wait_log(&["clock of ahead", "agrees"]);
}

#[test]
fn a_clock_that_is_set_back_while_running_changes_no_winner() {
    let Some(library) = library("a_clock_that_is_set_back_while_running_changes_no_winner") else { return };
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    unhinge(&mut a, &library);
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    for (round, offset) in ["+0", "-2d", "-365d", "+365d", "+0"].into_iter().enumerate() {
        set(&a, offset);
        write(a.at("f"), format!("round {round}"));
        write(a.at(&format!("new-{round}")), "made at this time");
        converge(&[&a, &b]);
        assert_eq!(read(b.at("f")), format!("round {round}").as_bytes());
        write(b.at("f"), format!("on top of round {round}"));
        converge(&[&a, &b]);
        assert_eq!(read(a.at("f")), format!("on top of round {round}").as_bytes());
    }
    remove(a.at("f"));
    let tree = converge(&[&a, &b]);
    assert_eq!((tree.files(), tree.has("f")), (5, false));
    a.restart();
    b.restart();
    wait_linked(&[&a, &b]);
    assert_eq!(converge(&[&a, &b]).files(), 5, "nothing came back");
}

#[test]
fn mtimes_of_1970_and_2100_travel_as_they_are_and_later_edits_win_over_them() {
    let (a, b) = Group::new().pair();
    let times = [("epoch", 0, 1), ("before", -86_400, 0), ("future", 4_102_444_800, 999_999_999)];
    for (name, secs, nanos) in times {
        write(a.at(name), "as it came");
        set_mtime(a.at(name), secs, nanos);
    }
    converge(&[&a, &b]);
    for (name, secs, nanos) in times {
        // The edit and its mtime may be two changes.
        eventually("b has the mtime", PATIENCE, || {
            let found = fs::metadata(b.at(name)).map_err(|e| e.to_string())?;
            let is_same = (found.mtime(), found.mtime_nsec()) == (secs, i64::from(nanos));
            is_same.then_some(()).ok_or(format!("{name}: {}.{}", found.mtime(), found.mtime_nsec()))
        });
        write(b.at(name), "edited there");
    }
    converge(&[&a, &b]);
    for (name, ..) in times {
        assert_eq!(read(a.at(name)), b"edited there", "{name}");
    }
    a.stop();
    for (name, secs, nanos) in times {
        write(a.at(name), "edited while off, with its old time");
        set_mtime(a.at(name), secs, nanos);
    }
    a.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    for (name, ..) in times {
        assert_eq!(read(b.at(name)), b"edited while off, with its old time", "{name}");
    }
}
