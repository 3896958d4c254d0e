//! The events of renewals that fail while the token is valid: when they begin to fail, fail otherwise, succeed again.

use jiff::{SignedDuration, Timestamp};

use super::conclude::ConditionChange;
use super::difference::stalls;
use super::situation::Situation;
use super::verdict::{Problem, Source};
use crate::api::ArcGisAppCredentialStatus;

/// A failure of this age is told, also before the second attempt.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(30);

impl Situation {
    /// Restores what was told before a restart.
    pub(super) fn recall_told(&mut self, now: Timestamp) {
        let failure = self.status.failure.as_ref().filter(|failure| !stalls(failure.reason));
        let old = failure.filter(|failure| now.duration_since(failure.start_time) >= TOLD_AFTER);
        self.memory.told = old.map(|failure| failure.reason);
    }

    /// Returns the event to tell, and when the next one may be due.
    pub(super) fn tell_renewals(
        &mut self,
        status: &ArcGisAppCredentialStatus,
        problem: Option<&Problem>,
        now: Timestamp,
    ) -> (Option<ConditionChange>, Option<Timestamp>) {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let Some(valid) = ready.filter(|ready| ready.status == "True") else {
            // The conditions tell it.
            self.memory.told = None;
            return (None, None);
        };
        let failure = status.failure.as_ref().zip(problem).filter(|(failure, _)| !stalls(failure.reason));
        let Some((failure, problem)) = failure else {
            let told = self.memory.told.take().filter(|_| status.failure.is_none());
            let message = format!("The renewal succeeds again. {}", valid.message);
            return (told.map(|_| event(false, &valid.reason, message)), None);
        };
        let due = failure.start_time.checked_add(TOLD_AFTER).unwrap_or(Timestamp::MAX);
        let repeated = match problem.source {
            Source::Attempt(activity) => self.memory.waits.get(activity).is_some_and(|wait| wait.count > 1),
            Source::Prerequisite | Source::Pause(_) => false,
        };
        let reason = failure.reason;
        if self.memory.told == Some(reason) {
            return (None, None);
        }
        if !repeated && now < due {
            return (None, Some(due));
        }
        self.memory.told = Some(reason);
        let until = status.token.as_ref().map(|token| format!(" The token is valid until {}.", token.expiration_time));
        let message = failure.message.clone().unwrap_or_default() + &until.unwrap_or_default();
        (Some(event(true, reason.as_str(), message)), None)
    }
}

fn event(warning: bool, reason: &str, message: String) -> ConditionChange {
    ConditionChange { warning, reason: reason.to_owned(), message }
}
