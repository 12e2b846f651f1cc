//! Tests of `cli/folders.rs`.

use super::*;
use crate::wire::condition::Condition;
use serde_json::{Value, json};

fn status(change: &Value) -> Box<StatusView> {
    let mut status = json!({
        "version": "0.1.0", "directory": "/srv/a\\x1b", "state_dir": "/s", "device": "00".repeat(32), "name": "alpha",
        "listen_port": 6000, "broadcast_port": 5000, "idle": true, "scanning": false, "paused": false, "halted": null,
        "held_deletions": 0, "held_reverts": 0, "held_unignored": 0, "files": 1200, "directories": 1, "symlinks": 0,
        "deleted": 0, "bytes": 2048, "pending": 0, "transfers": [], "queued_files": 0, "queued_bytes": 0,
        "peers": [], "problems": [], "under_way": [], "devices": []
    });
    for (name, value) in change.as_object().unwrap() {
        status[name] = value.clone();
    }
    Box::new(serde_json::from_value(status).unwrap())
}

fn peer(in_sync: bool) -> Value {
    json!({
        "device": "11".repeat(32), "name": "beta", "in_sync": in_sync, "state": "scanning", "pending": 0, "address": "x",
        "sent_bytes": 0, "received_bytes": 0, "clock_ahead_ns": null
    })
}

fn running(change: &Value) -> SurveyedFolder {
    let status = status(change);
    let (directory, state_dir) = (Some(status.directory.clone()), Some(status.state_dir.clone()));
    SurveyedFolder { directory, pid: Some(7), uid: Some(1000), state_dir, answer: FolderAnswer::Status(status) }
}

fn absent(name: &str, answer: FolderAnswer) -> SurveyedFolder {
    let (directory, state_dir) = (Some(name.to_owned()), Some("/s/x".to_owned()));
    SurveyedFolder { directory, pid: None, uid: None, state_dir, answer }
}

fn not_running() -> FolderAnswer {
    FolderAnswer::Absent(AbsenceKind::NotRunning { start: "dirsyncd '/srv/b'".to_owned() })
}

#[test]
fn a_state_names_what_a_person_must_know_first() {
    let held = Condition { held_deletions: 3, ..Condition::default() };
    for (change, word, text) in [
        (json!({ "peers": [peer(true)] }), "in_sync", "in sync"),
        (json!({}), "alone", "idle, no machine linked"),
        (json!({ "peers": [peer(false)] }), "syncing", "syncing, not in sync with beta (scanning)"),
        (json!({ "idle": false, "pending": 12 }), "syncing", "syncing, 12 paths to come"),
        (json!({ "idle": false }), "syncing", "syncing"),
        (json!({ "idle": false, "scanning": true, "pending": 1 }), "scanning", "scanning"),
        (json!({ "scanning": true, "condition": held }), "attention", "needs attention: holds 3 deletions"),
        (json!({ "paused": true, "condition": held }), "paused", "paused"),
        (json!({ "halted": "it is gone", "paused": true }), "stopped", "stopped: it is gone"),
    ] {
        assert_eq!(state_of(&status(&change)), (word, text.to_owned()), "{change}");
    }
}

#[test]
fn folders_are_a_line_each_and_one_whose_state_alone_is_left_is_shown_when_asked_for() {
    let silent =
        SurveyedFolder { directory: None, pid: Some(9), ..absent("", FolderAnswer::Silent("it hangs".to_owned())) };
    let folders = vec![running(&json!({ "peers": [peer(true)] })), silent, absent("/srv/b", not_running())];
    let folders = folders.into_iter().chain([absent("/srv/gone", FolderAnswer::Gone)]).collect();
    let survey = FolderSurvey { folders, unasked: 1 };
    insta::assert_snapshot!(super::folders(&view(&survey, false), false), @r"
    /srv/a\x1b                      1,200 files (2.0 KiB)  1 peer linked  port 6000  pid 7  in sync
    (a folder that cannot be seen)                                                   pid 9  it hangs
    /srv/b                                                                                  not running; start it with: dirsyncd '/srv/b'
    1 daemon is another user's; root is shown all of them
    ");
    let all = super::folders(&view(&survey, true), true);
    assert!(all.contains("/srv/gone") && all.contains("only its state is kept") && all.contains("  user "), "{all}");
    let nothing = super::folders(&view(&FolderSurvey::default(), true), false);
    assert_eq!(nothing, "no folder of yours is synced here; begin with: dirsyncd DIR\n");
}

#[test]
fn users_have_names_where_the_machine_knows_them() {
    let users = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\nbroken\n";
    assert_eq!([0, 1000, 7].map(|uid| user_name(uid, users)), ["root", "anna", "7"]);
}

#[test]
fn one_who_stands_in_no_synced_folder_is_told_which_there_are() {
    let survey = |names: &[&str]| {
        let folders = names.iter().map(|name| absent(name, not_running())).chain([absent("/x", FolderAnswer::Gone)]);
        FolderSurvey { folders: folders.collect(), unasked: 0 }
    };
    for (names, says) in [
        (&[][..], "a new one begins with: dirsyncd DIR"),
        (&["/a"], "run it in '/a', or give -C DIR"),
        (&["/a", "/b"], "run it in one of '/a', '/b', or give -C DIR; 'dirsync folders' lists them"),
        (&["/a", "/b", "/c", "/d", "/e", "/f", "/g"], "'/e' and 2 more, or give"),
    ] {
        assert!(way_out(&survey(names)).contains(says), "{}", way_out(&survey(names)));
    }
}
