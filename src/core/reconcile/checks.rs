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
    /// The token that was requested because the one before it was rejected.
    pub(super) replacement: Option<Replacement>,
    /// A hash of the client ID, to compare the answer with.
    pub app: Option<u64>,
}

/// A token that replaces a rejected one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    /// As the target records it.
    pub issue_time: Timestamp,
    /// The same moment by the clock as it is set now.
    pub at: Timestamp,
}

impl Replacement {
    pub fn new(issue_time: Timestamp) -> Self {
        Self { issue_time, at: issue_time }
    }
}

impl Checks {
    /// Moves the times after the clock was set by `step`, except those that identify tokens.
    pub(super) fn shift(&mut self, step: SignedDuration) {
        let replacement = self.replacement.as_mut().map(|replacement| &mut replacement.at);
        for time in [self.next.as_mut(), self.rejected_since.as_mut(), replacement].into_iter().flatten() {
            *time = shifted(*time, step);
        }
    }
}
