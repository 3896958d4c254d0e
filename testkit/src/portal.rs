//! A test portal for ArcGIS: real HTTPS, a temporary CA, apps with configurable behavior, and a journal of requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rcgen::KeyPair;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub use crate::https::{Certificate, Protocol};
use crate::https::{closed, identity, identity_for, serve};
use crate::{Error, doing};

/// The prefix of every token.
pub const TOKEN_CANARY: &str = "test-token-";
/// A part of the body of every error that the portal generates.
pub const BODY_CANARY: &str = "canary-body-text";
const DEFAULT_LIFETIME: u64 = 7200;
const MAX_FORM: usize = 64 * 1024;

/// How the token requests of an app are answered.
#[allow(clippy::struct_excessive_bools, reason = "each switches one behavior")]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    pub secret: String,
    /// The seconds granted, regardless of the requested lifetime.
    pub lifetime: Option<u64>,
    /// Sent instead of a token: status, headers, body.
    pub answer: Option<Answer>,
    /// The response is delayed by this many milliseconds.
    pub delay: u64,
    /// No response is sent.
    pub hang: bool,
    /// The connection is closed without a response.
    pub close: bool,
    /// `portals/self` returns this app ID instead of the client's.
    pub identity: Option<String>,
    /// `portals/self` closes the connection.
    pub close_on_verify: bool,
    /// Its privileges; empty: `premium:user:geocode`.
    pub privileges: Vec<String>,
    /// Its tokens are rejected from the start.
    pub reject_tokens: bool,
    /// The app is restricted to this referrer: without it there is no token, and its tokens are not valid.
    pub referer: Option<String>,
}

impl App {
    /// Whether a request has the referrer that the app is restricted to.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get("referer").and_then(|value| value.to_str().ok());
        self.referer.as_deref().is_none_or(|referer| sent == Some(referer))
    }
}

/// A configured response.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// One received request; of the client secret, it records only whether it was correct.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub at: jiff::Timestamp,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    pub referer: Option<String>,
    /// The names of all headers.
    pub headers: Vec<String>,
    pub fields: Vec<(String, String)>,
    pub client_id: String,
    pub secret_matched: bool,
    /// When the response to a token request was ready, or the client was gone; `None` while it is in flight.
    pub ended: Option<jiff::Timestamp>,
    /// The status of the response to a token request.
    pub status: Option<u16>,
    /// Whether a token was issued.
    pub issued: bool,
}

#[derive(Default)]
struct PortalState {
    apps: BTreeMap<String, App>,
    tokens: BTreeMap<String, String>,
    journal: Vec<Entry>,
    outage: bool,
}

struct Shared {
    state: Mutex<PortalState>,
    received: tokio::sync::watch::Sender<usize>,
    counter: AtomicU64,
    salt: String,
}

/// A running portal; dropping it stops it.
pub struct Portal {
    address: SocketAddr,
    ca: String,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

impl Portal {
    /// Starts a portal on an address.
    pub async fn start(address: SocketAddr, certificate: Certificate) -> Result<Self, Error> {
        Self::with_protocol(address, certificate, Protocol::Any).await
    }

    /// Starts a portal that supports only this version of TLS.
    pub async fn with_protocol(
        address: SocketAddr,
        certificate: Certificate,
        protocol: Protocol,
    ) -> Result<Self, Error> {
        crate::init_crypto();
        Self::listen(address, identity(certificate, protocol)?).await
    }

    /// Starts one that requires a client certificate of this CA, in PEM.
    pub async fn requiring(client_ca: &str, protocol: Protocol) -> Result<Self, Error> {
        crate::init_crypto();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::listen(address, identity_for(Certificate::Good, protocol, Some(client_ca))?).await
    }

    async fn listen(address: SocketAddr, (ca, tls): (String, ServerConfig)) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(doing(format!("listening on {address}")))?;
        let address = listener.local_addr().map_err(doing("listening"))?;
        let salt = KeyPair::generate().map_err(doing("making a salt"))?.serialize_der();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            received: tokio::sync::watch::channel(0).0,
            counter: AtomicU64::new(1),
            salt: salt[salt.len() - 40..].iter().map(|byte| char::from(b'a' + byte % 26)).collect(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, tls, router)));
        Ok(Self { address, ca, shared, _server: server })
    }

    fn state(&self) -> MutexGuard<'_, PortalState> {
        self.shared.state()
    }

    /// Returns its base URL; any path may be appended.
    #[must_use]
    pub fn url(&self) -> String {
        if self.address.ip().is_loopback() {
            return format!("https://localhost:{}", self.address.port());
        }
        format!("https://{}", self.address)
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CA that signed its certificate, in PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Registers an app, or changes its behavior.
    pub fn app(&self, client_id: &str, app: App) {
        self.state().apps.insert(client_id.to_owned(), app);
    }

    /// While `on`, every connection is closed without a response.
    pub fn outage(&self, on: bool) {
        self.state().outage = on;
    }

    /// Returns the requests received so far.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.state().journal.clone()
    }

    /// Returns how many token requests an app has sent.
    #[must_use]
    pub fn requests(&self, client_id: &str) -> usize {
        let is_token_request = |entry: &&Entry| entry.client_id == client_id && entry.path.contains("oauth2/token");
        self.state().journal.iter().filter(is_token_request).count()
    }

    /// Returns every token that was issued and has not expired.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.state().tokens.keys().cloned().collect()
    }

    /// Closes every connection without a response, or responds again.
    pub fn set_outage(&self, outage: bool) {
        self.state().outage = outage;
    }

    /// Changes the behavior of every app.
    pub fn change_apps(&self, change: impl Fn(&mut App)) {
        self.state().apps.values_mut().for_each(change);
    }

    /// Makes every token invalid: requests with them are answered with 498.
    pub fn revoke_all(&self) {
        self.state().tokens.clear();
    }

    /// Makes a token invalid.
    pub fn expire(&self, token: &str) {
        self.state().tokens.remove(token);
    }

    /// Waits until an app has sent `count` token requests.
    pub async fn wait_for_requests(&self, client_id: &str, count: usize, limit: Duration) -> Result<(), Error> {
        let mut received = self.shared.received.subscribe();
        let enough = async {
            while self.requests(client_id) < count {
                if received.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, enough)
            .await
            .map_err(|_| Error(format!("{client_id}: {} requests, not {count}", self.requests(client_id))))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, PortalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns JSON as a response; ArcGIS labels it as plain text.
fn plain(body: &Value) -> Response {
    ([("content-type", "text/plain;charset=utf-8")], body.to_string()).into_response()
}

fn failure(code: u16, error: &str, message: &str) -> Response {
    plain(&json!({"error": {"code": code, "error": error, "error_description": message, "message": message,
                            "details": [BODY_CANARY]}}))
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
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
    secured(&shared, &head, &path)
}

/// Answers a request for a resource that a token guards.
fn secured(shared: &Shared, head: &Parts, path: &str) -> Response {
    let bearer = ["x-esri-authorization", "authorization"]
        .iter()
        .find_map(|name| head.headers.get(*name)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    let owner = bearer.as_ref().and_then(|bearer| shared.state().tokens.get(bearer).cloned());
    let app = owner.as_ref().and_then(|owner| shared.state().apps.get(owner).cloned());
    let owner = owner.filter(|_| app.as_ref().is_some_and(|app| !app.reject_tokens && app.admits(&head.headers)));
    if path.ends_with("/sharing/rest/portals/self") {
        record(shared, &head.method, &head.uri, &head.headers, Vec::new(), owner.clone().unwrap_or_default(), false);
        return match owner {
            Some(owner) => app_info(owner, app.unwrap_or_default()),
            None if bearer.is_some() => failure(498, "invalid_token", "Invalid token."),
            None => plain(&json!({"id": "anonymous"})),
        };
    }
    if path.ends_with("/sharing/rest/info") {
        return plain(&json!({"authInfo": {"isTokenBasedSecurity": true}}));
    }
    if path.contains("/FeatureServer/") {
        return match (owner, bearer) {
            (Some(_), _) => plain(&features()),
            (None, Some(_)) => failure(498, "invalid_token", "Invalid token."),
            (None, None) => failure(499, "token_required", "Token Required"),
        };
    }
    (StatusCode::NOT_FOUND, [("content-type", "text/html")], "<html><body>Not found</body></html>").into_response()
}

/// Returns what `portals/self` reports to the owner of a token about its app.
fn app_info(owner: String, app: App) -> Response {
    if app.close_on_verify {
        return closed();
    }
    let mut privileges = app.privileges;
    if privileges.is_empty() {
        privileges.push("premium:user:geocode".to_owned());
    }
    plain(&json!({"id": "org", "name": "Test", "portalName": "Test portal", "isPortal": true,
                  "appInfo": {"appId": app.identity.unwrap_or(owner), "itemId": "item", "appOwner": "owner",
                              "orgId": "org", "privileges": privileges}}))
}

fn features() -> Value {
    json!({"geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326},
           "fields": [{"name": "NAME", "type": "esriFieldTypeString", "alias": "NAME", "length": 50}],
           "features": [{"attributes": {"NAME": "Redlands"}, "geometry": {"x": -117.19, "y": 34.05}}]})
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
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        return response.body(Body::from(answer.body)).unwrap_or_else(|_| closed());
    }
    if !matched {
        return failure(400, "invalid_request", "Invalid client_secret");
    }
    if !admitted {
        return failure(403, "access_denied", "Invalid referer");
    }
    let serial = shared.counter.fetch_add(1, Ordering::Relaxed);
    let token = format!("{TOKEN_CANARY}{serial:06}-{}..", shared.salt);
    let mut state = shared.state();
    state.tokens.insert(token.clone(), id.to_owned());
    state.journal[index].issued = true;
    drop(state);
    plain(&json!({"access_token": token, "expires_in": app.lifetime.or(requested).unwrap_or(DEFAULT_LIFETIME)}))
}
