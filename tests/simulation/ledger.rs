//! What is remembered of one resource to judge what the operator does with it. Nothing here is told to the operator.

use std::collections::VecDeque;

use arcgis_credential_operator::api::{Reason, Retry};
use arcgis_credential_operator::core::Priority;

use crate::time::{Clock, DAY, Ms, SECOND};

/// A published token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub serial: u64,
    pub issued: Ms,
    /// Its end in true time, by the clock as it was when it was published.
    pub expires: Ms,
    /// Granted, milliseconds.
    pub life: Ms,
    /// How far the clock was ahead then.
    pub offset: Ms,
    /// Its end is not judged: when it is renewed was the user's affair, or something was in the way when it was due.
    pub excused: bool,
}

impl Token {
    /// When its successor has to be there: with the lesser of 4.5 minutes and 45 % of its life to go; where it lives
    /// less than a minute, 30 s after it was issued and the time that a request takes.
    pub fn deadline(&self) -> Ms {
        if self.life >= 60 * SECOND {
            self.expires - (270 * SECOND).min(self.life * 45 / 100)
        } else {
            self.issued + 35 * SECOND
        }
    }
}

/// The success that a floor counts from: when it was asked for, and when that look began.
#[derive(Clone, Copy, Debug)]
pub struct Success {
    pub sent: Clock,
    pub begun: Ms,
}

/// All of it.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Ledger {
    pub created: bool,
    /// `renewBefore` is given: when it is renewed is the user's affair.
    pub own_margin: bool,
    pub token: Option<Token>,
    /// Not judged before: what was in the way is over, and everybody has had a turn.
    pub excused_until: Ms,
    pub last_success: Option<Success>,
    /// Issued and not written yet.
    pub unpublished: bool,
    /// When a person last changed something, or the target was last taken or damaged.
    pub changed_at: Ms,
    /// Failures since the last success.
    pub failures: u32,
    /// These inputs have brought a token; and when they were last changed.
    pub worked: bool,
    pub inputs_changed_at: Ms,
    /// Requests since it was last refused for another cause, and how many a day there may be.
    pub refused: VecDeque<Ms>,
    pub refused_limit: usize,
    pub refused_most: usize,
    /// Something has happened that a status may be written for.
    pub cause: bool,
    /// The spell of which it was last reported that a host asked for a pause.
    pub pause_reported: Option<Ms>,
    pub at_rest: bool,
    pub requests: u32,
    pub today: (Ms, u32),
    pub most_a_day: u32,
    /// In the queue of its host since, and wants a token; and when it was last told to go on.
    pub waits_since: Option<Ms>,
    pub place: Option<Priority>,
    pub told_at: Ms,
    /// Those that expire later and were served meanwhile.
    pub overtaken: u32,
}

impl Ledger {
    /// A person changed something, or the target was taken or damaged.
    pub fn change(&mut self, now: Ms) {
        self.changed_at = now;
        self.cause = true;
        self.at_rest = false;
        // What a pause is reported with has changed.
        self.pause_reported = None;
        self.refused.clear();
    }

    /// What a token is asked for with was changed.
    pub fn change_inputs(&mut self, now: Ms) {
        (self.worked, self.inputs_changed_at) = (false, now);
    }

    /// Counts a request.
    pub fn count(&mut self, now: Ms) {
        self.requests += 1;
        if self.today.0 != now / DAY {
            self.today = (now / DAY, 0);
        }
        self.today.1 += 1;
        self.most_a_day = self.most_a_day.max(self.today.1);
    }

    /// The longest wait that the contract has for the next failure, milliseconds.
    pub fn longest_wait(&self, reason: Reason, retry_after: Option<u32>) -> Ms {
        let doubled = |first: u32| i64::from(first) << self.failures.min(12);
        let seconds = match reason.retry() {
            Retry::OnChange => 0,
            Retry::Backoff { first, cap } => {
                let known = reason == Reason::RequestRejected && self.worked && self.token.is_some();
                doubled(first).min(if known { 900 } else { cap.into() })
            }
            Retry::RetryAfter => i64::from(retry_after.unwrap_or(60)).max(doubled(60)).min(3600),
        };
        seconds * SECOND * 5 / 4
    }
}
