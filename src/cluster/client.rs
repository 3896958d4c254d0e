//! The calls on Secrets, ConfigMaps and statuses.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams, Request};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{ApiError, bounded};
use super::lean::LeanResource;
use crate::api::ArcGisAppCredentialStatus;
use crate::core::Version;

/// The field manager of all writes, and the name in events.
pub(super) const MANAGER: &str = "arcgis-credential-operator";

/// The calls, for any namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Calls through this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The Secret, `None` where there is none.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        self.get(Api::namespaced(self.client.clone(), namespace), name).await
    }

    /// The `ConfigMap`, `None` where there is none.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        self.get(Api::namespaced(self.client.clone(), namespace), name).await
    }

    async fn get<K: Clone + DeserializeOwned + Debug>(&self, api: Api<K>, name: &str) -> Result<Option<K>, ApiError> {
        bounded(api.get_opt(name)).await
    }

    /// Creates a Secret; fails where one of that name exists. A dry run only checks whether it would be accepted.
    pub async fn create_secret(&self, namespace: &str, manifest: &Value, dry: bool) -> Result<Version, ApiError> {
        let body = serde_json::to_vec(manifest).map_err(|_| ApiError::Denied(0))?;
        let params = PostParams { dry_run: dry, field_manager: Some(MANAGER.to_owned()) };
        let request = Request::new(Secret::url_path(&(), Some(namespace)));
        let request = request.create(&params, body).map_err(|_| ApiError::Denied(0))?;
        // Only the metadata of the answer is used, so its data is never decoded.
        bounded(self.client.request::<PartialObjectMeta<Secret>>(request)).await.map(|meta| version(&meta))
    }

    /// Changes a Secret. The patch carries the uid and the version of what was evaluated.
    pub async fn patch_secret(&self, namespace: &str, name: &str, patch: &Value) -> Result<Version, ApiError> {
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        bounded(api.patch(name, &params, &Patch::Merge(patch))).await.map(|meta| version(&meta))
    }

    /// Replaces the status of the resource with this uid; returns the resource's new version.
    pub async fn patch_status(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        status: &ArcGisAppCredentialStatus,
    ) -> Result<String, ApiError> {
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(operations).map_err(|_| ApiError::Denied(0))?;
        let api = Api::<LeanResource>::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let written = bounded(api.patch_status(name, &params, &Patch::<()>::Json(patch))).await?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    /// The client itself, for watches.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// The identity and version of what the API server returned.
pub fn version<K: Resource>(object: &K) -> Version {
    Version {
        uid: object.meta().uid.clone().unwrap_or_default(),
        resource: object.meta().resource_version.clone().unwrap_or_default(),
    }
}
