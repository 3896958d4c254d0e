//! Records when a watch reported the changes of objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use testkit::Error;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Namespace and name.
pub type Key = (String, String);

/// The last value of each object, and when it was first observed. Dropping it ends the watch.
pub struct Tracker {
    values: Arc<Mutex<HashMap<Key, (String, Instant)>>>,
    updated: watch::Receiver<()>,
    _watching: AbortOnDropHandle<()>,
}

impl Tracker {
    /// Follows a watch; objects without a value are ignored.
    pub fn follow<K: Resource + Send + 'static>(
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
        value: impl Fn(&K) -> Option<String> + Send + 'static,
    ) -> Self {
        let values = Arc::new(Mutex::new(HashMap::<Key, (String, Instant)>::new()));
        let (update, updated) = watch::channel(());
        let written = values.clone();
        let watching = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
                let Some(value) = value(&object) else { continue };
                let key = (object.namespace().unwrap_or_default(), object.name_any());
                let mut values = written.lock().unwrap_or_else(PoisonError::into_inner);
                if values.get(&key).is_none_or(|(before, _)| *before != value) {
                    values.insert(key, (value, Instant::now()));
                    update.send_replace(());
                }
            }
        });
        Self { values, updated, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Waits until each object has changed after its given time; returns how long that took, in ascending order.
    pub async fn since(&self, moments: &[(Key, Instant)], limit: Duration) -> Result<Vec<Duration>, Error> {
        let mut updated = self.updated.clone();
        let mut waits = Vec::new();
        let all = async {
            for (key, moment) in moments {
                let changed = || {
                    let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
                    values.get(key).and_then(|(_, at)| at.checked_duration_since(*moment))
                };
                let wait = loop {
                    updated.mark_unchanged();
                    match changed() {
                        Some(wait) => break wait,
                        None => updated.changed().await.ok()?,
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
            Err(Error(format!("{} of {} changed within {} s", waits.len(), moments.len(), limit.as_secs())))
        }
    }
}
