//! What a restart keeps and what it recalls.

use super::*;

#[test]
fn a_version_of_the_target_that_was_not_read_is_not_reported() {
    let mut s = with_target();
    s.target = Observed::Cached(version("target", "12"));
    s.failed(Activity::Write, Reason::ClusterError, None, at(START));
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "what the write left is not known yet");
    assert_eq!(conclude(s, verdict, at(START)).status.target_version.as_deref(), Some("11"));
}

#[test]
fn a_renewal_after_a_restart_keeps_that_the_owner_reference_was_refused() {
    let mut s = with_target();
    s.memory.target.as_mut().unwrap().owned = false;
    s.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    let verdict = decide(&s, at(START));
    let last = Conclusion { memory: Memory::default(), ..conclude(s, verdict, at(START)) };
    let mut s = next_situation(situation(at(START)), last, 1, at(START));
    s.issued(token("next"), 7200, at(START));
    s.published(version("target", "12"));
    assert!(!s.memory.target.as_ref().unwrap().owned);
    assert_eq!(attempt_kind(&s), Some(Activity::Own));
}

#[test]
fn a_token_of_other_inputs_that_came_after_there_was_none_is_not_reported_as_the_one_specified() {
    let mut s = with_target();
    s.memory.target = None;
    s.target = Observed::Absent;
    let verdict = Verdict { step: Step::Rest, ..decide(&s, at(START)) };
    let without_token = conclude(s, verdict, at(START)).status;
    assert_eq!(without_token.token, None);
    let mut restored = with_target();
    (restored.status, restored.memory.written_generation) = (without_token, None);
    restored.memory.target.as_mut().unwrap().token.as_mut().unwrap().inputs = Some("v1:other".into());
    restored.failed(Activity::Own, Reason::ClusterError, None, at(START));
    let verdict = decide(&restored, at(START));
    assert!(matches!(verdict.step, Step::Rest), "nothing is done while the API server fails");
    let status = conclude(restored, verdict, at(START)).status;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.observed_generation < status.observed_generation, "{ready:?}");
}

#[test]
fn credentials_that_changed_while_a_check_fails_are_used_after_a_restart() {
    let mut s = with_target();
    s.plan.as_mut().unwrap().ca = Some(serde_json::from_value(json!({"name": "ca"})).unwrap());
    s.credentials = Observed::Cached(version("u", "2"));
    s.credentials_read(Some((version("u", "2"), Ok(8))));
    let verdict = decide(&s, at(START));
    assert_eq!(verdict.problem.as_ref().map(|problem| problem.reason), Some(Reason::CaBundleNotFound));
    let status = conclude(s, verdict, at(START)).status;
    assert_eq!(status.credentials_version.as_deref(), Some("1"), "the change waits for its request");
}

#[test]
fn after_a_restart_an_unchanged_secret_is_not_read_again() {
    let restarted = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        s.memory = Memory::default();
        change(&mut s);
        s.recall(at(START));
        match decide(&s, at(START)).step {
            Step::ReadTarget => "read",
            Step::Rest => "rest",
            _ => "else",
        }
    };
    assert_eq!(restarted(&|_| {}), "rest");
    assert_eq!(restarted(&|s| s.target = Observed::Cached(version("target", "99"))), "read");
    assert_eq!(restarted(&|s| s.generation = 2), "read");
    assert_eq!(restarted(&|s| s.status.token = None), "read");
    assert_eq!(restarted(&|s| s.status.target_version = None), "read");
    let mut owning = with_target();
    owning.memory.target.as_mut().unwrap().owned = false;
    owning.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    let verdict = decide(&owning, at(START));
    let failure = conclude(owning, verdict, at(START)).status.failure;
    let later = |seconds: i64| {
        let mut s = with_target();
        s.memory = Memory::default();
        s.status.failure.clone_from(&failure);
        s.recall(at(START));
        matches!(decide(&s, at(START + seconds)).step, Step::ReadTarget)
    };
    assert!(!later(10) && later(100), "the owner reference still has to be corrected");

    let mut foreign = with_target();
    foreign.memory.target.as_mut().unwrap().owner = Owner::Other(None);
    let verdict = decide(&foreign, at(START));
    let refused = conclude(foreign, verdict, at(START));
    let mut s = with_target();
    (s.memory, s.status) = (Memory::default(), refused.status);
    s.recall(at(START));
    assert_eq!(decide(&s, at(START)).problem.map(|p| p.reason), Some(Reason::TargetNotOwned));
    s.generation = 2;
    assert!(matches!(decide(&s, at(START)).step, Step::ReadTarget), "the spec may name another target");
}

#[test]
fn the_last_issue_time_is_exact_in_memory_and_rounded_up_from_a_status() {
    let mut s = with_target();
    assert_eq!(s.last_exchange(at(START)), Some(at(START - 60)));
    s.memory.last_exchange = None;
    assert_eq!(s.last_exchange(at(START)), Some(at(START - 59)), "sent within that second");
    s.memory.last_exchange = Some(at(START - 100).into());
    assert_eq!(s.last_exchange(at(START)), Some(at(START - 59)), "the status is newer");
    s.status.token = None;
    assert_eq!(s.last_exchange(at(START)), Some(at(START - 100)));
    s.memory.last_exchange = None;
    assert_eq!(s.last_exchange(at(START)), None);
}

#[test]
fn a_status_is_recalled_once() {
    let now = at(START);
    let refused = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut 0);
    let mut s = next_situation(situation(now), Conclusion { memory: Memory::default(), ..refused }, 0, now);
    assert!(s.memory.waits.get(Activity::Request).is_some() && s.memory.pinned.is_some());
    s.memory.waits.remove(Activity::Request);
    s.memory.pinned = None;
    s.recall(now);
    assert!(s.memory.waits.get(Activity::Request).is_none() && s.memory.pinned.is_none());
    let mut checked = situation(now);
    checked.status.failure = Some(crate::api::Failure {
        inputs: Some("v1 write generation=1 credentials=1 ca=- requested=-".to_owned()),
        ..s.status.failure.clone().unwrap()
    });
    checked.memory = Memory::default();
    checked.recall(now);
    assert!(
        checked.memory.reported_wait().is_some() && checked.memory.pinned.is_none(),
        "only a failed request is requested again"
    );
}

#[test]
fn what_no_watch_has_reported_counts_as_the_status_says_until_something_is_due() {
    let mut s = with_target();
    s.memory = Memory::default();
    (s.target, s.credentials) = (Observed::Unknown, Observed::Unknown);
    s.recall(at(START));
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    let due = s.status.token.as_ref().unwrap().renewal_time;
    assert_eq!(verdict.wake.min(due), verdict.wake);
    assert!(matches!(decide(&s, due).step, Step::ReadTarget), "a renewal reads it first");
    assert!(!conclude(s, verdict, at(START)).changed);
    let mut changed = with_target();
    changed.memory = Memory::default();
    (changed.target, changed.credentials, changed.generation) = (Observed::Unknown, Observed::Unknown, 2);
    changed.recall(at(START));
    assert!(matches!(decide(&changed, at(START)).step, Step::ReadTarget));
}

#[test]
fn a_requested_token_whose_request_failed_is_owed_after_a_restart_also_when_another_failure_is_reported() {
    let mut s = with_target();
    s.requested_at = Some("now".to_owned());
    s.failed(Activity::Request, Reason::PortalUnreachable, None, at(START));
    s.allowed = false;
    let verdict = decide(&s, at(START));
    let last = Conclusion { memory: Memory::default(), ..conclude(s, verdict, at(START)) };
    assert_eq!(last.status.failure.as_ref().map(|failure| failure.reason), Some(Reason::PortalNotAllowed));
    let mut allowed = situation(at(START));
    allowed.requested_at = Some("now".to_owned());
    let s = next_situation(allowed, last, 1, at(START));
    assert!(s.owed(at(START)).trigger == Trigger::Requested, "{:?}", s.owed(at(START)));
}

#[test]
fn a_ca_bundle_that_breaks_after_a_restart_is_read_at_once() {
    let mut s = with_target();
    s.plan.as_mut().unwrap().ca = Some(serde_json::from_value(json!({"name": "ca"})).unwrap());
    s.memory.target.as_mut().unwrap().token.as_mut().unwrap().inputs = None;
    s.ca = Observed::Cached(version("ca", "1"));
    s.recall(at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Rest), "what the status was concluded from is in order");
    s.ca = Observed::Cached(version("ca", "2"));
    s.recall(at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::ReadCa));
}

#[test]
fn a_failure_before_the_credentials_are_listed_is_reported_with_the_version_that_the_status_has() {
    let mut s = with_target();
    s.memory = Memory::default();
    s.recall(at(START));
    let listed = s.made_with();
    assert_eq!(Some(&listed.credentials), s.status.credentials_version.as_ref());
    s.credentials = Observed::Unknown;
    assert_eq!(s.made_with(), listed, "the list changes nothing, and ends no wait");
}
