//! TLS between devices: self-signed certificates, TLS 1.3 alone, and the device id from the peer's
//! key.
//!
//! Any certificate is accepted, since the proof of the group's secret (`greeting`) decides who is a
//! member; but the handshake's signature is checked, so that a device id cannot be claimed without
//! its key.

use crate::model::{DeviceId, text};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ServerConfig};
use rustls::sign::SigningKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A device's certificate and private key. Stored in the index, so that the id is minted with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceKey {
    #[serde(with = "serde_bytes")]
    cert_der: Vec<u8>,
    #[serde(with = "serde_bytes")]
    key_der: Vec<u8>,
}

/// Why there is no usable device key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("a device key could not be made: {0}")]
    NotMade(#[from] rcgen::Error),
    #[error("the stored device key is malformed")]
    Malformed,
    #[error("the stored device key is not accepted: {0}")]
    Refused(#[from] Error),
}

impl DeviceKey {
    pub fn generate() -> Result<Self, KeyError> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        Ok(Self { cert_der: made.cert.der().to_vec(), key_der: made.signing_key.serialize_der() })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("writing to memory does not fail")
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key: Self = postcard::from_bytes(bytes).map_err(|_| KeyError::Malformed)?;
        key.device().map(|_| key)
    }

    /// For signatures that are no handshake's.
    pub(super) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        Ok(ring::default_provider().key_provider.load_private_key(key)?)
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        let hash = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().map(|suite| suite.common.hash_provider);
        hash.map_or(String::new(), |hash| text::hex(hash.hash(&self.cert_der).as_ref()))
    }

    pub fn device(&self) -> Result<DeviceId, KeyError> {
        Ok(device_of(&CertificateDer::from(self.cert_der.as_slice()))?)
    }
}

/// Not a secret and not a name: TLS wants one.
const SERVER_NAME: &str = "dirsyncd";

/// Both roles' settings.
pub struct Tls {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

impl Tls {
    pub fn new(key: &DeviceKey) -> Result<Self, KeyError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyDevice { algorithms: provider.signature_verification_algorithms });
        let chain = || vec![CertificateDer::from(key.cert_der.clone())];
        let private = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.key_der.clone()));
        Ok(Self {
            client: Arc::new(client_config(&provider, &verifier, chain(), private())?),
            server: Arc::new(server_config(&provider, &verifier, chain(), private())?),
        })
    }

    pub fn server_name() -> ServerName<'static> {
        ServerName::try_from(SERVER_NAME).expect("a constant that is a DNS name")
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<AnyDevice>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<dyn ServerCertVerifier>)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<AnyDevice>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::clone(verifier) as Arc<dyn ClientCertVerifier>)
        .with_single_cert(chain, key)?;
    never_resume(&mut config);
    Ok(config)
}

/// Each connection proves itself anew, and nothing is read before it has.
fn never_resume(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

/// How a browser or a program is answered: with the device's certificate, and none is asked of it.
pub fn web_config(key: &DeviceKey) -> Result<Arc<ServerConfig>, KeyError> {
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.key_der.clone()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(key.cert_der.clone())], private)?;
    never_resume(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The device that a certificate's key names.
pub fn device_of(certificate: &CertificateDer<'_>) -> Result<DeviceId, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(DeviceId(*blake3::hash(&parsed.subject_public_key_info()).as_bytes()))
}

/// Accepts any certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyDevice {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyDevice {
    fn check(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Checked {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
}

type Checked = Result<HandshakeSignatureValid, Error>;

/// TLS 1.2 is never offered.
fn too_old() -> Checked {
    Err(Error::InvalidCertificate(CertificateError::BadSignature))
}

impl ServerCertVerifier for AnyDevice {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        device_of(end_entity).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Checked {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Checked {
        self.check(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AnyDevice {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        device_of(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Checked {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Checked {
        self.check(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_device_through_storage() {
        let key = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_bytes(&key.to_bytes()).unwrap();
        assert_eq!(key.device().unwrap(), again.device().unwrap());
        assert!(Tls::new(&again).is_ok());
        assert_ne!(key.device().unwrap(), DeviceKey::generate().unwrap().device().unwrap());
    }

    #[test]
    fn a_browser_is_answered_with_the_device_s_certificate() {
        let key = DeviceKey::generate().unwrap();
        assert!(web_config(&key).is_ok());
        assert!(key.fingerprint().len() == 64 && key.fingerprint() != DeviceKey::generate().unwrap().fingerprint());
    }

    #[test]
    fn a_stored_key_that_is_damaged_is_refused() {
        let bytes = DeviceKey::generate().unwrap().to_bytes();
        assert!(DeviceKey::from_bytes(&bytes[..bytes.len() / 4]).is_err());
        assert!(DeviceKey::from_bytes(b"").is_err());
    }
}
