//! Liveness and readiness: whether the loop runs, and what it waits for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The loop runs every few seconds: after a minute without it, the process is not alive.
const STANDSTILL: Duration = Duration::from_mins(1);

/// A list that takes longer, although the API server answers, does not end: a new process starts it again.
const LIST_DEADLINE: Duration = Duration::from_mins(10);
/// The API server answers if it has answered within this time.
const ANSWERS: Duration = Duration::from_mins(2);

struct List {
    started: Instant,
    /// The permission or the kind is missing: a new process would get no further.
    lasting: bool,
}

struct State {
    pending: BTreeMap<String, &'static str>,
    failing: BTreeMap<String, &'static str>,
    lists: BTreeMap<String, List>,
    answered: Option<Instant>,
    beat: Option<Instant>,
}

impl State {
    /// Returns the list that is stuck at `now`.
    fn stuck(&self, now: Instant) -> Option<&str> {
        let answers = self.answered.is_some_and(|at| now.saturating_duration_since(at) < ANSWERS);
        let overdue = |list: &List| !list.lasting && now.saturating_duration_since(list.started) > LIST_DEADLINE;
        self.lists.iter().find(|(_, list)| answers && overdue(list)).map(|(name, _)| name.as_str())
    }
}

/// Written by the controller, read by the probes.
pub struct Readiness(Mutex<State>);

impl Default for Readiness {
    fn default() -> Self {
        let pending = BTreeMap::from([("controller".to_owned(), "starting")]);
        Self(Mutex::new(State {
            pending,
            failing: BTreeMap::new(),
            lists: BTreeMap::new(),
            answered: None,
            beat: None,
        }))
    }
}

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the loop runs.
    pub fn beat(&self) {
        let mut state = self.lock();
        state.beat = Some(Instant::now());
    }

    /// Records what the process waits for; returns whether it was not recorded before.
    pub fn waiting(&self, what: &str, why: &'static str) -> bool {
        let mut state = self.lock();
        state.pending.remove("controller");
        state.pending.insert(what.to_owned(), why).is_none()
    }

    /// Records that it waits no longer for this.
    pub fn satisfied(&self, what: &str) {
        let mut state = self.lock();
        state.pending.remove(what);
        state.failing.remove(what);
        state.lists.remove(what);
    }

    /// Records a failing watch; returns whether the reason is new.
    pub fn failing(&self, what: &str, why: &'static str, blocks: bool) -> bool {
        let mut state = self.lock();
        if blocks {
            state.pending.insert(what.to_owned(), why);
        }
        state.failing.insert(what.to_owned(), why) != Some(why)
    }

    /// Returns what the process waits for, one line each; `None` when it is ready.
    pub fn pending(&self) -> Option<String> {
        let state = self.lock();
        let lines: Vec<String> =
            state.pending.iter().map(|(what, why)| format!("waiting for {what}: {why}\n")).collect();
        (!lines.is_empty()).then(|| lines.concat())
    }

    /// Records that a list begins. One that is tried again began with its first attempt.
    pub fn list_started(&self, what: &str) {
        let list = || List { started: Instant::now(), lasting: false };
        self.lock().lists.entry(what.to_owned()).or_insert_with(list);
    }

    /// Records that a list failed; `lasting`: until an administrator acts.
    pub fn list_failed(&self, what: &str, lasting: bool) {
        if let Some(list) = self.lock().lists.get_mut(what) {
            // What an administrator has resolved gets the whole time.
            if list.lasting && !lasting {
                list.started = Instant::now();
            }
            list.lasting = lasting;
        }
    }

    /// Records that the API server answered.
    pub fn api_answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    /// Returns why the process should be restarted; `None` while it works.
    pub fn stuck(&self) -> Option<String> {
        let state = self.lock();
        if state.beat.is_some_and(|beat| beat.elapsed() >= STANDSTILL) {
            return Some("the event loop does not run\n".to_owned());
        }
        state.stuck(Instant::now()).map(|list| format!("the list of {list} does not end\n"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    /// Whether a list is stuck that began 11 minutes ago.
    fn stuck(answered: Option<u64>, lasting: bool) -> bool {
        let readiness = Readiness::default();
        readiness.list_started("secrets");
        readiness.list_failed("secrets", lasting);
        readiness.list_started("secrets");
        let now = Instant::now() + Duration::from_mins(11);
        let mut state = readiness.lock();
        state.answered = answered.map(|seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap());
        state.stuck(now).is_some()
    }

    #[test]
    fn a_loop_that_stands_still_for_a_minute_is_stuck() {
        let readiness = Readiness::default();
        assert_eq!(readiness.stuck(), None, "it has not started");
        readiness.beat();
        assert_eq!(readiness.stuck(), None);
        readiness.lock().beat = Instant::now().checked_sub(STANDSTILL);
        assert!(readiness.stuck().is_some_and(|why| why.contains("event loop")));
    }

    #[test]
    fn a_list_that_does_not_end_is_stuck_only_while_the_api_server_answers() {
        assert!(stuck(Some(10), false));
        assert!(!stuck(Some(300), false), "the API server is down");
        assert!(!stuck(None, false));
        assert!(!stuck(Some(10), true), "a missing permission is not resolved by a restart");
    }

    #[test]
    fn a_list_that_lacked_its_permission_for_an_hour_is_not_stuck_with_the_next_other_failure() {
        let readiness = Readiness::default();
        readiness.list_started("secrets");
        readiness.list_failed("secrets", true);
        let hour_ago = Instant::now().checked_sub(Duration::from_hours(1)).unwrap();
        readiness.lock().lists.get_mut("secrets").unwrap().started = hour_ago;
        readiness.api_answered();
        readiness.list_failed("secrets", false);
        assert_eq!(readiness.stuck(), None, "one refused connection");
    }
}
