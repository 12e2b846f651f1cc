//! What is on disk here: from hints and walks to inspections, and what they say of a path.
//!
//! Deliberately not here: which version wins (`reconcile`), and whether what is gone is believed
//! to be deleted (`safety`).

pub(super) mod alias;
pub(super) mod arrivals;
pub(super) mod attention;
pub(super) mod inspect;
pub(super) mod keeps;
pub(super) mod kept_folders;
pub(super) mod missing;
pub(super) mod problems;
pub(super) mod rehash;
pub(super) mod scan;
pub(super) mod settle;
pub(super) mod special;
pub mod torn;
pub(super) mod walk;

use crate::engine::META_SCANNED;
use crate::engine::api::event::{Hint, Now, WalkId};
use crate::engine::api::file_system::Keeps;
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::merge::ObservationSource;
use crate::model::SyncPath;
use alias::Aliases;
use arrivals::Arrivals;
use attention::Attention;
use rehash::RacyRehash;
use scan::Scan;
use settle::{Debounced, Debouncer};
use std::collections::{BTreeMap, BTreeSet};
use torn::{Cut, TornFiles};
use walk::Walk;

/// What is known of the folder, and what is being found out.
pub(super) struct Observe {
    settle: Debouncer,
    inspecting: Inspecting,
    walking: Walking,
    arrivals: Arrivals,
    racy: RacyRehash,
    scan: Scan,
    problems: Problems,
    file_system: FileSystem,
    ignore: Ignore,
    attention: Attention,
    torn: TornFiles,
    /// The last run ended with a power cut.
    power_cut: Option<Cut>,
}

impl Observe {
    pub(super) fn load(index: &impl Index) -> Self {
        let finds =
            if index.meta(META_SCANNED).is_some() { ObservationSource::Walked } else { ObservationSource::First };
        Self {
            settle: Debouncer::default(),
            inspecting: Inspecting::default(),
            walking: Walking::default(),
            arrivals: Arrivals::default(),
            racy: RacyRehash::default(),
            scan: Scan::new(finds),
            problems: Problems::default(),
            file_system: FileSystem::default(),
            ignore: Ignore::default(),
            attention: Attention::default(),
            torn: TornFiles::load(index),
            power_cut: None,
        }
    }
}

/// Paths that are inspected, one by one.
#[derive(Default)]
pub(super) struct Inspecting {
    open: BTreeMap<SyncPath, Inspection>,
    /// To be inspected when the inspection or install under way is over.
    postponed: BTreeMap<SyncPath, Hint>,
    /// Seen empty once where there was something.
    emptied: BTreeSet<SyncPath>,
    /// Installed here: their echo is still to come.
    new_folders: BTreeSet<SyncPath>,
    unseen: BTreeMap<SyncPath, Unseen>,
    /// How what is being taken in was found here, if it was.
    finding: Option<ObservationSource>,
}

/// Folders that are listed against the index.
#[derive(Default)]
pub(super) struct Walking {
    walks: BTreeMap<WalkId, Walk>,
    /// Something was missed while a whole walk was under way: another one follows it.
    again: bool,
    last_id: u64,
    /// When the next whole walk begins, by `Now::mono`.
    next: u64,
    /// Walks whose listing is complete, until the root is known to be in order.
    concluding: Vec<WalkId>,
    /// What the last whole walk came by that patterns ignore.
    ignored: u64,
}

/// What needs a person, or is left alone.
#[derive(Default)]
pub(super) struct Problems {
    left_alone: BTreeMap<SyncPath, &'static str>,
    of_paths: BTreeMap<SyncPath, Problem>,
    /// Folders that were deleted elsewhere and stay for what patterns ignore in them, and why; no
    /// word of those above them.
    kept_folders: BTreeMap<SyncPath, Option<Problem>>,
    /// Folders with a name in them that is too long: when it was seen last (by `Now::mono`), and
    /// what is said.
    too_long: BTreeMap<SyncPath, (u64, Problem)>,
}

/// What the folder's file system keeps, and what it takes for the same.
#[derive(Default)]
pub(super) struct FileSystem {
    keeps: Keeps,
    aliases: Aliases,
    /// Where the disk keeps no modes.
    folders_by_inode: BTreeMap<u64, SyncPath>,
}

/// An inspection under way: how it came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inspection {
    found: ObservationSource,
    debounced: Option<Debounced>,
    rehash: bool,
    /// The path, or something in it, was seen since the inspection was asked for: if it finds
    /// nothing, that may be older news.
    seen_since: bool,
    /// Asked for by no hint and no walk, before the first walk of this run has ended.
    early: bool,
    /// When it was asked for (ns since 1970): what was seen is no older.
    asked: u64,
}

impl Inspection {
    pub(super) fn of(found: ObservationSource) -> Self {
        Self { found, debounced: None, rehash: false, seen_since: false, early: false, asked: 0 }
    }

    /// Asked for by no hint and no walk; `early`: before the first walk of this run has ended.
    pub(super) fn early(self, early: bool) -> Self {
        Self { early, ..self }
    }
}

/// What could not be inspected, or a folder that could not be looked into: how it was come by, and
/// how often it was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unseen {
    found: ObservationSource,
    tries: u32,
}

/// What other rooms ask of this one, and tell it.
impl Observe {
    /// The patterns in force.
    pub(super) fn patterns(&self) -> &Ignore {
        &self.ignore
    }

    pub(super) fn set_patterns(&mut self, ignore: Ignore) {
        self.ignore = ignore;
    }

    /// What patterns ignore by now needs no scan.
    pub(super) fn forget_ignored(&mut self) {
        self.scan.forget(|path| self.ignore.ignores(path, false));
    }

    /// Everything is being walked.
    pub(super) fn is_walking_all(&self) -> bool {
        self.walking.walks.values().any(Walk::is_whole)
    }

    /// A walk is under way.
    pub(super) fn is_walking(&self) -> bool {
        !self.walking.walks.is_empty()
    }

    pub(super) fn walk_is_due(&self, now: Now) -> bool {
        now.mono >= self.walking.next
    }

    /// No whole walk begins by itself before patterns are read.
    pub(super) fn wait_for_patterns(&mut self) {
        self.walking.next = u64::MAX;
    }

    /// The id that the next walk will have.
    pub(super) fn next_walk_id(&self) -> u64 {
        self.walking.last_id + 1
    }

    /// Nothing is concluded from walks that may have been of a wrong root.
    pub(super) fn drop_concluding_walks(&mut self) {
        for walk in std::mem::take(&mut self.walking.concluding) {
            self.walking.walks.remove(&walk);
        }
    }

    /// What the last whole walk came by that patterns ignore.
    pub(super) fn ignored_count(&self) -> u64 {
        self.walking.ignored
    }

    /// The folder came back from a backup: what is found counts as restored.
    pub(super) fn begin_restored(&mut self) {
        self.scan = Scan::new(ObservationSource::Restored);
    }

    /// How what a scan comes by counts as found.
    pub(super) fn finds(&self) -> ObservationSource {
        self.scan.finds()
    }

    /// How the scan had come by a path that is now known, if it had.
    pub(super) fn take_come_by(&mut self, path: &SyncPath) -> Option<ObservationSource> {
        self.scan.inspected(path)
    }

    /// The whole folder was walked in this run.
    pub(super) fn has_walked(&self) -> bool {
        self.scan.is_walked()
    }

    /// How what is being taken in was found here, if it was.
    pub(super) fn finding(&self) -> Option<ObservationSource> {
        self.inspecting.finding
    }

    /// Something at the path may have changed; an inspection follows once it has settled.
    pub(super) fn hint(&mut self, now: Now, path: SyncPath, hint: Hint) {
        self.settle.hint(now.mono, path, hint);
    }

    /// There were hints, and no inspection since.
    pub(super) fn is_noisy(&self, path: &SyncPath) -> bool {
        self.settle.is_noisy(path)
    }

    pub(super) fn is_inspecting(&self, path: &SyncPath) -> bool {
        self.inspecting.open.contains_key(path)
    }

    /// It is noisy, or is being inspected.
    pub(super) fn is_unsettled(&self, path: &SyncPath) -> bool {
        self.is_noisy(path) || self.is_inspecting(path)
    }

    /// It is being inspected, or will be.
    pub(super) fn is_to_be_seen(&self, path: &SyncPath) -> bool {
        self.is_inspecting(path) || self.inspecting.postponed.contains_key(path) || self.could_not_see(path)
    }

    /// Its last inspection failed; it is tried again.
    pub(super) fn could_not_see(&self, path: &SyncPath) -> bool {
        self.inspecting.unseen.contains_key(path)
    }

    pub(super) fn has_inspections(&self) -> bool {
        !self.inspecting.open.is_empty()
    }

    /// Neither hints nor inspections wait.
    pub(super) fn is_idle(&self) -> bool {
        self.settle.is_empty() && self.inspecting.open.is_empty()
    }

    /// Nothing is being inspected or walked.
    pub(super) fn has_seen_all(&self) -> bool {
        !self.is_walking() && !self.has_inspections()
    }

    /// An install there has ended: the inspection that waited for it is due.
    pub(super) fn resume_postponed(&mut self, now: Now, path: &SyncPath) {
        if let Some(hint) = self.inspecting.postponed.remove(path) {
            self.settle.hint(now.mono, path.clone(), hint);
        }
    }

    /// A folder was installed here: its echo is still to come.
    pub(super) fn note_installed_folder(&mut self, path: &SyncPath) {
        self.inspecting.new_folders.insert(path.clone());
    }

    #[cfg(test)]
    pub(super) fn awaits_echoes(&self) -> bool {
        !self.inspecting.new_folders.is_empty()
    }

    pub(super) fn forget_installed_folder(&mut self, path: &SyncPath) {
        self.inspecting.new_folders.remove(path);
    }

    /// Its second hash is still to come.
    pub(super) fn awaits_rehash(&self, path: &SyncPath) -> bool {
        self.racy.contains(path)
    }

    pub(super) fn rehash_is_overdue(&self, now: Now, path: &SyncPath) -> bool {
        self.racy.is_overdue(now.mono, path)
    }

    /// A peer is served: second hashes wait.
    pub(super) fn note_serving(&mut self, now: Now) {
        self.racy.serve(now.mono);
    }

    /// A power cut may have torn it.
    pub(super) fn is_torn(&self, path: &SyncPath) -> bool {
        self.torn.contains(path)
    }

    /// The last run ended with a power cut.
    pub(super) fn is_after_power_cut(&self) -> bool {
        self.power_cut.is_some()
    }

    /// Paths whose noise has settled.
    pub(super) fn take_settled(&mut self, now: Now) -> Vec<(SyncPath, Debounced)> {
        self.settle.take_due(now.mono)
    }

    /// Folders that came and are to be walked.
    pub(super) fn take_arrived(&mut self, now: Now, at_once: bool) -> Vec<SyncPath> {
        self.arrivals.take_due(now.mono, at_once)
    }

    pub(super) fn awaits_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// An event came, and the one before it.
    pub(super) fn note_event(&mut self, before: Now, now: Now) {
        self.attention.event(before, now);
    }

    /// What this folder's file system does not keep.
    pub(super) fn lacks(&self) -> Vec<String> {
        self.file_system.keeps.lacks()
    }

    /// Folders that were deleted elsewhere and stay, each with its own reason.
    pub(super) fn kept_folder_count(&self) -> u64 {
        self.problems.kept_folders.values().flatten().count() as u64
    }

    pub(super) fn left_alone_count(&self) -> u64 {
        self.problems.left_alone.len() as u64
    }

    pub(super) fn problem_of(&self, path: &SyncPath) -> Option<Problem> {
        self.problems.of_paths.get(path).cloned()
    }

    /// When something here is due, by `Now::mono`.
    pub(super) fn next_due(&self, arrivals_at_once: bool) -> Option<u64> {
        let due = [self.settle.next(), self.arrivals.next(arrivals_at_once), self.racy.next(), Some(self.walking.next)];
        due.into_iter().flatten().min()
    }
}
