//! When a token is requested, and when it is not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kubectl::kubectl;
use crate::support::{SECRET, TestEnv, failure_reason, is, text};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use testkit::portal::App;

/// Returns when the app's token requests were received.
fn requests(env: &TestEnv, app: &str) -> Vec<Timestamp> {
    let is_token_request =
        |entry: &testkit::portal::Entry| entry.client_id == app && entry.path.contains("oauth2/token");
    env.portal.journal().into_iter().filter(is_token_request).map(|entry| entry.at).collect()
}

/// Asserts that two requests are this far apart, and not much farther.
fn spaced(requests: &[Timestamp], seconds: i64, slack: i64) {
    for two in requests.windows(2) {
        let gap = two[1].duration_since(two[0]);
        // The times of sending and receiving differ slightly.
        assert!(gap >= SignedDuration::from_millis(seconds * 1000 - 50), "{gap:?} is less than {seconds} s");
        assert!(gap <= SignedDuration::from_secs(seconds + slack), "{gap:?} is much more than {seconds} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_seconds_is_renewed_no_earlier_than_after_30_s() {
    let env = TestEnv::new().await;
    env.portal.app("short", App { secret: SECRET.to_owned(), lifetime: Some(5), ..App::default() });
    env.credentials("oauth", "short", SECRET).await;
    env.apply(&env.manifest("short", "oauth")).await;
    let expired = env.wait("short", |r| is(r, "Ready", "False", "TokenExpired")).await;
    assert!(is(&expired, "Reconciling", "True", "Pending"));
    let token = expired.status.unwrap().token.unwrap();
    assert_eq!(token.renewal_time.as_second() - token.issue_time.as_second(), 30, "renewalTime respects the floor");
    env.portal.wait_for_requests("short", 3, Duration::from_secs(80)).await.unwrap();
    spaced(&requests(&env, "short"), 30, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_changes_request_tokens_at_least_5_s_apart() {
    let env = TestEnv::new().await;
    env.ready("eager").await;
    for mark in ["one", "two"] {
        env.request_token("eager", mark).await;
        env.wait("eager", |r| r.status.as_ref().unwrap().last_handled_request.as_deref() == Some(mark)).await;
    }
    assert_eq!(requests(&env, "eager").len(), 3);
    spaced(&requests(&env, "eager"), 5, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_token_is_replaced_at_least_5_s_after_the_last_request() {
    let env = TestEnv::new().await;
    env.ready("damaged").await;
    env.edit_secret("damaged-token", json!({"stringData": {"access_token": "tampered"}})).await;
    env.portal.wait_for_requests("damaged", 2, Duration::from_secs(10)).await.unwrap();
    spaced(&requests(&env, "damaged"), 5, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_at_is_compared_by_its_first_64_characters_and_its_removal_requests_nothing() {
    let env = TestEnv::new().await;
    env.ready("mark").await;
    let long = format!("{}x", "ü".repeat(64));
    env.request_token("mark", &long).await;
    let handled = |r: &arcgis_credential_operator::api::ArcGisAppCredential| {
        r.status.as_ref().unwrap().last_handled_request.clone()
    };
    env.wait("mark", |r| handled(r) == Some("ü".repeat(64))).await;
    env.request_token("mark", &format!("{}y", "ü".repeat(64))).await;
    env.change("mark", json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": null}}})).await;
    // This later change shows when the earlier ones have been processed.
    env.change("mark", json!({"spec": {"target": {"labels": {"seen": "yes"}}}})).await;
    env.wait_target("mark", |s| s.metadata.labels.as_ref().unwrap().contains_key("seen")).await;
    assert_eq!(env.portal.requests("mark"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_at_present_at_creation_is_handled_by_the_first_request() {
    let env = TestEnv::new().await;
    env.portal.app("born", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("born-oauth", "born", SECRET).await;
    let mut manifest = env.manifest("born", "born-oauth");
    manifest["metadata"]["annotations"] = json!({"credentials.arcgis.dev/requested-at": "birth"});
    env.apply(&manifest).await;
    let resource = env.wait("born", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(resource.status.unwrap().last_handled_request.as_deref(), Some("birth"));
    assert_eq!(env.portal.requests("born"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_resource_changes_nothing_and_handles_the_requested_renewal_on_resume() {
    let env = TestEnv::new().await;
    let before = env.ready("paused").await;
    env.change("paused", json!({"spec": {"suspend": true}})).await;
    env.wait("paused", |r| r.status.as_ref().unwrap().observed_generation == 2).await;
    env.request_token("paused", "later").await;
    env.credentials("paused-oauth", "paused", crate::support::WRONG_SECRET).await;
    let drifted = env.edit_secret("paused-token", json!({"data": {"expires_at": null}})).await;
    // A repair would be immediate, and a request would be sent after 5 s.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let after = env.secrets().get("paused-token").await.unwrap();
    assert_eq!(after.metadata.resource_version, drifted.metadata.resource_version);
    assert_eq!(env.portal.requests("paused"), 1);
    env.credentials("paused-oauth", "paused", SECRET).await;
    env.change("paused", json!({"spec": {"suspend": false}})).await;
    let handled = |r: &arcgis_credential_operator::api::ArcGisAppCredential| {
        r.status.as_ref().unwrap().last_handled_request.as_deref() == Some("later")
    };
    env.wait("paused", handled).await;
    let after = env.target("paused").await;
    assert_ne!(after["access_token"], before["access_token"]);
    assert!(after.contains_key("expires_at"));
    assert_eq!(env.portal.requests("paused"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_lifetime_portal_path_or_key_name_requests_a_token_and_a_changed_label_does_not() {
    let env = TestEnv::new().await;
    env.ready("spec").await;
    let url = env.portal.url();
    env.edit_secret("spec-oauth", json!({"stringData": {"other": "spec"}})).await;
    let changes = [
        (json!({"spec": {"target": {"labels": {"a": "b"}}}}), 1),
        (json!({"spec": {"token": {"lifetime": "90m"}}}), 2),
        (json!({"spec": {"portal": {"url": format!("{url}/portal")}}}), 3),
        (json!({"spec": {"portal": {"url": format!("{url}/portal/sharing/rest/")}}}), 3),
        (json!({"spec": {"credentialsRef": {"clientIDKey": "other"}}}), 4),
    ];
    for (change, expected) in changes {
        env.change("spec", change.clone()).await;
        let generation = env.resources().get("spec").await.unwrap().metadata.generation;
        let satisfied = |r: &arcgis_credential_operator::api::ArcGisAppCredential| {
            crate::support::condition(r, "Ready").map(|ready| ready.observed_generation) == generation
        };
        env.wait("spec", satisfied).await;
        assert_eq!(env.portal.requests("spec"), expected, "{change}");
    }
    assert_eq!(env.target("spec").await["portal_url"], format!("{url}/portal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_credentials_secret_requests_a_token_even_with_the_same_values() {
    let env = TestEnv::new().await;
    let before = env.ready("made").await;
    env.secrets().delete("made-oauth", &DeleteParams::default()).await.unwrap();
    let resource = env.wait("made", |r| failure_reason(r) == Some("CredentialsNotFound")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"), "the token stays");
    env.credentials("made-oauth", "made", SECRET).await;
    env.wait("made", |r| failure_reason(r).is_none()).await;
    env.wait_target("made", |s| text(s)["access_token"] != before["access_token"]).await;
    assert_eq!(env.portal.requests("made"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_changed_while_the_operator_was_down_request_a_token_and_unchanged_ones_do_not() {
    let mut env = TestEnv::new().await;
    env.ready("same").await;
    let before = env.ready("other").await;
    env.kill().await;
    env.edit_secret("other-oauth", json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    env.start().await;
    env.wait_target("other", |s| text(s)["access_token"] != before["access_token"]).await;
    assert_eq!((env.portal.requests("same"), env.portal.requests("other")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_at_once_three_times_and_then_after_30_s() {
    let env = TestEnv::new().await;
    env.ready("contested").await;
    let mut repaired = Vec::new();
    for _ in 0..4 {
        let drifted =
            env.edit_secret("contested-token", json!({"stringData": {"portal_url": "https://elsewhere"}})).await;
        let from = Timestamp::now();
        let version = drifted.metadata.resource_version;
        env.wait_target_for("contested", Duration::from_secs(40), |s| s.metadata.resource_version != version).await;
        repaired.push(Timestamp::now().duration_since(from).as_secs());
    }
    assert!(repaired[..3].iter().all(|seconds| *seconds < 5) && (25..35).contains(&repaired[3]), "{repaired:?}");
    assert_eq!(env.portal.requests("contested"), 1, "the stored token was written again");
}

/// Removes the operator's label and annotations, as a tool does that knows only its own.
async fn strip(env: &TestEnv, before: &Secret) {
    let annotations = before.metadata.annotations.as_ref().unwrap().keys();
    let own: BTreeMap<_, _> =
        annotations.filter(|key| key.starts_with("credentials.arcgis.dev/")).map(|key| (key, Value::Null)).collect();
    assert_eq!(own.len(), 5);
    let patch = json!({"metadata": {"annotations": own, "labels": {"app.kubernetes.io/managed-by": null}}});
    let name = before.metadata.name.as_deref().unwrap();
    kubectl(env, &["patch", "secret", name, "--type=merge", "-p", &patch.to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stripped_annotations_are_written_again_and_no_token_is_requested() {
    let mut env = TestEnv::new().await;
    let token = env.ready("stripped").await;
    let before = env.secrets().get("stripped-token").await.unwrap();
    let since = env.resources().get("stripped").await.unwrap().metadata.resource_version.unwrap();
    let whole = |s: &Secret| {
        (&s.metadata.annotations, &s.metadata.labels) == (&before.metadata.annotations, &before.metadata.labels)
    };
    // The fourth repair is delayed, but not after a restart.
    for _ in 0..2 {
        strip(&env, &before).await;
        env.wait_target("stripped", whole).await;
    }
    env.kill().await;
    strip(&env, &before).await;
    env.start().await;
    env.wait_target("stripped", whole).await;
    let reported = env.wait("stripped", |r| is(r, "Ready", "True", "TokenValid")).await.status.unwrap().token.unwrap();
    let annotations = before.metadata.annotations.as_ref().unwrap();
    assert_eq!(reported.digest.as_ref(), annotations.get("credentials.arcgis.dev/token-digest"));
    assert_eq!((env.target("stripped").await, env.portal.requests("stripped")), (token, 1));
    let params = WatchParams::default().fields("metadata.name=stripped").timeout(2);
    let seen: Vec<_> = env.resources().watch(&params, &since).await.unwrap().collect().await;
    for event in seen {
        match event.unwrap() {
            WatchEvent::Modified(resource) => assert!(is(&resource, "Ready", "True", "TokenValid")),
            WatchEvent::Bookmark(_) => {}
            event => panic!("{event:?}"),
        }
    }
}
