//! What waits: for an install that fails, for a special file to go, for a daemon to wake.

use super::*;
use crate::engine::limits::{JOBS, SECOND};
use std::collections::{BTreeSet, VecDeque};

fn problems(actions: &[Action], name: &str) -> (usize, usize) {
    let of = |at: &Option<SyncPath>| at.as_ref() == Some(&path(name));
    let count = |is: fn(&Report) -> Option<&Option<SyncPath>>| {
        let reports = actions.iter().filter_map(|a| if let Action::Report(report) = a { is(report) } else { None });
        reports.filter(|at| of(at)).count()
    };
    let named = count(|report| if let Report::Problem { path, .. } = report { Some(path) } else { None });
    (named, count(|report| if let Report::Solved { path } = report { Some(path) } else { None }))
}

fn install_job(actions: &[Action]) -> JobId {
    let job = actions.iter().find_map(|a| if let Action::Install(job) = a { Some(job.id) } else { None });
    job.expect("an install")
}

#[test]
fn a_file_that_cannot_be_replaced_is_named_once_and_fine_again_when_it_is_here() {
    let (old, new) = (entry("", 1, 0o644), entry("", 2, 0o600));
    let mut engine = engine(&[("f", row(&old, &old))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let mut all = receive(&mut engine, 1, "f", &new);
    let mut now = 1;
    for _ in 0..20 {
        let job = install_job(&all[all.len().saturating_sub(20)..]);
        let trouble = Trouble { cause: Cause::Denied, text: "it is immutable".to_owned() };
        all.extend(engine.handle(at(now), Event::Installed { job, outcome: Outcome::Failed(trouble) }));
        // What may have been cut off is inspected before the next try.
        now += 3600 * SECOND;
        all.extend(engine.handle(at(now), Event::Tick));
        all.extend(inspected(&mut engine, now + 1, "f", Observed::Unchanged));
    }
    assert_eq!(problems(&all, "f"), (1, 0), "named once, and never fine");
    let outcome = Outcome::Done { stat: Some(stat(&new, now)), kept: None };
    let job = install_job(&all[all.len().saturating_sub(20)..]);
    assert_eq!(problems(&engine.handle(at(now + 2), Event::Installed { job, outcome }), "f"), (0, 1));
}

#[test]
fn the_shell_is_given_so_many_installs_at_once_and_the_rest_as_it_is_done_with_them() {
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let mut under_way = VecDeque::new();
    let mut done = BTreeSet::new();
    let add = |under_way: &mut VecDeque<Job>, actions: Vec<Action>| {
        under_way
            .extend(actions.into_iter().filter_map(|a| if let Action::Install(job) = a { Some(job) } else { None }));
        assert!(under_way.len() <= JOBS, "{} at once", under_way.len());
    };
    let all = JOBS + 500;
    for n in 0..all {
        let actions = receive(&mut engine, 1, &format!("d{n}"), &folder);
        add(&mut under_way, actions);
    }
    assert_eq!((under_way.len(), engine.wake_at() == Some(0)), (JOBS, false), "it waits for the shell");
    while let Some(job) = under_way.pop_front() {
        done.insert(job.path.clone());
        let outcome = Outcome::Done { stat: Some(stat(&folder, 2)), kept: None };
        let actions = engine.handle(at(2), Event::Installed { job: job.id, outcome });
        add(&mut under_way, actions);
        if engine.wake_at() == Some(0) {
            add(&mut under_way, engine.handle(at(2), Event::Tick));
        }
    }
    assert_eq!(done.len(), all);
}

#[test]
fn what_a_fifo_keeps_away_is_named_and_waits_without_a_try_until_that_is_gone() {
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(1), Event::Hint { path: path("d"), hint: Hint::Closed });
    engine.handle(at(SECOND), Event::Tick);
    inspected(&mut engine, SECOND, "d", Observed::Special { what: "fifo" });
    let mut actions = receive(&mut engine, SECOND + 1, "d", &folder);
    actions.extend(receive(&mut engine, SECOND + 2, "d/f", &entry("", 2, 0o644)));
    assert_eq!(problems(&actions, "d"), (1, 0));
    for second in 2..200 {
        actions.extend(engine.handle(at(second * SECOND), Event::Tick));
    }
    assert_eq!((installs(&actions), inspections(&actions).len()), (0, 0));
    // Looks at it that find it there still change nothing.
    let again = [Event::Hint { path: path("d"), hint: Hint::Closed }, Event::Tick];
    let again = again.into_iter().flat_map(|event| engine.handle(at(200 * SECOND), event)).collect::<Vec<_>>();
    let again = [again, engine.handle(at(201 * SECOND), Event::Tick)].concat();
    assert_eq!(inspections(&again).len(), 1);
    let still = inspected(&mut engine, 201 * SECOND, "d", Observed::Special { what: "fifo" });
    assert_eq!((problems(&still, "d"), installs(&still)), ((0, 0), 0));
    engine.handle(at(202 * SECOND), Event::Hint { path: path("d"), hint: Hint::Gone });
    engine.handle(at(203 * SECOND), Event::Tick);
    let gone = inspected(&mut engine, 203 * SECOND, "d", Observed::Absent);
    assert_eq!((installs(&gone), problems(&gone, "d")), (1, (0, 0)));
    let outcome = Outcome::Done { stat: Some(stat(&folder, 203 * SECOND)), kept: None };
    let done = engine.handle(at(204 * SECOND), Event::Installed { job: install_job(&gone), outcome });
    assert_eq!(problems(&done, "d"), (0, 1));
    assert_eq!(installs(&engine.handle(at(204 * SECOND), Event::Tick)), 1, "what is in it follows");
}

#[test]
fn a_folder_that_was_deleted_elsewhere_and_holds_a_fifo_stays_without_a_try_until_that_is_gone() {
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[("d", row(&folder, &folder))], Trust::Known);
    let walk = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    let known = engine.core.index.get(&path("d")).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat)).unwrap();
    let fifo = Stat { kind: StatKind::Other, ..stat(&entry("", 1, 0o644), 1) };
    let found = vec![(path("d"), known), (path("d/fifo"), fifo)];
    engine.handle(at(1), Event::Listed { walk, found });
    engine.handle(at(1), Event::Walked { walk, unread: Vec::new() });
    engine.handle(at(1), Event::Root(RootState::Fine));
    let deletion = Entry { kind: Kind::Deleted { at: 0 }, ..entry("", 9, 0) };
    let mut actions = receive(&mut engine, SECOND, "d", &deletion);
    for second in 2..200 {
        actions.extend(engine.handle(at(second * SECOND), Event::Tick));
    }
    assert_eq!((installs(&actions), problems(&actions, "d")), (0, (1, 0)));
    assert_eq!(engine.status().condition.missing, 0, "it is left alone, and keeps nobody from being done");
    engine.handle(at(200 * SECOND), Event::Hint { path: path("d/fifo"), hint: Hint::Gone });
    engine.handle(at(201 * SECOND), Event::Tick);
    assert_eq!(installs(&inspected(&mut engine, 201 * SECOND, "d/fifo", Observed::Absent)), 1);
}

#[test]
fn a_folder_that_was_to_make_room_and_was_then_deleted_stays_for_a_fifo_and_keeps_nobody_from_being_done() {
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[("d", row(&folder, &folder))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(1), Event::Hint { path: path("d/fifo"), hint: Hint::Closed });
    engine.handle(at(SECOND), Event::Tick);
    inspected(&mut engine, SECOND, "d/fifo", Observed::Special { what: "fifo" });
    let file = receive(&mut engine, 2 * SECOND, "d", &entry("", WALL, 0o644));
    assert_eq!((installs(&file), problems(&file, "d")), (0, (1, 0)));
    assert_eq!(engine.condition().problems, 1);
    let deletion = Entry { kind: Kind::Deleted { at: 0 }, ..entry("", WALL + 9, 0) };
    let deleted = receive(&mut engine, 3 * SECOND, "d", &deletion);
    assert_eq!((installs(&deleted), problems(&deleted, "d")), (0, (1, 0)));
    let status = engine.status();
    assert_eq!((status.condition.problems, status.condition.missing, status.problems.len()), (0, 0, 1));
}

#[test]
fn what_a_fifo_kept_away_comes_when_the_folder_that_holds_it_is_renamed() {
    let dir = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[("d", row(&dir, &dir))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(1), Event::Hint { path: path("d/f"), hint: Hint::Closed });
    engine.handle(at(SECOND), Event::Tick);
    inspected(&mut engine, SECOND, "d/f", Observed::Special { what: "fifo" });
    let mut actions = receive(&mut engine, 2 * SECOND, "d/f", &entry("", WALL, 0o644));
    assert_eq!((installs(&actions), problems(&actions, "d/f")), (0, (1, 0)));
    // The user's `mv d e` takes the fifo along.
    engine.handle(at(3 * SECOND), Event::Hint { path: path("d"), hint: Hint::Gone });
    engine.handle(at(4 * SECOND), Event::Tick);
    actions = inspected(&mut engine, 4 * SECOND, "d", Observed::Absent);
    for second in 5..30 {
        actions.extend(engine.handle(at(second * SECOND), Event::Root(RootState::Fine)));
        actions.extend(engine.handle(at(second * SECOND), Event::Tick));
    }
    assert!(engine.observe.left_alone_count() == 0);
    assert!(installs(&actions) > 0, "what waited goes on: {actions:?}");
}

#[test]
fn a_walk_that_does_not_come_by_a_fifo_any_more_lets_what_waited_for_it_come() {
    let mut engine = engine(&[], Trust::Known);
    let walk = walks(&engine.handle(at(0), Event::IgnoreRead(None)))[0];
    let fifo = Stat { kind: StatKind::Other, ..stat(&entry("", 1, 0o644), 1) };
    let listed = |walk, found| [Event::Listed { walk, found }, Event::Walked { walk, unread: Vec::new() }];
    let end = |engine: &mut Engine<MapIndex>, mono, events: [Event; 2]| {
        let events = events.into_iter().chain([Event::Root(RootState::Fine), Event::Tick]);
        events.flat_map(|event| engine.handle(at(mono), event)).collect::<Vec<_>>()
    };
    end(&mut engine, 1, listed(walk, vec![(path("f"), fifo)]));
    let received = receive(&mut engine, 2, "f", &entry("", 2, 0o644));
    assert_eq!((installs(&received), problems(&received, "f")), (0, (1, 0)));
    let walk = walks(&engine.handle(at(3), Event::Overflow))[0];
    assert_eq!(installs(&end(&mut engine, 4, listed(walk, vec![(path("f"), fifo)]))), 0);
    let walk = walks(&engine.handle(at(5), Event::Overflow))[0];
    assert_eq!(installs(&end(&mut engine, 6, listed(walk, Vec::new()))), 1);
}

#[test]
fn an_edit_made_while_the_daemon_slept_is_as_old_as_its_ctime() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    engine.handle(at(SECOND), Event::Tick);
    // Asleep for 100 s; the two files are heard of after it. The one was made in the middle, the
    // other came in an older folder.
    let wakes = 101 * SECOND;
    for (name, changed) in [("made", 50 * SECOND), ("moved", 0)] {
        engine.handle(at(wakes), Event::Hint { path: path(name), hint: Hint::Closed });
        engine.handle(at(wakes + SECOND), Event::Tick);
        let mut observed = seen(&entry(name, 1, 0o644), 1);
        if let Observed::File { stat, .. } = &mut observed {
            (stat.mtime, stat.ctime) = (time(WALL - 1000 * SECOND + changed), time(WALL - SECOND + changed));
        }
        inspected(&mut engine, wakes + SECOND, name, observed);
    }
    let stamp = |name| winner(&engine, name).version.stamp;
    assert_eq!(stamp("made"), WALL + 49 * SECOND);
    assert!(stamp("moved") >= WALL + wakes, "{}", stamp("moved"));
}

/// A small file that cannot be put in its place for this reason: how often it is asked for in a
/// day.
fn asked_in_a_day(cause: Cause) -> usize {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let mut asked = 0;
    let mut actions = receive(&mut engine, 1, "f", &entry("text", 2, 0o644));
    for second in 1..24 * 3600 {
        for id in gets(&actions) {
            asked += 1;
            let contents = vec![(id, Some(bytes::Bytes::from_static(b"text")))];
            let message = Message::Contents { contents };
            engine.handle(at(second * SECOND), Event::Message { link: LINK, message, wire_bytes: 4 });
            let job = install_job(&engine.handle(at(second * SECOND), Event::Tick));
            let trouble = Trouble { cause, text: "it cannot be put there".to_owned() };
            engine.handle(at(second * SECOND), Event::Installed { job, outcome: Outcome::Failed(trouble) });
        }
        actions = engine.handle(at(second * SECOND), Event::Tick);
        let inspected_paths = inspections(&actions);
        if !inspected_paths.is_empty() {
            actions.extend(inspected(&mut engine, second * SECOND, "f", Observed::Absent));
            actions.extend(engine.handle(at(second * SECOND), Event::Tick));
        }
    }
    asked
}

#[test]
fn a_small_file_that_cannot_be_put_in_its_place_is_asked_for_ever_more_rarely() {
    let (denied, full) = (asked_in_a_day(Cause::Denied), asked_in_a_day(Cause::NoSpace));
    assert!((11..=80).contains(&denied), "{denied} times");
    assert!(full > 1000, "room may come at any moment: {full} times");
}

#[test]
fn what_could_not_be_put_into_a_folder_is_tried_again_when_that_changes() {
    let folder = Entry { kind: Kind::Directory, ..entry("", 1, 0o755) };
    let mut engine = engine(&[("d", row(&folder, &folder))], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let job = install_job(&receive(&mut engine, 1, "d/f", &entry("", 2, 0o644)));
    let trouble = Trouble { cause: Cause::Denied, text: "it may not be written".to_owned() };
    engine.handle(at(2), Event::Installed { job, outcome: Outcome::Failed(trouble) });
    engine.transfer.forget_retries();
    engine.handle(at(SECOND), Event::Hint { path: path("d"), hint: Hint::Changed });
    assert_eq!(inspections(&engine.handle(at(2 * SECOND), Event::Tick)), [("d".to_owned(), false)]);
    let opened = Stat { mode: Mode(0o777), ..stat(&folder, 2 * SECOND) };
    assert_eq!(installs(&inspected(&mut engine, 2 * SECOND, "d", Observed::Directory { stat: opened })), 1);
}
