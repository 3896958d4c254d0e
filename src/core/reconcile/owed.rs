//! In which state a resource's token is, why the next one is owed, and from when on it is requested.

use jiff::Timestamp;

use super::memory::TargetName;
use super::situation::Situation;
use super::token::{Evaluated, Fit, Owed, Token, TokenDetails, Trigger};
use crate::core::object::Observed;
use crate::core::scheduling::renewal_time;
use crate::core::scheduling::schedule::{CHANGE_FLOOR_SECONDS, FLOOR_SECONDS, MAX_CLOCK_SKEW_SECONDS, after};
use crate::core::scheduling::waits::Activity;
use crate::core::secrets::{IssuedToken, Owner};

impl Situation {
    /// Returns the state of the token.
    pub(crate) fn token(&self, now: Timestamp) -> Token<'_> {
        let Some((over, assumed)) = self.evaluated() else { return Token::Unobserved };
        match (over, self.unpublished(now)) {
            (Some(Evaluated { owner, .. }), _) if *owner != Owner::Ours => Token::Foreign(owner),
            (over, Some(token)) => Token::Issued { token, over },
            (Some(in_target @ Evaluated { token: Some(token), .. }), None) => {
                Token::Published { in_target, token, fit: self.fit(in_target) }
            }
            (over, None) => Token::Missing { over, assumed },
        }
    }

    /// Returns the target as it was evaluated, if that still applies, and whether its absence is assumed.
    fn evaluated(&self) -> Option<(Option<&Evaluated>, bool)> {
        let known = self.memory.target.as_ref().filter(|known| known.generation == self.generation);
        match (&self.target, known) {
            (Observed::Absent, _) => Some((None, false)),
            (Observed::Cached(version) | Observed::Loaded(version, _), Some(known)) if known.is_of(version) => {
                Some((Some(known), false))
            }
            (Observed::Unknown, Some(known)) if known.is_reported() => Some((Some(known), false)),
            (Observed::Unknown, _) if self.may_assume_absent() => Some((None, true)),
            _ => None,
        }
    }

    /// Returns from when on a target is read that another writer changed, in something that may not matter. What is due with it
    /// does not wait.
    pub(super) fn reads_touched_target_at(&self, now: Timestamp) -> Option<Timestamp> {
        let known = self.memory.target.as_ref().filter(|known| known.generation == self.generation)?;
        let token = known.token.as_ref().filter(|_| known.owner == Owner::Ours)?;
        let due = self.renewal_time(token) <= now || self.demanded().is_some() || self.memory.issued.is_some();
        let touched = matches!(self.target, Observed::Cached(_));
        (touched && !due).then(|| self.memory.touches.allowed_at(now))
    }

    /// Whether a target may be taken as absent although nobody has looked: the resource was never reconciled, and no Secret is
    /// known to have the name.
    fn may_assume_absent(&self) -> bool {
        self.status.observed_generation == -1 && self.memory.target_name != TargetName::Taken && !self.is_suspended()
    }

    /// Whether the target holds what this generation specifies.
    pub(crate) fn is_satisfied(&self, token: Token<'_>) -> bool {
        let rendered = token.target().is_some_and(|target| target.rendered);
        rendered && token.published().is_some_and(|token| self.is_as_specified(token.inputs.as_ref()))
    }

    /// Compares the target with what is specified: what was as specified before was changed by another writer.
    fn fit(&self, target: &Evaluated) -> Fit {
        if target.rendered {
            Fit::Exact
        } else if self.was_written() {
            Fit::Drifted
        } else {
            Fit::SpecChanged
        }
    }

    /// Whether the target was as this generation specifies before.
    pub(super) fn was_written(&self) -> bool {
        [self.satisfied(), self.memory.written_generation].contains(&Some(self.generation))
    }

    /// Returns the token that was issued and still has to be written.
    #[must_use]
    pub fn unpublished(&self, now: Timestamp) -> Option<&IssuedToken> {
        self.issued_for_inputs().filter(|issued| issued.expiration_time > now)
    }

    /// Returns the token that was issued for what is specified now and was not written, also one that expired.
    fn issued_for_inputs(&self) -> Option<&IssuedToken> {
        let issued = self.memory.issued.as_deref()?;
        (issued.inputs == self.inputs()).then_some(issued)
    }

    /// Returns why the next token is owed, and the earliest time for it. What failed before delays it further: see
    /// [`Situation::request_due`].
    pub(crate) fn owed(&self, now: Timestamp) -> Owed {
        match self.token(now) {
            Token::Published { token, .. } | Token::Issued { over: Some(Evaluated { token: Some(token), .. }), .. } => {
                self.successor(token, now)
            }
            _ => self.replacement_of_missing(now),
        }
    }

    /// Returns when the token that is owed is requested.
    pub(crate) fn request_due(&self, now: Timestamp) -> Timestamp {
        self.next_request(now).not_before
    }

    /// Returns the request for the token that is owed: after the spacing, and after the waits for what failed before.
    pub(super) fn next_request(&self, now: Timestamp) -> Owed {
        // A target that cannot be created delays the request, too.
        let activities: &[Activity] =
            if self.token(now).needs_creation() { &[Activity::Request, Activity::Write] } else { &[Activity::Request] };
        let Owed { not_before, trigger } = self.owed(now);
        let until = self.memory.waits.until(activities, || self.made_with(), now);
        Owed { not_before: until.map_or(not_before, |until| until.max(not_before)), trigger }
    }

    /// A token is owed at once where there is none. One that is deleted repeatedly is restored with back-off.
    fn replacement_of_missing(&self, now: Timestamp) -> Owed {
        if let Some(lapsed) = self.lapsed(now) {
            return lapsed;
        }
        let not_before = self.spaced(CHANGE_FLOOR_SECONDS, now);
        // By the status, or in this process.
        let published = self.status.token.is_some() || self.memory.written_generation.is_some();
        let trigger = self.demanded().unwrap_or(if published { Trigger::Gone } else { Trigger::First });
        let repaired = (trigger == Trigger::Gone).then(|| self.memory.repairs.allowed_at(now));
        Owed { not_before: repaired.map_or(not_before, |allowed| allowed.max(not_before)), trigger }
    }

    /// A published token is followed by another when a user changed something, when it is due, or when it does not work.
    fn successor(&self, token: &TokenDetails, now: Timestamp) -> Owed {
        let scheduled = |at: Timestamp, trigger| Owed { not_before: at.max(self.spaced(FLOOR_SECONDS, now)), trigger };
        let due = if token.issue_time > after(now, MAX_CLOCK_SKEW_SECONDS) {
            scheduled(Timestamp::MIN, Trigger::ClockSetBack)
        } else {
            scheduled(self.renewal_time(token), Trigger::Due)
        };
        let rejected = self.replacement_due(token, now).map(|at| scheduled(at, Trigger::Rejected));
        [self.changed(token, now), rejected, Some(due)]
            .into_iter()
            .flatten()
            .min_by_key(|owed| owed.not_before)
            .unwrap_or(due)
    }

    /// What a user changed since the token was requested.
    fn changed(&self, token: &TokenDetails, now: Timestamp) -> Option<Owed> {
        // While the credentials are not known, nobody can say.
        let other_inputs = token.inputs.is_some() && self.inputs().is_some_and(|current| Some(current) != token.inputs);
        let trigger = self.demanded().or(other_inputs.then_some(Trigger::Inputs))?;
        // A failed request has a wait of its own in place of the spacing.
        if self.memory.waits.get(Activity::Request).is_some() {
            return Some(Owed { not_before: Timestamp::MIN, trigger });
        }
        Some(self.lapsed(now).unwrap_or_else(|| Owed { not_before: self.spaced(CHANGE_FLOOR_SECONDS, now), trigger }))
    }

    /// A token that expired before it was written was not removed by anybody, and it was the answer to what it was requested
    /// for: the next one comes no earlier than after any other success, unless it is demanded again.
    fn lapsed(&self, now: Timestamp) -> Option<Owed> {
        self.issued_for_inputs()?;
        Some(match self.demanded() {
            Some(trigger) => Owed { not_before: self.spaced(CHANGE_FLOOR_SECONDS, now), trigger },
            None => Owed { not_before: self.spaced(FLOOR_SECONDS, now), trigger: Trigger::Lapsed },
        })
    }

    /// Why a token is owed, independent of the target and the clock.
    fn demanded(&self) -> Option<Trigger> {
        self.memory.pinned.or(self.asked().then_some(Trigger::Requested))
    }

    fn spaced(&self, seconds: i64, now: Timestamp) -> Timestamp {
        self.last_exchange(now).map_or(Timestamp::MIN, |sent| after(sent, seconds))
    }

    /// Returns when the exchange of the last token ended. A time in the future is of a clock that was ahead.
    pub(crate) fn last_exchange(&self, now: Timestamp) -> Option<Timestamp> {
        let reported = self.status.token.as_ref().map(|token| token.issue_time).filter(|at| *at <= now);
        let exact = self.memory.last_exchange.map(Timestamp::from);
        let exact = exact.filter(|exact| reported.is_none_or(|at| exact.as_second() >= at.as_second()));
        exact.or_else(|| reported.map(|at| after(at, 1).min(now)))
    }

    /// When a token is renewed.
    pub(crate) fn renewal_time(&self, token: &TokenDetails) -> Timestamp {
        let before = self.plan.as_ref().ok().and_then(|plan| plan.renew_before);
        let granted = token.expiration_time.as_second() - token.issue_time.as_second();
        renewal_time(&self.me.uid, token.issue_time, granted, before)
    }
}
