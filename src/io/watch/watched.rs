//! Which folder each watch speaks of.

use crate::model::SyncPath;
use std::collections::{BTreeMap, HashMap};

/// Both ways; in path order, so that all below a folder is a range. `None`, or no bytes, is the root.
#[derive(Debug, Default)]
pub(super) struct Watched {
    folders: HashMap<i32, Option<SyncPath>>,
    watches: BTreeMap<Vec<u8>, i32>,
}

impl Watched {
    /// An inode has one watch: it may have been known by another name, and the name may have been another inode's.
    pub(super) fn insert(&mut self, watch: i32, folder: Option<SyncPath>) {
        self.remove(watch);
        if let Some(before) = self.watches.insert(bytes(folder.as_ref()).to_vec(), watch) {
            self.folders.remove(&before);
        }
        self.folders.insert(watch, folder);
    }

    pub(super) fn contains(&self, watch: i32) -> bool {
        self.folders.contains_key(&watch)
    }

    pub(super) fn folder(&self, watch: i32) -> Option<&Option<SyncPath>> {
        self.folders.get(&watch)
    }

    pub(super) fn remove(&mut self, watch: i32) {
        if let Some(folder) = self.folders.remove(&watch) {
            self.watches.remove(bytes(folder.as_ref()));
        }
    }

    /// Forgets a folder and all below it; their watches.
    pub(super) fn remove_tree(&mut self, folder: &SyncPath) -> Vec<i32> {
        let below = folder.range_below();
        let own = self.watches.get(folder.as_bytes());
        let gone: Vec<_> =
            own.into_iter().chain(self.watches.range(below.0..below.1).map(|(_, w)| w)).copied().collect();
        for watch in &gone {
            self.remove(*watch);
        }
        gone
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.folders.len(), self.watches.len());
        self.folders.len()
    }
}

fn bytes(folder: Option<&SyncPath>) -> &[u8] {
    folder.map_or(b"", SyncPath::as_bytes)
}
