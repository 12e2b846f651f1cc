//! What the guards do with whole engines: what is held, what lets it go, and who takes a new id.

mod confirming;
mod patterns;
mod resuming;
mod rhythms;
mod undoing;

use crate::engine::api::digest;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{DAY_NS, SECOND};
use crate::engine::safety::ledger;
use crate::engine::*;
use crate::model::{Capability, SyncPath};
use crate::model::{ContentId, Entry, FileTime, Kind, Mode, Version, VersionVector};
use crate::wire::features::Features;
use crate::wire::message::{Change, Message};
use std::collections::{BTreeMap, BTreeSet};

const WALL: u64 = 1_800_000_000 * SECOND;
const LINK: LinkId = LinkId(1);
const OWN: DeviceId = DeviceId([1; 32]);
const PEER: DeviceId = DeviceId([2; 32]);

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn time(secs: i64) -> FileTime {
    FileTime { secs, nanos: 0 }
}

/// A file of the tests: its content is told by its name, its size is 1.
fn file(n: u64, mtime: i64) -> (SyncPath, Stat, ContentId) {
    let stat =
        Stat { kind: StatKind::File, size: 1, mtime: time(mtime), ctime: time(mtime), ino: n + 10, mode: Mode(0o644) };
    (path(&format!("f{n}")), stat, ContentId::of(format!("{n} at {mtime}").as_bytes()))
}

/// An engine with its clock, and what it said and asked for.
struct Machine {
    engine: Engine<MapIndex>,
    mono: u64,
    wall: u64,
    said: Vec<Action>,
}

fn link_up(link: LinkId, device: DeviceId, name: &str, dialler: bool) -> Event {
    let (features, capability) = (Features::ours(), Capability::Write);
    Event::LinkUp { link, device, name: name.to_owned(), dialler, features, capability }
}

impl Machine {
    fn new(index: MapIndex) -> Self {
        let engine = Engine::new(Config { device: OWN, name: "own".into(), on_conflict: OnConflict::Newest }, index);
        let mut machine = Self { engine, mono: SECOND, wall: WALL, said: Vec::new() };
        let started = machine.engine.start(machine.now(), Trust::Known);
        machine.said.extend(started);
        machine.handle(Event::IgnoreRead(None));
        machine
    }

    /// With so many files, all scanned.
    fn with_files(count: u64) -> Self {
        let mut machine = Self::new(MapIndex::new());
        machine.scan(&(0..count).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
        assert_eq!(machine.engine.status().counts.files, count);
        machine.said.clear();
        machine
    }

    fn linked(mut self) -> Self {
        self.handle(link_up(LINK, PEER, "peer", false));
        self.receive(Message::Known { counter: 0 });
        // The first walk still waits for its answer.
        self.said.retain(|action| matches!(action, Action::Walk { .. }));
        self
    }

    fn now(&self) -> Now {
        Now { wall: self.wall, mono: self.mono }
    }

    /// Answers every check of the root as fine.
    fn handle(&mut self, event: Event) {
        let mut actions = self.engine.handle(self.now(), event);
        while actions.contains(&Action::CheckRoot) {
            actions.retain(|action| *action != Action::CheckRoot);
            actions.extend(self.engine.handle(self.now(), Event::Root(RootState::Fine)));
        }
        self.said.extend(actions);
    }

    fn receive(&mut self, message: Message) {
        self.handle(Event::Message { link: LINK, message, wire_bytes: 1 });
    }

    fn wait(&mut self, ns: u64) {
        for _ in 0..20 {
            self.mono += ns / 20;
            self.wall += ns / 20;
            self.handle(Event::Tick);
        }
    }

    /// Answers the walks that were asked for with these files, and the inspections that follow.
    fn scan(&mut self, found: &[(SyncPath, Stat, ContentId)]) {
        let asked: Vec<_> = self.said.extract_if(.., |action| matches!(action, Action::Walk { .. })).collect();
        let walks = asked.into_iter().filter_map(|action| match action {
            Action::Walk { walk, .. } => Some(walk),
            _ => None,
        });
        for walk in walks {
            let listed = found.iter().map(|(path, stat, _)| (path.clone(), *stat)).collect();
            self.handle(Event::Listed { walk, found: listed });
            self.handle(Event::Walked { walk, unread: Vec::new() });
        }
        self.inspect(found);
        self.wait(5 * SECOND);
        self.inspect(found);
    }

    /// Answers the inspections that were asked for.
    fn inspect(&mut self, found: &[(SyncPath, Stat, ContentId)]) {
        let inspections: Vec<_> = self.said.extract_if(.., |action| matches!(action, Action::Inspect { .. })).collect();
        for inspect in inspections {
            let Action::Inspect { path, .. } = inspect else { continue };
            let observed = match found.iter().find(|(name, ..)| *name == path) {
                Some((_, stat, content)) => Observed::File { stat: *stat, content: *content, body: None },
                None => Observed::Absent,
            };
            self.handle(Event::Inspected { path, observed });
        }
    }

    /// These vanish while the folder is watched.
    fn remove_live(&mut self, files: std::ops::Range<u64>) {
        for n in files {
            self.handle(Event::Hint { path: file(n, 0).0, hint: Hint::Gone });
        }
        self.wait(SECOND);
        self.inspect(&[]);
        self.wait(20 * SECOND);
    }

    /// These are written, or come by a rename, while the folder is watched: name, what tells the
    /// content, and size.
    fn put(&mut self, files: &[(String, String, u64)]) {
        for (name, ..) in files {
            self.handle(Event::Hint { path: path(name), hint: Hint::Closed });
        }
        self.wait(SECOND);
        let stat = |n: usize, size: u64| Stat { size, ino: 1_000_000 + n as u64, ..file(0, 1_700_000_000).1 };
        let found = files.iter().enumerate();
        let found = found.map(|(n, (name, what, size))| (path(name), stat(n, *size), ContentId::of(what.as_bytes())));
        self.inspect(&found.collect::<Vec<_>>());
        self.wait(SECOND);
    }

    /// These vanish.
    fn take(&mut self, names: &[String]) {
        for name in names {
            self.handle(Event::Hint { path: path(name), hint: Hint::Gone });
        }
        self.wait(SECOND);
        self.inspect(&[]);
        self.wait(20 * SECOND);
    }

    /// With these files, which were here before the index was.
    fn with(files: &[(String, String, u64)]) -> Self {
        let mut machine = Self::new(MapIndex::new());
        let (_, stat, _) = file(0, 1_000_000);
        let found = files.iter().enumerate().map(|(n, (name, what, size))| {
            (path(name), Stat { size: *size, ino: n as u64 + 5, ..stat }, ContentId::of(what.as_bytes()))
        });
        machine.scan(&found.collect::<Vec<_>>());
        machine.said.clear();
        machine
    }

    fn holds(&self) -> bool {
        let is_held = |action: &Action| {
            matches!(
                action,
                Action::Report(Report::Held { .. } | Report::HeldFromPeers { .. } | Report::HeldReverts { .. })
            )
        };
        self.engine.safety.holds_anything() || self.said.iter().any(is_held)
    }

    fn live(&self) -> u64 {
        self.engine.index().rows().filter(|(_, row)| row.head.is_live() && !row.head.is_directory()).count() as u64
    }

    fn installs(&self) -> u64 {
        self.said.iter().filter(|action| matches!(action, Action::Install(_))).count() as u64
    }

    fn has_said(&self, is_it: impl Fn(&Report) -> bool) -> bool {
        self.said.iter().any(|action| matches!(action, Action::Report(report) if is_it(report)))
    }

    /// The peer's change on top of what is here: a deletion, or a file with this mtime.
    fn by_peer(&self, n: u64, counter: u64, mtime: Option<i64>) -> (SyncPath, Entry) {
        let path = file(n, 0).0;
        let base = self.engine.index().get(&path).unwrap().head.version;
        let kind = match mtime {
            None => Kind::Deleted { at: self.wall },
            Some(mtime) => Kind::File { size: 1, content: ContentId::of(format!("peer {n} {mtime}").as_bytes()) },
        };
        let version = Version { stamp: base.stamp + 1, author: PEER, seen: base.seen.with(PEER, counter) };
        let (mode, mtime) = (Mode(0o644), time(mtime.unwrap_or(0)));
        (path, Entry { kind, mode, mtime, version })
    }

    fn peer_changes(&mut self, files: std::ops::Range<u64>, mtime: Option<i64>) {
        let changes = files.map(|n| {
            let (path, entry) = self.by_peer(n, n + 1, mtime);
            Change { path, entry, body: None }
        });
        let changes = changes.collect();
        self.receive(Message::Changes { changes, relayed_to: Vec::new() });
        self.wait(2 * SECOND);
    }
}

#[test]
fn a_row_says_since_when_its_content_is_here_and_a_rename_keeps_it() {
    let mut machine = Machine::with_files(1);
    let since = |machine: &Machine, name: &str| machine.engine.index().get(&path(name)).unwrap().since;
    assert_eq!(since(&machine, "f0"), 0, "nobody knows since when what a first scan found was here");
    let change = |machine: &mut Machine, name: &str, mtime: i64| {
        machine.handle(Event::Hint { path: path(name), hint: Hint::Closed });
        machine.wait(SECOND);
        let (_, stat, content) = file(7, mtime);
        machine.inspect(&[(path(name), Stat { ino: name.len() as u64, ..stat }, content)]);
    };
    change(&mut machine, "new", 1);
    let first = since(&machine, "new");
    assert!(first > 0 && first <= machine.engine.steady(machine.now()));
    // The clock on the wall says nothing of it.
    machine.wall += 1000 * DAY_NS;
    machine.mono += 100 * SECOND;
    change(&mut machine, "renamed", 1);
    machine.handle(Event::Hint { path: path("new"), hint: Hint::Gone });
    machine.wait(SECOND);
    machine.inspect(&[]);
    machine.wait(20 * SECOND);
    assert_eq!((since(&machine, "renamed"), since(&machine, "new")), (first, 0));
    change(&mut machine, "renamed", 2);
    let rewritten = since(&machine, "renamed");
    assert!(rewritten >= first + 100 * SECOND && rewritten < first + 1000 * SECOND);
    let mut linked = machine.linked();
    let (name, entry) = linked.by_peer(0, 1, Some(9));
    linked.receive(Message::Changes {
        changes: vec![Change { path: name.clone(), entry: entry.clone(), body: Some(b"9".as_slice().into()) }],
        relayed_to: Vec::new(),
    });
    linked.wait(SECOND);
    let job = linked.said.iter().find_map(|action| match action {
        Action::Install(job) if job.path == name => Some(job.id),
        _ => None,
    });
    let (_, stat, _) = file(0, 9);
    linked.handle(Event::Installed { job: job.unwrap(), outcome: Outcome::Done { stat: Some(stat), kept: None } });
    assert!(since(&linked, "f0") > rewritten, "what a peer sent is here from then on");
    let again = Machine::new(linked.engine.into_index());
    assert_eq!(since(&again, "renamed"), rewritten);
}

#[test]
fn half_of_the_files_may_be_deleted_while_watched_and_more_is_held() {
    let mut machine = Machine::with_files(200);
    machine.remove_live(0..100);
    assert_eq!(machine.live(), 100);
    machine.remove_live(100..110);
    assert_eq!(machine.live(), 100, "the same hour's are counted together");
    assert_eq!(machine.engine.status().held_deletions, 10);
    assert!(machine.has_said(|report| matches!(report, Report::Held { deletions: 10, of: 200 })));
}

/// As git does, that switches a tree between two branches.
#[test]
fn files_that_are_deleted_and_made_again_and_again_are_not_lost() {
    let mut machine = Machine::with_files(120);
    for round in 0..6 {
        machine.remove_live(0..50);
        assert_eq!(machine.live(), 70, "round {round}");
        for n in 0..50 {
            machine.handle(Event::Hint { path: file(n, 0).0, hint: Hint::Closed });
        }
        machine.wait(SECOND);
        machine.inspect(&(0..50).map(|n| file(n, 1_000_001 + round)).collect::<Vec<_>>());
        assert_eq!(machine.live(), 120, "round {round}");
    }
    assert!(!machine.has_said(|report| matches!(report, Report::Held { .. })));
    machine.remove_live(0..61);
    assert!(machine.has_said(|report| matches!(report, Report::Held { .. })), "what stays away still counts");
}

/// Else a member could make room in the count for what it deletes.
#[test]
fn what_was_never_counted_as_lost_takes_nothing_back() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..90);
    for n in 1000..1090 {
        let name = path(&format!("of-peer-{n}"));
        let (_, mut entry) = machine.by_peer(150, n, Some(1_000_000));
        let version = entry.version.clone();
        let deletion =
            Entry { kind: Kind::Deleted { at: WALL }, version: Version { stamp: 1, ..version }, ..entry.clone() };
        entry.version.stamp = WALL;
        for entry in [deletion, entry] {
            let change = Change { path: name.clone(), entry, body: None };
            machine.receive(Message::Changes { changes: vec![change], relayed_to: Vec::new() });
        }
    }
    assert_eq!(machine.engine.safety.ledger.sum(ledger::Fate::Lost).files, 90);
}

#[test]
fn files_that_moved_are_not_lost() {
    let mut machine = Machine::with_files(200);
    // The same contents stand elsewhere before the old names are found gone.
    for n in 0..200 {
        let (_, stat, content) = file(n, 1_000_000);
        machine.handle(Event::Hint { path: path(&format!("moved{n}")), hint: Hint::Closed });
        machine.wait(SECOND / 10);
        machine.said.clear();
        let stat = Stat { ino: n + 1000, ..stat };
        machine.handle(Event::Inspected {
            path: path(&format!("moved{n}")),
            observed: Observed::File { stat, content, body: None },
        });
    }
    machine.remove_live(0..200);
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (200, 0));
}

#[test]
fn an_engine_that_may_lose_many_holds_nothing() {
    let mut machine = Machine::with_files(200).linked();
    machine.engine.allow_mass_delete();
    machine.remove_live(0..150);
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (50, 0));
    machine.peer_changes(150..200, None);
    assert_eq!((machine.installs(), machine.engine.status().held_deletions), (50, 0));
}

#[test]
fn deletions_by_peers_are_followed_up_to_half_and_held_above() {
    let mut machine = Machine::with_files(200).linked();
    machine.peer_changes(0..150, None);
    assert_eq!((machine.installs(), machine.engine.status().held_deletions), (0, 150));
    assert!(machine.has_said(|report| matches!(report, Report::HeldFromPeers { deletions: 150, of: 200 })));
    assert!(machine.engine.status().idle, "what is held keeps nobody waiting");

    let mut few = Machine::with_files(200).linked();
    few.peer_changes(0..100, None);
    assert_eq!((few.installs(), few.engine.status().held_deletions), (100, 0));
}

#[test]
fn what_is_held_of_peers_is_still_held_after_a_restart() {
    let mut machine = Machine::with_files(200).linked();
    machine.peer_changes(0..150, None);
    let again = Machine::new(machine.engine.into_index());
    let mut again = Machine { said: Vec::new(), ..again };
    again.wait(5 * SECOND);
    assert_eq!((again.installs(), again.engine.status().held_deletions), (0, 150));
}

#[test]
fn an_offer_in_parts_is_taken_in_part_by_part_and_answered_at_its_end() {
    let mut machine = Machine::with_files(6).linked();
    let buckets: Vec<_> = (0..6).map(|n| digest::bucket_of(&file(n, 0).0)).collect();
    let ours = |machine: &Machine, n| machine.engine.index().get(&file(n, 0).0).unwrap().head;
    let mut older = (file(1, 0).0, ours(&machine, 1));
    older.1.version = Version { stamp: 1, author: PEER, seen: VersionVector::default().with(PEER, 1) };
    let parts = [
        vec![machine.by_peer(0, 1, Some(2_000_000)), older.clone()],
        vec![(file(2, 0).0, ours(&machine, 2)), (path("new"), older.1.clone())],
        vec![machine.by_peer(3, 2, Some(2_000_000)), (file(4, 0).0, older.1)],
    ];
    for (part, more) in parts.clone().into_iter().zip([true, true, false]) {
        machine.receive(Message::Offer { buckets: buckets.clone(), entries: part.clone(), more });
        let winner = machine.engine.index().get(&part[0].0).unwrap().head;
        assert_eq!(winner, part[0].1, "nothing waits for the last part");
    }
    let answer = machine.said.iter().find_map(|action| match action {
        Action::Send { message: Message::Answer { entries, .. }, .. } => Some(entries.clone()),
        _ => None,
    });
    let mut answered: Vec<_> = answer.unwrap().into_iter().map(|(path, _)| path.to_text()).collect();
    answered.sort();
    assert_eq!(answered, ["f1", "f4", "f5"], "what it had older, and what it lacked");
}

#[test]
fn a_peer_that_takes_half_of_the_files_back_to_older_contents_is_held() {
    let mut machine = Machine::with_files(200).linked();
    machine.peer_changes(0..150, Some(999_000));
    let status = machine.engine.status();
    assert_eq!((status.held_reverts, status.held_deletions), (150, 0));
    let asks = |action: &Action| matches!(action, Action::Send { message: Message::Get { .. }, .. });
    assert!(!machine.said.iter().any(asks), "nothing is fetched for them");
    machine.handle(Event::Confirm);
    machine.wait(SECOND);
    assert!(machine.said.iter().any(asks));
    assert_eq!(machine.engine.status().held_reverts, 0);
}

#[test]
fn newer_contents_by_peers_are_never_held() {
    let mut machine = Machine::with_files(200).linked();
    machine.peer_changes(0..200, Some(1_000_001));
    assert_eq!(machine.engine.status().held_reverts, 0);
}

#[test]
fn half_of_the_files_found_with_older_contents_is_held_until_confirmed() {
    let mut machine = Machine::with_files(200);
    let old: Vec<_> = (0..200).map(|n| file(n, if n < 150 { 900_000 } else { 1_000_000 })).collect();
    let before = machine.engine.index().get(&path("f0")).unwrap().head;
    machine.handle(Event::Overflow);
    machine.scan(&old);
    assert_eq!(machine.engine.status().held_reverts, 150);
    assert_eq!(machine.engine.index().get(&path("f0")).unwrap().head, before);
    assert!(
        machine.has_said(|report| matches!(report, Report::HeldReverts { reverts: 150, of: 200, by_peers: false }))
    );
    machine.handle(Event::Confirm);
    machine.scan(&old);
    assert_eq!(machine.engine.status().held_reverts, 0);
    assert!(machine.engine.index().get(&path("f0")).unwrap().head.beats(&before));
}

#[test]
fn a_few_older_files_are_ordinary_edits() {
    let mut machine = Machine::with_files(200);
    let old: Vec<_> = (0..200).map(|n| file(n, if n < 90 { 900_000 } else { 1_000_000 })).collect();
    let before = machine.engine.index().get(&path("f0")).unwrap().head;
    machine.handle(Event::Overflow);
    machine.scan(&old);
    assert_eq!(machine.engine.status().held_reverts, 0);
    assert!(machine.engine.index().get(&path("f0")).unwrap().head.beats(&before));
}

#[test]
fn a_counter_that_was_never_used_makes_a_new_device_once_and_forgets_what_this_start_made() {
    let index = Machine::with_files(3).engine.into_index();
    let mut machine = Machine::new(index).linked();
    // Found when the machine came up with an index that is older than its disk: it would roll the
    // group back.
    machine.scan(&[file(0, 1_000_000), file(1, 1_700_000_000), file(2, 1_000_000)]);
    let minted = machine.engine.index().get(&path("f1")).unwrap().head.version;
    machine.receive(Message::Known { counter: minted.counter() + 5000 });
    assert!(machine.said.contains(&Action::NewDevice));
    let is_set_back = |why: &RenewalCause| matches!(why, RenewalCause::SetBack { known_to } if known_to == "peer");
    assert!(machine.has_said(|report| matches!(report, Report::NewDevice { why } if is_set_back(why))));
    machine.wait(SECOND);
    assert!(machine.engine.index().get(&path("f1")).is_none(), "it is found again, as in a restored folder");
    assert!(machine.engine.index().get(&path("f0")).is_some());

    let now = machine.now();
    let index = machine.engine.into_index();
    let mut next =
        Engine::new(Config { device: DeviceId([9; 32]), name: "own".into(), on_conflict: OnConflict::Newest }, index);
    next.was_renewed();
    next.start(now, Trust::Known);
    assert_eq!(next.trust(), Trust::Restored);
    next.handle(now, link_up(LINK, PEER, "peer", true));
    let known = Message::Known { counter: 1 << 40 };
    let actions = next.handle(now, Event::Message { link: LINK, message: known, wire_bytes: 1 });
    assert!(!actions.contains(&Action::NewDevice), "once a start");
}

#[test]
fn nothing_new_is_told_to_a_peer_before_it_said_what_it_knows_of_us() {
    let mut machine = Machine::with_files(3);
    machine.handle(link_up(LINK, PEER, "peer", false));
    let first = machine.said.iter().find(|action| matches!(action, Action::Send { .. }));
    assert!(matches!(first, Some(Action::Send { message: Message::Known { .. }, .. })), "{first:?}");
    machine.said.clear();
    let is_change = |action: &Action| matches!(action, Action::Send { message: Message::Changes { .. }, .. });
    machine.remove_live(0..1);
    assert!(!machine.said.iter().any(is_change));
    machine.receive(Message::Known { counter: 0 });
    machine.remove_live(1..2);
    assert!(machine.said.iter().any(is_change));
}

#[test]
fn of_two_machines_with_one_id_the_later_ends_and_the_earlier_goes_on() {
    let (early, late) = ((5, 9), (7, 1));
    let mut machine = Machine::with_files(3);
    machine.handle(Event::Twin { ours: early, theirs: late });
    assert!(!machine.said.contains(&Action::NewDevice));
    machine.handle(Event::Twin { ours: late, theirs: early });
    assert!(machine.said.contains(&Action::NewDevice));
}

#[test]
fn a_clock_that_is_off_is_named_once_and_so_is_its_return() {
    let mut machine = Machine::with_files(3).linked();
    for ahead_ns in [100_000_000, 3_600_000_000_000, 3_600_400_000_000] {
        machine.handle(Event::Clock { link: LINK, ahead_ns });
    }
    let off = |action: &&Action| matches!(action, Action::Report(Report::ClockOff { .. }));
    assert_eq!(machine.said.iter().filter(off).count(), 1);
    assert_eq!(machine.engine.status().peers[0].clock_ahead_ns, Some(3_600_400_000_000));
    machine.handle(Event::Clock { link: LINK, ahead_ns: -3_000_000 });
    assert!(machine.has_said(|report| matches!(report, Report::ClockRight { .. })));
    assert_eq!(machine.engine.status().peers[0].clock_ahead_ns, None);
}

#[test]
fn deletions_are_forgotten_once_every_device_knows_them_and_the_digests_stay() {
    let mut machine = Machine::with_files(5).linked();
    machine.remove_live(0..1);
    let day = |machine: &mut Machine, days: u64| {
        machine.wall += days * DAY_NS;
        machine.mono += days * DAY_NS;
        // Something happens, so that the latest stamp moves on.
        let entry = Entry {
            kind: Kind::Directory,
            mode: Mode(0o755),
            mtime: FileTime::default(),
            version: Version {
                stamp: machine.wall - SECOND,
                author: PEER,
                seen: VersionVector::default().with(PEER, machine.wall),
            },
        };
        machine.receive(Message::Changes {
            changes: vec![Change { path: path("seen"), entry, body: None }],
            relayed_to: Vec::new(),
        });
        machine.wait(SECOND);
    };
    day(&mut machine, 60);
    machine.wait(2 * 3600 * SECOND);
    let known = |machine: &Machine| machine.engine.index().get(&path("f0")).is_some();
    assert!(known(&machine), "the peer has not compared equal since");
    let root = machine.engine.index_mut().root_digest();
    machine.receive(Message::State { root, pending: 0, condition: None });
    machine.wait(2 * 3600 * SECOND);
    assert!(!known(&machine));
    assert_eq!(machine.engine.index_mut().root_digest(), root);

    // A machine that still remembers it does not teach it again.
    let version = Version { stamp: WALL, author: PEER, seen: VersionVector::default().with(PEER, 1) };
    let entry = Entry { kind: Kind::Deleted { at: WALL }, mode: Mode::NONE, mtime: FileTime::default(), version };
    machine.receive(Message::Offer { buckets: Vec::new(), entries: vec![(path("f0"), entry)], more: false });
    assert!(!known(&machine));
}

#[test]
fn a_device_that_will_not_come_back_is_forgotten_here_and_by_the_peers() {
    let third = DeviceId([3; 32]);
    let mut machine = Machine::with_files(5).linked();
    machine.handle(link_up(LinkId(2), third, "third", false));
    machine.handle(Event::Rotate { remove: Some(third), fresh: FreshSecret([1; 32]) });
    assert_eq!(machine.engine.status().devices.len(), 2, "a linked one has come back");
    machine.handle(Event::LinkDown { link: LinkId(2) });
    machine.handle(Event::Rotate { remove: Some(third), fresh: FreshSecret([1; 32]) });
    assert_eq!(machine.engine.status().devices.len(), 1);
    let announced = |action: &Action| matches!(action, Action::Send { message: Message::Forget { device }, .. } if *device == third);
    assert!(machine.said.iter().any(announced));
    assert!(machine.has_said(|report| matches!(report, Report::Forgotten { device } if device == "third")));
    machine.said.clear();
    machine.receive(Message::Forget { device: third });
    assert!(!machine.said.iter().any(announced), "said once");
}
