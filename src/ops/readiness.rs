//! Whether the operator works, and what it pending for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The loop comes round every few seconds: a minute without is a stand-still.
const STANDSTILL: Duration = Duration::from_mins(1);

struct State {
    pending: BTreeMap<String, &'static str>,
    failing: BTreeMap<String, &'static str>,
    beat: Option<Instant>,
}

/// Told by the controller, read by the probes.
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

    /// The loop is alive.
    pub fn beat(&self) {
        let mut state = self.lock();
        state.beat = Some(Instant::now());
    }

    /// Something has to be listed first; says whether that is news.
    pub fn waiting(&self, what: &str, why: &'static str) -> bool {
        let mut state = self.lock();
        state.pending.remove("controller");
        state.pending.insert(what.to_owned(), why).is_none()
    }

    /// It was listed.
    pub fn satisfied(&self, what: &str) {
        let mut state = self.lock();
        state.pending.remove(what);
        state.failing.remove(what);
    }

    /// A watch fails; says whether that is news.
    pub fn failing(&self, what: &str, why: &'static str, unlisted: bool) -> bool {
        let mut state = self.lock();
        if unlisted {
            state.pending.insert(what.to_owned(), why);
        }
        state.failing.insert(what.to_owned(), why) != Some(why)
    }

    /// What is waited for, one line each; `None` when ready.
    pub fn pending(&self) -> Option<String> {
        let state = self.lock();
        let lines: Vec<String> =
            state.pending.iter().map(|(what, why)| format!("waiting for {what}: {why}\n")).collect();
        (!lines.is_empty()).then(|| lines.concat())
    }

    /// Whether the loop still comes round.
    pub fn alive(&self) -> bool {
        self.lock().beat.is_none_or(|beat| beat.elapsed() < STANDSTILL)
    }
}
