//! What the operator reports of a resource.

#![allow(clippy::doc_markdown, reason = "descriptions name fields as kubectl explain shows them")]

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::reason::Reason;

/// The observed state of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArcGisAppCredentialStatus {
    /// observedGeneration is the generation of the resource that was last reconciled. It is -1 before the first reconcile.
    #[serde(default)]
    pub observed_generation: i64,
    /// conditions of the resource: Ready, Reconciling, Stalled and, with verification, Verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "known_items")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// portal is the base URL of the portal as used, without `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub portal: Option<String>,
    /// token describes the token that the target Secret holds. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub token: Option<TokenStatus>,
    /// failure describes the last failed attempt. Absent when the last attempt succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub failure: Option<Failure>,
    /// rejection is present while the portal rejects published tokens before their expiration, for example after the app was
    /// deleted. Absent again after a check that found a token valid.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub rejection: Option<Rejection>,
    /// lastHandledRequest is the value of the annotation credentials.arcgis.dev/requested-at that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_request: Option<String>,
    /// targetVersion is the resourceVersion of the target Secret when it was last written or checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target_version: Option<String>,
    /// credentialsVersion is the resourceVersion of the credentials Secret when it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub credentials_version: Option<String>,
    /// app describes the app that the token belongs to, as the portal reports it. Present only with verification.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub app: Option<App>,
}

impl ArcGisAppCredentialStatus {
    /// Reads a stored status as far as this version knows its fields and reasons.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// Leaves out a field that a newer version wrote in a way that this one does not know.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_str(Box::<RawValue>::deserialize(deserializer)?.get()).ok())
}

/// Leaves out the items that this version does not know.
fn known_items<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Box<RawValue>>::deserialize(deserializer)?;
    Ok(items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect())
}

/// The published token. Times are RFC 3339 in UTC, in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// issueTime is when the request for the token was sent.
    #[schemars(length(max = 64))]
    pub issue_time: Timestamp,
    /// expirationTime is when the token expires, by the lifetime that the portal granted.
    #[schemars(length(max = 64))]
    pub expiration_time: Timestamp,
    /// renewalTime is when the next token is requested.
    #[schemars(length(max = 64))]
    pub renewal_time: Timestamp,
    /// lifetime that the portal granted, as a Go duration.
    #[schemars(length(max = 32))]
    pub lifetime: String,
    /// digest of the token and its times, the same as in the annotation credentials.arcgis.dev/token-digest of the target
    /// Secret. It shows whether the stored token is intact where that annotation was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
}

/// The last failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// reason why the attempt failed, one of the reasons of the condition Ready.
    #[schemars(with = "String", length(max = 64))]
    pub reason: Reason,
    /// cause says what exactly was seen, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cause: Option<String>,
    /// message says what was seen, where, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// startTime is when the first of the attempts that failed for this reason was made.
    #[schemars(length(max = 64))]
    pub start_time: Timestamp,
    /// count of attempts that failed in a row. Present when an action is required, and for RateLimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub count: Option<u32>,
    /// lastAttemptTime is when the last attempt was made. Present when an action is required, and for RateLimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_attempt_time: Option<Timestamp>,
    /// nextAttemptTime is when the next attempt is made. Absent when only a change resolves the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next_attempt_time: Option<Timestamp>,
    /// inputs identify what the failed attempt was made with: generation and resourceVersions, and nothing derived from a
    /// secret value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub inputs: Option<String>,
}

/// The portal rejects tokens before their expiration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// startTime is when a check first found a token rejected. The longer this lasts, the longer the operator waits between
    /// requests for new tokens.
    #[schemars(length(max = 64))]
    pub start_time: Timestamp,
}

/// The app that a token belongs to, as the portal reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// appID is the client ID of the app.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "appID")]
    #[schemars(length(max = 256))]
    pub app_id: Option<String>,
    /// itemID is the ID of the portal item that registers the app.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "itemID")]
    #[schemars(length(max = 256))]
    pub item_id: Option<String>,
    /// owner is the user name of the owner of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub owner: Option<String>,
    /// orgID is the ID of the organization that the app belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "orgID")]
    #[schemars(length(max = 256))]
    pub org_id: Option<String>,
    /// privileges that the app has in the portal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = App::MAX_PRIVILEGES), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub privileges: Vec<String>,
}

impl App {
    /// As many as the schema allows.
    pub(crate) const MAX_PRIVILEGES: usize = 200;
}

/// One aspect of the state of a resource, as `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    #[serde(default)]
    pub observed_generation: i64,
    pub last_transition_time: Timestamp,
}

/// The schema that the Kubernetes API conventions require of a condition.
impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Condition contains details for one aspect of the current state of this API Resource.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "description": "lastTransitionTime is the last time the condition transitioned from one status to another.",
                    "format": "date-time",
                    "type": "string",
                },
                "message": {
                    "description": "message is a human readable message indicating details about the transition. This may be an empty string.",
                    "maxLength": 32768,
                    "type": "string",
                },
                "observedGeneration": {
                    "description": "observedGeneration represents the .metadata.generation that the condition was set based upon.",
                    "format": "int64",
                    "minimum": 0,
                    "type": "integer",
                },
                "reason": {
                    "description": "reason contains a programmatic identifier indicating the reason for the condition's last transition.",
                    "maxLength": 1024,
                    "minLength": 1,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "type": "string",
                },
                "status": {
                    "description": "status of the condition, one of True, False, Unknown.",
                    "enum": ["True", "False", "Unknown"],
                    "type": "string",
                },
                "type": {
                    "description": "type of condition in CamelCase or in foo.example.com/CamelCase.",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "type": "string",
                },
            },
        })
    }
}

/// What the portal answers when it is asked about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The token belongs to the app that it was requested for.
    AppKnown(App),
    /// It belongs to another app, or to none.
    AppUnknown,
    /// The portal does not accept the token, although it is not past its expiration.
    TokenRejected,
    /// No answer, or none that can be used.
    NotAnswered,
}

impl Verification {
    /// Returns the reason of the condition Verified, and the outcome of the metric.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AppKnown(_) => "AppKnown",
            Self::AppUnknown => "AppUnknown",
            Self::TokenRejected => "TokenRejected",
            Self::NotAnswered => "NotAnswered",
        }
    }
}
