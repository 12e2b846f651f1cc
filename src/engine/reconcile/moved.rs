//! Renames put nothing into history and send no contents: a deleted file whose content has just
//! come to another path here is not kept for long, and one that was deleted before its content came
//! to another path is copied from history.
//!
//! A rename arrives as a creation and a deletion, so the deleted file goes to history first, where
//! late writes to it are noticed. Once it has rested, and the content is still live and durable at
//! the path that it came to, the shell may drop the copy in history (P2). Each arrival stands for
//! one deletion, and an old duplicate for none: whoever deletes one of two equal files finds it in
//! history by its name. After a crash nothing is dropped. Deliberately not here: what goes from
//! history by age (`retention.rs`).

use crate::engine::Engine;
use crate::engine::api::action::Action;
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{Index, OnDisk};
use crate::engine::limits::{
    COPY_PATIENCE_NS, HISTORY_QUIET_NS, MOVED_AGAIN_NS, MOVED_CAP, MOVED_TRIES, RENAME_HALVES_NS,
};
use crate::engine::reconcile::Reconcile;
use crate::model::{ContentId, Entry, SyncPath};
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub(in crate::engine) struct MovedContents {
    came: BTreeMap<ContentId, Came>,
    /// The same in the order of time, also of contents that came again since.
    order: VecDeque<(u64, ContentId)>,
    /// Deleted files in history, in the order of `due`.
    deleted: VecDeque<Deleted>,
    /// How many of them are of a content.
    waiting: BTreeMap<ContentId, u32>,
    went: BTreeMap<ContentId, Went>,
    /// The same in the order of time, also of contents that went again since.
    went_order: VecDeque<(u64, ContentId)>,
}

/// A content that was at a path until `at`.
struct Went {
    at: u64,
    /// Its name in history, and its stat before. `None`: it was deleted here, and peers have it.
    kept: Option<(String, Stat)>,
}

/// A content that came to a path while it was at another one.
struct Came {
    /// Where it came to last, and when.
    path: SyncPath,
    at: u64,
    /// So many deletions may belong to it: each rename brings one.
    renames: u32,
}

struct Deleted {
    due: u64,
    tries: u32,
    /// Its name in history.
    kept: String,
    /// As it was when it was deleted.
    stat: Stat,
    content: ContentId,
}

impl MovedContents {
    /// A content came to a path. `copied`: from another path here.
    pub fn came(&mut self, now: Now, path: &SyncPath, content: ContentId, copied: bool) {
        while self.order.front().is_some_and(|(at, _)| at + RENAME_HALVES_NS < now.mono)
            || self.order.len() >= MOVED_CAP
        {
            let Some((at, content)) = self.order.pop_front() else { break };
            if self.came.get(&content).is_some_and(|came| came.at == at) {
                self.came.remove(&content);
            }
        }
        if !copied && !self.waiting.contains_key(&content) {
            return;
        }
        let renames = self.came.get(&content).map_or(0, |came| came.renames).saturating_add(1);
        self.came.insert(content, Came { path: path.clone(), at: now.mono, renames });
        self.order.push_back((now.mono, content));
    }

    /// A user here brought it to a path. If it has just come to another one in a rename, its user
    /// may be moving it on.
    pub fn came_by_user(&mut self, path: &SyncPath, content: ContentId) {
        if let Some(came) = self.came.get_mut(&content) {
            came.path = path.clone();
        }
    }

    /// A content is not at a path any more.
    pub fn went(&mut self, now: Now, content: ContentId, kept: Option<(String, Stat)>) {
        while self.went_order.front().is_some_and(|(at, _)| at + RENAME_HALVES_NS < now.mono)
            || self.went_order.len() >= MOVED_CAP
        {
            let Some((at, content)) = self.went_order.pop_front() else { break };
            if self.went.get(&content).is_some_and(|went| went.at == at) {
                self.went.remove(&content);
            }
        }
        let known = self.went.remove(&content).and_then(|went| went.kept);
        self.went.insert(content, Went { at: now.mono, kept: kept.or(known) });
        self.went_order.push_back((now.mono, content));
    }

    /// Whether it has just left a path here: the other half of a rename may follow.
    pub fn has_gone(&self, now: Now, content: &ContentId) -> bool {
        self.went.get(content).is_some_and(|went| went.at + RENAME_HALVES_NS >= now.mono)
    }

    /// A content's name in history, and its stat before it went there.
    pub fn kept(&self, now: Now, content: &ContentId) -> Option<(&str, Stat)> {
        let went = self.went.get(content).filter(|went| went.at + RENAME_HALVES_NS >= now.mono)?;
        let (kept, stat) = went.kept.as_ref()?;
        Some((kept, *stat))
    }

    /// A content came to a path from history, where its deletion had put it.
    pub fn came_back(&mut self, now: Now, path: &SyncPath, content: ContentId, kept: &str) {
        if !self.waiting.contains_key(&content)
            && let Some((known, stat)) = self.kept(now, &content)
            && known == kept
        {
            self.deleted(now, kept.to_owned(), stat, content);
        }
        self.came(now, path, content, true);
    }

    /// It is in history no more.
    fn dropped(&mut self, content: &ContentId, kept: &str) {
        if let Some(went) = self.went.get_mut(content) {
            went.kept.take_if(|(known, _)| known == kept);
        }
    }

    pub fn deleted(&mut self, now: Now, kept: String, stat: Stat, content: ContentId) {
        if self.deleted.len() < MOVED_CAP {
            self.deleted.push_back(Deleted { due: now.mono + HISTORY_QUIET_NS, tries: 0, kept, stat, content });
            *self.waiting.entry(content).or_default() += 1;
        }
    }

    fn take_due(&mut self, now: Now) -> Option<Deleted> {
        let deleted = self.deleted.pop_front_if(|deleted| deleted.due <= now.mono)?;
        if let Some(waiting) = self.waiting.get_mut(&deleted.content) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&deleted.content);
            }
        }
        Some(deleted)
    }

    pub fn next(&self) -> Option<u64> {
        self.deleted.front().map(|deleted| deleted.due)
    }
}

impl Reconcile {
    /// Perhaps the first half of a rename: a content came to a path; `is_copy`: from another path
    /// here, `kept`: from history, which has it by this name.
    pub(in crate::engine) fn note_arrival(
        &mut self,
        now: Now,
        path: &SyncPath,
        entry: &Entry,
        old: Option<&OnDisk>,
        is_copy: bool,
        kept: Option<&str>,
    ) {
        let old_content = old.and_then(|old| old.entry.file()).map(|(content, _)| content);
        if let Some((content, _)) = entry.file().filter(|(content, _)| old_content != Some(*content)) {
            match kept {
                Some(kept) => self.moved.came_back(now, path, content, kept),
                None => self.moved.came(now, path, content, is_copy),
            }
        }
    }

    /// A file went to history: perhaps the second half.
    pub(in crate::engine) fn note_deletion(
        &mut self,
        now: Now,
        entry: &Entry,
        old: Option<&OnDisk>,
        kept: Option<&String>,
    ) {
        let (Some(old), Some(kept)) = (old, kept) else { return };
        if let (Some((content, _)), Some(stat)) = (old.entry.file(), old.stat) {
            self.moved.went(now, content, Some((kept.clone(), stat)));
            if !entry.is_live() && !entry.conflicts_with(&old.entry) {
                self.moved.deleted(now, kept.clone(), stat, content);
            }
        }
    }
}

impl<I: Index> Engine<I> {
    /// Whether another path waits for the content of a file that is about to go.
    pub(in crate::engine) fn is_copied_from(&mut self, now: Now, path: &SyncPath, on_disk: &Entry) -> bool {
        let since = self.transfer.wanted_since(path).unwrap_or(0);
        let Some((content, _)) = on_disk.file() else { return false };
        let is_wanted = now.mono < since + COPY_PATIENCE_NS && self.transfer.is_wanted_beside(content, path);
        if is_wanted {
            self.transfer.note_copied_from(content);
        }
        is_wanted
    }

    /// Drops copies of deleted files that have rested and whose content is live where it has just
    /// come to.
    pub(in crate::engine) fn moved_due(&mut self, now: Now) {
        while let Some(deleted) = self.reconcile.moved.take_due(now) {
            let Some(came) = self
                .reconcile
                .moved
                .came
                .get_mut(&deleted.content)
                .filter(|came| came.renames > 0 && came.at + RENAME_HALVES_NS >= now.mono)
            else {
                continue;
            };
            came.renames -= 1;
            let path = came.path.clone();
            let Some(row) = self.core.index.get(&path) else { continue };
            let holds = |entry: &Entry| entry.file().is_some_and(|(content, _)| content == deleted.content);
            let Some((_, stat)) = row.live_on_disk().filter(|(entry, _)| holds(entry)) else { continue };
            if self.is_untrusted(&path) || self.transfer.is_busy(&path) || self.transfer.was_interrupted(&path) {
                continue;
            }
            if self.observe.awaits_rehash(&path) {
                // A write that the stat does not show may have changed it: its second hash tells.
                if deleted.tries < MOVED_TRIES {
                    if let Some(came) = self.reconcile.moved.came.get_mut(&deleted.content) {
                        came.renames += 1;
                    }
                    *self.reconcile.moved.waiting.entry(deleted.content).or_default() += 1;
                    let again = Deleted { due: now.mono + MOVED_AGAIN_NS, tries: deleted.tries + 1, ..deleted };
                    let at = self.reconcile.moved.deleted.partition_point(|other| other.due <= again.due);
                    self.reconcile.moved.deleted.insert(at, again);
                }
                continue;
            }
            self.reconcile.moved.dropped(&deleted.content, &deleted.kept);
            let Deleted { kept, stat: was, content, .. } = deleted;
            self.core.act(Action::DropKept { kept, was, content, path, stat: *stat });
        }
    }
}

#[cfg(test)]
mod tests;
