//! Takes the events of watches into the index.

use std::collections::BTreeSet;
use std::sync::Once;

use kube::runtime::watcher::Event;
use tracing::warn;

use super::watch_event::{Scope, WatchEvent};
use crate::cluster::LeanResource;
use crate::core::Version;
use crate::index::{Index, Key, ObjectKind, Seen};

/// Told once.
static ALTERED: Once = Once::new();
const ALTERED_ADVICE: &str = "the API server does not store a status as it is written: apply the operator's CRD, \
    arcgisappcredentials.credentials.arcgis.dev, of this version";

/// The resources that a list in progress has returned so far.
#[derive(Default)]
pub struct Relist(BTreeSet<Key>);

impl Relist {
    /// Applies an event to the index; returns the resources to reconcile.
    pub fn apply(&mut self, index: &mut Index, scope: &Scope, event: WatchEvent) -> Vec<Key> {
        let namespace = scope.namespace.as_deref();
        match event {
            WatchEvent::Resource(Ok(event)) => {
                let keys = self.apply_resource(index, namespace, event);
                if index.take_altered() {
                    ALTERED.call_once(|| warn!("{ALTERED_ADVICE}"));
                }
                keys
            }
            WatchEvent::Object(kind, Ok(event)) => apply_object(index, kind, namespace, event),
            WatchEvent::Resource(Err(_)) | WatchEvent::Object(_, Err(_)) => Vec::new(),
        }
    }

    fn apply_resource(&mut self, index: &mut Index, namespace: Option<&str>, event: Event<LeanResource>) -> Vec<Key> {
        match event {
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
        }
    }
}

fn apply_object(
    index: &mut Index,
    kind: ObjectKind,
    namespace: Option<&str>,
    event: Event<(Key, Version)>,
) -> Vec<Key> {
    match event {
        Event::Init => {
            index.begin_list(kind, namespace);
            Vec::new()
        }
        Event::InitDone => index.complete_list(kind, namespace),
        Event::InitApply((key, version)) => index.observe(kind, &key, version, Seen::Listed),
        Event::Apply((key, version)) => index.observe(kind, &key, version, Seen::Changed),
        Event::Delete((key, version)) => index.observe(kind, &key, version, Seen::Deleted),
    }
}
