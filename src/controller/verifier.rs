//! Checks a published token with the portal. Nothing waits for a check: its result requeues the resource.

use std::sync::Arc;

use jiff::Timestamp;

use super::context::Context;
use super::sources::{client_certificate, credentials, fetch_ca};
use crate::arcgis::identify;
use crate::core::{AccessToken, Admit, Identity, LiveSecret, Outcome, Plan, Term};
use crate::index::{CheckResult, Key};

/// A check that a host at capacity, or a failing API server, does not admit is made this many seconds later.
const DEFER_SECONDS: i64 = 10;

/// What to check.
pub struct Check {
    pub me: Identity,
    pub plan: Plan,
    /// The issue time of the token.
    pub issued: Timestamp,
    /// The token, where it was published just now; else it is read from the target.
    pub token: Option<AccessToken>,
    /// The digest of the app's ID, where it is known.
    pub app: Option<u64>,
}

/// Starts a check.
pub fn start(ctx: &Arc<Context>, term: Term, check: Check) {
    let ctx = ctx.clone();
    tokio::spawn(async move {
        let result = tokio::select! {
            biased;
            () = ctx.leadership.ended(term) => return,
            result = run(&ctx, &check) => result.unwrap_or_else(|| CheckResult::Deferred(ctx.after(DEFER_SECONDS))),
        };
        let key = Key { namespace: check.me.namespace, name: check.me.name };
        if let Some(resource) = ctx.index().get_mut(&key, &check.me.uid).filter(|_| ctx.leadership.holds(term)) {
            resource.check = Some(result);
        }
        // The receiver is gone only at the end.
        let _ = ctx.requeue.send(key);
    });
}

/// Makes a check; `None` where it cannot be made now.
async fn run(ctx: &Context, check: &Check) -> Option<CheckResult> {
    let (plan, host) = (&check.plan, check.plan.portal.authority());
    let permit = match ctx.hosts.try_acquire_unqueued(&host) {
        Ok(permit) => permit,
        Err(Admit::PausedUntil(until)) => return Some(CheckResult::Deferred(until)),
        Err(_) => return None,
    };
    let token = match &check.token {
        Some(token) => token.clone(),
        None => stored_token(ctx, check).await?,
    };
    let app = match check.app {
        Some(app) => app,
        None => app_id(ctx, check).await?,
    };
    let client = client(ctx, check).await?;
    let is_app = |id: &str| ctx.digester.digest_id(id) == app;
    let identified = identify(&client, &plan.portal.base(), &token, plan.referer.as_deref(), is_app).await;
    permit.release(match (&identified.retry_after, &identified.answer) {
        (Some(seconds), _) => Outcome::Limited(*seconds),
        (None, crate::api::Verification::NotAnswered) => Outcome::Failed,
        (None, _) => Outcome::Issued,
    });
    ctx.metrics.verification(&host, identified.answer.as_str());
    Some(CheckResult::Answered(check.issued, identified.answer))
}

/// Reads the token from the target; `None` where it is another one meanwhile.
async fn stored_token(ctx: &Context, check: &Check) -> Option<AccessToken> {
    let secret = ctx.cluster.secret(&check.me.namespace, &check.plan.target.name).await.ok()??;
    let stored = LiveSecret::new(secret, &check.me).stored()?;
    (stored.issue_time == check.issued).then_some(stored.token)
}

async fn app_id(ctx: &Context, check: &Check) -> Option<u64> {
    let secret = ctx.cluster.secret(&check.me.namespace, &check.plan.credentials.name).await.ok()??;
    let read = credentials(secret, &check.plan.credentials).ok()?;
    Some(ctx.digester.digest_id(read.id()))
}

async fn client(ctx: &Context, check: &Check) -> Option<reqwest::Client> {
    let namespace = &check.me.namespace;
    let ca = match &check.plan.ca {
        Some(ca) => Some(fetch_ca(ctx, namespace, ca).await.ok()??.1.ok()?),
        None => None,
    };
    let certificate = match &check.plan.client_certificate {
        Some(name) => Some(client_certificate(ctx.cluster.secret(namespace, name).await.ok()??, ctx.now()).ok()?),
        None => None,
    };
    ctx.client(&check.plan, ca.as_ref(), certificate.as_ref()).ok()
}
