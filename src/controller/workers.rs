//! The workers: so many reconciles call the API server at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::core::{Priority, WorkerPool};
use crate::index::Key;

/// All workers. The order is that of [`WorkerPool`].
pub struct Workers {
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    pool: WorkerPool<Key>,
    waiting: HashMap<Key, oneshot::Sender<Worker>>,
}

/// One worker; dropping it frees it.
pub struct Worker(Arc<Workers>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.change(|state| state.pool.release());
    }
}

impl Workers {
    pub fn new(workers: usize) -> Arc<Self> {
        let state = State { pool: WorkerPool::new(workers), waiting: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Takes a worker for a reconcile that starts, where one waits for that. [`Workers::freed`] says when to try again.
    pub fn try_start(self: &Arc<Self>, waits: bool) -> Option<Worker> {
        self.change(|state| state.pool.try_start(waits)).then(|| Worker(self.clone()))
    }

    /// Leaves the workers to the reconciles that go on.
    pub fn start_none(self: &Arc<Self>) {
        self.change(|state| state.pool.try_start(false));
    }

    /// Waits until a worker is free for a reconcile that waits to be started.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Waits for a worker for the reconcile of a key that goes on.
    pub async fn resume(self: &Arc<Self>, key: &Key, priority: Priority) -> Option<Worker> {
        if self.lock().pool.try_resume() {
            return Some(Worker(self.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        self.change(|state| {
            state.pool.wait_to_resume(key.clone(), priority);
            state.waiting.insert(key.clone(), sender);
        });
        receiver.await.ok()
    }

    /// Changes who waits, or how many workers are free, and gives them to those whose turn it is.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        while let Some(sender) = self.next_to_resume() {
            // A reconcile that ends meanwhile drops it.
            let _ = sender.send(Worker(self.clone()));
        }
        if self.lock().pool.may_start() {
            self.freed.notify_one();
        }
        changed
    }

    fn next_to_resume(&self) -> Option<oneshot::Sender<Worker>> {
        let mut state = self.lock();
        loop {
            let key = state.pool.resume()?;
            if let Some(sender) = state.waiting.remove(&key).filter(|sender| !sender.is_closed()) {
                return Some(sender);
            }
            // It waits no longer.
            state.pool.release();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_no_longer_passes_its_worker_on() {
        let workers = Workers::new(1);
        let held = workers.try_start(true).unwrap();
        workers.start_none();
        let keys = ["gone", "second", "third"].map(|name| Key::new("maps", name));
        let [mut gone, mut second, mut third] = keys.each_ref().map(|key| Box::pin(workers.resume(key, None)));
        for waiting in [&mut gone, &mut second, &mut third] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(gone);
        drop(held);
        assert!((&mut third).now_or_never().is_none());
        // It has a worker, and never takes it.
        drop(second);
        assert!(third.await.is_some());
        assert!(workers.try_start(true).is_some(), "no worker is lost");
    }

    #[tokio::test]
    async fn a_start_that_waits_is_told_of_a_free_worker() {
        let workers = Workers::new(1);
        let held = workers.try_start(true).unwrap();
        assert!(workers.try_start(true).is_none());
        drop(held);
        workers.freed().await;
        let held = workers.try_start(true).unwrap();
        assert!(workers.try_start(false).is_none());
        drop(held);
        assert!(workers.freed().now_or_never().is_none(), "none waits");
    }
}
