//! One reconcile of one resource: runs the loop of the core with real calls, and reports what it concluded.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use tracing::error;

use super::calls::Calls;
use super::context::Context;
use super::observe::observe;
use super::report::write_status;
use super::verifier::{self, PublishedToken};
use super::workers::Worker;
use crate::api::Reason;
use crate::core::{AccessToken, Activity, Progress, Reconciliation, Situation, Term, Verdict, conclude, decide};
use crate::index::Key;

/// Reconciles a resource, with its metrics; returns when to requeue it, `None` when it is gone.
pub async fn run(ctx: &Arc<Context>, key: &Key, term: Term, worker: Worker) -> Option<Timestamp> {
    let started = Instant::now();
    let requeue_at = catch_panic(ctx, key, term, Box::pin(reconcile(ctx, key, term, worker))).await;
    ctx.metrics.reconciled(started.elapsed());
    // Whether it sent a request or not, it needs no permit any more.
    ctx.hosts.pass_on(key);
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
    error!(namespace = key.namespace(), name = key.name(), reason = Reason::Internal.as_str(), "a reconcile panicked");
    let worker = ctx.resume(key).await?;
    let report = Box::pin(report_bug(ctx, key, term, worker));
    if let Ok(requeue_at) = AssertUnwindSafe(report).catch_unwind().await {
        return requeue_at;
    }
    error!(
        namespace = key.namespace(),
        name = key.name(),
        reason = Reason::Internal.as_str(),
        "its report panicked, too"
    );
    let mut index = ctx.index();
    let uid = index.get(key)?.uid.to_string();
    let resource = index.get_mut(key, &uid)?;
    let seconds = (60_i64 << resource.panics.min(6)).min(3600);
    resource.panics = resource.panics.saturating_add(1);
    Some(ctx.after(seconds))
}

async fn reconcile(ctx: &Arc<Context>, key: &Key, term: Term, worker: Worker) -> Option<Timestamp> {
    let mut reconciliation = Reconciliation::new(observe(ctx, key)?);
    let mut calls = Calls::new(ctx, key, term, worker);
    loop {
        // Rendered in the decision, and held until it is written.
        let room = ctx.room(reconciliation.s.rendered_bytes()).await;
        match reconciliation.next(&mut calls) {
            // Who has room waits for no worker. It is decided again.
            Progress::Call(step) if !calls.may_make(&step) => {
                drop(room);
                calls.resume().await;
            }
            Progress::Call(step) => {
                let _room = room.filter(|_| step.carries_target());
                let answer = calls.make(&reconciliation.s, &step).await;
                reconciliation.record(&step, answer, ctx.now());
            }
            Progress::Rest(verdict) => {
                drop(room);
                calls.resume().await;
                return Some(finish(calls, reconciliation.s, verdict).await);
            }
            Progress::Abandon(seconds) => {
                if let Some(resource) = ctx.index().get_mut(key, &reconciliation.s.me.uid) {
                    resource.memory = reconciliation.s.memory;
                }
                return Some(ctx.after(seconds));
            }
        }
    }
}

async fn report_bug(ctx: &Arc<Context>, key: &Key, term: Term, worker: Worker) -> Option<Timestamp> {
    let mut s = observe(ctx, key)?;
    s.failed(Activity::Write, Reason::Internal, None, ctx.now());
    let verdict = decide(&s, ctx.now());
    Some(finish(Calls::new(ctx, key, term, worker), s, verdict).await)
}

/// Reports and remembers the conclusion; returns when to requeue.
async fn finish(calls: Calls<'_>, mut s: Situation, verdict: Verdict) -> Timestamp {
    let Calls { ctx, key, term, app, issued, .. } = calls;
    let now = ctx.now();
    let me = s.me.clone();
    s.memory.app = app.or(s.memory.app);
    let queued = s.plan.as_ref().ok().filter(|_| verdict.awaits_permit).map(|plan| plan.portal.authority());
    let expires_at = s.status.token.as_ref().map(|token| token.expiration_time);
    let verification = start_verification(ctx, &mut s, issued, now);
    let mut conclusion = conclude(s, verdict, now);
    ctx.metrics.concluded(conclusion.problem);
    if let Some(resource) = ctx.index().get_mut(key, &me.uid) {
        resource.memory = std::mem::take(&mut conclusion.memory);
    }
    if let Some(host) = queued {
        ctx.hosts.enqueue(&host, expires_at, key.clone());
    }
    let requeue_at = Box::pin(write_status(ctx, key, term, &me, conclusion)).await;
    if let Some(verification) = verification.filter(|_| ctx.leadership.holds(term)) {
        verifier::start(ctx, term, verification);
    }
    requeue_at
}

/// Returns the verification of the published token, where one is due.
fn start_verification(
    ctx: &Context,
    s: &mut Situation,
    issued: Option<AccessToken>,
    now: Timestamp,
) -> Option<PublishedToken> {
    s.verification_due(now).filter(|due| *due <= now)?;
    let issue_time = s.verification_started(now)?;
    let reported = s.status.app.as_ref().and_then(|app| app.app_id.as_deref());
    let app = s.memory.app.or_else(|| reported.map(|id| ctx.digester.digest_id(id)));
    let (me, plan, reported) = (s.me.clone(), s.plan.as_ref().ok()?.clone(), s.status.token.clone());
    Some(PublishedToken { me, plan, issue_time, reported, token: issued, app })
}
