//! The edge of a reconcile in virtual time: what the portal and the API server answer to its calls.

use arcgis_credential_operator::api::Reason;
use arcgis_credential_operator::core::{
    Activity, Admit, Answer, Edge, Epoch, Failed, IssuedToken, LiveSecret, Observed, Plan, Priority, Progress,
    RESYNC_SECONDS, Reconciliation, SecretPatch, Situation, Step, Verdict, Version, conclude, render,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use crate::checks::StatusBefore;
use crate::fleet::Id;
use crate::secrets::{self, Token};
use crate::simulation::{Event, Simulation};
use crate::time::{Clock, Ms};

/// How long a call to the API server occupies one of the concurrent workers, in milliseconds.
const CALL: Ms = 5;

/// At full size, one in this many resources is reconciled at every resync.
const FULL_RESYNC_EVERY: Id = 8;
/// How often the others are reconciled while they have nothing to do.
const REDUCED_RESYNC_SECONDS: i64 = 7200;

const REPLACED: &str = "a token is only replaced by a new one";

/// The granted seconds, or the reason and the seconds to wait.
pub type PortalAnswer = Result<i64, (Reason, Option<u32>)>;

/// A reconcile that waits for the portal, or that was just continued.
pub struct InProgress {
    pub reconciliation: Reconciliation,
    pub started_at: Ms,
    /// When the request was sent.
    pub sent: Clock,
    pub requested: bool,
    pub calls: u32,
    /// The epoch of the permit that it holds.
    pub permit: Option<Epoch>,
    /// Whether the permit is that of a request in flight.
    pub in_flight: bool,
    /// The request that waits to be sent, and since when.
    pub waiting: Option<(Step, Ms)>,
    /// The request in flight, and what the portal will answer.
    pub request: Option<(Step, PortalAnswer)>,
    /// Whether this is the first reconcile since the process started, and the resource was at rest before.
    pub was_at_rest: bool,
}

/// What the loop sees of the simulation.
struct World<'a> {
    simulation: &'a mut Simulation,
    id: Id,
    priority: Priority,
    permit: &'a mut Option<Epoch>,
}

impl Edge for World<'_> {
    fn now(&self) -> Timestamp {
        self.simulation.clock.timestamp()
    }

    fn leads(&self) -> bool {
        self.simulation.operator.up
    }

    fn is_current(&self, s: &Situation) -> bool {
        self.simulation.resources[self.id as usize].generation == s.generation
    }

    fn admit(&self, _: &Plan) -> Admit {
        let portal = self.simulation.resources[self.id as usize].portal;
        self.simulation.operator.hosts[portal].limiter.check(self.now())
    }

    fn acquire(&mut self, _: &Plan) -> Admit {
        let (now, portal) = (self.now(), self.simulation.resources[self.id as usize].portal);
        let host = &mut self.simulation.operator.hosts[portal];
        let admit = host.try_prepare(&self.id, now);
        if admit == Admit::Now {
            *self.permit = Some(host.limiter.epoch());
            self.simulation.check_order(self.id, self.priority);
        }
        admit
    }
}

/// How a reconcile ended.
struct Finished {
    wake: Timestamp,
    /// The status was written.
    written: bool,
    /// The status was to be written, and was not.
    unreported: bool,
    problem: Option<Reason>,
}

fn cached(secret: Option<&Secret>) -> Observed<LiveSecret> {
    secret.map_or(Observed::Absent, |secret| Observed::Cached(secrets::version(secret)))
}

impl Simulation {
    /// Returns what is cached about a resource, without any call.
    pub fn observe(&mut self, id: Id) -> Situation {
        let resource = &mut self.resources[id as usize];
        let plan = resource.plan.take().unwrap_or_else(|| Plan::new(&resource.spec));
        let credentials = resource.credentials.as_ref();
        let credentials = credentials.map_or(Observed::Absent, |credentials| Observed::Cached(credentials.version()));
        let creations = &self.operator.creations;
        let alike = |plan: &Plan| creations.has_alike(&resource.me.namespace, plan, self.clock.timestamp());
        let created_alike = plan.as_ref().is_ok_and(alike);
        let mut s = Situation {
            me: resource.me.clone(),
            generation: resource.generation,
            requested_at: resource.requested_at.clone(),
            plan,
            status: std::mem::take(&mut resource.status),
            allowed: true,
            rival: None,
            target: if resource.unseen.target { Observed::Unknown } else { cached(resource.target.as_ref()) },
            credentials: if resource.unseen.credentials { Observed::Unknown } else { credentials },
            ca: Observed::Absent,
            client_certificate: Observed::Absent,
            admit: Admit::Now,
            has_permit: false,
            created_alike,
            memory: std::mem::take(&mut resource.memory),
        };
        s.recall(self.clock.timestamp());
        s
    }

    /// Starts a reconcile of a resource.
    pub fn reconcile(&mut self, id: Id) {
        self.statistics.reconciles += 1;
        let was_at_rest = std::mem::take(&mut self.resources[id as usize].history.was_at_rest);
        let mut s = self.observe(id);
        self.apply_verification(id, &mut s);
        let (started_at, sent) = (self.clock.now, self.clock);
        let in_progress = InProgress {
            reconciliation: Reconciliation::new(s),
            started_at,
            sent,
            requested: false,
            calls: 0,
            permit: None,
            in_flight: false,
            waiting: None,
            request: None,
            was_at_rest,
        };
        self.advance(id, Box::new(in_progress));
    }

    pub fn advance(&mut self, id: Id, mut in_progress: Box<InProgress>) {
        loop {
            let InProgress { reconciliation, permit, .. } = &mut *in_progress;
            let priority = reconciliation.s.status.token.as_ref().map(|token| token.expiration_time);
            match reconciliation.next(&mut World { simulation: self, id, priority, permit }) {
                Progress::Call(step @ Step::Request(_)) => return self.request(id, in_progress, step),
                Progress::Call(step) => {
                    in_progress.calls += 1;
                    let answer = self.answer(id, &in_progress.reconciliation.s, &step);
                    in_progress.reconciliation.record(&step, answer, self.clock.timestamp());
                }
                Progress::Rest(verdict) => return self.finish(id, in_progress, verdict),
                Progress::Abandon(seconds) => return self.abandon(id, *in_progress, seconds),
            }
        }
    }

    /// Ends a reconcile before a write, because the resource has changed since; the next one follows at once.
    fn abandon(&mut self, id: Id, in_progress: InProgress, seconds: i64) {
        let InProgress { reconciliation, permit, in_flight, calls, .. } = in_progress;
        let resource = &mut self.resources[id as usize];
        (resource.memory, resource.status) = (reconciliation.s.memory, reconciliation.s.status);
        if let Some(acquired) = permit {
            self.drop_permit(id, acquired, in_flight);
        }
        self.pass_permit_on(id);
        let wake = self.clock.timestamp().checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        self.requeue(id, wake, calls);
    }

    /// Answers one call to the API server.
    fn answer(&mut self, id: Id, s: &Situation, step: &Step) -> Answer {
        if !self.api_up {
            self.record_failure(id, Reason::ClusterError, None, None);
            return Answer::Failed { fault: Reason::ClusterError.into(), retry_after: None };
        }
        self.version += 1;
        let number = self.version;
        let resource = &mut self.resources[id as usize];
        // What a call returns is known.
        match step {
            Step::ReadCredentials => resource.unseen.credentials = false,
            _ => resource.unseen.target = false,
        }
        match step {
            Step::ReadTarget => Answer::Target(resource.target.clone().map(|secret| LiveSecret::new(secret, &s.me))),
            Step::ReadCredentials => Answer::Credentials(
                resource.credentials.as_ref().map(|credentials| credentials.read(self.operator.started)),
            ),
            Step::ReadCa => Answer::Ca(None),
            Step::ReadClientCertificate => Answer::ClientCertificate(None),
            Step::TryCreate | Step::CheckName if resource.target.is_some() => Answer::Conflict,
            // The cache of the API server may hold a target that was deleted.
            Step::CheckName if self.rng.u8(0..8) == 0 => Answer::Conflict,
            Step::TryCreate | Step::CheckName => Answer::Accepted,
            Step::Create => self.create(id, s, number),
            Step::Publish(patch) => self.publish(id, s, patch, number),
            Step::Render(patch) => self.render(id, patch, number),
            Step::Own(patch) => {
                self.patch(id, patch, number).map_or(Answer::Conflict, |(version, ..)| Answer::Written(version))
            }
            Step::AcquirePermit | Step::Request(_) | Step::Rest => unreachable!("no call to the API server"),
        }
    }

    fn create(&mut self, id: Id, s: &Situation, number: u64) -> Answer {
        let unpublished = s.unpublished(self.clock.timestamp()).expect("a token to write");
        let plan = s.plan.as_ref().expect("a plan");
        if self.resources[id as usize].target.is_some() {
            return Answer::Conflict;
        }
        let secret = secrets::create(&render(plan, &s.me, unpublished).manifest(plan, &s.me), number, number);
        let version = secrets::version(&secret);
        self.operator.creations.accepted(&s.me.namespace, plan, self.clock.timestamp());
        self.resources[id as usize].target = Some(secret);
        self.record_published(id, unpublished);
        Answer::Written(version)
    }

    fn publish(&mut self, id: Id, s: &Situation, patch: &SecretPatch, number: u64) -> Answer {
        let unpublished: Option<IssuedToken> = s.unpublished(self.clock.timestamp()).cloned();
        let Some((version, _, after)) = self.patch(id, patch, number) else { return Answer::Conflict };
        match unpublished {
            Some(token) if after.as_ref().is_some_and(|(written, _)| written == token.token.expose().as_bytes()) => {
                self.record_published(id, &token);
            }
            _ => self.fail_check(REPLACED, id, "a write did not publish the new token"),
        }
        Answer::Written(version)
    }

    fn render(&mut self, id: Id, patch: &SecretPatch, number: u64) -> Answer {
        let Some((version, before, after)) = self.patch(id, patch, number) else { return Answer::Conflict };
        if after == before {
            self.record_rendered(id);
        } else {
            self.fail_check(REPLACED, id, "a write changed or removed the published token");
        }
        Answer::Written(version)
    }

    /// Changes the target; returns its version, and its token before and after. `None`: it has changed meanwhile.
    fn patch(&mut self, id: Id, patch: &SecretPatch, number: u64) -> Option<(Version, Option<Token>, Option<Token>)> {
        let secret = self.resources[id as usize].target.as_mut()?;
        let before = secrets::token(secret);
        let patched = secrets::patch(secret, patch.expose(), number);
        patched.then(|| (secrets::version(secret), before, secrets::token(secret)))
    }

    fn finish(&mut self, id: Id, in_progress: Box<InProgress>, verdict: Verdict) {
        let InProgress { reconciliation, started_at, requested, calls, permit, in_flight, was_at_rest, .. } =
            *in_progress;
        let mut s = reconciliation.s;
        let (waits, waiting_for) = (verdict.awaits_permit, s.status.token.as_ref().map(|token| token.expiration_time));
        let previous = StatusBefore::new(&s);
        let verification = self.due_verification(&mut s);
        let finished = self.conclude(id, s, verdict);
        if waits {
            self.queue(id, waiting_for);
        }
        if let Some(acquired) = permit {
            self.drop_permit(id, acquired, in_flight);
        }
        if was_at_rest {
            self.check_restart(id, calls, requested, finished.written);
        }
        if finished.written {
            self.check_status_write(id, started_at, &previous, finished.problem);
            self.check_reported_token(id);
        }
        self.pass_permit_on(id);
        self.requeue(id, finished.wake, calls);
        if let Some(issued) = verification {
            self.start_check(id, issued);
        }
        if !waits && self.api_up && !finished.unreported && (self.every_reconcile || self.rng.u8(0..32) == 0) {
            self.check_rest(id, started_at);
        }
    }

    /// Concludes a reconcile, writes its status, and keeps what the resource remembers of it.
    fn conclude(&mut self, id: Id, s: Situation, verdict: Verdict) -> Finished {
        let (me, plan, generation, now) = (s.me.clone(), s.plan.clone(), s.generation, self.clock.timestamp());
        let conclusion = conclude(s, verdict, now);
        self.check_next_wake(id, conclusion.wake);
        let resource = &mut self.resources[id as usize];
        if resource.generation == generation {
            resource.plan = Some(plan);
        }
        resource.memory = conclusion.memory;
        let to_write = conclusion.changed && conclusion.report_after.is_none();
        let mut wake = conclusion.wake;
        if to_write && !self.api_up {
            let (activity, reason) = (Activity::Report, Reason::ClusterError);
            let failed = Failed { activity, reason, retry_after: None, worked: false };
            let (until, _) = resource.memory.report_failed(&me.uid, failed, conclusion.made_with, now);
            wake = wake.min(until);
        }
        let written = to_write && self.api_up;
        let unreported = conclusion.changed && !written;
        resource.history.status_write_expected |= unreported;
        resource.status = if written { conclusion.status } else { conclusion.previous };
        if written {
            resource.memory.report_succeeded(conclusion.reported);
        }
        resource.me = me;
        Finished { wake, written, unreported, problem: conclusion.problem }
    }

    /// Schedules the next reconciliation; the worker is free after the calls of this one.
    fn requeue(&mut self, id: Id, wake: Timestamp, calls: u32) {
        let wake = self.reduce_resync(id, wake);
        self.operator.queue.done(id, Some(wake));
        if calls > 0 {
            self.operator.busy += 1;
            self.after(CALL * Ms::from(calls), Event::WorkerFree(self.operator.started));
        }
    }

    /// At full size, most reconciliations that only the periodic resync causes are left out. That does not help the
    /// operator: such a reconciliation can only recover something that was missed.
    fn reduce_resync(&self, id: Id, wake: Timestamp) -> Timestamp {
        let resource = &self.resources[id as usize];
        let later = |seconds| self.clock.timestamp().checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        let resync = wake == later(RESYNC_SECONDS) && resource.memory.reported_wait().is_none();
        match &resource.status.token {
            Some(token)
                if resync
                    && !self.every_reconcile
                    && !id.is_multiple_of(FULL_RESYNC_EVERY)
                    && resource.spec.verification.is_none()
                    && token.renewal_time > wake =>
            {
                token.renewal_time.min(later(REDUCED_RESYNC_SECONDS))
            }
            _ => wake,
        }
    }
}
