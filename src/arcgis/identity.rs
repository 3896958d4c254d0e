//! Which app a token belongs to, as the portal reports it.

use jiff::Timestamp;
use reqwest::header::{ACCEPT_ENCODING, DATE, REFERER, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::{Envelope, Head, wait};
use super::client::{PortalClient, TOTAL};
use super::exchange::{expires, read, text};
use crate::api::{App, Verification};
use crate::core::{AccessToken, clock_differs};

const MAX_BODY: usize = 1024 * 1024;
const MAX_CHARS: usize = 256;
const MAX_PRIVILEGES: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppInfo {
    app_id: Option<String>,
    item_id: Option<String>,
    app_owner: Option<String>,
    org_id: Option<String>,
    privileges: Option<Vec<String>>,
}

/// An answer, and how many seconds the portal asks to wait.
pub struct Identified {
    pub answer: Verification,
    /// With a 429 only.
    pub retry_after: Option<u32>,
    /// When the certificate of the server expires.
    pub certificate_expires: Option<Timestamp>,
    /// Whether the clocks of this machine and of the portal differ.
    pub clock_differs: bool,
}

impl From<Verification> for Identified {
    fn from(answer: Verification) -> Self {
        Self { answer, retry_after: None, certificate_expires: None, clock_differs: false }
    }
}

/// Requests `portals/self` with the token in a header, never in a query. `is_app` shows whether an app ID is the expected one.
pub async fn identify(
    client: &PortalClient,
    portal: &str,
    token: &AccessToken,
    referer: Option<&str>,
    is_app: impl Fn(&str) -> bool,
    clock: fn() -> Timestamp,
) -> Identified {
    let url = format!("{portal}/sharing/rest/portals/self?f=json");
    let ask = async {
        let bearer = format!("Bearer {}", token.expose());
        let mut bearer = reqwest::header::HeaderValue::from_str(&bearer).ok()?;
        bearer.set_sensitive(true);
        let mut get = client.http.get(url).header("X-Esri-Authorization", bearer).header(ACCEPT_ENCODING, "identity");
        if let Some(referer) = referer {
            get = get.header(REFERER, referer);
        }
        let answer = get.send().await.ok()?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let certificate_expires = expires(&answer);
        let body = read(answer, MAX_BODY).await.unwrap_or_default();
        let (retry_after, date) = (text(&headers, RETRY_AFTER), text(&headers, DATE));
        let now = clock();
        let found = classify(&Head { status, retry_after, date, windows: false }, &body, is_app, now);
        let clock_differs = date.and_then(|date| clock_differs(date, now)).unwrap_or_default();
        Some(Identified { certificate_expires, clock_differs, ..found })
    };
    timeout(TOTAL, ask).await.ok().flatten().unwrap_or_else(|| Verification::NotAnswered.into())
}

fn classify(head: &Head<'_>, body: &[u8], is_app: impl Fn(&str) -> bool, now: Timestamp) -> Identified {
    let body = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let envelope = body.as_ref().and_then(Value::as_object).map(Envelope::new).filter(|envelope| envelope.failed);
    let code = envelope.as_ref().and_then(|envelope| envelope.code);
    if head.status == 429 || code == Some(429) {
        return Identified { retry_after: Some(wait(head, "", now)), ..Verification::NotAnswered.into() };
    }
    if envelope.as_ref().is_some_and(Envelope::rejects_token) {
        return Verification::TokenRejected.into();
    }
    // A gateway in front of the portal may answer 401 or 403 without having looked at the token.
    let Some(mut body) = body.filter(|_| envelope.is_none() && (200..300).contains(&head.status)) else {
        return Verification::NotAnswered.into();
    };
    match serde_json::from_value::<AppInfo>(body["appInfo"].take()) {
        Ok(info) if info.app_id.as_deref().is_some_and(is_app) => Verification::AppKnown(app(info)).into(),
        _ => Verification::AppUnknown.into(),
    }
}

/// The portal chooses these texts: they are bounded and have no control characters.
fn app(info: AppInfo) -> App {
    let plain = |text: Option<String>| {
        text.filter(|text| text.chars().count() <= MAX_CHARS && text.chars().all(|c| !c.is_control()))
    };
    App {
        app_id: plain(info.app_id),
        item_id: plain(info.item_id),
        owner: plain(info.app_owner),
        org_id: plain(info.org_id),
        privileges: info
            .privileges
            .into_iter()
            .flatten()
            .filter_map(|text| plain(Some(text)))
            .take(MAX_PRIVILEGES)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, classify};
    use crate::api::Verification::{self, AppKnown, AppUnknown, NotAnswered, TokenRejected};

    fn answer(status: u16, body: &str) -> Verification {
        let head = Head { status, ..Head::default() };
        match classify(&head, body.as_bytes(), |id| id == "app", jiff::Timestamp::UNIX_EPOCH).answer {
            AppKnown(_) => AppKnown(crate::api::App::default()),
            other => other,
        }
    }

    #[test]
    fn answers_about_a_token_are_classified() {
        for (status, body, expected) in [
            (200, r#"{"appInfo":{"appId":"app","privileges":["a"]}}"#, AppKnown(crate::api::App::default())),
            (200, r#"{"appInfo":{"appId":"other"}}"#, AppUnknown),
            (200, r#"{"id":"anonymous"}"#, AppUnknown),
            (200, r#"{"error":{"code":498,"message":"Invalid token."}}"#, TokenRejected),
            (200, r#"{"error":{"code":"498","message":""}}"#, TokenRejected),
            (200, r#"{"error":{"code":400,"message":"Invalid Token"}}"#, TokenRejected),
            (401, "", NotAnswered),
            (403, "<html>", NotAnswered),
            (407, "", NotAnswered),
            (498, "", NotAnswered),
            (401, r#"{"error":{"code":401,"message":"Unauthorized"}}"#, TokenRejected),
            (200, r#"{"status":"error","messages":["Token Expired."],"code":498}"#, TokenRejected),
            (
                200,
                r#"{"error":null,"appInfo":{"appId":"app","privileges":null}}"#,
                AppKnown(crate::api::App::default()),
            ),
            (200, r#"{"error":{"code":429}}"#, NotAnswered),
            (200, r#"{"error":{"code":500,"message":"down"}}"#, NotAnswered),
            (200, r#"{"error":{"code":403,"message":"no"}}"#, NotAnswered),
            (200, r#"{"error":"odd"}"#, NotAnswered),
            (503, r#"{"appInfo":{"appId":"app"}}"#, NotAnswered),
            (200, "<html>", NotAnswered),
            (200, "[]", NotAnswered),
        ] {
            assert_eq!(answer(status, body), expected, "{status} {body}");
        }
        let wait = |retry_after, date| {
            let head = Head { status: 429, retry_after, date, windows: false };
            classify(&head, b"", |_| true, jiff::Timestamp::UNIX_EPOCH).retry_after
        };
        assert_eq!(wait(Some("90"), None), Some(90));
        let by_their_clock = (Some("Thu, 01 Jan 2026 00:10:00 GMT"), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
        assert_eq!(wait(by_their_clock.0, by_their_clock.1), Some(600));
    }
}
