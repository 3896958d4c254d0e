//! Digests: whether a stored token is intact, and what it was requested with.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::token::{AccessToken, IssuedToken};
use crate::core::spec::Plan;

/// Returns the digest that shows whether a stored token is intact. It stands in a status, too: a token is too long and too random
/// to be found from it.
pub(super) fn digest(token: &AccessToken, issue_time: Timestamp, expiration_time: Timestamp) -> String {
    hex(&[token.expose(), &issue_time.to_string(), &expiration_time.to_string()])
}

impl IssuedToken {
    /// Returns the digest of the token and its times.
    pub(crate) fn digest(&self) -> String {
        digest(&self.token, self.issue_time, self.expiration_time)
    }
}

/// Returns a versioned fingerprint of what a token is requested with. A field added later enters only when it is set.
#[must_use]
pub fn fingerprint(plan: &Plan, credentials_uid: &str) -> String {
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
    format!("v1:{}", hex(&parts))
}

/// Returns a short hash of a text that a user wrote.
pub(crate) fn short_hash(text: &str) -> String {
    hex(&[text])[..16].to_owned()
}

fn hex(parts: &[&str]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
