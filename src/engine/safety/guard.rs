//! Vetoes: what looks like a disaster is neither spread to others nor followed (P8).
//!
//! Plain functions and small state, each a table below. May import `model`. Deliberately not here:
//! what is held and how it is released (`hold.rs`), and a device that was rolled back or cloned
//! (`identity.rs`).

use crate::engine::limits::{
    DISASTER_FILES, DYING_PATIENCE_NS, FEW_MISSING, FEW_MISSING_PATIENCE_NS, FEW_MISSING_QUIET_NS,
    LONGEST_MISSING_QUIET_NS, MANY_MISSING, MANY_MISSING_QUIET_NS, MISSING_AGAIN, MISSING_PATIENCE_NS,
    MISSING_QUIET_NS,
};
use crate::engine::safety::ledger::FileSum;
use crate::model::SyncPath;
use std::collections::BTreeSet;

/// What losses mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossVerdict {
    /// Ordinary work.
    Believe,
    /// Ordinary work on many small files, such as `git gc`: a person is told.
    Announce,
    /// Held until a person confirms, or until it is half or less.
    Hold,
}

/// Judges a walk that found `missing` of the `known` files that were on disk here: every one gone
/// looks like an unmounted or emptied disk, however few they were.
pub fn is_emptied(missing: u64, known: u64) -> bool {
    missing > 0 && missing >= known
}

/// Judges the files that were lost in the last hour, or that went back to older contents, of those
/// that were live an hour ago: more than half of at least 100 files, and more than half of the
/// bytes.
pub fn judge_losses(lost: FileSum, of: FileSum) -> LossVerdict {
    if of.files < DISASTER_FILES || lost.files <= of.files / 2 {
        LossVerdict::Believe
    } else if lost.bytes <= of.bytes / 2 {
        LossVerdict::Announce
    } else {
        LossVerdict::Hold
    }
}

/// Paths that an inspection found missing, until they may be taken for deletions: the burst has
/// rested, and the root has been checked after it.
#[derive(Default)]
pub struct Missing {
    resting: BTreeSet<SyncPath>,
    first: u64,
    last: u64,
    /// Something new was made here since the burst began.
    lives: bool,
    agains: u32,
    /// What the check under way is for. A check that began before a path was missing says nothing
    /// of it.
    checked: Option<BTreeSet<SyncPath>>,
}

impl Missing {
    pub fn add(&mut self, now: u64, path: SyncPath) {
        if self.resting.is_empty() {
            self.first = now;
            self.lives = false;
        }
        self.last = now;
        self.resting.insert(path);
    }

    /// The folder is in use: a burst of missing paths is not its end.
    pub fn lives(&mut self) {
        self.lives = true;
    }

    /// These rest once more, for what is inspected now may be where they went; `false`: they did so
    /// long enough.
    pub fn again(&mut self, now: u64, paths: &BTreeSet<SyncPath>) -> bool {
        self.agains += 1;
        if self.agains > MISSING_AGAIN {
            self.agains = 0;
            return false;
        }
        for path in paths {
            self.add(now, path.clone());
        }
        true
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

    /// When the root is to be checked: after a rest, since the first path missing may be the
    /// beginning of `rm -rf` of the folder itself, and the check is to see its end (P8).
    pub fn due(&self) -> Option<u64> {
        let (rest, patience) = match self.resting.len() {
            0 => return None,
            _ if self.checked.is_some() => return None,
            n if n <= FEW_MISSING => (FEW_MISSING_QUIET_NS, FEW_MISSING_PATIENCE_NS),
            n => (if n <= MANY_MISSING { MISSING_QUIET_NS } else { MANY_MISSING_QUIET_NS }, self.patience()),
        };
        // What went on for long may pause for long.
        let rest = rest.max(((self.last - self.first) / 2).min(LONGEST_MISSING_QUIET_NS));
        Some((self.last + rest).min(self.first + patience))
    }

    fn patience(&self) -> u64 {
        if self.lives { MISSING_PATIENCE_NS } else { DYING_PATIENCE_NS }
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
    use crate::engine::limits::MS;
    use rstest::rstest;

    #[rstest]
    #[case::nothing_missing(0, 50_000, false)]
    #[case::an_empty_folder(0, 0, false)]
    #[case::most(49_999, 50_000, false)]
    #[case::every_one(3, 3, true)]
    #[case::the_only_one(1, 1, true)]
    fn a_walk_that_finds_every_file_gone_is_not_believed(
        #[case] missing: u64,
        #[case] known: u64,
        #[case] emptied: bool,
    ) {
        assert_eq!(is_emptied(missing, known), emptied);
    }

    #[rstest]
    #[case::none((0, 0), (100_000, 100_000), LossVerdict::Believe)]
    #[case::half((50, 99), (100, 100), LossVerdict::Believe)]
    #[case::more_than_half((51, 51), (100, 100), LossVerdict::Hold)]
    #[case::of_99_all((99, 99), (99, 99), LossVerdict::Believe)]
    #[case::one_large_file((1, 99), (100, 100), LossVerdict::Believe)]
    #[case::many_small_files((99, 50), (100, 100), LossVerdict::Announce)]
    #[case::empty_files((100, 0), (100, 0), LossVerdict::Announce)]
    fn losses_are_held_above_half_of_the_files_and_of_the_bytes(
        #[case] (files, bytes): (u64, u64),
        #[case] (of_files, of_bytes): (u64, u64),
        #[case] verdict: LossVerdict,
    ) {
        assert_eq!(judge_losses(FileSum { files, bytes }, FileSum { files: of_files, bytes: of_bytes }), verdict);
    }

    #[test]
    fn a_burst_in_which_nothing_lives_is_waited_for_to_its_end() {
        let mut missing = Missing::default();
        let mut at = 1;
        for n in 0..FEW_MISSING as u64 * 20 {
            missing.add(at, SyncPath::new(format!("f{n}")).unwrap());
            at += MISSING_QUIET_NS - MS;
        }
        assert!(at > MISSING_PATIENCE_NS + MISSING_QUIET_NS);
        let pause = LONGEST_MISSING_QUIET_NS - MISSING_QUIET_NS + MS;
        assert_eq!(missing.due(), Some(at + pause), "longer than any ordinary burst, and through its pauses");
        missing.lives();
        assert!(missing.due().is_some_and(|due| due < at), "a folder in use is not kept waiting for so long");
    }

    #[test]
    fn a_burst_of_missing_paths_waits_for_its_end() {
        let mut missing = Missing::default();
        assert_eq!(missing.due(), None);
        missing.add(5, SyncPath::new("a").unwrap());
        assert_eq!(missing.due(), Some(5 + FEW_MISSING_QUIET_NS));
        for n in 0..FEW_MISSING as u64 {
            missing.add(10 + n, SyncPath::new(format!("f{n}")).unwrap());
        }
        assert_eq!(missing.due(), Some(10 + FEW_MISSING as u64 - 1 + MISSING_QUIET_NS));
        missing.check_begins();
        assert_eq!(missing.due(), None);
        assert_eq!(missing.take().len(), FEW_MISSING + 1);
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
        assert_eq!(missing.due(), Some(2 + FEW_MISSING_QUIET_NS));
    }
}
