//! The documents that an API server sends of a resource and its objects.

use arcgis_credential_operator::core::AccessToken;
use arcgis_credential_operator::index::Key;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

/// Who manages fields of the resource, as the API server records it.
fn managed_fields() -> Value {
    let fields = json!({"f:spec": {".": {}, "f:credentialsRef": {"f:name": {}}, "f:target": {"f:name": {}}}});
    let entry = |manager: &str| {
        json!({"apiVersion": "credentials.arcgis.dev/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": fields,
               "manager": manager, "operation": "Apply", "time": "2026-01-01T00:00:00Z"})
    };
    json!([entry("kubectl"), entry("arcgis-credential-operator")])
}

pub fn key(n: usize) -> Key {
    Key::new(format!("team-{}", n % 10), format!("geocoding-{n}"))
}

/// Returns the UID of an object of a kind.
pub fn uid(kind: &str, n: usize) -> String {
    format!("7c0f4a4e-{kind}000-4000-8000-{n:012}")
}

/// Returns a resource as a watch reports it.
fn resource(n: usize, version: usize, status: &Value) -> Value {
    let key = key(n);
    let (namespace, name) = (key.namespace(), key.name());
    json!({
        "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
        "metadata": {"name": name, "namespace": namespace, "uid": uid("8", n),
                     "resourceVersion": version.to_string(), "generation": 1,
                     "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managed_fields()},
        "spec": {"credentialsRef": {"name": format!("geocoding-{n}-oauth"), "clientIdKey": "client_id",
                                    "clientSecretKey": "client_secret"},
                 "portal": {"url": "https://portal.example.com/portal"},
                 "target": {"name": format!("geocoding-{n}-token"), "deletionPolicy": "Delete"}},
        "status": status,
    })
}

/// The status of a resource at rest.
pub const STATUS: &str = concat!(
    r#"{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The target holds a valid token.","#,
    r#""observedGeneration":1,"reason":"TokenValid","status":"True","type":"Ready"}],"credentialsVersion":"1","#,
    r#""observedGeneration":1,"portal":"portal.example.com/portal","targetVersion":"1000","token":{"#,
    r#""expirationTime":"2026-01-01T02:00:00Z","issueTime":"2026-01-01T00:00:00Z","lifetime":"2h","#,
    r#""renewalTime":"2026-01-01T01:10:00Z"}}"#
);

fn secret_text(n: usize) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": format!("geocoding-{n}-oauth"), "namespace": key(n).namespace(), "uid": uid("0", n),
                     "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
                     "managedFields": managed_fields()},
        "data": {"client_id": "YXBwLTAwMDE=", "client_secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="},
    })
    .to_string()
}

pub fn token() -> AccessToken {
    AccessToken::parse("0123456789abcdef".repeat(16)).unwrap()
}

/// The documents of a resource, made before anything is counted.
#[derive(Clone)]
pub struct Documents {
    /// The credentials Secret.
    pub secret: String,
    /// The resource around its version and its status.
    parts: [String; 3],
}

impl Documents {
    pub fn new(n: usize) -> Self {
        let text = resource(n, 0, &json!("STATUS")).to_string();
        let (head, rest) = text.split_once("\"0\"").unwrap();
        let (middle, tail) = rest.split_once("\"STATUS\"").unwrap();
        Self { secret: secret_text(n), parts: [head.to_owned(), middle.to_owned(), tail.to_owned()] }
    }

    /// Returns the resource as a watch reports it.
    pub fn event(&self, version: usize, status: &str) -> String {
        let [head, middle, tail] = &self.parts;
        format!("{head}\"{version}\"{middle}{status}{tail}")
    }

    /// Decodes and encodes what every renewal reads and writes, once: the credentials and two watch events, the new content
    /// of the target and a status.
    pub fn pass(&self) {
        let secret: Secret = serde_json::from_str(&self.secret).unwrap();
        let target: Value = serde_json::from_str(&self.secret).unwrap();
        let event: Value = serde_json::from_str(&self.event(1, STATUS)).unwrap();
        let written = serde_json::to_vec(&secret).unwrap();
        let status = serde_json::to_vec(&event["status"]).unwrap();
        std::hint::black_box((target, written, status));
    }
}
