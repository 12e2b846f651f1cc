//! The first scan of a folder, or of one that came back from a backup: it lasts until its last
//! inspection is over (P8).
//!
//! What such a walk came by counts as found by it, whatever makes the engine look there first.
//! Deliberately not here: the walk (`walk.rs`), and what being found so means (`merge.rs`,
//! `inspect.rs`).

use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::merge::ObservationSource;
use crate::engine::observe::Observe;
use crate::engine::{Engine, META_RESTORED, META_SCANNED, Trust};
use crate::model::SyncPath;
use std::collections::BTreeMap;

pub(in crate::engine) struct Scan {
    finds: ObservationSource,
    /// A whole walk of this run has ended.
    is_walked: bool,
    /// The folder came back from a backup, and some of it was not inspected since.
    is_restoring: bool,
    /// Come by, and still to be inspected.
    left: BTreeMap<SyncPath, ObservationSource>,
}

impl Scan {
    pub fn new(finds: ObservationSource) -> Self {
        Self { finds, is_walked: false, is_restoring: finds == ObservationSource::Restored, left: BTreeMap::new() }
    }

    /// What a whole walk finds counts as this.
    pub fn finds(&self) -> ObservationSource {
        self.finds
    }

    /// Found so, or as the scan came by it before.
    pub fn come_by(&mut self, path: &SyncPath, found: ObservationSource) -> ObservationSource {
        if let Some(before) = self.left.get(path) {
            return *before;
        }
        if matches!(found, ObservationSource::First | ObservationSource::Restored) {
            self.left.insert(path.clone(), found);
        }
        found
    }

    /// It was inspected, or something known was installed over it; how it was come by.
    pub fn inspected(&mut self, path: &SyncPath) -> Option<ObservationSource> {
        self.left.remove(path)
    }

    /// Nobody will look at what is covered now.
    pub fn forget(&mut self, is_ignored: impl Fn(&SyncPath) -> bool) {
        self.left.retain(|path, _| !is_ignored(path));
    }

    pub fn walked(&mut self) {
        self.is_walked = true;
    }

    pub fn is_walked(&self) -> bool {
        self.is_walked
    }
}

impl Observe {
    /// Whether the folder counts as the index's again. Until then its marker must stay as it is, so
    /// that a restart begins the scan anew.
    pub(in crate::engine) fn trust(&self) -> Trust {
        if self.scan.is_restoring { Trust::Restored } else { Trust::Known }
    }
}

impl<I: Index> Engine<I> {
    /// Whether the folder counts as the index's again. Until then its marker must stay as it is, so
    /// that a restart begins the scan anew.
    pub fn trust(&self) -> Trust {
        self.observe.trust()
    }

    /// Ends the scan if there is nothing left of it. What could not be inspected in a backup is of
    /// the backup still, after a restart too.
    pub(in crate::engine) fn end_scan(&mut self, now: Now) {
        let is_over = self.observe.scan.finds != ObservationSource::Walked
            && self.observe.scan.is_walked
            && self.observe.scan.left.is_empty();
        if is_over && !self.observe.walking.walks.values().any(|walk| walk.finds() == self.observe.scan.finds) {
            self.observe.scan.finds = ObservationSource::Walked;
            self.core.index.set_meta(META_SCANNED, b"1");
            // Peers wait to hear it, and change after change might keep the news from resting.
            self.announce_state_to_all(now);
        }
        let is_unseen =
            || self.observe.inspecting.unseen.values().any(|unseen| unseen.found == ObservationSource::Restored);
        if self.observe.scan.is_restoring && self.observe.scan.finds == ObservationSource::Walked && !is_unseen() {
            self.observe.scan.is_restoring = false;
            if self.core.index.meta(META_RESTORED).is_some() {
                self.core.index.set_meta(META_RESTORED, &[]);
            }
        }
    }
}
