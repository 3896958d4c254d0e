//! When the operator is killed at any of its calls, it reaches the same state after a restart as without the kill.

use std::time::Duration;

use crate::support::{SECRET, TestEnv, is, text};
use serde_json::json;
use testkit::api_proxy::{Call, InjectedFault};
use testkit::portal::App;

const FAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the operator is killed: before the API server receives the call, or after it has completed it.
struct Point {
    name: &'static str,
    fault: InjectedFault,
    call: fn(&Call) -> bool,
}

const fn point(name: &'static str, fault: InjectedFault, call: fn(&Call) -> bool) -> Point {
    Point { name, fault, call }
}

const CREATION: [Point; 12] = [
    point("read-before", InjectedFault::LostBefore, |call| call.is("GET", "-oauth")),
    point("read-after", InjectedFault::LostAfter, |call| call.is("GET", "-oauth")),
    point("dry-before", InjectedFault::LostBefore, |call| call.is("POST", "/secrets") && call.dry()),
    point("dry-after", InjectedFault::LostAfter, |call| call.is("POST", "/secrets") && call.dry()),
    point("look-before", InjectedFault::LostBefore, |call| call.is("GET", "-token")),
    point("look-after", InjectedFault::LostAfter, |call| call.is("GET", "-token")),
    point("create-before", InjectedFault::LostBefore, |call| call.is("POST", "/secrets") && !call.dry()),
    point("create-after", InjectedFault::LostAfter, |call| call.is("POST", "/secrets") && !call.dry()),
    point("status-before", InjectedFault::LostBefore, |call| call.is("PATCH", "/status")),
    point("status-after", InjectedFault::LostAfter, |call| call.is("PATCH", "/status")),
    point("event-before", InjectedFault::LostBefore, |call| call.is("POST", "/events")),
    point("event-after", InjectedFault::LostAfter, |call| call.is("POST", "/events")),
];

const RENEWAL: [Point; 6] = [
    point("read-before", InjectedFault::LostBefore, |call| call.is("GET", "-oauth")),
    point("read-after", InjectedFault::LostAfter, |call| call.is("GET", "-oauth")),
    point("patch-before", InjectedFault::LostBefore, |call| call.is("PATCH", "-token")),
    point("patch-after", InjectedFault::LostAfter, |call| call.is("PATCH", "-token")),
    point("status-before", InjectedFault::LostBefore, |call| call.is("PATCH", "/status")),
    point("status-after", InjectedFault::LostAfter, |call| call.is("PATCH", "/status")),
];

async fn restart(env: &mut TestEnv) {
    env.kill().await;
    env.api_proxy().clear_faults();
    env.start().await;
}

/// Waits for the final state, which is the same in every case; returns how many tokens were requested.
async fn settled(env: &TestEnv, name: &str) -> usize {
    let settled = |r: &arcgis_credential_operator::api::ArcGisAppCredential| {
        let requested = r.metadata.annotations.as_ref().and_then(|all| all.get("credentials.arcgis.dev/requested-at"));
        let status = r.status.as_ref();
        is(r, "Ready", "True", "TokenValid")
            && status.is_some_and(|s| s.failure.is_none() && s.conditions.len() == 1)
            && status.and_then(|s| s.last_handled_request.as_ref()) == requested
    };
    let status = env.wait(name, settled).await.status.unwrap();
    let secret = env.secrets().get(&format!("{name}-token")).await.unwrap();
    assert_eq!(status.target_version, secret.metadata.resource_version, "{name}: the status is about this Secret");
    assert!(env.portal.tokens().contains(&text(&secret)["access_token"]), "{name}: the portal issued the token");
    env.portal.requests(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_of_a_creation_costs_at_most_one_more_request() {
    let mut env = TestEnv::with_api_proxy().await;
    for (nth, Point { name, fault, call }) in CREATION.into_iter().enumerate() {
        env.portal.app(name, App { secret: SECRET.to_owned(), ..App::default() });
        env.credentials(&format!("{name}-oauth"), name, SECRET).await;
        let mut manifest = env.manifest(name, &format!("{name}-oauth"));
        if name.starts_with("look") {
            // In place of the dry run, where a Secret with the same keys was created before.
            env.ready(&format!("{name}-first")).await;
        } else {
            manifest["spec"]["target"]["data"] = json!({name: ""});
        }
        env.api_proxy().inject(1, fault, call);
        env.apply(&manifest).await;
        env.api_proxy().wait_for_faults(nth + 1, FAULT_TIMEOUT).await.expect(name);
        restart(&mut env).await;
        let requests = settled(&env, name).await;
        let lost = name == "create-before";
        assert_eq!(
            requests,
            if lost { 2 } else { 1 },
            "{name}: only a token that was never written is requested again"
        );
    }
    for Point { name, .. } in CREATION {
        let requests = env.portal.requests(name);
        assert!(requests <= 2, "{name}: later restarts requested more: {requests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_portal_responds_costs_one_more_request() {
    let mut env = TestEnv::with_api_proxy().await;
    env.portal.app("app", App { secret: SECRET.to_owned(), hang: true, ..App::default() });
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("app", "oauth")).await;
    env.portal.wait_for_requests("app", 1, FAULT_TIMEOUT).await.unwrap();
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    restart(&mut env).await;
    assert_eq!(settled(&env, "app").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_of_a_renewal_keeps_the_token_and_costs_at_most_one_more_request() {
    let mut env = TestEnv::with_api_proxy().await;
    for (nth, Point { name, fault, call }) in RENEWAL.into_iter().enumerate() {
        let before = env.ready(name).await;
        env.api_proxy().inject(1, fault, call);
        env.request_token(name, "now").await;
        env.api_proxy().wait_for_faults(nth + 1, FAULT_TIMEOUT).await.expect(name);
        let meanwhile = env.target(name).await;
        assert!(env.portal.tokens().contains(&meanwhile["access_token"]), "{name}: the Secret is always complete");
        restart(&mut env).await;
        let requests = settled(&env, name).await;
        assert_ne!(env.target(name).await["access_token"], before["access_token"], "{name}");
        assert!((2..=3).contains(&requests), "{name}: {requests}");
    }
}
