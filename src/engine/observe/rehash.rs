//! Second hashes: a file that was inspected too soon after its last change may have been written
//! once more within the same tick of the disk's clock, and its stat would not say.
//!
//! They wait while the engine is busy with many paths or a peer fetches something large, but what
//! is to be replaced has its second hash first. What is still to be hashed again is remembered in
//! the index by the earliest ctime, so that a crash forgets none (P5). Looks that failed are tried
//! again by the same list. Deliberately not here: when an inspection is too soon (`inspect.rs`).

use crate::engine::api::event::{Hint, Now, Stat, StatKind};
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{PAGE, RACY_NS, REHASH_BULK, REHASH_PATIENCE_NS, REHASH_QUIET_NS, SERVING_NS};
use crate::engine::observe::Observe;
use crate::engine::observe::settle::Debounced;
use crate::engine::{Engine, Inspection, META_RACY_SINCE};
use crate::model::SyncPath;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(in crate::engine) struct RacyRehash {
    /// Looks that failed, and second hashes.
    failed: BTreeSet<(u64, SyncPath)>,
    racy: BTreeSet<(u64, SyncPath)>,
    by_path: BTreeMap<SyncPath, RehashDue>,
    /// Second hashes of what patterns cover: they are made when those are gone.
    resting: BTreeSet<SyncPath>,
    /// Looked at just now.
    under_way: usize,
    paused_until: u64,
    /// When a peer asked for something large last.
    served: Option<u64>,
    /// Files with a ctime from this on (ns since 1970) may need a second hash; as the index has it.
    since: Option<u64>,
}

#[derive(Clone, Copy)]
struct RehashDue {
    at: u64,
    racy: bool,
}

impl RacyRehash {
    /// To be inspected then, or earlier if that was said before.
    pub fn add(&mut self, at: u64, path: &SyncPath, racy: bool) {
        let old = self.remove(path);
        let due = old.map_or(RehashDue { at, racy }, |old| RehashDue { at: old.at.min(at), racy: old.racy || racy });
        self.by_time(due.racy).insert((due.at, path.clone()));
        self.by_path.insert(path.clone(), due);
    }

    fn remove(&mut self, path: &SyncPath) -> Option<RehashDue> {
        let old = self.by_path.remove(path)?;
        self.by_time(old.racy).remove(&(old.at, path.clone()));
        Some(old)
    }

    fn by_time(&mut self, racy: bool) -> &mut BTreeSet<(u64, SyncPath)> {
        if racy { &mut self.racy } else { &mut self.failed }
    }

    /// What could not be inspected was: it needs no further inspection for that.
    pub fn seen(&mut self, path: &SyncPath) {
        if self.by_path.get(path).is_some_and(|due| !due.racy) {
            self.remove(path);
        }
    }

    /// A peer asks for something large that is here.
    pub fn serve(&mut self, now: u64) {
        self.served = Some(now);
    }

    fn is_serving(&self, now: u64) -> bool {
        self.served.is_some_and(|at| now < at + SERVING_NS)
    }

    /// What was due by `until`; of second hashes, what was due by `racy_until`.
    fn take(&mut self, until: u64, racy_until: u64) -> Option<(SyncPath, bool)> {
        let first = |set: &BTreeSet<(u64, SyncPath)>, until| set.first().filter(|(at, _)| *at <= until).cloned();
        let due = [first(&self.failed, until), first(&self.racy, racy_until.min(until))];
        let (_, path) = due.into_iter().flatten().min()?;
        let due = self.remove(&path)?;
        Some((path, due.racy))
    }

    /// A second hash that has waited since its time came.
    pub fn is_overdue(&self, now: u64, path: &SyncPath) -> bool {
        self.by_path.get(path).is_some_and(|due| due.racy && due.at <= now)
    }

    /// Whether it is to be inspected again anyway.
    pub fn contains(&self, path: &SyncPath) -> bool {
        self.by_path.contains_key(path)
    }

    pub fn next(&self) -> Option<u64> {
        let due = [self.failed.first(), self.racy.first()];
        due.into_iter().flatten().map(|(at, _)| *at).min().map(|at| at.max(self.paused_until))
    }
}

impl Observe {
    /// A file that was changed so lately gets a second hash.
    pub(in crate::engine) fn rehash_racy<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        path: &SyncPath,
        stat: &Stat,
    ) {
        self.racy.add(now.mono + RACY_NS, path, true);
        let ctime = stat.ctime.as_stamp();
        if self.racy.since.is_none_or(|since| ctime < since) {
            self.racy.since = Some(ctime);
            core.index.set_meta(META_RACY_SINCE, &ctime.to_be_bytes());
        }
    }

    /// What an earlier run did not come to hash again.
    pub(in crate::engine) fn load_racy<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let since = core.index.meta(META_RACY_SINCE).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let Some(since) = since else { return };
        self.racy.since = Some(since);
        let is_racy = |stat: &Stat| stat.kind == StatKind::File && stat.ctime.as_stamp() >= since;
        let mut after = None;
        loop {
            let page = core.index.below(None, after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, row) in page {
                if row.live_on_disk().is_some_and(|(_, stat)| is_racy(stat)) {
                    self.racy.add(now.mono, &path, true);
                }
            }
        }
        self.note_rehashed(core);
    }

    /// An inspection ended.
    pub(super) fn rehashed<I: Index>(&mut self, core: &mut Core<I>, inspection: Inspection) {
        if inspection.rehash {
            self.racy.under_way -= 1;
            self.note_rehashed(core);
        }
    }

    /// An inspection ended at what patterns cover.
    pub(super) fn pause_rehash(&mut self, path: &SyncPath, inspection: Inspection) {
        if inspection.rehash {
            self.racy.resting.insert(path.clone());
            self.racy.under_way -= 1;
        }
    }

    /// Other patterns are in force.
    pub(in crate::engine) fn wake_rehashes(&mut self, now: Now) {
        for path in std::mem::take(&mut self.racy.resting) {
            self.racy.add(now.mono, &path, true);
        }
    }

    /// An inspection ended and said nothing: it is needed again; after a failure, when that is
    /// tried again.
    pub(super) fn rehash_again(&mut self, now: Now, path: &SyncPath, inspection: Inspection) {
        if inspection.rehash {
            let rest = if self.inspecting.unseen.contains_key(path) { REHASH_PATIENCE_NS } else { REHASH_QUIET_NS };
            self.racy.add(now.mono + rest, path, true);
            self.racy.under_way -= 1;
        }
    }

    fn note_rehashed<I: Index>(&mut self, core: &mut Core<I>) {
        if self.racy.since.is_some() && self.racy.racy.len() + self.racy.under_way + self.racy.resting.len() == 0 {
            self.racy.since = None;
            core.index.set_meta(META_RACY_SINCE, &[]);
        }
    }
}

impl<I: Index> Engine<I> {
    /// Does what is due, unless there is much else to do.
    pub(in crate::engine) fn rehash_due(&mut self, now: Now) {
        if self.observe.racy.next().is_none_or(|due| due > now.mono) {
            return;
        }
        let (mut until, mut racy_until) = (now.mono, now.mono);
        if self.is_in_bulk() {
            until = until.saturating_sub(REHASH_PATIENCE_NS);
        }
        if self.is_in_bulk() || self.observe.racy.is_serving(now.mono) {
            racy_until = racy_until.saturating_sub(REHASH_PATIENCE_NS);
            self.observe.racy.paused_until = now.mono + REHASH_QUIET_NS;
        }
        while let Some((path, racy)) = self.observe.racy.take(until, racy_until) {
            if racy && self.ignores(&path, false) {
                self.observe.no_concern(&mut self.core, &path);
                self.observe.racy.resting.insert(path);
            } else if self.observe.settle.is_noisy(&path)
                || self.transfer.is_busy(&path)
                || self.observe.inspecting.open.contains_key(&path)
            {
                self.observe.racy.add(now.mono + REHASH_QUIET_NS, &path, racy);
            } else {
                self.rehash(&path);
            }
        }
        self.observe.note_rehashed(&mut self.core);
    }

    fn is_in_bulk(&self) -> bool {
        let to_come: u64 = self.peers.pending();
        self.observe.inspecting.open.len() as u64 + self.transfer.want_count() as u64 + to_come >= REHASH_BULK
    }

    /// The second hash comes before the file is replaced.
    pub(in crate::engine) fn rehash_now(&mut self, path: &SyncPath) {
        self.observe.racy.remove(path);
        self.rehash(path);
    }

    fn rehash(&mut self, path: &SyncPath) {
        let known = self.core.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        let unseen = self.observe.inspecting.unseen.get(path);
        if known.is_none() && unseen.is_none() {
            return;
        }
        let found = unseen.map_or(self.observe.live(), |unseen| unseen.found);
        let debounced =
            unseen.map(|_| Debounced { hint: Hint::Changed, first: self.core.last_event.mono, restless: false });
        self.observe.racy.under_way += 1;
        self.inspect(
            path,
            known,
            Inspection { debounced, rehash: true, early: !self.observe.scan.is_walked(), ..Inspection::of(found) },
        );
    }
}
