//! The second hash of what changed within one tick of the clock.

use super::*;

#[test]
fn a_file_has_its_overdue_second_hash_before_it_is_replaced() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let first = entry("first", WALL, 0o644);
    engine.observe(at(0), &path("f"), seen(&first, WALL), ObservationSource::Live);
    let actions = receive(&mut engine, 3 * SECOND, "f", &entry("newer", WALL + SECOND, 0o644));
    assert_eq!(inspections(&actions), [("f".to_owned(), true)]);
    let unseen = entry("unseen by the stat", WALL, 0o644);
    inspected(&mut engine, 3 * SECOND, "f", seen(&unseen, WALL));
    let row = engine.index().get(&path("f")).unwrap();
    assert_eq!(row.disk.unwrap().entry.kind, unseen.kind);
}

#[test]
fn second_hashes_wait_while_there_is_much_else_but_not_for_ever() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.observe(at(0), &path("f"), seen(&entry("first", WALL, 0o644), WALL), ObservationSource::Live);
    for n in 0..8 {
        receive(&mut engine, 1, &format!("wanted{n}"), &entry("wanted", WALL, 0o644));
    }
    let rehashed = |actions: Vec<Action>| inspections(&actions).iter().any(|(_, rehash)| *rehash);
    assert!(!rehashed(engine.handle(at(3 * SECOND), Event::Tick)));
    assert!(!rehashed(engine.handle(at(31 * SECOND), Event::Tick)));
    assert!(rehashed(engine.handle(at(33 * SECOND), Event::Tick)));
}

/// The disk may take its time between the inspection and its answer, and a second write in the tick
/// of the first leaves no trace in the stat.
#[test]
fn a_file_that_was_young_when_it_was_looked_at_has_its_second_hash_however_late_the_answer() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let hint = Event::Hint { path: path("f"), hint: Hint::Closed };
    engine.handle(at(SECOND), hint);
    assert_eq!(inspections(&engine.handle(at(SECOND + SECOND / 10), Event::Tick)), [("f".to_owned(), false)]);
    inspected(&mut engine, 20 * SECOND, "f", seen(&entry("first", WALL + SECOND, 0o644), WALL + SECOND));
    let actions = engine.handle(at(23 * SECOND), Event::Tick);
    assert_eq!(inspections(&actions), [("f".to_owned(), true)]);
    inspected(&mut engine, 24 * SECOND, "f", seen(&entry("unseen by the stat", WALL, 0o644), WALL + SECOND));
    assert_eq!(inspections(&engine.handle(at(60 * SECOND), Event::Tick)), [], "that one was not young");
}

#[test]
fn second_hashes_wait_while_a_peer_fetches_something_large_but_not_for_ever() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let first = entry("first", WALL, 0o644);
    let (content, size) = first.file().unwrap();
    engine.observe(at(0), &path("f"), seen(&first, WALL), ObservationSource::Live);
    let rehashed = |engine: &mut Engine<MapIndex>, ms: u64| {
        let tick = engine.handle(at(ms * SECOND / 1000), Event::Tick);
        inspections(&tick).iter().any(|(_, rehash)| *rehash)
    };
    let ask = |engine: &mut Engine<MapIndex>, ms: u64| {
        let (link, stream) = (LinkId(1), FetchId(ms as u32));
        engine.handle(at(ms * SECOND / 1000), Event::FetchAsked { link, stream, path: path("f"), content, size });
    };
    for ms in (1500..31_000).step_by(500) {
        ask(&mut engine, ms);
        assert!(!rehashed(&mut engine, ms + 400), "at {ms} ms");
    }
    assert!(rehashed(&mut engine, 33_000), "it has waited for 30 s");
    engine.observe(at(40 * SECOND), &path("g"), seen(&first, WALL + 40 * SECOND), ObservationSource::Live);
    ask(&mut engine, 42_000);
    assert!(!rehashed(&mut engine, 42_500));
    assert!(rehashed(&mut engine, 43_500), "the peer is done");
}

#[test]
fn a_second_hash_is_still_made_after_a_crash() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.observe(at(0), &path("old"), seen(&entry("old", 5, 0o644), 5), ObservationSource::Walked);
    engine.observe(at(0), &path("f"), seen(&entry("first", WALL, 0o644), WALL), ObservationSource::Live);
    let mut engine = restarted(engine.into_index(), Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let actions = engine.handle(at(3 * SECOND), Event::Tick);
    assert_eq!(inspections(&actions), [("f".to_owned(), true)]);
    inspected(&mut engine, 5 * SECOND, "f", seen(&entry("first", WALL, 0o644), WALL));
    let mut engine = restarted(engine.into_index(), Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    assert_eq!(inspections(&engine.handle(at(1), Event::Tick)), [], "it was made");
}

#[test]
fn a_second_hash_before_the_first_walk_concludes_nothing_from_a_missing_file() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.observe(at(0), &path("f"), seen(&entry("first", WALL, 0o644), WALL), ObservationSource::Live);
    let mut engine = restarted(engine.into_index(), Trust::Known);
    let walk = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    assert_eq!(inspections(&engine.handle(at(1), Event::Tick)), [("f".to_owned(), true)]);
    inspected(&mut engine, 2, "f", Observed::Absent);
    assert!(!engine.safety.has_missing());
    engine.handle(at(3), Event::Walked { walk, unread: Vec::new() });
    engine.handle(at(3), Event::Root(RootState::Fine));
    assert_eq!(engine.status().held_deletions, 1, "everything is gone: a person is asked");
}
