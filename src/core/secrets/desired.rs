//! The desired content of the target Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::patch::{SecretPatch, zero};
use super::token::IssuedToken;
use crate::api::{DeletionPolicy, Format};
use crate::core::object::{Identity, Version};
use crate::core::spec::plan::{DOMAIN, MANAGED_BY};
use crate::core::spec::{Plan, is_shell_safe};

/// The value of the managed-by label, and the name of this program.
pub(crate) const MANAGER: &str = "arcgis-credential-operator";
pub(super) const REFERER_HEADER: &str = "Referer: ";
pub(super) const REFERER_VARIABLE: &str = "ARCGIS_REFERER=";
pub(super) fn own(key: &str) -> String {
    format!("{DOMAIN}{key}")
}

/// The operator's keys besides the fixed ones: they are removed when they are no longer specified.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Extras {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
}

/// The operator's fields of the Secret, with their desired values.
pub struct DesiredSecret {
    pub(super) data: BTreeMap<String, ByteString>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
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

pub(super) fn owner_reference(me: &Identity) -> OwnerReference {
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

/// The most that the target may hold in all keys. Kubernetes accepts 1 MiB.
pub const MAX_TARGET_BYTES: usize = 1_000_000;
/// All expirations are as long as this one.
const EXPIRATION: &str = "2026-01-01T00:00:00Z";

/// Returns the bytes of all keys with a token of this length.
#[must_use]
pub fn rendered_size(plan: &Plan, token: usize) -> usize {
    size(plan, token, &plan.public_url.base(), plan.referer.as_deref())
}

/// Whether the target may hold all keys with this token.
#[must_use]
pub fn fits(plan: &Plan, published: &IssuedToken) -> bool {
    let portal = published.portal_url.clone().unwrap_or_else(|| plan.public_url.base());
    size(plan, published.token.expose().len(), &portal, published.referer.as_deref()) <= MAX_TARGET_BYTES
}

fn size(plan: &Plan, token: usize, portal: &str, referer: Option<&str>) -> usize {
    let formats = plan.target.formats.iter().map(|f| formatted(*f, "", EXPIRATION, portal, referer).len() + token);
    let data = plan.target.data.values().map(|template| template.size(token, EXPIRATION.len(), portal.len()));
    token + EXPIRATION.len() + portal.len() + formats.sum::<usize>() + data.sum::<usize>()
}

/// Returns the desired state with this token, which has to fit.
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
    annotations.extend(published.inputs.as_ref().map(|inputs| (own("inputs"), inputs.to_string())));
    annotations.insert(own("token-digest"), published.digest().to_string());
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
