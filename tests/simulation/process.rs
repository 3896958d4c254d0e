//! The operator's process: what it has in memory, its starts and ends, and its clock.

use std::collections::{BTreeSet, VecDeque};

use arcgis_credential_operator::core::{Creations, HostQueue, Memory, RetryAfterRecord, WorkQueue};
use jiff::SignedDuration;

use crate::fleet::{Id, Unseen};
use crate::portal::Portal;
use crate::simulation::{Event, Simulation};
use crate::time::{MINUTE, Ms, SECOND, log_uniform};

/// The operator's process.
pub struct Operator {
    pub up: bool,
    /// How often it has started.
    pub started: u64,
    pub queue: WorkQueue<Id>,
    pub hosts: Vec<HostQueue<Id>>,
    /// The requests to each host that wait to be sent.
    pub to_send: Vec<VecDeque<Id>>,
    pub busy: u32,
    pub creations: Creations,
}

impl Operator {
    /// A process that has just started.
    pub fn new(portals: usize) -> Self {
        Self {
            up: true,
            started: 1,
            queue: WorkQueue::default(),
            hosts: (0..portals).map(|_| HostQueue::default()).collect(),
            to_send: vec![VecDeque::new(); portals],
            busy: 0,
            creations: Creations::default(),
        }
    }
}

impl Simulation {
    /// Ends the process, which loses its memory.
    pub fn stop(&mut self) {
        let started = self.operator.started + 1;
        self.operator = Operator { up: false, started, ..Operator::new(self.portals.len()) };
        for resource in &mut self.resources {
            resource.memory = Memory::default();
            resource.unseen = Unseen::default();
            (resource.check, resource.check_result) = (None, None);
            resource.history.unanswered = 0;
            if let Some(in_progress) = resource.in_progress.take() {
                resource.status = in_progress.reconciliation.s.status;
                // The next reconciliation computes the plan again.
                resource.plan = None;
                // What it was about to report is unknown.
                resource.history.answer = None;
            }
            resource.history.queue_priority = None;
            if std::mem::take(&mut resource.history.unpublished) {
                resource.history.last_success = None;
            }
        }
        self.waiting.iter_mut().for_each(BTreeSet::clear);
        // What a status does not record of a pause is lost.
        self.reset_rate_limit_checks();
    }

    /// Starts the process once the API server can be reached.
    pub fn start(&mut self) {
        if !self.api_up {
            return self.after(SECOND, Event::Start);
        }
        self.operator.up = true;
        let now = self.clock.timestamp();
        let mut pauses: Vec<Vec<RetryAfterRecord>> = self.portals.iter().map(|_| Vec::new()).collect();
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            let resource = &mut self.resources[id as usize];
            if !resource.history.created {
                continue;
            }
            resource.history.was_at_rest = resource.is_at_rest(now);
            pauses[resource.portal].extend(RetryAfterRecord::of(&resource.status));
            self.wake(id);
        }
        for (host, pauses) in self.operator.hosts.iter_mut().zip(pauses) {
            host.limiter.restore(&pauses, now);
        }
        self.exempt_until = self.clock.now + self.longest_drain();
    }

    /// Takes over from a process that has ended: resources are listed, and lists of Secrets go on.
    pub fn take_over(&mut self) {
        self.stop();
        for resource in &mut self.resources {
            let [target, credentials] = [self.rng.bool(), self.rng.bool()];
            resource.unseen = Unseen { target, credentials };
        }
        self.start();
        let until = log_uniform(&mut self.rng, SECOND, 20 * MINUTE);
        self.after(until, Event::Listed(self.operator.started));
    }

    /// Ends the lists of a process, unless it has ended.
    pub fn listed(&mut self, started: u64) {
        if started != self.operator.started {
            return;
        }
        for resource in &mut self.resources {
            resource.unseen = Unseen::default();
        }
        self.wake_all();
    }

    fn longest_drain(&self) -> Ms {
        self.portals.iter().map(Portal::drain_time).max().unwrap_or(0)
    }

    /// Sets the operator's clock, and moves what it remembers like the event loop does. When the clock goes forward, a
    /// whole fleet may be due at once: the tokens expire by this clock.
    pub fn set_clock(&mut self, by: Ms) {
        self.clock.offset += by;
        let now = self.clock.now;
        let step = SignedDuration::from_millis(by);
        self.operator.hosts.iter_mut().for_each(|host| host.limiter.shift(step));
        for resource in &mut self.resources {
            resource.memory.shift(step);
            // By the new time a token may have expired, and a retry may come sooner.
            resource.history.status_write_expected = true;
            resource.history.rejected.clear();
            resource.history.replacements.clear();
        }
        let recovered = self.portals.iter().map(|portal| portal.settled_at(now)).max().unwrap_or(0);
        self.exempt_until = self.exempt_until.max(recovered);
        if by.abs() > SECOND {
            self.exempt_until = self.exempt_until.max(now + self.longest_drain());
        }
        self.reset_rate_limit_checks();
        self.wake_all();
    }

    /// Wakes all that exist.
    fn wake_all(&mut self) {
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            if self.resources[id as usize].history.created {
                self.wake(id);
            }
        }
    }
}
