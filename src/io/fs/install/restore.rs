//! Bringing something back from history: a copy, put into the folder as a user's edit would be.
//!
//! What it replaces goes to history in turn. The watcher sees it, and it becomes a normal new
//! version.

use super::place::PathChange;
use super::{Prepared, Site, StagedFile};
use crate::engine::{RetainReason, StageId, StatKind, Trouble};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath;
use crate::io::fs::history::History;
use crate::io::fs::staging;
use crate::io::fs::trouble::{errno, trouble};
use crate::model::{FileTime, Mode, SyncPath};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use std::sync::Arc;

/// Why something was not restored, or changed as a program asked.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("history holds no '{0}'; `dirsync history` lists what there is")]
    NotKept(String),
    #[error("'{0}' is a folder; move it back by hand from .dirsync/history")]
    Folder(String),
    #[error("'{0}' is a folder that holds something; move it away first")]
    NotEmpty(SyncPath),
    #[error("'{0}' is being changed by someone else; try again")]
    Busy(SyncPath),
    #[error("something is at '{0}'; delete it or move it away first")]
    Taken(SyncPath),
    #[error("'{0}' cannot be moved into itself")]
    IntoItself(SyncPath),
    #[error("a folder of '{0}' is a file or a link; move that away first")]
    NoParent(SyncPath),
    #[error("{}", .0.text)]
    Disk(Trouble),
}

impl History {
    /// Copies what history keeps as `name` to `path`, durably. It stays in history.
    pub fn restore(self: &Arc<Self>, name: &str, path: &SyncPath) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("restore", Some(path), e));
        let site = self.site().map_err(disk)?;
        let shown = || crate::model::text::escape(name.as_bytes());
        if !self.is_kept(name).map_err(|e| disk(errno(&e)))? {
            return Err(RestoreError::NotKept(shown()));
        }
        let kept = beneath::facts_at(self.root.history(), name.as_bytes()).map_err(disk)?;
        let kind = kept.map_or(StatKind::Other, |kept| kept.stat.kind);
        let staged = match kind {
            StatKind::File => site.stage_copy(name),
            StatKind::Symlink => site.stage_link(name),
            _ => return Err(RestoreError::Folder(shown())),
        };
        site.bring(path, &staged.map_err(disk)?)
    }

    /// Puts a content that another machine's history had, and that was verified, at `path`,
    /// durably.
    pub fn restore_staged(self: &Arc<Self>, id: StageId, path: &SyncPath, mode: Mode) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("restore", Some(path), e));
        let staged = self.site().and_then(|site| Ok((site.finish_staged(id, mode)?, site)));
        match staged {
            Ok((staged, site)) => site.bring(path, &staged),
            Err(e) => {
                self.stage.discard(id);
                Err(disk(e))
            }
        }
    }

    /// The same of a link.
    pub fn restore_link(self: &Arc<Self>, target: &[u8], path: &SyncPath) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("restore", Some(path), e));
        let site = self.site().map_err(disk)?;
        let target = std::ffi::CString::new(target).map_err(|_| disk(Errno::INVAL))?;
        let staged = site.stage_link_to(&target).map_err(disk)?;
        site.bring(path, &staged)
    }

    pub(super) fn site(self: &Arc<Self>) -> rustix::io::Result<Site> {
        let syncer = Arc::new(self.root.syncer()?);
        let (root, stage) = (Arc::clone(&self.root), Arc::clone(&self.stage));
        Ok(Site { root, stage, history: Arc::clone(self), syncer, is_stopping: Arc::default() })
    }
}

impl Site {
    /// Makes the folders that it needs, and puts it in place.
    fn bring(&self, path: &SyncPath, staged: &StagedFile) -> Result<(), RestoreError> {
        let placed = self.make_parents(path).map_err(|e| match e {
            e if beneath::is_no_parent(e) => RestoreError::NoParent(path.clone()),
            e => RestoreError::Disk(trouble("restore", Some(path), e)),
        });
        let done = placed.and_then(|()| self.put(path, staged));
        if done.is_err() {
            self.remove_staged(&staged.name);
        }
        done
    }

    /// Of a content that the network staged.
    fn finish_staged(&self, id: StageId, mode: Mode) -> rustix::io::Result<StagedFile> {
        let name = staging::name(id);
        let (file, _) = beneath::regular(self.root.staging(), name.as_bytes())?.ok_or(Errno::NOENT)?;
        rustix::fs::fchmod(&file, super::prepare::bits(mode))?;
        rustix::fs::fsync(&file)?;
        Ok(StagedFile { name, stat: beneath::facts(&file)?.stat, file: None })
    }

    fn stage_copy(&self, name: &str) -> rustix::io::Result<StagedFile> {
        let (mut kept, facts) = beneath::regular(self.root.history(), name.as_bytes())?.ok_or(Errno::NOENT)?;
        let (id, mut file) = self.stage.create_file()?;
        let staged = staging::name(id);
        let copied = std::io::copy(&mut kept, &mut file).map_err(|e| errno(&e)).and_then(|_| {
            super::prepare::copy_attributes_of(&kept, &file);
            self.root.set(rustix::fs::fchmod(&file, super::prepare::bits(facts.stat.mode)))?;
            if rustix::process::geteuid().is_root() {
                // It is its user's still.
                let owner = (Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)));
                self.root.set(rustix::fs::fchown(&file, owner.0, owner.1))?;
            }
            rustix::fs::fsync(&file)?;
            beneath::facts(&file)
        });
        match copied {
            Ok(facts) => Ok(StagedFile { name: staged, stat: facts.stat, file: None }),
            Err(e) => {
                self.remove_staged(&staged);
                Err(e)
            }
        }
    }

    fn stage_link(&self, name: &str) -> rustix::io::Result<StagedFile> {
        self.stage_link_to(&rustix::fs::readlinkat(self.root.history(), name, Vec::new())?)
    }

    fn stage_link_to(&self, target: &std::ffi::CStr) -> rustix::io::Result<StagedFile> {
        let staged = staging::name(self.stage.next_id());
        rustix::fs::symlinkat(target, self.root.staging(), staged.as_str())?;
        let stat = beneath::stat_at(self.root.staging(), staged.as_bytes())?.ok_or(Errno::NOENT)?;
        Ok(StagedFile { name: staged, stat, file: None })
    }

    /// The folders that a restored path needs, as a user would make them.
    pub(super) fn make_parents(&self, path: &SyncPath) -> rustix::io::Result<()> {
        let mut ancestors: Vec<_> = path.ancestors().collect();
        ancestors.reverse();
        for folder in ancestors {
            let parent = beneath::folder(self.root.dir(), folder.parent().as_ref())?;
            match rustix::fs::mkdirat(&parent, folder.name(), super::prepare::bits(Mode::DIRECTORY)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn put(&self, path: &SyncPath, staged: &StagedFile) -> Result<(), RestoreError> {
        let disk = |e| RestoreError::Disk(trouble("restore", Some(path), e));
        let expect = self.root.stat(path).map_err(|e| disk(errno(&e)))?;
        let (mode, mtime) = (staged.stat.mode, FileTime::default());
        let made = Prepared::Staged(StagedFile { name: staged.name.clone(), stat: staged.stat, file: None });
        let change = PathChange {
            path,
            expect: expect.as_ref(),
            keep: RetainReason::Replaced,
            since_ns: None,
            mode,
            mtime,
            content: None,
            made: &made,
        };
        let kept = self.change(&change)?;
        fail::after(Point::RestorePlaced);
        if let (Some(kept), Some(old)) = (&kept, &expect) {
            self.history.watch(kept, path, old);
        }
        self.sync_change([path].into_iter(), kept.is_some()).map_err(disk)
    }

    #[cfg(test)]
    pub(super) fn staged_names(&self) -> usize {
        rustix::fs::Dir::read_from(self.root.staging()).unwrap().count() - 2
    }
}
