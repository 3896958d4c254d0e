//! The loop of one reconcile, without its calls: an edge makes them, in the controller with real ones, in the simulation in
//! virtual time.

use jiff::Timestamp;

use super::reconcile::decide;
use super::reconcile::memory::TargetName;
use super::reconcile::situation::Situation;
use super::reconcile::verdict::{Step, Verdict};
use crate::api::{Fault, Reason};
use crate::core::object::Version;
use crate::core::scheduling::Admit;
use crate::core::scheduling::waits::Activity;
use crate::core::secrets::{AccessToken, ClientCertificateError, CredentialsError, LiveSecret};
use crate::core::spec::Plan;

/// A reconcile needs far fewer steps; more of them are a bug or a conflict over the target.
const MAX_STEPS: u32 = 24;
/// What waits for the claim of the leader election is reconciled again after this many seconds.
const REQUEUE_SECONDS: i64 = 1;

/// What the loop asks without a call to a server.
pub trait Edge {
    fn now(&self) -> Timestamp;
    /// Whether this process may still act for the resource.
    fn leads(&self) -> bool;
    /// Whether the resource is as it was when the reconcile began, as far as its watch has reported.
    fn is_current(&self, s: &Situation) -> bool;
    /// What a request to the portal's host would get.
    fn admit(&self, plan: &Plan) -> Admit;
    /// Acquires a permit of the portal's host, which the edge keeps for the request.
    fn acquire(&mut self, plan: &Plan) -> Admit;
}

/// What a call returned.
pub enum Answer {
    Target(Option<LiveSecret>),
    /// With a digest of the values.
    Credentials(Option<(Version, Result<u64, CredentialsError>)>),
    Ca(Option<(Version, Option<Fault>)>),
    ClientCertificate(Option<(Version, Option<ClientCertificateError>)>),
    /// The target can be created.
    Accepted,
    /// The target was created or changed.
    Written(Version),
    /// The target is not as it was evaluated: it exists, is gone or has another version.
    Conflict,
    Issued {
        token: AccessToken,
        lifetime_seconds: i64,
        sent: Timestamp,
    },
    /// The request was not sent: while it waited, what it was decided from may have changed.
    Unsent {
        /// Its turn has come. Without the permit, a pause of the host or the end of the term came first.
        has_permit: bool,
        /// The credentials that were read are still there.
        has_credentials: bool,
    },
    Failed {
        fault: Fault,
        retry_after: Option<u32>,
    },
}

/// What the loop wants next.
pub enum Progress {
    /// Make this call, and [`Reconciliation::record`] its answer.
    Call(Step),
    /// Nothing is left to do: conclude.
    Rest(Verdict),
    /// Stop before the next call and reconcile again in so many seconds. The memory is kept: a token that was issued may
    /// still be wanted.
    Abandon(i64),
}

/// A reconcile in progress.
pub struct Reconciliation {
    pub s: Situation,
    steps: u32,
    /// Why the dry run was refused. A used-up quota refuses a name that is taken, too, so the name is read before it is
    /// reported.
    refused: Option<(Fault, Option<u32>)>,
}

impl Reconciliation {
    #[must_use]
    pub fn new(s: Situation) -> Self {
        Self { s, steps: 0, refused: None }
    }

    /// Returns the next call, or that none is left.
    pub fn next(&mut self, edge: &mut impl Edge) -> Progress {
        loop {
            if self.steps == MAX_STEPS {
                self.s.failed(Activity::Write, Reason::ClusterError, None, edge.now());
                return Progress::Rest(Verdict { step: Step::Rest, ..decide(&self.s, edge.now()) });
            }
            self.steps += 1;
            if !self.s.has_permit {
                self.s.admit = self.s.plan.as_ref().map_or(Admit::Now, |plan| edge.admit(plan));
            }
            let verdict = decide(&self.s, edge.now());
            match verdict.step {
                Step::Rest => return Progress::Rest(verdict),
                _ if !edge.leads() => return Progress::Abandon(REQUEUE_SECONDS),
                // A request waits for its turn, and the portal may take long to answer: what changed meanwhile is evaluated
                // first.
                ref step if (step.writes() || step.requests()) && !edge.is_current(&self.s) => {
                    return Progress::Abandon(0);
                }
                Step::AcquirePermit => self.acquire(edge),
                step => {
                    // The request takes the permit with it.
                    self.s.has_permit &= !step.requests();
                    return Progress::Call(step);
                }
            }
        }
    }

    fn acquire(&mut self, edge: &mut impl Edge) {
        let Ok(plan) = &self.s.plan else { return };
        match edge.acquire(plan) {
            Admit::Now => self.s.has_permit = true,
            refused => self.s.admit = refused,
        }
    }

    /// Records what a call returned at `now`.
    pub fn record(&mut self, step: &Step, answer: Answer, now: Timestamp) {
        match answer {
            Answer::Failed { fault, retry_after } => self.failed(step, fault, retry_after, now),
            Answer::Target(live) => {
                let refused = self.refused.take().filter(|_| live.is_none());
                self.s.touched(now);
                self.s.target_read(live);
                if let Some((fault, retry_after)) = refused {
                    self.s.failed(Activity::Write, fault, retry_after, now);
                }
            }
            Answer::Credentials(read) => self.s.credentials_read(read),
            Answer::Ca(read) => self.s.ca_read(read),
            Answer::ClientCertificate(read) => self.s.client_certificate_read(read),
            Answer::Accepted => self.s.create_tried(),
            Answer::Conflict => self.s.conflicted(),
            Answer::Written(version) => self.written(step, version, now),
            Answer::Unsent { has_permit, has_credentials } => self.unsent(has_permit, has_credentials),
            Answer::Issued { token, lifetime_seconds, sent } => {
                self.s.issued(token, lifetime_seconds, sent);
                self.s.exchange_ended(now);
            }
        }
    }

    fn unsent(&mut self, has_permit: bool, has_credentials: bool) {
        self.s.has_permit = has_permit;
        if !has_credentials {
            self.s.credentials = self.s.credentials.unloaded();
        }
    }

    fn failed(&mut self, step: &Step, fault: Fault, retry_after: Option<u32>, now: Timestamp) {
        if matches!(step, Step::TryCreate) && fault.reason == Reason::TargetRefused {
            self.refused = Some((fault, retry_after));
            self.s.conflicted();
        } else {
            if matches!(step, Step::Create) {
                // What refuses it now would refuse the next one, too: it is tried again before another token is requested.
                self.s.memory.target_name = TargetName::Untried;
            }
            self.s.failed(step.activity(), fault, retry_after, now);
        }
    }

    fn written(&mut self, step: &Step, version: Version, now: Timestamp) {
        match step {
            Step::Create => self.s.created(version),
            Step::Render(_) => self.s.rendered(version, now),
            Step::Own(_) => self.s.owned(version),
            _ => self.s.published(version),
        }
    }
}
