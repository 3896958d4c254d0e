//! Which failure is reported, and what ends it.

use super::*;

#[test]
fn a_repeated_finding_changes_no_status_and_a_new_finding_does() {
    let (now, later) = (at(START), at(START + 600));
    let incomplete = |mut s: Situation, generation| {
        let version = s.credentials.version().unwrap().clone();
        s.generation = generation;
        s.credentials_read(Some((
            version,
            Err(CredentialsError { key: "client_id".to_owned(), cause: crate::api::Cause::KeyMissing }),
        )));
        s
    };
    let first = || conclude_at_rest(incomplete(situation(now), 1), now);
    assert_eq!(first().problem, Some(Reason::CredentialsIncomplete));
    let conclusion = first();
    let failed = failure(&conclusion);
    assert_eq!((failed.start_time, failed.count, failed.next_attempt_time), (now, Some(1), None));
    assert!(!conclude_at_rest(incomplete(next_situation(situation(later), first(), 0, later), 1), later).changed);
    let changed = conclude_at_rest(incomplete(next_situation(situation(later), first(), 0, later), 2), later);
    assert_eq!((failure(&changed).start_time, failure(&changed).last_attempt_time), (now, Some(later)));
    let mut other = next_situation(situation(later), first(), 0, later);
    other.allowed = false;
    let other = conclude_at_rest(other, later);
    assert_eq!((other.problem, failure(&other).start_time), (Some(Reason::PortalNotAllowed), later));
}

#[test]
fn a_rejected_write_is_cleared_when_nothing_is_left_to_write() {
    let now = at(START);
    // As if all remaining steps were done.
    let at_rest = |s: Situation| {
        let verdict = Verdict { step: Step::Rest, ..decide(&s, now) };
        conclude(s, verdict, now).problem
    };
    let conclusion = |kind, reason, rendered, owned, since: i64| {
        let mut s = with_target(now);
        let details = s.memory.target.as_mut().unwrap();
        (details.rendered, details.owned) = (rendered, owned);
        s.failed(kind, reason, None, at(START - since));
        at_rest(s)
    };
    let refused = Some(Reason::TargetRefused);
    assert_eq!(conclusion(Activity::Write, Reason::TargetRefused, false, true, 0), refused);
    assert_eq!(conclusion(Activity::Write, Reason::TargetRefused, true, true, 0), None);
    assert_eq!(conclusion(Activity::Own, Reason::TargetRefused, true, false, 0), refused);
    assert_eq!(conclusion(Activity::Own, Reason::TargetRefused, true, true, 0), None);
    assert_eq!(conclusion(Activity::Own, Reason::TargetRefused, true, false, 4000), None, "it was retried");
    for reason in [Reason::ClusterError, Reason::Internal] {
        assert_eq!(conclusion(Activity::Write, reason, true, true, 0), Some(reason), "it was not retried");
        assert_eq!(conclusion(Activity::Write, reason, true, true, 4000), None);
    }
    let changed = |since| {
        let mut s = with_target(now);
        s.failed(Activity::Write, Reason::ClusterError, None, at(START - since));
        s.generation = 2;
        s.memory.target.as_mut().unwrap().generation = 2;
        at_rest(s)
    };
    assert_eq!(changed(1), Some(Reason::ClusterError), "after a user's change it waits 2 s");
    assert_eq!(changed(2), None, "then it is retried");
}

#[test]
fn an_unpublished_token_keeps_the_failure_of_its_write() {
    let now = at(START);
    let mut s = with_target(now);
    s.issued(token("next"), 7200, now);
    s.failed(Activity::Write, Reason::TargetRefused, None, now);
    assert_eq!(conclude_at_rest(s, now).problem, Some(Reason::TargetRefused));
}

#[test]
fn a_pause_of_the_host_keeps_its_start_and_the_renewals_requested_meanwhile() {
    let now = at(START);
    let pause = |mut s: Situation, seconds| {
        s.admit = Admit::PausedUntil(at(START + seconds));
        s
    };
    let first = conclude_at_rest(pause(situation_with_credentials(now), 300), now);
    assert_eq!((first.problem, failure(&first).start_time), (Some(Reason::RateLimited), now));
    let later = at(START + 100);
    let mut s = pause(next_situation(situation_with_credentials(later), first, 0, later), 300);
    s.generation = 2;
    let changed = conclude_at_rest(s, later);
    assert_eq!((failure(&changed).start_time, failure(&changed).next_attempt_time), (now, Some(at(START + 300))));
    let mut requests = 0;
    let refused = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut requests);
    let mut s = pause(next_situation(situation_with_credentials(later), refused, 0, later), 300);
    s.generation = 2;
    assert_eq!(failure(&conclude_at_rest(s, later)).start_time, later, "another reason starts now");

    let renewals_requested_during_pause = |requests_renewal: bool| {
        let mut s = pause(next_situation(situation_with_credentials(later), reconcile_new(now), 1, later), 300);
        s.requested_at = requests_renewal.then(|| "now".to_owned());
        let paused = conclude_at_rest(s, later);
        let over = at(START + 301);
        let mut requests = 1;
        reconcile(next_situation(situation(over), paused, 1, over), over, Ok(7200), &mut requests);
        requests - 1
    };
    assert_eq!(
        renewals_requested_during_pause(true),
        1,
        "the request counts even if it is withdrawn during the pause, as after a restart"
    );
    assert_eq!(renewals_requested_during_pause(false), 0);
}

#[test]
fn a_credentials_version_is_recorded_once_nothing_remains_to_be_done_for_it() {
    let now = at(START);
    let second = || Version::new("u", "2");
    let soon = at(START + 2);
    let read = |digest| {
        let mut s = next_situation(situation(soon), reconcile_new(now), 1, soon);
        s.credentials_read(Some((second(), Ok(digest))));
        conclude_at_rest(s, soon)
    };
    assert_eq!(read(7).status.credentials_version.as_deref(), Some("2"), "only labels changed");
    assert_eq!(read(8).status.credentials_version.as_deref(), Some("1"), "the change waits for its floor");

    let labels = read(7);
    let lost = Conclusion { status: reconcile_new(now).status, ..labels };
    let mut s = next_situation(situation(soon), lost, 1, soon);
    s.credentials = Observed::Cached(second());
    assert_eq!(
        conclude_at_rest(s, soon).status.credentials_version.as_deref(),
        Some("2"),
        "a lost status write is repeated"
    );

    let mut gone = next_situation(situation(soon), reconcile_new(now), 1, soon);
    gone.credentials = Observed::Absent;
    assert_eq!(
        conclude_at_rest(gone, soon).status.credentials_version.as_deref(),
        Some("1"),
        "the recorded version stays, so that a new Secret is detected"
    );
}
