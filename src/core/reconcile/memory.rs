//! What is remembered of a resource between two reconciles.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, Unmet};
use super::token::{Evaluated, Trigger};
use super::verification::VerificationState;
use super::waits::{Activity, Wait, Waits};
use crate::core::scheduling::schedule::{Repairs, shifted};
use crate::core::secrets::IssuedToken;

/// What is known of the target's name, before there is a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetName {
    #[default]
    Untried,
    /// The creation succeeded as a dry run in this generation.
    Accepted(i64),
    /// A Secret has it.
    Taken,
}

/// What is remembered of a resource between two reconciles. None of it is needed to act correctly after a restart.
#[derive(Clone, Default)]
pub struct Memory {
    pub(super) recalled: bool,
    /// The target as it was evaluated last.
    pub(crate) target: Option<Evaluated>,
    pub(crate) target_name: TargetName,
    /// The generation that the target was last written for.
    pub(crate) written_generation: Option<i64>,
    /// Limits the repairs of a target that another writer keeps changing.
    pub(crate) repairs: Repairs,
    /// The token that was issued and is not known to be written.
    pub(crate) issued: Option<Box<IssuedToken>>,
    /// Why a token is owed, where that does not show in the target or on the clock.
    pub(crate) demand: Option<Trigger>,
    /// When the exchange of the last token ended.
    pub(crate) last_request: Option<Timestamp>,
    /// The `requested-at` that was last acted on, also when the status is not written yet.
    pub(crate) last_handled_request: Option<String>,
    pub(crate) facts: Facts,
    /// The prerequisite that is not met.
    pub(crate) unmet: Option<Box<Unmet>>,
    pub waits: Waits,
    /// Limits the writes of a status that another writer keeps overwriting.
    pub status_repairs: Repairs,
    pub verification: VerificationState,
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
        self.last_request = self.last_request.map(|time| shifted(time, step));
        self.waits.shift(step);
        self.verification.shift(step);
        self.repairs.shift(step);
        self.status_repairs.shift(step);
    }
}
