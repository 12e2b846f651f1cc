//! What history keeps and gives back: renames leave nothing in it, and what one machine lost comes
//! back from another's.

use crate::common::machine::{text_of, wait_linked};
use crate::common::{Group, PATIENCE, converge, eventually, noise, pace, read, remove, rename, start_all, write};

#[test]
fn a_rename_puts_nothing_into_history_and_a_deletion_still_does() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    // Before the start: half of a file that is still being written would be replaced by the whole,
    // and be in history for that.
    for n in 0..30 {
        write(a.at(&format!("album/{n}")), noise(n, 2000));
        write(a.at(&format!("copies/{n}")), noise(n, 2000));
    }
    write(a.at("deleted"), "gone for good");
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    // What was just copied and is deleted again would be taken for a rename.
    b.restart();
    converge(&[&a, &b]);
    rename(a.at("album"), a.at("album2"));
    converge(&[&a, &b]);
    rename(a.at("album2"), a.at("album3"));
    remove(a.at("deleted"));
    converge(&[&a, &b]);
    eventually("what was only renamed has left history", PATIENCE, || {
        let kept = b.history();
        (kept == [b"gone for good".to_vec()]).then_some(()).ok_or(format!("{} files are kept", kept.len()))
    });
    assert_eq!(read(b.at("album3/7")), noise(7, 2000));
    // The same content elsewhere is no reason: this was deleted, and can be restored by its name.
    std::fs::remove_dir_all(a.at("copies")).expect("it is there");
    converge(&[&a, &b]);
    pace(8000);
    assert_eq!(b.history().len(), 31);
}

#[test]
fn what_was_deleted_or_overwritten_here_comes_back_from_another_machine_s_history() {
    let (a, b) = Group::new().pair();
    let large = noise(1, 9 << 20);
    write(a.at("report.txt"), "first");
    write(a.at("large"), &large);
    write(a.at("d/one"), "one");
    write(a.at("d/two"), "");
    std::os::unix::fs::symlink("one", a.at("d/link")).expect("a link");
    converge(&[&a, &b]);
    write(a.at("report.txt"), "second");
    converge(&[&a, &b]);
    remove(a.at("large"));
    std::fs::remove_dir_all(a.at("d")).expect("it is there");
    converge(&[&a, &b]);
    assert!(a.history().is_empty(), "who deletes keeps no copy");
    let listed = a.json(&["history", "large"]).expect("history");
    assert_eq!((&listed["kept"][0]["machines"][0], &listed["kept"][0]["name"]), (&"b".into(), &"".into()));
    assert!(text_of(&a.cli(&["history"])).contains("  b  "), "{}", text_of(&a.cli(&["history"])));
    let dry = text_of(&a.cli(&["restore", "d", "--dry-run"]));
    assert!(dry.contains("would restore 'd/one'") && dry.contains("from b"), "{dry}");
    assert!(!a.at("d").exists(), "nothing was done");
    for path in ["large", "d", "report.txt"] {
        let out = a.cli(&["restore", path]);
        assert!(out.status.success(), "{path}: {}", text_of(&out));
    }
    converge(&[&a, &b]);
    assert!(read(b.at("large")) == large && read(b.at("report.txt")) == b"first");
    assert_eq!((read(b.at("d/one")), read(b.at("d/two"))), (b"one".to_vec(), Vec::new()));
    assert_eq!(std::fs::read_link(a.at("d/link")).expect("a link"), std::path::Path::new("one"));
    // With nobody linked, nothing is made up.
    remove(a.at("large"));
    converge(&[&a, &b]);
    b.stop();
    eventually("it is alone", PATIENCE, || match a.linked_peers()?.as_slice() {
        [] => Ok(()),
        linked => Err(format!("{linked:?}")),
    });
    let out = a.cli(&["restore", "large"]);
    assert!(!out.status.success() && text_of(&out).contains("nothing of 'large' is in history"), "{}", text_of(&out));
}

#[test]
fn two_replacements_within_a_second_are_told_apart() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "first");
    converge(&[&a, &b]);
    eventually("two replacements came within one second", PATIENCE, || {
        for text in ["second", "third"] {
            write(a.at("f"), text);
            converge(&[&a, &b]);
        }
        let listed = b.json(&["history", "f"])?;
        let times: Vec<u64> = listed["kept"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|kept| kept["time_ns"].as_str().unwrap().parse().unwrap())
            .collect();
        let close = times.windows(2).any(|pair| pair[0] / 1_000_000_000 == pair[1] / 1_000_000_000);
        if close {
            Ok(())
        } else {
            write(a.at("f"), "first");
            converge(&[&a, &b]);
            Err(format!("{times:?}"))
        }
    });
    let listed = text_of(&b.cli(&["history", "f"]));
    let lines: Vec<_> = listed.lines().collect();
    let sizes = lines.iter().map(|line| (line.split("  ").next().expect("a time").to_owned(), (*line).to_owned()));
    for (time, line) in sizes {
        let out = b.cli(&["restore", &format!("f@{time}"), "--dry-run"]);
        let said = text_of(&out);
        assert!(said.contains(&time), "{line}: {said}");
    }
    let newest = text_of(&b.cli(&["history", "f", "-n", "1"]));
    assert!(newest.lines().next() == lines.first().copied() && newest.contains("more"), "{newest}");
    let since = text_of(&b.cli(&["history", "f", "--since", "1h"]));
    assert_eq!(since, listed);
}
