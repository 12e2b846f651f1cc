//! What histories hold, asked, answered and fetched; and what hostile machines may not do.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::UNCLAIMED_NS;
use crate::engine::{Config, Event, OnConflict, StatKind};
use crate::model::{FileTime, Mode, RetainReason};
use crate::wire::features::Features;

const NOW: Now = Now { wall: 1_000_000_000_000_000, mono: 1_000_000_000 };

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn device(n: u64) -> DeviceId {
    DeviceId([n as u8; 32])
}

/// Linked with 2 and 3, which know of histories, and with 4, which does not.
fn engine() -> Engine<MapIndex> {
    let config = Config { device: device(1), name: "a".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, MapIndex::new());
    for n in 2..=4 {
        let features = if n == 4 { Features::default() } else { Features::ours() };
        let (link, device, name) = (LinkId(n), device(n), format!("m{n}"));
        engine.handle(
            NOW,
            Event::LinkUp { link, device, name, dialler: false, features, capability: crate::model::Capability::Write },
        );
    }
    engine
}

fn past(at: &str, time_ns: u64, what: PastWhat) -> Past {
    let (mode, mtime) = (Mode(0o644), FileTime::default());
    Past { path: path(at), time_ns, reason: RetainReason::Deleted, size: 3, mode, mtime, what }
}

fn ask(engine: &mut Engine<MapIndex>, below: Option<&str>, named: &[(u64, &str)]) -> Vec<(LinkId, u32)> {
    let mut by_device: BTreeMap<DeviceId, Vec<(SyncPath, u64)>> = BTreeMap::new();
    for (n, name) in named {
        by_device.entry(device(*n)).or_default().push((path(name), 7));
    }
    let ask = AskPast { ticket: 5, path: below.map(path), named: by_device, bytes: 0 };
    let said = engine.handle(NOW, Event::AskPast(ask));
    let asked = said.into_iter().filter_map(|action| match action {
        Action::Send { to, message: Message::History { id, .. } } => Some((to[0], id)),
        _ => None,
    });
    asked.collect()
}

fn answer(engine: &mut Engine<MapIndex>, link: u64, id: u32, pasts: Vec<Past>, more: bool) -> Option<String> {
    let message = Message::Pasts { id, pasts, more };
    let said = engine.handle(NOW, Event::Message { link: LinkId(link), message, wire_bytes: 1 });
    said.into_iter().find_map(|action| match action {
        Action::Close { why, .. } => Some(why),
        _ => None,
    })
}

#[test]
fn all_linked_machines_are_asked_and_each_answer_is_its_own() {
    let mut engine = engine();
    let asked = ask(&mut engine, Some("d"), &[]);
    assert_eq!(asked.iter().map(|(link, _)| link.0).collect::<Vec<_>>(), [2, 3], "4 does not know the question");
    let id = asked[0].1;
    assert_eq!(answer(&mut engine, 2, id, vec![past("d/f", 9, PastWhat::Unidentified)], true), None);
    assert_eq!(answer(&mut engine, 2, id, vec![past("d", 8, PastWhat::Unidentified)], false), None);
    assert_eq!(engine.take_pasts(5), None, "3 has not answered");
    assert_eq!(answer(&mut engine, 3, id.wrapping_sub(1), vec![], false), None, "of an older question");
    engine.handle(NOW, Event::LinkDown { link: LinkId(3) });
    let machines = engine.take_pasts(5).unwrap();
    let counts: Vec<_> = machines.iter().map(|m| (&*m.name, m.pasts.len(), m.is_whole)).collect();
    assert_eq!(counts, [("m2", 2, true), ("m3", 0, false), ("m4", 0, false)]);
    assert_eq!(engine.take_pasts(5), None, "it is told once");
}

#[test]
fn who_does_not_answer_is_waited_for_no_longer_than_said() {
    let mut engine = engine();
    ask(&mut engine, None, &[]);
    let due = engine.peers.queries.past.next().unwrap();
    engine.handle(Now { mono: due, ..NOW }, Event::Tick);
    assert!(engine.take_pasts(5).unwrap().iter().all(|machine| !machine.is_whole));
}

#[test]
fn an_answer_to_something_else_closes_the_link_and_counts_for_nothing() {
    let outside = || vec![past("e", 9, PastWhat::Unidentified)];
    let many = || (0..=PASTS as u64).map(|n| past("d", n, PastWhat::Unidentified)).collect::<Vec<_>>();
    let long = || {
        let target = |n| past("d", n, PastWhat::Link(vec![b'x'; 4000]));
        (0..5000).map(target).collect::<Vec<_>>()
    };
    for pasts in [outside(), many(), long()] {
        let mut engine = engine();
        let id = ask(&mut engine, Some("d"), &[])[0].1;
        assert!(answer(&mut engine, 2, id, pasts, false).is_some());
        answer(&mut engine, 3, id, vec![], false);
        let machines = engine.take_pasts(5).unwrap();
        assert!(machines[0].pasts.is_empty() && !machines[0].is_whole);
    }
    // Of a question for exact things, nothing else.
    let mut engine = engine();
    let asked = ask(&mut engine, None, &[(2, "f")]);
    assert_eq!(asked.len(), 1);
    let id = asked[0].1;
    assert!(answer(&mut engine, 3, id, vec![], false).is_some(), "it was not asked");
    assert!(answer(&mut engine, 2, id, vec![past("f", 8, PastWhat::File(ContentId([1; 32])))], false).is_some());
    let id = ask(&mut engine, None, &[(2, "f")])[0].1;
    assert_eq!(answer(&mut engine, 2, id, vec![past("f", 7, PastWhat::File(ContentId([1; 32])))], false), None);
    assert_eq!(engine.take_pasts(5).unwrap()[0].pasts.len(), 1);
}

#[test]
fn what_comes_from_a_history_is_there_for_who_asked_or_dropped() {
    let mut engine = engine();
    let wanted =
        |ticket, n| FetchPast { ticket, device: device(n), path: path("f"), content: ContentId([1; 32]), size: 3 };
    engine.handle(NOW, Event::FetchPast(wanted(1, 9)));
    assert_eq!(engine.take_fetched(1), Some(Err(FetchError::LinkLost)), "nobody of that name is linked");
    let begin = |engine: &mut Engine<MapIndex>, ticket| {
        let said = engine.handle(NOW, Event::FetchPast(wanted(ticket, 2)));
        let fetch = said.iter().find_map(|action| match action {
            Action::Fetch { fetch, from: LinkId(2), .. } => Some(*fetch),
            _ => None,
        });
        fetch.unwrap()
    };
    let fetch = begin(&mut engine, 2);
    assert_eq!(engine.take_fetched(2), None);
    engine.handle(NOW, Event::Fetched { fetch, staged: StageId(4), wire_bytes: 3 });
    assert_eq!(engine.take_fetched(2), Some(Ok(StageId(4))));
    // Nobody takes the second, and the third never comes.
    let fetch = begin(&mut engine, 3);
    engine.handle(NOW, Event::Fetched { fetch, staged: StageId(5), wire_bytes: 3 });
    let fetch = begin(&mut engine, 4);
    let said = engine.handle(Now { mono: NOW.mono + UNCLAIMED_NS, ..NOW }, Event::Tick);
    assert!(said.contains(&Action::Discard(StageId(5))) && said.contains(&Action::CancelFetch { fetch }), "{said:?}");
    assert_eq!(engine.take_fetched(4), Some(Err(FetchError::NotHere)));
}

#[test]
fn a_content_in_history_is_served_to_who_was_told_of_it_and_for_that_path_alone() {
    let mut engine = engine();
    let message = Message::History { id: 1, path: None, named: vec![(path("f"), 7)] };
    let said = engine.handle(NOW, Event::Message { link: LinkId(2), message, wire_bytes: 1 });
    assert!(said.iter().any(|action| matches!(action, Action::ListPast { to: LinkId(2), .. })));
    let (content, time) = (ContentId([1; 32]), FileTime::default());
    let stat = Stat { kind: StatKind::File, size: 3, mtime: time, ctime: time, ino: 1, mode: Mode(0o644) };
    let found = FoundPast { past: past("f", 7, PastWhat::File(content)), kept: "7.deleted.f".into(), stat };
    engine.handle(NOW, Event::PastListed { link: LinkId(2), id: 1, found: vec![found] });
    let mut serves = |link: u64, at: &str, content, size| {
        let stream = FetchId(1);
        let asked = Event::FetchAsked { link: LinkId(link), stream, path: path(at), content, size };
        let said = engine.handle(NOW, asked);
        said.into_iter().any(|action| matches!(action, Action::Serve { file: Some(file), .. } if file.kept.is_some()))
    };
    assert!(serves(2, "f", content, 3));
    assert!(!serves(3, "f", content, 3), "it was not told of it");
    assert!(!serves(2, "g", content, 3) && !serves(2, "f", content, 4) && !serves(2, "f", ContentId([2; 32]), 3));
}
