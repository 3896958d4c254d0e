//! Checks of when published tokens are renewed.

use arcgis_credential_operator::core::IssuedToken;

use crate::fleet::{Id, Resource};
use crate::history::Token;
use crate::simulation::{Event, Simulation};
use crate::time::{MINUTE, Ms, SECOND, seconds};

impl Simulation {
    /// Records that a token was written to the target.
    pub fn record_published(&mut self, id: Id, unpublished: &IssuedToken) {
        self.record_lifetime_left(id);
        let (clock, serial) = (self.clock, self.serial);
        let history = &mut self.resources[id as usize].history;
        let (issued, expires) = (clock.time_of(unpublished.issue_time), clock.time_of(unpublished.expiration_time));
        let token = Token {
            serial,
            issued,
            expires,
            lifetime: expires - issued,
            offset: clock.offset,
            exempt: history.custom_renew_before,
        };
        self.serial += 1;
        history.token = Some(token);
        history.unpublished = false;
        history.published += 1;
        history.status_write_expected = true;
        if !token.exempt {
            self.at(token.deadline(), Event::Deadline(id, serial));
        }
    }

    /// Records that the target was written with the token that it already had.
    pub fn record_rendered(&mut self, id: Id) {
        self.resources[id as usize].history.status_write_expected = true;
    }

    /// Adds the remaining lifetime of the token that is about to be replaced to the statistics, if nothing delayed its
    /// renewal.
    fn record_lifetime_left(&mut self, id: Id) {
        let now = self.clock.now;
        let token = self.resources[id as usize].history.token;
        if let Some(token) = token.filter(|token| token.lifetime >= MINUTE && !token.exempt) {
            self.statistics.renewed(token.expires - now, token.lifetime);
        }
    }

    /// Returns when nothing delays a renewal any more. Delays are a failing portal and the requests of all resources
    /// after it, the wait after a failure, and an unavailable operator or API server.
    pub fn unblocked_at(&self, resource: &Resource) -> Ms {
        let state = self.portals[resource.portal].settled_at(self.clock.now);
        resource.history.exempt_until.max(self.exempt_until).max(state)
    }

    /// Returns from when a renewal is checked: when nothing delays it; later by as much as the clock was set back,
    /// because that delays everything that is scheduled; and not before the minimum spacing after the last exchange. A
    /// successor may have expired before it could be written, or be old at once because the clock went ahead meanwhile.
    fn judged_from(&self, id: Id, token: &Token) -> Ms {
        let resource = &self.resources[id as usize];
        let set_back = |offset: Ms| (offset - self.clock.offset).max(0);
        let sent = resource.history.last_success.map(|last| last.sent);
        let spaced = sent.map_or(0, |sent| sent.now + 35 * SECOND + set_back(sent.offset));
        self.unblocked_at(resource).max(token.deadline() + set_back(token.offset)).max(spaced)
    }

    /// Checks that a token has a successor by its deadline.
    pub fn check_deadline(&mut self, id: Id, serial: u64) {
        let now = self.clock.now;
        let Some(token) = self.resources[id as usize].history.token.filter(|token| token.serial == serial) else {
            return;
        };
        let resource = &mut self.resources[id as usize];
        resource.history.token = Some(Token { exempt: true, ..token });
        let usable = resource.credentials.as_ref().is_some_and(|credentials| !credentials.incomplete);
        if resource.spec.suspend || resource.rejection().is_some() || !usable {
            return self.after(10 * MINUTE, Event::Deadline(id, serial));
        }
        let until = self.judged_from(id, &token);
        if !self.operator.up || !self.api_up {
            self.after(MINUTE, Event::Deadline(id, serial));
        } else if until > now {
            self.at(until, Event::Deadline(id, serial));
        } else {
            let resource = &self.resources[id as usize];
            let numbers = format!(
                "{} s left of {} s, renewalTime was {} s ago, retry_state {:?}",
                seconds(token.expires - now),
                seconds(token.lifetime),
                resource.status.token.as_ref().map_or(0.0, |t| seconds(now - self.clock.time_of(t.renewal_time))),
                resource.memory.reported_wait(),
            );
            self.fail_check("each published token is renewed in time", id, &numbers);
        }
    }
}
