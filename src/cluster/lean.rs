//! The resource as it is watched: the metadata in use, and spec and status as text.
//!
//! A reconcile decodes its own resource, so that one that cannot be decoded affects no other, and ten thousand of them
//! need little memory.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::api::ArcGisAppCredential;

/// An `ArcGisAppCredential` that has not been decoded.
#[derive(Clone, Debug)]
pub struct LeanResource {
    pub metadata: ObjectMeta,
    pub spec: Box<str>,
    pub status: Box<str>,
}

impl<'de> Deserialize<'de> for LeanResource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            metadata: ObjectMeta,
            #[serde(default)]
            spec: Value,
            #[serde(default)]
            status: Value,
        }
        let Raw { mut metadata, spec, status } = Raw::deserialize(deserializer)?;
        metadata.managed_fields = None;
        Ok(Self { metadata, spec: spec.to_string().into(), status: status.to_string().into() })
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
