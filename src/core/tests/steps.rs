//! What is done next, and what stands in the way of it.

use super::*;
use crate::api::CaBundleKind;

const START: i64 = 1_000_000;

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
    let mut requests = 0;
    let last = run(situation(before), before, Ok(7200), &mut requests);
    let mut s = again(situation(before), last, 1, before);
    s.target_read(Some(stored(&situation(before), before, 7200)));
    s
}

/// The same after a restart: only what the status says is known.
fn restarted(mut s: Situation) -> Situation {
    s.target = Sight::Seen(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    s.memory = Memory::default();
    s.recall(at(START));
    s
}

fn with_ca(mut s: Situation) -> Situation {
    let ca = json!({"kind": "ConfigMap", "name": "ca", "key": "ca.crt"});
    s.plan.as_mut().unwrap().ca = Some(serde_json::from_value(ca).unwrap());
    s
}

#[test]
fn a_new_resource_is_filled_step_by_step() {
    let mut s = situation(at(START));
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "Enter");
    s.entered = true;
    assert_eq!(step(&s), "TryCreate");
    s.create_tried();
    assert_eq!(step(&s), "Request");
    s.issued(token::AccessToken::parse("t".to_owned()).unwrap(), 7200, at(START));
    assert_eq!(step(&s), "Create");
    s.created(version("9"), at(START));
    assert_eq!((step(&s), found(&s)), ("Rest".to_owned(), None));
}

#[test]
fn what_is_only_seen_is_read_before_it_is_sent() {
    let due = filled().status.token.unwrap().renew_at;
    let at_due = |s: &Situation| format!("{:?}", decide(s, due).step);
    let mut s = with_ca(filled());
    s.ca = Sight::Seen(version("c"));
    s.memory.ca = Some((version("c"), 1, None));
    s.credentials = Sight::Seen(version("1"));
    s.entered = true;
    assert_eq!(at_due(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(at_due(&s), "ReadCa");
    s.ca_read(Some((version("c"), None)));
    assert_eq!(at_due(&s), "Request");
}

#[test]
fn the_first_check_that_fails_is_shown() {
    let seen = |change: &dyn Fn(&mut Situation)| {
        let mut s = situation_known(at(START));
        change(&mut s);
        (found(&s), step(&s))
    };
    let rests = |reason| (Some(reason), "Rest".to_owned());
    let problem = SpecProblem { field: "spec.target.name", advice: "no".to_owned() };
    assert_eq!(seen(&|s| s.plan = Err(problem.clone())), rests(Reason::SpecInvalid));
    assert_eq!(seen(&|s| s.allowed = false), rests(Reason::PortalNotAllowed));
    assert_eq!(seen(&|s| s.rival = Some("elder".to_owned())), rests(Reason::TargetNotOwned));
    assert_eq!(seen(&|s| s.credentials = Sight::Absent), rests(Reason::CredentialsNotFound));
    assert_eq!(seen(&|s| s.credentials = Sight::Unknown), (None, "ReadCredentials".to_owned()));
    assert_eq!(seen(&|s| s.target = Sight::Unknown), (None, "ReadTarget".to_owned()));
    let all = |s: &mut Situation| {
        s.allowed = false;
        s.rival = Some("elder".to_owned());
        s.credentials = Sight::Absent;
    };
    assert_eq!(seen(&all), rests(Reason::PortalNotAllowed));
    let two = |s: &mut Situation| (s.rival, s.credentials) = (Some("elder".to_owned()), Sight::Absent);
    assert_eq!(seen(&two), rests(Reason::TargetNotOwned));
    let ca = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_ca(situation_known(at(START)));
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(ca(&|s| s.ca = Sight::Absent), rests(Reason::CaBundleNotFound));
    assert_eq!(ca(&|s| s.ca = Sight::Unknown), (None, "ReadCa".to_owned()));
    let invalid = Some((version("c"), Some(Reason::CaBundleInvalid)));
    assert_eq!(ca(&|s| s.ca_read(invalid.clone())), rests(Reason::CaBundleInvalid));
    assert_eq!(ca(&|s| s.ca_read(Some((version("c"), None)))), (None, "Enter".to_owned()));
}

#[test]
fn whose_the_target_is_is_told_by_name_where_it_says_one() {
    let with = |owner: Owner| {
        let mut s = filled();
        s.memory.facts.as_mut().unwrap().owner = owner;
        (found(&s), detail(&s))
    };
    let told = |detail: &str| (Some(Reason::TargetNotOwned), Some(detail.to_owned()));
    assert_eq!(with(Owner::Ours), (None, None));
    assert_eq!(with(Owner::Other(Some("x".to_owned()))), told("it belongs to resource x"));
    assert_eq!(with(Owner::Other(None)), (Some(Reason::TargetNotOwned), None));
    assert_eq!(with(Owner::Unusable), told("it is immutable or not of type Opaque"));
    let mut s = situation_known(at(START));
    s.rival = Some("elder".to_owned());
    assert_eq!(detail(&s).as_deref(), Some("resource elder is to create it"));
    let mut s = filled();
    s.rival = Some("elder".to_owned());
    assert_eq!(found(&s), None, "whoever has it keeps it");
}

#[test]
fn hands_are_off_a_target_of_others_while_a_missing_input_lets_ours_be_rendered() {
    let labelled = |change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s.generation = 2;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(labelled(&|_| {}), (None, "Patch".to_owned()));
    let missing = labelled(&|s| s.credentials = Sight::Absent);
    assert_eq!(missing, (Some(Reason::CredentialsNotFound), "Patch".to_owned()));
    assert_eq!(labelled(&|s| s.allowed = false), (Some(Reason::PortalNotAllowed), "Rest".to_owned()));
    let others = labelled(&|s| s.memory.facts.as_mut().unwrap().owner = Owner::Other(None));
    assert_eq!(others, (Some(Reason::TargetNotOwned), "Rest".to_owned()));
    assert_eq!(labelled(&|s| s.plan.as_mut().unwrap().suspend = true), (None, "Rest".to_owned()));
}

#[test]
fn an_incomplete_secret_is_known_again_by_its_version_and_the_generation() {
    let incomplete = || {
        let mut s = situation(at(START));
        s.credentials_read(Some((version("1"), Err(Incomplete { key: "client_id".to_owned() }))));
        s.credentials = Sight::Seen(version("1"));
        s
    };
    assert_eq!((found(&incomplete()), step(&incomplete())), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(detail(&incomplete()).as_deref(), Some("client_id"));
    let with = |change: &dyn Fn(&mut Situation)| {
        let mut s = incomplete();
        change(&mut s);
        step(&s)
    };
    assert_eq!(with(&|s| s.credentials = Sight::Seen(version("2"))), "ReadCredentials");
    assert_eq!(with(&|s| s.generation = 2), "ReadCredentials", "other keys may be named");

    let after_restart = |change: &dyn Fn(&mut Situation)| {
        let verdict = decide(&incomplete(), at(START));
        let last = conclude(incomplete(), verdict, at(START));
        let mut s = restarted(Situation { status: last.status, target: Sight::Absent, ..situation(at(START)) });
        s.target = Sight::Absent;
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(after_restart(&|_| {}), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(after_restart(&|s| s.credentials = Sight::Seen(version("2"))).1, "ReadCredentials");
    assert_eq!(after_restart(&|s| s.generation = 2).1, "ReadCredentials");
}

#[test]
fn a_version_of_the_credentials_that_was_looked_at_is_not_read_again() {
    let mut s = filled();
    s.credentials = Sight::Seen(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Sight::Seen(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("2"), Ok(7))));
    s.credentials = Sight::Seen(version("2"));
    assert_eq!(step(&s), "Rest", "though no status says so yet");
    let mut s = restarted(filled());
    s.credentials = Sight::Seen(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Sight::Seen(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
}

#[test]
fn a_ca_bundle_is_judged_once_for_a_version_and_a_generation() {
    let judged = |fault| {
        let mut s = with_ca(filled());
        s.ca_read(Some((version("c"), fault)));
        s.ca = Sight::Seen(version("c"));
        s
    };
    assert_eq!((found(&judged(None)), step(&judged(None))), (None, "Rest".to_owned()));
    assert_eq!(found(&judged(Some(Reason::CaBundleInvalid))), Some(Reason::CaBundleInvalid));
    let mut s = judged(Some(Reason::CaBundleInvalid));
    s.ca = Sight::Seen(version("d"));
    assert_eq!(step(&s), "ReadCa");
    let mut s = judged(None);
    s.generation = 2;
    s.memory.facts.as_mut().unwrap().generation = 2;
    assert_eq!(step(&s), "ReadCa", "another key may be named");

    let after_restart = |reason, seen: &str| {
        let failing = judged(Some(reason));
        let verdict = decide(&failing, at(START));
        let last = conclude(failing, verdict, at(START));
        let mut s = with_ca(filled());
        s.status = last.status;
        s.ca = Sight::Seen(version(seen));
        let s = restarted(s);
        (found(&s), step(&s))
    };
    assert_eq!(after_restart(Reason::CaBundleInvalid, "c"), (Some(Reason::CaBundleInvalid), "Rest".to_owned()));
    assert_eq!(after_restart(Reason::CaBundleInvalid, "d"), (None, "ReadCa".to_owned()));
    // No status says which version has no such key: it may have been put right meanwhile.
    assert_eq!(after_restart(Reason::CaBundleNotFound, "c"), (None, "ReadCa".to_owned()));
    let mut s = with_ca(restarted(filled()));
    s.ca = Sight::Seen(version("c"));
    assert_eq!((found(&s), step(&s)), (None, "Rest".to_owned()), "nothing is read after a restart for nothing");
}

#[test]
fn a_person_s_change_beats_every_wait_but_the_portal_s_own() {
    let now = at(START);
    let waits = |reason, change: &dyn Fn(&mut Situation)| {
        let mut s = situation_known(now);
        s.entered = true;
        s.create_tried();
        s.failed(Kind::Request, reason, Some(600), at(START - 1));
        change(&mut s);
        decide(&s, now).wake.as_second() - START
    };
    let next = waits(Reason::ClientSecretRejected, &|_| {});
    assert!((59..=75).contains(&next), "{next}");
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.generation = 2), 1, "2 s after the attempt");
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.requested_at = Some("now".to_owned())), 1);
    assert_eq!(waits(Reason::ClientSecretRejected, &|s| s.credentials = Sight::Read(version("2"), Ok(()))), 1);
    assert!(waits(Reason::RateLimited, &|s| s.generation = 2) >= 599);
    let mut s = situation_known(now);
    s.failed(Kind::Request, Reason::ClientSecretRejected, None, at(START - 2));
    s.generation = 2;
    assert_eq!(step(&s), "Enter", "the 2 s are over");
    let mut s = situation_known(now);
    s.failed(Kind::Request, Reason::PortalUnreachable, None, at(START - 600));
    assert_eq!(step(&s), "Enter", "the wait is over");
}

#[test]
fn everything_about_a_resource_waits_while_the_kubernetes_api_fails() {
    let mut s = situation(at(START));
    s.failed(Kind::Write, Reason::ClusterError, None, at(START));
    assert_eq!(step(&s), "Rest");
    assert!((2..=3).contains(&(decide(&s, at(START)).wake.as_second() - START)));
    let mut s = situation(at(START));
    s.failed(Kind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&s), "ReadCredentials", "a refusal is no reason not to look");
}

#[test]
fn a_token_is_wanted_when_something_calls_for_it_and_no_sooner_than_its_floor() {
    let issued = START - 60;
    let due = filled().status.token.as_ref().unwrap().renew_at.as_second();
    let from = |now: i64, change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        s.memory.last_issued = Some(at(issued));
        change(&mut s);
        let verdict = decide(&s, at(now));
        (format!("{:?}", verdict.step) == "Enter").then_some(now).or(Some(verdict.wake.as_second()))
    };
    let enters = |now: i64, change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        s.memory.last_issued = Some(at(issued));
        change(&mut s);
        matches!(decide(&s, at(now)).step, Step::Enter)
    };
    let nothing: &dyn Fn(&mut Situation) = &|_| {};
    assert!(!enters(due - 1, nothing) && enters(due, nothing));
    let asked: &dyn Fn(&mut Situation) = &|s| s.requested_at = Some("now".to_owned());
    assert_eq!(from(issued + 2, asked), Some(issued + 5));
    assert!(enters(issued + 5, asked));
    assert!(!enters(issued + 9, &|s| {
        s.requested_at = Some("now".to_owned());
        s.memory.handled = Some("now".to_owned());
    }));
    let other: &dyn Fn(&mut Situation) = &|s| s.credentials_read(Some((version("2"), Ok(8))));
    assert_eq!(from(issued + 2, other), Some(issued + 5));
    assert!(enters(issued + 5, other));
    let lifetime: &dyn Fn(&mut Situation) = &|s| s.plan.as_mut().unwrap().lifetime = Some(3600);
    assert!(!enters(issued + 4, lifetime) && enters(issued + 5, lifetime));
    let gone: &dyn Fn(&mut Situation) = &|s| s.target = Sight::Absent;
    assert!(!enters(issued + 4, gone) && enters(issued + 5, gone));
    let damaged: &dyn Fn(&mut Situation) = &|s| s.memory.facts.as_mut().unwrap().token = None;
    assert!(!enters(issued + 4, damaged) && enters(issued + 5, damaged));
    // Taken away again and again: three times for nothing, then slower.
    let fought: &dyn Fn(&mut Situation) = &|s| {
        (1..=3).rev().for_each(|n| s.memory.repairs.note(at(issued - 10 * n)));
        s.target = Sight::Absent;
    };
    assert!(!enters(issued + 19, fought) && enters(issued + 20, fought));
}

#[test]
fn a_busy_host_is_waited_at_and_one_that_asked_for_a_pause_is_left_alone() {
    let mut s = situation_known(at(START));
    s.access = Entry::Busy;
    let verdict = decide(&s, at(START));
    assert!(verdict.waits && verdict.problem.is_none() && matches!(verdict.step, Step::Rest));
    s.access = Entry::Held(at(START + 90));
    let verdict = decide(&s, at(START));
    assert!(!verdict.waits && matches!(verdict.step, Step::Rest));
    assert_eq!((verdict.problem.unwrap().until, verdict.wake), (Some(at(START + 90)), at(START + 90)));
}

#[test]
fn drift_is_repaired_at_once_and_slower_when_somebody_undoes_it() {
    let drifted = |repairs: i64| {
        let mut s = filled();
        (0..repairs).for_each(|n| s.memory.repairs.note(at(START - 10 + n)));
        let mut secret = stored(&situation(at(START - 60)), at(START - 60), 7200);
        secret.version.resource = "12".to_owned();
        s.target_read(Some(secret));
        s.memory.facts.as_mut().unwrap().rendered = false;
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s
    };
    assert_eq!([0, 1, 2].map(|n| step(&drifted(n))), ["Patch"; 3]);
    assert_eq!(step(&drifted(3)), "Rest");
    assert_eq!(decide(&drifted(3), at(START)).wake, at(START - 8 + 30));
    let mut changed = drifted(3);
    changed.generation = 2;
    changed.memory.facts.as_mut().unwrap().generation = 2;
    assert_eq!(step(&changed), "Patch", "what a person asked for is no drift");
    let mut unread = drifted(0);
    unread.target = Sight::Seen(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&unread), "ReadTarget");
}

#[test]
fn a_held_token_is_written_as_soon_as_the_api_server_lets_it() {
    let hold = |mut s: Situation| {
        s.issued(token::AccessToken::parse("next".to_owned()).unwrap(), 7200, at(START));
        s
    };
    assert_eq!(step(&hold(filled())), "Patch");
    let mut seen = hold(filled());
    seen.target = Sight::Seen(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    let Step::Patch(patch) = decide(&seen, at(START)).step else { panic!("the judged version is replaced unread") };
    assert_eq!(patch["metadata"]["resourceVersion"], "11");
    assert_eq!(patch["data"]["access_token"], json!("bmV4dA=="));
    seen.memory.facts.as_mut().unwrap().rendered = false;
    assert_eq!(step(&seen), "ReadTarget", "what is not as wanted is looked at");
    let mut refused = hold(filled());
    refused.failed(Kind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!((step(&refused), found(&refused)), ("Rest".to_owned(), Some(Reason::TargetRefused)));
    let mut new = hold(situation_known(at(START)));
    assert_eq!(step(&new), "Create");
    new.failed(Kind::Write, Reason::TargetRefused, None, at(START));
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
    seen.target = Sight::Seen(Version { uid: "target".to_owned(), resource: "11".to_owned() });
    assert_eq!(step(&seen), "ReadTarget");
    let mut refused = retained();
    refused.failed(Kind::Ownership, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest");
    refused.failed(Kind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Own", "another failure does not hold it off");
    let mut done = retained();
    done.owned(Version { uid: "target".to_owned(), resource: "12".to_owned() });
    assert_eq!(step(&done), "Rest");
}

#[test]
fn a_failed_write_holds_off_the_request_for_a_new_target_only() {
    let mut new = situation_known(at(START));
    new.entered = true;
    new.failed(Kind::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest", "no token is bought that cannot be written");
    let due = filled().status.token.unwrap().renew_at;
    let mut old = filled();
    old.failed(Kind::Write, Reason::TargetRefused, None, due);
    assert!(matches!(decide(&old, due).step, Step::Enter), "one that has a target renews");
}

#[test]
fn a_bundle_in_a_secret_is_named_as_one() {
    let mut s = with_ca(situation_known(at(START)));
    s.ca = Sight::Absent;
    let message = |s: Situation| {
        let verdict = decide(&s, at(START));
        conclude(s, verdict, at(START)).status.conditions[0].message.clone()
    };
    s.plan.as_mut().unwrap().ca.as_mut().unwrap().kind = CaBundleKind::Secret;
    assert!(message(s).contains("Secret ca, key ca.crt"));
    let mut s = with_ca(situation_known(at(START)));
    s.ca = Sight::Absent;
    assert!(message(s).contains("ConfigMap ca, key ca.crt"));
}
