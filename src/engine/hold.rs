//! What is held until a person says that it is meant: deletions and reverts in the mass, here and by peers (P8).
//!
//! `guard.rs` judges; this file gathers what is to be judged, holds it, and lets it go. A confirmation is a counter for a
//! device: whatever that device did up to it was meant. It travels to all machines (`identity.rs`), so that one is enough.
//! Deliberately not here: a root that is gone or restored (`mod.rs`, `scan.rs`), and uncovered paths (`uncover.rs`).

use super::action::{Action, Report};
use super::event::{Now, Observed};
use super::guard::{self, LastHour, Missing, Verdict};
use super::index::{Index, Row, load_by_device, store_by_device};
use super::merge::Found;
use super::{Engine, Looking};
use crate::model::{DeviceId, Entry, Kind, SyncPath, Version};
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Losses by peers above this many are judged together, once they have rested.
const FEW: usize = 20;
const REST_NS: u64 = 200 * MS;
/// Devices whose doings were confirmed that are remembered (P9).
const CONFIRMED_CAP: usize = 1024;
/// Deleted files that are known to be counted (P9); others stay counted if they come back.
const COUNTED_CAP: usize = 100_000;

const META_DELETED: &str = "lost.deleted";
const META_REVERTED: &str = "lost.reverted";
const META_CONFIRMED: &str = "confirmed";

/// How a peer's change takes a file's contents away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Deleted,
    /// To contents with an older mtime.
    Reverted,
}

/// Why a file may go back to older contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Believed {
    /// Judged, and no disaster.
    Judged,
    /// A person said so.
    Confirmed,
}

#[derive(Default)]
pub(super) struct Held {
    /// Nothing is held; what would be counts as confirmed.
    pub allow: bool,
    /// Went back to older contents here: waiting to be judged, and held.
    reverting: Missing,
    reverts: BTreeSet<SyncPath>,
    /// Those that may, by the next look that tells.
    believed: BTreeMap<SyncPath, Believed>,
    /// What is made here next was confirmed.
    confirming: bool,
    /// Missing here, and a person said that it is meant.
    released: BTreeSet<SyncPath>,
    /// Wanted losses by peers that nobody confirmed; those of them that are held.
    losing: BTreeMap<SyncPath, Loss>,
    from_peers: BTreeSet<SyncPath>,
    last_loss: u64,
    /// So many losses, with the last hour's, were judged to be no disaster.
    cleared: u64,
    pub(super) deleted: LastHour,
    /// What is counted there, and when it was, by our clock. After a start it is not known: those count for their hour.
    counted: BTreeMap<SyncPath, u64>,
    reverted: LastHour,
    confirmed: BTreeMap<DeviceId, u64>,
    /// As they are in the index.
    stored: (LastHour, LastHour),
    /// Confirmations are to be stored and told.
    news: bool,
}

impl Held {
    pub fn load(index: &impl Index) -> Self {
        let bytes = |key| index.meta(key).unwrap_or_default();
        let (deleted, reverted) =
            (LastHour::from_bytes(&bytes(META_DELETED)), LastHour::from_bytes(&bytes(META_REVERTED)));
        Self {
            stored: (deleted.clone(), reverted.clone()),
            deleted,
            reverted,
            confirmed: load_by_device(index, META_CONFIRMED),
            ..Self::default()
        }
    }

    pub fn confirmed(&self) -> Vec<(DeviceId, u64)> {
        self.confirmed.iter().map(|(device, counter)| (*device, *counter)).collect()
    }

    fn is_confirmed(&self, version: &Version) -> bool {
        self.allow || self.confirmed.get(&version.author).is_some_and(|up_to| version.counter() <= *up_to)
    }

    /// Whether the path awaits a verdict here, or is held: nothing is installed there.
    pub fn awaits(&self, path: &SyncPath) -> bool {
        self.reverting.contains(path) || self.reverts.contains(path)
    }

    /// What was done up to there was meant; whether that is news.
    pub fn confirm(&mut self, device: DeviceId, counter: u64) -> bool {
        let room = self.confirmed.len() < CONFIRMED_CAP;
        let is_news = self.confirmed.get(&device).map_or(room, |known| *known < counter);
        if is_news {
            self.confirmed.insert(device, counter);
            self.news = true;
        }
        is_news
    }

    /// The path needs nothing any more.
    pub fn settled(&mut self, path: &SyncPath) {
        if self.losing.remove(path).is_some() {
            self.from_peers.remove(path);
            if self.losing.is_empty() {
                self.cleared = 0;
            }
        }
    }

    pub fn next_verdict(&self) -> Option<u64> {
        self.reverting.due()
    }

    pub fn is_quiet(&self) -> bool {
        self.reverting.is_empty()
    }

    /// Whether peers are to be told of confirmations.
    pub fn has_news(&self) -> bool {
        self.news || self.confirming
    }

    /// Deletions by peers, and reverts, that are held.
    pub fn counts(&self) -> (u64, u64) {
        let deletions = self.from_peers.iter().filter(|path| self.losing.get(path) == Some(&Loss::Deleted)).count();
        (deletions as u64, (self.from_peers.len() - deletions + self.reverts.len()) as u64)
    }
}

impl<I: Index> Engine<I> {
    // Missing here.

    /// Those of the missing that count as deleted, and whether a person (or an option) said so.
    pub(super) fn believe_missing(&mut self, now: Now, paths: BTreeSet<SyncPath>) -> (BTreeSet<SyncPath>, bool) {
        let (mut meant, judged): (BTreeSet<_>, BTreeSet<_>) =
            paths.into_iter().partition(|path| self.guards.released.remove(path));
        let is_confirmed = !meant.is_empty();
        for path in meant.iter().flat_map(|path| self.on_disk_below(path)).collect::<Vec<_>>() {
            self.guards.released.remove(&path);
        }
        let files = self.files_in(&judged);
        let before = self.guards.deleted.count(now.wall);
        let of = self.index.counts().files + before;
        let mut gone = files;
        if guard::judge_losses(before + gone.len() as u64, of) == Verdict::Hold {
            gone = self.gone_for_good(&gone);
        }
        let lost = gone.len() as u64;
        if guard::judge_losses(before + lost, of) == Verdict::Believe {
            self.count_deleted(now, gone);
            meant.extend(judged);
            return (meant, is_confirmed);
        }
        if self.guards.allow {
            meant.extend(judged);
            return (meant, true);
        }
        // Perhaps it was moved, and where to is being looked at just now.
        let is_looking = !self.walks.is_empty() || !self.looks.is_empty();
        if !(is_looking && self.missing.again(now.mono, &judged)) {
            for path in &judged {
                self.held.extend(self.on_disk_below(path));
            }
            self.held.extend(judged);
            self.out.push(Action::Report(Report::Held { deletions: lost, of }));
        }
        (meant, is_confirmed)
    }

    fn files_in(&self, paths: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let is_file = |path: &SyncPath| {
            self.index.get(path).is_some_and(|row| row.live_on_disk().is_some_and(|(entry, _)| entry.file().is_some()))
        };
        let all = paths.iter().flat_map(|path| std::iter::once(path.clone()).chain(self.on_disk_below(path)));
        all.filter(is_file).collect()
    }

    /// Those of the files that are lost: what is still here under another name is not.
    fn gone_for_good(&self, files: &BTreeSet<SyncPath>) -> BTreeSet<SyncPath> {
        let is_lost = |path: &SyncPath| {
            let row = self.index.get(path);
            let content = row.as_ref().and_then(Row::live_on_disk).and_then(|(entry, _)| entry.file());
            content.is_none_or(|(content, _)| {
                !self.index.holders(&content).iter().any(|holder| !files.contains(holder))
                    && !self.wants.is_wanted_beside(content, path)
            })
        };
        files.iter().filter(|path| is_lost(path)).cloned().collect()
    }

    fn count_deleted(&mut self, now: Now, files: BTreeSet<SyncPath>) {
        if !files.is_empty() {
            self.guards.deleted.note(now.wall, files.len() as u64);
            if self.guards.counted.len() >= COUNTED_CAP {
                self.guards.counted.retain(|_, at| now.wall < *at + guard::HOUR_NS);
            }
            let room = COUNTED_CAP.saturating_sub(self.guards.counted.len());
            self.guards.counted.extend(files.into_iter().take(room).map(|path| (path, now.wall)));
        }
    }

    /// What a whole walk found missing in the mass.
    pub(super) fn hold_missing(&mut self, missing: Vec<SyncPath>, deletions: u64, of: u64) {
        if self.held.len() != missing.len() {
            self.out.push(Action::Report(Report::Held { deletions, of }));
        }
        self.held = missing.into_iter().collect();
    }

    /// Whether a walk that found so many missing is to be believed.
    pub(super) fn believes_walk(&mut self, missing: &[SyncPath], missing_files: u64, known_files: u64) -> bool {
        if guard::judge_walk(missing_files, known_files) == Verdict::Believe
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
            self.retry_now(path);
        }
    }

    // Reverts here.

    /// A file that went back to older contents waits until it is known how many do. Nothing of that in a folder of few files.
    pub(super) fn awaits_verdict(&mut self, now: Now, path: &SyncPath, observed: &Observed, found: Found) -> bool {
        let Observed::File { stat, content, .. } = observed else { return false };
        let kind = Kind::File { size: stat.size, content: *content };
        let row = self.index.get(path);
        let is_revert = matches!(found, Found::Walked | Found::Live)
            && row.as_ref().is_some_and(|row| {
                let heard = [Some(&row.winner), row.installing.as_ref()].into_iter().flatten();
                let is_older = |(entry, known): (&Entry, &super::Stat)| {
                    entry.file().is_some() && entry.kind != kind && stat.mtime < known.mtime
                };
                row.live_on_disk().is_some_and(is_older) && !heard.into_iter().any(|entry| entry.kind == kind)
            });
        let held = self.guards.reverts.contains(path);
        let believed = self.guards.believed.remove(path);
        if !is_revert || believed.is_some() {
            self.guards.confirming |= is_revert && believed == Some(Believed::Confirmed);
            self.guards.reverts.remove(path);
            return false;
        }
        let files = self.index.counts().files;
        if guard::judge_losses(files, files) == Verdict::Believe {
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
        let (before, of) = (self.guards.reverted.count(now.wall), self.index.counts().files);
        let reverts = paths.len() as u64;
        let verdict = guard::judge_losses(before + reverts, of);
        if verdict == Verdict::Hold && !self.guards.allow {
            self.out.push(Action::Report(Report::HeldReverts { reverts, of, by_peers: false }));
            self.guards.reverts.extend(paths);
            return;
        }
        let believed = if verdict == Verdict::Hold { Believed::Confirmed } else { Believed::Judged };
        if believed == Believed::Judged {
            self.guards.reverted.note(now.wall, reverts);
        }
        for path in paths {
            self.look_believing(&path, believed);
        }
    }

    fn look_believing(&mut self, path: &SyncPath, believed: Believed) {
        let known = self.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        self.guards.believed.insert(path.clone(), believed);
        self.look(path, known, Looking::of(self.live()));
    }

    /// What was done here up to now was meant.
    pub(super) fn confirm_own(&mut self) {
        self.guards.confirm(self.config.device, self.counter);
    }

    // Losses by peers.

    /// A winner that takes away what is on disk here is counted, unless it was confirmed.
    /// A file is there again where one was counted as deleted: that one was not lost. (Tools that switch a tree to and fro, such as git, delete
    /// and make the same files again and again.)
    pub(super) fn note_return(&mut self, path: &SyncPath, row: &Row) {
        if row.winner.file().is_some()
            && let Some(at) = self.guards.counted.remove(path)
        {
            self.guards.deleted.take_back(at);
        }
    }

    pub(super) fn note_loss(&mut self, now: Now, path: &SyncPath, row: &Row) {
        let loss = loss(row).filter(|_| {
            row.winner.version.author != self.config.device && !self.guards.is_confirmed(&row.winner.version)
        });
        let Some(loss) = loss else { return self.guards.settled(path) };
        if self.guards.losing.insert(path.clone(), loss).is_none() {
            self.guards.last_loss = now.mono;
        }
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
        let before = self.guards.deleted.count(now.wall) + self.guards.reverted.count(now.wall);
        let losses = before + self.guards.losing.len() as u64;
        if losses <= self.guards.cleared {
            return false;
        }
        let rested = self.guards.last_loss + REST_NS;
        if self.guards.losing.len() > FEW && now.mono < rested {
            self.wait(now, path, Some(rested - now.mono));
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
        let of_kind = self.guards.losing.iter().filter(|(_, loss)| **loss == kind);
        let paths: BTreeSet<_> = of_kind.map(|(path, _)| path.clone()).collect();
        if paths.is_subset(held) {
            return false;
        }
        let files = self.index.counts().files;
        let (before, of) = match kind {
            Loss::Deleted => {
                let before = self.guards.deleted.count(now.wall);
                (before, files + before + paths.len() as u64)
            }
            Loss::Reverted => (self.guards.reverted.count(now.wall), files),
        };
        let mut lost = paths.len() as u64;
        if kind == Loss::Deleted && guard::judge_losses(before + lost, of) == Verdict::Hold {
            lost = self.gone_for_good(&paths).len() as u64;
        }
        if guard::judge_losses(before + lost, of) == Verdict::Believe {
            return false;
        }
        let report = match kind {
            Loss::Deleted => Report::HeldFromPeers { deletions: lost, of },
            Loss::Reverted => Report::HeldReverts { reverts: lost, of, by_peers: true },
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

    /// A peer's change took away what was on disk here.
    pub(super) fn lost_to_peer(&mut self, now: Now, path: &SyncPath, replaced: Option<&Entry>) {
        let loss = self.guards.losing.get(path).copied();
        self.guards.settled(path);
        let here = replaced.and_then(Entry::file).is_some_and(|(content, _)| {
            self.index.holders(&content).iter().any(|holder| holder != path)
                || self.wants.is_wanted_beside(content, path)
        });
        match loss {
            Some(Loss::Deleted) if !here => self.count_deleted(now, BTreeSet::from([path.clone()])),
            Some(Loss::Reverted) => {
                self.guards.reverted.note(now.wall, 1);
            }
            _ => {}
        }
    }

    // Letting go.

    /// A person says that all of it is meant.
    pub(super) fn release_held(&mut self) {
        let missing = std::mem::take(&mut self.held);
        let reverts = std::mem::take(&mut self.guards.reverts);
        if !(missing.is_empty() && reverts.is_empty() && self.guards.from_peers.is_empty()) {
            self.out.push(Action::Report(Report::Confirmed));
        }
        self.guards.released.extend(missing);
        for path in reverts {
            self.look_believing(&path, Believed::Confirmed);
        }
        for path in self.guards.from_peers.clone() {
            if let Some(row) = self.index.get(&path) {
                self.guards.confirm(row.winner.version.author, row.winner.version.counter());
            }
        }
        self.release_confirmed();
    }

    /// What is confirmed now, here or by a peer, goes ahead.
    pub(super) fn release_confirmed(&mut self) {
        for path in self.guards.losing.keys().cloned().collect::<Vec<_>>() {
            let row = self.index.get(&path);
            if row.is_none_or(|row| self.guards.is_confirmed(&row.winner.version)) {
                self.guards.settled(&path);
                self.retry_now(&path);
            }
        }
        // Their folders may have waited for them.
        self.retry_all();
    }

    /// Once a group of events: what was counted and confirmed is stored with it.
    pub(super) fn store_held(&mut self) {
        let Held { deleted, reverted, stored, .. } = &mut self.guards;
        if (&stored.0, &stored.1) != (&*deleted, &*reverted) {
            *stored = (deleted.clone(), reverted.clone());
            self.index.set_meta(META_DELETED, &stored.0.to_bytes());
            self.index.set_meta(META_REVERTED, &stored.1.to_bytes());
        }
        if std::mem::take(&mut self.guards.confirming) {
            self.confirm_own();
        }
        if std::mem::take(&mut self.guards.news) {
            store_by_device(&mut self.index, META_CONFIRMED, &self.guards.confirmed);
            self.tell_known();
        }
    }
}

/// What a row's winner would take away from the disk.
fn loss(row: &Row) -> Option<Loss> {
    let (on_disk, _) = row.live_on_disk()?;
    let (content, _) = on_disk.file()?;
    match row.winner.kind {
        Kind::Deleted { .. } => Some(Loss::Deleted),
        Kind::File { content: other, .. } if other != content && row.winner.mtime < on_disk.mtime => {
            Some(Loss::Reverted)
        }
        _ => None,
    }
}
