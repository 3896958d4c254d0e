//! The limits of all portal hosts, and the resources that wait for a permit.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

use crate::core::{Admit, Epoch, HostQueue, Outcome, Priority, RetryAfterRecord};
use crate::index::Key;

/// All hosts.
pub struct HostLimiters {
    by_host: Mutex<HashMap<String, HostQueue<Key>>>,
    requeue: UnboundedSender<Key>,
    recovered: UnboundedSender<String>,
    clock: fn() -> Timestamp,
}

/// Hosts of which only an outage is remembered. Below a wildcard, users can name any number of them.
const MAX_HOSTS: usize = 1000;

/// The permit of a request in flight, released when it is dropped.
pub struct RequestPermit<'a> {
    limiters: &'a HostLimiters,
    host: String,
    /// `None`: for a request that waits in no queue.
    key: Option<Key>,
    acquired: Epoch,
    outcome: Outcome,
}

impl HostLimiters {
    /// Keys that may try again are sent to `requeue`, and hosts that work again to `recovered`.
    pub fn new(requeue: UnboundedSender<Key>, recovered: UnboundedSender<String>, clock: fn() -> Timestamp) -> Self {
        Self { by_host: Mutex::default(), requeue, recovered, clock }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HostQueue<Key>>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a request to the host would get now.
    pub fn check(&self, host: &str) -> Admit {
        self.lock().get(host).map_or(Admit::Now, |host| host.limiter.check((self.clock)()))
    }

    /// Acquires a permit for one request.
    pub fn try_acquire(&self, host: &str, key: &Key) -> Result<RequestPermit<'_>, Admit> {
        self.acquire(host, Some(key), |queue, now| queue.try_acquire(key, now))
    }

    /// Acquires a permit for a request that waits in no queue.
    pub fn try_acquire_unqueued(&self, host: &str) -> Result<RequestPermit<'_>, Admit> {
        self.acquire(host, None, |queue, now| queue.limiter.try_acquire(now))
    }

    fn acquire(
        &self,
        host: &str,
        key: Option<&Key>,
        admit: impl FnOnce(&mut HostQueue<Key>, Timestamp) -> Admit,
    ) -> Result<RequestPermit<'_>, Admit> {
        let mut hosts = self.lock();
        let queue = hosts.entry(host.to_owned()).or_default();
        match admit(queue, (self.clock)()) {
            Admit::Now => {
                let acquired = queue.limiter.epoch();
                let (host, key) = (host.to_owned(), key.cloned());
                Ok(RequestPermit { limiters: self, host, key, acquired, outcome: Outcome::Failed })
            }
            refused => Err(refused),
        }
    }

    /// Waits for a permit of a host at capacity.
    pub fn enqueue(&self, host: &str, priority: Priority, key: Key) {
        let mut hosts = self.lock();
        if let Some(key) = hosts.entry(host.to_owned()).or_default().enqueue(priority, key, (self.clock)()) {
            // The receiver is gone only at the end.
            let _ = self.requeue.send(key);
        }
    }

    /// A reconcile ended without a request: a permit that it was woken for goes to the next in line.
    pub fn forgo(&self, key: &Key) {
        let now = (self.clock)();
        for host in self.lock().values_mut() {
            if let Some(next) = host.forgo(key, now) {
                let _ = self.requeue.send(next);
            }
        }
    }

    /// Moves the pauses after the clock was set by `step`.
    pub fn shift(&self, step: SignedDuration) {
        self.lock().values_mut().for_each(|host| host.shift(step));
    }

    /// Forgets all hosts: another replica may have sent requests since.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Restores a host's pause after a restart.
    pub fn restore(&self, host: &str, records: &[RetryAfterRecord]) {
        self.lock().entry(host.to_owned()).or_default().limiter.restore(records, (self.clock)());
    }
}

impl RequestPermit<'_> {
    /// Releases the permit with the outcome of its request.
    pub fn release(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        let mut hosts = self.limiters.lock();
        let Some(host) = hosts.get_mut(&self.host) else { return };
        let now = (self.limiters.clock)();
        let released = host.release(self.key.as_ref(), self.acquired, self.outcome, now);
        for key in released.woken {
            let _ = self.limiters.requeue.send(key);
        }
        if released.recovered {
            let _ = self.limiters.recovered.send(self.host.clone());
        }
        if host.is_idle(now) {
            hosts.remove(&self.host);
        } else if hosts.len() > MAX_HOSTS {
            hosts.retain(|_, host| !host.is_unused());
        }
    }
}
