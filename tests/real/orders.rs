//! Orders that a person gives while all runs: look at the folder now, and send more or less.

use crate::common::machine::{start_all, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, noise, read, write};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn succeeds(machine: &Machine, args: &[&str]) -> String {
    let out = machine.cli(args);
    assert!(out.status.success(), "dirsync {args:?}: {}", text_of(&out));
    text_of(&out)
}

/// Writes into memory that is mapped from the file, as databases do: the kernel announces nothing
/// before the file is closed, which the child waits with.
fn write_mapped(machine: &Machine, name: &str) -> Child {
    let script = "import mmap, os, sys\n\
                  f = open(sys.argv[1], 'r+b')\n\
                  m = mmap.mmap(f.fileno(), 0)\n\
                  m[:5] = b'after'\n\
                  m.flush()\n\
                  print('written', flush=True)\n\
                  sys.stdin.readline()\n";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(machine.at(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it says so");
    assert_eq!(line, "written\n");
    child
}

#[test]
fn a_scan_finds_what_the_kernel_announced_to_nobody() {
    let (a, b) = Group::new().pair();
    for name in ["all/mapped", "one/mapped", "file"] {
        write(a.at(name), "before");
    }
    converge(&[&a, &b]);
    for (name, scan) in [("all/mapped", &["scan"][..]), ("one/mapped", &["scan", "one"]), ("file", &["scan", "file"])] {
        let mut child = write_mapped(&a, name);
        assert_eq!(read(a.at(name)), b"aftere");
        succeeds(&a, scan);
        eventually(&format!("b has {name}"), PATIENCE, || {
            let there = read(b.at(name));
            if there == b"aftere" { Ok(()) } else { Err(String::from_utf8_lossy(&there).into_owned()) }
        });
        assert!(child.try_wait().expect("it is ours").is_none(), "it closed the file, which is announced");
        child.stdin.as_mut().expect("it is piped").write_all(b"\n").expect("it reads");
        child.wait().expect("it is ours");
    }
    succeeds(&a, &["pause"]);
    let refused = a.cli(&["scan"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text_of(&refused).contains("dirsync resume"), "{}", text_of(&refused));
}

#[test]
fn a_limit_is_set_and_lifted_while_a_file_is_on_its_way_and_stays_over_a_restart() {
    let (a, b) = Group::new().pair();
    assert!(succeeds(&a, &["limit"]).contains("no limit"));
    assert!(succeeds(&a, &["limit", "512K"]).contains("512.0 KiB"));
    a.stop();
    a.start();
    wait_linked(&[&a, &b]);
    assert!(succeeds(&a, &["limit"]).contains("512.0 KiB"), "it is kept");
    assert!(succeeds(&a, &["status"]).contains("512.0 KiB a second"));
    let size = 64 << 20;
    write(a.at("large"), noise(7, size));
    eventually("some of it is at b", PATIENCE, || {
        let status = b.json(&["status"])?;
        let here = status["transfers"][0]["bytes"].as_u64().unwrap_or(0);
        if here > 0 { Ok(()) } else { Err(status["transfers"].to_string()) }
    });
    // At the rate that was set, the rest would take two minutes.
    succeeds(&a, &["limit", "off"]);
    converge(&[&a, &b]);
    assert!(read(b.at("large")) == noise(7, size));
    a.stop();
    a.start();
    assert!(succeeds(&a, &["limit"]).contains("no limit"));
}

#[test]
fn a_limit_at_the_start_goes_before_the_one_that_was_set() {
    let group = Group::new();
    let mut a = group.machine("a");
    start_all(&[&a]);
    succeeds(&a, &["limit", "1M"]);
    a.stop();
    a.options.extend(["--limit".to_owned(), "2M".to_owned()]);
    a.start();
    assert!(succeeds(&a, &["limit"]).contains("2.0 MiB"));
    let refused = a.cli(&["limit", "1K"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text_of(&refused));
}

#[test]
fn who_waits_for_a_daemon_that_is_starting_waits_for_its_start_too() {
    let machine = Group::new().machine("a");
    machine.start();
    machine.stop();
    // As a daemon that has the folder and does not listen yet.
    let lock = machine.at(".dirsync/lock");
    let mut starting = Command::new("flock").arg(&lock).arg("cat").stdin(Stdio::piped()).spawn().expect("flock");
    eventually("the folder is had", PATIENCE, || {
        let said = text_of(&machine.cli(&["status"]));
        if said.contains("starting or stopping") { Ok(()) } else { Err(said) }
    });
    let began = Instant::now();
    let in_vain = machine.cli(&["wait", "--timeout", "1"]);
    assert_eq!(in_vain.status.code(), Some(1), "{}", text_of(&in_vain));
    assert!(began.elapsed() >= Duration::from_secs(1), "it gave up after {:?}", began.elapsed());
    drop(starting.stdin.take());
    starting.wait().expect("it is ours");
    assert!(text_of(&machine.cli(&["wait", "--timeout", "60"])).contains("no daemon is running"), "none is to come");
}
