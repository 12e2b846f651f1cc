//! "In sync" means in sync (P3): who is stopped, paused, holds something back or has a problem is
//! called that by the others too.

use crate::common::disk::{path_text, run};
use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, pace, remove, write};
use std::fs;

/// What `of` says of the one peer that it has, until that holds `words`.
fn wait_said(of: &Machine, words: &str) {
    eventually(&format!("{} says of its peer '{words}'", of.name), PATIENCE, || {
        let peers = of.json(&["peers"])?;
        let peer = &peers[0];
        let state = peer["state"].as_str().unwrap_or_default();
        let is_so = state.contains(words) && peer["in_sync"] == (state == "in sync");
        is_so.then_some(()).ok_or(peers.to_string())
    });
}

/// `dirsync wait` does not end well, and says these words.
fn waits_in_vain(at: &Machine, words: &[&str]) {
    let out = at.cli(&["wait", "--timeout", "1"]);
    assert_eq!(out.status.code(), Some(1), "{}", text_of(&out));
    for word in words {
        assert!(text_of(&out).contains(word), "no '{word}' in {}", text_of(&out));
    }
}

fn is_in_sync(machines: &[&Machine]) {
    for machine in machines {
        machine.wait_idle();
        let peers = machine.json(&["peers"]).expect("it answers");
        assert!(peers[0]["in_sync"] == true && peers[0]["state"] == "in sync", "{peers}");
    }
}

#[test]
fn a_machine_whose_folder_lost_its_marker_is_called_stopped_by_the_others() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
    let marker = a.at(".dirsync/marker");
    let nonce = fs::read(&marker).expect("a marker");
    remove(&marker);
    write(b.at("late"), "not taken by a");
    wait_said(&b, "stopped, its folder lost its marker");
    b.wait_log(&["warn", "a: stopped, its folder lost its marker"]);
    waits_in_vain(&b, &["a (stopped, its folder lost its marker)"]);
    waits_in_vain(&a, &["stopped syncing"]);
    wait_said(&a, "stopped");
    write(&marker, nonce);
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
    b.wait_log(&["a: nothing keeps it from being done any more"]);
}

#[test]
fn a_paused_machine_is_in_sync_with_nobody_until_it_goes_on() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    assert!(a.cli(&["pause"]).status.success());
    wait_said(&b, "paused");
    b.wait_log(&["a: paused"]);
    waits_in_vain(&b, &["a (paused)"]);
    waits_in_vain(&a, &["this machine is paused", "b (paused here)"]);
    // What was done meanwhile is found before anyone says "in sync" again.
    write(a.at("meanwhile"), "1");
    assert!(a.cli(&["resume"]).status.success());
    b.wait_idle();
    assert!(b.at("meanwhile").exists(), "in sync before what was done in the pause was known");
    is_in_sync(&[&a, &b]);
}

#[test]
fn a_machine_that_holds_deletions_back_is_called_so_by_the_others() {
    let (a, b) = Group::new().pair();
    for n in 0..150 {
        write(a.at(&format!("d/f{n}")), format!("{n}"));
    }
    converge(&[&a, &b]);
    a.stop();
    remove(a.at("d"));
    a.start();
    wait_linked(&[&a, &b]);
    a.wait_log(&["held back"]);
    wait_said(&b, "holds 15");
    b.wait_log(&["warn", "a: holds 15"]);
    waits_in_vain(&b, &["a (holds 15"]);
    waits_in_vain(&a, &["this machine: holds 15"]);
    assert!(a.cli(&["confirm"]).status.success());
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
    assert!(!b.at("d").exists());
}

#[test]
fn a_machine_that_cannot_put_a_file_in_its_place_is_in_sync_with_nobody() {
    if !is_root("a_machine_that_cannot_put_a_file_in_its_place_is_in_sync_with_nobody") {
        return;
    }
    let (a, b) = Group::new().pair();
    write(a.at("d/f"), "1");
    converge(&[&a, &b]);
    run("chattr", &["+i", path_text(&b.at("d"))]);
    write(a.at("d/new"), "cannot come");
    write(a.at("other"), "can");
    wait_said(&a, "1 file has a problem");
    a.wait_log(&["warn", "b: 1 file has a problem"]);
    waits_in_vain(&a, &["b (1 file has a problem)"]);
    waits_in_vain(&b, &["this machine: 1 file has a problem", "a (1 file has a problem here)"]);
    eventually("the other file comes", PATIENCE, || b.at("other").exists().then_some(()).ok_or("not yet".to_owned()));
    run("chattr", &["-i", path_text(&b.at("d"))]);
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
}

#[test]
fn a_machine_that_hashes_a_large_new_file_is_in_sync_with_nobody_meanwhile() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
    // Nothing but a hole, so it takes no room; its zeros are hashed all the same.
    let large = fs::File::create(a.at("large")).expect("a file");
    large.set_len(64 << 30).expect("a sparse file");
    drop(large);
    wait_said(&b, "scanning");
    wait_said(&a, "scanning here");
    waits_in_vain(&b, &["a (scanning)"]);
    // The hash ends where the file does.
    fs::OpenOptions::new().write(true).open(a.at("large")).expect("it is there").set_len(1).expect("it shrinks");
    converge(&[&a, &b]);
    is_in_sync(&[&a, &b]);
    assert_eq!(fs::metadata(b.at("large")).expect("it came").len(), 1);
}

#[test]
fn a_lone_socket_and_an_ignored_file_are_left_alone_and_keep_nobody_from_being_in_sync() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    write(a.at("f"), "1");
    converge(&[&a, &b]);
    let _socket = std::os::unix::net::UnixListener::bind(a.at("s")).expect("a socket");
    write(a.at("x.tmp"), "ignored");
    write(a.at("g"), "2");
    eventually("g comes", PATIENCE, || b.at("g").exists().then_some(()).ok_or("not yet".to_owned()));
    // Long enough for a look at the socket.
    pace(500);
    is_in_sync(&[&a, &b]);
    assert!(!b.at("x.tmp").exists() && !b.at("s").exists());
}

#[test]
fn a_folder_that_stays_for_an_ignored_file_is_named_with_that_file() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "# made\n*.class\n");
    write(a.at("p/t/x.java"), "1");
    converge(&[&a, &b]);
    write(b.at("p/t/x.class"), "ignored");
    remove(a.at("p"));
    eventually("b names the folder", PATIENCE, || {
        let status = b.json(&["status"])?;
        let problems = status["problems"].to_string();
        let named = "'p/t/x.class', which .dirsyncignore covers with '*.class' in line 2";
        (problems.contains("p/t") && problems.contains(named)).then_some(()).ok_or(status.to_string())
    });
    assert!(b.at("p/t/x.class").exists() && !b.at("p/t/x.java").exists());
    b.wait_log(&["warn", "'p/t' needs attention", "x.class"]);
    // What is ignored is left alone, and so is a folder for its sake.
    is_in_sync(&[&a, &b]);
    let check = b.cli(&["status", "--check"]);
    assert_eq!(check.status.code(), Some(1), "{}", text_of(&check));
    assert!(text_of(&check).contains("needs attention: 1 deleted folder stays"), "{}", text_of(&check));
    remove(b.at("p/t/x.class"));
    eventually("the folder goes", PATIENCE, || (!b.at("p").exists()).then_some(()).ok_or("not yet".to_owned()));
    is_in_sync(&[&a, &b]);
    assert!(b.cli(&["status", "--check"]).status.success());
}

#[test]
fn with_no_machine_linked_waiting_goes_on_and_with_all_it_names_whoever_is_away() {
    let group = Group::new();
    let (a, b) = group.pair();
    converge(&[&a, &b]);
    let c = group.machine("c");
    c.start();
    wait_linked(&[&a, &b, &c]);
    is_in_sync(&[&a]);
    c.stop();
    eventually("c is away", PATIENCE, || {
        let peers = a.linked_peers()?;
        (peers == ["b"]).then_some(()).ok_or(format!("{peers:?}"))
    });
    a.wait_idle();
    let all = a.cli(&["wait", "--all", "--timeout", "1s"]);
    assert_eq!(all.status.code(), Some(1), "{}", text_of(&all));
    assert!(text_of(&all).contains("not linked: c (last seen"), "{}", text_of(&all));
    b.stop();
    eventually("b is away", PATIENCE, || {
        let peers = a.linked_peers()?;
        peers.is_empty().then_some(()).ok_or(format!("{peers:?}"))
    });
    waits_in_vain(&a, &["no machine is linked: ", "b (last seen", "c (last seen"]);
    // A machine that never met another waits for none.
    let lone = group.stranger().machine("lone");
    lone.start();
    lone.wait_idle();
}
