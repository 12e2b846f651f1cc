//! The SQLite index against the map, operation by operation; opening what is broken, newer or
//! foreign.

use super::*;
use crate::engine::api::index::{Conflict, ConflictFilter, ConflictSource, Index, OnDisk, Row, Settled};
use crate::engine::api::map_index::MapIndex;
use crate::engine::merge::nothing;
use crate::engine::{Config, Engine, Event, LinkId, Now, OnConflict, Stat, StatKind, Trust};
use crate::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
use crate::wire::conflict::Sides;
use crate::wire::features::Features;
use crate::wire::message::{Change, Message};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn open(path: &Path) -> SqliteIndex {
    SqliteIndex::open(path).unwrap().index
}

fn file(name: u32) -> (SyncPath, Row) {
    let content = ContentId::of(&name.to_be_bytes());
    let device = DeviceId([3; 32]);
    let version =
        Version { stamp: 1 << 60, author: device, seen: VersionVector::default().with(device, u64::from(name)) };
    let mtime = FileTime { secs: 1_700_000_000, nanos: 123_456_789 };
    let entry = Entry { kind: Kind::File { size: 4096, content }, mode: Mode(0o644), mtime, version };
    let stat = Stat { kind: StatKind::File, size: 4096, mtime, ctime: mtime, ino: u64::from(name), mode: Mode(0o644) };
    let path = SyncPath::new(format!("folder{}/file-{name}.txt", name / 100)).unwrap();
    (
        path,
        Row {
            head: entry.clone(),
            disk: Some(OnDisk { entry, stat: Some(stat), local: false }),
            installing: None,
            since: 0,
        },
    )
}

/// Few names, contents and times, so that operations meet.
fn any_path() -> impl Strategy<Value = SyncPath> {
    let names = vec!["a", "a-b", "a/b", "a/b/c", "a/b/\u{7f}", "a/c", "a0", "b", "b/x", "\u{10ffff}"];
    proptest::sample::select(names).prop_map(|name| SyncPath::new(name).unwrap())
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let time = prop_oneof![0..5u64, Just(u64::MAX), Just(1 << 63)];
    let kind = prop_oneof![
        time.prop_map(|at| Kind::Deleted { at }),
        Just(Kind::Directory),
        Just(Kind::Symlink { target: b"to".to_vec() }),
        (0..3u8, 0..9u64).prop_map(|(content, size)| Kind::File { size, content: ContentId::of(&[content]) }),
    ];
    (kind, 0..3u64).prop_map(|(kind, stamp)| {
        let author = DeviceId([stamp as u8; 32]);
        let version = Version { stamp, author, seen: VersionVector::default().with(author, stamp) };
        Entry { kind, mode: Mode(0o600), mtime: FileTime::default(), version }
    })
}

fn any_row() -> impl Strategy<Value = Row> {
    let time = FileTime { secs: -5, nanos: 7 };
    let stat = Stat { kind: StatKind::File, size: 1, mtime: time, ctime: time, ino: u64::MAX, mode: Mode(0o777) };
    let disk = (any_entry(), proptest::option::of(Just(stat)), any::<bool>());
    let disk = proptest::option::of(disk.prop_map(|(entry, stat, local)| OnDisk { entry, stat, local }));
    let winner = prop_oneof![5 => any_entry(), 1 => Just(nothing())];
    (winner, disk, proptest::option::of(any_entry()), 0..3u8, 0..3u64).prop_map(
        |(winner, disk, installing, on_top, since)| {
            let disk = disk.map(|disk| match on_top {
                0 => OnDisk { entry: winner.clone(), ..disk },
                1 => OnDisk { entry: Entry { version: winner.version.clone(), ..disk.entry }, ..disk },
                _ => disk,
            });
            Row { head: winner, disk, installing, since }
        },
    )
}

#[derive(Debug, Clone)]
enum Operation {
    Put(SyncPath, Box<Row>),
    Remove(SyncPath),
    Horizon(u64),
    Today(u64),
    /// What was learned before a day, and deleted before a time.
    Forget(u64, u64),
    Meta(&'static str, Vec<u8>),
    Conflict(Box<Conflict>),
    /// Those decided before a time, and the oldest beyond so many.
    ForgetConflicts(u64, usize),
    Commit,
    Reopen,
}

fn any_conflict() -> impl Strategy<Value = Conflict> {
    let settled = proptest::option::of((0..5u64).prop_map(|at| Settled { how: "merged".to_owned(), at }));
    let source =
        proptest::option::of(any::<bool>().prop_map(|relayed| ConflictSource { device: DeviceId([4; 32]), relayed }));
    (any_path(), any_entry(), any_entry(), settled, source).prop_map(|(path, winner, loser, settled, source)| {
        let (winner_name, loser_name, beside) = ("b".to_owned(), "a".to_owned(), None);
        let kept = source.is_none().then(|| "kept".to_owned());
        let sides = Sides { winner, winner_name, loser, loser_name, beside };
        Conflict { id: 0, at: 3, path, kept, settled, sides, source }
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let horizon = prop_oneof![0..6u64, Just(u64::MAX), Just(1 << 63)];
    let before = horizon.clone();
    let key = proptest::sample::select(vec!["counter", "scanned"]);
    prop_oneof![
        8 => (any_path(), any_row()).prop_map(|(path, row)| Operation::Put(path, Box::new(row))),
        2 => any_path().prop_map(Operation::Remove),
        1 => horizon.prop_map(Operation::Horizon),
        1 => (0..4u64).prop_map(Operation::Today),
        1 => (0..5u64, before).prop_map(|(learned, deleted)| Operation::Forget(learned, deleted)),
        1 => (key, any::<Vec<u8>>()).prop_map(|(key, value)| Operation::Meta(key, value)),
        3 => any_conflict().prop_map(|conflict| Operation::Conflict(Box::new(conflict))),
        1 => (0..5u64, 1..4usize).prop_map(|(before, most)| Operation::ForgetConflicts(before, most)),
        1 => Just(Operation::Commit),
        1 => Just(Operation::Reopen),
    ]
}

fn apply(index: &mut impl Index, operation: &Operation) {
    match operation {
        Operation::Put(path, row) => index.put(path, row),
        Operation::Remove(path) => index.remove(path),
        Operation::Horizon(at) => index.set_horizon(*at),
        Operation::Today(day) => index.set_today(*day),
        Operation::Forget(learned, deleted) => {
            index.forget_deletions(*learned, *deleted, usize::MAX);
        }
        Operation::Meta(key, value) => index.set_meta(key, value),
        Operation::Conflict(conflict) => index.put_conflict(conflict),
        Operation::ForgetConflicts(before, most) => index.forget_conflicts(*before, *most),
        Operation::Commit | Operation::Reopen => {}
    }
}

/// Without their ids: SQLite may give one again that was the last and is gone.
fn listed(index: &impl Index, wanted: &ConflictFilter) -> Vec<Conflict> {
    let found = index.conflicts(wanted);
    assert!(found.windows(2).all(|pair| pair[0].id < pair[1].id));
    found.into_iter().map(|conflict| Conflict { id: 0, ..conflict }).collect()
}

fn all_holders(index: &impl Index, content: &ContentId) -> Vec<SyncPath> {
    let mut holders = Vec::new();
    let none = index.find_holder(content, &mut |path, row| {
        assert!(row.disk.as_ref().and_then(|disk| disk.entry.file()).is_some_and(|(held, _)| held == *content));
        holders.push(path.clone());
        false
    });
    assert_eq!(none, None, "nothing was accepted");
    for (n, holder) in holders.iter().enumerate() {
        assert_eq!(index.find_holder(content, &mut |path, _| path == holder).as_ref(), Some(&holders[n]));
    }
    holders
}

/// Every method of the trait, asked of both.
fn assert_same(ours: &mut impl Index, model: &mut impl Index, dir: &SyncPath, after: &SyncPath) {
    for limit in [1, 3, 99] {
        assert_eq!(ours.below(None, None, limit), model.below(None, None, limit));
        assert_eq!(ours.below(Some(dir), None, limit), model.below(Some(dir), None, limit));
        assert_eq!(ours.below(Some(dir), Some(after), limit), model.below(Some(dir), Some(after), limit));
        assert_eq!(ours.unsettled(None, limit), model.unsettled(None, limit));
        assert_eq!(ours.unsettled(Some(after), limit), model.unsettled(Some(after), limit));
        assert_eq!(ours.local(None, limit), model.local(None, limit));
        assert_eq!(ours.local(Some(after), limit), model.local(Some(after), limit));
    }
    for (path, row) in model.below(None, None, 99) {
        assert_eq!(ours.get(&path).as_ref(), Some(&row));
        let bucket = crate::engine::api::digest::bucket_of(&path);
        assert_eq!(ours.bucket(bucket), model.bucket(bucket));
        let group = (bucket >> 8) as u8;
        assert_eq!(ours.bucket_digests(group), model.bucket_digests(group));
    }
    for content in 0..4u8 {
        let content = ContentId::of(&[content]);
        assert_eq!(ours.holders(&content), model.holders(&content));
        assert_eq!(all_holders(ours, &content), all_holders(model, &content));
    }
    assert_eq!(ours.get(dir), model.get(dir));
    assert_eq!(ours.any_live_below(dir), model.any_live_below(dir));
    assert_eq!(ours.any_on_disk_below(dir), model.any_on_disk_below(dir));
    assert_eq!(ours.root_digest(), model.root_digest());
    assert_eq!(ours.group_digests(), model.group_digests());
    assert_eq!(ours.counts(), model.counts());
    for (below, settled) in [(false, false), (true, false), (true, true)] {
        let wanted = ConflictFilter { path: Some(dir.clone()), below, settled, after: 0, limit: 9 };
        assert_eq!(listed(ours, &wanted), listed(model, &wanted));
    }
    let all = ConflictFilter { settled: true, limit: 99, ..ConflictFilter::default() };
    assert_eq!(listed(ours, &all), listed(model, &all));
    assert_eq!(ours.conflict_marks(), model.conflict_marks());
    for key in ["counter", "scanned", "never"] {
        assert_eq!(ours.meta(key), model.meta(key));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn it_answers_as_the_map_does(
        operations in proptest::collection::vec((any_operation(), any_path(), any_path()), 1..40),
    ) {
        let home = TempDir::new().unwrap();
        let path = home.path().join("index");
        let (mut ours, mut model) = (open(&path), MapIndex::new());
        for (operation, dir, after) in &operations {
            apply(&mut ours, operation);
            apply(&mut model, operation);
            match operation {
                Operation::Commit => ours.commit().unwrap(),
                Operation::Reopen => {
                    ours.close().unwrap();
                    ours = open(&path);
                    ours.set_today(0);
                    model.set_today(0);
                }
                _ => {}
            }
            assert_same(&mut ours, &mut model, dir, after);
        }
        ours.commit().unwrap();
    }
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let (kept, row) = file(1);
    let (lost, other) = file(2);
    let mut index = open(&path);
    index.put(&kept, &row);
    assert!(index.is_dirty());
    index.commit().unwrap();
    assert!(!index.is_dirty());
    let mut before = MapIndex::new();
    before.put(&kept, &row);
    index.put(&lost, &other);
    index.put(&kept, &row);
    drop(index);
    let opened = SqliteIndex::open(&path).unwrap();
    assert_eq!(opened.origin, IndexOrigin::Existing);
    let mut index = opened.index;
    assert_same(&mut index, &mut before, &kept, &lost);
}

#[test]
fn writing_what_is_there_already_commits_nothing() {
    let home = TempDir::new().unwrap();
    let mut index = open(&home.path().join("index"));
    let (path, row) = file(1);
    index.put(&path, &row);
    index.set_meta("counter", b"7");
    index.commit().unwrap();
    index.put(&path, &row);
    index.set_meta("counter", b"7");
    index.remove(&file(2).0);
    assert!(!index.is_dirty());
}

#[test]
fn a_newer_index_and_a_stranger_are_refused_untouched() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    open(&path).close().unwrap();
    for (at, value, says) in [(60, 2u32, "newer than this dirsyncd"), (68, 77, "no index of dirsyncd")] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let other = home.path().join("other");
        fs::write(&other, &bytes).unwrap();
        let why = SqliteIndex::open(&other).err().unwrap().to_string();
        assert!(why.contains(says), "{why}");
        assert_eq!(fs::read(&other).unwrap(), bytes);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "no log, nothing set aside");
    }
}

#[test]
fn a_broken_index_is_set_aside_and_made_anew() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let mut index = open(&path);
    for name in 0..2000 {
        let (path, row) = file(name);
        index.put(&path, &row);
    }
    index.commit().unwrap();
    index.close().unwrap();
    let sound = fs::read(&path).unwrap();
    let mut holed = sound.clone();
    holed[4096..].fill(0x5a);
    for broken in [b"this is not a database, but it is longer than a header of one hundred bytes, which is what is read first of all".to_vec(), holed, sound[..10_000].to_vec(), b"short".to_vec()] {
        fs::write(&path, &broken).unwrap();
        let opened = SqliteIndex::open(&path).unwrap();
        let IndexOrigin::Rebuilt { aside, .. } = opened.origin else { panic!("{:?}", opened.origin) };
        assert_eq!(fs::read(&aside).unwrap(), broken);
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("index.corrupt-"));
        assert_eq!(opened.index.counts(), Counts::default());
        opened.index.close().unwrap();
    }
}

#[test]
fn after_an_unclean_stop_the_whole_file_is_checked() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let mut index = open(&path);
    for name in 0..2000 {
        let (path, row) = file(name);
        index.put(&path, &row);
    }
    index.close().unwrap();
    // A crash: opened, never closed; its last page is then torn.
    drop(open(&path));
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(SqliteIndex::open(&path).unwrap().origin, IndexOrigin::Rebuilt { .. }));
}

/// What a bucket does not count would be taken for new.
#[test]
fn an_index_that_lacks_a_row_it_counts_is_set_aside_also_after_a_clean_stop() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let mut index = open(&path);
    for name in 0..3 {
        let (path, row) = file(name);
        index.put(&path, &row);
    }
    index.close().unwrap();
    assert_eq!(SqliteIndex::open(&path).unwrap().origin, IndexOrigin::Existing);
    Connection::open(&path)
        .unwrap()
        .execute("DELETE FROM paths WHERE path = (SELECT min(path) FROM paths)", [])
        .unwrap();
    assert!(matches!(SqliteIndex::open(&path).unwrap().origin, IndexOrigin::Rebuilt { .. }));
}

#[test]
fn only_its_owner_can_read_it() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let mut index = open(&path);
    index.set_meta("key", b"secret");
    index.commit().unwrap();
    for name in ["index", "index-wal"] {
        let mode = fs::metadata(home.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn the_journal_keeps_its_last_lines_in_order() {
    let home = TempDir::new().unwrap();
    let mut index = open(&home.path().join("index"));
    let line = |at: u64| JournalLine {
        seq: at + 1,
        at,
        kind: "received".into(),
        path: Some(b"a\xff".to_vec()),
        peer: None,
        size: Some(u64::MAX),
        paths: None,
        text: format!("line {at}"),
    };
    index.append_journal(&[]);
    assert!(!index.is_dirty());
    for batch in 0..11 {
        index.append_journal(&(0..1000).map(|n| line(batch * 1000 + n)).collect::<Vec<_>>());
    }
    index.commit().unwrap();
    assert_eq!(index.journal(&WantedLines::last(2)), [line(10_998), line(10_999)]);
    let all = index.journal(&WantedLines::last(usize::MAX));
    assert_eq!((all.len(), all[0].at), (10_000, 1000));
}

#[test]
fn lines_are_found_by_path_time_and_place_in_the_journal() {
    let home = TempDir::new().unwrap();
    let mut index = open(&home.path().join("index"));
    let line = |at, path: Option<&str>, paths| JournalLine {
        at,
        kind: "received".into(),
        path: path.map(|path| path.as_bytes().to_vec()),
        paths,
        ..JournalLine::default()
    };
    let lines = [
        line(1, None, None),
        line(2, Some("d"), Some(40)),
        line(3, Some("d/f"), None),
        line(4, Some("d-2"), None),
        line(5, Some("d/e/g"), None),
        line(6, Some("d"), None),
    ];
    index.append_journal(&lines);
    index.commit().unwrap();
    let found = |path: Option<&str>, since, after| {
        let path = path.map(|path| SyncPath::new(path).unwrap());
        let lines = index.journal(&WantedLines { limit: 100, path, since, after });
        lines.iter().map(|line| line.at).collect::<Vec<_>>()
    };
    assert_eq!(found(None, 0, 0), [1, 2, 3, 4, 5, 6]);
    assert_eq!(found(Some("d"), 0, 0), [2, 3, 5, 6], "a folder, and what is in it");
    assert_eq!(found(Some("d/f"), 0, 0), [2, 3], "a file, and what sums up its folder");
    assert_eq!(found(None, 4, 0), [4, 5, 6]);
    assert_eq!(found(Some("d"), 0, 3), [5, 6], "what came since");
}

#[test]
fn an_index_of_an_earlier_version_gets_its_local_changes_and_what_that_version_left_of_them_is_checked() {
    let home = TempDir::new().unwrap();
    let at = home.path().join("index");
    open(&at).db.execute_batch("DROP INDEX by_local; ALTER TABLE paths DROP COLUMN local").unwrap();
    let mut index = open(&at);
    let (path, mut row) = file(7);
    let settled = row.clone();
    if let Some(disk) = &mut row.disk {
        (disk.entry.mode, disk.local) = (Mode(0o600), true);
    }
    index.put(&path, &row);
    index.put(&file(8).0, &file(8).1);
    index.commit().unwrap();
    drop(index);
    let index = open(&at);
    assert_eq!((index.local(None, 9), index.counts().local), (vec![path.clone()], 1));
    // An older version names the columns that it knows.
    index
        .db
        .execute("UPDATE paths SET row = ?1 WHERE path = ?2", (codec::encode_row(&settled), path.as_bytes()))
        .unwrap();
    drop(index);
    let index = open(&at);
    assert_eq!((index.local(None, 9), index.counts().local), (Vec::new(), 0));
}

#[test]
fn a_journal_of_an_earlier_version_is_read_and_goes_on() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    open(&path).close().unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("ALTER TABLE journal DROP COLUMN size; ALTER TABLE journal DROP COLUMN paths;").unwrap();
    db.execute_batch("INSERT INTO journal (at, kind, text) VALUES (1, 'sent', 'before')").unwrap();
    drop(db);
    let mut index = open(&path);
    index.append_journal(&[JournalLine { at: 2, kind: "sent".into(), size: Some(7), ..JournalLine::default() }]);
    index.commit().unwrap();
    let sizes: Vec<_> = index.journal(&WantedLines::last(9)).iter().map(|line| (line.at, line.size)).collect();
    assert_eq!(sizes, [(1, None), (2, Some(7))]);
}

#[test]
fn what_a_peer_was_charged_is_known_to_the_engine_that_opens_the_index_again() {
    const WALL: u64 = 1_800_000_000_000_000_000;
    let home = TempDir::new().unwrap();
    let path = home.path().join("index");
    let peer = DeviceId([2; 32]);
    let start = || {
        let config = Config { device: DeviceId([1; 32]), name: "own".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, open(&path));
        engine.start(Now { wall: WALL, mono: 1 }, Trust::Known);
        engine
    };
    let tell = |engine: &mut Engine<SqliteIndex>, event| drop(engine.handle(Now { wall: WALL, mono: 1 }, event));
    let mut engine = start();
    let link = LinkId(1);
    let up = Event::LinkUp {
        link,
        device: peer,
        name: "peer".into(),
        dialler: true,
        features: Features::ours(),
        capability: crate::model::Capability::Write,
    };
    tell(&mut engine, up);
    tell(&mut engine, Event::Message { link, message: Message::Known { counter: 0 }, wire_bytes: 1 });
    // Deletions of paths that never were here.
    let deletion = |n: u64| {
        let name = format!("{n:0>255}/").repeat(15) + &format!("{n:0>250}");
        let version = Version { stamp: WALL, author: peer, seen: VersionVector::default().with(peer, n) };
        let (kind, mtime) = (Kind::Deleted { at: WALL }, FileTime::default());
        let entry = Entry { kind, mode: Mode(0o644), mtime, version };
        Change { path: SyncPath::new(name).unwrap(), entry, body: None }
    };
    let message = Message::Changes { changes: (1..=100).map(deletion).collect(), relayed_to: Vec::new() };
    tell(&mut engine, Event::Message { link, message, wire_bytes: 1 });
    tell(&mut engine, Event::Tick);
    let charged = engine.charged(&peer);
    assert!(charged > 1 << 20, "{charged}");
    let mut index = engine.into_index();
    index.commit().unwrap();
    drop(index);
    assert_eq!(start().charged(&peer), charged);
}

#[test]
fn a_glance_reads_one_key_and_leaves_the_index_as_it_is_also_a_damaged_one() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("index of 100%?");
    let mut index = open(&path);
    index.set_meta("key", b"value");
    index.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    let seen = SqliteIndex::glance(&path, "key").unwrap();
    assert_eq!((seen.meta.as_deref(), seen.holds_paths), (Some(&b"value"[..]), false));
    assert_eq!(SqliteIndex::glance(&path, "other").unwrap().meta, None);
    assert_eq!(fs::read(&path).unwrap(), bytes);

    let mut index = open(&path);
    let (name, row) = file(1);
    index.put(&name, &row);
    index.close().unwrap();
    assert!(SqliteIndex::glance(&path, "key").unwrap().holds_paths);

    let mut damaged = fs::read(&path).unwrap();
    damaged[..64].fill(0);
    fs::write(&path, &damaged).unwrap();
    assert!(SqliteIndex::glance(&path, "key").is_err());
    assert_eq!(fs::read(&path).unwrap(), damaged);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is set aside");
}

#[test]
fn what_becomes_of_a_path_is_noted_from_the_first_asking_on() {
    let home = TempDir::new().unwrap();
    let mut index = open(&home.path().join("index"));
    let path = SyncPath::new("f").unwrap();
    let has = |index: &mut SqliteIndex| -> Vec<SeenChangeKind> {
        index.take_changes().latest.into_iter().map(|change| change.change).collect()
    };
    let row = file(1).1;
    index.put(&path, &row);
    assert_eq!(has(&mut index), [], "nobody asked before");
    let newer = file(2).1;
    index.put(&path, &Row { head: newer.head.clone(), ..row.clone() });
    assert_eq!(has(&mut index), [SeenChangeKind::Pending]);
    index.put(&path, &newer);
    index.put(&path, &newer);
    assert_eq!(has(&mut index), [SeenChangeKind::Modified], "and what is put again is no change");
    index.put(&path, &Row { since: 9, ..newer.clone() });
    assert_eq!(has(&mut index), [], "nor is what nobody sees");
    index.put(&path, &Row { disk: None, ..newer.clone() });
    index.put(&path, &newer);
    index.remove(&path);
    assert_eq!(has(&mut index), [SeenChangeKind::Deleted, SeenChangeKind::Added, SeenChangeKind::Deleted]);
    for _ in 0..=SEEN_CHANGES {
        index.put(&path, &newer);
        index.remove(&path);
    }
    let changes = index.take_changes();
    assert_eq!(
        (changes.latest.len(), changes.forgotten),
        (SEEN_CHANGES, SEEN_CHANGES as u64 + 2),
        "a flood is counted"
    );
    assert_eq!(index.take_changes(), SeenChanges::default());
}
