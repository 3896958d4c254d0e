//! Three processes with any interleaving of events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize),
    TryAcquireOrRenew(usize),
    TimeOut(usize),
    LateWrite,
    Advance(u64),
    /// One process's machine is suspended while time goes on for the others.
    Suspend(usize, u64),
    Release(usize),
    Edit(usize),
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3_usize).prop_map(Event::Step),
        8 => (0..3_usize).prop_map(Event::TryAcquireOrRenew),
        2 => (0..3_usize).prop_map(Event::TimeOut),
        1 => Just(Event::LateWrite),
        6 => (1..4000_u64).prop_map(Event::Advance),
        1 => (1..15_000_u64).prop_map(Event::Advance),
        1 => (0..3_usize, 1..20_000_u64).prop_map(|(who, ms)| Event::Suspend(who, ms)),
        1 => (0..3_usize).prop_map(Event::Release),
        1 => (0..5_usize).prop_map(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

const NAMES: [&str; 5] = ["a", "b", "c", "unknown", ""];

fn perform(event: Event, all: &mut [Process], store: &mut Store, late: &mut Vec<Next>) {
    match event {
        Event::Step(who) => all[who].step(store),
        Event::TryAcquireOrRenew(who) => all[who].try_acquire_or_renew(store),
        Event::TimeOut(who) => all[who].time_out(late),
        Event::LateWrite => {
            late.pop().map(|next| serve(store, &next));
        }
        Event::Advance(ms) => all.iter_mut().for_each(|process| process.clock.advance(ms, false)),
        Event::Suspend(who, ms) => {
            (0..3).for_each(|n| all[n].clock.advance(ms, n == who));
        }
        Event::Release(who) => release(who, all, store),
        Event::Edit(holder) => store.edit(NAMES[holder]),
        Event::Delete => {
            store.lease = None;
            // Only a creation that arrives after a deletion by a user is not protected by a resourceVersion.
            late.retain(|next| matches!(next, Next::Replace(_)));
        }
    }
}

/// A process that releases the Lease has finished its work and exits. A Lease that a user has just deleted is skipped: a
/// starting process cannot distinguish it from one that never existed.
fn release(who: usize, all: &mut [Process], store: &mut Store) {
    if store.lease.is_some()
        && let Some(lease) = all[who].candidate.release(all[who].clock.now())
    {
        let clock = all[who].clock;
        all[who] = Process { clock, ..Process::new(NAMES[who], 0) };
        let _ = store.replace(&lease);
        all[who].try_acquire_or_renew(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn at_most_one_process_leads_and_eventually_one_does(
        skews in [-1_000_000_i64..1_000_000, -1_000_000_i64..1_000_000, -1_000_000_i64..1_000_000],
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut store = Store::default();
        let mut all: Vec<Process> = (0..3).map(|n| Process::new(NAMES[n], skews[n])).collect();
        for process in &mut all {
            process.try_acquire_or_renew(&mut store);
        }
        let mut late = Vec::new();
        for event in events {
            perform(event, &mut all, &mut store, &mut late);
            let leaders: Vec<_> = (0..3).filter(|n| all[*n].leads()).map(|n| NAMES[n]).collect();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead while the lease names {:?}", store.holder());
        }
        for _ in 0..30 {
            for process in &mut all {
                process.advance(1);
                process.call = None;
                process.try_acquire_or_renew(&mut store);
            }
        }
        prop_assert_eq!(all.iter().filter(|process| process.leads()).count(), 1);
    }
}
