//! Who gets a worker.

use super::*;

const EARLY: Priority = Some(jiff::Timestamp::UNIX_EPOCH);

/// A pool with one worker, in use, for which these wait to go on, in this order.
fn busy(waiting: impl IntoIterator<Item = (u32, Priority)>) -> WorkerPool<u32> {
    let mut pool = WorkerPool::new(1);
    assert!(pool.try_start(true));
    pool.try_start(false);
    waiting.into_iter().for_each(|(key, priority)| pool.wait_to_resume(key, priority));
    pool
}

/// Frees the worker so many times; returns who got it: a key that goes on, or `None` for a start.
fn turns(pool: &mut WorkerPool<u32>, starts_wait: bool, times: usize) -> Vec<Option<u32>> {
    let mut turn = || {
        pool.release();
        let resumed = pool.resume();
        assert!(resumed.is_some() || pool.try_start(starts_wait), "no worker is left over");
        // What follows in the queue is not started without a worker.
        assert!(!pool.try_start(starts_wait));
        resumed
    };
    (0..times).map(|_| turn()).collect()
}

#[test]
fn a_start_and_a_reconcile_that_goes_on_take_workers_by_turns() {
    let mut pool = busy((1..=64).map(|key| (key, EARLY)));
    pool.try_start(true);
    assert_eq!(turns(&mut pool, true, 6), [Some(1), None, Some(2), None, Some(3), None]);
    pool.try_start(false);
    assert_eq!(turns(&mut pool, false, 3), [Some(4), Some(5), Some(6)], "nothing waits to be started");
}

#[test]
fn of_those_that_go_on_one_without_a_published_token_waits_for_one_other() {
    let mut pool = busy((1..=64).map(|key| (key, EARLY)).chain([(100, None), (101, None)]));
    assert_eq!(turns(&mut pool, false, 5), [Some(1), Some(100), Some(2), Some(101), Some(3)]);
}

#[test]
fn a_start_that_waits_no_longer_keeps_no_worker_from_others() {
    let mut pool = busy([(1, None), (2, None)]);
    pool.try_start(true);
    assert_eq!(turns(&mut pool, true, 1), [Some(1)]);
    pool.release();
    assert_eq!((pool.resume(), pool.may_start()), (None, true), "it is the turn of the start");
    assert!(!pool.try_start(false));
    assert_eq!((pool.resume(), pool.may_start()), (Some(2), false));
}

#[test]
fn who_goes_on_passes_nobody_by() {
    let mut pool = busy([(1, None)]);
    pool.release();
    assert!(!pool.try_resume(), "another waits");
    assert_eq!(pool.resume(), Some(1));
    pool.release();
    assert!(pool.try_resume());
    pool.try_start(true);
    pool.release();
    assert!(!pool.try_resume(), "a start waits");
    assert!(pool.try_start(true));
}
