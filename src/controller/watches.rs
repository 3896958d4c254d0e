//! The watches: on resources, and on the metadata of Secrets and ConfigMaps. Each has its own back-off.

use std::collections::BTreeSet;
use std::future::ready;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::{LeanObject, LeanResource, bounded, version};
use crate::core::Version;
use crate::index::{Index, Key, ObjectKind, Seen};

/// How long one watch request lasts, in seconds. Less than the read time-out of the client.
const WATCH_SECONDS: u32 = 60;
/// A page is held in memory as a whole, and its objects may be as large as etcd accepts.
const PAGE: u32 = 32;

/// An event of a watch.
#[allow(clippy::large_enum_variant, reason = "passed on at once and never kept")]
pub enum WatchEvent {
    Resource(watcher::Result<Event<LeanResource>>),
    Object(ObjectKind, watcher::Result<Event<(Key, Version)>>),
}

impl WatchEvent {
    /// Whether it completes a list.
    pub fn completes_list(&self) -> bool {
        matches!(self, Self::Resource(Ok(Event::InitDone)) | Self::Object(_, Ok(Event::InitDone)))
    }

    /// Whether it begins a list.
    pub fn begins_list(&self) -> bool {
        matches!(self, Self::Resource(Ok(Event::Init)) | Self::Object(_, Ok(Event::Init)))
    }

    /// Returns why the watch failed.
    pub fn error(&self) -> Option<&watcher::Error> {
        match self {
            Self::Resource(event) => event.as_ref().err(),
            Self::Object(_, event) => event.as_ref().err(),
        }
    }
}

/// What a watch is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    Resources,
    Objects(ObjectKind),
}

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub what: Watched,
    /// `None`: all namespaces.
    pub namespace: Option<String>,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.what {
            Watched::Resources => "arcgisappcredentials.credentials.arcgis.dev",
            Watched::Objects(ObjectKind::Secret) => "secrets",
            Watched::Objects(ObjectKind::ConfigMap) => "configmaps",
        })?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in namespace {namespace}"))
    }
}

/// Events, and the watch that each comes from.
pub type WatchStream = BoxStream<'static, (Scope, WatchEvent)>;

/// Whether the failure lasts until an administrator acts: the permission or the kind is missing.
pub fn is_lasting(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| matches!(status.code, 403 | 404))
}

/// Whether the API server answered with an error.
pub fn is_answer(error: &watcher::Error) -> bool {
    status(error).is_some()
}

fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            Some(status)
        }
        Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// Returns what to do about a failed watch. The API server's own text is not repeated.
pub fn describe(error: &watcher::Error) -> &'static str {
    let Some(status) = status(error) else { return "the API server cannot be reached" };
    match status.code {
        401 => "the operator's credentials for the API server are not accepted",
        403 => "the permission to list and watch is missing: apply the operator's RBAC",
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

/// The settings of a watch. The API server ends it every minute, so that one whose connection has died without a word is
/// noticed by the read time-out of the client.
fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Watches what a scope covers.
pub fn watch(client: &Client, scope: &Scope, selector: Option<&str>) -> WatchStream {
    match scope.what {
        Watched::Resources => resources(client, scope.clone(), selector),
        Watched::Objects(ObjectKind::Secret) => metadata::<Secret>(client, scope.clone(), ObjectKind::Secret),
        Watched::Objects(ObjectKind::ConfigMap) => metadata::<ConfigMap>(client, scope.clone(), ObjectKind::ConfigMap),
    }
}

fn resources(client: &Client, scope: Scope, selector: Option<&str>) -> WatchStream {
    let config = config().page_size(PAGE);
    let config = selector.into_iter().fold(config, watcher::Config::labels);
    let events = watcher(api::<LeanResource>(client, scope.namespace.as_deref()), config).default_backoff();
    events.map(move |event| (scope.clone(), WatchEvent::Resource(event))).boxed()
}

/// Watches metadata. The API server streams a list of many objects, one after the other. One that does not, or not within
/// the time of a watch, is asked for pages. They are small: a page is held in memory as a whole.
///
/// A streamed list may be older than the last write. That does no harm here, because what is written to an object is
/// checked against its version.
fn metadata<K>(client: &Client, scope: Scope, kind: ObjectKind) -> WatchStream
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api = api::<LeanObject<K>>(client, scope.namespace.as_deref());
    let paged = watcher(api.clone(), config().page_size(PAGE)).default_backoff();
    let streamed = watcher(api.clone(), config().streaming_lists()).default_backoff();
    let mut listing = false;
    let streamed = streamed.take_while(move |event| ready(!is_unable_to_stream(&mut listing, event)));
    let events = stream::once(async move {
        if fits_on_a_page(api).await { paged.left_stream() } else { streamed.chain(paged).right_stream() }
    })
    .flatten();
    let identity = |object: LeanObject<K>| (Key::of(object.meta()), version(&object));
    events.map(move |event| (scope.clone(), WatchEvent::Object(kind, event.map(|event| map(event, identity))))).boxed()
}

/// Whether there are so few objects that nothing is gained by a stream.
async fn fits_on_a_page<K: Clone + DeserializeOwned + std::fmt::Debug>(api: Api<K>) -> bool {
    let first = bounded(api.list(&ListParams::default().limit(1))).await;
    first.is_ok_and(|first| {
        let is_all = first.metadata.continue_.is_none_or(|token| token.is_empty());
        is_all || first.metadata.remaining_item_count.is_some_and(|rest| rest < PAGE.into())
    })
}

/// Whether the API server refuses to stream a list, or began another one before the last was complete.
fn is_unable_to_stream<K>(listing: &mut bool, event: &watcher::Result<Event<K>>) -> bool {
    match event {
        Ok(Event::Init) => std::mem::replace(listing, true),
        Ok(Event::InitDone) => {
            *listing = false;
            false
        }
        Ok(_) => false,
        Err(error) => status(error).is_some_and(|status| matches!(status.code, 400 | 422)),
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
                    index.begin_resource_list(namespace);
                    Vec::new()
                }
                Event::InitApply(resource) => {
                    self.0.insert(Key::of(&resource.metadata));
                    index.upsert(resource, true)
                }
                Event::InitDone => index.retain(namespace, &std::mem::take(&mut self.0)),
                Event::Apply(resource) => index.upsert(resource, false),
                Event::Delete(resource) => index.remove(&Key::of(&resource.metadata)),
            },
            WatchEvent::Object(kind, Ok(event)) => match event {
                Event::Init => {
                    index.begin_list(kind, namespace);
                    Vec::new()
                }
                Event::InitDone => index.complete_list(kind, namespace),
                Event::InitApply((key, version)) => index.observe(kind, key, version, Seen::Listed),
                Event::Apply((key, version)) => index.observe(kind, key, version, Seen::Changed),
                Event::Delete((key, version)) => index.observe(kind, key, version, Seen::Deleted),
            },
            WatchEvent::Resource(Err(_)) | WatchEvent::Object(_, Err(_)) => Vec::new(),
        }
    }
}
