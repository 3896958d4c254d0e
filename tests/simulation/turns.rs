//! Checks of whose turn it is: pauses that a host asked for, and the soonest to expire first.

use arcgis_credential_operator::core::{AttemptKind, Memory, Priority};
use jiff::Timestamp;

use crate::fleet::{Id, Resource};
use crate::portal::Weather;
use crate::simulation::Simulation;
use crate::time::{MINUTE, SECOND, seconds};

/// As many as are served at once may be overtaken by: whoever is told that a place is free may not want it any more, and
/// then it is taken by the next that comes.
const OVERTAKEN: u32 = 8;

impl Simulation {
    /// A resource waits at its host.
    pub fn note_waiting(&mut self, id: Id, priority: Priority) {
        let resource = &mut self.resources[id as usize];
        if wants(resource, &resource.memory, self.clock.shows()) {
            // RetryAfterRecord to go on and too late for the place, it waits still.
            let ledger = &mut resource.ledger;
            if ledger.told_at != self.clock.now {
                ledger.waits_since = Some(self.clock.now);
            }
            let waiting = &mut self.waiting[resource.portal];
            if let Some(before) = ledger.place.replace(priority) {
                waiting.remove(&(before, id));
            }
            waiting.insert((priority, id));
        }
    }

    /// Of those that wait at a host, none that expires sooner has waited while this one is served; the one that goes
    /// first after a pause is whoever is there.
    pub fn note_turn(&mut self, id: Id, mine: Priority) {
        let now = self.clock.now;
        let shows = self.clock.shows();
        let portal = self.resources[id as usize].portal;
        let ledger = &mut self.resources[id as usize].ledger;
        (ledger.waits_since, ledger.overtaken) = (None, 0);
        if let Some(place) = ledger.place.take() {
            self.waiting[portal].remove(&(place, id));
        }
        while let Some((priority, other)) = self.waiting[portal].first().copied() {
            let waits = &self.resources[other as usize];
            if waits.reconciler.is_some() || !wants(waits, &waits.memory, shows) {
                let ledger = &mut self.resources[other as usize].ledger;
                (ledger.waits_since, ledger.place) = (None, None);
                self.waiting[portal].pop_first();
                continue;
            }
            let since = waits.ledger.waits_since.unwrap_or(now);
            if priority < mine {
                let ledger = &mut self.resources[other as usize].ledger;
                ledger.overtaken += 1;
                if ledger.overtaken <= OVERTAKEN || self.portals[portal].paused {
                    return;
                }
                let numbers =
                    format!("{mine:?} goes while {other}, {priority:?}, waits for {} s", seconds(now - since));
                self.fail_check("the soonest to expire goes first", id, &numbers);
            }
            return;
        }
    }

    /// A host that goes on saying 429 is asked at most twice within five minutes, once it has said so. What was under
    /// way before the first 429 came is one burst; after it the pauses are 60, 120, 240 and 300 s, as the contract
    /// lets the host ask for 60 s only, so the windows that begin with that burst do not count.
    pub fn note_storm_request(&mut self, id: Id) {
        let now = self.clock.now;
        let portal = &mut self.portals[self.resources[id as usize].portal];
        let Some(spell) = portal.spell(now).filter(|spell| matches!(spell.weather, Weather::Limited(_))).copied()
        else {
            portal.storm.clear();
            return;
        };
        if portal.storm_began != spell.from {
            portal.storm_began = spell.from;
            portal.storm.clear();
        }
        portal.storm.push(now);
        let burst = portal.storm[0] + SECOND;
        let sent = portal.storm.len();
        if sent >= 3 && portal.storm[sent - 3] > burst && now - portal.storm[sent - 3] < 5 * MINUTE {
            let numbers = format!("three requests within {} s of 429", seconds(now - portal.storm[sent - 3]));
            self.fail_check("a host that says 429 is left alone", id, &numbers);
        }
    }

    /// The clock was set: pauses are by the clock.
    pub fn forget_storms(&mut self) {
        for portal in &mut self.portals {
            portal.storm.clear();
        }
    }
}

/// Whether a token is due and nothing but the portal's gate is in the way.
fn wants(resource: &Resource, memory: &Memory, now: Timestamp) -> bool {
    let retry_state =
        memory.retry_state.as_ref().filter(|retry_state| retry_state.made_with.kind == AttemptKind::Request);
    let waits = retry_state.and_then(|retry_state| retry_state.next_attempt).is_some_and(|next| next > now);
    let due = resource.status.token.as_ref().is_none_or(|token| token.renewal_time <= now);
    let usable = resource.source.as_ref().is_some_and(|source| !source.incomplete);
    due && !waits && usable && !resource.spec.suspend
}
