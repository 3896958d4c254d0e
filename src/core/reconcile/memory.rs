//! What is remembered of a resource between two reconciles.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, Unmet};
use super::token::{Evaluated, Trigger};
use crate::api::{Reason, Verification};
use crate::core::compact_time::CompactTime;
use crate::core::rare::{Blank, Rare};
use crate::core::scheduling::Waits;
use crate::core::scheduling::schedule::{Repairs, Touches, shifted};
use crate::core::scheduling::waits::{Activity, Wait};
use crate::core::secrets::IssuedToken;

/// What is known of the target's name, before there is a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetName {
    #[default]
    Untried,
    /// The creation succeeded as a dry run in this generation, or the name was free and one alike had succeeded.
    Accepted(i64),
    /// A Secret has it.
    Taken,
}

/// What is remembered of a resource between two reconciles. After a restart the status stands in for it. A token that was not written is lost
/// then, and so are the counts that limit repairs.
#[derive(Clone, Default)]
pub struct Memory {
    pub(crate) recalled: bool,
    /// The target as it was evaluated last.
    pub(crate) target: Option<Evaluated>,
    pub(crate) target_name: TargetName,
    /// The generation that the target was last written for.
    pub(crate) written_generation: Option<i64>,
    /// Limits the reads of a target that others keep touching.
    pub(crate) touches: Rare<Touches>,
    /// Limits the repairs of a target that another writer keeps changing.
    pub(crate) repairs: Rare<Repairs>,
    /// The token that was issued and is not known to be written.
    pub(crate) issued: Option<Box<IssuedToken>>,
    /// The length of the token that was issued or read last, where that is known: the target with it must not be too large.
    pub(crate) token_bytes: usize,
    /// A trigger that stays until a token is issued, also when its cause goes away: of a request that failed, of credentials that
    /// changed, of an annotation that was seen in a pause.
    pub(crate) pinned: Option<Trigger>,
    /// When the exchange of the last token that was issued ended. A request that fails has a wait of its own.
    pub(crate) last_exchange: Option<CompactTime>,
    /// The `requested-at` that was last acted on, also when the status is not written yet.
    pub(crate) last_handled_request: Option<Box<str>>,
    pub(crate) facts: Facts,
    /// The prerequisite that is not met.
    pub(crate) unmet: Option<Box<Unmet>>,
    pub waits: Waits,
    pub(crate) reported: Reported,
    /// Limits the writes of a status that another writer keeps overwriting.
    pub status_repairs: Rare<Repairs>,
    /// A hash of the client ID, to compare what the portal answers about a token with.
    pub app: Option<u64>,
    pub verification: Rare<VerificationState>,
}

impl Memory {
    /// Returns the failed activity that is reported: of several, the first in the order of the reasons.
    #[must_use]
    pub fn reported_wait(&self) -> Option<&Wait> {
        self.waits.failures().min_by_key(|wait| wait.reason)
    }

    /// Ends the wait before the next token request, if `applies` to it; returns whether it does.
    pub fn end_request_wait(&mut self, now: Timestamp, applies: impl FnOnce(&Wait) -> bool) -> bool {
        let wait = self.waits.get_mut(Activity::Request).filter(|wait| applies(wait));
        wait.map(|wait| wait.next_attempt = now).is_some()
    }

    /// Moves the remembered times after the clock was set by `step`, so that waits keep their length.
    pub fn shift(&mut self, step: SignedDuration) {
        shift(&mut self.last_exchange, step);
        self.waits.shift(step);
        self.reported.shift(step);
        self.verification.iter_mut().for_each(|state| state.shift(step));
        self.touches.iter_mut().for_each(|touches| touches.shift(step));
        [&mut self.repairs, &mut self.status_repairs].into_iter().flat_map(Rare::iter_mut).for_each(|r| r.shift(step));
    }
}

fn shift(time: &mut Option<CompactTime>, step: SignedDuration) {
    *time = time.map(|time| shifted(time.into(), step).into());
}

/// What the last event about renewals told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Not known since the start.
    #[default]
    Unknown,
    /// That nothing fails.
    Success,
    Failure(Reason),
}

/// What was reported beside the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    pub(crate) told: Told,
    /// When the cause of a failure was last written.
    pub(crate) cause_written: Option<CompactTime>,
    /// Since when the status differs in nothing but versions of Secrets.
    pub(crate) versions_differ_since: Option<CompactTime>,
}

impl Reported {
    fn shift(&mut self, step: SignedDuration) {
        shift(&mut self.cause_written, step);
        shift(&mut self.versions_differ_since, step);
    }
}

/// What is remembered of the verification.
#[derive(Clone, Debug, Default)]
pub struct VerificationState {
    /// The last answer that is reported; `None`: what the status says stays.
    pub(crate) answer: Option<Verification>,
    /// When the next verification of the token that was asked about is due.
    pub(super) next: Option<Timestamp>,
    /// The issue time of the token that was last asked about, and of the one that was last answered for.
    pub(super) asked: Option<Timestamp>,
    pub(super) answered: Option<Timestamp>,
    pub(super) unanswered: u32,
    /// The issue time of the token that the portal rejects, and when the first of the tokens in a row was rejected.
    pub(super) rejected: Option<Timestamp>,
    pub(super) rejected_since: Option<Timestamp>,
    /// When a token was last requested because the one before it was rejected.
    pub(super) replaced_at: Option<Timestamp>,
    /// Whether the clock of the portal differed with the last answer.
    pub clock_differs: bool,
}

impl Blank for VerificationState {
    const BLANK: &'static Self = &Self {
        answer: None,
        next: None,
        asked: None,
        answered: None,
        unanswered: 0,
        rejected: None,
        rejected_since: None,
        replaced_at: None,
        clock_differs: false,
    };
}

impl VerificationState {
    /// Moves the times after the clock was set by `step`, except those that identify tokens.
    pub(super) fn shift(&mut self, step: SignedDuration) {
        for time in [&mut self.next, &mut self.rejected_since, &mut self.replaced_at].into_iter().flatten() {
            *time = shifted(*time, step);
        }
    }
}
