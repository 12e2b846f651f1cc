//! The way into the folder: check, exchange, look at what came out, keep it (P1, P2).
//!
//! What is replaced never leaves the disk: the new file first takes its place *in history*, and
//! then both exchange their names, so that whatever came out is in history from that instant, also
//! when we are killed there. If it is not what was expected, someone wrote at that moment, and the
//! exchange is undone. May import `engine`'s values. Deliberately not here: durability, and what a
//! stale job means.

mod adjust;

use super::closed::OWNER_WRITE;
use super::prepare::with_special;
use super::{Prepared, Site, StagedFile};
use crate::engine::{Job, Names, Outcome, RetainReason, Stat, StatKind};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, LastFolder};
use crate::io::fs::stage::Nameless;
use crate::io::fs::staging;
use crate::io::fs::trouble::trouble;
use crate::model::{ContentId, FileTime, Mode, SyncPath};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

/// Undoing an exchange gives up after so many writes of others between two of its steps. All of
/// them are in the folder or in history even then.
const UNDO_TRIES: u32 = 16;

/// One change of one path.
pub(super) struct PathChange<'a> {
    pub path: &'a SyncPath,
    pub expect: Option<&'a Stat>,
    pub keep: RetainReason,
    /// Since when what is there has been here, by the steady clock (ns), if that is known.
    pub since_ns: Option<u64>,
    pub mode: Mode,
    pub mtime: FileTime,
    /// Of a file.
    pub content: Option<ContentId>,
    pub made: &'a Prepared,
}

/// Done, but not yet durable.
#[derive(Debug)]
pub(super) struct Placed {
    pub stat: Option<Stat>,
    pub kept: Option<String>,
}

/// Puts a change in place. On failure what was staged is back in staging, but for what has no name,
/// and the path is as it was.
pub(super) fn place(site: &Site, folders: &mut LastFolder, change: &PathChange<'_>) -> Result<Placed, Outcome> {
    let unreached = |e| match e {
        e if beneath::is_no_parent(e) => Outcome::NoParent,
        e => change.failed("reach", e),
    };
    // What is in a folder of another spelling is no business of this path.
    if site.root.keeps().names == Names::Folded
        && !folders.is_spelled(site.root.dir(), change.path).map_err(unreached)?
    {
        return Err(Outcome::NoParent);
    }
    // Nor is what has another spelling by now: of a folder, the stat does not say so.
    if site.root.keeps().names == Names::Folded
        && change.expect.is_some_and(|expect| expect.kind == StatKind::Directory)
        && !folders.lists(site.root.dir(), change.path).map_err(unreached)?
    {
        return Err(Outcome::Stale);
    }
    let parent = folders.of(site.root.dir(), change.path).map_err(unreached)?;
    if site.root.is_ours(change.path).map_err(|e| change.failed("look at", e))? {
        return Err(change.failed("touch our own", Errno::ACCESS));
    }
    if let Prepared::Renamed(from, stat) = change.made {
        let place = NamePlace { site, parent: parent.as_fd(), name: change.path.name(), change };
        return place.respell(from, stat);
    }
    if let (None, true) = (change.expect, site.root.can_exchange()) {
        let place = NamePlace { site, parent: parent.as_fd(), name: change.path.name(), change };
        // The move or the link itself refuses a name that is taken.
        match change.made {
            Prepared::Staged(new) => return place.add(new),
            Prepared::Nameless(new, stat) => return place.add_nameless(new, stat),
            Prepared::Nothing | Prepared::InPlace | Prepared::Proven | Prepared::Renamed(..) => {}
        }
    }
    let there = site.root.facts_in(parent, change.path.name()).map_err(|e| change.failed("look at", e))?;
    let there = there.map(|facts| facts.stat);
    if !is_expected(change.expect, there.as_ref()) {
        return Err(taken_or_stale(site, parent.as_fd(), change));
    }
    let place = NamePlace { site, parent: parent.as_fd(), name: change.path.name(), change };
    match (change.made, there) {
        (Prepared::Nothing, None) => Ok(Placed { stat: None, kept: None }),
        (Prepared::Nothing, Some(old)) if old.kind == StatKind::Directory => place.remove_folder(),
        (Prepared::Nothing, Some(old)) => place.remove(&old),
        (Prepared::InPlace | Prepared::Proven, Some(old)) => place.adjust(&old),
        (Prepared::InPlace | Prepared::Proven, None) | (Prepared::Renamed(..), _) => Err(Outcome::Stale),
        (Prepared::Nameless(new, stat), None) => place.add_nameless(new, stat),
        (Prepared::Nameless(new, stat), Some(old)) => place.replace_by_nameless(new, stat, &old),
        (Prepared::Staged(new), None) => place.add(new),
        (Prepared::Staged(new), Some(old)) if !site.root.can_exchange() => place.replace_by_link(new, &old),
        (Prepared::Staged(new), Some(old)) if old.kind == StatKind::Directory => place.replace_folder(new, &old),
        (Prepared::Staged(new), Some(old)) => place.replace(new, &old),
    }
}

/// Whether the bytes that are there are those that are wanted, and nobody writes them.
pub(super) fn prove(site: &Site, change: &PathChange<'_>) -> Result<(), Outcome> {
    at_its_place(site, change, |place| {
        let is_as_expected = || {
            let there = site.root.facts_in(place.parent, place.name).map_err(|e| change.failed("look at", e))?;
            Ok(there.filter(|facts| is_expected(change.expect, Some(&facts.stat))))
        };
        let before = is_as_expected()?.ok_or(Outcome::Stale)?;
        let is_it = place.is_its_content(before.stat.ino)?;
        // What was written meanwhile is an edit, not rot.
        is_as_expected()?.ok_or(Outcome::Stale)?;
        if is_it { Ok(()) } else { Err(Outcome::NotItsContent) }
    })
}

/// The second reading of what was proven and got its time: it shows a write of the instant between
/// the two.
pub(super) fn prove_again(site: &Site, change: &PathChange<'_>, installed: &Stat) -> Result<(), Outcome> {
    at_its_place(site, change, |place| {
        let failed = |e| change.failed("read", e);
        let handle = beneath::open(place.parent, place.name, OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
        let is_same = beneath::facts(&handle).map_err(failed)?.stat.ino == installed.ino;
        if is_same { place.check_not_written(&handle) } else { Err(Outcome::Stale) }
    })
}

fn at_its_place(
    site: &Site,
    change: &PathChange<'_>,
    work: impl FnOnce(&NamePlace<'_>) -> Result<(), Outcome>,
) -> Result<(), Outcome> {
    // Whatever took it away is found by an inspection.
    let parent = beneath::folder(site.root.dir(), change.path.parent().as_ref()).map_err(|_| Outcome::Stale)?;
    work(&NamePlace { site, parent: parent.as_fd(), name: change.path.name(), change })
}

/// Something is in the way: of this very name, or of another one that the file system takes for it.
fn taken_or_stale(site: &Site, parent: BorrowedFd<'_>, change: &PathChange<'_>) -> Outcome {
    let is_spelled = || beneath::is_spelled(parent, change.path.name()).unwrap_or(true);
    let is_gone = || beneath::stat_at(parent, change.path.name()) == Ok(None);
    // Listed twice: it may have come between.
    if change.expect.is_some() || is_spelled() || is_gone() || is_spelled() {
        return Outcome::Stale;
    }
    site.root.learn(|keeps| {
        if keeps.names == Names::Exact {
            keeps.names = Names::Folded;
        }
    });
    Outcome::Taken
}

/// A folder's times and size change with what is in it; it is the same while its inode and mode
/// are.
pub(super) fn is_expected(expect: Option<&Stat>, there: Option<&Stat>) -> bool {
    match (expect, there) {
        (None, None) => true,
        (Some(a), Some(b)) if a.kind == StatKind::Directory => (a.kind, a.ino, a.mode) == (b.kind, b.ino, b.mode),
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Untouched but for its name: a rename changes the ctime.
pub(super) fn is_untouched(a: &Stat, b: &Stat) -> bool {
    let same = (a.kind, a.ino, a.mode) == (b.kind, b.ino, b.mode);
    same && (a.kind == StatKind::Directory || (a.size, a.mtime) == (b.size, b.mtime))
}

/// Whether a link failed since the file system gives no file a second name.
fn has_no_links(e: Errno) -> bool {
    matches!(e, Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK)
}

impl<'a> PathChange<'a> {
    pub fn of(job: &'a Job, made: &'a Prepared) -> Self {
        Self {
            path: &job.path,
            expect: job.expect.as_ref(),
            keep: job.keep,
            since_ns: Some(job.since_ns),
            mode: job.entry.mode,
            mtime: job.entry.mtime,
            content: job.entry.file().map(|(content, _)| content),
            made,
        }
    }

    fn failed(&self, doing: &str, e: Errno) -> Outcome {
        Outcome::Failed(trouble(doing, Some(self.path), e))
    }
}

/// Moves to a name that must be free.
pub(super) fn move_to_free_name(
    site: &Site,
    from_dir: impl AsFd,
    from: &[u8],
    to_dir: impl AsFd,
    to: &[u8],
    is_folder: bool,
) -> rustix::io::Result<()> {
    if site.root.can_exchange() {
        return rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE);
    }
    if is_folder {
        // Replaces at most an empty folder.
        return rustix::fs::renameat(from_dir, from, to_dir, to);
    }
    match rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(from_dir, from, AtFlags::empty()),
        // What takes the name between these two calls is lost (P2).
        Err(e) if has_no_links(e) => match beneath::stat_at(&to_dir, to)? {
            Some(_) => Err(Errno::EXIST),
            None => rustix::fs::renameat(from_dir, from, to_dir, to),
        },
        Err(e) => Err(e),
    }
}

/// Where a change happens: a held folder and a name in it.
struct NamePlace<'a> {
    site: &'a Site,
    parent: BorrowedFd<'a>,
    name: &'a [u8],
    change: &'a PathChange<'a>,
}

impl NamePlace<'_> {
    fn add(&self, new: &StagedFile) -> Result<Placed, Outcome> {
        let is_folder = new.stat.kind == StatKind::Directory;
        let staging = self.site.root.staging();
        let moved = fail::at(Point::InstallAdd)
            .and_then(|()| self.move_to_free_name(staging, new.name.as_bytes(), self.parent, self.name, is_folder));
        self.added(moved, &new.stat)
    }

    /// Renames what is there by another spelling of the name. Some file systems take both for one
    /// and do nothing: it goes by a name of ours then.
    fn respell(&self, from: &SyncPath, old: &Stat) -> Result<Placed, Outcome> {
        let failed = |e| self.change.failed("rename", e);
        let there = beneath::stat_at(self.parent, from.name()).map_err(failed)?;
        if !is_expected(Some(old), there.as_ref()) {
            return Err(Outcome::NoSource);
        }
        rustix::fs::renameat(self.parent, from.name(), self.parent, self.name).map_err(failed)?;
        let shows_names = self.site.root.keeps().names != Names::Respelled;
        if shows_names && !beneath::is_spelled(self.parent, self.name).map_err(failed)? {
            let between = staging::name(self.site.stage.next_id());
            let staging = self.site.root.staging();
            rustix::fs::renameat(self.parent, from.name(), staging, between.as_str()).map_err(failed)?;
            let is_folder = old.kind == StatKind::Directory;
            let back = |name| self.move_to_free_name(staging, between.as_bytes(), self.parent, name, is_folder);
            if let Err(e) = back(self.name) {
                back(from.name()).map_err(failed)?;
                return Err(failed(e));
            }
        }
        let now = beneath::stat_at(self.parent, self.name).map_err(failed)?;
        let stat = now.filter(|now| is_untouched(old, now)).unwrap_or(*old);
        Ok(Placed { stat: Some(stat), kept: None })
    }

    fn add_nameless(&self, new: &Nameless, stat: &Stat) -> Result<Placed, Outcome> {
        let linked = fail::at(Point::InstallAdd).and_then(|()| beneath::give_name(&new.file, self.parent, self.name));
        self.added(linked, stat)
    }

    fn added(&self, moved: rustix::io::Result<()>, stat: &Stat) -> Result<Placed, Outcome> {
        fail::after(Point::InstallAdded);
        match moved {
            Ok(()) => self.placed(stat, None),
            Err(Errno::EXIST) => Err(taken_or_stale(self.site, self.parent, self.change)),
            Err(Errno::NOENT) => Err(Outcome::NoParent),
            Err(e) => Err(self.change.failed("create", e)),
        }
    }

    fn replace(&self, new: &StagedFile, old: &Stat) -> Result<Placed, Outcome> {
        let (staging, history) = (self.site.root.staging(), self.site.root.history());
        self.replace_through_history(
            &new.stat,
            old,
            |kept| rustix::fs::renameat(staging, new.name.as_str(), history, kept),
            |kept| rustix::fs::renameat(history, kept, staging, new.name.as_str()),
        )
    }

    /// What has had a name and lost it again can get none any more.
    fn replace_by_nameless(&self, new: &Nameless, stat: &Stat, old: &Stat) -> Result<Placed, Outcome> {
        let history = self.site.root.history();
        self.replace_through_history(
            stat,
            old,
            |kept| beneath::give_name(&new.file, history, kept.as_bytes()),
            |kept| rustix::fs::unlinkat(history, kept, AtFlags::empty()),
        )
    }

    /// The new one takes a name in history (`enter`), and exchanges it with the old one's. If that
    /// is refused, `leave` takes the new one from history again.
    fn replace_through_history(
        &self,
        new: &Stat,
        old: &Stat,
        enter: impl FnOnce(&str) -> rustix::io::Result<()>,
        leave: impl FnOnce(&str) -> rustix::io::Result<()>,
    ) -> Result<Placed, Outcome> {
        let history = self.site.root.history();
        let kept = self.reserve()?;
        let failed = |e| self.change.failed("replace", e);
        if let Err(e) = fail::at(Point::InstallMove).and_then(|()| enter(&kept)) {
            self.site.history.release(&kept);
            return Err(failed(e));
        }
        fail::after(Point::InstallMoved);
        let exchanged = fail::at(Point::InstallExchange).and_then(|()| self.exchange(history, kept.as_bytes()));
        fail::after(Point::InstallExchanged);
        let undone = match exchanged {
            Ok(Some(out)) if is_untouched(old, &out) => return self.placed(new, Some(kept)),
            Ok(Some(out)) => self.undo(history, kept.as_bytes(), new, out).then_some(Outcome::Stale),
            Ok(None) => None,
            Err(Errno::NOENT) => Some(Outcome::Stale),
            Err(e) => Some(failed(e)),
        };
        let Some(outcome) = undone else {
            tracing::warn!(
                "'{}' is being written by someone else; what was there is kept as '{kept}'",
                self.change.path
            );
            return Err(Outcome::Stale);
        };
        leave(&kept).map_err(failed)?;
        self.site.history.release(&kept);
        Err(outcome)
    }

    /// The folder that comes out must be empty; it then goes by `rmdir`, which sees to that once
    /// more.
    fn replace_folder(&self, new: &StagedFile, old: &Stat) -> Result<Placed, Outcome> {
        let staging = self.site.root.staging();
        self.check_empty()?;
        let out = match self.exchange(staging, new.name.as_bytes()) {
            Ok(out) => out,
            Err(Errno::NOENT) => return Err(Outcome::Stale),
            // What may not be written cannot be moved to another folder, but it can be removed.
            Err(Errno::ACCESS) if old.mode.0 & OWNER_WRITE == 0 => {
                self.remove_folder()?;
                return self.add(new);
            }
            Err(e) => return Err(self.change.failed("replace", e)),
        };
        fail::after(Point::InstallFolderExchanged);
        let refused = if out.is_some_and(|out| is_untouched(old, &out)) {
            match rustix::fs::unlinkat(staging, new.name.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) => return self.placed(&new.stat, None),
                Err(Errno::NOTEMPTY | Errno::EXIST) => Outcome::NotEmpty,
                Err(e) => self.change.failed("replace", e),
            }
        } else {
            Outcome::Stale
        };
        if !out.is_some_and(|out| self.undo(staging, new.name.as_bytes(), &new.stat, out)) {
            self.rescue(&new.name)?;
        }
        Err(refused)
    }

    /// Something of someone else's is under a name in staging, and cannot go back: to history.
    fn rescue(&self, staged: &str) -> Result<(), Outcome> {
        let kept = self.reserve()?;
        rustix::fs::renameat(self.site.root.staging(), staged, self.site.root.history(), kept.as_str())
            .map_err(|e| self.change.failed("keep what was at", e))?;
        tracing::warn!("'{}' is being written by someone else; what was there is kept as '{kept}'", self.change.path);
        Ok(())
    }

    /// Where names cannot be exchanged: the old one gets a second name in history, then the new one
    /// is renamed over it.
    fn replace_by_link(&self, new: &StagedFile, old: &Stat) -> Result<Placed, Outcome> {
        if old.kind == StatKind::Directory {
            self.remove_folder()?;
            return self.add(new);
        }
        if new.stat.kind == StatKind::Directory {
            let kept = self.remove(old)?.kept;
            return self.add(new).map(|placed| Placed { kept, ..placed });
        }
        let history = self.site.root.history();
        let kept = self.reserve()?;
        let failed = |e| self.change.failed("replace", e);
        match rustix::fs::linkat(self.parent, self.name, history, kept.as_str(), AtFlags::empty()) {
            Err(e) if has_no_links(e) => {
                self.site.history.release(&kept);
                return self.replace_by_move(new, old);
            }
            linked => linked.map_err(failed)?,
        }
        let linked = beneath::stat_at(history, kept.as_bytes()).map_err(failed)?;
        let there = beneath::stat_at(self.parent, self.name).map_err(failed)?;
        if !(linked.is_some_and(|out| is_untouched(old, &out)) && there.is_some_and(|now| is_untouched(old, &now))) {
            // The other name of what is linked is still in the folder, or its writer removed it
            // there.
            rustix::fs::unlinkat(history, kept.as_str(), AtFlags::empty()).map_err(failed)?;
            self.site.history.release(&kept);
            return Err(Outcome::Stale);
        }
        rustix::fs::renameat(self.site.root.staging(), new.name.as_str(), self.parent, self.name).map_err(failed)?;
        self.placed(&new.stat, Some(kept))
    }

    /// Where there are no second names either, as on exFAT, the old one goes first. Nothing is
    /// there for a moment (P1).
    fn replace_by_move(&self, new: &StagedFile, old: &Stat) -> Result<Placed, Outcome> {
        let kept = self.remove(old)?.kept;
        let added = self.add(new);
        if added.is_err()
            && let Some(kept) = &kept
        {
            let history = self.site.root.history();
            match self.move_to_free_name(history, kept.as_bytes(), self.parent, self.name, false) {
                Ok(()) => self.site.history.release(kept),
                Err(e) => tracing::warn!("'{}' could not be put back ({e}) and is kept as '{kept}'", self.change.path),
            }
        }
        added.map(|placed| Placed { kept, ..placed })
    }

    fn remove(&self, old: &Stat) -> Result<Placed, Outcome> {
        let history = self.site.root.history();
        let kept = self.reserve()?;
        let failed = |e| match e {
            Errno::NOENT => Outcome::Stale,
            e => self.change.failed("delete", e),
        };
        let moved = fail::at(Point::InstallDelete).and_then(|()| self.move_to_history(&kept));
        fail::after(Point::InstallDeleted);
        if let Err(e) = moved {
            self.site.history.release(&kept);
            return Err(failed(e));
        }
        let out = beneath::stat_at(history, kept.as_bytes()).map_err(failed)?.ok_or(Outcome::Stale)?;
        if is_untouched(old, &out) {
            return Ok(Placed { stat: None, kept: Some(kept) });
        }
        // Someone wrote at that moment: theirs goes back, unless there is a still newer one.
        let is_folder = out.kind == StatKind::Directory;
        match self.move_to_free_name(history, kept.as_bytes(), self.parent, self.name, is_folder) {
            Ok(()) => self.site.history.release(&kept),
            Err(e) => tracing::warn!("'{}' could not be put back ({e}) and is kept as '{kept}'", self.change.path),
        }
        Err(Outcome::Stale)
    }

    fn remove_folder(&self) -> Result<Placed, Outcome> {
        let removed = fail::at(Point::InstallFolderRemove)
            .and_then(|()| rustix::fs::unlinkat(self.parent, self.name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) => Ok(Placed { stat: None, kept: None }),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Outcome::NotEmpty),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(Outcome::Stale),
            Err(e) => Err(self.change.failed("remove", e)),
        }
    }

    fn reserve(&self) -> Result<String, Outcome> {
        let reserved = self.site.history.reserve(self.change.keep, self.change.path, self.change.since_ns);
        reserved.map(|(name, _)| name).map_err(|e| self.change.failed("keep the old version of", e))
    }

    /// What came out; `None`: it cannot be told.
    fn exchange(&self, dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
        rustix::fs::renameat_with(dir, name, self.parent, self.name, RenameFlags::EXCHANGE)?;
        Ok(beneath::stat_at(dir, name).unwrap_or_default())
    }

    /// Exchanges back what came out of the folder (`theirs`, now under our `name`), until our own
    /// thing is what comes out. When it is not, it was replaced or written meanwhile by someone
    /// whose version is newer than what went back, so that one goes in again. `false`: what is
    /// under `name` now is someone else's.
    fn undo(&self, dir: BorrowedFd<'_>, name: &[u8], ours: &Stat, mut theirs: Stat) -> bool {
        for _ in 0..UNDO_TRIES {
            let Ok(Some(out)) = self.exchange(dir, name) else { return false };
            if is_untouched(ours, &out) {
                return true;
            }
            let Ok(Some(back)) = self.exchange(dir, name) else { return false };
            if is_untouched(&theirs, &back) {
                return false;
            }
            theirs = back;
        }
        false
    }

    /// Moves to a name that must be free.
    fn move_to_free_name(
        &self,
        from_dir: BorrowedFd<'_>,
        from: &[u8],
        to_dir: BorrowedFd<'_>,
        to: &[u8],
        is_folder: bool,
    ) -> rustix::io::Result<()> {
        move_to_free_name(self.site, from_dir, from, to_dir, to, is_folder)
    }

    /// The name in history is ours alone and free. Not by a link and an unlink: what a user renames
    /// over it in between would be gone.
    fn move_to_history(&self, kept: &str) -> rustix::io::Result<()> {
        let flags = if self.site.root.can_exchange() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        rustix::fs::renameat_with(self.parent, self.name, self.site.root.history(), kept, flags)
    }

    fn check_empty(&self) -> Result<(), Outcome> {
        let failed = |e| self.change.failed("replace", e);
        let dir = beneath::open(self.parent, self.name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        for entry in rustix::fs::Dir::new(dir).map_err(failed)? {
            if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
                return Err(Outcome::NotEmpty);
            }
        }
        Ok(())
    }

    /// The stat to record. If anything but the ctime differs from what was staged, a user wrote
    /// since: what was staged is recorded then, so that an inspection finds the difference and
    /// takes it for the edit that it is (P5).
    fn placed(&self, staged: &Stat, kept: Option<String>) -> Result<Placed, Outcome> {
        let mut staged = *staged;
        if staged.kind == StatKind::Directory && staged.mode != self.change.mode {
            let failed = |e| self.change.failed("set the permissions of", e);
            let handle = beneath::open(self.parent, self.name, OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
            let facts = beneath::facts(&handle).map_err(failed)?;
            if facts.stat.ino == staged.ino {
                let mode = with_special(self.change.mode, facts.raw_mode);
                self.site.root.set(rustix::fs::chmod(beneath::by_descriptor(&handle), mode)).map_err(failed)?;
                staged.mode = self.mode_kept(&handle).map_err(failed)?;
            }
        }
        let now = beneath::stat_at(self.parent, self.name).ok().flatten();
        let stat = now.filter(|now| is_untouched(&staged, now)).unwrap_or(staged);
        Ok(Placed { stat: Some(stat), kept })
    }
}

/// The replacing alone, as if the check before it had found `old`.
#[cfg(test)]
pub(super) fn replace_unchecked(site: &Site, change: &PathChange<'_>, old: &Stat) -> Result<Placed, Outcome> {
    let parent = beneath::folder(site.root.dir(), change.path.parent().as_ref()).expect("the folder is there");
    let place = NamePlace { site, parent: parent.as_fd(), name: change.path.name(), change };
    match change.made {
        Prepared::Staged(new) => place.replace(new, old),
        Prepared::Nameless(new, stat) => place.replace_by_nameless(new, stat, old),
        Prepared::Nothing | Prepared::InPlace | Prepared::Proven | Prepared::Renamed(..) => unreachable!("nothing new"),
    }
}
