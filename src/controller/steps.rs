//! The steps of a reconcile: each makes one call and records its outcome in the situation.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tracing::{info, warn};

use super::reconciler::{Reconciler, ca_kind};
use super::sources::{client_certificate, credentials, fetch_ca};
use crate::api::Reason;
use crate::arcgis::{TokenRequest, exchange};
use crate::cluster::{ApiError, version};
use crate::core::{AccessToken, AttemptKind, IssuedToken, LiveSecret, Observed, Outcome, Plan, Step, Version, render};
use crate::index::ObjectKind;

impl Reconciler<'_> {
    pub async fn act(&mut self, step: Step) {
        let Some(plan) = self.plan().cloned() else { return };
        match step {
            Step::ReadTarget => self.read_target(&plan).await,
            Step::ReadCredentials => self.read_credentials(&plan).await,
            Step::ReadCa => self.read_ca(&plan).await,
            Step::ReadClientCertificate => self.read_client_certificate(&plan).await,
            Step::TryCreate => self.create(&plan, true).await,
            Step::Create => self.create(&plan, false).await,
            Step::AcquirePermit => self.acquire_permit(&plan),
            Step::Request => self.request(&plan).await,
            Step::Publish(ref patch) | Step::Render(ref patch) | Step::Own(ref patch) => {
                self.patch(&plan, &step, patch).await;
            }
            Step::Rest => {}
        }
    }

    /// Reads a Secret and records its version in the index.
    async fn secret(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        let namespace = &self.s.me.namespace;
        let before = self.ctx.index().observed(ObjectKind::Secret, namespace, name);
        let secret = self.ctx.cluster.secret(namespace, name).await?;
        let now = secret.as_ref().map(version);
        self.ctx.index().record(ObjectKind::Secret, namespace, name, &before, now.as_ref());
        Ok(secret)
    }

    async fn read_target(&mut self, plan: &Plan) {
        match self.secret(&plan.target.name).await {
            Ok(secret) => self.s.target_read(secret.map(|secret| LiveSecret::new(secret, &self.s.me))),
            Err(error) => self.cluster_failed(AttemptKind::Read, error),
        }
    }

    async fn read_credentials(&mut self, plan: &Plan) {
        match self.secret(&plan.credentials.name).await {
            Ok(secret) => {
                let version = secret.as_ref().map(version);
                let read = secret.map(|secret| credentials(secret, &plan.credentials));
                let digest = read.as_ref().map(|read| {
                    read.as_ref().map(|credentials| self.ctx.digester.digest(credentials)).map_err(Clone::clone)
                });
                if let Some(Ok(credentials)) = &read {
                    self.s.memory.checks.app = Some(self.ctx.digester.digest_id(credentials.id()));
                }
                self.s.credentials_read(version.zip(digest));
                self.credentials = read.and_then(Result::ok);
            }
            Err(error) => self.cluster_failed(AttemptKind::Read, error),
        }
    }

    async fn read_ca(&mut self, plan: &Plan) {
        let Some(ca) = &plan.ca else { return };
        let namespace = &self.s.me.namespace;
        let kind = ca_kind(ca.kind);
        let before = self.ctx.index().observed(kind, namespace, &ca.name);
        let read = fetch_ca(self.ctx, namespace, ca).await;
        match read {
            Ok(judged) => {
                let version = judged.as_ref().map(|(version, _)| version);
                self.ctx.index().record(kind, namespace, &ca.name, &before, version);
                self.s.ca_read(judged.as_ref().map(|(v, judged)| (v.clone(), judged.as_ref().err().copied())));
                self.ca = judged.and_then(|(_, judged)| judged.ok());
            }
            Err(error) => self.cluster_failed(AttemptKind::Read, error),
        }
    }

    async fn read_client_certificate(&mut self, plan: &Plan) {
        let Some(name) = &plan.client_certificate else { return };
        match self.secret(name).await {
            Ok(secret) => {
                let version = secret.as_ref().map(version);
                let read = secret.map(|secret| client_certificate(secret, self.ctx.now()));
                let error = read.as_ref().map(|read| read.as_ref().err().copied());
                self.s.client_certificate_read(version.zip(error));
                self.client_certificate = read.and_then(Result::ok);
            }
            Err(error) => self.cluster_failed(AttemptKind::Read, error),
        }
    }

    fn acquire_permit(&mut self, plan: &Plan) {
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
        let Ok(client) = self.ctx.client(plan, self.ca.as_ref(), self.client_certificate.as_ref()) else {
            self.s.failed(AttemptKind::Request, Reason::Internal, None, self.ctx.now());
            return;
        };
        let permit = self.request_permit.take();
        self.s.has_permit = false;
        // A slow portal must not keep a worker from other resources.
        self.worker = None;
        self.ctx.worker_freed.notify_one();
        let (sent, started) = (self.ctx.now(), Instant::now());
        let base = plan.portal.base();
        let request = TokenRequest {
            portal: &base,
            credentials: &credentials,
            lifetime: plan.lifetime,
            referer: plan.referer.as_deref(),
        };
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
                Err(error) => Outcome::of(error.reason, error.retry_after),
            });
        }
        self.worker = self.ctx.workers.clone().acquire_owned().await.ok();
        let reason = answer.as_ref().err().map(|error| error.reason);
        self.ctx.metrics.requested(&host, reason, started.elapsed());
        let (namespace, name) = (&self.s.me.namespace, &self.s.me.name);
        match answer {
            Ok(grant) => {
                info!(namespace, name, portal = host, lifetime_seconds = grant.lifetime_seconds, "token issued");
                self.published = Some(grant.token.clone());
                self.s.issued(grant.token, grant.lifetime_seconds, sent);
                self.s.exchange_ended(self.ctx.now());
            }
            Err(error) => {
                warn!(namespace, name, portal = host, reason = error.reason.as_str(), "no token");
                self.s.failed(AttemptKind::Request, error.reason, error.retry_after, self.ctx.now());
            }
        }
    }

    async fn create(&mut self, plan: &Plan, dry: bool) {
        let now = self.ctx.now();
        let unpublished = if dry { placeholder(plan, now) } else { self.s.unpublished(now).cloned() };
        let Some(unpublished) = unpublished else { return };
        let manifest = render(plan, &self.s.me, &unpublished).manifest(plan, &self.s.me);
        let namespace = self.s.me.namespace.clone();
        let before = self.observed_target(plan);
        match self.ctx.cluster.create_secret(&namespace, &manifest, dry).await {
            Ok(_) if dry => {
                let (namespace, name) = (&self.s.me.namespace, &plan.target.name);
                self.ctx.index().record(ObjectKind::Secret, namespace, name, &before, None);
                self.s.create_tried();
            }
            Ok(version) => {
                self.record_target_version(plan, &before, &version);
                self.s.created(version);
            }
            Err(ApiError::Exists | ApiError::Conflict) => self.s.conflicted(),
            Err(error) => self.cluster_failed(AttemptKind::Write, error),
        }
    }

    async fn patch(&mut self, plan: &Plan, step: &Step, patch: &serde_json::Value) {
        let namespace = self.s.me.namespace.clone();
        let before = self.observed_target(plan);
        match self.ctx.cluster.patch_secret(&namespace, &plan.target.name, patch).await {
            Ok(version) => {
                self.record_target_version(plan, &before, &version);
                match step {
                    Step::Own(_) => self.s.owned(version),
                    Step::Render(_) => self.s.rendered(version, self.ctx.now()),
                    _ => self.s.published(version),
                }
            }
            Err(ApiError::Exists | ApiError::Conflict | ApiError::NotFound) => self.s.conflicted(),
            Err(error) => {
                let kind = if matches!(step, Step::Own(_)) { AttemptKind::Ownership } else { AttemptKind::Write };
                self.cluster_failed(kind, error);
            }
        }
    }

    fn observed_target(&self, plan: &Plan) -> Observed<()> {
        self.ctx.index().observed(ObjectKind::Secret, &self.s.me.namespace, &plan.target.name)
    }

    fn record_target_version(&self, plan: &Plan, before: &Observed<()>, version: &Version) {
        let (namespace, name) = (&self.s.me.namespace, &plan.target.name);
        self.ctx.index().record(ObjectKind::Secret, namespace, name, before, Some(version));
    }

    fn cluster_failed(&mut self, kind: AttemptKind, error: ApiError) {
        let (reason, retry_after) = match error {
            ApiError::Forbidden | ApiError::Denied(_) => (Reason::TargetRefused, None),
            ApiError::InvalidFields => (Reason::SpecInvalid, None),
            ApiError::TooManyRequests { retry_after } => (Reason::ClusterError, retry_after),
            _ => (Reason::ClusterError, None),
        };
        warn!(namespace = self.key.namespace, name = self.key.name, reason = reason.as_str(), "{error}");
        self.s.failed(kind, reason, retry_after, self.ctx.now());
    }
}

/// The token that a dry run creates the target with.
fn placeholder(plan: &Plan, now: Timestamp) -> Option<IssuedToken> {
    Some(IssuedToken {
        token: AccessToken::parse("pending".to_owned())?,
        issue_time: now,
        expiration_time: now,
        inputs: "v1:pending".to_owned(),
        portal_url: None,
        referer: plan.referer.clone(),
    })
}
