//! What to report, and when to reconcile again.

use jiff::{SignedDuration, Timestamp};

use super::difference::{Difference, stalls};
use super::events::{ConditionChange, Renewals, condition_change};
use super::failure::reported_failure;
use super::status::status;
use crate::api::{ArcGisAppCredentialStatus, Reason};
use crate::core::compact_time::CompactTime;
use crate::core::reconcile::memory::{Memory, Reported};
use crate::core::reconcile::situation::Situation;
use crate::core::reconcile::verdict::Verdict;
use crate::core::scheduling::schedule::after;
use crate::core::scheduling::waits::{Activity, MadeWith};

/// What matters little is written after this time: the cause of a failure that may end by itself, and versions.
const PERIOD: SignedDuration = SignedDuration::from_mins(10);

/// The result of one reconcile.
pub struct Conclusion {
    pub status: ArcGisAppCredentialStatus,
    /// The status that it was concluded from.
    pub previous: ArcGisAppCredentialStatus,
    /// Whether the status differs from the one last written.
    pub changed: bool,
    /// What is remembered once the status is written.
    pub reported: Reported,
    /// Until when the status is not written, because an earlier write of it failed.
    pub report_after: Option<Timestamp>,
    pub change: Option<ConditionChange>,
    pub problem: Option<Reason>,
    pub wake: Timestamp,
    pub memory: Memory,
    /// What the write of the status is made with.
    pub made_with: MadeWith,
}

/// Concludes after [`crate::core::decide()`] has said [`crate::core::Step::Rest`].
#[must_use]
pub fn conclude(mut s: Situation, verdict: Verdict, now: Timestamp) -> Conclusion {
    let Verdict { problem, wake, awaits_permit, .. } = verdict;
    let suspended = s.is_suspended();
    let (problem, failure) = if suspended {
        (None, s.status.failure.clone())
    } else {
        s.settle(problem.as_ref(), now);
        reported_failure(&s, problem, awaits_permit, now)
    };
    let status = status(&s, problem.as_ref(), failure, suspended, now);
    let renewals = Renewals::of(&s, &status, problem.as_ref(), suspended, now);
    // A new resource that only waits for its turn is reported with the outcome of its request.
    let waits = awaits_permit && s.status.conditions.is_empty();
    let difference = Difference::between(&s.status, &status);
    let before = s.memory.reported;
    // A time in the future is of a clock that was ahead.
    let since = || before.versions_differ_since.map_or(now, |since| now.min(since.into()));
    let versions_differ_since = (difference == Difference::Versions).then(since);
    let before = Reported { versions_differ_since: versions_differ_since.map(Into::into), ..before };
    let changed = !waits && is_worth_a_write(difference, &status, before, now);
    let reported = Reported {
        told: renewals.told,
        cause_written: if changed { status.failure.as_ref().map(|_| now.into()) } else { before.cause_written },
        versions_differ_since: before.versions_differ_since.filter(|_| !changed),
    };
    if !changed {
        s.memory.report_succeeded(reported);
    }
    let made_with = s.made_with();
    let report_after = s.memory.waits.until(&[Activity::Report], || made_with.clone(), now);
    let expiration = status.token.as_ref().map(|token| token.expiration_time).filter(|at| *at > now);
    let versions_due = versions_differ_since.and_then(|since| since.checked_add(PERIOD).ok());
    let due = [expiration, s.verification_due(now), renewals.next, report_after, versions_due];
    Conclusion {
        changed,
        reported,
        report_after,
        change: condition_change(&s.status, &status).or(renewals.event),
        status,
        previous: s.status,
        problem: problem.map(|problem| problem.reason),
        // A due time that is not in the future would be a loop.
        wake: due.into_iter().flatten().fold(wake, Timestamp::min).max(after(now, 1)),
        memory: s.memory,
        made_with,
    }
}

/// Whether a difference from the status that was last written is written now.
fn is_worth_a_write(
    difference: Difference,
    status: &ArcGisAppCredentialStatus,
    before: Reported,
    now: Timestamp,
) -> bool {
    let old = |at: CompactTime| {
        let at = at.into();
        at > now || now.duration_since(at) >= PERIOD
    };
    match difference {
        Difference::None | Difference::Words => false,
        Difference::Versions => before.versions_differ_since.is_some_and(old),
        Difference::Cause => {
            let lasting = status.failure.as_ref().is_some_and(|failure| stalls(failure.reason));
            lasting || before.cause_written.is_none_or(old)
        }
        Difference::More => true,
    }
}
