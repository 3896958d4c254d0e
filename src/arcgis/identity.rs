//! Which app a token belongs to, as the portal reports it.

use reqwest::Client;
use reqwest::header::{REFERER, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::client::TOTAL;
use super::exchange::read;
use crate::api::{App, Verification};
use crate::core::AccessToken;

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
    #[serde(default)]
    privileges: Vec<String>,
}

/// An answer, and how many seconds the portal asks to wait.
pub struct Identified {
    pub answer: Verification,
    /// With a 429 only.
    pub retry_after: Option<u32>,
}

impl From<Verification> for Identified {
    fn from(answer: Verification) -> Self {
        Self { answer, retry_after: None }
    }
}

/// Requests `portals/self` with the token in a header, never in a query. `is_app` shows whether an app ID is the expected one.
pub async fn identify(
    client: &Client,
    portal: &str,
    token: &AccessToken,
    referer: Option<&str>,
    is_app: impl Fn(&str) -> bool,
) -> Identified {
    let url = format!("{portal}/sharing/rest/portals/self?f=json");
    let ask = async {
        let bearer = format!("Bearer {}", token.expose());
        let mut bearer = reqwest::header::HeaderValue::from_str(&bearer).ok()?;
        bearer.set_sensitive(true);
        let mut get = client.get(url).header("X-Esri-Authorization", bearer);
        if let Some(referer) = referer {
            get = get.header(REFERER, referer);
        }
        let answer = get.send().await.ok()?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(answer, MAX_BODY).await.unwrap_or_default();
        Some(classify(status, retry_after, &body, is_app))
    };
    timeout(TOTAL, ask).await.ok().flatten().unwrap_or_else(|| Verification::NotAnswered.into())
}

fn classify(status: u16, retry_after: Option<u32>, body: &[u8], is_app: impl Fn(&str) -> bool) -> Identified {
    let body = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let number = |code: &Value| code.as_u64().or_else(|| code.as_str()?.trim().parse().ok());
    let error = body.as_ref().and_then(|body| body.get("error"));
    let code = error.and_then(|error| error.get("code")).and_then(number).or((status >= 400).then_some(status.into()));
    if code == Some(429) {
        let retry_after = Some(retry_after.unwrap_or(60).clamp(60, 3600));
        return Identified { answer: Verification::NotAnswered, retry_after };
    }
    if matches!(code, Some(401 | 498)) || (code.is_some() && error.is_some_and(blames_token)) {
        return Verification::TokenRejected.into();
    }
    if code.is_some() || error.is_some() {
        return Verification::NotAnswered.into();
    }
    let Some(mut body) = body else { return Verification::NotAnswered.into() };
    match serde_json::from_value::<AppInfo>(body["appInfo"].take()) {
        Ok(info) if info.app_id.as_deref().is_some_and(is_app) => Verification::AppKnown(app(info)).into(),
        _ => Verification::AppUnknown.into(),
    }
}

/// Whether an error says in words that the token is not accepted.
fn blames_token(error: &Value) -> bool {
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    ["invalid token", "token expired", "token is expired"].iter().any(|words| message.contains(words))
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
        privileges: info.privileges.into_iter().filter_map(|text| plain(Some(text))).take(MAX_PRIVILEGES).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::classify;
    use crate::api::Verification::{self, AppKnown, AppUnknown, NotAnswered, TokenRejected};

    fn answer(status: u16, body: &str) -> Verification {
        match classify(status, None, body.as_bytes(), |id| id == "app").answer {
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
            (401, "", TokenRejected),
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
        assert_eq!(classify(429, Some(90), b"", |_| true).retry_after, Some(90));
    }
}
