//! A specification, parsed and checked.

use std::collections::BTreeMap;

use thiserror::Error;

use super::duration::parse_duration;
use super::portal::PortalUrl;
use super::referer::{REFERER_ADVICE, is_referer, is_shell_safe};
use super::template::Template;
use crate::api::{
    ArcGisAppCredentialSpec, CaBundleKind, CaBundleRef, CredentialsRef, DeletionPolicy, Format, VerificationSpec,
    is_subdomain,
};

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
    /// The URL of the portal that is published for workloads.
    pub public_url: PortalUrl,
    pub ca: Option<CaBundleRef>,
    /// The name of the Secret with the client certificate.
    pub client_certificate: Option<String>,
    pub credentials: CredentialsRef,
    pub lifetime: Option<u64>,
    pub renew_before: Option<u64>,
    /// Sent with each request to the portal, and written into the formats.
    pub referer: Option<String>,
    pub verification: Option<VerificationPlan>,
    pub suspend: bool,
    pub target: TargetPlan,
}

/// How a published token is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationPlan {
    /// In seconds.
    pub interval: u64,
    pub required_privileges: Vec<String>,
}

impl VerificationPlan {
    /// The interval in seconds, to calculate with times.
    #[must_use]
    pub fn seconds(&self) -> i64 {
        i64::try_from(self.interval).unwrap_or(i64::MAX)
    }
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

const MAX_INTERVAL_SECONDS: u64 = 24 * 3600;
/// Keys that users may not choose for `target.data`.
const RESERVED_KEYS: [&str; 5] = ["access_token", "expires_at", "portal_url", "client_id", "client_secret"];
/// The domain of the operator's own labels and annotations.
pub(crate) const DOMAIN: &str = "credentials.arcgis.dev/";
/// The label that names the writer of a Secret.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

impl Plan {
    /// Checks what admission checks too, for what was stored before a rule existed.
    pub fn new(spec: &ArcGisAppCredentialSpec) -> Result<Self, SpecError> {
        let (lifetime, renew_before) = schedule(spec)?;
        check_names(spec)?;
        let portal = PortalUrl::parse(&spec.portal.url).map_err(|e| problem("spec.portal.url")(&e))?;
        let public_url = spec.portal.public_url.as_deref().map(PortalUrl::parse).transpose();
        Ok(Self {
            public_url: public_url.map_err(|e| problem("spec.portal.publicURL")(&e))?.unwrap_or_else(|| portal.clone()),
            portal,
            ca: spec.portal.ca_bundle_ref.clone(),
            client_certificate: spec.portal.client_certificate_ref.as_ref().map(|certificate| certificate.name.clone()),
            credentials: spec.credentials_ref.clone(),
            lifetime,
            renew_before,
            referer: referer(spec)?,
            verification: spec.verification.as_ref().map(verification_plan).transpose()?,
            suspend: spec.suspend,
            target: target_plan(spec)?,
        })
    }
}

/// Returns the lifetime and `renewBefore`.
fn schedule(spec: &ArcGisAppCredentialSpec) -> Result<(Option<u64>, Option<u64>), SpecError> {
    let duration =
        |field, text: Option<&str>| text.map(parse_duration).transpose().map_err(|error| problem(field)(&error));
    let Some(token) = &spec.token else { return Ok((None, None)) };
    let lifetime = duration("spec.token.lifetime", token.lifetime.as_deref())?;
    let renew_before = duration("spec.token.renewBefore", token.renew_before.as_deref())?;
    match (lifetime, renew_before) {
        (Some(lifetime), Some(before)) if before >= lifetime => {
            Err(problem("spec.token.renewBefore")(&"must be shorter than lifetime"))
        }
        both => Ok(both),
    }
}

fn referer(spec: &ArcGisAppCredentialSpec) -> Result<Option<String>, SpecError> {
    let Some(referer) = spec.token.as_ref().and_then(|token| token.referer.clone()) else { return Ok(None) };
    if !is_referer(&referer) {
        return Err(problem("spec.token.referer")(&REFERER_ADVICE));
    }
    if spec.target.formats.contains(&Format::DotEnv) && !is_shell_safe(&referer) {
        let advice = "with the format DotEnv write only letters, digits and :._~%/?=+,@-: shells read the file";
        return Err(problem("spec.token.referer")(&advice));
    }
    Ok(Some(referer))
}

/// Checks the names of the target and of the objects that the resource reads.
fn check_names(spec: &ArcGisAppCredentialSpec) -> Result<(), SpecError> {
    let target = &spec.target.name;
    let ca = spec.portal.ca_bundle_ref.as_ref();
    let certificate = spec.portal.client_certificate_ref.as_ref();
    let is_source = *target == spec.credentials_ref.name
        || ca.is_some_and(|ca| ca.kind == CaBundleKind::Secret && ca.name == *target)
        || certificate.is_some_and(|certificate| certificate.name == *target);
    if is_source {
        return Err(problem("spec.target.name")(
            &"must not be the Secret of the credentials, the CA bundle or the client certificate",
        ));
    }
    let names = [
        ("spec.target.name", Some(target)),
        ("spec.credentialsRef.name", Some(&spec.credentials_ref.name)),
        ("spec.portal.caBundleRef.name", ca.map(|ca| &ca.name)),
        ("spec.portal.clientCertificateRef.name", certificate.map(|certificate| &certificate.name)),
    ];
    names.into_iter().try_for_each(|(field, name)| name.map_or(Ok(()), |name| check_name(field, name)))
}

fn verification_plan(spec: &VerificationSpec) -> Result<VerificationPlan, SpecError> {
    let interval = parse_duration(&spec.interval).ok().filter(|seconds| *seconds <= MAX_INTERVAL_SECONDS);
    let advice = "write a Go duration between 1m and 24h, such as 15m or 1h30m";
    let interval = interval.ok_or_else(|| problem("spec.verification.interval")(&advice))?;
    let visible = |text: &String| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if spec.required_privileges.len() > 64 || !spec.required_privileges.iter().all(visible) {
        let advice = "write at most 64 privileges of visible characters without blanks";
        return Err(problem("spec.verification.requiredPrivileges")(&advice));
    }
    Ok(VerificationPlan { interval, required_privileges: spec.required_privileges.clone() })
}

/// A name goes into request paths, so it is checked once more here.
fn check_name(field: &'static str, name: &str) -> Result<(), SpecError> {
    if is_subdomain(name) {
        Ok(())
    } else {
        Err(problem(field)(&"write a DNS-1123 subdomain: lower-case letters, digits, - and ."))
    }
}

/// Whether the API server accepts it as a key of a Secret.
fn is_secret_key(key: &str) -> bool {
    (1..=253).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
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
        if !is_secret_key(key)
            || RESERVED_KEYS.contains(&key.as_str())
            || formats.iter().any(|format| format.key() == key)
        {
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
