//! What machines say that they hold, and what hostile ones may not say.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::SURVEY_PATIENCE_NS;
use crate::engine::{Action, Config, Event, Now, Observed, OnConflict, Stat, StatKind, Verify};
use crate::model::DeviceId;
use crate::model::{FileTime, Mode};
use crate::wire::features::Features;
use std::collections::BTreeMap;

const NOW: Now = Now { wall: 1_000_000_000_000_000, mono: 1_000_000_000 };

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

/// An engine that holds these files, linked with so many machines, and asked to verify with them.
fn engine(names: &[&str], links: u64) -> (Engine<MapIndex>, Vec<Action>) {
    let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, MapIndex::new());
    let time = FileTime { secs: 5, nanos: 0 };
    for name in names {
        let stat = Stat { kind: StatKind::File, size: 1, mtime: time, ctime: time, ino: 1, mode: Mode(0o644) };
        let observed = Observed::File { stat, content: ContentId::of(name.as_bytes()), body: None };
        engine.observe(NOW, &path(name), observed, crate::engine::merge::ObservationSource::Walked);
    }
    for n in 1..=links {
        let device = DeviceId([n as u8 + 1; 32]);
        engine.handle(
            NOW,
            Event::LinkUp {
                link: LinkId(n),
                device,
                name: format!("m{n}"),
                dialler: false,
                features: Features::ours(),
                capability: crate::model::Capability::Write,
            },
        );
    }
    engine.handle(NOW, Event::Verify(Verify { below: None, bytes_a_second: 1, peers: true }));
    engine.begin_survey(None);
    let said = std::mem::take(&mut engine.core.out);
    (engine, said)
}

fn asked(said: &[Action]) -> (u32, Vec<SyncPath>) {
    let survey = said.iter().find_map(|action| match action {
        Action::Send { message: Message::Survey { id, paths }, .. } => Some((*id, paths.clone())),
        _ => None,
    });
    survey.expect("a survey went out")
}

fn held(names: &[Option<&str>]) -> Vec<PathContent> {
    names.iter().map(|name| PathContent { content: name.map(|name| ContentId::of(name.as_bytes())), day: 3 }).collect()
}

fn answer(engine: &mut Engine<MapIndex>, link: u64, id: u32, names: &[Option<&str>]) -> Vec<Action> {
    let message = Message::Holdings { id, held: held(names) };
    engine.handle(NOW, Event::Message { link: LinkId(link), message, wire_bytes: 1 })
}

#[test]
fn each_file_is_verified_mismatched_or_missing_at_each_machine() {
    let (mut engine, said) = engine(&["f", "g", "h"], 2);
    let (id, paths) = asked(&said);
    assert_eq!(paths, ["f", "g", "h"].map(path));
    answer(&mut engine, 1, id, &[Some("f"), Some("other"), None]);
    assert!(!engine.verification().run.unwrap().is_over, "one has not answered");
    answer(&mut engine, 2, id, &[Some("f"), Some("g"), Some("h")]);
    let run = engine.verification().run.unwrap();
    assert!(run.is_over);
    let tally = run.peers.unwrap();
    let counts: Vec<_> = tally.machines.iter().map(|m| (m.verified, m.mismatched, m.missing, m.oldest_day)).collect();
    assert_eq!(counts, [(1, 1, 1, 3), (3, 0, 0, 3)]);
    assert_eq!(tally.holders, BTreeMap::from([(2, 2), (3, 1)]));
    let files: Vec<_> =
        tally.files.iter().map(|file| (file.path.to_text(), file.mismatched.len(), file.missing.len())).collect();
    assert_eq!(files, [("g".to_owned(), 1, 0), ("h".to_owned(), 0, 1)]);
}

#[test]
fn a_machine_that_goes_is_waited_for_no_longer() {
    let (mut engine, said) = engine(&["f"], 2);
    let (id, _) = asked(&said);
    answer(&mut engine, 1, id, &[Some("f")]);
    engine.handle(NOW, Event::LinkDown { link: LinkId(2) });
    let tally = engine.verification().run.unwrap().peers.unwrap();
    assert_eq!(tally.machines.iter().map(|m| (m.verified, m.is_gone)).collect::<Vec<_>>(), [(1, false), (0, true)]);
    assert!(tally.files.is_empty(), "of who did not say, nothing is known");
}

#[test]
fn a_machine_that_lives_and_does_not_answer_is_waited_for_half_a_minute() {
    let (mut engine, said) = engine(&["f"], 2);
    let (id, _) = asked(&said);
    answer(&mut engine, 1, id, &[Some("f")]);
    let at = |ns| Now { mono: NOW.mono + ns, ..NOW };
    let due = engine.wake_at().unwrap();
    assert!(due <= at(SURVEY_PATIENCE_NS).mono, "somebody wakes it");
    engine.handle(at(SURVEY_PATIENCE_NS - 1), Event::Tick);
    assert!(!engine.verification().run.unwrap().is_over);
    engine.handle(at(SURVEY_PATIENCE_NS), Event::Tick);
    let run = engine.verification().run.unwrap();
    assert!(run.is_over);
    assert_eq!(run.peers.unwrap().machines.iter().map(|m| m.is_gone).collect::<Vec<_>>(), [false, true]);
    // Its late answer is not held against it.
    assert!(!answer(&mut engine, 2, id, &[Some("f")]).iter().any(|action| matches!(action, Action::Close { .. })));
}

#[test]
fn without_machines_the_tally_is_this_machine_s_own() {
    let (engine, _) = engine(&["f"], 0);
    let run = engine.verification().run.unwrap();
    assert!(run.is_over && run.peers.unwrap().holders == BTreeMap::from([(1, 1)]));
}

#[test]
fn answers_that_do_not_fit_the_question_close_the_link() {
    let table: [(&str, &[Option<&str>], bool); 3] =
        [("too few", &[Some("f")], true), ("too many", &[None, None, None], true), ("just so", &[None, None], false)];
    for (case, names, closes) in table {
        let (mut engine, said) = engine(&["f", "g"], 1);
        let (id, _) = asked(&said);
        let said = answer(&mut engine, 1, id, names);
        assert_eq!(said.iter().any(|action| matches!(action, Action::Close { .. })), closes, "{case}");
    }
    let (mut engine, said) = engine(&["f"], 2);
    let (id, _) = asked(&said);
    answer(&mut engine, 1, id, &[None]);
    let said = answer(&mut engine, 1, id, &[None]);
    assert!(said.iter().any(|action| matches!(action, Action::Close { .. })), "twice");
    let said = answer(&mut engine, 2, id.wrapping_add(7), &[None]);
    assert!(said.is_empty(), "of a question that is over: {said:?}");
}

#[test]
fn a_question_names_no_more_paths_than_a_peer_may_answer() {
    let names: Vec<String> = (10_000..12_500).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut engine, mut said) = engine(&names, 1);
    let mut total = 0;
    while !engine.verification().run.unwrap().is_over {
        let (id, paths) = asked(&said);
        assert!(paths.len() <= SURVEY_PATHS);
        total += paths.len();
        said = answer(&mut engine, 1, id, &vec![None; paths.len()]);
    }
    assert_eq!(total, names.len());
}

#[test]
fn what_is_asked_of_this_machine_is_what_its_disk_column_says() {
    let (mut engine, _) = engine(&["f"], 1);
    let message = Message::Survey { id: 9, paths: vec![path("f"), path("nothing")] };
    let said = engine.handle(NOW, Event::Message { link: LinkId(1), message, wire_bytes: 1 });
    let held = said.iter().find_map(|action| match action {
        Action::Send { message: Message::Holdings { id: 9, held }, .. } => Some(held.clone()),
        _ => None,
    });
    let contents: Vec<_> = held.unwrap().iter().map(|held| held.content).collect();
    assert_eq!(contents, [Some(ContentId::of(b"f")), None]);
}
