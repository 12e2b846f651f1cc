//! `dirsync undo` answers "no" to what is held: it comes back on every machine, as it was, and so
//! does what the same count had let through (P8).

use crate::common::disk::{copy_tree, path_text, run, set_mtime};
use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, Tree, converge, eventually, noise, read, remove, start_all, write};
use crate::mass::{FILES, delete, name, old_pair_with, there, wait_held};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// What an order that is not carried out yet is called in the index.
const ORDER: &[u8] = b"undo.order";

fn fill(machine: &Machine) {
    for n in 0..FILES {
        write(machine.at(&name(n)), noise(n, 300));
        set_mtime(machine.at(&name(n)), 1_600_000_000 + n as i64, 7);
    }
    fs::set_permissions(machine.at(&name(7)), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::set_permissions(machine.at("d3"), fs::Permissions::from_mode(0o700)).expect("chmod");
    symlink("f2", machine.at("d2/link")).expect("a link");
}

/// Waits until a machine knows that another one holds something.
fn wait_knows(machine: &Machine, holder: &str) {
    eventually(&format!("{} knows what {holder} holds", machine.name), PATIENCE, || {
        let held = machine.json(&["held"])?;
        let knows = held["elsewhere"].as_array().is_some_and(|all| all.iter().any(|one| one["machine"] == holder));
        knows.then_some(()).ok_or(held.to_string())
    });
}

fn undo(machine: &Machine) {
    let out = machine.cli(&["undo"]);
    assert!(out.status.success(), "{}", text_of(&out));
}

/// That both hold what was there before, as it was, and that it cost no conflict.
fn assert_is_back(machines: &[&Machine], before: &Tree) {
    eventually("all is back", PATIENCE, || {
        let missing = |machine: &&&Machine| machine.tree().is_ok_and(|tree| tree.files() < before.files());
        let late: Vec<_> = machines.iter().filter(missing).map(|machine| &machine.name).collect();
        if late.is_empty() { Ok(()) } else { Err(format!("not at {late:?}")) }
    });
    assert_eq!(converge(machines), *before);
    for machine in machines {
        let conflicts = machine.json(&["conflicts", "--all"]).expect("a list");
        assert_eq!(conflicts["conflicts"].as_array().map(Vec::len), Some(0), "{}: {conflicts}", machine.name);
    }
}

#[test]
fn what_is_held_is_taken_back_and_a_machine_that_holds_nothing_names_the_one_that_does() {
    let (a, b) = old_pair_with(fill);
    let before = converge(&[&a, &b]);
    for order in ["confirm", "undo"] {
        let none = a.cli(&[order]);
        assert_eq!(none.status.code(), Some(1));
        assert!(text_of(&none).contains("no linked machine holds anything"), "{}", text_of(&none));
    }
    delete(&a, 0..120);
    wait_held(&a, "held_deletions", 120);
    a.wait_log(&["held back", "120 deletions", "dirsync confirm", "dirsync undo"]);
    wait_knows(&b, "a");
    let listed = text_of(&b.cli(&["held"]));
    assert!(listed.contains("a holds 120 deletions"), "{listed}");
    assert!(listed.contains(&format!("a: {}  (deleted, by a)", name(0))), "{listed}");
    let listed = b.json(&["held"]).expect("a list");
    let paths = listed["elsewhere"][0]["held"].as_array().map(Vec::len);
    assert_eq!((paths, &listed["elsewhere"][0]["held"][0]["reason"]), (Some(120), &"deleted".into()), "{listed}");
    for order in ["confirm", "undo"] {
        let none = b.cli(&[order]);
        assert_eq!(none.status.code(), Some(1));
        let told = format!("a holds 120 deletions: run 'dirsync {order}' there");
        assert!(text_of(&none).contains(&told), "{}", text_of(&none));
    }
    let listed = a.json(&["undo", "--dry-run"]).expect("a list");
    assert!(listed["paths"] == 120 && listed["back"][0]["from"] == "peers", "{listed}");
    assert_eq!(a.json(&["status"]).expect("status")["held_deletions"], 120, "only asked");
    undo(&a);
    a.wait_log(&["undone: 120 paths come back"]);
    assert_is_back(&[&a, &b], &before);
    assert_eq!(a.json(&["status"]).expect("status")["held_deletions"], 0);
    // What is live now is the new total.
    delete(&a, 0..1);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 1);
}

#[test]
fn what_was_let_through_before_the_rest_was_held_comes_back_from_the_other_machine_s_history() {
    let (a, b) = old_pair_with(fill);
    let before = converge(&[&a, &b]);
    delete(&a, 0..60);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 60);
    for folder in 0..5 {
        remove(a.at(&format!("d{folder}")));
    }
    wait_held(&a, "held_deletions", FILES - 60);
    undo(&a);
    assert_is_back(&[&a, &b], &before);
    for machine in [&a, &b] {
        let mode = |name: &str| fs::metadata(machine.at(name)).expect("it is back").permissions().mode() & 0o777;
        assert_eq!((mode(&name(7)), mode("d3")), (0o600, 0o700), "{}", machine.name);
        let mtime = fs::metadata(machine.at(&name(5))).and_then(|file| file.modified()).expect("it is back");
        let since_1970 = mtime.duration_since(std::time::UNIX_EPOCH).expect("later");
        assert_eq!((since_1970.as_secs(), since_1970.subsec_nanos()), (1_600_000_005, 7), "{}", machine.name);
    }
}

#[test]
fn an_undo_that_a_kill_cut_off_goes_on_after_the_restart() {
    let (a, b) = old_pair_with(fill);
    let before = converge(&[&a, &b]);
    delete(&a, 0..60);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES - 60);
    delete(&a, 60..120);
    wait_held(&a, "held_deletions", 60);
    // What is to come back is at b alone, which does not answer.
    b.freeze();
    std::thread::scope(|scope| {
        let ordered = scope.spawn(|| a.cli(&["undo"]));
        eventually("the order is in the index", PATIENCE, || {
            let log = fs::read(a.state.join("index-wal")).map_err(|why| why.to_string())?;
            let is_there = log.windows(ORDER.len()).any(|bytes| bytes == ORDER);
            is_there.then_some(()).ok_or("not yet".to_owned())
        });
        a.kill();
        let out = ordered.join().expect("the client ends");
        assert!(!out.status.success(), "nobody says that it is done: {}", text_of(&out));
    });
    b.thaw();
    a.start();
    assert_is_back(&[&a, &b], &before);
    a.wait_log(&["undone:"]);
}

#[test]
fn two_machines_that_undo_at_once_cause_no_conflict() {
    let (a, b) = old_pair_with(fill);
    let before = converge(&[&a, &b]);
    b.stop();
    delete(&a, 0..70);
    eventually("a deleted 70", PATIENCE, || {
        let status = a.json(&["status"])?;
        (status["deleted"] == 70).then_some(()).ok_or(status.to_string())
    });
    delete(&a, 70..120);
    wait_held(&a, "held_deletions", 50);
    b.start();
    eventually("b follows that", PATIENCE, || {
        let status = b.json(&["status"])?;
        (status["deleted"] == 70 && there(&b) == FILES - 70).then_some(()).ok_or(status.to_string())
    });
    delete(&b, 120..FILES);
    wait_held(&b, "held_deletions", 30);
    std::thread::scope(|scope| {
        for machine in [&a, &b] {
            scope.spawn(|| machine.cli(&["undo"]));
        }
    });
    // Whoever came second may have found all of it undone by the other's word.
    assert_is_back(&[&a, &b], &before);
}

#[test]
fn a_deletion_of_most_files_that_were_small_is_not_held_and_taken_back_from_another_machine_s_history() {
    let (a, b) = old_pair_with(|a| {
        fill(a);
        write(a.at("large"), noise(1, 1_000_000));
    });
    let before = converge(&[&a, &b]);
    delete(&a, 0..140);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES + 1 - 140);
    a.wait_log(&["140 of 151 files", "deleted by a", "dirsync undo"]);
    let listed = a.json(&["undo", "--dry-run"]).expect("a list");
    assert!(listed["paths"] == 140 && listed["back"][0]["from"] == "history", "{listed}");
    undo(&a);
    assert_is_back(&[&a, &b], &before);
    assert_eq!(a.cli(&["undo"]).status.code(), Some(1), "there is no more to be undone");
}

#[test]
fn what_is_in_no_history_that_can_be_asked_is_named_and_stays_away() {
    let (a, b) = old_pair_with(|a| {
        fill(a);
        write(a.at("large"), noise(1, 1_000_000));
    });
    delete(&a, 0..140);
    converge(&[&a, &b]);
    a.wait_log(&["140 of 151 files", "dirsync undo"]);
    b.stop();
    eventually("a is alone", PATIENCE, || {
        let linked = a.linked_peers()?;
        linked.is_empty().then_some(()).ok_or(format!("{linked:?}"))
    });
    let out = a.cli(&["undo"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text_of(&out).contains("140 paths are in no history"), "{}", text_of(&out));
    assert_eq!(a.tree().expect("a tree").files() as u64, FILES + 1 - 140);
    b.start();
    wait_linked(&[&a, &b]);
    undo(&a);
    assert_eq!(converge(&[&a, &b]).files() as u64, FILES + 1);
}

#[test]
fn what_the_users_of_both_machines_deleted_is_named_and_does_not_come_back_without_its_contents() {
    let (a, b) = old_pair_with(fill);
    converge(&[&a, &b]);
    b.stop();
    delete(&a, 0..120);
    wait_held(&a, "held_deletions", 120);
    delete(&b, 100..FILES);
    b.start();
    wait_linked(&[&a, &b]);
    eventually("a knows what b deleted", PATIENCE, || {
        let status = a.json(&["status"])?;
        let held = status["held_deletions"].as_u64().unwrap_or(0);
        (held > 120).then_some(()).ok_or(status.to_string())
    });
    let out = a.cli(&["undo"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text_of(&out);
    assert!(said.contains(&format!("{}  (in no history that can be asked)", name(100))), "{said}");
    assert!(said.contains("20 paths are in no history that can be asked"), "{said}");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files() as u64, FILES - 20);
    for machine in [&a, &b] {
        assert_eq!(machine.json(&["status"]).expect("status")["held_deletions"], 0, "{}", machine.name);
        assert!(!machine.at(&name(110)).exists() && machine.at(&name(130)).exists());
    }
}

#[test]
fn an_empty_folder_and_a_young_file_that_went_in_the_burst_come_back() {
    let (a, b) = old_pair_with(|a| {
        fill(a);
        fs::create_dir_all(a.at("empty/inner")).expect("a folder");
    });
    write(a.at("young"), "of this hour");
    let before = converge(&[&a, &b]);
    for gone in ["young", "empty"] {
        remove(a.at(gone));
    }
    delete(&a, 0..70);
    converge(&[&a, &b]);
    delete(&a, 70..FILES);
    wait_held(&a, "held_deletions", FILES - 70);
    undo(&a);
    assert_is_back(&[&a, &b], &before);
}

#[test]
fn an_old_backup_unpacked_over_the_folder_is_taken_back() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    fill(&a);
    let backup = a.home.join("backup");
    copy_tree(&a.dir, &backup);
    for n in 0..FILES {
        set_mtime(backup.join(name(n)), 1_500_000_000, 0);
        write(a.at(&name(n)), format!("newer {n}"));
    }
    run("cp", &["-a", &format!("{}/.", path_text(&a.dir)), path_text(&b.dir)]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let before = converge(&[&a, &b]);
    a.stop();
    run("cp", &["-a", &format!("{}/.", path_text(&backup)), path_text(&a.dir)]);
    a.start();
    wait_held(&a, "held_reverts", FILES);
    wait_linked(&[&a, &b]);
    undo(&a);
    eventually("the newer contents are back", PATIENCE, || {
        let is_back = (0..FILES).all(|n| read(a.at(&name(n))) == format!("newer {n}").as_bytes());
        is_back.then_some(()).ok_or("not yet".to_owned())
    });
    assert_is_back(&[&a, &b], &before);
    assert!(a.history().contains(&noise(7, 300)), "what was refused is in history");
}
