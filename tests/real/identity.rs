//! Machines that are not who they were: set back to an old image, or cloned. They take a new device
//! id, say so, and take nothing from the others (P8).

use crate::common::disk::{chmod, copy_tree, now_secs, set_mtime};
use crate::common::machine::{find_line, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, read, remove, write};
use dirsyncd::io::net::device_key::META_FORMER_KEYS;
use dirsyncd::io::net::succession::former_ids;
use dirsyncd::io::store::index::SqliteIndex;
use dirsyncd::model::DeviceId;
use dirsyncd::model::text::from_hex;
use std::path::Path;

fn device(machine: &Machine) -> String {
    machine.json(&["status"]).expect("status")["device"].as_str().expect("an id").to_owned()
}

/// Of a machine that is stopped.
fn former_devices(machine: &Machine, device: &str) -> Vec<String> {
    let chain = SqliteIndex::glance(&machine.state.join("index"), META_FORMER_KEYS).expect("an index").meta;
    let device = DeviceId(from_hex(device).expect("an id"));
    former_ids(&chain.expect("a chain"), device).iter().map(ToString::to_string).collect()
}

/// The state and the folder of a machine that is stopped, as a backup of its whole disk would have
/// them.
fn image(machine: &Machine, to: &Path) {
    std::fs::create_dir(to).expect("mkdir");
    copy_tree(&machine.dir, &to.join("data"));
    copy_tree(&machine.state, &to.join("state"));
}

fn put_back(machine: &Machine, from: &Path) {
    remove(&machine.dir);
    remove(&machine.state);
    copy_tree(&from.join("data"), &machine.dir);
    copy_tree(&from.join("state"), &machine.state);
    chmod(&machine.state, 0o700);
}

#[test]
fn a_machine_restored_from_last_month_s_image_takes_a_new_id_and_rolls_nobody_back() {
    let (a, b) = Group::new().pair();
    for name in ["f", "g", "untouched"] {
        write(a.at(name), "last month's");
    }
    converge(&[&a, &b]);
    a.stop();
    let backup = a.home.join("image");
    image(&a, &backup);
    a.start();
    wait_linked(&[&a, &b]);
    let before = device(&a);
    for round in 0..3 {
        write(a.at("f"), format!("edit {round}"));
        write(a.at(&format!("made-since-{round}")), "new");
        converge(&[&a, &b]);
    }
    remove(a.at("g"));
    converge(&[&a, &b]);
    a.stop();
    put_back(&a, &backup);
    // Such an image is not of one moment: here the folder's part is a little younger than the
    // index's, and it was written to the disk just now.
    write(a.at("f"), "last month's, after the index was copied");
    set_mtime(a.at("f"), now_secs() - 30 * 86_400, 0);
    a.start();
    a.wait_log(&["set back to an older state", "new device id"]);
    wait_linked(&[&a, &b]);
    let tree = converge(&[&a, &b]);
    assert_eq!(read(b.at("f")), b"edit 2");
    assert!(tree.has("made-since-2") && tree.has("untouched"));
    assert!(!tree.has("g"), "what was deleted since is gone");
    assert_ne!(device(&a), before);
    write(a.at("f"), "as a new device");
    converge(&[&a, &b]);
    assert_eq!(read(b.at("f")), b"as a new device");
    a.restart();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(find_line(&a.log(), &["new device id"]), None, "once was enough");
    let now = device(&a);
    a.stop();
    assert_eq!(former_devices(&a, &now), [before], "its old key signed the new id");
}

#[test]
fn of_two_machines_with_one_state_directory_the_later_takes_a_new_id_and_both_say_so() {
    let group = Group::new();
    let (a, b) = group.pair();
    write(a.at("f"), "of all");
    converge(&[&a, &b]);
    a.stop();
    let clone = group.machine("clone");
    let copy = a.home.join("image");
    image(&a, &copy);
    put_back(&clone, &copy);
    a.start();
    wait_linked(&[&a, &b]);
    let id = device(&a);
    clone.spawn();
    clone.wait_log(&["copy", "state directory", "new device id"]);
    a.wait_log(&["copy", "state directory"]);
    eventually("the clone answers as another device", PATIENCE, || {
        let other = clone.json(&["status"])?["device"].clone();
        (other != *id).then_some(()).ok_or("it still has a's id".to_owned())
    });
    let all = [&a, &b, &clone];
    wait_linked(&all);
    assert_eq!(device(&a), id, "the earlier one keeps it");
    write(clone.at("f"), "by the clone");
    write(a.at("g"), "by a");
    let tree = converge(&all);
    assert_eq!(read(b.at("f")), b"by the clone");
    assert!(tree.has("g"));
}
