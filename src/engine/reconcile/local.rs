//! Local changes: what users change on a machine that announces nothing.
//!
//! A local change lives in the disk column alone. No version is minted and no winner changes: the
//! entry on disk keeps the version of the group that it was made on top of, and is marked. It
//! stays as long as that version is the winner. A newer one is wanted like any other, and the
//! local change goes to history when that is installed (P2). A person puts it aside, or announces
//! it after all. Deliberately not here: what is wanted (`Core::wants`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::local::{DifferingPaths, LocalChange, LocalKind};
use crate::engine::core::Core;
use crate::engine::limits::PAGE;
use crate::engine::merge::{self, MadeHere, ObservationSource};
use crate::engine::reconcile::Reconcile;
use crate::engine::{Engine, META_ROLE};
use crate::model::version::STAMP_STEP;
use crate::model::{Entry, Kind, SyncPath, SyncRole};

/// What is to be done about local changes.
#[derive(Debug, Default)]
pub(in crate::engine) struct Locals {
    /// This machine announces its changes, and some were made when it did not.
    to_announce: bool,
}

impl<I: Index> Core<I> {
    pub(in crate::engine) fn set_role(&mut self, role: SyncRole) {
        self.role = role;
        if self.index.meta(META_ROLE).as_deref().unwrap_or(SyncRole::Both.word().as_bytes()) != role.word().as_bytes() {
            self.index.set_meta(META_ROLE, role.word().as_bytes());
        }
    }

    /// Local changes at these paths and below them; with no paths, all.
    fn local_at(&self, paths: &[SyncPath]) -> Vec<SyncPath> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.index.local(after.as_ref(), PAGE);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page.into_iter().filter(|at| is_at(paths, at)));
        }
        found
    }
}

impl Reconcile {
    /// Local changes wait to be announced.
    pub(in crate::engine) fn has_local_to_announce(&self) -> bool {
        self.locals.to_announce
    }

    /// A machine that announces its changes may have been told so while it was off.
    pub(in crate::engine) fn load_local<I: Index>(&mut self, core: &Core<I>) {
        self.locals.to_announce = core.role.announces() && !core.index.local(None, 1).is_empty();
    }
}

impl<I: Index> Engine<I> {
    /// What this machine does with changes.
    pub fn role(&self) -> SyncRole {
        self.core.role
    }

    /// Local changes after a path, with what they are.
    pub fn local_changes(&self, after: Option<&SyncPath>, limit: usize) -> Vec<LocalChange> {
        let change = |path: SyncPath| {
            let kind = local_kind(&self.core.index.get(&path)?)?;
            Some(LocalChange { path, kind })
        };
        self.core.index.local(after, limit).into_iter().filter_map(change).collect()
    }

    /// What differs at these paths and below them; with no paths, everywhere.
    pub fn differing(&self, paths: &[SyncPath]) -> DifferingPaths {
        let is_meant = |change: &LocalChange| is_at(paths, &change.path);
        let local = self.local_changes(None, usize::MAX).into_iter().filter(is_meant).collect();
        let not_installed = self.not_installed(None, usize::MAX).into_iter().filter(is_meant).collect();
        DifferingPaths { local, not_installed }
    }

    /// A version for the group, or a local change where this machine announces none.
    pub(in crate::engine) fn made_here(&mut self, now: Now, path: &SyncPath, made: MadeHere) {
        if !self.core.role.announces() {
            return self.changed_locally(now, path, made);
        }
        let MadeHere { kind, mode, mtime, stamp, base, stat, body } = made;
        let entry = self.reconcile.mint(&mut self.core, kind, mode, mtime, stamp, base.as_ref());
        self.changed_here(now, path, entry, stat, body);
    }

    fn changed_locally(&mut self, now: Now, path: &SyncPath, made: MadeHere) {
        let MadeHere { kind, mode, mtime, base, stat, .. } = made;
        let old = self.core.index.get(path);
        let (head, since) = old.map_or_else(|| (merge::nothing(), 0), |row| (row.head, row.since));
        let version = match base {
            Some(base) => base.version,
            // A deletion takes away only what the group had. Of what a backup brought, it did.
            None if !head.is_live() && self.observe.finding() != Some(ObservationSource::Restored) => {
                head.version.clone()
            }
            None => merge::put_aside(),
        };
        let entry = Entry { kind, mode, mtime, version };
        if entry.is_live() {
            self.safety.note_life();
        }
        let disk = Some(OnDisk { entry, stat, local: true });
        self.store(now, path, &Row { head, disk, installing: None, since });
    }

    /// It gives way to what the group has: wanted from now on, and kept in history.
    pub(in crate::engine) fn put_aside(&mut self, now: Now, path: &SyncPath) {
        let Some(mut row) = self.core.index.get(path).filter(Row::is_local) else { return };
        if let Some(disk) = &mut row.disk {
            disk.entry.version = merge::put_aside();
        }
        self.store(now, path, &row);
    }

    /// Something of the group's needs its folder, which is away here, or is something else: that
    /// local change gives way.
    pub(in crate::engine) fn local_gives_way_above(&mut self, now: Now, path: &SyncPath) {
        if self.core.role.announces() {
            return;
        }
        for dir in path.ancestors() {
            let Some(row) = self.core.index.get(&dir).filter(Row::is_local) else { continue };
            let is_there = row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory());
            if row.head.is_directory() && !is_there {
                self.put_aside(now, &dir);
            }
        }
    }

    /// A folder that the group has no more stays for local changes in it, if there is nothing else
    /// in it. It is one itself then.
    pub(in crate::engine) fn stays_for_local(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        if self.core.role.announces() {
            return false;
        }
        let is_local = |below: &SyncPath| self.core.index.get(below).is_some_and(|row| row.is_local());
        let below = self.core.on_disk_below(path);
        if below.is_empty() || !below.iter().all(is_local) {
            return false;
        }
        let mut row = row.clone();
        if let Some(disk) = &mut row.disk {
            (disk.local, disk.entry.version) = (true, row.head.version.clone());
        }
        self.store(now, path, &row);
        true
    }

    /// A person wants the group's state back at these paths and below them.
    pub(in crate::engine) fn revert(&mut self, now: Now, paths: &[SyncPath]) {
        let found = self.core.local_at(paths);
        for path in &found {
            self.put_aside(now, path);
        }
        if !found.is_empty() {
            self.core.act(Action::Report(Report::Reverted { paths: found.len() as u64 }));
        }
    }

    /// A person says that the local changes at these paths and below them are for all: with the
    /// folders that they are in.
    pub(in crate::engine) fn promote(&mut self, now: Now, paths: &[SyncPath]) {
        let mut found = self.core.local_at(paths);
        if !paths.is_empty() {
            let is_local = |dir: &SyncPath| self.core.index.get(dir).is_some_and(|row| row.is_local());
            let above: Vec<_> = found.iter().flat_map(SyncPath::ancestors).filter(is_local).collect();
            found.extend(above);
            found.sort_unstable();
            found.dedup();
        }
        self.announce_local(now, found);
    }

    /// Versions of what is local, made now, on top of what it was made on top of (P4).
    fn announce_local(&mut self, now: Now, paths: Vec<SyncPath>) {
        if self.is_stopped() {
            return;
        }
        let is_live = |path: &SyncPath| self.core.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
        let (live, deleted): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_live);
        let mut announced = 0;
        // Folders go after what is in them, and come before it.
        for path in deleted.into_iter().rev().chain(live) {
            announced += u64::from(self.announce_one(now, &path));
        }
        if announced > 0 {
            self.core.act(Action::Report(Report::Promoted { paths: announced }));
        }
    }

    /// What rotted or was torn is no version of anyone's.
    fn is_whole(&self, path: &SyncPath) -> bool {
        !self.safety.is_suspected(path) && !self.observe.is_torn(path)
    }

    fn announce_one(&mut self, now: Now, path: &SyncPath) -> bool {
        let may_go = self.is_whole(path) && !self.transfer.is_busy(path);
        let Some(row) = self.core.index.get(path).filter(|row| may_go && row.is_local()) else { return false };
        let Some((kind, disk)) = local_kind(&row).zip(row.disk) else { return false };
        let base = Some(row.head).filter(|head| *head != merge::nothing());
        let after_base = base.as_ref().map_or(0, |base| base.version.stamp.saturating_add(STAMP_STEP));
        let stamp = match kind {
            LocalKind::New | LocalKind::Edited => now.wall.max(after_base),
            LocalKind::Attributes | LocalKind::Deleted => after_base,
        };
        let Entry { mode, mtime, .. } = disk.entry;
        let kind = if disk.entry.is_live() { disk.entry.kind } else { Kind::Deleted { at: now.wall } };
        let entry = self.reconcile.mint(&mut self.core, kind, mode, mtime, stamp, base.as_ref());
        self.changed_here(now, path, entry, disk.stat, None);
        true
    }

    /// What became local while this machine announced nothing is announced once it does, and has
    /// seen its folder.
    pub(in crate::engine) fn announce_local_due(&mut self, now: Now) {
        let has_seen = self.observe.has_walked() && !self.observe.is_walking_all();
        if self.reconcile.locals.to_announce && has_seen && !self.is_stopped() {
            let all = self.core.local_at(&[]);
            self.announce_local(now, all);
            let left = self.core.local_at(&[]);
            self.reconcile.locals.to_announce = left.iter().any(|path| self.is_whole(path));
        }
    }

    /// A person gives this machine another role. What was announced stays so.
    pub(in crate::engine) fn set_role(&mut self, now: Now, role: SyncRole) {
        if self.core.role == role {
            return;
        }
        self.core.set_role(role);
        self.core.act(Action::Report(Report::Role { role }));
        self.reconcile.load_local(&self.core);
        if !role.announces() {
            self.release_own(now);
        }
        let wanted: Vec<_> = self.transfer.wants().map(|(path, _)| path.clone()).collect();
        for path in wanted {
            let is_wanted = self.core.index.get(&path).is_some_and(|row| self.core.wants(&row));
            if !is_wanted && !self.transfer.is_busy(&path) {
                self.unwant(&path);
            }
        }
        self.want_unsettled(now);
        self.state_changed(now);
    }
}

/// Whether a path is one of these, or below one; with none, all are.
pub(super) fn is_at(paths: &[SyncPath], at: &SyncPath) -> bool {
    paths.is_empty() || paths.iter().any(|path| at == path || at.is_below(path))
}

pub(in crate::engine) fn local_kind(row: &Row) -> Option<LocalKind> {
    let disk = row.disk.as_ref().filter(|_| row.is_local())?;
    Some(match (disk.entry.is_live(), row.head.is_live()) {
        (false, _) => LocalKind::Deleted,
        (true, false) => LocalKind::New,
        (true, true) if disk.entry.same_content(&row.head) => LocalKind::Attributes,
        (true, true) => LocalKind::Edited,
    })
}
