//! Due times: renewal, backoff, and the limit on repairs.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::api::{Reason, Retry};

/// Every resource is reconciled at least this often.
pub const RESYNC_SECONDS: i64 = 600;
/// The minimum spacing of scheduled exchanges.
pub(crate) const FLOOR_SECONDS: i64 = 30;
/// The minimum spacing after a user's change, or when the target is missing or damaged.
pub(crate) const CHANGE_FLOOR_SECONDS: i64 = 5;
/// The minimum spacing after a failed exchange and a user's change.
pub(crate) const RETRY_FLOOR_SECONDS: i64 = 2;
const MIN_MARGIN_SECONDS: i64 = 300;
const REPAIR_WINDOW_SECONDS: i64 = 600;
const FREE_REPAIRS: usize = 3;

/// Returns a number in [0, 1) that is the same for the same parts.
fn fraction(parts: &[&[u8]]) -> f64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let top = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(top) / 4_294_967_296.0
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

/// Returns when the attempt after the `count`-th failure in a row is due; `None`: only after a change. `worked`: the same
/// inputs were issued a token before.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "an hour and a quarter in milliseconds")]
pub(crate) fn next_attempt(
    uid: &str,
    reason: Reason,
    count: u32,
    retry_after: Option<u32>,
    worked: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let doubled = |first: u32| u64::from(first) << count.saturating_sub(1).min(16);
    let seconds = match reason.retry() {
        Retry::OnChange => return None,
        Retry::Backoff { first, cap } => {
            let cap = if reason == Reason::RequestRejected && worked { cap.min(900) } else { cap };
            doubled(first).min(u64::from(cap))
        }
        Retry::RetryAfter => {
            let stated = u64::from(retry_after.unwrap_or(60).clamp(60, 3600));
            stated.max(doubled(60)).min(3600)
        }
    };
    let jitter = 1.0 + 0.25 * fraction(&[b"retry", uid.as_bytes(), &count.to_be_bytes()]);
    let millis = (f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)) * 1000.0 * jitter) as i64;
    Some(now.checked_add(SignedDuration::from_millis(millis)).unwrap_or(Timestamp::MAX))
}

/// Limits the repairs of one object: the first are immediate, later ones slower while another writer undoes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    recent: Vec<Timestamp>,
    level: u32,
}

impl Repairs {
    /// Returns when the next repair may be made.
    #[must_use]
    pub fn allowed_at(&self, now: Timestamp) -> Timestamp {
        let Some(last) = self.recent.last() else { return now };
        if self.level > 0 && after(*last, REPAIR_WINDOW_SECONDS) > now {
            return after(*last, (30_i64 << (self.level - 1).min(4)).min(300));
        }
        match self.recent.len().checked_sub(FREE_REPAIRS).and_then(|at| self.recent.get(at)) {
            Some(third_last) if after(*third_last, REPAIR_WINDOW_SECONDS) > now => after(*last, 30),
            _ => now,
        }
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
