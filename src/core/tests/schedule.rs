//! The times of repairs, renewals and retries.

use super::*;

mod workers;

#[test]
fn three_repairs_are_immediate_and_later_ones_back_off() {
    let mut repairs = Repairs::default();
    let mut now = at(1000);
    for _ in 0..3 {
        assert_eq!(repairs.allowed_at(now), now);
        repairs.record(now);
        now = at(now.as_second() + 1);
    }
    let mut waits = Vec::new();
    for _ in 0..6 {
        let next = repairs.allowed_at(now);
        waits.push(next.as_second() - now.as_second());
        repairs.record(next);
        now = next;
    }
    assert_eq!(waits, [29, 30, 60, 120, 240, 300]);
    let quiet = at(now.as_second() + 601);
    assert_eq!(repairs.allowed_at(quiet), quiet);
}

#[test]
fn repairs_that_are_far_apart_do_not_back_off() {
    let mut repairs = Repairs::default();
    for second in [1000, 1300, 1590] {
        repairs.record(at(second));
    }
    assert_eq!(repairs.allowed_at(at(1599)), at(1620), "the fourth in ten minutes");
    assert_eq!(repairs.allowed_at(at(1600)), at(1600), "the first was ten minutes ago");
    let mut contested = Repairs::default();
    for second in [1000, 1001, 1002, 1032] {
        contested.record(at(second));
    }
    assert_eq!(contested.allowed_at(at(1033)), at(1062));
    assert_eq!(contested.allowed_at(at(1632)), at(1632), "ten minutes without a repair");
    contested.record(at(1632));
    assert_eq!(contested.allowed_at(at(1633)), at(1633), "the count starts again");
    let mut bounded = Repairs::default();
    for second in [1000, 1001, 1002, 1600] {
        bounded.record(at(second));
    }
    assert_eq!(bounded.allowed_at(at(1601)), at(1601), "ten minutes after the first");
    let mut persistent = Repairs::default();
    for second in [1000, 1001, 1002, 1032, 1300, 1590, 1880] {
        persistent.record(at(second));
    }
    assert_eq!(
        persistent.allowed_at(at(1881)),
        at(1880 + 240),
        "repeated repairs keep backing off until they are ten minutes apart"
    );
    let mut slow = Repairs::default();
    for second in [1000, 1001, 1601] {
        slow.record(at(second));
    }
    slow.record(at(1602));
    assert_eq!(slow.allowed_at(at(1603)), at(1603), "three of the last four do not back off");
}

#[test]
fn renewal_and_retry_times_are_stable_across_releases() {
    // A fleet keeps its spread over an upgrade. The values are computed manually from the formula in the reference.
    let uid = "6f1c2a0e-7b1d-4a53-9c39-2f5a1f0c8e11";
    for (granted, before, expected) in [
        (7200, None, 3812),
        (1800, None, 953),
        (900, None, 477),
        (601, None, 239),
        (299, None, 120),
        (60, None, 30),
        (1, None, 30),
        (7200, Some(600), 5241),
        (7200, Some(60), 5479),
        (7200, Some(7000), 2859),
        (1_209_600, None, 640_289),
    ] {
        assert_eq!(renewal_time(uid, at(0), granted, before), at(expected), "{granted} {before:?}");
    }
    let millis = |reason, count, retry_after, worked| {
        next_attempt(uid, Activity::Request.retry(reason, worked), count, retry_after, at(0)).unwrap().as_millisecond()
    };
    for (reason, count, retry_after, worked, expected) in [
        (Reason::PortalUnreachable, 1, None, false, 2193),
        (Reason::PortalUnreachable, 2, None, false, 4810),
        (Reason::PortalUnreachable, 5, None, false, 33_001),
        (Reason::PortalUnreachable, 40, None, false, 348_992),
        (Reason::ClientSecretRejected, 1, None, false, 65_792),
        (Reason::ClientSecretRejected, 2, None, false, 144_320),
        (Reason::ClientSecretRejected, 5, None, false, 990_044),
        (Reason::ClientSecretRejected, 40, None, false, 4_187_905),
        (Reason::MalformedResponse, 1, None, false, 32_896),
        (Reason::MalformedResponse, 2, None, false, 72_160),
        (Reason::MalformedResponse, 5, None, false, 495_022),
        (Reason::MalformedResponse, 40, None, false, 1_046_976),
        (Reason::RequestRejected, 40, None, false, 4_187_905),
        (Reason::RequestRejected, 40, None, true, 1_046_976),
        (Reason::ClientSecretRejected, 40, None, true, 4_187_905),
        (Reason::RateLimited, 1, None, false, 65_792),
        (Reason::RateLimited, 1, Some(90), false, 98_689),
        (Reason::RateLimited, 1, Some(3600), false, 3_947_575),
        (Reason::RateLimited, 2, None, false, 144_320),
        (Reason::RateLimited, 2, Some(90), false, 144_320),
        (Reason::RateLimited, 3, Some(600), false, 615_443),
        (Reason::RateLimited, 9, Some(60), false, 3_698_005),
    ] {
        assert_eq!(millis(reason, count, retry_after, worked), expected, "{reason} {count} {retry_after:?}");
    }
}

proptest! {
    #[test]
    fn a_renewal_is_after_the_floor_and_before_the_margin(
        uid in "[a-z0-9-]{1,36}",
        granted in 1_i64..2_000_000,
        before in proptest::option::of(60_u64..1_209_600),
    ) {
        let renew = renewal_time(&uid, at(0), granted, before).as_second();
        prop_assert!(renew >= 30);
        prop_assert_eq!(renew, renewal_time(&uid, at(0), granted, before).as_second());
        let margin = i64::try_from(before.unwrap_or(granted.unsigned_abs() / 3)).unwrap().max(300).min(granted / 2);
        prop_assert!(renew <= (granted - margin).max(30));
        prop_assert!(renew >= (granted - margin) * 3 / 4);
    }

    #[test]
    fn back_off_grows_and_is_capped(uid in "[a-z0-9]{1,8}", reason in 0..Reason::ALL.len(), worked: bool) {
        let reason = Reason::ALL[reason];
        let delays: Vec<_> = (1..40)
            .filter_map(|count| next_attempt(&uid, Activity::Request.retry(reason, worked), count, None, at(0)))
            .map(|next| next.duration_since(at(0)))
            .collect();
        match reason.retry() {
            // The address that a name leads to may change.
            Retry::OnChange => prop_assert_eq!(delays.is_empty(), reason != Reason::PortalNotAllowed),
            Retry::Backoff { first, cap } => {
                prop_assert!(delays[0] >= SignedDuration::from_secs(first.into()));
                let most = SignedDuration::from_secs(i64::from(cap) * 5 / 4);
                prop_assert!(delays.iter().all(|wait| *wait <= most));
                prop_assert!(delays.windows(2).take(3).all(|two| two[0] < two[1] || two[1] >= SignedDuration::from_secs(i64::from(cap) * 3 / 4)));
            }
            Retry::RetryAfter => prop_assert!(delays.iter().all(|wait| *wait >= SignedDuration::from_mins(1) && *wait <= SignedDuration::from_mins(75))),
        }
    }
}

#[test]
fn a_write_rejected_for_its_fields_is_retried_from_1_m_to_15_m() {
    assert_eq!(Activity::Write.retry(Reason::SpecInvalid, false), Retry::Backoff { first: 60, cap: 900 });
    assert_eq!(Activity::Request.retry(Reason::SpecInvalid, false), Retry::OnChange);
}

#[test]
fn the_api_server_s_retry_after_is_kept_within_the_backoff() {
    let wait = |retry_after, count| {
        let retry = Activity::Write.retry(Reason::ClusterError, false);
        next_attempt("uid", retry, count, retry_after, at(0)).unwrap().as_second()
    };
    assert!((30..=37).contains(&wait(Some(30), 1)), "{}", wait(Some(30), 1));
    assert!((300..=375).contains(&wait(Some(9000), 1)), "never longer than the largest backoff");
    assert!((256..=320).contains(&wait(Some(1), 8)), "never shorter than the backoff");
}

#[test]
fn a_touched_object_is_read_at_most_once_in_10_seconds_from_the_fourth_time_on() {
    let mut touches = crate::core::scheduling::schedule::Touches::default();
    for second in [1000, 1001, 1002] {
        assert_eq!(touches.allowed_at(at(second)), at(second));
        touches.record(at(second));
    }
    assert_eq!(touches.allowed_at(at(1003)), at(1012));
    touches.record(at(1012));
    assert_eq!(touches.allowed_at(at(1013)), at(1022));
    assert_eq!(touches.allowed_at(at(1601)), at(1601), "ten minutes after the second, which counts as the first");
    assert_eq!(touches.allowed_at(at(900)), at(900), "a clock that was ahead delays nothing");
}
