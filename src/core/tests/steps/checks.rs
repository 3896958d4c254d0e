//! The checks that precede every step.

use super::*;
use crate::api::CaBundleKind;
use crate::api::Cause;

/// The cause of the problem, and the name in it.
fn found(s: &Situation) -> Option<(Cause, Option<String>)> {
    let finding = decide(s, at(START)).problem?.finding;
    Some((finding.cause?, finding.seen.name.map(|name| name.as_str().to_owned())))
}

#[test]
fn the_first_failed_check_is_reported() {
    let check = |change: &dyn Fn(&mut Situation)| {
        let mut s = situation_with_credentials(at(START));
        change(&mut s);
        (reason(&s), step(&s))
    };
    let rests = |reason| (Some(reason), "Rest".to_owned());
    let problem = SpecError { field: "spec.target.name", advice: "no".to_owned() };
    assert_eq!(check(&|s| s.plan = Err(problem.clone())), rests(Reason::SpecInvalid));
    assert_eq!(check(&|s| s.allowed = false), rests(Reason::PortalNotAllowed));
    assert_eq!(check(&|s| s.rival = Some("older".to_owned())), rests(Reason::TargetNotOwned));
    assert_eq!(check(&|s| s.credentials = Observed::Absent), rests(Reason::CredentialsNotFound));
    assert_eq!(
        check(&|s| (s.credentials, s.has_permit) = (Observed::Unknown, true)),
        (None, "ReadCredentials".to_owned())
    );
    assert_eq!(check(&|s| s.target = Observed::Unknown), (None, "ReadTarget".to_owned()));
    let all = |s: &mut Situation| {
        s.allowed = false;
        s.rival = Some("older".to_owned());
        s.credentials = Observed::Absent;
    };
    assert_eq!(check(&all), rests(Reason::PortalNotAllowed));
    let two = |s: &mut Situation| (s.rival, s.credentials) = (Some("older".to_owned()), Observed::Absent);
    assert_eq!(check(&two), rests(Reason::TargetNotOwned));
    let ca = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_ca(situation_with_credentials(at(START)));
        s.has_permit = true;
        change(&mut s);
        (reason(&s), step(&s))
    };
    assert_eq!(ca(&|s| s.ca = Observed::Absent), rests(Reason::CaBundleNotFound));
    assert_eq!(ca(&|s| s.ca = Observed::Unknown), (None, "ReadCa".to_owned()));
    let invalid = Some((version("c"), Some(Reason::CaBundleInvalid.into())));
    assert_eq!(ca(&|s| s.ca_read(invalid.clone())), rests(Reason::CaBundleInvalid));
    assert_eq!(ca(&|s| s.ca_read(Some((version("c"), None)))), (None, "TryCreate".to_owned()));
}

#[test]
fn the_owner_of_a_foreign_target_is_named_if_it_is_known() {
    let with = |owner: Owner| {
        let mut s = with_target();
        s.memory.target.as_mut().unwrap().owner = owner;
        (reason(&s), found(&s))
    };
    let not_owned = |cause, name: Option<&str>| (Some(Reason::TargetNotOwned), Some((cause, name.map(str::to_owned))));
    assert_eq!(with(Owner::Ours), (None, None));
    assert_eq!(with(Owner::Other(Some("x".to_owned()))), not_owned(Cause::OtherResource, Some("x")));
    assert_eq!(with(Owner::Other(Some("<x>".to_owned()))), not_owned(Cause::OtherResource, None));
    assert_eq!(with(Owner::Other(None)), not_owned(Cause::NoOwner, None));
    assert_eq!(with(Owner::Controller), not_owned(Cause::OtherController, None));
    assert_eq!(with(Owner::Immutable), not_owned(Cause::Immutable, None));
    assert_eq!(with(Owner::OtherType), not_owned(Cause::OtherType, None));
    let mut s = situation_with_credentials(at(START));
    s.rival = Some("older".to_owned());
    assert_eq!(found(&s), Some((Cause::OtherResource, Some("older".to_owned()))));
    let mut s = with_target();
    s.rival = Some("older".to_owned());
    assert_eq!(reason(&s), None, "the current owner keeps the target");
}

#[test]
fn an_owned_target_is_rendered_without_credentials_and_a_foreign_target_is_not_changed() {
    let labeled = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s.generation = 2;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        change(&mut s);
        (reason(&s), step(&s))
    };
    assert_eq!(labeled(&|_| {}), (None, "Render".to_owned()));
    let missing = labeled(&|s| s.credentials = Observed::Absent);
    assert_eq!(missing, (Some(Reason::CredentialsNotFound), "Render".to_owned()));
    assert_eq!(labeled(&|s| s.allowed = false), (Some(Reason::PortalNotAllowed), "Rest".to_owned()));
    let others = labeled(&|s| s.memory.target.as_mut().unwrap().owner = Owner::Other(None));
    assert_eq!(others, (Some(Reason::TargetNotOwned), "Rest".to_owned()));
    assert_eq!(labeled(&|s| s.plan.as_mut().unwrap().suspend = true), (None, "Rest".to_owned()));
}

#[test]
fn an_incomplete_secret_is_read_again_only_after_a_change() {
    let incomplete = || {
        let mut s = situation(at(START));
        s.credentials_read(Some((
            version("1"),
            Err(CredentialsError { key: "client_id".to_owned(), cause: crate::api::Cause::KeyMissing }),
        )));
        s.credentials = Observed::Cached(version("1"));
        s.has_permit = true;
        s
    };
    assert_eq!((reason(&incomplete()), step(&incomplete())), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(detail(&incomplete()).as_deref(), Some("client_id"));
    let with = |change: &dyn Fn(&mut Situation)| {
        let mut s = incomplete();
        change(&mut s);
        step(&s)
    };
    assert_eq!(with(&|s| s.credentials = Observed::Cached(version("2"))), "ReadCredentials");
    assert_eq!(with(&|s| s.generation = 2), "ReadCredentials", "the spec may name other keys");

    let after_restart = |change: &dyn Fn(&mut Situation)| {
        let verdict = decide(&incomplete(), at(START));
        let last = conclude(incomplete(), verdict, at(START));
        let mut s = restarted(Situation { status: last.status, target: Observed::Absent, ..situation(at(START)) });
        s.target = Observed::Absent;
        s.has_permit = true;
        change(&mut s);
        (reason(&s), step(&s))
    };
    assert_eq!(after_restart(&|_| {}), (Some(Reason::CredentialsIncomplete), "Rest".to_owned()));
    assert_eq!(after_restart(&|s| s.credentials = Observed::Cached(version("2"))).1, "ReadCredentials");
    assert_eq!(after_restart(&|s| s.generation = 2).1, "ReadCredentials");
}

#[test]
fn a_credentials_version_is_read_once() {
    let mut s = with_target();
    s.credentials = Observed::Cached(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("2"), Ok(7))));
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "Rest", "before a status records it");
    let mut s = restarted(with_target());
    s.credentials = Observed::Cached(version("1"));
    assert_eq!(step(&s), "Rest");
    s.credentials = Observed::Cached(version("2"));
    assert_eq!(step(&s), "ReadCredentials");
}

#[test]
fn a_ca_bundle_is_evaluated_once_per_version_and_generation() {
    let evaluated = |error| {
        let mut s = with_ca(with_target());
        s.ca_read(Some((version("c"), error)));
        s.ca = Observed::Cached(version("c"));
        s
    };
    assert_eq!((reason(&evaluated(None)), step(&evaluated(None))), (None, "Rest".to_owned()));
    assert_eq!(reason(&evaluated(Some(Reason::CaBundleInvalid.into()))), Some(Reason::CaBundleInvalid));
    let mut s = evaluated(Some(Reason::CaBundleInvalid.into()));
    s.ca = Observed::Cached(version("d"));
    assert_eq!(step(&s), "ReadCa");
    let mut s = evaluated(None);
    s.generation = 2;
    s.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&s), "ReadCa", "the spec may name another key");

    let after_restart = |reason_before: Reason, cached: &str| {
        let failing = evaluated(Some(reason_before.into()));
        let verdict = decide(&failing, at(START));
        let last = conclude(failing, verdict, at(START));
        let mut s = with_ca(with_target());
        s.status = last.status;
        s.ca = Observed::Cached(version(cached));
        let s = restarted(s);
        (reason(&s), step(&s))
    };
    assert_eq!(after_restart(Reason::CaBundleInvalid, "c"), (Some(Reason::CaBundleInvalid), "Rest".to_owned()));
    assert_eq!(after_restart(Reason::CaBundleInvalid, "d"), (None, "ReadCa".to_owned()));
    // The status does not record which version lacks the key, and it may have been fixed meanwhile.
    assert_eq!(after_restart(Reason::CaBundleNotFound, "c"), (None, "ReadCa".to_owned()));
    let mut s = with_ca(restarted(with_target()));
    s.ca = Observed::Cached(version("c"));
    assert_eq!((reason(&s), step(&s)), (None, "Rest".to_owned()), "an unchanged bundle is not read after a restart");
}

#[test]
fn a_message_names_the_kind_of_the_ca_bundle() {
    let mut s = with_ca(situation_with_credentials(at(START)));
    s.ca = Observed::Absent;
    let message = |s: Situation| {
        let verdict = decide(&s, at(START));
        conclude(s, verdict, at(START)).status.conditions[0].message.clone()
    };
    s.plan.as_mut().unwrap().ca.as_mut().unwrap().kind = CaBundleKind::Secret;
    assert!(message(s).contains("Secret ca, key ca.crt"));
    let mut s = with_ca(situation_with_credentials(at(START)));
    s.ca = Observed::Absent;
    assert!(message(s).contains("ConfigMap ca, key ca.crt"));
}

#[test]
fn a_client_certificate_is_checked_once_for_a_version() {
    use ClientCertificateError::{KeyMissing, Mismatch};
    let expired = ClientCertificateError::Expired(at(START), false);
    let read = |error| {
        let mut s = with_client_certificate(with_target());
        s.client_certificate_read(Some((version("k"), error)));
        s.client_certificate = Observed::Cached(version("k"));
        s
    };
    assert_eq!((reason(&read(None)), step(&read(None))), (None, "Rest".to_owned()));
    assert_eq!(reason(&read(Some(Mismatch))), Some(Reason::ClientCertificateInvalid));
    assert_eq!(found(&read(Some(Mismatch))), Some((Cause::KeyMismatch, None)));
    assert_eq!(reason(&read(Some(KeyMissing))), Some(Reason::ClientCertificateNotFound));
    for error in [None, Some(expired)] {
        let mut renewed = read(error);
        renewed.client_certificate = Observed::Cached(version("l"));
        assert_eq!((reason(&renewed), step(&renewed)), (None, "ReadClientCertificate".to_owned()));
    }
    let mut s = with_client_certificate(with_target());
    s.client_certificate = Observed::Absent;
    assert_eq!(reason(&s), Some(Reason::ClientCertificateNotFound));
    assert_eq!(found(&s), Some((Cause::ObjectMissing, None)));
    s.client_certificate = Observed::Unknown;
    assert_eq!(step(&s), "Rest", "what no watch has reported counts as the status says");
    s.generation = 2;
    s.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&s), "ReadClientCertificate");

    let after_restart = |error, seen: &str| {
        let failing = read(Some(error));
        let verdict = decide(&failing, at(START));
        let last = conclude(failing, verdict, at(START));
        let mut s = with_client_certificate(with_target());
        s.status = last.status;
        s.client_certificate = Observed::Cached(version(seen));
        let s = restarted(s);
        let verdict = decide(&s, at(START));
        let shown = format!("{:?}", verdict.step);
        (reason(&s), shown, conclude(s, verdict, at(START)).changed)
    };
    assert_eq!(after_restart(expired, "k"), (Some(Reason::ClientCertificateInvalid), "Rest".to_owned(), false));
    assert_eq!(after_restart(expired, "l").1, "ReadClientCertificate");
    assert_eq!(after_restart(KeyMissing, "k").1, "ReadClientCertificate");
    let early = ClientCertificateError::NotYetValid(at(START + 60), false);
    assert_eq!(after_restart(early, "k").1, "ReadClientCertificate", "it may be valid by now");
    let mut s = with_client_certificate(restarted(with_target()));
    s.client_certificate = Observed::Cached(version("k"));
    assert_eq!((reason(&s), step(&s)), (None, "Rest".to_owned()), "a restart reads nothing that did not fail");
}

#[test]
fn a_client_certificate_that_becomes_valid_is_read_again() {
    let found_at = |error, now| {
        let mut s = with_client_certificate(situation_with_credentials(at(START)));
        s.client_certificate_read(Some((version("k"), Some(error))));
        s.client_certificate = Observed::Cached(version("k"));
        decide(&s, at(now)).problem.map(|problem| problem.reason)
    };
    let invalid = Some(Reason::ClientCertificateInvalid);
    let early = ClientCertificateError::NotYetValid(at(START + 60), false);
    assert_eq!((found_at(early, START + 59), found_at(early, START + 60)), (invalid, None));
    // A clock that was ahead was set back.
    let expired = ClientCertificateError::Expired(at(START), true);
    assert_eq!((found_at(expired, START + 1), found_at(expired, START - 60)), (invalid, None));
}

#[test]
fn of_a_ca_bundle_and_a_client_certificate_the_first_reason_in_the_table_is_reported() {
    let with = |ca: Option<Reason>, certificate: Option<ClientCertificateError>| {
        let mut s = with_client_certificate(with_ca(situation_with_credentials(at(START))));
        s.ca_read(
            ca.map(|reason| (version("c"), Some(reason).filter(|r| *r == Reason::CaBundleInvalid).map(Into::into))),
        );
        s.client_certificate_read(certificate.map(|error| (version("k"), Some(error))));
        reason(&s)
    };
    assert_eq!(with(None, None), Some(Reason::CaBundleNotFound));
    assert_eq!(with(None, Some(ClientCertificateError::Expired(at(START), false))), Some(Reason::CaBundleNotFound));
    assert_eq!(with(Some(Reason::CaBundleInvalid), None), Some(Reason::ClientCertificateNotFound));
    assert_eq!(
        with(Some(Reason::CaBundleInvalid), Some(ClientCertificateError::Expired(at(START), false))),
        Some(Reason::CaBundleInvalid)
    );
}
