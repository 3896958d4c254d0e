//! What is known of one resource.

use jiff::Timestamp;

use super::facts::{Fact, Unmet};
use super::memory::Memory;
use super::token::{Evaluated, TokenDetails, Trigger};
use crate::api::{ArcGisAppCredentialStatus, Condition, Fault, Reason};
use crate::core::object::{Identity, Observed, Version};
use crate::core::scheduling::Admit;
use crate::core::scheduling::schedule::after;
use crate::core::scheduling::waits::{Activity, MadeWith, Wait};
use crate::core::secrets::fingerprint::short_hash;
use crate::core::secrets::{
    ClientCertificateError, CredentialsError, Fingerprint, IssuedToken, LiveSecret, Owner, fingerprint, rendered_size,
};
use crate::core::spec::{Plan, SpecError};

/// All that a decision is made from.
pub struct Situation {
    pub me: Identity,
    pub generation: i64,
    pub requested_at: Option<String>,
    pub plan: Result<Plan, SpecError>,
    /// As last written.
    pub status: ArcGisAppCredentialStatus,
    /// Whether the portal is on the operator's list.
    pub allowed: bool,
    /// The older resource that creates the same target.
    pub rival: Option<String>,
    pub target: Observed<LiveSecret>,
    pub credentials: Observed<Result<(), CredentialsError>>,
    pub ca: Observed<Option<Fault>>,
    pub client_certificate: Observed<Option<ClientCertificateError>>,
    pub admit: Admit,
    /// This reconcile holds a permit of the portal's host.
    pub has_permit: bool,
    /// A Secret with the keys of the target was created in this namespace within the last minute, and none was refused since.
    pub created_alike: bool,
    pub memory: Memory,
}

impl Situation {
    /// Restores from the status what must be known after a restart, and forgets what no longer applies.
    pub fn recall(&mut self, now: Timestamp) {
        self.forget_verification();
        if !std::mem::replace(&mut self.memory.recalled, true) {
            self.memory.last_handled_request = self.status.last_handled_request.as_deref().map(Into::into);
            // The status has whole seconds: the next full second counts. A time in the future is of a clock that was ahead.
            let issued = self.status.token.as_ref().map(|token| after(token.issue_time, 1).min(now));
            self.memory.last_exchange = issued.map(Into::into);
            self.recall_verification(now);
            self.recall_failure(now);
        }
        // A time in the future is of a clock that was ahead: the minimum spacing counts from now.
        self.memory.last_exchange = self.memory.last_exchange.map(|time| time.min(now.into()));
        if self.memory.target.is_none() {
            self.memory.target = self.reported_target();
        }
        self.assume_certificates();
    }

    /// What a status that reports no failure was concluded from is in order in the version seen first: a later one is read.
    fn assume_certificates(&mut self) {
        if !self.is_reported_right() {
            return;
        }
        let facts = &mut self.memory.facts;
        if let Observed::Cached(version) = &self.ca {
            facts.ca.get_or_insert_with(|| Box::new(Fact::in_order(version, Some(self.generation))));
        }
        if let Observed::Cached(version) = &self.client_certificate {
            facts.client_certificate.get_or_insert_with(|| Box::new(Fact::in_order(version, None)));
        }
    }

    fn recall_failure(&mut self, now: Timestamp) {
        let Some(failure) = &self.status.failure else { return };
        let current = self.made_with();
        match Wait::recall(failure, current.clone(), now) {
            Some(wait) => {
                self.memory.pinned = (wait.activity == Activity::Request).then_some(Trigger::Retry);
                self.memory.waits.insert(wait);
            }
            None => self.memory.unmet = Some(Box::new(Unmet::recall(failure, current, now))),
        }
    }

    /// Returns the target as the status reports it: after a restart, a Secret that is unchanged since it was last evaluated
    /// does not have to be read.
    fn reported_target(&self) -> Option<Evaluated> {
        let reported = self.status.target_version.as_deref()?;
        let version = match &self.target {
            // A watch that began before the resource named it has not reported it.
            Observed::Unknown => Version::new("", reported),
            Observed::Cached(version) | Observed::Loaded(version, _) if version.resource == *reported => {
                version.clone()
            }
            _ => return None,
        };
        let evaluated = |owner, token, owned| Evaluated {
            version: version.clone(),
            generation: self.generation,
            owner,
            token,
            rendered: true,
            owned,
        };
        let unmet = self.memory.unmet.as_deref();
        if unmet.is_some_and(|u| u.reason == Reason::TargetNotOwned && u.made_with.generation == self.generation) {
            return Some(evaluated(Owner::Other(None), None, true));
        }
        let token = self.status.token.as_ref().filter(|_| self.satisfied() == Some(self.generation))?;
        let token = TokenDetails {
            issue_time: token.issue_time,
            expiration_time: token.expiration_time,
            digest: token.digest.as_deref().map(Fingerprint::from),
            inputs: None,
        };
        Some(evaluated(Owner::Ours, Some(token), self.memory.waits.get(Activity::Own).is_none()))
    }

    /// Whether all that the status reports is in order for this generation: then what no watch has reported counts as it says.
    pub(super) fn is_reported_right(&self) -> bool {
        let right = self.status.token.is_some() && self.status.failure.is_none();
        right && self.satisfied() == Some(self.generation)
    }

    /// Returns the bytes of the target with the token that was issued or read last.
    #[must_use]
    pub fn rendered_bytes(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| rendered_size(plan, self.memory.token_bytes))
    }

    /// What an attempt made now would be made with.
    #[must_use]
    pub fn made_with(&self) -> MadeWith {
        let version = |version: Option<&Version>| version.map_or_else(|| "-".to_owned(), |v| v.resource.to_string());
        // What no watch has reported yet is as the status says.
        let reported = self.status.credentials_version.clone().filter(|_| self.credentials == Observed::Unknown);
        MadeWith {
            generation: self.generation,
            credentials: reported.unwrap_or_else(|| version(self.credentials.version())),
            ca: version(self.ca.version()),
            client_certificate: version(self.client_certificate.version()),
            requested: self.requested_at.as_deref().map_or_else(|| "-".to_owned(), short_hash),
        }
    }

    /// Whether the annotation requests a new token that was not handled.
    pub(crate) fn asked(&self) -> bool {
        self.requested_at.is_some() && self.requested_at.as_deref() != self.memory.last_handled_request.as_deref()
    }

    /// Whether a user wants no request and no write. A spec that cannot be used suspends nothing.
    pub(crate) fn is_suspended(&self) -> bool {
        self.plan.as_ref().is_ok_and(|plan| plan.suspend)
    }

    /// The fingerprint that a token requested now would carry.
    #[must_use]
    pub fn inputs(&self) -> Option<Fingerprint> {
        let plan = self.plan.as_ref().ok()?;
        Some(fingerprint(plan, &self.credentials.version()?.uid.to_string()))
    }

    /// Whether a token was requested with these inputs as specified now; `None`: it was. While the credentials are not known,
    /// it was if this generation was satisfied before.
    pub(crate) fn is_as_specified(&self, inputs: Option<&Fingerprint>) -> bool {
        let Some(inputs) = inputs else { return true };
        self.inputs().map_or_else(|| self.satisfied() == Some(self.generation), |current| current == *inputs)
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// The generation that the published token satisfied when last reported: the observedGeneration of Ready, which a status keeps
    /// until its token is the one that a newer generation specifies. Without a token, none was satisfied.
    pub(crate) fn satisfied(&self) -> Option<i64> {
        self.status.token.as_ref()?;
        self.condition("Ready").map(|ready| ready.observed_generation)
    }

    /// Returns the stored token as it would be written now.
    pub(crate) fn stored(&self, live: &LiveSecret) -> Option<IssuedToken> {
        let plan = self.plan.as_ref().ok()?;
        let mut stored = live.stored(self.status.token.as_ref()).or_else(|| self.remembered(live))?;
        stored.inputs = self.requested_with(&stored);
        // The portal's URL and the referer belong to the token: they change when a token requested with others is published.
        let current = self.is_as_specified(stored.inputs.as_ref());
        if current {
            stored.portal_url = None;
            stored.referer.clone_from(&plan.referer);
        }
        Some(stored)
    }

    /// Returns the token in the target, if it is the one that was read or written last.
    fn remembered(&self, live: &LiveSecret) -> Option<IssuedToken> {
        let last = self.last_token()?;
        live.intact(last.digest.as_ref()?, last.issue_time, last.expiration_time)
    }

    fn last_token(&self) -> Option<&TokenDetails> {
        self.memory.target.as_ref()?.token.as_ref()
    }

    /// Returns what a stored token was requested with. Its annotation may have been stripped or changed, so what is remembered
    /// of the same token counts first, and last that the status reported it as specified.
    fn requested_with(&self, stored: &IssuedToken) -> Option<Fingerprint> {
        let digest = Some(stored.digest());
        let remembered = self.last_token().filter(|last| last.digest == digest).and_then(|last| last.inputs.as_ref());
        if let Some(inputs) = remembered.or(stored.inputs.as_ref()) {
            return Some(inputs.clone());
        }
        let reported =
            self.status.token.as_ref().is_some_and(|token| token.digest.as_deref().map(Fingerprint::from) == digest);
        if reported && self.satisfied() == Some(self.generation) { self.inputs() } else { Some("".into()) }
    }
}
