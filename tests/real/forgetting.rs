//! Deletions are remembered until every machine knows them, and no longer.

use crate::common::clock::{library, set, unhinge};
use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, read, remove, write};

/// Machines whose clocks can be set, started and linked.
fn machines<const N: usize>(library: &str, names: [&str; N]) -> [Machine; N] {
    let group = Group::new();
    let machines = names.map(|name| {
        let mut machine = group.machine(name);
        unhinge(&mut machine, library);
        machine.start();
        machine
    });
    wait_linked(&machines.each_ref());
    machines
}

/// So many days later, on these machines, which then see a file made: files keep their real times,
/// so an edit would tell nothing of the day.
fn days_later(machines: &[&Machine], days: u32) {
    for machine in machines {
        set(machine, &format!("+{days}d"));
        machine.restart();
    }
    wait_linked(machines);
    write(machines[0].at(&format!("day-{days}")), "a new day");
    converge(machines);
}

fn remembered(machine: &Machine) -> u64 {
    machine.json(&["status"]).expect("status")["deleted"].as_u64().expect("a number")
}

fn wait_remembered(machine: &Machine, deletions: u64) {
    eventually(&format!("{} remembers {deletions} deletions", machine.name), PATIENCE, || {
        let now = remembered(machine);
        (now == deletions).then_some(()).ok_or(format!("it remembers {now}"))
    });
}

#[test]
fn a_deletion_is_forgotten_when_30_days_are_over_and_every_machine_knows_it() {
    let Some(library) = library("a_deletion_is_forgotten_when_30_days_are_over_and_every_machine_knows_it") else {
        return;
    };
    let [a, b] = machines(&library, ["a", "b"]);
    write(a.at("gone"), "gone");
    write(a.at("kept"), "kept");
    converge(&[&a, &b]);
    remove(a.at("gone"));
    converge(&[&a, &b]);
    days_later(&[&a, &b], 20);
    assert_eq!((remembered(&a), remembered(&b)), (1, 1), "30 days are not over");
    days_later(&[&a, &b], 70);
    wait_remembered(&a, 0);
    wait_remembered(&b, 0);
    assert_eq!(converge(&[&a, &b]).paths(), ["day-20", "day-70", "kept"]);
}

#[test]
fn a_machine_that_was_off_for_a_year_resurrects_nothing_and_loses_none_of_its_unseen_edits() {
    let name = "a_machine_that_was_off_for_a_year_resurrects_nothing_and_loses_none_of_its_unseen_edits";
    let Some(library) = library(name) else { return };
    let [a, b, away] = machines(&library, ["a", "b", "away"]);
    for name in ["gone", "edited-there", "changed-here", "kept"] {
        write(a.at(name), "as it was");
    }
    converge(&[&a, &b, &away]);
    away.stop();
    remove(a.at("gone"));
    remove(a.at("edited-there"));
    write(a.at("changed-here"), "a year of work");
    converge(&[&a, &b]);
    write(away.at("edited-there"), "never seen by the others");
    write(away.at("made-there"), "nor this");
    for days in [60, 200, 365] {
        days_later(&[&a, &b], days);
    }
    assert!(remembered(&a) >= 2, "away has not heard of them");
    set(&away, "+365d");
    away.start();
    let all = [&a, &b, &away];
    wait_linked(&all);
    let tree = converge(&all);
    assert_eq!(tree.paths(), ["changed-here", "day-200", "day-365", "day-60", "edited-there", "kept", "made-there"]);
    assert_eq!(read(a.at("edited-there")), b"never seen by the others");
    assert_eq!(read(away.at("changed-here")), b"a year of work");
}

#[test]
fn deletions_do_not_wait_for_a_machine_that_was_removed_on_any_of_the_others() {
    let name = "deletions_do_not_wait_for_a_machine_that_was_removed_on_any_of_the_others";
    let Some(library) = library(name) else { return };
    let [a, b, lost] = machines(&library, ["a", "b", "lost"]);
    write(a.at("gone"), "gone");
    converge(&[&a, &b, &lost]);
    lost.stop();
    remove(a.at("gone"));
    converge(&[&a, &b]);
    days_later(&[&a, &b], 70);
    assert_eq!((remembered(&a), remembered(&b)), (1, 1), "lost may come back");
    assert!(text_of(&a.cli(&["status"])).contains("lost"), "status names who is away");
    let answer = a.json(&["remove", "lost", "--yes"]).expect("removed");
    assert_eq!(answer["name"], "lost");
    b.wait_log(&["a handed over the group's new secret"]);
    wait_linked(&[&a, &b]);
    wait_remembered(&a, 0);
    wait_remembered(&b, 0);
    assert!(!a.cli(&["remove", "lost", "--yes"]).status.success(), "nobody of that name is known any more");
}
