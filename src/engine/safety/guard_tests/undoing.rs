//! Undo: what was held or let through is live again, as it was.

use super::*;
use crate::engine::limits::SECOND;
use crate::wire::message::{Place, Sought};

/// The entries that it told last, by path.
pub fn announced(machine: &Machine) -> BTreeMap<SyncPath, Entry> {
    let changes = machine.said.iter().filter_map(|action| match action {
        Action::Send { message: Message::Changes { changes, .. }, .. } => Some(changes),
        _ => None,
    });
    changes.flatten().map(|change| (change.path.clone(), change.entry.clone())).collect()
}

/// Where the peer has a content, and whether history here has it.
pub type Has = fn(&Sought) -> (Place, bool);

pub const PEER_HAS_ALL: Has = |_| (Place::Disk, false);

fn stat(sought: &Sought) -> Stat {
    Stat { size: sought.size, mtime: sought.mtime, ..file(0, 0).1 }
}

/// Answers what history here and the peer are asked for, until there is nothing more to answer.
pub fn answer(machine: &mut Machine, has: Has) {
    loop {
        let asks = |action: &mut Action| {
            let asks_peer = matches!(action, Action::Send { message: Message::Locate { .. }, .. });
            asks_peer || matches!(action, Action::FindKept(_) | Action::LocateKept(_))
        };
        let asked: Vec<_> = machine.said.extract_if(.., asks).collect();
        if asked.is_empty() {
            return;
        }
        for action in asked {
            match action {
                Action::FindKept(all) => {
                    let place = |sought: &Sought| has(sought).1.then(|| ("kept".to_owned(), stat(sought)));
                    let found = all.into_iter().map(|sought| (sought.clone(), place(&sought))).collect();
                    machine.handle(Event::KeptFound(found));
                }
                Action::LocateKept(all) => {
                    let located =
                        |sought: &Sought| LocatedKept { kept: "kept".to_owned(), stat: stat(sought), is_hashed: true };
                    let place = |sought: &Sought| has(sought).1.then(|| located(sought));
                    let found = all.into_iter().map(|sought| (sought.clone(), place(&sought))).collect();
                    machine.handle(Event::KeptLocated(found));
                }
                Action::Send { message: Message::Locate { id, sought }, .. } => {
                    let places = sought.iter().map(|sought| has(sought).0).collect();
                    machine.receive(Message::Located { id, places });
                }
                _ => {}
            }
        }
    }
}

pub fn undo(machine: &mut Machine, has: Has) -> Undone {
    machine.said.clear();
    machine.handle(Event::Undo { ticket: 5, dry_run: false });
    answer(machine, has);
    let undone = machine.engine.take_undone(5).expect("an answer");
    machine.wait(SECOND);
    undone
}

#[test]
fn what_is_missing_here_and_held_is_wanted_from_the_peers_as_it_was() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let before = machine.engine.index().get(&path("f3")).unwrap().head;
    assert_eq!(machine.engine.undoable().len(), 150);
    let undone = undo(&mut machine, PEER_HAS_ALL);
    assert!(undone.back.len() == 150 && undone.back.iter().all(|back| back.from == BackFrom::Peers));
    assert!(machine.has_said(|report| matches!(report, Report::Undone { paths: 150 })));
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
    let row = machine.engine.index().get(&path("f3")).unwrap();
    assert_eq!((row.head, row.disk), (before, None), "no new version: nobody heard of the deletion");
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(SECOND);
    let asked = machine.said.iter().filter_map(|action| match action {
        Action::Send { message: Message::Get { wants }, .. } => Some(wants.len()),
        _ => None,
    });
    assert_eq!(asked.sum::<usize>(), 150);
    assert_eq!(machine.engine.undoable(), Vec::<SyncPath>::new());
}

#[test]
fn what_went_through_is_made_anew_on_top_and_asked_of_history_and_what_peers_did_from_this_disk() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..90);
    machine.peer_changes(100..160, None);
    assert_eq!(machine.engine.status().held_deletions, 60, "with the 90 of this machine that is too much");
    let deletion = machine.engine.index().get(&path("f3")).unwrap().head;
    let of_peer = machine.engine.index().get(&path("f120")).unwrap().head;
    undo(&mut machine, |_| (Place::History, false));
    let sent = announced(&machine);
    assert_eq!(sent.len(), 150);
    for (name, deletion) in [("f3", deletion), ("f120", of_peer)] {
        let again = &sent[&path(name)];
        assert!(again.beats(&deletion) && again.version.supersedes(&deletion.version), "{name}");
        let (_, stat, content) = file(name[1..].parse().unwrap(), 1_000_000);
        assert_eq!((again.file(), again.mode, again.mtime), (Some((content, 1)), stat.mode, stat.mtime), "{name}");
    }
    assert!(machine.engine.index().get(&path("f120")).unwrap().is_settled(), "it never went");
    let sought = |action: &Action| matches!(action, Action::FindKept(sought) if sought.len() == 90);
    assert!(machine.said.iter().any(sought));
}

#[test]
fn two_machines_that_undo_at_once_make_equal_entries_and_no_conflict() {
    let mut entries = Vec::new();
    let deletions: Vec<_> = {
        let machine = Machine::with_files(200).linked();
        (0..90).map(|n| machine.by_peer(n, n + 1, None)).collect()
    };
    for device in [OWN, DeviceId([7; 32])] {
        let mut machine = Machine::with_files(200).linked();
        machine.engine.core.config.device = device;
        let changes = deletions.iter().cloned().map(|(path, entry)| Change { path, entry, body: None });
        machine.receive(Message::Changes { changes: changes.collect(), relayed_to: Vec::new() });
        machine.wait(2 * SECOND);
        let jobs: Vec<_> = machine.said.extract_if(.., |action| matches!(action, Action::Install(_))).collect();
        for job in jobs {
            let Action::Install(job) = job else { continue };
            let outcome = Outcome::Done { stat: None, kept: Some("kept".into()) };
            machine.handle(Event::Installed { job: job.id, outcome });
        }
        assert_eq!((machine.live(), machine.engine.undoable().len()), (110, 0), "less than half is nobody's disaster");
        machine.remove_live(90..150);
        undo(&mut machine, |_| (Place::Disk, true));
        entries.push(announced(&machine));
    }
    let both = entries[0].iter().zip(&entries[1]);
    for ((path, one), (_, other)) in both.clone() {
        assert!(one.same_on_disk(other) && one.version.author != other.version.author, "{path}");
        assert!(!one.conflicts_with(other) && !other.conflicts_with(one), "{path}");
    }
    assert_eq!(both.count(), 90);
}

#[test]
fn what_was_moved_or_stays_as_a_copy_is_told_apart_from_what_went() {
    let files =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), format!("of {name}"), 10)).collect::<Vec<_>>();
    let many: Vec<_> = (0..120).map(|n| (format!("d/{n:03}"), format!("content {n}"), 10)).collect();
    let copies = [("copy".to_owned(), "twice".to_owned(), 10), ("original".to_owned(), "twice".to_owned(), 10)];
    let mut machine = Machine::with(&[&many[..], &copies, &files(&["moved"])].concat());
    machine.put(&[("there".into(), "of moved".into(), 10)]);
    machine.take(&["moved".to_owned()]);
    machine.wall += 1000 * SECOND;
    machine.mono += 1000 * SECOND;
    let names: Vec<_> = many.iter().map(|(name, ..)| name.clone()).collect();
    machine.take(&[&names[..50], &["copy".to_owned()]].concat());
    machine.take(&names[50..]);
    let back: BTreeSet<_> = machine.engine.undoable().iter().map(SyncPath::to_text).collect();
    let expected: BTreeSet<_> = names.into_iter().chain(["copy".to_owned()]).collect();
    assert_eq!(back, expected);
}

#[test]
fn a_copy_that_went_along_comes_back_though_the_rest_went_later() {
    let many: Vec<_> = (0..120).map(|n| (format!("d/{n:03}"), format!("content {n}"), 10)).collect();
    let pair = |what: &str| [0, 1].map(|n| (format!("{what}{n}"), what.to_owned(), 10));
    let mut machine = Machine::with(&[&many[..], &pair("early"), &pair("copy")].concat());
    let later = |machine: &mut Machine| {
        machine.wall += 200 * SECOND;
        machine.mono += 200 * SECOND;
    };
    let names: Vec<_> = many.iter().map(|(name, ..)| name.clone()).collect();
    machine.take(&["early0".to_owned()]);
    later(&mut machine);
    machine.take(&[&names[..20], &["copy0".to_owned()]].concat());
    later(&mut machine);
    machine.take(&names[20..40]);
    machine.take(&names[40..]);
    let back: BTreeSet<_> = machine.engine.undoable().iter().map(SyncPath::to_text).collect();
    assert_eq!(back, names.into_iter().chain(["copy0".to_owned()]).collect(), "a copy alone was no loss");
}

#[test]
fn what_nobody_has_stays_held_is_named_and_comes_once_a_machine_that_has_it_is_linked() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let nobody_has_ten: Has = |sought| {
        let is_one = sought.path.as_bytes().len() == 2;
        (if is_one { Place::Nowhere } else { Place::Disk }, false)
    };
    let undone = undo(&mut machine, nobody_has_ten);
    let names: Vec<_> = (0..10).map(|n| path(&format!("f{n}"))).collect();
    assert_eq!((undone.still_held, undone.lost, undone.back.len()), (names.clone(), Vec::new(), 140));
    assert_eq!(machine.engine.status().held_deletions, 10);
    // It is less than half by now, and nobody's word lets it go.
    answer(&mut machine, nobody_has_ten);
    machine.put(&[("new".into(), "new".into(), 1)]);
    machine.wait(50 * SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.engine.undoable()), (10, names));
    machine.said.clear();
    machine.handle(Event::LinkDown { link: LINK });
    let mut machine = machine.linked();
    machine.wait(10 * SECOND);
    answer(&mut machine, PEER_HAS_ALL);
    machine.wait(SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 201));
}

#[test]
fn what_nobody_has_and_is_held_goes_when_someone_confirms_it() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let undone = undo(&mut machine, |_| (Place::Nowhere, false));
    assert_eq!((undone.still_held.len(), undone.back.len(), machine.live()), (150, 0, 200));
    machine.handle(Event::Confirm);
    machine.scan(&(150..200).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    machine.wait(20 * SECOND);
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 50));
}

#[test]
fn a_machine_that_never_answers_is_waited_for_no_longer_than_its_time_and_is_named() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.handle(Event::Undo { ticket: 7, dry_run: true });
    machine.wait(9 * SECOND);
    assert_eq!(machine.engine.take_undone(7), None);
    machine.wait(3 * SECOND);
    let undone = machine.engine.take_undone(7).expect("an answer");
    assert_eq!((undone.silent, undone.still_held.len()), (vec!["peer".to_owned()], 150));
    assert_eq!(machine.engine.status().held_deletions, 150, "it was only asked");
}

#[test]
fn answers_that_fit_no_question_close_the_link_and_count_for_nothing() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    machine.said.clear();
    machine.handle(Event::Undo { ticket: 7, dry_run: true });
    let id = machine.said.iter().find_map(|action| match action {
        Action::Send { message: Message::Locate { id, sought }, .. } => Some((*id, sought.len())),
        _ => None,
    });
    let (id, asked) = id.expect("the peer is asked");
    machine.receive(Message::Located { id: id + 9, places: vec![Place::Disk] });
    assert!(!machine.said.iter().any(|action| matches!(action, Action::Close { .. })), "of an older question");
    machine.receive(Message::Located { id, places: vec![Place::Disk; asked + 1] });
    assert!(machine.said.iter().any(|action| matches!(action, Action::Close { .. })));
    let found = |action: &Action| match action {
        Action::LocateKept(sought) => Some(sought.iter().map(|sought| (sought.clone(), None)).collect()),
        _ => None,
    };
    let found = machine.said.iter().find_map(found).expect("history is asked");
    machine.handle(Event::KeptLocated(found));
    assert_eq!(machine.engine.take_undone(7).expect("an answer").still_held.len(), 150);
}

#[test]
fn of_what_is_missing_here_a_peer_is_told_that_it_is_not_on_this_disk() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let sought = |n: u64| {
        let (path, stat, content) = file(n, 1_000_000);
        Sought { path, content, size: stat.size, mtime: stat.mtime }
    };
    machine.said.clear();
    machine.receive(Message::Locate { id: 3, sought: vec![sought(5), sought(170), sought(6)] });
    answer(&mut machine, |sought| (Place::Nowhere, sought.path == path("f6")));
    let places = machine.said.iter().find_map(|action| match action {
        Action::Send { message: Message::Located { id: 3, places }, .. } => Some(places.clone()),
        _ => None,
    });
    assert_eq!(places, Some(vec![Place::Nowhere, Place::Disk, Place::History]));
    machine.receive(Message::Locate { id: 4, sought: vec![sought(5)] });
    machine.receive(Message::Locate { id: 5, sought: vec![sought(5)] });
    assert!(machine.said.iter().any(|action| matches!(action, Action::Close { .. })), "one question at a time");
}

#[test]
fn a_content_is_found_at_the_one_path_of_many_that_is_not_missing() {
    let same = ContentId::of(b"in many places");
    let files: Vec<_> = (0..200).map(|n| file(n, 1_000_000)).collect();
    let with_copies = files.iter().enumerate().map(|(n, (path, stat, content))| {
        (path.clone(), *stat, if (10..20).contains(&n) || n == 199 { same } else { *content })
    });
    let mut machine = Machine::new(MapIndex::new());
    machine.scan(&with_copies.collect::<Vec<_>>());
    let mut machine = machine.linked();
    machine.remove_live(0..150);
    assert_eq!(machine.engine.status().held_deletions, 150);
    machine.said.clear();
    let (path, stat, _) = file(10, 1_000_000);
    machine.receive(Message::Locate {
        id: 3,
        sought: vec![Sought { path, content: same, size: stat.size, mtime: stat.mtime }],
    });
    let answer = |action: &Action| matches!(action, Action::Send { message: Message::Located { id: 3, places }, .. } if *places == [Place::Disk]);
    assert!(machine.said.iter().any(answer), "f199 is on disk, and comes after ten that are missing");
}

#[test]
fn what_history_was_said_to_have_is_taken_from_the_very_place() {
    let mut machine = Machine::with_files(200).linked();
    let (path, stat, content) = file(6, 1_000_000);
    machine.remove_live(0..10);
    machine.said.clear();
    let asked = Sought { path: path.clone(), content, size: stat.size, mtime: stat.mtime };
    machine.receive(Message::Locate { id: 3, sought: vec![asked] });
    answer(&mut machine, |_| (Place::Nowhere, true));
    machine.said.clear();
    let (_, deletion) = machine.by_peer(6, 7, None);
    let back = Entry { kind: Kind::File { size: stat.size, content }, mtime: stat.mtime, ..deletion };
    let changes = vec![Change { path: path.clone(), entry: back, body: None }];
    machine.receive(Message::Changes { changes, relayed_to: Vec::new() });
    machine.wait(SECOND);
    let installs = machine.said.iter().find_map(|action| match action {
        Action::Install(job) if job.path == path => Some(job.source.clone()),
        _ => None,
    });
    assert!(matches!(installs, Some(Source::Kept { kept, .. }) if kept == "kept"));
}

#[test]
fn a_peer_that_makes_up_long_paths_fills_no_memory_with_promises() {
    let mut machine = Machine::with_files(200).linked();
    let (_, stat, content) = file(5, 1_000_000);
    machine.remove_live(0..150);
    let long = |n: usize| path(&format!("{n:04}/{}", "x/".repeat(120) + &"y".repeat(250)));
    let sought = |n: usize| Sought { path: long(n), content, size: stat.size, mtime: stat.mtime };
    let bytes = long(0).as_bytes().len();
    for id in 0..200 {
        let from = id * 1000;
        let sought = (from..from + 1000).map(sought).collect();
        machine.receive(Message::Locate { id: id as u32, sought });
        answer(&mut machine, |_| (Place::Nowhere, true));
        let promised = machine.engine.safety.undoing.locating.promises();
        assert!(promised * bytes < 48 << 20, "{promised} promises");
    }
}

/// A folder is made, and is empty yet.
fn make_folder(machine: &mut Machine, name: &str, ino: u64) {
    machine.handle(Event::Hint { path: path(name), hint: Hint::Closed });
    machine.wait(SECOND);
    machine.said.retain(|action| !matches!(action, Action::Inspect { .. }));
    let stat = Stat { kind: StatKind::Directory, size: 0, ino, mode: Mode(0o755), ..file(0, 1_000_000).1 };
    machine.handle(Event::Inspected { path: path(name), observed: Observed::Directory { stat } });
    machine.wait(5 * SECOND);
    for action in machine.said.extract_if(.., |action| matches!(action, Action::Walk { .. })).collect::<Vec<_>>() {
        let Action::Walk { walk, .. } = action else { continue };
        machine.handle(Event::Walked { walk, unread: Vec::new() });
    }
    machine.wait(SECOND);
}

#[test]
fn an_empty_folder_that_went_with_the_rest_comes_back_and_one_that_was_moved_does_not() {
    let files = |name: &str, count: usize| {
        (0..count).map(|n| (format!("{name}{n:03}"), format!("content {n}"), 10)).collect::<Vec<_>>()
    };
    let many: Vec<_> = (0..120).map(|n| (format!("f{n:03}"), format!("of many {n}"), 10)).collect();
    let mut machine = Machine::with(&many);
    for (n, folder) in ["album", "empty", "empty/inner", "lone"].into_iter().enumerate() {
        make_folder(&mut machine, folder, 8_000_000 + n as u64);
    }
    machine.put(&files("album/", 10));
    machine.wall += 1000 * SECOND;
    machine.mono += 1000 * SECOND;
    let names = |files: &[(String, String, u64)]| files.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>();
    let many = names(&many);
    // A rename sets the ctime.
    let ctime = time((machine.wall / SECOND) as i64);
    let stat = |n: usize, size: u64| Stat { size, ctime, ino: 7_000_000 + n as u64, ..file(0, 1_700_000_000).1 };
    let moved = files("moved-", 10).into_iter().enumerate();
    let moved: Vec<_> =
        moved.map(|(n, (name, what, size))| (path(&name), stat(n, size), ContentId::of(what.as_bytes()))).collect();
    for (path, ..) in &moved {
        machine.handle(Event::Hint { path: path.clone(), hint: Hint::Closed });
    }
    for _ in 0..2 {
        machine.wait(5 * SECOND);
        machine.inspect(&moved);
    }
    machine.take(&[names(&files("album/", 10)), vec!["album".to_owned()], many[..50].to_vec()].concat());
    machine.take(&["empty/inner".into(), "empty".into(), "lone".into()]);
    machine.take(&many[50..]);
    let back: BTreeSet<_> = machine.engine.undoable().iter().map(SyncPath::to_text).collect();
    let folders = ["empty", "empty/inner", "lone"].map(str::to_owned);
    assert_eq!(back, many.into_iter().chain(folders).collect());
}

#[test]
fn a_link_that_was_renamed_in_the_burst_does_not_come_back_under_its_old_name() {
    let many: Vec<_> = (0..120).map(|n| (format!("d/{n:03}"), format!("content {n}"), 10)).collect();
    let mut machine = Machine::with(&many);
    let put_link = |machine: &mut Machine, name: &str, target: &[u8]| {
        machine.handle(Event::Hint { path: path(name), hint: Hint::Closed });
        machine.wait(SECOND);
        let stat = Stat { kind: StatKind::Symlink, size: 3, ino: 9_000_000, ..file(0, 1_000_000).1 };
        machine.said.retain(|action| !matches!(action, Action::Inspect { .. }));
        let observed = Observed::Symlink { stat, target: target.to_vec() };
        machine.handle(Event::Inspected { path: path(name), observed });
        machine.wait(SECOND);
    };
    put_link(&mut machine, "old", b"one");
    put_link(&mut machine, "gone", b"two");
    machine.wall += 1000 * SECOND;
    machine.mono += 1000 * SECOND;
    put_link(&mut machine, "new", b"one");
    let names: Vec<_> = many.iter().map(|(name, ..)| name.clone()).collect();
    machine.take(&[&names[..50], &["old".to_owned(), "gone".to_owned()]].concat());
    machine.take(&names[50..]);
    let back: BTreeSet<_> = machine.engine.undoable().iter().map(SyncPath::to_text).collect();
    assert_eq!(back, names.into_iter().chain(["gone".to_owned()]).collect());
}
