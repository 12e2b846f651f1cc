//! Deletions and returns to older contents in the mass are held, and one `dirsync confirm` lets them go on all machines (P8).

use crate::common::disk::{copy_tree, path_text, run, set_mtime};
use crate::common::machine::{find_line, free_tcp_port, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, noise, pace, read, remove, start_all, write};
use std::fs;
use std::ops::Range;

const FILES: u64 = 150;
/// What should not come cannot be awaited; it would have come long before this.
const NOTHING_COMES_MS: u64 = 2000;

fn name(n: u64) -> String {
    format!("d{}/f{n}", n % 5)
}

fn fill(machine: &Machine) {
    for n in 0..FILES {
        write(machine.at(&name(n)), noise(n, 300));
    }
}

fn delete(machine: &Machine, files: Range<u64>) {
    files.for_each(|n| remove(machine.at(&name(n))));
}

fn there(machine: &Machine) -> u64 {
    (0..FILES).filter(|n| machine.at(&name(*n)).exists()).count() as u64
}

/// Waits until `dirsync status` shows at least so many.
fn wait_held(machine: &Machine, what: &str, at_least: u64) {
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
    let (a, b) = Group::new().pair();
    fill(&a);
    converge(&[&a, &b]);
    delete(&a, 0..120);
    wait_held(&a, "held_deletions", 120);
    a.wait_log(&["held back", "120 deletions", "dirsync confirm"]);
    pace(NOTHING_COMES_MS);
    assert_eq!(there(&b), FILES, "b lost files");
    confirm(&a);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 120);
    assert_eq!(find_line(&b.log(), &["held back"]), None, "b was told that it is meant");
}

#[test]
fn what_was_held_and_is_put_back_is_held_no_more() {
    let (a, b) = Group::new().pair();
    fill(&a);
    converge(&[&a, &b]);
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
    let (a, b) = Group::new().pair();
    fill(&a);
    converge(&[&a, &b]);
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
    start_all(&all);
    wait_linked(&[a, &middle]);
    wait_linked(&[b, &middle]);
    fill(&middle);
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
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    fill(&a);
    converge(&[&a, &b]);
    delete(&a, 0..140);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 140);
}

#[test]
fn a_folder_that_is_moved_whole_is_no_disaster() {
    let (a, b) = Group::new().pair();
    fill(&a);
    converge(&[&a, &b]);
    fs::create_dir(a.at("moved")).expect("mkdir");
    for n in 0..5 {
        fs::rename(a.at(&format!("d{n}")), a.at(&format!("moved/d{n}"))).expect("mv");
    }
    let tree = converge(&[&a, &b]);
    assert_eq!((tree.files() as u64, tree.has("d0")), (FILES, false));
}

#[test]
fn an_old_backup_unpacked_over_the_folder_rolls_nobody_back_until_someone_confirms() {
    let (a, b) = Group::new().pair();
    fill(&a);
    converge(&[&a, &b]);
    a.stop();
    let backup = a.home.join("backup");
    copy_tree(&a.dir, &backup);
    remove(backup.join(".dirsync"));
    for n in 0..FILES {
        set_mtime(backup.join(name(n)), 1_600_000_000, 0);
    }
    a.start();
    for n in 0..FILES {
        write(a.at(&name(n)), format!("newer {n}"));
    }
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
        (status["held_uncovered"] == 1).then_some(()).ok_or(status.to_string())
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
