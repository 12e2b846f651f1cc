//! The rhythms of real work, which the guard lets through, and what it counts over time.

use super::*;
use crate::engine::limits::{DAY_NS, HOUR_NS, SECOND};
use crate::engine::safety::ledger;

/// So many names and contents, each of this size.
fn named(names: impl Iterator<Item = u64>, name: &str, what: &str, size: u64) -> Vec<(String, String, u64)> {
    names.map(|n| (format!("{name}{n}"), format!("{what}{n}"), size)).collect()
}

fn names(files: &[(String, String, u64)]) -> Vec<String> {
    files.iter().map(|(name, ..)| name.clone()).collect()
}

#[test]
fn a_bundler_that_replaces_its_hashed_files_at_each_build_is_not_held() {
    let sources = named(0..80, "src/f", "source", 10);
    let mut built = named(0..36, "dist/0-", "build 0 of ", 20);
    let mut machine = Machine::with(&[sources, built.clone()].concat());
    for build in 1..9 {
        machine.take(&names(&built));
        built = named(0..36, &format!("dist/{build}-"), &format!("build {build} of "), 20);
        machine.put(&built);
        assert_eq!(machine.live(), 116, "build {build}");
    }
    assert!(!machine.holds());
}

#[test]
fn a_spool_folder_that_is_filled_here_and_emptied_by_a_peer_is_not_held() {
    let mut machine = Machine::with_files(1).linked();
    for n in 1..260 {
        let job = file(n, 2_000_000);
        machine.handle(Event::Hint { path: job.0.clone(), hint: Hint::Closed });
        machine.wait(SECOND);
        machine.inspect(&[job]);
        let installs = machine.installs();
        machine.peer_changes(n..n + 1, None);
        assert_eq!(machine.installs(), installs + 1, "job {n}");
        let job = machine.said.iter().rev().find_map(|action| match action {
            Action::Install(job) => Some(job.id),
            _ => None,
        });
        machine.handle(Event::Installed { job: job.unwrap(), outcome: Outcome::Done { stat: None, kept: None } });
    }
    assert!(!machine.holds());
    assert_eq!(machine.live(), 1);
}

#[test]
fn photos_that_go_from_the_inbox_to_the_archive_are_not_lost_in_whichever_order_that_is_seen() {
    let photos = named(0..200, "inbox/", "photo", 1000);
    let mut machine = Machine::with(&photos);
    for (n, batch) in photos.chunks(50).enumerate() {
        let archived: Vec<_> =
            batch.iter().map(|(name, what, size)| (name.replace("inbox", "archive"), what.clone(), *size)).collect();
        if n % 2 == 0 {
            machine.put(&archived);
            machine.take(&names(batch));
        } else {
            machine.take(&names(batch));
            machine.put(&archived);
        }
        assert_eq!(machine.engine.safety.ledger.sum(ledger::Fate::Lost).files, 0, "batch {n}");
        assert_eq!(machine.engine.safety.ledger.total().files, 200);
    }
    assert!(!machine.holds());
    assert_eq!(machine.engine.index().get(&path("archive/7")).unwrap().since, 0, "they are as old as they were");
}

#[test]
fn folder_renames_in_a_row_and_their_undo_count_nothing_and_a_single_removal_after_them_is_not_held() {
    let album = |name: &str| named(0..200, name, "photo", 1000);
    let mut machine = Machine::with(&album("album/"));
    let mut was = album("album/");
    for name in ["album2/", "album3/", "album/", "album4/"] {
        machine.put(&album(name));
        machine.take(&names(&was));
        was = album(name);
        assert_eq!((machine.live(), machine.engine.safety.ledger.total().files), (200, 200), "{name}");
    }
    machine.take(&names(&was[..1]));
    assert_eq!(machine.live(), 199);
    assert!(!machine.holds());
}

#[test]
fn what_git_gc_does_is_not_held_and_said_once() {
    let work = named(0..20, "work/", "source", 100_000);
    let loose = named(0..300, ".git/objects/", "object", 200);
    let mut machine = Machine::with(&[work, loose.clone()].concat());
    machine.put(&[(".git/pack".to_owned(), "pack".to_owned(), 30_000)]);
    machine.take(&names(&loose));
    assert_eq!(machine.live(), 21);
    assert!(!machine.holds());
    let said = |machine: &Machine| {
        let is_it = |action: &&Action| matches!(action, Action::Report(Report::ManyDeleted { .. }));
        machine.said.iter().filter(is_it).count()
    };
    assert!(
        machine.has_said(
            |report| matches!(report, Report::ManyDeleted { deletions: 300, of: 320, example: Some(path), by }
        if path.to_text().starts_with(".git") && by == &["own"])
        )
    );
    machine.take(&names(&named(0..1, "work/", "", 0)));
    assert_eq!((machine.live(), said(&machine)), (20, 1));
    assert!(!machine.holds());
}

#[test]
fn an_installation_that_removes_its_tree_and_makes_it_anew_ends_the_hold_by_itself() {
    let own = named(0..20, "src/", "source", 10);
    let modules = named(0..400, "node_modules/", "module", 100);
    let mut machine = Machine::with(&[own, modules.clone()].concat());
    machine.take(&names(&modules));
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (420, 400));
    // Some of it is newer, and some is there no more.
    let again: Vec<_> = modules[..380].to_vec();
    let newer = named(0..40, "node_modules/", "newer ", 100);
    machine.put(&[newer, again[40..].to_vec()].concat());
    machine.wait(5 * SECOND);
    machine.inspect(&[]);
    machine.wait(5 * SECOND);
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (400, 0));
    assert!(machine.has_said(|report| matches!(report, Report::HoldEnded)));
}

#[test]
fn time_alone_ends_no_hold() {
    let mut machine = Machine::with_files(200);
    machine.remove_live(0..60);
    machine.remove_live(60..110);
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (140, 50));
    machine.mono += 3 * HOUR_NS;
    machine.handle(Event::Hint { path: path("news"), hint: Hint::Closed });
    machine.wait(SECOND);
    machine.inspect(&[(path("news"), file(9, 5).1, ContentId::of(b"news"))]);
    machine.scan(&(110..200).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    assert_eq!(machine.engine.status().held_deletions, 50);
}

#[test]
fn after_a_confirmation_a_single_removal_is_not_held() {
    let mut machine = Machine::with_files(300);
    machine.remove_live(0..200);
    assert_eq!(machine.engine.status().held_deletions, 200);
    machine.handle(Event::Confirm);
    machine.scan(&(200..300).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    assert_eq!((machine.live(), machine.engine.safety.ledger.total().files), (100, 100));
    machine.said.clear();
    machine.remove_live(200..201);
    assert_eq!(machine.live(), 99);
    assert!(!machine.holds());
    machine.remove_live(201..251);
    assert_eq!(machine.live(), 99, "and the next disaster is");
    assert_eq!(machine.engine.status().held_deletions, 50);
}

#[test]
fn what_is_younger_than_an_hour_is_no_loss() {
    let mut machine = Machine::with_files(120);
    let build = named(0..500, "out/", "made", 1000);
    machine.put(&build);
    machine.take(&names(&build));
    assert_eq!((machine.live(), machine.engine.safety.ledger.total().files), (120, 120));
    assert!(!machine.holds());
}

#[test]
fn a_few_older_files_from_an_archive_are_not_held() {
    let mut machine = Machine::with_files(107);
    machine.handle(Event::Overflow);
    let older: Vec<_> = (0..107).map(|n| file(n, if n < 12 { 900_000 } else { 1_000_000 })).collect();
    machine.scan(&older);
    machine.handle(Event::Overflow);
    machine.scan(&older);
    assert_eq!(machine.engine.safety.ledger.sum(ledger::Fate::Reverted).files, 12);
    machine.remove_live(20..21);
    assert_eq!(machine.live(), 106);
    assert!(!machine.holds());
}

#[test]
fn what_was_lost_in_the_last_hour_still_counts_after_a_restart() {
    let mut machine = Machine::with_files(200);
    machine.remove_live(0..100);
    let (total, lost) = (machine.engine.safety.ledger.total(), machine.engine.safety.ledger.sum(ledger::Fate::Lost));
    let mut again = Machine::new(machine.engine.into_index());
    assert_eq!((again.engine.safety.ledger.total(), again.engine.safety.ledger.sum(ledger::Fate::Lost)), (total, lost));
    again.scan(&(100..200).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    assert_eq!(again.engine.safety.ledger.total(), total, "counted by the walk");
    again.remove_live(100..110);
    assert_eq!(again.engine.status().held_deletions, 10);
}

// Changes that are dated too far ahead.

/// The peer's change, dated fifty years ahead.
fn dated_ahead(machine: &mut Machine, n: u64, counter: u64) -> (SyncPath, Entry) {
    let (path, mut entry) = machine.by_peer(n, counter, Some(1_000_001));
    entry.version.stamp = machine.wall + 50 * 365 * DAY_NS;
    let change = Change { path: path.clone(), entry: entry.clone(), body: None };
    machine.receive(Message::Changes { changes: vec![change], relayed_to: Vec::new() });
    machine.wait(SECOND);
    (path, entry)
}

#[test]
fn a_confirmation_makes_the_changes_that_are_held_for_their_date_anew_and_holds_later_ones() {
    let mut machine = Machine::with_files(3).linked();
    let (name, ahead) = dated_ahead(&mut machine, 0, 1);
    assert_eq!(machine.engine.held(9).dated_ahead, 1);
    assert_eq!(
        machine.engine.held(9).paths[0],
        HeldPath { path: name.clone(), why: HeldWhy::DatedAhead, by: "peer".into() }
    );
    machine.handle(Event::Confirm);
    let winner = machine.engine.index().get(&name).unwrap().head;
    assert!(winner.same_on_disk(&ahead));
    assert_eq!(winner.version.author, OWN);
    assert!(winner.version.stamp <= machine.wall, "as of today");
    assert!(machine.engine.held(9).is_empty());
    // The same again says nothing new, another is held anew.
    machine.receive(Message::Offer { buckets: Vec::new(), entries: vec![(name, ahead)], more: false });
    assert!(machine.engine.held(9).is_empty());
    let (later, _) = dated_ahead(&mut machine, 1, 2);
    assert_eq!(machine.engine.held(9).dated_ahead, 1);
    assert_eq!(machine.engine.index().get(&later).unwrap().head.version.author, OWN);
}

#[test]
fn a_clock_that_was_never_set_accepts_no_change_from_the_far_future() {
    let mut machine = Machine::with_files(3).linked();
    machine.wall = 5 * DAY_NS;
    let (path, mut entry) = machine.by_peer(0, 1, Some(1_000_001));
    entry.version.stamp = WALL + 50 * 365 * DAY_NS;
    machine.receive(Message::Changes { changes: vec![Change { path, entry, body: None }], relayed_to: Vec::new() });
    assert_eq!(machine.engine.held(9).dated_ahead, 1);
    let (path, mut entry) = machine.by_peer(1, 2, Some(1_000_001));
    entry.version.stamp = WALL;
    machine.receive(Message::Changes {
        changes: vec![Change { path: path.clone(), entry: entry.clone(), body: None }],
        relayed_to: Vec::new(),
    });
    assert_eq!(machine.engine.index().get(&path).unwrap().head, entry, "what is dated as of this dirsyncd is not");
}
