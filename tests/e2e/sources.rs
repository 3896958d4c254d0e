//! What can be wrong with the objects that a resource names: reason, cause and message of each, in a real cluster.

use crate::support::{SECRET, TestEnv};
use arcgis_credential_operator::api::ArcGisAppCredential;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testkit::pki::Authority;

/// What is wrong: a name, the change of the manifest, reason, cause, and a part of the message.
type Case = (&'static str, Value, &'static str, &'static str, &'static str);

async fn secret(env: &TestEnv, name: &str, kind: &str, data: Value) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data});
    env.secrets().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(secret)).await.unwrap();
}

async fn config_map(env: &TestEnv, name: &str, more: Value) {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    map.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    env.config_maps().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(map)).await.unwrap();
}

/// Applies each, and compares what its status says.
async fn check(env: &TestEnv, cases: Vec<Case>) {
    for (name, change, ..) in &cases {
        let mut manifest = env.manifest(name, "oauth");
        json_patch::merge(&mut manifest["spec"], change);
        env.apply(&manifest).await;
    }
    for (name, _, reason, cause, says) in cases {
        let fits = |r: &ArcGisAppCredential| {
            let failure = r.status.as_ref().and_then(|status| status.failure.as_ref());
            failure.is_some_and(|f| f.reason.as_str() == reason && f.cause.as_deref() == Some(cause))
        };
        let found = env.wait(name, fits).await;
        let message = found.status.unwrap().failure.unwrap().message.unwrap();
        assert!(message.contains(says), "{name}: {message}");
    }
    assert_eq!(env.portal.requests("app"), 0, "nothing is requested");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_credentials_and_bundles_has_a_cause() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    secret(&env, "no-key", "Opaque", json!({"client_id": "app"})).await;
    secret(&env, "empty", "Opaque", json!({"client_id": "app", "client_secret": " \n"})).await;
    secret(&env, "blank", "Opaque", json!({"client_id": "a b", "client_secret": SECRET})).await;
    config_map(&env, "other-key", json!({"data": {"root.pem": "x"}})).await;
    config_map(&env, "void", json!({"data": {"ca.crt": "\n"}})).await;
    config_map(&env, "der", json!({"binaryData": {"ca.crt": "MIIB"}})).await;
    config_map(&env, "many", json!({"data": {"ca.crt": env.portal.ca().repeat(513)}})).await;
    let bundle = |name: &str| json!({"portal": {"caBundleRef": {"name": name}}});
    let credentials = |name: &str| json!({"credentialsRef": {"name": name}});
    let (incomplete, missing, invalid) = ("CredentialsIncomplete", "CaBundleNotFound", "CaBundleInvalid");
    check(
        &env,
        vec![
            ("a", credentials("no-key"), incomplete, "KeyMissing", "Secret no-key has no key client_secret."),
            ("b", credentials("empty"), incomplete, "Empty", "Key client_secret of Secret empty is empty."),
            ("c", credentials("blank"), incomplete, "NotText", "Key client_id of Secret blank is not visible text"),
            ("d", bundle("absent"), missing, "ObjectMissing", "ConfigMap absent, key ca.crt, does not exist."),
            ("e", bundle("other-key"), missing, "KeyMissing", "ConfigMap other-key, key ca.crt, has no such key."),
            ("f", bundle("void"), invalid, "Empty", "ConfigMap void, key ca.crt, is empty."),
            ("g", bundle("der"), invalid, "NotPem", "ConfigMap der, key ca.crt, holds no certificate in PEM"),
            ("h", bundle("many"), invalid, "TooLarge", "ConfigMap many, key ca.crt, holds more than 512"),
            (
                "i",
                json!({"portal": {"url": "https://elsewhere.example.com"}}),
                "PortalNotAllowed",
                "NotListed",
                "Portal elsewhere.example.com is not in the operator's list",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_client_certificate_has_a_cause() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    let clients = Authority::new("clients").unwrap();
    let (good, other) = (clients.issue("good").unwrap(), clients.issue("other").unwrap());
    let (old, early) = (clients.issue_expired("old").unwrap(), clients.issue_early("early").unwrap());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let kind = "kubernetes.io/tls";
    for (name, kind, certificate, key) in [
        ("junk", kind, "junk", good.key.as_str()),
        ("mixed", kind, &good.certificate, &other.key),
        ("locked", kind, &good.certificate, encrypted),
        ("old", kind, &old.certificate, &old.key),
        ("early", kind, &early.certificate, &early.key),
        ("opaque", "Opaque", &good.certificate, &good.key),
    ] {
        secret(&env, name, kind, json!({"tls.crt": certificate, "tls.key": key})).await;
    }
    secret(&env, "half", "Opaque", json!({"tls.crt": good.certificate})).await;
    let certificate = |name: &str| json!({"portal": {"clientCertificateRef": {"name": name}}});
    let (missing, invalid) = ("ClientCertificateNotFound", "ClientCertificateInvalid");
    check(
        &env,
        vec![
            ("a", certificate("absent"), missing, "ObjectMissing", "Secret absent with the client certificate does"),
            ("b", certificate("half"), missing, "KeyMissing", "Secret half has no tls.crt or no tls.key."),
            ("c", certificate("junk"), invalid, "NotPem", "in Secret junk cannot be read."),
            ("d", certificate("mixed"), invalid, "KeyMismatch", "in Secret mixed is not that of the first"),
            ("e", certificate("locked"), invalid, "Encrypted", "in Secret locked is encrypted."),
            ("f", certificate("old"), invalid, "Expired", "in Secret old expired on 2021-01-01T00:00:00Z."),
            ("g", certificate("early"), invalid, "NotYetValid", "in Secret early is valid from 2100-01-01T00:00:00Z"),
            ("h", certificate("opaque"), invalid, "OtherType", "Secret opaque with the client certificate is not of"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_a_target_is_named() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "none", SECRET).await;
    config_map(&env, "owner", json!({})).await;
    let owner = env.config_maps().get("owner").await.unwrap().metadata.uid;
    let owned = |change: Value| {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
            "labels": {"app.kubernetes.io/managed-by": "arcgis-credential-operator"}}, "type": "Opaque"});
        json_patch::merge(&mut secret, &change);
        secret
    };
    let controller = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": true,
                             "uid": owner}]);
    let handed_over = |name: &str| json!({"credentials.arcgis.dev/credential": name});
    for secret in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a-token"}}),
        owned(json!({"metadata": {"name": "b-token", "ownerReferences": controller}})),
        owned(json!({"metadata": {"name": "c-token", "annotations": handed_over("c")}, "immutable": true})),
        owned(json!({"metadata": {"name": "d-token", "annotations": handed_over("d")}, "type": "example.com/x"})),
    ] {
        let name = secret["metadata"]["name"].as_str().unwrap();
        env.secrets().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&secret)).await.unwrap();
    }
    let reason = "TargetNotOwned";
    let mut cases = vec![
        ("a", json!({}), reason, "NoOwner", "Secret a-token exists and this resource does not own it."),
        ("b", json!({}), reason, "OtherController", "Secret b-token is owned by another controller."),
        ("c", json!({}), reason, "Immutable", "Secret c-token is immutable."),
        ("d", json!({}), reason, "OtherType", "Secret d-token is not of type Opaque."),
    ];
    // An older one has the same target, and no credentials.
    let mut older = env.manifest("older", "absent");
    older["spec"]["target"]["name"] = json!("shared");
    env.apply(&older).await;
    // Of two that are created within a second, the one with the smaller name is the older one.
    let shared = json!({"target": {"name": "shared"}});
    cases.push(("same", shared, reason, "OtherResource", "Secret shared belongs to resource older."));
    check(&env, cases).await;
}
