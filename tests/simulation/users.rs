//! What users and other programs do to resources and their Secrets.

use arcgis_credential_operator::api::{Format, Reason, VerificationSpec};
use k8s_openapi::ByteString;

use crate::fleet::{Id, Resource, Role, Unseen, WRONG_VALUE};
use crate::secrets::CredentialsSecret;
use crate::simulation::{Event, Simulation};
use crate::time::{DAY, HOUR, MINUTE, Ms, SECOND, log_uniform};

/// One action of a user or another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A user performs a random action, and schedules the next one.
    Random,
    /// Another writer changes the target repeatedly until this time, and returns later.
    Contest(Ms),
    Formats,
    Lifetime,
    /// Turns verification on or off.
    Verification,
    PortalPath,
    RequestToken,
    RemoveRequest,
    Suspend(bool),
    /// The client secret changes to one that works (`true`) or to a wrong one.
    Rotate(bool),
    /// Only the resourceVersion of the credentials Secret changes.
    Touch,
    /// A key of the credentials Secret is removed.
    RemoveKey,
    DeleteCredentials,
    RestoreCredentials,
    DeleteTarget,
    DamageTarget,
    DriftTarget,
    LabelTarget,
    /// The portal rejects the app, or accepts it again.
    Reject(bool),
}

impl Simulation {
    /// Schedules the first action on each resource.
    pub fn schedule_first_actions(&mut self) {
        for id in 0..u32::try_from(self.resources.len()).expect("a fleet") {
            let role = self.resources[id as usize].role;
            let (action, from, to) = match role {
                Role::Plain => (Action::Random, 0, 20 * DAY),
                Role::Edited => (Action::Random, 0, 2 * DAY),
                Role::Contested { .. } => (Action::Contest(0), 2 * HOUR, DAY),
                Role::Rejected => (Action::Rotate(true), DAY, 30 * DAY),
                Role::BecomesRejected => (Action::Reject(true), 2 * HOUR, 4 * DAY),
            };
            let at = self.rng.i64(from..to);
            self.at(HOUR + at, Event::Action(id, action));
        }
    }

    /// Performs an action. Nothing can be changed while the API server is down.
    pub fn perform(&mut self, id: Id, action: Action) {
        if !self.api_up {
            return self.after(MINUTE, Event::Action(id, action));
        }
        self.version += 1;
        let number = self.version;
        let token_gone = match action {
            Action::Random => return self.random_action(id),
            Action::Contest(until) => return self.contest(id, until),
            Action::Reject(reject) => return self.reject(id, reject),
            Action::DeleteTarget => self.resources[id as usize].target.take().is_some(),
            Action::DamageTarget => self.damage(id, number),
            _ => false,
        };
        self.change(id, action, number);
        let now = self.clock.now;
        let resource = &mut self.resources[id as usize];
        // A watch reports what a user changes.
        resource.unseen = Unseen::default();
        if token_gone {
            resource.history.token = None;
        }
        resource.history.change(now);
        // The change may end a wait: a new token is due at once, or after the floor.
        let drain_time = self.portals[resource.portal].drain_time();
        resource.history.exempt_until = resource.history.exempt_until.max(now + drain_time);
        self.wake(id);
    }

    fn change(&mut self, id: Id, action: Action, number: u64) {
        let pick = self.rng.usize(0..5);
        let again = self.rng.i64(6 * MINUTE..12 * HOUR);
        let now = self.clock.now;
        let resource = &mut self.resources[id as usize];
        let undo = match action {
            Action::Formats | Action::Lifetime | Action::PortalPath | Action::Verification | Action::Suspend(_) => {
                resource.generation += 1;
                resource.plan = None;
                change_spec(resource, &self.portals[resource.portal].name, action, pick, now)
            }
            Action::DriftTarget | Action::LabelTarget => {
                change_labels(resource, action, number);
                None
            }
            Action::RequestToken => {
                resource.requested_at = Some(number.to_string());
                None
            }
            Action::RemoveRequest => {
                resource.requested_at = None;
                None
            }
            _ => change_credentials(resource, action, number, now),
        };
        if let Some(undo) = undo {
            self.after(again, Event::Action(id, undo));
        }
    }

    fn damage(&mut self, id: Id, number: u64) -> bool {
        let Some(secret) = &mut self.resources[id as usize].target else { return false };
        secret.metadata.resource_version = Some(number.to_string());
        let data = secret.data.get_or_insert_default();
        data.insert("access_token".to_owned(), ByteString(b"damaged".to_vec()));
        true
    }

    fn random_action(&mut self, id: Id) {
        let actions = [
            Action::Formats,
            Action::Lifetime,
            Action::PortalPath,
            Action::RequestToken,
            Action::RequestToken,
            Action::RemoveRequest,
            Action::Verification,
            Action::Suspend(true),
            Action::Rotate(true),
            Action::Rotate(false),
            Action::Touch,
            Action::RemoveKey,
            Action::DeleteCredentials,
            Action::DeleteTarget,
            Action::DamageTarget,
            Action::DriftTarget,
            Action::LabelTarget,
        ];
        let action = actions[self.rng.usize(0..actions.len())];
        // Some users change several things in a row.
        let times = if self.rng.u8(0..4) == 0 { self.rng.i64(2..6) } else { 1 };
        for time in 0..times {
            let action = if time == 0 { action } else { actions[self.rng.usize(0..actions.len())] };
            let wait = time * log_uniform(&mut self.rng, 50, MINUTE);
            self.after(wait, Event::Action(id, action));
        }
        let longest = if self.resources[id as usize].role == Role::Edited { 3 * DAY } else { 30 * DAY };
        let wait = self.rng.i64(HOUR..longest);
        self.after(wait, Event::Action(id, Action::Random));
    }

    /// Makes a user change the resource while the portal answers, now and then.
    pub fn change_during_exchange(&mut self, id: Id, response_after: Ms) {
        if self.resources[id as usize].role == Role::Edited && self.rng.u8(0..4) == 0 {
            let actions = [
                Action::Formats,
                Action::Lifetime,
                Action::PortalPath,
                Action::Verification,
                Action::Suspend(true),
                Action::Rotate(true),
                Action::DeleteTarget,
                Action::RequestToken,
            ];
            let action = actions[self.rng.usize(0..actions.len())];
            let wait = self.rng.i64(1..=response_after.max(1));
            self.after(wait, Event::Action(id, action));
        }
    }

    fn contest(&mut self, id: Id, until: Ms) {
        let now = self.clock.now;
        let Role::Contested { damage } = self.resources[id as usize].role else { return };
        let action = if damage { Action::DamageTarget } else { Action::DriftTarget };
        let (wait, until) = match until {
            0 => (0, now + log_uniform(&mut self.rng, MINUTE, 5 * HOUR)),
            until if now >= until => (self.rng.i64(HOUR..3 * DAY), 0),
            until => {
                self.at(now, Event::Action(id, action));
                (log_uniform(&mut self.rng, SECOND, 5 * MINUTE), until)
            }
        };
        self.after(wait, Event::Action(id, Action::Contest(until)));
    }

    fn reject(&mut self, id: Id, reject: bool) {
        let reasons = [Reason::RequestRejected, Reason::ClientSecretRejected, Reason::PortalUntrusted];
        let reason = reasons[self.rng.usize(0..reasons.len())];
        self.resources[id as usize].rejected = reject.then_some(reason);
        let wait = self.rng.i64(if reject { HOUR..4 * DAY } else { 2 * HOUR..6 * DAY });
        self.after(wait, Event::Action(id, Action::Reject(!reject)));
    }
}

/// Changes the spec of a resource; returns the action that restores it, if it does not work afterward.
fn change_spec(resource: &mut Resource, host: &str, action: Action, pick: usize, now: Ms) -> Option<Action> {
    let spec = &mut resource.spec;
    match action {
        Action::Formats => spec.target.formats = Format::ALL[..pick].to_vec(),
        Action::Lifetime => {
            let token = spec.token.get_or_insert_default();
            token.renew_before = None;
            token.lifetime = [None, Some("15m"), Some("1h"), Some("24h"), Some("336h")][pick].map(str::to_owned);
            resource.history.custom_renew_before = false;
            resource.history.change_inputs(now);
        }
        Action::PortalPath => {
            let path = if spec.portal.url.ends_with("/portal") { "/arcgis" } else { "/portal" };
            spec.portal.url = format!("https://{host}{path}");
            resource.history.change_inputs(now);
        }
        Action::Verification => {
            let on = VerificationSpec { interval: "15m".to_owned(), required_privileges: Vec::new() };
            spec.verification = spec.verification.is_none().then_some(on);
            resource.history.forget_answers();
            resource.history.always_verified = false;
        }
        Action::Suspend(suspend) => {
            spec.suspend = suspend;
            return suspend.then_some(Action::Suspend(false));
        }
        _ => {}
    }
    None
}

/// Changes the labels of a target; a drift removes those of the operator.
fn change_labels(resource: &mut Resource, action: Action, number: u64) {
    let Some(secret) = &mut resource.target else { return };
    secret.metadata.resource_version = Some(number.to_string());
    let labels = secret.metadata.labels.get_or_insert_default();
    if action == Action::DriftTarget {
        labels.clear();
    }
    labels.insert("team".to_owned(), number.to_string());
}

/// Changes the credentials of a resource; returns the action that restores them, if they do not work afterward.
fn change_credentials(resource: &mut Resource, action: Action, number: u64, now: Ms) -> Option<Action> {
    match action {
        Action::Rotate(good) => {
            if let Some(credentials) = &mut resource.credentials {
                (credentials.version, credentials.value) = (number, if good { number } else { WRONG_VALUE });
                resource.rejected = None;
            }
            return (!good).then_some(Action::Rotate(true));
        }
        Action::Touch => resource.credentials.iter_mut().for_each(|credentials| credentials.version = number),
        Action::RemoveKey => {
            resource
                .credentials
                .iter_mut()
                .for_each(|credentials| (credentials.version, credentials.incomplete) = (number, true));
            return Some(Action::RestoreCredentials);
        }
        Action::DeleteCredentials => {
            resource.credentials = None;
            return Some(Action::RestoreCredentials);
        }
        Action::RestoreCredentials => {
            let uid = resource.credentials.as_ref().map_or(number, |credentials| credentials.uid);
            let value = resource.credentials.as_ref().map_or(number, |credentials| credentials.value);
            if resource.credentials.is_none() {
                resource.history.change_inputs(now);
            }
            resource.credentials = Some(CredentialsSecret { uid, version: number, value, incomplete: false });
        }
        _ => {}
    }
    None
}
