//! Tests of `ledger.rs`.

use super::*;
use crate::engine::api::map_index::MapIndex;

const NOW: u64 = 100 * HOUR_NS;

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn span(text: &str, until: u64) -> HeldSpan {
    let (content, mtime) = (ContentId::of(text.as_bytes()), FileTime { secs: 9, nanos: 0 });
    let last = Thing { kind: Kind::File { size: 10, content }, mode: Mode(0o644), mtime };
    HeldSpan { content: Some(content), size: 10, mtime, since: 0, until, last }
}

fn sum(files: u64) -> FileSum {
    FileSum { files, bytes: files * 10 }
}

#[test]
fn the_total_is_what_was_live_an_hour_ago() {
    let mut ledger = Ledger::default();
    for n in 0..10 {
        ledger.came(NOW, if n < 6 { 0 } else { NOW - 60 * MINUTE_NS + n * MINUTE_NS }, 10);
    }
    assert_eq!(ledger.total(), sum(6), "four are younger");
    // One that counts goes, and so does a young one.
    ledger.went(0, 10);
    ledger.note(&path("gone"), span("gone", NOW), Fate::Lost);
    ledger.went(NOW - 51 * MINUTE_NS, 10);
    assert_eq!((ledger.total(), ledger.sum(Fate::Lost)), (sum(6), sum(1)));
    ledger.pass(NOW + HOUR_NS, false);
    assert_eq!((ledger.total(), ledger.sum(Fate::Lost)), (sum(8), sum(0)), "an hour later");
}

#[test]
fn what_is_found_again_was_not_lost_and_what_came_back_to_its_path_is_rewritten() {
    let mut ledger = Ledger::default();
    for name in ["moved", "rewritten", "lost"] {
        ledger.note(&path(name), span(name, NOW), Fate::Lost);
    }
    ledger.found(ContentId::of(b"moved"));
    ledger.judge(&path("rewritten"), Fate::Rewritten);
    assert_eq!((ledger.sum(Fate::Lost), ledger.sum(Fate::Rewritten)), (sum(1), sum(1)));
    assert_eq!(ledger.total(), sum(2));
    assert_eq!((ledger.since_of(ContentId::of(b"lost")), ledger.since_of(ContentId::of(b"moved"))), (Some(0), None));
}

#[test]
fn a_decision_makes_what_is_live_the_total_and_what_is_held_does_not_pass_with_time() {
    let mut ledger = Ledger::default();
    ledger.came(NOW, 0, 10);
    ledger.came(NOW, NOW - 1, 10);
    ledger.note(&path("lost"), span("lost", NOW), Fate::Lost);
    ledger.pass(NOW + 2 * HOUR_NS, true);
    assert_eq!(ledger.sum(Fate::Lost), sum(1));
    ledger.renew(NOW + 5);
    assert_eq!((ledger.sum(Fate::Lost), ledger.total()), (sum(0), sum(2)), "the young one counts from now on");
    assert_eq!(ledger.then(NOW + 6), NOW + 5);
}

#[test]
fn a_restart_forgets_nothing_of_it() {
    let mut index = MapIndex::new();
    let mut ledger = Ledger::default();
    for n in 0..1000 {
        ledger.came(NOW, n * MINUTE_NS, 10);
        let fate = [Fate::Lost, Fate::Reverted, Fate::Rewritten][n as usize % 3];
        ledger.note(&path(&format!("f{n}")), span(&format!("f{n}"), NOW + n), fate);
    }
    ledger.store(&mut index, 0);
    ledger.found(ContentId::of(b"f77"));
    ledger.pass(NOW + HOUR_NS + 500, false);
    ledger.judge(&path("f900"), Fate::Lost);
    ledger.store(&mut index, 0);
    let again = Ledger::load(&index).unwrap();
    assert_eq!(again.total, ledger.total);
    assert_eq!(again.sums, ledger.sums);
    assert_eq!(again.by_seq, ledger.by_seq);
    assert_eq!(again.by_content, ledger.by_content);
    assert_eq!(again.get(&path("f900")).map(|(_, fate)| fate), Some(Fate::Lost));
}
