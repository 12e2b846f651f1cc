//! Deletions and returns to older contents in the mass are held, and one `dirsync confirm` lets
//! them go on all machines (P8).

use crate::common::clock::{library, set, unhinge};
use crate::common::disk::{copy_tree, path_text, run, set_mtime};
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::ports::free_tcp_port;
use crate::common::volume::Small;
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, is_root, noise, pace, read, remove, start_all, write,
};
use std::fs;
use std::ops::Range;

pub const FILES: u64 = 150;
/// What should not come cannot be awaited; it would have come long before this.
const NOTHING_COMES_MS: u64 = 2000;

pub fn name(n: u64) -> String {
    format!("d{}/f{n}", n % 5)
}

fn fill(machine: &Machine) {
    for n in 0..FILES {
        write(machine.at(&name(n)), noise(n, 300));
    }
}

/// Machines `a` and `b`, filled before they were first started: what is there counts at once, not
/// after an hour.
fn old_pair() -> (Machine, Machine) {
    old_pair_with(fill)
}

pub fn old_pair_with(fill: impl FnOnce(&Machine)) -> (Machine, Machine) {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    fill(&a);
    run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&b.dir)]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    (a, b)
}

/// That nothing was held, at either machine.
fn assert_none_held(machines: &[&Machine]) {
    for machine in machines {
        assert_eq!(find_line(&machine.log(), &["held back:"]), None, "{}", machine.name);
    }
}

pub fn delete(machine: &Machine, files: Range<u64>) {
    files.for_each(|n| remove(machine.at(&name(n))));
}

pub fn there(machine: &Machine) -> u64 {
    (0..FILES).filter(|n| machine.at(&name(*n)).exists()).count() as u64
}

/// Waits until `dirsync status` shows at least so many.
pub fn wait_held(machine: &Machine, what: &str, at_least: u64) {
    eventually(&format!("{} holds {at_least} {what}", machine.name), PATIENCE, || {
        let status = machine.json(&["status"])?;
        let held = status[what].as_u64().is_some_and(|held| held >= at_least);
        held.then_some(()).ok_or(status.to_string())
    });
}

fn confirm(machine: &Machine) {
    let out = machine.cli(&["confirm"]);
    assert!(out.status.success(), "{}", text_of(&out));
}

#[test]
fn a_live_removal_of_most_files_is_held_and_one_confirmation_is_enough_for_all_machines() {
    let (a, b) = old_pair();
    delete(&a, 0..120);
    wait_held(&a, "held_deletions", 120);
    let held = a.json(&["held"]).expect("a list");
    let gone = |held: &serde_json::Value| held["reason"] == "deleted" && held["by"] == "a" && held["path"] == "d0/f5";
    assert!(held["deletions"] == 120 && held["held"].as_array().expect("paths").iter().any(gone), "{held}");
    let none = b.cli(&["confirm"]);
    assert!(none.status.code() == Some(1) && text_of(&none).contains("nothing is held"), "{}", text_of(&none));
    a.wait_log(&["held back", "120 deletions", "dirsync confirm"]);
    pace(NOTHING_COMES_MS);
    assert_eq!(there(&b), FILES, "b lost files");
    confirm(&a);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 120);
    assert_eq!(find_line(&b.log(), &["held back"]), None, "b was told that it is meant");
    // What is left is the new total.
    delete(&a, 120..121);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 121);
    assert_none_held(&[&b]);
}

#[test]
fn what_was_held_and_is_put_back_is_held_no_more() {
    let (a, b) = old_pair();
    let backup = a.home.join("backup");
    copy_tree(&a.dir.join("d0"), &backup);
    for n in 0..5 {
        remove(a.at(&format!("d{n}")));
    }
    wait_held(&a, "held_deletions", FILES);
    copy_tree(&backup, &a.dir.join("d0"));
    for n in (0..FILES).filter(|n| n % 5 != 0) {
        write(a.at(&name(n)), noise(n, 300));
    }
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES);
    assert_eq!(a.json(&["status"]).expect("status")["held_deletions"], 0);
}

#[test]
fn a_root_that_is_removed_slowly_deletes_nothing_elsewhere() {
    let (a, b) = old_pair();
    // Longer than any ordinary burst is waited for, and never at rest for long.
    delete(&a, 0..30);
    for n in 30..FILES {
        remove(a.at(&name(n)));
        pace(50);
    }
    run("rm", &["-rf", path_text(&a.dir)]);
    a.wait_log(&["stopped", path_text(&a.dir)]);
    pace(NOTHING_COMES_MS);
    assert_eq!(there(&b), FILES, "b lost files");
}

#[test]
fn deletions_by_two_peers_are_counted_together_and_one_confirmation_releases_them_everywhere() {
    let group = Group::new();
    let ports = [free_tcp_port(), free_tcp_port()];
    // The two ends reach each other through the middle alone.
    let mut ends = ["a", "b"].map(|name| group.out_of_hearing().machine(name));
    let mut middle = group.machine("middle");
    for (end, port) in ends.iter_mut().zip(ports) {
        end.options = vec!["-l".to_owned(), port.to_string()];
        middle.options.extend(["--peer".to_owned(), format!("127.0.0.1:{port}")]);
    }
    let [a, b] = &ends;
    let all = [a, b, &middle];
    fill(&middle);
    for end in [a, b] {
        run("cp", &["-a", &format!("{}/.", path_text(&middle.dir)), path_text(&end.dir)]);
    }
    start_all(&all);
    wait_linked(&[a, &middle]);
    wait_linked(&[b, &middle]);
    converge(&all);
    middle.stop();
    delete(a, 0..60);
    delete(b, 60..120);
    for end in [a, b] {
        eventually("60 of 150 are nobody's disaster", PATIENCE, || {
            let status = end.json(&["status"])?;
            (status["deleted"] == 60).then_some(()).ok_or(status.to_string())
        });
    }
    middle.start();
    // How much of it was followed first depends on who was heard first; never more than half.
    wait_held(&middle, "held_deletions", FILES * 4 / 5 - FILES / 2);
    middle.wait_log(&["held back", "by other machines", "dirsync confirm"]);
    pace(NOTHING_COMES_MS);
    assert!(all.iter().all(|machine| there(machine) >= FILES / 2));
    confirm(&middle);
    assert_eq!(converge(&all).files() as u64, FILES - 120);
}

#[test]
fn a_machine_for_scripts_needs_no_confirmation_and_neither_do_its_peers() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options = vec!["--allow-mass-delete".to_owned()];
    fill(&a);
    run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&b.dir)]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    delete(&a, 0..140);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 140);
}

#[test]
fn a_folder_that_is_moved_whole_is_no_disaster() {
    let (a, b) = old_pair();
    fs::create_dir(a.at("moved")).expect("mkdir");
    for n in 0..5 {
        fs::rename(a.at(&format!("d{n}")), a.at(&format!("moved/d{n}"))).expect("mv");
    }
    let tree = converge(&[&a, &b]);
    assert_eq!((tree.files() as u64, tree.has("d0")), (FILES, false));
    // Nor is the removal of one file after it.
    remove(a.at("moved/d0/f0"));
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 1);
    assert_none_held(&[&a, &b]);
}

#[test]
fn a_spool_folder_that_is_filled_here_and_emptied_there_is_never_held() {
    let (a, b) = Group::new().pair();
    write(a.at("keep"), "kept");
    for n in 0..130 {
        let (here, there) = (a.at(&format!("job{n}")), b.at(&format!("job{n}")));
        write(a.at(".job"), format!("job {n}"));
        fs::rename(a.at(".job"), &here).expect("mv");
        eventually(&format!("job {n} comes"), PATIENCE, || there.exists().then_some(()).ok_or("not yet".to_owned()));
        remove(&there);
    }
    assert_eq!(converge(&[&a, &b]).files(), 1);
    assert_none_held(&[&a, &b]);
}

#[test]
fn an_installation_that_removes_its_tree_and_makes_it_anew_needs_nobody() {
    let (a, b) = old_pair();
    for n in 0..5 {
        remove(a.at(&format!("d{n}")));
    }
    wait_held(&a, "held_deletions", FILES);
    // Some files are the same, some are newer, and some are there no more.
    (0..FILES - 10).for_each(|n| write(a.at(&name(n)), noise(if n < 50 { 1000 + n } else { n }, 300)));
    a.wait_log(&["goes ahead", "no more than half are lost"]);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 10);
    assert_eq!(find_line(&b.log(), &["held back"]), None);
}

#[test]
fn what_git_does_to_its_repository_is_never_held() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let git = |words: &[&str]| {
        let user = ["-C", path_text(&a.dir), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0"];
        run("git", &[&user[..], words].concat())
    };
    git(&["init", "-q", "-b", "main"]);
    write(a.at(".gitignore"), ".dirsync\n");
    for n in 0..40 {
        write(a.at(&name(n)), noise(n, 20_000));
    }
    for commit in 0..60 {
        write(a.at("log"), format!("{commit}\n"));
        git(&["add", "-A"]);
        git(&["commit", "-qm", "more"]);
    }
    git(&["checkout", "-qb", "other"]);
    (0..40).for_each(|n| write(a.at(&format!("other/f{n}")), noise(500 + n, 20_000)));
    git(&["add", "-A"]);
    git(&["commit", "-qm", "other"]);
    run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&b.dir)]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    for branch in ["main", "other", "main", "other"] {
        git(&["checkout", "-q", branch]);
        assert_eq!(converge(&[&a, &b]).has("other/f7"), branch == "other");
    }
    git(&["gc", "-q", "--prune=now"]);
    converge(&[&a, &b]);
    assert_none_held(&[&a, &b]);
    a.wait_log(&["were deleted by a", "not held back"]);
}

#[test]
fn an_old_backup_unpacked_over_the_folder_rolls_nobody_back_until_someone_confirms() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    fill(&a);
    let backup = a.home.join("backup");
    copy_tree(&a.dir, &backup);
    for n in 0..FILES {
        set_mtime(backup.join(name(n)), 1_600_000_000, 0);
        write(a.at(&name(n)), format!("newer {n}"));
    }
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    a.stop();
    run("cp", &["-a", &format!("{}/.", path_text(&backup)), path_text(&a.dir)]);
    a.start();
    wait_held(&a, "held_reverts", FILES);
    a.wait_log(&["held back", "older contents", "dirsync confirm"]);
    pace(NOTHING_COMES_MS);
    assert!((0..FILES).all(|n| read(b.at(&name(n))) == format!("newer {n}").as_bytes()), "b was rolled back");
    confirm(&a);
    converge(&[&a, &b]);
    assert_eq!(read(b.at(&name(7))), noise(7, 300));
}

#[test]
fn what_a_peer_s_ignore_file_uncovers_is_told_to_nobody_until_someone_confirms() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.key\n");
    converge(&[&a, &b]);
    write(b.at("my.key"), "for nobody else");
    write(b.at("plain"), "for all");
    b.wait_own_idle();
    write(a.at(".dirsyncignore"), "# nothing\n");
    eventually("b holds its key back", PATIENCE, || {
        let status = b.json(&["status"])?;
        (status["held_unignored"] == 1).then_some(()).ok_or(status.to_string())
    });
    b.wait_log(&["held back", ".dirsyncignore", "dirsync confirm"]);
    b.restart();
    wait_linked(&[&a, &b]);
    write(b.at("later"), "told");
    eventually("a has what came later", PATIENCE, || a.at("later").exists().then_some(()).ok_or("not yet".to_owned()));
    pace(NOTHING_COMES_MS);
    assert!(!a.at("my.key").exists(), "a got what b never shared");
    confirm(&b);
    assert!(converge(&[&a, &b]).has("my.key"));
}

#[test]
fn a_machine_that_was_off_hears_of_a_confirmation_from_one_that_did_not_give_it() {
    let group = Group::new();
    let all = ["a", "b", "c"].map(|name| group.machine(name));
    let [a, b, c] = &all;
    fill(a);
    for other in [b, c] {
        run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&other.dir)]);
    }
    let each = [a, b, c];
    start_all(&each);
    wait_linked(&each);
    converge(&each);
    c.stop();
    delete(a, 0..120);
    wait_held(a, "held_deletions", 120);
    confirm(a);
    assert_eq!(converge(&[a, b]).files() as u64, FILES - 120);
    a.stop();
    // Over a restart, too.
    b.restart();
    c.start();
    wait_linked(&[b, c]);
    assert_eq!(converge(&[b, c]).files() as u64, FILES - 120);
    assert_none_held(&[b, c]);
}

#[test]
fn what_a_confirmation_lets_go_stays_in_history_for_a_day_whatever_else_is_replaced() {
    const TEST: &str = "what_a_confirmation_lets_go_stays_in_history_for_a_day_whatever_else_is_replaced";
    const LARGE: usize = 1 << 20;
    let Some(library) = library(TEST) else { return };
    if !is_root(TEST) {
        return;
    }
    let (a, mut b) = {
        let group = Group::new();
        (group.machine("a"), group.machine("b"))
    };
    // A tenth of it is history's.
    let _disk = Small::new(&b.dir, 40 << 10);
    fill(&a);
    unhinge(&mut b, &library);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    // So the files have stood at `b` for two hours, and no longer.
    let hours_pass = |hours: u64| {
        b.stop();
        set(&b, &format!("+{hours}h"));
        b.start();
        wait_linked(&[&a, &b]);
    };
    hours_pass(2);
    delete(&a, 0..120);
    wait_held(&a, "held_deletions", 120);
    confirm(&a);
    converge(&[&a, &b]);
    for round in 0..2 {
        (0..8).for_each(|n| write(a.at(&format!("large{n}")), noise(1000 + 10 * round + n, LARGE)));
        converge(&[&a, &b]);
    }
    hours_pass(3);
    let large = |kept: &[Vec<u8>]| kept.iter().filter(|bytes| bytes.len() == LARGE).count();
    let kept = eventually("history is pruned to its quota", PATIENCE, || {
        let kept = b.history();
        if large(&kept) < 5 { Ok(kept) } else { Err(format!("{} large files are kept", large(&kept))) }
    });
    let is_kept = |n: &u64| kept.contains(&noise(*n, 300));
    assert_eq!((0..120).filter(is_kept).count(), 120, "of what was confirmed");
}
