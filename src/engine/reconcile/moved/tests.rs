//! The two halves of a rename, and deletions that are none.

use super::*;
use crate::engine::api::index::{OnDisk, Row};
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{RENAME_HALVES_NS, SECOND};
use crate::engine::{Config, Event, Hint, Job, LinkId, Observed, OnConflict, Outcome, Source, StatKind, Trust};
use crate::model::{DeviceId, Entry, FileTime, Kind, Mode, Version, VersionVector};
use crate::wire::features::Features;
use crate::wire::message::{Change, Message};

const LINK: LinkId = LinkId(1);
const SINCE: u64 = 77;

fn at(mono: u64) -> Now {
    Now { wall: 1_700_000_000 * SECOND + mono, mono }
}

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn entry(kind: Kind, stamp: u64) -> Entry {
    let author = DeviceId([9; 32]);
    let version = Version { stamp, author, seen: VersionVector::default().with(author, stamp) };
    Entry { kind, mode: Mode(0o644), mtime: FileTime { secs: 5, nanos: 0 }, version }
}

fn content() -> ContentId {
    ContentId::of(b"x")
}

fn file(stamp: u64) -> Entry {
    entry(Kind::File { size: 1, content: content() }, stamp)
}

fn stat(ino: u64) -> Stat {
    let time = FileTime { secs: 5, nanos: 0 };
    Stat { kind: StatKind::File, size: 1, mtime: time, ctime: time, ino, mode: Mode(0o644) }
}

/// Holds `a` and `b`, of the same content, and is linked with a peer.
fn engine() -> Engine<MapIndex> {
    let mut index = MapIndex::new();
    index.set_meta(crate::engine::META_SCANNED, b"1");
    for (name, ino) in [("a", 1), ("b", 2)] {
        let entry = file(ino);
        let disk = Some(OnDisk { entry: entry.clone(), stat: Some(stat(ino)), local: false });
        index.put(&path(name), &Row { head: entry, disk, installing: None, since: SINCE });
    }
    let config = Config { device: DeviceId([1; 32]), name: "here".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, index);
    engine.start(at(0), Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let (device, features) = (DeviceId([9; 32]), Features::ours());
    engine.handle(
        at(0),
        Event::LinkUp {
            link: LINK,
            device,
            name: "peer".into(),
            dialler: false,
            features,
            capability: crate::model::Capability::Write,
        },
    );
    engine
}

/// The peer tells of a change; what follows.
fn receive(engine: &mut Engine<MapIndex>, mono: u64, name: &str, entry: &Entry) -> Vec<Action> {
    let changes = vec![Change { path: path(name), entry: entry.clone(), body: None }];
    let message = Message::Changes { changes, relayed_to: Vec::new() };
    let mut said = engine.handle(at(mono), Event::Message { link: LINK, message, wire_bytes: 1 });
    said.extend(engine.handle(at(mono), Event::Tick));
    said
}

/// What an install comes to, and what follows.
fn ends(engine: &mut Engine<MapIndex>, mono: u64, job: &Job, outcome: Outcome) -> Vec<Action> {
    let mut said = engine.handle(at(mono), Event::Installed { job: job.id, outcome });
    said.extend(engine.handle(at(mono), Event::Tick));
    said
}

fn job(said: Vec<Action>) -> Option<Job> {
    said.into_iter().find_map(|action| match action {
        Action::Install(job) => Some(job),
        _ => None,
    })
}

fn asks(said: &[Action]) -> bool {
    said.iter().any(|action| matches!(action, Action::Send { message: Message::Get { .. }, .. }))
}

/// The peer tells of a change, and it is installed; the job.
fn install(engine: &mut Engine<MapIndex>, mono: u64, name: &str, entry: &Entry) -> Job {
    let job = job(receive(engine, mono, name, entry)).expect("it is installed");
    let outcome = if entry.is_live() {
        Outcome::Done { stat: Some(stat(3)), kept: None }
    } else {
        Outcome::Done { stat: None, kept: Some(format!("kept of {name}")) }
    };
    engine.handle(at(mono), Event::Installed { job: job.id, outcome });
    job
}

fn deletion(stamp: u64) -> Entry {
    entry(Kind::Deleted { at: stamp }, stamp)
}

/// What is dropped from history by then.
fn dropped(engine: &mut Engine<MapIndex>, mono: u64) -> Vec<String> {
    let said = engine.handle(at(mono), Event::Tick);
    let kept = said.into_iter().filter_map(|action| match action {
        Action::DropKept { kept, path: at, stat: there, .. } => Some(format!("{kept}, at {at} ({})", there.ino)),
        _ => None,
    });
    kept.collect()
}

#[test]
fn of_a_rename_history_keeps_nothing_once_it_has_rested_and_of_a_later_deletion_it_does() {
    let mut engine = engine();
    install(&mut engine, SECOND, "new", &file(10));
    let job = install(&mut engine, 2 * SECOND, "a", &deletion(11));
    assert_eq!(job.since_ns, SINCE, "history is told since when it was here");
    install(&mut engine, 2 * SECOND, "b", &deletion(12));
    assert!(dropped(&mut engine, 7 * SECOND).is_empty(), "a late write is looked for first");
    assert_eq!(dropped(&mut engine, 9 * SECOND), ["kept of a, at new (3)"], "one arrival is one rename");
}

#[test]
fn what_is_not_live_where_it_came_to_stays_in_history() {
    let mut engine = engine();
    install(&mut engine, SECOND, "new", &file(10));
    install(&mut engine, 2 * SECOND, "a", &deletion(11));
    install(&mut engine, 3 * SECOND, "new", &deletion(12));
    assert!(dropped(&mut engine, 20 * SECOND).is_empty());
}

#[test]
fn of_a_rename_that_a_user_here_carries_on_history_keeps_nothing_either() {
    let mut engine = engine();
    install(&mut engine, SECOND, "new", &file(10));
    install(&mut engine, 2 * SECOND, "a", &deletion(11));
    let Kind::File { content, .. } = file(1).kind else { unreachable!("a file") };
    let there = Observed::File { stat: Stat { size: 1, ..stat(4) }, content, body: None };
    for (name, hint) in [("onward", Hint::Closed), ("new", Hint::Gone)] {
        engine.handle(at(3 * SECOND), Event::Hint { path: path(name), hint });
    }
    engine.handle(at(4 * SECOND), Event::Tick);
    engine.handle(at(4 * SECOND), Event::Inspected { path: path("onward"), observed: there });
    engine.handle(at(4 * SECOND), Event::Inspected { path: path("new"), observed: Observed::Absent });
    assert_eq!(dropped(&mut engine, 9 * SECOND), ["kept of a, at onward (4)"]);
}

#[test]
fn what_came_long_before_the_deletion_is_no_half_of_it() {
    let mut engine = engine();
    install(&mut engine, SECOND, "new", &file(10));
    let late = 2 * RENAME_HALVES_NS;
    install(&mut engine, late, "a", &deletion(13));
    assert!(dropped(&mut engine, late + 20 * SECOND).is_empty());
}

/// Both files of the content are deleted, before the file that it was renamed to is told.
fn deleted() -> Engine<MapIndex> {
    let mut engine = engine();
    install(&mut engine, SECOND, "a", &deletion(11));
    install(&mut engine, SECOND, "b", &deletion(12));
    engine
}

#[test]
fn a_file_whose_old_name_was_deleted_first_comes_from_history_and_is_kept_there_no_longer() {
    let mut engine = deleted();
    let job = install(&mut engine, 60 * SECOND, "new", &file(13));
    assert_eq!(job.source, Source::Kept { kept: "kept of b".into(), stat: stat(2) });
    assert_eq!(dropped(&mut engine, 70 * SECOND), ["kept of b, at new (3)"]);
    assert_eq!(
        install(&mut engine, 80 * SECOND, "c", &file(14)).source,
        Source::Copy { from: path("new"), stat: stat(3) }
    );
}

#[test]
fn what_history_does_not_have_any_more_is_asked_for() {
    let mut engine = deleted();
    let job = job(receive(&mut engine, 60 * SECOND, "new", &file(13))).unwrap();
    let said = ends(&mut engine, 60 * SECOND, &job, Outcome::NoSource);
    assert!(asks(&said), "{said:?}");
}

#[test]
fn a_content_that_is_on_its_way_to_history_is_waited_for() {
    let mut engine = engine();
    engine.index_mut().remove(&path("a"));
    let goes = job(receive(&mut engine, SECOND, "b", &deletion(12))).unwrap();
    let said = receive(&mut engine, SECOND, "new", &file(13));
    assert!(!asks(&said), "{said:?}");
    assert_eq!(job(said), None);
    let kept = Outcome::Done { stat: None, kept: Some("kept of b".into()) };
    let source = job(ends(&mut engine, SECOND, &goes, kept)).map(|job| job.source);
    assert_eq!(source, Some(Source::Kept { kept: "kept of b".into(), stat: stat(2) }));
}

#[test]
fn a_content_that_left_its_place_long_ago_is_asked_for() {
    let mut engine = deleted();
    let said = receive(&mut engine, 2 * RENAME_HALVES_NS, "new", &file(13));
    assert!(asks(&said), "{said:?}");
}

#[test]
fn a_deletion_waits_for_no_copy_that_a_special_file_keeps_away() {
    let mut engine = engine();
    engine.observe.special_seen(&mut engine.core, &path("x"), "device");
    receive(&mut engine, SECOND, "x", &entry(Kind::Directory, 10));
    receive(&mut engine, SECOND, "x/new", &file(11));
    let goes = job(receive(&mut engine, SECOND, "a", &deletion(12)));
    assert_eq!(goes.map(|job| job.path), Some(path("a")), "it goes at once");
}
