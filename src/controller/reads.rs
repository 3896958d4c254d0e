//! Reads of the objects that resources name. One that the watch has reported is read from the cache of the API server, not
//! older than that.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;

use super::context::Context;
use super::sources::Objects;
use crate::cluster::{ApiError, version};
use crate::core::Version;
use crate::index::ObjectKind;

/// The objects of a namespace.
pub(super) struct Reads<'a> {
    pub ctx: &'a Context,
    pub namespace: &'a str,
}

impl Objects for Reads<'_> {
    async fn secret(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        let known = self.known(ObjectKind::Secret, name);
        let get = |least| self.ctx.cluster.secret(self.namespace, name, least);
        let first = get(known.as_ref().map(|known| known.resource.to_string())).await;
        self.settle(known.as_ref(), first, get(None)).await
    }

    async fn config_map(&self, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        let known = self.known(ObjectKind::ConfigMap, name);
        let get = |least| self.ctx.cluster.config_map(self.namespace, name, least);
        let first = get(known.as_ref().map(|known| known.resource.to_string())).await;
        self.settle(known.as_ref(), first, get(None)).await
    }
}

impl Reads<'_> {
    /// Reads a Secret as it is now, where a write has shown that it is not as the watch reported it.
    pub async fn latest_secret(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        let known = self.known(ObjectKind::Secret, name);
        let read = self.ctx.cluster.secret(self.namespace, name, None).await?;
        self.compare(known.as_ref(), read.as_ref(), false);
        Ok(read)
    }

    fn known(&self, kind: ObjectKind, name: &str) -> Option<Version> {
        self.ctx.index().observed::<()>(kind, self.namespace, name).version().cloned()
    }

    async fn settle<K: Resource>(
        &self,
        known: Option<&Version>,
        first: Result<Option<K>, ApiError>,
        latest: impl Future<Output = Result<Option<K>, ApiError>>,
    ) -> Result<Option<K>, ApiError> {
        let (read, unknown) = match first {
            // The API server has waited for this version, and does not know it.
            Err(ApiError::Failed(504)) if known.is_some() => (latest.await?, true),
            first => (first?, false),
        };
        self.compare(known, read.as_ref(), unknown);
        Ok(read)
    }

    fn compare<K: Resource>(&self, known: Option<&Version>, read: Option<&K>, unknown: bool) {
        if let Some(known) = known {
            self.ctx.revisions.read(known, read.map(version).as_ref(), unknown);
        }
    }
}
