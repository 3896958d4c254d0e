//! What to do next. Reads like the contract: read, prerequisites, request, write, rest.

use jiff::Timestamp;

use super::memory::TargetName;
use super::prerequisites::unmet;
use super::situation::Situation;
use super::token::{Evaluated, Fit, Token};
use super::verdict::{Problem, Source, Step, Verdict};
use crate::api::{Cause, Fault, Reason};
use crate::core::object::Observed;
use crate::core::scheduling::Admit;
use crate::core::scheduling::schedule::{RESYNC_SECONDS, after};
use crate::core::scheduling::waits::Activity;
use crate::core::secrets::render;
use crate::core::spec::Plan;

/// Decides from what is known at `now`.
#[must_use]
pub fn decide(s: &Situation, now: Timestamp) -> Verdict {
    let problem = s.memory.reported_wait().map(Problem::of);
    let mut verdict = Verdict { step: Step::Rest, problem, wake: after(now, RESYNC_SECONDS), awaits_permit: false };
    if let Some(step) = step(s, now, &mut verdict) {
        verdict.step = step;
    }
    verdict
}

fn step(s: &Situation, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    let plan = match &s.plan {
        Ok(plan) => plan,
        Err(error) => {
            verdict.problem =
                Some(Problem::unmet(Fault::new(Reason::SpecInvalid, Cause::Undecodable), Some(error.to_string())));
            return None;
        }
    };
    if let Some(until) = s.memory.waits.all_suspended_until(&s.made_with(), now) {
        return verdict.sleep(until);
    }
    let token = s.token(now);
    if matches!(token, Token::Unobserved) {
        return Some(Step::ReadTarget);
    }
    if plan.suspend {
        return None;
    }
    let next = match unmet(s, plan, token) {
        // What fails is reported by the first reason that applies, so the target has to be known.
        Ok(Some(_)) if matches!(token, Token::Missing { assumed: true, .. }) => Some(Step::ReadTarget),
        Ok(Some(found)) => {
            let untouched = found.reason <= Reason::TargetNotOwned;
            verdict.problem = Some(found);
            if untouched {
                return None;
            }
            None
        }
        Ok(None) => request(s, plan, token, now, verdict),
        Err(read) => read_prerequisite(s, read, token, now, verdict),
    };
    next.or_else(|| write(s, plan, token, now, verdict))
}

/// What is read for a request is read with the permit for it, once.
fn read_prerequisite(
    s: &Situation,
    read: Step,
    token: Token<'_>,
    now: Timestamp,
    verdict: &mut Verdict,
) -> Option<Step> {
    if request_due(s, token, now) > now {
        return Some(read);
    }
    match permit(s, verdict) {
        Some(Permit::Held) => Some(read),
        Some(Permit::Available) => Some(Step::AcquirePermit),
        // A host at capacity is served soon. A pause is longer: what is wrong is reported before it ends.
        None => matches!(s.admit, Admit::PausedUntil(_)).then_some(read),
    }
}

/// Returns from when on the token that is owed is requested, after what failed before.
pub(crate) fn request_due(s: &Situation, token: Token<'_>, now: Timestamp) -> Timestamp {
    // A target that cannot be created delays the request, too.
    let activities: &[Activity] =
        if token.needs_creation() { &[Activity::Request, Activity::Write] } else { &[Activity::Request] };
    let owed = s.owed(now).at;
    s.memory.waits.until(activities, &s.made_with(), now).map_or(owed, |until| until.max(owed))
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
            verdict.problem =
                Some(Problem { source: Source::Pause(until), ..Problem::unmet(Reason::RateLimited.into(), None) });
            None
        }
    }
}

fn request(s: &Situation, plan: &Plan, token: Token<'_>, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    if matches!(token, Token::Issued { .. }) {
        return None;
    }
    let due = request_due(s, token, now);
    if due > now {
        return verdict.sleep(due);
    }
    if token.target().is_some_and(Evaluated::is_reported) {
        return Some(Step::ReadTarget);
    }
    let permit = permit(s, verdict)?;
    Some(if permit == Permit::Available {
        Step::AcquirePermit
    } else if token.needs_creation() && s.memory.target_name != TargetName::Accepted(s.generation) {
        Step::TryCreate
    } else if !matches!(s.credentials, Observed::Loaded(..)) {
        Step::ReadCredentials
    } else if plan.ca.is_some() && !matches!(s.ca, Observed::Loaded(..)) {
        Step::ReadCa
    } else if plan.client_certificate.is_some() && !matches!(s.client_certificate, Observed::Loaded(..)) {
        Step::ReadClientCertificate
    } else {
        Step::Request(s.owed(now).trigger)
    })
}

fn write(s: &Situation, plan: &Plan, token: Token<'_>, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    if let Token::Issued { over: None, .. } = token {
        return match s.memory.waits.until(&[Activity::Write], &s.made_with(), now) {
            Some(until) => verdict.sleep(until),
            None => Some(Step::Create),
        };
    }
    let target = token.target()?;
    if let Some(step) = update(s, plan, token, target, now, verdict) {
        return Some(step);
    }
    if target.owned {
        return None;
    }
    // What refused another change of the target is likely to refuse this one.
    match (s.memory.waits.until(&[Activity::Write, Activity::Own], &s.made_with(), now), &s.target) {
        (Some(until), _) => verdict.sleep(until),
        (None, Observed::Loaded(_, live)) => live.ownership(plan.target.policy, &s.me).map(Step::Own),
        (None, _) => Some(Step::ReadTarget),
    }
}

/// Writes the token that was issued, or repairs what was changed.
fn update(
    s: &Situation,
    plan: &Plan,
    token: Token<'_>,
    target: &Evaluated,
    now: Timestamp,
    verdict: &mut Verdict,
) -> Option<Step> {
    let (issued, limited) = match token {
        Token::Issued { token, .. } => (Some(token), None),
        Token::Published { fit: Fit::SpecChanged, .. } => (None, None),
        Token::Published { fit: Fit::Drifted, .. } => (None, Some(s.memory.repairs.allowed_at(now))),
        _ => return None,
    };
    let limited = limited.filter(|at| *at > now);
    if let Some(until) = s.memory.waits.until(&[Activity::Write], &s.made_with(), now).max(limited) {
        return verdict.sleep(until);
    }
    match (&s.target, issued) {
        (Observed::Loaded(_, live), Some(issued)) => live.patch(&render(plan, &s.me, issued)).map(Step::Publish),
        (Observed::Loaded(_, live), None) => live.patch(&render(plan, &s.me, &s.stored(live)?)).map(Step::Render),
        (_, Some(issued)) if target.rendered => {
            Some(Step::Publish(render(plan, &s.me, issued).replacement(&target.version)))
        }
        _ => Some(Step::ReadTarget),
    }
}
