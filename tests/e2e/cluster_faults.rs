//! A policy, a namespace, a connection or a tenant that misbehaves does not stop the others.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, HANDOVER_TIMEOUT, poll_until};
use crate::support::link::ApiLink;
use crate::support::policy::{allow_targets, deny_targets};
use crate::support::{SECRET, TestEnv, failure_reason, is};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use testkit::api_proxy::{Call, InjectedFault};
use testkit::control_plane::client;
use testkit::portal::{App, Certificate, Portal};

/// The longest time until a silent connection is given up, and its watch started again.
const SILENT: Duration = Duration::from_secs(100);
/// The annotations of a large Secret, and how many of them are more than what is read of a page of 500.
const LARGE: usize = 250 * 1024;
const TOO_MANY: usize = 18;
/// A retry after 1 m, with jitter.
const RETRIED: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_denies_the_target_is_reported_and_writes_resume_after_it_is_removed() {
    let env = TestEnv::new().await;
    let before = env.ready("old").await;
    deny_targets(&env).await;
    env.credentials("new-oauth", "app", SECRET).await;
    let mut new = env.manifest("new", "new-oauth");
    // No Secret with this key was created a moment ago.
    new["spec"]["target"]["formats"] = json!(["Json"]);
    env.apply(&new).await;
    env.request_token("old", "now").await;
    for name in ["old", "new"] {
        env.wait(name, |r| is(r, "Stalled", "True", "TargetRefused")).await;
    }
    assert_eq!((env.portal.requests("app"), env.portal.requests("old")), (0, 2), "a new target is tried before");
    assert_eq!(env.target("old").await, before, "the old token stays");
    allow_targets(&env).await;
    for name in ["old", "new"] {
        env.wait_for(name, RETRIED, |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    }
    assert_ne!(env.target("old").await["access_token"], before["access_token"]);
    assert_eq!(env.portal.requests("old"), 2, "the token that was issued is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_field_of_the_target_is_reported_and_retried() {
    let env = TestEnv::with_api_proxy().await;
    env.credentials("oauth", "app", SECRET).await;
    env.api_proxy().inject(1, InjectedFault::InvalidLabels, |call| call.is("POST", "/secrets") && call.dry());
    env.apply(&env.manifest("fields", "oauth")).await;
    let resource = env.wait("fields", |r| is(r, "Stalled", "True", "SpecInvalid")).await;
    let failure = resource.status.unwrap().failure.unwrap();
    let wait = failure.next_attempt_time.unwrap().as_second() - failure.last_attempt_time.unwrap().as_second();
    assert!((60..=76).contains(&wait), "{wait}");
    env.wait_for("fields", RETRIED, |r| is(r, "Ready", "True", "TokenValid")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_denies_with_400_is_reported_and_a_429_states_the_wait() {
    let env = TestEnv::with_api_proxy().await;
    for name in ["denied", "limited"] {
        env.credentials(&format!("{name}-oauth"), "app", SECRET).await;
    }
    env.api_proxy().inject(1, InjectedFault::Status(400), |call| call.is("POST", "/secrets") && call.dry());
    env.apply(&env.manifest("denied", "denied-oauth")).await;
    env.wait("denied", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    env.api_proxy().inject(1, InjectedFault::RetryAfter(12), |call| call.is("GET", "/limited-oauth"));
    let started = Instant::now();
    env.apply(&env.manifest("limited", "limited-oauth")).await;
    env.wait("limited", |r| failure_reason(r) == Some("ClusterError")).await;
    env.wait_for("limited", Duration::from_secs(40), |r| is(r, "Ready", "True", "TokenValid")).await;
    assert!(started.elapsed() > Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_permissions_stops_only_its_own_resources() {
    let env = TestEnv::without_operator(&[]).await;
    let other = format!("{}-other", env.namespace);
    let body = serde_json::from_value(json!({"metadata": {"name": other}})).unwrap();
    Api::<Namespace>::all(env.client.clone()).create(&PostParams::default(), &body).await.unwrap();
    let flags = ["--leader-elect=false", "--namespace", &other].map(str::to_owned);
    let operator = env.replica(&env.account_of_one_namespace().await, &flags);
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("served", "oauth")).await;
    env.wait("served", |r| is(r, "Ready", "True", "TokenValid")).await;
    let readiness = operator.http_get("/readyz").await.unwrap();
    assert!(readiness.starts_with("HTTP/1.1 503") && readiness.contains(&other), "{readiness}");
    assert!(!readiness.contains(&format!("in namespace {}:", env.namespace)), "{readiness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_lost_later_keeps_readiness_and_shows_in_metrics() {
    let mut env = TestEnv::without_operator(&[]).await;
    let account = env.account_of_one_namespace().await;
    let link = ApiLink::start_for(&env, &account).await;
    env.start_with_kubeconfig(&link.kubeconfig);
    env.ready("before").await;
    // The permissions are reviewed apart from the resources, and once more if the API server did not have the binding yet.
    poll_until("all permissions", SILENT, async || env.is_ready().await.then_some(())).await;
    let bindings = Api::<RoleBinding>::namespaced(env.client.clone(), &env.namespace);
    let binding = bindings.get("only-here").await.unwrap();
    bindings.delete("only-here", &DeleteParams::default()).await.unwrap();
    let secrets = Api::<Secret>::namespaced(client(&account).await.unwrap(), &env.namespace);
    let denied = async || secrets.list(&ListParams::default()).await.is_err().then_some(());
    poll_until("the API server denies access", SILENT, denied).await;
    // The watches in progress are not affected: they have to be started again.
    link.close_connections();
    let failing = async |value: &str| {
        let metrics = env.http_get("/metrics").await.unwrap_or_default();
        let mut watches = metrics.lines().filter(|line| line.starts_with("arcgis_credential_watch_failing{"));
        watches.any(|line| line.ends_with(value)).then_some(())
    };
    poll_until("a failing watch", SILENT, async || failing(" 1").await).await;
    assert!(env.is_ready().await, "a namespace that is lost later keeps readiness");
    let again = serde_json::from_value(json!({
        "metadata": {"name": "only-here"}, "roleRef": binding.role_ref, "subjects": binding.subjects,
    }));
    bindings.create(&PostParams::default(), &again.unwrap()).await.unwrap();
    env.ready("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_are_listed_only_while_a_resource_names_one() {
    let env = TestEnv::new().await;
    env.ready("plain").await;
    let lists = || env.calls().iter().filter(|(_, resource, ..)| resource == "configmaps").count();
    assert_eq!(lists(), 0);
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", env.portal.ca()).await;
    let mut manifest = env.manifest("named", "oauth");
    manifest["spec"]["portal"]["caBundleRef"] = json!({"name": "ca"});
    env.apply(&manifest).await;
    env.wait("named", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert!(lists() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_given_up() {
    let mut env = TestEnv::without_operator(&[]).await;
    let link = ApiLink::start(&env).await;
    env.start_with_kubeconfig(&link.kubeconfig);
    env.ready("before").await;
    link.silence();
    let started = Instant::now();
    env.credentials("late-oauth", "app", SECRET).await;
    env.apply(&env.manifest("late", "late-oauth")).await;
    env.wait_for("late", SILENT, |r| is(r, "Ready", "True", "TokenValid")).await;
    println!("a silent watch was replaced after {:?}", started.elapsed());
}

type Matches = fn(&Call) -> bool;

fn streams(call: &Call) -> bool {
    call.streams("/secrets")
}

fn is_page(call: &Call) -> bool {
    call.lists("/secrets") && !call.streams("/secrets")
}

/// Waits for a token beside so many large Secrets of others, when calls that list them fail.
async fn beside(large: usize, faults: Vec<(InjectedFault, Matches)>) {
    let mut env = TestEnv::without_operator_with_api_proxy().await;
    for n in 0..large {
        let annotations = json!({"large": "x".repeat(LARGE)});
        let secret = json!({"metadata": {"name": format!("other-{n}"), "annotations": annotations}});
        env.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }
    let count = faults.len();
    for (fault, fails) in faults {
        env.api_proxy().inject(1, fault, fails);
    }
    env.start_without_waiting();
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("listed", "oauth")).await;
    env.api_proxy().wait_for_faults(count, SILENT).await.unwrap();
    // Without the list, what is due is served after some seconds.
    env.wait_for("listed", SILENT, |r| is(r, "Ready", "True", "TokenValid")).await;
    poll_until("all is listed", SILENT, async || env.is_ready().await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_never_answered_is_started_again() {
    tokio::join!(
        beside(TOO_MANY, vec![(InjectedFault::LostBefore, streams)]),
        beside(0, vec![(InjectedFault::Status(422), streams), (InjectedFault::LostBefore, is_page)]),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_listed_while_the_resources_are() {
    let mut env = TestEnv::without_operator_with_api_proxy().await;
    env.api_proxy().inject(1, InjectedFault::LostBefore, |call| call.lists("/arcgisappcredentials"));
    env.api_proxy().inject(1, InjectedFault::LostBefore, streams);
    env.start_without_waiting();
    env.api_proxy().wait_for_faults(2, Duration::from_secs(20)).await.unwrap();
    assert!(!env.is_ready().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_that_the_api_server_does_not_stream_are_listed_in_small_pages() {
    beside(TOO_MANY, vec![(InjectedFault::Status(422), streams)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_suspended_while_the_portal_answered_is_not_written() {
    let env = TestEnv::new().await;
    let slow = App { secret: SECRET.to_owned(), delay: 3000, ..App::default() };
    for name in ["deleted", "suspended"] {
        env.portal.app(name, slow.clone());
        env.credentials(&format!("{name}-oauth"), name, SECRET).await;
        let mut manifest = env.manifest(name, &format!("{name}-oauth"));
        manifest["spec"]["target"]["deletionPolicy"] = json!("Retain");
        env.apply(&manifest).await;
        env.portal.wait_for_requests(name, 1, Duration::from_secs(20)).await.unwrap();
    }
    env.delete("deleted").await;
    env.change("suspended", json!({"spec": {"suspend": true}})).await;
    env.wait("suspended", |r| is(r, "Ready", "False", "Suspended")).await;
    // The portal has answered by then, and a write would have followed.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let names: Vec<_> = env.secrets().list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = names.into_iter().filter_map(|secret: Secret| secret.metadata.name).collect();
    assert!(names.iter().all(|name| !name.ends_with("-token")), "{names:?}");
    env.change("suspended", json!({"spec": {"suspend": false}})).await;
    env.wait("suspended", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.portal.requests("suspended"), 1, "the token that was issued meanwhile is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_on_one_failing_resource_write_its_status_a_bounded_number_of_times() {
    let env = TestEnv::new().await;
    let second = env.replica(&TestEnv::restricted(), &["--leader-elect=false".to_owned()]);
    env.portal.app("broken", App { secret: "another-secret".to_owned(), ..App::default() });
    env.credentials("oauth", "broken", SECRET).await;
    env.apply(&env.manifest("contested", "oauth")).await;
    env.wait("contested", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(second);
    let writes = env.calls().iter().filter(|(_, _, sub, _)| sub == "status").count();
    assert!(writes <= 2 * 5, "{writes} status writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_leader_lists_no_secrets_again() {
    let fleet = Fleet::new(2).await;
    let leader = fleet.wait_for_leader(&[0, 1], Duration::from_secs(20)).await;
    fleet.ready("a").await;
    fleet.wait_for_standby(1 - leader, Duration::from_secs(20)).await;
    let lists = |fleet: &Fleet| {
        let calls = fleet.env.calls();
        calls.iter().filter(|(verb, resource, ..)| verb == "list" && resource == "secrets").count()
    };
    let before = lists(&fleet);
    assert!(before > 0, "each replica has listed them");
    fleet.replicas[leader].signal("TERM").await;
    fleet.wait_for_leader(&[1 - leader], Duration::from_secs(20)).await;
    fleet.env.request_token("a", "after").await;
    fleet.wait_for_requests("a", 2, Duration::from_secs(20)).await;
    assert_eq!(lists(&fleet), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_acts_on_what_is_due_before_a_long_list_of_secrets_ends() {
    let fleet = Fleet::with_standby_behind_proxy().await;
    fleet.ready("a").await;
    // As in a cluster with a hundred thousand Secrets.
    let api_proxy = fleet.env.api_proxy();
    api_proxy.inject(100, InjectedFault::Held, |call| call.lists("/secrets"));
    fleet.env.credentials("new-oauth", "app", SECRET).await;
    fleet.replicas[0].signal("TERM").await;
    fleet.env.apply(&fleet.env.manifest("new", "new-oauth")).await;
    fleet.env.request_token("a", "after").await;
    fleet.env.wait_for("new", HANDOVER_TIMEOUT, |r| is(r, "Ready", "True", "TokenValid")).await;
    // At least 5 s after its first token.
    fleet.wait_for_requests("a", 2, HANDOVER_TIMEOUT * 2).await;
    api_proxy.clear_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_that_has_never_listed_secrets_acts_on_what_is_due() {
    let mut fleet = Fleet::new(1).await;
    fleet.wait_for_leader(&[0], Duration::from_secs(20)).await;
    let proxied = fleet.env.add_api_proxy().await;
    let api_proxy = fleet.env.api_proxy();
    api_proxy.inject(usize::MAX, InjectedFault::Held, |call| call.lists("/secrets"));
    let flags = ["--lease-namespace".to_owned(), fleet.lease_namespace.clone()];
    let standby = fleet.env.replica(&proxied, &flags);
    api_proxy.wait_for_faults(1, Duration::from_secs(20)).await.unwrap();
    fleet.ready("a").await;
    fleet.env.credentials("new-oauth", "app", SECRET).await;
    fleet.replicas[0].signal("TERM").await;
    fleet.replicas.push(standby);
    fleet.env.apply(&fleet.env.manifest("new", "new-oauth")).await;
    fleet.env.request_token("a", "after").await;
    fleet.env.wait_for("new", HANDOVER_TIMEOUT, |r| is(r, "Ready", "True", "TokenValid")).await;
    // At least 5 s after its first token.
    fleet.wait_for_requests("a", 2, HANDOVER_TIMEOUT * 2).await;
    assert_eq!(fleet.env.target("a").await.len(), 3, "its Secret is read, and not created again");
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_roots_are_read_again_when_their_file_changes() {
    let env = TestEnv::new().await;
    let other = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    std::fs::write(env.ca_file(), other.ca()).unwrap();
    poll_until("the roots are read", Duration::from_secs(20), async || {
        env.log().contains("trusted roots changed").then_some(())
    })
    .await;
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("untrusted", "oauth")).await;
    env.wait("untrusted", |r| is(r, "Stalled", "True", "PortalUntrusted")).await;
    std::fs::write(env.ca_file(), env.portal.ca()).unwrap();
    env.wait("untrusted", |r| is(r, "Ready", "True", "TokenValid")).await;
}
