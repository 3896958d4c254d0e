//! What is remembered of the checks of the published token.

use jiff::{SignedDuration, Timestamp};

use crate::api::Verification;
use crate::core::scheduling::schedule::shifted;

/// What is remembered of the checks.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The last answer that is reported; `None`: what the status says stays.
    pub(crate) answer: Option<Verification>,
    /// When the next check of the token that was asked about is due.
    pub(super) next: Option<Timestamp>,
    /// The issue time of the token that was last asked about, and of the one that was last answered for.
    pub(super) asked: Option<Timestamp>,
    pub(super) answered: Option<Timestamp>,
    pub(super) unanswered: u32,
    /// The issue time of the token that the portal rejects, and when the first of the tokens in a row was rejected.
    pub(super) rejected: Option<Timestamp>,
    pub(super) rejected_since: Option<Timestamp>,
    /// When a token was last requested because the one before it was rejected.
    pub(super) replaced_at: Option<Timestamp>,
    /// A hash of the client ID, to compare the answer with.
    pub app: Option<u64>,
}

impl Checks {
    /// Moves the times after the clock was set by `step`, except those that identify tokens.
    pub(super) fn shift(&mut self, step: SignedDuration) {
        for time in [&mut self.next, &mut self.rejected_since, &mut self.replaced_at].into_iter().flatten() {
            *time = shifted(*time, step);
        }
    }
}
