//! A body with a token in it, as it is sent to the API server.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde_json::Value;
use zeroize::Zeroize;

/// Overwrites the values of a Secret in memory.
pub fn zero(data: &mut BTreeMap<String, ByteString>) {
    for bytes in data.values_mut() {
        bytes.0.zeroize();
    }
}

/// A manifest of the target, or a change of it, with the token in it: not printable, zeroed when dropped.
pub struct SecretPatch(pub(super) Value);

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
