//! `dirsync` as the tool for every day: files in and out of the folder through the daemon.

use crate::common::disk::peek;
use crate::common::machine::{start_all, text_of, wait_linked};
use crate::common::requests::{reply, send, socket, wait_known};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, noise, remove, write};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A file outside of the folder.
fn outside(machine: &Machine, name: &str, content: &[u8]) -> String {
    let path = machine.home.join("outside").join(name);
    write(&path, content);
    text(&path)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain name").to_owned()
}

fn out_folder(machine: &Machine) -> PathBuf {
    let out = machine.home.join("out");
    fs::create_dir_all(&out).expect("a folder below our own");
    out
}

/// Its answer, and its exit code.
fn asked(machine: &Machine, words: &[&str]) -> (Value, i32) {
    let out = machine.cli(&[words, &["--json"]].concat());
    let answer = serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {}", text_of(&out)));
    (answer, out.status.code().expect("it ended by itself"))
}

/// What is said, and the exit code.
fn said(machine: &Machine, words: &[&str]) -> (String, i32) {
    let out = machine.cli(words);
    (text_of(&out), out.status.code().expect("it ended by itself"))
}

fn begun(machine: &Machine, words: &[&str]) -> Child {
    let mut command = Command::new(&machine.client);
    command.arg("-C").arg(&machine.dir).args(words).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dirsync can be started")
}

fn ended(child: Child) -> Output {
    let out = child.wait_with_output().expect("our child");
    assert!(out.status.success(), "{}", text_of(&out));
    out
}

/// The largest file in a folder.
fn largest(dir: &Path) -> u64 {
    let list = fs::read_dir(dir).expect("a folder");
    list.flatten().filter_map(|entry| entry.metadata().ok()).map(|facts| facts.len()).max().unwrap_or(0)
}

/// Begins it until the daemon stands still with a part of `size` bytes in the folder where that is
/// kept: which try that was, and its process. What was faster than this is begun again.
fn amid(machine: &Machine, size: usize, begin: impl Fn(u32) -> (Child, PathBuf)) -> (u32, Child) {
    for n in 0..50 {
        let (mut child, dir) = begin(n);
        eventually("a part of it is there", PATIENCE, || {
            let has_ended = child.try_wait().expect("our child").is_some();
            (has_ended || largest(&dir) > 0).then_some(()).ok_or(String::new())
        });
        machine.freeze();
        let (part, has_ended) = (largest(&dir), child.try_wait().expect("our child").is_some());
        if (1..size as u64).contains(&part) && !has_ended {
            return (n, child);
        }
        machine.thaw();
        ended(child);
    }
    panic!("it was too fast each time");
}

#[test]
fn a_file_that_is_put_goes_to_all_machines_and_replaces_nothing_unasked() {
    let (a, b) = Group::new().pair();
    let first = outside(&a, "report.txt", b"first");
    let (done, code) = asked(&a, &["put", &first, "--to", "d/new.txt", "--wait-copies", "1", "--timeout", "60"]);
    let file = &done["files"][0];
    assert_eq!((code, &file["path"], &file["sent"]), (0, &"d/new.txt".into(), &true.into()), "{done}");
    assert_eq!(file["content"], blake3::hash(b"first").to_string());
    assert_eq!(file["holders"], serde_json::json!(["b"]));
    assert_eq!(peek(b.at("d/new.txt")).as_deref(), Some(&b"first"[..]), "as it was waited for");

    let (says, code) = said(&a, &["put", &first, "--to", "d/new.txt"]);
    assert_eq!(code, 0, "{says}");
    assert!(says.starts_with("'d/new.txt' is there already"), "{says}");
    let second = outside(&a, "second.txt", b"second");
    let (says, code) = said(&a, &["put", &second, "--to", "d/new.txt"]);
    assert!(code == 1 && says.contains("another content") && says.contains("--force"), "{says}");
    let other = blake3::hash(b"other").to_string();
    let (says, code) = said(&a, &["put", &second, "--to", "d/new.txt", "--if-match", &other]);
    assert!(code == 1 && says.contains("does not hold"), "{says}");
    assert_eq!(peek(a.at("d/new.txt")).as_deref(), Some(&b"first"[..]));
    let is_first = blake3::hash(b"first").to_string();
    let (says, code) = said(&a, &["put", &second, "--to", "d/new.txt", "--if-match", &is_first]);
    assert!(code == 0 && says.contains("'d/new.txt' now"), "{says}");
    assert_eq!(said(&a, &["put", &first, "--to", "d/new.txt", "--force"]).1, 0);
    assert_eq!(peek(a.at("d/new.txt")).as_deref(), Some(&b"first"[..]));
    assert!(a.history().contains(&b"second".to_vec()));

    // Into a folder that is there, and several at once; what cannot be sent does not hinder others.
    let (done, code) = asked(&a, &["put", &first, "/none", &second, "--to", "d"]);
    let paths: Vec<_> = done["files"].as_array().expect("a list").iter().map(|file| file["path"].clone()).collect();
    assert_eq!((code, paths), (1, vec!["d/report.txt".into(), "d/second.txt".into()]), "{done}");
    assert_eq!(done["failed"][0]["path"], "/none");
    // A whole folder, with what is no file named.
    let tree = a.home.join("outside/tree");
    write(tree.join("x/deep"), "deep");
    write(tree.join("empty-file"), "");
    std::os::unix::fs::symlink("deep", tree.join("x/link")).expect("a link");
    let (says, code) = said(&a, &["put", &text(&tree)]);
    assert!(code == 1 && says.contains("goes with -r"), "{says}");
    let (says, code) = said(&a, &["put", "-r", &text(&tree)]);
    assert!(code == 1 && says.contains("link' was not sent: no regular file"), "{says}");
    converge(&[&a, &b]);
    assert_eq!(peek(b.at("tree/x/deep")).as_deref(), Some(&b"deep"[..]));
    assert_eq!(peek(b.at("tree/empty-file")).as_deref(), Some(&b""[..]));
    let itself = text(&a.at("tree/x/deep"));
    assert!(said(&a, &["put", &itself, "--to", "tree/x/"]).0.contains("that very file"));
    // Wrong usage.
    for words in [&["put"][..], &["put", &first, "--to", "../x"], &["put", &first, "--if-match", "12"]] {
        assert_eq!(said(&a, words).1, 2, "{words:?}");
    }
    let (says, code) = said(&a, &["put", &first, "--wait-copies", "2", "--timeout", "0.2", "--to", "alone"]);
    assert!(code == 1 && says.contains("not on 2 machines"), "{says}");
}

#[test]
fn what_is_put_goes_on_where_it_was_cut_off() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let content = noise(1, 300_000);
    let file = outside(&a, "f", &content);
    let target = format!("content/f?blake3={}", blake3::hash(&content));
    let mut stream = socket(&a);
    let range = [("content-range", "bytes 0-99999/300000"), ("content-length", "100000")];
    send(&mut *stream, "PUT", &target, &range);
    stream.write_all(&content[..100_000]).expect("it is taken");
    assert_eq!(reply(&mut *stream).code, 202);
    let (done, code) = asked(&a, &["put", &file]);
    assert_eq!((code, &done["files"][0]["resumed_at"]), (0, &100_000.into()), "{done}");
    assert!(peek(a.at("f")) == Some(content));

    // And over a kill of the daemon, while it waits for it.
    let large = noise(2, 48 << 20);
    let file = outside(&a, "large", &large);
    let (n, sending) = amid(&a, large.len(), |n| {
        (begun(&a, &["put", &file, "--to", &format!("large{n}")]), a.dir.join(".dirsync/staging"))
    });
    a.kill();
    a.start();
    ended(sending);
    assert!(peek(a.at(&format!("large{n}"))) == Some(large));
}

#[test]
fn what_is_fetched_is_whole_and_goes_on_where_it_was_cut_off() {
    let (a, b) = Group::new().pair();
    let out = out_folder(&a);
    let into = text(&out);
    write(a.at("d/na\u{ef}ve\n"), "first");
    write(a.at("d/e/g"), "deep");
    std::os::unix::fs::symlink("g", a.at("d/e/link")).expect("a link");
    converge(&[&a, &b]);
    wait_known(&a, "d/e/g");
    let (done, code) = asked(&a, &["get", "d/na\u{ef}ve\n", "--out", &into]);
    assert_eq!((code, &done["files"][0]["path"]), (0, &"d/na\u{ef}ve\\x0a".into()), "{done}");
    assert_eq!(peek(out.join("na\u{ef}ve\n")).as_deref(), Some(&b"first"[..]));
    let (says, code) = said(&a, &["get", r"d/naïve\x0a", "--out", &into]);
    assert!(code == 0 && says.contains("is there already") && !says.contains("ve\n'"), "{says}");
    write(out.join("g"), "in the way");
    let (says, code) = said(&a, &["get", "d/e/g", "d/none", "--out", &into]);
    assert!(code == 1 && says.contains("--force") && says.contains("there is no 'd/none'"), "{says}");
    assert_eq!(said(&a, &["get", "d/e/g", "--out", &into, "--force"]).1, 0);
    assert_eq!(peek(out.join("g")).as_deref(), Some(&b"deep"[..]));
    let (says, code) = said(&a, &["get", "d", "--out", &into]);
    assert!(code == 1 && says.contains("a folder"), "{says}");
    let (says, code) = said(&a, &["get", "-r", "d", "--out", &into]);
    assert!(code == 1 && says.contains("'d/e/link' was not fetched: a link"), "{says}");
    assert_eq!(peek(out.join("d/e/g")).as_deref(), Some(&b"deep"[..]));
    let inside = text(&a.at("d"));
    assert_eq!(said(&a, &["get", "d/e/g", "--out", &inside]).1, 2, "half of it would go everywhere");
    assert_eq!(said(&a, &["get", "d/e/g", "--out", "/none/none"]).1, 2);

    // Over a kill of the daemon.
    let large = noise(3, 48 << 20);
    write(a.at("large"), &large);
    wait_known(&a, "large");
    let begin = |n: u32| {
        let into = out.join(n.to_string());
        fs::create_dir_all(&into).expect("a folder");
        (begun(&a, &["get", "large", "--out", &text(&into)]), into)
    };
    let (n, fetching) = amid(&a, large.len(), begin);
    a.kill();
    a.start();
    ended(fetching);
    let into = out.join(n.to_string());
    assert!(peek(into.join("large")).as_ref() == Some(&large));
    assert_eq!(fs::read_dir(&into).expect("a folder").count(), 1, "nothing else is left");

    // What is left of a try that was cut off is checked, and not believed.
    for (tries, left, resumed_at) in [(100, &large[..1 << 20], 1 << 20), (200, b"rotten", 0)] {
        let (n, mut fetching) = amid(&a, large.len(), |n| begin(tries + n));
        fetching.kill().expect("our child");
        fetching.wait().expect("our child");
        a.thaw();
        let into = out.join((tries + n).to_string());
        let part = fs::read_dir(&into).expect("a folder").next().expect("a part").expect("an entry").path();
        fs::write(&part, left).expect("a file");
        let (done, code) = asked(&a, &["get", "large", "--out", &text(&into)]);
        assert_eq!(code, 0, "{done}");
        assert!(peek(into.join("large")).as_ref() == Some(&large));
        assert_eq!(done["files"][0]["resumed_at"], resumed_at, "{done}");
        assert_eq!(fs::read_dir(&into).expect("a folder").count(), 1, "nothing else is left");
    }
}

#[test]
fn a_content_is_printed_as_it_is() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let content = noise(4, 700_000);
    write(a.at("f"), &content);
    write(a.at("empty"), "");
    converge(&[&a]);
    wait_known(&a, "f");
    let out = a.cli(&["cat", "f", "empty"]);
    assert!(out.status.success() && out.stdout == content, "{}", String::from_utf8_lossy(&out.stderr));
    let (says, code) = said(&a, &["cat", "none"]);
    assert!(code == 1 && says.contains("there is no 'none'"), "{says}");
    assert_eq!(said(&a, &["cat", "f", "--json"]).1, 2);
    a.kill();
    let (says, code) = said(&a, &["cat", "f"]);
    assert!(code == 1 && says.contains("no daemon is running"), "{says}");
}

#[test]
fn what_is_deleted_and_moved_by_the_tool_is_so_on_all_machines() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    for name in ["f", "g", "d/one", "d/e/two", "kept/x"] {
        write(a.at(name), name);
    }
    converge(&[&a, &b]);
    wait_known(&a, "kept/x");
    let (says, code) = said(&a, &["rm", "f", "none", "d"]);
    assert_eq!(code, 1, "{says}");
    for line in ["deleted 'f'", "'none' was not deleted: there is no 'none'", "'d' was not deleted: "] {
        assert!(says.contains(line), "{line}: {says}");
    }
    let (done, code) = asked(&a, &["rm", "-r", "d"]);
    assert_eq!((code, done), (0, serde_json::json!({ "deleted": ["d/one", "d/e/two", "d/e", "d"], "failed": [] })));
    write(a.at("kept/y.tmp"), "ignored");
    let (says, code) = said(&a, &["rm", "-r", "kept"]);
    assert!(code == 1 && says.contains("deleted 'kept/x'") && says.contains("'kept' was not deleted"), "{says}");
    assert_eq!(said(&a, &["rm", "."]).1, 2, "not the whole folder");
    assert!(a.history().contains(&b"d/e/two".to_vec()), "unlike what a user deletes");

    assert_eq!(said(&a, &["mv", "g", "new/h"]), ("'g' is 'new/h' now\n".to_owned(), 0));
    let (done, code) = asked(&a, &["mv", "new/h", "kept"]);
    assert_eq!((code, &done["to"]), (0, &"kept/h".into()), "into a folder that is there");
    write(a.at("in-the-way"), "stays");
    wait_known(&a, "in-the-way");
    let (says, code) = said(&a, &["mv", "kept/h", "in-the-way"]);
    assert!(code == 1 && says.contains("something is at 'in-the-way'"), "{says}");
    assert_eq!(said(&a, &["mv", "kept", "kept"]).1, 1, "into itself");
    remove(a.at("kept/y.tmp"));
    converge(&[&a, &b]);
    assert_eq!(peek(b.at("kept/h")).as_deref(), Some(&b"g"[..]));
    assert!(!b.at("d").exists() && !b.at("f").exists() && !b.at("g").exists());
}

#[test]
fn what_was_done_is_said_also_where_another_path_is_refused_and_no_two_go_to_one_place() {
    let a = Group::new().machine("a");
    a.start();
    write(a.at("old/f"), "1");
    a.wait_own_idle();
    let (answer, code) = asked(&a, &["rm", "-r", "old", "nothing"]);
    assert_eq!((code, &answer["deleted"]), (1, &serde_json::json!(["old/f", "old"])));
    assert_eq!(answer["failed"][0]["path"], "nothing");

    let files = [outside(&a, "one/same", b"1"), outside(&a, "two/same", b"2")];
    let (answer, code) = asked(&a, &["put", "--force", &files[0], &files[1], "--to", "d"]);
    assert_eq!((code, &answer["files"][0]["path"]), (1, &"d/same".into()));
    assert!(answer["failed"][0]["text"].as_str().is_some_and(|text| text.contains("another one")), "{answer}");
    assert_eq!(peek(a.at("d/same")).as_deref(), Some(&b"1"[..]));

    // A link is sent under its own name.
    let link = a.home.join("outside/current");
    std::os::unix::fs::symlink(&files[1], &link).expect("our own folder");
    let (answer, code) = asked(&a, &["put", &text(&link)]);
    assert_eq!((code, &answer["files"][0]["path"]), (0, &"current".into()), "{answer}");
}

#[test]
fn what_a_role_keeps_off_the_disk_is_refused_with_that_reason() {
    let (a, b) = Group::new().pair();
    assert_eq!(said(&a, &["role", "send-only"]).1, 0);
    write(b.at("f"), "of b");
    eventually("a knows of it", PATIENCE, || {
        let why = a.json(&["why", "f"])?;
        (why["state"] == "not_installed").then_some(()).ok_or(why.to_string())
    });
    let (says, code) = said(&a, &["cat", "f"]);
    assert!(code == 1 && says.contains("this machine is send-only"), "{says}");
    assert_eq!(asked(&a, &["ls", "-l", "f"]).0["entries"][0]["state"], "not_installed");
    assert_eq!(asked(&a, &["du"]).0["to_come_files"], 1);
}

#[test]
fn what_comes_and_is_not_installed_as_this_machine_is_paused_is_not_waited_for() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options.extend(["--limit".to_owned(), "1M".to_owned()]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let content = noise(6, 16 << 20);
    write(a.at("large"), &content);
    eventually("it comes", PATIENCE, || {
        let transfers = b.json(&["transfers"])?;
        (transfers["incoming"][0]["path"] == "large").then_some(()).ok_or(transfers.to_string())
    });
    assert_eq!(said(&b, &["pause"]).1, 0);
    let (says, code) = said(&b, &["cat", "large"]);
    assert!(code == 1 && says.contains("waits for 'dirsync resume'"), "{says}");
    assert_eq!(said(&b, &["resume"]).1, 0);
    assert!(a.cli(&["limit", "off"]).status.success());
    let out = b.cli(&["cat", "large", "--timeout", "60"]);
    assert!(out.status.success() && out.stdout == content, "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_is_still_to_come_is_fetched_from_another_machine_when_one_is_killed_amid() {
    let group = Group::new();
    let (mut a, mut b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    for machine in [&mut a, &mut b] {
        machine.options.extend(["--limit".to_owned(), "2M".to_owned()]);
    }
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    let content = noise(5, 32 << 20);
    for machine in [&a, &b] {
        // Not by each other, which takes its time at that rate.
        write(machine.at("large"), &content);
    }
    converge(&[&a, &b]);
    c.start();
    wait_linked(&[&a, &b, &c]);
    eventually("it comes", PATIENCE, || {
        let transfers = c.json(&["status"])?["transfers"].clone();
        let from = transfers[0]["from"].as_array().map_or(0, Vec::len);
        (from > 0).then_some(()).ok_or(transfers.to_string())
    });
    let out = out_folder(&c);
    let into = text(&out);
    let (says, code) = said(&c, &["get", "large", "--out", &into, "--timeout", "0.1"]);
    assert!(code == 1 && says.contains("it is not here yet, and waits for its content"), "{says}");
    let mut fetching = begun(&c, &["get", "large", "--out", &into]);
    let mut says = BufReader::new(fetching.stderr.take().expect("a pipe"));
    let mut once = |words: &str| {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(says.read_line(&mut line).expect("text") > 0, "it never said '{words}'");
        }
        line
    };
    // From both, or from the one that was linked first.
    let (killed, other) =
        if once("'large' is not here yet; it comes from ").contains("from a") { (&a, &b) } else { (&b, &a) };
    killed.kill();
    once("no longer sends 'large'");
    assert!(other.cli(&["limit", "off"]).status.success());
    ended(fetching);
    assert!(peek(out.join("large")) == Some(content));
}
