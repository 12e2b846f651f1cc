//! Conflicts that are told and heard, one engine against peers made by hand.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{CONFLICT_SETTLED_NS, SECOND};
use crate::engine::{Action, Config, Event, META_RENEWED_AT, OnConflict, Trust};
use crate::model::{ContentId, Entry, FileTime, Kind, Mode, VersionVector};
use crate::wire::features::Features;

const B: LinkId = LinkId(1);
const C: LinkId = LinkId(2);
const WALL: u64 = 1_700_000_000 * SECOND;

fn at(mono: u64) -> Now {
    Now { wall: WALL + mono, mono }
}

fn device(n: u8) -> DeviceId {
    DeviceId([n; 32])
}

/// The engine of `a`, linked with `b` and `c`.
fn linked() -> Engine<MapIndex> {
    let config = Config { device: device(1), name: "a".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, MapIndex::new());
    engine.start(at(0), Trust::Known);
    link_up(&mut engine, B, 2, Features::ours());
    link_up(&mut engine, C, 3, Features::ours());
    engine.handle(at(0), Event::Tick);
    engine
}

fn link_up(engine: &mut Engine<MapIndex>, link: LinkId, n: u8, features: Features) -> Vec<Action> {
    let name = ["a", "b", "c"][usize::from(n) - 1].to_owned();
    engine.handle(
        at(0),
        Event::LinkUp {
            link,
            device: device(n),
            name,
            dialler: true,
            features,
            capability: crate::model::Capability::Write,
        },
    )
}

fn entry(author: DeviceId, counter: u64) -> Entry {
    let version = Version { stamp: 7 + counter, author, seen: VersionVector::default().with(author, counter) };
    let kind = Kind::File { size: 1, content: ContentId([1; 32]) };
    Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
}

/// At `path`, where the `n`th version of device 8 lost to one of device 9.
fn news(path: &str, n: u64) -> ConflictNews {
    let (winner, loser) = (entry(device(9), 1), entry(device(8), n));
    let (winner_name, loser_name) = ("x".to_owned(), "y".to_owned());
    let sides = Sides { winner, winner_name, loser, loser_name, beside: None };
    ConflictNews { path: SyncPath::new(path).unwrap(), found_ns: 5, decided: None, relayed: false, sides }
}

fn decided(news: ConflictNews, age_s: u32) -> ConflictNews {
    ConflictNews { decided: Some(Decided { how: "kept x at b".into(), age_s }), ..news }
}

/// What each link is told of conflicts after this message came.
fn receive(engine: &mut Engine<MapIndex>, link: LinkId, message: Message) -> Vec<(LinkId, Vec<ConflictNews>)> {
    let mut actions = engine.handle(at(1), Event::Message { link, message, wire_bytes: 1 });
    actions.extend(engine.handle(at(1), Event::Tick));
    announced(actions)
}

fn announced(actions: Vec<Action>) -> Vec<(LinkId, Vec<ConflictNews>)> {
    let sent = actions.into_iter().filter_map(|action| match action {
        Action::Send { to, message: Message::Conflicts { news, .. } } => Some((to[0], news)),
        _ => None,
    });
    sent.collect()
}

fn announce(news: ConflictNews) -> Message {
    Message::Conflicts { digest: None, news: vec![news] }
}

fn open(engine: &Engine<MapIndex>) -> Vec<Conflict> {
    engine.conflicts(&ConflictFilter { limit: usize::MAX, ..ConflictFilter::default() }).1
}

fn all(engine: &Engine<MapIndex>) -> Vec<Conflict> {
    engine.conflicts(&ConflictFilter { settled: true, limit: usize::MAX, ..ConflictFilter::default() }).1
}

#[test]
fn what_a_peer_tells_is_listed_and_passed_on_once() {
    let mut engine = linked();
    let relayed = ConflictNews { relayed: true, ..news("f", 1) };
    assert_eq!(receive(&mut engine, B, announce(news("f", 1))), [(C, vec![relayed.clone()])]);
    assert_eq!(open(&engine).len(), 1);
    assert_eq!(receive(&mut engine, B, announce(news("f", 1))), []);
    assert_eq!(receive(&mut engine, C, announce(relayed)), [], "it is known already");
    assert_eq!(open(&engine).len(), 1);
}

/// The machine came back from an old image, and its conflict with it: under another id it hears of
/// that like everyone. It listed other conflicts than its peers for good (seed 1583 of the
/// simulator's merges).
#[test]
fn a_conflict_of_a_change_that_this_machine_never_made_has_it_start_anew_once_a_day() {
    let own = |counter| {
        let mut sent = news("f", 1);
        sent.sides.loser = entry(device(1), counter);
        sent
    };
    let mut engine = linked();
    let actions = engine.handle(at(1), Event::Message { link: B, message: announce(own(9)), wire_bytes: 1 });
    assert!(actions.contains(&Action::NewDevice), "{actions:?}");
    // What it is told once it was renewed that day is not believed, and costs no second id.
    let mut engine = linked();
    engine.core.index.set_meta(META_RENEWED_AT, &at(0).wall.to_be_bytes());
    let actions = engine.handle(at(1), Event::Message { link: B, message: announce(own(1 << 50)), wire_bytes: 1 });
    assert!(!actions.contains(&Action::NewDevice) && open(&engine).is_empty(), "{actions:?}");
}

#[test]
fn a_decision_spreads_and_an_old_row_does_not_undo_it() {
    let mut engine = linked();
    receive(&mut engine, B, announce(news("f", 1)));
    let settle = Event::Settle { path: SyncPath::new("f").unwrap(), last: 1, how: "kept v".into() };
    let mut actions = engine.handle(at(1), settle);
    assert_eq!(engine.wake_at(), Some(0));
    actions.extend(engine.handle(at(1), Event::Tick));
    let spread = announced(actions);
    assert_eq!(spread.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [B, C]);
    assert_eq!(spread[0].1[0].decided, Some(Decided { how: "kept v at a".into(), age_s: 0 }));
    assert!(open(&engine).is_empty());
    let answer = receive(&mut engine, C, announce(news("f", 1)));
    assert!(matches!(&answer[..], [(C, news)] if news[0].decided.is_some()), "it is told of the decision: {answer:?}");
    assert!(open(&engine).is_empty());
    // The other way round: a decision that a peer tells of.
    receive(&mut engine, B, announce(news("g", 1)));
    let passed_on = receive(&mut engine, C, announce(decided(news("g", 1), 9)));
    assert!(
        matches!(&passed_on[..], [(B, news)] if news[0].decided.as_ref().is_some_and(|decided| decided.age_s == 9))
    );
    assert!(open(&engine).is_empty());
    // One that is known decided only.
    receive(&mut engine, C, announce(decided(news("h", 1), 0)));
    assert!(open(&engine).is_empty() && all(&engine).len() == 3);
}

#[test]
fn on_connecting_all_is_told_once_to_whoever_knows_others() {
    let mut engine = linked();
    receive(&mut engine, B, announce(news("f", 1)));
    receive(&mut engine, B, announce(decided(news("g", 1), 3)));
    let greeting = link_up(&mut engine, LinkId(3), 3, Features::ours());
    let digest = greeting.iter().find_map(|action| match action {
        Action::Send { message: Message::Conflicts { digest, .. }, .. } => *digest,
        _ => None,
    });
    let greet = |digest| Message::Conflicts { digest, news: Vec::new() };
    assert_eq!(receive(&mut engine, LinkId(3), greet(digest)), [], "who knows the same needs nothing");
    assert_eq!(receive(&mut engine, LinkId(3), greet(Some([7; 16]))), [], "and is not asked twice a link");
    let answer = receive(&mut engine, C, greet(Some([7; 16])));
    let [(C, news)] = &answer[..] else { panic!("{answer:?}") };
    let facts: Vec<_> = news.iter().map(|news| (news.path.to_text(), news.decided.is_some(), news.relayed)).collect();
    assert_eq!(facts, [("f".into(), false, true), ("g".into(), true, true)]);
    assert_eq!(receive(&mut engine, C, greet(Some([8; 16]))), []);
}

#[test]
fn who_does_not_know_the_feature_is_told_nothing() {
    let mut engine = linked();
    assert_eq!(announced(link_up(&mut engine, LinkId(4), 2, Features::default())), []);
    let to: Vec<_> = receive(&mut engine, B, announce(news("f", 1))).into_iter().map(|(link, _)| link).collect();
    assert_eq!(to, [C]);
}

#[test]
fn made_up_conflicts_fill_only_the_room_of_who_made_them_up() {
    let mut engine = linked();
    let flood = (0..PEER_ROOM.rows as u64 + 500).map(|n| news("made up", n + 1)).collect();
    engine.handle(
        at(1),
        Event::Message { link: B, message: Message::Conflicts { digest: None, news: flood }, wire_bytes: 1 },
    );
    assert_eq!(open(&engine).len(), PEER_ROOM.rows);
    // What it passes on of others, what others found, and what is found here have their own.
    receive(&mut engine, B, announce(ConflictNews { relayed: true, ..news("passed on", 1) }));
    receive(&mut engine, C, announce(news("of c", 1)));
    let Sides { winner, loser, .. } = news("own", 1).sides;
    engine.report_conflict(&SyncPath::new("own").unwrap(), &winner, loser, Some("kept".into()), None);
    let listed: Vec<_> = open(&engine).into_iter().map(|known| known.path.to_text()).skip(PEER_ROOM.rows).collect();
    assert_eq!(listed, ["passed on", "of c", "own"]);
    // Also after a restart, and once more nothing of it.
    let config = Config { device: device(1), name: "a".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, engine.into_index());
    engine.start(at(2), Trust::Known);
    link_up(&mut engine, B, 2, Features::ours());
    receive(&mut engine, B, announce(news("made up later", 1)));
    assert_eq!(open(&engine).len(), PEER_ROOM.rows + 3);
    receive(&mut engine, B, announce(decided(news("made up", 1), 0)));
    assert_eq!(open(&engine).len(), PEER_ROOM.rows + 2, "a decision takes no room");
}

#[test]
fn long_rows_fill_a_peer_s_room_by_their_bytes() {
    let mut engine = linked();
    let long = |n: usize| {
        let path = format!("{n}/{}name", format!("{}/", "d".repeat(200)).repeat(17));
        let mut news = news(&path, 1);
        news.sides.winner.kind = Kind::Symlink { target: vec![b't'; 4000] };
        news
    };
    let flood = (0..2000).map(long).collect();
    engine.handle(
        at(1),
        Event::Message { link: B, message: Message::Conflicts { digest: None, news: flood }, wire_bytes: 1 },
    );
    let held: usize = open(&engine).iter().map(|known| news_of(0, known).wire_bytes()).sum();
    assert!((PEER_ROOM.bytes - 10_000..=PEER_ROOM.bytes).contains(&held), "{held}");
}

#[test]
fn what_no_machine_may_say_is_passed_over() {
    let mut engine = linked();
    let mut shouting = news("name", 1);
    shouting.sides.loser_name = "\u{1b}[31m".into();
    for wrong in [shouting, decided(news("old", 1), u32::MAX)] {
        assert_eq!(receive(&mut engine, B, announce(wrong)), []);
    }
    assert!(all(&engine).is_empty(), "a name that none may have, and a decision long ago");
}

#[test]
fn a_conflict_that_was_told_before_it_was_found_here_keeps_its_place_and_its_decision() {
    let mut engine = linked();
    receive(&mut engine, B, announce(news("f", 1)));
    receive(&mut engine, B, announce(decided(news("g", 1), 0)));
    for name in ["f", "g"] {
        let Sides { winner, mut loser, .. } = news(name, 1).sides;
        // As its row has it, with all that was seen.
        loser.version.seen = loser.version.seen.with(device(200), 4);
        engine.report_conflict(&SyncPath::new(name).unwrap(), &winner, loser, Some("kept".into()), None);
    }
    let all = all(&engine);
    let facts = all.iter().map(|known| (known.id, known.source, known.settled.is_some(), known.kept.is_some()));
    assert_eq!(facts.collect::<Vec<_>>(), [(1, None, false, true), (2, None, true, true)]);
    assert_eq!(announced(engine.handle(at(2), Event::Tick)), [], "it is no news");
}

#[test]
fn a_decision_by_a_clock_that_is_years_off_counts_and_is_forgotten_in_time() {
    let mut engine = linked();
    receive(&mut engine, B, announce(news("f", 1)));
    receive(&mut engine, B, announce(decided(news("f", 1), 60)));
    let settled = all(&engine)[0].settled.clone().map(|settled| settled.at);
    assert_eq!(settled, Some(engine.steady(at(1)) - 60 * SECOND), "its age counts, by our clock");
    // Nor does it matter what becomes of ours.
    let later = |ns| Now { wall: 3 * WALL, mono: ns };
    engine.handle(later(CONFLICT_SETTLED_NS - 120 * SECOND), Event::Tick);
    assert_eq!(all(&engine).len(), 1);
    engine.handle(later(CONFLICT_SETTLED_NS + 2 * 3600 * SECOND), Event::Tick);
    assert_eq!(all(&engine), []);
}
