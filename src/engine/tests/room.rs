//! The room that contents on their way take.

use super::*;

#[test]
fn what_is_asked_for_has_room_when_it_comes_whatever_comes_along_meanwhile() {
    let mut engine = engine(&[], Trust::Known);
    *engine.transfer.body_bytes() = limits::BODIES_BYTES;
    assert!(gets(&receive(&mut engine, 1, "f", &entry("wanted", WALL, 0o644))).is_empty(), "there is no room");
    *engine.transfer.body_bytes() = limits::BODIES_BYTES - SMALL_FILE_BYTES;
    let asked = gets(&engine.handle(at(2), Event::Tick));
    assert_eq!(asked.len(), 1, "as soon as there is");
    let along = |name: &str, length: u64| {
        let body = vec![7; length as usize];
        let change =
            Change { path: path(name), entry: entry(&"\x07".repeat(body.len()), WALL, 0o644), body: Some(body.into()) };
        Message::Changes { changes: vec![change], relayed_to: Vec::new() }
    };
    let mut actions = Vec::new();
    for (name, length) in [("g", SMALL_FILE_BYTES), ("h", SMALL_FILE_BYTES - 6)] {
        actions
            .extend(engine.handle(at(2), Event::Message { link: LINK, message: along(name, length), wire_bytes: 1 }));
    }
    let contents = vec![(asked[0], Some(bytes::Bytes::from_static(b"wanted")))];
    actions.extend(
        engine.handle(at(2), Event::Message { link: LINK, message: Message::Contents { contents }, wire_bytes: 1 }),
    );
    actions.extend(engine.handle(at(2), Event::Tick));
    let installed = |actions: &[Action]| -> Vec<String> {
        let path = |action: &Action| if let Action::Install(job) = action { Some(job.path.to_text()) } else { None };
        actions.iter().filter_map(path).collect()
    };
    assert_eq!(installed(&actions), ["f", "h"], "the room of 'f' was no other's");
}

#[test]
fn what_waits_for_a_person_keeps_no_room_from_the_others() {
    let mut engine = engine(&[], Trust::Known);
    engine.safety.held_mut().insert(path("f"));
    let change =
        Change { path: path("f"), entry: entry("held", WALL, 0o644), body: Some(bytes::Bytes::from_static(b"held")) };
    let message = Message::Changes { changes: vec![change], relayed_to: Vec::new() };
    engine.handle(at(1), Event::Message { link: LINK, message, wire_bytes: 1 });
    assert_eq!(*engine.transfer.body_bytes(), 4);
    let actions = engine.handle(at(1), Event::Tick);
    assert_eq!((*engine.transfer.body_bytes(), installs(&actions)), (0, 0));
    engine.safety.held_mut().clear();
    engine.transfer.retry_now(&path("f"));
    assert_eq!(gets(&engine.handle(at(2), Event::Tick)).len(), 1, "it is asked for when it may come");
}
