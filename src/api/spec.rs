//! What a user asks for.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a name, a type and a path")]
#![allow(clippy::doc_markdown, reason = "descriptions name fields as kubectl explain shows them")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Format;
use super::rules;
use super::status::ArcGisAppCredentialStatus;

/// The portal used when none is named.
pub const DEFAULT_PORTAL: &str = "https://www.arcgis.com";

/// The desired access token and the Secret that holds it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "credentials.arcgis.dev",
    version = "v1alpha1",
    kind = "ArcGisAppCredential",
    plural = "arcgisappcredentials",
    shortname = "agc",
    category = "arcgis",
    namespaced,
    doc = "ArcGisAppCredential keeps a Secret filled with a valid access token of one ArcGIS app.",
    status = "ArcGisAppCredentialStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.failure.reason"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.token.expirationTime"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.token.renewalTime", priority = 1),
    printcolumn(name = "Portal", type_ = "string", json_path = ".status.portal", priority = 1),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.target.name",
    selectable = ".spec.credentialsRef.name"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.target.name != self.credentialsRef.name")
        .message(rules::TARGET_IS_CREDENTIALS)
        .field_path(".target.name"),
    validation = Rule::new(rules::SHELL_REFERER).message(rules::SHELL_REFERER_MESSAGE).field_path(".token.referer"),
    validation = Rule::new(rules::TARGET_IS_NOT_CA).message(rules::TARGET_IS_CA).field_path(".target.name"),
    validation = Rule::new(rules::TARGET_IS_NOT_CLIENT_CERTIFICATE)
        .message(rules::TARGET_IS_CLIENT_CERTIFICATE)
        .field_path(".target.name")
)]
pub struct ArcGisAppCredentialSpec {
    /// portal is the ArcGIS portal that issues the token. Defaults to ArcGIS Online at
    /// `https://www.arcgis.com`.
    #[serde(default)]
    pub portal: PortalSpec,
    /// credentialsRef names the Secret in the same namespace that holds the client ID and the client secret of the app.
    pub credentials_ref: CredentialsRef,
    /// token configures the lifetime and the renewal of the token. Defaults to what the portal grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    /// verification checks the published token with the portal, after it is published and in intervals. A token that the
    /// portal rejects is replaced. Defaults to no checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSpec>,
    /// target is the Secret that the operator creates and keeps filled with a valid token.
    pub target: TargetSpec,
    /// suspend stops token requests and writes of the target Secret. The status is still updated. Defaults to false.
    #[serde(default)]
    pub suspend: bool,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortalSpec {
    /// url is the base URL of the portal, such as `https://gis.example.com/portal` or `https://host:7443/arcgis`. It uses
    /// https. A trailing slash, a `/home` path and a `/sharing/rest` path are dropped. Defaults to `https://www.arcgis.com`.
    #[serde(default = "default_portal")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new(rules::URL).message(rules::URL_MESSAGE),
        validation = Rule::new(rules::NOT_A_SERVICE).message(rules::NOT_A_SERVICE_MESSAGE)
    )]
    pub url: String,
    /// publicURL is the URL of the portal that workloads use, where it differs from url, such as behind a reverse proxy. It is
    /// published as `portal_url` and in the formats of target, and the operator does not connect to it. It has the syntax of
    /// url. Defaults to url.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "publicURL")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new(rules::URL).message(rules::URL_MESSAGE),
        validation = Rule::new(rules::NOT_A_SERVICE).message(rules::NOT_A_SERVICE_MESSAGE)
    )]
    pub public_url: Option<String>,
    /// caBundleRef names an object in the same namespace with CA certificates to trust for this portal in addition to the
    /// system's. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// clientCertificateRef names a Secret of type `kubernetes.io/tls` in the same namespace. The operator authenticates with
    /// its certificate where the portal, or a web server in front of it, requires client certificates. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<ClientCertificateRef>,
}

impl Default for PortalSpec {
    fn default() -> Self {
        Self { url: default_portal(), public_url: None, ca_bundle_ref: None, client_certificate_ref: None }
    }
}

fn default_portal() -> String {
    DEFAULT_PORTAL.to_owned()
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// kind of the object that holds the certificates: `ConfigMap` or `Secret`. Defaults to `ConfigMap`.
    #[serde(default)]
    pub kind: CaBundleKind,
    /// name of the object that holds the certificates.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE))]
    pub name: String,
    /// key whose value holds one or more certificates in PEM format. Defaults to `ca.crt`.
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
pub struct ClientCertificateRef {
    /// name of the Secret. Its key `tls.crt` holds the certificate, followed by its intermediate certificates; `tls.key` holds
    /// the private key, not encrypted. Both are in PEM format.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE))]
    pub name: String,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    /// name of the Secret that holds the OAuth credentials.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE))]
    pub name: String,
    /// clientIDKey is the key whose value is the client ID. White space around the value is ignored. Defaults to
    /// `client_id`.
    #[serde(default = "default_client_id_key", rename = "clientIDKey")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::KEY).message(rules::KEY_MESSAGE))]
    pub client_id_key: String,
    /// clientSecretKey is the key whose value is the client secret. White space around the value is ignored. Defaults to
    /// `client_secret`.
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
#[x_kube(
    validation = Rule::new(rules::RENEW_BEFORE).message(rules::RENEW_BEFORE_MESSAGE).field_path(".renewBefore")
)]
pub struct TokenSpec {
    /// lifetime to request from the portal, as a Go duration from 1m to 336h. It is sent in whole minutes, rounded up. The
    /// portal may grant another lifetime, which is the one that counts. Defaults to the lifetime that the portal chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(rules::DURATION).message(rules::DURATION_MESSAGE))]
    pub lifetime: Option<String>,
    /// renewBefore is how long before its expiration a token is renewed, as a Go duration from 1m to 336h. It must be shorter
    /// than lifetime. At least 5m and at most half of the granted lifetime apply. Defaults to a third of the granted lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(rules::DURATION).message(rules::DURATION_MESSAGE))]
    pub renew_before: Option<String>,
    /// referer is the URL to send in the header `Referer` of requests to the portal, for an app that is restricted to HTTP
    /// referrers. The formats of target contain it too. It is an http or https URL of at most 512 characters. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(rules::REFERER).message(rules::REFERER_MESSAGE))]
    pub referer: Option<String>,
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// interval between two checks, as a Go duration from 1m to 24h. Each new token is checked at once. Defaults to `15m`.
    #[serde(default = "default_interval")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(rules::INTERVAL).message(rules::INTERVAL_MESSAGE))]
    pub interval: String,
    /// requiredPrivileges that the app must have in the portal, such as `premium:user:geocode`. What is missing is reported by
    /// the condition Verified and a metric, and nothing is requested for it. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(rules::PRIVILEGES).message(rules::PRIVILEGES_MESSAGE)
    )]
    pub required_privileges: Vec<String>,
}

fn default_interval() -> String {
    "15m".to_owned()
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::DATA_FORMAT_KEYS).message(rules::DATA_FORMAT_KEYS_MESSAGE).field_path(".data")
)]
pub struct TargetSpec {
    /// name of the Secret, in the same namespace. It is immutable, and differs from the Secrets that this resource reads.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::NAME).message(rules::NAME_MESSAGE),
        validation = Rule::new("self == oldSelf").message(rules::IMMUTABLE_MESSAGE)
    )]
    pub name: String,
    /// deletionPolicy defines what happens to the Secret when the resource is deleted: `Delete` has it garbage-collected,
    /// `Retain` keeps it. Defaults to `Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::labels")]
    #[x_kube(
        validation = Rule::new(rules::OWN_KEYS).message(rules::OWN_KEYS_MESSAGE),
        validation = Rule::new(rules::QUALIFIED_KEYS).message(rules::QUALIFIED_KEYS_MESSAGE),
        validation = Rule::new(rules::LABEL_VALUES).message(rules::LABEL_VALUES_MESSAGE)
    )]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::annotations")]
    #[x_kube(
        validation = Rule::new(rules::OWN_KEYS).message(rules::OWN_KEYS_MESSAGE),
        validation = Rule::new(rules::QUALIFIED_KEYS).message(rules::QUALIFIED_KEYS_MESSAGE),
        validation = Rule::new(rules::ANNOTATIONS_SIZE).message(rules::ANNOTATIONS_SIZE_MESSAGE)
    )]
    pub annotations: BTreeMap<String, String>,
    /// formats adds a key for each listed format: `Headers` (`headers`), `DotEnv` (`arcgis.env`), `Json` (`token.json`) and
    /// `RestJs` (`rest-js.json`). Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub formats: Vec<Format>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::data")]
    #[x_kube(
        validation = Rule::new(rules::DATA_KEYS).message(rules::DATA_KEYS_MESSAGE),
        validation = Rule::new(rules::DATA_TEXTS).message(rules::DATA_TEXTS_MESSAGE),
        validation = Rule::new(rules::DATA_SIZE).message(rules::DATA_SIZE_MESSAGE)
    )]
    pub data: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Retain,
}
