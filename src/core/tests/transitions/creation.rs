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

/// Takes the steps before a request, with these answers to the calls on the target; returns those calls.
fn before_request(s: Situation, answers: Vec<Answer>) -> Vec<&'static str> {
    let (mut reconciliation, mut answers, mut calls) = (Reconciliation::new(s), answers.into_iter(), Vec::new());
    loop {
        match reconciliation.next(&mut Allows(at(START))) {
            Progress::Call(Step::Request(_)) => return calls,
            Progress::Call(step) => {
                calls.push(match step {
                    Step::CheckName => "check",
                    Step::TryCreate => "dry run",
                    Step::ReadTarget => "read",
                    step => panic!("{step:?}"),
                });
                let answer = answers.next().expect("a call less");
                reconciliation.record(&step, answer, at(START));
            }
            _ => return calls,
        }
    }
}

#[test]
fn where_one_alike_was_created_a_look_at_the_name_replaces_the_dry_run() {
    let alike = || Situation { created_alike: true, ..situation_with_credentials(at(START)) };
    assert_eq!(before_request(alike(), vec![Answer::Accepted]), ["check"]);
    // What the cache of the API server holds was deleted since.
    let deleted = vec![Answer::Conflict, Answer::Target(None), Answer::Accepted];
    assert_eq!(before_request(alike(), deleted), ["check", "read", "dry run"]);
    let failed = vec![Answer::Failed { fault: Reason::ClusterError.into(), retry_after: None }];
    assert_eq!(before_request(alike(), failed), ["check"], "nothing is requested");
    let taken = LiveSecret::new(Secret::default(), &me());
    assert_eq!(before_request(alike(), vec![Answer::Conflict, Answer::Target(Some(taken))]), ["check", "read"]);
    let mut refused = alike();
    refused.failed(Activity::Write, Reason::TargetRefused, None, at(START - 3600));
    assert_eq!(before_request(refused, vec![Answer::Accepted]), ["dry run"]);
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
