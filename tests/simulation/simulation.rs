//! The cluster, the portals, the clock and the operator's process, and the queue of events.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use arcgis_credential_operator::core::{
    Activity, Creations, Epoch, HostQueue, Outcome, Priority, RetryAfterRecord, WorkQueue,
};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::checks::Failures;
use crate::fleet::{Id, Resource, Unseen};
use crate::portal::Portal;
use crate::statistics::Statistics;
use crate::time::{Clock, MINUTE, Ms, SECOND, log_uniform};
use crate::users::Action;
use crate::verification::CheckEvent;

/// Concurrent reconciliations, as in the program's default.
const CONCURRENCY: u32 = 16;

/// Something that happens at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A resource is created.
    Create(Id),
    /// The portal responds, if the process that sent the request still runs.
    Response(Id, u64),
    /// A worker has finished its calls.
    WorkerFree(u64),
    /// The deadline for the successor of a token.
    Deadline(Id, u64),
    Action(Id, Action),
    Verification(CheckEvent),
    /// The operator's clock is set forward or back.
    SetClock(Ms),
    Stop,
    Start,
    /// A standby takes over. Some of the Secrets are not reported to it before its lists end.
    TakeOver,
    /// The lists of a process end.
    Listed(u64),
    Api(bool),
}

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

/// The whole simulation.
pub struct Simulation {
    pub seed: u64,
    pub rng: Rng,
    pub clock: Clock,
    pub end: Ms,
    events: BinaryHeap<Reverse<(Ms, u64, Event)>>,
    scheduled: u64,
    pub portals: Vec<Portal>,
    pub resources: Vec<Resource>,
    pub operator: Operator,
    pub api_up: bool,
    /// The last resourceVersion of the API server.
    pub version: u64,
    /// The number of the last token.
    pub serial: u64,
    pub statistics: Statistics,
    pub failures: Failures,
    /// The resources that wait at each host and need a token, as recorded by the checks.
    pub waiting: Vec<BTreeSet<(Priority, Id)>>,
    /// No renewal is checked before this time.
    pub exempt_until: Ms,
    /// Whether every reconciliation, or only a sample, is checked for remaining work.
    pub every_reconcile: bool,
}

impl Simulation {
    /// A simulation in which nothing has happened yet.
    pub fn new(seed: u64, rng: Rng, end: Ms, portals: Vec<Portal>, resources: Vec<Resource>) -> Self {
        let hosts = portals.iter().map(|_| HostQueue::default()).collect();
        let to_send = portals.iter().map(|_| VecDeque::new()).collect();
        Self {
            seed,
            rng,
            clock: Clock::default(),
            end,
            events: BinaryHeap::new(),
            scheduled: 0,
            waiting: portals.iter().map(|_| BTreeSet::new()).collect(),
            statistics: Statistics::new(end),
            portals,
            resources,
            operator: Operator {
                up: true,
                started: 1,
                queue: WorkQueue::default(),
                hosts,
                to_send,
                busy: 0,
                creations: Creations::default(),
            },
            api_up: true,
            version: 1_000_000,
            serial: 0,
            failures: Failures::default(),
            exempt_until: 0,
            every_reconcile: false,
        }
    }

    /// Schedules an event at a time.
    pub fn at(&mut self, at: Ms, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    /// Schedules an event after a duration.
    pub fn after(&mut self, wait: Ms, event: Event) {
        self.at(self.clock.now + wait, event);
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        loop {
            let event = self.events.peek().map_or(Ms::MAX, |Reverse((at, ..))| *at);
            let due = self.operator.queue.next_due().filter(|_| self.operator.up && self.operator.busy < CONCURRENCY);
            let probe = self.operator.hosts.iter().filter_map(HostQueue::probe_at).min().filter(|_| self.operator.up);
            let due = due.into_iter().chain(probe).min();
            let due = due.map_or(Ms::MAX, |format_time| self.clock.time_of(format_time).max(self.clock.now));
            if event.min(due) > self.end || self.failures.is_full() {
                return;
            }
            self.clock.now = event.min(due);
            while let Some(Reverse((_, _, event))) = self.due_event() {
                self.handle(event);
            }
            self.probe_hosts();
            self.start_due();
        }
    }

    /// Lets one resource without a valid token try each host that answers no request, as the event loop does.
    fn probe_hosts(&mut self) {
        let now = self.clock.timestamp();
        for portal in 0..self.portals.len() {
            if !self.operator.up || !self.operator.hosts[portal].take_probe(now) {
                continue;
            }
            let waits = |resource: &Resource| {
                let expired = resource.status.token.as_ref().is_none_or(|token| token.expiration_time <= now);
                let wait = resource.memory.waits.get(Activity::Request)?;
                let probes = resource.portal == portal && expired && !resource.spec.suspend;
                (probes && wait.reason.is_outage()).then_some((wait.next_attempt, resource.id))
            };
            if let Some((_, id)) = self.resources.iter().filter_map(waits).min() {
                self.resources[id as usize].memory.end_request_wait(now, |_| true);
                self.wake(id);
            }
        }
    }

    fn due_event(&mut self) -> Option<Reverse<(Ms, u64, Event)>> {
        let Reverse((at, ..)) = self.events.peek()?;
        if *at <= self.clock.now { self.events.pop() } else { None }
    }

    fn start_due(&mut self) {
        if !self.operator.up {
            return;
        }
        let resources = &self.resources;
        self.operator.queue.promote_due(self.clock.timestamp(), |id| {
            resources[*id as usize].status.token.as_ref().map(|token| token.expiration_time)
        });
        while self.operator.busy < CONCURRENCY {
            let Some(id) = self.operator.queue.pop() else { break };
            self.reconcile(id);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Create(id) => {
                let history = &mut self.resources[id as usize].history;
                history.created = true;
                history.change(self.clock.now);
                self.wake(id);
            }
            Event::Response(id, started) if started == self.operator.started => self.on_response(id),
            Event::WorkerFree(started) => self.operator.busy -= u32::from(started == self.operator.started),
            Event::Response(..) => {}
            Event::Verification(event) => self.handle_check(event),
            Event::Deadline(id, serial) => self.check_deadline(id, serial),
            Event::Action(id, action) => self.perform(id, action),
            Event::SetClock(by) => self.set_clock(by),
            Event::Stop => self.stop(),
            Event::Start => self.start(),
            Event::TakeOver => self.take_over(),
            Event::Listed(started) => self.listed(started),
            Event::Api(up) => {
                self.api_up = up;
                self.exempt_until = self.clock.now + 20 * SECOND;
            }
        }
    }

    /// Adds a resource to the work queue, as a watch event about it or about an object that it names does.
    pub fn wake(&mut self, id: Id) {
        if self.operator.up {
            self.operator.queue.add_at(id, Timestamp::MIN);
        }
    }

    /// Queues a resource at its busy host.
    pub fn queue(&mut self, id: Id, priority: Priority) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        match self.operator.hosts[portal].enqueue(priority, id, now) {
            Some(id) => self.wake(id),
            None => self.record_queued(id, priority),
        }
    }

    /// Ends a request in flight.
    pub fn release_permit(&mut self, id: Id, acquired: Epoch, outcome: Outcome) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        let recovered = self.operator.hosts[portal].release(Some(&id), acquired, outcome, now);
        self.send_waiting(portal);
        self.wake_waiting(portal);
        if recovered {
            self.end_waits(portal);
        }
    }

    /// Releases a permit of which no request was sent.
    pub fn drop_permit(&mut self, id: Id, acquired: Epoch, in_flight: bool) {
        if in_flight {
            return self.release_permit(id, acquired, Outcome::Failed);
        }
        let portal = self.resources[id as usize].portal;
        self.operator.hosts[portal].limiter.forgo(acquired);
        self.send_waiting(portal);
        self.wake_waiting(portal);
    }

    /// Wakes those that wait for a permit of a portal and may try now.
    pub fn wake_waiting(&mut self, portal: usize) {
        for woken in self.operator.hosts[portal].wake_waiting(usize::MAX) {
            self.notify(woken);
        }
    }

    /// Ends the waits of the resources that failed because of an outage of their portal.
    fn end_waits(&mut self, portal: usize) {
        let now = self.clock.timestamp();
        let mut woken = Vec::new();
        for resource in self.resources.iter_mut().filter(|resource| resource.portal == portal) {
            if resource.memory.end_request_wait(now, |wait| wait.reason.is_outage()) {
                woken.push(resource.id);
            }
        }
        for id in woken {
            self.wake(id);
        }
    }

    /// Passes on an unused permit at the end of a reconciliation.
    pub fn pass_permit_on(&mut self, id: Id) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        if let Some(woken) = self.operator.hosts[portal].pass_on(&id, now) {
            self.notify(woken);
        }
    }

    /// Wakes a resource that waits at its host.
    fn notify(&mut self, id: Id) {
        let history = &mut self.resources[id as usize].history;
        history.notified_at = self.clock.now;
        if let Some(queue_priority) = history.queue_priority.take() {
            let portal = self.resources[id as usize].portal;
            self.waiting[portal].remove(&(queue_priority, id));
        }
        self.wake(id);
    }

    /// Ends the process, which loses its memory.
    fn stop(&mut self) {
        self.operator.up = false;
        self.operator.started += 1;
        self.operator.busy = 0;
        self.operator.queue = WorkQueue::default();
        self.operator.creations = Creations::default();
        self.operator.hosts = self.portals.iter().map(|_| HostQueue::default()).collect();
        self.operator.to_send.iter_mut().for_each(VecDeque::clear);
        for resource in &mut self.resources {
            resource.memory = arcgis_credential_operator::core::Memory::default();
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

    fn start(&mut self) {
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
    fn take_over(&mut self) {
        self.stop();
        for resource in &mut self.resources {
            let [target, credentials] = [self.rng.bool(), self.rng.bool()];
            resource.unseen = Unseen { target, credentials };
        }
        self.start();
        let until = log_uniform(&mut self.rng, SECOND, 20 * MINUTE);
        self.after(until, Event::Listed(self.operator.started));
    }

    fn listed(&mut self, started: u64) {
        if started != self.operator.started {
            return;
        }
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            self.resources[id as usize].unseen = Unseen::default();
            if self.resources[id as usize].history.created {
                self.wake(id);
            }
        }
    }

    fn longest_drain(&self) -> Ms {
        self.portals.iter().map(Portal::drain_time).max().unwrap_or(0)
    }

    /// Sets the operator's clock, and moves what it remembers like the event loop does. When the clock goes forward, a
    /// whole fleet may be due at once: the tokens expire by this clock.
    fn set_clock(&mut self, by: Ms) {
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
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            if self.resources[id as usize].history.created {
                self.wake(id);
            }
        }
    }
}
