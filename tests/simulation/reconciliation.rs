//! One reconciliation of a resource with the steps of the controller, against the simulated portal and cluster.

use arcgis_credential_operator::api::Reason;
use arcgis_credential_operator::core::{
    AccessToken, Admit, AttemptKind, Epoch, LiveSecret, Observed, Outcome, Plan, RESYNC_SECONDS, Situation, Step,
    Verdict, Version, conclude, decide, render,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::checks::StatusBefore;
use crate::fleet::Id;
use crate::secrets::{self, Token};
use crate::simulation::{Event, Simulation};
use crate::time::{Clock, Ms};

const MAX_STEPS: u32 = 24;
/// How long a call to the API server occupies one of the concurrent workers, in milliseconds.
const CALL: Ms = 5;
const STATUS_RETRY_SECONDS: i64 = 5;

/// At full size, one in this many resources is reconciled at every resync.
const FULL_RESYNC_EVERY: Id = 8;
/// How often the others are reconciled while they have nothing to do.
const REDUCED_RESYNC_SECONDS: i64 = 7200;

const REPLACED: &str = "a token is only replaced by a new one";

/// A reconciliation in progress.
pub struct Reconciliation {
    pub s: Situation,
    pub started_at: Ms,
    /// When the request was sent.
    pub sent: Clock,
    pub requested: bool,
    pub steps: u32,
    pub calls: u32,
    /// The epoch of the permit that it holds.
    pub permit: Option<Epoch>,
    pub response: Option<Result<i64, (Reason, Option<u32>)>>,
    /// Whether this is the first reconciliation since the process started, and the resource was at rest before.
    pub was_at_rest: bool,
}

/// What a finished reconciliation leaves to do: the next one, and a status write.
struct Finished {
    wake: Timestamp,
    changed: bool,
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
        let mut s = Situation {
            me: resource.me.clone(),
            generation: resource.generation,
            requested_at: resource.requested_at.clone(),
            plan,
            status: std::mem::take(&mut resource.status),
            allowed: true,
            rival: None,
            target: cached(resource.target.as_ref()),
            credentials,
            ca: Observed::Absent,
            client_certificate: Observed::Absent,
            admit: Admit::Now,
            has_permit: false,
            memory: std::mem::take(&mut resource.memory),
        };
        s.recall(self.clock.timestamp());
        s
    }

    /// Starts a reconciliation of a resource.
    pub fn reconcile(&mut self, id: Id) {
        self.statistics.reconciles += 1;
        let was_at_rest = std::mem::take(&mut self.resources[id as usize].history.was_at_rest);
        let mut s = self.observe(id);
        self.apply_check(id, &mut s);
        let now = self.clock.now;
        let sent = self.clock;
        let reconciliation = Reconciliation {
            s,
            started_at: now,
            sent,
            requested: false,
            steps: 0,
            calls: 0,
            permit: None,
            response: None,
            was_at_rest,
        };
        self.advance(id, Box::new(reconciliation));
    }

    /// Handles the response of the portal.
    pub fn on_response(&mut self, id: Id) {
        let Some(mut reconciliation) = self.resources[id as usize].reconciliation.take() else { return };
        let Some(response) = reconciliation.response.take() else { return };
        let outcome = match response {
            Ok(_) => Outcome::Issued,
            Err((reason, retry_after)) => Outcome::of(reason, retry_after),
        };
        self.record_limit(id, outcome);
        if let Some(acquired) = reconciliation.permit.take() {
            self.release_permit(id, acquired, outcome);
        }
        self.record_response(id, &reconciliation, response);
        let now = self.clock.timestamp();
        match response {
            Ok(seconds) => {
                self.serial += 1;
                let token = AccessToken::parse(format!("{:060x}", self.serial)).expect("a valid token");
                reconciliation.s.issued(token, seconds, reconciliation.sent.timestamp());
            }
            Err((reason, retry_after)) => reconciliation.s.failed(AttemptKind::Request, reason, retry_after, now),
        }
        self.advance(id, reconciliation);
    }

    fn advance(&mut self, id: Id, mut reconciliation: Box<Reconciliation>) {
        let portal = self.resources[id as usize].portal;
        loop {
            let now = self.clock.timestamp();
            if reconciliation.steps == MAX_STEPS {
                self.fail_check("a reconciliation ends", id, "more than 24 steps");
                reconciliation.s.failed(AttemptKind::Write, Reason::ClusterError, None, now);
            }
            reconciliation.steps += 1;
            if reconciliation.permit.is_none() {
                reconciliation.s.admit = self.operator.hosts[portal].limiter.check(now);
            }
            let verdict = decide(&reconciliation.s, now);
            match verdict.step {
                Step::Rest => return self.finish(id, reconciliation, verdict),
                Step::AcquirePermit => match self.operator.hosts[portal].try_acquire(&id, now) {
                    Admit::Now => {
                        reconciliation.permit = Some(self.operator.hosts[portal].limiter.epoch());
                        reconciliation.s.has_permit = true;
                    }
                    rejected => reconciliation.s.admit = rejected,
                },
                Step::Request => return self.request(id, reconciliation),
                // What changed while the portal answered is evaluated first.
                Step::Create | Step::Publish(_) | Step::Render(_) | Step::Own(_)
                    if self.resources[id as usize].generation != reconciliation.s.generation =>
                {
                    return self.abandon(id, *reconciliation);
                }
                step => self.call(id, &mut reconciliation, step),
            }
        }
    }

    /// Ends a reconciliation before a write, because the resource has changed since; the next one follows at once.
    fn abandon(&mut self, id: Id, reconciliation: Reconciliation) {
        let Reconciliation { s, permit, calls, .. } = reconciliation;
        let resource = &mut self.resources[id as usize];
        (resource.memory, resource.status) = (s.memory, s.status);
        if let Some(acquired) = permit {
            self.release_permit(id, acquired, Outcome::Failed);
        }
        self.forgo_permit(id);
        self.requeue(id, self.clock.timestamp(), calls);
    }

    fn request(&mut self, id: Id, mut reconciliation: Box<Reconciliation>) {
        reconciliation.s.has_permit = false;
        reconciliation.sent = self.clock;
        reconciliation.requested = true;
        self.check_request(id, &reconciliation);
        let resource = &mut self.resources[id as usize];
        let from_env = reconciliation.s.plan.as_ref().ok().and_then(|plan| plan.lifetime);
        let granted = resource.grant(from_env, &mut self.rng);
        let rejection = resource.rejection();
        let response = self.portals[resource.portal].response(self.clock.now, &mut self.rng, granted, rejection);
        reconciliation.response = Some(response.result);
        resource.reconciliation = Some(reconciliation);
        self.after(response.after, Event::Response(id, self.operator.started));
        self.change_during_exchange(id, response.after);
    }

    /// Makes one call to the API server.
    fn call(&mut self, id: Id, reconciliation: &mut Reconciliation, step: Step) {
        reconciliation.calls += 1;
        if !self.api_up {
            return self.fail_call(id, reconciliation, &step);
        }
        self.version += 1;
        let number = self.version;
        let resource = &mut self.resources[id as usize];
        match step {
            Step::ReadTarget => {
                let live = resource.target.clone().map(|secret| LiveSecret::new(secret, &reconciliation.s.me));
                reconciliation.s.target_read(live);
            }
            Step::ReadCredentials => {
                let read = resource.credentials.as_ref().map(|credentials| credentials.read(self.operator.started));
                reconciliation.s.credentials_read(read);
            }
            Step::ReadCa => reconciliation.s.ca_read(None),
            Step::ReadClientCertificate => reconciliation.s.client_certificate_read(None),
            Step::TryCreate => reconciliation.s.create_tried(),
            Step::Create => self.create(id, reconciliation, number),
            Step::Publish(patch) => self.publish(id, reconciliation, &patch, number),
            Step::Render(patch) => self.render(id, reconciliation, &patch, number),
            Step::Own(patch) => {
                let target = resource.target.as_mut();
                match target.and_then(|secret| secrets::patch(secret, &patch, number).then(|| secrets::version(secret)))
                {
                    Some(version) => reconciliation.s.owned(version),
                    None => reconciliation.s.conflicted(),
                }
            }
            Step::AcquirePermit | Step::Request | Step::Rest => {}
        }
    }

    fn fail_call(&mut self, id: Id, reconciliation: &mut Reconciliation, step: &Step) {
        let kind = if matches!(step, Step::Own(_)) { AttemptKind::Ownership } else { AttemptKind::Write };
        reconciliation.s.failed(kind, Reason::ClusterError, None, self.clock.timestamp());
        self.record_failure(id, Reason::ClusterError, None, None);
    }

    fn create(&mut self, id: Id, reconciliation: &mut Reconciliation, number: u64) {
        let now = self.clock.timestamp();
        let (Ok(plan), Some(unpublished)) = (&reconciliation.s.plan, reconciliation.s.unpublished(now)) else { return };
        let manifest = render(plan, &reconciliation.s.me, unpublished).manifest(plan, &reconciliation.s.me);
        let resource = &mut self.resources[id as usize];
        if resource.target.is_some() {
            reconciliation.s.conflicted();
            return;
        }
        let unpublished = unpublished.clone();
        let secret = secrets::create(manifest, number, number);
        reconciliation.s.created(secrets::version(&secret));
        resource.target = Some(secret);
        self.record_published(id, &unpublished);
    }

    fn publish(&mut self, id: Id, reconciliation: &mut Reconciliation, patch: &Value, number: u64) {
        let unpublished = reconciliation.s.unpublished(self.clock.timestamp()).cloned();
        let Some((version, _, after)) = self.patch(id, patch, number) else { return reconciliation.s.conflicted() };
        reconciliation.s.published(version);
        match unpublished {
            Some(token) if after.as_ref().is_some_and(|(written, _)| written == token.token.expose().as_bytes()) => {
                self.record_published(id, &token);
            }
            _ => self.fail_check(REPLACED, id, "a write did not publish the new token"),
        }
    }

    fn render(&mut self, id: Id, reconciliation: &mut Reconciliation, patch: &Value, number: u64) {
        let now = self.clock.timestamp();
        let Some((version, before, after)) = self.patch(id, patch, number) else {
            return reconciliation.s.conflicted();
        };
        reconciliation.s.rendered(version, now);
        if after == before {
            self.record_rendered(id);
        } else {
            self.fail_check(REPLACED, id, "a write changed or removed the published token");
        }
    }

    /// Changes the target; returns its version, and its token before and after. `None`: it has changed meanwhile.
    fn patch(&mut self, id: Id, patch: &Value, number: u64) -> Option<(Version, Option<Token>, Option<Token>)> {
        let secret = self.resources[id as usize].target.as_mut()?;
        let before = secrets::token(secret);
        let patched = secrets::patch(secret, patch, number);
        patched.then(|| (secrets::version(secret), before, secrets::token(secret)))
    }

    fn finish(&mut self, id: Id, reconciliation: Box<Reconciliation>, verdict: Verdict) {
        let now = self.clock.timestamp();
        let Reconciliation { mut s, started_at, requested, calls, permit, was_at_rest, .. } = *reconciliation;
        let (waits, waiting_for) = (verdict.awaits_permit, s.status.token.as_ref().map(|token| token.expiration_time));
        let before = s.status.clone();
        let previous = StatusBefore::new(&s);
        let check = self.due_check(&mut s);
        let conclusion = self.conclude(id, s, verdict);
        let mut wake = conclusion.wake;
        if waits {
            self.queue(id, waiting_for);
        }
        if let Some(acquired) = permit {
            self.release_permit(id, acquired, Outcome::Failed);
        }
        if was_at_rest {
            self.check_restart(id, calls, requested, conclusion.changed);
        }
        if conclusion.changed && !self.api_up {
            let resource = &mut self.resources[id as usize];
            resource.status = before;
            resource.history.status_write_expected = true;
            wake = wake.min(now.checked_add(SignedDuration::from_secs(STATUS_RETRY_SECONDS)).expect("in range"));
        } else if conclusion.changed {
            self.check_status_write(id, started_at, &previous, conclusion.problem);
            self.check_reported_token(id);
        }
        self.forgo_permit(id);
        self.requeue(id, wake, calls);
        if let Some(issued) = check {
            self.start_check(id, issued);
        }
        if !waits && self.api_up && (self.every_reconcile || self.rng.u8(0..32) == 0) {
            self.check_rest(id, started_at);
        }
    }

    /// Concludes a reconciliation, and keeps what the resource remembers of it.
    fn conclude(&mut self, id: Id, s: Situation, verdict: Verdict) -> Finished {
        let (me, plan, generation) = (s.me.clone(), s.plan.clone(), s.generation);
        let conclusion = conclude(s, verdict, self.clock.timestamp());
        self.check_next_wake(id, conclusion.wake);
        let resource = &mut self.resources[id as usize];
        resource.me = me;
        if resource.generation == generation {
            resource.plan = Some(plan);
        }
        resource.memory = conclusion.memory;
        resource.status = conclusion.status;
        Finished { wake: conclusion.wake, changed: conclusion.changed, problem: conclusion.problem }
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
        let resync = wake == later(RESYNC_SECONDS) && resource.memory.reported_failure().is_none();
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
