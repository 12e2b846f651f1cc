//! Contents on their way: what is wanted, from where it comes, and its install.
//!
//! Deliberately not here: which version is wanted (`reconcile`), and reading or writing (`io`).

pub(super) mod advance;
pub(super) mod chunks;
pub(super) mod fetch;
pub(super) mod install;
pub(super) mod kept;
pub(super) mod silence;
pub(super) mod swarm;
pub(super) mod wants;

#[cfg(test)]
use crate::engine::api::event::StageId;
use crate::engine::api::event::{FetchId, LinkId, Now};
use crate::model::{ContentId, SyncPath};
use chunks::Swarms;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wants::{Step, Want, Wants};

/// What is on its way.
#[derive(Default)]
pub(super) struct Transfer {
    wants: Wants,
    swarms: Swarms,
    /// An install may have been interrupted here, by a crash or half way by an error: the disk may
    /// hold what the index does not say. Inspected before anything is installed here (P5).
    interrupted_installs: BTreeSet<SyncPath>,
    /// A folder that the last check found in order, so that its next child need not ask again.
    good_parent: Option<SyncPath>,
}

impl Transfer {
    /// The path is wanted, and its last install failed.
    pub(super) fn has_failed(&self, path: &SyncPath) -> bool {
        self.wants.get(path).is_some_and(Want::has_failed)
    }
}

#[cfg(test)]
impl Transfer {
    /// Small contents under way, their bytes, and those that were asked for.
    pub(super) fn window(&self) -> (usize, u64, usize) {
        (self.wants.window.small_files, self.wants.window.small_bytes, self.wants.asked.len())
    }

    pub(super) fn body_bytes(&mut self) -> &mut u64 {
        &mut self.wants.window.body_bytes
    }

    /// Nothing is tried again by itself, and nothing is in doubt.
    pub(super) fn forget_retries(&mut self) {
        self.wants.queues.retries.clear();
        self.interrupted_installs.clear();
    }

    /// All chunks of a content came for a path.
    pub(super) fn came(&mut self, path: &SyncPath, staged: StageId, content: ContentId) {
        self.wants.by_path.get_mut(path).unwrap().received.staged = Some(staged);
        self.swarms.staged.insert(path.clone(), content);
    }
}

/// What other rooms ask of this one, and tell it.
impl Transfer {
    pub(super) fn want(&self, path: &SyncPath) -> Option<&Want> {
        self.wants.get(path)
    }

    pub(super) fn wants(&self) -> impl Iterator<Item = (&SyncPath, &Want)> {
        self.wants.iter()
    }

    /// Who announced something that is to come, and whether some of it is not here yet. What failed
    /// or is stuck is not coming.
    pub(super) fn coming(&self) -> BTreeMap<LinkId, bool> {
        let mut coming: BTreeMap<LinkId, bool> = BTreeMap::new();
        for (_, want) in self.wants.iter().filter(|(_, want)| !want.is_stuck() && !want.has_failed()) {
            let is_here = matches!(want.step, Step::Installing(_));
            for link in &want.sources {
                *coming.entry(*link).or_default() |= !is_here;
            }
        }
        coming
    }

    pub(super) fn is_wanted(&self, path: &SyncPath) -> bool {
        self.wants.get(path).is_some()
    }

    /// Since when it is wanted (`Now::mono`).
    pub(super) fn wanted_since(&self, path: &SyncPath) -> Option<u64> {
        self.wants.get(path).map(|want| want.since)
    }

    pub(super) fn has_wants(&self) -> bool {
        !self.wants.by_path.is_empty()
    }

    pub(super) fn want_count(&self) -> usize {
        self.wants.by_path.len()
    }

    /// Something can go on at once.
    pub(super) fn has_ready(&self) -> bool {
        self.wants.has_ready()
    }

    /// Nothing that will change soon keeps it.
    pub(super) fn is_stuck(&self, path: &SyncPath) -> bool {
        self.wants.get(path).is_some_and(Want::is_stuck)
    }

    pub(super) fn note_failed(&mut self, path: &SyncPath) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.note_failed();
        }
    }

    pub(super) fn note_open(&mut self, path: &SyncPath) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.note_open();
        }
    }

    /// The author of a wanted version is to be told when it is here. `false`: it is not wanted.
    pub(super) fn note_ack_owed(&mut self, path: &SyncPath, link: LinkId, counter: u64) -> bool {
        let want = self.wants.by_path.get_mut(path);
        want.map(|want| want.owes_ack = Some((link, counter))).is_some()
    }

    pub(super) fn make_ready(&mut self, path: &SyncPath) {
        self.wants.make_ready(path);
    }

    pub(super) fn retry_at(&mut self, due: u64, path: &SyncPath) {
        self.wants.queues.retries.insert((due, path.clone()));
    }

    /// An id that no fetch, install or request has.
    pub(super) fn next_id(&mut self) -> u64 {
        self.wants.next_id()
    }

    /// Something about to go waits to have this content copied.
    pub(super) fn note_copied_from(&mut self, content: ContentId) {
        self.wants.copied_from.insert(content);
    }

    /// The content is wanted at another path as well.
    pub(super) fn is_wanted_beside(&self, content: ContentId, path: &SyncPath) -> bool {
        self.wants.is_wanted_beside(content, path)
    }

    /// The paths strictly below `dir` (`None`: all) that are being installed.
    pub(super) fn installing_below(&self, dir: Option<&SyncPath>) -> Vec<SyncPath> {
        self.wants.installing_below(dir)
    }

    /// Contents handed over to be installed (bytes).
    pub(super) fn installing_bytes(&self) -> u64 {
        self.wants.window.installing_bytes
    }

    /// What is there is being renamed to another spelling.
    pub(super) fn is_being_renamed(&self, path: &SyncPath) -> bool {
        self.wants.jobs.values().any(|job| job.renamed.as_ref() == Some(path))
    }

    /// How many wait in its queue before it.
    pub(super) fn place_in_queue(&self, path: &SyncPath) -> Option<usize> {
        let place = |queue: &VecDeque<SyncPath>| queue.iter().position(|other| other == path);
        place(&self.wants.queues.small).or_else(|| place(&self.wants.queues.large))
    }

    pub(super) fn fetched_from(&self, fetch: FetchId) -> Option<LinkId> {
        self.wants.fetching.get(&fetch).map(|fetching| fetching.link)
    }

    /// The disk was full a moment ago.
    pub(super) fn awaits_space(&self, now: Now) -> bool {
        now.mono < self.wants.window.full_until
    }

    /// All that is wanted at the start may have been interrupted by the end of the last run.
    pub(super) fn doubt_all(&mut self) {
        self.interrupted_installs = self.wants.by_path.keys().cloned().collect();
    }

    /// An install may have been interrupted here.
    pub(super) fn was_interrupted(&self, path: &SyncPath) -> bool {
        self.interrupted_installs.contains(path)
    }

    /// What is there is known again. Whether it was in doubt.
    pub(super) fn clear_interrupted(&mut self, path: &SyncPath) -> bool {
        self.interrupted_installs.remove(path)
    }
}
