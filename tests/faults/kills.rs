//! kill -9 at every step: a daemon dies at each named point in turn, is started again, and nothing
//! is missing.
//!
//! Its peer's user makes every kind of change that can be received, its own user makes some too.
//! Each point is passed several times; a test here is one of those passages at all points.
//! `DIRSYNC_PASSAGE=n` tries another.

use crate::common::disk::set_mtime;
use crate::common::machine::wait_linked;
use crate::common::requests::{reply, send, socket};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, noise, pace, read, setting, swap_in, write};
use crate::work::{change, check, prepare};
use dirsyncd::io::fail::POINTS;
use dirsyncd::io::net::device_key::META_FORMER_KEYS;
use dirsyncd::io::store::index::SqliteIndex;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Passed only by what a test of its own does.
const ELSEWHERE: [&str; 13] = [
    "restore.placed",
    "install.proven",
    "leave.decide",
    "leave.decided",
    "leave.forget",
    "leave.forgotten",
    "rotate.durable",
    "rotate.file",
    "rotate.filed",
    "import.write",
    "import.written",
    "import.committed",
    "import.move",
];
const SIGKILL: i32 = 9;

/// Something in history that is older than any limit, for the first thing that a start does.
fn age_history(a: &Machine, round: u64) {
    let name = a.history_dir().join(format!("{:020}.replaced.aged-{round}", 1 + round));
    write(&name, "aged");
    // Else it counts as written to after it came.
    set_mtime(&name, 0, 0);
}

/// Starts `a` so that it dies at a passage of a point, works, and starts it again. `false`: it did
/// not get there.
fn die_at(a: &mut Machine, b: &Machine, round: u64, rule: &str) -> bool {
    age_history(a, round);
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), rule.to_owned())];
    a.spawn();
    let mut expected = change(a, b, round);
    let mut died = dies(a, b, rule);
    // On a busy machine all of that was one batch: a lone file goes other ways, told here and
    // installed here.
    for (at, name) in [(&*a, "alone"), (b, "alone-there")] {
        if died {
            break;
        }
        let (path, bytes) = (format!("r{round}/{name}"), b"made when nothing else was going on".to_vec());
        write(at.at(&path), &bytes);
        expected.files.insert(path, bytes);
        died = dies(a, b, rule);
    }
    a.kill();
    a.environment.clear();
    a.start();
    wait_linked(&[a, b]);
    converge(&[a, b]);
    check(a, b, round, rule, &expected);
    died
}

/// Waits until `a` is dead, or done.
fn dies(a: &Machine, b: &Machine, rule: &str) -> bool {
    eventually(&format!("a dies at {rule}, or is done"), PATIENCE, || {
        if let Some(status) = a.exit_status() {
            assert_eq!(status.signal(), Some(SIGKILL), "a ended by itself at {rule}");
            return Ok(true);
        }
        let (here, there) = (a.tree()?, b.tree()?);
        let idle = a.json(&["status"])?["idle"] == true;
        (here == there && idle).then_some(false).ok_or("they differ".to_owned())
    })
}

/// Each point once, at this passage. How many were reached.
fn die_at_every_point(passage: u64) -> usize {
    let (mut a, b) = Group::new().pair();
    let points = POINTS.map(|(_, name)| name).into_iter().filter(|name| !ELSEWHERE.contains(name));
    let points: Vec<_> = points.collect();
    for round in 0..points.len() as u64 {
        prepare(&b, round);
    }
    converge(&[&a, &b]);
    let mut reached = Vec::new();
    for (round, name) in points.iter().enumerate() {
        a.stop();
        let rule = format!("{name}:{passage}");
        if die_at(&mut a, &b, round as u64, &rule) {
            reached.push(*name);
        } else {
            assert!(passage > 1, "{name} was never passed: the work lacks something");
        }
    }
    println!("died at passage {passage} of {} points, of {}", reached.len(), points.len());
    reached.len()
}

#[test]
fn killed_at_the_first_passage_of_every_point_it_recovers() {
    die_at_every_point(1);
}

#[test]
fn killed_at_the_second_passage_of_every_point_it_recovers() {
    assert!(die_at_every_point(2) > 20);
}

#[test]
fn killed_at_the_third_passage_of_every_point_it_recovers() {
    assert!(die_at_every_point(setting("DIRSYNC_PASSAGE", 3)) > 20);
}

#[test]
fn killed_in_the_middle_of_a_restore_it_recovers() {
    let (mut a, b) = Group::new().pair();
    write(b.at("f"), "the first");
    converge(&[&a, &b]);
    swap_in(b.at("f"), "the second");
    converge(&[&a, &b]);
    a.stop();
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "restore.placed".to_owned())];
    a.start();
    a.cli(&["restore", "f"]);
    eventually("a is dead", PATIENCE, || a.exit_status().map(drop).ok_or("it lives".to_owned()));
    a.kill();
    a.environment.clear();
    a.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(read(b.at("f")), b"the first");
    assert!(a.history().contains(&b"the second".to_vec()), "what the restore replaced is in no history");
}

#[test]
fn killed_while_what_a_program_sent_is_installed_the_file_is_the_old_one_or_the_new_one() {
    let group = Group::new();
    let mut a = group.machine("a");
    a.start();
    let new = noise(9, 300_000);
    let put = |a: &Machine| {
        let length = new.len().to_string();
        let mut stream = socket(a);
        let target = format!("content/f?blake3={}", blake3::hash(&new));
        send(&mut *stream, "PUT", &target, &[("content-length", &length)]);
        let _ = stream.write_all(&new);
        stream
    };
    let points = ["stage.dress", "stage.fsync", "install.move", "install.moved", "install.exchange"];
    for point in [&points[..], &["install.exchanged", "install.fsync", "install.durable"]].concat() {
        write(a.at("f"), format!("old, before {point}"));
        a.wait_own_idle();
        a.stop();
        a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), point.to_owned())];
        a.start();
        let _stream = put(&a);
        eventually(&format!("a is dead at {point}"), PATIENCE, || {
            a.exit_status().map(drop).ok_or("it lives".to_owned())
        });
        a.kill();
        let there = read(a.at("f"));
        assert!(there == new || there == format!("old, before {point}").into_bytes(), "{point}");
        a.environment.clear();
        a.start();
        a.wait_own_idle();
        assert_eq!(read(a.at("f")), there, "{point}: as the kill left it");
        let answer = reply(&mut *put(&a));
        assert_eq!(answer.code, 200, "{point}: {}", answer.text());
        assert!(read(a.at("f")) == new, "{point}");
        assert!(a.history().contains(&format!("old, before {point}").into_bytes()), "{point}");
    }
}

#[test]
fn killed_while_a_large_file_gets_another_time_it_recovers() {
    let (mut a, b) = Group::new().pair();
    write(b.at("large"), vec![7; 65 << 20]);
    converge(&[&a, &b]);
    for (round, point) in ["install.proven", "install.time-set", "install.durable"].into_iter().enumerate() {
        a.stop();
        a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), format!("{point}:1"))];
        a.start();
        wait_linked(&[&a, &b]);
        set_mtime(b.at("large"), 1_600_000_000 + round as i64, 0);
        eventually("a is dead", PATIENCE, || a.exit_status().map(drop).ok_or("it lives".to_owned()));
        a.kill();
        a.environment.clear();
        a.start();
        wait_linked(&[&a, &b]);
        converge(&[&a, &b]);
        assert_eq!(a.history().len(), 0, "{point}: it counts as another content");
    }
    assert!(a.wire_bytes().1 < 1 << 20, "its bytes came again");
}

#[test]
fn a_conflict_whose_install_was_killed_is_listed_after_all() {
    let (mut a, b) = Group::new().pair();
    write(a.at("f"), "as both knew it");
    converge(&[&a, &b]);
    a.stop();
    write(a.at("f"), "ours, the earlier one");
    // Stamps are told apart by more than a tick of the clock that stamps files.
    pace(50);
    write(b.at("f"), "theirs");
    b.wait_own_idle();
    a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), "install.exchanged:1".to_owned())];
    a.spawn();
    eventually("a dies with the loser in history", PATIENCE, || {
        a.exit_status().map(|status| assert_eq!(status.signal(), Some(SIGKILL))).ok_or("it lives".to_owned())
    });
    a.kill();
    a.environment.clear();
    a.start();
    converge(&[&a, &b]);
    assert_eq!(read(a.at("f")), b"theirs");
    let listed = eventually("the conflict is listed", PATIENCE, || {
        let answer = a.json(&["conflicts", "f"])?;
        answer["conflicts"].as_array().filter(|list| list.len() == 1).cloned().ok_or(answer.to_string())
    });
    let kept = listed[0]["kept"].as_str().expect("a name in history");
    assert_eq!(read(a.history_dir().join(kept)), b"ours, the earlier one");
}

#[test]
fn killed_while_it_leaves_its_group_it_is_a_member_or_none() {
    let mut a = Group::new().machine("a");
    a.names_secret = false;
    write(a.at("f"), "stays");
    a.start();
    let membership = |a: &Machine| {
        let device = a.json(&["status"]).expect("a status")["device"].to_string();
        (read(a.state.join("secret")), device)
    };
    let rules = ["decide", "decided", "forget:1", "forget:2", "forget:5", "forget:8", "forgotten"];
    for rule in rules {
        converge(&[&a]);
        let before = membership(&a);
        a.stop();
        a.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), format!("leave.{rule}"))];
        a.start();
        a.cli(&["leave", "--yes"]);
        let status = eventually("a is dead", PATIENCE, || a.exit_status().ok_or("it lives".to_owned()));
        assert_eq!(status.signal(), Some(SIGKILL), "{rule}");
        a.kill();
        a.environment.clear();
        a.start();
        converge(&[&a]);
        let after = membership(&a);
        let is_same = (after.0 == before.0, after.1 == before.1);
        let is_member = rule == "decide";
        assert_eq!(is_same, (is_member, is_member), "{rule}: half a member");
        assert_eq!(read(a.at("f")), b"stays");
        assert_eq!(a.history().len(), 0, "{rule}");
    }
}

#[test]
fn killed_at_any_step_of_a_rotation_neither_end_is_locked_out() {
    let group = Group::new();
    let (mut a, mut b) = (group.machine("a"), group.machine("b"));
    for machine in [&mut a, &mut b] {
        machine.names_secret = false;
        std::fs::copy(machine.secret_file(), machine.state.join("secret")).expect("the group's secret");
        machine.start();
    }
    let secret = |machine: &Machine| read(machine.state.join("secret"));
    for (round, rule) in ["rotate.durable", "rotate.file", "rotate.filed"].iter().enumerate() {
        for dies in ["a", "b"] {
            wait_linked(&[&a, &b]);
            let before = secret(&a);
            let dying = if dies == "a" { &mut a } else { &mut b };
            dying.stop();
            dying.environment = vec![("DIRSYNCD_FAIL_AT".to_owned(), (*rule).to_owned())];
            dying.start();
            wait_linked(&[&a, &b]);
            a.cli(&["rotate", "--yes"]);
            let dying = if dies == "a" { &mut a } else { &mut b };
            let status = eventually("it is dead", PATIENCE, || dying.exit_status().ok_or("it lives".to_owned()));
            assert_eq!(status.signal(), Some(SIGKILL), "{dies} at {rule}");
            dying.kill();
            dying.environment.clear();
            dying.start();
            wait_linked(&[&a, &b]);
            write(a.at(&format!("{round}-{dies}")), "after it");
            converge(&[&a, &b]);
            assert_eq!(secret(&a), secret(&b), "{dies} at {rule}");
            assert_ne!(secret(&a), before, "{dies} at {rule}");
        }
    }
}

#[test]
fn killed_while_it_imports_a_membership_it_is_that_member_or_none() {
    let group = Group::new();
    let mut a = group.machine("a");
    a.names_secret = false;
    a.start();
    let file = a.home.join("a.age");
    let identity = |args: &[&str], fail_at: Option<&str>| {
        let mut command = Command::new(&a.client);
        command.args(["identity"]).args(args).arg("--passphrase-stdin").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null()).envs(fail_at.map(|rule| ("DIRSYNCD_FAIL_AT", rule)));
        let mut child = command.spawn().expect("dirsync can be started");
        child.stdin.take().expect("its standard input").write_all(b"one passphrase\n").expect("a line");
        child.wait().expect("our child")
    };
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    assert!(identity(&["export", &text(&file), "--state-dir", &text(&a.state)], None).code() == Some(1), "it runs");
    a.stop();
    assert!(identity(&["export", &text(&file), "--state-dir", &text(&a.state)], None).success());
    let rules = ["write", "written", "committed", "move:1", "move:2"];
    for (n, rule) in rules.into_iter().enumerate() {
        let mut b = group.machine(&format!("b{n}"));
        b.names_secret = false;
        let import = ["import", &text(&file), &text(&b.dir), "--state-dir", &text(&b.state)];
        let status = identity(&import, Some(&format!("import.{rule}")));
        assert_eq!(status.signal(), Some(SIGKILL), "{rule}");
        let is_member = !["write", "written"].contains(&rule);
        if !is_member {
            assert!(!b.state.join("secret").exists() && !b.state.join("index").exists(), "{rule}");
            assert!(identity(&import, None).success(), "{rule}: it can be imported again");
        }
        b.start();
        assert_eq!(read(b.state.join("secret")), read(a.state.join("secret")), "{rule}");
        let names = std::fs::read_dir(&b.state).expect("a folder").flatten().map(|entry| entry.file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("import")).collect();
        assert!(left.is_empty(), "{rule}: {left:?}");
        b.stop();
        let chain = SqliteIndex::glance(&b.state.join("index"), META_FORMER_KEYS).expect("an index").meta;
        assert!(chain.is_some(), "{rule}: the old device signed the new one");
        assert_eq!(identity(&import, None).code(), Some(1), "{rule}: it is one already");
    }
}
