//! How the outcome of each step changes what is known of a resource.

use jiff::Timestamp;

use super::retry::{AttemptKind, RetryState};
use super::situation::{DryRun, Situation, TargetDetails, TargetState, TokenDetails};
use crate::api::Reason;
use crate::core::object::{Observed, Version};
use crate::core::scheduling::schedule::after;
use crate::core::secrets::{
    AccessToken, ClientCertificateError, CredentialsError, IssuedToken, LiveSecret, Owner, render,
};

impl Situation {
    /// Records the target that was read.
    pub fn target_read(&mut self, live: Option<LiveSecret>) {
        let Some(live) = live else {
            self.target = Observed::Absent;
            return;
        };
        let mut details = TargetDetails {
            version: live.version.clone(),
            generation: self.generation,
            owner: live.owner.clone(),
            token: None,
            rendered: false,
            owned: true,
        };
        if let (Owner::Ours, Ok(plan)) = (&live.owner, &self.plan) {
            details.owned = live.ownership(plan.target.policy, &self.me).is_none();
            if let Some(stored) = self.stored(&live) {
                // The response to its write was lost.
                let written = |unpublished: &mut Box<IssuedToken>| unpublished.token.expose() == stored.token.expose();
                self.memory.unpublished.take_if(written);
                details.rendered = live.patch(&render(plan, &self.me, &stored)).is_none();
                details.token = Some(stored.into());
            }
        }
        self.memory.target = Some(details);
        self.target = Observed::Loaded(live.version.clone(), live);
    }

    /// Records the credentials that were read. The digest shows whether their values changed.
    pub fn credentials_read(&mut self, read: Option<(Version, Result<u64, CredentialsError>)>) {
        let Some((version, content)) = read else {
            self.credentials = Observed::Absent;
            return;
        };
        match content {
            Err(error) => {
                self.memory.incomplete_credentials =
                    Some(Box::new((version.clone(), self.generation, error.key.clone())));
                self.credentials = Observed::Loaded(version, Err(error));
            }
            Ok(digest) => {
                let changed = match &self.memory.credentials {
                    Some((known, last)) => known.uid != version.uid || *last != digest,
                    None => self.status.credentials_version.as_ref().is_some_and(|last| *last != version.resource),
                };
                if changed {
                    self.memory.renewal_requested = true;
                    self.memory.unpublished = None;
                } else if let Some((known, _)) = &self.memory.credentials {
                    // Another version of the same values is not a change by a user.
                    let known = known.resource.clone();
                    for failed in self.memory.failures_mut().filter(|failed| failed.made_with.credentials == known) {
                        failed.made_with.credentials.clone_from(&version.resource);
                    }
                }
                self.memory.incomplete_credentials = None;
                self.memory.credentials = Some((version.clone(), digest));
                self.credentials = Observed::Loaded(version, Ok(()));
            }
        }
    }

    /// Records the CA bundle that was read.
    pub fn ca_read(&mut self, read: Option<(Version, Option<Reason>)>) {
        self.ca = match read {
            None => Observed::Absent,
            Some((version, error)) => {
                self.memory.ca = Some(Box::new((version.clone(), self.generation, error)));
                Observed::Loaded(version, error)
            }
        };
    }

    /// Records the client certificate that was read.
    pub fn client_certificate_read(&mut self, read: Option<(Version, Option<ClientCertificateError>)>) {
        self.client_certificate = match read {
            None => Observed::Absent,
            Some((version, error)) => {
                self.memory.client_certificate = Some(Box::new((version.clone(), error)));
                Observed::Loaded(version, error)
            }
        };
    }

    /// Records that the creation of the target succeeded as a dry run.
    pub fn create_tried(&mut self) {
        self.memory.dry_run = DryRun::Accepted(self.generation);
        self.target = Observed::Absent;
        self.succeeded(AttemptKind::Write);
    }

    /// Records a token that was issued to a request sent at `sent`.
    pub fn issued(&mut self, token: AccessToken, lifetime_seconds: i64, sent: Timestamp) {
        let (Ok(plan), Some(inputs)) = (&self.plan, self.inputs()) else { return };
        let issue_time = Timestamp::from_second(sent.as_second()).unwrap_or(sent);
        if self.restores() {
            self.memory.repairs.record(sent);
        }
        self.memory.unpublished = Some(Box::new(IssuedToken {
            token,
            issue_time,
            expiration_time: after(issue_time, lifetime_seconds),
            inputs,
            portal_url: None,
            referer: plan.referer.clone(),
        }));
        self.memory.last_request = Some(sent);
        self.memory.issued = true;
        self.memory.renewal_requested = false;
        if self.memory.checks.rejected.is_some() {
            self.memory.checks.replaced_at = Some(issue_time);
        }
        self.succeeded(AttemptKind::Request);
        self.handle_request();
    }

    /// Records when an exchange ended: the minimum spacing counts from then.
    pub fn exchange_ended(&mut self, now: Timestamp) {
        self.memory.last_request = Some(now);
    }

    /// Whether a token requested now replaces one that was deleted.
    fn restores(&self) -> bool {
        let gone = match self.target_state() {
            TargetState::Present(details) => details.token.is_none(),
            TargetState::Absent => true,
            TargetState::Unknown => false,
        };
        gone && self.memory.issued
    }

    /// Records that the target contains the unpublished token now.
    pub fn published(&mut self, version: Version) {
        let token = self.memory.unpublished.take().map(|unpublished| (*unpublished).into());
        self.written(version, token);
    }

    /// Records that the target was rendered again with the token that it contains.
    pub fn rendered(&mut self, version: Version, now: Timestamp) {
        if self.drifted() {
            self.memory.repairs.record(now);
        }
        let token = self.memory.target.as_mut().and_then(|details| details.token.take());
        self.written(version, token);
    }

    fn written(&mut self, version: Version, token: Option<TokenDetails>) {
        let owned = !matches!(self.target_state(), TargetState::Present(TargetDetails { owned: false, .. }));
        self.memory.target = Some(TargetDetails {
            version: version.clone(),
            generation: self.generation,
            owner: Owner::Ours,
            token,
            rendered: true,
            owned,
        });
        self.memory.written_generation = Some(self.generation);
        self.succeeded(AttemptKind::Write);
        self.target = Observed::Cached(version);
    }

    /// Records that the target was created.
    pub fn created(&mut self, version: Version) {
        self.memory.target = None;
        self.memory.dry_run = DryRun::NotTried;
        self.published(version);
    }

    /// Records that the owner reference was changed.
    pub fn owned(&mut self, version: Version) {
        if let Some(details) = &mut self.memory.target {
            details.owned = true;
            details.version = version.clone();
        }
        self.succeeded(AttemptKind::Ownership);
        self.target = Observed::Cached(version);
    }

    /// Records that the target changed meanwhile: it has to be read again.
    pub fn conflicted(&mut self) {
        self.memory.dry_run = DryRun::NameTaken;
        self.target = Observed::Unknown;
    }

    /// Forgets the failure of an attempt that succeeded now.
    fn succeeded(&mut self, kind: AttemptKind) {
        self.memory.slot(kind).take_if(|retry_state| retry_state.made_with.kind == kind);
    }

    /// Records an attempt. Removing the annotation requests nothing.
    fn handle_request(&mut self) {
        if self.requested_at.is_some() {
            self.memory.last_handled_request.clone_from(&self.requested_at);
        }
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, kind: AttemptKind, reason: Reason, retry_after: Option<u32>, now: Timestamp) {
        let made_with = self.attempt(kind);
        // These inputs were issued a token before: the portal is more likely to be under maintenance.
        let worked = match self.target_state() {
            TargetState::Present(TargetDetails { token: Some(token), .. }) => {
                self.is_as_specified(token.inputs.as_deref())
            }
            _ => false,
        };
        let slot = self.memory.slot(kind);
        let next = RetryState::next(slot.as_deref(), &self.me.uid, reason, made_with, retry_after, worked, now);
        *slot = Some(Box::new(next));
        if kind == AttemptKind::Request {
            self.memory.renewal_requested = true;
            self.handle_request();
        }
    }
}
