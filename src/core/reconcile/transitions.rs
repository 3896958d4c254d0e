//! How the outcome of each step changes what is known of a resource.

use jiff::Timestamp;

use super::facts::Fact;
use super::memory::TargetName;
use super::situation::Situation;
use super::token::{Evaluated, Token, TokenDetails, Trigger};
use crate::api::Fault;
use crate::core::object::{Observed, Version};
use crate::core::scheduling::schedule::after;
use crate::core::scheduling::waits::{Activity, Failed, Wait};
use crate::core::secrets::{
    AccessToken, ClientCertificateError, CredentialsError, IssuedToken, LiveSecret, Owner, fits, render,
};

impl Situation {
    /// Records that the target is read because another writer changed it.
    pub fn touched(&mut self, now: Timestamp) {
        if self.reads_touched_target_at(now).is_some() {
            self.memory.touches.record(now);
        }
    }

    /// Records the target that was read.
    pub fn target_read(&mut self, live: Option<LiveSecret>) {
        let Some(live) = live else {
            self.target = Observed::Absent;
            return;
        };
        let mut target = Evaluated {
            version: live.version.clone(),
            generation: self.generation,
            owner: live.owner.clone(),
            token: None,
            rendered: false,
            owned: true,
        };
        if let (Owner::Ours, Ok(plan)) = (&live.owner, &self.plan) {
            target.owned = live.ownership(plan.target.policy, &self.me).is_none();
            if let Some(stored) = self.stored(&live) {
                // The response to its write was lost.
                let written = |issued: &mut Box<IssuedToken>| issued.token.expose() == stored.token.expose();
                self.memory.issued.take_if(written);
                self.memory.token_bytes = self.memory.token_bytes.max(stored.token.expose().len());
                target.rendered = fits(plan, &stored) && live.patch(&render(plan, &self.me, &stored)).is_none();
                target.token = Some(stored.into());
            }
        }
        self.memory.target = Some(target);
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
                let (generation, found) = (Some(self.generation), error.clone());
                self.memory.facts.incomplete = Some(Box::new(Fact { version: version.clone(), generation, found }));
                self.credentials = Observed::Loaded(version, Err(error));
            }
            Ok(digest) => {
                self.compare_credentials(&version, digest);
                self.memory.facts.incomplete = None;
                self.memory.facts.credentials = Some((version.clone(), digest));
                self.credentials = Observed::Loaded(version, Ok(()));
            }
        }
    }

    fn compare_credentials(&mut self, version: &Version, digest: u64) {
        let changed = match &self.memory.facts.credentials {
            Some((known, last)) => known.uid != version.uid || *last != digest,
            None => self.status.credentials_version.as_ref().is_some_and(|last| version.resource != **last),
        };
        if changed {
            self.memory.pinned = Some(Trigger::Credentials);
            self.memory.issued = None;
        } else if let Some((known, _)) = &self.memory.facts.credentials {
            // Another version of the same values is not a change by a user.
            let known = known.resource.to_string();
            for wait in self.memory.waits.iter_mut().filter(|wait| wait.made_with.credentials == known) {
                wait.made_with.credentials = version.resource.to_string();
            }
        }
    }

    /// Records the CA bundle that was read.
    pub fn ca_read(&mut self, read: Option<(Version, Option<Fault>)>) {
        self.ca = found(read, Some(self.generation), &mut self.memory.facts.ca);
    }

    /// Records the client certificate that was read.
    pub fn client_certificate_read(&mut self, read: Option<(Version, Option<ClientCertificateError>)>) {
        self.client_certificate = found(read, None, &mut self.memory.facts.client_certificate);
    }

    /// Records that the creation of the target succeeded as a dry run.
    pub fn create_tried(&mut self) {
        self.memory.target_name = TargetName::Accepted(self.generation);
        self.target = Observed::Absent;
        self.memory.waits.remove(Activity::Write);
    }

    /// Records a token that was issued to a request sent at `sent`.
    pub fn issued(&mut self, token: AccessToken, lifetime_seconds: i64, sent: Timestamp) {
        let replaces_rejected = self.token(sent).published().is_some_and(|token| self.is_rejected(token.issue_time));
        let (Ok(plan), Some(inputs)) = (&self.plan, self.inputs()) else { return };
        let issue_time = Timestamp::from_second(sent.as_second()).unwrap_or(sent);
        if matches!(self.token(sent), Token::Missing { .. }) && self.owed(sent).trigger == Trigger::Gone {
            self.memory.repairs.record(sent);
        }
        self.memory.token_bytes = token.expose().len();
        let issued = Box::new(IssuedToken {
            token,
            issue_time,
            expiration_time: after(issue_time, lifetime_seconds),
            inputs: Some(inputs),
            portal_url: None,
            referer: plan.referer.clone(),
        });
        // One that does not fit is not kept: the next one is requested after a change.
        self.memory.issued = Some(issued).filter(|issued| fits(plan, issued));
        self.memory.last_exchange = Some(sent.into());
        self.memory.pinned = None;
        if replaces_rejected {
            self.memory.verification.replaced_at = Some(issue_time);
        }
        self.memory.waits.remove(Activity::Request);
        self.consume_annotation();
    }

    /// Records when an exchange ended: the minimum spacing counts from then.
    pub fn exchange_ended(&mut self, now: Timestamp) {
        self.memory.last_exchange = Some(now.into());
    }

    /// Records that the target contains the issued token now.
    pub fn published(&mut self, version: Version) {
        let token = self.memory.issued.take().map(|issued| (*issued).into());
        self.written(version, token);
    }

    /// Records that the target was rendered again with the token that it contains.
    pub fn rendered(&mut self, version: Version, now: Timestamp) {
        if self.was_written() {
            self.memory.repairs.record(now);
        }
        let token = self.memory.target.as_mut().and_then(|target| target.token.take());
        self.written(version, token);
    }

    fn written(&mut self, version: Version, token: Option<TokenDetails>) {
        let owned = self.memory.target.as_ref().is_none_or(|target| target.owned);
        self.memory.target = Some(Evaluated {
            version: version.clone(),
            generation: self.generation,
            owner: Owner::Ours,
            token,
            rendered: true,
            owned,
        });
        self.memory.written_generation = Some(self.generation);
        self.memory.waits.remove(Activity::Write);
        self.target = Observed::Cached(version);
    }

    /// Records that the target was created.
    pub fn created(&mut self, version: Version) {
        self.memory.target = None;
        self.memory.target_name = TargetName::Untried;
        self.published(version);
    }

    /// Records that the owner reference was changed.
    pub fn owned(&mut self, version: Version) {
        if let Some(target) = &mut self.memory.target {
            target.owned = true;
            target.version = version.clone();
        }
        self.memory.waits.remove(Activity::Own);
        self.target = Observed::Cached(version);
    }

    /// Records that the target changed meanwhile: it has to be read again.
    pub fn conflicted(&mut self) {
        self.memory.target_name = TargetName::Taken;
        self.target = Observed::Unknown;
    }

    /// Any attempt answers `requested-at`, also one that fails and is repeated. An annotation that is removed leaves the last
    /// value.
    fn consume_annotation(&mut self) {
        if self.requested_at.is_some() {
            self.memory.last_handled_request = self.requested_at.as_deref().map(Into::into);
        }
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, activity: Activity, fault: impl Into<Fault>, retry_after: Option<u32>, now: Timestamp) {
        let fault = fault.into();
        // These inputs were issued a token before: the portal is more likely to be under maintenance.
        let worked = self.token(now).published().is_some_and(|token| self.is_as_specified(token.inputs.as_ref()));
        let failed = Failed { activity, reason: fault.reason, retry_after, worked };
        let trigger = (activity == Activity::Request).then(|| self.owed(now).trigger);
        let previous = self.memory.waits.get(activity);
        let mut wait = Wait::next(previous, &self.me.uid, failed, self.made_with(), now);
        wait.finding = fault.into();
        self.memory.waits.insert(wait);
        if trigger.is_some() {
            self.memory.pinned = trigger;
            self.consume_annotation();
        }
    }
}

/// Keeps what was found in a version that was read.
fn found<T: Clone>(
    read: Option<(Version, T)>,
    generation: Option<i64>,
    fact: &mut Option<Box<Fact<T>>>,
) -> Observed<T> {
    let Some((version, found)) = read else { return Observed::Absent };
    *fact = Some(Box::new(Fact { version: version.clone(), generation, found: found.clone() }));
    Observed::Loaded(version, found)
}
