//! The conditions of a status, by the rules of kstatus.

use jiff::Timestamp;

use super::message::message;
use crate::api::{Condition, Recovery, TokenStatus, Verification};
use crate::core::reconcile::situation::Situation;
use crate::core::reconcile::verdict::{Problem, Source};
use crate::core::scheduling::Finding;
use crate::core::scheduling::schedule::whole;
use crate::core::spec::{Plan, format_seconds};

/// What the conditions are derived from.
pub(super) struct Assessment<'a> {
    pub s: &'a Situation,
    pub plan: Option<&'a Plan>,
    pub problem: Option<&'a Problem>,
    pub token: Option<&'a TokenStatus>,
    /// The generation that the target satisfies.
    pub satisfied: i64,
    pub suspended: bool,
    pub now: Timestamp,
}

/// A reason and its message.
type Text = (&'static str, String);

pub(super) fn conditions(a: &Assessment<'_>) -> Vec<Condition> {
    let shown = a.problem.filter(|_| !a.suspended);
    let activity = match shown {
        Some(problem) => (problem.reason.as_str(), a.message(problem)),
        None => ("Pending", "The token is being requested.".to_owned()),
    };
    let (valid, ready) = match a.token {
        Some(token) => a.validity(token, shown.map(|_| activity.1.as_str())),
        None => (false, activity.clone()),
    };
    let ready = if a.suspended { ("Suspended", a.suspended_message()) } else { ready };
    let mut list = vec![a.condition("Ready", if valid { "True" } else { "False" }, ready, a.satisfied)];
    let stalled = shown.is_some_and(|problem| problem.reason.recovery() == Recovery::ActionRequired);
    if stalled {
        list.push(a.condition("Stalled", "True", activity, a.s.generation));
    } else if !a.suspended && (!valid || a.satisfied != a.s.generation) {
        list.push(a.condition("Reconciling", "True", activity, a.s.generation));
    }
    list.extend(a.verified());
    list
}

impl Assessment<'_> {
    /// Returns whether a published token is valid, the reason and the message.
    fn validity(&self, token: &TokenStatus, failure: Option<&str>) -> (bool, Text) {
        let TokenStatus { issue_time, expiration_time, renewal_time, .. } = token;
        if *expiration_time <= self.now {
            let failure = failure.map_or_else(String::new, |failure| format!(" {failure}"));
            return (false, ("TokenExpired", format!("The token expired at {expiration_time}.{failure}")));
        }
        if self.s.is_rejected(*issue_time) {
            let message = format!("The portal rejects the token in the target.{}", self.clock());
            return (false, ("TokenRejected", message));
        }
        let other = self.other_lifetime(token).unwrap_or_default();
        (true, ("TokenValid", format!("Valid until {expiration_time}; renewed from {renewal_time} on.{other}")))
    }

    /// Says that another lifetime was granted than the whole minutes that were sent.
    fn other_lifetime(&self, token: &TokenStatus) -> Option<String> {
        let plan = self.plan.filter(|_| self.satisfied == self.s.generation)?;
        let sent = plan.lifetime?.div_ceil(60) * 60;
        let sent = i64::try_from(sent).ok()?;
        let granted = token.expiration_time.as_second() - token.issue_time.as_second();
        (sent != granted).then(|| {
            let sent = format_seconds(sent);
            format!(" The portal granted {} and not the {sent} that were requested.", token.lifetime)
        })
    }

    /// Returns the message of a problem. What was recalled after a restart lacks details: its message stays while the
    /// generation does.
    fn message(&self, problem: &Problem) -> String {
        let (reason, generation) = (problem.reason.as_str(), self.s.generation);
        let mut before = self.s.status.conditions.iter();
        let recalled = problem.finding == Finding::default() && problem.source == Source::Prerequisite;
        match before.find(|c| c.reason == reason && c.observed_generation == generation) {
            Some(before) if recalled && problem.detail.is_none() => before.message.clone(),
            _ => message(problem, self.plan),
        }
    }

    fn suspended_message(&self) -> String {
        let paused = "no other one is requested while spec.suspend is true.";
        match self.token {
            Some(token) if token.expiration_time <= self.now => {
                format!("The token expired at {}; {paused}", token.expiration_time)
            }
            Some(token) if self.s.is_rejected(token.issue_time) => {
                format!("The portal rejects the token in the target; {paused}")
            }
            Some(token) => format!("Valid until {}; {paused}", token.expiration_time),
            None => "There is no token, and none is requested while spec.suspend is true.".to_owned(),
        }
    }

    fn verified(&self) -> Option<Condition> {
        if !self.s.verifies() {
            return None;
        }
        let Some(answer) = self.s.last_answer() else { return self.s.condition("Verified").cloned() };
        let missing = self.missing_privileges(&answer);
        let (status, reason, message) = match (&answer, missing.as_slice()) {
            (Verification::AppKnown(_), []) => ("True", answer.as_str(), "The token belongs to this app.".to_owned()),
            (Verification::AppKnown(_), missing) => {
                let missing = missing.join(", ");
                let advice = "Grant them in the portal; the next renewal gets them.";
                ("False", "PrivilegesMissing", format!("The app lacks privileges: {missing}. {advice}"))
            }
            (Verification::AppUnknown, _) => {
                ("False", answer.as_str(), "The token does not belong to this app.".to_owned())
            }
            (Verification::TokenRejected, _) => {
                let next = if self.suspended { "" } else { "; a new one is requested" };
                let message = format!("The portal rejects the token before its expiration{next}.{}", self.clock());
                ("False", answer.as_str(), message)
            }
            (Verification::NotAnswered, _) => {
                ("Unknown", answer.as_str(), "The portal did not answer the check of the token.".to_owned())
            }
        };
        Some(self.condition("Verified", status, (reason, message), self.satisfied))
    }

    /// What follows the message of a token that is rejected although it has not expired.
    fn clock(&self) -> &'static str {
        if self.s.memory.verification.clock_differs {
            " The clocks of the portal and of the operator's node differ by more than 5 minutes: compare both."
        } else {
            ""
        }
    }

    fn missing_privileges(&self, answer: &Verification) -> Vec<&str> {
        let Verification::AppKnown(app) = answer else { return Vec::new() };
        let required = self.plan.and_then(|plan| plan.verification.as_ref()).map(|v| &v.required_privileges);
        let missing = required.into_iter().flatten().filter(|name| !app.privileges.contains(name));
        missing.map(String::as_str).collect()
    }

    fn condition(&self, kind: &str, status: &str, (reason, message): Text, generation: i64) -> Condition {
        let before = self.s.condition(kind).filter(|before| before.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: before.map_or(whole(self.now), |before| before.last_transition_time),
        }
    }
}
