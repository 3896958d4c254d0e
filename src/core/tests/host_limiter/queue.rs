//! Who waits for a permit of a host.

use super::super::*;

/// A host with eight requests in flight and eight prepared.
pub(in crate::core::tests) fn busy() -> HostQueue<i64> {
    let mut host = HostQueue::default();
    for key in 1000..1016 {
        assert_eq!(host.try_prepare(&key, at(0)), Admit::Now);
        let turn = if key < 1008 { Turn::Now } else { Turn::Later };
        assert_eq!(host.limiter.try_send(host.limiter.epoch(), at(0)), turn);
    }
    host
}

/// Ends a request. One that was prepared takes its turn, and those that wait and may try are woken.
pub(in crate::core::tests) fn end(host: &mut HostQueue<i64>, outcome: Outcome, now: Timestamp) -> Vec<i64> {
    host.release(None, host.limiter.epoch(), outcome, now);
    host.limiter.try_send(host.limiter.epoch(), now);
    host.wake_waiting(usize::MAX)
}

#[test]
fn eight_requests_are_in_flight_and_eight_more_prepared() {
    let mut host = busy();
    assert_eq!(host.try_prepare(&1, at(0)), Admit::AtCapacity);
    host.limiter.forgo(host.limiter.epoch());
    assert_eq!(host.try_prepare(&1, at(0)), Admit::Now, "one that is not sent makes room");
    assert_eq!(host.try_prepare(&2, at(0)), Admit::AtCapacity);
    host.release(None, host.limiter.epoch(), Outcome::Issued, at(1));
    assert_eq!(host.try_prepare(&2, at(1)), Admit::AtCapacity, "the one that ended was not prepared any more");
    assert_eq!(host.limiter.try_send(host.limiter.epoch(), at(1)), Turn::Now);
    assert_eq!(host.try_prepare(&2, at(1)), Admit::Now);
}

#[test]
fn a_resource_with_a_permit_leaves_the_queue() {
    let mut host = busy();
    assert_eq!(host.enqueue(Some(at(10)), 8, at(0)), None);
    assert_eq!(host.enqueue(Some(at(20)), 9, at(0)), None);
    assert_eq!(host.enqueue(Some(at(30)), 9, at(0)), None);
    host.limiter.forgo(host.limiter.epoch());
    assert_eq!(host.try_prepare(&8, at(1)), Admit::Now);
    assert!(!host.is_idle(at(2)));
    assert_eq!(end(&mut host, Outcome::Issued, at(2)), [9]);
    assert!((0..7).all(|_| end(&mut host, Outcome::Issued, at(2)).is_empty()));
    (0..8).for_each(|_| host.limiter.release(host.limiter.epoch(), Outcome::Issued, at(2)));
    assert!(host.is_idle(at(2)), "no state is left");
}

#[test]
fn as_many_waiters_proceed_as_there_are_permits() {
    let mut host = busy();
    (8..30).for_each(|key| assert_eq!(host.enqueue(Some(at(100 - key)), key, at(0)), None));
    assert_eq!(end(&mut host, Outcome::Issued, at(1)), [29], "the first to expire");
    assert_eq!(end(&mut host, Outcome::Issued, at(1)), [28], "the one that was woken is expected to take its permit");
    assert_eq!(host.try_prepare(&29, at(1)), Admit::Now);
    assert!(host.wake_waiting(usize::MAX).is_empty());
    assert_eq!(end(&mut host, Outcome::Limited(60), at(1)), [27], "it is woken and finds the host paused");
    (0..7).for_each(|_| host.limiter.forgo(Epoch::default()));
    assert_eq!(end(&mut host, Outcome::Issued, at(2)), [26, 25, 24, 23, 22, 21]);
}

#[test]
fn a_host_is_idle_when_no_state_is_left() {
    let mut host = HostQueue::default();
    assert!(host.is_idle(at(2)));
    assert_eq!(host.try_prepare(&1, at(0)), Admit::Now);
    assert!(!host.is_idle(at(2)), "a request is prepared");
    assert_eq!(host.limiter.try_send(host.limiter.epoch(), at(0)), Turn::Now);
    assert!(!host.is_idle(at(2)), "a request is in flight");
    assert!(end(&mut host, Outcome::Limited(60), at(0)).is_empty());
    assert!(!host.is_idle(at(2)), "it asked for a pause");
    assert_eq!(host.try_prepare(&1, at(60)), Admit::Now);
    assert_eq!(host.enqueue(None, 2, at(60)), None);
    assert_eq!(host.limiter.try_send(host.limiter.epoch(), at(60)), Turn::Now);
    host.limiter.release(host.limiter.epoch(), Outcome::Issued, at(61));
    assert!(!host.is_idle(at(2)), "a resource waits");
}

#[test]
fn a_waiter_that_forgoes_its_permit_passes_it_to_the_next() {
    let mut host = busy();
    (8..12).for_each(|key| assert_eq!(host.enqueue(Some(at(key)), key, at(0)), None));
    assert_eq!(host.pass_on(&8, at(0)), None, "it was not woken");
    assert_eq!(end(&mut host, Outcome::Issued, at(1)), [8]);
    assert_eq!(host.pass_on(&8, at(1)), Some(9));
    assert_eq!(host.pass_on(&8, at(1)), None, "only once");
    assert_eq!(host.try_prepare(&9, at(1)), Admit::Now);
    assert_eq!(host.pass_on(&9, at(2)), None, "it used its permit");
    assert_eq!(end(&mut host, Outcome::Issued, at(2)), [10]);
    assert_eq!(host.try_prepare(&99, at(2)), Admit::Now, "a resource that was not queued takes the permit");
    assert_eq!(host.pass_on(&10, at(2)), None, "no permit is left");
    assert_eq!(end(&mut host, Outcome::Issued, at(3)), [11]);
    assert_eq!(host.try_prepare(&98, at(3)), Admit::Now);
    assert_eq!(host.enqueue(Some(at(11)), 11, at(3)), None, "it came too late and waits again");
    assert_eq!(host.pass_on(&11, at(3)), None);
}
