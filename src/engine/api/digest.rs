//! Digests of the tree: 65,536 buckets by path, 256 groups of them, one root.
//!
//! A bucket's digest is the BLAKE3 of its entries' hashes, sorted: a set has one digest whatever
//! the order of its making, and unlike a sum or an XOR it cannot be forged. Used by every `Index`.

use crate::model::{Entry, Kind, SyncPath};
use crate::wire::message::{Bucket, Digest, Group};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const BUCKETS: usize = 65_536;
const GROUP: usize = 256;

/// Tells paths apart in 16 bytes.
pub fn path_digest(path: &SyncPath) -> Digest {
    truncate(&blake3::hash(path.as_bytes()))
}

/// The bucket of a path: the first two bytes of its BLAKE3, big-endian.
pub fn bucket_of(path: &SyncPath) -> Bucket {
    let hash = blake3::hash(path.as_bytes());
    u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])
}

/// The hash of one winner: over the path's length and bytes, and the entry in postcard.
pub fn entry_hash(path: &SyncPath, entry: &Entry) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(path.as_bytes().len() as u32).to_be_bytes());
    hasher.update(path.as_bytes());
    encoded(entry, |bytes| hasher.update(bytes));
    truncate(&hasher.finalize())
}

/// A value in postcard, on the stack where it is as small as most.
pub fn encoded<T: Serialize, R>(value: &T, then: impl FnOnce(&[u8]) -> R) -> R {
    let mut small = [0; 512];
    match postcard::to_slice(value, &mut small) {
        Ok(bytes) => then(bytes),
        Err(_) => then(&postcard::to_stdvec(value).expect("writing to memory does not fail")),
    }
}

/// Whether a winner counts: all but deletions that are as old as the horizon (ns since 1970) says.
pub fn counts(entry: &Entry, horizon: u64) -> bool {
    deleted_at(entry).is_none_or(|at| at >= horizon)
}

/// From when a deletion counts as old (ns since 1970): when it was made, or its stamp if that is
/// later. The horizon follows the latest stamp, which so is always told, whatever the clock of who
/// deleted.
pub fn deleted_at(entry: &Entry) -> Option<u64> {
    match entry.kind {
        Kind::Deleted { at } => Some(at.max(entry.version.stamp)),
        _ => None,
    }
}

/// The digest of a set of entry hashes; all zero when there are none.
pub fn digest_of(mut hashes: Vec<Digest>) -> Digest {
    if hashes.is_empty() {
        return [0; 16];
    }
    hashes.sort_unstable();
    truncate(&blake3::hash(hashes.as_flattened()))
}

fn truncate(hash: &blake3::Hash) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

/// The digests of all buckets (1 MiB) and of their groups, made again lazily where a bucket was
/// touched.
pub struct Digests {
    buckets: Vec<Digest>,
    touched: BTreeSet<Bucket>,
    groups: Vec<Digest>,
    stale_groups: BTreeSet<Group>,
}

impl Default for Digests {
    /// Of a tree that holds nothing.
    fn default() -> Self {
        let buckets = vec![[0; 16]; BUCKETS];
        let groups = vec![empty_group(); GROUP];
        Self { buckets, touched: BTreeSet::new(), groups, stale_groups: BTreeSet::new() }
    }
}

fn empty_group() -> Digest {
    truncate(&blake3::hash([[0; 16]; GROUP].as_flattened()))
}

impl Digests {
    /// Marks a bucket whose entries changed.
    pub fn touch(&mut self, bucket: Bucket) {
        self.touched.insert(bucket);
    }

    /// Sets a bucket from its entry hashes, as on opening an index.
    pub fn set(&mut self, bucket: Bucket, hashes: Vec<Digest>) {
        self.buckets[usize::from(bucket)] = digest_of(hashes);
        self.stale_groups.insert(bucket.to_be_bytes()[0]);
    }

    /// Makes the touched buckets again; `hashes` lists a bucket's entry hashes.
    pub fn refresh(&mut self, mut hashes: impl FnMut(Bucket) -> Vec<Digest>) {
        for bucket in std::mem::take(&mut self.touched) {
            self.set(bucket, hashes(bucket));
        }
        for group in std::mem::take(&mut self.stale_groups) {
            let from = usize::from(group) * GROUP;
            let buckets = self.buckets[from..from + GROUP].as_flattened();
            self.groups[usize::from(group)] = truncate(&blake3::hash(buckets));
        }
    }

    /// The digest of everything. Only right after `refresh`, as are the next two.
    pub fn root(&self) -> Digest {
        truncate(&blake3::hash(self.groups.as_flattened()))
    }

    /// The root of a tree that holds nothing.
    pub fn empty_root() -> Digest {
        static EMPTY: LazyLock<Digest> =
            LazyLock::new(|| truncate(&blake3::hash([empty_group(); GROUP].as_flattened())));
        *EMPTY
    }

    pub fn groups(&self) -> Vec<Digest> {
        self.groups.clone()
    }

    pub fn group(&self, group: Group) -> Vec<Digest> {
        let from = usize::from(group) * GROUP;
        self.buckets[from..from + GROUP].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_digest_whatever_the_order_of_its_making() {
        let (a, b) = ([1; 16], [2; 16]);
        assert_eq!(digest_of(vec![a, b]), digest_of(vec![b, a]));
        assert_ne!(digest_of(vec![a]), digest_of(vec![a, b]));
        assert_eq!(digest_of(vec![]), [0; 16]);
    }

    /// A deletion's time, its stamp, the horizon.
    #[rstest::rstest]
    #[case::made_since(5, 1, 5, true)]
    #[case::old(4, 1, 5, false)]
    #[case::made_by_a_clock_that_is_behind(1, 5, 5, true)]
    fn a_deletion_counts_while_its_time_or_its_stamp_is_young(
        #[case] at: u64,
        #[case] stamp: u64,
        #[case] horizon: u64,
        #[case] counted: bool,
    ) {
        let mut entry = crate::engine::merge::nothing();
        entry.kind = Kind::Deleted { at };
        entry.version.stamp = stamp;
        assert_eq!(counts(&entry, horizon), counted);
    }

    #[test]
    fn a_touched_bucket_changes_its_group_and_the_root_and_nothing_else() {
        let mut digests = Digests::default();
        digests.refresh(|_| vec![]);
        let (root, groups) = (digests.root(), digests.groups());
        assert_eq!(root, Digests::empty_root());
        digests.touch(0x0203);
        digests.refresh(|bucket| vec![[u8::from(bucket == 0x0203); 16]]);
        assert_ne!(digests.root(), root);
        let changed: Vec<_> = (0..256).filter(|group| digests.groups()[*group] != groups[*group]).collect();
        assert_eq!(changed, [2]);
        digests.touch(0x0203);
        digests.refresh(|_| vec![]);
        assert_eq!((digests.root(), digests.groups()), (root, groups));
    }
}
