//! rsync deltas: what changed in a file, described by the blocks of the version that the other end
//! has.
//!
//! [`signature`] says what a version's blocks are, [`diff`] finds them in another version,
//! [`patch`] reads what comes of that. `fast_rsync` makes the hashes of blocks and searches for
//! them; its own `apply` wants the whole base in memory and is not used. The wire format of both is
//! librsync's (MD4).
//!
//! May import `model`. Deliberately not here: files, sockets, caches, threads, and whether a delta
//! is worth asking for.

mod commands;
pub mod diff;
pub mod patch;
pub mod signature;

use std::io;

/// Files below this have no signature (bytes): they travel whole, with their entry.
pub const MIN_BYTES: u64 = 64 * 1024;
/// Nor have files above this: their blocks and chunks would be too long to be held in memory.
pub const MAX_BYTES: u64 = 1 << 40;
/// A signature has at most so many blocks; the index over them then takes 18 MiB (P9).
pub const MAX_BLOCKS: u64 = 262_144;
/// The least block (bytes).
const MIN_BLOCK_BYTES: u64 = 2048;

/// What can be read at any place, at the same bytes each time.
pub trait ReadAt {
    /// Fills the buffer from `offset`; `UnexpectedEof` where it ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Whether a file of this size (bytes) has a signature.
pub fn has_signature(size: u64) -> bool {
    (MIN_BYTES..=MAX_BYTES).contains(&size)
}

/// The block of a file's signature (bytes), which both ends take from its size: a power of two near
/// the square root, so that the signature and a block that is sent for one changed byte weigh about
/// the same.
pub fn block_bytes(size: u64) -> u64 {
    let root = size.max(1).isqrt();
    let below = 1 << root.ilog2();
    let near = if root - below > below / 2 { below * 2 } else { below };
    let mut block = near.max(MIN_BLOCK_BYTES);
    while size.div_ceil(block) > MAX_BLOCKS {
        block *= 2;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Chunks;

    #[test]
    fn blocks_grow_with_the_root_of_the_size_and_their_number_is_bounded() {
        let cases = [
            (0, 2048),
            (MIN_BYTES, 2048),
            (100 << 20, 8192),
            (256 << 20, 16 << 10),
            ((256 << 20) + 1, 16 << 10),
            (4 << 30, 64 << 10),
            (64 << 30, 256 << 10),
            (MAX_BYTES, 4 << 20),
        ];
        for (size, block) in cases {
            assert_eq!(block_bytes(size), block, "{size}");
            assert!(size.div_ceil(block) <= MAX_BLOCKS);
            let chunk = Chunks::of(size).chunk_bytes();
            assert!(block <= chunk && chunk.is_multiple_of(block), "{size}");
        }
    }
}
