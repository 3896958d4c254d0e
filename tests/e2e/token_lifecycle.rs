//! The lifecycle of a token on a real control plane, with only the permissions of the manifests.

use std::time::Duration;

use crate::support::{SECRET, TestEnv, condition, failure_reason, is, text};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use testkit::portal::App;

#[tokio::test(flavor = "multi_thread")]
async fn fills_the_target_with_every_key_label_annotation_and_format() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", &format!("  {SECRET}\n")).await;
    let mut manifest = env.manifest("all", "oauth");
    manifest["spec"]["token"] = json!({"lifetime": "90m"});
    manifest["spec"]["target"]["labels"] = json!({"team": "maps"});
    manifest["spec"]["target"]["annotations"] = json!({"example.com/note": "hello"});
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    manifest["spec"]["target"]["data"] = json!({"app.cfg": "t=$(access_token) p=$(portal_url) $$(x) $y"});
    env.apply(&manifest).await;
    let resource = env.wait("all", |r| is(r, "Ready", "True", "TokenValid")).await;
    let secret = env.secrets().get("all-token").await.unwrap();
    let data = text(&secret);
    let (token, expires, portal) = (&data["access_token"], &data["expires_at"], env.portal.url());
    assert!(env.portal.tokens().contains(token));
    assert_eq!(data["portal_url"], portal);
    assert_eq!(data["headers"], format!("X-Esri-Authorization: Bearer {token}\n"));
    assert_eq!(
        data["arcgis.env"],
        format!("ARCGIS_ACCESS_TOKEN={token}\nARCGIS_TOKEN_EXPIRES_AT={expires}\nARCGIS_PORTAL_URL={portal}\n")
    );
    let json: serde_json::Value = serde_json::from_str(&data["token.json"]).unwrap();
    assert_eq!(json, json!({"access_token": token, "expires_at": expires, "portal_url": portal}));
    let rest: serde_json::Value = serde_json::from_str(&data["rest-js.json"]).unwrap();
    assert_eq!(rest, json!({"type": "ApiKeyManager", "token": token, "portal": format!("{portal}/sharing/rest")}));
    assert_eq!(data["app.cfg"], format!("t={token} p={portal} $(x) $y"));
    assert_eq!(data.len(), 8);
    let labels = secret.metadata.labels.unwrap();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "arcgis-credential-operator");
    assert_eq!(labels["team"], "maps");
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(annotations["credentials.arcgis.dev/credential"], "all");
    assert_eq!(annotations["credentials.arcgis.dev/expires-at"], *expires);
    assert_eq!(annotations["example.com/note"], "hello");
    assert!(annotations["credentials.arcgis.dev/inputs"].starts_with("v1:"));
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), None));
    assert_eq!(secret.type_.unwrap(), "Opaque");
    let status = resource.status.unwrap();
    assert_eq!(status.token.unwrap().lifetime, "1h30m");
    let entry = &env.portal.journal()[0];
    let fields: Vec<_> = entry.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("f", "json"),
        ("client_id", "app"),
        ("client_secret", "***"),
        ("grant_type", "client_credentials"),
        ("expiration", "90"),
    ];
    assert_eq!(fields, expected);
    assert_eq!((entry.method.as_str(), entry.path.as_str()), ("POST", "/sharing/rest/oauth2/token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn renews_by_the_granted_lifetime_and_not_by_the_requested_one() {
    let env = TestEnv::new().await;
    env.portal.app("app", App { secret: SECRET.to_owned(), lifetime: Some(60), ..App::default() });
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("short", "oauth");
    manifest["spec"]["token"] = json!({"lifetime": "2h"});
    env.apply(&manifest).await;
    let first = env.wait("short", |r| is(r, "Ready", "True", "TokenValid")).await.status.unwrap().token.unwrap();
    assert_eq!(first.renewal_time.as_second() - first.issue_time.as_second(), 30, "the floor of 30 s");
    let before = env.target("short").await;
    let changed = |s: &k8s_openapi::api::core::v1::Secret| text(s)["access_token"] != before["access_token"];
    env.wait_target_for("short", Duration::from_secs(45), changed).await;
    assert_eq!(env.portal.requests("app"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_last_token_and_reports_stalled_when_the_client_secret_is_wrong() {
    let env = TestEnv::new().await;
    let before = env.ready("kept").await;
    env.credentials("kept-oauth", "kept", crate::support::WRONG_SECRET).await;
    let resource = env.wait("kept", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert_eq!(env.target("kept").await, before);
    env.credentials("kept-oauth", "kept", SECRET).await;
    let resource = env.wait("kept", |r| failure_reason(r).is_none()).await;
    assert!(condition(&resource, "Stalled").is_none());
    assert_ne!(env.target("kept").await["access_token"], before["access_token"]);
    assert_eq!(env.portal.requests("kept"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_last_token_when_the_portal_is_down() {
    let env = TestEnv::new().await;
    let before = env.ready("down").await;
    env.portal.outage(true);
    let requested = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": "now"}}});
    env.resources().patch("down", &PatchParams::default(), &Patch::Merge(&requested)).await.unwrap();
    let resource = env.wait("down", |r| failure_reason(r) == Some("PortalUnreachable")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert!(condition(&resource, "Stalled").is_none() && condition(&resource, "Reconciling").is_none());
    assert_eq!(resource.status.unwrap().last_handled_request.unwrap(), "now");
    assert_eq!(env.target("down").await, before);
    env.portal.outage(false);
    env.wait("down", |r| failure_reason(r).is_none()).await;
    assert_ne!(env.target("down").await["access_token"], before["access_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_a_deleted_target_and_garbage_collection_deletes_it_with_the_resource() {
    let env = TestEnv::new().await;
    let before = env.ready("gone").await;
    env.secrets().delete("gone-token", &DeleteParams::default()).await.unwrap();
    let restored = env.wait_target("gone", |s| text(s)["access_token"] != before["access_token"]).await;
    env.wait("gone", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.delete("gone").await;
    let uid = restored.metadata.uid.unwrap();
    let collected = await_condition(env.secrets(), "gone-token", conditions::is_deleted(&uid));
    tokio::time::timeout(Duration::from_mins(1), collected).await.unwrap().unwrap();
    assert_eq!(env.portal.requests("gone"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_formats_renders_the_stored_token_and_requests_nothing() {
    let env = TestEnv::new().await;
    let before = env.ready("shape").await;
    let mut manifest = env.manifest("shape", "shape-oauth");
    manifest["spec"]["target"]["formats"] = json!(["Headers"]);
    env.apply(&manifest).await;
    env.wait_target("shape", |s| text(s).contains_key("headers")).await;
    manifest["spec"]["target"]["formats"] = json!([]);
    env.apply(&manifest).await;
    let generation = env.resources().get("shape").await.unwrap().metadata.generation.unwrap();
    env.wait("shape", |r| condition(r, "Ready").is_some_and(|c| c.observed_generation == generation)).await;
    assert_eq!(env.target("shape").await, before);
    assert_eq!(env.portal.requests("shape"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_public_url_renders_the_stored_token_and_requests_nothing() {
    let env = TestEnv::new().await;
    let before = env.ready("public").await;
    assert_eq!(before["portal_url"], env.portal.url());
    env.change("public", json!({"spec": {"portal": {"publicURL": "https://Maps.example.com/portal/home/"}}})).await;
    env.wait_target("public", |s| text(s)["portal_url"] == "https://maps.example.com/portal").await;
    let resource = env.resources().get("public").await.unwrap();
    let generation = resource.metadata.generation.unwrap();
    let resource =
        env.wait("public", |r| condition(r, "Ready").is_some_and(|c| c.observed_generation == generation)).await;
    assert_eq!(resource.status.unwrap().portal.map(|portal| format!("https://{portal}")), Some(env.portal.url()));
    assert_eq!(env.target("public").await["access_token"], before["access_token"]);
    env.change("public", json!({"spec": {"portal": {"publicURL": null}}})).await;
    env.wait_target("public", |s| text(s) == before).await;
    assert_eq!(env.portal.requests("public"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_not_changed_and_nothing_is_requested() {
    let env = TestEnv::new().await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken-token"},
                         "stringData": {"mine": "yes"}});
    let apply = PatchParams::apply("owner");
    let before = env.secrets().patch("taken-token", &apply, &Patch::Apply(&foreign)).await.unwrap();
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("taken", "oauth")).await;
    env.wait("taken", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    let after = env.secrets().get("taken-token").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(env.portal.requests("app"), 0);
    let handed = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "arcgis-credential-operator"},
                                     "annotations": {"credentials.arcgis.dev/credential": "taken"}}});
    env.secrets().patch("taken-token", &PatchParams::default(), &Patch::Merge(&handed)).await.unwrap();
    env.wait("taken", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.target("taken").await["mine"], "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_resources_with_one_target_the_older_creates_it() {
    let env = TestEnv::new().await;
    env.apply(&env.manifest("older", "missing")).await;
    env.wait("older", |r| is(r, "Ready", "False", "CredentialsNotFound")).await;
    let mut younger = env.manifest("younger", "oauth");
    younger["spec"]["target"]["name"] = json!("older-token");
    env.credentials("oauth", "app", SECRET).await;
    // Creation timestamps have a resolution of one second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    env.apply(&younger).await;
    let rejected = env.wait("younger", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    assert!(condition(&rejected, "Stalled").unwrap().message.contains("older"));
    assert_eq!(env.portal.requests("app"), 0);
    env.delete("older").await;
    env.wait("younger", |r| is(r, "Ready", "True", "TokenValid")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_resource_requests_no_token() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("still", "oauth");
    manifest["spec"]["suspend"] = json!(true);
    env.apply(&manifest).await;
    env.wait("still", |r| is(r, "Ready", "False", "Suspended")).await;
    assert_eq!(env.portal.requests("app"), 0);
    manifest["spec"]["suspend"] = json!(false);
    env.apply(&manifest).await;
    env.wait("still", |r| is(r, "Ready", "True", "TokenValid")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_is_reported_in_its_own_condition() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("known", "oauth");
    manifest["spec"]["verification"] = json!({});
    env.apply(&manifest).await;
    let resource = env.wait("known", |r| is(r, "Verified", "True", "AppKnown")).await;
    assert_eq!(resource.status.unwrap().app.unwrap().app_id.unwrap(), "app");
    let identity = env.portal.journal().into_iter().find(|e| e.path.ends_with("portals/self")).unwrap();
    assert_eq!(identity.query.as_deref(), Some("f=json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_with_the_stored_token_and_additions_by_others_stay() {
    let env = TestEnv::new().await;
    let before = env.ready("drift").await;
    let drift = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, "theirs": "stays"}},
                       "data": {"expires_at": null}, "stringData": {"theirs": "stays"}});
    env.secrets().patch("drift-token", &PatchParams::default(), &Patch::Merge(&drift)).await.unwrap();
    let repaired = env.wait_target("drift", |s| text(s).contains_key("expires_at")).await;
    assert_eq!(text(&repaired)["access_token"], before["access_token"]);
    assert_eq!(text(&repaired)["theirs"], "stays");
    let labels = repaired.metadata.labels.unwrap();
    assert_eq!(labels["theirs"], "stays");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "arcgis-credential-operator");
    assert_eq!(env.portal.requests("drift"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_token_is_replaced_by_a_new_one() {
    let env = TestEnv::new().await;
    let before = env.ready("damaged").await;
    let damage = json!({"stringData": {"access_token": "tampered"}});
    env.secrets().patch("damaged-token", &PatchParams::default(), &Patch::Merge(&damage)).await.unwrap();
    let whole = |s: &k8s_openapi::api::core::v1::Secret| {
        let token = &text(s)["access_token"];
        *token != before["access_token"] && token != "tampered"
    };
    env.wait_target("damaged", whole).await;
    env.wait("damaged", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.portal.requests("damaged"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_target_has_no_owner_reference() {
    let env = TestEnv::new().await;
    env.ready("kept").await;
    let mut manifest = env.manifest("kept", "kept-oauth");
    manifest["spec"]["target"]["deletionPolicy"] = json!("Retain");
    env.apply(&manifest).await;
    let free = env.wait_target("kept", |s| s.metadata.owner_references.clone().unwrap_or_default().is_empty()).await;
    assert_eq!(env.portal.requests("kept"), 1);
    manifest["spec"]["target"]["deletionPolicy"] = json!("Delete");
    env.apply(&manifest).await;
    let owned = env.wait_target("kept", |s| s.metadata.owner_references.is_some()).await;
    assert_eq!(owned.metadata.uid, free.metadata.uid);
}
