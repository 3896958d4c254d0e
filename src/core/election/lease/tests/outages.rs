//! What a claim outlasts.

use super::*;

#[test]
fn a_deleted_lease_stays_with_its_holder_and_others_acquire_it_only_after_expiry() {
    let (mut store, mut a, mut b) = leader_and_standby();
    let term = a.candidate.claim().unwrap().term;
    store.lease = None;
    b.try_acquire_or_renew(&mut store);
    assert!(!b.leads());
    a.try_acquire_or_renew(&mut store);
    assert!(a.leads() && a.candidate.claim().unwrap().term == term);
    store.lease = None;
    b.try_acquire_or_renew(&mut store);
    // This time the holder does not recreate it: another acquires it only after it must have expired.
    for (advance, leads) in [(5, false), (9, false), (1, true)] {
        b.advance(advance);
        b.try_acquire_or_renew(&mut store);
        assert_eq!(b.leads(), leads);
    }
}

#[test]
fn a_renewal_with_a_lost_response_keeps_the_term() {
    let (mut store, mut a, _) = leader_and_standby();
    let term = a.candidate.claim().unwrap().term;
    a.step(&mut store);
    a.step(&mut store);
    a.time_out(&mut Vec::new());
    a.advance(2);
    a.try_acquire_or_renew(&mut store);
    assert!(a.leads() && a.candidate.claim().unwrap().term == term);
}

#[test]
fn after_an_outage_the_holder_renews_first_and_keeps_its_term() {
    let (mut store, mut a, mut b) = leader_and_standby();
    let term = a.candidate.claim().unwrap().term;
    a.advance(60);
    b.advance(60);
    b.time_out(&mut Vec::new());
    b.try_acquire_or_renew(&mut store);
    assert!(!a.leads() && !b.leads());
    a.try_acquire_or_renew(&mut store);
    assert!(a.leads() && a.candidate.claim().unwrap().term == term);
}

#[test]
fn a_claim_expires_by_the_monotonic_clock_or_the_wall_clock() {
    let (_, mut a, _) = leader_and_standby();
    let (mut suspended, mut set_back) = (a.clock, a.clock);
    suspended.advance(8000, true);
    set_back.advance(8000, false);
    set_back.wall_ms -= 3_600_000;
    let claim = a.candidate.claim().unwrap();
    a.clock.advance(7999, false);
    assert!(claim.valid(a.clock.now()) && !claim.valid(suspended.now()) && !claim.valid(set_back.now()));
    assert!(Claim::ALWAYS.valid(suspended.now()));
}
