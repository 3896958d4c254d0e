//! A test portal for ArcGIS: real HTTPS, a temporary CA, apps with configurable behavior, and a journal of requests.

mod answers;
mod layers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use rcgen::KeyPair;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub use crate::https::{Certificate, Protocol};
use crate::https::{identity, identity_for, presenting, serve};
use crate::{Error, doing};

/// The prefix of every token.
pub const TOKEN_CANARY: &str = "test-token-";
/// A part of the body of every error that the portal generates.
pub const BODY_CANARY: &str = "canary-body-text";

/// How many features the layer `Parcels` has, and how many of them one response has.
pub const PARCELS: usize = 10;
pub const PAGE: usize = 2;

/// How the token requests of an app are answered.
#[allow(clippy::struct_excessive_bools, reason = "each switches one behavior")]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    pub secret: String,
    /// The seconds granted, regardless of the requested lifetime.
    pub lifetime: Option<u64>,
    /// Issued each time, instead of a new one.
    pub token: Option<String>,
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
    /// `portals/self` sends no response.
    pub hang_on_verify: bool,
    /// Sent by `portals/self` instead of the app.
    pub answer_on_verify: Option<Answer>,
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

impl Answer {
    /// Returns it as a response, `None` where its parts are invalid.
    fn response(self) -> Option<Response> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(self.body)).ok()
    }
}

#[derive(Default)]
struct PortalState {
    apps: BTreeMap<String, App>,
    tokens: BTreeMap<String, String>,
    /// How many more requests tokens are valid for, where that is limited.
    remaining: BTreeMap<String, usize>,
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

    /// Starts one that presents this certificate with its chain and its private key, in PEM.
    pub async fn presenting(chain: &str, key: &str) -> Result<Self, Error> {
        crate::init_crypto();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::listen(address, (chain.to_owned(), presenting(chain, key)?)).await
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
        let router = Router::new().fallback(answers::answer).with_state(shared.clone());
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

    /// Returns the CA that signed its certificate, in PEM; the certificate itself of one that presents what it was given.
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

    /// Makes a token invalid after so many more requests for secured resources.
    pub fn expire_after(&self, token: &str, requests: usize) {
        self.state().remaining.insert(token.to_owned(), requests);
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

impl PortalState {
    /// Returns the app that a token was issued to, while the token is valid for another request.
    fn use_token(&mut self, token: &str) -> Option<String> {
        match self.remaining.get_mut(token) {
            Some(0) => self.tokens.remove(token).and(None),
            Some(requests) => {
                *requests -= 1;
                self.tokens.get(token).cloned()
            }
            None => self.tokens.get(token).cloned(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, PortalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
