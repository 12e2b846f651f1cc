//! What a program asks to be changed: something written, deleted or moved, as a user would do it,
//! but for what goes: that is kept in history.
//!
//! The watcher sees it, and it becomes a normal new version. Each is done whole or not at all, and
//! only to what was expected: that is looked at once more when it is out of its place. Deliberately
//! not here: who may change what (`io/control/content/`).

use super::place::{self, PathChange};
use super::restore::RestoreError;
use super::{Prepared, Site, Unsettled};
use crate::engine::{Job, JobId, Outcome, RetainReason, Source, StageId, Stat, StatKind};
use crate::io::clock::wall_ns;
use crate::io::fs::beneath::{self, LastFolder};
use crate::io::fs::history::History;
use crate::io::fs::trouble::trouble;
use crate::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
use rustix::io::Errno;
use std::sync::Arc;

const NS: u64 = 1_000_000_000;
/// Of a file that is new.
const NEW_MODE: Mode = Mode(0o644);

/// A content that is to be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutContent {
    pub path: SyncPath,
    pub content: ContentId,
    pub size: u64,
    /// The file that is there; `None`: nothing.
    pub expect: Option<Stat>,
}

impl History {
    /// Puts a verified content that is staged at its path, durably, as an install does: with the
    /// permissions and the owner of what it replaces. On failure it is still staged.
    pub fn put(self: &Arc<Self>, id: StageId, put: &PutContent) -> Result<(), RestoreError> {
        let PutContent { path, content, size, expect } = put;
        let disk = |e| RestoreError::Disk(trouble("write", Some(path), e));
        let site = self.site().map_err(disk)?;
        site.make_parents(path).map_err(|e| match e {
            e if beneath::is_no_parent(e) => RestoreError::NoParent(path.clone()),
            e => disk(e),
        })?;
        let now = wall_ns();
        let mtime = FileTime { secs: (now / NS).cast_signed(), nanos: (now % NS) as u32 };
        let (kind, mode) = (Kind::File { size: *size, content: *content }, expect.map_or(NEW_MODE, |old| old.mode));
        // Nobody is told of this version: an inspection makes one of what it finds.
        let version = Version { stamp: 0, author: DeviceId([0; 32]), seen: VersionVector::default() };
        let entry = Entry { kind, mode, mtime, version };
        let (source, keep) = (Source::Staged(id), RetainReason::Replaced);
        let job = Job { id: JobId(0), path: path.clone(), entry, expect: *expect, source, keep, since_ns: 0 };
        let prepared = site.prepare_all(std::slice::from_ref(&job), true);
        let (made, _) = site.make_durable(std::slice::from_ref(&job), prepared);
        let outcome = site.settle(site.place_all(vec![job], made)).outcomes.pop();
        outcome.map_or(Err(RestoreError::Busy(path.clone())), |(_, outcome)| ended(path, outcome))?;
        site.sync_change([path].into_iter(), false).map_err(disk)
    }

    /// Deletes what is at `path`, durably; it goes to history. A folder must be empty.
    pub fn delete(self: &Arc<Self>, path: &SyncPath, expect: &Stat) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("delete", Some(path), e));
        let site = self.site().map_err(disk)?;
        if expect.kind != StatKind::Directory {
            self.admit(path).map_err(RestoreError::Disk)?;
        }
        let change = PathChange {
            path,
            expect: Some(expect),
            keep: RetainReason::Deleted,
            since_ns: None,
            mode: Mode::DIRECTORY,
            mtime: FileTime::default(),
            content: None,
            made: &Prepared::Nothing,
        };
        let kept = site.change(&change)?;
        if let Some(kept) = &kept {
            self.watch(kept, path, expect);
        }
        site.sync_change([path].into_iter(), kept.is_some()).map_err(disk)
    }

    /// Moves what is at `from`, with all that is below it, to `to`, durably. Nothing may be there.
    pub fn move_path(self: &Arc<Self>, from: &SyncPath, to: &SyncPath, expect: &Stat) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("move", Some(from), e));
        let site = self.site().map_err(disk)?;
        let is_ours = || Ok(site.root.is_ours(from)? || site.root.is_ours(to)?);
        if is_ours().map_err(disk)? {
            return Err(disk(Errno::ACCESS));
        }
        site.make_parents(to).map_err(|e| match e {
            e if beneath::is_no_parent(e) => RestoreError::NoParent(to.clone()),
            e => RestoreError::Disk(trouble("move", Some(to), e)),
        })?;
        site.rename(from, to, expect)?;
        site.sync_change([from, to].into_iter(), false).map_err(disk)
    }
}

fn ended(path: &SyncPath, outcome: Outcome) -> Result<(), RestoreError> {
    if let Outcome::Done { .. } = outcome { Ok(()) } else { Err(refused(path, outcome)) }
}

fn refused(path: &SyncPath, outcome: Outcome) -> RestoreError {
    match outcome {
        Outcome::NotEmpty => RestoreError::NotEmpty(path.clone()),
        Outcome::NoParent => RestoreError::NoParent(path.clone()),
        Outcome::Taken => RestoreError::Taken(path.clone()),
        Outcome::Failed(trouble) | Outcome::Refused(trouble) => RestoreError::Disk(trouble),
        _ => RestoreError::Busy(path.clone()),
    }
}

impl Site {
    /// What it is kept as, if it replaces or deletes a file.
    pub(super) fn change(&self, change: &PathChange<'_>) -> Result<Option<String>, RestoreError> {
        let mut opened = Vec::new();
        let placed = self.place(&mut LastFolder::default(), change, &mut opened);
        self.close_all(&opened);
        self.forget_openings(&opened);
        placed.map(|placed| placed.kept).map_err(|outcome| refused(change.path, outcome))
    }

    fn rename(&self, from: &SyncPath, to: &SyncPath, expect: &Stat) -> Result<(), RestoreError> {
        let failed = |e| match e {
            Errno::EXIST | Errno::NOTEMPTY => RestoreError::Taken(to.clone()),
            Errno::NOENT => RestoreError::Busy(from.clone()),
            Errno::INVAL if to.is_below(from) => RestoreError::IntoItself(from.clone()),
            e => RestoreError::Disk(trouble("move", Some(from), e)),
        };
        let folder = |path: &SyncPath| {
            beneath::folder(self.root.dir(), path.parent().as_ref()).map_err(|e| match e {
                e if beneath::is_no_parent(e) => RestoreError::NoParent(path.clone()),
                e => failed(e),
            })
        };
        let (from_dir, to_dir) = (folder(from)?, folder(to)?);
        let is_folder = expect.kind == StatKind::Directory;
        let there = self.root.facts_in(&from_dir, from.name()).map_err(failed)?.map(|facts| facts.stat);
        if !place::is_expected(Some(expect), there.as_ref()) {
            return Err(RestoreError::Busy(from.clone()));
        }
        if beneath::stat_at(&to_dir, to.name()).map_err(failed)?.is_some() {
            return Err(RestoreError::Taken(to.clone()));
        }
        place::move_to_free_name(self, &from_dir, from.name(), &to_dir, to.name(), is_folder).map_err(failed)?;
        let out = beneath::stat_at(&to_dir, to.name()).map_err(failed)?;
        if out.is_some_and(|out| place::is_untouched(expect, &out)) {
            return Ok(());
        }
        // Someone wrote at that moment: theirs goes back, unless there is a still newer one.
        if let Err(e) = place::move_to_free_name(self, &to_dir, to.name(), &from_dir, from.name(), is_folder) {
            tracing::warn!("'{from}' was written by someone else while it was moved to '{to}', and stays there: {e}");
        }
        Err(RestoreError::Busy(from.clone()))
    }

    /// Makes durable what was changed there, and the folders that were made for it.
    pub(super) fn sync_change<'a>(
        &self,
        paths: impl Iterator<Item = &'a SyncPath>,
        history: bool,
    ) -> rustix::io::Result<()> {
        let around = |path: &SyncPath| {
            std::iter::once(path.parent()).chain(path.ancestors().map(|folder| folder.parent())).collect::<Vec<_>>()
        };
        let folders = paths.flat_map(around).collect();
        self.sync(&Unsettled { folders, history, ..Unsettled::default() })
    }
}
