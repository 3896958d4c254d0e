//! The cluster, the portals, the clock and the operator's process, and the order in which things happen to them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use arcgis_credential_operator::core::{HostQueue, Outcome, Priority, RetryAfterRecord, WorkQueue};
use fastrand::Rng;
use jiff::Timestamp;

use crate::checks::Failures;
use crate::figures::Figures;
use crate::fleet::{Id, Resource};
use crate::people::Act;
use crate::portal::Portal;
use crate::time::{Clock, Ms, SECOND};

/// Looks at once, as the program has it by default.
const CONCURRENCY: u32 = 16;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A resource appears.
    Create(Id),
    /// The portal answers, if the process that asked still runs.
    Answer(Id, u64),
    /// One that looked has finished its calls.
    Free(u64),
    /// A token should have a successor.
    Deadline(Id, u64),
    Act(Id, Act),
    /// The operator's clock is set by so much.
    SetClock(Ms),
    Stop,
    Start,
    Api(bool),
}

/// The operator's process.
pub struct Operator {
    pub up: bool,
    /// How often it has started.
    pub started: u64,
    pub queue: WorkQueue<Id>,
    pub hosts: Vec<HostQueue<Id>>,
    pub busy: u32,
}

/// All of it.
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
    /// The API server's last version.
    pub version: u64,
    /// The last token's number.
    pub serial: u64,
    pub figures: Figures,
    pub failures: Failures,
    /// Who waits at each host and wants a token, as the checks see it.
    pub waiting: Vec<BTreeSet<(Priority, Id)>>,
    /// No token is judged before.
    pub excused_until: Ms,
    /// Whether every look is followed by one that must find nothing to do, or only some.
    pub every_reconcile: bool,
}

impl Simulation {
    /// A simulation in which nothing has happened yet.
    pub fn new(seed: u64, rng: Rng, end: Ms, portals: Vec<Portal>, resources: Vec<Resource>) -> Self {
        let hosts = portals.iter().map(|_| HostQueue::default()).collect();
        Self {
            seed,
            rng,
            clock: Clock::default(),
            end,
            events: BinaryHeap::new(),
            scheduled: 0,
            waiting: portals.iter().map(|_| BTreeSet::new()).collect(),
            figures: Figures::new(end),
            portals,
            resources,
            operator: Operator { up: true, started: 1, queue: WorkQueue::default(), hosts, busy: 0 },
            api_up: true,
            version: 1_000_000,
            serial: 0,
            failures: Failures::default(),
            excused_until: 0,
            every_reconcile: false,
        }
    }

    /// Has something happen at a time.
    pub fn at(&mut self, at: Ms, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    /// Has something happen after a while.
    pub fn after(&mut self, wait: Ms, event: Event) {
        self.at(self.clock.now + wait, event);
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        loop {
            let event = self.events.peek().map_or(Ms::MAX, |Reverse((at, ..))| *at);
            let due = self.operator.queue.next_due().filter(|_| self.operator.up && self.operator.busy < CONCURRENCY);
            let due = due.map_or(Ms::MAX, |shown| self.clock.when(shown).max(self.clock.now));
            if event.min(due) > self.end || self.failures.enough() {
                return;
            }
            self.clock.now = event.min(due);
            while let Some(Reverse((_, _, event))) = self.due_event() {
                self.happen(event);
            }
            self.start_due();
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
        self.operator.queue.promote_due(self.clock.shows(), |id| {
            resources[*id as usize].status.token.as_ref().map(|token| token.expiration_time)
        });
        while self.operator.busy < CONCURRENCY {
            let Some(id) = self.operator.queue.pop() else { break };
            self.reconcile(id);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Create(id) => {
                let ledger = &mut self.resources[id as usize].ledger;
                ledger.created = true;
                ledger.change(self.clock.now);
                self.wake(id);
            }
            Event::Answer(id, started) if started == self.operator.started => self.answered(id),
            Event::Free(started) if started == self.operator.started => self.operator.busy -= 1,
            Event::Answer(..) | Event::Free(_) => {}
            Event::Deadline(id, serial) => self.deadline(id, serial),
            Event::Act(id, act) => self.act(id, act),
            Event::SetClock(by) => self.set_clock(by),
            Event::Stop => self.stop(),
            Event::Start => self.start(),
            Event::Api(up) => {
                self.api_up = up;
                self.excused_until = self.clock.now + 20 * SECOND;
            }
        }
    }

    /// A watch has told of a resource, or of something that it names.
    pub fn wake(&mut self, id: Id) {
        if self.operator.up {
            self.operator.queue.add_at(id, Timestamp::MIN);
        }
    }

    /// Waits at a busy host.
    pub fn queue(&mut self, id: Id, priority: Priority) {
        let now = self.clock.shows();
        let portal = self.resources[id as usize].portal;
        match self.operator.hosts[portal].enqueue(priority, id, now) {
            Some(id) => self.wake(id),
            None => self.note_waiting(id, priority),
        }
    }

    /// A request has ended.
    pub fn leave(&mut self, id: Id, outcome: Outcome) {
        let now = self.clock.shows();
        let portal = self.resources[id as usize].portal;
        for woken in self.operator.hosts[portal].release(outcome, now) {
            self.tell(woken);
        }
    }

    /// A look has ended.
    pub fn decline(&mut self, id: Id) {
        let now = self.clock.shows();
        let portal = self.resources[id as usize].portal;
        if let Some(woken) = self.operator.hosts[portal].forgo(&id, now) {
            self.tell(woken);
        }
    }

    /// One that waits at its host may go on.
    fn tell(&mut self, id: Id) {
        let ledger = &mut self.resources[id as usize].ledger;
        ledger.told_at = self.clock.now;
        if let Some(place) = ledger.place.take() {
            let portal = self.resources[id as usize].portal;
            self.waiting[portal].remove(&(place, id));
        }
        self.wake(id);
    }

    /// The process ends: all it remembers is gone.
    fn stop(&mut self) {
        self.operator.up = false;
        self.operator.started += 1;
        self.operator.busy = 0;
        self.operator.queue = WorkQueue::default();
        self.operator.hosts = self.portals.iter().map(|_| HostQueue::default()).collect();
        for resource in &mut self.resources {
            resource.memory = arcgis_credential_operator::core::Memory::default();
            if let Some(reconciler) = resource.reconciler.take() {
                resource.status = reconciler.s.status;
                // The next look makes its plan anew.
                resource.plan = None;
            }
            resource.ledger.place = None;
            if std::mem::take(&mut resource.ledger.unpublished) {
                resource.ledger.last_success = None;
            }
        }
        self.waiting.iter_mut().for_each(BTreeSet::clear);
    }

    fn start(&mut self) {
        if !self.api_up {
            return self.after(SECOND, Event::Start);
        }
        self.operator.up = true;
        let now = self.clock.shows();
        let mut told: Vec<Vec<RetryAfterRecord>> = self.portals.iter().map(|_| Vec::new()).collect();
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            let resource = &mut self.resources[id as usize];
            if !resource.ledger.created {
                continue;
            }
            resource.ledger.at_rest = resource.is_at_rest(now);
            told[resource.portal].extend(RetryAfterRecord::of(&resource.status));
            self.wake(id);
        }
        for (host, told) in self.operator.hosts.iter_mut().zip(told) {
            host.limiter.restore(&told, now);
        }
        self.excused_until = self.clock.now + self.longest_drain();
    }

    fn longest_drain(&self) -> Ms {
        self.portals.iter().map(Portal::drain).max().unwrap_or(0)
    }

    /// Sets the operator's clock. What waits for a time waits longer by as much as it went back, and when it goes
    /// forward a whole fleet may be due at once: the contract schedules by the clock and has no other.
    fn set_clock(&mut self, by: Ms) {
        self.clock.offset += by;
        let now = self.clock.now;
        let back = (-by).max(0);
        for resource in &mut self.resources {
            if resource.ledger.excused_until > now {
                resource.ledger.excused_until += back;
            }
            // What is expired by the clock may have changed, and a retry may come sooner.
            resource.ledger.cause = true;
            resource.ledger.refused.clear();
        }
        let recovered = self.portals.iter().map(|portal| portal.recovered_at(now)).max().unwrap_or(0);
        let excused = self.excused_until.max(recovered);
        if excused > now {
            self.excused_until = excused + back;
        }
        if by > SECOND {
            self.excused_until = self.excused_until.max(now + self.longest_drain());
        }
        self.forget_storms();
    }
}
