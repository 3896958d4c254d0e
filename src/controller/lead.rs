//! Whether this process acts: the election, and what the others ask of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{ApiError, Leases};
use crate::core::{Candidate, Claim, Moment, Next, RENEW, Term};
use crate::ops::Readiness;

/// A round that needs more calls is one of a fight over the Lease.
const MAX_CALLS: usize = 4;
/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(2);
/// Nothing is to be renewed.
const FOREVER: Duration = Duration::from_hours(24);
/// A machine that slept is noticed no later, as timers sleep with it.
const GLANCE: Duration = Duration::from_millis(500);

/// Says at any moment whether this process may act.
#[derive(Clone)]
pub struct Lead {
    claim: watch::Receiver<Option<Claim>>,
    clock: fn() -> Timestamp,
}

impl Lead {
    fn now(&self) -> Moment {
        Moment { instant: Instant::now(), wall: (self.clock)() }
    }

    /// The claim, valid or not.
    pub fn claim(&self) -> Option<Claim> {
        *self.claim.borrow()
    }

    /// Whether what was begun in this term may go on.
    pub fn holds(&self, term: Term) -> bool {
        self.claim().is_some_and(|claim| claim.term == term && claim.valid(self.now()))
    }

    /// Comes when it may not go on.
    pub async fn ended(&self, term: Term) {
        while self.holds(term) {
            let left = self.claim().and_then(|claim| claim.left(Instant::now()));
            sleep(left.map_or(GLANCE, |left| left.min(GLANCE))).await;
        }
    }

    /// Comes with the next news of the claim.
    pub async fn changed(&mut self) {
        if self.claim.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes the Lease and keeps it.
pub struct Elector {
    leases: Option<Arc<Leases>>,
    candidate: Candidate,
    claim: watch::Sender<Option<Claim>>,
    readiness: Arc<Readiness>,
    clock: fn() -> Timestamp,
}

impl Elector {
    /// Without a Lease the process leads from the start.
    pub fn new(leases: Option<Leases>, readiness: Arc<Readiness>, clock: fn() -> Timestamp) -> (Self, Lead) {
        let (sender, receiver) = watch::channel(leases.is_none().then_some(Claim::ALWAYS));
        let leases = leases.map(Arc::new);
        let elector = Self { leases, candidate: Candidate::new(identity()), claim: sender, readiness, clock };
        (elector, Lead { claim: receiver, clock })
    }

    fn now(&self) -> Moment {
        Moment { instant: Instant::now(), wall: (self.clock)() }
    }

    /// Runs until released; gives back what it holds.
    pub async fn run(mut self, released: CancellationToken) {
        let rounds = async {
            loop {
                let started = tokio::time::Instant::now();
                let pause = self.round().await;
                sleep_until(started + pause).await;
            }
        };
        tokio::select! {
            () = released.cancelled() => {}
            () = rounds => {}
        }
        self.claim.send_replace(None);
        if timeout(RELEASE, self.release()).await.is_err() {
            warn!("the lease could not be released in time");
        }
    }

    /// Looks, takes or renews; returns the pause until the next round.
    pub async fn round(&mut self) -> Duration {
        let Some(leases) = self.leases.clone() else { return FOREVER };
        let mut next = self.candidate.begin(self.now());
        for _ in 0..MAX_CALLS {
            let sent = self.now();
            let answer = match &next {
                Next::Wait(_) => break,
                Next::Read => leases.get().await,
                Next::Create(lease) => leases.create(lease.clone()).await.map(Some),
                Next::Replace(lease) => leases.replace(lease).await.map(Some),
            };
            next = self.hear(&leases, &next, answer, sent);
            self.tell();
        }
        if let Next::Wait(pause) = next { pause } else { RENEW }
    }

    fn hear(&mut self, leases: &Leases, asked: &Next, answer: Result<Option<Lease>, ApiError>, sent: Moment) -> Next {
        let now = self.now();
        match (asked, answer) {
            (Next::Read, Ok(lease)) => {
                let next = self.candidate.read(lease, now);
                if matches!(next, Next::Wait(_)) {
                    self.readiness.listed(&leases.to_string());
                }
                next
            }
            (_, Ok(lease)) => {
                if let Some(lease) = lease {
                    self.candidate.written(lease, sent, now);
                }
                self.readiness.listed(&leases.to_string());
                Next::Wait(RENEW)
            }
            (_, Err(ApiError::Conflict | ApiError::Exists)) => Next::Read,
            (Next::Replace(_), Err(ApiError::NotFound)) => self.candidate.read(None, now),
            (_, Err(error)) => {
                self.candidate.unanswered(now);
                let (why, lasting) = describe(error);
                // A Lease that was read once is likely to be there again when the API server is.
                let unlisted = lasting || self.candidate.unread();
                if self.readiness.failing(&leases.to_string(), why, unlisted) {
                    warn!(lease = %leases, "no lease: {why}");
                }
                Next::Wait(RENEW)
            }
        }
    }

    /// Passes the claim on, and logs what changed.
    fn tell(&self) {
        let claim = self.candidate.claim();
        let before = self.claim.send_replace(claim);
        match (before.map(|claim| claim.term), claim.map(|claim| claim.term)) {
            (before, Some(term)) if before != Some(term) => info!("leading"),
            (Some(_), None) => info!("another leads: standing by"),
            _ => {}
        }
    }

    async fn release(&mut self) {
        let Some(leases) = self.leases.clone() else { return };
        for _ in 0..MAX_CALLS {
            if !self.candidate.involved() {
                return;
            }
            if let Some(lease) = self.candidate.release(self.now()) {
                match leases.replace(&lease).await {
                    Err(ApiError::Conflict) => {}
                    Ok(_) => return info!("lease released"),
                    Err(error) => return warn!("lease not released: {error}"),
                }
            }
            // Ours, as the answer to the last write got lost, or no longer.
            let Ok(lease) = leases.get().await else { return };
            self.candidate.read(lease, self.now());
        }
    }
}

/// What to do about it, and whether it stays like that until somebody does.
fn describe(error: ApiError) -> (&'static str, bool) {
    match error {
        ApiError::Refused => ("missing right to get, create and update it: apply the operator's RBAC", true),
        ApiError::NotFound => ("its namespace does not exist", true),
        ApiError::Failed(401) => ("the operator's credentials for the API server are not accepted", false),
        ApiError::TimedOut | ApiError::Unreachable => ("the API server cannot be reached", false),
        _ => ("the API server failed", false),
    }
}

/// Says to people which machine or pod it is, and is no other process's.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "operator" } else { host.trim() };
    format!("{host}_{:016x}", RandomState::new().hash_one(std::process::id()))
}
