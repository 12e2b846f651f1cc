//! History on a real disk: names, sidecars, what goes, and what is written after it came.

use super::*;
use crate::engine::{Event, FoundLoser, Stat};
use crate::io::Events;
use crate::io::fs::history_name::name_at;
use crate::model::{ContentId, DeviceId, Entry, Kind, Version, VersionVector};
use crate::wire::message::Sought;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

fn history(dir: &std::path::Path) -> Arc<History> {
    let root = Arc::new(Root::open(dir).unwrap());
    History::open(Arc::clone(&root), Stage::open(root).unwrap())
}

fn bytes(bytes: u64) -> Quota {
    Quota { bytes, inodes: u64::MAX }
}

fn put(dir: &std::path::Path, time_ns: u64, reason: RetainReason, path: &str, content: &[u8]) -> String {
    let name = name_at(time_ns, reason, path.as_bytes(), None).name;
    let file = dir.join(".dirsync/history").join(&name);
    std::fs::write(&file, content).unwrap();
    // As it was before it came.
    let before = SystemTime::UNIX_EPOCH + Duration::from_nanos(time_ns - 1);
    File::options().write(true).open(file).unwrap().set_modified(before).unwrap();
    name
}

#[test]
fn a_long_path_comes_back_from_its_sidecar() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    for path in [vec![b'x'; 255], [vec![0xff; 200], b"/.path".to_vec()].concat(), "é/".repeat(90).into_bytes()] {
        let path = SyncPath::new(path.strip_suffix(b"/").unwrap_or(&path)).unwrap();
        let (name, is_cut) = history.reserve(RetainReason::Conflict, &path, None).unwrap();
        assert!(is_cut && name.len() + SIDECAR.len() <= 255);
        std::fs::write(temp.path().join(".dirsync/history").join(&name), "x").unwrap();
        let listed = history.list(Some(&path)).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].name, &listed[0].path), (&name, &path));
    }
    assert_eq!(history.list(None).unwrap().len(), 3);
    history.prune_to(u64::MAX, bytes(u64::MAX)).unwrap();
    assert_eq!(std::fs::read_dir(temp.path().join(".dirsync/history")).unwrap().count(), 0, "sidecars go too");
}

#[test]
fn what_is_to_go_goes_with_its_sidecar_and_the_rest_stays() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let now = 100 * DAY_NS;
    put(temp.path(), now - 8 * DAY_NS, RetainReason::Replaced, "old-replaced", b"12345");
    put(temp.path(), now - 31 * DAY_NS, RetainReason::Deleted, "old-deleted", b"12345");
    let loser = put(temp.path(), now - 20 * DAY_NS, RetainReason::Conflict, "loser", b"12345");
    let deleted = put(temp.path(), now - 8 * DAY_NS, RetainReason::Deleted, "deleted", b"12345");
    let names = || history.list(None).unwrap().into_iter().map(|kept| kept.name).collect::<Vec<_>>();
    assert_eq!(history.prune_to(now, bytes(8192)).unwrap(), 2);
    assert_eq!(names(), [deleted, loser.clone()]);
    assert_eq!(history.prune_to(now, bytes(4096)).unwrap(), 1, "over the quota, losers go last");
    assert_eq!(names(), [loser]);
}

#[test]
fn nothing_more_is_replaced_while_history_is_full_of_what_stood_a_day_ago() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let path = SyncPath::new("f").unwrap();
    history.admit(&path).unwrap();
    let now = wall_ns();
    for n in 0..4 {
        let name = put(temp.path(), now - 60_000_000_000, RetainReason::Replaced, &format!("f{n}"), &[0; 1000]);
        let old = SystemTime::now() - Duration::from_hours(48);
        File::options()
            .write(true)
            .open(temp.path().join(".dirsync/history").join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    // As if the quota were what is held.
    assert_eq!(history.prune_to(now, bytes(4 * 4096)).unwrap(), 0);
    assert_eq!(history.lock_fill().guarded.bytes, 4 * 4096);
    history.lock_fill().guarded.bytes = u64::MAX;
    let why = history.admit(&path).unwrap_err();
    assert!(why.text.contains("'f'") && why.text.contains("kept for a day"), "{}", why.text);
    assert_eq!(history.prune_to(now + DAY_NS, bytes(2 * 4096)).unwrap(), 2, "after a day they go like all the others");
    history.admit(&path).unwrap();
}

#[test]
fn what_is_written_after_it_came_is_a_loser_from_then_on_also_after_a_restart() {
    for name in ["f".to_owned(), "x".repeat(171), "y".repeat(240)] {
        let temp = tempfile::tempdir().unwrap();
        let history = history(temp.path());
        let path = SyncPath::new(&name).unwrap();
        let (kept, _) = history.reserve(RetainReason::Deleted, &path, None).unwrap();
        let file = temp.path().join(".dirsync/history").join(&kept);
        // The kernel's clock of files lags behind by a tick.
        let named = parse(&kept).unwrap().time_ns;
        while !std::fs::metadata(&file)
            .is_ok_and(|file| FileTime { secs: file.mtime(), nanos: file.mtime_nsec() as u32 }.as_stamp() > named)
        {
            std::fs::write(&file, "half").unwrap();
        }
        let (events, inbox) = Events::channel();
        // Set ahead by its user, it is not taken for a write.
        let ahead = history.reserve(RetainReason::Replaced, &path, None).unwrap().0;
        let ahead = temp.path().join(".dirsync/history").join(&ahead);
        std::fs::write(&ahead, "ahead").unwrap();
        let later = SystemTime::now() + Duration::from_secs(9999);
        File::options().write(true).open(&ahead).unwrap().set_modified(later).unwrap();
        history.stop();
        history.run(&events);
        let Ok(Event::WrittenLate { path: reported, kept: renamed, kind, .. }) = inbox.try_recv() else {
            panic!("the write was not seen")
        };
        assert_eq!((reported, kind), (path.clone(), Kind::File { size: 4, content: ContentId::of(b"half") }));
        assert!(inbox.try_recv().is_err(), "the other one was not written");
        let listed = history.list(Some(&path)).unwrap();
        let loser = listed.iter().find(|kept| kept.name == renamed).unwrap();
        assert_eq!((loser.reason, &loser.path), (RetainReason::Conflict, &path));
        history.run(&events);
        assert!(inbox.try_recv().is_err(), "it is told once");
    }
}

#[test]
fn a_path_whose_item_never_came_goes_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let path = SyncPath::new(vec![b'x'; 255]).unwrap();
    let first = history(temp.path());
    let (kept, _) = first.reserve(RetainReason::Replaced, &path, None).unwrap();
    std::fs::write(temp.path().join(".dirsync/history").join(&kept), "x").unwrap();
    first.reserve(RetainReason::Replaced, &path, None).unwrap();
    drop(first);
    let next = history(temp.path());
    assert_eq!(next.list(None).unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(temp.path().join(".dirsync/history")).unwrap().count(), 2);
}

#[test]
fn what_was_renamed_while_history_was_pruned_is_no_trouble() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let (kept, _) = history.reserve(RetainReason::Replaced, &SyncPath::new("f").unwrap(), None).unwrap();
    assert!(!history.remove(&kept).unwrap());
    std::fs::write(temp.path().join(".dirsync/history").join(&kept), "x").unwrap();
    assert!(history.remove(&kept).unwrap());
}

#[test]
fn what_was_written_to_after_it_came_does_not_go_but_becomes_a_loser() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let (events, inbox) = Events::channel();
    let now = wall_ns();
    put(temp.path(), now - 60 * DAY_NS, RetainReason::Replaced, "f", b"as it came");
    let written = put(temp.path(), now - 60 * DAY_NS + 1, RetainReason::Replaced, "f", b"written since");
    let file = File::options().write(true).open(temp.path().join(".dirsync/history").join(&written)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
    assert_eq!(history.prune_to(now, bytes(0)).unwrap(), 1, "the other one goes");
    let left: Vec<_> = history.list(None).unwrap().into_iter().map(|kept| kept.name).collect();
    assert_eq!(left, [written]);
    std::thread::scope(|scope| {
        scope.spawn(|| history.run(&events));
        let reported = inbox.recv_timeout(Duration::from_secs(10));
        history.stop();
        assert!(
            matches!(&reported, Ok(Event::WrittenLate { kept, .. }) if kept.ends_with(".conflict.f")),
            "{reported:?}"
        );
    });
    assert_eq!(history.prune_to(now, bytes(u64::MAX)).unwrap(), 1, "a loser has its time, and that is over, too");
}

#[test]
fn a_disk_that_says_no_size_has_no_quota() {
    assert_eq!(quota_of(0, 4096), u64::MAX);
    assert_eq!(quota_of(1000, 4096), 409_600 - 409_600 % QUOTA_PERCENT);
}

#[test]
fn the_loser_that_an_install_left_before_it_was_cut_off_is_found_by_its_content() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let entry = |content: &[u8]| Entry {
        kind: Kind::File { size: content.len() as u64, content: ContentId::of(content) },
        mode: Mode(0o644),
        mtime: FileTime::default(),
        version: Version { stamp: 1, author: DeviceId([1; 32]), seen: VersionVector::default() },
    };
    let now = wall_ns();
    put(temp.path(), now - 9, RetainReason::Conflict, "f", b"ours");
    let newest = put(temp.path(), now - 8, RetainReason::Conflict, "f", b"ours");
    put(temp.path(), now - 7, RetainReason::Conflict, "f", b"another");
    put(temp.path(), now - 6, RetainReason::Replaced, "f", b"ours");
    put(temp.path(), now - 5, RetainReason::Conflict, "f/g", b"ours");
    let (events, inbox) = Events::channel();
    let path = SyncPath::new("f").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| history.run(&events));
        history.find_loser(path.clone(), entry(b"theirs"), entry(b"not here"));
        history.find_loser(path.clone(), entry(b"theirs"), entry(b"ours"));
        let found = inbox.recv_timeout(Duration::from_secs(10));
        history.stop();
        let Ok(Event::LoserFound(found)) = found else { panic!("{found:?}") };
        let (winner, loser) = (entry(b"theirs"), entry(b"ours"));
        assert_eq!(*found, FoundLoser { path, winner, loser, kept: newest });
    });
    assert!(inbox.try_recv().is_err());
}

#[test]
fn what_is_spare_goes_only_while_both_are_as_they_were() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let path = SyncPath::new("new").unwrap();
    std::fs::write(temp.path().join("new"), "content").unwrap();
    let name = put(temp.path(), wall_ns() - DAY_NS, RetainReason::Deleted, "old", b"content");
    let there = || history.root.stat(&path).unwrap().unwrap();
    let was = beneath::stat_at(history.root.history(), name.as_bytes()).unwrap().unwrap();
    let (events, _inbox) = Events::channel();
    let content = ContentId::of(b"content");
    let drop = |was, content, stat| {
        history.drop_spare(name.clone(), was, content, path.clone(), stat);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| history.run(&events));
            while !history.late.lock().unwrap().is_idle() {
                std::thread::yield_now();
            }
            history.stop();
            thread.join().unwrap();
        });
        history.late.lock().unwrap().goes_on();
        history.list(None).unwrap().len()
    };
    assert_eq!(drop(Stat { size: 1, ..was }, content, there()), 1, "it was written to since");
    assert_eq!(drop(was, content, Stat { size: 1, ..there() }), 1, "the other is not what it was");
    assert_eq!(drop(was, ContentId::of(b"c0ntent"), there()), 1, "it holds something else");
    assert_eq!(drop(was, content, there()), 0);
}

#[test]
fn what_is_kept_counts_by_what_it_takes_on_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let now = wall_ns();
    let sparse = put(temp.path(), now - DAY_NS, RetainReason::Deleted, "sparse", b"");
    let sparse = temp.path().join(".dirsync/history").join(sparse);
    let file = File::options().write(true).open(sparse).unwrap();
    file.set_len(1 << 40).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(48)).unwrap();
    for n in 0..3 {
        put(temp.path(), now - DAY_NS + 1 + n, RetainReason::Deleted, "small", b"1");
    }
    assert_eq!(history.prune_to(now, bytes(1 << 20)).unwrap(), 0, "a hole takes nothing");
    let (load, _) = history.fill();
    assert!(load.bytes < 1 << 20 && load.inodes == 4, "{load:?}");
    assert_eq!(history.prune_to(now, Quota { bytes: u64::MAX, inodes: 2 }).unwrap(), 2);
}

#[test]
fn a_wrong_clock_ages_nothing_and_an_mtime_says_nothing_about_how_long_it_stood() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let (steady, path) = (1000 * DAY_NS, SyncPath::new("f").unwrap());
    history.set_clock(steady);
    let keep = |path: &SyncPath, since_ns| {
        let (name, _) = history.reserve(RetainReason::Replaced, path, Some(since_ns)).unwrap();
        let file = temp.path().join(".dirsync/history").join(&name);
        std::fs::write(&file, "x").unwrap();
        // Before it came: what has a later mtime was written to since, and does not go.
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        File::options().write(true).open(file).unwrap().set_modified(hour_ago).unwrap();
        name
    };
    // An hour old by its mtime, and two days old in truth; and one that says the opposite.
    let original = keep(&path, steady - 2 * DAY_NS);
    let young = keep(&SyncPath::new("g").unwrap(), steady - 3600 * 1_000_000_000);
    let file = File::options().write(true).open(temp.path().join(".dirsync/history").join(&young)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(48)).unwrap();
    let ten_years = 3650 * DAY_NS;
    assert_eq!(history.prune_to(wall_ns() + ten_years, bytes(u64::MAX)).unwrap(), 0, "the wall clock ages nothing");
    history.set_clock(steady + 60_000_000_000);
    assert_eq!(history.prune_to(wall_ns(), bytes(0)).unwrap(), 1, "what stood a day ago is not pushed out");
    assert_eq!(history.list(None).unwrap()[0].name, original);
    history.set_clock(steady + 8 * DAY_NS);
    assert_eq!(history.prune_to(wall_ns(), bytes(u64::MAX)).unwrap(), 1);
}

fn sought(path: &str, content: &[u8], mtime_ns: u64) -> Sought {
    Sought {
        path: SyncPath::new(path).unwrap(),
        content: ContentId(*blake3::hash(content).as_bytes()),
        size: content.len() as u64,
        mtime: FileTime { secs: (mtime_ns / 1_000_000_000) as i64, nanos: (mtime_ns % 1_000_000_000) as u32 },
    }
}

fn located(history: &History, sought: &[Sought], end: Instant) -> Vec<Option<(String, bool)>> {
    let found = history.find_hashed(sought.to_vec(), end);
    assert!(found.iter().map(|(asked, _)| asked).eq(sought), "each question is answered, in order");
    found.into_iter().map(|(_, place)| place.map(|located| (located.kept, located.is_hashed))).collect()
}

#[test]
fn contents_are_located_at_other_paths_and_told_apart_where_size_and_time_are_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    let copy = put(temp.path(), 100 * DAY_NS, RetainReason::Deleted, "a copy", b"12345");
    let first = put(temp.path(), 101 * DAY_NS, RetainReason::Replaced, "twice", b"first");
    let second = put(temp.path(), 101 * DAY_NS + 10, RetainReason::Replaced, "twice", b"secon");
    let at = |day: u64| day * DAY_NS - 1;
    let asked = [
        sought("the original", b"12345", at(50)),
        sought("twice", b"first", at(101)),
        sought("twice", b"secon", at(101)),
        sought("twice", b"third", at(101)),
        sought("nowhere", b"longer", at(101)),
    ];
    let later = Instant::now() + Duration::from_mins(10);
    let places = [Some((copy, true)), Some((first, true)), Some((second, true)), None, None];
    assert_eq!(located(&history, &asked, later), places);
}

#[test]
fn what_there_was_no_time_to_hash_is_found_by_its_path() {
    let temp = tempfile::tempdir().unwrap();
    let history = history(temp.path());
    put(temp.path(), 100 * DAY_NS, RetainReason::Deleted, "a copy", b"12345");
    let own = put(temp.path(), 99 * DAY_NS, RetainReason::Deleted, "own", b"abcde");
    let asked = [sought("other", b"12345", 100 * DAY_NS - 1), sought("own", b"abcde", 99 * DAY_NS - 1)];
    assert_eq!(located(&history, &asked, Instant::now()), [None, Some((own, false))]);
}
