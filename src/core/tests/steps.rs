//! The next step of a reconciliation, and what prevents it.

use super::*;

mod checks;
mod waits;

fn version(resource: &str) -> Version {
    Version::new("u", resource)
}

fn reason(s: &Situation) -> Option<Reason> {
    decide(s, at(START)).problem.map(|problem| problem.reason)
}

fn detail(s: &Situation) -> Option<String> {
    decide(s, at(START)).problem.and_then(|problem| problem.detail)
}

fn step(s: &Situation) -> String {
    let shown = format!("{:?}", decide(s, at(START)).step);
    shown.split('(').next().unwrap_or_default().to_owned()
}

/// Returns a resource whose target was created a minute ago and has been read.
fn with_target() -> Situation {
    let before = at(START - 60);
    let mut s = super::with_target(before);
    s.target_read(Some(stored(&situation(before), before, 7200)));
    s
}

/// Returns the same after a restart: only what the status reports is known.
fn restarted(mut s: Situation) -> Situation {
    s.target = Observed::Cached(Version::new("target", "11"));
    s.memory = Memory::default();
    s.recall(at(START));
    s
}

fn with_ca(mut s: Situation) -> Situation {
    let ca = json!({"kind": "ConfigMap", "name": "ca", "key": "ca.crt"});
    s.plan.as_mut().unwrap().ca = Some(serde_json::from_value(ca).unwrap());
    s
}

fn with_client_certificate(mut s: Situation) -> Situation {
    s.plan.as_mut().unwrap().client_certificate = Some("client".to_owned());
    let inputs = s.inputs();
    if let Some(token) = s.memory.target.as_mut().and_then(|target| target.token.as_mut()) {
        token.inputs = inputs;
    }
    s
}

#[test]
fn a_new_target_is_created_step_by_step() {
    let mut s = situation(at(START));
    assert_eq!(step(&s), "AcquirePermit");
    s.has_permit = true;
    assert_eq!(step(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "TryCreate");
    s.create_tried();
    assert_eq!(step(&s), "Request");
    s.issued(token("t"), 7200, at(START));
    assert_eq!(step(&s), "Create");
    s.created(version("9"));
    assert_eq!((step(&s), reason(&s)), ("Rest".to_owned(), None));
}

#[test]
fn tokens_that_are_due_in_the_same_second_are_requested_one_after_the_other() {
    assert_spread_over_a_second(|n| {
        let mut s = with_target();
        s.me.uid = format!("uid-{n}");
        s.target_read(Some(stored(&s, at(START - 60), 7200)));
        let due = s.renewal_time(s.memory.target.as_ref().unwrap().token.as_ref().unwrap());
        let wake = decide(&s, at(due.as_second() - 1)).wake;
        assert!(matches!(decide(&s, wake).step, Step::AcquirePermit), "{due} {wake}");
        wake.duration_since(due).as_millis()
    });
}

#[test]
fn cached_inputs_are_read_before_a_request() {
    let due = with_target().status.token.unwrap().renewal_time;
    let at_due = |s: &Situation| match decide(s, due).step {
        Step::Request(_) => "Request".to_owned(),
        step => format!("{step:?}"),
    };
    let mut s = with_ca(with_target());
    s.ca = Observed::Cached(version("c"));
    s.ca_read(Some((version("c"), None)));
    s.ca = Observed::Cached(version("c"));
    s.credentials = Observed::Cached(version("1"));
    s.has_permit = true;
    assert_eq!(at_due(&s), "ReadCredentials");
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(at_due(&s), "ReadCa");
    s.ca_read(Some((version("c"), None)));
    assert_eq!(at_due(&s), "Request");
    let mut s = with_client_certificate(s);
    s.client_certificate = Observed::Cached(version("k"));
    assert_eq!(at_due(&s), "ReadClientCertificate");
    s.client_certificate_read(Some((version("k"), None)));
    assert_eq!(at_due(&s), "Request");
}

#[test]
fn a_token_is_requested_when_it_is_due_or_triggered_and_no_earlier_than_the_floor() {
    let issued = START - 60;
    let due = with_target().status.token.as_ref().unwrap().renewal_time.as_second();
    let verdict = |now: i64, change: &dyn Fn(&mut Situation)| {
        let mut s = with_target();
        s.memory.last_exchange = Some(at(issued).into());
        change(&mut s);
        decide(&s, at(now))
    };
    let acquires = |now, change: &dyn Fn(&mut Situation)| matches!(verdict(now, change).step, Step::AcquirePermit);
    let nothing: &dyn Fn(&mut Situation) = &|_| {};
    assert!(!acquires(due - 1, nothing) && acquires(due, nothing));
    let requested: &dyn Fn(&mut Situation) = &|s| s.requested_at = Some("now".to_owned());
    assert_eq!(verdict(issued + 2, requested).wake, at(issued + 5));
    assert!(!acquires(issued + 2, requested) && acquires(issued + 5, requested));
    assert!(!acquires(issued + 9, &|s| {
        s.requested_at = Some("now".to_owned());
        s.memory.last_handled_request = Some("now".into());
    }));
    let other: &dyn Fn(&mut Situation) = &|s| s.credentials_read(Some((version("2"), Ok(8))));
    assert_eq!(verdict(issued + 2, other).wake, at(issued + 5));
    assert!(!acquires(issued + 2, other) && acquires(issued + 5, other));
    let lifetime: &dyn Fn(&mut Situation) = &|s| s.plan.as_mut().unwrap().lifetime = Some(3600);
    assert!(!acquires(issued + 4, lifetime) && acquires(issued + 5, lifetime));
    let gone: &dyn Fn(&mut Situation) = &|s| s.target = Observed::Absent;
    assert!(!acquires(issued + 4, gone) && acquires(issued + 5, gone));
    let damaged: &dyn Fn(&mut Situation) = &|s| s.memory.target.as_mut().unwrap().token = None;
    assert!(!acquires(issued + 4, damaged) && acquires(issued + 5, damaged));
    // The target is deleted repeatedly: the first three repairs are not delayed, later ones back off.
    let contested: &dyn Fn(&mut Situation) = &|s| {
        (1..=3).rev().for_each(|n| s.memory.repairs.record(at(issued - 10 * n)));
        s.target = Observed::Absent;
    };
    assert!(!acquires(issued + 19, contested) && acquires(issued + 20, contested));
}

#[test]
fn a_busy_host_is_queued_for_and_a_paused_host_gets_no_request() {
    let mut s = situation_with_credentials(at(START));
    s.admit = Admit::AtCapacity;
    let verdict = decide(&s, at(START));
    assert!(verdict.awaits_permit && verdict.problem.is_none() && matches!(verdict.step, Step::Rest));
    s.admit = Admit::PausedUntil(at(START + 90));
    let verdict = decide(&s, at(START));
    assert!(!verdict.awaits_permit && matches!(verdict.step, Step::Rest));
    assert_eq!((verdict.problem.unwrap().source, verdict.wake), (Source::Pause(at(START + 90)), at(START + 90)));
}

#[test]
fn drift_is_repaired_at_once_and_repeated_drift_with_back_off() {
    let drifted = |repairs: i64| {
        let mut s = with_target();
        (0..repairs).for_each(|n| s.memory.repairs.record(at(START - 10 + n)));
        let mut secret = stored(&situation(at(START - 60)), at(START - 60), 7200);
        secret.version.resource = "12".into();
        s.target_read(Some(secret));
        s.memory.target.as_mut().unwrap().rendered = false;
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
        s
    };
    assert_eq!([0, 1, 2].map(|n| step(&drifted(n))), ["Render"; 3]);
    assert_eq!(step(&drifted(3)), "Rest");
    assert_eq!(decide(&drifted(3), at(START)).wake, at(START - 8 + 30));
    let mut changed = drifted(3);
    changed.generation = 2;
    changed.memory.target.as_mut().unwrap().generation = 2;
    assert_eq!(step(&changed), "Render", "a change of the spec is not drift");
    let mut waiting = drifted(3);
    waiting.memory.written_generation = None;
    waiting.status.conditions[0].observed_generation = 0;
    assert_eq!(step(&waiting), "Render", "the first write of this generation");
    waiting.memory.written_generation = Some(1);
    assert_eq!(step(&waiting), "Rest", "the token of this generation is still being requested");
    let mut lapsed = drifted(0);
    lapsed.issued(token("next"), 40, at(START - 40));
    assert_eq!(step(&lapsed), "Render", "an unpublished token has expired");
    let mut unread = drifted(0);
    unread.target = Observed::Cached(Version::new("target", "12"));
    assert_eq!(step(&unread), "ReadTarget");
}

#[test]
fn an_unpublished_token_is_written_as_soon_as_the_api_server_accepts_it() {
    let with_unpublished = |mut s: Situation| {
        s.issued(token("next"), 7200, at(START));
        s
    };
    assert_eq!(step(&with_unpublished(with_target())), "Publish");
    let mut cached = with_unpublished(with_target());
    cached.target = Observed::Cached(Version::new("target", "11"));
    let Step::Publish(patch) = decide(&cached, at(START)).step else {
        panic!("the evaluated version is patched without another read")
    };
    assert_eq!(patch.expose()["metadata"]["resourceVersion"], "11");
    assert_eq!(patch.expose()["data"]["access_token"], json!("bmV4dA=="));
    cached.memory.target.as_mut().unwrap().rendered = false;
    assert_eq!(step(&cached), "ReadTarget", "a target that differs is read first");
    let mut refused = with_unpublished(with_target());
    refused.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!((step(&refused), reason(&refused)), ("Rest".to_owned(), Some(Reason::TargetRefused)));
    let mut new = with_unpublished(situation_with_credentials(at(START)));
    assert_eq!(step(&new), "Create");
    new.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&new), "Rest");
}

#[test]
fn the_owner_reference_is_corrected_after_all_other_steps() {
    let retained = || {
        let mut s = with_target();
        s.plan.as_mut().unwrap().target.policy = crate::api::DeletionPolicy::Retain;
        s.target_read(Some(stored(&situation(at(START - 60)), at(START - 60), 7200)));
        s
    };
    assert_eq!(step(&retained()), "Own");
    let mut cached = retained();
    cached.target = Observed::Cached(Version::new("target", "11"));
    assert_eq!(step(&cached), "ReadTarget");
    let mut refused = retained();
    refused.failed(Activity::Own, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest");
    let mut refused = retained();
    refused.failed(Activity::Write, Reason::TargetRefused, None, at(START));
    assert_eq!(step(&refused), "Rest", "what refused one change is likely to refuse the other");
    let mut waiting = retained();
    waiting.failed(Activity::Request, Reason::PortalUnreachable, None, at(START));
    assert_eq!(step(&waiting), "Own", "a failure of the portal does not delay it");
    let mut done = retained();
    done.owned(Version::new("target", "12"));
    assert_eq!(step(&done), "Rest");
}

#[test]
fn an_unpublished_token_is_kept_until_it_expires() {
    let with_unpublished = |lifetime| {
        let mut s = with_target();
        s.issued(token("next"), lifetime, at(START - 40));
        (s.unpublished(at(START)).is_some(), matches!(decide(&s, at(START)).step, Step::Publish(_)))
    };
    assert_eq!([39, 40, 41].map(with_unpublished), [(false, false), (false, false), (true, true)]);
}

#[test]
fn a_new_resource_waits_for_a_permit_without_a_read_and_without_a_status() {
    let now = at(START);
    let mut s = situation(now);
    s.admit = Admit::AtCapacity;
    let verdict = decide(&s, now);
    assert!(matches!(verdict.step, Step::Rest) && verdict.awaits_permit);
    assert!(!conclude(s, verdict, now).changed);
    let mut s = situation(now);
    s.admit = Admit::PausedUntil(at(START + 300));
    assert_eq!(step(&s), "ReadCredentials", "what is wrong is reported before a pause ends");
}

#[test]
fn a_token_of_a_clock_that_was_ahead_is_renewed_at_once() {
    // A restart by a clock that was set back to START.
    let after_30_s = |issued: i64| {
        let mut s = super::with_target(at(issued));
        s.memory = Memory::default();
        s.recall(at(START));
        s.target_read(Some(stored(&situation(at(issued)), at(issued), 7200)));
        assert_eq!(step(&s), "Rest", "the minimum spacing counts from now");
        format!("{:?}", decide(&s, at(START + 30)).step)
    };
    assert_eq!(after_30_s(START + 3600), "AcquirePermit");
    assert_eq!(after_30_s(START + 299), "Rest", "clocks differ by minutes");
}

#[test]
fn a_new_resource_is_created_without_a_read_of_its_target() {
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target, s.has_permit) = (-1, Observed::Unknown, true);
    s.credentials_read(Some((version("1"), Ok(7))));
    assert_eq!(step(&s), "TryCreate");
    s.conflicted();
    assert_eq!(step(&s), "ReadTarget", "the name is taken");
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target, s.credentials) = (-1, Observed::Unknown, Observed::Absent);
    assert_eq!(step(&s), "ReadTarget", "what fails is reported by the first reason that applies");
    let mut s = situation(at(START));
    (s.status.observed_generation, s.target) = (1, Observed::Unknown);
    assert_eq!(step(&s), "ReadTarget");
}
