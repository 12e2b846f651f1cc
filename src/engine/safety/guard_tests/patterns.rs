//! What an ignore file uncovers, here and from a peer.

use super::*;
use crate::engine::api::index;
use crate::engine::limits::SECOND;
use crate::engine::merge;

/// A machine whose patterns cover `*.key`, and a peer that takes that away.
fn unignored() -> Machine {
    let mut machine = Machine::new(MapIndex::new());
    machine.scan(&[file(0, 1_000_000)]);
    machine.handle(Event::IgnoreRead(Some(b"*.key".to_vec())));
    machine.scan(&[file(0, 1_000_000)]);
    let mut machine = machine.linked();
    let kind = Kind::File { size: 5, content: ContentId::of(b"# all") };
    let version = Version { stamp: WALL, author: PEER, seen: VersionVector::default().with(PEER, 1) };
    let entry = Entry { kind, mode: Mode(0o644), mtime: time(1_000_000), version };
    let (_, stat, _) = file(77, 1_000_000);
    let row = index::Row {
        head: entry.clone(),
        disk: Some(merge::on_disk(entry, Some(Stat { size: 5, ..stat }))),
        installing: None,
        since: 0,
    };
    machine.engine.index_mut().put(&path(".dirsyncignore"), &row);
    machine.said.clear();
    machine.handle(Event::IgnoreRead(Some(b"# all".to_vec())));
    machine
}

fn secret() -> (SyncPath, Stat, ContentId) {
    let (_, stat, content) = file(50, 1_000_000);
    (path("my.key"), stat, content)
}

#[test]
fn what_a_peer_s_ignore_file_uncovers_here_waits_for_a_person() {
    let mut machine = unignored();
    let rules = || {
        let (_, stat, _) = file(77, 1_000_000);
        (path(".dirsyncignore"), Stat { size: 5, ..stat }, ContentId::of(b"# all"))
    };
    machine.scan(&[file(0, 1_000_000), secret(), rules()]);
    assert_eq!(machine.engine.status().held_unignored, 1);
    assert!(machine.has_said(|report| matches!(report, Report::HeldUnignored { paths: 1 })));
    assert!(machine.engine.index().get(&path("my.key")).is_none());
    machine.handle(Event::Confirm);
    machine.scan(&[file(0, 1_000_000), secret(), rules()]);
    assert_eq!(machine.engine.status().held_unignored, 0);
    assert!(machine.engine.index().get(&path("my.key")).is_some());
}

#[test]
fn a_peer_s_ignore_file_that_uncovers_nothing_here_is_followed_at_once() {
    let mut machine = unignored();
    let (_, stat, _) = file(77, 1_000_000);
    let rules = (path(".dirsyncignore"), Stat { size: 5, ..stat }, ContentId::of(b"# all"));
    machine.scan(&[file(0, 1_000_000), rules]);
    assert_eq!(machine.engine.status().held_unignored, 0);
    assert!(!machine.engine.ignores(&path("my.key"), false), "what peers have of that name may come");
}

#[test]
fn a_user_s_own_ignore_file_is_followed_at_once() {
    let mut machine = Machine::new(MapIndex::new());
    machine.scan(&[]);
    machine.handle(Event::IgnoreRead(Some(b"*.key".to_vec())));
    machine.handle(Event::IgnoreRead(Some(b"*.tmp".to_vec())));
    assert!(!machine.engine.ignores(&path("my.key"), false) && machine.engine.ignores(&path("a.tmp"), false));
}

#[test]
fn patterns_that_uncover_nothing_new_are_followed_by_a_walk_of_what_was_covered() {
    let mut machine = unignored();
    let (_, stat, _) = file(77, 1_000_000);
    let rules = (path(".dirsyncignore"), Stat { size: 5, ..stat }, ContentId::of(b"# all"));
    machine.scan(&[file(0, 1_000_000), rules]);
    assert!(machine.said.iter().any(|action| matches!(action, Action::Walk { below: None, .. })), "{:?}", machine.said);
}

#[test]
fn a_look_that_ends_after_patterns_came_tells_nothing() {
    let mut machine = Machine::new(MapIndex::new());
    let (key, stat, content) = secret();
    machine.handle(Event::Hint { path: key.clone(), hint: Hint::Closed });
    machine.wait(SECOND);
    assert!(machine.said.iter().any(|action| matches!(action, Action::Inspect { path, .. } if *path == key)));
    machine.handle(Event::IgnoreRead(Some(b"*.key".to_vec())));
    machine.inspect(&[(key.clone(), stat, content)]);
    assert!(machine.engine.index().get(&key).is_none());
}

#[test]
fn what_patterns_cover_has_its_second_hash_when_they_are_gone() {
    let mut machine = Machine::new(MapIndex::new());
    let (key, mut stat, content) = secret();
    stat.mtime = time((WALL / SECOND) as i64 + 5);
    stat.ctime = stat.mtime;
    let found = [file(0, 1_000_000), (key.clone(), stat, content)];
    machine.handle(Event::Hint { path: key.clone(), hint: Hint::Closed });
    machine.wait(SECOND);
    machine.handle(Event::Tick);
    machine.wall = stat.mtime.as_stamp();
    machine.inspect(&found);
    machine.said.clear();
    machine.handle(Event::IgnoreRead(Some(b"*.key".to_vec())));
    machine.wait(60 * SECOND);
    let hashes = |machine: &Machine| {
        let is_hash = |action: &&Action| matches!(action, Action::Inspect { path, rehash: true, .. } if *path == key);
        machine.said.iter().filter(is_hash).count()
    };
    assert_eq!(hashes(&machine), 0);
    machine.handle(Event::IgnoreRead(None));
    machine.wait(60 * SECOND);
    assert_eq!(hashes(&machine), 1);
}

#[test]
fn until_the_ignore_file_is_read_what_it_covered_still_is() {
    let mut machine = Machine::new(MapIndex::new());
    machine.handle(Event::IgnoreRead(Some(b"*.key".to_vec())));
    let index = machine.engine.into_index();
    let mut engine = Engine::new(Config { device: OWN, name: "own".into(), on_conflict: OnConflict::Newest }, index);
    engine.start(Now { wall: WALL, mono: SECOND }, Trust::Known);
    assert!(engine.ignores(&path("my.key"), false));
}

// Rhythms of real work.
