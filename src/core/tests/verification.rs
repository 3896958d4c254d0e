//! Checks of a published token: when they are due, and what their answers change.

use super::*;
use crate::api::{App, Verification};
use crate::core::spec::VerificationPlan;

mod replacements;

const INTERVAL: i64 = 900;

/// A resource whose token was published at that time, with verification.
fn verified(issued: i64) -> Situation {
    let mut s = with_target(at(issued));
    let required = vec!["geocode".to_owned()];
    s.plan.as_mut().unwrap().verification =
        Some(VerificationPlan { interval: INTERVAL.unsigned_abs(), required_privileges: required });
    s
}

fn app(privileges: &[&str]) -> Verification {
    Verification::AppKnown(App { privileges: privileges.iter().map(|p| (*p).to_owned()).collect(), ..App::default() })
}

/// Makes the check that is due, with this answer.
fn check(s: &mut Situation, now: i64, answer: Verification) {
    assert!(s.verification_due(at(now)).is_some_and(|due| due <= at(now)), "a check is due at {now}");
    let issued = s.verification_started(at(now)).unwrap();
    s.verified(issued, answer, at(now));
}

fn condition(status: &ArcGisAppCredentialStatus, kind: &str) -> (String, String) {
    let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn concluded(s: Situation, now: i64) -> Conclusion {
    let verdict = decide(&s, at(now));
    conclude(s, verdict, at(now))
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_token_is_checked_once_it_is_published_and_then_in_intervals() {
    let mut s = verified(START);
    assert_eq!(s.verification_due(at(START)), Some(at(START)));
    check(&mut s, START, app(&["geocode"]));
    assert_eq!(s.verification_due(at(START)), Some(at(START + INTERVAL)));
    s.verification_deferred(at(START + 10));
    assert_eq!(s.verification_due(at(START)), Some(at(START + 10)));
    s.plan.as_mut().unwrap().suspend = true;
    assert_eq!(s.verification_due(at(START)), None, "nothing is sent while it is suspended");
    let mut without = with_target(at(START));
    without.plan.as_mut().unwrap().verification = None;
    assert_eq!(without.verification_due(at(START)), None);
}

#[test]
fn a_token_is_sent_only_to_an_allowed_portal_that_issued_it() {
    let due = |change: &dyn Fn(&mut Situation)| {
        let mut s = verified(START);
        change(&mut s);
        s.verification_due(at(START))
    };
    let moved =
        |s: &mut Situation| s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
    let next_generation = |s: &mut Situation| {
        s.generation = 2;
        s.memory.target.as_mut().unwrap().generation = 2;
    };
    assert_eq!(due(&next_generation), Some(at(START)), "what the token was requested with is the same");
    assert_eq!(due(&|s| s.allowed = false), None);
    assert_eq!(due(&moved), None);
    assert_eq!(
        due(&|s| s.credentials = Observed::Absent),
        Some(at(START)),
        "nothing has changed since it was published"
    );
    let unknown = |s: &mut Situation| {
        s.credentials = Observed::Absent;
        moved(s);
        next_generation(s);
    };
    assert_eq!(due(&unknown), None);
}

#[test]
fn a_token_whose_successor_waits_to_be_written_is_not_checked() {
    let mut s = verified(START);
    s.issued(token("next"), 7200, at(START));
    s.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(s.verification_due(at(START)), None);
    assert!(concluded(s, START).wake > at(START + 30), "nothing is due before the next attempt to write it");
}

#[test]
fn each_answer_has_its_condition() {
    for (answer, expected) in [
        (app(&["geocode", "x"]), pair("True", "AppKnown")),
        (app(&["x"]), pair("False", "PrivilegesMissing")),
        (Verification::AppUnknown, pair("False", "AppUnknown")),
        (Verification::NotAnswered, pair("Unknown", "NotAnswered")),
    ] {
        let mut s = verified(START);
        check(&mut s, START, answer);
        assert!(matches!(decide(&s, at(START)).step, Step::Rest), "nothing is requested");
        let conclusion = concluded(s, START);
        assert_eq!(condition(&conclusion.status, "Verified"), expected);
        assert_eq!(condition(&conclusion.status, "Ready"), pair("True", "TokenValid"));
    }
    let mut s = verified(START);
    check(&mut s, START, app(&["x"]));
    let status = concluded(s, START).status;
    let message = &status.conditions.iter().find(|c| c.type_ == "Verified").unwrap().message;
    assert!(message.contains("geocode"), "{message}");
}

#[test]
fn no_answer_changes_a_checked_token_only_after_the_third_in_a_row() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    for (n, expected) in [(1, "AppKnown"), (2, "AppKnown"), (3, "NotAnswered")] {
        let now = START + n * INTERVAL;
        check(&mut s, now, Verification::NotAnswered);
        let conclusion = concluded(s, now);
        assert_eq!(condition(&conclusion.status, "Verified").1, expected, "{n}");
        s = next_situation(verified(START), conclusion, 1, at(now));
        s.plan.as_mut().unwrap().verification = verified(START).plan.unwrap().verification;
    }
}

#[test]
fn a_rejected_token_is_replaced_at_once_and_reported_until_then() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    check(&mut s, START + INTERVAL, Verification::TokenRejected);
    assert!(matches!(decide(&s, at(START + INTERVAL)).step, Step::AcquirePermit));
    assert_eq!(s.verification_due(at(START + INTERVAL)), None);
    s.admit = Admit::AtCapacity;
    let status = concluded(s, START + INTERVAL).status;
    assert_eq!(condition(&status, "Ready"), pair("False", "TokenRejected"));
    assert_eq!(condition(&status, "Verified"), pair("False", "TokenRejected"));
    assert_eq!(condition(&status, "Reconciling"), pair("True", "Pending"));
}

#[test]
fn after_a_restart_checks_are_spread_over_the_interval() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    let plan = s.plan.clone();
    let status = concluded(s, START).status;
    assert_spread_over_a_second(|n| {
        let (plan, status) = (plan.clone(), status.clone());
        let target = Observed::Cached(Version::new("target", "11"));
        let mut s = Situation { plan, status, target, memory: Memory::default(), ..situation(at(START)) };
        s.me.uid = format!("uid-{n}");
        s.recall(at(START + 60));
        let wait = s.verification_due(at(START + 60)).unwrap().duration_since(at(START + 60));
        assert!(wait.is_positive() && wait.as_secs() < INTERVAL, "{wait}");
        wait.subsec_millis().into()
    });
}

#[test]
fn a_token_that_is_rejected_in_the_second_of_its_issue_is_replaced_at_once_and_its_successor_is_not() {
    let mut s = verified(START);
    let rejected_at = Timestamp::from_millisecond(START * 1000 + 400).unwrap();
    let issued = s.verification_started(rejected_at).unwrap();
    s.verified(issued, Verification::TokenRejected, rejected_at);
    assert!(matches!(decide(&s, at(START + 30)).step, Step::AcquirePermit), "after the minimum spacing");
    s.issued(token("next"), 7200, at(START + 30));
    s.published(Version::new("target", "12"));
    check(&mut s, START + 30, Verification::TokenRejected);
    assert!(matches!(decide(&s, at(START + 300)).step, Step::Rest));
    assert!(matches!(decide(&s, at(START + 360)).step, Step::AcquirePermit));
}

#[test]
fn without_verification_a_rejected_token_counts_as_valid_and_is_not_replaced() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    check(&mut s, START + INTERVAL, Verification::TokenRejected);
    let mut off = s.plan.clone();
    off.as_mut().unwrap().verification = None;
    let conclusion = concluded(s, START + INTERVAL);
    assert_eq!(condition(&conclusion.status, "Ready"), pair("False", "TokenRejected"));
    let mut s = next_situation(Situation { plan: off, ..verified(START) }, conclusion, 1, at(START + INTERVAL + 60));
    s.verified(at(START), Verification::TokenRejected, at(START + INTERVAL + 60));
    assert!(matches!(decide(&s, at(START + INTERVAL + 60)).step, Step::Rest), "nothing is requested");
    let status = concluded(s, START + INTERVAL + 60).status;
    assert_eq!(condition(&status, "Ready"), pair("True", "TokenValid"));
    assert!(status.conditions.iter().all(|c| c.type_ != "Verified"));
}

#[test]
fn a_new_generation_is_reported_at_once_and_not_again_with_the_same_answer() {
    for restarted in [false, true] {
        let mut s = verified(START);
        check(&mut s, START, app(&["geocode"]));
        let plan = s.plan.clone();
        let conclusion = concluded(s, START);
        let memory = if restarted { Memory::default() } else { conclusion.memory.clone() };
        let changed = Situation { plan, generation: 2, ..verified(START) };
        let mut s = next_situation(changed, Conclusion { memory, ..conclusion }, 1, at(START + 10));
        s.target_read(Some(stored(&verified(START), at(START), 7200)));
        let status = concluded(s, START + 10).status;
        let verified = status.conditions.iter().find(|c| c.type_ == "Verified").unwrap();
        assert_eq!((verified.reason.as_str(), verified.observed_generation), ("AppKnown", 2), "restarted: {restarted}");
    }
}

#[test]
fn a_replacement_that_expires_before_it_is_written_counts_as_one() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    check(&mut s, START + INTERVAL, Verification::TokenRejected);
    s.issued(token("short"), 1, at(START + INTERVAL));
    assert!(matches!(decide(&s, at(START + INTERVAL + 40)).step, Step::Rest), "no other one after the minimum spacing");
    assert!(matches!(decide(&s, at(START + INTERVAL + 301)).step, Step::AcquirePermit));
}

#[test]
fn an_answer_about_a_token_that_is_no_longer_published_is_dropped() {
    let mut s = verified(START);
    let issued = s.verification_started(at(START)).unwrap();
    s.issued(token("next"), 7200, at(START + 1));
    s.published(Version::new("target", "12"));
    s.verified(issued, Verification::AppUnknown, at(START + 2));
    assert!(s.memory.verification.answer.is_none());
    assert!(s.verification_due(at(START + 2)).is_some_and(|due| due <= at(START + 2)), "the next one is asked about");
}

#[test]
fn an_answer_about_a_token_whose_target_was_deleted_is_dropped() {
    let mut s = verified(START);
    let issued = s.verification_started(at(START)).unwrap();
    s.target = Observed::Absent;
    s.verified(issued, Verification::TokenRejected, at(START + 2));
    assert!(s.memory.verification.answer.is_none());
}

#[test]
fn a_rejected_token_of_a_suspended_resource_stays_rejected_after_a_restart() {
    let suspended = || {
        let mut s = verified(START);
        s.plan.as_mut().unwrap().suspend = true;
        s
    };
    let mut s = suspended();
    s.verified(at(START), Verification::TokenRejected, at(START + 60));
    let before = concluded(s, START + 60);
    assert_eq!(condition(&before.status, "Ready"), pair("False", "Suspended"));
    let messages: Vec<_> = before.status.conditions.iter().map(|condition| condition.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "The portal rejects the token in the target; no other one is requested while spec.suspend is true.",
            "The portal rejects the token before its expiration.",
        ]
    );
    let restarted = Conclusion { memory: Memory::default(), ..before };
    let after = concluded(next_situation(suspended(), restarted, 1, at(START + 120)), START + 120);
    assert_eq!(condition(&after.status, "Ready"), pair("False", "Suspended"));
    assert!(!after.changed);
}
