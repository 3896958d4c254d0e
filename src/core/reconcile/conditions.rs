//! The conditions of a status, by the rules of kstatus.

use jiff::Timestamp;

use super::message::message;
use super::situation::Situation;
use super::verdict::{Problem, Source};
use crate::api::{Condition, Recovery, TokenStatus, Verification};
use crate::core::spec::Plan;

pub(super) struct Conditions<'a> {
    pub s: &'a Situation,
    pub now: Timestamp,
    pub list: Vec<Condition>,
}

impl Conditions<'_> {
    pub fn assess(
        &mut self,
        problem: Option<&Problem>,
        plan: Option<&Plan>,
        token: Option<&TokenStatus>,
        satisfied: i64,
        suspended: bool,
    ) {
        let generation = self.s.generation;
        let shown = problem.filter(|_| !suspended);
        let what = shown.map_or(("Pending", "The token is being requested.".to_owned()), |problem| {
            (problem.reason.as_str(), self.message(problem, plan))
        });
        let (valid, reason, message) = match token {
            Some(token) => self.validity(token),
            None if suspended => (false, "Suspended", "There is no token, and spec.suspend is true."),
            None => (false, what.0, what.1.as_str()),
        };
        self.add("Ready", if valid { "True" } else { "False" }, reason, message, satisfied);
        if suspended {
            return;
        }
        if shown.is_some_and(|problem| problem.reason.recovery() == Recovery::ActionRequired) {
            self.add("Stalled", "True", what.0, &what.1, generation);
        } else if !valid || satisfied != generation {
            self.add("Reconciling", "True", what.0, &what.1, generation);
        }
    }

    /// Returns whether a published token is valid, the reason and the message.
    fn validity(&self, token: &TokenStatus) -> (bool, &'static str, &'static str) {
        if token.expiration_time <= self.now {
            (false, "TokenExpired", "The token in the target has expired.")
        } else if self.s.is_rejected(token.issue_time) {
            (false, "TokenRejected", "The portal rejects the token in the target.")
        } else {
            (true, "TokenValid", "The target holds a valid token.")
        }
    }

    /// Returns the message of a problem. A recalled check has no detail: its message stays while the generation does.
    fn message(&self, problem: &Problem, plan: Option<&Plan>) -> String {
        let (reason, generation) = (problem.reason.as_str(), self.s.generation);
        let mut before = self.s.status.conditions.iter();
        match before.find(|c| c.reason == reason && c.observed_generation == generation) {
            Some(before) if problem.detail.is_none() && problem.source == Source::Prerequisite => {
                before.message.clone()
            }
            _ => message(problem, plan),
        }
    }

    pub fn verified(&mut self, answer: Option<&Verification>, plan: Option<&Plan>, satisfied: i64) {
        let Some(answer) = answer else {
            self.list.extend(self.s.condition("Verified").cloned());
            return;
        };
        let (status, message) = match answer {
            Verification::AppKnown(app) => {
                let required = plan.and_then(|plan| plan.verification.as_ref()).map(|v| &v.required_privileges);
                let missing = required.into_iter().flatten().filter(|name| !app.privileges.contains(name));
                let missing: Vec<&str> = missing.map(String::as_str).collect();
                if !missing.is_empty() {
                    let message = format!(
                        "The app lacks privileges: {}. Grant them in the portal; the next renewal gets them.",
                        missing.join(", ")
                    );
                    return self.add("Verified", "False", "PrivilegesMissing", &message, satisfied);
                }
                ("True", "The token belongs to this app.")
            }
            Verification::AppUnknown => ("False", "The token does not belong to this app."),
            Verification::TokenRejected => {
                ("False", "The portal rejects the token before its expiration; a new one is requested.")
            }
            Verification::NotAnswered => ("Unknown", "The portal did not answer the check of the token."),
        };
        self.add("Verified", status, answer.as_str(), message, satisfied);
    }

    fn add(&mut self, kind: &str, status: &str, reason: &str, message: &str, generation: i64) {
        let before = self.s.condition(kind).filter(|before| before.status == status);
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        self.list.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: before.map_or(now, |before| before.last_transition_time),
        });
    }
}
