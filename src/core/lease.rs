//! Who leads, by a Lease: the rules, without a call and without a clock.
//!
//! The API server takes a write only on top of the version it was made from, so of two that reach for a Lease one
//! gets it. A holder counts its claim from before the write was sent; a candidate takes a Lease only after it has
//! watched one version for the whole duration. So one claim has ended before the next begins, whatever the clocks of
//! the two say: a time in the Lease is never compared with a local one.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

#[cfg(test)]
mod tests;

/// For how long a Lease is taken.
const DURATION_SECONDS: i32 = 10;
/// For how long a holder acts. Others may begin 2 s later: clocks run at different speeds, and a step takes a moment.
const CLAIM: Duration = Duration::from_secs(8);
/// How often a holder renews, and a call that failed is made again.
pub const RENEW: Duration = Duration::from_secs(2);
/// How often the others look.
const POLL: Duration = Duration::from_secs(1);
/// Whoever holds the Lease is given this long to renew it after the API server was away, or to put it back after
/// somebody deleted it, so that it stays where it is.
const FIRST_GO: Duration = Duration::from_secs(5);
/// A Lease is respected for this long at most, whatever duration it names.
const MAX_DURATION_SECONDS: i32 = 60;

/// Now, by both clocks: the one stands still while the machine sleeps, the other may be set.
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

/// One unbroken time of leading: nobody else has led in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(Timestamp);

/// The right to act, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub term: Term,
    /// `None`: for ever.
    until: Option<Moment>,
}

impl Claim {
    /// That of a process that knows of no others.
    pub const ALWAYS: Self = Self { term: Term(Timestamp::MIN), until: None };

    /// Whether it lasts at this moment.
    #[must_use]
    pub fn valid(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| now.instant < until.instant && now.wall < until.wall)
    }

    /// How long it lasts by the clock that timers go by; `None`: for ever.
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

/// What was seen last.
struct Seen {
    /// `None`: it was gone.
    lease: Option<Lease>,
    /// When it may be taken, if it stays like that.
    free_at: Instant,
}

/// One process that would lead.
pub struct Candidate {
    /// Unique to the process: a Lease that bears it without having been taken is somebody else's.
    me: String,
    seen: Option<Seen>,
    /// What the Lease was last taken for, or may have been: the answer can get lost.
    term: Option<Term>,
    claim: Option<Claim>,
}

impl Candidate {
    #[must_use]
    pub fn new(me: String) -> Self {
        Self { me, seen: None, term: None, claim: None }
    }

    /// The claim; it may have run out. `None`: somebody else may have led since there was one.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// Whether the Lease is ours or may be.
    #[must_use]
    pub fn involved(&self) -> bool {
        self.term.is_some()
    }

    /// Whether nothing was ever read.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.seen.is_none()
    }

    /// Begins a round.
    #[must_use]
    pub fn begin(&self, now: Moment) -> Next {
        self.own().map_or(Next::Read, |lease| Next::Replace(renewed(lease, now)))
    }

    /// The Lease was read, `None` where there is none.
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
            // Whoever saw it go waits for its end.
            return Next::Create(Lease { metadata: ObjectMeta::default(), ..renewed(lost, now) });
        }
        self.term = None;
        self.claim = None;
        let free_at = self.see(lease.clone(), now);
        let free = lease.as_ref().is_some_and(released) || free_at <= now.instant;
        match lease {
            Some(_) if free => self.take(lease, now),
            // That one is missing has no version that could be watched: another may have come and gone.
            None if free => Next::Create(vacant(now)),
            _ => Next::Wait(POLL.min(free_at - now.instant)),
        }
    }

    /// What was to be written was written, after `sent`.
    pub fn written(&mut self, lease: Lease, sent: Moment, now: Moment) {
        self.see(Some(lease), now);
        self.claim = self.term.map(|term| Claim { term, until: Some(sent.after(CLAIM)) });
    }

    /// The API server gave no answer.
    pub fn unanswered(&mut self, now: Moment) {
        if let Some(seen) = &mut self.seen {
            seen.free_at = seen.free_at.max(now.instant + FIRST_GO);
        }
    }

    /// What releases the Lease, where it is known to be ours.
    #[must_use]
    pub fn release(&self, now: Moment) -> Option<Lease> {
        let mut lease = renewed(self.own()?, now);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        Some(lease)
    }

    /// The Lease as last seen, if it is ours.
    fn own(&self) -> Option<&Lease> {
        self.seen.as_ref()?.lease.as_ref().filter(|lease| self.took(lease))
    }

    fn took(&self, lease: &Lease) -> bool {
        let Some(spec) = &lease.spec else { return false };
        let acquired = spec.acquire_time.as_ref().map(|time| Term(time.0));
        spec.holder_identity.as_ref() == Some(&self.me) && self.term.is_some() && acquired == self.term
    }

    /// Notes what was seen; returns when it may be taken, if it stays like that.
    fn see(&mut self, lease: Option<Lease>, now: Moment) -> Instant {
        let version = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.metadata.resource_version.clone());
        if let Some(seen) = self.seen.as_ref().filter(|seen| version(&seen.lease) == version(&lease)) {
            return seen.free_at;
        }
        let named = |lease: &Lease| lease.spec.as_ref()?.lease_duration_seconds;
        let duration = lease
            .as_ref()
            .map_or(FIRST_GO, |lease| seconds(named(lease).unwrap_or(0).clamp(DURATION_SECONDS, MAX_DURATION_SECONDS)));
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
            lease_duration_seconds: Some(DURATION_SECONDS),
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

/// Given back, or never held. A holder that was merely struck out does not know of it yet.
fn released(lease: &Lease) -> bool {
    let Some(spec) = &lease.spec else { return true };
    let nobody = spec.holder_identity.as_ref().is_none_or(String::is_empty);
    nobody && (spec.renew_time.is_none() || spec.lease_duration_seconds == Some(1))
}

/// A Lease that nobody holds, and that nobody may take before it was watched for its duration.
fn vacant(now: Moment) -> Lease {
    renewed(&Lease::default(), now)
}

fn renewed(lease: &Lease, now: Moment) -> Lease {
    let spec = LeaseSpec {
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(micros(now.wall))),
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.unsigned_abs().into())
}

/// As precise as a Lease keeps it.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
