//! What is held, confirmed and taken back, as text for people.
//!
//! Deliberately not here: the commands (`mod.rs`), and anything for programs (`--json`).

use crate::io::control::view::{HeldElsewhereView, HeldView, UndoView};
use crate::io::words::{count, counted};
use std::fmt::Write;

/// Paths that stay away which are shown before "and N more".
const NOTES: usize = 10;

/// What is held, a path a line.
pub(super) fn held(view: &HeldView) -> String {
    let mut out = String::new();
    for held in &view.held {
        let what = match held.reason.as_str() {
            "deleted" => "deleted",
            "older" => "went back to older contents",
            "dated ahead" => "dated more than 5 years ahead",
            other => other,
        };
        let _ = writeln!(out, "{}  ({what}, by {})", held.path, held.by);
    }
    let more = (view.deletions + view.reverts + view.dated_ahead).saturating_sub(view.held.len() as u64);
    if more > 0 {
        let _ = writeln!(out, "and {} more", count(more));
    }
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
        let _ = writeln!(out, "{}; 'dirsync held' there lists it", holds_elsewhere(elsewhere));
    }
    out
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
    let HeldElsewhereView { machine, deletions, reverts, uncovered } = held;
    format!("{machine} holds {}", sums(*deletions, *reverts, 0, *uncovered).join(", "))
}

/// Why there is nothing to be done, and where there is.
pub(super) fn nothing(why: &str, order: &str, elsewhere: &[HeldElsewhereView]) -> String {
    if elsewhere.is_empty() {
        return format!("{why}, and no linked machine holds anything");
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
    for path in view.lost.iter().take(NOTES) {
        let _ = writeln!(out, "{path}  (in no history that could be asked)");
    }
    if view.lost.len() > NOTES {
        let _ = writeln!(
            out,
            "and {} more that are in no history that could be asked",
            count((view.lost.len() - NOTES) as u64)
        );
    }
    if !view.silent.is_empty() {
        let _ = writeln!(out, "not asked, as it does not answer: {}", view.silent.join(", "));
    }
    let (paths, verb) = (counted(view.paths, "path", "paths"), if view.dry_run { "would come" } else { "comes" });
    let verb = if view.paths == 1 || view.dry_run { verb } else { "come" };
    let _ = writeln!(out, "{paths} {verb} back on every machine, as it was before");
    out
}

fn held_sums(view: &HeldView) -> Vec<String> {
    sums(view.deletions, view.reverts, view.dated_ahead, view.uncovered)
}

fn sums(deletions: u64, reverts: u64, dated_ahead: u64, uncovered: u64) -> Vec<String> {
    let sums = [
        (deletions, "deletion", "deletions"),
        (reverts, "return to older contents", "returns to older contents"),
        (dated_ahead, "change dated ahead", "changes dated ahead"),
        (uncovered, "path that .dirsyncignore covered", "paths that .dirsyncignore covered"),
    ];
    sums.into_iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| counted(n, one, many)).collect()
}
