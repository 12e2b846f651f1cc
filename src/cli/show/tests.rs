//! Tests of `show.rs`.

use super::*;
use crate::model::DeviceId;
use crate::views::status::{TransferView, WatchesView};
use crate::views::status::{UnreachedView, UploadView};

pub(in crate::cli) fn peer(name: &str, state: &str) -> PeerView {
    PeerView {
        device: DeviceId([0xab; 32]),
        name: name.to_owned(),
        in_sync: state == "in sync",
        state: state.to_owned(),
        role: "both".to_owned(),
        condition: None,
        pending: 0,
        capability: "write".to_owned(),
        address: "10.0.0.2:6000".to_owned(),
        sent_bytes: 2048,
        received_bytes: 1,
        clock_ahead_ns: None,
        invalid: None,
        linked: true,
        software: "dirsyncd 1.2.0".to_owned(),
        round_trip_ms: Some(0.4),
        seen_ns: None,
        away_s: None,
        equal_ns: None,
        listed: None,
    }
}

pub(in crate::cli) fn idle() -> StatusView {
    StatusView {
        version: "0".into(),
        directory: "/srv/shared".into(),
        state_dir: "/state".into(),
        device: DeviceId([1; 32]),
        name: "alpha".into(),
        listen_port: 6000,
        broadcast_port: 5000,
        http: None,
        http_trouble: None,
        idle: true,
        scanning: false,
        paused: false,
        halted: None,
        condition: crate::wire::condition::Condition::default(),
        role: "both".to_owned(),
        local: Vec::new(),
        not_installed: Vec::new(),
        held_deletions: 0,
        held_reverts: 0,
        held_unignored: 0,
        files: 1834,
        directories: 1,
        symlinks: 0,
        deleted: 7,
        bytes: 7_549_747,
        pending: 0,
        peers: vec![peer("beta", "in sync"), peer("long-name", "12 paths to come")],
        lacks: Vec::new(),
        problems: Vec::new(),
        uploads: Vec::new(),
        peers_not_reached: Vec::new(),
        history_bytes: 0,
        history_limit_bytes: None,
        watches: WatchesView::default(),
        limit_bytes_a_second: None,
        disk_stalled_s: None,
        transfers: Vec::new(),
        queued_files: 0,
        queued_bytes: 0,
        under_way: Vec::new(),
        open_conflicts: 0,
        kept_folders: 0,
        left_alone: 0,
        ignored: 0,
        devices: Vec::new(),
        removed: Vec::new(),
        this_machine: None,
    }
}

#[test]
fn a_status_reads_at_a_glance() {
    let mut shown = idle();
    assert!(attention(&shown).is_empty());
    assert_eq!(
        status(&shown),
        "folder     /srv/shared\n\
         machine    alpha (01010101)\n\
         state      idle\n\
         holds      1,834 files (7.2 MiB), 1 folder\n\
         peers      beta       abababab  in sync           10.0.0.2:6000  sent 2.0 KiB, received 1 B\n\
         \x20          long-name  abababab  12 paths to come  10.0.0.2:6000  sent 2.0 KiB, received 1 B\n"
    );
    shown.transfers.push(TransferView {
        path: "movies/big".into(),
        from: vec!["beta".into(), "gamma".into()],
        bytes: 1 << 30,
        size: 4 << 30,
        bytes_a_second: 64 << 20,
        seconds_left: Some(75),
    });
    (shown.queued_files, shown.queued_bytes) = (2, 3 << 20);
    shown.under_way.push(PathNote { path: "movies/big".into(), text: "fetching".into() });
    let text = status(&shown);
    assert!(
        text.ends_with(
            "fetching   movies/big  1.0 GiB of 4.0 GiB (25 %)  64.0 MiB/s  1:15 min left  from beta, gamma\n\
             queued     2 files (3.0 MiB)\n"
        ),
        "{text}"
    );
    shown.peers.clear();
    shown.halted = Some("the folder is gone".into());
    shown.held_deletions = 5;
    shown.held_reverts = 6;
    let (device, name) = (DeviceId([2; 32]), "gamma".to_owned());
    let equal_ns = Some("1700000000000000000".to_owned());
    let seen_ns = Some("1700000000000000000".to_owned());
    shown.devices.push(DeviceView { device, name, linked: false, seen_ns, away_s: Some(12), equal_ns, listed: None });
    let unreached = ("nas:6000".to_owned(), "refused".to_owned(), "cannot be reached: refused".to_owned());
    let (address, reason, why) = unreached;
    shown.peers_not_reached.push(UnreachedView { address, reason, text: why });
    let (path, to) = ("movies/big".to_owned(), "beta".to_owned());
    shown.uploads.push(UploadView { path, to, bytes: 1 << 30, size: 4 << 30 });
    (shown.history_bytes, shown.history_limit_bytes) = (3 << 20, Some(5 << 20));
    (shown.open_conflicts, shown.left_alone, shown.ignored) = (2, 1, 30);
    let note = |n| PathNote { path: format!("p{n}"), text: "unreadable".into() };
    shown.problems = (0..12).map(note).collect();
    let text = status(&shown);
    for part in [
        "stopped: the folder is gone",
        "5 deletions",
        "6 returns",
        "gamma (02020202), last seen 12.0 s ago, last in sync 2023-11-1",
        "2 conflicts wait for a decision",
        "left alone 1 socket, fifo or device and 30 ignored paths",
        "not linked --peer nas:6000 cannot be reached: refused",
        "sending    movies/big  1.0 GiB of 4.0 GiB (25 %)  to beta",
        "history    3.0 MiB of at most 5.0 MiB",
        "none linked",
        "problems   p0: unreadable",
        "and 2 more",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn whatever_waits_for_a_person_needs_attention_and_what_ends_by_itself_does_not() {
    let clear = crate::wire::condition::Condition::default();
    let mut shown = idle();
    shown.condition = crate::wire::condition::Condition { scanning: true, missing: 3, ..clear };
    shown.peers[0].condition = Some(shown.condition);
    (shown.left_alone, shown.ignored) = (1, 1);
    assert!(attention(&shown).is_empty(), "{:?}", attention(&shown));
    shown.condition = crate::wire::condition::Condition { problems: 2, ..clear };
    shown.peers[0].condition = Some(crate::wire::condition::Condition { paused: true, ..clear });
    shown.open_conflicts = 1;
    assert_eq!(attention(&shown), ["2 files have problems", "1 open conflict", "beta: paused"]);
}

#[test]
fn history_shows_times_that_restore_takes() {
    let kept = KeptView {
        path: "f".into(),
        time_ns: "1700000000123456789".into(),
        reason: "replaced".into(),
        size: 10,
        name: "x".into(),
        machines: Vec::new(),
    };
    let elsewhere = KeptView { name: String::new(), machines: vec!["beta".into(), "gamma".into()], ..kept.clone() };
    let view = HistoryView { kept: vec![elsewhere], next: None, silent: vec!["delta".into()] };
    let text = history(&view, 7);
    assert!(text.contains("  beta, gamma  f\nand 7 more\ndelta did not say"), "{text}");
    let back = |list: &[KeptView]| {
        let text = history(&HistoryView { kept: list.to_vec(), next: None, silent: Vec::new() }, 0);
        let shown = text.lines().map(|line| line.split("  ").next().unwrap());
        let times: Vec<_> = shown.map(|shown| super::super::when::parse(shown, &jiff::Zoned::now()).unwrap()).collect();
        times
    };
    let later = KeptView { time_ns: "1700000000999999999".into(), ..kept.clone() };
    assert_eq!(back(&[later, kept.clone()]), [1_700_000_000_999_000_000, 1_700_000_000_123_000_000]);
    let twin = KeptView { time_ns: "1700000000123456790".into(), ..kept.clone() };
    assert_eq!(back(&[twin, kept]), [1_700_000_000_123_456_790, 1_700_000_000_123_456_789]);
}

#[test]
fn a_conflict_shows_both_versions_and_what_to_do() {
    let side = |version: &str, machine: &str| SideView {
        version: version.into(),
        kind: "file".into(),
        size: 2048,
        stamp_ns: "1".into(),
        author: DeviceId([1; 32]),
        machine: machine.into(),
        content: None,
    };
    let conflict = ConflictView {
        id: 1,
        path: "d/f".into(),
        time_ns: "1700000000123456789".into(),
        winner: side("v2", "beta"),
        loser: side("v1", "alpha"),
        ours: Some("loser".into()),
        kept: Some("x".into()),
        beside: Some("d/f.copy".into()),
        settled: None,
    };
    let elsewhere = ConflictView { ours: None, kept: None, beside: None, ..conflict.clone() };
    let text = conflicts(&[conflict]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("d/f  ("), "{text}");
    assert_eq!(lines[1], "  theirs won  v2  beta   file  2.0 KiB");
    assert_eq!(lines[2], "  ours lost   v1  alpha  file  2.0 KiB  kept in history and as 'd/f.copy'");
    assert!(lines[3].contains("winner|loser|MACHINE|VERSION"));
    let text = conflicts(&[elsewhere]);
    assert_eq!(text.lines().nth(2), Some("  lost  v1  alpha  file  2.0 KiB"), "{text}");
    assert!(conflicts(&[]).contains("no conflict"));
}

#[test]
fn a_status_names_the_role_and_the_first_of_what_it_keeps_apart() {
    let change = |path: &str| LocalPathView { path: path.to_owned(), change: "edited".to_owned() };
    let mut shown = idle();
    assert!(!status(&shown).contains("role"));
    shown.role = "receive-only".to_owned();
    (shown.local, shown.condition.local) = (vec![change("a"), change("b")], 7);
    let text = status(&shown);
    assert!(text.contains("role       receive-only\n"), "{text}");
    assert!(text.contains("local      7 changes announced to nobody: 'a', 'b', ... (dirsync local)\n"), "{text}");
    assert!(attention(&shown).is_empty());
    (shown.not_installed, shown.condition.not_installed) = (vec![change("c")], 1);
    assert!(status(&shown).contains("1 change of others not installed: 'c' (dirsync local)\n"));
}
