//! A machine leaves its group for good, and may come into another one.

use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, read, remove, write};
use serde_json::Value;

fn new_machine(group: &Group, name: &str) -> Machine {
    let mut machine = group.machine(name);
    machine.names_secret = false;
    machine
}

fn joins(mut machine: Machine, inviter: &Machine) -> Machine {
    let invited = inviter.json(&["invite"]).expect("an invitation");
    machine.options = vec!["--join".to_owned(), invited["code"].as_str().expect("a code").to_owned()];
    machine
}

fn devices(machine: &Machine) -> Value {
    machine.json(&["status"]).expect("a status")["devices"].clone()
}

#[test]
fn a_machine_that_left_keeps_its_files_is_forgotten_by_all_and_joins_another_group() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    first.start();
    let [second, third] = ["second", "third"].map(|name| joins(new_machine(&group, name), &first));
    second.start();
    third.start();
    wait_linked(&[&first, &second, &third]);
    write(first.at("gone"), "deleted before it left");
    write(first.at("kept"), "of the first group");
    converge(&[&first, &second, &third]);
    remove(first.at("gone"));
    converge(&[&first, &second, &third]);

    // Its own state may still be on its way to the others.
    eventually("nothing is left to be done", PATIENCE, || {
        let said = third.cli(&["leave"]);
        let text = text_of(&said);
        assert!(!said.status.success(), "{text}");
        assert!(text.contains("leave the group of first and second") && text.contains("dirsync leave --yes"), "{text}");
        if text.contains("Not done yet") { Err(text) } else { Ok(()) }
    });
    assert_eq!(devices(&first).as_array().map(Vec::len), Some(2), "nothing was done");
    let device = third.json(&["status"]).expect("a status")["device"].clone();

    let left = third.json(&["leave", "--yes"]).expect("it leaves");
    assert_eq!(left["machines"].as_array().map(Vec::len), Some(2));
    eventually("it ends", PATIENCE, || {
        let status = third.exit_status().ok_or("it runs")?;
        assert_eq!(status.code(), Some(0), "systemd would start it again");
        Ok(())
    });
    third.kill();
    for name in ["secret", "secret.before-join", "joined-with", "index"] {
        assert!(!third.state.join(name).exists(), "{name} is there");
    }
    for other in [&first, &second] {
        other.wait_log(&["third has left the group"]);
        assert!(!devices(other).to_string().contains("third"));
    }
    assert_eq!(read(third.at("kept")), b"of the first group");

    // What it makes now, and what others make, stays where it is.
    let other = new_machine(&group, "other");
    write(other.at("theirs"), "of the other group");
    other.start();
    let third = joins(third, &other);
    third.start();
    third.wait_log(&["has left its group"]);
    wait_linked(&[&third, &other]);
    let tree = converge(&[&third, &other]);
    assert_eq!(tree.paths(), ["kept", "theirs"]);
    assert_ne!(third.json(&["status"]).expect("a status")["device"], device, "it is a new machine");
    assert_eq!(devices(&third).as_array().map(Vec::len), Some(1));
    assert_eq!(converge(&[&first, &second]).paths(), ["kept"]);
}

#[test]
fn what_is_perhaps_on_no_other_machine_is_named_before_it_leaves() {
    let group = Group::new();
    let first = new_machine(&group, "first");
    first.start();
    let second = joins(new_machine(&group, "second"), &first);
    second.start();
    wait_linked(&[&first, &second]);
    converge(&[&first, &second]);
    first.stop();
    write(second.at("only-here"), "x");
    eventually("it is alone", PATIENCE, || {
        let text = text_of(&second.cli(&["leave"]));
        if text.contains("no other machine is linked now") { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_secret_that_is_not_its_own_is_not_forgotten() {
    let machine = Group::new().machine("a");
    machine.start();
    for options in [&["leave"][..], &["leave", "--yes"]] {
        let out = machine.cli(options);
        let text = text_of(&out);
        assert!(!out.status.success() && text.contains("leave out --secret-file"), "{text}");
    }
    assert!(machine.exit_status().is_none() && machine.json(&["status"]).is_ok());
}
