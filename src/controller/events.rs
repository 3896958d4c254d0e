//! Sends events after the statuses that they tell of: no reconcile waits for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tracing::warn;

use super::leader_election::Leadership;
use crate::cluster::{Cluster, publish};
use crate::core::{ConditionChange, EventQueue, Identity, Term};

/// Calls at once: one that the API server does not answer delays no other.
const SENDERS: usize = 4;

/// An event to send.
struct Entry {
    me: Identity,
    change: ConditionChange,
    term: Term,
    at: Timestamp,
}

/// The events that wait.
pub(super) struct Events {
    queue: Mutex<EventQueue<Entry>>,
    /// One permit for each that was added. Closed at the end.
    added: Semaphore,
}

impl Default for Events {
    fn default() -> Self {
        Self { queue: Mutex::default(), added: Semaphore::new(0) }
    }
}

impl Events {
    /// Adds an event; returns whether one was dropped for it.
    pub fn add(&self, me: Identity, change: ConditionChange, term: Term, at: Timestamp) -> bool {
        let dropped = self.queue().push(change.warning, Entry { me, change, term, at }).is_some();
        if !dropped {
            self.added.add_permits(1);
        }
        dropped
    }

    fn queue(&self) -> MutexGuard<'_, EventQueue<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next event; `None`: the end has come, and none is left.
    async fn next(&self) -> Option<Entry> {
        // At the end, what still waits is taken without a permit.
        let _ = self.added.acquire().await.map(SemaphorePermit::forget);
        self.queue().pop()
    }
}

/// What sends the events, until it is dropped.
pub(super) struct Senders {
    events: Arc<Events>,
    tasks: JoinSet<()>,
}

impl Senders {
    pub fn start(events: &Arc<Events>, cluster: &Cluster, leadership: &Leadership) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..SENDERS {
            tasks.spawn(send(events.clone(), cluster.clone(), leadership.clone()));
        }
        Self { events: events.clone(), tasks }
    }

    /// Sends what waits, and ends.
    pub async fn finish(mut self) {
        self.events.added.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn send(events: Arc<Events>, cluster: Cluster, leadership: Leadership) {
    while let Some(Entry { me, change, term, at }) = events.next().await {
        if leadership.holds(term)
            && let Err(error) = publish(&cluster, &me, change, at).await
        {
            warn!(namespace = me.namespace, name = me.name, "event not written: {error}");
        }
    }
}
