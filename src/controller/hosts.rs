//! The gates of all portal hosts, and who waits at them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::index::Key;
use crate::core::{Entry, Host, Outcome, Priority, Told};

/// All hosts.
pub struct Hosts {
    by_name: Mutex<HashMap<String, Host<Key>>>,
    wake: UnboundedSender<Key>,
    clock: fn() -> Timestamp,
}

/// A request under way; it leaves the gate when dropped.
pub struct Pass<'a> {
    hosts: &'a Hosts,
    host: String,
    outcome: Outcome,
}

impl Hosts {
    /// Whoever may go on is sent to `wake`.
    pub fn new(wake: UnboundedSender<Key>, clock: fn() -> Timestamp) -> Self {
        Self { by_name: Mutex::default(), wake, clock }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host<Key>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request to the host would meet.
    pub fn look(&self, host: &str) -> Entry {
        self.lock().get(host).map_or(Entry::Go, |host| host.gate.look((self.clock)()))
    }

    /// Asks to send a request.
    pub fn enter(&self, host: &str, key: &Key) -> Result<Pass<'_>, Entry> {
        match self.lock().entry(host.to_owned()).or_default().enter(key, (self.clock)()) {
            Entry::Go => Ok(Pass { hosts: self, host: host.to_owned(), outcome: Outcome::Failed }),
            refused => Err(refused),
        }
    }

    /// Waits for a place at a busy host.
    pub fn queue(&self, host: &str, priority: Priority, key: Key) {
        let mut hosts = self.lock();
        if let Some(key) = hosts.entry(host.to_owned()).or_default().queue(priority, key, (self.clock)()) {
            // The receiver is gone only at the end.
            let _ = self.wake.send(key);
        }
    }

    /// A look at a resource has ended without a request: where it was told to go on, another may.
    pub fn decline(&self, key: &Key) {
        let now = (self.clock)();
        for host in self.lock().values_mut() {
            if let Some(next) = host.decline(key, now) {
                let _ = self.wake.send(next);
            }
        }
    }

    /// Forgets all: somebody else may have asked since.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// What a host asked for before a restart.
    pub fn recall(&self, host: &str, told: &[Told]) {
        self.lock().entry(host.to_owned()).or_default().gate.recall(told, (self.clock)());
    }
}

impl Pass<'_> {
    /// How the request ended.
    pub fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(&self.host) else { return };
        for key in host.leave(self.outcome, (self.hosts.clock)()) {
            let _ = self.hosts.wake.send(key);
        }
        // Whoever may write resources may name ever new hosts below a wildcard.
        if host.idle() {
            hosts.remove(&self.host);
        }
    }
}
