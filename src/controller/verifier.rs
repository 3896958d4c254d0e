//! Verifies a published token with the portal. Nothing waits for that: its result requeues the resource.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::time::timeout;

use super::context::Context;
use super::host_limiters::RequestPermit;
use super::reads::Reads;
use super::sources::{Objects, client_certificate, credentials, fetch_ca};
use crate::api::{TokenStatus, Verification};
use crate::arcgis::{Identified, PortalClient, identify};
use crate::core::{AccessToken, Admit, Identity, LiveSecret, Outcome, Plan, Term, VerificationPlan, rendered_size};
use crate::index::{Key, Verified};

/// A verification that a host at capacity, or a failing API server, does not admit is made this many seconds later.
const DEFER_SECONDS: i64 = 10;
/// How long it waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to verify.
pub struct PublishedToken {
    pub me: Identity,
    pub plan: Plan,
    pub issue_time: Timestamp,
    /// What the status says of it.
    pub reported: Option<TokenStatus>,
    /// The token, where it was published just now; else it is read from the target.
    pub token: Option<AccessToken>,
    /// The digest of the app's ID, where it is known.
    pub app: Option<u64>,
}

/// A verification in flight. One that is lost, with the claim or by a panic, is made again.
struct InFlight {
    ctx: Arc<Context>,
    key: Key,
    uid: String,
    result: Option<Verified>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Verified::Deferred(self.ctx.now()));
        if let Some(resource) = self.ctx.index().get_mut(&self.key, &self.uid) {
            resource.verified = Some(Box::new(result));
        }
        // The receiver is gone only at the end.
        let _ = self.ctx.requeue.send(self.key.clone());
    }
}

impl InFlight {
    /// Runs a check until it ends or the term does.
    async fn run(mut self, term: Term, check: impl Future<Output = Verified>) {
        self.result = tokio::select! {
            biased;
            () = self.ctx.leadership.ended(term) => None,
            result = check => Some(result),
        };
    }
}

/// Starts a verification.
pub fn start(ctx: &Arc<Context>, term: Term, published: PublishedToken) {
    let key = Key::new(&published.me.namespace, &published.me.name);
    let in_flight = InFlight { ctx: ctx.clone(), key, uid: published.me.uid.clone(), result: None };
    let ctx = ctx.clone();
    tokio::spawn(in_flight.run(term, async move {
        match check(&ctx, &published).await {
            Ok((answer, clock_differs)) => Verified::Answered(published.issue_time, answer, clock_differs),
            Err(until) => Verified::Deferred(until),
        }
    }));
}

/// Asks the portal; returns the answer, and whether the portal's clock differs. Where that cannot be done now, returns when
/// to do it.
async fn check(ctx: &Context, published: &PublishedToken) -> Result<(Verification, bool), Timestamp> {
    let (plan, host) = (&published.plan, published.plan.portal.authority());
    let permit = turn(ctx, &host).await?;
    let token = match &published.token {
        Some(token) => token.clone(),
        None => stored_token(ctx, published).await?,
    };
    let app = match published.app {
        Some(app) => app,
        None => app_id(ctx, published).await?,
    };
    let client = client(ctx, published).await?;
    let is_app = |id: &str| ctx.digester.digest_id(id) == app;
    let identified = identify(&client, &plan.portal.base(), &token, plan.referer.as_deref(), is_app, ctx.clock).await;
    permit.release(outcome(&identified));
    if let Some(expires) = identified.certificate_expires {
        let key = Key::new(&published.me.namespace, &published.me.name);
        ctx.index().portal_presented(&key, &host, expires);
    }
    ctx.metrics.verification(&host, identified.answer.as_str());
    Ok((identified.answer, identified.clock_differs))
}

/// Waits until the request may be sent. Others do not wait for it for long, nor does it for them.
async fn turn<'a>(ctx: &'a Context, host: &str) -> Result<RequestPermit<'a>, Timestamp> {
    let mut permit = ctx.hosts.try_verify(host).map_err(|refused| match refused {
        Admit::PausedUntil(until) => until,
        _ => ctx.after(DEFER_SECONDS),
    })?;
    match timeout(PATIENCE, permit.turn()).await {
        Ok(true) => Ok(permit),
        _ => Err(ctx.after(DEFER_SECONDS)),
    }
}

fn outcome(identified: &Identified) -> Outcome {
    match (identified.retry_after, &identified.answer) {
        (Some(seconds), _) => Outcome::Limited(seconds),
        (None, Verification::NotAnswered) => Outcome::Unanswered,
        (None, _) => Outcome::Issued,
    }
}

impl PublishedToken {
    /// When it is made again if a user has to change something first, such as a CA bundle.
    fn next(&self, ctx: &Context) -> Timestamp {
        ctx.after(self.plan.verification.as_ref().map_or(DEFER_SECONDS, VerificationPlan::seconds))
    }

    fn reads<'a>(&'a self, ctx: &'a Context) -> Reads<'a> {
        Reads { ctx, namespace: &self.me.namespace }
    }

    async fn secret(&self, ctx: &Context, name: &str) -> Result<Secret, Timestamp> {
        let read = self.reads(ctx).secret(name).await;
        read.map_err(|_| ctx.after(DEFER_SECONDS))?.ok_or_else(|| self.next(ctx))
    }
}

/// Reads the token from the target. Where it is another one meanwhile, that one is verified.
async fn stored_token(ctx: &Context, published: &PublishedToken) -> Result<AccessToken, Timestamp> {
    let _room = ctx.room(rendered_size(&published.plan, 0)).await;
    let secret = published.secret(ctx, &published.plan.target.name).await?;
    let stored = LiveSecret::new(secret, &published.me).stored(published.reported.as_ref());
    let stored = stored.filter(|stored| stored.issue_time == published.issue_time);
    stored.map(|stored| stored.token).ok_or_else(|| published.next(ctx))
}

async fn app_id(ctx: &Context, published: &PublishedToken) -> Result<u64, Timestamp> {
    let secret = published.secret(ctx, &published.plan.credentials.name).await?;
    let read = credentials(secret, &published.plan.credentials).map_err(|_| published.next(ctx))?;
    Ok(ctx.digester.digest_id(read.id()))
}

async fn client(ctx: &Context, published: &PublishedToken) -> Result<PortalClient, Timestamp> {
    let unusable = || published.next(ctx);
    let ca = match &published.plan.ca {
        Some(ca) => {
            let read = fetch_ca(&published.reads(ctx), ca).await.map_err(|_| ctx.after(DEFER_SECONDS))?;
            Some(read.ok_or_else(unusable)?.1.map_err(|_| unusable())?)
        }
        None => None,
    };
    let certificate = match &published.plan.client_certificate {
        Some(name) => {
            let secret = published.secret(ctx, name).await?;
            Some(client_certificate(secret, ctx.now()).map_err(|_| unusable())?)
        }
        None => None,
    };
    ctx.client(&published.plan, ca.as_ref(), certificate.as_ref()).map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use super::super::tests::{context, key, two_resources};
    use super::*;

    #[tokio::test]
    async fn a_check_that_panics_is_due_again_at_once() {
        let (ctx, term, mut requeued) = context(two_resources(), Timestamp::now, Vec::new());
        let started = ctx.now();
        let in_flight = InFlight { ctx: ctx.clone(), key: key("boom"), uid: "boom".to_owned(), result: None };
        let ended = tokio::spawn(in_flight.run(term, async { panic!("on purpose") })).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(requeued.try_recv().unwrap(), key("boom"));
        let verified = ctx.index().get(&key("boom")).unwrap().verified.clone();
        assert!(matches!(*verified.unwrap(), Verified::Deferred(at) if (started..=ctx.now()).contains(&at)));
    }
}
