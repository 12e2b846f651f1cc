//! Undo: what was held or let through is live again, as it was.

use super::*;

/// The entries that it told last, by path.
fn told(machine: &Machine) -> BTreeMap<SyncPath, Entry> {
    let changes = machine.said.iter().filter_map(|action| match action {
        Action::Send { message: Message::Changes { changes, .. }, .. } => Some(changes),
        _ => None,
    });
    changes.flatten().map(|change| (change.path.clone(), change.entry.clone())).collect()
}

fn undo(machine: &mut Machine) {
    machine.said.clear();
    machine.tell(Event::Undo { without: BTreeSet::new() });
    machine.wait(SECOND);
}

#[test]
fn what_is_missing_here_and_held_is_wanted_from_the_peers_as_it_was() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    let before = machine.engine.index().get(&path("f3")).unwrap().winner;
    assert_eq!(machine.engine.undoable().len(), 150);
    undo(&mut machine);
    assert!(machine.has_said(|report| matches!(report, Report::Undone { paths: 150 })));
    assert_eq!((machine.engine.status().held_deletions, machine.live()), (0, 200));
    let row = machine.engine.index().get(&path("f3")).unwrap();
    assert_eq!((row.winner, row.disk), (before, None), "no new version: nobody heard of the deletion");
    let sought = machine.said.iter().find_map(|action| match action {
        Action::FindKept(sought) => Some(sought.clone()),
        _ => None,
    });
    let sought = sought.expect("history here is asked first");
    machine.tell(Event::KeptFound(sought.into_iter().map(|sought| (sought, None)).collect()));
    machine.wait(SECOND);
    let asked = machine.said.iter().filter_map(|action| match action {
        Action::Send { message: Message::Get { wants }, .. } => Some(wants.len()),
        _ => None,
    });
    assert_eq!(asked.sum::<usize>(), 150);
    assert_eq!(machine.engine.undoable(), []);
}

#[test]
fn what_went_through_is_made_anew_on_top_and_asked_of_history_and_what_peers_did_from_this_disk() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..90);
    machine.peer_changes(100..160, None);
    assert_eq!(machine.engine.status().held_deletions, 60, "with the 90 of this machine that is too much");
    let deletion = machine.engine.index().get(&path("f3")).unwrap().winner;
    let of_peer = machine.engine.index().get(&path("f120")).unwrap().winner;
    machine.said.clear();
    undo(&mut machine);
    let told = told(&machine);
    assert_eq!(told.len(), 150);
    for (name, deletion) in [("f3", deletion), ("f120", of_peer)] {
        let again = &told[&path(name)];
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
        machine.engine.config.device = device;
        let changes = deletions.iter().cloned().map(|(path, entry)| Change { path, entry, body: None });
        machine.hear(Message::Changes { changes: changes.collect(), told: Vec::new() });
        machine.wait(2 * SECOND);
        let jobs: Vec<_> = machine.said.extract_if(.., |action| matches!(action, Action::Install(_))).collect();
        for job in jobs {
            let Action::Install(job) = job else { continue };
            let outcome = Outcome::Done { stat: None, kept: Some("kept".into()) };
            machine.tell(Event::Installed { job: job.id, outcome });
        }
        assert_eq!((machine.live(), machine.engine.undoable().len()), (110, 0), "less than half is nobody's disaster");
        machine.remove_live(90..150);
        undo(&mut machine);
        entries.push(told(&machine));
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
    let back: BTreeSet<_> = machine.engine.undoable().into_iter().map(|back| back.path.to_text()).collect();
    let expected: BTreeSet<_> = names.into_iter().chain(["copy".to_owned()]).collect();
    assert_eq!(back, expected);
}
