//! Records every token that is published, from a watch on the targets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::checks::Publication;
use crate::support::TestEnv;

const MANAGER: &str = "arcgis-credential-operator";

/// The tokens of each resource, in order.
type Published = BTreeMap<usize, Vec<Publication>>;

pub struct Observer {
    published: Arc<Mutex<Published>>,
    _watch: AbortOnDropHandle<()>,
}

impl Observer {
    /// Starts to watch, and starts again when etcd was restored.
    pub fn start(env: &TestEnv, mut restored: watch::Receiver<()>) -> Self {
        let published = Arc::new(Mutex::new(Published::new()));
        let written = published.clone();
        let targets = Api::<PartialObjectMeta<Secret>>::namespaced(env.client.clone(), &env.namespace);
        let ours = Config::default().labels("app.kubernetes.io/managed-by=arcgis-credential-operator");
        let watch = tokio::spawn(async move {
            let watched = || watcher(targets.clone(), ours.clone()).default_backoff().boxed();
            let mut events = watched();
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    Ok(()) = restored.changed() => {
                        events = watched();
                        continue;
                    }
                };
                if let Some(Ok(Event::Apply(target) | Event::InitApply(target))) = event
                    && let Some((resource, publication)) = publication(&target)
                {
                    let mut published = written.lock().unwrap();
                    let tokens: &mut Vec<Publication> = published.entry(resource).or_default();
                    // Another write of the same token is no publication, and a list may be older than what was seen.
                    if tokens.last().is_none_or(|last| last.issued < publication.issued) {
                        tokens.push(publication);
                    }
                }
            }
        });
        Self { published, _watch: AbortOnDropHandle::new(watch) }
    }

    pub fn published(&self) -> Published {
        self.published.lock().unwrap().clone()
    }
}

fn publication(target: &PartialObjectMeta<Secret>) -> Option<(usize, Publication)> {
    let resource = target.name_any().strip_prefix('r')?.strip_suffix("-token")?.parse().ok()?;
    let issued: Timestamp = target.annotations().get("credentials.arcgis.dev/issued-at")?.parse().ok()?;
    let fields = target.managed_fields().iter().filter(|fields| fields.manager.as_deref() == Some(MANAGER));
    let at = fields.filter_map(|fields| fields.time.as_ref()).map(|time| time.0.as_millisecond()).max()?;
    Some((resource, Publication { issued: issued.as_millisecond(), at }))
}
