//! What a decision consists of: the next step, the problem, and when to decide again.

use jiff::Timestamp;

use super::facts::Unmet;
use super::token::Trigger;
use crate::api::{Cause, Fault, Reason};
use crate::core::scheduling::Finding;
use crate::core::scheduling::waits::{Activity, Wait};
use crate::core::secrets::SecretPatch;

/// One thing to do. Its outcome is recorded in the [`super::Situation`], and [`super::decide()`] is called again.
#[derive(Debug)]
pub enum Step {
    ReadTarget,
    ReadCredentials,
    ReadCa,
    ReadClientCertificate,
    /// Create the target as a dry run, with a placeholder for the token.
    TryCreate,
    /// Look whether the target's name is free, in the cache of the API server.
    CheckName,
    /// Acquire a permit of the portal's host. A request follows, unless a prerequisite is not met.
    AcquirePermit,
    /// Request a token from the portal.
    Request(Trigger),
    /// Create the target with the unpublished token.
    Create,
    /// Replace the token in the target with the unpublished one.
    Publish(SecretPatch),
    /// Render the target again with the token that it contains.
    Render(SecretPatch),
    /// Change the target's owner reference.
    Own(SecretPatch),
    /// Nothing is left to do now.
    Rest,
}

impl Step {
    /// Returns the activity that fails when this step does.
    #[must_use]
    pub fn activity(&self) -> Activity {
        match self {
            Self::ReadTarget | Self::ReadCredentials | Self::ReadCa | Self::ReadClientCertificate | Self::CheckName => {
                Activity::Read
            }
            Self::AcquirePermit | Self::Request(_) => Activity::Request,
            Self::TryCreate | Self::Create | Self::Publish(_) | Self::Render(_) | Self::Rest => Activity::Write,
            Self::Own(_) => Activity::Own,
        }
    }

    /// Whether its call carries the content of the target.
    #[must_use]
    pub fn carries_target(&self) -> bool {
        matches!(self, Self::ReadTarget | Self::TryCreate) || self.writes()
    }

    /// Whether it changes the target.
    pub(crate) fn writes(&self) -> bool {
        matches!(self, Self::Create | Self::Publish(_) | Self::Render(_) | Self::Own(_))
    }

    /// Whether it requests a token.
    pub(crate) fn requests(&self) -> bool {
        matches!(self, Self::Request(_))
    }
}

/// How a problem is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A prerequisite is not met.
    Prerequisite,
    /// The portal's host asked for a pause until this time.
    Pause(Timestamp),
    /// This was tried and failed.
    Attempt(Activity),
}

/// What prevents the next step, with the names it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub finding: Finding,
    /// The key or the field that it is about.
    pub detail: Option<String>,
    pub source: Source,
}

impl Problem {
    pub(crate) fn prerequisite(fault: Fault, detail: Option<String>) -> Self {
        Self { reason: fault.reason, finding: fault.into(), detail, source: Source::Prerequisite }
    }

    /// The portal's host asked for a pause.
    pub(super) fn pause(until: Timestamp) -> Self {
        Self { source: Source::Pause(until), ..Self::prerequisite(Reason::RateLimited.into(), None) }
    }

    /// Returns the prerequisite that a status recorded as not met.
    pub(super) fn recalled(unmet: &Unmet) -> Self {
        Self { reason: unmet.reason, finding: unmet.finding.clone(), detail: None, source: Source::Prerequisite }
    }

    pub(crate) fn of(wait: &Wait) -> Self {
        let mut finding = wait.finding.clone();
        if wait.activity == Activity::Own && wait.reason == Reason::TargetRefused {
            finding.cause = Some(Cause::OwnerReference);
        }
        Self { reason: wait.reason, finding, detail: None, source: Source::Attempt(wait.activity) }
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
