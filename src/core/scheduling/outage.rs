//! Notices when a portal host works again, so that those that failed need not wait any longer.

use jiff::{SignedDuration, Timestamp};

use super::schedule::{after, shifted};

/// A host that failed for at least this long had an outage. Shorter ones leave short waits behind.
const LEAST_SECONDS: i64 = 30;
/// The ends of waits are this far apart: a host that keeps failing for some must not receive more requests because it works
/// for others.
const SPACING_SECONDS: i64 = 300;

/// How often one request tries a host that answers none, while a resource there has no valid token: in the first half hour,
/// and later.
const PROBE_SECONDS: i64 = 15;
const LATE_PROBE_SECONDS: i64 = 60;
const EARLY_SECONDS: i64 = 1800;

/// The failures of a host in a row.
#[derive(Clone, Debug)]
pub struct OutageMonitor<K> {
    /// Whose request failed first, and when.
    first: Option<(K, Timestamp)>,
    /// Requests for others failed, too: it is not one app that the portal cannot serve.
    several: bool,
    /// When the last request failed, or the last probe was due.
    tried_at: Option<Timestamp>,
    /// When the last outage ended.
    ended_at: Option<Timestamp>,
}

impl<K> Default for OutageMonitor<K> {
    fn default() -> Self {
        Self { first: None, several: false, tried_at: None, ended_at: None }
    }
}

/// Whether so much time has passed.
fn passed(seconds: i64, from: Timestamp, now: Timestamp) -> bool {
    now.duration_since(from) >= SignedDuration::from_secs(seconds)
}

impl<K: Clone + PartialEq> OutageMonitor<K> {
    /// Records a request that the host did not answer, or answered with a failure of its own.
    pub fn failed(&mut self, key: &K, now: Timestamp) {
        self.tried_at = Some(now);
        match &self.first {
            None => self.first = Some((key.clone(), now)),
            Some((first, _)) => self.several |= first != key,
        }
    }

    /// Records a success; returns whether it ends an outage.
    pub fn succeeded(&mut self, now: Timestamp) -> bool {
        let Some((_, since)) = self.first.take() else { return false };
        let several = std::mem::take(&mut self.several);
        let ended = several && passed(LEAST_SECONDS, since, now) && self.may_end(now);
        if ended {
            self.ended_at = Some(now);
        }
        ended
    }

    /// Returns from when on one request tries the host, whatever the waits; `None` while it does not fail.
    #[must_use]
    pub fn probe_at(&self) -> Option<Timestamp> {
        let (_, since) = self.first.as_ref()?;
        let tried_at = self.tried_at?;
        let early = !passed(EARLY_SECONDS, *since, tried_at);
        Some(after(tried_at, if early { PROBE_SECONDS } else { LATE_PROBE_SECONDS }))
    }

    /// Whether one request is to try the host now; the next one follows later.
    pub fn take_probe(&mut self, now: Timestamp) -> bool {
        let due = self.probe_at().is_some_and(|at| at <= now);
        if due {
            self.tried_at = Some(now);
        }
        due
    }

    /// Whether nothing has to be kept.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.first.is_none() && self.may_end(now)
    }

    /// Whether the last outage ended long enough ago.
    fn may_end(&self, now: Timestamp) -> bool {
        self.ended_at.is_none_or(|ended_at| passed(SPACING_SECONDS, ended_at, now))
    }

    /// Moves the times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        let first = self.first.as_mut().map(|(_, at)| at);
        for time in [first, self.tried_at.as_mut(), self.ended_at.as_mut()].into_iter().flatten() {
            *time = shifted(*time, step);
        }
    }
}
