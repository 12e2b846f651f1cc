//! `MapIndex`: the [`Index`] of the simulator and of tests, in ordered maps.
//!
//! Simple enough to be obviously right: `io/index` is tested against it, operation by operation.
//! Cloning it takes a snapshot, as a crash does of what was committed. May import `model` and
//! `wire`. Deliberately not here: anything durable, and anything that is fast by being clever.

use crate::engine::api::digest::{Digests, bucket_of, counts, deleted_at, entry_hash};
use crate::engine::api::index::{Conflict, ConflictFilter, Counts, Index, Row};
use crate::engine::limits::HOLDERS_SEEN;
use crate::model::{ContentId, Entry, Kind, SyncPath};
use crate::wire::conflict::ConflictKey;
use crate::wire::message::{Bucket, Digest, Group};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// An index in memory.
#[derive(Default)]
pub struct MapIndex {
    rows: BTreeMap<SyncPath, Row>,
    buckets: BTreeMap<Bucket, BTreeSet<SyncPath>>,
    meta: BTreeMap<String, Vec<u8>>,
    conflicts: BTreeMap<ConflictKey, Conflict>,
    last_conflict: i64,
    horizon: u64,
    today: u64,
    /// The day on which each deletion was learned.
    learned: BTreeMap<SyncPath, u64>,
    /// Made when asked for, forgotten at each write.
    digests: Option<Digests>,
}

/// The digests are made again in the copy when it is asked for them.
impl Clone for MapIndex {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            buckets: self.buckets.clone(),
            meta: self.meta.clone(),
            conflicts: self.conflicts.clone(),
            last_conflict: self.last_conflict,
            horizon: self.horizon,
            today: self.today,
            learned: self.learned.clone(),
            digests: None,
        }
    }
}

impl MapIndex {
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows in path order, for oracles.
    pub fn rows(&self) -> impl Iterator<Item = (&SyncPath, &Row)> {
        self.rows.iter()
    }

    /// Rows strictly below `dir` (`None`: the root) and after `after`.
    fn range(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>) -> impl Iterator<Item = (&SyncPath, &Row)> {
        let start = dir.max(after).map_or(Unbounded, Excluded);
        // Names that begin with the folder's bytes stand together; `a-b` among them is not below
        // `a`.
        self.rows
            .range::<SyncPath, _>((start, Unbounded))
            .take_while(move |(path, _)| dir.is_none_or(|dir| path.as_bytes().starts_with(dir.as_bytes())))
            .filter(move |(path, _)| dir.is_none_or(|dir| path.is_below(dir)))
    }

    fn digests(&mut self) -> &mut Digests {
        let Self { rows, buckets, horizon, digests, .. } = self;
        digests.get_or_insert_with(|| {
            let mut made = Digests::default();
            for (&bucket, paths) in buckets.iter() {
                let heard = paths.iter().filter(|path| !rows[*path].is_unheard());
                let winners = heard.map(|path| (path, &rows[path].head));
                let counted = winners.filter(|(_, winner)| counts(winner, *horizon));
                made.set(bucket, counted.map(|(path, winner)| entry_hash(path, winner)).collect());
            }
            made.refresh(|_| Vec::new());
            made
        })
    }
}

impl Index for MapIndex {
    fn get(&self, path: &SyncPath) -> Option<Row> {
        self.rows.get(path).cloned()
    }

    fn put(&mut self, path: &SyncPath, row: &Row) {
        self.digests = None;
        let old = self.rows.insert(path.clone(), row.clone());
        if row.head.is_live() {
            self.learned.remove(path);
        } else if old.is_none_or(|old| old.head != row.head) {
            self.learned.insert(path.clone(), self.today);
        }
        self.buckets.entry(bucket_of(path)).or_default().insert(path.clone());
    }

    fn remove(&mut self, path: &SyncPath) {
        self.digests = None;
        self.rows.remove(path);
        self.learned.remove(path);
        if let Some(paths) = self.buckets.get_mut(&bucket_of(path)) {
            paths.remove(path);
        }
    }

    fn below(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Row)> {
        self.range(dir, after).take(limit).map(|(path, row)| (path.clone(), row.clone())).collect()
    }

    fn any_live_below(&self, dir: &SyncPath) -> bool {
        self.range(Some(dir), None).any(|(_, row)| row.head.is_live())
    }

    fn any_on_disk_below(&self, dir: &SyncPath) -> bool {
        self.range(Some(dir), None).any(|(_, row)| row.live_on_disk().is_some())
    }

    fn unsettled(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        let unsettled = self.range(None, after).filter(|(_, row)| !row.is_settled());
        unsettled.take(limit).map(|(path, _)| path.clone()).collect()
    }

    fn local(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath> {
        let local = self.range(None, after).filter(|(_, row)| row.is_local());
        local.take(limit).map(|(path, _)| path.clone()).collect()
    }

    fn find_holder(&self, content: &ContentId, accepts: &mut dyn FnMut(&SyncPath, &Row) -> bool) -> Option<SyncPath> {
        let holds =
            |row: &Row| row.disk.as_ref().and_then(|disk| disk.entry.file()).is_some_and(|(id, _)| id == *content);
        let mut holders = self.rows.iter().filter(|(_, row)| holds(row)).take(HOLDERS_SEEN);
        holders.find(|(path, row)| accepts(path, row)).map(|(path, _)| path.clone())
    }

    fn bucket(&self, bucket: Bucket) -> Vec<(SyncPath, Entry)> {
        let paths = self.buckets.get(&bucket).into_iter().flatten();
        let heard = paths.filter(|path| !self.rows[*path].is_unheard());
        heard.map(|path| (path.clone(), self.rows[path].head.clone())).collect()
    }

    fn root_digest(&mut self) -> Digest {
        self.digests().root()
    }

    fn group_digests(&mut self) -> Vec<Digest> {
        self.digests().groups()
    }

    fn bucket_digests(&mut self, group: Group) -> Vec<Digest> {
        self.digests().group(group)
    }

    fn set_horizon(&mut self, deleted_before: u64) {
        self.digests = None;
        self.horizon = deleted_before;
    }

    fn set_today(&mut self, day: u64) {
        self.today = day;
    }

    fn forget_deletions(&mut self, learned_before: u64, deleted_before: u64, limit: usize) -> u64 {
        let may_go = |path: &SyncPath| {
            let row = &self.rows[path];
            let is_old = deleted_at(&row.head).is_some_and(|at| at < deleted_before);
            is_old && row.is_settled() && row.installing.is_none()
        };
        let learned = self.learned.iter().filter(|(path, day)| **day < learned_before && may_go(path));
        let gone: Vec<_> = learned.take(limit).map(|(path, _)| path.clone()).collect();
        for path in &gone {
            self.remove(path);
        }
        gone.len() as u64
    }

    fn counts(&self) -> Counts {
        self.rows.values().fold(Counts::default(), |mut counts, row| {
            match &row.head.kind {
                Kind::File { size, .. } => {
                    counts.files += 1;
                    counts.bytes = counts.bytes.wrapping_add(*size);
                }
                Kind::Directory => counts.directories += 1,
                Kind::Symlink { .. } => counts.symlinks += 1,
                Kind::Deleted { .. } => counts.deleted += 1,
            }
            counts.pending += u64::from(!row.is_settled() && !row.is_local());
            counts.local += u64::from(row.is_local());
            counts
        })
    }

    fn conflict(&self, key: &ConflictKey) -> Option<Conflict> {
        self.conflicts.get(key).cloned()
    }

    fn put_conflict(&mut self, conflict: &Conflict) {
        let known = self.conflicts.get(&conflict.key()).map(|known| known.id);
        let id = known.unwrap_or(self.last_conflict + 1);
        self.last_conflict = self.last_conflict.max(id);
        self.conflicts.insert(conflict.key(), Conflict { id, ..conflict.clone() });
    }

    fn conflicts(&self, wanted: &ConflictFilter) -> Vec<Conflict> {
        let mut found: Vec<_> = self.conflicts.values().filter(|known| known.is_wanted(wanted)).cloned().collect();
        found.sort_by_key(|conflict| conflict.id);
        found.truncate(wanted.limit);
        found
    }

    fn conflict_marks(&self) -> Vec<(ConflictKey, bool)> {
        self.conflicts.iter().map(|(key, conflict)| (*key, conflict.settled.is_some())).collect()
    }

    fn forget_conflicts(&mut self, settled_before: u64, most_own: usize) {
        let is_young =
            |conflict: &Conflict| conflict.settled.as_ref().is_none_or(|settled| settled.at >= settled_before);
        self.conflicts.retain(|_, conflict| is_young(conflict));
        let mut own: Vec<_> =
            self.conflicts.values().filter(|known| known.source.is_none()).map(|known| known.id).collect();
        own.sort_unstable();
        own.truncate(own.len().saturating_sub(most_own));
        self.conflicts.retain(|_, conflict| !own.contains(&conflict.id));
    }

    fn meta(&self, key: &str) -> Option<Vec<u8>> {
        self.meta.get(key).cloned()
    }

    fn set_meta(&mut self, key: &str, value: &[u8]) {
        self.meta.insert(key.to_owned(), value.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::index::OnDisk;
    use crate::engine::{Stat, StatKind};
    use crate::model::{DeviceId, FileTime, Mode, Version, VersionVector};

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn entry(kind: Kind) -> Entry {
        let version = Version { stamp: 7, author: DeviceId([1; 32]), seen: VersionVector::default() };
        Entry { kind, mode: Mode::NONE, mtime: FileTime::default(), version }
    }

    fn file(content: &[u8]) -> Entry {
        entry(Kind::File { size: content.len() as u64, content: ContentId::of(content) })
    }

    fn known(entry: Entry) -> Row {
        Row { head: entry, disk: None, installing: None, since: 0 }
    }

    fn here(entry: Entry) -> Row {
        let (mtime, mode) = (entry.mtime, entry.mode);
        let stat = Stat { kind: StatKind::File, size: 1, mtime, ctime: mtime, ino: 1, mode };
        Row {
            head: entry.clone(),
            disk: Some(OnDisk { entry, stat: Some(stat), local: false }),
            installing: None,
            since: 0,
        }
    }

    #[test]
    fn what_is_below_a_folder_is_told_from_what_is_named_alike() {
        let mut index = MapIndex::new();
        for name in ["a", "a-b", "a/b", "a/b/c", "a0", "b"] {
            index.put(&path(name), &known(file(b"x")));
        }
        let names = |dir: Option<&str>, after: Option<&str>, limit| {
            let rows = index.below(dir.map(path).as_ref(), after.map(path).as_ref(), limit);
            rows.iter().map(|(path, _)| path.to_text()).collect::<Vec<_>>()
        };
        assert_eq!(names(Some("a"), None, 9), ["a/b", "a/b/c"]);
        assert_eq!(names(Some("a"), Some("a/b"), 9), ["a/b/c"]);
        assert_eq!(names(Some("a"), Some("b"), 9), [""; 0]);
        assert_eq!(names(None, None, 2), ["a", "a-b"]);
        assert_eq!(names(None, Some("a0"), 9), ["b"]);
        assert!(index.any_live_below(&path("a")) && !index.any_on_disk_below(&path("a")));
        assert!(!index.any_live_below(&path("b")));
    }

    #[test]
    fn what_is_directly_in_a_folder_is_found_however_much_is_below_it_and_page_by_page() {
        let mut index = MapIndex::new();
        let deep: Vec<_> = (0..200).map(|n| format!("a/b/{n}/x")).collect();
        let longest = format!("a/b/{}", "\u{10ffff}".repeat(63));
        let names = ["a", "a-b", "a/a", "a/b", "a/b-c", "a/b0", "a/z", "a0", &longest];
        for name in names.into_iter().chain(deep.iter().map(String::as_str)) {
            index.put(&path(name), &known(file(b"x")));
        }
        let names = |dir: Option<&str>, after: Option<&str>, limit| {
            let rows = index.children(dir.map(path).as_ref(), after.map(path).as_ref(), limit);
            rows.iter().map(|(path, _)| path.to_text()).collect::<Vec<_>>()
        };
        assert_eq!(names(None, None, 9), ["a", "a-b", "a0"]);
        assert_eq!(names(Some("a"), None, 9), ["a/a", "a/b", "a/b-c", "a/b0", "a/z"]);
        assert_eq!(names(Some("a"), None, 2), ["a/a", "a/b"]);
        assert_eq!(names(Some("a"), Some("a/b"), 2), ["a/b-c", "a/b0"]);
        assert_eq!(names(Some("a/b"), None, 9).len(), 1, "folders that have no row are none");
        assert_eq!(names(Some("z"), None, 9), [""; 0]);
    }

    #[test]
    fn old_deletions_leave_the_digests_and_stay_in_their_bucket() {
        let mut index = MapIndex::new();
        let nothing = index.root_digest();
        index.put(&path("gone"), &known(entry(Kind::Deleted { at: 10 })));
        let young = index.root_digest();
        assert_ne!(young, nothing);
        index.set_horizon(11);
        assert_eq!(index.root_digest(), nothing);
        assert_eq!(index.bucket(bucket_of(&path("gone"))).len(), 1);
        index.set_horizon(10);
        assert_eq!(index.root_digest(), young);
    }

    #[test]
    fn counts_and_lists_follow_the_rows() {
        let mut index = MapIndex::new();
        index.put(&path("d"), &known(entry(Kind::Directory)));
        index.put(&path("d/f"), &here(file(b"12345")));
        index.put(&path("old"), &known(entry(Kind::Deleted { at: 1 })));
        let counts = index.counts();
        assert_eq!((counts.files, counts.directories, counts.deleted, counts.bytes, counts.pending), (1, 1, 1, 5, 1));
        assert_eq!(index.unsettled(None, 9), [path("d")]);
        assert_eq!(index.holders(&ContentId::of(b"12345")), [path("d/f")]);
        let committed = index.clone();
        index.remove(&path("d/f"));
        assert_eq!(index.get(&path("d/f")), None);
        assert!(committed.get(&path("d/f")).is_some(), "a snapshot does not follow");
    }
}
