//! The event loop: takes watch events into the index, and starts a reconcile for each resource that is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::SelectAll;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::context::Context;
use super::host_limiters::HostLimiters;
use super::leader_election::LeaderElector;
use super::watches::{self, Relist, Scope, WatchEvent, WatchStream, describe};
use super::{preflight, reconciler};
use crate::api::{ArcGisAppCredentialStatus, Reason};
use crate::arcgis::Portals;
use crate::cluster::{Cluster, Leases};
use crate::core::{AllowedOrigin, Digester, RetryAfterRecord, Term, WorkQueue};
use crate::index::{Index, Key};
use crate::ops::{Metrics, Readiness};

/// The clock may be set, or the machine may sleep: due times are checked at least this often.
const TICK: Duration = Duration::from_secs(5);
/// The time for work in flight after a signal to stop; a token request takes at most 15 s.
const GRACE: Duration = Duration::from_secs(16);

/// The settings of the controller.
pub struct Options {
    /// Empty: all namespaces.
    pub namespaces: Vec<String>,
    pub selector: Option<String>,
    pub allowed: Vec<AllowedOrigin>,
    /// How many resources are reconciled at once.
    pub concurrency: usize,
}

/// The parts that the controller works with.
pub struct Parts {
    pub cluster: Cluster,
    /// `None`: without leader election.
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
    /// Lists that are not complete.
    incomplete: BTreeSet<Scope>,
    /// Lists that readiness has waited for once. A later list of the same scope does not make the process unready.
    announced: BTreeSet<Scope>,
    /// Watches that failed and delivered no event since.
    failing: BTreeSet<Scope>,
    objects_watched: bool,
    /// The term that the memory of the resources belongs to.
    term: Option<Term>,
    acting: bool,
    reconciles: JoinSet<(Key, Option<Timestamp>)>,
}

/// Runs the controller until `stop`.
pub async fn run(options: Options, parts: Parts, stop: CancellationToken) {
    let Parts { cluster, leases, portals, index, metrics, readiness, clock } = parts;
    let (requeue, mut requeued) = mpsc::unbounded_channel();
    let (mut leader_elector, mut leadership) = LeaderElector::new(leases, readiness.clone(), clock);
    let ctx = Arc::new(Context {
        cluster,
        portals: Arc::new(portals),
        allowed: options.allowed.clone(),
        digester: Digester::default(),
        index,
        hosts: HostLimiters::new(requeue.clone(), clock),
        leadership: leadership.clone(),
        workers: Arc::new(Semaphore::new(options.concurrency)),
        metrics,
        clock,
        requeue,
        worker_freed: Notify::new(),
    });
    let mut controller = Controller::new(ctx.clone(), options, readiness);
    let services = ctx.portals.services().clone();
    let preflight = preflight::run(ctx.cluster.clone(), controller.scopes(), controller.readiness.clone(), services);
    let _preflight = AbortOnDropHandle::new(tokio::spawn(preflight));
    // A replica that leads from the start lists once, and not as a standby first.
    tokio::select! {
        () = stop.cancelled() => {}
        _ = leader_elector.try_acquire_or_renew() => {}
    }
    let released = CancellationToken::new();
    let election = tokio::spawn(leader_elector.run(released.clone()));
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
            Some(key) = requeued.recv() => controller.requeue(key),
            Some(ended) = controller.reconciles.join_next() => controller.on_reconciled(ended),
            () = ctx.worker_freed.notified() => {}
            () = leadership.changed() => {}
            () = sleep(pause) => {}
        }
    }
    controller.drain().await;
    released.cancel();
    // It ends within 2 s.
    let _ = election.await;
}

impl Controller {
    fn new(ctx: Arc<Context>, options: Options, readiness: Arc<Readiness>) -> Self {
        Self {
            ctx,
            options,
            readiness,
            queue: WorkQueue::default(),
            streams: SelectAll::new(),
            relists: BTreeMap::new(),
            incomplete: BTreeSet::new(),
            announced: BTreeSet::new(),
            failing: BTreeSet::new(),
            objects_watched: false,
            term: None,
            acting: false,
            reconciles: JoinSet::new(),
        }
    }

    fn scopes(&self) -> Vec<Option<String>> {
        if self.options.namespaces.is_empty() {
            vec![None]
        } else {
            self.options.namespaces.iter().cloned().map(Some).collect()
        }
    }

    /// Follows the claim of the leader election. Memory of one term is not valid in another: another replica may have
    /// acted in between, and a watch may lag behind its writes. A term therefore begins like a process, with new lists.
    fn sync_leadership(&mut self) {
        let claim = self.ctx.leadership.claim();
        let term = claim.map(|claim| claim.term);
        if self.term != term && self.reconciles.is_empty() {
            self.ctx.index().forget();
            self.ctx.hosts.clear();
            self.queue = WorkQueue::default();
            self.term = term;
            if term.is_some() {
                self.relist();
            }
        }
        let acting = self.term.is_some_and(|term| self.ctx.leadership.holds(term));
        if !std::mem::replace(&mut self.acting, acting) && acting {
            self.requeue_all();
        }
        self.ctx.metrics.set_leader(acting);
    }

    fn requeue_all(&mut self) {
        let keys: Vec<Key> = self.ctx.index().iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.requeue(key);
        }
    }

    /// Requeues a resource. A standby reconciles nothing; when it becomes the leader, it requeues everything.
    fn requeue(&mut self, key: Key) {
        if self.acting {
            self.queue.add_at(key, Timestamp::MIN);
        }
    }

    fn relist(&mut self) {
        self.streams.clear();
        self.relists.clear();
        self.incomplete.clear();
        self.objects_watched = false;
        self.watch_resources();
    }

    fn synced(&self) -> bool {
        self.objects_watched && self.incomplete.is_empty()
    }

    fn watch_resources(&mut self) {
        let client = self.ctx.cluster.client();
        for namespace in self.scopes() {
            let scope = Scope { what: "arcgisappcredentials.credentials.arcgis.dev", namespace: namespace.clone() };
            self.wait_for(scope);
            self.streams.push(watches::resources(&client, namespace, self.options.selector.as_deref()));
        }
    }

    /// Watches the objects that resources name. The resources have to be known first.
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
        self.incomplete.insert(scope);
    }

    fn on_watch_event(&mut self, scope: &Scope, event: WatchEvent) {
        let complete = event.completes_list();
        if let Some(error) = event.error() {
            self.failing.insert(scope.clone());
            self.ctx.metrics.watch(&scope.to_string(), true);
            let why = describe(error);
            if self.readiness.failing(&scope.to_string(), why, self.incomplete.contains(scope)) {
                warn!(watch = %scope, "watch failed: {why}");
            }
        } else if self.failing.remove(scope) || complete {
            // Once per change, and not with each of many objects.
            self.ctx.metrics.watch(&scope.to_string(), false);
        }
        let relist = self.relists.entry(scope.clone()).or_default();
        let keys = relist.apply(&mut self.ctx.index(), scope, event);
        for key in keys {
            self.requeue(key);
        }
        if complete {
            self.on_list_complete(scope);
        }
    }

    fn on_list_complete(&mut self, scope: &Scope) {
        self.readiness.satisfied(&scope.to_string());
        if !self.incomplete.remove(scope) || !self.incomplete.is_empty() {
            return;
        }
        if self.objects_watched {
            self.restore_pauses();
            self.requeue_all();
            info!(resources = self.ctx.index().iter().count(), "watching");
        } else {
            self.watch_objects();
        }
    }

    /// Restores the pauses that hosts asked for before a restart.
    fn restore_pauses(&self) {
        let mut by_host: BTreeMap<String, Vec<RetryAfterRecord>> = BTreeMap::new();
        for (_, resource) in self.ctx.index().iter() {
            if resource.report.problem != Some(Reason::RateLimited) {
                continue;
            }
            let status: ArcGisAppCredentialStatus = ArcGisAppCredentialStatus::read(&resource.status);
            let host = status.portal.as_deref().and_then(|portal| portal.split('/').next());
            if let (Some(record), Some(host)) = (RetryAfterRecord::of(&status), host) {
                by_host.entry(host.to_owned()).or_default().push(record);
            }
        }
        for (host, records) in by_host {
            self.ctx.hosts.restore(&host, &records);
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
        // When all workers are busy, one that is freed ends the pause.
        Duration::from_millis(u64::try_from(until).unwrap_or(0).max(1)).min(claim.unwrap_or(TICK)).min(TICK)
    }

    fn start_due(&mut self) {
        let Some(term) = self.term.filter(|_| self.acting && self.synced()) else { return };
        let ctx = self.ctx.clone();
        self.queue
            .promote_due(ctx.now(), |key| ctx.index().get(key).and_then(|resource| resource.report.expiration_time));
        while let Ok(worker) = self.ctx.workers.clone().try_acquire_owned() {
            let Some(key) = self.queue.pop() else { break };
            let ctx = self.ctx.clone();
            self.reconciles.spawn(async move {
                let requeue_at = reconciler::run(&ctx, &key, term, worker).await;
                (key, requeue_at)
            });
        }
    }

    fn on_reconciled(&mut self, ended: Result<(Key, Option<Timestamp>), tokio::task::JoinError>) {
        match ended {
            Ok((key, requeue_at)) => self.queue.done(key, requeue_at),
            // A reconcile catches its own panic. Only a second one, while the first is reported, arrives here.
            Err(error) => error!(panicked = error.is_panic(), "a reconcile was lost"),
        }
    }

    async fn drain(&mut self) {
        info!(in_flight = self.reconciles.len(), "stopping: finishing what is in flight");
        let finish = async { while self.reconciles.join_next().await.is_some() {} };
        if timeout(GRACE, finish).await.is_err() {
            warn!("stopped with work in flight");
            self.reconciles.shutdown().await;
        }
    }
}
