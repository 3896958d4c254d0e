//! The target Secret as it is in the cluster: its owner, its token, and what differs from the desired content.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::desired::{DesiredSecret, Extras, MANAGER, REFERER_HEADER, REFERER_VARIABLE, own, owner_reference};
use super::fingerprint::Fingerprint;
use super::patch::{SecretPatch, zero};
use super::token::{AccessToken, IssuedToken, digest};
use crate::api::{DeletionPolicy, Format, TokenStatus};
use crate::core::object::{Identity, Version};
use crate::core::spec::is_referer;
use crate::core::spec::plan::MANAGED_BY;

/// The longest lifetime that annotations are accepted for.
const MAX_LIFETIME_SECONDS: i64 = 315_360_000;

/// The owner of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Ours,
    /// Another owner, with the name of its resource where the Secret names one.
    Other(Option<String>),
    /// Another controller, which is no such resource.
    Controller,
    /// Owned by this resource, but it cannot be updated.
    Immutable,
    /// Owned by this resource, but not of type Opaque.
    OtherType,
}

/// The Secret in the cluster.
pub struct LiveSecret {
    pub version: Version,
    pub owner: Owner,
    controlled: bool,
    owner_references: Vec<OwnerReference>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    data: BTreeMap<String, ByteString>,
}

impl Drop for LiveSecret {
    fn drop(&mut self) {
        zero(&mut self.data);
    }
}

impl LiveSecret {
    /// Reads a Secret that the API server returned.
    #[must_use]
    pub fn new(secret: Secret, me: &Identity) -> Self {
        let meta = secret.metadata;
        let owner_references = meta.owner_references.unwrap_or_default();
        let labels = meta.labels.unwrap_or_default();
        let annotations = meta.annotations.unwrap_or_default();
        let controller = owner_references.iter().find(|owner| owner.controller == Some(true));
        let controlled = controller.is_some_and(|owner| owner.uid == me.uid);
        let marked = labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER);
        let credential = annotations.get(&own("credential")).filter(|_| marked);
        let handed_over = controller.is_none() && credential == Some(&me.name);
        let owner = if controlled || handed_over {
            let opaque = secret.type_.as_deref().unwrap_or("Opaque") == "Opaque";
            match (secret.immutable, opaque) {
                (Some(true), _) => Owner::Immutable,
                (_, false) => Owner::OtherType,
                _ => Owner::Ours,
            }
        } else if credential.is_none() && controller.is_some() {
            Owner::Controller
        } else {
            Owner::Other(credential.cloned())
        };
        Self {
            version: Version::new(meta.uid.unwrap_or_default(), meta.resource_version.unwrap_or_default()),
            owner,
            controlled,
            owner_references,
            labels,
            annotations,
            data: secret.data.unwrap_or_default(),
        }
    }

    /// Returns its token, if it is intact by its annotations or, where these were stripped or changed, by what a status reports
    /// of it.
    #[must_use]
    pub fn stored(&self, reported: Option<&TokenStatus>) -> Option<IssuedToken> {
        self.annotated().or_else(|| {
            let TokenStatus { issue_time, expiration_time, digest, .. } = reported?;
            self.intact(&digest.as_deref()?.into(), *issue_time, *expiration_time)
        })
    }

    fn annotated(&self) -> Option<IssuedToken> {
        let text = |key: &str| self.annotations.get(&own(key));
        let time = |key: &str| text(key).and_then(|text| text.parse::<Timestamp>().ok());
        self.intact(&text("token-digest")?.as_str().into(), time("issued-at")?, time("expires-at")?)
    }

    /// Returns its token, if that and these times have this digest.
    pub(crate) fn intact(
        &self,
        expected: &Fingerprint,
        issue_time: Timestamp,
        expiration_time: Timestamp,
    ) -> Option<IssuedToken> {
        let text = |key: &str| self.data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        let token = AccessToken::parse(text("access_token")?)?;
        let seconds = expiration_time.as_second() - issue_time.as_second();
        let intact =
            *expected == digest(&token, issue_time, expiration_time) && (1..=MAX_LIFETIME_SECONDS).contains(&seconds);
        intact.then(|| IssuedToken {
            token,
            issue_time,
            expiration_time,
            inputs: self.annotations.get(&own("inputs")).map(|inputs| inputs.as_str().into()),
            portal_url: text("portal_url").filter(|url| !url.is_empty()),
            referer: self.referer(),
        })
    }

    /// Returns the referer that its formats hold.
    fn referer(&self) -> Option<String> {
        let line = |format: Format, prefix: &str| {
            let text = std::str::from_utf8(&self.data.get(format.key())?.0).ok()?;
            text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned)
        };
        let json = || {
            let token: Value = serde_json::from_slice(&self.data.get(Format::Json.key())?.0).ok()?;
            token["referer"].as_str().map(str::to_owned)
        };
        let found = line(Format::Headers, REFERER_HEADER).or_else(|| line(Format::DotEnv, REFERER_VARIABLE));
        found.or_else(json).filter(|referer| is_referer(referer))
    }

    /// Returns the patch to the desired state, `None` where nothing differs. Fields of others stay; the operator's own that
    /// are no longer desired are removed.
    #[must_use]
    pub fn patch(&self, desired: &DesiredSecret) -> Option<SecretPatch> {
        let former: Extras =
            self.annotations.get(&own("extras")).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let data = changes(&self.data, &desired.data, former.data.iter(), |bytes| json!(bytes));
        let labels = changes(&self.labels, &desired.labels, former.labels.iter(), |text| json!(text));
        let extras = own("extras");
        let dropped = former.annotations.iter().chain(std::iter::once(&extras));
        let annotations = changes(&self.annotations, &desired.annotations, dropped, |text| json!(text));
        if data.is_empty() && labels.is_empty() && annotations.is_empty() {
            return None;
        }
        Some(SecretPatch(json!({
            "metadata": {"uid": self.version.uid, "resourceVersion": self.version.resource,
                         "labels": labels, "annotations": annotations},
            "data": data,
        })))
    }

    /// Returns the patch to the ownership that the policy specifies, `None` where nothing differs.
    #[must_use]
    pub fn ownership(&self, policy: DeletionPolicy, me: &Identity) -> Option<SecretPatch> {
        let owners: Vec<&OwnerReference> = match (policy, self.controlled) {
            (DeletionPolicy::Delete, true) | (DeletionPolicy::Retain, false) => return None,
            _ => self.owner_references.iter().filter(|owner| owner.uid != me.uid).collect(),
        };
        let mut owners: Vec<Value> = owners.into_iter().map(|owner| json!(owner)).collect();
        if policy == DeletionPolicy::Delete {
            owners.push(json!(owner_reference(me)));
        }
        Some(SecretPatch(json!({
            "metadata": {"uid": self.version.uid, "resourceVersion": self.version.resource, "ownerReferences": owners},
        })))
    }
}

fn changes<'a, V: PartialEq>(
    live: &BTreeMap<String, V>,
    desired: &BTreeMap<String, V>,
    former: impl Iterator<Item = &'a String>,
    value: impl Fn(&V) -> Value,
) -> BTreeMap<String, Value> {
    let dropped = former.filter(|key| live.contains_key(*key) && !desired.contains_key(*key));
    let changed = desired.iter().filter(|(key, desired)| live.get(*key) != Some(desired));
    dropped
        .map(|key| (key.clone(), Value::Null))
        .chain(changed.map(|(key, desired)| (key.clone(), value(desired))))
        .collect()
}
