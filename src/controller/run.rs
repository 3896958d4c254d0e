//! Assembles the controller, and runs it until it is stopped.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::context::{Context, RENDERED_KIB};
use super::event_loop::{Controller, Signals};
use super::events::Senders;
use super::host_limiters::HostLimiters;
use super::leader_election::LeaderElector;
use super::revisions::Revisions;
use super::workers::Workers;
use super::{preflight, revision_check};
use crate::arcgis::Portals;
use crate::cluster::{Cluster, Leases};
use crate::core::{AllowedOrigin, Digester, ServerClock};
use crate::index::Index;
use crate::ops::{Metrics, Readiness};

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
    pub server_clock: Arc<ServerClock>,
}

/// Runs the controller until `stop`.
pub async fn run(options: Options, parts: Parts, stop: CancellationToken) {
    let revisions = Arc::<Revisions>::default();
    let (elector, leadership) =
        LeaderElector::new(parts.leases, parts.readiness.clone(), parts.clock, revisions.clone());
    let (requeue, requeued) = mpsc::unbounded_channel();
    let (recovered, hosts_recovered) = mpsc::unbounded_channel();
    let ctx = Arc::new(Context {
        cluster: parts.cluster,
        portals: parts.portals,
        allowed: options.allowed,
        digester: Digester::default(),
        index: parts.index,
        hosts: HostLimiters::new(requeue.clone(), recovered, parts.clock),
        creations: Mutex::default(),
        leadership,
        workers: Workers::new(options.concurrency),
        rendering: Semaphore::new(RENDERED_KIB),
        metrics: parts.metrics,
        clock: parts.clock,
        server_clock: parts.server_clock,
        requeue,
        events: Arc::default(),
        revisions,
    });
    let mut controller = Controller::new(ctx.clone(), options.namespaces, options.selector, parts.readiness.clone());
    let services = ctx.portals.services().clone();
    let preflight = preflight::run(ctx.cluster.clone(), controller.scopes(), parts.readiness, services);
    let _preflight = AbortOnDropHandle::new(tokio::spawn(preflight));
    let (watched, scopes) = (ctx.clone(), controller.scopes());
    let _look = AbortOnDropHandle::new(tokio::spawn(revision_check::look(watched, scopes)));
    let senders = Senders::start(&ctx.events, &ctx.cluster, &ctx.leadership);
    let released = CancellationToken::new();
    let election = controller.join_election(elector, &stop, &released).await;
    controller.serve(Signals { requeued, hosts_recovered, roots_changed: parts.roots_changed }, &stop).await;
    ctx.workers.start_none();
    let finish = async {
        controller.finish().await;
        senders.finish().await;
    };
    if timeout(GRACE, finish).await.is_err() {
        warn!("stopped with work in flight");
        controller.abort().await;
    }
    released.cancel();
    // It ends within 2 s.
    let _ = election.await;
}
