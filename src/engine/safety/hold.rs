//! What is held until a person says that it is meant: deletions and reverts in the mass, here and
//! by peers (P8).
//!
//! `guard.rs` judges; this file gathers what is to be judged, holds it, and lets it go. What a
//! person confirmed is named one by one and travels to all machines (`confirm.rs`), so that one
//! confirmation is enough. Deliberately not here: a root that is gone or restored (`mod.rs`,
//! `scan.rs`), and uncovered paths (`unignored.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::api::status::{HeldPath, HeldPaths, HeldWhy};
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::limits::HOLD_REVIEW_NS;
use crate::engine::safety::Safety;
use crate::engine::safety::guard::{self, LossVerdict, Missing};
use crate::engine::safety::ledger::{Fate, FileSum};
use crate::model::SyncPath;
use crate::wire::message::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// How a peer's change takes a file's contents away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Loss {
    Deleted,
    /// To contents with an older mtime.
    Reverted,
}

#[derive(Default)]
pub(in crate::engine) struct Guard {
    /// Nothing is held; what would be counts as confirmed.
    pub allow: bool,
    /// Went back to older contents here: waiting to be judged, and held.
    pub(super) reverting: Missing,
    pub(super) reverts: BTreeSet<SyncPath>,
    /// Those that may, by the next inspection that tells.
    pub(super) believed: BTreeMap<SyncPath, Believed>,
    /// Missing here, and a person said that it is meant.
    pub(super) released: BTreeSet<SyncPath>,
    pub(super) by_peers: PeerLosses,
    pub(super) last_loss: u64,
    /// So many losses, with the last hour's, were judged to be no disaster.
    pub(super) cleared: u64,
    /// What is written now: what was confirmed is no loss.
    pub writes: Believed,
    /// A walk found every file gone: of so many.
    emptied_of: u64,
    /// When what is held is judged again.
    review: Option<u64>,
    /// A person was told that so many small files went, and most are still gone.
    pub(super) reported: Option<u64>,
}

/// Losses by peers.
#[derive(Default)]
pub(in crate::engine) struct PeerLosses {
    /// Wanted losses by peers that nobody confirmed; those of them that are held.
    pub(super) losing: BTreeMap<SyncPath, (Loss, Digest)>,
    pub(super) losing_by_digest: BTreeMap<Digest, SyncPath>,
    pub(super) from_peers: BTreeSet<SyncPath>,
}

impl Guard {
    /// Something came here: what is held may be half or less now.
    pub fn review_soon(&mut self, mono: u64) {
        self.review.get_or_insert(mono + HOLD_REVIEW_NS);
    }

    /// What peers' changes would take away so.
    pub(super) fn losing_as(&self, kind: Loss) -> BTreeSet<SyncPath> {
        self.by_peers.losing.iter().filter(|(_, (loss, _))| *loss == kind).map(|(path, _)| path.clone()).collect()
    }

    fn loses_as(&self, path: &SyncPath, kind: Loss) -> bool {
        self.by_peers.losing.get(path).is_some_and(|(loss, _)| *loss == kind)
    }

    /// What peers did that is held.
    pub fn held_from_peers(&self) -> impl Iterator<Item = &SyncPath> {
        self.by_peers.from_peers.iter()
    }

    /// What went back to older contents here, and is held.
    pub fn own_reverts(&self) -> impl Iterator<Item = &SyncPath> {
        self.reverts.iter()
    }

    pub fn forget_revert(&mut self, path: &SyncPath) {
        self.reverts.remove(path);
    }

    pub fn no_emptied_folder(&mut self) {
        self.emptied_of = 0;
    }

    /// Whether the path awaits a verdict here, or is held: nothing is installed there.
    pub fn awaits(&self, path: &SyncPath) -> bool {
        self.reverting.contains(path) || self.reverts.contains(path)
    }

    /// The path needs nothing any more.
    pub fn settled(&mut self, path: &SyncPath) {
        if let Some((_, digest)) = self.by_peers.losing.remove(path) {
            self.by_peers.losing_by_digest.remove(&digest);
            self.by_peers.from_peers.remove(path);
            if self.by_peers.losing.is_empty() {
                self.cleared = 0;
            }
        }
    }

    pub fn next_verdict(&self) -> Option<u64> {
        self.reverting.due()
    }

    pub fn next_review(&self) -> Option<u64> {
        self.review
    }

    pub fn is_quiet(&self) -> bool {
        self.reverting.is_empty()
    }

    /// How many changes are held.
    pub fn held(&self) -> usize {
        self.by_peers.from_peers.len() + self.reverts.len()
    }

    /// Deletions by peers, and reverts, that are held.
    pub fn counts(&self) -> (u64, u64) {
        let deletions = self.by_peers.from_peers.iter().filter(|path| self.loses_as(path, Loss::Deleted)).count();
        (deletions as u64, (self.by_peers.from_peers.len() - deletions + self.reverts.len()) as u64)
    }
}

impl Safety {
    /// What a person wants back stays held, with the folders that it is in. The others.
    fn hold_refused<I: Index>(&mut self, core: &Core<I>, judged: BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let (refused, judged): (BTreeSet<_>, _) =
            judged.into_iter().partition(|path| self.undoing.refused.is_at_or_below(path));
        for path in &refused {
            self.held.extend(core.on_disk_below(path));
        }
        self.held.extend(refused);
        judged
    }

    /// These, and all files whose end is held or waits to be judged.
    fn going(&self, files: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let deleted = self.guard.losing_as(Loss::Deleted);
        files.iter().chain(&self.held).cloned().chain(deleted).collect()
    }

    /// What a whole walk found missing, with every other file.
    pub(in crate::engine) fn hold_missing<I: Index>(
        &mut self,
        core: &mut Core<I>,
        missing: Vec<SyncPath>,
        deletions: u64,
        of: u64,
    ) {
        if self.held.len() != missing.len() {
            core.out.push(Action::Report(Report::Held { deletions, of }));
        }
        self.held = missing.into_iter().collect();
        self.guard.emptied_of = of;
    }

    /// Whether a walk that found so many missing is to be believed.
    pub(in crate::engine) fn believes_walk(
        &mut self,
        missing: &[SyncPath],
        missing_files: u64,
        known_files: u64,
    ) -> bool {
        if !guard::is_emptied(missing_files, known_files)
            || missing.iter().all(|path| self.guard.released.contains(path))
        {
            return true;
        }
        if self.guard.allow {
            self.guard.released.extend(missing.iter().cloned());
        }
        self.guard.allow
    }

    /// Whether anything waits for a person.
    pub(super) fn holds_anything(&self) -> bool {
        !(self.held.is_empty() && self.guard.by_peers.from_peers.is_empty() && self.guard.reverts.is_empty())
    }

    /// Where a walk found every file gone, at least half must be back.
    fn is_no_emptied_folder<I: Index>(&self, core: &Core<I>) -> bool {
        let held = core.files_in(&self.held);
        let mut stays = core.stays_beside(&self.held);
        let mut is_gone = |path: &&SyncPath| {
            let row = core.index.get(path);
            let content = row.as_ref().and_then(Row::live_on_disk).and_then(|(entry, _)| entry.file());
            content.is_some_and(|(content, _)| !stays(content))
        };
        held.iter().filter(&mut is_gone).count() as u64 <= self.guard.emptied_of / 2 || self.guard.emptied_of == 0
    }
}

impl<I: Index> Core<I> {
    fn files_in(&self, paths: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let is_file = |path: &SyncPath| {
            self.index.get(path).is_some_and(|row| row.live_on_disk().is_some_and(|(entry, _)| entry.file().is_some()))
        };
        let all = paths.iter().flat_map(|path| std::iter::once(path.clone()).chain(self.on_disk_below(path)));
        all.filter(is_file).collect()
    }
}

impl<I: Index> Engine<I> {
    /// The same, named at paths after this one.
    pub fn held_after(&self, after: Option<&SyncPath>, limit: usize) -> HeldPaths {
        let mut held = self.held(usize::MAX);
        held.paths.retain(|held| after.is_none_or(|after| held.path > *after));
        held.paths.truncate(limit);
        held
    }

    /// What is held here, named up to `limit`.
    pub fn held(&self, limit: usize) -> HeldPaths {
        let own = |path: &SyncPath, why| HeldPath { path: path.clone(), why, by: self.core.config.name.clone() };
        let missing = self.safety.held.iter().map(|path| own(path, HeldWhy::Deleted));
        let reverted = self.safety.guard.reverts.iter().map(|path| own(path, HeldWhy::Reverted));
        let by_peers = self.safety.guard.by_peers.from_peers.iter().map(|path| {
            let row = self.core.index.get(path);
            let by = row.map(|row| self.peers.name_of(&self.core, &row.head.version.author)).unwrap_or_default();
            let is_revert = self.safety.guard.loses_as(path, Loss::Reverted);
            HeldPath { path: path.clone(), why: if is_revert { HeldWhy::Reverted } else { HeldWhy::Deleted }, by }
        });
        let ahead = self.safety.future.iter().map(|(path, entry)| HeldPath {
            path: path.clone(),
            why: HeldWhy::DatedAhead,
            by: self.peers.name_of(&self.core, &entry.version.author),
        });
        let mut paths: Vec<_> = missing.chain(reverted).chain(by_peers).chain(ahead).collect();
        paths.sort_by(|one, other| one.path.cmp(&other.path));
        let count = |why| paths.iter().filter(|held| held.why == why).count() as u64;
        let (deletions, reverts) = (count(HeldWhy::Deleted), count(HeldWhy::Reverted));
        let (dated_ahead, unignored) = (count(HeldWhy::DatedAhead), self.safety.unignored.paths);
        paths.truncate(limit);
        HeldPaths { paths, deletions, reverts, dated_ahead, unignored, pending: 0 }
    }

    // Missing here.

    /// Those of the missing that count as deleted: judged so, and by a person's (or an option's)
    /// word.
    pub(in crate::engine) fn believe_missing(
        &mut self,
        now: Now,
        paths: BTreeSet<SyncPath>,
    ) -> (BTreeSet<SyncPath>, BTreeSet<SyncPath>) {
        if !self.core.role.announces() {
            // Nobody else hears of it.
            return (paths, BTreeSet::new());
        }
        let (mut meant, judged): (BTreeSet<_>, BTreeSet<_>) =
            paths.into_iter().partition(|path| self.safety.guard.released.remove(path));
        for path in meant.iter().flat_map(|path| self.core.on_disk_below(path)).collect::<Vec<_>>() {
            self.safety.guard.released.remove(&path);
        }
        let judged = self.safety.hold_refused(&self.core, judged);
        let files = self.core.files_in(&judged);
        let (verdict, lost) = self.judge_missing(now, &files);
        if verdict != LossVerdict::Hold || lost.files == 0 {
            if verdict == LossVerdict::Announce && lost.files > 0 {
                let by = vec![self.core.config.name.clone()];
                self.report_losses(now, &files, by);
            }
            return (judged, meant);
        }
        if self.safety.guard.allow {
            meant.extend(judged);
            self.safety.name_late(&self.core, now, true, false);
            return (BTreeSet::new(), meant);
        }
        // Perhaps it was moved, and where to is being inspected just now.
        let is_inspecting = !self.observe.has_seen_all();
        if !(is_inspecting && self.safety.missing.again(now.mono, &judged)) {
            for path in &judged {
                self.safety.held.extend(self.core.on_disk_below(path));
            }
            self.safety.held.extend(judged);
            let of = self.safety.ledger.total().files;
            self.core.out.push(Action::Report(Report::Held { deletions: lost.files, of }));
        }
        (BTreeSet::new(), meant)
    }

    /// Judges files that are about to go, with all that is gone and held; and what of themselves is
    /// lost.
    pub(super) fn judge_missing(&self, now: Now, files: &BTreeSet<SyncPath>) -> (LossVerdict, FileSum) {
        let most = files.len() + self.safety.held.len() + self.safety.guard.by_peers.losing.len();
        let most = self.safety.ledger.sum(Fate::Lost).and(FileSum { files: most as u64, bytes: u64::MAX });
        if guard::judge_losses(most, self.safety.ledger.total()) == LossVerdict::Believe {
            return (LossVerdict::Believe, FileSum::default());
        }
        let going = self.safety.going(files);
        let lost = self.losses(now, &going, &going).and(self.safety.ledger.sum(Fate::Lost));
        (guard::judge_losses(lost, self.safety.ledger.total()), self.losses(now, files, &going))
    }

    /// Most files went, and not most bytes: said once.
    pub(super) fn report_losses(&mut self, now: Now, files: &BTreeSet<SyncPath>, by: Vec<String>) {
        if self.safety.guard.reported.is_some() {
            return;
        }
        let going = self.safety.going(files);
        let lost = self.losses(now, &going, &going).and(self.safety.ledger.sum(Fate::Lost));
        self.safety.guard.reported = Some(lost.files);
        let example = files.first().cloned();
        let of = self.safety.ledger.total().files;
        self.core.out.push(Action::Report(Report::ManyDeleted { deletions: lost.files, of, example, by }));
    }

    /// It is here after all.
    pub(in crate::engine) fn not_missing(&mut self, path: &SyncPath) {
        self.safety.guard.released.remove(path);
        if self.safety.held.remove(path) {
            self.safety.guard.review_soon(self.core.last_event.mono);
            self.transfer.retry_now(path);
        }
    }

    /// What is held goes ahead once it is half or less, since files came back or were found
    /// elsewhere. Time alone ends no hold.
    pub(in crate::engine) fn review_held(&mut self, now: Now) {
        if self.safety.guard.review.is_none_or(|due| due > now.mono) {
            return;
        }
        self.safety.guard.review = None;
        // A person wants it back, and it is asked for just now.
        if self.safety.undoing.is_under_way() {
            return self.safety.guard.review_soon(now.mono);
        }
        let total = self.safety.ledger.total();
        let is_half = |lost: FileSum| guard::judge_losses(lost, total) != LossVerdict::Hold;
        let going = self.safety.going(&BTreeSet::new());
        let lost = if going.is_empty() { FileSum::default() } else { self.losses(now, &going, &going) };
        let deletions_may_go = is_half(lost.and(self.safety.ledger.sum(Fate::Lost)));
        let mut ended = false;
        // What a person wants back, and nobody has, stays held until someone confirms it.
        let may_go = |path: &SyncPath| !self.safety.undoing.refused.contains(path);
        if deletions_may_go && self.safety.held.iter().any(may_go) && self.safety.is_no_emptied_folder(&self.core) {
            ended = true;
            self.safety.guard.emptied_of = 0;
            for path in self.safety.held.extract_if(.., |path| may_go(path)).collect::<Vec<_>>() {
                self.safety.missing.add(now.mono, path.clone());
                self.transfer.retry_now(&path);
            }
        }
        let reverts: BTreeSet<_> = self.safety.guard.reverts.iter().cloned().collect();
        if reverts.iter().any(|path| !self.safety.undoing.refused.contains(path))
            && is_half(self.losses(now, &reverts, &reverts).and(self.safety.ledger.sum(Fate::Reverted)))
        {
            ended = true;
            let may_go = |path: &SyncPath| !self.safety.undoing.refused.contains(path);
            for path in self.safety.guard.reverts.extract_if(.., |path| may_go(path)).collect::<Vec<_>>() {
                self.inspect_believing(&path, Believed::Judged);
            }
        }
        let reverted = self.safety.guard.losing_as(Loss::Reverted);
        let reverts_may_go =
            is_half(self.losses(now, &reverted, &reverted).and(self.safety.ledger.sum(Fate::Reverted)));
        for (kind, may_go) in [(Loss::Deleted, deletions_may_go), (Loss::Reverted, reverts_may_go)] {
            ended |= may_go && self.let_go_by_peers(kind);
        }
        if ended {
            self.core.out.push(Action::Report(Report::HoldEnded));
        }
    }

    /// Losses of a kind by peers are held no more. Whether any were.
    fn let_go_by_peers(&mut self, kind: Loss) -> bool {
        let losing = self.safety.guard.losing_as(kind);
        let held: Vec<_> = losing.intersection(&self.safety.guard.by_peers.from_peers).cloned().collect();
        if held.is_empty() {
            return false;
        }
        self.safety.guard.cleared = 0;
        for path in held {
            self.safety.guard.by_peers.from_peers.remove(&path);
            self.transfer.retry_now(&path);
        }
        // Their folders may have waited for them.
        self.transfer.retry_all();
        true
    }

    /// This machine announces nothing any more: what is held here is a local change.
    pub(in crate::engine) fn release_own(&mut self, now: Now) {
        self.safety.guard.emptied_of = 0;
        for path in std::mem::take(&mut self.safety.held) {
            self.safety.missing.add(now.mono, path.clone());
            self.transfer.retry_now(&path);
        }
        for path in std::mem::take(&mut self.safety.guard.reverts) {
            self.inspect_believing(&path, Believed::Judged);
        }
        self.safety.forget_refused(&mut self.core);
    }

    // Reverts here.

    // Losses by peers.

    // Letting go.
}
