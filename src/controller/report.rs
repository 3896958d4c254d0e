//! Writes what a reconcile concluded: the status, and the event of a condition that changed.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::context::Context;
use crate::cluster::ApiError;
use crate::core::{Activity, Conclusion, ConditionChange, Failed, Identity, MadeWith, Term};
use crate::index::Key;

/// Writes the status where it changed, and the event of a condition that changed; returns when to requeue.
pub(super) async fn write_status(
    ctx: &Arc<Context>,
    key: &Key,
    term: Term,
    me: &Identity,
    conclusion: Conclusion,
) -> Timestamp {
    if !ctx.leadership.holds(term) {
        return conclusion.wake;
    }
    if !conclusion.changed {
        if let Some(change) = conclusion.change {
            tell(ctx, term, me, change);
        }
        return conclusion.wake;
    }
    if conclusion.report_after.is_some() {
        return conclusion.wake;
    }
    if let Some(until) = contested_until(ctx, key, me) {
        return conclusion.wake.min(until);
    }
    match ctx.cluster.patch_status(&me.namespace, &me.name, &me.uid, &conclusion.status).await {
        Ok(version) => {
            let created_at = ctx.index().status_written(key, &me.uid, version, &conclusion.status, conclusion.reported);
            if let Some(created_at) = created_at {
                ctx.metrics.first_token(ctx.now().duration_since(created_at));
            }
            if let Some(change) = conclusion.change {
                tell(ctx, term, me, change);
            }
            conclusion.wake
        }
        Err(ApiError::NotFound) => conclusion.wake,
        Err(error) => conclusion.wake.min(status_failed(ctx, key, me, &error, conclusion.made_with)),
    }
}

/// Records that a status was not written; returns when it is written again.
fn status_failed(ctx: &Context, key: &Key, me: &Identity, error: &ApiError, made_with: MadeWith) -> Timestamp {
    ctx.metrics.status_not_written();
    let (reason, retry_after) = (error.fault(None).reason, error.retry_after());
    let failed = Failed { activity: Activity::Report, reason, retry_after, worked: false };
    let mut index = ctx.index();
    let Some(resource) = index.get_mut(key, &me.uid) else { return Timestamp::MAX };
    let (until, news) = resource.memory.report_failed(&me.uid, failed, made_with, ctx.now());
    if news {
        warn!(namespace = me.namespace, name = me.name, "status not written: {error}");
    }
    until
}

/// Returns until when a status is not written because another writer keeps overwriting it.
fn contested_until(ctx: &Arc<Context>, key: &Key, me: &Identity) -> Option<Timestamp> {
    let now = ctx.now();
    let mut index = ctx.index();
    if !index.is_contested(key, &me.uid) {
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

/// Logs what changed, and has it told by an event.
fn tell(ctx: &Context, term: Term, me: &Identity, change: ConditionChange) {
    info!(namespace = me.namespace, name = me.name, reason = change.reason, "{}", change.message);
    if ctx.events.add(me.clone(), change, term, ctx.now()) {
        ctx.metrics.event_dropped();
    }
}
