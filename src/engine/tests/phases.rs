//! What two machines are at with each other: it is said when it changes, twice a second at most.

use super::*;
use crate::engine::limits::PHASE_EVERY_NS;

fn phases(actions: &[Action]) -> Vec<SyncPhase> {
    let phase = |action: &Action| match action {
        Action::Report(Report::Syncing { peer, phase }) if peer == "b" => Some(*phase),
        _ => None,
    };
    actions.iter().filter_map(phase).collect()
}

fn tick(engine: &mut Engine<MapIndex>, turn: u64) -> Vec<SyncPhase> {
    phases(&engine.handle(at(turn * PHASE_EVERY_NS), Event::Tick))
}

fn jobs(actions: &[Action]) -> Vec<JobId> {
    actions.iter().filter_map(|a| if let Action::Install(job) = a { Some(job.id) } else { None }).collect()
}

#[test]
fn what_is_awaited_is_transferring_what_is_put_in_place_is_applying_and_then_it_is_done() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    assert_eq!(tick(&mut engine, 1), []);
    let file = entry("content", 5, 0o644);
    let asked = receive(&mut engine, PHASE_EVERY_NS + 1, "f", &file);
    assert_eq!(phases(&asked), [], "it was looked at just now");
    assert_eq!(tick(&mut engine, 2), [SyncPhase::Transferring]);
    assert_eq!(tick(&mut engine, 3), [], "it was said");
    let contents = gets(&asked).into_iter().map(|id| (id, Some(bytes::Bytes::from_static(b"content")))).collect();
    let came = Event::Message { link: LINK, message: Message::Contents { contents }, wire_bytes: 1 };
    let mut actions = engine.handle(at(3 * PHASE_EVERY_NS + 1), came);
    actions.extend(engine.handle(at(3 * PHASE_EVERY_NS + 1), Event::Tick));
    let job = jobs(&actions)[0];
    assert_eq!(tick(&mut engine, 4), [SyncPhase::Applying]);
    let outcome = Outcome::Done { stat: Some(stat(&file, 1)), kept: None };
    engine.handle(at(4 * PHASE_EVERY_NS + 1), Event::Installed { job, outcome });
    assert_eq!(tick(&mut engine, 5), [SyncPhase::Done]);
    assert_eq!(tick(&mut engine, 6), []);
}

#[test]
fn what_cannot_be_put_in_place_is_not_being_transferred_for_ever() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let folder = Entry { kind: Kind::Directory, ..entry("", 5, 0o755) };
    let actions = receive(&mut engine, 1, "d", &folder);
    let job = jobs(&actions)[0];
    assert_eq!(phases(&actions), [SyncPhase::Applying]);
    let trouble = Trouble { cause: Cause::Denied, text: "it is immutable".to_owned() };
    engine.handle(at(PHASE_EVERY_NS + 1), Event::Installed { job, outcome: Outcome::Failed(trouble) });
    assert_eq!(tick(&mut engine, 2), [SyncPhase::Done]);
}

#[test]
fn a_peer_that_still_has_to_get_something_is_being_transferred_to() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let mut says = |turn: u64, pending| {
        let root = engine.index_mut().root_digest();
        let message = Message::State { root, pending, condition: None };
        engine.handle(at(turn * PHASE_EVERY_NS - 1), Event::Message { link: LINK, message, wire_bytes: 1 });
        tick(&mut engine, turn)
    };
    assert_eq!(says(1, 3), [SyncPhase::Transferring]);
    assert_eq!(says(2, 1), []);
    assert_eq!(says(3, 0), [SyncPhase::Done]);
}
