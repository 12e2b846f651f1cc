//! What appears beside patterns that are being written.

use super::*;
use crate::engine::api::event::Hint;
use crate::engine::limits::MS;

const IGNORE: &str = ".dirsyncignore";

fn hint(engine: &mut Engine<MapIndex>, mono: u64, name: &str, hint: Hint) {
    engine.handle(at(mono), Event::Hint { path: path(name), hint });
}

fn folder() -> Observed {
    Observed::Directory { stat: Stat { kind: StatKind::Directory, size: 0, ..stat(&entry("", 1, 0o755), 1) } }
}

fn is_announced(engine: &Engine<MapIndex>, name: &str) -> bool {
    engine.index().get(&path(name)).is_some()
}

/// The folder's hint comes while the patterns are written (`false`), or while they are read
/// (`true`).
#[rstest]
#[case::while_they_are_written(false)]
#[case::while_they_are_read(true)]
fn a_new_folder_waits_until_the_patterns_beside_it_are_known(#[case] is_read: bool) {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    hint(&mut engine, MS, IGNORE, Hint::Changed);
    if is_read {
        engine.handle(at(101 * MS), Event::Tick);
        let actions = inspected(&mut engine, 101 * MS, IGNORE, seen(&entry("target/\n", 1, 0o644), 1));
        assert!(actions.contains(&Action::ReadIgnore), "{actions:?}");
    }
    hint(&mut engine, 101 * MS, "target", Hint::Closed);
    hint(&mut engine, 101 * MS, "src", Hint::Closed);
    let actions = engine.handle(at(103 * MS), Event::Tick);
    assert!(inspections(&actions).contains(&("target".to_owned(), false)), "{actions:?}");
    for name in ["target", "src"] {
        let actions = inspected(&mut engine, 103 * MS, name, folder());
        assert!(!is_announced(&engine, name) && walks(&actions).is_empty(), "{name} waits: {actions:?}");
    }
    if !is_read {
        engine.handle(at(101 * MS), Event::Tick);
        inspected(&mut engine, 104 * MS, IGNORE, seen(&entry("target/\n", 1, 0o644), 1));
    }
    engine.handle(at(104 * MS), Event::IgnoreRead(Some(b"target/\n".to_vec())));
    let actions = engine.handle(at(110 * MS), Event::Tick);
    let asked: Vec<_> = inspections(&actions).into_iter().map(|(name, _)| name).filter(|name| name != IGNORE).collect();
    for name in &asked {
        inspected(&mut engine, 110 * MS, name, folder());
    }
    assert!(is_announced(&engine, "src"), "it is covered by nothing: {asked:?}");
    assert!(!is_announced(&engine, "target"), "patterns cover it");
}

#[test]
fn patterns_that_do_not_come_to_rest_are_not_waited_for() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    hint(&mut engine, MS, "src", Hint::Closed);
    let mut now = 2 * MS;
    while !is_announced(&engine, "src") {
        assert!(now <= 2_100 * MS, "it waits for ever");
        hint(&mut engine, now, IGNORE, Hint::Changed);
        let actions = engine.handle(at(now), Event::Tick);
        if inspections(&actions).iter().any(|(name, _)| name == "src") {
            inspected(&mut engine, now, "src", folder());
        }
        now += 5 * MS;
    }
    assert!(now > 2_000 * MS, "it waited {} ms", now / MS);
}

#[test]
fn a_scan_that_is_asked_for_enters_no_folder_that_patterns_cover() {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(Some(b"target/\n".to_vec())));
    let mut scans = |name: &str| walks(&engine.handle(at(1), Event::Scan(Some(path(name))))).len();
    assert_eq!((scans("target"), scans("target/debug"), scans("src")), (0, 0, 1));
}
