//! The marks of every secret in these tests, and the search for them.

use std::sync::LazyLock;

use testkit::portal::{BODY_CANARY, TOKEN_CANARY};

use super::SECRET_CANARY;

/// The marks, and their base64 forms, as in a Secret.
static CANARIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let plain = [SECRET_CANARY, TOKEN_CANARY, BODY_CANARY];
    plain.iter().map(|canary| (*canary).to_owned()).chain(plain.map(encode)).collect()
});

/// Returns the mark of a secret that a text contains.
pub fn leaked(text: &str) -> Option<&'static str> {
    CANARIES.iter().map(String::as_str).find(|canary| text.contains(canary))
}

/// Asserts that a text contains no secret.
pub fn clean(what: &str, text: &str) {
    let leaked = leaked(text);
    assert!(leaked.is_none(), "{} appears in {what}", leaked.unwrap_or_default());
}

/// Returns the part of a text's base64 form that does not depend on what follows it.
fn encode(text: &str) -> String {
    let secret = k8s_openapi::ByteString(text.as_bytes()[..text.len() / 3 * 3].to_vec());
    serde_json::to_value(secret).unwrap().as_str().unwrap().to_owned()
}
