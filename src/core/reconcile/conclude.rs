//! What to report: the next status, the event of a condition change, and when to reconcile again.

use jiff::Timestamp;

use super::conditions::Conditions;
use super::decide::wait;
use super::retry::{AttemptKind, RetryState};
use super::situation::{Memory, Situation, TargetDetails, TargetState, TokenDetails};
use super::verdict::{Problem, Verdict};
use super::verification::MAX_PRIVILEGES;
use crate::api::{App, ArcGisAppCredentialStatus, Condition, Reason, TokenStatus, Verification};
use crate::core::object::Observed;
use crate::core::scheduling::schedule::after;
use crate::core::spec::format_seconds;

/// The result of one reconcile.
pub struct Conclusion {
    pub status: ArcGisAppCredentialStatus,
    /// The status that it was concluded from.
    pub previous: ArcGisAppCredentialStatus,
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
    let Verdict { mut problem, mut wake, awaits_permit, .. } = verdict;
    let suspended = s.plan.as_ref().is_ok_and(|plan| plan.suspend);
    settle(&mut s, &mut problem, suspended, now);
    let status = status(&s, problem.as_ref(), suspended, now);
    if let Some(token) = status.token.as_ref().filter(|token| token.expiration_time > now) {
        wake = wake.min(token.expiration_time);
    }
    if let Some(due) = s.check_due(now) {
        wake = wake.min(due);
    }
    let change = change(&s.status, &status);
    // A new resource that only waits for its turn is reported with the outcome of its request.
    let waits = awaits_permit && s.status.conditions.is_empty();
    Conclusion {
        changed: status != s.status && !waits,
        status,
        previous: s.status,
        change,
        problem: problem.map(|problem| problem.reason),
        // A due time that is not in the future would be a loop.
        wake: wake.max(after(now, 1)),
        memory: s.memory,
    }
}

/// Brings the retry states and the reported problem in line with what was found.
fn settle(s: &mut Situation, problem: &mut Option<Problem>, suspended: bool, now: Timestamp) {
    if suspended {
        return;
    }
    if s.memory.cluster_retry_state.as_deref().is_some_and(|failed| is_resolved(s, failed, now)) {
        s.memory.cluster_retry_state = None;
    }
    match problem.take_if(|found| found.check || found.until.is_some()) {
        Some(found) if found.check => {
            settle_check(s, &found, now);
            *problem = Some(found);
        }
        Some(found) => *problem = settle_pause(s, found, now),
        None => {
            if s.memory.retry_state.as_deref().is_some_and(|failed| is_resolved(s, failed, now)) {
                s.memory.retry_state = None;
            }
            *problem = None;
        }
    }
    if let Some(first) = s.memory.reported_failure()
        && problem.as_ref().is_none_or(|found| first.reason < found.reason)
    {
        *problem = Some(Problem::of(first));
    }
}

fn settle_check(s: &mut Situation, found: &Problem, now: Timestamp) {
    let made_with = s.attempt(AttemptKind::Check);
    let previous = s.memory.retry_state.as_deref();
    if !previous.is_some_and(|p| p.reason == found.reason && p.made_with == made_with) {
        let next = RetryState::next(previous, &s.me.uid, found.reason, made_with, None, false, now);
        s.memory.retry_state = Some(Box::new(next));
    }
}

/// A pause is not an attempt: an earlier failure stays and keeps its count, and a longer pause changes nothing.
fn settle_pause(s: &mut Situation, found: Problem, now: Timestamp) -> Option<Problem> {
    s.memory.renewal_requested |= s.asked();
    let made_with = s.attempt(AttemptKind::Request);
    let previous = s.memory.retry_state.as_deref();
    if previous.is_some_and(|p| p.made_with == made_with) {
        return None;
    }
    s.memory.retry_state = Some(Box::new(RetryState {
        reason: found.reason,
        start_time: previous.filter(|p| p.reason == found.reason).map_or(now, |p| p.start_time),
        count: 0,
        last_attempt: None,
        next_attempt: found.until,
        made_with,
    }));
    Some(found)
}

/// Whether a failure is resolved: nothing is left to do about it, or it was done again and did not fail.
fn is_resolved(s: &Situation, retry_state: &RetryState, now: Timestamp) -> bool {
    let retried = wait(s, retry_state, now).is_none();
    let whole = s.memory.unpublished.is_none()
        && matches!(s.target_state(), TargetState::Present(f) if f.rendered && f.token.is_some());
    match retry_state.made_with.kind {
        AttemptKind::Check => true,
        AttemptKind::Read => retried,
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
    let current = details.as_ref().zip(token).is_some_and(|(details, token)| is_current(s, details, token));
    let satisfied = if current || reported.is_none() { s.generation } else { s.satisfied().unwrap_or(0) };
    let verifies = s.verifies();
    let verification = s.last_answer();
    let mut conditions = Conditions { s, now, list: Vec::new() };
    conditions.assess(problem, plan, reported.as_ref(), satisfied, suspended);
    if verifies {
        conditions.verified(verification.as_ref(), plan, satisfied);
    }
    ArcGisAppCredentialStatus {
        observed_generation: s.generation,
        conditions: conditions.list,
        portal: plan.map_or_else(|| s.status.portal.clone(), |plan| Some(plan.portal.to_string())),
        token: reported,
        failure: if suspended { s.status.failure.clone() } else { s.memory.reported_failure().map(RetryState::report) },
        rejection: s.rejection(),
        last_handled_request: s.memory.last_handled_request.clone(),
        // After a restart, the Secret of this version counts as intact.
        target_version: if read {
            s.target.version().map(|version| version.resource.clone())
        } else {
            s.status.target_version.clone()
        },
        credentials_version: credentials_version(s),
        app: match verification {
            Some(Verification::AppKnown(app)) => Some(reported_app(app)),
            Some(Verification::AppUnknown) => None,
            _ => s.status.app.clone().filter(|_| verifies),
        },
    }
}

/// Whether the target holds what this generation specifies.
fn is_current(s: &Situation, details: &TargetDetails, token: &TokenDetails) -> bool {
    details.rendered && s.is_as_specified(token.inputs.as_deref())
}

/// The portal chooses how many privileges it names.
fn reported_app(mut app: App) -> App {
    app.privileges.truncate(MAX_PRIVILEGES);
    app
}

fn credentials_version(s: &Situation) -> Option<String> {
    // A change that waits for its request is not recorded yet.
    let reported = |failed: &RetryState| failed.made_with.kind == AttemptKind::Request;
    if s.memory.renewal_requested && !s.memory.retry_state.as_deref().is_some_and(reported) {
        return s.status.credentials_version.clone();
    }
    match &s.credentials {
        Observed::Cached(version) if s.memory.credentials.as_ref().is_none_or(|(last, _)| last != version) => {
            s.status.credentials_version.clone()
        }
        // A Secret that is recreated has to be recognized as another.
        Observed::Absent | Observed::Unknown => s.status.credentials_version.clone(),
        Observed::Cached(version) | Observed::Loaded(version, _) => Some(version.resource.clone()),
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
