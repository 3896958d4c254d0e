//! What is found wrong before anything is tried.

use super::*;
use crate::api::CaBundleKind;

#[test]
fn the_first_check_that_fails_is_shown() {
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
fn whose_the_target_is_is_told_by_name_where_it_says_one() {
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
    let missing = labelled(&|s| s.credentials = Observed::Absent);
    assert_eq!(missing, (Some(Reason::CredentialsNotFound), "Patch".to_owned()));
    assert_eq!(labelled(&|s| s.allowed = false), (Some(Reason::PortalNotAllowed), "Rest".to_owned()));
    let others = labelled(&|s| s.memory.target.as_mut().unwrap().owner = Owner::Other(None));
    assert_eq!(others, (Some(Reason::TargetNotOwned), "Rest".to_owned()));
    assert_eq!(labelled(&|s| s.plan.as_mut().unwrap().suspend = true), (None, "Rest".to_owned()));
}

#[test]
fn an_incomplete_secret_is_known_again_by_its_version_and_the_generation() {
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
fn a_version_of_the_credentials_that_was_looked_at_is_not_read_again() {
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
fn a_ca_bundle_is_judged_once_for_a_version_and_a_generation() {
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
fn a_bundle_in_a_secret_is_named_as_one() {
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

#[test]
fn a_client_certificate_is_checked_once_for_a_version() {
    use ClientCertificateError::{Expired, KeyMissing, Mismatch};
    let read = |error| {
        let mut s = with_client_certificate(filled());
        s.client_certificate_read(Some((version("k"), error)));
        s.client_certificate = Observed::Cached(version("k"));
        s
    };
    assert_eq!((found(&read(None)), step(&read(None))), (None, "Rest".to_owned()));
    assert_eq!(found(&read(Some(Mismatch))), Some(Reason::ClientCertificateInvalid));
    assert_eq!(detail(&read(Some(Mismatch))), Some(Mismatch.to_string()));
    assert_eq!(found(&read(Some(KeyMissing))), Some(Reason::ClientCertificateNotFound));
    for error in [None, Some(Expired)] {
        let mut renewed = read(error);
        renewed.client_certificate = Observed::Cached(version("l"));
        assert_eq!((found(&renewed), step(&renewed)), (None, "ReadClientCertificate".to_owned()));
    }
    let mut s = with_client_certificate(filled());
    s.client_certificate = Observed::Absent;
    assert_eq!(found(&s), Some(Reason::ClientCertificateNotFound));
    s.client_certificate = Observed::Unknown;
    assert_eq!(step(&s), "ReadClientCertificate");

    let after_restart = |error, seen: &str| {
        let failing = read(Some(error));
        let verdict = decide(&failing, at(START));
        let last = conclude(failing, verdict, at(START));
        let mut s = with_client_certificate(filled());
        s.status = last.status;
        s.client_certificate = Observed::Cached(version(seen));
        let s = restarted(s);
        let verdict = decide(&s, at(START));
        let shown = format!("{:?}", verdict.step);
        (found(&s), shown, conclude(s, verdict, at(START)).changed)
    };
    assert_eq!(after_restart(Expired, "k"), (Some(Reason::ClientCertificateInvalid), "Rest".to_owned(), false));
    assert_eq!(after_restart(Expired, "l").1, "ReadClientCertificate");
    assert_eq!(after_restart(KeyMissing, "k").1, "ReadClientCertificate");
    let mut s = with_client_certificate(restarted(filled()));
    s.client_certificate = Observed::Cached(version("k"));
    assert_eq!((found(&s), step(&s)), (None, "Rest".to_owned()), "a restart reads nothing that did not fail");
}

#[test]
fn of_a_ca_bundle_and_a_client_certificate_the_first_reason_in_the_table_is_reported() {
    let with = |ca: Option<Reason>, certificate: Option<ClientCertificateError>| {
        let mut s = with_client_certificate(with_ca(situation_known(at(START))));
        s.ca_read(ca.map(|reason| (version("c"), Some(reason).filter(|r| *r == Reason::CaBundleInvalid))));
        s.client_certificate_read(certificate.map(|error| (version("k"), Some(error))));
        found(&s)
    };
    assert_eq!(with(None, None), Some(Reason::CaBundleNotFound));
    assert_eq!(with(None, Some(ClientCertificateError::Expired)), Some(Reason::CaBundleNotFound));
    assert_eq!(with(Some(Reason::CaBundleInvalid), None), Some(Reason::ClientCertificateNotFound));
    assert_eq!(
        with(Some(Reason::CaBundleInvalid), Some(ClientCertificateError::Expired)),
        Some(Reason::CaBundleInvalid)
    );
}
