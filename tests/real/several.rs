//! Several folders on one machine, each with a daemon of its own.

use crate::common::{Group, Machine, converge, write};
use serde_json::Value;

/// What `dirsync folders`, run in the folder of `asker`, says of `machine`.
fn folder_of(asker: &Machine, machine: &Machine) -> Option<Value> {
    let answer = asker.json(&["folders"]).unwrap_or_else(|why| panic!("{why}"));
    let folders = answer["folders"].as_array().expect("a list").clone();
    let directory = machine.dir.canonicalize().expect("it is there");
    folders.into_iter().find(|folder| folder["directory"] == directory.to_str().expect("a plain name"))
}

#[test]
fn every_folder_of_this_machine_is_listed_while_its_daemon_runs_wherever_its_state_is() {
    let (one, other) = (Group::new(), Group::new());
    let (a, b) = one.pair();
    let c = other.machine("c");
    c.start();
    write(a.at("f"), "0123456789");
    converge(&[&a, &b]);
    c.wait_idle();
    for (machine, state, files, peers) in
        [(&a, "in_sync", 1, vec!["b"]), (&b, "in_sync", 1, vec!["a"]), (&c, "alone", 0, vec![])]
    {
        // Asked from another folder.
        let folder = folder_of(&c, machine).unwrap_or_else(|| panic!("{} is listed", machine.name));
        let status = machine.json(&["status"]).expect("it answers");
        assert_eq!(folder["state"], state, "{folder}");
        assert_eq!((&folder["files"], &folder["peers"]), (&files.into(), &peers.into()));
        assert_eq!(folder["pid"], machine.pid());
        assert_eq!((&folder["listen_port"], &folder["state_dir"]), (&status["listen_port"], &status["state_dir"]));
        assert_eq!(folder["uid"], rustix::process::geteuid().as_raw());
    }
    assert!(c.cli(&["pause"]).status.success());
    assert_eq!(folder_of(&a, &c).expect("it is listed")["state"], "paused");
    c.kill();
    assert!(folder_of(&a, &c).is_none(), "it is gone with its daemon, and its state is where nobody looks");
}
