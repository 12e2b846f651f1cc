//! Changes that are dated too far ahead: the five-year rule.
//!
//! A stamp far ahead of the clock comes from a clock that was wrong, and would win for years. Such
//! a change of a peer is held, for a person to confirm. What a machine itself made under a clock
//! that was ahead it makes anew, as of today, once its clock is right again and a linked machine
//! says so; the new version has seen the old one and takes its place wherever that is still the
//! winner. Deliberately not here: how stamps are minted otherwise (`merge.rs`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::api::problem::Problem;
use crate::engine::limits::{
    BUILT_NS, DAY_NS, FUTURE_CAP, PAGE, REDATE_AGAIN_NS, REDATE_AGREED_NS, REDATE_OTHERS_NS, TOMBSTONE_NS,
};
use crate::engine::merge::{self, ObservationSource, RemoteEffect};
use crate::engine::merge::{is_far_ahead, latest_stamp};
use crate::engine::{Engine, META_LATEST_DAY};
use crate::model::version::STAMP_STEP;
use crate::model::{Entry, Kind, SyncPath};
use crate::wire::message::Change;

/// When winners were found to be dated too far ahead, and are read next (by `Now::mono`).
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Redating {
    since: u64,
    next: u64,
}

/// As of when a winner counts that is made anew: its disk's times say, where they are no wrong
/// clock's.
fn stamp_anew(now: Now, row: &Row) -> u64 {
    let stat = row.live_on_disk().filter(|(entry, _)| **entry == row.head).map(|(_, stat)| *stat);
    stat.map_or(now.wall, |stat| merge::stamp(ObservationSource::Walked, now.wall, 0, &stat, None))
}

impl<I: Index> Engine<I> {
    /// Holds a change that is dated too far ahead, unless it is what a person confirmed of it, or
    /// its author has corrected it.
    pub(in crate::engine) fn hold_dated_ahead(&mut self, path: &SyncPath, entry: Entry) {
        let is_known = |row: Row| row.head.same_on_disk(&entry) || row.head.version.supersedes(&entry.version);
        if self.core.index.get(path).is_some_and(is_known) {
            return;
        }
        let by = self.peers.name_of(&self.core, &entry.version.author);
        self.observe.problem(&mut self.core, path, Problem::DatedAhead { by });
        if self.safety.future.len() < FUTURE_CAP || self.safety.future.contains_key(path) {
            self.safety.future.insert(path.clone(), entry);
        }
    }

    /// A person says that the changes which are held for their dates are meant: each is made anew
    /// here, and now. What comes later is held anew.
    pub(super) fn mint_dated_ahead(&mut self, now: Now) {
        if !self.core.role.announces() {
            return;
        }
        for (path, entry) in std::mem::take(&mut self.safety.future) {
            self.observe.solve(&mut self.core, &path);
            let mut base = self.core.index.get(&path).map(|row| row.head);
            let after_base = base.as_ref().map_or(0, |base| base.version.stamp.saturating_add(STAMP_STEP));
            let kind = match &entry.kind {
                Kind::Deleted { .. } => Kind::Deleted { at: now.wall },
                kind => kind.clone(),
            };
            if let Some(base) = &mut base {
                // Made with both known: where the other is the winner, this one corrects it.
                base.version.seen = base.version.seen.join(&entry.version.seen);
            }
            let base = base.as_ref().unwrap_or(&entry);
            let entry = self.reconcile.mint(
                &mut self.core,
                kind,
                entry.mode,
                entry.mtime,
                now.wall.max(after_base),
                Some(base),
            );
            self.safety.name_own(now, &path, &entry, true);
            self.made_anew(now, path, entry);
        }
    }

    /// Deletions older than 30 days, by the latest stamp there is, stop counting in digests.
    pub(in crate::engine) fn note_stamp(&mut self, now: Now, stamp: u64) {
        let day = stamp - stamp % DAY_NS;
        if day > self.core.latest_day {
            self.core.latest_day = day;
            self.core.index.set_meta(META_LATEST_DAY, &day.to_be_bytes());
            self.core.index.set_horizon(day.saturating_sub(TOMBSTONE_NS));
            self.peers.purge_soon(now);
        }
    }

    /// What is held of a path for its date was seen by whoever made this.
    pub(in crate::engine) fn is_corrected(&mut self, path: &SyncPath, entry: &Entry) {
        if self.safety.future.get(path).is_some_and(|held| entry.version.supersedes(&held.version)) {
            self.safety.future.remove(path);
            self.observe.solve(&mut self.core, path);
        }
    }

    fn made_anew(&mut self, now: Now, path: SyncPath, entry: Entry) {
        if self.take_in(now, &path, entry.clone()) == RemoteEffect::Wins {
            match self.transfer.want(&path) {
                Some(_) => self.transfer.pass_on(&path, Vec::new()),
                None => self.announce(now, Change { path, entry, body: None }, Vec::new()),
            }
        }
    }

    /// Whether a linked machine's clock says about the same as ours.
    fn clock_is_agreed(&self, now: Now) -> bool {
        now.wall >= BUILT_NS && self.peers.a_clock_agrees()
    }

    /// Makes anew, as of today, what was made here under a clock that was far ahead.
    pub(in crate::engine) fn redate_due(&mut self, now: Now) {
        if self.core.latest_day <= latest_stamp(now) || !self.clock_is_agreed(now) {
            self.safety.redating = None;
            return;
        }
        let begun = Redating { since: now.mono, next: now.mono + REDATE_AGREED_NS };
        let redating = *self.safety.redating.get_or_insert(begun);
        if now.mono < redating.next || self.is_stopped() || !self.core.role.announces() {
            return;
        }
        let is_late = now.mono >= redating.since + REDATE_OTHERS_NS;
        self.safety.redating = Some(Redating { next: now.mono + REDATE_AGAIN_NS, ..redating });
        self.redate(now, is_late);
    }

    fn redate(&mut self, now: Now, also_others: bool) {
        let (mut after, mut latest, mut count) = (None, 0, 0);
        loop {
            let page = self.core.index.below(None, after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, row) in page {
                let is_ours = also_others || row.head.version.author == self.core.config.device;
                if !is_far_ahead(now, &row.head) || !is_ours || self.transfer.is_busy(&path) {
                    latest = latest.max(row.head.version.stamp);
                    continue;
                }
                let stamp = stamp_anew(now, &row);
                let kind = match &row.head.kind {
                    Kind::Deleted { .. } => Kind::Deleted { at: now.wall },
                    kind => kind.clone(),
                };
                let entry =
                    self.reconcile.mint(&mut self.core, kind, row.head.mode, row.head.mtime, stamp, Some(&row.head));
                latest = latest.max(stamp);
                count += 1;
                self.made_anew(now, path, entry);
            }
        }
        // By the wrong clock, deletions of today would count in no digest.
        self.core.latest_day = latest - latest % DAY_NS;
        self.core.index.set_meta(META_LATEST_DAY, &self.core.latest_day.to_be_bytes());
        self.core.index.set_horizon(self.core.latest_day.saturating_sub(TOMBSTONE_NS));
        if count > 0 {
            self.core.out.push(Action::Report(Report::Redated { changes: count }));
        }
    }
}

#[cfg(test)]
mod tests;
