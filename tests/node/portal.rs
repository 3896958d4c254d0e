//! A test portal whose tokens end when their lifetime ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::portal::{App, Certificate, Portal};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::support::SECRET;

pub struct ExpiringPortal {
    pub portal: Arc<Portal>,
    lifetime: Arc<AtomicU64>,
    task: AbortHandle,
}

impl ExpiringPortal {
    /// Starts a portal at an address of the host that pods reach.
    pub async fn start(address: IpAddr) -> Self {
        let portal = Arc::new(Portal::start((address, 0).into(), Certificate::For(address)).await.unwrap());
        let lifetime = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(expire(portal.clone(), lifetime.clone())).abort_handle();
        Self { portal, lifetime, task }
    }

    /// Grants this lifetime to all tokens from now on.
    pub fn grant(&self, seconds: u64, apps: &[String]) {
        self.lifetime.store(seconds, Ordering::Relaxed);
        for app in apps {
            self.answer(app, App::default());
        }
    }

    /// Changes how the token requests of an app are answered.
    pub fn answer(&self, app: &str, behavior: App) {
        let lifetime = Some(self.lifetime.load(Ordering::Relaxed));
        self.portal.app(app, App { secret: SECRET.to_owned(), lifetime, ..behavior });
    }

    /// Returns the shortest time between two token requests of an app.
    pub fn shortest_gap(&self, app: &str) -> Option<Duration> {
        let journal = self.portal.journal();
        let requests = journal.iter().filter(|entry| entry.client_id == app && entry.path.contains("oauth2/token"));
        let at: Vec<_> = requests.map(|entry| entry.at).collect();
        at.windows(2).map(|two| two[1].duration_since(two[0]).unsigned_abs()).min()
    }
}

impl Drop for ExpiringPortal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes each token invalid when the lifetime that was granted for it has passed.
async fn expire(portal: Arc<Portal>, lifetime: Arc<AtomicU64>) {
    let mut ends = HashMap::new();
    loop {
        for token in portal.tokens() {
            let granted = Duration::from_secs(lifetime.load(Ordering::Relaxed));
            if *ends.entry(token.clone()).or_insert_with(|| Instant::now() + granted) < Instant::now() {
                portal.expire(&token);
            }
        }
        // The precision of the expiration.
        sleep(Duration::from_millis(100)).await;
    }
}
