//! The limits of all portal hosts, and the resources that wait for a permit.

use std::collections::{HashMap, VecDeque};
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
    /// Token requests in flight.
    in_flight: usize,
    /// Hosts for which resources wait although the host has a permit. They are served by turns.
    short: VecDeque<String>,
}

/// Token requests in flight at once, of all hosts.
const MAX_IN_FLIGHT: usize = 64;

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
        let hosts = self.lock();
        let admit = hosts.by_name.get(host).map_or(Admit::Now, |host| host.limiter.check((self.clock)()));
        if admit == Admit::Now && hosts.is_full() { Admit::AtCapacity } else { admit }
    }

    /// Acquires a permit for one request.
    pub fn try_acquire(&self, host: &str, key: &Key) -> Result<RequestPermit<'_>, Admit> {
        self.acquire(host, Some(key), |queue, now| queue.try_acquire(key, now))
    }

    /// Acquires a permit for a request that waits in no queue.
    pub fn try_acquire_unqueued(&self, host: &str) -> Result<RequestPermit<'_>, Admit> {
        self.acquire(host, None, |queue, now| queue.limiter.try_acquire_for_verification(now))
    }

    fn acquire(
        &self,
        host: &str,
        key: Option<&Key>,
        admit: impl FnOnce(&mut HostQueue<Key>, Timestamp) -> Admit,
    ) -> Result<RequestPermit<'_>, Admit> {
        let mut hosts = self.lock();
        if key.is_some() && hosts.is_full() {
            return Err(Admit::AtCapacity);
        }
        let queue = hosts.by_name.entry(host.to_owned()).or_default();
        match admit(queue, (self.clock)()) {
            Admit::Now => {
                let acquired = queue.limiter.epoch();
                hosts.in_flight += usize::from(key.is_some());
                let (host, key) = (host.to_owned(), key.cloned());
                Ok(RequestPermit { limiters: self, host, key, acquired, outcome: Outcome::Failed })
            }
            refused => Err(refused),
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

    /// Wakes one resource of the host whose turn it is, where a request less is in flight than allowed.
    fn wake_short(&self, hosts: &mut Hosts) {
        while !hosts.is_full()
            && let Some(host) = hosts.short.pop_front()
        {
            let Some(queue) = hosts.by_name.get_mut(&host) else { continue };
            let next = queue.wake((self.clock)());
            if queue.is_awaited() && next.is_some() {
                hosts.short.push_back(host.clone());
            }
            // A host without a permit wakes those that wait when it has one.
            if let Some(next) = next {
                return self.wake(hosts, &host, next);
            }
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

impl Hosts {
    fn is_full(&self) -> bool {
        self.in_flight >= MAX_IN_FLIGHT
    }

    fn add_short(&mut self, host: &str) {
        if !self.short.iter().any(|short| short == host) {
            self.short.push_back(host.to_owned());
        }
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
        hosts.in_flight = hosts.in_flight.saturating_sub(usize::from(self.key.is_some()));
        // While hosts are short, one request makes room for one, of the host whose turn it is.
        let most = if hosts.short.is_empty() { usize::MAX } else { 0 };
        let Some(queue) = hosts.by_name.get_mut(&self.host) else { return };
        let released = queue.release(self.key.as_ref(), self.acquired, self.outcome, now, most);
        let (is_idle, is_awaited) = (queue.is_idle(now), queue.is_awaited());
        if most == 0 {
            if is_awaited {
                hosts.add_short(&self.host);
            }
            self.limiters.wake_short(&mut hosts);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn key(host: usize, n: usize) -> Key {
        Key::new(format!("host-{host}"), format!("{n}"))
    }

    fn limiters() -> (HostLimiters, UnboundedReceiver<Key>) {
        let (requeue, requeued) = unbounded_channel();
        (HostLimiters::new(requeue, unbounded_channel().0, || Timestamp::UNIX_EPOCH), requeued)
    }

    /// Eight hosts with eight requests each.
    fn fill(limiters: &HostLimiters) -> Vec<RequestPermit<'_>> {
        let all = (0..64).map(|n| limiters.try_acquire(&format!("host-{}", n / 8), &key(n / 8, n)));
        all.map(|permit| permit.map_err(drop).unwrap()).collect()
    }

    fn names(requeued: &mut UnboundedReceiver<Key>) -> Vec<String> {
        std::iter::from_fn(|| requeued.try_recv().ok())
            .map(|key| format!("{}/{}", key.namespace(), key.name()))
            .collect()
    }

    #[test]
    fn at_most_64_requests_are_in_flight_and_hosts_that_wait_are_served_by_turns() {
        let (limiters, mut requeued) = limiters();
        let mut permits = fill(&limiters);
        for host in [8, 9] {
            let name = format!("host-{host}");
            assert_eq!(limiters.check(&name), Admit::AtCapacity);
            for n in 0..3 {
                assert_eq!(limiters.try_acquire(&name, &key(host, n)).err(), Some(Admit::AtCapacity));
                limiters.enqueue(&name, None, key(host, n));
            }
            assert!(limiters.try_acquire_unqueued(&name).is_ok(), "a check of a token is none");
        }
        limiters.enqueue("host-0", None, key(0, 100));
        assert!(names(&mut requeued).is_empty());
        let mut order = Vec::new();
        for _ in 0..7 {
            permits.remove(0).release(Outcome::Issued);
            let woken = names(&mut requeued);
            assert_eq!(woken.len(), 1, "one for each: {woken:?}");
            let (host, n) = woken[0].split_once('/').unwrap();
            let woken_key = Key::new(host, n);
            permits.push(limiters.try_acquire(host, &woken_key).map_err(drop).unwrap());
            order.push(woken[0].clone());
        }
        order.sort_by_key(|name| name.split_once('/').unwrap().1.parse::<usize>().unwrap());
        assert_eq!(order, ["host-8/0", "host-9/0", "host-8/1", "host-9/1", "host-8/2", "host-9/2", "host-0/100"]);
        assert_eq!(limiters.check("host-8"), Admit::AtCapacity);
    }

    #[test]
    fn room_that_a_resource_does_not_use_goes_to_another_host() {
        let (limiters, mut requeued) = limiters();
        let mut permits = fill(&limiters);
        for host in [8, 9] {
            limiters.enqueue(&format!("host-{host}"), None, key(host, 0));
        }
        permits.remove(0).release(Outcome::Issued);
        assert_eq!(names(&mut requeued), ["host-8/0"]);
        limiters.pass_on(&key(8, 0));
        assert_eq!(names(&mut requeued), ["host-9/0"]);
    }
}
