//! Etcd is restored from a backup: what was written since is gone, and versions begin again.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, TAKEOVER_TIMEOUT, grant, poll_until};
use crate::support::{SECRET, TestEnv, is};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use serde_json::json;
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

/// Takes the versions of the cluster far ahead of a backup.
async fn write_500_times(env: &TestEnv) {
    let config_maps = env.config_maps();
    for fifty in 0..10 {
        let bodies = (0..50).map(|n| json!({"metadata": {"name": format!("later-{fifty}-{n}")}}));
        let bodies: Vec<ConfigMap> = bodies.map(|body| serde_json::from_value(body).unwrap()).collect();
        let params = PostParams::default();
        let created = join_all(bodies.iter().map(|body| config_maps.create(&params, body))).await;
        for made in created {
            made.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_etcd_is_noticed_and_new_resources_are_served() {
    let bin = ControlPlane::from_env().unwrap().bin();
    let env = TestEnv::on_without_operator(ControlPlane::start(&bin, None, false).await.unwrap(), &[]).await;
    let namespace = env.namespace.clone();
    grant(&env, &namespace).await;
    let kubeconfig = env.kubeconfig();
    let mut fleet = Fleet { env, lease_namespace: namespace, replicas: Vec::new() };
    fleet.add_replica(&kubeconfig).await;
    fleet.wait_for_leader(&[0], TAKEOVER_TIMEOUT).await;
    let env = &fleet.env;
    env.ready("kept").await;
    env.plane.back_up().await.unwrap();
    write_500_times(env).await;
    // The watch has seen a version that the backup does not have.
    env.ready("gone").await;
    env.plane.restore().await.unwrap();
    let restored = Instant::now();
    env.portal.app("new", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("new-oauth", "new", SECRET).await;
    env.apply(&env.manifest("new", "new-oauth")).await;
    env.wait_for("new", Duration::from_secs(40), |r| is(r, "Ready", "True", "TokenValid")).await;
    println!("served {:?} after the API server was back", restored.elapsed());
    assert!(env.resources().get_opt("gone").await.unwrap().is_none());
    assert_eq!(env.portal.requests("kept"), 1, "what the backup has is as it was");
    let Fleet { env, .. } = fleet;
    env.plane.stop().await;
}

/// Without a Lease, whose version would show it.
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
    write_500_times(&env).await;
    let reads = env.reads().len();
    let future = env.edit_secret("kept-oauth", json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    poll_until("the change is read", Duration::from_secs(10), async || (env.reads().len() > reads).then_some(())).await;
    env.plane.restore().await.unwrap();
    env.portal.wait_for_requests("app", 2, Duration::from_mins(1)).await.unwrap();
    let asked = format!("resourceVersion={}", future.metadata.resource_version.unwrap());
    let reads = env.reads().split_off(reads);
    let least: Vec<bool> = reads.iter().rev().take(2).map(|url| url.ends_with(&asked)).collect();
    assert_eq!(least, [false, true], "asked for a version of the future, then for none: {reads:?}");
    assert!(env.log().contains("versions of the cluster went back"));
    // Everything was listed again.
    env.ready("new").await;
    env.end().await;
}
