//! Tests of `sentence.rs`.

use super::*;
use crate::engine::Problem;
use crate::model::{ContentId, DeviceId, FileTime, Mode, Version, VersionVector};

fn entry(kind: Kind) -> Entry {
    let version =
        Version { stamp: 1_700_000_000_000_000_000, author: DeviceId([1; 32]), seen: VersionVector::default() };
    Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
}

#[test]
fn each_report_reads_as_a_sentence() {
    let path = || SyncPath::new("a\nb").unwrap();
    let file = entry(Kind::File { size: 2048, content: ContentId::of(b"") });
    let gone = entry(Kind::Deleted { at: 0 });
    let received = |entry: &Entry, wire_bytes| Report::Received {
        path: path(),
        entry: entry.clone(),
        was: None,
        from: "beta".into(),
        wire_bytes,
        took_ns: 12_000_000,
        was_there: false,
    };
    let set = |entry: &Entry| match received(entry, 0) {
        Report::Received { path, entry, was, from, wire_bytes, took_ns, .. } => {
            Report::Received { path, entry, was, from, wire_bytes, took_ns, was_there: true }
        }
        other => other,
    };
    let (folder, link) = (entry(Kind::Directory), entry(Kind::Symlink { target: b"x".to_vec() }));
    let to = |to: &[&str]| to.iter().map(ToString::to_string).collect::<Vec<_>>();
    let sent = |entry: &Entry, names: &[&str]| {
        let (path, entry, was, to) = (path(), entry.clone(), None, to(names));
        Report::Sent { path, entry, was, to, took_ns: 9_000_000 }
    };
    let announced =
        |entry: &Entry| Report::Announced { path: path(), entry: entry.clone(), was: None, to: to(&["beta"]) };
    let conflict = Report::Conflict {
        path: path(),
        winner: file.clone(),
        winner_name: "beta".into(),
        loser: file.clone(),
        loser_name: "al\u{9b}pha".into(),
        kept: Some("kept".into()),
        beside: Some(SyncPath::new("beside").unwrap()),
    };
    let chmod = |entry: &Entry| Report::Sent {
        path: path(),
        entry: entry.clone(),
        was: Some(entry.kind.clone()),
        to: vec!["beta".into()],
        took_ns: 9_000_000,
    };
    let table = [
        (chmod(&folder), "sent the permissions of the folder 'a\\x0ab' to beta (9 ms)"),
        (chmod(&file), "sent the permissions and the time of 'a\\x0ab' to beta (9 ms)"),
        (Report::Paused { paused: true }, "paused: nothing is sent or received until 'dirsync resume'"),
        (
            Report::DeletionLost { path: path(), deleter: "beta".into(), editor: "gamma".into() },
            "'a\\x0ab' is back: gamma changed it while beta deleted it, and the change outlives the deletion",
        ),
        (received(&file, 700), "received 'a\\x0ab' from beta (2.0 KiB, 700 B on the wire, 12 ms)"),
        (received(&file, 0), "received 'a\\x0ab' from beta (2.0 KiB, its content was here already, 12 ms)"),
        (set(&file), "set the permissions and the time of 'a\\x0ab', announced by beta"),
        (received(&folder, 0), "made the folder 'a\\x0ab', announced by beta"),
        (set(&folder), "set the permissions of the folder 'a\\x0ab', announced by beta"),
        (set(&link), "set the time of the link 'a\\x0ab', announced by beta"),
        (received(&gone, 50), "deleted 'a\\x0ab', announced by beta; a file's content stays in history"),
        (sent(&file, &["beta", "gamma"]), "sent 'a\\x0ab' to beta and gamma (2.0 KiB, 9 ms)"),
        (sent(&folder, &["beta"]), "sent the folder 'a\\x0ab' to beta (9 ms)"),
        (sent(&gone, &["beta"]), "sent the deletion of 'a\\x0ab' to beta (9 ms)"),
        (announced(&file), "announced 'a\\x0ab' to beta (2.0 KiB)"),
        (announced(&gone), "announced the deletion of 'a\\x0ab' to beta"),
        (
            conflict,
            "conflict at 'a\\x0ab': the file of beta (2.0 KiB), changed 2023-11-14T22:13:20Z won over the file of \
             al\\xc2\\x9bpha (2.0 KiB), changed 2023-11-14T22:13:20Z, which is kept in history as 'kept' and kept \
             beside it as 'beside' (dirsync conflicts)",
        ),
        (
            Report::Problem { path: Some(path()), problem: Problem::NameRefused },
            "'a\\x0ab' needs attention: something is here by another spelling of its name, and this folder's file \
             system takes both for one; rename one of them",
        ),
        (Report::Solved { path: None }, "the folder is fine again"),
        (
            Report::Scanned { paths: 50_000, changed: 10, took_ns: 1_240_000_000 },
            "scanned 50,000 paths in 1.2 s; 10 had changed",
        ),
        (Report::InSync { peer: "beta".into(), paths: 1 }, "in sync with beta (1 path)"),
        (Report::Syncing { peer: "beta".into(), phase: SyncPhase::Comparing }, "comparing with beta"),
        (Report::Syncing { peer: "beta".into(), phase: SyncPhase::Transferring }, "transferring with beta"),
        (Report::Syncing { peer: "beta".into(), phase: SyncPhase::Applying }, "putting in place what came from beta"),
        (Report::Syncing { peer: "beta".into(), phase: SyncPhase::Done }, "done with beta for now"),
        (
            Report::PeerStands {
                peer: "be\u{9b}ta".into(),
                condition: Condition { held_deletions: 200, problems: 3, ..Condition::default() },
            },
            "be\\xc2\\x9bta: holds 200 deletions; 3 files have problems",
        ),
        (
            Report::PeerStands { peer: "beta".into(), condition: Condition::default() },
            "beta: nothing keeps it from being done any more",
        ),
        (
            Report::Held { deletions: 90, of: 100 },
            "held back: 90 deletions of 100 files; if they are meant, run 'dirsync confirm', else 'dirsync undo'",
        ),
    ];
    for (report, text) in table {
        assert_eq!(line(&report).text, text);
    }
}
