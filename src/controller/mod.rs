//! The loop: watches feed the index, the index wakes resources, and each is looked at in its turn.

mod agenda;
mod context;
mod hosts;
mod index;
mod preflight;
mod reconcile;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::api::Reason;
use crate::arcgis::Portals;
use crate::cluster::Cluster;
use crate::core::{AllowedOrigin, Digester};
use crate::ops::{Metrics, Readiness};
use agenda::Agenda;
use context::Context;
use hosts::Hosts;
pub use index::{Entry, Index, Key, Report};
use watches::{Change, Listing, News, NewsStream, Scope};

/// The clock may jump, or the machine sleep: what is due is looked up at least this often.
const TICK: Duration = Duration::from_secs(5);
/// How long what is in flight may take after a signal to stop.
const GRACE: Duration = Duration::from_secs(17);

/// What the controller is told by its flags.
pub struct Options {
    /// Empty: all.
    pub namespaces: Vec<String>,
    pub selector: Option<String>,
    pub allowed: Vec<AllowedOrigin>,
    pub concurrency: usize,
}

/// What the controller works with.
pub struct Parts {
    pub cluster: Cluster,
    pub portals: Portals,
    pub index: Arc<Mutex<Index>>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub clock: fn() -> Timestamp,
}

struct Controller {
    ctx: Arc<Context>,
    options: Options,
    readiness: Arc<Readiness>,
    agenda: Agenda,
    streams: SelectAll<NewsStream>,
    listings: BTreeMap<Scope, Listing>,
    /// Lists that are not complete yet.
    open: BTreeSet<Scope>,
    objects_watched: bool,
    jobs: JoinSet<(Key, Option<Timestamp>)>,
}

/// Runs until stopped.
pub async fn run(options: Options, parts: Parts, stop: CancellationToken) {
    let Parts { cluster, portals, index, metrics, readiness, clock } = parts;
    let (wake, mut woken) = mpsc::unbounded_channel();
    let ctx = Arc::new(Context {
        cluster,
        portals: Arc::new(portals),
        allowed: options.allowed.clone(),
        digester: Digester::default(),
        index,
        hosts: Hosts::new(wake.clone(), clock),
        permits: Arc::new(Semaphore::new(options.concurrency)),
        metrics,
        clock,
        wake,
        freed: Notify::new(),
    });
    let mut controller = Controller {
        ctx: ctx.clone(),
        options,
        readiness,
        agenda: Agenda::default(),
        streams: SelectAll::new(),
        listings: BTreeMap::new(),
        open: BTreeSet::new(),
        objects_watched: false,
        jobs: JoinSet::new(),
    };
    controller.watch_resources();
    let services = ctx.portals.services().clone();
    let preflight = preflight::run(ctx.cluster.clone(), controller.scopes(), controller.readiness.clone(), services);
    let _preflight = AbortOnDropHandle::new(tokio::spawn(preflight));
    loop {
        controller.readiness.beat();
        controller.start_due();
        let pause = controller.pause();
        tokio::select! {
            () = stop.cancelled() => break,
            Some((scope, news)) = controller.streams.next() => controller.hear(&scope, news),
            Some(key) = woken.recv() => controller.agenda.plan(key, Timestamp::MIN),
            Some(ended) = controller.jobs.join_next() => controller.ended(ended),
            () = ctx.freed.notified() => {}
            () = sleep(pause) => {}
        }
    }
    info!(in_flight = controller.jobs.len(), "stopping: finishing what is in flight");
    let finish = async { while controller.jobs.join_next().await.is_some() {} };
    if timeout(GRACE, finish).await.is_err() {
        warn!("stopped with work in flight");
    }
}

impl Controller {
    fn scopes(&self) -> Vec<Option<String>> {
        if self.options.namespaces.is_empty() {
            vec![None]
        } else {
            self.options.namespaces.iter().cloned().map(Some).collect()
        }
    }

    fn watch_resources(&mut self) {
        let client = self.ctx.cluster.client();
        for namespace in self.scopes() {
            let scope = Scope { what: "arcgisappcredentials.credentials.arcgis.dev", namespace: namespace.clone() };
            self.wait_for(scope);
            self.streams.push(watches::resources(&client, namespace, self.options.selector.as_deref()));
        }
    }

    /// Only once the resources are known is it known which objects matter.
    fn watch_objects(&mut self) {
        self.objects_watched = true;
        let client = self.ctx.cluster.client();
        for namespace in self.scopes() {
            for what in ["secrets", "configmaps"] {
                self.wait_for(Scope { what, namespace: namespace.clone() });
            }
            for stream in watches::objects(&client, namespace.as_deref()) {
                self.streams.push(stream);
            }
        }
    }

    fn wait_for(&mut self, scope: Scope) {
        self.readiness.waiting(&scope.to_string(), "listing");
        self.open.insert(scope);
    }

    fn hear(&mut self, scope: &Scope, news: News) {
        let (done, failed) = match &news {
            News::Resource(Change::ListDone) | News::Object(_, Change::ListDone) => (true, None),
            News::Resource(Change::Failed(error)) | News::Object(_, Change::Failed(error)) => (false, Some(error)),
            _ => (false, None),
        };
        self.ctx.metrics.watch(&scope.to_string(), failed.is_some());
        if let Some(error) = failed {
            let why = describe(error);
            if self.readiness.failing(&scope.to_string(), why, self.open.contains(scope)) {
                warn!(watch = %scope, "watch failed: {why}");
            }
        }
        let listing = self.listings.entry(scope.clone()).or_default();
        let woken = listing.apply(&mut self.ctx.index.lock().unwrap_or_else(PoisonError::into_inner), scope, news);
        for key in woken {
            self.agenda.plan(key, Timestamp::MIN);
        }
        if done {
            self.readiness.listed(&scope.to_string());
            if self.open.remove(scope) && self.open.is_empty() {
                if self.objects_watched {
                    self.recall_pauses();
                    info!(resources = self.ctx.index().iter().count(), "watching");
                } else {
                    self.watch_objects();
                }
            }
        }
    }

    /// A host that asked for a pause before a restart still has it.
    fn recall_pauses(&self) {
        let now = self.ctx.now();
        for (_, resource) in self.ctx.index().iter() {
            if resource.report.problem != Some(Reason::RateLimited) {
                continue;
            }
            let status: crate::api::ArcGisAppCredentialStatus =
                serde_json::from_str(&resource.status).unwrap_or_default();
            let (Some(failure), Some(portal)) = (status.failure, status.portal) else { continue };
            let (Some(asked), Some(until)) = (failure.last_attempt_at, failure.next_attempt_at) else { continue };
            let left = (until.as_second().min(asked.as_second() + 300) - now.as_second()).clamp(0, 300);
            if let (Ok(left @ 1..), Some(host)) = (u32::try_from(left), portal.split('/').next()) {
                self.ctx.hosts.recall(host, left);
            }
        }
    }

    fn pause(&self) -> Duration {
        let until = self
            .agenda
            .next()
            .map_or(i64::MAX, |at| i64::try_from(at.duration_since(self.ctx.now()).as_millis()).unwrap_or(i64::MAX));
        // When all places are taken, one that comes free ends the pause.
        Duration::from_millis(u64::try_from(until).unwrap_or(0).max(1)).min(TICK)
    }

    fn start_due(&mut self) {
        if !self.open.is_empty() || !self.objects_watched {
            return;
        }
        let ctx = self.ctx.clone();
        self.agenda.advance(ctx.now(), |key| ctx.index().get(key).and_then(|resource| resource.report.expires_at));
        while let Ok(permit) = self.ctx.permits.clone().try_acquire_owned() {
            let Some(key) = self.agenda.start() else { break };
            let ctx = self.ctx.clone();
            self.jobs.spawn(async move {
                let wake = look(&ctx, &key, permit).await;
                (key, wake)
            });
        }
    }

    fn ended(&mut self, ended: Result<(Key, Option<Timestamp>), tokio::task::JoinError>) {
        match ended {
            Ok((key, wake)) => self.agenda.done(key, wake),
            // Looks catch their own panics; only a second one, while reporting the first, comes here.
            Err(error) => error!(panicked = error.is_panic(), "a look was lost"),
        }
    }
}

async fn look(ctx: &Context, key: &Key, permit: OwnedSemaphorePermit) -> Option<Timestamp> {
    let started = Instant::now();
    let outcome = AssertUnwindSafe(reconcile::reconcile(ctx, key, permit)).catch_unwind().await;
    ctx.metrics.looked(started.elapsed());
    if let Ok(wake) = outcome {
        return wake;
    }
    error!(namespace = key.namespace, name = key.name, reason = Reason::Internal.as_str(), "a look panicked");
    let permit = ctx.permits.clone().acquire_owned().await.ok()?;
    reconcile::report_bug(ctx, key, permit).await
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace {namespace}", self.what),
            None => f.write_str(self.what),
        }
    }
}

/// The text of the API server is not repeated: what to do is.
fn describe(error: &kube::runtime::watcher::Error) -> &'static str {
    use kube::runtime::watcher::Error;
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
