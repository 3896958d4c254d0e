//! What each thing done changes in what is known.

use super::*;

fn version(uid: &str, resource: &str) -> Version {
    Version { uid: uid.to_owned(), resource: resource.to_owned() }
}

/// A resource whose target was filled a minute ago.
fn filled() -> Situation {
    super::filled(at(START - 60))
}

fn kind(s: &Situation) -> Option<AttemptKind> {
    s.memory.retry_state.as_ref().map(|retry_state| retry_state.made_with.kind)
}

#[test]
fn credentials_are_changed_by_value_or_by_another_secret_and_not_by_a_version() {
    let read = |version: Version, digest| {
        let mut s = filled();
        s.issued(token("unpublished"), 7200, at(START));
        s.credentials_read(Some((version, Ok(digest))));
        (s.memory.renewal_requested, s.memory.unpublished.is_some())
    };
    assert_eq!(read(version("u", "2"), 7), (false, true));
    assert_eq!(read(version("u", "2"), 8), (true, false), "what was asked for with others is not published");
    assert_eq!(read(version("v", "2"), 7), (true, false));
    let after_restart = |known: Option<&str>| {
        let mut s = filled();
        s.memory = Memory::default();
        s.status.credentials_version = known.map(str::to_owned);
        s.credentials_read(Some((version("u", "2"), Ok(7))));
        s.memory.renewal_requested
    };
    assert_eq!([Some("1"), Some("2"), None].map(after_restart), [true, false, false]);
    let mut gone = filled();
    gone.credentials_read(None);
    assert!(matches!(gone.credentials, Observed::Absent));
    let mut whole = filled();
    let incomplete = CredentialsError { key: "client_id".to_owned() };
    whole.credentials_read(Some((version("u", "2"), Err(incomplete))));
    assert!(whole.memory.incomplete_credentials.is_some());
    whole.credentials_read(Some((version("u", "3"), Ok(7))));
    assert!(whole.memory.incomplete_credentials.is_none() && !whole.memory.renewal_requested, "put back as it was");
}

#[test]
fn another_version_of_the_values_that_failed_is_no_change_that_a_person_made() {
    let now = at(START);
    let failed = |made_with: &str, digest| {
        let mut s = situation_known(now);
        s.failed(AttemptKind::Request, Reason::ClientSecretRejected, None, now);
        s.memory.retry_state.as_mut().unwrap().made_with.credentials = made_with.to_owned();
        s.credentials_read(Some((version("u", "2"), Ok(digest))));
        s.memory.retry_state.unwrap().made_with.credentials
    };
    assert_eq!(failed("1", 7), "2");
    assert_eq!(failed("1", 8), "1");
    assert_eq!(failed("0", 7), "0", "it failed with others");
}

#[test]
fn a_token_that_was_issued_answers_what_asked_for_it() {
    let sent = Timestamp::from_millisecond(START * 1000 + 700).unwrap();
    let mut s = filled();
    s.requested_at = Some("now".to_owned());
    s.memory.renewal_requested = true;
    s.memory.verification = Some(crate::api::Verification::Unknown);
    s.failed(AttemptKind::Request, Reason::PortalUnreachable, None, at(START));
    s.issued(token("t"), 100, sent);
    let unpublished = s.memory.unpublished.as_ref().unwrap();
    assert_eq!(
        (unpublished.issue_time, unpublished.expiration_time),
        (at(START), at(START + 100)),
        "whole seconds, rounded down"
    );
    assert_eq!(
        (unpublished.inputs.clone(), unpublished.portal_url.as_str()),
        (s.inputs().unwrap(), "https://www.arcgis.com")
    );
    assert_eq!((s.memory.last_issued, s.memory.renewal_requested, kind(&s)), (Some(sent), false, None));
    assert_eq!((s.memory.verification.is_none(), s.memory.last_handled_request.as_deref()), (true, Some("now")));
    s.requested_at = None;
    s.issued(token("t"), 100, sent);
    assert_eq!(s.memory.last_handled_request.as_deref(), Some("now"), "taking it away is no wish");
    let mut refused = filled();
    refused.failed(AttemptKind::Ownership, Reason::TargetRefused, None, at(START));
    refused.issued(token("t"), 100, sent);
    assert_eq!(kind(&refused), Some(AttemptKind::Ownership), "another failure stands");
}

#[test]
fn a_token_that_takes_the_place_of_one_that_was_taken_is_a_repair() {
    let repairs = |change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        change(&mut s);
        s.issued(token("t"), 7200, at(START));
        s.memory.repairs != Repairs::default()
    };
    assert!(!repairs(&|_| {}), "a renewal");
    assert!(repairs(&|s| s.target = Observed::Absent));
    assert!(repairs(&|s| s.memory.target.as_mut().unwrap().token = None));
    assert!(!repairs(&|s| s.target = Observed::Unknown));
    let mut new = situation_known(at(START));
    new.issued(token("t"), 7200, at(START));
    assert_eq!(new.memory.repairs, Repairs::default(), "the first");
}

#[test]
fn a_write_puts_the_held_token_in_place_or_renders_the_old_one_again() {
    let now = at(START);
    let mut s = filled();
    s.memory.target.as_mut().unwrap().owned = false;
    s.issued(token("next"), 100, now);
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, now);
    s.written(version("target", "12"), now);
    let details = s.memory.target.clone().unwrap();
    assert_eq!(
        (details.version, details.owner, details.rendered, details.owned),
        (version("target", "12"), Owner::Ours, true, false)
    );
    assert_eq!(
        (details.token.unwrap().expiration_time, kind(&s), s.memory.unpublished.is_some()),
        (at(START + 100), None, false)
    );
    assert_eq!(s.memory.repairs, Repairs::default(), "a renewal is no repair");

    let rendered = |generation| {
        let mut s = filled();
        s.generation = generation;
        let before = s.memory.target.as_ref().unwrap().token.clone();
        s.failed(AttemptKind::Ownership, Reason::TargetRefused, None, now);
        s.written(version("target", "12"), now);
        assert_eq!((s.memory.target.as_ref().unwrap().token.clone(), kind(&s)), (before, Some(AttemptKind::Ownership)));
        s.memory.repairs != Repairs::default()
    };
    assert!(rendered(1), "it had been as wanted: somebody changed it");
    assert!(!rendered(2), "a person asked for something else");
}

#[test]
fn what_was_tried_or_created_is_known_for_its_generation() {
    let now = at(START);
    let mut s = situation_known(now);
    s.generation = 4;
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, now);
    s.create_tried();
    assert_eq!((s.memory.dry_run_generation, kind(&s)), (Some(4), None));
    s.failed(AttemptKind::Request, Reason::PortalUnreachable, None, now);
    s.create_tried();
    assert_eq!(kind(&s), Some(AttemptKind::Request));
    s.issued(token("t"), 100, now);
    s.created(version("target", "9"), now);
    let details = s.memory.target.as_ref().unwrap();
    assert_eq!((s.memory.dry_run_generation, details.generation, details.owned), (None, 4, true));

    s.memory.target.as_mut().unwrap().owned = false;
    s.failed(AttemptKind::Ownership, Reason::TargetRefused, None, now);
    s.owned(version("target", "10"));
    let details = s.memory.target.as_ref().unwrap();
    assert_eq!((details.owned, details.version.resource.as_str(), kind(&s)), (true, "10", None));
    s.failed(AttemptKind::Write, Reason::TargetRefused, None, now);
    s.owned(version("target", "11"));
    assert_eq!(kind(&s), Some(AttemptKind::Write));
    s.conflicted();
    assert!(matches!(s.target, Observed::Unknown));
}

#[test]
fn a_failed_request_is_still_wanted_and_tried_sooner_where_the_inputs_have_worked() {
    let now = at(START);
    let failed = |mut s: Situation, kind| {
        s.requested_at = Some("now".to_owned());
        for _ in 0..8 {
            s.failed(kind, Reason::RequestRejected, None, now);
        }
        let wait = s.memory.retry_state.as_ref().unwrap().next_attempt.unwrap().as_second() - START;
        (s.memory.renewal_requested, s.memory.last_handled_request.as_deref() == Some("now"), wait <= 15 * 60 * 5 / 4)
    };
    assert_eq!(failed(filled(), AttemptKind::Request), (true, true, true));
    assert_eq!(failed(filled(), AttemptKind::Write), (false, false, true));
    assert_eq!(failed(situation_known(now), AttemptKind::Request), (true, true, false));
    let mut other = filled();
    other.plan.as_mut().unwrap().lifetime = Some(3600);
    assert_eq!(failed(other, AttemptKind::Request), (true, true, false), "these have not");
    let mut damaged = filled();
    damaged.memory.target.as_mut().unwrap().token = None;
    assert_eq!(failed(damaged, AttemptKind::Request), (true, true, false));
    let mut restarted = filled();
    restarted.memory.target = None;
    assert_eq!(failed(restarted, AttemptKind::Request), (true, true, true), "as the status tells");
}

#[test]
fn a_target_that_was_read_is_judged_in_full() {
    let read = |change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
        let live = stored(&s, at(START), 7200);
        change(&mut s);
        s.target_read(Some(live));
        let details = s.memory.target.unwrap();
        (details.owner, details.token.is_some(), details.rendered, details.owned)
    };
    assert_eq!(read(&|_| {}), (Owner::Ours, true, true, true));
    let labelled = read(&|s| drop(s.plan.as_mut().unwrap().target.labels.insert("a".to_owned(), "b".to_owned())));
    assert_eq!(labelled, (Owner::Ours, true, false, true));
    let retained = read(&|s| s.plan.as_mut().unwrap().target.policy = crate::api::DeletionPolicy::Retain);
    assert_eq!(retained, (Owner::Ours, true, true, false));
    let mut foreign = filled();
    let mut theirs = stored(&foreign, at(START), 7200);
    theirs.owner = Owner::Other(None);
    foreign.target_read(Some(theirs));
    let details = foreign.memory.target.unwrap();
    assert_eq!((details.token, details.rendered, details.owned), (None, false, true), "nothing in it matters");
    let mut s = filled();
    s.target_read(None);
    assert!(matches!(s.target, Observed::Absent));
}

#[test]
fn the_portal_s_url_stays_with_the_token_until_another_portal_s_takes_its_place() {
    let url = |stored_url: &str, moved: bool| {
        let mut s = filled();
        let token = IssuedToken { portal_url: stored_url.to_owned(), ..published(&s, at(START), 7200) };
        let live = live(&s, &token);
        if moved {
            s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
        }
        s.stored(&live).unwrap().portal_url
    };
    assert_eq!(url("https://www.arcgis.com", true), "https://www.arcgis.com");
    assert_eq!(url("https://elsewhere.example.com", false), "https://www.arcgis.com", "somebody changed it");
    assert_eq!(url("", true), "https://gis.example.com");
}

#[test]
fn the_referer_stays_with_the_token_until_a_token_requested_with_another_is_published() {
    let headers = |s: &mut Situation, referer: &str| {
        let plan = s.plan.as_mut().unwrap();
        plan.target.formats = vec![crate::api::Format::Headers];
        plan.referer = Some(referer.to_owned());
    };
    let mut s = filled();
    headers(&mut s, "https://a.example");
    let live = live(&s, &published(&s, at(START), 7200));
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    headers(&mut s, "https://b.example");
    s.generation = 2;
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    s.target_read(Some(live));
    assert!(matches!(decide(&s, at(START)).step, Step::AcquirePermit), "a change of it requests a token");
    s.failed(AttemptKind::Request, Reason::RequestRejected, None, at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Rest), "a failure changes nothing that is published");
    s.issued(token("next"), 7200, at(START));
    assert_eq!(s.memory.unpublished.as_ref().unwrap().referer.as_deref(), Some("https://b.example"));
}

#[test]
fn after_a_restart_a_secret_that_is_as_it_was_is_judged_by_the_status() {
    let restarted = |change: &dyn Fn(&mut Situation)| {
        let mut s = filled();
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
    let mut owning = filled();
    owning.memory.target.as_mut().unwrap().owned = false;
    owning.failed(AttemptKind::Ownership, Reason::TargetRefused, None, at(START));
    let verdict = decide(&owning, at(START));
    let failure = conclude(owning, verdict, at(START)).status.failure;
    let later = |seconds: i64| {
        let mut s = filled();
        s.memory = Memory::default();
        s.status.failure.clone_from(&failure);
        s.recall(at(START));
        matches!(decide(&s, at(START + seconds)).step, Step::ReadTarget)
    };
    assert!(!later(10) && later(100), "the owner reference is still to be set right");

    let mut foreign = filled();
    foreign.memory.target.as_mut().unwrap().owner = Owner::Other(None);
    let verdict = decide(&foreign, at(START));
    let refused = conclude(foreign, verdict, at(START));
    let mut s = filled();
    (s.memory, s.status) = (Memory::default(), refused.status);
    s.recall(at(START));
    assert_eq!(decide(&s, at(START)).problem.map(|p| p.reason), Some(Reason::TargetNotOwned));
    s.generation = 2;
    assert!(matches!(decide(&s, at(START)).step, Step::ReadTarget), "another name may be meant");
}

#[test]
fn the_last_request_is_known_exactly_in_memory_and_to_the_next_second_from_a_status() {
    let mut s = filled();
    assert_eq!(s.last_issued(), Some(at(START - 60)));
    s.memory.last_issued = None;
    assert_eq!(s.last_issued(), Some(at(START - 59)), "sent within that second");
    s.memory.last_issued = Some(at(START - 100));
    assert_eq!(s.last_issued(), Some(at(START - 59)), "the status is newer");
    s.status.token = None;
    assert_eq!(s.last_issued(), Some(at(START - 100)));
    s.memory.last_issued = None;
    assert_eq!(s.last_issued(), None);
}

#[test]
fn a_status_is_recalled_once() {
    let now = at(START);
    let refused = run(situation(now), now, Err(Reason::ClientSecretRejected), &mut 0);
    let mut s = again(situation(now), Conclusion { memory: Memory::default(), ..refused }, 0, now);
    assert!(s.memory.retry_state.is_some() && s.memory.renewal_requested);
    (s.memory.retry_state, s.memory.renewal_requested) = (None, false);
    s.recall(now);
    assert!(s.memory.retry_state.is_none() && !s.memory.renewal_requested);
    let mut checked = situation(now);
    checked.status.failure = Some(crate::api::Failure {
        inputs: Some("v1 write generation=1 credentials=1 ca=- requested=-".to_owned()),
        ..s.status.failure.clone().unwrap()
    });
    checked.memory = Memory::default();
    checked.recall(now);
    assert!(
        checked.memory.retry_state.is_some() && !checked.memory.renewal_requested,
        "only a request is wanted again"
    );
}
