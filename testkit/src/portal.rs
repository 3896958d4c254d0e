//! A stand-in for an ArcGIS portal: real HTTPS, a throw-away CA, apps that can be told how to behave, a journal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rcgen::KeyPair;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use crate::https::{Certificate, Protocol};
use crate::https::{closed, identity, identity_for, serve};
use crate::{Error, doing};

/// Every token begins with this.
pub const TOKEN_CANARY: &str = "stand-in-";
/// Stands in the body of every failure that the portal makes up itself.
pub const BODY_CANARY: &str = "canary-body-text";
const DEFAULT_LIFETIME: u64 = 7200;
const MAX_FORM: usize = 64 * 1024;

/// How an app's token requests are answered, as long as it is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    pub secret: String,
    /// Seconds granted, whatever is asked.
    pub lifetime: Option<u64>,
    /// Instead of a token: status, headers, body.
    pub answer: Option<Answer>,
    /// The answer comes only after so many milliseconds.
    pub delay: u64,
    /// No answer at all.
    pub hang: bool,
    /// The connection is closed without an answer.
    pub close: bool,
    /// `portals/self` says this app id instead of the client's.
    pub identity: Option<String>,
    /// `portals/self` closes the connection.
    pub mute: bool,
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

/// A scripted answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// One request that was received; of the secret only whether it was right.
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
}

#[derive(Default)]
struct World {
    apps: BTreeMap<String, App>,
    tokens: BTreeMap<String, String>,
    journal: Vec<Entry>,
    outage: bool,
}

struct Shared {
    world: Mutex<World>,
    heard: tokio::sync::watch::Sender<usize>,
    counter: AtomicU64,
    salt: String,
}

/// A running portal; dropping it stops it.
pub struct Portal {
    address: SocketAddr,
    ca: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Portal {
    /// Starts one on a loopback address.
    pub async fn start(address: SocketAddr, certificate: Certificate) -> Result<Self, Error> {
        Self::speaking(address, certificate, Protocol::Any).await
    }

    /// Starts one that speaks only this version of TLS.
    pub async fn speaking(address: SocketAddr, certificate: Certificate, protocol: Protocol) -> Result<Self, Error> {
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
            world: Mutex::default(),
            heard: tokio::sync::watch::channel(0).0,
            counter: AtomicU64::new(1),
            salt: salt[salt.len() - 40..].iter().map(|byte| char::from(b'a' + byte % 26)).collect(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(serve(listener, tls, router));
        Ok(Self { address, ca, shared, server })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Its base URL; any path may be put behind it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA that signed its certificate, in PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Registers an app, or changes how it behaves.
    pub fn app(&self, client_id: &str, app: App) {
        self.world().apps.insert(client_id.to_owned(), app);
    }

    /// True: every connection is closed without an answer.
    pub fn outage(&self, on: bool) {
        self.world().outage = on;
    }

    /// What was received so far.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.world().journal.clone()
    }

    /// How many token requests an app has sent.
    #[must_use]
    pub fn requests(&self, client_id: &str) -> usize {
        let asks = |entry: &&Entry| entry.client_id == client_id && entry.path.contains("oauth2/token");
        self.world().journal.iter().filter(asks).count()
    }

    /// Every token that was issued.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.world().tokens.keys().cloned().collect()
    }

    /// Ends a token's life: whoever shows it is told 498.
    pub fn expire(&self, token: &str) {
        self.world().tokens.remove(token);
    }

    /// Waits until an app has sent so many token requests.
    pub async fn wait_for_requests(&self, client_id: &str, count: usize, limit: Duration) -> Result<(), Error> {
        let mut heard = self.shared.heard.subscribe();
        let enough = async {
            while self.requests(client_id) < count {
                if heard.changed().await.is_err() {
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
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// ArcGIS labels its JSON as plain text.
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
            shared.world().outage = &*body == b"on";
            return plain(&json!({"ok": true}));
        }
        "/_control/journal" => return plain(&json!(shared.world().journal)),
        _ => {}
    }
    if shared.world().outage {
        return closed();
    }
    if path.ends_with("/sharing/rest/oauth2/token") {
        return token(&shared, &head.method, &head.uri, &head.headers, &body).await;
    }
    let bearer = ["x-esri-authorization", "authorization"]
        .iter()
        .find_map(|name| head.headers.get(*name)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    let owner = bearer.as_ref().and_then(|bearer| shared.world().tokens.get(bearer).cloned());
    let app = owner.as_ref().and_then(|owner| shared.world().apps.get(owner).cloned());
    let owner = owner.filter(|_| app.as_ref().is_some_and(|app| app.admits(&head.headers)));
    if path.ends_with("/sharing/rest/portals/self") {
        note(&shared, &head.method, &head.uri, &head.headers, Vec::new(), owner.clone().unwrap_or_default(), false);
        return match owner {
            Some(_) if app.as_ref().is_some_and(|app| app.mute) => closed(),
            Some(owner) => {
                let id = app.and_then(|app| app.identity).unwrap_or(owner);
                plain(&json!({"appInfo": {"appId": id, "itemId": "item", "appOwner": "owner", "orgId": "org",
                                          "privileges": ["premium:user:geocode"]}}))
            }
            None if bearer.is_some() => failure(498, "invalid_token", "Invalid token."),
            None => plain(&json!({"id": "anonymous"})),
        };
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

fn features() -> Value {
    json!({"geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326},
           "fields": [{"name": "NAME", "type": "esriFieldTypeString", "alias": "NAME", "length": 50}],
           "features": [{"attributes": {"NAME": "Redlands"}, "geometry": {"x": -117.19, "y": 34.05}}]})
}

fn control(shared: &Shared, id: &str, body: &[u8]) -> Response {
    match serde_json::from_slice::<App>(body) {
        Ok(app) => {
            shared.world().apps.insert(id.to_owned(), app);
            plain(&json!({"ok": true}))
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn note(
    shared: &Shared,
    method: &Method,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
    fields: Vec<(String, String)>,
    client_id: String,
    secret_matched: bool,
) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut world = shared.world();
    world.journal.push(Entry {
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
    });
    shared.heard.send_replace(world.journal.len());
}

async fn token(shared: &Shared, method: &Method, uri: &axum::http::Uri, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    let (id, secret) = (field("client_id"), field("client_secret"));
    let app = shared.world().apps.get(&id).cloned();
    let matched = app.as_ref().is_some_and(|app| app.secret == secret);
    let asked = field("expiration").parse::<u64>().ok().map(|minutes| minutes * 60);
    for (name, value) in &mut fields {
        if name == "client_secret" {
            "***".clone_into(value);
        }
    }
    note(shared, method, uri, headers, fields, id.clone(), matched);
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
    shared.world().tokens.insert(token.clone(), id);
    plain(&json!({"access_token": token, "expires_in": app.lifetime.or(asked).unwrap_or(DEFAULT_LIFETIME)}))
}
