//! The engine as a whole, told what a shell would tell it: what is in doubt after a crash, a backup
//! or an edit within one tick. Races over time are the simulator's (`tests/simulation`).

mod local;
mod outgoing;
mod patterns;
mod phases;
mod room;
mod second_hash;
mod silent;
mod waiting;

use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::map_index::MapIndex;
use crate::engine::api::problem::Problem;
use crate::engine::limits::{SECOND, WALK_EVERY_NS};
use crate::engine::merge::{ObservationSource, nothing};
use crate::engine::*;
use crate::model::SyncPath;
use crate::model::{ContentId, Entry, FileTime, Kind, Mode, Version, VersionVector};
use crate::wire::features::Features;
use crate::wire::message::{Change, Message, SMALL_FILE_BYTES};
use rstest::rstest;

const WALL: u64 = 1_700_000_000 * SECOND;
const LINK: LinkId = LinkId(1);

fn at(mono: u64) -> Now {
    Now { wall: WALL + mono, mono }
}

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn time(ns: u64) -> FileTime {
    FileTime { secs: (ns / SECOND) as i64, nanos: (ns % SECOND) as u32 }
}

fn entry(text: &str, stamp: u64, mode: u16) -> Entry {
    let author = DeviceId([9; 32]);
    let kind = Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) };
    let version = Version { stamp, author, seen: VersionVector::default().with(author, stamp) };
    Entry { kind, mode: Mode(mode), mtime: time(stamp), version }
}

/// As the disk would say it of a file that holds an entry.
fn stat(entry: &Entry, ctime: u64) -> Stat {
    let (kind, size) = match &entry.kind {
        Kind::File { size, .. } => (StatKind::File, *size),
        _ => (StatKind::Directory, 0),
    };
    Stat { kind, size, mtime: entry.mtime, ctime: time(ctime), ino: 1, mode: entry.mode }
}

fn seen(entry: &Entry, ctime: u64) -> Observed {
    match entry.file() {
        Some((content, _)) => Observed::File { stat: stat(entry, ctime), content, body: None },
        None => Observed::Directory { stat: stat(entry, ctime) },
    }
}

fn row(winner: &Entry, on_disk: &Entry) -> Row {
    let disk = OnDisk { entry: on_disk.clone(), stat: Some(stat(on_disk, 1)), local: false };
    Row { head: winner.clone(), disk: Some(disk), installing: None, since: 0 }
}

/// Started over these rows, after a completed first scan, and linked to a peer.
fn engine(rows: &[(&str, Row)], trust: Trust) -> Engine<MapIndex> {
    restarted(scanned(rows), trust)
}

fn scanned(rows: &[(&str, Row)]) -> MapIndex {
    let mut index = MapIndex::new();
    index.set_meta(META_SCANNED, b"1");
    for (name, row) in rows {
        index.put(&path(name), row);
    }
    index
}

fn restarted(index: MapIndex, trust: Trust) -> Engine<MapIndex> {
    let mut engine =
        Engine::new(Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest }, index);
    engine.start(at(0), trust);
    let device = DeviceId([2; 32]);
    engine.handle(
        at(0),
        Event::LinkUp {
            link: LINK,
            device,
            name: "b".into(),
            dialler: false,
            features: Features::ours(),
            capability: crate::model::Capability::Write,
        },
    );
    engine
}

fn receive(engine: &mut Engine<MapIndex>, mono: u64, name: &str, entry: &Entry) -> Vec<Action> {
    let changes = vec![Change { path: path(name), entry: entry.clone(), body: None }];
    let message = Message::Changes { changes, relayed_to: Vec::new() };
    let mut actions = engine.handle(at(mono), Event::Message { link: LINK, message, wire_bytes: 1 });
    actions.extend(engine.handle(at(mono), Event::Tick));
    actions
}

fn inspected(engine: &mut Engine<MapIndex>, mono: u64, name: &str, observed: Observed) -> Vec<Action> {
    let mut actions = engine.handle(at(mono), Event::Inspected { path: path(name), observed });
    actions.extend(engine.handle(at(mono), Event::Tick));
    actions
}

/// The paths that are inspected, and whether their bytes are read whatever the stat.
fn inspections(actions: &[Action]) -> Vec<(String, bool)> {
    let inspection = |action: &Action| match action {
        Action::Inspect { path, rehash, .. } => Some((path.to_text(), *rehash)),
        _ => None,
    };
    actions.iter().filter_map(inspection).collect()
}

fn installs(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Install(_))).count()
}

fn walks(actions: &[Action]) -> Vec<WalkId> {
    let walk = |action: &Action| if let Action::Walk { walk, .. } = action { Some(*walk) } else { None };
    actions.iter().filter_map(walk).collect()
}

fn winner(engine: &Engine<MapIndex>, name: &str) -> Entry {
    engine.index().get(&path(name)).unwrap().head
}

/// The ids under which contents are asked for.
fn gets(actions: &[Action]) -> Vec<u32> {
    let ask = |action: &Action| match action {
        Action::Send { message: Message::Get { wants }, .. } => wants.iter().map(|want| want.id).collect(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(ask).collect()
}

#[test] // It was announced as an edit (1 cut in 100).
fn what_an_install_left_before_a_crash_is_no_edit_though_newer_news_came_before_the_look() {
    let (old, installing, newer) = (entry("old", 1, 0o644), entry("cut off", 2, 0o644), entry("newer", 3, 0o644));
    let mut engine = engine(&[("f", row(&installing, &old))], Trust::Known);
    let mut actions = engine.handle(at(0), Event::IgnoreRead(None));
    actions.extend(receive(&mut engine, 1, "f", &newer));
    assert_eq!(inspections(&actions), [("f".to_owned(), false)], "before anything is installed there");
    assert_eq!(installs(&actions), 0);
    inspected(&mut engine, 2, "f", seen(&installing, 2));
    let row = engine.index().get(&path("f")).unwrap();
    assert_eq!((row.head, row.disk.unwrap().entry, row.installing), (newer, installing, None));
}

#[test]
fn what_an_install_left_before_a_crash_is_no_edit_though_news_came_back_to_what_was_there_and_left_it_again() {
    let (old, installing) = (entry("old", 1, 0o644), entry("cut off", 2, 0o644));
    let mut engine = engine(&[("f", row(&installing, &old))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let back = Entry { mtime: old.mtime, ..entry("old", 3, 0o644) };
    receive(&mut engine, 1, "f", &back);
    assert!(engine.index().get(&path("f")).unwrap().is_settled());
    let newer = entry("newer", 4, 0o644);
    receive(&mut engine, 2, "f", &newer);
    inspected(&mut engine, 3, "f", seen(&installing, 2));
    let row = engine.index().get(&path("f")).unwrap();
    assert_eq!((row.head, row.disk.unwrap().entry, row.installing), (newer, installing, None));
}

#[test]
fn what_was_to_be_deleted_and_came_back_is_the_user_s_own_to_delete_later() {
    let old = entry("old", 1, 0o644);
    let deletion = Entry { kind: Kind::Deleted { at: 2 }, ..entry("", 2, 0) };
    let mut engine =
        engine(&[("f", row(&deletion, &old)), ("g", row(&old, &old)), ("h", row(&old, &old))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let back = Entry { mtime: old.mtime, ..entry("old", 3, 0o644) };
    receive(&mut engine, 1, "f", &back);
    let found = ["f", "g", "h"].map(|name| (path(name), stat(&old, 1))).to_vec();
    engine.handle(at(2), Event::Listed { walk: WalkId(1), found });
    let row = engine.index().get(&path("f")).unwrap();
    assert_eq!((row.head, row.installing), (back, None));
}

#[test]
fn a_deletion_that_a_crash_cut_off_is_not_made_again_after_newer_news() {
    let old = entry("old", 1, 0o644);
    let deletion = Entry { kind: Kind::Deleted { at: 2 }, ..entry("", 2, 0) };
    let mut engine = engine(&[("f", row(&deletion, &old))], Trust::Known);
    let newer = entry("newer", 3, 0o644);
    receive(&mut engine, 1, "f", &newer);
    inspected(&mut engine, 2, "f", Observed::Absent);
    let row = engine.index().get(&path("f")).unwrap();
    assert_eq!((row.head, row.disk.unwrap().entry), (newer, deletion));
    assert!(!engine.safety.has_missing(), "nothing is to be concluded");
}

#[test]
fn a_backup_lasts_until_its_last_look_and_beats_nothing() {
    let (known, old) = (entry("known", 10 * SECOND, 0o644), entry("from the backup, with a later mtime", WALL, 0o600));
    let mut engine = engine(&["f", "gone"].map(|name| (name, row(&known, &known))), Trust::Restored);
    let walk = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    let found = vec![(path("f"), stat(&old, 5))];
    engine.handle(at(1), Event::Listed { walk, found });
    engine.handle(at(1), Event::Walked { walk, unread: Vec::new() });
    let actions = engine.handle(at(1), Event::Root(RootState::Fine));
    assert_eq!(inspections(&actions), [("gone".to_owned(), false)]);
    inspected(&mut engine, 2, "gone", Observed::Absent);
    assert_eq!(engine.trust(), Trust::Restored, "one look is still under way");
    inspected(&mut engine, 3, "f", seen(&old, 5));
    assert_eq!(engine.trust(), Trust::Known);
    assert_eq!([winner(&engine, "f"), winner(&engine, "gone")], [known.clone(), known]);
    assert_eq!(engine.index().get(&path("gone")).unwrap().disk, None, "it is fetched again");
}

#[test]
fn a_file_in_a_backup_where_a_folder_stands_now_deletes_nothing_that_is_in_the_folder() {
    let dir = Entry { kind: Kind::Directory, ..entry("", 10, 0o755) };
    let child = entry("child", 11, 0o644);
    let rows = [("d", &dir), ("d/f", &child)].map(|(name, entry)| (name, row(entry, entry)));
    let mut engine = engine(&rows, Trust::Restored);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.observe(at(1), &path("d"), seen(&entry("a file", 5, 0o644), 5), ObservationSource::Restored);
    assert_eq!([winner(&engine, "d"), winner(&engine, "d/f")], [dir, child]);
}

/// With the permissions of a derived one, a private folder would be open to all.
#[test]
fn a_folder_that_is_being_looked_at_is_not_derived_from_what_is_in_it() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(SECOND), Event::Hint { path: path("d"), hint: Hint::Closed });
    assert_eq!(inspections(&engine.handle(at(SECOND + SECOND / 10), Event::Tick)), [("d".to_owned(), false)]);
    engine.observe(at(SECOND), &path("d/f"), seen(&entry("of a user", WALL, 0o644), WALL), ObservationSource::Live);
    engine.handle(at(9 * SECOND), Event::Tick);
    assert_eq!(engine.index().get(&path("d")), None);
    let private = Entry { kind: Kind::Directory, ..entry("", WALL, 0o700) };
    inspected(&mut engine, 10 * SECOND, "d", seen(&private, WALL));
    assert_eq!(winner(&engine, "d").mode, Mode(0o700));
}

#[test]
fn a_folder_whose_mode_changed_while_it_was_installed_is_walked_all_the_same() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let dir = Entry { kind: Kind::Directory, ..entry("", 10, 0o755) };
    let actions = receive(&mut engine, 1, "d", &dir);
    let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
    for (mono, hint) in [(2, Hint::Closed), (200_000_000, Hint::Changed)] {
        engine.handle(at(mono), Event::Hint { path: path("d"), hint });
        engine.handle(at(mono + 150_000_000), Event::Tick);
    }
    let outcome = Outcome::Done { stat: Some(stat(&dir, 10)), kept: None };
    engine.handle(at(SECOND), Event::Installed { job: job.unwrap(), outcome });
    assert_eq!(inspections(&engine.handle(at(2 * SECOND), Event::Tick)), [("d".to_owned(), false)]);
    let touched = Entry { mode: Mode(0o700), ..dir };
    assert_eq!(walks(&inspected(&mut engine, 2 * SECOND, "d", seen(&touched, 11))).len(), 1);
}

/// What comes into a new folder is listed once, when all of it is there.
#[rstest]
#[case::all_has_come(10_000_000)]
#[case::more_is_to_come_for_long(limits::ARRIVAL_PATIENCE_NS + 9_000_000)]
fn a_folder_that_was_installed_is_walked_when_all_has_come_or_soon(#[case] walked_at: u64) {
    let folder = Entry { kind: Kind::Directory, ..entry("", 5, 0o755) };
    let (wanted, no_more) = (entry("far away", 6, 0o644), Entry { kind: Kind::Deleted { at: 7 }, ..entry("", 7, 0) });
    let mut engine = engine(&[], Trust::Known);
    let mut actions = engine.handle(at(0), Event::IgnoreRead(None));
    let whole = walks(&actions)[0];
    engine.handle(at(0), Event::Walked { walk: whole, unread: Vec::new() });
    engine.handle(at(0), Event::Root(RootState::Fine));
    receive(&mut engine, 1, "wanted", &wanted);
    for (mono, name) in [(1_000_000, "d"), (2_000_000, "d/e")] {
        actions = receive(&mut engine, mono, name, &folder);
        let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
        let outcome = Outcome::Done { stat: Some(stat(&folder, 10)), kept: None };
        engine.handle(at(mono), Event::Installed { job: job.unwrap(), outcome });
        engine.handle(at(mono), Event::Hint { path: path(name), hint: Hint::Closed });
        assert_eq!(inspections(&engine.handle(at(mono + 5_000_000), Event::Tick)), [(name.to_owned(), false)]);
        assert_eq!(walks(&inspected(&mut engine, mono + 6_000_000, name, seen(&folder, 10))), []);
    }
    assert!(!engine.status().idle && engine.wake_at().is_some_and(|at| at <= limits::ARRIVAL_PATIENCE_NS + 8_000_000));
    actions = match walked_at {
        10_000_000 => receive(&mut engine, walked_at, "wanted", &no_more),
        later => engine.handle(at(later), Event::Tick),
    };
    let below: Vec<_> = actions
        .iter()
        .filter_map(|a| if let Action::Walk { below, .. } = a { Some(below.clone()) } else { None })
        .collect();
    assert_eq!(below, [Some(path("d"))], "with all that is in it");
    assert_eq!(walks(&engine.handle(at(walked_at + SECOND), Event::Tick)), []);
}

#[test]
fn nothing_is_installed_below_a_folder_that_may_be_gone() {
    let dir = Entry { kind: Kind::Directory, ..entry("", 10, 0o755) };
    let mut engine = engine(&[("d", row(&dir, &dir))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.observe(at(1), &path("d"), Observed::Absent, ObservationSource::Live);
    let inside = Entry { kind: Kind::Directory, ..entry("", 11, 0o755) };
    assert_eq!(installs(&receive(&mut engine, 2, "d/e", &inside)), 0);
    assert_ne!(winner(&engine, "d/e"), nothing());
    engine.observe(at(3), &path("d"), seen(&dir, 1), ObservationSource::Live);
    assert_eq!(installs(&engine.handle(at(2 * SECOND), Event::Tick)), 1);
}

/// Syncthing and others wait for quiet that never comes; here the disk is slow as well, so that
/// every inspection has noise in it.
#[rstest]
#[case::kept_open(40, Hint::Changed)]
#[case::with_pauses_that_are_quiet(150, Hint::Changed)]
#[case::closed_each_time(120, Hint::Closed)]
fn a_file_that_never_rests_is_taken_though_each_look_at_it_takes_longer_than_it_rests(
    #[case] every_ms: u64,
    #[case] hint: Hint,
) {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let (mut under_way, mut taken) = (None, Vec::new());
    for ms in (0..12_000).step_by(10) {
        let now = at(ms * 1_000_000);
        let mut actions = engine.handle(now, Event::Tick);
        if ms % every_ms == 0 {
            actions.extend(engine.handle(now, Event::Hint { path: path("f"), hint }));
        }
        if let Some((since, stamp)) = under_way
            && ms - since >= 300
        {
            under_way = None;
            actions.extend(
                engine.handle(
                    now,
                    Event::Inspected { path: path("f"), observed: seen(&entry("f", stamp, 0o644), stamp) },
                ),
            );
            taken.extend(engine.index().get(&path("f")).map(|row| row.head.mtime));
        }
        actions.extend(engine.handle(now, Event::Tick));
        if !inspections(&actions).is_empty() {
            under_way = Some((ms, ms + 1));
        }
    }
    taken.dedup();
    assert!(taken.len() >= 3, "in 12 s it was taken {} times", taken.len());
}

#[test] // Seed 17110 of the simulator: it was announced as new.
fn what_could_not_be_looked_at_in_a_backup_is_of_the_backup_still_when_it_can_be() {
    let deleted = Entry { kind: Kind::Deleted { at: WALL }, ..entry("", 20, 0) };
    let mut engine =
        engine(&[("f", Row { head: deleted.clone(), disk: None, installing: None, since: 0 })], Trust::Restored);
    let old = entry("of the backup", 5, 0o644);
    let walk = |engine: &mut Engine<MapIndex>, cause: Event| {
        let walk = walks(&engine.handle(at(1), cause))[0];
        engine.handle(at(1), Event::Listed { walk, found: vec![(path("f"), stat(&old, 5))] });
        walk
    };
    let first = walk(&mut engine, Event::IgnoreRead(None));
    let trouble = Trouble { cause: Cause::Other, text: "it cannot be looked at".into() };
    inspected(&mut engine, 1, "f", Observed::Failed(trouble));
    engine.handle(at(1), Event::Walked { walk: first, unread: Vec::new() });
    engine.handle(at(1), Event::Root(RootState::Fine));
    assert_eq!(engine.trust(), Trust::Restored, "after a restart, too");
    walk(&mut engine, Event::Overflow);
    inspected(&mut engine, 2, "f", seen(&old, 5));
    assert_eq!(winner(&engine, "f"), deleted, "an old state that came back beats nothing");
    assert_eq!(engine.trust(), Trust::Known, "the scan of the backup is over");
}

#[test]
fn a_root_that_could_not_be_read_ends_no_scan_and_is_walked_again_soon() {
    let mut engine = engine(&[], Trust::Restored);
    let walk = walks(&engine.handle(at(1), Event::IgnoreRead(None)))[0];
    let trouble = Trouble { cause: Cause::Other, text: "it cannot be read".into() };
    engine.handle(at(1), Event::Walked { walk, unread: vec![(None, trouble)] });
    engine.handle(at(1), Event::Root(RootState::Fine));
    assert!(engine.trust() == Trust::Restored && !engine.has_scanned_all());
    let actions = engine.handle(at(31 * SECOND), Event::Tick);
    let walk = walks(&actions)[0];
    engine.handle(at(31 * SECOND), Event::Walked { walk, unread: Vec::new() });
    engine.handle(at(31 * SECOND), Event::Root(RootState::Fine));
    assert!(engine.trust() == Trust::Known && engine.has_scanned_all());
}

#[test]
fn a_wrong_root_is_neither_read_nor_walked_until_the_right_one_is_back() {
    let known = entry("known", 5, 0o644);
    let mut index = MapIndex::new();
    index.put(&path("f"), &row(&known, &known));
    let mut engine =
        Engine::new(Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest }, index);
    engine.handle(at(0), Event::Root(RootState::Wrong("it has no marker".into())));
    let mut actions = engine.start(at(0), Trust::Known);
    for event in [Event::IgnoreRead(None), Event::Overflow, Event::Confirm, Event::Tick] {
        actions.extend(engine.handle(at(2 * WALK_EVERY_NS), event));
    }
    let reads = |actions: &[Action]| actions.contains(&Action::ReadIgnore);
    assert!(!reads(&actions) && walks(&actions).is_empty(), "{actions:?}");
    assert!(!engine.status().idle && !engine.has_scanned_all());
    let actions = engine.handle(at(SECOND), Event::Root(RootState::Fine));
    assert!(reads(&actions) && walks(&actions).is_empty(), "its patterns come first: {actions:?}");
    let walk = walks(&engine.handle(at(SECOND), Event::IgnoreRead(None)))[0];
    assert!(!engine.status().idle && engine.status().scanning);
    engine.handle(at(SECOND), Event::Listed { walk, found: vec![(path("f"), stat(&known, 1))] });
    engine.handle(at(SECOND), Event::Walked { walk, unread: Vec::new() });
    engine.handle(at(SECOND), Event::Root(RootState::Fine));
    assert!(engine.has_scanned_all() && engine.status().idle && !engine.status().scanning);
}

#[test]
fn before_the_first_walk_nothing_is_idle() {
    let mut engine = engine(&[], Trust::Known);
    let status = engine.status();
    assert!(!status.idle && status.scanning, "{status:?}");
}

#[test]
fn an_ignore_file_that_gives_no_patterns_uncovers_nothing_and_is_read_again() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(Some(b"*.key\n".to_vec())));
    let patterns = SyncPath::new(crate::model::path::IGNORE_FILE).unwrap();
    let link = Entry { kind: Kind::Symlink { target: b"rules".to_vec() }, ..entry("", WALL, 0) };
    let change = Change { path: patterns.clone(), entry: link, body: None };
    let message = Message::Changes { changes: vec![change], relayed_to: Vec::new() };
    engine.handle(at(1), Event::Message { link: LINK, message, wire_bytes: 1 });
    let actions = engine.handle(at(2), Event::IgnoreUnread("it is no file".into()));
    assert!(actions.iter().any(|action| matches!(action, Action::Report(Report::Problem { .. }))), "{actions:?}");
    assert!(engine.ignores(&path("my.key"), false));
    let problem = Problem::NoPatterns { why: "it is no file".to_owned(), nothing_known: false };
    assert_eq!(engine.status().problems, [(patterns, problem)]);
    let reads = |actions: Vec<Action>| actions.contains(&Action::ReadIgnore);
    assert!(!reads(engine.handle(at(29 * SECOND), Event::Tick)));
    assert!(engine.wake_at().is_some_and(|due| due <= 31 * SECOND));
    assert!(reads(engine.handle(at(31 * SECOND), Event::Tick)));
    let actions = engine.handle(at(31 * SECOND), Event::IgnoreUnread("it is no file".into()));
    assert!(!actions.iter().any(|action| matches!(action, Action::Report(_))), "said once: {actions:?}");
    engine.handle(at(32 * SECOND), Event::IgnoreRead(Some(b"*.key\n".to_vec())));
    assert_eq!(engine.status().problems, []);
    // What it believed holds over a restart, too, before and without any file that can be read.
    let mut engine = restarted(engine.into_index(), Trust::Known);
    let actions = engine.handle(at(0), Event::IgnoreUnread("it is no file".into()));
    assert!(!walks(&actions).is_empty() && engine.ignores(&path("my.key"), false));
}

#[test] // Seed 2548 of the simulator, keep-both: what others had deleted was announced as new.
fn before_it_is_known_what_is_covered_nothing_is_walked_nor_installed() {
    let mut engine = restarted(MapIndex::new(), Trust::Known);
    let actions = engine.handle(at(1), Event::IgnoreUnread("it is no file".into()));
    assert!(walks(&actions).is_empty(), "{actions:?}");
    // A folder that is not empty would have it walked, and what is in it would count as made just
    // now.
    let folder = Entry { kind: Kind::Directory, ..entry("", WALL, 0o755) };
    let actions = receive(&mut engine, 2, "d", &folder);
    assert_eq!(installs(&actions), 0, "{actions:?}");
    assert!(!engine.status().idle && engine.status().scanning);
    assert!(engine.wake_at().is_some_and(|due| due <= 31 * SECOND));
    assert!(engine.handle(at(31 * SECOND), Event::Tick).contains(&Action::ReadIgnore));
    assert_eq!(walks(&engine.handle(at(31 * SECOND), Event::IgnoreRead(None))).len(), 1);
    assert_eq!(installs(&engine.handle(at(31 * SECOND), Event::Tick)), 1);
    assert_eq!(engine.status().problems, []);
}

#[test]
fn a_content_that_was_refused_at_one_path_is_kept_for_it_and_serves_another() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let mut large = entry("large", WALL, 0o644);
    let size = 5 << 20;
    large.kind = Kind::File { size, content: ContentId::of(b"large") };
    let mut actions = receive(&mut engine, 1, "refused", &large);
    actions.extend(receive(&mut engine, 1, "waits", &large));
    let opened = |action: &Action| if let Action::OpenPartial { fetch, .. } = action { Some(*fetch) } else { None };
    let fetch = actions.iter().find_map(opened).expect("one of them is fetched");
    let mut announce = |mono, event| {
        let mut actions = engine.handle(at(mono), event);
        actions.extend(engine.handle(at(mono), Event::Tick));
        actions
    };
    announce(2, Event::PartialOpened { fetch, here: vec![(0, 5)], listed: true });
    let actions = announce(3, Event::Fetched { fetch, staged: StageId(7), wire_bytes: 0 });
    let staged = |actions: &[Action]| -> Vec<(JobId, String)> {
        let of = |action: &Action| match action {
            Action::Install(job) if job.source == Source::Staged(StageId(7)) => Some((job.id, job.path.to_text())),
            Action::Discard(_) | Action::OpenPartial { .. } => panic!("{action:?}"),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    };
    let jobs = staged(&actions);
    assert_eq!(jobs[0].1, "refused");
    let refuse = |job| {
        let trouble = Trouble { cause: Cause::Denied, text: "no".into() };
        Event::Installed { job, outcome: Outcome::Refused(trouble) }
    };
    // The other path takes it over when its turn comes; refused there, too, it is kept for the next
    // try.
    assert_eq!(staged(&announce(4, refuse(jobs[0].0))), []);
    let jobs = staged(&announce(3 * SECOND, Event::Tick));
    assert_eq!(jobs.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), ["waits"]);
    assert_eq!(staged(&announce(4 * SECOND, refuse(jobs[0].0))), []);
    // Whose install failed is inspected first: it may be in its place.
    assert_eq!(inspections(&announce(60 * SECOND, Event::Tick)), [("waits".to_owned(), false)]);
    let absent = Event::Inspected { path: path("waits"), observed: Observed::Absent };
    assert_eq!(staged(&announce(61 * SECOND, absent)).len(), 1);
}

/// What was moved into it is found in time: else its absence would count as a deletion, and be held
/// where it is much.
#[test]
fn a_folder_that_was_installed_is_walked_at_once_when_something_goes_missing() {
    let known = entry("known", 1, 0o644);
    let folder = Entry { kind: Kind::Directory, ..entry("", 5, 0o755) };
    let mut engine = engine(&[("f", row(&known, &known))], Trust::Known);
    let whole = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    engine.handle(at(0), Event::Listed { walk: whole, found: vec![(path("f"), stat(&known, 1))] });
    engine.handle(at(0), Event::Walked { walk: whole, unread: Vec::new() });
    engine.handle(at(0), Event::Root(RootState::Fine));
    receive(&mut engine, 1, "wanted", &entry("far away", 6, 0o644));
    let actions = receive(&mut engine, 2, "d", &folder);
    let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
    let outcome = Outcome::Done { stat: Some(stat(&folder, 10)), kept: None };
    engine.handle(at(3), Event::Installed { job: job.unwrap(), outcome });
    engine.handle(at(3), Event::Hint { path: path("d"), hint: Hint::Closed });
    engine.handle(at(3_000_000), Event::Tick);
    assert_eq!(walks(&inspected(&mut engine, 4_000_000, "d", seen(&folder, 10))), []);
    engine.handle(at(5_000_000), Event::Hint { path: path("f"), hint: Hint::Gone });
    assert_eq!(inspections(&engine.handle(at(26_000_000), Event::Tick)), [("f".to_owned(), false)]);
    let actions = inspected(&mut engine, 27_000_000, "f", Observed::Absent);
    assert_eq!(walks(&actions).len(), 1, "{actions:?}");
    assert!(!engine.observe.awaits_echoes() && !engine.observe.awaits_arrivals());
    // Of what is in a folder without a watch there is no echo: that it was listed ends the wait for
    // it.
    let actions = receive(&mut engine, 28_000_000, "d/e", &folder);
    let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
    let outcome = Outcome::Done { stat: Some(stat(&folder, 30)), kept: None };
    engine.handle(at(29_000_000), Event::Installed { job: job.unwrap(), outcome });
    assert!(engine.observe.awaits_echoes());
    let walk = walks(&actions).first().copied().unwrap_or(WalkId(engine.observe.next_walk_id() - 1));
    engine.handle(at(30_000_000), Event::Listed { walk, found: vec![(path("d/e"), stat(&folder, 30))] });
    assert!(!engine.observe.awaits_echoes());
}

/// It says how it stands when it has rested; what it said before is no reason to compare all that
/// there is.
#[test]
fn a_peer_that_told_changes_is_not_judged_by_what_it_said_before_them() {
    let known = entry("known", 1, 0o644);
    let mut engine = engine(&[("f", row(&known, &known))], Trust::Known);
    let whole = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    engine.handle(at(0), Event::Walked { walk: whole, unread: Vec::new() });
    engine.handle(at(0), Event::Root(RootState::Fine));
    engine.handle(at(0), Event::LinkDown { link: LINK });
    engine.handle(
        at(0),
        Event::LinkUp {
            link: LINK,
            device: DeviceId([2; 32]),
            name: "b".into(),
            dialler: true,
            features: Features::ours(),
            capability: crate::model::Capability::Write,
        },
    );
    let compares = |actions: &[Action]| {
        let is_groups = |a: &&Action| matches!(a, Action::Send { message: Message::Groups { .. }, .. });
        actions.iter().filter(is_groups).count()
    };
    let says = |engine: &mut Engine<MapIndex>, mono, root| {
        let message = Message::State { root, pending: 0, condition: None };
        engine.handle(at(mono), Event::Message { link: LINK, message, wire_bytes: 1 })
    };
    let root = engine.index_mut().root_digest();
    assert_eq!(compares(&says(&mut engine, 1, root)), 0);
    assert_eq!(compares(&receive(&mut engine, SECOND, "g", &entry("news", 2, 0o644))), 0);
    assert_eq!(compares(&engine.handle(at(2 * SECOND), Event::Tick)), 0, "it rests, and the peer does not yet");
    assert_eq!(compares(&says(&mut engine, 3 * SECOND, [7; 16])), 1);
}
