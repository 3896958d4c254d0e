//! The rules of leader election by a Lease, without calls and without a clock.
//!
//! The API server accepts a write only on the version it was made from, so of two replicas that try to take a Lease one
//! succeeds. A holder counts its claim from before the write was sent. A candidate takes a Lease only after it observed
//! one version for the whole duration. One claim therefore ends before the next begins, whatever the clocks of the two
//! show: a time in the Lease is never compared with a local one.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::undone::undone;

#[cfg(test)]
mod tests;

/// How long others wait after the last renewal before they take the Lease, in seconds.
const LEASE_DURATION: i32 = 10;
/// How long a holder acts after its last renewal. The 2 s up to [`LEASE_DURATION`] allow for clocks that run at different
/// speeds and for the last step in progress.
const RENEW_DEADLINE: Duration = Duration::from_secs(8);
/// How often a holder renews, and a failed call is retried.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How often a standby reads the Lease.
const POLL: Duration = Duration::from_secs(1);
/// The holder gets this long to renew after the API server was unavailable, or to recreate a deleted Lease, so that
/// leadership does not move without need.
const HOLDER_GRACE: Duration = Duration::from_secs(5);
/// A Lease is respected for at most this long, whatever duration it names.
const MAX_LEASE_DURATION: i32 = 60;

/// The time by both clocks: the monotonic one stops while the machine sleeps, the wall clock may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    pub wall: Timestamp,
}

impl Moment {
    fn after(self, duration: Duration) -> Self {
        let signed = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        Self { instant: self.instant + duration, wall: self.wall.checked_add(signed).unwrap_or(Timestamp::MAX) }
    }
}

/// One uninterrupted period of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(Timestamp);

/// The right to act for a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub term: Term,
    /// `None`: without end.
    until: Option<Moment>,
}

impl Claim {
    /// The claim of a process without leader election.
    pub const ALWAYS: Self = Self { term: Term(Timestamp::MIN), until: None };

    /// Whether the claim is valid at `now`.
    #[must_use]
    pub fn valid(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| now.instant < until.instant && now.wall < until.wall)
    }

    /// Returns the time left by the monotonic clock; `None`: without end.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.instant.saturating_duration_since(now))
    }
}

/// What a candidate does next.
#[derive(Debug)]
pub enum Next {
    Read,
    Create(Lease),
    Replace(Lease),
    Wait(Duration),
}

/// The last observation of the Lease.
struct Seen {
    /// `None`: it did not exist.
    lease: Option<Lease>,
    /// When it may be taken, unless it changes.
    free_at: Instant,
}

/// One replica's part in the election.
pub struct Candidate {
    /// Unique to the process. A Lease with this identity that the process did not take belongs to another.
    me: String,
    seen: Option<Seen>,
    /// The term of the last attempt to take the Lease. Its answer may have been lost.
    term: Option<Term>,
    claim: Option<Claim>,
}

impl Candidate {
    #[must_use]
    pub fn new(me: String) -> Self {
        Self { me, seen: None, term: None, claim: None }
    }

    /// Returns the claim, which may have run out. `None`: another replica may have led since the last one.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// Whether this replica holds the Lease or may hold it.
    #[must_use]
    pub fn involved(&self) -> bool {
        self.term.is_some()
    }

    /// Whether the Lease was never read.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.seen.is_none()
    }

    /// Whether a Lease that was read lacks what was observed of it before, as after a restore of etcd.
    #[must_use]
    pub fn undone(&self, lease: &Lease) -> bool {
        self.seen.as_ref().and_then(|seen| seen.lease.as_ref()).is_some_and(|seen| undone(seen, lease))
    }

    /// Begins an attempt to acquire or renew.
    #[must_use]
    pub fn begin(&self, now: Moment) -> Next {
        self.own().map_or(Next::Read, |lease| Next::Replace(renewed(lease, now)))
    }

    /// Records what was read, `None` where there is no Lease; returns what to do next.
    pub fn read(&mut self, lease: Option<Lease>, now: Moment) -> Next {
        if let Some(lease) = &lease
            && self.took(lease)
        {
            let next = Next::Replace(renewed(lease, now));
            self.see(Some(lease.clone()), now);
            return next;
        }
        let leads = self.claim.is_some_and(|claim| claim.valid(now));
        if lease.is_none() && self.seen.is_none() {
            return self.take(None, now);
        }
        if let (None, true, Some(lost)) = (&lease, leads, self.own()) {
            // Others that saw the deletion wait for the claim to end.
            return Next::Create(Lease { metadata: ObjectMeta::default(), ..renewed(lost, now) });
        }
        self.term = None;
        self.claim = None;
        self.take_when_free(lease, now)
    }

    fn take_when_free(&mut self, lease: Option<Lease>, now: Moment) -> Next {
        let free_at = self.see(lease.clone(), now);
        let free = lease.as_ref().is_some_and(released) || free_at <= now.instant;
        match lease {
            Some(_) if free => self.take(lease, now),
            // A missing Lease has no version to compare: another may have existed meanwhile.
            None if free => Next::Create(vacant(now)),
            _ => Next::Wait(POLL.min(free_at - now.instant)),
        }
    }

    /// Records a successful write that was sent at `sent`.
    pub fn written(&mut self, lease: Lease, sent: Moment, now: Moment) {
        self.see(Some(lease), now);
        self.claim = self.term.map(|term| Claim { term, until: Some(sent.after(RENEW_DEADLINE)) });
    }

    /// Records that the API server did not answer.
    pub fn unanswered(&mut self, now: Moment) {
        if let Some(seen) = &mut self.seen {
            seen.free_at = seen.free_at.max(now.instant + HOLDER_GRACE);
        }
    }

    /// Returns the write that releases the Lease, where it is known to be held.
    #[must_use]
    pub fn release(&self, now: Moment) -> Option<Lease> {
        let mut lease = renewed(self.own()?, now);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        Some(lease)
    }

    /// Returns the Lease as last observed, if this replica holds it.
    fn own(&self) -> Option<&Lease> {
        self.seen.as_ref()?.lease.as_ref().filter(|lease| self.took(lease))
    }

    fn took(&self, lease: &Lease) -> bool {
        let Some(spec) = &lease.spec else { return false };
        let acquired = spec.acquire_time.as_ref().map(|time| Term(time.0));
        spec.holder_identity.as_ref() == Some(&self.me) && self.term.is_some() && acquired == self.term
    }

    /// Records an observation; returns when the Lease may be taken, unless it changes.
    fn see(&mut self, lease: Option<Lease>, now: Moment) -> Instant {
        let version = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.metadata.resource_version.clone());
        if let Some(seen) = self.seen.as_ref().filter(|seen| version(&seen.lease) == version(&lease)) {
            return seen.free_at;
        }
        let named = |lease: &Lease| lease.spec.as_ref()?.lease_duration_seconds;
        let duration = lease
            .as_ref()
            .map_or(HOLDER_GRACE, |lease| seconds(named(lease).unwrap_or(0).clamp(LEASE_DURATION, MAX_LEASE_DURATION)));
        let free_at = now.instant + duration;
        self.seen = Some(Seen { lease, free_at });
        free_at
    }

    fn take(&mut self, lease: Option<Lease>, now: Moment) -> Next {
        let now = micros(now.wall);
        self.term = Some(Term(now));
        let before = lease.as_ref().and_then(|lease| lease.spec.clone());
        let transitions = before.as_ref().and_then(|spec| spec.lease_transitions);
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(LEASE_DURATION),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(before.as_ref().map_or(0, |_| transitions.unwrap_or(0).saturating_add(1))),
            ..before.unwrap_or_default()
        };
        match lease {
            Some(lease) => Next::Replace(Lease { spec: Some(spec), ..lease }),
            None => Next::Create(Lease { spec: Some(spec), ..Lease::default() }),
        }
    }
}

/// Whether the Lease was released or never held. A holder whose name was erased does not know of it yet.
fn released(lease: &Lease) -> bool {
    let Some(spec) = &lease.spec else { return true };
    let nobody = spec.holder_identity.as_ref().is_none_or(String::is_empty);
    nobody && (spec.renew_time.is_none() || spec.lease_duration_seconds == Some(1))
}

/// A Lease without a holder, which may be taken only after it was observed for its duration.
fn vacant(now: Moment) -> Lease {
    renewed(&Lease::default(), now)
}

fn renewed(lease: &Lease, now: Moment) -> Lease {
    let spec = LeaseSpec {
        lease_duration_seconds: Some(LEASE_DURATION),
        renew_time: Some(MicroTime(micros(now.wall))),
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.unsigned_abs().into())
}

/// Truncates to the precision of a Lease.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
