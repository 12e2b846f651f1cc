//! An index that notes what was written since the last commit, so that a crash can take it back.
//!
//! The rows are `MapIndex`'s; digests are kept up instead of made anew, as in the daemon's own
//! index.

use super::bugs::{Bug, by_mtime};
use super::tree::Ino;
use dirsyncd::engine::api::digest::{Digests, bucket_of, counts, deleted_at, entry_hash};
use dirsyncd::engine::api::index::{Conflict, ConflictFilter, Counts, Index, OnDisk, Row};
use dirsyncd::engine::api::map_index::MapIndex;
use dirsyncd::model::{ContentId, Entry, SyncPath};
use dirsyncd::wire::conflict::ConflictKey;
use dirsyncd::wire::message::{Bucket, Digest, Group};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Recorded {
    map: MapIndex,
    digests: Digests,
    horizon: u64,
    written: BTreeSet<SyncPath>,
    written_meta: BTreeSet<String>,
    has_new_conflicts: bool,
    bug: Option<Bug>,
}

/// What a commit wrote.
pub struct Written {
    pub rows: BTreeSet<SyncPath>,
    pub meta: BTreeSet<String>,
    pub conflicts: bool,
}

/// What was committed.
#[derive(Default, Clone)]
pub struct Durable {
    pub rows: BTreeMap<SyncPath, Row>,
    /// Every inode that a row ever named, and where.
    pub known: BTreeSet<(SyncPath, Ino)>,
    pub meta: BTreeMap<String, Vec<u8>>,
    pub conflicts: Vec<Conflict>,
}

impl Recorded {
    /// As it is opened after a start.
    pub fn open(durable: &Durable, bug: Option<Bug>) -> Self {
        let mut index = Self { bug, ..Self::default() };
        // On which day a deletion was learned is not among what was committed: later than any that
        // may go.
        index.map.set_today(u64::MAX);
        for (path, row) in &durable.rows {
            index.put(path, row);
        }
        for (key, value) in &durable.meta {
            index.map.set_meta(key, value);
        }
        for conflict in &durable.conflicts {
            index.map.put_conflict(conflict);
        }
        index.written.clear();
        index
    }

    /// Makes everything written durable, and names it.
    pub fn commit(&mut self, durable: &mut Durable) -> Written {
        let meta = std::mem::take(&mut self.written_meta);
        for key in &meta {
            let value = self.map.meta(key).unwrap_or_default();
            durable.meta.insert(key.clone(), value);
        }
        let conflicts = std::mem::take(&mut self.has_new_conflicts);
        if conflicts {
            durable.conflicts = self.all_conflicts();
        }
        let written = std::mem::take(&mut self.written);
        for path in &written {
            match self.map.get(path) {
                Some(row) => {
                    durable.known.extend(row.live_on_disk().map(|(_, stat)| (path.clone(), stat.ino)));
                    durable.rows.insert(path.clone(), row)
                }
                None => durable.rows.remove(path),
            };
        }
        Written { rows: written, meta, conflicts }
    }

    pub fn all_conflicts(&self) -> Vec<Conflict> {
        self.map.conflicts(&ConflictFilter { settled: true, limit: usize::MAX, ..ConflictFilter::default() })
    }

    fn refresh(&mut self) -> &mut Digests {
        let Self { map, digests, horizon, .. } = self;
        digests.refresh(|bucket| {
            let winners = map.bucket(bucket);
            let counted = winners.iter().filter(|(_, winner)| counts(winner, *horizon));
            counted.map(|(path, winner)| entry_hash(path, winner)).collect()
        });
        digests
    }
}

impl Index for Recorded {
    fn get(&self, path: &SyncPath) -> Option<Row> {
        self.map.get(path)
    }

    fn put(&mut self, path: &SyncPath, row: &Row) {
        match self.bug {
            Some(Bug::DropsTheStampRule) => self.map.put(path, &row_by_mtime(row)),
            Some(Bug::ForgetsWhatWasInstalling) => self.map.put(path, &Row { installing: None, ..row.clone() }),
            _ => self.map.put(path, row),
        }
        self.digests.touch(bucket_of(path));
        self.written.insert(path.clone());
    }

    fn remove(&mut self, path: &SyncPath) {
        self.map.remove(path);
        self.digests.touch(bucket_of(path));
        self.written.insert(path.clone());
    }

    fn below(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Row)> {
        self.map.below(dir, after, limit)
    }

    fn any_live_below(&self, dir: &SyncPath) -> bool {
        self.map.any_live_below(dir)
    }

    fn any_on_disk_below(&self, dir: &SyncPath) -> bool {
        self.map.any_on_disk_below(dir)
    }

    fn unsettled(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        self.map.unsettled(after, limit)
    }

    fn local(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        self.map.local(after, limit)
    }

    fn find_holder(&self, content: &ContentId, accepts: &mut dyn FnMut(&SyncPath, &Row) -> bool) -> Option<SyncPath> {
        self.map.find_holder(content, accepts)
    }

    fn bucket(&self, bucket: Bucket) -> Vec<(SyncPath, Entry)> {
        self.map.bucket(bucket)
    }

    fn root_digest(&mut self) -> Digest {
        self.refresh().root()
    }

    fn group_digests(&mut self) -> Vec<Digest> {
        self.refresh().groups()
    }

    fn bucket_digests(&mut self, group: Group) -> Vec<Digest> {
        self.refresh().group(group)
    }

    fn set_today(&mut self, day: u64) {
        self.map.set_today(day);
    }

    fn forget_deletions(&mut self, learned_before: u64, deleted_before: u64, limit: usize) -> u64 {
        let before: BTreeSet<SyncPath> = self.map.rows().map(|(path, _)| path.clone()).collect();
        let gone = self.map.forget_deletions(learned_before, deleted_before, limit);
        let left: BTreeSet<SyncPath> = self.map.rows().map(|(path, _)| path.clone()).collect();
        for path in before.difference(&left) {
            self.digests.touch(bucket_of(path));
            self.written.insert(path.clone());
        }
        gone
    }

    fn set_horizon(&mut self, deleted_before: u64) {
        let was = std::mem::replace(&mut self.horizon, deleted_before);
        let between = was.min(deleted_before)..was.max(deleted_before);
        for (path, row) in self.map.rows() {
            if deleted_at(&row.head).is_some_and(|at| between.contains(&at)) {
                self.digests.touch(bucket_of(path));
            }
        }
    }

    fn counts(&self) -> Counts {
        self.map.counts()
    }

    fn conflict(&self, key: &ConflictKey) -> Option<Conflict> {
        self.map.conflict(key)
    }

    fn put_conflict(&mut self, conflict: &Conflict) {
        self.map.put_conflict(conflict);
        self.has_new_conflicts = true;
    }

    fn conflicts(&self, wanted: &ConflictFilter) -> Vec<Conflict> {
        self.map.conflicts(wanted)
    }

    fn conflict_marks(&self) -> Vec<(ConflictKey, bool)> {
        self.map.conflict_marks()
    }

    fn forget_conflicts(&mut self, settled_before: u64, most_own: usize) {
        self.map.forget_conflicts(settled_before, most_own);
        self.has_new_conflicts = true;
    }

    fn meta(&self, key: &str) -> Option<Vec<u8>> {
        self.map.meta(key)
    }

    fn set_meta(&mut self, key: &str, value: &[u8]) {
        self.map.set_meta(key, value);
        self.written_meta.insert(key.to_owned());
    }
}

fn row_by_mtime(row: &Row) -> Row {
    let on_disk = |disk: &OnDisk| OnDisk { entry: by_mtime(disk.entry.clone()), ..disk.clone() };
    let installing = row.installing.clone().map(by_mtime);
    Row { head: by_mtime(row.head.clone()), disk: row.disk.as_ref().map(on_disk), installing, since: row.since }
}
