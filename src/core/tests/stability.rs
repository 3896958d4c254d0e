//! Eventually stable reconciliation: from any state, after the last fault, the target becomes right within a bound, and then
//! nothing is requested or written until the next renewal. The process may stop between any two calls.

use proptest::test_runner::RngSeed;

use super::*;
use crate::core::scheduling::schedule::after;

mod states;
mod world;

use states::starts;
use world::World;

/// An exchange takes this long.
const EXCHANGE_SECONDS: i64 = 10;
/// The longest wait of an hour with its jitter, a wait of a quarter of an hour after it, and a pause.
const BOUND_SECONDS: i64 = 2 * 3600 + 1800;

/// The same 100 states in each run of the tests; other and more ones where the simulation runs in full.
fn config() -> ProptestConfig {
    let default = ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() };
    if std::env::var_os("SIMULATE").is_some_and(|run| run == "full") {
        return ProptestConfig { cases: 5000, ..default };
    }
    ProptestConfig { cases: 100, rng_seed: RngSeed::Fixed(1), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_target_becomes_right_and_then_nothing_is_written_until_its_renewal(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right), "not right within the bound: {:?}\n{:?}", world.log, world.status);
        // A restart finds it right, too.
        world.run(after(world.now, 1), |_| false);
        world.log.clear();
        (world.memory, world.wake, world.due, world.last_exchange) = (Memory::default(), world.now, None, None);
        let before = world.status.clone();
        world.run(after(world.now, 1), |_| false);
        prop_assert!(world.log.is_empty(), "after a restart: {:?} {before:?} {:?}", world.log, world.status);
        // What is right stays as it is until the renewal. Then one request, one write of the target and one of the status.
        for _ in 0..2 {
            // An answer of the verification may still be reported.
            let settled = after(world.now, 1);
            world.run(settled, |_| false);
            let renewal = world.status.token.as_ref().unwrap().renewal_time;
            world.log.clear();
            world.run(after(renewal, -1), |_| false);
            prop_assert!(world.log.is_empty(), "before the renewal at {renewal}: {:?}", world.log);
            // The minimum spacing counts from the end of the exchange.
            world.run(after(renewal, EXCHANGE_SECONDS + 3), |_| false);
            let kinds: Vec<_> = world.log.iter().map(|(_, what)| *what).collect();
            prop_assert_eq!(&kinds, &["request", "publish", "status"]);
            prop_assert!(world.is_right());
        }
    }

    #[test]
    fn repairs_of_a_contested_target_are_limited(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right));
        world.log.clear();
        let end = after(world.now, 600);
        while world.now < end {
            world.version += 1;
            if let Some(secret) = &mut world.target {
                secret.metadata.labels.get_or_insert_default().insert("team".to_owned(), "others".to_owned());
                secret.metadata.resource_version = Some(world.version.to_string());
            }
            world.wake = world.now;
            world.run(after(world.now, 7), |_| false);
        }
        let renders = world.log.iter().filter(|(_, what)| *what == "render").count();
        prop_assert!((3..=14).contains(&renders), "{renders} repairs in 10 minutes: {:?}", world.log);
    }

    #[test]
    fn stripped_annotations_request_no_token_before_the_renewal(start in starts(), every in 10..60_i64) {
        // Where the CRD drops the digest, a process that has just started does not know the token.
        let mut world = World { older_crd: false, ..start.world() };
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right));
        world.run(after(world.now, 1), |_| false);
        world.requested_at.clone_from(&world.status.last_handled_request);
        let renewal = world.status.token.as_ref().unwrap().renewal_time;
        let (begin, end) = (world.now, after(world.now, 1200).min(after(renewal, -1)));
        world.log.clear();
        let mut restarted = false;
        while world.now < end {
            world.strip();
            if !restarted && world.now >= after(begin, 600) {
                (world.memory, restarted) = (Memory::default(), true);
            }
            world.run(after(world.now, every).min(end), |_| false);
            prop_assert!(world.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        }
        let writes: Vec<_> = world.log.iter().filter(|(_, what)| *what != "status").collect();
        prop_assert!(writes.iter().all(|(_, what)| *what == "render"), "{:?}", world.log);
        prop_assert!((3..=16).contains(&writes.len()) || end < after(begin, 1200), "{writes:?}");
    }

    #[test]
    fn a_requested_token_is_requested_five_seconds_after_the_last(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right));
        world.requested_at = Some("again".to_owned());
        // A state may begin with a request a moment ago, and a process with a token of a clock that was ahead.
        let last = world.last_exchange.map_or(world.started, |(ended, _)| ended);
        let due = after(last, 5).max(world.now);
        (world.due, world.verification, world.wake) = (None, None, world.now);
        world.log.clear();
        world.run(after(due, 2), |_| false);
        let requested = world.log.iter().filter(|(_, what)| *what == "request").count();
        prop_assert_eq!(requested, 1, "{:?}", world.log);
        prop_assert_eq!(world.status.last_handled_request.as_deref(), Some("again"));
    }
}
