//! What is found wrong before anything is tried.

use super::*;
use crate::api::CaBundleKind;

#[test]
fn the_first_failed_check_is_reported() {
    let seen = |change: &dyn Fn(&mut Situation)| {
        let mut s = situation_known(at(START));
        change(&mut s);
        (found(&s), step(&s))
    };
    let rests = |reason| (Some(reason), "Rest".to_owned());
    let problem = SpecError { field: "spec.target.name", advice: "no".to_owned() };
    assert_eq!(seen(&|s| s.plan = Err(problem.clone())), rests(Reason::SpecInvalid));
    assert_eq!(seen(&|s| s.allowed = false), rests(Reason::PortalNotAllowed));
    assert_eq!(seen(&|s| s.rival = Some("elder".to_owned())), rests(Reason::TargetNotOwned));
    assert_eq!(seen(&|s| s.credentials = Observed::Absent), rests(Reason::CredentialsNotFound));
    assert_eq!(seen(&|s| s.credentials = Observed::Unknown), (None, "ReadCredentials".to_owned()));
    assert_eq!(seen(&|s| s.target = Observed::Unknown), (None, "ReadTarget".to_owned()));
    let all = |s: &mut Situation| {
        s.allowed = false;
        s.rival = Some("elder".to_owned());
        s.credentials = Observed::Absent;
    };
    assert_eq!(seen(&all), rests(Reason::PortalNotAllowed));
    let two = |s: &mut Situation| (s.rival, s.credentials) = (Some("elder".to_owned()), Observed::Absent);
    assert_eq!(seen(&two), rests(Reason::TargetNotOwned));
    let ca = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_ca(situation_known(at(START)));
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(ca(&|s| s.ca = Observed::Absent), rests(Reason::CaBundleNotFound));
    assert_eq!(ca(&|s| s.ca = Observed::Unknown), (None, "ReadCa".to_owned()));
    let invalid = Some((version("c"), Some(Reason::CaBundleInvalid)));
    assert_eq!(ca(&|s| s.ca_read(invalid.clone())), rests(Reason::CaBundleInvalid));
    assert_eq!(ca(&|s| s.ca_read(Some((version("c"), None)))), (None, "AcquirePermit".to_owned()));
}

#[test]
fn the_owner_of_a_foreign_target_is_named_if_it_is_known() {
    let with = |owner: Owner| {
        let mut s = filled();
        s.memory.target.as_mut().unwrap().owner = owner;
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
fn an_owned_target_is_rendered_without_credentials_and_a_foreign_target_is_not_changed() {
    let labelled = |change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s.generation = 2;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(labelled(&|_| {}), (None, "Patch".to_owned()));
    let missing = labelled(&|s| s.credentials = Observed::Absent);
    assert_eq!(missing, (Some(Reason::CredentialsNotFound), "Patch".to_owned()));
    assert_eq!(labelled(&|s| s.allowed = false), (Some(Reason::PortalNotAllowed), "Rest".to_owned()));
    let others = labelled(&|s| s.memory.target.as_mut().unwrap().owner = Owner::Other(None));
    assert_eq!(others, (Some(Reason::TargetNotOwned), "Rest".to_owned()));
    assert_eq!(labelled(&|s| s.plan.as_mut().unwrap().suspend = true), (None, "Rest".to_owned()));
}

#[test]
fn an_incomplete_secret_is_read_again_only_after_a_change() {
    let incomplete = || {
        let mut s = situation(at(START));
        s.credentials_read(Some((version("1"), Err(CredentialsError { key: "client_id".to_owned() }))));
        s.credentials = Observed::Cached(version("1"));
        s
    };
    assert_eq!((found(&incomplete()), step(&incomplete())), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(detail(&incomplete()).as_deref(), Some("client_id"));
    let with = |change: &dyn Fn(&mut Situation)| {
        let mut s = incomplete();
        change(&mut s);
        step(&s)
    };
    assert_eq!(with(&|s| s.credentials = Observed::Cached(version("2"))), "ReadCredentials");
    assert_eq!(with(&|s| s.generation = 2), "ReadCredentials", "other keys may be named");

    let after_restart = |change: &dyn Fn(&mut Situation)| {
        let verdict = decide(&incomplete(), at(START));
        let last = conclude(incomplete(), verdict, at(START));
        let mut s = restarted(Situation { status: last.status, target: Observed::Absent, ..situation(at(START)) });
        s.target = Observed::Absent;
        change(&mut s);
        (found(&s), step(&s))
    };
    assert_eq!(after_restart(&|_| {}), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(after_restart(&|s| s.credentials = Observed::Cached(version("2"))).1, "ReadCredentials");
    assert_eq!(after_restart(&|s| s.generation = 2).1, "ReadCredentials");
}

#[test]
fn a_credentials_version_is_read_once() {
    let mut s = filled();
    s.credentials = Observed::Cached(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("2"), Ok(7))));
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "Rest", "though no status says so yet");
    let mut s = restarted(filled());
    s.credentials = Observed::Cached(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
}

#[test]
fn a_ca_bundle_is_evaluated_once_per_version_and_generation() {
    let judged = |error| {
        let mut s = with_ca(filled());
        s.ca_read(Some((version("c"), error)));
        s.ca = Observed::Cached(version("c"));
        s
    };
    assert_eq!((found(&judged(None)), step(&judged(None))), (None, "Rest".to_owned()));
    assert_eq!(found(&judged(Some(Reason::CaBundleInvalid))), Some(Reason::CaBundleInvalid));
    let mut s = judged(Some(Reason::CaBundleInvalid));
    s.ca = Observed::Cached(version("d"));
    assert_eq!(step(&s), "ReadCa");
    let mut s = judged(None);
    s.generation = 2;
    s.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&s), "ReadCa", "another key may be named");

    let after_restart = |reason, seen: &str| {
        let failing = judged(Some(reason));
        let verdict = decide(&failing, at(START));
        let last = conclude(failing, verdict, at(START));
        let mut s = with_ca(filled());
        s.status = last.status;
        s.ca = Observed::Cached(version(seen));
        let s = restarted(s);
        (found(&s), step(&s))
    };
    assert_eq!(after_restart(Reason::CaBundleInvalid, "c"), (Some(Reason::CaBundleInvalid), "Rest".to_owned()));
    assert_eq!(after_restart(Reason::CaBundleInvalid, "d"), (None, "ReadCa".to_owned()));
    // No status says which version has no such key: it may have been put right meanwhile.
    assert_eq!(after_restart(Reason::CaBundleNotFound, "c"), (None, "ReadCa".to_owned()));
    let mut s = with_ca(restarted(filled()));
    s.ca = Observed::Cached(version("c"));
    assert_eq!((found(&s), step(&s)), (None, "Rest".to_owned()), "nothing is read after a restart for nothing");
}

#[test]
fn a_message_names_the_kind_of_the_ca_bundle() {
    let mut s = with_ca(situation_known(at(START)));
    s.ca = Observed::Absent;
    let message = |s: Situation| {
        let verdict = decide(&s, at(START));
        conclude(s, verdict, at(START)).status.conditions[0].message.clone()
    };
    s.plan.as_mut().unwrap().ca.as_mut().unwrap().kind = CaBundleKind::Secret;
    assert!(message(s).contains("Secret ca, key ca.crt"));
    let mut s = with_ca(situation_known(at(START)));
    s.ca = Observed::Absent;
    assert!(message(s).contains("ConfigMap ca, key ca.crt"));
}
