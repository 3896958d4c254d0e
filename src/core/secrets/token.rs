//! An access token that cannot be printed.

use secrecy::{ExposeSecret, SecretString};

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
