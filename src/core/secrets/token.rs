//! An access token that cannot be printed.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::fingerprint::{Fingerprint, sha256};

const MAX_CHARS: usize = 16_384;

/// A bearer token (RFC 6750, section 2.1); neither printable nor serializable, zeroed when dropped.
#[derive(Clone)]
pub struct AccessToken(SecretString);

impl AccessToken {
    /// Takes 1 to 16,384 characters of `[A-Za-z0-9._~+/-]` with `=` at the end only: nothing that could run in a
    /// shell or break a header.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        let body = text.trim_end_matches('=');
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~+/-".contains(&b);
        let valid = !body.is_empty() && text.len() <= MAX_CHARS && body.bytes().all(allowed);
        let text = SecretString::from(text);
        valid.then_some(Self(text))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// A token with the data that is published about it.
#[derive(Clone)]
pub struct IssuedToken {
    pub token: AccessToken,
    pub issue_time: Timestamp,
    pub expiration_time: Timestamp,
    /// The fingerprint of what it was requested with; `None` where only that it is as specified is known.
    pub inputs: Option<Fingerprint>,
    /// The published URL of the portal, where it is not the one that the spec names now.
    pub portal_url: Option<String>,
    /// What the token was requested with, and what the formats tell consumers to send.
    pub referer: Option<String>,
}

/// Returns the digest that shows whether a stored token is intact. It stands in a status, too: a token is too long and too random
/// to be found from it.
pub(super) fn digest(token: &AccessToken, issue_time: Timestamp, expiration_time: Timestamp) -> Fingerprint {
    Fingerprint::Digest(sha256(&[token.expose(), &issue_time.to_string(), &expiration_time.to_string()]))
}

impl IssuedToken {
    /// Returns the digest of the token and its times.
    pub(crate) fn digest(&self) -> Fingerprint {
        digest(&self.token, self.issue_time, self.expiration_time)
    }
}
