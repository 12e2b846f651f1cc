//! Digests of the tree: 65,536 buckets by path, 256 groups of them, one root.
//!
//! A bucket's digest is the BLAKE3 of its entries' hashes, sorted: a set has one digest whatever the order of its
//! making, and unlike a sum or an XOR it cannot be forged. Used by every `Index`.

use crate::model::{Entry, Kind, SyncPath};
use crate::wire::message::{Bucket, Digest, Group};

const BUCKETS: usize = 65_536;
const GROUP: usize = 256;

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
    let mut buffer = Vec::with_capacity(256);
    postcard::to_io(entry, &mut buffer).expect("writing to memory does not fail");
    hasher.update(&buffer);
    truncate(&hasher.finalize())
}

/// Whether a winner counts: all but deletions made before the horizon (ns since 1970).
pub fn counts(entry: &Entry, horizon: u64) -> bool {
    !matches!(entry.kind, Kind::Deleted { at } if at < horizon)
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

/// The digests of all buckets (1 MiB), made again lazily where a bucket was touched.
pub struct Digests {
    buckets: Vec<Digest>,
    touched: Vec<bool>,
    touched_list: Vec<Bucket>,
    root: Option<Digest>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { buckets: vec![[0; 16]; BUCKETS], touched: vec![false; BUCKETS], touched_list: Vec::new(), root: None }
    }
}

impl Digests {
    /// Marks a bucket whose entries changed.
    pub fn touch(&mut self, bucket: Bucket) {
        self.root = None;
        if !std::mem::replace(&mut self.touched[usize::from(bucket)], true) {
            self.touched_list.push(bucket);
        }
    }

    /// Sets a bucket from its entry hashes, as on opening an index.
    pub fn set(&mut self, bucket: Bucket, hashes: Vec<Digest>) {
        self.root = None;
        self.buckets[usize::from(bucket)] = digest_of(hashes);
    }

    /// Makes the touched buckets again; `hashes` lists a bucket's entry hashes.
    pub fn refresh(&mut self, mut hashes: impl FnMut(Bucket) -> Vec<Digest>) {
        for bucket in std::mem::take(&mut self.touched_list) {
            self.touched[usize::from(bucket)] = false;
            self.buckets[usize::from(bucket)] = digest_of(hashes(bucket));
        }
    }

    /// The digest of everything. Only right after `refresh`, as are the next two.
    pub fn root(&mut self) -> Digest {
        let buckets = &self.buckets;
        *self.root.get_or_insert_with(|| truncate(&blake3::hash(buckets.as_flattened())))
    }

    pub fn groups(&self) -> Vec<Digest> {
        self.buckets.chunks_exact(GROUP).map(|group| truncate(&blake3::hash(group.as_flattened()))).collect()
    }

    pub fn group(&self, group: Group) -> Vec<Digest> {
        let from = usize::from(group) * GROUP;
        self.buckets[from..from + GROUP].to_vec()
    }
}
