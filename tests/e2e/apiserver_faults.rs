//! Faults of the Kubernetes API and how the operator recovers from them.

use std::time::Duration;

use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use testkit::api_proxy::InjectedFault;
use testkit::portal::App;

const FAULT_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_api_error_is_reported_as_reconciling_and_recovers() {
    let env = TestEnv::with_api_proxy().await;
    env.credentials("oauth", "app", SECRET).await;
    env.api_proxy().inject(1, InjectedFault::Status(500), |call| call.is("GET", "/oauth"));
    env.apply(&env.manifest("shaky", "oauth")).await;
    let resource = env.wait("shaky", |r| is(r, "Ready", "False", "ClusterError")).await;
    assert_eq!(failure_reason(&resource), Some("ClusterError"));
    assert!(is(&resource, "Reconciling", "True", "ClusterError") && condition(&resource, "Stalled").is_none());
    env.wait("shaky", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    assert_eq!(env.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_read_of_the_credentials_is_reported_and_not_repeated_at_once() {
    let env = TestEnv::with_api_proxy().await;
    env.ready("unread").await;
    env.api_proxy().inject(usize::MAX, InjectedFault::Status(403), |call| call.is("GET", "/unread-oauth"));
    env.request_token("unread", "now").await;
    env.wait("unread", |r| is(r, "Stalled", "True", "SourceRefused")).await;
    env.api_proxy().wait_for_faults(2, Duration::from_secs(5)).await.expect_err("the read waits a minute");
    env.api_proxy().clear_faults();
    // A user's change ends the wait.
    env.request_token("unread", "again").await;
    env.wait("unread", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    assert_eq!(env.portal.requests("unread"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_could_not_be_written_is_kept_and_not_requested_again() {
    let env = TestEnv::with_api_proxy().await;
    let before = env.ready("held").await;
    env.api_proxy().inject(2, InjectedFault::Status(500), |call| call.is("PATCH", "/held-token"));
    env.request_token("held", "now").await;
    env.api_proxy().wait_for_faults(2, FAULT_TIMEOUT).await.unwrap();
    assert_eq!(env.target("held").await, before, "the old token stays until then");
    env.wait("held", |r| failure_reason(r).is_none() && r.status.as_ref().unwrap().last_handled_request.is_some())
        .await;
    assert_ne!(env.target("held").await["access_token"], before["access_token"]);
    assert_eq!(env.portal.requests("held"), 2, "the first token and the requested one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_is_found_and_the_token_is_not_requested_again() {
    let env = TestEnv::with_api_proxy().await;
    env.portal.app("lost", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("lost-oauth", "lost", SECRET).await;
    env.api_proxy().inject(1, InjectedFault::ClosedAfter, |call| call.is("POST", "/secrets") && !call.dry());
    env.apply(&env.manifest("lost", "lost-oauth")).await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    env.wait("lost", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    assert_eq!(env.portal.requests("lost"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_response_times_out_and_is_retried() {
    let env = TestEnv::with_api_proxy().await;
    env.credentials("oauth", "app", SECRET).await;
    env.api_proxy().inject(1, InjectedFault::LostBefore, |call| call.is("GET", "/oauth"));
    env.apply(&env.manifest("hung", "oauth")).await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    // It does not block other resources.
    env.ready("next").await;
    env.wait_for("hung", Duration::from_secs(40), |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_write_is_reported_and_the_old_token_stays() {
    let env = TestEnv::with_api_proxy().await;
    let before = env.ready("kept").await;
    env.api_proxy().inject(1, InjectedFault::Status(403), |call| call.is("PATCH", "/kept-token"));
    env.request_token("kept", "now").await;
    let resource = env.wait("kept", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert_eq!(env.target("kept").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_could_not_be_written_is_written_later() {
    let env = TestEnv::with_api_proxy().await;
    env.api_proxy().inject(2, InjectedFault::Status(500), |call| call.is("PATCH", "/status"));
    env.ready("late").await;
    env.api_proxy().wait_for_faults(2, FAULT_TIMEOUT).await.unwrap();
    assert_eq!(env.portal.requests("late"), 1);
    // A requested renewal is handled only once.
    env.api_proxy().inject(2, InjectedFault::Status(500), |call| call.is("PATCH", "/status"));
    env.request_token("late", "now").await;
    env.api_proxy().wait_for_faults(4, FAULT_TIMEOUT).await.unwrap();
    env.wait("late", |r| r.status.as_ref().is_some_and(|s| s.last_handled_request.is_some())).await;
    assert_eq!(env.portal.requests("late"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_answered_delays_no_status() {
    let env = TestEnv::with_api_proxy().await;
    env.ready("told").await;
    env.api_proxy().inject(1, InjectedFault::Held, |call| call.is("POST", "/events"));
    env.change("told", json!({"spec": {"suspend": true}})).await;
    env.api_proxy().wait_for_faults(1, FAULT_TIMEOUT).await.unwrap();
    env.change("told", json!({"spec": {"suspend": false}})).await;
    // A call takes at most 10 s.
    env.wait_for("told", Duration::from_secs(5), |r| is(r, "Ready", "True", "TokenValid")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_are_sent_before_the_operator_stops() {
    let mut env = TestEnv::with_api_proxy().await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        env.ready(name).await;
    }
    env.api_proxy().inject(usize::MAX, InjectedFault::Held, |call| call.is("POST", "/events"));
    for name in names {
        env.change(name, json!({"spec": {"suspend": true}})).await;
    }
    for name in names {
        env.wait(name, |r| is(r, "Ready", "True", "Suspended")).await;
    }
    env.api_proxy().wait_for_faults(4, FAULT_TIMEOUT).await.unwrap();
    let process = env.operator.as_ref().unwrap().id().unwrap();
    testkit::signal(process, "TERM").await.unwrap();
    env.api_proxy().clear_faults();
    assert_eq!(env.terminate().await, Some(0));
    let events =
        Api::<Event>::namespaced(env.client.clone(), &env.namespace).list(&ListParams::default()).await.unwrap();
    let suspended = events.items.iter().filter(|event| event.reason.as_deref() == Some("Suspended")).count();
    assert_eq!(suspended, names.len());
}
