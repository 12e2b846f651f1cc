//! `dirsync doctor`: what it says of a machine that is as it should be, and of what is not.

use crate::common::disk::chmod;
use crate::common::machine::text_of;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, write};
use serde_json::Value;
use std::fs;

/// What is found, whatever the exit code is.
fn examine(machine: &Machine) -> (Option<i32>, Value) {
    let out = machine.cli(&["doctor", "--json"]);
    let found = serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {}", text_of(&out)));
    (out.status.code(), found)
}

/// How the first finding of this name stands, and what is said.
fn finding<'a>(found: &'a Value, check: &str) -> (&'a str, String) {
    let all = found["findings"].as_array().expect("findings");
    let one = all.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("no {check}: {found}"));
    (one["health"].as_str().expect("a word"), format!("{} {}", one["text"], one["remedy"]))
}

#[test]
fn the_doctor_names_what_is_fine_and_what_is_not_with_the_way_out() {
    let (a, b) = Group::new().pair();
    write(a.at("d/f"), "1");
    converge(&[&a, &b]);
    let (code, found) = examine(&a);
    assert_eq!(code, Some(0), "{found}");
    for check in ["daemon", "folder", "TCP port", "broadcasts", "links", "clocks", "watches", "descriptors", "state"] {
        assert_eq!(finding(&found, check).0, "fine", "{check}: {found}");
    }
    assert!(finding(&found, "broadcasts").1.contains("b (") && finding(&found, "links").1.contains("with b"));
    let (health, text) = finding(&found, "unit");
    assert!(health == "notice" && text.contains("dirsync install"), "{text}");

    // What others may read is no secret.
    let secret = a.state.join("secret");
    fs::write(&secret, "00").expect("a file of our own");
    chmod(&secret, 0o644);
    let out = a.cli(&["doctor"]);
    let text = text_of(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("FAULT  secret") && text.contains("chmod 0600"), "{text}");
    assert!(text.contains("needs attention: not as it should be: secret"), "{text}");
    fs::remove_file(secret).expect("a file of our own");

    // Who is gone is not linked, and does not announce itself.
    b.stop();
    eventually("a is alone", PATIENCE, || {
        let status = a.json(&["status"])?;
        status["peers"].as_array().is_some_and(Vec::is_empty).then_some(()).ok_or(status["peers"].to_string())
    });
    let (code, found) = examine(&a);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(finding(&found, "links").0, "notice", "{found}");
    let (health, text) = finding(&found, "broadcasts");
    assert!(
        health == "notice" && text.contains("no other machine announced itself") && text.contains("--peer"),
        "{text}"
    );

    a.stop();
    let (code, found) = examine(&a);
    let (health, text) = finding(&found, "daemon");
    assert!(code == Some(1) && health == "fault" && text.contains("no daemon is running"), "{text}");
    assert_eq!(finding(&found, "replacing").0, "fine", "the disk is looked at all the same: {found}");
}
