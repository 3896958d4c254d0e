//! The event loop: takes watch events into the index, and starts a reconcile for each resource that is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::clock_monitor::ClockMonitor;
use super::context::Context;
use super::leader_election::LeaderElector;
use super::watch_event::{Scope, Subject, WatchEvent};
use super::watch_set::{WatchSource, Watches};
use super::{host_recovery, reconciler};
use crate::core::{Creations, Term, WorkQueue};
use crate::index::{IndexedResource, Key};
use crate::ops::Readiness;

/// The clock may be set, or the machine may sleep: due times are checked at least this often.
const TICK: Duration = Duration::from_secs(5);

pub(super) struct Controller {
    ctx: Arc<Context>,
    /// Empty: all namespaces.
    namespaces: Vec<String>,
    selector: Option<String>,
    readiness: Arc<Readiness>,
    queue: WorkQueue<Key>,
    watches: Watches,
    clock: ClockMonitor,
    /// The term that the memory of the resources belongs to.
    term: Option<Term>,
    acting: bool,
    reconciles: JoinSet<(Key, Option<Timestamp>)>,
}

/// What ends a pause of the event loop, besides watches and reconciles.
pub(super) struct Signals {
    pub requeued: UnboundedReceiver<Key>,
    pub hosts_recovered: UnboundedReceiver<String>,
    pub roots_changed: Arc<Notify>,
}

impl Controller {
    pub fn new(
        ctx: Arc<Context>,
        namespaces: Vec<String>,
        selector: Option<String>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let clock = ClockMonitor::new(ctx.now());
        Self {
            ctx,
            namespaces,
            selector,
            readiness,
            queue: WorkQueue::default(),
            watches: Watches::default(),
            clock,
            term: None,
            acting: false,
            reconciles: JoinSet::new(),
        }
    }

    /// Takes part in the leader election until `released`.
    pub async fn join_election(
        &mut self,
        mut elector: LeaderElector,
        stop: &CancellationToken,
        released: &CancellationToken,
    ) -> JoinHandle<()> {
        // A replica that leads from the start lists once, and not as a standby first.
        tokio::select! {
            () = stop.cancelled() => {}
            _ = elector.try_acquire_or_renew() => {}
        }
        let election = tokio::spawn(elector.run(released.clone()));
        if self.ctx.leadership.claim().is_none() {
            info!("standing by");
            self.begin_term();
        }
        election
    }

    /// Serves until `stop`.
    pub async fn serve(&mut self, mut signals: Signals, stop: &CancellationToken) {
        let ctx = self.ctx.clone();
        let mut leadership = ctx.leadership.clone();
        loop {
            self.readiness.beat();
            self.watches.stop_unneeded(&self.readiness, Instant::now());
            self.check_clock();
            self.sync_leadership();
            self.probe_hosts();
            self.start_due();
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => return,
                Some((scope, event)) = self.watches.next() => self.on_watch_event(&scope, event),
                Some(key) = signals.requeued.recv() => self.requeue(key),
                Some(host) = signals.hosts_recovered.recv() => self.requeue_each(host_recovery::recovered(&ctx, &host)),
                Some(ended) = self.reconciles.join_next() => self.on_reconciled(ended),
                () = ctx.workers.freed() => {}
                () = signals.roots_changed.notified() => self.requeue_each(host_recovery::roots_changed(&ctx)),
                () = ctx.revisions.restored() => {
                    self.watches.stop_all();
                    self.begin_term();
                }
                () = leadership.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Returns the namespaces to watch; `None`: all.
    pub fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() { vec![None] } else { self.namespaces.iter().cloned().map(Some).collect() }
    }

    /// Follows the claim of the leader election. Memory of one term is not valid in another: another replica may have
    /// acted in between, and a watch may lag behind its writes. A term therefore begins like a process, with new lists.
    fn sync_leadership(&mut self) {
        let claim = self.ctx.leadership.claim();
        let term = claim.map(|claim| claim.term);
        if self.term != term && self.reconciles.is_empty() {
            self.ctx.index().forget();
            self.ctx.hosts.clear();
            *self.ctx.creations() = Creations::default();
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
        self.requeue_each(keys);
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
            client: self.ctx.cluster.watches(),
            selector: self.selector.clone(),
            readiness: self.readiness.clone(),
        }
    }

    /// The namespace of the watches that cover a namespace.
    fn scope_of(&self, namespace: &str) -> Option<String> {
        (!self.namespaces.is_empty()).then(|| namespace.to_owned())
    }

    /// Returns how long a resource waits for the lists that it needs. What is missing in one namespace stops no other.
    fn wait_for_lists(&self, key: &Key) -> Option<Duration> {
        let namespace = self.scope_of(key.namespace());
        let index = self.ctx.index();
        let names_config_map = index.get(key).is_some_and(IndexedResource::names_config_map);
        self.watches.wait(namespace.as_deref(), names_config_map, index.knows_objects_of(key), Instant::now())
    }

    fn on_watch_event(&mut self, scope: &Scope, event: WatchEvent) {
        let complete = event.completes_list();
        let resources = scope.what == Subject::Resources;
        self.watches.record(scope, &event, &self.ctx.metrics, &self.readiness);
        let keys = self.watches.relist(scope).apply(&mut self.ctx.index(), scope, event);
        self.requeue_each(keys);
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
            host_recovery::restore_pauses(&self.ctx);
            // Started before the list counts as complete, so that readiness waits for them.
            self.watches.watch_secrets(scope.namespace.clone(), &self.watch_source());
            self.watch_config_maps(scope);
        }
        self.watches.complete(scope, &self.readiness);
        info!(watch = %scope, resources = self.ctx.index().count(), "listed");
        self.requeue_all(scope.namespace.as_deref());
    }

    /// Requeues what need not wait any longer.
    fn requeue_each(&mut self, keys: Vec<Key>) {
        for key in keys {
            self.requeue(key);
        }
    }

    /// Tries the hosts that answer no request, each with one resource.
    fn probe_hosts(&mut self) {
        if self.acting {
            let keys = host_recovery::probes(&self.ctx);
            self.requeue_each(keys);
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
        let ctx = self.ctx.clone();
        let Some(term) = self.term.filter(|_| self.acting) else { return ctx.workers.start_none() };
        self.queue.promote_due(ctx.now(), |key| {
            ctx.index().get(key).and_then(|resource| resource.report.expiration_time).map(Into::into)
        });
        while let Some(worker) = ctx.workers.try_start(self.queue.has_ready()) {
            let Some(key) = self.queue.pop() else { break };
            let wait = self.wait_for_lists(&key);
            if wait != Some(Duration::ZERO) {
                // The completion of its lists requeues it, too. Others wait for the permit that it was woken for.
                self.ctx.hosts.pass_on(&key);
                self.queue.done(key, wait.map(|wait| self.ctx.after(1 + i64::try_from(wait.as_secs()).unwrap_or(0))));
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

    /// Waits until the reconciles in flight have ended.
    pub async fn finish(&mut self) {
        info!(in_flight = self.reconciles.len(), "stopping: finishing what is in flight");
        while self.reconciles.join_next().await.is_some() {}
    }

    /// Ends the reconciles in flight.
    pub async fn abort(&mut self) {
        self.reconciles.shutdown().await;
    }
}
