//! Etcd is restored from a backup: what was written since is gone, and versions begin again.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, LEASE, TAKEOVER_TIMEOUT, grant};
use crate::support::link::ApiLink;
use crate::support::{SECRET, TestEnv, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
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
