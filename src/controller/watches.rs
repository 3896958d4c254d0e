//! The watches: on resources, and on the metadata of Secrets and ConfigMaps. Each has its own back-off.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};

use crate::cluster::{LeanResource, version};
use crate::core::Version;
use crate::index::{Index, Key, ObjectKind};

/// An event of a watch.
#[allow(clippy::large_enum_variant, reason = "passed on at once and never kept")]
pub enum WatchEvent {
    Resource(watcher::Result<Event<LeanResource>>),
    Object(ObjectKind, watcher::Result<Event<(Key, Version)>>),
}

impl WatchEvent {
    /// Whether a list is complete with it.
    pub fn completes_list(&self) -> bool {
        matches!(self, Self::Resource(Ok(Event::InitDone)) | Self::Object(_, Ok(Event::InitDone)))
    }

    /// Returns why the watch failed.
    pub fn error(&self) -> Option<&watcher::Error> {
        match self {
            Self::Resource(event) => event.as_ref().err(),
            Self::Object(_, event) => event.as_ref().err(),
        }
    }
}

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub what: &'static str,
    pub namespace: Option<String>,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace {namespace}", self.what),
            None => f.write_str(self.what),
        }
    }
}

/// Events, and the watch that each comes from.
pub type WatchStream = BoxStream<'static, (Scope, WatchEvent)>;

/// Returns what to do about a failed watch. The API server's own text is not repeated.
pub fn describe(error: &watcher::Error) -> &'static str {
    use watcher::Error;
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            status
        }
        Error::WatchError(status) => status,
        _ => return "the API server cannot be reached",
    };
    match status.code {
        401 => "the operator's credentials for the API server are not accepted",
        403 => "missing right to list and watch: apply the operator's RBAC",
        404 => "unknown to the API server: install the CRD",
        410 => "the watch was too old: listing again",
        _ => "the API server failed",
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Maps the object of an event.
fn map<K, T>(event: Event<K>, of: impl FnOnce(K) -> T) -> Event<T> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
    }
}

/// Watches resources in one namespace, or in all.
pub fn resources(client: &Client, namespace: Option<String>, selector: Option<&str>) -> WatchStream {
    let config = selector.map_or_else(watcher::Config::default, |labels| watcher::Config::default().labels(labels));
    let events = watcher(api::<LeanResource>(client, namespace.as_deref()), config).default_backoff();
    let scope = Scope { what: "arcgisappcredentials.credentials.arcgis.dev", namespace };
    events.map(move |event| (scope.clone(), WatchEvent::Resource(event))).boxed()
}

/// Watches the objects that resources name, in one namespace, or in all.
pub fn objects(client: &Client, namespace: Option<&str>) -> [WatchStream; 2] {
    [
        metadata::<Secret>(client, namespace, ObjectKind::Secret, "secrets"),
        metadata::<ConfigMap>(client, namespace, ObjectKind::ConfigMap, "configmaps"),
    ]
}

fn metadata<K>(client: &Client, namespace: Option<&str>, kind: ObjectKind, what: &'static str) -> WatchStream
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api = api::<PartialObjectMeta<K>>(client, namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let scope = Scope { what, namespace: namespace.map(str::to_owned) };
    let identity = |object: PartialObjectMeta<K>| (key(&object), version(&object));
    events.map(move |event| (scope.clone(), WatchEvent::Object(kind, event.map(|event| map(event, identity))))).boxed()
}

fn key<K: Resource>(object: &K) -> Key {
    Key {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

/// The resources that a list in progress has returned so far.
#[derive(Default)]
pub struct Relist(BTreeSet<Key>);

impl Relist {
    /// Applies an event to the index; returns the resources to reconcile.
    pub fn apply(&mut self, index: &mut Index, scope: &Scope, event: WatchEvent) -> Vec<Key> {
        let namespace = scope.namespace.as_deref();
        match event {
            WatchEvent::Resource(Ok(event)) => match event {
                Event::Init => {
                    self.0.clear();
                    Vec::new()
                }
                Event::InitApply(resource) => {
                    self.0.insert(key(&resource));
                    index.upsert(resource)
                }
                Event::InitDone => index.retain(namespace, &std::mem::take(&mut self.0)),
                Event::Apply(resource) => index.upsert(resource),
                Event::Delete(resource) => index.remove(&key(&resource)),
            },
            WatchEvent::Object(kind, Ok(event)) => match event {
                Event::Init => {
                    index.begin_list(kind, namespace);
                    Vec::new()
                }
                Event::InitDone => index.complete_list(kind, namespace),
                Event::InitApply((key, version)) | Event::Apply((key, version)) => {
                    index.observe(kind, key, version, false)
                }
                Event::Delete((key, version)) => index.observe(kind, key, version, true),
            },
            WatchEvent::Resource(Err(_)) | WatchEvent::Object(_, Err(_)) => Vec::new(),
        }
    }
}
