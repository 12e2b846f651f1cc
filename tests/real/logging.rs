//! What a person reads: the log, and why a path is as it is.

use crate::common::lan::Lan;
use crate::common::machine::find_line;
use crate::common::machine::wait_linked;
use crate::common::{Group, Machine, PATIENCE, eventually, is_root, start_all, wait_equal, write};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Waits until `why` says this state of the path.
fn wait_why(machine: &Machine, path: &str, state: &str) -> Value {
    eventually(&format!("{path} is {state} at {}", machine.name), PATIENCE, || {
        let view = machine.json(&["why", path])?;
        if view["state"] == state { Ok(view) } else { Err(view.to_string()) }
    })
}

#[test]
fn why_tells_each_state_of_a_path() {
    let (a, b) = Group::new().pair();
    write(a.at("d/f"), "content");
    write(a.at(".dirsyncignore"), "*.log\n/tmp/\n");
    wait_equal(&[&a, &b], PATIENCE);
    a.wait_idle();
    let synced = wait_why(&a, "d/f", "synced");
    assert_eq!((&synced["holders"][0], &synced["machine"]), (&"b".into(), &"a".into()), "{synced}");
    assert_eq!(synced["entry"]["size"], 7);

    write(a.at("tmp/x"), "x");
    let ignored = wait_why(&a, "tmp/x", "ignored");
    let rule = &ignored["ignored"];
    assert_eq!((&rule["file"], &rule["line"]), (&".dirsyncignore".into(), &2.into()), "{ignored}");
    assert_eq!((&rule["pattern"], &rule["matched"]), (&"/tmp/".into(), &"tmp".into()), "{ignored}");

    b.json(&["pause"]).unwrap();
    write(a.at("later"), "later");
    let pending = wait_why(&b, "later", "pending");
    assert!(pending["waits_for"].as_str().is_some_and(|text| text.contains("dirsync resume")), "{pending}");
    b.json(&["resume"]).unwrap();
    wait_why(&b, "later", "synced");

    fs::remove_file(a.at("d/f")).unwrap();
    let gone = wait_why(&b, "d/f", "not_there");
    assert!(gone["text"].as_str().is_some_and(|text| text.contains("deleted by a")), "{gone}");
    assert_eq!(wait_why(&a, "never", "not_there")["entry"], Value::Null);
}

/// A machine that is paused is told of changes and has them only once it goes on.
#[test]
fn sent_is_said_once_the_peer_has_it() {
    let (a, b) = Group::new().pair();
    write(a.at("old"), "old");
    a.wait_log(&["sent 'old' to b (3 B, "]);
    b.json(&["pause"]).unwrap();
    write(a.at("late"), "late");
    fs::remove_file(a.at("old")).unwrap();
    wait_why(&b, "late", "pending");
    wait_why(&b, "old", "pending");
    let log = a.log();
    assert_eq!(find_line(&log, &["sent", "late"]).or_else(|| find_line(&log, &["sent the deletion"])), None, "{log}");
    b.json(&["resume"]).unwrap();
    a.wait_log(&["sent 'late' to b (4 B, "]);
    a.wait_log(&["sent the deletion of 'old' to b ("]);
    let lines = a.json(&["log", "late"]).unwrap();
    let line = &lines["lines"][0];
    assert_eq!((&line["kind"], &line["peer"], &line["size"]), (&"sent".into(), &"b".into(), &4.into()), "{lines}");
    assert_eq!(lines["lines"].as_array().map(Vec::len), Some(1), "one line: {lines}");
}

#[test]
fn a_kill_is_called_a_kill_and_a_clean_stop_is_not_mentioned() {
    let a = Group::new().machine("a");
    a.start();
    write(a.at("f"), "content");
    a.wait_own_idle();
    a.restart();
    assert_eq!(find_line(&a.log(), &["the last run was killed"]), None, "{}", a.log());
    a.kill();
    a.start();
    a.wait_log(&["the last run was killed or failed"]);
    assert_eq!(find_line(&a.log(), &["lost power"]), None, "{}", a.log());
}

#[test]
fn a_deletion_that_lost_to_an_edit_is_named_with_both_machines() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "content");
    wait_equal(&[&a, &b], PATIENCE);
    b.stop();
    write(b.at("f"), "edited meanwhile");
    fs::remove_file(a.at("f")).unwrap();
    wait_why(&a, "f", "not_there");
    b.start();
    a.wait_log(&["'f' is back: b changed it while a deleted it"]);
    wait_equal(&[&a, &b], PATIENCE);
    assert_eq!(fs::read_to_string(a.at("f")).unwrap(), "edited meanwhile");
}

#[test]
fn a_cable_that_is_out_is_named_and_so_is_its_return() {
    if !is_root("a_cable_that_is_out_is_named_and_so_is_its_return") {
        return;
    }
    let lan = Lan::new(2);
    let group = Group::new();
    let (a, b) = (lan.machine(&group, "a", 1), lan.machine(&group, "b", 2));
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    lan.cut(1);
    a.wait_log(&["this machine has no network"]);
    write(a.at("meanwhile"), "content");
    lan.mend(1);
    a.wait_log(&["the network is back"]);
    wait_equal(&[&a, &b], PATIENCE);
    let lines = |words: &str| a.log().lines().filter(|line| line.contains(words)).count();
    assert_eq!([lines("has no network"), lines("network is back")], [1, 1], "{}", a.log());
}

#[test]
fn the_log_of_a_path_can_be_followed_and_goes_back_to_a_time() {
    let (a, b) = Group::new().pair();
    write(a.at("d/first"), "1");
    wait_equal(&[&a, &b], PATIENCE);
    let log = |words: &[&str]| b.json(&[&["log"], words].concat()).unwrap()["lines"].as_array().unwrap().clone();
    let line =
        eventually("the log of b knows the file", PATIENCE, || log(&["d/first"]).first().cloned().ok_or("no".into()));
    assert_eq!((&line["kind"], &line["peer"], &line["size"]), (&"received".into(), &"a".into(), &1.into()), "{line}");
    assert_eq!(line["path"], "d/first");
    assert!(log(&["other"]).is_empty());
    assert!(log(&["--since", "1h", "d"]).len() >= 2, "the folder and the file");
    assert!(log(&["--since", "2100-01-01", "d"]).is_empty());

    let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
    command.arg("-C").arg(&b.dir).args(["log", "-f", "-n", "1", "--json", "d/next"]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    write(a.at("d/else"), "2");
    write(a.at("d/next"), "22");
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let _ = follower.kill();
    let _ = follower.wait();
    assert!(line["text"].as_str().is_some_and(|text| text.contains("d/next")), "{line}");
}
