//! The loop: watches feed the index, the index wakes resources, and each is looked at in its turn.

mod context;
mod host_limiters;
mod index;
mod leader_election;
mod preflight;
mod reconcile;
#[cfg(test)]
mod tests;
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
use crate::cluster::{Cluster, Leases};
use crate::core::{AllowedOrigin, Digester, RetryAfterRecord, Term, WorkQueue};
use crate::ops::{Metrics, Readiness};
use context::Context;
use host_limiters::HostLimiters;
pub use index::{Index, IndexedResource, Key, Report};
use leader_election::LeaderElector;
use watches::{Relist, Scope, WatchEvent, WatchStream, describe};

/// The clock may jump, or the machine sleep: what is due is looked up at least this often.
const TICK: Duration = Duration::from_secs(5);
/// How long what is in flight may take after a signal to stop; a token request takes 15 s at most.
const GRACE: Duration = Duration::from_secs(16);

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
    /// `None`: without election.
    pub leases: Option<Leases>,
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
    queue: WorkQueue<Key>,
    streams: SelectAll<WatchStream>,
    relists: BTreeMap<Scope, Relist>,
    /// Lists that are not complete yet.
    open: BTreeSet<Scope>,
    /// Lists that were waited for once: what is listed anew is known well enough to be ready.
    announced: BTreeSet<Scope>,
    /// Watches that have failed and told nothing since.
    failing: BTreeSet<Scope>,
    objects_watched: bool,
    /// The term that what is remembered belongs to.
    term: Option<Term>,
    acting: bool,
    jobs: JoinSet<(Key, Option<Timestamp>)>,
}

/// Runs until stopped.
pub async fn run(options: Options, parts: Parts, stop: CancellationToken) {
    let Parts { cluster, leases, portals, index, metrics, readiness, clock } = parts;
    let (wake, mut woken) = mpsc::unbounded_channel();
    let (mut elector, mut leadership) = LeaderElector::new(leases, readiness.clone(), clock);
    let ctx = Arc::new(Context {
        cluster,
        portals: Arc::new(portals),
        allowed: options.allowed.clone(),
        digester: Digester::default(),
        index,
        hosts: HostLimiters::new(wake.clone(), clock),
        leadership: leadership.clone(),
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
        queue: WorkQueue::default(),
        streams: SelectAll::new(),
        relists: BTreeMap::new(),
        open: BTreeSet::new(),
        announced: BTreeSet::new(),
        failing: BTreeSet::new(),
        objects_watched: false,
        term: None,
        acting: false,
        jobs: JoinSet::new(),
    };
    let services = ctx.portals.services().clone();
    let preflight = preflight::run(ctx.cluster.clone(), controller.scopes(), controller.readiness.clone(), services);
    let _preflight = AbortOnDropHandle::new(tokio::spawn(preflight));
    // Whoever leads from the start need not list twice.
    tokio::select! {
        () = stop.cancelled() => {}
        _ = elector.try_acquire_or_renew() => {}
    }
    let released = CancellationToken::new();
    let election = tokio::spawn(elector.run(released.clone()));
    if leadership.claim().is_none() {
        info!("standing by");
        controller.relist();
    }
    loop {
        controller.readiness.beat();
        controller.sync_leadership();
        controller.start_due();
        let pause = controller.pause();
        tokio::select! {
            () = stop.cancelled() => break,
            Some((scope, event)) = controller.streams.next() => controller.on_watch_event(&scope, event),
            Some(key) = woken.recv() => controller.wake(key),
            Some(ended) = controller.jobs.join_next() => controller.ended(ended),
            () = ctx.freed.notified() => {}
            () = leadership.changed() => {}
            () = sleep(pause) => {}
        }
    }
    info!(in_flight = controller.jobs.len(), "stopping: finishing what is in flight");
    let finish = async { while controller.jobs.join_next().await.is_some() {} };
    if timeout(GRACE, finish).await.is_err() {
        warn!("stopped with work in flight");
        controller.jobs.shutdown().await;
    }
    released.cancel();
    // It ends by itself within 2 s.
    let _ = election.await;
}

impl Controller {
    fn scopes(&self) -> Vec<Option<String>> {
        if self.options.namespaces.is_empty() {
            vec![None]
        } else {
            self.options.namespaces.iter().cloned().map(Some).collect()
        }
    }

    /// Goes by the claim. What was remembered in one term is worth nothing in another, as somebody else may have acted
    /// in between, and a watch may be behind what they did: a term begins like a process, with new lists.
    fn sync_leadership(&mut self) {
        let claim = self.ctx.leadership.claim();
        let term = claim.map(|claim| claim.term);
        if self.term != term && self.jobs.is_empty() {
            self.ctx.index().forget();
            self.ctx.hosts.clear();
            self.queue = WorkQueue::default();
            self.term = term;
            if term.is_some() {
                self.relist();
            }
        }
        let acts = self.term.is_some_and(|term| self.ctx.leadership.holds(term));
        if !std::mem::replace(&mut self.acting, acts) && acts {
            self.plan_all();
        }
        self.ctx.metrics.set_leader(acts);
    }

    fn plan_all(&mut self) {
        let keys: Vec<Key> = self.ctx.index().iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.wake(key);
        }
    }

    /// Plans a look. Whoever stands by looks at nothing, and at all when that changes.
    fn wake(&mut self, key: Key) {
        if self.acting {
            self.queue.add_at(key, Timestamp::MIN);
        }
    }

    fn relist(&mut self) {
        self.streams.clear();
        self.relists.clear();
        self.open.clear();
        self.objects_watched = false;
        self.watch_resources();
    }

    fn synced(&self) -> bool {
        self.objects_watched && self.open.is_empty()
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
        if self.announced.insert(scope.clone()) {
            self.readiness.waiting(&scope.to_string(), "listing");
        }
        self.open.insert(scope);
    }

    fn on_watch_event(&mut self, scope: &Scope, event: WatchEvent) {
        let done = event.completes_list();
        if let Some(error) = event.error() {
            self.failing.insert(scope.clone());
            self.ctx.metrics.watch(&scope.to_string(), true);
            let why = describe(error);
            if self.readiness.failing(&scope.to_string(), why, self.open.contains(scope)) {
                warn!(watch = %scope, "watch failed: {why}");
            }
        } else if self.failing.remove(scope) || done {
            // Said once, and not with each of many objects.
            self.ctx.metrics.watch(&scope.to_string(), false);
        }
        let relist = self.relists.entry(scope.clone()).or_default();
        let woken = relist.apply(&mut self.ctx.index.lock().unwrap_or_else(PoisonError::into_inner), scope, event);
        for key in woken {
            self.wake(key);
        }
        if done {
            self.readiness.satisfied(&scope.to_string());
            if self.open.remove(scope) && self.open.is_empty() {
                if self.objects_watched {
                    self.recall_pauses();
                    self.plan_all();
                    info!(resources = self.ctx.index().iter().count(), "watching");
                } else {
                    self.watch_objects();
                }
            }
        }
    }

    /// A host that asked for a pause before a restart still has it.
    fn recall_pauses(&self) {
        let mut by_host: BTreeMap<String, Vec<RetryAfterRecord>> = BTreeMap::new();
        for (_, resource) in self.ctx.index().iter() {
            if resource.report.problem != Some(Reason::RateLimited) {
                continue;
            }
            let status: crate::api::ArcGisAppCredentialStatus =
                serde_json::from_str(&resource.status).unwrap_or_default();
            let host = status.portal.as_deref().and_then(|portal| portal.split('/').next());
            if let (Some(told), Some(host)) = (RetryAfterRecord::of(&status), host) {
                by_host.entry(host.to_owned()).or_default().push(told);
            }
        }
        for (host, told) in by_host {
            self.ctx.hosts.restore(&host, &told);
        }
    }

    fn pause(&self) -> Duration {
        if !self.acting {
            return TICK;
        }
        let claim = self.ctx.leadership.claim().and_then(|claim| claim.left(Instant::now()));
        let until =
            self.queue.next_due().filter(|_| self.synced()).map_or(i64::MAX, |at| {
                i64::try_from(at.duration_since(self.ctx.now()).as_millis()).unwrap_or(i64::MAX)
            });
        // When all places are taken, one that comes free ends the pause.
        Duration::from_millis(u64::try_from(until).unwrap_or(0).max(1)).min(claim.unwrap_or(TICK)).min(TICK)
    }

    fn start_due(&mut self) {
        let Some(term) = self.term.filter(|_| self.acting && self.synced()) else { return };
        let ctx = self.ctx.clone();
        self.queue.promote_due(ctx.now(), |key| ctx.index().get(key).and_then(|resource| resource.report.expires_at));
        while let Ok(permit) = self.ctx.permits.clone().try_acquire_owned() {
            let Some(key) = self.queue.pop() else { break };
            let ctx = self.ctx.clone();
            self.jobs.spawn(async move {
                let wake = look(&ctx, &key, term, permit).await;
                (key, wake)
            });
        }
    }

    fn ended(&mut self, ended: Result<(Key, Option<Timestamp>), tokio::task::JoinError>) {
        match ended {
            Ok((key, wake)) => self.queue.done(key, wake),
            // Looks catch their own panics; only a second one, while reporting the first, comes here.
            Err(error) => error!(panicked = error.is_panic(), "a look was lost"),
        }
    }
}

async fn look(ctx: &Context, key: &Key, term: Term, permit: OwnedSemaphorePermit) -> Option<Timestamp> {
    let started = Instant::now();
    let wake = or_report_bug(ctx, key, term, Box::pin(reconcile::reconcile(ctx, key, term, permit))).await;
    ctx.metrics.looked(started.elapsed());
    // Whether it asked for a token or did not want one, it needs no place at a host any more.
    ctx.hosts.forgo(key);
    wake
}

/// A panic ends one look, and shows on its resource.
async fn or_report_bug(
    ctx: &Context,
    key: &Key,
    term: Term,
    work: impl Future<Output = Option<Timestamp>>,
) -> Option<Timestamp> {
    if let Ok(wake) = AssertUnwindSafe(work).catch_unwind().await {
        return wake;
    }
    error!(namespace = key.namespace, name = key.name, reason = Reason::Internal.as_str(), "a look panicked");
    let permit = ctx.permits.clone().acquire_owned().await.ok()?;
    reconcile::report_bug(ctx, key, term, permit).await
}
