//! A short hash of what is compared: a tree, a part of one, a list.

/// A truncated BLAKE3 over winners.
pub type Digest = [u8; 16];
