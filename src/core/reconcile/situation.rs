//! What is known of one resource.

use jiff::{SignedDuration, Timestamp};

use super::checks::Checks;
use super::retry::{Attempt, AttemptKind, RetryState};
use crate::api::{ArcGisAppCredentialStatus, Condition, Reason};
use crate::core::object::{Identity, Observed, Version};
use crate::core::scheduling::schedule::{MAX_CLOCK_SKEW_SECONDS, Repairs, after, shifted};
use crate::core::scheduling::{Admit, renewal_time};
use crate::core::secrets::target::short_hash;
use crate::core::secrets::{ClientCertificateError, CredentialsError, IssuedToken, LiveSecret, Owner, fingerprint};
use crate::core::spec::{Plan, SpecError};

/// What is known of a target that was read. It is valid for this version of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetDetails {
    pub version: Version,
    pub generation: i64,
    pub owner: Owner,
    pub token: Option<TokenDetails>,
    /// All fields of the operator are as specified for the stored token.
    pub rendered: bool,
    /// The owner reference is as the deletion policy specifies.
    pub owned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenDetails {
    pub issue_time: Timestamp,
    pub expiration_time: Timestamp,
    /// What the token was requested with. `None`: as specified in this generation.
    pub inputs: Option<String>,
}

impl From<IssuedToken> for TokenDetails {
    fn from(token: IssuedToken) -> Self {
        Self { issue_time: token.issue_time, expiration_time: token.expiration_time, inputs: Some(token.inputs) }
    }
}

/// What is known of the target.
pub(crate) enum TargetState {
    Unknown,
    Absent,
    Present(TargetDetails),
}

/// The last creation of the target as a dry run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DryRun {
    #[default]
    NotTried,
    /// It succeeded in this generation.
    Accepted(i64),
    /// A Secret has the target's name.
    NameTaken,
}

/// What is remembered of a resource between two reconciles. None of it is needed to act correctly after a restart.
#[derive(Clone, Default)]
pub struct Memory {
    /// Of a failed check or token request. Boxed, as what most resources do not have: ten thousand of them are to need
    /// little memory.
    pub retry_state: Option<Box<RetryState>>,
    /// Of a failed read, write or change of ownership: a failure in the cluster neither ends nor begins a wait for the portal.
    pub cluster_retry_state: Option<Box<RetryState>>,
    recalled: bool,
    pub(crate) unpublished: Option<Box<IssuedToken>>,
    pub(crate) target: Option<TargetDetails>,
    pub(crate) credentials: Option<(Version, u64)>,
    pub(crate) incomplete_credentials: Option<Box<(Version, i64, String)>>,
    pub(crate) ca: Option<Box<(Version, i64, Option<Reason>)>>,
    pub(crate) dry_run: DryRun,
    pub(crate) client_certificate: Option<Box<(Version, Option<ClientCertificateError>)>>,
    pub(crate) repairs: Repairs,
    /// The generation that the target was last written for.
    pub(crate) written_generation: Option<i64>,
    /// Limits the writes of a status that another writer keeps overwriting.
    pub status_repairs: Repairs,
    /// When the request for the last token was sent.
    pub(crate) last_request: Option<Timestamp>,
    /// A token was issued since the process started, or since this replica leads.
    pub(crate) issued: bool,
    /// The `requested-at` that was last acted on, also when the status is not written yet.
    pub(crate) last_handled_request: Option<String>,
    /// A new token is to be requested, independent of the schedule.
    pub(crate) renewal_requested: bool,
    pub checks: Checks,
}

impl Memory {
    /// Returns where a failure of this kind is remembered.
    pub(crate) fn slot(&mut self, kind: AttemptKind) -> &mut Option<Box<RetryState>> {
        match kind {
            AttemptKind::Check | AttemptKind::Request => &mut self.retry_state,
            AttemptKind::Read | AttemptKind::Write | AttemptKind::Ownership => &mut self.cluster_retry_state,
        }
    }

    pub fn failures(&self) -> impl Iterator<Item = &RetryState> {
        [&self.retry_state, &self.cluster_retry_state].into_iter().filter_map(Option::as_deref)
    }

    pub(super) fn failures_mut(&mut self) -> impl Iterator<Item = &mut RetryState> {
        [&mut self.retry_state, &mut self.cluster_retry_state].into_iter().filter_map(Option::as_deref_mut)
    }

    /// Returns the failure that is reported: of several, the first in the order of the reasons.
    #[must_use]
    pub fn reported_failure(&self) -> Option<&RetryState> {
        self.failures().min_by_key(|failed| failed.reason)
    }

    /// Moves the remembered times after the clock was set by `step`, so that waits keep their length.
    pub fn shift(&mut self, step: SignedDuration) {
        if let Some(time) = &mut self.last_request {
            *time = shifted(*time, step);
        }
        self.failures_mut().for_each(|failed| failed.shift(step));
        self.checks.shift(step);
        self.repairs.shift(step);
        self.status_repairs.shift(step);
    }
}

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
    pub ca: Observed<Option<Reason>>,
    pub client_certificate: Observed<Option<ClientCertificateError>>,
    pub admit: Admit,
    /// This reconcile holds a permit of the portal's host.
    pub has_permit: bool,
    pub memory: Memory,
}

impl Situation {
    /// Restores from the status what must be known after a restart, and forgets what no longer applies.
    pub fn recall(&mut self, now: Timestamp) {
        self.forget_checks();
        if std::mem::replace(&mut self.memory.recalled, true) {
            return;
        }
        self.memory.last_handled_request.clone_from(&self.status.last_handled_request);
        // The status has whole seconds: the next full second counts. A time in the future is of a clock that was ahead.
        self.memory.last_request = self.status.token.as_ref().map(|token| after(token.issue_time, 1).min(now));
        self.recall_checks(now);
        if let Some(failure) = &self.status.failure {
            let retry_state = RetryState::recall(failure, self.attempt(AttemptKind::Write), now);
            let kind = retry_state.made_with.kind;
            self.memory.renewal_requested = kind == AttemptKind::Request;
            *self.memory.slot(kind) = Some(Box::new(retry_state));
        }
    }

    /// What an attempt made now would be made with.
    #[must_use]
    pub fn attempt(&self, kind: AttemptKind) -> Attempt {
        let version = |version: Option<&Version>| version.map_or("-", |v| v.resource.as_str()).to_owned();
        let requested = self.requested_at.as_deref().map_or_else(|| "-".to_owned(), short_hash);
        Attempt {
            kind,
            generation: self.generation,
            credentials: version(self.credentials.version()),
            ca: version(self.ca.version()),
            client_certificate: version(self.client_certificate.version()),
            requested,
        }
    }

    /// Whether the annotation requests a new token that was not handled.
    pub(crate) fn asked(&self) -> bool {
        self.requested_at.is_some() && self.requested_at != self.memory.last_handled_request
    }

    /// The fingerprint that a token requested now would carry.
    #[must_use]
    pub fn inputs(&self) -> Option<String> {
        let plan = self.plan.as_ref().ok()?;
        Some(fingerprint(plan, &self.credentials.version()?.uid))
    }

    /// Whether a token was requested with these inputs as specified now; `None`: it was. While the credentials are not known,
    /// it was if this generation was satisfied before.
    pub(crate) fn is_as_specified(&self, inputs: Option<&str>) -> bool {
        let Some(inputs) = inputs else { return true };
        self.inputs().map_or_else(|| self.satisfied() == Some(self.generation), |current| current == inputs)
    }

    /// Whether a target that differs was changed by another writer, and not by a change of the spec.
    pub(crate) fn drifted(&self) -> bool {
        [self.satisfied(), self.memory.written_generation].contains(&Some(self.generation))
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// The generation that the published Secret satisfied when last reported.
    pub(crate) fn satisfied(&self) -> Option<i64> {
        self.condition("Ready").map(|ready| ready.observed_generation)
    }

    /// Returns what is known of the target without reading it.
    pub(crate) fn target_state(&self) -> TargetState {
        let version = match &self.target {
            Observed::Unknown => return TargetState::Unknown,
            Observed::Absent => return TargetState::Absent,
            Observed::Cached(version) | Observed::Loaded(version, _) => version,
        };
        if let Some(details) = &self.memory.target
            && details.version == *version
            && details.generation == self.generation
        {
            return TargetState::Present(details.clone());
        }
        self.details_from_status(version).map_or(TargetState::Unknown, TargetState::Present)
    }

    /// After a restart, a Secret that is unchanged since it was last checked does not have to be read.
    fn details_from_status(&self, version: &Version) -> Option<TargetDetails> {
        if self.status.target_version.as_ref() != Some(&version.resource) || self.memory.target.is_some() {
            return None;
        }
        let retry_state = self.memory.retry_state.as_deref();
        let details = |owner, token, owned| TargetDetails {
            version: version.clone(),
            generation: self.generation,
            owner,
            token,
            rendered: true,
            owned,
        };
        if retry_state.is_some_and(|s| s.reason == Reason::TargetNotOwned && s.made_with.generation == self.generation)
        {
            return Some(details(Owner::Other(None), None, true));
        }
        let token = self.status.token.as_ref().filter(|_| self.satisfied() == Some(self.generation))?;
        let token = TokenDetails { issue_time: token.issue_time, expiration_time: token.expiration_time, inputs: None };
        let refused = self.memory.failures().any(|failed| failed.made_with.kind == AttemptKind::Ownership);
        Some(details(Owner::Ours, Some(token), !refused))
    }

    /// Returns the stored token as it would be written now.
    pub(crate) fn stored(&self, live: &LiveSecret) -> Option<IssuedToken> {
        let plan = self.plan.as_ref().ok()?;
        let mut stored = live.stored()?;
        // The portal's URL and the referer belong to the token: they change when a token requested with others is published.
        let current = self.is_as_specified(Some(&stored.inputs));
        if current {
            stored.portal_url = None;
            stored.referer.clone_from(&plan.referer);
        }
        Some(stored)
    }

    /// Returns the token that was issued and still has to be written.
    #[must_use]
    pub fn unpublished(&self, now: Timestamp) -> Option<&IssuedToken> {
        let inputs = self.inputs();
        self.memory
            .unpublished
            .as_deref()
            .filter(|unpublished| unpublished.expiration_time > now && Some(&unpublished.inputs) == inputs.as_ref())
    }

    /// Returns when the request for the last token was sent. A time in the future is of a clock that was ahead.
    pub(crate) fn last_request(&self, now: Timestamp) -> Option<Timestamp> {
        let reported = self.status.token.as_ref().map(|token| token.issue_time).filter(|at| *at <= now);
        let exact = self.memory.last_request;
        let exact = exact.filter(|exact| reported.is_none_or(|at| exact.as_second() >= at.as_second()));
        exact.or_else(|| reported.map(|at| after(at, 1).min(now)))
    }

    /// Whether a token was issued by a clock that was ahead and was set back since.
    pub(crate) fn issued_in_future(token: &TokenDetails, now: Timestamp) -> bool {
        token.issue_time > after(now, MAX_CLOCK_SKEW_SECONDS)
    }

    /// When a token is renewed.
    pub(crate) fn renewal_time(&self, token: &TokenDetails) -> Timestamp {
        let before = self.plan.as_ref().ok().and_then(|plan| plan.renew_before);
        let granted = token.expiration_time.as_second() - token.issue_time.as_second();
        renewal_time(&self.me.uid, token.issue_time, granted, before)
    }
}
