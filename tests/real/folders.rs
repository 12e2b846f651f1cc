//! Folders and renames: everything arrives under its last name, and what two people do at once
//! loses nothing (P2).

use crate::common::machine::wait_linked;
use crate::common::{
    Group, Machine, PATIENCE, converge, exchange, noise, pace, read, remove, rename, wait_equal, write,
};
use std::fs;

/// A file and a folder made at one path while apart, the file first or last: the folder stays. The
/// file is kept: beside the folder if it was the later, else in history as any other loser.
fn file_meets_folder(file_is_later: bool) -> (Machine, Machine, Vec<String>) {
    let (a, b) = Group::new().pair();
    write(a.at("other"), "so that there is something");
    converge(&[&a, &b]);
    a.stop();
    b.stop();
    let make_file = || write(a.at("x"), "the file");
    let make_folder = || write(b.at("x/inside"), "in the folder");
    if file_is_later {
        make_folder();
        pace(20);
        make_file();
    } else {
        make_file();
        pace(20);
        make_folder();
    }
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(read(a.at("x/inside")), b"in the folder");
    let copies = tree.holding(b"the file");
    (a, b, copies)
}

#[test]
fn a_file_made_apart_from_an_earlier_folder_of_its_name_is_kept_beside_it() {
    let (_a, _b, copies) = file_meets_folder(true);
    assert_eq!(copies.len(), 1, "the file is beside the folder: {copies:?}");
    assert!(copies[0].starts_with('x'), "it is named after the file: {copies:?}");
}

#[test]
fn a_file_made_apart_from_a_later_folder_of_its_name_is_kept_in_history() {
    let (a, _b, copies) = file_meets_folder(false);
    assert!(copies.is_empty(), "the folder is the winner: {copies:?}");
    assert!(a.history().iter().any(|kept| kept == b"the file"), "the file is in history where it was made");
}

#[test]
fn a_folder_replaced_by_a_file_and_back_while_linked_follows() {
    let (a, b) = Group::new().pair();
    write(a.at("stays"), "so that this never looks like a folder that was emptied");
    for round in 0..3 {
        write(a.at("x/deep/f"), format!("{round}"));
        assert!(wait_equal(&[&a, &b], PATIENCE).has("x/deep/f"));
        remove(a.at("x"));
        write(a.at("x"), format!("now a file {round}"));
        wait_equal(&[&a, &b], PATIENCE);
        remove(a.at("x"));
    }
    write(b.at("x"), "a file again");
    converge(&[&a, &b]);
    assert_eq!(read(a.at("x")), b"a file again");
}

#[test]
fn an_edit_inside_a_folder_outlives_the_deletion_of_the_folder() {
    let (a, b) = Group::new().pair();
    write(a.at("stays"), "stays");
    write(a.at("d/sub/edited"), "old");
    write(a.at("d/sub/untouched"), "old");
    write(a.at("d/other/untouched"), "old");
    converge(&[&a, &b]);
    a.stop();
    b.stop();
    remove(a.at("d"));
    write(b.at("d/sub/edited"), "edited");
    write(b.at("d/sub/new"), "new");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["d", "d/sub", "d/sub/edited", "d/sub/new", "stays"]);
    assert_eq!(read(a.at("d/sub/edited")), b"edited");
}

#[test]
fn a_chain_of_renames_within_milliseconds_ends_under_the_last_name() {
    let (a, b) = Group::new().pair();
    for round in 0..20 {
        write(a.at("a"), format!("value {round}"));
        wait_equal(&[&a, &b], PATIENCE);
        rename(a.at("a"), a.at("b"));
        pace(round % 5);
        rename(a.at("b"), a.at("c"));
        let tree = wait_equal(&[&a, &b], PATIENCE);
        assert_eq!(tree.paths(), ["c"]);
    }
    converge(&[&a, &b]);
    assert_eq!(read(b.at("c")), b"value 19");
}

#[test]
fn a_chain_of_folder_renames_ends_under_the_last_name() {
    let (a, b) = Group::new().pair();
    for n in 0..30 {
        write(a.at(&format!("a/{}/{n}", n % 3)), format!("{n}"));
    }
    converge(&[&a, &b]);
    rename(a.at("a"), a.at("b"));
    rename(a.at("b"), a.at("c"));
    write(a.at("c/0/new"), "written right after");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 31);
    assert!(tree.paths().iter().all(|path| path.starts_with('c')), "{:?}", tree.paths());
}

#[test]
fn a_renamed_folder_sends_no_contents() {
    let (a, b) = Group::new().pair();
    for n in 0..100 {
        write(a.at(&format!("old/{n}")), noise(n, 100_000));
    }
    converge(&[&a, &b]);
    let before = a.wire_bytes();
    rename(a.at("old"), a.at("new"));
    let tree = converge(&[&a, &b]);
    assert!(tree.has("new/99") && !tree.has("old"));
    let sent = a.wire_bytes().0 - before.0;
    assert!(sent < 500_000, "{sent} bytes sent to rename 10 MB");
}

/// Writes `d/w0`, `d/w1`, ... until told to stop; what was really written under that name.
fn write_while_renamed(b: &Machine, count: u64) -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    for n in 0..count {
        let bytes = format!("written {n} while the folder moved").into_bytes();
        let dir = if b.at("d").exists() { "d" } else { "e" };
        if fs::write(b.at(&format!("{dir}/w{n}")), &bytes).is_ok() {
            written.push(bytes);
        }
        pace(5);
    }
    written
}

#[test]
fn a_folder_renamed_while_the_peer_writes_into_it_loses_nothing() {
    let (a, b) = Group::new().pair();
    for n in 0..50 {
        write(a.at(&format!("d/f{n}")), noise(n, 2000));
    }
    converge(&[&a, &b]);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_while_renamed(&b, 100));
        for round in 0..5 {
            pace(80);
            let (from, to) = if round % 2 == 0 { ("d", "e") } else { ("e", "d") };
            // The peer's writes may have brought the other name back: then its files move one by
            // one.
            if a.at(to).exists() {
                for child in fs::read_dir(a.at(from)).expect("a folder").flatten() {
                    let _ = fs::rename(child.path(), a.at(to).join(child.file_name()));
                }
            } else {
                rename(a.at(from), a.at(to));
            }
        }
        writer.join().expect("the writer ends well")
    });
    let tree = converge(&[&a, &b]);
    let kept = [a.history(), b.history()].concat();
    let originals = (0..50).map(|n| noise(n, 2000));
    for value in written.into_iter().chain(originals) {
        let there = !tree.holding(&value).is_empty() || kept.contains(&value);
        assert!(there, "{:?} is lost", String::from_utf8_lossy(&value[..value.len().min(40)]));
    }
}

#[test]
fn two_files_that_swap_their_names_are_swapped_everywhere() {
    let (a, b) = Group::new().pair();
    write(a.at("one"), "1");
    write(a.at("two"), "2");
    converge(&[&a, &b]);
    for round in 0..10 {
        if round % 2 == 0 {
            exchange(a.at("one"), a.at("two")).expect("RENAME_EXCHANGE");
        } else {
            rename(a.at("one"), a.at("third"));
            rename(a.at("two"), a.at("one"));
            rename(a.at("third"), a.at("two"));
        }
        wait_equal(&[&a, &b], PATIENCE);
    }
    exchange(b.at("one"), b.at("two")).expect("RENAME_EXCHANGE");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["one", "two"]);
    assert_eq!((read(a.at("one")), read(a.at("two"))), (b"2".to_vec(), b"1".to_vec()));
}

#[test]
fn two_folders_that_swap_their_names_are_swapped_everywhere() {
    let (a, b) = Group::new().pair();
    write(a.at("left/f"), "left");
    write(a.at("left/only-left"), "left");
    write(a.at("right/f"), "right");
    converge(&[&a, &b]);
    exchange(a.at("left"), a.at("right")).expect("RENAME_EXCHANGE");
    // What comes next must still be seen under the new names.
    write(a.at("right/later"), "later");
    converge(&[&a, &b]);
    assert_eq!(read(b.at("left/f")), b"right");
    assert_eq!(read(b.at("right/f")), b"left");
    assert_eq!(read(b.at("right/later")), b"later");
    write(b.at("right/sub/from-b"), "back");
    converge(&[&a, &b]);
}

#[test]
fn a_folder_moved_in_from_outside_arrives_with_its_old_files() {
    let (a, b) = Group::new().pair();
    write(a.at("there"), "there");
    converge(&[&a, &b]);
    let outside = a.home.join("outside");
    // Fewer than what counts as a mass deletion when they leave again.
    for n in 0..60 {
        let file = outside.join(format!("{}/{n}", n % 10));
        write(&file, format!("{n}"));
        crate::common::set_mtime(&file, 1_000_000_000 + n, 0);
    }
    rename(&outside, a.at("moved-in"));
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 61);
    rename(a.at("moved-in"), &outside);
    assert_eq!(converge(&[&a, &b]).paths(), ["there"]);
}

#[test]
fn empty_folders_and_deep_ones_arrive_and_go() {
    let (a, b) = Group::new().pair();
    write(a.at("stays"), "stays");
    fs::create_dir_all(a.at("empty/nested/empty")).expect("mkdir -p");
    let deep = vec!["d"; 60].join("/");
    fs::create_dir_all(a.at(&deep)).expect("mkdir -p");
    write(a.at(&format!("{deep}/f")), "at the bottom");
    let tree = converge(&[&a, &b]);
    assert!(tree.has("empty/nested/empty"));
    assert_eq!(read(b.at(&format!("{deep}/f"))), b"at the bottom");
    remove(b.at("empty"));
    remove(b.at("d"));
    assert_eq!(converge(&[&a, &b]).paths(), ["stays"]);
}
