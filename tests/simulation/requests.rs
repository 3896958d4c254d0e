//! Checks of how often a portal receives requests.

use arcgis_credential_operator::api::{Reason, Recovery};

use crate::fleet::Id;
use crate::history::Success;
use crate::reconciliation::{InProgress, PortalAnswer};
use crate::simulation::Simulation;
use crate::time::{DAY, SECOND, seconds};

impl Simulation {
    /// Checks the floor between requests: 30 s after a success, or 5 s when a user changed something or the target was
    /// deleted or damaged since that reconciliation started. It counts by the operator's clock, the only one that the
    /// operator has, or by true time where that clock was set back and a failed attempt is repeated.
    pub fn check_request(&mut self, id: Id, in_progress: &InProgress) {
        let now = self.clock.now;
        self.statistics.request(now);
        let history = &mut self.resources[id as usize].history;
        history.count(now);
        if let Some(last) = history.last_success {
            let passed = in_progress.sent.since(last.sent);
            let floor = if history.user_changed_at >= last.started_at { 5 * SECOND } else { 30 * SECOND };
            if passed < floor {
                let numbers = format!("{} s after a success, floor {} s", seconds(passed), seconds(floor));
                self.fail_check("the floor between requests", id, &numbers);
            }
        }
        self.check_pause(id);
    }

    /// Records the response of the portal.
    pub fn record_response(&mut self, id: Id, in_progress: &InProgress, response: PortalAnswer) {
        let reported = in_progress.reconciliation.s.status.failure.as_ref().map(|failure| failure.reason);
        // The status reports the requested renewal as handled.
        self.resources[id as usize].history.status_write_expected |=
            in_progress.reconciliation.s.requested_at != in_progress.reconciliation.s.status.last_handled_request;
        match response {
            Ok(_) => {
                let (token, sent) = (&in_progress.reconciliation.s.status.token, in_progress.sent);
                let renewal_due = token.as_ref().is_none_or(|token| token.renewal_time <= sent.timestamp());
                self.check_replacement_rate(id, sent, renewal_due);
                self.portals[self.resources[id as usize].portal].paused = false;
                let history = &mut self.resources[id as usize].history;
                history.last_success = Some(Success { sent: in_progress.sent, started_at: in_progress.started_at });
                history.unpublished = true;
                history.failures = 0;
                history.inputs_worked |= in_progress.started_at >= history.inputs_changed_at;
                history.rejected.clear();
                history.status_write_expected = true;
            }
            Err((reason, retry_after)) => {
                self.portals[self.resources[id as usize].portal].paused |= reason == Reason::RateLimited;
                self.check_rejection_rate(id, reason);
                self.record_failure(id, reason, retry_after, reported);
            }
        }
    }

    /// Checks that a rejected resource sends at most 30 requests a day; 120 where its inputs worked before and the
    /// rejection may be maintenance, or is a 429. Any 24 hours count. The count starts again after a user's change, a
    /// success or a transient failure.
    fn check_rejection_rate(&mut self, id: Id, reason: Reason) {
        let now = self.clock.now;
        let history = &mut self.resources[id as usize].history;
        let limit = match reason {
            Reason::RateLimited | Reason::RequestRejected if history.inputs_worked => 120,
            Reason::RateLimited => 30,
            reason if reason.recovery() == Recovery::ActionRequired => 30,
            _ => 0,
        };
        if limit != history.rejection_limit {
            history.rejected.clear();
            history.rejection_limit = limit;
        }
        if limit == 0 {
            return;
        }
        history.rejected.push_back(now);
        while history.rejected.front().is_some_and(|first| *first <= now - DAY) {
            history.rejected.pop_front();
        }
        let count = history.rejected.len();
        history.most_rejections = history.most_rejections.max(count);
        if count == limit + 1 {
            let numbers = format!("{count} requests within a day, {reason}, limit {limit}");
            self.fail_check("a rejected resource sends few requests", id, &numbers);
        }
    }

    /// Records a failure: the renewal may be late by the longest wait after it, plus the requests of all other
    /// resources.
    pub fn record_failure(&mut self, id: Id, reason: Reason, retry_after: Option<u32>, reported: Option<Reason>) {
        let resource = &mut self.resources[id as usize];
        let reported = reported.or_else(|| resource.status.failure.as_ref().map(|failure| failure.reason));
        let drain_time = self.portals[resource.portal].drain_time();
        let history = &mut resource.history;
        let wait = history.longest_backoff(reason, retry_after);
        history.failures += 1;
        history.exempt_until = history.exempt_until.max(self.clock.now + wait + drain_time);
        // A transient failure that is already reported causes no status write.
        let kept = reason.recovery() == Recovery::ActionRequired || reason == Reason::RateLimited;
        history.status_write_expected |= kept || reported != Some(reason);
    }
}
