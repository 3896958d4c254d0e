//! The calls on the target.

use jiff::Timestamp;

use super::calls::Calls;
use crate::cluster::ApiError;
use crate::core::{
    AccessToken, Answer, IssuedToken, LiveSecret, Observed, Plan, SecretPatch, Situation, Version, render,
};
use crate::index::ObjectKind;

impl Calls<'_> {
    /// Reads the target: as it is now, where a write has shown that it is not as the watch reported it.
    pub(super) async fn read_target(&self, s: &Situation, plan: &Plan) -> Result<Answer, ApiError> {
        let secret = self.secret(&plan.target.name, s.target.version().is_none()).await?;
        Ok(Answer::Target(secret.map(|secret| LiveSecret::new(secret, &s.me))))
    }

    /// Creates the target, or tries to.
    pub(super) async fn create(&self, s: &Situation, plan: &Plan, dry: bool) -> Result<Answer, ApiError> {
        let now = self.ctx.now();
        let issued = if dry { placeholder(plan, now) } else { s.unpublished(now).cloned() };
        let Some(issued) = issued else { return Ok(Answer::Conflict) };
        let manifest = render(plan, &s.me, &issued).manifest(plan, &s.me);
        let before = self.observed_target(plan);
        match self.ctx.cluster.create_secret(self.key.namespace(), &manifest, dry).await {
            Ok(_) if dry => Ok(self.free(plan, &before)),
            Ok(version) => {
                self.ctx.creations().accepted(self.key.namespace(), plan, self.ctx.now());
                Ok(self.written(plan, &before, version))
            }
            Err(ApiError::Exists | ApiError::Conflict) => Ok(Answer::Conflict),
            Err(error) => {
                self.ctx.creations().refused(self.key.namespace());
                Err(error)
            }
        }
    }

    /// Looks whether the target's name is free, in the cache of the API server.
    pub(super) async fn check_name(&self, plan: &Plan) -> Result<Answer, ApiError> {
        let before = self.observed_target(plan);
        let taken = self.ctx.cluster.has_secret(self.key.namespace(), &plan.target.name).await?;
        Ok(if taken { Answer::Conflict } else { self.free(plan, &before) })
    }

    fn free(&self, plan: &Plan, before: &Observed<()>) -> Answer {
        self.record(ObjectKind::Secret, &plan.target.name, before, None);
        Answer::Accepted
    }

    pub(super) async fn patch(&self, plan: &Plan, patch: &SecretPatch) -> Result<Answer, ApiError> {
        let before = self.observed_target(plan);
        match self.ctx.cluster.patch_secret(self.key.namespace(), &plan.target.name, patch).await {
            Ok(version) => Ok(self.written(plan, &before, version)),
            Err(ApiError::Exists | ApiError::Conflict | ApiError::NotFound) => Ok(Answer::Conflict),
            Err(error) => Err(error),
        }
    }

    fn observed_target(&self, plan: &Plan) -> Observed<()> {
        self.ctx.index().observed(ObjectKind::Secret, self.key.namespace(), &plan.target.name)
    }

    fn written(&self, plan: &Plan, before: &Observed<()>, version: Version) -> Answer {
        self.record(ObjectKind::Secret, &plan.target.name, before, Some(&version));
        Answer::Written(version)
    }
}

/// The token that a dry run creates the target with.
fn placeholder(plan: &Plan, now: Timestamp) -> Option<IssuedToken> {
    Some(IssuedToken {
        token: AccessToken::parse("pending".to_owned())?,
        issue_time: now,
        expiration_time: now,
        inputs: Some("v1:pending".into()),
        portal_url: None,
        referer: plan.referer.clone(),
    })
}
