//! The operator with the CRD of an older version, which drops what it does not know from each status.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

use crate::support::fleet::poll_until;
use crate::support::{SECRET, TestEnv, WRONG_SECRET, is};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const NEW_FIELDS: [&str; 3] = ["failure/properties/cause", "failure/properties/message", "token/properties/digest"];

/// Removes the fields of statuses that an older CRD does not have; returns when the API server drops them.
async fn downgrade_crd(env: &TestEnv) {
    let crds: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
    let removals: Vec<Value> =
        NEW_FIELDS.iter().map(|field| json!({"op": "remove", "path": format!("{schema}/{field}")})).collect();
    let patch: json_patch::Patch = serde_json::from_value(json!(removals)).unwrap();
    let name = "arcgisappcredentials.credentials.arcgis.dev";
    crds.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await.unwrap();
    env.apply(&env.manifest("sample", "none")).await;
    let failure = json!({"reason": "Internal", "startTime": "2026-01-01T00:00:00Z", "message": "dropped"});
    poll_until("the schema applies", Duration::from_secs(20), async || {
        let status = Patch::Merge(json!({"status": {"failure": failure}}));
        let stored = env.resources().patch_status("sample", &PatchParams::default(), &status).await.ok()?;
        stored.status?.failure?.message.is_none().then_some(())
    })
    .await;
    env.resources().delete("sample", &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_crd_drops_delays_no_status_and_is_told_once() {
    let plane = ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap();
    let mut env = TestEnv::on_without_operator(plane, &[]).await;
    downgrade_crd(&env).await;
    env.start().await;
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("oauth", "app", WRONG_SECRET).await;
    env.apply(&env.manifest("a", "oauth")).await;
    let failed = env.wait("a", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    assert_eq!(failed.status.unwrap().failure.unwrap().message, None, "dropped by the API server");
    // More changes than another writer of the status would be allowed in 10 minutes.
    for change in 0..3 {
        for suspend in [true, false] {
            env.change("a", json!({"spec": {"suspend": suspend}})).await;
            let reason = if suspend { "Suspended" } else { "ClientSecretRejected" };
            let shown = |r: &_| is(r, "Ready", "False", reason);
            env.wait_for("a", Duration::from_secs(5), shown).await;
        }
        let label = json!({"metadata": {"labels": {"change": change.to_string()}}});
        env.change("a", label).await;
    }
    env.ready("b").await;
    let token = env.resources().get("b").await.unwrap().status.unwrap().token.unwrap();
    assert_eq!(token.digest, None, "dropped by the API server");
    let writes = env.calls().iter().filter(|(_, _, subresource, _)| subresource == "status").count();
    assert!(writes <= 2 + 2 * 6 + 1, "{writes} status writes");
    assert_eq!(env.log().matches("does not store a status as it is written").count(), 1);
    env.end().await;
}
