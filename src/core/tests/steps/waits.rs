//! What waits after a failure, and for how long.

use super::*;

#[test]
fn a_user_s_change_overrides_every_wait_except_retry_after() {
    let now = at(START);
    let waits = |reason, change: &dyn Fn(&mut Situation)| {
        let mut s = situation_with_credentials(now);
        s.has_permit = true;
        s.create_tried();
        s.failed(Activity::Request, reason, Some(600), at(START - 1));
        change(&mut s);
        decide(&s, now).wake.as_second() - START
    };
    let next = waits(Reason::ClientSecretRejected, &|_| {});
    assert!((59..=75).contains(&next), "{next}");
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.generation = 2), 1, "2 s after the attempt");
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.requested_at = Some("now".to_owned())), 1);
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.credentials = Observed::Loaded(version("2"), Ok(()))), 1);
    assert_eq!(waits(Reason::RequestRejected, &|s| s.client_certificate = Observed::Cached(version("2"))), 1);
    assert!(waits(Reason::RateLimited, &|s| s.generation = 2) >= 599);
    let mut s = situation_with_credentials(now);
    s.failed(Activity::Request, Reason::ClientSecretRejected, None, at(START - 2));
    s.generation = 2;
    assert_eq!(step(&s), "AcquirePermit", "the 2 s are over");
    let mut s = situation_with_credentials(now);
    s.failed(Activity::Request, Reason::PortalUnreachable, None, at(START - 600));
    assert_eq!(step(&s), "AcquirePermit", "the wait is over");
}

#[test]
fn every_step_of_a_resource_waits_while_the_kubernetes_api_fails() {
    let mut s = situation(at(START));
    s.failed(Activity::Write, Reason::ClusterError, None, at(START));
    assert_eq!(step(&s), "Rest");
    assert!((2..=3).contains(&(decide(&s, at(START)).wake.as_second() - START)));
    let mut s = situation(at(START));
    s.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&s), "ReadCredentials", "a rejected write does not prevent reads");
}

#[test]
fn a_refused_read_is_repeated_only_after_its_wait() {
    let due = with_target().status.token.unwrap().renewal_time;
    let mut s = with_target();
    s.credentials = Observed::Cached(version("2"));
    s.has_permit = true;
    let mut now = due;
    for wait in [60, 120] {
        assert!(matches!(decide(&s, now).step, Step::ReadCredentials));
        s.failed(Activity::Read, Reason::TargetRefused, None, now);
        let refused = decide(&s, now);
        assert!(matches!(refused.step, Step::Rest), "the same read is not due again: {:?}", refused.step);
        assert_eq!(refused.problem.unwrap().reason, Reason::TargetRefused);
        let waited = refused.wake.duration_since(now).as_secs();
        assert!((wait..=wait * 5 / 4).contains(&waited), "{waited}");
        now = refused.wake;
    }
    s.credentials_read(Some((version("2"), Ok(7))));
    assert!(matches!(decide(&s, now).step, Step::Request(_)));
}

#[test]
fn a_failed_write_delays_the_request_only_for_a_new_target() {
    let mut new = situation_with_credentials(at(START));
    new.has_permit = true;
    new.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest", "no token is requested that cannot be written");
    let due = with_target().status.token.unwrap().renewal_time;
    let mut old = with_target();
    old.failed(Activity::Write, Reason::TargetRefused, None, due);
    assert!(matches!(decide(&old, due).step, Step::AcquirePermit), "a resource with a target renews");
}

#[test]
fn a_refused_change_of_the_target_and_a_failed_request_do_not_end_each_others_waits() {
    for kind in [Activity::Own, Activity::Write] {
        let due = with_target().status.token.unwrap().renewal_time;
        let mut s = with_target();
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        let details = s.memory.target.as_mut().unwrap();
        (details.owned, details.rendered) = (kind == Activity::Write, kind == Activity::Own);
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        for _ in 0..2 {
            s.failed(Activity::Request, Reason::ClientSecretRejected, None, due);
            s.failed(kind, Reason::TargetRefused, None, due);
            assert!(matches!(decide(&s, due).step, Step::Rest), "{kind:?}: {:?}", decide(&s, due).step);
        }
        let counts: Vec<_> = s.memory.waits.failures().map(|failed| (failed.reason, failed.count)).collect();
        assert_eq!(counts, [(Reason::ClientSecretRejected, 2), (Reason::TargetRefused, 2)]);
        let conclusion = {
            let verdict = decide(&s, due);
            conclude(s, verdict, due)
        };
        assert_eq!(conclusion.problem, Some(Reason::ClientSecretRejected), "the first in the order of the reasons");
    }
}

#[test]
fn a_failed_check_keeps_the_wait_of_a_refused_owner_reference() {
    let mut s = with_target();
    s.memory.target.as_mut().unwrap().owned = false;
    s.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    s.credentials = Observed::Absent;
    let before = s.memory.waits.failures().next().unwrap().next_attempt;
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    let conclusion = conclude(s, verdict, at(START));
    assert_eq!(conclusion.status.failure.as_ref().unwrap().reason, Reason::CredentialsNotFound);
    assert!(
        conclusion.memory.waits.failures().any(|failed| failed.next_attempt == before),
        "the refused one still waits"
    );
}

#[test]
fn a_retry_is_made_exactly_when_it_is_due() {
    let mut s = with_target();
    s.issued(token("next"), 7200, at(START));
    s.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    let next = s.memory.reported_wait().unwrap().next_attempt;
    assert!(matches!(decide(&s, next).step, Step::Publish(_)));
}

#[test]
fn a_failed_write_allows_no_request_before_the_floor() {
    let mut s = with_target();
    s.memory.last_exchange = Some(at(START - 2).into());
    s.status.token.as_mut().unwrap().issue_time = at(START - 2);
    s.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    s.requested_at = Some("now".to_owned());
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest));
    assert_eq!(verdict.wake, at(START + 3));
}

#[test]
fn no_wait_outlasts_its_maximum_whatever_a_stored_time_says() {
    let mut s = situation_with_credentials(at(START));
    s.failed(Activity::Request, Reason::PortalUnreachable, None, at(START + 86_400));
    assert_eq!(step(&s), "AcquirePermit", "the failure is of a clock that was a day ahead");
    let failure = s.memory.waits.get(Activity::Request).unwrap().report();
    let stored = crate::api::Failure { next_attempt_time: Some(at(START + 86_400)), ..failure };
    let recalled = Wait::recall(&stored, s.made_with(), at(START)).unwrap();
    assert_eq!(recalled.next_attempt, at(START + 375));
}
