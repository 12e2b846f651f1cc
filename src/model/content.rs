//! `ContentId`: what a file holds, by its BLAKE3 hash.

use super::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// BLAKE3 of a file's bytes (32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// Of bytes that cannot be read: no bytes are known to hash to it.
    pub const UNREADABLE: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Of so many zeros (bytes), at the speed of hashing them.
    pub fn of_zeros(size: u64) -> Self {
        let zeros = [0; 16 * 1024];
        let mut hasher = blake3::Hasher::new();
        let mut left = size;
        while left > 0 {
            let part = left.min(zeros.len() as u64);
            hasher.update(&zeros[..part as usize]);
            left -= part;
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The first eight bytes as a number: a short key for finding a content, not a proof of it.
    pub fn key(&self) -> i64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        i64::from_be_bytes(first)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::hex(&self.0))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::hex(&self.0[..4]))
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&self.to_string()) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let hex = String::deserialize(d)?;
            text::from_hex(&hex).map(Self).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
        } else {
            <[u8; 32]>::deserialize(d).map(Self)
        }
    }
}
