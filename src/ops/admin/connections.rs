//! The connections to the admin port: each for a limited time, and a limited number of them.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::scrapes::{Reading, Scrapes};

/// The time for one complete request, also for the next one on the same connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after the response that ends later than this.
const LAST_RESPONSE: Duration = Duration::from_secs(30);
/// The longest time of a connection.
const LONGEST: Duration = Duration::from_secs(40);
/// Connections that are kept. For one more, the one that has waited longest is closed.
const MAX_CONNECTIONS: usize = 256;
/// The head of a request, and what is buffered of a response.
const BUFFER: usize = 8 * 1024;

/// The connections in progress.
pub(super) struct Connections {
    router: Router,
    scrapes: Arc<Scrapes>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    open: HashMap<Id, (AbortHandle, Arc<AtomicU64>)>,
    /// Counts what arrives: of two connections, the one with the lower number has waited longer.
    arrivals: Arc<AtomicU64>,
}

impl Connections {
    pub fn new(router: Router, scrapes: Arc<Scrapes>, stop: CancellationToken) -> Self {
        Self { router, scrapes, stop, tasks: JoinSet::new(), open: HashMap::new(), arrivals: Arc::default() }
    }

    /// Serves one more.
    pub async fn add(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        while self.open.len() >= MAX_CONNECTIONS {
            let waiting = self.open.values().min_by_key(|(_, arrived)| arrived.load(Ordering::Relaxed));
            if let Some((longest, _)) = waiting {
                longest.abort();
            }
            self.ended().await;
        }
        let arrivals = self.arrivals.clone();
        let arrived = Arc::new(AtomicU64::new(arrivals.fetch_add(1, Ordering::Relaxed)));
        let (reading, last_arrived) = (Arc::<Reading>::default(), arrived.clone());
        let seen = reading.clone();
        let service = self.router.clone().map_request(move |mut request: Request<Incoming>| {
            last_arrived.store(arrivals.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            request.extensions_mut().insert(seen.clone());
            request
        });
        let connection = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let (scrapes, stop) = (self.scrapes.clone(), self.stop.clone());
        let task = self.tasks.spawn(async move {
            let served = async {
                let mut connection = pin!(connection);
                tokio::select! {
                    // What fails here is the connection of a client that is gone.
                    _ = connection.as_mut() => return,
                    () = sleep(LAST_RESPONSE) => {}
                    () = stop.cancelled() => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            };
            tokio::select! {
                () = served => {}
                () = sleep(LONGEST) => {}
                () = scrapes.outdated(&reading) => {}
            }
        });
        self.open.insert(task.id(), (task, arrived));
    }

    /// Waits until one has ended.
    pub async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => {
                self.open.remove(&ended.map_or_else(|error: JoinError| error.id(), |(id, ())| id));
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended.
    pub async fn drain(&mut self) {
        while !self.open.is_empty() {
            self.ended().await;
        }
    }
}
