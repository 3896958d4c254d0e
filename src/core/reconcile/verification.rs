//! The verification of the published token by the portal: when it is due, and what an answer changes.

use jiff::{SignedDuration, Timestamp};

use super::situation::Situation;
use super::token::{Token, TokenDetails};
use crate::api::{App, Condition, Rejection, Verification};
use crate::core::rare::Rare;
use crate::core::scheduling::schedule::{after, fraction, shifted, whole};

/// The shortest time between two requests because the portal rejects tokens. It doubles up to the longest.
const MIN_REJECTION_SECONDS: i64 = 300;
const MAX_REJECTION_SECONDS: i64 = 3600;
/// After so many checks in a row without an answer, the condition of a token that was checked before says so.
const UNANSWERED: u32 = 3;
/// A token issued so shortly before its rejection was recorded was requested because the one before it was rejected.
const RECENT_SECONDS: i64 = 60;

/// Whether the published token is the one that the portal rejected, and not a newer one.
fn reports_rejection(ready: &Condition) -> bool {
    ready.reason == "TokenRejected" || (ready.reason == "Suspended" && ready.status == "False")
}

impl Situation {
    /// Restores from the status what was checked before a restart. The next checks are spread over the interval.
    pub(super) fn recall_verification(&mut self, now: Timestamp) {
        if !self.verifies() {
            return;
        }
        // A time in the future is of a clock that was ahead: the rejections in a row may have begun at any time.
        let start = self.status.rejection.as_ref().map(|rejection| rejection.start_time);
        let issue_time = self.status.token.as_ref().map(|token| token.issue_time);
        let since = start.map(|start| if start > now { issue_time.unwrap_or(now).min(now) } else { start });
        self.memory.verification.rejected_since = since;
        let (Some(issued), Some(verified)) = (issue_time, self.condition("Verified")) else { return };
        let rejects = verified.reason == "TokenRejected";
        let current = !rejects || self.condition("Ready").is_some_and(reports_rejection);
        let replaces = since.is_some_and(|since| issued >= after(since, -RECENT_SECONDS));
        let state = &mut self.memory.verification;
        state.replaced_at = replaces.then_some(issued);
        state.rejected = (rejects && current).then_some(issued);
        let Some(verification) = self.plan.as_ref().ok().and_then(|plan| plan.verification.as_ref()) else { return };
        if current {
            let interval = SignedDuration::from_secs(verification.seconds());
            (state.asked, state.answered) = (Some(issued), Some(issued));
            state.next = Some(shifted(now, interval.mul_f64(fraction(&[b"verify", self.me.uid.as_bytes()]))));
        }
    }

    /// Returns since when the portal rejects tokens, in whole seconds. What was reported stays when the clock is set.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        let since = self.memory.verification.rejected_since?;
        Some(self.status.rejection.clone().unwrap_or(Rejection { start_time: whole(since) }))
    }

    /// Returns the last answer: as remembered, else as the status reports it.
    pub(crate) fn last_answer(&self) -> Option<Verification> {
        if !self.verifies() {
            return None;
        }
        self.memory.verification.answer.clone().or_else(|| self.reported_answer())
    }

    fn reported_answer(&self) -> Option<Verification> {
        match (self.condition("Verified")?.reason.as_str(), &self.status.app) {
            // Some of its privileges may not be reported.
            ("AppKnown" | "PrivilegesMissing", Some(app)) if app.privileges.len() < App::MAX_PRIVILEGES => {
                Some(Verification::AppKnown(app.clone()))
            }
            ("AppUnknown", _) => Some(Verification::AppUnknown),
            ("TokenRejected", _) => Some(Verification::TokenRejected),
            ("NotAnswered", _) => Some(Verification::NotAnswered),
            _ => None,
        }
    }

    /// Without verification no answer counts: a user may turn it off because only that fails.
    pub(super) fn forget_verification(&mut self) {
        if !self.verifies() {
            self.memory.verification = Rare::default();
        }
    }

    /// Whether tokens are checked. A spec that cannot be used changes nothing about that.
    pub(crate) fn verifies(&self) -> bool {
        self.plan.as_ref().map_or(true, |plan| plan.verification.is_some())
    }

    /// Returns when the next check of the published token is due; `None` while there is nothing to check. It is sent only to an
    /// allowed portal that issued it, and not while its successor waits to be written.
    #[must_use]
    pub fn verification_due(&self, now: Timestamp) -> Option<Timestamp> {
        let plan = self.plan.as_ref().ok().filter(|plan| !plan.suspend)?;
        let interval = plan.verification.as_ref()?.seconds();
        let Token::Published { token, .. } = self.token(now) else { return None };
        if token.expiration_time <= now {
            return None;
        }
        if !self.allowed || !self.is_as_specified(token.inputs.as_ref()) {
            return None;
        }
        let state = &self.memory.verification;
        // The portal rejects it until another one is published.
        if state.rejected == Some(token.issue_time) {
            return None;
        }
        let asked = state.asked == Some(token.issue_time);
        // A next check further away was planned with another interval, or by another clock.
        Some(state.next.filter(|_| asked).map_or(now, |next| next.min(after(now, interval))))
    }

    /// Records that a check of the published token begins; returns the issue time of the token.
    pub fn verification_started(&mut self, now: Timestamp) -> Option<Timestamp> {
        let interval = self.plan.as_ref().ok()?.verification.as_ref()?.seconds();
        let Token::Published { token, .. } = self.token(now) else { return None };
        let issued = token.issue_time;
        self.memory.verification.asked = Some(issued);
        self.memory.verification.next = Some(after(now, interval));
        Some(issued)
    }

    /// Records that a check could not be made now: the host has no permit for it.
    pub fn verification_deferred(&mut self, until: Timestamp) {
        self.memory.verification.next = Some(until);
    }

    /// Records the answer about the token that was issued at `issued`.
    pub fn verified(&mut self, issued: Timestamp, answer: Verification, now: Timestamp) {
        // An answer about a token that is no longer the published one says nothing about that.
        let outdated = match self.token(now) {
            Token::Unobserved => false,
            token => token.published().is_none_or(|token| token.issue_time != issued),
        };
        if !self.verifies() || outdated {
            return;
        }
        let first = self.memory.verification.answered != Some(issued);
        let state = &mut self.memory.verification;
        if answer == Verification::NotAnswered {
            state.unanswered = state.unanswered.saturating_add(1);
            if first || state.unanswered >= UNANSWERED {
                state.answer = Some(answer);
            }
            return;
        }
        state.unanswered = 0;
        state.answered = Some(issued);
        if answer == Verification::TokenRejected {
            state.rejected = Some(issued);
            state.rejected_since.get_or_insert(now);
        } else {
            (state.rejected, state.rejected_since) = (None, None);
        }
        state.answer = Some(answer);
    }

    /// Whether the portal rejects this token.
    pub(crate) fn is_rejected(&self, issued: Timestamp) -> bool {
        self.memory.verification.rejected == Some(issued)
    }

    /// Returns from when on a rejected token is replaced: at once for the first in a row, if none was replaced in the last 5
    /// minutes, then after 5 minutes, doubling to an hour. The time since the first rejection doubles with each wait, so
    /// nothing has to be counted.
    pub(super) fn replacement_due(&self, token: &TokenDetails, now: Timestamp) -> Option<Timestamp> {
        let since = self.memory.verification.rejected_since.filter(|_| self.is_rejected(token.issue_time))?;
        let Some(last) = self.memory.verification.replaced_at else { return Some(Timestamp::MIN) };
        let elapsed = last.duration_since(since).as_secs().max(0);
        let wait = (elapsed + MIN_REJECTION_SECONDS).clamp(MIN_REJECTION_SECONDS, MAX_REJECTION_SECONDS);
        // The issue time has whole seconds: the next full second counts. One in the future is of a clock that was ahead.
        Some(after(last, wait + 1).min(after(now, wait)))
    }
}
