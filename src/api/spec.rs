//! What a user asks for.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a name, a type and a path")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArcGisAppCredentialStatus, rules};

/// The portal used when none is named.
pub const DEFAULT_PORTAL: &str = "https://www.arcgis.com";

/// An `ArcGIS` app whose access token is kept fresh in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "credentials.arcgis.dev",
    version = "v1alpha1",
    kind = "ArcGisAppCredential",
    plural = "arcgisappcredentials",
    shortname = "agc",
    category = "arcgis",
    namespaced,
    doc = "An ArcGIS app whose access token is kept fresh in a Secret.",
    status = "ArcGisAppCredentialStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.failure.reason"),
    printcolumn(name = "Portal", type_ = "string", json_path = ".status.portal"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.token.expiresAt"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.token.renewAt"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.target.name != self.credentialsRef.name").message(rules::TARGET_IS_CREDENTIALS),
    validation = Rule::new(rules::TARGET_IS_NOT_CA).message(rules::TARGET_IS_CA)
)]
pub struct ArcGisAppCredentialSpec {
    /// Where the token comes from.
    #[serde(default)]
    pub portal: PortalSpec,
    /// The Secret with the app's OAuth credentials.
    pub credentials_ref: CredentialsRef,
    /// What token to ask for, and when to renew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    /// The Secret to write.
    pub target: TargetSpec,
    /// True: no token is requested; what exists is left alone and still reported.
    #[serde(default)]
    pub suspend: bool,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortalSpec {
    /// The portal's base URL: `https://www.arcgis.com`, `https://gis.example.com/portal`, `https://host:7443/arcgis`.
    #[serde(default = "default_portal")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::URL).message(rules::URL_MESSAGE))]
    pub url: String,
    /// Extra trusted roots for this portal, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
}

impl Default for PortalSpec {
    fn default() -> Self {
        Self { url: default_portal(), ca_bundle_ref: None }
    }
}

fn default_portal() -> String {
    DEFAULT_PORTAL.to_owned()
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    #[serde(default)]
    pub kind: CaBundleKind,
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE))]
    pub name: String,
    /// The key with certificates in PEM.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::KEY).message(rules::KEY_MESSAGE))]
    pub key: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaBundleKind {
    #[default]
    ConfigMap,
    Secret,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE))]
    pub name: String,
    #[serde(default = "default_client_id_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::KEY).message(rules::KEY_MESSAGE))]
    pub client_id_key: String,
    #[serde(default = "default_client_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::KEY).message(rules::KEY_MESSAGE))]
    pub client_secret_key: String,
}

fn default_client_id_key() -> String {
    "client_id".to_owned()
}

fn default_client_secret_key() -> String {
    "client_secret".to_owned()
}

#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::RENEW_BEFORE).message(rules::RENEW_BEFORE_MESSAGE))]
pub struct TokenSpec {
    /// Asked of the portal, 1m to 336h; left out: the portal decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(rules::DURATION).message(rules::DURATION_MESSAGE))]
    pub lifetime: Option<String>,
    /// How long before its end a token is renewed, 1m to 336h; left out: a third of what was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(rules::DURATION).message(rules::DURATION_MESSAGE))]
    pub renew_before: Option<String>,
    /// True: after publishing, the portal is asked whose token it is.
    #[serde(default)]
    pub verify: bool,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::DATA_FORMAT_KEYS).message(rules::DATA_FORMAT_KEYS_MESSAGE))]
pub struct TargetSpec {
    /// The Secret's name; it cannot be changed later.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE),
        validation = Rule::new("self == oldSelf").message(rules::IMMUTABLE_MESSAGE)
    )]
    pub name: String,
    /// Delete: the Secret goes with the resource. Retain: it stays.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::labels")]
    #[x_kube(validation = Rule::new(rules::OWN_KEYS).message(rules::OWN_KEYS_MESSAGE))]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::annotations")]
    #[x_kube(validation = Rule::new(rules::OWN_KEYS).message(rules::OWN_KEYS_MESSAGE))]
    pub annotations: BTreeMap<String, String>,
    /// Ready-made extra keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new(rules::FORMATS_ONCE).message(rules::FORMATS_ONCE_MESSAGE))]
    pub formats: Vec<Format>,
    /// Extra keys: text with `$(access_token)`, `$(expires_at)` and `$(portal_url)`; `$$` is a literal `$`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::data")]
    #[x_kube(
        validation = Rule::new(rules::DATA_KEYS).message(rules::DATA_KEYS_MESSAGE),
        validation = Rule::new(rules::DATA_TEXTS).message(rules::DATA_TEXTS_MESSAGE)
    )]
    pub data: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Retain,
}

/// A ready-made extra key of the target Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    Headers,
    DotEnv,
    Json,
    RestJs,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Self::Headers, Self::DotEnv, Self::Json, Self::RestJs];

    /// The key it fills.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::DotEnv => "arcgis.env",
            Self::Json => "token.json",
            Self::RestJs => "rest-js.json",
        }
    }
}
