//! Digests: whether a stored token is intact, and what it was requested with.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::core::hex;
use crate::core::spec::Plan;

const VERSION: &str = "v1:";

/// A digest as it stands in an annotation or in a status. One of this program takes no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    Digest([u8; 32]),
    /// With the version of what it was made from.
    Versioned([u8; 32]),
    /// What another program wrote.
    Other(Box<str>),
}

impl From<&str> for Fingerprint {
    fn from(text: &str) -> Self {
        let versioned = text.strip_prefix(VERSION);
        match bytes(versioned.unwrap_or(text)) {
            Some(digest) if versioned.is_some() => Self::Versioned(digest),
            Some(digest) => Self::Digest(digest),
            None => Self::Other(text.into()),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => f.write_str(&hex(digest)),
            Self::Versioned(digest) => write!(f, "{VERSION}{}", hex(digest)),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Returns a versioned fingerprint of what a token is requested with. A field added later enters only when it is set.
#[must_use]
pub fn fingerprint(plan: &Plan, credentials_uid: &str) -> Fingerprint {
    let base = plan.portal.base();
    let lifetime = plan.lifetime.map(|seconds| seconds.to_string());
    let keys = &plan.credentials;
    let mut parts = vec![base.as_str(), &keys.client_id_key, &keys.client_secret_key, credentials_uid];
    if let Some(lifetime) = &lifetime {
        parts.extend(["lifetime", lifetime]);
    }
    if let Some(referer) = &plan.referer {
        parts.extend(["referer", referer]);
    }
    if let Some(name) = &plan.client_certificate {
        parts.extend(["clientCertificate", name]);
    }
    Fingerprint::Versioned(sha256(&parts))
}

/// Returns a short hash of a text that a user wrote.
pub(crate) fn short_hash(text: &str) -> String {
    hex(&sha256(&[text])[..8])
}

pub(super) fn sha256(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let [high, low] = hex::digits(*byte);
        text.push(char::from(high));
        text.push(char::from(low));
    }
    text
}

/// Reads what [`hex`] wrote.
fn bytes(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = hex::byte(text[2 * at], text[2 * at + 1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_comes_back_as_it_was() {
        let digest = "7ad7fb2881a749eca2496f7f590798b1528d468277cef5cf36a91fd85f23cebe";
        let versioned = format!("v1:{digest}");
        for text in ["", "v1:", "v1:x", digest, &versioned, &digest.to_uppercase(), &digest[1..]] {
            assert_eq!(Fingerprint::from(text).to_string(), *text);
        }
        assert!(matches!(Fingerprint::from(digest), Fingerprint::Digest(_)));
        assert!(matches!(Fingerprint::from(&*versioned), Fingerprint::Versioned(_)));
    }
}
