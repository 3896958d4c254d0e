//! The simulated portals, and the resources with their roles.

use arcgis_credential_operator::api::{ArcGisAppCredentialSpec, ArcGisAppCredentialStatus, Reason, VerificationSpec};
use arcgis_credential_operator::core::{Identity, Memory, Plan, SpecError};
use arcgis_credential_operator::index::Verified;
use fastrand::Rng;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::history::History;
use crate::portal::Portal;
use crate::reconciliation::InProgress;
use crate::secrets::CredentialsSecret;
use crate::time::log_uniform;
use crate::verification::{CheckInFlight, PRIVILEGE};

/// The index of a resource in the fleet.
pub type Id = u32;

/// The value of a client secret that every portal rejects.
pub const WRONG_VALUE: u64 = 0;

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// A user changes something every other day.
    Edited,
    /// Another writer damages the target, or changes its labels, every few seconds for a while.
    Contested {
        damage: bool,
    },
    /// The portal rejects its credentials or its app from the start.
    Rejected,
    /// The portal rejects its app later, for a while.
    BecomesRejected,
}

/// The lifetimes that the portal grants to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedLifetimes {
    AsRequested,
    Fixed(i64),
    /// From a second to 14 days, shrinking and growing; holds the last one.
    Varying(i64),
}

/// A resource with everything that belongs to it.
pub struct Resource {
    pub id: Id,
    pub me: Identity,
    pub spec: ArcGisAppCredentialSpec,
    /// `None`: it has to be computed from the spec.
    pub plan: Option<Result<Plan, SpecError>>,
    pub generation: i64,
    pub requested_at: Option<String>,
    pub portal: usize,
    pub role: Role,
    pub granted_lifetimes: GrantedLifetimes,
    pub status: ArcGisAppCredentialStatus,
    pub memory: Memory,
    pub target: Option<Secret>,
    pub credentials: Option<CredentialsSecret>,
    /// What the portal returns to its app regardless of the credentials.
    pub rejected: Option<Reason>,
    /// The reconciliation that waits for the portal.
    pub in_progress: Option<Box<InProgress>>,
    /// The check that waits for the portal, and the result of the last one.
    pub check: Option<CheckInFlight>,
    pub check_result: Option<Verified>,
    /// No watch of this process has reported its Secrets yet.
    pub unseen: Unseen,
    pub history: History,
}

/// What a new leader does not know: its watch, which it began as a standby, has not reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    pub target: bool,
    pub credentials: bool,
}

impl Resource {
    /// Returns the reason with which the portal rejects its requests, if it does.
    pub fn rejection(&self) -> Option<Reason> {
        let wrong = self.credentials.as_ref().is_some_and(|credentials| credentials.value == WRONG_VALUE);
        self.rejected.or(wrong.then_some(Reason::ClientSecretRejected))
    }

    /// Returns the lifetime of the next token in seconds.
    pub fn grant(&mut self, from_env: Option<u64>, rng: &mut Rng) -> i64 {
        const MOST: i64 = 14 * 86_400;
        match &mut self.granted_lifetimes {
            GrantedLifetimes::AsRequested => {
                i64::try_from(from_env.map_or(7200, |seconds| seconds.div_ceil(60) * 60)).unwrap_or(MOST)
            }
            GrantedLifetimes::Fixed(seconds) => *seconds,
            GrantedLifetimes::Varying(last) => {
                *last = match rng.u8(0..3) {
                    0 => log_uniform(rng, 1, MOST),
                    1 => *last / rng.i64(2..20),
                    _ => *last * rng.i64(2..20),
                }
                .clamp(1, MOST);
                *last
            }
        }
    }
}

/// Returns a fleet with every role on a dozen hosts, half of it on the first.
pub fn mixed(count: u32, rng: &mut Rng) -> (Vec<Portal>, Vec<Resource>) {
    let mut portals: Vec<Portal> = (0..12).map(|at| random_portal(at, rng)).collect();
    let mut resources = Vec::new();
    for id in 0..count {
        let portal = if rng.bool() { 0 } else { rng.usize(0..portals.len()) };
        portals[portal].users += 1;
        let (role, granted_lifetimes, before) = assigned_role(id, rng);
        let lifetime = random_lifetime(rng);
        let mut resource = resource(id, portal, &portals[portal].name, lifetime, before, rng);
        resource.role = role;
        resource.granted_lifetimes = granted_lifetimes;
        resource.spec.verification = verification(id);
        resource.history.always_verified = resource.spec.verification.is_some() && role == Role::Plain;
        if role == Role::Rejected {
            reject(&mut resource, rng);
        }
        resources.push(resource);
    }
    (portals, resources)
}

fn random_portal(at: usize, rng: &mut Rng) -> Portal {
    let most = if at % 4 == 3 { 3600 * rng.i64(1..48) } else { 14 * 86_400 };
    Portal { name: format!("portal-{at}.example.com"), max_lifetime: most, ..Portal::default() }
}

/// Returns the role of a resource, the lifetimes that it is granted, and its `renewBefore`.
fn assigned_role(id: Id, rng: &mut Rng) -> (Role, GrantedLifetimes, Option<&'static str>) {
    let as_requested = GrantedLifetimes::AsRequested;
    match id % 100 {
        0 | 1 => (Role::Rejected, as_requested, None),
        2 => (Role::BecomesRejected, as_requested, None),
        3 => (Role::Contested { damage: rng.bool() }, as_requested, None),
        4..=13 => (Role::Edited, as_requested, None),
        14..=18 => (Role::Plain, as_requested, Some(["1m", "7m", "29m"][rng.usize(0..3)])),
        19..=27 => (Role::Plain, GrantedLifetimes::Varying(7200), None),
        28 if id < 1000 => {
            let seconds = [1, 10, 29, 45, 60, 75, 299, 600][rng.usize(0..8)];
            (Role::Plain, GrantedLifetimes::Fixed(seconds), None)
        }
        _ => (Role::Plain, as_requested, None),
    }
}

/// Every fifth resource is verified, some of them once a minute.
fn verification(id: Id) -> Option<VerificationSpec> {
    let interval = match id % 100 {
        26 => "1m",
        1 | 21 | 41 | 61 | 81 => "15m",
        _ => "1h",
    };
    let required_privileges = if id % 10 == 1 { vec![PRIVILEGE.to_owned()] } else { Vec::new() };
    (id % 5 == 1).then(|| VerificationSpec { interval: interval.to_owned(), required_privileges })
}

fn random_lifetime(rng: &mut Rng) -> Option<&'static str> {
    match rng.u8(0..100) {
        0..32 => None,
        32..33 => Some("30m"),
        33..67 => Some("12h"),
        67..82 => Some("24h"),
        82..92 => Some("168h"),
        _ => Some("336h"),
    }
}

/// Makes the portal reject a resource: its secret, its request, or its app.
fn reject(resource: &mut Resource, rng: &mut Rng) {
    match rng.u8(0..4) {
        0 | 1 => resource.credentials.iter_mut().for_each(|credentials| credentials.value = WRONG_VALUE),
        2 => resource.rejected = Some(Reason::RequestRejected),
        _ => resource.rejected = Some(Reason::ClientIdRejected),
    }
}

/// Returns a fleet on one host whose tokens all have the default lifetime of two hours.
pub fn uniform(count: u32, rng: &mut Rng) -> (Vec<Portal>, Vec<Resource>) {
    let name = "portal.example.com";
    let portal = Portal { name: name.to_owned(), max_lifetime: 14 * 86_400, users: count.into(), ..Portal::default() };
    (vec![portal], (0..count).map(|id| resource(id, 0, name, None, None, rng)).collect())
}

fn resource(
    id: Id,
    portal: usize,
    host: &str,
    lifetime: Option<&str>,
    renew_before: Option<&str>,
    rng: &mut Rng,
) -> Resource {
    let name = format!("r-{id}");
    let mut token = json!({});
    if let Some(lifetime) = lifetime {
        token["lifetime"] = json!(lifetime);
    }
    if let Some(before) = renew_before.filter(|_| lifetime != Some("30m")) {
        token["renewBefore"] = json!(before);
    }
    let spec = json!({
        "portal": {"url": format!("https://{host}/portal")},
        "credentialsRef": {"name": format!("{name}-oauth")},
        "token": token,
        "target": {"name": format!("{name}-token")},
    });
    let uid = format!("{:032x}", rng.u128(..));
    Resource {
        id,
        me: Identity { namespace: "maps".to_owned(), name, uid },
        spec: serde_json::from_value(spec).expect("a valid spec"),
        plan: None,
        generation: 1,
        requested_at: None,
        portal,
        role: Role::Plain,
        granted_lifetimes: GrantedLifetimes::AsRequested,
        status: ArcGisAppCredentialStatus { observed_generation: -1, ..ArcGisAppCredentialStatus::default() },
        memory: Memory::default(),
        target: None,
        credentials: Some(CredentialsSecret {
            uid: u64::from(id),
            version: u64::from(id) + 1,
            value: 1,
            incomplete: false,
        }),
        rejected: None,
        in_progress: None,
        check: None,
        check_result: None,
        unseen: Unseen::default(),
        history: History { custom_renew_before: renew_before.is_some(), ..History::default() },
    }
}
