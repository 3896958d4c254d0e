//! The watches: resources whole, Secrets and `ConfigMap`s by their metadata only. Each has its own back-off.

use std::collections::BTreeSet;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};

use super::index::{Index, Key, ObjectKind};
use crate::cluster::{LeanResource, version};
use crate::core::Version;

/// Something a watch has told.
#[allow(clippy::large_enum_variant, reason = "passed on at once and never kept")]
pub enum News {
    Resource(Change<LeanResource>),
    Object(ObjectKind, Change<(Key, Version)>),
}

/// One change in one watch.
pub enum Change<T> {
    ListStarted,
    Listed(T),
    ListDone,
    Changed(T),
    Gone(T),
    Failed(watcher::Error),
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

/// News, and from which watch.
pub type NewsStream = BoxStream<'static, (Scope, News)>;

/// The text of the API server is not repeated: what to do is.
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

fn changes<K: Send + 'static, T: 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    of: impl Fn(K) -> T + Send + 'static,
) -> impl Stream<Item = Change<T>> + Send + 'static {
    events.map(move |event| match event {
        Ok(Event::Init) => Change::ListStarted,
        Ok(Event::InitApply(object)) => Change::Listed(of(object)),
        Ok(Event::InitDone) => Change::ListDone,
        Ok(Event::Apply(object)) => Change::Changed(of(object)),
        Ok(Event::Delete(object)) => Change::Gone(of(object)),
        Err(error) => Change::Failed(error),
    })
}

/// The watch on resources in one namespace, or in all.
pub fn resources(client: &Client, namespace: Option<String>, selector: Option<&str>) -> NewsStream {
    let config = selector.map_or_else(watcher::Config::default, |labels| watcher::Config::default().labels(labels));
    let events = watcher(api::<LeanResource>(client, namespace.as_deref()), config).default_backoff();
    let scope = Scope { what: "arcgisappcredentials.credentials.arcgis.dev", namespace };
    changes(events, |resource| resource).map(move |change| (scope.clone(), News::Resource(change))).boxed()
}

/// The watches on what resources name, in one namespace, or in all.
pub fn objects(client: &Client, namespace: Option<&str>) -> [NewsStream; 2] {
    [
        metadata::<Secret>(client, namespace, ObjectKind::Secret, "secrets"),
        metadata::<ConfigMap>(client, namespace, ObjectKind::ConfigMap, "configmaps"),
    ]
}

fn metadata<K>(client: &Client, namespace: Option<&str>, kind: ObjectKind, what: &'static str) -> NewsStream
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
    let of = |object: PartialObjectMeta<K>| (key(&object), version(&object));
    changes(events, of).map(move |change| (scope.clone(), News::Object(kind, change))).boxed()
}

fn key<K: Resource>(object: &K) -> Key {
    Key {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

/// The resources that a list under way has shown so far.
#[derive(Default)]
pub struct Listing(BTreeSet<Key>);

impl Listing {
    /// Takes news into the index; returns whom it concerns.
    pub fn apply(&mut self, index: &mut Index, scope: &Scope, news: News) -> Vec<Key> {
        let namespace = scope.namespace.as_deref();
        match news {
            News::Resource(change) => match change {
                Change::ListStarted => {
                    self.0.clear();
                    Vec::new()
                }
                Change::Listed(resource) => {
                    self.0.insert(key(&resource));
                    index.upsert(resource)
                }
                Change::ListDone => index.retain(namespace, &std::mem::take(&mut self.0)),
                Change::Changed(resource) => index.upsert(resource),
                Change::Gone(resource) => index.remove(&key(&resource)),
                Change::Failed(_) => Vec::new(),
            },
            News::Object(kind, change) => match change {
                Change::ListStarted => {
                    index.await_all(kind, namespace);
                    Vec::new()
                }
                Change::ListDone => index.settle(kind, namespace),
                Change::Listed((key, version)) | Change::Changed((key, version)) => {
                    index.observe(kind, key, version, false)
                }
                Change::Gone((key, version)) => index.observe(kind, key, version, true),
                Change::Failed(_) => Vec::new(),
            },
        }
    }
}
