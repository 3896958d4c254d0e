//! A fault-injecting proxy before the API server: it forwards every call, except for the faults that a test injects.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::control_plane::ControlPlane;
use crate::https::{Certificate, Protocol, closed, identity, serve};
use crate::{Error, doing};

const MAX_BODY: usize = 4 * 1024 * 1024;

/// A call to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    /// The path with its query.
    pub path: String,
}

impl Call {
    /// Whether the call has this method and a path (without its query) that ends with `end`.
    #[must_use]
    pub fn is(&self, method: &str, end: &str) -> bool {
        self.method == method && self.path.split('?').next().is_some_and(|path| path.ends_with(end))
    }

    /// Whether the call lists objects, in pages or as a stream.
    #[must_use]
    pub fn lists(&self, end: &str) -> bool {
        self.streams(end) || self.is("GET", end) && !self.path.contains("watch=")
    }

    /// Whether the call lists objects as a stream.
    #[must_use]
    pub fn streams(&self, end: &str) -> bool {
        self.is("GET", end) && self.path.contains("sendInitialEvents=")
    }

    /// Whether the call is a dry run.
    #[must_use]
    pub fn dry(&self) -> bool {
        self.path.contains("dryRun=All")
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// It is neither forwarded nor answered.
    LostBefore,
    /// It is forwarded, and the response is lost.
    LostAfter,
    /// It is forwarded, and the connection is closed instead of a response.
    ClosedAfter,
    /// It is forwarded only after [`ApiProxy::clear_faults`].
    Held,
    /// It is forwarded after this time.
    Delayed(Duration),
    /// It is answered with this status and not forwarded.
    Status(u16),
    /// It is answered with 422 for the labels of the object, and not forwarded.
    InvalidLabels,
    /// It is answered with 429 and these seconds to wait, and not forwarded.
    RetryAfter(u32),
    /// The same as priority and fairness answers: the seconds are in the header alone, and the body is a plain text.
    RetryAfterHeader(u32),
}

struct Rule {
    matches: Box<dyn Fn(&Call) -> bool + Send + Sync>,
    fault: InjectedFault,
    left: usize,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    injected: watch::Sender<usize>,
    cleared: watch::Sender<()>,
}

/// A running proxy; dropping it stops it.
pub struct ApiProxy {
    port: u16,
    ca: String,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

impl ApiProxy {
    /// Starts a proxy before a control plane.
    pub async fn start(plane: &ControlPlane) -> Result<Self, Error> {
        crate::init_crypto();
        let (upstream, ca) = plane.server()?;
        let root = reqwest::Certificate::from_pem(ca.as_bytes()).map_err(doing("reading the API server's CA"))?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(doing("listening"))?;
        let port = listener.local_addr().map_err(doing("listening"))?.port();
        let (ca, tls) = identity(Certificate::Good, Protocol::Any)?;
        let shared = Arc::new(Shared {
            upstream,
            client: client.map_err(doing("making a client"))?,
            rules: Mutex::default(),
            injected: watch::channel(0).0,
            cleared: watch::channel(()).0,
        });
        let router = Router::new().fallback(handle).with_state(shared.clone());
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, tls, router)));
        Ok(Self { port, ca, shared, _server: server })
    }

    /// Writes a kubeconfig that connects through the proxy.
    pub fn kubeconfig(&self, plane: &ControlPlane, name: &str, token: &str) -> Result<PathBuf, Error> {
        let ca = plane.dir().join(format!("{name}.pem"));
        std::fs::write(&ca, &self.ca).map_err(doing("writing the proxy's CA"))?;
        plane.write_kubeconfig(name, &format!("https://127.0.0.1:{}", self.port), &ca, token)
    }

    /// Injects a fault into the next `count` calls that match.
    pub fn inject(&self, count: usize, fault: InjectedFault, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        self.rules().push(Rule { matches: Box::new(matches), fault, left: count });
    }

    /// Removes all faults, and forwards the calls that are held.
    pub fn clear_faults(&self) {
        self.rules().clear();
        self.shared.cleared.send_replace(());
    }

    /// Waits until faults were injected into this many calls since the start.
    pub async fn wait_for_faults(&self, count: usize, limit: Duration) -> Result<(), Error> {
        let mut injected = self.shared.injected.subscribe();
        let enough = tokio::time::timeout(limit, injected.wait_for(|injected| *injected >= count)).await;
        enough.map_err(|_| Error(format!("fewer than {count} faults were injected"))).map(drop)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn fault(&self, call: &Call) -> Option<InjectedFault> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.left > 0 && (rule.matches)(call))?;
        rule.left -= 1;
        Some(rule.fault)
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or_else(String::new, |path| path.as_str().to_owned());
    let call = Call { method: request.method().to_string(), path };
    let fault = shared.fault(&call);
    let injected = || shared.injected.send_modify(|injected| *injected += 1);
    match fault {
        Some(InjectedFault::LostBefore) => {
            injected();
            std::future::pending().await
        }
        Some(InjectedFault::Held) => {
            let mut cleared = shared.cleared.subscribe();
            injected();
            // The sender exists as long as the proxy.
            let _ = cleared.changed().await;
            forward(&shared, &call.path, request).await
        }
        Some(InjectedFault::Delayed(time)) => {
            injected();
            tokio::time::sleep(time).await;
            forward(&shared, &call.path, request).await
        }
        Some(InjectedFault::Status(code)) => {
            injected();
            failure(code, &json!(null))
        }
        Some(InjectedFault::InvalidLabels) => {
            injected();
            failure(
                422,
                &json!({"causes": [{"reason": "FieldValueInvalid", "message": "", "field": "metadata.labels"}]}),
            )
        }
        Some(InjectedFault::RetryAfter(seconds)) => {
            injected();
            failure(429, &json!({"retryAfterSeconds": seconds}))
        }
        Some(InjectedFault::RetryAfterHeader(seconds)) => {
            injected();
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, "Too many requests, please try again later.\n").into_response()
        }
        None => forward(&shared, &call.path, request).await,
        Some(InjectedFault::LostAfter | InjectedFault::ClosedAfter) => {
            let answer = forward(&shared, &call.path, request).await;
            // The whole response is read, so that the API server has completed the call.
            let _ = axum::body::to_bytes(answer.into_body(), MAX_BODY).await;
            injected();
            if fault == Some(InjectedFault::ClosedAfter) { closed() } else { std::future::pending().await }
        }
    }
}

/// A failure as the API server reports it.
fn failure(code: u16, details: &Value) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                        "details": details});
    (StatusCode::from_u16(code).unwrap_or_default(), axum::Json(status)).into_response()
}

async fn forward(shared: &Shared, path: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else { return closed() };
    let kept = |from: &HeaderMap, names: &[header::HeaderName]| {
        let found = names.iter().filter_map(|name| Some((name.clone(), from.get(name)?.clone())));
        found.collect::<HeaderMap>()
    };
    let headers =
        kept(&head.headers, &[header::AUTHORIZATION, header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT]);
    let sent = shared.client.request(head.method, format!("{}{path}", shared.upstream)).headers(headers).body(body);
    let Ok(answer) = sent.send().await else { return closed() };
    let (status, headers) = (answer.status(), kept(answer.headers(), &[header::CONTENT_TYPE, header::RETRY_AFTER]));
    (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
}
