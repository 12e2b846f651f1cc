//! New versions: what changed here gets a stamp, a counter and this machine as its author.
//!
//! Deliberately not here: the rule of stamps (`merge.rs`).

use crate::engine::Engine;
use crate::engine::api::event::{Hint, Now, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::COUNTERS_RESERVED;
use crate::engine::merge::{self, MadeHere};
use crate::engine::reconcile::Reconcile;
use crate::model::version::{STAMP_LIMIT, STAMP_STEP};
use crate::model::{Entry, FileTime, Kind, Mode, SyncPath, Version};
use crate::wire::message::Change;
use bytes::Bytes;

impl Reconcile {
    /// A new version, made here.
    pub(in crate::engine) fn mint<I: Index>(
        &mut self,
        core: &mut Core<I>,
        kind: Kind,
        mode: Mode,
        mtime: FileTime,
        stamp: u64,
        base: Option<&Entry>,
    ) -> Entry {
        self.use_counter(core, self.counter.last + 1);
        let seen = base.map(|base| base.version.seen.clone()).unwrap_or_default();
        let stamp = stamp.min(STAMP_LIMIT - 1);
        let version =
            Version { stamp, author: core.config.device, seen: seen.made_by(core.config.device, self.counter.last) };
        Entry { kind, mode, mtime, version }
    }

    /// Counters up to the one in the index are never used again: they are reserved there, many at a
    /// time, before use.
    pub(in crate::engine) fn use_counter<I: Index>(&mut self, core: &mut Core<I>, counter: u64) {
        self.counter.last = counter;
        if counter > self.counter.reserved {
            self.counter.reserved = counter + COUNTERS_RESERVED;
            core.index.set_meta(crate::engine::META_COUNTER, &self.counter.reserved.to_be_bytes());
        }
    }

    /// A renamed or copied file's bytes need not travel: the peers have them. Of a renamed one the
    /// old name may have been found missing first, and then they have it in their histories.
    fn is_held_elsewhere<I: Index>(&self, core: &Core<I>, now: Now, path: &SyncPath, entry: &Entry) -> bool {
        entry.file().is_some_and(|(content, _)| {
            self.moved.has_gone(now, &content) || core.index.holders(&content).iter().any(|holder| holder != path)
        })
    }
}

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn delete(&mut self, now: Now, path: &SyncPath) {
        if self.transfer.is_busy(path) {
            self.observe.postpone(path, Hint::Gone);
            return;
        }
        let Some(row) = self.core.index.get(path) else { return };
        let Some(base) = row.live_on_disk().map(|(entry, _)| entry.clone()) else { return };
        if self.was_deleted_anyway(now, path) {
            return;
        }
        let made = MadeHere {
            kind: Kind::Deleted { at: now.wall },
            mode: Mode::NONE,
            mtime: FileTime::default(),
            stamp: base.version.stamp + STAMP_STEP,
            base: Some(base),
            stat: None,
            body: None,
        };
        self.made_here(now, path, made);
    }

    /// A version made here, on top of what was on disk (never of what the index had merely heard
    /// of), which is announced to all if it wins.
    pub(in crate::engine) fn changed_here(
        &mut self,
        now: Now,
        path: &SyncPath,
        entry: Entry,
        stat: Option<Stat>,
        body: Option<Bytes>,
    ) {
        let old = self.core.index.get(path);
        if entry.is_live() {
            self.safety.note_life();
        }
        let wins = old.as_ref().is_none_or(|row| entry.beats(&row.head));
        let winner = match &old {
            Some(row) if !wins => row.head.clone(),
            _ => entry.clone(),
        };
        let moved = body.is_some() && self.reconcile.is_held_elsewhere(&self.core, now, path, &entry);
        let gone = old.as_ref().and_then(Row::live_on_disk).and_then(|(old, _)| old.file());
        if let Some((content, _)) = gone.filter(|_| !entry.is_live()) {
            self.reconcile.moved.went(now, content, None);
        }
        if let Some((content, _)) = entry.file().filter(|file| gone != Some(*file)) {
            self.reconcile.moved.came_by_user(path, content);
        }
        let since = old.as_ref().map_or(0, |row| row.since);
        let row = Row { head: winner, disk: Some(merge::on_disk(entry.clone(), stat)), installing: None, since };
        self.store(now, path, &row);
        self.keep_base(path, &entry, stat);
        self.merge_due(path);
        if wins {
            let body = body.filter(|_| !moved);
            let was = old.as_ref().and_then(Row::live_on_disk).map(|(entry, _)| entry.kind.clone());
            self.announce_over(now, Change { path: path.clone(), entry, body }, was, Vec::new());
        }
    }
}
