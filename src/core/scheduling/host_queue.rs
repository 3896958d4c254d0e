//! One portal host: its limits, who waits for a permit, and who tries it in an outage.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use super::host_limiter::{Admit, Epoch, HostLimiter, Outcome};
use super::line::{Line, Place, Priority};
use super::outage::OutageMonitor;

/// One host: its limits, and the keys that wait for a permit.
pub struct HostQueue<K> {
    pub limiter: HostLimiter,
    waiting: Line<K>,
    /// Woken because a permit is free, and not reconciled since: with the place that it had.
    woken: HashMap<K, Place>,
    outage: OutageMonitor<K>,
}

impl<K> Default for HostQueue<K> {
    fn default() -> Self {
        Self {
            limiter: HostLimiter::default(),
            waiting: Line::default(),
            woken: HashMap::new(),
            outage: OutageMonitor::default(),
        }
    }
}

impl<K: Clone + Hash + Ord> HostQueue<K> {
    /// Acquires a permit, as [`HostLimiter::try_prepare`] does; a key that gets one waits no longer.
    pub fn try_prepare(&mut self, key: &K, now: Timestamp) -> Admit {
        let admit = self.limiter.try_prepare(now);
        if admit == Admit::Now {
            self.woken.remove(key);
            self.waiting.remove(key);
        }
        admit
    }

    /// Waits for a permit. Returns the key to be reconciled again where one has become free meanwhile.
    pub fn enqueue(&mut self, priority: Priority, key: K, now: Timestamp) -> Option<K> {
        if self.limiter.check(now) == Admit::Now {
            return Some(key);
        }
        self.wait(priority, key);
        None
    }

    /// Waits for a permit, also where this host has one.
    pub fn wait(&mut self, priority: Priority, key: K) {
        // One that was woken but came too late for the permit keeps its place.
        let kept = self.woken.remove(&key);
        self.waiting.insert(key, priority, kept);
    }

    /// Whether a key waits.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the key whose turn it is, where a permit is free.
    pub fn wake(&mut self, now: Timestamp) -> Option<K> {
        if self.limiter.check(now) == Admit::Now { self.wake_waiting(1).pop() } else { None }
    }

    /// Whether nothing has to be kept of this host.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.is_unused() && self.outage.is_idle(now)
    }

    /// Whether nothing but what is known of an outage has to be kept.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.limiter.is_unused() && self.waiting.is_empty()
    }

    /// Ends the request of a key, or of what waits in no queue; returns whether the host works again: what failed because of
    /// an outage need not wait any longer.
    pub fn release(&mut self, key: Option<&K>, acquired: Epoch, outcome: Outcome, now: Timestamp) -> bool {
        self.limiter.release(acquired, outcome, now);
        match (outcome, key) {
            (Outcome::Issued, _) => self.outage.succeeded(now),
            (Outcome::Unavailable | Outcome::Unanswered, Some(key)) => {
                self.outage.failed(key, now);
                false
            }
            _ => false,
        }
    }

    /// Wakes those that may try now, but no more than `most`.
    pub fn wake_waiting(&mut self, most: usize) -> Vec<K> {
        let room = self.limiter.room(self.woken.len()).min(most);
        (0..room).map_while(|_| self.wake_next()).collect()
    }

    /// Returns from when on one request tries this host, which answers none.
    #[must_use]
    pub fn probe_at(&self) -> Option<Timestamp> {
        self.outage.probe_at()
    }

    /// Whether one request is to try this host now.
    pub fn take_probe(&mut self, now: Timestamp) -> bool {
        self.outage.take_probe(now)
    }

    /// Moves the times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        self.limiter.shift(step);
        self.outage.shift(step);
    }

    /// A reconcile ended without a request. If the key was woken for a permit that is still free, returns the next key
    /// to be reconciled: those that wait would otherwise wait for a request to end, and none may be in flight.
    pub fn pass_on(&mut self, key: &K, now: Timestamp) -> Option<K> {
        if self.woken.remove(key).is_some() && self.limiter.check(now) == Admit::Now { self.wake_next() } else { None }
    }

    fn wake_next(&mut self) -> Option<K> {
        let (key, place) = self.waiting.pop()?;
        self.woken.insert(key.clone(), place);
        Some(key)
    }
}
