//! What to do next. Reads like the contract: look, check, ask for a token, write, rest.

use jiff::Timestamp;
use serde_json::Value;

use super::retry::{AttemptKind, RetryState};
use super::situation::{Situation, TargetDetails, TargetState};
use crate::api::{Reason, Retry};
use crate::core::object::{Observed, Version};
use crate::core::scheduling::Admit;
use crate::core::scheduling::schedule::{
    CHANGE_FLOOR_SECONDS, FLOOR_SECONDS, RESYNC_SECONDS, RETRY_FLOOR_SECONDS, after,
};
use crate::core::secrets::{Owner, render};
use crate::core::spec::Plan;

/// One thing to do; its outcome is told to the [`Situation`], and the question is asked again.
#[derive(Debug)]
pub enum Step {
    ReadTarget,
    ReadCredentials,
    ReadCa,
    /// Create the target dry, with a stand-in for the token.
    TryCreate,
    /// Take a place at the portal's gate: what follows is a request, unless something is found in the way.
    AcquirePermit,
    /// Ask the portal for a token.
    Request,
    /// Create the target with the token that is unpublished.
    Create,
    /// Change the target's content.
    Patch(Value),
    /// Change the target's owner reference.
    Own(Value),
    /// Nothing more now.
    Rest,
}

/// What stands in the way, with the names it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub detail: Option<String>,
    /// Until when the host is to be left alone, where that is the problem.
    pub until: Option<Timestamp>,
    /// Found before anything was tried.
    pub check: bool,
}

/// The next step, and with [`Step::Rest`] what to report and when to look again.
#[derive(Debug)]
pub struct Verdict {
    pub step: Step,
    pub problem: Option<Problem>,
    pub wake: Timestamp,
    /// A request is due, and only the portal's gate is in the way.
    pub awaits_permit: bool,
}

impl Verdict {
    /// Nothing to do before `until`.
    fn sleep(&mut self, until: Timestamp) -> Option<Step> {
        self.wake = self.wake.min(until);
        None
    }
}

/// What is refused where only the owner reference of a target could not be changed.
pub(crate) const OWNER_REFERENCE: &str = "owner reference";

fn check(reason: Reason, detail: Option<String>) -> Problem {
    Problem { reason, detail, until: None, check: true }
}

/// Decides from what is known at `now`.
#[must_use]
pub fn decide(s: &Situation, now: Timestamp) -> Verdict {
    let retry_state =
        s.memory.retry_state.as_ref().filter(|retry_state| retry_state.made_with.kind != AttemptKind::Check);
    let problem = retry_state.map(|retry_state| Problem {
        reason: retry_state.reason,
        detail: (retry_state.made_with.kind == AttemptKind::Ownership).then(|| OWNER_REFERENCE.to_owned()),
        until: None,
        check: false,
    });
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
    // When the Kubernetes API fails, or we do, everything about this resource awaits_permit.
    let broken = |retry_state: &&RetryState| matches!(retry_state.reason, Reason::ClusterError | Reason::Internal);
    if let Some(until) = s.memory.retry_state.as_ref().filter(broken).and_then(|retry_state| wait(s, retry_state, now))
    {
        verdict.sleep(until);
        return Step::Rest;
    }
    let target = s.target_state();
    if matches!(target, TargetState::Unknown) {
        return Step::ReadTarget;
    }
    if plan.suspend {
        return Step::Rest;
    }
    match obstacle(s, plan, &target) {
        Err(step) => return step,
        Ok(Some(found)) => {
            let hands_off = found.reason <= Reason::TargetNotOwned;
            verdict.problem = Some(found);
            if hands_off {
                return Step::Rest;
            }
        }
        Ok(None) => {
            if let Some(step) = request(s, plan, &target, now, verdict) {
                return step;
            }
        }
    }
    write(s, plan, &target, now, verdict).unwrap_or(Step::Rest)
}

/// The first of the checks that fails, or what has to be read to know.
fn obstacle(s: &Situation, plan: &Plan, target: &TargetState) -> Result<Option<Problem>, Step> {
    if !s.allowed {
        return Ok(Some(check(Reason::PortalNotAllowed, None)));
    }
    let not_owned = |detail| Ok(Some(check(Reason::TargetNotOwned, detail)));
    match (target, &s.rival) {
        (TargetState::Absent, Some(rival)) => return not_owned(Some(format!("resource {rival} is to create it"))),
        (TargetState::Present(TargetDetails { owner: Owner::Other(Some(name)), .. }), _) => {
            return not_owned(Some(format!("it belongs to resource {name}")));
        }
        (TargetState::Present(TargetDetails { owner: Owner::Other(None), .. }), _) => return not_owned(None),
        (TargetState::Present(TargetDetails { owner: Owner::Unusable, .. }), _) => {
            return not_owned(Some("it is immutable or not of type Opaque".to_owned()));
        }
        _ => {}
    }
    let recalled = |reasons: &[Reason]| {
        s.memory.retry_state.as_ref().filter(|retry_state| reasons.contains(&retry_state.reason)).map(|retry_state| {
            let same = retry_state.made_with.same_inputs(&s.attempt(AttemptKind::Check));
            (retry_state.reason, same)
        })
    };
    let incomplete = |key: &str| Ok(Some(check(Reason::CredentialsIncomplete, Some(key.to_owned()))));
    match &s.credentials {
        Observed::Absent => return Ok(Some(check(Reason::CredentialsNotFound, None))),
        Observed::Unknown => return Err(Step::ReadCredentials),
        Observed::Loaded(_, Err(error)) => return incomplete(&error.key),
        Observed::Loaded(_, Ok(())) => {}
        Observed::Cached(version) => {
            let known = |last: &Version| last == version;
            match (&s.memory.incomplete_credentials, recalled(&[Reason::CredentialsIncomplete])) {
                (Some((last, generation, key)), _) if known(last) && *generation == s.generation => {
                    return incomplete(key);
                }
                (None, Some((reason, true))) => return Ok(Some(check(reason, None))),
                (Some(_), _) | (None, Some((_, false))) => return Err(Step::ReadCredentials),
                (None, None) => {}
            }
            let looked_at = s.status.credentials_version.as_ref() == Some(&version.resource)
                || s.memory.credentials.as_ref().is_some_and(|(last, _)| known(last));
            if !looked_at {
                return Err(Step::ReadCredentials);
            }
        }
    }
    if plan.ca.is_none() {
        return Ok(None);
    }
    match &s.ca {
        Observed::Absent => Ok(Some(check(Reason::CaBundleNotFound, None))),
        Observed::Unknown => Err(Step::ReadCa),
        Observed::Loaded(_, error) => Ok(error.map(|reason| check(reason, None))),
        Observed::Cached(version) => {
            let recalled = recalled(&[Reason::CaBundleNotFound, Reason::CaBundleInvalid]);
            match (&s.memory.ca, recalled) {
                (Some((last, generation, error)), _) if last == version && *generation == s.generation => {
                    Ok(error.map(|reason| check(reason, None)))
                }
                (None, Some((reason @ Reason::CaBundleInvalid, true))) => Ok(Some(check(reason, None))),
                (None, None) => Ok(None),
                _ => Err(Step::ReadCa),
            }
        }
    }
}

/// Returns until when the retry state delays another attempt. A user's change ends every wait but a pause that the
/// portal asked for.
pub(super) fn wait(s: &Situation, retry_state: &RetryState, now: Timestamp) -> Option<Timestamp> {
    let until = if retry_state.reason.retry() == Retry::RetryAfter
        || retry_state.made_with.same_inputs(&s.attempt(retry_state.made_with.kind))
    {
        retry_state.next_attempt.unwrap_or(Timestamp::MAX)
    } else {
        after(retry_state.last_attempt?, RETRY_FLOOR_SECONDS)
    };
    (until > now).then_some(until)
}

/// From when on a token is to be asked for.
fn wanted_from(s: &Situation, target: &TargetState, now: Timestamp) -> Timestamp {
    let no_sooner = |seconds| s.last_issued().map_or(Timestamp::MIN, |issued| after(issued, seconds));
    let (scheduled, floor) = (no_sooner(FLOOR_SECONDS), no_sooner(CHANGE_FLOOR_SECONDS));
    let asked = s.memory.renewal_requested || s.asked();
    // A token that ended before it was written is not one that somebody took, and what it was asked for was answered.
    let lapsed =
        s.memory.unpublished.as_ref().is_some_and(|unpublished| Some(&unpublished.inputs) == s.inputs().as_ref());
    let change = if lapsed && !asked { scheduled } else { floor };
    let restore = || match s.memory.last_issued {
        Some(_) if !lapsed => floor.max(s.memory.repairs.allowed_at(now)),
        _ => change,
    };
    let retry =
        s.memory.retry_state.as_ref().is_some_and(|retry_state| retry_state.made_with.kind == AttemptKind::Request);
    let TargetState::Present(details) = target else { return restore() };
    let Some(token) = &details.token else { return restore() };
    let other_inputs = token.inputs.is_some() && token.inputs != s.inputs();
    let due = s.renew_at(token).max(scheduled);
    let changed = (asked || other_inputs).then_some(if retry { Timestamp::MIN } else { change });
    changed.map_or(due, |changed| changed.min(due))
}

fn request(s: &Situation, plan: &Plan, target: &TargetState, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    if s.unpublished(now).is_some() {
        return None;
    }
    let mut from = wanted_from(s, target, now);
    let absent = matches!(target, TargetState::Absent);
    let holds_off = |retry_state: &&RetryState| {
        retry_state.made_with.kind == AttemptKind::Request
            || (absent && retry_state.made_with.kind == AttemptKind::Write)
    };
    if let Some(until) =
        s.memory.retry_state.as_ref().filter(holds_off).and_then(|retry_state| wait(s, retry_state, now))
    {
        from = from.max(until);
    }
    if from > now {
        return verdict.sleep(from);
    }
    match s.admit {
        Admit::Now => {}
        Admit::AtCapacity => {
            verdict.awaits_permit = true;
            return None;
        }
        Admit::PausedUntil(until) => {
            verdict.sleep(until);
            let reason = Reason::RateLimited;
            verdict.problem = Some(Problem { reason, detail: None, until: Some(until), check: false });
            return None;
        }
    }
    Some(if !s.has_permit {
        Step::AcquirePermit
    } else if absent && s.memory.dry_run_generation != Some(s.generation) {
        Step::TryCreate
    } else if !matches!(s.credentials, Observed::Loaded(..)) {
        Step::ReadCredentials
    } else if plan.ca.is_some() && !matches!(s.ca, Observed::Loaded(..)) {
        Step::ReadCa
    } else {
        Step::Request
    })
}

fn write(s: &Situation, plan: &Plan, target: &TargetState, now: Timestamp, verdict: &mut Verdict) -> Option<Step> {
    let waiting = |kind| {
        let retry_state = s.memory.retry_state.as_ref().filter(|retry_state| retry_state.made_with.kind == kind);
        retry_state.and_then(|retry_state| wait(s, retry_state, now))
    };
    let unpublished = s.unpublished(now);
    let details = match target {
        TargetState::Present(details) => details,
        TargetState::Absent | TargetState::Unknown => {
            unpublished?;
            return match waiting(AttemptKind::Write) {
                Some(until) => verdict.sleep(until),
                None => Some(Step::Create),
            };
        }
    };
    let stale = !details.rendered && details.token.is_some();
    if unpublished.is_some() || stale {
        let drift = unpublished.is_none() && s.satisfied() == Some(s.generation);
        let fight = Some(s.memory.repairs.allowed_at(now)).filter(|at| drift && *at > now);
        if let Some(until) = waiting(AttemptKind::Write).max(fight) {
            verdict.sleep(until);
        } else if let Observed::Loaded(_, live) = &s.target {
            let published = unpublished.cloned().or_else(|| s.stored(live))?;
            if let Some(patch) = live.patch(&render(plan, &s.me, &published)) {
                return Some(Step::Patch(patch));
            }
        } else if let (Some(unpublished), true) = (unpublished, details.rendered) {
            return Some(Step::Patch(render(plan, &s.me, unpublished).replacement(&details.version)));
        } else {
            return Some(Step::ReadTarget);
        }
    }
    if details.owned {
        return None;
    }
    match (waiting(AttemptKind::Ownership), &s.target) {
        (Some(until), _) => verdict.sleep(until),
        (None, Observed::Loaded(_, live)) => live.ownership(plan.target.policy, &s.me).map(Step::Own),
        (None, _) => Some(Step::ReadTarget),
    }
}
