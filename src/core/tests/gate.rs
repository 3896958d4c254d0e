//! What one host may be asked for.

use super::*;

#[test]
fn a_host_that_asked_for_a_pause_is_probed_by_one() {
    let mut gate = Gate::default();
    assert_eq!(gate.enter(at(0)), Entry::Go);
    gate.leave(Outcome::Limited(90), at(1));
    assert_eq!(gate.look(at(2)), Entry::Held(at(91)));
    assert_eq!(gate.enter(at(91)), Entry::Go);
    assert_eq!(gate.enter(at(91)), Entry::Busy);
    gate.leave(Outcome::Issued, at(92));
    assert!((0..8).all(|_| gate.enter(at(92)) == Entry::Go));
    assert_eq!(gate.enter(at(92)), Entry::Busy);
}

#[test]
fn whoever_got_a_place_no_longer_waits_for_one() {
    let mut host = Host::default();
    assert!((0..8).all(|key| host.enter(&key, at(0)) == Entry::Go));
    assert_eq!(host.queue(Some(at(10)), 8, at(0)), None);
    assert_eq!(host.queue(Some(at(20)), 9, at(0)), None);
    assert_eq!(host.queue(Some(at(30)), 9, at(0)), None);
    host.gate.leave(Outcome::Issued, at(1));
    assert_eq!(host.enter(&8, at(1)), Entry::Go);
    assert!(!host.idle());
    assert_eq!(host.leave(Outcome::Issued, at(2)), [9]);
    assert!(host.leave(Outcome::Issued, at(2)).is_empty());
    (0..6).for_each(|_| assert!(host.leave(Outcome::Issued, at(2)).is_empty()));
    assert!(host.idle(), "and nothing of it is kept");
}

#[test]
fn a_pause_that_ended_while_nobody_ran_is_followed_by_one_request() {
    let mut gate = Gate::default();
    gate.recall(at(90), at(400));
    assert_eq!(gate.enter(at(400)), Entry::Go);
    assert_eq!(gate.enter(at(400)), Entry::Busy);
    gate.leave(Outcome::Limited(60), at(401));
    gate.recall(at(9000), at(402));
    assert_eq!(gate.look(at(402)), Entry::Held(at(702)));
}

#[test]
fn a_host_that_goes_on_saying_429_is_asked_at_most_twice_in_five_minutes() {
    let mut gate = Gate::default();
    let mut sent = Vec::new();
    for second in 0..7200 {
        if gate.enter(at(second)) == Entry::Go {
            sent.push(second);
            gate.leave(Outcome::Limited(60), at(second));
        }
    }
    assert!(sent.windows(3).skip(2).all(|three| three[2] - three[0] > 300), "{sent:?}");
}
