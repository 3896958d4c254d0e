//! `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::readiness::Readiness;

const PORT: u16 = 8080;
/// The time for one complete request, also for the next one on the same connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Scrapes that are rendered at once.
const MAX_SCRAPES: usize = 2;

/// Binds the admin address; without one, port 8080 on all addresses, of IPv4 alone where there is no IPv6.
pub async fn bind(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind(address).await;
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await
        }
        bound => bound,
    }
}

/// Serves until stopped. A connection that sends no complete request in time is closed.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = router(metrics, readiness);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, most likely: connections that are closed make room.
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let connection = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let stop = stop.clone();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // What fails here is the connection of a client that is gone.
                _ = connection.as_mut() => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn router(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Router {
    let live = readiness.clone();
    let scrapes = Arc::new(Semaphore::new(MAX_SCRAPES));
    Router::new()
        .route(
            "/livez",
            get(async move || match live.stuck() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            }),
        )
        .route(
            "/readyz",
            get(async move || match readiness.pending() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(pending) => (StatusCode::SERVICE_UNAVAILABLE, pending),
            }),
        )
        .route("/metrics", get(async move || scrape(&metrics, &scrapes).await))
}

/// Renders the metrics. Those of many resources take memory: the others wait.
async fn scrape(metrics: &Metrics, scrapes: &Semaphore) -> impl IntoResponse + use<> {
    let _permit = scrapes.acquire().await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let text = metrics.render().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok::<_, StatusCode>(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}
