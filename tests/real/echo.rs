//! Echo: what was just installed causes no traffic, and a user's edit right after it is never taken
//! for one.

use crate::common::disk::peek;
use crate::common::{Group, PATIENCE, converge, eventually, exchange, noise, pace, read, write};

#[test]
fn after_all_is_equal_nothing_travels_but_pings() {
    let (a, b) = Group::new().pair();
    for n in 0..200 {
        write(a.at(&format!("d{}/f{n}", n % 9)), noise(n, 3000));
        write(b.at(&format!("e{}/f{n}", n % 9)), noise(1000 + n, 3000));
    }
    converge(&[&a, &b]);
    let quiet_log = |text: String| text.lines().filter(|line| line.contains("/f")).count();
    // Files touched within 2 s of their look are hashed once more: that must be quiet too.
    let (lines, before) = (quiet_log(a.log()) + quiet_log(b.log()), a.wire_bytes());
    pace(6000);
    let after = a.wire_bytes();
    assert_eq!(quiet_log(a.log()) + quiet_log(b.log()), lines, "something was sent or received");
    let travelled = (after.0 - before.0) + (after.1 - before.1);
    assert!(travelled < 4_000, "{travelled} bytes travelled in 6 s of quiet");
}

#[test]
fn a_users_edit_a_millisecond_after_an_install_is_never_taken_for_an_echo() {
    let (a, b) = Group::new().pair();
    for round in 0..150 {
        let path = format!("f{}", round % 10);
        let (sent, edit) = (format!("sent {round:04}"), format!("edit {round:04}"));
        write(a.at(&path), &sent);
        // Spin: the edit must come in the very moment of the install.
        let deadline = std::time::Instant::now() + PATIENCE;
        while peek(b.at(&path)).as_deref() != Some(sent.as_bytes()) {
            assert!(std::time::Instant::now() < deadline, "round {round} never arrived");
        }
        pace(round % 3);
        if round % 2 == 0 {
            // Same size, in place: only the times tell.
            write(b.at(&path), &edit);
        } else {
            let scratch = b.home.join("scratch");
            write(&scratch, &edit);
            exchange(&scratch, b.at(&path)).expect("RENAME_EXCHANGE");
            assert_eq!(read(&scratch), sent.as_bytes());
        }
        eventually(&format!("the edit of round {round} is back at a"), PATIENCE, || {
            let there = peek(a.at(&path));
            (there.as_deref() == Some(edit.as_bytes())).then_some(()).ok_or(format!("{there:?}"))
        });
    }
    converge(&[&a, &b]);
}

#[test]
fn two_users_who_edit_one_file_at_once_cause_no_endless_exchange() {
    let (a, b) = Group::new().pair();
    for round in 0..50 {
        write(a.at("f"), format!("a {round}"));
        write(b.at("f"), format!("b {round}"));
        pace(round % 7);
    }
    converge(&[&a, &b]);
    let before = a.wire_bytes();
    pace(3000);
    let after = a.wire_bytes();
    assert!(after.0 - before.0 < 2_000, "{} bytes sent in 3 s of quiet", after.0 - before.0);
}
