//! The target Secret: its ownership, its writes and its deletion.

use std::time::Duration;

use crate::support::{SECRET, TestEnv, condition, failure_reason, is, text};
use arcgis_credential_operator::api::ArcGisAppCredential;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use testkit::api_proxy::InjectedFault;
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

const FAULT_TIMEOUT: Duration = Duration::from_secs(20);

async fn create(env: &TestEnv, secret: Value) -> Secret {
    env.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap()
}

/// Returns the label and the annotation by which an owner hands a Secret over.
fn handed_over(name: &str) -> Value {
    json!({"labels": {"app.kubernetes.io/managed-by": "arcgis-credential-operator"},
           "annotations": {"credentials.arcgis.dev/credential": name}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_secret_or_one_of_another_type_is_rejected_even_when_handed_over() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    for (name, extra) in [("fixed", json!({"immutable": true})), ("typed", json!({"type": "example.com/other"}))] {
        let mut secret = json!({"metadata": handed_over(name)});
        secret["metadata"]["name"] = json!(format!("{name}-token"));
        secret.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let before = create(&env, secret).await;
        env.apply(&env.manifest(name, "oauth")).await;
        env.wait(name, |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
        let after = env.secrets().get(&format!("{name}-token")).await.unwrap();
        assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "{name}");
    }
    assert_eq!(env.portal.requests("app"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_secret_stays_with_its_owner_even_if_another_resource_is_older() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    let mut other = env.manifest("older", "oauth");
    other["spec"]["suspend"] = json!(true);
    env.apply(&other).await;
    env.wait("older", |r| is(r, "Ready", "False", "Suspended")).await;
    let mut secret = json!({"metadata": handed_over("younger")});
    secret["metadata"]["name"] = json!("older-token");
    create(&env, secret).await;
    let mut younger = env.manifest("younger", "oauth");
    younger["spec"]["target"]["name"] = json!("older-token");
    env.apply(&younger).await;
    env.wait("younger", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.change("older", json!({"spec": {"suspend": false}})).await;
    let rejected = env.wait("older", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    assert!(
        condition(&rejected, "Stalled").unwrap().message.contains("younger"),
        "the message names the other resource"
    );
    assert_eq!(env.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_appears_before_the_write_is_not_changed() {
    let env = TestEnv::with_api_proxy().await;
    env.portal.app("late", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("late-oauth", "late", SECRET).await;
    env.api_proxy().inject(1, InjectedFault::Held, |call| call.is("POST", "/secrets") && !call.dry());
    env.apply(&env.manifest("late", "late-oauth")).await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    let before = create(&env, json!({"metadata": {"name": "late-token"}, "stringData": {"mine": "yes"}})).await;
    env.api_proxy().clear_faults();
    env.wait("late", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    let after = env.secrets().get("late-token").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    // The issued token is not requested again.
    env.secrets().delete("late-token", &DeleteParams::default()).await.unwrap();
    env.wait("late", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.portal.requests("late"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_before_the_write_is_read_and_kept() {
    let env = TestEnv::with_api_proxy().await;
    let before = env.ready("raced").await;
    env.api_proxy().inject(1, InjectedFault::Held, |call| call.is("PATCH", "/raced-token"));
    env.request_token("raced", "now").await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    env.edit_secret("raced-token", json!({"metadata": {"labels": {"theirs": "stays"}}})).await;
    env.api_proxy().clear_faults();
    let secret = env.wait_target("raced", |s| text(s)["access_token"] != before["access_token"]).await;
    assert_eq!(secret.metadata.labels.unwrap()["theirs"], "stays");
    assert_eq!(env.portal.requests("raced"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_replaced_before_the_write_is_not_changed() {
    let env = TestEnv::with_api_proxy().await;
    env.ready("swapped").await;
    env.api_proxy().inject(1, InjectedFault::Held, |call| call.is("PATCH", "/swapped-token"));
    env.request_token("swapped", "now").await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    env.secrets().delete("swapped-token", &DeleteParams::default()).await.unwrap();
    let before = create(&env, json!({"metadata": {"name": "swapped-token"}, "stringData": {"mine": "yes"}})).await;
    env.api_proxy().clear_faults();
    env.wait("swapped", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    let after = env.secrets().get("swapped-token").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_a_target_holds_one_token_in_all_keys() {
    let env = TestEnv::new().await;
    let params = WatchParams::default().fields("metadata.name=whole-token").disable_bookmarks().timeout(60);
    let mut seen = env.secrets().watch(&params, "0").await.unwrap().boxed();
    let mut manifest = env.manifest("whole", "whole-oauth");
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    env.portal.app("whole", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("whole-oauth", "whole", SECRET).await;
    env.apply(&manifest).await;
    env.wait("whole", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.request_token("whole", "now").await;
    env.wait("whole", |r| r.status.as_ref().is_some_and(|s| s.last_handled_request.is_some())).await;
    let mut tokens = Vec::new();
    while tokens.len() < 2 {
        let event = tokio::time::timeout(FAULT_TIMEOUT, seen.next()).await.unwrap().unwrap().unwrap();
        let (WatchEvent::Added(secret) | WatchEvent::Modified(secret)) = event else { panic!("{event:?}") };
        let (data, annotations) = (text(&secret), secret.metadata.annotations.unwrap());
        let token = data["access_token"].clone();
        let all = [&data["headers"], &data["arcgis.env"], &data["token.json"], &data["rest-js.json"]];
        assert!(all.iter().all(|text| text.contains(&token)), "each key holds the same token");
        assert_eq!(annotations["credentials.arcgis.dev/expires-at"], data["expires_at"]);
        assert!(data["token.json"].contains(&data["expires_at"]));
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_create_permission_is_reported_before_a_token_is_requested() {
    let env = TestEnv::with_api_proxy().await;
    env.api_proxy().inject(1, InjectedFault::Status(403), |call| call.is("POST", "/secrets") && call.dry());
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("barred", "oauth")).await;
    let resource = env.wait("barred", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert_eq!(failure_reason(&resource), Some("TargetRefused"));
    let failure = resource.status.unwrap().failure.unwrap();
    let wait = failure.next_attempt_time.unwrap().as_second() - failure.last_attempt_time.unwrap().as_second();
    assert!((60..=76).contains(&wait), "a minute with jitter: {wait}");
    assert_eq!(env.portal.requests("app"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_requested_in_a_namespace_that_is_being_deleted() {
    let env = TestEnv::new().await;
    // This object blocks the deletion of the namespace.
    let held = json!({"metadata": {"name": "holds", "finalizers": ["example.com/hold"]}});
    create(&env, held).await;
    let before = env.ready("old").await;
    let mut waiting = env.manifest("new", "late");
    waiting["metadata"]["finalizers"] = json!(["example.com/hold"]);
    env.apply(&waiting).await;
    env.wait("new", |r| is(r, "Ready", "False", "CredentialsNotFound")).await;
    Api::<Namespace>::all(env.client.clone()).delete(&env.namespace, &DeleteParams::default()).await.unwrap();
    // The namespace deletes both resources; the operator does not change a resource that is being deleted.
    let gone = |r: Option<&ArcGisAppCredential>| r.is_none();
    let deleted = kube::runtime::wait::await_condition(env.resources(), "old", gone);
    tokio::time::timeout(Duration::from_secs(30), deleted).await.unwrap().unwrap();
    assert!(env.portal.tokens().contains(&before["access_token"]));
    assert_eq!(env.portal.requests("old"), 1);
    env.change("new", json!({"metadata": {"finalizers": null}})).await;
    env.edit_secret("holds", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_being_deleted_in_the_foreground_gets_no_new_secret() {
    let env = TestEnv::new().await;
    env.ready("going").await;
    env.change("going", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    env.resources().delete("going", &DeleteParams::foreground()).await.unwrap();
    // The garbage collector may delete it first.
    let _ = env.secrets().delete("going-token", &DeleteParams::default()).await;
    // Longer than the floor after which a deleted target would be restored.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(env.secrets().get_opt("going-token").await.unwrap().is_none());
    assert_eq!(env.portal.requests("going"), 1);
    env.change("going", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_owner_reference_update_does_not_block_renewals() {
    let from_env = ControlPlane::from_env().unwrap();
    let plane = ControlPlane::start(&from_env.bin(), None, true).await.unwrap();
    let env = TestEnv::on(plane, &[]).await;
    let before = env.ready("guarded").await;
    env.change("guarded", json!({"spec": {"target": {"deletionPolicy": "Retain"}}})).await;
    let resource = env.wait("guarded", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert_eq!(resource.status.as_ref().unwrap().failure.as_ref().unwrap().cause.as_deref(), Some("OwnerReference"));
    let message = condition(&resource, "Stalled").unwrap().message;
    assert!(message.contains("owner reference") && message.contains("delete Secrets"), "{message}");
    env.request_token("guarded", "now").await;
    let renewed = env.wait_target("guarded", |s| text(s)["access_token"] != before["access_token"]).await;
    assert!(renewed.metadata.owner_references.is_some(), "the update is still rejected");
    assert_eq!(env.portal.requests("guarded"), 2);
    terminating(&env).await;
    env.end().await;
}

/// A namespace that is being deleted, while the controller that empties it does not run.
async fn terminating(env: &TestEnv) {
    let controllers = env.plane.controllers();
    env.plane.signal(controllers, "STOP").await.unwrap();
    Api::<Namespace>::all(env.client.clone()).delete(&env.namespace, &DeleteParams::default()).await.unwrap();
    env.secrets().delete("guarded-token", &DeleteParams::default()).await.unwrap();
    let refused = |r: &ArcGisAppCredential| {
        let failure = r.status.as_ref().and_then(|status| status.failure.as_ref());
        failure.is_some_and(|failure| failure.cause.as_deref() == Some("NamespaceTerminating"))
    };
    let found = env.wait("guarded", refused).await;
    assert!(is(&found, "Stalled", "True", "TargetRefused"));
    let message = condition(&found, "Stalled").unwrap().message;
    assert!(
        message.starts_with("The namespace is being deleted, so Secret guarded-token cannot be created."),
        "{message}"
    );
    assert_eq!(env.portal.requests("guarded"), 2, "no token is requested");
    env.plane.signal(controllers, "CONT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_owner_references_are_guarded_only_a_changed_one_is_refused() {
    let from_env = ControlPlane::from_env().unwrap();
    let env = TestEnv::on(ControlPlane::start(&from_env.bin(), None, true).await.unwrap(), &[]).await;
    let stalled = |r: &ArcGisAppCredential| is(r, "Stalled", "True", "TargetRefused");
    let resolved = |r: &ArcGisAppCredential| condition(r, "Stalled").is_none() && is(r, "Ready", "True", "TokenValid");
    let owners = |secret: &Secret| secret.metadata.owner_references.as_ref().map_or(0, Vec::len);
    let policy = |policy: &str| json!({"spec": {"target": {"deletionPolicy": policy}}});

    // A Secret that the operator creates has its owner, and is garbage-collected.
    let first = env.ready("created").await;
    env.request_token("created", "now").await;
    let renewed = env.wait_target("created", |s| text(s)["access_token"] != first["access_token"]).await;
    assert_eq!(owners(&renewed), 1);
    env.wait("created", resolved).await;
    // So is a change of the policy refused until it is changed back.
    env.change("created", policy("Retain")).await;
    env.wait("created", stalled).await;
    env.change("created", policy("Delete")).await;
    env.wait("created", resolved).await;
    env.delete("created").await;
    let gone = |secret: Option<&Secret>| secret.is_none();
    let deleted = kube::runtime::wait::await_condition(env.secrets(), "created-token", gone);
    tokio::time::timeout(Duration::from_mins(1), deleted).await.unwrap().unwrap();

    // A Secret that is handed over gets no owner; with Retain it needs none.
    let mut secret = json!({"metadata": handed_over("given")});
    secret["metadata"]["name"] = json!("given-token");
    create(&env, secret).await;
    env.portal.app("given", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("given-oauth", "given", SECRET).await;
    env.apply(&env.manifest("given", "given-oauth")).await;
    let refused = env.wait("given", stalled).await;
    assert!(is(&refused, "Ready", "True", "TokenValid"));
    assert_eq!(owners(&env.secrets().get("given-token").await.unwrap()), 0);
    env.change("given", policy("Retain")).await;
    env.wait("given", resolved).await;
    assert_eq!(env.portal.requests("given"), 1);
    env.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_resource_takes_over_the_retained_secret() {
    let env = TestEnv::new().await;
    env.portal.app("again", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("again-oauth", "again", SECRET).await;
    let mut manifest = env.manifest("again", "again-oauth");
    manifest["spec"]["target"]["deletionPolicy"] = json!("Retain");
    env.apply(&manifest).await;
    env.wait("again", |r| is(r, "Ready", "True", "TokenValid")).await;
    let before = env.target("again").await;
    env.delete("again").await;
    let gone = |r: Option<&ArcGisAppCredential>| r.is_none();
    kube::runtime::wait::await_condition(env.resources(), "again", gone).await.unwrap();
    env.apply(&manifest).await;
    env.wait("again", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.target("again").await, before);
    assert_eq!(env.portal.requests("again"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_labels_and_annotations_that_are_no_longer_specified_are_removed() {
    let env = TestEnv::new().await;
    env.portal.app("trim", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("trim-oauth", "trim", SECRET).await;
    let mut manifest = env.manifest("trim", "trim-oauth");
    let target = &mut manifest["spec"]["target"];
    target["formats"] = json!(["Json"]);
    target["data"] = json!({"x.cfg": "$(access_token)"});
    target["labels"] = json!({"team": "maps"});
    target["annotations"] = json!({"example.com/note": "x"});
    env.apply(&manifest).await;
    env.wait("trim", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.edit_secret("trim-token", json!({"stringData": {"theirs": "x"}})).await;
    let apply = PatchParams::apply("user").force();
    let bare = env.manifest("trim", "trim-oauth");
    env.resources().patch("trim", &apply, &Patch::Apply(&bare)).await.unwrap();
    let secret = env.wait_target("trim", |s| !text(s).contains_key("x.cfg")).await;
    let keys: Vec<String> = text(&secret).into_keys().collect();
    assert_eq!(keys, ["access_token", "expires_at", "portal_url", "theirs"]);
    assert!(!secret.metadata.labels.unwrap().contains_key("team"));
    assert!(!secret.metadata.annotations.unwrap().contains_key("example.com/note"));
    assert_eq!(env.portal.requests("trim"), 1);
}
