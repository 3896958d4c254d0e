//! What failed, and until when it is not tried again: one wait for each activity.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;
use super::schedule::{
    RETRY_FLOOR_SECONDS, after, backoff_seconds, latest_attempt, next_attempt, next_whole, shifted, whole,
};
use crate::api::{Failure, Reason, Recovery, Retry};

/// What can fail and is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// To read the target, or an object that the spec names.
    Read,
    /// To request a token, which is still owed.
    Request,
    /// To write the target.
    Write,
    /// To change nothing but the target's owner reference.
    Own,
    /// To write the status.
    Report,
}

impl Activity {
    const ALL: [Self; 5] = [Self::Read, Self::Request, Self::Write, Self::Own, Self::Report];

    /// The word for it in `status.failure.inputs`.
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Request => "request",
            Self::Write => "write",
            Self::Own => "ownership",
            Self::Report => "report",
        }
    }

    /// Returns when it is tried again after it failed like this. `worked`: the same inputs were issued a token before.
    pub(crate) fn retry(self, reason: Reason, worked: bool) -> Retry {
        match (reason, reason.retry()) {
            // A policy or a quota may have caused it, and may be removed.
            (Reason::SpecInvalid, _) if self == Self::Write => Retry::Backoff { first: 60, cap: 900 },
            // What a name leads to may change at any time.
            (Reason::PortalNotAllowed, _) if self == Self::Request => Retry::Backoff { first: 60, cap: 900 },
            (Reason::RequestRejected, Retry::Backoff { first, cap }) if worked => {
                Retry::Backoff { first, cap: cap.min(900) }
            }
            (_, retry) => retry,
        }
    }

    /// Returns what a failure that a status records was about: `None` for a prerequisite that was not met, which is no
    /// activity.
    pub(crate) fn of(failure: &Failure) -> Option<Self> {
        match failure.inputs.as_deref().and_then(MadeWith::parse) {
            Some((PREREQUISITE, _)) => None,
            Some((word, _)) => Self::ALL.into_iter().find(|activity| activity.word() == word),
            None => match failure.reason {
                Reason::TargetRefused | Reason::ClusterError | Reason::Internal | Reason::SpecInvalid => {
                    Some(Self::Write)
                }
                reason => (reason.retry() != Retry::OnChange).then_some(Self::Request),
            },
        }
    }
}

/// The word for a prerequisite in `status.failure.inputs`.
pub(crate) const PREREQUISITE: &str = "check";

/// What an attempt was made with: versions and generations only, never anything derived from a secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeWith {
    pub generation: i64,
    pub credentials: String,
    pub ca: String,
    /// Written only when there is one: a status that an earlier version wrote has none.
    pub client_certificate: String,
    /// A hash of the `requested-at` annotation.
    pub requested: String,
}

impl MadeWith {
    /// Reads `status.failure.inputs`: the word for what failed, and what it was made with.
    pub(crate) fn parse(text: &str) -> Option<(&str, Self)> {
        let (word, inputs) = text.strip_prefix("v1 ")?.split_once(' ')?;
        let known = Activity::ALL.into_iter().map(Activity::word).chain([PREREQUISITE]);
        let word = known.into_iter().find(|known| *known == word)?;
        Some((word, Self::parse_inputs(inputs)?))
    }

    fn parse_inputs(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut value = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        Some(Self {
            generation: value("generation")?.parse().ok()?,
            credentials: value("credentials")?,
            ca: value("ca")?,
            requested: value("requested")?,
            client_certificate: value("clientCertificate").unwrap_or_else(|| "-".to_owned()),
        })
    }

    /// Returns the text for `status.failure.inputs`.
    pub(crate) fn text(&self, word: &str) -> String {
        format!("v1 {word} {self}")
    }
}

impl fmt::Display for MadeWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, credentials, ca, client_certificate, requested } = self;
        write!(f, "generation={generation} credentials={credentials} ca={ca} requested={requested}")?;
        if client_certificate == "-" { Ok(()) } else { write!(f, " clientCertificate={client_certificate}") }
    }
}

/// An activity that failed and was not successful since, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub activity: Activity,
    pub reason: Reason,
    pub finding: Finding,
    /// Since when it fails for this reason.
    pub start_time: Timestamp,
    /// How often it failed in a row. 0: a pause that the host asked for before a restart.
    pub count: u32,
    pub last_attempt: Option<Timestamp>,
    pub next_attempt: Timestamp,
    pub made_with: MadeWith,
}

/// A failure of an activity.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    pub activity: Activity,
    pub reason: Reason,
    /// The seconds that the server asks to wait.
    pub retry_after: Option<u32>,
    /// The same inputs were issued a token before.
    pub worked: bool,
}

impl Wait {
    /// Returns the wait after one more failure.
    #[must_use]
    pub fn next(previous: Option<&Self>, uid: &str, failed: Failed, made_with: MadeWith, now: Timestamp) -> Self {
        let Failed { activity, reason, retry_after, worked } = failed;
        let retry = activity.retry(reason, worked);
        let follows = previous.filter(|previous| previous.made_with == made_with);
        let count = follows.map_or(1, |previous| previous.next_count(reason, retry));
        let retry_after = retry_after.filter(|_| matches!(reason, Reason::RateLimited | Reason::ClusterError));
        Self {
            activity,
            reason,
            finding: Finding::default(),
            start_time: previous.filter(|p| p.reason == reason).map_or(now, |p| p.start_time),
            count,
            last_attempt: Some(now),
            next_attempt: next_attempt(uid, retry, count, retry_after, now).unwrap_or(Timestamp::MAX),
            made_with,
        }
    }

    /// Returns the count of a failure that follows this one. It continues from one transient reason to another. Otherwise,
    /// where the waits of the two reasons differ, the wait is at most twice the last one, because some failures of seconds
    /// must not lead to a wait of an hour.
    fn next_count(&self, reason: Reason, next: Retry) -> u32 {
        let last = self.activity.retry(self.reason, false);
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

    /// Returns the end of the wait for an attempt that would be made with these inputs, `None` when it is over. A user's
    /// change ends every wait but a pause that the portal asked for.
    #[must_use]
    pub fn until(&self, made_with: &MadeWith, now: Timestamp) -> Option<Timestamp> {
        let until = if self.reason.retry() == Retry::RetryAfter || self.made_with == *made_with {
            self.next_attempt
        } else {
            after(self.last_attempt?, RETRY_FLOOR_SECONDS)
        };
        // A time beyond the longest wait is of a clock that was ahead.
        let latest = latest_attempt(self.activity.retry(self.reason, false), now).unwrap_or(Timestamp::MAX);
        (until > now && until <= latest).then_some(until)
    }

    /// Whether everything about the resource waits, because what is decided next may need the same call.
    pub(super) fn suspends_all(&self) -> bool {
        match self.activity {
            Activity::Read => true,
            Activity::Request | Activity::Write | Activity::Own => {
                matches!(self.reason, Reason::ClusterError | Reason::Internal)
            }
            Activity::Report => false,
        }
    }

    pub(super) fn shift(&mut self, step: SignedDuration) {
        self.next_attempt = shifted(self.next_attempt, step);
        self.last_attempt = self.last_attempt.map(|time| shifted(time, step));
    }

    /// Returns what a status records. A transient failure is recorded by reason and time only, so that an outage does not
    /// rewrite every status repeatedly.
    #[must_use]
    pub fn report(&self) -> Failure {
        let kept = self.reason.recovery() == Recovery::ActionRequired || self.reason == Reason::RateLimited;
        Failure {
            reason: self.reason,
            cause: None,
            message: None,
            start_time: whole(self.start_time),
            count: (kept && self.count > 0).then_some(self.count),
            last_attempt_time: self.last_attempt.filter(|_| kept).map(whole),
            next_attempt_time: kept.then(|| next_whole(self.next_attempt)),
            inputs: kept.then(|| self.made_with.text(self.activity.word())),
        }
    }

    /// Restores the wait from a status after a restart; `None` for a prerequisite that was not met. `current` is used for
    /// what the status does not record.
    #[must_use]
    pub fn recall(failure: &Failure, current: MadeWith, now: Timestamp) -> Option<Self> {
        let activity = Activity::of(failure)?;
        // A stored time may be of a clock that was ahead.
        let latest = latest_attempt(activity.retry(failure.reason, false), now)?;
        Some(Self {
            activity,
            reason: failure.reason,
            finding: Finding::recall(failure),
            start_time: failure.start_time,
            count: failure.count.unwrap_or(0),
            last_attempt: failure.last_attempt_time.map(|time| time.min(now)),
            next_attempt: failure.next_attempt_time.unwrap_or(now).min(latest),
            made_with: failure.inputs.as_deref().and_then(MadeWith::parse).map_or(current, |(_, made_with)| made_with),
        })
    }
}
