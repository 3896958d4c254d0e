//! The conditions of a status, by the rules of kstatus.

use jiff::Timestamp;

use super::message::message;
use super::situation::Situation;
use super::verdict::{Problem, Source};
use crate::api::{Condition, Recovery, TokenStatus, Verification};
use crate::core::scheduling::Finding;
use crate::core::spec::{Plan, format_seconds};

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
        let current = satisfied == generation;
        let (valid, reason, message) = match token {
            Some(token) => self.validity(token, plan.filter(|_| current), shown.map(|_| what.1.as_str())),
            None => (false, what.0, what.1.clone()),
        };
        let (reason, message) =
            if suspended { ("Suspended", suspended_message(token, self.now)) } else { (reason, message) };
        self.add("Ready", if valid { "True" } else { "False" }, reason, &message, satisfied);
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
    fn validity(
        &self,
        token: &TokenStatus,
        plan: Option<&Plan>,
        failure: Option<&str>,
    ) -> (bool, &'static str, String) {
        let TokenStatus { issue_time, expiration_time, renewal_time, lifetime, .. } = token;
        if *expiration_time <= self.now {
            let failure = failure.map_or_else(String::new, |failure| format!(" {failure}"));
            return (false, "TokenExpired", format!("The token expired at {expiration_time}.{failure}"));
        }
        if self.s.is_rejected(*issue_time) {
            return (false, "TokenRejected", "The portal rejects the token in the target.".to_owned());
        }
        let granted = expiration_time.as_second() - issue_time.as_second();
        let sent = plan.and_then(|plan| plan.lifetime).map(|seconds| seconds.div_ceil(60) * 60);
        let other = sent.filter(|sent| i64::try_from(*sent).is_ok_and(|sent| sent != granted));
        let other = other.and_then(|sent| i64::try_from(sent).ok()).map_or_else(String::new, |sent| {
            format!(" The portal granted {lifetime} and not the {} that were requested.", format_seconds(sent))
        });
        (true, "TokenValid", format!("Valid until {expiration_time}; renewed from {renewal_time} on.{other}"))
    }

    /// Returns the message of a problem. What was recalled after a restart lacks details: its message stays while the
    /// generation does.
    fn message(&self, problem: &Problem, plan: Option<&Plan>) -> String {
        let (reason, generation) = (problem.reason.as_str(), self.s.generation);
        let mut before = self.s.status.conditions.iter();
        let recalled = problem.finding == Finding::default() && problem.source == Source::Prerequisite;
        match before.find(|c| c.reason == reason && c.observed_generation == generation) {
            Some(before) if recalled && problem.detail.is_none() => before.message.clone(),
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

/// The message of a suspended resource.
fn suspended_message(token: Option<&TokenStatus>, now: Timestamp) -> String {
    let paused = "no other one is requested while spec.suspend is true.";
    match token {
        Some(token) if token.expiration_time > now => format!("Valid until {}; {paused}", token.expiration_time),
        Some(token) => format!("The token expired at {}; {paused}", token.expiration_time),
        None => "There is no token, and none is requested while spec.suspend is true.".to_owned(),
    }
}
