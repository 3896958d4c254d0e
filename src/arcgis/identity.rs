//! Which app a token belongs to, as the portal reports it.

use reqwest::Client;
use reqwest::header::REFERER;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::client::TOTAL;
use super::exchange::read;
use crate::api::{App, Verification};
use crate::core::AccessToken;

const MAX_BODY: usize = 1024 * 1024;
const MAX_CHARS: usize = 256;
const MAX_PRIVILEGES: usize = 200;

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

/// Requests `portals/self` with the token in a header, never in a query.
pub async fn identify(
    client: &Client,
    portal: &str,
    token: &AccessToken,
    client_id: &str,
    referer: Option<&str>,
) -> Verification {
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
        let success = answer.status().is_success();
        let body = read(answer, MAX_BODY).await.ok()?;
        serde_json::from_slice::<Value>(&body).ok().filter(|answer| success && answer.is_object())
    };
    let Ok(Some(mut answer)) = timeout(TOTAL, ask).await else { return Verification::NotAnswered };
    let unavailable = |code: u64| code >= 500 || matches!(code, 408 | 425 | 429 | 443);
    if answer.pointer("/error/code").and_then(Value::as_u64).is_some_and(unavailable) {
        return Verification::NotAnswered;
    }
    match serde_json::from_value::<AppInfo>(answer["appInfo"].take()) {
        Ok(info) if info.app_id.as_deref() == Some(client_id) => Verification::Known(app(info)),
        _ => Verification::Unknown,
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
        privileges: info.privileges.into_iter().filter_map(|text| plain(Some(text))).take(MAX_PRIVILEGES).collect(),
    }
}
