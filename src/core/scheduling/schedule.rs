//! Due times: renewal, backoff, and the limit on repairs.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::api::Retry;
use crate::core::rare::Blank;

/// Every resource is reconciled at least this often.
pub const RESYNC_SECONDS: i64 = 600;
/// The minimum spacing of scheduled exchanges.
pub(crate) const FLOOR_SECONDS: i64 = 30;
/// The minimum spacing after a user's change, or when the target is missing or damaged.
pub(crate) const CHANGE_FLOOR_SECONDS: i64 = 5;
/// The minimum spacing after a failed exchange and a user's change.
pub(crate) const RETRY_FLOOR_SECONDS: i64 = 2;
/// A token issued further in the future is of a clock that was ahead.
pub(crate) const MAX_CLOCK_SKEW_SECONDS: i64 = 300;
const MIN_MARGIN_SECONDS: i64 = 300;
const REPAIR_WINDOW_SECONDS: i64 = 600;
/// Reads of a touched object that are not limited.
const FREE_TOUCHES: usize = 3;
const TOUCH_SECONDS: i64 = 10;
const FREE_REPAIRS: usize = 3;
const MAX_RETRY_AFTER_SECONDS: u64 = 3600;

/// Returns a number in [0, 1) that is the same for the same parts.
pub(crate) fn fraction(parts: &[&[u8]]) -> f64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let top = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(top) / 4_294_967_296.0
}

/// Moves a time after the clock was set by `step`.
#[must_use]
pub(crate) fn shifted(time: Timestamp, step: SignedDuration) -> Timestamp {
    let bound = if step.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(step).unwrap_or(bound)
}

/// Returns `start` plus seconds, at most the largest timestamp.
#[must_use]
pub(crate) fn after(start: Timestamp, seconds: i64) -> Timestamp {
    start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Returns when a token granted for `granted` seconds is renewed: before its expiration by a margin, spread by uid.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "granted is at most ten years")]
pub fn renewal_time(uid: &str, issue_time: Timestamp, granted: i64, renew_before: Option<u64>) -> Timestamp {
    let requested = renew_before.map_or(granted / 3, |s| i64::try_from(s).unwrap_or(i64::MAX));
    // Rounded up, so that the margin is never more than half of the granted lifetime.
    let margin = requested.max(MIN_MARGIN_SECONDS).min(granted / 2);
    let spread = 1.0 - 0.25 * fraction(&[b"renew", uid.as_bytes()]);
    let wait = ((granted - margin) as f64 * spread).ceil() as i64;
    after(issue_time, wait.max(FLOOR_SECONDS))
}

/// Returns when to wake for what is due at a time: within that second if it has whole seconds, as those of a status have. A
/// fleet would otherwise request all tokens of a second in its first moment.
#[must_use]
pub(crate) fn within_second(uid: &str, due: Timestamp) -> Timestamp {
    if due.subsec_nanosecond() != 0 {
        return due;
    }
    // Nobody is told of it, so that it may be another one after a restart.
    let mut hash = DefaultHasher::new();
    uid.hash(&mut hash);
    shifted(due, SignedDuration::from_millis((hash.finish() % 1000).cast_signed()))
}

/// Returns the wait after the `count`-th failure in a row in seconds, without jitter and without what a server asked for.
#[must_use]
pub(crate) fn backoff_seconds(retry: Retry, count: u32) -> u64 {
    let doubled = |first: u32| u64::from(first) << count.saturating_sub(1).min(16);
    match retry {
        Retry::OnChange => 0,
        Retry::Backoff { first, cap } => doubled(first).min(u64::from(cap)),
        Retry::RetryAfter => doubled(60).min(MAX_RETRY_AFTER_SECONDS),
    }
}

/// Returns when the attempt after the `count`-th failure in a row is due; `None`: only after a change. `retry_after` is how
/// many seconds the server asked to wait.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "an hour and a quarter in milliseconds")]
pub(crate) fn next_attempt(
    uid: &str,
    retry: Retry,
    count: u32,
    retry_after: Option<u32>,
    now: Timestamp,
) -> Option<Timestamp> {
    let stated = u64::from(retry_after.unwrap_or(0));
    let seconds = match retry {
        Retry::OnChange => return None,
        Retry::Backoff { cap, .. } => backoff_seconds(retry, count).max(stated).min(u64::from(cap)),
        Retry::RetryAfter => backoff_seconds(retry, count).max(stated).min(MAX_RETRY_AFTER_SECONDS),
    };
    let jitter = 1.0 + 0.25 * fraction(&[b"retry", uid.as_bytes(), &count.to_be_bytes()]);
    let millis = (f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)) * 1000.0 * jitter) as i64;
    Some(shifted(now, SignedDuration::from_millis(millis)))
}

/// Returns the latest time that an attempt can be due at, seen from `now`; `None`: only a change makes it due.
#[must_use]
pub(crate) fn latest_attempt(retry: Retry, now: Timestamp) -> Option<Timestamp> {
    let seconds = match retry {
        Retry::OnChange => return None,
        Retry::Backoff { cap, .. } => i64::from(cap),
        Retry::RetryAfter => MAX_RETRY_AFTER_SECONDS.cast_signed(),
    };
    // With the largest jitter.
    Some(after(now, seconds + seconds / 4))
}

/// Limits the repairs of one object: the first are immediate, later ones slower while another writer undoes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    recent: Vec<Timestamp>,
    level: u32,
}

impl Blank for Repairs {
    const BLANK: &'static Self = &Self { recent: Vec::new(), level: 0 };
}

impl Repairs {
    /// Returns when the next repair may be made.
    #[must_use]
    pub fn allowed_at(&self, now: Timestamp) -> Timestamp {
        // A time in the future is of a clock that was ahead.
        let Some(last) = self.recent.last().filter(|last| **last <= now) else { return now };
        if self.level > 0 && after(*last, REPAIR_WINDOW_SECONDS) > now {
            return after(*last, (30_i64 << (self.level - 1).min(4)).min(300));
        }
        match self.recent.len().checked_sub(FREE_REPAIRS).and_then(|at| self.recent.get(at)) {
            Some(third_last) if after(*third_last, REPAIR_WINDOW_SECONDS) > now => after(*last, 30),
            _ => now,
        }
    }

    /// Moves the recorded times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        self.recent.iter_mut().for_each(|time| *time = shifted(*time, step));
    }

    /// Records a repair made now.
    pub fn record(&mut self, now: Timestamp) {
        let contested = self.recent.len() >= FREE_REPAIRS
            && self.recent.first().is_some_and(|first| after(*first, REPAIR_WINDOW_SECONDS) > now);
        let calm = self.recent.last().is_none_or(|last| after(*last, REPAIR_WINDOW_SECONDS) <= now);
        self.level = if calm { 0 } else { self.level + u32::from(contested || self.level > 0) };
        self.recent.push(now);
        if self.recent.len() > FREE_REPAIRS {
            self.recent.remove(0);
        }
    }
}

/// Limits the reads of an object that others keep changing in what does not matter: from the fourth in 10 minutes on, one in
/// 10 s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touches(Vec<Timestamp>);

impl Blank for Touches {
    const BLANK: &'static Self = &Self(Vec::new());
}

impl Touches {
    /// Returns when it is read next.
    #[must_use]
    pub fn allowed_at(&self, now: Timestamp) -> Timestamp {
        match self.0.as_slice() {
            // A time in the future is of a clock that was ahead.
            [first, .., last]
                if self.0.len() == FREE_TOUCHES && *last <= now && after(*first, REPAIR_WINDOW_SECONDS) > now =>
            {
                after(*last, TOUCH_SECONDS)
            }
            _ => now,
        }
    }

    /// Records a read made now.
    pub fn record(&mut self, now: Timestamp) {
        self.0.push(now);
        if self.0.len() > FREE_TOUCHES {
            self.0.remove(0);
        }
    }

    /// Moves the recorded times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        self.0.iter_mut().for_each(|time| *time = shifted(*time, step));
    }
}

/// Returns the whole second.
pub(crate) fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Returns the next whole second: a restart must not retry early.
pub(crate) fn next_whole(time: Timestamp) -> Timestamp {
    let part = i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(time.as_second() + part).unwrap_or(time)
}
