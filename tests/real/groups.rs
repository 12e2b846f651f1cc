//! More than two machines, cut cables, and those who do not belong.

use crate::common::disk::path_text;
use crate::common::lan::Lan;
use crate::common::machine::wait_linked;
use crate::common::ports::free_tcp_port;
use crate::common::{
    Group, Machine, PATIENCE, converge, eventually, is_root, noise, pace, read, remove, start_all, write,
};
use std::os::unix::fs::PermissionsExt;

/// Waits until `machine` has lost its link to `gone`.
fn wait_gone(machine: &Machine, gone: &str) {
    eventually(&format!("{} has noticed that {gone} is gone", machine.name), PATIENCE, || {
        let peers = machine.linked_peers()?;
        (!peers.iter().any(|p| p == gone)).then_some(()).ok_or(format!("{peers:?}"))
    });
}

#[test]
fn of_three_machines_the_last_to_join_gets_everything() {
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    a.start();
    b.start();
    for n in 0..100 {
        write(a.at(&format!("of-a/{n}")), noise(n, 5000));
        write(b.at(&format!("of-b/{n}")), noise(100 + n, 5000));
    }
    converge(&[&a, &b]);
    remove(a.at("of-b/7"));
    write(c.at("of-c"), "brought along");
    c.start();
    wait_linked(&[&a, &b, &c]);
    let tree = converge(&[&a, &b, &c]);
    assert_eq!(tree.files(), 200);
    write(c.at("of-a/1"), "edited by the newcomer");
    converge(&[&a, &b, &c]);
    assert_eq!(read(a.at("of-a/1")), b"edited by the newcomer");
}

#[test]
fn a_change_reaches_a_machine_that_was_off_through_one_that_was_on() {
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    start_all(&[&a, &b, &c]);
    write(a.at("f"), "old");
    converge(&[&a, &b, &c]);
    c.stop();
    write(a.at("f"), "new");
    converge(&[&a, &b]);
    a.stop();
    c.start();
    converge(&[&b, &c]);
    assert_eq!(read(c.at("f")), b"new");
}

#[test]
fn two_machines_that_cannot_reach_each_other_meet_through_a_third() {
    // Three broadcast ports of their own: only --peer leads anywhere, and it leads to b.
    let hub = Group::new();
    let port = free_tcp_port();
    let mut b = hub.machine("b");
    b.options = vec!["-l".to_owned(), port.to_string()];
    let side = |name: &str| {
        let mut machine = hub.out_of_hearing().machine(name);
        machine.options = vec!["--peer".to_owned(), format!("127.0.0.1:{port}")];
        machine
    };
    let (a, c) = (side("a"), side("c"));
    start_all(&[&a, &b, &c]);
    wait_linked(&[&a, &b]);
    wait_linked(&[&b, &c]);
    for n in 0..50 {
        write(a.at(&format!("from-a/{n}")), noise(n, 3000));
        write(c.at(&format!("from-c/{n}")), noise(50 + n, 200_000));
    }
    let tree = converge(&[&a, &b, &c]);
    assert_eq!(tree.files(), 100);
    for round in 0..20 {
        let (writer, path) = if round % 2 == 0 { (&a, "from-c/1") } else { (&c, "from-a/1") };
        write(writer.at(path), format!("round {round}"));
        pace(20);
    }
    remove(a.at("from-a/9"));
    let tree = converge(&[&a, &b, &c]);
    assert_eq!(tree.files(), 99);
    assert_eq!(a.linked_peers().expect("it runs"), ["b"], "a and c have no link");
}

#[test]
fn of_five_machines_one_is_cut_off_and_comes_back() {
    if !is_root("of_five_machines_one_is_cut_off_and_comes_back") {
        return;
    }
    let (lan, group) = (Lan::new(5), Group::new());
    let machines: Vec<Machine> = (1..=5).map(|host| lan.machine(&group, &format!("m{host}"), host)).collect();
    let all: Vec<&Machine> = machines.iter().collect();
    machines.iter().for_each(Machine::start);
    wait_linked(&all);
    for machine in &machines {
        write(machine.at(&format!("by-{}", machine.name)), &machine.name);
        write(machine.at(&format!("dir-{}/f", machine.name)), &machine.name);
    }
    converge(&all);
    lan.cut(5);
    wait_gone(&machines[0], "m5");
    write(machines[4].at("by-m1"), "edited while cut off");
    write(machines[4].at("new-at-5"), "made while cut off");
    write(machines[1].at("by-m2"), "edited by the rest");
    remove(machines[2].at("dir-m5"));
    converge(&all[..4]);
    assert!(machines[4].at("dir-m5/f").exists(), "nothing crosses a cut cable");
    lan.mend(5);
    let tree = converge(&all);
    assert_eq!(read(machines[0].at("by-m1")), b"edited while cut off");
    assert_eq!(read(machines[4].at("by-m2")), b"edited by the rest");
    assert!(tree.has("new-at-5") && !tree.has("dir-m5"));
}

#[test]
fn two_machines_without_a_path_between_them_on_a_real_network_agree_through_a_third() {
    if !is_root("two_machines_without_a_path_between_them_on_a_real_network_agree_through_a_third") {
        return;
    }
    let (lan, group) = (Lan::new(3), Group::new());
    let (a, b, c) = (lan.machine(&group, "a", 1), lan.machine(&group, "b", 2), lan.machine(&group, "c", 3));
    lan.part(1, 3);
    start_all(&[&a, &b, &c]);
    wait_linked(&[&a, &b]);
    wait_linked(&[&b, &c]);
    write(a.at("f"), "from a");
    write(c.at("g"), noise(3, 1_000_000));
    converge(&[&a, &b, &c]);
    write(c.at("f"), "from c, on top");
    converge(&[&a, &b, &c]);
    assert_eq!(read(a.at("f")), b"from c, on top");
}

#[test]
fn a_cable_cut_in_the_middle_of_a_large_file_delays_it_and_harms_nothing() {
    if !is_root("a_cable_cut_in_the_middle_of_a_large_file_delays_it_and_harms_nothing") {
        return;
    }
    let (lan, group) = (Lan::new(2), Group::new());
    let (a, b) = (lan.machine(&group, "a", 1), lan.machine(&group, "b", 2));
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    write(b.at("large"), "the old version");
    converge(&[&a, &b]);
    let large = noise(5, 96 << 20);
    write(a.at("large"), &large);
    eventually("it is on its way", PATIENCE, || {
        let before = 4 << 20;
        (a.wire_bytes().0 > before).then_some(()).ok_or("not yet".to_owned())
    });
    lan.cut(2);
    wait_gone(&a, "b");
    let there = read(b.at("large"));
    assert!(there == b"the old version" || there == large, "half a file at b");
    lan.mend(2);
    converge(&[&a, &b]);
    assert!(read(b.at("large")) == large, "it arrived wrong");
}

#[test]
fn a_machine_that_hangs_holds_up_nobody_and_catches_up() {
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    start_all(&[&a, &b, &c]);
    wait_linked(&[&a, &b, &c]);
    c.freeze();
    for n in 0..50 {
        write(a.at(&format!("f{n}")), noise(n, 100_000));
    }
    crate::common::wait_equal(&[&a, &b], PATIENCE);
    wait_gone(&a, "c");
    converge(&[&a, &b]);
    c.thaw();
    wait_linked(&[&a, &b, &c]);
    assert_eq!(converge(&[&a, &b, &c]).files(), 50);
}

#[test]
fn a_machine_with_another_secret_gets_nothing_and_learns_nothing() {
    let group = Group::new();
    let port = free_tcp_port();
    let mut a = group.machine("a");
    a.options = vec!["-l".to_owned(), port.to_string()];
    let b = group.machine("b");
    let mut stranger = group.stranger().machine("stranger");
    stranger.options = vec!["--peer".to_owned(), format!("127.0.0.1:{port}")];
    write(a.at("private-name"), "private contents");
    write(stranger.at("foreign"), "foreign");
    start_all(&[&a, &b, &stranger]);
    wait_linked(&[&a, &b]);
    stranger.wait_log(&["secret", &port.to_string()]);
    a.wait_log(&["secret", "127.0.0.1"]);
    write(a.at("later"), "the members go on");
    assert_eq!(converge(&[&a, &b]).paths(), ["later", "private-name"]);
    assert_eq!(stranger.tree().expect("a folder").paths(), ["foreign"]);
    assert!(!stranger.log().contains("private-name"), "a stranger learned a file's name");
    assert_eq!(stranger.linked_peers().expect("it runs"), Vec::<String>::new());
}

#[test]
fn a_restarted_machine_is_linked_again_within_seconds() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "f");
    converge(&[&a, &b]);
    for _ in 0..3 {
        b.restart();
        let start = std::time::Instant::now();
        wait_linked(&[&a, &b]);
        assert!(start.elapsed().as_secs() < 8, "it took {:?}", start.elapsed());
    }
    converge(&[&a, &b]);
}

#[test]
fn a_first_start_makes_a_secret_and_a_copy_of_it_adds_a_machine() {
    let group = Group::new();
    let (mut a, mut b) = (group.machine("a"), group.machine("b"));
    a.names_secret = false;
    b.names_secret = false;
    write(a.at("f"), "f");
    a.start();
    let secret = a.state.join("secret");
    a.wait_log(&[path_text(&secret)]);
    let mode = std::fs::metadata(&secret).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!a.log().contains(String::from_utf8_lossy(&read(&secret)).trim()), "the secret is in the log");
    std::fs::copy(&secret, b.state.join("secret")).expect("copies, with its permissions");
    b.start();
    wait_linked(&[&a, &b]);
    assert_eq!(converge(&[&a, &b]).paths(), ["f"]);
    assert!(!b.log().contains("made a secret"), "b took the copy");
}

#[test]
fn without_secrets_at_all_open_machines_find_each_other_and_say_that_they_are_open() {
    let group = Group::new();
    let (mut a, mut b) = (group.machine("a"), group.machine("b"));
    for machine in [&mut a, &mut b] {
        machine.names_secret = false;
        machine.options = vec!["--open".to_owned()];
    }
    write(a.at("f"), "f");
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    a.wait_log(&["warn", "open"]);
}
