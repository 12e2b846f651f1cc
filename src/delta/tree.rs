//! A content's chunks: BLAKE3 is a tree, so the hashes of a file's parts, made in any order and by several threads, add up
//! to its `ContentId`; and a chunk whose hash stands unchanged need not be searched.
//!
//! Deliberately not here: reading.

use crate::model::ContentId;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// A chunk's value in the tree; of a content that is one chunk, its id.
pub type ChunkHash = [u8; 32];

const CHUNK_BYTES: u64 = 1 << 20;
const MAX_CHUNKS: u64 = 65_536;

/// 1 MiB, doubled above 64 GiB until there are at most 65,536.
pub fn chunk_bytes(size: u64) -> u64 {
    let mut bytes = CHUNK_BYTES;
    while size.div_ceil(bytes) > MAX_CHUNKS {
        bytes *= 2;
    }
    bytes
}

/// An empty content is one empty chunk.
pub fn chunk_count(size: u64) -> usize {
    size.div_ceil(chunk_bytes(size)).max(1) as usize
}

/// Where a chunk begins, and its length (bytes).
pub fn chunk_at(size: u64, index: usize) -> (u64, usize) {
    let bytes = chunk_bytes(size);
    let from = index as u64 * bytes;
    (from, size.saturating_sub(from).min(bytes) as usize)
}

/// The hash of chunk `index` of a content of `size` bytes.
pub fn hash_chunk(size: u64, index: usize, bytes: &[u8]) -> ChunkHash {
    if chunk_count(size) == 1 {
        return ContentId::of(bytes).0;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(chunk_at(size, index).0);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The content that all its chunks' hashes, in order, add up to.
pub fn content_of(chunks: &[ChunkHash]) -> ContentId {
    match chunks {
        [] => ContentId::of(&[]),
        [only] => ContentId(*only),
        several => {
            let (left, right) = several.split_at(left_chunks(several.len()));
            ContentId(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
        }
    }
}

fn subtree(chunks: &[ChunkHash]) -> ChunkHash {
    if let [only] = chunks {
        return *only;
    }
    let (left, right) = chunks.split_at(left_chunks(chunks.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The left side of the tree is full: the greatest power of two that leaves something to the right.
fn left_chunks(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_of_chunks_add_up_to_the_content() {
        let mut bytes = vec![0; 9 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        for size in [0, 1, 1 << 20, (1 << 20) + 1, 2 << 20, (3 << 20) - 1, 3 << 20, (5 << 20) + 77, 9 << 20] {
            let bytes = &bytes[..size];
            let size = size as u64;
            let chunk = |index| {
                let (from, length) = chunk_at(size, index);
                hash_chunk(size, index, &bytes[from as usize..][..length])
            };
            let chunks: Vec<ChunkHash> = (0..chunk_count(size)).map(chunk).collect();
            assert_eq!(content_of(&chunks), ContentId::of(bytes), "{size}");
        }
    }

    #[test]
    fn chunks_double_above_64_gib() {
        assert_eq!(chunk_bytes(64 << 30), 1 << 20);
        assert_eq!(chunk_bytes((64 << 30) + 1), 2 << 20);
        assert_eq!(chunk_at((2 << 20) + 5, 2), (2 << 20, 5));
    }
}
