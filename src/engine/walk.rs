//! Walks: what they found against the index, and what their silence means.

use super::action::{Action, Report};
use super::event::{Now, Observed, Stat, StatKind, Trouble, WalkId};
use super::guard::{self, Verdict};
use super::index::Index;
use super::merge::Found;
use super::{Engine, Looking};
use crate::model::SyncPath;
use std::collections::BTreeSet;

/// Rows read from the index at a time.
const PAGE: usize = 1024;

/// A walk under way.
pub struct Walk {
    below: Option<SyncPath>,
    found: Found,
    visited: BTreeSet<u64>,
    started: u64,
    paths: u64,
    changed: u64,
    unread: Vec<Option<SyncPath>>,
}

impl Walk {
    pub fn is_whole(&self) -> bool {
        self.below.is_none()
    }
}

/// The first 8 bytes of BLAKE3(path): a visited mark.
fn mark(path: &SyncPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

impl<I: Index> Engine<I> {
    /// Begins a walk of the folder, or of a part of it.
    pub(super) fn walk(&mut self, now: Now, below: Option<SyncPath>, found: Found) {
        if below.is_none() {
            self.next_walk = now.mono + super::WALK_EVERY_NS;
        }
        self.last_walk += 1;
        let walk = WalkId(self.last_walk);
        self.walks.insert(
            walk,
            Walk {
                below: below.clone(),
                found,
                visited: BTreeSet::new(),
                started: now.mono,
                paths: 0,
                changed: 0,
                unread: Vec::new(),
            },
        );
        self.act(Action::Walk { walk, below });
    }

    pub(super) fn listed(&mut self, now: Now, walk: WalkId, found: Vec<(SyncPath, Stat)>) {
        for (path, stat) in found {
            let Some(state) = self.walks.get_mut(&walk) else { return };
            state.visited.insert(mark(&path));
            state.paths += 1;
            let how = state.found;
            if self.ignore.covers(&path, stat.kind == StatKind::Directory) {
                continue;
            }
            self.missing.remove(&path);
            if self.is_busy(&path) || self.settle.is_noisy(&path) {
                continue;
            }
            let row = self.index.get(&path);
            let known = row.as_ref().and_then(|row| row.live_on_disk()).map(|(_, stat)| *stat);
            match stat.kind {
                StatKind::Directory => {
                    if known.is_none_or(|known| known.kind != StatKind::Directory || known.mode != stat.mode) {
                        // By a look, which makes it durable (P5).
                        self.count_change(walk);
                        self.look(&path, None, Looking::of(how));
                    }
                }
                StatKind::Other => self.observe(now, &path, Observed::Special { what: "special file" }, how),
                StatKind::File | StatKind::Symlink if known == Some(stat) => {}
                StatKind::File | StatKind::Symlink => {
                    self.count_change(walk);
                    self.look(&path, known, Looking::of(how));
                }
            }
        }
    }

    fn count_change(&mut self, walk: WalkId) {
        if let Some(state) = self.walks.get_mut(&walk) {
            state.changed += 1;
        }
    }

    /// The listing is complete; its silence means something only if the root still is the folder.
    pub(super) fn walked(&mut self, walk: WalkId, unread: Vec<(Option<SyncPath>, Trouble)>) {
        let Some(state) = self.walks.get_mut(&walk) else { return };
        for (dir, trouble) in unread {
            state.unread.push(dir.clone());
            if let Some(dir) = dir {
                self.problems.insert(dir.clone(), trouble.text.clone());
                self.out.push(Action::Report(Report::Problem { path: Some(dir), text: trouble.text }));
            } else {
                self.out.push(Action::Report(Report::Problem { path: None, text: trouble.text }));
            }
        }
        self.concluding.push(walk);
        self.act(Action::CheckRoot);
    }

    /// The root was found fine after these walks ended.
    pub(super) fn conclude_walks(&mut self, now: Now) {
        for walk in std::mem::take(&mut self.concluding) {
            let Some(state) = self.walks.remove(&walk) else { continue };
            self.conclude(now, &state);
            if state.below.is_none() {
                let (paths, changed, took_ns) = (state.paths, state.changed, now.mono - state.started);
                self.out.push(Action::Report(Report::Scanned { paths, changed, took_ns }));
                self.restored = false;
                self.first_scan = false;
                self.index.set_meta(super::META_SCANNED, b"1");
            }
        }
    }

    fn conclude(&mut self, now: Now, walk: &Walk) {
        let (missing, known_files, missing_files) = self.unvisited(walk);
        if self.restored && walk.below.is_none() {
            // The folder came back from a backup: what it lacks is fetched, not deleted (P8).
            for path in missing {
                if let Some(mut row) = self.index.get(&path) {
                    row.disk = None;
                    self.store(now, &path, row);
                }
            }
            return;
        }
        if walk.below.is_none() {
            if guard::judge_walk(missing_files, known_files) == Verdict::Hold && !self.confirmed {
                return self.hold(missing, missing_files, known_files);
            }
            self.held.clear();
            self.confirmed = false;
        }
        let mut above: Option<SyncPath> = None;
        for path in missing {
            // The absence of a folder is that of everything in it.
            if above.as_ref().is_some_and(|dir| path.is_below(dir)) {
                continue;
            }
            let known = self.index.get(&path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
            if !self.is_busy(&path) && !self.settle.is_noisy(&path) {
                self.look(&path, known, Looking::of(walk.found));
            }
            above = Some(path);
        }
    }

    /// Paths on disk by the index that the walk did not come by; how many files it knew of, and how many of those are
    /// missing. Nothing is concluded from folders that could not be read.
    fn unvisited(&self, walk: &Walk) -> (Vec<SyncPath>, u64, u64) {
        let (mut missing, mut known_files, mut missing_files) = (Vec::new(), 0, 0);
        let mut after = None;
        loop {
            let page = self.index.below(walk.below.as_ref(), after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, row) in page {
                let Some((entry, _)) = row.live_on_disk() else { continue };
                if self.ignore.covers(&path, entry.is_directory()) {
                    continue;
                }
                known_files += u64::from(entry.file().is_some());
                let unread = |dir: &Option<SyncPath>| dir.as_ref().is_none_or(|dir| path.is_below(dir));
                if walk.visited.contains(&mark(&path)) || walk.unread.iter().any(unread) {
                    continue;
                }
                missing_files += u64::from(entry.file().is_some());
                missing.push(path);
            }
        }
        (missing, known_files, missing_files)
    }

    fn hold(&mut self, missing: Vec<SyncPath>, deletions: u64, of: u64) {
        if self.held.len() != missing.len() {
            self.out.push(Action::Report(Report::Held { deletions, of }));
        }
        self.held = missing.into_iter().collect();
    }
}
