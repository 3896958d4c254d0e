//! What is done next, and what stands in the way of it.

use super::*;

mod checks;

fn version(resource: &str) -> Version {
    Version { uid: "u".to_owned(), resource: resource.to_owned() }
}

fn found(s: &Situation) -> Option<Reason> {
    decide(s, at(START)).problem.map(|problem| problem.reason)
}

fn detail(s: &Situation) -> Option<String> {
    decide(s, at(START)).problem.and_then(|problem| problem.detail)
}

fn step(s: &Situation) -> String {
    let shown = format!("{:?}", decide(s, at(START)).step);
    shown.split('(').next().unwrap_or_default().to_owned()
}

/// A resource whose target was filled a minute ago; the target has been read.
fn filled() -> Situation {
    let before = at(START - 60);
    let mut s = super::filled(before);
    s.target_read(Some(stored(&situation(before), before, 7200)));
    s
}

/// The same after a restart: only what the status says is known.
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
fn a_new_resource_is_filled_step_by_step() {
    let mut s = situation(at(START));
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "AcquirePermit");
    s.has_permit = true;
    assert_eq!(step(&s), "TryCreate");
    s.create_tried();
    assert_eq!(step(&s), "Request");
    s.issued(token("t"), 7200, at(START));
    assert_eq!(step(&s), "Create");
    s.created(version("9"), at(START));
    assert_eq!((step(&s), found(&s)), ("Rest".to_owned(), None));
}

#[test]
fn what_is_only_seen_is_read_before_it_is_sent() {
    let due = filled().status.token.unwrap().renewal_time;
    let at_due = |s: &Situation| format!("{:?}", decide(s, due).step);
    let mut s = with_ca(filled());
    s.ca = Observed::Cached(version("c"));
    s.memory.ca = Some((version("c"), 1, None));
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
fn a_person_s_change_beats_every_wait_but_the_portal_s_own() {
    let now = at(START);
    let waits = |reason, change: &dyn Fn(&mut Situation)| {
        let mut s = situation_known(now);
        s.has_permit = true;
        s.create_tried();
        s.failed(AttemptKind::Request, reason, Some(600), at(START - 1));
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
    let mut s = situation_known(now);
    s.failed(AttemptKind::Request, Reason::ClientSecretRejected, None, at(START - 2));
    s.generation = 2;
    assert_eq!(step(&s), "AcquirePermit", "the 2 s are over");
    let mut s = situation_known(now);
    s.failed(AttemptKind::Request, Reason::PortalUnreachable, None, at(START - 600));
    assert_eq!(step(&s), "AcquirePermit", "the wait is over");
}

#[test]
fn everything_about_a_resource_waits_while_the_kubernetes_api_fails() {
    let mut s = situation(at(START));
    s.failed(AttemptKind::Write, Reason::ClusterError, None, at(START));
    assert_eq!(step(&s), "Rest");
    assert!((2..=3).contains(&(decide(&s, at(START)).wake.as_second() - START)));
    let mut s = situation(at(START));
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&s), "ReadCredentials", "a refusal is no reason not to look");
}

#[test]
fn a_token_is_wanted_when_something_calls_for_it_and_no_sooner_than_its_floor() {
    let issued = START - 60;
    let due = filled().status.token.as_ref().unwrap().renewal_time.as_second();
    let verdict = |now: i64, change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        s.memory.last_issued = Some(at(issued));
        change(&mut s);
        decide(&s, at(now))
    };
    let enters = |now, change: &dyn Fn(&mut Situation)| matches!(verdict(now, change).step, Step::AcquirePermit);
    let nothing: &dyn Fn(&mut Situation) = &|_| {};
    assert!(!enters(due - 1, nothing) && enters(due, nothing));
    let asked: &dyn Fn(&mut Situation) = &|s| s.requested_at = Some("now".to_owned());
    assert_eq!(verdict(issued + 2, asked).wake, at(issued + 5));
    assert!(!enters(issued + 2, asked) && enters(issued + 5, asked));
    assert!(!enters(issued + 9, &|s| {
        s.requested_at = Some("now".to_owned());
        s.memory.last_handled_request = Some("now".to_owned());
    }));
    let other: &dyn Fn(&mut Situation) = &|s| s.credentials_read(Some((version("2"), Ok(8))));
    assert_eq!(verdict(issued + 2, other).wake, at(issued + 5));
    assert!(!enters(issued + 2, other) && enters(issued + 5, other));
    let lifetime: &dyn Fn(&mut Situation) = &|s| s.plan.as_mut().unwrap().lifetime = Some(3600);
    assert!(!enters(issued + 4, lifetime) && enters(issued + 5, lifetime));
    let gone: &dyn Fn(&mut Situation) = &|s| s.target = Observed::Absent;
    assert!(!enters(issued + 4, gone) && enters(issued + 5, gone));
    let damaged: &dyn Fn(&mut Situation) = &|s| s.memory.target.as_mut().unwrap().token = None;
    assert!(!enters(issued + 4, damaged) && enters(issued + 5, damaged));
    // Taken away again and again: three times for nothing, then slower.
    let fought: &dyn Fn(&mut Situation) = &|s| {
        (1..=3).rev().for_each(|n| s.memory.repairs.record(at(issued - 10 * n)));
        s.target = Observed::Absent;
    };
    assert!(!enters(issued + 19, fought) && enters(issued + 20, fought));
}

#[test]
fn a_busy_host_is_waited_at_and_one_that_asked_for_a_pause_is_left_alone() {
    let mut s = situation_known(at(START));
    s.admit = Admit::AtCapacity;
    let verdict = decide(&s, at(START));
    assert!(verdict.awaits_permit && verdict.problem.is_none() && matches!(verdict.step, Step::Rest));
    s.admit = Admit::PausedUntil(at(START + 90));
    let verdict = decide(&s, at(START));
    assert!(!verdict.awaits_permit && matches!(verdict.step, Step::Rest));
    assert_eq!((verdict.problem.unwrap().until, verdict.wake), (Some(at(START + 90)), at(START + 90)));
}

#[test]
fn drift_is_repaired_at_once_and_slower_when_somebody_undoes_it() {
    let drifted = |repairs: i64| {
        let mut s = filled();
        (0..repairs).for_each(|n| s.memory.repairs.record(at(START - 10 + n)));
        let mut secret = stored(&situation(at(START - 60)), at(START - 60), 7200);
        secret.version.resource = "12".to_owned();
        s.target_read(Some(secret));
        s.memory.target.as_mut().unwrap().rendered = false;
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s
    };
    assert_eq!([0, 1, 2].map(|n| step(&drifted(n))), ["Patch"; 3]);
    assert_eq!(step(&drifted(3)), "Rest");
    assert_eq!(decide(&drifted(3), at(START)).wake, at(START - 8 + 30));
    let mut changed = drifted(3);
    changed.generation = 2;
    changed.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&changed), "Patch", "what a person asked for is no drift");
    let mut unread = drifted(0);
    unread.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&unread), "ReadTarget");
}

#[test]
fn a_held_token_is_written_as_soon_as_the_api_server_lets_it() {
    let hold = |mut s: Situation| {
        s.issued(token("next"), 7200, at(START));
        s
    };
    assert_eq!(step(&hold(filled())), "Patch");
    let mut seen = hold(filled());
    seen.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    let Step::Patch(patch) = decide(&seen, at(START)).step else { panic!("the judged version is replaced unread") };
    assert_eq!(patch["metadata"]["resourceVersion"], "11");
    assert_eq!(patch["data"]["access_token"], json!("bmV4dA=="));
    seen.memory.target.as_mut().unwrap().rendered = false;
    assert_eq!(step(&seen), "ReadTarget", "what is not as wanted is looked at");
    let mut refused = hold(filled());
    refused.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!((step(&refused), found(&refused)), ("Rest".to_owned(), Some(Reason::TargetRefused)));
    let mut new = hold(situation_known(at(START)));
    assert_eq!(step(&new), "Create");
    new.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest");
}

#[test]
fn the_owner_reference_is_set_right_when_nothing_else_is_to_be_done() {
    let retained = || {
        let mut s = filled();
        s.plan.as_mut().unwrap().target.policy = crate::api::DeletionPolicy::Retain;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        s
    };
    assert_eq!(step(&retained()), "Own");
    let mut seen = retained();
    seen.target = Observed::Cached(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    assert_eq!(step(&seen), "ReadTarget");
    let mut refused = retained();
    refused.failed(AttemptKind::Ownership, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest");
    refused.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Own", "another failure does not hold it off");
    let mut done = retained();
    done.owned(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&done), "Rest");
}

#[test]
fn a_failed_write_holds_off_the_request_for_a_new_target_only() {
    let mut new = situation_known(at(START));
    new.has_permit = true;
    new.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest", "no token is bought that cannot be written");
    let due = filled().status.token.unwrap().renewal_time;
    let mut old = filled();
    old.failed(AttemptKind::Write, Reason::TargetRefused, None, due);
    assert!(matches!(decide(&old, due).step, Step::AcquirePermit), "one that has a target renews");
}

#[test]
fn a_token_is_held_until_its_end() {
    let hold = |lifetime| {
        let mut s = filled();
        s.issued(token("next"), lifetime, at(START - 40));
        (s.unpublished(at(START)).is_some(), matches!(decide(&s, at(START)).step, Step::Patch(_)))
    };
    assert_eq!([39, 40, 41].map(hold), [(false, false), (false, false), (true, true)]);
}

#[test]
fn an_attempt_is_made_in_the_very_moment_it_may_be() {
    let mut s = filled();
    s.issued(token("next"), 7200, at(START));
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    let next = s.memory.retry_state.as_ref().unwrap().next_attempt.unwrap();
    assert!(matches!(decide(&s, next).step, Step::Patch(_)));
}

#[test]
fn a_write_that_failed_lets_nobody_ask_before_the_floor() {
    let mut s = filled();
    s.memory.last_issued = Some(at(START - 2));
    s.status.token.as_mut().unwrap().issue_time = at(START - 2);
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, at(START));
    s.requested_at = Some("now".to_owned());
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest));
    assert_eq!(verdict.wake, at(START + 3));
}
