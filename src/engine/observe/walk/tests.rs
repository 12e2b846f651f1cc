//! Tests of `walk.rs`.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::{Cause, Config, Event, Keeps, OnConflict, RootState, Trouble, Trust};
use crate::model::{ContentId, DeviceId, FileTime, Mode};

const NOW: Now = Now { wall: 1_700_000_000_000_000_000, mono: 1_000_000_000 };

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn stat(kind: StatKind) -> Stat {
    let time = FileTime { secs: 1_600_000_000, nanos: 0 };
    Stat { kind, size: 1, mtime: time, ctime: time, ino: 1, mode: Mode(0o755) }
}

/// A folder `d` with a file `d/f`, and a file `other`, all scanned.
fn engine() -> Engine<MapIndex> {
    let mut engine = Engine::new(
        Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest },
        MapIndex::new(),
    );
    engine.start(NOW, Trust::Known);
    walk(&mut engine, Event::IgnoreRead(None), &[("d", StatKind::Directory), ("d/f", StatKind::File)], &[]);
    assert!(engine.core.index.get(&path("d/f")).unwrap().live_on_disk().is_some());
    engine
}

/// The walk that `cause` brings about finds `found` and `other`, and each inspection what the walk
/// found.
fn walk(engine: &mut Engine<MapIndex>, cause: Event, found: &[(&str, StatKind)], unread: &[&str]) {
    let walks = engine.handle(NOW, cause).into_iter().filter_map(|action| match action {
        Action::Walk { walk, .. } => Some(walk),
        _ => None,
    });
    for walk in walks.collect::<Vec<_>>() {
        let all = [found, &[("other", StatKind::File)]].concat();
        let listed = all.into_iter().map(|(name, kind)| (path(name), stat(kind))).collect();
        let denied = || Trouble { cause: Cause::Denied, text: "cannot list it".into() };
        let unread = unread.iter().map(|name| (Some(path(name)), denied())).collect();
        let mut actions = engine.handle(NOW, Event::Listed { walk, found: listed });
        actions.extend(engine.handle(NOW, Event::Walked { walk, unread }));
        actions.extend(engine.handle(NOW, Event::Root(RootState::Fine)));
        for action in actions {
            let Action::Inspect { path, .. } = action else { continue };
            let seen = found.iter().find(|(name, _)| path.as_bytes() == name.as_bytes());
            let observed = match seen {
                Some((_, StatKind::Directory)) => Observed::Directory { stat: stat(StatKind::Directory) },
                Some((_, kind)) if kind.is_foreign() => Observed::Foreign(*kind),
                None if path.as_bytes() != b"other" => Observed::Absent,
                _ => Observed::File { stat: stat(StatKind::File), content: ContentId::of(b"x"), body: None },
            };
            engine.handle(NOW, Event::Inspected { path, observed });
            engine.handle(NOW, Event::Root(RootState::Fine));
        }
    }
}

/// What is missing has rested, and the root is checked.
fn quiesce(engine: &mut Engine<MapIndex>) {
    let checks = engine.handle(Now { mono: NOW.mono + 10_000_000_000, ..NOW }, Event::Tick);
    assert!(checks.contains(&Action::CheckRoot), "{checks:?}");
    engine.handle(NOW, Event::Root(RootState::Fine));
}

fn problems(engine: &mut Engine<MapIndex>) -> Vec<SyncPath> {
    engine.status().problems.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn what_a_mount_covers_is_not_deleted_and_the_mount_is_a_problem_until_it_is_gone() {
    let mut engine = engine();
    walk(&mut engine, Event::Overflow, &[("d", StatKind::Mount)], &[]);
    quiesce(&mut engine);
    assert_eq!(problems(&mut engine), [path("d")]);
    for kept in ["d", "d/f"] {
        assert!(engine.core.index.get(&path(kept)).unwrap().head.is_live(), "{kept}");
    }
    walk(&mut engine, Event::Overflow, &[("d", StatKind::Directory), ("d/f", StatKind::File)], &[]);
    assert_eq!(problems(&mut engine), []);
}

#[test]
fn what_was_held_back_as_deleted_and_is_back_is_held_no_more() {
    let mut engine = engine();
    engine.handle(NOW, Event::Overflow);
    engine.handle(NOW, Event::Walked { walk: WalkId(engine.observe.walking.last_id), unread: Vec::new() });
    engine.handle(NOW, Event::Root(RootState::Fine));
    assert_eq!(engine.status().held_deletions, 3, "everything was missing");
    engine.observe(NOW, &path("d"), Observed::Directory { stat: stat(StatKind::Directory) }, ObservationSource::Live);
    assert_eq!(engine.status().held_deletions, 2);
}

#[test]
fn where_as_much_is_new_as_is_missing_it_was_moved() {
    let mut engine = engine();
    let moved = ["other", "d", "d/f"].map(path);
    engine.handle(NOW, Event::Overflow);
    let walk = WalkId(engine.observe.walking.last_id);
    engine.handle(NOW, Event::Listed { walk, found: vec![(path("moved"), stat(StatKind::File))] });
    engine.handle(NOW, Event::Walked { walk, unread: Vec::new() });
    let inspections = engine.handle(NOW, Event::Root(RootState::Fine));
    assert_eq!(engine.status().held_deletions, 0);
    let is_look = |action: &&Action| matches!(action, Action::Inspect { path, .. } if moved.contains(path));
    assert_eq!(inspections.iter().filter(is_look).count(), 2, "each folder once: {inspections:?}");
}

#[test]
fn without_a_mount_the_same_silence_is_a_deletion() {
    let mut engine = engine();
    walk(&mut engine, Event::Overflow, &[], &[]);
    quiesce(&mut engine);
    assert!(!engine.core.index.get(&path("d/f")).unwrap().head.is_live());
}

#[test]
fn overflows_while_everything_is_walked_bring_one_more_walk() {
    let walks = |actions: Vec<Action>| -> Vec<WalkId> {
        let walk = |action| if let Action::Walk { walk, .. } = action { Some(walk) } else { None };
        actions.into_iter().filter_map(walk).collect()
    };
    let end = |engine: &mut Engine<MapIndex>, walk| {
        let listed = ["d", "d/f", "other"].map(|name| {
            let kind = if name == "d" { StatKind::Directory } else { StatKind::File };
            (path(name), stat(kind))
        });
        engine.handle(NOW, Event::Listed { walk, found: listed.into() });
        engine.handle(NOW, Event::Walked { walk, unread: Vec::new() });
        walks(engine.handle(NOW, Event::Root(RootState::Fine)))
    };
    let mut engine = engine();
    let first = walks(engine.handle(NOW, Event::Overflow));
    assert_eq!(first.len(), 1);
    for _ in 0..3 {
        assert_eq!(walks(engine.handle(NOW, Event::Overflow)), []);
    }
    let second = end(&mut engine, first[0]);
    assert_eq!(second.len(), 1, "what was missed after the first had passed by");
    assert!(!engine.status().idle);
    assert_eq!(end(&mut engine, second[0]), []);
    assert!(engine.status().idle);
}

#[test]
fn a_disk_that_tells_nothing_of_what_others_change_is_walked_each_minute_and_ever_more_rarely_as_that_takes_longer() {
    let walked = |took_s: u64| {
        let mut engine = engine();
        engine.set_keeps(Keeps { remote_events: false, ..Keeps::default() });
        let end = Now { mono: NOW.mono + took_s * 1_000_000_000, ..NOW };
        engine.handle(NOW, Event::Overflow);
        engine.handle(end, Event::Walked { walk: WalkId(engine.observe.walking.last_id), unread: vec![] });
        engine.handle(end, Event::Root(RootState::Fine));
        (engine.observe.walking.next - end.mono) / 1_000_000_000
    };
    assert_eq!([walked(1), walked(30)], [60, 300]);
}

#[test]
fn a_walk_asked_for_while_the_root_was_wrong_is_made_when_it_is_back() {
    let mut engine = engine();
    engine.handle(NOW, Event::Overflow);
    let first = WalkId(engine.observe.walking.last_id);
    engine.handle(NOW, Event::Overflow);
    engine.handle(NOW, Event::Walked { walk: first, unread: Vec::new() });
    engine.handle(NOW, Event::Root(RootState::Wrong("gone".into())));
    let back = engine.handle(NOW, Event::Root(RootState::Fine));
    assert!(back.iter().any(|action| matches!(action, Action::Walk { below: None, .. })), "{back:?}");
    assert!(!engine.observe.walking.again);
}

#[test]
fn a_folder_that_cannot_be_listed_is_a_problem_until_a_walk_lists_it() {
    let mut engine = engine();
    walk(&mut engine, Event::Overflow, &[("d", StatKind::Directory)], &["d"]);
    assert_eq!(problems(&mut engine), [path("d")]);
    assert!(engine.core.index.get(&path("d/f")).unwrap().head.is_live());
    // It is tried again without a hint; that it is there to be inspected does not mean that it
    // can be listed.
    let folder = Observed::Directory { stat: stat(StatKind::Directory) };
    let later = Now { mono: NOW.mono + 10_000_000_000, ..NOW };
    let inspections = engine.handle(later, Event::Tick);
    assert!(inspections.iter().any(|action| matches!(action, Action::Inspect { .. })), "{inspections:?}");
    let actions = engine.handle(later, Event::Inspected { path: path("d"), observed: folder });
    assert_eq!(problems(&mut engine), [path("d")]);
    let walk = actions.into_iter().find_map(|action| match action {
        Action::Walk { walk, below: Some(below) } if below == path("d") => Some(walk),
        _ => None,
    });
    let walk = walk.expect("it is walked again, since it may be open now");
    engine.handle(later, Event::Walked { walk, unread: Vec::new() });
    assert_eq!(problems(&mut engine), []);
}
