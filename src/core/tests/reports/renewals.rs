//! What an outage writes and tells while the token is valid.

use super::*;
use crate::api::{Cause, Fault};
use crate::core::Finding;

/// Fails the renewals of a resource one after the other, each at its time.
struct Outage {
    last: Option<Conclusion>,
    now: Timestamp,
    requests: u32,
}

impl Outage {
    /// A resource whose token is due.
    fn begin() -> Self {
        let first = reconcile_new(at(START));
        let now = first.status.token.as_ref().unwrap().renewal_time;
        Self { last: Some(first), now, requests: 1 }
    }

    /// Tries again at the time of the last wake-up, or later.
    fn fail(&mut self, fault: &Fault, later: i64) -> &Conclusion {
        self.answer(&Err(fault.clone()), later)
    }

    fn answer(&mut self, answer: &Result<i64, Fault>, later: i64) -> &Conclusion {
        let last = self.last.take().unwrap();
        self.now = at(self.now.max(last.wake).as_second() + 1 + later);
        let s = next_situation(situation(self.now), last, 1, self.now);
        self.last.insert(reconcile_with(s, self.now, answer, &mut self.requests))
    }
}

fn unreachable(cause: Cause) -> Fault {
    Fault::new(Reason::PortalUnreachable, cause)
}

fn event(conclusion: &Conclusion) -> Option<(bool, &str)> {
    conclusion.change.as_ref().map(|change| (change.warning, change.reason.as_str()))
}

#[test]
fn a_failing_renewal_is_told_at_its_second_attempt_and_when_it_succeeds_again() {
    let mut outage = Outage::begin();
    let first = outage.fail(&unreachable(Cause::ConnectionRefused), 0);
    assert_eq!((first.changed, event(first)), (true, None));
    assert_eq!(failure(first).cause.as_deref(), Some("ConnectionRefused"));
    assert!(failure(first).message.as_ref().unwrap().contains("refuses connections"));
    let second = outage.fail(&unreachable(Cause::ConnectionRefused), 0);
    assert_eq!((second.changed, event(second)), (false, Some((true, "PortalUnreachable"))));
    let told = &second.change.as_ref().unwrap().message;
    assert!(told.contains("refuses connections") && told.contains("The token is valid until"), "{told}");
    let third = outage.fail(&unreachable(Cause::ConnectionRefused), 0);
    assert_eq!((third.changed, event(third)), (false, None));
    let other = outage.fail(&Fault::new(Reason::PortalUnavailable, Cause::HttpStatus).number(503), 0);
    assert_eq!((other.changed, event(other)), (true, Some((true, "PortalUnavailable"))));
    let again = outage.answer(&Ok(7200), 0);
    assert_eq!((again.changed, event(again)), (true, Some((false, "TokenValid"))));
    assert!(again.change.as_ref().unwrap().message.contains("succeeds again. Valid until"));
}

#[test]
fn a_failure_that_ends_with_the_second_attempt_is_not_told() {
    let mut outage = Outage::begin();
    outage.fail(&unreachable(Cause::ConnectionClosed), 0);
    let again = outage.answer(&Ok(7200), 0);
    assert_eq!(event(again), None);
}

#[test]
fn an_outage_writes_a_cause_at_most_every_10_minutes_and_a_changed_number_never() {
    let mut outage = Outage::begin();
    assert!(outage.fail(&unreachable(Cause::ConnectTimeout), 0).changed);
    assert!(!outage.fail(&unreachable(Cause::NameNotResolved), 0).changed);
    let later = outage.fail(&unreachable(Cause::NameNotResolved), 600);
    assert!(later.changed);
    assert_eq!(failure(later).cause.as_deref(), Some("NameNotResolved"));
    let unavailable = |status| Fault::new(Reason::PortalUnavailable, Cause::HttpStatus).number(status);
    assert!(outage.fail(&unavailable(503), 0).changed, "another reason is written at once");
    assert!(!outage.fail(&unavailable(502), 700).changed);
}

#[test]
fn a_restart_keeps_the_message_and_an_upgrade_that_only_words_it_otherwise_writes_nothing() {
    let mut outage = Outage::begin();
    let fault = Fault::new(Reason::PortalUntrusted, Cause::Expired).date(Some(at(START)));
    let failed = outage.fail(&fault, 0);
    let message = failure(failed).message.clone().unwrap();
    assert!(message.contains("expired on"), "{message}");
    let now = outage.now;
    let mut last = outage.last.take().unwrap();
    last.memory = Memory::default();
    let restarted = conclude_at_rest(next_situation(situation(now), last, 1, now), now);
    assert!(!restarted.changed);
    assert_eq!(failure(&restarted).message.as_ref(), Some(&message));

    let mut worded_otherwise = restarted;
    worded_otherwise.changed = true;
    worded_otherwise.memory = Memory::default();
    worded_otherwise.status.conditions[0].message = "The target holds a valid token.".to_owned();
    (failure_mut(&mut worded_otherwise).cause, failure_mut(&mut worded_otherwise).message) = (None, None);
    let upgraded = conclude_at_rest(next_situation(situation(now), worded_otherwise, 1, now), now);
    assert!(!upgraded.changed);
}

fn failure_mut(conclusion: &mut Conclusion) -> &mut Failure {
    conclusion.status.failure.as_mut().unwrap()
}

#[test]
fn a_cause_of_a_newer_version_is_left_out_and_its_message_stays() {
    let text = r#"{"reason":"PortalUnreachable","cause":"Quantum","message":"odd","startTime":"2026-01-01T00:00:00Z"}"#;
    let finding = Finding::recall(&serde_json::from_str(text).unwrap());
    assert_eq!((finding.cause, finding.message.as_deref()), (None, Some("odd")));
}

#[test]
fn a_valid_token_says_until_when_and_that_another_lifetime_was_granted() {
    let granted = |seconds| {
        let mut s = situation(at(START));
        s.plan.as_mut().unwrap().lifetime = Some(7150);
        message_of(&reconcile(s, at(START), Ok(seconds), &mut 0), "Ready").to_owned()
    };
    let (asked, other) = (granted(7200), granted(3600));
    assert!(
        asked.starts_with("Valid until ") && asked.contains("; renewed from ") && asked.ends_with(" on."),
        "{asked}"
    );
    assert!(other.ends_with("The portal granted 1h and not the 2h that were requested."), "{other}");
}
