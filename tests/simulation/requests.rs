//! Checks of how often a portal is asked.

use arcgis_credential_operator::api::{Reason, Recovery};

use crate::fleet::Id;
use crate::ledger::Success;
use crate::reconciler::Reconciler;
use crate::simulation::Simulation;
use crate::time::{DAY, SECOND, seconds};

impl Simulation {
    /// A request is sent. Floors: 30 s after a success, 5 s when a person changed something or the target was taken
    /// or damaged since that look began; by the operator's clock, which is all it has, or by true time where that was set
    /// back and a failed attempt is made again.
    pub fn note_request(&mut self, id: Id, reconciler: &Reconciler) {
        let now = self.clock.now;
        self.figures.request(now);
        let ledger = &mut self.resources[id as usize].ledger;
        ledger.count(now);
        if let Some(last) = ledger.last_success {
            let passed = (now - last.sent.now).max(now + reconciler.sent.offset - last.sent.now - last.sent.offset);
            let floor = if ledger.changed_at >= last.begun { 5 * SECOND } else { 30 * SECOND };
            if passed < floor {
                let numbers = format!("{} s after a success, floor {} s", seconds(passed), seconds(floor));
                self.fail_check("the floor between requests", id, &numbers);
            }
        }
        self.note_turn(id, reconciler.s.status.token.as_ref().map(|token| token.expiration_time));
        self.note_storm_request(id);
    }

    /// The portal has answered.
    pub fn note_answer(&mut self, id: Id, reconciler: &Reconciler, answer: Result<i64, (Reason, Option<u32>)>) {
        let reported = reconciler.s.status.failure.as_ref().map(|failure| failure.reason);
        // What it was asked to do is reported as handled.
        self.resources[id as usize].ledger.cause |=
            reconciler.s.requested_at != reconciler.s.status.last_handled_request;
        let portal = &mut self.portals[self.resources[id as usize].portal];
        match answer {
            Ok(_) => {
                portal.paused = false;
                let ledger = &mut self.resources[id as usize].ledger;
                ledger.last_success = Some(Success { sent: reconciler.sent, begun: reconciler.begun });
                ledger.unpublished = true;
                ledger.failures = 0;
                ledger.worked |= reconciler.begun >= ledger.inputs_changed_at;
                ledger.refused.clear();
                ledger.cause = true;
            }
            Err((reason, retry_after)) => {
                portal.paused |= reason == Reason::RateLimited;
                self.note_refusal(id, reason);
                self.note_failure(id, reason, retry_after, reported);
            }
        }
    }

    /// A resource that is refused asks at most 30 times a day; where it worked before and the refusal may be
    /// maintenance, or is a 429, 120 times. Days are counted from any request on, and anew after a person's change,
    /// a success or an answer that is nobody's move.
    fn note_refusal(&mut self, id: Id, reason: Reason) {
        let now = self.clock.now;
        let ledger = &mut self.resources[id as usize].ledger;
        let limit = match reason {
            Reason::RateLimited | Reason::RequestRejected if ledger.worked => 120,
            Reason::RateLimited => 30,
            reason if reason.recovery() == Recovery::ActionRequired => 30,
            _ => 0,
        };
        if limit != ledger.refused_limit {
            ledger.refused.clear();
            ledger.refused_limit = limit;
        }
        if limit == 0 {
            return;
        }
        ledger.refused.push_back(now);
        while ledger.refused.front().is_some_and(|first| *first <= now - DAY) {
            ledger.refused.pop_front();
        }
        let count = ledger.refused.len();
        ledger.refused_most = ledger.refused_most.max(count);
        if count == limit + 1 {
            let numbers = format!("{count} requests within a day, {reason}, limit {limit}");
            self.fail_check("a refused resource asks seldom", id, &numbers);
        }
    }

    /// Something failed: it may be late by the wait that the contract has for that, and by a turn of everybody.
    pub fn note_failure(&mut self, id: Id, reason: Reason, retry_after: Option<u32>, reported: Option<Reason>) {
        let resource = &mut self.resources[id as usize];
        let reported = reported.or_else(|| resource.status.failure.as_ref().map(|failure| failure.reason));
        let drain = self.portals[resource.portal].drain();
        let ledger = &mut resource.ledger;
        let wait = ledger.longest_wait(reason, retry_after);
        ledger.failures += 1;
        ledger.excused_until = ledger.excused_until.max(self.clock.now + wait + drain);
        // A transient failure that is reported already is no news.
        let kept = reason.recovery() == Recovery::ActionRequired || reason == Reason::RateLimited;
        ledger.cause |= kept || reported != Some(reason);
    }
}
