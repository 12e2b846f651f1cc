//! `dirsync demo`: it shows what it says, and nothing of it stays.

use crate::common::{PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
    command.args(["demo", "--quick"]).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

/// Daemons that run below this folder.
fn daemons(below: &Path) -> Vec<String> {
    let lines = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(below.to_str().expect("a plain name"))).collect()
}

fn is_clean(temporary: &Path) {
    let left: Vec<_> = fs::read_dir(temporary).expect("our own").flatten().map(|child| child.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(daemons(temporary), [""; 0]);
}

#[test]
fn the_demo_goes_through_all_its_steps_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let out = demo(temporary.path()).output().expect("dirsync can be started");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    for part in [
        "1. They find each other",
        "All three are linked after",
        "beta and gamma had it after",
        "kept in history",
        "beta was killed when it had",
        "byte for byte",
        "restored",
        "All of it is gone",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    is_clean(temporary.path());
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let mut child = demo(temporary.path()).stdout(Stdio::piped()).spawn().expect("dirsync can be started");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("2. An edit") {
        line.clear();
        assert!(out.read_line(&mut line).expect("a pipe") > 0, "it ended before");
    }
    assert_eq!(daemons(temporary.path()).len(), 3);
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("a pipe");
    assert!(child.wait().expect("our child").success() && rest.contains("interrupted"), "{rest}");
    eventually("nothing is left", PATIENCE, || {
        let left = daemons(temporary.path());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    is_clean(temporary.path());
}
