//! Objects as they are watched and written: only what is in use is decoded.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::api::ArcGisAppCredential;

/// The identity and the version of an object. The API server sends only the metadata, and the rest of that is skipped:
/// objects of others may be many, and their annotations large.
#[derive(Clone, Debug)]
pub struct LeanObject<K> {
    metadata: ObjectMeta,
    kind: PhantomData<K>,
}

impl<'de, K> Deserialize<'de> for LeanObject<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
        }
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }
        let Metadata { name, namespace, uid, resource_version } = Object::deserialize(deserializer)?.metadata;
        let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self { metadata, kind: PhantomData })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for LeanObject<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// An `ArcGisAppCredential`: the metadata in use, and spec and status as text.
///
/// A reconcile decodes its own resource, so that one that cannot be decoded affects no other, and ten thousand of them
/// need little memory.
#[derive(Clone, Debug)]
pub struct LeanResource {
    pub metadata: ObjectMeta,
    pub spec: Box<str>,
    pub status: Box<str>,
}

impl<'de> Deserialize<'de> for LeanResource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
            generation: Option<i64>,
            creation_timestamp: Option<Time>,
            deletion_timestamp: Option<Time>,
            annotations: Option<std::collections::BTreeMap<String, String>>,
        }
        #[derive(Deserialize)]
        struct Raw {
            metadata: Metadata,
            spec: Option<Box<RawValue>>,
            status: Option<Box<RawValue>>,
        }
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let text = |value: Option<Box<RawValue>>| value.map_or_else(|| "null".into(), Box::<str>::from);
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, spec: text(spec), status: text(status) })
    }
}

impl Resource for LeanResource {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ArcGisAppCredential::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ArcGisAppCredential::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ArcGisAppCredential::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ArcGisAppCredential::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
