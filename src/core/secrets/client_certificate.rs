//! Why a client certificate cannot be used.

use thiserror::Error;

use crate::api::Reason;

/// What is wrong with a client certificate, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientCertificateError {
    #[error("tls.crt or tls.key is missing")]
    KeyMissing,
    #[error("the Secret is not of type kubernetes.io/tls: create it again with that type")]
    WrongType,
    #[error("the certificate cannot be read: write it in PEM format, followed by its intermediate certificates")]
    UnusableCertificate,
    #[error("the private key is encrypted: write it without a passphrase")]
    EncryptedKey,
    #[error("the private key cannot be read: write an RSA, ECDSA (P-256, P-384) or Ed25519 key in PEM format")]
    UnusableKey,
    #[error("certificate and private key do not match: write the certificate of this key first")]
    Mismatch,
    #[error("the certificate has expired: renew it")]
    Expired,
}

impl ClientCertificateError {
    /// The reason to report.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::KeyMissing => Reason::ClientCertificateNotFound,
            _ => Reason::ClientCertificateInvalid,
        }
    }
}
