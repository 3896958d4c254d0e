//! The invariants of the simulation. Each check has a name, and a failure reports the seed, resource, time and numbers.

use arcgis_credential_operator::api::{ArcGisAppCredentialStatus, Reason, Retry};
use arcgis_credential_operator::core::{RESYNC_SECONDS, Situation, Step, conclude, decide};
use jiff::Timestamp;

use crate::fleet::{Id, Resource};
use crate::secrets;
use crate::simulation::Simulation;
use crate::time::{MINUTE, Ms, SECOND, format_time, seconds};

/// The failed checks of a run.
#[derive(Default)]
pub struct Failures(pub Vec<String>);

impl Failures {
    /// Whether enough failures are recorded to stop the run.
    pub fn is_full(&self) -> bool {
        self.0.len() >= 10
    }
}

/// The parts of a status that are compared before and after a reconciliation.
pub struct StatusBefore {
    unexpired_until: Option<Timestamp>,
    reason: Option<Reason>,
    without_versions: ArcGisAppCredentialStatus,
}

/// The status without what it says of the versions of Secrets.
fn without_versions(status: &ArcGisAppCredentialStatus) -> ArcGisAppCredentialStatus {
    ArcGisAppCredentialStatus { target_version: None, credentials_version: None, ..status.clone() }
}

impl StatusBefore {
    /// Records them before the reconciliation concludes.
    pub fn new(s: &Situation) -> Self {
        Self {
            unexpired_until: s
                .status
                .token
                .as_ref()
                .filter(|_| unexpired(&s.status))
                .map(|token| token.expiration_time),
            reason: s.status.failure.as_ref().map(|failure| failure.reason),
            without_versions: without_versions(&s.status),
        }
    }
}

/// Whether the status reports an unexpired token: a valid one, or one that the portal rejects.
fn unexpired(status: &ArcGisAppCredentialStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == "Ready" && (c.status == "True" || c.reason == "TokenRejected"))
}

impl Resource {
    /// Whether nothing is due, nothing failed and nothing has changed since the last reconciliation, by the operator's
    /// clock.
    pub fn is_at_rest(&self, now: Timestamp) -> bool {
        let Some(token) = &self.status.token else { return false };
        let target = self.target.as_ref().map(secrets::version).map(|version| version.resource.to_string());
        let credentials = self.credentials.as_ref().filter(|credentials| !credentials.incomplete);
        let ready = self.status.conditions.iter().find(|c| c.type_ == "Ready");
        let satisfied = ready.is_some_and(|r| r.observed_generation == self.generation && r.status == "True");
        token.renewal_time > now
            && token.expiration_time > now
            && self.status.failure.is_none()
            && satisfied
            && self.status.observed_generation == self.generation
            && target.as_deref() == self.status.target_version.as_deref()
            && credentials.map(|credentials| credentials.version.to_string()) == self.status.credentials_version
            && (self.requested_at.is_none() || self.requested_at == self.status.last_handled_request)
    }
}

impl Simulation {
    /// Records that a check failed.
    pub fn fail_check(&mut self, check: &str, id: Id, numbers: &str) {
        let resource = &self.resources[id as usize];
        let line = format!(
            "seed {}: {check}: resource {id} ({:?}, {:?}, {}) at {} ({} ms): {numbers}",
            self.seed,
            resource.role,
            resource.granted_lifetimes,
            self.portals[resource.portal].name,
            format_time(self.clock.now),
            self.clock.now,
        );
        self.failures.0.push(line);
    }

    /// Checks that the first reconciliation after a start does nothing for a resource that was at rest before.
    pub fn check_restart(&mut self, id: Id, calls: u32, requested: bool, changed: bool) {
        if calls > 0 || requested || changed {
            let numbers = format!("{calls} calls, request {requested}, status changed {changed}");
            self.fail_check("a restart does nothing that is not due", id, &numbers);
        }
    }

    /// Checks that each reconciliation schedules the next one: in the future, and no later than the resync.
    pub fn check_next_wake(&mut self, id: Id, wake: Timestamp) {
        let wait = self.clock.time_of(wake) - self.clock.now;
        if wait <= 0 || wait > (RESYNC_SECONDS + 1) * SECOND {
            self.fail_check("there is always a next reconciliation", id, &format!("in {} s", seconds(wait)));
        }
    }

    /// Checks that a status write has a cause since the last write: a success, a failure that is reported with its
    /// count, the first of several transient failures, a change by a user, the expiry of a token or the end of a
    /// failure; once per phase of 429, a pause that the host asked for; and, 10 minutes after the last write at the earliest,
    /// versions alone.
    pub fn check_status_write(&mut self, id: Id, started_at: Ms, before: &StatusBefore, problem: Option<Reason>) {
        self.statistics.status_writes += 1;
        let phase = self.portals[self.resources[id as usize].portal].phases.iter();
        let phase = phase.take_while(|phase| phase.from <= self.clock.now).last().map(|phase| phase.from);
        let timestamp = self.clock.timestamp();
        let resource = &mut self.resources[id as usize];
        let history = &mut resource.history;
        let expired = before.unexpired_until.is_some_and(|until| until <= timestamp);
        let recovered = before.reason.is_some() && resource.status.failure.is_none();
        // A change since this reconciliation started is reported by the next one.
        let expected = std::mem::replace(&mut history.status_write_expected, history.user_changed_at > started_at);
        let old = self.clock.now - std::mem::replace(&mut history.status_written_at, self.clock.now) >= 10 * MINUTE;
        let versions = old && before.without_versions == without_versions(&resource.status);
        // They leave the next change to report to the next write.
        history.status_write_expected |= versions && expected;
        // What only waited for its turn was reported as pending before it was read.
        let found = problem.is_some_and(|p| p.retry() == Retry::OnChange && before.reason != Some(p));
        let known = expected || expired || recovered || versions || found;
        let new_pause = history.pause_reported_in != phase || before.reason != Some(Reason::RateLimited);
        let paused = problem == Some(Reason::RateLimited) && new_pause;
        if !known {
            history.pause_reported_in = phase;
        }
        if !known && !paused {
            let numbers = format!("problem {problem:?}, before {:?}, now {:?}", before.reason, resource.status.failure);
            self.fail_check("each status write has a cause", id, &numbers);
        }
    }

    /// Checks that a status reports the token that its version of the target contains.
    pub fn check_reported_token(&mut self, id: Id) {
        let resource = &self.resources[id as usize];
        let Some(target) = &resource.target else { return };
        let (Some(reported), Some((_, contained))) = (&resource.status.token, secrets::token(target)) else { return };
        let reported = reported.expiration_time.to_string();
        let version = secrets::version(target).resource;
        let same_version = resource.status.target_version.as_deref().is_some_and(|reported| version == *reported);
        if same_version && reported.as_bytes() != contained {
            let numbers = format!("expires at {reported}, and not at {}", String::from_utf8_lossy(&contained));
            self.fail_check("a status reports the token in the target", id, &numbers);
        }
    }

    /// Checks that nothing remains to be done or reported right after a reconciliation that came to rest.
    pub fn check_rest(&mut self, id: Id, started_at: Ms) {
        let resource = &mut self.resources[id as usize];
        if resource.history.user_changed_at > started_at || resource.in_progress.is_some() {
            return;
        }
        let (status, memory, plan) = (resource.status.clone(), resource.memory.clone(), resource.plan.clone());
        let portal = resource.portal;
        let mut s = self.observe(id);
        let now = self.clock.timestamp();
        s.admit = self.operator.hosts[portal].limiter.check(now);
        let verdict = decide(&s, now);
        let numbers = if matches!(verdict.step, Step::Rest) {
            let conclusion = conclude(s, verdict, now);
            conclusion.changed.then(|| format!("status {status:?} becomes {:?}", conclusion.status))
        } else {
            Some(format!("{:?} is due", verdict.step))
        };
        let resource = &mut self.resources[id as usize];
        (resource.status, resource.memory, resource.plan) = (status, memory, plan);
        if let Some(numbers) = numbers {
            self.fail_check("a resource at rest stays at rest", id, &numbers);
        }
    }
}
