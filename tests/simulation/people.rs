//! What people and other programs do to resources and their Secrets.

use arcgis_credential_operator::api::{Format, Reason};
use k8s_openapi::ByteString;

use crate::fleet::{Id, Role, WRONG};
use crate::secrets::Source;
use crate::simulation::{Event, Simulation};
use crate::time::{DAY, HOUR, MINUTE, Ms, SECOND, log_uniform};

/// One thing that somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A person does something at random, and comes back.
    Something,
    /// Somebody attacks the target until then, and comes back.
    Attack(Ms),
    Formats,
    Lifetime,
    PortalPath,
    RequestToken,
    ForgetRequest,
    Suspend(bool),
    /// A new secret that works; a wrong one.
    Rotate(bool),
    /// Only the version of the credentials Secret changes.
    Touch,
    /// Its key goes; it goes as a whole.
    TakeKey,
    TakeCredentials,
    GiveCredentials,
    DeleteTarget,
    DamageTarget,
    DriftTarget,
    DecorateTarget,
    /// The portal refuses the app; it takes it again.
    Refuse(bool),
}

impl Simulation {
    /// Everybody's first act.
    pub fn invite(&mut self) {
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            let role = self.resources[id as usize].role;
            let (act, from, to) = match role {
                Role::Plain => (Act::Something, 0, 20 * DAY),
                Role::Edited => (Act::Something, 0, 2 * DAY),
                Role::Fought { .. } => (Act::Attack(0), 2 * HOUR, DAY),
                Role::Broken => (Act::Rotate(true), DAY, 30 * DAY),
                Role::Breaks => (Act::Refuse(true), 2 * HOUR, 4 * DAY),
            };
            let at = self.rng.i64(from..to);
            self.at(HOUR + at, Event::Act(id, act));
        }
    }

    /// Somebody does something. With the API server away nobody can.
    pub fn act(&mut self, id: Id, act: Act) {
        if !self.api_up {
            return self.after(MINUTE, Event::Act(id, act));
        }
        self.version += 1;
        let number = self.version;
        let token_gone = match act {
            Act::Something => return self.something(id),
            Act::Attack(until) => return self.attack(id, until),
            Act::Refuse(refuse) => return self.refuse(id, refuse),
            Act::DeleteTarget => self.resources[id as usize].target.take().is_some(),
            Act::DamageTarget => self.damage(id, number),
            _ => false,
        };
        self.change(id, act, number);
        let now = self.clock.now;
        let resource = &mut self.resources[id as usize];
        if token_gone {
            resource.ledger.token = None;
        }
        resource.ledger.change(now);
        // What was in the way may be over: a new token is due at once, or after the floor.
        let drain = self.portals[resource.portal].drain();
        resource.ledger.excused_until = resource.ledger.excused_until.max(now + drain);
        self.wake(id);
    }

    fn change(&mut self, id: Id, act: Act, number: u64) {
        let pick = self.rng.usize(0..5);
        let again = self.rng.i64(6 * MINUTE..12 * HOUR);
        let now = self.clock.now;
        let resource = &mut self.resources[id as usize];
        let spec = &mut resource.spec;
        let mut undo = None;
        match act {
            Act::Formats => spec.target.formats = Format::ALL[..pick].to_vec(),
            Act::Lifetime => {
                let token = spec.token.get_or_insert_default();
                token.renew_before = None;
                token.lifetime = [None, Some("15m"), Some("1h"), Some("24h"), Some("336h")][pick].map(str::to_owned);
                resource.ledger.own_margin = false;
                resource.ledger.change_inputs(now);
            }
            Act::PortalPath => {
                let path = if spec.portal.url.ends_with("/portal") { "/arcgis" } else { "/portal" };
                spec.portal.url = format!("https://{}{path}", self.portals[resource.portal].name);
                resource.ledger.change_inputs(now);
            }
            Act::RequestToken => resource.requested_at = Some(number.to_string()),
            Act::ForgetRequest => resource.requested_at = None,
            Act::Suspend(suspend) => {
                spec.suspend = suspend;
                undo = suspend.then_some(Act::Suspend(false));
            }
            Act::Rotate(good) => {
                if let Some(source) = &mut resource.source {
                    (source.version, source.value) = (number, if good { number } else { WRONG });
                    resource.refused = None;
                }
                undo = (!good).then_some(Act::Rotate(true));
            }
            Act::Touch => resource.source.iter_mut().for_each(|source| source.version = number),
            Act::TakeKey => {
                resource.source.iter_mut().for_each(|source| (source.version, source.incomplete) = (number, true));
                undo = Some(Act::GiveCredentials);
            }
            Act::TakeCredentials => {
                resource.source = None;
                undo = Some(Act::GiveCredentials);
            }
            Act::GiveCredentials => {
                let uid = resource.source.as_ref().map_or(number, |source| source.uid);
                let value = resource.source.as_ref().map_or(number, |source| source.value);
                if resource.source.is_none() {
                    resource.ledger.change_inputs(now);
                }
                resource.source = Some(Source { uid, version: number, value, incomplete: false });
            }
            Act::DriftTarget | Act::DecorateTarget => {
                if let Some(secret) = &mut resource.target {
                    secret.metadata.resource_version = Some(number.to_string());
                    let labels = secret.metadata.labels.get_or_insert_default();
                    if act == Act::DriftTarget {
                        labels.clear();
                    }
                    labels.insert("team".to_owned(), number.to_string());
                }
            }
            _ => {}
        }
        if matches!(act, Act::Formats | Act::Lifetime | Act::PortalPath | Act::Suspend(_)) {
            resource.generation += 1;
            resource.plan = None;
        }
        if let Some(undo) = undo {
            self.after(again, Event::Act(id, undo));
        }
    }

    fn damage(&mut self, id: Id, number: u64) -> bool {
        let Some(secret) = &mut self.resources[id as usize].target else { return false };
        secret.metadata.resource_version = Some(number.to_string());
        let data = secret.data.get_or_insert_default();
        data.insert("access_token".to_owned(), ByteString(b"damaged".to_vec()));
        true
    }

    fn something(&mut self, id: Id) {
        let acts = [
            Act::Formats,
            Act::Lifetime,
            Act::PortalPath,
            Act::RequestToken,
            Act::RequestToken,
            Act::ForgetRequest,
            Act::Suspend(true),
            Act::Rotate(true),
            Act::Rotate(false),
            Act::Touch,
            Act::TakeKey,
            Act::TakeCredentials,
            Act::DeleteTarget,
            Act::DamageTarget,
            Act::DriftTarget,
            Act::DecorateTarget,
        ];
        let act = acts[self.rng.usize(0..acts.len())];
        // Some change their mind at once, and again.
        let times = if self.rng.u8(0..4) == 0 { self.rng.i64(2..6) } else { 1 };
        for time in 0..times {
            let act = if time == 0 { act } else { acts[self.rng.usize(0..acts.len())] };
            let wait = time * log_uniform(&mut self.rng, 50, MINUTE);
            self.after(wait, Event::Act(id, act));
        }
        let most = if self.resources[id as usize].role == Role::Edited { 3 * DAY } else { 30 * DAY };
        let wait = self.rng.i64(HOUR..most);
        self.after(wait, Event::Act(id, Act::Something));
    }

    fn attack(&mut self, id: Id, until: Ms) {
        let now = self.clock.now;
        let Role::Fought { damage } = self.resources[id as usize].role else { return };
        let act = if damage { Act::DamageTarget } else { Act::DriftTarget };
        let (wait, until) = match until {
            0 => (0, now + log_uniform(&mut self.rng, MINUTE, 5 * HOUR)),
            until if now >= until => (self.rng.i64(HOUR..3 * DAY), 0),
            until => {
                self.at(now, Event::Act(id, act));
                (log_uniform(&mut self.rng, SECOND, 5 * MINUTE), until)
            }
        };
        self.after(wait, Event::Act(id, Act::Attack(until)));
    }

    fn refuse(&mut self, id: Id, refuse: bool) {
        let reasons = [Reason::RequestRejected, Reason::ClientSecretRejected, Reason::PortalUntrusted];
        let reason = reasons[self.rng.usize(0..reasons.len())];
        self.resources[id as usize].refused = refuse.then_some(reason);
        let wait = self.rng.i64(if refuse { HOUR..4 * DAY } else { 2 * HOUR..6 * DAY });
        self.after(wait, Event::Act(id, Act::Refuse(!refuse)));
    }
}
