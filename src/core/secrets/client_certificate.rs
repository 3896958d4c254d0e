//! Why a client certificate cannot be used.

use jiff::Timestamp;
use thiserror::Error;

use crate::api::{Cause, Fault, Reason};

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
    #[error("the certificate expired on {0}: renew it")]
    /// With whether the clock may be at fault.
    Expired(Timestamp, bool),
    #[error("the certificate is valid from {0} on only")]
    NotYetValid(Timestamp, bool),
}

impl ClientCertificateError {
    /// What to report.
    #[must_use]
    pub fn fault(self) -> Fault {
        let invalid = |cause| Fault::new(Reason::ClientCertificateInvalid, cause);
        match self {
            Self::KeyMissing => Fault::new(Reason::ClientCertificateNotFound, Cause::KeyMissing),
            Self::WrongType => invalid(Cause::OtherType),
            Self::UnusableCertificate | Self::UnusableKey => invalid(Cause::NotPem),
            Self::EncryptedKey => invalid(Cause::Encrypted),
            Self::Mismatch => invalid(Cause::KeyMismatch),
            Self::Expired(date, clock) => invalid(Cause::Expired).date(Some(date)).clock(clock),
            Self::NotYetValid(date, clock) => invalid(Cause::NotYetValid).date(Some(date)).clock(clock),
        }
    }

    /// Whether what was found applies at this time: dates pass, and a clock is set.
    #[must_use]
    pub fn stands(self, now: Timestamp) -> bool {
        match self {
            Self::Expired(until, _) => now >= until,
            Self::NotYetValid(from, _) => now < from,
            _ => true,
        }
    }

    /// With whether the clocks of this machine and of the API server differ.
    #[must_use]
    pub fn clock(self, differs: bool) -> Self {
        match self {
            Self::Expired(date, _) => Self::Expired(date, differs),
            Self::NotYetValid(date, _) => Self::NotYetValid(date, differs),
            other => other,
        }
    }
}
