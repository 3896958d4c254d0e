//! When a watch told of a change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use testkit::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Namespace and name.
pub type Key = (String, String);

/// What is known of each object: its mark, and when that came to be so. Dropping it ends the watch.
pub struct Marks {
    seen: Arc<Mutex<HashMap<Key, (String, Instant)>>>,
    told: watch::Receiver<()>,
    watching: JoinHandle<()>,
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Marks {
    /// Follows a watch; an object without a mark is not there yet.
    pub fn follow<K: Resource + Send + 'static>(
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
        mark: impl Fn(&K) -> Option<String> + Send + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(HashMap::<Key, (String, Instant)>::new()));
        let (tell, told) = watch::channel(());
        let into = seen.clone();
        let watching = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
                let Some(mark) = mark(&object) else { continue };
                let key = (object.namespace().unwrap_or_default(), object.name_any());
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.get(&key).is_none_or(|(known, _)| *known != mark) {
                    seen.insert(key, (mark, Instant::now()));
                    tell.send_replace(());
                }
            }
        });
        Self { seen, told, watching }
    }

    /// Waits until each object has changed after its moment; returns how long that took, in ascending order.
    pub async fn since(&self, moments: &[(Key, Instant)], limit: Duration) -> Result<Vec<Duration>, Error> {
        let mut told = self.told.clone();
        let mut waits = Vec::new();
        let all = async {
            for (key, moment) in moments {
                let changed = || {
                    let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.get(key).and_then(|(_, at)| at.checked_duration_since(*moment))
                };
                let wait = loop {
                    told.mark_unchanged();
                    match changed() {
                        Some(wait) => break wait,
                        None => told.changed().await.ok()?,
                    }
                };
                waits.push(wait);
            }
            Some(())
        };
        let done = tokio::time::timeout(limit, all).await.is_ok_and(|all| all.is_some());
        waits.sort();
        if done {
            Ok(waits)
        } else {
            Err(Error(format!("{} of {} came within {} s", waits.len(), moments.len(), limit.as_secs())))
        }
    }
}
