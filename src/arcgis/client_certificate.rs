//! The certificate with which the operator identifies itself to a portal behind PKI.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, TrustAnchor,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::certificate::Facts;
use crate::core::ClientCertificateError;

/// A certificate with its chain and its private key. It cannot be printed.
#[derive(Clone)]
pub struct ClientCertificate {
    pub(super) resolver: Arc<dyn ResolvesClientCert>,
    /// Of the certificates, which the key belongs to.
    pub(super) fingerprint: [u8; 32],
    /// The end of its validity; `None` where it cannot be read.
    pub not_after: Option<Timestamp>,
}

impl ClientCertificate {
    /// Reads a certificate with its chain, and its private key, in PEM format. What is decoded of the key is zeroized.
    pub fn parse(certificates: &[u8], key: &[u8], now: Timestamp) -> Result<Self, ClientCertificateError> {
        let unusable = |_| ClientCertificateError::UnusableCertificate;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(unusable)?;
        let leaf = chain.first().ok_or(ClientCertificateError::UnusableCertificate)?.clone();
        let mut hash = Sha256::new();
        // The only parser of rustls that also reads certificates of version 1.
        let mut parsed = RootCertStore::empty();
        for der in &chain {
            parsed.add(der.clone()).map_err(|_| ClientCertificateError::UnusableCertificate)?;
            hash.update(der.len().to_be_bytes());
            hash.update(der);
        }
        let key = signing_key(key)?;
        if !parsed.roots.first().is_some_and(|leaf| belongs_to(&*key, leaf)) {
            return Err(ClientCertificateError::Mismatch);
        }
        // What cannot be read, such as one of version 1, is left to the portal.
        let facts = Facts::read(&leaf);
        if let Some(facts) = &facts {
            if now > facts.not_after {
                return Err(ClientCertificateError::Expired(facts.not_after, false));
            }
            if now < facts.not_before {
                return Err(ClientCertificateError::NotYetValid(facts.not_before, false));
            }
        }
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let not_after = facts.map(|facts| facts.not_after);
        Ok(Self { resolver, fingerprint: hash.finalize().into(), not_after })
    }
}

/// Whether a key is that of a certificate. One that has no public key to compare is left to the portal.
fn belongs_to(key: &dyn SigningKey, certificate: &TrustAnchor<'_>) -> bool {
    // The parser leaves out the first bytes of the public key, which are its type and length.
    key.public_key().is_none_or(|public| public.as_ref().ends_with(&certificate.subject_public_key_info))
}

/// Reads the private key. Its decoded copies are zeroized, which the decoder of the PEM crate does not do.
fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, ClientCertificateError> {
    let text = std::str::from_utf8(pem).map_err(|_| ClientCertificateError::UnusableKey)?;
    // The second one is the form that OpenSSL wrote before PKCS #8.
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(ClientCertificateError::EncryptedKey);
    }
    let section = |label: &str| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        Some(rest.split_once(&format!("-----END {label}-----"))?.0)
    };
    let decode = |body: &str| {
        let packed = Zeroizing::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>());
        let mut der = Zeroizing::new(vec![0; packed.len()]);
        let length = BASE64_STANDARD.decode_slice(&*packed, &mut der).ok()?;
        der.truncate(length);
        Some(der)
    };
    let load = |label: &str, wrap: fn(&[u8]) -> PrivateKeyDer<'_>| {
        let der = decode(section(label)?)?;
        any_supported_type(&wrap(&der)).ok()
    };
    load("PRIVATE KEY", |der| PrivatePkcs8KeyDer::from(der).into())
        .or_else(|| load("EC PRIVATE KEY", |der| PrivateSec1KeyDer::from(der).into()))
        .or_else(|| load("RSA PRIVATE KEY", |der| PrivatePkcs1KeyDer::from(der).into()))
        .ok_or(ClientCertificateError::UnusableKey)
}
