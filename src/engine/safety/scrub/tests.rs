//! When a file is hashed again, and what is made of it: the engine with a shell of a few lines.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{SCRUB_BATCH_FILES, SCRUB_BUSY_PAUSE_NS, SCRUB_STORE_EVERY_NS, SECOND};
use crate::engine::merge;
use crate::engine::{Cause, Config, Decision, Event, LinkId, Observed, OnConflict, StatKind, Trouble, Trust};
use crate::engine::{Problem, SuspectCause, Verify, WalkId};
use crate::model::{DeviceId, Entry, FileTime, Mode};
use crate::wire::features::Features;
use crate::wire::message::Message;

const START_WALL: u64 = 1_000_000 * SECOND;
/// Files were written so long before the start.
const OLD_SECS: i64 = 100_000;
const HERE: Boot = Boot { id: 7, began: START_WALL, marks_stores: true };

struct Bench {
    engine: Engine<MapIndex>,
    now: Now,
    said: Vec<Action>,
}

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn stat(changed_secs: i64) -> Stat {
    let time = FileTime { secs: changed_secs, nanos: 0 };
    Stat { kind: StatKind::File, size: 4, mtime: time, ctime: time, ino: 1, mode: Mode(0o644) }
}

fn old() -> Stat {
    stat((START_WALL / SECOND) as i64 - OLD_SECS)
}

fn good(name: &str) -> ContentId {
    ContentId::of(name.as_bytes())
}

const ROT: ContentId = ContentId([9; 32]);

impl Bench {
    fn new(names: &[&str]) -> Self {
        Self::on(MapIndex::new(), HERE, names)
    }

    /// A start, and a first walk that finds these files.
    fn on(index: MapIndex, boot: Boot, names: &[&str]) -> Self {
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let now = Now { wall: START_WALL, mono: SECOND };
        let mut bench = Self { engine: Engine::new(config, index), now, said: Vec::new() };
        bench.engine.booted(boot);
        bench.said = bench.engine.start(now, Trust::Known);
        bench.handle(Event::IgnoreRead(None));
        bench.walk(names);
        bench.wait(10 * SECOND);
        bench
    }

    /// The walk that is under way finds these files as they were, and the inspections that follow
    /// too.
    fn walk(&mut self, names: &[&str]) {
        if !self.engine.observe.is_walking() {
            return;
        }
        let walk = WalkId(self.engine.observe.next_walk_id() - 1);
        let found = names.iter().map(|name| (path(name), old())).collect();
        let before = self.said.len();
        self.handle(Event::Listed { walk, found });
        let said = self.said[before..].to_vec();
        for action in said {
            if let Action::Inspect { path, .. } = action {
                let content = good(&path.to_text());
                self.handle(Event::Inspected { path, observed: Observed::File { stat: old(), content, body: None } });
            }
        }
        self.handle(Event::Walked { walk, unread: Vec::new() });
        self.handle(Event::Root(crate::engine::RootState::Fine));
    }

    fn handle(&mut self, event: Event) {
        let said = self.engine.handle(self.now, event);
        self.said.extend(said);
    }

    fn wait(&mut self, ns: u64) {
        (self.now.wall, self.now.mono) = (self.now.wall + ns, self.now.mono + ns);
        self.handle(Event::Tick);
    }

    fn asked(&mut self) -> Vec<SyncPath> {
        let said = std::mem::take(&mut self.said);
        let scrub = |action: &Action| match action {
            Action::Scrub { path, .. } => Some(path.clone()),
            _ => None,
        };
        let asked = said.iter().filter_map(scrub).collect();
        self.said = said.into_iter().filter(|action| scrub(action).is_none()).collect();
        asked
    }

    fn read(&mut self, name: &str, outcome: Scrubbed) {
        self.handle(Event::Scrubbed { path: path(name), stat: old(), outcome });
    }

    fn verify(&mut self) -> Vec<SyncPath> {
        self.handle(Event::Verify(Verify { below: None, bytes_a_second: 1 << 30, peers: false }));
        self.handle(Event::Tick);
        self.asked()
    }

    /// All is read, these wrongly.
    fn verify_with(&mut self, rotten: &[&str]) {
        for asked in self.verify() {
            let name = asked.to_text();
            if rotten.contains(&name.as_str()) {
                self.read(&name, Scrubbed::Read(ROT));
                assert_eq!(self.asked(), std::slice::from_ref(&asked), "it is read once more");
                self.read(&name, Scrubbed::Read(ROT));
            } else {
                self.read(&name, Scrubbed::Read(good(&name)));
            }
        }
        self.handle(Event::Tick);
    }

    fn reports(&mut self, wanted: impl Fn(&Report) -> bool) -> usize {
        self.said.iter().filter(|action| matches!(action, Action::Report(report) if wanted(report))).count()
    }

    fn run(&self) -> Run {
        self.engine.verification().run.unwrap()
    }

    fn row(&self, name: &str) -> Row {
        self.engine.core.index.get(&path(name)).unwrap()
    }

    fn restart(self, boot: Boot, names: &[&str]) -> Self {
        Self::on(self.engine.into_index(), boot, names)
    }

    fn link(&mut self) {
        let (link, device) = (LinkId(1), DeviceId([2; 32]));
        self.handle(Event::LinkUp {
            link,
            device,
            name: "b".into(),
            dialler: false,
            features: Features::ours(),
            capability: crate::model::Capability::Write,
        });
        let message = Message::Known { counter: 0 };
        self.handle(Event::Message { link, message, wire_bytes: 1 });
        self.handle(Event::Tick);
        self.said.clear();
    }
}

/// Nothing but greetings went out.
fn announces_nothing(said: &[Action]) -> bool {
    !said.iter().any(|action| matches!(action, Action::Send { message: Message::Changes { .. }, .. }))
}

#[test]
fn what_is_read_right_is_counted_and_what_is_read_wrongly_twice_is_suspect() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.link();
    let before = bench.row("b");
    bench.verify_with(&["b"]);
    let run = bench.run();
    assert_eq!((run.is_over, run.files, run.found, run.passed_over), (true, 3, 1, 0));
    let after = bench.row("b");
    assert_eq!(after.head, before.head);
    assert_eq!(after.disk.unwrap().entry.file(), Some((ROT, 4)), "the index says what is there");
    assert!(announces_nothing(&bench.said), "{:?}", bench.said);
    let kept = bench.said.iter().filter(|action| matches!(action, Action::KeepSuspect { .. })).count();
    assert_eq!((kept, bench.reports(|report| matches!(report, Report::Suspect { heals: false, .. }))), (1, 1));
    let status = bench.engine.status();
    assert!(
        status.idle
            && status
                .problems
                .iter()
                .any(|(at, problem)| *at == path("b") && *problem == Problem::Suspect(SuspectCause::Changed))
    );
    assert!(bench.engine.locate(&path("b"), good("b"), 4).is_none(), "it is served to nobody");
}

#[test]
fn a_single_wrong_reading_is_the_memory_s_or_the_cable_s() {
    let mut bench = Bench::new(&["a"]);
    assert_eq!(bench.verify().len(), 1);
    bench.read("a", Scrubbed::Read(ROT));
    assert_eq!(bench.asked().len(), 1);
    bench.read("a", Scrubbed::Read(good("a")));
    assert_eq!((bench.run().found, bench.reports(|r| matches!(r, Report::ReadWrongly { .. }))), (0, 1));
    assert!(bench.row("a").is_settled());
}

#[test]
fn what_the_disk_cannot_read_is_suspect_and_what_is_in_use_is_not() {
    let trouble = || Trouble { cause: Cause::Other, text: "an error".into() };
    let table = [
        ("unreadable", Scrubbed::Unreadable(trouble()), 1, 0),
        ("gone or written", Scrubbed::Moved, 0, 1),
        ("not to be opened", Scrubbed::Failed(trouble()), 0, 1),
    ];
    for (case, outcome, found, passed_over) in table {
        let mut bench = Bench::new(&["a"]);
        bench.verify();
        bench.read("a", outcome.clone());
        if !bench.asked().is_empty() {
            bench.read("a", outcome);
        }
        let run = bench.run();
        assert_eq!((run.is_over, run.found, run.passed_over), (true, found, passed_over), "{case}");
        assert_eq!(bench.row("a").is_settled(), found == 0, "{case}");
    }
}

#[test]
fn what_was_written_a_moment_ago_is_left_to_its_second_hash() {
    let mut bench = Bench::new(&["a"]);
    let young = stat((bench.now.wall / SECOND) as i64);
    bench.handle(Event::Hint { path: path("a"), hint: Hint::Closed });
    bench.wait(SECOND / 10);
    let observed = Observed::File { stat: young, content: good("new"), body: None };
    bench.handle(Event::Inspected { path: path("a"), observed });
    assert_eq!(bench.verify(), []);
    bench.handle(Event::Tick);
    assert_eq!((bench.run().is_over, bench.run().passed_over), (true, 1));
    assert_eq!(bench.run().in_use, [path("a")], "it is named");
    // The second hash takes another content for an edit, whatever the stat says.
    bench.wait(3 * SECOND);
    let observed = Observed::File { stat: young, content: good("newer"), body: None };
    bench.handle(Event::Inspected { path: path("a"), observed });
    let row = bench.row("a");
    assert!(row.is_settled() && row.head.file() == Some((good("newer"), 4)));
    assert_eq!(bench.engine.safety.suspects.len(), 0);
}

#[test]
fn it_heals_by_itself_only_if_no_write_explains_it() {
    let in_boot = (START_WALL / SECOND) as i64 - OLD_SECS - 1;
    let since = Boot { began: in_boot as u64 * SECOND, ..HERE };
    let table = [
        ("right in this boot, and not written in it", HERE, true, true),
        ("not hashed in this boot before", HERE, false, false),
        ("written in this boot", since, true, false),
        ("a store through a mapping may not show", Boot { marks_stores: false, ..HERE }, true, false),
    ];
    for (case, boot, was_verified, heals) in table {
        let mut bench = Bench::on(MapIndex::new(), boot, &["a"]);
        if was_verified {
            bench.verify_with(&[]);
        }
        bench.verify_with(&["a"]);
        assert_eq!(bench.reports(|r| matches!(r, Report::Suspect { heals: true, .. })) == 1, heals, "{case}");
    }
    let mut bench = Bench::new(&["a"]);
    bench.verify_with(&[]);
    let mut bench = bench.restart(Boot { id: 8, ..HERE }, &["a"]);
    bench.verify_with(&["a"]);
    assert_eq!(bench.reports(|r| matches!(r, Report::Suspect { heals: true, .. })), 0, "it was right in another boot");
}

#[test]
fn much_rot_at_once_is_not_healed_without_asking() {
    let names: Vec<String> = (10..60).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names);
    bench.verify_with(&[]);
    bench.verify_with(&names);
    let heals = bench.reports(|r| matches!(r, Report::Suspect { heals: true, .. }));
    assert_eq!((heals, bench.engine.safety.suspects.len()), (20, 50));
}

#[test]
fn a_suspect_file_waits_for_a_decision_also_after_a_restart_and_then_is_fetched() {
    let mut bench = Bench::new(&["a"]);
    bench.verify_with(&["a"]);
    let mut bench = bench.restart(HERE, &["a"]);
    bench.link();
    bench.wait(SECOND);
    let asks = |bench: &Bench| {
        bench.said.iter().filter(|a| matches!(a, Action::Send { message: Message::Get { .. }, .. })).count()
    };
    assert_eq!(asks(&bench), 0);
    bench.handle(Event::Decide { path: path("a"), decision: Decision::Heal });
    bench.handle(Event::Tick);
    // It may have been left by a crash: an inspection comes first.
    bench.handle(Event::Inspected { path: path("a"), observed: Observed::Unchanged });
    bench.handle(Event::Tick);
    assert_eq!(asks(&bench), 1, "{:?}", bench.said);
    assert!(announces_nothing(&bench.said));
}

#[test]
fn what_is_kept_becomes_a_version_on_top_of_what_it_was() {
    let mut bench = Bench::new(&["a"]);
    bench.link();
    let before = bench.row("a").head;
    bench.verify_with(&["a"]);
    bench.handle(Event::Decide { path: path("a"), decision: Decision::Keep });
    let observed = Observed::File { stat: old(), content: ROT, body: None };
    bench.handle(Event::Inspected { path: path("a"), observed });
    bench.handle(Event::Tick);
    let row = bench.row("a");
    assert!(row.is_settled() && row.head.beats(&before) && row.head.version.supersedes(&before.version));
    assert_eq!(row.head.file(), Some((ROT, 4)));
    assert_eq!((bench.reports(|r| matches!(r, Report::Kept { .. })), bench.engine.safety.suspects.len()), (1, 0));
    assert!(!announces_nothing(&bench.said), "it is told like any edit");
}

#[test]
fn a_touch_of_a_suspect_file_is_no_version_and_an_edit_of_it_is() {
    let mut bench = Bench::new(&["a"]);
    bench.link();
    bench.verify_with(&["a"]);
    let winner = bench.row("a").head;
    let see = |bench: &mut Bench, stat: Stat, content| {
        bench.handle(Event::Hint { path: path("a"), hint: Hint::Closed });
        bench.wait(SECOND);
        bench.handle(Event::Inspected { path: path("a"), observed: Observed::File { stat, content, body: None } });
        bench.handle(Event::Tick);
    };
    see(&mut bench, Stat { mode: Mode(0o600), ..old() }, ROT);
    assert_eq!(bench.row("a").head, winner);
    assert!(announces_nothing(&bench.said) && bench.engine.safety.suspects.len() == 1);
    see(&mut bench, stat((START_WALL / SECOND) as i64 + 5), good("edited"));
    let row = bench.row("a");
    assert!(row.is_settled() && row.head.beats(&winner));
    assert_eq!(bench.engine.safety.suspects.len(), 0);
}

#[test]
fn newer_news_replaces_a_suspect_file_without_asking() {
    let mut bench = Bench::new(&["a"]);
    bench.link();
    bench.verify_with(&["a"]);
    let mut newer = bench.row("a").head;
    newer.kind = crate::model::Kind::File { size: 0, content: ContentId::of(b"") };
    newer.version.stamp += 1;
    newer.version.seen = newer.version.seen.with(DeviceId([2; 32]), 1);
    newer.version.author = DeviceId([2; 32]);
    let change = crate::wire::message::Change { path: path("a"), entry: newer, body: None };
    let message = Message::Changes { changes: vec![change], relayed_to: Vec::new() };
    bench.handle(Event::Message { link: LinkId(1), message, wire_bytes: 1 });
    bench.handle(Event::Tick);
    let keeps: Vec<_> = bench
        .said
        .iter()
        .filter_map(|action| if let Action::Install(job) = action { Some(job.keep) } else { None })
        .collect();
    assert_eq!(keeps, [crate::engine::RetainReason::Suspect], "{:?}", bench.said);
}

#[test]
fn in_idle_moments_a_thirtieth_is_read_each_day_and_all_in_a_month() {
    let names: Vec<String> = (100..400).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names);
    bench.asked();
    let mut total = 0;
    for day in 1..=30_u64 {
        bench.wait(DAY_NS);
        bench.walk(&names);
        bench.wait(SCRUB_BUSY_PAUSE_NS);
        let mut read = 0;
        loop {
            let asked = bench.asked();
            if asked.is_empty() {
                break;
            }
            read += asked.len();
            for path in asked {
                let name = path.to_text();
                bench.read(&name, Scrubbed::Read(good(&name)));
            }
            bench.handle(Event::Tick);
        }
        total += read;
        // A day's share is 10 files: at most one is owed, and they are read 64 at a time.
        assert!(total >= 10 * (day as usize - 1) && total < 10 * day as usize + 64, "day {day}: {total}");
        if bench.engine.verification().last_ns.is_some() {
            assert!(day > 23 && total == 300, "day {day}: {total}");
            return;
        }
    }
    panic!("the month is over, and not all is read");
}

#[test]
fn while_there_is_other_work_no_day_s_share_is_read() {
    let mut bench = Bench::new(&["a"]);
    bench.asked();
    bench.now.wall += 2 * DAY_NS;
    bench.now.mono += 2 * DAY_NS;
    bench.handle(Event::Hint { path: path("a"), hint: Hint::Changed });
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), []);
    bench.wait(SECOND);
    bench.handle(Event::Inspected { path: path("a"), observed: Observed::Unchanged });
    bench.wait(SCRUB_BUSY_PAUSE_NS);
    assert_eq!(bench.asked(), [], "a walk is under way");
    bench.walk(&["a"]);
    bench.wait(SCRUB_BUSY_PAUSE_NS);
    assert_eq!(bench.asked(), [path("a")]);
}

#[test]
fn a_run_goes_on_after_a_restart_where_it_was() {
    let names: Vec<String> = (100..300).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names);
    let asked = bench.verify();
    assert_eq!(asked.len(), SCRUB_BATCH_FILES);
    bench.now.mono += SCRUB_STORE_EVERY_NS;
    for path in &asked {
        let name = path.to_text();
        bench.read(&name, Scrubbed::Read(good(&name)));
    }
    let mut bench = bench.restart(HERE, &names);
    let next = bench.asked();
    assert_eq!((bench.run().files, next.first()), (64, Some(&path("164"))));
    assert!(!bench.run().is_over);
    bench.handle(Event::StopVerifying);
    assert!(bench.run().is_over && bench.run().is_stopped);
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), []);
}

#[test]
fn what_was_over_before_it_was_stopped_was_not_stopped() {
    let mut bench = Bench::new(&["a"]);
    bench.verify_with(&[]);
    bench.handle(Event::StopVerifying);
    assert!(bench.run().is_over && !bench.run().is_stopped && !bench.run().asks_peers);
}

#[test]
fn with_a_thousand_suspects_it_looks_for_no_more() {
    let names: Vec<String> = (1000..2100).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names);
    let mut asked = bench.verify();
    while !asked.is_empty() {
        for path in asked {
            for _ in 0..2 {
                bench.read(&path.to_text(), Scrubbed::Read(ROT));
            }
        }
        bench.asked();
        bench.handle(Event::Tick);
        asked = bench.asked();
    }
    let found = bench.engine.safety.suspects.len();
    assert!((SUSPECTS_CAP..SUSPECTS_CAP + SCRUB_BATCH_FILES).contains(&found), "{found}");
    assert!(bench.run().is_over && bench.engine.wake_at().is_some());
}

#[test]
fn what_the_same_machine_asks_for_twice_or_cannot_be_touched_is_hashed_again() {
    let mut bench = Bench::new(&["a"]);
    bench.link();
    let want = crate::wire::message::WantedContent { id: 1, path: path("a"), content: good("a"), size: 4 };
    let get = || Event::Message { link: LinkId(1), message: Message::Get { wants: vec![want.clone()] }, wire_bytes: 1 };
    bench.handle(get());
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), []);
    bench.handle(get());
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), [path("a")], "what it was sent was not what it wanted");
    bench.read("a", Scrubbed::Read(good("a")));
    bench.handle(get());
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), [], "once is enough (P9)");

    let mut touched = bench.row("a").head;
    (touched.mode, touched.version.stamp) = (Mode(0o600), touched.version.stamp + 1);
    let change = crate::wire::message::Change { path: path("a"), entry: touched, body: None };
    let message = Message::Changes { changes: vec![change], relayed_to: Vec::new() };
    bench.handle(Event::Message { link: LinkId(1), message, wire_bytes: 1 });
    bench.handle(Event::Tick);
    let job = bench.said.iter().find_map(|a| if let Action::Install(job) = a { Some(job.id) } else { None }).unwrap();
    bench.handle(Event::Installed { job, outcome: crate::engine::Outcome::NotItsContent });
    bench.handle(Event::Tick);
    assert_eq!(bench.asked(), [path("a")]);
    bench.read("a", Scrubbed::Read(ROT));
    bench.read("a", Scrubbed::Read(ROT));
    assert_eq!(bench.engine.safety.suspects.len(), 1);
    bench.handle(Event::Tick);
    assert!(bench.engine.status().idle, "it waits for a person");
}

#[test]
fn a_suspect_file_that_its_user_deletes_is_deleted() {
    let mut bench = Bench::new(&["a"]);
    bench.verify_with(&["a"]);
    bench.handle(Event::Hint { path: path("a"), hint: Hint::Gone });
    bench.wait(SECOND);
    bench.handle(Event::Inspected { path: path("a"), observed: Observed::Absent });
    bench.wait(SECOND);
    bench.handle(Event::Root(crate::engine::RootState::Fine));
    let row = bench.row("a");
    assert!(!row.head.is_live() && row.is_settled(), "{row:?}");
    assert_eq!(bench.engine.safety.suspects.len(), 0);
}

#[test]
fn what_rotted_is_not_copied_beside_the_folder_that_takes_its_place() {
    let beside = |displaced: &Entry| merge::displaced_path(&path("a"), displaced);
    for rotten in [&["a"][..], &[]] {
        let mut bench = Bench::new(&["a"]);
        bench.link();
        bench.verify_with(rotten);
        let displaced = bench.row("a").disk.unwrap().entry;
        let entry = merge::derived_directory(Some(&displaced));
        let change = crate::wire::message::Change { path: path("a"), entry, body: None };
        let message = Message::Changes { changes: vec![change], relayed_to: Vec::new() };
        bench.handle(Event::Message { link: LinkId(1), message, wire_bytes: 1 });
        bench.handle(Event::Tick);
        let job = |action: &Action| if let Action::Install(job) = action { Some(job.path.clone()) } else { None };
        let installed: Vec<SyncPath> = bench.said.iter().filter_map(job).collect();
        // A file that is whole is copied first, and the folder waits for that.
        let due = if rotten.is_empty() { beside(&displaced) } else { path("a") };
        assert_eq!(installed, [due], "{rotten:?}");
        assert_eq!(bench.engine.core.index.get(&beside(&displaced)).is_some(), rotten.is_empty());
    }
}
