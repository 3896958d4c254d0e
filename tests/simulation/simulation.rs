//! The cluster, the portals, the clock and the operator, and the queue of events.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use arcgis_credential_operator::core::{Activity, HostQueue, Priority};
use fastrand::Rng;
use jiff::Timestamp;

use crate::checks::Failures;
use crate::fleet::{Id, Resource};
use crate::portal::Portal;
use crate::process::Operator;
use crate::statistics::Statistics;
use crate::time::{Clock, Ms, SECOND};
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
        Self {
            seed,
            rng,
            clock: Clock::default(),
            end,
            events: BinaryHeap::new(),
            scheduled: 0,
            waiting: portals.iter().map(|_| BTreeSet::new()).collect(),
            statistics: Statistics::new(end),
            operator: Operator::new(portals.len()),
            portals,
            resources,
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
}
