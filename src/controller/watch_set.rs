//! The watches in progress: which lists are complete, and which watches fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use kube::Client;
use tokio::sync::oneshot::{self, Sender};
use tracing::warn;

use super::relist::Relist;
use super::watch_event::{Scope, Subject, WatchEvent, describe, is_answer, is_lasting};
use super::watches::watch;
use crate::index::ObjectKind;
use crate::ops::{Metrics, Readiness};

/// What a watch is started with.
pub struct WatchSource {
    pub client: Client,
    pub selector: Option<String>,
    pub readiness: Arc<Readiness>,
}

/// What a watch has reported of what exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listed {
    /// Nothing, or not all.
    #[default]
    Never,
    /// All, before it was started again.
    Before,
    /// All, and each change since.
    Complete,
}

#[derive(Default)]
struct Watch {
    listed: Listed,
    /// When it first had to be waited for.
    since: Option<Instant>,
    /// It failed and delivered no event since.
    failing: bool,
    /// `None`: it was stopped.
    handle: Option<AbortHandle>,
    /// What it reports is held until this is dropped.
    held: Option<Sender<()>>,
    /// No resource names an object of it any more.
    unneeded_since: Option<Instant>,
    relist: Relist,
}

/// How long the first list of objects is waited for. After that, what is due reads them, as where a list begins again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a watch goes on that is not needed.
const UNNEEDED: Duration = Duration::from_mins(10);

/// The watches on resources, and on the objects that they name.
#[derive(Default)]
pub struct Watches {
    streams: SelectAll<BoxStream<'static, (Scope, WatchEvent)>>,
    by_scope: BTreeMap<Scope, Watch>,
    /// Every list was complete once. A list that starts later does not make the process unready.
    was_ready: bool,
}

fn scope(what: Subject, namespace: Option<&str>) -> Scope {
    Scope { what, namespace: namespace.map(str::to_owned) }
}

const SECRETS: Subject = Subject::Objects(ObjectKind::Secret);
const CONFIG_MAPS: Subject = Subject::Objects(ObjectKind::ConfigMap);

impl Watches {
    /// Returns the next event.
    pub async fn next(&mut self) -> Option<(Scope, WatchEvent)> {
        if self.streams.is_empty() {
            return std::future::pending().await;
        }
        self.streams.next().await
    }

    /// Starts a new list of the resources in a namespace. A watch on objects that fails is started again, too.
    pub fn restart(&mut self, namespace: Option<&str>, source: &WatchSource) {
        for what in [SECRETS, CONFIG_MAPS] {
            let scope = scope(what, namespace);
            let works = self.get(&scope).is_some_and(|watch| watch.listed == Listed::Complete && !watch.failing);
            if !works {
                self.stop(&scope);
            }
        }
        let resources = scope(Subject::Resources, namespace);
        self.stop(&resources);
        self.start(&resources, source);
        // The API server prepares it meanwhile.
        self.begin(&scope(SECRETS, namespace), source);
    }

    fn get(&self, scope: &Scope) -> Option<&Watch> {
        self.by_scope.get(scope)
    }

    fn is_started(&self, scope: &Scope) -> bool {
        self.get(scope).is_some_and(|watch| watch.handle.is_some())
    }

    /// Lets the watch on Secrets report, once the resources are known that name them.
    pub fn watch_secrets(&mut self, namespace: Option<String>, source: &WatchSource) {
        self.start(&Scope { what: SECRETS, namespace }, source);
    }

    /// Watches ConfigMaps only while a resource names one, and for a while after.
    pub fn watch_config_maps(&mut self, namespace: Option<String>, named: bool, source: &WatchSource, now: Instant) {
        let scope = Scope { what: CONFIG_MAPS, namespace };
        if named {
            self.by_scope.entry(scope.clone()).or_default().unneeded_since = None;
            self.start(&scope, source);
        } else if let Some(watch) = self.by_scope.get_mut(&scope).filter(|watch| watch.handle.is_some()) {
            watch.unneeded_since.get_or_insert(now);
        }
    }

    /// Stops the watches that are not needed any more. Not at once: who applies and deletes a resource repeatedly must not
    /// cause as many lists.
    pub fn stop_unneeded(&mut self, readiness: &Readiness, now: Instant) {
        let unneeded = |watch: &Watch| watch.unneeded_since.is_some_and(|since| now.duration_since(since) >= UNNEEDED);
        let scopes: Vec<Scope> =
            self.by_scope.iter().filter(|(_, watch)| unneeded(watch)).map(|(scope, _)| scope.clone()).collect();
        for scope in scopes {
            self.stop(&scope);
            readiness.satisfied(&scope.to_string());
        }
    }

    /// Stops all watches.
    pub fn stop_all(&mut self) {
        let scopes: Vec<Scope> = self.by_scope.keys().cloned().collect();
        for scope in scopes {
            self.stop(&scope);
        }
    }

    /// Begins a list, and holds what it returns.
    fn begin(&mut self, scope: &Scope, source: &WatchSource) {
        if self.is_started(scope) {
            return;
        }
        let (held, known) = oneshot::channel();
        let (handle, registration) = AbortHandle::new_pair();
        let stream = watch(&source.client, scope, source.selector.as_deref(), known);
        self.streams.push(Abortable::new(stream, registration).boxed());
        let begun = self.by_scope.entry(scope.clone()).or_default();
        (begun.handle, begun.held) = (Some(handle), Some(held));
    }

    /// Begins a list that has not begun, and lets it report.
    fn start(&mut self, scope: &Scope, source: &WatchSource) {
        self.begin(scope, source);
        let started = self.by_scope.entry(scope.clone()).or_default();
        if started.held.take().is_none() {
            return;
        }
        started.since.get_or_insert_with(Instant::now);
        if !self.was_ready {
            source.readiness.waiting(&scope.to_string(), "listing");
        }
        source.readiness.list_started(&scope.to_string());
    }

    fn stop(&mut self, scope: &Scope) {
        let Some(watch) = self.by_scope.get_mut(scope) else { return };
        if let Some(handle) = watch.handle.take() {
            handle.abort();
        }
        let listed = if watch.listed == Listed::Never { Listed::Never } else { Listed::Before };
        *watch = Watch { listed, since: watch.since, ..Watch::default() };
    }

    pub fn relist(&mut self, scope: &Scope) -> &mut Relist {
        &mut self.by_scope.entry(scope.clone()).or_default().relist
    }

    pub fn is_complete(&self, scope: &Scope) -> bool {
        self.get(scope).is_some_and(|watch| watch.listed == Listed::Complete)
    }

    /// Returns how long a resource waits for the lists of its namespace; `None`: until that of the resources is complete.
    /// Objects that are known need no list, nor those of a list that was complete once and begins again, as at a change of
    /// leader. A list may take minutes, or never end.
    pub fn wait(
        &self,
        namespace: Option<&str>,
        names_config_map: bool,
        knows_all: bool,
        now: Instant,
    ) -> Option<Duration> {
        if !self.is_complete(&scope(Subject::Resources, namespace)) {
            return None;
        }
        let left = |what| match self.get(&scope(what, namespace)) {
            Some(watch) if watch.listed != Listed::Never => Duration::ZERO,
            watch => PATIENCE.saturating_sub(now - watch.and_then(|watch| watch.since).unwrap_or(now)),
        };
        let config_maps = if names_config_map { left(CONFIG_MAPS) } else { Duration::ZERO };
        Some(if knows_all { Duration::ZERO } else { left(SECRETS).max(config_maps) })
    }

    /// Records in metrics and readiness whether a watch works.
    pub fn record(&mut self, scope: &Scope, event: &WatchEvent, metrics: &Metrics, readiness: &Readiness) {
        let name = scope.to_string();
        if let Some(error) = event.error() {
            self.by_scope.entry(scope.clone()).or_default().failing = true;
            metrics.watch(&name, true);
            let why = describe(error);
            let blocks = !self.was_ready && !self.is_complete(scope);
            if readiness.failing(&name, why, blocks) {
                warn!(watch = name, "watch failed: {why}");
            }
            readiness.list_failed(&name, is_lasting(error));
            if is_answer(error) {
                readiness.api_answered();
            }
            return;
        }
        if event.begins_list() {
            // Reported before anything is requested. Of a watch that was too old, the list begins now.
            readiness.list_started(&name);
            return;
        }
        readiness.api_answered();
        let watch = self.by_scope.entry(scope.clone()).or_default();
        if std::mem::take(&mut watch.failing) || event.completes_list() {
            // Once per change, and not with each of many objects.
            metrics.watch(&name, false);
        }
    }

    /// Records a complete list.
    pub fn complete(&mut self, scope: &Scope, readiness: &Readiness) {
        readiness.satisfied(&scope.to_string());
        self.by_scope.entry(scope.clone()).or_default().listed = Listed::Complete;
        let mut started = self.by_scope.iter().filter(|(_, watch)| watch.handle.is_some());
        let secrets =
            |namespace: &Option<String>| self.is_complete(&Scope { what: SECRETS, namespace: namespace.clone() });
        self.was_ready |= started.all(|(scope, watch)| {
            watch.listed == Listed::Complete && (scope.what != Subject::Resources || secrets(&scope.namespace))
        });
    }
}

#[cfg(test)]
mod tests;
