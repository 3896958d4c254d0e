//! Checks of the host limiter: pauses that a host asked for, and permits in the order of expiry, by turns with what has no
//! token.

use arcgis_credential_operator::core::{Activity, Memory, Outcome, Priority};
use jiff::Timestamp;

use crate::fleet::{Id, Resource};
use crate::portal::PortalState;
use crate::simulation::Simulation;
use crate::time::{MINUTE, Ms, SECOND, seconds};

/// How often a waiting resource may be overtaken: as often as there are permits, because a resource that is woken for a
/// free permit may no longer need it, and the next one that asks then gets it.
const MAX_OVERTAKEN: u32 = 8;

impl Simulation {
    /// Records that a resource waits at its host.
    pub fn record_queued(&mut self, id: Id, priority: Priority) {
        let resource = &mut self.resources[id as usize];
        if needs_request(resource, &resource.memory, self.clock.timestamp()) {
            // A resource that was woken but came too late for the permit keeps its place.
            let history = &mut resource.history;
            if history.notified_at != self.clock.now {
                history.queued_since = Some(self.clock.now);
            }
            let waiting = &mut self.waiting[resource.portal];
            if let Some(before) = history.queue_priority.replace(priority) {
                waiting.remove(&(before, id));
            }
            waiting.insert((priority, id));
        }
    }

    /// Checks that no resource with an earlier expiry waits while this one, with a token too, gets a permit. After a pause, the
    /// probe may be any resource.
    pub fn check_order(&mut self, id: Id, mine: Priority) {
        let now = self.clock.now;
        let timestamp = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        let history = &mut self.resources[id as usize].history;
        (history.queued_since, history.overtaken) = (None, 0);
        if let Some(queue_priority) = history.queue_priority.take() {
            self.waiting[portal].remove(&(queue_priority, id));
        }
        let Some(expiration) = mine else { return };
        while let Some((priority, other)) = self.waiting[portal].iter().find(|(other, _)| other.is_some()).copied() {
            let waits = &self.resources[other as usize];
            if waits.in_progress.is_some() || !needs_request(waits, &waits.memory, timestamp) {
                let history = &mut self.resources[other as usize].history;
                (history.queued_since, history.queue_priority) = (None, None);
                self.waiting[portal].remove(&(priority, other));
                continue;
            }
            let since = waits.history.queued_since.unwrap_or(now);
            if priority < Some(expiration) {
                let history = &mut self.resources[other as usize].history;
                history.overtaken += 1;
                if history.overtaken <= MAX_OVERTAKEN || self.portals[portal].paused {
                    return;
                }
                let numbers = format!(
                    "{expiration} gets a permit while {other}, {priority:?}, waits for {} s",
                    seconds(now - since)
                );
                self.fail_check("permits are given in the order of expiry", id, &numbers);
            }
            return;
        }
    }

    /// Checks that a host receives no request during a pause, whichever of its requests it answered with 429, and few while
    /// it keeps doing so.
    pub fn check_pause(&mut self, id: Id) {
        let until = self.portals[self.resources[id as usize].portal].paused_until;
        if self.clock.now < until {
            let numbers = format!("{} s before its end", seconds(until - self.clock.now));
            self.fail_check("a pause ends before the next request", id, &numbers);
        }
        self.check_rate_limit_pause(id);
    }

    /// Records a 429: a pause of at least a minute and at most five.
    pub fn record_limit(&mut self, id: Id, outcome: Outcome) {
        let portal = &mut self.portals[self.resources[id as usize].portal];
        if let Outcome::Limited(seconds) = outcome {
            let until = self.clock.now + Ms::from(seconds).clamp(60, 300) * SECOND;
            portal.paused_until = portal.paused_until.max(until);
            portal.paused = true;
        }
    }

    /// Checks that a host that keeps returning 429 receives at most two requests within five minutes after the first
    /// 429. The requests in flight before the first 429 are one burst. The pauses after it are 60, 120, 240 and 300 s,
    /// because the host may ask for a pause of only 60 s, so windows that begin with that burst do not count.
    fn check_rate_limit_pause(&mut self, id: Id) {
        let now = self.clock.now;
        let portal = &mut self.portals[self.resources[id as usize].portal];
        let Some(phase) = portal.phase(now).filter(|phase| matches!(phase.state, PortalState::Limited(_))).copied()
        else {
            portal.rate_limited_requests.clear();
            return;
        };
        if portal.rate_limited_since != phase.from {
            portal.rate_limited_since = phase.from;
            portal.rate_limited_requests.clear();
        }
        portal.rate_limited_requests.push(now);
        let burst = portal.rate_limited_requests[0] + SECOND;
        let sent = portal.rate_limited_requests.len();
        if sent >= 3
            && portal.rate_limited_requests[sent - 3] > burst
            && now - portal.rate_limited_requests[sent - 3] < 5 * MINUTE
        {
            let numbers =
                format!("three requests within {} s of 429", seconds(now - portal.rate_limited_requests[sent - 3]));
            self.fail_check("a host that returns 429 receives few requests", id, &numbers);
        }
    }

    /// Starts these checks again after the clock was set, because pauses follow the clock, and after a restart, because a
    /// status does not record the 429 to a check.
    pub fn reset_rate_limit_checks(&mut self) {
        for portal in &mut self.portals {
            portal.rate_limited_requests.clear();
            portal.paused_until = 0;
        }
    }
}

/// Whether a token is due and only the host limiter delays its request.
fn needs_request(resource: &Resource, memory: &Memory, now: Timestamp) -> bool {
    let waits = memory.waits.get(Activity::Request).is_some_and(|wait| wait.next_attempt > now);
    let due = resource.status.token.as_ref().is_none_or(|token| token.renewal_time <= now);
    let usable = resource.credentials.as_ref().is_some_and(|credentials| !credentials.incomplete);
    due && !waits && usable && !resource.spec.suspend
}
