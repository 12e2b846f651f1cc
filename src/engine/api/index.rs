//! What the engine knows of every path, behind a trait: SQLite in the daemon, a map in the
//! simulator.

use crate::engine::Stat;
use crate::engine::limits::{CHILDREN_AT_ONCE, HOLDERS};
use crate::engine::merge::nothing;
use crate::model::path::MAX_COMPONENT_BYTES;
use crate::model::{ContentId, DeviceId, Entry, SyncPath};
use crate::wire::conflict::{ConflictKey, Sides};
use crate::wire::message::{Bucket, Digest, Group};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What is on disk here at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// The version that the disk holds; a deletion where it was deleted here.
    pub entry: Entry,
    /// As read back after it was installed or hashed; `None` for a deletion.
    pub stat: Option<Stat>,
    /// It was made here and announced to nobody. `entry` then has the version of the group that it
    /// was made on top of, and contents of its own.
    pub local: bool,
}

/// The two columns of a path, and a third for the time of an install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The greatest entry heard of, by `Entry::rank`.
    pub head: Entry,
    /// `None`: never here. It differs from the winner while content is on its way.
    pub disk: Option<OnDisk>,
    /// An entry whose install was under way when the winner moved on. After a crash the disk may
    /// hold it; it is then no local edit (P5).
    pub installing: Option<Entry>,
    /// If a file is on disk here: when this machine first held its content, by the engine's steady
    /// clock (`Engine::steady`). A rename or a copy keeps it; 0 is long ago: it was here before the
    /// index.
    pub since: u64,
}

impl Row {
    /// Whether the disk holds a change that was made here, was announced to nobody, and stays: no
    /// newer version of the group came since, and no person put it aside.
    pub fn is_local(&self) -> bool {
        let stands = |disk: &OnDisk| disk.local && disk.entry.version == self.head.version;
        !self.is_settled() && self.disk.as_ref().is_some_and(stands)
    }

    /// Whether the group never heard of the path: all there is of it is local.
    pub fn is_unheard(&self) -> bool {
        self.head == nothing() && !self.is_settled() && self.disk.as_ref().is_some_and(|disk| disk.local)
    }

    /// Whether the disk holds the winner.
    pub fn is_settled(&self) -> bool {
        match &self.disk {
            Some(disk) => disk.entry == self.head,
            None => !self.head.is_live(),
        }
    }

    /// What is live on disk.
    pub fn live_on_disk(&self) -> Option<(&Entry, &Stat)> {
        let disk = self.disk.as_ref()?;
        disk.stat.as_ref().filter(|_| disk.entry.is_live()).map(|stat| (&disk.entry, stat))
    }
}

/// No name directly in a folder comes after this one; `None` if the folder's path is too long.
fn last_below(folder: &[u8]) -> Option<SyncPath> {
    SyncPath::new([folder, b"/", &[0xff; MAX_COMPONENT_BYTES][..]].concat()).ok()
}

/// What is kept of each device under a name; empty if nothing is, or nothing that can be read.
pub(in crate::engine) fn load_by_device<V: DeserializeOwned>(index: &impl Index, key: &str) -> BTreeMap<DeviceId, V> {
    index.meta(key).and_then(|stored| postcard::from_bytes(&stored).ok()).unwrap_or_default()
}

pub(in crate::engine) fn store_by_device<V: Serialize>(
    index: &mut impl Index,
    key: &str,
    devices: &BTreeMap<DeviceId, V>,
) {
    index.set_meta(key, &postcard::to_stdvec(devices).expect("writing to memory does not fail"));
}

/// Totals over the winners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub deleted: u64,
    /// Of the files (bytes).
    pub bytes: u64,
    /// Paths whose winner is not on disk here, but for local changes.
    pub pending: u64,
    /// Local changes (`Row::is_local`).
    pub local: u64,
}

/// Two versions that were made apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Grows; 0 before it is stored.
    pub id: i64,
    /// When it was found, nanoseconds since 1970.
    pub at: u64,
    pub path: SyncPath,
    /// The loser's name in history, if it lost here.
    pub kept: Option<String>,
    pub settled: Option<Settled>,
    pub sides: Sides,
    /// Who told of it; `None`: it was found here.
    pub source: Option<ConflictSource>,
}

impl Conflict {
    pub fn key(&self) -> ConflictKey {
        ConflictKey::of(&self.path, &self.sides.loser.version)
    }

    pub fn is_wanted(&self, wanted: &ConflictFilter) -> bool {
        let is_there =
            wanted.path.as_ref().is_none_or(|path| self.path == *path || (wanted.below && self.path.is_below(path)));
        is_there && self.id > wanted.after && (wanted.settled || self.settled.is_none())
    }
}

/// How a conflict was decided, and when, by this machine's steady clock (`Engine::steady`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub how: String,
    pub at: u64,
}

/// Who told of a conflict, and whether that machine was told of it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictSource {
    pub device: DeviceId,
    pub relayed: bool,
}

/// Which conflicts are asked for.
#[derive(Debug, Clone, Default)]
pub struct ConflictFilter {
    /// Of this path alone, or of all.
    pub path: Option<SyncPath>,
    /// Of what is below `path`, too.
    pub below: bool,
    /// Also those that were decided.
    pub settled: bool,
    /// Those that came after this one.
    pub after: i64,
    pub limit: usize,
}

/// Everything that is kept between starts. Writes are seen by reads at once and become durable
/// when the shell commits. Lists come in path order (byte order).
///
/// Failures of storage are the shell's affair: after one, reads may return nothing, and the commit
/// fails.
pub trait Index {
    fn get(&self, path: &SyncPath) -> Option<Row>;
    fn put(&mut self, path: &SyncPath, row: &Row);
    fn remove(&mut self, path: &SyncPath);

    /// Up to `limit` rows strictly below `dir` (`None`: the root), after `after`.
    fn below(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Row)>;
    /// Up to `limit` rows directly in `dir`, after `after`: what is below a folder is skipped.
    fn children(&self, dir: Option<&SyncPath>, after: Option<&SyncPath>, limit: usize) -> Vec<(SyncPath, Row)> {
        let names_from = dir.map_or(0, |dir| dir.as_bytes().len() + 1);
        let (mut found, mut after) = (Vec::new(), after.cloned());
        let mut at_once = CHILDREN_AT_ONCE;
        loop {
            let page = self.below(dir, after.as_ref(), at_once);
            if page.is_empty() {
                return found;
            }
            at_once = (2 * at_once).min(CHILDREN_AT_ONCE);
            for (path, row) in page {
                let folder = path.as_bytes()[names_from..].iter().position(|byte| *byte == b'/');
                after = Some(match folder {
                    None => path.clone(),
                    Some(at) => {
                        last_below(&path.as_bytes()[..names_from + at]).unwrap_or(path.clone()).max(path.clone())
                    }
                });
                if folder.is_some() {
                    // Where many folders are, each comes with the first that is in it.
                    at_once = 2;
                    break;
                }
                found.push((path, row));
                if found.len() == limit {
                    return found;
                }
            }
        }
    }
    /// Whether any row strictly below `dir` has a live winner.
    fn any_live_below(&self, dir: &SyncPath) -> bool;
    /// Whether any row strictly below `dir` has something live on disk.
    fn any_on_disk_below(&self, dir: &SyncPath) -> bool;
    /// Up to `limit` paths, after `after`, whose row is not settled.
    fn unsettled(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath>;
    /// Up to `limit` paths, after `after`, that hold a local change (`Row::is_local`).
    fn local(&self, after: Option<&SyncPath>, limit: usize) -> Vec<SyncPath>;
    /// The first path, in order, whose disk column is a file of this content, and that `accepts`
    /// takes. It is given `HOLDERS_SEEN` at most.
    fn find_holder(&self, content: &ContentId, accepts: &mut dyn FnMut(&SyncPath, &Row) -> bool) -> Option<SyncPath>;
    /// Up to `HOLDERS` paths whose disk column is a file of this content.
    fn holders(&self, content: &ContentId) -> Vec<SyncPath> {
        let mut holders = Vec::new();
        self.find_holder(content, &mut |path, _| {
            holders.push(path.clone());
            holders.len() == HOLDERS
        });
        holders
    }

    /// All winners of a bucket, deletions of any age with them. What the group never heard of is
    /// none, here and in the digests.
    fn bucket(&self, bucket: Bucket) -> Vec<(SyncPath, Entry)>;
    /// Digests over the winners, but for deletions made before the horizon.
    fn root_digest(&mut self) -> Digest;
    fn group_digests(&mut self) -> Vec<Digest>;
    fn bucket_digests(&mut self, group: Group) -> Vec<Digest>;
    /// Deletions made before this (ns since 1970) stop counting in digests.
    fn set_horizon(&mut self, deleted_before: u64);
    /// From now on, deletions that become winners are learned on this day (since 1970).
    fn set_today(&mut self, day: u64);
    /// Removes up to `limit` settled deletions that were learned before a day, and are as old as
    /// `deleted_before` (ns since 1970) says; how many. No digest may count them any more.
    fn forget_deletions(&mut self, learned_before: u64, deleted_before: u64, limit: usize) -> u64;

    fn counts(&self) -> Counts;

    fn conflict(&self, key: &ConflictKey) -> Option<Conflict>;
    /// Adds a conflict, or replaces the one of its key. The first time it gets an `id`, which it
    /// keeps.
    fn put_conflict(&mut self, conflict: &Conflict);
    /// Oldest first.
    fn conflicts(&self, wanted: &ConflictFilter) -> Vec<Conflict>;
    /// All keys in order, and whether each is decided.
    fn conflict_marks(&self) -> Vec<(ConflictKey, bool)>;
    /// Removes those that were decided before a time (by the steady clock), and of those found here
    /// the oldest beyond so many.
    fn forget_conflicts(&mut self, settled_before: u64, most_own: usize);

    /// Small values by name: the device's counter, whether a first scan was completed.
    fn meta(&self, key: &str) -> Option<Vec<u8>>;
    fn set_meta(&mut self, key: &str, value: &[u8]);
}
