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
    paths: BTreeSet<SyncPath>,
    first: u64,
    last: u64,
    checking: bool,
}

impl Missing {
    pub fn add(&mut self, now: u64, path: SyncPath) {
        if self.paths.is_empty() {
            self.first = now;
        }
        self.last = now;
        self.paths.insert(path);
    }

    /// It is back.
    pub fn remove(&mut self, path: &SyncPath) {
        self.paths.remove(path);
    }

    pub fn contains(&self, path: &SyncPath) -> bool {
        self.paths.contains(path)
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// When the root is to be checked: after a rest, since the first path missing may be the beginning of `rm -rf` of the folder
    /// itself, and the check is to see its end (P8).
    pub fn due(&self) -> Option<u64> {
        match self.paths.len() {
            0 => None,
            _ if self.checking => None,
            n if n <= FEW => Some((self.last + FEW_REST_NS).min(self.first + PATIENCE_NS)),
            _ => Some((self.last + REST_NS).min(self.first + PATIENCE_NS)),
        }
    }

    pub fn check_begins(&mut self) {
        self.checking = true;
    }

    /// The root was found fine: these are deletions.
    pub fn take(&mut self) -> BTreeSet<SyncPath> {
        self.checking = false;
        std::mem::take(&mut self.paths)
    }

    /// The root was found wrong: nothing is concluded.
    pub fn forget(&mut self) {
        self.take();
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
}
