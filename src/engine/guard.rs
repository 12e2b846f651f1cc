//! Vetoes: what looks like a disaster on this machine is not spread to others (P8).
//!
//! Plain functions and the state of what is held. See section 7 of the design.

use crate::model::SyncPath;
use std::collections::BTreeSet;

const MS: u64 = 1_000_000;
/// Missing paths found together, above which they wait longer for the noise to end.
const FEW: usize = 20;
const FEW_REST_NS: u64 = 100 * MS;
const REST_NS: u64 = 200 * MS;
const PATIENCE_NS: u64 = 5_000 * MS;

/// What a whole walk's missing files mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ordinary deletions.
    Believe,
    /// Held until a person confirms.
    Hold,
}

/// Judges a walk that found `missing` of the `known` files that were on disk here: every one gone, or more than half
/// of at least 100, looks like an unmounted or emptied disk.
pub fn judge_walk(missing: u64, known: u64) -> Verdict {
    if missing > 0 && (missing >= known || (known >= 100 && missing > known / 2)) {
        Verdict::Hold
    } else {
        Verdict::Believe
    }
}

/// Paths that a look found missing, until they may be taken for deletions: the burst has rested, and the root has been
/// checked after it.
#[derive(Default)]
pub struct Missing {
    resting: BTreeSet<SyncPath>,
    first: u64,
    last: u64,
    /// What the check under way is for. A check that began before a path was missing says nothing of it.
    checked: Option<BTreeSet<SyncPath>>,
}

impl Missing {
    pub fn add(&mut self, now: u64, path: SyncPath) {
        if self.resting.is_empty() {
            self.first = now;
        }
        self.last = now;
        self.resting.insert(path);
    }

    /// It was seen, and so were the folders that it is in: those of them that are missing no more.
    pub fn seen(&mut self, path: &SyncPath) -> Vec<SyncPath> {
        let mut back = Vec::new();
        let mut next = (!self.is_empty()).then(|| path.clone());
        while let Some(path) = next {
            next = path.parent();
            if self.resting.remove(&path) | self.checked.as_mut().is_some_and(|checked| checked.remove(&path)) {
                back.push(path);
            }
        }
        back
    }

    pub fn contains(&self, path: &SyncPath) -> bool {
        self.resting.contains(path) || self.checked.as_ref().is_some_and(|checked| checked.contains(path))
    }

    pub fn is_empty(&self) -> bool {
        self.resting.is_empty() && self.checked.as_ref().is_none_or(BTreeSet::is_empty)
    }

    /// When the root is to be checked: after a rest, since the first path missing may be the beginning of `rm -rf` of the folder
    /// itself, and the check is to see its end (P8).
    pub fn due(&self) -> Option<u64> {
        match self.resting.len() {
            0 => None,
            _ if self.checked.is_some() => None,
            n if n <= FEW => Some((self.last + FEW_REST_NS).min(self.first + PATIENCE_NS)),
            _ => Some((self.last + REST_NS).min(self.first + PATIENCE_NS)),
        }
    }

    pub fn check_begins(&mut self) {
        self.checked = Some(std::mem::take(&mut self.resting));
    }

    /// The root was found fine: those that it was checked for are deletions.
    pub fn take(&mut self) -> BTreeSet<SyncPath> {
        self.checked.take().unwrap_or_default()
    }

    /// The root was found wrong: nothing is concluded.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing_missing(0, 50_000, Verdict::Believe)]
    #[case::an_empty_folder(0, 0, Verdict::Believe)]
    #[case::a_few(10, 50_000, Verdict::Believe)]
    #[case::just_half(50, 100, Verdict::Believe)]
    #[case::more_than_half(51, 100, Verdict::Hold)]
    #[case::most_of_a_small_folder(98, 99, Verdict::Believe)]
    #[case::every_one(3, 3, Verdict::Hold)]
    #[case::the_only_one(1, 1, Verdict::Hold)]
    fn a_walk_that_finds_a_disaster_is_not_believed(
        #[case] missing: u64,
        #[case] known: u64,
        #[case] verdict: Verdict,
    ) {
        assert_eq!(judge_walk(missing, known), verdict);
    }

    #[test]
    fn a_burst_of_missing_paths_waits_for_its_end() {
        let mut missing = Missing::default();
        assert_eq!(missing.due(), None);
        missing.add(5, SyncPath::new("a").unwrap());
        assert_eq!(missing.due(), Some(5 + FEW_REST_NS));
        for n in 0..FEW as u64 {
            missing.add(10 + n, SyncPath::new(format!("f{n}")).unwrap());
        }
        assert_eq!(missing.due(), Some(10 + FEW as u64 - 1 + REST_NS));
        missing.check_begins();
        assert_eq!(missing.due(), None);
        assert_eq!(missing.take().len(), FEW + 1);
        assert_eq!(missing.due(), None);
    }

    #[test]
    fn a_check_speaks_of_what_was_missing_when_it_began_and_is_not_back() {
        let path = |text: &str| SyncPath::new(text).unwrap();
        let mut missing = Missing::default();
        missing.add(0, path("gone"));
        assert!(missing.take().is_empty(), "that check was for something else");
        for back in ["d", "d/e", "d/e/f"] {
            missing.add(1, path(back));
        }
        missing.check_begins();
        missing.add(2, path("late"));
        assert_eq!(missing.seen(&path("d/e")), [path("d/e"), path("d")]);
        assert!(missing.contains(&path("d/e/f")) && !missing.contains(&path("d")));
        assert_eq!(missing.take(), BTreeSet::from([path("d/e/f"), path("gone")]));
        assert!(missing.contains(&path("late")));
        assert_eq!(missing.due(), Some(2 + FEW_REST_NS));
    }
}
