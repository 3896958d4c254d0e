//! What a status, an event and a message say, and for how long.

use super::*;
use crate::api::{Failure, Verification};

mod messages;

/// The parts of each condition that others compute with: type, status, reason and generation.
fn conditions(told: &Conclusion) -> Vec<(&str, &str, &str, i64)> {
    let conditions = told.status.conditions.iter();
    conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), c.observed_generation)).collect()
}

fn failure(told: &Conclusion) -> &Failure {
    told.status.failure.as_ref().unwrap()
}

fn message_of<'a>(told: &'a Conclusion, kind: &str) -> &'a str {
    &told.status.conditions.iter().find(|c| c.type_ == kind).unwrap().message
}

/// A look that finds nothing to do.
fn look(s: Situation, now: Timestamp) -> Conclusion {
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    conclude(s, verdict, now)
}

#[test]
fn a_valid_token_is_ready_despite_failures_and_stalled_only_when_action_is_required() {
    let now = at(START);
    let (first, mut requests) = (fill(now), 1);
    assert_eq!(conditions(&first), [("Ready", "True", "TokenValid", 1)]);
    assert_eq!(first.status.token.as_ref().unwrap().lifetime, "2h");
    let due = first.status.token.as_ref().unwrap().renew_at;
    let down = run(again(situation(due), first, 1, due), due, Err(Reason::PortalUnreachable), &mut requests);
    assert_eq!(conditions(&down), [("Ready", "True", "TokenValid", 1)]);
    assert_eq!((failure(&down).reason, failure(&down).count), (Reason::PortalUnreachable, None));
    assert_eq!((&failure(&down).inputs, failure(&down).next_attempt_at), (&None, None));

    let next = down.wake;
    let refused = run(again(situation(next), down, 1, next), next, Err(Reason::ClientSecretRejected), &mut requests);
    let stalled = ("Stalled", "True", "ClientSecretRejected", 1);
    assert_eq!(conditions(&refused), [("Ready", "True", "TokenValid", 1), stalled]);
    assert_eq!(failure(&refused).count, Some(2), "it goes on from a transient reason");
    assert_eq!(failure(&refused).last_attempt_at, Some(at(next.as_second())));
}

#[test]
fn without_a_token_required_action_is_stalled_and_any_other_failure_is_reconciling() {
    let (now, mut requests) = (at(START), 0);
    let down = run(situation(now), now, Err(Reason::PortalUnreachable), &mut requests);
    let both = [("Ready", "False", "PortalUnreachable", 1), ("Reconciling", "True", "PortalUnreachable", 1)];
    assert_eq!(conditions(&down), both);
    let refused = run(situation(now), now, Err(Reason::ClientIdRejected), &mut requests);
    let both = [("Ready", "False", "ClientIdRejected", 1), ("Stalled", "True", "ClientIdRejected", 1)];
    assert_eq!(conditions(&refused), both);
    let mut waiting = situation_known(now);
    waiting.admit = Admit::AtCapacity;
    let pending = look(waiting, now);
    assert_eq!(conditions(&pending), [("Ready", "False", "Pending", 1), ("Reconciling", "True", "Pending", 1)]);
    assert_eq!(pending.change, None, "what is on its way is no event");
}

#[test]
fn an_expired_token_is_reported_with_an_event_at_its_expiry() {
    let now = at(START);
    let (first, mut requests) = (fill(now), 1);
    let token = first.status.token.clone().unwrap();
    let late = at(token.expires_at.as_second() - 100);
    let mut last = run(again(situation(late), first, 1, late), late, Err(Reason::ClientSecretRejected), &mut requests);
    for _ in 0..3 {
        let next = failure(&last).next_attempt_at.unwrap();
        if next >= token.expires_at {
            break;
        }
        last = run(again(situation(next), last, 1, next), next, Err(Reason::ClientSecretRejected), &mut requests);
    }
    assert!(failure(&last).next_attempt_at.unwrap() > token.expires_at);
    assert_eq!(last.wake, token.expires_at, "it is looked at when the token ends");
    let end = token.expires_at;
    let expired = look(again(situation(end), last, 1, end), end);
    let both = [("Ready", "False", "TokenExpired", 1), ("Stalled", "True", "ClientSecretRejected", 1)];
    assert_eq!(conditions(&expired), both);
    assert!(expired.wake > at(end.as_second() + 1), "an end that is past is nothing to wake for");
    let change = expired.change.unwrap();
    assert_eq!((change.warning, change.reason.as_str()), (true, "TokenExpired"));
}

#[test]
fn a_spec_change_is_not_satisfied_before_its_token_is_published() {
    let now = at(START);
    let (first, mut requests) = (fill(now), 1);
    let soon = at(START + 60);
    let change = |last, generation| {
        let mut s = again(situation(soon), last, 1, soon);
        s.generation = generation;
        s.plan.as_mut().unwrap().lifetime = Some(3600);
        s
    };
    let mut s = change(first, 2);
    let live = stored(&situation(now), now, 7200);
    s.target_read(Some(live));
    let down = run(s, soon, Err(Reason::PortalUnavailable), &mut requests);
    let both = [("Ready", "True", "TokenValid", 1), ("Reconciling", "True", "PortalUnavailable", 2)];
    assert_eq!((conditions(&down).as_slice(), down.status.observed_generation), (both.as_slice(), 2));
    let mut unnamed = change(fill(now), 2);
    unnamed.status.conditions.clear();
    unnamed.target_read(Some(stored(&situation(now), now, 7200)));
    unnamed.admit = Admit::AtCapacity;
    unnamed.credentials_read(Some((unnamed.credentials.version().unwrap().clone(), Ok(7))));
    let unknown = look(unnamed, soon);
    let both = [("Ready", "True", "TokenValid", -1), ("Reconciling", "True", "Pending", 2)];
    assert_eq!(conditions(&unknown), both, "what it satisfied is not known");
}

#[test]
fn a_suspended_resource_reports_only_its_token_and_keeps_its_failure() {
    let (now, mut requests) = (at(START), 0);
    let suspend = |mut s: Situation| {
        s.plan.as_mut().unwrap().suspend = true;
        s
    };
    let none = look(suspend(situation(now)), now);
    assert_eq!(conditions(&none), [("Ready", "False", "Suspended", 1)]);
    let refused = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let failed = refused.status.failure.clone();
    let kept = look(suspend(again(situation(now), refused, 0, now)), now);
    assert_eq!(conditions(&kept), [("Ready", "False", "Suspended", 1)]);
    assert_eq!(kept.status.failure, failed);
    let mut valid = suspend(filled(now));
    valid.credentials = Observed::Cached(Version { uid: "u".to_owned(), resource: "2".to_owned() });
    let valid = look(valid, now);
    assert_eq!(conditions(&valid), [("Ready", "True", "TokenValid", 1)]);
    assert_eq!(valid.status.credentials_version.as_deref(), Some("1"), "a version that was not looked at is not named");
}

#[test]
fn a_repeated_finding_changes_no_status_and_a_new_finding_does() {
    let (now, later) = (at(START), at(START + 600));
    let incomplete = |mut s: Situation, generation| {
        let version = s.credentials.version().unwrap().clone();
        s.generation = generation;
        s.credentials_read(Some((version, Err(CredentialsError { key: "client_id".to_owned() }))));
        s
    };
    let first = || look(incomplete(situation(now), 1), now);
    assert_eq!(first().problem, Some(Reason::CredentialsIncomplete));
    let told = first();
    let failed = failure(&told);
    assert_eq!((failed.since, failed.count, failed.next_attempt_at), (now, Some(1), None));
    assert!(!look(incomplete(again(situation(later), first(), 0, later), 1), later).changed);
    let changed = look(incomplete(again(situation(later), first(), 0, later), 2), later);
    assert_eq!((failure(&changed).since, failure(&changed).last_attempt_at), (now, Some(later)));
    let mut other = again(situation(later), first(), 0, later);
    other.allowed = false;
    let other = look(other, later);
    assert_eq!((other.problem, failure(&other).since), (Some(Reason::PortalNotAllowed), later));
}

#[test]
fn a_rejected_write_is_cleared_when_nothing_is_left_to_write() {
    let now = at(START);
    // Whatever there is to do has been done.
    let at_rest = |s: Situation| {
        let verdict = Verdict { step: Step::Rest, ..decide(&s, now) };
        conclude(s, verdict, now).problem
    };
    let told = |kind, reason, rendered, owned, since: i64| {
        let mut s = filled(now);
        let details = s.memory.target.as_mut().unwrap();
        (details.rendered, details.owned) = (rendered, owned);
        s.failed(kind, reason, None, at(START - since));
        at_rest(s)
    };
    let refused = Some(Reason::TargetRefused);
    assert_eq!(told(AttemptKind::Write, Reason::TargetRefused, false, true, 0), refused);
    assert_eq!(told(AttemptKind::Write, Reason::TargetRefused, true, true, 0), None);
    assert_eq!(told(AttemptKind::Ownership, Reason::TargetRefused, true, false, 0), refused);
    assert_eq!(told(AttemptKind::Ownership, Reason::TargetRefused, true, true, 0), None);
    assert_eq!(told(AttemptKind::Ownership, Reason::TargetRefused, true, false, 4000), None, "it was tried again");
    for reason in [Reason::ClusterError, Reason::Internal] {
        assert_eq!(told(AttemptKind::Write, reason, true, true, 0), Some(reason), "it was not tried again");
        assert_eq!(told(AttemptKind::Write, reason, true, true, 4000), None);
    }
    let changed = |since| {
        let mut s = filled(now);
        s.failed(AttemptKind::Write, Reason::ClusterError, None, at(START - since));
        s.generation = 2;
        s.memory.target.as_mut().unwrap().generation = 2;
        at_rest(s)
    };
    assert_eq!(changed(1), Some(Reason::ClusterError), "a person has changed something: it waits 2 s");
    assert_eq!(changed(2), None, "and is looked at again");
}

#[test]
fn an_unpublished_token_keeps_the_failure_of_its_write() {
    let now = at(START);
    let mut s = filled(now);
    s.issued(token("next"), 7200, now);
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, now);
    assert_eq!(look(s, now).problem, Some(Reason::TargetRefused));
}

#[test]
fn a_pause_of_the_host_keeps_its_start_and_the_renewals_requested_meanwhile() {
    let now = at(START);
    let pause = |mut s: Situation, seconds| {
        s.admit = Admit::PausedUntil(at(START + seconds));
        s
    };
    let first = look(pause(situation_known(now), 300), now);
    assert_eq!((first.problem, failure(&first).since), (Some(Reason::RateLimited), now));
    let later = at(START + 100);
    let mut s = pause(again(situation_known(later), first, 0, later), 300);
    s.generation = 2;
    let changed = look(s, later);
    assert_eq!((failure(&changed).since, failure(&changed).next_attempt_at), (now, Some(at(START + 300))));
    let mut requests = 0;
    let refused = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let mut s = pause(again(situation_known(later), refused, 0, later), 300);
    s.generation = 2;
    assert_eq!(failure(&look(s, later)).since, later, "another reason begins anew");

    let asking = |asks: bool| {
        let mut s = pause(again(situation_known(later), fill(now), 1, later), 300);
        s.requested_at = asks.then(|| "now".to_owned());
        let asked = look(s, later);
        let over = at(START + 301);
        let mut requests = 1;
        run(again(situation(over), asked, 1, over), over, Ok(7200), &mut requests);
        requests - 1
    };
    assert_eq!(asking(true), 1, "also when it is taken back meanwhile, as after a restart");
    assert_eq!(asking(false), 0);
}

#[test]
fn a_credentials_version_is_recorded_once_nothing_remains_to_be_done_for_it() {
    let now = at(START);
    let second = || Version { uid: "u".to_owned(), resource: "2".to_owned() };
    let soon = at(START + 2);
    let read = |digest| {
        let mut s = again(situation(soon), fill(now), 1, soon);
        s.credentials_read(Some((second(), Ok(digest))));
        look(s, soon)
    };
    assert_eq!(read(7).status.credentials_version.as_deref(), Some("2"), "only labels changed");
    assert_eq!(read(8).status.credentials_version.as_deref(), Some("1"), "the change waits for its floor");

    let labels = read(7);
    let lost = Conclusion { status: fill(now).status, ..labels };
    let mut s = again(situation(soon), lost, 1, soon);
    s.credentials = Observed::Cached(second());
    assert_eq!(look(s, soon).status.credentials_version.as_deref(), Some("2"), "a write that was lost is made again");

    let mut gone = again(situation(soon), fill(now), 1, soon);
    gone.credentials = Observed::Absent;
    assert_eq!(look(gone, soon).status.credentials_version.as_deref(), Some("1"), "so that another is known for one");
}

#[test]
fn last_transition_time_changes_only_with_the_status_of_the_condition() {
    let (now, mut requests) = (at(START), 0);
    let down = run(situation(now), now, Err(Reason::PortalUnreachable), &mut requests);
    let next = down.wake;
    let other = run(again(situation(next), down, 0, next), next, Err(Reason::PortalUnavailable), &mut requests);
    let times: Vec<_> = other.status.conditions.iter().map(|c| (c.type_.as_str(), c.last_transition_time)).collect();
    assert_eq!(times, [("Ready", now), ("Reconciling", now)]);
    let later = at(next.as_second() + 100);
    let filled = run(again(situation(later), other, 0, later), later, Ok(7200), &mut requests);
    assert_eq!(filled.status.conditions[0].last_transition_time, later);
}

#[test]
fn the_verified_condition_is_reported_only_when_verification_is_enabled() {
    let now = at(START);
    let verify = |verification, asked| {
        let mut s = filled(now);
        s.plan.as_mut().unwrap().verify = asked;
        s.memory.verification = verification;
        look(s, now)
    };
    let told = |told: &Conclusion| {
        let verified = told.status.conditions.iter().find(|c| c.type_ == "Verified");
        verified.map(|c| (c.status.clone(), c.reason.clone()))
    };
    for (verification, status, reason) in [
        (Verification::Known(serde_json::from_value(json!({"appId": "a"})).unwrap()), "True", "AppKnown"),
        (Verification::Unknown, "False", "AppUnknown"),
        (Verification::NotAnswered, "Unknown", "NotAnswered"),
    ] {
        let known = matches!(verification, Verification::Known(_));
        let reported = verify(Some(verification.clone()), true);
        assert_eq!(told(&reported), Some((status.to_owned(), reason.to_owned())));
        assert_eq!(reported.status.app.is_some(), known);
        assert_eq!(told(&verify(Some(verification), false)), None);
        let mut unanswered = again(situation(now), reported, 1, now);
        unanswered.plan.as_mut().unwrap().verify = true;
        unanswered.memory.verification = None;
        let kept = look(unanswered, now);
        assert_eq!(told(&kept), Some((status.to_owned(), reason.to_owned())), "the last answer stays until the next");
        assert_eq!(kept.status.app.is_some(), known);
    }
    assert_eq!(told(&verify(None, true)), None);
}
