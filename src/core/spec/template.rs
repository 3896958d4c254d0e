//! Texts with `$(name)` in them: Kubernetes' own notation, and substitution only.

use thiserror::Error;

/// A text that is not a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("use only $(access_token), $(expires_at) and $(portal_url), closed by a bracket; write $$ for a literal $")]
pub struct TemplateError;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    AccessToken,
    ExpiresAt,
    PortalUrl,
}

/// A parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a text; a `$` before anything but `(` or `$` stands for itself.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(next) = rest.strip_prefix('$') {
                plain.push('$');
                rest = next;
            } else if let Some(next) = rest.strip_prefix('(') {
                let (name, next) = next.split_once(')').ok_or(TemplateError)?;
                let part = match name {
                    "access_token" => Part::AccessToken,
                    "expires_at" => Part::ExpiresAt,
                    "portal_url" => Part::PortalUrl,
                    _ => return Err(TemplateError),
                };
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(part);
                rest = next;
            } else {
                plain.push('$');
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Returns the bytes of the text with values of these lengths in place.
    #[must_use]
    pub fn size(&self, access_token: usize, expires_at: usize, portal_url: usize) -> usize {
        let size = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::AccessToken => access_token,
            Part::ExpiresAt => expires_at,
            Part::PortalUrl => portal_url,
        };
        self.0.iter().map(size).sum()
    }

    /// The text with the values in place.
    #[must_use]
    pub fn fill(&self, access_token: &str, expires_at: &str, portal_url: &str) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::AccessToken => access_token,
                Part::ExpiresAt => expires_at,
                Part::PortalUrl => portal_url,
            })
            .collect()
    }
}
