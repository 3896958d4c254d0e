//! The next step of a reconciliation, and what prevents it.

use super::*;

mod checks;

fn version(resource: &str) -> Version {
    Version { uid: "u".to_owned(), resource: resource.to_owned() }
}

fn reason(s: &Situation) -> Option<Reason> {
    decide(s, at(START)).problem.map(|problem| problem.reason)
}

fn detail(s: &Situation) -> Option<String> {
    decide(s, at(START)).problem.and_then(|problem| problem.detail)
}

fn step(s: &Situation) -> String {
    let shown = format!("{:?}", decide(s, at(START)).step);
    shown.split('(').next().unwrap_or_default().to_owned()
}

/// Returns a resource whose target was created a minute ago and has been read.
fn with_target() -> Situation {
    let before = at(START - 60);
    let mut s = super::with_target(before);
    s.target_read(Some(stored(&situation(before), before, 7200)));
    s
}

/// Returns the same after a restart: only what the status reports is known.
fn restarted(mut s: Situation) -> Situation {
    s.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    s.memory = Memory::default();
    s.recall(at(START));
    s
}

fn with_ca(mut s: Situation) -> Situation {
    let ca = json!({"kind": "ConfigMap", "name": "ca", "key": "ca.crt"});
    s.plan.as_mut().unwrap().ca = Some(serde_json::from_value(ca).unwrap());
    s
}

fn with_client_certificate(mut s: Situation) -> Situation {
    s.plan.as_mut().unwrap().client_certificate = Some("client".to_owned());
    let inputs = s.inputs();
    if let Some(token) = s.memory.target.as_mut().and_then(|target| target.token.as_mut()) {
        token.inputs = inputs;
    }
    s
}

#[test]
fn a_new_target_is_created_step_by_step() {
    let mut s = situation(at(START));
    assert_eq!(step(&s), "AcquirePermit");
    s.has_permit = true;
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "TryCreate");
    s.create_tried();
    assert_eq!(step(&s), "Request");
    s.issued(token("t"), 7200, at(START));
    assert_eq!(step(&s), "Create");
    s.created(version("9"));
    assert_eq!((step(&s), reason(&s)), ("Rest".to_owned(), None));
}

#[test]
fn cached_inputs_are_read_before_a_request() {
    let due = with_target().status.token.unwrap().renewal_time;
    let at_due = |s: &Situation| match decide(s, due).step {
        Step::Request(_) => "Request".to_owned(),
        step => format!("{step:?}"),
    };
    let mut s = with_ca(with_target());
    s.ca = Observed::Cached(version("c"));
    s.ca_read(Some((version("c"), None)));
    s.ca = Observed::Cached(version("c"));
    s.credentials = Observed::Cached(version("1"));
    s.has_permit = true;
    assert_eq!(at_due(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(at_due(&s), "ReadCa");
    s.ca_read(Some((version("c"), None)));
    assert_eq!(at_due(&s), "Request");
    let mut s = with_client_certificate(s);
    s.client_certificate = Observed::Cached(version("k"));
    assert_eq!(at_due(&s), "ReadClientCertificate");
    s.client_certificate_read(Some((version("k"), None)));
    assert_eq!(at_due(&s), "Request");
}

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
fn a_token_is_requested_when_it_is_due_or_triggered_and_no_earlier_than_the_floor() {
    let issued = START - 60;
    let due = with_target().status.token.as_ref().unwrap().renewal_time.as_second();
    let verdict = |now: i64, change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        s.memory.last_request = Some(at(issued));
        change(&mut s);
        decide(&s, at(now))
    };
    let acquires = |now, change: &dyn Fn(&mut Situation)| matches!(verdict(now, change).step, Step::AcquirePermit);
    let nothing: &dyn Fn(&mut Situation) = &|_| {};
    assert!(!acquires(due - 1, nothing) && acquires(due, nothing));
    let requested: &dyn Fn(&mut Situation) = &|s| s.requested_at = Some("now".to_owned());
    assert_eq!(verdict(issued + 2, requested).wake, at(issued + 5));
    assert!(!acquires(issued + 2, requested) && acquires(issued + 5, requested));
    assert!(!acquires(issued + 9, &|s| {
        s.requested_at = Some("now".to_owned());
        s.memory.last_handled_request = Some("now".to_owned());
    }));
    let other: &dyn Fn(&mut Situation) = &|s| s.credentials_read(Some((version("2"), Ok(8))));
    assert_eq!(verdict(issued + 2, other).wake, at(issued + 5));
    assert!(!acquires(issued + 2, other) && acquires(issued + 5, other));
    let lifetime: &dyn Fn(&mut Situation) = &|s| s.plan.as_mut().unwrap().lifetime = Some(3600);
    assert!(!acquires(issued + 4, lifetime) && acquires(issued + 5, lifetime));
    let gone: &dyn Fn(&mut Situation) = &|s| s.target = Observed::Absent;
    assert!(!acquires(issued + 4, gone) && acquires(issued + 5, gone));
    let damaged: &dyn Fn(&mut Situation) = &|s| s.memory.target.as_mut().unwrap().token = None;
    assert!(!acquires(issued + 4, damaged) && acquires(issued + 5, damaged));
    // The target is deleted repeatedly: the first three repairs are not delayed, later ones back off.
    let contested: &dyn Fn(&mut Situation) = &|s| {
        (1..=3).rev().for_each(|n| s.memory.repairs.record(at(issued - 10 * n)));
        s.target = Observed::Absent;
    };
    assert!(!acquires(issued + 19, contested) && acquires(issued + 20, contested));
}

#[test]
fn a_busy_host_is_queued_for_and_a_paused_host_gets_no_request() {
    let mut s = situation_with_credentials(at(START));
    s.admit = Admit::AtCapacity;
    let verdict = decide(&s, at(START));
    assert!(verdict.awaits_permit && verdict.problem.is_none() && matches!(verdict.step, Step::Rest));
    s.admit = Admit::PausedUntil(at(START + 90));
    let verdict = decide(&s, at(START));
    assert!(!verdict.awaits_permit && matches!(verdict.step, Step::Rest));
    assert_eq!((verdict.problem.unwrap().source, verdict.wake), (Source::Pause(at(START + 90)), at(START + 90)));
}

#[test]
fn drift_is_repaired_at_once_and_repeated_drift_with_back_off() {
    let drifted = |repairs: i64| {
        let mut s = with_target();
        (0..repairs).for_each(|n| s.memory.repairs.record(at(START - 10 + n)));
        let mut secret = stored(&situation(at(START - 60)), at(START - 60), 7200);
        secret.version.resource = "12".to_owned();
        s.target_read(Some(secret));
        s.memory.target.as_mut().unwrap().rendered = false;
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s
    };
    assert_eq!([0, 1, 2].map(|n| step(&drifted(n))), ["Render"; 3]);
    assert_eq!(step(&drifted(3)), "Rest");
    assert_eq!(decide(&drifted(3), at(START)).wake, at(START - 8 + 30));
    let mut changed = drifted(3);
    changed.generation = 2;
    changed.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&changed), "Render", "a change of the spec is not drift");
    let mut waiting = drifted(3);
    waiting.memory.written_generation = None;
    waiting.status.conditions[0].observed_generation = 0;
    assert_eq!(step(&waiting), "Render", "the first write of this generation");
    waiting.memory.written_generation = Some(1);
    assert_eq!(step(&waiting), "Rest", "the token of this generation is still being requested");
    let mut lapsed = drifted(0);
    lapsed.issued(token("next"), 40, at(START - 40));
    assert_eq!(step(&lapsed), "Render", "an unpublished token has expired");
    let mut unread = drifted(0);
    unread.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&unread), "ReadTarget");
}

#[test]
fn an_unpublished_token_is_written_as_soon_as_the_api_server_accepts_it() {
    let with_unpublished = |mut s: Situation| {
        s.issued(token("next"), 7200, at(START));
        s
    };
    assert_eq!(step(&with_unpublished(with_target())), "Publish");
    let mut cached = with_unpublished(with_target());
    cached.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    let Step::Publish(patch) = decide(&cached, at(START)).step else {
        panic!("the evaluated version is patched without another read")
    };
    assert_eq!(patch.expose()["metadata"]["resourceVersion"], "11");
    assert_eq!(patch.expose()["data"]["access_token"], json!("bmV4dA=="));
    cached.memory.target.as_mut().unwrap().rendered = false;
    assert_eq!(step(&cached), "ReadTarget", "a target that differs is read first");
    let mut refused = with_unpublished(with_target());
    refused.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!((step(&refused), reason(&refused)), ("Rest".to_owned(), Some(Reason::TargetRefused)));
    let mut new = with_unpublished(situation_with_credentials(at(START)));
    assert_eq!(step(&new), "Create");
    new.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest");
}

#[test]
fn the_owner_reference_is_corrected_after_all_other_steps() {
    let retained = || {
        let mut s = with_target();
        s.plan.as_mut().unwrap().target.policy = crate::api::DeletionPolicy::Retain;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        s
    };
    assert_eq!(step(&retained()), "Own");
    let mut cached = retained();
    cached.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    assert_eq!(step(&cached), "ReadTarget");
    let mut refused = retained();
    refused.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest");
    let mut refused = retained();
    refused.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest", "what refused one change is likely to refuse the other");
    let mut waiting = retained();
    waiting.failed(Activity::Request, Reason::PortalUnreachable, None, at(START));
    assert_eq!(step(&waiting), "Own", "a failure of the portal does not delay it");
    let mut done = retained();
    done.owned(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&done), "Rest");
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
fn an_unpublished_token_is_kept_until_it_expires() {
    let with_unpublished = |lifetime| {
        let mut s = with_target();
        s.issued(token("next"), lifetime, at(START - 40));
        (s.unpublished(at(START)).is_some(), matches!(decide(&s, at(START)).step, Step::Publish(_)))
    };
    assert_eq!([39, 40, 41].map(with_unpublished), [(false, false), (false, false), (true, true)]);
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
    s.memory.last_request = Some(at(START - 2));
    s.status.token.as_mut().unwrap().issue_time = at(START - 2);
    s.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    s.requested_at = Some("now".to_owned());
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest));
    assert_eq!(verdict.wake, at(START + 3));
}

#[test]
fn a_new_resource_waits_for_a_permit_without_a_read_and_without_a_status() {
    let now = at(START);
    let mut s = situation(now);
    s.admit = Admit::AtCapacity;
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest) && verdict.awaits_permit);
    assert!(!conclude(s, verdict, now).changed);
    let mut s = situation(now);
    s.admit = Admit::PausedUntil(at(START + 300));
    assert_eq!(step(&s), "ReadCredentials", "what is wrong is reported before a pause ends");
}

#[test]
fn a_token_of_a_clock_that_was_ahead_is_renewed_at_once() {
    // A restart by a clock that was set back to START.
    let after_30_s = |issued: i64| {
        let mut s = super::with_target(at(issued));
        s.memory = Memory::default();
        s.recall(at(START));
        s.target_read(Some(stored(&situation(at(issued)), at(issued), 7200)));
        assert_eq!(step(&s), "Rest", "the minimum spacing counts from now");
        format!("{:?}", decide(&s, at(START + 30)).step)
    };
    assert_eq!(after_30_s(START + 3600), "AcquirePermit");
    assert_eq!(after_30_s(START + 299), "Rest", "clocks differ by minutes");
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

#[test]
fn a_new_resource_is_created_without_a_read_of_its_target() {
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target, s.has_permit) = (-1, Observed::Unknown, true);
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "TryCreate");
    s.conflicted();
    assert_eq!(step(&s), "ReadTarget", "the name is taken");
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target, s.credentials) = (-1, Observed::Unknown, Observed::Absent);
    assert_eq!(step(&s), "ReadTarget", "what fails is reported by the first reason that applies");
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target) = (1, Observed::Unknown);
    assert_eq!(step(&s), "ReadTarget");
}
