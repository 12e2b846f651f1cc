//! The only write path to the rows of the index, and what follows from every write.
//!
//! Deliberately not here: what is stored beside rows (each room stores its own), and which row is
//! written (the rooms).

use crate::engine::Engine;
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::core::{Core, on_disk};
use crate::engine::limits::{PAGE, PURGE_AT_ONCE};
use crate::engine::merge;
use crate::model::path::IGNORE_FILE;
use crate::model::{Entry, SyncPath, Version};

impl<I: Index> Core<I> {
    /// Before a copy is made at a path where nothing is known: after a crash it is no local edit
    /// (P5). No head follows from it, and so nothing else.
    pub(super) fn begin_copy(&mut self, path: &SyncPath, entry: &Entry) {
        let copy = Row { head: merge::nothing(), disk: None, installing: Some(entry.clone()), since: 0 };
        self.index.put(path, &copy);
    }

    /// Forgets deletions that every known machine has, and counts them; at most so many at once.
    pub(super) fn forget_deletions(&mut self, learned_before: u64, deleted_before: u64) -> u64 {
        self.index.forget_deletions(learned_before, deleted_before, PURGE_AT_ONCE)
    }

    /// A copy that was begun never came.
    pub(super) fn forget_copy(&mut self, path: &SyncPath) {
        self.index.remove(path);
    }

    /// Before an entry is installed that is news only once it is here: after a crash it is no local
    /// edit (P5).
    pub(super) fn begin_install(&mut self, path: &SyncPath, row: Row, entry: &Entry) {
        self.index.put(path, &Row { installing: Some(entry.clone()), ..row });
    }

    /// What was found here since the start was compared with an index that does not go with it: it
    /// is found again, as in a folder that was restored.
    pub(super) fn forget_own_since_start(&mut self, start: u64) {
        let own = self.config.device;
        let is_new = |version: &Version| version.author == own && version.counter() > start;
        let mut after = None;
        loop {
            let page = self.index.below(None, after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, mut row) in page {
                if is_new(&row.head.version) {
                    self.index.remove(&path);
                } else if row.disk.take_if(|disk| is_new(&disk.entry.version)).is_some() {
                    self.index.put(&path, &row);
                }
            }
        }
    }
}

impl<I: Index> Engine<I> {
    /// Writes a row, and draws the consequences that every written row has.
    pub(super) fn store(&mut self, now: Now, path: &SyncPath, row: &Row) {
        let old = self.core.index.get(path);
        let was_directory = old.as_ref().is_some_and(|old| old.head.is_directory());
        let since = self.since(now, path, old.as_ref(), row);
        let dated = (since != row.since).then(|| Row { since, ..row.clone() });
        let row = dated.as_ref().unwrap_or(row);
        let is_patterns = path.as_bytes() == IGNORE_FILE.as_bytes();
        let were_whole = !is_patterns || self.patterns_are_whole();
        self.core.index.put(path, row);
        self.observe.note_folder(path, row);
        for other in self.note_name(path, row) {
            self.transfer.retry_now(&other);
        }
        // What was announced to nobody is no loss of the group's.
        let is_meant = self.safety.is_meant(&self.core, now, path, old.as_ref(), row)
            || [old.as_ref(), Some(row)].into_iter().flatten().any(Row::is_local);
        self.account(now, path, old.as_ref(), row, is_meant);
        self.safety.review_suspect(&mut self.core, path, row);
        self.observe.review_torn(&mut self.core, path, row);
        let become_whole = !were_whole && self.patterns_are_whole();
        if is_patterns && (become_whole || on_disk(old.as_ref()) != on_disk(Some(row))) {
            self.safety.read_patterns(&mut self.core);
        }
        self.note_stamp(now, row.head.version.stamp);
        self.peers.note_counters(&row.head.version);
        self.state_changed(now);
        self.check_parent(now, path, &row.head);
        if was_directory {
            self.check_children(now, path, &row.head);
        }
        if self.core.wants(row) || self.transfer.is_busy(path) {
            self.want(now, path, row);
        } else {
            self.unwant(path);
        }
        if old.is_some_and(|old| old.is_unheard()) && row.head == merge::nothing() && row.live_on_disk().is_none() {
            // Nobody ever heard of it, and it is gone.
            self.core.index.remove(path);
        }
    }
}
