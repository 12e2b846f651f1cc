//! What a program asks to be changed: something deleted or moved, as a user would do it, but for
//! what goes: that is kept in history.
//!
//! The watcher sees it, and it becomes a normal new version. Each is done whole or not at all, and
//! only to what was expected: that is looked at once more when it is out of its place. Deliberately
//! not here: who may change what (`io/control/content/`).

use super::place::{self, PathChange};
use super::restore::RestoreError;
use super::{Prepared, Site, Unsettled};
use crate::engine::{Outcome, RetainReason, Stat, StatKind};
use crate::io::fs::beneath::{self, LastFolder};
use crate::io::fs::history::History;
use crate::io::fs::trouble::trouble;
use crate::model::{FileTime, Mode, SyncPath};
use rustix::io::Errno;
use std::sync::Arc;

impl History {
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

impl Site {
    /// What it is kept as, if it replaces or deletes a file.
    pub(super) fn change(&self, change: &PathChange<'_>) -> Result<Option<String>, RestoreError> {
        let mut opened = Vec::new();
        let placed = self.place(&mut LastFolder::default(), change, &mut opened);
        self.close_all(&opened);
        self.forget_openings(&opened);
        let path = || change.path.clone();
        placed.map(|placed| placed.kept).map_err(|outcome| match outcome {
            Outcome::NotEmpty => RestoreError::NotEmpty(path()),
            Outcome::NoParent => RestoreError::NoParent(path()),
            Outcome::Taken => RestoreError::Taken(path()),
            Outcome::Failed(trouble) => RestoreError::Disk(trouble),
            _ => RestoreError::Busy(path()),
        })
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
