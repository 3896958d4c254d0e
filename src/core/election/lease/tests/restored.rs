//! A Lease that lacks what was written to it, whatever its version is.

use super::*;

/// The Lease as another writer leaves it: a higher version, and an annotation.
fn touched(store: &mut Store, lease: Lease) -> Lease {
    let mut lease = lease;
    lease.metadata.annotations = Some([("touched".to_owned(), "yes".to_owned())].into());
    store.put(lease)
}

#[test]
fn a_lease_without_the_last_renewal_was_undone() {
    let (mut store, mut a, mut b) = leader_and_standby();
    let before = store.lease.clone().unwrap();
    a.advance(2);
    a.try_acquire_or_renew(&mut store);
    b.try_acquire_or_renew(&mut store);
    let current = store.lease.clone().unwrap();
    let touch = touched(&mut store, current);
    assert!(!a.candidate.undone(&touch) && !b.candidate.undone(&touch), "the renewal is in it");
    let restored = touched(&mut store, before);
    assert!(a.candidate.undone(&restored) && b.candidate.undone(&restored));
    a.try_acquire_or_renew(&mut store);
    assert!(a.leads(), "its term goes on");
    assert!(!a.candidate.undone(&store.lease.clone().unwrap()), "it is noticed once");
}

#[test]
fn a_lease_without_the_last_change_of_holder_was_undone() {
    let (mut store, a, mut b) = leader_and_standby();
    let before = store.lease.clone().unwrap();
    b.advance(10);
    b.try_acquire_or_renew(&mut store);
    assert!(b.leads());
    assert!(!a.candidate.undone(store.lease.as_ref().unwrap()), "another replica took it");
    assert!(b.candidate.undone(&touched(&mut store, before)));
}

#[test]
fn another_lease_and_a_first_one_undo_nothing() {
    let (mut store, mut a, _) = leader_and_standby();
    let mut other = store.lease.clone().unwrap();
    a.advance(2);
    a.try_acquire_or_renew(&mut store);
    other.metadata.uid = Some("created again".to_owned());
    assert!(!a.candidate.undone(&other));
    assert!(!Candidate::new("c".to_owned()).undone(&other));
}
