//! Tests and properties of the pure core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use serde_json::json;

use super::scheduling::schedule::{Repairs, next_attempt, within_second};
use super::*;
use crate::api::{ArcGisAppCredentialStatus, Fault, Reason, Retry};

pub(crate) mod allows;
mod host_limiter;
mod memory;
mod reports;
mod schedule;
mod secrets;
mod stability;
mod steps;
mod texts;
mod transitions;
mod verification;

/// The time at which most of these tests start.
const START: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn token(text: &str) -> AccessToken {
    AccessToken::parse(text.to_owned()).unwrap()
}

fn me() -> Identity {
    Identity { namespace: "n".to_owned(), name: "r".to_owned(), uid: "uid".to_owned() }
}

fn situation(now: Timestamp) -> Situation {
    let spec = serde_json::from_value(json!({"credentialsRef": {"name": "c"}, "target": {"name": "t"}})).unwrap();
    let mut s = Situation {
        me: me(),
        generation: 1,
        requested_at: None,
        plan: Plan::new(&spec),
        status: ArcGisAppCredentialStatus::default(),
        allowed: true,
        rival: None,
        target: Observed::Absent,
        credentials: Observed::Cached(Version::new("u", "1")),
        ca: Observed::Absent,
        client_certificate: Observed::Absent,
        admit: Admit::Now,
        has_permit: false,
        created_alike: false,
        memory: Memory::default(),
    };
    s.recall(now);
    s
}

/// Returns the same situation after the credentials were read.
fn situation_with_credentials(now: Timestamp) -> Situation {
    let mut s = situation(now);
    let version = s.credentials.version().unwrap().clone();
    s.credentials_read(Some((version, Ok(7))));
    s
}

/// Returns a token with a lifetime of `seconds`, as this resource would publish it.
fn published(s: &Situation, issue_time: Timestamp, seconds: i64) -> IssuedToken {
    IssuedToken {
        token: token("t"),
        issue_time,
        expiration_time: at(issue_time.as_second() + seconds),
        inputs: s.inputs(),
        portal_url: None,
        referer: s.plan.as_ref().unwrap().referer.clone(),
    }
}

/// Returns the target as this resource would render it.
fn live(s: &Situation, published: &IssuedToken) -> LiveSecret {
    let plan = s.plan.as_ref().unwrap();
    let manifest = render(plan, &s.me, published).manifest(plan, &s.me);
    let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
    (secret.metadata.uid, secret.metadata.resource_version) = (Some("target".to_owned()), Some("11".to_owned()));
    LiveSecret::new(secret, &s.me)
}

/// Returns the same with a token that has a lifetime of `seconds`.
fn stored(s: &Situation, issue_time: Timestamp, seconds: i64) -> LiveSecret {
    live(s, &published(s, issue_time, seconds))
}

/// Performs the decided steps until the decision is to rest; the portal gives the same answer to each request.
fn reconcile(s: Situation, now: Timestamp, answer: Result<i64, Reason>, requests: &mut u32) -> Conclusion {
    reconcile_with(s, now, &answer.map_err(Fault::from), requests)
}

fn reconcile_with(mut s: Situation, now: Timestamp, answer: &Result<i64, Fault>, requests: &mut u32) -> Conclusion {
    for _ in 0..20 {
        let verdict = decide(&s, now);
        match verdict.step {
            Step::Rest => return conclude(s, verdict, now),
            Step::Request(_) => {
                *requests += 1;
                match answer {
                    Ok(seconds) => s.issued(token("t"), *seconds, now),
                    Err(fault) => s.failed(Activity::Request, fault.clone(), None, now),
                }
            }
            step => call(&mut s, &step, *requests, now),
        }
    }
    panic!("the reconciliation does not end");
}

/// Performs one successful call to the API server.
fn call(s: &mut Situation, step: &Step, requests: u32, now: Timestamp) {
    let written = Version::new("target", (10 + requests).to_string());
    match step {
        Step::ReadCredentials => {
            let version = s.credentials.version().unwrap().clone();
            s.credentials_read(Some((version, Ok(7))));
        }
        Step::ReadCa => s.ca_read(None),
        Step::ReadClientCertificate => s.client_certificate_read(None),
        Step::TryCreate | Step::CheckName => s.create_tried(),
        Step::AcquirePermit => s.has_permit = true,
        Step::Create => s.created(written),
        Step::Publish(_) => s.published(written),
        Step::Render(_) => s.rendered(written, now),
        step => panic!("the target is known and its owner reference is correct, so there is no {step:?}"),
    }
}

/// Returns the situation of the next reconciliation, given the conclusion of the last one.
fn next_situation(mut s: Situation, last: Conclusion, version: u32, now: Timestamp) -> Situation {
    if last.status.target_version.is_some() {
        s.target = Observed::Cached(Version::new("target", (10 + version).to_string()));
    }
    s.memory = last.memory;
    s.status = if last.changed { last.status } else { last.previous };
    let restarted = !s.memory.recalled;
    if last.changed && !restarted {
        s.memory.report_succeeded(last.reported);
    }
    s.recall(now);
    s
}

/// Asserts that the milliseconds of 1,000 resources are spread over a second. A fleet would otherwise send all requests of a
/// second in its first moment.
fn assert_spread_over_a_second(milliseconds: impl Fn(usize) -> i128) {
    let mut tenths = [0; 10];
    for n in 0..1000 {
        tenths[usize::try_from(milliseconds(n) / 100).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
}

/// Returns the conclusion of a reconciliation that creates the target.
fn reconcile_new(now: Timestamp) -> Conclusion {
    reconcile(situation(now), now, Ok(7200), &mut 0)
}

/// Returns the situation of a resource whose target was created at `now`.
fn with_target(now: Timestamp) -> Situation {
    next_situation(situation(now), reconcile_new(now), 1, now)
}

#[test]
fn a_restart_reports_a_failure_unchanged() {
    let (now, mut requests) = (Timestamp::from_millisecond(1_000_000_250).unwrap(), 0);
    let last = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let restarted = next_situation(situation(now), Conclusion { memory: Memory::default(), ..last }, 0, now);
    assert!(!reconcile(restarted, now, Err(Reason::ClientSecretRejected), &mut requests).changed);
}

#[test]
fn a_longer_pause_of_the_host_changes_no_status_and_keeps_the_failure_count() {
    let (mut now, mut requests) = (at(1_000_000), 0);
    let unpublished = |last, now: Timestamp| {
        let mut s = next_situation(situation(now), last, 0, now);
        s.admit = Admit::PausedUntil(at(now.as_second() + 300));
        s
    };
    let mut new = situation(now);
    new.admit = Admit::PausedUntil(at(1_000_300));
    let first = reconcile(new, now, Ok(7200), &mut requests);
    assert_eq!(first.problem, Some(Reason::RateLimited));
    assert!(!reconcile(unpublished(first, at(1_000_300)), at(1_000_300), Ok(7200), &mut requests).changed);
    assert_eq!(requests, 0);

    let mut last = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    for count in 2..5 {
        now = last.status.failure.as_ref().unwrap().next_attempt_time.unwrap();
        last = reconcile(unpublished(last, now), now, Ok(7200), &mut requests);
        assert!(!last.changed);
        last = reconcile(
            next_situation(situation(now), last, 0, now),
            now,
            Err(Reason::ClientSecretRejected),
            &mut requests,
        );
        assert_eq!(last.status.failure.as_ref().unwrap().count, Some(count));
    }
}

#[test]
fn a_token_that_expires_before_it_is_written_is_replaced_no_earlier_than_the_floor() {
    let mut requests = 0;
    let first = reconcile(situation(at(1_000_000)), at(1_000_000), Ok(60), &mut requests);
    let due = first.status.token.as_ref().unwrap().renewal_time;
    let mut s = next_situation(situation(due), first, 1, due);
    s.issued(token("t"), 1, due);
    let late = at(due.as_second() + 2);
    let verdict = decide(&s, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, within_second(&s.me.uid, at(due.as_second() + 30)));

    // The same applies when the published token was requested with other credentials.
    s.credentials_read(Some((Version::new("other", "2"), Ok(8))));
    s.issued(token("t"), 1, due);
    let verdict = decide(&s, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, at(due.as_second() + 30));
    s.requested_at = Some("now".to_owned());
    assert_eq!(decide(&s, late).wake, at(due.as_second() + 5));

    let mut new = situation_with_credentials(due);
    new.issued(token("t"), 1, due);
    let verdict = decide(&new, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, at(due.as_second() + 30));
}

#[test]
fn an_internal_error_is_reported_as_reconciling_and_retried_after_a_minute() {
    let now = at(1_000_000);
    let mut s = situation(now);
    s.failed(Activity::Write, Reason::Internal, None, now);
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest));
    let conclusion = conclude(s, verdict, now);
    let conditions: Vec<[&str; 3]> =
        conclusion.status.conditions.iter().map(|c| [c.type_.as_str(), &c.status, &c.reason]).collect();
    assert_eq!(conditions, [["Ready", "False", "Internal"], ["Reconciling", "True", "Internal"]]);
    assert_eq!(conclusion.status.failure.as_ref().unwrap().reason, Reason::Internal);
    assert!((60..=75).contains(&(conclusion.wake.as_second() - now.as_second())));
    let mut requests = 0;
    let later = reconcile(next_situation(situation(now), conclusion, 0, now), at(1_000_080), Ok(7200), &mut requests);
    assert_eq!((requests, later.problem), (1, None));
}

#[test]
fn only_a_resource_that_needs_a_token_waits_for_a_busy_host() {
    let (now, mut requests) = (at(1_000_000), 0);
    let mut new = situation_with_credentials(now);
    new.admit = Admit::AtCapacity;
    assert!(decide(&new, now).awaits_permit);
    let last = reconcile(situation(now), now, Ok(7200), &mut requests);
    let mut with_target = next_situation(situation(now), last, requests, now);
    with_target.admit = Admit::AtCapacity;
    assert!(!decide(&with_target, now).awaits_permit);
    let last = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let mut refused = next_situation(situation(now), last, 0, now);
    refused.admit = Admit::AtCapacity;
    assert!(!decide(&refused, now).awaits_permit);
}

proptest! {
    #[test]
    fn there_is_always_a_next_reconciliation_and_no_request_before_it_is_due(granted in 1_i64..1_300_000, start in 0_i64..2_000_000_000) {
        let mut requests = 0;
        let mut now = at(start);
        let mut last = reconcile(situation(now), now, Ok(granted), &mut requests);
        prop_assert_eq!(requests, 1);
        let renew = last.status.token.as_ref().unwrap().renewal_time;
        let resumed = reconcile(next_situation(situation(now), Conclusion { memory: Memory::default(), ..last }, 1, now), now, Ok(granted), &mut requests);
        prop_assert!(!resumed.changed, "a restart writes nothing");
        last = resumed;
        while requests == 1 {
            prop_assert!(last.wake > now && last.wake <= at(now.as_second() + 601));
            now = last.wake;
            last = reconcile(next_situation(situation(now), last, requests, now), now, Ok(granted), &mut requests);
        }
        prop_assert!(now >= renew && now.as_second() <= renew.as_second() + 1);
    }

    #[test]
    fn requests_to_a_failing_portal_back_off(reason in 0..Reason::ALL.len()) {
        let reason = Reason::ALL[reason];
        prop_assume!(reason >= Reason::PortalUntrusted && reason < Reason::TargetRefused);
        let mut requests = 0;
        let mut now = at(1_000_000);
        let mut last = reconcile(situation(now), now, Err(reason), &mut requests);
        while now < at(1_000_000 + 86_400) {
            prop_assert!(last.wake > now);
            now = last.wake;
            last = reconcile(next_situation(situation(now), last, 0, now), now, Err(reason), &mut requests);
            prop_assert_eq!(last.problem, Some(reason));
        }
        let most = if matches!(reason.retry(), Retry::Backoff { cap: 3600, .. } | Retry::RetryAfter) { 31 } else { 320 };
        prop_assert!(requests <= most, "{} requests a day", requests);
    }
}
