//! What is held, confirmed and taken back, as text for people.
//!
//! Deliberately not here: the commands (`mod.rs`), and anything for programs (`--json`).

use crate::humanize::{count, counted};
use crate::views::held::{HeldElsewhereView, HeldPathView, HeldView, UndoView};
use std::fmt::Write;

/// Paths that stay away which are shown before "and N more".
const NOTES: usize = 10;

/// What is held, a path a line: here, and on linked machines.
pub(super) fn held(view: &HeldView) -> String {
    let mut out = String::new();
    name_paths(&mut out, "", &view.held, view.deletions + view.reverts + view.dated_ahead);
    let sums = held_sums(view);
    if sums.is_empty() {
        let _ = writeln!(out, "nothing is held here");
    } else {
        let what = sums.join(", ");
        let _ = writeln!(
            out,
            "{} holds {what}; 'dirsync confirm' lets it go ahead, 'dirsync undo' takes it back",
            view.machine
        );
    }
    for elsewhere in &view.elsewhere {
        let HeldElsewhereView { machine, held, deletions, reverts, dated_ahead, .. } = elsewhere;
        let _ = writeln!(out, "{}: 'dirsync confirm' or 'dirsync undo' there decides", holds_elsewhere(elsewhere));
        if !held.is_empty() {
            name_paths(
                &mut out,
                &format!("{machine}: "),
                held,
                deletions.saturating_add(*reverts).saturating_add(*dated_ahead),
            );
        }
    }
    if !view.silent.is_empty() {
        let _ = writeln!(out, "not asked, or without an answer: {}", view.silent.join(", "));
    }
    out
}

fn name_paths(out: &mut String, machine: &str, held: &[HeldPathView], of: u64) {
    for held in held {
        let what = match held.reason.as_str() {
            "deleted" => "deleted",
            "older" => "went back to older contents",
            "dated ahead" => "dated more than 5 years ahead",
            other => other,
        };
        let _ = writeln!(out, "{machine}{}  ({what}, by {})", held.path, held.by);
    }
    let more = of.saturating_sub(held.len() as u64);
    if more > 0 {
        let _ = writeln!(out, "{machine}and {} more", count(more));
    }
}

/// What a confirmation let go, and where.
pub(super) fn confirmed(view: &HeldView) -> String {
    let mut out = format!("confirmed: {}, held by {}\n", held_sums(view).join(", "), view.machine);
    for elsewhere in &view.elsewhere {
        let _ = writeln!(out, "{}; of the same changes, they go ahead there too", holds_elsewhere(elsewhere));
    }
    out
}

fn holds_elsewhere(held: &HeldElsewhereView) -> String {
    let HeldElsewhereView { machine, deletions, reverts, dated_ahead, unignored, .. } = held;
    format!("{machine} holds {}", sums(*deletions, *reverts, *dated_ahead, *unignored).join(", "))
}

/// Why there is nothing to be done, and where there is.
pub(super) fn nothing(why: &str, order: &str, elsewhere: &[HeldElsewhereView]) -> String {
    if elsewhere.is_empty() {
        let way_out = match order {
            "undo" => "; 'dirsync history' lists what was deleted or replaced, and 'dirsync restore' brings it back",
            _ => "",
        };
        return format!("{why}, and no linked machine holds anything{way_out}");
    }
    let held: Vec<_> = elsewhere.iter().map(holds_elsewhere).collect();
    format!("{why}; {}: run 'dirsync {order}' there", held.join("; "))
}

/// What an undo brings back.
pub(super) fn undone(view: &UndoView) -> String {
    let mut out = String::new();
    for back in view.back.iter().filter(|_| view.dry_run) {
        let from = match back.from.as_str() {
            "peers" => "from another machine's disk",
            "here" => "as it is on this disk",
            "history" => "from history",
            other => other,
        };
        let _ = writeln!(out, "{}  ({from})", back.path);
    }
    let more = view.paths.saturating_sub(view.back.len() as u64);
    if view.dry_run && more > 0 {
        let _ = writeln!(out, "and {} more", count(more));
    }
    name_left(&mut out, &view.lost, "in no history that can be asked");
    name_left(&mut out, &view.still_held, "on no disk and in no history that can be asked: held as before");
    if !view.still_held.is_empty() {
        out.push_str("what is held as before comes back once a machine that has it is linked; ");
        out.push_str("'dirsync confirm' gives it up\n");
    }
    if !view.silent.is_empty() {
        let _ = writeln!(out, "not asked, as it does not answer: {}", view.silent.join(", "));
    }
    let (paths, verb) = (counted(view.paths, "path", "paths"), if view.dry_run { "would come" } else { "comes" });
    let verb = if view.paths == 1 || view.dry_run { verb } else { "come" };
    let _ = writeln!(out, "{paths} {verb} back on every machine, as it was before");
    out
}

fn name_left(out: &mut String, paths: &[String], why: &str) {
    for path in paths.iter().take(NOTES) {
        let _ = writeln!(out, "{path}  ({why})");
    }
    let more = paths.len().saturating_sub(NOTES) as u64;
    if more > 0 {
        let _ = writeln!(out, "and {} more  ({why})", count(more));
    }
}

fn held_sums(view: &HeldView) -> Vec<String> {
    sums(view.deletions, view.reverts, view.dated_ahead, view.unignored)
}

fn sums(deletions: u64, reverts: u64, dated_ahead: u64, unignored: u64) -> Vec<String> {
    let sums = [
        (deletions, "deletion", "deletions"),
        (reverts, "return to older contents", "returns to older contents"),
        (dated_ahead, "change dated ahead", "changes dated ahead"),
        (unignored, "path that .dirsyncignore covered", "paths that .dirsyncignore covered"),
    ];
    sums.into_iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| counted(n, one, many)).collect()
}
