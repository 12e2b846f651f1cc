//! A clock that steps cannot move: how long this machine has held something.
//!
//! It advances with the monotonic clock while the daemon runs. Across a stop it advances as the
//! wall clock did, never back, and at most three days, until a linked peer's clock agrees with
//! ours: then the rest is made up for. So a wrong clock ages nothing by more than that. It is
//! stored in the index once an hour: what a crash takes back of it, the wall clock gives again. May
//! import nothing but the event's times and the index. Deliberately not here: what is judged by it
//! (`guard.rs`, and the history's retention).

use crate::engine::Engine;
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{CLOCK_AGREES_NS, DAY_NS, STEADY_BEGIN_NS, STEADY_STOP_NS, STEADY_STORE_EVERY_NS};
use crate::engine::merge::ObservationSource;
use crate::model::SyncPath;

/// Three u64, big-endian: the steady time, the wall clock's when it was stored, and what was owed.
const META_STEADY: &str = "steady";

/// A u64, big-endian: what is added to the days of the steady time.
const META_DAYS: &str = "steady.first_day";

/// The steady time, in nanoseconds since nothing in particular.
#[derive(Debug)]
pub struct Steady {
    /// At the start of this run.
    base: u64,
    started: Now,
    /// What stops may have lasted longer than they counted, by the wall clock at the start of this
    /// run.
    owed: u64,
    next_store: u64,
    /// What is added to its days: see `Engine::today`.
    first_day: u64,
}

impl Steady {
    /// Goes on from what the index says.
    pub fn start(index: &impl Index, now: Now) -> Self {
        let stored = index.meta(META_STEADY).and_then(|bytes| {
            let (numbers, []) = bytes.as_chunks::<8>() else { return None };
            <[[u8; 8]; 3]>::try_from(numbers).ok().map(|numbers| numbers.map(u64::from_be_bytes))
        });
        let (base, owed) = match stored {
            None => (STEADY_BEGIN_NS, 0),
            Some([steady, wall, owed]) => {
                let stopped = now.wall.saturating_sub(wall);
                let counted = stopped.min(STEADY_STOP_NS);
                // A clock that was set back since was wrong when it owed.
                let owed = owed.saturating_sub(wall.saturating_sub(now.wall));
                (steady.saturating_add(counted), owed.saturating_add(stopped - counted))
            }
        };
        Self { base, started: now, owed, next_store: now.mono, first_day: 0 }
    }

    pub fn at(&self, now: Now) -> u64 {
        self.base.saturating_add(now.mono.saturating_sub(self.started.mono))
    }

    /// A linked peer's clock is so far ahead of ours (ns): where the two agree, the stops were as
    /// long as ours says.
    pub fn peer_says(&mut self, now: Now, ahead_ns: i64) {
        if ahead_ns.unsigned_abs() <= CLOCK_AGREES_NS {
            self.base = self.base.saturating_add(self.owed_by(now));
            self.owed = 0;
        }
    }

    /// What is still owed, after the steps of the wall clock in this run.
    fn owed_by(&self, now: Now) -> u64 {
        let expected = self.started.wall.saturating_add(now.mono.saturating_sub(self.started.mono));
        self.owed.saturating_sub(expected.saturating_sub(now.wall))
    }

    fn to_bytes(&self, now: Now) -> Vec<u8> {
        [self.at(now), now.wall, self.owed_by(now)].into_iter().flat_map(u64::to_be_bytes).collect()
    }
}

impl Default for Steady {
    fn default() -> Self {
        Self { base: STEADY_BEGIN_NS, started: Now::default(), owed: 0, next_store: 0, first_day: 0 }
    }
}

impl<I: Index> Core<I> {
    /// The steady time: ages of what this machine holds are differences from it (`Row::since`).
    pub(super) fn steady(&self, now: Now) -> u64 {
        self.steady.at(now)
    }

    /// Which day it is, to count from day to day: days since 1970 as the wall clock had them when
    /// they were first counted here, and since then as the steady clock goes on. A wall clock that
    /// jumps makes nobody look gone for a year.
    pub(super) fn today(&self, now: Now) -> u64 {
        self.steady.first_day.saturating_add(self.steady(now) / DAY_NS)
    }

    pub(super) fn begin_days(&mut self, now: Now) {
        let stored = self.index.meta(META_DAYS).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        self.steady.first_day = stored.unwrap_or_else(|| {
            let first = (now.wall / DAY_NS).saturating_sub(self.steady(now) / DAY_NS);
            self.index.set_meta(META_DAYS, &first.to_be_bytes());
            first
        });
    }

    pub(super) fn store_steady(&mut self, now: Now) {
        if self.steady.next_store <= now.mono {
            self.steady.next_store = now.mono + STEADY_STORE_EVERY_NS;
            self.index.set_meta(META_STEADY, &self.steady.to_bytes(now));
        }
    }
}

impl<I: Index> Engine<I> {
    /// The steady time: ages of what this machine holds are differences from it (`Row::since`).
    pub fn steady(&self, now: Now) -> u64 {
        self.core.steady(now)
    }

    /// When the content that a row has on disk was first held here: as before, as of a path that it
    /// was renamed or copied from, else now.
    pub(super) fn since(&self, now: Now, path: &SyncPath, old: Option<&Row>, row: &Row) -> u64 {
        let on_disk = |row: &Row| row.live_on_disk().and_then(|(entry, _)| entry.file()).map(|(content, _)| content);
        let Some(content) = on_disk(row) else { return 0 };
        if let Some(old) = old.filter(|old| on_disk(old) == Some(content)) {
            return old.since;
        }
        // What was here before the index knew of it: nobody knows since when.
        if matches!(self.observe.finding(), Some(ObservationSource::First | ObservationSource::Restored)) {
            return 0;
        }
        let holders = self.core.index.holders(&content);
        let elsewhere =
            holders.iter().filter(|holder| *holder != path).filter_map(|holder| self.core.index.get(holder));
        let elsewhere = elsewhere.filter(|row| row.live_on_disk().is_some()).map(|row| row.since).min();
        elsewhere.or(self.safety.since_of(content)).unwrap_or_else(|| self.steady(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::limits::SECOND;

    const WALL: u64 = 1_800_000_000 * SECOND;

    fn now(wall: u64, mono: u64) -> Now {
        Now { wall, mono }
    }

    /// A run of ten minutes, and what the next one begins with after a stop that took so long by
    /// the wall clock (ns).
    fn after_stop(wall: u64) -> (Steady, u64) {
        let mut index = MapIndex::new();
        let first = Steady::start(&index, now(WALL, 5));
        let end = now(WALL + 600 * SECOND, 5 + 600 * SECOND);
        index.set_meta(META_STEADY, &first.to_bytes(end));
        let before = first.at(end);
        (Steady::start(&index, now(wall, 77)), before)
    }

    #[test]
    fn it_advances_with_uptime_whatever_the_wall_clock_does() {
        let steady = Steady::start(&MapIndex::new(), now(WALL, 5));
        assert_eq!(steady.at(now(WALL, 5)), STEADY_BEGIN_NS);
        assert_eq!(steady.at(now(0, 5 + SECOND)), STEADY_BEGIN_NS + SECOND);
        assert_eq!(steady.at(now(u64::MAX, 5 + 2 * SECOND)), STEADY_BEGIN_NS + 2 * SECOND);
    }

    #[test]
    fn a_stop_counts_as_the_wall_clock_says_up_to_three_days_and_never_back() {
        let ran_until = WALL + 600 * SECOND;
        for (wall, counted) in [
            (ran_until + 3600 * SECOND, 3600 * SECOND),
            (ran_until - 3600 * SECOND, 0),
            (ran_until + 3650 * DAY_NS, STEADY_STOP_NS),
        ] {
            let (steady, before) = after_stop(wall);
            assert_eq!(steady.at(now(wall, 77)) - before, counted);
        }
    }

    #[test]
    fn a_long_stop_counts_wholly_once_a_peer_s_clock_agrees() {
        let at = now(WALL + 600 * SECOND + 30 * DAY_NS, 77);
        let (mut steady, before) = after_stop(at.wall);
        steady.peer_says(at, -(30 * DAY_NS as i64));
        assert_eq!(steady.at(at) - before, STEADY_STOP_NS, "a peer that says otherwise changes nothing");
        steady.peer_says(at, SECOND as i64);
        steady.peer_says(at, SECOND as i64);
        assert_eq!(steady.at(at) - before, 30 * DAY_NS);
    }

    #[test]
    fn what_a_wrong_clock_seemed_to_owe_is_not_made_up_for_when_it_is_right_again() {
        let wrong = WALL + 600 * SECOND + 3650 * DAY_NS;
        let (mut steady, before) = after_stop(wrong);
        let right = now(WALL + 700 * SECOND, 77 + SECOND);
        let mut index = MapIndex::new();
        index.set_meta(META_STEADY, &steady.to_bytes(now(wrong, 77)));
        steady.peer_says(right, 0);
        assert_eq!(steady.at(right) - before, STEADY_STOP_NS + SECOND, "set right in the run");
        let mut again = Steady::start(&index, right);
        again.peer_says(right, 0);
        assert_eq!(again.at(right) - before, STEADY_STOP_NS, "set right before the next start");
    }

    #[test]
    fn restarts_under_a_wrong_clock_count_their_own_time_alone() {
        let wrong = now(WALL + 600 * SECOND + 3650 * DAY_NS, 77);
        let (mut steady, before) = after_stop(wrong.wall);
        for _ in 0..5 {
            let mut index = MapIndex::new();
            index.set_meta(META_STEADY, &steady.to_bytes(wrong));
            steady = Steady::start(&index, wrong);
        }
        assert_eq!(steady.at(wrong) - before, STEADY_STOP_NS);
        steady.peer_says(wrong, 0);
        assert_eq!(steady.at(wrong) - before, 3650 * DAY_NS, "and a peer may still make up for it");
    }
}
