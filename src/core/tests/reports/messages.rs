//! The messages that users read.

use super::*;
use crate::api::Cause;

#[test]
fn a_message_names_the_objects_of_the_current_spec() {
    let now = at(START);
    let url = |s: &mut Situation, url: &str| s.plan.as_mut().unwrap().portal = PortalUrl::parse(url).unwrap();
    let mut s = situation(now);
    s.allowed = false;
    url(&mut s, "https://one.example.com");
    let first = conclude_at_rest(s, now);
    assert!(message_of(&first, "Ready").contains("ortal one.example.com"));
    let mut s = next_situation(situation(now), first, 0, now);
    (s.allowed, s.generation) = (false, 2);
    url(&mut s, "https://two.example.com");
    let second = conclude_at_rest(s, now);
    assert!(message_of(&second, "Stalled").contains("ortal two.example.com"), "{}", message_of(&second, "Stalled"));
    assert!(message_of(&second, "Ready").contains("ortal two.example.com"));
}

#[test]
fn a_restart_keeps_the_name_of_the_missing_key() {
    let now = at(START);
    let mut s = situation(now);
    let version = s.credentials.version().unwrap().clone();
    let incomplete = CredentialsError { key: "client_secret".to_owned(), cause: Cause::KeyMissing };
    s.credentials_read(Some((version, Err(incomplete))));
    let first = conclude_at_rest(s, now);
    assert!(message_of(&first, "Stalled").contains("no key client_secret"));
    let restarted = next_situation(situation(now), Conclusion { memory: Memory::default(), ..first }, 0, now);
    assert!(!conclude_at_rest(restarted, now).changed);
}

#[test]
fn a_message_mentions_the_owner_reference_when_its_update_failed() {
    let now = at(START);
    let conclusion = |kind| {
        let mut s = with_target(now);
        s.memory.target.as_mut().unwrap().owned = kind != Activity::Own;
        s.memory.target.as_mut().unwrap().rendered = kind != Activity::Write;
        s.failed(kind, Reason::TargetRefused, None, now);
        conclude_at_rest(s, now)
    };
    assert!(message_of(&conclusion(Activity::Own), "Stalled").contains("owner reference"));
    assert!(message_of(&conclusion(Activity::Write), "Stalled").contains("to read or write"));
}

#[test]
fn an_event_reports_the_most_specific_reason_and_only_when_it_changes() {
    let now = at(START);
    let (first, mut requests) = (reconcile_new(now), 1);
    let event = |conclusion: &Conclusion| conclusion.change.as_ref().map(|n| (n.warning, n.reason.clone()));
    assert_eq!(event(&first), Some((false, "TokenValid".to_owned())));
    let due = first.status.token.as_ref().unwrap().renewal_time;
    let refused =
        reconcile(next_situation(situation(due), first, 1, due), due, Err(Reason::ClientSecretRejected), &mut requests);
    assert_eq!(event(&refused), Some((true, "ClientSecretRejected".to_owned())));
    let next = failure(&refused).next_attempt_time.unwrap();
    let more = reconcile(
        next_situation(situation(next), refused, 1, next),
        next,
        Err(Reason::ClientSecretRejected),
        &mut requests,
    );
    assert_eq!((more.changed, event(&more)), (true, None));
    let next = failure(&more).next_attempt_time.unwrap();
    let recovered = reconcile(next_situation(situation(next), more, 1, next), next, Ok(7200), &mut requests);
    assert_eq!(event(&recovered), Some((false, "TokenValid".to_owned())));

    let down = reconcile(situation(now), now, Err(Reason::PortalUnreachable), &mut requests);
    assert_eq!(event(&down), Some((true, "PortalUnreachable".to_owned())));
}

fn enterprise_plan() -> Plan {
    let spec = json!({
        "credentialsRef": {"name": "creds"}, "target": {"name": "target"},
        "portal": {
            "url": "https://gis.example.com:7443/portal",
            "caBundleRef": {"kind": "ConfigMap", "name": "roots", "key": "ca.crt"},
            "clientCertificateRef": {"name": "client"},
        },
    });
    Plan::new(&serde_json::from_value(spec).unwrap()).unwrap()
}

#[test]
fn each_reason_has_a_message_with_the_names_in_the_spec() {
    let plan = enterprise_plan();
    let conclusion = |reason: Reason, detail: Option<&str>| {
        let detail = detail.map(str::to_owned);
        let problem = Problem { detail, ..Problem::prerequisite(reason.into(), None) };
        crate::core::report::message::message(&problem, Some(&plan))
    };
    for reason in Reason::ALL {
        let names: &[&str] = match reason {
            Reason::TargetNotOwned | Reason::TargetRefused => &["Secret target"],
            Reason::CredentialsNotFound | Reason::CredentialsIncomplete => &["Secret creds"],
            Reason::CaBundleNotFound | Reason::CaBundleInvalid => &["ConfigMap roots, key ca.crt"],
            Reason::ClientCertificateNotFound | Reason::ClientCertificateInvalid => &["Secret client"],
            Reason::ClientIdRejected | Reason::ClientSecretRejected => &["ortal gis.example.com:7443", "Secret creds"],
            Reason::SpecInvalid | Reason::SourceRefused | Reason::ClusterError | Reason::Internal => &[],
            _ => &["ortal gis.example.com:7443"],
        };
        let message = conclusion(*reason, None);
        assert!(message.ends_with('.') && names.iter().all(|name| message.contains(name)), "{message}");
    }
    let all: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| conclusion(*reason, None)).collect();
    assert_eq!(all.len(), Reason::ALL.len(), "each reason has its own message");
    assert!(conclusion(Reason::CredentialsIncomplete, Some("my-key")).contains("Key my-key"));
}

#[test]
fn a_message_names_what_its_cause_is_about() {
    let plan = enterprise_plan();
    let expired = Problem::prerequisite(ClientCertificateError::Expired(Timestamp::UNIX_EPOCH, false).fault(), None);
    let expired = crate::core::report::message::message(&expired, Some(&plan));
    assert!(expired.contains("Secret client expired on 1970-01-01T00:00:00Z. Renew it."), "{expired}");
    let refused = Problem::of(&Wait {
        finding: crate::core::Finding::default(),
        ..Wait::next(
            None,
            "uid",
            Failed { activity: Activity::Own, reason: Reason::TargetRefused, retry_after: None, worked: false },
            situation(at(START)).made_with(),
            at(START),
        )
    });
    let refused = crate::core::report::message::message(&refused, Some(&plan));
    assert!(refused.contains("owner reference of Secret target"));
    let invalid = Problem::prerequisite(
        crate::api::Fault::new(Reason::SpecInvalid, Cause::Undecodable),
        Some("spec.x: y".to_owned()),
    );
    assert_eq!(
        crate::core::report::message::message(&invalid, None),
        "The specification cannot be used: spec.x: y. Correct the field."
    );
}

#[test]
fn a_message_is_updated_while_the_reason_stays_the_same() {
    let now = at(START);
    let missing = |mut s: Situation, key: &str, resource: &str| {
        let version = Version::new("u", resource);
        s.credentials_read(Some((version, Err(CredentialsError { key: key.to_owned(), cause: Cause::KeyMissing }))));
        conclude_at_rest(s, now)
    };
    let first = missing(situation(now), "client_id", "1");
    assert!(message_of(&first, "Stalled").contains("key client_id"));
    let second = missing(next_situation(situation(now), first, 0, now), "client_secret", "2");
    assert!(message_of(&second, "Stalled").contains("key client_secret"), "{}", message_of(&second, "Stalled"));
}
