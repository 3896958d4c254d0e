//! After a failure: whose move it is, when it is tried again, and what a restart remembers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::time::Duration;

use arcgis_credential_operator::api::{ArcGisAppCredential, Failure};
use jiff::Timestamp;
use serde_json::json;
use support::{SECRET, World, condition, is, problem};
use testkit::portal::{Answer, App};

fn failure(resource: &ArcGisAppCredential) -> Failure {
    resource.status.clone().unwrap().failure.unwrap()
}

fn wait(failure: &Failure) -> i64 {
    failure.next_attempt_at.unwrap().as_second() - failure.last_attempt_at.unwrap().as_second()
}

async fn wrong_secret(world: &World, name: &str) -> ArcGisAppCredential {
    world.portal.app(name, App { secret: SECRET.to_owned(), ..App::default() });
    world.credentials(&format!("{name}-oauth"), name, support::WRONG_SECRET).await;
    world.apply(&world.manifest(name, &format!("{name}-oauth"))).await;
    world.wait(name, |r| is(r, "Stalled", "True", "ClientSecretRejected")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_move_is_kept_in_the_status_and_waited_for_across_a_restart() {
    let mut world = World::new().await;
    let before = failure(&wrong_secret(&world, "app").await);
    assert_eq!(before.count, Some(1));
    assert!((60..=76).contains(&wait(&before)) && before.inputs.is_some());
    world.kill().await;
    world.start().await;
    // Another that becomes ready shows that the restarted operator looks at resources.
    world.ready("next").await;
    let after = world.resources().get("app").await.unwrap();
    assert_eq!(failure(&after), before);
    assert_eq!(world.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_change_beats_the_wait_also_when_it_was_made_while_the_operator_was_down() {
    let mut world = World::new().await;
    wrong_secret(&world, "app").await;
    world.kill().await;
    world.credentials("app-oauth", "app", SECRET).await;
    world.start().await;
    world.wait("app", |r| is(r, "Ready", "True", "TokenValid") && problem(r).is_none()).await;
    assert_eq!(world.portal.requests("app"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_person_s_change_starts_the_count_anew() {
    let world = World::new().await;
    wrong_secret(&world, "app").await;
    for (requests, wrong) in [(2, "canary-client-secret-wrong-2"), (3, "canary-client-secret-wrong-3")] {
        world.credentials("app-oauth", "app", wrong).await;
        world.portal.wait_for_requests("app", requests, Duration::from_secs(10)).await.unwrap();
    }
    world.ask_anew("app", "please").await;
    let handled =
        |r: &ArcGisAppCredential| r.status.as_ref().unwrap().last_handled_request.as_deref() == Some("please");
    let resource = world.wait("app", handled).await;
    assert_eq!(failure(&resource).count, Some(1));
    assert_eq!(world.portal.requests("app"), 4, "recorded as handled with the attempt that failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_change_can_cure_has_no_next_attempt_and_is_seen_within_5_s_of_it() {
    let world = World::new().await;
    world.credentials("oauth", "app", "").await;
    world.apply(&world.manifest("empty", "oauth")).await;
    let resource = world.wait("empty", |r| is(r, "Stalled", "True", "CredentialsIncomplete")).await;
    assert_eq!(failure(&resource).next_attempt_at, None);
    assert!(condition(&resource, "Stalled").unwrap().message.contains("key client_secret"));
    world.credentials("oauth", "app", SECRET).await;
    world.wait_for("empty", Duration::from_secs(5), |r| is(r, "Ready", "True", "TokenValid")).await;
    world.credentials("oauth", "app", " ").await;
    let broken =
        world.wait_for("empty", Duration::from_secs(5), |r| is(r, "Stalled", "True", "CredentialsIncomplete")).await;
    assert!(is(&broken, "Ready", "True", "TokenValid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_inputs_that_brought_a_token_before_is_tried_within_15_minutes() {
    let world = World::new().await;
    world.ready("worked").await;
    let refusal = Answer { status: 403, body: "<html>maintenance</html>".to_owned(), ..Answer::default() };
    world.portal.app("worked", App { secret: SECRET.to_owned(), answer: Some(refusal), ..App::default() });
    world.ask_anew("worked", "now").await;
    let resource = world.wait("worked", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert!((60..=76).contains(&wait(&failure(&resource))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_a_portal_asked_for_survives_a_restart_and_no_change_beats_it() {
    let mut world = World::new().await;
    let limited = Answer {
        status: 429,
        headers: [("Retry-After".to_owned(), "200".to_owned())].into(),
        body: "slow down".to_owned(),
    };
    world.portal.app("app", App { secret: SECRET.to_owned(), answer: Some(limited), ..App::default() });
    world.credentials("oauth", "app", SECRET).await;
    world.apply(&world.manifest("limited", "oauth")).await;
    let resource = world.wait("limited", |r| is(r, "Reconciling", "True", "RateLimited")).await;
    assert!(condition(&resource, "Stalled").is_none());
    assert!((200..=252).contains(&wait(&failure(&resource))));
    world.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    world.portal.app("next", App { secret: SECRET.to_owned(), ..App::default() });
    world.kill().await;
    world.start().await;
    world.ask_anew("limited", "now").await;
    world.credentials("next-oauth", "next", SECRET).await;
    world.apply(&world.manifest("next", "next-oauth")).await;
    world.wait("next", |r| is(r, "Ready", "False", "RateLimited")).await;
    assert_eq!((world.portal.requests("app"), world.portal.requests("next")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_is_told_once_and_its_count_stays_out_of_the_status() {
    let world = World::new().await;
    world.ready("outage").await;
    world.portal.outage(true);
    world.ask_anew("outage", "now").await;
    let first = world.wait("outage", |r| problem(r) == Some("PortalUnreachable")).await;
    world.portal.wait_for_requests("outage", 1, Duration::from_secs(1)).await.unwrap();
    // Long enough for several more attempts: 2, 4 and 8 s apart.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = world.resources().get("outage").await.unwrap();
    assert_eq!(later.metadata.resource_version, first.metadata.resource_version, "no status was written meanwhile");
    let failure = failure(&later);
    assert_eq!((failure.count, failure.next_attempt_at, failure.inputs), (None, None, None));
    assert!(failure.since <= Timestamp::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_missing_is_nobody_s_move_and_the_wrong_is_the_user_s() {
    let world = World::new().await;
    world.apply(&world.manifest("missing", "later")).await;
    let missing = world.wait("missing", |r| is(r, "Ready", "False", "CredentialsNotFound")).await;
    assert!(is(&missing, "Reconciling", "True", "CredentialsNotFound") && condition(&missing, "Stalled").is_none());
    world.credentials("later", "app", SECRET).await;
    world.wait_for("missing", Duration::from_secs(5), |r| is(r, "Ready", "True", "TokenValid")).await;
    world.change("missing", json!({"spec": {"portal": {"url": "https://elsewhere.example.com"}}})).await;
    let wrong = world.wait("missing", |r| is(r, "Stalled", "True", "PortalNotAllowed")).await;
    assert!(is(&wrong, "Ready", "True", "TokenValid"), "the token stays");
}
