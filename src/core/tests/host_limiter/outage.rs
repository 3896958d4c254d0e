//! What is known of an outage of a host.

use super::*;

fn send<K: Clone + std::hash::Hash + Ord>(host: &mut HostQueue<K>, key: &K, second: i64) {
    assert_eq!(host.try_prepare(key, at(second)), Admit::Now);
    assert_eq!(host.limiter.try_send(host.limiter.epoch(), at(second)), Turn::Now);
}

/// Whether the host recovers, after failures of these keys at these seconds, with a success at the last.
fn recovers(host: &mut HostQueue<u32>, failures: &[(u32, i64)], success: i64) -> bool {
    for (key, second) in failures {
        send(host, key, *second);
        assert!(!host.release(Some(key), host.limiter.epoch(), Outcome::Unavailable, at(*second)));
    }
    send(host, &0, success);
    host.release(Some(&0), host.limiter.epoch(), Outcome::Issued, at(success))
}

#[test]
fn a_success_after_an_outage_ends_the_waits_of_all_once_in_5_minutes() {
    let mut host = HostQueue::default();
    assert!(!recovers(&mut host, &[], 0), "it has not failed");
    assert!(recovers(&mut host, &[(1, 10), (2, 11)], 41));
    assert!(!recovers(&mut host, &[(1, 42), (2, 43)], 340), "soon after the last time");
    assert!(!host.is_idle(at(340)) && host.is_idle(at(341)));
    assert!(recovers(&mut host, &[(1, 341), (2, 342)], 371));
}

#[test]
fn a_failure_of_one_app_or_for_seconds_is_no_outage() {
    assert!(!recovers(&mut HostQueue::default(), &[(1, 10), (1, 70)], 100), "one app");
    assert!(!recovers(&mut HostQueue::default(), &[(1, 10), (2, 11)], 39), "29 s");
    let mut host = HostQueue::default();
    assert!(!recovers(&mut host, &[(1, 10)], 20));
    assert!(!recovers(&mut host, &[(2, 60)], 90), "a success in between");
}

#[test]
fn a_host_that_answers_no_request_is_tried_every_15_seconds_and_later_every_minute() {
    let mut host = HostQueue::default();
    let fail = |host: &mut HostQueue<i64>, now: i64| {
        send(host, &1, now);
        host.release(Some(&1), host.limiter.epoch(), Outcome::Unavailable, at(now));
    };
    assert_eq!(host.probe_at(), None, "it has not failed");
    fail(&mut host, 0);
    assert_eq!((host.probe_at(), host.take_probe(at(14))), (Some(at(15)), false));
    assert!(host.take_probe(at(15)) && !host.take_probe(at(16)), "one at a time");
    fail(&mut host, 20);
    assert_eq!(host.probe_at(), Some(at(35)), "a request of another resource tries it, too");
    fail(&mut host, 1800);
    assert_eq!(host.probe_at(), Some(at(1860)));
    send(&mut host, &1, 1860);
    host.release(Some(&1), host.limiter.epoch(), Outcome::Issued, at(1861));
    assert_eq!(host.probe_at(), None);
}
