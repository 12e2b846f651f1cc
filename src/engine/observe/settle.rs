//! Settling: noisy paths become quiet paths that are worth an inspection.
//!
//! A closed or renamed-in file is inspected almost at once; one that is being written waits for
//! quiet, but not for ever; a vanished name waits a little, so that a rename's new name is told
//! before the old one's deletion.

use crate::engine::api::event::Hint;
use crate::engine::limits::{CLOSED_QUIET_NS, GONE_QUIET_NS, RESTLESS_NS, WRITING_QUIET_NS};
use crate::model::SyncPath;
use std::collections::{BTreeMap, BTreeSet};

struct Noisy {
    first: u64,
    due: u64,
    hint: Hint,
}

/// What made a path worth an inspection.
#[derive(Debug, Clone, Copy)]
pub struct Debounced {
    pub hint: Hint,
    /// When its noise began, of which no inspection came.
    pub first: u64,
    /// It has not rested for long: more noise during the inspection says nothing against what the
    /// inspection saw.
    pub restless: bool,
}

#[derive(Default)]
pub struct Debouncer {
    noisy: BTreeMap<SyncPath, Noisy>,
    due: BTreeSet<(u64, SyncPath)>,
}

/// When a path is due whose noise began at `first` and was last heard at `now`.
fn due(first: u64, now: u64, hint: Hint) -> u64 {
    match hint {
        Hint::Closed => now + CLOSED_QUIET_NS,
        Hint::Gone => now + GONE_QUIET_NS,
        Hint::Changed => (now + WRITING_QUIET_NS).min(first + RESTLESS_NS).max(now),
    }
}

impl Debouncer {
    /// The latest hint decides when: a file that is written again after its close is not quiet.
    /// That something was closed or renamed in is remembered, for it may be a new folder.
    pub fn hint(&mut self, now: u64, path: SyncPath, hint: Hint) {
        let old = self.noisy.get(&path);
        let first = old.map_or(now, |noisy| noisy.first);
        let kept = if old.is_some_and(|noisy| noisy.hint == Hint::Closed) { Hint::Closed } else { hint };
        self.insert(path, Noisy { first, due: due(first, now, hint), hint: kept });
    }

    fn insert(&mut self, path: SyncPath, noisy: Noisy) {
        self.due.insert((noisy.due, path.clone()));
        if let Some(old) = self.noisy.insert(path.clone(), noisy)
            && self.noisy[&path].due != old.due
        {
            self.due.remove(&(old.due, path));
        }
    }

    /// The paths that have rested by now, or may be kept waiting no longer; they are noisy no more.
    pub fn take_due(&mut self, now: u64) -> Vec<(SyncPath, Debounced)> {
        let mut out = Vec::new();
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((at, path)) = self.due.pop_first()
            && let Some(noisy) = self.noisy.remove(&path)
        {
            let Noisy { first, hint, .. } = noisy;
            out.push((path, Debounced { hint, first, restless: at >= first + RESTLESS_NS }));
        }
        out
    }

    /// An inspection came to nothing for the noise that there was in it: what is heard since goes
    /// on from what led to that inspection.
    pub fn goes_on(&mut self, path: &SyncPath, since: u64) {
        if let Some(noisy) = self.noisy.get_mut(path) {
            noisy.first = noisy.first.min(since);
        }
    }

    pub fn is_noisy(&self, path: &SyncPath) -> bool {
        self.noisy.contains_key(path)
    }

    /// Whether it has been noisy for as long as a restless file may be kept waiting.
    pub fn is_restless(&self, now: u64, path: &SyncPath) -> bool {
        self.noisy.get(path).is_some_and(|noisy| noisy.first + RESTLESS_NS <= now)
    }

    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    pub fn is_empty(&self) -> bool {
        self.noisy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::MS;
    use rstest::rstest;

    /// Hints (at ms) to the moment of the inspection (ms).
    #[rstest]
    #[case::a_close_is_looked_at_at_once(&[(0, Hint::Closed)], 2)]
    #[case::writing_waits_for_quiet(&[(0, Hint::Changed), (50, Hint::Changed)], 150)]
    #[case::the_close_ends_the_wait(&[(0, Hint::Changed), (10, Hint::Closed)], 12)]
    #[case::truncated_again_after_the_close(&[(0, Hint::Closed), (1, Hint::Changed)], 101)]
    #[case::a_vanished_name_waits_for_the_new_one(&[(0, Hint::Gone)], 20)]
    #[case::replaced_by_a_rename(&[(0, Hint::Gone), (1, Hint::Closed)], 3)]
    fn a_path_is_looked_at_when_it_has_settled(#[case] hints: &[(u64, Hint)], #[case] inspect_ms: u64) {
        let path = SyncPath::new("f").unwrap();
        let mut settle = Debouncer::default();
        for &(at, hint) in hints {
            settle.hint(at * MS, path.clone(), hint);
        }
        assert_eq!(settle.next(), Some(inspect_ms * MS));
        assert!(settle.take_due(inspect_ms * MS - 1).is_empty());
        assert_eq!(settle.take_due(inspect_ms * MS).len(), 1);
        assert!(settle.is_empty() && settle.next().is_none());
    }

    #[test]
    fn a_file_that_never_rests_is_looked_at_every_two_seconds() {
        let path = SyncPath::new("f").unwrap();
        let mut settle = Debouncer::default();
        let mut inspections = 0;
        for at in (0..10_000).step_by(50) {
            settle.hint(at * MS, path.clone(), Hint::Changed);
            inspections += settle.take_due(at * MS).len();
        }
        assert_eq!(inspections, 4);
    }
}
