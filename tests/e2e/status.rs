//! Each row of the status table on real objects, and how Flux and `kubectl wait` interpret it.

use std::time::Duration;

use crate::support::fleet::poll_until;
use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testkit::portal::{Answer, App};

/// Returns type, status and reason of each condition, in order.
fn conditions(resource: &ArcGisAppCredential) -> Vec<[String; 3]> {
    let of = |c: &arcgis_credential_operator::api::Condition| [c.type_.clone(), c.status.clone(), c.reason.clone()];
    resource.status.as_ref().unwrap().conditions.iter().map(of).collect()
}

fn row(conditions: &[(&str, &str, &str)]) -> Vec<[String; 3]> {
    conditions.iter().map(|(kind, status, reason)| [kind, status, reason].map(|text| (*text).to_owned())).collect()
}

/// Waits until the conditions are these, and checks the kstatus.
async fn shows(env: &TestEnv, name: &str, expected: &[(&str, &str, &str)], kstatus: &str) -> ArcGisAppCredential {
    let expected = row(expected);
    let found = env.wait(name, |r| r.status.is_some() && conditions(r) == expected).await;
    assert_eq!(env.kstatus(name).await, kstatus, "{expected:?}");
    found
}

/// Short enough to expire during a test, long enough to be observed before.
const BRIEF: u64 = 8;

fn brief() -> App {
    App { secret: SECRET.to_owned(), lifetime: Some(BRIEF), ..App::default() }
}

async fn make(env: &TestEnv, name: &str, app: App, change: impl Fn(&mut Value)) {
    env.portal.app(name, app);
    env.credentials(&format!("{name}-oauth"), name, SECRET).await;
    let mut manifest = env.manifest(name, &format!("{name}-oauth"));
    change(&mut manifest);
    env.apply(&manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_with_the_longest_names_have_events() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    // The longest, and two whose first 200 characters are no name.
    let names = [
        "a".repeat(253),
        format!("{}.{}", "a".repeat(199), "b".repeat(53)),
        format!("{}--{}", "a".repeat(198), "c".repeat(50)),
    ];
    for (n, name) in names.iter().enumerate() {
        let mut manifest = env.manifest(name, "oauth");
        manifest["spec"]["target"]["name"] = json!(format!("long-{n}"));
        env.apply(&manifest).await;
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
        let events = Api::<Event>::namespaced(env.client.clone(), &env.namespace);
        poll_until("the event exists", Duration::from_secs(10), async || {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.iter().any(|event| event.regarding.as_ref().unwrap().name.as_ref() == Some(name)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_is_current_while_its_renewal_fails_transiently() {
    let env = TestEnv::with_kstatus().await;
    env.ready("fine").await;
    let valid = [("Ready", "True", "TokenValid")];
    shows(&env, "fine", &valid, "Current").await;
    env.portal.outage(true);
    env.request_token("fine", "now").await;
    env.wait("fine", |r| failure_reason(r) == Some("PortalUnreachable")).await;
    shows(&env, "fine", &valid, "Current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_whose_renewal_requires_action_is_ready_and_failed() {
    let env = TestEnv::with_kstatus().await;
    env.ready("stuck").await;
    env.credentials("stuck-oauth", "stuck", crate::support::WRONG_SECRET).await;
    let rows = [("Ready", "True", "TokenValid"), ("Stalled", "True", "ClientSecretRejected")];
    shows(&env, "stuck", &rows, "Failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_is_in_progress_until_its_token_is_published() {
    let env = TestEnv::with_kstatus().await;
    let url = env.portal.url();
    env.ready("moved").await;
    env.portal.outage(true);
    env.change("moved", json!({"spec": {"portal": {"url": format!("{url}/portal")}}})).await;
    let rows = [("Ready", "True", "TokenValid"), ("Reconciling", "True", "PortalUnreachable")];
    let moving = shows(&env, "moved", &rows, "InProgress").await;
    assert_eq!(condition(&moving, "Ready").unwrap().observed_generation, 1, "the generation that the Secret satisfies");
    assert_eq!(moving.status.unwrap().observed_generation, 2);
    env.portal.outage(false);
    let moved = shows(&env, "moved", &[("Ready", "True", "TokenValid")], "Current").await;
    assert_eq!(condition(&moved, "Ready").unwrap().observed_generation, 2);
    env.change("moved", json!({"spec": {"portal": {"url": "https://elsewhere.example.com"}}})).await;
    let rows = [("Ready", "True", "TokenValid"), ("Stalled", "True", "PortalNotAllowed")];
    let rejected = shows(&env, "moved", &rows, "Failed").await;
    assert_eq!(condition(&rejected, "Ready").unwrap().observed_generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_a_transient_failure_is_in_progress_and_required_action_is_failed() {
    let env = TestEnv::with_kstatus().await;
    make(&env, "waits", App { close: true, ..brief() }, |_| {}).await;
    let rows = [("Ready", "False", "PortalUnreachable"), ("Reconciling", "True", "PortalUnreachable")];
    shows(&env, "waits", &rows, "InProgress").await;
    make(&env, "wrong", App { secret: crate::support::WRONG_SECRET.to_owned(), ..brief() }, |_| {}).await;
    let rows = [("Ready", "False", "ClientSecretRejected"), ("Stalled", "True", "ClientSecretRejected")];
    let wrong = shows(&env, "wrong", &rows, "Failed").await;
    assert_eq!(
        condition(&wrong, "Ready").unwrap().observed_generation,
        1,
        "without a Secret, the reconciled generation"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_reported_within_5_s_with_the_reason_of_its_failure() {
    let env = TestEnv::with_kstatus().await;
    make(&env, "pending", brief(), |_| {}).await;
    make(&env, "user", brief(), |_| {}).await;
    make(&env, "transient", brief(), |_| {}).await;
    for name in ["pending", "user", "transient"] {
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    env.credentials("user-oauth", "user", crate::support::WRONG_SECRET).await;
    env.portal.app("transient", App { close: true, ..brief() });
    env.request_token("transient", "now").await;
    let expired = ("Ready", "False", "TokenExpired");
    let pending = env.wait("pending", |r| is(r, "Ready", "False", "TokenExpired")).await;
    let token = pending.status.unwrap().token.unwrap();
    assert!(Timestamp::now().duration_since(token.expiration_time).as_secs() <= 5);
    shows(&env, "pending", &[expired, ("Reconciling", "True", "Pending")], "InProgress").await;
    shows(&env, "user", &[expired, ("Stalled", "True", "ClientSecretRejected")], "Failed").await;
    shows(&env, "transient", &[expired, ("Reconciling", "True", "PortalUnreachable")], "InProgress").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_resource_reports_the_validity_of_its_token() {
    let env = TestEnv::with_kstatus().await;
    make(&env, "bare", brief(), |manifest| manifest["spec"]["suspend"] = json!(true)).await;
    shows(&env, "bare", &[("Ready", "False", "Suspended")], "InProgress").await;
    make(&env, "held", brief(), |_| {}).await;
    env.wait("held", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.change("held", json!({"spec": {"suspend": true}})).await;
    env.wait("held", |r| r.status.as_ref().unwrap().observed_generation == 2).await;
    shows(&env, "held", &[("Ready", "True", "Suspended")], "Current").await;
    shows(&env, "held", &[("Ready", "False", "Suspended")], "InProgress").await;
    assert_eq!(env.portal.requests("held"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_after_a_change_returns_when_the_secret_satisfies_it() {
    let env = TestEnv::with_kstatus().await;
    env.ready("change").await;
    let mut wait = tokio::process::Command::new(env.plane.tool("kubectl"));
    wait.env("KUBECONFIG", env.plane.kubeconfig()).args(["-n", &env.namespace, "wait", "agc/change"]);
    wait.args(["--for=condition=Ready", "--timeout=20s"]);
    env.change("change", json!({"spec": {"target": {"formats": ["Headers"]}}})).await;
    assert!(wait.status().await.unwrap().success());
    assert!(env.target("change").await.contains_key("headers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_portal_attributes_to_another_app_is_still_published() {
    let env = TestEnv::with_kstatus().await;
    let verify = |manifest: &mut Value| manifest["spec"]["verification"] = json!({});
    let app = || App { secret: SECRET.to_owned(), ..App::default() };
    make(&env, "known", app(), verify).await;
    make(&env, "other", App { identity: Some("somebody".to_owned()), ..app() }, verify).await;
    make(&env, "silent", App { close_on_verify: true, ..app() }, verify).await;
    let valid = ("Ready", "True", "TokenValid");
    shows(&env, "known", &[valid, ("Verified", "True", "AppKnown")], "Current").await;
    let other = shows(&env, "other", &[valid, ("Verified", "False", "AppUnknown")], "Current").await;
    assert!(other.status.unwrap().app.is_none());
    shows(&env, "silent", &[valid, ("Verified", "Unknown", "NotAnswered")], "Current").await;
    // The result is written in a separate status write, and the portal is verifications again only with the next token.
    let verifications = || env.portal.journal().iter().filter(|entry| entry.path.ends_with("portals/self")).count();
    assert_eq!(verifications(), 3);
    env.portal.app("silent", app());
    env.request_token("silent", "now").await;
    shows(&env, "silent", &[valid, ("Verified", "True", "AppKnown")], "Current").await;
    assert_eq!(verifications(), 4);
    let calls = env.calls();
    let writes = calls.iter().filter(|(_, _, subresource, _)| subresource == "status").count();
    assert_eq!(writes, 3 + 3 + 2, "one for each token, one for each result");
    env.change("known", json!({"spec": {"verification": null}})).await;
    let plain = shows(&env, "known", &[valid], "Current").await;
    assert!(plain.status.unwrap().app.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_emitted_only_when_a_condition_changes_with_the_reason_of_metric_and_log() {
    let env = TestEnv::with_kstatus().await;
    env.ready("app").await;
    let rejection = Answer { status: 200, body: r#"{"error":{"code":403}}"#.to_owned(), ..Answer::default() };
    env.portal.app("app", App { secret: SECRET.to_owned(), answer: Some(rejection), ..App::default() });
    for mark in ["one", "two"] {
        env.request_token("app", mark).await;
        env.wait("app", |r| r.status.as_ref().unwrap().last_handled_request.as_deref() == Some(mark)).await;
    }
    env.wait("app", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.request_token("app", "three").await;
    env.wait("app", |r| failure_reason(r).is_none()).await;
    let events = kube::Api::<k8s_openapi::api::events::v1::Event>::namespaced(env.client.clone(), &env.namespace);
    let reasons = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let mut list = events.list(&kube::api::ListParams::default()).await.unwrap().items;
            list.sort_by_key(|event| event.event_time.clone());
            let reasons: Vec<String> = list.into_iter().filter_map(|event| event.reason).collect();
            if reasons.len() >= 3 {
                return reasons;
            }
            // The last event is written right after the status.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(reasons, ["TokenValid", "RequestRejected", "TokenValid"]);
    env.metrics_with(&[r#"outcome="RequestRejected",portal="#]).await;
    let log = std::fs::read_to_string(env.plane.dir().join(format!("logs/{}.log", env.namespace))).unwrap();
    assert!(log.contains(r#""reason":"RequestRejected""#));
}
