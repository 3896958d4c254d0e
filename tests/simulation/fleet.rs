//! Who is simulated: portals, and resources with a role each.

use arcgis_credential_operator::api::{ArcGisAppCredentialSpec, ArcGisAppCredentialStatus, Reason};
use arcgis_credential_operator::core::{Identity, Memory, Plan, SpecError};
use fastrand::Rng;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::ledger::Ledger;
use crate::portal::Portal;
use crate::reconciler::Reconciler;
use crate::secrets::Source;
use crate::time::log_uniform;

/// Which resource, by its place in the fleet.
pub type Id = u32;

/// The value of a client secret that no portal takes.
pub const WRONG: u64 = 0;

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// A person changes something every other day.
    Edited,
    /// Somebody damages the target, or only drifts it, every few seconds for a while.
    Fought {
        damage: bool,
    },
    /// Its credentials, or its app, are refused from the start.
    Broken,
    /// Its app is refused after a while, for a while.
    Breaks,
}

/// What lifetimes its portal grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grants {
    AsAsked,
    Always(i64),
    /// Anything from a second to 14 days, shrinking and growing; the last one.
    Odd(i64),
}

/// One resource with all that belongs to it.
pub struct Resource {
    pub me: Identity,
    pub spec: ArcGisAppCredentialSpec,
    /// `None`: to be made from the spec.
    pub plan: Option<Result<Plan, SpecError>>,
    pub generation: i64,
    pub requested_at: Option<String>,
    pub portal: usize,
    pub role: Role,
    pub grants: Grants,
    pub status: ArcGisAppCredentialStatus,
    pub memory: Memory,
    pub target: Option<Secret>,
    pub source: Option<Source>,
    /// What the portal says to its app whatever the credentials.
    pub refused: Option<Reason>,
    /// The look that waits for the portal.
    pub reconciler: Option<Box<Reconciler>>,
    pub ledger: Ledger,
}

impl Resource {
    /// What the portal refuses it with.
    pub fn refusal(&self) -> Option<Reason> {
        let wrong = self.source.as_ref().is_some_and(|source| source.value == WRONG);
        self.refused.or(wrong.then_some(Reason::ClientSecretRejected))
    }

    /// The lifetime of the next token, seconds.
    pub fn grant(&mut self, asked: Option<u64>, rng: &mut Rng) -> i64 {
        const MOST: i64 = 14 * 86_400;
        match &mut self.grants {
            Grants::AsAsked => i64::try_from(asked.map_or(7200, |seconds| seconds.div_ceil(60) * 60)).unwrap_or(MOST),
            Grants::Always(seconds) => *seconds,
            Grants::Odd(last) => {
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

/// A fleet of every role on a dozen hosts, half of it on the first.
pub fn mixed(count: u32, rng: &mut Rng) -> (Vec<Portal>, Vec<Resource>) {
    let mut portals: Vec<Portal> = (0..12)
        .map(|at| {
            let most = if at % 4 == 3 { 3600 * rng.i64(1..48) } else { 14 * 86_400 };
            Portal { name: format!("portal-{at}.example.com"), most, ..Portal::default() }
        })
        .collect();
    let mut resources = Vec::new();
    for id in 0..count {
        let portal = if rng.bool() { 0 } else { rng.usize(0..portals.len()) };
        portals[portal].users += 1;
        let (mut role, mut grants, mut before) = (Role::Plain, Grants::AsAsked, None);
        match id % 100 {
            0 | 1 => role = Role::Broken,
            2 => role = Role::Breaks,
            3 => role = Role::Fought { damage: rng.bool() },
            4..=13 => role = Role::Edited,
            14..=18 => before = Some(["1m", "7m", "29m"][rng.usize(0..3)]),
            19..=27 => grants = Grants::Odd(7200),
            28 if id < 1000 => grants = Grants::Always([1, 10, 29, 45, 60, 75, 299, 600][rng.usize(0..8)]),
            _ => {}
        }
        let lifetime = match rng.u8(0..100) {
            0..32 => None,
            32..33 => Some("30m"),
            33..67 => Some("12h"),
            67..82 => Some("24h"),
            82..92 => Some("168h"),
            _ => Some("336h"),
        };
        let name = &portals[portal].name;
        let mut resource = resource(id, portal, name, lifetime, before, rng);
        resource.role = role;
        resource.grants = grants;
        if role == Role::Broken {
            match rng.u8(0..4) {
                0 | 1 => resource.source.iter_mut().for_each(|source| source.value = WRONG),
                2 => resource.refused = Some(Reason::RequestRejected),
                _ => resource.refused = Some(Reason::ClientIdRejected),
            }
        }
        resources.push(resource);
    }
    (portals, resources)
}

/// A fleet whose tokens all live the default two hours, on one host.
pub fn uniform(count: u32, rng: &mut Rng) -> (Vec<Portal>, Vec<Resource>) {
    let name = "portal.example.com";
    let portal = Portal { name: name.to_owned(), most: 14 * 86_400, users: count.into(), ..Portal::default() };
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
        me: Identity { namespace: "maps".to_owned(), name, uid },
        spec: serde_json::from_value(spec).expect("a valid spec"),
        plan: None,
        generation: 1,
        requested_at: None,
        portal,
        role: Role::Plain,
        grants: Grants::AsAsked,
        status: ArcGisAppCredentialStatus { observed_generation: -1, ..ArcGisAppCredentialStatus::default() },
        memory: Memory::default(),
        target: None,
        source: Some(Source { uid: u64::from(id), version: u64::from(id) + 1, value: 1, incomplete: false }),
        refused: None,
        reconciler: None,
        ledger: Ledger { own_margin: renew_before.is_some(), ..Ledger::default() },
    }
}
