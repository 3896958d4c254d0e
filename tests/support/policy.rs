//! Objects of an administrator that stop writes of targets, and how tests put and remove them.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::TestEnv;
use super::fleet::poll_until;

/// Applies an object of any kind.
pub async fn put(client: &Client, object: &Value) -> kube::Result<()> {
    let (api, name) = api_of(client, object);
    api.patch(&name, &PatchParams::apply("admin").force(), &Patch::Apply(object)).await.map(drop)
}

/// Deletes an object of any kind, if it exists.
pub async fn remove(client: &Client, object: &Value) -> kube::Result<()> {
    let (api, name) = api_of(client, object);
    match api.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    }
}

fn api_of(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let (version, kind) = (text("/apiVersion").unwrap(), text("/kind").unwrap());
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, text("/metadata/name").unwrap().to_owned())
}

/// Returns a policy that denies writes of the targets in a namespace, with the default reason: 422.
pub fn denied_targets(namespace: &str) -> [Value; 2] {
    let name = format!("deny-{namespace}");
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"],
                                                "operations": ["CREATE", "UPDATE"]}],
                             "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        "validations": [{"expression": "!object.metadata.name.endsWith('-token')", "message": "denied"}]}});
    let binding = json!({"apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                         "spec": {"policyName": name, "validationActions": ["Deny"]}});
    [policy, binding]
}

/// Returns a quota that allows no further Secret in a namespace.
pub fn exhausted_quota(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
           "spec": {"hard": {"count/secrets": "1"}}})
}

/// Puts the quota into force. The quota controller, which would write its status, does not run.
pub async fn put_quota(client: &Client, quota: &Value) -> kube::Result<()> {
    put(client, quota).await?;
    let status = json!({"status": {"hard": {"count/secrets": "1"}, "used": {"count/secrets": "1"}}});
    let (api, name) = api_of(client, quota);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
}

/// Denies writes of targets in the namespace of a test, and waits until it is in force.
pub async fn deny_targets(env: &TestEnv) {
    for object in denied_targets(&env.namespace) {
        put(&env.client, &object).await.unwrap();
    }
    poll_until("the policy is in force", Duration::from_secs(30), async || {
        let body = json!({"metadata": {"name": "probe-token"}});
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        env.secrets().create(&dry, &serde_json::from_value(body).unwrap()).await.is_err().then_some(())
    })
    .await;
}

/// Allows them again.
pub async fn allow_targets(env: &TestEnv) {
    for object in denied_targets(&env.namespace).iter().rev() {
        remove(&env.client, object).await.unwrap();
    }
}
