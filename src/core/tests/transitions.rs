//! How the known state changes after each step.

use super::*;
use crate::core::reconcile::memory::TargetName;

mod creation;
mod portal;
mod restart;
mod stripped;
mod turn;

fn version(uid: &str, resource: &str) -> Version {
    Version::new(uid, resource)
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
        (s.memory.pinned.is_some(), s.memory.issued.is_some())
    };
    assert_eq!(read(version("u", "2"), 7), (false, true));
    assert_eq!(read(version("u", "2"), 8), (true, false), "a token issued for other credentials is not published");
    assert_eq!(read(version("v", "2"), 7), (true, false));
    let after_restart = |known: Option<&str>| {
        let mut s = with_target();
        s.memory = Memory::default();
        s.status.credentials_version = known.map(str::to_owned);
        s.credentials_read(Some((version("u", "2"), Ok(7))));
        s.memory.pinned.is_some()
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
        whole.memory.facts.incomplete.is_none() && whole.memory.pinned.is_none(),
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
    s.memory.pinned = Some(Trigger::Requested);
    s.memory.verification.answer = Some(crate::api::Verification::AppUnknown);
    s.failed(Activity::Request, Reason::PortalUnreachable, None, at(START));
    s.issued(token("t"), 100, sent);
    let unpublished = s.memory.issued.as_ref().unwrap();
    assert_eq!(
        (unpublished.issue_time, unpublished.expiration_time),
        (at(START), at(START + 100)),
        "whole seconds, rounded down"
    );
    assert_eq!((unpublished.inputs.clone(), &unpublished.portal_url), (s.inputs(), &None));
    assert_eq!(
        (s.memory.last_exchange.map(Timestamp::from), s.memory.pinned.is_some(), attempt_kind(&s)),
        (Some(sent), false, None)
    );
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
        *s.memory.repairs != Repairs::default()
    };
    assert!(!repairs(&|_| {}), "a renewal");
    assert!(repairs(&|s| s.target = Observed::Absent));
    assert!(repairs(&|s| s.memory.target.as_mut().unwrap().token = None));
    assert!(!repairs(&|s| s.target = Observed::Unknown));
    let mut new = situation_with_credentials(at(START));
    new.issued(token("t"), 7200, at(START));
    assert_eq!(*new.memory.repairs, Repairs::default(), "the first");
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
    assert_eq!(*s.memory.repairs, Repairs::default(), "a renewal is not a repair");

    let rendered = |generation| {
        let mut s = with_target();
        s.generation = generation;
        let before = s.memory.target.as_ref().unwrap().token.clone();
        s.failed(Activity::Own, Reason::TargetRefused, None, now);
        s.rendered(version("target", "12"), now);
        assert_eq!((s.memory.target.as_ref().unwrap().token.clone(), attempt_kind(&s)), (before, Some(Activity::Own)));
        *s.memory.repairs != Repairs::default()
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
    assert_eq!((details.owned, details.version.resource.to_string(), attempt_kind(&s)), (true, "10".to_owned(), None));
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
        (s.memory.pinned.is_some(), s.memory.last_handled_request.as_deref() == Some("now"), wait <= 15 * 60 * 5 / 4)
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
