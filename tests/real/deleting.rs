//! Deletions: they arrive, they stay, they take nothing with them that was not seen (P2).

use crate::common::{Group, converge, eventually, noise, pace, read, remove, wait_equal, write};
use crate::common::{PATIENCE, machine::wait_linked};
use std::fs;

#[test]
fn what_was_deleted_while_the_peer_was_off_is_gone_when_it_returns_and_stays_gone() {
    let (a, b) = Group::new().pair();
    write(a.at("kept"), "kept");
    write(a.at("dir/gone"), "gone");
    converge(&[&a, &b]);
    b.stop();
    remove(a.at("dir"));
    // With no machine linked, `wait` goes on waiting.
    eventually("both deletions are known", PATIENCE, || {
        let status = a.json(&["status"])?;
        (status["deleted"] == 2).then_some(()).ok_or(status.to_string())
    });
    a.wait_own_idle();
    a.stop();
    // Either may come first.
    b.start();
    a.start();
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["kept"]);
    a.restart();
    b.restart();
    wait_linked(&[&a, &b]);
    assert_eq!(converge(&[&a, &b]).paths(), ["kept"]);
    assert!(b.history().contains(&b"gone".to_vec()), "what b lost is in its history");
}

#[test]
fn what_was_deleted_while_our_own_daemon_was_off_is_gone_on_the_peer() {
    let (a, b) = Group::new().pair();
    write(a.at("kept"), "kept");
    write(a.at("gone"), "gone");
    converge(&[&a, &b]);
    a.stop();
    remove(a.at("gone"));
    a.start();
    assert_eq!(converge(&[&a, &b]).paths(), ["kept"]);
}

#[test]
fn a_folder_made_with_files_in_it_at_once_is_complete_50_times_over() {
    let (a, b) = Group::new().pair();
    for round in 0..50 {
        let base = a.at(&format!("n{round}"));
        fs::create_dir_all(base.join("a/b/c")).expect("mkdir -p");
        for (n, dir) in ["", "a", "a/b", "a/b/c"].iter().enumerate() {
            fs::write(base.join(dir).join("f"), format!("{round} {n}")).expect("writes");
            fs::write(base.join(dir).join("g"), format!("{n} {round}")).expect("writes");
        }
        if round % 5 == 0 {
            wait_equal(&[&a, &b], PATIENCE);
        }
    }
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 50 * 8);
    assert_eq!(read(b.at("n49/a/b/c/f")), b"49 3");
}

#[test]
fn a_folder_removed_made_again_and_filled_at_once_misses_nothing() {
    let (a, b) = Group::new().pair();
    // Something stays, so that this never looks like a folder that was emptied.
    write(a.at("stays"), "stays");
    for round in 0..30 {
        if a.at("d").exists() {
            remove(a.at("d"));
        }
        fs::create_dir(a.at("d")).expect("mkdir");
        fs::write(a.at("d/f"), format!("round {round}")).expect("writes");
        if round % 2 == 0 {
            fs::write(a.at("d/even"), format!("round {round}")).expect("writes");
        }
        if round % 3 == 0 {
            wait_equal(&[&a, &b], PATIENCE);
        } else {
            pace(round * 3);
        }
    }
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["d", "d/f", "stays"]);
    assert_eq!(read(b.at("d/f")), b"round 29");
}

#[test]
fn an_edit_made_apart_from_a_deletion_outlives_it() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "old");
    write(a.at("stays"), "stays");
    converge(&[&a, &b]);
    a.stop();
    b.stop();
    write(b.at("f"), "edited");
    remove(a.at("f"));
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"edited");
}

#[test]
fn a_deletion_on_both_sides_is_a_deletion() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "old");
    write(a.at("stays"), "stays");
    converge(&[&a, &b]);
    a.stop();
    b.stop();
    remove(a.at("f"));
    remove(b.at("f"));
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    assert_eq!(converge(&[&a, &b]).paths(), ["stays"]);
}

#[test]
fn a_name_deleted_and_used_again_holds_the_new_thing() {
    let (a, b) = Group::new().pair();
    write(a.at("stays"), "stays");
    for round in 0..10 {
        write(a.at("f"), format!("life {round}"));
        wait_equal(&[&a, &b], PATIENCE);
        remove(a.at("f"));
        wait_equal(&[&a, &b], PATIENCE);
    }
    write(b.at("f"), "by the other");
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"by the other");
}

#[test]
fn a_large_folder_is_deleted_everywhere_and_each_file_is_in_history() {
    let (a, b) = Group::new().pair();
    for n in 0..200 {
        write(a.at(&format!("big/{}/{n}", n % 7)), noise(n, 500));
    }
    // More stays than goes: nothing here looks like a disaster.
    for n in 0..300 {
        write(a.at(&format!("rest/{n}")), noise(1000 + n, 10));
    }
    converge(&[&a, &b]);
    remove(a.at("big"));
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 300);
    assert!(!tree.has("big"));
    let kept = b.history();
    assert!((0..200).all(|n| kept.contains(&noise(n, 500))), "each deleted file is in b's history");
}
