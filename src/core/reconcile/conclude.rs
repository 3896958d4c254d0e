//! What to report: the next status, the event of a condition change, and when to reconcile again.

use jiff::Timestamp;

use super::decide::{Problem, Verdict, wait};
use super::message::message;
use super::retry::{AttemptKind, RetryState};
use super::situation::{Memory, Situation, TargetState, TokenDetails};
use crate::api::{ArcGisAppCredentialStatus, Condition, Reason, Recovery, TokenStatus, Verification};
use crate::core::object::Observed;
use crate::core::scheduling::schedule::after;
use crate::core::spec::{Plan, format_seconds};

/// The result of one reconcile.
pub struct Conclusion {
    pub status: ArcGisAppCredentialStatus,
    /// Whether the status differs from the one last written.
    pub changed: bool,
    pub change: Option<ConditionChange>,
    pub problem: Option<Reason>,
    pub wake: Timestamp,
    pub memory: Memory,
}

/// An event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionChange {
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// Concludes after [`super::decide()`] has said [`super::Step::Rest`].
#[must_use]
pub fn conclude(mut s: Situation, verdict: Verdict, now: Timestamp) -> Conclusion {
    let Verdict { mut problem, mut wake, .. } = verdict;
    let suspended = s.plan.as_ref().is_ok_and(|plan| plan.suspend);
    settle(&mut s, &mut problem, suspended, now);
    let status = status(&s, problem.as_ref(), suspended, now);
    if let Some(token) = status.token.as_ref().filter(|token| token.expiration_time > now) {
        wake = wake.min(token.expiration_time);
    }
    let change = change(&s.status, &status);
    Conclusion {
        changed: status != s.status,
        status,
        change,
        problem: problem.map(|problem| problem.reason),
        // A due time that is not in the future would be a loop.
        wake: wake.max(after(now, 1)),
        memory: s.memory,
    }
}

/// Brings the retry state in line with what was found.
fn settle(s: &mut Situation, problem: &mut Option<Problem>, suspended: bool, now: Timestamp) {
    if suspended {
        return;
    }
    if let Some(found) = problem.as_ref().filter(|found| found.check) {
        let made_with = s.attempt(AttemptKind::Check);
        let previous = s.memory.retry_state.as_ref();
        let same = previous.is_some_and(|p| p.reason == found.reason && p.made_with == made_with);
        if !same {
            let next = RetryState::next(previous, &s.me.uid, found.reason, made_with, None, false, now);
            s.memory.retry_state = Some(next);
        }
        return;
    }
    if let Some(found) = problem.as_ref().filter(|found| found.until.is_some()) {
        s.memory.renewal_requested |= s.asked();
        let made_with = s.attempt(AttemptKind::Request);
        // A pause is not an attempt: an earlier failure stays and keeps its count, and a longer pause changes nothing.
        let previous = s.memory.retry_state.as_ref();
        if let Some(previous) = previous.filter(|p| p.made_with == made_with) {
            *problem = Some(Problem { reason: previous.reason, detail: None, until: None, check: false });
            return;
        }
        s.memory.retry_state = Some(RetryState {
            reason: found.reason,
            start_time: previous.filter(|p| p.reason == found.reason).map_or(now, |p| p.start_time),
            count: 0,
            last_attempt: None,
            next_attempt: found.until,
            made_with,
        });
        return;
    }
    let settled = s.memory.retry_state.as_ref().is_some_and(|retry_state| is_resolved(s, retry_state, now));
    if settled {
        s.memory.retry_state = None;
        *problem = None;
    }
}

/// Whether a failure is resolved: nothing is left to do about it, or it was done again and did not fail.
fn is_resolved(s: &Situation, retry_state: &RetryState, now: Timestamp) -> bool {
    let retried = wait(s, retry_state, now).is_none();
    let whole = s.memory.unpublished.is_none()
        && matches!(s.target_state(), TargetState::Present(f) if f.rendered && f.token.is_some());
    match retry_state.made_with.kind {
        AttemptKind::Check => true,
        AttemptKind::Request => false,
        AttemptKind::Write => {
            retried || (whole && !matches!(retry_state.reason, Reason::ClusterError | Reason::Internal))
        }
        AttemptKind::Ownership => retried || matches!(s.target_state(), TargetState::Present(details) if details.owned),
    }
}

fn status(s: &Situation, problem: Option<&Problem>, suspended: bool, now: Timestamp) -> ArcGisAppCredentialStatus {
    let plan = s.plan.as_ref().ok();
    let details = match s.target_state() {
        TargetState::Present(details) => Some(details),
        TargetState::Absent | TargetState::Unknown => None,
    };
    let token = details.as_ref().and_then(|details| details.token.as_ref());
    let read = !matches!(s.target_state(), TargetState::Unknown);
    let reported = if read { token.map(|token| report(s, token)) } else { s.status.token.clone() };
    let current = details.as_ref().zip(token).is_some_and(|(details, token)| {
        details.rendered && (token.inputs.is_none() || token.inputs == s.inputs() || s.credentials.version().is_none())
    });
    let satisfied = match s.satisfied() {
        _ if current || reported.is_none() => s.generation,
        last => last.unwrap_or(0),
    };
    let verifies = plan.is_none_or(|plan| plan.verify);
    let verification = s.memory.verification.as_ref().filter(|_| verifies);
    let mut conditions = Conditions { s, now, list: Vec::new() };
    conditions.assess(problem, plan, reported.as_ref(), satisfied, suspended);
    if verifies {
        conditions.verified(verification, satisfied);
    }
    // A change that waits for its request is not recorded yet.
    let credentials_version = if s.memory.renewal_requested && s.memory.retry_state.is_none() {
        s.status.credentials_version.clone()
    } else {
        match &s.credentials {
            Observed::Cached(version) if s.memory.credentials.as_ref().is_none_or(|(last, _)| last != version) => {
                s.status.credentials_version.clone()
            }
            // A Secret that is recreated has to be recognized as another.
            Observed::Absent | Observed::Unknown => s.status.credentials_version.clone(),
            other => other.version().map(|version| version.resource.clone()),
        }
    };
    ArcGisAppCredentialStatus {
        observed_generation: s.generation,
        conditions: conditions.list,
        portal: plan.map_or_else(|| s.status.portal.clone(), |plan| Some(plan.portal.to_string())),
        token: reported,
        failure: match (&s.memory.retry_state, suspended) {
            (_, true) => s.status.failure.clone(),
            (Some(retry_state), false) => Some(retry_state.report()),
            (None, false) => None,
        },
        last_handled_request: s.memory.last_handled_request.clone(),
        target_version: match &s.target {
            Observed::Unknown => s.status.target_version.clone(),
            target => target.version().map(|version| version.resource.clone()),
        },
        credentials_version,
        app: match verification {
            Some(Verification::Known(app)) => Some(app.clone()),
            Some(_) => None,
            None => s.status.app.clone().filter(|_| verifies),
        },
    }
}

fn report(s: &Situation, token: &TokenDetails) -> TokenStatus {
    TokenStatus {
        issue_time: token.issue_time,
        expiration_time: token.expiration_time,
        renewal_time: s.renewal_time(token),
        lifetime: format_seconds(token.expiration_time.as_second() - token.issue_time.as_second()),
    }
}

struct Conditions<'a> {
    s: &'a Situation,
    now: Timestamp,
    list: Vec<Condition>,
}

impl Conditions<'_> {
    fn assess(
        &mut self,
        problem: Option<&Problem>,
        plan: Option<&Plan>,
        token: Option<&TokenStatus>,
        satisfied: i64,
        suspended: bool,
    ) {
        let generation = self.s.generation;
        let shown = problem.filter(|_| !suspended);
        let what = shown.map_or(("Pending", "The token is being requested.".to_owned()), |problem| {
            (problem.reason.as_str(), self.message(problem, plan))
        });
        let valid = token.is_some_and(|token| token.expiration_time > self.now);
        match token {
            Some(_) if valid => self.add("Ready", "True", "TokenValid", "The target holds a valid token.", satisfied),
            Some(_) => self.add("Ready", "False", "TokenExpired", "The token in the target has expired.", satisfied),
            None if suspended => {
                self.add("Ready", "False", "Suspended", "There is no token, and spec.suspend is true.", satisfied);
            }
            None => self.add("Ready", "False", what.0, &what.1, satisfied),
        }
        if suspended {
            return;
        }
        if shown.is_some_and(|problem| problem.reason.recovery() == Recovery::ActionRequired) {
            self.add("Stalled", "True", what.0, &what.1, generation);
        } else if !valid || satisfied != generation {
            self.add("Reconciling", "True", what.0, &what.1, generation);
        }
    }

    /// Returns the message of a problem. A recalled check has no detail: its message stays while the generation does.
    fn message(&self, problem: &Problem, plan: Option<&Plan>) -> String {
        let (reason, generation) = (problem.reason.as_str(), self.s.generation);
        let mut before = self.s.status.conditions.iter();
        match before.find(|c| c.reason == reason && c.observed_generation == generation) {
            Some(before) if problem.detail.is_none() && problem.check => before.message.clone(),
            _ => message(problem, plan),
        }
    }

    fn verified(&mut self, verification: Option<&Verification>, satisfied: i64) {
        match verification {
            Some(Verification::Known(_)) => {
                self.add("Verified", "True", "AppKnown", "The token belongs to this app.", satisfied);
            }
            Some(Verification::Unknown) => {
                let message = "The token does not belong to this app.";
                self.add("Verified", "False", "AppUnknown", message, satisfied);
            }
            Some(Verification::NotAnswered) => {
                let message =
                    "The portal did not answer which app the token belongs to; the next token is checked again.";
                self.add("Verified", "Unknown", "NotAnswered", message, satisfied);
            }
            None => self.list.extend(self.s.condition("Verified").cloned()),
        }
    }

    fn add(&mut self, kind: &str, status: &str, reason: &str, message: &str, generation: i64) {
        let before = self.s.condition(kind).filter(|before| before.status == status);
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        self.list.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: before.map_or(now, |before| before.last_transition_time),
        });
    }
}

/// Returns at most one event: of the conditions that changed, the most important one.
fn change(before: &ArcGisAppCredentialStatus, after: &ArcGisAppCredentialStatus) -> Option<ConditionChange> {
    let find = |status: &ArcGisAppCredentialStatus, kind: &str| {
        status.conditions.iter().find(|c| c.type_ == kind && c.reason != "Pending").cloned()
    };
    let key = |c: Option<Condition>| c.map(|c| (c.status, c.reason));
    let changed = |kind: &str| key(find(before, kind)) != key(find(after, kind));
    let stalled = find(after, "Stalled").filter(|_| changed("Stalled"));
    let shown = stalled.or_else(|| {
        ["Stalled", "Ready", "Reconciling"].into_iter().any(changed).then(|| find(after, "Ready")).flatten()
    })?;
    Some(ConditionChange {
        warning: shown.type_ == "Stalled" || shown.status != "True",
        reason: shown.reason,
        message: shown.message,
    })
}
