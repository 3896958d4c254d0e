//! What a process that has just started reads from a status, and the order of the work queue.

use super::host_limiter::queue::{busy, end};
use super::*;
use crate::core::reconcile::facts::Unmet;
use crate::core::report::failure::record;

fn made_with() -> MadeWith {
    let text = |text: &str| text.to_owned();
    MadeWith {
        generation: 3,
        credentials: text("12"),
        ca: text("-"),
        client_certificate: text("-"),
        requested: text("00ff"),
    }
}

fn failed(activity: Activity, reason: Reason) -> Failed {
    Failed { activity, reason, retry_after: None, worked: false }
}

fn wait(reason: Reason, activity: Activity) -> Wait {
    Wait::next(None, "uid", failed(activity, reason), made_with(), at(START))
}

fn unmet(reason: Reason) -> Unmet {
    Unmet {
        reason,
        finding: crate::core::Finding::default(),
        start_time: at(START),
        found_at: at(START),
        made_with: made_with(),
    }
}

#[test]
fn an_attempt_round_trips_through_the_status() {
    for activity in [Activity::Read, Activity::Request, Activity::Write, Activity::Own] {
        let failed = wait(Reason::TargetRefused, activity);
        let other = MadeWith { generation: 1, ..made_with() };
        let recalled = Wait::recall(&failed.report(), other, at(START)).unwrap();
        assert_eq!((recalled.activity, recalled.made_with), (activity, made_with()));
    }
    let found = record(&unmet(Reason::CaBundleInvalid));
    let other = MadeWith { generation: 1, ..made_with() };
    assert!(Wait::recall(&found, other.clone(), at(START)).is_none(), "a prerequisite is no attempt");
    assert_eq!(Unmet::recall(&found, other, at(START)).made_with, made_with());
    assert_eq!(found.inputs.as_deref(), Some("v1 check generation=3 credentials=12 ca=- requested=00ff"));
    let inputs = wait(Reason::ClientSecretRejected, Activity::Request).report().inputs;
    assert_eq!(inputs.as_deref(), Some("v1 request generation=3 credentials=12 ca=- requested=00ff"));
    let inputs = wait(Reason::TargetRefused, Activity::Own).report().inputs;
    assert_eq!(inputs.as_deref(), Some("v1 ownership generation=3 credentials=12 ca=- requested=00ff"));
}

#[test]
fn a_client_certificate_is_part_of_an_attempt_only_when_there_is_one() {
    let with = MadeWith { client_certificate: "77".to_owned(), ..made_with() };
    let failed = Wait::next(None, "uid", failed(Activity::Request, Reason::RequestRejected), with.clone(), at(START));
    let inputs = "v1 request generation=3 credentials=12 ca=- requested=00ff clientCertificate=77";
    assert_eq!(failed.report().inputs.as_deref(), Some(inputs));
    let recalled = Wait::recall(&failed.report(), made_with(), at(START)).unwrap();
    assert_eq!(recalled.made_with, with);
    assert_ne!(with, made_with());
}

#[test]
fn inputs_in_an_unknown_format_are_ignored() {
    let current = MadeWith { generation: 9, ..made_with() };
    let good = "v1 write generation=3 credentials=12 ca=- requested=00ff";
    let recalled = |inputs: &str| {
        let failure = crate::api::Failure {
            inputs: Some(inputs.to_owned()),
            ..wait(Reason::ClientSecretRejected, Activity::Request).report()
        };
        let wait = Wait::recall(&failure, current.clone(), at(START)).unwrap();
        (wait.activity, wait.made_with)
    };
    assert_eq!(recalled(good), (Activity::Write, made_with()));
    for bad in
        ["", "v1", "v2 write generation=3 credentials=12 ca=- requested=00ff", "v1 read generation=3", &good[..30]]
    {
        assert_eq!(recalled(bad), (Activity::Request, current.clone()), "{bad}");
    }
    assert_eq!(recalled(&good.replace("generation=3", "generation=x")).1.generation, 9);
    assert_eq!(recalled(&good.replace("ca=", "cb=")).1.generation, 9);
}

#[test]
fn without_inputs_the_kind_of_attempt_follows_from_the_reason() {
    for (reason, activity) in [
        (Reason::ClusterError, Activity::Write),
        (Reason::Internal, Activity::Write),
        (Reason::PortalUnreachable, Activity::Request),
        (Reason::MalformedResponse, Activity::Request),
    ] {
        let report = wait(reason, activity).report();
        assert_eq!(
            (&report.inputs, report.count, report.last_attempt_time, report.next_attempt_time),
            (&None, None, None, None)
        );
        let recalled = Wait::recall(&report, made_with(), at(START + 5)).unwrap();
        assert_eq!((recalled.activity, recalled.made_with, recalled.count), (activity, made_with(), 0), "{reason}");
        assert_eq!(recalled.next_attempt, at(START + 5), "{reason}");
    }
    for reason in [Reason::CredentialsNotFound, Reason::CaBundleNotFound] {
        let report = record(&unmet(reason));
        assert_eq!(
            (&report.inputs, report.count, report.last_attempt_time, report.next_attempt_time),
            (&None, None, None, None)
        );
        assert!(Wait::recall(&report, made_with(), at(START + 5)).is_none(), "{reason}");
    }
    for reason in [Reason::SpecInvalid, Reason::TargetRefused] {
        let failure = crate::api::Failure { inputs: None, ..wait(reason, Activity::Write).report() };
        assert_eq!(Wait::recall(&failure, made_with(), at(START)).unwrap().activity, Activity::Write);
    }
}

#[test]
fn the_next_attempt_is_rounded_up_and_other_times_are_rounded_down() {
    let sent = Timestamp::from_millisecond(START * 1000 + 300).unwrap();
    let report = Wait {
        last_attempt: Some(sent),
        start_time: sent,
        next_attempt: sent,
        ..wait(Reason::RateLimited, Activity::Request)
    };
    let report = report.report();
    assert_eq!(
        (report.start_time, report.last_attempt_time, report.next_attempt_time),
        (at(START), Some(at(START)), Some(at(START + 1)))
    );
    let whole = Wait { next_attempt: at(START), ..wait(Reason::RateLimited, Activity::Request) };
    assert_eq!(whole.report().next_attempt_time, Some(at(START)));
    let none_yet = Wait { count: 0, ..wait(Reason::RateLimited, Activity::Request) };
    assert_eq!(none_yet.report().count, None, "a pause of the host is not an attempt");
}

/// Returns the waits in whole seconds, without jitter, after failures with these reasons in a row.
fn backoffs(reasons: &[Reason]) -> Vec<i64> {
    let mut last: Option<Wait> = None;
    let wait = |reason: &Reason| {
        let kind = if *reason == Reason::TargetRefused { Activity::Write } else { Activity::Request };
        let next = Wait::next(last.as_ref(), "uid", failed(kind, *reason), made_with(), at(START));
        let wait = next.next_attempt.duration_since(at(START)).as_secs() * 4 / 5;
        last = Some(next);
        wait
    };
    reasons.iter().map(wait).collect()
}

#[test]
fn a_wait_is_at_most_twice_the_last_one_when_the_reason_changes() {
    let unreachable = [Reason::PortalUnreachable; 5];
    let then = |reason| *backoffs(&[&unreachable[..], &[reason]].concat()).last().unwrap();
    for reason in [Reason::PortalUntrusted, Reason::TargetRefused, Reason::RateLimited] {
        // With the jitter of up to a quarter, 60 s are 48 to 60 here.
        assert!((24..=60).contains(&then(reason)), "{reason}: {}", then(reason));
    }
    assert!((51..=64).contains(&then(Reason::PortalUnavailable)), "the count of transient reasons continues");
    assert!((720..=900).contains(&then(Reason::MalformedResponse)), "also where their waits differ");
    let flapping = [Reason::PortalUntrusted, Reason::PortalUnreachable].repeat(6);
    let grown = backoffs(&flapping);
    assert!(grown[5..].iter().all(|wait| *wait > 180), "they grow while the reasons alternate: {grown:?}");
}

#[test]
fn consecutive_failures_are_counted_until_a_user_changes_an_input() {
    let next = |previous: &Wait, reason, made_with| {
        Wait::next(Some(previous), "uid", failed(Activity::Request, reason), made_with, at(START + 100))
    };
    let first = wait(Reason::PortalUnreachable, Activity::Request);
    let second = next(&first, Reason::PortalUnreachable, made_with());
    assert_eq!((second.count, second.start_time, second.last_attempt), (2, at(START), Some(at(START + 100))));
    let other = next(&second, Reason::PortalUnavailable, made_with());
    assert_eq!((other.count, other.start_time), (3, at(START + 100)));
    let changed = next(&second, Reason::PortalUnreachable, MadeWith { generation: 4, ..made_with() });
    assert_eq!((changed.count, changed.start_time), (1, at(START)));
}

#[test]
fn a_prerequisite_is_found_without_a_count_and_leaves_the_count_of_the_requests() {
    let now = at(START);
    let mut s = situation_with_credentials(now);
    s.failed(Activity::Request, Reason::PortalUnreachable, None, now);
    s.allowed = false;
    let verdict = decide(&s, now);
    let found = conclude(s, verdict, now);
    let failure = found.status.failure.clone().unwrap();
    assert_eq!((failure.reason, failure.count), (Reason::PortalNotAllowed, Some(1)));
    assert_eq!(failure.next_attempt_time, None, "a failure that only a change resolves is not counted");
    let mut s = next_situation(situation_with_credentials(now), found, 0, now);
    s.failed(Activity::Request, Reason::PortalUnreachable, None, now);
    let requests = s.memory.waits.get(Activity::Request).unwrap();
    assert_eq!((requests.count, s.memory.waits.failures().count()), (2, 1), "a prerequisite is not an attempt");
}

#[test]
fn attempts_differ_by_each_input_of_the_user_and_not_by_their_kind() {
    let same = |other: MadeWith| made_with() == other;
    assert!(same(wait(Reason::TargetRefused, Activity::Write).made_with));
    assert!(!same(MadeWith { generation: 4, ..made_with() }));
    assert!(!same(MadeWith { credentials: "13".to_owned(), ..made_with() }));
    assert!(!same(MadeWith { ca: "1".to_owned(), ..made_with() }));
    assert!(!same(MadeWith { requested: "-".to_owned(), ..made_with() }));
}

#[test]
fn a_work_queue_promotes_due_items_and_returns_them_by_turns() {
    let mut queue = WorkQueue::default();
    let priority = |key: &char| match key {
        'a' => Some(at(300)),
        'b' => Some(at(200)),
        _ => None,
    };
    for (key, due) in [('a', 10), ('b', 12), ('c', 12), ('d', 13)] {
        queue.add_at(key, at(due));
    }
    assert_eq!(queue.next_due(), Some(at(10)));
    queue.promote_due(at(9), priority);
    assert_eq!(queue.pop(), None);
    queue.promote_due(at(12), priority);
    assert_eq!([queue.pop(), queue.pop(), queue.pop(), queue.pop()], [Some('b'), Some('c'), Some('a'), None]);
    assert_eq!(queue.next_due(), Some(at(13)));
}

#[test]
fn a_work_queue_keeps_the_earlier_of_two_due_times() {
    let mut queue = WorkQueue::default();
    queue.add_at('a', at(20));
    queue.add_at('a', at(30));
    assert_eq!(queue.next_due(), Some(at(20)));
    queue.add_at('a', at(10));
    assert_eq!(queue.next_due(), Some(at(10)));
    queue.promote_due(at(100), |_| None);
    assert_eq!((queue.pop(), queue.pop(), queue.next_due()), (Some('a'), None, None));
}

#[test]
fn an_item_added_while_it_is_processed_is_processed_again_and_never_concurrently() {
    let mut queue = WorkQueue::default();
    queue.add_at('a', at(1));
    queue.promote_due(at(1), |_| None);
    assert_eq!(queue.pop(), Some('a'));
    queue.add_at('a', at(2));
    queue.promote_due(at(2), |_| None);
    assert_eq!((queue.pop(), queue.next_due()), (None, None));
    queue.done('a', Some(at(600)));
    assert_eq!(queue.next_due(), Some(Timestamp::MIN));
    queue.promote_due(at(3), |_| None);
    assert_eq!(queue.pop(), Some('a'));
    queue.done('a', Some(at(600)));
    assert_eq!(queue.next_due(), Some(at(600)));
    queue.promote_due(at(600), |_| None);
    assert_eq!(queue.pop(), Some('a'));
    queue.done('a', None);
    assert_eq!(queue.next_due(), None, "the item is removed");
}

#[test]
fn an_item_promoted_twice_is_processed_sequentially() {
    let mut queue = WorkQueue::default();
    queue.add_at('a', at(1));
    queue.promote_due(at(1), |_| Some(at(9)));
    queue.add_at('a', at(2));
    queue.promote_due(at(2), |_| Some(at(8)));
    assert_eq!((queue.pop(), queue.pop()), (Some('a'), None));
    queue.done('a', None);
    assert_eq!(queue.next_due(), None, "once");
}

#[test]
fn a_mass_creation_delays_no_renewal_and_renewals_delay_no_creation() {
    let mut queue = WorkQueue::default();
    (0..500).for_each(|key| queue.add_at(key, at(1)));
    queue.promote_due(at(1), |_| None);
    (500..600).for_each(|key| queue.add_at(key, at(2)));
    queue.promote_due(at(2), |key| Some(at(10_000 - *key)));
    let served: Vec<i64> = std::iter::from_fn(|| queue.pop()).take(8).collect();
    assert_eq!(served, [599, 0, 598, 1, 597, 2, 596, 3]);

    let mut host = busy();
    (10..20).for_each(|key| assert_eq!(host.enqueue(None, key, at(0)), None));
    assert_eq!(host.enqueue(Some(at(99)), 9, at(0)), None);
    let mut next = || {
        let woken = end(&mut host, Outcome::Issued, at(1));
        assert!(woken.iter().all(|key| host.try_prepare(key, at(1)) == Admit::Now));
        woken
    };
    assert_eq!([next(), next(), next()], [[9], [10], [11]]);
}
