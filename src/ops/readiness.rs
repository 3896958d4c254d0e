//! Liveness and readiness: whether the loop runs, and what it waits for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The loop runs every few seconds: after a minute without it, the process is not alive.
const STANDSTILL: Duration = Duration::from_mins(1);

struct State {
    pending: BTreeMap<String, &'static str>,
    failing: BTreeMap<String, &'static str>,
    beat: Option<Instant>,
}

/// Written by the controller, read by the probes.
pub struct Readiness(Mutex<State>);

impl Default for Readiness {
    fn default() -> Self {
        let pending = BTreeMap::from([("controller".to_owned(), "starting")]);
        Self(Mutex::new(State { pending, failing: BTreeMap::new(), beat: None }))
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

    /// Whether the loop runs.
    pub fn alive(&self) -> bool {
        self.lock().beat.is_none_or(|beat| beat.elapsed() < STANDSTILL)
    }
}
