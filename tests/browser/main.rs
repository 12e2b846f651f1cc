//! The page in a real browser: what a person sees, and what clicking does.
//!
//! Chromium is driven by chromedriver. Deliberately not here: who is answered over TCP
//! (`tests/real/http.rs`).

#[path = "../common/mod.rs"]
mod common;

mod accessible;
mod pictures;
mod visit;

use crate::visit::{Visit, page_is_tried};
use common::disk::{path_text, peek, run};
use common::machine::wait_linked;
use common::ports::free_tcp_port;
use common::{Group, Machine, PATIENCE, converge, eventually, noise, read, remove, write};

/// A machine with a page, and another one, linked.
fn pair() -> (Machine, Machine) {
    pair_with(|_| ())
}

/// What is there before they are first started counts as old for the guards at once.
fn pair_with(fill: impl FnOnce(&Machine)) -> (Machine, Machine) {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options = vec!["--http".to_owned(), free_tcp_port().to_string()];
    fill(&a);
    run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&b.dir)]);
    common::start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    (a, b)
}

#[test]
fn a_first_visit_shows_how_the_folder_stands_and_keeps_the_token_to_itself() {
    if !page_is_tried("a_first_visit_shows_how_the_folder_stands_and_keeps_the_token_to_itself") {
        return;
    }
    let (a, b) = pair();
    write(a.at("d.txt"), "content");
    converge(&[&a, &b]);
    let visit = Visit::of(&a);
    visit.until("verdict", "In sync with 1 machine");
    visit.until("live", "live");
    let address = visit.text_of("return location.href");
    assert!(!address.contains('#') && address.ends_with('/'), "{address}");
    visit.until("file-list", "d.txt");
    write(b.at("later.txt"), "more");
    visit.until("file-list", "later.txt");
    visit.until("log", "received 'later.txt' from b");
    b.stop();
    visit.until("verdict", "No other machine is linked");
    a.restart();
    // It follows the daemon that took the place of the first one.
    visit.until("live", "live");
    b.start();
    visit.until("verdict", "In sync with 1 machine");
    visit.leave();

    for address in [visit_root(&a), format!("{}#token={}", visit_root(&a), "0".repeat(64))] {
        let visit = Visit::at(&address);
        visit.until("token-needed", "Run dirsync web");
        assert_eq!(visit.text_of("return String(document.getElementById('content').hidden)"), "true");
    }
}

fn visit_root(machine: &Machine) -> String {
    let url = visit::address(machine);
    url.split_once('#').expect("a token").0.to_owned()
}

#[test]
fn a_held_deletion_is_taken_back_and_a_conflict_is_decided_by_clicking() {
    if !page_is_tried("a_held_deletion_is_taken_back_and_a_conflict_is_decided_by_clicking") {
        return;
    }
    let (a, b) = pair_with(|machine| {
        write(machine.at("both"), "before\n");
        for n in 0..150 {
            write(machine.at(&format!("f{n}")), noise(n, 300));
        }
    });
    converge(&[&a, &b]);
    let visit = Visit::of(&a);
    visit.until("verdict", "In sync");

    b.stop();
    write(a.at("both"), "by a\n");
    a.wait_own_idle();
    a.stop();
    common::pace(20);
    b.start();
    write(b.at("both"), "by b\n");
    b.wait_own_idle();
    a.start();
    wait_linked(&[&a, &b]);
    visit.until("verdict", "1 conflict to decide");
    visit.until("conflict-list", "both");
    visit.click("#conflict-list button", "Show the difference");
    visit.until("conflict-list", "+ by b");
    visit.click("#conflict-list button", "Take this one instead");
    eventually("both have what lost", PATIENCE, || {
        let contents = [&a, &b].map(|machine| peek(machine.at("both")));
        contents.iter().all(|held| held.as_deref() == Some(b"by a\n")).then_some(()).ok_or(format!("{contents:?}"))
    });
    visit.until("verdict", "In sync");

    for n in 0..150 {
        remove(a.at(&format!("f{n}")));
    }
    visit.until("verdict", "held back");
    // The first of them may have gone through before they were so many.
    visit.until("held-list", "deleted");
    visit.click("#held-actions button", "Not meant");
    visit.click("#dialog-actions button", "Undo");
    visit.until("verdict", "In sync");
    assert_eq!(read(a.at("f7")), noise(7, 300));
    converge(&[&a, &b]);
    visit.leave();
}

#[test]
fn a_file_is_dropped_restored_renamed_and_deleted_and_hostile_names_stay_text() {
    if !page_is_tried("a_file_is_dropped_restored_renamed_and_deleted_and_hostile_names_stay_text") {
        return;
    }
    let (a, b) = pair();
    let hostile = "<img src=x onerror=document.title='run'>";
    write(a.at(hostile), "text");
    write(a.at("a\u{202e}gnp.exe"), "text");
    write(a.at("old"), "first");
    converge(&[&a, &b]);
    write(b.at("old"), "second");
    converge(&[&a, &b]);
    let visit = Visit::of(&a);
    visit.until("file-list", hostile);
    visit.until("file-list", "a\\xe2\\x80\\xaegnp.exe");
    visit.until("log", hostile);

    visit.click("#file-list button", "old");
    visit.until("dialog-body", "replaced");
    visit.click("#dialog-body button", "Restore");
    eventually("the old content is back", PATIENCE, || {
        (peek(b.at("old")).as_deref() == Some(b"first")).then_some(()).ok_or("not yet".to_owned())
    });
    visit.click("#dialog-actions button", "Close");

    visit.drop_file("dropped.txt", "by the browser");
    visit.until("notices", "dropped.txt is here");
    visit.until("file-list", "dropped.txt");
    assert_eq!(read(a.at("dropped.txt")), b"by the browser");
    visit.drop_file("dropped.txt", "again");
    visit.until("dialog-title", "Replace dropped.txt?");
    visit.click("#dialog-actions button", "Replace");
    eventually("it is replaced everywhere", PATIENCE, || {
        (peek(b.at("dropped.txt")).as_deref() == Some(b"again")).then_some(()).ok_or("not yet".to_owned())
    });

    visit.click("#file-list button", hostile);
    visit.click("#dialog-body button", "Delete");
    visit.click("#dialog-actions button", "Delete");
    eventually("it is deleted everywhere", PATIENCE, || {
        peek(b.at(hostile)).is_none().then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(visit.text_of("return document.title"), "a: dirsync");
    assert_eq!(visit.text_of("return String(document.images.length)"), "0");
    visit.leave();
}

#[test]
fn ignore_patterns_are_tried_and_saved_and_the_folder_scanned_on_the_page() {
    if !page_is_tried("ignore_patterns_are_tried_and_saved_and_the_folder_scanned_on_the_page") {
        return;
    }
    let (a, b) = pair_with(|machine| {
        for n in 0..30 {
            write(machine.at(&format!("build/f{n}")), "12345");
        }
        write(machine.at("kept"), "1");
    });
    converge(&[&a, &b]);
    let visit = Visit::of(&a);
    visit.look_at("ignores");
    visit.until("ignores-by", "There is no such file yet");
    visit.enter("ignores-text", "build/\n[z-a]");
    visit.until("ignores-summary", "31 paths (150 B) would not be synced any more");
    visit.until("ignores-examples", "build not synced");
    visit.until("ignores-bad", "Line 2 is no pattern: [z-a]");
    visit.click("#ignores button", "Save");
    visit.until("ignores-trouble", "these are no patterns: line 2");
    assert_eq!(peek(a.at(".dirsyncignore")), None);
    visit.enter("ignores-text", "build/\n");
    visit.click("#ignores button", "Save");
    visit.until("notices", "The patterns are saved");
    eventually("they are everywhere", PATIENCE, || {
        (peek(b.at(".dirsyncignore")).as_deref() == Some(b"build/\n")).then_some(()).ok_or("not yet".to_owned())
    });
    visit.click("#machine-actions button", "Scan");
    visit.until("notices", "The whole folder is looked at");
    visit.click("#machine-actions button", "Rate limit");
    visit.enter("limit", "1");
    visit.click("#dialog-actions button", "Set");
    visit.until("dialog-body", "65");
    visit.enter("limit", "2048");
    visit.click("#dialog-actions button", "Set");
    visit.until("facts", "2.0 MiB/s");
    // Another machine changes them while someone types here.
    visit.enter("ignores-text", "kept\n");
    write(b.at(".dirsyncignore"), "theirs\n");
    visit.until("ignores-trouble", "were changed meanwhile");
    visit.click("#ignores button", "Save");
    visit.until("ignores-trouble", "Revert shows the new text");
    // What the text would change, which is asked meanwhile, leaves the refusal where it is.
    visit.until("ignores-summary", "1 path (1 B) would not be synced any more");
    visit.until("ignores-trouble", "Revert shows the new text");
    assert_eq!(read(a.at(".dirsyncignore")), b"theirs\n");
    visit.click("#ignores button", "Revert");
    visit.until("ignores-by", "Last changed by b");
    assert_eq!(visit.text_of("return document.getElementById('ignores-text').value"), "theirs\n");
    visit.leave();
}

#[test]
fn a_machine_joins_by_the_code_that_the_page_shows() {
    if !page_is_tried("a_machine_joins_by_the_code_that_the_page_shows") {
        return;
    }
    let group = Group::new();
    let mut a = group.machine("a");
    a.options = vec!["--http".to_owned(), free_tcp_port().to_string()];
    a.start();
    write(a.at("f"), "shared");
    let visit = Visit::of(&a);
    visit.until("verdict", "No other machine is linked");
    visit.click("#machines button", "Add a machine");
    visit.click("#dialog-actions button", "Make a code");
    visit.until("invite-command", " --join ");
    let code = visit.text_of("return document.getElementById('invite-code').textContent");
    let mut b = group.machine("b");
    b.names_secret = false;
    b.options = vec!["--join".to_owned(), code];
    b.start();
    visit.click("#dialog-actions button", "Close");
    visit.until("machine-list", "b");
    visit.until("verdict", "In sync with 1 machine");
    assert_eq!(read(b.at("f")), b"shared");
    visit.leave();
}
