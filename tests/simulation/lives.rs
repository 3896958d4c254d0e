//! Checks of how long published tokens live and when they are followed.

use arcgis_credential_operator::core::IssuedToken;

use crate::fleet::{Id, Resource};
use crate::ledger::Token;
use crate::simulation::{Event, Simulation};
use crate::time::{MINUTE, Ms, SECOND, seconds};

impl Simulation {
    /// A token was written to the target.
    pub fn note_published(&mut self, id: Id, unpublished: &IssuedToken) {
        self.judge_life(id);
        let (clock, serial) = (self.clock, self.serial);
        let ledger = &mut self.resources[id as usize].ledger;
        let (issued, expires) = (clock.when(unpublished.issue_time), clock.when(unpublished.expiration_time));
        let token =
            Token { serial, issued, expires, life: expires - issued, offset: clock.offset, excused: ledger.own_margin };
        self.serial += 1;
        ledger.token = Some(token);
        ledger.unpublished = false;
        ledger.cause = true;
        if !token.excused {
            self.at(token.deadline(), Event::Deadline(id, serial));
        }
    }

    /// The target was written with the token that it had.
    pub fn note_rendered(&mut self, id: Id) {
        self.resources[id as usize].ledger.cause = true;
    }

    /// Takes the remaining life of the token that is about to be replaced into the figures, if nothing was in the way.
    fn judge_life(&mut self, id: Id) {
        let now = self.clock.now;
        let token = self.resources[id as usize].ledger.token;
        if let Some(token) = token.filter(|token| token.life >= MINUTE && !token.excused) {
            self.figures.renewed(token.expires - now, token.life);
        }
    }

    /// When nothing is in the way any more. In the way may be: bad weather, and a turn of everybody after it; the wait
    /// after a failure; the operator or the API server away.
    fn obstacle(&self, resource: &Resource) -> Ms {
        let weather = self.portals[resource.portal].recovered_at(self.clock.now);
        resource.ledger.excused_until.max(self.excused_until).max(weather)
    }

    /// When a token is judged: with nothing in the way; later by as much as the clock was set back, because that puts
    /// off all that is scheduled; and a floor after a successor that ended before it could be written.
    fn excuse(&self, id: Id, token: &Token) -> Ms {
        let resource = &self.resources[id as usize];
        let set_back = |offset: Ms| (offset - self.clock.offset).max(0);
        let lapsed = resource.ledger.last_success.filter(|_| resource.ledger.unpublished).map(|last| last.sent);
        let lapsed = lapsed.map_or(0, |sent| sent.now + 35 * SECOND + set_back(sent.offset));
        self.obstacle(resource).max(token.deadline() + set_back(token.offset)).max(lapsed)
    }

    /// A token should have a successor by now.
    pub fn deadline(&mut self, id: Id, serial: u64) {
        let now = self.clock.now;
        let Some(token) = self.resources[id as usize].ledger.token.filter(|token| token.serial == serial) else {
            return;
        };
        let resource = &mut self.resources[id as usize];
        resource.ledger.token = Some(Token { excused: true, ..token });
        let usable = resource.source.as_ref().is_some_and(|source| !source.incomplete);
        if resource.spec.suspend || resource.refusal().is_some() || !usable {
            return self.after(10 * MINUTE, Event::Deadline(id, serial));
        }
        let until = self.excuse(id, &token);
        if !self.operator.up || !self.api_up {
            self.after(MINUTE, Event::Deadline(id, serial));
        } else if until > now {
            self.at(until, Event::Deadline(id, serial));
        } else {
            let resource = &self.resources[id as usize];
            let numbers = format!(
                "{} s left of {} s, renewalTime was {} s ago, retry_state {:?}",
                seconds(token.expires - now),
                seconds(token.life),
                resource.status.token.as_ref().map_or(0.0, |t| seconds(now - self.clock.when(t.renewal_time))),
                resource.memory.retry_state,
            );
            self.fail_check("no published token runs low", id, &numbers);
        }
    }
}
