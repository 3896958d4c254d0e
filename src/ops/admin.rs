//! `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::readiness::Readiness;

const PORT: u16 = 8080;

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

/// Serves until stopped.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) -> io::Result<()> {
    let live = readiness.clone();
    let router = Router::new()
        .route(
            "/livez",
            get(async move || {
                if live.alive() {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "the event loop does not run\n")
                }
            }),
        )
        .route(
            "/readyz",
            get(async move || match readiness.pending() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(pending) => (StatusCode::SERVICE_UNAVAILABLE, pending),
            }),
        )
        .route(
            "/metrics",
            get(async move || {
                let kind = prometheus::TEXT_FORMAT;
                metrics
                    .render()
                    .map(|text| ([(header::CONTENT_TYPE, kind)], text))
                    .ok_or(StatusCode::INTERNAL_SERVER_ERROR)
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
