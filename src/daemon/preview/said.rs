//! A preview in words and in JSON. Deliberately not here: what is in it (`engine/preview.rs`).

use crate::engine::preview::{Preview, PreviewTally};
use crate::humanize;
use crate::model::{SyncPath, text};
use serde::Serialize;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files and links of one sort. `examples`: the first paths.
#[derive(Debug, Serialize)]
pub struct PreviewTallyView {
    pub files: u64,
    pub bytes: u64,
    pub examples: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct PreviewView {
    pub directory: String,
    /// The member that said what the group has.
    pub member: String,
    /// Only the group has them.
    pub comes: PreviewTallyView,
    /// Only this folder has them, or has them newer than their deletion.
    pub goes: PreviewTallyView,
    pub same: PreviewTallyView,
    /// They differ, and the group's is newer: this machine's is kept in its history.
    pub replaced_here: PreviewTallyView,
    /// They differ, and this machine's is newer: the group's is kept in history there.
    pub replaced_there: PreviewTallyView,
    /// The group has deleted them since: they are kept in this machine's history.
    pub deleted_here: PreviewTallyView,
    /// Folders here that could not be read, and are left out.
    pub unread: u64,
}

pub(super) fn view(directory: &Path, member: &str, found: &Preview, unread: u64) -> PreviewView {
    let tally = |tally: &PreviewTally| PreviewTallyView {
        files: tally.files,
        bytes: tally.bytes,
        examples: tally.examples.iter().map(SyncPath::to_text).collect(),
    };
    PreviewView {
        directory: text::escape(directory.as_os_str().as_bytes()),
        member: member.to_owned(),
        comes: tally(&found.comes),
        goes: tally(&found.goes),
        same: tally(&found.same),
        replaced_here: tally(&found.replaced_here),
        replaced_there: tally(&found.replaced_there),
        deleted_here: tally(&found.deleted_here),
        unread,
    }
}

pub(super) fn words(view: &PreviewView) -> String {
    let mut text = format!("'{}' beside the group as {} has it; nothing was changed\n", view.directory, view.member);
    let sorts = [
        (&view.comes, "to come here", ""),
        (&view.goes, "to go to the group", ""),
        (&view.same, "that are the same", ""),
        (&view.replaced_here, "that differ and are newer in the group", "yours are kept in history here"),
        (&view.replaced_there, "that differ and are newer here", "the group's are kept in history there"),
        (&view.deleted_here, "that the group has deleted since", "yours are kept in history here"),
    ];
    for (tally, what, kept) in sorts.into_iter().filter(|(tally, ..)| tally.files > 0) {
        let files = humanize::counted(tally.files, "file", "files");
        let kept = if kept.is_empty() { String::new() } else { format!("; {kept}") };
        let more = tally.files - tally.examples.len() as u64;
        let more = if more > 0 { format!(" and {} more", humanize::count(more)) } else { String::new() };
        let examples: Vec<_> = tally.examples.iter().map(|path| format!("'{path}'")).collect();
        let _ = writeln!(text, "{files} ({}) {what}{kept}", humanize::bytes(tally.bytes));
        let _ = writeln!(text, "  {}{more}", examples.join(", "));
    }
    if view.unread > 0 {
        let folders = humanize::counted(view.unread, "folder", "folders");
        let _ = writeln!(text, "{folders} here cannot be read, and what is in them is left out");
    }
    text
}

pub(super) fn line(found: &Preview) -> String {
    let sort = |tally: &PreviewTally, what: &str| {
        let files = humanize::counted(tally.files, "file", "files");
        format!("{files} ({}) {what}", humanize::bytes(tally.bytes))
    };
    let mut sorts =
        vec![sort(&found.comes, "to come"), sort(&found.goes, "to go"), sort(&found.same, "of one size on both sides")];
    if found.conflicts() > 0 {
        sorts.push(format!(
            "{} in conflict ({} newer in the group; what loses is kept in history)",
            humanize::counted(found.conflicts(), "file", "files"),
            humanize::count(found.replaced_here.files),
        ));
    }
    if found.deleted_here.files > 0 {
        sorts.push(sort(&found.deleted_here, "that the group has deleted since (kept in history)"));
    }
    humanize::listed(&sorts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(files: u64, bytes: u64, names: &[&str]) -> PreviewTally {
        PreviewTally { files, bytes, examples: names.iter().map(|name| SyncPath::new(*name).unwrap()).collect() }
    }

    #[test]
    fn a_preview_names_each_sort_that_there_is_with_sizes_and_examples() {
        let found = Preview {
            comes: tally(1_204, 310 << 20, &["photos/a.jpg", "photos/b.jpg"]),
            replaced_here: tally(1, 2048, &["report.odt"]),
            ..Preview::default()
        };
        let view = view(Path::new("/srv/shared"), "nas", &found, 1);
        insta::assert_snapshot!(words(&view), @"
        '/srv/shared' beside the group as nas has it; nothing was changed
        1,204 files (310.0 MiB) to come here
          'photos/a.jpg', 'photos/b.jpg' and 1,202 more
        1 file (2.0 KiB) that differ and are newer in the group; yours are kept in history here
          'report.odt'
        1 folder here cannot be read, and what is in them is left out
        ");
        assert_eq!(
            line(&found),
            "1,204 files (310.0 MiB) to come, 0 files (0 B) to go, 0 files (0 B) of one size on \
             both sides and 1 file in conflict (1 newer in the group; what loses is kept in \
             history)"
        );
    }
}
