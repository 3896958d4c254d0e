//! What a process that has just started reads from a status, and the order of the work queue.

use super::*;

fn attempt(kind: AttemptKind) -> Attempt {
    let text = |text: &str| text.to_owned();
    Attempt {
        kind,
        generation: 3,
        credentials: text("12"),
        ca: text("-"),
        client_certificate: text("-"),
        requested: text("00ff"),
    }
}

fn retry_state(reason: Reason, kind: AttemptKind) -> RetryState {
    RetryState::next(None, "uid", reason, attempt(kind), None, false, at(START))
}

#[test]
fn an_attempt_round_trips_through_the_status() {
    for kind in
        [AttemptKind::Check, AttemptKind::Read, AttemptKind::Request, AttemptKind::Write, AttemptKind::Ownership]
    {
        let failed = retry_state(Reason::TargetRefused, kind);
        let recalled = RetryState::recall(&failed.report(), attempt(AttemptKind::Check), at(START));
        assert_eq!(recalled.made_with, attempt(kind));
    }
    let inputs = retry_state(Reason::ClientSecretRejected, AttemptKind::Request).report().inputs;
    assert_eq!(inputs.as_deref(), Some("v1 request generation=3 credentials=12 ca=- requested=00ff"));
}

#[test]
fn a_client_certificate_is_part_of_an_attempt_only_when_there_is_one() {
    let with = Attempt { client_certificate: "77".to_owned(), ..attempt(AttemptKind::Request) };
    let failed = RetryState::next(None, "uid", Reason::RequestRejected, with.clone(), None, false, at(START));
    let inputs = "v1 request generation=3 credentials=12 ca=- requested=00ff clientCertificate=77";
    assert_eq!(failed.report().inputs.as_deref(), Some(inputs));
    let recalled = RetryState::recall(&failed.report(), attempt(AttemptKind::Check), at(START));
    assert_eq!(recalled.made_with, with);
    assert!(!with.same_inputs(&attempt(AttemptKind::Request)));
}

#[test]
fn inputs_in_an_unknown_format_are_ignored() {
    let current = Attempt { generation: 9, ..attempt(AttemptKind::Check) };
    let good = "v1 write generation=3 credentials=12 ca=- requested=00ff";
    let recalled = |inputs: &str| {
        let failure = crate::api::Failure {
            inputs: Some(inputs.to_owned()),
            ..retry_state(Reason::ClientSecretRejected, AttemptKind::Request).report()
        };
        RetryState::recall(&failure, current.clone(), at(START)).made_with
    };
    assert_eq!(recalled(good), attempt(AttemptKind::Write));
    for bad in
        ["", "v1", "v2 write generation=3 credentials=12 ca=- requested=00ff", "v1 read generation=3", &good[..30]]
    {
        assert_eq!(recalled(bad), Attempt { kind: AttemptKind::Request, ..current.clone() }, "{bad}");
    }
    assert_eq!(recalled(&good.replace("generation=3", "generation=x")).generation, 9);
    assert_eq!(recalled(&good.replace("ca=", "cb=")).generation, 9);
}

#[test]
fn without_inputs_the_kind_of_attempt_follows_from_the_reason() {
    for (reason, kind, tried_again) in [
        (Reason::ClusterError, AttemptKind::Write, true),
        (Reason::Internal, AttemptKind::Write, true),
        (Reason::CredentialsNotFound, AttemptKind::Check, false),
        (Reason::CaBundleNotFound, AttemptKind::Check, false),
        (Reason::PortalUnreachable, AttemptKind::Request, true),
        (Reason::MalformedResponse, AttemptKind::Request, true),
    ] {
        let report = retry_state(reason, kind).report();
        assert_eq!(
            (&report.inputs, report.count, report.last_attempt_time, report.next_attempt_time),
            (&None, None, None, None)
        );
        let recalled = RetryState::recall(&report, attempt(AttemptKind::Ownership), at(START + 5));
        assert_eq!((recalled.made_with, recalled.count), (attempt(kind), 0), "{reason}");
        assert_eq!(recalled.next_attempt, tried_again.then_some(at(START + 5)), "{reason}");
    }
    let failure = crate::api::Failure { inputs: None, ..retry_state(Reason::SpecInvalid, AttemptKind::Write).report() };
    assert_eq!(RetryState::recall(&failure, attempt(AttemptKind::Check), at(START)).made_with.kind, AttemptKind::Write);
    let failure =
        crate::api::Failure { inputs: None, ..retry_state(Reason::TargetRefused, AttemptKind::Write).report() };
    assert_eq!(RetryState::recall(&failure, attempt(AttemptKind::Check), at(START)).made_with.kind, AttemptKind::Write);
}

#[test]
fn the_next_attempt_is_rounded_up_and_other_times_are_rounded_down() {
    let sent = Timestamp::from_millisecond(START * 1000 + 300).unwrap();
    let report = RetryState {
        last_attempt: Some(sent),
        start_time: sent,
        next_attempt: Some(sent),
        ..retry_state(Reason::RateLimited, AttemptKind::Request)
    };
    let report = report.report();
    assert_eq!(
        (report.start_time, report.last_attempt_time, report.next_attempt_time),
        (at(START), Some(at(START)), Some(at(START + 1)))
    );
    let whole = RetryState { next_attempt: Some(at(START)), ..retry_state(Reason::RateLimited, AttemptKind::Request) };
    assert_eq!(whole.report().next_attempt_time, Some(at(START)));
    let none_yet = RetryState { count: 0, ..retry_state(Reason::RateLimited, AttemptKind::Request) };
    assert_eq!(none_yet.report().count, None, "a pause of the host is not an attempt");
}

/// Returns the waits in whole seconds, without jitter, after failures with these reasons in a row.
fn backoffs(reasons: &[Reason]) -> Vec<i64> {
    let mut last: Option<RetryState> = None;
    let wait = |reason: &Reason| {
        let kind = if *reason == Reason::TargetRefused { AttemptKind::Write } else { AttemptKind::Request };
        let next = RetryState::next(last.as_ref(), "uid", *reason, attempt(kind), None, false, at(START));
        let wait = next.next_attempt.unwrap().duration_since(at(START)).as_secs() * 4 / 5;
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
    let next = |previous: &RetryState, reason, made_with| {
        RetryState::next(Some(previous), "uid", reason, made_with, None, false, at(START + 100))
    };
    let first = retry_state(Reason::PortalUnreachable, AttemptKind::Request);
    let second = next(&first, Reason::PortalUnreachable, attempt(AttemptKind::Request));
    assert_eq!((second.count, second.start_time, second.last_attempt), (2, at(START), Some(at(START + 100))));
    let other = next(&second, Reason::PortalUnavailable, attempt(AttemptKind::Request));
    assert_eq!((other.count, other.start_time), (3, at(START + 100)));
    let changed = next(&second, Reason::PortalUnreachable, Attempt { generation: 4, ..attempt(AttemptKind::Request) });
    assert_eq!((changed.count, changed.start_time), (1, at(START)));
    let found = retry_state(Reason::CredentialsNotFound, AttemptKind::Check);
    assert_eq!(
        next(&found, Reason::PortalUnreachable, attempt(AttemptKind::Request)).count,
        1,
        "a check is not an attempt"
    );
    let missing = next(&second, Reason::CredentialsNotFound, attempt(AttemptKind::Check));
    assert_eq!(
        (missing.count, missing.next_attempt),
        (1, None),
        "a failure that only a change resolves is not counted"
    );
}

#[test]
fn attempts_differ_by_each_input_of_the_user_and_not_by_their_kind() {
    let same = |other: Attempt| attempt(AttemptKind::Request).same_inputs(&other);
    assert!(same(attempt(AttemptKind::Write)));
    assert!(!same(Attempt { generation: 4, ..attempt(AttemptKind::Request) }));
    assert!(!same(Attempt { credentials: "13".to_owned(), ..attempt(AttemptKind::Request) }));
    assert!(!same(Attempt { ca: "1".to_owned(), ..attempt(AttemptKind::Request) }));
    assert!(!same(Attempt { requested: "-".to_owned(), ..attempt(AttemptKind::Request) }));
}

#[test]
fn a_work_queue_promotes_due_items_and_returns_the_first_to_expire() {
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
    assert_eq!([queue.pop(), queue.pop(), queue.pop(), queue.pop()], [Some('c'), Some('b'), Some('a'), None]);
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
    assert_eq!(queue.next_due(), Some(Timestamp::MIN));
}
