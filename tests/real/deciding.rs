//! What becomes of the loser of a conflict: kept beside, merged, listed, compared, decided, and
//! found again (P2).

use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, pace, read, set_mtime, write};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;

/// The kernel stamps files by its tick (4 ms, 10 on some): of edits within one, none is the later.
const TICKS_MS: u64 = 20;

/// Machines with this `--on-conflict`, running and linked.
fn machines<const N: usize>(on_conflict: &str) -> [Machine; N] {
    let group = Group::new();
    let mut machines = std::array::from_fn(|n| group.machine(["a", "b", "c"][n]));
    for machine in &mut machines {
        machine.options = vec!["--on-conflict".to_owned(), on_conflict.to_owned()];
        machine.start();
    }
    wait_linked(&machines.each_ref());
    machines
}

/// Runs `edits` while all daemons are off, then lets them meet and agree.
fn apart(machines: &[&Machine], edits: impl FnOnce()) {
    for machine in machines {
        machine.stop();
    }
    edits();
    for machine in machines {
        machine.start();
    }
    wait_linked(machines);
    converge(machines);
}

/// The names in the folder that hold `.conflict-`, sorted.
fn copies(machine: &Machine) -> Vec<String> {
    let list = std::fs::read_dir(&machine.dir).expect("the folder");
    let names = list.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let mut names: Vec<_> = names.filter(|name| name.contains(".conflict-")).collect();
    names.sort();
    names
}

fn conflicts(machine: &Machine, words: &[&str]) -> Vec<Value> {
    let answer = machine.json(&[&["conflicts"], words].concat()).unwrap_or_else(|e| panic!("{e}"));
    answer["conflicts"].as_array().expect("a list").clone()
}

#[test]
fn with_keep_both_the_loser_appears_beside_the_winner_under_one_name_on_all_machines() {
    let [a, b, c] = machines("keep-both");
    let all = [&a, &b, &c];
    write(a.at("report.txt"), "base");
    converge(&all);
    apart(&all, || {
        for machine in all {
            write(machine.at("report.txt"), format!("by {}", machine.name));
            pace(TICKS_MS);
        }
    });
    let names = copies(&a);
    assert_eq!(names.len(), 2, "{names:?}");
    let held: Vec<_> = names.iter().map(|name| read(a.at(name))).collect();
    assert!(held.contains(&b"by a".to_vec()) && held.contains(&b"by b".to_vec()), "{held:?}");
    assert!(
        names.iter().all(|name| name.starts_with("report.conflict-") && name.split('.').next_back() == Some("txt")),
        "{names:?}"
    );
    for machine in all {
        assert_eq!(copies(machine), names, "at {}", machine.name);
        assert_eq!(read(machine.at("report.txt")), b"by c");
    }
    // Nothing more comes of them: not by a restart, and not when one is deleted.
    std::fs::remove_file(b.at(&names[0])).expect("it is there");
    converge(&all);
    apart(&all, || {});
    assert_eq!(copies(&c), names[1..]);
}

#[test]
fn many_conflicts_on_one_path_and_on_a_copy_are_all_kept() {
    let [a, b] = machines("keep-both");
    write(a.at("f"), "base");
    converge(&[&a, &b]);
    for round in 0..4 {
        apart(&[&a, &b], || {
            write(a.at("f"), format!("{round} by a"));
            pace(TICKS_MS);
            write(b.at("f"), format!("{round} by b"));
        });
    }
    let names = copies(&a);
    let mut held: Vec<_> = names.iter().map(|name| read(a.at(name))).collect();
    held.sort();
    assert_eq!(held, (0..4).map(|round| format!("{round} by a").into_bytes()).collect::<Vec<_>>());
    assert_eq!(conflicts(&a, &["f"]).len(), 4);
    apart(&[&a, &b], || {
        write(a.at(&names[0]), "copy, by a");
        pace(TICKS_MS);
        write(b.at(&names[0]), "copy, by b");
    });
    let more = copies(&b);
    assert_eq!((more.len(), &more), (5, &copies(&a)));
    assert!(more.iter().any(|name| name.matches(".conflict-").count() == 2 && read(b.at(name)) == b"copy, by a"));
}

#[test]
fn with_merge_two_edits_of_one_text_become_one_text_and_those_that_meet_do_not() {
    let [a, b, c] = machines("merge");
    let all = [&a, &b, &c];
    let text = |first: &str, last: &str| format!("{first}\none\ntwo\nthree\n{last}\n");
    write(a.at("apart"), text("first", "last"));
    write(a.at("meet"), text("first", "last"));
    write(a.at("binary"), b"\0one\ntwo\nthree\n");
    converge(&all);
    apart(&all, || {
        write(a.at("apart"), text("FIRST, by a", "last"));
        write(a.at("meet"), text("by a", "last"));
        write(a.at("binary"), b"\0ONE\ntwo\nthree\n");
        pace(TICKS_MS);
        write(b.at("apart"), text("first", "LAST, by b"));
        write(b.at("meet"), text("by b", "last"));
        write(b.at("binary"), b"\0one\ntwo\nTHREE\n");
    });
    eventually("both edits are in it", PATIENCE, || {
        let held = read(c.at("apart"));
        (held == text("FIRST, by a", "LAST, by b").into_bytes()).then_some(()).ok_or(format!("{held:?}"))
    });
    converge(&all);
    assert_eq!(read(c.at("meet")), text("by b", "last").into_bytes());
    assert_eq!(read(c.at("binary")), b"\0one\ntwo\nTHREE\n");
    assert_eq!(copies(&a), [""; 0]);
    // The one is over, the others wait for a decision; and the losers of all three are in history.
    let open: Vec<_> = conflicts(&a, &[]).iter().map(|conflict| conflict["path"].clone()).collect();
    assert_eq!((open.len(), open.contains(&"apart".into())), (2, false), "{open:?}");
    assert_eq!(conflicts(&a, &["apart", "--all"])[0]["settled"], "merged");
    assert!(a.history().contains(&text("FIRST, by a", "last").into_bytes()));
    // Then three at once: each is merged by who made it.
    apart(&all, || {
        for (machine, line) in [(&a, "FIRST, by a"), (&b, "two"), (&c, "LAST, by b")] {
            let held = String::from_utf8(read(machine.at("apart"))).expect("text");
            write(machine.at("apart"), held.replace(line, &format!("{line}, again")));
            pace(TICKS_MS);
        }
    });
    let all_three = "FIRST, by a, again\none\ntwo, again\nthree\nLAST, by b, again\n";
    eventually("all three edits are in it", PATIENCE, || {
        let held = String::from_utf8_lossy(&read(a.at("apart"))).into_owned();
        (held == all_three).then_some(()).ok_or(held)
    });
    converge(&all);
}

#[test]
fn a_conflict_is_listed_until_someone_decides_also_after_a_restart() {
    let [a, b] = machines("newest");
    for name in ["f", "g", "h"] {
        write(a.at(name), "one\ntwo\n");
    }
    converge(&[&a, &b]);
    apart(&[&a, &b], || {
        for name in ["f", "g", "h"] {
            write(a.at(name), "one\nours \x1b[31m\n");
            pace(TICKS_MS);
            write(b.at(name), "one\ntheirs\n");
        }
    });
    a.kill();
    a.start();
    wait_linked(&[&a, &b]);
    let list = conflicts(&a, &[]);
    assert_eq!(list.len(), 3);
    assert_eq!((&list[0]["winner"]["machine"], &list[0]["loser"]["machine"]), (&"b".into(), &"a".into()));
    let diff = text_of(&a.cli(&["conflicts", "diff", "f"]));
    assert!(diff.contains("\n-ours \\x1b[31m\n+theirs\n") && diff.contains("\n one\n"), "{diff}");
    let refused = a.cli(&["conflicts", "keep", "f", "mine"]);
    assert!(!refused.status.success() && text_of(&refused).contains("winner, loser"), "{}", text_of(&refused));
    // They stand in the order in which they came.
    let of_g = list.iter().find(|conflict| conflict["path"] == "g").expect("it is listed");
    let version = of_g["loser"]["version"].as_str().expect("text");
    for (name, choice) in [("f", "ours"), ("g", version), ("h", "theirs")] {
        let out = a.cli(&["conflicts", "keep", name, choice]);
        assert!(out.status.success(), "{}", text_of(&out));
    }
    eventually("what was kept is everywhere", PATIENCE, || {
        let held = ["f", "g", "h"].map(|name| String::from_utf8_lossy(&read(b.at(name))).into_owned());
        let ours = "one\nours \x1b[31m\n";
        (held == [ours, ours, "one\ntheirs\n"]).then_some(()).ok_or(format!("{held:?}"))
    });
    converge(&[&a, &b]);
    assert_eq!(conflicts(&a, &[]).len(), 0);
    assert!(text_of(&a.cli(&["conflicts"])).contains("no conflict waits"));
    // What was there before is in history, and can be kept after all.
    let out = a.cli(&["conflicts", "keep", "f", "theirs"]);
    assert!(out.status.success(), "{}", text_of(&out));
    eventually("theirs is back", PATIENCE, || {
        (read(b.at("f")) == b"one\ntheirs\n").then_some(()).ok_or("ours is still there".to_owned())
    });
}

#[test]
fn many_conflicts_are_decided_at_once_and_a_loser_comes_from_whoever_keeps_it() {
    let [a, b, c] = machines("newest");
    let names = ["d/f", "d/g", "h", "i"];
    for name in names {
        write(a.at(name), "base");
    }
    converge(&[&a, &b, &c]);
    b.stop();
    for name in names {
        write(a.at(name), "lost");
    }
    converge(&[&a, &c]);
    a.stop();
    c.stop();
    pace(TICKS_MS);
    for name in names {
        write(b.at(name), "won");
    }
    for machine in [&a, &b, &c] {
        machine.start();
    }
    wait_linked(&[&a, &b, &c]);
    converge(&[&a, &b, &c]);
    for machine in [&a, &b, &c] {
        wait_open(machine, &["d/f", "d/g", "h", "i"]);
    }
    for kept in std::fs::read_dir(a.history_dir()).expect("history") {
        std::fs::remove_file(kept.expect("an entry").path()).expect("it is there");
    }
    let done = |words: &[&str]| {
        let out = a.cli(&[&["conflicts", "keep"], words].concat());
        assert!(out.status.success(), "{words:?}: {}", text_of(&out));
    };
    done(&["d", "loser"]);
    done(&["h", "a"]);
    done(&["--all", "winner"]);
    eventually("what was kept is everywhere", PATIENCE, || {
        let held = names.map(|name| String::from_utf8_lossy(&read(b.at(name))).into_owned());
        (held == ["lost", "lost", "lost", "won"]).then_some(()).ok_or(format!("{held:?}"))
    });
    assert_eq!(conflicts(&a, &[]).len(), 0);
    assert!(text_of(&a.cli(&["conflicts", "keep", "--all", "winner"])).contains("no conflict waits"));
}

/// Waits until it lists exactly these.
fn wait_open(machine: &Machine, paths: &[&str]) {
    eventually(&format!("{} lists {paths:?}", machine.name), PATIENCE, || {
        let listed = conflicts(machine, &[]);
        let mut open: Vec<_> = listed.iter().filter_map(|conflict| conflict["path"].as_str()).collect();
        open.sort_unstable();
        (open == paths).then_some(()).ok_or(format!("{open:?}"))
    });
}

#[test]
fn a_conflict_is_listed_on_every_machine_and_decided_from_any_also_for_one_that_was_away() {
    let [a, b, c] = machines("newest");
    for name in ["f", "g"] {
        write(a.at(name), "base");
    }
    converge(&[&a, &b, &c]);
    // Perhaps `c` holds the loser for a moment, and perhaps it never does.
    apart(&[&a, &b, &c], || {
        for name in ["f", "g"] {
            write(a.at(name), "by a");
            pace(TICKS_MS);
            write(b.at(name), "by b");
        }
    });
    for machine in [&a, &b, &c] {
        wait_open(machine, &["f", "g"]);
        assert_eq!(machine.json(&["status"]).expect("status")["open_conflicts"], 2, "at {}", machine.name);
    }
    let ours = [&a, &b].map(|machine| conflicts(machine, &["f"])[0]["ours"].clone());
    assert_eq!(ours, ["loser", "winner"]);
    let listed = text_of(&b.cli(&["conflicts"]));
    assert!(listed.contains("ours won") && listed.contains("theirs lost"), "{listed}");
    // Somebody who made neither has to say which.
    let one = &conflicts(&c, &["f"])[0];
    assert_eq!((&one["winner"]["machine"], &one["loser"]["machine"]), (&"b".into(), &"a".into()));
    if one["ours"].is_null() {
        let refused = text_of(&c.cli(&["conflicts", "keep", "f", "ours"]));
        assert!(refused.contains("this machine's alone"), "{refused}");
    }
    b.stop();
    let out = c.cli(&["conflicts", "keep", "f", "loser"]);
    assert!(out.status.success(), "{}", text_of(&out));
    eventually("the loser is back", PATIENCE, || (read(a.at("f")) == b"by a").then_some(()).ok_or("no".to_owned()));
    wait_open(&a, &["g"]);
    wait_open(&c, &["g"]);
    assert_eq!(conflicts(&a, &["f", "--all"])[0]["settled"].as_str().map(|how| how.ends_with(" at c")), Some(true));
    // Who was away hears of it from whoever is there.
    c.stop();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    wait_open(&b, &["g"]);
    let out = b.cli(&["conflicts", "keep", "g", "ours"]);
    assert!(out.status.success(), "{}", text_of(&out));
    wait_open(&a, &[]);
    c.start();
    wait_linked(&[&a, &b, &c]);
    wait_open(&c, &[]);
    a.restart();
    wait_open(&a, &[]);
}

#[test]
fn what_is_written_into_a_replaced_or_deleted_file_within_5_s_is_kept_as_a_conflict() {
    let (a, b) = Group::new().pair();
    for name in ["replaced", "deleted", "untouched"] {
        write(a.at(name), "before");
    }
    converge(&[&a, &b]);
    let mut held = ["replaced", "deleted", "untouched"]
        .map(|name| OpenOptions::new().append(true).open(a.at(name)).expect("it is there"));
    write(b.at("replaced"), "by b");
    write(b.at("untouched"), "by b");
    std::fs::remove_file(b.at("deleted")).expect("it is there");
    converge(&[&a, &b]);
    for file in &mut held[..2] {
        file.write_all(b", and after").expect("it is open");
    }
    eventually("both are conflicts", PATIENCE, || {
        let paths: Vec<_> = conflicts(&a, &[]).iter().map(|conflict| conflict["path"].clone()).collect();
        let all = paths.len() == 2 && paths.contains(&"replaced".into()) && paths.contains(&"deleted".into());
        all.then_some(()).ok_or(format!("{paths:?}"))
    });
    let late = b"before, and after".to_vec();
    assert_eq!(a.history().iter().filter(|content| **content == late).count(), 2);
    let kept = a.json(&["history", "deleted"]).expect("it is kept");
    assert_eq!(kept["kept"][0]["reason"], "conflict", "it stays as long as losers do: {kept}");
    let out = a.cli(&["conflicts", "keep", "replaced", "ours"]);
    assert!(out.status.success(), "{}", text_of(&out));
    eventually("it is back", PATIENCE, || (read(b.at("replaced")) == late).then_some(()).ok_or("not yet".to_owned()));
}

#[test]
fn a_file_a_folder_and_a_deletion_come_back_as_they_were_then() {
    let (a, b) = Group::new().pair();
    for (name, text) in [("d/kept", "kept"), ("d/edited", "first"), ("d/deeper/deleted", "gone"), ("other", "gone too")]
    {
        write(a.at(name), text);
        set_mtime(a.at(name), crate::common::disk::now_secs() - 3600, 0);
    }
    converge(&[&a, &b]);
    // Times are told to the second.
    pace(1100);
    let then = jiff::Timestamp::now().to_string();
    pace(1100);
    write(b.at("d/edited"), "second");
    converge(&[&a, &b]);
    write(b.at("d/edited"), "third");
    write(b.at("d/made since"), "new");
    std::fs::remove_dir_all(b.at("d/deeper")).expect("it is there");
    std::fs::remove_file(b.at("other")).expect("it is there");
    converge(&[&a, &b]);
    let listed = a.json(&["history", "d", "--at", &then]).expect("history");
    let paths: Vec<_> = listed["kept"].as_array().expect("a list").iter().map(|kept| kept["path"].clone()).collect();
    assert_eq!(paths, ["d/deeper/deleted", "d/edited"]);
    let done = |words: &[&str]| {
        let out = a.cli(words);
        assert!(out.status.success(), "{words:?}: {}", text_of(&out));
    };
    done(&["restore", "d/deeper"]);
    eventually("the deletion is undone", PATIENCE, || {
        let back = b.at("d/deeper/deleted").exists() && read(b.at("d/deeper/deleted")) == b"gone";
        back.then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(read(a.at("d/edited")), b"third", "what was not deleted is left");
    done(&["restore", &format!("d@{then}")]);
    eventually("the folder is as it was", PATIENCE, || {
        (read(b.at("d/edited")) == b"first").then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(read(b.at("d/made since")), b"new");
    assert!(a.history().contains(&b"third".to_vec()), "what a restore replaces is in history");
    done(&["restore", "other"]);
    eventually("the file is back", PATIENCE, || b.at("other").exists().then_some(()).ok_or("not yet".to_owned()));
    // Their folder is a file now: neither can come back, and the exit code says so.
    for name in ["e/deep/one", "e/deep/two"] {
        write(a.at(name), name);
    }
    converge(&[&a, &b]);
    std::fs::remove_dir_all(b.at("e/deep")).expect("it is there");
    converge(&[&a, &b]);
    write(a.at("e/deep"), "a file");
    converge(&[&a, &b]);
    for words in [&["restore", "e"][..], &["restore", "e", "--json"]] {
        let out = a.cli(words);
        let said = text_of(&out);
        assert!(out.status.code() == Some(1) && said.contains("2 of 2 paths not restored"), "{said}");
    }
    assert_eq!(read(a.at("e/deep")), b"a file");
    let refused = a.cli(&["restore", "never"]);
    assert!(!refused.status.success() && text_of(&refused).contains("nothing of 'never'"), "{}", text_of(&refused));
}
