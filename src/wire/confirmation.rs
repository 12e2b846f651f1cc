//! A person's word that deletions, or returns to older contents, were meant: it names them one by
//! one, and the device that it was given at signs it.
//!
//! Each is named by the hash of its path and entry, the version with it. So a confirmation says
//! nothing of any other change, nor of a later one of the same path, and may be repeated by anyone.
//! May import `model`. Deliberately not here: keys (`io/net/seal.rs`), and what a confirmation lets
//! go (`engine/confirm.rs`).

use super::digest::Digest;
use crate::model::DeviceId;
use serde::{Deserialize, Serialize};

/// One confirmation names at most this many changes; of more, there are several.
pub const CONFIRMED_AT_ONCE: usize = 4096;
/// An uncompressed point of P-256.
pub const KEY_BYTES: usize = 65;
/// An ECDSA signature in DER takes at most this.
pub const MAX_SIGNATURE_BYTES: usize = 72;

/// What stands before the point in the DER of a public key of P-256 (RFC 5480).
const KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What is signed begins with this, so that it is no signature of anything else.
const PURPOSE: &[u8] = b"dirsyncd confirmation 1\0";

/// Who says it, and that it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The public key, as a point.
    pub key: Vec<u8>,
    /// Empty: it is still to be signed, by the device that sends it.
    pub signature: Vec<u8>,
}

impl Default for Seal {
    fn default() -> Self {
        Self { key: vec![0; KEY_BYTES], signature: Vec::new() }
    }
}

impl Seal {
    /// The point of a public key in DER; `None` if it is of another kind.
    pub fn point(public_key: &[u8]) -> Option<&[u8]> {
        public_key.strip_prefix(&KEY_PREFIX).filter(|point| point.len() == KEY_BYTES)
    }

    /// The device whose key it is: as in TLS, the BLAKE3 of the public key in DER.
    pub fn device(&self) -> DeviceId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&KEY_PREFIX).update(&self.key);
        DeviceId(*hasher.finalize().as_bytes())
    }
}

/// What was meant: at least one change and at most [`CONFIRMED_AT_ONCE`], each once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    pub seal: Seal,
    pub digests: Vec<Digest>,
}

impl Confirmation {
    /// Of this machine's user, still to be signed. `digests` are in order.
    pub fn unsigned(digests: Vec<Digest>) -> Self {
        Self { seal: Seal::default(), digests }
    }

    pub fn is_signed(&self) -> bool {
        !self.seal.signature.is_empty()
    }

    /// The bytes that its signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let hash = blake3::hash(self.digests.as_flattened());
        [PURPOSE, hash.as_bytes()].concat()
    }

    pub(super) fn wire_bytes(&self) -> usize {
        128 + KEY_BYTES + MAX_SIGNATURE_BYTES + self.digests.as_flattened().len()
    }
}
