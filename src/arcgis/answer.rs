//! What the portal's answer to a token request means. ArcGIS reports failures with status 200, in three envelopes.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::Reason;
use crate::core::AccessToken;

/// A longer body is not an answer to a token request.
pub(super) const MAX_BODY: usize = 64 * 1024;
const MAX_LIFETIME_SECONDS: f64 = 315_360_000.0;

/// A token, and for how many seconds it was granted.
pub struct Grant {
    pub token: AccessToken,
    pub lifetime_seconds: i64,
}

/// Why there is no token. Nothing of the answer's text is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeError {
    pub reason: Reason,
    /// Seconds to wait, with [`Reason::RateLimited`] only.
    pub retry_after: Option<u32>,
}

impl From<Reason> for ExchangeError {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after: None }
    }
}

/// Classifies an answer by status, `Retry-After` header and body. The content type is not reliable and is ignored.
pub fn classify(status: u16, retry_after: Option<&str>, body: &[u8], now: Timestamp) -> Result<Grant, ExchangeError> {
    let body = if body.len() > MAX_BODY { &[] } else { body };
    let text = String::from_utf8_lossy(body);
    let text = text.trim_matches(|c: char| c == '\u{feff}' || c.is_whitespace());
    let json = serde_json::from_str::<Value>(text).ok();
    let answer = json.as_ref().and_then(Value::as_object);
    let envelope = answer.map(Envelope::new);
    if let Some(reason) = envelope.as_ref().and_then(Envelope::blamed_credential) {
        return Err(reason.into());
    }
    let failed = envelope.filter(|envelope| envelope.failed);
    let reason = by_status(status, text).or_else(|| failed.map(|envelope| by_envelope(&envelope, status)));
    match reason {
        Some(Reason::RateLimited) => Err(limited(retry_after, text, now)),
        Some(reason) => Err(reason.into()),
        None if (200..300).contains(&status) => answer.and_then(grant).ok_or_else(|| Reason::MalformedResponse.into()),
        None => Err(Reason::MalformedResponse.into()),
    }
}

/// The reason that the status, or the text of a web adaptor, gives on its own.
fn by_status(status: u16, text: &str) -> Option<Reason> {
    match status {
        401 | 403 | 404 | 405 => Some(Reason::RequestRejected),
        429 => Some(Reason::RateLimited),
        _ if is_unavailable(status) => Some(Reason::PortalUnavailable),
        400 if asks_for_certificate(text) => Some(Reason::RequestRejected),
        _ => no_machine(text).then_some(Reason::PortalUnavailable),
    }
}

/// The reason that an error in the body gives.
fn by_envelope(envelope: &Envelope, status: u16) -> Reason {
    match envelope.code {
        Some(429) => Reason::RateLimited,
        Some(code) if is_unavailable(code) => Reason::PortalUnavailable,
        Some(400..=499) => Reason::RequestRejected,
        _ if envelope.refuses() || (400..500).contains(&status) => Reason::RequestRejected,
        _ => Reason::MalformedResponse,
    }
}

fn is_unavailable(code: u16) -> bool {
    matches!(code, 408 | 425 | 443 | 500..=599)
}

fn grant(answer: &Map<String, Value>) -> Option<Grant> {
    let token = AccessToken::parse(answer.get("access_token")?.as_str()?.to_owned())?;
    let seconds = match answer.get("expires_in")? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    // A fraction of a second counts as one second.
    #[allow(clippy::cast_possible_truncation, reason = "bounded to ten years")]
    (seconds > 0.0 && seconds <= MAX_LIFETIME_SECONDS)
        .then(|| Grant { token, lifetime_seconds: (seconds.floor() as i64).max(1) })
}

/// What any of the three error envelopes says.
struct Envelope {
    failed: bool,
    code: Option<u16>,
    texts: Vec<String>,
}

impl Envelope {
    fn new(answer: &Map<String, Value>) -> Self {
        let error = answer.get("error").filter(|error| !error.is_null());
        let code = |object: &Map<String, Value>| match object.get("code")? {
            // Some write 500.0.
            Value::Number(number) => number.as_f64().and_then(|code| format!("{code}").parse().ok()),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let mut texts = Vec::new();
        let inner = error.and_then(Value::as_object);
        for object in inner.into_iter().chain([answer]) {
            for key in ["error", "error_description", "message", "messages", "messageCode", "details"] {
                match object.get(key) {
                    Some(Value::String(text)) => texts.push(text.to_lowercase()),
                    Some(Value::Array(list)) => {
                        texts.extend(list.iter().filter_map(Value::as_str).map(str::to_lowercase));
                    }
                    _ => {}
                }
            }
        }
        let code = inner.and_then(code).or_else(|| code(answer));
        let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
        let failed = error.is_some()
            || status.eq_ignore_ascii_case("error")
            || status.eq_ignore_ascii_case("failure")
            || code.is_some_and(|code| code >= 400);
        Self { failed, code, texts }
    }

    fn says(&self, what: &[&str]) -> bool {
        self.texts.iter().any(|text| what.iter().any(|what| text.contains(what)))
    }

    fn blamed_credential(&self) -> Option<Reason> {
        let blames = |what: &str| self.says(&[&format!("invalid {what}"), &format!("invalid_{what}")]);
        if !self.failed {
            None
        } else if blames("client_id") {
            Some(Reason::ClientIdRejected)
        } else {
            blames("client_secret").then_some(Reason::ClientSecretRejected)
        }
    }

    fn refuses(&self) -> bool {
        // RFC 6749, section 5.2, and what ArcGIS says in words.
        self.says(&[
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "access_denied",
            "invalid request",
            "invalid token",
            "permission",
            "unable to generate",
            "token expired",
            "token required",
        ])
    }
}

/// nginx ends no handshake for a client certificate: it answers 400 with a page of its own.
fn asks_for_certificate(text: &str) -> bool {
    text.to_lowercase().contains("ssl certificate")
}

/// A web adaptor whose portal is down says so with any status and content type.
fn no_machine(text: &str) -> bool {
    let text = text.to_lowercase();
    text.find("could not access any").is_some_and(|at| {
        let sentence: String = text[at..].chars().take(80).collect();
        sentence.contains("machine")
    })
}

fn limited(header: Option<&str>, text: &str, now: Timestamp) -> ExchangeError {
    let seconds = header.and_then(|header| header_seconds(header.trim(), now)).or_else(|| text_seconds(text));
    ExchangeError { reason: Reason::RateLimited, retry_after: Some(seconds.unwrap_or(60).clamp(60, 3600)) }
}

fn header_seconds(header: &str, now: Timestamp) -> Option<u32> {
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        return Some(header.parse().unwrap_or(u32::MAX));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    Some(u32::try_from(date.as_second().saturating_sub(now.as_second()).max(0)).unwrap_or(u32::MAX))
}

/// "Retry after 60 sec."
fn text_seconds(text: &str) -> Option<u32> {
    let text = text.to_lowercase();
    text.match_indices("retry after ").find_map(|(at, words)| {
        let rest = text[at + words.len()..].trim_start();
        let (digits, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        (!digits.is_empty() && unit.trim_start().starts_with("sec")).then(|| digits.parse().unwrap_or(u32::MAX))
    })
}
