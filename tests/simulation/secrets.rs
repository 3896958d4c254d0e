//! Simulated Secrets: complete objects for targets; for credentials, only versions and whether they are usable.

use std::collections::BTreeMap;

use arcgis_credential_operator::core::{CredentialsError, SecretPatch, Version};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// A credentials Secret, reduced to its version and the value that it holds.
#[derive(Clone, Debug)]
pub struct CredentialsSecret {
    pub uid: u64,
    pub version: u64,
    pub value: u64,
    /// Whether a key is missing.
    pub incomplete: bool,
}

impl CredentialsSecret {
    /// Returns its UID and its resourceVersion.
    pub fn version(&self) -> Version {
        Version::new(self.uid.to_string(), self.version.to_string())
    }

    /// Returns what a read of it yields: the version, and the digest by the key of the process that has started `started`
    /// times.
    pub fn read(&self, started: u64) -> (Version, Result<u64, CredentialsError>) {
        let missing = CredentialsError {
            key: "client_secret".to_owned(),
            cause: arcgis_credential_operator::api::Cause::KeyMissing,
        };
        (self.version(), if self.incomplete { Err(missing) } else { Ok(self.value ^ (started << 32)) })
    }
}

/// Returns the UID and the resourceVersion of an object.
pub fn version(secret: &Secret) -> Version {
    let meta = &secret.metadata;
    Version::new(meta.uid.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default())
}

/// A token and its expiry, as in a Secret.
pub type Token = (Vec<u8>, Vec<u8>);

/// Returns the token in a Secret.
pub fn token(secret: &Secret) -> Option<Token> {
    let data = secret.data.as_ref()?;
    Some((data.get("access_token")?.0.clone(), data.get("expires_at")?.0.clone()))
}

/// Returns when the token in a Secret was issued, as its annotation says.
pub fn issued_at(secret: &Secret) -> Option<Timestamp> {
    secret.metadata.annotations.as_ref()?.get("credentials.arcgis.dev/issued-at")?.parse().ok()
}

/// Creates the Secret of a manifest.
pub fn create(manifest: &SecretPatch, uid: u64, number: u64) -> Secret {
    let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).expect("a manifest is a Secret");
    secret.metadata.uid = Some(uid.to_string());
    secret.metadata.resource_version = Some(number.to_string());
    secret
}

/// Applies a merge patch as the API server would; returns `false` when it was made for another version.
pub fn patch(secret: &mut Secret, patch: &Value, number: u64) -> bool {
    let meta = &patch["metadata"];
    let judged = version(secret);
    if meta["uid"] != judged.uid.to_string() || meta["resourceVersion"] != judged.resource.to_string() {
        return false;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    merge(secret.metadata.labels.get_or_insert_default(), &meta["labels"], text);
    merge(secret.metadata.annotations.get_or_insert_default(), &meta["annotations"], text);
    merge(secret.data.get_or_insert_default(), &patch["data"], |value| {
        serde_json::from_value::<ByteString>(value.clone()).ok()
    });
    if let Some(owners) = meta.get("ownerReferences") {
        secret.metadata.owner_references = serde_json::from_value(owners.clone()).ok();
    }
    secret.metadata.resource_version = Some(number.to_string());
    true
}

fn merge<V>(into: &mut BTreeMap<String, V>, from: &Value, read: impl Fn(&Value) -> Option<V>) {
    for (key, value) in from.as_object().into_iter().flatten() {
        match read(value) {
            Some(value) => into.insert(key.clone(), value),
            None => into.remove(key),
        };
    }
}
