//! Chunks: the parts that a large content travels in, and the list of their hashes.
//!
//! A chunk's hash is the chaining value of a BLAKE3 subtree, so the list of them can be checked
//! against the `ContentId` without any of the bytes, and then each chunk alone against the list. A
//! content of one chunk has no list: its subtree value is not its id. Whoever hashes a whole
//! content does so by chunks as well, in any order and on several threads; of an only chunk, that
//! is the content's own hash. Deliberately not here: where the bytes are, and who is asked for
//! them.

use super::ContentId;
use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// The chaining value of one chunk's subtree; of a content that is one chunk, its id.
pub type ChunkHash = [u8; 32];

/// A chunk, but for the last and for contents of more than 64 GiB (bytes).
pub const CHUNK_BYTES: u64 = 1 << 20;
/// No content has more chunks: above that the chunk doubles.
pub const MAX_CHUNKS: u32 = 65_536;

/// How a content of some size is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    size: u64,
    chunk_bytes: u64,
}

impl Chunks {
    /// Of a content of `size` bytes, below 2^63.
    pub fn of(size: u64) -> Self {
        let mut chunk_bytes = CHUNK_BYTES;
        while size.div_ceil(chunk_bytes) > u64::from(MAX_CHUNKS) {
            chunk_bytes *= 2;
        }
        Self { size, chunk_bytes }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of all chunks but the last.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// An empty content is one empty chunk.
    pub fn count(&self) -> u32 {
        self.size.div_ceil(self.chunk_bytes).max(1) as u32
    }

    pub fn offset(&self, chunk: u32) -> u64 {
        u64::from(chunk) * self.chunk_bytes
    }

    pub fn len(&self, chunk: u32) -> u64 {
        self.chunk_bytes.min(self.size.saturating_sub(self.offset(chunk)))
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Where these chunks begin, and how long they are together (bytes); `None` if there are no
    /// such chunks.
    pub fn span(&self, first: u32, count: u32) -> Option<(u64, u64)> {
        let end = first.checked_add(count).filter(|end| count > 0 && *end <= self.count())?;
        let from = self.offset(first);
        Some((from, (u64::from(end) * self.chunk_bytes).min(self.size) - from))
    }

    /// The content that a list of hashes belongs to; `None` for a list of the wrong length, or of a
    /// single chunk.
    pub fn root(&self, hashes: &[ChunkHash]) -> Option<ContentId> {
        if hashes.len() != self.count() as usize || hashes.len() < 2 {
            return None;
        }
        let (left, right) = hashes.split_at(left_count(hashes.len()));
        Some(ContentId(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()))
    }

    /// The hash of a chunk, all of whose bytes are here.
    pub fn hash(&self, chunk: u32, bytes: &[u8]) -> ChunkHash {
        if self.count() == 1 {
            return ContentId::of(bytes).0;
        }
        let mut hasher = ChunkHasher::at(self.offset(chunk));
        hasher.update(bytes);
        hasher.finish()
    }

    /// The content that the hashes of all its chunks, or of its only one, add up to; `None` for too
    /// many or too few.
    pub fn content(&self, hashes: &[ChunkHash]) -> Option<ContentId> {
        match hashes {
            [only] if self.count() == 1 => Some(ContentId(*only)),
            several => self.root(several),
        }
    }
}

/// All hashes but those of the last subtree are of whole chunks, so the tree over chunks is
/// BLAKE3's own.
fn subtree(hashes: &[ChunkHash]) -> ChunkHash {
    if let [one] = hashes {
        return *one;
    }
    let (left, right) = hashes.split_at(left_count(hashes.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The greatest power of two below `count`, which is at least 2.
fn left_count(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

/// Hashes one chunk.
#[derive(Debug)]
pub struct ChunkHasher(Hasher);

impl ChunkHasher {
    /// `offset`: of the chunk's first byte in the content.
    pub fn at(offset: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(offset);
        Self(hasher)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The next `count` bytes are zeros. (The place is part of a hash, so that no value of zeros
    /// serves twice.)
    pub fn zeros(&mut self, count: u64) {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut left = count;
        while left > 0 {
            let part = left.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..part as usize]);
            left -= part;
        }
    }

    /// At least one byte came.
    pub fn finish(&self) -> ChunkHash {
        self.0.finalize_non_root()
    }
}

/// Hashes a content from its first byte to its last: its id, and its list by the way.
#[derive(Debug)]
pub struct ListHasher {
    chunks: Chunks,
    list: Vec<ChunkHash>,
    current: ChunkHasher,
    /// Bytes in the current chunk.
    filled: u64,
}

impl ListHasher {
    /// Of a content of more than one chunk.
    pub fn new(chunks: Chunks) -> Self {
        Self { chunks, list: Vec::with_capacity(chunks.count() as usize), current: ChunkHasher::at(0), filled: 0 }
    }

    /// No more bytes than the content has.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.chunks.len(self.list.len() as u32) - self.filled;
            let (part, rest) = bytes.split_at(room.min(bytes.len() as u64) as usize);
            self.current.update(part);
            self.filled += part.len() as u64;
            bytes = rest;
            if part.len() as u64 == room {
                self.list.push(self.current.finish());
                self.current = ChunkHasher::at(self.chunks.offset(self.list.len() as u32));
                self.filled = 0;
            }
        }
    }

    /// `None` unless as many bytes came as were announced.
    pub fn finish(self) -> Option<(ContentId, Vec<ChunkHash>)> {
        Some((self.chunks.root(&self.list)?, self.list))
    }
}

/// Some of a content's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSet {
    bits: Vec<u64>,
    of: u32,
    count: u32,
}

impl ChunkSet {
    /// None of `of` chunks.
    pub fn none(of: u32) -> Self {
        Self { bits: vec![0; of.div_ceil(64) as usize], of, count: 0 }
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn is_full(&self) -> bool {
        self.count == self.of
    }

    pub fn contains(&self, chunk: u32) -> bool {
        chunk < self.of && self.bits[chunk as usize / 64] & (1 << (chunk % 64)) != 0
    }

    /// Whether it was not in it; there must be such a chunk.
    pub fn insert(&mut self, chunk: u32) -> bool {
        let is_new = chunk < self.of && !self.contains(chunk);
        if is_new {
            self.bits[chunk as usize / 64] |= 1 << (chunk % 64);
            self.count += 1;
        }
        is_new
    }

    /// Whether it was in it.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let was_in = self.contains(chunk);
        if was_in {
            self.bits[chunk as usize / 64] &= !(1 << (chunk % 64));
            self.count -= 1;
        }
        was_in
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.of).filter(|chunk| self.contains(*chunk))
    }

    /// Each run of neighbours: the first, and how many.
    pub fn runs(&self) -> Vec<(u32, u32)> {
        runs(self.iter())
    }
}

/// Runs of neighbours among chunks in order.
pub fn runs(chunks: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for chunk in chunks {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == chunk => *count += 1,
            _ => runs.push((chunk, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        Hasher::new().update(&count.to_be_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_list_gives_the_id_of_its_content_whatever_the_size() {
        let mib = CHUNK_BYTES as usize;
        for size in [mib + 1, 2 * mib - 1, 2 * mib, 2 * mib + 1, 3 * mib, 4 * mib + 7, 5 * mib, 7 * mib + 1023, 8 * mib]
        {
            let content = bytes(size);
            let chunks = Chunks::of(size as u64);
            let mut hasher = ListHasher::new(chunks);
            content.chunks(300_000).for_each(|part| hasher.update(part));
            let (id, list) = hasher.finish().unwrap();
            assert_eq!(id, ContentId::of(&content), "{size}");
            let mut wrong = list.clone();
            wrong.last_mut().unwrap()[31] ^= 1;
            assert_ne!(chunks.root(&wrong), Some(id));
            assert_eq!(chunks.root(&list[1..]), None);
        }
    }

    #[test]
    fn the_hashes_of_all_chunks_or_of_the_only_one_add_up_to_the_content() {
        let mib = CHUNK_BYTES as usize;
        for size in [0, 1, mib, mib + 1, 2 * mib, 3 * mib - 1, 3 * mib, 5 * mib + 77] {
            let content = bytes(size);
            let chunks = Chunks::of(size as u64);
            let hash = |chunk| {
                let (from, len) = chunks.span(chunk, 1).unwrap();
                chunks.hash(chunk, &content[from as usize..][..len as usize])
            };
            let mut hashes: Vec<_> = (0..chunks.count()).map(hash).collect();
            assert_eq!(chunks.content(&hashes), Some(ContentId::of(&content)), "{size}");
            hashes.push([0; 32]);
            assert_eq!(chunks.content(&hashes), None, "{size}");
        }
    }

    #[test]
    fn zeros_need_not_be_there_to_be_hashed() {
        let mut hasher = ChunkHasher::at(3 * CHUNK_BYTES);
        hasher.zeros(CHUNK_BYTES);
        let mut other = ChunkHasher::at(3 * CHUNK_BYTES);
        other.update(&vec![0; CHUNK_BYTES as usize]);
        assert_eq!(hasher.finish(), other.finish());
    }

    #[test]
    fn above_64_gib_the_chunk_doubles_and_no_size_has_more_than_65536_chunks() {
        let gib = 1 << 30;
        for (size, chunk_bytes) in [(64 * gib, 1 << 20), (64 * gib + 1, 2 << 20), (1 << 62, 1 << 46)] {
            assert_eq!(Chunks::of(size).chunk_bytes(), chunk_bytes);
        }
        for size in [1, (1 << 63) - 1, 64 * gib + 1] {
            let chunks = Chunks::of(size);
            assert!(chunks.count() <= MAX_CHUNKS);
            assert_eq!(chunks.span(0, chunks.count()), Some((0, size)));
            assert_eq!(chunks.span(1, chunks.count()), None);
            assert_eq!(chunks.span(u32::MAX, 2), None);
            assert_eq!(chunks.span(0, 0), None);
        }
    }

    proptest! {
        #[test]
        fn a_set_is_its_runs(members in proptest::collection::btree_set(0u32..200, 0..100)) {
            let mut set = ChunkSet::none(200);
            for chunk in &members {
                prop_assert!(set.insert(*chunk));
                prop_assert!(!set.insert(*chunk));
            }
            prop_assert_eq!(set.count() as usize, members.len());
            let listed: Vec<u32> = set.runs().into_iter().flat_map(|(first, count)| first..first + count).collect();
            prop_assert_eq!(listed, members.into_iter().collect::<Vec<_>>());
        }
    }
}
