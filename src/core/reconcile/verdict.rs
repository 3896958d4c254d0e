//! What a decision consists of: the next step, the problem, and when to decide again.

use jiff::Timestamp;
use serde_json::Value;

use super::retry::{AttemptKind, RetryState};
use crate::api::Reason;

/// One thing to do. Its outcome is recorded in the [`Situation`], and [`super::decide()`] is called again.
#[derive(Debug)]
pub enum Step {
    ReadTarget,
    ReadCredentials,
    ReadCa,
    ReadClientCertificate,
    /// Create the target as a dry run, with a placeholder for the token.
    TryCreate,
    /// Acquire a permit of the portal's host. A request follows, unless a check fails first.
    AcquirePermit,
    /// Request a token from the portal.
    Request,
    /// Create the target with the unpublished token.
    Create,
    /// Replace the token in the target with the unpublished one.
    Publish(Value),
    /// Render the target again with the token that it contains.
    Render(Value),
    /// Change the target's owner reference.
    Own(Value),
    /// Nothing is left to do now.
    Rest,
}

/// What prevents the next step, with the names it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub detail: Option<String>,
    /// The end of the host's pause, where that is the problem.
    pub until: Option<Timestamp>,
    /// Found before anything was tried.
    pub check: bool,
}

impl Problem {
    /// Returns the problem that a failed attempt is.
    pub(super) fn of(failed: &RetryState) -> Self {
        let detail = (failed.made_with.kind == AttemptKind::Ownership).then(|| OWNER_REFERENCE.to_owned());
        Self { reason: failed.reason, detail, until: None, check: false }
    }
}

/// The next step, and with [`Step::Rest`] what to report and when to reconcile again.
#[derive(Debug)]
pub struct Verdict {
    pub step: Step,
    pub problem: Option<Problem>,
    pub wake: Timestamp,
    /// A request is due and waits only for a permit of the host.
    pub awaits_permit: bool,
}

impl Verdict {
    /// Leaves nothing to do before `until`.
    pub(super) fn sleep(&mut self, until: Timestamp) -> Option<Step> {
        self.wake = self.wake.min(until);
        None
    }
}

/// The detail of a problem with nothing but the owner reference of a target.
pub(crate) const OWNER_REFERENCE: &str = "owner reference";

pub(super) fn check(reason: Reason, detail: Option<String>) -> Problem {
    Problem { reason, detail, until: None, check: true }
}
