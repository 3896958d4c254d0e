//! A failed attempt: what it was made with, and when the next one is due.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Failure, Reason, Recovery, Retry};
use crate::core::scheduling::schedule::{backoff_seconds, latest_attempt, next_attempt, shifted};

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptKind {
    /// A check failed before anything was tried.
    Check,
    /// A read of the target, or of an object that the spec names, failed.
    Read,
    /// The token request failed, and is still due.
    Request,
    /// The write of the target failed.
    Write,
    /// Only the change of the target's owner reference failed.
    Ownership,
}

impl AttemptKind {
    const ALL: [AttemptKind; 5] = [Self::Check, Self::Read, Self::Request, Self::Write, Self::Ownership];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Read => "read",
            Self::Request => "request",
            Self::Write => "write",
            Self::Ownership => "ownership",
        }
    }
}

/// Returns when an attempt that failed like this is made again. `worked`: the same inputs were issued a token before.
pub(crate) fn retry(reason: Reason, kind: AttemptKind, worked: bool) -> Retry {
    match (reason, reason.retry()) {
        // A policy or a quota may have caused it, and may be removed.
        (Reason::SpecInvalid, _) if kind == AttemptKind::Write => Retry::Backoff { first: 60, cap: 900 },
        (Reason::RequestRejected, Retry::Backoff { first, cap }) if worked => {
            Retry::Backoff { first, cap: cap.min(900) }
        }
        (_, retry) => retry,
    }
}

/// What an attempt was made with: versions and generations only, never anything derived from a secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub kind: AttemptKind,
    pub generation: i64,
    pub credentials: String,
    pub ca: String,
    /// Written only when there is one: a status that an earlier version wrote has none.
    pub client_certificate: String,
    /// A hash of the `requested-at` annotation.
    pub requested: String,
}

impl Attempt {
    /// Whether a user changed nothing between the two.
    #[must_use]
    pub fn same_inputs(&self, other: &Self) -> bool {
        self.generation == other.generation
            && (&self.credentials, &self.ca, &self.client_certificate, &self.requested)
                == (&other.credentials, &other.ca, &other.client_certificate, &other.requested)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (version, kind) = (parts.next()?, parts.next()?);
        let kind = AttemptKind::ALL.into_iter().find(|k| k.as_str() == kind).filter(|_| version == "v1")?;
        let mut value = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        Some(Self {
            kind,
            generation: value("generation")?.parse().ok()?,
            credentials: value("credentials")?,
            ca: value("ca")?,
            requested: value("requested")?,
            client_certificate: value("clientCertificate").unwrap_or_else(|| "-".to_owned()),
        })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, generation, credentials, ca, client_certificate, requested } = self;
        let kind = kind.as_str();
        write!(f, "v1 {kind} generation={generation} credentials={credentials} ca={ca} requested={requested}")?;
        if client_certificate == "-" { Ok(()) } else { write!(f, " clientCertificate={client_certificate}") }
    }
}

/// A failure that is not resolved, and its retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryState {
    pub reason: Reason,
    pub start_time: Timestamp,
    pub count: u32,
    pub last_attempt: Option<Timestamp>,
    /// `None`: only a change resolves it.
    pub next_attempt: Option<Timestamp>,
    pub made_with: Attempt,
}

impl RetryState {
    /// Returns the state after one more failure.
    #[must_use]
    pub fn next(
        previous: Option<&Self>,
        uid: &str,
        reason: Reason,
        made_with: Attempt,
        retry_after: Option<u32>,
        worked: bool,
        now: Timestamp,
    ) -> Self {
        let follows = previous.filter(|p| p.made_with.same_inputs(&made_with) && p.next_attempt.is_some());
        let retry = retry(reason, made_with.kind, worked);
        let count = follows.map_or(1, |p| p.next_count(reason, retry));
        let retry_after = retry_after.filter(|_| matches!(reason, Reason::RateLimited | Reason::ClusterError));
        Self {
            reason,
            start_time: previous.filter(|p| p.reason == reason).map_or(now, |p| p.start_time),
            count: if retry == Retry::OnChange { 1 } else { count },
            last_attempt: Some(now),
            next_attempt: next_attempt(uid, retry, count, retry_after, now),
            made_with,
        }
    }

    /// Returns the count of a failure that follows this one. It continues from one transient reason to another. Otherwise,
    /// where the waits of the two reasons differ, the wait is at most twice the last one, because some failures of seconds
    /// must not lead to a wait of an hour.
    fn next_count(&self, reason: Reason, next: Retry) -> u32 {
        let last = retry(self.reason, self.made_with.kind, false);
        let (before, first) = (backoff_seconds(last, 1), backoff_seconds(next, 1));
        let transient = |reason: Reason| {
            reason.recovery() == Recovery::Automatic && matches!(reason.retry(), Retry::Backoff { .. })
        };
        if before == first || self.count == 0 || (transient(self.reason) && transient(reason)) {
            return self.count.saturating_add(1);
        }
        let doublings = (2 * backoff_seconds(last, self.count)).checked_div(first).and_then(u64::checked_ilog2);
        doublings.map_or(1, |doublings| doublings + 1)
    }

    /// Returns the latest time that the next attempt can be due at, seen from `now`; `None`: only a change makes it due.
    pub(crate) fn latest_attempt(&self, now: Timestamp) -> Option<Timestamp> {
        latest_attempt(retry(self.reason, self.made_with.kind, false), now)
    }

    /// Moves the times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        for time in [&mut self.last_attempt, &mut self.next_attempt].into_iter().flatten() {
            *time = shifted(*time, step);
        }
    }

    /// Returns what a status records. A transient failure is recorded by reason and time only, so that an outage does not
    /// rewrite every status repeatedly.
    #[must_use]
    pub fn report(&self) -> Failure {
        let kept = self.reason.recovery() == Recovery::ActionRequired || self.reason == Reason::RateLimited;
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        // Rounded up: a restart must not retry early.
        let later = |time: Timestamp| {
            let part = i64::from(time.subsec_nanosecond() > 0);
            Timestamp::from_second(time.as_second() + part).unwrap_or(time)
        };
        Failure {
            reason: self.reason,
            start_time: whole(self.start_time),
            count: (kept && self.count > 0).then_some(self.count),
            last_attempt_time: self.last_attempt.filter(|_| kept).map(whole),
            next_attempt_time: self.next_attempt.filter(|_| kept).map(later),
            inputs: kept.then(|| self.made_with.to_string()),
        }
    }

    /// Restores the state from a status after a restart. `current` is used for what the status does not record.
    #[must_use]
    pub fn recall(failure: &Failure, current: Attempt, now: Timestamp) -> Self {
        let kind = match failure.reason {
            Reason::TargetRefused | Reason::ClusterError | Reason::Internal | Reason::SpecInvalid => AttemptKind::Write,
            reason if reason.retry() == Retry::OnChange => AttemptKind::Check,
            _ => AttemptKind::Request,
        };
        let made_with = failure.inputs.as_deref().and_then(Attempt::parse).unwrap_or(Attempt { kind, ..current });
        // A stored time may be of a clock that was ahead.
        let latest = latest_attempt(retry(failure.reason, made_with.kind, false), now);
        Self {
            reason: failure.reason,
            start_time: failure.start_time,
            count: failure.count.unwrap_or(0),
            last_attempt: failure.last_attempt_time.map(|time| time.min(now)),
            next_attempt: latest.map(|latest| failure.next_attempt_time.unwrap_or(now).min(latest)),
            made_with,
        }
    }
}
