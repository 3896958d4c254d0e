//! What the portal's answer to a token request means. ArcGIS reports failures with status 200, in three envelopes.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::{Cause, Fault, Reason};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeError {
    pub fault: Fault,
    /// Seconds to wait, with [`Reason::RateLimited`] only.
    pub retry_after: Option<u32>,
}

impl From<Fault> for ExchangeError {
    fn from(fault: Fault) -> Self {
        Self { fault, retry_after: None }
    }
}

/// What the head of a response says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    pub status: u16,
    pub retry_after: Option<&'a str>,
    /// The time of the response by the server's clock.
    pub date: Option<&'a str>,
    /// It offers Negotiate or NTLM.
    pub windows: bool,
}

/// Classifies an answer by its head and body. The content type is not reliable and is ignored.
pub fn classify(head: &Head<'_>, body: &[u8], now: Timestamp) -> Result<Grant, ExchangeError> {
    let too_large = body.len() > MAX_BODY;
    let text = String::from_utf8_lossy(if too_large { &[] } else { body });
    let text = text.trim_matches(|c: char| c == '\u{feff}' || c.is_whitespace());
    let json = serde_json::from_str::<Value>(text);
    let answer = json.as_ref().ok().and_then(Value::as_object);
    match fault(head, text, answer) {
        Some(fault) => {
            let retry_after = (fault.reason == Reason::RateLimited).then(|| wait(head, text, now));
            Err(ExchangeError { fault, retry_after })
        }
        None if (300..400).contains(&head.status) => Err(malformed(Cause::Redirect).number(head.status).into()),
        None if too_large => Err(malformed(Cause::TooLarge).into()),
        None => match answer.filter(|_| (200..300).contains(&head.status)) {
            Some(answer) => grant(answer).map_err(|cause| malformed(cause).into()),
            None => Err(malformed(json.map_or_else(|error| unreadable(text, &error), |_| Cause::NoToken)).into()),
        },
    }
}

/// What failed, if something says so: a credential that is named, then the status, then an error in the body.
fn fault(head: &Head<'_>, text: &str, answer: Option<&Map<String, Value>>) -> Option<Fault> {
    let envelope = answer.map(Envelope::new);
    if let Some(reason) = envelope.as_ref().and_then(Envelope::rejected_credential) {
        return Some(reason.into());
    }
    let failed = envelope.filter(|envelope| envelope.failed);
    by_status(head, text).or_else(|| failed.map(|envelope| by_envelope(&envelope, head.status)))
}

fn malformed(cause: Cause) -> Fault {
    Fault::new(Reason::MalformedResponse, cause)
}

fn unreadable(text: &str, error: &serde_json::Error) -> Cause {
    if text.starts_with('<') {
        Cause::Html
    } else if error.is_eof() && !text.is_empty() {
        Cause::Truncated
    } else {
        Cause::NotJson
    }
}

/// What the status, or the text of a web adaptor, says on its own.
fn by_status(head: &Head<'_>, text: &str) -> Option<Fault> {
    let status = head.status;
    let client_certificate = match status {
        // The number that IIS gives to a missing client certificate.
        403 => text.contains("403.7"),
        400 => asks_for_certificate(text),
        _ => false,
    };
    if client_certificate {
        return Some(Fault::new(Reason::RequestRejected, Cause::ClientCertificateRequired));
    }
    let reason = match status {
        401 | 403 | 404 | 405 => Reason::RequestRejected,
        429 => Reason::RateLimited,
        _ if is_unavailable(status) => Reason::PortalUnavailable,
        _ => return no_machine(text).then(|| Fault::new(Reason::PortalUnavailable, Cause::ArcGisError)),
    };
    let mut fault = Fault::new(reason, Cause::HttpStatus).number(status);
    fault.seen.windows = status == 401 && head.windows;
    Some(fault)
}

/// What an error in the body says.
fn by_envelope(envelope: &Envelope, status: u16) -> Fault {
    let reason = match envelope.code {
        Some(429) => Reason::RateLimited,
        Some(code) if is_unavailable(code) => Reason::PortalUnavailable,
        Some(400..=499) => Reason::RequestRejected,
        _ if envelope.refuses() || (400..500).contains(&status) => Reason::RequestRejected,
        _ => return malformed(Cause::NoToken),
    };
    let mut fault = Fault::new(reason, Cause::ArcGisError);
    fault.seen.number = envelope.code;
    fault
}

fn is_unavailable(code: u16) -> bool {
    matches!(code, 408 | 425 | 443 | 500..=599)
}

fn grant(answer: &Map<String, Value>) -> Result<Grant, Cause> {
    let token = answer.get("access_token").filter(|token| !token.is_null()).ok_or(Cause::NoToken)?;
    let token = token.as_str().and_then(|token| AccessToken::parse(token.to_owned())).ok_or(Cause::InvalidToken)?;
    let seconds = match answer.get("expires_in") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= MAX_LIFETIME_SECONDS);
    // A fraction of a second counts as one second.
    #[allow(clippy::cast_possible_truncation, reason = "bounded to ten years")]
    let lifetime_seconds = seconds.map(|seconds| (seconds.floor() as i64).max(1)).ok_or(Cause::InvalidLifetime)?;
    Ok(Grant { token, lifetime_seconds })
}

/// The code of an envelope. Some write 500.0.
fn code(object: &Map<String, Value>) -> Option<u16> {
    match object.get("code")? {
        Value::Number(number) => number.as_f64().and_then(|code| format!("{code}").parse().ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// What an envelope says in words, in lower case.
fn texts(object: &Map<String, Value>) -> Vec<String> {
    let keys = ["error", "error_description", "message", "messages", "messageCode", "details"];
    let values = keys.into_iter().filter_map(|key| object.get(key));
    let strings = values.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    strings.filter_map(Value::as_str).map(str::to_lowercase).collect()
}

/// What any of the three error envelopes says.
pub(super) struct Envelope {
    pub failed: bool,
    pub code: Option<u16>,
    texts: Vec<String>,
}

impl Envelope {
    pub fn new(answer: &Map<String, Value>) -> Self {
        let error = answer.get("error").filter(|error| !error.is_null());
        let inner = error.and_then(Value::as_object);
        let texts = inner.into_iter().chain([answer]).flat_map(texts).collect();
        let code = inner.and_then(code).or_else(|| code(answer));
        let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
        let failed = ["error", "failure"].iter().any(|word| status.eq_ignore_ascii_case(word));
        let failed = failed || error.is_some() || code.is_some_and(|code| code >= 400);
        Self { failed, code, texts }
    }

    fn says(&self, what: &[&str]) -> bool {
        self.texts.iter().any(|text| what.iter().any(|what| text.contains(what)))
    }

    /// Whether it says that the token is not accepted.
    pub fn rejects_token(&self) -> bool {
        let words = ["invalid token", "token expired", "token is expired"];
        self.failed && (matches!(self.code, Some(401 | 498)) || self.says(&words))
    }

    fn rejected_credential(&self) -> Option<Reason> {
        let names = |what: &str| self.says(&[&format!("invalid {what}"), &format!("invalid_{what}")]);
        if !self.failed {
            None
        } else if names("client_id") {
            Some(Reason::ClientIdRejected)
        } else {
            names("client_secret").then_some(Reason::ClientSecretRejected)
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

/// How many seconds to wait after a 429.
pub(super) fn wait(head: &Head<'_>, text: &str, now: Timestamp) -> u32 {
    // Both are times of one clock, which may differ from ours.
    let sent = head.date.and_then(date).unwrap_or(now);
    let seconds = head.retry_after.and_then(|header| header_seconds(header.trim(), sent));
    seconds.or_else(|| text_seconds(text)).unwrap_or(60).clamp(60, 3600)
}

fn header_seconds(header: &str, sent: Timestamp) -> Option<u32> {
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        return Some(header.parse().unwrap_or(u32::MAX));
    }
    let date = date(header)?;
    Some(u32::try_from(date.as_second().saturating_sub(sent.as_second()).max(0)).unwrap_or(u32::MAX))
}

fn date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp())
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
