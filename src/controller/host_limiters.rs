//! The limits of all portal hosts, and the resources that wait for a permit.
//!
//! A request is prepared with a permit, and sent when its turn comes. What makes it slow to prepare, such as a read, takes
//! no request from the host.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

use crate::core::{Admit, Epoch, HostQueue, Outcome, Priority, RetryAfterRecord, Turn};
use crate::index::Key;

mod hosts;
#[cfg(test)]
mod tests;

use hosts::{Hosts, MAX_PREPARED, Stage};

/// All hosts.
pub struct HostLimiters {
    hosts: Mutex<Hosts>,
    requeue: UnboundedSender<Key>,
    recovered: UnboundedSender<String>,
    clock: fn() -> Timestamp,
}

/// The permit of one request, released when it is dropped.
pub struct RequestPermit<'a> {
    limiters: &'a HostLimiters,
    host: String,
    /// `None`: for a verification.
    key: Option<Key>,
    acquired: Epoch,
    stage: Stage,
    outcome: Outcome,
}

/// Verifications of one host that wait to be sent.
const MAX_VERIFICATIONS: usize = 8;

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
        let hosts = self.lock();
        let admit = hosts.by_name.get(host).map_or(Admit::Now, |host| host.limiter.check((self.clock)()));
        if admit == Admit::Now && hosts.is_full() { Admit::AtCapacity } else { admit }
    }

    /// Acquires a permit to prepare a request.
    pub fn try_prepare(&self, host: &str, key: &Key) -> Result<RequestPermit<'_>, Admit> {
        let mut hosts = self.lock();
        if hosts.is_full() {
            return Err(Admit::AtCapacity);
        }
        let queue = hosts.by_name.entry(host.to_owned()).or_default();
        match queue.try_prepare(key, (self.clock)()) {
            Admit::Now => {
                let acquired = queue.limiter.epoch();
                hosts.prepared += 1;
                if hosts.woken_by.get(key).is_some_and(|by| by == host) {
                    hosts.woken_by.remove(key);
                }
                Ok(RequestPermit::new(self, host, Some(key.clone()), acquired, Stage::Prepared))
            }
            refused => Err(refused),
        }
    }

    /// Acquires a permit for a verification, which has its turn after what waits already.
    pub fn try_verify(&self, host: &str) -> Result<RequestPermit<'_>, Admit> {
        let mut hosts = self.lock();
        let stage = match hosts.try_verify(host, (self.clock)()) {
            Admit::Now => Stage::InFlight,
            Admit::AtCapacity if hosts.verifications(host) < MAX_VERIFICATIONS => hosts.wait(host, None),
            refused => return Err(refused),
        };
        let acquired = hosts.epoch(host);
        Ok(RequestPermit::new(self, host, None, acquired, stage))
    }

    /// Takes the turn of a request that was prepared, or waits for it; `None` where it is not to be sent.
    fn try_send(&self, host: &str, acquired: Epoch) -> Option<Stage> {
        let mut hosts = self.lock();
        match hosts.try_send(host, acquired, (self.clock)()) {
            Turn::Now => {
                self.wake_waiting(&mut hosts, host);
                Some(Stage::InFlight)
            }
            Turn::Later => Some(hosts.wait(host, Some(acquired))),
            Turn::Never => None,
        }
    }

    /// Waits for a permit of a host at capacity.
    pub fn enqueue(&self, host: &str, priority: Priority, key: Key) {
        let mut hosts = self.lock();
        let full = hosts.is_full();
        let queue = hosts.by_name.entry(host.to_owned()).or_default();
        if full {
            queue.wait(priority, key);
            hosts.add_short(host);
        } else if let Some(key) = queue.enqueue(priority, key, (self.clock)()) {
            self.wake(&mut hosts, host, key);
        }
    }

    /// A reconcile ended: passes a permit that it was woken for and did not use on to the next in line.
    pub fn pass_on(&self, key: &Key) {
        let mut hosts = self.lock();
        let Some(host) = hosts.woken_by.remove(key) else { return };
        let next = hosts.by_name.get_mut(&host).and_then(|queue| queue.pass_on(key, (self.clock)()));
        match next {
            Some(next) => self.wake(&mut hosts, &host, next),
            None => self.wake_short(&mut hosts),
        }
    }

    /// Wakes resources of the hosts whose turn it is, where fewer requests are prepared than allowed.
    fn wake_short(&self, hosts: &mut Hosts) {
        while hosts.prepared + hosts.woken_by.len() < MAX_PREPARED
            && let Some(host) = hosts.short.pop_front()
        {
            let Some(queue) = hosts.by_name.get_mut(&host) else { continue };
            // A host without a permit wakes those that wait when it has one.
            let Some(next) = queue.wake((self.clock)()) else { continue };
            if queue.is_awaited() {
                hosts.short.push_back(host.clone());
            }
            self.wake(hosts, &host, next);
        }
    }

    /// A request less of the host is prepared: wakes those that wait for the permit. While hosts are short, it is one, of the
    /// host whose turn it is.
    fn wake_waiting(&self, hosts: &mut Hosts, host: &str) {
        let Some(queue) = hosts.by_name.get_mut(host) else { return };
        if hosts.short.is_empty() {
            for key in queue.wake_waiting(usize::MAX) {
                self.wake(hosts, host, key);
            }
            return;
        }
        if queue.is_awaited() {
            hosts.add_short(host);
        }
        self.wake_short(hosts);
    }

    /// Sends what waits and may be sent now.
    fn send_waiting(&self, hosts: &mut Hosts) {
        let now = (self.clock)();
        for waiting in std::mem::take(&mut hosts.waiting) {
            // Nobody waits for it any more.
            if waiting.turn.is_closed() {
                continue;
            }
            let (turn, acquired) = match waiting.acquired {
                Some(acquired) => (hosts.try_send(&waiting.host, acquired, now), acquired),
                None => (hosts.try_verify(&waiting.host, now).into(), hosts.epoch(&waiting.host)),
            };
            match turn {
                Turn::Now => {
                    if waiting.acquired.is_some() {
                        self.wake_waiting(hosts, &waiting.host);
                    }
                    // Its receiver is closed with the lock that is held here.
                    let _ = waiting.turn.send(acquired);
                }
                Turn::Later => hosts.waiting.push_back(waiting),
                Turn::Never => {}
            }
        }
    }

    fn wake(&self, hosts: &mut Hosts, host: &str, key: Key) {
        let before = hosts.woken_by.insert(key.clone(), host.to_owned());
        // It named another host when it began to wait there.
        if let Some(before) = before.filter(|before| before != host)
            && let Some(queue) = hosts.by_name.get_mut(&before)
            && let Some(next) = queue.pass_on(&key, (self.clock)())
        {
            self.wake(hosts, &before, next);
        }
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

impl<'a> RequestPermit<'a> {
    fn new(limiters: &'a HostLimiters, host: &str, key: Option<Key>, acquired: Epoch, stage: Stage) -> Self {
        Self { limiters, host: host.to_owned(), key, acquired, stage, outcome: Outcome::Failed }
    }

    /// Whether the request may be sent without a wait.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::InFlight)
    }

    /// Waits for the turn of the request; returns whether it comes. It does not after a 429 to another one.
    pub async fn turn(&mut self) -> bool {
        if let Stage::Prepared = self.stage {
            self.stage = self.limiters.try_send(&self.host, self.acquired).unwrap_or(Stage::Prepared);
        }
        if let Stage::Waiting(granted) = &mut self.stage {
            let granted = granted.await;
            self.settle(granted.ok());
        }
        self.is_in_flight()
    }

    fn settle(&mut self, granted: Option<Epoch>) {
        self.acquired = granted.unwrap_or(self.acquired);
        self.stage = match (granted, &self.key) {
            (Some(_), _) => Stage::InFlight,
            (None, Some(_)) => Stage::Prepared,
            (None, None) => Stage::Refused,
        };
    }

    /// Releases the permit with the outcome of its request.
    pub fn release(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        let mut hosts = self.limiters.lock();
        if let Stage::Waiting(granted) = &mut self.stage {
            granted.close();
            let granted = granted.try_recv().ok();
            self.settle(granted);
        }
        let now = (self.limiters.clock)();
        let is_token_request = usize::from(self.key.is_some());
        let Some(queue) = hosts.by_name.get_mut(&self.host) else { return };
        match self.stage {
            Stage::InFlight => {
                if queue.release(self.key.as_ref(), self.acquired, self.outcome, now) {
                    let _ = self.limiters.recovered.send(self.host.clone());
                }
                hosts.in_flight = hosts.in_flight.saturating_sub(is_token_request);
            }
            Stage::Prepared => {
                queue.limiter.forgo(self.acquired);
                hosts.prepared = hosts.prepared.saturating_sub(1);
            }
            Stage::Waiting(_) | Stage::Refused => return,
        }
        self.limiters.send_waiting(&mut hosts);
        self.limiters.wake_waiting(&mut hosts, &self.host);
        hosts.forget_idle(&self.host, now);
    }
}
