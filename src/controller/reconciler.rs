//! One reconcile of one resource: asks the core what to do, does it, records the outcome, until nothing is left to do.
//!
//! `tests/simulation/reconciliation.rs` is the same loop in virtual time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, info, warn};

use super::context::Context;
use super::host_limiters::RequestPermit;
use super::verifier::{self, Check};
use crate::api::{ArcGisAppCredentialStatus, CaBundleKind, Reason};
use crate::arcgis::{CaBundle, ClientCertificate};
use crate::cluster::{ApiError, publish};
use crate::core::{
    AccessToken, Admit, AttemptKind, Conclusion, ConditionChange, Credentials, Identity, Observed, OriginMatch, Plan,
    Situation, SpecError, Step, Term, Verdict, conclude, decide,
};
use crate::index::{CheckResult, IndexedResource, Key, ObjectKind};

/// A reconcile needs far fewer steps; more of them are a bug or a conflict over the target.
const MAX_STEPS: usize = 24;
/// A status that could not be written is written again after this many seconds.
const STATUS_RETRY_SECONDS: i64 = 5;
/// What waits for the claim of the leader election is reconciled again after this many seconds.
const REQUEUE_SECONDS: i64 = 1;

/// One reconcile in progress: the situation, and the secrets, which never leave it.
pub(super) struct Reconciler<'a> {
    pub ctx: &'a Arc<Context>,
    pub key: &'a Key,
    /// Nothing is changed after the end of this term.
    pub term: Term,
    pub s: Situation,
    pub credentials: Option<Credentials>,
    pub ca: Option<CaBundle>,
    pub client_certificate: Option<ClientCertificate>,
    pub worker: Option<OwnedSemaphorePermit>,
    pub request_permit: Option<RequestPermit<'a>>,
    /// The token that this reconcile published.
    pub published: Option<AccessToken>,
}

/// Reconciles a resource, with its metrics; returns when to requeue it, `None` when it is gone.
pub async fn run(ctx: &Arc<Context>, key: &Key, term: Term, worker: OwnedSemaphorePermit) -> Option<Timestamp> {
    let started = Instant::now();
    let requeue_at = catch_panic(ctx, key, term, Box::pin(reconcile(ctx, key, term, worker))).await;
    ctx.metrics.reconciled(started.elapsed());
    // Whether it sent a request or not, it needs no permit any more.
    ctx.hosts.forgo(key);
    requeue_at
}

/// Ends a reconcile that panics, and reports the bug on its resource.
pub(super) async fn catch_panic(
    ctx: &Arc<Context>,
    key: &Key,
    term: Term,
    work: impl Future<Output = Option<Timestamp>>,
) -> Option<Timestamp> {
    if let Ok(requeue_at) = AssertUnwindSafe(work).catch_unwind().await {
        return requeue_at;
    }
    error!(namespace = key.namespace, name = key.name, reason = Reason::Internal.as_str(), "a reconcile panicked");
    let worker = ctx.workers.clone().acquire_owned().await.ok()?;
    let report = Box::pin(report_bug(ctx, key, term, worker));
    if let Ok(requeue_at) = AssertUnwindSafe(report).catch_unwind().await {
        return requeue_at;
    }
    error!(namespace = key.namespace, name = key.name, reason = Reason::Internal.as_str(), "its report panicked, too");
    let mut index = ctx.index();
    let uid = index.get(key)?.uid.clone();
    let resource = index.get_mut(key, &uid)?;
    let seconds = (60_i64 << resource.panics.min(6)).min(3600);
    resource.panics = resource.panics.saturating_add(1);
    Some(ctx.after(seconds))
}

async fn reconcile(ctx: &Arc<Context>, key: &Key, term: Term, worker: OwnedSemaphorePermit) -> Option<Timestamp> {
    let s = observe(ctx, key)?;
    let mut reconciler = Reconciler::new(ctx, key, term, s, worker);
    for _ in 0..MAX_STEPS {
        if reconciler.request_permit.is_none() {
            reconciler.s.admit = reconciler.host().map_or(Admit::Now, |host| ctx.hosts.check(&host));
        }
        let verdict = decide(&reconciler.s, ctx.now());
        match verdict.step {
            Step::Rest => return Some(finish(reconciler, verdict).await),
            _ if !ctx.leadership.holds(term) => return Some(reconciler.abandon(REQUEUE_SECONDS)),
            // The portal may have taken long to answer: what changed meanwhile is evaluated first.
            Step::Create | Step::Publish(_) | Step::Render(_) | Step::Own(_) if !reconciler.is_current() => {
                return Some(reconciler.abandon(0));
            }
            step => reconciler.act(step).await,
        }
    }
    reconciler.s.failed(AttemptKind::Write, Reason::ClusterError, None, ctx.now());
    let verdict = decide(&reconciler.s, ctx.now());
    Some(finish(reconciler, verdict).await)
}

async fn report_bug(ctx: &Arc<Context>, key: &Key, term: Term, worker: OwnedSemaphorePermit) -> Option<Timestamp> {
    let mut s = observe(ctx, key)?;
    s.failed(AttemptKind::Write, Reason::Internal, None, ctx.now());
    let verdict = decide(&s, ctx.now());
    Some(finish(Reconciler::new(ctx, key, term, s, worker), verdict).await)
}

/// Collects what is known of a resource without a call; `None` when it is gone or being deleted.
fn observe(ctx: &Arc<Context>, key: &Key) -> Option<Situation> {
    let mut index = ctx.index();
    let rival = index.rival(key);
    let resource = index.get(key).filter(|resource| !resource.deleting)?.clone();
    let uid = resource.uid.clone();
    let check = index.get_mut(key, &uid).and_then(|resource| resource.check.take());
    let plan = plan(&resource);
    let namespace = &key.namespace;
    let client_certificate = match plan.as_ref().map(|plan| &plan.client_certificate) {
        Ok(Some(name)) => index.observed(ObjectKind::Secret, namespace, name),
        Ok(None) | Err(_) => Observed::Absent,
    };
    let (target, credentials, ca) = match &plan {
        Ok(plan) => (
            index.observed(ObjectKind::Secret, namespace, &plan.target.name),
            index.observed(ObjectKind::Secret, namespace, &plan.credentials.name),
            plan.ca.as_ref().map_or(Observed::Absent, |ca| index.observed(ca_kind(ca.kind), namespace, &ca.name)),
        ),
        Err(_) => (Observed::Unknown, Observed::Unknown, Observed::Absent),
    };
    let mut s = Situation {
        me: Identity { namespace: key.namespace.clone(), name: key.name.clone(), uid },
        generation: resource.generation,
        requested_at: resource.requested_at,
        allowed: plan.as_ref().is_ok_and(|plan| OriginMatch::of(&plan.portal, &ctx.allowed).is_some()),
        plan,
        status: ArcGisAppCredentialStatus::read(&resource.status),
        rival,
        target,
        credentials,
        ca,
        client_certificate,
        admit: Admit::Now,
        has_permit: false,
        memory: resource.memory,
    };
    s.recall(ctx.now());
    match check {
        Some(CheckResult::Answered(issued, answer)) => s.checked(issued, answer, ctx.now()),
        Some(CheckResult::Deferred(until)) => s.check_deferred(until),
        None => {}
    }
    Some(s)
}

pub(super) fn plan(resource: &IndexedResource) -> Result<Plan, SpecError> {
    let spec = serde_json::from_str(&resource.spec).map_err(|_| SpecError {
        field: "spec",
        advice: "cannot be decoded: compare it with kubectl explain arcgisappcredential.spec".to_owned(),
    })?;
    Plan::new(&spec)
}

pub(super) fn ca_kind(kind: CaBundleKind) -> ObjectKind {
    match kind {
        CaBundleKind::ConfigMap => ObjectKind::ConfigMap,
        CaBundleKind::Secret => ObjectKind::Secret,
    }
}

impl<'a> Reconciler<'a> {
    fn new(ctx: &'a Arc<Context>, key: &'a Key, term: Term, s: Situation, worker: OwnedSemaphorePermit) -> Self {
        Self {
            ctx,
            key,
            term,
            s,
            credentials: None,
            ca: None,
            client_certificate: None,
            worker: Some(worker),
            request_permit: None,
            published: None,
        }
    }

    /// Stops before the next step; returns when to requeue. The memory is kept: the claim may be renewed in the same term,
    /// and a token that was issued may still be wanted.
    fn abandon(self, requeue_seconds: i64) -> Timestamp {
        let requeue_at = self.ctx.after(requeue_seconds);
        if let Some(resource) = self.ctx.index().get_mut(self.key, &self.s.me.uid) {
            resource.memory = self.s.memory;
        }
        requeue_at
    }

    /// Whether the resource is as it was when this reconcile began, as far as the watch has reported.
    fn is_current(&self) -> bool {
        let index = self.ctx.index();
        let resource = index.get(self.key).filter(|resource| resource.uid == self.s.me.uid && !resource.deleting);
        resource.is_some_and(|resource| resource.generation == self.s.generation)
    }

    pub fn plan(&self) -> Option<&Plan> {
        self.s.plan.as_ref().ok()
    }

    fn host(&self) -> Option<String> {
        self.plan().map(|plan| plan.portal.authority())
    }
}

/// Reports and remembers the conclusion; returns when to requeue.
async fn finish(reconciler: Reconciler<'_>, verdict: Verdict) -> Timestamp {
    let Reconciler { ctx, key, term, mut s, published, .. } = reconciler;
    let now = ctx.now();
    let me = s.me.clone();
    let plan = s.plan.as_ref().ok().cloned();
    let (awaits_permit, expires_at) =
        (verdict.awaits_permit, s.status.token.as_ref().map(|token| token.expiration_time));
    let check = start_check(ctx, &mut s, published, now);
    let mut conclusion = conclude(s, verdict, now);
    ctx.metrics.concluded(conclusion.problem);
    if let Some(resource) = ctx.index().get_mut(key, &me.uid) {
        resource.memory = std::mem::take(&mut conclusion.memory);
    }
    if let (true, Some(plan)) = (awaits_permit, &plan) {
        ctx.hosts.enqueue(&plan.portal.authority(), expires_at, key.clone());
    }
    let requeue_at = Box::pin(write_status(ctx, key, term, &me, conclusion)).await;
    if let Some(check) = check.filter(|_| ctx.leadership.holds(term)) {
        verifier::start(ctx, term, check);
    }
    requeue_at
}

/// Returns the check of the published token, where one is due.
fn start_check(ctx: &Context, s: &mut Situation, published: Option<AccessToken>, now: Timestamp) -> Option<Check> {
    s.check_due(now).filter(|due| *due <= now)?;
    let issued = s.check_started(now)?;
    let reported = s.status.app.as_ref().and_then(|app| app.app_id.as_deref());
    let app = s.memory.checks.app.or_else(|| reported.map(|id| ctx.digester.digest_id(id)));
    Some(Check { me: s.me.clone(), plan: s.plan.as_ref().ok()?.clone(), issued, token: published, app })
}

/// Writes the status where it changed, and the event of a condition that changed; returns when to requeue.
async fn write_status(ctx: &Arc<Context>, key: &Key, term: Term, me: &Identity, conclusion: Conclusion) -> Timestamp {
    if !conclusion.changed || !ctx.leadership.holds(term) {
        return conclusion.wake;
    }
    if let Some(until) = contested_until(ctx, key, me, &conclusion.previous) {
        return conclusion.wake.min(until);
    }
    match ctx.cluster.patch_status(&me.namespace, &me.name, &me.uid, &conclusion.status).await {
        Ok(version) => {
            let created_at = ctx.index().status_written(key, &me.uid, version, &conclusion.status);
            if let Some(created_at) = created_at {
                ctx.metrics.first_token(ctx.now().duration_since(created_at));
            }
            if let Some(change) = conclusion.change {
                publish_change(ctx, term, me, change).await;
            }
            conclusion.wake
        }
        Err(ApiError::NotFound) => conclusion.wake,
        Err(error) => {
            warn!(namespace = me.namespace, name = me.name, "status not written: {error}");
            conclusion.wake.min(ctx.after(STATUS_RETRY_SECONDS))
        }
    }
}

/// Returns until when a status is not written because another writer keeps overwriting it.
fn contested_until(
    ctx: &Arc<Context>,
    key: &Key,
    me: &Identity,
    current: &ArcGisAppCredentialStatus,
) -> Option<Timestamp> {
    let now = ctx.now();
    let mut index = ctx.index();
    if !index.is_contested(key, &me.uid, current) {
        return None;
    }
    let repairs = &mut index.get_mut(key, &me.uid)?.memory.status_repairs;
    let allowed_at = repairs.allowed_at(now);
    if allowed_at > now {
        return Some(allowed_at);
    }
    repairs.record(now);
    None
}

async fn publish_change(ctx: &Arc<Context>, term: Term, me: &Identity, change: ConditionChange) {
    info!(namespace = me.namespace, name = me.name, reason = change.reason, "{}", change.message);
    if ctx.leadership.holds(term)
        && let Err(error) = publish(&ctx.cluster, me, change, ctx.now()).await
    {
        warn!(namespace = me.namespace, name = me.name, "event not written: {error}");
    }
}
