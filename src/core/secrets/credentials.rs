//! The app's OAuth credentials, as read from their Secret.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use k8s_openapi::ByteString;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::api::{Cause, CredentialsRef};

/// Which key of the credentials Secret cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("key {key} is missing, empty or not visible text")]
pub struct CredentialsError {
    pub key: String,
    /// `KeyMissing`, `Empty` or `NotText`.
    pub cause: Cause,
}

/// An app's id and secret; neither printable nor serializable.
#[derive(Clone)]
pub struct Credentials {
    id: SecretString,
    secret: SecretString,
}

impl Credentials {
    /// Reads the two keys; blanks and newlines around a value are trimmed.
    pub fn read(data: &BTreeMap<String, ByteString>, keys: &CredentialsRef) -> Result<Self, CredentialsError> {
        let value = |key: &String| {
            let read = || {
                let bytes = &data.get(key).ok_or(Cause::KeyMissing)?.0;
                let text = std::str::from_utf8(bytes).map_err(|_| Cause::NotText)?.trim();
                match text {
                    "" => Err(Cause::Empty),
                    _ if text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) => Err(Cause::NotText),
                    _ => Ok(SecretString::from(text)),
                }
            };
            read().map_err(|cause| CredentialsError { key: key.clone(), cause })
        };
        Ok(Self { id: value(&keys.client_id_key)?, secret: value(&keys.client_secret_key)? })
    }

    /// The client id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.expose_secret()
    }

    /// The client secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Detects changed credentials by a hash whose key is random in each process and never leaves it.
#[derive(Clone, Default)]
pub struct Digester(RandomState);

impl Digester {
    /// Returns the digest of a client ID, or of an app ID to compare with one.
    #[must_use]
    pub fn digest_id(&self, id: &str) -> u64 {
        self.0.hash_one(id)
    }

    /// The digest of these credentials.
    #[must_use]
    pub fn digest(&self, credentials: &Credentials) -> u64 {
        self.0.hash_one((credentials.id(), credentials.secret()))
    }
}
