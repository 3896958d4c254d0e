//! Tables and properties of the pure core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use serde_json::json;

use super::scheduling::schedule::{Repairs, next_attempt};
use super::*;
use crate::api::{ArcGisAppCredentialStatus, Reason, Retry};

mod host_limiter;
mod memory;
mod reports;
mod schedule;
mod secrets;
mod steps;
mod texts;
mod transitions;

/// When most of these begin.
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
    let version = Version { uid: "u".to_owned(), resource: "1".to_owned() };
    let mut s = Situation {
        me: me(),
        generation: 1,
        requested_at: None,
        plan: Plan::new(&spec),
        status: ArcGisAppCredentialStatus::default(),
        allowed: true,
        rival: None,
        target: Observed::Absent,
        credentials: Observed::Cached(version),
        ca: Observed::Absent,
        client_certificate: Observed::Absent,
        admit: Admit::Now,
        has_permit: false,
        memory: Memory::default(),
    };
    s.recall(now);
    s
}

/// The same, with the credentials read already.
fn situation_known(now: Timestamp) -> Situation {
    let mut s = situation(now);
    let version = s.credentials.version().unwrap().clone();
    s.credentials_read(Some((version, Ok(7))));
    s
}

/// A token of so many seconds, as this resource would publish it.
fn published(s: &Situation, issue_time: Timestamp, seconds: i64) -> IssuedToken {
    IssuedToken {
        token: token("t"),
        issue_time,
        expiration_time: at(issue_time.as_second() + seconds),
        inputs: s.inputs().unwrap(),
        portal_url: s.plan.as_ref().unwrap().portal.base(),
        referer: s.plan.as_ref().unwrap().referer.clone(),
    }
}

/// The target as this resource would have it.
fn live(s: &Situation, published: &IssuedToken) -> LiveSecret {
    let plan = s.plan.as_ref().unwrap();
    let mut secret: Secret = serde_json::from_value(render(plan, &s.me, published).manifest(plan, &s.me)).unwrap();
    (secret.metadata.uid, secret.metadata.resource_version) = (Some("target".to_owned()), Some("11".to_owned()));
    LiveSecret::new(secret, &s.me)
}

/// The same, with a token of so many seconds.
fn stored(s: &Situation, issue_time: Timestamp, seconds: i64) -> LiveSecret {
    live(s, &published(s, issue_time, seconds))
}

/// Does what is decided, the portal granting or refusing, until the decision is to rest.
fn run(mut s: Situation, now: Timestamp, answer: Result<i64, Reason>, requests: &mut u32) -> Conclusion {
    let version = |n: u32| Version { uid: "target".to_owned(), resource: n.to_string() };
    for _ in 0..20 {
        let verdict = decide(&s, now);
        match verdict.step {
            Step::Rest => return conclude(s, verdict, now),
            Step::ReadTarget => panic!("nothing has to be read"),
            Step::ReadCredentials => {
                let version = s.credentials.version().unwrap().clone();
                s.credentials_read(Some((version, Ok(7))));
            }
            Step::ReadCa => s.ca_read(None),
            Step::ReadClientCertificate => s.client_certificate_read(None),
            Step::TryCreate => s.create_tried(),
            Step::AcquirePermit => s.has_permit = true,
            Step::Request => {
                *requests += 1;
                match answer {
                    Ok(seconds) => s.issued(token("t"), seconds, now),
                    Err(reason) => s.failed(AttemptKind::Request, reason, None, now),
                }
            }
            Step::Create => s.created(version(10 + *requests), now),
            Step::Patch(_) => s.written(version(10 + *requests), now),
            Step::Own(_) => panic!("ownership is right from the start"),
        }
    }
    panic!("no rest");
}

/// The next look at what the last one left.
fn again(mut s: Situation, last: Conclusion, version: u32, now: Timestamp) -> Situation {
    if last.status.target_version.is_some() {
        s.target = Observed::Cached(Version { uid: "target".to_owned(), resource: (10 + version).to_string() });
    }
    s.status = last.status;
    s.memory = last.memory;
    s.recall(now);
    s
}

/// What a look leaves that fills the target.
fn fill(now: Timestamp) -> Conclusion {
    run(situation(now), now, Ok(7200), &mut 0)
}

/// A resource whose target was filled at that time.
fn filled(now: Timestamp) -> Situation {
    again(situation(now), fill(now), 1, now)
}

#[test]
fn a_restart_reports_a_failure_as_before() {
    let (now, mut requests) = (Timestamp::from_millisecond(1_000_000_250).unwrap(), 0);
    let last = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let restarted = again(situation(now), Conclusion { memory: Memory::default(), ..last }, 0, now);
    assert!(!run(restarted, now, Err(Reason::ClientSecretRejected), &mut requests).changed);
}

#[test]
fn a_longer_pause_of_the_host_is_no_news_and_counts_nothing_anew() {
    let (mut now, mut requests) = (at(1_000_000), 0);
    let unpublished = |last, now: Timestamp| {
        let mut s = again(situation(now), last, 0, now);
        s.admit = Admit::PausedUntil(at(now.as_second() + 300));
        s
    };
    let mut new = situation(now);
    new.admit = Admit::PausedUntil(at(1_000_300));
    let first = run(new, now, Ok(7200), &mut requests);
    assert_eq!(first.problem, Some(Reason::RateLimited));
    assert!(!run(unpublished(first, at(1_000_300)), at(1_000_300), Ok(7200), &mut requests).changed);
    assert_eq!(requests, 0);

    let mut last = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    for count in 2..5 {
        now = last.status.failure.as_ref().unwrap().next_attempt_time.unwrap();
        last = run(unpublished(last, now), now, Ok(7200), &mut requests);
        assert!(!last.changed);
        last = run(again(situation(now), last, 0, now), now, Err(Reason::ClientSecretRejected), &mut requests);
        assert_eq!(last.status.failure.as_ref().unwrap().count, Some(count));
    }
}

#[test]
fn a_token_that_ends_before_it_is_written_is_followed_no_sooner_than_the_floor() {
    let mut requests = 0;
    let first = run(situation(at(1_000_000)), at(1_000_000), Ok(60), &mut requests);
    let due = first.status.token.as_ref().unwrap().renewal_time;
    let mut s = again(situation(due), first, 1, due);
    s.issued(token("t"), 1, due);
    let late = at(due.as_second() + 2);
    let verdict = decide(&s, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, at(due.as_second() + 30));

    // Nor where what is published was asked for with something else.
    s.credentials_read(Some((Version { uid: "other".to_owned(), resource: "2".to_owned() }, Ok(8))));
    s.issued(token("t"), 1, due);
    let verdict = decide(&s, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, at(due.as_second() + 30));
    s.requested_at = Some("now".to_owned());
    assert_eq!(decide(&s, late).wake, at(due.as_second() + 5));

    let mut new = situation_known(due);
    new.issued(token("t"), 1, due);
    let verdict = decide(&new, late);
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.wake, at(due.as_second() + 30));
}

#[test]
fn a_bug_is_shown_on_its_resource_as_nobody_s_move_and_tried_again_after_a_minute() {
    let now = at(1_000_000);
    let mut s = situation(now);
    s.failed(AttemptKind::Write, Reason::Internal, None, now);
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest));
    let told = conclude(s, verdict, now);
    let conditions: Vec<[&str; 3]> =
        told.status.conditions.iter().map(|c| [c.type_.as_str(), &c.status, &c.reason]).collect();
    assert_eq!(conditions, [["Ready", "False", "Internal"], ["Reconciling", "True", "Internal"]]);
    assert_eq!(told.status.failure.as_ref().unwrap().reason, Reason::Internal);
    assert!((60..=75).contains(&(told.wake.as_second() - now.as_second())));
    let mut requests = 0;
    let later = run(again(situation(now), told, 0, now), at(1_000_080), Ok(7200), &mut requests);
    assert_eq!((requests, later.problem), (1, None));
}

#[test]
fn only_who_wants_a_token_waits_at_a_busy_host() {
    let (now, mut requests) = (at(1_000_000), 0);
    let mut new = situation_known(now);
    new.admit = Admit::AtCapacity;
    assert!(decide(&new, now).awaits_permit);
    let last = run(situation(now), now, Ok(7200), &mut requests);
    let mut filled = again(situation(now), last, requests, now);
    filled.admit = Admit::AtCapacity;
    assert!(!decide(&filled, now).awaits_permit);
    let last = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let mut refused = again(situation(now), last, 0, now);
    refused.admit = Admit::AtCapacity;
    assert!(!decide(&refused, now).awaits_permit);
}

proptest! {
    #[test]
    fn there_is_always_a_next_look_and_no_request_before_it_is_due(granted in 1_i64..1_300_000, start in 0_i64..2_000_000_000) {
        let mut requests = 0;
        let mut now = at(start);
        let mut last = run(situation(now), now, Ok(granted), &mut requests);
        prop_assert_eq!(requests, 1);
        let renew = last.status.token.as_ref().unwrap().renewal_time;
        let resumed = run(again(situation(now), Conclusion { memory: Memory::default(), ..last }, 1, now), now, Ok(granted), &mut requests);
        prop_assert!(!resumed.changed, "a restart writes nothing");
        last = resumed;
        while requests == 1 {
            prop_assert!(last.wake > now && last.wake <= at(now.as_second() + 601));
            now = last.wake;
            last = run(again(situation(now), last, requests, now), now, Ok(granted), &mut requests);
        }
        prop_assert!(now >= renew && now.as_second() <= renew.as_second() + 1);
    }

    #[test]
    fn a_failing_portal_is_asked_ever_less_often(reason in 0..Reason::ALL.len()) {
        let reason = Reason::ALL[reason];
        prop_assume!(reason >= Reason::PortalUntrusted && reason < Reason::TargetRefused);
        let mut requests = 0;
        let mut now = at(1_000_000);
        let mut last = run(situation(now), now, Err(reason), &mut requests);
        while now < at(1_000_000 + 86_400) {
            prop_assert!(last.wake > now);
            now = last.wake;
            last = run(again(situation(now), last, 0, now), now, Err(reason), &mut requests);
            prop_assert_eq!(last.problem, Some(reason));
        }
        let most = if matches!(reason.retry(), Retry::Backoff { cap: 3600, .. } | Retry::RetryAfter) { 31 } else { 320 };
        prop_assert!(requests <= most, "{} requests a day", requests);
    }
}
