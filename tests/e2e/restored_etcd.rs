//! Etcd is restored from a backup: what was written since is gone, and versions begin again.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, LEASE, TAKEOVER_TIMEOUT, grant, poll_until};
use crate::support::link::ApiLink;
use crate::support::{SECRET, TestEnv, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

/// The contract's time until it is noticed, and what a new resource takes then.
const NOTICED: Duration = Duration::from_secs(40);

/// Starts a leader on a control plane of its own, behind a link.
async fn leader() -> (Fleet, ApiLink) {
    let env = TestEnv::alone_without_operator().await;
    let namespace = env.namespace.clone();
    grant(&env, &namespace).await;
    let link = ApiLink::start_for(&env, &env.kubeconfig()).await;
    let mut fleet = Fleet { env, lease_namespace: namespace, replicas: Vec::new() };
    fleet.add_replica(&link.kubeconfig).await;
    fleet.wait_for_leader(&[0], TAKEOVER_TIMEOUT).await;
    (fleet, link)
}

/// Creates 500 objects, so that as many versions pass.
async fn pass_versions(env: &TestEnv, prefix: &str) {
    let config_maps = env.config_maps();
    for fifty in 0..10 {
        let bodies = (0..50).map(|n| json!({"metadata": {"name": format!("{prefix}-{fifty}-{n}")}}));
        let bodies: Vec<ConfigMap> = bodies.map(|body| serde_json::from_value(body).unwrap()).collect();
        let params = PostParams::default();
        let created = join_all(bodies.iter().map(|body| config_maps.create(&params, body))).await;
        for made in created {
            made.unwrap();
        }
    }
}

fn version(resource: &ArcGisAppCredential) -> u64 {
    resource.resource_version().unwrap().parse().unwrap()
}

/// Makes a backup, and has the watches see a version that it does not have; returns that version.
async fn back_up(env: &TestEnv) -> u64 {
    env.ready("kept").await;
    env.plane.back_up().await.unwrap();
    pass_versions(env, "later").await;
    env.ready("gone").await;
    version(&env.resources().get("gone").await.unwrap())
}

/// Restores the backup and applies a new resource; returns when the API server was back.
async fn restore(env: &TestEnv) -> Instant {
    env.plane.restore().await.unwrap();
    let back = Instant::now();
    env.portal.app("new", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("new-oauth", "new", SECRET).await;
    env.apply(&env.manifest("new", "new-oauth")).await;
    back
}

/// Waits until the new resource is served.
async fn served(env: &TestEnv, since: Instant) {
    env.wait_for("new", NOTICED, |r| is(r, "Ready", "True", "TokenValid")).await;
    println!("a restored etcd was noticed, and a new resource ready, after {:.2?}", since.elapsed());
    assert!(env.resources().get_opt("gone").await.unwrap().is_none());
    assert_eq!(env.portal.requests("kept"), 1, "what the backup has is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_etcd_is_noticed_and_new_resources_are_served() {
    let (fleet, _link) = leader().await;
    let env = &fleet.env;
    back_up(env).await;
    let back = restore(env).await;
    served(env, back).await;
    let Fleet { env, .. } = fleet;
    env.plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_etcd_is_noticed_when_its_versions_have_caught_up() {
    let (fleet, link) = leader().await;
    let env = &fleet.env;
    let seen = back_up(env).await;
    link.cut(true);
    restore(env).await;
    pass_versions(env, "again").await;
    pass_versions(env, "more").await;
    // Another writer raises the version of the Lease, too.
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    let touched = fleet.leases().patch(LEASE, &PatchParams::default(), &Patch::Merge(touch)).await.unwrap();
    assert!(touched.resource_version().unwrap().parse::<u64>().unwrap() > seen);
    link.cut(false);
    served(env, Instant::now()).await;
    let Fleet { env, .. } = fleet;
    env.plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_asks_for_a_version_of_the_future_reads_again_at_once() {
    let plane = ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap();
    let mut env = TestEnv::on_without_operator(plane, &["--leader-elect=false"]).await;
    env.start_without_waiting();
    env.wait_until_ready().await;
    // Renewed after 30 s.
    env.portal.app("app", App { secret: SECRET.to_owned(), lifetime: Some(60), ..App::default() });
    env.credentials("kept-oauth", "app", SECRET).await;
    env.apply(&env.manifest("kept", "kept-oauth")).await;
    env.wait("kept", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.plane.back_up().await.unwrap();
    pass_versions(&env, "later").await;
    let reads = env.reads().len();
    let future = env.edit_secret("kept-oauth", json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    poll_until("the change is read", Duration::from_secs(10), async || (env.reads().len() > reads).then_some(())).await;
    env.plane.restore().await.unwrap();
    env.portal.wait_for_requests("app", 2, Duration::from_mins(1)).await.unwrap();
    let asked = format!("resourceVersion={}", future.metadata.resource_version.unwrap());
    let reads = env.reads().split_off(reads);
    let least: Vec<bool> = reads.iter().rev().take(2).map(|url| url.ends_with(&asked)).collect();
    assert_eq!(least, [false, true], "asked for a version of the future, then for none: {reads:?}");
    assert!(env.log().contains("the cluster went back"));
    // Everything was listed again.
    env.ready("new").await;
    env.end().await;
}
