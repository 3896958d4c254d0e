//! Leader election by a Lease: whether this replica may act.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::revisions::Revisions;
use crate::cluster::{ApiError, Leases};
use crate::core::{Candidate, Claim, Moment, Next, RETRY_PERIOD, Term};
use crate::ops::Readiness;

/// An attempt that needs more calls is in a conflict over the Lease; the next one goes on.
const MAX_CALLS: usize = 4;
/// The time limit for releasing the Lease.
const RELEASE: Duration = Duration::from_secs(2);
/// Without a Lease nothing is renewed.
const FOREVER: Duration = Duration::from_hours(24);
/// Timers stop while a machine sleeps: the claim is checked at least this often.
const CHECK_PERIOD: Duration = Duration::from_millis(500);

/// Answers at any moment whether this replica may act.
#[derive(Clone)]
pub struct Leadership {
    claim: watch::Receiver<Option<Claim>>,
    clock: fn() -> Timestamp,
}

impl Leadership {
    fn now(&self) -> Moment {
        Moment { instant: Instant::now(), wall: (self.clock)() }
    }

    /// Returns the claim, valid or not.
    pub fn claim(&self) -> Option<Claim> {
        *self.claim.borrow()
    }

    /// Whether work that began in this term may continue.
    pub fn holds(&self, term: Term) -> bool {
        self.claim().is_some_and(|claim| claim.term == term && claim.valid(self.now()))
    }

    /// Waits until work of this term may not continue.
    pub async fn ended(&self, term: Term) {
        while self.holds(term) {
            let left = self.claim().and_then(|claim| claim.left(Instant::now()));
            sleep(left.map_or(CHECK_PERIOD, |left| left.min(CHECK_PERIOD))).await;
        }
    }

    /// Waits until the claim changes.
    pub async fn changed(&mut self) {
        if self.claim.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Acquires the Lease and renews it.
pub struct LeaderElector {
    leases: Option<Arc<Leases>>,
    candidate: Candidate,
    claim: watch::Sender<Option<Claim>>,
    readiness: Arc<Readiness>,
    clock: fn() -> Timestamp,
    revisions: Arc<Revisions>,
}

impl LeaderElector {
    /// Without a Lease this process leads from the start.
    pub fn new(
        leases: Option<Leases>,
        readiness: Arc<Readiness>,
        clock: fn() -> Timestamp,
        revisions: Arc<Revisions>,
    ) -> (Self, Leadership) {
        let (sender, receiver) = watch::channel(leases.is_none().then_some(Claim::ALWAYS));
        let leases = leases.map(Arc::new);
        let leader_elector =
            Self { leases, candidate: Candidate::new(identity()), claim: sender, readiness, clock, revisions };
        (leader_elector, Leadership { claim: receiver, clock })
    }

    fn now(&self) -> Moment {
        Moment { instant: Instant::now(), wall: (self.clock)() }
    }

    /// Runs until `released`, then releases the Lease.
    pub async fn run(mut self, released: CancellationToken) {
        let attempts = async {
            loop {
                let started = tokio::time::Instant::now();
                let pause = self.try_acquire_or_renew().await;
                sleep_until(started + pause).await;
            }
        };
        tokio::select! {
            () = released.cancelled() => {}
            () = attempts => {}
        }
        self.claim.send_replace(None);
        if timeout(RELEASE, self.release()).await.is_err() {
            warn!("the lease could not be released in time");
        }
    }

    /// Reads, acquires or renews the Lease; returns the pause until the next attempt.
    pub async fn try_acquire_or_renew(&mut self) -> Duration {
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
            next = self.on_response(&leases, &next, answer, sent);
            self.publish_claim();
        }
        if let Next::Wait(pause) = next { pause } else { RETRY_PERIOD }
    }

    fn on_response(
        &mut self,
        leases: &Leases,
        asked: &Next,
        answer: Result<Option<Lease>, ApiError>,
        sent: Moment,
    ) -> Next {
        let now = self.now();
        if !matches!(answer, Err(ApiError::TimedOut | ApiError::Unreachable)) {
            self.readiness.api_answered();
        }
        if let Ok(Some(lease)) = &answer {
            // Its own renewal may be earlier than the last one: the clock may be set.
            let undone = matches!(asked, Next::Read) && self.candidate.undone(lease);
            self.revisions.lease(lease, undone);
        }
        match (asked, answer) {
            (Next::Read, Ok(lease)) => {
                let next = self.candidate.read(lease, now);
                if matches!(next, Next::Wait(_)) {
                    self.readiness.satisfied(&leases.to_string());
                }
                next
            }
            (_, Ok(lease)) => {
                if let Some(lease) = lease {
                    self.candidate.written(lease, sent, now);
                }
                self.readiness.satisfied(&leases.to_string());
                Next::Wait(RETRY_PERIOD)
            }
            (_, Err(ApiError::Conflict | ApiError::Exists)) => Next::Read,
            (Next::Replace(_), Err(ApiError::NotFound)) => self.candidate.read(None, now),
            (_, Err(error)) => {
                self.candidate.unanswered(now);
                self.report(leases, &error);
                Next::Wait(RETRY_PERIOD)
            }
        }
    }

    fn report(&self, leases: &Leases, error: &ApiError) {
        let (why, lasting) = describe(error);
        // A Lease that was read once is expected to be there when the API server is back.
        let blocks = lasting || self.candidate.unread();
        if self.readiness.failing(&leases.to_string(), why, blocks) {
            warn!(lease = %leases, "no lease: {why}");
        }
    }

    /// Publishes the claim and logs a change of leader.
    fn publish_claim(&self) {
        let claim = self.candidate.claim();
        let before = self.claim.send_replace(claim);
        match (before.map(|claim| claim.term), claim.map(|claim| claim.term)) {
            (before, Some(term)) if before != Some(term) => info!("leading"),
            (Some(_), None) => info!("another replica leads: standing by"),
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
            // Unknown: the answer to the last write was lost, or another replica holds it.
            let Ok(lease) = leases.get().await else { return };
            self.candidate.read(lease, self.now());
        }
    }
}

/// Returns what to do about an error, and whether it lasts until somebody does.
fn describe(error: &ApiError) -> (&'static str, bool) {
    match error {
        ApiError::Forbidden => ("missing right to get, create and update it: apply the operator's RBAC", true),
        ApiError::NotFound => ("its namespace does not exist", true),
        ApiError::Failed(401) => ("the operator's credentials for the API server are not accepted", false),
        ApiError::TimedOut | ApiError::Unreachable => ("the API server cannot be reached", false),
        _ => ("the API server failed", false),
    }
}

/// Returns an identity that names the pod or machine and is unique to this process.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "operator" } else { host.trim() };
    format!("{host}_{:016x}", RandomState::new().hash_one(std::process::id()))
}
