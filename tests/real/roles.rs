//! A machine that announces nothing, and one that installs nothing: in sync all the same, until a
//! person decides.

use crate::common::machine::{start_all, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, eventually, remove, write};
use std::fs;

/// A machine that does both, and one of this role, linked.
fn pair(role: &str) -> (Machine, Machine) {
    let group = Group::new();
    let (a, mut b) = (group.machine("a"), group.machine("b"));
    b.options.extend(["--role".to_owned(), role.to_owned()]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    (a, b)
}

fn holds(machine: &Machine, name: &str, text: &str) {
    eventually(&format!("{} holds '{text}' at {name}", machine.name), PATIENCE, || {
        match fs::read_to_string(machine.at(name)) {
            Ok(found) if found == text => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
}

fn is_gone(machine: &Machine, name: &str) {
    eventually(&format!("{} has no {name}", machine.name), PATIENCE, || {
        if machine.at(name).exists() { Err("it is there".to_owned()) } else { Ok(()) }
    });
}

/// `local` or `not_installed`, with how each differs, once there are so many.
fn differing(machine: &Machine, list: &str, count: usize) -> Vec<String> {
    eventually(&format!("{} has {count} {list}", machine.name), PATIENCE, || {
        let view = machine.json(&["local"])?;
        let listed = view[list].as_array().ok_or(view.to_string())?;
        let text = |change: &serde_json::Value| {
            format!("{} {}", change["path"].as_str().unwrap_or("?"), change["change"].as_str().unwrap_or("?"))
        };
        if listed.len() == count { Ok(listed.iter().map(text).collect()) } else { Err(view.to_string()) }
    })
}

fn succeeds(machine: &Machine, args: &[&str]) -> String {
    let out = machine.cli(args);
    assert!(out.status.success(), "dirsync {args:?}: {}", text_of(&out));
    text_of(&out)
}

fn refuses(machine: &Machine, args: &[&str], words: &str) {
    let out = machine.cli(args);
    assert_eq!(out.status.code(), Some(1), "dirsync {args:?}: {}", text_of(&out));
    assert!(text_of(&out).contains(words), "no '{words}' in {}", text_of(&out));
}

#[test]
fn a_receive_only_machine_keeps_its_changes_to_itself_until_a_person_decides() {
    let (a, b) = pair("receive-only");
    for name in ["edited", "gone", "later"] {
        write(a.at(name), "of a");
        holds(&b, name, "of a");
    }
    b.wait_idle();
    write(b.at("edited"), "edited at b");
    write(b.at("later"), "edited at b as well");
    write(b.at("d/new"), "new at b");
    remove(b.at("gone"));
    let expected = ["d new", "d/new new", "edited edited", "gone deleted", "later edited"];
    assert_eq!(differing(&b, "local", 5), expected);
    // Both are done, and say how they stand.
    b.wait_idle();
    a.wait_idle();
    succeeds(&b, &["status", "--check"]);
    assert!(succeeds(&b, &["status"]).contains("5 changes announced to nobody: 'd', 'd/new'"));
    eventually("a says what b keeps to itself", PATIENCE, || {
        let peers = a.json(&["peers"])?;
        let is_so = peers[0]["state"] == "in sync, receive-only, 5 local" && peers[0]["role"] == "receive-only";
        is_so.then_some(()).ok_or(peers.to_string())
    });
    assert!(
        succeeds(&b, &["why", "d/new"]).contains("local change: new here, announced to nobody; the group has nothing")
    );
    // What the group changes comes, and history keeps what was here.
    write(a.at("later"), "newer at a");
    holds(&b, "later", "newer at a");
    assert!(b.history().iter().any(|kept| kept == b"edited at b as well"), "it is lost");
    assert!(!a.at("d").exists() && a.at("gone").exists());
    assert_eq!(fs::read_to_string(a.at("edited")).unwrap(), "of a");
    // The role is kept, and what is local.
    b.restart();
    wait_linked(&[&a, &b]);
    assert_eq!(differing(&b, "local", 4), expected[..4]);
    // People decide.
    succeeds(&b, &["promote", "d/new"]);
    holds(&a, "d/new", "new at b");
    succeeds(&b, &["revert", "gone"]);
    holds(&b, "gone", "of a");
    refuses(&b, &["revert", "gone"], "no local change");
    assert_eq!(differing(&b, "local", 1), ["edited edited"]);
    assert_eq!(b.cli(&["role", "hub"]).status.code(), Some(2), "wrong usage");
    refuses(&b, &["role", "both"], "1 local change would be announced to all");
    assert_eq!(b.json(&["role"]).unwrap()["role"], "receive-only");
    succeeds(&b, &["role", "both", "--yes"]);
    holds(&a, "edited", "edited at b");
    b.wait_idle();
    assert!(succeeds(&b, &["local"]).contains("nothing differs there"));
}

#[test]
fn a_send_only_machine_installs_nothing_and_makes_its_state_the_group_s_when_a_person_says_so() {
    let (a, b) = pair("send-only");
    write(b.at("f"), "of b");
    holds(&a, "f", "of b");
    write(a.at("f"), "edited at a");
    write(a.at("theirs"), "of a");
    assert_eq!(differing(&b, "not_installed", 2), ["f edited", "theirs deleted"]);
    b.wait_idle();
    a.wait_idle();
    succeeds(&b, &["status", "--check"]);
    assert_eq!(fs::read_to_string(b.at("f")).unwrap(), "of b");
    assert!(!b.at("theirs").exists());
    assert!(succeeds(&b, &["why", "theirs"]).contains("not installed: made by others, and not here"));
    assert!(succeeds(&b, &["ls"]).contains("theirs  (not installed)"));
    // Nothing before a person was told what it does.
    refuses(&b, &["override"], "theirs  (not here: deleted on every machine)");
    assert!(a.at("theirs").exists());
    succeeds(&b, &["override", "--yes"]);
    is_gone(&a, "theirs");
    holds(&a, "f", "of b");
    for lost in ["edited at a", "of a"] {
        assert!(a.history().iter().any(|kept| kept == lost.as_bytes()), "'{lost}' is lost");
    }
    // In another role, the rest comes.
    write(a.at("more"), "of a");
    assert_eq!(differing(&b, "not_installed", 1), ["more deleted"]);
    refuses(&b, &["role", "both"], "1 change of others would be installed here");
    succeeds(&b, &["role", "both", "--yes"]);
    holds(&b, "more", "of a");
}
