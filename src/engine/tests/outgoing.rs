//! How a flood of changes is announced: all of it, in order, and so much a tick.

use super::*;
use crate::engine::limits::CHANGES_A_TICK;

const FOLDERS: usize = CHANGES_A_TICK * 2 + 100;

fn name(n: usize) -> String {
    format!("d{n:06}")
}

fn announced(actions: &[Action]) -> Vec<String> {
    let paths = |action: &Action| match action {
        Action::Send { message: Message::Changes { changes, .. }, .. } => {
            changes.iter().map(|change| change.path.to_text()).collect()
        }
        _ => Vec::new(),
    };
    actions.iter().flat_map(paths).collect()
}

fn says_state(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Send { message: Message::State { .. }, .. }))
}

/// Linked to a peer that knows this machine, and so many folders were made here since.
fn flooded() -> Engine<MapIndex> {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(0), Event::Message { link: LINK, message: Message::Known { counter: 0 }, wire_bytes: 1 });
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    for n in 0..FOLDERS {
        engine.observe(at(1), &path(&name(n)), seen(&folder, 1), ObservationSource::Live);
    }
    engine
}

#[test]
fn a_flood_of_changes_is_announced_in_order_over_several_ticks_that_are_due_at_once() {
    let mut engine = flooded();
    let mut ticks = Vec::new();
    while engine.wake_at() == Some(0) {
        ticks.push(announced(&engine.handle(at(2), Event::Tick)));
    }
    assert_eq!(ticks.iter().map(Vec::len).collect::<Vec<_>>(), [CHANGES_A_TICK, CHANGES_A_TICK, 100]);
    assert_eq!(ticks.concat(), (0..FOLDERS).map(name).collect::<Vec<_>>());
}

#[test]
fn the_state_of_this_machine_is_announced_after_all_changes_that_made_it() {
    let mut engine = flooded();
    // As late as this, a state has been due for long.
    let late = 60 * SECOND;
    assert!(!says_state(&engine.handle(at(late), Event::Tick)));
    assert!(!says_state(&engine.handle(at(late), Event::Tick)));
    let last = engine.handle(at(late), Event::Tick);
    assert_eq!(announced(&last).len(), 100);
    assert!(says_state(&last));
}

#[test]
fn what_waits_to_be_announced_is_forgotten_once_nobody_is_linked() {
    let mut engine = flooded();
    engine.handle(at(2), Event::Tick);
    engine.handle(at(2), Event::LinkDown { link: LINK });
    let mut rest = Vec::new();
    while engine.wake_at() == Some(0) {
        rest.extend(announced(&engine.handle(at(2), Event::Tick)));
    }
    assert!(rest.is_empty());
    assert!(!engine.peers.has_outgoing());
}
