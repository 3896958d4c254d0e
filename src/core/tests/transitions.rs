//! How the known state changes after each step.

use super::*;
use crate::core::reconcile::memory::TargetName;

fn version(uid: &str, resource: &str) -> Version {
    Version { uid: uid.to_owned(), resource: resource.to_owned() }
}

/// Returns a resource whose target was created a minute ago.
fn with_target() -> Situation {
    super::with_target(at(START - 60))
}

fn attempt_kind(s: &Situation) -> Option<Activity> {
    s.memory.reported_wait().map(|failed| failed.activity)
}

#[test]
fn credentials_count_as_changed_by_value_or_uid_and_not_by_resource_version() {
    let read = |version: Version, digest| {
        let mut s = with_target();
        s.issued(token("unpublished"), 7200, at(START));
        s.credentials_read(Some((version, Ok(digest))));
        (s.memory.demand.is_some(), s.memory.issued.is_some())
    };
    assert_eq!(read(version("u", "2"), 7), (false, true));
    assert_eq!(read(version("u", "2"), 8), (true, false), "a token issued for other credentials is not published");
    assert_eq!(read(version("v", "2"), 7), (true, false));
    let after_restart = |known: Option<&str>| {
        let mut s = with_target();
        s.memory = Memory::default();
        s.status.credentials_version = known.map(str::to_owned);
        s.credentials_read(Some((version("u", "2"), Ok(7))));
        s.memory.demand.is_some()
    };
    assert_eq!([Some("1"), Some("2"), None].map(after_restart), [true, false, false]);
    let mut gone = with_target();
    gone.credentials_read(None);
    assert!(matches!(gone.credentials, Observed::Absent));
    let mut whole = with_target();
    let incomplete = CredentialsError { key: "client_id".to_owned(), cause: crate::api::Cause::KeyMissing };
    whole.credentials_read(Some((version("u", "2"), Err(incomplete))));
    assert!(whole.memory.facts.incomplete.is_some());
    whole.credentials_read(Some((version("u", "3"), Ok(7))));
    assert!(
        whole.memory.facts.incomplete.is_none() && whole.memory.demand.is_none(),
        "the previous values are restored"
    );
}

#[test]
fn a_new_version_with_the_values_that_failed_is_not_a_user_s_change() {
    let now = at(START);
    let failed = |made_with: &str, digest| {
        let mut s = situation_with_credentials(now);
        s.failed(Activity::Request, Reason::ClientSecretRejected, None, now);
        s.memory.waits.get_mut(Activity::Request).unwrap().made_with.credentials = made_with.to_owned();
        s.credentials_read(Some((version("u", "2"), Ok(digest))));
        s.memory.waits.get(Activity::Request).unwrap().made_with.credentials.clone()
    };
    assert_eq!(failed("1", 7), "2");
    assert_eq!(failed("1", 8), "1");
    assert_eq!(failed("0", 7), "0", "it failed with other values");
}

#[test]
fn an_issued_token_handles_the_requested_renewal() {
    let sent = Timestamp::from_millisecond(START * 1000 + 700).unwrap();
    let mut s = with_target();
    s.requested_at = Some("now".to_owned());
    s.memory.demand = Some(Trigger::Requested);
    s.memory.verification.answer = Some(crate::api::Verification::AppUnknown);
    s.failed(Activity::Request, Reason::PortalUnreachable, None, at(START));
    s.issued(token("t"), 100, sent);
    let unpublished = s.memory.issued.as_ref().unwrap();
    assert_eq!(
        (unpublished.issue_time, unpublished.expiration_time),
        (at(START), at(START + 100)),
        "whole seconds, rounded down"
    );
    assert_eq!((unpublished.inputs.clone(), &unpublished.portal_url), (s.inputs().unwrap(), &None));
    assert_eq!((s.memory.last_request, s.memory.demand.is_some(), attempt_kind(&s)), (Some(sent), false, None));
    assert_eq!(s.memory.verification.answer, Some(crate::api::Verification::AppUnknown), "until the next check");
    assert_eq!(s.memory.last_handled_request.as_deref(), Some("now"));
    s.requested_at = None;
    s.issued(token("t"), 100, sent);
    assert_eq!(s.memory.last_handled_request.as_deref(), Some("now"), "removing the annotation requests nothing");
    let mut refused = with_target();
    refused.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    refused.issued(token("t"), 100, sent);
    assert_eq!(attempt_kind(&refused), Some(Activity::Own), "another failure stays");
}

#[test]
fn a_token_that_replaces_a_deleted_or_damaged_one_is_a_repair() {
    let repairs = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        change(&mut s);
        s.issued(token("t"), 7200, at(START));
        s.memory.repairs != Repairs::default()
    };
    assert!(!repairs(&|_| {}), "a renewal");
    assert!(repairs(&|s| s.target = Observed::Absent));
    assert!(repairs(&|s| s.memory.target.as_mut().unwrap().token = None));
    assert!(!repairs(&|s| s.target = Observed::Unknown));
    let mut new = situation_with_credentials(at(START));
    new.issued(token("t"), 7200, at(START));
    assert_eq!(new.memory.repairs, Repairs::default(), "the first");
}

#[test]
fn a_write_publishes_the_new_token_or_renders_the_stored_one_again() {
    let now = at(START);
    let mut s = with_target();
    s.memory.target.as_mut().unwrap().owned = false;
    s.issued(token("next"), 100, now);
    s.failed(Activity::Write, Reason::TargetRefused, None, now);
    s.published(version("target", "12"));
    let details = s.memory.target.clone().unwrap();
    assert_eq!(
        (details.version, details.owner, details.rendered, details.owned),
        (version("target", "12"), Owner::Ours, true, false)
    );
    assert_eq!(
        (details.token.unwrap().expiration_time, attempt_kind(&s), s.memory.issued.is_some()),
        (at(START + 100), None, false)
    );
    assert_eq!(s.memory.repairs, Repairs::default(), "a renewal is not a repair");

    let rendered = |generation| {
        let mut s = with_target();
        s.generation = generation;
        let before = s.memory.target.as_ref().unwrap().token.clone();
        s.failed(Activity::Own, Reason::TargetRefused, None, now);
        s.rendered(version("target", "12"), now);
        assert_eq!((s.memory.target.as_ref().unwrap().token.clone(), attempt_kind(&s)), (before, Some(Activity::Own)));
        s.memory.repairs != Repairs::default()
    };
    let mut lapsed = with_target();
    let before = lapsed.memory.target.as_ref().unwrap().token.clone();
    lapsed.issued(token("next"), 100, now);
    lapsed.rendered(version("target", "12"), at(START + 100));
    let after = lapsed.memory.target.as_ref().unwrap().token.clone();
    assert_eq!((after, lapsed.memory.issued.is_some()), (before, true), "a token that was not written");

    assert!(rendered(1), "another writer changed a target that was up to date");
    assert!(!rendered(2), "a user changed the spec");
}

#[test]
fn a_token_whose_write_had_a_lost_response_is_found_in_the_target_and_not_written_again() {
    let now = at(START);
    let after_reading = |contained: &str| {
        let mut s = with_target();
        s.issued(token("next"), 100, now);
        s.failed(Activity::Write, Reason::ClusterError, None, now);
        let contained = IssuedToken { token: token(contained), ..published(&s, now, 100) };
        s.target_read(Some(live(&s, &contained)));
        s.memory.issued.is_some()
    };
    assert_eq!((after_reading("next"), after_reading("t")), (false, true));
}

#[test]
fn a_dry_run_or_creation_is_recorded_with_its_generation() {
    let now = at(START);
    let mut s = situation_with_credentials(now);
    s.generation = 4;
    s.failed(Activity::Write, Reason::TargetRefused, None, now);
    s.create_tried();
    assert_eq!((s.memory.target_name, attempt_kind(&s)), (TargetName::Accepted(4), None));
    s.failed(Activity::Request, Reason::PortalUnreachable, None, now);
    s.create_tried();
    assert_eq!(attempt_kind(&s), Some(Activity::Request));
    s.issued(token("t"), 100, now);
    s.created(version("target", "9"));
    let details = s.memory.target.as_ref().unwrap();
    assert_eq!((s.memory.target_name, details.generation, details.owned), (TargetName::Untried, 4, true));

    s.memory.target.as_mut().unwrap().owned = false;
    s.failed(Activity::Own, Reason::TargetRefused, None, now);
    s.owned(version("target", "10"));
    let details = s.memory.target.as_ref().unwrap();
    assert_eq!((details.owned, details.version.resource.as_str(), attempt_kind(&s)), (true, "10", None));
    s.failed(Activity::Write, Reason::TargetRefused, None, now);
    s.owned(version("target", "11"));
    assert_eq!(attempt_kind(&s), Some(Activity::Write));
    s.conflicted();
    assert!(matches!(s.target, Observed::Unknown));
}

#[test]
fn a_failed_request_stays_requested_and_is_retried_sooner_if_its_inputs_worked_before() {
    let now = at(START);
    let failed = |mut s: Situation, attempt_kind| {
        s.requested_at = Some("now".to_owned());
        for _ in 0..8 {
            s.failed(attempt_kind, Reason::RequestRejected, None, now);
        }
        let wait = s.memory.reported_wait().unwrap().next_attempt.as_second() - START;
        (s.memory.demand.is_some(), s.memory.last_handled_request.as_deref() == Some("now"), wait <= 15 * 60 * 5 / 4)
    };
    assert_eq!(failed(with_target(), Activity::Request), (true, true, true));
    assert_eq!(failed(with_target(), Activity::Write), (false, false, true));
    assert_eq!(failed(situation_with_credentials(now), Activity::Request), (true, true, false));
    let mut other = with_target();
    other.plan.as_mut().unwrap().lifetime = Some(3600);
    assert_eq!(failed(other, Activity::Request), (true, true, false), "these inputs have not worked before");
    let mut damaged = with_target();
    damaged.memory.target.as_mut().unwrap().token = None;
    assert_eq!(failed(damaged, Activity::Request), (true, true, false));
    let mut restarted = with_target();
    restarted.memory.target = None;
    restarted.recall(now);
    assert_eq!(failed(restarted, Activity::Request), (true, true, true), "the status reports that the inputs worked");
}

#[test]
fn a_target_that_was_read_is_evaluated_completely() {
    let read = |change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        let live = stored(&s, at(START), 7200);
        change(&mut s);
        s.target_read(Some(live));
        let details = s.memory.target.unwrap();
        (details.owner, details.token.is_some(), details.rendered, details.owned)
    };
    assert_eq!(read(&|_| {}), (Owner::Ours, true, true, true));
    let labeled = read(&|s| drop(s.plan.as_mut().unwrap().target.labels.insert("a".to_owned(), "b".to_owned())));
    assert_eq!(labeled, (Owner::Ours, true, false, true));
    let retained = read(&|s| s.plan.as_mut().unwrap().target.policy = crate::api::DeletionPolicy::Retain);
    assert_eq!(retained, (Owner::Ours, true, true, false));
    let mut foreign = with_target();
    let mut theirs = stored(&foreign, at(START), 7200);
    theirs.owner = Owner::Other(None);
    foreign.target_read(Some(theirs));
    let details = foreign.memory.target.unwrap();
    assert_eq!((details.token, details.rendered, details.owned), (None, false, true), "its contents are not evaluated");
    let mut s = with_target();
    s.target_read(None);
    assert!(matches!(s.target, Observed::Absent));
}

#[test]
fn the_portal_url_stays_with_its_token_until_a_token_of_another_portal_replaces_it() {
    let url = |stored_url: &str, moved: bool| {
        let mut s = with_target();
        let token = IssuedToken { portal_url: Some(stored_url.to_owned()), ..published(&s, at(START), 7200) };
        let live = live(&s, &token);
        if moved {
            s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
        }
        s.stored(&live).unwrap().portal_url
    };
    assert_eq!(url("https://www.arcgis.com", true).as_deref(), Some("https://www.arcgis.com"));
    assert_eq!(url("https://elsewhere.example.com", false), None, "another writer changed it");
    assert_eq!(url("", true), None);

    let mut s = with_target();
    let live = live(&s, &published(&s, at(START - 60), 7200));
    s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
    s.generation = 2;
    s.credentials = Observed::Absent;
    s.target_read(Some(live));
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    let status = conclude(s, verdict, at(START)).status;
    assert_eq!(
        status.conditions[0].observed_generation, 1,
        "without credentials nobody knows that the token is another one"
    );
}

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
fn the_referer_stays_with_the_token_until_a_token_requested_with_another_is_published() {
    let headers = |s: &mut Situation, referer: &str| {
        let plan = s.plan.as_mut().unwrap();
        plan.target.formats = vec![crate::api::Format::Headers];
        plan.referer = Some(referer.to_owned());
    };
    let mut s = with_target();
    headers(&mut s, "https://a.example");
    let live = live(&s, &published(&s, at(START), 7200));
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    headers(&mut s, "https://b.example");
    s.generation = 2;
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    s.target_read(Some(live));
    assert!(matches!(decide(&s, at(START)).step, Step::AcquirePermit), "a change of it requests a token");
    s.failed(Activity::Request, Reason::RequestRejected, None, at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Rest), "a failure changes nothing that is published");
    s.issued(token("next"), 7200, at(START));
    assert_eq!(s.memory.issued.as_ref().unwrap().referer.as_deref(), Some("https://b.example"));
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
    assert_eq!(s.last_request(at(START)), Some(at(START - 60)));
    s.memory.last_request = None;
    assert_eq!(s.last_request(at(START)), Some(at(START - 59)), "sent within that second");
    s.memory.last_request = Some(at(START - 100));
    assert_eq!(s.last_request(at(START)), Some(at(START - 59)), "the status is newer");
    s.status.token = None;
    assert_eq!(s.last_request(at(START)), Some(at(START - 100)));
    s.memory.last_request = None;
    assert_eq!(s.last_request(at(START)), None);
}

#[test]
fn a_status_is_recalled_once() {
    let now = at(START);
    let refused = reconcile(situation(now), now, Err(Reason::ClientSecretRejected), &mut 0);
    let mut s = next_situation(situation(now), Conclusion { memory: Memory::default(), ..refused }, 0, now);
    assert!(s.memory.waits.get(Activity::Request).is_some() && s.memory.demand.is_some());
    s.memory.waits.remove(Activity::Request);
    s.memory.demand = None;
    s.recall(now);
    assert!(s.memory.waits.get(Activity::Request).is_none() && s.memory.demand.is_none());
    let mut checked = situation(now);
    checked.status.failure = Some(crate::api::Failure {
        inputs: Some("v1 write generation=1 credentials=1 ca=- requested=-".to_owned()),
        ..s.status.failure.clone().unwrap()
    });
    checked.memory = Memory::default();
    checked.recall(now);
    assert!(
        checked.memory.reported_wait().is_some() && checked.memory.demand.is_none(),
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
fn a_refused_dry_run_is_reported_only_after_the_name_was_read() {
    struct Nobody;
    impl Edge for Nobody {
        fn now(&self) -> Timestamp {
            at(START)
        }
        fn leads(&self) -> bool {
            true
        }
        fn is_current(&self, _: &Situation) -> bool {
            true
        }
        fn admit(&self, _: &Plan) -> Admit {
            Admit::Now
        }
        fn acquire(&mut self, _: &Plan) -> Admit {
            Admit::Now
        }
    }
    let refused = |there: bool| {
        let s = situation_with_credentials(at(START));
        let secret = there.then(|| stored(&s, at(START - 60), 7200));
        let mut reconciliation = Reconciliation::new(s);
        let Progress::Call(step @ Step::TryCreate) = reconciliation.next(&mut Nobody) else { panic!("a dry run") };
        let answer = Answer::Failed { fault: Reason::TargetRefused.into(), retry_after: None };
        reconciliation.record(&step, answer, at(START));
        assert_eq!(attempt_kind(&reconciliation.s), None, "not yet");
        let Progress::Call(step @ Step::ReadTarget) = reconciliation.next(&mut Nobody) else { panic!("a read") };
        reconciliation.record(&step, Answer::Target(secret), at(START));
        let Progress::Rest(verdict) = reconciliation.next(&mut Nobody) else { panic!("nothing else") };
        verdict.problem.map(|problem| problem.reason)
    };
    assert_eq!(refused(false), Some(Reason::TargetRefused));
    assert_eq!(refused(true), None, "the target exists, and only the quota is used up");
}
