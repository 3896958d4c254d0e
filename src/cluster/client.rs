//! The calls on Secrets, ConfigMaps and statuses.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams, Request};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{AccessError, Clocks, Use, client};
use super::error::{ApiError, bounded};
use super::lean::{LeanObject, LeanResource};
use crate::api::{ArcGisAppCredential, ArcGisAppCredentialStatus};
use crate::core::{ResourceVersion, SecretPatch, Version};

/// The field manager of all writes, and the name in events.
pub(super) const MANAGER: &str = "arcgis-credential-operator";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// One operation of a JSON patch.
#[derive(Serialize)]
struct Operation<T> {
    op: &'static str,
    path: &'static str,
    value: T,
}

/// The calls, for any namespace. Each client has connections of its own.
#[derive(Clone)]
pub struct Cluster {
    /// For calls that carry the data of Secrets. No other call keeps their connections in use, whose buffers hold it.
    secrets: Client,
    calls: Client,
    watches: Client,
}

impl Cluster {
    /// Sets up the clients.
    pub fn connect(config: &Config, clocks: &Clocks) -> Result<Self, AccessError> {
        let client = |of| client(config, of, clocks).map_err(|_| AccessError::Unusable);
        Ok(Self { secrets: client(Use::Calls)?, calls: client(Use::Calls)?, watches: client(Use::Watches)? })
    }

    /// The Secret, `None` where there is none: as it is now, or not older than the version `least`, which the API server
    /// answers from its cache. One that does not know that version yet waits for it, and fails with 504 after 3 s.
    pub async fn secret(&self, namespace: &str, name: &str, least: Option<String>) -> Result<Option<Secret>, ApiError> {
        get(&Api::namespaced(self.secrets.clone(), namespace), name, least).await
    }

    /// Whether the cache of the API server holds a Secret of this name.
    pub async fn has_secret(&self, namespace: &str, name: &str) -> Result<bool, ApiError> {
        let request = Request::new(Secret::url_path(&(), Some(namespace))).get_metadata(name, &GetParams::any());
        let request = request.map_err(|_| ApiError::NotSent)?;
        match bounded(self.secrets.request::<LeanObject<Secret>>(request)).await {
            Err(ApiError::NotFound) => Ok(false),
            read => read.map(|_| true),
        }
    }

    /// The `ConfigMap`, like a Secret.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        least: Option<String>,
    ) -> Result<Option<ConfigMap>, ApiError> {
        get(&Api::namespaced(self.calls.clone(), namespace), name, least).await
    }

    /// The resource, `None` where there is none. A list: the operator has no right to get one.
    pub async fn resource(&self, namespace: &str, name: &str) -> Result<Option<ArcGisAppCredential>, ApiError> {
        let api = Api::<ArcGisAppCredential>::namespaced(self.calls.clone(), namespace);
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        bounded(api.list(&only)).await.map(|list| list.items.into_iter().next())
    }

    /// The version of the cluster, as a list has it.
    pub async fn version_of_resources(&self, namespace: Option<&str>) -> Result<Option<String>, ApiError> {
        let all = || Api::<LeanResource>::all(self.calls.clone());
        let api = namespace.map_or_else(all, |namespace| Api::namespaced(self.calls.clone(), namespace));
        bounded(api.list(&ListParams::default().limit(1))).await.map(|list| list.metadata.resource_version)
    }

    /// Creates a Secret; fails where one of that name exists. A dry run only checks whether it would be accepted.
    pub async fn create_secret(&self, namespace: &str, manifest: &SecretPatch, dry: bool) -> Result<Version, ApiError> {
        let params = PostParams { dry_run: dry, field_manager: Some(MANAGER.to_owned()) };
        create::<Secret>(&self.secrets, namespace, manifest.expose(), &params).await
    }

    /// Changes a Secret. The patch carries the uid and the version of what was evaluated.
    pub async fn patch_secret(&self, namespace: &str, name: &str, patch: &SecretPatch) -> Result<Version, ApiError> {
        let request = Request::new(Secret::url_path(&(), Some(namespace)));
        write::<Secret>(&self.secrets, request.patch(name, &by_us(), &Patch::Merge(patch.expose()))).await
    }

    /// Replaces the status of the resource with this uid; returns the resource's new version.
    pub async fn patch_status(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        status: &ArcGisAppCredentialStatus,
    ) -> Result<ResourceVersion, ApiError> {
        let operations = (
            Operation { op: "test", path: "/metadata/uid", value: uid },
            Operation { op: "add", path: "/status", value: status },
        );
        let body = serde_json::to_vec(&operations).map_err(|_| ApiError::NotSent)?;
        let request = Request::new(ArcGisAppCredential::url_path(&(), Some(namespace)));
        let request =
            request.patch_subresource("status", name, &by_us(), &Patch::<()>::Json(json_patch::Patch::default()));
        // Encoded at once, and not by way of a tree of values.
        let request = request.map(|request| request.map(|_| body));
        Ok(write::<ArcGisAppCredential>(&self.calls, request).await?.resource)
    }

    /// Creates an object that holds no secret.
    pub(super) async fn create_plain<K: Resource<DynamicType = ()>>(
        &self,
        namespace: &str,
        object: &impl Serialize,
    ) -> Result<Version, ApiError> {
        create::<K>(&self.calls, namespace, object, &PostParams::default()).await
    }

    /// The client for calls that carry no secret.
    pub(super) fn calls(&self) -> Client {
        self.calls.clone()
    }

    /// The client for watches, and for the Lease, whose calls never end.
    #[must_use]
    pub fn watches(&self) -> Client {
        self.watches.clone()
    }
}

async fn get<K: Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    name: &str,
    least: Option<String>,
) -> Result<Option<K>, ApiError> {
    let params = GetParams { resource_version: least };
    match bounded(api.get_with(name, &params)).await {
        Err(ApiError::NotFound) => Ok(None),
        read => read.map(Some),
    }
}

async fn create<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: &str,
    object: &impl Serialize,
    params: &PostParams,
) -> Result<Version, ApiError> {
    let body = serde_json::to_vec(object).map_err(|_| ApiError::NotSent)?;
    write::<K>(client, Request::new(K::url_path(&(), Some(namespace))).create(params, body)).await
}

/// Sends a write. The API server answers with the metadata only, not with what was written.
async fn write<K: Resource<DynamicType = ()>>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Version, ApiError> {
    let mut request = request.map_err(|_| ApiError::NotSent)?;
    request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA));
    bounded(client.request::<LeanObject<K>>(request)).await.map(|written| version(&written))
}

fn by_us() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// The identity and version of what the API server returned.
pub fn version<K: Resource>(object: &K) -> Version {
    let meta = object.meta();
    Version::new(meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default())
}
