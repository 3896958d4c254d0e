//! Limits on the requests to one host.

use super::*;

mod outage;
pub(super) mod queue;

fn pause_record(second: i64, until: i64, count: u32) -> RetryAfterRecord {
    RetryAfterRecord { at: at(second), until: at(until), count }
}

/// Prepares a request and sends it.
fn request(limiter: &mut HostLimiter, now: Timestamp) -> Admit {
    let admit = limiter.try_prepare(now);
    if admit == Admit::Now && limiter.try_send(limiter.epoch(), now) != Turn::Now {
        limiter.forgo(limiter.epoch());
        return Admit::AtCapacity;
    }
    admit
}

#[test]
fn what_was_prepared_before_a_pause_is_not_sent() {
    let mut limiter = HostLimiter::default();
    let before = limiter.epoch();
    assert!((0..3).all(|_| limiter.try_prepare(at(0)) == Admit::Now));
    assert_eq!(limiter.try_send(before, at(0)), Turn::Now);
    limiter.release(before, Outcome::Limited(60), at(1));
    assert_eq!(limiter.try_send(before, at(2)), Turn::Never);
    limiter.forgo(before);
    assert_eq!(request(&mut limiter, at(61)), Admit::Now, "the probe");
    assert_eq!(limiter.try_send(before, at(62)), Turn::Never, "also when the pause is over");
    limiter.forgo(before);
    assert_eq!(request(&mut limiter, at(62)), Admit::AtCapacity, "the probe is still in flight");
    limiter.release(limiter.epoch(), Outcome::Issued, at(63));
    assert!((0..8).all(|_| request(&mut limiter, at(63)) == Admit::Now));
}

#[test]
fn a_probe_that_is_not_sent_leaves_its_turn_to_the_next() {
    let mut limiter = HostLimiter::default();
    limiter.pause_for(60, at(0));
    assert_eq!(limiter.try_prepare(at(60)), Admit::Now);
    assert_eq!(limiter.try_prepare(at(60)), Admit::AtCapacity);
    limiter.forgo(limiter.epoch());
    assert_eq!(limiter.try_prepare(at(60)), Admit::Now);
}

#[test]
fn a_paused_host_is_probed_by_one_request() {
    let mut limiter = HostLimiter::default();
    assert_eq!(request(&mut limiter, at(0)), Admit::Now);
    limiter.release(limiter.epoch(), Outcome::Limited(90), at(1));
    assert_eq!(limiter.check(at(2)), Admit::PausedUntil(at(91)));
    assert_eq!(request(&mut limiter, at(91)), Admit::Now);
    assert_eq!(request(&mut limiter, at(91)), Admit::AtCapacity);
    limiter.release(limiter.epoch(), Outcome::Issued, at(92));
    assert!((0..8).all(|_| request(&mut limiter, at(92)) == Admit::Now));
    assert_eq!(request(&mut limiter, at(92)), Admit::AtCapacity);
}

#[test]
fn a_host_that_answered_none_of_its_last_three_requests_has_one_in_flight() {
    let mut limiter = HostLimiter::default();
    let mut end = |outcomes: &[Outcome]| {
        for outcome in outcomes {
            assert_eq!(request(&mut limiter, at(0)), Admit::Now);
            limiter.release(limiter.epoch(), *outcome, at(1));
        }
        let admitted = (0..20).take_while(|_| request(&mut limiter, at(1)) == Admit::Now).count();
        for _ in 0..admitted {
            limiter.release(limiter.epoch(), *outcomes.last().unwrap(), at(1));
        }
        admitted
    };
    assert_eq!(end(&[Outcome::Unanswered; 2]), 8);
    assert_eq!(end(&[Outcome::Failed, Outcome::Unanswered, Outcome::Unanswered, Outcome::Unanswered]), 1);
    for answered in [Outcome::Issued, Outcome::Failed, Outcome::Unavailable] {
        assert_eq!(end(&[Outcome::Unanswered]), 1);
        assert_eq!(end(&[answered]), 8, "{answered:?}");
        assert_eq!(end(&[Outcome::Unanswered; 3]), 1);
    }
}

#[test]
fn a_pause_that_ended_before_a_restart_is_followed_by_one_probe() {
    let mut limiter = HostLimiter::default();
    limiter.restore(&[pause_record(30, 90, 1)], at(400));
    assert_eq!(request(&mut limiter, at(400)), Admit::Now);
    assert_eq!(request(&mut limiter, at(400)), Admit::AtCapacity);
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(401));
    limiter.restore(&[pause_record(402, 9000, 1)], at(402));
    assert_eq!(limiter.check(at(402)), Admit::PausedUntil(at(702)));
}

#[test]
fn a_host_that_keeps_returning_429_gets_at_most_two_requests_in_five_minutes() {
    let mut limiter = HostLimiter::default();
    let mut sent = Vec::new();
    for second in 0..7200 {
        if request(&mut limiter, at(second)) == Admit::Now {
            sent.push(second);
            limiter.release(limiter.epoch(), Outcome::Limited(60), at(second));
        }
    }
    assert!(sent.windows(3).skip(2).all(|three| three[2] - three[0] > 300), "{sent:?}");
}

#[test]
fn responses_to_concurrent_requests_count_as_one_pause() {
    let mut limiter = HostLimiter::default();
    assert!((0..3).all(|_| request(&mut limiter, at(0)) == Admit::Now));
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(1));
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(2));
    limiter.release(limiter.epoch(), Outcome::Limited(1), at(3));
    assert_eq!(limiter.check(at(4)), Admit::PausedUntil(at(63)));
    assert_eq!(request(&mut limiter, at(63)), Admit::Now);
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(64));
    assert_eq!(limiter.check(at(64)), Admit::PausedUntil(at(64 + 120)), "the second pause in a row");
    limiter.restore(&[pause_record(64, 64 + 120, 1)], at(65));
    assert_eq!(request(&mut limiter, at(64 + 120)), Admit::Now);
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(184));
    assert_eq!(
        limiter.check(at(184)),
        Admit::PausedUntil(at(184 + 240)),
        "a status that reports the same pause changes nothing"
    );
}

#[test]
fn a_pause_read_from_a_status_lasts_at_most_five_minutes() {
    let by = |reason, last: Option<i64>, next: Option<i64>| {
        let failure = crate::api::Failure {
            reason,
            cause: None,
            message: None,
            start_time: at(0),
            count: Some(2),
            last_attempt_time: last.map(at),
            next_attempt_time: next.map(at),
            inputs: None,
        };
        RetryAfterRecord::of(&ArcGisAppCredentialStatus {
            failure: Some(failure),
            ..ArcGisAppCredentialStatus::default()
        })
    };
    assert_eq!(by(Reason::RateLimited, Some(1000), Some(1090)), Some(pause_record(1000, 1090, 2)));
    assert_eq!(by(Reason::RateLimited, Some(1000), Some(4600)), Some(pause_record(1000, 1300, 2)));
    assert_eq!(
        by(Reason::RateLimited, None, Some(1090)),
        None,
        "a resource that only waits reports no pause of its own"
    );
    assert_eq!(by(Reason::ClientSecretRejected, Some(1000), Some(1090)), None);
    assert_eq!(RetryAfterRecord::of(&ArcGisAppCredentialStatus::default()), None);
}

#[test]
fn a_restart_continues_the_pause() {
    let after_restart = |pause_record: &[RetryAfterRecord]| {
        let mut limiter = HostLimiter::default();
        limiter.restore(pause_record, at(1000));
        match limiter.check(at(1000)) {
            Admit::PausedUntil(until) => until.as_second(),
            _ => 0,
        }
    };
    assert_eq!(after_restart(&[]), 0);
    assert_eq!(after_restart(&[pause_record(990, 1050, 1)]), 1050);
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(980, 1040, 1), pause_record(960, 1020, 1)]),
        1050,
        "one burst"
    );
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(929, 989, 1)]),
        1110,
        "the second pause in a row"
    );
    assert_eq!(after_restart(&[pause_record(990, 1050, 3)]), 1230, "the third pause in a row");
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(870, 990, 1), pause_record(810, 870, 1)]),
        1230,
        "three pauses, each reported by another resource"
    );
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(659, 719, 9)]),
        1050,
        "the earlier pause ended too long ago"
    );
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(660, 720, 9)]),
        1290,
        "the earlier pause counts"
    );
    let hostile = [pause_record(990, 1050, u32::MAX), pause_record(900, 960, u32::MAX)];
    assert_eq!(after_restart(&hostile), 1290, "five minutes at most");
    assert_eq!(
        after_restart(&[pause_record(990, 1050, 1), pause_record(400, 1200, 1)]),
        1200,
        "the longer pause applies"
    );
}

#[test]
fn a_pause_grows_after_a_restart() {
    let mut limiter = HostLimiter::default();
    limiter.restore(&[pause_record(990, 1050, 2)], at(1000));
    assert_eq!(request(&mut limiter, at(1110)), Admit::Now);
    limiter.release(limiter.epoch(), Outcome::Limited(60), at(1110));
    assert_eq!(limiter.check(at(1110)), Admit::PausedUntil(at(1350)), "the pause continues to grow");
}

#[test]
fn a_success_that_was_in_flight_does_not_end_the_pause() {
    let mut limiter = HostLimiter::default();
    let before = limiter.epoch();
    assert!((0..3).all(|_| request(&mut limiter, at(0)) == Admit::Now));
    limiter.release(before, Outcome::Limited(60), at(1));
    limiter.release(before, Outcome::Issued, at(2));
    assert_eq!(limiter.check(at(2)), Admit::PausedUntil(at(61)));
    assert_eq!(request(&mut limiter, at(61)), Admit::Now, "the probe");
    limiter.release(before, Outcome::Failed, at(62));
    assert_eq!(request(&mut limiter, at(62)), Admit::AtCapacity, "the probe is still in flight");
    limiter.release(limiter.epoch(), Outcome::Issued, at(63));
    assert_eq!(request(&mut limiter, at(63)), Admit::Now);
}

#[test]
fn a_pause_keeps_its_length_when_the_clock_is_set() {
    let mut limiter = HostLimiter::default();
    limiter.pause_for(60, at(7200));
    limiter.shift(SignedDuration::from_hours(-2));
    assert_eq!(limiter.check(at(30)), Admit::PausedUntil(at(60)));
    assert_eq!(limiter.check(at(60)), Admit::Now);
}
