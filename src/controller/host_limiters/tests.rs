//! Limits over all hosts, and the turns of what was prepared.

#![allow(clippy::unwrap_used, reason = "a test may")]
use futures::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::core::Outcome;

fn key(host: usize, n: usize) -> Key {
    Key::new(format!("host-{host}"), format!("{n}"))
}

fn limiters() -> (HostLimiters, UnboundedReceiver<Key>) {
    let (requeue, requeued) = unbounded_channel();
    (HostLimiters::new(requeue, unbounded_channel().0, || Timestamp::UNIX_EPOCH), requeued)
}

fn prepared<'a>(limiters: &'a HostLimiters, host: &str, key: &Key) -> RequestPermit<'a> {
    limiters.try_prepare(host, key).map_err(drop).unwrap()
}

/// Eight hosts with eight requests each in flight, and as many prepared.
fn fill(limiters: &HostLimiters) -> (Vec<RequestPermit<'_>>, Vec<RequestPermit<'_>>) {
    let mut all = (0..128).map(|n| {
        let host = n % 64 / 8;
        let mut permit = prepared(limiters, &format!("host-{host}"), &key(host, n));
        assert_eq!(permit.turn().now_or_never(), (n < 64).then_some(true));
        permit
    });
    (all.by_ref().take(64).collect(), all.collect())
}

fn names(requeued: &mut UnboundedReceiver<Key>) -> Vec<String> {
    std::iter::from_fn(|| requeued.try_recv().ok()).map(|key| format!("{}/{}", key.namespace(), key.name())).collect()
}

#[test]
fn at_most_64_requests_are_in_flight_and_as_many_prepared_and_hosts_that_wait_are_served_by_turns() {
    let (limiters, mut requeued) = limiters();
    let (mut in_flight, mut waiting) = fill(&limiters);
    for host in [8, 9] {
        let name = format!("host-{host}");
        assert_eq!(limiters.check(&name), Admit::AtCapacity);
        for n in 0..3 {
            assert_eq!(limiters.try_prepare(&name, &key(host, n)).err(), Some(Admit::AtCapacity));
            limiters.enqueue(&name, None, key(host, n));
        }
        assert!(limiters.try_verify(&name).unwrap().is_in_flight(), "a check of a token is none");
    }
    limiters.enqueue("host-0", None, key(0, 200));
    assert!(names(&mut requeued).is_empty());
    let mut order = Vec::new();
    for _ in 0..7 {
        in_flight.remove(0).release(Outcome::Issued);
        let mut next = waiting.remove(0);
        assert_eq!(next.turn().now_or_never(), Some(true), "the one of this host that came first");
        in_flight.push(next);
        let woken = names(&mut requeued);
        assert_eq!(woken.len(), 1, "one for each: {woken:?}");
        let (host, n) = woken[0].split_once('/').unwrap();
        let mut permit = prepared(&limiters, host, &Key::new(host, n));
        assert_eq!(permit.turn().now_or_never(), None, "64 are in flight");
        waiting.push(permit);
        order.push(woken[0].clone());
    }
    order.sort_by_key(|name| name.split_once('/').unwrap().1.parse::<usize>().unwrap());
    assert_eq!(order, ["host-8/0", "host-9/0", "host-8/1", "host-9/1", "host-8/2", "host-9/2", "host-0/200"]);
    assert_eq!(limiters.check("host-8"), Admit::AtCapacity);
}

#[test]
fn room_that_a_resource_does_not_use_goes_to_another_host() {
    let (limiters, mut requeued) = limiters();
    let (_in_flight, mut waiting) = fill(&limiters);
    for host in [8, 9] {
        limiters.enqueue(&format!("host-{host}"), None, key(host, 0));
    }
    drop(waiting.pop());
    assert_eq!(names(&mut requeued), ["host-8/0"]);
    limiters.pass_on(&key(8, 0));
    assert_eq!(names(&mut requeued), ["host-9/0"]);
}

#[test]
fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
    let (limiters, _requeued) = limiters();
    let (mut in_flight, mut waiting) = fill(&limiters);
    let (gone, mut next) = (waiting.remove(0), waiting.remove(0));
    drop(gone);
    in_flight.remove(0).release(Outcome::Issued);
    assert_eq!(next.turn().now_or_never(), Some(true));
    // Its turn comes, and it is dropped before it learns of that.
    let (granted, mut next) = (waiting.remove(0), waiting.remove(0));
    in_flight.remove(0).release(Outcome::Issued);
    assert_eq!(next.turn().now_or_never(), None);
    drop(granted);
    assert_eq!(next.turn().now_or_never(), Some(true));
}

#[test]
fn after_a_429_nothing_that_waits_at_the_host_is_sent() {
    let (limiters, _requeued) = limiters();
    let (mut in_flight, mut waiting) = fill(&limiters);
    let verification = limiters.try_verify("host-0").map_err(drop).unwrap();
    waiting.insert(0, verification);
    in_flight.remove(0).release(Outcome::Limited(60));
    let turns: Vec<_> = waiting.iter_mut().map(|permit| permit.turn().now_or_never()).collect();
    assert_eq!(turns[..9], [Some(false); 9]);
    assert_eq!(turns[9..], [None; 56], "the other hosts have eight requests in flight");
    assert!(matches!(limiters.check("host-0"), Admit::PausedUntil(_)));
}

#[test]
fn at_most_eight_verifications_wait_at_a_host_and_each_has_its_turn_among_the_requests() {
    let (limiters, _requeued) = limiters();
    let (mut in_flight, mut waiting) = fill(&limiters);
    let verify = || limiters.try_verify("host-0");
    let mut checks: Vec<_> = (0..8).map(|_| verify().map_err(drop).unwrap()).collect();
    assert_eq!(verify().err(), Some(Admit::AtCapacity));
    assert!(checks.iter_mut().all(|check| check.turn().now_or_never().is_none()));
    // The 8 requests of the host that were prepared before have theirs first.
    for _ in 0..8 {
        in_flight.remove(0).release(Outcome::Issued);
        assert_eq!(waiting[0].turn().now_or_never(), Some(true));
        in_flight.push(waiting.remove(0));
    }
    in_flight.remove(56).release(Outcome::Issued);
    assert_eq!(checks.remove(0).turn().now_or_never(), Some(true));
    assert_eq!(checks[0].turn().now_or_never(), Some(true), "the one before it has ended");
    assert!(verify().is_ok(), "there is room for another one to wait");
}

#[test]
fn a_resource_that_waits_at_two_hosts_takes_the_place_of_no_other() {
    let (limiters, mut requeued) = limiters();
    let moved = key(9, 9);
    let mut all: Vec<_> = (0..16).map(|n| prepared(&limiters, &format!("host-{}", n / 8), &key(n / 8, n))).collect();
    for host in [0, 1] {
        limiters.enqueue(&format!("host-{host}"), None, moved.clone());
        limiters.enqueue(&format!("host-{host}"), None, key(host, 20));
    }
    drop(all.remove(0));
    assert_eq!(names(&mut requeued), ["host-9/9"]);
    drop(all.pop());
    assert_eq!(names(&mut requeued), ["host-0/20", "host-9/9"], "the first host does not wait for it any more");
    let _of_the_second = prepared(&limiters, "host-1", &moved);
    limiters.pass_on(&moved);
    let _of_the_first = prepared(&limiters, "host-0", &key(0, 20));
    (0..7).for_each(|n| limiters.enqueue("host-0", None, key(0, 30 + n)));
    for _ in 0..7 {
        drop(all.remove(0));
        assert_eq!(names(&mut requeued).len(), 1, "each has room at the first host");
    }
}
