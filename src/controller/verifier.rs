//! Checks a published token with the portal. Nothing waits for a check: its result requeues the resource.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::context::Context;
use super::sources::{client_certificate, credentials, fetch_ca};
use crate::api::Verification;
use crate::arcgis::identify;
use crate::core::{AccessToken, Admit, Identity, LiveSecret, Outcome, Plan, Term, VerificationPlan};
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
            answer = run(&ctx, &check) => match answer {
                Ok(answer) => CheckResult::Answered(check.issued, answer),
                Err(until) => CheckResult::Deferred(until),
            },
        };
        let key = Key { namespace: check.me.namespace, name: check.me.name };
        if let Some(resource) = ctx.index().get_mut(&key, &check.me.uid).filter(|_| ctx.leadership.holds(term)) {
            resource.check = Some(result);
        }
        // The receiver is gone only at the end.
        let _ = ctx.requeue.send(key);
    });
}

/// Makes a check; where it cannot be made now, returns when to make it.
async fn run(ctx: &Context, check: &Check) -> Result<Verification, Timestamp> {
    let (plan, host) = (&check.plan, check.plan.portal.authority());
    let permit = match ctx.hosts.try_acquire_unqueued(&host) {
        Ok(permit) => permit,
        Err(Admit::PausedUntil(until)) => return Err(until),
        Err(_) => return Err(ctx.after(DEFER_SECONDS)),
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
        (None, Verification::NotAnswered) => Outcome::Failed,
        (None, _) => Outcome::Issued,
    });
    ctx.metrics.verification(&host, identified.answer.as_str());
    Ok(identified.answer)
}

impl Check {
    /// When it is made again if a user has to change something first, such as a CA bundle.
    fn next(&self, ctx: &Context) -> Timestamp {
        ctx.after(self.plan.verification.as_ref().map_or(DEFER_SECONDS, VerificationPlan::seconds))
    }

    async fn secret(&self, ctx: &Context, name: &str) -> Result<Secret, Timestamp> {
        let read = ctx.cluster.secret(&self.me.namespace, name).await;
        read.map_err(|_| ctx.after(DEFER_SECONDS))?.ok_or_else(|| self.next(ctx))
    }
}

/// Reads the token from the target. Where it is another one meanwhile, that one is checked.
async fn stored_token(ctx: &Context, check: &Check) -> Result<AccessToken, Timestamp> {
    let secret = check.secret(ctx, &check.plan.target.name).await?;
    let stored = LiveSecret::new(secret, &check.me).stored().filter(|stored| stored.issue_time == check.issued);
    stored.map(|stored| stored.token).ok_or_else(|| check.next(ctx))
}

async fn app_id(ctx: &Context, check: &Check) -> Result<u64, Timestamp> {
    let secret = check.secret(ctx, &check.plan.credentials.name).await?;
    let read = credentials(secret, &check.plan.credentials).map_err(|_| check.next(ctx))?;
    Ok(ctx.digester.digest_id(read.id()))
}

async fn client(ctx: &Context, check: &Check) -> Result<reqwest::Client, Timestamp> {
    let unusable = || check.next(ctx);
    let ca = match &check.plan.ca {
        Some(ca) => {
            let read = fetch_ca(ctx, &check.me.namespace, ca).await.map_err(|_| ctx.after(DEFER_SECONDS))?;
            Some(read.ok_or_else(unusable)?.1.map_err(|_| unusable())?)
        }
        None => None,
    };
    let certificate = match &check.plan.client_certificate {
        Some(name) => {
            let secret = check.secret(ctx, name).await?;
            Some(client_certificate(secret, ctx.now()).map_err(|_| unusable())?)
        }
        None => None,
    };
    ctx.client(&check.plan, ca.as_ref(), certificate.as_ref()).map_err(|_| unusable())
}
