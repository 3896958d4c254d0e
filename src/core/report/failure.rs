//! Which of several failures a status reports, and how.

use jiff::Timestamp;

use super::message::message;
use crate::api::{Cause, Failure, Reason, Recovery};
use crate::core::reconcile::facts::Unmet;
use crate::core::reconcile::situation::Situation;
use crate::core::reconcile::verdict::{Problem, Source};
use crate::core::scheduling::Finding;
use crate::core::scheduling::schedule::{next_whole, whole};
use crate::core::scheduling::waits::{Activity, PREREQUISITE};

/// Returns the problem that is reported, and how a status records it: of several, the first in the order of the reasons.
pub(super) fn reported_failure(
    s: &Situation,
    problem: Option<Problem>,
    awaits_permit: bool,
    now: Timestamp,
) -> (Option<Problem>, Option<Failure>) {
    let (found, pause) = match problem {
        Some(Problem { source: Source::Pause(until), .. }) => (None, pause(s, Some(until), now)),
        Some(found) if found.source == Source::Prerequisite => (Some(found), None),
        _ => (None, awaits_permit.then(|| pause(s, None, now)).flatten()),
    };
    let unmet = found.zip(s.memory.unmet.as_deref().map(record));
    // What failed with other inputs is not what the pause delays.
    let paused = pause.is_some();
    let waits = s.memory.waits.failures().filter(|wait| !(paused && wait.activity == Activity::Request));
    let waits = waits.map(|wait| (Problem::of(wait), wait.report()));
    let (problem, failure) = waits.chain(unmet).chain(pause).min_by_key(|(problem, _)| problem.reason).unzip();
    let failure = failure.zip(problem.as_ref()).map(|(failure, problem): (Failure, &Problem)| Failure {
        cause: problem.finding.cause.map(|cause| cause.as_str().to_owned()),
        message: Some(message(problem, s.plan.as_ref().ok())),
        ..failure
    });
    (problem, failure)
}

/// Returns how a pause of the host is reported. It is no attempt of this resource: an earlier failure stays and keeps its
/// count, a longer pause changes nothing, and it is reported until the request that waits for it was made.
fn pause(s: &Situation, until: Option<Timestamp>, now: Timestamp) -> Option<(Problem, Failure)> {
    let made_with = s.made_with();
    if s.memory.waits.get(Activity::Request).is_some_and(|wait| wait.made_with == made_with) {
        return None;
    }
    let inputs = made_with.text("request");
    let before = s.status.failure.as_ref().filter(|failure| failure.reason == Reason::RateLimited);
    let failure = match before.filter(|before| before.inputs.as_ref() == Some(&inputs)) {
        Some(before) => before.clone(),
        None => Failure {
            reason: Reason::RateLimited,
            cause: None,
            message: None,
            start_time: before.map_or(whole(now), |before| before.start_time),
            count: None,
            last_attempt_time: None,
            next_attempt_time: Some(next_whole(until?)),
            inputs: Some(inputs),
        },
    };
    let finding = Finding { cause: Some(Cause::HttpStatus), ..Finding::default() };
    let source = Source::Attempt(Activity::Request);
    Some((Problem { reason: failure.reason, finding, detail: None, source }, failure))
}

/// Returns how a status records a prerequisite that is not met.
pub(crate) fn record(unmet: &Unmet) -> Failure {
    let kept = unmet.reason.recovery() == Recovery::ActionRequired;
    Failure {
        reason: unmet.reason,
        cause: None,
        message: None,
        start_time: whole(unmet.start_time),
        count: kept.then_some(1),
        last_attempt_time: kept.then(|| whole(unmet.found_at)),
        next_attempt_time: None,
        inputs: kept.then(|| unmet.made_with.text(PREREQUISITE)),
    }
}
