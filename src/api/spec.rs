//! What a user asks for.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ArcGisAppCredentialStatus;

/// The portal used when none is named.
pub const DEFAULT_PORTAL: &str = "https://www.arcgis.com";

/// An ArcGIS app whose access token is kept fresh in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "credentials.arcgis.dev",
    version = "v1alpha1",
    kind = "ArcGisAppCredential",
    plural = "arcgisappcredentials",
    shortname = "agc",
    category = "arcgis",
    namespaced,
    status = "ArcGisAppCredentialStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct ArcGisAppCredentialSpec {
    #[serde(default)]
    pub portal: PortalSpec,
    pub credentials_ref: CredentialsRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    pub target: TargetSpec,
    #[serde(default)]
    pub suspend: bool,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortalSpec {
    #[serde(default = "default_portal")]
    pub url: String,
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
    pub name: String,
    #[serde(default = "default_ca_key")]
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
    pub name: String,
    #[serde(default = "default_client_id_key")]
    pub client_id_key: String,
    #[serde(default = "default_client_secret_key")]
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
pub struct TokenSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    #[serde(default)]
    pub verify: bool,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    pub name: String,
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<Format>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
