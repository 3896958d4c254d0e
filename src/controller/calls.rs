//! The calls of a reconcile, and what they returned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::time::timeout;
use tracing::{info, warn};

use super::context::Context;
use super::host_limiters::RequestPermit;
use super::observe::ca_kind;
use super::reads::Reads;
use super::sources::{Objects, client_certificate, credentials, fetch_ca};
use super::workers::Worker;
use crate::api::{CaBundleKind, Cause, Fault, Reason};
use crate::arcgis::{CaBundle, ClientCertificate, Exchange, ExchangeError, TokenRequest, exchange};
use crate::cluster::{ApiError, version};
use crate::core::{
    AccessToken, Admit, Answer, ClientCertificateError, Credentials, Edge, Observed, Outcome, Plan, Situation, Step,
    Term, Trigger, Version, describe,
};
use crate::index::{Key, ObjectKind};

/// How long credentials that were read are kept until they are sent.
const HELD: Duration = Duration::from_secs(5);

/// Makes the calls of one reconcile, and holds what they need: the secrets never leave it.
pub(super) struct Calls<'a> {
    pub ctx: &'a Arc<Context>,
    pub key: &'a Key,
    /// Nothing is changed after the end of this term.
    pub term: Term,
    worker: Option<Worker>,
    request_permit: Option<RequestPermit<'a>>,
    credentials: Option<Credentials>,
    ca: Option<CaBundle>,
    client_certificate: Option<ClientCertificate>,
    /// The digest of the app's ID, where the credentials were read.
    pub app: Option<u64>,
    /// The token that was issued to this reconcile.
    pub issued: Option<AccessToken>,
}

impl Edge for Calls<'_> {
    fn now(&self) -> Timestamp {
        self.ctx.now()
    }

    fn leads(&self) -> bool {
        self.ctx.leadership.holds(self.term)
    }

    fn is_current(&self, s: &Situation) -> bool {
        let index = self.ctx.index();
        let resource = index.get(self.key).filter(|resource| resource.uid == *s.me.uid && !resource.deleting);
        resource.is_some_and(|resource| resource.generation == s.generation)
    }

    fn admit(&self, plan: &Plan) -> Admit {
        self.ctx.hosts.check(&plan.portal.authority())
    }

    fn acquire(&mut self, plan: &Plan) -> Admit {
        match self.ctx.hosts.try_prepare(&plan.portal.authority(), self.key) {
            Ok(permit) => {
                self.request_permit = Some(permit);
                Admit::Now
            }
            Err(refused) => refused,
        }
    }
}

impl<'a> Calls<'a> {
    pub fn new(ctx: &'a Arc<Context>, key: &'a Key, term: Term, worker: Worker) -> Self {
        Self {
            ctx,
            key,
            term,
            worker: Some(worker),
            request_permit: None,
            credentials: None,
            ca: None,
            client_certificate: None,
            app: None,
            issued: None,
        }
    }

    /// Whether a step can be made: one that calls the API server needs a worker.
    pub fn may_make(&self, step: &Step) -> bool {
        self.worker.is_some() || step.requests()
    }

    /// Waits for a worker, where a request has taken that of the reconcile.
    pub async fn resume(&mut self) {
        if self.worker.is_none() {
            self.worker = self.ctx.resume(self.key).await;
        }
    }

    /// Makes the call of a step.
    pub async fn make(&mut self, s: &Situation, step: &Step) -> Answer {
        let Ok(plan) = &s.plan else { return Answer::Conflict };
        let made = match step {
            Step::ReadTarget => self.read_target(s, plan).await,
            Step::ReadCredentials => self.read_credentials(plan).await,
            Step::ReadCa => self.read_ca(plan).await,
            Step::ReadClientCertificate => self.read_client_certificate(s, plan).await,
            Step::CheckName => self.check_name(plan).await,
            Step::TryCreate | Step::Create => self.create(s, plan, matches!(step, Step::TryCreate)).await,
            Step::Request(trigger) => return self.request(plan, *trigger).await,
            Step::Publish(patch) | Step::Render(patch) | Step::Own(patch) => self.patch(plan, patch).await,
            Step::AcquirePermit | Step::Rest => Ok(Answer::Conflict),
        };
        made.unwrap_or_else(|error| {
            let (fault, retry_after) = (error.fault(source(step, plan)), error.retry_after());
            self.warn(&fault, plan, "the API server did not do what was asked");
            Answer::Failed { fault, retry_after }
        })
    }

    fn warn(&self, fault: &Fault, plan: &Plan, what: &str) {
        let (namespace, name, reason) = (self.key.namespace(), self.key.name(), fault.reason.as_str());
        let cause = fault.cause.map(Cause::as_str);
        warn!(
            namespace,
            name,
            reason,
            cause,
            portal = plan.portal.authority(),
            "{what}: {}",
            describe(fault, None, Some(plan))
        );
    }

    /// Reads a Secret and records its version in the index.
    pub(super) async fn secret(&self, name: &str, latest: bool) -> Result<Option<Secret>, ApiError> {
        let namespace = self.key.namespace();
        let before = self.ctx.index().observed(ObjectKind::Secret, namespace, name);
        let reads = self.reads();
        let secret = if latest { reads.latest_secret(name).await } else { reads.secret(name).await }?;
        let now = secret.as_ref().map(version);
        self.record(ObjectKind::Secret, name, &before, now.as_ref());
        Ok(secret)
    }

    /// Records in the index what a call returned, and wakes the others that name the object.
    pub(super) fn record(&self, kind: ObjectKind, name: &str, before: &Observed<()>, now: Option<&Version>) {
        let users = self.ctx.index().record(kind, self.key.namespace(), name, before, now);
        for key in users.into_iter().filter(|key| key != self.key) {
            // The receiver is gone only at the end.
            let _ = self.ctx.requeue.send(key);
        }
    }

    fn reads(&self) -> Reads<'_> {
        Reads { ctx: self.ctx, namespace: self.key.namespace() }
    }

    async fn read_credentials(&mut self, plan: &Plan) -> Result<Answer, ApiError> {
        let secret = self.secret(&plan.credentials.name, false).await?;
        let version = secret.as_ref().map(version);
        let read = secret.map(|secret| credentials(secret, &plan.credentials));
        let digester = &self.ctx.digester;
        let digest = read.as_ref().map(|read| read.as_ref().map(|c| digester.digest(c)).map_err(Clone::clone));
        self.credentials = read.and_then(Result::ok);
        self.app = self.credentials.as_ref().map(|credentials| digester.digest_id(credentials.id())).or(self.app);
        Ok(Answer::Credentials(version.zip(digest)))
    }

    async fn read_ca(&mut self, plan: &Plan) -> Result<Answer, ApiError> {
        let Some(ca) = &plan.ca else { return Ok(Answer::Ca(None)) };
        let (namespace, kind) = (self.key.namespace(), ca_kind(ca.kind));
        let before = self.ctx.index().observed(kind, namespace, &ca.name);
        let read = fetch_ca(&self.reads(), ca).await?;
        let version = read.as_ref().map(|(version, _)| version.clone());
        self.record(kind, &ca.name, &before, version.as_ref());
        let error = read.as_ref().map(|(_, read)| read.as_ref().err().cloned());
        self.ca = read.and_then(|(_, read)| read.ok());
        Ok(Answer::Ca(version.zip(error)))
    }

    async fn read_client_certificate(&mut self, s: &Situation, plan: &Plan) -> Result<Answer, ApiError> {
        let Some(name) = &plan.client_certificate else { return Ok(Answer::ClientCertificate(None)) };
        let secret = self.secret(name, false).await?;
        let version = secret.as_ref().map(version);
        let read = secret.map(|secret| client_certificate(secret, self.ctx.now()));
        let clock_differs = self.ctx.server_clock.differs();
        let error = read.as_ref().map(|read| read.as_ref().err().map(|error| error.clock(clock_differs)));
        let expires = match &read {
            Some(Ok(certificate)) => certificate.not_after,
            Some(Err(ClientCertificateError::Expired(at, _))) => Some(*at),
            _ => None,
        };
        if let Some(resource) = self.ctx.index().get_mut(self.key, &s.me.uid) {
            resource.client_certificate_expires = expires.map(Into::into);
        }
        self.client_certificate = read.and_then(Result::ok);
        Ok(Answer::ClientCertificate(version.zip(error)))
    }

    /// Waits until the request may be sent. After a wait it is decided again: what it was decided from may have changed. That
    /// needs no worker, so a host does not wait for the API server.
    async fn turn(&mut self) -> Result<RequestPermit<'a>, Answer> {
        let unsent = |has_permit, has_credentials| Answer::Unsent { has_permit, has_credentials };
        // Neither a slow portal nor those before it must keep a worker from other resources.
        self.worker = None;
        let mut permit = self.request_permit.take().ok_or_else(|| unsent(false, true))?;
        match permit.turn().now_or_never() {
            Some(true) => return Ok(permit),
            Some(false) => {}
            None => {
                let comes = tokio::select! {
                    biased;
                    () = self.ctx.leadership.ended(self.term) => false,
                    comes = self.turn_comes(&mut permit) => comes,
                };
                self.request_permit = Some(permit).filter(|_| comes);
            }
        }
        Err(unsent(self.request_permit.is_some(), self.credentials.is_some()))
    }

    async fn turn_comes(&mut self, permit: &mut RequestPermit<'a>) -> bool {
        if let Ok(comes) = timeout(HELD, permit.turn()).await {
            return comes;
        }
        self.credentials = None;
        permit.turn().await
    }

    async fn request(&mut self, plan: &Plan, trigger: Trigger) -> Answer {
        let failed = |reason: Reason| Answer::Failed { fault: reason.into(), retry_after: None };
        let Ok(client) = self.ctx.client(plan, self.ca.as_ref(), self.client_certificate.as_ref()) else {
            return failed(Reason::Internal);
        };
        let permit = match self.turn().await {
            Ok(permit) => permit,
            Err(unsent) => return unsent,
        };
        let Some(credentials) = self.credentials.clone() else { return Answer::Credentials(None) };
        let (sent, started) = (self.ctx.now(), Instant::now());
        let (host, base) = (plan.portal.authority(), plan.portal.base());
        let (lifetime, referer) = (plan.lifetime, plan.referer.as_deref());
        let request = TokenRequest { portal: &base, credentials: &credentials, lifetime, referer };
        let Exchange { answer, certificate_expires } = tokio::select! {
            biased;
            // The portal may have received it: it counts as an attempt.
            () = self.ctx.leadership.ended(self.term) => return failed(Reason::ClusterError),
            exchanged = exchange(&client, &request, self.ctx.clock) => exchanged,
        };
        if let Some(expires) = certificate_expires {
            self.ctx.index().portal_presented(self.key, &host, expires);
        }
        permit.release(match &answer {
            Ok(_) => Outcome::Issued,
            Err(error) => Outcome::of(error.fault.reason, error.retry_after),
        });
        self.resume().await;
        let reason = answer.as_ref().err().map(|error| error.fault.reason);
        let (namespace, name, trigger) = (self.key.namespace(), self.key.name(), trigger.as_str());
        self.ctx.metrics.requested(&host, reason, trigger, started.elapsed());
        match answer {
            Ok(grant) => {
                let lifetime_seconds = grant.lifetime_seconds;
                info!(namespace, name, portal = host, trigger, lifetime_seconds, "token issued");
                self.issued = Some(grant.token.clone());
                Answer::Issued { token: grant.token, lifetime_seconds, sent }
            }
            Err(ExchangeError { fault, retry_after }) => {
                let fault = fault.clock(self.ctx.server_clock.differs());
                self.warn(&fault, plan, &format!("no token (trigger {trigger})"));
                Answer::Failed { fault, retry_after }
            }
        }
    }
}

/// Returns the kind and the name of the object that a step reads, other than the target.
fn source<'a>(step: &Step, plan: &'a Plan) -> Option<(CaBundleKind, &'a str)> {
    match step {
        Step::ReadCredentials => Some((CaBundleKind::Secret, &plan.credentials.name)),
        Step::ReadCa => plan.ca.as_ref().map(|ca| (ca.kind, ca.name.as_str())),
        Step::ReadClientCertificate => plan.client_certificate.as_deref().map(|name| (CaBundleKind::Secret, name)),
        _ => None,
    }
}
