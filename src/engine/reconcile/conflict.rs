//! What becomes of the loser of a conflict, beside being kept in history: nothing more, a copy
//! beside the winner, or a merge.
//!
//! The copy carries the loser's own version, and its name comes from that, so whoever makes it
//! makes the same (P3). A merge is made by the loser's author alone, once the winner is in place: a
//! version on top of both. It becomes news only when it is on disk; after a crash in between it is
//! made once the folder was walked. Deliberately not here: how texts are merged (`io/`).

pub(in crate::engine) mod known;
mod sought;

use crate::engine::api::action::{Action, Report, RetainReason, Source};
use crate::engine::api::event::{FoundLoser, Merge, Now, StageId, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{MERGE_BYTES, MERGE_TRIES, MERGING_CAP, MERGING_STORE_EVERY_NS};
use crate::engine::merge;
use crate::engine::reconcile::Reconcile;
use crate::engine::{Engine, Trust};
use crate::model::{DeviceId, Entry, FileTime, Kind, SyncPath, Version, VersionVector};
use sought::SoughtLoser;
use std::collections::{BTreeMap, BTreeSet};

/// Losers that wait for their merge, for the next start.
const META_MERGING: &str = "merging";

/// What is done about conflicts on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The newest wins; the loser is in history.
    #[default]
    Newest,
    /// The loser also appears beside the winner.
    KeepBoth,
    /// Texts are merged where their edits do not overlap.
    Merge,
}

/// What is under way about losers.
#[derive(Default)]
pub(in crate::engine) struct Losers {
    /// Copies that are being made, and of which path.
    copies: BTreeMap<SyncPath, SyncPath>,
    /// Those that this disk refused: the loser is in history alone.
    pub uncopied: BTreeSet<SyncPath>,
    merging: BTreeMap<SyncPath, Merging>,
    /// Losers of installs that were cut off, until they are found in history.
    sought: BTreeMap<SyncPath, SoughtLoser>,
    /// Those in the index are others.
    dirty: bool,
    next_store: u64,
    /// What a backup left on disk: an old state, and no edit that could be merged (P8).
    from_backup: BTreeSet<SyncPath>,
    /// Of this run: a whole walk has shown what there is to merge upon.
    pub has_bases: bool,
}

/// A loser of our own that is to be merged into what won over it.
struct Merging {
    loser: Entry,
    /// Its name in history.
    kept: String,
    /// The last of our own versions that the winner was made on top of.
    known_to_winner: u64,
    tries: u32,
    step: MergeStep,
}

enum MergeStep {
    /// For the path to settle.
    Waiting,
    /// The shell was asked to merge it with this.
    Asked(Entry),
    /// This is being installed, from staging.
    Installing(Entry, StageId),
}

impl Reconcile {
    // Merging.

    /// A version was made of what was found so on disk.
    pub(in crate::engine) fn found_as<I: Index>(
        &mut self,
        core: &Core<I>,
        path: &SyncPath,
        found: merge::ObservationSource,
    ) {
        if found == merge::ObservationSource::Restored && core.config.on_conflict == OnConflict::Merge {
            self.losers.from_backup.insert(path.clone());
        } else {
            self.losers.from_backup.remove(path);
        }
    }

    /// A loser that was on disk here went to history as `kept`. Its author alone merges it, so that
    /// it is done once.
    pub(in crate::engine) fn lost<I: Index>(
        &mut self,
        core: &Core<I>,
        path: &SyncPath,
        winner: &Entry,
        loser: &Entry,
        kept: &str,
    ) {
        let is_ours = loser.version.author == core.config.device && !self.losers.from_backup.remove(path);
        if core.config.on_conflict == OnConflict::Merge && is_ours && is_mergeable(loser) {
            let (loser, kept) = (loser.clone(), kept.to_owned());
            let known_to_winner = winner.version.seen.get(&core.config.device);
            let merging = Merging { loser, kept, known_to_winner, tries: 0, step: MergeStep::Waiting };
            self.losers.merging.insert(path.clone(), merging);
            self.losers.dirty = true;
        }
    }

    /// What an earlier run did not come to merge waits for the walk that shows what there is now.
    pub(in crate::engine) fn load_merging<I: Index>(&mut self, core: &Core<I>, trust: Trust) {
        let stored = core.index.meta(META_MERGING).filter(|stored| !stored.is_empty());
        let Some(stored) = stored else { return };
        self.losers.dirty = true;
        if core.config.on_conflict != OnConflict::Merge || trust != Trust::Known {
            return;
        }
        let losers: Vec<(SyncPath, Entry, String, u64, u32)> = postcard::from_bytes(&stored).unwrap_or_default();
        for (path, loser, kept, known_to_winner, tries) in losers {
            if loser.version.author == core.config.device {
                let merging = Merging { loser, kept, known_to_winner, tries, step: MergeStep::Waiting };
                self.losers.merging.insert(path, merging);
            }
        }
    }

    /// Once a group of events.
    pub(in crate::engine) fn store_merging<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        if self.losers.dirty && self.losers.next_store <= now.mono {
            (self.losers.dirty, self.losers.next_store) = (false, now.mono + MERGING_STORE_EVERY_NS);
            let waiting = self.losers.merging.iter().take(MERGING_CAP);
            let list: Vec<_> = waiting.map(|(path, m)| (path, &m.loser, &m.kept, m.known_to_winner, m.tries)).collect();
            let stored = if list.is_empty() {
                Vec::new()
            } else {
                postcard::to_stdvec(&list).expect("writing to memory does not fail")
            };
            core.index.set_meta(META_MERGING, &stored);
        }
    }

    fn take_merging(&mut self, path: &SyncPath) -> Option<Merging> {
        let merging = self.losers.merging.remove(path)?;
        self.losers.dirty = true;
        Some(merging)
    }

    /// What was being installed is not there. If it was a merge, a user was faster; what is there
    /// now may be merged with.
    pub(in crate::engine) fn merge_failed<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        let Some(merging) = self.losers.merging.get_mut(path) else { return };
        if let MergeStep::Installing(_, staged) = merging.step {
            merging.step = MergeStep::Waiting;
            core.act(Action::Discard(staged));
        }
    }
}

impl<I: Index> Core<I> {
    /// Whether the loser is to appear beside the winner.
    fn keeps_both(&self, winner: &Entry, loser: &Entry) -> bool {
        self.config.on_conflict == OnConflict::KeepBoth
            && winner.conflicts_with(loser)
            && !winner.same_content(loser)
            && !loser.is_directory()
    }

    /// Whether a copy was begun at a path, and nothing was ever heard of it.
    pub(in crate::engine) fn is_begun_copy(&self, path: &SyncPath) -> bool {
        self.index.get(path).is_some_and(|row| row.installing.is_some() && row.head == merge::nothing())
    }
}

impl<I: Index> Engine<I> {
    /// Where the loser that is on disk at a path appears before the winner takes its place.
    pub(in crate::engine) fn beside(&self, path: &SyncPath, winner: &Entry, loser: &Entry) -> Option<SyncPath> {
        let beside = self.core.keeps_both(winner, loser).then(|| merge::displaced_path(path, loser))?;
        let is_unwanted = self.observe.patterns().ignores(&beside, false)
            || self.reconcile.losers.uncopied.contains(&beside)
            || self.is_untrusted(path);
        (!is_unwanted).then_some(beside)
    }

    /// Whether what is on disk there is no version: it rotted, a power cut tore it, or it was
    /// announced to nobody. It goes to history alone (P5, P8).
    pub(in crate::engine) fn is_untrusted(&self, path: &SyncPath) -> bool {
        self.safety.is_suspected(path) || self.observe.is_torn(path) || self.core.is_unannounced(path)
    }

    /// Whether installing the winner puts a copy of what it replaces beside it.
    pub(in crate::engine) fn has_loser(&self, path: &SyncPath, row: &Row) -> bool {
        row.live_on_disk().is_some_and(|(loser, _)| self.beside(path, &row.head, loser).is_some())
    }

    /// Copies the loser beside the winner that is about to replace it. Whether the winner must wait
    /// for that.
    pub(in crate::engine) fn copies_loser(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        let Some((loser, stat)) = row.live_on_disk() else { return false };
        let Some(beside) = self.beside(path, &row.head, loser) else { return false };
        self.copy_beside(now, path, &beside, loser, *stat)
    }

    /// Makes what is on disk at `path` appear at `beside` as the version that it is, unless that is
    /// there, or was. Whether it is under way.
    pub(super) fn copy_beside(
        &mut self,
        now: Now,
        path: &SyncPath,
        beside: &SyncPath,
        entry: &Entry,
        stat: Stat,
    ) -> bool {
        if self.core.index.get(beside).is_some_and(|known| known.installing.is_none() || known.head != merge::nothing())
        {
            return false; // another machine's news, or done
        }
        if !self.transfer.is_busy(beside) {
            // Written down first: after a crash the copy is no local edit (P5).
            self.core.begin_copy(beside, entry);
            let source = match entry.file() {
                Some(_) => Source::Copy { from: path.clone(), stat },
                None => Source::Nothing,
            };
            self.reconcile.losers.copies.insert(beside.clone(), path.clone());
            self.transfer.begin_want(now, beside);
            self.install_as(beside, entry.clone(), None, source, RetainReason::Replaced);
        }
        true
    }

    /// A copy is there: what waited for it goes on.
    pub(in crate::engine) fn copy_ended(&mut self, beside: &SyncPath) {
        if let Some(path) = self.reconcile.losers.copies.remove(beside) {
            self.transfer.make_ready(&path);
        }
    }

    pub(in crate::engine) fn loser_found(&mut self, found: FoundLoser) {
        let FoundLoser { path, winner, loser, kept } = found;
        self.reconcile.sought_is_found(&mut self.core, &path, &loser);
        let beside = self.beside(&path, &winner, &loser);
        self.reconcile.lost(&self.core, &path, &winner, &loser, &kept);
        self.report_conflict(&path, &winner, loser, Some(kept), beside);
        self.merge_due(&path);
    }

    /// What is on disk may be the ground of a later merge.
    pub(in crate::engine) fn keep_base(&mut self, path: &SyncPath, entry: &Entry, stat: Option<Stat>) {
        if self.core.config.on_conflict == OnConflict::Merge
            && is_mergeable(entry)
            && !self.is_untrusted(path)
            && let Some(stat) = stat
        {
            self.core.act(Action::KeepBase { path: path.clone(), entry: entry.clone(), stat });
        }
    }

    /// A whole walk has shown what is here: merges of an earlier run can be made, and those that
    /// patterns held up.
    pub(in crate::engine) fn bases_are_here(&mut self) {
        self.reconcile.losers.has_bases = true;
        for path in self.reconcile.losers.merging.keys().cloned().collect::<Vec<_>>() {
            self.merge_due(&path);
        }
    }

    /// Asks for the merge that waits at a path, if the path has settled.
    pub(in crate::engine) fn merge_due(&mut self, path: &SyncPath) {
        if !self.reconcile.losers.merging.contains_key(path) || !self.core.role.announces() {
            return;
        }
        let Some(row) = self.core.index.get(path) else { return };
        // The echo of the install, or a user at it: the inspection that comes asks again.
        let is_restless = self.observe.is_unsettled(path);
        if !row.is_settled() || is_restless || self.ignores(path, false) {
            return;
        }
        let waits = |merging: &&mut Merging| matches!(merging.step, MergeStep::Waiting);
        let Some(merging) = self.reconcile.losers.merging.get_mut(path).filter(waits) else { return };
        merging.tries += 1;
        self.reconcile.losers.dirty = true;
        let on_top =
            |entry: &Entry| entry.version.seen.get(&self.core.config.device) == merging.loser.version.counter();
        if row.live_on_disk().is_some_and(|(entry, _)| on_top(entry)) {
            // Made by someone who knew the loser: what is not in it was taken out (P4).
            return drop(self.reconcile.take_merging(path));
        }
        match row.live_on_disk().filter(|(entry, _)| is_mergeable(entry)) {
            Some((theirs, stat)) if merging.tries <= MERGE_TRIES => {
                merging.step = MergeStep::Asked(theirs.clone());
                let (ours, kept) = (merging.loser.clone(), merging.kept.clone());
                // Made here on top of the winner, it counts the loser as seen and holds nothing of
                // it: the loser is no ground of a merge with itself.
                let mut theirs = theirs.clone();
                theirs.version.seen = theirs.version.seen.up_to(self.core.config.device, merging.known_to_winner);
                self.core.act(Action::Merge { path: path.clone(), ours, kept, theirs, stat: *stat });
            }
            _ => drop(self.reconcile.take_merging(path)),
        }
    }

    /// The shell's answer. A merge is installed over what it was made on; if that has moved on, it
    /// is asked for again. One that was made of an earlier loser is late: what stands here now was
    /// not merged into it.
    pub(in crate::engine) fn merged(&mut self, now: Now, path: &SyncPath, kept: &str, merge: Merge) {
        let staged = if let Merge::Done { staged, .. } = &merge { Some(*staged) } else { None };
        let refuse = |engine: &mut Self| staged.into_iter().for_each(|staged| engine.core.act(Action::Discard(staged)));
        let asked = self.reconcile.losers.merging.get_mut(path).filter(|merging| merging.kept == kept);
        let Some(merging) = asked else { return refuse(self) };
        let MergeStep::Asked(theirs) = &merging.step else { return refuse(self) };
        let (theirs, loser) = (theirs.clone(), merging.loser.clone());
        let row = self.core.index.get(path).filter(Row::is_settled);
        let stat = row.as_ref().and_then(Row::live_on_disk).filter(|(entry, _)| **entry == theirs).map(|(_, s)| *s);
        let is_disturbed = self.transfer.is_busy(path) || self.observe.is_noisy(path) || self.ignores(path, false);
        let is_still = stat.is_some() && !is_disturbed;
        match (merge, row, stat) {
            (Merge::Impossible, ..) => drop(self.reconcile.take_merging(path)),
            (Merge::Moved, ..) => self.merge_again(path),
            (Merge::Done { staged, size, content }, Some(row), Some(stat)) if is_still => {
                let kind = Kind::File { size, content };
                if theirs.kind == kind {
                    self.core.act(Action::Discard(staged));
                    return self.merge_ended(path, &theirs);
                }
                // Of the age of what it was made of, not of now: an edit or a deletion that beats
                // those beats it.
                let stamp = loser.version.stamp.max(theirs.version.stamp) + 1;
                let mut entry = self.reconcile.mint(
                    &mut self.core,
                    kind,
                    theirs.mode,
                    FileTime::of(now.wall),
                    stamp,
                    Some(&theirs),
                );
                entry.version.seen = entry.version.seen.join(&loser.version.seen);
                // As with a copy: news only once it is here, and after a crash no local edit (P5).
                self.core.begin_install(path, row, &entry);
                if let Some(merging) = self.reconcile.losers.merging.get_mut(path) {
                    merging.step = MergeStep::Installing(entry.clone(), staged);
                }
                // In the same transaction: after a crash, what is found there is the merge of this
                // loser, and not of one before it.
                self.reconcile.losers.dirty = true;
                self.reconcile.losers.next_store = 0;
                self.reconcile.store_merging(&mut self.core, now);
                self.transfer.begin_want(now, path);
                self.install_as(path, entry, Some(stat), Source::Staged(staged), RetainReason::Replaced);
            }
            (Merge::Done { .. }, ..) => {
                refuse(self);
                self.merge_again(path);
            }
        }
    }

    fn merge_again(&mut self, path: &SyncPath) {
        if let Some(merging) = self.reconcile.losers.merging.get_mut(path) {
            merging.step = MergeStep::Waiting;
        }
        self.merge_due(path);
    }

    /// Whether this is the merge that was being installed; then the conflict is over.
    pub(in crate::engine) fn merge_is_here(&mut self, path: &SyncPath, entry: &Entry) -> bool {
        let is_ours = |merging: &Merging| matches!(&merging.step, MergeStep::Installing(made, _) if made == entry);
        let is_here = self.reconcile.losers.merging.get(path).is_some_and(is_ours);
        if is_here {
            self.merge_ended(path, entry);
        }
        is_here
    }

    /// After a crash: what was being installed is there. If it was the merge that waits, that is
    /// done.
    pub(in crate::engine) fn merge_was_here(&mut self, path: &SyncPath, entry: &Entry) {
        let is_it = |merging: &Merging| entry.version.supersedes(&merging.loser.version);
        if self.reconcile.losers.merging.get(path).is_some_and(is_it) {
            self.merge_ended(path, entry);
        }
    }

    fn merge_ended(&mut self, path: &SyncPath, entry: &Entry) {
        if let Some(Merging { loser, kept, .. }) = self.reconcile.take_merging(path) {
            self.conflict_is_merged(path, &loser.version);
            let loser_name = self.peers.name_of(&self.core, &loser.version.author);
            let (path, entry) = (path.clone(), entry.clone());
            self.core.out.push(Action::Report(Report::Merged { path, entry, loser, loser_name, kept }));
        }
    }

    // What came after.

    /// Someone who still held a replaced or deleted file open wrote into it: what they wrote is a
    /// loser like any other.
    pub(in crate::engine) fn written_late(&mut self, path: &SyncPath, stat: &Stat, kind: Kind, kept: String) {
        let device: DeviceId = self.core.config.device;
        let version = Version { stamp: stat.mtime.as_stamp(), author: device, seen: VersionVector::default() };
        let loser = Entry { kind, mode: stat.mode, mtime: stat.mtime, version };
        let winner = self.core.index.get(path).map_or_else(merge::nothing, |row| row.head);
        self.report_conflict(path, &winner, loser, Some(kept), None);
    }
}

fn is_mergeable(entry: &Entry) -> bool {
    entry.file().is_some_and(|(_, size)| (1..=MERGE_BYTES).contains(&size))
}

/// Of versions that a path once had, the last one that both went on from: the ground of a merge.
/// Stamps grow from a version to those made on top of it: what is as young as either is none of its
/// ancestors, and `ours` is no edit if it is older than one that its author made before it, but an
/// old state that came back (P8).
pub fn common_ancestor<'a, B>(
    ours: &Version,
    theirs: &Version,
    bases: &'a [B],
    base: impl Fn(&B) -> (u64, DeviceId, u64),
) -> Option<&'a B> {
    let known_to_both = |known: &&B| {
        let (_, author, counter) = base(known);
        counter > 0 && ours.seen.get(&author) >= counter && theirs.seen.get(&author) >= counter
    };
    let is_before_both = |known: &&B| base(known).0 < ours.stamp.min(theirs.stamp);
    let is_older_than = |known: &B| {
        let (stamp, author, counter) = base(known);
        author == ours.author && counter < ours.counter() && stamp >= ours.stamp
    };
    if bases.iter().any(is_older_than) {
        return None;
    }
    bases.iter().filter(is_before_both).filter(known_to_both).max_by_key(|known| base(known))
}

#[cfg(test)]
mod tests;
