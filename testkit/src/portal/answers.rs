//! How the test portal answers requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{App, BODY_CANARY, Entry, Shared, TOKEN_CANARY, layers};
use crate::https::closed;

const DEFAULT_LIFETIME: u64 = 7200;
const MAX_FORM: usize = 64 * 1024;

/// Returns JSON as a response; ArcGIS labels it as plain text.
fn plain(body: &Value) -> Response {
    ([("content-type", "text/plain;charset=utf-8")], body.to_string()).into_response()
}

fn failure(code: u16, error: &str, message: &str) -> Response {
    plain(&json!({"error": {"code": code, "error": error, "error_description": message, "message": message,
                            "details": [BODY_CANARY]}}))
}

pub async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_end_matches('/').to_owned();
    let body = axum::body::to_bytes(body, MAX_FORM).await.unwrap_or_default();
    if let Some(id) = path.strip_prefix("/_control/apps/") {
        return control(&shared, id, &body);
    }
    match path.as_str() {
        "/_control/outage" => {
            shared.state().outage = &*body == b"on";
            return plain(&json!({"ok": true}));
        }
        "/_control/journal" => return plain(&json!(shared.state().journal)),
        _ => {}
    }
    if shared.state().outage {
        return closed();
    }
    if path.ends_with("/sharing/rest/oauth2/token") {
        return token(&shared, &head.method, &head.uri, &head.headers, &body).await;
    }
    secured(&shared, &head, &path).await
}

/// Answers a request for a resource that a token guards.
async fn secured(shared: &Shared, head: &Parts, path: &str) -> Response {
    let bearer = ["x-esri-authorization", "authorization"]
        .iter()
        .find_map(|name| head.headers.get(*name)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    let owner = bearer.as_ref().and_then(|bearer| shared.state().use_token(bearer));
    let app = owner.as_ref().and_then(|owner| shared.state().apps.get(owner).cloned());
    let owner = owner.filter(|_| app.as_ref().is_some_and(|app| !app.reject_tokens && app.admits(&head.headers)));
    if path.ends_with("/sharing/rest/portals/self") {
        record(shared, &head.method, &head.uri, &head.headers, Vec::new(), owner.clone().unwrap_or_default(), false);
        return match owner {
            Some(owner) => app_info(owner, app.unwrap_or_default()).await,
            None if bearer.is_some() => failure(498, "invalid_token", "Invalid token."),
            None => plain(&json!({"id": "anonymous", "portalName": "Test portal", "isPortal": true})),
        };
    }
    if path.ends_with("/sharing/rest/search") {
        record(shared, &head.method, &head.uri, &head.headers, Vec::new(), owner.clone().unwrap_or_default(), false);
        return match owner {
            Some(_) => {
                plain(&json!({"total": 1, "results": [{"id": "item", "title": "Redlands", "type": "Feature Service"}]}))
            }
            None => failure(498, "invalid_token", "Invalid token."),
        };
    }
    if path.ends_with("/sharing/rest/info") {
        return plain(&json!({"authInfo": {"isTokenBasedSecurity": true}}));
    }
    if path.contains("/FeatureServer/") {
        return match (owner, bearer) {
            (Some(_), _) => plain(&layers::answer(path, &head.uri, true)),
            (None, Some(_)) => failure(498, "invalid_token", "Invalid token."),
            (None, None) if layers::is_public(path) => plain(&layers::answer(path, &head.uri, false)),
            (None, None) => failure(499, "token_required", "Token Required"),
        };
    }
    (StatusCode::NOT_FOUND, [("content-type", "text/html")], "<html><body>Not found</body></html>").into_response()
}

/// Returns what `portals/self` reports to the owner of a token about its app.
async fn app_info(owner: String, app: App) -> Response {
    if app.hang_on_verify {
        std::future::pending::<()>().await;
    }
    if app.close_on_verify {
        return closed();
    }
    if let Some(answer) = app.answer_on_verify {
        return answer.response().unwrap_or_else(closed);
    }
    let mut privileges = app.privileges;
    if privileges.is_empty() {
        privileges.push("premium:user:geocode".to_owned());
    }
    plain(&json!({"id": "org", "name": "Test", "portalName": "Test portal", "isPortal": true,
                  "appInfo": {"appId": app.identity.unwrap_or(owner), "itemId": "item", "appOwner": "owner",
                              "orgId": "org", "privileges": privileges}}))
}

fn control(shared: &Shared, id: &str, body: &[u8]) -> Response {
    match serde_json::from_slice::<App>(body) {
        Ok(app) => {
            shared.state().apps.insert(id.to_owned(), app);
            plain(&json!({"ok": true}))
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn record(
    shared: &Shared,
    method: &Method,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
    fields: Vec<(String, String)>,
    client_id: String,
    secret_matched: bool,
) -> usize {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut state = shared.state();
    state.journal.push(Entry {
        at: jiff::Timestamp::now(),
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        content_type: header("content-type"),
        user_agent: header("user-agent"),
        referer: header("referer"),
        headers: headers.keys().map(ToString::to_string).collect(),
        fields,
        client_id,
        secret_matched,
        ended: None,
        status: None,
        issued: false,
    });
    shared.received.send_replace(state.journal.len());
    state.journal.len() - 1
}

/// A token request in flight; when it is dropped, the journal records its end.
struct InFlight<'a> {
    shared: &'a Shared,
    index: usize,
    status: Option<u16>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let entry = &mut state.journal[self.index];
        (entry.ended, entry.status) = (Some(jiff::Timestamp::now()), self.status);
    }
}

async fn token(shared: &Shared, method: &Method, uri: &axum::http::Uri, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    let (id, secret) = (field("client_id"), field("client_secret"));
    let app = shared.state().apps.get(&id).cloned();
    let matched = app.as_ref().is_some_and(|app| app.secret == secret);
    let requested = field("expiration").parse::<u64>().ok().map(|minutes| minutes * 60);
    for (name, value) in &mut fields {
        if name == "client_secret" {
            "***".clone_into(value);
        }
    }
    let index = record(shared, method, uri, headers, fields, id.clone(), matched);
    let mut in_flight = InFlight { shared, index, status: None };
    let response = respond(shared, app, index, &id, matched, requested, headers).await;
    in_flight.status = Some(response.status().as_u16());
    response
}

async fn respond(
    shared: &Shared,
    app: Option<App>,
    index: usize,
    id: &str,
    matched: bool,
    requested: Option<u64>,
    headers: &HeaderMap,
) -> Response {
    let Some(app) = app else { return failure(400, "invalid_client_id", "Invalid client_id") };
    let admitted = app.admits(headers);
    tokio::time::sleep(Duration::from_millis(app.delay)).await;
    if app.hang {
        std::future::pending::<()>().await;
    }
    if app.close {
        return closed();
    }
    if let Some(answer) = app.answer {
        return answer.response().unwrap_or_else(closed);
    }
    if !matched {
        return failure(400, "invalid_request", "Invalid client_secret");
    }
    if !admitted {
        return failure(403, "access_denied", "Invalid referer");
    }
    let serial = shared.counter.fetch_add(1, Ordering::Relaxed);
    let token = app.token.unwrap_or_else(|| format!("{TOKEN_CANARY}{serial:06}-{}..", shared.salt));
    let mut state = shared.state();
    state.tokens.insert(token.clone(), id.to_owned());
    state.journal[index].issued = true;
    drop(state);
    plain(&json!({"access_token": token, "expires_in": app.lifetime.or(requested).unwrap_or(DEFAULT_LIFETIME)}))
}
