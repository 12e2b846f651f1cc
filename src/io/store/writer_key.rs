//! The key by which writers show on a link that they are such, also to a reader, who cannot check
//! a keyed hash without being able to make one.
//!
//! Ed25519 (RFC 8032), its seed derived from the group's secret, so that all writers have one key.
//! Deliberately not here: what is signed (`net/greeting.rs`).

use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm, alg_id};
use rustls::sign::SigningKey;
use std::sync::{Arc, LazyLock};

pub const WRITER_SIGNATURE_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
/// What stands before the seed in PKCS #8 (RFC 8410).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

static ALGORITHM: LazyLock<Option<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let known = ring::default_provider().signature_verification_algorithms.all;
    known.iter().copied().find(|algorithm| algorithm.signature_alg_id() == alg_id::ED25519)
});

/// Made of a seed that only writers know.
#[derive(Clone)]
pub struct WriterKey {
    key: Arc<dyn SigningKey>,
    public: [u8; KEY_BYTES],
}

impl WriterKey {
    /// `None` only where the library has no Ed25519.
    pub fn new(seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let pkcs8 = [&PKCS8_HEAD[..], seed].concat();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8));
        let key = ring::default_provider().key_provider.load_private_key(key).ok()?;
        let public = *key.public_key()?.last_chunk()?;
        Some(Self { key, public })
    }

    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.public
    }

    pub fn sign(&self, message: &[u8]) -> Option<[u8; WRITER_SIGNATURE_BYTES]> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ED25519])?;
        signer.sign(message).ok()?.try_into().ok()
    }
}

/// Whether a writer of the group with this public key signed it.
pub fn is_writers(public: &[u8; KEY_BYTES], message: &[u8], signature: &[u8; WRITER_SIGNATURE_BYTES]) -> bool {
    ALGORITHM.is_some_and(|known| known.verify_signature(public, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_key_and_another_signs_something_else() {
        let key = WriterKey::new(&[7; 32]).unwrap();
        let signature = key.sign(b"words").unwrap();
        assert_eq!(WriterKey::new(&[7; 32]).unwrap().public(), key.public());
        assert!(is_writers(&key.public(), b"words", &signature));
        assert!(!is_writers(&key.public(), b"other words", &signature));
        let other = WriterKey::new(&[8; 32]).unwrap();
        assert!(!is_writers(&other.public(), b"words", &signature));
        assert!(!is_writers(&key.public(), b"words", &other.sign(b"words").unwrap()));
    }

    /// The first vector of RFC 8032.
    #[test]
    fn the_key_of_a_seed_is_the_one_of_the_standard() {
        let bytes = |digits: &str| crate::model::text::from_hex::<32>(digits).unwrap();
        let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(WriterKey::new(&seed).unwrap().public(), public);
    }
}
