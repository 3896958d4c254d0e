//! When a rejected token is replaced.

use super::*;

/// The times at which a portal that rejects every token is asked for another one. With each restart the memory is lost.
/// In each period of `silent` seconds, checks are not answered during the second half.
fn replacements(hours: i64, restart_every: Option<i64>, silent: Option<i64>) -> Vec<i64> {
    let mut s = verified(START);
    let mut requests = Vec::new();
    for now in START..START + hours * 3600 {
        if s.verification_due(at(now)).is_some_and(|due| due <= at(now)) {
            let answers = silent.is_none_or(|period| (now - START) % period < period / 2);
            check(&mut s, now, if answers { Verification::TokenRejected } else { Verification::NotAnswered });
        }
        let mut sent = 0;
        s.admit = Admit::Now;
        let plan = s.plan.clone();
        let conclusion = reconcile(s, at(now), Ok(86_400), &mut sent);
        requests.extend((sent > 0).then_some(now));
        let restarted = restart_every.is_some_and(|every| (now - START) % every == every - 1);
        let conclusion = if restarted { Conclusion { memory: Memory::default(), ..conclusion } } else { conclusion };
        let mut next = Situation { plan, ..situation(at(now)) };
        next.memory = Memory::default();
        s = next_situation(next, conclusion, 1, at(now));
    }
    requests
}

#[test]
fn a_portal_that_rejects_every_token_is_asked_at_most_once_in_5_minutes_and_30_times_a_day() {
    let requests = replacements(24, None, None);
    assert!(requests.windows(2).all(|two| two[1] - two[0] >= 300), "{requests:?}");
    assert!(requests.len() <= 30, "{}", requests.len());
    assert!(requests.len() >= 20, "it is asked again: {}", requests.len());
    let restarted = replacements(6, Some(1000), None);
    assert!(restarted.windows(2).all(|two| two[1] - two[0] >= 300), "{restarted:?}");
}

#[test]
fn silence_and_restarts_in_between_do_not_shorten_the_waits_between_replacements() {
    for restart_every in [None, Some(1000), Some(7000)] {
        let requests = replacements(24, restart_every, Some(8000));
        assert!(requests.windows(2).all(|two| two[1] - two[0] >= 300), "{restart_every:?}: {requests:?}");
        assert!((10..=30).contains(&requests.len()), "{restart_every:?}: {}", requests.len());
        let last = requests.last().unwrap() - requests[requests.len() - 2];
        assert!(last >= 3600, "{restart_every:?}: {requests:?}");
    }
}

#[test]
fn a_clock_that_is_set_does_not_shorten_the_waits_between_replacements() {
    for step in [-3 * 3600, 3 * 3600] {
        let (mut s, mut offset) = (verified(START), 0);
        let (mut requests, plan) = (Vec::new(), s.plan.clone());
        for second in START..START + 12 * 3600 {
            if second == START + 4000 {
                offset = step;
                s.memory.shift(SignedDuration::from_secs(step));
            }
            let now = second + offset;
            if s.verification_due(at(now)).is_some_and(|due| due <= at(now)) {
                check(&mut s, now, Verification::TokenRejected);
            }
            let mut sent = 0;
            s.admit = Admit::Now;
            let conclusion = reconcile(s, at(now), Ok(86_400), &mut sent);
            requests.extend((sent > 0).then_some(second));
            s = next_situation(Situation { plan: plan.clone(), ..situation(at(now)) }, conclusion, 1, at(now));
        }
        let pauses: Vec<i64> = requests.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.is_sorted_by(|a, b| *b + 2 >= *a), "{step}: {pauses:?}");
        assert!(*pauses.last().unwrap() >= 3600, "{step}: {pauses:?}");
    }
}

#[test]
fn a_restart_after_the_clock_was_set_back_keeps_the_wait_after_a_replacement() {
    let mut s = verified(START);
    check(&mut s, START, app(&["geocode"]));
    check(&mut s, START + INTERVAL, Verification::TokenRejected);
    let plan = s.plan.clone();
    let step = -3 * 3600;
    s.admit = Admit::AtCapacity;
    let mut s = next_situation(verified(START), concluded(s, START + INTERVAL), 1, at(START + INTERVAL));
    s.memory.shift(SignedDuration::from_secs(step));
    let now = START + INTERVAL + step + 40;
    s.issued(token("next"), 7200, at(now));
    s.published(Version::new("target", "12"));
    let conclusion = concluded(s, now);
    let restarted = Situation { plan, ..situation(at(now)) };
    let mut s = next_situation(restarted, Conclusion { memory: Memory::default(), ..conclusion }, 2, at(now + 200));
    s.verified(at(now), Verification::TokenRejected, at(now + 200));
    s.target_read(Some(stored(&s, at(now), 7200)));
    assert!(matches!(decide(&s, at(now + 200)).step, Step::Rest), "{:?}", decide(&s, at(now + 200)).step);
    let later = decide(&s, at(now + 301)).step;
    assert!(matches!(later, Step::ReadCredentials | Step::AcquirePermit), "{later:?}");
}

#[test]
fn renewals_in_between_do_not_shorten_the_wait_after_a_replacement() {
    let written = |s: &mut Situation, version: &str, now: i64| {
        s.issued(token(version), 7200, at(now));
        s.published(Version::new("target", version));
    };
    let mut s = verified(START);
    check(&mut s, START, Verification::TokenRejected);
    let replaced = START + 30;
    written(&mut s, "12", replaced);
    check(&mut s, replaced, app(&["geocode"]));
    let renewed = replaced + 90;
    written(&mut s, "13", renewed);
    check(&mut s, renewed, Verification::TokenRejected);
    assert!(matches!(decide(&s, at(renewed + 40)).step, Step::Rest));
    assert!(matches!(decide(&s, at(replaced + 301)).step, Step::AcquirePermit));
}

#[test]
fn a_renewal_of_a_token_that_was_not_rejected_counts_as_no_replacement() {
    let mut s = verified(START);
    let rejected = s.verification_started(at(START)).unwrap();
    s.verified(rejected, Verification::TokenRejected, at(START));
    s.issued(token("replacement"), 7200, at(START + 1));
    s.published(Version::new("target", "12"));
    // Nothing is known of the replacement when it is renewed.
    s.issued(token("renewal"), 7200, at(START + 5000));
    s.published(Version::new("target", "13"));
    let renewal = s.verification_started(at(START + 5001)).unwrap();
    s.verified(renewal, Verification::TokenRejected, at(START + 5002));
    assert_eq!(s.owed(at(START + 5040)).trigger, Trigger::Rejected);
    assert!(s.request_due(at(START + 5040)) <= at(START + 5040), "the last replacement is more than an hour ago");
}
