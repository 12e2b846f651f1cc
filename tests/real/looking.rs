//! The commands of `dirsync` that only look: at paths, machines, sizes, and what happens.

use crate::common::disk::{path_text, run};
use crate::common::machine::{start_all, text_of, wait_linked};
use crate::common::requests::wait_known;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, remove, write};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What is said, and the exit code.
fn said(machine: &Machine, words: &[&str]) -> (String, i32) {
    let out = machine.cli(words);
    (text_of(&out), out.status.code().expect("it ended by itself"))
}

fn asked(machine: &Machine, words: &[&str]) -> Value {
    machine.json(words).unwrap_or_else(|why| panic!("{why}"))
}

/// The words of the line that ends with this one.
fn line(text: &str, last: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.split_whitespace().next_back() == Some(last));
    let line = line.unwrap_or_else(|| panic!("no line of '{last}' in:\n{text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_list_says_how_each_path_stands_and_who_holds_it() {
    let (a, b) = Group::new().pair();
    write(a.at("d/e/f"), "12345");
    write(a.at("g\u{1b}"), "1");
    converge(&[&a, &b]);
    eventually("b is known to hold it", PATIENCE, || {
        let why = a.json(&["why", "d/e/f"])?;
        (why["holders"] == json!(["b"])).then_some(()).ok_or(why.to_string())
    });
    let (text, code) = said(&a, &["ls", "-lR"]);
    assert_eq!((code, &line(&text, "d/e/f")[..3]), (0, &["0644", "5", "B"].map(str::to_owned)[..]), "{text}");
    assert!(line(&text, "d/e/f").ends_with(&["synced", "here,b", "d/e/f"].map(str::to_owned)), "{text}");
    assert!(line(&text, r"g\x1b").contains(&"synced".to_owned()), "{text}");
    let long = asked(&a, &["ls", "-l", "d/e"]);
    let entry = &long["entries"][0];
    assert_eq!(
        (&entry["path"], &entry["state"], &entry["holders"]),
        (&"d/e/f".into(), &"synced".into(), &json!(["b"]))
    );
    assert!(!said(&a, &["ls"]).0.contains("d/e/f") && said(&a, &["ls", "-r"]).0.contains("d/e/f"));

    // All that is known of one.
    write(a.at("d/e/f"), "second");
    converge(&[&a, &b]);
    wait_known(&a, "d/e/f");
    let facts = asked(&a, &["show", "d/e/f"]);
    assert_eq!((&facts["entry"]["size"], &facts["state"]), (&6.into(), &"synced".into()), "{facts}");
    assert_eq!((&facts["kept"][0]["size"], &facts["kept"][0]["machines"]), (&5.into(), &json!(["b"])), "{facts}");
    let (yaml, code) = said(&a, &["show", "d/e/f"]);
    assert_eq!(code, 0, "{yaml}");
    for line in ["path: \"d/e/f\"", "conflicts: []", "  size: 6", "  - \"b\"", "    reason: \"replaced\""] {
        assert!(yaml.lines().any(|said| said == line), "{line} in:\n{yaml}");
    }
    assert!(said(&a, &["show", "--format", "json", "none"]).0.contains(r#""state":"not_there""#));
    assert_eq!(said(&a, &["show", "."]).1, 2);
    assert_eq!(said(&a, &["show", "f", "--format", "xml"]).1, 2);
}

#[test]
fn what_two_machines_still_have_to_do_is_said_at_both() {
    if !is_root("what_two_machines_still_have_to_do_is_said_at_both") {
        return;
    }
    let (a, b) = Group::new().pair();
    write(a.at("d/gone"), "1");
    converge(&[&a, &b]);
    assert_eq!(said(&b, &["need"]), ("nothing is to come to b\n".to_owned(), 0));
    assert_eq!(said(&b, &["problems"]), ("no path needs attention\n".to_owned(), 0));
    assert_eq!(said(&b, &["transfers"]), ("nothing is on its way\n".to_owned(), 0));
    eventually("they are in sync", PATIENCE, || {
        let (text, _) = said(&a, &["diff", "b"]);
        text.ends_with(": in sync\n").then_some(()).ok_or(text)
    });
    run("chattr", &["+i", path_text(&b.at("d"))]);
    write(a.at("d/new"), "12345");
    remove(a.at("d/gone"));
    eventually("both are problems", PATIENCE, || {
        let problems = b.json(&["problems"])?;
        (problems["problems"].as_array().map_or(0, Vec::len) == 2).then_some(()).ok_or(problems.to_string())
    });
    let (need, code) = said(&b, &["need"]);
    assert_eq!((code, line(&need, "d/gone")), (0, vec!["delete".to_owned(), "d/gone".to_owned()]), "{need}");
    assert_eq!(line(&need, "d/new"), ["fetch", "5", "B", "d/new"]);
    assert_eq!(said(&a, &["need", "--peer", "b"]).0, need);
    assert_eq!(asked(&b, &["need"])["paths"], 2);
    let (diff, code) = said(&a, &["diff", "b"]);
    assert_eq!((code, line(&diff, "d/new")), (0, ["there", "fetch", "5", "B", "d/new"].map(str::to_owned).to_vec()));
    assert_eq!(line(&said(&b, &["diff", "a"]).0, "d/gone"), ["here", "delete", "d/gone"]);
    assert_eq!(asked(&a, &["diff", "b"])["paths_there"], 2);
    let (problems, code) = said(&b, &["problems"]);
    assert!(code == 0 && problems.contains("d/new: ") && problems.lines().count() == 2, "{problems}");
    let (says, code) = said(&a, &["diff", "nobody"]);
    assert!(code == 1 && says.contains("dirsync peers"), "{says}");
    run("chattr", &["-i", path_text(&b.at("d"))]);
    converge(&[&a, &b]);
}

#[test]
fn a_large_file_on_its_way_is_shown_at_both_ends() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options.extend(["--limit".to_owned(), "1M".to_owned()]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    write(a.at("large"), noise(3, 64 << 20));
    let shows = |machine: &Machine, words: &[&str]| {
        eventually("it is shown", PATIENCE, || {
            let (text, _) = said(machine, &["transfers"]);
            words.iter().all(|word| text.contains(word)).then_some(()).ok_or(text)
        });
    };
    shows(&b, &["fetching", "large", "of 64.0 MiB", "from a"]);
    shows(&a, &["sending", "large", "to b"]);
    assert_eq!(asked(&b, &["transfers"])["incoming"][0]["path"], "large");
    assert!(a.cli(&["limit", "off"]).status.success());
    converge(&[&a, &b]);
}

/// `dirsync events`, until it is dropped.
struct Events {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Events {
    fn follow(machine: &Machine, words: &[&str]) -> Self {
        let mut command = Command::new(&machine.client);
        command.arg("-C").arg(&machine.dir).arg("events").args(words).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("dirsync can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("it goes on").expect("text")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_are_said_as_they_happen_and_over_a_new_start_of_the_daemon() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    write(a.at("d/first"), "1");
    converge(&[&a]);
    let mut events = Events::follow(&a, &["--types", "file_added,file_deleted", "--prefix", "d", "--json"]);
    let mut next = || serde_json::from_str::<Value>(&events.next()).expect("an object a line");
    assert_eq!(next()["event"], "begin");
    write(a.at("elsewhere"), "1");
    write(a.at("d/new\n"), "12");
    let added = next();
    assert_eq!(
        (&added["event"], &added["path"], &added["size"]),
        (&"file_added".into(), &r"d/new\x0a".into(), &2.into())
    );
    a.kill();
    a.start();
    assert_eq!(next()["event"], "reset", "what was before is not known any more");
    remove(a.at("d/first"));
    let gone = next();
    assert_eq!((&gone["event"], &gone["path"]), (&"file_deleted".into(), &"d/first".into()));

    let mut text = Events::follow(&a, &[]);
    assert!(text.next().trim_start().starts_with("begin          what a sees"));
    write(a.at("d/last"), "123");
    let line = text.next();
    assert!(line.ends_with("file_added     'd/last' (3 B)"), "{line}");
    let (says, code) = said(&a, &["events", "--types", "odd"]);
    assert!(code == 1 && says.contains("no events 'odd'"), "{says}");
}

#[test]
fn sizes_duplicates_and_copies_are_counted() {
    let (a, b) = Group::new().pair();
    let large = noise(1, 300_000);
    for name in ["d/one", "d/e/two", "three"] {
        write(a.at(name), &large);
    }
    write(a.at("d/e/own"), "12345");
    write(a.at("gone/x"), "deleted");
    converge(&[&a, &b]);
    remove(a.at("gone"));
    converge(&[&a, &b]);
    wait_known(&a, "three");
    let du = asked(&a, &["du"]);
    assert_eq!((&du["bytes"], &du["files"], &du["folders"]), (&900_005.into(), &4.into(), &2.into()), "{du}");
    assert_eq!(du["below"], json!([{ "path": "d", "bytes": 600_005, "files": 3 }]));
    let (text, code) = said(&a, &["du", "d", "--depth", "3"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(line(&text, "d/e/"), ["293.0", "KiB", "2", "d/e/"]);
    assert_eq!(line(&text, "d"), ["585.9", "KiB", "3", "d"]);
    let (says, code) = said(&a, &["du", "none"]);
    assert!(code == 1 && says.contains("'none' is not known here"), "{says}");

    eventually("all is on both", PATIENCE, || {
        let copies = a.json(&["analyze"])?["copies"].clone();
        (copies == json!([{ "machines": 2, "files": 4, "bytes": 900_005 }])).then_some(()).ok_or(copies.to_string())
    });
    let found = asked(&a, &["analyze"]);
    assert_eq!(found["contents"], json!({ "different": 2, "bytes": 300_005, "saved_bytes": 600_000 }), "{found}");
    assert_eq!((&found["duplicates"][0]["files"], &found["duplicates"][0]["size"]), (&3.into(), &300_000.into()));
    assert_eq!(found["largest_folders"][0], json!({ "path": "d", "bytes": 600_005, "files": 3 }));
    let changed: u64 =
        found["hours"].as_array().into_iter().flatten().filter_map(|hour| hour["changed"].as_u64()).sum();
    assert_eq!((changed, &found["deleted"]), (6, &2.into()), "four files, and a file and a folder that are gone");
    let (text, code) = said(&a, &["analyze", "d/e"]);
    assert_eq!(code, 0, "{text}");
    for says in ["2 files (293.0 KiB)", "2 different contents", "on 2 machines", "largest files", "d/e/own"] {
        assert!(text.contains(says), "{says} in:\n{text}");
    }
    // Who is away may hold it or not.
    b.stop();
    eventually("b is away", PATIENCE, || {
        let found = a.json(&["analyze"])?;
        let is_so = found["copies"][0]["machines"] == 1 && found["not_counted"] == json!(["b"]);
        is_so.then_some(()).ok_or(found.to_string())
    });
}
