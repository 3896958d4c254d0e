//! One look at one resource: ask the core what to do, do it, tell the core, until it says rest.

use std::sync::PoisonError;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::context::Context;
use super::host_limiters::RequestPermit;
use super::index::{IndexedResource, Key, ObjectKind};
use crate::api::{CaBundleKind, Reason};
use crate::arcgis::{CaBundle, TokenRequest, exchange};
use crate::cluster::{ApiError, publish, version};
use crate::core::AccessToken;
use crate::core::{
    Admit, AttemptKind, Credentials, Identity, IssuedToken, LiveSecret, Observed, OriginMatch, Outcome, Plan,
    Situation, SpecError, Step, Term, Verdict, conclude, decide, render, zero,
};

/// A look needs far fewer; more is a bug or a fight over the target.
const MAX_STEPS: usize = 24;

/// What one look holds beside the situation: the secrets, which never leave it.
struct Look<'a> {
    ctx: &'a Context,
    key: &'a Key,
    /// Nothing is touched after its end.
    term: Term,
    s: Situation,
    credentials: Option<Credentials>,
    ca: Option<CaBundle>,
    permit: Option<OwnedSemaphorePermit>,
    request_permit: Option<RequestPermit<'a>>,
    /// The token that was published in this look.
    published: Option<AccessToken>,
}

/// Looks at a resource; returns when to look again, `None` when it is gone.
pub async fn reconcile(ctx: &Context, key: &Key, term: Term, permit: OwnedSemaphorePermit) -> Option<Timestamp> {
    let s = observe(ctx, key)?;
    let mut look = Look::new(ctx, key, term, s, permit);
    for _ in 0..MAX_STEPS {
        if look.request_permit.is_none() {
            look.s.admit = look.host().map_or(Admit::Now, |host| ctx.hosts.check(&host));
        }
        let verdict = decide(&look.s, ctx.now());
        match verdict.step {
            Step::Rest => return Some(finish(look, verdict).await),
            step if ctx.leadership.holds(term) => look.act(step).await,
            _ => return look.abandon(),
        }
    }
    look.s.failed(AttemptKind::Write, Reason::ClusterError, None, ctx.now());
    let verdict = decide(&look.s, ctx.now());
    Some(finish(look, verdict).await)
}

/// After a panic: the bug is reported on this resource alone.
pub async fn report_bug(ctx: &Context, key: &Key, term: Term, permit: OwnedSemaphorePermit) -> Option<Timestamp> {
    let mut s = observe(ctx, key)?;
    s.failed(AttemptKind::Write, Reason::Internal, None, ctx.now());
    let verdict = decide(&s, ctx.now());
    Some(finish(Look::new(ctx, key, term, s, permit), verdict).await)
}

fn observe(ctx: &Context, key: &Key) -> Option<Situation> {
    let mut index = ctx.index();
    let rival = index.rival(key);
    let resource = index.get(key).filter(|resource| !resource.deleting)?.clone();
    let uid = resource.uid.clone();
    let answer = index.get_mut(key, &uid).and_then(|resource| resource.answer.take());
    let plan = plan(&resource);
    let namespace = &key.namespace;
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
        status: serde_json::from_str(&resource.status).unwrap_or_default(),
        rival,
        target,
        credentials,
        ca,
        admit: Admit::Now,
        has_permit: false,
        memory: resource.memory,
    };
    if answer.is_some() {
        s.memory.verification = answer;
    }
    s.recall(ctx.now());
    Some(s)
}

fn plan(resource: &IndexedResource) -> Result<Plan, SpecError> {
    let spec = serde_json::from_str(&resource.spec).map_err(|_| SpecError {
        field: "spec",
        advice: "cannot be decoded: compare it with kubectl explain arcgisappcredential.spec".to_owned(),
    })?;
    Plan::new(&spec)
}

fn ca_kind(kind: CaBundleKind) -> ObjectKind {
    match kind {
        CaBundleKind::ConfigMap => ObjectKind::ConfigMap,
        CaBundleKind::Secret => ObjectKind::Secret,
    }
}

impl<'a> Look<'a> {
    fn new(ctx: &'a Context, key: &'a Key, term: Term, s: Situation, permit: OwnedSemaphorePermit) -> Self {
        Self {
            ctx,
            key,
            term,
            s,
            credentials: None,
            ca: None,
            permit: Some(permit),
            request_permit: None,
            published: None,
        }
    }

    /// The right to act has ended: what is known is kept for the case that nobody else gets it.
    fn abandon(self) -> Option<Timestamp> {
        if let Some(resource) = self.ctx.index().get_mut(self.key, &self.s.me.uid) {
            resource.memory = self.s.memory;
        }
        None
    }

    fn plan(&self) -> Option<&Plan> {
        self.s.plan.as_ref().ok()
    }

    fn host(&self) -> Option<String> {
        self.plan().map(|plan| plan.portal.authority())
    }

    async fn act(&mut self, step: Step) {
        let Some(plan) = self.plan().cloned() else { return };
        match step {
            Step::ReadTarget => self.read_target(&plan).await,
            Step::ReadCredentials => self.read_credentials(&plan).await,
            Step::ReadCa => self.read_ca(&plan).await,
            Step::TryCreate => self.create(&plan, true).await,
            Step::Create => self.create(&plan, false).await,
            Step::AcquirePermit => self.enter(&plan),
            Step::Request => self.request(&plan).await,
            Step::Patch(patch) => self.patch(&plan, &patch, false).await,
            Step::Own(patch) => self.patch(&plan, &patch, true).await,
            Step::Rest => {}
        }
    }

    async fn read_target(&mut self, plan: &Plan) {
        let (namespace, name) = (&self.s.me.namespace, &plan.target.name);
        let before = self.ctx.index().observed(ObjectKind::Secret, namespace, name);
        match self.ctx.cluster.secret(namespace, name).await {
            Ok(secret) => {
                let live = secret.map(|secret| LiveSecret::new(secret, &self.s.me));
                let version = live.as_ref().map(|live| &live.version);
                self.ctx.index().note(ObjectKind::Secret, namespace, name, &before, version);
                self.s.target_read(live);
            }
            Err(error) => self.cluster_failed(AttemptKind::Write, error),
        }
    }

    async fn read_credentials(&mut self, plan: &Plan) {
        let (namespace, name) = (&self.s.me.namespace, &plan.credentials.name);
        let before = self.ctx.index().observed(ObjectKind::Secret, namespace, name);
        match self.ctx.cluster.secret(namespace, name).await {
            Ok(secret) => {
                let version = secret.as_ref().map(version);
                self.ctx.index().note(ObjectKind::Secret, namespace, name, &before, version.as_ref());
                let read = secret.map(|secret| {
                    let mut data = secret.data.unwrap_or_default();
                    let read = Credentials::read(&data, &plan.credentials);
                    zero(&mut data);
                    read
                });
                let digest = read.as_ref().map(|read| {
                    read.as_ref().map(|credentials| self.ctx.digester.digest(credentials)).map_err(Clone::clone)
                });
                self.s.credentials_read(version.zip(digest));
                self.credentials = read.and_then(Result::ok);
            }
            Err(error) => self.cluster_failed(AttemptKind::Write, error),
        }
    }

    async fn read_ca(&mut self, plan: &Plan) {
        let Some(ca) = &plan.ca else { return };
        let namespace = &self.s.me.namespace;
        let kind = ca_kind(ca.kind);
        let before = self.ctx.index().observed(kind, namespace, &ca.name);
        let read = match ca.kind {
            CaBundleKind::Secret => self.ctx.cluster.secret(namespace, &ca.name).await.map(|secret| {
                secret.map(|s| (version(&s), s.data.and_then(|mut data| data.remove(&ca.key)).map(|bytes| bytes.0)))
            }),
            CaBundleKind::ConfigMap => self.ctx.cluster.config_map(namespace, &ca.name).await.map(|map| {
                map.map(|m| (version(&m), m.data.and_then(|mut data| data.remove(&ca.key)).map(String::into_bytes)))
            }),
        };
        match read {
            Ok(found) => {
                let version = found.as_ref().map(|(version, _)| version);
                self.ctx.index().note(kind, namespace, &ca.name, &before, version);
                let judged = found.map(|(version, pem)| match pem.map(|pem| CaBundle::parse(&pem)) {
                    None => (version, Err(Reason::CaBundleNotFound)),
                    Some(Err(_)) => (version, Err(Reason::CaBundleInvalid)),
                    Some(Ok(bundle)) => (version, Ok(bundle)),
                });
                self.s.ca_read(judged.as_ref().map(|(v, judged)| (v.clone(), judged.as_ref().err().copied())));
                self.ca = judged.and_then(|(_, judged)| judged.ok());
            }
            Err(error) => self.cluster_failed(AttemptKind::Write, error),
        }
    }

    fn enter(&mut self, plan: &Plan) {
        match self.ctx.hosts.try_acquire(&plan.portal.authority(), self.key) {
            Ok(request_permit) => {
                self.request_permit = Some(request_permit);
                self.s.has_permit = true;
            }
            Err(refused) => self.s.admit = refused,
        }
    }

    async fn request(&mut self, plan: &Plan) {
        let host = plan.portal.authority();
        let Some(credentials) = self.credentials.clone() else {
            self.s.credentials_read(None);
            return;
        };
        let Ok(client) = self.ctx.client(plan, self.ca.as_ref()) else {
            self.s.failed(AttemptKind::Request, Reason::Internal, None, self.ctx.now());
            return;
        };
        let permit = self.request_permit.take();
        self.s.has_permit = false;
        // A slow portal must not keep others from being looked at.
        self.permit = None;
        self.ctx.freed.notify_one();
        let (sent, started) = (self.ctx.now(), Instant::now());
        let base = plan.portal.base();
        let request = TokenRequest { portal: &base, credentials: &credentials, lifetime: plan.lifetime };
        let answer = tokio::select! {
            biased;
            () = self.ctx.leadership.ended(self.term) => None,
            answer = exchange(&client, &request, self.ctx.clock) => Some(answer),
        };
        let Some(answer) = answer else {
            // The portal may have received it: it counts as an attempt.
            self.s.failed(AttemptKind::Request, Reason::ClusterError, None, self.ctx.now());
            return;
        };
        if let Some(permit) = permit {
            permit.release(match &answer {
                Ok(_) => Outcome::Issued,
                Err(error) => error.retry_after.map_or(Outcome::Failed, Outcome::Limited),
            });
        }
        self.permit = self.ctx.permits.clone().acquire_owned().await.ok();
        let reason = answer.as_ref().err().map(|error| error.reason);
        self.ctx.metrics.requested(&host, reason, started.elapsed());
        let (namespace, name) = (&self.s.me.namespace, &self.s.me.name);
        match answer {
            Ok(grant) => {
                info!(namespace, name, portal = host, lifetime_seconds = grant.lifetime_seconds, "token issued");
                self.published = Some(grant.token.clone());
                self.s.issued(grant.token, grant.lifetime_seconds, sent);
            }
            Err(error) => {
                warn!(namespace, name, portal = host, reason = error.reason.as_str(), "no token");
                self.s.failed(AttemptKind::Request, error.reason, error.retry_after, self.ctx.now());
            }
        }
    }

    async fn create(&mut self, plan: &Plan, dry: bool) {
        let now = self.ctx.now();
        let unpublished = if dry { stand_in(plan, now) } else { self.s.unpublished(now).cloned() };
        let Some(unpublished) = unpublished else { return };
        let manifest = render(plan, &self.s.me, &unpublished).manifest(plan, &self.s.me);
        let namespace = self.s.me.namespace.clone();
        match self.ctx.cluster.create_secret(&namespace, &manifest, dry).await {
            Ok(_) if dry => self.s.create_tried(),
            Ok(version) => {
                self.note_target(plan, &version);
                self.s.created(version, self.ctx.now());
            }
            Err(ApiError::Exists | ApiError::Conflict) => self.s.overtaken(),
            Err(error) => self.cluster_failed(AttemptKind::Write, error),
        }
    }

    async fn patch(&mut self, plan: &Plan, patch: &serde_json::Value, ownership: bool) {
        let kind = if ownership { AttemptKind::Ownership } else { AttemptKind::Write };
        let namespace = self.s.me.namespace.clone();
        match self.ctx.cluster.patch_secret(&namespace, &plan.target.name, patch).await {
            Ok(version) => {
                self.note_target(plan, &version);
                if ownership {
                    self.s.owned(version);
                } else {
                    self.s.written(version, self.ctx.now());
                }
            }
            Err(ApiError::Exists | ApiError::Conflict | ApiError::NotFound) => self.s.overtaken(),
            Err(error) => self.cluster_failed(kind, error),
        }
    }

    fn note_target(&self, plan: &Plan, version: &crate::core::Version) {
        let mut index = self.ctx.index();
        let (namespace, name) = (&self.s.me.namespace, &plan.target.name);
        let before = index.observed(ObjectKind::Secret, namespace, name);
        index.note(ObjectKind::Secret, namespace, name, &before, Some(version));
    }

    fn cluster_failed(&mut self, kind: AttemptKind, error: ApiError) {
        let reason = match error {
            ApiError::Refused => Reason::TargetRefused,
            ApiError::Invalid => Reason::SpecInvalid,
            _ => Reason::ClusterError,
        };
        warn!(namespace = self.key.namespace, name = self.key.name, reason = reason.as_str(), "{error}");
        self.s.failed(kind, reason, None, self.ctx.now());
    }
}

/// What a target is tried dry with.
fn stand_in(plan: &Plan, now: Timestamp) -> Option<IssuedToken> {
    Some(IssuedToken {
        token: AccessToken::parse("pending".to_owned())?,
        issued_at: now,
        expires_at: now,
        inputs: "v1:pending".to_owned(),
        portal_url: plan.portal.base(),
    })
}

/// Reports, remembers, and says when to look again.
async fn finish(look: Look<'_>, verdict: Verdict) -> Timestamp {
    let Look { ctx, key, term, s, credentials, ca, published, .. } = look;
    let (me, host) = (s.me.clone(), s.plan.as_ref().ok().map(|plan| plan.portal.authority()));
    let plan = s.plan.as_ref().ok().cloned();
    let (awaits_permit, waiting_for) = (verdict.awaits_permit, s.status.token.as_ref().map(|token| token.expires_at));
    let conclusion = conclude(s, verdict, ctx.now());
    let written = plan.as_ref().is_some_and(|plan| plan.verify) && conclusion.memory.unpublished.is_none();
    ctx.metrics.concluded(conclusion.problem);
    if let Some(resource) = ctx.index().get_mut(key, &me.uid) {
        resource.memory = conclusion.memory;
    }
    if let (true, Some(host)) = (awaits_permit, host) {
        ctx.hosts.enqueue(&host, waiting_for, key.clone());
    }
    let mut wake = conclusion.wake;
    if conclusion.changed && ctx.leadership.holds(term) {
        match ctx.cluster.patch_status(&me.namespace, &me.name, &me.uid, &conclusion.status).await {
            Ok(version) => {
                ctx.index().status_written(key, &me.uid, version, &conclusion.status);
                if let Some(change) = conclusion.change {
                    info!(namespace = me.namespace, name = me.name, reason = change.reason, "{}", change.message);
                    if ctx.leadership.holds(term)
                        && let Err(error) = publish(&ctx.cluster, &me, change, ctx.now()).await
                    {
                        warn!(namespace = me.namespace, name = me.name, "event not written: {error}");
                    }
                }
            }
            Err(ApiError::NotFound) => {}
            Err(error) => {
                warn!(namespace = me.namespace, name = me.name, "status not written: {error}");
                wake = wake.min(ctx.soon());
            }
        }
    }
    let verifies = written && ctx.leadership.holds(term);
    if let (Some(token), Some(credentials), Some(plan), true) = (published, credentials, plan, verifies) {
        ctx.verify(term, me, &plan, ca.as_ref(), token, credentials);
    }
    wake
}

impl Context {
    /// The index, for a moment.
    pub fn index(&self) -> std::sync::MutexGuard<'_, super::index::Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
