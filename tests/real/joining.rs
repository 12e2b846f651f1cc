//! From nothing to machines in sync: by an invitation, without a file that is copied.

use crate::common::disk::{path_text, set_mtime};
use crate::common::lan::Lan;
use crate::common::machine::wait_linked;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, read, remove, write};
use serde_json::Value;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

/// A machine without a secret, as a person starts one.
fn new_machine(group: &Group, name: &str) -> Machine {
    without_secret(group.machine(name))
}

fn without_secret(mut machine: Machine) -> Machine {
    machine.names_secret = false;
    machine
}

fn invite(machine: &Machine, options: &[&str]) -> Value {
    machine.json(&[&["invite"], options].concat()).expect("an invitation")
}

fn code(machine: &Machine, options: &[&str]) -> String {
    invite(machine, options)["code"].as_str().expect("a code").to_owned()
}

fn joins(mut machine: Machine, code: &str) -> Machine {
    machine.options = vec!["--join".to_owned(), code.to_owned()];
    machine
}

fn secret(machine: &Machine) -> String {
    String::from_utf8(read(machine.state.join("secret"))).expect("digits")
}

#[test]
fn three_machines_come_from_nothing_to_the_same_folder_with_one_command_each() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    write(first.at("of-the-first"), "1");
    first.start();
    let invited = invite(&first, &["--uses", "2"]);
    let (code, command) = (invited["code"].as_str().expect("a code"), invited["command"].as_str().expect("a command"));
    assert!(command.starts_with("dirsyncd DIR ") && command.ends_with(&format!(" --join {code}")), "{command}");
    // As a person types it.
    let second = joins(new_machine(&group, "second"), &code.to_lowercase().replace('-', " "));
    write(second.at("of-the-second"), "2");
    second.start();
    let third = joins(new_machine(&group, "third"), code);
    third.start();
    wait_linked(&[&first, &second, &third]);
    let tree = converge(&[&first, &second, &third]);
    assert!(tree.has("of-the-first") && tree.has("of-the-second"));
    assert_eq!((secret(&second), secret(&third)), (secret(&first), secret(&first)));
    first.wait_log(&["second", "has joined by an invitation"]);
    // A unit that still has --join in it.
    second.restart();
    second.wait_log(&["--join is ignored", "first"]);
    wait_linked(&[&first, &second]);
}

#[test]
fn a_code_comes_through_a_pipe_and_a_lone_machine_leaves_its_own_group_for_it() {
    let group = Group::new();
    let (first, second) = (new_machine(&group, "first"), new_machine(&group, "second"));
    first.start();
    // It has a secret of its own, since it was started without --join.
    second.start();
    second.wait_log(&["1 machine of another group is here: first", "'dirsync invite' there"]);
    second.stop();
    let before = secret(&second);
    let code = code(&first, &[]);
    let second = joins(second, "-");
    let mut daemon = second.command().stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut pipe = daemon.stdin.take().expect("its standard input");
    writeln!(pipe, "{code}").expect("a line");
    drop(pipe);
    wait_linked(&[&first, &second]);
    let _ = daemon.kill();
    let _ = daemon.wait();
    assert_eq!(secret(&second), secret(&first));
    assert_eq!(read(second.state.join("secret.before-join")), before.as_bytes(), "nothing is thrown away");
}

#[test]
fn a_member_of_another_group_is_told_how_to_leave_it() {
    let group = Group::new();
    let (first, second) = (new_machine(&group, "first"), new_machine(&group, "second"));
    first.start();
    second.start();
    let third = joins(new_machine(&group, "third"), &code(&first, &[]));
    third.start();
    wait_linked(&[&first, &third]);
    third.stop();
    let third = joins(third, &code(&second, &[]));
    third.run_to_end().says(1, "--join", &["is a member of another group, with first"]);
    // A second code of its own group is no reason to stop.
    let third = joins(third, &code(&first, &[]));
    third.start();
    third.wait_log(&["--join is ignored", "first"]);
    wait_linked(&[&first, &third]);
}

#[test]
fn wrong_codes_are_refused_with_the_way_out_and_leave_no_secret() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    first.start();
    let used = code(&first, &[]);
    let _second = {
        let second = joins(new_machine(&group, "second"), &used);
        second.start();
        wait_linked(&[&first, &second]);
        second
    };
    let third = joins(new_machine(&group, "third"), &used);
    third.run_to_end().says(1, "first", &["already used by another machine"]);
    assert!(!third.state.join("secret").exists());
    let third = joins(third, "0123-4567");
    third.run_to_end().says(2, "--join", &["16 letters and digits, and this has 8"]);
    let mut third = joins(third, "-");
    third.run_to_end().says(1, "code", &["this has 0"]);
    third.options = vec!["--join".to_owned(), "--log-level".to_owned(), "info".to_owned()];
    third.run_to_end().says(1, "--join", &["standard input is no terminal"]);
    first.json(&["invite", "--cancel"]).expect("all are closed");
    assert_eq!(first.json(&["invite", "--list"]).expect("a list")["invitations"], Value::Array(Vec::new()));
}

/// As over a real LAN: each machine has an address of its own, and two are far from the first.
#[test]
fn a_machine_that_no_broadcast_reaches_joins_by_an_address() {
    if !is_root("a_machine_that_no_broadcast_reaches_joins_by_an_address") {
        return;
    }
    let (lan, group) = (Lan::new(2), Group::new());
    let first = without_secret(lan.machine(&group, "first", 1));
    let mut second = without_secret(lan.machine(&group.out_of_hearing(), "second", 2));
    first.start();
    let invited = invite(&first, &[]);
    let address = invited["addresses"][0].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10.77.0.1:"), "{address}");
    second.options =
        ["--join", invited["code"].as_str().expect("a code"), "--peer", &address].map(str::to_owned).into();
    second.start();
    wait_linked(&[&first, &second]);
    write(first.at("f"), "over");
    converge(&[&first, &second]);
    assert_eq!(read(second.at("f")), b"over");
}

/// All that a folder and a state directory hold, with times.
fn image(machine: &Machine) -> Vec<String> {
    let out = std::process::Command::new("find").args([&machine.dir]).args(["-printf", "%p %s %T@ %C@\n"]).output();
    let mut lines: Vec<_> =
        String::from_utf8(out.expect("find").stdout).expect("text").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_preview_says_what_would_come_go_conflict_and_be_kept_and_changes_nothing() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    write(first.at(".dirsyncignore"), "*.tmp\n");
    for (name, text) in [("come", "1"), ("same", "both"), ("theirs", "newer"), ("ours", "old"), ("gone", "x")] {
        write(first.at(name), text);
    }
    first.start();
    converge(&[&first]);
    remove(first.at("gone"));
    let second = new_machine(&group, "second");
    for (name, text) in [("go", "22"), ("same", "both"), ("ours", "newest"), ("left.tmp", "-"), ("theirs", "older")] {
        write(second.at(name), text);
    }
    set_mtime(second.at("theirs"), 1_000_000, 0);
    write(second.at("gone"), "x");
    set_mtime(second.at("gone"), 1_000_000, 0);
    let code = code(&first, &[]);
    let (before, peers) = (image(&second), first.json(&["status"]).expect("a status")["devices"].clone());
    let second = joins(second, &code);
    let preview = |extra: &[&str]| {
        let out = second.command().args(["--preview"]).args(extra).output().expect("it runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    let said: Value = serde_json::from_str(&preview(&["--json"])).expect("JSON");
    let counts = |sort: &str| (said[sort]["files"].as_u64(), said[sort]["examples"].to_string());
    let one = |name: &str| (Some(1), format!("[\"{name}\"]"));
    assert_eq!(counts("comes"), (Some(2), "[\".dirsyncignore\",\"come\"]".to_owned()));
    assert_eq!(counts("goes"), one("go"));
    assert_eq!(counts("same"), one("same"));
    assert_eq!(counts("replaced_here"), one("theirs"));
    assert_eq!(counts("replaced_there"), one("ours"));
    assert_eq!(counts("deleted_here"), one("gone"));
    let text = preview(&[]);
    assert!(text.contains("1 file (2 B) to go to the group") && text.contains("nothing was changed"), "{text}");
    assert_eq!(image(&second), before, "the folder is as it was");
    assert!(!second.state.join("secret").exists() && !second.state.join("index").exists());
    assert_eq!(first.json(&["status"]).expect("a status")["devices"], peers, "it entered no list");

    // The same machine may join with that code, no other may; and what was said comes about.
    let third = joins(new_machine(&group, "third"), &code);
    third.run_to_end().says(1, "first", &["already used by another machine"]);
    second.start();
    second.wait_log(&["both folders hold files", "to come", "to go"]);
    wait_linked(&[&first, &second]);
    // Ignored on both sides, and so on one alone.
    remove(second.at("left.tmp"));
    let tree = converge(&[&first, &second]);
    assert!(tree.has("come") && tree.has("go") && !tree.has("gone"));
    assert_eq!((read(first.at("ours")), read(second.at("theirs"))), (b"newest".to_vec(), b"newer".to_vec()));
}

#[test]
fn a_machine_in_no_group_or_in_one_for_long_has_nothing_to_preview() {
    let mut machine = new_machine(&Group::new(), "alone");
    machine.options = vec!["--preview".to_owned()];
    machine.run_to_end().says(1, "secret", &["--join code"]);
    // Nor is one that was synced before: its files do not count as found.
    machine.options.clear();
    write(machine.at("f"), "synced");
    machine.start();
    eventually("it is in the index", PATIENCE, || {
        let status = machine.json(&["status"])?;
        (status["files"] == 1).then_some(()).ok_or(status["files"].to_string())
    });
    machine.stop();
    machine.options = vec!["--preview".to_owned()];
    machine.run_to_end().says(1, "--preview", &["was synced before"]);
}

#[test]
fn a_read_only_member_reads_and_serves_and_what_it_changes_stays_there() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    write(first.at("f"), "as the group has it");
    first.start();
    let reader = joins(new_machine(&group, "reader"), &code(&first, &["--read-only"]));
    reader.start();
    wait_linked(&[&first, &reader]);
    converge(&[&first, &reader]);
    assert!(secret(&reader).starts_with("read-only "), "it has no secret to write with");
    first.wait_log(&["reader", "has joined by an invitation, to read"]);
    let peers = first.json(&["peers"]).expect("its peers");
    assert_eq!(peers[0]["capability"], "read-only");

    write(reader.at("f"), "changed where one may only read");
    write(reader.at("new"), "made there");
    eventually("the reader lists its changes", PATIENCE, || {
        let local = reader.json(&["local"])?;
        (local["local_paths"] == 2).then_some(()).ok_or(local.to_string())
    });
    write(first.at("g"), "goes on");
    eventually("the reader has what came since", PATIENCE, || {
        reader.at("g").exists().then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(read(first.at("f")), b"as the group has it");
    assert!(!first.at("new").exists());
    for refused in [&["role", "both"][..], &["promote", "new"], &["invite"]] {
        let out = reader.cli(refused);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains("read"), "{refused:?}: {said}");
    }

    // A second reader gets all of it from the first one, while no writer is there.
    let code = code(&reader, &["--read-only"]);
    first.stop();
    let second = joins(new_machine(&group, "second"), &code);
    second.start();
    wait_linked(&[&reader, &second]);
    first.start();
    wait_linked(&[&first, &second]);
    eventually("the second reader has the group's files", PATIENCE, || {
        let is_there = second.at("f").exists() && second.at("g").exists();
        is_there.then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(read(second.at("f")), b"as the group has it");
}

#[test]
fn a_service_that_looks_for_its_inviter_is_given_more_time_to_start() {
    let group = Group::new();
    let socket = group.path().join("notify");
    let heard = UnixDatagram::bind(&socket).expect("a socket");
    heard.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut machine = joins(new_machine(&group, "alone"), "0123-4567-89AB-CDEF");
    machine.environment.push(("NOTIFY_SOCKET".to_owned(), path_text(&socket).to_owned()));
    machine.spawn();
    let mut said = [0; 256];
    let length = heard.recv(&mut said).expect("a word to systemd");
    let said = String::from_utf8_lossy(&said[..length]);
    let more = said.trim().strip_prefix("EXTEND_TIMEOUT_USEC=").and_then(|us| us.parse::<u64>().ok());
    assert!(more.is_some_and(|us| us >= 90_000_000), "{said}");
}
