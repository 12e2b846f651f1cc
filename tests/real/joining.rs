//! From nothing to machines in sync: by an invitation, without a file that is copied.

use crate::common::lan::Lan;
use crate::common::machine::wait_linked;
use crate::common::{Group, Machine, converge, is_root, read, write};
use serde_json::Value;
use std::io::Write;
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
