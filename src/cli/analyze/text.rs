//! How an analysis reads.
//!
//! Deliberately not here: what is counted.

use super::super::show;
use super::{Analysis, Duplicate, SizedPath};
use crate::humanize::{bytes, count, counted, listed};
use std::fmt::Write;

pub(super) fn text(found: &Analysis) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<10} {text}");
    };
    let files = counted(found.files, "file", "files");
    let (folders, links) = (counted(found.folders, "folder", "folders"), counted(found.links, "link", "links"));
    line("holds", format!("{files} ({}), {folders}, {links}", bytes(found.bytes)));
    if found.deleted > 0 {
        line("remembers", counted(found.deleted, "deletion", "deletions"));
    }
    if found.not_here_files > 0 {
        let files = counted(found.not_here_files, "file is", "files are");
        line("to come", format!("{files} not on this disk ({})", bytes(found.not_here_bytes)));
    }
    let contents = &found.contents;
    let different = counted(contents.different, "different content", "different contents");
    line(
        "contents",
        format!("{different} of {}; the others repeat {}", bytes(contents.bytes), bytes(contents.saved_bytes)),
    );
    for copy in &found.copies {
        let (files, machines) = (counted(copy.files, "file", "files"), counted(copy.machines, "machine", "machines"));
        line("copies", format!("{files} ({}) on {machines}", bytes(copy.bytes)));
    }
    if !found.not_counted.is_empty() {
        line("", format!("not counted, as it is not known what they hold: {}", listed(&found.not_counted)));
    }
    section(&mut out, "contents of several files", found.duplicates.iter().map(duplicate));
    section(&mut out, "largest files", found.largest_files.iter().map(sized));
    section(&mut out, "largest folders", found.largest_folders.iter().map(sized));
    let hours = found.hours.iter().map(|hour| {
        let changed = format!("{} changed", count(hour.changed));
        let replaced = format!("{} went to history", count(hour.replaced));
        vec![show::time(&hour.begin_ns), format!("{changed:>16}"), format!("{:>10}", bytes(hour.bytes)), replaced]
    });
    section(&mut out, "the last 24 hours, each hour with changes", hours);
    out
}

fn section(out: &mut String, title: &str, rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let _ = write!(out, "\n{title}\n{}", show::table(&rows));
    }
}

fn duplicate(one: &Duplicate) -> Vec<String> {
    let files = counted(one.files, "file", "files");
    vec![format!("{:>10}", bytes(one.size)), format!("in {files}"), format!("such as {}", one.path)]
}

fn sized(one: &SizedPath) -> Vec<String> {
    vec![format!("{:>10}", bytes(one.bytes)), one.path.clone()]
}
