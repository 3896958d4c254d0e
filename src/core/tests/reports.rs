//! What status, events and messages report, and for how long.

use super::*;
use crate::api::{Failure, Verification};
use crate::core::spec::VerificationPlan;

mod event_queue;
mod failures;
mod messages;
mod renewals;
mod versions;

/// Returns the fields of each condition that other programs evaluate: type, status, reason and generation.
fn conditions(conclusion: &Conclusion) -> Vec<(&str, &str, &str, i64)> {
    let conditions = conclusion.status.conditions.iter();
    conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), c.observed_generation)).collect()
}

fn failure(conclusion: &Conclusion) -> &Failure {
    conclusion.status.failure.as_ref().unwrap()
}

fn message_of<'a>(conclusion: &'a Conclusion, kind: &str) -> &'a str {
    &conclusion.status.conditions.iter().find(|c| c.type_ == kind).unwrap().message
}

/// Returns the conclusion of a reconciliation that has nothing to do.
fn conclude_at_rest(s: Situation, now: Timestamp) -> Conclusion {
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    conclude(s, verdict, now)
}

#[test]
fn a_valid_token_is_ready_despite_failures_and_stalled_only_when_action_is_required() {
    let now = at(START);
    let (first, mut requests) = (reconcile_new(now), 1);
    assert_eq!(conditions(&first), [("Ready", "True", "TokenValid", 1)]);
    assert_eq!(first.status.token.as_ref().unwrap().lifetime, "2h");
    let due = first.status.token.as_ref().unwrap().renewal_time;
    let down =
        reconcile(next_situation(situation(due), first, 1, due), due, Err(Reason::PortalUnreachable), &mut requests);
    assert_eq!(conditions(&down), [("Ready", "True", "TokenValid", 1)]);
    assert_eq!((failure(&down).reason, failure(&down).count), (Reason::PortalUnreachable, None));
    assert_eq!((&failure(&down).inputs, failure(&down).next_attempt_time), (&None, None));

    let next = down.wake;
    let refused = reconcile(
        next_situation(situation(next), down, 1, next),
        next,
        Err(Reason::ClientSecretRejected),
        &mut requests,
    );
    let stalled = ("Stalled", "True", "ClientSecretRejected", 1);
    assert_eq!(conditions(&refused), [("Ready", "True", "TokenValid", 1), stalled]);
    assert_eq!(failure(&refused).count, Some(1), "a wait of seconds before does not lengthen it");
    assert_eq!(failure(&refused).last_attempt_time, Some(at(next.as_second())));
}

#[test]
fn without_a_token_required_action_is_stalled_and_any_other_failure_is_reconciling() {
    let (now, mut requests) = (at(START), 0);
    let down = reconcile(situation(now), now, Err(Reason::PortalUnreachable), &mut requests);
    let both = [("Ready", "False", "PortalUnreachable", 1), ("Reconciling", "True", "PortalUnreachable", 1)];
    assert_eq!(conditions(&down), both);
    let refused = reconcile(situation(now), now, Err(Reason::ClientIdRejected), &mut requests);
    let both = [("Ready", "False", "ClientIdRejected", 1), ("Stalled", "True", "ClientIdRejected", 1)];
    assert_eq!(conditions(&refused), both);
    let mut waiting = situation_with_credentials(now);
    waiting.admit = Admit::AtCapacity;
    let pending = conclude_at_rest(waiting, now);
    assert_eq!(conditions(&pending), [("Ready", "False", "Pending", 1), ("Reconciling", "True", "Pending", 1)]);
    assert_eq!(pending.change, None, "a pending resource emits no event");
}

#[test]
fn an_expired_token_is_reported_with_an_event_at_its_expiry() {
    let now = at(START);
    let (first, mut requests) = (reconcile_new(now), 1);
    let token = first.status.token.clone().unwrap();
    let late = at(token.expiration_time.as_second() - 100);
    let mut last = reconcile(
        next_situation(situation(late), first, 1, late),
        late,
        Err(Reason::ClientSecretRejected),
        &mut requests,
    );
    for _ in 0..3 {
        let next = failure(&last).next_attempt_time.unwrap();
        if next >= token.expiration_time {
            break;
        }
        last = reconcile(
            next_situation(situation(next), last, 1, next),
            next,
            Err(Reason::ClientSecretRejected),
            &mut requests,
        );
    }
    assert!(failure(&last).next_attempt_time.unwrap() > token.expiration_time);
    assert_eq!(last.wake, token.expiration_time, "the resource is reconciled when the token expires");
    let end = token.expiration_time;
    let expired = conclude_at_rest(next_situation(situation(end), last, 1, end), end);
    let both = [("Ready", "False", "TokenExpired", 1), ("Stalled", "True", "ClientSecretRejected", 1)];
    assert_eq!(conditions(&expired), both);
    assert!(expired.wake > at(end.as_second() + 1), "a past expiry schedules nothing");
    let change = expired.change.unwrap();
    assert_eq!((change.warning, change.reason.as_str()), (true, "TokenExpired"));
}

#[test]
fn a_spec_change_is_not_satisfied_before_its_token_is_published() {
    let now = at(START);
    let (first, mut requests) = (reconcile_new(now), 1);
    let soon = at(START + 60);
    let change = |last, generation| {
        let mut s = next_situation(situation(soon), last, 1, soon);
        s.generation = generation;
        s.plan.as_mut().unwrap().lifetime = Some(3600);
        s
    };
    let mut s = change(first, 2);
    let live = stored(&situation(now), now, 7200);
    s.target_read(Some(live));
    let down = reconcile(s, soon, Err(Reason::PortalUnavailable), &mut requests);
    let both = [("Ready", "True", "TokenValid", 1), ("Reconciling", "True", "PortalUnavailable", 2)];
    assert_eq!((conditions(&down).as_slice(), down.status.observed_generation), (both.as_slice(), 2));
    let mut unnamed = change(reconcile_new(now), 2);
    unnamed.status.conditions.clear();
    unnamed.target_read(Some(stored(&situation(now), now, 7200)));
    unnamed.admit = Admit::AtCapacity;
    unnamed.credentials_read(Some((unnamed.credentials.version().unwrap().clone(), Ok(7))));
    let unknown = conclude_at_rest(unnamed, soon);
    let both = [("Ready", "True", "TokenValid", 0), ("Reconciling", "True", "Pending", 2)];
    assert_eq!(conditions(&unknown), both, "the satisfied generation is unknown");
}

#[test]
fn a_suspended_resource_reports_only_its_token_and_keeps_its_failure() {
    let (now, mut requests) = (at(START), 0);
    let suspend = |mut s: Situation| {
        s.plan.as_mut().unwrap().suspend = true;
        s
    };
    let none = conclude_at_rest(suspend(situation(now)), now);
    assert_eq!(conditions(&none), [("Ready", "False", "Suspended", 1)]);
    let refused = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let failed = refused.status.failure.clone();
    let kept = conclude_at_rest(suspend(next_situation(situation(now), refused, 0, now)), now);
    assert_eq!(conditions(&kept), [("Ready", "False", "Suspended", 1)]);
    assert_eq!(kept.status.failure, failed);
    let mut valid = suspend(with_target(now));
    valid.credentials = Observed::Cached(Version::new("u", "2"));
    let valid = conclude_at_rest(valid, now);
    assert_eq!(conditions(&valid), [("Ready", "True", "Suspended", 1)]);
    assert!(message_of(&valid, "Ready").starts_with("Valid until "));
    assert_eq!(
        valid.status.credentials_version.as_deref(),
        Some("1"),
        "a version that was not evaluated is not recorded"
    );
}

#[test]
fn last_transition_time_changes_only_with_the_status_of_the_condition() {
    let (now, mut requests) = (at(START), 0);
    let down = reconcile(situation(now), now, Err(Reason::PortalUnreachable), &mut requests);
    let next = down.wake;
    let other =
        reconcile(next_situation(situation(next), down, 0, next), next, Err(Reason::PortalUnavailable), &mut requests);
    let times: Vec<_> = other.status.conditions.iter().map(|c| (c.type_.as_str(), c.last_transition_time)).collect();
    assert_eq!(times, [("Ready", now), ("Reconciling", now)]);
    let later = at(next.as_second() + 100);
    let with_target = reconcile(next_situation(situation(later), other, 0, later), later, Ok(7200), &mut requests);
    assert_eq!(with_target.status.conditions[0].last_transition_time, later);
}

#[test]
fn the_verified_condition_is_reported_only_when_verification_is_enabled() {
    let now = at(START);
    let verify = |verification, paused: bool| {
        let mut s = with_target(now);
        s.plan.as_mut().unwrap().verification = paused.then(verification_plan);
        s.memory.verification.answer = verification;
        conclude_at_rest(s, now)
    };
    let conclusion = |conclusion: &Conclusion| {
        let verified = conclusion.status.conditions.iter().find(|c| c.type_ == "Verified");
        verified.map(|c| (c.status.clone(), c.reason.clone()))
    };
    for (verification, status, reason) in [
        (Verification::AppKnown(serde_json::from_value(json!({"appID": "a"})).unwrap()), "True", "AppKnown"),
        (Verification::AppUnknown, "False", "AppUnknown"),
        (Verification::NotAnswered, "Unknown", "NotAnswered"),
    ] {
        let known = matches!(verification, Verification::AppKnown(_));
        let reported = verify(Some(verification.clone()), true);
        assert_eq!(conclusion(&reported), Some((status.to_owned(), reason.to_owned())));
        assert_eq!(reported.status.app.is_some(), known);
        assert_eq!(conclusion(&verify(Some(verification), false)), None);
        let mut unanswered = next_situation(situation(now), reported, 1, now);
        unanswered.plan.as_mut().unwrap().verification = Some(verification_plan());
        unanswered.memory.verification.answer = None;
        let kept = conclude_at_rest(unanswered, now);
        assert_eq!(
            conclusion(&kept),
            Some((status.to_owned(), reason.to_owned())),
            "the last result stays until the next"
        );
        assert_eq!(kept.status.app.is_some(), known);
    }
    assert_eq!(conclusion(&verify(None, true)), None);
}

fn verification_plan() -> VerificationPlan {
    VerificationPlan { interval: 900, required_privileges: Vec::new() }
}
