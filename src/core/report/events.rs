//! Events: when a condition changes, and when renewals begin to fail while the token is valid, fail otherwise, or succeed again.

use jiff::{SignedDuration, Timestamp};

use super::difference::stalls;
use crate::api::{ArcGisAppCredentialStatus, Condition, Failure, TokenStatus};
use crate::core::reconcile::memory::Told;
use crate::core::reconcile::situation::Situation;
use crate::core::reconcile::verdict::{Problem, Source};

/// A failure of this age is told, also before the second attempt.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// An event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionChange {
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// Returns at most one event: of the conditions that changed, the most important one.
pub(super) fn condition_change(
    before: &ArcGisAppCredentialStatus,
    after: &ArcGisAppCredentialStatus,
) -> Option<ConditionChange> {
    let changed = |kind: &str| {
        let key = |status| find(status, kind).map(|c| (&c.status, &c.reason));
        key(before) != key(after)
    };
    let stalled = find(after, "Stalled").filter(|_| changed("Stalled"));
    let shown = stalled.or_else(|| {
        ["Stalled", "Ready", "Reconciling"].into_iter().any(changed).then(|| find(after, "Ready")).flatten()
    })?;
    let warning = shown.type_ == "Stalled" || shown.status != "True";
    Some(ConditionChange { warning, reason: shown.reason.clone(), message: shown.message.clone() })
}

fn find<'a>(status: &'a ArcGisAppCredentialStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == kind && c.reason != "Pending")
}

/// What is told of renewals.
pub(super) struct Renewals {
    pub told: Told,
    pub event: Option<ConditionChange>,
    /// When the next event may be due.
    pub next: Option<Timestamp>,
}

impl Renewals {
    pub fn of(
        s: &Situation,
        status: &ArcGisAppCredentialStatus,
        problem: Option<&Problem>,
        suspended: bool,
        now: Timestamp,
    ) -> Self {
        let told = told_before(s, now);
        let silent = |told| Self { told, event: None, next: None };
        if suspended {
            return silent(told);
        }
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        // Of what is not valid the conditions tell.
        let Some(valid) = ready.filter(|ready| ready.status == "True") else { return silent(Told::Success) };
        let failure = status.failure.as_ref().zip(problem).filter(|(failure, _)| !stalls(failure.reason));
        let Some((failure, problem)) = failure else {
            let recovered = matches!(told, Told::Failure(_)) && status.failure.is_none();
            let message = || format!("The renewal succeeds again. {}", valid.message);
            let event = recovered.then(|| event(false, &valid.reason, message()));
            return Self { event, ..silent(Told::Success) };
        };
        let reason = failure.reason;
        if told == Told::Failure(reason) {
            return silent(told);
        }
        let due = failure.start_time.checked_add(TOLD_AFTER).unwrap_or(Timestamp::MAX);
        if now < due && !is_repeated(s, problem) {
            return Self { next: Some(due), ..silent(told) };
        }
        let message = failure_message(failure, status.token.as_ref());
        Self { event: Some(event(true, reason.as_str(), message)), ..silent(Told::Failure(reason)) }
    }
}

fn failure_message(failure: &Failure, token: Option<&TokenStatus>) -> String {
    let until = token.map(|token| format!(" The token is valid until {}.", token.expiration_time));
    failure.message.clone().unwrap_or_default() + &until.unwrap_or_default()
}

/// Returns what was told last; before a restart, as far as the status shows it.
fn told_before(s: &Situation, now: Timestamp) -> Told {
    match (s.memory.reported.told, &s.status.failure) {
        (Told::Success | Told::Failure(_), _) => s.memory.reported.told,
        (Told::Unknown, Some(failure))
            if !stalls(failure.reason) && now.duration_since(failure.start_time) >= TOLD_AFTER =>
        {
            Told::Failure(failure.reason)
        }
        (Told::Unknown, _) => Told::Success,
    }
}

fn is_repeated(s: &Situation, problem: &Problem) -> bool {
    match problem.source {
        Source::Attempt(activity) => s.memory.waits.get(activity).is_some_and(|wait| wait.count > 1),
        Source::Prerequisite | Source::Pause(_) => false,
    }
}

fn event(warning: bool, reason: &str, message: String) -> ConditionChange {
    ConditionChange { warning, reason: reason.to_owned(), message }
}
