//! What to do next. Reads like the contract: read, prerequisites, request, write, rest.

use jiff::Timestamp;

use super::memory::TargetName;
use super::prerequisites::first_unmet;
use super::situation::Situation;
use super::token::{Evaluated, Fit, Owed, Token, Trigger};
use super::verdict::{Problem, Step, Verdict};
use crate::api::{Cause, Fault, Reason};
use crate::core::object::Observed;
use crate::core::scheduling::Admit;
use crate::core::scheduling::schedule::{RESYNC_SECONDS, after, within_second};
use crate::core::scheduling::waits::Activity;
use crate::core::secrets::{LiveSecret, fits, render};
use crate::core::spec::Plan;

/// Decides from what is known at `now`.
#[must_use]
pub fn decide(s: &Situation, now: Timestamp) -> Verdict {
    let problem = s.memory.reported_wait().map(Problem::of);
    let mut verdict = Verdict { step: Step::Rest, problem, wake: after(now, RESYNC_SECONDS), awaits_permit: false };
    let plan = match &s.plan {
        Ok(plan) => plan,
        Err(error) => {
            let fault = Fault::new(Reason::SpecInvalid, Cause::Undecodable);
            return Verdict { problem: Some(Problem::prerequisite(fault, Some(error.to_string()))), ..verdict };
        }
    };
    if let Some(until) = s.memory.waits.all_suspended_until(|| s.made_with(), now) {
        verdict.sleep(until);
        return verdict;
    }
    let mut decision = Decision { s, plan, token: s.token(now), now, verdict };
    let step = decision.step();
    Verdict { step: step.unwrap_or(Step::Rest), ..decision.verdict }
}

/// While one of these prerequisites is not met, a target is not written: neither with a token that was issued, nor repaired.
const FORBID_WRITES: [Reason; 3] = [Reason::SpecInvalid, Reason::PortalNotAllowed, Reason::TargetNotOwned];

/// A decision in progress.
struct Decision<'a> {
    s: &'a Situation,
    plan: &'a Plan,
    token: Token<'a>,
    now: Timestamp,
    verdict: Verdict,
}

impl Decision<'_> {
    fn step(&mut self) -> Option<Step> {
        if matches!(self.token, Token::Unobserved) {
            return self.read_target();
        }
        if self.plan.suspend {
            return None;
        }
        match first_unmet(self.s, self.plan, self.token, self.now) {
            // What fails is reported by the first reason that applies, so the target has to be known.
            Ok(Some(_)) if matches!(self.token, Token::Missing { assumed: true, .. }) => Some(Step::ReadTarget),
            Ok(Some(found)) => {
                let reason = found.reason;
                self.verdict.problem = Some(found);
                if FORBID_WRITES.contains(&reason) { None } else { self.write() }
            }
            Ok(None) => self.request().or_else(|| self.write()),
            Err(read) => self.read(read).or_else(|| self.write()),
        }
    }

    fn read_target(&mut self) -> Option<Step> {
        match self.s.reads_touched_target_at(self.now).filter(|at| *at > self.now) {
            Some(at) => self.verdict.sleep(at),
            None => Some(Step::ReadTarget),
        }
    }

    /// What is read while no request is due is read at once, else with the permit for the request, once.
    fn read(&mut self, prerequisite: Step) -> Option<Step> {
        if matches!(self.token, Token::Issued { .. }) || self.s.request_due(self.now) > self.now {
            return Some(prerequisite);
        }
        match self.holds_permit() {
            Some(true) => Some(prerequisite),
            Some(false) => Some(Step::AcquirePermit),
            // A host at capacity is served soon. A pause is longer: what is wrong is reported before it ends.
            None => matches!(self.s.admit, Admit::PausedUntil(_)).then_some(prerequisite),
        }
    }

    /// Returns whether this reconcile holds a permit, or one is free; `None`, with what it waits for in the verdict, if neither.
    fn holds_permit(&mut self) -> Option<bool> {
        if self.s.has_permit {
            return Some(true);
        }
        match self.s.admit {
            Admit::Now => return Some(false),
            Admit::AtCapacity => self.verdict.awaits_permit = true,
            Admit::PausedUntil(until) => {
                self.verdict.sleep(until);
                self.verdict.problem = Some(Problem::pause(until));
            }
        }
        None
    }

    fn request(&mut self) -> Option<Step> {
        if matches!(self.token, Token::Issued { .. }) {
            return None;
        }
        let Owed { not_before: due, trigger } = self.s.next_request(self.now);
        if due > self.now {
            let wake = if trigger == Trigger::Due { within_second(&self.s.me.uid, due) } else { due };
            return self.verdict.sleep(wake);
        }
        if self.token.target().is_some_and(Evaluated::is_reported) {
            return Some(Step::ReadTarget);
        }
        Some(if self.holds_permit()? { self.prepared_request() } else { Step::AcquirePermit })
    }

    /// Returns the request, or what comes before it.
    fn prepared_request(&self) -> Step {
        let Self { s, plan, token, .. } = self;
        if token.needs_creation() && s.memory.target_name != TargetName::Accepted(s.generation) {
            self.try_name()
        } else if !s.credentials.is_loaded() {
            Step::ReadCredentials
        } else if plan.ca.is_some() && !s.ca.is_loaded() {
            Step::ReadCa
        } else if plan.client_certificate.is_some() && !s.client_certificate.is_loaded() {
            Step::ReadClientCertificate
        } else {
            Step::Request(s.owed(self.now).trigger)
        }
    }

    /// Returns what shows that the target can be created. What the cache of the API server holds may have been deleted since:
    /// a name that was taken is tried.
    fn try_name(&self) -> Step {
        let memory = &self.s.memory;
        let refused = memory.target_name == TargetName::Taken || memory.waits.get(Activity::Write).is_some();
        if self.s.created_alike && !refused { Step::CheckName } else { Step::TryCreate }
    }

    fn write(&mut self) -> Option<Step> {
        if let Token::Issued { over: None, .. } = self.token {
            return match self.waits_until(&[Activity::Write]) {
                Some(until) => self.verdict.sleep(until),
                None => Some(Step::Create),
            };
        }
        let target = self.token.target()?;
        if let Some(step) = self.update(target) {
            return Some(step);
        }
        if target.owned {
            return None;
        }
        // What refused another change of the target is likely to refuse this one.
        match (self.waits_until(&[Activity::Write, Activity::Own]), &self.s.target) {
            (Some(until), _) => self.verdict.sleep(until),
            (None, Observed::Loaded(_, live)) => live.ownership(self.plan.target.policy, &self.s.me).map(Step::Own),
            (None, _) => Some(Step::ReadTarget),
        }
    }

    /// Writes the token that was issued, or repairs what was changed.
    fn update(&mut self, target: &Evaluated) -> Option<Step> {
        let Self { s, plan, now, .. } = *self;
        let (issued, limited) = match self.token {
            Token::Issued { token, .. } => (Some(token), None),
            Token::Published { fit: Fit::SpecChanged, .. } => (None, None),
            Token::Published { fit: Fit::Drifted, .. } => (None, Some(s.memory.repairs.allowed_at(now))),
            _ => return None,
        };
        if let Some(until) = self.waits_until(&[Activity::Write]).max(limited.filter(|at| *at > now)) {
            return self.verdict.sleep(until);
        }
        match (&s.target, issued) {
            (Observed::Loaded(_, live), Some(issued)) => live.patch(&render(plan, &s.me, issued)).map(Step::Publish),
            (Observed::Loaded(_, live), None) => self.repair(live),
            (_, Some(issued)) if target.rendered => {
                Some(Step::Publish(render(plan, &s.me, issued).replacement(&target.version)))
            }
            _ => Some(Step::ReadTarget),
        }
    }

    fn repair(&self, live: &LiveSecret) -> Option<Step> {
        let Self { s, plan, .. } = self;
        // One that a longer URL of the portal belongs to is replaced.
        let stored = s.stored(live).filter(|stored| fits(plan, stored))?;
        if stored.inputs.is_none() && matches!(s.credentials, Observed::Unknown) {
            return Some(Step::ReadCredentials);
        }
        live.patch(&render(plan, &s.me, &stored)).map(Step::Render)
    }

    fn waits_until(&self, activities: &[Activity]) -> Option<Timestamp> {
        self.s.memory.waits.until(activities, || self.s.made_with(), self.now)
    }
}
