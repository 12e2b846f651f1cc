//! Names that fold: who has one, who waits for it, and what hints say of it.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{NAME_PATIENCE_NS, SECOND};
use crate::engine::{
    Action, Config, Event, Job, Keeps, LinkId, OnConflict, Outcome, RootState, StageId, Stat, StatKind, Trust, WalkId,
};
use crate::model::{ContentId, DeviceId, FileTime, Kind, Mode, Version, VersionVector};
use rstest::rstest;

const NOW: Now = Now { wall: 1_700_000_000_000_000_000, mono: 1_000_000_000 };
const LATER: Now = Now { wall: NOW.wall + 2 * NAME_PATIENCE_NS, mono: NOW.mono + 2 * NAME_PATIENCE_NS };

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn entry(kind: Kind, stamp: u64) -> Entry {
    let author = DeviceId([2; 32]);
    let version = Version { stamp, author, seen: VersionVector::default().with(author, stamp) };
    Entry { kind, mode: Mode(0o644), mtime: FileTime { secs: 1_600_000_000, nanos: 0 }, version }
}

fn file(text: &str) -> Kind {
    Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) }
}

fn link(target: &str) -> Kind {
    Kind::Symlink { target: target.into() }
}

fn deleted() -> Entry {
    entry(Kind::Deleted { at: 0 }, 9)
}

fn stat(ino: u64, kind: &Kind) -> Stat {
    let time = FileTime { secs: 1_600_000_000, nanos: 0 };
    let (kind, size) = match kind {
        Kind::File { size, .. } => (StatKind::File, *size),
        Kind::Symlink { target } => (StatKind::Symlink, target.len() as u64),
        _ => (StatKind::Directory, 0),
    };
    Stat { kind, size, mtime: time, ctime: time, ino, mode: Mode(0o644) }
}

/// On disk are these, and they are the winners; the folder was walked.
fn engine(names: Names, here: &[(&str, Kind)]) -> Engine<MapIndex> {
    let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, MapIndex::new());
    let mut found = Vec::new();
    for (at, (name, kind)) in here.iter().enumerate() {
        let (winner, stat) = (entry(kind.clone(), 1), stat(at as u64, kind));
        let disk = Some(merge::on_disk(winner.clone(), Some(stat)));
        engine.core.index.put(&path(name), &Row { head: winner, disk, installing: None, since: 0 });
        found.push((path(name), stat));
    }
    engine.set_keeps(Keeps { names, ..Keeps::default() });
    engine.start(NOW, Trust::Known);
    engine.handle(NOW, Event::IgnoreRead(None));
    list(&mut engine, found);
    engine
}

/// A walk finds just these.
fn list(engine: &mut Engine<MapIndex>, found: Vec<(SyncPath, Stat)>) -> Vec<Action> {
    let walk = WalkId(engine.observe.walking.last_id);
    let mut actions = engine.handle(NOW, Event::Listed { walk, found });
    actions.extend(engine.handle(NOW, Event::Walked { walk, unread: Vec::new() }));
    actions.extend(engine.handle(NOW, Event::Root(RootState::Fine)));
    actions
}

/// Another machine's news.
fn receive(engine: &mut Engine<MapIndex>, name: &str, winner: Entry) {
    let old = engine.core.index.get(&path(name));
    let row = Row { head: winner, disk: old.and_then(|row| row.disk), installing: None, since: 0 };
    engine.store(NOW, &path(name), &row);
}

fn tick(engine: &mut Engine<MapIndex>, now: Now) -> Vec<Job> {
    let job = |action| if let Action::Install(job) = action { Some(job) } else { None };
    engine.handle(now, Event::Tick).into_iter().filter_map(job).collect()
}

fn problems(engine: &mut Engine<MapIndex>) -> Vec<SyncPath> {
    engine.status().problems.into_iter().map(|(path, _)| path).collect()
}

fn is_here(engine: &Engine<MapIndex>, name: &str) -> bool {
    engine.core.is_on_disk(&path(name))
}

#[rstest]
#[case::case("README", "Readme", true)]
#[case::in_a_folder("Src/one", "src/ONE", true)]
#[case::beyond_ascii("\u{c4}\u{3a3}", "\u{e4}\u{3c2}", true)]
#[case::another_name("readme", "readme2", false)]
#[case::a_letter_that_is_two_in_upper_case("stra\u{df}e", "strasse", false)]
fn names_fold(#[case] one: &str, #[case] other: &str, #[case] is_same: bool) {
    assert_eq!(fold(&path(one)) == fold(&path(other)), is_same);
    assert_eq!(fold(&SyncPath::new(b"A\xff").unwrap()), b"a\xff", "what is no UTF-8 stays");
}

fn all_wait(engine: &Engine<MapIndex>) -> bool {
    engine.transfer.wants().all(|(_, want)| want.is_stuck())
}

#[test]
fn a_name_that_is_taken_is_a_problem_here_alone_until_it_is_free() {
    let mut engine = engine(Names::Folded, &[("README", link("x"))]);
    let counter = engine.reconcile.last_counter();
    receive(&mut engine, "Readme", entry(link("y"), 2));
    assert_eq!(tick(&mut engine, NOW), []);
    assert_eq!(problems(&mut engine), [], "it may be the first half of a rename");
    assert_eq!(tick(&mut engine, LATER), []);
    assert_eq!(problems(&mut engine), [path("Readme")]);
    assert!(all_wait(&engine), "nothing goes on by itself");
    assert!(is_here(&engine, "README") && engine.reconcile.last_counter() == counter, "nothing is announced");
    receive(&mut engine, "README", deleted());
    let jobs = tick(&mut engine, LATER);
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("README")]);
    let outcome = Outcome::Done { stat: None, kept: None };
    engine.handle(LATER, Event::Installed { job: jobs[0].id, outcome });
    let jobs = tick(&mut engine, LATER);
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
}

#[test]
fn what_is_in_a_folder_whose_name_is_taken_waits_with_it() {
    let mut engine = engine(Names::Folded, &[("Src", Kind::Directory)]);
    receive(&mut engine, "src", entry(Kind::Directory, 2));
    receive(&mut engine, "src/two", entry(link("y"), 2));
    tick(&mut engine, NOW);
    assert_eq!(tick(&mut engine, LATER), []);
    let after = Now { mono: LATER.mono + 5 * SECOND, ..LATER };
    assert_eq!(tick(&mut engine, after), []);
    assert!(problems(&mut engine) == [path("src")] && all_wait(&engine));
}

/// It waited until the next start (seed 1430 of the simulator, with names that fold).
#[test]
fn what_waits_below_a_taken_name_comes_once_a_user_gives_the_folder_that_name() {
    let mut engine = engine(Names::Folded, &[("Src", Kind::Directory)]);
    receive(&mut engine, "src", entry(Kind::Directory, 2));
    receive(&mut engine, "src/two", entry(link("y"), 2));
    tick(&mut engine, NOW);
    assert_eq!(tick(&mut engine, LATER), []);
    assert_eq!(problems(&mut engine), [path("src")]);
    let later = |ms: u64| Now { mono: LATER.mono + 5 * SECOND + ms * 1_000_000, ..LATER };
    for name in ["src", "Src"] {
        engine.handle(later(0), Event::Hint { path: path(name), hint: Hint::Closed });
    }
    tick(&mut engine, later(30));
    engine.handle(later(31), Event::Inspected { path: path("Src"), observed: Observed::Absent });
    let stat = stat(0, &Kind::Directory);
    engine.handle(later(31), Event::Inspected { path: path("src"), observed: Observed::Directory { stat } });
    assert!(is_here(&engine, "src"));
    let mut jobs = Vec::new();
    for second in 6..120 {
        jobs.extend(tick(&mut engine, Now { mono: LATER.mono + second * SECOND, ..LATER }));
    }
    assert!(jobs.iter().any(|job| job.path == path("src/two")), "{jobs:?}");
    assert_eq!(problems(&mut engine), []);
}

/// So long after `LATER` (s).
fn after(seconds: u64) -> Now {
    Now { mono: LATER.mono + seconds * SECOND, ..LATER }
}

fn refuse(engine: &mut Engine<MapIndex>, now: Now, jobs: &[Job]) {
    for job in jobs {
        engine.handle(now, Event::Installed { job: job.id, outcome: Outcome::Taken });
    }
}

#[test]
fn what_the_disk_refuses_for_a_name_that_is_not_known_is_tried_ever_more_rarely() {
    let mut engine = engine(Names::Folded, &[]);
    receive(&mut engine, "Readme", entry(link("y"), 2));
    let mut tries = 0;
    for second in 0..7200 {
        let actions = engine.handle(after(second), Event::Tick);
        assert_eq!(inspected_paths(actions.clone()), [].into(), "a look at it says nothing");
        let job = |action| if let Action::Install(job) = action { Some(job) } else { None };
        let jobs: Vec<Job> = actions.into_iter().filter_map(job).collect();
        refuse(&mut engine, after(second), &jobs);
        tries += jobs.len();
    }
    assert!((10..=14).contains(&tries), "{tries}");
    assert!(problems(&mut engine) == [path("Readme")] && all_wait(&engine));
    engine.handle(after(7200), Event::Hint { path: path("other/name"), hint: Hint::Gone });
    assert_eq!(tick(&mut engine, after(7200)), [], "it is in another folder");
    engine.handle(after(7200), Event::Hint { path: path("name"), hint: Hint::Gone });
    assert_eq!(tick(&mut engine, after(7200)).len(), 1, "that may have been it");
}

#[test]
fn what_patterns_cover_has_a_name_only_while_the_disk_says_so() {
    let mut engine = engine(Names::Folded, &[("readme", link("x"))]);
    engine.handle(NOW, Event::IgnoreRead(Some(b"/readme\n".to_vec())));
    list(&mut engine, vec![(path("readme"), stat(0, &link("x")))]);
    receive(&mut engine, "Readme", entry(link("y"), 2));
    let jobs = tick(&mut engine, LATER);
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
    refuse(&mut engine, LATER, &jobs);
    assert_eq!(problems(&mut engine), [path("Readme")]);
    assert_eq!(tick(&mut engine, after(1)), []);
    engine.handle(after(5), Event::Hint { path: path("readme"), hint: Hint::Gone });
    let jobs = tick(&mut engine, after(5));
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
    let outcome = Outcome::Done { stat: Some(stat(1, &link("y"))), kept: None };
    engine.handle(after(5), Event::Installed { job: jobs[0].id, outcome });
    assert!(is_here(&engine, "Readme") && is_here(&engine, "readme"), "what is covered is as it was");
    assert!(problems(&mut engine).is_empty() && !engine.transfer.has_wants());
}

#[test]
fn a_rename_that_only_changes_case_is_a_rename_in_place() {
    let mut engine = engine(Names::Folded, &[("plain", file("1"))]);
    let counter = engine.reconcile.last_counter();
    receive(&mut engine, "Plain", entry(file("1"), 2));
    assert_eq!(tick(&mut engine, NOW), [], "the deletion is not known yet");
    receive(&mut engine, "plain", deleted());
    let jobs = tick(&mut engine, NOW);
    let from = stat(0, &file("1"));
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!((&jobs[0].path, &jobs[0].source), (&path("Plain"), &Source::Rename { from: path("plain"), stat: from }));
    let outcome = Outcome::Done { stat: Some(from), kept: None };
    engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
    assert!(is_here(&engine, "Plain") && !is_here(&engine, "plain"));
    assert_eq!(tick(&mut engine, NOW), []);
    assert!(!engine.transfer.has_wants() && engine.reconcile.last_counter() == counter);
}

#[test]
fn while_an_empty_folder_is_renamed_in_place_its_old_name_is_not_deleted() {
    let mut engine = engine(Names::Folded, &[("src", Kind::Directory)]);
    receive(&mut engine, "Src", entry(Kind::Directory, 2));
    receive(&mut engine, "src", deleted());
    let jobs = tick(&mut engine, NOW);
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Src")], "{jobs:?}");
    let outcome = Outcome::Done { stat: Some(stat(0, &Kind::Directory)), kept: None };
    engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
    assert_eq!(tick(&mut engine, LATER), []);
    assert!(is_here(&engine, "Src") && !is_here(&engine, "src"));
}

#[test]
fn a_folder_is_renamed_in_place_with_all_that_is_in_it() {
    let mut engine = engine(Names::Folded, &[("Src", Kind::Directory), ("Src/one", file("1"))]);
    receive(&mut engine, "src", entry(Kind::Directory, 2));
    receive(&mut engine, "src/one", entry(file("1"), 2));
    receive(&mut engine, "Src/one", deleted());
    receive(&mut engine, "Src", deleted());
    let jobs = tick(&mut engine, NOW);
    let is_rename = |job: &&Job| matches!(job.source, Source::Rename { .. });
    assert_eq!(jobs.iter().filter(is_rename).map(|job| &job.path).collect::<Vec<_>>(), [&path("src")], "{jobs:?}");
    assert_eq!(jobs.len(), 1, "nothing is deleted or fetched: {jobs:?}");
    let outcome = Outcome::Done { stat: Some(stat(0, &Kind::Directory)), kept: None };
    engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
    assert!(["src", "src/one"].iter().all(|name| is_here(&engine, name)));
    assert!(["Src", "Src/one"].iter().all(|name| !is_here(&engine, name)));
}

#[test]
fn a_folder_is_not_renamed_in_place_while_something_in_it_is_to_be_looked_at() {
    let mut engine = engine(Names::Folded, &[("Src", Kind::Directory), ("Src/one", file("1"))]);
    receive(&mut engine, "src", entry(Kind::Directory, 2));
    receive(&mut engine, "src/one", entry(file("1"), 2));
    engine.handle(NOW, Event::Hint { path: path("Src/one"), hint: Hint::Gone });
    receive(&mut engine, "Src/one", deleted());
    receive(&mut engine, "Src", deleted());
    assert_eq!(tick(&mut engine, NOW), [], "a user may have put it away");
    let soon = Now { mono: NOW.mono + SECOND / 10, ..NOW };
    assert_eq!(inspected_paths(engine.handle(soon, Event::Tick)), [path("Src/one")].into());
    engine.handle(soon, Event::Inspected { path: path("Src/one"), observed: Observed::Unchanged });
    let jobs = tick(&mut engine, Now { mono: NOW.mono + SECOND, ..NOW });
    assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("src")], "{jobs:?}");
}

#[test]
fn where_the_disk_spells_names_its_own_way_they_are_known_as_they_came() {
    let mut engine = engine(Names::Respelled, &[("Src", Kind::Directory), ("Src/README", file("1"))]);
    let counter = engine.reconcile.last_counter();
    engine.handle(NOW, Event::Overflow);
    let found = [("src", 0, Kind::Directory), ("src/readme", 1, file("1"))];
    let found = found.map(|(name, ino, kind)| (path(name), stat(ino, &kind)));
    let actions = list(&mut engine, found.into());
    assert!(!actions.iter().any(|action| matches!(action, Action::Inspect { .. })), "{actions:?}");
    assert_eq!(engine.observe.known_as(&engine.core, path("src/new")), path("Src/new"));
    assert!(is_here(&engine, "Src/README") && engine.reconcile.last_counter() == counter);
}

fn inspected_paths(actions: Vec<Action>) -> BTreeSet<SyncPath> {
    let inspection = |action| if let Action::Inspect { path, .. } = action { Some(path) } else { None };
    actions.into_iter().filter_map(inspection).collect()
}

#[test]
fn a_hint_in_another_spelling_is_one_of_what_is_there() {
    let mut engine = engine(Names::Folded, &[("README", file("1"))]);
    engine.handle(NOW, Event::Hint { path: path("readme"), hint: Hint::Closed });
    let inspections = inspected_paths(engine.handle(LATER, Event::Tick));
    assert_eq!(inspections, ["README", "readme"].map(path).into());
}

#[test]
fn a_hint_in_a_spelling_that_is_not_known_to_be_gone_yet_is_one_of_the_new_spelling_too() {
    let mut engine = engine(Names::Folded, &[("src", Kind::Directory)]);
    engine.handle(NOW, Event::Hint { path: path("Src"), hint: Hint::Closed });
    engine.handle(LATER, Event::Tick);
    let stat = stat(0, &Kind::Directory);
    engine.handle(LATER, Event::Inspected { path: path("Src"), observed: Observed::Directory { stat } });
    engine.handle(LATER, Event::Inspected { path: path("src"), observed: Observed::Absent });
    assert!(is_here(&engine, "src") && is_here(&engine, "Src"), "the old one is not concluded to be gone");
    engine.handle(LATER, Event::Hint { path: path("src"), hint: Hint::Gone });
    let after = Now { mono: LATER.mono + SECOND, ..LATER };
    assert_eq!(inspected_paths(engine.handle(after, Event::Tick)), ["Src", "src"].map(path).into());
}

#[test]
fn a_hint_in_another_spelling_is_one_of_what_is_looked_at_or_installed_just_now() {
    let mut engine = engine(Names::Folded, &[]);
    engine.handle(NOW, Event::Hint { path: path("README"), hint: Hint::Closed });
    receive(&mut engine, "Notes", entry(link("x"), 2));
    let actions = engine.handle(LATER, Event::Tick);
    let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
    assert_eq!(inspected_paths(actions), [path("README")].into());
    for gone in ["readme", "notes"] {
        engine.handle(LATER, Event::Hint { path: path(gone), hint: Hint::Gone });
    }
    let seen = Observed::Symlink { stat: stat(1, &link("y")), target: b"y".to_vec() };
    engine.handle(LATER, Event::Inspected { path: path("README"), observed: seen });
    let after = Now { mono: LATER.mono + SECOND, ..LATER };
    let inspections = inspected_paths(engine.handle(after, Event::Tick));
    assert_eq!(inspections, ["README", "notes", "readme"].map(path).into(), "not what is being installed");
    let outcome = Outcome::Done { stat: Some(stat(2, &link("x"))), kept: None };
    engine.handle(after, Event::Installed { job: job.unwrap(), outcome });
    let at_last = Now { mono: after.mono + SECOND, ..after };
    assert_eq!(inspected_paths(engine.handle(at_last, Event::Tick)), [path("Notes")].into());
    for seen in ["README", "notes", "readme", "Notes"] {
        engine.handle(at_last, Event::Inspected { path: path(seen), observed: Observed::Absent });
    }
    assert!(engine.observe.file_system.aliases.at_work.is_empty(), "{:?}", engine.observe.file_system.aliases.at_work);
}

#[test]
fn a_large_content_that_came_for_a_path_whose_name_was_taken_meanwhile_serves_another_path() {
    let (content, size) = (ContentId::of(b"large"), 8 << 20);
    let mut engine = engine(Names::Folded, &[("f", link("x"))]);
    receive(&mut engine, "F", entry(Kind::File { size, content }, 2));
    tick(&mut engine, NOW);
    assert_eq!(tick(&mut engine, LATER), []);
    assert_eq!(problems(&mut engine), [path("F")]);
    engine.transfer.came(&path("F"), StageId(7), content);
    receive(&mut engine, "c", entry(Kind::File { size, content }, 3));
    engine.begin_chunks(LATER, &path("c"), LinkId(1), content, size);
    let jobs = tick(&mut engine, LATER);
    let sources: Vec<_> = jobs.iter().map(|job| (&job.path, &job.source)).collect();
    assert_eq!(sources, [(&path("c"), &Source::Staged(StageId(7)))]);
}
