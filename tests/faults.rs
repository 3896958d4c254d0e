//! What the Kubernetes API does wrong, and what becomes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::time::Duration;

use support::{SECRET, World, condition, is, problem};
use testkit::portal::App;
use testkit::tap::InjectedFault;

const CAUGHT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_kubernetes_api_is_nobody_s_move_and_heals_by_itself() {
    let world = World::tapped().await;
    world.credentials("oauth", "app", SECRET).await;
    world.tap().fail(1, InjectedFault::Status(500), |call| call.is("GET", "/oauth"));
    world.apply(&world.manifest("shaky", "oauth")).await;
    let resource = world.wait("shaky", |r| is(r, "Ready", "False", "ClusterError")).await;
    assert_eq!(problem(&resource), Some("ClusterError"));
    assert!(is(&resource, "Reconciling", "True", "ClusterError") && condition(&resource, "Stalled").is_none());
    world.wait("shaky", |r| is(r, "Ready", "True", "TokenValid") && problem(r).is_none()).await;
    assert_eq!(world.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_could_not_be_written_is_held_and_not_bought_again() {
    let world = World::tapped().await;
    let before = world.ready("held").await;
    world.tap().fail(2, InjectedFault::Status(500), |call| call.is("PATCH", "/held-token"));
    world.ask_anew("held", "now").await;
    world.tap().wait_until_caught(2, CAUGHT).await.unwrap();
    assert_eq!(world.target("held").await, before, "the old one stays meanwhile");
    world.wait("held", |r| problem(r).is_none() && r.status.as_ref().unwrap().last_handled_request.is_some()).await;
    assert_ne!(world.target("held").await["access_token"], before["access_token"]);
    assert_eq!(world.portal.requests("held"), 2, "the first and the one asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_the_write_is_found_and_not_bought_again() {
    let world = World::tapped().await;
    world.portal.app("lost", App { secret: SECRET.to_owned(), ..App::default() });
    world.credentials("lost-oauth", "lost", SECRET).await;
    world.tap().fail(1, InjectedFault::ClosedAfter, |call| call.is("POST", "/secrets") && !call.dry());
    world.apply(&world.manifest("lost", "lost-oauth")).await;
    world.tap().wait_until_caught(1, CAUGHT).await.unwrap();
    world.wait("lost", |r| is(r, "Ready", "True", "TokenValid") && problem(r).is_none()).await;
    assert_eq!(world.portal.requests("lost"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_never_answered_is_given_up_and_made_again() {
    let world = World::tapped().await;
    world.credentials("oauth", "app", SECRET).await;
    world.tap().fail(1, InjectedFault::LostBefore, |call| call.is("GET", "/oauth"));
    world.apply(&world.manifest("hung", "oauth")).await;
    world.tap().wait_until_caught(1, CAUGHT).await.unwrap();
    // The others are not held up by it.
    world.ready("next").await;
    world.wait_for("hung", Duration::from_secs(40), |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(world.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_api_server_refuses_is_told_and_the_old_token_stays() {
    let world = World::tapped().await;
    let before = world.ready("kept").await;
    world.tap().fail(1, InjectedFault::Status(403), |call| call.is("PATCH", "/kept-token"));
    world.ask_anew("kept", "now").await;
    let resource = world.wait("kept", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert_eq!(world.target("kept").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_could_not_be_written_is_written_later() {
    let world = World::tapped().await;
    world.tap().fail(2, InjectedFault::Status(500), |call| call.is("PATCH", "/status"));
    world.ready("late").await;
    world.tap().wait_until_caught(2, CAUGHT).await.unwrap();
    assert_eq!(world.portal.requests("late"), 1);
    // Nor is a wish handled twice.
    world.tap().fail(2, InjectedFault::Status(500), |call| call.is("PATCH", "/status"));
    world.ask_anew("late", "now").await;
    world.tap().wait_until_caught(4, CAUGHT).await.unwrap();
    world.wait("late", |r| r.status.as_ref().is_some_and(|s| s.last_handled_request.is_some())).await;
    assert_eq!(world.portal.requests("late"), 2);
}
