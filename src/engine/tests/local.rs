//! A machine that announces nothing: what its user changes stays its own, until the group changes
//! the same, or a person says what becomes of it.

use super::*;
use crate::model::{RetainReason, SyncRole};

const OLD: u64 = 1;

/// A machine that has walked its folder, which holds what the group has.
fn receiver(rows: &[(&str, Row)]) -> Engine<MapIndex> {
    begun(scanned(rows), Some(SyncRole::ReceiveOnly))
}

fn begun(index: MapIndex, role: Option<SyncRole>) -> Engine<MapIndex> {
    let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::KeepBoth };
    let mut engine = Engine::new(config, index);
    if let Some(role) = role {
        engine.begin_as(role);
    }
    engine.start(at(0), Trust::Known);
    let up = Event::LinkUp {
        link: LINK,
        device: DeviceId([2; 32]),
        name: "b".into(),
        dialler: false,
        features: Features::ours(),
        capability: crate::model::Capability::Write,
    };
    engine.handle(at(0), up);
    engine.handle(at(0), Event::Message { link: LINK, message: Message::Known { counter: 0 }, wire_bytes: 1 });
    let walks = walks(&engine.handle(at(0), Event::IgnoreRead(None)));
    // What is on disk by the index is found there.
    let on_disk = |(path, row): (SyncPath, Row)| Some((path, *row.live_on_disk()?.1));
    let found: Vec<_> = engine.index().below(None, None, 999).into_iter().filter_map(on_disk).collect();
    for walk in walks {
        engine.handle(at(0), Event::Listed { walk, found: found.clone() });
        engine.handle(at(0), Event::Walked { walk, unread: Vec::new() });
        engine.handle(at(0), Event::Root(RootState::Fine));
    }
    engine
}

/// News of a peer, before anything follows from them.
fn news(engine: &mut Engine<MapIndex>, mono: u64, name: &str, entry: &Entry) {
    let changes = vec![Change { path: path(name), entry: entry.clone(), body: None }];
    let message = Message::Changes { changes, relayed_to: Vec::new() };
    engine.handle(at(mono), Event::Message { link: LINK, message, wire_bytes: 1 });
}

fn folder(stamp: u64) -> Entry {
    Entry { kind: Kind::Directory, mtime: FileTime::default(), ..entry("", stamp, 0o755) }
}

fn gone(stamp: u64) -> Entry {
    Entry { kind: Kind::Deleted { at: stamp }, mode: Mode::NONE, mtime: FileTime::default(), ..entry("", stamp, 0) }
}

fn writes(engine: &mut Engine<MapIndex>, name: &str, entry: &Entry) {
    engine.observe(at(SECOND), &path(name), seen(entry, SECOND), ObservationSource::Live);
}

fn deletes(engine: &mut Engine<MapIndex>, name: &str) {
    engine.delete(at(SECOND), &path(name));
}

fn locals(engine: &Engine<MapIndex>) -> Vec<(String, LocalKind)> {
    engine.local_changes(None, 99).into_iter().map(|change| (change.path.to_text(), change.kind)).collect()
}

fn one(name: &str, kind: LocalKind) -> Vec<(String, LocalKind)> {
    vec![(name.to_owned(), kind)]
}

fn announced(actions: &[Action]) -> Vec<(String, Entry)> {
    let changes = |action: &Action| match action {
        Action::Send { message: Message::Changes { changes, .. }, .. } => {
            changes.iter().map(|change| (change.path.to_text(), change.entry.clone())).collect()
        }
        _ => Vec::new(),
    };
    actions.iter().flat_map(changes).collect()
}

fn jobs(actions: Vec<Action>) -> Vec<Job> {
    let job = |action| if let Action::Install(job) = action { Some(job) } else { None };
    actions.into_iter().filter_map(job).collect()
}

fn install(engine: &mut Engine<MapIndex>, mono: u64, job: &Job) -> Vec<Action> {
    let stat = job.entry.is_live().then(|| stat(&job.entry, mono));
    let kept = job.expect.filter(|stat| stat.kind == StatKind::File).map(|_| "kept".to_owned());
    let mut actions = engine.handle(at(mono), Event::Installed { job: job.id, outcome: Outcome::Done { stat, kept } });
    actions.extend(engine.handle(at(mono), Event::Tick));
    actions
}

/// All that is wanted is installed, in as many turns as it takes; with which jobs.
fn settle(engine: &mut Engine<MapIndex>, mono: u64) -> Vec<Job> {
    let mut done = Vec::new();
    for turn in 0..20 {
        let now = mono + turn * 2 * SECOND;
        let mut actions = engine.handle(at(now), Event::Tick);
        for id in gets(&actions) {
            let contents = vec![(id, Some(bytes::Bytes::from_static(b"newer")))];
            let came = Event::Message { link: LINK, message: Message::Contents { contents }, wire_bytes: 1 };
            actions.extend(engine.handle(at(now), came));
            actions.extend(engine.handle(at(now), Event::Tick));
        }
        let mut waiting = jobs(actions);
        while let Some(job) = waiting.pop() {
            waiting.extend(jobs(install(engine, now, &job)));
            done.push(job);
        }
    }
    done.sort_by(|one, other| one.path.cmp(&other.path));
    done
}

fn is_at_rest(engine: &Engine<MapIndex>) -> bool {
    let condition = engine.condition();
    condition.is_clear() && !engine.transfer.has_wants()
}

#[test]
fn what_is_changed_here_is_told_to_nobody_and_keeps_nothing_from_being_done() {
    let old = entry("old", OLD, 0o644);
    let rows = ["edited", "touched", "gone"].map(|name| (name, row(&old, &old)));
    let mut engine = receiver(&[&rows[..], &[("d", row(&folder(OLD), &folder(OLD)))]].concat());
    let (root, counter) = (engine.index_mut().root_digest(), engine.reconcile.last_counter());
    writes(&mut engine, "edited", &entry("an edit", 5, 0o644));
    writes(&mut engine, "touched", &Entry { mode: Mode(0o600), ..old.clone() });
    writes(&mut engine, "d/new", &entry("new", 5, 0o644));
    writes(&mut engine, "e", &folder(5));
    deletes(&mut engine, "gone");
    let actions = engine.handle(at(2 * SECOND), Event::Tick);
    assert_eq!(announced(&actions), []);
    let expected = [
        ("d/new", LocalKind::New),
        ("e", LocalKind::New),
        ("edited", LocalKind::Edited),
        ("gone", LocalKind::Deleted),
        ("touched", LocalKind::Attributes),
    ];
    assert_eq!(locals(&engine), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!((engine.index_mut().root_digest(), engine.reconcile.last_counter()), (root, counter));
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
    assert_eq!((engine.condition().local, engine.index().counts().pending), (5, 0));
    // A peer that compares hears of none, either.
    for name in ["d/new", "e"] {
        assert!(engine.index().bucket(api::digest::bucket_of(&path(name))).iter().all(|(at, _)| *at != path(name)));
    }
    // So it is after a restart, by the role that was kept.
    let mut again = begun(engine.into_index(), None);
    assert_eq!(again.role(), SyncRole::ReceiveOnly);
    assert_eq!(again.condition().local, 5);
    let actions = again.handle(at(3 * SECOND), Event::Tick);
    assert_eq!((announced(&actions), installs(&actions)), (Vec::new(), 0));
    assert!(is_at_rest(&again), "{:?}", again.condition());
}

#[test]
fn a_newer_version_of_the_group_takes_the_place_of_a_local_change_which_history_keeps() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old)), ("gone", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    writes(&mut engine, "new", &entry("mine", 5, 0o644));
    deletes(&mut engine, "gone");
    for name in ["f", "new", "gone"] {
        news(&mut engine, 2 * SECOND, name, &entry("newer", 2, 0o644));
    }
    let done = settle(&mut engine, 3 * SECOND);
    let how: Vec<_> = done.iter().map(|job| (job.path.to_text(), job.keep, job.expect.is_some())).collect();
    let expected = [
        ("f", RetainReason::Conflict, true),
        ("gone", RetainReason::Conflict, false),
        ("new", RetainReason::Conflict, true),
    ];
    assert_eq!(how, expected.map(|(name, keep, over)| (name.to_owned(), keep, over)), "and no copy beside");
    assert!(locals(&engine).is_empty() && is_at_rest(&engine));
    assert!(engine.index().conflict_marks().is_empty(), "a conflict would be told to all");
}

#[test]
fn a_local_edit_of_what_is_being_replaced_stays_no_longer_than_until_that_comes() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    news(&mut engine, SECOND, "f", &entry("newer", 2, 0o644));
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    assert!(locals(&engine).is_empty());
    let done = settle(&mut engine, 2 * SECOND);
    assert_eq!(done.iter().map(|job| job.keep).collect::<Vec<_>>(), [RetainReason::Conflict]);
}

#[test]
fn a_deletion_takes_away_only_what_the_group_had() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    writes(&mut engine, "new", &entry("mine", 5, 0o644));
    for name in ["f", "new"] {
        news(&mut engine, 2 * SECOND, name, &gone(2));
    }
    let done = settle(&mut engine, 3 * SECOND);
    assert_eq!(done.iter().map(|job| job.path.to_text()).collect::<Vec<_>>(), ["f"]);
    assert_eq!(locals(&engine), one("new", LocalKind::New));
    // As if the deletion had been there first.
    news(&mut engine, 60 * SECOND, "later", &gone(3));
    writes(&mut engine, "later", &entry("mine", 5, 0o644));
    assert_eq!(locals(&engine).len(), 2);
    assert!(is_at_rest(&engine));
}

#[test]
fn a_version_that_says_nothing_new_leaves_the_local_change() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    news(&mut engine, 2 * SECOND, "f", &Entry { mtime: old.mtime, ..entry("old", 2, 0o644) });
    assert_eq!(locals(&engine), one("f", LocalKind::Edited));
}

#[test]
fn what_is_as_the_group_has_it_again_is_local_no_more() {
    let (old, edit) = (entry("old", OLD, 0o644), entry("an edit", 5, 0o644));
    let mut engine = receiver(&[("f", row(&old, &old)), ("g", row(&old, &old))]);
    writes(&mut engine, "f", &edit);
    writes(&mut engine, "new", &edit);
    writes(&mut engine, "g", &edit);
    writes(&mut engine, "f", &old);
    assert_eq!(locals(&engine).len(), 2);
    deletes(&mut engine, "new");
    assert_eq!(locals(&engine), one("g", LocalKind::Edited));
    assert_eq!(engine.index().get(&path("new")), None, "nobody ever heard of it");
    // The group comes to the same by itself.
    news(&mut engine, 2 * SECOND, "g", &Entry { mtime: edit.mtime, ..entry("an edit", 7, 0o644) });
    assert!(locals(&engine).is_empty() && is_at_rest(&engine));
}

#[test]
fn other_permissions_stay_local_though_the_mtime_is_the_only_difference_left() {
    let old = entry("old", 2 * SECOND, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    let touched = Entry { mode: Mode(0o600), mtime: time(3 * SECOND), ..old.clone() };
    writes(&mut engine, "f", &touched);
    writes(&mut engine, "f", &Entry { mode: Mode(0o644), ..touched });
    assert_eq!(locals(&engine), one("f", LocalKind::Attributes));
    assert!(is_at_rest(&engine), "and nothing sets it back");
}

#[test]
fn a_revert_takes_back_what_the_group_has() {
    let old = entry("newer", OLD, 0o644);
    let folders = [("d", row(&folder(OLD), &folder(OLD))), ("d/f", row(&old, &old))];
    let mut engine = receiver(&[&folders[..], &[("g", row(&old, &old)), ("h", row(&old, &old))]].concat());
    deletes(&mut engine, "d/f");
    deletes(&mut engine, "d");
    writes(&mut engine, "e", &folder(5));
    writes(&mut engine, "e/mine", &entry("mine", 5, 0o644));
    writes(&mut engine, "g", &entry("an edit", 5, 0o644));
    writes(&mut engine, "h", &entry("another", 5, 0o644));
    engine.handle(at(2 * SECOND), Event::Revert(vec![path("g")]));
    let done = settle(&mut engine, 3 * SECOND);
    assert_eq!(done.iter().map(|job| job.path.to_text()).collect::<Vec<_>>(), ["g"]);
    engine.handle(at(100 * SECOND), Event::Revert(Vec::new()));
    let done = settle(&mut engine, 101 * SECOND);
    assert_eq!(done.len(), 5, "{done:?}");
    assert!(locals(&engine).is_empty() && is_at_rest(&engine), "{:?}", engine.condition());
    let rows = engine.index().below(None, None, 999);
    assert!(rows.iter().all(|(_, row)| row.is_settled()) && rows.len() == 4, "{rows:?}");
}

#[test]
fn what_is_promoted_is_made_on_top_of_what_was_on_disk() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old)), ("gone", row(&old, &old)), ("other", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o600));
    writes(&mut engine, "other", &entry("another", 5, 0o644));
    writes(&mut engine, "n", &folder(5));
    writes(&mut engine, "n/mine", &entry("mine", 5, 0o644));
    deletes(&mut engine, "gone");
    let paths = ["f", "gone", "n/mine"].map(path).to_vec();
    let mut actions = engine.handle(at(9 * SECOND), Event::Promote(paths));
    actions.extend(engine.handle(at(9 * SECOND), Event::Tick));
    let announced = announced(&actions);
    let names: Vec<_> = announced.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gone", "f", "n", "n/mine"], "with the folder that it is in, and before it");
    for (name, made) in &announced {
        assert!(engine.index().get(&path(name)).unwrap().is_settled());
        if ["f", "gone"].contains(&name.as_str()) {
            assert!(made.beats(&old) && made.version.supersedes(&old.version), "{name}");
        }
    }
    assert_eq!(announced[1].1.version.stamp, at(9 * SECOND).wall, "it counts from now");
    assert_eq!(locals(&engine), one("other", LocalKind::Edited));
}

#[test]
fn another_role_announces_what_was_local_and_keeps_what_was_announced() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    let mut actions = engine.handle(at(2 * SECOND), Event::Role(SyncRole::Both));
    actions.extend(engine.handle(at(2 * SECOND), Event::Tick));
    assert_eq!(announced(&actions).len(), 1);
    let row = engine.index().get(&path("f")).unwrap();
    assert!(row.is_settled() && row.head.version.author == DeviceId([1; 32]));
    engine.handle(at(3 * SECOND), Event::Role(SyncRole::ReceiveOnly));
    assert_eq!(engine.index().get(&path("f")), Some(row));
    writes(&mut engine, "f", &entry("one more", 8, 0o644));
    // Told at the start instead, it does so once it has seen its folder.
    let mut again = begun(engine.into_index(), Some(SyncRole::Both));
    assert_eq!(announced(&again.handle(at(4 * SECOND), Event::Tick)).len(), 1);
    assert!(locals(&again).is_empty());
}

#[test]
fn a_folder_stays_for_local_changes_in_it_and_comes_back_for_what_the_group_makes_in_it() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[
        ("d", row(&folder(OLD), &folder(OLD))),
        ("d/f", row(&old, &old)),
        ("e", row(&folder(OLD), &folder(OLD))),
    ]);
    writes(&mut engine, "d/mine", &entry("mine", 5, 0o644));
    deletes(&mut engine, "e");
    news(&mut engine, 2 * SECOND, "d/f", &gone(2));
    news(&mut engine, 2 * SECOND, "d", &gone(2));
    let done = settle(&mut engine, 3 * SECOND);
    assert_eq!(done.iter().map(|job| job.path.to_text()).collect::<Vec<_>>(), ["d/f"]);
    let names: Vec<_> = locals(&engine).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["d", "d/mine", "e"]);
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
    news(&mut engine, 60 * SECOND, "e/f", &entry("newer", 3, 0o644));
    let done = settle(&mut engine, 61 * SECOND);
    assert_eq!(done.iter().map(|job| job.path.to_text()).collect::<Vec<_>>(), ["e", "e/f"]);
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
}

#[test]
fn losses_of_a_machine_that_announces_none_are_neither_held_nor_counted() {
    let old: Vec<_> = (0..200).map(|n| entry(&format!("old {n}"), OLD, 0o644)).collect();
    let names: Vec<_> = (0..200).map(|n| format!("f{n:03}")).collect();
    let rows: Vec<_> = names.iter().zip(&old).map(|(name, old)| (name.as_str(), row(old, old))).collect();
    let mut engine = receiver(&rows);
    for name in &names {
        engine.observe(at(SECOND), &path(name), Observed::Absent, ObservationSource::Live);
    }
    engine.handle(at(3 * SECOND), Event::Tick);
    engine.handle(at(3 * SECOND), Event::Root(RootState::Fine));
    assert_eq!(engine.condition().local, 200);
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
}

fn sender(rows: &[(&str, Row)]) -> Engine<MapIndex> {
    begun(scanned(rows), Some(SyncRole::SendOnly))
}

fn left_out(engine: &Engine<MapIndex>) -> Vec<(String, LocalKind)> {
    engine.not_installed(None, 99).into_iter().map(|change| (change.path.to_text(), change.kind)).collect()
}

#[test]
fn what_others_change_is_the_winner_of_a_machine_that_installs_none_and_stays_off_its_disk() {
    let old = entry("old", OLD, 0o644);
    let rows = ["edited", "gone", "touched"].map(|name| (name, row(&old, &old)));
    let mut engine = sender(&rows);
    news(&mut engine, SECOND, "edited", &entry("newer", 2, 0o644));
    news(&mut engine, SECOND, "new", &entry("newer", 2, 0o644));
    news(&mut engine, SECOND, "gone", &gone(2));
    news(&mut engine, SECOND, "touched", &Entry { mode: Mode(0o600), mtime: old.mtime, ..entry("old", 2, 0o644) });
    assert_eq!(settle(&mut engine, 2 * SECOND), []);
    let expected = [
        ("edited", LocalKind::Edited),
        ("gone", LocalKind::New),
        ("new", LocalKind::Deleted),
        ("touched", LocalKind::Attributes),
    ];
    assert_eq!(left_out(&engine), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
    assert_eq!((engine.condition().not_installed, engine.condition().local), (4, 0));
    // What its user changes is made on top of what was on disk (P4), and announced.
    writes(&mut engine, "edited", &entry("an edit", 5 * SECOND, 0o644));
    let made = winner(&engine, "edited");
    assert!(made.version.supersedes(&old.version) && made.conflicts_with(&entry("newer", 2, 0o644)));
    assert_eq!(left_out(&engine).len(), 3);
    // In another role, the rest comes.
    engine.handle(at(60 * SECOND), Event::Role(SyncRole::Both));
    let done = settle(&mut engine, 61 * SECOND);
    assert_eq!(done.iter().map(|job| job.path.to_text()).collect::<Vec<_>>(), ["gone", "new", "touched"]);
    assert!(left_out(&engine).is_empty() && is_at_rest(&engine));
}

#[test]
fn an_override_makes_what_is_here_the_newest_version_and_deletes_what_is_not() {
    let old = entry("old", OLD, 0o644);
    let mut engine =
        sender(&[("d", row(&folder(OLD), &folder(OLD))), ("d/f", row(&old, &old)), ("g", row(&old, &old))]);
    for (name, entry) in [
        ("d/f", gone(2)),
        ("d", gone(2)),
        ("e", folder(2)),
        ("e/new", entry("newer", 2, 0o644)),
        ("g", entry("newer", WALL + 99 * SECOND, 0o644)),
    ] {
        news(&mut engine, SECOND, name, &entry);
    }
    let mut actions = engine.handle(at(9 * SECOND), Event::Override(vec![path("d/f"), path("e"), path("g")]));
    actions.extend(engine.handle(at(9 * SECOND), Event::Tick));
    let announced = announced(&actions);
    let names: Vec<_> = announced.iter().map(|(name, made)| (name.as_str(), made.is_live())).collect();
    assert_eq!(names, [("e/new", false), ("e", false), ("d", true), ("d/f", true), ("g", true)]);
    assert_eq!(announced[4].1.version.stamp, WALL + 99 * SECOND + 8, "it beats what it overrides");
    assert!(left_out(&engine).is_empty() && is_at_rest(&engine));
    assert!(announced.iter().all(|(name, made)| winner(&engine, name) == *made));
}

#[test]
fn contents_that_rotted_come_back_to_a_machine_that_installs_none_and_attributes_do_not() {
    let old = entry("newer", OLD, 0o644);
    let mut engine = sender(&[("f", row(&old, &old))]);
    engine.suspect(at(SECOND), &path("f"), Some(ContentId::of(b"rotten")));
    engine.decide(&path("f"), Decision::Heal);
    assert_eq!(settle(&mut engine, 2 * SECOND).len(), 1);
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
}

#[test]
fn what_is_local_is_suspected_like_any_file_and_nobody_is_asked_for_it() {
    let old = entry("newer", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    engine.suspect(at(SECOND), &path("f"), Some(ContentId::of(b"rotten")));
    assert_eq!(settle(&mut engine, 2 * SECOND), []);
    assert_eq!((engine.condition().problems, engine.condition().local), (1, 1));
    let promoted = engine.handle(at(60 * SECOND), Event::Promote(vec![path("f")]));
    assert_eq!(announced(&promoted), [], "what rotted is no version of anyone's");
    engine.decide(&path("f"), Decision::Heal);
    assert_eq!(settle(&mut engine, 61 * SECOND).len(), 1, "the group's comes back");
    assert!(is_at_rest(&engine), "{:?}", engine.condition());
}

#[test]
fn what_a_power_cut_leaves_of_a_local_change_is_named_and_announced_to_nobody() {
    let old = entry("old", OLD, 0o644);
    let mut engine = receiver(&[("f", row(&old, &old))]);
    writes(&mut engine, "f", &entry("an edit", 5, 0o644));
    let cut = observe::torn::Cut { since: 0, until: 2 * SECOND };
    let mut again = Engine::new(engine.core.config.clone(), engine.into_index());
    again.cut_short(cut, Trust::Known);
    again.start(at(0), Trust::Known);
    let empty = Entry { mtime: time(SECOND), ..entry("", 6, 0o644) };
    again.observe(at(3 * SECOND), &path("f"), seen(&empty, SECOND), ObservationSource::Walked);
    assert!(again.torn().eq([(path("f"), Problem::Torn { nobody_has: true })]));
    assert_eq!(locals(&again), one("f", LocalKind::Edited));
    let promoted = again.handle(at(4 * SECOND), Event::Promote(Vec::new()));
    assert_eq!(announced(&promoted), []);
    assert!(!again.transfer.has_wants(), "nobody is asked for it");
    writes(&mut again, "f", &entry("anew", 9, 0o644));
    assert_eq!((again.torn().count(), locals(&again).len()), (0, 1));
}
