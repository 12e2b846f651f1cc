//! Signatures by the key that each device has for TLS, of confirmations above all.
//!
//! The engine never sees a confirmation whose signature is wrong. The public key travels along, and
//! the device id follows from it as in TLS, so that a confirmation may come from anyone and still
//! says who confirmed. Deliberately not here: what a confirmation names (`wire/confirmation.rs`),
//! and which ids a device had before (`succession.rs`).

use crate::io::net::tls::{DeviceKey, KeyError};
use crate::wire::confirmation::{Confirmation, Seal};
use rustls::crypto::ring;
use rustls::pki_types::{SignatureVerificationAlgorithm, alg_id};
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};
use std::sync::{Arc, LazyLock};

/// ECDSA on P-256 with SHA-256.
static ALGORITHM: LazyLock<Option<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let known = ring::default_provider().signature_verification_algorithms.all;
    known.iter().copied().find(|algorithm| {
        (algorithm.public_key_alg_id(), algorithm.signature_alg_id()) == (alg_id::ECDSA_P256, alg_id::ECDSA_SHA256)
    })
});

/// Signs for this device.
pub struct Sealer {
    key: Arc<dyn SigningKey>,
    point: Vec<u8>,
}

impl Sealer {
    pub fn new(key: &DeviceKey) -> Result<Self, KeyError> {
        let key = key.signing_key()?;
        let point = key.public_key().and_then(|public| Seal::point(&public).map(<[u8]>::to_vec));
        let point = point.ok_or(KeyError::Malformed)?;
        Ok(Self { key, point })
    }

    pub fn seal(&self, confirmation: &mut Confirmation) -> Result<(), Error> {
        confirmation.seal = self.seal_bytes(&confirmation.signed_bytes())?;
        Ok(())
    }

    /// The bytes must begin with what they are for.
    pub(super) fn seal_bytes(&self, signed: &[u8]) -> Result<Seal, Error> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        let signer = signer.ok_or_else(|| Error::General("the device key signs nothing".to_owned()))?;
        Ok(Seal { key: self.point.clone(), signature: signer.sign(signed)? })
    }
}

/// Whether the key that a confirmation carries signed it.
pub fn is_genuine(confirmation: &Confirmation) -> bool {
    is_sealed(&confirmation.seal, &confirmation.signed_bytes())
}

/// Whether the key in a seal signed these bytes.
pub(super) fn is_sealed(seal: &Seal, signed: &[u8]) -> bool {
    let Seal { key, signature } = seal;
    ALGORITHM.is_some_and(|known| known.verify_signature(key, signed, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &DeviceKey) -> Confirmation {
        let mut confirmation = Confirmation::unsigned(vec![[1; 16], [2; 16]]);
        assert!(!confirmation.is_signed() && !is_genuine(&confirmation));
        Sealer::new(key).unwrap().seal(&mut confirmation).unwrap();
        confirmation
    }

    #[test]
    fn a_confirmation_is_signed_by_the_device_that_its_key_names() {
        let key = DeviceKey::generate().unwrap();
        let confirmation = sealed(&key);
        assert!(is_genuine(&confirmation));
        assert_eq!(confirmation.seal.device(), key.device().unwrap());
    }

    #[test]
    fn another_list_another_key_and_a_damaged_signature_are_refused() {
        let genuine = sealed(&DeviceKey::generate().unwrap());
        let mut forged = vec![genuine.clone(); 4];
        forged[0].digests.push([3; 16]);
        forged[1].digests.truncate(1);
        forged[2].seal.key = sealed(&DeviceKey::generate().unwrap()).seal.key;
        let last = forged[3].seal.signature.len() - 1;
        forged[3].seal.signature[last] ^= 1;
        assert!(is_genuine(&genuine) && !forged.iter().any(is_genuine));
    }
}
