//! What must hold, whatever happens. Each check has a name, and a failure says seed, resource, time and numbers.

use arcgis_credential_operator::api::{ArcGisAppCredentialStatus, Reason};
use arcgis_credential_operator::core::{RESYNC_SECONDS, Situation, Step, conclude, decide};
use jiff::Timestamp;

use crate::fleet::{Id, Resource};
use crate::simulation::Simulation;
use crate::time::{Ms, SECOND, seconds, shown};

/// The failures of a run: the first few are told.
#[derive(Default)]
pub struct Failures(pub Vec<String>);

impl Failures {
    /// More would say no more.
    pub fn enough(&self) -> bool {
        self.0.len() >= 10
    }
}

/// What a status said before a reconciler.
pub struct Before {
    ready_until: Option<Timestamp>,
    reason: Option<Reason>,
}

impl Before {
    /// Of what is known before a look concludes.
    pub fn new(s: &Situation) -> Self {
        Self {
            ready_until: s.status.token.as_ref().filter(|_| ready(&s.status)).map(|token| token.expiration_time),
            reason: s.status.failure.as_ref().map(|failure| failure.reason),
        }
    }
}

fn ready(status: &ArcGisAppCredentialStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

impl Resource {
    /// Nothing is due, nothing failed and nothing was changed since the last reconciler, the clock's setting included.
    pub fn is_at_rest(&self, now: Timestamp) -> bool {
        let Some(token) = &self.status.token else { return false };
        let target = self.target.as_ref().map(crate::secrets::version).map(|version| version.resource);
        let source = self.source.as_ref().filter(|source| !source.incomplete);
        let ready = self.status.conditions.iter().find(|c| c.type_ == "Ready");
        let satisfied = ready.is_some_and(|r| r.observed_generation == self.generation && r.status == "True");
        token.renewal_time > now
            && token.expiration_time > now
            && self.status.failure.is_none()
            && satisfied
            && self.status.observed_generation == self.generation
            && target == self.status.target_version
            && source.map(|source| source.version.to_string()) == self.status.credentials_version
            && (self.requested_at.is_none() || self.requested_at == self.status.last_handled_request)
    }
}

impl Simulation {
    /// Notes that a check failed.
    pub fn fail_check(&mut self, check: &str, id: Id, numbers: &str) {
        let resource = &self.resources[id as usize];
        let line = format!(
            "seed {}: {check}: resource {id} ({:?}, {:?}, {}) at {} ({} ms): {numbers}",
            self.seed,
            resource.role,
            resource.grants,
            self.portals[resource.portal].name,
            shown(self.clock.now),
            self.clock.now,
        );
        self.failures.0.push(line);
    }

    /// There is always a next reconciler, in the future and no later than everything is looked at anyway.
    pub fn note_wake(&mut self, id: Id, wake: Timestamp) {
        let wait = self.clock.when(wake) - self.clock.now;
        if wait <= 0 || wait > (RESYNC_SECONDS + 1) * SECOND {
            self.fail_check("there is always a next look", id, &format!("in {} s", seconds(wait)));
        }
    }

    /// A status was written. There has to be a cause since the last write: a success, a failure that is reported by
    /// count, a first transient one, somebody's change, a token's end, the end of a failure; and once in a spell of
    /// 429 that the host asked for a pause.
    pub fn note_status(&mut self, id: Id, begun: Ms, before: &Before, problem: Option<Reason>) {
        self.figures.status_writes += 1;
        let spell = self.portals[self.resources[id as usize].portal].spells.iter();
        let spell = spell.take_while(|spell| spell.from <= self.clock.now).last().map(|spell| spell.from);
        let shows = self.clock.shows();
        let resource = &mut self.resources[id as usize];
        let ledger = &mut resource.ledger;
        let expired = before.ready_until.is_some_and(|until| until <= shows);
        let recovered = before.reason.is_some() && resource.status.failure.is_none();
        // What changed since the look began is told by the next.
        let cause = std::mem::replace(&mut ledger.cause, ledger.changed_at > begun);
        let known = cause || expired || recovered;
        let news = ledger.pause_reported != spell || before.reason != Some(Reason::RateLimited);
        let paused = problem == Some(Reason::RateLimited) && news;
        if !known {
            ledger.pause_reported = spell;
        }
        if !known && !paused {
            let numbers = format!("problem {problem:?}, before {:?}, now {:?}", before.reason, resource.status.failure);
            self.fail_check("no status is written for nothing", id, &numbers);
        }
    }

    /// After rest, there is nothing to do and nothing to report.
    pub fn check_rest(&mut self, id: Id, begun: Ms) {
        let resource = &mut self.resources[id as usize];
        if resource.ledger.changed_at > begun || resource.reconciler.is_some() {
            return;
        }
        let (status, memory, plan) = (resource.status.clone(), resource.memory.clone(), resource.plan.clone());
        let portal = resource.portal;
        let mut s = self.observe(id);
        let now = self.clock.shows();
        s.admit = self.operator.hosts[portal].limiter.check(now);
        let verdict = decide(&s, now);
        let numbers = if matches!(verdict.step, Step::Rest) {
            let conclusion = conclude(s, verdict, now);
            conclusion.changed.then(|| format!("status {status:?} becomes {:?}", conclusion.status))
        } else {
            Some(format!("{:?} is to be done", verdict.step))
        };
        let resource = &mut self.resources[id as usize];
        (resource.status, resource.memory, resource.plan) = (status, memory, plan);
        if let Some(numbers) = numbers {
            self.fail_check("after rest there is rest", id, &numbers);
        }
    }
}
