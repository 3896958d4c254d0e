//! A specification, parsed and checked.

use std::collections::BTreeMap;

use thiserror::Error;

use super::duration::parse_duration;
use super::portal::PortalUrl;
use super::template::Template;
use crate::api::{ArcGisAppCredentialSpec, CaBundleKind, CaBundleRef, CredentialsRef, DeletionPolicy, Format};

/// Which field of a specification is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {advice}")]
pub struct SpecError {
    pub field: &'static str,
    pub advice: String,
}

fn problem(field: &'static str) -> impl Fn(&dyn std::fmt::Display) -> SpecError {
    move |advice| SpecError { field, advice: advice.to_string() }
}

/// What to do for one resource. Durations are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub portal: PortalUrl,
    pub ca: Option<CaBundleRef>,
    pub credentials: CredentialsRef,
    pub lifetime: Option<u64>,
    pub renew_before: Option<u64>,
    pub verify: bool,
    pub suspend: bool,
    pub target: TargetPlan,
}

/// The Secret to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPlan {
    pub name: String,
    pub policy: DeletionPolicy,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub formats: Vec<Format>,
    pub data: BTreeMap<String, Template>,
}

/// Keys that users may not choose for `target.data`.
const RESERVED_KEYS: [&str; 5] = ["access_token", "expires_at", "portal_url", "client_id", "client_secret"];
/// The domain of the operator's own labels and annotations.
pub(crate) const DOMAIN: &str = "credentials.arcgis.dev/";
/// The label that names the writer of a Secret.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

impl Plan {
    /// Checks what admission checks too, for what was stored before a rule existed.
    pub fn new(spec: &ArcGisAppCredentialSpec) -> Result<Self, SpecError> {
        let token = spec.token.clone().unwrap_or_default();
        let duration = |field, text: &Option<String>| {
            text.as_deref().map(parse_duration).transpose().map_err(|e| problem(field)(&e))
        };
        let lifetime = duration("spec.token.lifetime", &token.lifetime)?;
        let renew_before = duration("spec.token.renewBefore", &token.renew_before)?;
        if let (Some(lifetime), Some(before)) = (lifetime, renew_before)
            && before >= lifetime
        {
            return Err(problem("spec.token.renewBefore")(&"must be shorter than lifetime"));
        }
        let target = &spec.target.name;
        let ca = spec.portal.ca_bundle_ref.clone();
        let is_source = *target == spec.credentials_ref.name
            || ca.as_ref().is_some_and(|ca| ca.kind == CaBundleKind::Secret && ca.name == *target);
        if is_source {
            return Err(problem("spec.target.name")(&"must not be the credentials Secret or the CA bundle's"));
        }
        for (field, name) in [("spec.target.name", target), ("spec.credentialsRef.name", &spec.credentials_ref.name)] {
            check_name(field, name)?;
        }
        if let Some(ca) = &ca {
            check_name("spec.portal.caBundleRef.name", &ca.name)?;
        }
        Ok(Self {
            portal: PortalUrl::parse(&spec.portal.url).map_err(|e| problem("spec.portal.url")(&e))?,
            ca,
            credentials: spec.credentials_ref.clone(),
            lifetime,
            renew_before,
            verify: token.verify,
            suspend: spec.suspend,
            target: target_plan(spec)?,
        })
    }
}

/// A name goes into request paths, so it is checked once more here.
fn check_name(field: &'static str, name: &str) -> Result<(), SpecError> {
    if is_subdomain(name) {
        Ok(())
    } else {
        Err(problem(field)(&"write a DNS-1123 subdomain: lower-case letters, digits, - and ."))
    }
}

/// Whether a text is a DNS-1123 subdomain, as names of objects are.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        l.bytes().all(|b| edge(b) || b == b'-')
            && l.bytes().next().is_some_and(edge)
            && l.bytes().last().is_some_and(edge)
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn target_plan(spec: &ArcGisAppCredentialSpec) -> Result<TargetPlan, SpecError> {
    let target = &spec.target;
    for (field, keys) in [("spec.target.labels", &target.labels), ("spec.target.annotations", &target.annotations)] {
        if keys.keys().any(|key| key.starts_with(DOMAIN) || key == MANAGED_BY) {
            return Err(problem(field)(
                &"keys under credentials.arcgis.dev/ and app.kubernetes.io/managed-by are taken",
            ));
        }
    }
    let mut formats = target.formats.clone();
    formats.sort_unstable();
    formats.dedup();
    let mut data = BTreeMap::new();
    for (key, text) in &target.data {
        let valid = !key.is_empty()
            && key.len() <= 253
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !valid || RESERVED_KEYS.contains(&key.as_str()) || formats.iter().any(|format| format.key() == key) {
            return Err(problem("spec.target.data")(
                &"a key is [-._a-zA-Z0-9]{1,253} and none of the base keys, client_id, client_secret or a format's key",
            ));
        }
        data.insert(key.clone(), Template::parse(text).map_err(|e| problem("spec.target.data")(&e))?);
    }
    Ok(TargetPlan {
        name: target.name.clone(),
        policy: target.deletion_policy,
        labels: target.labels.clone(),
        annotations: target.annotations.clone(),
        formats,
        data,
    })
}
