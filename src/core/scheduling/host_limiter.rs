//! Limits the requests to one portal host: how many are prepared and how many in flight at once, and pauses after a 429.

use jiff::{SignedDuration, Timestamp};

use super::schedule::{after, shifted};
use crate::api::{ArcGisAppCredentialStatus, Reason};

/// Requests in flight at once to one host.
const MAX_IN_FLIGHT: usize = 8;
/// Requests to one host that are prepared at once, or wait to be sent.
const MAX_PREPARED: usize = 8;
/// After so many requests in a row that were not answered, a host has one at once.
const DEAD: u8 = 3;
/// The longest pause of resources that did not get the 429 themselves.
const MAX_PAUSE_SECONDS: u32 = 300;
/// Answers that arrive within this time belong to requests that were in flight together.
const BURST_SECONDS: i64 = 30;

/// Whether a request to a host may be prepared now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    Now,
    /// As many requests as allowed are prepared.
    AtCapacity,
    /// The host asked for a pause.
    PausedUntil(Timestamp),
}

/// Whether a request that was prepared may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Now,
    /// As many requests as allowed are in flight.
    Later,
    /// The host asked for a pause since the request was prepared.
    Never,
}

impl From<Admit> for Turn {
    fn from(admit: Admit) -> Self {
        match admit {
            Admit::Now => Self::Now,
            Admit::AtCapacity => Self::Later,
            Admit::PausedUntil(_) => Self::Never,
        }
    }
}

/// How a request ended, as far as the host is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Issued,
    /// A 429, with the seconds that the host asks for.
    Limited(u32),
    /// A failure of the host itself.
    Unavailable,
    /// No answer.
    Unanswered,
    /// Any other answer.
    Failed,
}

impl Outcome {
    /// Returns the outcome of a request that failed for this reason.
    #[must_use]
    pub fn of(reason: Reason, retry_after: Option<u32>) -> Self {
        match retry_after {
            Some(seconds) => Self::Limited(seconds),
            None if reason == Reason::PortalUnreachable => Self::Unanswered,
            None if reason.is_outage() => Self::Unavailable,
            None => Self::Failed,
        }
    }
}

/// The limits of one host.
#[derive(Clone, Debug, Default)]
pub struct HostLimiter {
    /// Requests that are prepared, or wait to be sent.
    prepared: usize,
    in_flight: usize,
    /// Requests in a row that were not answered.
    unanswered: u8,
    pause: Option<Pause>,
    epoch: Epoch,
}

/// Counts the pauses of a host: distinguishes requests that were in flight when a pause began from its probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(u64);

/// A pause after a 429. When it is over, one request probes the host (half-open) before the others follow.
#[derive(Clone, Debug)]
struct Pause {
    until: Timestamp,
    /// How many 429s came in a row before this one.
    streak: u32,
    probing: bool,
}

impl HostLimiter {
    /// Returns what a request at `now` would get.
    #[must_use]
    pub fn check(&self, now: Timestamp) -> Admit {
        self.admit(self.free() == 0, now)
    }

    fn admit(&self, full: bool, now: Timestamp) -> Admit {
        match &self.pause {
            Some(pause) if now < pause.until => Admit::PausedUntil(pause.until),
            Some(pause) if pause.probing => Admit::AtCapacity,
            _ if full => Admit::AtCapacity,
            _ => Admit::Now,
        }
    }

    /// Whether nothing is prepared or in flight, and no pause is in force.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.prepared == 0 && self.in_flight == 0 && self.pause.is_none()
    }

    /// Acquires a permit to prepare a request; after [`Admit::Now`], [`HostLimiter::try_send`] or [`HostLimiter::forgo`]
    /// must follow.
    pub fn try_prepare(&mut self, now: Timestamp) -> Admit {
        let admit = self.check(now);
        if admit == Admit::Now {
            self.prepared += 1;
            self.probe();
        }
        admit
    }

    /// Sends a request that was prepared in an epoch; after [`Turn::Now`], [`HostLimiter::release`] must follow.
    pub fn try_send(&mut self, acquired: Epoch, now: Timestamp) -> Turn {
        if acquired != self.epoch || self.pause.as_ref().is_some_and(|pause| now < pause.until) {
            return Turn::Never;
        }
        if self.in_flight >= self.capacity() {
            return Turn::Later;
        }
        self.prepared = self.prepared.saturating_sub(1);
        self.in_flight += 1;
        Turn::Now
    }

    /// Sends a verification, which needs no permit before. It is no token request: where these are not answered, it still
    /// has its turn.
    pub fn try_verify(&mut self, now: Timestamp) -> Admit {
        let admit = self.admit(self.in_flight >= MAX_IN_FLIGHT, now);
        if admit == Admit::Now {
            self.in_flight += 1;
            self.probe();
        }
        admit
    }

    fn probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
        }
    }

    /// Releases the permit of a request that was prepared in an epoch, and is not sent.
    pub fn forgo(&mut self, acquired: Epoch) {
        self.prepared = self.prepared.saturating_sub(1);
        if acquired == self.epoch {
            self.end_probe();
        }
    }

    fn end_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = false;
        }
    }

    /// Returns the epoch that a permit acquired now belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Ends a request that was acquired in an epoch. Only the probe ends a pause: a success that was in flight when the
    /// 429 arrived says nothing about it.
    pub fn release(&mut self, acquired: Epoch, outcome: Outcome, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let current = acquired == self.epoch;
        match outcome {
            Outcome::Issued if current => self.pause = None,
            Outcome::Limited(seconds) => self.pause_for(seconds, now),
            Outcome::Unavailable | Outcome::Unanswered | Outcome::Failed if current => self.end_probe(),
            Outcome::Issued | Outcome::Unavailable | Outcome::Unanswered | Outcome::Failed => {}
        }
        self.unanswered = if outcome == Outcome::Unanswered { self.unanswered.saturating_add(1) } else { 0 };
    }

    /// Returns how many of those that wait may try now, besides so many that are about to: in a pause one, which learns of
    /// it or probes the host.
    #[must_use]
    pub fn room(&self, expected: usize) -> usize {
        if self.pause.is_some() { 1 } else { self.free().saturating_sub(expected) }
    }

    /// How many more requests may be prepared. Of those that cannot be sent soon, there is one.
    fn free(&self) -> usize {
        if self.is_dead() {
            return usize::from(self.prepared + self.in_flight == 0);
        }
        MAX_PREPARED.saturating_sub(self.prepared)
    }

    /// How many requests may be in flight: each that a dead host has takes until its time limit.
    fn capacity(&self) -> usize {
        if self.is_dead() { 1 } else { MAX_IN_FLIGHT }
    }

    fn is_dead(&self) -> bool {
        self.unanswered >= DEAD
    }

    /// Records a 429. The pause doubles while each probe after a pause gets another 429.
    pub fn pause_for(&mut self, seconds: u32, now: Timestamp) {
        // Requests that were in flight together count as one.
        let together = self.pause.as_ref().is_some_and(|pause| now < pause.until);
        let streak = self.pause.as_ref().map_or(0, |pause| pause.streak.saturating_add(u32::from(!together)));
        let seconds = seconds.max(least_pause(streak)).min(MAX_PAUSE_SECONDS);
        let until = after(now, i64::from(seconds));
        let until = self.pause.as_ref().map_or(until, |pause| if together { pause.until.max(until) } else { until });
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        self.pause = Some(Pause { until, streak, probing: false });
    }

    /// Moves the pause after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        if let Some(pause) = &mut self.pause {
            pause.until = shifted(pause.until, step);
        }
    }

    /// Restores the pause that was in force before a restart from what the statuses record. One request still probes the
    /// host when the pause is over.
    pub fn restore(&mut self, records: &[RetryAfterRecord], now: Timestamp) {
        let mut records = records.to_vec();
        records.sort_by_key(|record| std::cmp::Reverse(record.at));
        let (Some(last), Some(until)) =
            (records.first().map(|record| record.at), records.iter().map(|record| record.until).max())
        else {
            return;
        };
        // From burst to burst, back to where more time lies between two of them than a pause takes.
        let (mut count, mut start) = (0_u32, last);
        for burst in records.chunk_by(|a, b| a.at.duration_since(b.at).as_secs() <= BURST_SECONDS) {
            if start.duration_since(burst[0].at).as_secs() > i64::from(MAX_PAUSE_SECONDS) + BURST_SECONDS {
                break;
            }
            count = burst.iter().map(|record| record.count).max().unwrap_or(0).saturating_add(count);
            start = burst.last().map_or(start, |record| record.at);
        }
        let streak = count.saturating_sub(1);
        let until = until.max(after(last, least_pause(streak).into())).min(after(now, MAX_PAUSE_SECONDS.into()));
        if self.pause.as_ref().is_none_or(|pause| pause.until < until) {
            self.pause = Some(Pause { until, streak, probing: false });
        }
    }
}

/// Returns the shortest pause in seconds after so many 429s in a row.
fn least_pause(streak: u32) -> u32 {
    (60 << streak.min(4)).min(MAX_PAUSE_SECONDS)
}

/// A 429 that a status records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfterRecord {
    /// When it arrived.
    pub at: Timestamp,
    /// Until when other resources of the host wait.
    pub until: Timestamp,
    /// How many that resource got in a row.
    pub count: u32,
}

impl RetryAfterRecord {
    /// Reads the record of a status.
    #[must_use]
    pub fn of(status: &ArcGisAppCredentialStatus) -> Option<Self> {
        let failure = status.failure.as_ref().filter(|failure| failure.reason == Reason::RateLimited)?;
        let at = failure.last_attempt_time?;
        let until = failure.next_attempt_time?.min(after(at, MAX_PAUSE_SECONDS.into()));
        Some(Self { at, until, count: failure.count.unwrap_or(1) })
    }
}
