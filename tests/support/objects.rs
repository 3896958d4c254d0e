//! What a test writes to the cluster of its environment, and what it waits for there.

use std::collections::BTreeMap;
use std::time::Duration;

use arcgis_credential_operator::api::{ArcGisAppCredential, Condition};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use testkit::portal::App;
use tokio::time::timeout;

use super::audit::AuditedCall;
use super::{LABEL, SECRET, TIMEOUT, TestEnv};

impl TestEnv {
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn resources(&self) -> Api<ArcGisAppCredential> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes a credentials Secret.
    pub async fn credentials(&self, name: &str, id: &str, secret: &str) {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                          "stringData": {"client_id": id, "client_secret": secret}});
        self.secrets().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(body)).await.unwrap();
    }

    pub fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes a ConfigMap with a CA bundle.
    pub async fn ca_bundle(&self, name: &str, pem: &str) {
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": pem}});
        self.config_maps().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(body)).await.unwrap();
    }

    /// Returns the manifest of a resource for this portal whose `target.name` is `<name>-token`.
    pub fn manifest(&self, name: &str, credentials: &str) -> Value {
        json!({
            "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
            "metadata": {"name": name, "labels": {LABEL: self.namespace}},
            "spec": {"portal": {"url": self.portal.url()}, "credentialsRef": {"name": credentials},
                     "target": {"name": format!("{name}-token")}},
        })
    }

    /// Changes a resource.
    pub async fn change(&self, name: &str, change: Value) {
        self.resources().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    }

    /// Requests a new token, as a user does.
    pub async fn request_token(&self, name: &str, mark: &str) {
        self.change(name, json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": mark}}})).await;
    }

    /// Changes a Secret, as any other client with the permission may.
    pub async fn edit_secret(&self, name: &str, change: Value) -> Secret {
        self.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap()
    }

    pub async fn apply(&self, manifest: &Value) {
        let mut manifest = manifest.clone();
        manifest["metadata"]["labels"][LABEL] = json!(self.namespace);
        let name = manifest["metadata"]["name"].as_str().unwrap();
        self.resources().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&manifest)).await.unwrap();
    }

    /// Creates credentials, an app with the resource's name and the resource, and waits for its token.
    pub async fn ready(&self, name: &str) -> BTreeMap<String, String> {
        self.portal.app(name, App { secret: SECRET.to_owned(), ..App::default() });
        self.credentials(&format!("{name}-oauth"), name, SECRET).await;
        self.apply(&self.manifest(name, &format!("{name}-oauth"))).await;
        self.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
        self.target(name).await
    }

    /// Waits until the resource meets a condition.
    pub async fn wait(&self, name: &str, condition: impl Fn(&ArcGisAppCredential) -> bool) -> ArcGisAppCredential {
        self.wait_for(name, TIMEOUT, condition).await
    }

    pub async fn wait_for(
        &self,
        name: &str,
        limit: Duration,
        condition: impl Fn(&ArcGisAppCredential) -> bool,
    ) -> ArcGisAppCredential {
        let reached =
            await_condition(self.resources(), name, |r: Option<&ArcGisAppCredential>| r.is_some_and(&condition));
        let Ok(found) = timeout(limit, reached).await else {
            let now = self.resources().get(name).await.unwrap();
            panic!("{name} did not meet the condition: {:#?}", now.status);
        };
        found.unwrap().unwrap()
    }

    /// Returns the target's data as text.
    pub async fn target(&self, name: &str) -> BTreeMap<String, String> {
        let secret = self.secrets().get(&format!("{name}-token")).await.unwrap();
        text(&secret)
    }

    /// Waits until the target exists and meets a condition.
    pub async fn wait_target(&self, name: &str, condition: impl Fn(&Secret) -> bool) -> Secret {
        self.wait_target_for(name, TIMEOUT, condition).await
    }

    pub async fn wait_target_for(&self, name: &str, limit: Duration, condition: impl Fn(&Secret) -> bool) -> Secret {
        let name = format!("{name}-token");
        let reached = await_condition(self.secrets(), &name, |s: Option<&Secret>| s.is_some_and(&condition));
        timeout(limit, reached).await.expect("the target did not meet the condition").unwrap().unwrap()
    }

    pub async fn delete(&self, name: &str) {
        self.resources().delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// Returns the operator's calls about this namespace, except for Leases.
    pub fn calls(&self) -> Vec<AuditedCall> {
        self.audit.calls()
    }

    /// Returns the URLs of the operator's reads in this namespace.
    pub fn reads(&self) -> Vec<String> {
        self.audit.reads()
    }
}

/// Returns a Secret's data as text.
pub fn text(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter().map(|(key, bytes)| (key, String::from_utf8(bytes.0).unwrap())).collect()
}

pub fn condition(resource: &ArcGisAppCredential, kind: &str) -> Option<Condition> {
    resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind).cloned()
}

/// Whether a condition has this status and reason.
pub fn is(resource: &ArcGisAppCredential, kind: &str, status: &str, reason: &str) -> bool {
    condition(resource, kind).is_some_and(|condition| condition.status == status && condition.reason == reason)
}

/// Returns the reason of the last failure in the status.
pub fn failure_reason(resource: &ArcGisAppCredential) -> Option<&'static str> {
    Some(resource.status.as_ref()?.failure.as_ref()?.reason.as_str())
}
