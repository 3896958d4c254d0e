//! Three processes in any order of events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Step(usize),
    Round(usize),
    GiveUp(usize),
    Arrive,
    Pass(u64),
    /// One process's machine sleeps while time goes on for the others.
    Sleep(usize, u64),
    Release(usize),
    Edit(usize),
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3_usize).prop_map(Event::Step),
        8 => (0..3_usize).prop_map(Event::Round),
        2 => (0..3_usize).prop_map(Event::GiveUp),
        1 => Just(Event::Arrive),
        6 => (1..4000_u64).prop_map(Event::Pass),
        1 => (1..15_000_u64).prop_map(Event::Pass),
        1 => (0..3_usize, 1..20_000_u64).prop_map(|(who, ms)| Event::Sleep(who, ms)),
        1 => (0..3_usize).prop_map(Event::Release),
        1 => (0..5_usize).prop_map(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

const NAMES: [&str; 5] = ["a", "b", "c", "stranger", ""];

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
            process.round(&mut store);
        }
        let mut late = Vec::new();
        for event in events {
            match event {
                Event::Step(who) => all[who].step(&mut store),
                Event::Round(who) => all[who].round(&mut store),
                Event::GiveUp(who) => all[who].give_up(&mut late),
                Event::Arrive => {
                    late.pop().map(|next| serve(&mut store, &next));
                }
                Event::Pass(ms) => all.iter_mut().for_each(|process| process.clock.pass(ms, false)),
                Event::Sleep(who, ms) => {
                    (0..3).for_each(|n| all[n].clock.pass(ms, n == who));
                }
                Event::Release(who) => {
                    // A process that releases has ended its work, and ends. One that starts must be able to tell a
                    // Lease that a person has just deleted from one that never was: it cannot.
                    if store.lease.is_some()
                        && let Some(lease) = all[who].candidate.release(all[who].clock.now()) {
                        let clock = all[who].clock;
                        all[who] = Process { clock, ..Process::new(NAMES[who], 0) };
                        let _ = store.replace(&lease);
                        all[who].round(&mut store);
                    }
                }
                Event::Edit(holder) => store.edit(NAMES[holder]),
                Event::Delete => {
                    store.lease = None;
                    // A creation that arrives after a person's deletion is the one thing no version guards.
                    late.retain(|next| matches!(next, Next::Replace(_)));
                }
            }
            let leaders: Vec<_> = (0..3).filter(|n| all[*n].leads()).map(|n| NAMES[n]).collect();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead while the lease names {:?}", store.holder());
        }
        for _ in 0..30 {
            for process in &mut all {
                process.pass(1);
                process.call = None;
                process.round(&mut store);
            }
        }
        prop_assert_eq!(all.iter().filter(|process| process.leads()).count(), 1);
    }
}
