//! One look at a resource, as the controller has it: the same steps on simulated edges.

use arcgis_credential_operator::api::Reason;
use arcgis_credential_operator::core::AccessToken;
use arcgis_credential_operator::core::{
    Admit, AttemptKind, CredentialsError, IssuedToken, LiveSecret, Observed, Outcome, Plan, RESYNC_SECONDS, Situation,
    Step, Verdict, Version, conclude, decide, render,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::checks::Before;
use crate::fleet::Id;
use crate::secrets;
use crate::simulation::{Event, Simulation};
use crate::time::{Clock, Ms};

const MAX_STEPS: u32 = 24;
/// How long a call to the API server keeps one of those who look busy.
const CALL: Ms = 5;
const STATUS_RETRY_SECONDS: i64 = 5;

/// Of so many resources one is looked at every ten minutes also at full size.
const LOOKED_AT: Id = 8;
/// The others, with nothing to do, this often.
const SKIPPED_TO_SECONDS: i64 = 7200;

/// A look under way.
pub struct Reconciler {
    pub s: Situation,
    pub begun: Ms,
    /// When the request was sent.
    pub sent: Clock,
    pub requested: bool,
    pub steps: u32,
    pub calls: u32,
    /// A place at the portal's gate is taken.
    pub pass: bool,
    pub answer: Option<Result<i64, (Reason, Option<u32>)>>,
    /// This is the first since the process started, and all was well before.
    pub at_rest: bool,
}

fn seen(secret: Option<&Secret>) -> Observed<LiveSecret> {
    secret.map_or(Observed::Absent, |secret| Observed::Cached(secrets::version(secret)))
}

impl Simulation {
    /// What is known of a resource without asking anybody.
    pub fn observe(&mut self, id: Id) -> Situation {
        let resource = &mut self.resources[id as usize];
        let plan = resource.plan.take().unwrap_or_else(|| Plan::new(&resource.spec));
        let credentials = resource.source.as_ref().map_or(Observed::Absent, |source| {
            Observed::Cached(Version { uid: source.uid.to_string(), resource: source.version.to_string() })
        });
        let mut s = Situation {
            me: resource.me.clone(),
            generation: resource.generation,
            requested_at: resource.requested_at.clone(),
            plan,
            status: std::mem::take(&mut resource.status),
            allowed: true,
            rival: None,
            target: seen(resource.target.as_ref()),
            credentials,
            ca: Observed::Absent,
            client_certificate: Observed::Absent,
            admit: Admit::Now,
            has_permit: false,
            memory: std::mem::take(&mut resource.memory),
        };
        s.recall(self.clock.shows());
        s
    }

    /// Looks at a resource.
    pub fn reconcile(&mut self, id: Id) {
        self.figures.reconciles += 1;
        let at_rest = std::mem::take(&mut self.resources[id as usize].ledger.at_rest);
        let s = self.observe(id);
        let now = self.clock.now;
        let sent = self.clock;
        let reconciler = Reconciler {
            s,
            begun: now,
            sent,
            requested: false,
            steps: 0,
            calls: 0,
            pass: false,
            answer: None,
            at_rest,
        };
        self.go_on(id, Box::new(reconciler));
    }

    /// The portal has answered.
    pub fn answered(&mut self, id: Id) {
        let Some(mut reconciler) = self.resources[id as usize].reconciler.take() else { return };
        let Some(answer) = reconciler.answer.take() else { return };
        let outcome = match answer {
            Ok(_) => Outcome::Issued,
            Err((_, retry_after)) => retry_after.map_or(Outcome::Failed, Outcome::Limited),
        };
        reconciler.pass = false;
        self.leave(id, outcome);
        self.note_answer(id, &reconciler, answer);
        let now = self.clock.shows();
        match answer {
            Ok(seconds) => {
                self.serial += 1;
                let token = AccessToken::parse(format!("{:060x}", self.serial)).expect("a valid token");
                reconciler.s.issued(token, seconds, reconciler.sent.shows());
            }
            Err((reason, retry_after)) => reconciler.s.failed(AttemptKind::Request, reason, retry_after, now),
        }
        self.go_on(id, reconciler);
    }

    fn go_on(&mut self, id: Id, mut reconciler: Box<Reconciler>) {
        let portal = self.resources[id as usize].portal;
        loop {
            let now = self.clock.shows();
            if reconciler.steps == MAX_STEPS {
                self.fail_check("a look ends", id, "more than 24 steps");
                reconciler.s.failed(AttemptKind::Write, Reason::ClusterError, None, now);
            }
            reconciler.steps += 1;
            if !reconciler.pass {
                reconciler.s.admit = self.operator.hosts[portal].limiter.check(now);
            }
            let verdict = decide(&reconciler.s, now);
            match verdict.step {
                Step::Rest => return self.finish(id, reconciler, verdict),
                Step::AcquirePermit => match self.operator.hosts[portal].try_acquire(&id, now) {
                    Admit::Now => {
                        reconciler.pass = true;
                        reconciler.s.has_permit = true;
                    }
                    refused => reconciler.s.admit = refused,
                },
                Step::Request => return self.request(id, reconciler),
                step => self.call(id, &mut reconciler, step),
            }
        }
    }

    fn request(&mut self, id: Id, mut reconciler: Box<Reconciler>) {
        reconciler.s.has_permit = false;
        reconciler.sent = self.clock;
        reconciler.requested = true;
        self.note_request(id, &reconciler);
        let resource = &mut self.resources[id as usize];
        let asked = reconciler.s.plan.as_ref().ok().and_then(|plan| plan.lifetime);
        let granted = resource.grant(asked, &mut self.rng);
        let refusal = resource.refusal();
        let answer = self.portals[resource.portal].answer(self.clock.now, &mut self.rng, granted, refusal);
        reconciler.answer = Some(answer.result);
        resource.reconciler = Some(reconciler);
        self.after(answer.after, Event::Answer(id, self.operator.started));
    }

    /// One call to the API server.
    fn call(&mut self, id: Id, reconciler: &mut Reconciler, step: Step) {
        reconciler.calls += 1;
        let now = self.clock.shows();
        let kind = if matches!(step, Step::Own(_)) { AttemptKind::Ownership } else { AttemptKind::Write };
        if !self.api_up {
            reconciler.s.failed(kind, Reason::ClusterError, None, now);
            self.note_failure(id, Reason::ClusterError, None, None);
            return;
        }
        self.version += 1;
        let number = self.version;
        let resource = &mut self.resources[id as usize];
        match step {
            Step::ReadTarget => {
                let live = resource.target.clone().map(|secret| LiveSecret::new(secret, &reconciler.s.me));
                reconciler.s.target_read(live);
            }
            Step::ReadCredentials => {
                let started = self.operator.started;
                reconciler.s.credentials_read(resource.source.as_ref().map(|source| {
                    let version = Version { uid: source.uid.to_string(), resource: source.version.to_string() };
                    let missing = CredentialsError { key: "client_secret".to_owned() };
                    (version, if source.incomplete { Err(missing) } else { Ok(source.value ^ (started << 32)) })
                }));
            }
            Step::ReadCa => reconciler.s.ca_read(None),
            Step::ReadClientCertificate => reconciler.s.client_certificate_read(None),
            Step::TryCreate => reconciler.s.create_tried(),
            Step::Create => {
                let (Ok(plan), Some(unpublished)) = (&reconciler.s.plan, reconciler.s.unpublished(now)) else { return };
                let manifest = render(plan, &reconciler.s.me, unpublished).manifest(plan, &reconciler.s.me);
                if resource.target.is_some() {
                    reconciler.s.conflicted();
                    return;
                }
                let unpublished = unpublished.clone();
                let secret = secrets::create(manifest, number, number);
                reconciler.s.created(secrets::version(&secret), now);
                resource.target = Some(secret);
                self.note_published(id, &unpublished);
            }
            Step::Patch(patch) => self.patch(id, reconciler, &patch, number),
            Step::Own(patch) => {
                match resource
                    .target
                    .as_mut()
                    .and_then(|secret| secrets::patch(secret, &patch, number).then(|| secrets::version(secret)))
                {
                    Some(version) => reconciler.s.owned(version),
                    None => reconciler.s.conflicted(),
                }
            }
            Step::AcquirePermit | Step::Request | Step::Rest => {}
        }
    }

    fn patch(&mut self, id: Id, reconciler: &mut Reconciler, patch: &Value, number: u64) {
        let now = self.clock.shows();
        let unpublished: Option<IssuedToken> = reconciler.s.unpublished(now).cloned();
        let resource = &mut self.resources[id as usize];
        let Some(secret) = &mut resource.target else { return reconciler.s.conflicted() };
        let before = secrets::token(secret);
        if !secrets::patch(secret, patch, number) {
            return reconciler.s.conflicted();
        }
        let after = secrets::token(secret);
        reconciler.s.written(secrets::version(secret), now);
        match unpublished {
            Some(unpublished)
                if after.as_ref().is_some_and(|(token, _)| token == unpublished.token.expose().as_bytes()) =>
            {
                self.note_published(id, &unpublished);
            }
            _ if after == before => self.note_rendered(id),
            _ => self.fail_check(
                "a token is only replaced by a new one",
                id,
                "a write changed or took what was published",
            ),
        }
    }

    fn finish(&mut self, id: Id, reconciler: Box<Reconciler>, verdict: Verdict) {
        let now = self.clock.shows();
        let Reconciler { s, begun, requested, calls, pass, at_rest, .. } = *reconciler;
        let (waits, waiting_for) = (verdict.awaits_permit, s.status.token.as_ref().map(|token| token.expiration_time));
        let (me, plan, generation) = (s.me.clone(), s.plan.clone(), s.generation);
        let before = (!self.api_up).then(|| s.status.clone());
        let previous = Before::new(&s);
        let conclusion = conclude(s, verdict, now);
        let mut wake = conclusion.wake;
        self.note_wake(id, wake);
        let resource = &mut self.resources[id as usize];
        resource.me = me;
        if resource.generation == generation {
            resource.plan = Some(plan);
        }
        resource.memory = conclusion.memory;
        resource.status = conclusion.status;
        if waits {
            self.queue(id, waiting_for);
        }
        if pass {
            self.leave(id, Outcome::Failed);
        }
        if at_rest && (calls > 0 || requested || conclusion.changed) {
            self.fail_check(
                "a restart does nothing that is not due",
                id,
                &format!("{calls} calls, request {requested}, status changed {}", conclusion.changed),
            );
        }
        if conclusion.changed {
            if let Some(before) = before {
                self.resources[id as usize].status = before;
                let soon = now.checked_add(SignedDuration::from_secs(STATUS_RETRY_SECONDS)).expect("in range");
                wake = wake.min(soon);
                self.resources[id as usize].ledger.cause = true;
            } else {
                self.note_status(id, begun, &previous, conclusion.problem);
            }
        }
        self.decline(id);
        let wake = self.skip(id, wake);
        self.operator.queue.done(id, Some(wake));
        if calls > 0 {
            self.operator.busy += 1;
            self.after(CALL * Ms::from(calls), Event::Free(self.operator.started));
        }
        if !waits && self.api_up && (self.every_reconcile || self.rng.u8(0..32) == 0) {
            self.check_rest(id, begun);
        }
    }

    /// At full size the looks that are only there because everything is looked at every ten minutes are mostly left
    /// out. That is no help to the operator: such a look can only save what was missed.
    fn skip(&self, id: Id, wake: Timestamp) -> Timestamp {
        let resource = &self.resources[id as usize];
        let later = |seconds| self.clock.shows().checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        let resync = wake == later(RESYNC_SECONDS) && resource.memory.retry_state.is_none();
        match &resource.status.token {
            Some(token)
                if resync && !self.every_reconcile && !id.is_multiple_of(LOOKED_AT) && token.renewal_time > wake =>
            {
                token.renewal_time.min(later(SKIPPED_TO_SECONDS))
            }
            _ => wake,
        }
    }
}
