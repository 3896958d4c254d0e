//! Etcd is restored from a backup: what was written since is gone, and versions begin again.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, TAKEOVER_TIMEOUT, grant};
use crate::support::{SECRET, TestEnv, is};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use serde_json::json;
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

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
