//! What the checks record about one resource. The operator does not see it.

use std::collections::VecDeque;

use arcgis_credential_operator::api::{Reason, Retry, Verification};
use arcgis_credential_operator::core::Priority;
use jiff::Timestamp;

use crate::time::{Clock, DAY, Ms, SECOND};

/// A published token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub serial: u64,
    pub issued: Ms,
    /// When it expires in true time, by the clock as it was set when the token was published.
    pub expires: Ms,
    /// The granted lifetime in milliseconds.
    pub lifetime: Ms,
    /// How far the operator's clock was ahead at that time.
    pub offset: Ms,
    /// Whether its renewal is not checked: the user chose `renewBefore`, or the check was done or blocked before.
    pub exempt: bool,
}

impl Token {
    /// Returns when its successor must be published: when 4.5 minutes or 45 % of its lifetime remain, whichever is
    /// less; for lifetimes below a minute, 30 s after it was issued plus the time of a request.
    pub fn deadline(&self) -> Ms {
        if self.lifetime >= 60 * SECOND {
            self.expires - (270 * SECOND).min(self.lifetime * 45 / 100)
        } else {
            self.issued + 35 * SECOND
        }
    }
}

/// The success from which the floor between requests counts: when the request was sent, and when its reconciliation
/// started.
#[derive(Clone, Copy, Debug)]
pub struct Success {
    pub sent: Clock,
    pub started_at: Ms,
}

/// Everything recorded about a resource.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub struct History {
    pub created: bool,
    /// Whether `renewBefore` is set, so that the user decides when it is renewed.
    pub custom_renew_before: bool,
    pub token: Option<Token>,
    /// Renewals are not checked before this time: a failure, or the requests of all others after it, may delay them.
    pub exempt_until: Ms,
    pub last_success: Option<Success>,
    /// Whether a token was issued and is not written yet.
    pub unpublished: bool,
    pub status_written_at: Ms,
    /// When a user last changed something, or when the target was last deleted or damaged.
    pub user_changed_at: Ms,
    /// Failures since the last success.
    pub failures: u32,
    /// Whether a token was issued for the current inputs.
    pub inputs_worked: bool,
    /// When the inputs last changed.
    pub inputs_changed_at: Ms,
    /// Rejected requests of the last day.
    pub rejected: VecDeque<Ms>,
    /// How many rejected requests a day are allowed.
    pub rejection_limit: usize,
    pub most_rejections: usize,
    /// Whether something has happened that a status may be written for.
    pub status_write_expected: bool,
    /// The start of the phase in which a pause of the host was last reported.
    pub pause_reported_in: Option<Ms>,
    pub was_at_rest: bool,
    /// Whether it has `spec.verification` at all times.
    pub always_verified: bool,
    /// The answer to a check that was last reported, the issue time of the token that it was about, and how many checks in
    /// a row had none.
    pub answer: Option<Verification>,
    pub answered_for: Option<Timestamp>,
    pub unanswered: u32,
    /// The token that the portal was last heard to reject.
    pub rejected_token: Option<u64>,
    /// When tokens of the last day were requested because of that.
    pub replacements: VecDeque<Clock>,
    pub most_replacements: usize,
    pub checks: u32,
    /// How many tokens were published.
    pub published: u32,
    pub requests: u32,
    pub requests_today: (Ms, u32),
    pub most_requests_a_day: u32,
    /// Since when it waits in the queue of its host and needs a token.
    pub queued_since: Option<Ms>,
    pub queue_priority: Option<Priority>,
    /// When the host limiter last woke it.
    pub notified_at: Ms,
    /// How many resources with a later expiry got a permit meanwhile.
    pub overtaken: u32,
}

impl History {
    /// Records that a user changed something, or that the target was deleted or damaged.
    pub fn change(&mut self, now: Ms) {
        self.user_changed_at = now;
        self.status_write_expected = true;
        self.was_at_rest = false;
        // The inputs that the pause is reported with have changed.
        self.pause_reported_in = None;
        self.rejected.clear();
    }

    /// Records that an input of token requests changed.
    pub fn change_inputs(&mut self, now: Ms) {
        (self.inputs_worked, self.inputs_changed_at) = (false, now);
    }

    /// Counts a request.
    pub fn count(&mut self, now: Ms) {
        self.requests += 1;
        if self.requests_today.0 != now / DAY {
            self.requests_today = (now / DAY, 0);
        }
        self.requests_today.1 += 1;
        self.most_requests_a_day = self.most_requests_a_day.max(self.requests_today.1);
    }

    /// Returns the longest wait after the next failure with this reason that the reference allows, in milliseconds.
    pub fn longest_backoff(&self, reason: Reason, retry_after: Option<u32>) -> Ms {
        let doubled = |first: u32| i64::from(first) << self.failures.min(12);
        let seconds = match reason.retry() {
            Retry::OnChange => 0,
            Retry::Backoff { first, cap } => {
                let known = reason == Reason::RequestRejected && self.inputs_worked && self.token.is_some();
                doubled(first).min(if known { 900 } else { cap.into() })
            }
            Retry::RetryAfter => i64::from(retry_after.unwrap_or(60)).max(doubled(60)).min(3600),
        };
        seconds * SECOND * 5 / 4
    }
}
