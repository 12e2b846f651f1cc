//! A file whose mode or time changes, and not its content.
//!
//! Deliberately not here: what is put in its place (`place.rs`).

use super::{NamePlace, Placed, is_expected, is_untouched};
use crate::engine::{Outcome, Stat, StatKind};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self};
use crate::io::fs::install::Prepared;
use crate::io::fs::install::prepare::{times, with_special};
use crate::model::Mode;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, OFlags};

impl NamePlace<'_> {
    /// Permissions and mtime of the inode that is there.
    pub(super) fn adjust(&self, old: &Stat) -> Result<Placed, Outcome> {
        let failed = |e| self.change.failed("set the permissions of", e);
        let handle = beneath::open(self.parent, self.name, OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
        let facts = beneath::facts(&handle).map_err(failed)?;
        let held = facts.stat;
        if !is_expected(Some(old), Some(&held)) {
            return Err(Outcome::Stale);
        }
        // With another mtime, bytes that rotted would look like an edit, and spread (P8).
        let is_proven = matches!(self.change.made, Prepared::Proven);
        let sets_time = old.kind == StatKind::File && held.mtime != self.change.mtime;
        if sets_time && !is_proven && !self.is_its_content(held.ino)? {
            return Err(Outcome::NotItsContent);
        }
        let inode = beneath::by_descriptor(&handle);
        let mut wanted = held;
        if old.kind != StatKind::Symlink && held.mode != self.change.mode {
            fail::at(Point::InstallMode)
                .and_then(|()| {
                    let mode = with_special(self.change.mode, facts.raw_mode);
                    self.site.root.set(rustix::fs::chmod(inode.as_str(), mode))
                })
                .map_err(failed)?;
            fail::after(Point::InstallModeSet);
            wanted.mode = self.mode_kept(&handle).map_err(failed)?;
        }
        if old.kind != StatKind::Directory && held.mtime != self.change.mtime {
            let times = times(self.change.mtime);
            if old.kind == StatKind::Symlink {
                rustix::fs::utimensat(self.parent, self.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            } else {
                rustix::fs::utimensat(rustix::fs::CWD, inode.as_str(), &times, AtFlags::empty()).map_err(failed)?;
            }
            fail::after(Point::InstallTimeSet);
            // As the disk keeps it, which may be coarser.
            wanted.mtime = beneath::facts(&handle).map_err(failed)?.stat.mtime;
            if !is_proven {
                self.check_not_written(&handle)?;
            }
        }
        let now = beneath::facts(&handle).map_err(failed)?.stat;
        // As in `placed`: a write since then must be found by the next inspection.
        Ok(Placed { stat: Some(if is_untouched(&wanted, &now) { now } else { wanted }), kept: None })
    }

    /// The mode that was just set, or, where the file system keeps none, the one that is there. Any
    /// other one is a user's.
    pub(super) fn mode_kept(&self, handle: &OwnedFd) -> rustix::io::Result<Mode> {
        Ok(if self.site.root.keeps().modes { self.change.mode } else { beneath::facts(handle)?.stat.mode })
    }

    /// A write in the instant before the mtime was set left no trace in the stat: only the bytes
    /// tell (P5).
    pub(super) fn check_not_written(&self, handle: &OwnedFd) -> Result<(), Outcome> {
        let Ok(held) = beneath::facts(handle) else { return Ok(()) };
        let failed = |e| self.change.failed("read", e);
        if self.is_its_content(held.stat.ino)? {
            return Ok(());
        }
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(rustix::fs::CWD, beneath::by_descriptor(handle), &times, AtFlags::empty())
            .map_err(failed)?;
        Err(Outcome::Stale)
    }

    /// Whether the file of this inode holds the bytes that are wanted; what is no file has none.
    pub(super) fn is_its_content(&self, ino: u64) -> Result<bool, Outcome> {
        let Some(content) = self.change.content else { return Ok(true) };
        let failed = |e| self.change.failed("read", e);
        let found = beneath::regular(self.parent, self.name).map_err(failed)?;
        let (file, _) = found.filter(|(_, facts)| facts.stat.ino == ino).ok_or(Outcome::Stale)?;
        match beneath::content_unless_stopped(&file, &self.site.is_stopping) {
            Ok(None) => Err(Outcome::Stale),
            read => Ok(read.is_ok_and(|now| now == Some(content))),
        }
    }
}
