//! The event loop: takes watch events into the index, and starts a reconcile for each resource that is due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::clock_monitor::ClockMonitor;
use super::context::Context;
use super::host_limiters::HostLimiters;
use super::leader_election::LeaderElector;
use super::watch_set::{WatchSource, Watches};
use super::watches::{Scope, Subject, WatchEvent};
use super::{observe, preflight, reconciler};
use crate::api::{ArcGisAppCredentialStatus, Reason};
use crate::arcgis::Portals;
use crate::cluster::{Cluster, Leases};
use crate::core::{AllowedOrigin, Digester, RetryAfterRecord, Term, WorkQueue};
use crate::index::{Index, IndexedResource, Key};
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
    pub portals: Arc<Portals>,
    /// Notified when the roots that the operator trusts for every portal changed.
    pub roots_changed: Arc<Notify>,
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
    watches: Watches,
    clock: ClockMonitor,
    /// The term that the memory of the resources belongs to.
    term: Option<Term>,
    acting: bool,
    reconciles: JoinSet<(Key, Option<Timestamp>)>,
}

/// Runs the controller until `stop`.
pub async fn run(options: Options, parts: Parts, stop: CancellationToken) {
    let Parts { cluster, leases, portals, roots_changed, index, metrics, readiness, clock } = parts;
    let (requeue, mut requeued) = mpsc::unbounded_channel();
    let (recovered, mut hosts_recovered) = mpsc::unbounded_channel();
    let (mut leader_elector, mut leadership) = LeaderElector::new(leases, readiness.clone(), clock);
    let ctx = Arc::new(Context {
        cluster,
        portals,
        allowed: options.allowed.clone(),
        digester: Digester::default(),
        index,
        hosts: HostLimiters::new(requeue.clone(), recovered, clock),
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
        controller.begin_term();
    }
    loop {
        controller.readiness.beat();
        controller.watches.stop_unneeded(&controller.readiness, Instant::now());
        controller.check_clock();
        controller.sync_leadership();
        controller.probe_hosts();
        controller.start_due();
        let pause = controller.pause();
        tokio::select! {
            () = stop.cancelled() => break,
            Some((scope, event)) = controller.watches.next() => controller.on_watch_event(&scope, event),
            Some(key) = requeued.recv() => controller.requeue(key),
            Some(host) = hosts_recovered.recv() => controller.on_host_recovered(&host),
            Some(ended) = controller.reconciles.join_next() => controller.on_reconciled(ended),
            () = ctx.worker_freed.notified() => {}
            () = roots_changed.notified() => controller.on_roots_changed(),
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
        let clock = ClockMonitor::new(ctx.now());
        Self {
            ctx,
            options,
            readiness,
            queue: WorkQueue::default(),
            watches: Watches::default(),
            clock,
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
                self.begin_term();
            }
        }
        let acting = self.term.is_some_and(|term| self.ctx.leadership.holds(term));
        if !std::mem::replace(&mut self.acting, acting) && acting {
            self.requeue_all(None);
        }
        self.ctx.metrics.set_leader(acting);
    }

    /// Requeues the resources in a namespace, or in all.
    fn requeue_all(&mut self, namespace: Option<&str>) {
        let keys: Vec<Key> =
            self.ctx.index().iter().map(|(key, _)| key).filter(|key| key.is_in(namespace)).cloned().collect();
        for key in keys {
            self.requeue(key);
        }
    }

    /// Moves what is remembered of times after the wall clock was set, so that waits keep their length.
    fn check_clock(&mut self) {
        let Some(step) = self.clock.step(self.ctx.now()) else { return };
        warn!(seconds = step.as_secs(), "the wall clock was set");
        self.ctx.index().shift(step);
        self.ctx.hosts.shift(step);
        self.requeue_all(None);
    }

    /// Requeues a resource. A standby reconciles nothing; when it becomes the leader, it requeues everything.
    fn requeue(&mut self, key: Key) {
        if self.acting {
            self.queue.add_at(key, Timestamp::MIN);
        }
    }

    /// Begins a term with new lists of resources: the statuses that another replica wrote last have to be known. The
    /// watches on objects go on where they work. What they have not reported counts as the status says until something is
    /// due, and what is written to an object is checked against its version anyway.
    fn begin_term(&mut self) {
        for namespace in self.scopes() {
            self.watches.restart(namespace.as_deref(), &self.watch_source());
        }
    }

    fn watch_source(&self) -> WatchSource {
        WatchSource {
            client: self.ctx.cluster.client(),
            selector: self.options.selector.clone(),
            readiness: self.readiness.clone(),
        }
    }

    /// The namespace of the watches that cover a namespace.
    fn scope_of(&self, namespace: &str) -> Option<String> {
        (!self.options.namespaces.is_empty()).then(|| namespace.to_owned())
    }

    /// Whether all that a resource needs is listed, or was listed once: then what is due reads what it needs. What is
    /// missing in one namespace stops no other.
    fn is_synced(&self, key: &Key) -> bool {
        let namespace = self.scope_of(&key.namespace);
        let namespace = namespace.as_deref();
        let index = self.ctx.index();
        let names_config_map = index.get(key).is_some_and(IndexedResource::names_config_map);
        self.watches.is_synced(namespace, names_config_map, index.knows_objects_of(key))
    }

    fn on_watch_event(&mut self, scope: &Scope, event: WatchEvent) {
        let complete = event.completes_list();
        let resources = scope.what == Subject::Resources;
        self.watches.record(scope, &event, &self.ctx.metrics, &self.readiness);
        let keys = self.watches.relist(scope).apply(&mut self.ctx.index(), scope, event);
        for key in keys {
            self.requeue(key);
        }
        if complete {
            self.on_list_complete(scope);
        }
        if resources && self.watches.is_complete(scope) {
            self.watch_config_maps(scope);
        }
    }

    fn watch_config_maps(&mut self, scope: &Scope) {
        let named = self.ctx.index().names_config_maps(scope.namespace.as_deref());
        self.watches.watch_config_maps(scope.namespace.clone(), named, &self.watch_source(), Instant::now());
    }

    fn on_list_complete(&mut self, scope: &Scope) {
        if scope.what == Subject::Resources {
            self.restore_pauses();
            // Started before the list counts as complete, so that readiness waits for them.
            self.watches.watch_secrets(scope.namespace.clone(), &self.watch_source());
            self.watch_config_maps(scope);
        }
        self.watches.complete(scope, &self.readiness);
        info!(watch = %scope, resources = self.ctx.index().count(), "listed");
        self.requeue_all(scope.namespace.as_deref());
    }

    /// Retries what failed because a portal's certificate did not verify.
    fn on_roots_changed(&mut self) {
        self.retry(|_, reason| reason == Reason::PortalUntrusted);
    }

    /// Retries what failed because of an outage of this portal host, which is over.
    fn on_host_recovered(&mut self, host: &str) {
        info!(portal = host, "the portal answers again");
        self.retry(|resource, reason| {
            reason.is_outage() && observe::plan(resource).is_ok_and(|plan| plan.portal.authority() == host)
        });
    }

    /// Lets one resource without a valid token try each host that answers no request, whatever the waits: its workloads fail
    /// until the first success. It is the one whose turn comes first.
    fn probe_hosts(&mut self) {
        if !self.acting {
            return;
        }
        for host in self.ctx.hosts.take_probes() {
            let now = self.ctx.now();
            let next = self.ctx.index().next_to_probe(now, |resource| {
                observe::plan(resource).is_ok_and(|plan| plan.portal.authority() == host)
            });
            if let Some(key) = next {
                self.requeue(key);
            }
        }
    }

    /// Ends the waits of resources whose last attempt failed for a reason.
    fn retry(&mut self, applies: impl Fn(&IndexedResource, Reason) -> bool) {
        let keys = self.ctx.index().retry_at(self.ctx.now(), applies);
        for key in keys {
            self.requeue(key);
        }
    }

    /// Restores the pauses that hosts asked for before a restart.
    fn restore_pauses(&self) {
        let mut by_host: BTreeMap<String, Vec<RetryAfterRecord>> = BTreeMap::new();
        for (_, resource) in self.ctx.index().iter() {
            if resource.report.problem != Some(Reason::RateLimited) {
                continue;
            }
            let status = ArcGisAppCredentialStatus::read(&resource.status);
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
        let due = [self.queue.next_due(), self.ctx.hosts.next_probe()].into_iter().flatten().min();
        let until =
            due.map_or(i64::MAX, |at| i64::try_from(at.duration_since(self.ctx.now()).as_millis()).unwrap_or(i64::MAX));
        // When all workers are busy, one that is freed ends the pause.
        Duration::from_millis(u64::try_from(until).unwrap_or(0).max(1)).min(claim.unwrap_or(TICK)).min(TICK)
    }

    fn start_due(&mut self) {
        let Some(term) = self.term.filter(|_| self.acting) else { return };
        let ctx = self.ctx.clone();
        self.queue
            .promote_due(ctx.now(), |key| ctx.index().get(key).and_then(|resource| resource.report.expiration_time));
        while let Ok(worker) = self.ctx.workers.clone().try_acquire_owned() {
            let Some(key) = self.queue.pop() else { break };
            if !self.is_synced(&key) {
                // The completion of its lists requeues it. Others wait for the permit that it was woken for.
                self.ctx.hosts.pass_on(&key);
                self.queue.done(key, None);
                continue;
            }
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
            // A reconcile catches its panics: this is a reconcile that was aborted at the end.
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
