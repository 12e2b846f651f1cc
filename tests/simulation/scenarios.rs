//! Written scenarios: what a person would try first, each once with every step named.
//!
//! The oracles of `oracle.rs` hold at every rest here as well; each scenario adds who must have
//! won.

use super::plan::{Plan, SECOND};
use super::trace::Kept;
use super::tree::{Body, Data};
use super::users::{Op, path};
use super::world::World;

fn world(plan: Plan) -> World {
    let mut world = World::new(1, plan, Kept::Nothing);
    (0..world.nodes.len()).for_each(|node| world.start(node));
    world.run_for(10 * SECOND);
    world
}

/// Everything rests and every promise holds.
#[track_caller]
fn calm(world: &mut World) {
    world.rest();
    assert_eq!(world.broken, None);
}

fn save(world: &mut World, node: usize, at: &str, text: &str) {
    let data = Data::small(text.as_bytes().to_vec());
    world.user_does(node, &Op::Save { path: path(at), data, mtime: None });
    world.run_for(SECOND);
}

fn remove(world: &mut World, node: usize, at: &str) {
    world.user_does(node, &Op::Remove { path: path(at) });
    world.run_for(SECOND);
}

/// What a file holds; `dir` and `link` for the others.
fn read(world: &World, node: usize, at: &str) -> Option<String> {
    let tree = &world.nodes[node].disk.live;
    tree.get(&path(at)).map(|(_, inode)| match &inode.body {
        Body::File(data) => String::from_utf8_lossy(&data.text).into_owned(),
        Body::Directory(_) => "dir".to_owned(),
        Body::Symlink(_) => "link".to_owned(),
        Body::Special(what) => (*what).to_owned(),
    })
}

fn is_kept(world: &World, node: usize, text: &str) -> bool {
    let value = super::tree::Value::File(Data::small(text.as_bytes().to_vec()));
    world.nodes[node].disk.live.kept().any(|kept| kept == value)
}

#[track_caller]
fn all_hold(world: &World, at: &str, what: Option<&str>) {
    for node in 0..world.nodes.len() {
        assert_eq!(read(world, node, at).as_deref(), what, "{at} on n{node}");
    }
}

fn part_all(world: &mut World, parted: bool) {
    (0..world.plan.pairs.len()).for_each(|pair| world.part(pair, parted));
    world.run_for(10 * SECOND);
}

#[test]
fn the_ends_of_a_line_agree_through_its_middle() {
    let mut world = world(Plan { pairs: vec![(0, 1), (1, 2)], ..Plan::quiet(3) });
    save(&mut world, 0, "a", "from the left");
    save(&mut world, 2, "d/b", "from the right");
    calm(&mut world);
    all_hold(&world, "a", Some("from the left"));
    all_hold(&world, "d/b", Some("from the right"));
    save(&mut world, 2, "a", "on top of the left's");
    remove(&mut world, 0, "d");
    calm(&mut world);
    all_hold(&world, "a", Some("on top of the left's"));
    all_hold(&world, "d", None);
}

#[test]
fn what_was_deleted_while_a_machine_was_down_stays_deleted() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "d/a", "first");
    calm(&mut world);
    world.crash(1, false);
    remove(&mut world, 0, "d");
    world.run_for(60 * SECOND);
    world.start(1);
    calm(&mut world);
    all_hold(&world, "d", None);
    assert!(is_kept(&world, 1, "first"), "the machine that did not delete it keeps it in history");
}

#[test]
fn a_rename_leaves_nothing_in_history_and_the_deletion_of_a_copy_does() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "d/a", "moved");
    save(&mut world, 0, "copy", "copied");
    save(&mut world, 0, "original", "copied");
    calm(&mut world);
    world.run_for(20 * 60 * SECOND);
    world.user_does(0, &Op::Rename { from: path("d"), to: path("e") });
    world.run_for(60 * SECOND);
    calm(&mut world);
    all_hold(&world, "e/a", Some("moved"));
    assert!(!is_kept(&world, 1, "moved"), "it is at its new path");
    remove(&mut world, 0, "copy");
    world.run_for(60 * SECOND);
    calm(&mut world);
    assert!(is_kept(&world, 1, "copied"), "a deleted file comes back by its name, whatever else holds the same");
}

#[test]
fn of_two_edits_made_apart_the_later_wins_and_the_other_is_kept() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "a", "base");
    calm(&mut world);
    part_all(&mut world, true);
    save(&mut world, 0, "a", "earlier");
    save(&mut world, 1, "a", "later");
    part_all(&mut world, false);
    calm(&mut world);
    all_hold(&world, "a", Some("later"));
    assert!(is_kept(&world, 0, "earlier"));
}

#[test]
fn an_edit_on_top_of_another_wins_whatever_the_clocks_say() {
    let year = 365 * 24 * 3600 * SECOND as i64;
    let mut world = world(Plan { skew_ns: vec![year, -year], ..Plan::quiet(2) });
    save(&mut world, 0, "a", "by the clock that is ahead");
    calm(&mut world);
    save(&mut world, 1, "a", "on top, by the clock that is behind");
    calm(&mut world);
    all_hold(&world, "a", Some("on top, by the clock that is behind"));
    remove(&mut world, 1, "a");
    calm(&mut world);
    all_hold(&world, "a", None);
}

#[test]
fn a_folder_against_a_file_keeps_both() {
    let mut world = world(Plan::quiet(2));
    part_all(&mut world, true);
    save(&mut world, 0, "d/a", "in the folder");
    save(&mut world, 1, "d", "the file");
    part_all(&mut world, false);
    calm(&mut world);
    all_hold(&world, "d", Some("dir"));
    all_hold(&world, "d/a", Some("in the folder"));
    let beside = world.nodes[0].disk.live.listing().into_keys().find(|path| path.as_bytes().starts_with(b"d.conflict"));
    let beside = beside.expect("the file stands beside the folder").to_text();
    all_hold(&world, &beside, Some("the file"));
}

#[test]
fn an_edit_inside_a_folder_outlives_its_concurrent_deletion() {
    let mut world = world(Plan::quiet(3));
    save(&mut world, 0, "d/e/a", "base");
    save(&mut world, 0, "d/e/b", "other");
    calm(&mut world);
    part_all(&mut world, true);
    remove(&mut world, 0, "d");
    save(&mut world, 1, "d/e/a", "edited");
    part_all(&mut world, false);
    calm(&mut world);
    all_hold(&world, "d/e/a", Some("edited"));
    all_hold(&world, "d/e/b", None);
}

#[test]
fn a_folder_restored_from_a_backup_rolls_nobody_back() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "a", "before the backup");
    save(&mut world, 0, "c", "deleted since");
    calm(&mut world);
    world.back_up(0);
    save(&mut world, 1, "a", "after the backup");
    save(&mut world, 1, "b", "made since");
    remove(&mut world, 1, "c");
    calm(&mut world);
    world.restore(0, false);
    calm(&mut world);
    all_hold(&world, "a", Some("after the backup"));
    all_hold(&world, "b", Some("made since"));
    all_hold(&world, "c", None);
}

#[test]
fn a_folder_made_and_changed_at_once_is_watched() {
    let mut world = world(Plan::quiet(2));
    world.user_does(0, &Op::MakeFolder { path: path("d") });
    world.user_does(0, &Op::Chmod { path: path("d"), mode: dirsyncd::model::Mode(0o700) });
    world.run_for(5 * SECOND);
    save(&mut world, 0, "d/a", "inside");
    calm(&mut world);
    all_hold(&world, "d/a", Some("inside"));
}

#[test]
fn two_names_that_change_places_do_so_everywhere() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "a", "one");
    save(&mut world, 0, "b", "two");
    calm(&mut world);
    world.user_does(1, &Op::Exchange { a: path("a"), b: path("b") });
    calm(&mut world);
    all_hold(&world, "a", Some("two"));
    all_hold(&world, "b", Some("one"));
}

#[test]
fn an_old_album_is_renamed_again_and_again_and_then_pruned_with_nothing_held() {
    let mut world = world(Plan::quiet(2));
    world.user_does(0, &Op::MakeFolder { path: path("album") });
    for n in 0..110 {
        let data = Data::small(format!("photo {n}").into_bytes());
        world.user_does(0, &Op::Save { path: path(&format!("album/{n}")), data, mtime: None });
    }
    // Until it counts.
    world.run_for(2 * 3600 * SECOND);
    calm(&mut world);
    for (node, from, to) in [(0, "album", "album2"), (1, "album2", "album3"), (0, "album3", "album")] {
        world.user_does(node, &Op::Rename { from: path(from), to: path(to) });
        calm(&mut world);
        all_hold(&world, &format!("{to}/7"), Some("photo 7"));
    }
    remove(&mut world, 1, "album/7");
    calm(&mut world);
    all_hold(&world, "album/7", None);
    // More than half of it is another matter.
    for n in 10..110 {
        world.user_does(0, &Op::Remove { path: path(&format!("album/{n}")) });
    }
    world.run_for(60 * SECOND);
    let held = world.nodes[0].engine.as_mut().expect("it is up").status().held_deletions;
    assert_eq!(held, 100);
    assert_eq!(read(&world, 1, "album/50").as_deref(), Some("photo 50"));
}

#[test]
fn jobs_that_are_made_here_and_taken_there_are_never_held() {
    let mut world = world(Plan::quiet(2));
    save(&mut world, 0, "keep", "kept");
    for n in 0..130 {
        save(&mut world, 0, &format!("job{n}"), &format!("job {n}"));
        remove(&mut world, 1, &format!("job{n}"));
    }
    calm(&mut world);
    all_hold(&world, "job129", None);
    all_hold(&world, "keep", Some("kept"));
}

fn save_large(world: &mut World, node: usize, at: &str) {
    let data = Data { text: at.to_owned().into(), padding: 300_000 };
    world.user_does(node, &Op::Save { path: path(at), data, mtime: None });
    world.run_for(SECOND / 10);
}

#[test]
fn large_files_of_others_come_while_a_disk_hangs_and_its_own_when_it_is_back() {
    let mut world = world(Plan::quiet(3));
    world.hang(0, true);
    for n in 0..6 {
        save_large(&mut world, 0, &format!("hung{n}"));
    }
    world.run_for(5 * SECOND);
    save_large(&mut world, 1, "other");
    world.run_for(30 * SECOND);
    assert_eq!(read(&world, 2, "other").as_deref(), Some("other"), "it waits for a disk that is not its own");
    assert_eq!(read(&world, 2, "hung5"), None, "nothing can read it");
    world.hang(0, false);
    calm(&mut world);
    (0..6).for_each(|n| all_hold(&world, &format!("hung{n}"), Some(&format!("hung{n}"))));
}

#[test]
fn small_files_that_another_machine_holds_come_from_there_while_a_disk_hangs() {
    let mut world = world(Plan::quiet(3));
    world.crash(2, false);
    for n in 0..20 {
        save(&mut world, n % 2, &format!("f{n}"), &format!("text {n}"));
    }
    world.run_for(10 * SECOND);
    world.hang(0, true);
    // The third machine meets the other one only after it has asked for all of it.
    let others = world.plan.pairs.iter().position(|pair| *pair == (1, 2)).expect("all are linked");
    world.part(others, true);
    world.start(2);
    world.run_for(5 * SECOND);
    world.part(others, false);
    world.run_for(60 * SECOND);
    (0..20).for_each(|n| all_hold(&world, &format!("f{n}"), Some(&format!("text {n}"))));
    world.hang(0, false);
    calm(&mut world);
}
