//! The limits of all portal hosts, and the resources that wait for a permit.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

use crate::core::{Admit, Epoch, HostQueue, Outcome, Priority, RetryAfterRecord};
use crate::index::Key;

/// All hosts.
pub struct HostLimiters {
    hosts: Mutex<Hosts>,
    requeue: UnboundedSender<Key>,
    recovered: UnboundedSender<String>,
    clock: fn() -> Timestamp,
}

#[derive(Default)]
struct Hosts {
    by_name: HashMap<String, HostQueue<Key>>,
    /// The host that has a permit for a resource, until its reconcile ends.
    woken_by: HashMap<Key, String>,
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
        Self { hosts: Mutex::default(), requeue, recovered, clock }
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a request to the host would get now.
    pub fn check(&self, host: &str) -> Admit {
        self.lock().by_name.get(host).map_or(Admit::Now, |host| host.limiter.check((self.clock)()))
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
        let queue = hosts.by_name.entry(host.to_owned()).or_default();
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
        let queue = hosts.by_name.entry(host.to_owned()).or_default();
        if let Some(key) = queue.enqueue(priority, key, (self.clock)()) {
            self.wake(&mut hosts, host, key);
        }
    }

    /// A reconcile ended: passes a permit that it was woken for and did not use on to the next in line.
    pub fn pass_on(&self, key: &Key) {
        let mut hosts = self.lock();
        let Some(host) = hosts.woken_by.remove(key) else { return };
        let next = hosts.by_name.get_mut(&host).and_then(|queue| queue.pass_on(key, (self.clock)()));
        if let Some(next) = next {
            self.wake(&mut hosts, &host, next);
        }
    }

    fn wake(&self, hosts: &mut Hosts, host: &str, key: Key) {
        hosts.woken_by.insert(key.clone(), host.to_owned());
        // The receiver is gone only at the end.
        let _ = self.requeue.send(key);
    }

    /// Returns from when on a host is tried that answers no request.
    pub fn next_probe(&self) -> Option<Timestamp> {
        self.lock().by_name.values().filter_map(HostQueue::probe_at).min()
    }

    /// Returns the hosts that one request is to try now.
    pub fn take_probes(&self) -> Vec<String> {
        let now = (self.clock)();
        let mut hosts = self.lock();
        hosts.by_name.iter_mut().filter_map(|(name, host)| host.take_probe(now).then(|| name.clone())).collect()
    }

    /// Moves the pauses after the clock was set by `step`.
    pub fn shift(&self, step: SignedDuration) {
        self.lock().by_name.values_mut().for_each(|host| host.shift(step));
    }

    /// Forgets all hosts: another replica may have sent requests since.
    pub fn clear(&self) {
        *self.lock() = Hosts::default();
    }

    /// Restores a host's pause after a restart.
    pub fn restore(&self, host: &str, records: &[RetryAfterRecord]) {
        self.lock().by_name.entry(host.to_owned()).or_default().limiter.restore(records, (self.clock)());
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
        let now = (self.limiters.clock)();
        let Some(queue) = hosts.by_name.get_mut(&self.host) else { return };
        let released = queue.release(self.key.as_ref(), self.acquired, self.outcome, now);
        let is_idle = queue.is_idle(now);
        for key in released.woken {
            self.limiters.wake(&mut hosts, &self.host, key);
        }
        if released.recovered {
            let _ = self.limiters.recovered.send(self.host.clone());
        }
        if is_idle {
            hosts.by_name.remove(&self.host);
        } else if hosts.by_name.len() > MAX_HOSTS {
            hosts.by_name.retain(|_, host| !host.is_unused());
        }
    }
}
