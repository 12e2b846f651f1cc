//! Machines that are removed, and secrets that are replaced: who is out, and who is not.

use crate::common::machine::{start_all, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, read, write};
use serde_json::Value;

/// A machine whose secret is its own to replace.
fn own_secret(group: &Group, name: &str) -> Machine {
    let mut machine = group.machine(name);
    machine.names_secret = false;
    std::fs::copy(machine.secret_file(), machine.state.join("secret")).expect("the group's secret");
    machine
}

fn machines<const N: usize>(group: &Group, names: [&str; N]) -> [Machine; N] {
    names.map(|name| own_secret(group, name))
}

fn secret(machine: &Machine) -> String {
    String::from_utf8(read(machine.state.join("secret"))).expect("digits")
}

fn succeeds(machine: &Machine, args: &[&str]) -> String {
    let out = machine.cli(args);
    assert!(out.status.success(), "dirsync {args:?}: {}", text_of(&out));
    text_of(&out)
}

/// The list of machines: name and state of each, without what each machine says of itself alone.
fn listed(machine: &Machine) -> Vec<String> {
    let peers = machine.json(&["peers", "--all"]).expect("a list");
    let row = |peer: &Value| {
        let text = |field: &str| peer[field].as_str().unwrap_or("?").to_owned();
        let is_out = text("state").starts_with("removed") || text("state") == "left";
        let how = if is_out { text("state") } else { peer["listed"]["added_by"].as_str().unwrap_or("?").to_owned() };
        format!("{} {how}", text("name"))
    };
    let mut rows: Vec<_> = peers.as_array().expect("rows").iter().map(row).collect();
    rows.sort();
    rows
}

fn one_list(machines: &[&Machine]) {
    eventually("all show the same list of machines", PATIENCE, || {
        let lists: Vec<_> = machines.iter().map(|machine| listed(machine)).collect();
        lists.iter().all(|list| *list == lists[0]).then_some(()).ok_or(format!("{lists:#?}"))
    });
}

#[test]
fn a_removed_machine_is_out_and_one_that_slept_through_it_is_not() {
    let group = Group::new();
    let [a, b, slept, lost] = machines(&group, ["a", "b", "slept", "lost"]);
    start_all(&[&a, &b, &slept, &lost]);
    write(a.at("f"), "1");
    wait_linked(&[&a, &b, &slept, &lost]);
    converge(&[&a, &b, &slept, &lost]);
    one_list(&[&a, &b, &slept, &lost]);
    slept.stop();
    let before = secret(&a);
    let said = succeeds(&a, &["remove", "lost", "--yes"]);
    assert!(said.contains("removed lost; the group has a new secret"), "{said}");
    b.wait_log(&["handed over the group's new secret"]);
    wait_linked(&[&a, &b]);
    lost.wait_log(&["removed from the group"]);
    // Whoever has not heard of it yet would still be linked with it.
    lost.stop();
    write(lost.at("of-the-lost"), "not for them");
    write(a.at("f"), "2");
    converge(&[&a, &b]);
    a.stop();
    // From one that did not rotate itself.
    slept.start();
    slept.wait_log(&["b handed over the group's new secret"]);
    wait_linked(&[&b, &slept]);
    lost.start();
    slept.wait_log(&["is refused: it was removed from the group"]);
    a.start();
    wait_linked(&[&a, &b, &slept]);
    let tree = converge(&[&a, &b, &slept]);
    assert_eq!(tree.paths(), ["f"]);
    assert_eq!(read(slept.at("f")), b"2");
    assert_ne!(secret(&a), before);
    assert_eq!((secret(&b), secret(&slept), secret(&lost)), (secret(&a), secret(&a), before));
    one_list(&[&a, &b, &slept]);
    assert!(listed(&a).contains(&"lost removed by a".to_owned()), "{:?}", listed(&a));
    assert_eq!(read(lost.at("f")), b"1", "nothing reaches it any more");
    let out = a.cli(&["remove", "lost", "--yes"]);
    assert!(!out.status.success() && text_of(&out).contains("no machine 'lost' is on the list"), "{}", text_of(&out));
}

#[test]
fn two_parts_that_each_rotated_become_one_group_again_with_all_removals() {
    let group = Group::new();
    let [mut a, mut b, lost_of_a, lost_of_b] = machines(&group, ["a", "b", "lost-of-a", "lost-of-b"]);
    start_all(&[&a, &b, &lost_of_a, &lost_of_b]);
    wait_linked(&[&a, &b, &lost_of_a, &lost_of_b]);
    write(a.at("f"), "1");
    converge(&[&a, &b, &lost_of_a, &lost_of_b]);
    for machine in [&a, &b, &lost_of_a, &lost_of_b] {
        machine.stop();
    }
    let together = group.broadcast_port;
    a.group.broadcast_port = Group::new().broadcast_port;
    b.group.broadcast_port = Group::new().broadcast_port;
    start_all(&[&a, &b]);
    succeeds(&a, &["remove", "lost-of-a", "--yes"]);
    succeeds(&b, &["remove", "lost-of-b", "--yes"]);
    write(a.at("of-a"), "a");
    write(b.at("of-b"), "b");
    for machine in [&a, &b] {
        // It begins anew with it.
        eventually("the new secret is in its file", PATIENCE, || {
            (secret(machine).trim() != group.secret).then_some(()).ok_or(secret(machine))
        });
        machine.wait_up();
    }
    let apart = [secret(&a), secret(&b)];
    a.stop();
    b.stop();
    (a.group.broadcast_port, b.group.broadcast_port) = (together, together);
    start_all(&[&a, &b, &lost_of_a, &lost_of_b]);
    wait_linked(&[&a, &b]);
    assert_eq!(converge(&[&a, &b]).paths(), ["f", "of-a", "of-b"]);
    assert_eq!(secret(&a), secret(&b));
    assert!(!apart.contains(&secret(&a)), "neither part's secret alone opens anything");
    one_list(&[&a, &b]);
    assert_eq!(listed(&a)[2..], ["lost-of-a removed by a", "lost-of-b removed by b"]);
    lost_of_a.wait_log(&["removed from the group"]);
    lost_of_b.wait_log(&["removed from the group"]);
}

#[test]
fn a_reader_is_handed_what_it_may_have_and_a_rotation_removes_nobody() {
    let group = Group::new();
    let [first, mut second, mut reader] = ["first", "second", "reader"].map(|name| group.machine(name));
    let mut first = first;
    for machine in [&mut first, &mut second, &mut reader] {
        machine.names_secret = false;
    }
    first.start();
    for (machine, options) in [(&mut second, &[][..]), (&mut reader, &["--read-only"][..])] {
        let invited = first.json(&[&["invite"], options].concat()).expect("an invitation");
        machine.options = vec!["--join".to_owned(), invited["code"].as_str().expect("a code").to_owned()];
        machine.start();
    }
    wait_linked(&[&first, &second, &reader]);
    let before = secret(&reader);
    let would = succeeds(&first, &["rotate", "--dry-run"]);
    assert!(would.contains("second") && would.contains("reader"), "{would}");
    let out = reader.cli(&["rotate", "--yes"]);
    assert!(!out.status.success() && text_of(&out).contains("may only read"), "{}", text_of(&out));
    succeeds(&second, &["rotate", "--yes"]);
    first.wait_log(&["second handed over the group's new secret"]);
    reader.wait_log(&["handed over the group's new secret"]);
    write(first.at("f"), "after");
    wait_linked(&[&first, &second, &reader]);
    converge(&[&first, &second, &reader]);
    assert_ne!(secret(&reader), before);
    assert!(secret(&reader).starts_with("read-only "));
    one_list(&[&first, &second, &reader]);
    assert_eq!(listed(&first), ["first first", "reader first", "second first"]);
    // The unit still has --join in it.
    second.restart();
    second.wait_log(&["--join is ignored"]);
    wait_linked(&[&first, &second, &reader]);
}
