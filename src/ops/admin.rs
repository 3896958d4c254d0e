//! `/livez`, `/readyz` and `/metrics`.

mod connections;
mod scrapes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use self::connections::Connections;
use self::scrapes::{Reading, Scrapes};
use super::metrics::Metrics;
use super::readiness::Readiness;

const PORT: u16 = 8080;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that wait until they are accepted. Beyond the 128 of the standard library, a probe is tried again after a
/// second, which is too late.
const BACKLOG: u32 = 1024;

/// Binds the admin address; without one, port 8080 on all addresses, of IPv4 alone where there is no IPv6.
pub fn bind(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return listen(address);
    }
    match listen((Ipv6Addr::UNSPECIFIED, PORT).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen((Ipv4Addr::UNSPECIFIED, PORT).into()),
        bound => bound,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until stopped.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) -> io::Result<()> {
    let scrapes = Arc::new(Scrapes::new(metrics));
    let mut connections = Connections::new(router(scrapes.clone(), readiness), scrapes, stop.clone());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            () = connections.ended() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.add(stream).await,
            // Too many open files, most likely: connections that are closed make room.
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
    connections.drain().await;
    Ok(())
}

fn router(scrapes: Arc<Scrapes>, readiness: Arc<Readiness>) -> Router {
    let live = readiness.clone();
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
        .route(
            "/metrics",
            get(async move |Extension(reading): Extension<Arc<Reading>>| scrape(&scrapes, &reading).await),
        )
}

async fn scrape(scrapes: &Scrapes, reading: &Arc<Reading>) -> impl IntoResponse + use<> {
    let text = scrapes.text(reading).await.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok::<_, StatusCode>(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}
