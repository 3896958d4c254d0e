//! A creation that is refused, and what it means for the next token.

use super::*;
use crate::core::tests::allows::Allows;

#[test]
fn a_refused_dry_run_is_reported_only_after_the_name_was_read() {
    let refused = |there: bool| {
        let s = situation_with_credentials(at(START));
        let secret = there.then(|| stored(&s, at(START - 60), 7200));
        let mut reconciliation = Reconciliation::new(s);
        let Progress::Call(step @ Step::TryCreate) = reconciliation.next(&mut Allows(at(START))) else {
            panic!("a dry run")
        };
        let answer = Answer::Failed { fault: Reason::TargetRefused.into(), retry_after: None };
        reconciliation.record(&step, answer, at(START));
        assert_eq!(attempt_kind(&reconciliation.s), None, "not yet");
        let Progress::Call(step @ Step::ReadTarget) = reconciliation.next(&mut Allows(at(START))) else {
            panic!("a read")
        };
        reconciliation.record(&step, Answer::Target(secret), at(START));
        let Progress::Rest(verdict) = reconciliation.next(&mut Allows(at(START))) else { panic!("nothing else") };
        verdict.problem.map(|problem| problem.reason)
    };
    assert_eq!(refused(false), Some(Reason::TargetRefused));
    assert_eq!(refused(true), None, "the target exists, and only the quota is used up");
}

#[test]
fn a_creation_that_was_refused_is_tried_again_before_another_token_is_requested() {
    let mut s = situation_with_credentials(at(START));
    s.create_tried();
    s.issued(token("t"), 60, at(START));
    let mut reconciliation = Reconciliation::new(s);
    let Progress::Call(step @ Step::Create) = reconciliation.next(&mut Allows(at(START))) else { panic!("a creation") };
    let refused = Answer::Failed { fault: Reason::TargetRefused.into(), retry_after: None };
    reconciliation.record(&step, refused, at(START));
    let mut s = reconciliation.s;
    assert!(matches!(decide(&s, at(START)).step, Step::Rest));
    // It has expired when the wait ends.
    s.has_permit = true;
    assert!(matches!(decide(&s, at(START + 100)).step, Step::TryCreate));
}

#[test]
fn a_token_that_was_never_in_a_target_is_not_gone() {
    let mut s = situation_with_credentials(at(START));
    s.create_tried();
    s.issued(token("t"), 7200, at(START));
    s.credentials_read(Some((s.credentials.version().unwrap().clone(), Ok(8))));
    assert_eq!(s.owed(at(START + 10)).trigger, Trigger::Credentials);
    s.memory.pinned = None;
    assert_eq!(s.owed(at(START + 10)).trigger, Trigger::First);
    s.issued(token("t"), 7200, at(START + 10));
    assert_eq!(*s.memory.repairs, Repairs::default(), "no repair");
}
