//! Folders that were just installed, and what is to be said of them: they have no watch yet.
//!
//! A walk sets it, and finds what was done in them meanwhile. While more comes, that walk waits a
//! little: what has come by then is listed at once, where a watch would tell of it name by name.
//! Deliberately not here: whether a folder is ours (`inspect`), the walk itself (`walk`).

use crate::engine::limits::ARRIVAL_PATIENCE_NS;
use crate::model::SyncPath;
use std::collections::{BTreeSet, VecDeque};

/// See the top of this file.
#[derive(Default)]
pub struct Arrivals {
    folders: BTreeSet<SyncPath>,
    /// In the order of their times, with some that are walked already.
    due: VecDeque<(u64, SyncPath)>,
}

impl Arrivals {
    /// A folder is there since about now.
    pub fn came(&mut self, now: u64, folder: SyncPath) {
        self.due.push_back((now + ARRIVAL_PATIENCE_NS, folder.clone()));
        self.folders.insert(folder);
    }

    /// All that is at or below `walked` (`None`: everything) is walked from now on.
    pub fn walked(&mut self, walked: Option<&SyncPath>) {
        let Some(walked) = walked else {
            self.due.clear();
            return self.folders.clear();
        };
        let end = walked.range_below().1;
        let from = self.folders.range(walked.clone()..).take_while(|path| path.as_bytes() < &end[..]);
        // What sorts between a folder and what is in it ("d", "d!", "d/f") is neither.
        let below: Vec<_> = from.filter(|path| *path == walked || path.is_below(walked)).cloned().collect();
        for path in below {
            self.folders.remove(&path);
        }
    }

    /// When the next walk is due (ns). `at_once`: there is nothing to wait for.
    pub fn next(&self, at_once: bool) -> Option<u64> {
        if at_once && !self.folders.is_empty() { Some(0) } else { self.due.front().map(|(at, _)| *at) }
    }

    /// What is to be walked by now: none of it is below another.
    pub fn take_due(&mut self, now: u64, at_once: bool) -> Vec<SyncPath> {
        let mut out = Vec::new();
        if at_once {
            self.due.clear();
            while let Some(first) = self.folders.first().cloned() {
                self.walked(Some(&first));
                out.push(first);
            }
        }
        while let Some((_, folder)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            if self.folders.contains(&folder) {
                self.walked(Some(&folder));
                out.push(folder);
            }
        }
        out
    }

    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn taken(arrivals: &mut Arrivals, now: u64, at_once: bool) -> Vec<String> {
        arrivals.take_due(now, at_once).iter().map(SyncPath::to_text).collect()
    }

    fn arrived() -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (n, folder) in ["d/e", "d", "d!", "c", "d/e/f", "d-"].into_iter().enumerate() {
            arrivals.came(n as u64, path(folder));
        }
        arrivals
    }

    #[test]
    fn when_nothing_more_comes_each_new_tree_is_walked_once() {
        let mut arrivals = arrived();
        assert_eq!(arrivals.next(true), Some(0));
        assert_eq!(taken(&mut arrivals, 9, true), ["c", "d", "d!", "d-"]);
        assert!(arrivals.is_empty() && arrivals.next(true).is_none() && arrivals.next(false).is_none());
    }

    #[test]
    fn while_more_comes_a_folder_waits_for_no_longer_than_a_second_and_takes_along_what_is_in_it() {
        let mut arrivals = arrived();
        assert_eq!(arrivals.next(false), Some(ARRIVAL_PATIENCE_NS));
        assert!(taken(&mut arrivals, ARRIVAL_PATIENCE_NS - 1, false).is_empty());
        assert_eq!(taken(&mut arrivals, ARRIVAL_PATIENCE_NS, false), ["d/e"], "and what is in it");
        assert_eq!(taken(&mut arrivals, ARRIVAL_PATIENCE_NS + 2, false), ["d", "d!"]);
        assert_eq!(taken(&mut arrivals, ARRIVAL_PATIENCE_NS + 9, false), ["c", "d-"]);
        assert!(arrivals.is_empty());
    }

    #[test]
    fn what_is_walked_for_another_reason_is_not_walked_again() {
        let mut arrivals = arrived();
        arrivals.walked(Some(&path("d")));
        assert_eq!(taken(&mut arrivals, 2 * ARRIVAL_PATIENCE_NS, false), ["d!", "c", "d-"]);
        let mut arrivals = arrived();
        arrivals.walked(None);
        assert!(taken(&mut arrivals, 2 * ARRIVAL_PATIENCE_NS, true).is_empty());
    }
}
