//! What becomes of paths, as their rows are written: for programs that follow along.
//!
//! It is noted beside the transaction and taken once that is committed. May import `engine` and
//! `model`. Deliberately not here: who follows (`io/feed.rs`).

use crate::engine::api::index::Row;
use crate::model::{ContentId, DeviceId, Entry, Kind, SyncPath};
use std::collections::VecDeque;

/// So many are kept until they are taken: one event may write as many rows as there are files.
pub const SEEN_CHANGES: usize = 8192;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenChangeKind {
    /// This disk has it now, and had not.
    Added,
    /// This disk has it otherwise than before.
    Modified,
    /// This disk has it no more.
    Deleted,
    /// The group has it otherwise than before, and this disk does not follow yet.
    Pending,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenChange {
    pub path: SyncPath,
    pub change: SeenChangeKind,
    /// Of what it is now; of a deletion, what it was.
    pub kind: &'static str,
    pub size: u64,
    /// The same of its content, if it is a file.
    pub content: Option<ContentId>,
    /// Who made the group's version of it, and when (ns since 1970).
    pub author: DeviceId,
    pub stamp: u64,
}

/// What became of paths since it was taken last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SeenChanges {
    /// In order.
    pub latest: VecDeque<SeenChange>,
    /// How many before these were not kept.
    pub forgotten: u64,
}

impl SeenChanges {
    pub(super) fn note(&mut self, path: &SyncPath, old: Option<&Row>, new: Option<&Row>) {
        let Some(change) = SeenChange::of(path, old, new) else { return };
        if self.latest.len() >= SEEN_CHANGES {
            self.latest.pop_front();
            self.forgotten += 1;
        }
        self.latest.push_back(change);
    }
}

impl SeenChange {
    /// `None` where nothing that anybody sees has changed.
    fn of(path: &SyncPath, old: Option<&Row>, new: Option<&Row>) -> Option<Self> {
        let (was, is) = (on_disk(old), on_disk(new));
        let head = new.or(old).map(|row| &row.head)?;
        let (change, entry) = match (was, is) {
            (None, Some(entry)) => (SeenChangeKind::Added, entry),
            (Some(entry), None) => (SeenChangeKind::Deleted, entry),
            (Some(was), Some(is)) if !looks_like(was, is) => (SeenChangeKind::Modified, is),
            _ if new.is_some_and(|row| !row.is_settled() && !row.is_local())
                && old.map(|row| &row.head) != Some(head) =>
            {
                (SeenChangeKind::Pending, head)
            }
            _ => return None,
        };
        let (kind, size, content) = match &entry.kind {
            Kind::File { size, content } => ("file", *size, Some(*content)),
            Kind::Directory => ("directory", 0, None),
            Kind::Symlink { .. } => ("symlink", 0, None),
            Kind::Deleted { .. } => ("deleted", 0, None),
        };
        let (author, stamp) = (head.version.author, head.version.stamp);
        Some(Self { path: path.clone(), change, kind, size, content, author, stamp })
    }
}

fn on_disk(row: Option<&Row>) -> Option<&Entry> {
    row.and_then(Row::live_on_disk).map(|(entry, _)| entry)
}

/// Whether a person finds the same there.
fn looks_like(was: &Entry, is: &Entry) -> bool {
    (&was.kind, was.mode, was.mtime) == (&is.kind, is.mode, is.mtime)
}
