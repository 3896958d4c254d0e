//! What to do next. Reads like the contract: read, check, request, write, rest.

use jiff::Timestamp;

use super::prerequisites::failed_check;
use super::retry::{AttemptKind, RetryState};
use super::situation::{DryRun, Situation, TargetDetails, TargetState, TokenDetails};
use super::verdict::{Problem, Step, Verdict, check};
use crate::api::{Reason, Retry};
use crate::core::object::Observed;
use crate::core::scheduling::Admit;
use crate::core::scheduling::schedule::{
    CHANGE_FLOOR_SECONDS, FLOOR_SECONDS, RESYNC_SECONDS, RETRY_FLOOR_SECONDS, after,
};
use crate::core::secrets::render;
use crate::core::spec::Plan;

/// Decides from what is known at `now`.
#[must_use]
pub fn decide(s: &Situation, now: Timestamp) -> Verdict {
    let failed = s.memory.failures().filter(|failed| failed.made_with.kind != AttemptKind::Check);
    let problem = failed.min_by_key(|failed| failed.reason).map(Problem::of);
    let mut verdict = Verdict { step: Step::Rest, problem, wake: after(now, RESYNC_SECONDS), awaits_permit: false };
    verdict.step = step(s, now, &mut verdict);
    verdict
}

fn step(s: &Situation, now: Timestamp, verdict: &mut Verdict) -> Step {
    let plan = match &s.plan {
        Ok(plan) => plan,
        Err(error) => {
            verdict.problem = Some(check(Reason::SpecInvalid, Some(error.to_string())));
            return Step::Rest;
        }
    };
    // After a failed read, or a failure of the Kubernetes API or of the operator itself, everything about this resource
    // waits: what is decided next may need the same call.
    let suspends_all = |failed: &&RetryState| {
        failed.made_with.kind == AttemptKind::Read || matches!(failed.reason, Reason::ClusterError | Reason::Internal)
    };
    if let Some(until) = s.memory.failures().filter(suspends_all).filter_map(|failed| wait(s, failed, now)).max() {
        verdict.sleep(until);
        return Step::Rest;
    }
    let mut target = s.target_state();
    if matches!(target, TargetState::Unknown) {
        if !may_be_new(s, plan) {
            return Step::ReadTarget;
        }
        target = TargetState::Absent;
    }
    if plan.suspend {
        return Step::Rest;
    }
    let next = match failed_check(s, plan, &target) {
        Err(read) => read_for_check(s, read, &target, now, verdict),
        Ok(Some(found)) => {
            let untouched = found.reason <= Reason::TargetNotOwned;
            verdict.problem = Some(found);
            untouched.then_some(Step::Rest)
        }
        Ok(None) => request(s, plan, &target, now, verdict),
    };
    next.or_else(|| write(s, plan, &target, now, verdict)).unwrap_or(Step::Rest)
}

/// What is read for a request is read with the permit for it, once.
fn read_for_check(
    s: &Situation,
    read: Step,
    target: &TargetState,
    now: Timestamp,
    verdict: &mut Verdict,
) -> Option<Step> {
    if request_due(s, target, now) > now {
        return Some(read);
    }
    match permit(s, verdict) {
        Some(Permit::Held) => Some(read),
        Some(Permit::Available) => Some(Step::AcquirePermit),
        // A host at capacity is served soon. A pause is longer: what is wrong is reported before it ends.
        None => matches!(s.admit, Admit::PausedUntil(_)).then_some(read),
    }
}

/// Whether the target can be treated as absent until its creation as a dry run says whether the name is taken: a new
/// resource then costs no read of it. What fails is reported after the target was read.
fn may_be_new(s: &Situation, plan: &Plan) -> bool {
    let new = s.status.observed_generation == -1 && s.memory.dry_run != DryRun::NameTaken && !plan.suspend;
    new && !matches!(failed_check(s, plan, &TargetState::Absent), Ok(Some(_)))
}

/// Returns until when the retry state delays another attempt. A user's change ends every wait but a pause that the
/// portal asked for.
pub(super) fn wait(s: &Situation, failed: &RetryState, now: Timestamp) -> Option<Timestamp> {
    let unchanged = failed.made_with.same_inputs(&s.attempt(failed.made_with.kind));
    let until = if failed.reason.retry() == Retry::RetryAfter || unchanged {
        failed.next_attempt.unwrap_or(Timestamp::MAX)
    } else {
        after(failed.last_attempt?, RETRY_FLOOR_SECONDS)
    };
    // A time beyond the longest wait is of a clock that was ahead.
    let latest = failed.latest_attempt(now).unwrap_or(Timestamp::MAX);
    (until > now && until <= latest).then_some(until)
}

/// Returns the end of the wait after a failure of one of these kinds.
fn wait_for(s: &Situation, kinds: &[AttemptKind], now: Timestamp) -> Option<Timestamp> {
    let failures = s.memory.failures().filter(|failed| kinds.contains(&failed.made_with.kind));
    failures.filter_map(|failed| wait(s, failed, now)).max()
}

/// Returns from when on a token is to be requested, after what failed before.
fn request_due(s: &Situation, target: &TargetState, now: Timestamp) -> Timestamp {
    // A target that cannot be created delays the request, too.
    let absent = matches!(target, TargetState::Absent);
    let kinds = if absent { &[AttemptKind::Request, AttemptKind::Write][..] } else { &[AttemptKind::Request] };
    wait_for(s, kinds, now).map_or_else(|| schedule(s, target, now), |until| until.max(schedule(s, target, now)))
}

/// Returns from when on a token is to be requested, as if nothing had failed before.
fn schedule(s: &Situation, target: &TargetState, now: Timestamp) -> Timestamp {
    let no_sooner = |seconds| s.last_request(now).map_or(Timestamp::MIN, |sent| after(sent, seconds));
    let (scheduled, floor) = (no_sooner(FLOOR_SECONDS), no_sooner(CHANGE_FLOOR_SECONDS));
    let requested = s.memory.renewal_requested || s.asked();
    // A token that expired before it was written was not removed by anybody, and it answered what it was requested for.
    let lapsed = s.memory.unpublished.as_ref().is_some_and(|token| Some(&token.inputs) == s.inputs().as_ref());
    let change = if lapsed && !requested { scheduled } else { floor };
    let restored = s.memory.issued && !lapsed;
    let restore = || if restored { floor.max(s.memory.repairs.allowed_at(now)) } else { change };
    let retry = s.memory.retry_state.as_deref().is_some_and(|failed| failed.made_with.kind == AttemptKind::Request);
    let TargetState::Present(details) = target else { return restore() };
    let Some(token) = &details.token else { return restore() };
    let other_inputs = token.inputs.is_some() && token.inputs != s.inputs();
    let changed = (requested || other_inputs).then_some(if retry { Timestamp::MIN } else { change });
    changed.unwrap_or(Timestamp::MAX).min(due(s, token, scheduled, now))
}

/// Returns from when on the published token is to be renewed or replaced, not before `scheduled`.
fn due(s: &Situation, token: &TokenDetails, scheduled: Timestamp, now: Timestamp) -> Timestamp {
    let renewal =
        if Situation::issued_in_future(token, now) { scheduled } else { s.renewal_time(token).max(scheduled) };
    s.replacement_due(token, now).map_or(renewal, |replacement| renewal.min(replacement.max(scheduled)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Permit {
    Held,
    Available,
}

/// Returns whether a request may be sent; `None`, with what it waits for in the verdict, while it may not.
fn permit(s: &Situation, verdict: &mut Verdict) -> Option<Permit> {
    if s.has_permit {
        return Some(Permit::Held);
    }
    match s.admit {
        Admit::Now => Some(Permit::Available),
        Admit::AtCapacity => {
            verdict.awaits_permit = true;
            None
        }
        Admit::PausedUntil(until) => {
            verdict.sleep(until);
            let reason = Reason::RateLimited;
            verdict.problem = Some(Problem { reason, detail: None, until: Some(until), check: false });
            None
        }
    }
}

fn request(s: &Situation, plan: &Plan, target: &TargetState, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    if s.unpublished(now).is_some() {
        return None;
    }
    let due = request_due(s, target, now);
    if due > now {
        return verdict.sleep(due);
    }
    let absent = matches!(target, TargetState::Absent);
    let permit = permit(s, verdict)?;
    Some(if permit == Permit::Available {
        Step::AcquirePermit
    } else if absent && s.memory.dry_run != DryRun::Accepted(s.generation) {
        Step::TryCreate
    } else if !matches!(s.credentials, Observed::Loaded(..)) {
        Step::ReadCredentials
    } else if plan.ca.is_some() && !matches!(s.ca, Observed::Loaded(..)) {
        Step::ReadCa
    } else if plan.client_certificate.is_some() && !matches!(s.client_certificate, Observed::Loaded(..)) {
        Step::ReadClientCertificate
    } else {
        Step::Request
    })
}

fn write(s: &Situation, plan: &Plan, target: &TargetState, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    let details = match target {
        TargetState::Present(details) => details,
        TargetState::Absent | TargetState::Unknown => {
            s.unpublished(now)?;
            return match wait_for(s, &[AttemptKind::Write], now) {
                Some(until) => verdict.sleep(until),
                None => Some(Step::Create),
            };
        }
    };
    let stale = !details.rendered && details.token.is_some();
    if (s.unpublished(now).is_some() || stale)
        && let Some(step) = update(s, plan, details, now, verdict)
    {
        return Some(step);
    }
    if details.owned {
        return None;
    }
    // What refused another change of the target is likely to refuse this one.
    match (wait_for(s, &[AttemptKind::Write, AttemptKind::Ownership], now), &s.target) {
        (Some(until), _) => verdict.sleep(until),
        (None, Observed::Loaded(_, live)) => live.ownership(plan.target.policy, &s.me).map(Step::Own),
        (None, _) => Some(Step::ReadTarget),
    }
}

/// Writes the unpublished token, or repairs what was changed.
fn update(s: &Situation, plan: &Plan, details: &TargetDetails, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    let unpublished = s.unpublished(now);
    let drift = unpublished.is_none() && s.drifted();
    let limited = Some(s.memory.repairs.allowed_at(now)).filter(|at| drift && *at > now);
    if let Some(until) = wait_for(s, &[AttemptKind::Write], now).max(limited) {
        verdict.sleep(until)
    } else if let Observed::Loaded(_, live) = &s.target {
        match unpublished {
            Some(token) => live.patch(&render(plan, &s.me, token)).map(Step::Publish),
            None => live.patch(&render(plan, &s.me, &s.stored(live)?)).map(Step::Render),
        }
    } else if let (Some(token), true) = (unpublished, details.rendered) {
        Some(Step::Publish(render(plan, &s.me, token).replacement(&details.version)))
    } else {
        Some(Step::ReadTarget)
    }
}
