//! How the API server is reached: by the kubeconfig or as a pod, and over which connections.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt;
use http::header::{DATE, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, LengthLimitError, Limited};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use super::silence::Listening;
use crate::core::ServerClock;

/// Within 90 s, a connection that went silent is given up. A connection without a byte for longer is dead: a watch request
/// ends after a minute.
const SILENCE: Duration = Duration::from_secs(75);
/// The buffers of a connection take 40 KiB and hold what it carried last. Connections are looked at as often, so that one is
/// closed after twice that time at the latest.
const IDLE: Duration = Duration::from_secs(15);
/// The objects on a page of a list that is not read where it is too large. So many as other clients ask for.
pub const LIMITED_PAGE: u32 = 500;
/// What is read of such a page: it is in memory as a whole, more than once.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Why the API server cannot be reached.
#[derive(Debug, Error)]
pub enum AccessError {
    #[error("no access to a cluster: set KUBECONFIG to a readable file, or run in a pod")]
    NoConfig,
    #[error("proxy-url of the kubeconfig: {0}")]
    Proxy(&'static str),
    #[error("cannot set up the client for the API server: check the kubeconfig's certificates")]
    Unusable,
}

/// Reads the kubeconfig, or where there is none the service account of the pod. The proxies of the environment are for
/// portals; the API server is connected to directly, or over the proxy that the kubeconfig names.
pub async fn access() -> Result<Config, AccessError> {
    let in_pod = || Config::incluster().map_err(|_| AccessError::NoConfig);
    let (mut config, proxy) = match Kubeconfig::read() {
        Err(_) => (in_pod()?, None),
        Ok(mut file) => {
            let proxy = take_proxy(&mut file)?;
            match Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await {
                Ok(config) => (config, proxy),
                Err(_) => (in_pod()?, None),
            }
        }
    };
    config.proxy_url = proxy;
    config.read_timeout = Some(SILENCE);
    Ok(config)
}

/// Takes the proxy of the current context out of a kubeconfig, and leaves another value in its place: without one, the
/// proxies of the environment would be read, which are for portals.
fn take_proxy(file: &mut Kubeconfig) -> Result<Option<Uri>, AccessError> {
    let context = file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref());
    let name = context.and_then(|context| context.context.as_ref()).map(|context| context.cluster.clone());
    let cluster = file.clusters.iter_mut().find(|cluster| Some(&cluster.name) == name.as_ref());
    let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_mut()) else { return Ok(None) };
    let proxy = cluster.proxy_url.replace("http://replaced.invalid".to_owned()).filter(|url| !url.is_empty());
    proxy.map(|url| parse_proxy(&url).map_err(AccessError::Proxy)).transpose()
}

fn parse_proxy(url: &str) -> Result<Uri, &'static str> {
    let url: Uri = url.trim().parse().map_err(|_| "write http://HOST:PORT")?;
    match (url.scheme_str(), url.authority()) {
        (Some("http"), Some(authority)) if authority.as_str().contains('@') => {
            Err("a proxy that asks for credentials is not supported")
        }
        (Some("http"), Some(_)) => Ok(url),
        _ => Err("write http://HOST:PORT: no other kind of proxy is supported"),
    }
}

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// They are kept. That nothing is read for a while means that they are dead.
    Watches,
    /// They are closed soon after their last call. The time between two calls counts as no silence.
    Calls,
}

/// The clocks that responses of the API server compare.
#[derive(Clone)]
pub struct Clocks {
    pub server: Arc<ServerClock>,
    pub now: fn() -> Timestamp,
}

impl Clocks {
    fn note<B>(&self, response: &Response<B>) {
        if let Some(date) = response.headers().get(DATE).and_then(|date| date.to_str().ok()) {
            self.server.note(date, (self.now)());
        }
    }
}

/// Returns a client with connections of its own.
pub(super) fn client(config: &Config, of: Use, clocks: &Clocks) -> kube::Result<Client> {
    let mut http = HttpConnector::new();
    // TLS follows.
    http.enforce_http(false);
    match &config.proxy_url {
        None => over(http, config, of, clocks.clone()),
        Some(proxy) => over(Tunnel::new(proxy.clone(), http), config, of, clocks.clone()),
    }
}

fn over<C>(connector: C, config: &Config, of: Use, clocks: Clocks) -> kube::Result<Client>
where
    C: Service<Uri, Response: Connection + Read + Write + Send + Unpin, Future: Send> + Clone + Send + Sync + 'static,
    C::Response: 'static,
    C::Future: 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let [connect, silence] = [config.connect_timeout, config.read_timeout].map(|limit| limit.unwrap_or(SILENCE));
    let connector = config.rustls_https_connector_with_connector(connector)?.map_future(move |connecting| {
        Box::pin(async move {
            let stream = timeout(connect, connecting).await.map_err(|_| BoxError::from("no connection"))??;
            Ok::<_, BoxError>(Listening::new(stream, silence, of == Use::Calls))
        })
    });
    let mut pool = legacy::Client::builder(TokioExecutor::new());
    if of == Use::Calls {
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
    }
    let http = pool.build(connector);
    let limit = format!("limit={LIMITED_PAGE}");
    let http = service_fn(move |request: Request<Body>| {
        let is_limited = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == limit));
        let read =
            move |body| if is_limited { Either::Left(Limited::new(body, PAGE_BYTES)) } else { Either::Right(body) };
        http.request(request).map_ok(move |response| response.map(read))
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_response(move |response| {
            clocks.note(&response);
            with_retry_after(response)
        })
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Whether a page of [`LIMITED_PAGE`] objects is not read because it is too large.
#[must_use]
pub fn is_too_large(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<LengthLimitError>())
}

/// Priority and fairness answers in plain text, with the time to wait in a header: puts it where an error keeps it.
fn with_retry_after<B>(response: Response<B>) -> Response<Either<Body, B>> {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    match seconds.filter(|_| response.status() == StatusCode::TOO_MANY_REQUESTS) {
        None => response.map(Either::Right),
        Some(seconds) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
                                "reason": "TooManyRequests", "details": {"retryAfterSeconds": seconds}});
            let mut answer = Response::new(Either::Left(Body::from(status.to_string().into_bytes())));
            *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;
    use crate::cluster::{ApiError, bounded};

    const FULL: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Type: text/plain; charset=utf-8\r\n\
                        Content-Length: 43\r\n\r\nToo many requests, please try again later.\n";

    /// Answers each request after a while; returns the configuration for it, and the number of its connections.
    async fn server(answer: &'static str, after: Duration) -> (Config, Arc<AtomicUsize>) {
        // Fails only where one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                        sleep(after).await;
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (config, connections)
    }

    fn clocks() -> Clocks {
        Clocks { server: Arc::default(), now: Timestamp::now }
    }

    async fn call(client: &Client) -> Result<serde_json::Value, ApiError> {
        bounded(client.request(http::Request::get("/").body(Vec::new()).unwrap())).await
    }

    #[tokio::test]
    async fn the_time_between_two_calls_is_no_silence_of_a_connection_for_calls() {
        let (mut config, connections) =
            server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Duration::from_millis(600)).await;
        config.read_timeout = Some(Duration::from_secs(1));
        for (of, answers) in [(Use::Calls, true), (Use::Watches, false)] {
            let client = client(&config, of, &clocks()).unwrap();
            connections.store(0, Ordering::Relaxed);
            call(&client).await.unwrap();
            sleep(Duration::from_millis(700)).await;
            assert_eq!(call(&client).await.is_ok(), answers, "{of:?}");
            assert_eq!(connections.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn the_time_to_wait_of_a_429_in_plain_text_is_kept() {
        let (config, _) = server(FULL, Duration::ZERO).await;
        for of in [Use::Calls, Use::Watches] {
            let error = call(&client(&config, of, &clocks()).unwrap()).await.unwrap_err();
            assert_eq!(error, ApiError::TooManyRequests { retry_after: Some(7) });
        }
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_is_used_or_refused() {
        for url in ["http://proxy.example.com:3128", " http://10.0.0.1:3128/\n"] {
            assert!(parse_proxy(url).is_ok(), "{url}");
        }
        for url in ["socks5://proxy:1080", "https://proxy:3128", "proxy:3128", "http://user:pass@proxy:3128", "http://"]
        {
            assert!(parse_proxy(url).is_err(), "{url}");
        }
        let file = |proxy: &str| {
            let text = format!(
                "{{clusters: [{{name: c, cluster: {{server: 'https://x'{proxy}}}}}], current-context: one,
                   contexts: [{{name: one, context: {{cluster: c}}}}]}}"
            );
            Kubeconfig::from_yaml(&text).unwrap()
        };
        let taken = |proxy: &str| take_proxy(&mut file(proxy)).map(|proxy| proxy.map(|uri| uri.to_string()));
        assert_eq!(taken("").unwrap(), None);
        assert_eq!(taken(", proxy-url: 'http://p:1'").unwrap(), Some("http://p:1/".to_owned()));
        let refused = taken(", proxy-url: 'socks5://p:1'").unwrap_err().to_string();
        assert_eq!(refused, "proxy-url of the kubeconfig: write http://HOST:PORT: no other kind of proxy is supported");
    }
}
