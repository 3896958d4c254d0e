//! Each row of the status table on real objects, and what Flux and `kubectl wait` make of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::time::Duration;

use arcgis_credential_operator::api::ArcGisAppCredential;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{SECRET, World, condition, is, problem};
use testkit::portal::{Answer, App};

/// Type, status and reason of each condition, in order.
fn conditions(resource: &ArcGisAppCredential) -> Vec<[String; 3]> {
    let of = |c: &arcgis_credential_operator::api::Condition| [c.type_.clone(), c.status.clone(), c.reason.clone()];
    resource.status.as_ref().unwrap().conditions.iter().map(of).collect()
}

fn row(conditions: &[(&str, &str, &str)]) -> Vec<[String; 3]> {
    conditions.iter().map(|(kind, status, reason)| [kind, status, reason].map(|text| (*text).to_owned())).collect()
}

/// Waits until the conditions are these, and asks what follows kstatus.
async fn shows(world: &World, name: &str, expected: &[(&str, &str, &str)], kstatus: &str) -> ArcGisAppCredential {
    let expected = row(expected);
    let found = world.wait(name, |r| r.status.is_some() && conditions(r) == expected).await;
    assert_eq!(world.kstatus(name).await, kstatus, "{expected:?}");
    found
}

/// Short enough to end during a test, long enough to be looked at before.
const BRIEF: u64 = 8;

fn brief() -> App {
    App { secret: SECRET.to_owned(), lifetime: Some(BRIEF), ..App::default() }
}

async fn make(world: &World, name: &str, app: App, change: impl Fn(&mut Value)) {
    world.portal.app(name, app);
    world.credentials(&format!("{name}-oauth"), name, SECRET).await;
    let mut manifest = world.manifest(name, &format!("{name}-oauth"));
    change(&mut manifest);
    world.apply(&manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_is_current_also_while_its_renewal_fails_through_nobody_s_fault() {
    let world = World::with_kstatus().await;
    world.ready("fine").await;
    let valid = [("Ready", "True", "TokenValid")];
    shows(&world, "fine", &valid, "Current").await;
    world.portal.outage(true);
    world.ask_anew("fine", "now").await;
    world.wait("fine", |r| problem(r) == Some("PortalUnreachable")).await;
    shows(&world, "fine", &valid, "Current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_whose_renewal_waits_for_the_user_is_ready_and_failed() {
    let world = World::with_kstatus().await;
    world.ready("stuck").await;
    world.credentials("stuck-oauth", "stuck", support::WRONG_SECRET).await;
    let rows = [("Ready", "True", "TokenValid"), ("Stalled", "True", "ClientSecretRejected")];
    shows(&world, "stuck", &rows, "Failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_is_in_progress_until_the_token_is_the_one_asked_for() {
    let world = World::with_kstatus().await;
    let url = world.portal.url();
    world.ready("moved").await;
    world.portal.outage(true);
    world.change("moved", json!({"spec": {"portal": {"url": format!("{url}/portal")}}})).await;
    let rows = [("Ready", "True", "TokenValid"), ("Reconciling", "True", "PortalUnreachable")];
    let moving = shows(&world, "moved", &rows, "InProgress").await;
    assert_eq!(condition(&moving, "Ready").unwrap().observed_generation, 1, "the one that the Secret satisfies");
    assert_eq!(moving.status.unwrap().observed_generation, 2);
    world.portal.outage(false);
    let moved = shows(&world, "moved", &[("Ready", "True", "TokenValid")], "Current").await;
    assert_eq!(condition(&moved, "Ready").unwrap().observed_generation, 2);
    world.change("moved", json!({"spec": {"portal": {"url": "https://elsewhere.example.com"}}})).await;
    let rows = [("Ready", "True", "TokenValid"), ("Stalled", "True", "PortalNotAllowed")];
    let refused = shows(&world, "moved", &rows, "Failed").await;
    assert_eq!(condition(&refused, "Ready").unwrap().observed_generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_in_progress_when_it_may_come_and_failed_when_it_is_the_user_s_move() {
    let world = World::with_kstatus().await;
    make(&world, "waits", App { close: true, ..brief() }, |_| {}).await;
    let rows = [("Ready", "False", "PortalUnreachable"), ("Reconciling", "True", "PortalUnreachable")];
    shows(&world, "waits", &rows, "InProgress").await;
    make(&world, "wrong", App { secret: support::WRONG_SECRET.to_owned(), ..brief() }, |_| {}).await;
    let rows = [("Ready", "False", "ClientSecretRejected"), ("Stalled", "True", "ClientSecretRejected")];
    let wrong = shows(&world, "wrong", &rows, "Failed").await;
    assert_eq!(condition(&wrong, "Ready").unwrap().observed_generation, 1, "without a Secret the one looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_past_its_end_is_told_within_5_s_and_says_whose_move_it_is() {
    let world = World::with_kstatus().await;
    make(&world, "pending", brief(), |_| {}).await;
    make(&world, "user", brief(), |_| {}).await;
    make(&world, "nobody", brief(), |_| {}).await;
    for name in ["pending", "user", "nobody"] {
        world.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    world.credentials("user-oauth", "user", support::WRONG_SECRET).await;
    world.portal.app("nobody", App { close: true, ..brief() });
    world.ask_anew("nobody", "now").await;
    let expired = ("Ready", "False", "TokenExpired");
    let pending = world.wait("pending", |r| is(r, "Ready", "False", "TokenExpired")).await;
    let token = pending.status.unwrap().token.unwrap();
    assert!(Timestamp::now().duration_since(token.expires_at).as_secs() <= 5);
    shows(&world, "pending", &[expired, ("Reconciling", "True", "Pending")], "InProgress").await;
    shows(&world, "user", &[expired, ("Stalled", "True", "ClientSecretRejected")], "Failed").await;
    shows(&world, "nobody", &[expired, ("Reconciling", "True", "PortalUnreachable")], "InProgress").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_resource_is_reported_by_the_validity_of_what_it_has() {
    let world = World::with_kstatus().await;
    make(&world, "bare", brief(), |manifest| manifest["spec"]["suspend"] = json!(true)).await;
    shows(&world, "bare", &[("Ready", "False", "Suspended")], "InProgress").await;
    make(&world, "held", brief(), |_| {}).await;
    world.wait("held", |r| is(r, "Ready", "True", "TokenValid")).await;
    world.change("held", json!({"spec": {"suspend": true}})).await;
    world.wait("held", |r| r.status.as_ref().unwrap().observed_generation == 2).await;
    shows(&world, "held", &[("Ready", "True", "TokenValid")], "Current").await;
    shows(&world, "held", &[("Ready", "False", "TokenExpired")], "InProgress").await;
    assert_eq!(world.portal.requests("held"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_after_a_change_waits_for_the_secret_that_satisfies_it() {
    let world = World::with_kstatus().await;
    world.ready("change").await;
    let mut wait = tokio::process::Command::new(world.plane.tool("kubectl"));
    wait.env("KUBECONFIG", world.plane.kubeconfig()).args(["-n", &world.namespace, "wait", "agc/change"]);
    wait.args(["--for=condition=Ready", "--timeout=20s"]);
    world.change("change", json!({"spec": {"target": {"formats": ["Headers"]}}})).await;
    assert!(wait.status().await.unwrap().success());
    assert!(world.target("change").await.contains_key("headers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_portal_takes_for_another_app_s_is_published_all_the_same() {
    let world = World::with_kstatus().await;
    let verify = |manifest: &mut Value| manifest["spec"]["token"] = json!({"verify": true});
    let app = || App { secret: SECRET.to_owned(), ..App::default() };
    make(&world, "known", app(), verify).await;
    make(&world, "other", App { identity: Some("somebody".to_owned()), ..app() }, verify).await;
    make(&world, "mute", App { mute: true, ..app() }, verify).await;
    let valid = ("Ready", "True", "TokenValid");
    shows(&world, "known", &[valid, ("Verified", "True", "AppKnown")], "Current").await;
    let other = shows(&world, "other", &[valid, ("Verified", "False", "AppUnknown")], "Current").await;
    assert!(other.status.unwrap().app.is_none());
    shows(&world, "mute", &[valid, ("Verified", "Unknown", "NotAnswered")], "Current").await;
    // Its answer is a status write of its own, and it is asked again with the next token only.
    let asked = || world.portal.journal().iter().filter(|entry| entry.path.ends_with("portals/self")).count();
    assert_eq!(asked(), 3);
    world.portal.app("mute", app());
    world.ask_anew("mute", "now").await;
    shows(&world, "mute", &[valid, ("Verified", "True", "AppKnown")], "Current").await;
    assert_eq!(asked(), 4);
    let calls = world.calls();
    let writes = calls.iter().filter(|(_, _, subresource, _)| subresource == "status").count();
    assert_eq!(writes, 3 + 3 + 2, "one for each token, one for each answer");
    world.change("known", json!({"spec": {"token": {"verify": false}}})).await;
    let plain = shows(&world, "known", &[valid], "Current").await;
    assert!(plain.status.unwrap().app.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_told_only_when_a_condition_changes_with_the_same_word_as_metric_and_log() {
    let world = World::with_kstatus().await;
    world.ready("told").await;
    let refusal = Answer { status: 200, body: r#"{"error":{"code":403}}"#.to_owned(), ..Answer::default() };
    world.portal.app("told", App { secret: SECRET.to_owned(), answer: Some(refusal), ..App::default() });
    for mark in ["one", "two"] {
        world.ask_anew("told", mark).await;
        world.wait("told", |r| r.status.as_ref().unwrap().last_handled_request.as_deref() == Some(mark)).await;
    }
    world.wait("told", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    world.portal.app("told", App { secret: SECRET.to_owned(), ..App::default() });
    world.ask_anew("told", "three").await;
    world.wait("told", |r| problem(r).is_none()).await;
    let events = kube::Api::<k8s_openapi::api::events::v1::Event>::namespaced(world.client.clone(), &world.namespace);
    let reasons = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let mut list = events.list(&kube::api::ListParams::default()).await.unwrap().items;
            list.sort_by_key(|event| event.event_time.clone());
            let reasons: Vec<String> = list.into_iter().filter_map(|event| event.reason).collect();
            if reasons.len() >= 3 {
                return reasons;
            }
            // The last one comes right after the status that was waited for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(reasons, ["TokenValid", "RequestRejected", "TokenValid"]);
    let metrics = world.ask("/metrics").await.unwrap();
    assert!(metrics.contains(r#"outcome="RequestRejected",portal="#), "{metrics}");
    let log = std::fs::read_to_string(world.plane.dir().join(format!("logs/{}.log", world.namespace))).unwrap();
    assert!(log.contains(r#""reason":"RequestRejected""#));
}
