//! The target Secret: its desired content, its owner, and whether its token is intact.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use super::token::AccessToken;
use crate::api::{DeletionPolicy, Format};
use crate::core::object::{Identity, Version};
use crate::core::spec::plan::{DOMAIN, MANAGED_BY};
use crate::core::spec::{Plan, is_referer, is_shell_safe};

/// The value of the managed-by label, and the name of this program.
pub(crate) const MANAGER: &str = "arcgis-credential-operator";
const REFERER_HEADER: &str = "Referer: ";
const REFERER_VARIABLE: &str = "ARCGIS_REFERER=";
/// The longest lifetime that annotations are accepted for.
const MAX_LIFETIME_SECONDS: i64 = 315_360_000;

fn own(key: &str) -> String {
    format!("{DOMAIN}{key}")
}

/// A token with the data that is published about it.
#[derive(Clone)]
pub struct IssuedToken {
    pub token: AccessToken,
    pub issue_time: Timestamp,
    pub expiration_time: Timestamp,
    pub inputs: String,
    /// The published URL of the portal, where it is not the one that the spec names now.
    pub portal_url: Option<String>,
    /// What the token was requested with, and what the formats tell consumers to send.
    pub referer: Option<String>,
}

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

/// Overwrites the values of a Secret in memory.
pub fn zero(data: &mut BTreeMap<String, ByteString>) {
    for bytes in data.values_mut() {
        bytes.0.zeroize();
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
        let credential = annotations.get(&own("credential"));
        let marked = labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER);
        let opaque = secret.type_.as_deref().unwrap_or("Opaque") == "Opaque";
        let handed_over = controller.is_none() && marked && credential == Some(&me.name);
        let owner = match (controlled || handed_over, credential.filter(|_| marked)) {
            (true, _) if secret.immutable == Some(true) => Owner::Immutable,
            (true, _) if !opaque => Owner::OtherType,
            (true, _) => Owner::Ours,
            (false, None) if controller.is_some() => Owner::Controller,
            (false, name) => Owner::Other(name.cloned()),
        };
        Self {
            version: Version { uid: meta.uid.unwrap_or_default(), resource: meta.resource_version.unwrap_or_default() },
            owner,
            controlled,
            owner_references,
            labels,
            annotations,
            data: secret.data.unwrap_or_default(),
        }
    }

    /// Returns its token, if it is intact.
    #[must_use]
    pub fn stored(&self) -> Option<IssuedToken> {
        let text = |key: &str| self.data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        let time = |key: &str| self.annotations.get(&own(key)).and_then(|text| text.parse::<Timestamp>().ok());
        let token = AccessToken::parse(text("access_token")?)?;
        let (issue_time, expiration_time) = (time("issued-at")?, time("expires-at")?);
        let seconds = expiration_time.as_second() - issue_time.as_second();
        let intact = self.annotations.get(&own("token-digest")) == Some(&digest(&token, issue_time, expiration_time))
            && (1..=MAX_LIFETIME_SECONDS).contains(&seconds);
        intact.then(|| IssuedToken {
            token,
            issue_time,
            expiration_time,
            inputs: self.annotations.get(&own("inputs")).cloned().unwrap_or_default(),
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

/// A manifest of the target, or a change of it, with the token in it: not printable, zeroed when dropped.
pub struct SecretPatch(Value);

impl SecretPatch {
    /// The body of the call.
    #[must_use]
    pub fn expose(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for SecretPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(SecretPatch)")
    }
}

impl Drop for SecretPatch {
    fn drop(&mut self) {
        if let Some(data) = self.0.get_mut("data").and_then(Value::as_object_mut) {
            for value in data.values_mut() {
                if let Value::String(text) = value {
                    text.zeroize();
                }
            }
        }
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

/// The operator's keys besides the fixed ones: they are removed when they are no longer specified.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Extras {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    data: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<String>,
}

/// The operator's fields of the Secret, with their desired values.
pub struct DesiredSecret {
    data: BTreeMap<String, ByteString>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Drop for DesiredSecret {
    fn drop(&mut self) {
        zero(&mut self.data);
    }
}

impl DesiredSecret {
    /// Returns the manifest that creates the Secret.
    #[must_use]
    pub fn manifest(&self, plan: &Plan, me: &Identity) -> SecretPatch {
        let mut metadata = json!({
            "name": plan.target.name, "namespace": me.namespace,
            "labels": self.labels, "annotations": self.annotations,
        });
        if plan.target.policy == DeletionPolicy::Delete {
            metadata["ownerReferences"] = json!([owner_reference(me)]);
        }
        SecretPatch(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": self.data}),
        )
    }

    /// Returns the patch that replaces one published token by the next, on the version that was evaluated.
    #[must_use]
    pub fn replacement(&self, judged: &Version) -> SecretPatch {
        SecretPatch(json!({
            "metadata": {"uid": judged.uid, "resourceVersion": judged.resource,
                         "labels": self.labels, "annotations": self.annotations},
            "data": self.data,
        }))
    }
}

fn owner_reference(me: &Identity) -> OwnerReference {
    use kube::Resource;
    OwnerReference {
        api_version: crate::api::ArcGisAppCredential::api_version(&()).into_owned(),
        kind: crate::api::ArcGisAppCredential::kind(&()).into_owned(),
        name: me.name.clone(),
        uid: me.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Returns the desired state with this token.
#[must_use]
pub fn render(plan: &Plan, me: &Identity, published: &IssuedToken) -> DesiredSecret {
    let (token, expires_at) = (published.token.expose(), published.expiration_time.to_string());
    let portal = published.portal_url.clone().unwrap_or_else(|| plan.public_url.base());
    let (portal, referer) = (portal.as_str(), published.referer.as_deref());
    let formats = plan.target.formats.iter();
    let mut data: BTreeMap<String, String> = plan
        .target
        .data
        .iter()
        .map(|(key, template)| (key.clone(), template.fill(token, &expires_at, portal)))
        .chain(formats.map(|f| (f.key().to_owned(), formatted(*f, token, &expires_at, portal, referer))))
        .collect();
    let extras = Extras {
        data: data.keys().cloned().collect(),
        labels: plan.target.labels.keys().cloned().collect(),
        annotations: plan.target.annotations.keys().cloned().collect(),
    };
    data.insert("access_token".to_owned(), token.to_owned());
    data.insert("expires_at".to_owned(), expires_at.clone());
    data.insert("portal_url".to_owned(), portal.to_owned());
    let mut labels = plan.target.labels.clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = plan.target.annotations.clone();
    annotations.insert(own("credential"), me.name.clone());
    annotations.insert(own("issued-at"), published.issue_time.to_string());
    annotations.insert(own("expires-at"), expires_at);
    annotations.insert(own("inputs"), published.inputs.clone());
    annotations.insert(own("token-digest"), digest(&published.token, published.issue_time, published.expiration_time));
    if !(extras.data.is_empty() && extras.labels.is_empty() && extras.annotations.is_empty()) {
        annotations.insert(own("extras"), json!(extras).to_string());
    }
    let data = data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect();
    DesiredSecret { data, labels, annotations }
}

fn formatted(format: Format, token: &str, expires_at: &str, portal: &str, referer: Option<&str>) -> String {
    let line = |prefix: &str| referer.map_or_else(String::new, |referer| format!("{prefix}{referer}\n"));
    match format {
        Format::Headers => format!("X-Esri-Authorization: Bearer {token}\n{}", line(REFERER_HEADER)),
        Format::DotEnv => format!(
            "ARCGIS_ACCESS_TOKEN={token}\nARCGIS_TOKEN_EXPIRES_AT={expires_at}\nARCGIS_PORTAL_URL={portal}\n{}",
            // A shell reads this file: the referer of an earlier token may not be safe in one.
            referer.filter(|referer| is_shell_safe(referer)).map_or_else(String::new, |_| line(REFERER_VARIABLE))
        ),
        Format::Json => {
            let mut token = json!({"access_token": token, "expires_at": expires_at, "portal_url": portal});
            if let Some(referer) = referer {
                token["referer"] = json!(referer);
            }
            token.to_string()
        }
        Format::RestJs => {
            json!({"type": "ApiKeyManager", "token": token, "portal": format!("{portal}/sharing/rest")}).to_string()
        }
    }
}

/// Returns the digest that shows whether a stored token is intact. The token is random and in the same Secret.
fn digest(token: &AccessToken, issue_time: Timestamp, expiration_time: Timestamp) -> String {
    hex(&[token.expose(), &issue_time.to_string(), &expiration_time.to_string()])
}

/// Returns a versioned fingerprint of what a token is requested with. A field added later enters only when it is set.
#[must_use]
pub fn fingerprint(plan: &Plan, credentials_uid: &str) -> String {
    let base = plan.portal.base();
    let lifetime = plan.lifetime.map(|seconds| seconds.to_string());
    let keys = &plan.credentials;
    let mut parts = vec![base.as_str(), &keys.client_id_key, &keys.client_secret_key, credentials_uid];
    if let Some(lifetime) = &lifetime {
        parts.extend(["lifetime", lifetime]);
    }
    if let Some(referer) = &plan.referer {
        parts.extend(["referer", referer]);
    }
    if let Some(name) = &plan.client_certificate {
        parts.extend(["clientCertificate", name]);
    }
    format!("v1:{}", hex(&parts))
}

/// Returns a short hash of a text that a user wrote.
pub(crate) fn short_hash(text: &str) -> String {
    hex(&[text])[..16].to_owned()
}

fn hex(parts: &[&str]) -> String {
    use std::fmt::Write;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
