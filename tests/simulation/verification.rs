//! Verification: the portal is asked about published tokens, and ends some of them early.

use arcgis_credential_operator::api::{App, Verification};
use arcgis_credential_operator::core::{Admit, Epoch, Outcome, Situation};
use arcgis_credential_operator::index::Verified;
use jiff::{SignedDuration, Timestamp};

use crate::fleet::{GrantedLifetimes, Id, Resource};
use crate::history::History;
use crate::secrets;
use crate::simulation::{Event, Simulation};
use crate::time::{Clock, DAY, HOUR, MINUTE, Ms, SECOND, log_uniform, seconds};

/// A check that a host at capacity, or a failing API server, does not admit is made this many seconds later.
const DEFER_SECONDS: i64 = 10;
/// The shortest lifetime of a token that is written before it expires.
const SHORTEST_LIFETIME_SECONDS: i64 = 10;
/// The privilege that some resources require, and that apps lose from time to time.
pub const PRIVILEGE: &str = "premium:user:geocode";

/// Something that happens to a token or its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckEvent {
    /// The portal answers, if the process that made the check still runs.
    Answered(Id, u64),
    /// A portal ends all its tokens.
    EndTokens(usize),
    /// The deadline for the successor of a token that the portal ended.
    Replaced(Id, u64),
}

/// A check that the portal has not answered.
pub struct CheckInFlight {
    permit: Epoch,
    outcome: Outcome,
    result: Verified,
}

impl Resource {
    /// Returns how often its token is checked.
    pub fn check_interval(&self) -> Option<Ms> {
        match self.spec.verification.as_ref()?.interval.as_str() {
            "1m" => Some(MINUTE),
            "1h" => Some(HOUR),
            _ => Some(15 * MINUTE),
        }
    }
}

impl History {
    /// Verification was turned on or off: no earlier answer counts.
    pub fn forget_answers(&mut self) {
        (self.answer, self.answered_for, self.unanswered, self.rejected_token) = (None, None, 0, None);
    }

    /// Records what the portal says about the token issued at `issued`; a status may be written where that is new.
    fn record_answer(&mut self, issued: Timestamp, answer: &Verification, serial: Option<u64>) {
        let first = self.answered_for.replace(issued) != Some(issued);
        if *answer == Verification::NotAnswered {
            self.unanswered += 1;
            if !first && self.unanswered != 3 {
                return;
            }
        } else {
            self.unanswered = 0;
        }
        let rejected = *answer == Verification::TokenRejected;
        if !rejected && *answer != Verification::NotAnswered {
            // The count begins again, and the spacing to the last one stays.
            self.replacements.drain(..self.replacements.len().saturating_sub(1));
        }
        self.rejected_token = serial.filter(|_| rejected);
        self.status_write_expected |= self.answer.as_ref() != Some(answer) || (rejected && first);
        self.answer = Some(answer.clone());
    }
}

impl Simulation {
    /// Schedules when portals end all their tokens, and when some of them reject every token for a while.
    pub fn schedule_rejections(&mut self) {
        for portal in 0..self.portals.len() {
            let mut at = 0;
            while at < self.end {
                at += log_uniform(&mut self.rng, 3 * HOUR, 40 * HOUR);
                self.at(at, Event::Verification(CheckEvent::EndTokens(portal)));
                if portal % 4 == 1 {
                    at += HOUR;
                    let until = at + log_uniform(&mut self.rng, 10 * MINUTE, 30 * HOUR);
                    self.portals[portal].rejecting.push((at, until));
                    at = until;
                }
            }
        }
    }

    /// Returns the issue time of the token to check, where a check is due.
    pub fn due_verification(&self, s: &mut Situation) -> Option<Timestamp> {
        let now = self.clock.timestamp();
        s.verification_due(now).filter(|due| *due <= now)?;
        s.verification_started(now)
    }

    /// Asks the portal about the token that was issued at `issued`.
    pub fn start_check(&mut self, id: Id, issued: Timestamp) {
        let now = self.clock.timestamp();
        let resource = &self.resources[id as usize];
        let portal = resource.portal;
        let later = now.checked_add(SignedDuration::from_secs(DEFER_SECONDS)).expect("in range");
        let deferred = match self.operator.hosts[portal].limiter.try_verify(now) {
            Admit::PausedUntil(until) => Some(until),
            Admit::AtCapacity => Some(later),
            Admit::Now => None,
        };
        let permit = self.operator.hosts[portal].limiter.epoch();
        let token = resource.history.token.filter(|_| self.api_up && resource.target.is_some());
        let Some(token) = token.filter(|_| deferred.is_none()) else {
            if deferred.is_none() {
                self.release_permit(id, permit, Outcome::Failed);
            }
            self.resources[id as usize].check_result = Some(Verified::Deferred(deferred.unwrap_or(later)));
            return self.wake(id);
        };
        self.check_pause(id);
        let (after, answer, retry_after) = self.ask(id, token.serial);
        let outcome = match (retry_after, &answer) {
            (Some(seconds), _) => Outcome::Limited(seconds),
            (None, Verification::NotAnswered) => Outcome::Unanswered,
            (None, _) => Outcome::Issued,
        };
        let resource = &mut self.resources[id as usize];
        resource.history.checks += 1;
        resource.check = Some(CheckInFlight { permit, outcome, result: Verified::Answered(issued, answer, false) });
        self.after(after, Event::Verification(CheckEvent::Answered(id, self.operator.started)));
    }

    /// Returns what the portal answers about a token, after how long, and how many seconds it asks to wait.
    fn ask(&mut self, id: Id, serial: u64) -> (Ms, Verification, Option<u32>) {
        let now = self.clock.now;
        let portal = &self.portals[self.resources[id as usize].portal];
        let response = portal.response(now, &mut self.rng, 1, None);
        let answer = match response.result {
            Err((_, retry_after)) => return (response.after, Verification::NotAnswered, retry_after),
            Ok(_) if serial < portal.tokens_ended || portal.rejects(now) => Verification::TokenRejected,
            Ok(_) => {
                // The privileges of an app change every other day.
                let privilege = if (now / (2 * DAY) + i64::from(id)) % 2 == 0 { PRIVILEGE } else { "other" };
                Verification::AppKnown(App { privileges: vec![privilege.to_owned()], ..App::default() })
            }
        };
        (response.after, answer, None)
    }

    pub fn handle_check(&mut self, event: CheckEvent) {
        match event {
            CheckEvent::Answered(id, started) if started == self.operator.started => self.on_checked(id),
            CheckEvent::Answered(..) => {}
            CheckEvent::EndTokens(portal) => self.end_tokens(portal),
            CheckEvent::Replaced(id, serial) => self.check_replaced(id, serial),
        }
    }

    /// Handles the answer to a check.
    fn on_checked(&mut self, id: Id) {
        let Some(CheckInFlight { permit, outcome, result }) = self.resources[id as usize].check.take() else { return };
        self.record_limit(id, outcome);
        self.release_permit(id, permit, outcome);
        self.resources[id as usize].check_result = Some(result);
        self.wake(id);
    }

    /// Passes the answer of the last check on to a reconciliation.
    pub fn apply_verification(&mut self, id: Id, s: &mut Situation) {
        let now = self.clock.timestamp();
        let resource = &mut self.resources[id as usize];
        match resource.check_result.take() {
            Some(Verified::Answered(issued, answer, _)) => {
                // Where the annotation was stripped, it is the one that was reported.
                let about = |target| secrets::issued_at(target).is_none_or(|of| of == issued);
                let published = resource.target.as_ref().is_some_and(about);
                // An answer about a token that was damaged meanwhile is dropped, and the next one is news again.
                let reported = s.status.conditions.iter().find(|condition| condition.type_ == "Verified");
                let news = reported.is_none_or(|reported| reported.reason != answer.as_str());
                resource.history.status_write_expected |= news && answer != Verification::NotAnswered;
                if resource.spec.verification.is_some() && published {
                    let serial = resource.history.token.map(|token| token.serial);
                    resource.history.record_answer(issued, &answer, serial);
                }
                s.verified(issued, answer, now);
            }
            Some(Verified::Deferred(until)) => s.verification_deferred(until),
            None => {}
        }
    }

    /// Ends all tokens of a portal. Each is to be replaced when its next check was answered.
    fn end_tokens(&mut self, portal: usize) {
        self.portals[portal].tokens_ended = self.serial;
        let affected = self
            .resources
            .iter()
            .filter(|resource| resource.portal == portal)
            .filter_map(|resource| Some((resource.id, resource.check_interval()?, resource.history.token?.serial)));
        for (id, interval, serial) in affected.collect::<Vec<_>>() {
            self.after(interval + 30 * SECOND, Event::Verification(CheckEvent::Replaced(id, serial)));
        }
    }

    /// Checks that a token that the portal ended was replaced within an interval and 30 s, once nothing delays it.
    fn check_replaced(&mut self, id: Id, serial: u64) {
        let now = self.clock.now;
        let resource = &self.resources[id as usize];
        let Some(interval) = resource.check_interval() else { return };
        let usable = resource.credentials.as_ref().is_some_and(|credentials| !credentials.incomplete);
        // A token that expires before it is written replaces none.
        let too_short = matches!(
            resource.granted_lifetimes,
            GrantedLifetimes::Fixed(..SHORTEST_LIFETIME_SECONDS)
                | GrantedLifetimes::Varying(..SHORTEST_LIFETIME_SECONDS)
        );
        let unusable = resource.spec.suspend || resource.rejection().is_some() || !usable || too_short;
        if resource.history.token.is_none_or(|token| token.serial != serial) || unusable {
            return;
        }
        // While new tokens are rejected too, up to an hour and its jitter lie between two of them.
        let rejecting = self.portals[resource.portal].rejected_until(now) + 2 * HOUR;
        let from = (self.unblocked_at(resource) + interval + 30 * SECOND).max(rejecting);
        if !self.operator.up || !self.api_up {
            self.after(interval + MINUTE, Event::Verification(CheckEvent::Replaced(id, serial)));
        } else if from > now {
            self.at(from, Event::Verification(CheckEvent::Replaced(id, serial)));
        } else {
            let numbers =
                format!("answer {:?}, retry_state {:?}", resource.history.answer, resource.memory.reported_wait());
            self.fail_check("a token that the portal ended is replaced", id, &numbers);
        }
    }

    /// Checks that tokens are requested because the portal rejects them at most once in five minutes, whatever it answers,
    /// and 30 times in 24 hours while it accepts none. A renewal that is due anyway does not count, nor a request of a user.
    pub fn check_replacement_rate(&mut self, id: Id, sent: Clock, renewal_due: bool) {
        let history = &mut self.resources[id as usize].history;
        let changed = history.last_success.is_none_or(|last| history.user_changed_at >= last.started_at);
        if changed {
            history.replacements.clear();
        }
        let rejected = history.rejected_token.is_some() && history.rejected_token == history.token.map(|t| t.serial);
        if !rejected || renewal_due || changed {
            return;
        }
        while history.replacements.front().is_some_and(|first| first.now <= sent.now - DAY) {
            history.replacements.pop_front();
        }
        let since = history.replacements.back().map_or(DAY, |last| sent.since(*last));
        history.replacements.push_back(sent);
        let count = history.replacements.len();
        history.most_replacements = history.most_replacements.max(count);
        if since < 5 * MINUTE || count > 30 {
            let numbers = format!("{} s after the last, {count} within a day", seconds(since));
            self.fail_check("few tokens are requested because the portal rejects them", id, &numbers);
        }
    }

    /// Checks at the end that tokens were checked once in an interval, and once more for each new token and each start of
    /// the process.
    pub fn check_count_of_checks(&mut self) -> String {
        let mut most = 0.0_f64;
        for at in 0..self.resources.len() {
            let resource = &self.resources[at];
            let interval = resource.check_interval().filter(|_| resource.history.always_verified);
            let Some(interval) = interval else { continue };
            let checks = i64::from(resource.history.checks);
            let tokens = i64::from(resource.history.published) + i64::try_from(self.operator.started).expect("few");
            let intervals = self.end / interval;
            most = most.max(seconds(checks) / seconds(intervals + tokens));
            if checks > intervals + tokens {
                let numbers = format!("{checks} checks in {intervals} intervals, {tokens} new tokens and starts");
                self.fail_check("a token is checked once in an interval", resource.id, &numbers);
            }
        }
        format!("checks at most {:.0} % of those allowed", most * 100.0)
    }
}
