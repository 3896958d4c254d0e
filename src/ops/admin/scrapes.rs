//! The texts that scrapes share: that of many resources takes memory, also while a client does not read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Mutex, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::ops::metrics::Metrics;

/// Scrapes within this time share a text.
const RENDER_PERIOD: Duration = Duration::from_secs(1);
/// Texts that are kept. The readers of an older one are dropped.
const MAX_TEXTS: u64 = 2;

/// What a connection reads.
#[derive(Default)]
pub(super) struct Reading(AtomicU64);

/// The texts that were rendered last.
pub(super) struct Scrapes {
    metrics: Arc<Metrics>,
    last: Mutex<Last>,
    /// The number of the oldest text that is kept.
    oldest: watch::Sender<u64>,
}

#[derive(Default)]
struct Last {
    number: u64,
    rendered: Option<Instant>,
    text: Weak<String>,
}

/// A text, as long as a connection reads it.
struct Reader {
    text: Arc<String>,
    reading: Arc<Reading>,
    number: u64,
}

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.reading.0.compare_exchange(self.number, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Scrapes {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, last: Mutex::default(), oldest: watch::channel(0).0 }
    }

    /// Returns the text for a connection; renders it where the last one is too old.
    pub async fn text(&self, reading: &Arc<Reading>) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        let fresh = last.rendered.is_some_and(|at| at.elapsed() < RENDER_PERIOD);
        let text = match last.text.upgrade().filter(|_| fresh) {
            Some(text) => text,
            None => self.render(&mut last).await?,
        };
        reading.0.store(last.number, Ordering::Relaxed);
        Some(Bytes::from_owner(Reader { text, reading: reading.clone(), number: last.number }))
    }

    async fn render(&self, last: &mut Last) -> Option<Arc<String>> {
        last.number += 1;
        self.oldest.send_replace((last.number + 1).saturating_sub(MAX_TEXTS));
        // Connections that read an older one are closed first.
        yield_now().await;
        let text = Arc::new(self.metrics.render()?);
        (last.rendered, last.text) = (Some(Instant::now()), Arc::downgrade(&text));
        let kept = text.clone();
        tokio::spawn(async move {
            sleep(RENDER_PERIOD).await;
            drop(kept);
        });
        Some(text)
    }

    /// Waits until the text that a connection reads is not kept any more.
    pub async fn outdated(&self, reading: &Reading) {
        let mut oldest = self.oldest.subscribe();
        let outdated = |oldest: &u64| (1..*oldest).contains(&reading.0.load(Ordering::Relaxed));
        if oldest.wait_for(outdated).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
