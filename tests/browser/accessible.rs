//! Who cannot see or point uses the page as well: axe-core finds no serious fault in it.
//!
//! It comes from npm when the test runs, or is the file that `DIRSYNC_AXE` names. WebDriver hands it
//! to the page, whose policy would not load it.

use crate::common::machine::wait_linked;
use crate::common::{Machine, converge, noise, remove, write};
use crate::visit::{Visit, page_is_tried};
use crate::{pair, pair_with};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PACKAGE: &str = "axe-core@4.14.1";

/// The text of axe-core.
fn axe() -> String {
    let home = TempDir::new().expect("a folder");
    let file = std::env::var_os("DIRSYNC_AXE").map_or_else(|| fetched(home.path()), PathBuf::from);
    std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()))
}

fn fetched(home: &Path) -> PathBuf {
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).current_dir(home).stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|why| panic!("{program}: {why}"));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{program} {args:?}: {said}; DIRSYNC_AXE may name axe.min.js instead");
    };
    run("npm", &["pack", "--silent", PACKAGE]);
    run("tar", &["-xzf", &format!("{}.tgz", PACKAGE.replace('@', "-")), "package/axe.min.js"]);
    home.join("package/axe.min.js")
}

fn has_npm(test: &str) -> bool {
    let has = std::env::var_os("DIRSYNC_AXE").is_some()
        || Command::new("npm").arg("--version").output().is_ok_and(|done| done.status.success());
    if !has {
        crate::common::skipped("npm", test);
    }
    has
}

/// What it finds, by light and by dark.
fn has_no_fault(visit: &Visit, axe: &str, state: &str) {
    for scheme in ["light", "dark"] {
        visit.prefer(scheme);
        let faults = visit.faults(axe);
        assert!(faults.is_empty(), "{state}, {scheme}: {faults:#?}");
    }
}

fn dialog_is_sound(visit: &Visit, axe: &str, css: &str, words: &str, close: &str) {
    visit.click(css, words);
    visit.until("dialog", close);
    has_no_fault(visit, axe, words);
    visit.click("#dialog-actions button", close);
}

#[test]
fn an_empty_folder_and_all_that_opens_have_no_serious_accessibility_fault() {
    let name = "an_empty_folder_and_all_that_opens_have_no_serious_accessibility_fault";
    if !page_is_tried(name) || !has_npm(name) {
        return;
    }
    let axe = axe();
    let (a, b) = pair();
    let visit = Visit::of(&a);
    visit.until("verdict", "In sync with 1 machine");
    visit.look_at("ignores");
    visit.until("files-empty", "Nothing is in this folder");
    visit.until("ignores-by", "There is no such file");
    has_no_fault(&visit, &axe, "empty");
    write(a.at("d/f"), "content");
    write(a.at("f"), "content");
    converge(&[&a, &b]);
    visit.until("file-list", "f");
    dialog_is_sound(&visit, &axe, "#file-list button", "f", "Close");
    dialog_is_sound(&visit, &axe, "#machine-actions button", "Role", "Cancel");
    dialog_is_sound(&visit, &axe, "#machine-actions button", "Rate limit", "Cancel");
    dialog_is_sound(&visit, &axe, "#machine-list button", "Remove", "Cancel");
    visit.click("#machines button", "Add a machine");
    has_no_fault(&visit, &axe, "an invitation that is asked for");
    visit.click("#dialog-actions button", "Make a code");
    visit.until("invite-command", " --join ");
    has_no_fault(&visit, &axe, "an invitation");
    visit.leave();

    let visit = Visit::at(&crate::visit_root(&a));
    visit.until("token-needed", "Run dirsync web");
    has_no_fault(&visit, &axe, "no token");
}

#[test]
fn what_waits_for_a_person_has_no_serious_accessibility_fault() {
    let name = "what_waits_for_a_person_has_no_serious_accessibility_fault";
    if !page_is_tried(name) || !has_npm(name) {
        return;
    }
    let axe = axe();
    let (a, b) = pair_with(|machine| {
        write(machine.at("both"), "before\n");
        for n in 0..150 {
            write(machine.at(&format!("f{n}")), noise(n, 300));
        }
    });
    converge(&[&a, &b]);
    makes_a_conflict(&a, &b);
    // What lies too deep needs attention.
    std::fs::create_dir_all(a.at(&"deep/".repeat(300))).expect("folders");
    write(a.at(".dirsyncignore"), "build/\n");
    let visit = Visit::of(&a);
    visit.until("problem-list", "folders deep");
    for n in 0..150 {
        remove(a.at(&format!("f{n}")));
    }
    visit.until("held-list", "deleted");
    visit.until("conflict-list", "both");
    visit.click("#conflict-list button", "Show the difference");
    visit.until("conflict-list", "+ by b");
    visit.look_at("ignores");
    visit.until("ignores-by", "Last changed by a");
    visit.enter("ignores-text", "f*\n[z-a]\n");
    visit.until("ignores-bad", "is no pattern");
    has_no_fault(&visit, &axe, "all that waits");
    dialog_is_sound(&visit, &axe, "#held-actions button", "Not meant", "Cancel");
    visit.leave();
}

/// Of the file `both`, while neither hears the other.
fn makes_a_conflict(a: &Machine, b: &Machine) {
    b.stop();
    write(a.at("both"), "by a\n");
    a.wait_own_idle();
    a.stop();
    crate::common::pace(20);
    b.start();
    write(b.at("both"), "by b\n");
    b.wait_own_idle();
    a.start();
    wait_linked(&[a, b]);
}
