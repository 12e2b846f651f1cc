//! A clock that was ten years ahead, and what was made under it.

use super::*;
use crate::engine::api::index::OnDisk;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{FUTURE_NS, SECOND};
use crate::engine::{Config, Event, LinkId, OnConflict, Stat, StatKind, Trust};
use crate::model::{ContentId, DeviceId, FileTime, Mode, Version, VersionVector};
use crate::wire::features::Features;
use crate::wire::message::Message;

const LINK: LinkId = LinkId(1);
const ME: DeviceId = DeviceId([1; 32]);
const PEER: DeviceId = DeviceId([9; 32]);
const TODAY: u64 = 1_800_000_000 * SECOND;
const TEN_YEARS: u64 = 2 * FUTURE_NS;

fn at(seconds: u64) -> Now {
    Now { wall: TODAY + seconds * SECOND, mono: seconds * SECOND }
}

fn path() -> SyncPath {
    SyncPath::new("f").unwrap()
}

fn file(author: DeviceId, stamp: u64, text: &str) -> Entry {
    let version = Version { stamp, author, seen: VersionVector::default().with(author, 5) };
    let kind = Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) };
    Entry { kind, mode: Mode(0o644), mtime: FileTime { secs: 5, nanos: 0 }, version }
}

/// On top of another, by its author.
fn on_top(base: &Entry, stamp: u64, text: &str) -> Entry {
    let author = base.version.author;
    let mut entry = file(author, stamp, text);
    entry.version.seen = base.version.seen.with(author, 6);
    entry
}

fn stat() -> Stat {
    let ahead = FileTime { secs: ((TODAY + TEN_YEARS) / SECOND) as i64, nanos: 0 };
    Stat { kind: StatKind::File, size: 1, mtime: ahead, ctime: ahead, ino: 7, mode: Mode(0o644) }
}

/// Holds this at `f`, if anything, and is linked with a peer.
fn engine(holds: Option<&Entry>) -> Engine<MapIndex> {
    let mut index = MapIndex::new();
    index.set_meta(crate::engine::META_SCANNED, b"1");
    index.set_meta(crate::engine::META_COUNTER, &100_u64.to_be_bytes());
    if let Some(entry) = holds {
        let disk = Some(OnDisk { entry: entry.clone(), stat: Some(stat()), local: false });
        index.put(&path(), &Row { head: entry.clone(), disk, installing: None, since: 0 });
        index.set_meta(META_LATEST_DAY, &(entry.version.stamp - entry.version.stamp % DAY_NS).to_be_bytes());
    }
    let config = Config { device: ME, name: "here".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, index);
    engine.start(at(0), Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let (device, features) = (PEER, Features::ours());
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
    let known = Message::Known { counter: 0 };
    engine.handle(at(0), Event::Message { link: LINK, message: known, wire_bytes: 1 });
    engine
}

fn receive(engine: &mut Engine<MapIndex>, now: Now, entry: &Entry) {
    let changes = vec![Change { path: path(), entry: entry.clone(), body: None }];
    let message = Message::Changes { changes, relayed_to: Vec::new() };
    engine.handle(now, Event::Message { link: LINK, message, wire_bytes: 1 });
}

fn winner(engine: &Engine<MapIndex>) -> Option<Entry> {
    engine.index().get(&path()).map(|row| row.head)
}

/// The changes that are announced by the ticks of these seconds.
fn announced(engine: &mut Engine<MapIndex>, seconds: std::ops::Range<u64>) -> Vec<Entry> {
    let said = seconds.flat_map(|second| engine.handle(at(second), Event::Tick)).collect::<Vec<_>>();
    let changes = said.into_iter().filter_map(|action| match action {
        Action::Send { message: Message::Changes { changes, .. }, .. } => Some(changes),
        _ => None,
    });
    changes.flatten().map(|change| change.entry).collect()
}

#[test]
fn what_a_machine_made_under_a_clock_far_ahead_is_dated_as_of_today_once_a_peer_agrees() {
    let far = file(ME, TODAY + TEN_YEARS, "ahead");
    let mut engine = engine(Some(&far));
    assert!(announced(&mut engine, 1..20).is_empty(), "nobody has said that today is today");
    engine.handle(at(20), Event::Clock { link: LINK, ahead_ns: TEN_YEARS as i64 });
    assert!(announced(&mut engine, 20..40).is_empty(), "the peer says that it is ten years later");
    engine.handle(at(40), Event::Clock { link: LINK, ahead_ns: 0 });
    let sent = announced(&mut engine, 40..50);
    assert_eq!(sent.len(), 1, "once: {sent:?}");
    let anew = &sent[0];
    assert!(anew.same_content(&far) && anew.version.supersedes(&far.version), "{anew:?}");
    assert!((TODAY..TODAY + 60 * SECOND).contains(&anew.version.stamp), "{anew:?}");
    let row = engine.index().get(&path()).unwrap();
    assert!(row.head == *anew && row.is_settled(), "{row:?}");
    let far_ahead = |day: u64| day > TODAY + FUTURE_NS;
    assert!(!far_ahead(engine.core.latest_day), "deletions of today count in digests again");
}

#[test]
fn a_clock_that_was_never_set_dates_nothing_anew() {
    let mut engine = engine(Some(&file(ME, TODAY + TEN_YEARS, "ahead")));
    let unset = |seconds: u64| Now { wall: seconds * SECOND, mono: seconds * SECOND };
    engine.handle(unset(1), Event::Clock { link: LINK, ahead_ns: 0 });
    for second in 2..30 {
        engine.handle(unset(second), Event::Tick);
    }
    assert_eq!(winner(&engine).unwrap().version.stamp, TODAY + TEN_YEARS);
}

#[test]
fn a_change_that_is_held_for_its_date_gives_way_to_one_that_knows_it() {
    let mut engine = engine(None);
    let far = file(PEER, TODAY + TEN_YEARS, "ahead");
    receive(&mut engine, at(1), &far);
    assert_eq!((winner(&engine), engine.safety.future.len(), engine.observe.problem_count(&engine.core)), (None, 1, 1));
    let later = on_top(&far, TODAY, "back");
    receive(&mut engine, at(2), &later);
    assert_eq!(
        (winner(&engine), engine.safety.future.len(), engine.observe.problem_count(&engine.core)),
        (Some(later.clone()), 0, 0)
    );
    receive(&mut engine, at(3), &far);
    assert_eq!((winner(&engine), engine.safety.future.len()), (Some(later), 0), "whoever still tells of it");
}

#[test]
fn a_machine_that_took_it_under_a_wrong_clock_of_its_own_follows() {
    let far = file(PEER, TODAY + TEN_YEARS, "ahead");
    let mut engine = engine(Some(&far));
    let apart = file(DeviceId([3; 32]), TODAY, "apart");
    receive(&mut engine, at(1), &apart);
    assert_eq!(winner(&engine), Some(far.clone()), "what did not know it does not correct it");
    let later = on_top(&far, TODAY, "back");
    receive(&mut engine, at(2), &later);
    assert_eq!(winner(&engine), Some(later));
}

#[test]
fn what_its_author_does_not_make_anew_any_machine_does_in_the_end() {
    let mut engine = engine(Some(&file(PEER, TODAY + TEN_YEARS, "ahead")));
    engine.handle(at(1), Event::Clock { link: LINK, ahead_ns: 0 });
    assert!(announced(&mut engine, 1..300).is_empty());
    let sent = announced(&mut engine, 600..700);
    assert_eq!(sent.iter().map(|entry| entry.version.author).collect::<Vec<_>>(), [ME]);
}
