//! Changes of others that a machine knows and does not install.
//!
//! They are winners like any others, so that the machine compares by them and tells peers the
//! truth. Its disk stays as it is, and what its user changes is made on top of that (P4). A person
//! may make this machine's state the group's instead. Deliberately not here: what is wanted
//! (`Core::wants`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::api::local::{LocalChange, LocalKind};
use crate::engine::core::Core;
use crate::engine::limits::PAGE;
use crate::engine::reconcile::local::is_at;
use crate::model::version::STAMP_STEP;
use crate::model::{Entry, FileTime, Kind, Mode, SyncPath};

impl<I: Index> Core<I> {
    /// How the disk differs from a winner that stays off it.
    pub(in crate::engine) fn not_installed(&self, row: &Row) -> Option<LocalKind> {
        if self.role.installs() || row.is_settled() || row.is_local() || self.wants(row) {
            return None;
        }
        Some(match row.disk.as_ref().map(|disk| &disk.entry).filter(|entry| entry.is_live()) {
            None => LocalKind::Deleted,
            Some(_) if !row.head.is_live() => LocalKind::New,
            Some(entry) if entry.same_content(&row.head) => LocalKind::Attributes,
            Some(_) => LocalKind::Edited,
        })
    }
}

impl<I: Index> Engine<I> {
    /// Paths after one whose winner stays off this disk, with how the disk differs from it.
    pub fn not_installed(&self, after: Option<&SyncPath>, limit: usize) -> Vec<LocalChange> {
        let mut found = Vec::new();
        if self.core.role.installs() {
            return found;
        }
        let mut after = after.cloned();
        while found.len() < limit {
            let page = self.core.index.unsettled(after.as_ref(), PAGE);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            let change = |path: SyncPath| {
                let kind = self.core.not_installed(&self.core.index.get(&path)?)?;
                Some(LocalChange { path, kind })
            };
            found.extend(page.into_iter().filter_map(change));
        }
        found.truncate(limit);
        found
    }

    /// A person makes this machine's state the group's, at these paths and below them; with no
    /// paths, everywhere. What is not here is deleted in the group.
    pub(in crate::engine) fn override_winners(&mut self, now: Now, paths: &[SyncPath]) {
        if self.is_stopped() {
            return;
        }
        let all = self.not_installed(None, usize::MAX);
        let is_meant = |at: &SyncPath| is_at(paths, at);
        let meant: Vec<_> = all.iter().filter(|change| is_meant(&change.path)).collect();
        // With the folders that are here, for what is in them.
        let holds = |dir: &LocalChange| {
            dir.kind != LocalKind::Deleted && meant.iter().any(|change| change.path.is_below(&dir.path))
        };
        let (deleted, here): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|change| is_meant(&change.path) || holds(change))
            .partition(|change| change.kind == LocalKind::Deleted);
        let mut overridden = 0;
        // Folders go after what is in them, and come before it.
        for change in deleted.into_iter().rev().chain(here) {
            overridden += u64::from(self.override_one(now, change));
        }
        if overridden > 0 {
            self.core.act(Action::Report(Report::Overridden { paths: overridden }));
        }
    }

    fn override_one(&mut self, now: Now, change: &LocalChange) -> bool {
        let path = &change.path;
        if self.is_untrusted(path) || self.transfer.is_busy(path) {
            return false;
        }
        let Some(row) = self.core.index.get(path) else { return false };
        let mut base = row.head;
        let after_base = base.version.stamp.saturating_add(STAMP_STEP);
        let stamp = match change.kind {
            LocalKind::New | LocalKind::Edited => now.wall.max(after_base),
            LocalKind::Attributes | LocalKind::Deleted => after_base,
        };
        // Made with both known: the winner, and what is here.
        let here = row.disk.filter(|disk| disk.entry.is_live());
        if let Some(disk) = &here {
            base.version.seen = base.version.seen.join(&disk.entry.version.seen);
        }
        let stat = here.as_ref().and_then(|disk| disk.stat);
        let gone = (Kind::Deleted { at: now.wall }, Mode::NONE, FileTime::default());
        let (kind, mode, mtime) = here.map_or(gone, |disk| {
            let Entry { kind, mode, mtime, .. } = disk.entry;
            (kind, mode, mtime)
        });
        let entry = self.reconcile.mint(&mut self.core, kind, mode, mtime, stamp, Some(&base));
        self.changed_here(now, path, entry, stat, None);
        true
    }
}
