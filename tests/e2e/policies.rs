//! The admission policies in `examples/policies`, on the real API server.

use std::path::Path;
use std::time::Duration;

use crate::support::TestEnv;
use crate::support::fleet::poll_until;
use arcgis_credential_operator::api::ArcGisAppCredential;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

const IN_FORCE: Duration = Duration::from_secs(30);

/// The manifests of a file, limited to the namespace of a test.
struct Policies {
    api: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Policies {
    /// Applies a file; `data` are the data of its ConfigMap.
    async fn apply(env: &TestEnv, file: &str, data: Value) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let applied = Self {
            api: Api::all(env.client.clone()),
            bindings: Api::all(env.client.clone()),
            name: format!("{}-{}", file.trim_end_matches(".yaml"), env.namespace),
        };
        let params = PostParams::default();
        let own = json!({"matchLabels": {"kubernetes.io/metadata.name": env.namespace}});
        for document in text.split("\n---\n") {
            let mut manifest: Value = serde_saphyr::from_str(document).unwrap();
            match manifest["kind"].as_str().unwrap() {
                "ConfigMap" => {
                    manifest["metadata"]["namespace"] = json!(env.namespace);
                    manifest["data"] = data.clone();
                    let maps = Api::<ConfigMap>::namespaced(env.client.clone(), &env.namespace);
                    maps.create(&params, &serde_json::from_value(manifest).unwrap()).await.unwrap();
                }
                "ValidatingAdmissionPolicy" => {
                    manifest["metadata"]["name"] = json!(applied.name);
                    manifest["spec"]["matchConstraints"]["namespaceSelector"] = own.clone();
                    applied.api.create(&params, &serde_json::from_value(manifest).unwrap()).await.unwrap();
                }
                _ => {
                    manifest["metadata"]["name"] = json!(applied.name);
                    manifest["spec"]["policyName"] = json!(applied.name);
                    if manifest["spec"]["paramRef"].is_object() {
                        manifest["spec"]["paramRef"]["namespace"] = json!(env.namespace);
                    }
                    applied.bindings.create(&params, &serde_json::from_value(manifest).unwrap()).await.unwrap();
                }
            }
        }
        applied
    }

    /// Waits until the policy denies one manifest and accepts another: its parameters are known some time after itself.
    async fn in_force(&self, env: &TestEnv, denied: &Value, allowed: &Value) {
        poll_until("the policy is in force", IN_FORCE, async || {
            (create(env, denied).await.is_err() && create(env, allowed).await.is_ok()).then_some(())
        })
        .await;
        let status = self.api.get(&self.name).await.unwrap().status.unwrap_or_default();
        let warnings = status.type_checking.and_then(|checked| checked.expression_warnings).unwrap_or_default();
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    async fn remove(self) {
        self.bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.api.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// Creates a resource as a dry run; the error is what the user reads.
async fn create(env: &TestEnv, manifest: &Value) -> Result<(), String> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let resource: ArcGisAppCredential = serde_json::from_value(manifest.clone()).unwrap();
    env.resources().create(&dry, &resource).await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_uses_only_the_portals_that_an_administrator_lists_for_it() {
    let env = TestEnv::without_operator(&[]).await;
    let of = |url: &str| {
        let mut manifest = env.manifest("maps", "maps-oauth");
        manifest["spec"]["portal"]["url"] = json!(url);
        manifest
    };
    // It exists before the policy.
    let mut before = of("https://old.example.com");
    before["metadata"]["name"] = json!("before");
    env.apply(&before).await;
    let hosts = "www.arcgis.com\n  gis.example.com:7443  \n";
    let data = json!({&env.namespace: hosts, "other": "other.example.com\n"});
    let policies = Policies::apply(&env, "portals-per-namespace.yaml", data).await;
    let denied = of("https://other.example.com");
    policies.in_force(&env, &denied, &of("https://www.arcgis.com")).await;
    for url in ["https://WWW.ArcGIS.com:443/", "https://gis.example.com:7443/arcgis"] {
        assert_eq!(create(&env, &of(url)).await, Ok(()), "{url}");
    }
    // The API server adds the default portal, which is listed.
    let mut default = of("");
    default["spec"].as_object_mut().unwrap().remove("portal");
    env.apply(&default).await;
    for url in [
        "https://other.example.com",
        "https://gis.example.com/arcgis",
        "https://www.arcgis.com.evil.example",
        "https://x.www.arcgis.com",
        "https://evil.example/www.arcgis.com",
    ] {
        let error = create(&env, &of(url)).await.unwrap_err();
        assert!(error.contains("may not use the portal") && error.contains(&env.namespace), "{url}: {error}");
    }
    env.change("before", json!({"spec": {"suspend": true}})).await;
    let change = json!({"spec": {"portal": {"url": "https://other.example.com"}}});
    let params = kube::api::PatchParams::default();
    let changed = env.resources().patch("before", &params, &kube::api::Patch::Merge(&change)).await;
    assert!(changed.unwrap_err().to_string().contains("may not use the portal"));
    policies.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_secret_whose_name_ends_with_oauth_is_accepted_as_credentials() {
    let env = TestEnv::without_operator(&[]).await;
    env.apply(&env.manifest("before", "database")).await;
    let policies = Policies::apply(&env, "credentials-by-name.yaml", json!({})).await;
    let (denied, allowed) = (env.manifest("maps", "database-password"), env.manifest("maps", "maps-oauth"));
    policies.in_force(&env, &denied, &allowed).await;
    let error = create(&env, &denied).await.unwrap_err();
    assert!(error.contains("spec.credentialsRef.name must end with -oauth"), "{error}");
    let mut target = allowed.clone();
    target["spec"]["target"]["name"] = json!("other-oauth");
    let error = create(&env, &target).await.unwrap_err();
    assert!(error.contains("spec.target.name must not end with -oauth"), "{error}");
    env.change("before", json!({"spec": {"suspend": true}})).await;
    policies.remove().await;
}
