//! What is held until a person says that it is meant: deletions and reverts in the mass, here and by peers (P8).
//!
//! `guard.rs` judges; this file gathers what is to be judged, holds it, and lets it go. What a
//! person confirmed is named one by one and travels to all machines (`confirm.rs`), so that one
//! confirmation is enough. Deliberately not here: a root that is gone or restored (`mod.rs`,
//! `scan.rs`), and uncovered paths (`uncover.rs`).

use super::action::{Action, Report};
use super::digest::entry_hash;
use super::event::{Now, Observed};
use super::guard::{self, DISASTER_FILES, LossVerdict, Missing};
pub use super::holding::HeldByMachine;
use super::holding::HoldQueries;
use super::index::{Index, Row};
use super::ledger::{Fate, FileSum};
use super::merge::ObservationSource;
use super::{Engine, Inspection};
use crate::model::{Entry, Kind, SyncPath};
use crate::wire::message::Digest;
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Losses by peers above this many are judged together, once they have rested.
const FEW: usize = 20;
const QUIET_NS: u64 = 200 * MS;
/// What is held is judged again so long after something came (ns).
const REVIEW_NS: u64 = 1_000 * MS;

/// How a peer's change takes a file's contents away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Deleted,
    /// To contents with an older mtime.
    Reverted,
}

/// Why losses may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Believed {
    /// Judged, and no disaster.
    #[default]
    Judged,
    /// A person said so.
    Confirmed,
    /// A person said that they were not meant: they do not go ahead.
    Refused,
}

#[derive(Default)]
pub(super) struct Guard {
    /// Nothing is held; what would be counts as confirmed.
    pub allow: bool,
    /// Went back to older contents here: waiting to be judged, and held.
    reverting: Missing,
    reverts: BTreeSet<SyncPath>,
    /// Those that may, by the next look that tells.
    believed: BTreeMap<SyncPath, Believed>,
    /// Missing here, and a person said that it is meant.
    released: BTreeSet<SyncPath>,
    /// Wanted losses by peers that nobody confirmed; those of them that are held.
    losing: BTreeMap<SyncPath, (Loss, Digest)>,
    losing_by_digest: BTreeMap<Digest, SyncPath>,
    from_peers: BTreeSet<SyncPath>,
    last_loss: u64,
    /// So many losses, with the last hour's, were judged to be no disaster.
    cleared: u64,
    /// What is written now: what was confirmed is no loss.
    pub writes: Believed,
    /// A walk found every file gone: of so many.
    emptied_of: u64,
    /// When what is held is judged again.
    review: Option<u64>,
    /// What linked machines are asked about what they hold.
    pub holding: HoldQueries,
    /// A person was told that so many small files went, and most are still gone.
    reported: Option<u64>,
}

impl Guard {
    /// Something came here: what is held may be half or less now.
    pub fn review_soon(&mut self, mono: u64) {
        self.review.get_or_insert(mono + REVIEW_NS);
    }

    /// What peers' changes would take away so.
    fn losing_as(&self, kind: Loss) -> BTreeSet<SyncPath> {
        self.losing.iter().filter(|(_, (loss, _))| *loss == kind).map(|(path, _)| path.clone()).collect()
    }

    fn loses_as(&self, path: &SyncPath, kind: Loss) -> bool {
        self.losing.get(path).is_some_and(|(loss, _)| *loss == kind)
    }

    /// What peers did that is held.
    pub fn held_from_peers(&self) -> impl Iterator<Item = &SyncPath> {
        self.from_peers.iter()
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
        if let Some((_, digest)) = self.losing.remove(path) {
            self.losing_by_digest.remove(&digest);
            self.from_peers.remove(path);
            if self.losing.is_empty() {
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
        self.from_peers.len() + self.reverts.len()
    }

    /// Deletions by peers, and reverts, that are held.
    pub fn counts(&self) -> (u64, u64) {
        let deletions = self.from_peers.iter().filter(|path| self.loses_as(path, Loss::Deleted)).count();
        (deletions as u64, (self.from_peers.len() - deletions + self.reverts.len()) as u64)
    }
}

/// What waits for a person at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPath {
    pub path: SyncPath,
    pub why: HeldWhy,
    /// Who made the change: a machine's name.
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldWhy {
    Deleted,
    /// It went back to older contents.
    Reverted,
    /// The change is dated more than five years ahead.
    DatedAhead,
}

/// All that waits for a person here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPaths {
    /// In the order of paths, at most so many as were asked for.
    pub paths: Vec<HeldPath>,
    pub deletions: u64,
    pub reverts: u64,
    pub dated_ahead: u64,
    /// What another machine's ignore file uncovered here is only counted.
    pub unignored: u64,
}

impl HeldPaths {
    pub fn is_empty(&self) -> bool {
        self.deletions + self.reverts + self.dated_ahead + self.unignored == 0
    }
}

impl<I: Index> Engine<I> {
    /// What is held here, named up to `limit`.
    pub fn held(&self, limit: usize) -> HeldPaths {
        let own = |path: &SyncPath, why| HeldPath { path: path.clone(), why, by: self.config.name.clone() };
        let missing = self.held.iter().map(|path| own(path, HeldWhy::Deleted));
        let reverted = self.guards.reverts.iter().map(|path| own(path, HeldWhy::Reverted));
        let by_peers = self.guards.from_peers.iter().map(|path| {
            let row = self.index.get(path);
            let by = row.map(|row| self.name_of(&row.head.version.author)).unwrap_or_default();
            let is_revert = self.guards.loses_as(path, Loss::Reverted);
            HeldPath { path: path.clone(), why: if is_revert { HeldWhy::Reverted } else { HeldWhy::Deleted }, by }
        });
        let ahead = self.future.iter().map(|(path, entry)| HeldPath {
            path: path.clone(),
            why: HeldWhy::DatedAhead,
            by: self.name_of(&entry.version.author),
        });
        let mut paths: Vec<_> = missing.chain(reverted).chain(by_peers).chain(ahead).collect();
        paths.sort_by(|one, other| one.path.cmp(&other.path));
        let count = |why| paths.iter().filter(|held| held.why == why).count() as u64;
        let (deletions, reverts) = (count(HeldWhy::Deleted), count(HeldWhy::Reverted));
        let (dated_ahead, unignored) = (count(HeldWhy::DatedAhead), self.unignored.paths);
        paths.truncate(limit);
        HeldPaths { paths, deletions, reverts, dated_ahead, unignored }
    }

    // Missing here.

    /// Those of the missing that count as deleted: judged so, and by a person's (or an option's) word.
    pub(super) fn believe_missing(
        &mut self,
        now: Now,
        paths: BTreeSet<SyncPath>,
    ) -> (BTreeSet<SyncPath>, BTreeSet<SyncPath>) {
        let (mut meant, judged): (BTreeSet<_>, BTreeSet<_>) =
            paths.into_iter().partition(|path| self.guards.released.remove(path));
        for path in meant.iter().flat_map(|path| self.on_disk_below(path)).collect::<Vec<_>>() {
            self.guards.released.remove(&path);
        }
        let judged = self.hold_refused(judged);
        let files = self.files_in(&judged);
        let (verdict, lost) = self.judge_missing(now, &files);
        if verdict != LossVerdict::Hold || lost.files == 0 {
            if verdict == LossVerdict::Announce && lost.files > 0 {
                let by = vec![self.config.name.clone()];
                self.report_losses(now, &files, by);
            }
            return (judged, meant);
        }
        if self.guards.allow {
            meant.extend(judged);
            self.name_late(now, true, false);
            return (BTreeSet::new(), meant);
        }
        // Perhaps it was moved, and where to is being looked at just now.
        let is_inspecting = !self.walks.is_empty() || !self.inspections.is_empty();
        if !(is_inspecting && self.missing.again(now.mono, &judged)) {
            for path in &judged {
                self.held.extend(self.on_disk_below(path));
            }
            self.held.extend(judged);
            let of = self.ledger.total().files;
            self.out.push(Action::Report(Report::Held { deletions: lost.files, of }));
        }
        (BTreeSet::new(), meant)
    }

    /// What a person wants back stays held, with the folders that it is in. The others.
    fn hold_refused(&mut self, judged: BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let (refused, judged): (BTreeSet<_>, _) =
            judged.into_iter().partition(|path| self.undoing.refused.is_at_or_below(path));
        for path in &refused {
            self.held.extend(self.on_disk_below(path));
        }
        self.held.extend(refused);
        judged
    }

    /// Judges files that are about to go, with all that is gone and held; and what of themselves is lost.
    fn judge_missing(&self, now: Now, files: &BTreeSet<SyncPath>) -> (LossVerdict, FileSum) {
        let most = files.len() + self.held.len() + self.guards.losing.len();
        let most = self.ledger.sum(Fate::Lost).and(FileSum { files: most as u64, bytes: u64::MAX });
        if guard::judge_losses(most, self.ledger.total()) == LossVerdict::Believe {
            return (LossVerdict::Believe, FileSum::default());
        }
        let going = self.going(files);
        let lost = self.losses(now, &going, &going).and(self.ledger.sum(Fate::Lost));
        (guard::judge_losses(lost, self.ledger.total()), self.losses(now, files, &going))
    }

    /// These, and all files whose end is held or waits to be judged.
    fn going(&self, files: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let deleted = self.guards.losing_as(Loss::Deleted);
        files.iter().chain(&self.held).cloned().chain(deleted).collect()
    }

    /// Most files went, and not most bytes: said once.
    fn report_losses(&mut self, now: Now, files: &BTreeSet<SyncPath>, by: Vec<String>) {
        if self.guards.reported.is_some() {
            return;
        }
        let going = self.going(files);
        let lost = self.losses(now, &going, &going).and(self.ledger.sum(Fate::Lost));
        self.guards.reported = Some(lost.files);
        let example = files.first().cloned();
        let of = self.ledger.total().files;
        self.out.push(Action::Report(Report::ManyDeleted { deletions: lost.files, of, example, by }));
    }

    fn files_in(&self, paths: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let is_file = |path: &SyncPath| {
            self.index.get(path).is_some_and(|row| row.live_on_disk().is_some_and(|(entry, _)| entry.file().is_some()))
        };
        let all = paths.iter().flat_map(|path| std::iter::once(path.clone()).chain(self.on_disk_below(path)));
        all.filter(is_file).collect()
    }

    /// What a whole walk found missing, with every other file.
    pub(super) fn hold_missing(&mut self, missing: Vec<SyncPath>, deletions: u64, of: u64) {
        if self.held.len() != missing.len() {
            self.out.push(Action::Report(Report::Held { deletions, of }));
        }
        self.held = missing.into_iter().collect();
        self.guards.emptied_of = of;
    }

    /// Whether a walk that found so many missing is to be believed.
    pub(super) fn believes_walk(&mut self, missing: &[SyncPath], missing_files: u64, known_files: u64) -> bool {
        if !guard::is_emptied(missing_files, known_files)
            || missing.iter().all(|path| self.guards.released.contains(path))
        {
            return true;
        }
        if self.guards.allow {
            self.guards.released.extend(missing.iter().cloned());
        }
        self.guards.allow
    }

    /// It is here after all.
    pub(super) fn not_missing(&mut self, path: &SyncPath) {
        self.guards.released.remove(path);
        if self.held.remove(path) {
            self.guards.review_soon(self.last_event.mono);
            self.retry_now(path);
        }
    }

    /// Whether anything waits for a person.
    pub(super) fn holds_anything(&self) -> bool {
        !(self.held.is_empty() && self.guards.from_peers.is_empty() && self.guards.reverts.is_empty())
    }

    /// What is held goes ahead once it is half or less, since files came back or were found elsewhere. Time alone ends no hold.
    pub(super) fn review_held(&mut self, now: Now) {
        if self.guards.review.is_none_or(|due| due > now.mono) {
            return;
        }
        self.guards.review = None;
        // A person wants it back, and it is asked for just now.
        if self.undoing.is_under_way() {
            return self.guards.review_soon(now.mono);
        }
        let total = self.ledger.total();
        let is_half = |lost: FileSum| guard::judge_losses(lost, total) != LossVerdict::Hold;
        let going = self.going(&BTreeSet::new());
        let lost = if going.is_empty() { FileSum::default() } else { self.losses(now, &going, &going) };
        let deletions_may_go = is_half(lost.and(self.ledger.sum(Fate::Lost)));
        let mut ended = false;
        // What a person wants back, and nobody has, stays held until someone confirms it.
        let may_go = |path: &SyncPath| !self.undoing.refused.contains(path);
        if deletions_may_go && self.held.iter().any(may_go) && self.is_no_emptied_folder() {
            ended = true;
            self.guards.emptied_of = 0;
            for path in self.held.extract_if(.., |path| may_go(path)).collect::<Vec<_>>() {
                self.missing.add(now.mono, path.clone());
                self.retry_now(&path);
            }
        }
        let reverts: BTreeSet<_> = self.guards.reverts.iter().cloned().collect();
        if reverts.iter().any(|path| !self.undoing.refused.contains(path))
            && is_half(self.losses(now, &reverts, &reverts).and(self.ledger.sum(Fate::Reverted)))
        {
            ended = true;
            let may_go = |path: &SyncPath| !self.undoing.refused.contains(path);
            for path in self.guards.reverts.extract_if(.., |path| may_go(path)).collect::<Vec<_>>() {
                self.inspect_believing(&path, Believed::Judged);
            }
        }
        let reverted = self.guards.losing_as(Loss::Reverted);
        let reverts_may_go = is_half(self.losses(now, &reverted, &reverted).and(self.ledger.sum(Fate::Reverted)));
        for (kind, may_go) in [(Loss::Deleted, deletions_may_go), (Loss::Reverted, reverts_may_go)] {
            let held: Vec<_> = self.guards.losing_as(kind).intersection(&self.guards.from_peers).cloned().collect();
            if may_go && !held.is_empty() {
                ended = true;
                self.guards.cleared = 0;
                for path in held {
                    self.guards.from_peers.remove(&path);
                    self.retry_now(&path);
                }
                // Their folders may have waited for them.
                self.retry_all();
            }
        }
        if ended {
            self.out.push(Action::Report(Report::HoldEnded));
        }
    }

    /// Where a walk found every file gone, at least half must be back.
    fn is_no_emptied_folder(&self) -> bool {
        let held = self.files_in(&self.held);
        let mut stays = self.stays_beside(&self.held);
        let mut is_gone = |path: &&SyncPath| {
            let row = self.index.get(path);
            let content = row.as_ref().and_then(Row::live_on_disk).and_then(|(entry, _)| entry.file());
            content.is_some_and(|(content, _)| !stays(content))
        };
        held.iter().filter(&mut is_gone).count() as u64 <= self.guards.emptied_of / 2 || self.guards.emptied_of == 0
    }

    // Reverts here.

    /// A file that went back to older contents waits until it is known how many do. Nothing of that in a folder of few files.
    pub(super) fn awaits_verdict(
        &mut self,
        now: Now,
        path: &SyncPath,
        observed: &Observed,
        found: ObservationSource,
    ) -> bool {
        let Observed::File { stat, content, .. } = observed else { return false };
        let kind = Kind::File { size: stat.size, content: *content };
        let row = self.index.get(path);
        let is_revert = matches!(found, ObservationSource::Walked | ObservationSource::Live)
            && row.as_ref().is_some_and(|row| {
                let debounced = [Some(&row.head), row.installing.as_ref()].into_iter().flatten();
                let is_older = |(entry, known): (&Entry, &super::Stat)| {
                    entry.file().is_some() && entry.kind != kind && stat.mtime < known.mtime
                };
                row.live_on_disk().is_some_and(is_older) && !debounced.into_iter().any(|entry| entry.kind == kind)
            });
        // What came less than an hour ago does not count.
        let then = self.ledger.then(self.steady(now));
        let is_revert = is_revert && (self.ledger.get(path).is_some() || row.is_some_and(|row| row.since <= then));
        let held = self.guards.reverts.contains(path);
        let believed = self.guards.believed.remove(path);
        if is_revert && believed == Some(Believed::Refused) {
            self.seen_here(now, path);
            self.undoing.refused.remove(path);
            self.refuse_revert(now, path, kind, stat);
            self.retry_now(path);
            return true;
        }
        if !is_revert || believed.is_some() {
            self.guards.writes = believed.filter(|_| is_revert).unwrap_or_default();
            self.guards.reverts.remove(path);
            return false;
        }
        if self.ledger.total().files < DISASTER_FILES && !self.undoing.refused.contains(path) {
            return false;
        }
        if !held {
            self.guards.reverting.add(now.mono, path.clone());
        }
        self.seen_here(now, path);
        true
    }

    pub(super) fn judge_reverts(&mut self, now: Now) {
        // A walk still comes by more of them.
        let is_due = self.guards.reverting.due().is_some_and(|due| due <= now.mono);
        if !is_due || self.walks.values().any(super::walk::Walk::is_whole) {
            return;
        }
        self.guards.reverting.check_begins();
        let paths = self.guards.reverting.take();
        let (refused, paths): (BTreeSet<_>, BTreeSet<_>) =
            paths.into_iter().partition(|path| self.undoing.refused.contains(path));
        self.guards.reverts.extend(refused);
        if paths.is_empty() {
            return;
        }
        let going: BTreeSet<_> = paths.union(&self.guards.reverts).cloned().collect();
        let lost = self.losses(now, &going, &going).and(self.ledger.sum(Fate::Reverted));
        let of = self.ledger.total();
        let verdict = guard::judge_losses(lost, of);
        if verdict == LossVerdict::Hold && !self.guards.allow {
            let reverts = self.losses(now, &paths, &going).files;
            self.out.push(Action::Report(Report::HeldReverts { reverts, of: of.files, by_peers: false }));
            self.guards.reverts.extend(paths);
            return;
        }
        let believed = if verdict == LossVerdict::Hold { Believed::Confirmed } else { Believed::Judged };
        if believed == Believed::Confirmed {
            self.name_late(now, false, true);
        }
        for path in paths {
            self.inspect_believing(&path, believed);
        }
    }

    pub(super) fn inspect_believing(&mut self, path: &SyncPath, believed: Believed) {
        let known = self.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        self.guards.believed.insert(path.clone(), believed);
        self.inspect(path, known, Inspection::of(self.live()));
    }

    // Losses by peers.

    /// A winner that takes away what is on disk here is counted, unless it was confirmed.
    pub(super) fn note_loss(&mut self, now: Now, path: &SyncPath, row: &Row) {
        let is_own = row.head.version.author == self.config.device;
        let Some(loss) = loss(row).filter(|_| !is_own && !self.guards.allow) else { return self.guards.settled(path) };
        let digest = entry_hash(path, &row.head);
        if self.is_named_loss(now, &digest) {
            return self.guards.settled(path);
        }
        match self.guards.losing.insert(path.clone(), (loss, digest)) {
            Some((_, known)) => drop(self.guards.losing_by_digest.remove(&known)),
            None => self.guards.last_loss = now.mono,
        }
        self.guards.losing_by_digest.insert(digest, path.clone());
    }

    /// Whether a wanted change is a loss that must wait or is held.
    pub(super) fn holds_loss(&mut self, now: Now, path: &SyncPath) -> bool {
        if !self.guards.losing.contains_key(path) {
            return false;
        }
        if self.guards.from_peers.contains(path) {
            self.hold_want(path);
            return true;
        }
        let before = self.ledger.sum(Fate::Lost).files + self.ledger.sum(Fate::Reverted).files;
        let losses = before + self.guards.losing.len() as u64;
        if losses <= self.guards.cleared {
            return false;
        }
        let has_quiesced = self.guards.last_loss + QUIET_NS;
        if self.guards.losing.len() > FEW && now.mono < has_quiesced {
            self.wait(now, path, Some(has_quiesced - now.mono));
            return true;
        }
        let holds = [Loss::Deleted, Loss::Reverted].map(|kind| self.judge_peers(now, kind)).contains(&true);
        if !holds {
            self.guards.cleared = losses;
            return false;
        }
        self.holds_loss(now, path)
    }

    fn judge_peers(&mut self, now: Now, kind: Loss) -> bool {
        let held = &self.guards.from_peers;
        let paths = self.guards.losing_as(kind);
        if paths.is_subset(held) {
            return false;
        }
        let (verdict, lost) = match kind {
            Loss::Deleted => self.judge_missing(now, &paths),
            Loss::Reverted => {
                let lost = self.losses(now, &paths, &paths);
                let all = lost.and(self.ledger.sum(Fate::Reverted));
                (guard::judge_losses(all, self.ledger.total()), lost)
            }
        };
        let of = self.ledger.total().files;
        if verdict != LossVerdict::Hold || lost.files == 0 {
            if verdict == LossVerdict::Announce && kind == Loss::Deleted {
                let by = paths.iter().filter_map(|path| self.index.get(path)).map(|row| row.head.version.author);
                let by = by.collect::<BTreeSet<_>>().iter().map(|device| self.name_of(device)).collect();
                self.report_losses(now, &paths, by);
            }
            return false;
        }
        let report = match kind {
            Loss::Deleted => Report::HeldFromPeers { deletions: lost.files, of },
            Loss::Reverted => Report::HeldReverts { reverts: lost.files, of, by_peers: true },
        };
        self.out.push(Action::Report(report));
        for path in &paths {
            self.hold_want(path);
        }
        self.guards.from_peers.extend(paths);
        true
    }

    /// A folder whose removal waits for what is held in it.
    pub(super) fn holds_below(&self, dir: &SyncPath) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.guards.from_peers.range::<SyncPath, _>((Excluded(dir), Unbounded));
        let alike = after.take_while(|path| path.as_bytes().starts_with(dir.as_bytes()));
        alike.into_iter().any(|path| path.is_below(dir))
    }

    // Letting go.

    /// A person says that whatever waits is meant.
    pub(super) fn confirm(&mut self, now: Now) {
        self.release_held(now);
        self.confirm_patterns(now);
        self.mint_dated_ahead(now);
        // So that it is durable with the answer.
        self.announce_confirmed(now);
        self.walk_all(now);
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.recompare(now, link);
        }
    }

    /// A person says that all of it is meant. What is missing here is named when it is made a
    /// deletion.
    fn release_held(&mut self, now: Now) {
        let (by_peers, reverted_by_peers) = self.guards.counts();
        let own_reverts = !self.guards.reverts.is_empty();
        let (deletions, reverts) = (by_peers > 0 || !self.held.is_empty(), reverted_by_peers > 0);
        self.name_late(now, deletions, reverts || own_reverts);
        self.renew_total(now);
        self.forget_refused();
        if self.holds_anything() {
            self.out.push(Action::Report(Report::Confirmed));
        }
        self.guards.released.extend(std::mem::take(&mut self.held));
        for path in std::mem::take(&mut self.guards.reverts) {
            self.inspect_believing(&path, Believed::Confirmed);
        }
        let mut digests = Vec::new();
        for path in self.guards.from_peers.clone() {
            if let Some(row) = self.index.get(&path) {
                self.name_own(now, &path, &row.head, true);
                digests.push(entry_hash(&path, &row.head));
            }
        }
        self.release_named(&digests);
    }

    /// A person decided, here or at a peer: what is live now is what later losses are measured against.
    pub(super) fn renew_total(&mut self, now: Now) {
        self.ledger.renew(self.steady.at(now));
        self.guards.cleared = 0;
        self.guards.reported = None;
    }

    /// What is named so goes ahead: how many losses that were counted, and how many of them were
    /// held.
    pub(super) fn release_named(&mut self, digests: &[Digest]) -> (u64, u64) {
        let (mut released, mut held) = (0, 0);
        for digest in digests {
            let Some(path) = self.guards.losing_by_digest.get(digest).cloned() else { continue };
            released += 1;
            held += u64::from(self.guards.from_peers.contains(&path));
            self.guards.settled(&path);
            self.retry_now(&path);
        }
        if released > 0 {
            // Their folders may have waited for them.
            self.retry_all();
        }
        (released, held)
    }

    /// Once a group of events: what was counted is stored with it.
    pub(super) fn store_held(&mut self, now: Now) {
        let lost = self.ledger.sum(Fate::Lost);
        if guard::judge_losses(lost, self.ledger.total()) == LossVerdict::Believe && self.guards.losing.is_empty() {
            self.guards.reported = None;
        }
        self.store_ledger(now);
    }
}

/// What a row's winner would take away from the disk.
fn loss(row: &Row) -> Option<Loss> {
    let (on_disk, _) = row.live_on_disk()?;
    let (content, _) = on_disk.file()?;
    match row.head.kind {
        Kind::Deleted { .. } => Some(Loss::Deleted),
        Kind::File { content: other, .. } if other != content && row.head.mtime < on_disk.mtime => Some(Loss::Reverted),
        _ => None,
    }
}
