//! A request that waits for its turn at the host.

use super::*;
use crate::core::tests::allows::Allows;

/// Allows whatever is asked, and says that the resource has changed.
struct Changed(Allows);

impl Edge for Changed {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn leads(&self) -> bool {
        true
    }

    fn is_current(&self, _: &Situation) -> bool {
        false
    }

    fn admit(&self, plan: &Plan) -> Admit {
        self.0.admit(plan)
    }

    fn acquire(&mut self, plan: &Plan) -> Admit {
        self.0.acquire(plan)
    }
}

/// Returns a reconcile whose request was not sent.
fn unsent(has_permit: bool, has_credentials: bool) -> Reconciliation {
    let mut s = situation_with_credentials(at(START));
    s.create_tried();
    let mut reconciliation = Reconciliation::new(s);
    let Progress::Call(step @ Step::Request(_)) = reconciliation.next(&mut Allows(at(START))) else {
        panic!("a request")
    };
    reconciliation.record(&step, Answer::Unsent { has_permit, has_credentials }, at(START + 6));
    reconciliation
}

#[test]
fn a_request_that_waited_is_sent_with_credentials_that_are_read_again_where_they_were_dropped() {
    let mut kept = unsent(true, true);
    assert!(kept.s.has_permit);
    assert!(matches!(kept.next(&mut Allows(at(START + 6))), Progress::Call(Step::Request(_))));
    let mut dropped = unsent(true, false);
    let Progress::Call(step @ Step::ReadCredentials) = dropped.next(&mut Allows(at(START + 6))) else {
        panic!("a read")
    };
    let version = Version::new("credentials", "2");
    dropped.record(&step, Answer::Credentials(Some((version, Ok(7)))), at(START + 6));
    assert!(matches!(dropped.next(&mut Allows(at(START + 6))), Progress::Call(Step::Request(_))));
}

#[test]
fn a_request_that_lost_its_permit_while_it_waited_waits_for_another_one() {
    let mut lost = unsent(false, true);
    assert!(!lost.s.has_permit);
    assert!(matches!(lost.next(&mut Allows(at(START + 6))), Progress::Call(Step::Request(_))), "it got another one");
}

#[test]
fn a_request_of_a_resource_that_changed_while_it_waited_is_not_sent() {
    let mut changed = unsent(true, true);
    assert!(matches!(changed.next(&mut Changed(Allows(at(START + 6)))), Progress::Abandon(0)));
}
