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
    /// The annotation that requests a new token.
    pub requested_at: Option<String>,
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
            annotations: Option<Annotations>,
        }
        // The others are skipped: there may be tens of thousands.
        #[derive(Deserialize)]
        struct Annotations {
            #[serde(rename = "credentials.arcgis.dev/requested-at")]
            requested_at: Option<String>,
        }
        #[derive(Deserialize)]
        struct Raw {
            metadata: Metadata,
            spec: Option<Box<RawValue>>,
            status: Option<Box<RawValue>>,
        }
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let text = |value: Option<Box<RawValue>>| value.map_or_else(|| "null".into(), Box::<str>::from);
        let requested_at = metadata.annotations.and_then(|annotations| annotations.requested_at);
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, requested_at, spec: text(spec), status: text(status) })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn of_many_annotations_only_the_one_in_use_is_kept() {
        let decode = |annotations: serde_json::Value| {
            let object = serde_json::json!({"metadata": {"name": "a", "annotations": annotations}}).to_string();
            serde_json::from_str::<LeanResource>(&object).unwrap().requested_at
        };
        let mut many: serde_json::Map<_, _> = (0..1000).map(|n| (format!("a{n}"), "".into())).collect();
        assert_eq!(decode(many.clone().into()), None);
        many.insert("credentials.arcgis.dev/requested-at".to_owned(), "now".into());
        assert_eq!(decode(many.into()), Some("now".to_owned()));
        assert_eq!(decode(serde_json::Value::Null), None);
    }
}
