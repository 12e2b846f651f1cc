//! Orders to undo over a restart: none is forgotten, and none is given twice.

use super::undoing::{Has, PEER_HAS_ALL, announced, answer, undo};
use super::*;
use crate::engine::limits::SECOND;
use crate::wire::message::Place;

const ORDER: &str = "undo.order";

/// The machine after a crash and a walk that finds these.
fn restarted(machine: Machine, found: &[(SyncPath, Stat, ContentId)]) -> Machine {
    let mut machine = Machine::new(machine.engine.into_index());
    machine.scan(found);
    machine.wait(20 * SECOND);
    machine.inspect(found);
    machine.wait(20 * SECOND);
    machine
}

fn files(range: std::ops::Range<u64>) -> Vec<(SyncPath, Stat, ContentId)> {
    range.map(|n| file(n, 1_000_000)).collect()
}

fn is_ordered(machine: &Machine) -> bool {
    machine.engine.index().meta(ORDER).is_some_and(|order| !order.is_empty())
}

#[test]
fn an_order_that_a_crash_cut_off_is_carried_out_after_the_restart_once_a_machine_is_linked() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..90);
    machine.remove_live(90..150);
    assert_eq!(machine.engine.status().held_deletions, 60);
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    assert!(is_ordered(&machine), "it is known before it is answered");
    let mut machine = restarted(machine, &files(150..200));
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (60, 110), "nobody can be asked yet");
    let mut machine = machine.linked();
    // Peers answer at once.
    let has: Has = |sought| (if sought.path == path("f5") { Place::Nowhere } else { Place::History }, false);
    for _ in 0..20 {
        machine.wait(SECOND);
        answer(&mut machine, has);
    }
    machine.wait(SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 199));
    let sent = announced(&machine);
    let again: Vec<_> = sent.iter().filter(|(_, entry)| entry.is_live()).map(|(path, _)| path).collect();
    assert_eq!(again.len(), 89, "what had gone through, but for what nobody has");
    assert!(machine.has_said(|report| *report == Report::StaysAway { paths: vec![path("f5")] }));
    let announces = |action: &Action| matches!(action, Action::Send { message: Message::Undo { .. }, .. });
    assert!(machine.said.iter().any(announces), "other machines may hold something, too");
    machine.wait(10 * SECOND);
    assert!(!is_ordered(&machine), "it was carried out");
}

#[test]
fn an_order_of_another_machine_s_person_that_a_crash_cut_off_is_carried_out_too() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.receive(Message::Undo { relayed_to: Vec::new() });
    assert!(is_ordered(&machine));
    let mut machine = restarted(machine, &files(150..200)).linked();
    machine.wait(20 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(20 * SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
    assert!(!is_ordered(&machine));
}

#[test]
fn what_a_person_wants_back_is_held_after_a_restart_also_where_it_is_no_disaster_any_more() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    // Most are put back before the daemon starts again.
    let mut machine = restarted(machine, &files(10..200));
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (10, 200));
    let mut machine = machine.linked();
    machine.wait(20 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(20 * SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
}

#[test]
fn what_nobody_had_stays_held_over_a_restart_and_comes_once_a_machine_that_has_it_is_linked() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let nobody_has_ten: Has = |sought| {
        let is_one = sought.path.as_bytes().len() == 2;
        (if is_one { Place::Nowhere } else { Place::Disk }, false)
    };
    undo(&mut machine, nobody_has_ten);
    machine.wait(10 * SECOND);
    assert!(!is_ordered(&machine), "it was carried out, as far as it could be");
    let mut machine = restarted(machine, &files(150..200));
    assert_eq!(machine.engine.status().held_deletions, 10);
    let mut machine = machine.linked();
    machine.wait(10 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
    // It is here again, and its user deletes it.
    let found = files(0..200);
    machine.handle(Event::Overflow);
    machine.scan(&found);
    let mut machine = restarted(machine, &found);
    machine.remove_live(0..1);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 199));
}

#[test]
fn older_contents_that_a_person_refused_are_still_refused_after_a_restart() {
    let found = |older: std::ops::Range<u64>| -> Vec<_> {
        (0..200).map(|n| file(n, if older.contains(&n) { 900_000 } else { 1_000_000 })).collect()
    };
    let mut machine = Machine::with_files(200).linked();
    machine.handle(Event::Overflow);
    machine.scan(&found(0..150));
    assert_eq!(machine.engine.status().held_reverts, 150);
    let before = machine.engine.index().get(&path("f0")).unwrap().head;
    machine.said.clear();
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    answer(&mut machine, PEER_HAS_ALL);
    // The inspections that would find them have not ended.
    let mut machine = restarted(machine, &found(0..20));
    assert_eq!(machine.engine.status().held_reverts, 20);
    let mut machine = machine.linked();
    machine.wait(20 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.inspect(&found(0..20));
    machine.wait(SECOND);
    assert_eq!(machine.engine.status().held_reverts, 0);
    let row = machine.engine.index().get(&path("f0")).unwrap();
    assert!(row.head.same_on_disk(&before) && !row.is_settled(), "what it was comes over it");
}

#[test]
fn whoever_confirms_after_the_restart_takes_the_order_back() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    let mut machine = restarted(machine, &files(150..200));
    assert_eq!(machine.engine.status().held_deletions, 150);
    machine.handle(Event::Confirm);
    machine.scan(&files(150..200));
    machine.wait(20 * SECOND);
    let mut machine = machine.linked();
    machine.wait(20 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 50));
    assert!(!is_ordered(&machine));
}

#[test]
fn an_order_of_an_hour_ago_is_not_taken_up_for_what_went_since() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    let mut machine = restarted(machine, &files(150..200));
    machine.wait(3700 * SECOND);
    machine.scan(&files(150..200));
    assert!(!is_ordered(&machine));
    assert_eq!(machine.engine.status().held_deletions, 150, "what is held is wanted back all the same");
    let mut machine = machine.linked();
    machine.wait(5 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
}
